"""Members of call records that say what a call touches and by which clauses it is allowed."""

import logging
from collections.abc import Callable, Collection
from typing import Final, TypeAlias, final

from agent_identity import canonical
from agent_identity._authority.grants.scope import clauses_of
from agent_identity._flow.rules import CONSEQUENTIAL
from agent_identity._guard.calls.call import Call
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.recorded_decisions import is_fact
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.tasks.facts import CallFacts
from agent_identity._policy.composed import stated_tools
from agent_identity._policy.decision.request import Request, Tool
from agent_identity._policy.decision.resources import Touch, filled_name, has_placeholders
from agent_identity._policy.language.labels import added_to, facts_about
from agent_identity._record.parts import Action, Model, Resource, replaced

_LOG: Final = logging.getLogger("agent_identity")

RESOURCES: Final = "resources"
"""The id of the digest key for resource names: one for all tasks of a directory."""

Workflow: TypeAlias = Callable[[], str | None]
"""Returns the run, thread or conversation id of the framework in which a call is made."""

_MODELS: Final = frozenset({"model", "streamed_model"})
_MAX_LABELS: Final = 64


@final
class CallMembers:
    """Builds these members for the call records of one tool.

    Args:
        enforcement: The enforcement point.
        tool: The tool.
        workflow: Returns the framework run of a call, if the integration knows it.
    """

    __slots__ = ("_claims", "_digests", "_is_model", "_labels", "_name", "_pseudonyms", "_resources", "_workflow")

    def __init__(self, enforcement: EnforcementContext, tool: Tool, workflow: Workflow | None) -> None:
        self._digests = enforcement.digests
        self._is_model = tool.kind in _MODELS
        self._labels = _labels_of(enforcement, tool)
        self._claims = None if tool.claims is None else _fitting(tool.claims.labels) or None
        self._name = tool.name
        self._pseudonyms = enforcement.pseudonyms
        self._resources = [(touch, _resource(touch)) for touch in tool.touches]
        self._workflow = workflow

    def describe(self, action: Action, call: Call) -> Action:
        """Return the action with the facts known before the body; keep the others with the call.

        Raises:
            EvidenceError: The key of the resources is needed and cannot be stored.
        """
        workflow = self._run_of_framework()
        declared = self._resources
        if call.touched is not None:
            declared = [(touch, _resource(touch)) for touch in call.touched]
        resources = tuple(dict.fromkeys(self._filled(touch, resource, call) for touch, resource in declared))
        call.facts = CallFacts(resources or None, workflow)
        return replaced(
            action,
            labels=self._labels,
            claims=self._claims,
            stage="prompt" if self._is_model else None,
            model=_fit(call.request.model),
        )

    def _run_of_framework(self) -> str | None:
        """Return the framework run, or its pseudonym; it decides nothing, so no failure refuses a call."""
        try:
            workflow = None if self._workflow is None else self._workflow()
        except Exception as error:  # noqa: BLE001 - Code of others, see above.
            _LOG.warning("the workflow of %s is not recorded: %s", self._name, safe_message(error))
            return None
        if workflow is None or not is_fact(workflow):
            return None
        return workflow if self._pseudonyms is None else self._pseudonyms.of("workflow", workflow)

    def concluded(self, call: Call) -> Action:
        """Return the short action of an outcome; for a completed model call, with the answering model."""
        action = replaced(call.action, names=None, labels=None, claims=None)
        if call.intent is None or not self._is_model:
            return action
        return replaced(action, stage="completion", model=_fit(call.model))

    def clauses(self, call: Call) -> tuple[str, ...] | None:
        """Return the scope branches that allowed the arguments of a call."""
        task, snapshot = call.task, call.snapshot
        if task is None or snapshot is None:
            return None
        return clauses_of(task.chain.leaf.scope, self._name, snapshot.view) or None

    def _filled(self, touch: Touch, resource: Resource, call: Call) -> Resource:
        """Return a resource with the digest of its name, if arguments of the call fill in the name."""
        if call.snapshot is None or not has_placeholders(touch):
            return resource
        name = filled_name(touch, call.snapshot.view)
        if name is None:
            return resource
        # An array, because arguments are an object: even if a task had this key's id, no digest would fit both.
        digest = self._digests.link(RESOURCES, canonical.encode(["resource", touch.system, name]))
        return resource if digest is None else replaced(resource, digest=digest)


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
