"""Somebody who can write files and has no key puts lines into the log: sealing goes on, and no rollback is healed."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plain_records import append

from agent_identity import Report, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.log import loss_entry
from agent_identity._storage.lines import log_line
from agent_identity._storage.os_files import Files
from agent_identity.cli import main
from agent_identity.errors import EvidenceError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
TRUST = TrustStore((TrustedKey(SIGNER.public_key, "recorder"),), origin=ORIGIN)
ERASURE = {"erasure": {"key": "x" * 64}}
FOREIGN = log_line(bytes(32), b'{"origin":"x"}')


@dataclass
class Room:
    """A directory, and the processes that use it."""

    path: Path
    ids: SequentialIds = field(default_factory=SequentialIds)

    def open(self, **options: object) -> Ledger:
        """Start a process."""
        given = {"signer": SIGNER, "origin": ORIGIN, "clock": FixedClock(), "ids": self.ids, **options}
        return Ledger.open(self.path, **given)

    def live(self, records: int = 5) -> None:
        """Let a process live from its start to its end; each record gets an entry of the log."""
        with self.open() as ledger:
            for _ in range(records):
                seal_one(ledger)

    @property
    def log(self) -> Path:
        """The file of the log."""
        return self.path / "log" / "entries.jsonl"

    @property
    def note(self) -> Path:
        """The checkpoint."""
        return self.path / "log" / "checkpoint"

    @property
    def rejected(self) -> Path:
        """What was set aside."""
        return self.path / "log" / "rejected.jsonl"

    def lines(self) -> list[bytes]:
        """Return the lines of the log."""
        return self.log.read_bytes().splitlines(keepends=True)

    def put(self, data: bytes) -> None:
        """Append to the log what nobody of ours wrote."""
        with self.log.open("ab") as file:
            file.write(data)

    def report(self) -> Report:
        """Verify the directory."""
        return Verifier(TRUST).ledger(self.path)

    def codes(self) -> set[str]:
        """Return the findings but for notices."""
        return {problem.code for problem in self.report().findings if problem.severity != "notice"}


def seal_one(ledger: Ledger) -> None:
    """Append a record and seal it."""
    append(ledger, "erasure", ERASURE)
    ledger.seal()


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path / "evidence")


PUT = {
    "text": b"text\n",
    "an entry with another MAC": FOREIGN,
    "an empty line": b"\n",
    "several lines": b"text\n" + FOREIGN + b"\n",
    "a line that is too long": b"x" * (4 << 20) + b"x\n",
    "lines and a part of one": FOREIGN + b"text",
}


@pytest.mark.parametrize("put", PUT.values(), ids=PUT.keys())
@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "before a start"])
def test_foreign_lines_behind_the_checkpoint_are_set_aside(room: Room, put: bytes, running: bool) -> None:
    """The next seal works, the log is as if nobody had written into it, and the lines are kept and told of."""
    if running:
        with room.open() as ledger:
            seal_one(ledger)
            room.put(put)
            seal_one(ledger)
            assert ledger.degraded is None
    else:
        room.live()
        room.put(put)
        room.live()
    assert room.rejected.read_bytes() == put.removesuffix(b"\n") + b"\n"
    assert put not in room.log.read_bytes() or put == b"\n"
    report = room.report()
    assert (report.exit_code, room.codes()) == (3, {"log_rejected"})
    room.rejected.unlink()
    assert room.report().exit_code == 0


def test_an_entry_of_before_that_is_repeated_is_set_aside(room: Room) -> None:
    """A line of the log itself counts at its place only, so a copy of it at the end does not."""
    room.live()
    copies = b"".join(room.lines()[1:4])
    room.put(copies)
    room.live()
    assert room.rejected.read_bytes() == copies
    assert room.codes() == {"log_rejected"}


def test_the_first_line_of_an_empty_log_may_be_foreign(room: Room) -> None:
    """A log that holds nothing yet has a checkpoint as well, behind which nothing was committed."""
    with room.open() as ledger:
        room.put(b"text\n")
        seal_one(ledger)
    assert room.rejected.read_bytes() == b"text\n"
    assert room.codes() == {"log_rejected"}


def test_foreign_lines_are_told_of_before_anybody_sets_them_aside(room: Room) -> None:
    """The records are proved all the same: what follows the checkpoint contradicts nothing under it."""
    room.live()
    room.put(b"text\n" + FOREIGN)
    report = room.report()
    assert (report.exit_code, report.integrity) == (3, "verified")
    assert "log_rejected" in room.codes()


def test_processes_that_share_the_log_all_go_on(room: Room) -> None:
    """Whoever seals next sets the lines aside, once, and the others read on behind what they know."""
    with room.open() as first, room.open() as second, room.open() as third:
        for ledger in (first, second, third):
            seal_one(ledger)
        for number, ledger in enumerate((second, first, third)):
            room.put(b"text %d\n" % number)
            seal_one(ledger)
        for ledger in (first, second, third):
            seal_one(ledger)
    assert room.rejected.read_bytes() == b"text 0\ntext 1\ntext 2\n"
    assert room.codes() == {"log_rejected"}


class Intruder(Files):
    """Somebody appends a line to the log just before the library does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.left = 1

    def write(self, fd: int, data: bytes) -> int:
        """Write, after the intruder did."""
        if self.left and data.startswith(b'{"entry":'):
            self.left -= 1
            with self.path.open("ab") as file:
                file.write(b"in between\n")
        return super().write(fd, data)


