"""The page of the data that agents touched, with a picture of the flows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from agent_identity._reports.answers.data_report import (
    STATE_IT,
    DataHint,
    DataReport,
    DataRow,
    SilentTool,
    TouchedBy,
)
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
from agent_identity._reports.pages._markup import Content, Markup, element, fitted, joined, names, picture
from agent_identity._reports.pages.words import moment, percent

_HEADS = ("on behalf of", "agent", "tool", "resource")
_COLUMNS = (
    "Agent",
    "Resource",
    "Labels",
    "Calls",
    "Refused",
    "Different",
    "On behalf of",
    "Tools",
    "Seen, first record",
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
    yield Section("silent", "Not declared", joined([silent, element("p", STATE_IT)]) if found.silent else silent)
    if found.hints:
        yield Section("hints", "In spans of other libraries", table("Unsigned hints", _HINTS, found.hints, _hint))


def _paths(found: DataReport) -> Iterator[tuple[str, str, str, str]]:
    for row in found.rows:
        if row.calls:
            for principal in row.principals or ("no one",):
                for tool in row.tools or ("unknown",):
                    yield principal, row.agent or "no agent", tool, f"{row.access} {row.name} ({row.system})"


def _row(row: DataRow) -> Sequence[Content]:
    access = badge(row.access, "note" if row.access == "read" else "warn")
    return (
        row.agent or "no agent",
        stacked(spaced([access, row.name]), row.system),
        names(row.labels) or "none",
        row.calls,
        row.refused,
        row.resources or "not known",
        names(row.principals) or "no one",
        names(row.tools),
        _seen(row),
        spaced([row.basis, proof_badge(row.proof)]),
    )


def _seen(row: DataRow) -> Markup:
    """Return when the data was touched first and last, and the record of the first time."""
    first = element("code", row.record, class_="sub t") if row.record else Markup()
    return joined([seen_cell(row.first_ns, row.last_ns), first])


def _touched(one: TouchedBy) -> Sequence[Content]:
    parties = (one.agent or "no agent", one.principal or "no one", one.tool, one.access, one.outcome)
    where = f"{one.system} {one.name}"
    return (time_cell(moment(one.at_ns)), *parties, where, code(one.record), proof_badge(one.proof))


def _silent(one: SilentTool) -> Sequence[Content]:
    return (one.tool, one.calls)


def _hint(one: DataHint) -> Sequence[Content]:
    return (one.name, one.what, one.service, one.spans, proof_badge("hint"))


_ROWS: Final = 15
_WIDTH, _GAP, _ROW, _HEIGHT, _TOP = 232, 64, 36, 26, 28
_CLASSES: Final = ("principal", "box", "tool", "resource")


def flow_picture(paths: Iterable[Sequence[str]], heads: Sequence[str], *, id_: str, title: str) -> Markup:
    """Return the picture, or nothing without paths.

    Args:
        paths: What belongs together, a name for each column.
        heads: The names of the columns, at most four.
        id_: The id of the picture in its page.
        title: Its name for those who do not see it.
    """
    every = list(paths)
    if not every:
        return Markup()
    columns = [_places([path[number] for path in every]) for number in range(len(heads))]
    edges = sorted(
        {
            (number, columns[number][path[number]], columns[number + 1][path[number + 1]])
            for path in every
            for number in range(len(heads) - 1)
        }
    )
    height = _TOP + max(max(column.values()) + 1 for column in columns) * _ROW + 4
    width = len(heads) * (_WIDTH + _GAP) - _GAP + 4
    boxes = (box for number, column in enumerate(columns) for box in _column(number, heads[number], column))
    parts = [*(_edge(*edge) for edge in edges), *boxes]
    return picture(parts, id_=id_, title=title, left=-2, width=width, height=height, shrinks=False)


def _places(names: Iterable[str]) -> Mapping[str, int]:
    """Return the row of each name; those without one of their own share the last."""
    return {name: min(row, _ROWS) for row, name in enumerate(dict.fromkeys(names))}


def _column(number: int, head: str, column: Mapping[str, int]) -> Iterator[Markup]:
    x = number * (_WIDTH + _GAP)
    yield element("text", head, x=x, y=16, class_="b")
    for name, row in column.items():
        if row < _ROWS:
            yield _box(name, x, row, _CLASSES[number])
    folded = len(column) - _ROWS
    if folded > 0:
        yield _box(f"{folded:,} more, in the table", x, _ROWS, "edge")


def _box(name: str, x: int, row: int, css: str) -> Markup:
    y = _TOP + row * _ROW
    shape = element("rect", x=x, y=y, width=_WIDTH, height=_HEIGHT, rx=4, class_=css)
    words = element("text", fitted(name, 29), x=x + 9, y=y + 17)
    return element("g", element("title", name), shape, words)


def _edge(number: int, above: int, below: int) -> Markup:
    x1 = number * (_WIDTH + _GAP) + _WIDTH
    x2 = x1 + _GAP
    y1, y2 = (_TOP + row * _ROW + _HEIGHT // 2 for row in (above, below))
    middle = (x1 + x2) // 2
    return element("path", d=f"M{x1} {y1} C{middle} {y1} {middle} {y2} {x2} {y2}", class_="edge")
