"""What was done under a grant: the same whether it is kept in memory, on the disk, or merged from parts."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit import use_store, uses
from agent_identity.audit.findings import Place
from agent_identity.audit.patterns import Context
from agent_identity.audit.use_store import Packed, UseStore, _Sieve
from agent_identity.audit.uses import Use
from agent_identity.audit.waiting import Call

TOOLS = ("pay", "refund", "read", "delete")
WHERE = Place("first", "a", 1)


def record(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Return what the records of a task say."""
    return {
        "principal": {"id": "alice@example.com", "kind": "human"},
        "agent": {"id": "clerk", "owner": "finance@example.com"},
        "chain": [{"id": "root", "grant": "f" * 64}, {"id": "clerk", "grant": f"{number:064}"}],
        "task": {"id": "t", "expires": "9"},
        "time": {"start": "7"},
        **changes,
    }


def facts(use: Use) -> dict[str, object]:
    """Return all that a use keeps, the places of records instead of what has them."""
    kept = {name: getattr(use, name) for name in Use.__slots__}
    return kept | {"first": use.first.place(), "last": use.last.place()}


def full() -> Use:
    """Return a use in which nothing is as it was in the beginning."""
    use = Use(record(1, task={"id": "t", "expires": "9", "purpose": "x"}), WHERE, 5, Context(b"a", b"b", b"c"))
    use.events = []
    use.begin("b")
    use.begin("b")
    for number, (tool, at) in enumerate((("pay", 30), ("refund", 10), ("read", 50))):
        use.allow(tool, at, Call(use.grant, tool, None, b"%d" % number, "b", number))
        use.count(concluded=number == 1)
    use.finish({"intents": "9" * 30, "outcomes": "8" * 30}, Place("end", "b", 9))
    use.finish({"intents": "1", "outcomes": "2"}, Place("late", "c", 3), partial=True)
    return use


def test_a_use_is_the_same_once_it_was_packed() -> None:
    """Nothing is lost on the way to the disk or from another process, not even numbers that JSON cannot hold."""
    use = full()
    again = Use.unpacked(use.packed())
    assert facts(again) == facts(use)
    assert (type(again.place), type(again.end), type(again.tools["pay"])) == (Place, Place, Place)
    assert (again.number, again.intents, again.outcomes) == (5, 2, 1)
    assert (again.stated_intents, again.stated_outcomes) == (int("9" * 30), int("8" * 30))
    assert again.events == [
        None,
        None,
        ({"intents": "9" * 30, "outcomes": "8" * 30}, Place("end", "b", 9), False),
        ({"intents": "1", "outcomes": "2"}, Place("late", "c", 3), True),
    ]
    assert {type(event[1]) for event in again.events if event} == {Place}
    again.begin("b")
    use.begin("b")
    for one in (again, use):
        one.finish({"intents": "1", "outcomes": "1"}, Place("end", "b", 10))
    assert facts(again) == facts(use)
    assert use.stated_intents == int("9" * 30) + 1


@pytest.mark.parametrize("events", [None, []])
def test_a_use_of_which_nothing_is_known_is_the_same_once_it_was_packed(events: list[Any] | None) -> None:
    """No call, no end; and of a part or of a whole."""
    use = Use(record(), WHERE)
    use.events = events
    assert facts(Use.unpacked(use.packed())) == facts(use)
    assert (use.first_ns, use.last_ns, use.first, use.last, use.end) == (-1, -1, WHERE, WHERE, None)
    assert (use.number, use.kept, use.leaf, use.tools) == (0, False, None, {})


def test_a_use_begins_with_what_its_first_record_says() -> None:
    """It is seen when that ended, or else when it began; and how calls are written follows from it."""
    use = Use(record(time={"start": "7", "end": "8"}), WHERE)
    assert (use.seen_ns, Use(record(), WHERE).seen_ns) == (8, 7)
    assert use.grant == b"0" * 64
    assert use.context.task == b'"task":{"expires":"9","id":"t"},'
    assert (use.principal, use.agent, use.chain) == (record()["principal"], record()["agent"], record()["chain"])


