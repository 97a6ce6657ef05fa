"""The one byte form of tokens and arguments: RFC 8785."""

import json
import math
import struct
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from agent_identity.canonical import MAX_DEPTH, decode, encode

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ASCII = st.text(st.characters(max_codepoint=127), max_size=8)
SAFE_INTEGERS = st.integers(-(2**53) + 1, 2**53 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | SAFE_INTEGERS | FLOATS | TEXT


def _nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    )


JSON_VALUES = _nested(SCALARS, TEXT)

# Appendix B of RFC 8785: the bits of a double, and how it is written.
APPENDIX_B = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_published_vectors(shared_vectors: Path, name: str) -> None:
    """Every published input of RFC 8785 becomes its published bytes, which decode to the same value."""
    folder = shared_vectors / "jcs"
    value = json.loads((folder / "input" / f"{name}.json").read_text(encoding="utf-8"))
    expected = (folder / "output" / f"{name}.json").read_bytes()
    assert bytes.fromhex((folder / "outhex" / f"{name}.txt").read_text(encoding="utf-8")) == expected
    assert encode(value) == expected
    assert decode(expected) == value


@pytest.mark.parametrize(("bits", "text"), APPENDIX_B)
def test_numbers_of_appendix_b(bits: str, text: str) -> None:
    """The doubles of RFC 8785 appendix B are written as it says."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert encode(value).decode() == text


@given(JSON_VALUES)
def test_another_implementation_writes_the_same_bytes(value: Any) -> None:
    """For every value of JSON within exact integers, the package rfc8785 agrees byte by byte."""
    assert encode(value) == rfc8785.dumps(value)


@given(st.binary(min_size=8, max_size=8))
def test_every_double_is_written_as_elsewhere(bits: bytes) -> None:
    """Any finite double, by its bits, is written as the package rfc8785 does, and reads back equal."""
    (value,) = struct.unpack(">d", bits)
    assume(math.isfinite(value))
    assert encode(value) == rfc8785.dumps(value)
    assert float(encode(value)) == value


@given(_nested(SCALARS.filter(lambda value: type(value) is not float or abs(value) < 2**53), TEXT))
def test_decoding_gives_the_value_back(value: Any) -> None:
    """What was encoded decodes to an equal value, and encodes to the same bytes again."""
    data = encode(value)
    assert decode(data) == value
    assert encode(decode(data)) == data


@given(FLOATS.filter(lambda value: abs(value) >= 2**53))
def test_a_double_beyond_exact_integers_reads_back_as_the_same_double(value: float) -> None:
    """Its shortest digits (RFC 8785) may read as a neighbouring integer; as a double that one is equal."""
    assert float(decode(encode(value))) == value  # type: ignore[arg-type]
    assert encode(decode(encode(value))) == encode(value)


@given(st.dictionaries(TEXT, st.booleans(), max_size=6))
def test_the_order_of_keys_does_not_matter(value: dict[str, bool]) -> None:
    """Equal objects have equal bytes, in whatever order their members came."""
    assert encode(dict(reversed(value.items()))) == encode(value)
    assert encode(MappingProxyType(value)) == encode(value)


def test_keys_are_sorted_by_utf_16_code_units() -> None:
    """A key beyond the basic plane sorts before U+FB33, as its surrogate pair does (RFC 8785 §3.2.3)."""
    assert encode({"\ufb33": 1, "\U0001f600": 2}).decode() == '{"\U0001f600":2,"\ufb33":1}'


@given(st.integers())
def test_integers_of_any_size_are_written_in_full(value: int) -> None:
    """No integer is rounded to a double."""
    assert encode(value) == str(value).encode()


def test_tuples_are_arrays() -> None:
    """A tuple and a list of the same items have the same bytes."""
    assert encode((1, ("a",))) == encode([1, ["a"]]) == b'[1,["a"]]'


class Text(str):
    """Looks like a string, but may answer differently each time."""

    __slots__ = ()


class Whole(int):
    """Looks like an integer."""


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        {"a": [math.nan]},
        b"bytes",
        {1, 2},
        object(),
        Text("a"),
        Whole(1),
        {1: "a"},
        {None: "a"},
        {Text("a"): 1},
        10**5000,
        _cycle(),
        iter([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_single_meaning_is_refused(value: Any) -> None:
    """NaN, infinities, other types, keys that are no strings and cycles raise ValueError, nothing else."""
    with pytest.raises(ValueError, match=r".+"):
        encode(value)


def test_nesting_is_bounded() -> None:
    """64 containers encode, 65 do not, and neither does a depth that would end the interpreter."""
    value: Any = "x"
    for _ in range(MAX_DEPTH):
        value = [value]
    assert decode(encode(value)) == value
    for deeper in ([value], {"a": value}):
        with pytest.raises(ValueError, match="64 nested"):
            encode(deeper)
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="64 nested"):
        encode(value)


def test_lone_surrogates_are_refused_unless_allowed_for_digests() -> None:
    """Bytes that are signed are UTF-8; digests may take WTF-8, as a value of its own."""
    for value in ("\ud800", {"\udfff": 1}, ["a\udc00"]):
        with pytest.raises(ValueError, match="lone surrogate"):
            encode(value)
    assert encode("\ud800", surrogates=True) == b'"\xed\xa0\x80"'
    assert encode("\ud800", surrogates=True) != encode("\ufffd", surrogates=True)
    assert encode({"\ud800": 1, "a": 2}, surrogates=True) == b'{"a":2,"\xed\xa0\x80":1}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b' {"a":1}',
        b'{"a":1}\n',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"a":2}',
        b'{"a":1.0}',
        b"1e1",
        b"-0",
        b"-0.0",
        b"1E400",
        b"01",
        b'"\\u0061"',
        b'"\\/"',
        b'"\\u000A"',
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"nul",
        b"[1,]",
        b"[" * 100_000,
        b"[" * 65 + b"]" * 65,
        b"1" * 5000,
    ],
    ids=lambda data: repr(data[:16]),
)
def test_only_the_canonical_spelling_decodes(data: bytes) -> None:
    """White space, other orders, duplicates, other spellings and damage raise ValueError."""
    with pytest.raises(ValueError, match=r".+"):
        decode(data)


@given(st.binary(max_size=60))
def test_bytes_that_decode_are_canonical(data: bytes) -> None:
    """Whatever the bytes, they either decode to a value whose encoding they are, or raise ValueError."""
    try:
        value = decode(data)
    except ValueError:
        return
    assert encode(value) == data


@given(st.dictionaries(ASCII, SAFE_INTEGERS | st.booleans() | st.none() | TEXT, max_size=5))
def test_the_fast_path_for_arguments_is_canonical(value: dict[str, Any]) -> None:
    """Without floats and with ASCII keys, sorted orjson output is RFC 8785; the guard relies on it."""
    assert orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == encode(value)
