"""Streams over several files: what is read is the same, however often they rotate and whoever compresses them."""

import errno
import gzip
import hashlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_records import append, plain

from agent_identity._identity.common.encoding import digest_of
from agent_identity._ledger import segments as segments_module
from agent_identity._ledger._compression import Compressor, Stopped, compress, content_digest, copy_compressed
from agent_identity._ledger.archiving import _opener
from agent_identity._ledger.reader import RawLine, open_ledger, raw_line
from agent_identity._ledger.segments import (
    closed_segments,
    compression_of,
    decompressed,
    first_place,
    read_stream,
    segments_of,
)
from agent_identity._ledger.writer import Closed, StreamWriter, fault_of
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import Block
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import EDIT, READ, Files, make_folder, open_regular
from agent_identity.errors import EvidenceError
from agent_identity.options import Ledger, Segments
from agent_identity.testing import FixedClock

BODY = {"agent": {"id": "clerk", "owner": "ops@example.com"}}
STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"
KEY = LedgerKey(b"k" * 32)
Open = Callable[..., Ledger]
Crash = Callable[[Ledger], None]
Faulty = type[Files]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let segments be as small as one record."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)


def tiny(compression: str = "none", **options: object) -> Segments:
    """Return segments of three records."""
    return Segments(max_bytes=700, compression=compression, **options)


def names(directory: Path, stream: str) -> list[str]:
    """Return the files of a stream."""
    return sorted(path.name for path in (directory / "ledger" / stream).iterdir() if path.name != "lock")


def filled(ledger: Ledger, count: int = 10) -> str:
    """Append registrations and return the stream that they are in."""
    for _ in range(count):
        append(ledger, "registration", BODY)
    return ledger.stream


def compressed(ledger: Ledger) -> None:
    """Seal, and wait until nothing is left to compress."""
    ledger.seal()
    thread = ledger.sealing._compressor._thread
    if thread is not None:
        thread.join(30)


def writer(root: Path, files: Files | None = None, *, durable: bool = False, size: int = 700) -> StreamWriter:
    layout = Layout.of(root)
    make_folder(Files(), layout.streams, 0o755)
    return StreamWriter.create(files or Files(), layout, STREAM, KEY, durable=durable, max_bytes=size)


def test_a_large_segment_is_closed_and_the_chain_goes_on(opened: Open, audit: Callable, directory: Path) -> None:
    """Every record is read once and in order over all files, with MACs, links and roots that fit."""
    ledger = opened(segments=tiny())
    stream = filled(ledger)
    ledger.close()
    found = audit()
    assert len(found.records[stream]) == found.sealed[stream] == 12
    assert found.problems[stream] == []
    files = names(directory, stream)
    assert len(files) > 3
    firsts = [segment.first for segment in open_ledger(directory).segments(stream)]
    assert firsts[0] == 1
    assert firsts == sorted(firsts)
    assert len(firsts) == len(files)


def test_closed_segments_are_compressed_once_they_are_sealed(opened: Open, audit: Callable, directory: Path) -> None:
    """The compressed file takes the place of the plain one, and the stream reads as before."""
    ledger = opened(segments=tiny("gzip"))
    stream = filled(ledger)
    compressed(ledger)
    assert [name for name in names(directory, stream) if name.endswith(".gz")] == names(directory, stream)[:-1]
    ledger.close()
    found = audit()
    assert len(found.records[stream]) == found.sealed[stream] == 12
    kinds = {segment.compression for segment in open_ledger(directory).segments(stream)}
    assert kinds == {"gzip", "none"}


def test_what_is_not_sealed_is_not_compressed(opened: Open, directory: Path) -> None:
    """A segment stays as it was written until a checkpoint covers its last record."""
    ledger = opened(segments=tiny("gzip"), seal_interval=3_600.0)
    stream = filled(ledger)
    assert all(name.endswith(".jsonl") for name in names(directory, stream))
    compressed(ledger)
    assert sum(name.endswith(".gz") for name in names(directory, stream)) == len(names(directory, stream)) - 1


def test_an_old_segment_is_closed_by_the_next_record(opened: Open, clock: FixedClock, directory: Path) -> None:
    """A quiet process goes on in a fresh file after the time that was set, and never leaves an empty one behind."""
    ledger = opened(segments=Segments(compression="none", max_seconds=60))
    stream = filled(ledger, 1)
    ledger.seal()
    clock.advance(61)
    append(ledger, "registration", BODY)
    ledger.seal()
    assert len(names(directory, stream)) == 1
    append(ledger, "registration", BODY)
    assert names(directory, stream) == ["entries-00000000000000000001.jsonl", "entries.jsonl"]
    ledger._stream.rotate_at = 0
    ledger._stream._first = ledger._stream.seq + 1
    append(ledger, "registration", BODY)
    assert len(names(directory, stream)) == 2


