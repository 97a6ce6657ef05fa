"""What was done under a grant: the same whether it is kept in memory or on the disk."""

from typing import Any

import pytest

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._record.parts import Counts
from agent_identity._record.schema import OfTask
from agent_identity._verify.grants import grant_usage
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.ledger._calls_check import Call
from agent_identity._verify.report.findings import Place

TOOLS = ("pay", "refund", "read", "delete")
STREAM = "AZq1rUgAcACAAAAAAAAAAQ"
WHERE = Place("first", "a", 1)


def record(number: int = 0, **changes: Any) -> OfTask:
    """Return what the records of a task say."""
    members = {
        "v": "1",
        "id": STREAM[:-1] + "g",
        "kind": "task_start",
        "stream": {"id": STREAM, "seq": "2", "prev": "A" * 43},
        "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
        "agent": {"id": "clerk", "owner": "finance@example.com"},
        "chain": [{"id": "root", "grant": "8" * 43}, {"id": "clerk", "grant": f"{number:A>42}A"}],
        "task": {"id": "t", "expires": "9"},
        "time": {"start": "7"},
        **changes,
    }
    found = decode(encode_record(members))
    assert isinstance(found, OfTask)
    return found


def counts(intents: str, outcomes: str) -> Counts:
    """Return what the end of a task states."""
    return Counts(intents=intents, outcomes=outcomes, open="0")


def facts(use: GrantUsage) -> dict[str, object]:
    """Return all that a use keeps, the places of records instead of what has them."""
    kept = {name: getattr(use, name) for name in GrantUsage.__slots__}
    return kept | {"first": use.first.place(), "last": use.last.place()}


def full() -> GrantUsage:
    """Return a use in which nothing is as it was in the beginning."""
    use = GrantUsage(record(1, task={"id": "t", "expires": "9", "purpose": "x"}), WHERE)
    use.begin("b")
    use.begin("b")
    for number, (tool, at) in enumerate((("pay", 30), ("refund", 10), ("read", 50))):
        use.allow(tool, at, Call(use.grant, tool, None, str(number), "b", number))
        use.count(concluded=number == 1)
    use.finish(counts("9" * 30, "8" * 30), Place("end", "b", 9))
    use.finish(counts("1", "2"), Place("late", "c", 3), partial=True)
    return use


def test_a_use_is_the_same_once_it_was_packed() -> None:
    """Nothing is lost on the way to the disk not even numbers that JSON cannot hold."""
    use = full()
    again = GrantUsage.unpacked(use.packed())
    assert facts(again) == facts(use)
    assert (type(again.place), type(again.end), type(again.tools["pay"])) == (Place, Place, Place)
    assert (again.intents, again.outcomes) == (2, 1)
    assert (again.stated_intents, again.stated_outcomes) == (int("9" * 30), int("8" * 30))
    again.begin("b")
    use.begin("b")
    for one in (again, use):
        one.finish(counts("1", "1"), Place("end", "b", 10))
    assert facts(again) == facts(use)
    assert use.stated_intents == int("9" * 30) + 1


def test_a_use_of_which_nothing_is_known_is_the_same_once_it_was_packed() -> None:
    """No call, no end."""
    use = GrantUsage(record(), WHERE)
    assert facts(GrantUsage.unpacked(use.packed())) == facts(use)
    assert (use.first_ns, use.last_ns, use.first, use.last, use.end, use.tools) == (-1, -1, WHERE, WHERE, None, {})


def test_a_use_begins_with_what_its_first_record_says() -> None:
    """It is seen when that ended, or else when it began."""
    use = GrantUsage(record(time={"start": "7", "end": "8"}), WHERE)
    assert (use.seen_ns, GrantUsage(record(), WHERE).seen_ns) == (8, 7)
    assert use.grant == f"{0:A>42}A"
    assert (use.said.principal, use.said.agent, use.said.chain) == (record().principal, record().agent, record().chain)


