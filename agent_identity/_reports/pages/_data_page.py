"""The page of the data that agents touched."""

from collections.abc import Iterator, Sequence

from agent_identity._reports.answers.data_report import DataHint, DataReport, DataRow, SilentTool, TouchedBy
from agent_identity._reports.pages._flow_picture import flow_picture
from agent_identity._reports.pages._layout import (
    Body,
    Section,
    badge,
    code,
    figure,
    proof_badge,
    seen_cell,
    spaced,
    stacked,
    table,
    time_cell,
)
from agent_identity._reports.pages._markup import Content, joined, names
from agent_identity._reports.pages.words import moment, percent

_HEADS = ("on behalf of", "agent", "tool", "resource")
_COLUMNS = (
    "Agent",
    "Access",
    "Resource",
    "Labels",
    "Calls",
    "Refused",
    "Different",
    "On behalf of",
    "Tools",
    "Seen",
    "First record",
    "Basis",
)
_SILENT = ("Tool", "Calls that say nothing")
_HINTS = ("Name", "What", "Service", "Spans", "Weight")
_TOUCHED = ("Time", "Agent", "On behalf of", "Tool", "Access", "Outcome", "Resource", "Record", "Weight")


def data_body(found: DataReport) -> Body:
    """Return the content of the page."""
    share = percent(found.declaring, found.calls)
    return Body(
        name="data",
        title="Data",
        headline=f"{found.declaring:,} of {found.calls:,} tool calls ({share}) say what they touch.",
        frame=found.frame,
        figures=[
            ("tool calls", found.calls),
            ("say what they touch", share),
            ("agents with data", len({row.agent for row in found.rows})),
            ("resources and templates", len({(row.system, row.name) for row in found.rows})),
        ],
        sections=list(_sections(found)),
    )


def _sections(found: DataReport) -> Iterator[Section]:
    if found.resource is not None:
        rows = table(f"What touched {found.resource}", _TOUCHED, found.touched, _touched, nothing="nothing")
        yield Section("touched", "The resource that was asked about", rows)
    picture = flow_picture(_paths(found), _HEADS, id_="flow", title="From principals to resources, as in the table")
    content = [
        figure(picture, "who touched what: principals, agents, tools and resources of calls that ran"),
        table("Data touched", _COLUMNS, found.rows, _row),
    ]
    yield Section("rows", "Data touched", joined(content))
    silent = table("Tools that do not say what they touch", _SILENT, found.silent, _silent)
    yield Section("silent", "Not declared", silent)
    if found.hints:
        yield Section("hints", "In spans of other libraries", table("Unsigned hints", _HINTS, found.hints, _hint))


def _paths(found: DataReport) -> Iterator[tuple[str, str, str, str]]:
    for row in found.rows:
        if row.calls:
            for principal in row.principals or ("nobody",):
                for tool in row.tools or ("unknown",):
                    yield principal, row.agent or "nobody", tool, f"{row.access} {row.name} ({row.system})"


def _row(row: DataRow) -> Sequence[Content]:
    return (
        row.agent or "nobody",
        badge(row.access, "note" if row.access == "read" else "warn"),
        stacked(row.name, row.system),
        names(row.labels) or "none",
        row.calls,
        row.refused,
        f"{row.resources:,}" if row.resources else "not known",
        names(row.principals) or "nobody",
        names(row.tools),
        seen_cell(row.first_ns, row.last_ns),
        code(row.record),
        spaced([row.basis, proof_badge(row.proof)]),
    )


def _touched(one: TouchedBy) -> Sequence[Content]:
    parties = (one.agent or "nobody", one.principal or "nobody", one.tool, one.access, one.outcome)
    where = f"{one.system} {one.name}"
    return (time_cell(moment(one.at_ns)), *parties, where, code(one.record), proof_badge(one.proof))


def _silent(one: SilentTool) -> Sequence[Content]:
    return (one.tool, one.calls)


def _hint(one: DataHint) -> Sequence[Content]:
    return (one.name, one.what, one.service, one.spans, proof_badge("hint"))