@pytest.mark.parametrize("kill_at", range(3))
def test_a_process_that_died_while_it_rotated_is_recovered(
    opened: Open, crashed: Crash, audit: Callable, directory: Path, kill_at: int
) -> None:
    """Killed between any two steps of a rotation, the stream has no gap, no double, and is sealed by the next start."""
    ledger = opened(segments=Segments(compression="none"))
    stream = filled(ledger, 4)
    crashed(ledger)
    folder = directory / "ledger" / stream
    if kill_at:
        (folder / "entries.jsonl").rename(folder / "entries-00000000000000000001.jsonl")
        (folder / "entries.jsonl.new").touch()
    if kill_at == 2:
        (folder / "entries.jsonl.new").rename(folder / "entries.jsonl")
    opened().close()
    found = audit()
    assert len(found.records[stream]) == found.sealed[stream] == 5
    reports = [r["recovered"] for r in found.of_kind("recovered")]
    assert [(r["stream"], r["size"], r["rejected_bytes"]) for r in reports] == [(stream, "5", "0")]
    opened().close()
    assert len(audit().of_kind("recovered")) == 1


def test_recovery_reads_all_segments(opened: Open, crashed: Crash, audit: Callable, directory: Path) -> None:
    """A start seals what a dead process wrote over many files, plain or compressed."""
    ledger = opened(segments=tiny("gzip"))
    stream = filled(ledger)
    compressed(ledger)
    filled(ledger, 5)
    crashed(ledger)
    opened().close()
    found = audit()
    assert len(found.records[stream]) == found.sealed[stream] == 16


def test_bytes_that_are_rejected_are_counted_over_all_segments(
    opened: Open, crashed: Crash, audit: Callable, directory: Path
) -> None:
    """What stands behind a foreign line is counted, also in the files that follow."""
    ledger = opened(segments=tiny())
    stream = filled(ledger)
    crashed(ledger)
    second = sorted((directory / "ledger" / stream).glob("entries-*"))[1]
    data = second.read_bytes()
    second.write_bytes(b"x\n" + data)
    behind = sum(p.stat().st_size for p in (directory / "ledger" / stream).glob("entries*"))
    behind -= min((directory / "ledger" / stream).glob("entries-*")).stat().st_size
    opened().close()
    (found,) = [r["recovered"] for r in audit().of_kind("recovered")]
    assert found["rejected_bytes"] == str(behind)


