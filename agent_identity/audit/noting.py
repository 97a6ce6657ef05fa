"""What is noted of each record of a ledger while it is verified, for whoever holds other evidence against it."""

from collections.abc import Sequence
from struct import Struct
from typing import Final, Protocol, final

from agent_identity.evidence.span_copy import TRAVELLING

__all__ = ["NOTED", "Note", "Noted"]

NOTED: Final = Struct("16s?")
"""The id of a record, and whether it is of a kind that travels with spans."""


class Note(Protocol):
    """Takes the records of a stream that stand where they belong, in their order."""

    def one(self, identifier: bytes, kind: str, leaf: bytes, seq: int) -> None:
        """Take a record: its id as it is written, its kind, its leaf hash and its place."""
        ...

    def part(self, first: int, noted: bytes, leaves: bytes) -> None:
        """Take the records from a place on: what :data:`NOTED` packs for each, and their leaf hashes."""
        ...


@final
class Noted:
    """Packs what is noted of the records of a part of a stream, whose leaf hashes are kept anyway."""

    def __init__(self) -> None:
        self.packed = bytearray()

    def one(self, identifier: bytes, kind: str, leaf: bytes, seq: int) -> None:  # noqa: ARG002  As a Note has it.
        """Take a record."""
        self.packed += NOTED.pack(bytes.fromhex(identifier.decode().replace("-", "")), kind in TRAVELLING)

    def wait(self, number: int) -> None:
        """Leave room for records that are settled later."""
        self.packed += bytes(NOTED.size * number)

    def settle(self, behind: Sequence[int], ids: Sequence[bytes], kinds: Sequence[str]) -> None:
        """Take records for which there is room.

        Args:
            behind: How many records stand behind each.
            ids: Their ids.
            kinds: Their kinds.
        """
        end = len(self.packed) - NOTED.size
        raw = bytes.fromhex(b"".join(ids).decode().replace("-", ""))
        for number, (after, kind) in enumerate(zip(behind, kinds, strict=True)):
            NOTED.pack_into(
                self.packed, end - NOTED.size * after, raw[16 * number : 16 * number + 16], kind in TRAVELLING
            )
