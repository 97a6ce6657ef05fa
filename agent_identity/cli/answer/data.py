"""``agent-identity report data``: the systems and resources that agents touched, and for whom."""

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity._reports.answers.data_report import STATE_IT, DataReport, DataRow, TouchedBy, data
from agent_identity._reports.pages.words import span_of
from agent_identity.cli.answer.framing import answered, cut, emit, rows_of, table_lines
from agent_identity.cli.terminal.style import Style, clean, hanging, moment

_HEAD: Final = (
    "AGENT",
    "ACCESS",
    "SYSTEM",
    "NAME",
    "LABELS",
    "BASIS",
    "CALLS",
    "REFUSED",
    "DIFFERENT",
    "FOR",
    "TOOLS",
    "SEEN",
    "FIRST CONTACT",
)
_TOUCHED: Final = ("TIME", "AGENT", "FOR", "TOOL", "ACCESS", "OUTCOME", "RESOURCE", "RECORD")
_SHOWN: Final = 100


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    found = answered(chosen, lambda evidence: data(evidence, resource=chosen.resource))
    asked = found.resource is not None
    rows = rows_of(TouchedBy, found.touched) if asked else rows_of(DataRow, found.rows)
    return emit(chosen, found, text=lambda style, room: _text(found, style, room), rows=lambda: rows)


def _text(found: DataReport, style: Style, room: int | None) -> Iterator[str]:
    share = f"{found.declaring:,} of {found.calls:,} tool calls say what they touch"
    yield style.paint(share, "bold")
    if found.silent:
        yield f"  nothing is known of: {cut([f'{one.tool} ({one.calls:,})' for one in found.silent], 12)}"
        yield f"  {hanging(f'{STATE_IT[0].lower()}{STATE_IT[1:]}', 2, room)}"
    if found.resource is not None:
        yield ""
        yield style.paint(f"what touched {clean(found.resource)} ({len(found.touched):,})", "bold")
        yield from table_lines([_TOUCHED, *map(_touched, found.touched)], room, most=_SHOWN)
    if found.rows:
        yield ""
        yield style.paint("data touched", "bold")
        yield from table_lines([_HEAD, *map(_row, found.rows)], room)
    if found.hints:
        yield ""
        yield style.paint("in spans of other libraries (hints)", "bold")
        rows = [("NAME", "WHAT", "SERVICE", "SPANS")]
        rows += [(clean(one.name), clean(one.what), clean(one.service), f"{one.spans:,}") for one in found.hints]
        yield from table_lines(rows, room, most=_SHOWN)


def _row(row: DataRow) -> Sequence[str]:
    named = (row.agent or "no agent", row.access, row.system, row.name)
    numbers = (f"{row.calls:,}", f"{row.refused:,}", f"{row.resources:,}" if row.resources else "not known")
    seen = span_of(row.first_ns, row.last_ns) or "never"
    parties = (cut(row.principals), cut(row.tools))
    return (*map(clean, named), cut(row.labels), row.basis, *numbers, *parties, seen, row.record)


def _touched(one: TouchedBy) -> Sequence[str]:
    parties = (moment(one.at_ns), one.agent or "no agent", one.principal or "no one", one.tool, one.access, one.outcome)
    return (*map(clean, parties), clean(f"{one.system} {one.name}"), one.record)
