"""The files of one stream: closed segments in order, then the active one.

A stream begins in ``entries.jsonl``. When that is large or old, it becomes ``entries-<its first seq>.jsonl``, and
a fresh one takes its place; once all of a closed segment is sealed, it is compressed. What is read is the same
whatever the files are: the lines of all of them, one after the other, each once.
"""

import contextlib
import re
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias, final

import orjson

from agent_identity._common.typed_calls import typed_calls
from agent_identity._storage.byte_reader import Read
from agent_identity._storage.codecs import GZIP, gunzip
from agent_identity._storage.lines import Block, Line, read_blocks, read_lines, split_blocks, stream_parts
from agent_identity._storage.os_files import READ, Files, open_regular

Compression: TypeAlias = Literal["gzip", "none"]
"""Compression of closed segments."""

MAX_INFLATED: Final = 4 * 1024**3
"""Bytes that a compressed segment may have once it is decompressed; larger ones are not read."""

DEFAULT_BYTES: Final = 64 * 1024 * 1024
"""Bytes after which a segment is closed, unless said otherwise."""

DEFAULT_SECONDS: Final = 86_400.0
"""Seconds after which a segment is closed, unless said otherwise."""

CODECS: Final[dict[Compression, str]] = {"none": "", "gzip": ".gz"}
"""Extensions of compressed files."""

_OF_SUFFIX: Final[dict[str, Compression]] = {suffix: name for name, suffix in CODECS.items()}
_CLOSED: Final = re.compile(r"entries-(?!0{20})([0-9]{20})\.jsonl(\.gz|)")
_POSITION: Final = re.compile("[1-9][0-9]{0,18}")
_ATTEMPTS: Final = 16
_MIN_BYTES, _MAX_BYTES = 64 * 1024, 1024**3
_MAX_SECONDS: Final = 31 * 86_400


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """Rotation of segments: the size and age limits, and the compression of closed ones.

    Args:
        max_bytes: Bytes after which a segment is closed, from 64 KiB to 1 GiB; it may have one record more.
        max_seconds: Seconds after which it is closed by the next record, from 1 second to 31 days.
        compression: ``gzip`` or ``none``; done in the background, once all is sealed.

    Raises:
        ValueError: A value is out of range.
    """

    max_bytes: int = DEFAULT_BYTES
    max_seconds: float = DEFAULT_SECONDS
    compression: Compression = "gzip"

    def __post_init__(self) -> None:
        if not _MIN_BYTES <= self.max_bytes <= _MAX_BYTES:
            raise ValueError("max_bytes is out of range; give 65,536 (64 KiB) to 1,073,741,824 (1 GiB)")
        if not 1 <= self.max_seconds <= _MAX_SECONDS:
            raise ValueError("max_seconds is out of range; give 1 second to 2,678,400 (31 days)")
        if self.compression not in CODECS:
            raise ValueError("the compression is unknown; use 'gzip' or 'none'")


class Segment(NamedTuple):
    """One file of a stream.

    Attributes:
        path: Its path.
        first: The place of its first record in the stream, from 1.
        compression: Its compression.
        bytes: Its size as it is on the disk.
        active: It is the one that its process writes, or wrote last.
    """

    path: str
    first: int
    compression: Compression
    bytes: int
    active: bool = False


class Codec:
    """A compressor of chunks by gzip; deterministic, without a name or a time."""

    def __init__(self) -> None:
        engine = zlib.compressobj(6, zlib.DEFLATED, GZIP)
        self.feed: Callable[[bytes], bytes] = engine.compress
        self.finish: Callable[[], bytes] = engine.flush


def closed_segments(files: Files, folders: Sequence[str]) -> dict[int, str]:
    """Return the paths of closed segments by their first place, in order; of duplicates, the uncompressed one.

    Args:
        files: The operating system.
        folders: The folders to search; segments of the first folder take precedence.

    Raises:
        OSError: The first folder cannot be listed.
    """
    segments: dict[int, tuple[int, int, str]] = {}
    for rank, folder in enumerate(folders):
        try:
            names = files.listdir(folder)
        except FileNotFoundError:
            if not rank and len(folders) == 1:
                raise
            continue
        for name in names:
            match = _CLOSED.fullmatch(name)
            if match:
                candidate = (rank, len(match[2]), f"{folder}/{name}")
                first = int(match[1])
                segments[first] = min(segments.get(first, candidate), candidate)
    return {first: segments[first][2] for first in sorted(segments)}


@contextlib.contextmanager
def _settled(files: Files, folders: Sequence[str], active: str) -> Generator[tuple[dict[int, str], int | None]]:
    """Yield the closed segments and the descriptor of the active one; the writing process may still run."""
    with contextlib.ExitStack() as stack:
        for _ in range(_ATTEMPTS):
            before = closed_segments(files, folders)
            fd: int | None = None
            with contextlib.suppress(FileNotFoundError):
                fd = open_regular(files, active, READ)
            if closed_segments(files, folders).keys() == before.keys():
                break
            if fd is not None:
                files.close(fd)  # It was closed between the two looks: what was opened is not what follows.
        else:
            raise OSError("the segments of the stream change too fast")
        if fd is not None:
            stack.callback(files.close, fd)
        yield before, fd


def read_stream(files: Files, folders: Sequence[str], active: str, *, start: int = 1) -> Iterator[Line]:
    """Return the lines of a stream one by one; see :func:`stream_blocks`."""
    for block in stream_blocks(files, folders, active, start=start):
        yield from block.each()


