"""Cosignatures of checkpoints (C2SP), with Ed25519 and with ML-DSA-44.

A cosignature says: at this second, this was the largest tree of this log that the cosigner knew, and it continues
every one that the cosigner knew before (c2sp.org/tlog-cosignature).
"""

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from agent_identity._identity.common import b64_encode
from agent_identity._identity.keys import Cosigner, PublicKey
from agent_identity.errors import ConfigurationError, TokenError

if TYPE_CHECKING:
    from agent_identity._identity.keys import MlDsaPublicKey

__all__ = ["Cosignature", "CosigningKey", "LogHead", "cosign", "read_cosignature"]

_TIME: Final = struct.Struct(">Q")
_MAX_TIME: Final = 2**63 - 1
_LABEL: Final = b"subtree/v1\n\0"


class LogHead(NamedTuple):
    """The first three lines of a checkpoint.

    Attributes:
        origin: The name of the log.
        size: The number of its entries.
        root: The root over them.
    """

    origin: str
    size: int
    root: bytes


class CosigningKey(Protocol):
    """A signer with one key: :class:`~agent_identity.identity.SigningKey`, or one for ML-DSA-44."""

    @property
    def public_key(self) -> "PublicKey | MlDsaPublicKey":
        """The key that verifies."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature over the message."""
        ...


class Cosignature(NamedTuple):
    """A verified cosignature.

    Attributes:
        cosigner: The cosigner that made it.
        time: When, in seconds since the Unix epoch; 0 says nothing about a time, nor that no larger tree was known.
    """

    cosigner: Cosigner
    time: int


def cosign(text: str, head: LogHead, name: str, key: CosigningKey, *, at: int) -> str:
    """Return the signature line of a cosignature, its newline included.

    Args:
        text: The text of the checkpoint, as it was signed by the log.
        head: The log head to cosign.
        name: The name of the cosigner.
        key: Its key.
        at: The time, in seconds since the Unix epoch.

    Raises:
        ValueError: Name or time are out of range.
    """
    cosigner = Cosigner(name, key.public_key)
    message = _message(cosigner, at, text.encode("utf-8"), head)
    if message is None:
        raise ValueError("the time is not from 0 to 2^63 - 1, or the origin is longer than 255 bytes")
    return f"— {name} {b64_encode(cosigner.key_id + _TIME.pack(at) + key.sign(message))}\n"


def read_cosignature(cosigner: Cosigner, signature: bytes, body: bytes, head: LogHead) -> Cosignature | None:
    """Return the content of a cosignature, or ``None`` if it cannot be checked here.

    Args:
        cosigner: The claimed cosigner.
        signature: Its time and signature.
        body: The text of the checkpoint.
        head: The log head that it covers.

    Raises:
        TokenError: It does not verify (``bad_signature``).
    """
    message = None
    time = 0
    if len(signature) > _TIME.size:
        (time,) = _TIME.unpack_from(signature)
        message = _message(cosigner, time, body, head)
    if message is None:
        raise TokenError("a cosignature is not a time and a signature", code="bad_signature")
    try:
        cosigner.key.verify(signature[_TIME.size :], message)
    except ConfigurationError:
        return None
    return Cosignature(cosigner, time)


def _message(cosigner: Cosigner, time: int, body: bytes, head: LogHead) -> bytes | None:
    """Return the signed bytes, or ``None`` for values that no message can hold."""
    if not 0 <= time <= _MAX_TIME:
        return None
    if isinstance(cosigner.key, PublicKey):
        return b"cosignature/v1\ntime %d\n" % time + body
    name, origin = cosigner.name.encode("utf-8"), head.origin.encode("utf-8")
    if len(origin) > 255:
        return None
    # struct cosigned_message, in the presentation language of RFC 8446 §3.
    parts = (_LABEL, bytes([len(name)]), name, _TIME.pack(time), bytes([len(origin)]), origin)
    return b"".join((*parts, _TIME.pack(0), _TIME.pack(head.size), head.root))
