"""Reading files of traces that are compressed by gzip or zstd, told by their first bytes and with bounded memory."""

import io
from typing import Final, final

from agent_identity.evidence.codecs import Read, gunzip, unzstd
from agent_identity.evidence.otlp import ByteLines

__all__ = ["MAX_TRACES", "inflated", "is_compressed"]

MAX_TRACES: Final = 64 * 1024**3
"""Bytes that a compressed file of traces may have once it is decompressed; what follows is not read."""

_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_CHUNK: Final = 256 * 1024


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
    inflate = gunzip if head.startswith(_GZIP) else unzstd
    return io.BufferedReader(_Raw(inflate(source.readline, several=True)), _CHUNK)


@final
class _Raw(io.RawIOBase):
    """A file whose content comes from a function."""

    def __init__(self, read: Read) -> None:
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
