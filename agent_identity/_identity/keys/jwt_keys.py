"""Keys that sign JSON Web Tokens for others: DPoP proofs, client assertions, access tokens.

Grants, records and checkpoints know one algorithm, Ed25519. Authorization servers and APIs do not all know it, so
what is made for them may be signed with P-256 as well (``ES256``, RFC 7518 §3.4).
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NoReturn, Protocol, Self, SupportsIndex, TypeAlias, final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.private_files import PathLike, read_private_file
from agent_identity._identity.keys.keys import Signer
from agent_identity.canonical import encode
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from typing_extensions import TypeIs

JwtAlgorithm: TypeAlias = Literal["EdDSA", "ES256"]
"""Algorithms of :class:`JwtKey`."""

_MAX_BYTES: Final = 4096
_P256_BYTES: Final = 32


class JwtSigner(Protocol):
    """A signer of JWTs with one key: :class:`JwtKey`, a KMS, a hardware token."""

    @property
    def algorithm(self) -> str:
        """The ``alg`` of its signatures (RFC 7518 §3.1), never one with a shared key; constant."""
        ...

    def to_jwk(self) -> Mapping[str, str]:
        """Return the public key as a JWK with the required members only (RFC 7638 §3.2)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature in the form of a JWS. Called from several threads."""
        ...


def jwk_thumbprint(signer: JwtSigner) -> str:
    """Return the base64url SHA-256 of the public key (RFC 7638), 43 characters: the value of a ``jkt``."""
    return b64url_encode(hashlib.sha256(encode(dict(signer.to_jwk()))).digest())


@typed_calls("generate", "load")
@final
class JwtKey:
    """A private key in the memory of this process that signs JWTs; it is never shown, copied or pickled.

    Make one with :meth:`generate` or :meth:`load`.

    Attributes:
        algorithm: ``"EdDSA"`` (Ed25519) or ``"ES256"`` (P-256).
    """

    __slots__ = ("_jwk", "_key", "algorithm")

    algorithm: JwtAlgorithm

    def __init__(self, key: "Ed25519PrivateKey | EllipticCurvePrivateKey", /) -> None:
        self._key = key
        if isinstance(key, Ed25519PrivateKey):
            self.algorithm = "EdDSA"
            self._jwk = {"crv": "Ed25519", "kty": "OKP", "x": b64url_encode(key.public_key().public_bytes_raw())}
        else:
            self.algorithm = "ES256"
            numbers = key.public_key().public_numbers()
            x, y = (b64url_encode(n.to_bytes(_P256_BYTES, "big")) for n in (numbers.x, numbers.y))
            self._jwk = {"crv": "P-256", "kty": "EC", "x": x, "y": y}

    def __repr__(self) -> str:
        return f"JwtKey({self.algorithm}, {jwk_thumbprint(self)!r})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a private key is neither copied nor pickled; load it from its file where it is needed")

    @classmethod
    def generate(cls, algorithm: JwtAlgorithm = "EdDSA") -> Self:
        """Return a new key from the random numbers of the operating system.

        Raises:
            ValueError: The algorithm is another one.
        """
        if algorithm == "EdDSA":
            return cls(Ed25519PrivateKey.generate())
        if algorithm == "ES256":
            from cryptography.hazmat.primitives.asymmetric import ec  # Half the cost of importing this.

            return cls(ec.generate_private_key(ec.SECP256R1()))
        raise ValueError("the algorithm is unknown; use 'EdDSA' or 'ES256'")

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Return the key of a PEM file (PKCS #8, not encrypted) that holds an Ed25519 or a P-256 key.

        Raises:
            ConfigurationError: The file is missing, malformed or too large, holds another kind of key, is
                no regular file, belongs to another user, or is open to group or others.
        """
        from cryptography.hazmat.primitives.asymmetric import ec  # As above.

        from agent_identity._identity.keys._key_files import parse_key  # Only files need it.

        key = parse_key(path, read_private_file(path, limit=_MAX_BYTES))
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return cls(key)
        if isinstance(key, Ed25519PrivateKey):
            return cls(key)
        raise ConfigurationError("the key in the file is neither Ed25519 nor P-256; name the right file")

    def to_jwk(self) -> dict[str, str]:
        """Return the public key as a JWK with the required members only (RFC 7518 §6.2.1, RFC 8037 §2)."""
        return dict(self._jwk)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature; for ES256 the two numbers one after the other (RFC 7518 §3.4)."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # As above.
        from cryptography.hazmat.primitives.hashes import SHA256  # As above.

        r, s = utils.decode_dss_signature(self._key.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(_P256_BYTES, "big") + s.to_bytes(_P256_BYTES, "big")


@final
class _Ed25519:
    """Adapter of a :class:`Signer`, such as the issuer's key, to a signer of JWTs."""

    __slots__ = ("_signer",)

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @property
    def algorithm(self) -> str:
        """The algorithm of every :class:`Signer`."""
        return "EdDSA"

    def to_jwk(self) -> dict[str, str]:
        """Return the public key."""
        return self._signer.public_key.to_jwk()

    def sign(self, message: bytes) -> bytes:
        """Return the signature."""
        return self._signer.sign(message)


def as_jwt_signer(signer: Signer | JwtSigner) -> JwtSigner:
    """Return a JWT signer for the key: itself, or an adapter of an Ed25519 signer."""
    return signer if _signs_jwts(signer) else _Ed25519(signer)


def _signs_jwts(signer: Signer | JwtSigner) -> "TypeIs[JwtSigner]":
    return hasattr(signer, "algorithm")