def test_a_damaged_segment_does_not_stop_a_start(
    opened: Open, crashed: Crash, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be decompressed is left, and said."""
    ledger = opened(segments=tiny("gzip"))
    stream = filled(ledger)
    compressed(ledger)
    crashed(ledger)
    path = min((directory / "ledger" / stream).glob("*.gz"))
    path.write_bytes(path.read_bytes()[:-4])
    opened().close()
    assert "cannot recover stream" in caplog.text


@pytest.mark.parametrize("call", ["open", "replace", "status", "fsync", "fdatasync"])
@pytest.mark.parametrize("durable", [False, True])
def test_a_rotation_that_fails_loses_no_record(tmp_path: Path, faulty: Faulty, call: str, durable: bool) -> None:
    """Whatever step fails, the record is in the stream, and the stream goes on or is known to be unusable."""
    files = faulty()
    stream = writer(tmp_path, files, durable=durable)
    for number in range(3):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
    (tmp_path / "ledger" / STREAM / "entries.jsonl.new").touch()
    files.fault = lambda number, name: OSError(errno.EIO, "fault") if name == call else None
    stream.append(plain("registration", BODY), f"{STREAM[:-1]}9")
    files.heal()
    lines = list(read_stream(Files(), (str(tmp_path / "ledger" / STREAM),), Layout.of(tmp_path).entries(STREAM)))
    assert len(lines) == stream.seq == 4
    if stream.usable:
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}8")
    stream.drop()


def test_a_second_rename_that_fails_ends_the_stream(tmp_path: Path, faulty: Faulty) -> None:
    """Where the fresh file cannot take its place, the record goes to the old one, and the next begins a stream."""
    files = faulty()
    stream = writer(tmp_path, files)
    for number in range(3):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
    seen = []

    def second(number: int, name: str) -> OSError | None:
        seen.append(name)
        return OSError(errno.EIO, "fault") if seen.count("replace") == 2 and name == "replace" else None

    files.fault = second
    stream.append(plain("registration", BODY), f"{STREAM[:-1]}9")
    files.heal()
    assert stream.usable is False
    assert [s.first for s in segments_of(Files(), (str(tmp_path / "ledger" / STREAM),), "none")] == [1]
    lines = list(read_stream(Files(), (str(tmp_path / "ledger" / STREAM),), Layout.of(tmp_path).entries(STREAM)))
    assert len(lines) == 4
    stream.drop()


def test_foreign_bytes_in_the_fresh_file_are_not_adopted(tmp_path: Path) -> None:
    """A file that already holds something never becomes the one that is written."""
    stream = writer(tmp_path)
    folder = tmp_path / "ledger" / STREAM
    (folder / "entries.jsonl.new").write_bytes(b"foreign\n")
    for number in range(5):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
    assert closed_segments(Files(), (str(folder),)) == {}
    assert len((folder / "entries.jsonl").read_bytes().splitlines()) == 5
    stream.drop()


def test_a_segment_has_no_record_behind_its_size(tmp_path: Path) -> None:
    """The record that reaches the size is its last, and the one that misses it by a byte is not."""
    first = writer(tmp_path)
    first.append(plain("registration", BODY), STREAM)
    size = first.offset
    first.close(settled=True)
    for name, bound, closed in (("exact", size, 1), ("over", size + 1, 0)):
        stream = writer(tmp_path / name, size=bound)
        for number in range(2):
            stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
        assert len(stream.closed) == closed
        stream.close(settled=True)


def test_any_descriptor_of_a_stream_is_given_back(tmp_path: Path) -> None:
    """Also those with the numbers of the standard streams, each once."""
    stream = writer(tmp_path)
    stream.drop()
    closed: list[int] = []
    stream._files = SimpleNamespace(close=closed.append)
    stream._fd, stream._lock_fd = 1, 0
    stream.drop()
    stream.drop()
    assert closed == [1, 0]


def test_a_torn_write_behind_a_rotation_is_taken_back(tmp_path: Path) -> None:
    """The file is cut to what it held, not to what the stream holds over all of its files."""

    class Short(Files):
        short = False

        def write(self, fd: int, data: bytes) -> int:
            """Take a part, if told to."""
            return super().write(fd, data[:9] if self.short else data)

    files = Short()
    stream = writer(tmp_path, files)
    for number in range(5):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
    path = tmp_path / "ledger" / STREAM / "entries.jsonl"
    before = path.read_bytes()
    assert (len(stream.closed), len(before.splitlines())) == (1, 2)
    files.short = True
    with pytest.raises(EvidenceError, match="a write of a part of it"):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}9")
    assert (path.read_bytes(), stream.seq, stream.usable) == (before, 5, True)
    files.short = False
    assert stream.append(plain("registration", BODY), f"{STREAM[:-1]}9").seq == 6
    assert path.read_bytes().startswith(before)
    stream.close(settled=True)
    lock = tmp_path / "ledger" / STREAM / "lock"
    assert lock.read_bytes() == b"settled %d in %d\n" % (path.stat().st_size, lock.stat().st_ino)


def test_syncs_and_rotation_go_together(tmp_path: Path) -> None:
    """With sync="disk", what was written before a rotation is on the disk before the file gets another name."""
    order: list[str] = []

    class Watched(Files):
        """Notes the order of calls."""

        def fdatasync(self, fd: int) -> None:
            """Note it."""
            order.append("sync")
            super().fdatasync(fd)

        def replace(self, source: str, target: str) -> None:
            """Note it."""
            order.append("replace")
            super().replace(source, target)

    stream = writer(tmp_path, Watched(), durable=True)
    for number in range(4):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
    assert order == ["sync", "replace", "replace"]
    stream.sync(0)
    stream.sync(stream.offset)
    assert order[-1] == "sync"
    assert list(stream.closed) == [Closed(Layout.of(tmp_path).segment(STREAM, 1), 3)]
    stream.close(settled=True)


def raw(blocks: Iterable[Block | RawLine]) -> list[RawLine]:
    """Return the lines of blocks as a reader takes them apart."""
    found: list[RawLine] = []
    for block in blocks:
        found += [block] if isinstance(block, RawLine) else map(raw_line, block.each())
    return found


def test_every_way_to_read_a_stream_gives_the_same(opened: Open, directory: Path, tmp_path: Path) -> None:
    """Line by line, in blocks, and file by file; from its first record, from a later segment, and behind an archive."""
    ledger = opened(segments=Segments(max_bytes=700))
    stream = filled(ledger)
    compressed(ledger)
    append(ledger, "registration", BODY)
    reader = open_ledger(directory)
    lines = list(reader.entries(stream))
    assert [line.problem for line in lines] == [None] * 12
    assert raw(reader.blocks(stream)) == lines
    segments = reader.segments(stream)
    assert len(segments) > 3
    assert [segment.bytes for segment in segments] == [Path(segment.path).stat().st_size for segment in segments]
    assert [segment.active for segment in segments] == [False] * (len(segments) - 1) + [True]
    by_file = [raw_line(line).record for segment in segments for line in reader.lines_of(segment)]
    assert by_file == [line.record for line in lines]
    first = segments[2].first
    later = list(reader.entries(stream, start=first))
    assert [line.record for line in later] == [line.record for line in lines[first - 1 :]]
    assert raw(reader.blocks(stream, start=first)) == later
    archive = tmp_path / "archive"
    shutil.copytree(directory / "ledger", archive / "ledger")
    for segment in segments[:2]:
        Path(segment.path).unlink()
    both = open_ledger(directory, archive=archive)
    assert raw(both.blocks(stream)) == list(both.entries(stream)) == lines


def test_what_cannot_be_read_ends_the_blocks(directory: Path, tmp_path: Path) -> None:
    """At the byte up to which they were read; of no stream, and of none that is there, there is one such line."""
    none = [RawLine(0, None, None, "unreadable")]
    reader = open_ledger(directory)
    assert raw(reader.blocks("../..")) == raw(reader.blocks(STREAM)) == none
    folder = directory / "ledger" / STREAM
    folder.mkdir(parents=True)
    whole = b'{"mac":"' + b"0" * 43 + b'","record":{"a":"b"}}\n'
    (folder / "entries-00000000000000000001.jsonl").write_bytes(whole * 3)
    (folder / "entries-00000000000000000004.jsonl.gz").write_bytes(b"no gzip")
    found = raw(reader.blocks(STREAM))
    assert found == list(reader.entries(STREAM))
    assert (len(found), found[-1]) == (4, RawLine(3 * len(whole), None, None, "unreadable"))


def test_a_reader_meets_a_rotation_between_its_looks(tmp_path: Path) -> None:
    """A stream that rotates while it is opened is read without gap and without double."""
    stream = writer(tmp_path)
    for number in range(3):
        stream.append(plain("registration", BODY), f"{STREAM[:-1]}{number}")
    pending = [4, 5]

    class Rotating(Files):
        """Appends records, and so rotates, when the reader opens the file."""

        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            """Open, but let the writer be first."""
            if path.endswith("entries.jsonl") and pending:
                for _ in range(3):
                    stream.append(plain("registration", BODY), f"{STREAM[:-1]}{pending[0]}")
                pending.pop()
            return super().open(path, flags, mode)

    lines = list(read_stream(Rotating(), (str(tmp_path / "ledger" / STREAM),), Layout.of(tmp_path).entries(STREAM)))
    assert len(lines) == stream.seq == 9
    assert [line.offset for line in lines] == [0, *[line.end for line in lines[:-1]]]
    stream.drop()


def test_a_reader_gives_up_on_what_never_rests(tmp_path: Path) -> None:
    """A folder that changes at every look is an error, not an endless loop."""
    folder = tmp_path / "ledger" / STREAM
    folder.mkdir(parents=True)

    class Restless(Files):
        """Shows another segment each time."""

        count = 0

        def listdir(self, path: str) -> list[str]:
            """Return one more."""
            self.count += 1
            return [f"entries-{self.count:020d}.jsonl"]

    with pytest.raises(OSError, match="change too fast"):
        list(read_stream(Restless(), (str(folder),), str(folder / "entries.jsonl")))


def test_a_segment_that_is_compressed_just_now_is_found(opened: Open, directory: Path) -> None:
    """Whoever listed the plain file reads the compressed one that took its place."""
    ledger = opened(segments=tiny())
    stream = filled(ledger)
    ledger.close()
    folder = directory / "ledger" / stream
    plain = sorted(folder.glob("entries-*"))
    listed = [path.name for path in folder.iterdir()]
    for path in plain:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    class Late(Files):
        """Shows the names from before."""

        def listdir(self, path: str) -> list[str]:
            """Return them."""
            return listed

    assert sum(1 for _ in read_stream(Late(), (str(folder),), str(folder / "entries.jsonl"))) == 12
    assert len(segments_of(Late(), (str(folder),), str(folder / "entries.jsonl"))) == len(plain) + 1
    (folder / (plain[0].name + ".gz")).unlink()
    assert len(segments_of(Late(), (str(folder),), str(folder / "entries.jsonl"))) == len(plain)
    with pytest.raises(FileNotFoundError):
        list(read_stream(Late(), (str(folder),), str(folder / "entries.jsonl")))


def test_both_forms_of_a_segment_count_once(opened: Open, audit: Callable, directory: Path) -> None:
    """Killed after the compressed file was in place and before the plain one went, each record is read once."""
    ledger = opened(segments=tiny())
    stream = filled(ledger)
    ledger.close()
    for path in list((directory / "ledger" / stream).glob("entries-*")):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.with_name(path.name + ".gz.tmp").write_bytes(b"half")
    assert len(audit().records[stream]) == 12


def test_a_torn_line_before_another_file_is_no_line(opened: Open, directory: Path) -> None:
    """Only the last file may end inside a line; elsewhere it is malformed."""
    ledger = opened(segments=tiny())
    stream = filled(ledger)
    ledger.close()
    first = min((directory / "ledger" / stream).glob("entries-*"))
    first.write_bytes(first.read_bytes()[:-9])
    problems = [line.problem for line in open_ledger(directory).entries(stream) if line.problem]
    assert problems == ["malformed"]
    for path in sorted((directory / "ledger" / stream).glob("entries*"))[1:]:
        path.unlink()
    assert [line.problem for line in open_ledger(directory).entries(stream)][-1] == "torn"


def test_segments_of_nothing(directory: Path, opened: Open) -> None:
    """No id, no folder and no record are no segments, no first place and no lines."""
    opened().close()
    reader = open_ledger(directory)
    for stream in ("../../etc", STREAM):
        assert reader.segments(stream) == ()
        assert reader.first_place(stream) is None
        assert reader.pruned(stream) is None
    folder = directory / "ledger" / STREAM
    folder.mkdir()
    (folder / "entries.jsonl").write_bytes(b'{"mac":"' + b"0" * 43 + b'","record":{}}\n')
    assert reader.first_place(STREAM) is None
    assert reader.segments(STREAM) == ()
    assert first_place(Files(), (str(folder),), str(folder / "none")) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no gzip at all", "the bytes are not gzip, or are damaged"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-1], "the gzip file ends early"),
        (gzip.compress(b"x", mtime=0) + b"more", "bytes follow the end of the gzip file"),
    ],
    ids=["other", "cut", "longer"],
)
def test_a_damaged_gzip_file_is_unreadable(tmp_path: Path, data: bytes, message: str) -> None:
    """Damage of a compressed segment is an error of reading, and never the end of the stream."""
    source = iter([data])
    read = decompressed(lambda size: next(source, b""), "gzip")
    with pytest.raises(OSError, match=f"^{message}$"):
        list(iter(lambda: read(1 << 20), b""))


PLAIN = bytes(range(256)) * 40


def inflated(packed: bytes, compression: str, *, size: int = 1 << 20) -> bytes:
    """Return what a compressed file holds, read in pieces of a size."""
    source = io.BytesIO(packed)
    read = decompressed(source.read, compression)
    return b"".join(iter(lambda: read(size), b""))


def test_bytes_behind_a_compressed_file_are_found_wherever_it_ends() -> None:
    """Also where its end and the end of what is read at once are the same."""
    chunk = 256 * 1024
    for size in range(chunk - 150, chunk):
        noise = hashlib.shake_256(b"noise").digest(size)  # Nothing that can be made smaller.
        codec = segments_module.Codec()
        packed = codec.feed(noise) + codec.finish()
        if len(packed) == chunk:
            break
    else:
        pytest.fail("expected a file of just this size")
    assert inflated(packed, "gzip") == noise
    with pytest.raises(OSError, match="bytes follow"):
        inflated(packed + b"m", "gzip")


def test_a_small_file_does_not_become_an_endless_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is decompressed is bounded, and comes in pieces of the size that was asked for."""
    monkeypatch.setattr(segments_module, "MAX_INFLATED", 1_000_000)
    source = iter([gzip.compress(b"\0" * 50_000_000)])
    read = decompressed(lambda size: next(source, b""), "gzip")
    sizes: list[int] = []

    def piece() -> bytes:
        data = read(4096)
        sizes.append(len(data))
        return data

    with pytest.raises(OSError, match="more than"):
        list(iter(piece, b""))
    assert max(sizes) <= 4096
    assert sum(sizes) <= 1_000_000


@given(data=st.binary(max_size=3_000), size=st.integers(1, 500))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_compressed_comes_back(data: bytes, size: int) -> None:
    """Whatever the sizes of the pieces, decompressing gives what was compressed; equal content gives equal bytes."""
    codec, again = segments_module.Codec(), segments_module.Codec()
    packed = codec.feed(data) + codec.finish()
    assert packed == again.feed(data) + again.finish()
    pieces = iter([packed[at : at + size] for at in range(0, len(packed), size)])
    read = decompressed(lambda _: next(pieces, b""), "gzip")
    assert b"".join(iter(lambda: read(size), b"")) == data


@pytest.mark.parametrize(
    "options",
    [
        {"max_bytes": 0},
        {"max_bytes": 2**31},
        {"max_seconds": 0},
        {"max_seconds": 1e9},
        {"compression": "lzma"},
        {"compression": "zstd"},
    ],
)
def test_segments_have_bounds(options: dict[str, object]) -> None:
    """Sizes, times and compressions out of range are refused."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does|covers) "):
        Segments(**options)


def test_the_bounds_of_segments_are_within_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 KiB to 1 GiB, a second to 31 days, two compressions; the defaults are what is told."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 64 * 1024)
    size = "max_bytes is out of range; give 65,536 (64 KiB) to 1,073,741,824 (1 GiB)"
    age = "max_seconds is out of range; give 1 second to 2,678,400 (31 days)"
    for size_of in (65_536, 1_073_741_824):
        assert Segments(max_bytes=size_of).max_bytes == size_of
    for seconds in (1, 2_678_400):
        assert Segments(max_seconds=seconds).max_seconds == seconds
    for options, words in (
        ({"max_bytes": 65_535}, size),
        ({"max_bytes": 1_073_741_825}, size),
        ({"max_seconds": 0.999}, age),
        ({"max_seconds": 2_678_401}, age),
        ({"compression": "zstd"}, "the compression is unknown; use 'gzip' or 'none'"),
    ):
        with pytest.raises(ValueError, match=r" (is|are|has|have|does|covers) ") as caught:
            Segments(**options)
        assert str(caught.value) == words
    assert (Segments().max_bytes, Segments().max_seconds, Segments().compression) == (64 * 1024 * 1024, 86_400, "gzip")


@pytest.mark.parametrize(
    ("name", "compression"),
    [
        ("entries-00000000000000000001.jsonl", "none"),
        ("entries-00000000000000000001.jsonl.gz", "gzip"),
        ("a.jsonl.d/entries-00000000000000000001.jsonl.gz", "gzip"),
        ("entries.jsonl.tmp", "none"),
    ],
)
def test_a_name_tells_the_compression(name: str, compression: str) -> None:
    """By its end, wherever the folder is."""
    assert compression_of(f"/x.jsonl.gz/{name}") == compression


def test_closed_segments_are_listed_in_their_order(tmp_path: Path) -> None:
    """By number; of two forms the plain one, of two folders the first; other names are none."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    names = {
        own: ("entries-00000000000000000009.jsonl", "entries-00000000000000000002.jsonl.gz", "entries.jsonl"),
        other: (
            *("entries-00000000000000000002.jsonl", "entries-00000000000000000005.jsonl.zst"),
            *("entries-00000000000000000005.jsonl.gz", "entries-1.jsonl", "entries-00000000000000000007.jsonl.tmp"),
        ),
    }
    for folder, files in names.items():
        for name in files:
            (folder / name).touch()
    (own / "entries-00000000000000000009.jsonl.gz").touch()
    assert list(closed_segments(Files(), (str(own), str(other))).items()) == [
        (2, f"{own}/entries-00000000000000000002.jsonl.gz"),
        (5, f"{other}/entries-00000000000000000005.jsonl.gz"),
        (9, f"{own}/entries-00000000000000000009.jsonl"),
    ]
    assert closed_segments(Files(), (str(tmp_path / "none"), str(own))).keys() == {2, 9}
    assert closed_segments(Files(), (str(tmp_path / "none"), str(tmp_path / "nor"))) == {}
    with pytest.raises(FileNotFoundError):
        closed_segments(Files(), (str(tmp_path / "none"),))


