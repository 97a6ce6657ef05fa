"""Checks of ``agent-identity doctor`` on policies: tools that a rule would hit or miss by mistake."""

from collections.abc import Iterator, Mapping, Sequence

from agent_identity._directory.enforcer import open_enforcers
from agent_identity._guard.judging.known_tools import KnownTools
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity._policy.composed import routes_of, rule_sets_of
from agent_identity._policy.language.labels import ToolFacts, labels_of
from agent_identity._policy.rule_set import RuleSet
from agent_identity._policy.rules.review import (
    LABELS,
    SPLIT_CURE,
    absent_tools,
    label_rules,
    split_rules,
    unknown_labels,
)
from agent_identity._policy.rules.rule import Rule
from agent_identity._verify.report.plurals import counted, some


def examine_policies(candidate: RuleSet | None = None) -> list[Check]:
    """Check the guarded tools of this process against their policies.

    Args:
        candidate: A policy to check in place of theirs, before it is deployed.
    """
    checks: list[Check] = []
    if candidate is not None:
        detail = f"{candidate.name} {candidate.version} loads, {counted(len(candidate.rules), 'rule')}"
        checks.append(Check("policy", "ok", detail))
    for _, enforcement in open_enforcers():
        policy = enforcement.policy if candidate is None else candidate
        sets = rule_sets_of(policy)
        for rules in sets or (None,):
            checks += _policy(rules, enforcement.tools)
        checks += _endorsing(enforcement.tools)
        if absent := sorted(routes_of(policy) - enforcement.routes.keys()):
            detail = f"the policy routes calls to {some(absent)}, and no handler has that name: they are refused"
            checks.append(Check("routes", "warn", detail, "pass a handler of that name to the enforcer in routes="))
    return checks


def _endorsing(tools: KnownTools) -> Iterator[Check]:
    """Yield the tools whose results count as declared, whatever an attacker may have fed them."""
    names = tools.endorsing()
    if names:
        detail = f"{counted(len(names), 'guarded tool')} that endorse their results: {some(names)}"
        yield Check("flow", "warn", detail, "keep endorses=True for tools that check what they are given")


def _policy(policy: RuleSet | None, tools: KnownTools) -> Iterator[Check]:
    yield from _labels(policy, tools)
    if policy is None:
        return
    for warning in policy.warnings:
        yield Check("rules", "warn", warning.partition("; ")[0], warning.partition("; ")[2])
    for wrong in _split(policy, tools):
        yield Check("rules", "warn", wrong, SPLIT_CURE)
    for rule_id, names in absent_tools(policy.rules, {tool.name for tool, _ in tools.all()}).items():
        detail = f"the rule {rule_id!r} is about tools that nobody guards: {some(names)}"
        yield Check("rules", "warn", detail, "correct the names, or guard the tools before the doctor looks")


def _split(policy: RuleSet, tools: KnownTools) -> tuple[str, ...]:
    """Return what is wrong with rules about labels that no guarded tool states together."""
    known = [(tool.name, *labels_of(tool.name, tool.labels, data, policy.tools)) for tool, data in tools.all()]
    found = split_rules(policy.rules, known)
    return tuple(wrong for wrong in found.values() if not any(wrong in warning for warning in policy.warnings))


def _labels(policy: RuleSet | None, tools: KnownTools) -> Iterator[Check]:
    rules: Mapping[str, Rule] = {} if policy is None else label_rules(policy.rules)
    if policy is not None and rules:
        unknown_by_tool = [
            (tool.name, unknown_labels(tool.name, tool.labels, data, rules=rules.values(), tools=policy.tools))
            for tool, data in tools.all()
        ]
        for attribute, word in LABELS.items():
            names = [name for name, unknown in unknown_by_tool if attribute in unknown]
            if names:
                detail = f"{counted(len(names), 'guarded tool')} whose {attribute} nobody states: {some(names)}"
                cure = f"rules block them: state {word}=[…] in code or under tools: in the policy file, [] for none"
                yield Check("labels", "warn", detail, cure)
        return
    yield from _unlabeled(() if policy is None else policy.tools, tools)


def _unlabeled(facts: Sequence[ToolFacts], tools: KnownTools) -> Iterator[Check]:
    stated = [(tool.name, labels_of(tool.name, tool.labels, data, facts)) for tool, data in tools.all()]
    for at, attribute in enumerate(LABELS):
        if bare := [name for name, said in stated if said[at] is None]:
            detail = f"{counted(len(bare), 'guarded tool')} without {attribute}, which a rule on them would block: "
            yield Check("labels", "ok", f"{detail}{some(bare)}")
