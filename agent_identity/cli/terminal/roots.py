"""Keys that commands are given: public keys in files, pinned roots, and private keys of roots wherever they are."""

import contextlib
import re
from collections.abc import Generator
from typing import Final
from urllib.parse import parse_qs, unquote

from agent_identity._identity.common.private_files import read_trusted_file
from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
from agent_identity.canonical import parse
from agent_identity.errors import ConfigurationError, TokenError

_MAX_KEY: Final = 16_384
_THUMBPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_PKCS11: Final = "pkcs11:"


def public_key_at(path: str) -> PublicKey:
    """Return the public key in a file: a JWK, as ``keys public`` prints it, or the public half of a private key file.

    Raises:
        ConfigurationError: The file is unusable, others can write it, or it holds no such key.
    """
    data = read_trusted_file(path, limit=_MAX_KEY)
    if data.startswith(b"-----BEGIN PRIVATE KEY-----"):
        return SigningKey.load(path).public_key
    try:
        return PublicKey.from_jwk(parse(data))
    except (ValueError, TokenError, RecursionError) as error:
        reason = str(error) if isinstance(error, TokenError) else "it is no JSON"
        raise ConfigurationError(
            f"{path!r} holds no public key ({reason}); give what 'agent-identity keys public' printed"
        ) from None


def pin_at(text: str | None) -> PublicKey | str | None:
    """Return a pinned root as :meth:`TrustStore.load` takes it.

    Args:
        text: Its thumbprint, or a file with its public key. Text that has the form of a thumbprint is one, so that no
            file of that name can take its place.

    Raises:
        ConfigurationError: The file is unusable.
    """
    return text if text is None or _THUMBPRINT.fullmatch(text) else public_key_at(text)


@contextlib.contextmanager
def root_signer(text: str) -> Generator[Signer]:
    """Return the private key of a root, as long as the block lasts.

    Args:
        text: The path of a key file, or a PKCS #11 URI (RFC 7512) with ``token``, ``object`` and ``module-path``; the
            PIN comes from the environment or the terminal.

    Raises:
        ConfigurationError: The key cannot be used.
    """
    if not text.startswith(_PKCS11):
        yield SigningKey.load(text)
        return
    from agent_identity.cli.terminal.signing import pin_of  # Loads what writes evidence.
    from agent_identity.integrations.keys.pkcs11 import Pkcs11Token  # An extra.

    token, key, module = _parts(text)
    with contextlib.closing(Pkcs11Token(module, label=token, pin=pin_of(token))) as opened:
        yield opened.signer(key)


@contextlib.contextmanager
def optional_root(text: str | None) -> Generator[Signer | None]:
    """Return the private key of a root as :func:`root_signer` does, or ``None`` if none is named."""
    if text is None:
        yield None
        return
    with root_signer(text) as signer:
        yield signer


def _parts(text: str) -> tuple[str, str, str]:
    path, _, query = text.removeprefix(_PKCS11).partition("?")
    pairs = (part.partition("=") for part in path.split(";"))
    named = {name: unquote(value) for name, _, value in pairs}
    module = parse_qs(query).get("module-path", [""])[0]
    if not (named.get("token") and named.get("object") and module):
        raise ConfigurationError(
            f"{text!r} does not name a key of a token; write pkcs11:token=LABEL;object=KEY?module-path=LIBRARY"
        )
    return named["token"], named["object"], module
