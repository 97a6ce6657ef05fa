"""Constraints: what each kind permits, covers, and how it travels."""

import copy
import math
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import agent_identity.constraints as public
from agent_identity._constraints.literals import LITERAL_KINDS, Constraint
from agent_identity._constraints.locations import LOCATION_KINDS
from agent_identity._constraints.registry import constraint_from_claim, constraint_of, is_constraint
from agent_identity._constraints.values import key_of, literal_key, value_of
from agent_identity.canonical import decode, encode
from agent_identity.constraints import (
    AllOf,
    AnyOf,
    Contains,
    EmailDomain,
    Exact,
    IfGiven,
    NotOneOf,
    OneOf,
    PathWithin,
    Prefix,
    Range,
    Subset,
    UrlWithin,
    Wildcard,
)
from agent_identity.errors import TokenError


class Text(str):
    """A subclass of str, which no constraint accepts."""

    __slots__ = ()


def nested(depth: int) -> object:
    """Return a list of the given number of containers."""
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


NUMBERS = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, 2.0, 2**53, 2**53 + 2, float(2**53), 1e21, -1e300, int(1e300)]),
)
PLACES = st.sampled_from(
    [
        "/data",
        "/data/",
        "/data/a",
        "/data/a/b",
        "/database",
        "/data/../etc",
        "/",
        "a",
        "a/b",
        "../a",
        ".",
        "%2e%2e/a",
        "https://a.example",
        "https://a.example/v1",
        "https://a.example/v1/",
        "https://a.example/v1/x?q=1",
        "https://a.example/v1x",
        "https://a.example:8443/v1",
        "http://a.example/v1",
        "https://a.example/v1/../x",
        "x@a.example",
        "x@b.example",
        "x@A.example",
        "x@y@a.example",
        "INV-1",
        "INV-12",
        "INV",
        "\uff29\uff2e\uff36-1",
        "\ud800",
        "",
    ]
)
SCALARS = st.one_of(NUMBERS, PLACES, st.booleans(), st.none(), st.text(max_size=3))
LITERALS = st.recursive(
    SCALARS.filter(lambda value: value != "\ud800"),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=2)),
    max_leaves=4,
).filter(lambda value: "\\ud" not in ascii(value))
HOSTILE = st.sampled_from(
    [
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        -(10**400),
        Text("a"),
        b"a",
        {1: 2},
        {"\udfff": 1},
        object(),
        {"a"},
        nested(33),
        nested(32),
        [math.nan],
        [0] * 10_001,
        1 + 0j,
        range(3),
        Exact,
    ]
)
VALUES = st.one_of(LITERALS, st.lists(SCALARS, max_size=4), HOSTILE, st.lists(HOSTILE, max_size=2))


def ranges() -> st.SearchStrategy[Constraint]:
    """Return ranges that hold something."""

    def build(low: float | None, high: float | None, low_in: bool, high_in: bool) -> Constraint:
        if low is None and high is None:
            low = 0
        if low is not None and high is not None and low >= high:
            return Range(high, low)
        return Range(low, high, min_inclusive=low_in, max_inclusive=high_in)

    bound = st.none() | NUMBERS
    return st.builds(build, bound, bound, st.booleans(), st.booleans())


def varargs(kind: type, values: st.SearchStrategy[object]) -> st.SearchStrategy[Constraint]:
    """Return constraints of a kind that takes any number of values."""
    return st.lists(values, min_size=1, max_size=4).map(lambda chosen: kind(*chosen))


LEAVES: st.SearchStrategy[Constraint] = st.one_of(
    LITERALS.map(constraint_of),
    varargs(OneOf, LITERALS),
    varargs(NotOneOf, LITERALS),
    ranges(),
    varargs(Contains, SCALARS.filter(lambda value: value != "\ud800")),
    varargs(Subset, SCALARS.filter(lambda value: value != "\ud800")),
    st.just(Wildcard()),
    st.builds(
        PathWithin, st.sampled_from(["/", "/data", "/data/", "/data/a", "/database"]), follow_links=st.booleans()
    ),
    st.sampled_from(
        [
            "https://a.example",
            "https://a.example/v1",
            "https://a.example/v1/",
            "https://a.example/v1/x",
            "https://a.example:8443/v1",
            "http://a.example",
        ]
    ).map(UrlWithin),
    varargs(EmailDomain, st.sampled_from(["a.example", "b.example", "A.example"])),
    st.sampled_from(["I", "INV-", "INV-1", "/data", "https://a.example"]).map(Prefix),
)
CONSTRAINTS: st.SearchStrategy[Constraint] = st.recursive(
    LEAVES, lambda inner: varargs(AllOf, inner) | varargs(AnyOf, inner), max_leaves=6
)


