"""Builds the records of calls: action, decision, parties, and what a call touches."""

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, final

from agent_identity import canonical
from agent_identity._authority.grants.scope import clauses_of
from agent_identity._flow.labels import TRUSTED
from agent_identity._flow.rules import CONSEQUENTIAL
from agent_identity._guard.calls.arguments import canonical_bytes
from agent_identity._guard.calls.call import ALLOWED, Call, CallFlow, Inspected, Judgement
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.recorded_decisions import WITHIN_SCOPE, decision_fact, is_fact
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.tool_flow import origins_of
from agent_identity._guard.tasks.facts import NO_TASK, CallFacts
from agent_identity._inspection.transform import VERSION
from agent_identity._policy.composed import stated_tools
from agent_identity._policy.decision.decision import Decision as PolicyDecision
from agent_identity._policy.decision.request import Request, Tool
from agent_identity._policy.decision.resources import Touch, filled_name, has_placeholders
from agent_identity._policy.language.labels import added_to, facts_about
from agent_identity._record.parts import (
    Action,
    Decision,
    Ending,
    Enforced,
    Found,
    Model,
    Resource,
    Time,
    Transform,
    replaced,
)
from agent_identity._record.schema import Detail, Intent, Outcome

_LOG: Final = logging.getLogger("agent_identity")

RESOURCES: Final = "resources"
"""The id of the digest key for resource names: one for all tasks of a directory."""

Workflow: TypeAlias = Callable[[], str | None]
"""Returns the run, thread or conversation id of the framework in which a call is made."""

_MODELS: Final = frozenset({"model", "streamed_model"})
_MAX_CATEGORIES: Final = 1_024
_MAX_FOUND: Final = 256
_MAX_LABELS: Final = 64
_MAX_TRANSFORMS: Final = 256
_SURE: Final = (
    *("time", "outcome", "intent", "label", "mark_after", "trace"),
    *("attribution", "task", "principal", "agent", "chain"),
)
"""Members of an outcome that are made of checked values."""

_NO_FACTS: Final = CallFacts()


class Known(NamedTuple):
    """A decision about a call, with the members of its records.

    Attributes:
        decision: The decision.
        judgement: The judgement of such a call.
        fact: The member of its intent.
        short: The same in its outcome; policy and version are only in the intent.
    """

    decision: PolicyDecision
    judgement: Judgement
    fact: Decision
    short: Decision


