"""Humans and services out of ID tokens and access tokens: everything is checked, and nothing leaks into messages."""

import hmac
import itertools
import json
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import ECKey, RSAKey

from agent_identity import Human, Service
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.principals.principals import principal_from_claim
from agent_identity.canonical import decode, encode
from agent_identity.errors import TokenError

NOW = 1_764_000_000
AT = {"typ": "at+jwt"}
ACCESS: dict[str, object] = {"client_id": "web-shop", "jti": "1"}


def _code(issuer: Any, token: Any, kind: type = Human, /, **expected: object) -> str:
    make = kind.from_id_token if kind is Human else kind.from_access_token
    with pytest.raises(TokenError) as caught:
        make(token, **issuer.expects(**expected))
    return caught.value.code


@pytest.mark.parametrize("key", ["ec", "ec384", "ec521", "rsa", "pss", "ed", "named"])
@pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", ...])
def test_a_good_id_token_is_a_verified_human(issuer: Any, key: str, typ: object) -> None:
    """Id, issuer and provenance come from the token, and survive as a claim."""
    human = Human.from_id_token(issuer.token(key=key, header={"typ": typ}), **issuer.expects())
    assert (human.id, human.issuer, human.roles) == ("alice@example.com", issuer.name, ())
    assert (human.provenance, human.kind) == ("verified", "human")
    assert human != Human("alice@example.com", issuer=issuer.name)
    claim = decode(encode(human.to_claim()))
    assert principal_from_claim(claim) == human


def test_a_good_access_token_is_a_verified_human(issuer: Any) -> None:
    """RFC 9068 tokens are accepted with all that they must have."""
    token = issuer.token(header={"typ": "application/AT+jwt"}, **ACCESS)
    assert Human.from_id_token(token, **issuer.expects()).provenance == "verified"
    assert Human.from_id_token(token, **issuer.expects(authorized_party="web-shop")).id == "alice@example.com"
    assert _code(issuer, token, authorized_party="other") == "wrong_party"
    for name in ("client_id", "jti", "iat", "exp", "aud", "sub", "iss"):
        assert _code(issuer, issuer.token(header=AT, **(ACCESS | {name: ...}))) == "missing_claim"


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat"])
@pytest.mark.parametrize(
    ("value", "code"),
    [(..., "missing_claim"), (None, None), ([], None), ({}, None), (True, None), ("", None), ([1], None), ("x", None)],
)
def test_a_claim_of_another_form_is_refused(issuer: Any, name: str, value: object, code: str | None) -> None:
    """Every required claim is there, and of its type."""
    wrong = {"aud": {"", "x"}, "iss": {"x"}, "sub": set()}
    if name == "sub" and value == "x":
        return
    expected = code or (
        "bad_claim" if not isinstance(value, str) or value not in wrong.get(name, ()) else f"wrong_{name}"
    )
    expected = {"wrong_aud": "wrong_audience", "wrong_iss": "wrong_issuer"}.get(expected, expected)
    assert _code(issuer, issuer.token(**{name: value})) == expected


@pytest.mark.parametrize("value", [-1, 2**53, float("1e300"), "1764000300", True, None, [1]])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf", "auth_time"])
def test_a_time_that_is_none_is_refused(issuer: Any, name: str, value: object) -> None:
    """Times are numbers of seconds within the range that every reader keeps."""
    assert _code(issuer, issuer.token(**{"auth_time": NOW, name: value}), max_age=60) == "bad_claim"


@pytest.mark.parametrize(
    ("claims", "ends"),
    [
        ({"exp": NOW}, 30),
        ({"exp": NOW - 29}, 1),
        ({"exp": NOW - 29.5, "iat": NOW - 100}, 1),
    ],
)
def test_a_token_ends_in_time(issuer: Any, claims: dict[str, object], ends: int) -> None:
    """It counts until its end and the skew after it, to the second."""
    token = issuer.token(**({"iat": NOW - 100} | claims))
    Human.from_id_token(token, **issuer.expects(now=NOW + ends - 1))
    assert _code(issuer, token, now=NOW + ends) == "expired"
    assert _code(issuer, token, now=NOW + ends - 1, skew=0) == "expired"