def test_a_line_that_comes_in_between_is_never_covered_and_costs_one_attempt(room: Room) -> None:
    """The checkpoint is not signed over a log of which a part is somebody else's; what we wrote behind it stays."""
    files = Intruder(room.log)
    with room.open(files=files) as ledger:
        append(ledger, "erasure", ERASURE)
        with pytest.raises(EvidenceError, match="another program"):
            ledger.seal()
        seal_one(ledger)
        assert ledger.degraded is None
    assert files.left == 0
    assert room.rejected.read_bytes() == b"in between\n"
    assert room.codes() == {"log_rejected"}


def test_what_the_library_wrote_behind_a_foreign_line_stays(room: Room) -> None:
    """As where a process died between its entry and the checkpoint, and somebody else wrote before it."""
    room.live()
    before = room.note.read_bytes()
    room.live()
    lines = room.lines()
    covered = int(before.splitlines()[1])
    room.note.write_bytes(before)
    room.log.write_bytes(
        b"".join([*lines[:covered], b"text\n", *lines[covered : covered + 2], FOREIGN, *lines[covered + 2 :]])
    )
    room.live()
    assert room.lines()[: len(lines)] == lines
    assert room.rejected.read_bytes() == b"text\n" + FOREIGN
    assert room.codes() == {"log_rejected"}


def test_an_older_checkpoint_is_refused_by_a_process_that_knows_a_later_one(room: Room) -> None:
    """Put back while processes run, it is never written over, whatever else was done to the log."""
    with room.open() as ledger:
        seal_one(ledger)
        before = room.note.read_bytes()
        seal_one(ledger)
        room.note.write_bytes(before)
        for _ in range(2):
            with pytest.raises(EvidenceError) as caught:
                seal_one(ledger)
            assert "an older checkpoint" in str(caught.value)
        assert room.note.read_bytes() == before
        with pytest.raises(EvidenceError):
            ledger.close()


def test_a_process_does_not_set_aside_what_another_one_committed(room: Room) -> None:
    """Where one process was led to a shorter log, the others, who know more, sign nothing on top of it."""
    with room.open() as first:
        seal_one(first)
        state = room.log.read_bytes(), room.note.read_bytes()
        second = room.open()
        seal_one(second)
        room.log.write_bytes(state[0] + b"x" * 2_000 + b"\n")
        room.note.write_bytes(state[1])
        seal_one(first)
        with pytest.raises(EvidenceError) as caught:
            seal_one(second)
        assert "the log does not continue its last checkpoint" in str(caught.value)
        note = room.note.read_bytes()
        with pytest.raises(EvidenceError):
            second.close()
        assert room.note.read_bytes() == note


