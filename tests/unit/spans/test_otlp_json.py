"""Reading OTLP/JSON: every form that exporters write, and nothing that a file can do to the reader."""

import base64
import io
import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._spans import otlp_json as otlp
from agent_identity._spans.otlp_json import MAX_NESTING, Malformed, SpanData, _repeats
from agent_identity._spans.otlp_reader import read_spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
CHUNK = 256 * 1024  # Bytes that are read at once.


def any_value(value: object) -> dict[str, Any]:
    """The AnyValue of a Python value, as the specification writes it."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"doubleValue": "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"}
    writers: dict[type, Callable[[Any], dict[str, Any]]] = {
        bool: lambda item: {"boolValue": item},
        int: lambda item: {"intValue": str(item)},
        float: lambda item: {"doubleValue": item},
        str: lambda item: {"stringValue": item},
        bytes: lambda item: {"bytesValue": base64.b64encode(item).decode()},
        list: lambda item: {"arrayValue": {"values": [any_value(part) for part in item]}},
        dict: lambda item: {"kvlistValue": {"values": pairs(item)}},
        type(None): lambda _: {},
    }
    return writers[type(value)](value)


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Attributes as the specification writes them."""
    return [{"key": name, "value": any_value(value)} for name, value in attributes.items()]


def span(**members: Any) -> dict[str, Any]:
    """The smallest span, with more members."""
    return {"traceId": TRACE, "spanId": SPAN, **members}


def document(*spans: object, **resource: Any) -> dict[str, Any]:
    """An export request with one resource and one scope."""
    scope = {"scope": {"name": "agent_identity", "version": "1"}, "spans": list(spans)}
    return {"resourceSpans": [{"resource": {"attributes": pairs(resource)}, "scopeSpans": [scope]}]}


def read(data: bytes | str) -> list[SpanData | Malformed]:
    """All items of a file."""
    return list(read_spans(io.BytesIO(data.encode() if isinstance(data, str) else data)))


def only_span(value: dict[str, Any]) -> SpanData:
    """The one span of a document with it."""
    (item,) = read(json.dumps(document(value)))
    assert isinstance(item, SpanData), item
    return item


def only_problem(value: object) -> str:
    """The message about the one malformed part of a document."""
    (item,) = read(json.dumps(value))
    assert isinstance(item, Malformed), item
    return item.message


def attribute(value: dict[str, Any]) -> object:
    """The Python value of an AnyValue on a span."""
    return only_span(span(attributes=[{"key": "a", "value": value}])).attributes["a"]


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


def test_a_whole_span_is_read() -> None:
    """Every member that a verifier needs is there, in Python's types."""
    whole = span(
        parentSpanId="1234567890abcdef",
        name="execute_tool pay",
        kind=1,
        startTimeUnixNano="1764000000000000001",
        endTimeUnixNano="1764000000000000002",
        attributes=pairs({"gen_ai.tool.name": "pay", "n": 2**63 - 1}),
        status={"code": 2, "message": "denied"},
        events=[],
        futureField={"deep": [1]},
    )
    (item,) = read(json.dumps(document(whole, **{"service.name": "shop"})))
    assert item == SpanData(
        trace_id=TRACE,
        span_id=SPAN,
        parent_id="1234567890abcdef",
        name="execute_tool pay",
        start=1764000000000000001,
        end=1764000000000000002,
        attributes={"gen_ai.tool.name": "pay", "n": 2**63 - 1},
        resource={"service.name": "shop"},
        scope="agent_identity",
        status="error",
        status_message="denied",
        line=1,
        kind=1,
    )


def test_absent_members_have_the_defaults_of_the_format() -> None:
    """A span with ids alone is a span; null means absent."""
    for more in ({}, {"parentSpanId": "", "name": None, "attributes": None, "status": None, "startTimeUnixNano": None}):
        item = only_span(span(**more))
        assert (item.parent_id, item.name, item.start, item.end) == (None, "", 0, 0)
        assert (item.attributes, item.resource, item.status, item.status_message) == ({}, {}, "unset", "")
    bare = {"resourceSpans": [{"scopeSpans": [{"spans": [span(parentSpanId="0" * 16)]}]}]}
    (item,) = read(json.dumps(bare))
    assert isinstance(item, SpanData)
    assert (item.scope, item.parent_id) == ("", None)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), values, max_size=5))
