"""Intents that wait for their outcomes, with bounded memory."""

from collections.abc import Iterator
from typing import Final, NamedTuple, final

import orjson

from agent_identity.audit.findings import Place
from agent_identity.audit.spill_store import SpillStore

__all__ = ["Call", "OpenIntents"]

_NEAR: Final = 20_000  # Intents in memory, of some 500 bytes each.


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

    grant: str | None
    tool: str
    arguments: str | None
    id: str
    stream: str
    seq: int

    def place(self) -> Place:
        """Return where the record is."""
        return Place(self.id, self.stream, self.seq)

    def packed(self) -> bytes:
        """Return the bytes from which :meth:`unpacked` makes it again."""
        return orjson.dumps(tuple(self))

    @classmethod
    def unpacked(cls, data: bytes) -> "Call":
        """Return the call that :meth:`packed` kept."""
        return cls(*orjson.loads(data))


@final
class OpenIntents:
    """Intents without an outcome, in the order in which they came."""

    def __init__(self) -> None:
        self._calls = SpillStore(Call.packed, Call.unpacked, near=_NEAR)

    def put(self, call: Call) -> None:
        """Keep an intent; a later one with the same id takes its place."""
        self._calls.put(call.id.encode(), call)

    def pop(self, intent: str) -> Call | None:
        """Return an intent by its id, and wait no longer."""
        return self._calls.pop(intent.encode())

    def __iter__(self) -> Iterator[Call]:
        return self._calls.values()
