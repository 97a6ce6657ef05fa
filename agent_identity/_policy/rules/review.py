"""Reviews rules: undecidable conditions, tools that a rule matches by mistake, and labels that a rule needs."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import itemgetter
from types import MappingProxyType
from typing import Final

from agent_identity._policy.decision.decision import MAX_WHY, Effect
from agent_identity._policy.decision.patterns import has_wildcard, matches
from agent_identity._policy.decision.request import Request
from agent_identity._policy.language.attributes import MISSING, attribute
from agent_identity._policy.language.checks import Verdict, combined
from agent_identity._policy.language.conditions import Condition, Negation, Question
from agent_identity._policy.language.labels import ToolFacts, facts_about
from agent_identity._policy.rules.rule import Rule, rule_ids

LABELS: Final = MappingProxyType({"tool.labels": "labels", "data.labels": "data"})
"""The attributes that are known only if someone states them, and the parameter that states them."""

_SIDES: Final[Sequence[Callable[[tuple[Verdict, Verdict]], Verdict]]] = (itemgetter(0), itemgetter(1))
_STOPS: Final = (Effect.BLOCK, Effect.ROUTE)
_SHOWN: Final = 3
_LONGEST: Final = 60


def explain(condition: Condition, request: Request) -> str:
    """Explain to people why a condition is undecidable: the attributes that it lacks, never their values."""
    lacking = list(dict.fromkeys(_undecided(condition, request)))
    more = ", …" if len(lacking) > _SHOWN else ""
    return f"the rule cannot be decided: {', '.join(lacking[:_SHOWN])}{more}"[:MAX_WHY]


def _undecided(condition: Condition, request: Request) -> Iterator[str]:
    if condition.compile()(request) is not None:
        return
    if isinstance(condition, Question):
        name = condition.name if len(condition.name) <= _LONGEST else f"{condition.name[:_LONGEST]}…"
        missing = attribute(condition.name, ()).read(request) is MISSING
        absent = "is not known" if condition.name in LABELS else "is missing"
        yield f"{name} {absent if missing else 'is of another type or spelling'}"
        return
    for part in (condition.part,) if isinstance(condition, Negation) else condition.parts:
        yield from _undecided(part, request)


def warnings_about(rules: Sequence[Rule], tools: Sequence[ToolFacts] = ()) -> Iterator[tuple[int, str]]:
    """Yield the positions of valid rules that are probably not meant so, each with a warning.

    Args:
        rules: The rules.
        tools: The policy's facts about tools.
    """
    stated = [facts_about(of.pattern, tools) or of for of in tools]
    if any(of.labels for of in stated) and any(of.data for of in stated):  # Otherwise code states them.
        split = split_rules(rules, [(None, of.labels, of.data) for of in stated])
        for index, rule_id in enumerate(rule_ids(rules)):
            if rule_id in split:
                yield index, f"{split[rule_id]}; {SPLIT_CURE}"
    for index, (rule_id, rule) in enumerate(zip(rule_ids(rules), rules, strict=True)):
        wanting = _overreach(rule)
        if wanting:
            warning = (
                f"the rule {rule_id!r} names no tools and compares {', '.join(wanting)}, so it blocks every call of "
                f"a tool without that argument; name its tools, or add {wanting[0]}: {{exists: true}} as well"
            )
            yield index, warning


def _overreach(rule: Rule) -> tuple[str, ...]:
    """Return the missing arguments that make a rule block the calls of every other tool; none for a sound rule."""
    everywhere = any(pattern.strip("*") == "" for pattern in rule.tools)
    if rule.when is None or rule.effect not in _STOPS or not everywhere or None not in _verdicts(rule.when, _elsewhere):
        return ()
    compared = [of for of in _questions(rule.when) if of.name.startswith("args.")]
    return tuple(dict.fromkeys(of.name for of in compared if of.spec.compile()(MISSING) is None))


def _elsewhere(question: Question) -> set[Verdict]:
    """Return the possible verdicts about a tool that the rule does not mean and that lacks the arguments."""
    namespace = question.name.partition(".")[0]
    if namespace == "args":
        return {question.spec.compile()(MISSING)}
    return {False} if namespace == "tool" else {True, False}


def _verdicts(condition: Condition, answers: Callable[[Question], set[Verdict]]) -> set[Verdict]:
    """Return the possible verdicts of a condition, from those of its questions."""
    if isinstance(condition, Question):
        return answers(condition)
    if isinstance(condition, Negation):
        return {None if verdict is None else not verdict for verdict in _verdicts(condition.part, answers)}
    first, *others = (_verdicts(part, answers) for part in condition.parts)
    join = combined(condition.word, _SIDES)
    for other in others:
        first = {join((one, two)) for one in first for two in other}
    return first


SPLIT_CURE: Final = (
    "a rule judges one call, so that one tool has to state both; to stop what a task has read from leaving by another "
    "tool, use flow.sources or Flow()"
)


def split_rules(
    rules: Sequence[Rule], tools: Sequence[tuple[str | None, Sequence[str] | None, Sequence[str] | None]]
) -> Mapping[str, str]:
    """Return the rules that compare labels of tools and of data which no tool states together, with what is wrong.

    Args:
        rules: The rules.
        tools: The name of each tool, if it is known, its labels and those of its data.
    """
    found: dict[str, str] = {}
    for rule_id, rule in label_rules(rules).items():
        when = rule.when
        if when is None or not LABELS.keys() <= {of.name for of in _questions(when)}:
            continue
        meant = [
            (labels, data) for name, labels, data in tools if name is None or any(matches(p, name) for p in rule.tools)
        ]
        if meant and not any(True in _verdicts(when, partial(_stated, *labels)) for labels in meant):
            found[rule_id] = f"the rule {rule_id!r} compares tool.labels and data.labels that no tool states together"
    return found


def _stated(labels: Sequence[str] | None, data: Sequence[str] | None, question: Question) -> set[Verdict]:
    if question.name not in LABELS:
        return {True, False}
    known = labels if question.name == "tool.labels" else data
    return {question.spec.compile()(MISSING if known is None else known)}


def _questions(condition: Condition) -> Iterator[Question]:
    """Yield the comparisons of single attributes in a condition."""
    if isinstance(condition, Question):
        yield condition
        return
    for part in (condition.part,) if isinstance(condition, Negation) else condition.parts:
        yield from _questions(part)


def absent_tools(rules: Sequence[Rule], known: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the unknown tool names in rules, by rule id.

    Skips patterns with wildcards, tools of servers (``server/tool``) that the enforcer has not seen, and names that are
    no tool of a server (``server:resource``).
    """
    servers = {name.partition("/")[0] for name in known if "/" in name}
    by_rule: dict[str, tuple[str, ...]] = {}
    for rule_id, rule in zip(rule_ids(rules), rules, strict=True):
        named = [name for name in rule.tools if not has_wildcard(name) and name not in known]
        absent = [n for n in named if ":" not in n and ("/" not in n or n.partition("/")[0] in servers)]
        if absent:
            by_rule[rule_id] = tuple(dict.fromkeys(absent))
    return by_rule


