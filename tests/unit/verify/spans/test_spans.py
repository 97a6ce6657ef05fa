"""Verifying spans: what pipelines may do to them, what they may not, and what somebody answers for."""

import base64
import copy
import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agent_identity import Agent, Enforcer, Human, Report, Scope, Service, Verifier, verify
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._spans.envelope import PAYLOAD_TYPE, Attestation, pae, sign_record
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.span_from_record import appearance_of
from agent_identity._verify.report.report import Problem
from agent_identity._verify.spans._coverage import CoverageTable, ToolCall
from agent_identity._verify.spans.attestations import open_record
from agent_identity.errors import ConfigurationError, Denied, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

FileSpanExporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file").FileSpanExporter

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com")
SCOPE = Scope("read_invoice", invoice_id="INV-42")


@dataclass(frozen=True)
class Run:
    """What a run of an agent left behind."""

    directory: Path
    spans: tuple[ReadableSpan, ...]
    exported: bytes

    @property
    def trust(self) -> TrustStore:
        """The public keys."""
        return TrustStore.load(self.directory / "trust.json")

    @property
    def recorder(self) -> SigningKey:
        """The key that signs records."""
        return SigningKey.load(self.directory / "keys/recorder.pem")

    def document(self) -> dict[str, Any]:
        """Return all spans in one document."""
        lines = [json.loads(line) for line in self.exported.splitlines()]
        return {"resourceSpans": [resource for line in lines for resource in line["resourceSpans"]]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A task with two calls, a refusal, a delegated call, and a refusal outside any task."""
    directory = tmp_path_factory.mktemp("run")
    memory, text = InMemorySpanExporter(), io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=text)))
    clock = FixedClock()
    with Enforcer.open(
        directory, telemetry=Telemetry(tracer_provider=provider), sources=Sources(clock=clock, ids=SequentialIds())
    ) as enforcer:

        @enforcer.tool
        def read_invoice(invoice_id: str) -> str:
            return invoice_id

        with enforcer.task("pay", principal=ALICE, agent=CLERK, scope=SCOPE):
            read_invoice("INV-42")
            clock.advance(0.000001)
            read_invoice("INV-42")
            with suppress(Denied):
                read_invoice("INV-43")
            with enforcer.delegate(Agent("reader", owner="team:payments"), scope=SCOPE):
                read_invoice("INV-42")
        with suppress(Denied):
            read_invoice("INV-42")
    return Run(directory, memory.get_finished_spans(), text.getvalue().encode())


def report_on(run: Run, document: object, *, pasted: bool = False, **options: Any) -> Report:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    verifier = Verifier(run.trust)
    return (verifier.pasted if pasted else verifier.traces)(io.BytesIO(data), **options)


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.findings}


def besides(report: Report) -> tuple[Problem, ...]:
    """Return what was found, besides the one notice that details of refused calls are in the ledger alone."""
    told = [problem.code for problem in report.findings].count("detail_not_checked")
    assert told == (report.counts["details_not_checked"] > 0)
    return tuple(problem for problem in report.findings if problem.code != "detail_not_checked")


def each_span(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            yield from scope["spans"]


def value_of(span: dict[str, Any], name: str) -> Any:
    return next((a["value"] for a in span["attributes"] if a["key"] == name), None)


def set_value(span: dict[str, Any], name: str, value: str) -> None:
    found = value_of(span, name)
    if found is None:
        span["attributes"].append({"key": name, "value": {"stringValue": value}})
    else:
        found.clear()
        found["stringValue"] = value


def drop(span: dict[str, Any], start: str) -> None:
    span["attributes"] = [a for a in span["attributes"] if not a["key"].startswith(start)]


def tool_spans(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in each_span(document) if span["name"].startswith("execute_tool")]


def on_each(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def apply(document: dict[str, Any]) -> None:
        for span in each_span(document):
            change(span)

    return apply


def truncated(limit: int) -> Callable[[dict[str, Any]], None]:
    def cut(span: dict[str, Any]) -> None:
        for attribute in span["attributes"]:
            if "stringValue" in attribute["value"]:
                attribute["value"]["stringValue"] = attribute["value"]["stringValue"][:limit]

    return on_each(cut)


def go_spelling(document: dict[str, Any]) -> None:
    def respell(span: dict[str, Any]) -> None:
        for name in ("startTimeUnixNano", "endTimeUnixNano"):
            span[name] = str(span[name])
        span["flags"] = 256
        span["traceId"] = span["traceId"].upper()
        span.pop("events", None)

    on_each(respell)(document)


def reordered(document: dict[str, Any]) -> None:
    def turn(span: dict[str, Any]) -> None:
        span["attributes"].reverse()
        items = list(span.items())[::-1]
        span.clear()
        span.update(items)

    on_each(turn)(document)


def on_resource(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    def add(document: dict[str, Any]) -> None:
        for resource in document["resourceSpans"]:
            attributes = resource.setdefault("resource", {}).setdefault("attributes", [])
            attributes.append({"key": name, "value": {"stringValue": value}})

    return add


def as_strings(span: dict[str, Any]) -> None:
    for attribute in span["attributes"]:
        value = attribute["value"]
        if "arrayValue" in value:
            items = [item["stringValue"] for item in value.pop("arrayValue")["values"]]
            value["stringValue"] = json.dumps(items)


def microseconds(span: dict[str, Any]) -> None:
    for name in ("startTimeUnixNano", "endTimeUnixNano"):
        span[name] = str(int(span[name]) // 1000 * 1000)


def forged_decision(document: dict[str, Any]) -> None:
    set_value(tool_spans(document)[2], "agent_identity.decision.effect", "allow")


def moved(document: dict[str, Any]) -> None:
    first, second = tool_spans(document)[:2]
    first["attributes"], second["attributes"] = second["attributes"], first["attributes"]


def added_where_another_is_missing(span: dict[str, Any]) -> None:
    drop(span, "user.id")
    set_value(span, "agent_identity.tool.approved", "yes")


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], int, str | None]] = {
    "2 JSON of the SDK": (lambda document: None, 0, None),
    "3 JSON as Go writes it": (go_spelling, 0, None),
    "4 another order of keys": (reordered, 0, None),
    "5 resource attributes added": (on_resource("k8s.pod.name", "x"), 0, None),
    "6 an attribute inserted": (on_each(lambda span: set_value(span, "env", "prod")), 0, None),
    "7 spans renamed": (on_each(lambda span: span.update(name="renamed")), 1, "field_changed"),
    "8 status set": (on_each(lambda span: span.update(status={"code": 1})), 1, "field_changed"),
    "9 events dropped": (on_each(lambda span: span.update(events=[], droppedEventsCount=1)), 0, None),
    "10 values turned into strings": (on_each(as_strings), 0, None),
    "11 user.id redacted": (on_each(lambda span: set_value(span, "user.id", "[REDACTED]")), 0, "copy_redacted"),
    "12 user.id deleted": (on_each(lambda span: drop(span, "user.id")), 0, "copy_redacted"),
    "13 a decision forged": (forged_decision, 1, "field_changed"),
    "14 times in microseconds": (on_each(microseconds), 0, None),
    "15 cut to 256 characters": (truncated(256), 1, "truncated"),
    "16 cut to 64 characters": (truncated(64), 1, "truncated"),
    "17 a record moved to another span": (moved, 1, "wrong_span"),
    # Beyond the table.
    "a name blanked": (
        on_each(lambda span: set_value(span, "agent_identity.principal.id", "[Filtered]")),
        0,
        "copy_redacted",
    ),
    "user.id hashed": (on_each(lambda span: set_value(span, "user.id", "5f2b")), 0, "copy_changed"),
    "a principal forged": (
        on_each(lambda span: set_value(span, "agent_identity.principal.id", "mallory")),
        1,
        "field_changed",
    ),
    "a tool forged": (on_each(lambda span: set_value(span, "gen_ai.tool.name", "other")), 1, "field_changed"),
    "a chain forged": (
        on_each(lambda span: set_value(span, "agent_identity.delegation.chain", '["bob","x"]')),
        1,
        "field_changed",
    ),
    "an attribute of ours added to the last one": (
        lambda document: set_value(list(each_span(document))[-1], "agent_identity.tool.approved", "yes"),
        1,
        "field_added",
    ),
    "one added where another is missing": (
        on_each(added_where_another_is_missing),
        1,
        "field_added",
    ),
    "the signature removed": (on_each(lambda span: drop(span, "agent_identity.attestation.")), 1, "unsigned"),
    "the record removed from under it": (
        on_each(lambda span: drop(span, "agent_identity.attestation.payload")),
        1,
        "bad_attestation",
    ),
    "one part of it removed": (
        on_each(lambda span: drop(span, "agent_identity.attestation.keyid")),
        1,
        "bad_attestation",
    ),
    "the payload blanked": (
        on_each(lambda span: set_value(span, "agent_identity.attestation.payload", "[REDACTED]")),
        1,
        "bad_attestation",
    ),
    "the digest exchanged": (
        on_each(lambda span: set_value(span, "agent_identity.attestation.digest", "A" * 43)),
        1,
        "bad_attestation",
    ),
    "the payload cut with a mark": (
        on_each(
            lambda span: set_value(
                span,
                "agent_identity.attestation.payload",
                value_of(span, "agent_identity.attestation.payload")["stringValue"][:500] + "... [truncated]",
            )
        ),
        1,
        "truncated",
    ),
    "the signature exchanged": (
        on_each(lambda span: set_value(span, "agent_identity.attestation.signature", "A" * 86)),
        1,
        "bad_signature",
    ),
    "another payload type": (
        on_each(lambda span: set_value(span, "agent_identity.attestation.payload_type", "text/plain")),
        2,
        "unknown_payload_type",
    ),
    "everything of ours removed": (on_each(lambda span: drop(span, "agent_identity.")), 2, "nothing_to_verify"),
    "the grants cut": (
        on_each(
            lambda span: (
                value_of(span, "agent_identity.delegation.grant")
                and set_value(span, "agent_identity.delegation.grant", "eyJ.eyJ.cut")
            )
        ),
        1,
        "bad_grant",
    ),
    "the task's span dropped": (
        on_each(lambda span: span["name"].startswith("invoke_agent") and drop(span, "agent_identity.")),
        0,
        "chain_not_checked",
    ),
    "the grants forged": (
        on_each(
            lambda span: (
                value_of(span, "agent_identity.delegation.grant")
                and set_value(span, "agent_identity.delegation.grant", f"eyJ.eyJ.{'A' * 86}")
            )
        ),
        1,
        "bad_grant",
    ),
}


def wire(document: dict[str, Any]) -> bytes:
    """Return a document as an export request in Protocol Buffers."""
    document = copy.deepcopy(document)
    for span in each_span(document):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(document, ExportTraceServiceRequest()).SerializeToString()


def prefixed(document: dict[str, Any]) -> bytes:
    """Return a document as the collector's file exporter writes it, one message for each resource."""
    messages = [wire({"resourceSpans": [resource]}) for resource in document["resourceSpans"]]
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def lines(document: dict[str, Any]) -> bytes:
    """Return a document as JSON lines, one for each span."""
    found: list[bytes] = []
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                one = {**resource, "scopeSpans": [{**scope, "spans": [span]}]}
                found.append(json.dumps({"resourceSpans": [one]}, separators=(",", ":")).encode())
    return b"\n".join(found)


FORMS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "lines": lines,
    "json": lambda document: json.dumps(document).encode(),
    "protobuf": wire,
    "prefixed": prefixed,
    "pasted": lambda document: json.dumps(document, indent=1).encode(),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CHANGES)
