"""Argument values as constraints compare them: exactly the types of JSON, without conversions.

A decimal, whose form is text, is compared as the number that it is.

A value gets a *key*: a hashable, immutable spelling under which two values are the same value of JSON.
``1`` and ``1.0`` share a key; ``True``, ``1`` and ``"1"`` do not. Whatever is no plain value of JSON has
no key: subclasses, NaN, infinities, integers that overflow a double, lone surrogates, deep or huge
containers. Without a key nothing satisfies a constraint.
"""

import math
import sys
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal, TypeAlias, TypeGuard, final

from agent_identity._common.narrowing import is_mapping, is_plain_array, is_plain_dict
from agent_identity._constraints.value_forms import DecimalText, NoFormError, decimal_form, form_of
from agent_identity.canonical import JSON

_Atom: TypeAlias = tuple[Literal["bool"], bool] | tuple[Literal["decimal"], str]
_Array: TypeAlias = "tuple[Literal['array'], tuple[Key, ...]]"
_Object: TypeAlias = "tuple[Literal['object'], frozenset[tuple[str, Key]]]"
Key: TypeAlias = "str | int | float | _Atom | _Array | _Object | None"
"""A value under which equal JSON values compare equal. Booleans and containers are tagged pairs."""

CONTAINERS: Final[frozenset[type]] = frozenset({list, tuple, dict})
"""The containers of JSON."""

MAX_NESTING: Final = 32
"""Containers of an argument, or of a constraint's claim, may be nested this deep."""

MAX_TEXT: Final = 8192
"""Characters of a string inside a constraint."""

_MAX_NODES: Final = 10_000
_MAX_LITERALS: Final = 1024
_MAX_NUMBER: Final = int(sys.float_info.max)
_MIN_NUMBER: Final = -_MAX_NUMBER
_EXACT: Final = 2**53
_LOSSY: Final = 10**21


