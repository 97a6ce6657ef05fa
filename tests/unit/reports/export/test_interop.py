"""Records in the forms of others: each against its schema where there is one, and what travels in it unchanged."""

import base64
import hashlib
import json
import re
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from ocsf_schema import ocsf_errors

from agent_identity import Verifier
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.schema import KINDS
from agent_identity._reports.export.interop import FORMS, audit_log_bytes, to_audit_log, to_cloudevent, to_ocsf
from agent_identity._verify.api import check_shown
from agent_identity.audit import export
from agent_identity.canonical import encode
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey
from agent_identity.version import VERSION

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"
EVIDENCE = Path(__file__).resolve().parents[3] / "vectors" / "evidence"
KEY = SigningKey.from_seed(b"e" * 32)
ID = "AaIOQ0bYcV-ScJHDCbiHEA"


def records() -> list[bytes]:
    """Return the records of the golden evidence, and one of each kind that it does not have."""
    reader = open_ledger(EVIDENCE)
    found = [line.record for stream in reader.streams() for line in reader.entries(stream) if line.record]
    task = orjson.loads(next(data for data in found if b'"kind":"task_start"' in data))
    common = {name: task[name] for name in ("v", "id", "stream", "time")}
    agent = {"agent": {"id": "clerk", "owner": "ops", "version": "2"}}
    party = {"task": {"id": task["task"]["id"]}, "chain": task["chain"], "agent": task["agent"]}
    service = {"id": "spiffe://example.com/batch", "kind": "service", "provenance": "verified"}
    action = {"action": {"tool": "mcp.example.com/pay", "kind": "mcp"}}
    decision = {"effect": "route", "enforced": "escalate", "mode": "enforce", "reason": "policy_routes", "rule": "r1"}
    pruned = {"stream": ID, "first": "1", "last": "2", "root": "A" * 43, "checkpoint": "1"}
    revoked = {"kind": "task", "name": "t", "status": "revoked", "version": "1"}
    of_task = {name: task[name] for name in ("task", "principal", "agent", "chain")}
    open_calls = dict.fromkeys(("size", "sealed_before", "torn_bytes", "rejected_bytes", "open_count"), "0")
    more = [
        {
            **common,
            **of_task,
            "kind": "mark",
            "mark": {"hop": "A" * 43, "seq": "1", "label": "trusted:finance", "cause": "start"},
        },
        {**common, **of_task, **action, "kind": "approval", "approval": {"id": ID, "status": "pending"}},
        {**common, "kind": "recovered", "recovered": {"stream": ID, **open_calls}},
        {**common, "kind": "examination", "examination": {"question": "scope", "digest": "A" * 43, "size": "3"}},
        {**common, "kind": "trust", "trust": {"key": "A" * 43, "purpose": "issuer", "status": "trusted"}},
        {**common, "kind": "registration", **agent},
        {**common, "kind": "erasure", "erasure": {"key": "k"}},
        {
            **common,
            "kind": "erasure",
            "erasure": {"pruned": pruned},
        },
        {
            **common,
            "kind": "revocation",
            "revocation": revoked,
        },
        {
            **common,
            **party,
            "kind": "outcome",
            "principal": service,
            **action,
            "decision": decision,
            "outcome": "routed",
            "trace": {"trace": "a" * 32, "span": "b" * 16},
            "time": {"start": "1764000000123456789", "end": "1764000001123456789"},
        },
        {
            **common,
            "kind": "outcome",
            "attribution": "none",
            "action": {"tool": "pay", "kind": "function"},
            "decision": {"effect": "block", "enforced": "audit", "mode": "monitor", "reason": "no_task"},
            "outcome": "suspended",
            "trace": {"trace": "a" * 32},
        },
    ]
    return found + [encode_record(record) for record in more]


RECORDS = records()
ROUTED, BARE = RECORDS[-2], RECORDS[-1]
INTENT = next(data for data in RECORDS if orjson.loads(data)["kind"] == "intent")
STREAM, CALL, TASK = (f"AZq2l-gAcACAAAAAAAAA{letters}" for letters in ("AQ", "Bw", "BA"))
PREV = "iP6GBg3479VGjPMp5zECe82q-zTV8M8QxYY4BwpHYdc"


def hashed(data: bytes, **more: object) -> dict[str, object]:
    """Return a fingerprint of OCSF."""
    value = hashlib.sha256(data).hexdigest()
    return {"algorithm_id": 3, "algorithm": "SHA-256", "encoding_id": 1, "value": value, **more}


def changed(data: bytes, **members: object) -> bytes:
    """Return a record with other members; those that are ``None`` are gone."""
    record = {**orjson.loads(data), **members}
    return encode_record({name: value for name, value in record.items() if value is not None})


