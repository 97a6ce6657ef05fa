"""Checks intents and outcomes, tasks, and allowed calls, record by record (steps 5 and 6)."""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Final, final

from agent_identity._record.parts import RecoveredStream
from agent_identity._record.schema import (
    AnyRecord,
    Approval,
    Detail,
    Erasure,
    Grant,
    Intent,
    Outcome,
    Recovered,
    TaskEnd,
    TaskStart,
)
from agent_identity._verify.grants.approvals_check import ApprovalsCheck, is_approved
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.grants.grant_usage import GrantUsage, spent_uses
from agent_identity._verify.ledger._flow_check import FlowCheck
from agent_identity._verify.ledger._open_intents import Call, Deferred, OpenIntents
from agent_identity._verify.ledger._order_check import OrderCheck
from agent_identity._verify.ledger._outer_tasks import OuterTasks
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted

if TYPE_CHECKING:
    from agent_identity._verify.grants.disclosed_arguments import Disclosures

__all__ = ["Calls"]

_LINKS: Final = 5
_GRANTS: Final = 6
_ARGUMENTS: Final = 8
_CALLS: Final = (Intent, Outcome)
_RAN: Final = frozenset({"success", "error", "cancelled", "routed", "suspended"})
_LETS: Final = frozenset({"allow", "modify"})
_NOTES: Final = frozenset({"allow", "audit"})
_ENFORCED: Final[Mapping[str, Mapping[str, AbstractSet[str]]]] = {
    "enforce": {"allow": _LETS, "warn": _LETS, "route": _LETS | {"escalate"}},
    "monitor": {"allow": _NOTES, "warn": _NOTES, "block": {"audit"}, "route": {"audit"}},
}
"""By mode and effect, what is enforced where a call ran, or a route took it over."""

_AS_DECIDED: Final = frozenset({"success", "error", "cancelled"})