def test_each_change_on_the_way_gets_its_verdict(run: Run, name: str, form: str) -> None:
    """Normal processors change nothing; forgery, removal of signatures and truncation are told apart, in any form."""
    change, exit_code, code = CHANGES[name]
    document = run.document()
    change(document)
    report = report_on(run, FORMS[form](document), pasted=form == "pasted")
    assert (report.exit_code, code is None or code in codes(report)) == (exit_code, True), report.findings
    if code is None:
        assert [problem.code for problem in report.findings] == ["detail_not_checked"]
        assert report.counts["verified"] == report.counts["records"] == 7
        assert report.counts["details_not_checked"] == 2


@pytest.mark.parametrize("framing", ["bare", "delimited", "prefixed"])
def test_a_change_1_protobuf_gets_its_verdict(run: Run, framing: str) -> None:
    """What the SDK encodes in Protocol Buffers verifies like its JSON, and gives the same report."""
    data = encode_spans(run.spans).SerializeToString()
    length = len(data)
    head = {
        "bare": b"",
        "delimited": bytes([length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14]),
        "prefixed": length.to_bytes(4, "big"),
    }
    report = report_on(run, head[framing] + data)
    assert (report.exit_code, besides(report), report.counts["verified"]) == (0, (), 7)
    assert report.to_json() == report_on(run, run.document()).to_json()


def test_truncation_is_called_by_its_name(run: Run) -> None:
    """The message says that a length limit cut the record, and what to exempt."""
    for limit, what in ((64, "signature has 64"), (256, "after 256 characters")):
        document = run.document()
        truncated(limit)(document)
        message = report_on(run, document).findings[0].message
        assert what in message
        assert "exempt agent_identity.attestation.* and agent_identity.delegation.grant" in message


BODY = b'{"i":{"x":1},"y":222}'
WHOLE = b64url_encode(BODY)


@pytest.mark.parametrize(
    ("part", "value", "code", "what"),
    [
        ("payload", WHOLE[:12], "truncated", "its payload ends after 12 characters, inside the record"),
        ("payload", WHOLE[:13], "truncated", "its payload ends after 13 characters, inside the record"),
        ("payload", WHOLE[:20], "truncated", "its payload ends after 20 characters, inside the record"),
        ("payload", WHOLE[:12] + "...", "truncated", "its payload ends after 15 characters, inside the record"),
        ("payload", WHOLE[:17] + "... [cut]", "truncated", "its payload ends after 26 characters, inside the record"),
        ("payload", WHOLE[:12] + "\u00e9", "truncated", "its payload ends after 13 characters, inside the record"),
        # Where it ends in a brace, nothing tells that more stood behind it.
        ("payload", WHOLE[:16], "bad_attestation", "the digest is not that of the payload"),
        ("payload", WHOLE + "...", "bad_attestation", "bad payload"),
        ("payload", b64url_encode(BODY + b"}") + "...", "bad_attestation", "bad payload"),
        ("payload", b64url_encode(BODY + b" }") + "...", "bad_attestation", "bad payload"),
        ("payload", WHOLE + "A", "bad_attestation", "bad payload"),
        ("payload", b64url_encode(BODY + b"   ") + "A", "bad_attestation", "bad payload"),
        ("payload", b64url_encode(b"[1,2") + "A", "bad_attestation", "the digest is not that of the payload"),
        ("payload", "\u00e9" * 4 + WHOLE, "bad_attestation", "bad payload"),
        ("payload", 7, "bad_attestation", "the payload of the attestation is not text"),
        ("signature", "A" * 85, "truncated", "its signature has 85 characters, not 86"),
        ("signature", "A" * 87, "bad_attestation", "the signature is not 86 base64url characters"),
        ("signature", 7, "bad_attestation", "the signature of the attestation is not text"),
        ("signature", "A" * 86, "bad_signature", "the signature is not one of the named key"),
        ("keyid", "other", "unknown_key", "use the trust file of its recorder"),
        ("payload_type", "text/plain", "unknown_payload_type", "the payload type is not that of a record"),
    ],
)
def test_what_is_wrong_with_an_attestation_is_said(run: Run, part: str, value: object, code: str, what: str) -> None:
    """What a length limit cut is told from what somebody changed."""
    attributes: dict[str, object] = {**sign_record(BODY, run.recorder).to_attributes()}
    attributes[f"agent_identity.attestation.{part}"] = value
    with pytest.raises(VerificationError) as caught:
        open_record(attributes, run.trust)
    assert caught.value.code == code
    assert what in str(caught.value)
    cure = "exempt agent_identity.attestation.* and agent_identity.delegation.grant from attribute length limits"
    assert (cure in str(caught.value)) == (code == "truncated")


@given(st.integers(min_value=0, max_value=1900), st.sampled_from(["payload", "signature", "digest", "keyid"]))
def test_an_attestation_cut_anywhere_never_verifies(run: Run, limit: int, part: str) -> None:
    """Every cut of every part is a contradiction or an unknown key, and never breaks the verifier."""
    document = run.document()
    span = tool_spans(document)[0]
    name = f"agent_identity.attestation.{part}"
    whole = value_of(span, name)["stringValue"]
    set_value(span, name, whole[:limit])
    assert (report_on(run, document).exit_code == 0) == (limit >= len(whole))


