"""Reader of spans from any file of OTLP, recognized by content, never by name.

``otlp_json`` reads JSON, ``_otlp_protobuf`` Protocol Buffers. Three binary forms are in use: one message, which may
be continued by further ones; messages each after its length as a varint, as the specification asks of file exporters;
and messages each after its length in four bytes, as the collector's ``file`` exporter writes them.
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/
"""

import re
from collections.abc import Callable, Iterator
from typing import Final, Literal, TypeAlias

from agent_identity._spans.otlp_json import MAX_LINE, Document, Malformed, SpanData, json_documents, read_document
from agent_identity._storage.byte_reader import ByteLines, ByteReader
from agent_identity._storage.decompress import Inflating, is_compressed
from agent_identity.errors import ConfigurationError

TRACE_FILE: Final = re.compile(r"\.(?:json|jsonl|ndjson|pb|bin|otlp)(?:\.(?:gz|zst))?\Z")
"""Names that files of traces have in folders, where not every file is one."""

_Documents: TypeAlias = "Iterator[Document | Malformed]"
_Spans: TypeAlias = "Iterator[SpanData | Malformed]"
_Form: TypeAlias = Literal["json", "bare", "delimited", "prefixed"]
_HEAD: Final = 32
"""Bytes that tell the forms apart."""

_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_TAGS: Final = (frozenset({0x0A}), frozenset({0x0A, 0x12, 0x1A}), frozenset({0x0A, 0x10, 0x12, 0x1A}))
"""First bytes of an export request, its resource spans, and a resource or the spans of a scope in them."""

_NESTS: Final = frozenset({0x0A, 0x12})
_COUNT: Final = 0x10  # The one of them that has no length.


def read_spans(source: ByteLines) -> Iterator[SpanData | Malformed]:
    """Yield each span of a file of OTLP, and an item for each part that is malformed.

    Memory holds one line or message at a time, of at most :data:`MAX_LINE` bytes.

    Args:
        source: The file, open in binary mode.

    Raises:
        OSError: The file cannot be read.
        ConfigurationError: It is in Protocol Buffers, or compressed, and what reads that is not installed.
    """
    for document in documents(ByteReader.of(source)):
        if isinstance(document, Malformed):
            yield document
        else:
            yield from spans_of(document)


def documents(source: ByteReader) -> Iterator[Document | Malformed]:
    """Yield the unparsed documents of a file of OTLP, and an item for each malformed part.

    Args:
        source: Reads the file.

    Raises:
        OSError: The file cannot be read.
        InflatedError: It is compressed, and becomes larger, or more documents, than evidence does.
        ConfigurationError: It is in Protocol Buffers, or compressed, and what reads that is not installed.
    """
    head = source.peek(_HEAD)
    if not is_compressed(head):
        yield from _split(source)
        return
    inflating = Inflating(head, source)
    for document in _split(inflating.reader):
        inflating.take_document()
        yield document


def _split(source: ByteReader) -> Iterator[Document | Malformed]:
    form = _form(source.peek(_HEAD))
    if form == "json":
        yield from json_documents(source)
    else:
        take_apart, _ = _protobuf()
        yield from take_apart(source, form)


def spans_of(document: Document) -> Iterator[SpanData | Malformed]:
    """Return each span of a document, and an item for each part of it that is malformed.

    Args:
        document: The document.

    Raises:
        ConfigurationError: It is in Protocol Buffers, or compressed, and what reads that is not installed.
    """
    if document.form == "json":
        return read_document(document.data, document.line)
    _, read_message = _protobuf()
    return read_message(document)


def _protobuf() -> tuple[
    Callable[[ByteReader, Literal["bare", "delimited", "prefixed"]], _Documents], Callable[[Document], _Spans]
]:
    """Return the splitter of Protocol Buffers files, and the reader of their messages."""
    try:
        from agent_identity._spans._otlp_protobuf import binary_documents, read_message  # The library is an extra.
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the package opentelemetry-proto is not installed, which traces in Protocol Buffers "
            "need; run pip install '.[otlp]' in the checkout, or write OTLP/JSON"
        ) from None
    return binary_documents, read_message


def _form(head: bytes) -> _Form:
    """Return the form of a file from its first bytes.

    A line feed, a brace and other characters of text are lengths and tags as well, so that the nesting is
    looked at: no JSON that a program writes begins with fields of these numbers that lie within each other. Odd blank
    lines before JSON might, and it is refused as malformed then.
    """
    size = int.from_bytes(head[:4], "big")
    if 2 <= size <= MAX_LINE and (head[4:8] == _ZSTD or head[4:5] == b"{" or _begins(head, 4, 4 + size)):
        return "prefixed"
    length, start = _varint(head, 0)
    if 2 <= length <= MAX_LINE and _begins(head, start, start + length):
        return "delimited"
    return "bare" if _begins(head, 0, MAX_LINE) else "json"


def _begins(head: bytes, place: int, end: int) -> bool:
    """Return whether an export request that ends at ``end`` begins at ``place``, checked on three levels."""
    for tags in _TAGS:
        if place == end and tags is not _TAGS[0]:
            return True
        if place >= len(head) or head[place] not in tags:
            return False
        if head[place] == _COUNT:
            return True
        nests = head[place] in _NESTS
        length, place = _varint(head, place + 1)
        if place + length > end:
            return False
        if not nests:
            return True
        end = place + length
    return True


def _varint(head: bytes, place: int) -> tuple[int, int]:
    """Return a number of at most 32 bits and its end; a longer or cut one exceeds any length."""
    value = 0
    for shift, byte in enumerate(head[place : place + 5]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, place + shift + 1
    return 2**63, len(head)
