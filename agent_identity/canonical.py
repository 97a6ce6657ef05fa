"""Canonical bytes of values that are signed or digested (RFC 8785, JSON Canonicalization Scheme).

All of JSON, numbers included, for tokens and arguments; records have fewer forms, and bytes of their own.

Encoding and decoding are bounded in depth and refuse ambiguous values: duplicate keys, NaN and infinities,
keys that are not strings, and lone surrogates. Decoding accepts only the
canonical form: bytes that decode re-encode to themselves.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TypeAlias

import orjson

from agent_identity._common.narrowing import is_mapping, is_plain_array, is_plain_dict

__all__ = ["JSON", "MAX_DEPTH", "decode", "encode"]

JSON: TypeAlias = "None | bool | int | float | str | Sequence[JSON] | Mapping[str, JSON]"
"""A JSON value. Sequences are lists or tuples."""

MAX_DEPTH: Final = 64
"""Maximum nesting depth of containers."""

_MAX_DEPTH_MESSAGE: Final = f"the value has more than {MAX_DEPTH} nested containers; flatten it"
_INT64: Final = 1 << 63
_EXACT: Final = float(1 << 53)  # Below this, every double without a fraction is an exact integer.
_AS_IS: Final = frozenset({str, bool, type(None)})
_QUOTE: Final = json.encoder.encode_basestring  # Escapes exactly the characters of RFC 8785 §3.2.2.2.


def encode(value: object, *, surrogates: bool = False) -> bytes:
    """Return the canonical bytes of a JSON value (RFC 8785).

    Integers of any size are written in full. RFC 8785 knows only IEEE doubles, with which this agrees
    for every integer that a double holds exactly below 10^21.

    Args:
        value: A value of :data:`JSON`, which is checked; containers may be nested :data:`MAX_DEPTH` deep.
        surrogates: Write lone surrogates as their three bytes (WTF-8) instead of refusing them. For
            digests only: such bytes are not UTF-8 and must not be signed or sent.

    Raises:
        ValueError: The value is nested too deeply, refers to itself, or holds NaN, an infinity, a key
            that is not a string, an unsupported type or (unless allowed) a lone surrogate.
    """
    try:
        return orjson.dumps(_plain(value, 0), option=orjson.OPT_SORT_KEYS)
    except (_UncommonError, TypeError):  # A lone surrogate is a TypeError.
        pass
    parts: list[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8", "surrogatepass" if surrogates else "strict")
    except UnicodeEncodeError:
        raise ValueError("the text has a lone surrogate; repair it first") from None


class _UncommonError(Exception):
    """The value holds something that orjson does not write as RFC 8785 requires."""


def _plain(value: object, depth: int) -> object:
    """Return an equal value whose sorted orjson form is canonical.

    orjson writes the escapes and digits of RFC 8785 but sorts keys by code points, gives whole doubles a
    fraction, and turns to exponents earlier.
    """
    if type(value) in _AS_IS:
        return value
    if type(value) is int:
        if -_INT64 <= value < _INT64:
            return value
    elif type(value) is float:
        return _plain_number(value)
    elif depth >= MAX_DEPTH:
        raise _UncommonError
    elif is_plain_dict(value):
        return _plain_object(value, depth + 1)
    elif is_plain_array(value):
        return [item if type(item) in _AS_IS else _plain(item, depth + 1) for item in value]
    raise _UncommonError


def _plain_object(value: dict[object, object], depth: int) -> dict[object, object]:
    for key in value:
        if type(key) is not str or not key.isascii():
            raise _UncommonError
    return {key: item if type(item) in _AS_IS else _plain(item, depth) for key, item in value.items()}


def _plain_number(value: float) -> float:
    if is_plain_number(value):
        return value
    if value.is_integer() and abs(value) < _EXACT:
        return int(value)
    raise _UncommonError


def is_plain_number(value: float) -> bool:
    """Return whether orjson writes a double as RFC 8785 does: it has a fraction, and needs no exponent."""
    return 1e-4 <= abs(value) < 1e15 and not value.is_integer()


def _write(value: object, parts: list[str], depth: int) -> None:
    if type(value) is str:
        parts.append(_QUOTE(value))
    elif type(value) is bool:
        parts.append("true" if value else "false")
    elif value is None:
        parts.append("null")
    elif type(value) is int:
        parts.append(_integer(value))
    elif type(value) is float:
        parts.append(_number(value))
    elif depth >= MAX_DEPTH:
        raise ValueError(_MAX_DEPTH_MESSAGE)
    elif is_plain_array(value):
        _write_array(value, parts, depth + 1)
    elif is_mapping(value):
        _write_object(value, parts, depth + 1)
    else:
        raise ValueError(f"{type(value).__name__} is not a JSON value")


def _write_array(values: Sequence[object], parts: list[str], depth: int) -> None:
    parts.append("[")
    for index, item in enumerate(values):
        if index:
            parts.append(",")
        _write(item, parts, depth)
    parts.append("]")


def _write_object(value: Mapping[object, object], parts: list[str], depth: int) -> None:
    parts.append("{")
    for index, key in enumerate(sorted(map(_text, value), key=_utf16)):
        if index:
            parts.append(",")
        parts.append(_QUOTE(key))
        parts.append(":")
        _write(value[key], parts, depth)
    parts.append("}")


def _text(key: object) -> str:
    if type(key) is not str:
        raise ValueError(f"a key of an object is {type(key).__name__}; use str")
    return key


def _utf16(key: str) -> bytes:
    # RFC 8785 §3.2.3 sorts by UTF-16 code units, which differs from code points beyond the BMP.
    return key.encode("utf-16-be", "surrogatepass")


def _integer(value: int) -> str:
    # The interpreter refuses to print integers of more than 4,300 digits, with a ValueError as well.
    return str(value)


def _number(value: float) -> str:
    """Write a double as ECMAScript does (RFC 8785 §3.2.2.3)."""
    if not math.isfinite(value):
        raise ValueError("a number is NaN or an infinity; use a finite one")
    if value == 0:
        return "0"
    sign, digits, point = _shortest(value)
    count = len(digits)
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        exponent = point - 1
        mantissa = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
        text = f"{mantissa}e{'+' if exponent > 0 else '-'}{abs(exponent)}"
    return sign + text


def _shortest(value: float) -> tuple[str, str, int]:
    """Return sign, shortest round-trip digits and the position of the decimal point before them."""
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) if whole != "0" else len(digits) - len(fraction)
    digits = digits.rstrip("0")
    return ("-" if value < 0 else "", digits, point + int(exponent or 0))


def decode(data: bytes) -> JSON:
    """Return the value of canonical JSON bytes.

    Raises:
        ValueError: The bytes are not JSON, or not in the one canonical form.
    """
    try:
        value: JSON = orjson.loads(data)
        # orjson drops a duplicate key, and numbers that the two parsers type differently are uncommon, so equal bytes
        # have one meaning.
        if orjson.dumps(_plain(value, 0), option=orjson.OPT_SORT_KEYS) == data:
            return value
    except (_UncommonError, ValueError, TypeError):
        pass
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(_MAX_DEPTH_MESSAGE) from None
    if encode(value) != data:
        raise ValueError("the JSON is not canonical (RFC 8785)")
    return value


def _unique(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a duplicate key")
    return value


def _refuse_constant(_: str) -> NoReturn:
    raise ValueError("a number is NaN or an infinity; use a finite one")
