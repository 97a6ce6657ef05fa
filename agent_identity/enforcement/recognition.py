"""What a signer signs: what it recognises as ours, and nothing else.

Each kind has its own beginning: an envelope that of DSSE, a grant base64url text, a checkpoint the origin of its log.
So the recorder key cannot be talked into a grant, and neither key into what another system would believe.
"""

from typing import Final

from agent_identity.authority import GRANT_TYPE
from agent_identity.authority.grants import grant_of
from agent_identity.canonical import JSON, decode
from agent_identity.errors import AgentIdentityError
from agent_identity.evidence import Checkpoint
from agent_identity.evidence.envelope import PAYLOAD_TYPES, pae, payload_type_of
from agent_identity.evidence.record_codec import decode as decode_record
from agent_identity.identity import b64url_decode

__all__ = ["MAX_LIFE", "SKEW", "refuse_foreign_evidence", "refuse_foreign_grant"]

MAX_LIFE: Final = 24 * 3600
"""Seconds that a grant may live; the enforcement point makes none that live longer."""

SKEW: Final = 30
"""Seconds by which a grant may be dated other than now: none are signed in stock, or for the past."""

_ENVELOPES: Final = {pae(kind, b"").removesuffix(b"0 "): kind for kind in PAYLOAD_TYPES.values()}


def refuse_foreign_evidence(message: bytes, *, origin: str) -> None:
    """Return if the message is what a recorder signs: a record of ours, or a checkpoint of the log.

    Args:
        message: What is to be signed.
        origin: The log.

    Raises:
        ValueError: It is neither.
    """
    for start, kind in _ENVELOPES.items():
        if message.startswith(start):
            _, _, body = message[len(start) :].partition(b" ")
            if pae(kind, body) != message:
                raise ValueError("expected an envelope in its one form")
            if payload_type_of(decode_record(body)) != kind:
                raise ValueError("expected a record of the version that its envelope names")
            return
    try:
        checkpoint = Checkpoint.from_text(message.decode("utf-8"))
    except AgentIdentityError as error:
        raise ValueError(str(error)) from None
    if checkpoint.origin != origin or checkpoint.extensions or checkpoint.to_text().encode("utf-8") != message:
        raise ValueError("expected a checkpoint of the log of this signer")


def refuse_foreign_grant(message: bytes, *, issuer: str, thumbprint: str, now: int) -> None:
    """Return if the message is what an issuer signs: a root grant of its own, from now.

    Args:
        message: What is to be signed.
        issuer: The issuer's URI.
        thumbprint: The key that is to sign.
        now: Unix seconds.

    Raises:
        ValueError: It is none.
    """
    header, claims = (_object(part) for part in _parts(message))
    if header != {"alg": "EdDSA", "kid": thumbprint, "typ": GRANT_TYPE}:
        raise ValueError("expected the header of a grant under this key")
    grant = grant_of("", claims)  # Its errors are ValueErrors.
    if grant.issuer != issuer or grant.depth or grant.parent_hash is not None:
        raise ValueError("expected a root grant of this issuer")
    if abs(grant.issued_at - now) > SKEW or grant.expires_at - grant.issued_at > MAX_LIFE:
        raise ValueError("expected a grant that begins now and lives for a day at most")


def _parts(message: bytes) -> tuple[bytes, bytes]:
    header, dot, claims = message.partition(b".")
    if not dot:
        raise ValueError("expected the signing input of a token")
    return header, claims


def _object(part: bytes) -> dict[str, JSON]:
    value = decode(b64url_decode(part.decode("ascii")))
    if isinstance(value, dict):
        return value
    raise ValueError("expected JSON objects in a token")
