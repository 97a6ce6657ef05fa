"""Conditions: what they can look at, and their three answers against an independent evaluator."""

import math
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Effect, Finding, Human, Request, Rule, Service
from agent_identity._constraints.literals import Constraint
from agent_identity._identity.principals.principals import principal_from_claim
from agent_identity._policy.language.checks import Leaf
from agent_identity._policy.language.conditions import parse_condition
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
from agent_identity.errors import PolicyFormatError
from agent_identity.policy import Tool

MISSING = object()
OPAQUE = object()


def answer(when: Mapping[str, object], request: Request) -> bool | None:
    """Return the answer of a condition."""
    return parse_condition(when, ()).compile()(request)


def about(spec: object, *value: object) -> bool | None:
    """Return the answer about one argument, which is missing unless given."""
    return answer({"args.x": spec}, Request(Tool("t"), {"x": value[0]} if value else {}))


ALICE = principal_from_claim(
    {
        "id": "alice@example.com",
        "kind": "human",
        "issuer": "https://id.example.com",
        "provenance": "verified",
        "roles": ["clerk"],
    }
)
FULL = Request(
    Tool("pay", kind="mcp", server="bank", labels=("money",)),
    {"amount": 50, "to": {"country": "DE", "bank": {"name": "B"}}},
    principal=ALICE,
    agent=Agent("bot", owner="ops@example.com", version="2"),
    chain_depth=1,
    task_id="task-1",
    purpose="pay INV-42",
    findings=(
        Finding(category="iban", inspector="patterns", field="to", severity="low"),
        Finding(category="api_key", inspector="entropy", severity="high"),
    ),
    data=("personal",),
    stage="result",
)
BARE = Request(Tool("pay"), {})


@pytest.mark.parametrize(
    ("name", "spec", "in_bare"),
    [
        ("tool.name", "pay", True),
        ("tool.kind", "mcp", False),
        ("tool.server", "bank", None),
        ("tool.labels", Contains("money"), None),
        ("args.amount", 50, None),
        ("args.to.country", "DE", None),
        ("args.to.bank.name", "B", None),
        ("principal.id", "alice@example.com", None),
        ("principal.kind", "human", None),
        ("principal.issuer", "https://id.example.com", None),
        ("principal.roles", Contains("clerk"), None),
        ("principal.provenance", "verified", None),
        ("agent.id", "bot", None),
        ("agent.owner", EmailDomain("example.com"), None),
        ("agent.version", "2", None),
        ("agent.provenance", "asserted", None),
        ("chain.depth", Range(min=1), False),
        ("chain.has_human", True, False),
        ("task.id", "task-1", None),
        ("task.purpose", Prefix("pay "), None),
        ("findings.categories", Contains("api_key", "iban"), False),
        ("findings.inspectors", Subset("entropy", "patterns"), True),
        ("findings.fields", Contains("to"), False),
        ("findings.count", 2, False),
        ("findings.max_severity", "high", False),
        ("findings.stage", "result", False),
        ("data.labels", Contains("personal"), None),
    ],
)
def test_every_attribute_is_read_from_its_place(name: str, spec: object, in_bare: object) -> None:
    """Each attribute is true of a full request; in a bare one it is missing, or an empty value."""
    assert answer({name: spec}, FULL) is True
    assert answer({name: spec}, BARE) is in_bare


def test_a_service_is_no_human() -> None:
    """The kind is part of the identity, and a service is no human behind the chain."""
    request = BARE._replace(principal=Service("cron"))
    assert answer({"principal.kind": "service"}, request) is True
    assert answer({"chain.has_human": True}, request) is False
    assert answer({"principal.issuer": {"exists": False}}, request) is True


def test_without_findings_the_severity_is_none() -> None:
    """A rule about the severity of findings is decidable when there are none."""
    assert answer({"findings.max_severity": "none"}, BARE) is True


