"""Base64url without padding, in its one canonical spelling (RFC 4648 §5, RFC 7515 §2)."""

import binascii
from base64 import b64decode, urlsafe_b64encode

__all__ = ["b64url_decode", "b64url_encode"]


def b64url_encode(data: bytes) -> str:
    """Return the base64url text of the bytes, without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Return the bytes of base64url text, which must be what :func:`b64url_encode` writes for them.

    Several texts decode to the same bytes for a lenient reader. That would let one signature, key or
    token travel under many names, past every check that compares or hashes the text.

    Raises:
        ValueError: The text has padding, white space or another foreign character, an impossible
            length, bits set after the last byte (RFC 4648 §3.5), or is no ``str``.
    """
    if type(text) is not str:
        raise ValueError(f"expected base64url text, got {type(text).__name__}")
    try:
        data = b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("expected base64url without padding, got another character or length") from None
    if b64url_encode(data) != text:
        raise ValueError("expected the canonical base64url of the bytes, got another spelling")
    return data