@pytest.mark.parametrize("name", ["iat", "nbf"])
def test_a_token_of_the_future_does_not_count_yet(issuer: Any, name: str) -> None:
    """It counts from its beginning less the skew."""
    token = issuer.token(**{name: NOW + 30})
    Human.from_id_token(token, **issuer.expects())
    assert _code(issuer, token, now=NOW - 1) == "not_yet_valid"
    assert _code(issuer, token, skew=29) == "not_yet_valid"
    Human.from_id_token(token, **issuer.expects(now=NOW + 30, skew=0))


def test_a_token_expires_after_it_was_issued(issuer: Any) -> None:
    """A lifetime below zero is nobody's intention."""
    assert _code(issuer, issuer.token(iat=NOW + 20, exp=NOW + 10)) == "bad_claim"


def test_the_issuer_is_compared_exactly(issuer: Any) -> None:
    """Neither a slash, nor a case, nor a prefix makes another issuer the same."""
    for name in (
        "https://login.example/",
        "https://LOGIN.example",
        "https://login.example.evil",
        "http://login.example",
    ):
        assert _code(issuer, issuer.token(iss=name)) == "wrong_issuer"
        assert _code(issuer, issuer.token(), issuer=name) == "wrong_issuer"


def test_the_audience_is_one_of_those_of_the_token(issuer: Any) -> None:
    """One text, or an array; several demand the authorized party."""
    mine, other = issuer.audience, "other"
    for audience, more, code in (
        ([mine], {}, None),
        ([mine, other], {"azp": mine}, None),
        ([other, mine], {"azp": mine}, None),
        ([mine, other], {}, "missing_claim"),
        ([mine, other], {"azp": other}, "wrong_party"),
        ([mine, other], {"azp": 1}, "bad_claim"),
        ([mine, mine], {}, "missing_claim"),
        (other, {}, "wrong_audience"),
        ([other], {}, "wrong_audience"),
        (mine + "x", {}, "wrong_audience"),
        ([mine, 1], {}, "bad_claim"),
        ([[mine]], {}, "bad_claim"),
        ({mine: 1}, {}, "bad_claim"),
        ([mine] * 65, {"azp": mine}, "bad_claim"),
        ([mine] * 64, {"azp": mine}, None),
    ):
        token = issuer.token(aud=audience, **more)
        if code is None:
            assert Human.from_id_token(token, **issuer.expects()).id == "alice@example.com"
        else:
            assert _code(issuer, token) == code


def test_the_authorized_party_is_the_audience_unless_another_is_named(issuer: Any) -> None:
    """A token for another client of the same issuer is refused, also where it names our audience."""
    Human.from_id_token(issuer.token(azp="phone"), **issuer.expects(authorized_party="phone"))
    assert _code(issuer, issuer.token(azp="phone")) == "wrong_party"
    assert _code(issuer, issuer.token(azp=issuer.audience), authorized_party="phone") == "wrong_party"
    assert _code(issuer, issuer.token(), authorized_party="phone") == "wrong_party"


def test_the_nonce_is_compared_if_one_was_sent(issuer: Any) -> None:
    """A token without it, or with another one, answers another request."""
    assert Human.from_id_token(issuer.token(nonce="ü-1"), **issuer.expects(nonce="ü-1")).provenance == "verified"
    for nonce in (..., None, "", "ü-2", "ü-1 ", ["ü-1"], 1, "\ud800"):
        assert _code(issuer, issuer.token(nonce=nonce), nonce="ü-1") == "wrong_nonce"


