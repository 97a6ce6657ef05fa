"""``agent-identity report controls``: what the evidence shows for clauses of laws and frameworks."""

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

from agent_identity._reports.controls.control_rows import FRAMEWORKS, ControlTable, FrameworkName
from agent_identity._reports.controls.controls_report import STATUSES, ControlsReport, RowResult, controls
from agent_identity._reports.controls.oscal_document import oscal
from agent_identity.cli.answer.framing import Cell, answered, emit, emit_document
from agent_identity.cli.terminal.style import Style, clean, hanging
from agent_identity.errors import ConfigurationError

_COLORS: Final = {
    "shown": "green",
    "partly": "yellow",
    "not shown": "dim",
    "contradicted": "red",
    "out of scope": "dim",
}


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    unknown = [name for name in chosen.framework if name not in FRAMEWORKS]
    if unknown:
        raise ConfigurationError(f"unknown framework {unknown[0]!r}; use one of {', '.join(FRAMEWORKS)}")
    wanted = cast("Sequence[FrameworkName]", chosen.framework or FRAMEWORKS)
    own = [ControlTable.load(path) for path in chosen.rows]
    tables = [table for table in own if table.framework in wanted] if own else None
    found = answered(chosen, lambda evidence: controls(evidence, frameworks=wanted, tables=tables))
    if chosen.oscal:
        return emit_document(chosen, found.frame, lambda: json.dumps(oscal(found)))
    return emit(chosen, found, text=lambda style, room: _text(found, style, room), rows=lambda: _rows(found))


def _text(found: ControlsReport, style: Style, room: int | None) -> Iterator[str]:
    yield _counts(found.rows)
    for table in found.tables:
        yield ""
        yield style.paint(clean(table.title), "bold") + f"  {clean(table.version)}, rows of {table.dated}"
        rows = [one for one in found.rows if one.row in table.rows]
        for status in STATUSES:
            for one in rows:
                if one.status == status:
                    yield from _row(one, style, room)


def _counts(rows: Sequence[RowResult]) -> str:
    counts = ((sum(one.status == status for one in rows), status) for status in STATUSES)
    return ", ".join(f"{count:,} {status}" for count, status in counts if count) or "no rows"


def _row(one: RowResult, style: Style, room: int | None) -> Iterator[str]:
    row = one.row
    beside = f" ({one.coverage})" if one.coverage else ""
    words = style.paint(f"{one.status:<12}", _COLORS[one.status])
    yield f"  {words}  {hanging(clean(f'{row.clause}  {row.title}{beside}'), 16, room)}"
    reasons = "; ".join(one.why)
    yield f"                {style.paint(hanging(clean(reasons), 16, room), 'dim')}"
    records = [record for part in one.evidence if part.role != "wants" for record in part.records]
    if records:
        shown = ", ".join(dict.fromkeys(records))
        yield f"                {style.paint(hanging(clean(f'records {shown}'), 16, room), 'dim')}"
    notes = "; ".join(row.not_shown)
    yield f"                {style.paint(hanging(clean(f'cannot show: {notes}'), 16, room), 'dim')}"


def _rows(found: ControlsReport) -> Iterable[Sequence[Cell]]:
    yield (
        *("framework", "version", "clause", "title", "applies_from", "source", "rows_dated", "asks"),
        *("query", "status", "why", "coverage", "records", "cannot_show"),
    )
    for table in found.tables:
        for one in found.rows:
            if one.row in table.rows:
                yield _cells(table, one)


def _cells(table: ControlTable, one: RowResult) -> Sequence[Cell]:
    row = one.row
    records = dict.fromkeys(record for part in one.evidence for record in part.records)
    return (
        *(row.framework, row.version, row.clause, row.title, row.applies_from, row.source, table.dated, row.asks),
        *(row.query or "", one.status, "; ".join(one.why), one.coverage, " ".join(records), "; ".join(row.not_shown)),
    )
