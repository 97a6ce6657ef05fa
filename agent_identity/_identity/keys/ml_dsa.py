"""ML-DSA-44 keys (FIPS 204) for a second signature on checkpoints that a quantum computer cannot forge.

Recent versions of ``cryptography`` have the algorithm. Where an older one is installed, public keys are read and named,
and whatever needs a signature says that it cannot be had.
"""

import hashlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn, Self, SupportsIndex, TypeGuard, final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from agent_identity._identity.common import (
    PathLike,
    b64url_decode,
    b64url_encode,
    create_private_file,
    read_private_file,
)
from agent_identity.errors import ConfigurationError, TokenError

if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

__all__ = ["MlDsaPublicKey", "MlDsaSigningKey"]

_RAW: Final = 1312  # FIPS 204, table 2.
_SEED: Final = 32
_MAX_BYTES: Final = 4096


def _library() -> "ModuleType":
    """Return the module that implements the algorithm.

    Raises:
        ConfigurationError: With code ``ml_dsa_unavailable``: the installed ``cryptography`` does not have it.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import mldsa  # Older versions lack it.
    except ImportError:
        raise _unavailable() from None
    return mldsa


def _is_private_key(key: object, library: "ModuleType") -> "TypeGuard[MLDSA44PrivateKey]":
    return isinstance(key, library.MLDSA44PrivateKey)


def _unavailable() -> ConfigurationError:
    return ConfigurationError(
        "this version of cryptography has no ML-DSA-44; install its newest version",
        code="ml_dsa_unavailable",
    )


@final
@dataclass(frozen=True, slots=True)
class MlDsaPublicKey:
    """The public half of an ML-DSA-44 key.

    Args:
        raw: The 1,312 bytes of FIPS 204, algorithm 22.

    Attributes:
        thumbprint: Base64url SHA-256 of the JWK (RFC 7638 over the members ``alg``, ``kty`` and ``pub`` of the key
            type AKP), 43 characters; the name of the key.

    Raises:
        TypeError: ``raw`` is not ``bytes``.
        ValueError: ``raw`` is not 1,312 bytes.
    """

    raw: bytes = field(repr=False)
    thumbprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.raw) is not bytes:
            raise TypeError(f"the key is {type(self.raw).__name__}; give bytes")
        if len(self.raw) != _RAW:
            raise ValueError(f"the ML-DSA-44 public key has {len(self.raw)} bytes instead of {_RAW}")
        jwk = f'{{"alg":"ML-DSA-44","kty":"AKP","pub":"{b64url_encode(self.raw)}"}}'
        object.__setattr__(self, "thumbprint", b64url_encode(hashlib.sha256(jwk.encode("ascii")).digest()))

    def to_jwk(self) -> dict[str, str]:
        """Return the key as a JWK of the key type AKP, with the required members only."""
        return {"kty": "AKP", "alg": "ML-DSA-44", "pub": b64url_encode(self.raw)}

    @classmethod
    def from_text(cls, pub: str) -> Self:
        """Return the key of the member ``pub`` of its JWK.

        Raises:
            ValueError: It is not the canonical base64url of such a key.
        """
        return cls(b64url_decode(pub))

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check that the signature is this key's over exactly this message (FIPS 204, algorithm 3, empty context).

        Raises:
            ConfigurationError: With code ``ml_dsa_unavailable``: nobody can tell here.
            TokenError: With code ``bad_signature`` otherwise.
        """
        library = _library()
        try:
            library.MLDSA44PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except UnsupportedAlgorithm:
            raise _unavailable() from None
        except (InvalidSignature, ValueError):
            raise TokenError(
                "the signature is not one of the named key over these bytes", code="bad_signature"
            ) from None


@final
@dataclass(frozen=True, slots=True, eq=False)
class MlDsaSigningKey:
    """A private ML-DSA-44 key in the memory of this process. It signs; it is never shown, copied or pickled.

    Make one with :meth:`generate`, :meth:`load` or, in tests, :meth:`from_seed`.
    """

    _key: "MLDSA44PrivateKey" = field(repr=False)
    public_key: MlDsaPublicKey = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public_key", MlDsaPublicKey(self._key.public_key().public_bytes_raw()))

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a signing key is neither copied nor pickled; load it from its file where it is needed")

    @classmethod
    def generate(cls) -> Self:
        """Return a new key from the random numbers of the operating system.

        Raises:
            ConfigurationError: With code ``ml_dsa_unavailable``.
        """
        return cls.from_seed(os.urandom(_SEED))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Return the key of the 32-byte seed ξ of FIPS 204.

        Raises:
            ConfigurationError: With code ``ml_dsa_unavailable``.
            ValueError: There are not 32 bytes.
        """
        if len(seed) != _SEED:
            raise ValueError(f"the seed has {len(seed)} bytes instead of {_SEED}")
        library = _library()
        try:
            return cls(library.MLDSA44PrivateKey.from_seed_bytes(seed))
        except UnsupportedAlgorithm:
            raise _unavailable() from None

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """Return the key of a PEM file (PKCS #8 with the seed, RFC 9881; not encrypted), as :meth:`save` writes it.

        Raises:
            ConfigurationError: The installed library has no ML-DSA-44, or the file is missing, malformed or too
                large, holds another kind of key, is no regular file, belongs to another user, or is open to group
                or others.
        """
        from agent_identity._identity.keys.key_files import parse_key  # Half the cost of importing keys.

        library = _library()
        key = parse_key(path, read_private_file(path, limit=_MAX_BYTES))
        if not _is_private_key(key, library):
            raise ConfigurationError(f"the key in {os.fspath(path)!r} is not ML-DSA-44; name the right file")
        return cls(key)

    def save(self, path: PathLike) -> None:
        """Write the key to a new file of mode 0600, at once and durably.

        Raises:
            ConfigurationError: With code ``already_exists`` if something is at the path, which is never
                overwritten; otherwise the file cannot be created.
        """
        from agent_identity._identity.keys.key_files import pem_of

        create_private_file(path, pem_of(self._key))

    def sign(self, message: bytes) -> bytes:
        """Return the 2,420 bytes of the signature over the message (FIPS 204, algorithm 2, empty context)."""
        return self._key.sign(message)