def test_the_login_is_recent_enough_if_that_is_asked(issuer: Any) -> None:
    """auth_time counts with max_age, and may not be in the future."""
    token = issuer.token(auth_time=NOW - 90)
    Human.from_id_token(token, **issuer.expects(max_age=60))
    Human.from_id_token(issuer.token(auth_time=NOW - 60.5), **issuer.expects(max_age=60, skew=1))
    assert _code(issuer, token, max_age=59) == "login_too_old"
    assert _code(issuer, issuer.token(), max_age=60) == "missing_claim"
    assert _code(issuer, issuer.token(auth_time=NOW + 31), max_age=60) == "not_yet_valid"
    Human.from_id_token(issuer.token(auth_time=NOW - 10**6), **issuer.expects())


@pytest.mark.parametrize(
    ("claim", "value", "roles"),
    [
        ("roles", ["admin", "clerk"], ("admin", "clerk")),
        ("roles", "admin", ("admin",)),
        ("roles", [], ()),
        ("roles", None, ()),
        ("roles", ..., ()),
        ("https://example.com/roles", ["a"], ("a",)),
        ("roles", 1, "bad_claim"),
        ("roles", {"a": 1}, "bad_claim"),
        ("roles", ["a", 1], "bad_claim"),
        ("roles", ["a\n"], "bad_principal"),
        ("roles", [""], "bad_principal"),
        ("roles", [f"r{n}" for n in range(65)], "bad_principal"),
    ],
)
def test_roles_come_from_the_configured_claim(issuer: Any, claim: str, value: object, roles: Any) -> None:
    """One text or an array of texts; absent means none, and another form is refused."""
    token = issuer.token(**{claim: value})
    if isinstance(roles, str):
        assert _code(issuer, token, roles_claim=claim) == roles
    else:
        assert Human.from_id_token(token, **issuer.expects(roles_claim=claim)).roles == roles
    assert Human.from_id_token(token, **issuer.expects()).roles == ()


def test_roles_may_stand_deeper(issuer: Any) -> None:
    """A tuple of names leads from the outside in."""
    path = ("realm_access", "roles")
    token = issuer.token(realm_access={"roles": ["admin"]})
    assert Human.from_id_token(token, **issuer.expects(roles_claim=path)).roles == ("admin",)
    assert Human.from_id_token(issuer.token(realm_access={}), **issuer.expects(roles_claim=path)).roles == ()
    assert Human.from_id_token(issuer.token(), **issuer.expects(roles_claim=path)).roles == ()
    assert _code(issuer, issuer.token(realm_access=["admin"]), roles_claim=path) == "bad_claim"


@pytest.mark.parametrize("subject", ["a" * 257, " a", "a\n", "\u202ea", "\ud800"])
def test_the_subject_follows_the_rules_of_ids(issuer: Any, subject: str) -> None:
    """What could be mistaken for another id is refused."""
    assert _code(issuer, issuer.token(sub=subject)) == "bad_principal"


@pytest.mark.parametrize(
    ("claims", "service"),
    [
        ({"sub": "web-shop"}, True),
        ({"sub": "web-shop@clients"}, True),
        ({"gty": "client-credentials"}, True),
        ({"idtyp": "app"}, True),
        ({"sub": "system:serviceaccount:prod:job"}, True),
        ({"preferred_username": "service-account-Web-Shop"}, True),
        ({"preferred_username": "service-account-other"}, False),
        ({"sub": "phone", "azp": "phone"}, True),
        ({"sub": "phone", "appid": "phone"}, True),
        ({"sub": "phone", "cid": "phone"}, True),
        ({}, False),
        ({"client_id": "", "sub": "alice"}, None),
        ({"idtyp": "user", "gty": "password"}, False),
        ({"azp": None}, False),
    ],
)
def test_a_client_is_a_service_and_no_human(issuer: Any, claims: dict[str, object], service: bool | None) -> None:
    """By RFC 9068 or by the marks of providers, each token is one of a human or of a service, never of both."""
    token = issuer.token(header=AT, **(ACCESS | claims))
    if service is None:
        assert _code(issuer, token) == _code(issuer, token, Service) == "bad_claim"
    elif service:
        made = Service.from_access_token(token, **issuer.expects(roles_claim="roles"))
        assert (made.provenance, made.kind, made.issuer) == ("verified", "service", issuer.name)
        assert _code(issuer, token) == "not_a_human"
    else:
        assert Human.from_id_token(token, **issuer.expects()).kind == "human"
        assert _code(issuer, token, Service) == "not_a_service"


