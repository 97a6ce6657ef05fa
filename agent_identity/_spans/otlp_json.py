"""Reader of spans in OTLP/JSON, as collectors and file exporters write it.

Accepted are JSON lines (one export request a line), one document, and an array of documents. The files
come from outside, so everything is bounded, and what is malformed becomes an item of its own: evidence
that cannot be read is reported, and what stands beside it is still read.
https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, final

import msgspec
import orjson

from agent_identity._storage.byte_reader import ByteReader
from agent_identity.canonical import JSON

MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes that a line, its end included, a document over several lines, or a binary message may have."""

MAX_NESTING: Final = 64
"""Maximum nesting of arrays and maps in an attribute."""

SpanStatus: TypeAlias = Literal["unset", "ok", "error"]
"""The status code of a span."""

_Members: TypeAlias = "dict[str, JSON]"
_Spans: TypeAlias = "Iterator[SpanData | Malformed]"
_SKIP: Final = 1024 * 1024
_LONG: Final = f"the line is longer than {MAX_LINE} bytes; export smaller batches"
_TWICE: Final = "an object has the same member several times"
_BOM: Final = b"\xef\xbb\xbf"
OURS: Final = "agent_identity."
"""Prefix of the attributes that are ours."""

_MAX_TIME: Final = 2**64 - 1
_MAX_INT: Final = 2**63 - 1
_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-fA-F]{16}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,20}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?|NaN|-?Infinity")
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"(\s*:)?')
"""A string, and whether it names a member."""
_STATUS: Final[Mapping[object, SpanStatus]] = MappingProxyType(
    {1: "ok", 2: "error", "STATUS_CODE_OK": "ok", "STATUS_CODE_ERROR": "error"}
)
_KINDS: Final[Mapping[object, int]] = MappingProxyType(
    {
        f"SPAN_KIND_{name}": number
        for number, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
    }
)
_SIGNALS: Final = frozenset({"resourceSpans", "resource_spans", "resourceLogs", "resourceMetrics", "resourceProfiles"})


