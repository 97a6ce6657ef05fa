"""The one byte form of records: a stricter profile of RFC 8785."""

from collections.abc import Iterator
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity.canonical import MAX_DEPTH, decode, encode

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ASCII = st.text(st.characters(max_codepoint=127), max_size=8)
VALUES = st.recursive(
    st.booleans() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ASCII, inner, max_size=4),
    max_leaves=12,
)
RECORDS = st.dictionaries(ASCII, VALUES, max_size=5)


class Text(str):
    """Looks like a string, but may answer differently each time."""

    __slots__ = ()


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@given(RECORDS)
def test_a_record_is_written_as_rfc_8785_writes_it(record: dict[str, Any]) -> None:
    """The fast path for records gives the bytes of the general one and of another implementation."""
    data = encode_record(record)
    assert data == encode(record)
    assert data == rfc8785.dumps(record)
    assert decode_record(data) == record
    assert decode(data) == record


def _mistakes() -> Iterator[tuple[Any, str]]:
    for value in (1, 1.5, None, b"x", {1}, Text("a"), object()):
        yield {"a": value}, "strings, booleans"
        yield {"a": [{"b": (value,)}]}, "strings, booleans"
    for key in ("\u00e9", 1, None, Text("a")):
        yield {key: "x"}, "not an ASCII string"
        yield {"a": {key: "x"}}, "not an ASCII string"
    yield {"a": "\ud800"}, "lone surrogate"
    deep: Any = "x"
    for _ in range(MAX_DEPTH):
        deep = [deep]
    yield {"a": deep}, "64 nested"
    yield {"a": _cycle()}, "64 nested"


@pytest.mark.parametrize(("record", "problem"), list(_mistakes()))
def test_a_record_holds_no_numbers_nulls_or_other_types(record: Any, problem: str) -> None:
    """What a store could change the meaning of is refused, at any depth."""
    with pytest.raises(ValueError, match=problem):
        encode_record(record)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"a"',
        b'{"a":1}',
        b'{"a":null}',
        b'{"a": "b"}',
        b'{"a":"b"}\n',
        b'{"b":"","a":""}',
        b'{"a":"x","a":"x"}',
        b'{"a":"\\u0061"}',
        b'{"a":"\\ud800"}',
        b'{"\xc3\xa9":"x"}',
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a":' + b"[" * 5000,
        b'{"a":NaN}',
    ],
    ids=lambda data: repr(data[:16]),
)
def test_only_the_canonical_spelling_of_a_record_decodes(data: bytes) -> None:
    """Everything else raises ValueError, so no two byte strings are the same record."""
    with pytest.raises(ValueError, match=r".+"):
        decode_record(data)


@given(RECORDS, st.data())
def test_no_changed_byte_decodes_to_the_same_record(record: dict[str, Any], data: st.DataObject) -> None:
    """Changing a byte of a record makes it undecodable or another record."""
    good = bytearray(encode_record(record))
    index = data.draw(st.integers(0, len(good) - 1))
    good[index] ^= data.draw(st.integers(1, 255))
    try:
        changed = decode_record(bytes(good))
    except ValueError:
        return
    assert changed != record
