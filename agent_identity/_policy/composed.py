"""Several policies as one."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeGuard, final

from agent_identity import canonical
from agent_identity._flow.label_spelling import unknown_consequences
from agent_identity._flow.rules import CONSEQUENTIAL
from agent_identity._identity.common.encoding import digest_of
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._policy.decision.request import Policy, Request
from agent_identity._policy.flow_policy import Flow
from agent_identity._policy.language.conditions import Condition, Negation, Question
from agent_identity._policy.language.labels import ToolFacts, added_to, facts_about
from agent_identity._policy.rule_set import RuleSet

_LOG: Final = logging.getLogger("agent_identity")
_STRICTNESS: Final = (Effect.ALLOW, Effect.WARN, Effect.ROUTE, Effect.BLOCK)
_MAX_POLICIES: Final = 16
_MAX_KEPT: Final = 256


@final
@dataclass(frozen=True, slots=True, init=False, eq=False)
class All:
    """Several policies that all judge each call; the strictest answer counts, with the warnings and obligations of all.

    Policies that route the same call to different targets block it: one person cannot answer for two.

    What one of them states about tools in its section ``tools``, all of them know. A closed world stays closed: what a
    part with ``default: block`` does not allow is blocked, whatever the others say.

    Args:
        policies: 1 to 16 policies, or paths of policy files.

    Raises:
        TypeError: One is no policy.
        ValueError: There is none, or there are more than 16.
        PolicyFormatError: A file is malformed.
        ConfigurationError: A file cannot be read.
    """

    policies: tuple[Policy, ...]
    name: str
    version: str
    digest: str
    tools: tuple[ToolFacts, ...] = field(repr=False)
    _kept: dict[tuple[int, ...], tuple[tuple[Decision, ...], Decision]] = field(repr=False)

    def __init__(self, *policies: Policy | str | os.PathLike[str]) -> None:
        if not 0 < len(policies) <= _MAX_POLICIES:
            raise ValueError(f"All has {len(policies)} policies; give 1 to {_MAX_POLICIES}")
        parts = tuple(map(_loaded, policies))
        digests = canonical.encode([part.digest for part in parts])
        facts: dict[str, object] = {
            "policies": parts,
            "name": "+".join(part.name for part in parts)[:128],
            "version": "+".join(part.version for part in parts)[:128],
            "digest": digest_of(digests),
            "tools": tuple(of for part in parts for of in stated_tools(part)),
            "_kept": {},
        }
        for name, value in facts.items():
            object.__setattr__(self, name, value)
        if has_flow_rules(self):
            _tell_labels(self.tools)

    @property
    def flow(self) -> bool:
        """True if a part asks about information flow."""
        return any(map(asks_about_flow, self.policies))

    def decide(self, request: Request) -> Decision:
        """Return the strictest of the answers."""
        stated = facts_about(request.tool.name, self.tools) if self.tools else None
        if stated is not None:
            request = added_to(request, stated)
        found = tuple([part.decide(request) for part in self.policies])
        answers = tuple(map(id, found))
        kept = self._kept.get(answers)  # It holds the answers, so that no other objects have their ids.
        if kept is None:
            if len(self._kept) >= _MAX_KEPT:
                self._kept.clear()
            kept = self._kept[answers] = found, self._composed(found)
        return kept[1]

    def _composed(self, found: Sequence[Decision]) -> Decision:
        """Return the answer to a request; one object for the same answers, of which records are made once."""
        strictest = max(found, key=lambda answer: _STRICTNESS.index(answer.effect))
        if strictest.effect is Effect.ROUTE and len({answer.route for answer in found if answer.route is not None}) > 1:
            why = "two policies route the call to different targets; give them one name"
            strictest = Decision(effect=Effect.BLOCK, reason="rule_error", rule=strictest.rule, why=why)
        warnings = tuple(sorted({warning for answer in found for warning in answer.warnings}))
        return replace(
            strictest,
            policy=self.name,
            version=self.version,
            digest=self.digest,
            warnings=warnings,
            obligations=_owed(strictest, found),
        )


def _tell_labels(tools: Sequence[ToolFacts]) -> None:
    for of in tools:
        if unknown := unknown_consequences(of.labels):
            _LOG.warning("policy: tools: %s: %s", of.pattern, told_of(unknown))


def told_of(labels: Sequence[str]) -> str:
    """Return what developers have to know of labels that say nothing of the consequences of a tool."""
    known = ", ".join(sorted(CONSEQUENTIAL))
    return (
        f"none of its labels ({', '.join(labels)[:128]}) is one of {known}, so that Flow expects all of these "
        "consequences; add the right ones, or write labels: [] if it has none"
    )


def _owed(strictest: Decision, answers: Sequence[Decision]) -> tuple[Obligation, ...]:
    """Return the obligations of all answers, where the call or result is let through."""
    if strictest.effect not in (Effect.ALLOW, Effect.WARN):
        return ()
    return tuple(dict.fromkeys(duty for answer in answers for duty in answer.obligations))


def _loaded(policy: Policy | str | os.PathLike[str]) -> Policy:
    part = RuleSet.load(policy) if isinstance(policy, str | os.PathLike) else policy
    if not callable(getattr(part, "decide", None)):
        raise TypeError(f"All has a {type(part).__name__}; give policies, or paths of policy files")
    return part


def _is_flow_question(condition: Condition) -> bool:
    if isinstance(condition, Question):
        return condition.name.startswith("flow.")
    parts: Sequence[Condition] = (condition.part,) if isinstance(condition, Negation) else condition.parts
    return any(map(_is_flow_question, parts))


def asks_about_flow(policy: Policy | None) -> bool:
    """Return whether a policy asks about information flow, so that marks have to be kept.

    Rules do so by an attribute ``flow.…``; policies written by users by an attribute ``flow`` that is ``True``.
    """
    if isinstance(policy, RuleSet):
        return any(rule.when is not None and _is_flow_question(rule.when) for rule in policy.rules)
    return getattr(policy, "flow", False) is True


def has_flow_rules(policy: Policy | None) -> bool:
    """Return whether the rules of :class:`Flow` are part of a policy."""
    return isinstance(policy, Flow) or (isinstance(policy, All) and any(map(has_flow_rules, policy.policies)))


def is_built_in(policy: Policy | None) -> bool:
    """Return whether a policy is ours alone: quick, and without code of others."""
    if isinstance(policy, All):
        return all(map(is_built_in, policy.policies))
    return policy is None or type(policy) in (RuleSet, Flow)


def stated_tools(policy: Policy | None) -> tuple[ToolFacts, ...]:
    """Return what a policy states about tools."""
    return policy.tools if _states_tools(policy) else ()


def _states_tools(policy: Policy | None) -> "TypeGuard[RuleSet | All]":
    return isinstance(policy, RuleSet | All)


def rule_sets_of(policy: Policy | None) -> tuple[RuleSet, ...]:
    """Return the sets of rules in a policy."""
    if isinstance(policy, All):
        return tuple(found for part in policy.policies for found in rule_sets_of(part))
    return (policy,) if isinstance(policy, RuleSet) else ()


def routes_of(policy: Policy | None) -> frozenset[str]:
    """Return the names of the routes to which a policy may send a call; a policy of yours names none."""
    if isinstance(policy, All):
        return frozenset(name for part in policy.policies for name in routes_of(part))
    if isinstance(policy, Flow):
        return frozenset({policy.to})
    return frozenset(rule.to for rules in rule_sets_of(policy) for rule in rules.rules if rule.to is not None)
