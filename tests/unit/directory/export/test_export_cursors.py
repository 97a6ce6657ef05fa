"""How far a receiver is: kept durably, one step at a time, and never further than it was."""

import fcntl
import hashlib
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_identity._directory.export import export_cursors as cursors_module
from agent_identity._directory.export.export_cursors import Aside, Cursor, Cursors, destinations
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files
from agent_identity.errors import EvidenceError

STREAM = "AZV6P04jewGp0QAAAAAAoQ"
OTHER = "AZV6P04jewGp0QAAAAAAog"
NAME = "http://collector:4318/v1/traces"
ASIDE = Aside(STREAM, 7, OTHER, "HTTP 400")


@pytest.fixture
def cursors(tmp_path: Path) -> Cursors:
    return Cursors.of(Files(), Layout.of(tmp_path), NAME)


def folder(tmp_path: Path) -> Path:
    """Return the one folder of a receiver."""
    (found,) = (tmp_path / "exports").iterdir()
    return found


def test_a_place_is_kept_for_each_receiver(tmp_path: Path, cursors: Cursors) -> None:
    """What one has got says nothing about the others, and the next process finds it."""
    assert cursors.get(STREAM) == Cursor(0, done=False)
    cursors.set(STREAM, Cursor(12))
    cursors.set(OTHER, Cursor(3, done=True))
    again = Cursors.of(Files(), Layout.of(tmp_path), NAME)
    assert (again.get(STREAM), again.get(OTHER)) == (Cursor(12), Cursor(3, done=True))
    assert Cursors.of(Files(), Layout.of(tmp_path), "another").get(STREAM) == Cursor()
    assert {found.receiver for found in destinations(Files(), Layout.of(tmp_path))} == {NAME, "another"}
    assert destinations(Files(), Layout.of(tmp_path / "none")) == ()


@pytest.mark.parametrize(
    "kept",
    [
        *(b"", b"{", b"[]", b'{"seq":12}', b'{"seq":"-1"}', b'{"seq":"\xd9\xa1"}', b'{"seq":"x"}', b'{"seq":""}'),
        b'{"seq":"%b"}' % (b"9" * 5_000),
    ],
)
def test_a_place_that_cannot_be_read_is_the_beginning(tmp_path: Path, cursors: Cursors, kept: bytes) -> None:
    """A damaged file costs copies that are sent twice, and none that is not sent."""
    (folder(tmp_path) / STREAM).write_bytes(kept)
    assert cursors.get(STREAM) == Cursor()


