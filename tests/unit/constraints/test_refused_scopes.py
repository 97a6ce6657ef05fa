"""What each refusal of scopes, constraints and leases says, and where exactly each bound lies.

A user acts on codes and messages, so the code and one phrase of each message are asserted.
"""

import math
import sys
import threading
from collections.abc import Callable

import pytest

from agent_identity import Scope
from agent_identity._authority.registries.tasks import Lease, TaskRegistry
from agent_identity._constraints.combinators import check_size
from agent_identity._constraints.literals import Constraint
from agent_identity._constraints.registry import constraint_from_claim, constraint_of
from agent_identity._constraints.values import key_of
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
from agent_identity.errors import AttenuationError, GrantExpired, NoTask, OutOfScope, TokenError

LARGEST = int(sys.float_info.max)

Refusal = tuple[Callable[[], object], type[Exception], str | None, str]


def check_refusal(make: Callable[[], object], kind: type[Exception], code: str | None, phrase: str) -> None:
    """Assert the class, the code and a phrase of the message of a refusal."""
    with pytest.raises(kind) as refused:
        make()
    got = refused.value
    assert (type(got), getattr(got, "code", None)) == (kind, code)
    assert phrase in str(got)


def rows(table: dict[str, Refusal]) -> list[object]:
    """Return the parameters of a table of refusals."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


def nested(depth: int, *, objects: bool = False) -> object:
    """Return a value of so many containers."""
    value: object = 0
    for _ in range(depth):
        value = {"a": value} if objects else [value]
    return value


SCOPES: dict[str, Refusal] = {
    "no form": (
        lambda: Scope(1),
        TypeError,
        None,
        "tools is int",
    ),
    "arguments beside a mapping": (
        lambda: Scope({"t": None}, a=1),
        TypeError,
        None,
        "the arguments are outside the mapping",
    ),
    "no tools": (lambda: Scope({}), ValueError, None, "the scope has 0 tools"),
    "too many tools": (
        lambda: Scope({f"t{n}": None for n in range(257)}),
        ValueError,
        None,
        "the scope has 257 tools",
    ),
    "a tool twice": (
        lambda: Scope("t") | Scope("t"),
        ValueError,
        None,
        (
            "tool 't' is on both sides of '|'; delegate each alternative by itself, or guard the body under a name for "
            "each"
        ),
    ),
    "name of a tool no text": (
        lambda: Scope({1: None}),
        TypeError,
        None,
        "the name of the tool is int",
    ),
    "name of a tool": (
        lambda: Scope("a b"),
        ValueError,
        None,
        "the tool name is not 1 to 128 characters A-Z a-z 0-9 _ . : / -",
    ),
    "no arguments": (
        lambda: Scope({"t": 1}),
        TypeError,
        None,
        "the arguments of tool 't' are int",
    ),
    "too many arguments": (
        lambda: Scope({"t": {f"a{n}": 1 for n in range(65)}}),
        ValueError,
        None,
        "tool 't' has 65 arguments",
    ),
    "name of an argument no text": (
        lambda: Scope({"t": {1: 1}}),
        TypeError,
        None,
        "an argument name of tool 't' is int",
    ),
    "name of an argument too long": (
        lambda: Scope({"t": {"a" * 129: 1}}),
        ValueError,
        None,
        "an argument name of tool 't' is not 1 to 128 visible characters",
    ),
    "a class": (
        lambda: Scope("t", a=Range),
        TypeError,
        None,
        "the constraint for 'a' of tool 't' is a class",
    ),
    "no value": (
        lambda: Scope("t", a=object()),
        ValueError,
        None,
        "bad value for argument 'a' of tool 't': the value is object",
    ),
    "claim without arguments": (
        lambda: Scope.from_claim({"t": None}),
        TokenError,
        "bad_scope",
        "bad scope: the arguments of a tool are not an object",
    ),
    "claim with a bad name": (
        lambda: Scope.from_claim({"a b": {}}),
        TokenError,
        "bad_scope",
        "bad scope: the tool name is not 1 to 128 characters A-Z a-z 0-9 _ . : / -",
    ),
    "claim with a bad constraint": (
        lambda: Scope.from_claim({"t": {"a": 1}}),
        TokenError,
        "bad_constraint",
        "the constraint is not a JSON object",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(SCOPES))
def test_what_a_refused_scope_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each malformed scope is refused with the name of what is wrong and the way out."""
    check_refusal(make, kind, code, message)


