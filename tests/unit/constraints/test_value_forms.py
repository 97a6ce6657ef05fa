"""Forms of single values, decimals in constraints, and containers that are walked once."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Scope
from agent_identity._authority.grants.limits import amount_of
from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.value_forms import DecimalText, NoFormError, form_of, with_decimals
from agent_identity._constraints.values import Walked, key_of, literal_key, value_of, walked
from agent_identity.constraints import Contains, Exact, NotOneOf, OneOf, Range, Subset, Wildcard

DECIMALS = st.one_of(
    st.decimals(-10, 10, places=3),
    st.sampled_from([Decimal("0.1"), Decimal("0.30"), Decimal("1E+22"), Decimal("1E+23"), Decimal(2**53 + 1)]),
)
NUMBERS = st.one_of(
    st.integers(-10, 10), st.floats(-10, 10), st.sampled_from([0.1, 0.3, 1e22, 1e23, int(1e23), 2**53, -0.0])
)


@pytest.mark.parametrize("value", [object(), "text", 5, None, [1], {"a": 1}, b"b", {1}, DecimalText("5")])
def test_other_values_have_no_form(value: object) -> None:
    """What is JSON already, or no single value, is not for this module."""
    with pytest.raises(NoFormError):
        form_of(value)


@given(DECIMALS, DECIMALS)
def test_decimals_share_a_form_exactly_if_they_are_equal(one: Decimal, other: Decimal) -> None:
    """One spelling for each number, and the number comes back from it."""
    assert (form_of(one) == form_of(other)) == (one == other)
    assert Decimal(str(form_of(one))) == one
    assert with_decimals(str(form_of(one))) == form_of(one)


@given(DECIMALS, NUMBERS)
def test_a_decimal_equals_the_number_that_json_spells_so(number: Decimal, other: float) -> None:
    """A decimal has the key of a number exactly if the two are spelled alike, and a range agrees."""
    form = form_of(number)
    alike = number == (Decimal(repr(other)) if other != int(other) else Decimal(int(other)))
    assert (key_of(form) == literal_key(other)) == alike
    assert Exact(other).permits(form) == alike
    assert NotOneOf(other).permits(form) != alike
    assert Range(other, other).permits(form) == alike
    assert Wildcard().permits(form)


@given(DECIMALS, NUMBERS, NUMBERS, st.booleans())
def test_a_range_that_covers_another_permits_its_decimals(
    number: Decimal, high: float, wider: float, inclusive: bool
) -> None:
    """Attenuation holds for decimals as for numbers."""
    child, parent = Range(max=high, max_inclusive=inclusive), Range(max=wider)
    if parent.covers(child) and child.permits(form_of(number)):
        assert parent.permits(form_of(number))
    low, lower = Range(min=high, min_inclusive=inclusive), Range(min=wider)
    if lower.covers(low) and low.permits(form_of(number)):
        assert lower.permits(form_of(number))


def test_constraints_hold_the_forms_of_values() -> None:
    """Decimals stand in a grant as numbers, everything else as its text."""
    assert Exact(Decimal("5.0")) == Exact(5)
    assert OneOf(Decimal("0.10"), date(2026, 11, 24)).values == (0.1, "2026-11-24")
    assert Exact([Decimal(1), {"a": Decimal("2.5")}]).values == ([1, {"a": 2.5}],)
    assert Range(Decimal("0.5"), Decimal(3)) == Range(0.5, 3)
    assert Scope("t", at=datetime(2026, 1, 1, tzinfo=UTC)).to_claim() == {
        "t": {"at": {"constraint_type": "exact", "value": "2026-01-01T00:00:00+00:00"}}
    }
    assert value_of(literal_key(Decimal("1E+3"))) == 1000


LONG = "0.12345678901234567890123"


@pytest.mark.parametrize("constraint", [Exact(0.12345678901234568), Subset(0.12345678901234568), Exact(LONG)])
def test_a_decimal_that_no_double_spells_equals_none(constraint: Constraint) -> None:
    """The nearest double is another number, and text is none."""
    assert not constraint.permits(form_of(Decimal(LONG)))
    assert NotOneOf(0.12345678901234568).permits(form_of(Decimal(LONG)))
    assert not Contains(0.12345678901234568).permits([form_of(Decimal(LONG))])
    assert Range(0.1234567890123456, 0.1234567890123457).permits(form_of(Decimal(LONG)))


def test_a_decimal_beyond_every_double_satisfies_nothing() -> None:
    """As for integers: what a double overflows at has no key."""
    form = form_of(Decimal("1E+400"))
    assert not Wildcard().permits(form)
    assert not NotOneOf(1).permits(form)
    with pytest.raises(ValueError, match="larger than a double"):
        literal_key(Decimal("1E+400"))
    with pytest.raises(ValueError, match="no double spells"):
        literal_key(Decimal(LONG))
    with pytest.raises(ValueError, match="NaN or an infinity"):
        Range(max=Decimal("Infinity"))


@pytest.mark.parametrize(
    ("shown", "read"),
    [
        ("5", True),
        ("-0.5", True),
        ("1.50", False),
        ("01", False),
        ("-0", False),
        ("+5", False),
        ("1e5", False),
        ("٣", False),
        ("5" * 1_000, True),
        ("5" * 1_001, False),
        ("5" * 1_003, False),
        ("", False),
        ("NaN", False),
    ],
)
def test_only_the_one_spelling_is_read_as_a_decimal(shown: str, read: bool) -> None:
    """A verifier takes for a decimal what can be the form of one, and all else for text."""
    found = with_decimals({"a": [shown, (shown,), 5, None]})
    kind = DecimalText if read else str
    assert found == {"a": [shown, [shown], 5, None]}
    assert [type(found["a"][0]), type(found["a"][1][0])] == [kind, kind]  # type: ignore[index]


def test_amounts_count_in_their_form() -> None:
    """A limit rounds up what is finer than a millionth."""
    assert amount_of(form_of(Decimal("1.5"))) == 1_500_000
    assert amount_of(form_of(Decimal("1E-30"))) == 1
    assert amount_of(form_of(Decimal(-1))) is None


def test_a_container_is_walked_once() -> None:
    """Key, problem and members are found once; what is no container stays as it is."""
    value = walked({"a": [1], "b": 5})
    assert isinstance(value, Walked)
    assert key_of(value) == key_of({"a": [1], "b": 5})
    assert value.key() is value.key()
    assert value.member("a", None) is value.member("a", None)
    assert key_of(value.member("a", None)) == key_of([1])
    assert (value.member("b", None), value.member("c", "missing")) == (5, "missing")
    assert walked([1]).member("a", "missing") == "missing"  # type: ignore[attr-defined]
    assert walked(5) == 5
    assert walked(value) is value
    refused = Walked([object()])
    for _ in range(2):
        with pytest.raises(ValueError, match="plain value of JSON"):
            refused.key()
    assert Subset(1, 2).permits(walked([1]))
    assert not Contains(3).permits(walked([1]))