def test_neither_an_audience_nor_a_workload_is_a_human(issuer: Any) -> None:
    """A subject that is the client itself, or has a SPIFFE ID, is no person."""
    assert _code(issuer, issuer.token(sub=issuer.audience)) == "not_a_human"
    assert _code(issuer, issuer.token(sub="x", aud=["x", issuer.audience], azp=issuer.audience)) == "not_a_human"
    for name in ("spiffe://example.org/a", "SPIFFE://example.org/a", "spiffe:"):
        assert _code(issuer, issuer.token(sub=name)) == "not_a_human"
    assert _code(issuer, issuer.token(header=AT, **(ACCESS | {"sub": ...})), Service) == "missing_claim"


TYPES = [
    "aat+jwt",
    "aat-pop+jwt",
    "txntoken+jwt",
    "oauth-id-jag+jwt",
    "dpop+jwt",
    "logout+jwt",
    "secevent+jwt",
    "token-introspection+jwt",
    "oauth-authz-req+jwt",
    "wit+jwt",
    "JOSE",
    "at+jwt ",
    "application/application/jwt",
]


@pytest.mark.parametrize("typ", TYPES)
def test_tokens_of_other_types_are_refused(issuer: Any, typ: str) -> None:
    """What the issuer signed for another purpose makes no human and no service."""
    token = issuer.token(header={"typ": typ}, **ACCESS)
    assert _code(issuer, token) == _code(issuer, token, Service) == "wrong_type"


def test_a_logout_token_is_no_login(issuer: Any) -> None:
    """It has issuer, subject, audience and time of an ID token, and perhaps no type; its events give it away."""
    events = {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert _code(issuer, issuer.token(header={"typ": ...}, events=events)) == "wrong_type"


def test_ac_13_every_confusion_of_header_and_key_is_refused(issuer: Any, stranger: Any) -> None:
    """Of all keys that sign, keys that are named and algorithms that are named, only what fits is accepted."""
    names = ["ec", "ec384", "rsa", "pss", "ed"]
    algorithms = ["ES256", "ES384", "RS256", "RS384", "PS384", "EdDSA", "Ed25519", "HS256", "none", "ES256K"]
    accepted = 0
    for by, named, algorithm in itertools.product(names, [*names, "nobody", ...], algorithms):
        for signer in (issuer, stranger):
            header = {"alg": algorithm, "kid": named}
            try:
                token = signer.signed(issuer.claims(), key=by, header=header)
            except AttributeError:  # The key has no such algorithm; something is signed in its place.
                token = signer.signed(issuer.claims(), key=by, header=header, by="ed")
            own = {"EdDSA", "Ed25519"} if by == "ed" else {issuer.algorithm(by)}
            right = algorithm in own and named in (by, ...) and signer.keys[by] is issuer.keys[by]
            # Without a name two Ed25519 keys are possible.
            right = right and not (by == "ed" and named is ...)
            if right:
                accepted += 1
                assert Human.from_id_token(token, **issuer.expects()).provenance == "verified"
            else:
                code = _code(issuer, token)
                assert code in {"algorithm_not_allowed", "unknown_key", "bad_signature"}, (by, named, algorithm)
    assert accepted > 8


def test_ac_13_the_public_key_is_no_password(issuer: Any) -> None:
    """HMAC with the public key, as DER or as its JWK, is refused; so is no signature at all."""
    public = issuer.keys["rsa"].public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for shared in (public, json.dumps(issuer.jwk("rsa")).encode()):
        text = ".".join(
            b64url_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "kid": "rsa"}, issuer.claims())
        )
        token = f"{text}.{b64url_encode(hmac.digest(shared, text.encode(), 'sha256'))}"
        assert _code(issuer, token) == "algorithm_not_allowed"
    nothing = jwt.encode(issuer.claims(), None, algorithm="none", headers={"kid": "rsa"})
    assert _code(issuer, nothing) == "algorithm_not_allowed"


