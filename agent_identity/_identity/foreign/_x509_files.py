"""Certificates in PEM files (RFC 7468). Loaded only when a certificate is read: X.509 is slow."""

from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent_identity.errors import TokenError

MALFORMED: Final = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
"""Errors of a parser that was given a malformed certificate."""


def read_pem(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates of PEM text as DER.

    Raises:
        TokenError: With code ``bad_certificate``.
    """
    try:
        return tuple(one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(data))
    except MALFORMED:
        raise bad_certificate("the text is not certificates in PEM") from None


def bad_certificate(problem: str) -> TokenError:
    """Return the error of a certificate that is not what it should be."""
    return TokenError(f"bad certificate: {problem}", code="bad_certificate")
