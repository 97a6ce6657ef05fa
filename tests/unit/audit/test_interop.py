"""Records in the forms of others: each against its schema where there is one, and what travels in it unchanged."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest

from agent_identity.audit import check
from agent_identity.audit.interop import (
    FORMS,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    audit_log_bytes,
    export,
    to_audit_log,
    to_cloudevent,
    to_ocsf,
    to_statement,
)
from agent_identity.canonical import encode, encode_record
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.envelope import pae
from agent_identity.evidence.records import KINDS
from agent_identity.evidence.streams import open_ledger
from agent_identity.identity import SigningKey

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
EVIDENCE = Path(__file__).resolve().parents[2] / "vectors" / "evidence"
KEY = SigningKey.from_seed(b"e" * 32)
ID = "01a20e43-46d8-715f-9270-91c309b88710"


def records() -> list[bytes]:
    """Return the records of the golden evidence, and one of each kind that it does not have."""
    reader = open_ledger(EVIDENCE)
    found = [line.record for stream in reader.streams() for line in reader.entries(stream) if line.record]
    task = orjson.loads(next(data for data in found if b'"kind":"task_start"' in data))
    task["task"].pop("purpose", None)
    common = {name: task[name] for name in ("v", "id", "stream", "time")}
    agent = {"agent": {"id": "clerk", "owner": "ops", "version": "2"}}
    party = {name: task[name] for name in ("task", "chain", "agent")}
    service = {"id": "spiffe://example.com/batch", "kind": "service", "provenance": "verified"}
    action = {"action": {"tool": "pay", "server": "mcp.example.com"}}
    decision = {"effect": "route", "enforced": "escalate", "mode": "enforce", "reason": "policy_routes", "rule": "r1"}
    pruned = {"stream": ID, "first": "1", "last": "2", "root": "0" * 64, "checkpoint": "1"}
    revoked = {"kind": "task", "name": "t", "status": "revoked", "version": "1"}
    more = [
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
            "action": {"tool": "pay"},
            "decision": {"effect": "block", "enforced": "audit", "mode": "monitor", "reason": "no_task"},
            "outcome": "suspended",
            "trace": {"trace": "a" * 32},
        },
    ]
    return found + [encode_record(record) for record in more]


RECORDS = records()


def ocsf_errors(value: object, schema: Mapping[str, Any], form: Mapping[str, Any], path: str = "$") -> list[str]:
    """Return what an event does that its class and objects do not allow; profiles count where the event names them."""
    if not isinstance(value, dict):
        return [f"{path}: no object"]
    attributes = form["attributes"]
    found = [f"{path}.{name}: not of this schema" for name in value if name not in attributes]
    profiles = schema.get("profiles", ())
    found += [
        f"{path}.{name}: required"
        for name, rule in attributes.items()
        if rule["requirement"] == "required" and rule.get("profile", "") in ("", *profiles) and name not in value
    ]
    some = form["constraints"].get("at_least_one")
    if some and not set(some) & value.keys():
        found.append(f"{path}: at least one of {some}")
    for name, item in value.items():
        rule = attributes.get(name, {})
        if rule.get("profile", "") not in ("", *profiles):
            found.append(f"{path}.{name}: of a profile that the event does not name")
        items = item if rule.get("array") else [item]
        for one in items if isinstance(items, Sequence) else ["no array"]:
            found += ocsf_item(one, rule, schema, f"{path}.{name}")
    return found


def ocsf_item(item: object, rule: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> list[str]:
    """Return what one value does that its attribute does not allow."""
    kind = rule.get("type", "")
    types = {"integer_t": int, "long_t": int, "timestamp_t": int, "string_t": str, "boolean_t": bool}
    if kind in types and type(item) is not types[kind]:
        return [f"{path}: expected {kind}"]
    if "enum" in rule and str(item) not in rule["enum"] and name_of(path) not in {"class_uid", "category_uid"}:
        return [f"{path}: not of the enumeration"]
    if kind in schema["objects"]:
        return ocsf_errors(item, schema, schema["objects"][kind], path)
    return []


def name_of(path: str) -> str:
    """Return the last name of a path."""
    return path.rpartition(".")[2]


def test_every_kind_of_record_is_tried() -> None:
    """The samples below have each kind but those that nothing writes yet."""
    assert KINDS - {orjson.loads(data)["kind"] for data in RECORDS} <= {"approval", "recovered", "policy"}


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


@pytest.mark.parametrize("data", RECORDS, ids=range(len(RECORDS)))
def test_a_statement_is_about_the_record(data: bytes) -> None:
    """It has the members of in-toto Statement v1, its subject is the record by digest, and its predicate the record."""
    statement = to_statement(data)
    assert statement.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert statement["_type"] == STATEMENT_TYPE
    assert re.match(r"[a-z][a-z0-9+.-]*:", PREDICATE_TYPE)
    ((subject),) = statement["subject"]
    assert subject["digest"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert encode(statement["predicate"]["record"]) == data


def test_signed_statements_are_dsse_envelopes() -> None:
    """The signature covers type and payload, so that no statement passes for a record or the reverse."""
    line = next(iter(export(EVIDENCE, "in-toto", signer=KEY)))
    envelope = orjson.loads(line)
    payload = base64.b64decode(envelope["payload"])
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    ((signature),) = envelope["signatures"]
    KEY.public_key.verify(base64.b64decode(signature["sig"]), pae(envelope["payloadType"], payload))
    assert orjson.loads(payload)["_type"] == STATEMENT_TYPE


@pytest.mark.parametrize("form", FORMS)
def test_an_export_has_a_line_for_each_record(form: str, tmp_path: Path) -> None:
    """All records come, once, in the order of the streams; those before a time and what is no record do not."""
    reader = open_ledger(EVIDENCE)
    count = sum(line.record is not None for stream in reader.streams() for line in reader.entries(stream))
    lines = list(export(EVIDENCE, form))
    assert len(lines) == count == check(EVIDENCE).counts["records"]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert list(export(EVIDENCE, form, sealed_only=True)) == lines
    assert list(export(EVIDENCE, form, since_ns=1 << 62)) == []
    assert lines == list(export(EVIDENCE, form))


def test_what_is_not_sealed_or_no_record_is_left_out(tmp_path: Path) -> None:
    """A signed export goes no further than the log; damaged lines are skipped."""
    stream = tmp_path / "ledger" / ID
    stream.mkdir(parents=True)
    (tmp_path / "log").mkdir()
    mac = b'{"mac":"' + b"0" * 64 + b'","record":'
    good = next(data for data in RECORDS if b'"stream_start"' in data)
    (stream / "entries.jsonl").write_bytes(mac + b'{"a":"b"}}\n' + b"x\n" + mac + good + b"}\n")
    (tmp_path / "log" / "entries.jsonl").write_bytes(b"x\n" + b'{"entry":{"a":"b"},"mac":"' + b"0" * 64 + b'"}\n')
    assert len(list(export(tmp_path, "cloudevents"))) == 1
    assert list(export(tmp_path, "cloudevents", sealed_only=True)) == []


def test_wrong_sources_and_forms_are_refused(tmp_path: Path) -> None:
    """Neither a file nor an unknown form is exported."""
    with pytest.raises(ConfigurationError, match="evidence directory"):
        export(tmp_path / "none", "ocsf")
    with pytest.raises(ConfigurationError, match="forms"):
        export(tmp_path, "xml")
    with pytest.raises(ValueError, match="expected"):
        to_ocsf(b'{"a":"b"}')
