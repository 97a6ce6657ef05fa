"""Recognising calls together: never another result than from looking at one after the other."""

import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit import parts, waiting
from agent_identity.audit.batches import Batch
from agent_identity.audit.calls_check import Calls
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.columns import ARGUMENTS, COUNT, DIGEST, HASH, SPAN_ID, TRACE_ID, UUID7, column_form
from agent_identity.audit.findings import Findings
from agent_identity.audit.pairing import Paired
from agent_identity.audit.parts import PartReader
from agent_identity.audit.patterns import Patterns
from agent_identity.audit.shapes import FORMS, Shapes, slots_of
from agent_identity.audit.stream_check import StreamCheck, StreamPart
from agent_identity.authority import token_hash
from agent_identity.canonical import encode_record
from agent_identity.evidence.lines import Block, are_records, record_of, stream_line
from agent_identity.evidence.merkle import leaf_hash
from agent_identity.evidence.records import VERSION
from agent_identity.evidence.streams import raw_line

STREAM = "019ab697-e800-7000-8000-000000000001"
HEX = "0123456789abcdef" * 4
WIDTHS = {
    ARGUMENTS: (76, 78),
    COUNT: (1, 2, 19),
    DIGEST: (76,),
    HASH: (64,),
    SPAN_ID: (16,),
    TRACE_ID: (32,),
    UUID7: (36,),
}
SAMPLES = {
    ARGUMENTS: {76: f"hmac-sha256:{HEX}", 78: f"salted-sha256:{HEX}"},
    COUNT: {1: "0", 2: "10", 19: "1764000000000000000"},
    DIGEST: {76: f"hmac-sha256:{HEX}"},
    HASH: {64: HEX},
    SPAN_ID: {16: HEX[:16]},
    TRACE_ID: {32: HEX[:32]},
    UUID7: {36: STREAM},
}
FORM_WIDTHS = [(form, width) for form, widths in WIDTHS.items() for width in widths]


@pytest.mark.parametrize(("form", "width"), FORM_WIDTHS)
@given(data=st.data())
def test_a_column_has_a_form_if_each_text_has_it(form: bytes, width: int, data: st.DataObject) -> None:
    """What is asked of many texts at once is what the expression says of each, for texts of the length of one."""
    column = []
    for _ in range(data.draw(st.integers(1, 4))):
        text = bytearray(SAMPLES[form][width].encode())
        for _ in range(data.draw(st.integers(0, 2))):
            place = data.draw(st.integers(0, width - 1))
            text[place] = data.draw(st.sampled_from(b"0123456789abcdefghlmstxX-:\x00\xff\n"))
        if data.draw(st.integers(0, 9)) == 0:
            text = bytearray(b"0" * width)
        shift = data.draw(st.sampled_from([0, 0, 0, 1, 12]))
        column.append(bytes(text[shift:] + text[:shift]))
    assert column_form(form, width)(column) == all(re.fullmatch(form, text) for text in column)


def test_versions_and_variants_of_ids_are_looked_at_each() -> None:
    """Of the sixteen digits at either place those count that RFC 9562, section 5.7, has."""
    for place, allowed in ((14, "7"), (19, "89ab")):
        for digit in "0123456789abcdef":
            text = (STREAM[:place] + digit + STREAM[place + 1 :]).encode()
            assert column_form(UUID7, 36)([STREAM.encode(), text]) == (digit in allowed)


def test_every_form_without_a_quick_way_is_asked_of_each_text() -> None:
    """A call id, for example."""
    form = FORMS["action", "call"]
    assert column_form(form, 4)([b"call", b"c_-1"])
    assert not column_form(form, 4)([b"call", b"c.-1"])


def call(kind: str, **changes: Any) -> dict[str, Any]:
    """Return a call without its place."""
    decision = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
    return {
        "v": VERSION,
        "kind": kind,
        "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
        "trace": {"trace": HEX[:32], "span": HEX[:16]},
        "action": {"tool": "pay", "args": f"hmac-sha256:{HEX}"},
        "decision": decision,
        **changes,
    }


