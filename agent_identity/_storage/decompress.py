"""Reader of gzip or zstd traces, recognized by their first bytes, with bounded memory and work."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, final

from agent_identity._storage.byte_reader import ByteReader
from agent_identity._storage.codecs import gunzip, unzstd

MAX_TRACES: Final = 64 * 1024**3
"""Bytes that a compressed file of traces may have once it is decompressed; what follows is not read."""

FREE_BYTES: Final = 4 * 1024 * 1024
"""Bytes that even the smallest compressed file may become."""

FREE_DOCUMENTS: Final = 4_096
"""Documents that even the smallest compressed file may hold."""

MAX_RATIO: Final[Mapping[str, int]] = MappingProxyType({"gzip": 200, "zstd": 1_000})
"""Maximum inflation ratio of a compressed file, beyond :data:`FREE_BYTES`.

Spans of ours become 6 to 8 times as large, spans that repeat a conversation of 100 KB each 87 times by gzip, which
looks back 32 KB, and 353 times by zstd. A span has random ids, so that a document takes 20 bytes even then; one
for each compressed byte is more than evidence has.
"""

_GZIP, _ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"


class InflatedError(OSError):
    """A compressed file inflates beyond the limits for evidence; the text says what to do."""


def is_compressed(head: bytes) -> bool:
    """Return whether these first bytes are those of a compressed file; no form of traces begins like that."""
    return head.startswith((_GZIP, _ZSTD))


@final
class Inflating:
    """Reads the content of a compressed file; several members or frames are one file.

    Args:
        head: The first bytes of the file.
        source: Reads the file.

    Attributes:
        reader: Reads what it holds.

    Raises:
        ConfigurationError: It is compressed by zstd, and the extra of this name is not installed.
    """

    def __init__(self, head: bytes, source: ByteReader) -> None:
        self._name = "gzip" if head.startswith(_GZIP) else "zstd"
        self._source = source
        self._ratio = MAX_RATIO[self._name]
        self._room, self._documents, self._total = FREE_BYTES, FREE_DOCUMENTS, 0
        self._inflate = gunzip(self._compressed, several=True) if self._name == "gzip" else unzstd(self._compressed)
        self.reader = ByteReader(self._inflated)

    def take_document(self) -> None:
        """Count a document.

        Raises:
            InflatedError: There are more than evidence of this size has.
        """
        self._documents -= 1
        if self._documents < 0:
            self._refuse("documents than it has bytes")

    def _compressed(self, size: int) -> bytes:
        data = self._source.read(size)
        self._room += self._ratio * len(data)
        self._documents += len(data)
        return data

    def _inflated(self, size: int) -> bytes:
        data = self._inflate(size)
        self._total += len(data)
        if self._total > MAX_TRACES:
            raise OSError(f"the compressed file inflates to more than {MAX_TRACES} bytes; export smaller files")
        self._room -= len(data)
        if self._room < 0:
            self._refuse(f"than {self._ratio} times its bytes")
        return data

    def _refuse(self, what: str) -> None:
        raise InflatedError(
            f"the {self._name} file inflates to more {what}, which no evidence does; if you trust its "
            "source, decompress it and verify the result"
        )
