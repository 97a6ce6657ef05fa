"""Exports records in the formats of other systems: OCSF, CloudEvents, OpenTelemetry audit logs.

Each format is a view and does not replace the record: where a format has room, it carries the record unchanged, and
only that copy can be verified by its proofs. The reference lists what each view leaves out.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, cast, final

from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.codec import as_dict, decode
from agent_identity._record.disclosures import action_of
from agent_identity._record.parts import Agent, Hop, Principal, Stream, Task, Trace
from agent_identity._record.schema import AnyRecord, Intent, Outcome
from agent_identity._reports.export.ocsf_common import OCSF_VERSION, ocsf_activity, ocsf_product, ocsf_stream
from agent_identity._spans.envelope import PAYLOAD_TYPE
from agent_identity._verify.inputs.sources import PathLike, directory_of, whole
from agent_identity.canonical import JSON, encode
from agent_identity.errors import ConfigurationError

Form: TypeAlias = Literal["ocsf", "cloudevents", "otel-audit"]
"""A format for exported records."""

FORMS: Final = ("ocsf", "cloudevents", "otel-audit")
"""The formats, by their names on the command line."""

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
_PROFILES: Final = ("ai_operation", "record_integrity", "security_control", "trace")
_ENDED_WELL: Final = frozenset({"success", "routed"})
_ENDED_BADLY: Final = frozenset({"error", "denied", "cancelled"})
_ACTIONS: Final = {"allow": 1, "warn": 1, "block": 2, "route": 99}
_DISPOSITIONS: Final = {"allow": (1, "Allowed"), "block": (2, "Blocked"), "escalate": (7, "Custom Action")}
_SHA256, _HEX, _JCS = 3, 1, 2

_Json: TypeAlias = dict[str, JSON]


def to_cloudevent(data: bytes) -> _Json:
    """Return a record as a CloudEvent (CloudEvents 1.0.2, JSON format), the record itself in ``data``.

    Args:
        data: The canonical bytes of the record.

    Raises:
        ValueError: They are no record.
    """
    record = decode(data)
    event: _Json = {
        "specversion": "1.0",
        "id": record.id,
        "source": f"urn:uuid:{uuid_of(record.stream.id)}",
        "type": f"agent_identity.record.{record.kind}",
        "time": _rfc3339(record.time.start_ns),
        "datacontenttype": "application/json",
        "sequence": record.stream.seq.zfill(20),
        "recordsha256": hashlib.sha256(data).hexdigest(),
        "data": as_dict(record),
    }
    task, trace = _task(record), _trace(record)
    if task is not None:
        event["subject"] = task.id
    if trace is not None and trace.span is not None:
        event["traceparent"] = f"00-{trace.trace}-{trace.span}-01"
    return event


def to_ocsf(data: bytes, previous: _Json | None = None) -> _Json:
    """Return a record as an OCSF 1.9 event: API Activity (6003), the record itself in ``raw_data``.

    A tool call is the use of an interface by an actor, allowed or denied by a control: that is this class with the
    profiles ``ai_operation``, ``security_control``, ``trace`` and ``record_integrity``. OCSF knows create, read,
    update and delete; the kind of a tool is not known, so the activity is "Other".

    Args:
        data: The canonical bytes of the record.
        previous: The event of the record before it in the stream, if it is at hand.

    Raises:
        ValueError: They are no record.
    """
    record = decode(data)
    start, end = record.time.start_ns, record.time.end_ns
    event: _Json = {
        **ocsf_activity(record.kind),
        "time": start // _MS,
        "start_time": start // _MS,
        **({} if end is None else {"end_time": end // _MS}),
        **_status(record),
        "metadata": _metadata(record, record.stream),
        "actor": _actor(record),
        "src_endpoint": ocsf_stream(record.stream.id),
        "api": _operation(record),
        "raw_data": data.decode(),
        "raw_data_size": len(data),
        "raw_data_hash": _fingerprint(hashlib.sha256(data).hexdigest()),
        **_control(record),
    }
    agent, trace = _agent(record), _trace(record)
    if agent is not None:
        event["ai_agent"] = _ai_agent(agent, record.stream)
    if trace is not None:
        event["trace"] = {"uid": trace.trace}
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
    record = decode(data)
    start, end, stream = record.time.start_ns, record.time.end_ns, record.stream
    kind, who = _reports_actor(record)
    action, trace = action_of(record), _trace(record)
    attributes: dict[str, str] = {
        "audit.record.id": record.id,
        "audit.actor.id": who,
        "audit.actor.type": kind,
        "audit.action": record.kind.upper() if action is None else "EXECUTE",
        "audit.outcome": _reports_outcome(record),
        "audit.schema.version": record.v,
        "audit.sequence.stream_id": stream.id,
        **({} if stream.prev is None else {"audit.sequence.previous_hash": stream.prev}),
        **({} if action is None else {"audit.target.id": action.tool, "audit.target.type": "tool"}),
    }
    log: _Json = {
        "eventName": f"agent_identity.{record.kind}",
        "timeUnixNano": str(start),
        "observedTimeUnixNano": str(start if end is None else end),
        "body": {"stringValue": data.decode()},
    }
    if trace is not None:
        log["traceId"] = trace.trace
        log |= {} if trace.span is None else {"spanId": trace.span}
    log["attributes"] = [{"key": key, "value": {"stringValue": attributes[key]}} for key in sorted(attributes)]
    if signer is not None:
        signature = b64encode(signer.sign(audit_log_bytes(log))).decode()
        integrity = {"audit.integrity.canonicalization": "jcs", "audit.integrity.value": signature}
        attributes |= integrity
        log["attributes"] = [{"key": key, "value": {"stringValue": attributes[key]}} for key in sorted(attributes)]
    return log


def audit_log_bytes(log: _Json) -> bytes:
    """Return the canonical bytes of a LogRecord, which its ``audit.integrity.value`` signs.

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
    directory: PathLike,
    form: Form,
    *,
    since_ns: int = 0,
    signer: Signer | None = None,
    only: Callable[[bytes], bool] | None = None,
) -> Iterator[bytes]:
    """Return the records of an evidence directory in another format, one line of JSON each, stream after stream.

    The export does not verify; malformed lines are left out.

    Args:
        directory: The evidence directory.
        form: The form.
        since_ns: Only records whose start is not before this, in nanoseconds since the Unix epoch.
        signer: For ``otel-audit``: signs each LogRecord.
        only: Returns whether to export the record with this leaf hash: whether a verification saw it.

    Raises:
        ConfigurationError: The path is not an evidence directory, or the format is unknown.
    """
    root = directory_of(directory)
    if root is None:
        raise ConfigurationError("the path is not an evidence directory; check it")
    if form not in FORMS:
        raise ConfigurationError(f"the format is unknown; use one of {', '.join(FORMS)}")
    return _lines(root, _Writer(form, signer), since_ns, only)


