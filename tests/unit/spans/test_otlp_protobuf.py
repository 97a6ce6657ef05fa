"""Reading OTLP in Protocol Buffers: told from JSON by content, in every framing, and robust against any bytes."""

import builtins
import io
import json
import math
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, TracesData

from agent_identity._spans import _otlp_protobuf as otlp_protobuf
from agent_identity._spans import otlp_reader as traces
from agent_identity._spans.otlp_json import Malformed, SpanData
from agent_identity._spans.otlp_reader import read_spans
from agent_identity.errors import ConfigurationError

TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
SPAN = bytes.fromhex("00f067aa0ba902b7")


def any_value(value: object) -> AnyValue:
    """The AnyValue of a Python value."""
    made = AnyValue()
    if isinstance(value, list):
        made.array_value.values.extend(map(any_value, value))
        made.array_value.SetInParent()
    elif isinstance(value, dict):
        made.kvlist_value.values.extend(pairs(value))
        made.kvlist_value.SetInParent()
    elif value is not None:
        kinds = {bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes"}
        setattr(made, f"{kinds[type(value)]}_value", value)
    return made


def pairs(attributes: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=any_value(value)) for name, value in attributes.items()]


def span(name: str = "", **attributes: Any) -> Span:
    """The smallest span."""
    return Span(trace_id=TRACE, span_id=SPAN, name=name, attributes=pairs(attributes))


def group(*spans: Span, **resource: Any) -> ResourceSpans:
    """Spans of one scope of one resource."""
    made = ResourceSpans(scope_spans=[ScopeSpans(spans=spans)])
    made.scope_spans[0].scope.name = "agent_identity"
    made.resource.attributes.extend(pairs(resource))
    return made


def message(*spans: Span, **resource: Any) -> bytes:
    """An export request with one resource and one scope."""
    return TracesData(resource_spans=[group(*spans, **resource)]).SerializeToString()


def varint(number: int) -> bytes:
    head = b""
    while number >= 0x80:
        head += bytes([number & 0x7F | 0x80])
        number >>= 7
    return head + bytes([number])


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "bare": lambda data: data,
    "delimited": lambda data: varint(len(data)) + data,
    "prefixed": lambda data: struct.pack(">I", len(data)) + data,
}


def framed(framing: str, *messages: bytes) -> bytes:
    return b"".join(map(FRAMINGS[framing], messages))


def read(data: bytes) -> list[SpanData | Malformed]:
    return list(read_spans(io.BytesIO(data)))


def names(items: list[SpanData | Malformed]) -> list[str]:
    """The names of the spans, ``!`` for each malformed part."""
    return [item.name if isinstance(item, SpanData) else "!" for item in items]


def test_a_whole_span_is_read() -> None:
    """Every member that a verifier needs is there, in the types that OTLP/JSON gives too."""
    whole = span("execute_tool pay", text="é\u2028", n=2**63 - 1)
    whole.parent_span_id = bytes.fromhex("1234567890abcdef")
    whole.start_time_unix_nano, whole.end_time_unix_nano = 2**64 - 1, 2
    whole.status.code, whole.status.message = whole.status.STATUS_CODE_ERROR, "denied"
    assert read(message(whole, **{"service.name": "shop"})) == [
        SpanData(
            trace_id=TRACE.hex(),
            span_id=SPAN.hex(),
            parent_id="1234567890abcdef",
            name="execute_tool pay",
            start=2**64 - 1,
            end=2,
            attributes={"text": "é\u2028", "n": 2**63 - 1},
            resource={"service.name": "shop"},
            scope="agent_identity",
            status="error",
            status_message="denied",
            line=1,
        )
    ]


def test_absent_members_have_the_defaults_of_the_format() -> None:
    """A span with ids alone is a span; a parent of zeros is none, and an unknown status is unset."""
    bare = span()
    bare.parent_span_id = bytes(8)
    bare.status.code = 77  # type: ignore[assignment]
    (item,) = read(message(bare))
    assert isinstance(item, SpanData)
    assert (item.parent_id, item.name, item.start, item.status, item.attributes) == (None, "", 0, "unset", {})


