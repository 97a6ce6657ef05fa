"""Spans that were edited: their name, times, parent and status, and what stands beside their attributes."""

import base64
import copy
import io
import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Status, StatusCode

from agent_identity import Denied, Human, Scope, Verifier

GRANT = "agent_identity.delegation.grant"


def value(found: object) -> dict[str, Any]:
    if isinstance(found, str):
        return {"stringValue": found}
    return {"arrayValue": {"values": [{"stringValue": item} for item in found]}}  # type: ignore[attr-defined]


def written(span: ReadableSpan) -> dict[str, Any]:
    """Return a span as exporters write it in OTLP/JSON."""
    context, attributes = span.context, span.attributes or {}
    assert context is not None
    status: dict[str, Any] = {"code": span.status.status_code.value}
    if span.status.description is not None:
        status["message"] = span.status.description
    members = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": [{"key": name, "value": value(found)} for name, found in attributes.items()],
        "events": [],
        "status": status,
    }
    return members | ({"parentSpanId": f"{span.parent.span_id:016x}"} if span.parent else {})


def document(*spans: dict[str, Any], scope: str | None = "agent_identity", **more: Any) -> dict[str, Any]:
    """Return an export of spans."""
    named = {**({"name": scope} if scope else {}), **more}
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": named, "spans": list(spans)}]}]}


def protobuf(exported: dict[str, Any]) -> bytes:
    exported = copy.deepcopy(exported)
    for span in exported["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for name in {"traceId", "spanId", "parentSpanId"} & span.keys():
            span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return ParseDict(exported, ExportTraceServiceRequest()).SerializeToString()


def lines(exported: dict[str, Any]) -> bytes:
    """Return an export with many honest spans of the same shape before it, which are read by that shape."""
    honest = json.dumps(HONEST[-1], separators=(",", ":")).encode() + b"\n"
    return honest * 6 + json.dumps(exported, separators=(",", ":")).encode() + b"\n" if HONEST else b""


HONEST: list[dict[str, Any]] = []
FORMS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "json": lambda exported: json.dumps(exported).encode(),
    "protobuf": protobuf,
    "lines": lines,
}


