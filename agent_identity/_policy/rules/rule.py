"""One rule of a policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, final

from agent_identity._policy.decision.decision import Effect, check_name, check_why
from agent_identity._policy.decision.obligations import Obligation, describe_obligations, parse_obligations
from agent_identity._policy.decision.patterns import check_patterns
from agent_identity._policy.decision.places import Gathering, Path, Problem
from agent_identity._policy.language.conditions import Condition, Group, Question, parse_condition
from agent_identity.canonical import JSON
from agent_identity.errors import PolicyFormatError

_CHANGEABLE: Final = (
    {"findings.stage": {"constraint_type": "exact", "value": "result"}},
    {"tool.kind": {"constraint_type": "exact", "value": "model"}},
    {"tool.kind": {"constraint_type": "exact", "value": "streamed_model"}},
)
"""Conditions under which there are only results and prompts of models, which may be changed."""


@final
@dataclass(frozen=True, slots=True, init=False)
class Rule:
    """The effect on calls of some tools under a condition.

    A condition is data: ``{"args.amount": Range(min=0, max=100), "principal.kind": "human"}``. All its members must
    be true; ``all``, ``any`` and ``not`` combine, and ``{"exists": True}`` is true if an attribute exists.
    A missing attribute or a value of another type makes a condition undecidable. Then a rule
    that allows or warns does not match, and a rule that blocks or routes blocks: an undecidable rule never lets a
    call through. Use ``exists`` first if an attribute may be missing.

    Args:
        effect: The effect.
        tools: A tool's name or several; ``*`` stands for any characters and ``?`` for one.
        when: The condition; without one the rule always matches.
        reason: The reason for people: one line of at most 256 characters; it is in records and errors.
        id: A name for the rule; by default ``rule-<position>``, counted from 1.
        to: The name of the target in ``routes=`` of the enforcer; required with ``Effect.ROUTE``, else forbidden.
        obligations: Required changes to a result that it lets through. Only for ``allow`` and ``warn``, and with
            ``"findings.stage": "result"`` in the condition. If a change is impossible, or the condition is
            undecidable, the result is withheld.

    Raises:
        TypeError: The effect is not an :class:`Effect`.
        PolicyFormatError: Anything else is malformed.
    """

    effect: Effect
    tools: tuple[str, ...]
    when: Condition | None
    reason: str
    id: str | None
    to: str | None
    obligations: tuple[Obligation, ...]

    def __init__(
        self,
        effect: Effect,
        *,
        tools: str | Sequence[str] = "*",
        when: Mapping[str, object] | Condition | None = None,
        reason: str = "",
        id: str | None = None,  # The attribute of a rule is called id everywhere else.
        to: str | None = None,
        obligations: Sequence[Obligation] = (),
    ) -> None:
        if type(effect) is not Effect:
            raise TypeError(f"effect is {type(effect).__name__}; use a member of Effect, such as Effect.BLOCK")
        try:
            check_route(effect, to, ("to",))
            condition = None if when is None else parse_condition(when, ("when",))
            duties = parse_obligations(obligations, ("obligations",))
            check_obligations(effect, condition, duties, ("obligations",))
            self._set("obligations", duties)
            self._set("tools", check_patterns(tools, ("tools",)))
            self._set("reason", located_why(reason, ("reason",)))
            self._set("id", None if id is None else located_name(id, ("id",)))
        except Problem as problem:
            raise PolicyFormatError(f"bad rule: {problem.within()}") from None
        self._set("effect", effect)
        self._set("when", condition)
        self._set("to", to)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


def check_route(effect: Effect, route: object, path: Path) -> str | None:
    """Return the route of a rule.

    Raises:
        Problem: The rule routes and has no route, or has a route and does not route.
    """
    if effect is not Effect.ROUTE:
        if route is not None:
            raise Problem(
                f"a rule with the effect {effect.value} has a target; leave it out, or use the effect route", path
            )
        return None
    if route is None:
        raise Problem("the rule routes to no target; name the one that takes over", path)
    return located_name(route, path)


def check_obligations(
    effect: Effect, condition: Condition | None, obligations: Sequence[Obligation], path: Path
) -> None:
    """Check that a rule may have the obligations that it has.

    Raises:
        Problem: It blocks or routes, or may match a call.
    """
    if not obligations:
        return
    if effect not in (Effect.ALLOW, Effect.WARN):
        raise Problem(f"obligations go with allow and warn, got them with {effect.value}", path)
    _check_results_only(condition, path)


def _check_results_only(condition: Condition | None, path: Path) -> None:
    """Check that a rule with obligations judges results and prompts alone: other arguments are never changed.

    Raises:
        Problem: It may match a call.
    """
    if condition is None or not _is_of_results(condition):
        raise Problem(
            "a rule with obligations changes results; add findings.stage: result to its condition (or tool.kind: model "
            "for the prompts of models too), since the arguments of a call are never changed",
            path,
        )


def _is_of_results(condition: Condition) -> bool:
    if isinstance(condition, Question):
        return condition.describe() in _CHANGEABLE
    if not isinstance(condition, Group):
        return False
    among = any if condition.word == "all" else all
    return among(map(_is_of_results, condition.parts))


def located_name(value: object, path: Path) -> str:
    """Return the value if it is a name.

    Raises:
        Problem: The value is no name.
    """
    try:
        return check_name(value, "a name")
    except ValueError as error:
        raise Problem(str(error), path) from None


def located_why(value: object, path: Path) -> str:
    """Return the value if it is a printable reason for people.

    Raises:
        Problem: The value is none.
    """
    try:
        return check_why(value)
    except ValueError as error:
        raise Problem(str(error), path) from None


def rule_ids(rules: Sequence[Rule]) -> tuple[str, ...]:
    """Return the ids of rules in their order.

    Raises:
        Problem: Two rules have the same id.
    """
    return unique_ids([rule.id for rule in rules])


def unique_ids(explicit: Sequence[str | None]) -> tuple[str, ...]:
    """Return the ids of rules in order, with a positional id for a rule without one.

    Raises:
        Problem: Two rules have the same id.
    """
    ids: dict[str, int] = {}
    gathering = Gathering()
    for index, own in enumerate(explicit):
        first = ids.setdefault(own or f"rule-{index + 1}", index)
        if first != index:
            gathering.take(partial(_refuse_id, index, first), None)
    gathering.end()
    return tuple(ids)


def _refuse_id(index: int, first: int) -> None:
    raise Problem(f"the id is that of rule {first + 1} already; choose another id", ("rules", index, "id"))


def describe_rule(rule: Rule, id_: str) -> JSON:
    """Return the canonical description of a rule for the digest of its policy."""
    described: dict[str, JSON] = {
        "effect": rule.effect.value,
        "id": id_,
        "reason": rule.reason,
        "route": rule.to,
        "tools": rule.tools,
        "when": None if rule.when is None else rule.when.describe(),
    }
    if rule.obligations:  # A policy without any keeps its digest.
        described["obligations"] = describe_obligations(rule.obligations)
    return described