def test_attributes_come_back_as_they_were(attributes: dict[str, Any]) -> None:
    """Every value of the format is read in its own type; no integer loses a digit."""
    item = only_span(span(attributes=pairs(attributes)))
    assert repr(dict(item.attributes)) == repr(attributes)


def test_the_official_exporter_is_read(tmp_path: Path) -> None:
    """What OpenTelemetry's own file exporter writes is read without loss."""
    exporter = pytest.importorskip("opentelemetry.exporter.otlp.json.file.trace_exporter")
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.trace import Status, StatusCode

    path = tmp_path / "spans.jsonl"
    attributes = {"s": "é\u2028", "b": True, "i": 2**63 - 1, "f": 1.0, "a": ("x", "y")}
    with path.open("w", encoding="utf-8") as stream:
        provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter.FileSpanExporter(stream=stream)))
        tracer = provider.get_tracer("agent_identity")
        with tracer.start_as_current_span("outer") as outer:
            inner = tracer.start_span("inner", attributes=attributes, start_time=5)
            inner.set_status(Status(StatusCode.ERROR, "no"))
            inner.end(7)
        provider.shutdown()
    with path.open("rb") as stream_back:
        first, second = read_spans(stream_back)
    assert isinstance(first, SpanData)
    assert isinstance(second, SpanData)
    assert second.span_id == first.parent_id == f"{outer.get_span_context().span_id:016x}"
    assert (first.name, first.start, first.end, first.scope) == ("inner", 5, 7, "agent_identity")
    assert (first.status, first.status_message, second.status) == ("error", "no", "unset")
    assert first.resource == {"service.name": "shop"}
    assert first.attributes == {**attributes, "a": ["x", "y"]}
    assert type(first.attributes["f"]) is float


TWO = [document(span(name="one")), document(span(name="two"))]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        pytest.param("\n".join(map(json.dumps, TWO)), [1, 2], id="lines"),
        pytest.param("\n\n \t\r\n".join(map(json.dumps, TWO)) + "\n\n", [1, 4], id="lines and blank ones"),
        pytest.param("\r\n".join(map(json.dumps, TWO)), [1, 2], id="lines of Windows"),
        pytest.param("\ufeff" + "\n".join(map(json.dumps, TWO)), [1, 2], id="byte order mark"),
        pytest.param(json.dumps(TWO), [1, 1], id="array on a line"),
        pytest.param(json.dumps(TWO, indent=2), [1, 1], id="array over lines"),
        pytest.param("\n\n" + json.dumps(TWO, indent=2), [3, 3], id="array after blank lines"),
        pytest.param(json.dumps({"resourceSpans": [d["resourceSpans"][0] for d in TWO]}, indent=1), [1, 1], id="one"),
        pytest.param("\ufeff" + json.dumps(TWO, indent=1), [1, 1], id="byte order mark over lines"),
    ],
)
def test_forms_of_files(text: str, numbers: list[int]) -> None:
    """JSON lines, one document and an array of documents are told apart by themselves."""
    items = read(text)
    assert [item.name for item in items if isinstance(item, SpanData)] == ["one", "two"]
    assert [item.line for item in items] == numbers


@pytest.mark.parametrize("text", ["", "\n\n  \n", "[]", "{}", '{"resourceSpans":[]}', '{"resourceSpans":null}'])
def test_files_without_spans(text: str) -> None:
    """Nothing in, nothing out."""
    assert read(text) == []


@pytest.mark.parametrize("signal", ["resourceLogs", "resourceMetrics", "resourceProfiles"])
def test_other_signals_are_passed_over(signal: str) -> None:
    """A collector may write logs and metrics to the same file."""
    assert read(json.dumps({signal: [{}]}) + "\n" + json.dumps(TWO[0])) == read("\n" + json.dumps(TWO[0]))