@given(data=st.data())
def test_all_that_fits_a_shape_is_found_at_once(data: st.DataObject) -> None:
    """For texts of one length, the shapes that are found for all together are those that are found for each."""
    tools = ["pay", "bay", "a-b", "p/y"]
    records = [{**call("intent", action={"tool": tool}), "id": STREAM, "time": {"start": "1764"}} for tool in tools]
    # A longer trace and no action of the same length: another layout.
    records.append({**records[0], "action": {"tool": "x"}, "findings": ["a"]})
    shapes: Shapes[str] = Shapes()
    texts = [encode_record(record) for record in records]
    longest = max(map(len, texts))
    for record, text in zip(records[1:], texts[1:], strict=True):
        shapes.learn(slots_of(record), text, record["action"]["tool"])
    some = []
    for _ in range(data.draw(st.integers(1, 6))):
        text = bytearray(data.draw(st.sampled_from([text for text in texts if len(text) == len(texts[0])])))
        for _ in range(data.draw(st.integers(0, 1))):
            text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from(b"07afg-\xff"))
        some.append(bytes(text))
    found = dict[int, tuple[str, tuple[bytes, ...]]]()
    for known, numbers, slots in shapes.find_all(some):
        found |= dict(zip(numbers, ((known, row) for row in zip(*slots, strict=True)), strict=True))
    for number, text in enumerate(some):
        # One that has not the form takes those of its shape with it, which the full checks judge then.
        assert number not in found or found[number] == shapes.find(text)
    if all(map(shapes.find, some)):
        assert len(found) == len(some)
    assert shapes.find_all([b"x" * (longest + 9)]) == []


@given(data=st.data())
def test_lines_hold_records_if_each_does(data: st.DataObject) -> None:
    """Lines are said to hold records only if each of them does, and honest ones are."""
    lines: list[bytes | None] = []
    for number in range(data.draw(st.integers(1, 4))):
        line = bytearray(stream_line(b"%032d" % number, b'{"kind":"x","n":"%d"}' % number)[:-1])
        if data.draw(st.integers(0, 2)) == 0:
            place = data.draw(st.integers(0, len(line) - 1))
            line[place] = data.draw(st.sampled_from(b'0afgx{}":,mcr\x00\xff'))
        if data.draw(st.integers(0, 9)) == 0:
            line = line[: data.draw(st.integers(0, len(line)))]
        lines.append(bytes(line))
    if data.draw(st.integers(0, 9)) == 0:
        lines.append(None)
    assert are_records(lines) == all(record_of(line) for line in lines)


ODD = (
    *("start", "finish", "deny", "block", "again", "twice", "swap", "other tool", "other arguments", "other task"),
    *("late", "early", "finding", "forget", "purpose", "wrong place", "bad id", "withhold", "unknown task"),
    *("approved", "approval", "grant"),
)


def steps(*names: str, most: int) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    """Return what a program does, each time under one of three tasks, with one of some tools or open calls."""
    return st.lists(st.tuples(st.sampled_from(names), st.integers(0, 2), st.integers(0, 3)), max_size=most)


BLOCKED = {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "tool_not_granted"}
CALLS: dict[str, Callable[[int], dict[str, Any]]] = {
    "open": lambda _: {},
    "late": lambda choice: {"time": {"start": str(1764000000000000099 - choice)}},
    "early": lambda choice: {"time": {"start": str(1763999999999999999 - choice)}},
    "finding": lambda _: {"findings": ["x"]},
    "bad id": lambda _: {"id": "019ab697-e800-7000-8000-00000000000g"},
}
"""What is special about an intent."""