def test_the_size_of_what_is_inflated_is_bounded_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many bytes as are allowed are read, and not one more."""
    codec = segments_module.Codec()
    packed = codec.feed(PLAIN) + codec.finish()
    monkeypatch.setattr(segments_module, "MAX_INFLATED", len(PLAIN))
    assert inflated(packed, "gzip") == inflated(packed, "gzip", size=100) == PLAIN
    monkeypatch.setattr(segments_module, "MAX_INFLATED", len(PLAIN) - 1)
    with pytest.raises(OSError, match="inflates to more than") as caught:
        inflated(packed, "gzip")
    assert str(caught.value) == f"the compressed segment inflates to more than {len(PLAIN) - 1} bytes"
    assert inflated(PLAIN, "none") == PLAIN  # What is not compressed is as large as its file.


def closed(root: Path, *numbers: int) -> list[Path]:
    """Write closed segments below the folder of a stream, and return their paths."""
    layout = Layout.of(root)
    make_folder(Files(), layout.stream(STREAM), 0o755)
    paths = [Path(layout.segment(STREAM, number)) for number in numbers]
    for path in paths:
        path.write_bytes(PLAIN)
    return paths


def test_compressing_is_given_up_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way stays as it was, what waits is not begun, and the thread ends without a word."""
    raised: list[object] = []
    threads: list[threading.Thread] = []
    begun = threading.Event()
    monkeypatch.setattr(threading, "excepthook", raised.append)
    first, second = closed(tmp_path, 1, 9)

    class Ending(Files):
        """Ends the work at its first read."""

        def read(self, fd: int, size: int) -> bytes:
            """End it, and read."""
            threads.append(threading.current_thread())
            compressor._stopping = True
            begun.set()
            return super().read(fd, size)

    files = Ending()
    compressor = Compressor(files, Layout.of(tmp_path), "gzip")
    with compressor._lock:
        compressor._paths.append(str(second))
    compressor.add(str(first))
    assert begun.wait(30)
    threads[0].join(30)
    assert (threads[0].daemon, threads[0].name, raised) == (True, "agent-identity-compression", [])
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name, second.name]
    compressor.add(str(second))
    assert (list(compressor._paths), compressor._thread, len(threads)) == ([str(first)], None, 1)


