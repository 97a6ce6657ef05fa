"""JWTs for others: their claims, and that independent libraries read them."""

import base64
import json
from typing import Any

import jwt as pyjwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey

from agent_identity import Agent, Human, Scope
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._authority.tokens.jwt import (
    access_claims,
    actor_claims,
    check_nonce,
    check_url,
    client_claims,
    dpop_proof,
    sign_jwt,
)
from agent_identity._identity.keys.jws import MAX_TOKEN
from agent_identity._identity.keys.jwt_keys import JwtKey
from agent_identity.errors import TokenError
from agent_identity.identity import SigningKey

NOW = 1_764_000_020
ISSUER, HOLDER, SECOND = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
KEY = JwtKey.generate("ES256")
ROOT = Chain(
    (
        issue(
            ISSUER,
            issuer="https://issuer.example.com",
            task_id="task-1",
            principal=Human("alice", roles=("cfo",)),
            agent=Agent("clerk", owner="finance"),
            holder=HOLDER.public_key,
            scope=Scope("pay", amount=5),
            now=NOW,
            ttl=60,
            id="01957a3f-4e23-7b01-a9d1-000000000001",
        ),
    )
)
CHAIN = ROOT.extended(
    derive(
        ROOT,
        HOLDER,
        agent=Agent("auditor", owner="finance"),
        holder=SECOND.public_key,
        scope=Scope("pay", amount=5),
        now=NOW,
        ttl=40,
        id="01957a3f-4e23-7b01-a9d1-000000000002",
    )
)


def part(token: str, index: int) -> Any:
    """Return a part of a token as JSON."""
    text = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def claims_of(chain: Chain = CHAIN, **changes: Any) -> dict[str, Any]:
    """Return the claims of an access token."""
    given: dict[str, Any] = {
        "issuer": "https://issuer.example.com",
        "audience": "https://api.example.com",
        "resource": None,
        "scope": (),
        "now": NOW,
        "ttl": 30,
        "id": "id",
        "key": None,
        **changes,
    }
    return access_claims(chain, **given)


def test_an_access_token_says_on_whose_behalf_who_acts() -> None:
    """Subject is the principal; client and outermost actor are the agent, those before it stand inside."""
    assert claims_of() == {
        "act": {"sub": "auditor", "act": {"sub": "clerk"}},
        "aud": "https://api.example.com",
        "authorization_details": [
            {"tools": {"pay": {"amount": {"constraint_type": "exact", "value": 5}}}, "type": "attenuating_agent_token"}
        ],
        "client_id": "auditor",
        "exp": NOW + 30,
        "iat": NOW,
        "iss": "https://issuer.example.com",
        "jti": "id",
        "principal": {"id": "alice", "kind": "human", "provenance": "asserted", "roles": ("cfo",)},
        "sub": "alice",
        "txn": "task-1",
    }


@given(ttl=st.integers(1, 86_400), later=st.integers(0, 39))
def test_an_access_token_never_outlives_the_grant(ttl: int, later: int) -> None:
    """Whatever lifetime is asked for, the token ends with the grant at the latest."""
    for claims in (
        claims_of(ttl=ttl, now=NOW + later),
        actor_claims(CHAIN, issuer="i", audience="a", now=NOW + later, ttl=ttl, id="id"),
    ):
        assert claims["exp"] == min(NOW + later + ttl, CHAIN.leaf.expires_at)


def test_what_is_asked_for_is_claimed() -> None:
    """A resource is a second audience, unless it is the first; scope and key are there if asked for."""
    claims = claims_of(resource="https://other.example.com", scope=("a", "b"), key=KEY)
    assert claims["aud"] == ["https://api.example.com", "https://other.example.com"]
    assert claims["scope"] == "a b"
    assert claims["cnf"] == {"jkt": ECKey.import_key(KEY.to_jwk()).thumbprint()}
    assert claims_of(resource="https://api.example.com")["aud"] == "https://api.example.com"


def test_an_actor_token_names_the_agents() -> None:
    """The subject is the current agent; ``act`` are those before it, and missing if there were none."""
    claims = actor_claims(CHAIN, issuer="i", audience="a", now=NOW, ttl=5, id="id")
    assert (claims["sub"], claims["act"]) == ("auditor", {"sub": "clerk"})
    assert "act" not in actor_claims(ROOT, issuer="i", audience="a", now=NOW, ttl=5, id="id")


def test_client_claims_are_those_of_the_standard() -> None:
    """Issuer and subject are the client (RFC 7523 §3)."""
    claims = client_claims("me", audience="https://as", now=5, ttl=60, id="id")
    assert claims == {"aud": "https://as", "exp": 65, "iat": 5, "iss": "me", "jti": "id", "sub": "me"}


def test_other_libraries_verify() -> None:
    """PyJWT and joserfc verify what is signed with either kind of key, and see type and key id."""
    for key, algorithm in ((KEY, "ES256"), (JwtKey.generate(), "EdDSA")):
        token = sign_jwt("at+jwt", {"aud": "a", "sub": "s"}, key, header={"kid": "k"})
        assert pyjwt.decode(token, pyjwt.PyJWK({**key.to_jwk(), "alg": algorithm}), [algorithm], audience="a")
        assert part(token, 0) == {"alg": algorithm, "kid": "k", "typ": "at+jwt"}
    token = sign_jwt("at+jwt", {"sub": "s"}, KEY, header={})
    assert jwt.decode(token, ECKey.import_key(KEY.to_jwk()), algorithms=["ES256"]).claims == {"sub": "s"}