@given(st.data())
def test_a_changed_character_of_an_attestation_never_verifies(run: Run, data: st.DataObject) -> None:
    """Each character of payload, signature, digest and type counts."""
    document = run.document()
    span = tool_spans(document)[0]
    part = data.draw(st.sampled_from(["payload", "signature", "digest", "keyid", "payload_type"]))
    name = f"agent_identity.attestation.{part}"
    text = value_of(span, name)["stringValue"]
    at = data.draw(st.integers(0, len(text) - 1))
    set_value(span, name, text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :])
    assert report_on(run, document).exit_code in {1, 2}


def test_what_a_collector_is_known_to_rewrite_is_no_contradiction(run: Run) -> None:
    """An operator may name attributes of ours that the pipeline hashes; the rest is still compared."""
    document = run.document()
    on_each(lambda span: set_value(span, "agent_identity.principal.id", "hash"))(document)
    report = report_on(run, document)
    assert (report.exit_code, report.counts["verified"], report.counts["contradicted"]) == (1, 0, 7)
    report = report_on(run, document, redacted=["agent_identity.principal.id"])
    assert (report.exit_code, codes(report)) == (0, {"copy_changed", "detail_not_checked"})
    assert (report.counts["verified"], report.counts["contradicted"]) == (7, 0)
    words = "the value of agent_identity.principal.id differs from the signed one; it was changed"
    assert {problem.message for problem in besides(report)} == {words}


def test_on_spans_of_others_their_words_are_theirs(run: Run) -> None:
    """What another library calls agent, call and error on its own span is no finding; whom it names as user is."""
    document = run.document()

    def differ(span: dict[str, Any]) -> None:
        for name in ("gen_ai.agent.name", "gen_ai.tool.call.id", "error.type"):
            if value_of(span, name) is not None:
                set_value(span, name, "theirs")

    on_each(differ)(document)
    assert codes(report_on(run, document)) == {"copy_changed", "detail_not_checked"}
    scopes = [scope["scope"] for resource in document["resourceSpans"] for scope in resource["scopeSpans"]]
    for scope in scopes:  # Where no library is named it may be ours.
        scope["name"] = ""
    assert codes(report_on(run, document)) == {"copy_changed", "detail_not_checked"}
    for scope in scopes:
        scope["name"] = "another.library"
    assert (report_on(run, document).exit_code, codes(report_on(run, document))) == (0, {"detail_not_checked"})
    on_each(lambda span: set_value(span, "user.id", "mallory"))(document)
    assert (report_on(run, document).exit_code, {p.code for p in besides(report_on(run, document))}) == (
        0,
        {"copy_changed"},
    )
    on_each(lambda span: set_value(span, "agent_identity.agent.id", "theirs"))(document)
    assert (report_on(run, document).exit_code, codes(report_on(run, document))) == (
        1,
        {"copy_changed", "field_changed", "detail_not_checked"},
    )


def test_what_is_missing_is_one_notice_for_each_record(run: Run) -> None:
    """A record without its plain copy verifies; the notice counts what is missing and names the first few."""
    document = run.document()
    on_each(lambda span: drop(span, "agent_identity.delegation."))(document)
    report = report_on(run, document)
    assert (report.exit_code, report.counts["redacted"], report.problems["notice"]) == (0, 6, 6 + 3)
    named = {found.record for found in report.findings if found.code == "copy_redacted"}
    assert len(named - {None}) == 6
    assert "4 attributes are missing or blanked: agent_identity.delegation.chain" in {
        p.message.rsplit(",", 3)[0] for p in report.findings
    }


def test_a_record_that_came_twice_is_counted_once(run: Run) -> None:
    """Retries of exporters duplicate spans; that is no contradiction."""
    report = report_on(run, run.exported + run.exported)
    assert (report.exit_code, report.counts["duplicates"], report.counts["verified"]) == (0, 7, 7)


def test_calls_behind_one_that_came_twice_are_covered(run: Run) -> None:
    """The second of two equal spans is no call, and what comes behind it is."""
    (first, *_) = tool_spans(run.document())
    alone = json.dumps({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "agent_identity"}, "spans": [first]}]}]})
    report = report_on(run, (alone + "\n" + alone + "\n").encode() + run.exported)
    assert report.counts["duplicates"] == 2
    assert report.coverage == report_on(run, run.exported).coverage


def test_a_forged_copy_of_a_duplicate_is_found(run: Run) -> None:
    """The plain attributes of a duplicate are compared as well."""
    document = run.document()
    forged_decision(document)
    report = report_on(run, run.exported + b"\n" + json.dumps(document).encode())
    assert (report.exit_code, report.counts["duplicates"]) == (1, 7)


def resigned(run: Run, span: dict[str, Any], key: SigningKey | None = None, **changes: object) -> dict[str, Any]:
    """Return a span with its record changed and signed again, as a recorder that lies does, and looking like it."""
    span = copy.deepcopy(span)
    payload = value_of(span, "agent_identity.attestation.payload")["stringValue"]
    record = json.loads(base64.urlsafe_b64decode(payload + "=="))
    record = {name: value for name, value in {**record, **changes}.items() if value is not None}
    drop(span, "agent_identity.")
    for name, value in sign_record(encode_record(record), key or run.recorder).to_attributes().items():
        set_value(span, name, value)
    seen = appearance_of(decode(encode_record({name: fact for name, fact in record.items() if name != "surprise"})))
    status = {} if seen.error is None else {"code": 2, "message": seen.error}
    span.update(name=seen.name, startTimeUnixNano=str(seen.start), endTimeUnixNano=str(seen.end), status=status)
    return span


def with_spans(run: Run, *spans: dict[str, Any]) -> dict[str, Any]:
    document = run.document()
    document["resourceSpans"][0]["scopeSpans"][0]["spans"].extend(spans)
    return document


def record_on(span: dict[str, Any]) -> dict[str, Any]:
    payload = value_of(span, "agent_identity.attestation.payload")["stringValue"]
    record: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return record


def test_two_versions_of_a_record_contradict_each_other(run: Run) -> None:
    """A recorder that signs two outcomes for one record id is found out."""
    forged = resigned(run, tool_spans(run.document())[0], outcome="error")
    report = report_on(run, with_spans(run, forged))
    assert report.exit_code == 1
    assert codes(report) >= {"two_versions", "two_at_one_place"}
    found = {problem.code: problem for problem in report.findings}
    record = record_on(forged)
    for code in ("two_versions", "two_at_one_place"):
        assert (found[code].record, found[code].stream) == (record["id"], record["stream"]["id"])
        assert found[code].seq == int(record["stream"]["seq"])
        assert "two different records have this " in found[code].message


def test_two_records_at_one_place_contradict_each_other(run: Run) -> None:
    """A recorder that fills one place of its stream twice is found out."""
    forged = resigned(run, tool_spans(run.document())[0], id="AZq1rUgAcACAAAAAAADwDQ")
    assert "two_at_one_place" in codes(report_on(run, with_spans(run, forged)))


def test_a_record_that_continues_another_past_is_found(run: Run) -> None:
    """Where the record before is in the file, the link between the two is checked."""
    span = tool_spans(run.document())[0]
    stream = record_on(span)["stream"]
    later = {"id": stream["id"], "seq": str(int(stream["seq"]) + 1), "prev": "A" * 43}
    forged = resigned(run, span, id="AZq1rUgAcACAAAAAAADwDQ", stream=later)
    report = report_on(run, with_spans(run, forged))
    assert codes(report) >= {"broken_link"}


def test_a_record_without_a_span_in_it_belongs_to_none(run: Run) -> None:
    """A record that was made without a span cannot be pinned to one."""
    document = run.document()
    document["resourceSpans"] = [{"scopeSpans": [{"spans": [resigned(run, tool_spans(document)[0], trace=None)]}]}]
    assert codes(report_on(run, document)) >= {"wrong_span"}