CASES = {
    "exact": (Exact("a"), "a", "b", [5, None, True, 1.5, ["a"], {}]),
    "exact number": (Exact(1), 1.0, 2, ["1", True, None, [1]]),
    "exact boolean": (Exact(value=True), True, False, [1, 0, "true", None]),
    "exact list": (Exact([1, 2]), (1, 2), [1], ["1", 1, {}, None]),
    "exact object": (Exact({"a": 1}), {"a": 1}, {}, [[], "a", None]),
    "one_of": (OneOf("a", 1), 1, "b", [True, None, []]),
    "one_of booleans": (OneOf(True, "x"), True, False, [1, None]),
    "not_one_of": (NotOneOf("a"), "b", "a", [5, None, True]),
    "not_one_of numbers": (NotOneOf(1, 2.5), 3, 2.5, ["1", True, None]),
    "not_one_of lists": (NotOneOf([1]), [2], (1,), ["1", 1, None]),
    "range": (Range(min=1, max=2, max_inclusive=False), 1, 2, ["1", True, None, [1], 10**400]),
    "contains": (Contains("a"), ["a", 1], [], ["a", None, {"a": 1}]),
    "subset": (Subset("a"), (), ["b"], ["a", None, 1]),
    "path_within": (PathWithin("/data"), "/data/x", "/etc", [5, None, "/data/../etc", "C:/x", "//data", ""]),
    "url_within": (
        UrlWithin("https://a.example/v1"),
        "https://A.example/v1/x?q=1#f",
        "https://b.example/v1?q",
        [5, None, "https://a.example/v1/../x", "https://u@b.example/", "javascript:x", "https://b.example/?q=ä"],
    ),
    "email_domain": (
        EmailDomain("a.example"),
        "x@A.example",
        "x@b.example",
        [5, None, "x", "X <x@b.example>", "a@b@c"],
    ),
    "prefix": (Prefix("INV-"), "INV-1", "inv-1", [5, None, ["INV-"]]),
}


@pytest.mark.parametrize(("spec", "yes", "no", "neither"), CASES.values(), ids=CASES)
def test_each_constraint_has_three_answers(spec: Constraint, yes: object, no: object, neither: list[object]) -> None:
    """A constraint in a rule is true, false, or undecidable for what it cannot judge."""
    assert about(spec, yes) is True
    assert about(spec, no) is False
    assert [about(spec, value) for value in neither] == [None] * len(neither)
    assert about({"any": [spec, {"exists": False}]}, no) is False


@pytest.mark.parametrize("spec", [case[0] for case in CASES.values()] + [Wildcard(), Exact(None)])
@pytest.mark.parametrize(
    "value",
    [
        OPAQUE,
        math.nan,
        math.inf,
        Fraction(1),
        [OPAQUE],
        {"a": math.nan},
        {1: "a"},
        "\ud800",
        type("Text", (str,), {})("a"),
    ],
    ids=["opaque", "nan", "inf", "fraction", "in a list", "nan inside", "number key", "surrogate", "subclass"],
)
def test_what_is_not_json_is_undecidable(spec: Constraint, value: object) -> None:
    """No rule can judge a value that is not JSON, not even a wildcard; nor a missing one."""
    assert about(spec, value) is None
    assert about(spec) is None


@pytest.mark.parametrize(
    ("spec", "value", "expected"),
    [
        (Exact(None), None, True),
        (Exact(None), "x", False),
        (Exact(None), [1], False),
        (OneOf("a", None), None, True),
        (OneOf("a", None), "b", False),
        (OneOf("a", None), 5, None),
        (NotOneOf(None), 5, True),
        (NotOneOf(None), None, False),
        (NotOneOf("a", None), None, False),
        (Wildcard(), None, True),
    ],
)
def test_null_is_comparable_only_where_it_is_named(spec: Constraint, value: object, expected: object) -> None:
    """Null is like a missing value, except for constraints that name it: they can always tell."""
    assert about(spec, value) is expected


@pytest.mark.parametrize(
    ("value", "exists"),
    [((), False), ((None,), True), ((5,), True), ((OPAQUE,), True), (([],), True)],
    ids=["missing", "null", "number", "opaque", "list"],
)
def test_only_exists_can_tell_that_an_argument_is_missing(value: tuple[object, ...], exists: object) -> None:
    """Existence is always decidable for a whole argument, whatever its value is."""
    assert about({"exists": True}, *value) is exists
    assert about({"exists": False}, *value) is (exists is False)


