"""The page of an incident: what stands out, its steps, pictures, tables, and the timeline."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

from agent_identity._reports.answers.constraint_words import bounds_in_words
from agent_identity._reports.answers.incident_collecting import Entry
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
from agent_identity._reports.pages._bar_pictures import MAX_BARS, Reach, could_and_did
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
from agent_identity._reports.pages._tree_picture import MAX_NODES, TreeNode, refused_node, tools_node, tree_picture
from agent_identity._reports.pages.words import clock, moment, span_of
from agent_identity._verify.report.plurals import counted, elapsed

_PRINCIPALS: Final = 4
"""Principals with a tree of their own, where the picture has no room for all; the others share one."""

_AGENTS: Final = 3
"""Agents below one party, likewise."""

_TOLD: Final = 3

_Key: TypeAlias = tuple[str, ...]


@final
@dataclass(slots=True)
class _Path:
    """One chain of agents for one principal, in all tasks."""

    grants: int = 0
    lost: set[str] = field(default_factory=set[str])
    narrowed: set[str] = field(default_factory=set[str])
    permitted: set[str] = field(default_factory=set[str])
    calls: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])

    @property
    def weight(self) -> tuple[int, int]:
        """Its place: refused calls first, then calls."""
        return -self.refused.total(), -self.calls.total()

    def add_grant(self, one: Authority) -> None:
        """Add a grant."""
        self.grants += 1
        self.lost.update(one.lost)
        self.narrowed.update(one.narrowed)
        self.permitted.update(one.tools)

    def add(self, other: "_Path") -> None:
        """Add the same chain for another principal."""
        self.grants += other.grants
        self.lost |= other.lost
        self.narrowed |= other.narrowed
        self.permitted |= other.permitted
        self.calls.update(other.calls)
        self.refused.update(other.refused)

    def node(self, name: str) -> TreeNode:
        """Return the agent, with what it was refused and what it called below it."""
        lines = [counted(self.grants, "grant")] if self.grants else []
        unused = sorted(self.permitted - self.calls.keys())
        if unused:
            named = unused[0] if len(unused) == 1 else counted(len(unused), "tool")
            lines.append(f"not called: {named}")
        lines += [f"not passed on: {', '.join(sorted(self.lost))}"] if self.lost else []
        lines += [f"narrowed: {', '.join(sorted(self.narrowed))}"] if self.narrowed else []
        return TreeNode("agent", name, lines, (), self.leaves())

    def folded(self, name: str) -> TreeNode:
        """Return the agent as one box that says what it was refused and what it called."""
        refused = [f"{tool}: {count:,} refused" for tool, count in _ordered(self.refused)[:_TOLD]]
        calls = [f"{tool}: {count:,}" for tool, count in _ordered(self.calls)[:_TOLD]]
        left = max(0, len(self.refused) - _TOLD) + max(0, len(self.calls) - _TOLD)
        more = [f"and {left:,} more, in the table"] if left else []
        return TreeNode("refused" if refused else "agent", name, [*refused, *calls, *more])

    def leaves(self) -> list[TreeNode]:
        """Return what was refused and what was called."""
        refused = {tool: f"{count:,} refused" for tool, count in _ordered(self.refused)}
        return [*refused_node(refused), *tools_node({tool: f"{count:,}" for tool, count in _ordered(self.calls)})]


_MOST_STEPS: Final = 16
_STEPS_BEFORE: Final = 5
_LONG_NS: Final = 60 * 10**9
_STEP_KINDS: Final = frozenset({"call", "approval", "revocation"})
_STEP_TONES: Final = {
    "denied": "bad",
    "rejected": "bad",
    "error": "warn",
    "unknown": "warn",
    "cancelled": "warn",
    "suspended": "warn",
    "revoked": "warn",
    "success": "good",
    "approved": "good",
}


_ODD_ENDINGS: Final = frozenset({"denied", "error", "unknown", "cancelled", "rejected"})
_SHOWN_IN_FULL: Final = 3
"""Times that tasks with a refusal or an error are shown in full, before they count as repeated."""

_Shape: TypeAlias = tuple[tuple[str, ...], ...]


@final
@dataclass(slots=True)
class _TimelineRow:
    """A row.

    Attributes:
        first: The first entry.
        last_ns: The time of the last one.
        records: The records of all, in order.
        times: How many equal entries, or how many repeated tasks, it stands for.
        again: The first entry of the task that is repeated; ``None`` for entries.
        steps: Entries of each repeated task.
    """

    first: Entry
    last_ns: int
    records: list[str]
    times: int = 1
    again: Entry | None = None
    steps: int = 0


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
    told = _steps(found)
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
    rows = table("Timeline, equal entries together", _TIMELINE, _timeline_rows(found.timeline), _row, mark=_marked)
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
    trees = _authority_trees(found)
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


def _row(row: _TimelineRow) -> Sequence[Content]:
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


def _marked(row: _TimelineRow) -> tuple[str | None, str | None]:
    return row_id(row.first.record), "denied" if row.first.outcome == "denied" else None


def _timeline_rows(timeline: Sequence[Entry]) -> list[_TimelineRow]:
    """Return the rows of a timeline, by time."""
    rows: list[_TimelineRow] = []
    firsts: dict[_Shape, Entry] = {}
    seen: Counter[_Shape] = Counter()
    waiting: dict[_Shape, _TimelineRow] = {}
    for unit in _units(timeline):
        shape = tuple(_facts(entry) for entry in unit)
        seen[shape] += 1
        odd = unit[0].kind == "revocation" or any(entry.outcome in _ODD_ENDINGS for entry in unit)
        if seen[shape] <= (_SHOWN_IN_FULL if odd else 1):
            firsts.setdefault(shape, unit[0])
            rows += [*waiting.values(), *_rows_of_task(unit)]
            waiting.clear()
            continue
        records, last_ns = [entry.record for entry in unit], unit[-1].at_ns
        row = waiting.get(shape)
        if row is None:
            waiting[shape] = _TimelineRow(unit[0], last_ns, records, 1, firsts[shape], len(unit))
        else:
            row.times, row.last_ns = row.times + 1, last_ns
            row.records += records
    rows += waiting.values()
    return sorted(rows, key=lambda row: row.first.at_ns)


def _units(timeline: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Yield the entries of each task together, and the others one by one, in the order of their first entries."""
    units: dict[tuple[str, int], list[Entry]] = {}
    for number, entry in enumerate(timeline):
        units.setdefault((entry.task, 0 if entry.task else number), []).append(entry)
    yield from units.values()


