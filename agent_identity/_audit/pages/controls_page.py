"""The page of controls."""

from collections.abc import Iterator, Sequence

from agent_identity._audit.controls import STATUSES, ControlsReport, ControlTable, RowResult
from agent_identity._audit.pages.layout import Body, Section, badge, code, record_code, spaced, stacked, table
from agent_identity._audit.pages.markup import Content, Markup, joined, text

__all__ = ["controls_body"]

_TONES = {"shown": "good", "partly": "warn", "not shown": "note", "contradicted": "bad", "out of scope": "note"}
_HEAD = ("Clause", "Status", "Asks", "Why", "Records", "Records cannot show", "In force from")
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
    about = joined(
        [text(f"{asked.version}. Rows of {asked.dated}. Read: {asked.read} ", _NOTE), code(asked.source)],
    )
    grid = table(f"{asked.title}", _HEAD, rows, _row, first=len(rows))
    return Section(f"framework-{number}", asked.title, joined([Markup(f"<p>{about}</p>"), grid]))


def _row(one: RowResult) -> Sequence[Content]:
    row = one.row
    status = [badge(one.status, _TONES[one.status])]
    status += [text(one.coverage, _NOTE)] if one.coverage else []
    return (
        stacked(row.clause, row.title),
        spaced(status),
        text(row.asks, _NOTE),
        joined((text(reason, _NOTE) for reason in one.why), "<br>"),
        joined(_records(one), "<br>"),
        joined((text(note, _NOTE) for note in row.not_shown), "<br>"),
        stacked(row.applies_from, row.version),
    )


def _records(one: RowResult) -> Iterator[Markup]:
    ids = list(dict.fromkeys(record for part in one.evidence for record in part.records))
    yield from (record_code(record) for record in ids[:_RECORDS])
    if len(ids) > _RECORDS:
        yield text(f"+{len(ids) - _RECORDS:,}")