class Counting(Files):
    """A system that dies after so many calls that change something."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _spend(self) -> None:
        if self.left == 0:
            raise OSError(5, "dead")
        self.left -= 1

    def write(self, fd: int, data: bytes) -> int:
        """Write, a half of it at the end."""
        if self.left == 0:
            return super().write(fd, data[: len(data) // 2])
        self._spend()
        return super().write(fd, data)

    def fsync(self, fd: int) -> None:
        """Sync."""
        self._spend()
        super().fsync(fd)

    def replace(self, source: str, target: str) -> None:
        """Replace."""
        self._spend()
        super().replace(source, target)


@pytest.mark.parametrize("steps", range(4))
def test_a_crash_at_any_step_leaves_the_old_place_or_the_new_one(tmp_path: Path, cursors: Cursors, steps: int) -> None:
    """There is nothing between the two, and never a place that nobody wrote."""
    cursors.set(STREAM, Cursor(12))
    dying = Cursors(Counting(steps), Layout.of(tmp_path), cursors.name)
    if steps < 3:
        with pytest.raises(EvidenceError):
            dying.set(STREAM, Cursor(20, done=True))
    else:
        dying.set(STREAM, Cursor(20, done=True))
    assert cursors.get(STREAM) == (Cursor(12) if steps < 3 else Cursor(20, done=True))


def test_what_was_set_aside_survives_a_line_that_was_cut(tmp_path: Path, cursors: Cursors) -> None:
    """A crash inside a line costs that line, which is written again, and no other."""
    assert list(cursors.aside()) == []
    cursors.set_aside(ASIDE)
    dying = Cursors(Counting(0), Layout.of(tmp_path), cursors.name)
    with pytest.raises(EvidenceError):
        dying.set_aside(ASIDE)
    cursors.set_aside(Aside(STREAM, 8, OTHER, "x" * 1000))
    with (folder(tmp_path) / "aside.jsonl").open("ab") as file:
        file.write(b"\n[]\n{}\n")
    assert list(cursors.aside()) == [ASIDE, Aside(STREAM, 8, OTHER, "x" * 256)]


class Interrupted(Files):
    """A system on which another process begins before the call with a given number, and comes to its end."""

    def __init__(self, at: int, other: Callable[[], object]) -> None:
        self.calls, self.at, self.other = 0, at, other

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.at:
            self.other()

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        self._count()
        return super().open(path, flags, mode)

    def write(self, fd: int, data: bytes) -> int:
        self._count()
        return super().write(fd, data)

    def replace(self, source: str, target: str) -> None:
        self._count()
        super().replace(source, target)

    def mkdir(self, path: str, mode: int) -> bool:
        self._count()
        return super().mkdir(path, mode)


def test_a_start_that_fails_leaves_no_file_of_its_own(tmp_path: Path) -> None:
    """A program that is started again and again on a full disk does not fill the folder with names."""
    for steps in itertools.count():  # One more call works each time.
        place = tmp_path / str(steps)
        place.mkdir()
        try:
            Cursors.of(Counting(steps), Layout.of(place), NAME)
        except EvidenceError:
            assert [path for path in place.rglob("*") if path.is_file()] == []
        else:
            break
    assert steps > 2


def test_processes_that_begin_together_do_not_stop_each_other(tmp_path: Path) -> None:
    """Whenever the second one comes, both start, the name is whole, and nothing is left lying about."""
    at = calls = 1
    while at <= calls:
        layout = Layout.of(tmp_path / str(at))
        (tmp_path / str(at)).mkdir()
        files = Interrupted(at, lambda layout=layout: Cursors.of(Files(), layout, NAME))
        assert Cursors.of(files, layout, NAME).receiver == NAME
        assert [path.name for path in folder(tmp_path / str(at)).iterdir()] == ["receiver"]
        at, calls = at + 1, files.calls
    assert at > 5


def test_a_receiver_that_is_known_is_not_written_again(tmp_path: Path, cursors: Cursors) -> None:
    """A start costs no write, and so nothing that can fail on a full disk."""
    before = (folder(tmp_path) / "receiver").stat()
    assert Cursors.of(Files(), Layout.of(tmp_path), NAME).name == cursors.name
    assert (folder(tmp_path) / "receiver").stat() == before


def test_one_process_sends_to_a_receiver_at_a_time(tmp_path: Path, cursors: Cursors) -> None:
    """The second one is told, and is the first one later."""
    other = Cursors.of(Files(), Layout.of(tmp_path), NAME)
    with cursors.alone() as first:
        assert first
        with other.alone() as second:
            assert not second
    with other.alone() as second:
        assert second
    cursors.drop()  # Nothing is held, so nothing happens.


def test_a_forked_child_leaves_the_lock_to_its_parent(tmp_path: Path, cursors: Cursors) -> None:
    """A child closes its copy of the lock; the parent goes on to hold it, and once it is gone, it is free."""
    other = Cursors.of(Files(), Layout.of(tmp_path), NAME)
    with cursors.alone():
        copy = os.dup(cursors._lock_fd)
        os.close(copy)
        with other.alone() as second:
            assert not second
        kept, cursors._lock_fd = cursors._lock_fd, os.dup(cursors._lock_fd)
        cursors.drop()
        assert cursors._lock_fd == -1
        cursors._lock_fd = kept
        with other.alone() as second:
            assert not second


def test_what_is_kept_of_a_receiver_is_plain_to_read(tmp_path: Path, cursors: Cursors) -> None:
    """Small files of JSON in a folder whose name follows from that of the receiver."""
    cursors.set(STREAM, Cursor(12, done=True))
    cursors.set_aside(ASIDE)
    place = folder(tmp_path)
    assert place.name == cursors.name == hashlib.sha256(NAME.encode()).hexdigest()[:16]
    assert (place / "receiver").read_bytes() == b'{"receiver":"http://collector:4318/v1/traces","v":"1"}'
    assert (place / STREAM).read_bytes() == b'{"done":true,"seq":"12","v":"1"}'
    assert (place / "aside.jsonl").read_bytes() == (
        b'\n{"record":"%b","reason":"HTTP 400","seq":"7","stream":"%b"}' % (OTHER.encode(), STREAM.encode())
    )
    with cursors.alone():
        pass
    assert sorted(path.name for path in place.iterdir()) == [STREAM, "aside.jsonl", "lock", "receiver"]
    (place / STREAM).write_bytes(b'{"done":1,"seq":"9999999999999999999"}')
    assert cursors.get(STREAM) == Cursor(10**19 - 1)


def test_a_receiver_that_cannot_be_kept_is_told(tmp_path: Path, cursors: Cursors) -> None:
    """With what was to be done."""
    place = folder(tmp_path)
    (place / "aside.jsonl").mkdir()
    with pytest.raises(EvidenceError, match=r"^could not note what a receiver does not take: "):
        cursors.set_aside(ASIDE)
    with pytest.raises(EvidenceError, match=r"^could not begin an export anew: "):
        cursors.forget()
    (place / "lock").mkdir()
    with pytest.raises(EvidenceError, match=r"^could not keep the place of an export: "), cursors.alone():
        pass
    (place / f"{STREAM}.new").mkdir()
    with pytest.raises(EvidenceError, match=r"^could not keep the place of an export: "):
        cursors.set(STREAM, Cursor(1))
    assert list(cursors.aside()) == []


def test_what_is_read_of_a_large_file_is_bounded(
    tmp_path: Path, cursors: Cursors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A place in a file that is too large is the beginning; of what was set aside, sixteen times as much is read."""
    monkeypatch.setattr(cursors_module, "_MOST", 200)
    (folder(tmp_path) / STREAM).write_bytes(b'{"done":false,"seq":"12"}'.rjust(200))
    assert cursors.get(STREAM) == Cursor(12)
    (folder(tmp_path) / STREAM).write_bytes(b'{"done":false,"seq":"12"}'.rjust(201))
    assert cursors.get(STREAM) == Cursor()
    for _ in range(40):
        cursors.set_aside(ASIDE)
    whole = (folder(tmp_path) / "aside.jsonl").read_bytes()
    assert len(list(cursors.aside())) == whole[: 16 * 200].count(b"}")


