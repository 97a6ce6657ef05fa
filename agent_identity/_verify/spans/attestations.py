"""Opens the attestation on a span: the signed record, or the reason to reject it."""

from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from typing import Final

from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record.codec import decode
from agent_identity._record.schema import AnyRecord
from agent_identity._spans.envelope import Attestation
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity._verify.grants.revoked_keys import refuse_late
from agent_identity._verify.inputs.versions import malformed
from agent_identity.errors import TokenError, VerificationError

OURS: Final = "agent_identity."
"""Prefix of our attributes."""

ATTESTATION: Final = "agent_identity.attestation."
"""Prefix of the attributes that carry the signed record."""

_NS: Final = 1_000_000_000
_CODES: Final = frozenset({"unknown_payload_type", "bad_signature", "unknown_key"})


def open_record(attributes: Mapping[str, object], trust: TrustStore) -> AnyRecord:
    """Return the record on a span, if it is signed and well-formed and its recorder key was valid at its time.

    Args:
        attributes: The attributes of the span.
        trust: The trusted keys.

    Raises:
        VerificationError: With a code of one of the three steps.
    """
    attestation = attestation_on(attributes)
    return record_in(signed_body(attestation, trust), attestation, trust)


def attestation_on(attributes: Mapping[str, object]) -> Attestation:
    """Return the attestation on a span, unverified.

    Args:
        attributes: The attributes of the span.

    Raises:
        VerificationError: With code ``bad_attestation`` or ``truncated``.
    """
    try:
        return Attestation.from_attributes(attributes)
    except VerificationError as error:
        payload, signature = (attributes.get(ATTESTATION + name) for name in ("payload", "signature"))
        raise _explained(error, payload, signature) from None


def signed_body(attestation: Attestation, trust: TrustStore, proved: Callable[[bytes], bool] | None = None) -> bytes:
    """Return the record bytes of an attestation that a trusted recorder key has signed.

    Args:
        attestation: The attestation.
        trust: The trusted keys.
        proved: Returns whether a ledger proves the bytes; their signature is not checked then.

    Raises:
        VerificationError: With code ``bad_attestation``, ``truncated``, ``unknown_payload_type``, ``unknown_key`` or
            ``bad_signature``.
    """

    def lookup(thumbprint: str) -> PublicKey:
        trusted = trust.lookup(thumbprint, "recorder")
        if trusted is None:
            raise TokenError(
                "the recorder key of the signature is not trusted; use the trust file of its recorder",
                code="unknown_key",
            )
        return trusted.key

    try:
        return attestation.open(lookup, proved)
    except (VerificationError, TokenError) as error:
        raise _explained(error, attestation.payload, attestation.signature) from None


def record_in(body: bytes, attestation: Attestation, trust: TrustStore) -> AnyRecord:
    """Return the record in signed bytes, if it is well-formed and its recorder key was valid at its time.

    Args:
        body: The bytes.
        attestation: The attestation that holds them.
        trust: The trusted keys.

    Raises:
        VerificationError: With code ``malformed_record``, ``unknown_record``, ``unknown_key``, ``key_not_valid_then``,
            ``key_revoked`` or ``signed_after_revocation``.
    """
    try:
        record = decode(body)
    except ValueError as error:
        code, message = malformed(body, str(error))
        raise VerificationError(message, code=code) from None
    at = record.time.last_ns // _NS
    try:
        trust.find(attestation.keyid, "recorder", at=at)
    except TokenError as error:
        refuse_late(trust, attestation.keyid, "recorder", at)
        raise VerificationError(str(error), code=error.code) from None
    return record


def _explained(error: VerificationError | TokenError, payload: object, signature: object) -> VerificationError:
    if error.code in _CODES:
        return VerificationError(str(error), code=error.code)
    if isinstance(payload, str) and (cut := _cut(payload, signature)):
        return VerificationError(
            f"the signed record was truncated: {cut}; "
            f"exempt {ATTESTATION}* and {GRANT_ATTRIBUTE} from attribute length limits",
            code="truncated",
        )
    return VerificationError(str(error), code="bad_attestation")


def _cut(payload: str, signature: object) -> str | None:
    """Return the evidence that a length limit cut an attestation, or ``None``."""
    if isinstance(signature, str) and len(signature) < 86:
        return f"its signature has {len(signature)} characters, not 86"
    text, mark, _ = payload.partition("...")
    try:
        body = urlsafe_b64decode(text[: len(text) // 4 * 4])
    except (Base64Error, ValueError):
        return None
    if body.startswith(b"{") and (mark or not body.rstrip().endswith(b"}")) and not _whole(text):
        return f"its payload ends after {len(payload)} characters, inside the record"
    return None


def _whole(text: str) -> bool:
    """Return whether base64 text without padding holds a record to its end."""
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4)).endswith(b"}")
    except (Base64Error, ValueError):
        return False
