"""Ed25519 keys (RFC 8032): public keys and signers.

This module and its files are the only ones that know ``cryptography``. Everything else verifies through
:class:`PublicKey` and signs through the :class:`Signer` protocol, so that a key can live in a KMS or a hardware token.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Final, NoReturn, Protocol, Self, SupportsIndex, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent_identity._common.narrowing import is_mapping
from agent_identity._common.typed_calls import typed_calls
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.private_files import PathLike
from agent_identity.errors import TokenError

_THUMBPRINT_URI: Final = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:"

_FIELD: Final = 2**255 - 19
_ORDER_8: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER: Final = frozenset({0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8})
"""The y coordinates of the eight points whose order divides the cofactor."""


@final
@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of an Ed25519 key.

    Args:
        raw: The 32 bytes of RFC 8032 §5.1.2.

    Attributes:
        thumbprint: Base64url SHA-256 of the JWK (RFC 7638), 43 characters; the name of the key.

    Raises:
        TypeError: ``raw`` is not ``bytes``.
        ValueError: ``raw`` is not 32 bytes, no canonical encoding (RFC 8032 §5.1.3), or a point of small
            order, for which anyone can make signatures that fit every message.
    """

    raw: bytes = field(repr=False)
    thumbprint: str = field(init=False, compare=False)
    _verifier: Ed25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.raw) is not bytes:
            raise TypeError(f"the key is {type(self.raw).__name__}; give bytes")
        if len(self.raw) != 32:
            raise ValueError(f"the Ed25519 public key has {len(self.raw)} bytes instead of 32")
        y = int.from_bytes(self.raw, "little") & (2**255 - 1)
        if y >= _FIELD or y in _SMALL_ORDER:
            raise ValueError("the Ed25519 public key is degenerate: not canonical, or of small order")
        # RFC 7638 §3.2: the required members in lexicographic order, without white space.
        jwk = f'{{"crv":"Ed25519","kty":"OKP","x":"{b64url_encode(self.raw)}"}}'
        object.__setattr__(self, "thumbprint", b64url_encode(hashlib.sha256(jwk.encode("ascii")).digest()))
        object.__setattr__(self, "_verifier", Ed25519PublicKey.from_public_bytes(self.raw))

    def __reduce__(self) -> tuple[type[Self], tuple[bytes]]:
        return (type(self), (self.raw,))

    @property
    def thumbprint_uri(self) -> str:
        """The thumbprint as a URI (RFC 9278)."""
        return _THUMBPRINT_URI + self.thumbprint

    def to_jwk(self) -> dict[str, str]:
        """Return the key as a JWK with the required members only (RFC 8037 §2)."""
        return {"crv": "Ed25519", "kty": "OKP", "x": b64url_encode(self.raw)}

    @classmethod
    def from_jwk(cls, jwk: object) -> Self:
        """Return the key of a JWK (RFC 8037 §2), a mapping; other members are ignored (RFC 7517 §4).

        Raises:
            TokenError: The JWK is of another type or curve, names another algorithm or use, holds a
                private key, or its ``x`` is not the canonical base64url of an acceptable key.
        """
        if not is_mapping(jwk):
            raise TokenError("the JWK is not a JSON object", code="bad_key")
        if "d" in jwk:
            raise TokenError("the JWK is a private key; replace that key, others saw it", code="bad_key")
        if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
            raise TokenError("the JWK is not of kty OKP and crv Ed25519", code="bad_key")
        if jwk.get("alg", "EdDSA") not in ("EdDSA", "Ed25519") or jwk.get("use", "sig") != "sig":
            raise TokenError("the alg or use of the JWK is not that of EdDSA signatures", code="bad_key")
        x = jwk.get("x")
        if not isinstance(x, str):
            raise TokenError("the JWK member x is not a string", code="bad_key")
        try:
            return cls(b64url_decode(x))
        except ValueError as error:
            raise TokenError(f"bad JWK member x: {error}", code="bad_key") from None

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check that the signature is this key's over exactly this message (RFC 8032 §5.1.7).

        Raises:
            TokenError: With code ``bad_signature`` otherwise.
        """
        try:
            self._verifier.verify(signature, message)
        except InvalidSignature:
            raise TokenError(
                "the signature is not one of the named key over these bytes", code="bad_signature"
            ) from None


class Signer(Protocol):
    """A signer with one Ed25519 key: :class:`SigningKey`, a KMS, a hardware token."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies signatures of :meth:`sign`; constant."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the Ed25519 signature. Called from several threads."""
        ...


@typed_calls("from_seed", "load")
@final
@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A private Ed25519 key in the memory of this process. It signs; it is never shown, copied or pickled.

    Make one with :meth:`generate`, :meth:`load` or, in tests, :meth:`from_seed`.
    """

    _key: Ed25519PrivateKey = field(repr=False)
    public_key: PublicKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_key", PublicKey(self._key.public_key().public_bytes_raw()))

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a signing key is neither copied nor pickled; load it from its file where it is needed")

    @classmethod
    def generate(cls) -> Self:
        """Return a new key from the random numbers of the operating system."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Return the key of the 32-byte private key of RFC 8032 §5.1.5.

        Raises:
            ValueError: There are not 32 bytes.
        """
        if len(seed) != 32:
            raise ValueError(f"the seed has {len(seed)} bytes instead of 32")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Return the key of a PEM file (PKCS #8, not encrypted), as :meth:`save` or OpenSSL writes it.

        Raises:
            ConfigurationError: The file is missing, malformed or too large, holds another kind of key, is
                no regular file, belongs to another user, or is open to group or others.
        """
        from agent_identity._identity.keys._key_files import read_key  # Half the cost of importing this.

        return cls(read_key(path))

    def save(self, path: PathLike) -> None:
        """Write the key to a new file of mode 0600, at once and durably.

        Raises:
            ConfigurationError: With code ``already_exists`` if something is at the path, which is never
                overwritten; otherwise the file cannot be created.
        """
        from agent_identity._identity.keys._key_files import write_key

        write_key(path, self._key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the signature over the message (RFC 8032 §5.1.6)."""
        return self._key.sign(message)
