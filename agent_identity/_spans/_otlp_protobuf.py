"""Reader of spans in OTLP Protocol Buffers: one message, or a stream of length-prefixed messages.

The levels above a span are taken apart here, so that memory holds one message at most and damage costs the
part in which it is. The library of OpenTelemetry decodes what is in a span (extra ``otlp``).
https://opentelemetry.io/docs/specs/otlp/#binary-protobuf-encoding
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, TypeVar, final

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from agent_identity._spans.otlp_json import (
    MAX_LINE,
    OURS,
    Document,
    DoubledError,
    Malformed,
    MisfitError,
    SpanData,
    SpanStatus,
    read_document,
)
from agent_identity._storage.byte_reader import ByteReader
from agent_identity._storage.decompress import MAX_RATIO
from agent_identity.errors import ConfigurationError

Framing: TypeAlias = Literal["bare", "delimited", "prefixed"]
"""End of a message: with the file, after a length as a varint, or after a length in four bytes."""

_Spans: TypeAlias = "Iterator[SpanData | Malformed]"
_Scope: TypeAlias = "tuple[str, Mapping[str, object]]"
"""The name and the attributes of an instrumentation scope."""

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_WINDOW: Final = 64 * 1024 * 1024  # Bytes that inflating may hold; the collector uses 8 MiB.
_PART: Final = 8 * 1024 * 1024  # Bytes of a span; what the library makes of them may take some forty times as many.
_SKIP: Final = 1024 * 1024
_CUT: Final = "the message is incomplete; the file was cut"
_DAMAGED: Final = "the bytes are not a message in Protocol Buffers, or are damaged"
_LONG: Final = f"the message is longer than {MAX_LINE} bytes; export smaller batches"
_STATUS: Final[Mapping[int, SpanStatus]] = MappingProxyType({1: "ok", 2: "error"})
_FREE: Final = 4_096  # Bytes that even the smallest compressed message may become.
_FAR: Final = (
    f"the compressed message inflates to more than {MAX_RATIO['zstd']} times its size; if you "
    "trust its source, export without compression"
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_SCALARS: Final = frozenset({"bool_value", "int_value", "double_value", "bytes_value"})
_WIDTH: Final = MappingProxyType({_FIXED64: 8, _FIXED32: 4})


def binary_documents(source: ByteReader, framing: Framing) -> Iterator[Document | Malformed]:
    """Yield the unparsed messages of a file, and an item for each that is cut or too long.

    Args:
        source: Reads the file.
        framing: The framing of messages.

    Raises:
        OSError: The file cannot be read.
    """
    reader = _Reader(source)
    number = 0
    while not reader.ended:
        number += 1
        try:
            length = _LENGTHS[framing](reader)
        except MisfitError as misfit:
            yield Malformed(number, str(misfit))
            return
        if length is None:
            return
        if length > MAX_LINE:
            yield Malformed(number, _LONG if reader.skip(length) else _CUT)
            continue
        data = reader.take(length)
        yield Document(number, data, "group" if framing == "bare" else "message")
        if len(data) < length:
            yield Malformed(number, _CUT)


def read_message(document: Document) -> Iterator[SpanData | Malformed]:
    """Yield each span of a message, and an item for each part that is malformed.

    A message that the collector compressed by itself, or wrote as JSON after its length, is read as well.

    Args:
        document: The message.

    Raises:
        ConfigurationError: It is compressed, and what reads that is not installed.
    """
    data, number = document.data, document.line
    return _resource_spans(memoryview(data), number) if document.form == "group" else _message(data, number)


@final
class _Reader:
    """Reads exact byte counts from a source."""

    def __init__(self, source: ByteReader) -> None:
        self._source = source
        self.ended = False

    def take(self, size: int) -> bytes:
        """Return this many bytes, or all that remain."""
        data = self._source.read(size)
        self.ended = len(data) < size
        return data

    def skip(self, size: int) -> bool:
        """Skip this many bytes; return whether they were there."""
        while size and not self.ended:
            size -= len(self.take(min(size, _SKIP)))
        return not size

    def varint(self) -> int | None:
        """Return the next varint, ``None`` at the end.

        Raises:
            MisfitError: It is cut or too long.
        """
        value = 0
        for shift in range(0, 70, 7):
            byte = self.take(1)
            if not byte:
                if shift:
                    raise MisfitError(_CUT)
                return None
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        raise MisfitError(_DAMAGED)


def _prefix(reader: _Reader) -> int | None:
    head = reader.take(4)
    if 0 < len(head) < 4:
        raise MisfitError(_CUT)
    return int.from_bytes(head, "big") if head else None


def _field(reader: _Reader) -> int | None:
    """Return the length of the next ``resource_spans`` of a message that ends with the file."""
    while (key := reader.varint()) is not None:
        kind = key & 7
        if kind == _BYTES:
            length = reader.varint()
            if length is None:
                raise MisfitError(_CUT)
            if key >> 3 == 1:
                return length
            _pass_over(reader, length)
        elif kind == _VARINT:
            reader.varint()
        elif kind in _WIDTH:
            _pass_over(reader, _WIDTH[kind])
        else:
            raise MisfitError("the bytes from here on are not a message in Protocol Buffers, or are damaged")
    return None


def _pass_over(reader: _Reader, size: int) -> None:
    if not reader.skip(size):
        raise MisfitError(_CUT)


_LENGTHS: Final[Mapping[Framing, Callable[[_Reader], int | None]]] = MappingProxyType(
    {"bare": _field, "delimited": _Reader.varint, "prefixed": _prefix}
)


def _message(data: bytes, number: int) -> _Spans:
    if data.startswith(_ZSTD):
        try:
            data = _inflated(data)
        except MisfitError as misfit:
            yield Malformed(number, str(misfit))
            return
    if data[:1] in (b"{", b"["):
        yield from read_document(data, number)
        return
    yield from _groups(memoryview(data), number)


def _inflated(data: bytes) -> bytes:
    try:
        from zstandard import ZstdDecompressor, ZstdError, frame_content_size  # An extra.
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the package zstandard is not installed, which compressed messages need; run pip "
            "install '.[zstd]' in the checkout"
        ) from None
    most = min(MAX_LINE, _FREE + MAX_RATIO["zstd"] * len(data))
    try:
        with ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data, read_across_frames=True) as reader:
            inflated = reader.read(most + 1)
            whole = len(inflated) >= frame_content_size(data)  # -1 if the frame does not say.
    except ZstdError:
        whole, inflated = False, b""
    if len(inflated) > most:
        raise MisfitError(_LONG if most == MAX_LINE else _FAR)
    if not whole:
        raise MisfitError("zstd cannot inflate the message to its end; it is damaged")
    return inflated


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Stream the length-delimited fields of a message, each with its number.

    Raises:
        MisfitError: The rest of the message is damaged.
    """
    place, end = 0, len(data)
    while place < end:
        key, place = _varint(data, place)
        kind = key & 7
        if kind == _VARINT:
            _, place = _varint(data, place)
            continue
        if kind == _BYTES:
            size, place = _varint(data, place)
        elif kind in _WIDTH:
            size = _WIDTH[kind]
        else:
            raise MisfitError(_DAMAGED)
        place += size
        if place > end:
            raise MisfitError(_DAMAGED)
        if kind == _BYTES:
            yield key >> 3, data[place - size : place]


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift, byte in enumerate(data[place : place + 10]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    raise MisfitError(_DAMAGED)


def _groups(data: memoryview, number: int) -> _Spans:
    try:
        for field, value in _fields(data):
            if field == 1:
                yield from _resource_spans(value, number)
    except MisfitError as misfit:
        yield Malformed(number, str(misfit))


def _resource_spans(data: memoryview, number: int) -> _Spans:
    try:
        resource, doubled = _shared(_first(Resource, data).attributes, number)
        yield from doubled
        for field, value in _fields(data):
            if field == 2:
                yield from _scope_spans(value, resource, number)
    except MisfitError as misfit:
        yield Malformed(number, str(misfit))


def _scope_spans(data: memoryview, resource: Mapping[str, object], number: int) -> _Spans:
    try:
        scope = _first(InstrumentationScope, data)
        attributes, doubled = _shared(scope.attributes, number)
        yield from doubled
        for field, value in _fields(data):
            if field == 2:
                yield _span_of(value, resource, (scope.name, attributes), number)
    except MisfitError as misfit:
        yield Malformed(number, str(misfit))


def _span_of(data: memoryview, resource: Mapping[str, object], scope: _Scope, number: int) -> SpanData | Malformed:
    try:
        span = _parsed(Span, data)
    except MisfitError as misfit:
        return Malformed(number, str(misfit))
    try:
        return _span(span, resource, scope, number)
    except MisfitError as misfit:
        return Malformed(number, str(misfit), isinstance(misfit, DoubledError) and _is_ours(span.attributes))


def _shared(pairs: Sequence[KeyValue], number: int) -> tuple[Mapping[str, object], Sequence[Malformed]]:
    """Return the attributes of a resource or scope; without any if one has two values, as its spans are read."""
    try:
        return MappingProxyType(_attributes(pairs)), ()
    except DoubledError as misfit:
        return MappingProxyType({}), (Malformed(number, str(misfit), _is_ours(pairs)),)


def _is_ours(pairs: Iterable[KeyValue]) -> bool:
    return any(pair.key.startswith(OURS) for pair in pairs)


_M = TypeVar("_M", bound=Message)


def _first(kind: type[_M], data: memoryview) -> _M:
    """Return the message in field 1; repeated ones are merged, as the format says."""
    merged = bytearray()
    with suppress(MisfitError):  # Reported when the spans after it are read.
        for field, value in _fields(data):
            if field == 1:
                merged += value
    return _parsed(kind, merged)


def _parsed(kind: type[_M], data: memoryview | bytearray) -> _M:
    if len(data) > _PART:
        raise MisfitError(f"a span or resource is longer than {_PART} bytes")
    try:
        return kind.FromString(bytes(data))
    except DecodeError:
        raise MisfitError(_DAMAGED) from None


def _span(span: Span, resource: Mapping[str, object], scope: _Scope, number: int) -> SpanData:
    return SpanData(
        trace_id=_id(span.trace_id, 16, "the trace id is not 16 bytes"),
        span_id=_id(span.span_id, 8, "the span id is not 8 bytes"),
        parent_id=_id(span.parent_span_id, 8, "the parent span id is not 8 bytes")
        if any(span.parent_span_id)
        else None,
        name=span.name,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=MappingProxyType(_attributes(span.attributes)),
        resource=resource,
        scope=scope[0],
        status=_STATUS.get(span.status.code, "unset"),
        status_message=span.status.message,
        line=number,
        kind=span.kind,
        scope_attributes=scope[1],
        nested=tuple(_nested(span)),
    )


def _nested(span: Span) -> Iterator[Mapping[str, object]]:
    """Yield the attributes of each event and link that have our names."""
    for pairs in (*(event.attributes for event in span.events), *(link.attributes for link in span.links)):
        ours = [pair for pair in pairs if pair.key.startswith(OURS)]
        if ours:
            yield MappingProxyType(_attributes(ours))


def _id(value: bytes, size: int, what: str) -> str:
    if len(value) != size or not any(value):
        raise MisfitError(f"{what}, or is all zero")
    return value.hex()


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, object]:
    attributes: dict[str, object] = {}
    for pair in pairs:
        key, value = pair.key, _value(pair.value)
        if key in attributes and repr(attributes[key]) != repr(value):
            raise DoubledError
        attributes[key] = value
    return attributes


def _value(value: AnyValue) -> object:
    """Return the Python value; recursion ends because the library decodes some fifty nested arrays and no more."""
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return value.string_value
    if kind in _SCALARS:
        scalar: object = getattr(value, kind)
        return scalar
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return _attributes(value.kvlist_value.values) if kind == "kvlist_value" else None
