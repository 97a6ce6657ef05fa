"""Whether calls that ran because a person approved them were approved: by somebody else, for these arguments, once."""

from collections.abc import Callable, Collection
from typing import Final, NamedTuple, final, overload

from agent_identity.audit.findings import Findings, Place
from agent_identity.audit.revocation import LATE, REVOKED
from agent_identity.authority import SKEW, Ruling, folded, trusted_ruling
from agent_identity.errors import TokenError
from agent_identity.evidence.records import Agent, Approval, ApprovalState, Decision, Intent, Outcome, Principal
from agent_identity.identity import TrustStore

__all__ = ["ApprovalsCheck", "is_approved"]

_GRANTS: Final = 6
_NS: Final = 1_000_000_000
_UNTRUSTED: Final = frozenset({"unknown_key", "key_not_valid_then"})


class _Said(NamedTuple):
    """The call of a record and its principal; hashable, because the check looks approvals up."""

    task: str
    tool: str
    args: str | None
    principal: Principal
    agent: Agent
    agents: tuple[str, ...]


class _Approved(NamedTuple):
    said: _Said
    approval: ApprovalState
    start_ns: int
    place: Place


def is_approved(decision: Decision) -> bool:
    """Return whether a decision says that the call may run because, and only because, a person approved it."""
    return decision.approval is not None or (decision.effect, decision.enforced) == ("route", "allow")


