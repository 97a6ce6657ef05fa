"""Forms and copies of dataclasses and models: equal values share one, values that differ never do."""

import copy
import dataclasses
import enum
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.dataclasses import dataclass as pydantic_dataclass

from agent_identity import canonical
from agent_identity._guard.calls.arguments import capture, form_bytes
from agent_identity._record.commitments import part


class Color(enum.Enum):
    """Members of several types."""

    RED = "red"
    ONE = "1"
    NUMBER = 1
    NOTHING = None
    PAIR = (1, "red")
    RATE = Decimal("0.1")


class Level(enum.IntEnum):
    """Members that are numbers."""

    LOW = 1
    HIGH = 2


class Access(enum.Flag):
    """Members that add up."""

    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Note:
    """A dataclass."""

    text: str
    rate: Decimal = Decimal(0)
    inner: "Note | None" = None


@dataclasses.dataclass(frozen=True, slots=True, weakref_slot=True, kw_only=True)
class Fixed:
    """A frozen dataclass with slots, and a field that no caller gives."""

    day: date
    at: time | None = None
    kind: str = dataclasses.field(init=False, default="fixed")


@pydantic_dataclass
class Checked:
    """A dataclass of pydantic."""

    amount: Decimal = Field(ge=0)


class Line(BaseModel):
    """A model with fields under other names."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    price: Decimal = Field(alias="cost")
    size: int | None = None


class Special(Line):
    """A model with a field more."""

    bonus: Decimal = Decimal(0)


class Names(RootModel[list[str]]):
    """A model that is a list."""


class Order(BaseModel):
    """A model of everything."""

    id: UUID
    at: datetime
    color: Color
    level: Level
    access: Access
    lines: list[Line]
    note: Note | None
    fixed: Fixed
    checked: Checked
    names: Names
    parts: dict[str, Decimal]


DECIMALS = st.one_of(
    st.decimals(-2, 2, places=2), st.sampled_from([Decimal("1.0"), Decimal(1), Decimal("-0.0"), Decimal("1E+2")])
)
ZONES = st.sampled_from([None, UTC, timezone(timedelta(hours=1)), ZoneInfo("Europe/Berlin"), ZoneInfo("Europe/Rome")])
TEXTS = st.sampled_from(["", "1", "red", "ä", "\U0001f600"])
DAYS = st.sampled_from([date(2026, 1, 1), date(2026, 7, 1)])
MOMENTS = st.builds(
    datetime, st.just(2026), st.sampled_from([1, 7]), st.just(1), st.sampled_from([0, 23]), tzinfo=ZONES
)
TIMES = st.builds(time, st.sampled_from([0, 1]), microsecond=st.sampled_from([0, 1]), tzinfo=ZONES)
NOTES = st.recursive(
    st.builds(Note, TEXTS, DECIMALS), lambda inner: st.builds(Note, TEXTS, DECIMALS, inner), max_leaves=2
)
LINES = st.one_of(
    st.builds(Line, cost=DECIMALS, size=st.none() | st.integers(0, 1)),
    st.builds(Special, cost=DECIMALS, size=st.none() | st.integers(0, 1), bonus=DECIMALS),
)
IDS = st.sampled_from([UUID(int=0), UUID(int=1)])
FIXED = st.builds(Fixed, day=DAYS, at=st.none() | TIMES)
CHECKED = st.builds(Checked, st.decimals(0, 1, places=1))
NAMES = st.builds(Names, st.lists(TEXTS, max_size=2))
ACCESS = st.sampled_from([Access(0), Access.READ, Access.WRITE, Access.READ | Access.WRITE])
ORDERS = st.builds(
    Order.model_construct,
    id=IDS,
    at=MOMENTS,
    color=st.sampled_from(Color),
    level=st.sampled_from(Level),
    access=ACCESS,
    lines=st.lists(LINES, max_size=1),
    note=st.none() | NOTES,
    fixed=FIXED,
    checked=CHECKED,
    names=NAMES,
    parts=st.dictionaries(st.sampled_from(["a", "ä"]), DECIMALS, max_size=2),
)
KINDS = [DECIMALS, MOMENTS, DAYS, TIMES, IDS, st.sampled_from(Color), ACCESS, NOTES, FIXED, CHECKED, NAMES, ORDERS]
PAIRS = st.one_of(st.tuples(kind, kind) for kind in (*KINDS, *map(st.lists, KINDS)))


def _state(value: object) -> object:
    """Return all that a value is made of, types included, read without the code under test."""
    if isinstance(value, BaseModel):
        return (type(value), {name: _state(item) for name, item in value.__dict__.items()})
    if isinstance(value, list):
        return [_state(item) for item in value]
    if dataclasses.is_dataclass(value):
        return (type(value), {field.name: _state(getattr(value, field.name)) for field in dataclasses.fields(value)})
    return value


@given(PAIRS)
@example((Decimal("0.1"), Decimal("0.1000000000000000055511151231257827021181583404541015625")))
@example((Decimal(2**53), Decimal(2**53 + 1)))
@example((Line(cost=Decimal(1)), Special(cost=Decimal(1), bonus=Decimal(5))))
@example((datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))))
def test_values_that_differ_never_share_a_form(pair: tuple[object, object]) -> None:
    """Two values of one declared type have one form only if they are equal; a copy has the same."""
    one, other = pair
    first, second = form_bytes(one), form_bytes(other)
    assert first is not None
    assert second is not None
    if first == second:
        assert _state(one) == _state(other) or _only_the_class_differs(one, other)
    assert form_bytes(copy.deepcopy(one)) == first


def _only_the_class_differs(one: object, other: object) -> bool:
    # Members of different types that compare equal: Decimal(1) and Decimal("1.0"), or moments in other zones, are one.
    return one == other


@given(st.one_of(KINDS))
def test_the_copy_is_equal_and_of_the_same_types(value: object) -> None:
    """The body gets the same types with the same contents, in objects of its own; form, digest and parts agree."""
    arguments = capture({"value": value}, ("value",))
    copied = arguments.values["value"]
    assert type(copied) is type(value)
    assert _state(copied) == _state(value)
    assert not _shared(copied, value)
    assert not arguments.opaque
    shown: Any = orjson.loads(arguments.canonical())
    assert arguments.canonical() == canonical.encode(shown)
    assert arguments.parts() == [part("value", shown["value"])]


def _shared(one: Any, other: Any) -> bool:
    """Return whether two values share an object that can be changed."""
    if isinstance(one, BaseModel):
        return one is other or any(_shared(one.__dict__[name], other.__dict__[name]) for name in one.__dict__)
    if isinstance(one, list):
        return one is other or any(map(_shared, one, other))
    if isinstance(one, dict):
        return one is other or any(_shared(one[name], other[name]) for name in one)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return one is other or any(_shared(getattr(one, name), getattr(other, name)) for name in names)
    return False


def test_a_value_within_bounds_counts_like_json() -> None:
    """What an object holds counts against the bounds of arguments, through all of its fields."""
    assert form_bytes(Names.model_construct(root=["x"] * 99_990)) is not None
    assert form_bytes(Names.model_construct(root=["x"] * 100_001)) is None
    assert form_bytes(object()) is None


class Undefined(BaseModel):
    """A model whose class is not complete."""

    next: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


def test_a_model_that_pydantic_cannot_describe_is_opaque() -> None:
    """Where nobody can tell what a class leaves out, its objects have no form."""
    assert form_bytes(Undefined.model_construct(next=1)) is None


@pytest.mark.parametrize("number", [Decimal("1E+999"), Decimal("-1E-999"), Decimal(10) ** 28 / 3])
def test_long_decimals_keep_all_their_digits(number: Decimal) -> None:
    """A form has as many digits as the number, and no exponent."""
    text = orjson.loads(form_bytes(number) or b"")["value"]
    assert Decimal(text) == number
    assert "E" not in text