def test_public_module_reexports_the_room() -> None:
    """The public module offers the kinds themselves, and nothing else."""
    kinds = (*LITERAL_KINDS, *LOCATION_KINDS, AllOf, AnyOf, IfGiven)
    offered = {name: getattr(public, name) for name in public.__all__ if name != "Constraint"}
    assert offered == {kind.__name__: kind for kind in kinds}


@given(parent=CONSTRAINTS, child=CONSTRAINTS, values=st.lists(VALUES, min_size=1, max_size=12))
def test_a_parent_permits_whatever_a_child_permits(parent: Constraint, child: Constraint, values: list[object]) -> None:
    """Subsumption is sound: nothing that a covered child permits is refused by its parent."""
    if parent.covers(child):
        for value in values:
            assert parent.permits(value) or not child.permits(value)


@given(data=st.data(), values=st.lists(VALUES, min_size=1, max_size=12))
def test_a_narrowed_tree_is_covered_and_sound(data: st.DataObject, values: list[object]) -> None:
    """Trees narrowed clause by clause are covered, and permit no more than what they came from."""
    parent = data.draw(CONSTRAINTS)
    child = data.draw(narrowings(parent))
    assert parent.covers(child)
    for value in values:
        assert parent.permits(value) or not child.permits(value)


def narrowings(parent: Constraint) -> st.SearchStrategy[Constraint]:  # noqa: C901, PLR0911  One branch per kind.
    """Return constraints that the parent must cover."""
    match parent:
        case AllOf():
            clauses = st.tuples(*map(narrowings, parent.clauses), st.lists(LEAVES, max_size=2))
            return clauses.flatmap(lambda drawn: st.permutations([*drawn[:-1], *drawn[-1]])).map(
                lambda all_: AllOf(*all_)
            )
        case AnyOf():
            clause = st.sampled_from(parent.clauses).flatmap(narrowings)
            return st.lists(clause, min_size=1, max_size=3).map(lambda any_: AnyOf(*any_))
        case Wildcard():
            return CONSTRAINTS
        case OneOf():
            some = st.lists(st.sampled_from(parent.values), min_size=1, max_size=3)
            return some.map(lambda values: OneOf(*values)) | st.sampled_from(parent.values).map(constraint_of)
        case NotOneOf():
            return LITERALS.map(lambda more: NotOneOf(*map(value_of, parent.keys), more))
        case Contains():
            return LITERALS.map(lambda more: Contains(*map(value_of, parent.keys), more))
        case Subset():
            return st.sampled_from(parent.keys).map(lambda key: Subset(value_of(key)))
        case Prefix():
            return st.sampled_from([Prefix(parent.text + "x"), Exact(parent.text), OneOf(parent.text + "y")])
        case PathWithin(follow_links=False):
            below = parent.root.rstrip("/") + "/b"
            return st.sampled_from(
                [PathWithin(below), PathWithin(below, follow_links=True), Exact(below), OneOf("c", "d/e")]
            )
        case UrlWithin():
            below = parent.prefix.rstrip("/") + "/b"
            return st.sampled_from([UrlWithin(below), Exact(below + "?q"), OneOf(below)])
        case EmailDomain():
            return st.sampled_from([EmailDomain(min(parent.domains)), Exact(f"x@{min(parent.domains)}")])
        case _:
            return st.just(parent)


@given(constraint=CONSTRAINTS)
def test_every_constraint_covers_itself(constraint: Constraint) -> None:
    """Repeating the parent's constraint is always an attenuation."""
    assert constraint.covers(constraint)