def test_a_compressed_segment_is_on_the_disk_before_the_plain_one_goes(tmp_path: Path) -> None:
    """Its content, then its name; the digest is that of the content."""
    (path,) = closed(tmp_path, 1)
    said: list[tuple[str, object]] = []

    class Watching(Files):
        """Notes what happens to whom."""

        def fsync(self, fd: int) -> None:
            """Note the file."""
            said.append(("fsync", os.fstat(fd).st_ino))
            super().fsync(fd)

        def replace(self, source: str, target: str) -> None:
            """Note the name."""
            said.append(("replace", target))
            super().replace(source, target)

        def unlink(self, path: str) -> None:
            """Note the name."""
            said.append(("unlink", path))
            super().unlink(path)

    files = Watching()
    compress(files, str(path), stopping=lambda: False, opened=_opener(files))
    packed = path.with_name(f"{path.name}.gz")
    assert said == [
        ("fsync", packed.stat().st_ino),
        ("replace", str(packed)),
        ("fsync", path.parent.stat().st_ino),
        ("unlink", str(path)),
    ]
    with packed.open("rb") as file:
        digest = content_digest(Files(), file.fileno(), "gzip")
    assert digest == digest_of(PLAIN)


def test_a_full_disk_leaves_the_plain_segment(tmp_path: Path, faulty: Faulty) -> None:
    """Where compressing fails at any call, the segment is whole and there is no half file."""
    path = tmp_path / "entries-00000000000000000001.jsonl"
    path.write_bytes(b"line\n" * 100)
    counting = faulty()
    compress(counting, str(path), stopping=lambda: False, opened=_opener(counting))
    calls = len(counting.calls)
    content = gzip.decompress((tmp_path / f"{path.name}.gz").read_bytes())
    assert content == b"line\n" * 100
    assert not path.exists()
    for failing in range(1, calls + 1):
        path.write_bytes(content)
        (tmp_path / f"{path.name}.gz").unlink(missing_ok=True)
        files = faulty(
            lambda number, name, failing=failing: OSError(errno.ENOSPC, "fault") if number == failing else None
        )
        with pytest.raises(OSError, match="fault"):
            compress(files, str(path), stopping=lambda: False, opened=_opener(files))
        whole = [p for p in tmp_path.iterdir() if p.name in {path.name, f"{path.name}.gz"}]
        assert whole
        if path.exists():
            assert path.read_bytes() == content


