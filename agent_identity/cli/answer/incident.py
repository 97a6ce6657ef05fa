"""``agent-identity report incident``: timeline, authority at each hop, could and did, what to revoke."""

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from agent_identity._reports.answers.constraint_words import bounds_in_words
from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import (
    Authority,
    IncidentReport,
    RevocationEffect,
    ToolReach,
    incident,
)
from agent_identity._reports.answers.incident_seed import Seed
from agent_identity._reports.definitions.definition_history import DefinitionChange
from agent_identity._reports.incident_exports.incident_events import ocsf_incident, timesketch_events
from agent_identity._reports.pages.words import clock, span_of
from agent_identity._verify.report.plurals import counted, elapsed
from agent_identity.cli.answer.framing import answered, cut, emit, plain_markdown, rows_of, table_lines
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.style import Style, clean, hanging, moment
from agent_identity.errors import ConfigurationError

_NAMED: Final = 12
_HOPS: Final = 50
_FEW: Final = 3
_DIGEST: Final = 12
_ENTRIES: Final = 100
_MARKED: Final = 1_000
_TIMELINE: Final = ("TIME", "WHAT", "ON BEHALF OF", "BY", "WHICH", "OUTCOME", "WHY", "RECORD")
_HOP: Final = ("AGENT", "OWNER", "FOR", "PERMITS", "LOST", "NARROWED", "CALLED", "REFUSED", "UNTIL")
_COULD: Final = ("TOOL", "COULD: GRANTS", "OPEN", "UNTIL", "DID: CALLS", "SUCCEEDED", "REFUSED")
_CHANGED: Final = ("TOOL", "OFFERED", "BEFORE", "AFTER", "SETTLED", "STATED", "CALLED MEANWHILE", "REFUSED")
_REACHED: Final = ("WHAT", "NAME", "CALLS", "SEEN", "FIRST RECORD")


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    seed = Seed.parse(chosen.seed)
    if chosen.after is not None:
        if seed.kind != "key":
            raise ConfigurationError("--after goes with a seed key:THUMBPRINT; give --from for other seeds")
        seed = replace(seed, after_ns=moment_ns(chosen.after))
    if chosen.checkpoint is not None and seed.kind != "key":
        raise ConfigurationError("--checkpoint goes with a seed key:THUMBPRINT; leave it out")
    found = answered(chosen, lambda evidence: incident(evidence, seed, checkpoint=chosen.checkpoint))
    return emit(
        chosen,
        found,
        text=lambda style, room: _text(found, style, room),
        rows=lambda: rows_of(Entry, found.timeline),
        markdown=lambda: _markdown(found),
        events={
            "timesketch": lambda made: timesketch_events(found, made_ns=made),
            "ocsf": lambda made: ocsf_incident(found, made_ns=made),
        },
    )


def _text(found: IncidentReport, style: Style, room: int | None) -> Iterator[str]:
    yield style.paint(hanging(clean(_summary(found)), 2, room), "bold")
    if not _any(found):
        return
    for revoked in found.revocations:
        yield style.paint(hanging(clean(_revoked(revoked)), 2, room), "red" if revoked.after else "green")
    for title, rows, most in _tables(found):
        if len(rows) > 1:
            yield ""
            yield style.paint(title, "bold")
            yield from table_lines([[clean(cell) for cell in row] for row in rows], room, most=most)
    if found.commands:
        yield ""
        yield style.paint("to stop it now", "bold")
        yield from (f"  {clean(command)}" for command in found.commands)


def _any(found: IncidentReport) -> bool:
    return bool(found.calls or found.timeline or found.authority)


def _summary(found: IncidentReport) -> str:
    if not _any(found):
        return f"nothing in the evidence concerns {found.seed}"
    parts = [counted(found.calls, "call"), span_of(found.first_ns, found.last_ns), found.proof]
    if found.open_calls:
        parts.append(f"{counted(len(found.open_calls), 'call')} without an outcome")
    if found.open_tasks:
        parts.append(f"{counted(len(found.open_tasks), 'task')} may still act")
    return f"{found.seed}: {', '.join(filter(None, parts))}"


def _revoked(one: RevocationEffect) -> str:
    lifted = f", lifted {moment(one.lifted_ns)}" if one.lifted_ns is not None else ""
    since = "" if one.since_first_ns is None else f", {elapsed(one.since_first_ns)} after the first call"
    after = f"{counted(one.after, 'call')} began afterwards"
    last = f", the last {moment(one.last_ns)}: {', '.join(one.records)}" if one.after else ""
    return (
        f"{one.kind} {one.name} {one.status} {moment(one.at_ns)}{since}{lifted}: {after}{last}; "
        f"{counted(one.refused, 'call')} refused"
    )


