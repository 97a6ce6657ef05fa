"""Recognising calls that look like earlier ones, without parsing them.

A call is cut into what its task says (*context*), its place in the stream, and the rest, which says what was done.
A *pattern* is the shape of a rest that the full checks have accepted, and what all calls of this shape say. Whether a
record has the right form is a matter of each of its members alone, so that a known rest between the bytes of a known
context, with the place that belongs there, is a record that the full checks accept as well.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias, cast, final

import orjson

from agent_identity.audit.shapes import Path, Shapes, Slots, slots_of

__all__ = [
    "Context",
    "Cut",
    "Pattern",
    "Patterns",
    "Said",
    "context_of",
    "cut",
    "place_of",
    "spent_uses",
]

_CALLS: Final = frozenset({"intent", "outcome"})
_ARGUMENTS: Final = ("action", "args")
_INTENT: Final = ("intent",)
_COMPARED: Final[frozenset[Path]] = frozenset({_INTENT})
_NEEDED: Final[frozenset[Path]] = frozenset({("id",), ("time", "start")})
_AGENT: Final = b',"agent":{'
_DECISION: Final = b'],"decision":{'
_PRINCIPAL: Final = b',"principal":{'
_STREAM: Final = b',"stream":{'
_TASK: Final = b',"task":{'
_TIME: Final = b',"time":{'
_ELSEWHERE: Final = ("agent", "chain", "principal", "stream", "task")


class Context(NamedTuple):
    """What every call under one grant says, in the bytes of the record.

    Attributes:
        agent: The members ``agent`` and ``chain``.
        principal: The member ``principal``.
        task: The member ``task``.
    """

    agent: bytes
    principal: bytes
    task: bytes


class Cut(NamedTuple):
    """The parts of a call.

    Attributes:
        context: What its task says.
        rest: All but context and place.
        first: Where the context was in the rest.
        second: How many bytes of the rest are between its parts.
    """

    context: Context
    rest: bytes
    first: int
    second: int


_ENDED: Final = frozenset({"success", "error", "cancelled"})
"""Outcomes of bodies that came to an end. Each such call had a share of its own: a rerun ends in place of the first."""


def spent_uses(record: Mapping[str, object]) -> int:
    """Return how many uses of a limit a record shows: 1 for the outcome of a body that came to an end."""
    ended = record.get("outcome") in _ENDED and "intent" in record
    return int(ended and _takes_a_share(cast("Mapping[str, str]", record["decision"])))


def _takes_a_share(decision: Mapping[str, str]) -> bool:
    """Return whether a body that runs under a decision takes from the limits; the handler of a route does not."""
    effect = decision["effect"]
    return effect in ("allow", "warn") or (effect, decision["enforced"]) == ("route", "allow")


class Pattern(NamedTuple):
    """What all records of a pattern have in common, and where their slots are.

    Attributes:
        kind: ``intent`` or ``outcome``.
        tool: The tool.
        outcome: How the call ended, if it did.
        effect: What was decided.
        monitored: Whether the decision was only recorded.
        spent: See :func:`spent_uses`.
        first: Where the context is.
        second: How many bytes are between its parts.
        arguments: The slot of the digest of the arguments, or -1.
        id: The slot of the record id.
        intent: The slot of the intent, or -1.
        start: The slot of the time.
    """

    kind: str
    tool: str
    outcome: str | None
    effect: str
    monitored: bool
    spent: int
    first: int
    second: int
    arguments: int
    id: int
    intent: int
    start: int

    def said(self, slots: Slots) -> "Said":
        """Return what a call says, by its slots."""
        return (
            self,
            slots[self.id],
            slots[self.intent] if self.intent >= 0 else None,
            slots[self.arguments] if self.arguments >= 0 else None,
            slots[self.start],
        )


Said: TypeAlias = tuple[Pattern, bytes, bytes | None, bytes | None, bytes]
"""What a recognised call says: its pattern, id, intent, digest of the arguments, and time."""


def place_of(stream: bytes, prev: bytes, seq: int) -> bytes:
    """Return the bytes of the member ``stream``.

    Args:
        stream: The id of the stream.
        prev: The leaf hash of the record before, in hex.
        seq: The place in the stream.
    """
    return b'"stream":{"id":"%s","prev":"%s","seq":"%d"},' % (stream, prev, seq)


def cut(data: bytes) -> Cut | None:
    """Return the parts of a call, or ``None`` if the members are not there or stand in another order."""
    ends = [0]
    for mark in (_AGENT, _DECISION, _PRINCIPAL, _STREAM, _TASK, _TIME):
        found = data.find(mark, ends[-1])
        if found < 0:
            return None
        ends.append(found + (2 if mark is _DECISION else 1))
    _, agent, decision, principal, stream, task, time = ends
    context = Context(data[agent:decision], data[principal:stream], data[task:time])
    return Cut(context, b"".join((data[:agent], data[decision:principal], data[time:])), agent, principal - decision)


def context_of(record: Mapping[str, object], task: Mapping[str, str]) -> Context:
    """Return how the calls of a task are written, as far as its first record tells.

    Args:
        record: A record of the task that the full checks have accepted.
        task: Its member ``task``, without what calls do not repeat.
    """
    agent, principal, of_task = (
        orjson.dumps(part, option=orjson.OPT_SORT_KEYS)[1:-1] + b","
        for part in (
            {"agent": record["agent"], "chain": record["chain"]},
            {"principal": record["principal"]},
            {"task": task},
        )
    )
    return Context(agent, principal, of_task)


@final
class Patterns:
    """The patterns that were learned so far, a bounded number."""

    def __init__(self) -> None:
        self._shapes: Shapes[Pattern] = Shapes(_COMPARED)
        self.find = self._shapes.find
        self.find_all = self._shapes.find_all

    def learn(self, record: Mapping[str, object], data: bytes) -> Context | None:
        """Make a pattern of a record that the full checks have accepted, if it is a call that can be one.

        Args:
            record: The record.
            data: Its canonical bytes.

        Returns:
            Its context, with which it would be recognised.
        """
        if record["kind"] not in _CALLS or "chain" not in record:
            return None
        rest = {name: value for name, value in record.items() if name not in _ELSEWHERE}
        parts = cut(data)
        if parts is None or parts.rest != orjson.dumps(rest, option=orjson.OPT_SORT_KEYS):
            return None
        if self.find(parts.rest) is not None:
            return parts.context
        slots = slots_of(rest)
        paths = [slot.path for slot in slots]
        if not _NEEDED.issubset(paths):
            return None
        self._shapes.learn(slots, parts.rest, _pattern(record, paths, parts))
        return parts.context


def _pattern(record: Mapping[str, object], paths: list[Path], parts: Cut) -> Pattern:
    action = cast("Mapping[str, str]", record["action"])
    decision = cast("Mapping[str, str]", record["decision"])
    return Pattern(
        kind=cast("str", record["kind"]),
        tool=action["tool"],
        outcome=cast("str | None", record.get("outcome")),
        effect=decision["effect"],
        monitored=decision["mode"] == "monitor",
        spent=spent_uses(record),
        first=parts.first,
        second=parts.second,
        arguments=paths.index(_ARGUMENTS) if _ARGUMENTS in paths else -1,
        id=paths.index(("id",)),
        intent=paths.index(_INTENT) if _INTENT in paths else -1,
        start=paths.index(("time", "start")),
    )
