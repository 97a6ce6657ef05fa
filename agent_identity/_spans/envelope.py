"""Signatures over records: DSSE v1, whole or spread over the attributes of a span.

A signature covers the type and the exact bytes of the payload (the pre-authentication encoding,
:func:`pae`). Verification hands back those bytes, and no one parses anything else.
https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self, final

import orjson

from agent_identity._common.narrowing import is_list, is_object
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode, digest_of
from agent_identity._identity.common.ids import is_digest
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity.errors import TokenError, VerificationError

PAYLOAD_TYPE: Final = "application/vnd.agent-identity.record.v1+json"
"""The media type of a record."""

MAX_PAYLOAD: Final = 4_194_304
"""A record may have this many bytes (4 MiB)."""

_PREFIX: Final = "agent_identity.attestation."
_FIELDS: Final = ("payload", "payload_type", "signature", "keyid", "digest")
ATTESTATION_ATTRIBUTES: Final[Mapping[str, str]] = {name: _PREFIX + name for name in _FIELDS}
"""The attributes of a span that carry an attestation, by its fields."""

DIGEST_ATTRIBUTE: Final = _PREFIX + "digest"
"""The attribute that names the record even where the payload was cut off."""

_TEXT: Final = {str}
_MAX_TEXT: Final = 4 * MAX_PAYLOAD // 3 + 4
_MAX_NAME: Final = 256
_SIGNATURE: Final = re.compile(r"[A-Za-z0-9_-]{85}[AQgw]")


def pae(payload_type: str, body: bytes) -> bytes:
    """Return the signed bytes (DSSE PAE); the lengths in them count bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(body), body)


