"""Cosignatures of checkpoints (C2SP), with Ed25519.

A cosignature says: at this second, this was the largest tree of this log that the cosigner knew, and it continues
every one that the cosigner knew before (c2sp.org/tlog-cosignature).
"""

import struct
from typing import Final, NamedTuple

from agent_identity._identity.common.encoding import b64_encode
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.keys import Signer
from agent_identity.errors import TokenError

_TIME: Final = struct.Struct(">Q")
_MAX_TIME: Final = 2**63 - 1


class Cosignature(NamedTuple):
    """A verified cosignature.

    Attributes:
        cosigner: The cosigner that made it.
        time: When, in seconds since the Unix epoch; 0 says nothing about a time, nor that no larger tree was known.
    """

    cosigner: Cosigner
    time: int


def cosign(text: str, name: str, key: Signer, *, at: int) -> str:
    """Return the signature line of a cosignature, its newline included.

    Args:
        text: The text of the checkpoint, as it was signed by the log.
        name: The name of the cosigner.
        key: Its key.
        at: The time, in seconds since the Unix epoch.

    Raises:
        ValueError: Name or time are out of range.
    """
    cosigner = Cosigner(name, key.public_key)
    if not 0 <= at <= _MAX_TIME:
        raise ValueError("the time is not from 0 to 2^63 - 1")
    signature = key.sign(_message(at, text.encode("utf-8")))
    return f"— {name} {b64_encode(cosigner.key_id + _TIME.pack(at) + signature)}\n"


def read_cosignature(cosigner: Cosigner, signature: bytes, body: bytes) -> Cosignature:
    """Return the content of a cosignature.

    Args:
        cosigner: The claimed cosigner.
        signature: Its time and signature.
        body: The text of the checkpoint.

    Raises:
        TokenError: It does not verify (``bad_signature``).
    """
    time = _MAX_TIME + 1
    if len(signature) > _TIME.size:
        (time,) = _TIME.unpack_from(signature)
    if time > _MAX_TIME:
        raise TokenError("a cosignature is not a time and a signature", code="bad_signature")
    cosigner.key.verify(signature[_TIME.size :], _message(time, body))
    return Cosignature(cosigner, time)


def _message(time: int, body: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n" % time + body
