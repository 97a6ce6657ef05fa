"""JSON Web Tokens for others: access tokens, actor tokens, client assertions, DPoP proofs.

Nothing here is ever read back by this library; what it verifies itself are grants and proofs of possession, which
are stricter (:mod:`compact`). The ``typ`` tells each kind from the others, and from grants
(RFC 8725 §3.11), so that one key may sign several kinds.
"""

import hashlib
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from agent_identity._authority.grants.grants import Chain
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import MAX_TOKEN
from agent_identity._identity.keys.jwt_keys import JwtSigner, jwk_thumbprint
from agent_identity.canonical import JSON, encode

ACCESS_TOKEN_TYPE: Final = "at+jwt"  # noqa: S105  The name of a kind.
"""The ``typ`` of an access token (RFC 9068 §2.1)."""

DPOP_TYPE: Final = "dpop+jwt"
"""The ``typ`` of a DPoP proof (RFC 9449 §4.2)."""

_ENTRY: Final = "attenuating_agent_token"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MAX_URL: Final = 2048
_METHOD: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ-")
_ALGORITHMS: Final = frozenset({"EdDSA", "Ed25519", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256"})


def sign_jwt(typ: str, claims: Mapping[str, JSON], signer: JwtSigner, *, header: Mapping[str, JSON]) -> str:
    """Return a signed token (RFC 7515 §7.1).

    Args:
        typ: The token type.
        claims: The payload.
        signer: Holder of the private key.
        header: Further members of the header, such as ``kid``.

    Raises:
        ValueError: The claims are no JSON, the token would be larger than 64 KiB, or the algorithm is none
            that belongs to a private key.
    """
    if signer.algorithm not in _ALGORITHMS:
        raise ValueError("the algorithm of the signer is not an asymmetric one of RFC 7518 or RFC 8037")
    parts = (encode({**header, "alg": signer.algorithm, "typ": typ}), encode(claims))
    signing_input = ".".join(map(b64url_encode, parts))
    token = f"{signing_input}.{b64url_encode(signer.sign(signing_input.encode('ascii')))}"
    if len(token) > MAX_TOKEN:
        raise ValueError(f"the token has {len(token)} characters, more than {MAX_TOKEN}; use a smaller scope")
    return token


def access_claims(
    chain: Chain,
    *,
    issuer: str,
    audience: str,
    resource: str | None,
    scope: tuple[str, ...],
    now: int,
    ttl: int,
    id: str,  # What it is called in the token.
    key: JwtSigner | None,
) -> dict[str, JSON]:
    """Return the claims of an access token (RFC 9068 §2.2) for the facts of a grant.

    The current agent stands outermost in ``act``, those before it inside (RFC 8693 §4.1). It expires with the
    grant if ``ttl`` says later. ``principal`` says what ``sub`` alone cannot: kind and provenance.

    Args:
        chain: The verified chain whose leaf is the authority of the token.
        issuer: URI of the issuer.
        audience: The service that it is for.
        resource: A second audience, as a URI (RFC 8707).
        scope: Names of the requested scope.
        now: Unix seconds.
        ttl: Seconds that it lives at most.
        id: Unique name of the token.
        key: The key that it is bound to (RFC 9449 §6.1); ``None`` for a bearer token.
    """
    leaf = chain.leaf
    claims: dict[str, JSON] = {
        "act": act_claim(chain),
        "aud": audience if resource is None or resource == audience else [audience, resource],
        "authorization_details": [{"tools": leaf.scope.to_claim(), "type": _ENTRY}],
        "client_id": leaf.agent.id,
        "exp": min(now + ttl, leaf.expires_at),
        "iat": now,
        "iss": check_id(issuer, "issuer"),
        "jti": id,
        "principal": leaf.principal.to_claim(),
        "sub": leaf.principal.id,
        "txn": leaf.task_id,
    }
    if scope:
        claims["scope"] = " ".join(scope)
    if key is not None:
        claims["cnf"] = {"jkt": jwk_thumbprint(key)}
    return claims


def actor_claims(
    chain: Chain,
    *,
    issuer: str,
    audience: str,
    now: int,
    ttl: int,
    id: str,  # What it is called in the token.
) -> dict[str, JSON]:
    """Return the claims of an actor token, with the current agent and those before it (RFC 8693 §4.1).

    Args:
        chain: The verified chain.
        issuer: URI of the issuer.
        audience: The token endpoint that it is for.
        now: Unix seconds.
        ttl: Seconds that it lives at most.
        id: Unique name of the token.
    """
    leaf = chain.leaf
    claims: dict[str, JSON] = {
        "aud": audience,
        "exp": min(now + ttl, leaf.expires_at),
        "iat": now,
        "iss": check_id(issuer, "issuer"),
        "jti": id,
        "sub": leaf.agent.id,
        "txn": leaf.task_id,
    }
    act = act_claim(chain)
    if "act" in act:
        claims["act"] = act["act"]
    return claims


def act_claim(chain: Chain) -> dict[str, JSON]:
    """Return the ``act`` claim of a chain: the current agent outermost, the first one deepest (RFC 8693 §4.1)."""
    act: dict[str, JSON] = {}
    for grant in chain.grants:
        act = {"sub": grant.agent.id, "act": act} if act else {"sub": grant.agent.id}
    return act


def client_claims(
    client_id: str,
    *,
    audience: str,
    now: int,
    ttl: int,
    id: str,  # What it is called in the token.
) -> dict[str, JSON]:
    """Return the claims that authenticate a client to an authorization server (RFC 7523 §3)."""
    return {"aud": audience, "exp": now + ttl, "iat": now, "iss": client_id, "jti": id, "sub": client_id}


def dpop_proof(
    key: JwtSigner,
    *,
    method: str,
    url: str,
    now: int,
    id: str,  # What it is called in the proof.
    token: str | None = None,
    nonce: str | None = None,
) -> str:
    """Return a DPoP proof for one request (RFC 9449 §4.2).

    Args:
        key: The key that the token is, or will be, bound to.
        method: Method of the request, in upper case.
        url: URL of the request; query and fragment are left out.
        now: Unix seconds.
        id: Used for no other proof.
        token: The access token that goes with the request.
        nonce: The server's latest nonce (RFC 9449 §8).

    Raises:
        ValueError: Method, URL or nonce is malformed.
    """
    claims: dict[str, JSON] = {"htm": check_method(method), "htu": _target(url), "iat": now, "jti": id}
    if token is not None:
        claims["ath"] = b64url_encode(hashlib.sha256(token.encode("ascii")).digest())
    if nonce is not None:
        claims["nonce"] = check_nonce(nonce)
    return sign_jwt(DPOP_TYPE, claims, key, header={"jwk": dict(key.to_jwk())})


def check_method(method: str) -> str:
    """Return the method of a request after checking it.

    Raises:
        ValueError: It is not in upper case.
    """
    if not method or not _METHOD.issuperset(method):
        raise ValueError("the HTTP method is not in upper case, such as 'GET'")
    return method


def check_nonce(nonce: str) -> str:
    """Return the nonce of a server after checking it.

    Raises:
        ValueError: It has not 1 to 512 characters that a nonce may have (RFC 9449 §8.1).
    """
    if not 1 <= len(nonce) <= 512 or not all(c == "!" or "#" <= c <= "[" or "]" <= c <= "~" for c in nonce):
        raise ValueError("the DPoP nonce is not 1 to 512 visible ASCII characters without quotes and backslashes")
    return nonce


def check_url(url: object, what: str) -> str:
    """Return a URL that may receive a token: https, or http to this machine.

    Args:
        url: The URL.
        what: The name of the URL for messages.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It is no such URL, or has a user name or a fragment.
    """
    if type(url) is not str:
        raise TypeError(f"{what} is {type(url).__name__}; give a str")
    shape = f"{what} is not an https URL (http only to localhost, 127.0.0.1 or [::1]) without user and fragment"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url or len(url) > _MAX_URL:
        raise ValueError(shape)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(shape) from None
    if not host or port == 0 or "@" in parts.netloc or "#" in url:
        raise ValueError(shape)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        raise ValueError(shape)
    return url


def _target(url: str) -> str:
    """Return the ``htu`` of a URL: without query and fragment, scheme and host normalized as in RFC 3986 §6.2."""
    parts = urlsplit(check_url(url.partition("#")[0], "the URL of a request"))
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}"