def _tables(found: IncidentReport) -> Iterator[tuple[str, list[Sequence[str]], int]]:
    yield "authority at each hop", [_HOP, *_hops(found.authority)], _HOPS
    yield "could and did", [_COULD, *map(_tool, found.tools)], _HOPS
    reached = [
        (one.kind, one.name, f"{one.count:,}", span_of(one.first_ns, one.last_ns), one.record) for one in found.reached
    ]
    yield "reached", [_REACHED, *reached], _HOPS
    opened = [
        (moment(one.at_ns), one.task or "none", one.agent or "no agent", one.tool, one.record)
        for one in found.open_calls
    ]
    yield "without an outcome", [("BEGUN", "TASK", "BY", "TOOL", "RECORD"), *opened], _HOPS
    yield "changed tool definitions", [_CHANGED, *map(_changed, found.definitions)], _HOPS
    yield "timeline", [_TIMELINE, *map(_entry, found.timeline)], _ENTRIES


def _hops(authority: Sequence[Authority]) -> Iterator[Sequence[str]]:
    """Yield a row for each grant; what several grants permit stands in the first of these rows, under a number."""
    blocks = [_block(one) for one in authority]
    again, numbers = Counter(blocks), dict[tuple[str, str, str], int]()
    for one, block in zip(authority, blocks, strict=True):
        if block in numbers:
            yield _hop(one, (f"as ({numbers[block]})", "", ""))
        elif again[block] > 1:
            numbers[block] = len(numbers) + 1
            yield _hop(one, (f"({numbers[block]}) {block[0]}", *block[1:]))
        else:
            yield _hop(one, block)


def _block(one: Authority) -> tuple[str, str, str]:
    return _permits(one), cut(one.lost, _NAMED) or "nothing", cut(one.narrowed, _NAMED) or "nothing"


def _hop(one: Authority, block: tuple[str, ...]) -> Sequence[str]:
    calls = ", ".join(f"{tool} {count:,}" for tool, count in one.calls.items())
    return (
        f"{'  ' * one.depth}{one.agent}{'' if one.selected else ' (above)'}",
        one.owner,
        one.principal,
        *block,
        calls or "nothing",
        f"{one.refused:,}",
        moment(one.expires_ns),
    )


def _permits(one: Authority) -> str:
    named = [
        f"{tool} ({bounds_in_words(arguments)})" if arguments else f"{tool} (any)"
        for tool, arguments in sorted(one.tools.items())
    ]
    return cut(named, _NAMED)


def _tool(one: ToolReach) -> Sequence[str]:
    until = moment(one.until_ns) if one.until_ns else "never granted"
    numbers = (one.calls, one.succeeded, one.refused)
    return (one.tool, f"{one.grants:,}", f"{one.open_grants:,}", until, *(f"{number:,}" for number in numbers))


def _changed(one: DefinitionChange) -> Sequence[str]:
    settled = one.status if one.settled_ns is None else f"{one.status} {moment(one.settled_ns)}"
    calls = f"{one.calls:,}" if not one.calls else f"{one.calls:,}: {cut(one.records, _FEW)}"
    digests = (_short(one.before), _short(one.after))
    return (one.tool, moment(one.at_ns), *digests, settled, one.reason or "", calls, f"{one.refused:,}")


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:_DIGEST]


def _entry(one: Entry) -> Sequence[str]:
    chain = " → ".join(one.agents)
    return (clock(one.at_ns), one.kind, one.principal, chain, one.what, one.outcome, one.why, one.record)


def _markdown(found: IncidentReport) -> Iterable[str]:
    yield f"## {plain_markdown(_summary(found))}"
    yield ""
    for revoked in found.revocations:
        yield f"- {plain_markdown(_revoked(revoked))}"
    for title, rows, _ in _tables(found):
        if len(rows) == 1:
            continue
        yield from ("", f"### {title}", "")
        for number, row in enumerate(rows[: _MARKED + 1]):
            yield f"| {' | '.join(plain_markdown(cell) for cell in row)} |"
            if not number:
                yield f"|{' --- |' * len(row)}"
        if len(rows) > _MARKED + 1:
            yield f"\n{len(rows) - _MARKED - 1:,} more: --json and --csv have them"
    if found.commands:
        yield from ("", "### to stop it now", "")
        yield from (f"    {clean(command)}" for command in found.commands)