def _rows_of_task(unit: Sequence[Entry]) -> Iterator[_TimelineRow]:
    """Yield the rows of a task; equal entries after one another are one."""
    row: _TimelineRow | None = None
    for entry in unit:
        if row is not None and _facts(entry) == _facts(row.first):
            row.times, row.last_ns = row.times + 1, entry.at_ns
            row.records.append(entry.record)
            continue
        if row is not None:
            yield row
        row = _TimelineRow(entry, entry.at_ns, [entry.record])
    if row is not None:
        yield row


def _facts(entry: Entry) -> tuple[str, ...]:
    return (entry.kind, entry.principal, entry.what, entry.outcome, entry.why, *entry.agents)


def _steps(found: IncidentReport) -> Markup | None:
    """Return the _steps, or ``None`` if no call was refused."""
    entries = [entry for entry in found.timeline if entry.kind in _STEP_KINDS]
    first = _telling(found, entries)
    if first is None:
        return None
    stops = {one.record for one in found.revocations}
    own = [first]
    if first.task:
        last_ns = max(entry.at_ns for entry in entries if entry.task == first.task)
        own = [one for one in entries if one.task == first.task or _belongs(one, first, stops, last_ns)]
    begin = max(0, min(own.index(first) - _STEPS_BEFORE, len(own) - _MOST_STEPS))
    shown = own[begin : begin + _MOST_STEPS]
    left = len(own) - len(shown)
    purpose = next((one.what for one in found.timeline if one.kind == "begun" and one.task == first.task), "")
    for_ = f" for {first.principal}" if first.principal else ""
    about = f"{purpose or 'The first refused call, and its task'}{for_}, {moment(first.at_ns)[:10]}"
    parts: list[Content] = [element("p", about), element("ol", *_step_lines(shown), class_="steps")]
    if left:
        parts.append(element("p", f"{counted(left, 'further step')}: in the timeline", class_="more"))
    return joined(parts)


def _telling(found: IncidentReport, entries: Sequence[Entry]) -> Entry | None:
    """Return the first refused call of the task that was stopped, or else of the one with the most refused calls."""
    refused: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == "call" and entry.outcome == "denied":
            refused.setdefault(entry.task, []).append(entry)
    stopped = [
        calls
        for calls in refused.values()
        if calls[0].task and any(_names(one.kind, one.name, calls[0]) for one in found.revocations)
    ]
    of_tasks = [calls for task, calls in refused.items() if task]
    best = max(stopped or of_tasks or refused.values(), key=len, default=None)
    return None if best is None else best[0]


def _names(kind: str, name: str, entry: Entry) -> bool:
    return kind == "everything" or (kind == "agent" and name in entry.agents) or (kind == "task" and name == entry.task)


def _belongs(entry: Entry, first: Entry, stops: set[str], last_ns: int) -> bool:
    """Return whether a revocation stopped this task, or was lifted while it went on."""
    if entry.kind != "revocation" or not first.at_ns <= entry.at_ns <= last_ns + _LONG_NS:
        return False
    kind, _, name = entry.what.partition(" ")
    return entry.record in stops or _names(kind, name, first)


