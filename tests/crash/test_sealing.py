"""Processes that were killed, and commands that close what they left: with the keys of the directory, and without."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity import Enforcer, Report, Verifier
from agent_identity.cli import main
from agent_identity.identity import SigningKey, TrustStore

Start = Callable[[int, int], "Victim"]


class Victim:
    """A process that has written some records."""

    def __init__(self, directory: Path, sealed: int, more: int) -> None:
        script = Path(__file__).with_name("sealed_victim.py")
        command = [sys.executable, str(script), str(directory), str(sealed), str(more)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.stream = self._said()

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def append(self) -> None:
        """Have it write another record."""
        assert self.process.stdin is not None
        print("more", file=self.process.stdin, flush=True)
        assert self._said() == "appended"

    def kill(self) -> None:
        """Kill it, wherever it is."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """An evidence directory whose trust file has a closer."""
    assert main(["init", str(tmp_path / "evidence")]) == 0
    closer = SigningKey.generate()
    closer.save(tmp_path / "closer.pem")
    file = tmp_path / "evidence" / "trust.json"
    TrustStore.load(file).with_key(closer.public_key, "closer").save(file)
    return tmp_path / "evidence"


@pytest.fixture
def start(directory: Path) -> Iterator[Start]:
    """Starts processes on the directory, and kills them in the end."""
    running: list[Victim] = []

    def start_one(sealed: int, more: int) -> Victim:
        running.append(Victim(directory, sealed, more))
        return running[-1]

    yield start_one
    for victim in running:
        victim.kill()


def sealing(
    directory: Path, capsys: pytest.CaptureFixture[str], *, closer: bool
) -> tuple[int, dict[str, list[object]]]:
    """Run the command; return its exit code and what it says."""
    capsys.readouterr()
    more = ["--closer", str(directory.parent / "closer.pem")] if closer else []
    code = main(["seal", str(directory), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def codes(report: Report) -> Counter[str]:
    """Return how often a report says what."""
    return Counter(one.code for one in report.findings)


def listing(directory: Path) -> dict[str, bytes]:
    """Return the files of a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_with_the_keys_a_dead_process_is_recovered_as_by_a_start(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that it wrote is sealed and recorded; nothing more is to do, and nothing more is written."""
    victim = start(2, 3)
    victim.kill()
    code, said = sealing(directory, capsys, closer=False)
    assert code == 0
    assert said == {
        "recovered": [{"stream": victim.stream, "records": 6, "sealed_before": 3}],
        "failed": [],
        "living": [],
    }
    report = Verifier().ledger(directory)
    assert (report.completeness, codes(report)) == ("complete", {"recovered": 1})
    before = listing(directory)
    assert sealing(directory, capsys, closer=False) == (0, {"recovered": [], "failed": [], "living": []})
    assert listing(directory) == before


@pytest.mark.parametrize("closer", [True, False])
def test_a_sealer_does_not_seal_what_lives(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str], closer: bool
) -> None:
    """Its lock says so: nothing is written, and the process goes on in its stream."""
    victim = start(1, 1)
    before = listing(directory)
    code, said = sealing(directory, capsys, closer=closer)
    assert (code, said["living"], said["failed"]) == (0, [victim.stream], [])
    assert listing(directory) == before
    victim.append()
    assert "seal" not in codes(Verifier().ledger(directory))


def test_one_that_lives_does_not_keep_a_dead_one_open(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each stream has a lock of its own."""
    dead, living = start(1, 1), start(1, 1)
    dead.kill()
    code, said = sealing(directory, capsys, closer=False)
    assert (code, said["living"]) == (0, [living.stream])
    assert [one["stream"] for one in said["recovered"]] == [dead.stream]  # type: ignore[index]
    living.append()


def test_a_closer_tells_what_it_saw_and_not_the_word_of_the_recorder(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tail is told apart from what is sealed; a later start with the keys recovers it all the same."""
    victim = start(2, 3)
    victim.kill()
    code, said = sealing(directory, capsys, closer=True)
    assert code == 0
    assert said["closed"] == [{"stream": victim.stream, "records": 6, "sealed_before": 3}]
    report = Verifier().ledger(directory)
    assert (report.integrity, report.completeness, report.exit_code) == ("verified", "incomplete", 3)
    assert codes(report) == {"closed_tail": 1}
    (finding,) = report.findings
    assert "not the recorder's word" in finding.message
    assert sealing(directory, capsys, closer=True) == (0, {"closed": [], "failed": [], "living": []})
    with Enforcer.open(directory):
        pass
    report = Verifier().ledger(directory)
    assert (report.completeness, codes(report)) == ("complete", {"recovered": 1, "closed": 1})
    assert sealing(directory, capsys, closer=True)[1]["closed"] == []


def test_a_closer_ends_the_doubt_about_a_process_that_had_sealed_all(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it, no one can tell whether the process lives or its end was cut."""
    start(2, 0).kill()
    assert codes(Verifier().ledger(directory)) == {"no_end": 1}
    assert sealing(directory, capsys, closer=True)[0] == 0
    report = Verifier().ledger(directory)
    assert (report.completeness, codes(report)) == ("complete", {"closed": 1})


def test_a_torn_line_is_part_of_what_a_closer_saw(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is told by it; a byte more is not."""
    victim = start(2, 0)
    victim.kill()
    path = directory / "ledger" / victim.stream / "entries.jsonl"
    path.write_bytes(path.read_bytes() + b'{"mac":"AA')
    assert sealing(directory, capsys, closer=True)[0] == 0
    assert codes(Verifier().ledger(directory)) == {"closed": 1}
    path.write_bytes(path.read_bytes() + b"A")
    assert codes(Verifier().ledger(directory)) == {"closed": 1, "torn_tail": 1}


def test_on_a_volume_without_locks_the_returning_process_begins_another_stream(
    directory: Path, start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the closure; what it wrote before it looked is named."""
    from agent_identity._storage.os_files import Files

    victim = start(1, 1)
    monkeypatch.setattr(Files, "lock", lambda *_: None)
    assert sealing(directory, capsys, closer=True)[1]["closed"]
    monkeypatch.undo()
    streams = set((directory / "ledger").iterdir())
    while set((directory / "ledger").iterdir()) == streams:  # It looks a few times a second.
        victim.append()
    victim.append()
    victim.kill()
    assert len(set((directory / "ledger").iterdir()) - streams) == 1
    found = codes(Verifier().ledger(directory))
    assert found["closed_tail"] == 1
    assert found.keys() <= {"closed_tail", "after_closure", "stream_unknown", "no_end"}
    with Enforcer.open(directory):
        pass
    assert Verifier().ledger(directory).completeness == "complete"


def test_the_command_says_what_it_did(directory: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """In words, one line a stream."""
    dead, living = start(1, 2), start(1, 0)
    dead.kill()
    capsys.readouterr()
    closer = str(directory.parent / "closer.pem")
    assert main(["seal", str(directory), "--closer", closer]) == 0
    out = capsys.readouterr().out
    assert f"{dead.stream}: closed after record 4; 2 records after the last seal, not the recorder's word" in out
    assert f"{living.stream}: left alone; a process writes it" in out
    assert main(["seal", str(directory)]) == 0
    assert f"{dead.stream}: recovered 4 records, 2 records of them not sealed before" in capsys.readouterr().out
    living.kill()
    assert main(["seal", str(directory)]) == 0
    capsys.readouterr()
    assert main(["seal", str(directory)]) == 0
    assert "nothing to seal" in capsys.readouterr().out
    assert main(["seal", str(directory), "--closer", closer, "--keys", str(directory)]) == 2
