"""The short spelling of version 2: ids, digests and defaults in bytes.

Back ends cut the attributes of spans at 2,000 characters, and a record has to fit into one. So the bytes of version 2
have ids and digests in base64url without padding and without the name of their algorithm, and leave out two defaults.
Each value has exactly one spelling, in both directions.
"""

import re
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias, cast

from agent_identity._common.narrowing import is_plain_array, is_plain_dict

__all__ = ["full_spelling", "short_spelling", "spellings_of"]


class _Form(NamedTuple):
    """The spelling of one kind of value.

    Attributes:
        described: The required form in the bytes, for messages.
        shorten: Returns the short spelling of a full one.
        expand: Returns the full spelling of a short one, or raises :class:`ValueError`.
    """

    described: str
    shorten: Callable[[str], str]
    expand: Callable[[str], str]


_cached: Final = lru_cache(maxsize=256)  # Records repeat the ids and hashes of their task and of their call.
_Table: TypeAlias = Mapping[str, "_Form | _Table"]
_Conversion: TypeAlias = Callable[[str], str]
_Conversions: TypeAlias = tuple[tuple[str, _Conversion | None, "_Conversions"], ...]


def _short(digits: str) -> str:
    """Return hex digits in base64url."""
    return b2a_base64(bytes.fromhex(digits), newline=False).translate(_URL_SAFE, b"=").decode()


def _digits(text: str, form: "re.Pattern[str]") -> str:
    """Return the hex digits of their one base64url spelling.

    Raises:
        ValueError: The text is not that spelling.
    """
    if not form.fullmatch(text):
        raise ValueError
    return a2b_base64(text.translate(_STANDARD) + "==").hex()


def _digest(prefix: str, short_prefix: str = "") -> _Form:
    def shorten(text: str) -> str:
        return short_prefix + _short(text.removeprefix(prefix))

    def expand(text: str) -> str:
        return prefix + _digits(text.removeprefix(short_prefix), _DIGEST)

    return _Form("a digest in 43 base64url characters", _cached(shorten), _cached(expand))


def _uuid(text: str) -> str:
    digits = _digits(text, _ID)
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


# The last character has bits to spare, and only one of the spellings has them at zero.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_DIGEST: Final = re.compile(r"[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]")
_STANDARD: Final = str.maketrans("-_", "+/")
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def _short_uuid(text: str) -> str:
    return _short(text.replace("-", ""))


_UUID: Final = _Form("a UUID in 22 base64url characters", _cached(_short_uuid), _cached(_uuid))
_HASH: Final = _digest("")
_SHA256: Final = _digest("sha256:")
_HMAC: Final = _digest("hmac-sha256:")
_SALTED: Final = _digest("salted-sha256:", "s")


def _short_args(text: str) -> str:
    return (_SALTED if text.startswith("salted") else _HMAC).shorten(text)


def _args(text: str) -> str:
    return (_SALTED if len(text) == 44 and text[0] == "s" else _HMAC).expand(text)


_ARGS: Final = _Form("a digest in 43 base64url characters, with an s before it if it is salted", _short_args, _args)

_RESOURCES: Final[_Table] = {"digest": _HMAC}
_TABLE: Final[_Table] = {
    "action": {"args": _ARGS, "result": _HMAC},
    "approval": {"id": _UUID, "request": _HMAC, "sources": _UUID},
    "call": _UUID,
    "chain": {"grant": _HASH},
    "decision": {"approval": _UUID, "digest": _SHA256},
    "detail": _HASH,
    "erasure": {"pruned": {"root": _HASH, "stream": _UUID}},
    "examination": {"digest": _SHA256},
    "id": _UUID,
    "intent": _UUID,
    "mark": {"digest": _HMAC, "hop": _HASH, "origin": _HASH, "prev": _UUID, "sources": _UUID},
    "policy": {"digest": _SHA256},
    "provenance": {"source": _UUID},
    "recovered": {"open": _UUID, "stream": _UUID},
    "registration": {"hash": _HASH},
    "resources": _RESOURCES,
    "stream": {"id": _UUID, "prev": _HASH},
    "tools": {"offered": _SHA256, "pinned": _SHA256},
    "transforms": {"delivered": _HMAC, "original": _HMAC},
}
_KIND: Final = "function"  # Of an action with a stage there is no default: it is no call of a tool.
_MODE: Final = "enforce"