@final
class ApprovalsCheck:
    """The approvals of a source.

    Args:
        findings: Takes what is found.
        trust: The trusted keys, or ``None``.
    """

    def __init__(self, findings: Findings, trust: TrustStore | None) -> None:
        self._findings = findings
        self._trust = trust
        self._pending: dict[str, set[_Said]] = {}
        self._approved: dict[str, list[_Approved]] = {}
        self._calls: dict[str, list[tuple[_Said, Place]]] = {}
        self._suspended: set[str] = set()
        self._requests: dict[tuple[str, str], str] = {}

    def narrow(self, trust: TrustStore) -> None:
        """Take the trusted keys as they are for the log at hand, now that it is known which one it is.

        Args:
            trust: The trusted keys.
        """
        self._trust = trust

    def take(self, record: Approval | Intent | Outcome, place: Place) -> None:
        """Keep what a record says about approvals.

        Args:
            record: An approval, or a call.
            place: Where it is.
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
                self._calls.setdefault(decision.approval, []).append((said, place))
            elif record.outcome == "suspended":
                self._suspended.add(intent)
        elif intent is not None or decision.enforced == "allow":
            message = "expected an approval of a call that was to be approved, got none"
            self._findings.add(_GRANTS, "approval_missing", message, place)

    def settle(self, proved: Callable[[Place], bool]) -> None:
        """Compare calls with their approvals, now that all is read.

        Args:
            proved: Returns whether the record at a place is proved to be what it says, its time included.
        """
        for identifier, calls in self._calls.items():
            approved = {given.said for given in self._approved.get(identifier, ())}
            for said, place in calls:
                self._match(said, approved, place)
            # What left its body to be made again is one call, whenever it was made.
            over = [place for _, place in calls if place.record not in self._suspended]
            if len(over) > 1:
                self._add("approval_reused", "expected each approval to be used once, got it again", over[1])
        for given in (given for approved in self._approved.values() for given in approved):
            self._judge(given, proved)
        self._findings.counts["approvals"] = sum(map(len, self._approved.values()))

    def _match(self, said: _Said, approved: Collection[_Said], place: Place) -> None:
        if not approved:
            self._add("approval_missing", "expected the approval that the call names, got none", place)
        elif said not in approved:
            message = "expected an approval of this task, tool and these arguments, got that of another call"
            self._add("approval_mismatch", message, place)

    def _take_approval(self, record: Approval, place: Place) -> None:
        approval, said = record.approval, _said(record)
        # Digests of two tasks cannot be compared.
        request = approval.request
        if request is not None and self._requests.setdefault((approval.id, said.task), request) != request:
            message = "the question and the answer of this approval name different digests of its request"
            self._add("approval_mismatch", message, place)
        if approval.status == "pending":
            self._pending.setdefault(approval.id, set()).add(said._replace(agents=()))
        elif approval.status == "approved":
            given = _Approved(said, approval, record.time.start_ns, place)
            self._approved.setdefault(approval.id, []).append(given)

    def _judge(self, given: _Approved, proved: Callable[[Place], bool]) -> None:
        said, approval, start_ns, place = given
        approver = approval.approver
        if approval.token is None or approver is None or approver.kind != "human":
            self._add("approval_forged", "expected an approval that a person signed for, got none", place)
            return
        requesters = (*_names(said.principal), *said.agents)
        if not {folded(name) for name in _names(approver)}.isdisjoint(map(folded, requesters)):
            self._add("approval_self", "expected an approver other than who asked, got the same", place)
        if self._trust is None:
            return
        try:
            ruling = trusted_ruling(approval.token, self._trust, even_revoked=True)
        except TokenError as error:
            self._add(_code_of(error), f"the approval does not verify ({error.code}): {error}", place)
            return
        self._refuse_revoked(ruling, given, self._trust, proved)
        if not _agrees(ruling, said, approval, approver):
            self._add("approval_mismatch", "expected the record to say what was signed, got something else", place)
        elif ruling.task != said.task:
            self._find_request(ruling, said, place)
        if not (ruling.decided_at - SKEW) * _NS <= start_ns < ruling.expires_at * _NS:
            self._add("approval_late", "expected the approval to be used in its time, got another one", place)

    def _find_request(self, ruling: Ruling, said: _Said, place: Place) -> None:
        """Find the request of an earlier task that was approved: digests of two tasks cannot be compared."""
        request = said._replace(task=ruling.task, args=ruling.args, agents=())
        if request not in self._pending.get(ruling.id, ()):
            message = "expected the request of an earlier task that was approved, got none"
            self._add("approval_request_missing", message, place)

    def _refuse_revoked(
        self, ruling: Ruling, given: _Approved, trust: TrustStore, proved: Callable[[Place], bool]
    ) -> None:
        """Doubt what whoever has a revoked key may have signed; a record from before shows that it is older."""
        kid = ruling.kid
        trusted = None if kid is None else trust.get(kid, "issuer")
        since = None if trusted is None else trusted.revoked_since
        if since is None:
            return
        if ruling.decided_at >= since:
            self._add(LATE, "expected an approval from before the issuer key was revoked, got a later one", given.place)
        elif given.start_ns >= since * _NS or not proved(given.place):
            message = "expected proof that the approval is older than the revocation of the issuer key, got none"
            self._add("key_revoked", message, given.place)

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
    """Return what a record says about a call; ``None`` of a call outside any task."""
    task, principal, agent, chain = record.task, record.principal, record.agent, record.chain
    if task is None or principal is None or agent is None or chain is None:
        return None
    action = record.action
    return _Said(task.id, action.tool, action.args, principal, agent, tuple(hop.id for hop in chain))


def _agrees(ruling: Ruling, said: _Said, approval: ApprovalState, approver: Principal) -> bool:
    """Return whether a record says what was signed; arguments compare within one task only."""
    return (
        (ruling.id, ruling.status, ruling.tool) == (approval.id, "approved", said.tool)
        and (ruling.principal.kind, ruling.principal.id) == (said.principal.kind, said.principal.id)
        and (ruling.agent.id, ruling.agent.owner) == (said.agent.id, said.agent.owner)
        and (ruling.approver.id, ruling.approver.provenance) == (approver.id, approver.provenance)
        and ruling.approver.issuer == approver.issuer
        and (ruling.task != said.task or ruling.args == said.args)
    )