def test_a_call_in_the_form_of_ocsf() -> None:
    """Every member of the event, for a call that says all that a record can say of one."""
    event = to_ocsf(ROUTED)
    attestation = {"uid": CALL, "chain_uid": STREAM}
    expected = {
        "class_uid": 6003,
        "class_name": "API Activity",
        "category_uid": 6,
        "category_name": "Application Activity",
        "activity_id": 99,
        "activity_name": "outcome",
        "type_uid": 600399,
        "type_name": "API Activity: Other",
        "time": 1764000000123,
        "start_time": 1764000000123,
        "end_time": 1764000001123,
        "status_id": 1,
        "status": "Success",
        "status_code": "routed",
        "severity_id": 1,
        "metadata": {
            "version": "1.9.0",
            "product": {"name": "agent-identity-otel", "vendor_name": "agent-identity", "version": VERSION},
            "profiles": ["ai_operation", "record_integrity", "security_control", "trace"],
            "uid": CALL,
            "sequence": 4,
            "log_format": "application/vnd.agent-identity.record.v1+json",
            "log_version": "1",
            "correlation_uid": TASK,
        },
        "actor": {"user": {"uid": "spiffe://example.com/batch", "type_id": 4}, "invoked_by": "invoice-supervisor"},
        "src_endpoint": {"uid": STREAM, "type_id": 99, "type": "stream of records"},
        "api": {"operation": "mcp.example.com/pay", "request": {"uid": CALL}},
        "raw_data": ROUTED.decode(),
        "raw_data_size": len(ROUTED),
        "raw_data_hash": hashed(ROUTED),
        "action_id": 99,
        "action": "route",
        "disposition_id": 7,
        "disposition": "Custom Action",
        "status_detail": "policy_routes",
        "policy": {"uid": "r1"},
        "ai_agent": {
            "uid": "invoice-supervisor",
            "name": "invoice-supervisor",
            "version": "2.1",
            "instance_uid": STREAM,
        },
        "trace": {"uid": "a" * 32},
        "attestation_list": [attestation],
    }
    fingerprint = hashed(encode(expected), serialization_id=2, serialization="JCS")
    assert event == {**expected, "attestation_list": [{**attestation, "fingerprint": fingerprint}]}
    again = to_ocsf(BARE, event)
    assert again["attestation_list"][0]["prev_event"] == {
        "uid": CALL,
        "type_uid": 600399,
        "fingerprint": fingerprint,
    }


def test_what_a_record_does_not_say_is_not_in_its_event() -> None:
    """Of a call outside any task: no actor but the library, no agent, no task, no end."""
    event = to_ocsf(BARE)
    assert event["actor"] == {"app_name": "agent-identity-otel"}
    assert event["api"] == {"operation": "pay", "request": {"uid": CALL}}
    assert not {"end_time", "ai_agent", "policy"} & event.keys()
    assert "correlation_uid" not in event["metadata"]
    assert to_ocsf(RECORDS[-6])["api"] == {"operation": "agent_identity.registration"}
    assert not {"action", "trace", "status_code"} & to_ocsf(RECORDS[-6]).keys()
    of_human = changed(ROUTED, principal={"id": "a", "kind": "human", "provenance": "asserted"}, error="E", intent=ID)
    event = to_ocsf(of_human)
    assert event["actor"] == {"user": {"uid": "a", "type_id": 1}, "invoked_by": "invoice-supervisor"}
    assert event["api"]["request"] == {"uid": ID}
    assert event["api"]["response"] == {"error": "E"}


@pytest.mark.parametrize(
    ("outcome", "status", "audit"),
    [
        ("success", (1, "Success", "success", 1), "success"),
        ("routed", (1, "Success", "routed", 1), "success"),
        ("error", (2, "Failure", "error", 1), "failure"),
        ("cancelled", (2, "Failure", "cancelled", 1), "failure"),
        ("denied", (2, "Failure", "denied", 2), "failure"),
        ("suspended", (0, "Unknown", "suspended", 1), "unknown"),
    ],
)
def test_how_a_call_ended_is_said_in_both_forms(outcome: str, status: tuple[object, ...], audit: str) -> None:
    """What ran well, what did not, and what nobody knows; a refusal weighs more than an error."""
    data = changed(BARE, outcome=outcome)
    event = to_ocsf(data)
    assert tuple(event[name] for name in ("status_id", "status", "status_code", "severity_id")) == status
    assert {"key": "audit.outcome", "value": {"stringValue": audit}} in to_audit_log(data)["attributes"]