def test_ac_19_every_bit_of_a_token_counts(issuer: Any, drawn: Callable[[range], Sequence[int]]) -> None:
    """A token with any one bit flipped is refused: in the header, the claims, the signature and between them."""
    for key in ("ec", "ed", "rsa"):
        data = issuer.token(key=key, roles=["admin"]).encode()
        for position in drawn(range(len(data))):
            changed = bytearray(data)
            changed[position] ^= 1 << position % 7
            with pytest.raises(TokenError):
                Human.from_id_token(changed.decode(), **issuer.expects())


@given(st.data())
def test_ac_19_every_byte_under_the_signature_counts(issuer: Any, data: st.DataObject) -> None:
    """With the encoding repaired, any change of header or claims is refused before a claim counts."""
    header, payload, signature = issuer.token(key=data.draw(st.sampled_from(["ec", "rsa", "ed"]))).split(".")
    parts = [bytearray(b64url_decode(header)), bytearray(b64url_decode(payload)), bytearray(b64url_decode(signature))]
    part = data.draw(st.sampled_from(parts))
    part[data.draw(st.integers(0, len(part) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(TokenError) as caught:
        Human.from_id_token(".".join(b64url_encode(bytes(one)) for one in parts), **issuer.expects())
    assert caught.value.code in {
        "algorithm_not_allowed", "unknown_key", "bad_signature", "malformed_token", "unknown_header", "wrong_type"
    }  # fmt: skip


def test_ac_19_claims_of_one_token_do_not_fit_the_signature_of_another(issuer: Any) -> None:
    """The human of one token cannot be put into another."""
    alice, bob = (issuer.token(sub=name).split(".") for name in ("alice", "bob"))
    for parts in itertools.product(*zip(alice, bob, strict=True)):
        if parts[1] == alice[1] and parts[2] == alice[2]:
            assert Human.from_id_token(".".join(parts), **issuer.expects()).id == "alice"
        elif parts[1] == bob[1] and parts[2] == bob[2]:
            assert Human.from_id_token(".".join(parts), **issuer.expects()).id == "bob"
        else:
            assert _code(issuer, ".".join(parts)) == "bad_signature"


def test_ac_14_a_key_in_the_token_is_not_used(issuer: Any, stranger: Any) -> None:
    """A stranger's token that brings its own key, which verifies it, is refused."""
    for member, value in (
        ("jwk", stranger.jwk("ec")),
        ("jku", "http://127.0.0.1:9/keys"),
        ("x5c", ["MII"]),
        ("x5u", "http://127.0.0.1:9/cert"),
        ("crit", ["exp"]),
    ):
        assert _code(issuer, stranger.token(header={member: value})) == "unknown_header"


def test_claims_are_read_only_after_the_signature(issuer: Any, stranger: Any) -> None:
    """Wrong claims under a wrong signature are a wrong signature; malformed claims under a right one are malformed."""
    assert _code(issuer, stranger.signed(b"no json at all")) == "bad_signature"
    for payload in (b"no json", b"[]", b'{"a":1,"a":1}', b'{"exp":NaN}', b"\xff", b"[" * 30_000):
        assert _code(issuer, issuer.signed(payload)) == "malformed_token"


CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": CANARY + "\n"},
        {"iss": CANARY},
        {"aud": CANARY},
        {"azp": CANARY},
        {"nonce": CANARY},
        {"roles": [CANARY + "\n"]},
        {"exp": CANARY},
        {"sub": CANARY, "client_id": CANARY},
        {"header": {"kid": CANARY}},
        {"header": {"alg": CANARY}},
        {"header": {"typ": CANARY}},
    ],
    ids=str,
)
def test_no_message_repeats_what_a_token_says(issuer: Any, changes: dict[str, Any]) -> None:
    """Neither claims nor names of keys get into errors, which tracing back ends copy."""
    token = issuer.token(**({"nonce": "n"} | changes))
    with pytest.raises(TokenError) as caught:
        Human.from_id_token(token, **issuer.expects(nonce="n", roles_claim="roles"))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"issuer": ""}, ValueError),
        ({"issuer": None}, TypeError),
        ({"audience": ""}, ValueError),
        ({"audience": ["a"]}, TypeError),
        ({"authorized_party": ""}, ValueError),
        ({"skew": 31}, ValueError),
        ({"skew": -1}, ValueError),
        ({"skew": 1.5}, TypeError),
        ({"skew": True}, TypeError),
        ({"now": 1.5}, TypeError),
        ({"now": -1}, ValueError),
        ({"max_age": -1}, ValueError),
        ({"max_age": 1.0}, TypeError),
        ({"nonce": ""}, TypeError),
        ({"nonce": b"n"}, TypeError),
        ({"roles_claim": ["roles"]}, TypeError),
        ({"roles_claim": (1,)}, TypeError),
        ({"jwks": "https://login.example/keys"}, ValueError),
    ],
)
def test_wrong_expectations_are_mistakes_of_the_programmer(issuer: Any, changes: dict[str, object], kind: type) -> None:
    """A relying party that expects nonsense is told so, and verifies nothing."""
    with pytest.raises(kind) as caught:
        Human.from_id_token(issuer.token(), **issuer.expects(**changes))
    assert not isinstance(caught.value, TokenError)