@pytest.fixture
def spans(world: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """The spans of a call that ran, of one that failed, of one that was refused, and of their task."""
    with world.task(Scope("pay", x=1) | Scope("fail", x=1)):
        world.tool("pay")(x=1)
        world.clock.advance(0.001234567)

        @world.enforcer.tool(name="fail")
        def fail(x: int) -> None:
            raise LookupError("no")

        with pytest.raises(LookupError):
            fail(1)
        with pytest.raises(Denied):
            world.tool("pay")(x=2)
    names = ("ran", "failed", "refused", "task")
    found = dict(zip(names, map(written, world.exporter.get_finished_spans()), strict=True))
    HONEST[:] = [document(copy.deepcopy(found["ran"]))]
    yield found
    HONEST.clear()


def judge(world: Any, data: bytes | dict[str, Any], *, pasted: bool = False, **options: Any) -> Any:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    verifier = Verifier(world.directory / "trust.json")
    return (verifier.pasted if pasted else verifier.traces)(io.BytesIO(data), **options)


def codes(report: Any) -> set[str]:
    return {finding.code for finding in report.findings} - {"chain_not_checked", "detail_not_checked"}


def shifted(name: str, by: int) -> Callable[[dict[str, Any]], None]:
    def change(span: dict[str, Any]) -> None:
        span[name] = str(int(span[name]) + by)

    return change


def with_attribute(name: str, text: str) -> Callable[[dict[str, Any]], None]:
    def change(span: dict[str, Any]) -> None:
        span["attributes"] = [pair for pair in span["attributes"] if pair["key"] != name]
        span["attributes"].append({"key": name, "value": {"stringValue": text}})

    return change


EDITS: dict[str, tuple[str, Callable[[dict[str, Any]], object]]] = {
    "name": ("refused", lambda span: span.update(name="execute_tool read")),
    "name of a task": ("task", lambda span: span.update(name="invoke_agent auditor")),
    "start": ("refused", lambda span: span.update(startTimeUnixNano="978307200000000000")),
    "start by a nanosecond": ("ran", shifted("startTimeUnixNano", 1)),
    "end": ("ran", shifted("endTimeUnixNano", 1)),
    "status of a refused call": ("refused", lambda span: span.update(status={"code": 1})),
    "status of a failed call": ("failed", lambda span: span.update(status={})),
    "status message": ("failed", lambda span: span["status"].update(message="Timeout")),
    "status message of a success": ("ran", lambda span: span.update(status={"message": "approved by the board"})),
    "parent": ("refused", lambda span: span.update(parentSpanId="a" * 16)),
    "parent removed": ("refused", lambda span: span.pop("parentSpanId")),
    "kind": ("ran", lambda span: span.update(kind=3)),
    "gen_ai.operation.name": ("ran", with_attribute("gen_ai.operation.name", "chat")),
    "gen_ai.tool.type": ("ran", with_attribute("gen_ai.tool.type", "extension")),
}


@pytest.mark.parametrize("form", FORMS)
def test_spans_as_they_were_written_verify(world: Any, spans: dict[str, Any], form: str) -> None:
    """Nothing is found on the spans of calls that ran, failed or were refused, and of their task."""
    report = judge(world, FORMS[form](document(*spans.values())))
    assert (report.verdict, codes(report)) == ("verified", set())
    assert report.counts["verified"] == 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("edit", EDITS)
def test_ac_93_an_edited_member_of_a_span_contradicts_its_record(
    world: Any, spans: dict[str, Any], edit: str, form: str
) -> None:
    """Name, times, parent, status, kind and conventional attributes of our spans follow from the signed record."""
    which, change = EDITS[edit]
    change(spans[which])
    report = judge(world, FORMS[form](document(spans[which])))
    assert (report.verdict, codes(report)) == ("contradicted", {"field_changed"})
    (problem,) = [finding for finding in report.findings if finding.code == "field_changed"]
    assert edit.partition(" ")[0] in problem.message


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "put",
    [
        lambda span, pair: span.update(events=[{"name": "e", "timeUnixNano": "1", "attributes": [pair]}]),
        lambda span, pair: span.update(links=[{"traceId": "1" * 32, "spanId": "2" * 16, "attributes": [pair]}]),
    ],
    ids=["event", "link"],
)
def test_ac_93_claims_in_events_and_links_are_looked_at(
    world: Any, spans: dict[str, Any], put: Callable[[Any, Any], None], form: str
) -> None:
    """An attribute of ours there is the signed one, or it was added; what others write there is nobody's business."""
    for name, text, found in (
        ("agent_identity.approved", "by the board", {"field_added"}),
        ("agent_identity.principal.id", "mallory@example.com", {"field_added"}),
        ("agent_identity.principal.id", "alice@example.com", set()),
        ("exception.type", "LookupError", set()),
    ):
        span = copy.deepcopy(spans["ran"])
        pair = {"key": name, "value": {"stringValue": text}}
        put(span, pair)
        if form == "protobuf":
            for link in span.get("links", ()):
                link.update(traceId="AAAAAAAAAAAAAAAAAAAAAQ==", spanId="AAAAAAAAAAE=")
        report = judge(world, FORMS[form](document(span)))
        assert codes(report) == found
        assert report.verdict == ("contradicted" if found else "verified")


def test_claims_in_events_are_found_behind_spans_of_the_same_shape(world: Any, spans: dict[str, Any]) -> None:
    """Spans with events of others are read by their shape, and the name of an attribute is part of it."""
    span = copy.deepcopy(spans["ran"])
    span["events"] = [{"name": "e", "attributes": [{"key": "exception.type", "value": {"stringValue": "x"}}]}]
    HONEST[:] = [document(span)]
    span = copy.deepcopy(span)
    span["events"][0]["attributes"][0]["key"] = "agent_identity.approved"
    report = judge(world, lines(document(span)))
    assert (report.verdict, codes(report)) == ("contradicted", {"field_added"})


