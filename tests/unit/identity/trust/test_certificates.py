"""Certificates of recorders: their form, their bounds, and the store that they extend."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity._identity.trust.certificates import (
    CERTIFICATE_TYPE,
    MAX_CERTIFICATE,
    MAX_CERTIFICATE_LIFETIME,
    Presented,
    trusted_certificate,
    unverified_certificate,
)
from agent_identity.errors import TokenError
from agent_identity.identity import Certificate, FileVersion, SigningKey, TrustedKey, TrustStore, certified

ROOT, RECORDER, ISSUER, OTHER = (SigningKey.from_seed(bytes([number]) * 32) for number in range(1, 5))
TRUST = TrustStore((TrustedKey(ROOT.public_key, "root", origin="a/"),), file=FileVersion("urn:example:x", 1))
GIVEN: dict[str, Any] = {
    "recorder": RECORDER.public_key,
    "origin": "a/b",
    "issuer_key": ISSUER.public_key,
    "issuer": "https://issuer.example",
    "principals": ("human", "service"),
    "not_before": 1_000,
    "expires_at": 1_000 + MAX_CERTIFICATE_LIFETIME,
}


def made(**changes: Any) -> Certificate:
    """Return a certificate."""
    return Certificate(**{**GIVEN, **changes})


def test_a_certificate_survives_its_token() -> None:
    """What was signed is what is read, by the root that signed it; the same bytes each time."""
    token = made().sign(ROOT)
    found, root = trusted_certificate(token, TRUST)
    assert (found, root) == (made(), TRUST.keys[0])
    assert token == made().sign(ROOT)
    assert parse_compact(token).typ == CERTIFICATE_TYPE
    assert len(token) < 1_000


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"expires_at": 1_001 + MAX_CERTIFICATE_LIFETIME}, ValueError),
        ({"expires_at": 1_000}, ValueError),
        ({"not_before": -1}, ValueError),
        ({"not_before": True}, TypeError),
        ({"expires_at": 2_000.0}, TypeError),
        ({"expires_at": 1 << 60, "not_before": (1 << 60) - 1}, ValueError),
        ({"origin": "a/"}, ValueError),
        ({"origin": ""}, ValueError),
        ({"origin": "a b"}, ValueError),
        ({"origin": 1}, TypeError),
        ({"issuer": " x"}, ValueError),
        ({"principals": ()}, ValueError),
        ({"principals": ("service", "human")}, ValueError),
        ({"principals": ("human", "human")}, ValueError),
        ({"principals": ("agent",)}, ValueError),
        ({"principals": ["human"]}, TypeError),
        ({"recorder": ROOT}, TypeError),
        ({"issuer_key": RECORDER.public_key}, ValueError),
    ],
)
def test_a_certificate_out_of_bounds_is_not_made(changes: dict[str, Any], kind: type[Exception]) -> None:
    """Nobody signs by mistake what no verifier takes."""
    with pytest.raises(kind):
        made(**changes)


CLAIMS: dict[str, Any] = {
    "exp": 2_000,
    "issuer": {"key": ISSUER.public_key.to_jwk(), "uri": "x"},
    "nbf": 1_000,
    "origin": "a/b",
    "principals": ["human"],
    "recorder": RECORDER.public_key.to_jwk(),
}
JUNK = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = st.recursive(
    JUNK, lambda some: st.lists(some, max_size=2) | st.dictionaries(st.text(max_size=4), some, max_size=2)
)


@pytest.mark.parametrize("more", [{"kid": "a"}, {"use": "sig"}])
def test_a_key_has_its_three_members_and_no_other(more: dict[str, str]) -> None:
    """What a key says of itself beside is no claim of the root."""
    claims = {**CLAIMS, "recorder": {**CLAIMS["recorder"], **more}}
    token = sign_compact({"kid": ROOT.public_key.thumbprint, "typ": CERTIFICATE_TYPE}, claims, ROOT)
    with pytest.raises(TokenError) as caught:
        trusted_certificate(token, TRUST)
    assert caught.value.code == "bad_recorder_certificate"


@given(st.sampled_from(sorted(CLAIMS)), VALUES)
def test_claims_of_any_shape_are_read_or_refused_with_a_code(name: str, value: Any) -> None:
    """A root that is careless, or not ours, makes no verifier stumble."""
    claims = {**CLAIMS, name: value}
    try:
        token = sign_compact({"kid": ROOT.public_key.thumbprint, "typ": CERTIFICATE_TYPE}, claims, ROOT)
    except ValueError:  # Lone surrogates.
        return
    code = None
    try:
        found, _ = trusted_certificate(token, TRUST)
    except TokenError as error:
        code = error.code
    if code is None:
        assert name not in ("issuer", "recorder", "principals")
        assert found.origin == claims["origin"]
    else:
        assert code in {"bad_recorder_certificate", "wrong_origin"}


def test_a_long_token_is_not_read() -> None:
    """Bounded before anything is parsed."""
    with pytest.raises(TokenError) as caught:
        certified(TRUST, ["a" * (MAX_CERTIFICATE + 1)])
    assert caught.value.code == "too_large"


def test_all_is_refused_or_told() -> None:
    """The first bad certificate is an error, unless somebody is to be told; good ones count beside it."""
    told: list[tuple[str | None, str]] = []
    bad = Presented(made().sign(OTHER), "s", 3)
    view = certified(TRUST, [bad, made().sign(ROOT)], refused=lambda one, error: told.append((one.stream, error.code)))
    assert told == [("s", "unknown_key")]
    told.clear()
    certified(TRUST, [bad, bad, bad], refused=lambda one, error: told.append((one.stream, error.code)))
    assert told == [("s", "unknown_key")]  # Said once, however often it stands there.
    assert view.lookup(RECORDER.public_key.thumbprint, "recorder") is not None
    with pytest.raises(TokenError):
        certified(TRUST, [bad])


def test_a_store_without_certificates_is_itself() -> None:
    """Nothing is copied where nothing is certified."""
    assert certified(TRUST, []) is TRUST


TIMES = st.integers(0, 300)
SOME = st.lists(st.tuples(TIMES, st.integers(1, 50), st.sampled_from(["a/b", "a/c"])), min_size=1, max_size=5)


@given(SOME, st.randoms(), TIMES)
def test_a_view_is_the_union_of_its_certificates(some: list[tuple[int, int, str]], random: Any, at: int) -> None:
    """In any order, at once or one after the other: valid for a log when one of its certificates is."""
    certificates = [made(not_before=n, expires_at=n + d, origin=origin) for n, d, origin in some]
    tokens = [one.sign(ROOT) for one in certificates]
    random.shuffle(tokens)
    view = certified(TRUST, tokens)
    step = TRUST
    for token in tokens:
        step = certified(step, [token])
    for origin in ("a/b", "a/c", "a/d"):
        expected = any(one.origin == origin and one.not_before <= at < one.expires_at for one in certificates)
        for store in (view, step, pickle.loads(pickle.dumps(view))):  # noqa: S301
            assert any(key.in_time(at) for key in store.recorders(origin)) == expected
            assert store.of_log(origin).recorders(origin) == store.recorders(origin)


def test_a_place_in_a_log_is_remembered() -> None:
    """Of what is handed over and found in a log, each place in the log is kept, once."""
    token = made().sign(ROOT)
    places = [Presented(token, "s", 1), Presented(token, "t", 9), Presented(token, "s", 1)]
    for order in ([token, *places], [*places, token]):
        view = certified(certified(TRUST, order[:2]), order[1:])
        key = view.lookup(RECORDER.public_key.thumbprint, "recorder")
        assert key is not None
        assert [one.places for one in key.certificates] == [(("s", 1), ("t", 9))]
    for stream, seq in (("s", 0), ("s", -1), (None, 1)):
        with pytest.raises(ValueError, match="place"):
            Presented(token, stream, seq)


def test_one_certificate_has_to_cover_all_of_it() -> None:
    """Time, kind and issuer of a grant are not put together from several."""
    name = ISSUER.public_key.thumbprint
    first = made(not_before=0, expires_at=100, principals=("service",))
    second = made(not_before=100, expires_at=200, principals=("human",), issuer="https://other.example")
    view = certified(TRUST, [first.sign(ROOT), second.sign(ROOT)])
    view.check_speaker(name, first.issuer, {"service"}, at=99)
    view.check_speaker(name, second.issuer, {"human"}, at=100)
    for issuer, kind, at, code in (
        (first.issuer, "human", 50, "wrong_principal"),
        (first.issuer, "service", 150, "key_not_valid_then"),
        ("https://third.example", "service", 50, "wrong_issuer"),
    ):
        with pytest.raises(TokenError) as caught:
            view.check_speaker(name, issuer, {kind}, at=at)
        assert caught.value.code == code


def test_a_listed_issuer_speaks_for_all_kinds_and_an_unknown_one_for_none() -> None:
    """The bounds of certificates concern certified keys alone."""
    listed = replace(TRUST, keys=(*TRUST.keys, TrustedKey(ISSUER.public_key, "issuer", issuer="x")))
    listed.check_speaker(ISSUER.public_key.thumbprint, "x", {"human", "service"}, at=0)
    for trust, issuer, code in ((listed, "y", "wrong_issuer"), (TRUST, "x", "unknown_key")):
        with pytest.raises(TokenError) as caught:
            trust.check_speaker(ISSUER.public_key.thumbprint, issuer, (), at=0)
        assert caught.value.code == code


def test_a_key_of_a_revoked_root_is_found_and_not_used() -> None:
    """It is in doubt; one that is too late by its own date does not count at all."""
    name = RECORDER.public_key.thumbprint
    root = replace(TRUST.keys[0], revoked_since=1_001)
    view = certified(replace(TRUST, keys=(root,)), [made().sign(ROOT)])
    for at, code in ((1_000, "key_revoked"), (999, "key_not_valid_then")):
        with pytest.raises(TokenError) as caught:
            view.find(name, "recorder", at=at)
        assert caught.value.code == code
    with pytest.raises(TokenError) as caught:
        certified(replace(TRUST, keys=(replace(root, revoked_since=1_000),)), [made().sign(ROOT)])
    assert caught.value.code == "signed_after_revocation"


@pytest.mark.parametrize(
    "fields", [{"not_before": True}, {"expires_at": 10.0}, {"principals": ["human"]}, {"issuer": None}]
)
def test_a_certificate_is_not_made_of_other_types(fields: dict) -> None:
    """What the program makes is checked like what it reads: a truth value is no time, a list no tuple."""
    with pytest.raises(TypeError, match=r" (is|are|has|have|does) "):
        made(**fields)


def test_a_certificate_is_read_without_a_root() -> None:
    """Its form and its type are checked, and who signed it is not."""
    certificate = made()
    assert unverified_certificate(certificate.sign(ROOT)) == certificate
    assert unverified_certificate(certificate.sign(SigningKey.generate())) == certificate
    other = sign_compact({"typ": "another+jwt"}, {}, ROOT)
    empty = sign_compact({"typ": CERTIFICATE_TYPE}, {}, ROOT)
    for token, code in ((other, "wrong_type"), (empty, "bad_recorder_certificate"), ("x", "malformed_token")):
        with pytest.raises(TokenError) as caught:
            unverified_certificate(token)
        assert caught.value.code == code