def _lines(root: str, writer: "_Writer", since_ns: int, only: Callable[[bytes], bool] | None) -> Iterator[bytes]:
    reader = whole(open_ledger(root))
    for stream in reader.streams():
        writer.begin()
        for line in reader.entries(stream):
            if line.record is None:
                continue
            try:
                record = decode(line.record)
            except ValueError:
                continue
            if record.time.start_ns < since_ns:
                continue
            if only is not None and not only(leaf_hash(line.record)):
                continue
            yield writer.write(line.record)


@final
class _Writer:
    """Writes records in one format."""

    def __init__(self, form: Form, signer: Signer | None) -> None:
        self._previous: _Json | None = None
        self._signer = signer
        forms: Mapping[str, Callable[[bytes], JSON]] = {
            "ocsf": self._ocsf,
            "cloudevents": to_cloudevent,
            "otel-audit": self._reports_log,
        }
        self._form = forms[form]

    def begin(self) -> None:
        """Start another stream."""
        self._previous = None

    def write(self, data: bytes) -> bytes:
        """Return the line of a record."""
        return encode(self._form(data)) + b"\n"

    def _ocsf(self, data: bytes) -> _Json:
        self._previous = to_ocsf(data, self._previous)
        return self._previous

    def _reports_log(self, data: bytes) -> _Json:
        log = to_audit_log(data, self._signer)
        resource: list[JSON] = [_attribute("service.name", "agent-identity")]
        if self._signer is not None:
            resource.append(_attribute("audit.integrity.algorithm", "EdDSA"))
            resource.append(_attribute("audit.integrity.certificate", self._signer.public_key.thumbprint))
        return {"resourceLogs": [{"resource": {"attributes": resource}, "scopeLogs": [{"logRecords": [log]}]}]}


def _attribute(key: str, value: str) -> _Json:
    return {"key": key, "value": {"stringValue": value}}


def _task(record: AnyRecord) -> Task | None:
    return getattr(record, "task", None)


def _principal(record: AnyRecord) -> Principal | None:
    return getattr(record, "principal", None)


def _agent(record: AnyRecord) -> Agent | None:
    return getattr(record, "agent", None)


def _chain(record: AnyRecord) -> tuple[Hop, ...]:
    return getattr(record, "chain", None) or ()


def _trace(record: AnyRecord) -> Trace | None:
    return getattr(record, "trace", None)


