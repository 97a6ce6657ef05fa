"""Recognising calls: patterns may only ever accept what the full checks accept, with the same meaning."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit.calls_check import Calls
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.findings import Findings
from agent_identity.audit.patterns import Patterns
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
    found = patterns.find(to_bytes(other))
    assert found is not None
    pattern, slots = found
    assert (pattern.kind, pattern.tool) == (record["kind"], record["action"]["tool"])
    assert slots[pattern.id] == other["id"].encode()
    assert slots[pattern.place] == (STREAM.encode(), b"e" * 64, b"11")
    assert slots[pattern.start] == b"1764000000000009999"
    assert slots[pattern.grants] == (b"1" * 64, b"2" * 64)
    assert slots[pattern.task] == (b"1764000300000000000", TASK.encode())
    digest = record["action"].get("args")
    assert (slots[pattern.arguments] if pattern.arguments >= 0 else None) == (digest and digest.encode())
    assert (slots[pattern.intent] if pattern.intent >= 0 else None) == (INTENT.encode() if "intent" in record else None)


@given(st.data())
def test_what_fits_a_pattern_is_accepted_by_the_full_checks(data: st.DataObject) -> None:
    """Any change of bytes either fits no pattern, or leaves a canonical record of the right shape."""
    patterns = taught(*VARIANTS)
    body = bytearray(to_bytes(data.draw(st.sampled_from(VARIANTS))))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.sampled_from(b'0189afz"\\{}:,[]\n~ -\x00\xff'))
    found = patterns.find(bytes(body))
    if found is None:
        return
    pattern, slots = found
    # What the caller compares with what it knows before it accepts the record.
    if slots[pattern.place] != (STREAM.encode(), b"0" * 64, b"10"):
        return
    if slots[pattern.grants] != (b"1" * 64, b"2" * 64):
        return
    if slots[pattern.task] != (b"1764000300000000000", TASK.encode()):
        return
    if pattern.intent >= 0 and slots[pattern.intent] != INTENT.encode():
        return
    record = decode_record(bytes(body))
    check_record(record)
    assert record["kind"] == pattern.kind
    assert str(record["id"]).encode() == slots[pattern.id]


@pytest.mark.parametrize(
    "record",
    [
        call(task={"id": TASK}),
        call(task={"id": "short", "expires": "1764000300000000000"}),
        {**call(), "kind": "approval"},
        call(chain=None, attribution="none"),
    ],
)
def test_what_cannot_be_a_pattern_is_left_to_the_full_checks(record: dict[str, Any]) -> None:
    """Calls without the slots that are compared teach nothing."""
    patterns = Patterns()
    patterns.learn(record, to_bytes(record))
    assert patterns.find(to_bytes(record)) is None


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
    recognised = calls.recognise(to_bytes(call(**changes)), (STREAM.encode(), b"0" * 64, b"10"))
    assert (recognised is None) == bool(changes)
