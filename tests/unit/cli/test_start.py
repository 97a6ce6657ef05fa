"""What the command line loads: a command pays for its own work, and not for that of others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from agent_identity.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
sys.stderr.write(" ".join(sys.modules))
"""
DEAR = {"pydantic", "pydantic_core", "opentelemetry", "google", "grpc", "langchain_core", "mcp", "yaml", "wrapt"}
WORK = {
    "agent_identity._reports",
    "agent_identity._verify",
    "agent_identity._directory",
    "agent_identity._spans",
    "agent_identity._record",
    "agent_identity._storage",
    "agent_identity._authority",
    "agent_identity._guard",
    "agent_identity._ledger",
}
SPARED = {"multiprocessing", "concurrent.futures", "sqlite3", "zipfile", "tempfile", "logging", "zoneinfo._zoneinfo"}

SELDOM = {
    "agent_identity._verify.grants.disclosed_arguments",
    "agent_identity._verify.ledger.index",
    "agent_identity._verify.ledger._pruning_check",
    "agent_identity._verify.proofs",
    "agent_identity._authority.grants.signed_marks",
    "agent_identity._authority.registries.rulings",
    "agent_identity._ledger.excerpt_starts",
    "agent_identity._ledger.prune_statement",
    "agent_identity._spans",
    "agent_identity._ledger.transparency._rejects",
}
"""What a ledger without approvals, marks, pruned records and certificates does without."""
MOST = {"--help": 24, "show": 95, "verify": 130}
"""Modules of ours that a command may load. Each takes about a millisecond of CPU, most of it for its data classes."""


def loaded(*words: object) -> set[str]:
    """Return the modules that a command loads in a process of its own."""
    # Coverage measures children too, and loads modules of its own there.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", SCRIPT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return set(done.stderr.split())


def tops(modules: set[str]) -> set[str]:
    """Return the libraries of modules."""
    return {name.partition(".")[0] for name in modules}


def test_to_show_and_to_verify_neither_pydantic_nor_opentelemetry_is_loaded(evidence: Path, trust: Path) -> None:
    """Nor anything else that guards calls, or that a small ledger does without."""
    for words in (
        ("show", evidence),
        ("verify", evidence, "--trust", trust),
        ("verify", evidence),
        ("report", "inventory", evidence),
    ):
        modules = loaded(*words)
        assert "agent_identity._verify" in modules
        assert not tops(modules) & DEAR
        assert not modules & (SPARED | {"agent_identity._guard", "agent_identity._policy"})


@pytest.mark.parametrize("command", MOST)
def test_a_command_loads_few_modules_and_none_that_a_small_ledger_does_without(command: str, evidence: Path) -> None:
    """The start of a command is its imports, so their number and names are bounded."""
    words = ("--help",) if command == "--help" else (command, evidence)
    ours = {name for name in loaded(*words) if tops({name}) == {"agent_identity"}}
    assert "agent_identity.cli.program" in ours
    assert not ours & SELDOM
    assert len(ours) <= MOST[command]


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--help",),
        ("--version",),
        ("nonsense",),
        ("verify", "--help"),
        ("keys", "--help"),
        ("revoke", "--help"),
        ("report", "inventory", "--help"),
    ],
    ids=str,
)
def test_help_and_mistakes_load_no_work(words: tuple[str, ...]) -> None:
    """Whoever reads how a command is called does not load what it does."""
    modules = loaded(*words)
    assert not tops(modules) & (DEAR | {"msgspec", "orjson", "cryptography"})
    assert not modules & WORK


def test_a_command_loads_no_other(evidence: Path) -> None:
    """The work of each command is a module of its own."""
    modules = loaded("show", evidence)
    work = {name for name in modules if name.startswith("agent_identity.cli.") and name.count(".") == 3}
    assert {name for name in work if not name.endswith(".commands") and ".terminal." not in name} == {
        "agent_identity.cli.look.show"
    }
