"""Writer of OTLP: an export request from spans by the official encoder, in protobuf or JSON, and its answer.

https://opentelemetry.io/docs/specs/otlp/
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import orjson
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, Status, StatusCode

from agent_identity._common.narrowing import is_object
from agent_identity._spans.span_from_record import SCHEMA_URL, SCOPE, RecordSpan
from agent_identity.version import VERSION

Encoding: TypeAlias = Literal["protobuf", "json"]
"""The two encodings of OTLP."""

_PARTIAL: Final = ("partialSuccess", "partial_success")
_SAID: Final = (("rejectedSpans", "rejected_spans"), ("errorMessage", "error_message"))
_IDS: Final = ("traceId", "spanId", "parentSpanId")


@final
@dataclass(frozen=True, slots=True)
class ExportAnswer:
    """The content of a receiver's answer to an accepted request.

    Attributes:
        rejected: The number of spans that it did not take.
        message: Why, in its words; empty if it said nothing.
    """

    rejected: int
    message: str


def encode_request(spans: Sequence[RecordSpan], resource: Mapping[str, str]) -> ExportTraceServiceRequest:
    """Return the export request with the spans.

    Args:
        spans: The spans.
        resource: The attributes of what produced them.
    """
    origin, scope = Resource(resource), InstrumentationScope(SCOPE, VERSION, SCHEMA_URL)

    def context(trace_id: str, span_id: str) -> SpanContext:
        return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False)

    return encode_spans(
        [
            ReadableSpan(
                name=span.name,
                context=context(span.trace_id, span.span_id),
                parent=None if span.parent_id is None else context(span.trace_id, span.parent_id),
                resource=origin,
                attributes=span.attributes,
                status=Status() if span.error is None else Status(StatusCode.ERROR, span.error),
                start_time=span.start,
                end_time=span.end,
                instrumentation_scope=scope,
            )
            for span in spans
        ]
    )


def as_bytes(request: ExportTraceServiceRequest, encoding: Encoding) -> bytes:
    """Return the body of an export request over HTTP."""
    if encoding == "protobuf":
        return request.SerializeToString()

    members = MessageToDict(request, use_integers_for_enums=True)
    for group in members.get("resourceSpans", ()):
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                # The one place where OTLP has another JSON than Protocol Buffers: ids are hex there, and not base64.
                span.update({name: base64.b64decode(span[name]).hex() for name in _IDS if name in span})
    return orjson.dumps(members)


def read_answer(body: bytes, encoding: Encoding) -> ExportAnswer:
    """Return the content of the body of an answer.

    Args:
        body: The body of the answer to a request that was taken.
        encoding: The encoding that the answer says it has.

    Raises:
        ValueError: It is no such answer.
    """
    answer = ExportTraceServiceResponse()
    try:
        if encoding == "protobuf":
            answer.ParseFromString(body)
        elif body:
            ParseDict(_members(orjson.loads(body)), answer, ignore_unknown_fields=True)
    except (ParseError, DecodeError, ValueError):
        raise ValueError("the body is not an answer to an export request") from None
    return said(answer)


def said(answer: ExportTraceServiceResponse) -> ExportAnswer:
    """Return the content of a decoded answer.

    Raises:
        ValueError: It counts fewer than no rejected spans.
    """
    partial = answer.partial_success
    if partial.rejected_spans < 0:
        raise ValueError("the number of rejected spans is negative")
    return ExportAnswer(partial.rejected_spans, partial.error_message)


def _members(value: object) -> dict[str, object]:
    """Return the members of an answer, each of which must occur once; the parser itself ignores repetitions.

    Raises:
        ValueError: It is no such object.
    """
    answer = _object(value)
    for members, spellings in ((answer, _PARTIAL), *((part, names) for part in _parts(answer) for names in _SAID)):
        if sum(name in members for name in spellings) > 1:
            raise ValueError("a member is there twice")
    return dict(answer)


def _parts(answer: Mapping[str, object]) -> list[Mapping[str, object]]:
    return [_object(answer[name]) for name in _PARTIAL if answer.get(name) is not None]


def _object(value: object) -> Mapping[str, object]:
    if is_object(value):
        return value
    raise ValueError("the answer is not an object")