def test_scopes_at_their_bounds() -> None:
    """As many tools and arguments as may be, with the longest names, are a scope."""
    assert len(Scope({f"t{n}": None for n in range(256)}).tools) == 256
    assert len(Scope({"t": {f"a{n}": 1 for n in range(64)}}).tools["t"]) == 64
    assert set(Scope({"t" * 128: {"a" * 128: 1, "b": 1}}).tools["t" * 128]) == {"a" * 128, "b"}


def test_scopes_show_as_they_are_written() -> None:
    """The representation of a scope is the Python that makes it again, and other scopes hash differently."""
    scope = Scope("pay", amount=1, to="x") | Scope("list")
    assert repr(scope) == "Scope({'pay': {'amount': Exact(1), 'to': Exact('x')}, 'list': {}})"
    assert hash(scope) != hash(Scope("list"))


def call(tool: str, arguments: dict[str, object], scope: Scope | None = None) -> Callable[[], None]:
    """Return a check of a call whose arguments all come from the caller."""
    judged = scope or Scope({"pay": {"amount": Range(max=9)}, "send": {"to-whom": "x", "the text": "y"}})
    return lambda: judged.check(tool, arguments, arguments.keys())


CALLS: dict[str, tuple[Callable[[], None], str, str | None, str]] = {
    "tool": (
        call("wipe", {}),
        "tool_not_granted",
        None,
        "tool 'wipe' is not in the grant; add it: Scope('wipe')",
    ),
    "tool not to be shown": (
        call("wipe\n", {}),
        "tool_not_granted",
        None,
        "tool (unprintable) is not in the grant; add it: Scope((unprintable))",
    ),
    "more arguments": (
        call("pay", {"amount": 1, "note": "x"}),
        "argument_not_granted",
        "note",
        (
            "argument 'note' of tool 'pay' is not among those in the grant; leave it out or widen the scope: "
            "Scope('pay', note=Exact(...))"
        ),
    ),
    "more arguments, not to be shown": (
        call("pay", {"amount": 1, "no\nte": "x"}),
        "argument_not_granted",
        None,
        (
            "argument (unprintable) of tool 'pay' is not among those in the grant; leave it out or widen the scope: "
            "Scope({'pay': {(unprintable): Exact(...)}})"
        ),
    ),
    "fewer arguments": (
        call("pay", {}),
        "argument_missing",
        "amount",
        "argument 'amount' of tool 'pay' is in the grant but not in the call; pass it",
    ),
    "tool, misspelled": (
        call("pya", {}),
        "tool_not_granted",
        None,
        "tool 'pya' is not in the grant; did you mean 'pay'? Otherwise add it: Scope('pya')",
    ),
    "argument, misspelled": (
        call("pay", {"amuont": 1}),
        "argument_not_granted",
        "amuont",
        (
            "argument 'amuont' of tool 'pay' is not among those in the grant; did you mean 'amount'? "
            "Otherwise leave it out or widen the scope: Scope('pay', amuont=Exact(...))"
        ),
    ),
    "text for a number": (
        call("pay", {"amount": "5"}),
        "argument_out_of_scope",
        "amount",
        "argument 'amount' of tool 'pay' is text, and its Range permits numbers; pass a number without quotes",
    ),
    "out of scope": (
        call("pay", {"amount": 10}),
        "argument_out_of_scope",
        "amount",
        "argument 'amount' of tool 'pay' is outside its Range; widen the scope: Scope('pay', amount=Range(...))",
    ),
    "out of scope, no identifier": (
        call("send", {"to-whom": "z", "the text": "y"}),
        "argument_out_of_scope",
        "to-whom",
        (
            "argument 'to-whom' of tool 'send' is outside its Exact; "
            "widen the scope: Scope({'send': {'to-whom': Exact(...)}})"
        ),
    ),
    "out of scope, not to be shown": (
        call("send", {"to-whom": "x", "the text": "z"}),
        "argument_out_of_scope",
        None,
        (
            "argument (unprintable) of tool 'send' is outside its Exact; "
            "widen the scope: Scope({'send': {(unprintable): Exact(...)}})"
        ),
    ),
    "an object": (
        call("pay", {"amount": object()}),
        "argument_out_of_scope",
        "amount",
        (
            "argument 'amount' of tool 'pay' is an object of the program, which no constraint can judge; "
            "pass text, numbers, lists or mappings, or leave the tool open"
        ),
    ),
    "out of scope, no object": (
        call("pay", {"amount": None}),
        "argument_out_of_scope",
        "amount",
        "argument 'amount' of tool 'pay' is outside its Range; widen the scope: Scope('pay', amount=Range(...))",
    ),
}


