"""Tokens: the published example byte for byte, two other implementations, and strict reading."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from joserfc import jws
from joserfc.jwk import OKPKey
from jwt.algorithms import OKPAlgorithm

from agent_identity._authority.grants.scope import Scope
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.keys.jws import (
    MAX_TOKEN,
    par_hash,
    parse_compact,
    sign_compact,
    token_hash,
    verify_compact,
)
from agent_identity.errors import TokenError
from agent_identity.identity import SigningKey

KEY = SigningKey.from_seed(b"\x01" * 32)
HEADER = {"typ": "aat+jwt"}
CLAIMS = {"b": [1, 2.5, None, True], "a": "ä\u2028"}
TOKEN = sign_compact(HEADER, CLAIMS, KEY)


@pytest.fixture(scope="module")
def published(shared_vectors: Path) -> dict[str, Any]:
    """Return the worked example of our formats."""
    example: dict[str, Any] = json.loads((shared_vectors / "agent_identity_v1.json").read_text("utf-8"))
    return example


def private_jwk(seed: bytes) -> dict[str, str]:
    """Return the private JWK of a seed, for the other implementations."""
    key = SigningKey.from_seed(seed)
    return {**key.public_key.to_jwk(), "d": b64url_encode(seed)}


@pytest.mark.parametrize(
    ("token", "key", "typ"),
    [("root_token", "issuer", "aat+jwt"), ("leaf_token", "orchestrator", "aat+jwt"), ("pop", "billing", "aat-pop+jwt")],
)
def test_the_published_tokens_are_reproduced(published: dict[str, Any], token: str, key: str, typ: str) -> None:
    """Header, payload and signature of each published token come out byte for byte, and it verifies."""
    text = published["delegation"][token]
    signer = SigningKey.from_seed(bytes.fromhex(published["keys"][key]["seed"]))
    claims = verify_compact(text, signer.public_key, typ)
    kid = parse_compact(text).kid
    header = {"typ": typ} if kid is None else {"typ": typ, "kid": kid}
    assert sign_compact(header, claims, signer) == text
    if "authorization_details" in claims:
        tools = claims["authorization_details"][0]["tools"]  # type: ignore[index,call-overload]
        assert Scope.from_claim(tools).to_claim() == tools  # type: ignore[arg-type]


def test_the_published_hashes_are_reproduced(published: dict[str, Any]) -> None:
    """The parent hash and the digests that records use are those of the example."""
    root, leaf = published["delegation"]["root_token"], published["delegation"]["leaf_token"]
    assert par_hash(root) == published["delegation"]["root_par_hash"]
    chain = json.loads(published["records"][0]["payload_jcs"])["delegation"]["chain"]
    found = [f"sha256:{b64url_decode(token_hash(token)).hex()}" for token in (root, leaf)]
    assert found == [chain[1]["token"], chain[2]["token"]]


def test_the_published_attenuation_holds(published: dict[str, Any]) -> None:
    """The scope of the published leaf is within that of its root, and permits the published arguments."""
    details = [
        json.loads(parse_compact(published["delegation"][name]).payload)["authorization_details"][0]["tools"]
        for name in ("root_token", "leaf_token")
    ]
    root, leaf = map(Scope.from_claim, details)
    root.check_attenuates(leaf)
    leaf.check("refund_payment", published["delegation"]["args"], published["delegation"]["args"])


def test_pyjwt_reads_ours_and_we_read_its(published: dict[str, Any]) -> None:
    """PyJWT verifies our tokens; what it signs over canonical bytes we verify."""
    jwk = OKPAlgorithm.from_jwk(KEY.public_key.to_jwk())
    assert jwt.api_jws.PyJWS().decode(TOKEN, jwk, algorithms=["EdDSA"]) == parse_compact(TOKEN).payload
    private = OKPAlgorithm.from_jwk(private_jwk(b"\x01" * 32))
    theirs = jwt.api_jws.PyJWS().encode(
        parse_compact(TOKEN).payload, private, algorithm="EdDSA", headers=HEADER, sort_headers=True
    )
    assert theirs == TOKEN
    root = published["delegation"]["root_token"]
    assert jwt.decode(root, jwk, algorithms=["EdDSA"], options={"verify_exp": False})["txn"] == "task-7f2"


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
def test_joserfc_reads_ours_and_we_read_its(algorithm: str) -> None:
    """The second implementation agrees, under both names of the algorithm."""
    payload = parse_compact(TOKEN).payload
    key = OKPKey.import_key(private_jwk(b"\x01" * 32))
    assert jws.deserialize_compact(TOKEN, key, algorithms=["EdDSA"]).payload == payload
    theirs = jws.serialize_compact({"alg": algorithm, "typ": "aat+jwt"}, payload, key, algorithms=[algorithm])
    assert verify_compact(theirs, KEY.public_key, "aat+jwt") == CLAIMS


def raw(header: bytes, payload: bytes, *, key: SigningKey = KEY) -> str:
    """Return a correctly signed token over arbitrary bytes."""
    text = f"{b64url_encode(header)}.{b64url_encode(payload)}"
    return f"{text}.{b64url_encode(key.sign(text.encode()))}"


GOOD = b'{"alg":"EdDSA","typ":"aat+jwt"}'


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
        (raw(b'{"typ":"aat+jwt","alg":"EdDSA"}', b"{}"), "not_canonical"),
        (raw(b'{"alg":"EdDSA","alg":"EdDSA","typ":"aat+jwt"}', b"{}"), "not_canonical"),
        (raw(b'{"alg":"EdDSA"}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"EdDSA","typ":1}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"EdDSA","typ":"JWT"}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"EdDSA","typ":"AAT+JWT"}', b"{}"), "wrong_type"),
        (raw(b'{"alg":"EdDSA","kid":"","typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(b'{"alg":"EdDSA","kid":null,"typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(b'{"alg":"EdDSA","kid":1,"typ":"aat+jwt"}', b"{}"), "malformed_token"),
        (raw(b'{"alg":"EdDSA","kid":"' + b"k" * 257 + b'","typ":"aat+jwt"}', b"{}"), "malformed_token"),
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
    assert header == {"alg": "EdDSA", "typ": "t"}