values = st.recursive(
    st.none()
    | st.text(st.characters(codec="utf-8"))
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.binary(),
    lambda item: st.lists(item, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), item, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), values, max_size=5), st.sampled_from(sorted(FRAMINGS)))
def test_attributes_come_back_as_they_were(attributes: dict[str, Any], framing: str) -> None:
    """Every value of the format is read in its own type, whatever the framing."""
    made = span()
    made.attributes.extend(pairs(attributes))
    (item,) = read(framed(framing, message(made, **{"service.name": "shop"})))
    assert isinstance(item, SpanData)
    assert repr(dict(item.attributes)) == repr(attributes)


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=200), max_size=3), min_size=1, max_size=4))
def test_every_framing_says_the_same(batches: list[list[str]]) -> None:
    """Messages of any sizes, one after the other, give their spans in order, each with the number of its message."""
    messages = [message(span("first")), *(message(*map(span, batch)) for batch in batches)]
    for framing in FRAMINGS:
        items = read(framed(framing, *messages))
        assert names(items) == ["first", *(name for batch in batches for name in batch)]
        numbers = [1, *(number for number, batch in enumerate(batches, 2) for _ in batch)]
        assert [item.line for item in items] == numbers


@pytest.mark.parametrize("start", ["", "\n", "\n\n", "\ufeff", "\ufeff\n", " \n", "\t\n", "\r\n", "\n" * 40])
@pytest.mark.parametrize("indent", [None, 0, 1, 2, 9, 10, 18, 26, "\t", "\n"])
def test_json_is_never_taken_for_a_message(start: str, indent: int | str | None) -> None:
    """Line feeds, braces and spaces are numbers of fields and lengths too; JSON that begins with them stays JSON."""
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": TRACE.hex(), "spanId": SPAN.hex()}]}]}]}
    for value in (document, [document], {"x": [], **document}):
        data = (start + json.dumps(value, indent=indent)).encode()
        assert read(data) == list(read_spans(io.BytesIO(data)))
        assert [type(item) for item in read(data)] == [SpanData]


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n", b"\n" * 12, b"\n" * 99, b" ", b"[]", b"{}"])
def test_files_without_spans(data: bytes) -> None:
    """Nothing in, nothing out."""
    assert read(data) == []


