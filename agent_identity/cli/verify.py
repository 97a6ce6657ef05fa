"""``agent-identity verify``: is the evidence what was recorded, and is it all there?"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity.audit import Coverage, Problem, Report, Step, check
from agent_identity.audit.bundle import is_bundle
from agent_identity.audit.findings import counted
from agent_identity.cli.command import Commands
from agent_identity.cli.sources import is_directory, named
from agent_identity.cli.terminal import Progress, Style, clean, columns, hanging, table
from agent_identity.errors import ConfigurationError

__all__ = ["register"]

SHOWN: Final = 20
"""Findings that are printed; ``--json`` has more."""

MANY: Final = 10
"""Findings of one kind; of more only :data:`ALIKE` are printed, and their number."""

ALIKE: Final = 3

_VERDICTS: Final = {
    "verified": ("VERIFIED", "green"),
    "contradicted": ("NOT VERIFIED: contradicted", "red"),
    "cannot_tell": ("CANNOT TELL", "yellow"),
    "incomplete": ("VERIFIED, BUT INCOMPLETE", "yellow"),
}
_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not_checked": ("·", "yellow")}
_COLOURS: Final = {"contradicted": "red", "cannot_tell": "yellow", "incomplete": "yellow", "notice": "dim"}
_COUNTED: Final = ("denied", "unknown", "unsealed", "pruned", "withheld")
_COMPLETENESS: Final = {"pruned": "complete for what is kept; older records were pruned"}
_TRUST: Final = {
    "given": "keys given by you",
    "self-asserted": "self-asserted: the keys came from beside the ledger; give --trust with a copy kept elsewhere",
    "none": "no keys: give --trust",
}


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "verify",
        help="verify a ledger, or traces as a collector or exporter wrote them",
        description="Verify an evidence directory, or OTLP/JSON traces (lines or one document), offline and with "
        "public keys only. Exit codes: 0 verified, 1 contradicted or tampered, 2 cannot tell, 3 verified but "
        "incomplete.",
    )
    command.add_argument(
        "source",
        metavar="SOURCE",
        nargs="+",
        help="an evidence directory or a bundle of one, or trace files; - for stdin",
    )
    command.add_argument("--trust", metavar="FILE", help="trust.json with the public keys, kept away from the evidence")
    command.add_argument(
        "--ledger", metavar="DIR", help="for traces: compare with this ledger and find what is missing"
    )
    command.add_argument("--checkpoint", metavar="FILE", help="for a ledger: an earlier checkpoint, kept elsewhere")
    command.add_argument("--archive", metavar="OUT", help="for a ledger: an archive with what was pruned from it")
    command.add_argument(
        "--redacted", metavar="ATTRIBUTE", action="append", default=[], help="an attribute that a collector rewrites"
    )
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    source = named(chosen.source)
    _refuse_unused(chosen)
    progress = Progress(sys.stderr, "verifying")
    try:
        report = check(
            source,
            chosen.trust,
            ledger=chosen.ledger,
            checkpoint=chosen.checkpoint,
            archive=chosen.archive,
            redacted=chosen.redacted,
            progress=progress.update,
        )
    finally:
        progress.clear()
    if chosen.json:
        print(json.dumps(report.to_json()))
    else:
        print("\n".join(lines(report, Style(sys.stdout), columns(sys.stdout))))
    return report.exit_code


def _refuse_unused(chosen: argparse.Namespace) -> None:
    """Refuse a check that was asked for and would not happen.

    Raises:
        ConfigurationError: An option does not fit the source.
    """
    if is_directory(chosen.source[0]) or (len(chosen.source) == 1 and is_bundle(chosen.source[0])):
        if chosen.ledger is not None or chosen.redacted:
            raise ConfigurationError(
                "expected --ledger and --redacted with files of traces, got an evidence directory; leave them out"
            )
    elif chosen.checkpoint is not None:
        raise ConfigurationError("expected --checkpoint with an evidence directory, got traces; leave it out")
    elif chosen.archive is not None:
        raise ConfigurationError("expected --archive with an evidence directory, got traces; leave it out")
    elif chosen.ledger is not None and chosen.trust is None:
        raise ConfigurationError(
            "expected --trust together with --ledger; a copy of the ledger's trust.json that was kept elsewhere"
        )


def lines(report: Report, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the report for people: the verdict first, then why.

    Args:
        report: The report.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    words, colour = _VERDICTS[report.verdict]
    yield style.paint(words, colour, "bold") + f"  {_summary(report)}"
    yield f"  integrity     {report.integrity.replace('_', ' ')}"
    yield f"  completeness  {_COMPLETENESS.get(report.completeness, report.completeness.replace('_', ' '))}"
    yield f"  trust         {hanging(_TRUST[report.trust], 16, room)}"
    yield ""
    for step in report.steps:
        yield from _step(step, style, room)
    if report.coverage:
        yield from _coverage(report.coverage, room)
    if report.findings:
        yield from _findings(report, style, room)


def _step(step: Step, style: Style, room: int | None) -> Iterator[str]:
    mark, colour = _MARKS[step.status]
    status = "  (not checked)" if step.status == "not_checked" else ""
    name, detail = f"{step.number}. {step.name}{status}", clean(step.detail)
    head = f"  {style.paint(mark, colour)} {name}"
    if room is None or len(name) + len(detail) + 6 <= room:
        yield f"{head}  {style.paint(detail, 'dim')}" if detail else head
        return
    yield f"{head}\n       {style.paint(hanging(detail, 7, room), 'dim')}"


def _summary(report: Report) -> str:
    parts = [counted(report.counts.get("records", 0), "record")]
    parts += [f"{report.counts[name]:,} {name}" for name in _COUNTED if report.counts.get(name)]
    return ", ".join(parts)


def _coverage(coverage: tuple[Coverage, ...], room: int | None) -> Iterator[str]:
    calls, human = sum(c.calls for c in coverage), sum(c.human for c in coverage)
    yield ""
    yield f"  {human:,} of {calls:,} tool calls are attributable to a human by a valid signature"
    rows = [("CALLS", "ATTRIBUTED", "TO A HUMAN", "TRACED BY")]
    rows += [(f"{c.calls:,}", f"{c.attributed:,}", f"{c.human:,}", clean(c.scope)) for c in coverage[:SHOWN]]
    yield from table(rows, indent="    ", room=room)
    if len(coverage) > SHOWN:
        yield f"    … and {len(coverage) - SHOWN:,} more; --json lists all"


def _findings(report: Report, style: Style, room: int | None) -> Iterator[str]:
    yield ""
    rest = sum(report.problems.values())
    for problem, alike in _grouped(report.findings)[:SHOWN]:
        severity = problem.severity.replace("_", " ")
        text = f"{problem.code}: {alike:,} more of these; --json lists them" if alike else _described(problem)
        described = hanging(text, len(severity) + 4, room)
        yield f"  {style.paint(severity, _COLOURS[problem.severity])}  {described}"
        rest -= alike or 1
    if rest > 0:
        yield f"  … and {rest:,} more; --json lists up to 1,000"


def _grouped(findings: Sequence[Problem]) -> list[tuple[Problem, int]]:
    """Return the findings, each with 0; of many of one kind a few, and then one with the number of the others."""
    numbers = Counter(problem.code for problem in findings)
    seen: Counter[str] = Counter()
    found: list[tuple[Problem, int]] = []
    for problem in findings:
        code = problem.code
        seen[code] += 1
        if numbers[code] <= MANY or seen[code] <= ALIKE:
            found.append((problem, 0))
        elif seen[code] == ALIKE + 1:
            found.append((problem, numbers[code] - ALIKE))
    return found


def _described(problem: Problem) -> str:
    place = [
        f"record {problem.record}" if problem.record else "",
        f"stream {problem.stream}" if problem.stream else "",
        f"seq {problem.seq}" if problem.seq is not None else "",
        f"line {problem.line}" if problem.line is not None else "",
    ]
    where = ", ".join(part for part in place if part)
    return clean(f"{problem.code}: {problem.message}" + (f" ({where})" if where else ""))
