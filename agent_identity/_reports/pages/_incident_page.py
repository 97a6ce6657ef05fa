"""The page of an incident."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

from agent_identity._reports.answers.constraint_words import bounds_in_words
from agent_identity._reports.answers.incident_report import (
    BINS,
    Authority,
    IncidentReport,
    OpenCall,
    Reached,
    ToolReach,
)
from agent_identity._reports.answers.incident_story import Notable, notable, sentence
from agent_identity._reports.definitions.definition_history import DefinitionChange
from agent_identity._reports.pages._authority_trees import authority_trees
from agent_identity._reports.pages._bar_pictures import MAX_BARS, Reach, could_and_did
from agent_identity._reports.pages._incident_steps import steps
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    code,
    figure,
    figures,
    notables,
    proof_badge,
    record_code,
    record_row,
    row_id,
    seen_cell,
    stacked,
    table,
    time_cell,
)
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names, text
from agent_identity._reports.pages._time_picture import Mark, time_picture
from agent_identity._reports.pages._timeline_rows import TimelineRow, timeline_rows
from agent_identity._reports.pages._tree_picture import tree_picture
from agent_identity._reports.pages.words import clock, moment, span_of
from agent_identity._verify.report.durations import elapsed
from agent_identity._verify.report.plurals import counted

_NAMED: Final = 6
_OPEN_TOOLS: Final = 12
_TASKS: Final = 3
_RECORDS: Final = 200
_NOTABLE: Final = 12
_MOST_NOTABLE: Final = 200
_TIMELINE: Final = ("Time", "What", "On behalf of", "By", "Which", "Outcome", "Why", "Record")
_HOP: Final = (
    "Agent and owner",
    "On behalf of",
    "Grants",
    "From and until",
    "Permits",
    "Lost here",
    "Narrowed here",
    "Called",
    "Refused",
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
    standing_out = tuple(notable(found))
    return Body(
        name="incident",
        title=f"Incident {found.seed}" if found.seed.name else "Everything that happened",
        headline=_headline(found),
        frame=found.frame,
        figures=(),
        sections=list(_sections(found, standing_out)),
        notable=standing_out,
    )


def _headline(found: IncidentReport) -> str:
    if not (found.calls or found.timeline or found.authority):
        return sentence(found)
    refused = sum(tool.refused for tool in found.tools)
    numbers = f"{counted(found.calls, 'call')} in all, {refused:,} refused"
    parts = [numbers, span_of(found.first_ns, found.ends_ns or found.last_ns), found.proof]
    return f"{sentence(found)} {', '.join(filter(None, parts))}."


def _sections(found: IncidentReport, standing_out: Sequence[Notable]) -> Iterator[Section]:
    yield Section("exceptions", "What stands out", _exceptions(found, standing_out))
    told = steps(found)
    if told is not None:
        yield Section("steps", "Step by step", told)
    yield Section("picture", "The picture", _pictures(found))
    if found.commands:
        items = [element("li", code(command)) for command in found.commands]
        yield Section("stop", "To stop it now", element("ul", *items, class_="commands"))
    reach = could_and_did([Reach(one.tool, one.grants, one.calls, one.refused) for one in _by_use(found)],
                          id_="reach", title="Grants and calls of each tool, as in the table")  # fmt: skip
    left = "" if len(found.tools) <= MAX_BARS else f"; {MAX_BARS} of {len(found.tools):,} tools are drawn"
    content = [figure(reach, f"what the grants allowed, and what was done{left}"),
               table("Could and did", _COULD, _by_use(found), _tool)]  # fmt: skip
    yield Section("reach", "Could and did", joined(content))
    hops = table("Authority at each hop, equal grants together", _HOP, _grouped(found.authority), _hop, first=8)
    yield Section("authority", "Authority at each hop", hops)
    if found.definitions:
        changed = table("Changed definitions of tools", _CHANGED, found.definitions, _changed)
        yield Section("definitions", "Changed tool definitions", changed)
    if found.open_calls:
        yield Section("open", "Without an outcome", table("Calls without an outcome", _OPEN, found.open_calls, _open))
    reached = table("Who and what was reached", _REACHED, _reached_rows(found.reached), _reached)
    yield Section("reached", "Reached", reached)
    rows = table("Timeline, equal entries together", _TIMELINE, timeline_rows(found.timeline), _row, mark=_marked)
    cut = f"{found.omitted:,} lines had no room; --json says what is counted" if found.omitted else ""
    more = element("p", cut, class_="more") if cut else Markup()
    yield Section("timeline", "Timeline", joined([rows, more]))


def _exceptions(found: IncidentReport, standing_out: Sequence[Notable]) -> Markup:
    first, rest = standing_out[:_NOTABLE], standing_out[_NOTABLE:]
    parts: list[Content] = [notables(first)] if first else []
    if rest:
        summary = element("summary", f"{len(rest):,} more")
        parts.append(element("details", summary, notables(rest[:_MOST_NOTABLE])))
        if len(rest) > _MOST_NOTABLE:
            parts.append(element("p", f"{len(rest) - _MOST_NOTABLE:,} further ones: --json", class_="more"))
    absent = [words for words, there in (
        ("no call was refused", found.refusals), ("each call has an outcome", found.open_calls),
        ("nothing that concerns it was revoked", found.revocations), ("no tool changed", found.definitions),
        ("no task goes on", found.open_tasks)) if not there]  # fmt: skip
    if absent:
        parts.append(element("p", f"Besides: {', '.join(absent)}." if first else f"Nothing: {', '.join(absent)}."))
    return joined(parts)


def _pictures(found: IncidentReport) -> Markup:
    refused = sum(tool.refused for tool in found.tools)
    numbers: list[tuple[str, Content]] = [
        ("calls", found.calls),
        ("refused", refused),
        ("without an outcome", len(found.open_calls)),
        ("tasks that may still act", len(found.open_tasks)),
        ("after a revocation", sum(one.after for one in found.revocations)),
        ("weight", proof_badge(found.proof)),
    ]
    trees = authority_trees(found)
    chain = tree_picture(trees, id_="chain", title="Authority from principals through agents to tools")
    axis = (found.first_ns, found.ends_ns or found.last_ns)
    time = time_picture(list(_marks(found, axis)), id_="time", title="The calls in time", axis=axis)
    words = "who acted for whom: the calls of each agent, and in red what was refused"
    return joined([figures(numbers), figure(chain, words), figure(time, _when(found, axis))])


def _marks(found: IncidentReport, axis: tuple[int, int]) -> Iterator[Mark]:
    first, last = axis
    for one in found.bins:
        at = first + one.number * (last - first) // BINS
        yield Mark(at, one.agent or "outside any task", one.kind, one.count)
    for stop in found.revocations:
        yield Mark(stop.at_ns, "revocations", "change")


def _when(found: IncidentReport, axis: tuple[int, int]) -> str:
    later = [one for one in found.revocations if one.at_ns > axis[1]]
    words = ", ".join(f"{one.kind} {one.name} {one.status} {elapsed(one.at_ns - axis[1])} later" for one in later[:3])
    beyond = f"; to the right of the axis: {words}" if words else ""
    return f"calls in time, by the agent that acted, {span_of(*axis)} UTC{beyond}"


def _by_use(found: IncidentReport) -> Sequence[ToolReach]:
    return sorted(found.tools, key=lambda one: (not one.refused, -one.calls - one.refused, -one.grants, one.tool))


@final
@dataclass(slots=True)
class _Hop:
    """Equal grants of one agent.

    Attributes:
        one: The first of them.
        grants: How many.
        issued_ns: From when on the first of them permits something.
        expires_ns: From when on the last of them permits nothing.
        calls: Calls under them whose bodies began, by tool.
        refused: Refused calls under them.
    """

    one: Authority
    grants: int = 0
    issued_ns: int = 0
    expires_ns: int = 0
    calls: Counter[str] = field(default_factory=Counter[str])
    refused: int = 0

    def add(self, one: Authority) -> None:
        """Add a grant."""
        self.grants += 1
        self.issued_ns = min(self.issued_ns or one.issued_ns, one.issued_ns)
        self.expires_ns = max(self.expires_ns, one.expires_ns)
        self.calls.update(one.calls)
        self.refused += one.refused


def _grouped(authority: Sequence[Authority]) -> list[_Hop]:
    """Return equal grants under equal grants together, children after their parents."""
    keys: dict[str, str] = {}
    hops: dict[str, _Hop] = {}
    below: dict[str, dict[str, None]] = {}
    for one in authority:  # Ancestors come first.
        above = keys.get(one.parent or "", "")
        facts = (one.agent, one.owner, one.principal, one.lost, one.narrowed, one.selected, one.proof)
        tools = sorted((tool, sorted(arguments.items(), key=str)) for tool, arguments in one.tools.items())
        stated = repr((above, facts, one.depth, tools))
        key = hashlib.sha256(stated.encode("utf-8", "replace")).hexdigest()
        keys[one.grant] = key
        hops.setdefault(key, _Hop(one)).add(one)
        below.setdefault(above, {})[key] = None
    order: list[_Hop] = []
    waiting = list(reversed(below.get("", {})))
    while waiting:
        key = waiting.pop()
        order.append(hops[key])
        waiting += reversed(below.get(key, {}))
    return order


def _permitted(one: Authority) -> list[str]:
    """Return what a grant permits, in words: the tools with bounds first, then the open ones together."""
    tools = sorted(one.tools.items())
    bounded = [f"{tool}: {bounds_in_words(arguments)}" for tool, arguments in tools if arguments]
    open_ = [tool for tool, arguments in tools if not arguments]
    more = f" and {len(open_) - _OPEN_TOOLS:,} more" if len(open_) > _OPEN_TOOLS else ""
    return [*bounded, *([f"{', '.join(open_[:_OPEN_TOOLS])}{more}: any arguments"] if open_ else [])]


def _hop(hop: _Hop) -> Sequence[Content]:
    one = hop.one
    calls = ", ".join(f"{tool} {count:,}" for tool, count in sorted(hop.calls.items()))
    above = "" if one.selected else " (above)"
    permitted = _permitted(one)
    more = [f"and {len(permitted) - _NAMED:,} more"] if len(permitted) > _NAMED else []
    return (
        stacked(f"{'↳ ' * one.depth}{one.agent}{above}", one.owner),
        one.principal,
        hop.grants,
        seen_cell(hop.issued_ns, hop.expires_ns),
        joined((text(line) for line in (*permitted[:_NAMED], *more)), "<br>"),
        names(one.lost, _NAMED) or "nothing",
        names(one.narrowed, _NAMED) or "nothing",
        calls or "nothing",
        hop.refused,
        proof_badge(one.proof),
    )


def _tool(one: ToolReach) -> Sequence[Content]:
    until = time_cell(moment(one.until_ns)[:16]) if one.until_ns else "never granted"
    return (one.tool, one.grants, one.open_grants, until, one.calls, one.succeeded, one.refused)


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
    return (
        time_cell(moment(one.at_ns)),
        one.task or "none",
        one.agent or "outside any task",
        one.tool,
        record_code(one.record),
    )


def _reached_rows(reached: Sequence[Reached]) -> list[Reached]:
    """Return what was reached, the tasks together in one row."""
    tasks = [one for one in reached if one.kind == "task"]
    others = [one for one in reached if one.kind != "task"]
    if len(tasks) < _TASKS:
        return [*others, *tasks]
    first = min(tasks, key=lambda one: one.first_ns)
    name, last_ns = f"{len(tasks):,} tasks, by id in --json", max(one.last_ns for one in tasks)
    return [*others, replace(first, name=name, count=sum(one.count for one in tasks), last_ns=last_ns)]


def _reached(one: Reached) -> Sequence[Content]:
    return (one.name, one.kind, one.count, seen_cell(one.first_ns, one.last_ns), record_code(one.record))


def _row(row: TimelineRow) -> Sequence[Content]:
    one = row.first
    at = time_cell(clock(one.at_ns))
    if row.times > 1:
        at += Markup("<br>") + time_cell(f"to {clock(row.last_ns)}")
    if row.again is not None:
        often = f", {row.times:,} times" if row.times > 1 else ""
        what = f"the same {counted(row.steps, 'record')} as at {clock(row.again.at_ns)}{often}"
        which: Content = joined([what, " ", record_code(row.again.record)])
        return (at, "again", one.principal, " → ".join(one.agents), which, "", "", _records(row.records))
    times = f" ({row.times:,} times)" if row.times > 1 else ""
    outcome = badge(one.outcome, _TONES.get(one.outcome, "note")) if one.outcome else ""
    chain = " → ".join(one.agents)
    return (at, one.kind, one.principal, chain, one.what + times, outcome, one.why, _records(row.records))


def _records(records: Sequence[str]) -> Markup:
    """Return the first record, and the others folded; each is the row of what links to it."""
    first = record_code(records[0])
    if len(records) == 1:
        return first
    ids = [record_row(record) for record in records[1:_RECORDS]]
    left = [f"and {len(records) - _RECORDS:,} more: --json"] if len(records) > _RECORDS else []
    summary = element("summary", f"and {len(records) - 1:,} more")
    return first + element("details", summary, joined([*ids, *left], " "))


def _marked(row: TimelineRow) -> tuple[str | None, str | None]:
    return row_id(row.first.record), "denied" if row.first.outcome == "denied" else None
