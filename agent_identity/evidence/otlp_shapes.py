"""Reading documents of OTLP/JSON whose text is like that of earlier ones, without parsing them.

Nearly all spans of an exporter differ in the text of their strings only. A *shape* is the text of a span that was
read with all checks, with slots in place of its string values. What stands between the spans of a document is kept as
it is. A document of nothing but known parts, with text without escapes in the slots, parses to the same members with
that text in them, and names no member twice. All else is parsed, so that shapes decide about speed, and never about
what is read.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias, cast, final

import orjson

from agent_identity.evidence.otlp import Malformed, MisfitError, SpanData, SpanStatus, read_document

__all__ = ["SpanShapes"]

_Members: TypeAlias = "dict[str, object]"
_Slots: TypeAlias = dict[str, int | tuple[int, int] | None]
_Source: TypeAlias = "tuple[Mapping[str, object], str, Mapping[str, object]]"
"""The attributes of what produced a span, its scope, and the attributes of that."""

_MARK: Final = '{"traceId":"'
_MAX_SHAPES: Final = 24
_MAX_GAPS: Final = 1_024
_MAX_GAP: Final = 16_384  # Characters.
_STAND_INS: Final = tuple(f"<span {number}>" for number in range(8))  # For a span, where none of them is in the text.
_MAX_SPANS: Final = 16_384  # Of a document that is learned from.
_MAX_LEARNED: Final = 4  # Of one document.
_MAX_MISSES: Final = 32  # Documents in a row; whoever writes them writes no two alike.
_MAX_SLOTS: Final = 512
_MAX_PATTERN: Final = 32_768  # Characters of a pattern, each of which takes some hundred bytes and a microsecond.
_TEXT: Final = r'[^"\\\x00-\x1f]*+'
_SPACE: Final = " \t\r\n"
_GROUP: Final = (["resource", "scopeSpans"], ["scopeSpans"])
_SCOPE: Final = (["scope", "spans"], ["spans"])
_LAST: Final = "schemaUrl"
_PLAIN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "traceId": "(?!0{32})[0-9a-f]{32}",
        "spanId": "(?!0{16})[0-9a-f]{16}",
        "parentSpanId": "(?!0{16})[0-9a-f]{16}",
        "name": _TEXT,
        "startTimeUnixNano": "[0-9]{1,19}",
        "endTimeUnixNano": "[0-9]{1,19}",
    }
)
"""The members of a span that are slots, and the only forms that are recognised in them."""

_UNREAD: Final = (
    "traceState",
    "flags",
    "droppedAttributesCount",
    "events",
    "droppedEventsCount",
    "links",
    "droppedLinksCount",
)
_USUAL: Final = frozenset({*_PLAIN, *_UNREAD, "attributes", "kind", "status"})
"""The members that a span may have; ``null`` and other spellings of their names are for those who parse."""


_PAIR: Final = frozenset({"key", "value"})
_NEEDED: Final = frozenset({"traceId", "spanId", "name", "startTimeUnixNano", "endTimeUnixNano"})


class _Shape(NamedTuple):
    """The text of a span, and where in it is what a span says."""

    match: Callable[..., re.Match[str] | None]
    plain: Mapping[str, int]
    names: tuple[str, ...]
    slots: Sequence[int]
    lists: tuple[tuple[str, int, int], ...]
    constants: Mapping[str, object]
    status: SpanStatus
    message: int
    kind: int

    def span(self, found: Sequence[str], source: "_Source", line: int) -> SpanData:
        """Return the span with what its slots say."""
        plain = self.plain
        attributes: dict[str, object] = dict(zip(self.names, [found[slot] for slot in self.slots], strict=True))
        for name, first, end in self.lists:
            attributes[name] = list(found[first:end])
        attributes.update(self.constants)
        parent = plain.get("parentSpanId")
        return SpanData(
            trace_id=found[plain["traceId"]],
            span_id=found[plain["spanId"]],
            parent_id=None if parent is None else found[parent],
            name=found[plain["name"]],
            start=int(found[plain["startTimeUnixNano"]]),
            end=int(found[plain["endTimeUnixNano"]]),
            attributes=MappingProxyType(attributes),
            resource=source[0],
            scope=source[1],
            status=self.status,
            status_message="" if self.message < 0 else found[self.message],
            line=line,
            kind=self.kind,
            scope_attributes=source[2],
        )


@final
class SpanShapes:
    """Reads documents, and is quick about those that are like earlier ones; a bounded number of shapes is kept."""

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._heads: dict[str, _Source] = {}
        self._gaps: dict[str, tuple[Mapping[str, object] | None, str, Mapping[str, object]]] = {}
        self._tails: set[str] = set()
        self._misses = 0
        self._seen = False

    def read(self, data: bytes, line: int) -> Iterable[SpanData | Malformed]:
        """Return what :func:`~agent_identity.evidence.otlp.read_document` does.

        Args:
            data: The document.
            line: Its place in the file.
        """
        if self._misses > _MAX_MISSES:
            return read_document(data, line)
        quick = self._find(data, line)
        if quick is not None:
            self._misses = 0
            return quick
        self._misses += 1
        found: list[SpanData] = []
        items = read_document(data, line)
        for item in items:
            if isinstance(item, Malformed) or len(found) == _MAX_SPANS:
                self._seen = True
                return chain(found, (item,), items)  # Nothing to learn from, and perhaps too much to be held.
            found.append(item)
        if self._seen:  # What comes but once is not worth it.
            self._learn(data, found)
        self._seen = True
        return found

    def _find(self, data: bytes, line: int) -> list[SpanData] | None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return None
        spans: list[SpanData] = []
        place, shapes = 0, self._shapes
        source: _Source | None = None
        while (start := text.find(_MARK, place)) >= 0:
            if source is None or start != place + 1 or text[place] != ",":
                source = self._source(text[place:start], source)
                if source is None:
                    return None
            for shape in shapes:
                match = shape.match(text, start)
                if match is not None:
                    break
            else:
                return None
            if shape is not shapes[0]:
                shapes.remove(shape)
                shapes.insert(0, shape)
            spans.append(shape.span(match.groups(), source, line))
            place = match.end()
        return spans if source is not None and text[place:].rstrip(_SPACE) in self._tails else None

    def _source(self, gap: str, before: "_Source | None") -> "_Source | None":
        if before is None:
            return self._heads.get(gap)
        known = self._gaps.get(gap)
        return None if known is None else (before[0] if known[0] is None else known[0], *known[1:])

    def _learn(self, data: bytes, spans: Sequence[SpanData]) -> None:
        if not spans:
            return
        value = orjson.loads(data)
        try:
            text = orjson.dumps(value)
        except orjson.JSONEncodeError:
            return
        every = _spans_of(value)
        if text != data.strip(_SPACE.encode()) or every is None or len(every) != len(spans):
            return
        self._learn_gaps(text.decode(), value, spans)
        learned = 0
        for members, span in zip(every, spans, strict=True):
            written = orjson.dumps(members).decode()
            if any(shape.match(written) for shape in self._shapes):
                continue
            shape = _shape_of(members, span)
            if shape is None or learned == _MAX_LEARNED:
                return
            learned += 1
            self._shapes.insert(0, shape)
            del self._shapes[_MAX_SHAPES:]

    def _learn_gaps(self, text: str, value: object, spans: Sequence[SpanData]) -> None:
        mark = next((mark for mark in _STAND_INS if f'"{mark}"' not in text), None)
        if mark is None:  # Somebody wrote them all, and could write as many others.
            return
        gaps = orjson.dumps(_without_spans(value, mark)).decode().split(f'"{mark}"')
        tail = gaps.pop()
        if max(map(len, gaps)) > _MAX_GAP or len(tail) > _MAX_GAP:
            return
        if len(self._heads) + len(self._gaps) + len(self._tails) > _MAX_GAPS:
            for kept in (self._heads, self._gaps, self._tails):
                kept.clear()
        self._tails.add(tail)
        self._heads[gaps[0]] = spans[0].resource, spans[0].scope, spans[0].scope_attributes
        before = spans[0].resource
        for gap, span in zip(gaps[1:], spans[1:], strict=True):
            if gap != ",":
                resource = None if span.resource is before else span.resource
                self._gaps[gap] = resource, span.scope, span.scope_attributes
            before = span.resource


def _spans_of(value: object) -> "list[_Members] | None":
    """Return the spans of a document, or ``None`` if its members are not the usual ones in their usual order."""
    spans: list[object] = []
    try:
        for group in _array(value, (["resourceSpans"],)):
            for scope in _array(group, _GROUP):
                spans += _array(scope, _SCOPE)
    except MisfitError:
        return None
    usual = all(type(span) is dict and next(iter(cast("_Members", span)), None) == "traceId" for span in spans)
    return cast("list[_Members]", spans) if usual else None


def _array(value: object, usual: Sequence[list[str]]) -> Sequence[object]:
    """Return the array that is the last of the usual members of an object; ``schemaUrl`` may stand behind it.

    Raises:
        MisfitError: It is another object.
    """
    members = cast("_Members", value) if type(value) is dict else {}
    names = [name for name in members if name != _LAST or name != next(reversed(members))]
    array = members[names[-1]] if names in usual else None
    if type(array) is not list:
        raise MisfitError("expected the usual members, got others")
    return cast("list[object]", array)


def _without_spans(value: object, token: str) -> object:
    """Return a document with a token in place of each span."""
    document = cast("dict[str, list[dict[str, Any]]]", value)
    return {
        "resourceSpans": [
            {
                **group,
                "scopeSpans": [{**scope, "spans": [token] * len(scope["spans"])} for scope in group["scopeSpans"]],
            }
            for group in document["resourceSpans"]
        ]
    }


@final
class _Pattern:
    """Writes the pattern of a text."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.slots = 0

    def add(self, text: str) -> None:
        """Add text as it stands."""
        self._parts.append(re.escape(text))

    def slot(self, form: str) -> int:
        """Add a slot, and return its number."""
        self._parts.append(f"({form})")
        self.slots += 1
        return self.slots - 1

    def string(self, form: str = _TEXT) -> int:
        """Add a string that is a slot."""
        self.add('"')
        number = self.slot(form)
        self.add('"')
        return number

    def value(self, value: object) -> None:
        """Add a value of which nothing matters, but for its form and the names of attributes in it."""
        if isinstance(value, str):
            self._parts.append(f'"{_TEXT}"')
        elif isinstance(value, list):
            for number, item in enumerate(cast("list[object]", value)):
                self.add("," if number else "[")
                self.value(item)
            self.add("]" if value else "[]")
        elif isinstance(value, dict):
            for name, item in self.members(cast("_Members", value)):
                if name == "key":
                    self.add(orjson.dumps(item).decode())
                else:
                    self.value(item)
        else:
            self.add(orjson.dumps(value).decode())

    def members(self, members: "_Members") -> Iterator[tuple[str, object]]:
        """Yield the members of an object, having written what stands before the value, which the caller writes."""
        for number, (name, item) in enumerate(members.items()):
            self.add(("," if number else "{") + orjson.dumps(name).decode() + ":")
            yield name, item
        self.add("}" if members else "{}")

    def compiled(self) -> re.Pattern[str] | None:
        """Return the pattern, or ``None`` if it would be too long."""
        text = "".join(self._parts)
        return re.compile(text) if self.slots <= _MAX_SLOTS and len(text) <= _MAX_PATTERN else None