@final
class Calls:
    """Matches the calls of a source, stream after stream.

    Args:
        findings: Takes what is found.
        delegations: The grants of the source.
        approvals: The approvals of the source; ``None`` for spans, which do not have them.
        disclosures: Arguments of some of the calls.

    Attributes:
        committed: Number of records of the current stream that the log commits to.
        recovered: Recoveries of streams, by the stream id.
        gone: Intents that were pruned before their outcomes; ``None`` if nothing was pruned at all.
        partial: Only a part of the ledger is given, so that any intent may be missing.
    """

    def __init__(
        self,
        findings: Findings,
        delegations: Delegations,
        *,
        approvals: ApprovalsCheck | None = None,
        disclosures: "Disclosures | None" = None,
    ) -> None:
        self._findings = findings
        self._approvals = approvals
        self._delegations = delegations
        self._outer = OuterTasks(findings)
        self._flow = FlowCheck(findings)
        self._order = OrderCheck(findings)
        self._disclosures = disclosures
        self._open = OpenIntents()
        self._left = OpenIntents()
        self._deferred = Deferred()
        self._outcomes: Counter[str] = Counter()
        self.committed = 0
        self.recovered: dict[str, RecoveredStream] = {}
        self.gone: set[str] | None = None
        self.partial = False

    def take(self, record: AnyRecord, stream: str, seq: int, detail: Detail | None = None) -> None:
        """Check a record against the others.

        Args:
            record: A record in its place.
            stream: Its stream.
            seq: Its place.
            detail: Its detail, if it has one.
        """
        call: Call | None = None
        if isinstance(record, _CALLS):
            grant = None if record.chain is None else record.chain[-1].grant
            returned = isinstance(record, Outcome) and record.outcome == "success"
            said = record.action.tool, record.action.args, record.id, stream, seq
            call = Call(grant, *said, _decided(record), returned, record.decision.mode)
        place = Place(record.id, stream, seq) if call is None else call
        self._take_flow(record, place.place(), detail)
        self._order.take(record, place.place())
        usage = self._delegations.see(record, place)
        if isinstance(record, _CALLS) and call is not None:
            self._take_call(record, call, usage)
            if self._approvals is not None and is_approved(record.decision):
                self._approvals.take(record, call.place(), whole=usage is not None and usage.is_open_in(stream))
        elif usage is not None:
            self._take_task(record, usage, place.place())
        else:
            self._take_other(record, place.place())

    def _take_flow(self, record: AnyRecord, place: Place, detail: Detail | None) -> None:
        self._flow.partial = self.partial or self.gone is not None
        self._flow.take(record, place, detail)

    def _take_other(self, record: AnyRecord, place: Place) -> None:
        """Process a record outside any task."""
        if isinstance(record, Erasure):
            from agent_identity._verify.ledger.erasures import erasure_words  # Few ledgers have erased keys.

            words = erasure_words(record.erasure)
            if words is not None:
                self._findings.add(_ARGUMENTS, "erased", words, place)
        elif isinstance(record, Recovered):
            recovery = record.recovered
            # A later recovery may state less: an earlier one has already sealed or rejected the tail.
            if recovery.stream not in self.recovered or recovery.rejected_bytes != "0":
                self.recovered[recovery.stream] = recovery

    def _take_task(self, record: AnyRecord, use: GrantUsage, place: Place) -> None:
        if isinstance(record, Grant | TaskStart):
            self._outer.take(record, place)
        if isinstance(record, Grant):
            self._delegations.add_grant(record.grant.token, record.chain[-1].grant, place)
        elif isinstance(record, TaskStart):
            use.begin(record.stream.id)
        elif isinstance(record, TaskEnd):
            use.finish(record.counts, place, partial=self.partial or self.gone is not None)
        elif isinstance(record, Approval) and self._approvals is not None:
            self._approvals.take(record, place)

    def end_of_stream(self) -> None:
        """Move open intents across: their outcomes may be in the stream of a forked child."""
        for call in self._open:
            self._keep(self._left, call)
        self._open = OpenIntents()
        self._flow.end_of_stream()
        self._order.end_of_stream()

    def _keep(self, intents: OpenIntents, call: Call) -> None:
        if intents.put(call):
            message = "another intent without an outcome has this id"
            self._findings.add(_LINKS, "two_versions", message, call.place())

    def finish(self) -> None:
        """Match intents and outcomes across streams, and count the calls without an outcome."""
        findings = self._findings
        for intent_id, outcome in self._deferred:
            self._match(self._left.pop(intent_id), outcome)
        findings.counts["unknown"] += 0
        for intent in self._left:
            findings.counts["unknown"] += 1
            message = f"the call of {intent.tool!a} has no outcome; how it ended is unknown"
            findings.add(_LINKS, "unknown_outcome", message, intent.place())
        self._outer.finish(partial=self.partial or self.gone is not None)
        self._flow.finish()
        self._order.finish(partial=self.partial or self.gone is not None)
        findings.counts.update(self._outcomes)
        intents, outcomes = findings.kinds["intent"], findings.kinds["outcome"]
        findings.done(_LINKS, f"{counted(intents, 'intent')}, {counted(outcomes, 'outcome')}")

    def _take_call(self, record: Intent | Outcome, call: Call, use: GrantUsage | None) -> None:
        spent = 0
        if isinstance(record, Outcome):
            self._conclude(call, record)
            spent = spent_uses(record)
        else:
            self._keep(self._open, call)
        if self._disclosures is not None and self._disclosures.want(call.id):
            self._disclosures.take(record, use, call.place())
        if use is None:
            self._findings.counts["unattributed"] += 1
        else:
            use.count(concluded=isinstance(record, Outcome))
            if spent:
                use.spend(call.tool, spent)
        self._check_effect(record, call)
        if record.decision.effect == "block":
            return
        if use is not None:
            use.allow(call.tool, int(record.time.start), call)
            use.ran = use.ran or isinstance(record, Intent)
        else:
            message = "a call outside any task was allowed"
            self._findings.add(_GRANTS, "allowed_without_task", message, call.place())

    def _check_effect(self, record: Intent | Outcome, call: Call) -> None:
        """Check that a call that was blocked or handed to a route did not run; monitor mode runs what it would block.

        The handler of a route may raise, but what returns is then no body.
        """
        if isinstance(record, Outcome) and (record.intent is None or record.outcome not in _RAN):
            return
        decision = record.decision
        effect, enforced = decision.effect, decision.enforced
        ruled = decision.approval is not None and enforced == "modify"
        if decision.mode == "enforce" and effect == "block":
            message = "a call ran that was blocked"
        elif enforced not in _ENFORCED[decision.mode].get(effect, ()):
            message = f"a call ran that was not let through: {effect!a} was enforced as {enforced!a}"
        elif call.returned and effect == "route" and enforced in {"escalate", "modify"} and not ruled:
            message = "a call ran that was handed to a route"
        else:
            return
        self._findings.add(_GRANTS, "blocked_but_ran", message, call.place())

    def _conclude(self, call: Call, record: Outcome) -> None:
        outcome, decision = record.outcome, record.decision
        if call.seq <= self.committed:  # Anyone may have written the others; they only count as unsealed.
            self._outcomes[outcome] += 1
        if record.intent is None:
            # A call that waits for an approval can be suspended before it has an intent.
            waiting = outcome == "suspended" and decision.approval is not None
            if outcome not in {"denied", "routed"} and not waiting:
                # In monitor mode a call runs even if its intent could not be written; then something is missing.
                code = "unrecorded_intent" if decision.mode == "monitor" else "outcome_without_intent"
                message = "the outcome of a call that ran names no intent"
                self._findings.add(_LINKS, code, message, call.place())
            return
        self._resolve(record.intent, call)

    def _resolve(self, intent: str, call: Call) -> None:
        """Match an outcome with its intent, or defer it."""
        match = self._open.pop(intent)
        if match is None and self.gone is not None and intent in self.gone:
            self._findings.counts["intents_pruned"] += 1
        elif match is None:
            self._deferred.put(intent, call)
        else:
            self._match(match, call)

    def _match(self, intent: Call | None, outcome: Call) -> None:
        if intent is None and self.partial:
            self._findings.counts["intents_withheld"] += 1
        elif intent is None:
            message = "the intent that the outcome names is missing, or has another outcome"
            self._findings.add(_LINKS, "intent_missing", message, outcome.place())
        elif outcome.stream == intent.stream and outcome.seq < intent.seq:
            message = "an outcome stands before the intent that it names"
            self._findings.add(_LINKS, "outcome_before_intent", message, outcome.place())
        elif not outcome.fits(intent):
            message = "grant, tool, arguments, mode or decision of the outcome differ from its intent"
            self._findings.add(_LINKS, "intent_mismatch", message, outcome.place())


def _decided(record: Intent | Outcome) -> tuple[str, str, str, str | None] | None:
    """Return the decision by which a call runs, or ran to its end in enforce mode."""
    decision = record.decision
    if decision.mode != "enforce" or decision.effect == "block":
        return None
    if isinstance(record, Outcome) and record.outcome not in _AS_DECIDED:
        return None
    return decision.effect, decision.enforced, decision.mode, decision.approval
