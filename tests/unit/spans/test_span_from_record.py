"""The span of a record is made from the record alone."""

import hashlib
from typing import Any

import pytest

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._spans.envelope import Attestation
from agent_identity._spans.span_attributes import compare, error_of
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE, appearance_of, make_span, span_ids
from agent_identity.identity import SigningKey
from agent_identity.records import AnyRecord, decode, encode

KEY = SigningKey.from_seed(bytes([7]) * 32)
UUID = "AZV6P04jewGp0QAAAAAAoQ"
TASK = "AZV6P04jewGp0QAAAAAAsQ"
PARTIES: dict[str, Any] = {
    "task": {"id": TASK},
    "principal": {"id": "alice", "kind": "human", "provenance": "asserted"},
    "agent": {"id": "clerk", "owner": "finance"},
    "chain": [{"id": "clerk", "grant": "A" * 43}],
}
CALL: dict[str, Any] = {
    "action": {"tool": "pay", "kind": "function"},
    "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"},
}


COUNTS = {"intents": "0", "outcomes": "0", "open": "0"}


def record(kind: str, **members: Any) -> AnyRecord:
    """Return a record of a kind."""
    stream = {"id": UUID, "seq": "12", "prev": "E" * 43}
    needed: dict[str, Any] = {"task_end": {"counts": COUNTS}, "task_start": {}}.get(kind, CALL)
    if kind == "outcome":
        needed = {**needed, "outcome": "success"}
    head = {"v": "1", "id": UUID, "kind": kind, "stream": stream, "time": {"start": "5"}}
    return decode(encode_record({**head, **needed, **members}))


def test_stated_ids_are_taken_as_they_are() -> None:
    """A record that names its span has no other."""
    trace = {"trace": "c" * 32, "span": "d" * 16}
    assert span_ids(record("outcome", trace=trace, **PARTIES)) == ("c" * 32, "d" * 16)


def test_missing_ids_follow_from_the_record() -> None:
    """Without a tracer, the records of a task share a trace, and each has a span of its own; for ever the same."""
    first, second = record("outcome", **PARTIES), record("task_end", **PARTIES, id=TASK)
    assert span_ids(first) == ("4492052f045e05334acee6d0302cdec7", "11d159480fa99121")
    assert span_ids(first)[0] == span_ids(second)[0]
    assert span_ids(first)[1] != span_ids(second)[1]
    assert span_ids(record("outcome", **PARTIES, trace={"trace": "c" * 32})) == ("c" * 32, span_ids(first)[1])
    task = "agent-identity/trace/v1\n" + TASK
    assert span_ids(first)[0] == hashlib.sha256(task.encode()).hexdigest()[:32]
    assert span_ids(first)[1] == hashlib.sha256(f"agent-identity/span/v1\n{UUID}".encode()).hexdigest()[:16]
    alone = record("outcome", attribution="none")
    assert span_ids(alone)[0] == hashlib.sha256(f"agent-identity/trace/v1\n{UUID}".encode()).hexdigest()[:32]
    assert span_ids(alone)[0] != span_ids(first)[0]


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"kind": "outcome", "outcome": "success"}, None),
        ({"kind": "outcome", "outcome": "routed"}, None),
        ({"kind": "outcome", "outcome": "suspended"}, None),
        ({"kind": "outcome", "outcome": "cancelled"}, None),
        ({"kind": "outcome", "outcome": "cancelled", "error": "Stop"}, None),
        ({"kind": "outcome", "outcome": "error"}, "error"),
        ({"kind": "outcome", "outcome": "denied", "error": "no_task"}, "no_task"),
        ({"kind": "intent"}, "unknown"),
        ({"kind": "task_end", "error": "ValueError"}, "ValueError"),
        ({"kind": "task_start"}, None),
    ],
)
def test_only_calls_that_failed_have_an_error(members: dict[str, Any], error: str | None) -> None:
    """The status says what went wrong with a call, and that of an intent alone nothing is known."""
    members = dict(members)
    kind = members.pop("kind")
    assert error_of(record(kind, **PARTIES, **members)) == error