def test_a_signed_record_of_another_shape_is_refused(run: Run) -> None:
    """A signature does not excuse an unknown member, nor bytes that are not canonical."""
    document = run.document()
    forged = resigned(run, tool_spans(document)[0], surprise="x")
    report = report_on(run, with_spans(run, forged))
    assert (report.exit_code, codes(report)) == (1, {"malformed_record", "detail_not_checked"})
    assert report.findings[0].message == "record: unknown member"
    assert report.steps[2].status == "failed"
    body = b'{"a": "b"}'
    attestation = Attestation(
        payload=b64url_encode(body),
        payload_type=PAYLOAD_TYPE,
        signature=b64url_encode(run.recorder.sign(pae(PAYLOAD_TYPE, body))),
        keyid=run.recorder.public_key.thumbprint,
        digest=digest_of(body),
    )
    for name, value in attestation.to_attributes().items():
        set_value(forged, name, value)
    assert codes(report_on(run, with_spans(run, forged))) == {"malformed_record", "detail_not_checked"}


def test_a_tool_outside_the_grant_is_found(run: Run) -> None:
    """A signed record that allows what the grant does not cover contradicts the grant."""
    span = tool_spans(run.document())[0]
    record = record_on(span)
    place = {"id": record["stream"]["id"], "seq": "900", "prev": "A" * 43}
    forged = resigned(
        run,
        span,
        id="AZq1rUgAcACAAAAAAADwDQ",
        stream=place,
        action={**record["action"], "tool": "delete_all"},
    )
    set_value(forged, "gen_ai.tool.name", "delete_all")
    report = report_on(run, with_spans(run, forged))
    assert (report.exit_code, codes(report)) == (
        1,
        {"tool_outside_grant", "copy_redacted", "detail_not_checked"},
    )
    assert report.findings[0].record == "AZq1rUgAcACAAAAAAADwDQ"


def test_a_blocked_call_of_another_tool_is_no_use_of_the_grant(tmp_path: Path) -> None:
    """What was refused may be anything, and whoever refused it kept to the grant."""
    text = io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=text)))
    with (
        Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=provider)) as enforcer,
        enforcer.task("pay", principal=ALICE, agent=CLERK, scope=SCOPE),
        suppress(Denied),
        enforcer.action("delete_all"),
    ):
        pass
    report = Verifier(tmp_path / "trust.json").traces(io.BytesIO(text.getvalue().encode()))
    assert (report.verdict, besides(report), report.counts["denied"]) == ("verified", (), 1)


def test_an_allowed_call_after_its_grant_is_found(run: Run) -> None:
    """The start of the call counts, as the record states it."""
    span = tool_spans(run.document())[0]
    tasks = [record_on(one)["task"] for one in each_span(run.document()) if "task" in record_on(one)]
    (expires,) = {
        int(task["expires"]) for task in tasks if "expires" in task and task["id"] == record_on(span)["task"]["id"]
    }
    stream = {"id": record_on(span)["stream"]["id"], "seq": "900", "prev": "A" * 43}
    for start, found in ((expires, {"outside_grant_time"}), (expires - 1, set[str]())):
        forged = resigned(
            run,
            span,
            id="AZq1rUgAcACAAAAAAADwDQ",
            stream=stream,
            time={"start": str(start), "end": str(expires)},
        )
        report = report_on(run, with_spans(run, forged))
        assert codes(report) - {"copy_redacted", "detail_not_checked"} == found
        assert report.counts["contradicted"] == 0  # The record holds; its chain does not cover it.


def moved_to_another_trace(span: dict[str, Any]) -> None:
    span["traceId"] = "a" * 32


def moved_within_its_trace(span: dict[str, Any]) -> None:
    span["spanId"] = "b" * 16


def forged_and_hashed(span: dict[str, Any]) -> None:
    set_value(span, "agent_identity.principal.id", "mallory")
    set_value(span, "user.id", "5f2b")


@pytest.mark.parametrize(
    ("change", "code", "step"),
    [
        (lambda span: drop(span, "agent_identity.attestation."), "unsigned", 2),
        (lambda span: set_value(span, "agent_identity.attestation.signature", "A" * 86), "bad_signature", 2),
        (moved_to_another_trace, "wrong_span", 4),
        (moved_within_its_trace, "wrong_span", 4),
        (forged_and_hashed, "field_changed", 5),
        (lambda span: set_value(span, "agent_identity.surprise", "x"), "field_added", 5),
    ],
)
def test_a_contradicted_record_is_counted_named_and_attributes_nothing(
    run: Run, change: Callable[[dict[str, Any]], object], code: str, step: int
) -> None:
    """It counts neither as verified nor for the coverage, fails the one step, and the finding says where it is."""
    document = run.document()
    spans = list(each_span(document))
    record = record_on(spans[2])
    for span in spans[1:3]:
        change(span)
    report = report_on(run, lines(document))
    assert (report.exit_code, codes(report) - {"copy_changed", "chain_not_checked"}) == (
        1,
        {code, "detail_not_checked"},
    )
    counts = {name: report.counts[name] for name in ("spans", "records", "verified", "contradicted")}
    assert counts == {"spans": 7, "records": 7, "verified": 5, "contradicted": 2}
    assert {step.number for step in report.steps if step.status == "failed"} == {step}
    problem = [problem for problem in report.findings if problem.code == code][-1]
    words = {
        "wrong_span": "the record belongs to another span; it was moved",
        "unsigned": "the span has agent_identity.* attributes but no signature; it was removed or forged",
    }
    assert problem.message == words.get(code, problem.message)
    place = (record["id"], record["stream"]["id"])
    assert (problem.record, problem.stream, problem.line) == (*place, 3)
    assert problem.seq == (int(record["stream"]["seq"]) if step > 2 else None)
    (row,) = report.coverage
    assert (row.calls, row.attributed) == (5, 2)


def test_every_record_without_a_chain_is_counted(run: Run) -> None:
    """Calls outside any task are attributed to nobody, however many there are."""
    span = next(span for span in tool_spans(run.document()) if "chain" not in record_on(span))
    stream = record_on(span)["stream"]
    elsewhere = {"id": stream["id"], "seq": str(int(stream["seq"]) + 100), "prev": "A" * 43}
    other = resigned(run, span, id="AZq1rUgAcACAAAAAAADwDQ", stream=elsewhere)
    assert report_on(run, with_spans(run, other)).counts["unattributed"] == 2


def test_a_second_version_of_a_record_attributes_nothing(run: Run) -> None:
    """It is contradicted, and the first one stays what it was."""
    forged = resigned(run, tool_spans(run.document())[0], outcome="error")
    report = report_on(run, with_spans(run, forged))
    assert (report.counts["verified"], report.counts["contradicted"]) == (7, 1)
    assert [(row.calls, row.attributed) for row in report.coverage] == [(6, 4)]
    (step,) = [step for step in report.steps if step.status == "failed"]
    assert step.number == 7


def test_what_a_span_claims_is_shown_in_part(run: Run) -> None:
    """Ids that nothing vouches for are cut, or left out where they are no text."""
    document = run.document()
    first, second = tool_spans(document)[:2]
    drop(first, "agent_identity.attestation.")
    set_value(first, "agent_identity.record.id", "r" * 65)
    set_value(first, "agent_identity.stream.id", "s" * 65)
    drop(second, "agent_identity.attestation.")
    for name in ("record", "stream"):
        value = value_of(second, f"agent_identity.{name}.id")
        value.clear()
        value["intValue"] = "7"
    shown = {(p.record, p.stream) for p in report_on(run, document).findings if p.code == "unsigned"}
    assert shown == {("r" * 64, "s" * 64), (None, None)}


def test_an_id_without_its_form_is_no_reason_to_look_into_the_ledger(run: Run) -> None:
    """The attribute that names the record is compared with the record, whatever it is."""
    document = run.document()
    first, second = tool_spans(document)[:2]
    set_value(first, "agent_identity.record.id", "x" * 36)
    value = value_of(second, "agent_identity.record.id")
    value.clear()
    value["intValue"] = "7"
    report = report_on(run, document, ledger=run.directory)
    assert (codes(report), report.counts["contradicted"]) == ({"field_changed"}, 2)
    assert report.counts["proved_by_ledger"] == 5


