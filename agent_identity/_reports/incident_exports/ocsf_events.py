"""Incident in OCSF: a Detection Finding over it, and an API Activity for each entry of its timeline."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from agent_identity._common.printing import inert
from agent_identity._reports.answers.incident_collecting import Entry
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.export.ocsf_common import OCSF_VERSION, ocsf_product
from agent_identity._reports.incident_exports._entry_text import headline_of, message_of, sources_of
from agent_identity.canonical import JSON

_MS: Final = 1_000_000
_FINDING: Final = 2004
_ACTIVITY: Final = 6003
_OTHER: Final = 99
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
        "class_uid": _ACTIVITY,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": _OTHER,
        "activity_name": entry.kind,
        "type_uid": _ACTIVITY * 100 + _OTHER,
        "type_name": "API Activity: Other",
        "time": entry.at_ns // _MS,
        "status_id": status,
        "status": status_name,
        "severity_id": 2 if refused else 1,
        "message": inert(message_of(entry)),
        "metadata": metadata,
        "actor": _actor(entry),
        "src_endpoint": {"uid": entry.stream, "type_id": _OTHER, "type": "stream of records"},
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
