"""Which records of spans were seen, and at which places of their streams: no record may be there in two versions."""

from collections.abc import Iterator, Mapping
from struct import Struct
from typing import Final, cast, final

from agent_identity.audit.key_table import KeyTable

__all__ = ["Seen"]

_PLACE: Final = Struct(">16sQ")
_ROW: Final = Struct(">16s16sQ8s?8s")  # Record, stream, place in it, hash, and that of the record before if it has one.
_STREAM: Final = 16
_FIRST: Final = bytes(8)


@final
class Seen:
    """The verified records so far: of each its id, its place, and the first 64 bits of its leaf hash.

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
        seq, short = int(members["seq"]), leaf[:8]
        linked = "prev" in members
        prev = bytes.fromhex(members["prev"][:16]) if linked else _FIRST
        known = self._ids.get(identifier)
        if known is not None and known[:8] == short:
            return None
        found: list[str] = []
        place = _PLACE.pack(stream, seq)
        occupant = self._places.get(place)
        if known is not None:
            found.append("two_versions")
        if occupant not in (None, short):
            found.append("two_at_one_place")
        before = self._places.get(_PLACE.pack(stream, seq - 1))
        if linked and before not in (None, prev):
            found.append("broken_link")
        if known is None:
            self._ids.put(identifier, short + stream)
        if occupant is None:
            self._places.put(place, short)
        if self._rows is not None:
            self._rows += _ROW.pack(identifier, stream, seq, short, linked, prev)
        return tuple(found)

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
        return all(short == before[place] for place, short in self._places.found(before).items())

    def merge(self, rows: bytes) -> None:
        """Take over the records of a part that fits."""
        for identifier, stream, seq, short, _, _ in _ROW.iter_unpack(rows):
            self._ids.put(identifier, short + stream)
            self._places.put(_PLACE.pack(stream, seq), short)

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Return the records by their ids: the 16 bytes of the id; the first 8 of the leaf hash, and the stream."""
        return self._ids.rows()


def _bytes_of(uuid: str) -> bytes:
    return bytes.fromhex(uuid.replace("-", ""))
