"""An incident as events for the tools of responders: OCSF, and JSON lines for Timesketch.

In OCSF it is a Detection Finding, and an API Activity for each entry of the timeline.
"""

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from agent_identity._common.printing import inert
from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.answers.report_frame import Frame
from agent_identity._reports.export.ocsf_common import OCSF_VERSION, ocsf_activity, ocsf_product, ocsf_stream
from agent_identity._verify.report.plurals import counted
from agent_identity.canonical import JSON

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


_MS: Final = 1_000_000
_FINDING: Final = 2004
_STATUS: Final[Mapping[str, tuple[int, str]]] = {
    "success": (1, "Success"),
    "routed": (1, "Success"),
    "error": (2, "Failure"),
    "denied": (2, "Failure"),
    "cancelled": (2, "Failure"),
}

_Json: TypeAlias = dict[str, JSON]


def ocsf_incident(report: IncidentReport, *, made_ns: int) -> Iterator[_Json]:
    """Yield a Detection Finding (2004) for the incident, then an API Activity (6003) for each entry in order.

    ``metadata.uid`` of an activity is the id of the record, as in ``export --as ocsf``, so that both can be joined. The
    severity of the finding is "Unknown": the report reconstructs and does not rate. All text is inert.

    Args:
        report: The report.
        made_ns: When it was made.
    """
    finding = hashlib.sha256("\n".join([str(report.seed), *(one.record for one in report.timeline)]).encode())
    uid = finding.hexdigest()
    yield _finding(report, uid, made_ns)
    for entry in report.timeline:
        yield _activity(entry, report, uid)


def _finding(report: IncidentReport, uid: str, made_ns: int) -> _Json:
    frame, headline = report.frame, inert(headline_of(report))
    seen: _Json = {}
    if report.first_ns:
        seen = {"first_seen_time": report.first_ns // _MS, "last_seen_time": report.last_ns // _MS}
    return {
        "class_uid": _FINDING,
        "class_name": "Detection Finding",
        "category_uid": 2,
        "category_name": "Findings",
        "activity_id": 1,
        "activity_name": "Create",
        "type_uid": _FINDING * 100 + 1,
        "type_name": "Detection Finding: Create",
        "time": made_ns // _MS,
        "severity_id": 0,
        "severity": "Unknown",
        "status_id": 1,
        "status": "New",
        "message": headline,
        "metadata": {"version": OCSF_VERSION, "product": ocsf_product(), "profiles": ["incident"], "uid": uid},
        "finding_info": {
            "uid": uid,
            "title": headline,
            "types": ["incident report"],
            "related_events_count": len(report.timeline),
            **seen,
        },
        "unmapped": {
            "seed": inert(str(report.seed)),
            "verdict": frame.verdict,
            "proof": report.proof,
            "command": inert(frame.command or ""),
            "sources": [*sources_of(frame)],
            "not_shown": [inert(note) for note in frame.notes],
            "omitted": report.omitted,
        },
    }


def _activity(entry: Entry, report: IncidentReport, uid: str) -> _Json:
    status, status_name = _STATUS.get(entry.outcome, (0, "Unknown")) if entry.kind == "call" else (0, "Unknown")
    refused = entry.kind == "call" and entry.outcome == "denied"
    metadata: _Json = {
        "version": OCSF_VERSION,
        "product": ocsf_product(),
        "profiles": ["ai_operation"],
        "uid": entry.record,
    }
    metadata |= {"correlation_uid": inert(entry.task)} if entry.task else {}
    called = inert(entry.what) if entry.kind == "call" else f"agent_identity.{entry.kind}"
    event: _Json = {
        **ocsf_activity(entry.kind),
        "time": entry.at_ns // _MS,
        "status_id": status,
        "status": status_name,
        "severity_id": 2 if refused else 1,
        "message": inert(message_of(entry)),
        "metadata": metadata,
        "actor": _actor(entry),
        "src_endpoint": ocsf_stream(entry.stream),
        "api": {"operation": called, "request": {"uid": entry.record}},
        "unmapped": {"finding": uid, "verdict": report.frame.verdict, "proof": report.proof},
    }
    event |= {"status_code": entry.outcome} if entry.outcome else {}
    event |= {"status_detail": inert(entry.why)} if entry.why else {}
    if entry.agents:
        agent = inert(entry.agents[-1])
        event["ai_agent"] = {"uid": agent, "name": agent, "instance_uid": entry.stream}
    return event


def _actor(entry: Entry) -> _Json:
    actor: _Json = {"user": {"uid": inert(entry.principal)}} if entry.principal else {}
    actor |= {"invoked_by": inert(" -> ".join(entry.agents))} if entry.agents else {}
    return actor or {"app_name": "agent-identity-otel"}


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


def message_of(entry: Entry) -> str:
    """Return who did what on whose behalf, how it ended, and why."""
    chain = " → ".join(entry.agents)
    parts = [
        f"{entry.kind} {entry.what}" if entry.what else entry.kind,
        f"by {chain}" if chain else "",
        f"for {entry.principal}" if entry.principal else "",
        f": {entry.outcome}" if entry.outcome else "",
        f"({entry.why})" if entry.why else "",
    ]
    return " ".join(filter(None, parts)).replace(" : ", ": ")


def headline_of(report: IncidentReport) -> str:
    """Return the seed with its number of calls and the verdict on the evidence."""
    return f"{report.seed}: {counted(report.calls, 'call')}, evidence {report.frame.verdict}"


def sources_of(frame: Frame) -> Iterator[str]:
    """Yield each source with its verdict and the origin of the keys that it was verified with."""
    for source in frame.sources:
        origin = f", from {source.keys_from}" if source.keys_from else ""
        yield inert(f"{source.place}: {source.kind}, {source.verdict}, keys {source.trust}{origin}")
