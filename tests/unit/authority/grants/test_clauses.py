"""Which parts of a scope allowed a call: in the words of the grant, in its order, and without a value."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Scope
from agent_identity._authority.grants.scope import clauses_of
from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.value_forms import DecimalText
from agent_identity.constraints import (
    AllOf,
    AnyOf,
    Contains,
    EmailDomain,
    Exact,
    NotOneOf,
    OneOf,
    PathWithin,
    Prefix,
    Range,
    Subset,
    UrlWithin,
    Wildcard,
)

_CLAUSE = re.compile(r"x:[a-z_]+(?:\.[0-9]+|\.[a-z_]+){0,16}")


def branches(constraint: object, value: object) -> tuple[str, ...]:
    """Return the clauses of one argument, without its name."""
    found = clauses_of(Scope("t", x=constraint), "t", {"x": value})
    assert all(_CLAUSE.fullmatch(clause) for clause in found)
    return tuple(clause.removeprefix("x:") for clause in found)


@pytest.mark.parametrize(
    ("constraint", "value", "clauses"),
    [
        (5, 5, ("exact",)),
        (5, 6, ()),
        (OneOf("a", "b", 2), 2.0, ("one_of",)),
        (OneOf(["a"], {"b": 1}), {"b": 1}, ("one_of",)),
        (OneOf("a"), "b", ()),
        (NotOneOf("a"), "b", ("not_one_of",)),
        (Range(max=5), 5, ("range",)),
        (Range(max=Decimal("0.1")), DecimalText("0.1"), ("range",)),
        (Contains("a"), ["a", "b"], ("contains",)),
        (Subset("a", "b"), [], ("subset",)),
        (Wildcard(), None, ("wildcard",)),
        (PathWithin("/data"), "/data/x", ("path_within",)),
        (UrlWithin("https://x.example"), "https://x.example/y", ("url_within",)),
        (EmailDomain("x.example"), "a@x.example", ("email_domain",)),
        (Prefix("INV-"), "INV-1", ("prefix",)),
        (AnyOf(Exact(1), Range(max=5), Range(max=9)), 4, ("any.range",)),
        (AnyOf(Exact(1), Exact(2)), 3, ()),
        (AllOf(Range(min=1), OneOf(2, 3)), 3, ("all.range", "all.one_of")),
        (AllOf(Range(min=1), OneOf(2, 3)), 4, ()),
        (
            AnyOf(AllOf(Exact(1)), AllOf(Wildcard(), AnyOf(Exact(0), Exact(2)))),
            2,
            ("any.all.wildcard", "any.all.any.exact"),
        ),
    ],
)
def test_branches(constraint: object, value: object, clauses: tuple[str, ...]) -> None:
    """Each kind has its word, alternatives the first that permits, and all that must hold each its own."""
    assert branches(constraint, value) == clauses


def test_only_what_the_scope_names_has_clauses() -> None:
    """Arguments in the order of the scope; a tool that is open or absent, and arguments that are, have none."""
    scope = Scope("t", b=1, a=Range(max=5)) | Scope("open")
    assert clauses_of(scope, "t", {"a": 3, "b": 1, "c": 9}) == ("b:exact", "a:range")
    assert clauses_of(scope, "t", {"a": 3}) == ("a:range",)
    assert clauses_of(scope, "open", {"a": 3}) == clauses_of(scope, "absent", {"a": 3}) == ()


def test_what_is_nested_deep_is_named_by_the_branch_that_it_is_in() -> None:
    """A clause has at most 17 parts, equal ones are one, and a call at most 1,024 clauses."""
    deep: Constraint = Range(max=5)
    for _ in range(12):
        deep = AnyOf(deep)
    assert branches(deep, 1) == (".".join([*["any"] * 12, "range"]),)
    deep = AllOf(Range(max=5), Wildcard())
    for _ in range(9):
        deep = AnyOf(deep)
    assert len(branches(deep, 1)) == 2
    wide = AllOf(*[Wildcard() for _ in range(64)])
    names = [f"x{number}" for number in range(20)]
    assert len(clauses_of(Scope("t", **dict.fromkeys(names, wide)), "t", dict.fromkeys(names, 1))) == 20


@given(st.integers(-3, 8), st.lists(st.integers(-3, 8), min_size=1, max_size=5))
def test_there_is_a_clause_exactly_where_the_scope_permits(value: int, values: list[int]) -> None:
    """The clause of a list does not tell which of its values it was."""
    constraint = AnyOf(OneOf(*values), Range(min=7))
    found = branches(constraint, value)
    assert bool(found) is constraint.permits(value)
    if value in values:
        assert found == ("any.one_of",)
