"""``agent-identity report coverage``: the share of tool calls that a human answers for."""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from agent_identity._reports.answers.coverage_report import CoverageReport, Share, coverage
from agent_identity._reports.pages.words import percent, span_of
from agent_identity.cli.answer.framing import Cell, answered, emit, table_lines
from agent_identity.cli.terminal.style import Style, clean

_HEAD: Final = ("CALLS", "ATTRIBUTED", "TO A HUMAN", "TO A VERIFIED HUMAN", "REFUSED")
_SHOWN: Final = 50


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    found = answered(chosen, coverage)
    return emit(chosen, found, text=lambda style, room: _text(found, style, room), rows=lambda: _rows(found))


def _text(found: CoverageReport, style: Style, room: int | None) -> Iterator[str]:
    total = found.total
    if not total.calls:
        yield style.paint("no tool calls", "bold")
        return
    words = f"{percent(total.human, total.calls)} of {total.calls:,} tool calls are attributable to a human"
    yield (
        style.paint(words, "bold")
        + f", {percent(total.verified_human, total.calls)} to a verified human ({found.proof})"
    )
    for dimension in ("agent", "service", "week"):
        groups = [group for group in found.groups if group.dimension == dimension]
        yield ""
        yield style.paint(f"by {dimension}", "bold")
        rows = [(dimension.upper(), *_HEAD), *((clean(one.name) or "unknown", *_cells(one.share)) for one in groups)]
        yield from table_lines(rows, room, most=_SHOWN)
    if found.others:
        yield ""
        yield style.paint("no verified human answers for", "bold")
        head = ("WHY", "TOOL", "BY", "SERVICE", "FOR, OR TRACED BY", "CALLS", "REFUSED", "SEEN", "EXAMPLE")
        yield from table_lines([head, *_others(found)], room, most=_SHOWN)


def _others(found: CoverageReport) -> Iterator[Sequence[str]]:
    for one in found.others:
        parties = (one.tool, one.agent or "unknown", one.service or "unknown", one.party or "no one")
        numbers = (f"{one.calls:,}", f"{one.refused:,}", span_of(one.first_ns, one.last_ns))
        yield (one.why, *map(clean, parties), *numbers, clean(one.example))


def _cells(share: Share) -> Sequence[str]:
    numbers = (share.attributed, share.human, share.verified_human)
    return (f"{share.calls:,}", *(f"{one:,} ({percent(one, share.calls)})" for one in numbers), f"{share.refused:,}")


def _rows(found: CoverageReport) -> Iterable[Sequence[Cell]]:
    yield (
        "kind",
        "name",
        "why",
        "agent",
        "service",
        "party",
        "proof",
        "calls",
        "attributed",
        "human",
        "verified_human",
        "refused",
        "first_ns",
        "last_ns",
        "example",
    )
    total = found.total
    yield ("total", "", "", "", "", "", found.proof, *_numbers(total), "", "", "")
    for group in found.groups:
        yield (group.dimension, group.name, "", "", "", "", found.proof, *_numbers(group.share), "", "", "")
    for one in found.others:
        named = ("other calls", one.tool, one.why, one.agent, one.service, one.party, found.proof)
        yield (*named, one.calls, "", "", "", one.refused, one.first_ns, one.last_ns, one.example)


def _numbers(share: Share) -> Sequence[Cell]:
    return (share.calls, share.attributed, share.human, share.verified_human, share.refused)