def test_a_header_cannot_change_type_or_algorithm() -> None:
    """Further members of the header never replace what is fixed."""
    token = sign_jwt("at+jwt", {}, KEY, header={"alg": "none", "typ": "aat+jwt"})
    assert part(token, 0) == {"alg": "ES256", "typ": "at+jwt"}


@pytest.mark.parametrize("algorithm", ["none", "HS256", "", "es256"])
def test_a_signer_with_a_shared_key_is_refused(algorithm: str) -> None:
    """A token that anybody who verifies could have made is never made."""

    class Odd:
        def __init__(self) -> None:
            self.algorithm = algorithm

        def to_jwk(self) -> dict[str, str]:
            raise NotImplementedError

        def sign(self, message: bytes) -> bytes:
            raise NotImplementedError

    with pytest.raises(ValueError, match="asymmetric"):
        sign_jwt("JWT", {}, Odd(), header={})


def test_a_token_has_a_limit() -> None:
    """What would be larger than any server reads is refused."""
    with pytest.raises(ValueError, match=f"more than {MAX_TOKEN}"):
        sign_jwt("JWT", {"x": "y" * MAX_TOKEN}, KEY, header={})


def test_a_proof_says_which_request_it_is_for() -> None:
    """Method, URL without query and fragment, time, id and the public key; token and nonce where there are any."""
    proof = dpop_proof(KEY, method="POST", url="https://API.example.com:443/a/b?c#d", now=NOW, id="1")
    assert part(proof, 0) == {"alg": "ES256", "jwk": KEY.to_jwk(), "typ": "dpop+jwt"}
    assert part(proof, 1) == {"htm": "POST", "htu": "https://api.example.com/a/b", "iat": NOW, "jti": "1"}
    jwt.decode(proof, ECKey.import_key(KEY.to_jwk()), algorithms=["ES256"])
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    full = part(dpop_proof(KEY, method="GET", url="https://a.example", now=NOW, id="2", token=token, nonce="n"), 1)
    assert full["ath"] == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"  # RFC 9449 §7.1
    assert (full["nonce"], full["htu"]) == ("n", "https://a.example/")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:80/x", "http://127.0.0.1/x"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("HTTPS://A.example:8443", "https://a.example:8443/"),
        ("https://a.example/%7Eme?x=1", "https://a.example/%7Eme"),
    ],
)
def test_the_target_of_a_proof(url: str, target: str) -> None:
    """Scheme and host are in lower case, a default port is left out, an empty path is ``/``."""
    assert part(dpop_proof(KEY, method="GET", url=url, now=NOW, id="1"), 1)["htu"] == target


@pytest.mark.parametrize("method", ["", "get", "GE T", "GET\r\n", "GÉT", "1"])
def test_a_method_is_upper_case_letters(method: str) -> None:
    """A proof for another method than the one on the wire would be useless."""
    with pytest.raises(ValueError, match="HTTP method"):
        dpop_proof(KEY, method=method, url="https://a.example", now=NOW, id="1")


@pytest.mark.parametrize("nonce", ["", "x" * 513, 'a"b', "a b", "a\nb", "a\\b", "ä", "\x7f"])
def test_a_nonce_is_bounded_and_visible(nonce: str) -> None:
    """What a server sends as a nonce cannot break out of a header or fill the memory."""
    with pytest.raises(ValueError, match="nonce"):
        check_nonce(nonce)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/token",
        "http://127.0.0.1.example.com/",
        "http://127.0.0.2.nip.io/",
        "http://localhost.example.com/",
        "ftp://example.com/",
        "https:///token",
        "https://",
        "//example.com/token",
        "example.com/token",
        "",
        "https://user@example.com/",
        "https://user:word@example.com/",
        "https://example.com\\@evil.example/",
        "https://example.com/#fragment",
        "https://example.com/#",
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https://exämple.com/",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://[::1/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_a_url_that_a_token_must_not_go_to(url: str) -> None:
    """Not in clear over a network, and nothing whose host two programs could read differently."""
    with pytest.raises(ValueError, match="the endpoint is not an https URL") as caught:
        check_url(url, "the endpoint")
    assert url == "" or url not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://example.com:8443/x?y=z", "http://localhost:1/", "http://[::1]/x"]
)
def test_a_url_that_a_token_may_go_to(url: str) -> None:
    """TLS, or this machine."""
    assert check_url(url, "the endpoint") == url


def test_a_url_is_text() -> None:
    """A URL of bytes, or none at all, is wrong use."""
    with pytest.raises(TypeError, match="is bytes; give a str"):
        check_url(b"https://example.com", "the endpoint")


@given(
    token=st.sampled_from([sign_jwt(typ, {}, JwtKey.generate(), header={}) for typ in ("at+jwt", "JWT", "dpop+jwt")])
)
def test_none_of_these_is_a_grant(token: str) -> None:
    """The verifier of chains takes nothing that is signed here for a grant, whoever's key it is."""
    from agent_identity._authority.grants.chain import verify_chain

    with pytest.raises(TokenError):
        verify_chain([token], anchors=lambda _: ISSUER.public_key, issuer=None, now=NOW)
