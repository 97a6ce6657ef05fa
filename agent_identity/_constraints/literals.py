"""Constraint protocol, and the constraints of the Attenuating Agent Token profile on single values.

Subsumption follows the profile to the letter, so that other verifiers agree: a pair of kinds that the
profile does not list is refused even where it would be safe (an ``exact`` under a ``not_one_of``, say).
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Final, Protocol, final

from agent_identity._constraints.value_forms import DecimalText, decimal_of
from agent_identity._constraints.values import (
    Key,
    is_number,
    key_of,
    literal_key,
    literal_keys,
    literal_number,
    value_of,
)
from agent_identity.canonical import JSON


class Constraint(Protocol):
    """The constraint of a grant on one argument. The set of kinds is closed.

    Attributes:
        kind: The ``constraint_type`` in a grant.
    """

    kind: ClassVar[str]

    def permits(self, value: object, /) -> bool:
        """Return whether the value satisfies the constraint; only plain values of JSON ever do."""
        ...

    def covers(self, child: "Constraint", /) -> bool:
        """Return whether everything that the child permits is provably permitted here."""
        ...

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        ...

    def describe(self) -> str:
        """Return the constraint as Python source, bounds and values included."""
        ...


def members_permitted(child: Constraint, parent: Constraint) -> bool:
    """Return whether the child lists its values and the parent permits each."""
    return isinstance(child, Exact | OneOf) and all(parent.permits(value) for value in child.values)


def _elements(value: object) -> Collection[Key] | None:
    """Return the keys of the elements of an array, or ``None`` for any other value."""
    try:
        key = key_of(value)
    except ValueError:
        return None
    return key[1] if isinstance(key, tuple) and key[0] == "array" else None


def _listing(name: str, keys: tuple[Key, ...]) -> str:
    return f"{name}({', '.join(repr(value_of(key)) for key in keys)})"


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Exact:
    """The argument equals one value of JSON: ``1`` equals ``1.0``, but neither ``True`` nor ``"1"``.

    In a scope, an array or object becomes the only value of a :class:`OneOf`, as the profile requires.

    Raises:
        ValueError: The value is no plain value of JSON, or too large or deep for a grant.
    """

    key: Key
    kind: ClassVar[str] = "exact"

    def __init__(self, value: object) -> None:
        object.__setattr__(self, "key", literal_key(value))

    def __repr__(self) -> str:
        return self.describe()

    @property
    def values(self) -> tuple[JSON]:
        """The one value, as a copy."""
        return (value_of(self.key),)

    def permits(self, value: object) -> bool:
        """Return whether the value is equal."""
        try:
            return key_of(value) == self.key
        except ValueError:
            return False

    def covers(self, child: Constraint) -> bool:
        """Return whether the child is the same value."""
        return isinstance(child, Exact) and child.key == self.key

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "value": value_of(self.key)}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return _listing("Exact", (self.key,))


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class OneOf:
    """The argument equals one of the values, compared as :class:`Exact` does.

    Raises:
        ValueError: There is no value, or one is no plain value of JSON, or they are too many or large.
    """

    keys: tuple[Key, ...] = field(compare=False)
    allowed: frozenset[Key]
    kind: ClassVar[str] = "one_of"

    def __init__(self, *values: object) -> None:
        keys = literal_keys(values)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "allowed", frozenset(keys))

    def __repr__(self) -> str:
        return self.describe()

    @property
    def values(self) -> tuple[JSON, ...]:
        """The values, as copies."""
        return tuple(value_of(key) for key in self.keys)

    def permits(self, value: object) -> bool:
        """Return whether the value equals one of the listed ones."""
        try:
            return key_of(value) in self.allowed
        except ValueError:
            return False

    def covers(self, child: Constraint) -> bool:
        """Return whether the child is one of the values, or a subset of them."""
        if isinstance(child, Exact):
            return child.key in self.allowed
        return isinstance(child, OneOf) and child.allowed <= self.allowed

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "values": self.values}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return _listing("OneOf", self.keys)


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class NotOneOf:
    """The argument is a plain value of JSON, but none of the listed ones.

    Prefer a constraint that says what is allowed: an author who excludes values must think of all of them.

    Raises:
        ValueError: There is no value, or one is no plain value of JSON, or they are too many or large.
    """

    keys: tuple[Key, ...] = field(compare=False)
    excluded: frozenset[Key]
    kind: ClassVar[str] = "not_one_of"

    def __init__(self, *excluded: object) -> None:
        keys = literal_keys(excluded)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "excluded", frozenset(keys))

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is JSON and not excluded."""
        try:
            return key_of(value) not in self.excluded
        except ValueError:
            return False

    def covers(self, child: Constraint) -> bool:
        """Return whether the child excludes at least the same values."""
        return isinstance(child, NotOneOf) and child.excluded >= self.excluded

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "excluded": [value_of(key) for key in self.keys]}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return _listing("NotOneOf", self.keys)


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Range:
    """The argument is a number between two bounds. Booleans, NaN and infinities are not numbers.

    A ``Decimal`` is compared exactly, with a bound that has a fraction as it is spelled: 0.1 is one tenth.

    Args:
        min: Lower bound, or None for no bound.
        max: Upper bound, or None for no bound; at least one of the two is needed.
        min_inclusive: Whether the lower bound itself is permitted.
        max_inclusive: Whether the upper bound itself is permitted.

    Raises:
        TypeError: A bound is no ``int``, ``float`` or ``Decimal``, or a flag is no ``bool``.
        ValueError: There is no bound, one is not finite, or nothing lies between them.
    """

    min: int | float | None
    max: int | float | None
    min_inclusive: bool
    max_inclusive: bool
    kind: ClassVar[str] = "range"

    def __init__(
        self,
        min: float | Decimal | None = None,  # The name in the grant.
        max: float | Decimal | None = None,  # The name in the grant.
        *,
        min_inclusive: bool = True,
        max_inclusive: bool = True,
    ) -> None:
        low, high = _bound(min), _bound(max)
        flags: tuple[object, ...] = (min_inclusive, max_inclusive)
        if any(type(flag) is not bool for flag in flags):
            raise TypeError("min_inclusive or max_inclusive is not True or False")
        if low is None and high is None:
            raise ValueError("the Range has neither min nor max; write Wildcard() to permit everything")
        if low is not None and high is not None:
            both = min_inclusive and max_inclusive
            if low > high or (low == high and not both):
                raise ValueError("the Range has nothing between min and max; give a min below max")
        object.__setattr__(self, "min", low)
        object.__setattr__(self, "max", high)
        # Without the bound the flag has no meaning; one spelling keeps equal ranges equal.
        object.__setattr__(self, "min_inclusive", min_inclusive or low is None)
        object.__setattr__(self, "max_inclusive", max_inclusive or high is None)

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is a finite number between the bounds, compared without rounding."""
        number: float | Decimal
        low: float | Decimal | None
        high: float | Decimal | None
        if type(value) is DecimalText:
            number, low, high = Decimal(value), decimal_of(self.min), decimal_of(self.max)
        elif is_number(value):
            number, low, high = value, self.min, self.max
        else:
            return False
        if low is not None and (number < low or (number == low and not self.min_inclusive)):
            return False
        return high is None or number < high or (number == high and self.max_inclusive)

    def covers(self, child: Constraint) -> bool:
        """Return whether the child is a number in the range, or a range within it."""
        if isinstance(child, Exact):
            return self.permits(value_of(child.key))
        return isinstance(child, Range) and self._covers_low(child) and self._covers_high(child)

    def _covers_low(self, child: "Range") -> bool:
        if self.min is None:
            return True
        if child.min is None or child.min < self.min:
            return False
        return child.min > self.min or self.min_inclusive or not child.min_inclusive

    def _covers_high(self, child: "Range") -> bool:
        if self.max is None:
            return True
        if child.max is None or child.max > self.max:
            return False
        return child.max < self.max or self.max_inclusive or not child.max_inclusive

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant; defaults are left out."""
        return {"constraint_type": self.kind, **self._parts()}

    def _parts(self) -> dict[str, JSON]:
        parts: dict[str, JSON] = {}
        if self.min is not None:
            parts["min"] = self.min
        if self.max is not None:
            parts["max"] = self.max
        if not self.min_inclusive:
            parts["min_inclusive"] = False
        if not self.max_inclusive:
            parts["max_inclusive"] = False
        return parts

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return f"Range({', '.join(f'{name}={value!r}' for name, value in self._parts().items())})"