@given(constraint=CONSTRAINTS, value=VALUES)
def test_a_constraint_survives_its_encoding(constraint: Constraint, value: object) -> None:
    """What is read out of a grant equals what was put in, and judges alike."""
    claim = decode(encode(constraint.to_claim()))
    assert isinstance(claim, dict)
    again = constraint_from_claim(claim)
    assert again == constraint
    assert hash(again) == hash(constraint)
    assert encode(again.to_claim()) == encode(constraint.to_claim())
    assert again.permits(value) is constraint.permits(value)


@pytest.mark.parametrize(
    "constraint",
    [
        Exact("a"),
        OneOf("a", "b"),
        NotOneOf("a"),
        Range(min=1, max=2),
        Contains("a"),
        Subset("a"),
        Wildcard(),
        AllOf(Prefix("a"), NotOneOf("ab")),
        AnyOf(Exact("a"), Exact("b")),
        PathWithin("/data"),
        UrlWithin("https://example.com/a/"),
        EmailDomain("example.com"),
        Prefix("a"),
    ],
)
def test_each_kind_shows_as_it_is_written(constraint: Constraint) -> None:
    """The representation of each kind is the Python that makes it again."""
    assert eval(repr(constraint), vars(public)) == constraint  # noqa: S307


@given(constraint=CONSTRAINTS)
@example(constraint=Wildcard())
def test_constraints_copy_and_describe(constraint: Constraint) -> None:
    """Constraints can be pickled and copied; their description is how one writes them."""
    assert pickle.loads(pickle.dumps(constraint)) == constraint  # noqa: S301
    assert copy.deepcopy(constraint) == constraint
    assert repr(constraint) == constraint.describe()
    rebuilt = eval(constraint.describe(), vars(public))  # noqa: S307
    assert rebuilt == constraint


@given(value=LITERALS)
def test_keys_give_their_value_back(value: object) -> None:
    """A key stands for exactly one value of JSON."""
    again = value_of(literal_key(value))
    assert key_of(again) == key_of(value)
    assert encode(again) == encode(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("constraint", "permitted", "refused"),
    [
        (Exact(1), [1, 1.0], [True, "1", 2, [1], None]),
        (Exact(None), [None], [0, "", False, []]),
        (Exact(value=True), [True], [1, "True", False]),
        (Exact([1, {"a": None}]), [[1, {"a": None}], (1.0, {"a": None})], [[{"a": None}, 1], [1, {}], "[1]"]),
        (OneOf("a", 2), ["a", 2, 2.0], ["A", "2", None, math.nan]),
        (NotOneOf("a", 2), ["b", True, None, [2]], ["a", 2, 2.0, math.nan, object()]),
        (Range(0, 10), [0, 10, 0.5, -0.0], [-1, 10.0000001, "5", True, None, math.nan, math.inf, [5]]),
        (Range(0, 10, min_inclusive=False, max_inclusive=False), [1, 9.99], [0, 10, -0.0, 0.0]),
        (Range(max=5), [5, -(10**300)], [6, -math.inf]),
        (Range(min=5), [5, 10**300], [4, math.inf]),
        (Contains("a", 1), [["a", 1], [1.0, "b", "a"]], [["a"], ["a", True], "a1", {"a": 1}, ["a", 1, math.nan]]),
        (Subset("a", 1), [[], ["a"], [1, 1, "a"]], [["b"], [True], "a", None, ["a", object()]]),
        (Wildcard(), [1, None, {"a": [1]}, nested(32)], [math.nan, object(), nested(33), {1: 1}, [0] * 10_001]),
        (AllOf(Range(0, 9), NotOneOf(3)), [0, 9], [3, 10]),
        (AnyOf(Exact("a"), Range(0, 9)), ["a", 3], ["b", 10]),
        (Prefix("INV-"), ["INV-", "INV-1"], ["INV", "inv-1", 1, "INV-\ud800", Text("INV-1")]),
    ],
)
def test_what_a_kind_permits(constraint: Constraint, permitted: list[object], refused: list[object]) -> None:
    """Each kind permits exactly what its description says."""
    assert [value for value in permitted if not constraint.permits(value)] == []
    assert [value for value in refused if constraint.permits(value)] == []


