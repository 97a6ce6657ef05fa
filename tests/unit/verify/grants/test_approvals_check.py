"""What the verifier says where the enforcement point was made to let through what it must not."""

import copy
import gc
import tracemalloc
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._guard.approvals.service import Approvals
from agent_identity._guard.calls.approval_request import Conditions
from agent_identity._identity.common import ids
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._verify.grants import approvals_check
from agent_identity._verify.grants.approvals_check import ApprovalsCheck
from agent_identity._verify.report.elsewhere import Elsewhere, Found, Missing
from agent_identity._verify.report.findings import Findings, Place
from agent_identity.approvals import Answer, Approval, ApprovalRequest, Approvers
from agent_identity.errors import Denied
from agent_identity.identity import TrustedKey, TrustStore
from agent_identity.options import Sources
from agent_identity.records import Approval as ApprovalRecord
from agent_identity.records import Intent, Outcome
from agent_identity.testing import FixedClock, SequentialIds

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", id="four-eyes", to="desk"))
START = 1_764_000_000
HERE = Place("r", "s", 1)
AGAIN = "AZq1rUgAcACAAAAAAADwDQ"


def _yes(request: ApprovalRequest) -> Answer:
    return request.approve(by=BOB)


def _run(directory: Path, ask: Callable[[ApprovalRequest], object] = _yes, calls: tuple[int, ...] = (1,)) -> None:
    sources = Sources(clock=FixedClock(START * 10**9), ids=SequentialIds())
    routes = {"desk": Approval(ask=ask, approvers=Approvers(ttl=timedelta(seconds=60)))}
    with Enforcer.open(directory, policy=POLICY, routes=routes, sources=sources) as enforcer:

        @enforcer.tool
        def pay(amount: int) -> int:
            return amount

        with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay")):
            for amount in calls:
                pay(amount)


def _codes(directory: Path) -> set[str]:
    return {problem.code for problem in Verifier().ledger(directory).findings}


def test_sound_approvals_are_counted_and_say_nothing(tmp_path: Path) -> None:
    """Three approved calls, two of them alike, are three approvals and no finding."""
    _run(tmp_path / "e", calls=(1, 1, 2))
    report = Verifier().ledger(tmp_path / "e")
    assert (report.verdict, report.counts["approvals"], report.kinds["approval"]) == ("verified", 3, 6)


def test_a_call_that_names_an_approval_that_is_nowhere_is_a_contradiction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the enforcement point had let it run without one."""

    def forget(_self: object, call: Any, _desk: object, held: Any, **_: object) -> None:
        call.approval = held.ruling.id

    monkeypatch.setattr(Approvals, "take_up", forget)
    _run(tmp_path / "e")
    assert _codes(tmp_path / "e") == {"approval_missing"}


def test_a_call_that_had_to_be_approved_and_names_no_approval_is_a_contradiction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is found as the first is, although it looks like it."""

    def forget(_self: object, call: Any, _desk: object, _held: object, **_: object) -> None:
        call.approval = None

    monkeypatch.setattr(Approvals, "take_up", forget)
    _run(tmp_path / "e", calls=(1, 1))
    report = Verifier().ledger(tmp_path / "e")
    assert [problem.code for problem in report.findings] == ["approval_missing"] * 4


def test_an_approval_that_was_used_again_is_a_contradiction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call names its approval, so two that name one are found."""
    kept: list[str] = []

    def again(request: ApprovalRequest) -> object:
        if not kept:
            kept.append(approvals[0].approve(request, by=BOB))
        return kept[0]

    approvals: list[Approvals] = []
    made = Approvals.__init__

    def noted(self: Approvals, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        approvals.append(self)

    monkeypatch.setattr(Approvals, "__init__", noted)
    monkeypatch.setattr(Approvals, "_check_first", lambda *_: None)
    _run(tmp_path / "e", again, calls=(1, 1))
    assert _codes(tmp_path / "e") == {"approval_reused"}
    monkeypatch.setattr(Approvals, "_check", lambda *_: None)
    approvals.clear()
    kept.clear()
    _run(tmp_path / "f", again, calls=(1, 2))
    assert "approval_mismatch" in _codes(tmp_path / "f")


def test_a_principal_who_approved_is_a_contradiction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verifier knows both, and does not ask the enforcement point."""
    monkeypatch.setattr(Conditions, "check", lambda *_: None)
    _run(tmp_path / "e", lambda request: request.approve(by=Human("Alice@example.com")))
    assert _codes(tmp_path / "e") == {"approval_self"}


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], TrustStore]:
    """The records of one approved call, and whom to trust."""
    directory = tmp_path_factory.mktemp("taken") / "e"
    _run(directory)
    reader = open_ledger(directory)
    records = [orjson.loads(line.record) for stream in reader.streams() for line in reader.entries(stream)]
    found = [record for record in records if record["kind"] in ("approval", "intent", "outcome")]
    return found, TrustStore.load(directory / "trust.json")


