"""Scope: which calls it lets through, what its refusals say, and how it narrows."""

import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Scope
from agent_identity._constraints.literals import Constraint
from agent_identity.canonical import decode, encode
from agent_identity.constraints import AllOf, AnyOf, Exact, OneOf, Range, Wildcard
from agent_identity.errors import AttenuationError, OutOfScope, TokenError


def refusal(scope: Scope, tool: str, supplied: dict[str, object], **defaults: object) -> OutOfScope:
    """Return the refusal of a call."""
    with pytest.raises(OutOfScope) as refused:
        scope.check(tool, defaults | supplied, supplied.keys())
    return refused.value


def test_plain_values_mean_exactly_equal() -> None:
    """A plain value in a scope is an exact constraint."""
    scope = Scope("pay", amount=5, currency="EUR")
    assert scope == Scope({"pay": {"amount": Exact(5), "currency": Exact("EUR")}})
    scope.check("pay", {"amount": 5, "currency": "EUR"}, ["amount", "currency"])


@pytest.mark.parametrize("tools", [{"pay": None}, {"pay": ()}, {"pay": {}}])
def test_a_tool_without_arguments_is_open(tools: dict[str, None]) -> None:
    """An open tool takes any arguments, even such as no constraint would accept."""
    scope = Scope(tools)
    assert scope == Scope("pay")
    scope.check("pay", {"anything": object()}, ["anything"])
    scope.check("pay", {}, [])


def test_arguments_may_have_any_name() -> None:
    """Names that Python or the constructor use themselves are names of arguments like others."""
    scope = Scope("t", tools=1, self=2)
    assert set(scope.tools["t"]) == {"tools", "self"}


def test_named_arguments_close_the_world() -> None:
    """As soon as one argument is named, a caller may give no other; defaults of the tool are fine."""
    scope = Scope("pay", amount=Range(max=9))
    scope.check("pay", {"amount": 3, "note": "default"}, ["amount"])
    denied = refusal(scope, "pay", {"amount": 3, "note": "x"})
    assert denied.code == "argument_not_granted"
    assert "Scope('pay', note=Exact(...))" in str(denied)


def test_the_default_of_a_named_argument_is_checked() -> None:
    """What the caller leaves out is judged by the default that the body would get."""
    scope = Scope("pay", amount=Range(max=100))
    assert refusal(scope, "pay", {}, amount=5000).code == "argument_out_of_scope"
    scope.check("pay", {"amount": 50}, [])


def test_a_named_argument_must_be_there() -> None:
    """A constrained argument cannot be left out."""
    denied = refusal(Scope("pay", amount=Range(max=9)), "pay", {})
    assert denied.code == "argument_missing"
    assert "'amount'" in str(denied)


def test_an_ungranted_tool_is_refused_with_the_way_out() -> None:
    """The refusal names the tool and what to write."""
    denied = refusal(Scope("pay"), "wipe", {})
    assert denied.code == "tool_not_granted"
    assert "Scope('wipe')" in str(denied)


def test_a_refusal_names_the_argument_and_never_its_value() -> None:
    """The message helps without repeating what the caller sent or what the scope allows."""
    scope = Scope("pay", amount=Range(max=31337)) | Scope({"send": {"to-whom": OneOf("allowed-value")}})
    denied = refusal(scope, "pay", {"amount": 987654})
    assert str(denied) == (
        "argument 'amount' of tool 'pay' is outside its Range; widen the scope: Scope('pay', amount=Range(...))"
    )
    denied = refusal(scope, "send", {"to-whom": "hunter2"})
    assert str(denied) == (
        "argument 'to-whom' of tool 'send' is outside its OneOf; "
        "widen the scope: Scope({'send': {'to-whom': OneOf(...)}})"
    )


def test_hostile_names_do_not_reach_the_message() -> None:
    """Names come from a model too; such as could forge log lines or carry data are not repeated."""
    for name in ("a\nb", "x" * 500, "ключ", "a b"):
        denied = refusal(Scope("pay", amount=1), "pay", {"amount": 1, name: 2})
        assert name not in str(denied)
        assert "(unprintable)" in str(denied)
        assert name not in str(refusal(Scope("pay"), name, {}))


def test_union_joins_tools() -> None:
    """Both sides' tools are in the union; a tool on both sides would have two meanings."""
    scope = Scope("a", x=1) | Scope("b")
    assert set(scope.tools) == {"a", "b"}
    with pytest.raises(ValueError, match="both"):
        scope | Scope("b", y=1)


def test_scopes_are_values() -> None:
    """Scopes compare, hash, pickle and copy by content, and nothing in them can be changed."""
    scope = Scope({"a": {"x": 1, "y": [1, {"z": None}]}, "b": None})
    twin = Scope({"b": {}, "a": {"y": Exact([1, {"z": None}]), "x": 1.0}})
    assert scope == twin
    assert hash(scope) == hash(twin)
    assert pickle.loads(pickle.dumps(scope)) == scope  # noqa: S301
    assert copy.deepcopy(scope) == scope
    assert "Exact(1)" in repr(scope)
    with pytest.raises(TypeError):
        scope.tools["c"] = {}  # type: ignore[index]
    with pytest.raises(TypeError):
        scope.tools["a"]["x"] = Wildcard()  # type: ignore[index]
    with pytest.raises(AttributeError):
        scope.tools = {}  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ((1,), TypeError),
        (({},), ValueError),
        (({f"t{n}": None for n in range(257)},), ValueError),
        (({"t": 1},), TypeError),
        (({"t": [("x", 1)]},), TypeError),
        (({1: None},), TypeError),
        (("",), ValueError),
        (("a b",), ValueError),
        (("x" * 129,), ValueError),
        (("tööl",), ValueError),
        (("tool\n",), ValueError),
        (({"t": {f"a{n}": 1 for n in range(65)}},), ValueError),
        (({"t": {1: 1}},), TypeError),
        (({"t": {"\ud800": 1}},), TypeError),
        (({"t": {"": 1}},), ValueError),
        (({"t": {"a\n": 1}},), ValueError),
        (({"t": {"a": math.nan}},), ValueError),
        (({"t": {"a": object()}},), ValueError),
        (({"t": {"a": Wildcard}},), TypeError),
    ],
)
def test_malformed_scopes_are_refused(arguments: tuple[str], kind: type[Exception]) -> None:
    """Names and values out of bounds are refused where they are written."""
    with pytest.raises(kind):
        Scope(*arguments)