def _step_lines(shown: Sequence[Entry]) -> Iterator[Markup]:
    before: Entry | None = None
    for entry in shown:
        gap = 0 if before is None else entry.at_ns - before.at_ns
        if gap >= _LONG_NS:
            yield element("li", f"{elapsed(gap)} later", class_="gap")
        tone = _STEP_TONES.get(entry.outcome, "note")
        who = " → ".join(entry.agents)
        words = f"{who}: {entry.what}" if who else entry.what
        why = f" ({entry.why.replace('_', ' ')})" if entry.why and tone != "good" else ""
        line: list[Content] = [
            time_cell(clock(entry.at_ns, "%H:%M:%S")),
            " ",
            badge(entry.outcome or "none", tone),
            " ",
        ]
        yield element("li", *line, words, why, " ", record_code(entry.record), class_=tone)
        before = entry


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _authority_trees(found: IncidentReport) -> Sequence[TreeNode]:
    """Return a tree for each principal: those with refused calls first, then the busiest.

    Where there is no room for all, the first parties of each level are there by name, and the rest together.
    """
    paths = _paths(found)
    prefixes = {key[:length] for key in paths for length in range(1, len(key) + 1)}
    leaves = sum(bool(path.calls) + bool(path.refused) for path in paths.values())
    if len(prefixes) + leaves > MAX_NODES:
        return _grown(_merged_paths(paths), folded=True)
    return _grown(paths, folded=False)


def _grown(paths: Mapping[_Key, _Path], *, folded: bool) -> Sequence[TreeNode]:
    totals: dict[str, _Path] = {}
    for key, path in paths.items():
        totals.setdefault(key[0], _Path()).add(path)
    order = sorted(totals, key=lambda name: (*totals[name].weight, name))
    roots = {
        name: TreeNode("principal", name or "outside any task", ("on behalf of",) if name else ()) for name in order
    }
    nodes: dict[_Key, TreeNode] = {(name,): root for name, root in roots.items()}
    for key in sorted(paths, key=lambda key: (len(key), *paths[key].weight, key)):
        if len(key) == 1:
            roots[key[0]].children += paths[key].leaves()
            continue
        node = nodes[key] = paths[key].folded(key[-1]) if folded else paths[key].node(key[-1])
        _parent(nodes, key).children.append(node)
    return list(roots.values())


def _parent(nodes: dict[_Key, TreeNode], key: _Key) -> TreeNode:
    """Return the node above another; an agent of which nothing is known but that it delegated has one as well."""
    above = key[:-1]
    if above not in nodes:
        nodes[above] = TreeNode("agent", above[-1])
        _parent(nodes, above).children.append(nodes[above])
    return nodes[above]


def _paths(found: IncidentReport) -> dict[_Key, _Path]:
    grants = {one.grant: one for one in found.authority}
    keys: dict[str, _Key] = {}
    paths: dict[_Key, _Path] = {}
    for one in found.authority:  # Ancestors come first.
        above = keys.get(one.parent or "", (one.principal,))
        if one.parent is not None and one.parent not in grants:
            above = (one.principal, "…")
        keys[one.grant] = (*above, one.agent)
        paths.setdefault(keys[one.grant], _Path()).add_grant(one)
    for used in found.paths:
        path = paths.setdefault((used.principal, *used.agents), _Path())
        path.calls.update(used.calls)
        path.refused.update(used.refused)
    return paths


def _merged_paths(paths: Mapping[_Key, _Path]) -> Mapping[_Key, _Path]:
    """Return the paths in which, level by level, the parties with least to say are one."""
    depth = 0
    while any(len(key) > depth for key in paths):
        most = _AGENTS if depth else _PRINCIPALS
        totals: dict[_Key, dict[str, _Path]] = {}
        for key, path in paths.items():
            if len(key) > depth:
                totals.setdefault(key[:depth], {}).setdefault(key[depth], _Path()).add(path)
        names = {above: _named(below, most) for above, below in totals.items()}
        merged: dict[_Key, _Path] = {}
        for key, path in paths.items():
            there = len(key) > depth
            new = (*key[:depth], names[key[:depth]][key[depth]], *key[depth + 1 :]) if there else key
            merged.setdefault(new, _Path()).add(path)
        paths, depth = merged, depth + 1
    return paths


def _named(below: Mapping[str, _Path], most: int) -> Mapping[str, str]:
    """Return the name under which each party of a level is drawn."""
    order = sorted(below, key=lambda name: (*below[name].weight, name))
    if len(order) <= most + 1:
        return {name: name for name in order}
    rest = f"{len(order) - most:,} others"
    return {name: name if number < most else rest for number, name in enumerate(order)}