@pytest.mark.parametrize(
    ("effect", "action", "enforced", "disposition"),
    [
        ("allow", 1, "allow", (1, "Allowed")),
        ("warn", 1, "allow", (1, "Allowed")),
        ("block", 2, "block", (2, "Blocked")),
        ("route", 99, "escalate", (7, "Custom Action")),
        ("block", 2, "audit", (17, "Logged")),
    ],
)
def test_what_was_decided_and_what_was_enforced_are_said(
    effect: str, action: int, enforced: str, disposition: tuple[int, str]
) -> None:
    """Both, because in monitor mode they differ; with the policy where the record names it."""
    decision = {"effect": effect, "enforced": enforced, "mode": "enforce", "reason": "r"}
    event = to_ocsf(changed(BARE, decision=decision))
    assert (event["action_id"], event["action"]) == (action, effect)
    assert (event["disposition_id"], event["disposition"], event["status_detail"]) == (*disposition, "r")
    assert to_ocsf(changed(BARE, decision={**decision, "rule": "x"}))["policy"] == {"uid": "x"}
    named = to_ocsf(changed(INTENT, decision={**decision, "policy": "p", "version": "3", "rule": "x"}))
    assert named["policy"] == {"name": "p", "version": "3", "uid": "x"}


def test_a_call_as_a_cloudevent() -> None:
    """Every member, and the record itself."""
    assert to_cloudevent(ROUTED) == {
        "specversion": "1.0",
        "id": CALL,
        "source": f"urn:uuid:{uuid_of(STREAM)}",
        "type": "agent_identity.record.outcome",
        "time": "2025-11-24T16:00:00.123456789Z",
        "datacontenttype": "application/json",
        "sequence": "00000000000000000004",
        "recordsha256": hashlib.sha256(ROUTED).hexdigest(),
        "data": orjson.loads(ROUTED),
        "subject": TASK,
        "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
    }
    assert not {"subject", "traceparent"} & to_cloudevent(BARE).keys()
    late = changed(BARE, time={"start": "1764000000999999999"})
    assert to_cloudevent(late)["time"] == "2025-11-24T16:00:00.999999999Z"


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has no time zone of a process")
def test_times_are_in_utc_wherever_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event says Z, and means it."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        told = to_cloudevent(ROUTED)["time"]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert told == "2025-11-24T16:00:00.123456789Z"


def test_a_call_in_the_form_of_an_audit_log() -> None:
    """Every member, the attributes in the order of their names, and the bytes that are signed."""

    def attributes(**more: str) -> list[dict[str, object]]:
        found = {
            "audit.action": "EXECUTE",
            "audit.actor.id": "spiffe://example.com/batch",
            "audit.actor.type": "service",
            "audit.outcome": "success",
            "audit.record.id": CALL,
            "audit.schema.version": "1",
            "audit.sequence.previous_hash": PREV,
            "audit.sequence.stream_id": STREAM,
            "audit.target.id": "mcp.example.com/pay",
            "audit.target.type": "tool",
        } | {f"audit.integrity.{name}": value for name, value in more.items()}
        return [{"key": key, "value": {"stringValue": found[key]}} for key in sorted(found)]

    expected = {
        "eventName": "agent_identity.outcome",
        "timeUnixNano": "1764000000123456789",
        "observedTimeUnixNano": "1764000001123456789",
        "body": {"stringValue": ROUTED.decode()},
        "traceId": "a" * 32,
        "spanId": "b" * 16,
        "attributes": attributes(),
    }
    assert to_audit_log(ROUTED) == expected
    text = encode(
        {
            "event_name": "agent_identity.outcome",
            "body": {"stringValue": ROUTED.decode()},
            "timestamp": "1764000000123456789",
            "observed_timestamp": "1764000001123456789",
            "attributes": {item["key"]: item["value"] for item in attributes()},
            "trace_id": "a" * 32,
            "span_id": "b" * 16,
        }
    )
    assert audit_log_bytes(expected) == text
    value = base64.b64encode(KEY.sign(text)).decode()
    assert to_audit_log(ROUTED, KEY) == {**expected, "attributes": attributes(canonicalization="jcs", value=value)}
    bare = to_audit_log(BARE)
    assert (bare["observedTimeUnixNano"], "spanId" in bare) == (bare["timeUnixNano"], False)
    others = {item["key"]: item["value"]["stringValue"] for item in to_audit_log(RECORDS[-6])["attributes"]}
    assert {name: others[f"audit.{name}"] for name in ("action", "actor.id", "actor.type")} == {
        "action": "REGISTRATION",
        "actor.id": "clerk",
        "actor.type": "service",
    }
    system = {item["key"]: item["value"]["stringValue"] for item in bare["attributes"]}
    assert (system["audit.actor.id"], system["audit.actor.type"]) == ("agent-identity-otel", "system")
    human = changed(ROUTED, principal={"id": "a", "kind": "human", "provenance": "asserted"})
    assert {"key": "audit.actor.type", "value": {"stringValue": "user"}} in to_audit_log(human)["attributes"]