def test_each_step_says_what_it_took(run: Run) -> None:
    """The numbers of a report without findings, and of one in which attributes are missing and records came again."""
    report = report_on(run, run.exported)
    assert [(step.status, step.detail) for step in report.steps] == [
        ("passed", "7 spans"),
        ("passed", "7 records"),
        ("passed", "7 records"),
        ("passed", "7 records"),
        ("passed", "7 records; 136 of 136 attributes compared, 0 missing or blanked"),
        ("passed", "2 chains verified"),
        ("passed", "7 records, 0 of them again"),
        ("not_checked", "spans are sampled and dropped; compare with a ledger"),
        ("not_checked", "spans hold keyed digests of them"),
    ]
    assert report.kinds == {"outcome": 5, "task_end": 2}
    assert (report.counts["success"], report.counts["denied"], report.counts["unattributed"]) == (3, 2, 1)
    document = run.document()
    drop(tool_spans(document)[0], "agent_identity.delegation.")
    data = json.dumps(document).encode()
    report = report_on(run, data + b"\n" + data)
    assert report.steps[4].detail == "14 records; 266 of 272 attributes compared, 6 missing or blanked"
    assert report.steps[6].detail == "14 records, 7 of them again"
    assert report.kinds == {"outcome": 5, "task_end": 2}


def test_a_report_on_no_spans_has_every_number(run: Run) -> None:
    """What was not there is a nought in the report, not absent from it."""
    report = report_on(run, b"")
    names = {"spans", "records", "verified", "contradicted", "duplicates", "unattributed"}
    assert {name: report.counts.get(name) for name in names} == dict.fromkeys(names, 0)
    assert [step.status for step in report.steps[1:]] == ["not_checked"] * 8
    assert report.findings[0].message == "none of 0 spans carries a signed record"
    assert "proved_by_ledger" in report_on(run, b"", ledger=run.directory).counts


def test_what_was_added_may_be_known_too(run: Run) -> None:
    """An attribute below our name that a collector is known to set is none of ours."""
    document = run.document()
    on_each(lambda span: set_value(span, "agent_identity.note", "x"))(document)
    on_each(lambda span: drop(span, "user.id"))(document)
    report = report_on(run, document, redacted=["agent_identity.note"])
    assert (report.exit_code, codes(report)) == (0, {"copy_redacted", "detail_not_checked"})
    document = run.document()
    on_each(lambda span: set_value(span, "agent_identity.note", "x"))(document)
    assert codes(report_on(run, document, redacted=["agent_identity.note"])) == {"detail_not_checked"}


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"pasted"}))
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("agent_identity.principal.id", "mallory", "field_added"),
        ("agent_identity.principal.id", "[REDACTED]", None),
        ("agent_identity.tool.approved", "yes", "field_added"),
        ("agent_identity_stamp.principal.id", "mallory", None),
    ],
)
def test_ac_93_nothing_forged_stands_on_the_resource(
    run: Run, form: str, name: str, value: str, code: str | None
) -> None:
    """Back ends show its attributes beside those of the span."""
    document = run.document()
    on_resource(name, value)(document)
    report = report_on(run, FORMS[form](document))
    assert [problem.code for problem in besides(report)] == [code] * (7 if code else 0)
    assert (report.exit_code, report.counts["contradicted"]) == ((1, 7) if code else (0, 0))
    assert besides(report_on(run, FORMS[form](document), redacted=[name])) == ()


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"pasted"}))
def test_ac_93_what_a_collector_moves_to_the_resource_is_compared(run: Run, form: str) -> None:
    """It grouped the spans by an attribute: the same value there is missing here, another one is a forgery."""
    for value, code in (("alice@example.com", "copy_redacted"), ("mallory@example.com", "field_added")):
        document = run.document()
        spans = [span for span in tool_spans(document) if "chain" in record_on(span)]
        document["resourceSpans"] = [{"scopeSpans": [{"spans": spans}]}]
        on_each(lambda span: drop(span, "agent_identity.principal.id"))(document)
        on_resource("agent_identity.principal.id", value)(document)
        report = report_on(run, FORMS[form](document))
        assert codes(report) - {"chain_not_checked"} == {"copy_redacted", "detail_not_checked", code}
        assert report.counts["contradicted"] == (4 if code == "field_added" else 0)
        named = [problem for problem in report.findings if problem.code == code]
        assert len(named) == 4
        if code == "field_added":
            wanted = "the attribute 'agent_identity.principal.id' on the resource is not signed"
            assert {problem.message for problem in named} == {f"{wanted}; it was added"}


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {"pasted"}))
@pytest.mark.parametrize("name", ["agent_identity.principal.id", "agent_identity.tool.approved"])
def test_ac_93_a_claim_on_the_resource_of_a_span_without_a_record_is_unsigned(run: Run, form: str, name: str) -> None:
    """Else whoever strips a span of all that is ours could still say there who it was."""
    document = run.document()
    stripped = tool_spans(document)[0]
    drop(stripped, "agent_identity.")
    forged = {"resourceSpans": [{"scopeSpans": [{"spans": [{**stripped, "spanId": "c" * 16}]}]}]}
    on_resource(name, "mallory")(forged)
    document["resourceSpans"] += forged["resourceSpans"]  # The span that was stripped stays, and claims nothing.
    report = report_on(run, FORMS[form](document))
    assert [problem.code for problem in report.findings if problem.code == "unsigned"] == ["unsigned"]
    assert report.exit_code == 1
    assert "unsigned" not in codes(report_on(run, FORMS[form](document), redacted=[name]))


def test_of_many_attributes_on_a_resource_one_is_named(run: Run) -> None:
    """Or whoever writes many, on the resource of many spans, makes work that is their product."""
    document = run.document()
    for name in ("b" * 200, "a", "c"):
        on_resource(f"agent_identity.{name}", "x")(document)
    found = besides(report_on(run, document))
    assert [problem.code for problem in found] == ["field_added"] * 7
    assert "the attribute 'agent_identity.a' on the resource" in found[0].message
    names = ["agent_identity.a", "agent_identity.c", "agent_identity." + "b" * 200]
    assert besides(report_on(run, document, redacted=names)) == ()
    assert "'agent_identity." + "b" * 113 + "'" in report_on(run, document, redacted=names[:2]).findings[0].message


def test_names_in_messages_are_bounded(run: Run) -> None:
    """Of a foreign name the beginning is shown, in ASCII, and of those that are missing the first five."""
    document = run.document()
    span = tool_spans(document)[0]
    drop(span, "agent_identity.delegation.")
    drop(span, "agent_identity.decision.")
    name = "agent_identity." + "\u00e9" * 200
    set_value(span, name, "x")
    missing = [f"delegation.{part}" for part in ("chain", "task_id", "token_hash")]
    missing += ["decision.effect", "decision.enforced"]
    named = ", ".join("agent_identity." + part for part in missing)
    messages = {problem.code: problem.message for problem in report_on(run, document).findings}
    assert messages == {
        "field_added": f"the attribute {name[:128]!a} is not signed; it was added",
        "copy_redacted": f"7 attributes are missing or blanked: {named}",
        "detail_not_checked": "the details of 2 outcomes were not checked (detail in the ledger)",
    }


def dated(run: Run, start: int, end: int) -> dict[str, Any]:
    """Return a document of one call that began and ended then, in nanoseconds."""
    span = tool_spans(run.document())[0]
    forged = resigned(run, span, time={"start": str(start), "end": str(end)})
    return {"resourceSpans": [{"scopeSpans": [{"spans": [forged]}]}]}


@pytest.mark.parametrize(
    ("times", "found"),
    [
        ({"not_after": 1_764_000_000}, {"key_not_valid_then"}),
        ({"not_after": 1_764_000_010}, set()),
        ({"not_before": 1_764_000_010}, set()),
        ({"not_before": 1_764_000_011}, {"key_not_valid_then"}),
        ({"revoked_since": 1_764_000_010}, {"signed_after_revocation"}),
        ({"revoked_since": 1_764_000_011}, {"key_revoked"}),
    ],
)
def test_the_second_in_which_a_record_ends_decides_about_its_key(
    run: Run, times: dict[str, Any], found: set[str]
) -> None:
    """A recorder signs when a call has ended, and the last second of a key counts to its end."""
    document = dated(run, 1_764_000_000 * 10**9, 1_764_000_010 * 10**9 + 999_999_999)
    issuer, recorder = run.trust.keys
    trust = TrustStore((issuer, TrustedKey(recorder.key, "recorder", **times)))
    report = Verifier(trust).traces(io.BytesIO(json.dumps(document).encode()))
    assert codes(report) - {"copy_redacted", "chain_not_checked"} == found
    contradicted = int("signed_after_revocation" in found)
    assert (report.counts["contradicted"], report.counts["verified"]) == (contradicted, 1 - len(found))
    assert report.exit_code == (1 if contradicted else 2 * len(found))