COVERED = [
    (Exact(1), Exact(1.0)),
    (OneOf(1, 2), Exact(2)),
    (OneOf(1, 2), OneOf(2)),
    (NotOneOf(1), NotOneOf(1, 2)),
    (Range(0, 10), Exact(5)),
    (Range(0, 10), Range(0, 10, min_inclusive=False)),
    (Range(0, 10, min_inclusive=False), Range(0, 10, min_inclusive=False)),
    (Range(max=10), Range(3, 9)),
    (Range(max=10, max_inclusive=False), Range(max=9)),
    (Range(min=0), Range(min=1)),
    (Contains(1), Contains(1, 2)),
    (Subset(1, 2), Subset(1)),
    (Wildcard(), Range(max=1)),
    (AllOf(Range(0, 9), Range(0, 5)), AllOf(Range(0, 5), Range(0, 8))),
    (AllOf(Range(0, 5), Range(0, 4)), AllOf(Range(0, 4))),
    (AllOf(Range(min=0), Range(max=9), NotOneOf(7)), AllOf(Range(1, 8), NotOneOf(7))),
    (AnyOf(Range(0, 9), Exact("a")), AnyOf(Exact("a"))),
    (PathWithin("/"), PathWithin("/data")),
    (PathWithin("/data"), PathWithin("/data/a", follow_links=True)),
    (PathWithin("/d", follow_links=True), PathWithin("/d", follow_links=True)),
    (UrlWithin("https://a.example/v1"), UrlWithin("https://A.example:443/v1/")),
    (EmailDomain("a.example", "b.example"), EmailDomain("A.example")),
    (Prefix("IN"), Prefix("INV")),
]
NOT_COVERED = [
    (Exact(1), OneOf(1)),
    (Exact(1), Exact(value=True)),
    (OneOf(1, 2), OneOf(1, 3)),
    (OneOf(1), Wildcard()),
    (NotOneOf(1, 2), NotOneOf(1)),
    (NotOneOf(1), Exact(2)),
    (Range(0, 10), Exact("5")),
    (Range(0, 10), OneOf(5)),
    (Range(0, 10), Range(-1, 10)),
    (Range(0, 10), Range(0, 11)),
    (Range(0, 10), Range(max=10)),
    (Range(0, 10), Range(min=0)),
    (Range(0, 10, min_inclusive=False), Range(0, 10)),
    (Range(0, 10, max_inclusive=False), Range(0, 10)),
    (Range(0, 10), Wildcard()),
    (Contains(1, 2), Contains(1)),
    (Contains(1), Exact([1])),
    (Subset(1), Subset(1, 2)),
    (Subset(1), Exact([1])),
    (AllOf(Range(0, 5), Range(0, 4)), AllOf(Range(0, 5))),
    (AllOf(Range(0, 9), NotOneOf(7)), AllOf(Range(1, 8))),
    (AllOf(Exact(1)), Exact(1)),
    (AnyOf(Exact(1)), Exact(1)),
    (AnyOf(Exact(1)), AnyOf(Exact(1), Exact(2))),
    (Exact(1), AllOf(Exact(1))),
    (PathWithin("/data"), PathWithin("/database")),
    (PathWithin("/data"), PathWithin("/")),
    (PathWithin("/data"), Exact("/data/../etc")),
    (PathWithin("/data"), Exact(1)),
    (PathWithin("/data"), Prefix("/data/")),
    (PathWithin("/d", follow_links=True), PathWithin("/d")),
    (PathWithin("/d", follow_links=True), PathWithin("/d/e", follow_links=True)),
    (PathWithin("/d", follow_links=True), Exact("/d/e")),
    (UrlWithin("https://a.example/v1/"), UrlWithin("https://a.example/v1")),
    (UrlWithin("https://a.example/v1"), UrlWithin("https://a.example/v1x")),
    (UrlWithin("https://a.example"), UrlWithin("http://a.example")),
    (UrlWithin("https://a.example"), Prefix("https://a.example/")),
    (EmailDomain("a.example"), EmailDomain("b.a.example")),
    (EmailDomain("a.example"), Exact("x@b.example")),
    (Prefix("INV"), Prefix("IN")),
    (Prefix("INV"), OneOf("INV-1", "in")),
]


