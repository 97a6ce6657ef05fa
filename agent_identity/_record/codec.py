"""Codec between records and their canonical bytes.

Decoding checks shape, types, bounds and the canonical form in one step. A value is spelled in memory as in the bytes.
"""

from typing import Final, cast

import msgspec
import orjson
from msgspec.structs import force_setattr

from agent_identity import canonical
from agent_identity._identity.common.record_bytes import RecordValue
from agent_identity._record._refusals import explained
from agent_identity._record.schema import KIND_TYPES, AnyRecord, Detail, Record

_DECODER: Final = cast("msgspec.json.Decoder[AnyRecord]", msgspec.json.Decoder(AnyRecord))
_DETAILS: Final = msgspec.json.Decoder(Detail)
_ENCODER: Final = msgspec.json.Encoder(order="sorted")  # Keys are ASCII, so this is the order of RFC 8785.
_REPEATED: Final = ("agent", "chain", "decision", "principal", "task")
_OTHER: Final = "the bytes are not the canonical spelling of the record"


def decode(data: bytes) -> AnyRecord:
    """Return the record from its canonical bytes.

    Duplicate keys, white space, other spellings of a string and other orders of keys do not re-encode to the same
    bytes and are refused with the rest.

    Raises:
        ValueError: The bytes are not the canonical form of a record, or a fact is missing, unknown, malformed or
            contradicts another; the message starts with the path to it, for example ``record.decision.effect``. It
            shows no value.
    """
    try:
        record = _DECODER.decode(data)
    except msgspec.ValidationError as error:
        raise ValueError(_refusal(str(error), data)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("record: the bytes are not JSON") from None
    if _ENCODER.encode(record) != data:  # A null, for one, is no way to say nothing.
        raise ValueError(f"record: {_OTHER}")
    return record


def _refusal(message: str, data: bytes) -> str:
    """Return the message for a refused record; it names the place if each member occurs once."""
    try:
        members = canonical.decode(data)
    except ValueError:
        return "record: the bytes are not in canonical form"
    return explained(message, members, KIND_TYPES)


def share_parts(record: AnyRecord, known: dict[object, object]) -> None:
    """Replace parts of a decoded record by equal parts of earlier ones: pickle writes a shared part once.

    Args:
        record: The record; nothing else may refer to it yet.
        known: The parts of the earlier ones; those of this record are added.
    """
    for name in _REPEATED:
        part: object = getattr(record, name, None)
        if part is not None:
            force_setattr(record, name, known.setdefault(part, part))


def encode(record: Record) -> bytes:
    """Return the canonical bytes of a record.

    Raises:
        ValueError: It holds a lone surrogate.
    """
    try:
        return _ENCODER.encode(record)
    except UnicodeEncodeError:
        raise ValueError("a text in the record has a lone surrogate") from None


def decode_detail(data: bytes) -> Detail:
    """Return the detail of an outcome from its canonical bytes.

    Raises:
        ValueError: The bytes are not the canonical form of a detail.
    """
    try:
        detail = _DETAILS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # A ValidationError is a DecodeError.
        raise ValueError("the bytes are not a detail") from None
    if _ENCODER.encode(detail) != data:
        raise ValueError("the bytes are not the canonical spelling of the detail")
    return detail


def encode_detail(detail: Detail) -> bytes:
    """Return the canonical bytes of a detail.

    Raises:
        ValueError: It holds a lone surrogate.
    """
    try:
        return _ENCODER.encode(detail)
    except UnicodeEncodeError:
        raise ValueError("a text in the detail has a lone surrogate") from None


def as_dict(record: Record) -> dict[str, RecordValue]:
    """Return the members of a record as plain dicts and lists, as its bytes spell them."""
    return cast("dict[str, RecordValue]", orjson.loads(encode(record)))


def plain_members(data: bytes) -> dict[str, object]:
    """Return the members of a record, unchecked: only for bytes that this library wrote.

    Raises:
        ValueError: The bytes are no JSON object.
    """
    members: object = orjson.loads(data)
    if not isinstance(members, dict):
        raise ValueError("the value is not a JSON object")  # noqa: TRY004  Of bytes, as in decode.
    return cast("dict[str, object]", members)
