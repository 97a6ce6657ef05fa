"""Keys in a key management service, through the signers of securesystemslib (extra ``kms``).

Those for HashiCorp Vault and for key files do Ed25519, which is all that our formats know. Its signer for hardware
tokens does ECDSA only: use :class:`~agent_identity.integrations.pkcs11.Pkcs11Signer` for those.
"""

from collections.abc import Mapping
from typing import Final, NoReturn, Protocol, SupportsIndex, final

from agent_identity.errors import ConfigurationError, EvidenceError, TokenError
from agent_identity.identity import PublicKey

__all__ = ["OtherKey", "OtherSignature", "OtherSigner", "SecuresystemslibSigner"]

_ED25519: Final = "ed25519"


class OtherKey(Protocol):
    """What is used of ``securesystemslib.signer.Key``."""

    @property
    def keytype(self) -> str:
        """The kind of key."""
        ...

    @property
    def scheme(self) -> str:
        """How it signs."""
        ...

    @property
    def keyval(self) -> Mapping[str, object]:
        """The key, ``public`` in hex."""
        ...


class OtherSignature(Protocol):
    """What is used of ``securesystemslib.signer.Signature``."""

    @property
    def signature(self) -> str:
        """The signature in hex."""
        ...


class OtherSigner(Protocol):
    """What is used of ``securesystemslib.signer.Signer``."""

    @property
    def public_key(self) -> OtherKey:
        """The key that verifies."""
        ...

    def sign(self, payload: bytes) -> OtherSignature:
        """Sign."""
        ...


@final
class SecuresystemslibSigner:
    """A signer of securesystemslib, as issuer or recorder. As safe to share between threads as that one is.

    Args:
        signer: A signer of an Ed25519 key, for example ``Signer.from_priv_key_uri("hv:...", key)``.

    Attributes:
        public_key: The key that verifies.

    Raises:
        ConfigurationError: It is a signer of another kind of key.
    """

    __slots__ = ("_signer", "public_key")

    def __init__(self, signer: OtherSigner) -> None:
        key = signer.public_key
        if (key.keytype, key.scheme) != (_ED25519, _ED25519):
            raise ConfigurationError(
                "expected a signer of an Ed25519 key (keytype and scheme ed25519), got another; make such a key"
            )
        try:
            self.public_key = PublicKey(bytes.fromhex(str(key.keyval["public"])))
        except (KeyError, ValueError):
            raise ConfigurationError("expected an Ed25519 public key of 32 bytes in hex, got something else") from None
        self._signer = signer

    def __repr__(self) -> str:
        return f"SecuresystemslibSigner({self.public_key.thumbprint!r})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a signer is neither copied nor pickled; make one where it is needed")

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message, 64 bytes.

        Raises:
            EvidenceError: The service failed, or what it returned is no signature of the key (``signer_unavailable``).
        """
        try:  # The signer is another's code over a network: whatever it raises, nothing is signed.
            signature = bytes.fromhex(self._signer.sign(message).signature)
            self.public_key.verify(signature, message)
        except TokenError:
            raise EvidenceError(
                "expected a signature of the key from the service, got other bytes; name the version of the key",
                code="signer_unavailable",
            ) from None
        except Exception as error:
            raise EvidenceError(
                f"expected a signature from the service, got {type(error).__name__}; see whether it can be reached",
                code="signer_unavailable",
            ) from error
        return signature