def test_everything_is_sent_again_after_forgetting(cursors: Cursors) -> None:
    """The places and what was set aside are gone, the name of the receiver stays."""
    cursors.set(STREAM, Cursor(12))
    cursors.set_aside(ASIDE)
    cursors.forget()
    assert (cursors.get(STREAM), list(cursors.aside()), cursors.receiver) == (Cursor(), [], NAME)


def test_the_distance_counts_what_is_not_acknowledged(tmp_path: Path, cursors: Cursors) -> None:
    """Spans are counted, not records: calls and tasks that ended, and those that never will once a stream is over."""
    call = {
        "attribution": "none",
        "action": {"tool": "pay", "kind": "function"},
        "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "r"},
    }
    ended = {**call, "outcome": "success"}

    def name(seq: int) -> str:
        return b64url_encode(seq.to_bytes(16))

    def line(seq: int, kind: str, **members: Any) -> str:
        place = {"id": STREAM, "seq": str(seq)} | ({} if seq == 1 else {"prev": "0" * 43})
        record = {"v": "1", "id": name(seq), "kind": kind, "time": {"start": "1"}, **members, "stream": place}
        return f'{{"mac":"{"0" * 43}","record":{encode_record(record).decode()}}}\n'

    for stream in (STREAM, OTHER):
        place = tmp_path / "ledger" / stream
        place.mkdir(parents=True)
        lines = [line(1, "stream_start", sdk={"name": "x", "version": "1"}), line(2, "intent", **call)]
        lines += [line(3, "outcome", intent=name(2), **ended), line(4, "intent", **call), line(5, "outcome", **ended)]
        (place / "entries.jsonl").write_text("".join([*lines, line(6, "task_end"), "{}\n"]))
    assert cursors.behind() == 6  # Of task_end the chain is missing, so that it counts nothing.
    cursors.set(STREAM, Cursor(4))
    assert cursors.behind() == 5
    with (tmp_path / "ledger" / STREAM / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cursors.behind() == 4  # Its process lives, and the call may still end.
    cursors.set(OTHER, Cursor(1, done=True))
    assert cursors.behind() == 2


class Unreadable(Files):
    """A disk that can be opened and not read."""

    def read(self, fd: int, size: int) -> bytes:
        """Fail."""
        raise OSError(5, "io")


def test_what_cannot_be_written_or_read_is_told_apart(tmp_path: Path, cursors: Cursors) -> None:
    """A place that cannot be noted is an error; one that cannot be read is the beginning."""
    cursors.set(STREAM, Cursor(12))
    unreadable: Any = Cursors(Unreadable(), Layout.of(tmp_path), cursors.name)
    assert unreadable.get(STREAM) == Cursor()
    assert unreadable.receiver == ""
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(EvidenceError, match="keep the place"):
        Cursors.of(Files(), Layout.of(blocked), NAME)