@pytest.mark.parametrize("framing", ["prefixed", "delimited"])
def test_empty_messages_between_others(framing: str) -> None:
    """A message without spans says nothing."""
    data = framed(framing, message(span("one")), b"", message(), message(span("two")))
    assert names(read(data)) == ["one", "two"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_cut_file_gives_what_is_whole(framing: str) -> None:
    """Wherever a file ends, the spans before the cut are read, and the cut is named, unless it is between messages."""
    messages = [message(span(name, text="x" * 90), span(name + "b")) for name in ("one", "two", "three")]
    whole = framed(framing, *messages)
    ends = {len(framed(framing, *messages[:number])): number for number in range(1, 4)}
    for cut in range(len(messages[0]) + 10, len(whole) + 1):
        found = names(read(whole[:cut]))
        assert found[:2] == ["one", "oneb"]
        assert ("!" not in found) == (cut in ends), cut
        assert [name for name in found if name != "!"] == ["one", "oneb", "two", "twob", "three", "threeb"][
            : len(found) - found.count("!")
        ]


def test_a_damaged_part_costs_only_itself() -> None:
    """Of a message with a bad span, scope or resource, the others are read."""
    good = span("good")
    short = Span(trace_id=TRACE[1:], span_id=SPAN, name="short")
    zero = Span(trace_id=TRACE, span_id=bytes(8))
    long_parent = Span(trace_id=TRACE, span_id=SPAN, parent_span_id=b"123456789")
    twice = Span(trace_id=TRACE, span_id=SPAN, attributes=[*pairs({"a": 1}), *pairs({"a": True})])
    for bad in (short, zero, long_parent, twice):
        assert names(read(message(good, bad, span("next")))) == ["good", "!", "next"]
    same = Span(trace_id=TRACE, span_id=SPAN, name="s", attributes=[*pairs({"a": math.nan}), *pairs({"a": math.nan})])
    assert names(read(message(same))) == ["s"]
    bad_resource = group(good)
    bad_resource.resource.attributes.extend([*pairs({"a": 1}), *pairs({"a": 2})])
    data = TracesData(resource_spans=[group(good), bad_resource, group(span("next"))]).SerializeToString()
    assert names(read(data)) == ["good", "!", "good", "next"]  # Its spans are judged all the same.


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


SCOPE = field(1, field(1, b"agent_identity"))
GOOD = field(2, span("good").SerializeToString())
TEXT = b"\xff\xfe"  # No UTF-8.


@pytest.mark.parametrize(
    ("resource_spans", "expected"),
    [
        pytest.param(field(2, SCOPE + field(2, b"\x2a" + b"\x02" + TEXT) + GOOD), ["!", "good"], id="text of a span"),
        pytest.param(field(2, field(1, field(1, TEXT)) + GOOD) + field(2, GOOD), ["!", "good"], id="text of a scope"),
        pytest.param(field(1, b"\x0a\x05") + field(2, GOOD), ["!"], id="resource"),
        pytest.param(field(2, GOOD + b"\x12\x7f"), ["good", "!"], id="length"),
        pytest.param(field(2, GOOD + b"\x0b"), ["good", "!"], id="group"),
        pytest.param(field(2, GOOD + b"\x08" + b"\xff" * 11), ["good", "!"], id="number"),
        pytest.param(field(2, GOOD + b"\x08"), ["good", "!"], id="cut number"),
        pytest.param(field(2, GOOD + b"\x09123"), ["good", "!"], id="cut fixed"),
        pytest.param(field(2, GOOD) + b"\x12\x7f", ["good", "!"], id="length of a scope"),
        pytest.param(field(2, b"\x08\x05" + b"\x09" + bytes(8) + b"\x0d" + bytes(4) + GOOD), ["good"], id="unknown"),
        pytest.param(field(3, b"url") + field(2, SCOPE + GOOD), ["good"], id="schema first"),
        pytest.param(field(1, b"\x10\x05") + field(2, SCOPE + GOOD), ["good"], id="dropped count first"),
        pytest.param(field(99, b"x") + field(2, field(99, b"x") + GOOD), ["good"], id="unknown with a length"),
        pytest.param(field(2, GOOD + SCOPE), ["good"], id="scope behind its spans"),
    ],
)
def test_damage_and_unknown_fields_on_the_wire(resource_spans: bytes, expected: list[str]) -> None:
    """Damage ends the part in which it is; fields of later versions are passed over, and order does not matter."""
    first, last = field(1, field(2, SCOPE + GOOD)), message(span("last"))
    for framing in FRAMINGS:
        data = framed(framing, first + field(9, b"later") + field(1, resource_spans), last)
        assert names(read(data)) == ["good", *expected, "last"]


@pytest.mark.parametrize("begin", [field(3, b"url"), field(1, b"\x10\x05"), field(1, b""), b""])
def test_every_beginning_is_known(begin: bytes) -> None:
    """Whichever field an exporter writes first, the file is taken for what it is."""
    for framing in FRAMINGS:
        assert names(read(framed(framing, field(1, begin + field(2, SCOPE + GOOD))))) == ["good"]


def test_a_resource_in_two_parts_is_one() -> None:
    """Parts of one message are merged, as the format demands."""
    first, second = (field(1, field(1, pair.SerializeToString())) for pair in pairs({"a": "x", "b": "y"}))
    (item,) = read(field(1, first + field(2, GOOD) + second))
    assert item.resource == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (b"\x10\x05", ["one", "two"]),
        (b"\x11" + bytes(8) + b"\x15" + bytes(4), ["one", "two"]),
        (field(7, b"later"), ["one", "two"]),
        (b"\x13", ["one", "!"]),
        (b"\xff" * 11, ["one", "!"]),
    ],
)
def test_fields_between_the_groups_of_a_bare_message(between: bytes, expected: list[str]) -> None:
    """A bare message is read group by group: unknown fields are passed over, and damage ends it, by name."""
    assert names(read(message(span("one")) + between + message(span("two")))) == expected


