"""Recognising calls: patterns may only ever accept what the full checks accept, with the same meaning."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit.calls_check import Calls
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.findings import Findings
from agent_identity.audit.patterns import Cut, Pattern, Patterns, Slots, cut, place_of
from agent_identity.canonical import decode_record
from agent_identity.evidence.records import VERSION, check_record

STREAM = "019ab697-e800-7000-8000-000000000001"
TASK = "019ab697-e800-7000-8000-000000000002"
INTENT = "019ab697-e800-7000-8000-000000000003"


def call(kind: str = "outcome", **changes: Any) -> dict[str, Any]:
    """Return a call under a task; ``None`` removes a member."""
    record: dict[str, Any] = {
        "v": VERSION,
        "id": "019ab697-e800-7000-8000-000000000009",
        "kind": kind,
        "stream": {"id": STREAM, "seq": "10", "prev": "0" * 64},
        "time": {"start": "1764000000000000000", "end": "1764000000000000001"},
        "trace": {"trace": "a" * 32, "span": "b" * 16},
        "task": {"id": TASK, "expires": "1764000300000000000"},
        "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
        "agent": {"id": "clerk", "owner": "finance@example.com"},
        "chain": [{"id": "clerk", "grant": "1" * 64}, {"id": "reader", "grant": "2" * 64}],
        "action": {
            "tool": "pay",
            "kind": "function",
            "args": "hmac-sha256:" + "c" * 64,
            "names": ["amount:number"],
            "call": "call_1234",
            "result": "hmac-sha256:" + "d" * 64,
        },
        "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"},
        **({"outcome": "success", "intent": INTENT} if kind == "outcome" else {}),
        **changes,
    }
    return {name: value for name, value in record.items() if value is not None}


def to_bytes(record: object) -> bytes:
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def taught(*records: dict[str, Any]) -> Patterns:
    patterns = Patterns()
    for record in records:
        check_record(record)
        patterns.learn(record, to_bytes(record))
    return patterns


def find(patterns: Patterns, data: bytes) -> tuple[Pattern, Slots, Cut] | None:
    """Return what is recognised in a call, if context and place are those that are expected."""
    parts = cut(data)
    found = None if parts is None else patterns.find(parts.rest)
    if found is None or parts is None:
        return None
    pattern, slots = found
    return (pattern, slots, parts) if (pattern.first, pattern.second) == (parts.first, parts.second) else None


VARIANTS = [
    call(),
    call("intent"),
    call(trace=None),
    call(outcome="denied", intent=None, error="tool_not_granted"),
    call("intent", action={"tool": "read", "kind": "function"}),
    call(findings=["secret_like"], time={"start": "1764000000000000000"}),
]


@pytest.mark.parametrize("record", VARIANTS)
def test_a_likeness_is_recognised(record: dict[str, Any]) -> None:
    """A call that differs in ids, times and digests fits the pattern, and its slots say how."""
    patterns = taught(record)
    other = {
        **record,
        "id": "019ab697-e800-7000-8000-00000000ffff",
        "stream": {"id": STREAM, "seq": "11", "prev": "e" * 64},
        "time": dict.fromkeys(record["time"], "1764000000000009999"),
    }
    found = find(patterns, to_bytes(other))
    assert found is not None
    pattern, slots, _ = found
    assert (pattern.kind, pattern.tool) == (record["kind"], record["action"]["tool"])
    assert slots[pattern.id] == other["id"].encode()
    assert slots[pattern.start] == b"1764000000000009999"
    digest = record["action"].get("args")
    assert (slots[pattern.arguments] if pattern.arguments >= 0 else None) == (digest and digest.encode())
    assert (slots[pattern.intent] if pattern.intent >= 0 else None) == (INTENT.encode() if "intent" in record else None)


@given(st.data())
def test_what_fits_a_pattern_is_accepted_by_the_full_checks(data: st.DataObject) -> None:
    """Any change of bytes either fits no pattern, or leaves a canonical record of the right shape."""
    calls = Calls(findings := Findings("ledger", ["x"]), Delegations(findings, 1, None))
    intent = call("intent", id=INTENT)
    for record in (*VARIANTS, intent):
        calls.take(record, to_bytes(record), STREAM, 8)
    body = bytearray(to_bytes(data.draw(st.sampled_from(VARIANTS))))
    for _ in range(data.draw(st.integers(0, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from(b'0189afz"\\{}:,[]\n~ -\x00\xff'))
    if data.draw(st.booleans()):  # Two members change their places, which keeps the length.
        marks = [m.start() for m in re.finditer(rb',"[a-z]+":', body)]
        one, two, three = sorted(data.draw(st.lists(st.sampled_from(marks), min_size=3, max_size=3, unique=True)))
        body = body[:one] + body[two:three] + body[one:two] + body[three:]
    found = calls.recognise(bytes(body), place_of(STREAM.encode(), b"0" * 64, 10))
    if found is None:
        return
    pattern, identifier, *_ = found[0]
    record = decode_record(bytes(body))
    check_record(record)
    assert record["kind"] == pattern.kind
    assert str(record["id"]).encode() == identifier


@pytest.mark.parametrize(
    "record",
    [
        call(id="short"),
        call(time={"start": "soon"}),
        {**call(), "kind": "approval"},
        call(chain=None, attribution="none"),
    ],
)
def test_what_cannot_be_a_pattern_is_left_to_the_full_checks(record: dict[str, Any]) -> None:
    """Calls without the slots that are needed teach nothing."""
    patterns = Patterns()
    assert patterns.learn(record, to_bytes(record)) is None
    assert find(patterns, to_bytes(record)) is None


def test_patterns_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ever new tools, and ever new layouts of one length, do not make memory grow."""
    monkeypatch.setattr("agent_identity.audit.shapes._MAX_SHAPES", 10)
    patterns = Patterns()
    for number in range(100):
        record = call(action={"tool": f"t{number}", "kind": "function"})
        patterns.learn(record, to_bytes(record))
    layouts = [layout for found in patterns._shapes._layouts.values() for layout in found.values()]
    assert sum(len(layout.shapes) for layout in layouts) <= 10
    monkeypatch.undo()
    patterns = Patterns()
    for number in range(1, 40):
        # A longer call id and a shorter tool: another layout of the same length.
        record = call(action={"tool": "t" * (60 - number), "call": "c" * (4 + number)})
        patterns.learn(record, to_bytes(record))
    assert [len(found) for found in patterns._shapes._layouts.values()] == [8]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"principal": {"id": "mallory", "kind": "human", "provenance": "asserted"}},
        {"agent": {"id": "other", "owner": "finance@example.com"}},
        {"chain": [{"id": "other", "grant": "1" * 64}, {"id": "reader", "grant": "2" * 64}]},
        {"chain": [{"id": "clerk", "grant": "3" * 64}, {"id": "reader", "grant": "2" * 64}]},
        {"chain": [{"id": "clerk", "grant": "1" * 64}, {"id": "reader", "grant": "3" * 64}]},
        {"task": {"id": TASK, "expires": "1764000300000000001"}},
        {"stream": {"id": STREAM, "seq": "10", "prev": "1" * 64}},
        {"stream": {"id": STREAM, "seq": "11", "prev": "0" * 64}},
        {"stream": {"id": TASK, "seq": "10", "prev": "0" * 64}},
        {"intent": STREAM},
    ],
)
def test_a_pattern_does_not_lend_its_authority(changes: dict[str, Any]) -> None:
    """A call is recognised only with the parties, chain, task and place that are known, and an open intent."""
    calls = Calls(findings := Findings("ledger", ["x"]), Delegations(findings, 1, None))
    intent = call("intent", id=INTENT)
    calls.take(intent, to_bytes(intent), STREAM, 8)
    known = call()
    calls.take(known, to_bytes(known), STREAM, 9)
    calls.take(intent, to_bytes(intent), STREAM, 8)
    if changes:
        # The pattern of the changed call is known as well; only what it names is another.
        changed = call(**changes)
        calls._patterns.learn(changed, to_bytes(changed))
    recognised = calls.recognise(to_bytes(call(**changes)), place_of(STREAM.encode(), b"0" * 64, 10))
    assert (recognised is None) == bool(changes)