def _expanding(form: _Form) -> _Conversion:
    def expand(text: str) -> str:
        try:
            return form.expand(text)
        except ValueError:
            raise ValueError(f": not {form.described}") from None

    return expand


def _conversions(table: _Table, of: Callable[[_Form], _Conversion]) -> _Conversions:
    """Return, by member name, the conversions of texts in one direction, and those of nested objects."""
    return tuple(
        (name, of(form), ()) if isinstance(form, _Form) else (name, None, _conversions(form, of))
        for name, form in table.items()
    )


_SHORTEN: Final = _conversions(_TABLE, lambda form: form.shorten)
_EXPAND: Final = _conversions(_TABLE, _expanding)


@lru_cache(maxsize=16)  # A search asks for each record.
def spellings_of(record_id: str) -> tuple[bytes, ...]:
    """Return the spellings of an id in the bytes of all record versions, for searches.

    Args:
        record_id: The id; a text that is no id is returned alone.
    """
    full = record_id.encode("utf-8", "replace")
    try:
        return full, _UUID.shorten(record_id).encode()
    except ValueError:
        return (full,)


def short_spelling(members: object) -> object:
    """Return the members of a record in the spelling of version 2.

    Args:
        members: A record in full spelling, as plain values; it is changed.
    """
    record = cast("dict[str, object]", members)
    _convert(record, _SHORTEN)
    action, decision = _part(record, "action"), _part(record, "decision")
    if action is not None and "stage" not in action and action.get("kind") == _KIND:
        del action["kind"]
    if decision is not None and decision.get("mode") == _MODE:
        del decision["mode"]
    return record


def full_spelling(members: object) -> object:
    """Return the members of a record of version 2 in the spelling of version 1.

    Args:
        members: The members as in the bytes, as plain values; they are changed in place.

    Raises:
        ValueError: A value lacks its short spelling; the message starts with the path to it.
    """
    if not isinstance(members, dict):
        return members
    record = cast("dict[str, object]", members)
    try:
        _convert(record, _EXPAND)
    except ValueError as error:
        raise ValueError(f"record{error}") from None
    action, decision = _part(record, "action"), _part(record, "decision")
    if action is not None and "stage" not in action:
        _fill_in(action, "kind", _KIND, "record.action")
    if decision is not None:
        _fill_in(decision, "mode", _MODE, "record.decision")
    return record


def _part(record: dict[str, object], name: str) -> dict[str, object] | None:
    part = record.get(name)
    return cast("dict[str, object]", part) if isinstance(part, dict) else None


def _fill_in(part: dict[str, object], name: str, default: str, path: str) -> None:
    if part.get(name) == default:
        raise ValueError(f"{path}.{name}: the default is spelled out; leave the member out")
    part.setdefault(name, default)


def _convert(part: object, conversions: _Conversions) -> None:
    """Convert each value that has its own spelling; values of another type are left to validation.

    Raises:
        ValueError: A value has another spelling; the message starts with the path to it from here.
    """
    if not is_plain_dict(part):
        return
    for name, change, within in conversions:
        if name not in part:
            continue
        value = part[name]
        try:
            if type(value) is str:
                part[name] = value if change is None else change(value)
            elif is_plain_array(value):
                part[name] = _items(value, change, within)
            else:
                _convert(value, within)
        except ValueError as error:
            raise ValueError(f".{name}{error}") from None


def _items(values: Iterable[object], change: _Conversion | None, within: _Conversions) -> list[object]:
    found = list(values)
    for index, value in enumerate(found):
        try:
            if type(value) is not str:
                _convert(value, within)
            elif change is not None:
                found[index] = change(value)
        except ValueError as error:
            raise ValueError(f"[{index}]{error}") from None
    return found