@pytest.mark.parametrize("rest", [b"\x0a", b"\x3a\x09x", b"\x11xx", b"\x0a\x80"])
def test_a_bare_message_that_is_cut(rest: bytes) -> None:
    """A field without its length or its end is named."""
    assert names(read(message(span("one")) + rest)) == ["one", "!"]


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_nesting_is_bounded(depth: int) -> None:
    """Dozens of nested arrays are read; so many that they would exhaust a reader are reported."""
    deep: object = "x"
    for _ in range(45):
        deep = [deep]
    (item,) = read(message(span(a=deep)))
    assert isinstance(item, SpanData)
    assert item.attributes == {"a": deep}
    sizes, wire = [3], [b"\x0a\x01x"]
    for _ in range(depth):
        for number in (1, 5):
            wire.append(varint(number << 3 | 2) + varint(sizes[-1]))
            sizes.append(sizes[-1] + len(wire[-1]))
    value = b"".join(reversed(wire))
    bad = field(2, TRACE_AND_SPAN + field(9, field(1, b"a") + field(2, value)))
    assert names(read(field(1, field(2, bad + GOOD)))) == ["!", "good"]


TRACE_AND_SPAN = field(1, TRACE) + field(2, SPAN)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit small enough to exceed in a test."""
    for module in (otlp_protobuf, traces):
        monkeypatch.setattr(module, "MAX_LINE", 1000)
    monkeypatch.setattr(otlp_protobuf, "_SKIP", 64)
    return 1000


@pytest.mark.parametrize("framing", FRAMINGS)
def test_large_messages_are_passed_over(framing: str, small: int) -> None:
    """A message beyond the limit is reported, never held as a whole, and costs only itself."""
    large = message(span("large", text="x" * small))
    one, two = message(span("one")), message(span("two"))
    assert names(read(framed(framing, one, large, two))) == ["one", "!", "two"]
    assert names(read(framed(framing, one, large)[:-1])) == ["one", "!"]


class _Lines:
    """A source that counts the bytes that are asked for and returns fewer."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.largest = 0

    def readline(self, limit: int, /) -> bytes:
        self.largest = max(self.largest, limit)
        return self._file.read(min(limit, 7))


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_source_may_return_few_bytes_at_a_time(framing: str) -> None:
    """Pipes and inflating readers return what they have; messages are put together from that."""
    messages = [message(span(str(number), text="\n" * number)) for number in range(40)]
    source = _Lines(framed(framing, *messages))
    assert names(list(read_spans(source))) == list(map(str, range(40)))
    assert source.largest <= 256 * 1024


def test_messages_that_the_collector_compressed() -> None:
    """With ``compression: zstd`` the collector compresses each message, of either format, behind its length."""
    zstandard = pytest.importorskip("zstandard")
    document = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": TRACE.hex(), "spanId": SPAN.hex(), "name": "j"}]}]}]}
    ).encode()
    packed = [zstandard.compress(message(span("one"))), zstandard.compress(document), document]
    assert names(read(framed("prefixed", *packed))) == ["one", "j", "j"]
    garbage = b"\x28\xb5\x2f\xfd" + b"\xff" * 40
    for bad in (packed[0][:-3], packed[0][:9], garbage):
        assert names(read(framed("prefixed", packed[0], bad, message(span("two"))))) == ["one", "!", "two"]


