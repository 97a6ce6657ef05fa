"""Builds the records of calls: action, decision and parties, in the form of each kind of record."""

import logging
from functools import partial
from typing import Any, Final, NamedTuple, final

from agent_identity._flow.labels import TRUSTED
from agent_identity._guard.calls.arguments import canonical_bytes
from agent_identity._guard.calls.call import Call, Inspected, Judgement
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.recorded_decisions import WITHIN_SCOPE, decision_fact, is_fact
from agent_identity._guard.judging.call_facts import CallMembers, Workflow
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.tool_flow import origins_of
from agent_identity._guard.tasks.facts import CallFacts, parties
from agent_identity._inspection.transform import VERSION
from agent_identity._policy.decision.decision import Decision as PolicyDecision
from agent_identity._policy.decision.request import Tool
from agent_identity._record.parts import Action, Decision, Ending, Found, Time, Transform, replaced
from agent_identity._record.schema import Detail, Intent, Outcome

_LOG: Final = logging.getLogger("agent_identity")
_MAX_CATEGORIES: Final = 1_024
_MAX_FOUND: Final = 256
_MAX_TRANSFORMS: Final = 256
_SURE: Final = (
    *("time", "outcome", "intent", "label", "mark_after", "trace"),
    *("attribution", "task", "principal", "agent", "chain"),
)
"""Members of an outcome that are made of checked values."""


class Known(NamedTuple):
    """A decision that let a call run unchanged, cached because policies return the same few decisions repeatedly.

    Attributes:
        decision: The decision.
        judgement: The judgement of such a call.
        fact: The member of its records.
    """

    decision: PolicyDecision
    judgement: Judgement
    fact: Decision