def test_a_record_without_an_end_is_dated_by_its_start(run: Run) -> None:
    """An intent is on a span where nothing says how the call ended."""
    span = tool_spans(run.document())[0]
    action = {name: value for name, value in record_on(span)["action"].items() if name != "result"}
    start = record_on(span)["time"]["start"]
    forged = resigned(run, span, kind="intent", outcome=None, intent=None, action=action, time={"start": start})
    forged.pop("parentSpanId", None)  # An intent states it, and the outcome that this one was does not.
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [forged]}]}]}
    issuer, recorder = run.trust.keys
    for last, verified in ((int(start) // 10**9, 1), (int(start) // 10**9 - 1, 0)):
        trust = TrustStore((issuer, TrustedKey(recorder.key, "recorder", not_after=last)))
        report = Verifier(trust).traces(io.BytesIO(json.dumps(document).encode()))
        assert (report.counts["verified"], report.exit_code) == (verified, 0 if verified else 2)


def test_a_key_counts_only_in_its_time_and_for_its_purpose(run: Run) -> None:
    """An unknown, retired or differently purposed key leaves the question open, with the reason."""
    keys = run.trust.keys
    for trust, code in (
        (TrustStore((keys[0],)), "unknown_key"),
        (TrustStore((keys[0], TrustedKey(keys[1].key, "recorder", not_after=1_700_000_000))), "key_not_valid_then"),
        (TrustStore((keys[0], TrustedKey(keys[0].key, "recorder"))), "unknown_key"),
    ):
        report = Verifier(trust).traces(io.BytesIO(run.exported))
        assert (report.exit_code, codes(report)) == (2, {code})
        assert report.counts["unknown_key"] == 7
        assert report.counts["verified"] == 0


def test_without_trust_nothing_is_claimed(run: Run) -> None:
    """Spans without trusted keys: cannot tell, and no step of substance is shown as passed."""
    report = Verifier().traces(io.BytesIO(run.exported))
    assert (report.exit_code, report.trust, codes(report)) == (2, "none", {"no_trust"})
    (problem,) = report.findings
    assert problem.message == "there are no trusted keys; pass the trust file of the recorder"
    assert {step.number: step.status for step in report.steps if step.status == "passed"} == {1: "passed"}


def test_what_was_not_checked_is_not_shown_as_passed(run: Run) -> None:
    """Completeness and arguments are named as not checked, in a report that is otherwise clean."""
    report = verify(io.BytesIO(run.exported), run.trust)
    assert report.completeness == "not_checked"
    assert [step.number for step in report.steps if step.status == "not_checked"] == [8, 9]


def test_spans_behind_a_part_of_a_document_that_is_none_are_verified(run: Run) -> None:
    """What is wrong with one resource hides nothing that the next one holds."""
    document = run.document()
    forged_decision(document)
    document["resourceSpans"].insert(0, {"scopeSpans": 7})
    report = report_on(run, document)
    assert (report.verdict, report.counts["malformed"], report.counts["records"]) == ("contradicted", 1, 7)


def test_lines_that_cannot_be_read_are_named_and_the_rest_is_verified(run: Run) -> None:
    """Garbage between documents makes a report incomplete, with the line; nothing breaks."""
    lines = run.exported.splitlines()
    data = b"\n".join([lines[0], b'{"resourceSpans": [{"scopeSpans', *lines[1:], b"[1, 2", b"\xff\xfe"])
    report = report_on(run, data)
    assert (report.exit_code, report.integrity, report.counts["verified"]) == (3, "verified", 7)
    assert {p.line for p in besides(report)} == {2, len(lines) + 2, len(lines) + 3}
    assert report.counts["malformed"] == 3
    assert report.steps[0].status != "passed"
    assert {problem.code for problem in besides(report)} == {"malformed_document"}


@given(st.data())
def test_no_file_breaks_the_verifier(run: Run, data: st.DataObject) -> None:
    """Whatever bytes are cut, inserted or changed, there is a report, and a change never adds a verified record."""
    whole = run.exported
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 2000)))
    report = report_on(run, whole[:start] + data.draw(st.binary(max_size=30)) + whole[end:])
    assert report.counts["verified"] <= 7


def test_an_empty_file_is_nothing_to_verify(run: Run) -> None:
    """No spans, no verdict."""
    assert codes(report_on(run, b"")) == {"nothing_to_verify"}
    others = [call_span("other", "execute_tool pay", spanId=f"{number:016x}") for number in (1, 2)]
    (problem,) = report_on(run, {"resourceSpans": others}).findings
    assert problem.message == "none of 2 spans carries a signed record"
    assert report_on(run, b"").exit_code == 2