def test_a_compressed_message_is_bounded(small: int) -> None:
    """A message that inflates beyond the limit is reported and not held."""
    zstandard = pytest.importorskip("zstandard")
    packed = zstandard.compress(b"\x0a" * 5_000_000)
    assert len(packed) < small
    data = framed("prefixed", zstandard.compress(message(span("one"))), packed[:90], packed)
    assert names(read(data)) == ["one", "!", "!"]


@pytest.mark.parametrize(
    ("missing", "data"),
    [
        ("opentelemetry", message(span())),
        ("zstandard", framed("prefixed", b"\x28\xb5\x2f\xfd" + bytes(40))),
    ],
)
def test_what_is_not_installed_is_named(missing: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its extra, a file is refused with the command that installs it; JSON needs none."""
    original = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.partition(".")[0] == missing or (missing == "opentelemetry" and name.endswith("otlp_protobuf")):
            raise ModuleNotFoundError(name=name)
        return original(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    extra = {"opentelemetry": "otlp", "zstandard": "zstd"}[missing]
    with pytest.raises(ConfigurationError, match=rf"pip install '\.\[{extra}\]'"):
        read(data)
    assert read(b"{}") == []


def test_a_file_on_disk(tmp_path: Path) -> None:
    """A file is read from the disk as from memory."""
    path = tmp_path / "traces.bin"
    path.write_bytes(framed("prefixed", *(message(span(str(number))) for number in range(300))))
    with path.open("rb") as file:
        assert len(list(read_spans(file))) == 300


COMPRESSED = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")
"""How gzip and zstd begin."""


@given(st.binary(max_size=200))
@example(COMPRESSED[0])
@example(COMPRESSED[1] + b"\x00")
def test_any_bytes_end_in_items(data: bytes) -> None:
    """No bytes raise, in no framing, alone or behind a good message; what seems to be compressed may end early."""
    good = message(span("good"))
    for framing in FRAMINGS:
        for whole in (data, framed(framing, good) + data, framed(framing, good, data, good)):
            try:
                items = read(whole)
            except OSError:
                assert whole.startswith(COMPRESSED)
            else:
                assert all(isinstance(item, SpanData | Malformed) for item in items)


@pytest.mark.parametrize("framing", sorted(FRAMINGS))
def test_a_changed_bit_is_seen(framing: str) -> None:
    """Flip any bit of an export: it never raises, and never reads as if nothing had happened."""
    whole = framed(framing, *[message(span("a", b=[2, {"c": b"x"}]), host="h")] * 2)
    before = read(whole)
    assert names(before) == ["a", "a"]
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        items = read(bytes(changed))
        assert all(isinstance(item, SpanData | Malformed) for item in items)
        assert items != before, bit


@pytest.mark.parametrize("levels", [(), (1,), (1, 2)])
@pytest.mark.parametrize("number", [1, 2, 15])
def test_empty_fields_take_no_memory(levels: tuple[int, ...], number: int) -> None:
    """Fields of two bytes, however many, do not become hundreds of bytes each: memory is some times the message."""
    data = field(number, b"") * 20_000
    for level in reversed(levels):
        data = field(level, data)
    whole = io.BytesIO(FRAMINGS["prefixed"](data))
    tracemalloc.start()
    try:
        for _ in read_spans(whole):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_a_span_has_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library would decode at once is bounded; the spans beside it are read."""
    monkeypatch.setattr(otlp_protobuf, "_PART", 100)
    long = span("long", text="x" * 100)
    assert names(read(message(span("a"), long, span("b")))) == ["a", "!", "b"]
    (problem,) = read(message(span("a"), text="x" * 100))
    assert isinstance(problem, Malformed)
    assert "longer than 100 bytes" in problem.message


def test_the_messages_of_the_library_are_what_is_read() -> None:
    """An export request and the data of traces have one form on the wire."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request: Message = ExportTraceServiceRequest(resource_spans=[group(span("one"))])
    assert names(read(request.SerializeToString())) == ["one"]
