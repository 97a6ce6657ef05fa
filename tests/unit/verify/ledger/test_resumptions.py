"""Calls that go on after a suspension, compared with the outcome that suspended them."""

from typing import Any

import pytest
from msgspec import structs

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record import schema
from agent_identity._record.codec import decode
from agent_identity._verify.ledger._flow_check import Resumptions
from agent_identity._verify.report.findings import Findings, Place

SUSPENDED, RESUMED, RULING = (b64url_encode(bytes([n]) * 16) for n in (1, 2, 3))
CALL: dict[str, Any] = {
    "v": "1",
    "stream": {"id": b64url_encode(bytes([9]) * 16), "seq": "2", "prev": "A" * 43},
    "time": {"start": "70"},
    "task": {"id": "t"},
    "principal": {"id": "alice@example.com", "kind": "human", "provenance": "asserted"},
    "agent": {"id": "clerk", "owner": "ops@example.com"},
    "chain": [{"id": "clerk", "grant": "E" * 43}],
    "action": {"tool": "pay", "kind": "function"},
}
ROUTE = {"effect": "route", "enforced": "allow", "mode": "enforce", "reason": "rule", "approval": RULING}


def suspended(**more: Any) -> schema.Outcome:
    """Return the outcome of a suspended call."""
    body = {**CALL, "id": SUSPENDED, "kind": "outcome", "outcome": "suspended", "decision": ROUTE, **more}
    record = decode(encode_record(body))
    assert isinstance(record, schema.Outcome)
    return record


def resumed(**more: Any) -> schema.Intent:
    """Return the intent of the call when it goes on."""
    record = decode(encode_record({**CALL, "id": RESUMED, "kind": "intent", "decision": ROUTE, "resumes": SUSPENDED}))
    assert isinstance(record, schema.Intent)
    return structs.replace(record, **more)


def found(before: list[tuple[Any, str | None]], now: schema.Intent, label: str | None) -> tuple[list[str], int]:
    """Return the codes, and the number of what was not checked; the order of the two records does not matter."""
    answers = list[tuple[list[str], int]]()
    for first in (True, False):
        findings = Findings("ledger", [str(step) for step in range(1, 9)])
        resumptions = Resumptions(findings)
        if not first:
            resumptions.resume(now, label, Place(RESUMED, "s", 3))
        for record, mark in before:
            resumptions.suspend(record, mark)
        if first:
            resumptions.resume(now, label, Place(RESUMED, "s", 3))
        missing = resumptions.finish()
        answers.append(([problem.code for problem in findings.report().findings], missing))
        assert all(problem.record == RESUMED for problem in findings.report().findings)
    assert answers[0] == answers[1]
    return answers[0]


@pytest.mark.parametrize(
    ("before", "now", "codes", "missing"),
    [
        ("trusted", "trusted", [], 0),
        ("trusted", "untrusted", [], 0),
        ("untrusted", "trusted", ["mark_mismatch"], 0),
        ("unknown", "trusted", ["mark_mismatch"], 0),
        (None, None, [], 0),
        (None, "trusted", [], 1),
        ("trusted", None, [], 1),
    ],
)
def test_a_call_goes_on_at_most_at_the_mark_of_its_suspension(
    before: str | None, now: str | None, codes: list[str], missing: int
) -> None:
    """Where one of the two marks is not here, that is said."""
    assert found([(suspended(), before)], resumed(), now) == (codes, missing)


def test_a_suspension_that_is_not_here_is_not_checked() -> None:
    """Nor is a call that names none."""
    assert found([], resumed(), "trusted") == ([], 1)
    assert found([(suspended(), "untrusted")], resumed(resumes=None), "trusted") == ([], 0)


def test_a_call_that_a_person_was_asked_about_needs_the_ruling() -> None:
    """One that suspended itself does not."""
    free = structs.replace(resumed().decision, effect="allow", approval=None)
    assert found([(suspended(), None)], resumed(decision=free), None) == (["approval_missing"], 0)
    alone = suspended(decision={"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"})
    assert found([(alone, None)], resumed(decision=free), None) == ([], 0)


@pytest.mark.parametrize(
    "other",
    [
        {"principal": {**CALL["principal"], "id": "eve@example.com"}},
        {"agent": {"id": "clerk", "owner": "other@example.com"}},
        {"action": {"tool": "read", "kind": "function"}},
    ],
)
def test_another_principal_agent_or_tool_does_not_go_on(other: dict[str, Any]) -> None:
    """Whatever the ruling says."""
    assert found([(suspended(**other), None)], resumed(), None) == (["approval_mismatch"], 0)


def test_monitor_mode_is_not_judged() -> None:
    """It refuses nothing, and says so."""
    audited = structs.replace(resumed().decision, mode="monitor", enforced="audit", approval=None)
    assert found([(suspended(), "untrusted")], resumed(decision=audited), "trusted") == ([], 0)
