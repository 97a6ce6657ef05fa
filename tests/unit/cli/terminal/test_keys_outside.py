"""Commands that need the keys of a directory find them by ``--keys`` in a folder outside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity.options import Privacy

Run = Callable[..., Any]
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="ops@example.com")


class Apart:
    """A directory, and the folder of its keys."""

    def __init__(self, path: Path, run: Run) -> None:
        self.directory, self.folder, self.plain = path / "evidence", path / "keys", run
        assert run("init", self.directory, "--keys", self.folder).code == 0
        with Enforcer.open(self.directory, keys=self.folder, privacy=Privacy(pseudonyms=True)) as enforcer:

            @enforcer.tool
            def pay(amount: int) -> int:
                return amount

            with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay")):
                pay(100)

    def run(self, *words: object) -> Any:
        """Run a command on the directory with the folder of its keys; nothing secret comes into the directory."""
        done = self.plain(*words, "--keys", self.folder)
        assert not (self.directory / "keys").exists()
        return done

    def last(self, kind: str) -> Any:
        """Return the last record of a kind."""
        reader = open_ledger(self.directory)
        lines = (line.record for stream in reader.streams() for line in reader.entries(stream))
        return [record for record in map(decode, lines) if record.kind == kind][-1]


@pytest.fixture
def apart(tmp_path: Path, run: Run) -> Apart:
    """A directory whose keys are outside, with one call by a principal under a pseudonym."""
    return Apart(tmp_path, run)


def test_every_command_that_signs_works_with_the_folder(apart: Apart) -> None:
    """They write into the same ledger, which stays verified."""
    folder = apart.directory
    for words in (
        ("revoke", folder, "agent", "other", "--suspend"),
        ("revocations", folder),
        ("reinstate", folder, "agent", "other"),
        ("agents", "add", folder, "clerk", "--owner", "ops@example.com", "--purpose", "pay", "--tool", "pay"),
        ("prune", folder, "--older-than", "365d"),
        ("keys", "rotate", "--all", folder),
    ):
        done = apart.run(*words)
        assert done.code == 0, (words, done)
    checks = json.loads(apart.run("doctor", folder, "--json").out)["checks"]
    assert [check for check in checks if check["section"] == "directory" and check["status"] == "fail"] == []
    assert json.loads(apart.plain("verify", folder, "--json").out)["integrity"] == "verified"
    thumbprint = json.loads(apart.plain("trust", "list", folder, "--json").out)["keys"][0]["kid"]
    revoked = apart.plain(
        *("keys", "revoke", folder, "--keys", apart.folder, "--since", "2026-11-24T09:30:00Z", "--", thumbprint)
    )
    assert revoked.code == 0


def test_commands_that_read_secrets_find_them(apart: Apart, tmp_path: Path) -> None:
    """A pseudonym has its person, an argument is disclosed, records are signed again, keys of digests are erased."""
    intent = apart.last("intent")
    assert "alice@example.com (human)" in apart.run("who", apart.directory, intent.principal.id).out
    assert apart.plain("who", apart.directory, intent.principal.id).code == 2
    shown = apart.run("disclose", "make", apart.directory, intent.id, "--value", "100", "--argument", "amount")
    assert "with-task-key" in shown.err
    shown = apart.run(
        *("disclose", "make", apart.directory, intent.id, "--value", "100", "--argument", "amount", "--with-task-key"),
        *("-o", tmp_path / "shown"),
    )
    assert shown.code == 0, shown
    assert apart.run("export", apart.directory, "--as", "otel-audit", "--sign", "-o", tmp_path / "out").code == 0
    assert '"keys": 1' in apart.run("erase", apart.directory, "--principal", "alice@example.com", "--json").out
    assert b"=" in (apart.folder / "digests.jsonl").read_bytes()


def test_the_directory_around_a_folder_names_it_as_well(apart: Apart, tmp_path: Path, run: Run) -> None:
    """As for the directory of a signer; a folder that is not there is not made."""
    assert run("revocations", apart.directory, "--keys", tmp_path).code == 0
    done = run("revoke", apart.directory, "agent", "other", "--keys", tmp_path / "mistyped")
    assert done.code == 2
    assert "is no folder of keys" in done.err
    assert not (tmp_path / "mistyped").exists()


def test_a_shell_below_the_enforcer_does_not_decide_with_its_own_keys_elsewhere(
    apart: Apart, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder outside is no other person's: the guard against accidents holds as for keys in the directory."""
    from agent_identity.cli.terminal import signing

    monkeypatch.setattr(signing, "holds", lambda _: True)
    done = apart.run("reinstate", apart.directory, "agent", "clerk")
    assert done.code == 2
    assert "agents do not decide for people" in done.err
