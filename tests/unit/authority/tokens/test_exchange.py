"""What a token endpoint may answer, and how strictly it is read."""

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._authority.tokens.exchange import ACCESS_TOKEN, JWT, MAX_ANSWER, read_answer, read_refusal
from agent_identity._authority.tokens.source import check_order, check_scope
from agent_identity._identity.keys.jwt_keys import JwtKey
from agent_identity.errors import ExchangeError
from agent_identity.tokens import IssuedToken

CANARY = "CANARY-4711-hunter2"
GOOD: dict[str, Any] = {
    "access_token": "abc.DEF-_~+/==",
    "issued_token_type": ACCESS_TOKEN,
    "token_type": "Bearer",
    "expires_in": 60,
}


def read(answer: object, **changes: Any) -> tuple[str, int]:
    """Read an answer, as bytes or as what becomes JSON."""
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    given: dict[str, Any] = {
        "content_type": "application/json",
        "requested_type": ACCESS_TOKEN,
        "scope": (),
        "bound": False,
        "longest": 3600,
        **changes,
    }
    return read_answer(body, **given)


def test_a_good_answer_is_read() -> None:
    """Token and lifetime come out; members that nobody knows are ignored (RFC 6749 §5.1)."""
    assert read(GOOD) == ("abc.DEF-_~+/==", 60)
    assert read({**GOOD, "refresh_token": CANARY, "token_type": "bearer", "new": [1]}) == ("abc.DEF-_~+/==", 60)
    assert read({**GOOD, "token_type": "dpop"}, bound=True, content_type="Application/JSON; charset=utf-8")
    assert read({**GOOD, "scope": "a"}, scope=("a", "b"))
    assert read({**GOOD, "scope": ["of", "its", "own"]})  # Nothing was asked for.


@pytest.mark.parametrize(
    ("member", "values"),
    [
        (
            "access_token",
            (None, 5, "", "a b", "a\r\nb", "ä", "=", "a=b", "a" * (32 * 1024 + 1), ["a"], "Bearer x", 'a"'),
        ),
        ("issued_token_type", (None, JWT, "access_token", ACCESS_TOKEN.upper(), [ACCESS_TOKEN])),
        ("token_type", (None, "N_A", "DPoP", "mac", "", 1, ["Bearer"])),
        ("expires_in", (None, 0, -1, 3601, 10**30, "60", 60.0, True, [60])),
        ("scope", (5, ["a"], "a c", "admin")),
    ],
)
def test_a_member_of_another_kind_is_refused(member: str, values: tuple[object, ...]) -> None:
    """Each member must be exactly what was asked for; the message names it and shows nothing of it."""
    for value in values:
        with pytest.raises(ExchangeError, match=f"have the {member} that was asked for") as caught:
            read({**GOOD, member: value}, scope=("a",))
        assert caught.value.code == "exchange_malformed"
    if member != "scope":
        with pytest.raises(ExchangeError, match=f"have the {member} that was asked for"):
            read({name: value for name, value in GOOD.items() if name != member})


def test_a_bearer_token_where_a_bound_one_was_asked_for_is_refused() -> None:
    """Nobody is downgraded from DPoP to a token that any thief can use."""
    with pytest.raises(ExchangeError, match="the token_type that"):
        read(GOOD, bound=True)


@pytest.mark.parametrize(
    ("body", "content_type", "problem"),
    [
        (b"x" * (MAX_ANSWER + 1), "application/json", "more than"),
        (json.dumps(GOOD).encode(), "text/html", "application/json"),
        (json.dumps(GOOD).encode(), None, "application/json"),
        (json.dumps(GOOD).encode(), "application/jsonp", "application/json"),
        (json.dumps(GOOD).encode(), "application/jwt", "application/json"),
        (b"", "application/json", "object"),
        (b"null", "application/json", "object"),
        (b"[]", "application/json", "object"),
        (b'"text"', "application/json", "object"),
        (b"{", "application/json", "object"),
        (b"\xff\xfe{}", "application/json", "object"),
        (b'{"expires_in": NaN}', "application/json", "object"),
        (json.dumps(GOOD).replace("60", "1e400").encode(), "application/json", "expires_in"),
        (b'{"a": 1, "a": 2}', "application/json", "object"),
        (b'{"x": {"a": 1, "a": 2}}', "application/json", "object"),
        (b'{"a":' * 60_00 + b"1", "application/json", "object"),
        (b"[" * 60_000, "application/json", "object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "application/json", "object"),
        (b'{"a": 1} {"a": 2}', "application/json", "object"),
    ],
)
def test_a_body_of_another_form_is_refused(body: bytes, content_type: str | None, problem: str) -> None:
    """Too large, of another type, no JSON, twice the same member, nested without end: nothing is half-read."""
    with pytest.raises(ExchangeError, match=problem) as caught:
        read(body, content_type=content_type)
    assert (caught.value.code, caught.value.__cause__) == ("exchange_malformed", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "access_token": JSON | st.just("token"),
        "issued_token_type": JSON | st.just(ACCESS_TOKEN),
        "token_type": JSON | st.sampled_from(["Bearer", "DPoP"]),
        "expires_in": JSON | st.integers(-5, 5000),
        "scope": JSON | st.sampled_from(["a", "a b", "c"]),
        "error": JSON,
    },
)


