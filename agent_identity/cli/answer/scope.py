"""``agent-identity report scope``: granted against used, and a smaller scope as a suggestion."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from agent_identity._reports.answers.scope_report import RateChange, Refusals, ScopeReport, ScopeRow, Suggestion, scope
from agent_identity._reports.pages.words import GAPS, by_state, span_of
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.answer.framing import TONES, Cell, answered, cut, emit, rows_of, table_lines
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.style import Style, clean, hanging, moment, width

_COLUMNS: Final = (
    *("AGENT", "TOOL"),
    *("MAXIMUM", "ROOT", "DELEGATED"),  # The ceilings: of the registration, of root grants, of delegations.
    *("USED", "USED BELOW", "CALLS", "CALLS BELOW", "REFUSED", "LAST", "WHY"),
)
_NAMED: Final = 12
_EVENTS: Final = 20
_OFTEN: Final = ("HOUR", "AGENT", "TOOL", "WHAT", "COUNT", "MEDIAN", "OF WEEKS")


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    since = None if chosen.since is None else moment_ns(chosen.since)
    found = answered(chosen, lambda evidence: scope(evidence, since_ns=since, least=chosen.least))
    return emit(chosen, found, text=lambda style, room: _text(found, style, room), rows=lambda: _rows(found))


def _text(found: ScopeReport, style: Style, room: int | None) -> Iterator[str]:
    for words, tone, named in by_state(GAPS, ((gap.code, f"{gap.agent} {gap.tool}") for gap in found.gaps)):
        line = hanging(f"{words} ({len(named):,}): {cut(named, _NAMED)}", 2, room)
        yield style.paint(words, TONES[tone], "bold") + line.removeprefix(words)
    yield ""
    yield style.paint("granted and used", "bold")
    yield from table_lines([_COLUMNS, *map(_row, found.rows)], room)
    for suggestion in found.suggestions:
        yield ""
        yield from _suggestion(suggestion, style, room)
    yield from _changes(found, style, room)


def _row(row: ScopeRow) -> Sequence[str]:
    maximum = {True: "yes", False: "no", None: "-"}[row.registered]
    ceilings = (maximum, f"{row.root_grants:,}", f"{row.delegations:,}")
    numbers = (row.grants_used, row.grants_used_by_descendants, row.calls, row.calls_by_descendants, row.refused)
    last = span_of(row.last_used_ns, row.last_used_ns) or "never"
    why = "; ".join(_reasons(row))
    return (clean(row.agent), clean(row.tool), *ceilings, *(f"{number:,}" for number in numbers), last, why)


def _reasons(row: ScopeRow) -> Iterator[str]:
    yield from (clean(_reason(one)) for one in row.refusals[:_NAMED])
    if row.warned:
        yield f"warned: {row.warned:,}"
    if row.would_be_refused:
        yield f"let through by monitor mode only: {row.would_be_refused:,}"


def _reason(one: Refusals) -> str:
    rule = f", rule {one.rule}" if one.rule else ""
    argument = f", argument {one.argument}" if one.argument else ""
    return f"{one.reason}{rule}{argument}: {one.count:,}"


def _suggestion(found: Suggestion, style: Style, room: int | None) -> Iterator[str]:
    words = f"{counted(found.grants, 'grant')} over {counted(found.days, 'day')}, {found.proof}"
    yield style.paint(f"suggested scope of {clean(found.agent)}", "bold") + f"  confidence {found.confidence} ({words})"
    for line in found.tools:
        mark, color = (" ", "dim") if line.change == "keep" else ("-", "red")
        counts = f"{line.why}; used under {line.used:,} of {counted(line.grants, 'grant')}"
        ids = f"; records {', '.join(line.records)}" if line.records else ""
        bounds = "" if line.constraints is None else " with any arguments" if not line.constraints else ""
        named = f"{mark} {clean(line.tool)}{bounds}"
        yield f"  {style.paint(named, color)}  {hanging(clean(counts + ids), width(named) + 4, room)}"
    if any(line.change == "drop" for line in found.tools):
        refused = f" ({', '.join(found.refused_records)})" if found.refused_records else ""
        yield f"  it would have refused {counted(found.would_refuse, 'call')}{clean(refused)}"


def _changes(found: ScopeReport, style: Style, room: int | None) -> Iterator[str]:
    for change in found.versions:
        yield ""
        yield style.paint(f"{clean(change.agent)} {clean(change.version)} after {clean(change.before)}", "bold")
        words = f"new: {cut(change.added, _NAMED) or 'nothing'}; gone: {cut(change.gone, _NAMED) or 'nothing'}"
        yield f"  {hanging(words, 2, room)}"
    if found.rates:
        yield ""
        yield style.paint("far more often than in the same hour of earlier weeks", "bold")
        hours = [_OFTEN, *(_often(one) for one in found.rates)]
        yield from table_lines(hours, room, most=_EVENTS)
    if found.events:
        yield ""
        yield style.paint("first seen", "bold")
        rows = [("SINCE", "AGENT", "WHAT", "WHICH", "COUNT", "RECORD")]
        rows += [
            (moment(one.since_ns), clean(one.agent), one.relation, clean(one.other), f"{one.count:,}", one.record)
            for one in found.events
        ]
        yield from table_lines(rows, room, most=_EVENTS)


def _often(one: RateChange) -> Sequence[str]:
    numbers = (f"{number:,}" for number in (one.count, one.median, one.weeks))
    return (moment(one.at_ns), clean(one.agent), clean(one.tool), one.what, *numbers)


def _rows(found: ScopeReport) -> Iterable[Sequence[Cell]]:
    suggested = {
        (one.agent, line.tool): (line.change, one.confidence, line.why)
        for one in found.suggestions
        for line in one.tools
    }
    for number, cells in enumerate(rows_of(ScopeRow, found.rows, nested=_refusals)):
        more = ("suggested", "confidence", "why")
        if number:
            row = found.rows[number - 1]
            more = suggested.get((row.agent, row.tool), ("", "", ""))
        yield (*cells, *more)


def _refusals(value: object) -> str:
    return _reason(value) if isinstance(value, Refusals) else str(value)