@pytest.mark.parametrize(
    ("arguments", "exists"),
    [
        ({"a": {"b": 1}}, True),
        ({"a": {"b": None}}, True),
        ({"a": {}}, False),
        ({}, False),
        ({"a": None}, False),
        ({"a": 5}, False),
        ({"a": [1]}, False),
        ({"a": {"c": {"b": 1}}}, False),
        ({"a.b": 1}, False),
        ({"a": OPAQUE}, None),
        ({"a": MappingProxyType({"b": 1})}, None),
    ],
)
def test_members_inside_opaque_values_are_undecidable(arguments: dict[str, object], exists: object) -> None:
    """A member is there or not in what is JSON; inside an opaque value nobody can look."""
    assert answer({"args.a.b": {"exists": True}}, Request(Tool("t"), arguments)) is exists


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -2.0])
    | st.sampled_from(["", "a", "1", "é"]),
    lambda parts: st.lists(parts, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), parts, max_size=2),
    max_leaves=4,
)
some_values = st.lists(json_values, min_size=1, max_size=3)
constraints: st.SearchStrategy[Constraint] = st.one_of(
    json_values.map(Exact),
    some_values.map(lambda values: OneOf(*values)),
    some_values.map(lambda values: NotOneOf(*values)),
    some_values.map(lambda values: Contains(*values)),
    some_values.map(lambda values: Subset(*values)),
    st.integers(-3, 3).map(lambda low: Range(min=low)),
    st.just(Wildcard()),
)


@given(constraint=constraints, value=json_values)
def test_a_decided_answer_is_that_of_the_constraint(constraint: Constraint, value: object) -> None:
    """Where a rule can decide it answers as the grant would; where it cannot the grant refuses or excludes."""
    verdict = about(constraint, value)
    if verdict is not None:
        assert verdict is constraint.permits(value)
    else:
        assert isinstance(constraint, NotOneOf) or not constraint.permits(value)


# The independent evaluator: truth as numbers, after Kleene. All is the least, any the greatest part.
TRUTH = {0.0: False, 0.5: None, 1.0: True}
leaves = st.sampled_from(
    [
        ({"args.x": 1}, lambda a: _compare(a.get("x", MISSING), int, lambda v: v == 1)),
        ({"args.x": "1"}, lambda a: _compare(a.get("x", MISSING), str, lambda v: v == "1")),
        ({"args.y": {"range": {"min": 2}}}, lambda a: _compare(a.get("y", MISSING), int, lambda v: v >= 2)),
        ({"args.y": {"one_of": [1, 3]}}, lambda a: _compare(a.get("y", MISSING), int, lambda v: v in (1, 3))),
        ({"args.y": {"exists": True}}, lambda a: float("y" in a)),
        (
            {"args.x": {"any": [1, {"exists": False}]}},
            lambda a: 1.0 if "x" not in a else _compare(a["x"], int, lambda v: v == 1),
        ),
        (
            {"args.x": {"all": [{"range": {"min": 1}}, {"range": {"max": 2}}]}},
            lambda a: _compare(a.get("x", MISSING), int, lambda v: 1 <= v <= 2),
        ),
    ]
)


def _compare(value, kind, test):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return float(test(value)) if type(value) is kind else 0.5


