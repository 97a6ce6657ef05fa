"""Tokens: the published example byte for byte, two other implementations, and strict reading."""

import base64
import json

import jwt
import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from jwt.algorithms import OKPAlgorithm

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.jws import (
    MAX_TOKEN,
    parse_compact,
    sign_compact,
    verify_compact,
)
from agent_identity.errors import TokenError
from agent_identity.identity import SigningKey

KEY = SigningKey.from_seed(b"\x01" * 32)
HEADER = {"typ": "aat+jwt"}
CLAIMS = {"b": [1, 2.5, None, True], "a": "ä\u2028"}
TOKEN = sign_compact(HEADER, CLAIMS, KEY)


def private_jwk(seed: bytes) -> dict[str, str]:
    """Return the private JWK of a seed, for the other implementations."""
    key = SigningKey.from_seed(seed)
    return {**key.public_key.to_jwk(), "d": b64url_encode(seed)}


def test_pyjwt_reads_ours_and_we_read_its() -> None:
    """PyJWT, told the name of the algorithm, verifies our tokens; what it signs over canonical bytes we verify."""
    theirs = jwt.api_jws.PyJWS()
    theirs.register_algorithm("Ed25519", OKPAlgorithm())
    jwk = OKPAlgorithm.from_jwk(KEY.public_key.to_jwk())
    assert theirs.decode(TOKEN, jwk, algorithms=["Ed25519"]) == parse_compact(TOKEN).payload
    private = OKPAlgorithm.from_jwk(private_jwk(b"\x01" * 32))
    payload = parse_compact(TOKEN).payload
    assert theirs.encode(payload, private, algorithm="Ed25519", headers=HEADER, sort_headers=True) == TOKEN


def test_joserfc_reads_ours_and_we_read_its() -> None:
    """The second implementation agrees."""
    payload = parse_compact(TOKEN).payload
    key = OKPKey.import_key(private_jwk(b"\x01" * 32))
    assert jws.deserialize_compact(TOKEN, key, algorithms=["Ed25519"]).payload == payload
    theirs = jws.serialize_compact({"alg": "Ed25519", "typ": "aat+jwt"}, payload, key, algorithms=["Ed25519"])
    assert verify_compact(theirs, KEY.public_key, "aat+jwt") == CLAIMS


def raw(header: bytes, payload: bytes, *, key: SigningKey = KEY) -> str:
    """Return a correctly signed token over arbitrary bytes."""
    text = f"{b64url_encode(header)}.{b64url_encode(payload)}"
    return f"{text}.{b64url_encode(key.sign(text.encode()))}"


GOOD = b'{"alg":"Ed25519","typ":"aat+jwt"}'


@pytest.mark.parametrize(
    ("token", "code"),
    [
        (None, "malformed_token"),
        (b"a.b.c", "malformed_token"),
        ("", "malformed_token"),
        ("a.b", "malformed_token"),
        (f"{TOKEN}.", "malformed_token"),
        (f"{TOKEN}=", "malformed_token"),
        (f"{TOKEN}\n", "malformed_token"),
        (f" {TOKEN}", "malformed_token"),
        (TOKEN.replace(".", "..", 1), "malformed_token"),
        ("é" + TOKEN[1:], "malformed_token"),
        ("\ud800" + TOKEN[1:], "malformed_token"),
        ("a" * (MAX_TOKEN + 1), "too_large"),
        (raw(b"[]", b"{}"), "malformed_token"),
        (raw(b"{", b"{}"), "not_canonical"),
        (raw(b'{"typ":"aat+jwt","alg":"Ed25519"}', b"{}"), "not_canonical"),
        (raw(b'{"alg":"Ed25519","alg":"Ed25519","typ":"aat+jwt"}', b"{}"), "not_canonical"),
        (raw(b'{"alg":"Ed25519"}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"Ed25519","typ":1}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"Ed25519","typ":"JWT"}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"Ed25519","typ":"AAT+JWT"}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"Ed25519","kid":"","typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(b'{"alg":"Ed25519","kid":null,"typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(b'{"alg":"Ed25519","kid":1,"typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(b'{"alg":"Ed25519","kid":"' + b"k" * 257 + b'","typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(GOOD, b"[]"), "malformed_token"),
        (raw(GOOD, b'{"a": 1}'), "not_canonical"),
        (raw(GOOD, b'{"a":1,"a":1}'), "not_canonical"),
        (raw(GOOD, b'{"a":NaN}'), "not_canonical"),
        (raw(GOOD, b"\xff"), "not_canonical"),
        (raw(GOOD, b"{}", key=SigningKey.from_seed(b"\x02" * 32)), "bad_signature"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_anything_but_the_one_form_is_refused(token: str, code: str) -> None:
    """Each malformed, oversized, re-encoded or wrongly signed token has its code; no message repeats it."""
    with pytest.raises(TokenError) as refused:
        verify_compact(token, KEY.public_key, "aat+jwt")
    assert refused.value.code == code
    assert "eyJ" not in str(refused.value)


def test_claims_are_not_parsed_before_the_signature_verifies() -> None:
    """A wrongly signed token with a hostile payload fails on the signature, not on the payload."""
    token = raw(GOOD, b"[" * 10_000, key=SigningKey.from_seed(b"\x02" * 32))
    with pytest.raises(TokenError) as refused:
        verify_compact(token, KEY.public_key, "aat+jwt")
    assert refused.value.code == "bad_signature"
    assert "EdDSA" not in repr(parse_compact(token))


def test_a_token_that_is_too_large_is_not_made() -> None:
    """The limit holds for the maker too."""
    with pytest.raises(ValueError, match="smaller scope"):
        sign_compact(HEADER, {"a": "x" * MAX_TOKEN}, KEY)


def test_the_maker_of_a_token_does_not_choose_the_algorithm() -> None:
    """Whatever a header names, the algorithm is ours."""
    header = json.loads(
        base64.urlsafe_b64decode(sign_compact({"alg": "none", "typ": "t"}, {}, KEY).split(".")[0] + "==")
    )
    assert header == {"alg": "Ed25519", "typ": "t"}
