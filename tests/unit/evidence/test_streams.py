"""Reading as an auditor does: every byte of garbage becomes a value, and nothing raises."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_identity.evidence.files import Files
from agent_identity.evidence.ledger import Ledger
from agent_identity.evidence.streams import RawLine, open_ledger

STREAM = "01a20e43-46d8-715f-9270-91c309b88710"
GOOD = b'{"mac":"' + b"0" * 64 + b'","record":{"a":"b"}}\n'
Open = Callable[..., Ledger]


def _stream(directory: Path, data: bytes) -> Path:
    path = directory / "ledger" / STREAM / "entries.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_ledger_reads_back_as_written(opened: Open, directory: Path) -> None:
    """Streams come sorted, lines in order with their offsets, the log and its checkpoint as they are."""
    first, second = opened(), opened()
    entry = first.append("registration", {"agent": {"id": "clerk", "owner": "ops@example.com"}})
    second.close()
    first.close()
    reader = open_ledger(directory)
    assert reader.streams() == tuple(sorted((first.stream, second.stream)))
    lines = list(reader.entries(first.stream))
    assert lines[1].record == entry.record
    assert [line.problem for line in lines] == [None] * 3
    data = (directory / "ledger" / first.stream / "entries.jsonl").read_bytes()
    assert all(data[line.offset :].startswith(b'{"mac":"' + str(line.mac).encode()) for line in lines)
    assert len(list(reader.log_entries())) == 2
    assert reader.checkpoint() == (directory / "log" / "checkpoint").read_bytes()


def test_an_absent_directory_is_empty(tmp_path: Path) -> None:
    """Nothing there is nothing found, not an error."""
    reader = open_ledger(tmp_path / "nowhere")
    assert reader.streams() == ()
    assert list(reader.entries(STREAM)) == [RawLine(0, None, None, "unreadable")]
    assert list(reader.log_entries()) == [RawLine(0, None, None, "unreadable")]
    assert reader.checkpoint() is None


def test_names_from_a_log_never_lead_out_of_the_directory(tmp_path: Path) -> None:
    """A stream named like a path is not followed."""
    (tmp_path / "entries.jsonl").write_bytes(GOOD)
    (tmp_path / "evidence" / "ledger").mkdir(parents=True)
    assert list(open_ledger(tmp_path / "evidence").entries("../..")) == [RawLine(0, None, None, "unreadable")]


def test_each_problem_has_its_name(directory: Path) -> None:
    """Lines behind a bad one are read on, at their right offsets."""
    long = b"x" * (4 * 1024 * 1024 + 1) + b"\n"
    _stream(directory, GOOD + b"garbage\n" + long + GOOD + GOOD[:-1])
    lines = list(open_ledger(directory).entries(STREAM))
    size = len(GOOD)
    assert [(line.offset, line.problem) for line in lines] == [
        (0, None),
        (size, "malformed"),
        (size + 8, "too_long"),
        (size + 8 + len(long), None),
        (2 * size + 8 + len(long), "torn"),
    ]
    assert lines[3] == RawLine(size + 8 + len(long), b'{"a":"b"}', "0" * 64, None)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_unreadable(directory: Path, kind: str) -> None:
    """A pipe in place of a stream does not hang the auditor."""
    path = _stream(directory, b"")
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert list(open_ledger(directory).entries(STREAM)) == [RawLine(0, None, None, "unreadable")]


def test_a_file_that_fails_in_the_middle_is_read_to_there(directory: Path) -> None:
    """What could be read is returned, then where it ends; the descriptor is closed."""

    class Failing(Files):
        reads = 0
        closed = 0

        def read(self, fd: int, size: int) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise OSError(errno.EIO, "fault")
            return super().read(fd, size)

        def close(self, fd: int) -> None:
            self.closed += 1
            super().close(fd)

    _stream(directory, GOOD)
    files = Failing()
    lines = list(open_ledger(directory, files=files).entries(STREAM))
    assert [(line.offset, line.problem) for line in lines] == [(0, None), (len(GOOD), "unreadable")]
    assert files.closed == 1


def test_a_huge_checkpoint_is_cut(directory: Path) -> None:
    """A checkpoint of any size costs bounded memory, and is seen to be too large."""
    (directory / "log").mkdir(parents=True)
    (directory / "log" / "checkpoint").write_bytes(b"x" * 1_000_000)
    assert len(open_ledger(directory).checkpoint() or b"") == 65_537


def test_a_checkpoint_that_is_no_file_is_none(directory: Path) -> None:
    """A folder in its place is as good as nothing."""
    (directory / "log" / "checkpoint").mkdir(parents=True)
    assert open_ledger(directory).checkpoint() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from([GOOD, GOOD[:-1], b"\n", b"{", b"\xff\x00"]) | st.binary(max_size=30)))
def test_no_bytes_raise(directory: Path, pieces: list[bytes]) -> None:
    """Every file can be read, as a stream and as a log, and every byte is accounted for by offsets that rise."""
    data = b"".join(pieces)
    _stream(directory, data)
    (directory / "log").mkdir(exist_ok=True)
    (directory / "log" / "entries.jsonl").write_bytes(data)
    reader = open_ledger(directory)
    for lines in (list(reader.entries(STREAM)), list(reader.log_entries())):
        starts = [0, *(index + 1 for index, byte in enumerate(data) if byte == 10)]
        expected = [start for start in starts if start < len(data)]
        assert [line.offset for line in lines] == expected
        assert all((line.record is None) == (line.problem is not None) for line in lines)