def test_other_spellings_are_tolerated() -> None:
    """Names in snake_case, ids in capitals, enums by name and integers as numbers mean the same."""
    snake = {
        "trace_id": TRACE.upper(),
        "span_id": SPAN.upper(),
        "parent_span_id": "ABCDEF1234567890",
        "start_time_unix_nano": 5,
        "end_time_unix_nano": 6,
        "status": {"code": "STATUS_CODE_OK"},
        "attributes": [
            {"key": "s", "value": {"string_value": "x"}},
            {"key": "i", "value": {"int_value": -5}},
            {"key": "b", "value": {"bool_value": False}},
            {"key": "d", "value": {"double_value": 1}},
            {"key": "y", "value": {"bytes_value": "_-8"}},
            {"key": "a", "value": {"array_value": {"values": [{"string_value": "x"}]}}},
            {"key": "m", "value": {"kvlist_value": {"values": [{"key": "k", "value": {"string_value": "x"}}]}}},
        ],
    }
    (item,) = read(json.dumps({"resource_spans": [{"scope_spans": [{"spans": [snake]}]}]}))
    assert isinstance(item, SpanData)
    assert (item.trace_id, item.span_id, item.parent_id) == (TRACE, SPAN, "abcdef1234567890")
    assert (item.start, item.end, item.status) == (5, 6, "ok")
    assert item.attributes == {
        "s": "x", "i": -5, "b": False, "d": 1.0, "y": b"\xff\xef", "a": ["x"], "m": {"k": "x"},
    }  # fmt: skip
    assert type(item.attributes["d"]) is float


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, "unset"),
        (1, "ok"),
        (2, "error"),
        (3, "unset"),
        ("STATUS_CODE_ERROR", "error"),
        ("x", "unset"),
        ([], "unset"),
    ],
)
def test_status(code: object, status: str) -> None:
    """Codes by number and by name; unknown ones claim nothing."""
    assert only_span(span(status={"code": code})).status == status


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"traceId": TRACE, "trace_id": "1" * 32}, "'traceId'"),
        ({"spanId": SPAN, "span_id": "1" * 16}, "'spanId'"),
        ({"parentSpanId": SPAN, "parent_span_id": ""}, "'parentSpanId'"),
        ({"startTimeUnixNano": "5", "start_time_unix_nano": "6"}, "'startTimeUnixNano'"),
        ({"endTimeUnixNano": 0, "end_time_unix_nano": 6}, "'endTimeUnixNano'"),
    ],
)
def test_a_member_in_both_spellings_is_refused(members: dict[str, Any], named: str) -> None:
    """Readers differ in which of the two counts, as they do for a member that is there twice."""
    span = {"traceId": TRACE, "spanId": SPAN, **members}
    (item,) = read(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}))
    assert isinstance(item, Malformed)
    assert named in item.message
    twice = {name: value if "_" not in name else None for name, value in span.items()}
    (item,) = read(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [twice]}]}]}))
    assert isinstance(item, SpanData)


@pytest.mark.parametrize("name", ["resourceSpans", "scopeSpans"])
def test_spans_beside_others_in_another_spelling_are_not_hidden(name: str) -> None:
    """A collector reads both, so that whoever read one of them would vouch for spans that nobody verified."""
    spans = {"spans": [{"traceId": TRACE, "spanId": SPAN}], "": [{}]}
    assert len(read(json.dumps({"resourceSpans": [{"scopeSpans": [spans]}]}))) == 1
    group = {"scopeSpans": [spans], **({"scope_spans": [spans]} if name == "scopeSpans" else {})}
    document = {"resourceSpans": [group], **({"resource_spans": [group]} if name == "resourceSpans" else {})}
    (item,) = read(json.dumps(document))
    assert isinstance(item, Malformed)
    assert f"'{name}'" in item.message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"doubleValue": "1.5e3"}, 1500.0),
        ({"doubleValue": "-0"}, -0.0),
        ({"intValue": "-9223372036854775808"}, -(2**63)),
        ({"intValue": 7}, 7),
        ({"bytesValue": "AA=="}, b"\0"),
        ({"bytesValue": "AA"}, b"\0"),
        ({"arrayValue": {}}, []),
        ({"kvlistValue": {}}, {}),
        ({}, None),
        ({"stringValue": None}, None),
        ({"unknownValue": 1, "stringValue": "x"}, "x"),
    ],
)
def test_values(value: dict[str, Any], expected: object) -> None:
    """Spellings that Protocol Buffers allow for the same value."""
    found = attribute(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        "x",
        ["x"],
        {"stringValue": 1},
        {"boolValue": "true"},
        {"boolValue": 1},
        {"intValue": "1.0"},
        {"intValue": 1.0},
        {"intValue": True},
        {"intValue": "0x1"},
        {"intValue": " 1"},
        {"intValue": str(2**63)},
        {"intValue": 2**63},
        {"intValue": "9" * 100_000},
        {"doubleValue": "nan"},
        {"doubleValue": "1_0"},
        {"doubleValue": True},
        {"doubleValue": []},
        {"bytesValue": "A"},
        {"bytesValue": "é"},
        {"bytesValue": "AA AA"},
        {"bytesValue": 1},
        {"arrayValue": []},
        {"arrayValue": {"values": {}}},
        {"kvlistValue": {"values": ["x"]}},
        {"kvlistValue": {"values": [{"key": 1}]}},
        {"stringValue": "x", "intValue": "1"},
    ],
)
def test_malformed_values(value: object) -> None:
    """A value of another type is no value; the span is reported and its neighbours are read."""
    bad = span(attributes=[{"key": "a", "value": value}])
    first, second = read(json.dumps(document(bad, span(name="next"))))
    assert isinstance(first, Malformed)
    assert isinstance(second, SpanData)
    assert second.name == "next"


