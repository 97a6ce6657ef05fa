"""A log that was removed, shortened or reordered by someone who can write files and has no key: it shows for good."""

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from plain_records import append

from agent_identity import Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.log import Head, loss_entry
from agent_identity._storage.os_files import Files
from agent_identity.errors import EvidenceError
from agent_identity.identity import PublicKey, SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
TRUST = TrustStore((TrustedKey(SIGNER.public_key, "recorder"),), origin=ORIGIN)
ERASURE = {"erasure": {"key": "x" * 64}}


@dataclass
class Room:
    """A directory and the processes that use it, one after the other."""

    path: Path
    ids: SequentialIds = field(default_factory=SequentialIds)

    def open(self, **options: object) -> Ledger:
        """Start a process."""
        given = {"signer": SIGNER, "origin": ORIGIN, "clock": FixedClock(), "ids": self.ids, **options}
        return Ledger.open(self.path, **given)

    def live(self, records: int = 3) -> None:
        """Let a process live from its start to its end."""
        with self.open() as ledger:
            for _ in range(records):
                append(ledger, "erasure", ERASURE)
                ledger.seal()

    @property
    def log(self) -> Path:
        """The file of the log."""
        return self.path / "log" / "entries.jsonl"

    @property
    def note(self) -> Path:
        """The checkpoint."""
        return self.path / "log" / "checkpoint"

    def streams(self) -> list[Path]:
        """Return the folders of the streams, in the order of their start."""
        return sorted((self.path / "ledger").iterdir())

    def forget_notes(self) -> None:
        """Remove the notes in the lock files, so that a start looks at every stream again."""
        for stream in self.streams():
            (stream / "lock").write_bytes(b"")

    def codes(self) -> set[str]:
        """Return the findings that contradict, after checking what follows from them."""
        report = Verifier(TRUST).ledger(self.path)
        found = {problem.code for problem in report.findings if problem.severity == "contradicted"}
        assert (report.exit_code == 1) is bool(found)
        return found


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """Three processes that ended."""
    room = Room(tmp_path / "evidence")
    for _ in range(3):
        room.live()
    assert Verifier(TRUST).ledger(room.path).exit_code == 0
    return room


REMOVALS: dict[str, Callable[[Room], object]] = {
    "checkpoint": lambda room: room.note.unlink(),
    "checkpoint and entries": lambda room: (room.note.unlink(), room.log.unlink()),
    "folder": lambda room: shutil.rmtree(room.path / "log"),
    "log and a stream": lambda room: (shutil.rmtree(room.path / "log"), shutil.rmtree(room.streams()[1])),
    "log and all streams": lambda room: (shutil.rmtree(room.path / "log"), shutil.rmtree(room.path / "ledger")),
    "log and ledger key": lambda room: (
        shutil.rmtree(room.path / "log"),
        (room.path / "keys" / "ledger.key").unlink(),
    ),
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_a_removed_log_is_a_contradiction_and_stays_one(room: Room, removal: str) -> None:
    """Before the next start, after it, and after the one behind that: no start fails, and none makes it whole."""
    REMOVALS[removal](room)
    if (room.path / "ledger").exists():
        room.forget_notes()
    assert room.codes() == {"log_missing"}
    for _ in range(2):
        room.live()
        assert "log_lost" in room.codes()


def test_what_is_left_after_a_loss_is_sealed_behind_the_entry_that_tells_of_it(room: Room) -> None:
    """Records that were dropped with the log are not signed away: the loss stands before all that is sealed anew."""
    shutil.rmtree(room.path / "log")
    room.forget_notes()
    first, second, _ = room.streams()
    shutil.rmtree(second)
    lines = (first / "entries.jsonl").read_bytes().splitlines(keepends=True)
    (first / "entries.jsonl").write_bytes(b"".join(lines[:-2]))
    room.live()
    entries = [line.record for line in open_ledger(room.path).log_entries()]
    assert entries[0] == loss_entry(ORIGIN)
    assert {Head.from_entry(entry)[0].stream for entry in entries[1:]} == {path.name for path in room.streams()}
    assert room.codes() == {"log_lost"}


def test_a_loss_is_noted_once(room: Room, tmp_path: Path) -> None:
    """Retries of a seal on a full disk, and further processes, add no second entry about it."""

    class Full(Files):
        full = True

        def replace(self, source: str, target: str) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "fault")
            super().replace(source, target)

    room.note.unlink()
    files = Full()
    ledger = room.open(files=files)
    for _ in range(3):
        with pytest.raises(EvidenceError):
            ledger.seal()
    files.full = False
    ledger.seal()
    ledger.close()
    room.live()
    entries = [line.record for line in open_ledger(room.path).log_entries()]
    assert entries.count(loss_entry(ORIGIN)) == 1
    assert room.codes() == {"log_lost"}


