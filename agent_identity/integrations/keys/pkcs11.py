"""Keys in a hardware token or a hardware security module, through PKCS #11 (extra ``pkcs11``).

The mechanism is ``CKM_EDDSA`` (PKCS #11 3.0); SoftHSM has it from 2.5 on.
"""

import os
import threading
from typing import Final, NoReturn, Protocol, SupportsIndex, cast, final

from agent_identity.errors import ConfigurationError, EvidenceError, TokenError
from agent_identity.identity import PublicKey

try:
    import pkcs11
except ImportError as error:
    raise ConfigurationError(
        "the package python-pkcs11 is not installed; run pip install '.[pkcs11]' in the checkout"
    ) from error

__all__ = ["Pkcs11Signer", "Pkcs11Token"]


class _Key(Protocol):
    """A private key of the library, whose types lack the sign method."""

    def sign(self, data: bytes, *, mechanism: pkcs11.Mechanism) -> bytes: ...


_OCTET_STRING: Final = b"\x04\x20"
_RAW: Final = 32


@final
class Pkcs11Token:
    """A logged-in token. One login serves all keys, because PKCS #11 allows one for each process.

    Safe to share between threads; not usable in forked children.

    Args:
        module: Path of the token's PKCS #11 library.
        label: Label of the token.
        pin: PIN of the token's user. It is used once, and not kept.

    Raises:
        ConfigurationError: Library, token or PIN are unusable.
    """

    __slots__ = ("_label", "_lock", "_open", "_process")

    def __init__(self, module: str, *, label: str, pin: str) -> None:
        self._label = label
        self._lock = threading.Lock()
        self._process = os.getpid()
        try:
            self._open = pkcs11.lib(module).get_token(token_label=label).open(user_pin=pin)
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise ConfigurationError(
                f"cannot log in to the token {label!a}: {type(error).__name__}; check library, label and PIN, "
                "and log in once in each process"
            ) from None

    def signer(self, key: str) -> "Pkcs11Signer":
        """Return a signer.

        Args:
            key: Label of an Ed25519 key pair with both halves on the token.

        Raises:
            ConfigurationError: The token has no such pair.
        """
        try:
            with self._lock:
                private = self._open.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=key)
                public = self._open.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=key)
                point: bytes = public[pkcs11.Attribute.EC_POINT]
            return Pkcs11Signer(self, cast("_Key", private), PublicKey(_raw(bytes(point))))
        except (pkcs11.PKCS11Error, RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"the Ed25519 key {key!a} on the token {self._label!a} is unusable: {type(error).__name__}; "
                "check its label and kind"
            ) from None

    def close(self) -> None:
        """Log out; afterwards its signers fail."""
        with self._lock:
            self._open.close()

    def sign(self, key: _Key, message: bytes) -> bytes:
        """Sign with a key of the token; called by its signers.

        Raises:
            EvidenceError: The token failed, or this is a forked child (``signer_unavailable``).
        """
        if self._process != os.getpid():
            raise _failed("a forked child, whose parent has the token; open the enforcer again in the child")
        try:
            with self._lock:  # A token processes one operation at a time for each login.
                return bytes(key.sign(message, mechanism=pkcs11.Mechanism.EDDSA))
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise _failed(f"{type(error).__name__}; see whether the token is there") from error


@final
class Pkcs11Signer:
    """An Ed25519 key of a token, as issuer or recorder. Received from :meth:`Pkcs11Token.signer`.

    Attributes:
        public_key: The key that verifies.
    """

    __slots__ = ("_key", "_token", "public_key")

    def __init__(self, token: Pkcs11Token, key: _Key, public_key: PublicKey) -> None:
        self._token = token
        self._key = key
        self.public_key = public_key

    def __repr__(self) -> str:
        return f"Pkcs11Signer({self.public_key.thumbprint!r})"

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> NoReturn:
        raise TypeError("a signer is neither copied nor pickled; make one where it is needed")

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message, 64 bytes.

        Raises:
            EvidenceError: The token failed, returned no valid signature, or this is a forked child, to
                which it does not belong (``signer_unavailable``).
        """
        signature = self._token.sign(self._key, message)
        try:
            self.public_key.verify(signature, message)
        except TokenError:
            raise _failed("other bytes; check that both halves of the key are of one pair") from None
        return signature


def _raw(point: bytes) -> bytes:
    """Return the key of an ``EC_POINT``: bare in PKCS #11 3.0, in a DER octet string elsewhere."""
    return point[len(_OCTET_STRING) :] if point.startswith(_OCTET_STRING) and len(point) > _RAW else point


def _failed(got: str) -> EvidenceError:
    return EvidenceError(f"the token gave no signature but {got}", code="signer_unavailable")