def test_the_lines_of_an_export_are_whole() -> None:
    """Each in its envelope, with the key that signed, or bare."""
    lines = [orjson.loads(line) for line in export(EVIDENCE, "otel-audit", signer=KEY)]
    (data,) = {line["resourceLogs"][0]["resource"]["attributes"][0]["value"]["stringValue"] for line in lines}
    assert data == "agent-identity"
    assert lines[0]["resourceLogs"][0]["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "agent-identity"}},
        {"key": "audit.integrity.algorithm", "value": {"stringValue": "EdDSA"}},
        {"key": "audit.integrity.certificate", "value": {"stringValue": KEY.public_key.thumbprint}},
    ]
    first = RECORDS[0]
    assert lines[0]["resourceLogs"][0]["scopeLogs"] == [{"logRecords": [to_audit_log(first, KEY)]}]
    bare = orjson.loads(next(export(EVIDENCE, "otel-audit")))
    assert bare["resourceLogs"][0]["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "agent-identity"}}
    ]


def test_an_export_says_what_it_needs(tmp_path: Path) -> None:
    """A directory, and a form that is known."""
    with pytest.raises(ConfigurationError) as caught:
        export(tmp_path / "none", "ocsf")
    assert str(caught.value) == "the path is not an evidence directory; check it"
    with pytest.raises(ConfigurationError) as caught:
        export(EVIDENCE, "other")  # type: ignore[arg-type]
    assert str(caught.value) == "the format is unknown; use one of ocsf, cloudevents, otel-audit"


def test_every_kind_of_record_is_tried() -> None:
    """The samples below have each kind."""
    assert {orjson.loads(data)["kind"] for data in RECORDS} == KINDS


