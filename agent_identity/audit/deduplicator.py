"""Which records of spans were seen, and at which places of their streams: no record may be there in two versions."""

from collections.abc import Iterator
from struct import Struct
from typing import Final, final

from agent_identity.audit.ledger_index import HALF, SpanRecord
from agent_identity.audit.spill_store import SpillStore
from agent_identity.evidence.records import AnyRecord

__all__ = ["Deduplicator"]

_PLACE: Final = Struct(">16sQ")
_NEAR: Final = 20_000  # Entries in memory, of some 250 bytes each.


@final
class Deduplicator:
    """The verified records so far: of each its id, its place, and half of its leaf hash and of that before it."""

    def __init__(self) -> None:
        self._ids = SpillStore(bytes, bytes, near=_NEAR)
        self._places = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, record: AnyRecord, leaf: bytes) -> tuple[str, ...] | None:
        """Hold a record against those before it.

        Args:
            record: A record.
            leaf: Its leaf hash.

        Returns:
            What contradicts them, as codes of findings; ``None`` if it is one of them.
        """
        identifier, stream = _bytes_of(record.id), _bytes_of(record.stream.id)
        seq, half = record.stream.number, leaf[:HALF]
        prev = bytes.fromhex((record.stream.prev or "")[: 2 * HALF])
        known = self._ids.get(identifier)
        if known is not None and known[:HALF] == half:
            return None
        found: list[str] = []
        place = _PLACE.pack(stream, seq)
        occupant = self._places.get(place)
        if known is not None:
            found.append("two_versions")
        if occupant is not None and occupant[:HALF] != half:
            found.append("two_at_one_place")
        if not self._links(stream, seq, half, prev):
            found.append("broken_link")
        if known is None:
            self._ids.put(identifier, half + place)
        if occupant is None:
            self._places.put(place, half + prev)
        return tuple(found)

    def _links(self, stream: bytes, seq: int, half: bytes, prev: bytes) -> bool:
        """Return whether a record continues the one before it, and the one behind it this one, where they are known."""
        before = self._places.get(_PLACE.pack(stream, seq - 1)) if prev else None
        after = self._places.get(_PLACE.pack(stream, seq + 1))
        return (before is None or before[:HALF] == prev) and (not after or after[HALF:] in (b"", half))

    def records(self) -> Iterator[SpanRecord]:
        """Yield the records, in the order in which they came."""
        for identifier, found in self._ids.items():
            yield SpanRecord(identifier, found[:HALF], *_PLACE.unpack(found[HALF:]))


def _bytes_of(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))
