"""OTLP is written as others read it, and their answers are read with suspicion."""

import builtins
from dataclasses import replace
from io import BytesIO
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from agent_identity.errors import ConfigurationError
from agent_identity.evidence import SpanCopy, SpanData, read_spans
from agent_identity.evidence.otlp_writing import SCOPE, ExportAnswer, export_request, read_answer
from agent_identity.version import VERSION

SPANS = [
    SpanCopy(
        trace_id="0af7651916cd43dd8448eb211c80319c",
        span_id="b7ad6b7169203331",
        parent_id=parent,
        name="execute_tool zahlen €",
        start=1_764_000_000_123_456_789,
        end=1_764_000_001_123_456_789,
        error=error,
        attributes=MappingProxyType({"user.id": "zoë", "list": ("a", "b")}),
    )
    for parent, error in ((None, None), ("00f067aa0ba902b7", "ValueError"))
]
RESOURCE = {"service.name": "x"}


def test_json_is_read_back_as_it_was_written() -> None:
    """Our own reader, which reads what others write, finds every part again."""
    found = list(read_spans(BytesIO(export_request(SPANS, RESOURCE, "json"))))
    for copy, span in zip(SPANS, found, strict=True):
        assert isinstance(span, SpanData)
        assert (span.trace_id, span.span_id, span.parent_id) == (copy.trace_id, copy.span_id, copy.parent_id)
        assert (span.name, span.start, span.end) == (copy.name, copy.start, copy.end)
        assert (span.status, span.status_message) == (("error", "ValueError") if copy.error else ("unset", ""))
        assert span.attributes == {"user.id": "zoë", "list": ["a", "b"]}
        assert (dict(span.resource), span.scope) == (RESOURCE, SCOPE)


def test_protobuf_is_read_back_as_it_was_written() -> None:
    """The generated classes of the protocol find every part again."""
    request = ExportTraceServiceRequest.FromString(export_request(SPANS, RESOURCE, "protobuf"))
    (group,) = request.resource_spans
    (scope,) = group.scope_spans
    assert group.resource.attributes[0].value.string_value == "x"
    assert (scope.scope.name, len(scope.spans)) == (SCOPE, 2)
    for copy, span in zip(SPANS, scope.spans, strict=True):
        assert (span.trace_id.hex(), span.span_id.hex()) == (copy.trace_id, copy.span_id)
        assert span.parent_span_id.hex() == (copy.parent_id or "")
        assert (span.name, span.kind) == (copy.name, 1)
        assert (span.start_time_unix_nano, span.end_time_unix_nano) == (copy.start, copy.end)
        assert (span.status.code, span.status.message) == ((2, copy.error) if copy.error else (0, ""))
        assert span.attributes[0].value.string_value == "zoë"
        assert [v.string_value for v in span.attributes[1].value.array_value.values] == ["a", "b"]


def partial(rejected: int, message: str) -> bytes:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = message
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("body", "encoding", "answer"),
    [
        (b"", "protobuf", ExportAnswer(0, "")),
        (b"", "json", ExportAnswer(0, "")),
        (b"{}", "json", ExportAnswer(0, "")),
        (b'{"partialSuccess":null}', "json", ExportAnswer(0, "")),
        (b'{"partialSuccess":{}}', "json", ExportAnswer(0, "")),
        (b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}}', "json", ExportAnswer(3, "no")),
        (b'{"partialSuccess":{"rejectedSpans":2}}', "json", ExportAnswer(2, "")),
        (partial(3, "no"), "protobuf", ExportAnswer(3, "no")),
        (partial(0, "mind this"), "protobuf", ExportAnswer(0, "mind this")),
    ],
)
def test_answers_say_what_was_rejected(body: bytes, encoding: Any, answer: ExportAnswer) -> None:
    """Both encodings, with and without a partial success."""
    assert read_answer(body, encoding) == answer


def test_json_has_one_form() -> None:
    """Every member of the request, with times as decimal strings; no parent and no error are left out."""
    span = replace(SPANS[0], parent_id=None, error=None, attributes={"a": "x", "b": ("y", "z")})
    failed = replace(span, parent_id="e" * 16, error="E", attributes={})
    values = {"arrayValue": {"values": [{"stringValue": "y"}, {"stringValue": "z"}]}}
    plain = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": 1,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": [{"key": "a", "value": {"stringValue": "x"}}, {"key": "b", "value": values}],
        "status": {},
    }
    bad = {**plain, "attributes": [], "status": {"code": 2, "message": "E"}, "parentSpanId": "e" * 16}
    assert orjson.loads(export_request([span, failed], {"service.name": "x"}, "json")) == {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "x"}}]},
                "scopeSpans": [{"scope": {"name": "agent_identity", "version": VERSION}, "spans": [plain, bad]}],
            }
        ]
    }
    (group,) = ExportTraceServiceRequest.FromString(export_request([span], {"a": "b"}, "protobuf")).resource_spans
    assert group.scope_spans[0].scope.version == VERSION
    assert [pair.key for pair in group.resource.attributes] == ["a"]
    assert [pair.key for pair in group.scope_spans[0].spans[0].attributes] == ["a", "b"]


def test_why_an_answer_is_none_is_told() -> None:
    """In a line; a negative number of protobuf rejects nothing."""
    other = "expected the answer to an export request, got something else"
    number = "expected the number of rejected spans, got something else"
    for body, encoding, words in (
        (b"<html>", "json", other),
        (b'{"partialSuccess":[1]}', "json", other),
        (b"<html>", "protobuf", other),
        (b'{"partialSuccess":{"rejectedSpans":-1}}', "json", number),
        (b'{"partialSuccess":{"rejectedSpans":1.5}}', "json", number),
    ):
        with pytest.raises(ValueError, match=f"^{words}$"):
            read_answer(body, encoding)
    assert read_answer(partial(-3, "m"), "protobuf") == ExportAnswer(0, "m")


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"<html>", "json"),
        (b"[]", "json"),
        (b'{"partialSuccess":[1]}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":-1}}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":"many"}}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":[1]}}', "json"),
        (b"<html>", "protobuf"),
    ],
)
def test_what_is_no_answer_acknowledges_nothing(body: bytes, encoding: Any) -> None:
    """A page of a proxy, for one, is not taken for an acknowledgement."""
    with pytest.raises(ValueError, match="expected"):
        read_answer(body, encoding)


def test_protobuf_without_its_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the extra, and the protocol that needs none."""
    whole = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry.proto"):
            raise ImportError(name)
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigurationError) as caught:
        export_request(SPANS, RESOURCE, "protobuf")
    assert str(caught.value) == (
        "expected the package opentelemetry-proto for OTLP in protobuf, found none; "
        "install agent-identity-otel[otlp], or choose the protocol http/json"
    )
    assert export_request(SPANS, RESOURCE, "json")
