"""Evidence that this user may not read: nobody is accused, nothing counts as verified, and the path is named."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Report, Scope, Verifier
from agent_identity._identity.common.ids import id_of
from agent_identity.audit import prove, story
from agent_identity.cli import main, program
from agent_identity.cli.terminal import signing
from agent_identity.errors import ConfigurationError
from agent_identity.options import Sources, Telemetry

OPEN = Scope("tool")
NOBODY = 65_534
LOADED = program, signing  # Loaded now: nobody may not be able to read where Python is installed.
Shut = Callable[..., Any]


@contextmanager
def as_nobody(*closed: Path) -> Iterator[None]:
    """Close files and folders to this user, who is nobody where the tests run as root."""
    modes = {path: path.stat().st_mode for path in closed}
    for path in closed:
        path.chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(NOBODY)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder that everybody can look into, unlike those of pytest, which it closes again at each start."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def evidence(world: Any, place: Path) -> Path:
    """Return closed evidence of two streams, readable for everybody but for its keys."""
    tool = world.tool()
    with world.task(OPEN):
        for number in range(3):
            tool(number)
    world.enforcer.close()
    other = world.enforcer.open(
        world.directory, sources=Sources(clock=world.clock), telemetry=Telemetry(tracer_provider=world.provider)
    )
    other.close()
    copy = place / "evidence"
    shutil.copytree(world.directory, copy)
    assert Verifier().ledger(copy).exit_code == 0
    assert len(list((copy / "ledger").glob("*-*"))) == 2
    return copy


def streams(evidence: Path) -> list[Path]:
    """Return the folders of the streams, the one with the calls first."""
    return sorted((evidence / "ledger").glob("*-*"))


PARTS: dict[str, Callable[[Path], Path]] = {
    "ledger": lambda at: at / "ledger",
    "log": lambda at: at / "log",
    "checkpoint": lambda at: at / "log" / "checkpoint",
    "log entries": lambda at: at / "log" / "entries.jsonl",
    "a stream": lambda at: streams(at)[0],
    "the file of a stream": lambda at: streams(at)[0] / "entries.jsonl",
    "the other stream": lambda at: streams(at)[1],
    "everything": lambda at: at,
}


def codes(report: Report) -> set[str]:
    """Return the findings but for notices."""
    return {problem.code for problem in report.findings if problem.severity != "notice"}


@pytest.mark.parametrize("part", PARTS)
def test_what_may_not_be_read_is_not_called_removed(evidence: Path, part: str) -> None:
    """``verify`` cannot tell, says which path it is, and contradicts nothing."""
    path = PARTS[part](evidence)
    trust = evidence.parent / "trust.json"
    shutil.copy(evidence / "trust.json", trust)
    with as_nobody(path):
        report = Verifier(trust).ledger(evidence)
    assert (report.exit_code, report.integrity) == (2, "cannot_tell")
    assert report.problems["contradicted"] == 0
    assert "stream_missing" not in codes(report)
    assert any(str(path) in found.message for found in report.findings if found.code == "unreadable")
    assert any("Permission denied" in found.message for found in report.findings if found.code == "unreadable")


def test_what_is_contradicted_elsewhere_is_still_contradicted(evidence: Path) -> None:
    """A part that is closed hides no tampering in another."""
    first, second = streams(evidence)
    lines = (first / "entries.jsonl").read_bytes()
    (first / "entries.jsonl").write_bytes(lines.replace(b'"tool":"tool"', b'"tool":"loot"'))
    with as_nobody(second):
        report = Verifier().ledger(evidence)
    assert report.exit_code == 1
    assert {"unreadable", "head_mismatch"} <= codes(report)


def test_what_is_removed_is_still_called_removed(evidence: Path) -> None:
    """The files that are not there are another thing than those that may not be read."""
    first, second = streams(evidence)
    shutil.rmtree(second)
    with as_nobody(first / "entries.jsonl"):
        report = Verifier().ledger(evidence)
    assert {"unreadable", "stream_missing"} <= codes(report)
    assert [found.stream for found in report.findings if found.code == "stream_missing"] == [second.name]


@pytest.mark.parametrize("folder", ["witnesses", "anchors"])
@pytest.mark.parametrize("whole", [True, False])
def test_what_others_said_of_the_log_is_named_as_well(evidence: Path, folder: str, whole: bool) -> None:
    """Without it nobody can tell whether the log is the one that they saw; the records are judged all the same."""
    (evidence / "log" / folder).mkdir()
    file = evidence / "log" / folder / "1.checkpoint"
    file.write_bytes(b"")
    path = file.parent if whole else file
    with as_nobody(path):
        report = Verifier().ledger(evidence)
    assert (report.exit_code, codes(report)) == (2, {"unreadable"})
    assert report.counts["verified"] == report.counts["records"] > 0
    assert any(str(path) in found.message for found in report.findings)


@pytest.mark.parametrize("part", PARTS)
def test_show_says_what_it_may_not_read(evidence: Path, part: str, capsys: pytest.CaptureFixture) -> None:
    """An empty answer would look like one: it ends with 2 and the path."""
    path = PARTS[part](evidence)
    if part in {"log", "checkpoint", "log entries"}:
        return  # What happened stands in the streams.
    with as_nobody(path):
        code = main(["show", str(evidence)])
    printed = capsys.readouterr()
    assert (code, printed.out) == (2, "")
    assert str(path) in printed.err
    assert "Permission denied" in printed.err


@pytest.mark.parametrize(
    "words", [("doctor",), ("bundle", "-o", "{out}"), ("export", "--as", "ocsf"), ("verify", "--json")]
)
@pytest.mark.parametrize("part", ["ledger", "a stream"])
def test_commands_say_what_they_may_not_read(
    evidence: Path, words: tuple[str, ...], part: str, place: Path, capsys: pytest.CaptureFixture
) -> None:
    """None of them answers from the part that it can read as if that were all."""
    path = PARTS[part](evidence)
    out = place / "out"
    out.mkdir()
    out.chmod(0o777)
    command, *options = [word.format(out=out / "bundle.zip") for word in words]
    with as_nobody(path):
        code = main([command, str(evidence), *options])
    printed = capsys.readouterr()
    assert code == 2 or (command == "doctor" and code == 1)
    assert str(path) in " ".join((printed.out + printed.err).split())
    assert list(out.iterdir()) == []


def test_a_trust_file_that_may_not_be_read_is_named(evidence: Path, capsys: pytest.CaptureFixture) -> None:
    """Given or beside the evidence, it is the reason why nothing can be told."""
    kept = evidence.parent / "kept.json"
    shutil.copy(evidence / "trust.json", kept)
    for words, path in (((), evidence / "trust.json"), (("--trust", str(kept)), kept)):
        with as_nobody(path):
            code = main(["verify", str(evidence), *words])
        printed = capsys.readouterr()
        assert code == 2
        assert str(path) in " ".join((printed.out + printed.err).split())


def test_a_bundle_that_may_not_be_read_is_named(evidence: Path, capsys: pytest.CaptureFixture) -> None:
    """Before anything is said about what is in it."""
    bundle = evidence.parent / "bundle.zip"
    assert main(["bundle", str(evidence), "-o", str(bundle)]) == 0
    capsys.readouterr()
    for command in ("verify", "show"):
        with as_nobody(bundle):
            code = main([command, str(bundle)])
        printed = capsys.readouterr()
        assert code == 2
        assert str(bundle) in printed.err


def test_an_archive_that_may_not_be_read_is_named(evidence: Path) -> None:
    """What was pruned may be in it, and what it would have shown is not held against anybody."""
    archive = evidence.parent / "archive"
    shutil.copytree(evidence, archive)
    closed = archive / "ledger" / streams(evidence)[0].name
    with as_nobody(closed):
        report = Verifier().ledger(evidence, archive=archive)
    assert report.exit_code == 2
    assert any(str(closed) in found.message for found in report.findings)


def test_spans_are_not_held_against_a_ledger_that_may_not_be_read(evidence: Path, place: Path) -> None:
    """Their records may be in what is closed, so that none is called missing or removed."""
    spans = place / "spans.json"
    spans.write_text("{}")
    spans.chmod(0o644)
    path = streams(evidence)[0]
    with as_nobody(path), pytest.raises(ConfigurationError) as caught:
        Verifier(evidence / "trust.json").traces(spans, ledger=evidence)
    assert str(path) in str(caught.value)


def test_proofs_and_stories_need_all_of_the_ledger(evidence: Path) -> None:
    """From the library as from the command line."""
    path = streams(evidence)[0] / "entries.jsonl"
    with as_nobody(path):
        for call in (lambda: list(story(evidence)), lambda: prove(evidence, id_of(0, bytes(8)))):
            with pytest.raises(ConfigurationError) as caught:
                call()
            assert str(path) in str(caught.value)


@pytest.mark.parametrize("command", ["revocations", "tasks", "inventory list", "doctor"])
@pytest.mark.parametrize("closed", ["state", "state/state.sqlite"])
def test_state_that_may_not_be_read_is_not_called_empty(
    world: Any, place: Path, capsys: pytest.CaptureFixture, command: str, closed: str
) -> None:
    """Nobody reads "nothing is revoked" where the list is closed: the path is named, and nothing was done."""
    world.enforcer.revoke("agent", "clerk")
    world.enforcer.close()
    evidence = place / "evidence"
    shutil.copytree(world.directory, evidence)
    words = [*command.split(), str(evidence)]
    with as_nobody(evidence / closed):
        code = main(words)
    out, err = capsys.readouterr()
    assert "state.sqlite" in out + err
    assert code == (1 if command == "doctor" else 2)
    assert command == "doctor" or out == ""


@pytest.mark.parametrize("mode", [0o000, 0o400])
def test_requests_that_may_not_be_read_still_wait(evidence: Path, capsys: pytest.CaptureFixture, mode: int) -> None:
    """A closed folder of requests is an error for who lists them, be it one that shows names alone."""
    folder = evidence / "approvals"
    folder.mkdir(mode=0o700)
    (folder / "a-b-c.request").write_bytes(b"{}")
    (folder / "a-b-c.request").chmod(0o600)
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.chown(folder / "a-b-c.request", NOBODY, NOBODY)
    with as_nobody():
        folder.chmod(mode)
        try:
            code = main(["approvals", "list", str(evidence)])
        finally:
            folder.chmod(0o700)
    out, err = capsys.readouterr()
    assert (code, out, str(folder) in err) == (2, "", True)


def test_a_store_that_may_not_be_looked_at_is_not_called_absent(place: Path, capsys: pytest.CaptureFixture) -> None:
    """A store in a closed folder is an error of its own, and none is made."""
    assert main(["init", str(place / "d")]) == 0
    (place / "d" / "trust.json").chmod(0o644)
    closed = place / "closed"
    closed.mkdir()
    capsys.readouterr()
    with as_nobody(closed):
        code = main(["revocations", str(place / "d"), "--state", str(closed / "shared.sqlite")])
    out, err = capsys.readouterr()
    assert (code, out, str(closed / "shared.sqlite") in err) == (2, "", True)
    assert list(closed.iterdir()) == []