def label_rules(rules: Sequence[Rule]) -> Mapping[str, Rule]:
    """Return the rules that block or route by labels, by their ids."""
    by_id = dict(zip(rule_ids(rules), rules, strict=True))
    return {
        rule_id: rule
        for rule_id, rule in by_id.items()
        if rule.effect in _STOPS and rule.when is not None and any(of.name in LABELS for of in _questions(rule.when))
    }


def unknown_labels(
    name: str,
    labels: Sequence[str] | None,
    data: Sequence[str] | None,
    *,
    rules: Iterable[Rule],
    tools: Sequence[ToolFacts],
) -> tuple[str, ...]:
    """Return those of :data:`LABELS` that rules compare and no one states for a tool.

    Args:
        name: The name of the tool.
        labels: Its labels, as the application states them.
        data: The labels of its data, likewise.
        rules: The rules.
        tools: The policy's facts about tools.
    """
    facts = facts_about(name, tools) or ToolFacts(name)
    said = {"tool.labels": (labels, facts.labels), "data.labels": (data, facts.data)}
    meant = [rule for rule in rules if rule.when is not None and any(matches(p, name) for p in rule.tools)]
    compared = {of.name for rule in meant if rule.when is not None for of in _questions(rule.when)}
    return tuple(of for of in LABELS if of in compared and said[of] == (None, None))