def test_a_copy_that_reads_back_differently_is_refused(tmp_path: Path) -> None:
    """A compressed file gets its name only if it gives back what was compressed."""
    other = gzip.compress(b"other", mtime=0)

    class Swapping(Files):
        """Puts other bytes in place of those that were written."""

        def fsync(self, fd: int) -> None:
            """Swap them."""
            os.ftruncate(fd, 0)
            os.pwrite(fd, other, 0)

    path = tmp_path / "entries-00000000000000000001.jsonl"
    path.write_bytes(b"line" * 3)
    swapping = Swapping()
    fd = open_regular(swapping, str(path), READ)
    with pytest.raises(OSError, match=r"^the compressed file is not what was compressed$"):
        copy_compressed(swapping, fd, f"{path}.gz", stopping=lambda: False, opened=_opener(swapping))
    os.close(fd)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_compressing_stops_with_the_process(tmp_path: Path) -> None:
    """Asked to stop, it gives up in the middle, leaves no half file, and takes nothing more."""
    path = tmp_path / "entries-00000000000000000001.jsonl"
    path.write_bytes(b"line\n" * 100)
    with pytest.raises(Stopped):
        compress(Files(), str(path), stopping=lambda: True, opened=_opener(Files()))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    compressor = Compressor(Files(), Layout.of(tmp_path), "gzip")
    compressor.stop()
    compressor.add(str(path))
    assert compressor._thread is None


