"""``--json`` has one form: one object on standard output, whatever the command."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_identity.cli import program
from agent_identity.cli.terminal.command import Command

Run = Callable[..., tuple[int, str, str]]

# Each with words in which ``home`` is a directory made by init, ``evidence`` the golden one and ``out`` a new path.
SCENES: dict[str, str] = {
    "show": "evidence",
    "tasks": "evidence --all",
    "inventory list": "home",
    "report inventory": "evidence",
    "report scope": "evidence",
    "report incident": "everything evidence",
    "report coverage": "evidence",
    "report data": "evidence",
    "report controls": "evidence",
    "report sample": "evidence --seed 1 --out sample",
    "ask": "8 evidence",
    "scan": "code.py",
    "verify": "evidence",
    "bundle": "evidence -o out.zip",
    "revoke": "home agent clerk --suspend",
    "reinstate": "home agent clerk",
    "revocations": "home",
    "approvals list": "home",
    "agents add": "home clerk --owner o@example.com --purpose p --tool pay",
    "agents list": "home",
    "agents suspend": "home clerk",
    "agents resume": "home clerk",
    "agents orphan": "home o@example.com",
    "agents retire": "home clerk",
    "agents check": "home",
    "init": "home",
    "doctor": "home",
    "health": "home",
    "hooks install": "home --file hooks.json",
    "hooks status": "--file hooks.json",
    "hooks remove": "--file hooks.json",
    "demo": "--keep demonstration",
    "seal": "home",
    "archive": "evidence --to out",
    "prune": "home --older-than 365d",
    "keys new": "out.pem",
    "trust init": "fleet.json --id fleet --root out.pem --origin agent-identity/",
    "trust add": "fleet.json issuer out.pem --root out.pem",
    "trust list": "home",
    "trust merge": "fleet.json home -o merged.json",
    "trust certify": "fleet.json home --root out.pem",
    "trust check": "fleet.json",
    "trust sign": "merged.json --root out.pem --after fleet.json",
    "keys rotate": "--all home",
    "keys revoke": "home --since 2026-01-01T00:00:00Z --",
}
ELSEWHERE = {
    *("trust remove", "who", "inventory diff", "inventory accept", "inventory forget", "inventory pin", "proof check"),
    *("disclose check", "export", "approvals approve", "approvals reject", "replay", "erase", "anchor"),
}
"""What needs more than a directory; its own tests read its JSON."""


def with_json(run: Run, commands: Iterable[Command], before: str = "") -> Iterator[str]:
    """Yield the commands whose help names the option."""
    for command in commands:
        name = before + command.name
        if not command.actions and "--json" in run(*name.split(), "--help")[1]:
            yield name
        yield from with_json(run, command.actions, f"{name} ")


def test_every_command_with_the_option_is_here_or_elsewhere(run: Run) -> None:
    """A new command finds its place in one of the lists."""
    found = {name for group in program.GROUPS.values() for name in with_json(run, group)}
    assert found == {*SCENES, *ELSEWHERE}


def test_json_is_one_object(run: Run, evidence: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is one object, and nothing beside it; in the order of the list, since some build on others."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text("x = 1\n")
    assert run("init", "home")[0] == 0
    found: dict[str, Any] = {}
    for name, words in SCENES.items():
        key = [found["keys rotate"]["keys"][0]["old"]["key"]] if name == "keys revoke" else []
        code, out, _ = run(*name.split(), "--json", *words.split(), *key)
        found[name] = json.loads(out)
        assert (name, code, type(found[name])) == (name, 0, dict)
    assert found["bundle"]["verdict"] == "verified"
    assert found["bundle"]["bytes"] == (tmp_path / "out.zip").stat().st_size
    assert (found["archive"], found["prune"]) == ({"copied": []}, {"pruned": []})
    assert found["approvals list"] == {"requests": []}
    assert [key["new"]["purpose"] for key in found["keys rotate"]["keys"]] == ["issuer", "recorder"]
    (revoked,) = found["keys revoke"]["keys"]
    assert (revoked["revoked_since"], len(found["keys new"]["key"])) == (1_767_225_600, 43)


def test_jsonl_and_json_exclude_each_other(run: Run, evidence: Path) -> None:
    """Asking for both forms is wrong usage."""
    for command in ("show", "tasks"):
        assert run(command, evidence, "--json", "--jsonl")[0] == 2