@final
class RecordBuilder:
    """Builds the records of the calls of one tool.

    Args:
        enforcement: The enforcement point.
        tool: The tool.
        workflow: Returns the framework run of a call.
        endorses: Results have the declared flow label, whatever the mark of the task is.

    Attributes:
        known: The latest such decision.
    """

    __slots__ = ("_endorses", "_enforcement", "_facts", "_tool", "known")

    def __init__(
        self, enforcement: EnforcementContext, tool: Tool, workflow: Workflow | None = None, *, endorses: bool = False
    ) -> None:
        self._endorses: Final = endorses
        self._enforcement = enforcement
        self._tool = tool
        self._facts: Final = CallMembers(enforcement, tool, workflow)
        self.known = Known(WITHIN_SCOPE, Judgement(), decision_fact(WITHIN_SCOPE, "allow", enforcement.mode, None))

    def describe(self, call: Call) -> None:
        """Fill in the action: tool, argument names and kinds, and the digest of the arguments."""
        tool, arguments = self._tool, call.snapshot
        call.action = action = Action(
            tool=tool.name,
            kind=tool.kind,
            call=call.call_id,
            route=None if call.routing is None else call.routing.name,
        )
        call.action = action = self._facts.describe(action, call)
        if arguments is not None and arguments.values:
            digests, key = self._enforcement.digests, self.key_of(call)
            if self._enforcement.disclosable:
                digest = digests.commit(key, arguments.parts())
            else:
                digest = digests.digest(key, arguments.canonical())
            call.action = replaced(action, names=arguments.kinds(), args=digest)

    def intent(self, call: Call) -> partial[Intent]:
        """Return the factory of the intent of a call."""
        facts = None if call.task is None else call.task.facts
        make = partial(
            Intent,
            time=Time(str(call.start_ns)),
            action=call.action,
            decision=self._decision(call),
            **parties(facts),
            trace=call.execution.traced.rooted,
            findings=None if call.inspected is None else _categories(call.inspected),
        )
        known = call.facts or CallFacts()
        make = partial(make, clauses=self._facts.clauses(call), resources=known.resources, workflow=known.workflow)
        if call.taken_up is not None:
            make = partial(make, resumes=call.taken_up.record)
        judged = None if call.flow is None else call.flow.judged
        if judged is None:
            return make
        return partial(make, judged_at=judged.seen, provenance=origins_of(judged), endorses=self._endorses or None)

    def outcome(self, call: Call, ending: Ending, error: str | None, end_ns: int, *, first: bool) -> partial[Outcome]:
        """Return the factory of the outcome of a call.

        Args:
            call: The call.
            ending: The ending of the call.
            error: The class of the error, or the code of the refusal.
            end_ns: End time, in nanoseconds since the Unix epoch.
            first: This is the first record of its span, so it has the span's parent. Others stay short.
        """
        action, decision = self._facts.concluded(call), replaced(self._decision(call), policy=None, version=None)
        facts = None if call.task is None else call.task.facts
        label = None if call.flow is None else call.flow.label
        return partial(
            Outcome,
            label=None if label is None else str(label),
            time=Time(str(call.start_ns), str(end_ns)),
            action=action,
            decision=decision,
            outcome=ending,
            intent=call.intent,
            error=error,
            **parties(facts, short=True),
            trace=call.execution.traced.rooted if first else call.execution.traced.ids,
            findings=None if call.inspected is None else _categories(call.inspected),
        )

    def shortened(self, outcome: partial[Outcome]) -> partial[Outcome]:
        """Return the factory of an outcome with only those facts that every record can hold."""
        facts, tool = outcome.keywords, self._tool
        decision: Decision = facts["decision"]
        kept = {name: facts[name] for name in _SURE if name in facts}
        whole: Action = facts["action"]
        action = Action(tool=tool.name, kind=tool.kind, args=whole.args, result=whole.result)
        error = facts["error"] if is_fact(facts["error"]) else None
        fact = Decision(effect=decision.effect, enforced=decision.enforced, mode=decision.mode, reason=decision.reason)
        return partial(Outcome, **kept, action=action, decision=fact, error=error)

    def detail(self, call: Call) -> partial[Detail] | None:
        """Return the factory of the detail of a call, if its outcome leaves facts out.

        Facts known before the body are in the intent; a refused call has no intent.
        """
        facts: dict[str, Any] = {"findings": _found(call)}
        if call.intent is not None:
            facts["claimed"] = _claimed(call)
            facts["transforms"] = (None if call.inspected is None else call.inspected.transforms) or None
        else:
            facts |= self._unstated(call)
        return None if all(fact is None for fact in facts.values()) else partial(Detail, **facts)

    def _unstated(self, call: Call) -> dict[str, Any]:
        """Return what the intent of a refused call would have said."""
        decision, facts = self._decision(call), None if call.task is None else call.task.facts
        known, judged = call.facts or CallFacts(), None if call.flow is None else call.flow.judged
        return {
            "names": call.action.names,
            "labels": call.action.labels,
            "claims": call.action.claims,
            "policy": decision.policy,
            "version": decision.version,
            "roles": None if facts is None else facts.principal.roles,
            "resources": known.resources,
            "workflow": known.workflow,
            "judged_at": None if judged is None else judged.seen,
            "provenance": None if judged is None else origins_of(judged),
        }

    def _decision(self, call: Call) -> Decision:
        """Return the decision member of a record."""
        judgement, known = call.judgement, self.known  # Read once, because another thread may replace it.
        if judgement is known.judgement and call.routing is None:
            return known.fact
        decision, enforced, _, argument = judgement
        usual = enforced == "allow" and argument is None and call.approval is None
        if usual and decision is known.decision:
            return known.fact
        fact = decision_fact(decision, enforced, self._enforcement.mode, argument, call.approval)
        if usual:
            self.known = Known(decision, Judgement(decision), fact)
        return fact

    def describe_result(self, call: Call, result: object) -> None:
        """Add the digest of the result; the act happened, so a failure must not hide result or outcome."""
        try:
            digest = self._digest_of(call, result)
            if digest is not None:
                call.action = replaced(call.action, result=digest)
        except Exception as error:  # noqa: BLE001 - See above.
            _LOG.error("the result of %s has no digest: %s", self._tool.name, safe_message(error))

    def describe_change(self, call: Call, original: object, delivered: object, *, name: str = "redaction") -> None:
        """Add that a result or prompt was changed, or a result kept back, with the digests of both where they have one.

        Args:
            call: The call.
            original: What was changed.
            delivered: What it was changed into.
            name: The name of the transform.

        Raises:
            EvidenceError: A key is needed and cannot be kept.
        """
        inspected = call.inspection()
        if len(inspected.transforms) < _MAX_TRANSFORMS:
            one, other = self._digest_of(call, original), self._digest_of(call, delivered)
            transform = Transform(name=name, version=VERSION, original=one, delivered=other)
            inspected.transforms = (*inspected.transforms, transform)

    def _digest_of(self, call: Call, result: object) -> str | None:
        data = None if result is None else canonical_bytes(result)
        return None if data is None else self._enforcement.digests.digest(self.key_of(call), data)

    def key_of(self, call: Call) -> str:
        """Return the id of the key under which the values of a call are digested."""
        return self._enforcement.ledger.stream if call.task is None else call.task.id


def _claimed(call: Call) -> str | None:
    """Return the flow label that the source of a result claims, if the call has a result that it restricts."""
    flow = call.flow
    return None if flow is None or flow.label is None or flow.limit == TRUSTED else str(flow.limit)


def _categories(inspected: Inspected) -> tuple[str, ...] | None:
    if not inspected.findings:
        return None
    return tuple(sorted({finding.category for finding in inspected.findings})[:_MAX_CATEGORIES])


def _found(call: Call) -> tuple[Found, ...] | None:
    """Return the distinct findings of a call; fields that no record can hold are left out."""
    if call.inspected is None:
        return None
    distinct = {
        Found(
            category=finding.category,
            inspector=finding.inspector,
            severity=finding.severity,
            field=finding.field if is_fact(finding.field) else None,
        ): None
        for finding in call.inspected.findings
    }
    return tuple(distinct)[:_MAX_FOUND] or None