def test_a_segment_larger_than_readers_take_stays_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be read again is not compressed."""
    monkeypatch.setattr("agent_identity._ledger._compression.MAX_INFLATED", 10)
    path = tmp_path / "entries-00000000000000000001.jsonl"
    path.write_bytes(b"line\n" * 100)
    compress(Files(), str(path), stopping=lambda: False, opened=_opener(Files()))
    assert path.exists()


class Waiting(Files):
    """A system that notes the pauses of who waits, and calls back at each."""

    def __init__(self, then: Callable[[int], None] = lambda _: None) -> None:
        self.pauses, self.then = 0, then

    def pause(self, seconds: float) -> None:
        """Take no time."""
        self.pauses += 1
        self.then(self.pauses)


def compressing(files: Files, folder: Path, *, taken: bool) -> tuple[Compressor, Path, int]:
    """Return a compressor and a segment for it, and the lock, which another program may have taken."""
    (folder / "ledger").mkdir()
    path = folder / "entries-00000000000000000001.jsonl"
    path.write_bytes(b"line\n")
    fd = files.open(Layout.of(folder).segments_lock, EDIT)
    if taken:
        files.lock(fd)
    return Compressor(files, Layout.of(folder), "gzip"), path, fd


def finished(compressor: Compressor, path: Path) -> None:
    """Compress a segment, and wait until that is over."""
    compressor.add(str(path))
    thread = compressor._thread
    if thread is not None:
        thread.join(10)


def test_who_archives_keeps_the_compressor_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While another program has the segments they stay as they are, however long that takes, and none is given up."""

    def then(pauses: int) -> None:
        assert path.exists()
        if pauses == 5_000:
            files.unlock(fd)

    files = Waiting(then)
    compressor, path, fd = compressing(files, tmp_path, taken=True)
    finished(compressor, path)
    assert [p.name for p in tmp_path.glob("entries-*")] == [f"{path.name}.gz"]
    assert (files.pauses, caplog.records) == (5_000, [])
    files.close(fd)


