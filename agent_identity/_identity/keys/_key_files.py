"""Private keys in PEM files (PKCS #8, RFC 8410). Loaded only when a key file is read or written."""

import os
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from agent_identity._identity.common.private_files import PathLike, create_private_file, read_private_file
from agent_identity.errors import ConfigurationError

_MAX_BYTES: Final = 4096
_FIRST_LINE: Final = b"-----BEGIN PRIVATE KEY-----"
_LAST_LINE: Final = b"-----END PRIVATE KEY-----"


def read_key(path: PathLike) -> Ed25519PrivateKey:
    """Return the key of a PEM file that only its owner can access.

    Raises:
        ConfigurationError: The file is not private, not whole, or holds another kind of key
            (code ``wrong_key_kind``).
    """
    key = parse_key(path, read_private_file(path, limit=_MAX_BYTES))
    if not isinstance(key, Ed25519PrivateKey):
        message = f"the key in {os.fspath(path)!r} is not Ed25519; name the right file"
        raise ConfigurationError(message, code="wrong_key_kind")
    return key


def parse_key(path: PathLike, data: bytes) -> object:
    """Return the only private key of a PEM text, of any kind.

    Raises:
        ConfigurationError: It is not whole, or not the only thing there.
    """
    shown = repr(os.fspath(path))
    # The parser would skip what stands around a key, and take the first of several.
    if not data.startswith(_FIRST_LINE) or not data.rstrip().endswith(_LAST_LINE) or data.count(_FIRST_LINE) != 1:
        raise ConfigurationError(f"{shown} is not exactly one block 'BEGIN PRIVATE KEY' (plain PKCS #8); restore it")
    try:
        return load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"the private key in {shown} is damaged; restore it") from None


def write_key(path: PathLike, key: Ed25519PrivateKey) -> None:
    """Write the key to a new file of mode 0600.

    Raises:
        ConfigurationError: Something is at the path, or the file cannot be created.
    """
    create_private_file(path, _pem_of(key))


def _pem_of(key: Ed25519PrivateKey) -> bytes:
    """Return the PEM text of a private key, plain PKCS #8."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
