"""What few users need is loaded by those who need it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json, sys
from agent_identity import Agent, Enforcer, Human, Scope, Verifier

with Enforcer.open(sys.argv[1]) as enforcer:

    @enforcer.tool
    def read(number: int) -> int:
        return number

    with enforcer.task("t", principal=Human("a@example.com"), agent=Agent("b", owner="c"), scope=Scope("read")):
        read(number=1)
assert Verifier().ledger(sys.argv[1]).verdict == "verified"
print(json.dumps(sorted(sys.modules)))
"""


def leaves() -> set[str]:
    """Return the leaves, as the check of imports has them."""
    tools = Path(__file__).parents[4] / "tools"
    sys.path.insert(0, str(tools))  # It imports the module beside it.
    spec = importlib.util.spec_from_file_location("imports", tools / "imports.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(tools))
    return {f"agent_identity.{leaf}" for leaf in module.LEAVES}


def test_a_guarded_call_and_a_verification_load_no_leaf(tmp_path: Path) -> None:
    """Nor the libraries of one."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "evidence")]
    loaded = set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert "agent_identity._guard.sessions.tasks" in loaded
    assert not loaded & leaves()
    assert not loaded & {"grpc", "redis", "psycopg", "duckdb", "pkcs11", "rfc3161_client", "pyspark"}