def test_the_compressor_waits_until_another_process_is_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Processes that share a directory close segments at the same time, and each of these is compressed."""
    files = Waiting(lambda pauses: files.unlock(fd) if pauses == 3 else None)
    compressor, path, fd = compressing(files, tmp_path, taken=True)
    finished(compressor, path)
    assert [p.name for p in tmp_path.glob("entries-*")] == [f"{path.name}.gz"]
    assert (files.pauses, caplog.records) == (3, [])
    files.close(fd)


def test_the_compressor_does_not_wait_when_the_process_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Stopped while it waits, it leaves the segment as it is and says nothing."""
    files = Waiting(lambda _: setattr(compressor, "_stopping", True))
    compressor, path, fd = compressing(files, tmp_path, taken=True)
    finished(compressor, path)
    assert path.exists()
    assert (files.pauses, caplog.records) == (1, [])
    files.close(fd)


def test_a_segment_that_was_removed_meanwhile_is_none_to_compress(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was archived behind a checkpoint while the compressor waited."""
    files = Waiting()
    compressor, path, fd = compressing(files, tmp_path, taken=False)
    path.unlink()
    finished(compressor, path)
    assert list(tmp_path.glob("entries-*")) == []
    assert caplog.records == []
    files.close(fd)


def test_a_copy_that_is_gone_is_no_segment_that_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever removes what is written for a segment that is there leaves it as it is, and that is told."""

    class Removing(Files):
        """A system on which the copy vanishes before it is read again."""

        def open(self, path: str, flags: int, mode: int = 0o644) -> int:
            if path.endswith(".tmp") and flags == READ:
                Path(path).unlink()
            return super().open(path, flags, mode)

    compressor, path, fd = compressing(Removing(), tmp_path, taken=False)
    finished(compressor, path)
    assert [p.name for p in tmp_path.glob("entries-*")] == [path.name]
    assert [record.getMessage() for record in caplog.records] == [
        "a segment stays as it is until the next one is closed: No such file or directory"
    ]
    os.close(fd)


def test_without_threads_segments_stay_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread can be started any more, so that nothing is compressed and nothing fails."""

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError

    compressor, path, fd = compressing(Files(), tmp_path, taken=False)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    compressor.add(str(path))
    assert compressor._thread is None
    assert path.exists()
    os.close(fd)


def test_a_forked_child_closes_what_the_compressor_had_open(tmp_path: Path) -> None:
    """In a child the thread is gone, and so are the files that it had open; one that is closed already is fine."""
    (tmp_path / "ledger").mkdir()
    compressor = Compressor(Files(), Layout.of(tmp_path), "gzip")
    fd = os.open(tmp_path, os.O_RDONLY)
    compressor._fds = {fd, 987_654}
    compressor.abandon()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_an_unreadable_disk_is_an_evidence_error(opened: Open, faulty: Faulty) -> None:
    """With sync="disk" a rotation whose sync fails refuses the record that waits for it."""
    files = faulty()
    ledger = opened(segments=tiny(), sync="disk", files=files, seal_interval=3_600.0)
    filled(ledger, 2)
    files.fault = lambda number, name: OSError(errno.EIO, "fault") if name == "fdatasync" else None
    with pytest.raises(EvidenceError):
        filled(ledger, 1)
    files.heal()
    filled(ledger, 1)


def test_a_ledger_that_closes_waits_for_the_compressor(opened: Open, directory: Path) -> None:
    """What is under way when a process ends is finished or given up, and never half done."""
    ledger = opened(segments=tiny("gzip"), seal_interval=3_600.0)
    stream = filled(ledger)
    compressor = ledger.sealing._compressor
    held = threading.Event()
    original = compressor._compress
    started = threading.Event()

    def slow(path: str) -> None:
        started.set()
        held.wait(10)
        original(path)

    compressor._compress = slow
    ledger.seal()
    started.wait(10)
    closing = threading.Thread(target=ledger.close)
    closing.start()
    held.set()
    closing.join(20)
    assert not any(name.endswith(".tmp") for name in names(directory, stream))
    assert sum(line.record is not None for line in open_ledger(directory).entries(stream)) == 12


def test_a_stream_without_a_lock_file_is_left_alone(opened: Open, crashed: Crash, directory: Path) -> None:
    """Where the lock file is gone, a start neither fails nor reports."""
    ledger = opened()
    append(ledger, "registration", BODY)
    stream = ledger.stream
    crashed(ledger)
    (directory / "ledger" / stream / "lock").unlink()
    opened().close()
    assert not (directory / "ledger" / stream / "lock").exists()


def test_files_that_are_out_of_place_during_a_rotation_are_looked_at_again() -> None:
    """A probe between the two renames of a rotation reports no fault."""
    found = iter([EvidenceError("it moves"), None])

    def check() -> None:
        if (error := next(found)) is not None:
            raise error

    assert fault_of(check, threading.RLock()) is None


def test_a_problem_that_stays_when_no_rotation_runs_is_told() -> None:
    """Looked at under the lock, it is no file between two names."""

    def check() -> None:
        raise EvidenceError("it is gone")

    assert fault_of(check, threading.RLock()) == "it is gone"
