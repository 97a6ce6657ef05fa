"""Optional arguments, unnamed arguments, and what a grant may not hold."""

from collections.abc import Mapping

import pytest

from agent_identity import Scope
from agent_identity._authority.grants.scope import clauses_of
from agent_identity._constraints.registry import constraint_from_claim
from agent_identity.constraints import AllOf, AnyOf, Exact, IfGiven, OneOf, Range, Wildcard
from agent_identity.errors import AttenuationError, OutOfScope, TokenError

ANY = {"constraint_type": "wildcard"}
NAMED: dict[str, object] = {"path": "/a", "head": IfGiven(Range(max=200)), "tail": IfGiven(Range(max=200))}
OPEN = Scope({"read": {**NAMED, "*": Wildcard()}})
CLOSED = Scope({"read": NAMED})


def passes(scope: Scope, arguments: Mapping[str, object], supplied: Mapping[str, object] | None = None) -> str | None:
    """Return the code with which a scope refuses a call, or ``None``."""
    try:
        scope.check("read", arguments, arguments if supplied is None else supplied)
    except OutOfScope as refused:
        return refused.code
    return None


def narrows(parent: Scope, arguments: Mapping[str, object]) -> str | None:
    """Return the reason why a child with these arguments is refused, or ``None``."""
    child = Scope({"read": dict(arguments)})
    excess = parent.excess(child)
    if excess is None:
        parent.check_attenuates(child)
        return None
    with pytest.raises(AttenuationError) as refused:
        parent.check_attenuates(child)
    assert refused.value.code == "argument_not_attenuated"
    return excess.how


def test_an_optional_argument_may_be_left_out_and_is_judged_if_it_is_there() -> None:
    """Without it the tool's default counts, whatever it is; a given value satisfies the constraint."""
    assert passes(CLOSED, {"path": "/a"}) is None
    assert passes(CLOSED, {"path": "/a", "head": None}, {"path": "/a"}) is None
    assert passes(CLOSED, {"path": "/a", "head": 100}) is None
    assert passes(CLOSED, {"path": "/a", "head": 500}) == "argument_out_of_scope"
    assert passes(CLOSED, {"path": "/a", "head": None}) == "argument_out_of_scope"
    assert passes(CLOSED, {"head": 1}) == "argument_missing"
    with pytest.raises(OutOfScope, match="outside its Range"):
        CLOSED.check("read", {"path": "/a", "head": 500}, ("path", "head"))


def test_unnamed_arguments_pass_only_under_a_star() -> None:
    """A star admits arguments that are not named, among them one that is named so; without it there are none."""
    for name in ("encoding", "*"):
        assert passes(OPEN, {"path": "/a", name: "utf-8"}) is None
        assert passes(CLOSED, {"path": "/a", name: "utf-8"}) == "argument_not_granted"
    assert passes(OPEN, {"path": "/a", "head": 500}) == "argument_out_of_scope"
    assert passes(OPEN, {"encoding": "utf-8"}) == "argument_missing"
    assert Scope({"read": {"*": Wildcard()}}) == Scope("read")


def test_a_child_narrows_optional_and_unnamed_arguments_by_the_rules_of_the_profile() -> None:
    """Required may stand under optional, and names under a star; nothing comes back that the parent forbids."""
    path, head, tail, star = ({name: OPEN.tools["read"][name]} for name in ("path", "head", "tail", "*"))
    assert narrows(CLOSED, path | {"head": Range(max=100)}) is None
    assert narrows(CLOSED, path | {"head": IfGiven(Range(max=100))}) is None
    assert narrows(CLOSED, path | {"head": IfGiven(Range(max=201))}) == "wider"
    assert narrows(CLOSED, path) is None
    assert narrows(CLOSED, head | tail) == "dropped"
    assert narrows(CLOSED, {"path": IfGiven("/a")} | head) == "optional"
    assert narrows(CLOSED, path | head | tail | star) == "added"
    assert narrows(CLOSED, path | {"encoding": Wildcard()}) == "added"
    assert narrows(CLOSED, {}) == "dropped"
    assert narrows(OPEN, path | head | tail | star | {"encoding": IfGiven("utf-8")}) is None
    assert narrows(OPEN, path | head | tail) is None
    assert narrows(OPEN, path) is None
    assert narrows(OPEN, path | tail | star) == "dropped"
    assert narrows(OPEN, {}) == "dropped"
    assert narrows(Scope("read"), path | star) is None
    assert narrows(Scope("read"), {}) is None