class Stream:
    """Writes lines as a program would that does odd things."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.open: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []
        self.prev = "0" * 64
        self.number = 0

    def task(self, number: int) -> dict[str, Any]:
        """Return what the records of a task say."""
        return {
            "task": {"id": f"019ab697-e800-7000-8000-0000000001{number:02}", "expires": "1764000300000000000"},
            "agent": {"id": "clerk" + "s" * number, "owner": "finance@example.com"},
            "chain": [{"id": "clerk" + "s" * number, "grant": f"{number}" * 64}],
        }

    def add(self, record: dict[str, Any], **place: str) -> None:
        """Write a record in its place."""
        self.number += 1
        record = {"v": VERSION, "id": f"019ab697-e800-7000-8000-{self.number:012}", **record}
        record.setdefault("time", {"start": str(1764000000000000000 + self.number // 2)})
        record["stream"] = {"id": STREAM, "prev": self.prev, "seq": str(len(self.lines) + 2), **place}
        data = encode_record(record)
        self.prev = leaf_hash(data).hex()
        self.lines.append(stream_line(bytes(32), data)[:-1])
        if record["kind"] == "intent":
            self.open.append(record)

    def step(self, what: str, number: int, choice: int) -> None:
        """Do the next thing."""
        tool = {"tool": ("pay", "bay", "refund", "pay")[choice], "args": f"hmac-sha256:{HEX}"}
        if what in {"start", "purpose", "finish"}:
            self.mark(what, number, choice)
        elif what in {"approved", "approval", "grant"}:
            self.permit(what, number, tool | {"kind": ("grant", "task_start", "task_end", "intent")[choice]})
        elif what == "forget":
            self.open[:1] = []
        elif what in {"deny", "block"}:
            self.add(call("outcome", action=tool, decision=BLOCKED, outcome="denied", error="x", **self.task(number)))
        elif what == "twice":
            for outcome in self.ended[-1:]:
                self.add(outcome)
        elif what in CALLS:
            self.add(call("intent", action=tool, **self.task(number)) | CALLS[what](choice))
        elif what in {"again", "unknown task", "wrong place"}:
            self.open_oddly(what, number, choice)
        elif self.open:
            self.end(what, number, choice)

    def open_oddly(self, what: str, number: int, choice: int) -> None:
        """Write an intent with an id that is there, of a task that is not, or in another place."""
        known = [intent["id"] for intent in self.open] + [outcome["intent"] for outcome in self.ended]
        task = self.task(3 + choice if what == "unknown task" else number)
        record = call("intent", action={"tool": "pay", "args": f"hmac-sha256:{HEX}"}, **task)
        if what == "again" and known:
            record["id"] = known[-choice % len(known)]
        self.add(record, **({"seq": str(len(self.lines) + choice)} if what == "wrong place" else {}))

    def mark(self, what: str, number: int, choice: int) -> None:
        """Write that a task begins or ends."""
        task, principal = self.task(number), call("intent")["principal"]
        if what == "finish":
            counts = {"intents": str(choice), "outcomes": "1", "open": "0"}
            self.add({"kind": "task_end", "principal": principal, "counts": counts, **task})
        else:
            said = {**task["task"], "purpose": "pay"} if what == "purpose" else task["task"]
            self.add({"kind": "task_start", "principal": principal, **task, "task": said})

    def permit(self, what: str, number: int, action: dict[str, str]) -> None:
        """Write that a person approved a call, that one runs because of it, or that a task was granted."""
        task, principal = self.task(number), call("intent")["principal"]
        if what == "approved":
            decision = {"effect": "route", "enforced": "allow", "mode": "enforce", "reason": "x", "approval": STREAM}
            self.add(call("intent", action=action, decision=decision, **task))
        elif what == "approval":
            approval = {"id": STREAM, "status": "pending"}
            self.add({"kind": what, "principal": principal, "action": action, "approval": approval, **task})
        else:
            task["chain"] = [{"id": task["agent"]["id"], "grant": token_hash("e.e.AAAA")}]
            self.add({"kind": what, "principal": principal, "grant": {"token": f"e.e.{'ABCD'[number] * 4}"}, **task})

    def end(self, what: str, number: int, choice: int) -> None:
        """Conclude a call, or something like it."""
        intent = self.open.pop(choice % len(self.open))
        fields = {name: intent[name] for name in ("action", "task", "agent", "chain")}
        if what == "other task":
            fields |= self.task(number)
        elif what == "other tool":
            fields["action"] = {**fields["action"], "tool": "pax"}
        elif what == "other arguments":
            fields["action"] = {**fields["action"], "args": f"hmac-sha256:{HEX[::-1]}"}
        elif what == "withhold":
            fields["decision"] = BLOCKED
        ended = call("outcome", outcome="success", intent=intent["id"], **fields)
        if what == "swap":  # The outcome stands before its intent.
            self.add({**ended, "intent": f"019ab697-e800-7000-8000-{self.number + 2:012}"})
            self.add({name: value for name, value in intent.items() if name not in {"id", "stream", "time"}})
            return
        self.add(ended)
        self.ended.append(ended)


def read(lines: list[bytes], sizes: list[int], many: int, *, apart: bool, committed: int = 30) -> StreamPart | None:
    """Read lines as one part; ``None`` if something is to be reported."""

    def blocks() -> Iterator[Block]:
        done = 0
        for size in [*sizes, len(lines)]:
            some = lines[done : done + size]
            if some:
                yield Block(done, done + len(some), list(some))
            done += size

    one_by_one: Callable[..., None] = StreamCheck.take_apart if apart else StreamCheck.take_block
    with patch.object(StreamCheck, "take_apart", one_by_one), patch.object(parts, "_MANY", many):
        try:
            return PartReader(STREAM, committed, pruned=False, noted=True).take(blocks())
        except ValueError:
            return None


def taught() -> Patterns:
    """Return patterns of calls with every tool that let them through or block them."""
    stream = Stream()
    for choice in range(4):
        for what in ("open", "end", "open", "withhold", "block"):
            stream.step(what, 0, choice)
    patterns = Patterns()
    with patch.object(parts, "_PATTERNS", patterns):
        assert read(stream.lines, [], 1, apart=False) is not None
    return patterns


@pytest.mark.parametrize("odd", [0, 1, 2, 30])
@given(data=st.data())
def test_together_they_say_what_they_say_one_by_one(odd: int, data: st.DataObject) -> None:
    """Whatever a program does, a part says the same, or nothing, however many calls are looked at together."""
    done = data.draw(steps("open", "end", most=30))
    for step in data.draw(steps(*ODD, most=odd)):
        done.insert(data.draw(st.integers(0, len(done))), step)
    stream = Stream()
    for number in range(3):
        stream.step("start", number, 0)
    for step in done:
        stream.step(*step)
    sizes, many = data.draw(st.lists(st.integers(1, 9), max_size=3)), data.draw(st.sampled_from([1, 3, 1_000]))
    committed, near = data.draw(st.sampled_from([1, 9, 60])), data.draw(st.sampled_from([1, 60]))
    with patch.object(waiting, "_MAX_WAITING", near):
        with patch.object(parts, "_PATTERNS", taught()):
            together = read(stream.lines, sizes, many, apart=True, committed=committed)
        with patch.object(parts, "_PATTERNS", taught()):
            assert together == read(stream.lines, sizes, many, apart=False, committed=committed)


def both(lines: list[bytes], sizes: list[int]) -> StreamPart | None:
    """Read lines in both ways, with patterns that are known, and compare."""
    found = []
    for apart in (True, False):
        with patch.object(parts, "_PATTERNS", taught()):
            found.append(read(lines, sizes, 1, apart=apart))
    assert found[0] == found[1]
    return found[0]


def stream_of(*names: str) -> Stream:
    """Return a stream in which a task does some things with one tool."""
    stream = Stream()
    for what in ("start", *names):
        stream.step(what, 0, 0)
    return stream


def test_an_id_that_is_there_twice_is_looked_at_alone() -> None:
    """Of two intents with one id, the later one counts from its place on, in the same batch or in a later one."""
    for names, again in (
        (("open", "end"), ("again",)),
        (("open",), ("again", "end")),
        (("open", "end", "open"), ("again", "end", "end")),
        (("open", "open"), ("again",)),
        (("open", "open"), ("again", "end")),
    ):
        stream = stream_of(*names)
        sizes = [len(stream.lines)]
        for what in again:
            stream.step(what, 0, 0)
        for some, near in ([], 9), (sizes, 9), (sizes, 1):
            with patch.object(waiting, "_MAX_WAITING", near):
                assert both(stream.lines, some) is not None


def test_the_earliest_and_the_latest_call_are_those_that_were_let_through() -> None:
    """Clocks go back, and what is withheld does not count."""
    for names in (
        ("open", "end", "early"),
        ("late", "open"),
        ("open", "late", "withhold"),
        ("late", "withhold", "end"),
    ):
        for sizes in ([], [3]):
            assert both(stream_of(*names).lines, sizes) is not None


CHANGES: dict[str, dict[str, Any]] = {
    "principal": {"principal": {"id": "mallory@example.com", "kind": "human", "provenance": "asserted"}},
    "agent": {"agent": {"id": "clerk", "owner": "finance@example.org"}},
    "agent in the chain": {"chain": [{"id": "clerj", "grant": "0" * 64}]},
    "task": {"task": {"id": "019ab697-e800-7000-8000-000000000109", "expires": "1764000300000000000"}},
    "expiry": {"task": {"id": "019ab697-e800-7000-8000-000000000100", "expires": "1764000300000000001"}},
    "tool": {"action": {"tool": "p\u0061y", "args": f"hmac-sha256:{HEX}"}},
    "time": {"time": {"start": "01"}},
    "id": {"id": STREAM.upper()},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_differs_from_the_calls_before_is_seen(change: str) -> None:
    """A call that names another party, task or time than those that are known passes for none of them."""
    stream = stream_of("open", "end", "open", "end")
    stream.add(
        {**call("intent", action={"tool": "pay", "args": f"hmac-sha256:{HEX}"}, **stream.task(0)), **CHANGES[change]}
    )
    assert (both(stream.lines, []) is None) == (change != "tool")


@pytest.mark.parametrize("place", [{"seq": "8"}, {"seq": "6"}, {"prev": HEX}, {"id": STREAM.replace("1", "2")}])
def test_a_call_in_another_place_is_seen(place: dict[str, str]) -> None:
    """Number, predecessor and stream are compared for each call."""
    stream = stream_of("open", "end", "open", "end")
    record = call("intent", action={"tool": "pay", "args": f"hmac-sha256:{HEX}"}, **stream.task(0))
    stream.add(record, **place)
    assert both(stream.lines, []) is None


@pytest.mark.parametrize(
    ("what", "behind"),
    [(rb'"agent":\{.*\}\],(?="decision")', b'"kind":"intent"'), (rb'"principal":.*(?="time")', b'"trace":{')],
)
def test_members_that_change_their_places_are_seen(what: bytes, behind: bytes) -> None:
    """What is around the context has the same bytes then, but the record is not canonical."""
    stream = stream_of("open", "end", "open", "end")
    stream.step("open", 0, 0)
    line = stream.lines.pop()
    found = re.search(what, line)
    assert found is not None
    moved = line.replace(found[0], b"").replace(behind, found[0] + behind)
    assert len(moved) == len(line)
    assert moved != line
    assert both([*stream.lines, moved], []) is None


def test_a_record_of_a_task_in_another_place_is_refused() -> None:
    """What was found among its bytes is not believed once it is parsed."""
    findings = Findings("ledger", ())
    calls = Calls(findings, Delegations(findings, 0, None, part=True), part=True)
    data = record_of(stream_of().lines[0])
    assert data is not None
    place = {"id": STREAM, "prev": "0" * 64, "seq": "2"}
    assert calls._take_unlike(data, place)["stream"] == place
    with pytest.raises(ValueError, match="in its place"):
        calls._take_unlike(data, {**place, "seq": "3"})


def test_a_use_that_is_gone_is_no_part() -> None:
    """Calls are counted under no other grant than the one that they were cut by."""
    findings = Findings("ledger", ())
    calls = Calls(findings, Delegations(findings, 0, None, part=True), part=True)
    paired = Paired([b"x"], ["pay"], [1], bytearray(1), {}, set())
    with pytest.raises(ValueError, match="expected the use"):
        calls._count_uses([(b"0" * 64, 2, b"", b"")], paired, STREAM, [])


def test_a_kind_that_an_action_names_is_not_that_of_its_record() -> None:
    """An approval takes its place among the calls that were approved, whatever the action calls itself."""
    for choice in range(4):
        stream = stream_of("open", "end", "open", "end")
        for what in ("approved", "approval"):
            stream.step(what, 0, choice)
        found = both(stream.lines, [])
        assert found is not None
        assert [record["kind"] for record, _ in found.calls.later] == ["intent", "approval"]


@pytest.mark.parametrize("together", [True, False])
def test_an_empty_hash_is_no_place_even_where_the_record_before_is_not_known(together: bool) -> None:
    """Behind a line that is none, a call that states an empty hash of it is malformed, as any call that does."""
    stream = stream_of("open", "end", "open", "end")
    stream.lines.append(b"no record")
    stream.prev = ""
    stream.step("open", 0, 0)
    findings = Findings("ledger", ())
    check = StreamCheck(STREAM, None, findings, Calls(findings, Delegations(findings, 0, None)), None)
    check.begin(2, b"0" * 64)
    block = Block(0, sum(map(len, stream.lines)), list(stream.lines))
    if together:
        check.take_block(block)
    else:
        for line in block.each():
            check.take(raw_line(line))
    assert sorted(problem.code for problem in findings.report().findings) == ["malformed_record", "malformed_tail"]


def test_calls_that_are_large_do_not_wait_for_others() -> None:
    """What waits to be recognised is bounded in bytes as well, for a compressed file may be large."""
    stream = stream_of()
    for _ in range(40):
        names = [f"{'x' * 250}:string"] * 200
        stream.add(call("intent", action={"tool": "pay", "names": names}, **stream.task(0)))
    waited = []
    hand_over = StreamCheck.hand_over

    def noted(self: StreamCheck, *given: Any) -> None:
        waited.append(sum(len(line) for _, _, _, line in self._batch.cuts))
        hand_over(self, *given)

    ends = list(accumulate(len(line) + 1 for line in stream.lines))
    blocks = (Block(begin, end, [line]) for begin, end, line in zip([0, *ends[:-1]], ends, stream.lines, strict=True))
    with patch.object(StreamCheck, "hand_over", noted):
        assert PartReader(STREAM, 60, pruned=False).take(blocks) is not None
    assert len(waited) == 3
    assert sum(waited) > 2_000_000
    assert max(waited) < 1_200_000


def test_a_part_holds_little_that_concerns_all_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Approvals are kept until the parts are merged, and may be large; many of them are read in order."""
    for bound, merged in ((12_000, True), (9_000, False)):
        monkeypatch.setattr("agent_identity.audit.calls_check._MUCH_LATER", bound)
        stream = stream_of("open", "end")
        approval = {"id": STREAM, "status": "pending", "reason": "x" * 200}
        action = {"tool": "pay", "names": [f"{'x' * 250}:string"] * 16}
        for _ in range(2):
            principal = call("intent")["principal"]
            stream.add(
                {"kind": "approval", "approval": approval, "principal": principal, "action": action, **stream.task(0)}
            )
        assert (both(stream.lines, []) is not None) == merged