def test_a_mapping_takes_no_further_arguments() -> None:
    """Arguments beside a mapping of tools would belong to none of them."""
    with pytest.raises(TypeError, match="outside the mapping"):
        Scope({"t": None}, amount=1)


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        ({}, "bad_scope"),
        ({"t": 1}, "bad_scope"),
        ({"t": None}, "bad_scope"),
        ({"a b": {}}, "bad_scope"),
        ({"t": {"a": 1}}, "bad_constraint"),
        ({"t": {"a": {"constraint_type": "x-new"}}}, "unknown_constraint"),
    ],
)
def test_malformed_claims_are_refused(claim: dict[str, object], code: str) -> None:
    """What a grant says is read strictly: null is not the empty object."""
    with pytest.raises(TokenError) as refused:
        Scope.from_claim(claim)
    assert refused.value.code == code


def test_attenuation_names_what_is_wrong() -> None:
    """Each way of widening has a code and a message that names tool and argument."""
    parent = Scope("pay", amount=Range(max=100)) | Scope("list")
    parent.check_attenuates(Scope("pay", amount=Range(max=9)))
    parent.check_attenuates(Scope("list", anything=1))
    for child, code, word in [
        (Scope("wipe"), "tool_not_attenuated", "wipe"),
        (Scope("pay"), "argument_not_attenuated", "missing"),
        (Scope("pay", amount=1, note=1), "argument_not_attenuated", "added"),
        (Scope("pay", note=1), "argument_not_attenuated", "amount"),
        (Scope("pay", amount=Range(max=101)), "argument_not_attenuated", "amount"),
    ]:
        with pytest.raises(AttenuationError, match=word) as refused:
            parent.check_attenuates(child)
        assert refused.value.code == code
        assert "101" not in str(refused.value)


VALUES = st.sampled_from([0, 1, 2.0, 3, "a", "b", True, None, [1], math.nan, 10**400, "\ud800"])
LEAVES: st.SearchStrategy[Constraint] = st.one_of(
    st.sampled_from([0, 1, 2, 3, "a", "b"]).map(Exact),
    st.lists(st.sampled_from([0, 1, 2, 3, "a", "b"]), min_size=1).map(lambda values: OneOf(*values)),
    st.integers(0, 3).map(lambda high: Range(0, high)),
    st.just(Wildcard()),
)
CONSTRAINTS = LEAVES | st.lists(LEAVES, min_size=1, max_size=2).flatmap(
    lambda clauses: st.sampled_from([AllOf(*clauses), AnyOf(*clauses)])
)
ARGUMENTS = st.dictionaries(st.sampled_from("xyz"), CONSTRAINTS, max_size=2)
SCOPES = st.dictionaries(st.sampled_from(["s", "t"]), ARGUMENTS, min_size=1).map(Scope)
CALLS = st.tuples(
    st.sampled_from(["s", "t"]), st.dictionaries(st.sampled_from("xyz"), VALUES), st.sets(st.sampled_from("xyz"))
)


def passes(scope: Scope, call: tuple[str, dict[str, object], set[str]]) -> bool:
    """Tell whether the scope lets the call through."""
    tool, arguments, kept = call
    try:
        scope.check(tool, arguments, arguments.keys() & kept)
    except OutOfScope:
        return False
    return True


@given(parent=SCOPES, child=SCOPES, calls=st.lists(CALLS, min_size=1, max_size=10))
def test_a_parent_scope_permits_whatever_an_attenuated_child_permits(
    parent: Scope, child: Scope, calls: list[tuple[str, dict[str, object], set[str]]]
) -> None:
    """Attenuation of scopes is sound for every call."""
    try:
        parent.check_attenuates(child)
    except AttenuationError:
        return
    assert [call for call in calls if passes(child, call) and not passes(parent, call)] == []


@given(scope=SCOPES, call=CALLS)
def test_a_scope_survives_its_encoding(scope: Scope, call: tuple[str, dict[str, object], set[str]]) -> None:
    """What is read out of a grant equals what was put in, judges alike and covers itself."""
    claim = decode(encode(scope.to_claim()))
    assert isinstance(claim, dict)
    again = Scope.from_claim(claim)
    assert again == scope
    assert passes(again, call) is passes(scope, call)
    scope.check_attenuates(again)


def test_an_object_is_refused_with_a_way_out() -> None:
    """The message does not advise to write the constraint that is written already."""
    with pytest.raises(OutOfScope, match="no constraint can judge") as caught:
        Scope("book", cabin=Wildcard()).check("book", {"cabin": object()}, ("cabin",))
    assert (caught.value.code, caught.value.argument) == ("argument_out_of_scope", "cabin")
