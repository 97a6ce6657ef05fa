"""The forms of the lines on disk, and reading them with bounded memory.

A stream holds ``{"mac":"<64 hex>","record":<record>}`` and the log ``{"entry":<entry>,"mac":"<64 hex>"}``,
both canonical JSON, so that the parts stand at fixed places and need no parser.
"""

import re
from binascii import hexlify
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from agent_identity.evidence.files import Files

__all__ = [
    "MAX_LINE_BYTES",
    "RECORD",
    "Line",
    "leaf_of",
    "log_line",
    "log_parts",
    "read_lines",
    "split_lines",
    "stream_line",
    "stream_parts",
]

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""Longest line that is read, without its end."""

RECORD: Final = slice(83, -2)
"""Where the record stands in what :func:`stream_line` returns."""

_CHUNK: Final = 256 * 1024
_HEX: Final = b"0123456789abcdef"
_LOG: Final = re.compile(rb'\{"entry":(\{.*\}),"mac":"([0-9a-f]{64})"\}', re.DOTALL)


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        offset: Bytes before it in the file.
        end: Bytes up to its end, the newline included.
        data: The line without its newline; ``None`` if it is too long.
        torn: The newline is missing: the file ends inside the line.
    """

    offset: int
    end: int
    data: bytes | None
    torn: bool


def stream_line(mac: bytes, record: bytes) -> bytes:
    """Return the line of a record, its newline included."""
    return b"".join((b'{"mac":"', hexlify(mac), b'","record":', record, b"}\n"))


def log_line(mac: bytes, entry: bytes) -> bytes:
    """Return the line of a log entry, its newline included."""
    return b"".join((b'{"entry":', entry, b',"mac":"', hexlify(mac), b'"}\n'))


def stream_parts(line: bytes) -> tuple[bytes, str] | None:
    """Return record and MAC (in hex) of a line of a stream, or ``None`` if it has not that form."""
    mac = line[8:72]
    if line[:8] != b'{"mac":"' or line[72:84] != b'","record":{' or line[-2:] != b"}}" or mac.translate(None, _HEX):
        return None
    return line[83:-1], mac.decode()


def leaf_of(line: bytes) -> str | None:
    """Return the leaf hash (in hex) of a record that is withheld, or ``None`` if it has not that form."""
    leaf = line[9:73]
    fits = len(line) == 75 and line[:9] == b'{"leaf":"' and line[73:] == b'"}' and not leaf.translate(None, _HEX)
    return leaf.decode() if fits else None


def log_parts(line: bytes) -> tuple[bytes, str] | None:
    """Return entry and MAC (in hex) of a line of the log, or ``None`` if it has not that form."""
    match = _LOG.fullmatch(line)
    return (match[1], match[2].decode()) if match else None


def read_lines(files: Files, fd: int, start: int = 0) -> Iterator[Line]:
    """Return the lines from byte ``start`` on, never holding more than one longest line and a chunk.

    Raises:
        OSError: The file cannot be read.
    """
    files.seek(fd, start)
    yield from split_lines(lambda size: files.read(fd, size), start)


def split_lines(read: Callable[[int], bytes], start: int) -> Iterator[Line]:
    """Return the lines of what is read, never holding more than one longest line and a chunk.

    Args:
        read: Returns at most so many bytes, and none at the end.
        start: Bytes before the first line.

    Raises:
        OSError: It cannot be read.
    """
    rest = b""
    while True:
        chunk = read(_CHUNK)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            end = start + len(line) + 1
            yield Line(start, end, line if len(line) <= MAX_LINE_BYTES else None, torn=False)
            start = end
        if not chunk:
            break
        if len(rest) > MAX_LINE_BYTES:
            length, rest, complete = _skip(read, len(rest))
            yield Line(start, start + length, None, torn=not complete)
            start += length
    if rest:
        yield Line(start, start + len(rest), rest if len(rest) <= MAX_LINE_BYTES else None, torn=True)


def _skip(read: Callable[[int], bytes], length: int) -> tuple[int, bytes, bool]:
    """Read to the end of a line that is too long; return its length, what follows, and whether it ended."""
    while chunk := read(_CHUNK):
        head, newline, rest = chunk.partition(b"\n")
        length += len(head) + len(newline)
        if newline:
            return length, rest, True
    return length, b"", False
