"""Comparison of displayed span ids, times and statuses with the signed ones, in all usual spellings.

Stores round times to the microsecond or millisecond and show them as numbers or text, so that a time is compared as
precisely as it is shown.
"""

import math
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from agent_identity._common.narrowing import is_dict

Likeness: TypeAlias = Literal["same", "tail", "other", "unknown"]
"""Comparison of a shown id; ``tail``: its lower 64 bits match, ``unknown``: it cannot be read as an id."""

_HEX: Final = re.compile(r"[0-9a-f]{1,32}")
_DECIMAL: Final = re.compile(r"-?[0-9]{1,39}")
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{11}=?|[A-Za-z0-9+/_-]{22}(?:==)?")
_HASHED: Final = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,12})?")
_MOMENT: Final = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,9})[0-9]*)?"
    r" ?(Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?(?: UTC)?",
    re.IGNORECASE,
)
_DURATION: Final = re.compile(r"(.{1,40}?) ?(ns|us|\u00b5s|\u03bcs|ms|s)")
_UNIT: Final[Mapping[str, int]] = MappingProxyType(
    {"ns": 1, "us": 10**3, "\u00b5s": 10**3, "\u03bcs": 10**3, "ms": 10**6, "s": 10**9}
)
_UNITS: Final = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))
"""Below these numbers a time counts seconds, milliseconds or microseconds, in nanoseconds; else nanoseconds."""

_MAX_NUMBER: Final = 1e20
_FINEST: Final = 1_000  # Nanoseconds; most stores keep no less.
_COARSEST: Final = 1_000_000_000
_FLOAT: Final = 256  # Nanoseconds by which a time of now differs that was a floating-point number of them.
_QUARTER: Final = 900 * 1_000_000_000  # What zones differ by.
_FARTHEST: Final = 14 * 4 * _QUARTER
_STATUSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(("0", "unset", "status_code_unset"), "unset"),
        **dict.fromkeys(("1", "ok", "status_code_ok", "success"), "ok"),
        **dict.fromkeys(("2", "error", "status_code_error"), "error"),
    }
)
_KINDS: Final[Mapping[str, bool]] = MappingProxyType(
    {
        # JavaScript and Python count from 0, OTLP from 1; some stores have kinds of their own.
        **dict.fromkeys(("0", "1", "internal", "unspecified", "unknown", "span", "tool", "agent", "chain"), True),
        **dict.fromkeys(("2", "3", "4", "5", "server", "client", "producer", "consumer"), False),
    }
)


def likeness(shown: object, signed: str) -> Likeness:
    """Return whether an id is the signed one, in any usual spelling.

    Hex with or without ``0x`` and leading zeros, a UUID, base64, or a decimal number.

    Args:
        shown: The value that a back end shows.
        signed: The id in lower-case hex, 16 or 32 digits.
    """
    readings = _readings(shown)
    if not readings:
        return "unknown"
    if int(signed, 16) in readings:
        return "same"
    return "tail" if len(signed) == 32 and int(signed[16:], 16) in readings else "other"


def _readings(shown: object) -> set[int]:
    """Return the numbers that an id may spell."""
    if type(shown) is int:
        return {shown % 2**64 if shown < 0 else shown}
    if not isinstance(shown, str) or len(shown) > 64:
        return set()
    readings: set[int] = set()
    text = shown.strip()
    digits = text.lower().removeprefix("0x").removeprefix("tr-").replace("-", "")
    if _HEX.fullmatch(digits):
        readings.add(int(digits, 16))
    if _DECIMAL.fullmatch(text):
        readings |= _readings(int(text))
    if _BASE64.fullmatch(text):
        plain = text.rstrip("=").replace("-", "+").replace("_", "/")
        readings.add(int.from_bytes(b64decode(plain + "=" * (-len(plain) % 4))))
    return readings


def is_hashed(shown: object) -> bool:
    """Return whether an id has the form of a UUID of version 5, into which some stores hash ids."""
    return isinstance(shown, str) and _HASHED.fullmatch(shown.strip()) is not None


