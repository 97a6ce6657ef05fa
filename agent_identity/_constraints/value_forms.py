"""Stable text forms of single values that are not JSON: decimals, dates, times, UUIDs and enum members.

A form is what constraints, policies, limits and people see, and what is digested. Two values of one type that
differ have different forms, and a value that hides something has none.
"""

import enum
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, TypeGuard, final

from agent_identity._common.narrowing import is_array, is_dict, is_plain_array

MAX_DIGITS: Final = 1_000
"""Digits that a decimal may have, written out."""

_DECIMAL: Final = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]*)(?:\.[0-9]*[1-9])?")
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})
_EQUAL: Final[Mapping[type, Callable[[Any, object], object]]] = MappingProxyType(
    {str: str.__eq__, int: int.__eq__, float: float.__eq__}
)
_STATEFUL: Final = (bytes, bytearray, complex, Decimal, date, time, timedelta, tuple, list, dict, set, frozenset)
_OFFSETS: Final = (type(None), timezone)
"""Zones that are a fixed offset or none, besides what pydantic makes of ``Z``."""


class NoFormError(Exception):
    """The value has no stable form."""


@final
class DecimalText(str):
    """The form of a ``Decimal``: its plain text. Constraints compare it as an exact number."""

    __slots__ = ()


def form_of(value: object) -> object:
    """Return the form of a single value: text, a number, a truth value, ``None``, or a tuple of such.

    Raises:
        NoFormError: It has none.
        ValueError: It is a decimal that is not finite, or of more than 1,000 digits.
    """
    if type(value) is Decimal:
        return decimal_form(value)
    if type(value) is date:
        return value.isoformat()
    if type(value) is datetime or type(value) is time:
        return _moment_form(value)
    if type(value) is _loaded("uuid", "UUID"):
        return str(value)
    if _is_member(value):
        return _member_form(value)
    raise NoFormError


def _is_member(value: object) -> TypeGuard[enum.Enum]:
    return issubclass(type(value), enum.Enum)  # `isinstance` would ask the value, which may be a proxy.


def _loaded(module: str, name: str) -> type[object] | None:
    """Return a class if its module is loaded: otherwise no value has it, and many programs never load it."""
    loaded: object = getattr(sys.modules.get(module), name, None)
    return loaded if isinstance(loaded, type) else None


def decimal_form(number: Decimal) -> DecimalText:
    """Return the number in digits, without an exponent, zeros at the end, or a sign before zero.

    Raises:
        ValueError: It is not finite, or has more than 1,000 digits.
    """
    exponent = number.as_tuple().exponent
    if not number.is_finite() or not isinstance(exponent, int):
        raise ValueError("the number is NaN or an infinity; give a finite one")
    if not number:
        return DecimalText("0")
    if max(number.adjusted(), 0) - min(exponent, 0) >= MAX_DIGITS:
        raise ValueError(f"the Decimal has more than {MAX_DIGITS} digits; pass it as text")
    text = format(number, "f")
    return DecimalText(text.rstrip("0").rstrip(".") if "." in text else text)


def _moment_form(moment: datetime | time) -> str:
    """Return ISO 8601 with the offset, and the zone name as in RFC 9557."""
    zone = moment.tzinfo
    if moment.fold:
        raise NoFormError  # ISO 8601 has no spelling for it.
    if type(zone) in _OFFSETS or type(zone) is _loaded("pydantic_core", "TzInfo"):
        return moment.isoformat()
    key: object = getattr(zone, "key", None) if type(zone) is _loaded("zoneinfo", "ZoneInfo") else None
    if type(key) is not str or not key:
        raise NoFormError  # Code of others can say another offset, or name, each time.
    return f"{moment.isoformat()}[{key}]"


def _member_form(member: enum.Enum) -> object:
    kind = type(member)
    value: object = member._value_  # Its documented name; `value` can be overridden.
    identifier = _loaded("uuid", "UUID")
    stateful = issubclass(kind, _STATEFUL) or (identifier is not None and issubclass(kind, identifier))
    if stateful or is_dataclass(kind):
        raise NoFormError
    for base, equals in _EQUAL.items():
        if issubclass(kind, base) and equals(member, value) is not True:
            raise NoFormError  # The body could take it for another value than the one that is judged.
    return _constant_form(value)


def _constant_form(value: object) -> object:
    """Return the form of an enum member's value; a mutable value has none, because all callers share it."""
    if type(value) in _PLAIN:
        return value
    if is_plain_array(value) and type(value) is tuple:
        return tuple(_constant_form(item) for item in value)
    return form_of(value)


def decimal_of(number: float | str | None) -> Decimal | None:
    """Return a bound of a constraint, or the form of a decimal, as an exact decimal.

    A ``float`` with a fraction counts as the shortest decimal that means it, which is how grants spell it.
    """
    if type(number) is float and not number.is_integer():
        return Decimal(repr(number))
    return None if number is None else Decimal(number)


def with_decimals(value: object) -> object:
    """Return a disclosed value with decimals in place of all texts in the form of one."""
    if type(value) is str:
        return _read_decimal(value)
    if is_dict(value):
        return {name: with_decimals(item) for name, item in value.items()}
    if is_array(value):
        return [with_decimals(item) for item in value]
    return value


def _read_decimal(text: str) -> str:
    """Return the decimal of a text in the one spelling of forms, or ``None``."""
    digits = len(text) - text.count("-") - text.count(".")
    return DecimalText(text) if digits <= MAX_DIGITS and _DECIMAL.fullmatch(text) else text
