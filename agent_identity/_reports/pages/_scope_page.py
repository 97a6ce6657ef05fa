"""The pages of what agents have: the inventory, and what was granted and used."""

from collections.abc import Iterator, Sequence

from agent_identity._reports.answers.inventory_report import KINDS, Inventory, Item
from agent_identity._reports.answers.scope_report import (
    Event,
    RateChange,
    ScopeReport,
    ScopeRow,
    SuggestedTool,
    Suggestion,
    VersionChange,
)
from agent_identity._reports.pages._bar_pictures import Bar, stacked_bars
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    figure,
    proof_badge,
    record_code,
    seen_cell,
    spaced,
    states_found,
    states_notable,
    table,
    time_cell,
)
from agent_identity._reports.pages._markup import Content, Markup, element, joined, names
from agent_identity._reports.pages.words import DIFFERENCES, GAPS, KIND_NAMES, by_state, moment, name_in, refusals_of
from agent_identity._verify.report.plurals import counted

_STATUS_TONES = {"registered": "good", "observed": "good"}


_NAMED = 12
_SUGGESTED = 50
_PARTS = ("used by the agent", "by descendants only", "never used", "called without a grant")
_COLUMNS = (
    "Agent",
    "Tool",
    "Grants",
    "Grants used",
    "Used below only",
    "Calls",
    "Calls below",
    "Refused",
    "Warned",
    "Monitor only",
    "Of an open tool",
    "Last used",
    "Weight",
)


def scope_body(found: ScopeReport) -> Body:
    """Return the content of the page."""
    states = list(by_state(GAPS, ((gap.code, f"{gap.agent} {gap.tool}") for gap in found.gaps)))
    unused = sum(gap.code == "never_used" for gap in found.gaps)
    granted = sum(row.grants > 0 for row in found.rows)
    refused = sum(row.refused for row in found.rows)
    pairs = counted(granted, "pair")
    sections = [
        Section("gaps", "Gaps", states_found(states, "No gaps.")),
        Section("rows", "Granted and used", _rows(found)),
        Section("suggestions", "Suggested scopes", _suggestions(found)),
        Section("changes", "Versions", table("Versions", _VERSION, found.versions, _version)),
        Section("rates", "Far more often", table(_OFTEN, _RATE, found.rates, _rate)),
        Section("events", "First seen together", table("First seen together", _EVENT, found.events, _event)),
    ]
    return Body(
        name="scope",
        title="Granted and used",
        headline=f"{unused:,} of {pairs} of agent and tool were granted and never used.",
        frame=found.frame,
        figures=[
            ("agents", len({row.agent for row in found.rows})),
            ("granted", granted),
            ("never used", unused),
            ("refused calls", refused),
        ],
        sections=sections,
        notable=list(states_notable(states)),
    )


def _rows(found: ScopeReport) -> Markup:
    picture = stacked_bars(list(_bars(found)), _PARTS, id_="use", title="Tools of each agent by use, as in the table")
    return joined(
        [
            figure(picture, "tools of each agent, by how they were used"),
            table("Agents and tools", _COLUMNS, found.rows, _row),
        ]
    )


def _bars(found: ScopeReport) -> Iterator[Bar]:
    agents: dict[str, list[int]] = {}
    for row in found.rows:
        counts = agents.setdefault(row.agent, [0, 0, 0, 0])
        counts[_part(row)] += 1
    for agent, counts in sorted(agents.items(), key=lambda item: (-sum(item[1][:3]), item[0])):
        yield Bar(agent, counts, f"{counts[0] + counts[1]:,} of {counted(sum(counts[:3]), 'granted tool')} used")


def _part(row: ScopeRow) -> int:
    if not row.grants:
        return 3
    return 0 if row.grants_used else 1 if row.grants_used_by_descendants else 2


def _row(row: ScopeRow) -> Sequence[Content]:
    grants = (row.grants, row.grants_used, row.grants_used_by_descendants, row.calls, row.calls_by_descendants)
    more = (row.warned, row.would_be_refused, row.calls_of_open_tool)
    last = time_cell(moment(row.last_used_ns)[:16]) if row.last_used_ns else "never"
    reasons = (element("span", refusals_of(one), class_="sub") for one in row.refusals[:_NAMED])
    return (row.agent, row.tool, *grants, joined([row.refused, *reasons]), *more, last, proof_badge(row.proof))


def _suggestions(found: ScopeReport) -> Markup:
    parts: list[Content] = [element("p", "A suggestion is a diff with its evidence. Nothing applies it.")]
    parts += [_suggestion(one) for one in found.suggestions[:_SUGGESTED]]
    if len(found.suggestions) > _SUGGESTED:
        left = counted(len(found.suggestions) - _SUGGESTED, "more suggestion")
        parts.append(element("p", f"{left}: --json has all", class_="more"))
    return joined(parts)


_TOOL = ("Tool", "Change", "Why", "Grants", "Used under", "Calls", "Constraints", "Records")


