"""``agent-identity verify``: check that the evidence is unchanged and complete."""

import argparse
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.api import Verifier
from agent_identity._verify.inputs.sources import is_bundle
from agent_identity._verify.ledger.external_evidence import Timestamps
from agent_identity._verify.report.periods import Period
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Coverage, Problem, Report, Step
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.sources import expanded, is_directory, kept_trust, named, several_hosts, trees
from agent_identity.cli.terminal.style import Estimate, Progress, Style, clean, columns, hanging, table
from agent_identity.errors import ConfigurationError

SHOWN: Final = 20
"""Findings that are printed; ``--json`` has more."""

MANY: Final = 10
"""Findings of one kind; beyond that, only :data:`ALIKE` are printed, and the number of the others."""

ALIKE: Final = 3

_MAX_TRUST: Final = 1 << 20
_HEAD: Final = 512  # Bytes.
_OTHER_FILE: Final = frozenset({"malformed_document", "no_trust", "nothing_to_verify"})
_COMMENTS: Final = frozenset({b"#", b"<", b"/", b"-", b"'"})  # First bytes of source text that begin no JSON.
_SELDOM: Final = (100_000, 50, 100)
"""Thresholds of the garbage collector: a verification makes few cycles and millions of small objects."""

VERDICTS: Final = {
    "verified": ("VERIFIED", "green"),
    "contradicted": ("NOT VERIFIED: contradicted", "red"),
    "cannot_tell": ("CANNOT TELL", "yellow"),
    "incomplete": ("VERIFIED, BUT INCOMPLETE", "yellow"),
}
_RANKS: Final = ("contradicted", "cannot_tell", "incomplete", "verified")
_MARKS: Final = {"passed": ("✓", "green"), "failed": ("✗", "red"), "not_checked": ("·", "yellow")}
_COLOURS: Final = {"contradicted": "red", "cannot_tell": "yellow", "incomplete": "yellow", "notice": "dim"}
_COUNTED: Final = ("denied", "unknown", "unsealed", "pruned", "withheld")
_TRUST: Final = {
    "given": "keys given by you",
    "self-asserted": "self-asserted: the keys came from beside the ledger; give --trust with a copy kept elsewhere",
    "none": "no keys: give --trust",
}


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if not chosen.source and chosen.files_from is None:
        chosen.misused("the source is missing; give a SOURCE or --files-from")
    chosen.source = expanded(chosen.source, chosen.files_from)
    fleet = not chosen.span and (several_hosts(chosen.source) or bool(chosen.issued))
    if not fleet:
        chosen.source = trees(chosen.source)
        named(chosen.source)
    _refuse_trust_file(chosen.source)
    if fleet:
        _refuse_of_one(chosen)
    else:
        _refuse_unused(chosen)
    period = _period(chosen.start, chosen.stop)
    progress = Progress(sys.stderr, "verifying")
    estimate = Estimate(time.monotonic)
    gc.freeze()
    gc.set_threshold(*_SELDOM)
    try:
        report = _report(
            chosen,
            period,
            lambda done, total: progress.update(done, total, estimate.left(done, total)),
            fleet=fleet,
        )
    finally:
        progress.clear()
    if not chosen.span and not fleet:
        _refuse_other_file(chosen.source, report)
    if chosen.json:
        print(json.dumps(report.to_json()))
    else:
        print("\n".join(lines(report, Style(sys.stdout), columns(sys.stdout))))
        if not chosen.span and any(problem.code == "malformed_document" for problem in report.findings):
            print("\nIf this is JSON as a back end shows spans: agent-identity verify --span FILE")
    return report.exit_code


