"""The page of an incident."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import (
    Authority,
    IncidentReport,
    OpenCall,
    Reached,
    RevocationEffect,
    ToolReach,
)
from agent_identity._reports.definitions.definition_history import DefinitionChange
from agent_identity._reports.pages._bar_pictures import MAX_BARS, Reach, could_and_did
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    code,
    figure,
    findings,
    proof_badge,
    record_code,
    seen_cell,
    stacked,
    table,
    time_cell,
)
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names, text
from agent_identity._reports.pages._time_picture import Mark, MarkKind, time_picture
from agent_identity._reports.pages._tree_picture import TreeNode, tools_node, tree_picture
from agent_identity._reports.pages.words import clock, moment, span_of
from agent_identity._verify.report.durations import elapsed
from agent_identity._verify.report.plurals import counted
from agent_identity.canonical import JSON

__all__ = ["incident_body"]

_NAMED: Final = 6
_TIMELINE: Final = ("Time", "What", "On behalf of", "By", "Which", "Outcome", "Why", "Record")
_HOP: Final = (
    "Agent and owner",
    "On behalf of",
    "Permits",
    "Lost here",
    "Narrowed here",
    "Called",
    "Refused",
    "Until",
    "Weight",
)
_COULD: Final = ("Tool", "Could: grants", "With any arguments", "Until", "Did: calls", "Succeeded", "Refused")
_REACHED: Final = ("Name", "What", "Calls", "Seen", "First record")
_CHANGED: Final = (
    "Tool",
    "Offered",
    "Before and after",
    "Settled",
    "Stated at acceptance",
    "Calls meanwhile",
    "Refused",
    "Records",
)
_OPEN: Final = ("Begun", "Task", "By", "Tool", "Record")
_TONES: Final = {"denied": "bad", "error": "warn", "unknown": "warn", "cancelled": "warn", "success": "good"}


def incident_body(found: IncidentReport) -> Body:
    """Return the content of the page."""
    refused = sum(tool.refused for tool in found.tools)
    return Body(
        name="incident",
        title=f"Incident {found.seed}" if found.seed.name else "Everything that happened",
        headline=_headline(found),
        frame=found.frame,
        figures=[
            ("calls", found.calls),
            ("refused", refused),
            ("without an outcome", len(found.open_calls)),
            ("tasks that may still act", len(found.open_tasks)),
            ("after a revocation", sum(one.after for one in found.revocations)),
            ("weight", proof_badge(found.proof)),
        ],
        sections=list(_sections(found)),
    )


def _headline(found: IncidentReport) -> str:
    if not (found.calls or found.timeline or found.authority):
        return f"Nothing in the evidence concerns {found.seed}."
    parts = [counted(found.calls, "call"), span_of(found.first_ns, found.last_ns), found.proof]
    return f"{', '.join(filter(None, parts))}."


def _sections(found: IncidentReport) -> Iterator[Section]:
    chain = tree_picture(_trees(found), id_="chain", title="Authority from principals through agents to tools")
    content = [
        figure(chain, "from the human to the tools: what was lost and narrowed at each hop, and what was called"),
        table("Authority at each hop", _HOP, found.authority, _hop, first=8),
    ]
    yield Section("authority", "Authority at each hop", joined(content))
    reach = could_and_did([Reach(one.tool, one.grants, one.calls, one.refused) for one in _by_use(found)],
                          id_="reach", title="Grants and calls of each tool, as in the table")  # fmt: skip
    left = "" if len(found.tools) <= MAX_BARS else f"; {MAX_BARS} of {len(found.tools):,} tools are drawn"
    content = [figure(reach, f"what the grants allowed, and what was done{left}"),
               table("Could and did", _COULD, found.tools, _tool)]  # fmt: skip
    yield Section("reach", "Could and did", joined(content))
    if found.revocations or found.commands:
        yield Section("stop", "Revocations, and how to stop it", _stop(found))
    if found.definitions:
        changed = table("Changed definitions of tools", _CHANGED, found.definitions, _changed)
        yield Section("definitions", "Changed tool definitions", changed)
    yield Section("open", "Without an outcome", table("Calls without an outcome", _OPEN, found.open_calls, _open))
    yield Section("reached", "Reached", table("Who and what was reached", _REACHED, found.reached, _reached))
    picture = time_picture([_mark(one) for one in found.timeline], id_="time", title="The timeline, as in the table")
    content = [
        figure(picture, _when(found)),
        table("Timeline", _TIMELINE, found.timeline, _entry),
    ]
    yield Section("timeline", "Timeline", joined(content))


def _when(found: IncidentReport) -> str:
    cut = f"; {found.omitted:,} lines had no room" if found.omitted else ""
    return f"what happened when, by the agent that acted, {span_of(found.first_ns, found.last_ns)} UTC{cut}"


def _by_use(found: IncidentReport) -> Sequence[ToolReach]:
    return sorted(found.tools, key=lambda one: (-one.calls - one.refused, -one.grants, one.tool))


@final
@dataclass(slots=True)
class _Path:
    """Grants of one chain of agents for one principal, in all tasks."""

    grants: int = 0
    refused: int = 0
    lost: set[str] = field(default_factory=set[str])
    narrowed: set[str] = field(default_factory=set[str])
    calls: Counter[str] = field(default_factory=Counter[str])
    unused: set[str] = field(default_factory=set[str])

    def add(self, one: Authority) -> None:
        """Add a grant."""
        self.grants += 1
        self.refused += one.refused
        self.lost.update(one.lost)
        self.narrowed.update(one.narrowed)
        self.calls.update(one.calls)
        self.unused.update(one.tools)

    def node(self, name: str) -> TreeNode:
        """Return the agent, with its tools below it."""
        lines = [counted(self.grants, "grant")]
        if self.refused:
            lines.append(f"{counted(self.refused, 'call')} refused")
        unused = sorted(self.unused - self.calls.keys())
        if unused:
            lines.append(f"not called: {', '.join(unused)}")
        losses = [f"lost: {', '.join(sorted(self.lost))}"] if self.lost else []
        losses += [f"narrowed: {', '.join(sorted(self.narrowed))}"] if self.narrowed else []
        calls = sorted(self.calls.items(), key=lambda item: (-item[1], item[0]))
        tools = tools_node({tool: f"{count:,}" for tool, count in calls})
        return TreeNode("agent", name, lines, losses, tools)


def _trees(found: IncidentReport) -> Sequence[TreeNode]:
    """Return the grants as trees, those of equal chains as one."""
    grants = {one.grant: one for one in found.authority}
    keys: dict[str, tuple[str, ...]] = {}
    paths: dict[tuple[str, ...], _Path] = {}
    for one in found.authority:  # Ancestors come first.
        above = keys.get(one.parent or "", (one.principal,))
        if one.parent is not None and one.parent not in grants:
            above = (one.principal, "…")
        keys[one.grant] = (*above, one.agent)
        paths.setdefault(keys[one.grant], _Path()).add(one)
    roots: dict[str, TreeNode] = {}
    nodes: dict[tuple[str, ...], TreeNode] = {}
    for key, path in paths.items():
        node = nodes[key] = path.node(key[-1])
        parent = nodes.get(key[:-1])
        if parent is None:
            parent = roots.setdefault(key[0], TreeNode("principal", key[0], ("on behalf of",)))
        parent.children.append(node)
    return list(roots.values())


def _hop(one: Authority) -> Sequence[Content]:
    calls = ", ".join(f"{tool} {count:,}" for tool, count in one.calls.items())
    above = "" if one.selected else " (above)"
    return (
        stacked(f"{'↳ ' * one.depth}{one.agent}{above}", one.owner),
        one.principal,
        _permits(one),
        names(one.lost, _NAMED) or "nothing",
        names(one.narrowed, _NAMED) or "nothing",
        calls or "nothing",
        one.refused,
        time_cell(moment(one.expires_ns)[:16]),
        proof_badge(one.proof),
    )


def _permits(one: Authority) -> Markup:
    named = [f"{tool} {_bounds(arguments)}" for tool, arguments in sorted(one.tools.items())]
    more = [f"and {len(named) - _NAMED:,} more"] if len(named) > _NAMED else []
    return joined((text(line) for line in (*named[:_NAMED], *more)), "<br>")


def _bounds(arguments: Mapping[str, JSON]) -> str:
    if not arguments:
        return "(any arguments)"
    return json.dumps(dict(arguments), ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _tool(one: ToolReach) -> Sequence[Content]:
    until = time_cell(moment(one.until_ns)[:16]) if one.until_ns else "never granted"
    return (one.tool, one.grants, one.open_grants, until, one.calls, one.succeeded, one.refused)


def _stop(found: IncidentReport) -> Markup:
    lines = [("bad" if one.after else "good", f"{one.kind} {one.name} {one.status}", _effect(one))
             for one in found.revocations]  # fmt: skip
    parts: list[Content] = [findings(lines, "Nothing that concerns it was revoked.")]
    if found.commands:
        parts.append(element("h3", "To stop it now"))
        items = [element("li", code(command)) for command in found.commands]
        parts.append(element("ul", *items, class_="commands"))
    return joined(parts)


def _effect(one: RevocationEffect) -> str:
    lifted = f", lifted {moment(one.lifted_ns)}" if one.lifted_ns is not None else ""
    since = "" if one.since_first_ns is None else f", {elapsed(one.since_first_ns)} after the first call"
    last = f", the last {moment(one.last_ns)}: {', '.join(one.records)}" if one.after else ""
    return (
        f"{moment(one.at_ns)}{since}{lifted}: {counted(one.after, 'call')} began afterwards{last}; "
        f"{counted(one.refused, 'call')} refused"
    )


def _changed(one: DefinitionChange) -> Sequence[Content]:
    settled = "" if one.settled_ns is None else f" {moment(one.settled_ns)}"
    return (
        one.tool,
        time_cell(moment(one.at_ns)),
        stacked(one.before or "none", one.after or "none"),
        f"{one.status}{settled}",
        one.reason or "",
        one.calls,
        one.refused,
        joined((record_code(record) for record in one.records), " "),
    )


def _open(one: OpenCall) -> Sequence[Content]:
    return (time_cell(moment(one.at_ns)), one.task or "none", one.agent or "nobody", one.tool, record_code(one.record))


def _reached(one: Reached) -> Sequence[Content]:
    return (one.name, one.kind, one.count, seen_cell(one.first_ns, one.last_ns), record_code(one.record))


def _entry(one: Entry) -> Sequence[Content]:
    outcome = badge(one.outcome, _TONES.get(one.outcome, "note")) if one.outcome else ""
    chain = " → ".join(one.agents)
    return (
        time_cell(clock(one.at_ns)),
        one.kind,
        one.principal,
        chain,
        one.what,
        outcome,
        one.why,
        record_code(one.record),
    )


def _mark(one: Entry) -> Mark:
    if one.kind in ("revocation", "policy"):
        return Mark(one.at_ns, "revocations and policies", "change")
    lane = one.agents[-1] if one.agents else "nobody"
    if one.kind != "call":
        return Mark(one.at_ns, lane, "state")
    kinds: dict[str, MarkKind] = {"success": "ok", "denied": "refused"}
    return Mark(one.at_ns, lane, kinds.get(one.outcome, "open"))