def test_the_present_is_the_time_by_default(issuer: Any) -> None:
    """Without now, the clock of the system decides: tokens of the fixed time are over, new ones count."""
    assert _code(issuer, issuer.token(), now=...) == "expired"
    now = int(time.time())
    token = issuer.token(iat=now, exp=now + 60)
    assert Human.from_id_token(token, **issuer.expects(now=...)).provenance == "verified"


@pytest.mark.parametrize(
    ("kid", "algorithm"), [("ec", "ES256"), ("ec521", "ES512"), ("rsa", "RS256"), ("pss", "PS384"), ("ed", "EdDSA")]
)
def test_tokens_of_pyjwt_are_read(issuer: Any, kid: str, algorithm: str) -> None:
    """What PyJWT signs we verify, and what our tests sign PyJWT verifies."""
    token = jwt.encode(issuer.claims(), issuer.keys[kid], algorithm=algorithm, headers={"kid": kid})
    assert Human.from_id_token(token, **issuer.expects()).id == "alice@example.com"
    read = jwt.decode(
        issuer.token(key=kid),
        jwt.PyJWK(issuer.jwk(kid, alg=algorithm)),
        algorithms=[algorithm],
        audience=issuer.audience,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert read == issuer.claims()


def test_tokens_of_joserfc_are_read(issuer: Any) -> None:
    """What joserfc signs with keys that it made we verify by the set that it publishes."""
    for key, algorithm in ((ECKey.generate_key("P-384"), "ES384"), (RSAKey.generate_key(2048), "PS256")):
        key.ensure_kid()
        header = {"alg": algorithm, "kid": key.kid}
        token = joserfc_jwt.encode(header, issuer.claims(), key, algorithms=[algorithm])
        jwks = {"keys": [{**key.as_dict(private=False), "alg": algorithm}]}
        assert Human.from_id_token(token, **issuer.expects(jwks=jwks)).id == "alice@example.com"
