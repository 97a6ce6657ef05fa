"""Finds duplicate and conflicting records of spans, by their ids and their places in their streams."""

from collections.abc import Iterator
from struct import Struct
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._record.schema import AnyRecord
from agent_identity._verify.ledger.index import HALF, SpanRecord
from agent_identity._verify.store.spill_store import SpillStore

__all__ = ["Deduplicator"]

_PLACE: Final = Struct(">16sQ")
_NEAR: Final = 20_000  # Entries in memory, of some 250 bytes each.


@final
class Deduplicator:
    """The verified records so far: the id, place, and half of the leaf hash and of the one before it of each."""

    def __init__(self) -> None:
        self._ids = SpillStore(bytes, bytes, near=_NEAR)
        self._places = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, record: AnyRecord, leaf: bytes) -> tuple[str, ...] | None:
        """Compare a record with the earlier ones.

        Args:
            record: A record.
            leaf: Its leaf hash.

        Returns:
            The contradictions, as codes of findings; ``None`` for a record that was seen before.
        """
        identifier, half = bytes_of_id(record.id), leaf[:HALF]
        known = self._ids.get(identifier)
        if known is not None and known[:HALF] == half:
            return None
        stream, seq = bytes_of_id(record.stream.id), record.stream.number
        prev = b64url_decode(record.stream.prev or "")[:HALF]
        codes: list[str] = []
        place = _PLACE.pack(stream, seq)
        occupant = self._places.get(place)
        if known is not None:
            codes.append("two_versions")
        if occupant is not None and occupant[:HALF] != half:
            codes.append("two_at_one_place")
        if not self._links(stream, seq, half, prev):
            codes.append("broken_link")
        if known is None:
            self._ids.put(identifier, half + place)
        if occupant is None:
            self._places.put(place, half + prev)
        return tuple(codes)

    def _links(self, stream: bytes, seq: int, half: bytes, prev: bytes) -> bool:
        """Return whether a record continues the one before it, and the one after it continues this one, where known."""
        before = self._places.get(_PLACE.pack(stream, seq - 1)) if prev else None
        after = self._places.get(_PLACE.pack(stream, seq + 1))
        return (before is None or before[:HALF] == prev) and (not after or after[HALF:] in (b"", half))

    def records(self) -> Iterator[SpanRecord]:
        """Yield the records, in the order in which they came."""
        for identifier, packed in self._ids.items():
            yield SpanRecord(identifier, packed[:HALF], *_PLACE.unpack(packed[HALF:]))
