"""The second key of a directory: it signs every checkpoint as well, with a different kind of algorithm.

``trust.json`` names the key and its first log entry. It changes under the lock of the log, and signers read the file
under the same lock: every checkpoint after the change has the new signature, even from processes that opened the
directory long before.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from agent_identity._enforcement.directory.rotation import alone, log_so_far
from agent_identity._evidence.storage import EDIT, Files, Layout, locked, open_regular
from agent_identity._evidence.transparency import Checkpoint, CompactRange, cosign
from agent_identity._identity.common import Clock, put_in_place
from agent_identity._identity.trust import SecondKey, Takeover, TrustStore
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._identity.keys import MlDsaSigningKey

__all__ = ["SecondSigner", "exchange_second_key", "second_key_files"]

_NS: Final = 1_000_000_000


def second_key_files(root: Path) -> tuple[Path, Path]:
    """Return the paths of the second key of a directory and of its announced successor."""
    return root / "keys" / "recorder.ml-dsa-44.pem", root / "keys" / "recorder.ml-dsa-44.next.pem"


@final
class SecondSigner:
    """Adds the second key's signature to checkpoints, if the directory has such a key.

    Args:
        root: The directory with keys and ``trust.json``.
        clock: Source of the signature time.

    Raises:
        ConfigurationError: ``trust.json`` names a second key that the directory lacks or cannot use, or the
            directory has one that ``trust.json`` does not name.
    """

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._key: MlDsaSigningKey | None = None
        self._look()
        if not self._ready() and os.path.lexists(second_key_files(root)[0]):
            raise ConfigurationError(
                "trust.json does not name the second key of the directory; restore the copy that verifiers have"
            )

    def __call__(self, checkpoint: Checkpoint) -> str:
        """Return the signature line; empty without a second key.

        Raises:
            ConfigurationError: The second key is unavailable.
        """
        self._look()
        if self._key is None:
            return ""
        at = self._clock.wall_ns() // _NS
        return cosign(checkpoint.to_text(), checkpoint.head, checkpoint.origin, self._key, at=at)

    def _ready(self) -> bool:
        return self._key is not None

    def _look(self) -> None:
        """Load the key that ``trust.json`` names now; a loaded key is never dropped without a successor."""
        file = self._root / "trust.json"
        try:
            status = file.stat()
        except OSError:
            return
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._seen:
            return
        second = TrustStore.load(file).second_keys
        if second and (self._key is None or self._key.public_key != second[-1].key):
            self._key = _load(self._root, second[-1])
        self._seen = stamp


def _kind() -> "type[MlDsaSigningKey]":
    from agent_identity._identity.keys import MlDsaSigningKey  # noqa: PLC0415  Few directories have such a key.

    return MlDsaSigningKey


def _load(root: Path, wanted: SecondKey) -> "MlDsaSigningKey":
    for path in second_key_files(root):
        if os.path.lexists(path):
            key = _kind().load(path)
            if key.public_key == wanted.key:
                return key
    raise ConfigurationError(
        f"the second key of trust.json is missing at {str(second_key_files(root)[0])!r}; restore it, "
        "or exchange it: 'agent-identity keys rotate --second DIR'"
    )


def exchange_second_key(
    directory: str | os.PathLike[str], *, evidence: str | os.PathLike[str] | None = None
) -> SecondKey:
    """Give a directory a second key, or replace it; processes need not open the directory again.

    An exchange interrupted by a crash is completed instead.

    Args:
        directory: A directory with keys and ``trust.json``.
        evidence: The directory with the log, if it is not that of the keys.

    Raises:
        ConfigurationError: The installed ``cryptography`` lacks ML-DSA-44 (``ml_dsa_unavailable``), a file is
            unusable, or another exchange is under way. In any case the directory works.
    """
    root = Path(directory)
    current, following = second_key_files(root)
    with alone(root):
        if not following.exists():
            _kind().generate().save(following)
        key = _kind().load(following).public_key
        trust = TrustStore.load(root / "trust.json")
        if any(known.key == key for known in trust.second_keys):
            put_in_place(following, current)
            return trust.second_keys[-1]
        return _announce(root, trust, Layout.of(root if evidence is None else evidence), key=following)


def _announce(root: Path, trust: TrustStore, layout: Layout, *, key: Path) -> SecondKey:
    files = Files()
    public = _kind().load(key).public_key
    try:
        lock_fd = open_regular(files, layout.log_lock, EDIT)
    except FileNotFoundError:  # Nothing was recorded yet.
        return _take(root, trust, SecondKey(public, Takeover(0, CompactRange().root())), key)
    except OSError as error:
        raise _busy(error) from error
    try:
        with locked(files, lock_fd):
            log = log_so_far(layout.root) or Takeover(0, CompactRange().root())
            return _take(root, trust, SecondKey(public, log), key)
    except OSError as error:
        raise _busy(error) from error
    finally:
        files.close(lock_fd)


def _busy(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot lock the log of the directory: '{error.strerror or error}'; check owner and modes"
    )


def _take(root: Path, trust: TrustStore, second: SecondKey, key: Path) -> SecondKey:
    trust.changed(second_keys=(*trust.second_keys, second)).save(root / "trust.json")
    put_in_place(key, second_key_files(root)[0])
    return second
