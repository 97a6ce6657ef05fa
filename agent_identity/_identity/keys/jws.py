"""Compact JSON Web Signatures with one fixed algorithm (RFC 7515, RFC 8037).

The algorithm is Ed25519 and nothing in a token selects it: the header only has to name it, with the name that
says all of it (RFC 9864). Keys never come from a header. Header and payload must be
canonical JSON in canonical base64url, so a token has one spelling and its hash is an identity.
What is signed begins with base64url text, never with the prefixes of envelopes and checkpoints, and its
``typ`` tells grants from proofs (RFC 8725 §3.11).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode, digest_of
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity.canonical import JSON, decode, encode
from agent_identity.errors import TokenError

ALGORITHM: Final = "Ed25519"
"""The one ``alg`` of a header."""

MAX_TOKEN: Final = 64 * 1024
"""Characters of a token, at most."""

_HEADER: Final = frozenset({"alg", "kid", "typ"})
_MAX_NAME: Final = 256
_SHORT: Final = 512  # Characters of a header that is worth keeping.


@final
@dataclass(frozen=True, slots=True)
class TokenParts:
    """The parts of a token, unverified; the claims are not even parsed.

    Attributes:
        typ: The token type in the header.
        kid: The name of the key, if the header has one.
        payload: The claims as bytes.
        signature: The 64 bytes of the signature.
        signing_input: The bytes that are signed (RFC 7515 §5.1).
    """

    typ: str
    kid: str | None
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    signing_input: bytes = field(repr=False)

    def verify(self, key: PublicKey, typ: str) -> dict[str, JSON]:
        """Return the claims after verifying the signature.

        Args:
            key: The key that must have signed, chosen without looking at the claims.
            typ: The kind of token that is expected.

        Raises:
            TokenError: With code ``wrong_type``, ``bad_signature`` or ``not_canonical``.
        """
        self._check(typ)
        key.verify(self.signature, self.signing_input)
        return _object(self.payload, "payload")

    def unverified(self, typ: str) -> dict[str, JSON]:
        """Return the unverified claims, which anyone can have written.

        Args:
            typ: The kind of token that is expected.

        Raises:
            TokenError: With code ``wrong_type`` or ``not_canonical``.
        """
        self._check(typ)
        return _object(self.payload, "payload")

    def _check(self, typ: str) -> None:
        if self.typ != typ:
            raise TokenError(f"the token is not of type {typ}", code="wrong_type")


def sign_compact(
    header: Mapping[str, JSON], claims: Mapping[str, object], signer: Signer, *, most: int = MAX_TOKEN
) -> str:
    """Return the signed token.

    Args:
        header: ``typ`` and perhaps ``kid``; ``alg`` is added.
        claims: The payload.
        signer: Holder of the private key.
        most: Characters of the token, at most.

    Raises:
        ValueError: The claims are no JSON or the token would be larger than that.
    """
    parts = (encode({**header, "alg": ALGORITHM}), encode(claims))
    signing_input = ".".join(map(b64url_encode, parts))
    signature = signer.sign(signing_input.encode("ascii"))
    token = f"{signing_input}.{b64url_encode(signature)}"
    if len(token) > most:
        raise ValueError(f"the token has {len(token)} characters, more than {most}; use a smaller scope")
    return token


def parse_compact(token: str, *, most: int = MAX_TOKEN) -> TokenParts:
    """Return the parts of a token, unverified.

    Args:
        token: The token.
        most: Characters that it may have.

    Raises:
        TokenError: With code ``too_large``, ``malformed_token``, ``not_canonical``, ``unknown_header`` or
            ``algorithm_not_allowed``.
    """
    if type(token) is not str:
        raise TokenError(f"the token is {type(token).__name__}; give a str", code="malformed_token")
    if len(token) > most:
        raise TokenError(f"the token has {len(token)} characters, more than {most}", code="too_large")
    texts = token.split(".")
    if len(texts) != 3:
        raise TokenError("the token does not have the three parts of a compact token", code="malformed_token")
    try:
        payload, signature = map(b64url_decode, texts[1:])
        typ, kid = _known_header(texts[0]) if len(texts[0]) <= _SHORT else _read_header(texts[0])
    except TokenError:
        raise
    except ValueError as error:
        raise TokenError(f"malformed token: {error}", code="malformed_token") from None
    return TokenParts(typ, kid, payload, signature, f"{texts[0]}.{texts[1]}".encode("ascii"))


def _read_header(text: str) -> tuple[str, str | None]:
    return _header(_object(b64url_decode(text), "header"))


_known_header = lru_cache(maxsize=64)(_read_header)  # An issuer writes the same one into all its tokens.


def _header(header: Mapping[str, JSON]) -> tuple[str, str | None]:
    # Members such as jwk, jku, x5c and crit would change whom to trust or what to check.
    if not header.keys() <= _HEADER:
        raise TokenError("the header has other members than alg, kid and typ", code="unknown_header")
    if header.get("alg") != ALGORITHM:
        raise TokenError("the algorithm of the token is not Ed25519", code="algorithm_not_allowed")
    typ = header.get("typ")
    if type(typ) is not str:
        raise TokenError("the typ in the header is missing or not text", code="wrong_type")
    if "kid" not in header:
        return typ, None
    kid = header["kid"]
    if type(kid) is not str or not 1 <= len(kid) <= _MAX_NAME:
        raise TokenError(f"the kid in the header does not have 1 to {_MAX_NAME} characters", code="malformed_token")
    return typ, kid


def _object(data: bytes, what: str) -> dict[str, JSON]:
    try:
        value = decode(data)
    except ValueError as error:
        raise TokenError(f"bad {what} of a token: {error}", code="not_canonical") from None
    if not isinstance(value, dict):
        raise TokenError(f"the {what} of the token is not a JSON object", code="malformed_token")
    return value


def verify_compact(token: str, key: PublicKey, typ: str) -> dict[str, JSON]:
    """Return the claims of a token; they are parsed only after the signature has been verified.

    Raises:
        TokenError: With a code of :func:`parse_compact` or :meth:`TokenParts.verify`.
    """
    return parse_compact(token).verify(key, typ)


def token_hash(token: str) -> str:
    """Return the grant hash: the SHA-256 of the token's signing input."""
    return digest_of(token.rpartition(".")[0].encode("utf-8", "surrogatepass"))


def par_hash(token: str) -> str:
    """Return the parent hash of a child grant: the SHA-256 of the parent's signing input in base64url."""
    return token_hash(token)
