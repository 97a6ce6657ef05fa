"""Approvals, rulings and resumed calls that contradict each other, sealed by an insider with all keys."""

from collections.abc import Callable
from typing import Any, Final

import clean_cases
from call_cases import drop
from case_form import Case, Cases, World
from insider import ALICE, ALLOWED, BOB, STRANGER, Line, digest

from agent_identity import Agent, Human
from agent_identity._identity.principals.principals import principal_from_claim

Edit = Callable[[World], object]


def state(line: Line) -> dict[str, Any]:
    """Return what an approval states."""
    found: dict[str, Any] = line.record["approval"]
    return found


def again(world: World, **changes: Any) -> None:
    """Have the answer carry another ruling about the call, with a record that says the same."""
    ruled = world.task.ruling(changes.pop("tool", "pay"), "1800", **{"id": world.ruled.ruling.id, **changes})
    ruling = ruled.ruling
    said = {"token": ruled.token, "approver": ruling.approver.to_claim(), "expires": str(ruling.expires_at * 10**9)}
    state(world.answered).update(said)


def called_again(world: World, *, how: str = "success") -> None:
    """Make a second call under the same approval, before the first."""
    first = world.task.intent("pay", args="1800", decision=world.ruled.decision)
    for line in (first, world.task.outcome(first, how)):
        world.stream.move(line, before=world.pay)
    world.close.record["end"]["size"] = str(len(world.stream))


APPROVALS: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "approval-dropped",
        "A call names an approval that was asked for and not answered.",
        "approval_missing",
        lambda w: drop(w, w.answered),
    ),
    (
        "approval-unnamed",
        "A call that a policy hands to a person ran, and names no approval.",
        "approval_missing approval_missing",
        lambda w: [line.record["decision"].pop("approval") for line in (w.pay, w.pay_out)],
    ),
    (
        "approval-of-none",
        "A call names an approval that is not there.",
        "approval_missing",
        lambda w: [line.record["decision"].update(approval=w.stream[0].id) for line in (w.pay, w.pay_out)],
    ),
    (
        "approval-rejected",
        "A call ran by an answer that rejects it.",
        "approval_missing",
        lambda w: [line.record["decision"].update(approval=w.no.ruling.id) for line in (w.pay, w.pay_out)],
    ),
    (
        "approval-says-approved",
        "The record says approved, and the ruling in it says rejected.",
        "approval_mismatch",
        lambda w: state(w.no_answered).update(status="approved"),
    ),
    (
        "approval-for-other-arguments",
        "A call has other arguments than the approved one.",
        "approval_mismatch",
        lambda w: [line.record["action"].update(args=digest("9999")) for line in (w.pay, w.pay_out)],
    ),
    (
        "approval-record-other-arguments",
        "Call and approval are about other arguments than the ruling.",
        "approval_mismatch",
        lambda w: [
            line.record["action"].update(args=digest("9999")) for line in (w.asked, w.answered, w.pay, w.pay_out)
        ],
    ),
    (
        "approval-expires-later",
        "The record says that the approval ends later than its ruling says.",
        "approval_mismatch",
        lambda w: state(w.answered).update(expires=str(int(state(w.answered)["expires"]) + 10**9)),
    ),
    (
        "approval-reason-added",
        "The record gives a reason, and the ruling gives none.",
        "approval_mismatch",
        lambda w: state(w.answered).update(reason="as always"),
    ),
    (
        "approval-sources-added",
        "The record exempts an input that the ruling does not name.",
        "approval_mismatch",
        lambda w: state(w.answered).update(sources=[w.asked.id]),
    ),
    (
        "approval-other-approver",
        "The record names another approver than the ruling.",
        "approval_mismatch",
        lambda w: state(w.answered).update(approver=Human("carol@example.com").to_claim()),
    ),
    (
        "approval-verified-approver",
        "The record says that the approver was verified, and the ruling does not.",
        "approval_mismatch",
        lambda w: state(w.answered)["approver"].update(provenance="verified"),
    ),
    (
        "approval-other-request",
        "Question and answer name different digests of the request.",
        "approval_mismatch",
        lambda w: state(w.answered).update(request=digest("another request")),
    ),
    (
        "approval-other-id",
        "The ruling is about another request than the record.",
        "approval_mismatch",
        lambda w: again(w, id=w.stream[0].id),
    ),
    ("approval-other-tool", "The ruling is about another tool.", "approval_mismatch", lambda w: again(w, tool="read")),
    (
        "approval-other-principal",
        "The ruling is about a call of another principal.",
        "approval_mismatch",
        lambda w: again(w, principal=Human("carol@example.com")),
    ),
    (
        "approval-other-agent",
        "The ruling is about a call of another agent.",
        "approval_mismatch",
        lambda w: again(w, agent=Agent("other", owner="finance@example.com")),
    ),
    (
        "approval-other-task",
        "The ruling is about a call of another task, whose request is not there.",
        "approval_request_missing",
        lambda w: again(w, task="another"),
    ),
    ("approval-by-requester", "The principal approved the call.", "approval_self", lambda w: again(w, approver=ALICE)),
    (
        "approval-by-requester-in-capitals",
        "The principal approved the call under a name in capitals.",
        "approval_self",
        lambda w: again(w, approver=Human("ALICE@EXAMPLE.COM")),
    ),
    (
        "approval-by-requester-in-wide-letters",
        "The principal approved the call under a name in wide letters.",
        "approval_self",
        lambda w: again(w, approver=Human("\uff41lice@example.com")),
    ),
    (
        "approval-by-agent",
        "A person with the name of the agent approved the call.",
        "approval_self",
        lambda w: again(w, approver=Human("clerk")),
    ),
    (
        "approval-for-requester",
        "The approver acts for the principal.",
        "approval_self",
        lambda w: again(w, approver=principal_from_claim({**BOB.to_claim(), "via": ["alice@example.com"]})),
    ),
    (
        "approval-by-service",
        "The approver in the record is a service.",
        "approval_forged",
        lambda w: state(w.answered)["approver"].update(kind="service"),
    ),
    ("approval-without-token", "An answer has no ruling.", "approval_forged", lambda w: state(w.answered).pop("token")),
    (
        "approval-without-approver",
        "An answer has no approver.",
        "approval_forged",
        lambda w: state(w.answered).pop("approver"),
    ),
    ("approval-by-stranger", "A stranger signed the ruling.", "unknown_issuer", lambda w: again(w, signer=STRANGER)),
    (
        "approval-token-changed",
        "The ruling has the signature of another ruling.",
        "approval_forged",
        lambda w: state(w.answered).update(
            token=w.ruled.token.rpartition(".")[0] + "." + w.no.token.rpartition(".")[2]
        ),
    ),
    (
        "approval-token-is-a-grant",
        "The ruling is a grant.",
        "approval_forged",
        lambda w: state(w.answered).update(token=w.task.token),
    ),
    (
        "approval-rejection-forged",
        "An answer that rejects has no ruling.",
        "approval_forged",
        lambda w: state(w.no_answered).pop("token"),
    ),
    (
        "approval-late",
        "An answer was taken up in the second in which its ruling had ended.",
        "approval_late",
        lambda w: w.answered.record.update(time={"start": str(w.ruled.ruling.expires_at * 10**9)}),
    ),
    (
        "approval-in-time",
        "An answer was taken up in the last nanosecond of its ruling.",
        "",
        lambda w: w.answered.record.update(time={"start": str(w.ruled.ruling.expires_at * 10**9 - 1)}),
    ),
    (
        "approval-early",
        "An answer was taken up 31 seconds before its ruling.",
        "approval_late",
        lambda w: w.answered.record.update(time={"start": str((w.ruled.ruling.decided_at - 31) * 10**9)}),
    ),
    (
        "rejection-late",
        "A rejection was taken up after its end, and permits nothing.",
        "",
        lambda w: w.no_answered.record.update(time={"start": str(w.no.ruling.expires_at * 10**9)}),
    ),
    ("approval-reused", "Two calls ran by one approval.", "approval_reused", called_again),
    (
        "approval-used-after-suspension",
        "A call was suspended, and ran again by the same approval.",
        "",
        lambda w: called_again(w, how="suspended"),
    ),
    (
        "approval-after-call",
        "The answer stands behind the call that it permits; order between them is not judged.",
        "",
        lambda w: w.stream.move(w.answered, before=w.end),
    ),
    (
        "approval-question-dropped",
        "The question is not there, and the answer is.",
        "",
        lambda w: drop(w, w.asked),
    ),
)
"""On a task with an approved and a rejected call."""


