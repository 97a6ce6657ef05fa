"""Builds the records of calls: action, decision and parties, in the form of each kind of record."""

import logging
from functools import partial
from typing import Final, final

from agent_identity._enforcement.calls import WITHIN_SCOPE, Call, canonical_bytes, decision_fact, is_fact
from agent_identity._enforcement.common import safe_message
from agent_identity._enforcement.guard.context import EnforcementContext
from agent_identity._enforcement.guard.draft_facts import DraftFacts, Workflow
from agent_identity._enforcement.tasks import CallFacts, parties
from agent_identity._evidence.record import Action, Decision, Detail, Ending, Found, Intent, Outcome, Time, replaced
from agent_identity._policy.decision import Tool

__all__ = ["Description"]

_LOG: Final = logging.getLogger("agent_identity")
_MAX_CATEGORIES: Final = 1_024
_MAX_FOUND: Final = 256


@final
class Description:
    """Builds the records of the calls of one tool.

    Args:
        point: The enforcement point.
        tool: The tool.
        workflow: Returns the framework run of a call; for version 2 of the record.

    Attributes:
        known: A valid decision that let a call run, with its record member.
    """

    __slots__ = ("_draft", "_point", "_tool", "known")

    def __init__(self, point: EnforcementContext, tool: Tool, workflow: Workflow | None = None) -> None:
        self._point = point
        self._tool = tool
        self._draft: Final = DraftFacts(point, tool, workflow) if point.ledger.drafts else None
        # Policies return the same few decisions again and again.
        self.known = (WITHIN_SCOPE, decision_fact(WITHIN_SCOPE, "allow", point.mode, None))

    def describe(self, call: Call) -> None:
        """Fill in the action: tool, argument names and kinds, and the digest of the arguments."""
        tool, arguments = self._tool, call.snapshot
        call.action = action = Action(
            tool=tool.name,
            kind=tool.kind,
            server=tool.server or None,
            call=call.request.call_id,
            route=call.target,
        )
        if self._draft is not None:
            call.action = action = self._draft.describe(action, call)
        if arguments is not None and arguments.values:
            key = self._point.ledger.stream if call.task is None else call.task.id
            call.action = replaced(action, names=arguments.kinds(), args=self._point.digest_of(key, arguments))

    def intent(self, call: Call) -> partial[Intent]:
        """Return the factory of the intent of a call."""
        facts = None if call.task is None else call.task.facts
        make = partial(
            Intent,
            time=Time.at(call.start_ns),
            action=call.action,
            decision=self._decision(call),
            **parties(facts),
            trace=call.traced.rooted,
            findings=_categories(call),
        )
        if self._draft is None:
            return make
        known = call.facts or CallFacts()
        return partial(make, clauses=self._draft.clauses(call), resources=known.resources, workflow=known.workflow)

    def outcome(self, call: Call, ending: Ending, error: str | None, end_ns: int, *, first: bool) -> partial[Outcome]:
        """Return the factory of the outcome of a call.

        Args:
            call: The call.
            ending: The ending of the call.
            error: The class of the error, or the code of the refusal.
            end_ns: End time, in nanoseconds since the Unix epoch.
            first: This is the first record of its span, so it has the span's parent. Others stay short.
        """
        action, decision = call.action, self._decision(call)
        facts = None if call.task is None else call.task.facts
        if self._draft is not None:
            action = self._draft.concluded(call)
            decision = replaced(decision, policy=None, version=None)
        return partial(
            Outcome,
            time=Time.at(call.start_ns, end_ns),
            action=action,
            decision=decision,
            outcome=ending,
            intent=call.intent,
            error=error,
            **parties(facts, short=self._draft is not None),
            trace=call.traced.rooted if first else call.traced.ids,
            findings=_categories(call),
        )

    def detail(self, call: Call, end_ns: int) -> partial[Detail] | None:
        """Return the factory of the detail of a call, if its outcome leaves facts out.

        Facts known before the body are in the intent; a refused call has no intent.
        """
        if self._draft is None:
            return None
        findings = _found(call)
        time = Time.at(call.start_ns, end_ns)
        if call.intent is not None:
            return None if findings is None else partial(Detail, time=time, call=call.intent, findings=findings)
        decision, facts = self._decision(call), None if call.task is None else call.task.facts
        known = call.facts or CallFacts()
        return partial(
            Detail,
            time=time,
            names=call.action.names,
            labels=call.action.labels,
            policy=decision.policy,
            version=decision.version,
            roles=None if facts is None else facts.principal.roles,
            resources=known.resources,
            workflow=known.workflow,
            findings=findings,
        )

    def _decision(self, call: Call) -> Decision:
        """Return the decision member of a record."""
        known, fact = self.known  # Read at once, because another thread may replace the pair.
        decision, enforced, _, argument = call.judgement
        usual = enforced == "allow" and argument is None and call.approval is None
        if usual and decision is known:
            return fact
        fact = decision_fact(decision, enforced, self._point.mode, argument, call.approval)
        if usual:
            self.known = (decision, fact)
        return fact

    def describe_result(self, call: Call, result: object) -> None:
        """Add the digest of the result; the act happened, so a failure must not hide result or outcome."""
        try:
            data = None if result is None else canonical_bytes(result)
            if data is not None:
                key = self._point.ledger.stream if call.task is None else call.task.id
                digest = self._point.digests.digest(key, data)
                call.action = replaced(call.action, result=digest)
        except Exception as error:  # noqa: BLE001 - See above.
            _LOG.error("the result of %s has no digest: %s", self._tool.name, safe_message(error))


def _categories(call: Call) -> tuple[str, ...] | None:
    if not call.findings:
        return None
    return tuple(sorted({finding.category for finding in call.findings})[:_MAX_CATEGORIES])


def _found(call: Call) -> tuple[Found, ...] | None:
    """Return the distinct findings of a call; fields that no record can hold are left out."""
    distinct = {
        Found(
            category=finding.category,
            inspector=finding.inspector,
            severity=finding.severity,
            field=finding.field if is_fact(finding.field) else None,
        ): None
        for finding in call.findings
    }
    return tuple(distinct)[:_MAX_FOUND] or None
