"""Base64url without padding (RFC 4648 §5, RFC 7515 §2) and plain base64 (§4), each in its one canonical spelling."""

import hashlib
from base64 import b64decode, b64encode
from binascii import a2b_base64, b2a_base64
from typing import Final

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of the bytes in 43 base64url characters."""
    return b64url_encode(hashlib.sha256(data).digest())


def b64url_encode(data: bytes) -> str:
    """Return the base64url text of the bytes, without padding."""
    return b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode("ascii")


def b64url_decode(text: str) -> bytes:
    """Return the bytes of base64url text in the exact spelling of :func:`b64url_encode`.

    Several texts decode to the same bytes for a lenient reader. That would let one signature, key or
    token travel under many names, past every check that compares or hashes the text.

    Raises:
        ValueError: The text has padding, white space or another foreign character, an impossible
            length, bits set after the last byte (RFC 4648 §3.5), or is no ``str``.
    """
    if type(text) is not str:
        raise ValueError(f"the base64url text is {type(text).__name__}; give a str")
    padded = text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)
    try:
        data = a2b_base64(padded, strict_mode=True)
    except ValueError:
        data = None
    if data is None or "+" in text or "/" in text or "=" in text:
        raise ValueError("the text has a character or a length that base64url without padding has not")
    last = len(data) % 3
    if last and b2a_base64(data[-last:], newline=False) != padded[-4:].encode():
        raise ValueError("the text is not the canonical base64url of its bytes")
    return data


def b64_encode(data: bytes) -> str:
    """Return the base64 text of the bytes, with padding (RFC 4648 §4)."""
    return b64encode(data).decode("ascii")


def b64_decode(text: str) -> bytes:
    """Return the bytes of base64 text in the exact spelling of :func:`b64_encode`.

    Raises:
        ValueError: The text has another spelling.
    """
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = b""
    if b64_encode(data) != text:
        raise ValueError("the text is not canonical base64")
    return data
