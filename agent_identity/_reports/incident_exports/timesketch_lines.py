"""Timeline of an incident as Timesketch imports it: JSON lines, each an event with a time."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from agent_identity._common.printing import inert
from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.incident_exports._entry_text import headline_of, message_of, sources_of

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KIND: Final = "agent_identity:incident"
_TIMES: Final[Mapping[str, str]] = {
    "grant": "Grant Issued",
    "begun": "Task Begun",
    "ended": "Task Ended",
    "call": "Call Begun",
    "approval": "Approval Recorded",
    "revocation": "Revocation Recorded",
    "policy": "Policy In Force",
}


def timesketch_events(report: IncidentReport, *, made_ns: int) -> Iterator[dict[str, str | int]]:
    """Yield the entries of the timeline in order, and at last the report itself with what it does not show.

    Each event has the fields that Timesketch requires (``message``, ``datetime``, ``timestamp_desc``) and the members
    of the entry. All text is inert.

    Args:
        report: The report.
        made_ns: When it was made.
    """
    for entry in report.timeline:
        yield _event(entry, report)
    frame = report.frame
    yield {
        "message": inert(headline_of(report)),
        **_moment(made_ns),
        "timestamp_desc": "Report Made",
        "data_type": f"{_KIND}:report",
        **_shared(report),
        "command": inert(frame.command or ""),
        "sources": "; ".join(sources_of(frame)),
        "version": frame.version,
        "not_shown": inert("; ".join(frame.notes)),
    }


def _event(entry: Entry, report: IncidentReport) -> dict[str, str | int]:
    members = {
        "record": entry.record,
        "task": entry.task,
        "principal": entry.principal,
        "agent": entry.agents[-1] if entry.agents else "",
        "chain": " → ".join(entry.agents),
        "what": entry.what,
        "outcome": entry.outcome,
        "why": entry.why,
        "source": report.frame.sources[entry.source].place,
        "stream": entry.stream,
    }
    return {
        "message": inert(message_of(entry)),
        **_moment(entry.at_ns),
        "timestamp_desc": _TIMES[entry.kind],
        "data_type": f"{_KIND}:{entry.kind}",
        **_shared(report),
        **{name: inert(value) for name, value in members.items() if value},
    }


def _moment(at_ns: int) -> dict[str, str | int]:
    """Return a time in whole microseconds, which is what Timesketch keeps."""
    micros = at_ns // 1_000
    then = _EPOCH + timedelta(microseconds=micros)
    return {"datetime": then.isoformat(timespec="microseconds"), "timestamp": micros}


def _shared(report: IncidentReport) -> dict[str, str]:
    return {"seed": inert(str(report.seed)), "verdict": report.frame.verdict, "proof": report.proof}
