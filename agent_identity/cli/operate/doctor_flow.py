"""Checks of ``agent-identity doctor`` on policies and information flow: rules, tools, and a table of what they declare.

Guesses go by names. They are shown as guesses, and change no verdict.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agent_identity._directory.enforcer import open_enforcers
from agent_identity._flow.label_spelling import unknown_consequences
from agent_identity._flow.rules import MODEL_KINDS
from agent_identity._guard.judging.known_tools import KnownTools
from agent_identity._guard.judging.tool_flow import DeclaredFlow, ToolFlow
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity._policy.composed import asks_about_flow, routes_of, rule_sets_of, stated_tools, told_of
from agent_identity._policy.decision.request import Policy, Tool
from agent_identity._policy.language.labels import ToolFacts, facts_about, flows_about, labels_of
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
from agent_identity.cli.terminal.style import Style, clean, table

_URL: Final = re.compile(r"(^|_)(url|uri|link|href|endpoint|webhook|domain|host)s?($|_)")
_BY_NAME: Final[Mapping[str, re.Pattern[str]]] = {
    "destructive": re.compile(r"(^|[_./-])(delete|remove|drop|destroy|erase|cancel|revoke|terminate|purge)"),
    "egress": re.compile(r"(^|[_./-])(send|post|publish|share|upload|invite|reply|forward|email|notify|tweet)"),
    "payment": re.compile(r"(^|[_./-])(pay|transfer|refund|purchase|buy|order|book|reserve|schedule_transaction)"),
    "persists": re.compile(r"(^|[_./-])(save|store|remember|write|append|update|create|add|insert|edit|set)[_.-]"),
}
"""The label of a consequence by the verbs in names of tools that have it."""

_OUTSIDE: Final = re.compile(
    r"(mail|inbox|message|chat|slack|web|search|fetch|browse|http|url|page|scrape|download|review|comment|issue|ticket"
    r"|feed|rss|tweet|post|forum|calendar|event|invit|document|attachment|invoice|channel|transaction)"
)
"""Parts of names of tools and servers whose results people outside can often write."""


_NO_THREADS: Final = (
    "nothing to do if each conversation is one task; if it goes on in a new one, leave out request= there, or call "
    "task.received(text) with the history first; see Across turns in the how-to about information flow"
)


class Doubt(NamedTuple):
    """Something that is undeclared or doubtful.

    Attributes:
        text: What, and the cure.
        guess: It goes by a name, and may be wrong.
    """

    text: str
    guess: bool = False


class FlowRow(NamedTuple):
    """The declarations about one tool.

    Attributes:
        tool: Its name.
        server: Its server; ``None`` for a tool of this process.
        labels: Its labels; ``None`` if nobody states any.
        labels_by: Who states them: ``code``, ``policy file``, ``server``.
        returns: Who can have written its results.
        returns_by: Who says so, likewise; ``default`` if nobody does.
        destination: The arguments that decide where a call leads, ``?`` after those that may be empty.
        destination_by: Who says so, likewise.
        doubts: What is undeclared or doubtful.
        threads: True if its guards know the threads of calls.
    """

    tool: str
    server: str | None
    labels: tuple[str, ...] | None
    labels_by: tuple[str, ...]
    returns: str
    returns_by: tuple[str, ...]
    destination: tuple[str, ...]
    destination_by: tuple[str, ...]
    doubts: tuple[Doubt, ...]
    threads: bool


def flow_rows(candidate: RuleSet | None = None) -> list[FlowRow]:
    """Return the guarded tools of enforcers in this process that keep marks, by name.

    Args:
        candidate: A policy whose statements about tools are looked at in place of those in force.
    """
    rows: dict[tuple[str, str | None], FlowRow] = {}
    for _, enforcement in open_enforcers():
        if asks_about_flow(enforcement.policy) or asks_about_flow(candidate):
            for row in _rows(enforcement.tools, candidate or enforcement.policy):
                rows[row.tool, row.server] = row
    return [row for _, row in sorted(rows.items(), key=lambda item: (item[0][0], item[0][1] or ""))]


def _rows(tools: KnownTools, policy: Policy | None) -> Iterator[FlowRow]:
    for tool, _ in tools.all():
        if tool.kind not in MODEL_KINDS:
            yield _row(tool, tools.flow(tool.name), policy, threads=tools.knows_threads(tool.name))


def _row(tool: Tool, said: DeclaredFlow, policy: Policy | None, *, threads: bool) -> FlowRow:
    stated = stated_tools(policy)
    flows = flows_about(tool.name, tool.server, stated)
    flow = ToolFlow(tool, policy, said)
    facts = facts_about(tool.name, stated)
    labels, _ = labels_of(tool.name, tool.labels, None, stated)
    claims = () if tool.claims is None else tool.claims.labels
    declaration = flow.declaration
    whole, lowest = str(declaration.of(())), str(declaration.lowest)
    row = FlowRow(
        tool.name,
        tool.server,
        labels if not claims or labels is None else tuple(dict.fromkeys((*labels, *claims))),
        _by(tool.labels is not None, facts is not None and facts.labels is not None, server=bool(claims)),
        whole if whole == lowest else f"{whole}, parts {lowest}",
        _by(said.returns is not None, any(of.returns for of in flows)) or ("default",),
        tuple(name + "?" * optional for name, optional in flow.destinations.items()),
        _by(bool(said.destination), any(of.destination for of in flows)),
        (),
        threads=threads,
    )
    doubts = (*_about_labels(row, tool, said), *_about_results(row, tool, policy), *_about_destinations(row))
    return row._replace(doubts=doubts)


def _by(code: object, file: object, *, server: bool = False) -> tuple[str, ...]:
    return tuple(word for word, says in (("code", code), ("policy file", file), ("server", server)) if says)


def _about_labels(row: FlowRow, tool: Tool, said: DeclaredFlow) -> Iterator[Doubt]:
    if row.labels is None:
        yield Doubt("its labels are undeclared, so it counts as consequential; labels=[] if it has no consequences")
        return
    if unknown := unknown_consequences(row.labels):
        yield Doubt(told_of(unknown))
        return
    urls = [name for name in said.parameters or () if _URL.search(name.casefold())]
    if urls and "egress" not in row.labels:
        yield Doubt(f"{', '.join(urls)} may be a URL: a call of any URL is egress, so add that label", guess=True)
    name = tool.name.casefold()
    for label, pattern in _BY_NAME.items():
        if label not in row.labels and pattern.search(name):
            yield Doubt(f"its name sounds like {label}; add the label if that is so", guess=True)


def _about_results(row: FlowRow, tool: Tool, policy: Policy | None) -> Iterator[Doubt]:
    for of in flows_about(tool.name, tool.server, stated_tools(policy)):
        if not of.raises and any(label == "trusted" for _, label in of.returns):
            yield Doubt("returns: trusted in the policy file has no effect without raise: true")
    if not row.returns.startswith("trusted"):
        return
    if tool.server is not None:
        yield Doubt("its server writes its results, and they are trusted; see that nobody outside can", guess=True)
    elif _OUTSIDE.search(tool.name.casefold()):
        yield Doubt("people outside may write its results, and they are trusted; see that nobody can", guess=True)


def _about_destinations(row: FlowRow) -> Iterator[Doubt]:
    if row.labels != () and not row.destination:
        yield Doubt("it declares no destination, so that a person is asked for each call after untrusted input")


def examine_flow(rows: Sequence[FlowRow]) -> list[Check]:
    """Return the findings about the table: doubts, and tools whose guards know no thread."""
    checks = list[Check]()
    if doubtful := [row.tool for row in rows if row.doubts]:
        detail = _counted(doubtful, "declarations are missing or doubtful")
        checks.append(Check("flow", "warn", detail, "see the table of information flow; guesses go by names"))
    if alone := [row.tool for row in rows if not row.threads]:
        detail = _counted(alone, "guards do not know the conversation that a call is made in")
        checks.append(Check("threads", "warn", detail, _NO_THREADS))
    return checks


def _counted(names: Sequence[str], fact: str) -> str:
    return f"{counted(len(names), 'guarded tool')} whose {fact}: {some(names)}"


def flow_lines(rows: Sequence[FlowRow], style: Style) -> Iterator[str]:
    """Yield the table for people, each doubt below its tool."""
    if not rows:
        return
    yield style.paint("Information flow", "bold")
    cells = [
        (
            clean(row.tool),
            _cell(row.labels, row.labels_by, "undeclared" if row.labels is None else "none"),
            f"{row.returns} ({', '.join(row.returns_by)})",
            _cell(row.destination, row.destination_by, "none"),
        )
        for row in rows
    ]
    head, *lines = table([("tool", "labels", "returns", "destination"), *cells])
    yield head
    for row, line in zip(rows, lines, strict=True):
        yield line
        for doubt in row.doubts:
            yield style.paint(f"    {'guess: ' if doubt.guess else ''}{clean(doubt.text)}", "dim")
    yield ""


def _cell(names: Sequence[str] | None, by: Sequence[str], otherwise: str) -> str:
    text = clean(", ".join(names or ())) or otherwise
    return f"{text} ({', '.join(by)})" if by else text


def flow_json(rows: Sequence[FlowRow]) -> list[dict[str, object]]:
    """Return the table for machines."""
    return [{**row._asdict(), "doubts": [doubt._asdict() for doubt in row.doubts]} for row in rows]


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
