"""Starting points of excerpted stream parts; the file is unsigned, the heads prove it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, final

from agent_identity._common.narrowing import is_object
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import RecordValue, decode_record, encode_record
from agent_identity._ledger.prune_statement import MAX_PEAKS, count_of, hash_of, texts_of
from agent_identity._ledger.transparency.merkle import CompactRange
from agent_identity._storage.layout import is_stream_id

_VERSION: Final = "1"
_FACTS: Final = (frozenset({"end", "size"}), frozenset({"end", "last", "peaks", "size"}))
"""The required and the permitted members of a start."""


@final
@dataclass(frozen=True, slots=True)
class Start:
    """The state of a stream before the excerpted part.

    Attributes:
        size: The number of records before it.
        last: The leaf hash of the last of them; empty without any.
        peaks: The compact range over them.
        end: The place of the last record that is given or withheld: the size of a head.
    """

    size: int
    last: bytes
    peaks: tuple[bytes, ...]
    end: int

    def tree(self) -> CompactRange:
        """Return the tree over the records before."""
        return CompactRange.of_peaks(self.size, self.peaks)


@final
@dataclass(frozen=True, slots=True)
class Excerpt:
    """The excerpted parts of streams.

    Attributes:
        streams: By the ids of the streams.
    """

    streams: Mapping[str, Start]

    def to_bytes(self) -> bytes:
        """Return the file ``excerpt.json``."""
        streams: dict[str, RecordValue] = {}
        for name, start in self.streams.items():
            before: dict[str, RecordValue] = {"size": str(start.size), "end": str(start.end)}
            if start.size:
                before |= {
                    "last": b64url_encode(start.last),
                    "peaks": tuple(map(b64url_encode, start.peaks)),
                }
            streams[name] = before
        return encode_record({"v": _VERSION, "streams": streams})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the excerpt that a file describes.

        Raises:
            ValueError: It describes none.
        """
        members = decode_record(data)
        streams = members.get("streams")
        if members.keys() != {"streams", "v"} or members["v"] != _VERSION or not isinstance(streams, dict):
            raise ValueError(f"its members are not streams and v {_VERSION}; make the excerpt again")
        return cls({_stream(name): _start(start) for name, start in streams.items()})


def _stream(name: str) -> str:
    if not is_stream_id(name):
        raise ValueError("a name is not the id of a stream")
    return name


def _start(value: object) -> Start:
    facts: Mapping[str, object] = value if is_object(value) else {}
    if not _FACTS[0] <= facts.keys() <= _FACTS[1]:
        raise ValueError("a part does not state exactly the stream's state before it")
    size, end = count_of(facts["size"]), count_of(facts["end"])
    if not end:
        raise ValueError("a part ends before its first record")
    if bool(size) != ("last" in facts) or size > end:
        raise ValueError("the size of a part is beyond its end, or does not fit the hash of the record before it")
    last = hash_of(facts["last"]) if size else b""
    start = Start(size, last, tuple(map(hash_of, texts_of(facts.get("peaks", ()), MAX_PEAKS))), end)
    start.tree()
    return start
