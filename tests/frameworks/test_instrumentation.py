"""Zero code with the real frameworks: each that is installed is patched when it is imported, and restored."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import NEEDED

from agent_identity.integrations.instrumentation import FRAMEWORKS, Framework

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = "agent_identity.integrations.frameworks"


def _is_here(framework: Framework) -> bool:
    try:
        return find_spec(framework.module) is not None
    except ModuleNotFoundError:
        return False


HERE = [framework for framework in FRAMEWORKS if _is_here(framework)]

PROGRAM = """
import importlib, json, sys
import agent_identity
from agent_identity.integrations.instrumentation import FRAMEWORKS, instrumented

module = sys.argv[1]
top = module.partition(".")[0]


def members():
    found = {}
    for name, loaded in list(sys.modules.items()):
        if name.partition(".")[0] != top:
            continue
        for thing in list(vars(loaded).values()):
            if isinstance(thing, type) and thing.__module__.partition(".")[0] == top:
                for key, value in list(vars(thing).items()):
                    found[thing.__module__, thing.__qualname__, key] = value
    return found


before = set(sys.modules)
agent_identity.instrument()
tops = {framework.module.partition(".")[0] for framework in FRAMEWORKS}
early = {name.partition(".")[0] for name in set(sys.modules) - before} & tops
importlib.import_module(module)
state = instrumented()
patched = members()
agent_identity.uninstrument()
restored = members()
changed = sorted(".".join(key) for key in patched if key in restored and patched[key] is not restored[key])
agent_identity.instrument()
again = members()
agent_identity.uninstrument()
last = members()
differ = sorted(".".join(key) for key in restored if key in last and restored[key] is not last[key])
print(json.dumps({"early": sorted(early), "state": dict(state), "changed": changed, "differ": differ}))
"""


def _run(program: str, *arguments: str, cwd: Path, **environment: str) -> Any:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "AGENT_IDENTITY_DIR": "seen", **environment}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_a_framework_is_patched_at_its_import_and_restored(framework: Framework, tmp_path: Path) -> None:
    """Nothing is imported before, a class of the framework changes at most, and twice is as once."""
    facts = _run(PROGRAM, framework.module, cwd=tmp_path)
    assert facts["early"] == []
    assert facts["state"][framework.name] is True
    assert facts["differ"] == []


@pytest.mark.parametrize("framework", HERE, ids=lambda framework: framework.name)
def test_the_adapter_was_tested_with_this_version(framework: Framework) -> None:
    """The table names the version that the session installs, so that the doctor says what is true."""
    lock = os.environ.get("AGENT_IDENTITY_FRAMEWORKS", "")
    wanted = framework.lowest if lock.endswith("lowest") else framework.newest
    if framework.name == "langchain" and lock.endswith("lowest"):
        pytest.skip("the session of the lowest requirements tests it")
    here = version(framework.distribution)
    assert re.sub(r"(\.0)+$", "", here) == re.sub(r"(\.0)+$", "", wanted)


def test_every_framework_has_tests_here() -> None:
    """The table of the frameworks and that of their tests name the same modules."""
    others = {framework.name: framework.module for framework in FRAMEWORKS if framework.name != "langchain"}
    assert others == {name: module for name, module in NEEDED.items() if name != "a2a"}