def stream_blocks(files: Files, folders: Sequence[str], active: str, *, start: int = 1) -> Iterator[Block]:
    """Return the lines of a stream over all of its segments, each once; offsets count from the first existing line.

    A line that is torn and yet followed by another file is no line at all, and comes with no bytes.

    Args:
        files: The operating system.
        folders: The folder of the stream, and further ones that may have the segments that it has not any more.
        active: The path of the file that is written.
        start: Segments are left out whose first record stands before this place.

    Raises:
        OSError: A file cannot be read, or is missing.
    """
    base = 0
    with _chosen(files, folders, active, start) as (paths, fd):
        for number, path in enumerate(paths, 1):
            end = 0
            for block in _blocks_of(files, path):
                end = block.end
                if block.torn and _have_bytes(files, paths[number:], fd):
                    block = Block(block.offset, end, [b""])  # noqa: PLW2901
                yield block._replace(offset=base + block.offset, end=base + end)
            base += end
        for block in read_blocks(files, fd) if fd is not None else ():
            yield block._replace(offset=base + block.offset, end=base + block.end)


def _have_bytes(files: Files, paths: Sequence[str], fd: int | None) -> bool:
    """Return whether one of these files, closed or active, is not empty."""
    segments = (_look_at(files, 0, path) for path in paths)
    return (fd is not None and files.status(fd).st_size > 0) or any(one is None or one.bytes for one in segments)


@contextlib.contextmanager
def _chosen(
    files: Files, folders: Sequence[str], active: str, start: int
) -> Generator[tuple[Sequence[str], int | None]]:
    """Yield the paths of the closed segments to read, and the descriptor of the active one if that is read."""
    with _settled(files, folders, active) as (closed, fd):
        if not closed and fd is None and start == 1:
            raise FileNotFoundError(active)
        ours = first_seq(files, fd) if fd is not None and (start > 1 or len(folders) > 1) else None
        # An archive may hold a copy of what is still here.
        stop = ours if len(folders) > 1 else None
        paths = [path for first, path in closed.items() if start <= first < (stop or first + 1)]
        yield paths, (fd if (ours or start) >= start else None)


def first_place(files: Files, folders: Sequence[str], active: str) -> int | None:
    """Return the place of the first existing record of a stream, or ``None``.

    Raises:
        OSError: The files cannot be listed or read.
    """
    with _settled(files, folders, active) as (closed, fd):
        return next(iter(closed), None) or (None if fd is None else first_seq(files, fd))


def first_seq(files: Files, fd: int) -> int | None:
    """Return the place of the first record of an open segment as the record names it, or ``None``."""
    line = next(read_lines(files, fd), None)
    parts = None if line is None or line.data is None or line.torn else stream_parts(line.data)
    if parts is None:
        return None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        seq = orjson.loads(parts[0])["stream"]["seq"]
        return int(seq) if _POSITION.fullmatch(seq) else None
    return None


def segments_of(files: Files, folders: Sequence[str], active: str) -> tuple[Segment, ...]:
    """Return the segments of a stream, in their order.

    Raises:
        OSError: They cannot be listed.
    """
    with _settled(files, folders, active) as (closed, fd):
        segments = [segment for first, path in closed.items() if (segment := _look_at(files, first, path))]
        if fd is not None:
            size = files.status(fd).st_size
            first = first_seq(files, fd)
            if first is not None:
                if len(folders) > 1:
                    segments = [segment for segment in segments if segment.first < first]
                segments.append(Segment(active, first, "none", size, active=True))
    return tuple(segments)


def _look_at(files: Files, first: int, path: str) -> Segment | None:
    with contextlib.suppress(FileNotFoundError):
        path, fd = _opened(files, path)
        try:
            return Segment(path, first, compression_of(path), files.status(fd).st_size)
        finally:
            files.close(fd)
    return None  # Pruned just now.


def compression_of(path: str) -> Compression:
    """Return the compression of a segment, by its name."""
    return _OF_SUFFIX.get(path[path.rindex(".jsonl") + 6 :], "none")


def _opened(files: Files, path: str) -> tuple[str, int]:
    """Open a closed segment, which may be compressed meanwhile."""
    plain = path[: path.rindex(".jsonl") + 6]
    for name in (path, *(plain + suffix for suffix in CODECS.values())):
        with contextlib.suppress(FileNotFoundError):
            return name, open_regular(files, name, READ)
    raise FileNotFoundError(path)


def _blocks_of(files: Files, path: str) -> Iterator[Block]:
    path, fd = _opened(files, path)
    try:
        yield from read_segment(files, fd, compression_of(path))
    finally:
        files.close(fd)


def read_segment(files: Files, fd: int, compression: Compression) -> Iterator[Block]:
    """Return the lines of an open segment, with bounded memory.

    Raises:
        OSError: It cannot be read, is damaged, or is too large.
    """
    files.seek(fd, 0)
    return split_blocks(decompressed(lambda size: files.read(fd, size), compression), 0)


def decompressed(read: Read, compression: Compression) -> Read:
    """Return a reader of the content of a compressed file, at most :data:`MAX_INFLATED` bytes of it."""
    if compression == "none":
        return read
    inflate = gunzip(read, several=False)
    total = 0

    def bounded(size: int) -> bytes:
        nonlocal total
        data = inflate(size)
        total += len(data)
        if total > MAX_INFLATED:
            raise OSError(f"the compressed segment inflates to more than {MAX_INFLATED} bytes")
        return data

    return bounded