@pytest.mark.parametrize("form", FORMS)
def test_ac_93_claims_on_the_scope_are_looked_at(world: Any, spans: dict[str, Any], form: str) -> None:
    """The scope of spans says nothing in our names but what is signed, and nothing of it passes unsigned."""
    for name, text, found in (
        ("agent_identity.approved", "by the board", {"field_added"}),
        ("agent_identity.outcome", "error", {"field_added"}),
        ("agent_identity.outcome", "success", set()),
        (GRANT, "a.b.c", {"field_added"}),
    ):
        claim = {"key": name, "value": {"stringValue": text}}
        report = judge(world, FORMS[form](document(spans["ran"], attributes=[claim])))
        assert codes(report) == found
    bare = {**spans["ran"], "attributes": []}
    report = judge(world, FORMS[form](document(bare, attributes=[claim])))
    assert codes(report) == {"unsigned"}


def test_a_span_of_another_library_is_its_own(world: Any, spans: dict[str, Any]) -> None:
    """Where its scope says that another library made the span of a call, its name, times and status are its own."""
    for which, change in EDITS.values():
        if which == "ran":
            change(spans["ran"])
    report = judge(world, document(spans["ran"], scope="another.library"))
    assert (report.verdict, codes(report)) == ("verified", set())
    # Of a task nobody else makes a span, whatever the scope says.
    spans["task"]["name"] = "invoke_agent auditor"
    report = judge(world, document(spans["task"], scope="another.library"))
    assert codes(report) == {"field_changed"}
    # Without a scope, it may be either.
    report = judge(world, document(spans["ran"], scope=None))
    assert (report.verdict, codes(report)) == ("cannot_tell", {"span_unlike_record"})
    assert (report.counts["unclear"], report.counts["verified"]) == (1, 0)


@pytest.mark.parametrize("scope", ["agent_identity ", "\tAgent_identity", "AGENT_IDENTITY"])
def test_ac_93_a_scope_that_reads_like_ours_is_ours(world: Any, spans: dict[str, Any], scope: str) -> None:
    """Blanks and capitals in the name of the scope do not make an edited span another library's."""
    shown = {"scope": {"name": scope}}
    assert judge(world, document(spans["refused"], scope=scope)).verdict == "verified"
    honest = row(spans["refused"], name=spans["refused"]["name"], **shown)
    assert judge(world, honest, pasted=True).verdict == "verified"
    spans["refused"]["name"] = "execute_tool read"
    report = judge(world, document(spans["refused"], scope=scope))
    assert (report.verdict, codes(report)) == ("contradicted", {"field_changed"})
    report = judge(world, row(spans["refused"], name="execute_tool read", **shown), pasted=True)
    assert (report.verdict, codes(report)) == ("contradicted", {"field_changed"})
    with_attribute("gen_ai.agent.name", "other")(spans["ran"])
    assert codes(judge(world, document(spans["ran"], scope=scope))) == {"copy_changed"}


@pytest.mark.parametrize("scope", [" ", 5, ["agent_identity"], {"x": "agent_identity"}])
def test_ac_93_a_scope_that_cannot_be_read_is_none(world: Any, spans: dict[str, Any], scope: object) -> None:
    """What is no name does not make a span another library's: nobody can tell."""
    shown = {"scope": {"name": scope}}
    report = judge(world, row(spans["refused"], name="execute_tool read", **shown), pasted=True)
    assert (report.verdict, codes(report)) == ("cannot_tell", {"span_unlike_record"})
    spans["refused"]["name"] = "execute_tool read"
    report = judge(world, document(spans["refused"], scope=" "))
    assert (report.verdict, codes(report)) == ("cannot_tell", {"span_unlike_record"})


def test_what_a_body_says_on_its_current_span_is_no_edit(world: Any) -> None:
    """Tools name their current span, note errors on it and set its status; that is no contradiction, nor a pass."""

    def body(*statuses: StatusCode, error: bool = False) -> Callable[[], None]:
        def run() -> None:
            span = trace.get_current_span()
            span.update_name("mine")
            span.set_attribute("gen_ai.operation.name", "mine")
            span.add_event("noted", {"x": "y"})
            for status in statuses:
                span.set_status(Status(status))
            if error:
                raise LookupError("no")

        return run

    runs = (
        (body(), "verified", set()),
        (body(StatusCode.OK), "verified", set()),
        (body(StatusCode.ERROR), "verified", {"copy_changed"}),
        (body(StatusCode.ERROR, error=True), "verified", set()),
        (body(StatusCode.OK, error=True), "cannot_tell", {"span_unlike_record"}),
    )
    for run, verdict, found in runs:
        world.exporter.clear()
        with world.task(Scope("run")):
            guarded = world.enforcer.tool(name="run")(run)
            with suppress(LookupError):
                guarded()
        report = judge(world, document(*map(written, world.exporter.get_finished_spans())))
        assert (report.verdict, codes(report)) == (verdict, found)


