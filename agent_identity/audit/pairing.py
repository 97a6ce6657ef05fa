"""What many calls of a part say about each other, where it is what calls nearly always say.

Intents and their outcomes mostly follow each other closely. Where all calls of a batch are recognised and let through,
and each outcome has its intent before it, they are held against each other together. Else one looks at one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

from agent_identity.audit.batches import Cut, Told
from agent_identity.audit.waiting import Fields, Waiting

__all__ = ["Paired", "pair"]


class Paired(NamedTuple):
    """Calls of which each outcome agrees with its intent; in the order of the calls, but for the sets.

    Attributes:
        ids: Their ids.
        tools: Their tools.
        times: When they began, in nanoseconds since the Unix epoch.
        intents: Which of them are intents: 1, or else 0.
        opened: The intents, by their ids.
        ended: The ids of those that have an outcome now, some of them from before.
    """

    ids: list[bytes]
    tools: list[str]
    times: list[int]
    intents: bytearray
    opened: dict[bytes, Fields]
    ended: set[bytes]


def pair(cuts: Sequence[Cut], told: Sequence[Told], waiting: Waiting, stream: str) -> Paired | None:
    """Return what calls say about each other, or ``None`` if one has to look at each of them; nothing is changed.

    Args:
        cuts: The calls.
        told: What they say.
        waiting: The intents from before.
        stream: Their stream.
    """
    size = len(cuts)
    if waiting.far or not _let_through(told, size):
        return None
    paired = Paired([b""] * size, [""] * size, [0] * size, bytearray(size), {}, set())
    for one in told:
        if one.pattern.outcome is None:
            _open(cuts, one, paired, stream)
    # An id that is there twice would be one intent.
    intents = paired.intents.count(1)
    if intents != len(paired.opened) or not waiting.near.keys().isdisjoint(paired.opened):
        return None
    if not all(one.pattern.outcome is None or _end(cuts, one, paired, waiting) for one in told):
        return None
    return paired if len(paired.ended) == size - intents else None


def _let_through(told: Sequence[Told], size: int) -> bool:
    """Return whether so many calls are recognised, and none of them was blocked."""
    return sum(len(one.numbers) for one in told) == size and all(one.pattern.effect != "block" for one in told)


def _open(cuts: Sequence[Cut], told: Told, paired: Paired, stream: str) -> None:
    ids, tools, times, intents, opened, _ = paired
    tool = told.pattern.tool
    for number, identifier, arguments, time in zip(told.numbers, told.ids, told.arguments, told.starts, strict=True):
        grant, seq, _, _ = cuts[number]
        opened[identifier] = grant, tool, arguments, identifier, stream, seq
        ids[number], tools[number], times[number], intents[number] = identifier, tool, time, 1


def _end(cuts: Sequence[Cut], told: Told, paired: Paired, waiting: Waiting) -> bool:
    """Return whether outcomes of one pattern agree with intents before them."""
    ids, tools, times, _, opened, ended = paired
    tool = told.pattern.tool
    rows = zip(told.numbers, told.ids, told.intents, told.arguments, told.starts, strict=True)
    for number, identifier, intent, arguments, time in rows:
        if intent is None:
            return False
        found = opened.get(intent) or waiting.near.get(intent)
        grant, seq, _, _ = cuts[number]
        if found is None or found[:3] != (grant, tool, arguments) or found[5] > seq:
            return False
        ended.add(intent)
        ids[number], tools[number], times[number] = identifier, tool, time
    return True