def _shape_of(members: "_Members", span: SpanData) -> _Shape | None:
    """Return the shape of a span, or ``None`` if its text is not that of the usual members.

    Args:
        members: The span, whose bytes are those that ``orjson`` writes.
        span: The same, as it was read.
    """
    if not members.keys() <= _USUAL or None in members.values():
        return None
    pattern, plain, slots, message = _Pattern(), dict[str, int](), _Slots(), -1
    for name, value in pattern.members(members):
        if name == "status":
            message = _status(pattern, cast("_Members", value))
        elif name == "attributes":
            slots = _attributes(pattern, cast("list[_Members]", value))
        elif name == "kind":
            pattern.add(orjson.dumps(value).decode())
        elif name in _UNREAD:
            pattern.value(value)
        elif name == "parentSpanId" and span.parent_id is None:
            pattern.add(orjson.dumps(value).decode())
        elif not isinstance(value, str) or not re.fullmatch(_PLAIN[name], value):
            return None
        else:
            plain[name] = pattern.string(_PLAIN[name])
    return _complete(pattern, plain, slots, message, span)


def _complete(
    pattern: _Pattern, plain: Mapping[str, int], slots: _Slots, message: int, span: SpanData
) -> _Shape | None:
    """Return the shape, unless something is missing in it, or its events and links say something in our names."""
    if span.aside or not plain.keys() >= _NEEDED or slots.keys() != span.attributes.keys():
        return None
    compiled = pattern.compiled()
    if compiled is None:
        return None
    lists = tuple((name, *slot) for name, slot in slots.items() if isinstance(slot, tuple))
    constants = {name: span.attributes[name] for name, slot in slots.items() if slot is None}
    places = [slot if isinstance(slot, int) else 0 for slot in slots.values()]
    return _Shape(compiled.match, plain, tuple(slots), places, lists, constants, span.status, message, span.kind)


