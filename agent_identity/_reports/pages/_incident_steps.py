"""The steps of an incident: what happened in the task of the first refused call, one line for each."""

from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.pages._layout import badge, record_code, time_cell
from agent_identity._reports.pages._markup import Content, Markup, element, joined
from agent_identity._reports.pages.words import clock, moment
from agent_identity._verify.report.durations import elapsed
from agent_identity._verify.report.plurals import counted

_MOST: Final = 16
_BEFORE: Final = 5
_LONG_NS: Final = 60 * 10**9
_KINDS: Final = frozenset({"call", "approval", "revocation"})
_TONES: Final = {
    "denied": "bad",
    "rejected": "bad",
    "error": "warn",
    "unknown": "warn",
    "cancelled": "warn",
    "suspended": "warn",
    "revoked": "warn",
    "success": "good",
    "approved": "good",
}


def steps(found: IncidentReport) -> Markup | None:
    """Return the steps, or ``None`` if no call was refused."""
    entries = [entry for entry in found.timeline if entry.kind in _KINDS]
    first = _telling(found, entries)
    if first is None:
        return None
    stops = {one.record for one in found.revocations}
    own = [first]
    if first.task:
        last_ns = max(entry.at_ns for entry in entries if entry.task == first.task)
        own = [one for one in entries if one.task == first.task or _belongs(one, first, stops, last_ns)]
    begin = max(0, min(own.index(first) - _BEFORE, len(own) - _MOST))
    shown = own[begin : begin + _MOST]
    left = len(own) - len(shown)
    purpose = next((one.what for one in found.timeline if one.kind == "begun" and one.task == first.task), "")
    for_ = f" for {first.principal}" if first.principal else ""
    about = f"{purpose or 'The first refused call, and its task'}{for_}, {moment(first.at_ns)[:10]}"
    parts: list[Content] = [element("p", about), element("ol", *_items(shown), class_="steps")]
    if left:
        parts.append(element("p", f"{counted(left, 'further step')}: in the timeline", class_="more"))
    return joined(parts)


def _telling(found: IncidentReport, entries: Sequence[Entry]) -> Entry | None:
    """Return the first refused call of the task that was stopped, or else of the one with the most refused calls."""
    refused: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.kind == "call" and entry.outcome == "denied":
            refused.setdefault(entry.task, []).append(entry)
    stopped = [
        calls
        for calls in refused.values()
        if calls[0].task and any(_names(one.kind, one.name, calls[0]) for one in found.revocations)
    ]
    of_tasks = [calls for task, calls in refused.items() if task]
    best = max(stopped or of_tasks or refused.values(), key=len, default=None)
    return None if best is None else best[0]


def _names(kind: str, name: str, entry: Entry) -> bool:
    return kind == "everything" or (kind == "agent" and name in entry.agents) or (kind == "task" and name == entry.task)


def _belongs(entry: Entry, first: Entry, stops: set[str], last_ns: int) -> bool:
    """Return whether a revocation stopped this task, or was lifted while it went on."""
    if entry.kind != "revocation" or not first.at_ns <= entry.at_ns <= last_ns + _LONG_NS:
        return False
    kind, _, name = entry.what.partition(" ")
    return entry.record in stops or _names(kind, name, first)


def _items(shown: Sequence[Entry]) -> Iterator[Markup]:
    before: Entry | None = None
    for entry in shown:
        gap = 0 if before is None else entry.at_ns - before.at_ns
        if gap >= _LONG_NS:
            yield element("li", f"{elapsed(gap)} later", class_="gap")
        tone = _TONES.get(entry.outcome, "note")
        who = " → ".join(entry.agents)
        words = f"{who}: {entry.what}" if who else entry.what
        why = f" ({entry.why.replace('_', ' ')})" if entry.why and tone != "good" else ""
        line: list[Content] = [
            time_cell(clock(entry.at_ns, "%H:%M:%S")),
            " ",
            badge(entry.outcome or "none", tone),
            " ",
        ]
        yield element("li", *line, words, why, " ", record_code(entry.record), class_=tone)
        before = entry