def _all(parts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return {"all": [spelled for spelled, _ in parts]}, lambda a: min(truth(a) for _, truth in parts)


def _any(parts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return {"any": [spelled for spelled, _ in parts]}, lambda a: max(truth(a) for _, truth in parts)


def _not(part):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return {"not": part[0]}, lambda a: 1 - part[1](a)


def _both(parts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    first, second = parts
    return {"not": first[0], "all": [second[0]]}, lambda a: min(1 - first[1](a), second[1](a))


conditions = st.recursive(
    leaves,
    lambda parts: (
        st.lists(parts, min_size=1, max_size=3).map(_all)
        | st.lists(parts, min_size=1, max_size=3).map(_any)
        | parts.map(_not)
        | st.tuples(parts, parts).map(_both)
    ),
    max_leaves=8,
)
arguments = st.dictionaries(
    st.sampled_from(["x", "y"]), st.integers(0, 4) | st.sampled_from(["1", None, True, [1], 1.5j, OPAQUE])
)


@given(condition=conditions, arguments=arguments)
def test_three_valued_logic_is_kleenes(
    condition: tuple[dict[str, object], object], arguments: dict[str, object]
) -> None:
    """Every condition answers as an independent evaluator of Kleene's strong logic."""
    spelled, truth = condition
    assert answer(spelled, Request(Tool("t"), arguments)) is TRUTH[truth(arguments)]  # type: ignore[operator]


def test_combined_constraint_objects_are_three_valued_as_well() -> None:
    """``AllOf`` and ``AnyOf`` decide what their clauses leave open only where one clause settles it."""
    assert about(AnyOf(Exact("all"), Range(max=5)), 3) is True
    assert about(AnyOf(Exact("all"), Range(max=5)), 9) is None
    assert about(AllOf(Range(min=1), AnyOf(Range(max=5), Range(min=7))), 6) is False
    assert about(AllOf(Range(min=1)), "1") is None


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({}, "condition is empty"),
        ([], "a condition is a list"),
        ("x", "is a string"),
        ({1: 2}, "strings as keys"),
        ({"amount": 5}, "unknown namespace 'amount'"),
        ({"args": 5}, "argument path is malformed"),
        ({"args.": 5}, "argument path is malformed"),
        ({"args.a..b": 5}, "argument path is malformed"),
        ({"args.a\n": 5}, "argument path is malformed"),
        ({"args." + "x" * 257: 5}, "argument path is malformed"),
        ({"principal": "x"}, "unknown attribute 'principal'; use one of principal.id, principal.issuer"),
        ({"principal.name": "x"}, "unknown attribute 'principal.name'"),
        ({"user.name": "x"}, "unknown namespace 'user'"),
        ({"x" * 300: 5}, "unknown namespace 'x{40}…'"),
        ({"all": []}, "all: the value is an empty list"),
        ({"all": {"args.x": 1}}, "is a mapping"),
        ({"any": None}, "is null"),
        ({"not": []}, "is a list"),
        ({"not": {}}, "condition is empty"),
        ({"args.x": [1]}, "write one_of"),
        ({"args.x": (1,)}, "write one_of"),
        ({"args.x": {}}, "use one of"),
        ({"args.x": {"exact": 1, "range": {}}}, "use one of"),
        ({"args.x": {"equals": 1}}, "args.x.equals: unknown constraint 'equals'"),
        ({"args.x": {"not": {"exact": 1}}}, "unknown constraint 'not'"),
        ({"args.x": OPAQUE}, "a value of type object"),
        ({"args.x": math.nan}, "args.x: the value is"),
        ({"args.x": {"exact": OPAQUE}}, "exact: the "),
        ({"args.x": {"exists": "yes"}}, "exists: true or"),
        ({"args.x": {"one_of": []}}, "at least one item"),
        ({"args.x": {"one_of": "a"}}, "is a string"),
        ({"args.x": {"contains": [OPAQUE]}}, "contains: the "),
        ({"args.x": {"email_domain": 5}}, "is a value of type int"),
        ({"args.x": {"email_domain": "no domain"}}, "email_domain: the "),
        ({"args.x": {"email_domain": [5]}}, "email_domain: the "),
        ({"args.x": {"path_within": ["/data"]}}, "path_within is a list"),
        ({"args.x": {"path_within": "data"}}, "is not absolute"),
        ({"args.x": {"url_within": "nonsense"}}, "url_within: the "),
        ({"args.x": {"prefix": ""}}, "prefix: the "),
        ({"args.x": {"wildcard": {"a": 1}}}, "wildcard has members"),
        ({"args.x": {"wildcard": None}}, "wildcard is null"),
        ({"args.x": {"range": {}}}, "neither min nor max"),
        ({"args.x": {"range": 5}}, "a range is a value of type int"),
        ({"args.x": {"range": {"mim": 5}}}, "range.mim: unknown key 'mim' in a range"),
        ({"args.x": {"range": {"min": None}}}, "leave the key out"),
        ({"args.x": {"range": {"min": "5"}}}, "range: the "),
        ({"args.x": {"range": {"min": True}}}, "range: the "),
        ({"args.x": {"range": {"min": 5, "max": 1}}}, "range: the "),
        ({"args.x": {"range": {"min": 5, "min_inclusive": "no"}}}, "min_inclusive"),
        ({"principal.roles": "admin"}, "use contains or subset"),
        ({"principal.id": {"range": {"min": 1}}}, "always of type str"),
        ({"chain.depth": {"prefix": "1"}}, "always of type float, int"),
        ({"chain.has_human": "yes"}, "always of type bool"),
        ({"principal.kind": "humman"}, "always one of human, service"),
        ({"principal.kind": {"any": [{"one_of": ["robot"]}, {"exists": False}]}}, "always one of"),
        ({"principal.provenance": NotOneOf("verifed")}, "always one of asserted, verified"),
        ({"findings.max_severity": "critical"}, "always one of"),
    ],
)
def test_a_condition_with_a_mistake_is_refused_when_the_rule_is_built(when: object, message: str) -> None:
    """Every mistake in a condition is an error of the rule, never a rule that silently does not match."""
    with pytest.raises(PolicyFormatError, match=message):
        Rule(Effect.BLOCK, when=when)  # type: ignore[arg-type]


def test_a_condition_that_holds_itself_is_refused() -> None:
    """Nesting is bounded, so that a condition that holds itself ends in an error."""
    when: dict[str, object] = {}
    when["not"] = when
    with pytest.raises(PolicyFormatError, match="conditions are nested"):
        Rule(Effect.BLOCK, when=when)


def test_plain_data_and_constraint_objects_spell_the_same_condition() -> None:
    """What a file spells and what Python spells are equal conditions."""
    spelled = {
        "args.a": {"range": {"min": 1, "max": 5, "max_inclusive": False}},
        "args.b": {"one_of": ["x", "y"]},
        "args.c": {"all": [{"prefix": "a"}, {"not_one_of": ["abc"]}]},
        "args.d": {"any": [{"contains": ["x"]}, {"subset": ["y"]}]},
        "args.e": {"wildcard": {}},
        "args.f": {"path_within": "/data"},
        "args.g": {"url_within": "https://a.example/"},
        "args.h": {"email_domain": "a.example"},
        "args.i": {"email_domain": ["a.example", "b.example"]},
        "args.j": {"exact": [1]},
        "args.k": 5,
    }
    built = {
        "args.a": Range(min=1, max=5, max_inclusive=False),
        "args.b": OneOf("x", "y"),
        "args.c": AllOf(Prefix("a"), NotOneOf("abc")),
        "args.d": AnyOf(Contains("x"), Subset("y")),
        "args.e": Wildcard(),
        "args.f": PathWithin("/data"),
        "args.g": UrlWithin("https://a.example/"),
        "args.h": EmailDomain("a.example"),
        "args.i": EmailDomain("a.example", "b.example"),
        "args.j": Exact([1]),
        "args.k": Exact(5),
    }
    assert parse_condition(spelled, ()) == parse_condition(built, ())


def test_a_condition_can_be_used_in_several_rules() -> None:
    """A parsed condition is accepted where plain data is."""
    first = Rule(Effect.BLOCK, when={"principal.kind": "human"})
    assert Rule(Effect.BLOCK, when=first.when) == first
    assert isinstance(Leaf(Wildcard()).describe(), dict)


def test_principals_of_both_kinds_are_told_apart() -> None:
    """One condition about the kind separates humans from services."""
    when = {"principal.kind": {"one_of": ["human"]}}
    assert answer(when, BARE._replace(principal=Human("x"))) is True
    assert answer(when, BARE._replace(principal=Service("x"))) is False
    guarded = {"principal.kind": {"any": ["human", {"exists": False}]}}
    assert answer(guarded, BARE) is True
    assert answer(guarded, BARE._replace(principal=Service("x"))) is False