EDITS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edited": lambda lines: [lines[0].replace(b'"size":"', b'"size":"1'), *lines[1:]],
    "MAC edited": lambda lines: [lines[0][:-10] + b'00000000"}\n', *lines[1:]],
    "dropped": lambda lines: lines[1:],
    "three dropped": lambda lines: lines[3:],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "foreign in place of two": lambda lines: [FOREIGN, *lines[2:]],
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_older_checkpoint_that_was_put_back_is_not_healed_by_a_start(room: Room, edit: str) -> None:
    """Entries that are left of a later log show that it was longer: nothing is signed, nothing on the disk changes."""
    room.live()
    before = room.note.read_bytes()
    room.live()
    covered, lines = int(before.splitlines()[1]), room.lines()
    room.note.write_bytes(before)
    room.log.write_bytes(b"".join([*lines[:covered], *EDITS[edit](lines[covered:])]))
    state = room.log.read_bytes()
    ledger = room.open()
    for _ in range(2):
        with pytest.raises(EvidenceError, match="an older checkpoint"):
            seal_one(ledger)
    with pytest.raises(EvidenceError):
        ledger.close()
    assert (room.log.read_bytes(), room.note.read_bytes()) == (state, before)
    assert not room.rejected.exists()
    assert room.report().exit_code != 0


def test_what_the_checkpoint_covers_is_never_set_aside(room: Room) -> None:
    """A foreign line there is a contradiction, as it was."""
    room.live()
    lines = room.lines()
    room.log.write_bytes(b"".join([*lines[:2], b"text\n", *lines[2:]]))
    state = room.log.read_bytes()
    ledger = room.open()
    with pytest.raises(EvidenceError, match="repair log/entries"):
        seal_one(ledger)
    with pytest.raises(EvidenceError):
        ledger.close()
    assert room.log.read_bytes() == state
    assert not room.rejected.exists()
    assert room.report().exit_code == 1


def test_without_a_checkpoint_nothing_is_set_aside(room: Room) -> None:
    """How much was committed is not known then, so the lines may be of a log that was."""
    room.live()
    room.note.unlink()
    room.put(b"text\n")
    ledger = room.open()
    with pytest.raises(EvidenceError):
        seal_one(ledger)
    with pytest.raises(EvidenceError):
        ledger.close()
    assert not room.rejected.exists()
    assert loss_entry(ORIGIN) not in [line.record for line in open_ledger(room.path).log_entries()]
    assert room.report().exit_code == 1


def test_streams_of_dead_processes_are_recovered_although_the_log_has_foreign_lines(room: Room) -> None:
    """What a start reads of the log counts up to the foreign lines, and so does what it seals."""
    with room.open() as ledger:
        seal_one(ledger)
        seal_one(ledger)
        dead = ledger.stream
        copy = room.path.with_name("copy")
        shutil.copytree(room.path, copy)
    left = Room(copy, room.ids)
    left.put(b"text\n")
    left.live()
    assert left.codes() == {"log_rejected"}
    assert ("recovered", dead) in {(problem.code, problem.stream) for problem in left.report().findings}


def test_doctor_tells_of_what_was_set_aside(room: Room, capsys: pytest.CaptureFixture) -> None:
    """Where it is, how much, and what to do."""
    room.live()
    room.put(b"text\n")
    room.live()
    TRUST.save(room.path / "trust.json")
    main(["doctor", str(room.path)])
    out = " ".join(capsys.readouterr().out.split())
    assert "5 bytes" in out
    assert "log/rejected.jsonl" in out
