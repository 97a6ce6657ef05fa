"""Buffered reader for lines and byte counts, with a fast skip over white space."""

import re
from collections.abc import Callable
from typing import Final, Protocol, Self, TypeAlias, final

Read: TypeAlias = Callable[[int], bytes]
"""Reads so many bytes, or fewer; none at the end."""

_CHUNK: Final = 256 * 1024
_SPACE: Final = re.compile(rb"\s++")


class ByteLines(Protocol):
    """A source of lines: a file opened in binary mode, or another object with its ``readline``."""

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, at most ``limit`` bytes of it, and nothing at the end."""
        ...


@final
class ByteReader:
    """Buffers a source.

    Args:
        read: Reads from the source.
        tell: Is told how many bytes were read.
    """

    __slots__ = ("_buffer", "_place", "_read", "_tell")

    def __init__(self, read: Read, tell: Callable[[int], object] | None = None) -> None:
        self._read, self._tell = read, tell
        self._buffer, self._place = b"", 0

    @classmethod
    def of(cls, source: ByteLines, tell: Callable[[int], object] | None = None) -> Self:
        """Return a reader of a file, or of anything else that has lines."""
        read: Read | None = getattr(source, "read1", None) or getattr(source, "read", None)
        return cls(read if callable(read) else source.readline, tell)

    def peek(self, size: int) -> bytes:
        """Return the next bytes without taking them, fewer only at the end."""
        while len(self._buffer) - self._place < size and self._fill():
            pass
        return self._buffer[self._place : self._place + size]

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer only at the end."""
        parts: list[bytes] = []
        while size and (part := self._buffer[self._place : self._place + size] or self._next(size)):
            self._place += len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, limit: int, /) -> bytes:
        """Return the next line, at most ``limit`` bytes of it, and nothing at the end."""
        parts: list[bytes] = []
        while limit and (self._place < len(self._buffer) or self._fill()):
            end = self._buffer.find(b"\n", self._place, self._place + limit) + 1
            part = self._buffer[self._place : end or self._place + limit]
            self._place += len(part)
            limit -= len(part)
            parts.append(part)
            if end:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip_space(self) -> int:
        """Pass over white space; return how many lines end in it."""
        lines = 0
        while (self._place < len(self._buffer) or self._fill()) and (space := _SPACE.match(self._buffer, self._place)):
            lines += self._buffer.count(b"\n", self._place, space.end())
            self._place = space.end()
        return lines

    def unread(self, data: bytes) -> None:
        """Put consumed bytes back in front of the others."""
        self._buffer, self._place = data + self._buffer[self._place :], 0

    def _next(self, size: int) -> bytes:
        """Return some of the next bytes without consuming them, when the buffer is empty."""
        self._fill()
        return self._buffer[:size]

    def _fill(self) -> bool:
        """Read more into the buffer; return whether the source had more."""
        more = self._read(_CHUNK) or b""  # A raw file returns nothing at all where it would wait.
        if self._tell is not None:
            self._tell(len(more))
        self._buffer, self._place = self._buffer[self._place :] + more, 0
        return bool(more)
