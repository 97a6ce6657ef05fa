"""Strict parser of foreign compact JSON Web Signatures (RFC 7515, RFC 8725).

A header may say how a token is signed, but never whom to trust: members that bring a key or name a place to fetch one
are refused, not ignored, and so are algorithms without a public key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_decode, digest_of
from agent_identity.canonical import JSON, parse
from agent_identity.errors import TokenError

ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)
"""Signatures with public keys (RFC 7518 §3.1, RFC 8037, RFC 9864). Neither ``none`` nor HMAC is among them."""

_MAX_TOKEN: Final = 64 * 1024
_MAX_NAME: Final = 256
_REFUSED: Final = frozenset({"jwk", "jku", "x5c", "x5u", "crit", "b64"})
"""Header members that would choose the key, or change the check (RFC 7515 §4.1, RFC 7797)."""


@final
@dataclass(frozen=True, slots=True)
class ForeignToken:
    """An unverified foreign token; the claims are not even parsed.

    Attributes:
        algorithm: The algorithm in the header: one of :data:`ALGORITHMS`.
        typ: The media type of the header, lower-case and without ``application/``; ``None`` if it has none.
        kid: The name of the key, if the header has one.
        members: The names of all members of the header.
        payload: The claims, as bytes.
        signature: The signature.
        signing_input: The bytes that are signed (RFC 7515 §5.1).
    """

    algorithm: str
    typ: str | None
    kid: str | None
    members: frozenset[str]
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)

    @property
    def hash(self) -> str:
        """SHA-256 of the signing input, which may be stored in place of the token."""
        return digest_of(self.signing_input)


def read_token(token: str) -> ForeignToken:
    """Return the parts of a token, unverified.

    Raises:
        TokenError: With code ``malformed_token``, ``too_large``, ``unknown_header`` or ``algorithm_not_allowed``.
    """
    if type(token) is not str:
        raise TokenError(f"the token is {type(token).__name__}; give a str", code="malformed_token")
    if len(token) > _MAX_TOKEN:
        raise TokenError(f"the token has {len(token)} characters, more than {_MAX_TOKEN}", code="too_large")
    texts = token.split(".")
    if len(texts) != 3:
        raise TokenError("the token does not have the three parts of a compact signed token", code="malformed_token")
    try:
        encoded, payload, signature = map(b64url_decode, texts)
    except ValueError as error:
        raise TokenError(f"malformed token: {error}", code="malformed_token") from None
    header = read_object(encoded, "the header of the token")
    algorithm = header.get("alg")
    if not header.keys().isdisjoint(_REFUSED):
        raise TokenError(
            "the header has jwk, jku, x5c, x5u, crit or b64; keys come from the configured issuer only",
            code="unknown_header",
        )
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise TokenError("the algorithm of the token is not one with a public key", code="algorithm_not_allowed")
    return ForeignToken(
        algorithm,
        _typ(header),
        _kid(header),
        frozenset(header),
        payload,
        signature,
        f"{texts[0]}.{texts[1]}".encode("ascii"),
    )


def read_object(data: bytes, what: str, *, code: str = "malformed_token") -> dict[str, JSON]:
    """Return a JSON object in which every member occurs once and every number is finite.

    Raises:
        TokenError: With the given code; the message repeats nothing of the data.
    """
    try:
        value = parse(data)
    except (ValueError, RecursionError):
        raise TokenError(f"{what}: not JSON with every member once", code=code) from None
    if not isinstance(value, dict):
        raise TokenError(f"{what}: not a JSON object", code=code)
    return value


def _typ(header: Mapping[str, object]) -> str | None:
    if "typ" not in header:
        return None
    typ = header["typ"]
    if not isinstance(typ, str) or not 1 <= len(typ) <= _MAX_NAME:
        raise TokenError("the typ of the header is not a media type", code="malformed_token")
    return typ.lower().removeprefix("application/")  # RFC 7515 §4.1.9


def _kid(header: Mapping[str, object]) -> str | None:
    if "kid" not in header:
        return None
    kid = header["kid"]
    if not isinstance(kid, str) or not 1 <= len(kid) <= _MAX_NAME:
        raise TokenError(f"the kid in the header does not have 1 to {_MAX_NAME} characters", code="malformed_token")
    return kid