def test_sources_of_every_kind(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, several paths, standard input and an open file give the same report."""
    file = tmp_path / "traces.jsonl"
    file.write_bytes(run.exported)
    trust = run.directory / "trust.json"
    expected = report_on(run, run.exported)
    assert Verifier(trust).traces(file) == Verifier(trust).traces(str(file)) == expected
    assert Verifier(trust).traces(file, file).counts["duplicates"] == 7
    with file.open("rb") as standard_input:
        monkeypatch.setattr("agent_identity._verify.inputs.sources._standard_input", lambda: standard_input)
        assert Verifier(trust).traces("-") == expected
    with pytest.raises(ConfigurationError, match="No such file"):
        Verifier(trust).traces(tmp_path / "absent")


def test_standard_input_is_read_as_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Standard input is opened in binary mode, and closing the reader leaves the descriptor open."""
    import os

    from agent_identity._verify.inputs.sources import opened

    (tmp_path / "x").write_bytes(b"\xff\n")
    kept = os.dup(0)
    with (tmp_path / "x").open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        with opened("-") as lines:
            assert lines.readline(10) == b"\xff\n"
        os.fstat(0)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_a_file_that_cannot_be_read_to_its_end(run: Run) -> None:
    """An input error while reading is reported, not raised."""

    class Broken(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            raise OSError

    report = Verifier(run.trust).traces(Broken())
    assert (report.exit_code, codes(report)) == (2, {"unreadable", "nothing_to_verify"})
    (problem,) = [found for found in report.findings if found.code == "unreadable"]
    assert report.steps[0].status != "passed"
    assert problem.message == "the file of spans cannot be read to its end; copy it again"


def test_progress_of_files(run: Run, tmp_path: Path) -> None:
    """Progress ends at the size of the files; it is unknown for a stream."""
    file = tmp_path / "traces.jsonl"
    file.write_bytes(run.exported * 40)
    seen: list[tuple[int, int]] = []
    Verifier(run.trust, progress=lambda done, total: seen.append((done, total))).traces(file, file)
    assert seen == sorted(seen)
    assert seen[-1] == (2 * file.stat().st_size, 2 * file.stat().st_size)
    assert len(seen) > 3
    seen.clear()
    Verifier(run.trust, progress=lambda done, total: seen.append((done, total))).traces(io.BytesIO(run.exported))
    assert seen[-1] == (len(run.exported), 0)


# Completeness against the ledger.


def test_spans_are_complete_against_their_ledger(run: Run) -> None:
    """With the ledger beside them, spans are complete, and a lost span is found and named."""
    report = Verifier(run.trust).traces(io.BytesIO(run.exported), ledger=run.directory).raise_for_status()
    assert report.completeness == "complete"
    document = run.document()
    lost = tool_spans(document)[0]
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            scope["spans"] = [span for span in scope["spans"] if span["spanId"] != lost["spanId"]]
    report = report_on(run, document, ledger=run.directory / "ledger")
    (problem,) = report.findings
    assert (report.exit_code, report.counts["spans_missing"]) == (3, 1)
    record = record_on(lost)
    place = (record["id"], record["stream"]["id"], int(record["stream"]["seq"]))
    assert (problem.code, problem.record, problem.stream, problem.seq) == ("span_missing", *place)
    assert problem.message == (
        "no span carries this record of the ledger; it was not sampled, or was lost: "
        "'agent-identity replay' sends it again"
    )
    assert "'agent-identity replay' sends it again" in problem.message
    assert (report.steps[7].status, report.steps[7].detail) == ("failed", "6 of 6 records are in the ledger as well")


def test_all_spans_that_are_missing_are_counted(run: Run) -> None:
    """Each of them is named as well."""
    document = run.document()
    lost = {span["spanId"] for span in tool_spans(document)[:2]}
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            scope["spans"] = [span for span in scope["spans"] if span["spanId"] not in lost]
    report = report_on(run, document, ledger=run.directory)
    assert (len(report.findings), report.counts["spans_missing"]) == (2, 2)


def test_progress_beside_a_ledger(run: Run, tmp_path: Path) -> None:
    """The bytes of the ledger are read first, and count like those of the file."""
    file = tmp_path / "traces.jsonl"
    file.write_bytes(run.exported)
    seen: list[tuple[int, int]] = []
    Verifier(run.trust, progress=lambda done, total: seen.append((done, total))).traces(file, ledger=run.directory)
    lines = sum(path.stat().st_size for path in (run.directory / "ledger").rglob("*.jsonl"))
    done = [done for done, _ in seen]
    assert lines in done
    assert (done, seen[-1]) == (sorted(done), (file.stat().st_size + lines,) * 2)


def test_a_record_that_the_ledger_has_not_is_found(run: Run) -> None:
    """A record signed into a stream of the ledger and absent there was removed from it, or never in it."""
    span = tool_spans(run.document())[0]
    place = {"id": record_on(span)["stream"]["id"], "seq": "900", "prev": "A" * 43}
    forged = resigned(run, span, id="AZq1rUgAcACAAAAAAADwDQ", stream=place)
    report = report_on(run, with_spans(run, forged), ledger=run.directory)
    assert (report.exit_code, codes(report)) == (1, {"not_in_ledger", "copy_redacted"})
    (problem,) = [problem for problem in report.findings if problem.code == "not_in_ledger"]
    assert (problem.record, problem.stream) == ("AZq1rUgAcACAAAAAAADwDQ", place["id"])
    assert problem.message.endswith("; it was removed there")
    assert (report.steps[7].status, report.steps[7].detail) == ("failed", "7 of 8 records are in the ledger as well")


def test_a_record_at_the_last_place_that_its_form_allows_is_held_against_the_ledger(run: Run) -> None:
    """It is said not to be there, like any other."""
    span = tool_spans(run.document())[0]
    place = {"id": record_on(span)["stream"]["id"], "seq": "9" * 19, "prev": "A" * 43}
    forged = resigned(run, span, id="AZq1rUgAcACAAAAAAADwDQ", stream=place)
    report = report_on(run, with_spans(run, forged), ledger=run.directory)
    assert (report.exit_code, codes(report)) == (1, {"not_in_ledger", "copy_redacted"})


def test_a_record_that_differs_from_the_ledger_is_found(run: Run) -> None:
    """Span and ledger hold the same record, or one of them lies."""
    document = run.document()
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans[0] = resigned(run, spans[0], outcome="cancelled")
    report = report_on(run, document, ledger=run.directory)
    assert (report.exit_code, codes(report) & {"differs_from_ledger"}) == (1, {"differs_from_ledger"})
    (problem,) = [problem for problem in report.findings if problem.code == "differs_from_ledger"]
    record = record_on(spans[0])
    place = (record["id"], record["stream"]["id"], int(record["stream"]["seq"]))
    assert (problem.record, problem.stream, problem.seq) == place
    assert problem.message == "the record differs from the one of this id in the ledger"
    assert report.steps[7].status == "failed"


def test_records_of_another_ledger_are_told_apart(run: Run, tmp_path: Path) -> None:
    """Spans of a stream that the ledger does not have are not held against it."""
    with Enforcer.open(tmp_path / "other"):
        pass
    report = report_on(run, run.exported, ledger=tmp_path / "other")
    assert (report.exit_code, codes(report)) == (3, {"other_ledger", "ledger_not_verified", "detail_not_checked"})
    assert (report.steps[7].status, report.steps[7].detail) == ("failed", "0 of 7 records are in the ledger as well")
    first, *others = besides(report)
    assert first.message == "the ledger is not whole (cannot_tell); run the verification on it"
    place = record_on(tool_spans(run.document())[0])
    assert {(problem.stream, problem.message) for problem in others} == {
        (place["stream"]["id"], "the record is of a stream that the ledger does not have")
    }
    assert place["id"] in {problem.record for problem in others}


def test_a_ledger_that_does_not_verify_proves_no_completeness(run: Run, tmp_path: Path) -> None:
    """The ledger of the comparison is verified itself."""
    import shutil

    copied = tmp_path / "copy"
    shutil.copytree(run.directory, copied)
    (entries,) = copied.glob("ledger/*/entries.jsonl")
    entries.write_bytes(b"".join(entries.read_bytes().splitlines(keepends=True)[:-1]))
    report = report_on(run, run.exported, ledger=copied)
    messages = {problem.code: problem.message for problem in report.findings}
    assert messages["ledger_contradicted"] == "the ledger does not verify; run the verification on it"
    assert "ledger_not_verified" not in messages
    assert (report.exit_code, report.steps[7].status) == (1, "failed")
    with pytest.raises(ConfigurationError, match="evidence directory"):
        report_on(run, run.exported, ledger=tmp_path / "absent")


def test_verify_raises_with_the_report(run: Run) -> None:
    """verify() returns only what holds; the error has the verdict as its code and the report."""
    with pytest.raises(VerificationError) as caught:
        verify(io.BytesIO(b""), run.trust)
    assert caught.value.code == "cannot_tell"
    assert isinstance(caught.value.report, Report)


# Coverage.


def call_span(scope: str, name: str, **ids: str) -> dict[str, Any]:
    key, value = ("mcp.method.name", "tools/call") if name == "mcp" else ("gen_ai.operation.name", "execute_tool")
    span = {"name": name, "traceId": "a" * 32, "startTimeUnixNano": "1", "endTimeUnixNano": "2", **ids}
    span["attributes"] = [{"key": key, "value": {"stringValue": value}}]
    return {"scopeSpans": [{"scope": {"name": scope}, "spans": [span]}]}


def test_coverage_counts_every_library(run: Run) -> None:
    """Tool calls of other libraries count, and are attributed through the guarded call above or below."""
    document = run.document()
    ours = tool_spans(document)[0]
    tool_spans(document)[1].pop("parentSpanId")
    ids = {"traceId": ours["traceId"]}
    document["resourceSpans"] += [
        call_span("langchain", "x", spanId=ours["parentSpanId"], **ids),
        call_span("mcp", "mcp", spanId="b" * 16, parentSpanId=ours["spanId"], **ids),
        call_span("wild", "x", spanId="c" * 16),
    ]
    report = report_on(run, document)
    rows = {row.scope: (row.calls, row.attributed, row.human) for row in report.coverage}
    assert rows == {"agent_identity": (5, 4, 4), "langchain": (1, 1, 1), "mcp": (1, 1, 1), "wild": (1, 0, 0)}
    assert report.counts["unattributed"] == 1


def traced(
    scope: str, number: int, parent: int | None = None, tool: object = None, trace: int = 1, **attributes: object
) -> SpanData:
    """Return a span of a tool call."""
    return SpanData(
        trace_id=f"{trace:032x}",
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name="call",
        start=1,
        end=2,
        attributes={
            "gen_ai.operation.name": "execute_tool",
            **({} if tool is None else {"gen_ai.tool.name": tool}),
            **attributes,
        },
        resource={},
        scope=scope,
        status="unset",
        status_message="",
        line=1,
    )


OURS = traced("ours", 2, parent=1, tool="pay"), "human"
BESIDE: dict[str, tuple[list[tuple[SpanData, str | None]], tuple[int, int, int]]] = {
    "the span above": ([OURS, (traced("lib", 1, tool="pay"), None)], (1, 1, 1)),
    "the span below": ([OURS, (traced("lib", 3, parent=2, tool="pay"), None)], (1, 1, 1)),
    "one that comes first": ([(traced("lib", 3, parent=2, tool="pay"), None), OURS], (1, 1, 1)),
    "without a tool": ([OURS, (traced("lib", 3, parent=2), None)], (1, 1, 1)),
    "of another tool": ([OURS, (traced("lib", 3, parent=2, tool="refund"), None)], (1, 0, 0)),
    "above, of another tool": ([OURS, (traced("lib", 1, tool="refund"), None)], (1, 0, 0)),
    "of a tool that is no text": ([OURS, (traced("lib", 3, parent=2, tool="\udfff"), None)], (1, 0, 0)),
    "under it in another trace": ([OURS, (traced("lib", 3, parent=2, tool="pay", trace=5), None)], (1, 0, 0)),
    "over it in another trace": ([OURS, (traced("lib", 1, tool="pay", trace=5), None)], (1, 0, 0)),
    "beside it": ([OURS, (traced("lib", 3, parent=1, tool="pay"), None)], (1, 0, 0)),
    "two steps below": ([OURS, (traced("lib", 4, parent=3, tool="pay"), None)], (1, 0, 0)),
    "a root of its own": ([OURS, (traced("lib", 3, tool="pay"), None)], (1, 0, 0)),
    "two below, of one library": (
        [OURS, *((traced("lib", number, parent=2, tool="pay"), None) for number in (3, 4))],
        (2, 1, 1),
    ),
    "above and below": (
        [OURS, (traced("lib", 1, tool="pay"), None), (traced("lib", 3, parent=2, tool="pay"), None)],
        (2, 2, 2),
    ),
    "below one of a service": (
        [(traced("ours", 2, parent=1, tool="pay"), "service"), (traced("lib", 3, parent=2, tool="pay"), None)],
        (1, 1, 0),
    ),
    "between two calls of ours": (
        [
            (traced("ours", 2, tool="pay"), "service"),
            (traced("ours", 4, parent=3, tool="refund"), "human"),
            (traced("lib", 3, parent=2, tool="pay"), None),
        ],
        (1, 1, 0),
    ),
    "between two calls of ours that both fit": (
        [
            (traced("ours", 2, tool="pay"), "service"),
            (traced("ours", 4, parent=3, tool="pay"), "human"),
            (traced("lib", 3, parent=2, tool="pay"), None),
        ],
        (1, 1, 1),
    ),
    "over two of ours": (
        [
            (traced("ours", 2, parent=1, tool="pay"), "human"),
            (traced("ours", 3, parent=1, tool="pay"), "service"),
            (traced("lib", 1, tool="pay"), None),
        ],
        (1, 1, 1),
    ),
    "below one that is there twice": (
        [
            (traced("ours", 2, parent=1, tool="pay"), "human"),
            (traced("ours", 2, parent=1, tool="pay"), "service"),
            (traced("lib", 3, parent=2, tool="pay"), None),
        ],
        (1, 1, 0),
    ),
    "below one whose longest name is the beginning of its own": (
        [
            (traced("ours", 2, tool="x" * 256), "human"),
            (traced("lib", 3, parent=2, tool="x" * 256 + "y"), None),
        ],
        (1, 0, 0),
    ),
    "one under an unattributed call": ([(traced("ours", 2), None), (traced("lib", 3, parent=2), None)], (1, 0, 0)),
}


@pytest.mark.parametrize("name", BESIDE)
def test_a_call_of_another_library_is_attributed_through_the_call_right_above_or_below(name: str) -> None:
    """Of the same trace and of no other tool, one for each library."""
    calls, expected = BESIDE[name]
    table = CoverageTable()
    for span, principal in calls:
        call = ToolCall.of(span)
        assert call is not None
        table.add(call, principal)
    rows = table.rows()
    assert [(row.calls, row.attributed, row.human) for row in rows if row.scope == "lib"] == [expected]
    assert [row.scope for row in rows] == ["lib", "ours"]


@pytest.mark.parametrize(
    ("attributes", "counted"),
    [
        ({"gen_ai.operation.name": "execute_tool"}, True),
        ({"mcp.method.name": "tools/call"}, True),
        ({"gen_ai.operation.name": "chat", "mcp.method.name": "tools/call"}, True),
        ({"gen_ai.operation.name": "chat", "mcp.method.name": "tools/list"}, False),
        ({"gen_ai.tool.name": "execute_tool"}, False),
        ({"gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "1"}, True),
        ({"gen_ai.operation.name": "chat", "gen_ai.tool.name": "pay", "gen_ai.tool.call.id": "1"}, False),
        ({"openinference.span.kind": "TOOL"}, True),
        ({"openinference.span.kind": "CHAIN", "tool.name": "pay"}, False),
        ({"traceloop.span.kind": "tool"}, True),
        ({"langfuse.observation.type": "tool"}, True),
    ],
)
def test_what_counts_as_a_tool_call(attributes: dict[str, object], counted: bool) -> None:
    """By the conventions for GenAI or for MCP, OpenInference, OpenLLMetry and Langfuse."""
    span = msgspec.structs.replace(traced("ours", 2), attributes=attributes)
    assert (ToolCall.of(span) is not None) is counted


def test_coverage_tells_humans_from_services(tmp_path: Path) -> None:
    """A call for a service is attributed, but not to a human."""
    text = io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=text)))
    with Enforcer.open(tmp_path, telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        nightly = Service("nightly-job")
        with (
            enforcer.task("t", principal=nightly, agent=CLERK, scope=Scope("pay")),
            enforcer.action("pay", amount=1),
        ):
            pass
    report = verify(io.BytesIO(text.getvalue().encode()), tmp_path / "trust.json")
    assert [(row.calls, row.attributed, row.human) for row in report.coverage] == [(1, 1, 0)]


def test_a_forged_record_attributes_nothing(run: Run) -> None:
    """Coverage counts only records whose signature, span and copy hold."""
    document = run.document()
    on_each(lambda span: set_value(span, "agent_identity.principal.id", "mallory"))(document)
    (row,) = report_on(run, document).coverage
    assert (row.calls, row.attributed) == (5, 0)


def test_the_spans_of_a_receiver_carry_the_whole_chain(tmp_path: Path) -> None:
    """A task that was opened elsewhere brings the grants of others along, so that its spans verify alone."""
    text = io.StringIO()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(stream=text)))
    parent = Enforcer.open(tmp_path / "a", telemetry=Telemetry(tracer_provider=TracerProvider()))
    with parent, Enforcer.open(tmp_path / "a", telemetry=Telemetry(tracer_provider=provider)) as child:
        read_invoice = child.tool(name="read_invoice")(lambda invoice_id: invoice_id)
        with (
            parent.task("pay", principal=ALICE, agent=CLERK, scope=SCOPE),
            parent.delegate(Agent("reader", owner="x"), scope=SCOPE),
            child.accept(parent.current_task.export()),
        ):
            read_invoice(invoice_id="INV-42")
    report = Verifier(tmp_path / "a" / "trust.json").traces(io.BytesIO(text.getvalue().encode()))
    assert (report.verdict, report.counts["chains_verified"], report.counts["chains_not_checked"]) == ("verified", 1, 0)
    cut = json.loads(text.getvalue().splitlines()[-1])
    for span in each_span(cut):
        if value_of(span, "agent_identity.delegation.grant"):
            set_value(span, "agent_identity.delegation.grant", "a~b~c")
    assert (
        Verifier(tmp_path / "a" / "trust.json")
        .traces(io.BytesIO(json.dumps(cut).encode()))
        .counts["chains_not_checked"]
        == 1
    )


DOUBLINGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "one of ours": lambda document: next(each_span(document))["attributes"].append(
        {"key": "agent_identity.agent.id", "value": {"stringValue": "billing"}}
    ),
    "one of others": lambda document: next(each_span(document))["attributes"].extend(
        {"key": "http.route", "value": {"stringValue": text}} for text in "ab"
    ),
    "one of the resource": lambda document: document["resourceSpans"][0]["resource"]["attributes"].extend(
        {"key": "host.name", "value": {"stringValue": text}} for text in "ab"
    ),
}


@pytest.mark.parametrize("doubling", DOUBLINGS)
def test_a_doubled_attribute_hides_no_contradiction(run: Run, doubling: str) -> None:
    """An edited span to which an attribute with two values was added stays contradicted."""
    document = run.document()
    set_value(next(each_span(document)), "agent_identity.agent.id", "mallory")
    assert report_on(run, document).exit_code == 1
    DOUBLINGS[doubling](document)
    report = report_on(run, document)
    assert report.exit_code == 1
    assert codes(report) & {"field_doubled", "field_changed"}
