"""Records in the forms that other systems read: OCSF, CloudEvents, OpenTelemetry audit logs.

Each form is a view. None replaces the record: where a form has room for it, the record travels in it unchanged, and
only that can be verified by its own proofs. What each view leaves out is in the reference.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, cast, final

from agent_identity.audit.sources import PathLike, directory_of, whole
from agent_identity.canonical import JSON, decode_record, encode
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.envelope import PAYLOAD_TYPE
from agent_identity.evidence.records import check_record
from agent_identity.evidence.streams import open_ledger
from agent_identity.identity import Signer
from agent_identity.version import VERSION

__all__ = ["FORMS", "Form", "audit_log_bytes", "export", "to_audit_log", "to_cloudevent", "to_ocsf"]

Form: TypeAlias = Literal["ocsf", "cloudevents", "otel-audit"]
"""A form that records can be exported in."""

FORMS: Final = ("ocsf", "cloudevents", "otel-audit")
"""The forms, by the names that the command line takes."""

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
_OCSF_VERSION: Final = "1.9.0"
_API_ACTIVITY: Final = 6003
_OTHER: Final = 99
_PROFILES: Final = ("ai_operation", "record_integrity", "security_control", "trace")
_ENDED_WELL: Final = frozenset({"success", "routed"})
_ENDED_BADLY: Final = frozenset({"error", "denied", "cancelled"})
_ACTIONS: Final = {"allow": 1, "warn": 1, "block": 2, "route": 99}
_DISPOSITIONS: Final = {"allow": (1, "Allowed"), "block": (2, "Blocked"), "escalate": (7, "Custom Action")}
_SHA256, _HEX, _JCS = 3, 1, 2

_Record: TypeAlias = Mapping[str, object]
_Facts: TypeAlias = Mapping[str, str]
_Json: TypeAlias = dict[str, JSON]


def to_cloudevent(data: bytes) -> _Json:
    """Return a record as a CloudEvent (CloudEvents 1.0.2, JSON format), the record itself in ``data``.

    Args:
        data: The canonical bytes of the record.

    Raises:
        ValueError: They are no record.
    """
    record = _record(data)
    event: _Json = {
        "specversion": "1.0",
        "id": cast("str", record["id"]),
        "source": f"urn:uuid:{_facts(record, 'stream')['id']}",
        "type": f"agent_identity.record.{record['kind']}",
        "time": _rfc3339(_times(record)[0]),
        "datacontenttype": "application/json",
        "sequence": _facts(record, "stream")["seq"].zfill(20),
        "recordsha256": hashlib.sha256(data).hexdigest(),
        "data": cast("JSON", record),
    }
    if "task" in record:
        event["subject"] = _facts(record, "task")["id"]
    if "trace" in record and "span" in (trace := _facts(record, "trace")):
        event["traceparent"] = f"00-{trace['trace']}-{trace['span']}-01"
    return event


def to_ocsf(data: bytes, previous: _Json | None = None) -> _Json:
    """Return a record as an OCSF 1.9 event: API Activity (6003), the record itself in ``raw_data``.

    A tool call is the use of an interface by an actor, allowed or denied by a control: that is this class with the
    profiles ``ai_operation``, ``security_control``, ``trace`` and ``record_integrity``. OCSF knows create, read,
    update and delete; which of them a tool does is not known, so the activity is "Other".

    Args:
        data: The canonical bytes of the record.
        previous: The event of the record before it in the stream, if it is at hand.

    Raises:
        ValueError: They are no record.
    """
    record = _record(data)
    start, end = _times(record)
    stream = _facts(record, "stream")
    operation = _operation(record)
    event: _Json = {
        "class_uid": _API_ACTIVITY,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": _OTHER,
        "activity_name": cast("str", record["kind"]),
        "type_uid": _API_ACTIVITY * 100 + _OTHER,
        "type_name": "API Activity: Other",
        "time": start // _MS,
        "start_time": start // _MS,
        **({} if end is None else {"end_time": end // _MS}),
        **_status(record),
        "metadata": _metadata(record, stream),
        "actor": _actor(record),
        "src_endpoint": {"uid": stream["id"], "type_id": _OTHER, "type": "stream of records"},
        "api": operation,
        "raw_data": data.decode(),
        "raw_data_size": len(data),
        "raw_data_hash": _fingerprint(hashlib.sha256(data).hexdigest()),
        **_control(record),
    }
    if "agent" in record:
        event["ai_agent"] = _ai_agent(record)
    if "trace" in record:
        event["trace"] = {"uid": _facts(record, "trace")["trace"]}
    event["attestation_list"] = [_attested(event, record, previous)]
    return event


def to_audit_log(data: bytes, signer: Signer | None = None) -> _Json:
    """Return a record as a LogRecord of the OpenTelemetry audit-log draft, in OTLP/JSON, the record in its body.

    All attributes are strings, since the draft and its code do not write integers alike.

    Args:
        data: The canonical bytes of the record.
        signer: Signs the canonical bytes of the LogRecord (:func:`audit_log_bytes`); without one it has no
            ``audit.integrity.value``.

    Raises:
        ValueError: They are no record.
    """
    record = _record(data)
    start, end = _times(record)
    stream = _facts(record, "stream")
    kind, who = _audit_actor(record)
    attributes: dict[str, str] = {
        "audit.record.id": cast("str", record["id"]),
        "audit.actor.id": who,
        "audit.actor.type": kind,
        "audit.action": "EXECUTE" if "action" in record else cast("str", record["kind"]).upper(),
        "audit.outcome": _audit_outcome(record),
        "audit.schema.version": "1",
        "audit.sequence.stream_id": stream["id"],
        **({"audit.sequence.previous_hash": stream["prev"]} if "prev" in stream else {}),
        **(
            {"audit.target.id": _facts(record, "action")["tool"], "audit.target.type": "tool"}
            if "action" in record
            else {}
        ),
    }
    log: _Json = {
        "eventName": f"agent_identity.{record['kind']}",
        "timeUnixNano": str(start),
        "observedTimeUnixNano": str(start if end is None else end),
        "body": {"stringValue": data.decode()},
    }
    if "trace" in record:
        trace = _facts(record, "trace")
        log["traceId"] = trace["trace"]
        log |= {"spanId": trace["span"]} if "span" in trace else {}
    log["attributes"] = [{"key": key, "value": {"stringValue": attributes[key]}} for key in sorted(attributes)]
    if signer is not None:
        signature = b64encode(signer.sign(audit_log_bytes(log))).decode()
        integrity = {"audit.integrity.canonicalization": "jcs", "audit.integrity.value": signature}
        attributes |= integrity
        log["attributes"] = [{"key": key, "value": {"stringValue": attributes[key]}} for key in sorted(attributes)]
    return log


def audit_log_bytes(log: _Json) -> bytes:
    """Return the canonical bytes of a LogRecord: what its ``audit.integrity.value`` signs.

    They are RFC 8785 over event name, body, both times in decimal, ids unless they are zero, and all attributes but
    ``audit.integrity.*``.
    """
    attributes = cast("Sequence[Mapping[str, JSON]]", log["attributes"])
    members = {
        "event_name": log["eventName"],
        "body": log["body"],
        "timestamp": log["timeUnixNano"],
        "observed_timestamp": log["observedTimeUnixNano"],
        "attributes": {
            cast("str", item["key"]): item["value"]
            for item in attributes
            if not cast("str", item["key"]).startswith("audit.integrity.")
        },
    }
    ids = {name: log[key] for name, key in (("trace_id", "traceId"), ("span_id", "spanId")) if key in log}
    return encode({**members, **ids})


def export(
    directory: PathLike, form: Form, *, since_ns: int = 0, signer: Signer | None = None, sealed_only: bool = False
) -> Iterator[bytes]:
    """Return the records of an evidence directory in another form, one line of JSON each, stream after stream.

    It reads and does not verify; what is no record is left out.

    Args:
        directory: The evidence directory.
        form: The form.
        since_ns: Only records whose start is not before this, in nanoseconds since the Unix epoch.
        signer: For ``otel-audit``: signs each LogRecord.
        sealed_only: Only records that a head in the log covers.

    Raises:
        ConfigurationError: There is no evidence directory, or the form is not known.
    """
    root = directory_of(directory)
    if root is None:
        raise ConfigurationError("expected an evidence directory, got something else; check the path")
    if form not in FORMS:
        raise ConfigurationError(f"expected one of the forms {', '.join(FORMS)}, got another")
    return _lines(root, _Writer(form, signer), since_ns, sealed_only=sealed_only)


def _lines(root: str, writer: "_Writer", since_ns: int, *, sealed_only: bool) -> Iterator[bytes]:
    reader = whole(open_ledger(root))
    sizes = reader.sealed_sizes() if sealed_only else None
    for stream in reader.streams():
        writer.begin()
        for line in reader.entries(stream):
            if line.record is None:
                continue
            try:
                record = _record(line.record)
            except ValueError:
                continue
            if _times(record)[0] < since_ns:
                continue
            if sizes is not None and int(_facts(record, "stream")["seq"]) > sizes.get(stream, 0):
                break
            yield writer.write(line.record)


@final
class _Writer:
    """Writes records in one form."""

    def __init__(self, form: Form, signer: Signer | None) -> None:
        self._previous: _Json | None = None
        self._signer = signer
        forms: Mapping[str, Callable[[bytes], JSON]] = {
            "ocsf": self._ocsf,
            "cloudevents": to_cloudevent,
            "otel-audit": self._audit_log,
        }
        self._form = forms[form]

    def begin(self) -> None:
        """Begin another stream."""
        self._previous = None

    def write(self, data: bytes) -> bytes:
        """Return the line of a record."""
        return encode(self._form(data)) + b"\n"

    def _ocsf(self, data: bytes) -> _Json:
        self._previous = to_ocsf(data, self._previous)
        return self._previous

    def _audit_log(self, data: bytes) -> _Json:
        log = to_audit_log(data, self._signer)
        resource: list[JSON] = [_attribute("service.name", "agent-identity")]
        if self._signer is not None:
            resource.append(_attribute("audit.integrity.algorithm", "EdDSA"))
            resource.append(_attribute("audit.integrity.certificate", self._signer.public_key.thumbprint))
        return {"resourceLogs": [{"resource": {"attributes": resource}, "scopeLogs": [{"logRecords": [log]}]}]}


def _attribute(key: str, value: str) -> _Json:
    return {"key": key, "value": {"stringValue": value}}


def _record(data: bytes) -> _Record:
    record = decode_record(data)
    check_record(record)
    return record


def _facts(record: _Record, name: str) -> _Facts:
    return cast("_Facts", record[name])


def _times(record: _Record) -> tuple[int, int | None]:
    times = _facts(record, "time")
    return int(times["start"]), int(times["end"]) if "end" in times else None


def _rfc3339(ns: int) -> str:
    seconds, rest = divmod(ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _fingerprint(value: str, serialization: int | None = None) -> _Json:
    found: _Json = {"algorithm_id": _SHA256, "algorithm": "SHA-256", "encoding_id": _HEX, "value": value}
    return found if serialization is None else {**found, "serialization_id": serialization, "serialization": "JCS"}


def _status(record: _Record) -> _Json:
    outcome = cast("str | None", record.get("outcome"))
    if outcome in _ENDED_WELL:
        return {"status_id": 1, "status": "Success", "status_code": outcome, "severity_id": 1}
    if outcome in _ENDED_BADLY:
        severity = 2 if outcome == "denied" else 1
        return {"status_id": 2, "status": "Failure", "status_code": outcome, "severity_id": severity}
    other: _Json = {} if outcome is None else {"status_code": outcome}
    return {"status_id": 0, "status": "Unknown", "severity_id": 1, **other}


def _metadata(record: _Record, stream: _Facts) -> _Json:
    found: _Json = {
        "version": _OCSF_VERSION,
        "product": {"name": "agent-identity-otel", "vendor_name": "agent-identity", "version": VERSION},
        "profiles": list(_PROFILES),
        "uid": cast("str", record["id"]),
        "sequence": int(stream["seq"]),
        "log_format": PAYLOAD_TYPE,
        "log_version": "1",
    }
    return {**found, "correlation_uid": _facts(record, "task")["id"]} if "task" in record else found


def _actor(record: _Record) -> _Json:
    if "principal" not in record:
        return {"app_name": "agent-identity-otel"}
    principal = cast("Mapping[str, JSON]", record["principal"])
    user: _Json = {"uid": principal["id"], "type_id": 1 if principal["kind"] == "human" else 4}
    if "roles" in principal:
        user["groups"] = [{"name": role} for role in cast("Sequence[str]", principal["roles"])]
    chain = cast("Sequence[_Facts]", record.get("chain", ()))
    invoked = " -> ".join(link["id"] for link in chain)
    return {"user": user, **({"invoked_by": invoked} if invoked else {})}


def _ai_agent(record: _Record) -> _Json:
    agent = _facts(record, "agent")
    found: _Json = {"uid": agent["id"], "name": agent["id"]}
    found |= {"version": agent["version"]} if "version" in agent else {}
    return {**found, "instance_uid": _facts(record, "stream")["id"]}


def _operation(record: _Record) -> _Json:
    if "action" not in record:
        return {"operation": f"agent_identity.{record['kind']}"}
    action = _facts(record, "action")
    found: _Json = {"operation": action["tool"]}
    found |= {"service": {"name": action["server"]}} if "server" in action else {}
    uid = record.get("intent", record["id"])
    found["request"] = {"uid": cast("str", uid)}
    if "error" in record:
        found["response"] = {"error": cast("str", record["error"])}
    return found


def _control(record: _Record) -> _Json:
    if "decision" not in record:
        return {}
    decision = _facts(record, "decision")
    disposition = _DISPOSITIONS.get(decision["enforced"], (17, "Logged"))
    found: _Json = {
        "action_id": _ACTIONS[decision["effect"]],
        "action": decision["effect"],
        "disposition_id": disposition[0],
        "disposition": disposition[1],
        "status_detail": decision["reason"],
    }
    names = {"name": "policy", "version": "version", "uid": "rule"}
    policy: _Json = {name: decision[member] for name, member in names.items() if member in decision}
    if "name" in policy or "uid" in policy:
        found["policy"] = policy
    return found


def _attested(event: _Json, record: _Record, previous: _Json | None) -> _Json:
    """Return the attestation of an event: its fingerprint over all else, and that of the event before."""
    attestation: _Json = {"uid": cast("str", record["id"]), "chain_uid": _facts(record, "stream")["id"]}
    if previous is not None:
        before = cast("Sequence[Mapping[str, JSON]]", previous["attestation_list"])[0]
        attestation["prev_event"] = {
            "uid": before["uid"],
            "type_uid": previous["type_uid"],
            "fingerprint": before["fingerprint"],
        }
    data = encode({**event, "attestation_list": [attestation]})
    return {**attestation, "fingerprint": _fingerprint(hashlib.sha256(data).hexdigest(), _JCS)}


def _audit_actor(record: _Record) -> tuple[str, str]:
    if "principal" in record:
        principal = _facts(record, "principal")
        # The draft: what a human had begun is of type user, even where an agent acts on the human's behalf.
        return ("user" if principal["kind"] == "human" else "service"), principal["id"]
    if "agent" in record:
        return "service", _facts(record, "agent")["id"]
    return "system", "agent-identity-otel"


def _audit_outcome(record: _Record) -> str:
    outcome = record.get("outcome")
    return "success" if outcome in _ENDED_WELL else "failure" if outcome in _ENDED_BADLY else "unknown"