def _report(
    chosen: argparse.Namespace,
    period: tuple[int, int] | None,
    progress: Callable[[int, int], None],
    *,
    fleet: bool,
) -> Report:
    """Verify the sources, as hosts, as directory or bundle, as pasted spans, or as files of traces.

    Raises:
        ConfigurationError: A file cannot be read, or an option does not fit the sources.
    """
    verifier = Verifier(
        kept_trust(chosen),
        processes=chosen.processes,
        witnesses=chosen.witness,
        require=chosen.require,
        timestamps=_authority(chosen.tsa_certificate),
        progress=progress,
    )
    if fleet:
        return verifier.fleet(*chosen.source, period=period, issued=chosen.issued)
    disclosures = chosen.disclosures
    if _is_ledger(chosen.source):
        kept, archive = chosen.checkpoint, chosen.archive
        return verifier.ledger(
            chosen.source[0], checkpoint=kept, archive=archive, period=period, disclosures=disclosures
        )
    if period is not None:
        raise ConfigurationError("--from and --until need an evidence directory; leave them out for traces")
    ledger, redacted = chosen.ledger, chosen.redacted
    if chosen.span:
        shown = [name if name == "-" else Path(name) for name in chosen.source]
        return verifier.pasted(*shown, ledger=ledger, redacted=redacted, disclosures=disclosures)
    return verifier.traces(*chosen.source, ledger=ledger, redacted=redacted, disclosures=disclosures)


def _is_ledger(sources: Sequence[str]) -> bool:
    return is_directory(sources[0]) or (len(sources) == 1 and is_bundle(sources[0]))


def _refuse_trust_file(sources: Sequence[str]) -> None:
    """Refuse a trust file that is named as evidence.

    Raises:
        ConfigurationError: A source is a trust file.
    """
    for source in sources:
        if source.endswith(".json") and Path(source).is_file() and Path(source).stat().st_size <= _MAX_TRUST:
            try:
                TrustStore.load(source)
            except ConfigurationError:
                continue
            raise ConfigurationError(
                f"{source!r} is a trust file, with public keys and no evidence; run verify SOURCE --trust {source}"
            )


def _refuse_other_file(sources: Sequence[str], report: Report) -> None:
    """Refuse a text that is no evidence at all, instead of a finding for each of its lines.

    Raises:
        ConfigurationError: The only source is a file without a span whose text does not begin as JSON does.
    """
    if len(sources) > 1 or report.counts.get("spans") or {one.code for one in report.findings} - _OTHER_FILE:
        return
    source = Path(sources[0])
    if report.counts.get("malformed") and source.is_file():
        with source.open("rb") as file:
            head = file.read(_HEAD).lstrip(b"\xef\xbb\xbf \t\r\n")
        if (head.isascii() and head[:1].isalnum()) or head[:1] in _COMMENTS:
            raise ConfigurationError(
                f"{sources[0]!r} is no evidence: no evidence directory, bundle or file of OTLP traces; give the "
                "directory of the enforcer, or what was exported from it"
            )


def _period(start: str | None, stop: str | None) -> tuple[int, int] | None:
    """Return the period of ``--from`` and ``--until``, in nanoseconds.

    Raises:
        ConfigurationError: Only one time was given, or one is malformed.
    """
    if start is None and stop is None:
        return None
    if start is None or stop is None:
        raise ConfigurationError("--from and --until go together; give the other one as well")
    return moment_ns(start), moment_ns(stop)


