"""Checks the answers of people: by someone other than the requester, for these arguments, used once."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar, final, overload

import msgspec

from agent_identity._authority.grants.chain import SKEW
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record.parts import Agent, ApprovalState, Decision, Principal
from agent_identity._record.schema import Approval, Intent, Outcome
from agent_identity._verify.grants.revoked_keys import LATE, REVOKED
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.spill_store import spilled
from agent_identity.errors import TokenError

if TYPE_CHECKING:
    from agent_identity._authority.registries.rulings import Ruling

_T = TypeVar("_T")

_GRANTS: Final = 6
_NS: Final = 1_000_000_000
_UNTRUSTED: Final = frozenset({"unknown_key", "key_not_valid_then"})
_NEAR: Final = 1_024  # Approvals in memory, of some 4 KiB each.
_MOST: Final = 1_024
"""Questions, answers or calls of one approval that are kept: a call that is suspended and runs again has some."""


class _Said(NamedTuple):
    """The call of a record and its principal; hashable, because the check looks approvals up."""

    task: str
    tool: str
    args: str | None
    principal: Principal
    agent: Agent
    agents: tuple[str, ...]


class _Answered(NamedTuple):
    said: _Said
    approval: ApprovalState
    start_ns: int
    place: Place


class _Used(NamedTuple):
    """A call that names an approval, and whether all that its task wrote before it in its stream is here."""

    said: _Said
    place: Place
    whole: bool


class _Case(msgspec.Struct):
    """Everything about one approval.

    Attributes:
        pending: What was asked, as keys.
        answers: The answers, which let the call run or reject it.
        calls: The calls that name it.
        requests: The digest of the request, by task.
    """

    pending: dict[_Said, bool] = {}  # msgspec copies this and those below for each approval. It once leaked sets.
    answers: list[_Answered] = []
    calls: list[_Used] = []
    requests: dict[str, str] = {}


def is_approved(decision: Decision) -> bool:
    """Return whether a decision lets the call run because, and only because, a person approved it."""
    return decision.approval is not None or (decision.effect == "route" and decision.enforced == "allow")


@final
class ApprovalsCheck:
    """Checks the approvals of a source.

    Args:
        findings: Takes what is found.
        trust: The trusted keys, or ``None``.
    """

    def __init__(self, findings: Findings, trust: TrustStore | None) -> None:
        self._findings = findings
        self._trust = trust
        self._cases = spilled(_Case, near=_NEAR)
        self._suspended = spilled(int, near=_NEAR)

    def narrow(self, trust: TrustStore) -> None:
        """Restrict the trusted keys to the log at hand, once its origin is known.

        Args:
            trust: The trusted keys.
        """
        self._trust = trust

    def take(self, record: Approval | Intent | Outcome, place: Place, *, whole: bool = True) -> None:
        """Store the approval, or the call that needs one.

        Args:
            record: An approval, or a call.
            place: Where it is.
            whole: The task of a call was opened before it in its stream, so that its approval is there as well.
        """
        if isinstance(record, Approval):
            self._take_approval(record, place)
            return
        decision = record.decision
        if not is_approved(decision):
            return
        said, intent = _said(record), record.intent if isinstance(record, Outcome) else record.id
        if intent is not None and said is not None and decision.approval is not None:
            if isinstance(record, Intent):
                self._keep(self._case(decision.approval).calls, _Used(said, place, whole), place)
            elif record.outcome == "suspended":
                self._suspended.put(intent.encode(), 1)
        elif intent is not None or decision.enforced == "allow":
            message = "a call that needed an approval names none"
            self._findings.add(_GRANTS, "approval_missing", message, place)

    def settle(self, proved: Callable[[Place], bool], *, absent: str | None = None) -> None:
        """Match calls with their approvals after the whole source was read.

        Args:
            proved: Returns whether the record at a place is proved to be what it says, its time included.
            absent: The reason why an approval may not be here; ``None`` if all of the ledger is.
        """
        number = 0
        for case in self._cases.values():
            approved = {entry.said for entry in case.answers if entry.approval.status == "approved"}
            for used in case.calls:
                self._match(used, approved, absent)
            # A suspended call and its reruns are one call.
            over = [used.place for used in case.calls if (used.place.record or "").encode() not in self._suspended]
            if len(over) > 1:
                self._add("approval_reused", "an approval was used again; each permits one call", over[1])
            for entry in case.answers:
                self._judge(entry, case, proved, absent)
                number += entry.approval.status == "approved"
        self._findings.counts["approvals"] = number

    def _case(self, approval: str) -> _Case:
        """Return what is known of an approval, for changing until another one is asked for."""
        key = approval.encode()
        case = self._cases.hold(key)
        if case is None:
            self._cases.put(key, case := _Case())
        return case

    def _keep(self, entries: list[_T], entry: _T, place: Place) -> None:
        """Keep what names an approval, unless more does than one call can have."""
        if len(entries) < _MOST:
            entries.append(entry)
        else:
            self._reuse(place)

    def _reuse(self, place: Place) -> None:
        self._add("approval_reused", "more calls name an approval than one call can be", place)

    def _match(self, used: _Used, approved: Collection[_Said], absent: str | None) -> None:
        if not approved and absent is not None and not used.whole:
            self._excuse("approval", absent, used.place)
        elif not approved:
            self._add("approval_missing", "the evidence has no approval of the id that the call names", used.place)
        elif used.said not in approved:
            message = "the approval that the call names is for another task, tool or arguments"
            self._add("approval_mismatch", message, used.place)

    def _take_approval(self, record: Approval, place: Place) -> None:
        approval, said = record.approval, _said(record)
        # Digests of two tasks cannot be compared.
        request, case = approval.request, self._case(approval.id)
        if request is not None and case.requests.setdefault(said.task, request) != request:
            message = "the question and the answer of this approval name different digests of its request"
            self._add("approval_mismatch", message, place)
        if approval.status == "pending":
            asked = said._replace(agents=())
            if len(case.pending) < _MOST or asked in case.pending:
                case.pending[asked] = True
            else:
                self._reuse(place)
        elif approval.status in ("approved", "rejected"):
            self._keep(case.answers, _Answered(said, approval, record.time.start_ns, place), place)

    def _excuse(self, what: str, absent: str, place: Place) -> None:
        self._add("approval_not_checked", f"the {what} was not checked: {absent}", place)

    def _judge(self, entry: _Answered, case: _Case, proved: Callable[[Place], bool], absent: str | None) -> None:
        from agent_identity._authority.registries.rulings import folded, trusted_ruling  # Few ledgers have approvals.

        said, approval, start_ns, place = entry
        approver = approval.approver
        if approval.token is None or approver is None or approver.kind != "human":
            self._add("approval_forged", "the answer is not signed by a person", place)
            return
        requesters = (*_names(said.principal), *said.agents)
        if not {folded(name) for name in _names(approver)}.isdisjoint(map(folded, requesters)):
            self._add("approval_self", "the approver is also the requester", place)
        if self._trust is None:
            return
        try:
            ruling = trusted_ruling(approval.token, self._trust, even_revoked=True)
        except TokenError as error:
            self._add(_code_of(error), f"the approval does not verify ({error.code}): {error}", place)
            return
        self._refuse_revoked(ruling, entry, self._trust, proved)
        if not _agrees(ruling, said, approval, approver):
            self._add("approval_mismatch", "the record differs from the ruling that was signed", place)
        elif ruling.task != said.task:
            self._find_request(ruling, said, case, place, absent)
        if approval.status == "rejected":
            return  # Its time does not matter: it permits nothing.
        if not (ruling.decided_at - SKEW) * _NS <= start_ns < ruling.expires_at * _NS:
            self._add("approval_late", "the approval was used outside its validity", place)

    def _find_request(self, ruling: "Ruling", said: _Said, case: _Case, place: Place, absent: str | None) -> None:
        """Look up the approved request in the earlier task: digests of two tasks cannot be compared."""
        request = said._replace(task=ruling.task, args=ruling.args, agents=())
        if request in case.pending:  # The approval has the id of its ruling.
            return
        record = self._findings.find(_GRANTS, ("approval", ruling.id), place)
        if isinstance(record, Approval) and _said(record)._replace(agents=()) == request:
            return
        if absent is not None and not case.pending:
            self._excuse("request of the approval", absent, place)
        else:
            message = "the request of the earlier task that was approved is not in the evidence"
            self._add("approval_request_missing", message, place)

    def _refuse_revoked(
        self, ruling: "Ruling", entry: _Answered, trust: TrustStore, proved: Callable[[Place], bool]
    ) -> None:
        """Report an approval under a revoked key unless a proved record shows that it is older."""
        kid = ruling.kid
        trusted = None if kid is None else trust.get(kid, "issuer")
        since = None if trusted is None else trusted.revoked_since
        if since is None:
            return
        if ruling.decided_at >= since:
            self._add(LATE, "the approval is dated after the revocation of the issuer key", entry.place)
        elif entry.start_ns >= since * _NS or not proved(entry.place):
            message = "nothing proves that the approval is older than the revocation of the issuer key"
            self._add("key_revoked", message, entry.place)

    def _add(self, code: str, message: str, place: Place) -> None:
        self._findings.add(_GRANTS, code, message, place)


def _code_of(error: TokenError) -> str:
    if error.code in _UNTRUSTED:
        return "unknown_issuer"
    return error.code if error.code in REVOKED else "approval_forged"


def _names(party: Principal) -> tuple[str, ...]:
    """Return the id of a party and of everyone who acted for it (RFC 8693 §4.1)."""
    return party.id, *(party.via or ())


@overload
def _said(record: Approval) -> _Said: ...
@overload
def _said(record: Intent | Outcome) -> _Said | None: ...
def _said(record: Approval | Intent | Outcome) -> _Said | None:
    """Return the call that a record is about; ``None`` for a call outside any task."""
    task, principal, agent, chain = record.task, record.principal, record.agent, record.chain
    if task is None or principal is None or agent is None or chain is None:
        return None
    action = record.action
    return _Said(task.id, action.tool, action.args, principal, agent, tuple(hop.id for hop in chain))


def _agrees(ruling: "Ruling", said: _Said, approval: ApprovalState, approver: Principal) -> bool:
    """Return whether a record matches the signed ruling; arguments compare within one task only."""
    return (
        (ruling.id, ruling.status, ruling.tool) == (approval.id, approval.status, said.tool)
        and (ruling.principal.kind, ruling.principal.id) == (said.principal.kind, said.principal.id)
        and (ruling.agent.id, ruling.agent.owner) == (said.agent.id, said.agent.owner)
        and (ruling.approver.id, ruling.approver.provenance) == (approver.id, approver.provenance)
        and (ruling.approver.issuer, ruling.approver.roles) == (approver.issuer, approver.roles or ())
        and ruling.approver.via == (approver.via or ())
        and (ruling.task != said.task or ruling.args == said.args)
        and approval.sources in (None, ruling.sources)
        and approval.expires in (None, str(ruling.expires_at * _NS))
        and approval.reason in (None, ruling.reason)
    )