def test_a_log_that_is_lost_while_a_process_runs_is_noted(room: Room) -> None:
    """The process goes on sealing, behind the entry that tells of the loss."""
    ledger = room.open()
    ledger.seal()
    room.note.unlink()
    append(ledger, "erasure", ERASURE)
    ledger.seal()
    assert ledger.degraded is None
    ledger.close()
    assert room.codes() == {"log_lost"}


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "drop the first": lambda lines: lines[1:],
    "drop one between": lambda lines: [*lines[:2], *lines[3:]],
    "swap two": lambda lines: [lines[1], lines[0], *lines[2:]],
    "repeat one": lambda lines: [lines[0], *lines],
}


@pytest.mark.parametrize("change", CHANGES)
def test_lines_of_the_log_count_only_at_their_place(room: Room, change: str) -> None:
    """Without a checkpoint to compare with, lines that were dropped or moved are still never signed."""
    room.note.unlink()
    room.log.write_bytes(b"".join(CHANGES[change](room.log.read_bytes().splitlines(keepends=True))))
    before = room.log.read_bytes()
    room.forget_notes()
    ledger = room.open()
    with pytest.raises(EvidenceError, match="written with this directory's key"):
        ledger.seal()
    with pytest.raises(EvidenceError):
        ledger.close()
    assert not room.note.exists()
    assert room.log.read_bytes() == before
    assert room.codes() == {"log_missing"}


class KilledError(BaseException):
    """The process is no more."""


class Mortal(Files):
    """Is killed before its n-th change of the disk; what is open then is closed, as the system does."""

    CHANGES = ("open", "write", "truncate", "fsync", "replace", "link", "unlink", "mkdir", "lock")

    def __init__(self, last: int) -> None:
        self.left = last
        self.fds: set[int] = set()

    def die(self) -> None:
        """Count, and die at the end."""
        if self.left == 0:
            for fd in self.fds:
                with suppress(OSError):
                    os.close(fd)
            self.fds.clear()
            raise KilledError
        self.left -= 1

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Open, and remember."""
        self.die()
        fd = super().open(path, flags, mode)
        self.fds.add(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close, unless death did."""
        if fd in self.fds:
            self.fds.remove(fd)
            super().close(fd)

    def unlock(self, fd: int) -> None:
        """Unlock, unless death did."""
        if fd in self.fds:
            super().unlock(fd)


def _mortal(name: str) -> Callable[..., object]:
    def call(self: Mortal, *arguments: object) -> object:
        self.die()
        return getattr(Files, name)(self, *arguments)

    return call


for _name in Mortal.CHANGES[1:]:
    setattr(Mortal, _name, _mortal(_name))


def test_a_first_start_may_be_killed_anywhere(tmp_path: Path) -> None:
    """Between any two writes: no alarm from what is there, and none after the next start, which never fails."""
    survived = 0
    for last in range(200):
        room = Room(tmp_path / str(last))
        files = Mortal(last)
        try:
            ledger = room.open(files=files)
        except KilledError:
            assert not room.path.exists() or Verifier(TRUST).ledger(room.path).exit_code != 1
            room.live()
            assert room.codes() == set()
            continue
        survived = last
        files.left = 10_000
        ledger.close()
        break
    assert survived > 20
    assert room.codes() == set()


def test_a_first_start_whose_signer_fails_leaves_nothing_to_miss(tmp_path: Path) -> None:
    """It says so, no stream begins, and the next start is a first one."""

    class Broken:
        @property
        def public_key(self) -> PublicKey:
            return SIGNER.public_key

        def sign(self, message: bytes) -> bytes:
            raise ZeroDivisionError

    room = Room(tmp_path / "evidence")
    with pytest.raises(EvidenceError, match="raised ZeroDivisionError"):
        room.open(signer=Broken())
    assert list((room.path / "ledger").iterdir()) == []
    assert not (room.path / "keys" / "ledger.key").exists()
    room.live()
    assert Verifier(TRUST).ledger(room.path).exit_code == 0


def test_a_directory_that_is_merely_prepared_is_no_contradiction(tmp_path: Path) -> None:
    """Folders and an empty log are what a start may leave behind that was killed at once."""
    for folder in ("keys", "ledger", "log"):
        (tmp_path / folder).mkdir()
    (tmp_path / "log" / "entries.jsonl").touch()
    assert Verifier(TRUST).ledger(tmp_path).exit_code == 2


def test_what_stands_in_the_place_of_the_entries_is_no_fresh_log(tmp_path: Path) -> None:
    """A folder at log/entries.jsonl without a checkpoint is not signed as the empty log."""
    room = Room(tmp_path / "evidence")
    (room.path / "log" / "entries.jsonl").mkdir(parents=True)
    ledger = room.open()
    with pytest.raises(EvidenceError):
        ledger.close()
    assert not room.note.exists()
    assert room.codes() == {"log_missing"}


def test_a_log_that_cannot_be_looked_at_is_not_called_removed(room: Room) -> None:
    """What an auditor may not read is an open question and no contradiction."""
    shutil.rmtree(room.path / "log")

    class Closed(Files):
        def listdir(self, path: str) -> list[str]:
            raise PermissionError

    assert open_ledger(room.path).log_was_removed()
    assert not open_ledger(room.path, files=Closed()).log_was_removed()