def _status(pattern: _Pattern, members: "_Members") -> int:
    """Write the status of a span; return the slot of its message, or -1."""
    message = -1
    for name, value in pattern.members(members):
        if name == "message" and isinstance(value, str):
            message = pattern.string()
        else:
            pattern.add(orjson.dumps(value).decode())
    return message


def _attributes(pattern: _Pattern, pairs: "list[_Members]") -> _Slots:
    """Write the attributes of a span; return where their values are, ``None`` for those that do not change.

    Nothing is returned of attributes that are not the usual ones.
    """
    slots = _Slots()
    if not all(type(pair) is dict and pair.keys() == _PAIR for pair in pairs):
        return slots
    for number, pair in enumerate(pairs):
        pattern.add("," if number else "[")
        for name, value in pattern.members(pair):
            if name == "value" and isinstance(value, dict):
                slots[cast("str", pair.get("key"))] = _value(pattern, cast("_Members", value))
            else:
                pattern.add(orjson.dumps(value).decode())
    pattern.add("]" if pairs else "[]")
    return slots if len(slots) == len(pairs) else {}  # One may be there twice.


def _value(pattern: _Pattern, value: "_Members") -> int | tuple[int, int] | None:
    """Write the value of an attribute; return its slot, or the first of a list and the one behind."""
    text, array = value.get("stringValue"), value.get("arrayValue")
    if len(value) == 1 and isinstance(text, str):
        pattern.add('{"stringValue":')
        slot = pattern.string()
        pattern.add("}")
        return slot
    inner = cast("_Members", array) if type(array) is dict else {}
    items = inner.get("values") if len(inner) == len(value) == 1 else None
    if type(items) is not list or not all(map(_is_text, cast("list[object]", items))):
        pattern.add(orjson.dumps(value).decode())
        return None
    first = pattern.slots
    pattern.add('{"arrayValue":{"values":')
    for number in range(len(cast("list[object]", items))):
        pattern.add(("," if number else "[") + '{"stringValue":')
        pattern.string()
        pattern.add("}")
    pattern.add("]}}" if items else "[]}}")
    return first, pattern.slots


def _is_text(item: object) -> bool:
    members = cast("_Members", item) if type(item) is dict else {}
    return len(members) == 1 and isinstance(members.get("stringValue"), str)
