"""Rules compiled for fast decisions: per tool, only the rules that can apply to it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, final

from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._policy.decision.patterns import has_wildcard, matches
from agent_identity._policy.decision.request import Request
from agent_identity._policy.language.attributes import prepared
from agent_identity._policy.language.checks import Verdict
from agent_identity._policy.language.conditions import Predicate
from agent_identity._policy.language.labels import ToolFacts, added_to, facts_about, with_claims
from agent_identity._policy.rules.review import explain
from agent_identity._policy.rules.rule import Rule

_MAX_PLANS: Final = 1024
"""Tool names whose applicable rules are cached."""

_REASONS: Final[Mapping[Effect, str]] = {
    Effect.ALLOW: "policy_allows",
    Effect.WARN: "policy_warns",
    Effect.BLOCK: "policy_blocks",
    Effect.ROUTE: "policy_routes",
}
_ERROR: Final = "rule_error"
_STOPPING: Final = (Effect.ROUTE, Effect.BLOCK)
_STRICTNESS: Final = (Effect.ALLOW, Effect.WARN, Effect.ROUTE, Effect.BLOCK)


@final
@dataclass(frozen=True, slots=True)
class Origin:
    """The policy that a decision comes from.

    Attributes:
        name: Its name.
        version: Its version.
        digest: Its digest.
    """

    name: str
    version: str
    digest: str


@final
@dataclass(frozen=True, slots=True)
class PolicySource:
    """The content of a policy.

    Attributes:
        rules: Its rules.
        default: The effect if no rule matches.
        origin: Its name, version and digest.
        tools: Its facts about tools.
        warnings: Valid rules that are probably not meant so, each with its place.
    """

    rules: tuple[Rule, ...]
    default: Effect
    origin: Origin
    tools: tuple[ToolFacts, ...]
    warnings: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class _Compiled:
    """A compiled rule: its condition, and the decisions for a match and for an undecidable condition."""

    id: str
    rule: Rule
    test: Predicate
    hit: Decision
    error: Decision


_Stops: TypeAlias = "tuple[Predicate, Decision, Decision]"
_Runs: TypeAlias = "tuple[Predicate, Decision]"


@final
@dataclass(frozen=True, slots=True)
class _Plan:
    """The rules for one tool. Each group is sorted by rule id, so that the first match is the answer."""

    stops: tuple[_Stops, ...]
    warns: tuple[_Runs, ...]
    allows: tuple[_Runs, ...]
    duties: tuple[_Compiled, ...]
    facts: ToolFacts | None


@final
class Program:
    """Compiled rules. Thread-safe: writes after construction only fill a cache with equal values."""

    __slots__ = ("_by_name", "_by_pattern", "_default", "_plans", "_rules", "_tools")

    def __init__(
        self, rules: Mapping[str, Rule], default: Effect, origin: Origin, tools: tuple[ToolFacts, ...]
    ) -> None:
        """Compile rules.

        Args:
            rules: The rules by id.
            default: The effect if no rule matches.
            origin: Name, version and digest of the policy, for every decision.
            tools: The policy's facts about tools.
        """
        self._rules = dict(rules)
        self._tools = tools
        self._by_name: dict[str, list[_Compiled]] = {}
        self._by_pattern: list[_Compiled] = []
        self._plans: dict[str, _Plan] = {}
        self._default = Decision(
            effect=default,
            reason="no_rule_allows" if default is Effect.BLOCK else "default",
            policy=origin.name,
            version=origin.version,
            digest=origin.digest,
        )
        for rule_id in sorted(rules):
            self._add(_compiled(rule_id, rules[rule_id], self._default))

    def _add(self, compiled: _Compiled) -> None:
        patterns = compiled.rule.tools
        if any(has_wildcard(pattern) for pattern in patterns):
            self._by_pattern.append(compiled)
            return
        for name in dict.fromkeys(patterns):
            self._by_name.setdefault(name, []).append(compiled)

    def decide(self, request: Request) -> Decision:
        """Return the answer to a request."""
        plan = self._plans.get(request.tool.name)
        if plan is None:
            plan = self._prepare(request.tool.name)
        request = prepared(request)
        if plan.facts is not None:
            request = added_to(request, plan.facts)
        decision = self._answer(plan, request)
        claims = request.tool.claims
        if claims is None:
            return decision
        claimed = self._answer(plan, with_claims(request, claims))
        strictest = max(decision, claimed, key=lambda answer: _STRICTNESS.index(answer.effect))
        if not (decision.obligations or claimed.obligations) or strictest.effect in _STOPPING:
            return strictest
        return replace(strictest, obligations=tuple(dict.fromkeys((*decision.obligations, *claimed.obligations))))

    def _answer(self, plan: _Plan, request: Request) -> Decision:
        decision = self._effect(plan, request)
        return self._obliged(plan.duties, request, decision) if plan.duties else decision

    def _obliged(self, duties: Sequence[_Compiled], request: Request, decision: Decision) -> Decision:
        """Return a decision with what all rules that match ask for besides; one that cannot tell blocks."""
        if decision.effect in _STOPPING:
            return decision
        owed: dict[Obligation, None] = {}
        for duty in duties:
            verdict = duty.test(request)
            if verdict is None:
                return self._explained(duty.error, request)
            if verdict:
                owed.update(dict.fromkeys(duty.rule.obligations))
        return replace(decision, obligations=tuple(owed)) if owed else decision

    def _effect(self, plan: _Plan, request: Request) -> Decision:
        decision = _stopped(plan.stops, request) if plan.stops else None
        if decision is not None and decision.reason == _ERROR:
            decision = self._explained(decision, request)
        if plan.warns:
            decision = _warned(plan.warns, request, decision)
        if decision is not None:
            return decision
        for test, hit in plan.allows:
            if test(request):
                return hit
        return self._default

    def _explained(self, decision: Decision, request: Request) -> Decision:
        """Return the decision of an undecidable rule, with the missing attributes as its reason."""
        condition = None if decision.rule is None else self._rules[decision.rule].when
        return decision if condition is None else replace(decision, why=explain(condition, request))

    def _prepare(self, name: str) -> _Plan:
        wild = [c for c in self._by_pattern if any(matches(pattern, name) for pattern in c.rule.tools)]
        applicable = sorted((*self._by_name.get(name, ()), *wild), key=lambda compiled: compiled.id)
        plan = _Plan(
            stops=tuple((c.test, c.hit, c.error) for c in applicable if c.rule.effect in (Effect.BLOCK, Effect.ROUTE)),
            warns=tuple((c.test, c.hit) for c in applicable if c.rule.effect is Effect.WARN),
            allows=tuple((c.test, c.hit) for c in applicable if c.rule.effect is Effect.ALLOW),
            duties=tuple(c for c in applicable if c.rule.obligations),
            facts=facts_about(name, self._tools),
        )
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[name] = plan
        return plan


def _compiled(rule_id: str, rule: Rule, default: Decision) -> _Compiled:
    hit = replace(
        default,
        effect=rule.effect,
        reason=_REASONS[rule.effect],
        rule=rule_id,
        why=rule.reason or None,
        route=rule.to,
        warnings=(rule_id,) if rule.effect is Effect.WARN else (),
    )
    error = replace(hit, effect=Effect.BLOCK, reason=_ERROR, why=None, route=None, warnings=())
    return _Compiled(rule_id, rule, _always if rule.when is None else rule.when.compile(), hit, error)


def _always(_: Request) -> Verdict:
    return True


def _stopped(stops: Sequence[_Stops], request: Request) -> Decision | None:
    """Return the first block, else the first undecidable rule, else the first route."""
    failed: Decision | None = None
    routed: Decision | None = None
    for test, hit, error in stops:
        verdict = test(request)
        if verdict is None:
            failed = failed or error
        elif verdict:
            if hit.effect is Effect.BLOCK:
                return hit
            routed = routed or hit
    return failed or routed


def _warned(warns: Sequence[_Runs], request: Request, decision: Decision | None) -> Decision | None:
    """Return the decision, or that of the first warning if there is no decision, with all warnings."""
    hits = [hit for test, hit in warns if test(request)]
    if not hits:
        return decision
    if decision is None and len(hits) == 1:
        return hits[0]
    return replace(decision or hits[0], warnings=tuple(hit.warnings[0] for hit in hits))
