"""Which records of spans were seen, and at which places of their streams: no record may be there in two versions."""

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Final, cast, final

from agent_identity.audit.key_table import KeyTable
from agent_identity.audit.ledger_index import HALF, SpanRecord

__all__ = ["Seen"]

_PLACE: Final = Struct(">16sQ")
_ROW: Final = Struct(f">16s16sQ{HALF}s?{HALF}s")
"""Record, stream, place in it, half of its hash, and that of the record before if it has one."""

_STREAM: Final = 16


@final
class Seen:
    """The verified records so far: of each its id, its place, and half of its leaf hash and of that before it.

    Args:
        part: Only a part of the spans is read, so that it will be merged.
    """

    def __init__(self, *, part: bool = False) -> None:
        self._ids = KeyTable()
        self._places = KeyTable(_STREAM)
        self._rows = bytearray() if part else None

    def take(self, record: Mapping[str, object], leaf: bytes) -> tuple[str, ...] | None:
        """Hold a record against those before it.

        Args:
            record: A record of the right shape.
            leaf: Its leaf hash.

        Returns:
            What contradicts them, as codes of findings; ``None`` if it is one of them.
        """
        members = cast("Mapping[str, str]", record["stream"])
        identifier, stream = _bytes_of(cast("str", record["id"])), _bytes_of(members["id"])
        seq, half = int(members["seq"]), leaf[:HALF]
        prev = bytes.fromhex(members["prev"][: 2 * HALF]) if "prev" in members else b""
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
        if self._rows is not None:
            self._rows += _ROW.pack(identifier, stream, seq, half, bool(prev), prev)
        return tuple(found)

    def _links(self, stream: bytes, seq: int, half: bytes, prev: bytes) -> bool:
        """Return whether a record continues the one before it, and the one behind it this one, where they are known."""
        before = self._places.get(_PLACE.pack(stream, seq - 1)) if prev else None
        after = self._places.get(_PLACE.pack(stream, seq + 1))
        return (before is None or before[:HALF] == prev) and _continues(after, half)

    def shipped(self) -> bytes:
        """Return the records of a part, none of which contradicts another."""
        return bytes(self._rows or b"")

    def fits(self, rows: bytes) -> bool:
        """Return whether none of the records of a later part is known, or contradicts one that is."""
        found = list(_ROW.iter_unpack(rows))
        if self._ids.found([row[0] for row in found]):
            return False
        if self._places.found([_PLACE.pack(row[1], row[2]) for row in found]):
            return False
        before = {_PLACE.pack(row[1], row[2] - 1): row[5] for row in found if row[4]}
        if any(known[:HALF] != before[place] for place, known in self._places.found(before).items()):
            return False
        after = {_PLACE.pack(row[1], row[2] + 1): row[3] for row in found}
        return all(_continues(known, after[place]) for place, known in self._places.found(after).items())

    def merge(self, rows: bytes) -> None:
        """Take over the records of a part that fits."""
        for identifier, stream, seq, half, linked, prev in _ROW.iter_unpack(rows):
            place = _PLACE.pack(stream, seq)
            self._ids.put(identifier, half + place)
            self._places.put(place, half + prev if linked else half)

    def records(self) -> Iterator[SpanRecord]:
        """Return the records by their ids."""
        for identifier, found in self._ids.rows():
            yield SpanRecord(identifier, found[:HALF], *_PLACE.unpack(found[HALF:]))


def _continues(known: bytes | None, half: bytes) -> bool:
    """Return whether the record at the next place, if it is known and names the one before it, names this one."""
    return not known or known[HALF:] in (b"", half)


def _bytes_of(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))
