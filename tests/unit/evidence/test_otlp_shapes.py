"""Knowing the shapes of documents changes nothing of what is read, for any text."""

import copy
import json
import tracemalloc
from functools import lru_cache
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.evidence import otlp_shapes
from agent_identity.evidence.otlp import read_document
from agent_identity.evidence.otlp_shapes import SpanShapes


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


def span(number: int, *pairs: tuple[str, Any], **members: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": f"span {number}",
        "kind": 1,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + number),
        "endTimeUnixNano": str(1_700_000_000_000_000_001 + number),
        "attributes": [{"key": key, "value": value} for key, value in (("a", text(f"v{number}")), *pairs)],
        "status": {},
    }
    return {name: value for name, value in {**found, **members}.items() if value is not ...}


def group(*spans: dict[str, Any], scope: str = "lib", resource: Any = "svc", **members: Any) -> dict[str, Any]:
    whose = {} if resource is None else {"resource": {"attributes": [{"key": "service.name", "value": text(resource)}]}}
    return {**whose, "scopeSpans": [{"scope": {"name": scope}, "spans": list(spans), **members}]}


def document(*groups: dict[str, Any]) -> bytes:
    return orjson.dumps({"resourceSpans": list(groups)})


def each(number: int) -> dict[str, dict[str, Any]]:
    """Return spans of many forms, of which those with another number have the same."""
    listed = {"arrayValue": {"values": [text("x"), text(f"y{number}")]}}
    return {
        "plain": span(number),
        "parent": span(number, parentSpanId=f"{number + 1:016x}"),
        "no parent": span(number, parentSpanId=""),
        "zero parent": span(number, parentSpanId="0" * 16),
        "listed": span(number, ("l", listed), ("e", {"arrayValue": {"values": []}}), ("n", {"arrayValue": {}})),
        "mixed": span(number, ("m", {"arrayValue": {"values": [text("x"), {"intValue": "1"}]}})),
        "typed": span(number, ("i", {"intValue": "7"}), ("b", {"boolValue": True}), ("d", {"doubleValue": 0.5})),
        "error": span(number, status={"code": 2, "message": f"no {number}"}),
        "silent error": span(number, status={"code": "STATUS_CODE_ERROR", "message": None}),
        "code in words": span(number, status={"code": ("STATUS_CODE_OK", "STATUS_CODE_ERROR")[number // 10 % 2]}),
        "null item": span(number, ("l", {"arrayValue": {"values": [None]}})),
        "empty item": span(number, ("l", {"arrayValue": {"values": [{}, {"intValue": "1"}]}})),
        "item of two": span(number, ("l", {"arrayValue": {"values": [{**text("x"), "intValue": None}]}})),
        "list of two": span(number, ("l", {"arrayValue": {"values": [text("x")]}, "intValue": None})),
        "events": span(number, events=[{"name": f"e{number}", "timeUnixNano": "1", "attributes": []}], links=[]),
        "linked": span(number, links=[{"traceId": "1" * 32, "spanId": "2" * 16}, {"a": [1, {}]}], traceState=""),
        "bare": span(number, attributes=[], status=...),
        "twice": span(number, ("a", text(f"v{number}"))),
        "without value": {**span(number), "attributes": [{"key": "a"}, {"key": "b", "value": None}]},
        "null value": {**span(number), "attributes": [{"key": "b", "value": None}]},
        "null key": {**span(number), "attributes": [{"key": None, "value": text("x")}]},
        "turned": {**span(number), "attributes": [{"value": text(f"v{number}"), "key": "a"}]},
        "upper": span(number, traceId=f"{number + 0xABCDEF:032X}"),
        "numeric time": span(number, startTimeUnixNano=number),
        "null status": span(number, status=None),
        "snake": span(number, parent_span_id="3" * 16),
        "no time": span(number, startTimeUnixNano=...),
        "id last": dict(reversed(span(number).items())),
        "escaped": span(number, name=f'say "{number}"'),
        "accent": span(number, name=f"ça {number}"),
        "zero": span(number, spanId="0" * 16),
    }


@lru_cache
def documents(number: int) -> dict[str, bytes]:
    """Return documents of many forms, of which those with another number have the same."""
    one, two = span(number), span(number + 1)
    found = {name: document(group(each(number)[name], each(number + 7)[name])) for name in each(number)}
    found |= {
        "two resources": document(group(one), group(two, resource="other"), group(one, resource=None)),
        "scopes below a resource": document(
            {**group(one), "scopeSpans": [group(one, scope=scope)["scopeSpans"][0] for scope in "abc"]}
        ),
        "two scopes": document({"scopeSpans": [group(one)["scopeSpans"][0], group(two, scope="b")["scopeSpans"][0]]}),
        "schema": document({**group(one, schemaUrl="https://x"), "schemaUrl": "https://y"}),
        "schema first": document({"schemaUrl": "https://y", **group(one)}),
        "nothing": document(),
        "no spans": document(group()),
        "a gap": document(group(one), group(), group(two)),
        "null spans": document(group(one), {"scopeSpans": None}),
        "null scope": orjson.dumps({"resourceSpans": [group(one), {"scopeSpans": [None]}]}),
        "null group": orjson.dumps({"resourceSpans": [group(one), None]}),
        "null span": document({"scopeSpans": [{"spans": [one, None]}]}),
        "more members": orjson.dumps({"resourceSpans": [group(one)], "more": 1}),
        "an array": orjson.dumps([{"resourceSpans": [group(one)]}]),
        "logs": orjson.dumps({"resourceLogs": []}),
        "no object": b"3",
        "damaged": document(group(one))[:-1],
        "spaced": json.dumps({"resourceSpans": [group(one)]}).encode(),
        "twice in one": document(group(one)).replace(b'"kind":1', b'"kind":1,"kind":1'),
        "no text": document(group(one)).replace(b"span", b"\xff\xfe"),
        "a number": document(group(span(number, name=f"{number % 3}", traceState="0"))),
        "a long gap": document(group(one, resource="r" * 20_000)),
        "many slots": document(group(span(number, *((f"k{n}", text("v")) for n in range(600))))),
        "deep": document(group(span(number, futureField="D"))).replace(b'"D"', b"[" * 300 + b"]" * 300),
    }
    return {name: data + b"\n" for name, data in found.items()}


NAMES = list(documents(1))


def same(shapes: SpanShapes, data: bytes) -> None:
    """Check that a document is read as without shapes, attributes in their order."""
    found, expected = list(shapes.read(data, 3)), list(read_document(data, 3))
    assert found == expected
    assert list(map(str, found)) == list(map(str, expected))


@pytest.mark.parametrize(("taken", "learned"), [(0, 1), (7, 1), (8, 0)])
def test_what_may_stand_in_for_a_span_is_looked_for_a_few_times(taken: int, learned: int) -> None:
    """Whoever writes all of them costs nothing but the speed of his own documents."""
    shapes = SpanShapes()
    for number in (10, 20):
        names = otlp_shapes._STAND_INS[:taken]
        same(shapes, document(group(span(number, *((f"k{n}", text(name)) for n, name in enumerate(names))))))
    assert len(shapes._heads) == learned


def test_what_is_malformed_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A document has an item for each two bytes, if somebody wants it to; so has one of spans without anything."""
    shapes = SpanShapes()
    one, many = document(group(span(1))), orjson.dumps({"resourceSpans": [0] * 100_000})
    for data in (one, many):
        same(shapes, data)
    tracemalloc.start()
    items = iter(shapes.read(many, 1))
    first = next(items)
    tracemalloc.reset_peak()  # What it takes to parse JSON is not meant.
    assert first in items
    assert sum(1 for _ in items) == 99_998
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
    monkeypatch.setattr(otlp_shapes, "_MAX_SPANS", 3)
    for count, learned in ((4, 0), (3, 1)):
        data = document(group(*(span(number) for number in range(1, count + 1))))
        shapes = SpanShapes()
        for _ in range(2):
            same(shapes, data)
        assert len(shapes._heads) == learned


@pytest.mark.parametrize("name", NAMES)
def test_a_document_of_any_form_is_read_alike(name: str) -> None:
    """Whether its like was there before or not."""
    shapes = SpanShapes()
    for number in (10, 20, 30, 40):
        same(shapes, documents(number)[name])


def test_documents_of_all_forms_are_read_alike_by_one_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was learned of one form is no trap for another, in any order and with little room."""
    for most in (24, 2):
        monkeypatch.setattr(otlp_shapes, "_MAX_SHAPES", most)
        monkeypatch.setattr(otlp_shapes, "_MAX_GAPS", most)
        monkeypatch.setattr(otlp_shapes, "_MAX_MISSES", 500)
        shapes = SpanShapes()
        for number in (10, 20, 30):
            for name, data in documents(number).items():
                same(shapes, data)
                same(shapes, documents(number + 3)[name])


def test_usual_documents_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two of their kind, documents as exporters write them are read by their shape."""
    quick = ["plain", "parent", "listed", "typed", "error", "events", "linked", "bare", "accent", "two resources"]
    quick += ["two scopes", "scopes below a resource", "schema", "a gap", "a number", "no parent", "zero parent"]
    for name in quick:
        shapes = SpanShapes()
        for number in (10, 20):
            shapes.read(documents(number)[name], 1)
        with monkeypatch.context() as patch:
            patch.setattr(otlp_shapes, "read_document", lambda *_: pytest.fail("it was parsed"))
            assert shapes.read(documents(30)[name], 1)


def test_who_writes_no_two_alike_is_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """After some dozens of documents of ever new forms, none is compared with shapes any more."""
    monkeypatch.setattr(otlp_shapes, "_MAX_MISSES", 3)
    shapes = SpanShapes()
    for number in range(6):
        same(shapes, document(group(span(number, (f"k{number}", text("x"))))))
    monkeypatch.setattr(SpanShapes, "_find", lambda *_: pytest.fail("it was compared"))
    same(shapes, document(group(span(9))))


def test_of_one_document_a_few_shapes_are_learned() -> None:
    """A document of spans that all differ costs no more than some patterns."""
    shapes = SpanShapes()
    for _ in range(2):
        same(shapes, document(group(*(span(n, *((f"k{n}{m}", text("x")) for m in range(n))) for n in range(1, 9)))))
    assert len(shapes._shapes) == otlp_shapes._MAX_LEARNED


def test_long_text_between_the_values_of_a_span_makes_no_pattern() -> None:
    """A pattern costs a hundred times its text, so that of longer spans none is made."""
    for number, learned in ((otlp_shapes._MAX_PATTERN - 2_000, 1), (otlp_shapes._MAX_PATTERN, 0)):
        shapes = SpanShapes()
        for _ in range(3):
            same(shapes, document(group(span(1, ("k" * number, text("x"))))))
        assert len(shapes._shapes) == learned
        for _ in range(3):
            same(shapes, document(group(span(1, ("k", text("x" * 2 * number))))))
        assert len(shapes._shapes) == learned + 1


def test_known_spans_with_anything_else_between_or_behind_them_are_parsed() -> None:
    """Only a comma joins two spans, and only what JSON takes for space may stand behind a document."""
    one, two = orjson.dumps(span(1)), orjson.dumps(span(2))
    known = document(group(span(1), span(2)))
    shapes = SpanShapes()
    for _ in range(3):
        same(shapes, known)
    for between in (b"", b" ", b"]", b"x", b", ", b",,", b",1,", b',{"a":1},', b",\xc3\xa9"):
        same(shapes, known.replace(one + b"," + two, one + between + two))
    for behind in (b"\x0b", b"\x0c", b"\x1c", b"\xc2\xa0", "\u2003".encode(), b" \t\r\n", b"]"):
        same(shapes, known + behind)


def test_an_attribute_that_is_there_twice_says_the_same_twice() -> None:
    """A span whose like was read is refused where it says two things under one name."""
    shapes = SpanShapes()
    for values in (("x", "x"), ("y", "y"), ("z", "z"), ("x", "y")):
        pairs = [{"key": "a", "value": text(value)} for value in values]
        same(shapes, document(group(span(3, attributes=pairs))))


def test_a_scope_belongs_to_the_resource_before_it() -> None:
    """What stands between the spans of one resource stands between those of another as well."""

    def of(resource: str, *scopes: str) -> bytes:
        spans = [group(span(7), scope=scope)["scopeSpans"][0] for scope in scopes]
        return document({**group(resource=resource), "scopeSpans": spans})

    shapes = SpanShapes()
    for data in (of("one", "a"), of("one", "a", "b", "c"), of("two", "a"), of("two", "a", "b", "c")):
        same(shapes, data)


def test_documents_in_a_row_that_are_not_alike_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is known begins the row anew; the row may be as long as is allowed."""
    monkeypatch.setattr(otlp_shapes, "_MAX_MISSES", 3)
    shapes = SpanShapes()
    compared: list[bytes] = []
    find = SpanShapes._find

    def noted(self: SpanShapes, data: bytes, line: int) -> Any:
        compared.append(data)
        return find(self, data, line)

    monkeypatch.setattr(SpanShapes, "_find", noted)
    known = [document(group(span(number))) for number in range(3)]
    others = [document(group(span(9, (f"k{number}", text("x"))))) for number in range(9)]
    for data in (*known[:2], others[0], known[2], *others[1:]):
        same(shapes, data)
    assert compared == [*known[:2], others[0], known[2], *others[1:5]]


def test_what_is_kept_of_documents_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a head nor a tail that is very long is kept, and a span of very many strings has no shape."""
    monkeypatch.setattr(otlp_shapes, "_MAX_GAP", 200)
    monkeypatch.setattr(otlp_shapes, "_MAX_SLOTS", 6)
    long = "x" * 200
    for data in (
        document(group(span(1), resource=long)),
        document({**group(span(1)), "schemaUrl": long}),
        document(group(span(1, ("b", text("v"))))),
    ):
        shapes = SpanShapes()
        for _ in range(3):
            same(shapes, data)
        assert not (shapes._heads and shapes._shapes)
    shapes = SpanShapes()
    for _ in range(2):
        same(shapes, document(group(span(1))))
    assert shapes._heads
    assert shapes._shapes  # Six strings: two ids, the name, two times and the attribute.


@given(st.data())
def test_no_change_makes_a_known_document_another(data: st.DataObject) -> None:
    """Whatever bytes of a document are cut, changed, moved or inserted, it is read as without shapes."""
    name = data.draw(st.sampled_from(NAMES[:30]))
    shapes = SpanShapes()
    for number in (10, 20):
        shapes.read(documents(number)[name], 3)
    whole = documents(30)[name]
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 200)))
    piece = data.draw(st.one_of(st.binary(max_size=8), st.sampled_from(PIECES), st.just(whole[start:end] * 2)))
    same(shapes, whole[:start] + piece + whole[end:])


PIECES = [
    b'"', b",", b"]}",
    b"]}]}]}", b'{"resourceSpans":[{', b'],"spans":[', b"\\u0041", b"\x00", b"\xc3", "\u2003".encode(),
    b'{"traceId":"', document(group(span(5)))[:-7], document(group(span(5)))[80:], b"1" * 30, b"\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(range(6)), max_size=6))
def test_known_parts_in_any_order_are_read_alike(order: list[int]) -> None:
    """The parts of known documents, put together in another way, are what a parser finds in them."""
    first = document(group(span(1)), group(span(2), resource="other"))
    second = document({"scopeSpans": [group(span(3))["scopeSpans"][0], group(span(4), scope="b")["scopeSpans"][0]]})
    shapes = SpanShapes()
    for data in (first, second, first, second):
        shapes.read(data, 3)
    cut = [data.split(orjson.dumps(span(n))) for data, n in ((first, 1), (second, 3))]
    parts = [
        cut[0][0], orjson.dumps(span(7)), b",", first.partition(orjson.dumps(span(1)))[2][:90], cut[1][0], b"]}]}]}",
    ]  # fmt: skip
    same(shapes, b"".join(parts[number] for number in order))
    assert copy.copy(order) == order