def _bound(value: object) -> int | float | None:
    if value is None:
        return None
    if type(value) is Decimal:
        return literal_number(value)
    if type(value) is not int and type(value) is not float:
        raise TypeError(f"the bound of the Range is {type(value).__name__}; give an int, a float or a Decimal")
    if not is_number(value):
        raise ValueError("the bound of the Range is NaN, an infinity or beyond every double; give a finite one")
    return literal_number(value)


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Contains:
    """The argument is an array that holds at least the named values.

    Raises:
        ValueError: There is no value, or one is no plain value of JSON, or they are too many or large.
    """

    keys: tuple[Key, ...] = field(compare=False)
    required: frozenset[Key]
    kind: ClassVar[str] = "contains"

    def __init__(self, *required: object) -> None:
        keys = literal_keys(required)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "required", frozenset(keys))

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is an array with all required elements."""
        elements = _elements(value)
        if elements is None:
            return False
        # Looking up in the few required values keeps chosen hash collisions among many elements harmless.
        missing = set(self.required)
        for element in elements:
            missing.discard(element)
        return not missing

    def covers(self, child: Constraint) -> bool:
        """Return whether the child requires at least the same values."""
        return isinstance(child, Contains) and child.required >= self.required

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "required": [value_of(key) for key in self.keys]}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return _listing("Contains", self.keys)


@final
@dataclass(frozen=True, slots=True, init=False, repr=False)
class Subset:
    """The argument is an array of listed values only; the empty array is one.

    Raises:
        ValueError: There is no value, or one is no plain value of JSON, or they are too many or large.
    """

    keys: tuple[Key, ...] = field(compare=False)
    allowed: frozenset[Key]
    kind: ClassVar[str] = "subset"

    def __init__(self, *allowed: object) -> None:
        keys = literal_keys(allowed)
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "allowed", frozenset(keys))

    def __repr__(self) -> str:
        return self.describe()

    def permits(self, value: object) -> bool:
        """Return whether the value is an array of allowed elements."""
        elements = _elements(value)
        return elements is not None and all(element in self.allowed for element in elements)

    def covers(self, child: Constraint) -> bool:
        """Return whether the child allows no other values."""
        return isinstance(child, Subset) and child.allowed <= self.allowed

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind, "allowed": [value_of(key) for key in self.keys]}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return _listing("Subset", self.keys)


@final
@dataclass(frozen=True, slots=True)
class Wildcard:
    """The argument must be there and may be any plain value of JSON."""

    kind: ClassVar[str] = "wildcard"

    def permits(self, value: object) -> bool:
        """Return whether the value is a plain value of JSON."""
        try:
            key_of(value)
        except ValueError:
            return False
        return True

    def covers(self, child: Constraint) -> bool:  # noqa: ARG002  Every kind permits values of JSON only.
        """Return True: every kind permits nothing but plain values of JSON."""
        return True

    def to_claim(self) -> dict[str, JSON]:
        """Return the constraint as claim of a grant."""
        return {"constraint_type": self.kind}

    def describe(self) -> str:
        """Return the constraint as written in Python."""
        return "Wildcard()"


LITERAL_KINDS: Final[tuple[type[Constraint], ...]] = (Exact, OneOf, NotOneOf, Range, Contains, Subset, Wildcard)