def _without_ruling(world: World) -> None:
    for line in (world.resumed, world.resumed_out):
        line.record["decision"] = dict(ALLOWED)


def _by_another(world: World, **changes: Any) -> None:
    """Have another principal or agent go on with the call, with all its records and its grant."""
    ledger = world.ledger
    stream = ledger.streams[world.later.id]
    hop = ledger.task(stream, "pay", **changes)
    for line in stream:
        if "chain" in line.record:
            line.record.update(hop.said(short=line.record["kind"] == "outcome"))
    stream[1].record["grant"] = {"token": hop.token}
    ruled = hop.ruling("pay", "1800", id=world.ruled.ruling.id, task=world.task.chain.leaf.task_id)
    state(world.answered).update(token=ruled.token)


def _asked_elsewhere(world: World) -> None:
    drop(world, world.asked)


RESUMED: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "resumed-without-ruling",
        "A call that was suspended for a person goes on by the policy alone.",
        "approval_missing",
        _without_ruling,
    ),
    (
        "resumed-by-another-agent",
        "Another agent goes on with a suspended call; the ruling is about this agent.",
        "approval_mismatch approval_request_missing",
        lambda w: _by_another(w, agent=Agent("other", owner="finance@example.com")),
    ),
    (
        "resumed-by-another-principal",
        "Another principal goes on with a suspended call; the ruling is about this principal.",
        "approval_mismatch approval_request_missing",
        lambda w: _by_another(w, principal=Human("carol@example.com")),
    ),
    (
        "resumed-request-dropped",
        "The request of the earlier task is not there.",
        "approval_request_missing",
        _asked_elsewhere,
    ),
    (
        "resumed-from-nowhere",
        "A call goes on from a suspension that is not there.",
        "flow_not_checked",
        lambda w: w.resumed.record.update(resumes=w.stream[0].id),
    ),
    (
        "resumed-other-arguments",
        "A call goes on with other arguments than the ruling names; digests of two tasks cannot be compared.",
        "",
        lambda w: [
            line.record["action"].update(args=digest("9999")) for line in (w.answered, w.resumed, w.resumed_out)
        ],
    ),
    (
        "resumed-other-tool",
        "A call goes on as one of another tool than was suspended and approved.",
        "approval_mismatch approval_mismatch tool_outside_grant",
        lambda w: [line.record["action"].update(tool="read") for line in (w.resumed, w.resumed_out)],
    ),
)
"""On a call that goes on in the stream of a later process."""


def build(bases: dict[str, Case]) -> Cases:
    """Return the cases."""
    cases = Cases()
    for of, rows in (("approving", APPROVALS), ("suspended", RESUMED)):
        make = getattr(clean_cases, of)
        for name, what, codes, edit in rows:
            cases.inside((bases[of], make), name, what, codes, edit)
    return cases
