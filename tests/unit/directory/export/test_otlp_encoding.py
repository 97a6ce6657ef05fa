"""OTLP is written as others read it, and their answers are read with suspicion."""

from dataclasses import replace
from io import BytesIO
from types import MappingProxyType
from typing import Any, cast

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from agent_identity._directory.export._otlp_encoding import (
    Encoding,
    ExportAnswer,
    as_bytes,
    encode_request,
    read_answer,
)
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.otlp_reader import read_spans
from agent_identity._spans.span_from_record import SCOPE, RecordSpan
from agent_identity.version import VERSION

SPANS = [
    RecordSpan(
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
    found = list(read_spans(BytesIO(as_bytes(encode_request(SPANS, RESOURCE), "json"))))
    for copy, span in zip(SPANS, found, strict=True):
        assert isinstance(span, SpanData)
        assert (span.trace_id, span.span_id, span.parent_id) == (copy.trace_id, copy.span_id, copy.parent_id)
        assert (span.name, span.start, span.end) == (copy.name, copy.start, copy.end)
        assert (span.status, span.status_message) == (("error", "ValueError") if copy.error else ("unset", ""))
        assert span.attributes == {"user.id": "zoë", "list": ["a", "b"]}
        assert (dict(span.resource), span.scope) == (RESOURCE, SCOPE)


def test_protobuf_is_read_back_as_it_was_written() -> None:
    """The generated classes of the protocol find every part again."""
    request = ExportTraceServiceRequest.FromString(as_bytes(encode_request(SPANS, RESOURCE), "protobuf"))
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
        (b'{"partial_success":{"rejected_spans":2,"error_message":"no"}}', "json", ExportAnswer(2, "no")),
        (partial(3, "no"), "protobuf", ExportAnswer(3, "no")),
        (partial(0, "mind this"), "protobuf", ExportAnswer(0, "mind this")),
    ],
)
def test_answers_say_what_was_rejected(body: bytes, encoding: Any, answer: ExportAnswer) -> None:
    """Both encodings, with and without a partial success."""
    assert read_answer(body, encoding) == answer


def test_json_is_that_of_the_protocol() -> None:
    """Names in camel case, ids in hex, times as decimal strings, enumerations as numbers; nothing absent is written."""
    (span,) = orjson.loads(as_bytes(encode_request(SPANS[:1], RESOURCE), "json"))["resourceSpans"][0]["scopeSpans"][0][
        "spans"
    ]
    assert (span["traceId"], span["spanId"], span["kind"]) == (SPANS[0].trace_id, SPANS[0].span_id, 1)
    assert (span["startTimeUnixNano"], span["status"]) == ("1764000000123456789", {})
    assert "parentSpanId" not in span
    (span,) = orjson.loads(as_bytes(encode_request(SPANS[1:], RESOURCE), "json"))["resourceSpans"][0]["scopeSpans"][0][
        "spans"
    ]
    assert span["parentSpanId"] == SPANS[1].parent_id
    assert span["status"] == {"code": 2, "message": "ValueError"}


def test_the_scope_says_which_version_wrote() -> None:
    """And nothing but what was given is an attribute of the resource."""
    (group,) = encode_request(SPANS, {"a": "b"}).resource_spans
    assert group.scope_spans[0].scope.version == VERSION
    assert [pair.key for pair in group.resource.attributes] == ["a"]


def test_ids_keep_their_zeros() -> None:
    """An id is as many bytes, whatever number it is."""
    span = replace(SPANS[1], trace_id="0" * 31 + "1", span_id="0" * 15 + "2", parent_id="0" * 15 + "3")
    for encoding in ("json", "protobuf"):
        (found,) = read_spans(BytesIO(as_bytes(encode_request([span], {}), cast("Encoding", encoding))))
        assert isinstance(found, SpanData)
        assert (found.trace_id, found.span_id, found.parent_id) == (span.trace_id, span.span_id, span.parent_id)


def test_no_spans_make_an_empty_request() -> None:
    """In both encodings."""
    assert as_bytes(encode_request([], RESOURCE), "protobuf") == b""
    assert as_bytes(encode_request([], RESOURCE), "json") == b"{}"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"<html>", "json"),
        (b"[]", "json"),
        (b'{"partialSuccess":[1]}', "json"),
        (b'{"partialSuccess":"x"}', "json"),
        (b'{"partialSuccess":""}', "json"),
        (b'{"partialSuccess":false}', "json"),
        (b'{"partialSuccess":[]}', "json"),
        (b'{"partial_success":0}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":"3"},"partial_success":{}}', "json"),
        (b'{"partial_success":{"rejectedSpans":"3"},"partialSuccess":null}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":"3","rejected_spans":"0"}}', "json"),
        (b'{"partialSuccess":{"errorMessage":"a","error_message":"b"}}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":-1}}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":"many"}}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":[1]}}', "json"),
        (b'{"partialSuccess":{"rejectedSpans":1.5}}', "json"),
        (b'{"partialSuccess":{"errorMessage":"\\ud800"}}', "json"),
        (b"null", "json"),
        (b"[" * 60_000, "json"),
        (b"\xff", "json"),
        (b"<html>", "protobuf"),
        (partial(-3, "m"), "protobuf"),
    ],
)
def test_what_is_no_answer_acknowledges_nothing(body: bytes, encoding: Any) -> None:
    """A page of a proxy, for one, is not taken for an acknowledgement."""
    with pytest.raises(ValueError, match=r" (is|are|has|have|does|covers) "):
        read_answer(body, encoding)
