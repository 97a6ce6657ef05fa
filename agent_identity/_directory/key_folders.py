"""The folder of the secret files of a directory: inside it by default, or kept apart from the evidence."""

import os
import re
import stat
from pathlib import Path
from typing import Final, TypeAlias

from agent_identity._identity.common.private_files import check_path, hide_from_git
from agent_identity._identity.keys.keys import Signer
from agent_identity._storage.os_files import Files, make_folder
from agent_identity.errors import ConfigurationError

Keys: TypeAlias = str | os.PathLike[str] | tuple[Signer, Signer] | None
"""Where the keys are, as for :meth:`Enforcer.open`."""

SECRET_FILES: Final = ("issuer.pem", "recorder.pem", "ledger.key", "digests.jsonl", "pseudonyms.jsonl")
"""The files of a folder of keys that no one but its owner may read."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
"""An address: refused where it is no socket, lest a mistyped one becomes the name of a new folder."""


def socket_of(keys: Keys) -> str | None:
    """Return the path of the socket of a signer that an address names, or ``None`` for another place.

    Raises:
        ConfigurationError: It is another address, or empty.
    """
    if not isinstance(keys, str):
        return None
    scheme, _, path = keys.partition(":")
    if scheme == "unix" and path:
        return path
    if not keys or _SCHEME.match(keys):
        raise ConfigurationError(
            "the keys are at no usable place; write unix:PATH, the socket of 'agent-identity signer', or the path of "
            "the folder with issuer.pem and recorder.pem"
        )
    return None


def outer_folder(directory: str | os.PathLike[str], keys: Keys) -> Path | None:
    """Return the folder of keys that is named, unless it is the one in the directory or none is named."""
    if keys is None or isinstance(keys, tuple) or socket_of(keys) is not None:
        return None
    check_path(keys)
    own = os.path.realpath(Path(directory) / "keys")
    return None if os.path.realpath(keys) == own else Path(keys)


def key_folder(directory: str | os.PathLike[str], keys: Keys) -> Path:
    """Return the folder of the secret files of a directory.

    Signers elsewhere hold two keys only: the others stay in the directory.
    """
    return outer_folder(directory, keys) or Path(directory) / "keys"


def made_folder(directory: Path, folder: Path) -> Path:
    """Make the folder of keys of a directory, and the directory, and return it.

    Raises:
        ConfigurationError: One of them cannot be made, or the folder is not apart from the evidence.
    """
    own = folder == directory / "keys"
    if not own:
        _check_apart(directory, folder)
    try:
        make_folder(Files(), str(directory.absolute()), 0o755)
        made = not folder.is_dir()
        make_folder(Files(), str(folder.absolute()), 0o700)
    except OSError as error:
        what = f"the evidence directory {str(directory)!r}" if own else f"{error.filename!r}"
        raise ConfigurationError(f"{what} cannot be written: {error.strerror}; choose another one") from None
    if own or made:
        hide_from_git(folder)
    return folder


def _check_apart(directory: Path, folder: Path) -> None:
    """Check that keys that are kept apart are, and that none is left in the directory.

    Raises:
        ConfigurationError: The folder is below the directory, everyone may replace its files, or some keys are in the
            directory.
    """
    root, place = os.path.realpath(directory), os.path.realpath(folder)
    if os.path.commonpath((root, place)) == root:
        raise ConfigurationError(
            f"the folder of keys {str(folder)!r} is in the evidence directory, and would be copied with it; name one "
            "outside"
        )
    left = [name for name in SECRET_FILES if os.path.lexists(directory / "keys" / name)]
    if left:
        raise ConfigurationError(
            f"keys/{left[0]} is in the evidence directory, and the keys are to be in {str(folder)!r}; move all files "
            "of keys/ there"
        )
    if folder.is_dir():
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise ConfigurationError(
                f"every user of the machine can replace files in {str(folder)!r}; run chmod 700 on it, or name a "
                "folder in it, which is made closed to others"
            )