@pytest.mark.parametrize(
    "bad",
    [
        None,
        "x",
        [],
        {},
        {"traceId": TRACE},
        {"spanId": SPAN},
        span(traceId=TRACE[1:]),
        span(traceId="0" * 32),
        span(traceId="g" * 32),
        span(traceId=TRACE + "\n"),
        span(traceId="CvdlGRbNQ92ESOshHIAxnA=="),
        span(traceId=1),
        span(spanId=SPAN * 2),
        span(spanId="0" * 16),
        span(parentSpanId="x"),
        span(parentSpanId=5),
        span(name=1),
        span(name=["x"]),
        span(startTimeUnixNano="-1"),
        span(startTimeUnixNano=str(2**64)),
        span(endTimeUnixNano=1.5),
        span(endTimeUnixNano="x"),
        span(attributes={}),
        span(attributes=["x"]),
        span(status="ok"),
        span(status={"message": 1}),
    ],
)
def test_malformed_spans(bad: object) -> None:
    """A span without usable ids or with members of other types is reported, and its neighbours are read."""
    first, second = read(json.dumps(document(bad, span(name="next"))))
    assert isinstance(first, Malformed)
    assert first.line == 1
    assert isinstance(second, SpanData)


@pytest.mark.parametrize(
    "value",
    [
        None,
        1,
        "x",
        [1],
        [None],
        {"spans": []},
        {"resourceSpans": {}},
        {"resourceSpans": "x"},
        {"resourceSpans": ["x"]},
        {"resourceSpans": [{"resource": []}]},
        {"resourceSpans": [{"resource": {"attributes": {}}}]},
        {"resourceSpans": [{"resource": {"attributes": [{"key": "a", "value": "x"}]}}]},
        {"resourceSpans": [{"scopeSpans": {}}]},
        {"resourceSpans": [{"scopeSpans": ["x"]}]},
        {"resourceSpans": [{"scopeSpans": [{"scope": "x"}]}]},
        {"resourceSpans": [{"scopeSpans": [{"scope": {"name": 1}}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": {}}]}]},
    ],
)
def test_malformed_documents(value: object) -> None:
    """Each malformed group is reported once; a file of something else is not taken for an empty one."""
    assert " is " in only_problem(value)


def test_a_malformed_group_does_not_hide_the_next() -> None:
    """Documents, resources and scopes are read one by one."""
    good = document(span(name="good"))["resourceSpans"][0]
    bad_scope = {"scopeSpans": ["x", *good["scopeSpans"]]}
    value = [{"resourceSpans": ["x", bad_scope, good]}, "x", {"resourceSpans": [good]}]
    kinds = [type(item).__name__ for item in read(json.dumps(value))]
    assert kinds == ["Malformed", "Malformed", "SpanData", "SpanData", "Malformed", "SpanData"]


def test_two_values_for_one_attribute() -> None:
    """A span on which readers would see different values is not read in one of the ways."""
    for first, second in ((1, True), ("x", "y"), ("1", 1), (1, "1")):
        twice = [{"key": "a", "value": any_value(first)}, {"key": "a", "value": any_value(second)}]
        assert "two values that differ" in only_problem(document(span(attributes=twice)))
    same = [{"key": "a", "value": any_value(math.nan)}] * 2
    assert repr(only_span(span(attributes=same)).attributes["a"]) == "nan"
    same = [{"key": "a", "value": any_value("x")}] * 2
    assert only_span(span(attributes=same)).attributes == {"a": "x"}


def test_two_values_for_one_attribute_of_ours_are_told_apart() -> None:
    """No exporter writes them, so a verifier knows that a span with our attributes was changed."""
    twice = [{"key": "a", "value": any_value(value)} for value in ("x", "y")]
    ours = {"key": "agent_identity.record.id", "value": any_value("1")}
    for attributes, doubled in (([*twice, ours], True), (twice, False), ([*twice, 7], False)):
        (item,) = read(json.dumps(document(span(attributes=attributes))))
        assert isinstance(item, Malformed)
        assert item.doubled is doubled


def test_two_values_for_one_attribute_of_a_scope_leave_its_spans() -> None:
    """The spans are read without the attributes that readers would see differently."""
    group = document(span())["resourceSpans"][0]
    group["scopeSpans"][0]["scope"] = {"attributes": [{"key": "a", "value": any_value(one)} for one in ("x", "y")]}
    problem, item = read(json.dumps({"resourceSpans": [group]}))
    assert isinstance(problem, Malformed)
    assert not problem.doubled
    assert isinstance(item, SpanData)


def test_damaged_lines_are_reported_and_passed_over() -> None:
    """A torn or overwritten line costs only itself, wherever it stands."""
    one, two = map(json.dumps, TWO)
    for text, problems in (
        (f"{one}\n{one[:50]}\n{two}", [2]),
        (f"{one[:50]}\n{one}\n{two}", [1]),
        (f"\n{{\n{one}\n{two}\n", [2]),
        (f"{one}\n{two}\n{two[:-1]}", [3]),
        (f"{one}\n\x00\x00\x00\n{two}", [2]),
        (f"{one}\n{two}{two}\n{two}", [2]),
    ):
        items = read(text)
        assert [item.line for item in items if isinstance(item, Malformed)] == problems
        assert [item.name for item in items if isinstance(item, SpanData)] == ["one", "two"]


def test_bytes_that_are_no_text() -> None:
    """Bytes that are not UTF-8, and lone surrogates, are damage."""
    one = json.dumps(TWO[0])
    for line in (b'{"a":"\xff"}', b'{"a":"\\ud800"}', b"\xff\xfe{\x00"):
        first, second = read(one.encode() + b"\n" + line)
        assert isinstance(first, SpanData)
        assert isinstance(second, Malformed)


def test_nesting_is_bounded() -> None:
    """As deep as allowed is read; deeper, or deep enough to exhaust a parser, is reported."""
    for wrap in (lambda item: [item], lambda item: {"b": item}):
        deep: object = "x"
        for _ in range(MAX_NESTING):
            deep = wrap(deep)
        assert only_span(span(attributes=pairs({"a": deep}))).attributes["a"] == deep
        assert "more than 64 nested" in only_problem(document(span(attributes=pairs({"a": wrap(deep)}))))
    for opening, closing in (("[", "]"), ('{"arrayValue":{"values":[', "]}}"), ('{"a":', "}")):
        text = opening * 200_000
        assert isinstance(read(text)[0], Malformed)
        nested = f'{{"resourceSpans":[{{"x":{opening * 100_000}1{closing * 100_000}}}]}}'
        assert isinstance(read(nested)[0], Malformed)


class _Endless:
    """A source that counts what is taken from it and never returns more than was asked."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._rest = b""
        self.largest = 0

    def readline(self, limit: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._lines, b"")
        data, self._rest = self._rest[:limit], self._rest[limit:]
        self.largest = max(self.largest, len(data))
        return data


def test_lines_are_read_one_at_a_time() -> None:
    """A file without end yields its spans at once; nothing is read ahead."""
    line = json.dumps(TWO[0]).encode() + b"\n"
    taken = 0

    def lines() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield line

    items = read_spans(_Endless(lines()))
    for number in range(1, 1000):
        item = next(items)
        assert item.line == number
        assert taken == number


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit small enough to exceed in a test."""
    monkeypatch.setattr(otlp, "MAX_LINE", 1000)
    monkeypatch.setattr(otlp, "_SKIP", 64)
    return 1000


def test_long_lines_are_skipped(small: int) -> None:
    """A line beyond the limit is reported, never held as a whole, and costs only itself."""
    one, two = (json.dumps(value).encode() for value in TWO)
    for text, problems in (
        (b"\n".join([one, b"x" * small * 5, two]), [2]),
        (b"\n".join([b"x" * small * 5, one, two]), [1]),
        (b"\n".join([one, two, b"x" * small * 5]), [3]),
        (b"\n".join([one, two, b"x" * small]), [3]),
        (b"\n".join([one, b" " * small, two]), []),  # White space is passed over, however much of it there is.
    ):
        source = _Endless(iter(text.splitlines(keepends=True)))
        items = list(read_spans(source))
        assert [item.line for item in items if isinstance(item, Malformed)] == problems
        assert [item.name for item in items if isinstance(item, SpanData)] == ["one", "two"]
        assert source.largest <= CHUNK


def test_the_longest_line_is_read(small: int) -> None:
    """The limit itself, end of line included, is inside it."""
    one, two = (json.dumps(value).encode() for value in TWO)
    padded = one + b" " * (small - len(one) - 1) + b"\n"
    assert [type(item) for item in read(padded + two)] == [SpanData, SpanData]
    assert [type(item) for item in read(padded[:-1] + b" \n" + two)] == [Malformed, SpanData]


def test_documents_over_many_lines_are_bounded(small: int) -> None:
    """A document beyond the limit is not held; its lines are reported, and what follows is read."""
    one = json.dumps(TWO[0])
    items = read("{\n" + '"x": 1,\n' * small + one)
    assert [item.line for item in items] == list(range(1, small + 3))
    assert isinstance(items[-1], SpanData)
    assert all(isinstance(item, Malformed) for item in items[:-1])
    # The end of what was read ahead falls into a line; its two parts are put together again.
    for padding in range(small - len(one) - 10, small + 5):
        text = "{" + " " * (padding % 7) + "\n" + "\n" * padding + one + "\n" + one
        spans = [item for item in read(text) if isinstance(item, SpanData)]
        assert len(spans) == 2


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda item: (
        st.lists(item, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "resourceSpans",
                    "scopeSpans",
                    "spans",
                    "resource",
                    "scope",
                    "attributes",
                    "key",
                    "value",
                    "traceId",
                    "status",
                ]
            ),
            item,
            max_size=4,
        )
    ),
)


@given(st.lists(documents, min_size=1))
def test_any_json_ends_in_items(parts: list[Any]) -> None:
    """No JSON, in whatever shape, raises."""
    for item in read("\n".join(json.dumps(part) for part in parts)):
        assert isinstance(item, SpanData | Malformed)


@given(st.lists(st.binary(), min_size=1))
def test_any_bytes_end_in_items(parts: list[bytes]) -> None:
    """No bytes raise, and a whole line among them is still read."""
    good = json.dumps(TWO[0]).encode()
    items = read(b"\n".join([*parts, b"", good]))
    assert any(isinstance(item, SpanData) for item in items)


@given(st.data())
def test_a_changed_byte_never_raises(data: st.DataObject) -> None:
    """Flip any bit of an export: it is read differently or reported."""
    whole = bytearray(json.dumps(document(span(attributes=pairs({"a": [1, {"b": b"x"}]})))).encode())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for item in read(bytes(whole)):
        assert isinstance(item, SpanData | Malformed)


def test_spans_are_read_only() -> None:
    """Spans of one document share their resource, so nobody can change it."""
    item = only_span(span(attributes=pairs({"a": 1})))
    for mapping in (item.attributes, item.resource):
        with pytest.raises(TypeError):
            mapping["a"] = 2  # type: ignore[index]


TWICE = [
    b'{"resourceSpans":[],"resourceSpans":[]}',
    b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "0", "traceId" : "1"}]}]}]}',
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a\\":","name":"b"}]}]}]}',
]


@pytest.mark.parametrize("document", TWICE)
@pytest.mark.parametrize("lines", [False, True])
def test_a_member_named_twice_is_reported(document: bytes, *, lines: bool) -> None:
    """Readers differ in which of two members counts, so a document with such a pair is not read at all."""
    data = document.replace(b",", b",\n", 1) if not lines else document + b"\n" + document
    found = list(read_spans(io.BytesIO(data)))
    assert [type(item) for item in found] == [Malformed] * (1 + lines)
    assert all("the same member several times" in item.message for item in found)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(),
        lambda some: st.lists(some, max_size=3) | st.dictionaries(st.text(), some, max_size=3),
    ),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_no_member_is_counted_twice(value: object, indent: int | None, ascii_only: bool) -> None:
    """However an exporter writes spaces and escapes, a document without a repeated member is read."""
    data = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    with suppress(orjson.JSONDecodeError):
        assert not _repeats(data, orjson.loads(data))


def test_a_document_too_deep_to_write_is_counted() -> None:
    """Depth alone is no repeated member."""
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    assert not _repeats(deep, orjson.loads(deep))
    assert _repeats(deep.replace(b"1", b'{"b":1,"b":1}'), orjson.loads(deep.replace(b"1", b'{"b":1,"b":1}')))