def test_an_outcome_becomes_the_span_of_its_call() -> None:
    """Name, times, parent, status, copy and signature are all in the record."""
    outcome = record(
        "outcome",
        outcome="error",
        error="ValueError",
        intent=TASK,
        **PARTIES,
        time={"start": "5", "end": "9"},
    )
    span = make_span(outcome, encode(outcome), KEY, parent="e" * 16)
    assert (span.name, span.start, span.end, span.parent_id) == ("execute_tool pay", 5, 9, "e" * 16)
    assert span.error == "ValueError"
    assert span.attributes["gen_ai.operation.name"] == "execute_tool"
    assert span.attributes["gen_ai.tool.type"] == "function"
    assert {check.verdict for check in compare(outcome, span.attributes)} == {"match"}
    attestation = Attestation.from_attributes(span.attributes)
    assert attestation.open(lambda _: KEY.public_key) == encode(outcome)
    again = make_span(outcome, encode(outcome), KEY, parent="e" * 16)
    assert again == span


def test_an_intent_alone_is_a_call_whose_outcome_is_unknown() -> None:
    """It begins, is nowhere said to end, and is marked so; a stated parent needs no other."""
    trace = {"trace": "c" * 32, "span": "d" * 16, "parent": "f" * 16}
    intent = record("intent", trace=trace, action={"tool": "pay", "stage": "prompt"}, **PARTIES)
    span = make_span(intent, encode(intent), KEY)
    assert (span.start, span.end, span.parent_id, span.error) == (5, 5, "f" * 16, "unknown")
    assert span.attributes["agent_identity.outcome"] == "unknown"
    assert span.attributes["agent_identity.record.kind"] == "intent"
    assert "gen_ai.tool.type" not in span.attributes
    assert {check.verdict for check in compare(intent, span.attributes)} == {"match"}


def test_only_the_span_of_a_task_opens() -> None:
    """No other library creates spans of tasks, whatever scope a store shows; one may create spans of calls."""
    assert [appearance_of(record(kind, **PARTIES)).opens for kind in ("task_end", "outcome")] == [True, False]


def test_a_task_carries_its_grants() -> None:
    """The span of a task is that of its agent, with the grants that a verifier needs."""
    end = record("task_end", **PARTIES)
    span = make_span(end, encode(end), KEY, grants="a.b.c")
    assert (span.name, span.error, span.parent_id) == ("invoke_agent clerk", None, None)
    assert span.attributes[GRANT_ATTRIBUTE] == "a.b.c"
    assert span.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert span.attributes["gen_ai.agent.name"] == "clerk"
    assert GRANT_ATTRIBUTE not in make_span(end, encode(end), KEY).attributes


def test_what_is_neither_call_nor_task_has_no_span() -> None:
    """Whoever asks for the span of another record made a mistake."""
    policy = {"name": "p", "version": "1", "digest": "A" * 43}
    head = {"v": "1", "id": UUID, "stream": {"id": UUID, "seq": "12", "prev": "E" * 43}, "time": {"start": "5"}}
    with pytest.raises(TypeError, match="call or a task"):
        appearance_of(decode(encode_record({**head, "kind": "policy", "policy": policy})))


def test_a_refused_opening_is_named_for_the_agent_that_was_asked_for() -> None:
    """Nobody acted yet, so the span names who would have."""
    action = {"tool": "invoke_agent", "kind": "task", "agent": {"id": "other", "owner": "x"}}
    refused = record("outcome", attribution="none", action=action, outcome="denied")
    span = make_span(refused, encode(refused), KEY)
    assert (span.name, span.attributes["gen_ai.operation.name"]) == ("invoke_agent other", "invoke_agent")
