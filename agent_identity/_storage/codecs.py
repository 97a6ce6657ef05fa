"""Bounded-memory decompression of gzip and zstd files; a truncated file is an error."""

import zlib
from collections.abc import Iterator
from contextlib import suppress
from types import ModuleType
from typing import Final, Protocol, Self

from agent_identity._storage.byte_reader import Read
from agent_identity.errors import ConfigurationError

GZIP: Final = 31
"""The window of zlib, and the header and the checksum of gzip."""

_CHUNK: Final = 256 * 1024
_MAX_WINDOW: Final = 128 * 1024 * 1024
_SIP: Final = 1024  # Bytes; those of zstd become 32 MiB at most.


class _Inflating(Protocol):
    """What ``zlib.decompressobj`` returns, which has no public name."""

    def decompress(self, data: bytes | memoryview, max_length: int = 0, /) -> bytes: ...

    def copy(self) -> Self: ...


def zstandard_module() -> ModuleType:
    """Return the zstd library, which is an extra.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        import zstandard  # An extra.
    except ImportError:
        raise ConfigurationError(
            "the extra zstd is not installed, which files compressed by zstd need; run pip "
            "install '.[zstd]' in the checkout"
        ) from None
    return zstandard


def gunzip(read: Read, *, several: bool) -> Read:
    """Return a reader of the decompressed content of a gzip file; it raises ``OSError`` for damaged content.

    Args:
        read: Reads the file.
        several: Whether any number of members may follow each other (RFC 1952, section 2.2), or it is exactly one.
    """
    engine, begun = zlib.decompressobj(GZIP), not several
    chunk, position, sip = memoryview(b""), 0, _SIP
    spoiled: Iterator[bytes] | None = None

    def inflate(size: int) -> bytes:
        nonlocal engine, begun, chunk, position, sip, spoiled
        while True:
            if spoiled is not None:
                return next(spoiled)
            # After the end of a member, the unconsumed input is the unused input.
            data: bytes | memoryview = b"" if engine.eof else engine.unconsumed_tail
            if not data:
                if position == len(chunk):
                    chunk, position = memoryview(read(_CHUNK)), 0
                # Zlib copies all bytes after a member, so it gets little until one proves to be long.
                data, sip = chunk[position : position + sip], min(2 * sip, _CHUNK)
                position += len(data)
            if not data:
                return _ended("gzip", whole=engine.eof or not begun)
            if engine.eof:
                _check_several(several=several)
                engine = zlib.decompressobj(GZIP)
            begun = True
            taken, spoiled = _taken(engine, data, size)
            if engine.eof:
                position, sip = position - len(engine.unused_data), _SIP
            if taken:
                return taken

    return inflate


def _taken(engine: _Inflating, data: bytes | memoryview, size: int) -> tuple[bytes, Iterator[bytes] | None]:
    """Return what bytes give, at most so many; of damaged ones nothing, and what stands before the damage."""
    before = engine.copy()
    try:
        return engine.decompress(data, size), None
    except zlib.error:
        return b"", _up_to_damage(before, bytes(data))


def _up_to_damage(engine: _Inflating, data: bytes) -> Iterator[bytes]:
    """Yield what bytes of a damaged gzip file give, one after the other, up to the first that gives nothing."""
    with suppress(zlib.error):
        yield from filter(None, map(engine.decompress, map(bytes, zip(data))))
    raise OSError("the bytes are not gzip, or are damaged")


def unzstd(read: Read) -> Read:
    """Return a reader of the decompressed content of a zstd file (RFC 8878), any number of frames; see :func:`gunzip`.

    Args:
        read: Reads the file.

    Raises:
        ConfigurationError: The extra ``zstd`` is not installed.
    """
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
                return _ended("zstd", whole=engine.eof or not begun)
            if engine.eof:
                engine = decompressor.decompressobj()
            begun = True
            try:
                waiting = memoryview(bytes(engine.decompress(data)))
            except zstandard.ZstdError:
                raise OSError("the bytes are not zstd, or are damaged") from None
            left = bytes(engine.unused_data)
        taken, waiting = waiting[:size], waiting[size:]
        return bytes(taken)

    return inflate


def _ended(name: str, *, whole: bool) -> bytes:
    if not whole:
        raise OSError(f"the {name} file ends early")
    return b""


def _check_several(*, several: bool) -> None:
    if not several:
        raise OSError("bytes follow the end of the gzip file")