@given(body=st.binary() | JSON.map(lambda v: json.dumps(v).encode()) | MEMBERS.map(lambda v: json.dumps(v).encode()))
def test_whatever_comes_is_read_or_refused(body: bytes) -> None:
    """Any bytes give a token within all bounds, or the typed error; never anything else."""
    try:
        value, lifetime = read(body, scope=("a", "b"))
    except ExchangeError as error:
        assert error.code == "exchange_malformed"  # noqa: PT017  Either is right.
    else:
        assert 1 <= lifetime <= 3600
        assert IssuedToken(value, expires_at=lifetime).value == value


@given(status=st.integers(100, 599), body=st.binary() | MEMBERS.map(lambda v: json.dumps(v).encode()))
def test_any_refusal_is_an_error_that_quotes_nothing(status: int, body: bytes) -> None:
    """Whatever an endpoint says in a refusal, the message is made of our words, its status and known codes."""
    error = read_refusal(status, body, content_type="application/json")
    assert error.code == "exchange_refused"
    said = error.reason or "no error code of OAuth"
    assert str(error) == f"the endpoint returned no token, but status {status} and {said}; see its log"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"error": "invalid_grant", "error_description": CANARY, "error_uri": CANARY}, "invalid_grant"),
        ({"error": CANARY}, None),
        ({"error": ["invalid_grant"]}, None),
        ({}, None),
    ],
)
def test_only_known_codes_are_told_on(body: dict[str, object], reason: str | None) -> None:
    """An endpoint that echoes the request in its errors tells nothing to logs and traces."""
    error = read_refusal(400, json.dumps(body).encode(), content_type="application/json")
    assert error.reason == reason
    assert CANARY not in f"{error!r}{error.__dict__}"
    assert pickle.loads(pickle.dumps(error)).reason == reason  # noqa: S301  Of this line.


def test_an_issued_token_shows_and_gives_away_nothing() -> None:
    """Neither repr nor pickle nor copy lets the value out."""
    token = IssuedToken(CANARY, expires_at=5)
    assert (repr(token), token.token_type) == ("IssuedToken(Bearer, expires_at=5)", "Bearer")
    assert IssuedToken(CANARY, expires_at=5, key=JwtKey.generate()).token_type == "DPoP"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            attempt(token)


@pytest.mark.parametrize(
    ("value", "expires_at", "kind"),
    [
        (b"bytes", 5, TypeError),
        ("token", "5", TypeError),
        ("token", 5.0, TypeError),
        ("two words", 5, ValueError),
        ("line\nbreak", 5, ValueError),
        ("", 5, ValueError),
        ("x" * (32 * 1024 + 1), 5, ValueError),
    ],
)
def test_an_issued_token_fits_a_header(value: Any, expires_at: Any, kind: type[Exception]) -> None:
    """A source of one's own cannot hand out what would break a request in two."""
    with pytest.raises(kind):
        IssuedToken(value, expires_at=expires_at)


@pytest.mark.parametrize(
    ("audience", "resource", "kind"),
    [
        ("", None, ValueError),
        (None, None, TypeError),
        ("a\nb", None, ValueError),
        ("a", "", ValueError),
        ("a", 5, TypeError),
        ("a", "relative/path", ValueError),
        ("a", "//host/path", ValueError),
        ("a", "https:", ValueError),
        ("a", "https://a.example/#x", ValueError),
        ("a", "https://a.example/#", ValueError),
        ("a", "https://[::1/", ValueError),
    ],
)
def test_a_malformed_order_is_refused(audience: object, resource: object, kind: type[Exception]) -> None:
    """What is asked for is checked before anybody is asked."""
    with pytest.raises(kind):
        check_order(audience, resource)


def test_orders_are_names_and_uris() -> None:
    """An audience is any name; a resource is an absolute URI, of whatever scheme."""
    check_order("invoices", None)
    check_order("https://a.example", "https://a.example/invoices?x=1")
    check_order("invoices", "urn:example:invoices")


@given(names=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8), max_size=9))
def test_a_scope_has_one_form(names: list[str]) -> None:
    """However it is written, a scope is its names, sorted, each once."""
    wanted = tuple(sorted(set(names)))
    assert check_scope(names) == check_scope(iter(reversed(names))) == wanted
    if names:
        assert check_scope(" ".join(names)) == wanted


@pytest.mark.parametrize(
    ("scope", "kind"),
    [
        ("", ValueError),
        ("a  b", ValueError),
        (" a", ValueError),
        ('a"b', ValueError),
        ("a\\b", ValueError),
        ("ä", ValueError),
        (["a b"], ValueError),
        (["x" * 257], ValueError),
        ([5], TypeError),
        ([str(n) for n in range(65)], ValueError),
    ],
)
def test_a_malformed_scope_is_refused(scope: Any, kind: type[Exception]) -> None:
    """No name can hold a space, a quote or more than 256 characters."""
    with pytest.raises(kind):
        check_scope(scope)


def test_no_scope_is_an_empty_one() -> None:
    """Without a scope the server decides."""
    assert check_scope(None) == check_scope([]) == ()
