"""Reading files of traces that are compressed by gzip or zstd, told by their first bytes and with bounded memory."""

import io
import zlib
from collections.abc import Callable
from typing import Final, cast, final

from agent_identity.evidence.otlp import ByteLines
from agent_identity.evidence.segments import zstandard_module

__all__ = ["MAX_TRACES", "inflated", "is_compressed"]

MAX_TRACES: Final = 64 * 1024**3
"""Bytes that a compressed file of traces may have once it is decompressed; what follows is not read."""

_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_CHUNK: Final = 256 * 1024
_MEMBER: Final = 31  # The window of zlib, and the header and the checksum of gzip.
_MAX_WINDOW: Final = 128 * 1024 * 1024
_SIP: Final = 1024  # Bytes of zstd that become 32 MiB at most.


def is_compressed(head: bytes) -> bool:
    """Return whether a file that begins so is compressed; no form of traces begins like that."""
    return head.startswith((_GZIP, _ZSTD))


def inflated(head: bytes, source: ByteLines) -> ByteLines:
    """Return what a compressed file holds; several members or frames are one file.

    Args:
        head: How the file begins.
        source: The file.

    Raises:
        ConfigurationError: It is compressed by zstd, and the extra of this name is not installed.
    """
    read = source.readline
    return io.BufferedReader(_Raw(_gunzip(read) if head.startswith(_GZIP) else _unzstd(read)), _CHUNK)


@final
class _Raw(io.RawIOBase):
    """A file whose content comes from a function."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        self._total += len(data)
        if self._total > MAX_TRACES:
            raise OSError(f"expected at most {MAX_TRACES} bytes in a compressed file, got more")
        buffer[: len(data)] = data
        return len(data)


def _gunzip(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    engine = zlib.decompressobj(_MEMBER)
    begun = False

    def inflate(size: int) -> bytes:
        nonlocal engine, begun
        while True:
            data = engine.unused_data or engine.unconsumed_tail or read(_CHUNK)
            if not data:
                if begun and not engine.eof:
                    raise OSError("expected a whole gzip file, got one that ends early")
                return b""
            if engine.eof:
                engine, begun = zlib.decompressobj(_MEMBER), False
            begun = True
            try:
                found = engine.decompress(data, size)
            except zlib.error:
                raise OSError("expected a gzip file, got other or damaged bytes") from None
            if found:
                return found

    return inflate


def _unzstd(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    zstandard = zstandard_module()
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    # Its reader of streams takes a file that ends early for one that is whole.
    engine, begun = decompressor.decompressobj(), False
    waiting, left = memoryview(b""), b""

    def inflate(size: int) -> bytes:
        nonlocal engine, begun, waiting, left
        while not waiting:
            data = left or read(_SIP)
            if not data:
                if begun and not engine.eof:
                    raise OSError("expected a whole zstd file, got one that ends early")
                return b""
            if engine.eof:
                engine = decompressor.decompressobj()
            begun = True
            try:
                waiting = memoryview(cast("bytes", engine.decompress(data)))
            except zstandard.ZstdError:
                raise OSError("expected a zstd file, got other or damaged bytes") from None
            left = cast("bytes", engine.unused_data)
        found, waiting = waiting[:size], waiting[size:]
        return bytes(found)

    return inflate
