"""Intents that wait for their outcomes, with bounded memory."""

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final, NamedTuple, TypeAlias, final

import orjson

from agent_identity.audit.findings import Place
from agent_identity.audit.overflow import Overflow

__all__ = ["Call", "Fields", "Waiting"]

_MAX_WAITING: Final = 20_000  # Intents in memory, of some 500 bytes each.


class Call(NamedTuple):
    """What intent and outcome of a call must agree on, and where the record is.

    Attributes:
        grant: The hash of the grant that the call is under; ``None`` outside any task.
        tool: The tool.
        arguments: The digest of the arguments, or ``None`` without any.
        id: The id of the record.
        stream: Its stream.
        seq: Its place.
    """

    grant: bytes | None
    tool: str
    arguments: bytes | None
    id: bytes
    stream: str
    seq: int

    def place(self) -> Place:
        """Return where the record is."""
        return Place(self.id.decode(), self.stream, self.seq)

    def packed(self) -> bytes:
        """Return the bytes from which :meth:`unpacked` makes it again."""
        grant, arguments = (None if part is None else part.decode() for part in (self.grant, self.arguments))
        return orjson.dumps((grant, self.tool, arguments, self.id.decode(), self.stream, self.seq))

    @classmethod
    def unpacked(cls, data: bytes) -> "Call":
        """Return the call that :meth:`packed` kept."""
        grant, tool, arguments, identifier, stream, seq = orjson.loads(data)
        return cls(_encoded(grant), tool, _encoded(arguments), identifier.encode(), stream, seq)


_SEQ: Final = itemgetter(5)

Fields: TypeAlias = tuple[bytes | None, str, bytes | None, bytes, str, int]
"""The fields of a :class:`Call`; most calls need not become one."""


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


@final
class Waiting:
    """Intents without an outcome, in the order in which they came, with bounded memory."""

    def __init__(self) -> None:
        self.near: dict[bytes, Call] = {}
        self.lowest, self.highest = b"~", b""  # Of the ids of all that ever were here; they grow with time.
        self.far = Overflow()
        self._number = 0

    def put(self, call: Call) -> None:
        """Keep an intent; a later one with the same id takes its place."""
        self.near[call.id] = call
        if call.id < self.lowest:  # noqa: PLR1730  Half as quick with min().
            self.lowest = call.id
        if call.id > self.highest:  # noqa: PLR1730
            self.highest = call.id
        if len(self.near) > _MAX_WAITING:
            self.spill()

    def exchange(self, opened: dict[bytes, Fields], ended: Iterable[bytes]) -> None:
        """Keep intents, and keep those no longer, old or new, that have an outcome.

        Args:
            opened: New intents by their ids.
            ended: Ids of intents in memory; no longer of use are those of the new ones.
        """
        if opened:
            self.lowest, self.highest = min(self.lowest, *opened), max(self.highest, *opened)
        for intent in ended:
            if opened.pop(intent, None) is None:
                del self.near[intent]
        for call in sorted(opened.values(), key=_SEQ):
            self.put(Call(*call))

    def pop(self, intent: bytes) -> Call | None:
        """Return an intent by its id, and wait no longer."""
        found = self.near.pop(intent, None)
        if not self.far:
            return found
        far = self.far.pop(intent)
        return found or (None if far is None else Call.unpacked(far[1]))

    def none_between(self, lowest: bytes, highest: bytes) -> bool:
        """Return whether no intent that waits has an id from one to another."""
        return not self.far and not any(lowest <= intent <= highest for intent in self.near)

    def fit(self, outcomes: Iterable[tuple[bytes, Call]]) -> bool:
        """Return whether outcomes agree with those of their intents that wait in memory."""
        found = ((self.near.get(intent), outcome) for intent, outcome in outcomes)
        return all(intent is None or intent[:3] == outcome[:3] for intent, outcome in found)

    def spill(self) -> None:
        """Move all to the disk."""
        rows = list[tuple[bytes, int, bytes]]()
        for call in self.near.values():
            before = self.far.get(call.id)
            self._number += 1
            rows.append((call.id, self._number if before is None else before[0], call.packed()))
        self.far.put(rows)
        self.near.clear()

    def calls(self) -> Iterator[Call]:
        """Return all, each once."""
        if self.far:
            self.spill()
            yield from (Call.unpacked(data) for _, data in self.far.rows())
        else:
            yield from self.near.values()