def _suggestion(found: Suggestion) -> Markup:
    words = (
        f"Confidence {found.confidence}: {counted(found.grants, 'grant')} over {counted(found.days, 'day')}. "
        f"It would have refused {counted(found.would_refuse, 'call')}"
    )
    ids = f": {', '.join(found.refused_records)}" if found.refused_records else ""
    return joined(
        [
            element("h3", found.agent),
            element("p", spaced([words + ids + ".", proof_badge(found.proof)])),
            table(f"Suggested scope of {found.agent}", _TOOL, found.tools, _tool),
        ]
    )


def _tool(line: SuggestedTool) -> Sequence[Content]:
    change = badge("keep", "good") if line.change == "keep" else badge("drop", "bad")
    if line.constraints is None:
        bounds = "differ by grant"
    else:
        bounds = "any arguments" if not line.constraints else names(sorted(line.constraints))
    records = joined((record_code(one) for one in line.records), "<br>")
    return (line.tool, change, line.why, line.grants, line.used, line.calls, bounds, records)


_VERSION = ("Agent", "Version", "After", "Since", "New tools", "Tools gone")
_EVENT = ("Agent", "What", "Which", "Since", "Count", "First record")


def _version(one: VersionChange) -> Sequence[Content]:
    tools = (names(one.added, _NAMED) or "none", names(one.gone, _NAMED) or "none")
    return (one.agent, one.version, one.before, time_cell(moment(one.since_ns)[:16]), *tools)


_OFTEN = "Hours far above the same hour of earlier weeks"
_RATE = ("Agent", "Tool", "What", "Hour", "Count", "Median", "Weeks")


def _rate(one: RateChange) -> Sequence[Content]:
    return (one.agent, one.tool, one.what, time_cell(moment(one.at_ns)[:16]), one.count, one.median, one.weeks)


def _event(one: Event) -> Sequence[Content]:
    return (
        one.agent,
        one.relation,
        one.other,
        time_cell(moment(one.since_ns)[:16]),
        one.count,
        record_code(one.record),
    )


def inventory_body(found: Inventory) -> Body:
    """Return the content of the page."""
    codes: dict[tuple[str, str | None, str], list[str]] = {}
    for one in found.differences:
        codes.setdefault((one.kind, one.service, one.name), []).append(one.code)
    numbers = {kind: sum(item.kind == kind for item in found.items) for kind in KINDS}
    parts = [counted(numbers[kind], kind) for kind in ("agent", "tool", "server") if numbers[kind]]
    named = ((one.code, f"{one.kind} {name_in(one.service, one.name)}") for one in found.differences)
    states = list(by_state(DIFFERENCES, named))
    differences = states_found(states, "No differences.")
    noteworthy = counted(len(found.differences), "difference")
    return Body(
        name="inventory",
        title="Inventory",
        headline=f"{', '.join(parts) or 'Nothing found'}; {noteworthy}.",
        frame=found.frame,
        figures=[(KIND_NAMES[kind], numbers[kind]) for kind in KINDS if numbers[kind]]
        + [("differences", len(found.differences))],
        sections=[
            Section("differences", "Differences", differences),
            *_item_sections(found, codes),
        ],
        notable=list(states_notable(states)),
    )


def _item_sections(found: Inventory, codes: dict[tuple[str, str | None, str], list[str]]) -> Iterator[Section]:
    for kind in KINDS:
        items = [item for item in found.items if item.kind == kind]
        if not items:
            continue
        title = KIND_NAMES[kind]
        owners = ["Owner"] if kind == "agent" else []
        columns = ["Name", *owners, "Status", "Weight", "Calls", "Refused", "Spans", "Seen", "More"]
        rows = table(title, columns, items, lambda item: _item_row(item, codes))
        yield Section(f"kind-{kind}", title[0].upper() + title[1:], rows)


def _item_row(item: Item, codes: dict[tuple[str, str | None, str], list[str]]) -> Sequence[Content]:
    owner: list[Content] = [names(item.owners, 2) or "none"] if item.kind == "agent" else []
    statuses = [badge(status, _STATUS_TONES.get(status, "note")) for status in item.statuses]
    notes = [
        badge(*DIFFERENCES[code]) for code in codes.get((item.kind, item.service, item.name), ()) if code in DIFFERENCES
    ]
    return (
        name_in(item.service, item.name),
        *owner,
        spaced([*statuses, *notes]),
        proof_badge(item.proof),
        item.calls,
        item.refused,
        item.spans,
        seen_cell(item.first_ns, item.last_ns),
        joined(_item_details(item), "<br>"),
    )


def _item_details(item: Item) -> Iterator[Markup]:
    if item.versions:
        yield joined(["version: " if len(item.versions) == 1 else "versions: ", names(item.versions)])
    for name, values in item.details.items():
        if (name, *values) != ("registration", "registered"):  # The status says so.
            yield joined([f"{name}: ", names(values)])