@pytest.mark.parametrize(("make", "code", "argument", "message"), CALLS.values(), ids=CALLS)
def test_what_a_refused_call_says(make: Callable[[], None], code: str, argument: str | None, message: str) -> None:
    """Each call out of scope is refused with the argument, if it is fit to be shown, and what to write."""
    with pytest.raises(OutOfScope) as refused:
        make()
    assert (refused.value.code, refused.value.argument, str(refused.value)) == (code, argument, message)


def narrow(child: Scope) -> Callable[[], None]:
    """Return a check of a child's scope."""
    return lambda: Scope("pay", amount=Range(max=9)).check_attenuates(child)


NARROWINGS: dict[str, Refusal] = {
    "tool": (
        narrow(Scope("wipe")),
        AttenuationError,
        "tool_not_attenuated",
        "tool 'wipe' is not in the parent's scope; leave it out or grant it to the parent first",
    ),
    "dropped": (
        narrow(Scope("pay")),
        AttenuationError,
        "argument_not_attenuated",
        "argument 'amount' of tool 'pay' is missing, and the parent requires it or the child permits unnamed ",
    ),
    "added": (
        narrow(Scope("pay", amount=1, note="x")),
        AttenuationError,
        "argument_not_attenuated",
        "argument 'note' of tool 'pay' was added; name only arguments of the parent",
    ),
    "wider": (
        narrow(Scope("pay", amount=OneOf(1))),
        AttenuationError,
        "argument_not_attenuated",
        (
            "argument 'amount' of tool 'pay': OneOf is not provably within the parent's Range; "
            "narrow it, or repeat the parent's constraint"
        ),
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(NARROWINGS))
def test_what_a_refused_narrowing_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each child that is not within its parent is refused with tool and argument."""
    check_refusal(make, kind, code, message)


PARTS = "the constraint has more than 32 nested containers or 2048 parts"
SMALLER = "the value has too many parts"
FLATTER = "the value has more than 32 nested containers"
BOUND = "the bound of the Range is NaN, an infinity or beyond every double"
ROOT = "the root of PathWithin is not absolute, or has '.', '..' or an empty name"
PLACE = "the URL of UrlWithin is malformed"
DOMAINS = "the domains of EmailDomain are malformed"
CONSTRAINTS: dict[str, Refusal] = {
    "no values": (OneOf, ValueError, None, "the constraint has no value"),
    "too many values": (lambda: OneOf(*range(1025)), ValueError, None, SMALLER),
    "too many parts": (lambda: Exact([0] * 1024), ValueError, None, SMALLER),
    "too long": (
        lambda: Exact("x" * 8193),
        ValueError,
        None,
        "a text of the constraint has 8193 characters, more than 8192",
    ),
    "arrays too deep": (lambda: Exact(nested(31)), ValueError, None, FLATTER),
    "objects too deep": (lambda: Exact(nested(31, objects=True)), ValueError, None, FLATTER),
    "no value": (lambda: Exact(b"x"), ValueError, None, "the value is bytes"),
    "no number": (lambda: Exact(math.nan), ValueError, None, "the value is float"),
    "too large a number": (lambda: Exact(LARGEST + 1), ValueError, None, "the value is int"),
    "too small a number": (lambda: Exact(-LARGEST - 1), ValueError, None, "the value is int"),
    "no name of a member": (lambda: Exact({1: 2}), ValueError, None, "a key of the object is not a string"),
    "a lossy float": (
        lambda: Exact(2.0**53 + 2),
        ValueError,
        None,
        "a whole number above 2^53 is a float",
    ),
    "bound no number": (
        lambda: Range("1"),
        TypeError,
        None,
        "the bound of the Range is str",
    ),
    "bound not finite": (lambda: Range(max=math.inf), ValueError, None, BOUND),
    "bound too large": (lambda: Range(max=LARGEST + 1), ValueError, None, BOUND),
    "flag": (
        lambda: Range(1, min_inclusive=1),
        TypeError,
        None,
        "min_inclusive or max_inclusive is not True or False",
    ),
    "no bound": (Range, ValueError, None, "the Range has neither min nor max"),
    "bounds crossed": (
        lambda: Range(2, 1),
        ValueError,
        None,
        "the Range has nothing between min and max",
    ),
    "nothing between": (
        lambda: Range(1, 1, max_inclusive=False),
        ValueError,
        None,
        "the Range has nothing between min and max",
    ),
    "no clauses": (AllOf, ValueError, None, "AllOf has 0 clauses"),
    "too many clauses": (
        lambda: AnyOf(*[Wildcard()] * 65),
        ValueError,
        None,
        "AnyOf has 65 clauses",
    ),
    "no clause": (
        lambda: AllOf("a"),
        TypeError,
        None,
        "a clause of AllOf is str",
    ),
    "no clause of any": (
        lambda: AnyOf(Wildcard),
        TypeError,
        None,
        "a clause of AnyOf is type",
    ),
    "too deep": (lambda: check_size(nested(33)), ValueError, None, PARTS),
    "objects too deep for a claim": (lambda: check_size(nested(33, objects=True)), ValueError, None, PARTS),
    "too large": (lambda: check_size([0] * 2048), ValueError, None, PARTS),
    "too large in parts": (lambda: check_size([[0] * 1023, {str(n): 0 for n in range(1023)}]), ValueError, None, PARTS),
    "root no text": (
        lambda: PathWithin(1),
        TypeError,
        None,
        "the root of PathWithin is int",
    ),
    "links": (
        lambda: PathWithin("/d", follow_links=1),
        TypeError,
        None,
        "follow_links of PathWithin is not True or False",
    ),
    "root relative": (lambda: PathWithin("data"), ValueError, None, ROOT),
    "root too long": (lambda: PathWithin("/" + "x" * 4096), ValueError, None, ROOT),
    "prefix of URLs no text": (
        lambda: UrlWithin(None),
        TypeError,
        None,
        "the prefix of UrlWithin is NoneType",
    ),
    "no URL": (lambda: UrlWithin("a.example"), ValueError, None, PLACE),
    "URL with a query": (lambda: UrlWithin("https://a.example/?q"), ValueError, None, PLACE),
    "URL with a fragment": (lambda: UrlWithin("https://a.example/#f"), ValueError, None, PLACE),
    "URL too long": (lambda: UrlWithin("https://a.example/" + "x" * 4079), ValueError, None, PLACE),
    "port too high": (lambda: UrlWithin("https://a.example:65536"), ValueError, None, PLACE),
    "domain no text": (
        lambda: EmailDomain(1),
        TypeError,
        None,
        "the domain of EmailDomain is int",
    ),
    "no domain": (EmailDomain, ValueError, None, DOMAINS),
    "too many domains": (lambda: EmailDomain(*[f"d{n}.example" for n in range(257)]), ValueError, None, DOMAINS),
    "prefix no text": (lambda: Prefix(b"x"), TypeError, None, "the text of Prefix is bytes"),
    "no prefix": (lambda: Prefix(""), ValueError, None, "the text of Prefix has 0 characters"),
    "prefix too long": (
        lambda: Prefix("x" * 8193),
        ValueError,
        None,
        "the text of Prefix has 8193 characters",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(CONSTRAINTS))
def test_what_a_refused_constraint_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each malformed constraint is refused with what was expected and the way out."""
    check_refusal(make, kind, code, message)


def combined(times: int, inner: Constraint) -> Constraint:
    """Return a constraint inside so many combinators."""
    for _ in range(times):
        inner = AllOf(inner)
    return inner


LONG = f"{'a' * 63}.{'b' * 63}.{'c' * 61}"  # With 64 characters before it, an address of 254.
AT_BOUNDS = [
    (OneOf(*range(1024)), 1023, 1024),
    (Exact([0] * 1023), [0] * 1023, [0] * 1024),
    (Exact("x" * 8192), "x" * 8192, "x" * 8193),
    (Exact(nested(30)), nested(30), nested(29)),
    (Exact(nested(30, objects=True)), nested(30, objects=True), nested(29, objects=True)),
    (Exact(LARGEST), LARGEST, LARGEST + 1),
    (Exact(-LARGEST), -LARGEST, -LARGEST - 1),
    (Range(1, 1), 1, 2),
    (AnyOf(*[Exact(n) for n in range(64)]), 63, 64),
    (combined(15, Contains(1)), [1], 1),
    (PathWithin("/" + "x" * 4095), "/" + "x" * 4095, "/" + "x" * 4096),
    (UrlWithin("https://a.example:65535/"), "https://a.example:65535/x", "https://a.example:65536/x"),
    (UrlWithin("https://a.example/"), "https://a.example/" + "x" * 4078, "https://a.example/" + "x" * 4079),
    (EmailDomain(*[f"d{n}.example" for n in range(256)]), "x@d255.example", "x@d256.example"),
    (EmailDomain("a.example"), "x" * 64 + "@a.example", "x" * 65 + "@a.example"),
    (EmailDomain(LONG, f"{LONG}c"), f"{'x' * 64}@{LONG}", f"{'x' * 64}@{LONG}c"),
    (Prefix("x" * 8192), "x" * 8193, "x" * 8191),
    (Wildcard(), nested(32), nested(33)),
    (Wildcard(), nested(32, objects=True), nested(33, objects=True)),
    (Wildcard(), [0] * 9_999, [0] * 10_000),
    (Wildcard(), "ä" * 8193, math.inf),
    (Wildcard(), 2.0**60, 10**400),
]


@pytest.mark.parametrize(("constraint", "permitted", "refused"), AT_BOUNDS, ids=range(len(AT_BOUNDS)))
def test_constraints_at_their_bounds(constraint: Constraint, permitted: object, refused: object) -> None:
    """The largest constraint of each kind is one; it permits the last value within and not the next."""
    assert (constraint.permits(permitted), constraint.permits(refused)) == (True, False)
    assert constraint_from_claim(constraint_of(constraint).to_claim()) == constraint_of(constraint)


def test_sizes_at_their_bounds() -> None:
    """A claim may be 32 containers deep and may have 2,048 parts, itself included."""
    for fits in (nested(32), nested(32, objects=True), [0] * 2047, [[0] * 1022, {str(n): 0 for n in range(1023)}]):
        check_size(fits)


def test_whole_floats_become_integers_where_that_is_exact() -> None:
    """A float that is a whole number stands in a grant as that number, and a huge one as the float that it is."""
    assert [repr(Exact(value)) for value in (1.0, -0.0, 2.0**53, 1e21, 1.5)] == [
        "Exact(1)",
        "Exact(0)",
        "Exact(9007199254740992)",
        "Exact(1e+21)",
        "Exact(1.5)",
    ]
    assert [type(key_of(value)) for value in (1, 1.0)] == [int, float]


PLACES: list[tuple[Constraint, list[str], list[str]]] = [
    (
        PathWithin("/data"),
        ["/data", "/data/", "a", "a/b:c", "a/b:c/d", "./a", "/data/ä", "/data/ﬁ", "/data/.a", "/data//a"],
        [
            "",
            "/",
            "//data/a",
            "~/a",
            "c:/a",
            "a:b",
            " a",
            "a ",
            "/data/..",
            "/data/...",
            "/data/ ..",
            "/data/..a",
            "a\\b",
            "%2e%2e/a",
            "a%u002e",
            "a\tb",
            "a\x7f",
            "a\u200bb",
            "a\ud800",
            "\u2024\u2024/a",
            "a\uff0fb",
            "a\u2215b",
            "/database",
            "/dataX",
        ],
    ),
    (PathWithin("/dX"), ["/dX", "/dX/a"], ["/d", "/d/a", "/dXX"]),
    (
        UrlWithin("https://a.example/v1"),
        [
            "https://a.example/v1",
            "HTTPS://A.EXAMPLE:443/v1/x",
            "https://a.example/v1/.well-known",
            "https://a.example/v1?q",
        ],
        [
            "https://a.example/v1x",
            "https://a.example/v1/..",
            "https://a.example/v1/../x",
            "https://a.example/v1/.",
            "https://a.example/v1/.;x/y",
            "https://a.example/v1/..;x/y",
            "https://a.example/v1/%2e%2e/x",
            "https://a.example/v1/a%2fb",
            "https://a.example/v1/ä",
            "https://x@a.example/v1",
            "https://a.example:8443/v1",
            "http://a.example/v1",
            "https://a.example.:443/v1",
        ],
    ),
    (UrlWithin("https://127.0.0.1/"), ["https://127.0.0.1/x"], ["https://127.1/x", "https://127.0.0.2/x"]),
    (UrlWithin("https://k.example/"), ["https://K.example/x"], ["https://\u212a.example/x"]),
    (UrlWithin("http://a.example"), ["http://a.example:80/x", "http://a.example"], ["https://a.example/x"]),
    (
        EmailDomain("a.example"),
        ["x@a.example", "x.y+z@A.example"],
        ["x@b.a.example", "x@y@a.example", "x@a.example@b.example", "@a.example", "x%y@a.example", ".x@a.example"],
    ),
]


@pytest.mark.parametrize(("place", "within", "outside"), PLACES, ids=repr)
def test_places_are_read_in_one_spelling(place: Constraint, within: list[str], outside: list[str]) -> None:
    """What two readers may take differently is outside, wherever it would lead."""
    assert [text for text in within if not place.permits(text)] == []
    assert [text for text in outside if place.permits(text)] == []


@pytest.mark.parametrize(
    "host", ["127.1", "1", "a.1", "0x7f.1", "a.0x1", "256.0.0.1", "1.2.3.4.5", "-a.example", "[::1]"]
)
def test_a_host_that_readers_take_for_another_address_is_no_place(host: str) -> None:
    """A last label that is a number makes an address of it for browsers, and only for those."""
    check_refusal(lambda: UrlWithin(f"https://{host}/"), ValueError, None, PLACE)


READINGS: dict[str, tuple[object, str, str]] = {
    "no object": (1, "bad_constraint", "the constraint is not a JSON object"),
    "too deep": (nested(33, objects=True), "bad_constraint", f"bad constraint: {PARTS}"),
    "unknown": (
        {"constraint_type": "new"},
        "unknown_constraint",
        "the constraint_type 'new' is unknown",
    ),
    "no type": ({}, "unknown_constraint", "the constraint_type (missing or unreadable) is unknown"),
    "long type": (
        {"constraint_type": "x" * 64},
        "unknown_constraint",
        f"the constraint_type '{'x' * 64}' is unknown",
    ),
    "too long a type": (
        {"constraint_type": "x" * 65},
        "unknown_constraint",
        "the constraint_type (missing or unreadable) is unknown",
    ),
    "type with a control": (
        {"constraint_type": "a\n"},
        "unknown_constraint",
        "the constraint_type (missing or unreadable) is unknown",
    ),
    "type beyond ASCII": (
        {"constraint_type": "ä"},
        "unknown_constraint",
        "the constraint_type (missing or unreadable) is unknown",
    ),
    "more members": (
        {"constraint_type": "wildcard", "value": 1},
        "bad_constraint",
        "in a constraint of type wildcard; give none",
    ),
    "another member": (
        {"constraint_type": "range", "low": 1},
        "bad_constraint",
        "in a constraint of type range; give max, max_inclusive, min, min_inclusive",
    ),
    "no array": (
        {"constraint_type": "one_of", "values": "ab"},
        "bad_constraint",
        "bad constraint of type one_of: values is not an array",
    ),
    "no array to exclude": (
        {"constraint_type": "not_one_of", "excluded": 1},
        "bad_constraint",
        "bad constraint of type not_one_of: excluded is not an array",
    ),
    "no array to contain": (
        {"constraint_type": "contains", "required": 1},
        "bad_constraint",
        "bad constraint of type contains: required is not an array",
    ),
    "no array of a subset": (
        {"constraint_type": "subset", "allowed": 1},
        "bad_constraint",
        "bad constraint of type subset: allowed is not an array",
    ),
    "no array of domains": (
        {"constraint_type": "email_domain", "domains": "a.example"},
        "bad_constraint",
        "bad constraint of type email_domain: domains is not an array",
    ),
    "no array of clauses": (
        {"constraint_type": "all", "constraints": {}},
        "bad_constraint",
        "bad constraint of type all: constraints is not an array",
    ),
    "clause no object": (
        {"constraint_type": "any", "constraints": [1]},
        "bad_constraint",
        "the constraint is not a JSON object",
    ),
    "null as a bound": (
        {"constraint_type": "range", "max": None},
        "bad_constraint",
        "bad constraint of type range: the bound is null",
    ),
    "flag no boolean": (
        {"constraint_type": "path_within", "root": "/d", "follow_links": 0},
        "bad_constraint",
        "bad constraint of type path_within: follow_links of PathWithin is not True or False",
    ),
}


@pytest.mark.parametrize(("claim", "code", "message"), READINGS.values(), ids=READINGS)
def test_what_a_refused_claim_of_a_constraint_says(claim: object, code: str, message: str) -> None:
    """Each claim that is no constraint of this version is refused with what it is not."""
    check_refusal(lambda: constraint_from_claim(claim), TokenError, code, message)


EVERY_KIND = [
    Exact(1),
    OneOf(1, 2),
    NotOneOf(1),
    Range(max=1, max_inclusive=False),
    Contains(1),
    Subset(1),
    Wildcard(),
    AllOf(Exact(1)),
    AnyOf(Exact(1)),
    PathWithin("/d", follow_links=True),
    UrlWithin("https://a.example/"),
    EmailDomain("a.example"),
    Prefix("x"),
]


@pytest.mark.parametrize("constraint", EVERY_KIND, ids=lambda kind: kind.kind)
def test_a_member_too_many_is_refused_in_every_kind(constraint: Constraint) -> None:
    """A member that this version does not know may restrict, so no kind ignores one."""
    with pytest.raises(TokenError) as refused:
        constraint_from_claim({**constraint.to_claim(), "more": 1})
    assert refused.value.code == "bad_constraint"


class Clocks:
    """Two clocks that tests set."""

    wall = 1_000
    monotonic = 500

    def wall_ns(self) -> int:
        return self.wall

    def monotonic_ns(self) -> int:
        return self.monotonic


def leased(after: Callable[[TaskRegistry, Lease, Clocks], object]) -> Callable[[], object]:
    """Return something done to a task that is open for 100 ns."""

    def act() -> object:
        registry, clock = TaskRegistry(), Clocks()
        lease = registry.open("task", 1_100, clock=clock)
        return after(registry, lease, clock)

    return act


def late(_: TaskRegistry, lease: Lease, clock: Clocks) -> None:
    """Check a lease at its deadline."""
    clock.wall = 1_100
    lease.check(clock)


def ended(_: TaskRegistry, lease: Lease, clock: Clocks) -> None:
    """Check a lease that has ended."""
    lease.end()
    lease.check(clock)


LEASES: dict[str, Refusal] = {
    "ended": (
        leased(ended),
        NoTask,
        "task_ended",
        "the task has ended",
    ),
    "expired": (
        leased(late),
        GrantExpired,
        "grant_expired",
        "the grant has expired",
    ),
    "opened too late": (
        leased(lambda registry, _, clock: registry.open("late", 1_000, clock=clock)),
        GrantExpired,
        "grant_expired",
        "the deadline has passed",
    ),
    "in use": (
        leased(lambda registry, _, clock: registry.open("task", 2_000, clock=clock)),
        ValueError,
        None,
        "the task id is in use",
    ),
    "another task": (
        leased(lambda registry, lease, clock: registry.open("other", 2_000, lease, clock=clock)),
        ValueError,
        None,
        "the task id is not that of the parent lease",
    ),
    "no id": (
        leased(lambda registry, _, clock: registry.open("", 2_000, clock=clock)),
        ValueError,
        None,
        "task_id has 0 characters",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(LEASES))
def test_what_a_refused_lease_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each way not to have a live task is refused with what to do."""
    check_refusal(make, kind, code, message)


def test_a_forked_child_does_not_wait_for_a_lock_of_its_parent() -> None:
    """A lock that was held when the process forked never opens again in the child; its tasks can still end."""
    registry, clock = TaskRegistry(), Clocks()
    lease = registry.open("task", 1_100, clock=clock)
    held, leave = threading.Event(), threading.Event()

    class Stuck(Clocks):
        reads = 0

        def wall_ns(self) -> int:
            self.reads += 1
            if self.reads == 3:  # The others are read before the lock is taken.
                held.set()
                leave.wait(60)
            return self.wall

    holder = threading.Thread(target=lambda: registry.open("task", 1_100, lease, clock=Stuck()))
    holder.start()
    assert held.wait(60)
    registry.after_fork_in_child()
    ending = threading.Thread(target=lambda: (lease.end(), registry.open("new", 1_100, clock=clock)), daemon=True)
    ending.start()
    ending.join(10)
    hung, over = ending.is_alive(), not lease.live
    leave.set()
    holder.join()
    assert (hung, over) == (False, True)