@pytest.mark.parametrize(("parent", "child"), COVERED)
def test_pairs_that_are_covered(parent: Constraint, child: Constraint) -> None:
    """The pairs of the profile, and those of our own kinds, are accepted."""
    assert parent.covers(child)


@pytest.mark.parametrize(("parent", "child"), NOT_COVERED)
def test_pairs_that_are_not_covered(parent: Constraint, child: Constraint) -> None:
    """Every other pair is refused, also where only the kinds differ."""
    assert not parent.covers(child)


def test_one_clause_of_a_child_may_satisfy_several_of_its_parent() -> None:
    """Every clause of the parent has to cover some clause of the child, in any order."""
    parent = AllOf(Range(0, 9), Range(0, 5), Range(0, 2))
    assert parent.covers(AllOf(Range(0, 1)))
    assert parent.covers(AllOf(Range(0, 8), Range(0, 1)))
    assert not parent.covers(AllOf(Range(0, 4), Range(0, 8), Range(0, 8)))


@pytest.mark.parametrize(
    ("build", "kind"),
    [
        (OneOf, ValueError),
        (NotOneOf, ValueError),
        (Contains, ValueError),
        (Subset, ValueError),
        (Range, ValueError),
        (lambda: Range(2, 1), ValueError),
        (lambda: Range(1, 1, min_inclusive=False), ValueError),
        (lambda: Range(math.nan), ValueError),
        (lambda: Range(max=math.inf), ValueError),
        (lambda: Range(max=10**400), ValueError),
        (lambda: Range(max=float(2**60)), ValueError),
        (lambda: Range(max=True), TypeError),
        (lambda: Range("1"), TypeError),  # type: ignore[arg-type]
        (lambda: Range(1, min_inclusive=1), TypeError),  # type: ignore[arg-type]
        (lambda: Exact(math.nan), ValueError),
        (lambda: Exact(object()), ValueError),
        (lambda: Exact(Text("a")), ValueError),
        (lambda: Exact({1: 2}), ValueError),
        (lambda: Exact("\ud800"), ValueError),
        (lambda: Exact("x" * 8193), ValueError),
        (lambda: Exact(nested(31)), ValueError),
        (lambda: OneOf(*range(1025)), ValueError),
        (AllOf, ValueError),
        (lambda: AnyOf(*[Wildcard()] * 65), ValueError),
        (lambda: AllOf("a"), TypeError),  # type: ignore[arg-type]
        (lambda: AnyOf(*[AnyOf(*[OneOf(*range(40))] * 60)] * 2), ValueError),
        (lambda: PathWithin("data"), ValueError),
        (lambda: PathWithin("/data/../x"), ValueError),
        (lambda: PathWithin("/data//x"), ValueError),
        (lambda: PathWithin("/./x"), ValueError),
        (lambda: PathWithin(""), ValueError),
        (lambda: PathWithin(1), TypeError),  # type: ignore[arg-type]
        (lambda: PathWithin("/d", follow_links=1), TypeError),  # type: ignore[arg-type]
        (lambda: UrlWithin("a.example"), ValueError),
        (lambda: UrlWithin("https://a.example/?q"), ValueError),
        (lambda: UrlWithin("https://a.example/#f"), ValueError),
        (lambda: UrlWithin(None), TypeError),  # type: ignore[arg-type]
        (EmailDomain, ValueError),
        (lambda: EmailDomain("a b"), ValueError),
        (lambda: EmailDomain("ä.example"), ValueError),
        (lambda: EmailDomain(*[f"d{n}.example" for n in range(257)]), ValueError),
        (lambda: EmailDomain(1), TypeError),  # type: ignore[arg-type]
        (lambda: Prefix(""), ValueError),
        (lambda: Prefix("x" * 8193), ValueError),
        (lambda: Prefix(b"x"), TypeError),  # type: ignore[arg-type]
    ],
)
def test_malformed_constraints_are_refused(build: object, kind: type[Exception]) -> None:
    """Nothing malformed, empty, unbounded or ambiguous can be built."""
    assert callable(build)
    with pytest.raises(kind):
        build()


