"""The page of controls."""

from collections.abc import Iterator, Sequence

from agent_identity._reports.controls.control_rows import ControlTable
from agent_identity._reports.controls.controls_report import STATUSES, ControlsReport, RowResult
from agent_identity._reports.pages._layout import Body, Section, badge, code, record_code, spaced, table
from agent_identity._reports.pages._markup import Content, Markup, element, joined, text

__all__ = ["controls_body"]

_TONES = {"shown": "good", "partly": "warn", "not shown": "note", "contradicted": "bad", "out of scope": "note"}
_HEAD = ("Clause", "Status", "Asks", "Why", "Records", "Records cannot show")
_NOTE = 1_024
_RECORDS = 6


def controls_body(found: ControlsReport) -> Body:
    """Return the content of the page."""
    numbers = {status: sum(one.status == status for one in found.rows) for status in STATUSES}
    named = ", ".join(f"{numbers[status]:,} {status}" for status in STATUSES if numbers[status])
    return Body(
        name="controls",
        title="Controls",
        headline=f"{len(found.rows):,} clauses: {named or 'none'}. No legal advice, and no score.",
        frame=found.frame,
        figures=[
            *((status, numbers[status]) for status in STATUSES),
            ("tool calls with a record", found.recorded),
            ("tool calls in all", max(found.share.calls, found.recorded)),
        ],
        sections=[_section(number, one, found) for number, one in enumerate(found.tables, 1)],
    )


def _section(number: int, asked: ControlTable, found: ControlsReport) -> Section:
    order = {status: place for place, status in enumerate(STATUSES)}
    rows = sorted((one for one in found.rows if one.row in asked.rows), key=lambda one: order[one.status])
    words = f"{asked.version}. In force: {asked.applies_from}. Rows of {asked.dated}. Read: {asked.read} "
    about = element("p", text(words, _NOTE), code(asked.source))
    grid = table(asked.title, _HEAD, rows, lambda one: _row(one, asked), first=len(rows))
    return Section(f"framework-{number}", asked.title, joined([about, grid]))


def _row(one: RowResult, asked: ControlTable) -> Sequence[Content]:
    row = one.row
    named = [row.title]
    named += [] if row.version == asked.version else [row.version]
    named += [] if row.applies_from == asked.applies_from else [f"in force: {row.applies_from}"]
    status = [badge(one.status, _TONES[one.status])]
    status += [text(one.coverage, _NOTE)] if one.coverage else []
    return (
        joined([text(row.clause), *(element("span", text(name, _NOTE), class_="sub") for name in named)]),
        spaced(status),
        text(row.asks, _NOTE),
        joined((text(reason, _NOTE) for reason in one.why), "; "),
        joined(_records(one), "<br>"),
        joined((text(note, _NOTE) for note in row.not_shown), "; "),
    )


def _records(one: RowResult) -> Iterator[Markup]:
    ids = list(dict.fromkeys(record for part in one.evidence for record in part.records))
    yield from (record_code(record) for record in ids[:_RECORDS])
    if len(ids) > _RECORDS:
        yield text(f"+{len(ids) - _RECORDS:,}")