@final
@dataclass(frozen=True, slots=True)
class Attestation:
    """A record with its signature, in the text form that a span carries. Not yet verified: see :meth:`open`.

    Args:
        payload: The bytes of the record in base64url without padding.
        payload_type: The media type; :data:`PAYLOAD_TYPE` here.
        signature: The Ed25519 signature over :func:`pae`, 86 base64url characters.
        keyid: The thumbprint of the key (RFC 7638): a hint where to look, never a reason to trust.
        digest: The SHA-256 of the bytes of the record.

    Raises:
        ValueError: A field does not have its form. Whether the fields fit together, :meth:`open` says.
    """

    payload: str
    payload_type: str
    signature: str
    keyid: str
    digest: str
    _body: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        texts = (self.payload, self.payload_type, self.signature, self.keyid, self.digest)
        if set(map(type, texts)) != _TEXT:
            name = next(name for name, text in zip(_FIELDS, texts, strict=True) if type(text) is not str)
            raise ValueError(f"the {name} of the attestation is not text")
        if len(self.payload) > _MAX_TEXT:
            raise ValueError(f"the payload is larger than {MAX_PAYLOAD} bytes")
        longest = max(len(self.payload_type), len(self.keyid))
        if longest > _MAX_NAME or not (self.payload_type.isascii() and self.keyid.isascii()):
            raise ValueError(f"the payload type or the keyid has more than {_MAX_NAME} characters, or is not ASCII")
        if not _SIGNATURE.fullmatch(self.signature):
            raise ValueError("the signature is not 86 base64url characters")
        if not is_digest(self.digest):
            raise ValueError("the digest is not 43 base64url characters")
        try:
            body = b64url_decode(self.payload)
        except ValueError as error:
            raise ValueError(f"bad payload of an attestation: {error}") from None
        object.__setattr__(self, "_body", body)

    def open(self, lookup: Callable[[str], PublicKey], proved: Callable[[bytes], bool] | None = None) -> bytes:
        """Return the bytes of the record if the signature is good.

        Args:
            lookup: Returns the trusted key that a keyid names, or raises
                :class:`~agent_identity.errors.TokenError`, which is passed on.
            proved: Returns whether the bytes are known to be a record of that signer in another way. The signature
                is not looked at then.

        Raises:
            VerificationError: The payload is of another type (``unknown_payload_type``), is not what the
                digest says (``bad_digest``), or is not what the key signed (``bad_signature``).
        """
        if self.payload_type != PAYLOAD_TYPE:
            raise VerificationError("the payload type is not that of a record", code="unknown_payload_type")
        body = self._body
        if self.digest != digest_of(body):
            raise VerificationError("the digest is not that of the payload; one was changed", code="bad_digest")
        key = lookup(self.keyid)
        if proved is not None and proved(body):
            return body
        try:
            key.verify(b64url_decode(self.signature), pae(self.payload_type, body))
        except TokenError:
            raise VerificationError(
                "the signature is not one of the named key over this record; one was changed", code="bad_signature"
            ) from None
        return body

    def to_attributes(self) -> dict[str, str]:
        """Return the five attributes of a span, ``agent_identity.attestation.*``."""
        return {attribute: getattr(self, name) for name, attribute in ATTESTATION_ATTRIBUTES.items()}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, object]) -> Self:
        """Return the attestation among the attributes of a span.

        Raises:
            VerificationError: It is missing (``no_attestation``), a part is missing
                (``partial_attestation``), or one is cut or scrubbed (``bad_attestation``).
        """
        fields = {
            name: attributes[attribute] for name, attribute in ATTESTATION_ATTRIBUTES.items() if attribute in attributes
        }
        if not fields:
            raise VerificationError("the span has no attestation; export all of its attributes", code="no_attestation")
        if len(fields) < len(_FIELDS):
            missing = [name for name in _FIELDS if name not in fields]
            raise VerificationError(
                f"the attestation on the span lacks {', '.join(missing)}; export all of its attributes",
                code="partial_attestation",
            )
        return cls._from_outside(fields)

    def to_envelope(self) -> bytes:
        """Return the DSSE envelope in JSON, in canonical form."""
        signature = b64encode(b64url_decode(self.signature)).decode("ascii")
        envelope = {
            "payload": b64encode(self._body).decode("ascii"),
            "payloadType": self.payload_type,
            "signatures": [{"keyid": self.keyid, "sig": signature}],
        }
        return orjson.dumps(envelope, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def from_envelope(cls, data: bytes) -> Self:
        """Return the attestation of a DSSE envelope in JSON with exactly one signature.

        Unknown members are ignored and both alphabets of base64 are accepted, as DSSE demands.

        Raises:
            VerificationError: The envelope is malformed (``bad_attestation``).
        """
        if len(data) > 2 * _MAX_TEXT:
            raise _bad_attestation(f"the envelope has {len(data)} bytes, more than {2 * _MAX_TEXT}")
        try:
            envelope = _members(orjson.loads(data))
            signature = _only_signature(envelope.get("signatures"))
            body = _either_base64(envelope.get("payload"))
            raw = _either_base64(signature.get("sig"))
        except ValueError as error:
            raise _bad_attestation(str(error)) from None
        return cls._from_outside(
            {
                "payload": b64url_encode(body),
                "payload_type": envelope.get("payloadType"),
                "signature": b64url_encode(raw),
                "keyid": signature.get("keyid", ""),
                "digest": digest_of(body),
            }
        )

    @classmethod
    def _from_outside(cls, fields: Mapping[str, Any]) -> Self:
        try:
            return cls(**fields)
        except ValueError as error:
            raise _bad_attestation(str(error)) from None


def sign_record(record: bytes, signer: Signer) -> Attestation:
    """Return the attestation of a record.

    Args:
        record: The canonical bytes of the record.
        signer: The recorder key.

    Raises:
        ValueError: The record is larger than :data:`MAX_PAYLOAD`.
    """
    return Attestation(**_signed(record, signer))


def signed_attributes(record: bytes, signer: Signer) -> dict[str, str]:
    """Return the five attributes of :func:`sign_record` without checking again the record just made.

    Args:
        record: The canonical bytes of the record.
        signer: The recorder key.

    Raises:
        ValueError: The record is larger than :data:`MAX_PAYLOAD`.
    """
    return {_PREFIX + name: value for name, value in _signed(record, signer).items()}


def _signed(record: bytes, signer: Signer) -> dict[str, str]:
    if len(record) > MAX_PAYLOAD:
        raise ValueError(f"the payload is larger than {MAX_PAYLOAD} bytes")
    return {
        "payload": b64url_encode(record),
        "payload_type": PAYLOAD_TYPE,
        "signature": b64url_encode(signer.sign(pae(PAYLOAD_TYPE, record))),
        "keyid": signer.public_key.thumbprint,
        "digest": digest_of(record),
    }


def _members(value: object) -> Mapping[str, object]:
    if is_object(value):
        return value
    raise ValueError("a part of the envelope is not a JSON object")


def _only_signature(value: object) -> Mapping[str, object]:
    if is_list(value) and len(value) == 1:
        return _members(value[0])
    raise ValueError("the envelope does not have exactly one signature")


def _either_base64(value: object) -> bytes:
    """Decode standard or url-safe base64, padded or not."""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError("a value in the envelope is not base64 text")
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except Base64Error:
        raise ValueError("a value in the envelope has a character or a length that base64 has not") from None


def _bad_attestation(message: str) -> VerificationError:
    return VerificationError(f"malformed attestation: {message}", code="bad_attestation")