def test_nesting_is_bounded_to_what_a_grant_can_hold() -> None:
    """Fifteen combinators fit into one another, sixteen do not."""
    tree: Constraint = Wildcard()
    for _ in range(15):
        tree = AllOf(tree)
    assert constraint_from_claim(tree.to_claim()) == tree
    with pytest.raises(ValueError, match="32 nested containers"):
        AllOf(tree)


CLAIMS = [
    ({"constraint_type": "x-new"}, "unknown_constraint"),
    ({}, "unknown_constraint"),
    ({"constraint_type": "\n"}, "unknown_constraint"),
    ({"constraint_type": ["exact"]}, "unknown_constraint"),
    ({"constraint_type": "exact"}, "bad_constraint"),
    ({"constraint_type": "exact", "value": 1, "more": 2}, "bad_constraint"),
    ({"constraint_type": "wildcard", "value": 1}, "bad_constraint"),
    ({"constraint_type": "one_of", "values": []}, "bad_constraint"),
    ({"constraint_type": "one_of", "values": "ab"}, "bad_constraint"),
    ({"constraint_type": "range", "max": None}, "bad_constraint"),
    ({"constraint_type": "range", "max": "1"}, "bad_constraint"),
    ({"constraint_type": "range", "max": 1, "max_inclusive": 1}, "bad_constraint"),
    ({"constraint_type": "all", "constraints": [1]}, "bad_constraint"),
    ({"constraint_type": "all", "constraints": []}, "bad_constraint"),
    ({"constraint_type": "any", "constraints": [{"constraint_type": "x-new"}]}, "unknown_constraint"),
    ({"constraint_type": "path_within", "root": "data"}, "bad_constraint"),
    ({"constraint_type": "email_domain", "domains": [1]}, "bad_constraint"),
    ({"constraint_type": "exact", "value": nested(32)}, "bad_constraint"),
    ({"constraint_type": "exact", "value": [0] * 2100}, "bad_constraint"),
]


@pytest.mark.parametrize(("claim", "code"), CLAIMS)
def test_malformed_claims_are_refused(claim: dict[str, object], code: str) -> None:
    """A claim that is unknown or malformed in any part denies, with a stable code."""
    with pytest.raises(TokenError) as refused:
        constraint_from_claim(claim)
    assert refused.value.code == code


def test_a_self_referring_claim_is_refused() -> None:
    """The bounds also hold for a claim without end."""
    claim: dict[str, object] = {"constraint_type": "all"}
    claim["constraints"] = [claim]
    with pytest.raises(TokenError):
        constraint_from_claim(claim)


def test_explicit_defaults_of_a_range_are_read() -> None:
    """Other issuers may spell out what we leave out."""
    claim = {"constraint_type": "range", "min": 1, "max": 2.5, "min_inclusive": True, "max_inclusive": False}
    assert constraint_from_claim(claim) == Range(1, 2.5, max_inclusive=False)


def test_only_our_kinds_are_constraints() -> None:
    """Neither classes nor lookalikes count as constraints."""
    assert is_constraint(Wildcard())
    assert not is_constraint(Wildcard)
    assert not is_constraint({"constraint_type": "wildcard"})


def test_a_range_without_a_bound_has_one_spelling() -> None:
    """The flag of a missing bound has no meaning and does not tell ranges apart."""
    assert Range(max=1, min_inclusive=False) == Range(max=1)
    assert Range(min=1, max_inclusive=False) == Range(min=1)


def test_values_are_copies() -> None:
    """Nobody can change a constraint through the values it was built from or gives out."""
    source = {"a": [1]}
    constraint = Exact(source)
    source["a"].append(2)
    given_out = constraint.values[0]
    assert isinstance(given_out, dict)
    given_out["a"] = 3  # type: ignore[index]
    assert constraint.permits({"a": [1]})


def test_a_shared_or_cyclic_value_is_bounded() -> None:
    """A value that refers to itself satisfies nothing and ends quickly."""
    cycle: list[object] = []
    cycle.append(cycle)
    assert not Wildcard().permits(cycle)
    bomb: object = "x"
    for _ in range(30):
        bomb = [bomb, bomb]
    assert not Wildcard().permits(bomb)
