"""Reading as an auditor does: every byte of garbage becomes a value, and nothing raises."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_records import append

from agent_identity._ledger import reader as streams_module
from agent_identity._ledger.reader import RawLine, open_ledger
from agent_identity._ledger.transparency.log import Head
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_line
from agent_identity._storage.os_files import Files
from agent_identity.options import Ledger

STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"
GOOD = b'{"mac":"' + b"0" * 43 + b'","record":{"a":"b"}}\n'
Open = Callable[..., Ledger]


def _stream(directory: Path, data: bytes) -> Path:
    path = directory / "ledger" / STREAM / "entries.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_ledger_reads_back_as_written(opened: Open, directory: Path) -> None:
    """Streams come sorted, lines in order with their offsets, the log and its checkpoint as they are."""
    first, second = opened(), opened()
    entry = append(first, "registration", {"agent": {"id": "clerk", "owner": "ops@example.com"}})
    second.close()
    first.close()
    reader = open_ledger(directory)
    assert reader.streams() == tuple(sorted((first.stream, second.stream)))
    lines = list(reader.entries(first.stream))
    assert lines[1].record == entry.data
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
    assert lines[3] == RawLine(size + 8 + len(long), b'{"a":"b"}', "0" * 43, None)


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


def test_what_witnesses_and_authorities_left_is_read_within_bounds(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only names of their form, in their order, the latest time-stamps first; what is no file is left out."""
    reader = open_ledger(directory)
    assert (list(reader.witnessed()), list(reader.anchored())) == ([], [])
    layout = Layout.of(directory)
    witnesses, anchors = Path(layout.witnesses), Path(layout.anchors)
    witnesses.mkdir(parents=True)
    anchors.mkdir(parents=True)
    for number in range(5):
        (witnesses / f"{number:016x}.checkpoint").write_bytes(b"%d" % number)
        (anchors / f"{number:019d}-{number:016x}.tsr").write_bytes(b"t%d" % number)
        (anchors / f"{number:019d}-{number:016x}.checkpoint").write_bytes(b"c%d" % number)
    for name in ("lock", f"{'0' * 16}.checkpoint.new", f"{'0' * 15}.checkpoint", f"{'A' * 16}.checkpoint"):
        (witnesses / name).write_bytes(b"no")
        (anchors / name).write_bytes(b"no")
    (anchors / f"{3:019d}-{3:016x}.checkpoint").unlink()
    (witnesses / f"{1:016x}.checkpoint").unlink()
    (witnesses / f"{1:016x}.checkpoint").mkdir()
    assert list(reader.witnessed()) == [b"0", b"2", b"3", b"4"]
    assert list(reader.anchored()) == [(b"c4", b"t4"), (b"", b"t3"), (b"c2", b"t2"), (b"c1", b"t1"), (b"c0", b"t0")]
    monkeypatch.setattr(streams_module, "_MAX_WITNESSED", 3)
    monkeypatch.setattr(streams_module, "_MAX_ANCHORED", 2)
    assert list(reader.witnessed()) == [b"0", b"2"]  # What is no file takes a place.
    assert list(reader.anchored()) == [(b"c4", b"t4"), (b"", b"t3")]


def test_the_file_of_an_excerpt_is_read_whole_up_to_its_bound(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte more, and nothing of it is read; a folder is none."""
    monkeypatch.setattr(streams_module, "MAX_EXCERPT", 5)
    directory.mkdir()
    path, reader = directory / "excerpt.json", open_ledger(directory)
    for data, found in ((b"12345", b"12345"), (b"123456", b""), (b"", b"")):
        path.write_bytes(data)
        assert reader.excerpt() == found
    path.unlink()
    path.mkdir()
    assert reader.excerpt() is None


def test_the_log_names_how_many_records_each_stream_had(directory: Path) -> None:
    """The largest number counts, whatever else the lines say, and whatever order they have."""
    other = f"{STREAM[:-1]}Q"
    heads = [Head(STREAM, 7, bytes(32), 1), Head(other, 2, bytes(32), 1), Head(STREAM, 5, bytes(32), 1)]
    (directory / "log").mkdir(parents=True)
    lines = [log_line(bytes(32), head.to_entry("o")) for head in heads]
    lines[1:1] = [b"garbage\n", log_line(bytes(32), b'{"lost":"checkpoint","origin":"o"}')]
    (directory / "log" / "entries.jsonl").write_bytes(b"".join(lines))
    assert open_ledger(directory).sealed_sizes() == {STREAM: 7, other: 2}


def test_what_cannot_be_told_of_a_log_is_no_accusation(directory: Path, faulty: type) -> None:
    """Only a directory that can be read is said to have lost its log."""
    _stream(directory, GOOD)
    assert open_ledger(directory).log_was_removed()
    assert not open_ledger(directory, files=faulty.failing("listdir", code=errno.EIO)).log_was_removed()


def test_a_line_that_is_withheld_gives_its_leaf(directory: Path) -> None:
    """As in an excerpt; anything else in such a line makes it malformed."""
    _stream(directory, b'{"leaf":"%b"}\n{"leaf":"%b"}\n' % (b"A" * 43, b"B" * 43))
    assert list(open_ledger(directory).entries(STREAM)) == [
        RawLine(0, None, "A" * 43, "withheld"),
        RawLine(55, None, None, "malformed"),
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.sampled_from([GOOD, GOOD[:-1], b"\n", b"{", b"\xff\x00"]) | st.binary(max_size=30)))
def test_no_bytes_raise(directory: Path, pieces: list[bytes]) -> None:
    """Every file can be read, as a stream and as a log, and offsets account for every byte; blank lines are one."""
    data = b"".join(pieces)
    _stream(directory, data)
    (directory / "log").mkdir(exist_ok=True)
    (directory / "log" / "entries.jsonl").write_bytes(data)
    reader = open_ledger(directory)
    for lines in (list(reader.entries(STREAM)), list(reader.log_entries())):
        starts = [0, *(index + 1 for index, byte in enumerate(data) if byte == 10)]
        blank = {start for start in starts if data[start : start + 1] == b"\n"}
        expected = [start for start in starts if start < len(data) and not {start, start - 1} <= blank]
        assert [line.offset for line in lines] == expected
        assert all((line.record is None) == (line.problem is not None) for line in lines)


def test_kept_grants_that_cannot_be_read_are_missing(directory: Path) -> None:
    """A folder in place of their file gives none."""
    named = SimpleNamespace(kept=SimpleNamespace(digest="0" * 43, number=1, bytes=1), stream=STREAM)
    Path(Layout.of(directory).grants(STREAM, "0" * 43)).mkdir(parents=True)
    assert open_ledger(directory).kept_grants(named) == ((), "missing")


@pytest.mark.parametrize(
    "record", [b'{"a":"b"}', b'{"stream":["1"]}', b'{"stream":{"seq":["1"]}}', b'{"stream":{"seq":"x"}}']
)
def test_a_first_record_without_a_place_has_none(directory: Path, record: bytes) -> None:
    """Whatever stands where the place should be."""
    _stream(directory, b'{"mac":"' + b"0" * 43 + b'","record":' + record + b"}\n")
    assert open_ledger(directory).first_place(STREAM) is None
