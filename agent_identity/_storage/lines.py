"""Line formats on disk, and bounded-memory reading.

A stream holds ``{"detail":<detail>,"mac":"<MAC>","record":<record>}``, mostly without a detail, and the log
``{"entry":<entry>,"mac":"<MAC>"}``, both canonical JSON, so that the parts stand at fixed places and need no parser.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._storage.os_files import Files

MAX_LINE_BYTES: Final = 4 * 1024 * 1024
"""Longest line that is read, without its end."""

_CHUNK: Final = 256 * 1024
_BLANK: Final = re.compile(rb"\n*+")
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_LAST: Final = b"AEIMQUYcgkosw048"  # The last character has two bits to spare, which are zero.
_AFTER_DETAIL: Final = b'},"mac":"'
_LOG: Final = re.compile(rb'\{"entry":(\{.*\}),"mac":"(' + DIGEST_FORM.encode() + rb')"\}', re.DOTALL)


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        offset: Bytes before it in the file.
        end: Bytes up to its end, the newline included.
        data: The line without its newline; ``None`` if it is too long; blank lines that follow each other are one.
        torn: The newline is missing: the file ends inside the line.
    """

    offset: int
    end: int
    data: bytes | None
    torn: bool


class Block(NamedTuple):
    """Consecutive lines of a file; handling several at once costs less than one by one.

    Attributes:
        offset: Bytes before them in the file.
        end: Bytes up to their end.
        lines: The lines without their newlines; one that is too long stands alone, as ``None``, and blank lines that
            follow each other stand alone as one, so that a flood of them is read and reported at no cost.
        torn: The last newline is missing: the file ends inside a line, which stands alone.
    """

    offset: int
    end: int
    lines: Sequence[bytes | None]
    torn: bool = False

    def each(self) -> "Iterator[Line]":
        """Return the lines one by one."""
        if len(self.lines) == 1:
            yield Line(self.offset, self.end, self.lines[0], self.torn)
            return
        offset = self.offset
        for line in self.lines:
            end = offset + len(line or b"") + 1
            yield Line(offset, end, line, torn=False)
            offset = end


def stream_line(mac: bytes, record: bytes, detail: bytes | None = None) -> bytes:
    """Return the line of a record, its newline included."""
    head = b'{"mac":"' if detail is None else b'{"detail":%s,"mac":"' % detail
    return b"".join((head, b64url_encode(mac).encode(), b'","record":', record, b"}\n"))


def log_line(mac: bytes, entry: bytes) -> bytes:
    """Return the line of a log entry, its newline included."""
    return b"".join((b'{"entry":', entry, b',"mac":"', b64url_encode(mac).encode(), b'"}\n'))


def stream_parts(line: bytes) -> tuple[bytes, str, bytes | None] | None:
    """Return record, MAC and detail of a line of a stream, or ``None`` if it is malformed."""
    detail, at = None, 0
    if line[:11] == b'{"detail":{':
        at = line.find(_AFTER_DETAIL) + 1  # In a text the quotes would be escaped, and no detail has such a member.
        if not at:
            return None
        detail = line[10:at]
    elif line[:8] != b'{"mac":"':
        return None
    mac = line[at + 8 : at + 51]
    if line[at + 51 : at + 63] != b'","record":{' or line[-2:] != b"}}" or not _is_digest(mac):
        return None
    return line[at + 62 : -1], mac.decode(), detail


def _is_digest(text: bytes) -> bool:
    return not text.translate(None, _LETTERS) and text[-1] in _LAST


def leaf_of(line: bytes) -> str | None:
    """Return the leaf hash of a withheld record, or ``None`` if the line has another form."""
    leaf = line[9:52]
    fits = len(line) == 54 and line[:9] == b'{"leaf":"' and line[52:] == b'"}' and _is_digest(leaf)
    return leaf.decode() if fits else None


def log_parts(line: bytes) -> tuple[bytes, str] | None:
    """Return entry and MAC of a line of the log, or ``None`` if it is malformed."""
    match = _LOG.fullmatch(line)
    return (match[1], match[2].decode()) if match else None


def read_lines(files: Files, fd: int, start: int = 0) -> Iterator[Line]:
    """Return the lines from byte ``start`` on, never holding more than one longest line and a chunk.

    Raises:
        OSError: The file cannot be read.
    """
    for block in read_blocks(files, fd, start):
        yield from block.each()


def read_blocks(files: Files, fd: int, start: int = 0) -> Iterator[Block]:
    """Return the lines from byte ``start`` on, in blocks of one chunk.

    Raises:
        OSError: The file cannot be read.
    """
    files.seek(fd, start)
    return split_blocks(lambda size: files.read(fd, size), start)


def split_blocks(read: Callable[[int], bytes], start: int) -> Iterator[Block]:
    """Split the input into lines, never holding more than one longest line and a chunk.

    Args:
        read: Returns at most so many bytes, and none at the end.
        start: Bytes before the first line.

    Raises:
        OSError: It cannot be read.
    """
    rest, blank = b"", 0
    while True:
        chunk = read(_CHUNK)
        for text, blanks in _parted(rest + chunk):
            if text and blank:
                yield Block(start, start + blank, [b""])
                start, blank = start + blank, 0
            *lines, rest = text.split(b"\n")
            yield from _as_blocks(lines, start)
            start, blank = start + len(text) - len(rest), blank + blanks
        if not chunk:
            break
        if len(rest) > MAX_LINE_BYTES:
            length, rest, complete = _skip(read, len(rest))
            yield Block(start, start + length, [None], not complete)
            start += length
    if blank:
        yield Block(start, start + blank, [b""])
    if rest:
        yield Block(start, start + len(rest), [rest if len(rest) <= MAX_LINE_BYTES else None], torn=True)


def _parted(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Return the text between blank lines, each with the number of blank lines after it."""
    place = len(data) - len(data.lstrip(b"\n"))
    if place:
        yield b"", place
    while after := data.find(b"\n\n", place) + 1:
        blank = _BLANK.match(data, after)
        end = after if blank is None else blank.end()
        yield data[place:after], end - after
        place = end
    yield data[place:], 0


def _as_blocks(lines: Sequence[bytes], start: int) -> Iterator[Block]:
    """Return one block of all lines, or a block for each line if one is too long."""
    sizes = [len(line) for line in lines]
    if max(sizes, default=0) > MAX_LINE_BYTES:
        for line in lines:
            end = start + len(line) + 1
            yield Block(start, end, [line if len(line) <= MAX_LINE_BYTES else None])
            start = end
    elif lines:
        yield Block(start, start + sum(sizes) + len(sizes), lines)


def _skip(read: Callable[[int], bytes], length: int) -> tuple[int, bytes, bool]:
    """Skip the rest of a too long line; return its length, the bytes after it, and whether it ended."""
    while chunk := read(_CHUNK):
        head, newline, rest = chunk.partition(b"\n")
        length += len(head) + len(newline)
        if newline:
            return length, rest, True
    return length, b"", False
