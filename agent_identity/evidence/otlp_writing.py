"""Writing OTLP: an export request of spans, in protobuf or JSON, and the answer to one.

https://opentelemetry.io/docs/specs/otlp/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast, final

import orjson

from agent_identity.errors import ConfigurationError
from agent_identity.evidence.span_copy import SpanCopy
from agent_identity.version import VERSION

__all__ = ["SCOPE", "Encoding", "ExportAnswer", "export_request", "read_answer"]

Encoding: TypeAlias = Literal["protobuf", "json"]
"""The two encodings of OTLP."""

SCOPE: Final = "agent_identity"
"""The name of our instrumentation scope."""

_INTERNAL: Final = 1
_ERROR: Final = 2
_Value: TypeAlias = "str | tuple[str, ...]"


@final
@dataclass(frozen=True, slots=True)
class ExportAnswer:
    """What a receiver said to a request that it took.

    Attributes:
        rejected: The number of spans that it did not take.
        message: Why, in its words; empty if it said nothing.
    """

    rejected: int
    message: str


def export_request(spans: Sequence[SpanCopy], resource: Mapping[str, str], encoding: Encoding) -> bytes:
    """Return the body of an export request.

    Args:
        spans: The spans.
        resource: The attributes of what produced them.
        encoding: The encoding.

    Raises:
        ConfigurationError: The library for protobuf is not installed.
    """
    return _protobuf_request(spans, resource) if encoding == "protobuf" else _json_request(spans, resource)


def read_answer(body: bytes, encoding: Encoding) -> ExportAnswer:
    """Return what the body of an answer says.

    Args:
        body: The body of the answer to a request that was taken.
        encoding: The encoding that the answer says it has.

    Raises:
        ValueError: It is no such answer.
        ConfigurationError: The library for protobuf is not installed.
    """
    if not body:
        return ExportAnswer(0, "")
    return _protobuf_answer(body) if encoding == "protobuf" else _json_answer(body)


def _json_request(spans: Sequence[SpanCopy], resource: Mapping[str, str]) -> bytes:
    scope = {"scope": {"name": SCOPE, "version": VERSION}, "spans": [_json_span(span) for span in spans]}
    group = {"resource": {"attributes": _json_attributes(resource)}, "scopeSpans": [scope]}
    return orjson.dumps({"resourceSpans": [group]})


def _json_span(span: SpanCopy) -> dict[str, object]:
    members: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _INTERNAL,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _json_attributes(span.attributes),
        "status": {} if span.error is None else {"code": _ERROR, "message": span.error},
    }
    return members if span.parent_id is None else {**members, "parentSpanId": span.parent_id}


def _json_attributes(attributes: Mapping[str, _Value]) -> list[dict[str, object]]:
    return [{"key": name, "value": _json_value(value)} for name, value in attributes.items()]


def _json_value(value: _Value) -> dict[str, object]:
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [{"stringValue": item} for item in value]}}


def _json_answer(body: bytes) -> ExportAnswer:
    try:
        members = _object(orjson.loads(body))
        partial = _object(members.get("partialSuccess") or {})
        rejected = partial.get("rejectedSpans") or 0
        number = int(rejected) if isinstance(rejected, int | str) else -1
    except ValueError:
        raise ValueError("expected the answer to an export request, got something else") from None
    if number < 0:
        raise ValueError("expected the number of rejected spans, got something else")
    return ExportAnswer(number, str(partial.get("errorMessage") or ""))


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    raise ValueError("expected an object")


def _library() -> Any:  # noqa: ANN401  The generated classes have no types that both checkers know.
    try:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415  An extra.
    except ImportError:
        raise ConfigurationError(
            "expected the package opentelemetry-proto for OTLP in protobuf, found none; "
            "install agent-identity-otel[otlp], or choose the protocol http/json"
        ) from None
    return trace_service_pb2


def _protobuf_request(spans: Sequence[SpanCopy], resource: Mapping[str, str]) -> bytes:
    request = _library().ExportTraceServiceRequest()
    group = request.resource_spans.add()
    _add_attributes(group.resource.attributes, resource)
    scope = group.scope_spans.add()
    scope.scope.name = SCOPE
    scope.scope.version = VERSION
    for span in spans:
        added = scope.spans.add()
        added.trace_id = bytes.fromhex(span.trace_id)
        added.span_id = bytes.fromhex(span.span_id)
        added.parent_span_id = bytes.fromhex(span.parent_id or "")
        added.name = span.name
        added.kind = _INTERNAL
        added.start_time_unix_nano = span.start
        added.end_time_unix_nano = span.end
        _add_attributes(added.attributes, span.attributes)
        if span.error is not None:
            added.status.code = _ERROR
            added.status.message = span.error
    return cast("bytes", request.SerializeToString())


def _add_attributes(target: Any, attributes: Mapping[str, _Value]) -> None:  # noqa: ANN401  As above.
    for name, value in attributes.items():
        pair = target.add()
        pair.key = name
        if isinstance(value, str):
            pair.value.string_value = value
        else:
            for item in value:
                pair.value.array_value.values.add().string_value = item


def _protobuf_answer(body: bytes) -> ExportAnswer:
    answer = _library().ExportTraceServiceResponse()
    try:
        answer.ParseFromString(body)
    except Exception:  # noqa: BLE001 - The library's own error, which has no base class of the standard library.
        raise ValueError("expected the answer to an export request, got something else") from None
    partial = answer.partial_success
    return ExportAnswer(max(0, partial.rejected_spans), partial.error_message)
