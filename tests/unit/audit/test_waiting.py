"""Intents that wait for their outcomes: the same ones in the same order, however few fit into memory."""

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit import waiting
from agent_identity.audit.findings import Place
from agent_identity.audit.waiting import Call, Fields, Waiting


def call(number: int, **changes: Any) -> Call:
    """Return an intent."""
    return Call(b"g", "pay", b"d", b"%02d" % number, "s", number)._replace(**changes)


@pytest.mark.parametrize("change", [{}, {"grant": None}, {"arguments": None}, {"grant": None, "arguments": None}])
def test_a_call_is_the_same_once_it_was_packed(change: dict[str, None]) -> None:
    """Nothing is lost on the way to the disk or from another process."""
    one = call(7, **change)
    again = Call.unpacked(one.packed())
    assert (again, type(again)) == (one, Call)
    assert one.place() == Place("07", "s", 7)


STEPS = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "pop"]), st.integers(0, 7)), max_size=25)


@given(steps=STEPS, near=st.sampled_from([1, 2, 3, 100]))
def test_intents_wait_as_in_a_dictionary(steps: list[tuple[str, int]], near: int) -> None:
    """A later one with the same id takes the place of the earlier one, wherever that is kept, and none is left over."""
    kept, expected = Waiting(), dict[bytes, Call]()
    with patch.object(waiting, "_MAX_WAITING", near):
        for seq, (what, number) in enumerate(steps):
            one = call(number, seq=seq)
            if what == "put":
                kept.put(one)
                expected[one.id] = one
            else:
                assert kept.pop(one.id) == expected.pop(one.id, None)
            assert len(kept.near) <= near
            assert not kept.far or near < 100
        assert list(kept.calls()) == list(expected.values())
        assert list(kept.calls()) == list(expected.values())
        assert [kept.pop(identifier) for identifier in expected] == list(expected.values())
        assert list(kept.calls()) == []


def test_the_lowest_and_the_highest_id_are_those_of_all_that_ever_waited() -> None:
    """An intent that has its outcome counts as well, and one that was never there does not."""
    kept = Waiting()
    assert kept.lowest > b"f" * 36 > kept.highest  # No id is above the one or below the other.
    assert kept.highest < b"0"
    for number, bounds in ((5, (b"05", b"05")), (3, (b"03", b"05")), (4, (b"03", b"05")), (9, (b"03", b"09"))):
        kept.put(call(number))
        assert kept.pop(call(number).id) == call(number)
        assert (kept.lowest, kept.highest) == bounds


@pytest.mark.parametrize("ids", [[5, 3, 4], [4], [3, 5]])
def test_intents_that_are_exchanged_together_count_as_well(ids: list[int]) -> None:
    """Even those that have their outcome at once; what was lower or higher before stays so."""
    for before, lowest, highest in ((None, min(ids), max(ids)), (1, 1, max(ids)), (9, min(ids), 9)):
        kept = Waiting()
        if before is not None:
            kept.put(call(before))
        kept.exchange({call(n).id: call(n) for n in ids}, [call(n).id for n in ids])
        assert (kept.lowest, kept.highest) == (call(lowest).id, call(highest).id)
        assert list(kept.calls()) == ([] if before is None else [call(before)])
        kept.exchange({}, [])
        assert (kept.lowest, kept.highest) == (call(lowest).id, call(highest).id)


def test_an_exchange_leaves_the_intents_without_an_outcome_in_their_order() -> None:
    """Old ones first, then new ones by their places; outcomes are those of old ones or of new ones."""
    for near in (100, 2):
        kept = Waiting()
        with patch.object(waiting, "_MAX_WAITING", near):
            for number in (8, 1):
                kept.put(call(number))
            opened: dict[bytes, Fields] = {call(number).id: call(number) for number in (7, 3, 5)}
            kept.exchange(opened, [call(8).id, call(5).id])
            assert list(kept.calls()) == [call(1), call(3), call(7)]


def test_of_ids_between_two_others_none_waits() -> None:
    """Both ends count; of those on the disk nothing is known, so that they may be among them."""
    kept = Waiting()
    assert kept.none_between(b"00", b"99")
    for number in (3, 6):
        kept.put(call(number))
    for lowest, highest, none in (
        (4, 5, True),
        (3, 3, False),
        (6, 9, False),
        (0, 3, False),
        (7, 9, True),
        (0, 2, True),
    ):
        assert kept.none_between(call(lowest).id, call(highest).id) == none
    assert kept.none_between(b"~", b"")
    kept.spill()
    assert not kept.none_between(b"04", b"05")


def test_outcomes_fit_intents_of_the_same_grant_tool_and_arguments() -> None:
    """Those whose intents are not in memory may wait for them elsewhere."""
    kept = Waiting()
    kept.put(call(3))
    fitting = (call(3).id, call(9, seq=99, stream="t"))
    assert kept.fit([])
    assert kept.fit([fitting, (call(4).id, call(9, tool="read"))])
    for change in ({"grant": b"h"}, {"grant": None}, {"tool": "read"}, {"arguments": b"e"}, {"arguments": None}):
        assert not kept.fit([fitting, (call(3).id, call(9, **change))])
        assert not kept.fit([(call(3).id, call(9, **change)), fitting])


def test_a_few_thousand_intents_stay_in_memory() -> None:
    """The disk is for ledgers with more open calls than that."""
    kept = Waiting()
    with patch.object(Waiting, "spill", lambda _: pytest.fail("these fit into memory")):
        for number in range(20_000):
            kept.put(call(number))
    kept.put(call(20_000))
    assert (len(kept.near), len(kept.far)) == (0, 20_001)
