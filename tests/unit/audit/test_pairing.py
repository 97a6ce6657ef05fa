"""Intents and outcomes that are held against each other together, or not at all."""

from typing import Any

import pytest

from agent_identity.audit.batches import Cut, Told
from agent_identity.audit.pairing import Paired, pair
from agent_identity.audit.patterns import Pattern
from agent_identity.audit.waiting import Call, Fields, Waiting

STREAM = "s"
GRANT, OTHER = b"g" * 64, b"h" * 64


def told(kind: str, *calls: tuple[int, bytes, bytes, int], **changes: Any) -> Told:
    """Return calls of one pattern: number, id, intent and time of each; all with the same arguments."""
    pattern = Pattern(kind, "pay", None if kind == "intent" else "success", "allow", False, 0, 0, 0, 0, 1, 2, 3)
    if kind == "intent":
        pattern = pattern._replace(intent=-1)
    numbers, ids, intents, times = zip(*calls, strict=True)
    slots = ([b"d"] * len(calls), ids, intents, [b"%d" % time for time in times])
    return Told(pattern._replace(**changes), numbers, slots)


def cuts(*grants: bytes) -> list[Cut]:
    """Return calls at the places from 5 on, under these grants."""
    return [(grant, 5 + number, b"", b"") for number, grant in enumerate(grants)]


OPENS = told("intent", (0, b"i", b"", 30), (2, b"k", b"", 10))
ENDS = told("outcome", (1, b"j", b"i", 20))
THREE = cuts(GRANT, GRANT, OTHER)


def test_calls_that_agree_are_paired_in_their_order() -> None:
    """Each with its id, tool and time; which of them are intents, and which have an outcome now."""
    opened: dict[bytes, Fields] = {
        b"i": (GRANT, "pay", b"d", b"i", STREAM, 5),
        b"k": (OTHER, "pay", b"d", b"k", STREAM, 7),
    }
    expected = Paired([b"i", b"j", b"k"], ["pay"] * 3, [30, 20, 10], bytearray([1, 0, 1]), opened, {b"i"})
    assert pair(THREE, [OPENS, ENDS], Waiting(), STREAM) == expected
    assert pair(THREE, [ENDS, OPENS], Waiting(), STREAM) == expected


def waiting_for(**changes: Any) -> Waiting:
    """Return an intent from before, in an earlier place."""
    waiting = Waiting()
    waiting.put(Call(GRANT, "pay", b"d", b"x", STREAM, 4)._replace(**changes))
    return waiting


def test_an_intent_from_before_is_paired_as_well() -> None:
    """It waits no longer then; nothing is changed yet."""
    waiting = waiting_for()
    paired = pair(cuts(GRANT), [told("outcome", (0, b"j", b"x", 20))], waiting, STREAM)
    assert paired == Paired([b"j"], ["pay"], [20], bytearray(1), {}, {b"x"})
    assert b"x" in waiting.near


@pytest.mark.parametrize(
    "change", [{"grant": OTHER}, {"tool": "read"}, {"arguments": b"e"}, {"arguments": None}, {"seq": 6}, {"id": b"y"}]
)
def test_an_outcome_that_does_not_agree_with_its_intent_is_looked_at_alone(change: dict[str, Any]) -> None:
    """Grant, tool, arguments, and an intent that is there, before it."""
    assert pair(cuts(GRANT), [told("outcome", (0, b"j", b"x", 20))], waiting_for(**change), STREAM) is None


@pytest.mark.parametrize(
    ("grants", "calls"),
    [
        ([GRANT, GRANT], [told("intent", (1, b"i", b"", 1)), told("outcome", (0, b"j", b"i", 2))]),
        ([GRANT, OTHER], [told("intent", (0, b"i", b"", 1)), told("outcome", (1, b"j", b"i", 2))]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1)), told("outcome", (1, b"j", b"i", 2), tool="read")]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1)), told("outcome", (1, b"j", b"i", 2), arguments=-1)]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1)), told("outcome", (1, b"j", b"i", 2), intent=-1)]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1)), told("outcome", (1, b"j", b"z", 2))]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1))]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1), (1, b"k", b"", 1), effect="block")]),
        ([GRANT, GRANT], [told("intent", (0, b"i", b"", 1), (1, b"i", b"", 1))]),
        ([GRANT] * 3, [told("intent", (0, b"i", b"", 1)), told("outcome", (1, b"j", b"i", 2), (2, b"l", b"i", 2))]),
    ],
    ids=[
        *("before its intent", "another grant", "another tool", "other arguments", "no intent", "an unknown intent"),
        *("not recognised", "blocked", "an id twice", "ended twice"),
    ],
)
def test_what_is_special_is_looked_at_one_by_one(grants: list[bytes], calls: list[Told]) -> None:
    """Nothing is said of any of the calls then."""
    assert pair(cuts(*grants), calls, Waiting(), STREAM) is None


def test_intents_on_the_disk_or_with_an_id_from_before_are_looked_at_one_by_one() -> None:
    """A later intent with the same id takes the place of the earlier one."""
    calls = [told("intent", (0, b"x", b"", 1))]
    assert pair(cuts(GRANT), calls, Waiting(), STREAM) is not None
    assert pair(cuts(GRANT), calls, waiting_for(), STREAM) is None
    waiting = waiting_for(id=b"y")
    assert pair(cuts(GRANT), calls, waiting, STREAM) is not None
    waiting.spill()
    assert pair(cuts(GRANT), calls, waiting, STREAM) is None
