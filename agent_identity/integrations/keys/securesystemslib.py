"""Keys in a key management service, through the signers of securesystemslib (extra ``kms``).

The signers for HashiCorp Vault and for key files support Ed25519, the only algorithm of our formats. The signer for
hardware tokens supports ECDSA only: use :class:`~agent_identity.integrations.keys.pkcs11.Pkcs11Signer` for those.
"""

from collections.abc import Mapping
from typing import Final, NoReturn, Protocol, SupportsIndex, final

from agent_identity.errors import ConfigurationError, EvidenceError, TokenError
from agent_identity.identity import PublicKey

__all__ = ["OtherKey", "OtherSignature", "OtherSigner", "SecuresystemslibSigner"]

_ED25519: Final = "ed25519"


class OtherKey(Protocol):
    """The used part of ``securesystemslib.signer.Key``."""

    @property
    def keytype(self) -> str:
        """The kind of key."""
        ...

    @property
    def scheme(self) -> str:
        """The signature scheme."""
        ...

    @property
    def keyval(self) -> Mapping[str, object]:
        """The key, ``public`` in hex."""
        ...


class OtherSignature(Protocol):
    """The used part of ``securesystemslib.signer.Signature``."""

    @property
    def signature(self) -> str:
        """The signature in hex."""
        ...


class OtherSigner(Protocol):
    """The used part of ``securesystemslib.signer.Signer``."""

    @property
    def public_key(self) -> OtherKey:
        """The key that verifies."""
        ...

    def sign(self, payload: bytes) -> OtherSignature:
        """Sign."""
        ...


@final
class SecuresystemslibSigner:
    """A signer of securesystemslib, as issuer or recorder. As thread-safe as the wrapped signer.

    Args:
        signer: A signer of an Ed25519 key, for example ``Signer.from_priv_key_uri("hv:...", key)``.

    Attributes:
        public_key: The key that verifies.

    Raises:
        ConfigurationError: The signer has another kind of key.
    """

    __slots__ = ("_signer", "public_key")

    def __init__(self, signer: OtherSigner) -> None:
        key = signer.public_key
        if (key.keytype, key.scheme) != (_ED25519, _ED25519):
            raise ConfigurationError("the signer has no Ed25519 key (keytype and scheme ed25519); create such a key")
        try:
            self.public_key = PublicKey(bytes.fromhex(str(key.keyval["public"])))
        except (KeyError, ValueError):
            raise ConfigurationError("the public key is no Ed25519 key of 32 bytes in hex; create such a key") from None
        self._signer = signer

    def __repr__(self) -> str:
        return f"SecuresystemslibSigner({self.public_key.thumbprint!r})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a signer is neither copied nor pickled; make one where it is needed")

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message, 64 bytes.

        Raises:
            EvidenceError: The service failed, or returned no valid signature (``signer_unavailable``).
        """
        try:  # The signer is foreign code over a network: whatever it raises, nothing is signed.
            signature = bytes.fromhex(self._signer.sign(message).signature)
            self.public_key.verify(signature, message)
        except TokenError:
            raise EvidenceError(
                "the service returned no valid signature of the key; name the version of the key",
                code="signer_unavailable",
            ) from None
        except Exception as error:
            raise EvidenceError(
                f"the service gave no signature but {type(error).__name__}; see whether it can be reached",
                code="signer_unavailable",
            ) from error
        return signature