def typed(members: dict[str, Any]) -> ApprovalRecord | Intent | Outcome:
    """Return the record of its members."""
    record = decode(encode_record(members))
    assert isinstance(record, ApprovalRecord | Intent | Outcome)
    return record


def outside(call: dict[str, Any]) -> None:
    """Let a call say that it belongs to no task."""
    for name in ("task", "principal", "agent", "chain"):
        del call[name]
    call["attribution"] = "none"


def _judged(
    taken: tuple[list[dict[str, Any]], TrustStore],
    change: Callable[[list[dict[str, Any]]], object] = lambda _: None,
    *,
    trust: TrustStore | None = None,
    proved: bool = True,
) -> list[str]:
    findings = Findings("ledger", ("step",) * 8)
    records = copy.deepcopy(taken[0])
    change(records)
    checked = ApprovalsCheck(findings, trust or taken[1])
    for record in records:
        checked.take(typed(record), HERE)
    checked.settle(lambda _: proved)
    return [problem.code for problem in findings.report().findings]


def _set(at: int, *path: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    def change(records: list[dict[str, Any]]) -> None:
        member = records[at]
        for name in path[:-1]:
            member = member[name]
        if value is None:
            del member[path[-1]]
        else:
            member[path[-1]] = value

    return change


OTHER = "A" * 43


@pytest.mark.parametrize("near", [0, 1_024])
@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda _: None, []),
        (_set(1, "approval", "token", value=None), ["approval_forged"]),
        (_set(1, "approval", "token", value="e30.e30.e30"), ["approval_forged"]),
        (_set(1, "approval", "approver", value=None), ["approval_forged"]),
        (_set(1, "approval", "approver", "kind", value="service"), ["approval_forged"]),
        (_set(1, "approval", "approver", "id", value="carol"), ["approval_mismatch"]),
        (_set(1, "approval", "approver", "provenance", value="verified"), ["approval_mismatch"]),
        (_set(1, "approval", "approver", "issuer", value="x"), ["approval_mismatch"]),
        (_set(1, "approval", "expires", value=str((START + 10**6) * 10**9)), ["approval_mismatch"]),
        (_set(1, "approval", "reason", value="he asked nicely"), ["approval_mismatch"]),
        (_set(1, "action", "args", value=OTHER), ["approval_mismatch"] * 2),
        (_set(2, "action", "args", value=OTHER), ["approval_mismatch"]),
        (_set(2, "action", "tool", value="other"), ["approval_mismatch"]),
        (_set(2, "task", "id", value="other"), ["approval_mismatch"]),
        (_set(2, "agent", "id", value="other"), ["approval_mismatch"]),
        (_set(2, "decision", "approval", value=None), ["approval_missing"]),
        (lambda records: outside(records[2]), ["approval_missing"]),
        (lambda records: records.pop(1), ["approval_missing"]),
        (lambda records: records.append(copy.deepcopy(records[2])), ["approval_reused"]),
        (_set(1, "time", "start", value=str((START + 60) * 10**9)), ["approval_late"]),
        (_set(1, "time", "start", value=str((START - 60) * 10**9)), ["approval_late"]),
        (_set(0, "approval", "status", value="expired"), []),
        (
            lambda records: [record["principal"].update(via=["portal", "BOB@example.com"]) for record in records],
            ["approval_self"],
        ),
        (
            _set(1, "approval", "approver", "via", value=["portal", "alice@example.com"]),
            ["approval_self", "approval_mismatch"],
        ),
        (_set(1, "approval", "approver", "roles", value=["board"]), ["approval_mismatch"]),
    ],
)
def test_each_thing_that_does_not_fit_is_found(
    taken: tuple[list[dict[str, Any]], TrustStore],
    change: Callable[[list[dict[str, Any]]], object],
    codes: list[str],
    near: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One member changed, in the approval or in the call, and nothing else; in memory or in a file."""
    monkeypatch.setattr(approvals_check, "_NEAR", near)
    assert _judged(taken, change) == codes


@pytest.fixture(scope="module")
def turned_down(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], TrustStore]:
    """The records of one rejected call, and whom to trust."""
    directory = tmp_path_factory.mktemp("rejected") / "e"
    with pytest.raises(Denied):
        _run(directory, lambda request: request.reject(by=BOB, reason="ask the board"))
    reader = open_ledger(directory)
    records = [orjson.loads(line.record) for stream in reader.streams() for line in reader.entries(stream)]
    found = [record for record in records if record["kind"] in ("approval", "outcome")]
    return found, TrustStore.load(directory / "trust.json")


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda _: None, []),
        (_set(1, "time", "start", value=str((START + 10**6) * 10**9)), []),
        (_set(1, "approval", "token", value=None), ["approval_forged"]),
        (_set(1, "approval", "token", value="e30.e30.e30"), ["approval_forged"]),
        (_set(1, "approval", "approver", value=None), ["approval_forged"]),
        (_set(1, "approval", "approver", "id", value="carol"), ["approval_mismatch"]),
        (_set(1, "approval", "approver", "id", value="alice@example.com"), ["approval_self", "approval_mismatch"]),
        (_set(1, "approval", "approver", "provenance", value="verified"), ["approval_mismatch"]),
        (_set(1, "approval", "reason", value="because"), ["approval_mismatch"]),
        (_set(1, "approval", "status", value="approved"), ["approval_mismatch"]),
        (_set(1, "action", "tool", value="other"), ["approval_mismatch"]),
        (_set(1, "action", "args", value=OTHER), ["approval_mismatch"]),
    ],
)
def test_a_rejection_is_what_the_person_signed(
    turned_down: tuple[list[dict[str, Any]], TrustStore],
    change: Callable[[list[dict[str, Any]]], object],
    codes: list[str],
) -> None:
    """Who holds the recorder's key alone puts no rejection into the mouth of a person; a late one is none the less."""
    assert _judged(turned_down, change) == codes


@pytest.mark.parametrize("is_same", [False, True])
def test_the_memory_for_approvals_is_bounded(
    taken: tuple[list[dict[str, Any]], TrustStore], monkeypatch: pytest.MonkeyPatch, *, is_same: bool
) -> None:
    """Approvals beyond some thousands wait in a file, and one that thousands of records name is reused."""
    monkeypatch.setattr(approvals_check, "_NEAR", 10)
    monkeypatch.setattr(approvals_check, "_MOST", 10)
    findings, sizes = Findings("ledger", ("step",) * 8), list[int]()
    checked = ApprovalsCheck(findings, taken[1])
    tracemalloc.start()
    try:
        for number in range(600):
            for record in copy.deepcopy(taken[0]):
                of, name = ("approval", "id") if record["kind"] == "approval" else ("decision", "approval")
                record[of][name] = ids.id_of(START * 10**9, (0 if is_same else number).to_bytes(8))
                checked.take(typed(record), HERE)
            if number in (200, 599):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 399 * 500
    assert (findings.number("contradicted") > 0) is is_same


def test_a_call_in_a_later_task_needs_the_request_of_the_earlier(
    taken: tuple[list[dict[str, Any]], TrustStore],
) -> None:
    """Digests of two tasks cannot be compared, so the request must be there that the ruling is about."""

    def later(records: list[dict[str, Any]]) -> None:
        for record in records[1:]:
            record["task"]["id"] = "later"
            record["action"]["args"] = OTHER

    def gone(records: list[dict[str, Any]]) -> None:
        later(records)
        records[0]["action"]["args"] = OTHER

    assert _judged(taken, later) == []
    assert _judged(taken, gone) == ["approval_request_missing"]


def test_the_request_of_an_earlier_task_may_be_at_another_host(taken: tuple[list[dict[str, Any]], TrustStore]) -> None:
    """It counts if it is what the ruling is about; another request of the same id answers nothing."""
    asked: list[set[Missing]] = []

    def judged(found: Mapping[Missing, Found]) -> list[str]:
        findings = Findings("ledger", ("step",) * 8)
        findings.elsewhere = Elsewhere(found)
        checked = ApprovalsCheck(findings, taken[1])
        for record in copy.deepcopy(taken[0][1:]):
            record["task"]["id"] = "later"
            record["action"]["args"] = OTHER
            checked.take(typed(record), HERE)
        checked.settle(lambda _: True)
        asked.append(findings.elsewhere.asked)
        return sorted(problem.code for problem in findings.report().findings)

    request, other = typed(taken[0][0]), copy.deepcopy(taken[0][0])
    assert isinstance(request, ApprovalRecord)
    missing: Missing = ("approval", request.approval.id)
    other["action"]["args"] = OTHER
    assert judged({}) == ["approval_request_missing"]
    assert asked == [{missing}]
    assert judged({missing: Found("host", request)}) == ["found_elsewhere"]
    assert judged({missing: Found("host", typed(other))}) == ["approval_request_missing", "found_elsewhere"]


def test_what_a_revoked_or_unknown_key_signed_is_in_doubt(taken: tuple[list[dict[str, Any]], TrustStore]) -> None:
    """Dated after the revocation it is refused, before it needs proof of its age."""
    trust = taken[1]

    def with_issuer(**options: object) -> TrustStore:
        keys = [TrustedKey(k.key, k.purpose, **(options if k.purpose == "issuer" else {})) for k in trust.keys]
        return TrustStore(tuple(keys), issuer=trust.issuer, origin=trust.origin)

    assert _judged(taken, trust=with_issuer(revoked_since=START)) == ["signed_after_revocation"]
    assert _judged(taken, trust=with_issuer(revoked_since=START + 1)) == []
    assert _judged(taken, trust=with_issuer(revoked_since=START + 1), proved=False) == ["key_revoked"]
    assert _judged(taken, trust=with_issuer(not_before=START + 1)) == ["unknown_issuer"]
    only = TrustStore(tuple(key for key in trust.keys if key.purpose != "issuer"), origin=trust.origin)
    assert _judged(taken, trust=only) == ["unknown_issuer"]


def test_a_revocation_counts_to_the_second_and_for_the_use_as_well(
    taken: tuple[list[dict[str, Any]], TrustStore],
) -> None:
    """An approval that was used in the second of the revocation is in doubt; one used before and proved is not."""
    keys = [
        TrustedKey(k.key, k.purpose, **({"revoked_since": START + 10} if k.purpose == "issuer" else {}))
        for k in taken[1].keys
    ]
    trust = TrustStore(tuple(keys), issuer=taken[1].issuer, origin=taken[1].origin)

    def used(nanoseconds: int) -> list[str]:
        return _judged(taken, _set(1, "time", "start", value=str(START * 10**9 + nanoseconds)), trust=trust)

    assert used(10 * 10**9 - 1) == []
    assert used(10 * 10**9) == ["key_revoked"]
    for since, message in (
        (START, "the approval is dated after the revocation of the issuer key"),
        (START + 1, "nothing proves that the approval is older than the revocation of the issuer key"),
    ):
        keys = [
            TrustedKey(k.key, k.purpose, **({"revoked_since": since} if k.purpose == "issuer" else {}))
            for k in taken[1].keys
        ]
        findings = Findings("ledger", ("step",) * 8)
        checked = ApprovalsCheck(findings, TrustStore(tuple(keys), issuer=taken[1].issuer, origin=taken[1].origin))
        for place, record in enumerate(taken[0], 1):
            checked.take(typed(record), Place("r", "s", place))
        checked.settle(lambda _: False)
        assert [(problem.message, problem.seq) for problem in findings.report().findings] == [(message, 2)]


def test_a_call_that_left_its_body_to_be_made_again_uses_its_approval_once(
    taken: tuple[list[dict[str, Any]], TrustStore],
) -> None:
    """Whichever of the two is recorded first; two that both ran to their end are two uses."""

    def judged(first: str, second: str) -> list[str]:
        findings = Findings("ledger", ("step",) * 8)
        checked = ApprovalsCheck(findings, taken[1])
        request, approval, intent, outcome = copy.deepcopy(taken[0])
        again, ended = copy.deepcopy((intent, outcome))
        again["id"] = ended["intent"] = AGAIN
        outcome["outcome"], ended["outcome"] = first, second
        for record in (request, approval, intent, outcome, again, ended):
            checked.take(typed(record), HERE._replace(record=record["id"]))
        checked.settle(lambda _: True)
        return [problem.code for problem in findings.report().findings]

    assert judged("suspended", "success") == judged("success", "suspended") == judged("suspended", "suspended") == []
    assert judged("success", "success") == ["approval_reused"]


@pytest.mark.parametrize(("enforced", "codes"), [("allow", ["approval_missing"]), ("block", [])])
def test_a_call_without_an_intent_is_one_that_did_not_run(
    taken: tuple[list[dict[str, Any]], TrustStore], enforced: str, codes: list[str]
) -> None:
    """One that says it was allowed lacks its approval all the same; one that was refused needs none."""

    def refused(records: list[dict[str, Any]]) -> None:
        del records[2], records[2]["intent"]
        records[2]["decision"] |= {"enforced": enforced, "approval": AGAIN}

    assert _judged(taken, refused) == codes


def test_the_time_of_an_approval_is_exact(taken: tuple[list[dict[str, Any]], TrustStore]) -> None:
    """It may be used from thirty seconds before it was given, for clocks that differ, until it ends, to the ns."""
    for nanoseconds, codes in (
        (-30 * 10**9, []),
        (-30 * 10**9 - 1, ["approval_late"]),
        (60 * 10**9 - 1, []),
        (60 * 10**9, ["approval_late"]),
    ):
        assert _judged(taken, _set(1, "time", "start", value=str(START * 10**9 + nanoseconds))) == codes


UNVERIFIED = "the approval does not verify (algorithm_not_allowed): the algorithm of the token is not Ed25519"
TOLD: dict[str, tuple[Callable[[list[dict[str, Any]]], object], list[tuple[str, int]]]] = {
    "no approval": (
        lambda records: records.pop(1),
        [("the evidence has no approval of the id that the call names", 3)],
    ),
    "no name": (
        _set(2, "decision", "approval", value=None),
        [("a call that needed an approval names none", 3)],
    ),
    "another call": (
        _set(2, "action", "tool", value="other"),
        [("the approval that the call names is for another task, tool or arguments", 3)],
    ),
    "used again": (
        lambda records: records.extend([copy.deepcopy(records[2])] * 2),
        [("an approval was used again; each permits one call", 5)],
    ),
    "no signature": (
        _set(1, "approval", "token", value=None),
        [("the answer is not signed by a person", 2)],
    ),
    "garbage for a signature": (
        _set(1, "approval", "token", value="e30.e30.e30"),
        [
            (
                UNVERIFIED,
                2,
            )
        ],
    ),
    "oneself": (
        _set(1, "principal", "id", value="BOB@example.com"),
        [
            ("the approval that the call names is for another task, tool or arguments", 3),
            ("the approver is also the requester", 2),
            ("the record differs from the ruling that was signed", 2),
        ],
    ),
    "late": (
        _set(1, "time", "start", value=str((START + 60) * 10**9)),
        [("the approval was used outside its validity", 2)],
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_each_finding_says_what_is_wrong_and_where(taken: tuple[list[dict[str, Any]], TrustStore], name: str) -> None:
    """At the call for what it lacks, at the approval for what it is; and the step of grants fails."""
    change, told = TOLD[name]
    findings = Findings("ledger", ("step",) * 8)
    records = copy.deepcopy(taken[0])
    for place, record in enumerate(records, 1):
        record["place"] = place
    change(records)
    checked = ApprovalsCheck(findings, taken[1])
    for number, record in enumerate(records, 1):
        place = record.pop("place", number)
        checked.take(typed(record), Place(f"r{number}", "s", max(number, place)))
    checked.settle(lambda _: True)
    report = findings.report()
    assert [(problem.message, problem.seq) for problem in report.findings] == told
    assert [step.number for step in report.steps if step.status == "failed"] == [6]


def test_without_trusted_keys_only_what_needs_none_is_judged(taken: tuple[list[dict[str, Any]], TrustStore]) -> None:
    """The steps that need keys say so elsewhere."""
    findings = Findings("ledger", ("step",) * 8)
    checked = ApprovalsCheck(findings, None)
    for record in taken[0]:
        checked.take(typed(record), HERE)
    checked.settle(lambda _: True)
    assert findings.report().findings == ()


def test_a_refused_call_needs_no_approval(tmp_path: Path) -> None:
    """Rejected and pending ones name a request, and nothing is wrong with that."""
    with pytest.raises(Denied):
        _run(tmp_path / "e", lambda request: request.reject(by=BOB))
    assert Verifier().ledger(tmp_path / "e").verdict == "verified"


def test_many_calls_under_one_approval_are_not_compared_in_pairs(
    taken: tuple[list[dict[str, Any]], TrustStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that no approval of this id fits, and approvals that no request of it fits, are looked up."""
    count = 40
    compared: list[object] = []

    def equal(one: tuple[object, ...], other: object) -> bool:
        compared.append(other)
        return tuple.__eq__(one, other)

    monkeypatch.setattr(approvals_check._Said, "__eq__", equal)

    def many(records: list[dict[str, Any]]) -> None:
        records[:] = [copy.deepcopy(record) for record in records[:3] for _ in range(count)]
        for number, record in enumerate(records):
            record["task"]["id"] = f"{number}"

    found = _judged(taken, many)
    assert [found.count(code) for code in ("approval_mismatch", "approval_request_missing")] == [count, count]
    assert len(compared) <= 10 * count