@final
class SpanData(msgspec.Struct, frozen=True, kw_only=True):
    """One span of an export.

    Values of attributes are ``str``, ``bool``, ``int``, ``float``, ``bytes``, ``None``, and lists and dicts of these.

    Attributes:
        trace_id: 32 lower-case hex digits.
        span_id: 16 lower-case hex digits.
        parent_id: The span id of the parent, or ``None`` for a root.
        name: The name of the span.
        start: Nanoseconds since the Unix epoch; 0 if unknown.
        end: Nanoseconds since the Unix epoch; 0 if unknown.
        attributes: The attributes of the span.
        resource: The attributes of what produced it.
        scope: The name of the instrumentation scope.
        status: ``"unset"``, ``"ok"`` or ``"error"``.
        status_message: The producer's error text.
        line: The 1-based line of the file where its document starts; in a binary file the number of its message.
        kind: The number of its kind; 0 if unknown.
        scope_attributes: The attributes of the scope.
        nested: Of each event and link that has them, the attributes with names of ours.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    start: int
    end: int
    attributes: Mapping[str, object]
    resource: Mapping[str, object]
    scope: str
    status: SpanStatus
    status_message: str
    line: int
    kind: int = 0
    scope_attributes: Mapping[str, object] = msgspec.field(default_factory=dict[str, object])
    nested: tuple[Mapping[str, object], ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Malformed:
    """An unreadable part of the file.

    Attributes:
        line: The 1-based line where its document starts; in a binary file the number of its message.
        message: The problem.
        doubled: It has attributes of ours, and says something twice (:class:`DoubledError`): no exporter does that.
    """

    line: int
    message: str
    doubled: bool = False


class Document(NamedTuple):
    """An independent part of a file, which another process can read.

    Attributes:
        line: The 1-based line of the file where it starts; in a binary file the number of its message.
        data: Its bytes.
        form: What it is: JSON, a message in Protocol Buffers, or the ``resource_spans`` of one that ends with the file.
    """

    line: int
    data: bytes
    form: Literal["json", "message", "group"] = "json"


def json_documents(source: ByteReader) -> Iterator[Document | Malformed]:
    """Yield the unparsed documents of a file of OTLP/JSON, and an item for each line that is too long.

    Args:
        source: Reads the file.

    Raises:
        OSError: The file cannot be read.
    """
    lines = _read_lines(source, 1)
    first = next(lines, None)
    if first is None:
        return
    if isinstance(first, Malformed) or _parse(first.data) is not None:
        yield first
    else:
        # Perhaps one document over several lines; otherwise its lines are read again, each for itself.
        head = _buffered(first.data, source)
        if _parse(head) is not None:
            yield Document(first.line, head)
            return
        source.unread(head)
        lines = _read_lines(source, first.line)
    yield from lines


def _read_lines(source: ByteReader, number: int) -> Iterator[Document | Malformed]:
    """Yield the lines that are not blank."""
    number += source.skip_space()
    while data := source.readline(MAX_LINE + 1):
        if len(data) > MAX_LINE:
            while data and not data.endswith(b"\n"):
                data = source.readline(_SKIP)
            yield Malformed(number, _LONG)
        else:
            data = data.removeprefix(_BOM)
            if not data.isspace():
                yield Document(number, data)
        number += 1 + source.skip_space()


def read_document(data: bytes, line: int) -> Iterator[SpanData | Malformed]:
    """Yield each span of one document of OTLP/JSON, and an item for each part that is malformed.

    Args:
        data: The document.
        line: Its place in the file.
    """
    parsed = _parse(data)
    if parsed is None:
        yield Malformed(line, "the line is damaged: neither it nor the whole file is one JSON document")
    elif _repeats(data, parsed[0]):
        yield Malformed(line, _TWICE, OURS.encode() in data)
    else:
        yield from _spans_in(parsed[0], line)


def _buffered(head: bytes, source: ByteReader) -> bytes:
    """Return the head with the bytes after it, at most one byte more than :data:`MAX_LINE`."""
    return head + source.read(MAX_LINE + 1 - len(head))


def _parse(data: bytes) -> tuple[JSON] | None:
    """Return the JSON value, which may be null, in a tuple; ``None`` for data that is not JSON."""
    if len(data) > MAX_LINE:
        return None
    try:
        return (orjson.loads(data),)
    except orjson.JSONDecodeError:
        return None


class MisfitError(Exception):
    """A part of a document that is not in the form of OTLP; the text names the problem."""


class DoubledError(MisfitError):
    """An attribute with two values that differ, or an object with a member twice.

    Readers differ in which of the two wins, so a verifier would judge another span than people see.
    """

    def __init__(self, message: str = "an attribute has two values that differ") -> None:
        super().__init__(message)


def parse_once(data: bytes) -> JSON:
    """Return a JSON value whose objects name each member once.

    Raises:
        ValueError: It is no JSON.
        MisfitError: An object names a member twice.
    """
    data = data.removeprefix(_BOM)
    value: JSON = orjson.loads(data)
    if _repeats(data, value):
        raise DoubledError(_TWICE)
    return value


def _repeats(data: bytes, value: JSON) -> bool:
    """Return whether the text of a JSON value has more members than the parsed value, so that some repeat."""
    try:
        if orjson.dumps(value) == data.strip():
            return False  # As most exporters write.
    except orjson.JSONEncodeError:  # Nested deeper than it writes.
        pass
    ends = _STRING.findall(data)
    return len(ends) - ends.count(b"") != _members(value)


def _members(value: JSON) -> int:
    """Return the number of members of all objects in a JSON value."""
    number, rest = 0, [value]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            number += len(item)
            rest.extend(item.values())
        elif isinstance(item, list):
            rest.extend(item)
    return number


def _spans_in(value: JSON, line: int) -> _Spans:
    for document in value if isinstance(value, list) else (value,):
        try:
            groups = _resource_groups(document)
        except MisfitError as misfit:
            yield Malformed(line, str(misfit))
            continue
        for group in groups:
            yield from _resource_spans(group, line)


def _resource_groups(document: JSON) -> Sequence[JSON]:
    members = _object(document, "an export request")
    if document is None or (members and members.keys().isdisjoint(_SIGNALS)):
        raise MisfitError("the JSON is not an export request: it has no 'resourceSpans'")
    return _array(members, "resourceSpans", "resource_spans")


def _resource_spans(group: JSON, line: int) -> _Spans:
    try:
        members = _object(group, "'resourceSpans'")
        resource = _object(members.get("resource"), "'resource'")
        attributes, doubled = _shared(_array(resource, "attributes"), line)
        scopes = _array(members, "scopeSpans", "scope_spans")
    except MisfitError as misfit:
        yield Malformed(line, str(misfit))
        return
    yield from doubled
    for scope in scopes:
        yield from _scope_spans(scope, attributes, line)


def _scope_spans(group: JSON, resource: Mapping[str, object], line: int) -> _Spans:
    try:
        members = _object(group, "'scopeSpans'")
        scope = _object(members.get("scope"), "'scope'")
        name = _string(scope, "name")
        attributes, doubled = _shared(_array(scope, "attributes"), line)
        spans = _array(members, "spans")
    except MisfitError as misfit:
        yield Malformed(line, str(misfit))
        return
    yield from doubled
    for span in spans:
        try:
            yield _span(_object(span, "a span"), resource, name, attributes, line)
        except MisfitError as misfit:
            yield Malformed(line, str(misfit), isinstance(misfit, DoubledError) and _is_ours(span))


def _shared(pairs: Sequence[JSON], line: int) -> tuple[Mapping[str, object], Sequence[Malformed]]:
    """Return the attributes of a resource or scope; without any if one has two values, as its spans are read."""
    try:
        return MappingProxyType(_attributes(pairs, 0)), ()
    except DoubledError as misfit:
        return MappingProxyType({}), (Malformed(line, str(misfit), any(_key(pair).startswith(OURS) for pair in pairs)),)


def _is_ours(span: JSON) -> bool:
    """Return whether a span, whose attributes may be malformed, has attributes of ours."""
    try:
        return any(_key(pair).startswith(OURS) for pair in _array(_object(span, "a span"), "attributes"))
    except MisfitError:
        return False


def _span(
    members: _Members,
    resource: Mapping[str, object],
    scope: str,
    scope_attributes: Mapping[str, object],
    line: int,
) -> SpanData:
    status = _object(members.get("status"), "'status'")
    beside = "events" in members or "links" in members
    return SpanData(
        trace_id=_id(_member(members, "traceId", "trace_id"), _TRACE_ID, "'traceId' is not 32 hex digits"),
        span_id=_id(_member(members, "spanId", "span_id"), _SPAN_ID, "'spanId' is not 16 hex digits"),
        parent_id=_parent(_member(members, "parentSpanId", "parent_span_id")),
        name=_string(members, "name"),
        start=_time(_member(members, "startTimeUnixNano", "start_time_unix_nano")),
        end=_time(_member(members, "endTimeUnixNano", "end_time_unix_nano")),
        attributes=MappingProxyType(_attributes(_array(members, "attributes"), 0)),
        resource=resource,
        scope=scope,
        status=_status(status.get("code")),
        status_message=_string(status, "message"),
        line=line,
        kind=_kind(members.get("kind")),
        scope_attributes=scope_attributes,
        nested=tuple(_nested(members)) if beside else (),
    )


def _kind(value: object) -> int:
    return value if type(value) is int else _KINDS.get(value, 0) if isinstance(value, str) else 0


def _nested(members: _Members) -> Iterator[Mapping[str, object]]:
    """Yield the attributes of each event and link that have our names."""
    for name in ("events", "links"):
        for item in _array(members, name):
            pairs = _array(_object(item, f"an item of '{name}'"), "attributes")
            ours = [pair for pair in pairs if _key(pair).startswith(OURS)]
            if ours:
                yield MappingProxyType(_attributes(ours, 0))


def _key(pair: JSON) -> str:
    return _string(_object(pair, "an attribute"), "key")


def _member(members: _Members, name: str, other: str) -> JSON:
    value, second = members.get(name), members.get(other)
    if value is None:
        return second
    # As for a member that is there twice; and of arrays in both spellings some readers take both.
    if second is not None:
        raise MisfitError(f"'{name}' is there in two spellings")
    return value


def _object(value: JSON, what: str) -> _Members:
    """Return the members of an object; an absent one is empty (as in Protocol Buffers)."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MisfitError(f"{what} is not an object")
    return value