def is_text(value: object) -> TypeGuard[str]:
    """Return whether the value is exactly a ``str`` that UTF-8 can hold."""
    if type(value) is not str:
        return False
    if value.isascii():
        return True
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether the value is exactly an ``int`` or ``float`` that a double can hold (RFC 7493 §2.2)."""
    if type(value) is int:
        return _MIN_NUMBER <= value <= _MAX_NUMBER
    return type(value) is float and math.isfinite(value)


def key_of(value: object) -> Key:
    """Return the key of an argument value.

    Raises:
        ValueError: The value is no plain value of JSON, or is nested deeper than :data:`MAX_NESTING`, or
            has more than 10,000 parts.
    """
    if type(value) is str and value.isascii():
        return value
    if type(value) is Walked:
        return value.key()
    return _Walk(_MAX_NODES, literal=False).key(value, MAX_NESTING)


@final
class Walked:
    """A container that is walked at most once, shared by all its constraints.

    Args:
        value: A list, tuple or dict of JSON that no one changes meanwhile.
    """

    __slots__ = ("_key", "_kinds", "_members", "_problem", "value")

    def __init__(self, value: object) -> None:
        self.value = value
        self._kinds: frozenset[type] | None = None
        self._key: Key = None
        self._members: dict[str, object] = {}
        self._problem: str | None = None

    def key(self) -> Key:
        """Return the key of the container.

        Raises:
            ValueError: As :func:`key_of` does.
        """
        if self._key is None and self._problem is None:
            try:
                self._key = _Walk(_MAX_NODES, literal=False).key(self.value, MAX_NESTING)
            except ValueError as error:
                self._problem = str(error)
        if self._problem is not None:
            raise ValueError(self._problem)
        return self._key

    def kinds(self) -> frozenset[type]:
        """Return the types of everything inside the container, at any depth."""
        if self._kinds is None:
            self._kinds = kinds_inside(self.value)
        return self._kinds

    def member(self, name: str, missing: object) -> object:
        """Return a member of a dict as :func:`walked` does, or a marker for a missing one."""
        if name not in self._members:
            held = self.value.get(name, missing) if is_plain_dict(self.value) else missing
            self._members[name] = walked(held)
        return self._members[name]


def kinds_inside(value: object) -> frozenset[type]:
    """Return the types of everything inside a container, at any depth; empty for other values."""
    kinds: set[type] = set()
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inner: Iterable[object] = ()
        if is_mapping(one):
            inner = one.values()
        elif is_plain_array(one):
            inner = one
        kinds.update(map(type, inner))
        waiting += inner
    return frozenset(kinds)


def walked(value: object) -> object:
    """Return a container that is walked at most once, and any other value as it is."""
    return Walked(value) if type(value) in CONTAINERS else value


def literal_key(value: object) -> Key:
    """Return the key of a value in a constraint, which travels in a grant.

    Decimals, dates, times, UUIDs and enum members stand there in their form, and decimals as numbers. Besides the
    rules of :func:`key_of`, strings are at most :data:`MAX_TEXT` characters long, and whole
    floats between 2^53 and 10^21 are refused: their canonical JSON is read back as another integer.

    Raises:
        ValueError: The value breaks a rule.
    """
    return literal_keys((value,))[0]


def literal_keys(values: Iterable[object]) -> tuple[Key, ...]:
    """Return the distinct keys of one to 1,024 values in a constraint, in order.

    Raises:
        ValueError: A value breaks a rule of :func:`literal_key`, or they are none or too many.
    """
    walk = _Walk(_MAX_LITERALS, literal=True)
    keys = tuple(dict.fromkeys(walk.key(value, MAX_NESTING - 2) for value in values))
    if not keys:
        raise ValueError("the constraint has no value; give at least one")
    return keys


def literal_number(value: float | Decimal) -> float:
    """Return the JSON number for a number in a constraint.

    Raises:
        ValueError: It breaks a rule of :func:`literal_key`.
    """
    return _exact(decimal_form(value)) if isinstance(value, Decimal) else _literal_number(value)


class _Walk:
    """One bounded walk over a value, or over all values of one constraint."""

    __slots__ = ("_left", "_literal")

    def __init__(self, nodes: int, *, literal: bool) -> None:
        self._left = nodes
        self._literal = literal

    def key(self, value: object, depth: int) -> Key:
        self._left -= 1
        if self._left < 0:
            raise ValueError("the value has too many parts; make it smaller")
        if is_text(value):
            return self._text(value)
        if value is None:
            return None
        if type(value) is bool:
            return ("bool", value)
        if is_number(value):
            return _literal_number(value) if self._literal else value
        return self._decimal(value) if type(value) is DecimalText else self._container(value, depth)

    def _text(self, value: str) -> str:
        if self._literal and len(value) > MAX_TEXT:
            raise ValueError(f"a text of the constraint has {len(value)} characters, more than {MAX_TEXT}")
        return value

    def _decimal(self, text: DecimalText) -> Key:
        if self._literal:
            return _exact(text)
        number = _spelled(text)
        return ("decimal", str(text)) if number is None else number

    def _form(self, value: object, depth: int) -> Key:
        """Return the key of the form of a value that is not JSON, for a constraint; arguments come in their forms."""
        try:
            if self._literal:
                return self.key(form_of(value), depth)
        except NoFormError:
            pass
        raise ValueError(f"the value is {type(value).__name__}; give a plain value of JSON")

    def _container(self, value: object, depth: int) -> Key:
        if depth == 0:
            raise ValueError(f"the value has more than {MAX_NESTING} nested containers; flatten it")
        if is_plain_array(value):
            return ("array", tuple([self.key(item, depth - 1) for item in value]))
        if not is_plain_dict(value):
            return self._form(value, depth)
        return ("object", frozenset((_name(name), self.key(item, depth - 1)) for name, item in value.items()))


def is_interoperable(value: object) -> bool:
    """Return whether every reader of a value of JSON reads the same numbers: it has no integer that a double rounds."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if is_mapping(one):
            waiting += one.values()
        elif is_plain_array(one):
            waiting += one
        elif type(one) is int and not (is_number(one) and int(float(one)) == one):
            return False
    return True


def _literal_number(value: float) -> float:
    if type(value) is int or not value.is_integer():
        return value
    if _EXACT < abs(value) < _LOSSY:
        raise ValueError("a whole number above 2^53 is a float; write int(…)")
    return int(value) if abs(value) <= _EXACT else value


def _spelled(text: DecimalText) -> float | None:
    """Return the JSON number of a text, or ``None`` if no double holds it exactly as spelled."""
    if "." not in text:
        whole = int(text)
        if not is_number(whole):
            raise ValueError("the Decimal is larger than a double can hold; give a smaller one")
        return whole
    near = float(text)  # Only to find the one spelling that could be equal; the next line compares exactly.
    return near if Decimal(repr(near)) == Decimal(text) else None


def _exact(text: DecimalText) -> float:
    number = _spelled(text)
    if number is None:
        raise ValueError("no double spells the Decimal of the constraint exactly; use fewer digits")
    return number


def _name(name: object) -> str:
    if not is_text(name):
        raise ValueError("a key of the object is not a string")
    return name


def value_of(key: Key) -> JSON:
    """Return a fresh value for a key made by :func:`key_of` or :func:`literal_key`."""
    if not isinstance(key, tuple):
        return key
    if key[0] == "array":
        return [value_of(item) for item in key[1]]
    if key[0] == "object":
        return {name: value_of(item) for name, item in sorted(key[1], key=lambda member: member[0])}
    return key[1]