def same_time(shown: object, signed: int) -> bool | None:
    """Return whether a time is the signed one, in the precision shown; ``None`` if it cannot be read as a time.

    Args:
        shown: What a back end shows: seconds, milliseconds, microseconds or nanoseconds since the Unix epoch, told
            apart by their size, or a date and time, or an object of seconds and nanoseconds, or of microseconds.
        signed: Nanoseconds since the Unix epoch.
    """
    moment = _MOMENT.fullmatch(shown.strip()) if isinstance(shown, str) and len(shown) <= 64 else None
    if moment is not None:
        return _same_moment(moment, signed)
    if is_dict(shown):
        nanoseconds = _nanoseconds(shown)
        return None if nanoseconds is None else _near(nanoseconds, signed)
    number = _number(shown)
    if number is None:
        return None
    unit = next((unit for most, unit in _UNITS if number < most), 1)
    return _near(int(number * unit), signed)


def same_duration(shown: object, signed: int) -> bool | None:
    """Return whether a duration is the signed one in one of the usual units; ``None`` if it cannot be read.

    Args:
        shown: The value that a back end shows, which may not have a unit.
        signed: Nanoseconds.
    """
    units: tuple[int, ...] = (1, 10**3, 10**6, 10**9)
    if is_dict(shown):
        shown, units = _nanoseconds(shown), (1,)
    elif isinstance(shown, str) and (written := _DURATION.fullmatch(shown.strip())):
        shown, units = written[1], (_UNIT[written[2]],)
    number = _number(shown)
    if number is None:
        return None
    return any(abs(int(number * unit) - signed) <= max(unit, _FINEST) + _FLOAT for unit in units)


def _nanoseconds(members: dict[object, object]) -> int | None:
    """Return the nanoseconds in an object, as Protobuf and Elastic write them."""
    names = {"seconds": 10**9, "nanos": 1} if "seconds" in members else {"us": 10**3}
    numbers = [_number(members.get(name, 0 if name == "nanos" else None)) for name in names]
    if members.keys() - names or None in numbers:
        return None
    return sum(int(number * unit) for number, unit in zip(numbers, names.values(), strict=True) if number is not None)


def status_of(shown: object) -> str | None:
    """Return ``unset``, ``ok`` or ``error``, or ``None`` for an unknown status."""
    return _STATUSES.get(str(shown).lower()) if isinstance(shown, str | int) and type(shown) is not bool else None


def is_internal(shown: object) -> bool | None:
    """Return whether the kind of a span is internal or unspecified; ``None`` if it cannot be read."""
    if type(shown) not in (int, str):
        return None
    return _KINDS.get(str(shown).strip().lower().removeprefix("span_kind_").removeprefix("spankind."))


def _number(shown: object) -> Decimal | None:
    if type(shown) is float and math.isfinite(shown):
        return Decimal(repr(shown)) if 0 <= shown < _MAX_NUMBER else None
    text = str(shown) if type(shown) in (int, str) else ""
    return Decimal(text) if len(text) <= 40 and _NUMBER.fullmatch(text) else None


def _same_moment(moment: re.Match[str], signed: int) -> bool | None:
    day, time, fraction, zone = moment.groups()
    try:
        seconds = int((datetime.fromisoformat(f"{day}T{time}+00:00") - datetime.fromtimestamp(0, UTC)).total_seconds())
    except ValueError:
        return None
    shown = seconds * 10**9 + int((fraction or "").ljust(9, "0"))
    if zone is None:  # A local time, perhaps.
        apart = round((shown - signed) / _QUARTER) * _QUARTER
        return abs(apart) <= _FARTHEST and _near(shown - apart, signed)
    if zone[0] in "+-":
        minutes = int(zone[1:3]) * 60 + int(zone[3:].lstrip(":") or 0)
        shown -= (-minutes if zone[0] == "-" else minutes) * 60 * 10**9
    return _near(shown, signed)


def _near(shown: int, signed: int) -> bool:
    """Return whether two times are the same, in the precision given by the trailing zeros of the shown one."""
    whole = (shown + _FINEST // 2) // _FINEST * _FINEST
    if abs(whole - shown) > _FLOAT:
        whole = shown
    step = _FINEST
    while step < _COARSEST and not whole % (step * 10):
        step *= 10
    return abs(shown - signed) <= step + _FLOAT