@pytest.mark.parametrize("data", RECORDS, ids=range(len(RECORDS)))
def test_a_cloudevent_fits_its_schema(data: bytes) -> None:
    """Each record is an event of CloudEvents 1.0, with times of RFC 3339, and has the record as its data."""
    schema = json.loads((SCHEMAS / "cloudevents-1.0.json").read_bytes())
    event = to_cloudevent(data)
    jsonschema.Draft7Validator(schema, format_checker=jsonschema.FormatChecker()).validate(event)
    assert all(re.fullmatch(r"[a-z0-9_]{1,20}", name) for name in event)
    assert encode(event["data"]) == data
    assert datetime.fromisoformat(str(event["time"])[:26] + "+00:00").timestamp() > 0
    assert event["recordsha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("data", RECORDS, ids=range(len(RECORDS)))
def test_an_ocsf_event_fits_its_class(data: bytes) -> None:
    """Each record is an API Activity of OCSF 1.9 with the profiles that it names, and has the record as raw data."""
    schema = json.loads((SCHEMAS / "ocsf-1.9.json").read_bytes())
    event = to_ocsf(data)
    schema["profiles"] = event["metadata"]["profiles"]
    assert ocsf_errors(event, schema, schema["class"]) == []
    assert event["raw_data"].encode() == data
    assert event["raw_data_hash"]["value"] == hashlib.sha256(data).hexdigest()


def test_the_check_of_ocsf_can_fail() -> None:
    """Another name, type, number or a missing part is found."""
    schema = json.loads((SCHEMAS / "ocsf-1.9.json").read_bytes())
    for change in (
        {"more": 1},
        {"time": "x"},
        {"activity_id": 5},
        {"actor": {}},
        {"attestation_list": [{"uid": "x"}]},
        {"cloud": {}},
    ):
        event = {**to_ocsf(RECORDS[0]), **change}
        schema["profiles"] = event["metadata"]["profiles"]
        assert ocsf_errors(event, schema, schema["class"]), change
    event = to_ocsf(RECORDS[0])
    del event["api"]
    assert ocsf_errors(event, schema, schema["class"]) == ["$.api: required"]


def test_ocsf_events_of_a_stream_are_chained() -> None:
    """Each event has the fingerprint of all else in it, and that of the event before."""
    events = [orjson.loads(line) for line in export(EVIDENCE, "ocsf")]
    streams: dict[str, dict[str, Any]] = {}
    for event in events:
        (attestation,) = event["attestation_list"]
        fingerprint = attestation.pop("fingerprint")
        assert hashlib.sha256(encode(event)).hexdigest() == fingerprint["value"]
        before = streams.get(attestation["chain_uid"])
        assert attestation.get("prev_event", {}).get("fingerprint") == before
        streams[attestation["chain_uid"]] = fingerprint


@pytest.mark.parametrize("data", RECORDS, ids=range(len(RECORDS)))
def test_an_audit_log_record_has_what_the_draft_demands(data: bytes) -> None:
    """Mandatory attributes are there, all are strings, the observed time is not before the time, and no severity."""
    log = to_audit_log(data, KEY)
    attributes = {item["key"]: item["value"] for item in log["attributes"]}
    assert all(value.keys() == {"stringValue"} for value in attributes.values())
    facts = {key: value["stringValue"] for key, value in attributes.items()}
    assert {"audit.record.id", "audit.actor.id", "audit.actor.type", "audit.action", "audit.outcome"} <= facts.keys()
    assert facts["audit.actor.type"] in {"user", "service", "system"}
    assert facts["audit.outcome"] in {"success", "failure", "unknown"}
    assert facts["audit.action"].isupper()
    assert int(log["timeUnixNano"]) <= int(log["observedTimeUnixNano"])
    assert not {"severityNumber", "severityText"} & log.keys()
    assert log["body"] == {"stringValue": data.decode()}
    KEY.public_key.verify(base64.b64decode(facts["audit.integrity.value"]), audit_log_bytes(log))


def test_the_integrity_of_an_audit_log_covers_every_attribute() -> None:
    """Canonical bytes have the names and forms of the draft, and change with each attribute but those of integrity."""
    data = next(data for data in RECORDS if b'"trace"' in data)
    log = to_audit_log(data)
    canonical = orjson.loads(audit_log_bytes(log))
    assert canonical.keys() == {
        "attributes",
        "body",
        "event_name",
        "observed_timestamp",
        "span_id",
        "timestamp",
        "trace_id",
    }
    assert audit_log_bytes(log) == audit_log_bytes(to_audit_log(data, KEY))
    log["attributes"].append({"key": "env", "value": {"stringValue": "prod"}})
    assert audit_log_bytes(log) != audit_log_bytes(to_audit_log(data, KEY))


@pytest.mark.parametrize("form", FORMS)
def test_an_export_has_a_line_for_each_record(form: str, tmp_path: Path) -> None:
    """All records come, once, in the order of the streams; those before a time and what is no record do not."""
    reader = open_ledger(EVIDENCE)
    count = sum(line.record is not None for stream in reader.streams() for line in reader.entries(stream))
    lines = list(export(EVIDENCE, form))
    assert len(lines) == count == Verifier().ledger(EVIDENCE).counts["records"]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    report, seen = check_shown(EVIDENCE)
    assert (report.verdict, list(export(EVIDENCE, form, only=seen))) == (Verifier().ledger(EVIDENCE).verdict, lines)
    assert list(export(EVIDENCE, form, since_ns=1 << 62)) == []
    assert lines == list(export(EVIDENCE, form))


def test_what_is_not_sealed_or_no_record_is_left_out(tmp_path: Path) -> None:
    """A signed export goes no further than what a verification was shown; damaged lines are skipped."""
    stream = tmp_path / "ledger" / ID
    stream.mkdir(parents=True)
    (tmp_path / "log").mkdir()
    mac = b'{"mac":"' + b"A" * 43 + b'","record":'
    good = next(data for data in RECORDS if b'"stream_start"' in data)
    (stream / "entries.jsonl").write_bytes(mac + b'{"a":"b"}}\n' + b"x\n" + mac + good + b"}\n")
    (tmp_path / "log" / "entries.jsonl").write_bytes(b"x\n" + b'{"entry":{"a":"b"},"mac":"' + b"A" * 43 + b'"}\n')
    assert len(list(export(tmp_path, "cloudevents"))) == 1
    assert list(export(tmp_path, "cloudevents", only=check_shown(tmp_path)[1])) == []
    assert len(list(export(tmp_path, "cloudevents", only={leaf_hash(good)}.__contains__))) == 1


def test_wrong_sources_and_forms_are_refused(tmp_path: Path) -> None:
    """Neither a file nor an unknown form is exported."""
    with pytest.raises(ConfigurationError, match="evidence directory"):
        export(tmp_path / "none", "ocsf")
    with pytest.raises(ConfigurationError, match="unknown; use one of ocsf"):
        export(tmp_path, "xml")
    with pytest.raises(ValueError, match="kind"):
        to_ocsf(b'{"a":"b"}')
