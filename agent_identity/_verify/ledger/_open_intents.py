"""Intents that wait for their outcomes, and outcomes that wait for their intents, in bounded memory."""

from collections.abc import Iterator
from typing import Final, final

import msgspec

from agent_identity._verify.report.findings import Place
from agent_identity._verify.store.spill_store import SpillStore

__all__ = ["Call", "Deferred", "OpenIntents"]

_NEAR: Final = 20_000  # Intents in memory, of some 500 bytes each.


@final
class Call(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The members of a call that intent and outcome share, and the place of the record.

    Attributes:
        grant: The hash of the grant that the call is under; ``None`` outside any task.
        tool: The tool.
        arguments: The digest of the arguments, or ``None`` without any.
        id: The id of the record.
        stream: Its stream.
        seq: Its place.
        decided: Effect, enforced effect, mode and approval by which the call runs; ``None`` if it did not.
        returned: Whether the body returned.
        mode: The mode of the enforcer.
    """

    grant: str | None
    tool: str
    arguments: str | None
    id: str
    stream: str
    seq: int
    decided: tuple[str, str, str, str | None] | None = None
    returned: bool = False
    mode: str | None = None

    def place(self) -> Place:
        """Return the place of the record."""
        return Place(self.id, self.stream, self.seq)

    def packed(self) -> bytes:
        """Serialize for the spill; :meth:`unpacked` reverses it."""
        return msgspec.json.encode(self)

    @classmethod
    def unpacked(cls, data: bytes) -> "Call":
        """Deserialize the bytes of :meth:`packed`."""
        return msgspec.json.decode(data, type=cls)

    def fits(self, intent: "Call") -> bool:
        """Return whether grant, tool, arguments and mode are those of an intent, and what ran was decided as there.

        What inspectors and rules find in a result may turn ``allow`` into ``warn``, or change the result. The body of
        a call that was handed to a route does not return, whatever becomes of the result of the route.
        """
        if (self.grant, self.tool, self.arguments, self.mode) != (
            intent.grant,
            intent.tool,
            intent.arguments,
            intent.mode,
        ):
            return False
        ran, allowed = self.decided, intent.decided
        if ran is None or allowed is None or ran == allowed:
            return True
        if ran[1] == "modify":
            handed = allowed[0] == "route" and allowed[3] is None
            return ran[2:] == allowed[2:] and not (handed and self.returned)
        return ran[0] == "warn" and allowed[0] == "allow" and ran[1:] == allowed[1:]


_pack: Final = msgspec.json.encode
_unpack: Final = msgspec.json.Decoder(tuple[str, Call]).decode


@final
class OpenIntents:
    """Intents without an outcome, in the order of their arrival."""

    def __init__(self) -> None:
        self._calls = SpillStore(Call.packed, Call.unpacked, near=_NEAR)

    def put(self, call: Call) -> bool:
        """Add an intent in place of one with the same id; return whether there was one."""
        key = call.id.encode()
        known = key in self._calls
        self._calls.put(key, call)
        return known

    def pop(self, intent: str) -> Call | None:
        """Remove an intent and return it, by its id."""
        return self._calls.pop(intent.encode())

    def __iter__(self) -> Iterator[Call]:
        return self._calls.values()


@final
class Deferred:
    """Outcomes whose intents are not in their streams, with the ids of these intents, in the order of their arrival."""

    def __init__(self) -> None:
        self._calls = SpillStore[tuple[str, Call]](_pack, _unpack, near=_NEAR)
        self._number = 0

    def put(self, intent: str, outcome: Call) -> None:
        """Add an outcome."""
        self._number += 1
        self._calls.put(b"%d" % self._number, (intent, outcome))

    def __iter__(self) -> Iterator[tuple[str, Call]]:
        return self._calls.values()
