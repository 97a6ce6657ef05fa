"""Files of the ledger that are removed, renamed or replaced under a running enforcer: nothing runs that has no record.

A descriptor goes on working after its file was removed, so that records would reach a file that nobody can read.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity.errors import EvidenceError
from agent_identity.identity import TrustStore
from agent_identity.options import Durability, Segments

CLERK = Agent(id="clerk", owner="ops@example.com")
SCOPE = Scope("pay")


def task(enforcer: Enforcer) -> Any:
    """Open a task that may pay."""
    return enforcer.task("pay", principal=Human("alice@example.com"), agent=CLERK, scope=SCOPE)


def seal(enforcer: Enforcer) -> None:
    """Commit what was written to the log, now."""
    enforcer._enforcement.ledger.seal()


def contradictions(path: Path) -> set[str]:
    """Return the codes of what the verifier contradicts."""
    report = Verifier(TrustStore.load(path / "trust.json")).ledger(path)
    return {problem.code for problem in report.findings if problem.severity == "contradicted"}


@dataclass
class Running:
    """An enforcer with an open task, and the effects of its only tool."""

    path: Path
    enforcer: Enforcer
    effects: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pay = self.enforcer.tool(self._pay, name="pay")

    def _pay(self, to: str) -> None:
        self.effects.append(to)

    def refused(self) -> str:
        """Call, and return the code of the refusal."""
        with pytest.raises(EvidenceError) as caught:
            self.pay("mallory")
        assert "mallory" not in self.effects
        return caught.value.code

    @property
    def entries(self) -> Path:
        """The file that the enforcer writes."""
        (path,) = (self.path / "ledger").glob("*/entries.jsonl")
        return path


@pytest.fixture
def look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the files at each record, not five times a second."""
    monkeypatch.setattr("agent_identity._ledger.ledger._LOOK_NS", -1)


@pytest.fixture
def running(tmp_path: Path, look_at_once: None) -> Iterator[Running]:
    path = tmp_path / "evidence"
    with Enforcer.open(path, durability=Durability(segments=Segments(max_bytes=65_536))) as enforcer, task(enforcer):
        running = Running(path, enforcer)
        running.pay("alice")
        seal(enforcer)
        yield running


def _rename(path: Path) -> Callable[[], object]:
    away = path.with_name("away")
    path.rename(away)
    return lambda: away.rename(path)


def _replace(path: Path) -> Callable[[], object]:
    """Put a copy with the same bytes in its place, as a backup that is restored does."""
    away = path.with_name("away")
    path.rename(away)
    if away.is_dir():
        shutil.copytree(away, path)
    else:
        shutil.copyfile(away, path)

    def back() -> None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        away.rename(path)

    return back


PLACES: dict[str, Callable[[Running], Path]] = {
    "directory": lambda running: running.path,
    "ledger": lambda running: running.path / "ledger",
    "stream": lambda running: running.entries.parent,
    "entries": lambda running: running.entries,
    "log": lambda running: running.path / "log",
    "entries of the log": lambda running: running.path / "log" / "entries.jsonl",
    "lock of the log": lambda running: running.path / "log" / "lock",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("take", [_rename, _replace], ids=["renamed", "replaced"])
def test_files_that_are_taken_away_stop_every_body(
    running: Running, place: str, take: Callable[[Path], Callable[[], object]]
) -> None:
    """The very next call is refused and says so; the enforcer is degraded; put back, calls run again."""
    back = take(PLACES[place](running))
    assert running.refused() == "evidence_removed"
    assert running.refused() == "evidence_removed"
    assert "put the file back" in running.enforcer.degraded["ledger"]
    back()
    running.pay("bob")
    seal(running.enforcer)
    assert running.effects == ["alice", "bob"]
    assert running.enforcer.degraded == {}
    assert contradictions(running.path) == set()


@pytest.mark.parametrize("place", ["ledger", "entries", "log"])
def test_removed_files_stop_every_body_and_are_not_made_anew(tmp_path: Path, look_at_once: None, place: str) -> None:
    """Neither a call nor a seal makes a file that looks as if nothing had been in it; a new start works."""
    path = tmp_path / "evidence"
    enforcer = Enforcer.open(path)
    opened = task(enforcer)
    opened.__enter__()
    running = Running(path, enforcer)
    running.pay("alice")
    seal(enforcer)
    gone = PLACES[place](running)
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    assert running.refused() == "evidence_removed"
    for end in (lambda: opened.__exit__(None, None, None), enforcer.close):
        with pytest.raises(EvidenceError):
            end()
    assert not gone.exists()
    with Enforcer.open(path) as again, task(again):
        Running(path, again).pay("bob")
    assert Verifier(TrustStore.load(path / "trust.json")).ledger(path).exit_code != 0


def test_a_stream_that_is_cut_stops_every_body(running: Running) -> None:
    """The same file with less in it, as after a rotation that copies and truncates, has lost evidence as well."""
    running.pay("bob")
    whole = running.entries.read_bytes()
    os.truncate(running.entries, len(whole) - 1)
    assert set(running.enforcer.degraded) == {"ledger"}
    assert running.refused() == "evidence_removed"
    running.entries.write_bytes(whole)
    running.pay("carol")
    assert running.effects == ["alice", "bob", "carol"]


def test_a_body_that_removes_the_files_leaves_no_second_one(running: Running) -> None:
    """The result of the body that ran is returned; the next one does not run."""

    @running.enforcer.tool(name="pay")
    def pay(to: str) -> str:
        backs.append(_rename(running.entries))
        return to

    backs: list[Callable[[], object]] = []
    assert pay("alice") == "alice"
    assert running.enforcer.degraded["ledger"]
    with pytest.raises(EvidenceError) as caught:
        running.pay("mallory")
    assert caught.value.code == "evidence_removed"
    backs.pop()()


def test_rotation_and_pruning_are_no_removal(running: Running) -> None:
    """Segments that the library closes, compresses and archives stop nothing."""
    for _ in range(400):
        running.pay("bob")
    seal(running.enforcer)
    assert len(list(running.entries.parent.iterdir())) > 2
    assert running.enforcer.degraded == {}
    assert contradictions(running.path) == set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_child_of_a_process_whose_log_was_removed_makes_no_other(running: Running) -> None:
    """A forked child expects the log of its parent."""
    back = _rename(running.path / "log")
    child = os.fork()
    if child == 0:
        try:
            with task(running.enforcer):
                code = 0
        except EvidenceError as error:
            code = 7 if error.code == "evidence_removed" else 1
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not (running.path / "log").exists()
    back()