def _array(members: _Members, name: str, other: str = "") -> Sequence[JSON]:
    value = _member(members, name, other) if other else members.get(name)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise MisfitError(f"'{name}' is not an array")
    return value


def _string(members: _Members, name: str) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MisfitError(f"'{name}' is not a string")
    return value


def _id(value: object, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or not value.strip("0"):
        raise MisfitError(f"{what}, or is all zero")
    return value.lower()


def _parent(value: JSON) -> str | None:
    if value in (None, "", "0" * 16):
        return None
    return _id(value, _SPAN_ID, "'parentSpanId' is not 16 hex digits")


def _time(value: JSON) -> int:
    time = 0 if value is None else _integer(value)
    if not 0 <= time <= _MAX_TIME:
        raise MisfitError("a time is not nanoseconds in 64 bits")
    return time


def _status(code: JSON) -> SpanStatus:
    return _STATUS.get(code, "unset") if isinstance(code, (int, str)) else "unset"


def _attributes(pairs: Sequence[Any], depth: int) -> dict[str, object]:
    attributes: dict[str, object] = {}
    is_shallow = depth <= MAX_NESTING
    for item in pairs:
        # Nearly all are strings in this spelling; whatever else there may be takes the careful way below.
        try:
            name, held = item["key"], item["value"]
            text = held.get("stringValue") if len(held) == 1 else None
        except (AttributeError, KeyError, TypeError):
            name = text = None
        if is_shallow and type(text) is str and type(name) is str and name not in attributes:
            attributes[name] = text
            continue
        pair = _object(item, "an attribute")
        key = _string(pair, "key")
        value = any_value(pair.get("value"), depth)
        if key in attributes and repr(attributes[key]) != repr(value):
            raise DoubledError
        attributes[key] = value
    return attributes


def any_value(value: JSON, depth: int) -> object:
    """Return the Python value of an AnyValue.

    Args:
        value: The JSON object, or ``None`` for an absent one.
        depth: The number of enclosing arrays and maps.

    Raises:
        MisfitError: It is malformed.
    """
    members = _object(value, "the value of an attribute")
    text = members.get("stringValue")
    if type(text) is str and len(members) == 1 and depth <= MAX_NESTING:
        return text
    kind = None
    for name, item in members.items():
        if name in _DECODERS and item is not None:
            if kind is not None:
                raise MisfitError("an attribute has several kinds of value")
            kind = name
    if kind is None:
        return None
    if depth > MAX_NESTING:
        raise MisfitError(f"an attribute has more than {MAX_NESTING} nested arrays and maps")
    return _DECODERS[kind](members[kind], depth)


def _text(value: object, _: int) -> str:
    if not isinstance(value, str):
        raise MisfitError("'stringValue' is not a string")
    return value


def _bool(value: object, _: int) -> bool:
    if not isinstance(value, bool):
        raise MisfitError("'boolValue' is not a boolean")
    return value


def _int(value: object, _: int) -> int:
    number = _integer(value)
    if not -_MAX_INT - 1 <= number <= _MAX_INT:
        raise MisfitError("'intValue' is not in 64 bits")
    return number


def _integer(value: object) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise MisfitError("a 64-bit integer is not a decimal string")
    return int(value)


def _double(value: object, _: int) -> float:
    if type(value) is float or type(value) is int:
        return float(value)
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise MisfitError("'doubleValue' is not a number")
    return float(value)


def _bytes(value: object, _: int) -> bytes:
    if not isinstance(value, str):
        raise MisfitError("'bytesValue' is not base64")
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise MisfitError("'bytesValue' is not base64") from None


def _list(value: JSON, depth: int) -> list[object]:
    return [any_value(item, depth + 1) for item in _array(_object(value, "'arrayValue'"), "values")]


def _dict(value: JSON, depth: int) -> dict[str, object]:
    return _attributes(_array(_object(value, "'kvlistValue'"), "values"), depth + 1)


_DECODERS: Final[Mapping[str, Callable[[JSON, int], object]]] = MappingProxyType(
    {
        name: decoder
        for camel, snake, decoder in (
            ("stringValue", "string_value", _text),
            ("boolValue", "bool_value", _bool),
            ("intValue", "int_value", _int),
            ("doubleValue", "double_value", _double),
            ("bytesValue", "bytes_value", _bytes),
            ("arrayValue", "array_value", _list),
            ("kvlistValue", "kvlist_value", _dict),
        )
        for name in (camel, snake)
    }
)