CHANGES: dict[str, Any] = {
    "principal": {"id": "mallory@example.com", "kind": "human", "provenance": "asserted"},
    "agent": {"id": "clerk", "owner": "finance@example.org"},
    "chain": [{"id": "roof", "grant": "8" * 43}, {"id": "clerk", "grant": f"{0:A>42}A"}],
    "task": {"id": "t", "expires": "10"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_says_something_else_under_a_grant_is_found(name: str) -> None:
    """Whatever of it is another."""
    use, said = GrantUsage(record(), WHERE), record(**{name: CHANGES[name]})
    assert not use.says_the_same(said)


def test_a_purpose_is_no_difference() -> None:
    """Only the opening of a task states it."""
    use, said = GrantUsage(record(), WHERE), record(task={"id": "t", "expires": "9", "purpose": "x"})
    assert use.says_the_same(said)


def stated(use: GrantUsage) -> tuple[int, int]:
    """Return what the ends of a task state."""
    return use.stated_intents, use.stated_outcomes


def test_each_opening_has_an_end_that_counts_for_itself() -> None:
    """Ends behind openings in their stream are added up, over all streams."""
    use = GrantUsage(record(), WHERE)
    for seq, stream in enumerate(("a", "a", "b")):
        use.begin(stream)
        use.finish(counts("3", "2"), Place("end", stream, seq))
        assert stated(use) == (3 + 3 * seq, 2 + 2 * seq)
        assert use.end == Place("end", stream, seq)
    use.begin("b")
    use.begin("b")
    for total in (12, 15):
        use.finish(counts("3", "2"), Place("end", "b", 9))
        assert use.stated_intents == total


def test_an_end_without_an_opening_repeats_what_its_parent_did() -> None:
    """The end in a forked child is not added up; the largest one counts, and those of openings go on."""
    use = GrantUsage(record(), WHERE)
    use.begin("a")
    use.finish(counts("3", "2"), Place("end", "a", 1))
    use.finish(counts("5", "1"), Place("end", "a", 2))
    assert stated(use) == (5, 2)
    use.finish(counts("4", "4"), Place("end", "b", 1))
    assert stated(use) == (5, 4)
    use.begin("a")  # Of its openings from before, a stream that is begun again has none.
    use.finish(counts("4", "4"), Place("end", "a", 3))
    use.finish(counts("8", "1"), Place("end", "a", 4))
    assert stated(use) == (8, 6)


def test_an_opening_in_another_stream_has_no_end_here() -> None:
    """Streams are read one after the other, so that what is open in the one before stays open."""
    use = GrantUsage(record(), WHERE)
    use.begin("a")
    use.begin("b")
    for expected in (3, 3):
        use.finish(counts("3", "2"), Place("end", "b", 1))
        assert use.stated_intents == expected
    use.begin("a")
    use.finish(counts("3", "2"), Place("end", "b", 2))
    assert use.stated_intents == 3


def test_an_end_without_an_opening_says_nothing_where_records_were_pruned() -> None:
    """Calls of openings that are gone may be gone as well."""
    use, counted = GrantUsage(record(), WHERE), counts("3", "2")
    use.finish(counted, Place("end", "a", 1), partial=True)
    assert (stated(use), use.end) == ((0, 0), None)
    use.begin("b")
    use.finish(counted, Place("end", "a", 1), partial=True)
    assert (stated(use), use.end) == ((0, 0), None)
    use.finish(counted, Place("end", "b", 1), partial=True)
    assert (stated(use), use.end) == ((3, 2), Place("end", "b", 1))
    use.finish(counted, Place("end", "b", 2), partial=True)
    assert (stated(use), use.end) == ((3, 2), Place("end", "b", 1))


def test_the_first_of_calls_at_one_time_is_named() -> None:
    """Earliest and latest call are those that came first, and time may begin with the epoch."""
    use = GrantUsage(record(), WHERE)
    for seq, at in enumerate((5, 0, 0, 5, 9, 9, 3)):
        use.allow("pay", at, Place("call", "a", seq))
    assert (use.first_ns, use.last_ns) == (0, 9)
    assert (use.first.place().seq, use.last.place().seq) == (1, 4)
    assert use.tools == {"pay": Place("call", "a", 0)}


def test_the_number_of_tools_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are kept of all of them."""
    monkeypatch.setattr(grant_usage, "_MAX_TOOLS", 3)
    use = GrantUsage(record(), WHERE)
    for at, tool in enumerate((*TOOLS, "pay")):
        use.allow(tool, at, Place("call", "a", at))
        use.spend(tool, 1)
    assert (list(use.tools), use.ended, use.last_ns) == (list(TOOLS[:3]), {"pay": 2, "refund": 1, "read": 1}, 4)