def test_what_is_missing_of_a_span_is_said(world: Any, spans: dict[str, Any]) -> None:
    """A collector that removes a name or a convention hides it, which is no contradiction."""
    del spans["ran"]["name"]
    spans["ran"]["attributes"] = [pair for pair in spans["ran"]["attributes"] if pair["key"] != "gen_ai.tool.type"]
    report = judge(world, document(spans["ran"]))
    assert (report.verdict, codes(report)) == ("verified", {"copy_redacted"})


# What back ends show.


def row(span: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a span as a row of a table."""
    plain = {
        pair["key"]: pair["value"].get("stringValue")
        or [item["stringValue"] for item in pair["value"]["arrayValue"]["values"]]
        for pair in span["attributes"]
    }
    return {"trace_id": span["traceId"], "span_id": span["spanId"], "attributes": plain, **more}


@pytest.mark.parametrize(
    ("scope", "verdict", "code"),
    [("agent_identity", "contradicted", "field_changed"), (None, "cannot_tell", "span_unlike_record")],
)
def test_ac_93_an_edited_row_of_a_store_is_no_pass(
    world: Any, spans: dict[str, Any], scope: str | None, verdict: str, code: str
) -> None:
    """A row that shows the scope is contradicted, one that does not may be another library's: nobody can tell."""
    span = spans["refused"]
    start = int(span["startTimeUnixNano"])
    honest = {"name": span["name"], "start_time_unix_nano": start // 1000 * 1000, "status_code": "ERROR"}
    shown = {} if scope is None else {"scope": {"name": scope}}
    assert judge(world, row(span, **honest, **shown), pasted=True).verdict == "verified"
    for edit in (
        {"name": "execute_tool read"},
        {"start_time_unix_nano": start + 2_000_000},
        {"end_time": "2001-01-01T00:00:00Z"},
        {"duration": 86_400_000_000_001},
        {"status_code": "OK"},
        {"status": {"code": "STATUS_CODE_UNSET"}},
        {"parent_id": "a" * 16},
    ):
        report = judge(world, row(span, **{**honest, **edit}, **shown), pasted=True)
        assert (report.verdict, codes(report)) == (verdict, {code})
    report = judge(world, row(span, **honest, scope={"name": "another.library"}, end_time=1), pasted=True)
    assert report.verdict == "verified"


def test_times_are_compared_as_precisely_as_they_are_shown(world: Any, spans: dict[str, Any]) -> None:
    """Stores round to microseconds, milliseconds or seconds, show floating-point numbers, and local times."""
    span = spans["failed"]
    start = int(span["startTimeUnixNano"])
    assert start % 1_000_000
    seconds = start // 10**9
    for shown, same in (
        (start, True),
        (start // 1_000, True),
        (start // 1_000_000, True),
        (seconds, True),
        (start / 10**9, True),
        (float(start), True),
        (start // 1_000_000 * 1_000_000, True),
        (str(start), True),
        (start + 5_000, False),
        (start // 1_000_000 + 2, False),
        (seconds + 2, False),
        (978_307_200, False),
        ("2001-01-01 00:00:00", False),
        ({"seconds": str(seconds), "nanos": start % 10**9}, True),
        ({"seconds": seconds + 2}, False),
        ({"us": start // 1_000}, True),
        ("yesterday", False),
    ):
        report = judge(world, row(span, start_time=shown, scope={"name": "agent_identity"}), pasted=True)
        assert (report.verdict == "verified") is same, shown


UNREADABLE: dict[str, dict[str, Any]] = {
    "name": {"name": {"text": "execute_tool wipe"}},
    "start: of the post": {"start_time": "Mon, 01 Jan 2001 10:00:00 GMT"},
    "start: without seconds": {"start_time": "2001-01-01 10:00"},
    "start: of a day": {"start_time": "2001-01-01"},
    "start: in a list": {"start_time": ["2001-01-01T10:00:00Z"]},
    "start: in an object": {"start_time": {"s": 978_307_200}},
    "start: of seconds and more": {"start_time": {"seconds": 978_307_200, "zone": "x"}},
    "end": {"end_time": "Jan 1, 2001 10:00:00 AM"},
    "duration": {"duration": "a second"},
    "duration: in an object": {"duration": {"minutes": 1}},
    "parent": {"parent_id": "root"},
    "parent: in a list": {"parent_id": ["0x" + "a" * 16]},
    "status": {"status": "Completed"},
    "status: in an object": {"status": {"state": "Completed"}},
    "status: with a code": {"status": {"code": 200}},
    "status: as a truth": {"status_code": True},
    "status message": {"status": {"code": "ERROR", "message": ["approved"]}},
    "kind": {"kind": "approval"},
    "kind: in an object": {"span_kind": {"of": "approval"}},
}


@pytest.mark.parametrize("scope", [{"scope": {"name": "agent_identity"}}, {}], ids=["scope", "no scope"])
@pytest.mark.parametrize("shown", UNREADABLE)
def test_ac_93_a_member_that_cannot_be_read_is_no_pass(
    world: Any, spans: dict[str, Any], shown: str, scope: dict[str, Any]
) -> None:
    """A person reads what we cannot, and may be told another story than the record: nobody can tell."""
    report = judge(world, row(spans["refused"], **UNREADABLE[shown], **scope), pasted=True)
    assert (report.verdict, report.counts["verified"], codes(report)) == ("cannot_tell", 0, {"span_unlike_record"})
    (problem,) = [found for found in report.findings if found.code == "span_unlike_record"]
    member, _, _ = shown.partition(":")
    assert f"the {member} of the span has an unknown form" in problem.message


def test_members_that_are_blank_are_absent(world: Any, spans: dict[str, Any]) -> None:
    """Empty columns say nothing, and so does a member that another library may have in its own form."""
    blank = {"start_time": {}, "end_time": " ", "parent_id": None, "status": {"details": []}, "kind": ""}
    report = judge(world, row(spans["refused"], **blank, scope={"name": "agent_identity"}), pasted=True)
    assert (report.verdict, codes(report)) == ("verified", set())
    report = judge(world, row(spans["ran"], kind="approval", scope={"name": "another.library"}), pasted=True)
    assert (report.verdict, codes(report)) == ("verified", set())


def test_ac_93_kind_and_status_message_of_a_row_are_compared(world: Any, spans: dict[str, Any]) -> None:
    """What stores call an internal span passes, another kind contradicts, and so does another message."""
    failed, ran, ours = spans["failed"], spans["ran"], {"scope": {"name": "agent_identity"}}
    for span, shown, verdict, found in (
        *((ran, {"kind": kind}, "verified", set()) for kind in (0, 1, "SpanKind.INTERNAL", "SPAN_KIND_INTERNAL")),
        *((ran, {"span_kind": kind}, "verified", set()) for kind in ("Internal", "TOOL", "UNKNOWN", "span")),
        *((ran, {"kind": kind}, "contradicted", {"field_changed"}) for kind in (3, "SpanKind.CLIENT", "server")),
        (failed, {"status": {"code": 2, "message": "LookupError"}}, "verified", set()),
        (failed, {"status_message": "***"}, "verified", {"copy_redacted"}),
        (failed, {"status": {"code": 2, "description": "approved by the board"}}, "contradicted", {"field_changed"}),
        (ran, {"status": {"code": 1, "message": "approved by the board"}}, "contradicted", {"field_changed"}),
        (ran, {"otel_status_message": "approved"}, "cannot_tell", {"span_unlike_record"}),
        (ran, {"status_code": "ERROR", "status_message": "bad luck"}, "verified", {"copy_changed"}),
        (spans["task"], {"status_message": "approved"}, "cannot_tell", {"span_unlike_record"}),
        (spans["refused"], {"status_message": "approved"}, "contradicted", {"field_changed"}),
    ):
        report = judge(world, row(span, **shown, **ours), pasted=True)
        assert (report.verdict, codes(report)) == (verdict, found), shown


def test_ac_93_events_and_links_of_pasted_spans_are_judged_as_in_otlp(world: Any, spans: dict[str, Any]) -> None:
    """What an event or link says in our names is the signed value, or it was added; without a record it is unsigned."""
    span = spans["ran"]
    shapes: tuple[Callable[[dict[str, str]], dict[str, Any]], ...] = (
        lambda said: {"events": [{"name": "e", "timestamp": "2026-01-01T00:00:00Z", "attributes": said}]},
        lambda said: {"events": json.dumps([{"name": "e", "attributes": said}])},
        lambda said: {"links": [{"traceId": "1" * 32, "spanId": "2" * 16, "attributes": said}]},
        lambda said: {"logs": [{"timestamp": 1, "fields": [{"key": k, "value": v} for k, v in said.items()]}]},
        lambda said: {"Events.Attributes": [said]},
    )
    for shape in shapes:
        for said, found in (
            ({"exception.type": "LookupError"}, set()),
            ({"agent_identity.principal.id": "alice@example.com"}, set()),
            ({"agent_identity.principal.id": "mallory@example.com"}, {"field_added"}),
            ({"agent_identity.approved": "by the board"}, {"field_added"}),
            ({"agent_identity.attestation.payload": "e30"}, {"field_added"}),
        ):
            shown = row(span, **shape(said))
            report = judge(world, shown, pasted=True)
            assert (report.verdict, codes(report)) == ("contradicted" if found else "verified", found)
            assert report.counts["spans"] == 1
    for said in ({"agent_identity.principal.id": "alice@example.com"}, {"agent_identity.approved": "by the board"}):
        for shape in shapes:
            bare = {**row(span, **shape(said)), "attributes": {"http.route": "/"}}
            assert codes(judge(world, bare, pasted=True)) == {"unsigned"}
            assert codes(judge(world, {**bare, "children": [row(spans["failed"])]}, pasted=True)) == {"unsigned"}


def test_an_event_of_ours_verifies_in_the_json_of_the_sdk(world: Any) -> None:
    """A body that notes for whom it acts is believed in both forms, as what it says is what is signed."""

    def body() -> None:
        trace.get_current_span().add_event("paid", {"agent_identity.principal.id": "alice@example.com"})

    with world.task(Scope("run")):
        world.enforcer.tool(name="run")(body)()
    for span in world.exporter.get_finished_spans():
        assert judge(world, json.loads(span.to_json()), pasted=True).verdict == "verified"


def test_a_list_of_spans_may_be_called_events(world: Any, spans: dict[str, Any]) -> None:
    """What has ids of its own is a span, wherever it lies."""
    found = {"span_id": "a" * 16, "trace_id": "b" * 32, "events": [row(spans["ran"]), "x"]}
    report = judge(world, found, pasted=True)
    assert (report.verdict, report.counts["verified"]) == ("verified", 1)


def test_a_span_of_datadog_has_its_name_in_the_resource(world: Any, spans: dict[str, Any]) -> None:
    """Datadog calls an operation after library and kind; the name of the span is what it shows as the resource."""
    refused, ours = spans["refused"], {"scope": {"name": "agent_identity"}}
    for names in (("name", "resource"), ("operation_name", "resource_name")):
        for operation, resource, verdict in (
            ("agent_identity.internal", refused["name"], "verified"),
            ("Internal", refused["name"], "verified"),
            ("agent_identity.internal", "execute_tool read", "contradicted"),
            ("agent_identity.internal", "", "contradicted"),
            ("execute_tool read.internal", refused["name"], "contradicted"),
            ("execute_tool read", refused["name"], "contradicted"),
        ):
            shown = dict(zip(names, (operation, resource), strict=True))
            assert judge(world, row(refused, **shown, **ours), pasted=True).verdict == verdict, shown


def test_a_name_in_other_case_is_no_contradiction(world: Any, spans: dict[str, Any]) -> None:
    """Zipkin writes names in lower case, which is noticed; in OTLP nobody does."""
    refused, ours = spans["refused"], {"scope": {"name": "agent_identity"}}
    for scope in (ours, {}):
        report = judge(world, row(refused, name=refused["name"].upper(), **scope), pasted=True)
        assert (report.verdict, codes(report)) == ("verified", {"copy_changed"})
    refused["name"] = refused["name"].upper()
    assert codes(judge(world, document(refused))) == {"field_changed"}


def test_spans_borrowed_from_another_library_are_an_honest_reason(world: Any, spans: dict[str, Any]) -> None:
    """Who reads that a span is unlike its record learns that it may be another library's."""
    report = judge(world, row(spans["ran"], name="tool pay"), pasted=True)
    (problem,) = [found for found in report.findings if found.code == "span_unlike_record"]
    assert "a span of another library" in problem.message


def test_ac_91_a_row_that_shows_its_ids_twice_is_bound_by_both(world: Any, spans: dict[str, Any]) -> None:
    """MLflow keeps ids in columns and again in the text of one; a changed column is a moved record."""
    span = spans["ran"]
    content = row(span)
    for column, verdict in ((span["spanId"], "verified"), ("a" * 16, "contradicted")):
        data = {"trace_id": f"tr-{span['traceId']}", "span_id": column, "content": json.dumps(content)}
        report = judge(world, [data], pasted=True)
        assert report.verdict == verdict
        assert codes(report) == (set() if verdict == "verified" else {"wrong_span"})
    data = {"trace_id": f"tr-{'b' * 32}", "span_id": span["spanId"], "content": json.dumps(content)}
    assert codes(judge(world, [data], pasted=True)) == {"wrong_span"}


def hashed(identifier: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, identifier))


def light(span: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a span as LightTrace keeps it: ids hashed, names and status its own."""
    found = row(span, name=span["name"].split()[-1], status="success", start_time=int(span["startTimeUnixNano"]) / 1e9)
    return {**found, "id": hashed(span["spanId"]), "trace_id": hashed(span["traceId"]), "span_id": None, **more}


def test_a_store_that_hashes_all_ids_is_not_accused(world: Any, spans: dict[str, Any]) -> None:
    """Nobody can tell to which span the records belong; the report says so, and what still binds is verified."""
    report = judge(world, [light(span) for span in spans.values()], pasted=True)
    assert (report.verdict, report.exit_code) == ("cannot_tell", 2)
    assert codes(report) == {"ids_rewritten", "span_unlike_record"}
    assert (report.counts["unnamed"], report.counts["verified"], report.counts["contradicted"]) == (4, 0, 0)
    assert [step.status for step in report.steps[1:3]] == ["passed", "passed"]


def test_ac_91_hashed_ids_are_no_way_out_for_a_moved_record(world: Any, spans: dict[str, Any]) -> None:
    """One span with hashed ids among others is contradicted, and so is a hash that stands for two ids."""
    ran, failed = spans["ran"], spans["failed"]
    report = judge(world, [light(ran), row(failed)], pasted=True)
    assert (report.verdict, report.counts["contradicted"], report.counts["unnamed"]) == ("contradicted", 1, 0)
    assert "wrong_span" in codes(report)
    report = judge(world, [light(ran), light(failed, id=hashed(ran["spanId"]))], pasted=True)
    assert report.verdict == "contradicted"
    report = judge(world, [light(ran), light(ran, trace_id=hashed("x"))], pasted=True)
    assert report.verdict == "contradicted"
    forged = light(ran)
    forged["attributes"]["agent_identity.principal.id"] = "mallory@example.com"
    assert "field_changed" in codes(judge(world, [forged], pasted=True))


@pytest.mark.parametrize("name", ["[1, 2]", '{"b": 1, "a": 2}', "1.50", '"alice"'])
def test_a_text_that_a_store_read_as_json_is_not_accused(open_world: Any, name: str) -> None:
    """MLflow shows ids that are JSON as lists, objects and numbers: nobody can tell, and another value is changed."""
    world = open_world()
    with world.task(Scope("tool"), principal=Human(name)):
        world.tool()()
    for span in map(written, world.exporter.get_finished_spans()):
        found = row(span)
        attributes = found["attributes"]
        attributes["agent_identity.principal.id"] = json.loads(name)
        attributes["agent_identity.delegation.chain"][0] = json.loads(name)
        report = judge(world, found, pasted=True)
        assert (report.verdict, codes(report)) == ("cannot_tell", {"type_rewritten"})
        attributes["agent_identity.principal.id"] = [1, 3]
        assert judge(world, found, pasted=True).verdict == "contradicted"


# Grants on the spans of tasks.


def grant_of(span: dict[str, Any]) -> str:
    (found,) = [pair["value"]["stringValue"] for pair in span["attributes"] if pair["key"] == GRANT]
    return str(found)


@pytest.mark.parametrize("form", FORMS)
def test_a_grant_that_is_not_the_one_of_the_record_is_bad(world: Any, spans: dict[str, Any], form: str) -> None:
    """A grant that was lengthened, cut or moved by blanks is malformed; one that a scrubber blanked is not there."""
    grant = grant_of(spans["task"])
    for text, code in (
        (grant + "A", "bad_grant"),
        (grant + "~", "bad_grant"),
        (grant + " ", "bad_grant"),
        (" " + grant, "bad_grant"),
        (grant[:-1], "bad_grant"),
        (grant[:32], "bad_grant"),
        (grant[:101], "bad_grant"),
        (grant + "~" + grant, "bad_grant"),
        ("x~" + grant, "bad_grant"),
        (grant[:-86] + "A" * 85 + "=", "bad_grant"),
        ("[REDACTED]", None),
    ):
        span = copy.deepcopy(spans["task"])
        with_attribute(GRANT, text)(span)
        report = judge(world, FORMS[form](document(span)))
        assert codes(report) == ({code} if code else set()), text[-20:]
        assert report.exit_code == (1 if code else 0)


def test_a_grant_on_the_span_of_nobody_is_bad(world: Any, spans: dict[str, Any]) -> None:
    """A call outside any task has no grant, and one that stands on its span was put there."""
    grant = grant_of(spans["task"])
    world.exporter.clear()
    with pytest.raises(Denied):
        world.tool("pay")(x=1)
    world.enforcer.close()
    (span,) = map(written, world.exporter.get_finished_spans())
    assert judge(world, document(span)).verdict == "verified"
    with_attribute(GRANT, grant)(span)
    assert codes(judge(world, document(span))) == {"bad_grant"}


def test_a_grant_that_a_length_limit_cut_is_no_forgery(world: Any) -> None:
    """Where nothing longer came through, a limit may have cut the grant: nobody can tell, and it is no pass."""
    with world.task(Scope("tool", x="y" * 3_000)):
        pass
    (span,) = map(written, world.exporter.get_finished_spans())
    grant = grant_of(span)
    exempt = (GRANT, "agent_identity.attestation.")
    others = [pair for pair in span["attributes"] if not pair["key"].startswith(exempt)]
    longest = max(len(pair["value"].get("stringValue", "")) for pair in others)
    assert len(grant) > 2_100
    assert 32 <= longest < 256
    for text, code in (
        (grant[:2_000], "grant_cut"),
        (grant[:2_048], "grant_cut"),
        (grant[:2_047], "grant_cut"),
        (grant[:256], "grant_cut"),  # The signed record is exempt from limits, as we advise.
        (grant[:2_001], "bad_grant"),
        (grant[:2_001] + "... [truncated 900 chars]", "grant_cut"),
        (grant[:2_001] + "\u2026", "grant_cut"),
        (grant[:32], "bad_grant"),  # Longer values came through.
        (grant[:-1], "bad_grant"),
        (grant + "A", "bad_grant"),
        ("*" + grant[1:2_000], "bad_grant"),
        (" " + grant[:1_999], "bad_grant"),
    ):
        with_attribute(GRANT, text)(span)
        report = judge(world, document(span))
        assert codes(report) == {code}
        assert report.exit_code == (2 if code == "grant_cut" else 1)


# Rows that are missing from a store.


def test_rows_that_are_missing_from_a_store_are_noticed(world: Any, spans: dict[str, Any]) -> None:
    """Pasted spans are compared with a ledger like files of OTLP: what the store has lost is named."""
    world.enforcer.close()
    rows = [row(span) for span in spans.values()]
    report = judge(world, rows, pasted=True, ledger=world.directory)
    assert (report.verdict, report.completeness, codes(report)) == ("verified", "complete", set())
    assert report.counts["proved_by_ledger"] == 4
    report = judge(world, rows[1:], pasted=True, ledger=world.directory)
    assert (report.verdict, report.exit_code, codes(report)) == ("incomplete", 3, {"span_missing"})
    rows[0]["attributes"]["agent_identity.principal.id"] = "mallory@example.com"
    report = judge(world, rows, pasted=True, ledger=world.directory)
    assert (report.verdict, codes(report)) == ("contradicted", {"field_changed"})
