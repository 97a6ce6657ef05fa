"""Recognition of signable messages: a signer signs what it recognises as ours, and nothing else.

Each kind has its own beginning: an envelope that of DSSE, a grant base64url text, a checkpoint the origin of its log.
So the recorder key never signs a grant, and neither key signs messages of other systems.
"""

from typing import Final

from agent_identity._authority.grants.grants import GRANT_TYPE, grant_of
from agent_identity._authority.registries.agents import HEAD_TYPE, REGISTRATION_TYPE
from agent_identity._authority.registries.revocations import REVOCATIONS_TYPE
from agent_identity._authority.registries.rulings import APPROVAL_TYPE
from agent_identity._authority.registries.server_inventories import INVENTORY_TYPE
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.keys.jws import ALGORITHM
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._record.codec import decode as decode_record
from agent_identity._spans.envelope import PAYLOAD_TYPE, pae
from agent_identity.canonical import JSON, decode
from agent_identity.errors import AgentIdentityError

__all__ = [
    "MAX_LIFE",
    "SKEW",
    "is_operation",
    "refuse_foreign_evidence",
    "refuse_foreign_grant",
    "refuse_foreign_operation",
]

MAX_LIFE: Final = 24 * 3600
"""Maximum lifetime of a grant, in seconds; the enforcement point issues none that live longer."""

SKEW: Final = 30
"""Tolerated difference of a grant's date from now, in seconds: no grant is signed in advance or backdated."""

_OPERATIONS: Final = frozenset({APPROVAL_TYPE, HEAD_TYPE, INVENTORY_TYPE, REGISTRATION_TYPE, REVOCATIONS_TYPE})

_ENVELOPE: Final = pae(PAYLOAD_TYPE, b"").removesuffix(b"0 ")


def refuse_foreign_evidence(message: bytes, *, origin: str) -> None:
    """Check that the message is one that a recorder signs: a record of ours, or a checkpoint of the log.

    Args:
        message: The message to sign.
        origin: The log.

    Raises:
        ValueError: The message is neither.
    """
    if message.startswith(_ENVELOPE):
        _, _, body = message[len(_ENVELOPE) :].partition(b" ")
        if pae(PAYLOAD_TYPE, body) != message:
            raise ValueError("the envelope is not in its canonical form")
        decode_record(body)
        return
    try:
        checkpoint = Checkpoint.from_text(message.decode("utf-8"))
    except AgentIdentityError as error:
        raise ValueError(str(error)) from None
    if checkpoint.origin != origin or checkpoint.extensions or checkpoint.to_text().encode("utf-8") != message:
        raise ValueError("the message is no checkpoint of this signer's log")


def refuse_foreign_grant(message: bytes, *, issuer: str, thumbprint: str, now: int) -> None:
    """Check that the message is one that an issuer signs: a root grant of its own, from now.

    Args:
        message: The message to sign.
        issuer: The issuer's URI.
        thumbprint: The signing key.
        now: Unix seconds.

    Raises:
        ValueError: The message is no such grant.
    """
    header, claims = (_object(part) for part in _parts(message))
    if header != {"alg": ALGORITHM, "kid": thumbprint, "typ": GRANT_TYPE}:
        raise ValueError("the header is not that of a grant under this key")
    grant = grant_of("", claims)  # Its errors are ValueErrors.
    if grant.issuer != issuer or grant.depth or grant.parent_hash is not None:
        raise ValueError("the grant is no root grant of this issuer")
    if abs(grant.issued_at - now) > SKEW or grant.expires_at - grant.issued_at > MAX_LIFE:
        raise ValueError("the grant does not begin now, or lives longer than a day")


def is_operation(message: bytes) -> bool:
    """Return whether the message says of itself that it is one of an operator."""
    try:
        return _object(_parts(message)[0]).get("typ") in _OPERATIONS
    except (ValueError, RecursionError):
        return False


def refuse_foreign_operation(message: bytes, *, issuer: str, thumbprint: str) -> None:
    """Check that the message is one of an operator: a list of revocations, a ruling, a registration, an inventory.

    Args:
        message: The message to sign.
        issuer: The issuer's URI.
        thumbprint: The signing key.

    Raises:
        ValueError: The message is no such statement of this issuer.
    """
    header, claims = (_object(part) for part in _parts(message))
    if header.keys() != {"alg", "kid", "typ"} or (header["alg"], header["kid"]) != (ALGORITHM, thumbprint):
        raise ValueError("the header is not that of a statement under this key")
    named = claims.get("iss") == issuer if header["typ"] != INVENTORY_TYPE else "iss" not in claims
    if header["typ"] not in _OPERATIONS or not named:
        raise ValueError("the message is no statement of this issuer")


def _parts(message: bytes) -> tuple[bytes, bytes]:
    header, dot, claims = message.partition(b".")
    if not dot:
        raise ValueError("the message is no signing input of a token")
    return header, claims


def _object(part: bytes) -> dict[str, JSON]:
    value = decode(b64url_decode(part.decode("ascii")))
    if isinstance(value, dict):
        return value
    raise ValueError("a part of the token is no JSON object")
