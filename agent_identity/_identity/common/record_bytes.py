"""Canonical bytes of records: objects, arrays, strings and booleans only.

Integers travel as decimal strings and unknown facts are left out, so that no store can change the meaning of a record
by changing the type of a number. Bounds and refusals are those of :mod:`agent_identity.canonical`.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import orjson

from agent_identity._common.narrowing import is_plain_array, is_plain_dict
from agent_identity.canonical import MAX_DEPTH

RecordValue: TypeAlias = "bool | str | Sequence[RecordValue] | Mapping[str, RecordValue]"
"""A value inside a record: no numbers and no null."""


def encode_record(record: Mapping[str, RecordValue]) -> bytes:
    """Return the canonical bytes of a record; keys must be ASCII.

    Raises:
        ValueError: The record holds a number, a null, another type, a key that is not ASCII, a lone
            surrogate, or is nested too deeply.
    """
    _check_record(record, 0)
    try:
        # Under the restrictions just checked, orjson's sorted form is RFC 8785 (property-tested).
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError):
        raise ValueError("a text of the record has a lone surrogate") from None


def _check_record(value: object, depth: int) -> None:
    kind = type(value)
    if kind is str or kind is bool:
        return
    if depth >= MAX_DEPTH:
        raise ValueError(f"the value has more than {MAX_DEPTH} nested containers; flatten it")
    if is_plain_dict(value):
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise ValueError("a key of the record is not an ASCII string")
            _check_record(item, depth + 1)
    elif is_plain_array(value):
        for item in value:
            _check_record(item, depth + 1)
    else:
        raise ValueError(f"the record holds {kind.__name__}; it may hold strings, booleans, arrays and objects")


def decode_record(data: bytes) -> dict[str, RecordValue]:
    """Decode a record from its canonical bytes.

    Duplicate keys, white space, other escapes of a string and other orders of keys do not re-encode
    to the same bytes, and are refused.

    Raises:
        ValueError: The bytes are not the canonical form of a record.
    """
    try:
        value: RecordValue = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ValueError("the record is not JSON") from None
    record = value if isinstance(value, dict) else None
    if record is None:
        raise ValueError("the record is not a JSON object")
    if encode_record(record) != data:  # Numbers and null are refused here.
        raise ValueError("the record is not in canonical form")
    return record