@final
class RecordBuilder:
    """Builds the records of the calls of one tool.

    Args:
        enforcement: The enforcement point.
        tool: The tool.
        workflow: Returns the framework run of a call, if the integration knows it.
        endorses: Results have the declared flow label, whatever the mark of the task is.

    Attributes:
        known: The latest decision that let a call run unchanged, because policies return the same few repeatedly.
    """

    __slots__ = (
        "_claims",
        "_endorses",
        "_enforcement",
        "_is_model",
        "_labels",
        "_resources",
        "_tool",
        "_workflow",
        "known",
    )

    def __init__(
        self, enforcement: EnforcementContext, tool: Tool, workflow: Workflow | None = None, *, endorses: bool = False
    ) -> None:
        self._claims = None if tool.claims is None else _fitting(tool.claims.labels) or None
        self._endorses = endorses
        self._enforcement = enforcement
        self._is_model = tool.kind in _MODELS
        self._labels = _labels_of(enforcement, tool)
        self._resources = [(touch, _resource(touch)) for touch in tool.touches]
        self._tool = tool
        self._workflow = workflow
        self.known = self._known(WITHIN_SCOPE, "allow", None, None)._replace(judgement=ALLOWED)

    def describe(self, call: Call) -> None:
        """Fill in the action and the further facts that are known before the body.

        Raises:
            EvidenceError: A key is needed and cannot be stored.
        """
        tool, arguments, names, args = self._tool, call.snapshot, None, None
        try:
            if self._workflow is not None or self._resources or call.touched is not None:
                call.facts = CallFacts(self._touched(call), self._run_of_framework())
            if arguments is not None and arguments.values:
                names = arguments.kinds()
                digests, key = self._enforcement.digests, self.key_of(call)
                if self._enforcement.disclosable:
                    args = digests.commit(key, arguments.parts())
                else:
                    args = digests.digest(key, arguments.canonical())
        finally:  # A call that cannot be described is refused, and its refusal names the tool.
            call.action = Action(
                tool=tool.name,
                kind=tool.kind,
                call=call.call_id,
                args=args,
                names=names,
                route=None if call.routing is None else call.routing.name,
                stage="prompt" if self._is_model else None,
                model=None if call.request.model is None else _fit(call.request.model),
                labels=self._labels,
                claims=self._claims,
            )

    def _touched(self, call: Call) -> tuple[Resource, ...] | None:
        """Return the resources that a call touches, with the digests of the names that its arguments fill in."""
        declared = self._resources
        if call.touched is not None:
            declared = [(touch, _resource(touch)) for touch in call.touched]
        return tuple(dict.fromkeys(self._filled(touch, resource, call) for touch, resource in declared)) or None

    def _filled(self, touch: Touch, resource: Resource, call: Call) -> Resource:
        """Return a resource with the digest of its name, if arguments of the call fill in the name."""
        if call.snapshot is None or not has_placeholders(touch):
            return resource
        name = filled_name(touch, call.snapshot.view)
        if name is None:
            return resource
        # An array, because arguments are an object: even if a task had this key's id, no digest would fit both.
        data = canonical.encode(["resource", touch.system, name])
        digest = self._enforcement.digests.link(RESOURCES, data)
        return resource if digest is None else replaced(resource, digest=digest)

    def _run_of_framework(self) -> str | None:
        """Return the framework run, or its pseudonym; it decides nothing, so no failure refuses a call."""
        pseudonyms = self._enforcement.pseudonyms
        try:
            workflow = None if self._workflow is None else self._workflow()
        except Exception as error:  # noqa: BLE001 - Code of others, see above.
            _LOG.warning("the workflow of %s is not recorded: %s", self._tool.name, safe_message(error))
            return None
        if workflow is None or not is_fact(workflow):
            return None
        return workflow if pseudonyms is None else pseudonyms.of("workflow", workflow)

    def intent(self, call: Call) -> partial[Intent]:
        """Return the factory of the intent of a call."""
        facts, judged = call.facts or _NO_FACTS, None if call.flow is None else call.flow.judged
        return partial(
            Intent,
            time=Time(str(call.start_ns)),
            action=call.action,
            decision=self._decision(call).fact,
            **(NO_TASK if call.task is None else call.task.facts.whole),
            trace=call.execution.traced.rooted,
            findings=None if call.inspected is None else _categories(call.inspected),
            clauses=self._clauses(call) if call.clauses is None else call.clauses or None,
            resources=facts.resources,
            workflow=facts.workflow,
            resumes=None if call.taken_up is None else call.taken_up.record,
            judged_at=None if judged is None else judged.seen,
            provenance=None if judged is None else origins_of(judged),
            endorses=True if judged is not None and self._endorses else None,
        )

    def _clauses(self, call: Call) -> tuple[str, ...] | None:
        """Return the clauses of the scope that permit arguments of a call which as a whole is not within it."""
        if call.task is None or call.snapshot is None:
            return None
        return clauses_of(call.task.chain.leaf.scope, self._tool.name, call.snapshot.view) or None

    def outcome(self, call: Call, ending: Ending, error: str | None, end_ns: int, *, first: bool) -> partial[Outcome]:
        """Return the factory of the outcome of a call.

        Args:
            call: The call.
            ending: The ending of the call.
            error: The class of the error, or the code of the refusal.
            end_ns: End time, in nanoseconds since the Unix epoch.
            first: This is the first record of its span, so it has the span's parent. Others stay short.
        """
        action = replaced(call.action, names=None, labels=None, claims=None, result=call.digest)
        if self._is_model and call.intent is not None:
            action = replaced(action, stage="completion", model=_fit(call.model))
        label = None if call.flow is None else call.flow.label
        return partial(
            Outcome,
            label=None if label is None else str(label),
            time=Time(str(call.start_ns), str(end_ns)),
            action=action,
            decision=self._decision(call).short,
            outcome=ending,
            intent=call.intent,
            error=error,
            **(NO_TASK if call.task is None else call.task.facts.short),
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
        inspected = call.inspected
        facts: dict[str, Any] = {"findings": None if inspected is None else _found(inspected)}
        if call.intent is None:
            facts |= self._unstated(call)
        else:
            facts["claimed"] = None if call.flow is None else _claimed(call.flow)
            facts["transforms"] = None if inspected is None else inspected.transforms or None
        return None if list(facts.values()).count(None) == len(facts) else partial(Detail, **facts)

    def _unstated(self, call: Call) -> dict[str, Any]:
        """Return what the intent of a refused call would have said."""
        decision, known = self._decision(call).fact, call.facts or _NO_FACTS
        judged = None if call.flow is None else call.flow.judged
        return {
            "names": call.action.names,
            "labels": call.action.labels,
            "claims": call.action.claims,
            "policy": decision.policy,
            "version": decision.version,
            "roles": None if call.task is None else call.task.facts.principal.roles,
            "resources": known.resources,
            "workflow": known.workflow,
            "judged_at": None if judged is None else judged.seen,
            "provenance": None if judged is None else origins_of(judged),
        }

    def _decision(self, call: Call) -> Known:
        """Return the decision about a call, with the members of its records."""
        judgement, known = call.judgement, self.known  # Read once, because another thread may replace it.
        if judgement is known.judgement and call.routing is None:
            return known
        decision, enforced, _, argument = judgement
        usual = enforced == "allow" and argument is None and call.approval is None
        if usual and decision is known.decision:
            return known
        made = self._known(decision, enforced, argument, call.approval)
        if usual:
            self.known = made
        return made

    def _known(self, decision: PolicyDecision, enforced: Enforced, argument: str | None, approval: str | None) -> Known:
        fact = decision_fact(decision, enforced, self._enforcement.mode, argument, approval)
        return Known(decision, Judgement(decision), fact, replaced(fact, policy=None, version=None))

    def describe_result(self, call: Call, result: object) -> None:
        """Keep the digest of the result; the act happened, so a failure must not hide result or outcome."""
        try:
            call.digest = self._digest_of(call, result)
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


def _claimed(flow: CallFlow) -> str | None:
    """Return the flow label that the source of a result claims, if the call has a result that it restricts."""
    return None if flow.label is None or flow.limit == TRUSTED else str(flow.limit)


def _categories(inspected: Inspected) -> tuple[str, ...] | None:
    if not inspected.findings:
        return None
    return tuple(sorted({finding.category for finding in inspected.findings})[:_MAX_CATEGORIES])


def _found(inspected: Inspected) -> tuple[Found, ...] | None:
    """Return the distinct findings of a call; fields that no record can hold are left out."""
    distinct = {
        Found(
            category=finding.category,
            inspector=finding.inspector,
            severity=finding.severity,
            field=finding.field if is_fact(finding.field) else None,
        ): None
        for finding in inspected.findings
    }
    return tuple(distinct)[:_MAX_FOUND] or None


def _resource(touch: Touch) -> Resource:
    return Resource(system=touch.system, name=touch.name, access=touch.access, data=tuple(touch.data) or None)


def _labels_of(enforcement: EnforcementContext, tool: Tool) -> tuple[str, ...] | None:
    """Return the labels of a tool that application and operator state, if they state any."""
    facts = facts_about(tool.name, stated_tools(enforcement.policy))
    labels = tool.labels if facts is None else added_to(Request(tool, {}), facts).tool.labels
    return None if labels is None else _fitting(labels)


def _fitting(labels: Collection[str]) -> tuple[str, ...]:
    """Return labels that a record can hold; those on which the flow rules depend come first."""
    return tuple(sorted(filter(is_fact, labels), key=lambda label: label not in CONSEQUENTIAL))[:_MAX_LABELS]


def _fit(model: Model | None) -> Model | None:
    """Return a model that a record can hold: without a malformed provider, ``None`` for a malformed name."""
    if model is None or not is_fact(model.name):
        return None
    return model if model.provider is None or is_fact(model.provider) else Model(name=model.name)
