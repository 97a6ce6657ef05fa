"""Questions of the guard about a call: findings from inspectors, a decision from the policy."""

from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Final, Literal, TypeVar, final

from agent_identity._common.narrowing import is_mapping, is_plain_array, is_plain_dict
from agent_identity._constraints import MAX_NESTING
from agent_identity._enforcement.calls import WITHIN_SCOPE, is_sound
from agent_identity._enforcement.common import error_type
from agent_identity._enforcement.guard.context import EnforcementContext
from agent_identity._enforcement.tasks import Task
from agent_identity._policy import RuleSet
from agent_identity._policy.decision import Content, Decision, Effect, Finding, Request, Tool
from agent_identity.errors import Denied

_Key = TypeVar("_Key")
__all__ = ["PolicyEvaluator", "ground_of", "refusal_of"]

_ATOMS: Final = frozenset({str, bytes, int, float, bool, type(None)})


@final
class PolicyEvaluator:
    """Asks inspectors and policy about the calls of one tool.

    Args:
        point: The enforcement point.
        tool: The tool, as policies see it.
        data: Labels of the tool's data; ``None`` if nobody stated them.
    """

    __slots__ = ("_data", "_is_foreign", "_point", "_tool")

    def __init__(self, point: EnforcementContext, tool: Tool, data: tuple[str, ...] | None) -> None:
        self._point = point
        self._tool = tool
        self._data = data
        self._is_foreign = point.policy is not None and type(point.policy) is not RuleSet

    def request(
        self,
        view: Mapping[str, object],
        task: Task | None,
        findings: tuple[Finding, ...],
        stage: Literal["call", "result"],
    ) -> Request:
        """Return the policy request for a call, or for its result."""
        arguments = MappingProxyType(_copied(view) if self._is_foreign else view)
        if task is None:
            return Request(self._tool, arguments, findings=findings, data=self._data, stage=stage)
        depth = task.chain.grants[-1].depth
        # Positional, because keywords cost time in the hot path of every guarded call.
        return Request(
            self._tool,
            arguments,
            task.principal,
            task.agent,
            depth,
            task.id,
            task.purpose,
            findings,
            self._data,
            stage,
        )

    def decide(self, request: Request, known: Decision) -> Decision:
        """Return the answer of the policy.

        request: The request.
            request: The question.
            known: A valid decision that may be returned again.
        """
        policy = self._point.policy
        if policy is None:
            return WITHIN_SCOPE
        try:
            if not self._is_foreign:  # Our own policy opens no tasks, and is in the hot path of every guarded call.
                decision = policy.decide(request)
            else:
                with self._point.ambience.unmarked():
                    decision = policy.decide(request)
        except Exception as error:  # noqa: BLE001 - A policy that fails blocks.
            return Decision(effect=Effect.BLOCK, reason="policy_failed", why=error_type(error))
        return known if decision is known else _checked(decision)

    def inspect(self, direction: str, value: object) -> tuple[Finding, ...]:
        """Return the findings of the inspectors."""
        inspectors = self._point.inspectors
        if not inspectors:
            return ()
        is_input = direction != "output"
        # Inspectors change their own copy of arguments. Results are the original objects, and their code counts as code
        # of the body.
        shown = _copied(value) if is_input and is_mapping(value) else value
        content = Content(direction="input" if is_input else "output", tool=self._tool.name, value=shown)
        try:
            with self._point.ambience.unmarked() if is_input or _is_plain(value) else nullcontext():
                findings = tuple(finding for inspector in inspectors for finding in inspector.inspect(content))
        except Denied as denied:
            raise RuntimeError(f"an inspector raised {error_type(denied)} of another call; return findings") from None
        if not all(type(finding) is Finding for finding in findings):
            raise TypeError("an inspector returned something else than findings; return findings")
        return findings


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


def _checked(decision: object) -> Decision:
    """Return a policy's answer if it is a decision."""
    if not isinstance(decision, Decision):
        return Decision(effect=Effect.BLOCK, reason="policy_failed", why="not a Decision")
    if not is_sound(decision):
        return Decision(effect=Effect.BLOCK, reason="policy_failed", why="a Decision that no record can hold")
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