def test_calls_keep_their_order_where_shapes_of_one_length_have_other_slots() -> None:
    """Taken apart as those of a shape with other slots, calls differ in turn; each keeps its own place all the same."""
    stream = stream_of()
    long = "x" * len(f'"args":"hmac-sha256:{HEX}",')
    actions = [{"tool": f"pay{long}"}, *({"tool": "pay", "args": f"hmac-sha256:{digit * 64}"} for digit in "01010")]
    for action in actions:
        stream.add(call("intent", action=action, **stream.task(0)))
    found = []
    for apart in (True, False):
        with patch.object(parts, "_PATTERNS", Patterns()):
            found.append(read(stream.lines, [3], 1, apart=apart))
    assert found[0] == found[1] is not None


def test_calls_like_earlier_ones_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever their task, tool and digits, they wait for each other, and are recognised and counted together."""
    stream = Stream()
    for number in range(3):
        stream.step("start", number, 0)
    for round_ in range(12):
        for what in ("open", "end"):
            stream.step(what, round_ % 3, round_ % 4 if what == "open" else 0)
    patterns, taken = taught(), []
    take = Batch.take

    def noted(self: Batch, *given: Any) -> tuple[int, bytes]:
        done = take(self, *given)
        taken.append(done[0])
        return done

    monkeypatch.setattr(Batch, "take", noted)
    monkeypatch.setattr(parts, "_PATTERNS", patterns)
    monkeypatch.setattr(Calls, "_take_each", lambda *_: pytest.fail("all of these calls can be counted together"))
    assert read(stream.lines, [], 1_000, apart=True) is not None
    assert taken == [24]


def test_calls_of_the_same_measures_are_looked_for_once() -> None:
    """What a task did before is found again by how long it is, which is what makes looking together quick."""
    stream = stream_of(*("open", "end") * 20)
    looked = []
    find = Batch._find_group

    def count(batch: Batch, *call: Any) -> Any:
        looked.append(call)
        return find(batch, *call)

    with patch.object(parts, "_PATTERNS", taught()), patch.object(Batch, "_find_group", count):
        assert read(stream.lines, [], 1_000, apart=True) is not None
    assert len(looked) == 2


def test_calls_that_cannot_be_paired_together_are_recognised_each() -> None:
    """An id that is there twice has one call read in full, and not its neighbours."""
    stream = stream_of(*("open", "end") * 10, "open", "again", *("open", "end") * 10)
    unlike = []
    take = Calls._take_unlike

    def count(calls: Calls, *record: Any) -> Any:
        unlike.append(record)
        return take(calls, *record)

    with patch.object(parts, "_PATTERNS", taught()), patch.object(Calls, "_take_unlike", count):
        assert read(stream.lines, [], 1_000, apart=True) is not None
    assert len(unlike) == 1
