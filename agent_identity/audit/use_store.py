"""The uses of the grants of a source: some in memory, all others packed on the disk."""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, final

from agent_identity.audit.findings import Place
from agent_identity.audit.overflow import Overflow
from agent_identity.audit.uses import Use

__all__ = ["Packed", "UseStore"]

_MAX_NEAR: Final = 4_096  # Uses in memory, of some 4 KiB each, and as many packed ones of 1 KiB.
_SIEVE: Final = 1 << 23  # Bits; 1 MiB.


class Packed(NamedTuple):
    """A use as bytes.

    Attributes:
        grants: The hashes of its chain, joined by commas.
        data: From which :meth:`~agent_identity.audit.uses.Use.unpacked` makes it.
    """

    grants: bytes
    data: bytes

    @classmethod
    def of(cls, use: Use) -> "Packed":
        """Return the bytes of a use."""
        return cls(",".join(link["grant"] for link in use.chain).encode(), use.packed())

    @property
    def leaf(self) -> bytes:
        """The hash of the leaf grant."""
        return self.grants[-64:]


@final
class _Sieve:
    """Tells of most grants that were never seen that they were not, which spares a look at the disk."""

    def __init__(self) -> None:
        self._bits = bytearray(_SIEVE // 8)

    def __contains__(self, grant: bytes) -> bool:
        return all(self._bits[at >> 3] & (1 << (at & 7)) for at in _places(grant))

    def add(self, grant: bytes) -> None:
        """Note a grant."""
        for at in _places(grant):
            self._bits[at >> 3] |= 1 << (at & 7)


def _places(grant: bytes) -> tuple[int, int]:
    value = hash(grant)
    return value % _SIEVE, (value >> 32) % _SIEVE


@final
class UseStore:
    """Uses by the hash of their leaf grant, in the order in which they came, with bounded memory.

    Args:
        part: Whether only a part of the source is read, so that openings and ends are kept as events.
    """

    def __init__(self, *, part: bool) -> None:
        self._part = part
        self._uses: dict[bytes, Use] = {}
        self._packed: dict[bytes, tuple[int, Packed]] = {}
        self._far = Overflow()
        self._sieve = _Sieve()
        self._number = 0

    def find(self, grant: bytes) -> Use | None:
        """Return a use; one that was returned before may be on the disk afterwards, and is not to be changed then."""
        use = self._uses.get(grant)
        if use is not None:
            return use
        found = self._packed.pop(grant, None)
        if found is None and self._far and grant in self._sieve:
            row = self._far.get(grant)
            found = None if row is None else (row[0], Packed(b"", row[1].partition(b"\n")[2]))
        if found is None:
            return None
        use = Use.unpacked(found[1].data)
        use.number = found[0]
        if not self._part:
            use.events = None
        self._make_room()
        self._uses[grant] = use
        return use

    def create(self, record: Mapping[str, object], place: Place) -> Use:
        """Return a new use.

        Args:
            record: Its first record.
            place: Where that is.
        """
        self._make_room()
        self._number += 1
        use = Use(record, place, self._number)
        use.events = [] if self._part else None
        self._uses[use.grant] = use
        return use

    def adopt(self, packed: Packed) -> None:
        """Keep a use that another one found; its grant is not known yet."""
        self._number += 1
        self._packed[packed.leaf] = (self._number, packed)
        if len(self._packed) >= _MAX_NEAR:
            self._spill(self._packed)
            self._packed.clear()

    def packed(self) -> Iterator[Packed]:
        """Return all, in the order in which they came."""
        near = self._packed | {grant: (use.number, Packed.of(use)) for grant, use in self._uses.items()}
        if not self._far:
            yield from (packed for _, packed in sorted(near.values()))
            return
        self._spill(near)
        for _, row in self._far.rows():
            grants, _, data = row.partition(b"\n")
            yield Packed(grants, data)

    def uses(self) -> Iterator[Use]:
        """Return all, in the order in which they came; those that something refers to as they are."""
        if self._far or self._packed:
            for packed in self.packed():
                kept = self._uses.get(packed.leaf)
                yield kept if kept is not None and kept.kept else Use.unpacked(packed.data)
        else:
            yield from sorted(self._uses.values(), key=lambda use: use.number)

    def _make_room(self) -> None:
        if len(self._uses) >= _MAX_NEAR:
            self._spill({g: (use.number, Packed.of(use)) for g, use in self._uses.items() if not use.kept})
            self._uses = {grant: use for grant, use in self._uses.items() if use.kept}

    def _spill(self, near: Mapping[bytes, tuple[int, Packed]]) -> None:
        for grant in near:
            self._sieve.add(grant)
        self._far.put((grant, number, b"\n".join(packed)) for grant, (number, packed) in near.items())