def test_they_survive_the_grant() -> None:
    """The claim is that of the profile, and reads back as the same scope; no other form is read."""
    claim = OPEN.to_claim()
    assert claim["read"] == {
        "path": {"constraint_type": "exact", "value": "/a"},
        "head": {"constraint_type": "range", "max": 200, "optional": True},
        "tail": {"constraint_type": "range", "max": 200, "optional": True},
        "*": ANY,
    }
    assert Scope.from_claim(claim) == OPEN
    assert Scope.from_claim({"read": {"*": ANY}}) == Scope("read")
    assert Scope.from_claim({"read": {"x": ANY | {"optional": False}}}) == Scope("read", x=Wildcard())
    with pytest.raises(TokenError):
        Scope.from_claim([])
    nested = {"constraint_type": "all", "constraints": [ANY | {"optional": True}]}
    for arguments in (
        {"x": ANY | {"optional": 1}},
        {"x": ANY | {"optional": None}},
        {"*": ANY | {"optional": True}},
        {"*": ANY | {"optional": False}},
        {"*": {"constraint_type": "range", "max": 5}, "x": ANY},
        {"x": nested},
    ):
        with pytest.raises(TokenError):
            Scope.from_claim({"read": arguments})


def test_an_optional_argument_is_a_value() -> None:
    """It compares, shows and judges as what it holds; it stands only directly at an argument."""
    assert repr(IfGiven("a")) == "IfGiven(Exact('a'))"
    assert IfGiven("a") == IfGiven(Exact("a")) != IfGiven("b")
    assert IfGiven([1]) == IfGiven(OneOf([1])) == IfGiven(Exact([1]))
    assert IfGiven(1).permits(1.0)
    assert not IfGiven(1).permits(2)
    with pytest.raises(TypeError, match="once"):
        IfGiven(IfGiven(1))
    with pytest.raises(TypeError, match="class"):
        IfGiven(Range)
    for combined in (AllOf, AnyOf):
        with pytest.raises(TypeError, match="clause"):
            combined(IfGiven(1))
    with pytest.raises(ValueError, match="unnamed"):
        Scope({"read": {"path": 1, "*": Range(max=1)}})


def test_clauses_name_what_judged() -> None:
    """An optional argument has the clause of its constraint, and unnamed ones have none."""
    call = {"path": "/a", "head": 7, "*": 1, "encoding": "x"}
    assert clauses_of(OPEN, "read", call) == ("path:exact", "head:range")


def test_what_is_not_well_formed_in_the_profile_is_refused() -> None:
    """A flag without its bound, an exact array, and numbers that others would round are in no grant of ours."""
    for claim in (
        {"constraint_type": "range", "max": 5, "min_inclusive": True},
        {"constraint_type": "range", "min": 5, "max_inclusive": False},
        {"constraint_type": "exact", "value": [1]},
        {"constraint_type": "exact", "value": {}},
        {"constraint_type": "exact", "value": 2**53 + 1},
        {"constraint_type": "range", "max": 2**53 + 1},
    ):
        with pytest.raises(TokenError) as refused:
            constraint_from_claim(claim)
        assert refused.value.code == "bad_constraint"
    nested = Scope("t", x=AnyOf(Exact([1]), AllOf(Exact(1), Exact({}))))
    assert nested == Scope("t", x=AnyOf(OneOf([1]), AllOf(Exact(1), OneOf({}))))
    assert Scope.from_claim(nested.to_claim()) == Scope("t", x=AnyOf(Exact([1]), AllOf(Exact(1), Exact({}))))
    assert Scope("t", x=2**53 + 2).to_claim()["t"] == {"x": {"constraint_type": "exact", "value": 2**53 + 2}}
    for rounded in (2**53 + 1, Range(min=2**53 + 1), OneOf([[2**53 + 1]])):
        with pytest.raises(ValueError, match="double"):
            Scope("t", x=rounded)
