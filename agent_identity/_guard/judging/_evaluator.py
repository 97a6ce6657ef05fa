"""Findings of inspectors and the decision of the policy about a call, and its effect: run, refuse, or route."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from types import MappingProxyType
from typing import Final, Literal, TypeVar, final

from agent_identity._common.narrowing import is_mapping, is_plain_array, is_plain_dict
from agent_identity._constraints.values import MAX_NESTING
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.call import Call, Judgement, Routing
from agent_identity._guard.common.failures import error_type, frames_of
from agent_identity._guard.common.recorded_decisions import WITHIN_SCOPE, blocked_by, is_sound
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.tasks.task import Task
from agent_identity._inspection.held_streams import HeldStream, ReadyItems, readable
from agent_identity._inspection.running import Inspection
from agent_identity._policy.composed import is_built_in
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.request import Content, Direction, Finding, FlowFacts, Request, Tool
from agent_identity._policy.decision.resources import CallTouches, Touch, touches_of_call, with_data_of
from agent_identity.errors import Denied, PolicyBlocked, Routed

_Key = TypeVar("_Key")

_LOG: Final = logging.getLogger("agent_identity")
_MODELS: Final = ("model", "streamed_model")
_ATOMS: Final = frozenset({str, bytes, int, float, bool, type(None)})


@final
class PolicyEvaluator:
    """Asks inspectors and policy about the calls of one tool.

    Args:
        enforcement: The enforcement point.
        tool: The tool, as policies see it.
        data: Labels of the tool's data; ``None`` if no one stated them.

    Attributes:
        inspects: Results are inspected.
        waits: Inspectors, or the policy that judges their findings, may block.
    """

    __slots__ = ("_data", "_enforcement", "_hints", "_input", "_is_foreign", "_output", "_tool", "inspects", "waits")

    def __init__(self, enforcement: EnforcementContext, tool: Tool, data: tuple[str, ...] | None) -> None:
        self._enforcement = enforcement
        self._tool = tool
        self._data = data
        self._is_foreign = not is_built_in(enforcement.policy)
        self._input = Inspection(enforcement.inspectors, tool.name, "input")
        self._output = Inspection(enforcement.inspectors, tool.name, "output")
        # A finding names its inspector alone: where one of that name may block, all may.
        self._hints = (self._input.advisory | self._output.advisory) - self._input.sure - self._output.sure
        self.inspects = bool(self._output)
        looks = bool(self._input or self._output)
        self.waits = self._input.waits or self._output.waits or (looks and self._is_foreign)

    def request(
        self,
        view: Mapping[str, object],
        task: Task | None,
        findings: tuple[Finding, ...],
        stage: Literal["call", "result"],
        flow: FlowFacts | None = None,
        *,
        touched: tuple[Touch, ...] | None = None,
    ) -> Request:
        """Return the policy request for a call, or for its result.

        Args:
            view: The arguments.
            task: The task of the call.
            findings: What inspectors found.
            stage: What the policy is asked about.
            flow: The inputs of the task.
            touched: The resources of this call, where a function declares them.
        """
        arguments = MappingProxyType(_copied(view) if self._is_foreign else view)
        tool, data = self._tool, self._data
        if touched is not None:
            tool = dataclasses.replace(tool, touches=touched)
            data = with_data_of(data, touched)
        if task is None:
            return Request(tool, arguments, findings=findings, data=data, stage=stage, flow=flow)
        depth = task.chain.grants[-1].depth
        # Positional, because keywords cost time in the hot path of every guarded call.
        return Request(
            tool,
            arguments,
            task.principal,
            task.agent,
            depth,
            task.id,
            task.purpose,
            findings,
            data,
            stage,
            flow,
        )

    def touched(
        self, fixed: Sequence[Touch], by_call: Sequence[CallTouches], view: Mapping[str, object]
    ) -> tuple[Touch, ...]:
        """Return the resources of a call; functions of the application get a copy of the arguments.

        Args:
            fixed: The resources of each call of the tool.
            by_call: The functions that declare further ones.
            view: The arguments.
        """
        with self._enforcement.task_context.unmarked():
            return touches_of_call(fixed, by_call, MappingProxyType(_copied(view)))

    def decide(self, request: Request, known: Decision) -> Decision:
        """Return the answer of the policy.

        Args:
            request: The request.
            known: A valid decision that may be returned again.
        """
        policy = self._enforcement.policy
        if policy is None:
            return WITHIN_SCOPE
        try:
            if not self._is_foreign:  # Built-in policies open no tasks, and run in the hot path of every call.
                decision = policy.decide(request)
            else:
                with self._enforcement.task_context.unmarked():
                    decision = policy.decide(request)
        except Exception as error:  # noqa: BLE001 - A policy that fails blocks.
            _LOG.error("the policy failed, and blocks the call of %s\n%s", self._tool.name, frames_of(error))
            decision = Decision(effect=Effect.BLOCK, reason="policy_failed", why=error_type(error))
        if decision is known:
            return known
        decision = _checked(decision, request)
        if decision.effect is Effect.BLOCK and self._hints and request.findings:
            return self._weighed(request, decision, known)
        return decision

    def _weighed(self, request: Request, decision: Decision, known: Decision) -> Decision:
        """Return a block as a warning where it stands on nothing but hints."""
        sure = tuple(finding for finding in request.findings if finding.inspector not in self._hints)
        if len(sure) == len(request.findings):
            return decision
        again = self.decide(request._replace(findings=sure), known)
        if again.effect is Effect.BLOCK:
            return decision
        effect = Effect.WARN if again.effect is Effect.ALLOW else again.effect
        rules = {*again.warnings, *decision.warnings, *filter(None, (decision.rule,))}
        return dataclasses.replace(again, effect=effect, warnings=tuple(sorted(rules)))

    def inspect(self, direction: Direction, value: object, injected: Collection[str] = ()) -> tuple[Finding, ...]:
        """Return what the inspectors find.

        Args:
            direction: Whether the value is the arguments by name, or a result.
            value: The value.
            injected: Names of arguments that the framework filled in.
        """
        is_input = direction == "input"
        inspection = self._input if is_input else self._output
        findings = inspection.texts(value, injected)
        if not inspection.foreign:
            return findings
        # Inspectors change their own copy of arguments. Results are the original objects, and their code counts as code
        # of the body.
        shown = _copied(value) if is_input and is_mapping(value) else value
        content = Content(direction=direction, tool=self._tool.name, value=shown, injected=injected)
        try:
            with self._enforcement.task_context.unmarked() if is_input or _is_plain(value) else nullcontext():
                return (*findings, *inspection.others(content))
        except Denied as denied:
            raise RuntimeError(f"an inspector raised {error_type(denied)} of another call; return findings") from None

    def stream(self) -> HeldStream:
        """Return a new stream of results, of which nothing is held back yet."""
        return HeldStream(self._output, self._tool.name)

    def hold(self, stream: HeldStream, item: object) -> None:
        """Inspect the next item of a stream and hold it back.

        Args:
            stream: The stream.
            item: The item.

        Raises:
            UnmetError: More would be held back than may be.
        """
        # By itself as well, because what stands before it may hide a match.
        findings = self.inspect("output", readable(item))
        with self._enforcement.task_context.unmarked() if self._output.foreign else nullcontext():
            stream.add(item, findings)

    def ready(self, stream: HeldStream, *, last: bool) -> ReadyItems:
        """Return the items of a stream that nothing can make a match any more.

        Args:
            stream: The stream.
            last: It has ended.
        """
        with self._enforcement.task_context.unmarked() if self._output.foreign else nullcontext():
            return stream.ready(last=last)


def _copied(view: Mapping[_Key, object]) -> dict[_Key, object]:
    """Copy the containers in arguments, so that changes do not reach the body."""
    return {name: _copy(value) for name, value in view.items()}


def _copy(value: object) -> object:
    if is_plain_dict(value):
        return _copied(value)
    if is_plain_array(value):
        copied = [_copy(item) for item in value]
        return copied if type(value) is list else tuple(copied)
    return value


def _is_plain(value: object, depth: int = MAX_NESTING) -> bool:
    """Return whether reading a result runs no code of its classes."""
    if type(value) in _ATOMS:
        return True
    if depth == 0:
        return False
    if is_plain_dict(value):
        return all(_is_plain(part, depth - 1) for item in value.items() for part in item)
    return is_plain_array(value) and all(_is_plain(item, depth - 1) for item in value)


def _checked(decision: object, request: Request) -> Decision:
    """Return a policy's answer if it is a decision; arguments are never changed, unless they are a model's prompt."""
    if not isinstance(decision, Decision):
        return Decision(effect=Effect.BLOCK, reason="policy_failed", why="not a Decision")
    if not is_sound(decision):
        return Decision(effect=Effect.BLOCK, reason="policy_failed", why="a Decision that no record can hold")
    if decision.obligations and request.stage == "call" and request.tool.kind not in _MODELS:
        return Decision(effect=Effect.BLOCK, reason="obligation_unmet", why="obligations are for results alone")
    return decision


def ground_of(decision: Decision) -> tuple[object, ...]:
    """Return the ground of a decision: the same ground is the same decision, whatever its message for people."""
    return (
        decision.effect,
        decision.route,
        decision.rule,
        decision.policy,
        decision.version,
        decision.digest,
    )


def refusal_of(decision: Decision, denied: Denied) -> Decision:
    """Return the decision for a refused call that needed approval; it names the rule that asked for the approval."""
    if isinstance(denied.decision, Decision) and denied.decision.effect is Effect.BLOCK:
        return denied.decision
    return Decision(
        effect=Effect.BLOCK,
        reason=denied.code,
        rule=decision.rule,
        policy=decision.policy,
        version=decision.version,
        digest=decision.digest,
    )


def take_effect(call: Call, decision: Decision, routes: Mapping[str, Callable[..., object] | Approval]) -> None:
    """Give a call the decision of the policy, and what takes over if it is routed.

    Args:
        call: The call.
        decision: The decision.
        routes: Handlers by name.

    Raises:
        PolicyBlocked: The policy blocks it.
        Routed: No one takes over, or this call cannot be taken over.
    """
    tool = call.tool
    call.judged(Judgement(decision))
    if decision.effect is Effect.BLOCK:
        raise PolicyBlocked(blocked_by(decision, tool), code=decision.reason, decision=decision)
    if decision.effect is not Effect.ROUTE:
        return
    handler = routes.get(decision.route or "")
    call.routing = Routing(decision.route or "unnamed")
    if isinstance(handler, Approval):
        call.routing.channel = handler
    elif handler is None:
        name = call.routing.name
        message = f"{tool}: routed to {name!r}, and no handler has that name; pass it to the enforcer in routes="
        raise Routed(message, code="route_unavailable", decision=decision)
    elif not call.request.can_route:
        raise Routed(f"{tool}: routed elsewhere; this call did not run", decision=decision)
    else:
        call.route = handler
    call.judged(Judgement(decision, "escalate"))