def _refuse_unused(chosen: argparse.Namespace) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigurationError: An option does not fit the source.
    """
    if chosen.span and is_directory(chosen.source[0]):
        raise ConfigurationError(
            "--span goes with JSON of spans, and the source is an evidence directory; give it as --ledger, or leave "
            "--span out"
        )
    if _is_ledger(chosen.source):
        if chosen.ledger is not None or chosen.redacted:
            raise ConfigurationError(
                "--ledger and --redacted go with traces, and the source is an evidence directory; leave them out"
            )
    elif any((chosen.checkpoint, chosen.witness, chosen.require, chosen.tsa_certificate, chosen.archive)):
        raise ConfigurationError(
            "--checkpoint, --witness, --require, --tsa-certificate and --archive go with an evidence directory, and "
            "the source is traces; leave them out"
        )
    elif chosen.ledger is not None and chosen.trust is None:
        raise ConfigurationError(
            "--ledger needs --trust; give a copy of the ledger's trust.json that was kept elsewhere"
        )


def _refuse_of_one(chosen: argparse.Namespace) -> None:
    """Refuse options that say something about one host.

    Raises:
        ConfigurationError: One was given.
    """
    if chosen.issued and chosen.trust is None:
        raise ConfigurationError("--issued is judged by the roots of a trust file; give --trust as well")
    if any((chosen.ledger, chosen.redacted, chosen.checkpoint, chosen.archive, chosen.disclosures)):
        raise ConfigurationError(
            "--ledger, --redacted, --checkpoint, --archive and --disclosures go with one source, and there are "
            "several hosts; verify the host that they belong to by itself"
        )


def _authority(path: str | None) -> Timestamps | None:
    if path is None:
        return None
    from agent_identity.integrations.rfc3161 import Authority  # An extra.

    return Authority.load(path)


def lines(report: Report, style: Style, room: int | None = None) -> Iterator[str]:
    """Yield the report for people: the verdict, then the reasons.

    Args:
        report: The report.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    words, colour = VERDICTS[report.verdict]
    yield style.paint(words, colour, "bold") + f"  {_summary(report)}"
    yield f"  integrity     {report.integrity.replace('_', ' ')}"
    yield f"  completeness  {hanging(report.completeness_words, 16, room)}"
    yield f"  trust         {hanging(_TRUST[report.trust], 16, room)}"
    if report.period is not None:
        yield f"  period        {hanging(_shown_period(report.period), 16, room)}"
    yield ""
    if report.hosts:
        yield from _hosts(report.hosts, style, room)
    yield from report_lines(report, style, room)


def _hosts(hosts: Sequence[Report], style: Style, room: int | None) -> Iterator[str]:
    """Yield the hosts, the worst first."""
    worst = sorted(hosts, key=lambda host: (_RANKS.index(host.weighs), host.place))
    rows = [("VERDICT", "RECORDS", "HOST"), *map(_host, worst)]
    yield from table(rows[: SHOWN + 1], indent="  ", room=room)
    if len(worst) > SHOWN:
        counts = Counter(host.verdict for host in worst[SHOWN:])
        words = ", ".join(f"{counts[verdict]:,} {verdict.replace('_', ' ')}" for verdict in _RANKS if counts[verdict])
        yield style.paint(f"  … and {counted(len(worst) - SHOWN, 'more host')}: {words}; --json lists all", "dim")
    yield ""


def _host(host: Report) -> tuple[str, str, str]:
    notes = [] if host.copy_of is None else [f"a copy of {host.copy_of}, not counted again"]
    notes += [] if host.period is None else [f"in the period {_shown_period(host.period)}"]
    place = f"{host.place} ({'; '.join(notes)})" if notes else f"{host.place}"
    return host.verdict.replace("_", " "), f"{host.counts.get('records', 0):,}", clean(place)


def _shown_period(period: Period) -> str:
    state = period.state.replace("_", " ")
    return f"{state}: {counted(period.records, 'record')}, {counted(period.signs, 'sign')} of life; {period.why}"


def report_lines(report: Report, style: Style, room: int | None) -> Iterator[str]:
    """Yield the steps, the coverage and the findings."""
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
    parts = [counted(report.counts["hosts"], "host")] if report.hosts else []
    parts += [counted(report.counts.get("records", 0), "record")]
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
    """Return the findings, each with 0; of a large group a few, then one with the number of the others."""
    numbers = Counter(problem.code for problem in findings)
    so_far: Counter[str] = Counter()
    grouped: list[tuple[Problem, int]] = []
    for problem in findings:
        code = problem.code
        so_far[code] += 1
        if numbers[code] <= MANY or so_far[code] <= ALIKE:
            grouped.append((problem, 0))
        elif so_far[code] == ALIKE + 1:
            grouped.append((problem, numbers[code] - ALIKE))
    return grouped


def _described(problem: Problem) -> str:
    place = [
        f"record {problem.record}" if problem.record else "",
        f"stream {problem.stream}" if problem.stream else "",
        f"seq {problem.seq}" if problem.seq is not None else "",
        f"line {problem.line}" if problem.line is not None else "",
    ]
    where = ", ".join(part for part in place if part)
    return clean(f"{problem.code}: {problem.message}" + (f" ({where})" if where else ""))