CHANGES: dict[str, Any] = {
    "principal": {"id": "mallory@example.com", "kind": "human"},
    "agent": {"id": "clerk", "owner": "finance@example.org"},
    "chain": [{"id": "roof", "grant": "f" * 64}, {"id": "clerk", "grant": "0" * 64}],
    "task": {"id": "t", "expires": "10"},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whoever_says_something_else_under_a_grant_is_found(name: str) -> None:
    """In the same part of the source or in another, and its calls are not taken as an example of later ones."""
    use, said = Use(record(), WHERE), record(**{name: CHANGES[name]})
    assert not use.says_the_same(said)
    assert not use.agrees_with(Use(said, WHERE))
    known = use.context
    use.recognise(said, Context(b"x", b"y", b"z"))
    assert use.context == known


def test_a_purpose_is_no_difference() -> None:
    """Only the opening of a task states it."""
    use, said = Use(record(), WHERE), record(task={"id": "t", "expires": "9", "purpose": "x"})
    assert use.says_the_same(said)
    assert use.agrees_with(Use(said, WHERE))
    use.recognise(said, None)
    assert use.context == Use(record(), WHERE).context
    use.recognise(said, Context(b"x", b"y", b"z"))
    assert use.context == Context(b"x", b"y", b"z")


def stated(use: Use) -> tuple[int, int]:
    """Return what the ends of a task state."""
    return use.stated_intents, use.stated_outcomes


def test_each_opening_has_an_end_that_counts_for_itself() -> None:
    """Ends behind openings in their stream are added up, over all streams."""
    use = Use(record(), WHERE)
    for seq, stream in enumerate(("a", "a", "b")):
        use.begin(stream)
        use.finish({"intents": "3", "outcomes": "2"}, Place("end", stream, seq))
        assert stated(use) == (3 + 3 * seq, 2 + 2 * seq)
        assert use.end == Place("end", stream, seq)
    use.begin("b")
    use.begin("b")
    for total in (12, 15):
        use.finish({"intents": "3", "outcomes": "2"}, Place("end", "b", 9))
        assert use.stated_intents == total


def test_an_end_without_an_opening_repeats_what_its_parent_did() -> None:
    """The end in a forked child is not added up; the largest one counts, and those of openings go on."""
    use = Use(record(), WHERE)
    use.begin("a")
    use.finish({"intents": "3", "outcomes": "2"}, Place("end", "a", 1))
    use.finish({"intents": "5", "outcomes": "1"}, Place("end", "a", 2))
    assert stated(use) == (5, 2)
    use.finish({"intents": "4", "outcomes": "4"}, Place("end", "b", 1))
    assert stated(use) == (5, 4)
    use.begin("a")  # Of its openings from before, a stream that is begun again has none.
    use.finish({"intents": "4", "outcomes": "4"}, Place("end", "a", 3))
    use.finish({"intents": "8", "outcomes": "1"}, Place("end", "a", 4))
    assert stated(use) == (8, 6)


def test_an_opening_in_another_stream_has_no_end_here() -> None:
    """Streams are read one after the other, so that what is open in the one before stays open."""
    use = Use(record(), WHERE)
    use.begin("a")
    use.begin("b")
    for expected in (3, 3):
        use.finish({"intents": "3", "outcomes": "2"}, Place("end", "b", 1))
        assert use.stated_intents == expected
    use.begin("a")
    use.finish({"intents": "3", "outcomes": "2"}, Place("end", "b", 2))
    assert use.stated_intents == 3


def test_an_end_without_an_opening_says_nothing_where_records_were_pruned() -> None:
    """Calls of openings that are gone may be gone as well."""
    use, counts = Use(record(), WHERE), {"intents": "3", "outcomes": "2"}
    use.finish(counts, Place("end", "a", 1), partial=True)
    assert (stated(use), use.end) == ((0, 0), None)
    use.begin("b")
    use.finish(counts, Place("end", "a", 1), partial=True)
    assert (stated(use), use.end) == ((0, 0), None)
    use.finish(counts, Place("end", "b", 1), partial=True)
    assert (stated(use), use.end) == ((3, 2), Place("end", "b", 1))
    use.finish(counts, Place("end", "b", 2), partial=True)
    assert (stated(use), use.end) == ((3, 2), Place("end", "b", 1))


def test_the_first_of_calls_at_one_time_is_named() -> None:
    """Earliest and latest call are those that came first, and time may begin with the epoch."""
    use = Use(record(), WHERE)
    for seq, at in enumerate((5, 0, 0, 5, 9, 9, 3)):
        use.allow("pay", at, Place("call", "a", seq))
    assert (use.first_ns, use.last_ns) == (0, 9)
    assert (use.first.place().seq, use.last.place().seq) == (1, 4)
    assert use.tools == {"pay": Place("call", "a", 0)}


Step = Callable[[Use, int], object]
STEPS: list[Step] = [
    lambda use, _: use.begin("a"),
    lambda use, seq: use.finish({"intents": "2", "outcomes": "1"}, Place("end", "a", seq)),
    lambda use, seq: use.finish({"intents": f"{seq}", "outcomes": "1"}, Place("end", "a", seq), partial=True),
    lambda use, _: use.count(concluded=True),
    lambda use, _: use.count(concluded=False),
    *(
        lambda use, seq, tool=tool, at=at: use.allow(tool, at, Place("call", "a", seq))
        for tool in TOOLS
        for at in (0, 5, 6)
    ),
]


@given(parts=st.lists(st.lists(st.sampled_from(STEPS), max_size=5), min_size=1, max_size=4))
def test_parts_of_a_use_are_the_whole_of_it(parts: list[list[Step]]) -> None:
    """Merged in their order, they say what one says that has seen all records."""
    whole, merged, seq = Use(record(), Place("x", "a", 0)), None, 0
    with patch.object(uses, "_MAX_TOOLS", 3):
        for steps in parts:
            part = Use(record(), Place("x", "a", seq))
            part.events = []
            for step in steps:
                step(whole, seq)
                step(part, seq)
                seq += 1
            part = Use.unpacked(part.packed())
            if merged is None:
                merged = part
                merged.events = None
            else:
                merged.absorb(part)
    assert merged is not None
    assert facts(merged) == facts(whole)
    assert list(merged.tools) == list(whole.tools)


CALLED = st.lists(st.tuples(st.sampled_from(TOOLS), st.integers(0, 4)), min_size=1, max_size=6)


@given(before=st.lists(st.tuples(st.sampled_from(TOOLS), st.integers(0, 4)), max_size=3), calls=CALLED)
def test_calls_that_are_kept_together_are_kept_as_one_by_one(
    before: list[tuple[str, int]], calls: list[tuple[str, int]]
) -> None:
    """Tools, earliest and latest, with the record that says so."""
    one_by_one, together = Use(record(), WHERE), Use(record(), WHERE)
    with patch.object(uses, "_MAX_TOOLS", 3):
        for number, (tool, at) in enumerate(before):
            for use in (one_by_one, together):
                use.allow(tool, at, Place("before", "a", number))
        for number, (tool, at) in enumerate(calls):
            one_by_one.allow(tool, at, Place("call", "a", number))
        tools, times = zip(*calls, strict=True)
        together.allow_all(tools, times, lambda number: Place("call", "a", number))
    assert facts(together) == facts(one_by_one)
    assert len(together.tools) <= 3


def packed(number: int, seen: int = 7) -> Packed:
    """Return a use of another store."""
    use = Use(record(number, time={"start": str(seen)}), WHERE, 99)
    use.events = []
    use.begin("b")
    return Packed.of(use)


def test_a_packed_use_names_the_grants_of_its_chain() -> None:
    """So that they can be looked up without unpacking it."""
    assert packed(1).grants == b"f" * 64 + b"," + b"%064d" % 1
    assert packed(1).leaf == b"%064d" % 1


OPERATIONS = st.lists(st.tuples(st.sampled_from(["use", "adopt", "keep"]), st.integers(0, 6)), max_size=20)


@given(operations=OPERATIONS, near=st.sampled_from([1, 2, 3, 100]), part=st.booleans())
def test_a_store_keeps_what_a_list_keeps(operations: list[tuple[str, int]], near: int, part: bool) -> None:
    """However little fits into memory, each use is found again as it was left, and all in the order of their coming."""
    expected: dict[bytes, Use] = {}
    kept: dict[bytes, Use] = {}
    with patch.object(use_store, "_MAX_NEAR", near):
        store = UseStore(part=part)
        for seq, (what, number) in enumerate(operations):
            grant = b"%064d" % number
            found = store.find(grant)
            assert (found is None) == (grant not in expected)
            if found is None and what == "adopt":
                store.adopt(packed(number, seq))
                expected[grant] = Use.unpacked(packed(number, seq).data)
                expected[grant].number = len(expected)
                expected[grant].events = expected[grant].events if part else None
                continue
            if found is None:
                found = store.create(record(number), Place("x", "a", seq))
                expected[grant] = Use(record(number), Place("x", "a", seq), len(expected) + 1)
                expected[grant].events = [] if part else None
            for use in (found, expected[grant]):
                use.begin("a")
                use.allow("pay", seq, Place("call", "a", seq))
                use.count(concluded=False)
                use.kept = use.kept or what == "keep"
            if found.kept:
                assert kept.setdefault(grant, found) is found
            assert {**facts(found), "events": None} == {**facts(expected[grant]), "events": None}
            assert found.events == expected[grant].events
            assert len(store._uses) <= near + sum(use.kept for use in store._uses.values())
            assert len(store._packed) < near
        unkept = [{**facts(use), "kept": False, "number": 0, "events": None} for use in expected.values()]
        rows = [Use.unpacked(row.data) for row in store.packed()]
        assert [{**facts(use), "number": 0, "events": None} for use in rows] == unkept
        assert [row.grants for row in store.packed()] == [Packed.of(use).grants for use in expected.values()]
        if part:
            assert [use.events for use in rows] == [use.events for use in expected.values()]
        listed = list(store.uses())
        assert [{**facts(use), "kept": False, "number": 0, "events": None} for use in listed] == unkept
        assert all(use is kept.get(use.grant, use) for use in listed)


def test_grants_that_were_never_seen_need_no_look_at_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sieve tells of nearly all of them, and of none that is there."""
    sieve = _Sieve()
    for number in range(1_000):
        sieve.add(b"%064d" % number)
    assert all(b"%064d" % number in sieve for number in range(1_000))
    assert sum(b"%064d" % number in sieve for number in range(1_000, 11_000)) < 100
    monkeypatch.setattr(use_store, "_MAX_NEAR", 1)
    store = UseStore(part=False)
    for number in range(3):
        store.create(record(number), WHERE)
    monkeypatch.setattr(type(store._far), "get", lambda *_: pytest.fail("this grant was never there"))
    assert store.find(b"%064d" % 9) is None