def _outcome(record: AnyRecord) -> str | None:
    return getattr(record, "outcome", None)


def _rfc3339(ns: int) -> str:
    seconds, rest = divmod(ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _fingerprint(value: str, serialization: int | None = None) -> _Json:
    fingerprint: _Json = {"algorithm_id": _SHA256, "algorithm": "SHA-256", "encoding_id": _HEX, "value": value}
    return (
        fingerprint
        if serialization is None
        else {**fingerprint, "serialization_id": serialization, "serialization": "JCS"}
    )


def _status(record: AnyRecord) -> _Json:
    outcome = _outcome(record)
    if outcome in _ENDED_WELL:
        return {"status_id": 1, "status": "Success", "status_code": outcome, "severity_id": 1}
    if outcome in _ENDED_BADLY:
        severity = 2 if outcome == "denied" else 1
        return {"status_id": 2, "status": "Failure", "status_code": outcome, "severity_id": severity}
    other: _Json = {} if outcome is None else {"status_code": outcome}
    return {"status_id": 0, "status": "Unknown", "severity_id": 1, **other}


def _metadata(record: AnyRecord, stream: Stream) -> _Json:
    metadata: _Json = {
        "version": OCSF_VERSION,
        "product": ocsf_product(),
        "profiles": list(_PROFILES),
        "uid": record.id,
        "sequence": stream.number,
        "log_format": PAYLOAD_TYPE,
        "log_version": record.v,
    }
    task = _task(record)
    return metadata if task is None else {**metadata, "correlation_uid": task.id}


def _actor(record: AnyRecord) -> _Json:
    principal = _principal(record)
    if principal is None:
        return {"app_name": "agent-identity-otel"}
    user: _Json = {"uid": principal.id, "type_id": 1 if principal.kind == "human" else 4}
    if principal.roles is not None:
        user["groups"] = [{"name": role} for role in principal.roles]
    invoked = " -> ".join(hop.id for hop in _chain(record))
    return {"user": user, **({"invoked_by": invoked} if invoked else {})}


def _ai_agent(agent: Agent, stream: Stream) -> _Json:
    members: _Json = {"uid": agent.id, "name": agent.id}
    members |= {} if agent.version is None else {"version": agent.version}
    return {**members, "instance_uid": stream.id}


def _operation(record: AnyRecord) -> _Json:
    action = action_of(record)
    if action is None:
        return {"operation": f"agent_identity.{record.kind}"}
    operation: _Json = {"operation": action.tool}
    intent, error = (record.intent, record.error) if isinstance(record, Outcome) else (None, None)
    operation["request"] = {"uid": intent or record.id}
    return operation if error is None else {**operation, "response": {"error": error}}


def _control(record: AnyRecord) -> _Json:
    if not isinstance(record, Intent | Outcome):
        return {}
    decision = record.decision
    disposition = _DISPOSITIONS.get(decision.enforced, (17, "Logged"))
    control: _Json = {
        "action_id": _ACTIONS[decision.effect],
        "action": decision.effect,
        "disposition_id": disposition[0],
        "disposition": disposition[1],
        "status_detail": decision.reason,
    }
    named = {"name": decision.policy, "version": decision.version, "uid": decision.rule}
    policy: _Json = {name: value for name, value in named.items() if value is not None}
    if "name" in policy or "uid" in policy:
        control["policy"] = policy
    return control


def _attested(event: _Json, record: AnyRecord, previous: _Json | None) -> _Json:
    """Return the attestation of an event: its fingerprint over all else, and the fingerprint of the previous event."""
    attestation: _Json = {"uid": record.id, "chain_uid": record.stream.id}
    if previous is not None:
        before = cast("Sequence[Mapping[str, JSON]]", previous["attestation_list"])[0]
        attestation["prev_event"] = {
            "uid": before["uid"],
            "type_uid": previous["type_uid"],
            "fingerprint": before["fingerprint"],
        }
    data = encode({**event, "attestation_list": [attestation]})
    return {**attestation, "fingerprint": _fingerprint(hashlib.sha256(data).hexdigest(), _JCS)}


def _reports_actor(record: AnyRecord) -> tuple[str, str]:
    principal, agent = _principal(record), _agent(record)
    if principal is not None:
        # In the draft, a call that a human began has the type user, even where an agent acts on the human's behalf.
        return ("user" if principal.kind == "human" else "service"), principal.id
    return ("system", "agent-identity-otel") if agent is None else ("service", agent.id)


def _reports_outcome(record: AnyRecord) -> str:
    outcome = _outcome(record)
    return "success" if outcome in _ENDED_WELL else "failure" if outcome in _ENDED_BADLY else "unknown"
