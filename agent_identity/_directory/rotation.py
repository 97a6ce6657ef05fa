"""Rotation and revocation of the keys of a directory, in steps that each leave a working directory.

The new private key waits beside the old one as ``<purpose>.next.pem``, is announced in ``trust.json``, and then
replaces the old one. The next process to open the directory completes an interrupted rotation.
"""

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, Self, cast, final

from agent_identity._directory.key_folders import key_folder
from agent_identity._guard.common.followed_trust import announce
from agent_identity._identity.common.private_files import put_in_place
from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
from agent_identity._identity.trust.document import signed_trust
from agent_identity._identity.trust.entries import EntryPurpose, Purpose, Takeover, TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._identity.trust.successors import signed_successor
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._record.parts import KeyTrust, Time
from agent_identity._record.schema import Trust
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import EDIT, Files, locked, open_regular
from agent_identity.errors import ConfigurationError

_LOCK: Final = "rotation.lock"


class _Place(NamedTuple):
    """Where the files of one directory are.

    Attributes:
        root: The directory with ``trust.json``.
        keys: The folder of its private keys.
    """

    root: Path
    keys: Path

    @classmethod
    def of(cls, root: str | os.PathLike[str], keys: str | os.PathLike[str] | None) -> Self:
        """Return the place of a directory, whose keys are in it by default."""
        return cls(Path(root), key_folder(root, keys))

    @property
    def trust(self) -> Path:
        """The trust file."""
        return self.root / "trust.json"

    def current(self, purpose: EntryPurpose) -> Path:
        """Return the path of the private key in use."""
        return self.keys / f"{purpose}.pem"

    def next(self, purpose: EntryPurpose) -> Path:
        """Return the path of the private key that waits to be announced."""
        return self.keys / f"{purpose}.next.pem"


@final
@dataclass(frozen=True, slots=True)
class Rotated:
    """One rotation of a key.

    Attributes:
        old: The key that signed until now; the directory no longer has its private half.
        new: The key that signs from now on.
    """

    old: TrustedKey
    new: TrustedKey


def rotate(
    directory: str | os.PathLike[str],
    purposes: Sequence[Purpose],
    *,
    now: int,
    overlap: int,
    evidence: str | os.PathLike[str] | None = None,
    root_key: Signer | None = None,
    keys: str | os.PathLike[str] | None = None,
) -> tuple[Rotated, ...]:
    """Rotate keys of a directory. Processes that have it open use the old ones until they open it again.

    The old issuer key signs the next trust file, which running processes follow, before a new key signs anything.

    A rotation that crashed after its announcement is completed instead.

    Args:
        directory: A directory created by :meth:`~agent_identity.Enforcer.open` or ``agent-identity init``.
        purposes: The keys, each once.
        now: Unix seconds; from then on the new keys count.
        overlap: Seconds for which the old keys still count: for processes that have not opened the directory
            again, and for their grants.
        evidence: The directory with the log, if it is not that of the keys.
        root_key: A root of the trust file, which signs the next one.
        keys: The folder of the keys, if it is outside the directory.

    Raises:
        ConfigurationError: A file is unusable, the key is no root of the file, or another rotation is under way.
            In any case the directory works.
    """
    if overlap < 0:
        raise ConfigurationError("overlap is negative; use 0 seconds or more")
    place = _Place.of(directory, keys)
    if not place.trust.exists():
        raise ConfigurationError("the directory has no trust.json; 'agent-identity init DIR' makes one")
    with _alone(place):
        resumed: list[Purpose] = [purpose for purpose in purposes if _complete(place, purpose)]
        trust = TrustStore.load(place.trust)
        fresh: list[Purpose] = [purpose for purpose in purposes if purpose not in resumed]
        log = _log_so_far(directory if evidence is None else evidence) if "recorder" in fresh else None
        done = [_exchange(place, trust, _new_key(place, purpose, now, log), now + overlap) for purpose in fresh]
        _settle(place, trust, done, root_key)
        return (*(_resumed(place, trust, purpose) for purpose in resumed), *done)


def record_rotation(ledger: Ledger, done: Sequence[Rotated]) -> None:
    """Record the trusted keys after a rotation.

    Args:
        ledger: A ledger of the directory.
        done: The result of :func:`rotate`.

    Raises:
        EvidenceError: The rotation could not be recorded.
    """
    for one in done:
        purpose = cast("Purpose", one.new.purpose)
        fact = KeyTrust(key=one.new.key.thumbprint, purpose=purpose, status="trusted")
        ledger.append(partial(Trust, time=Time.at(ledger.clock.wall_ns()), trust=fact))


def _settle(place: _Place, trust: TrustStore, done: Sequence[Rotated], root_key: Signer | None) -> None:
    if done:
        following = _announced(trust, done)
        _replace_trust(place, following if root_key is None else signed_trust(following, root_key))
    for one in done:
        put_in_place(place.next(one.new.purpose), place.current(one.new.purpose))


def _replace_trust(place: _Place, trust: TrustStore) -> None:
    """Announce the next trust file to running processes, signed by the issuer key in use, and then write it.

    Raises:
        ConfigurationError: A file is unusable.
    """
    announce(place.root, [signed_successor(trust, SigningKey.load(place.current("issuer")))])
    trust.save(place.trust)


def _new_key(place: _Place, purpose: Purpose, now: int, log: Takeover | None) -> TrustedKey:
    """Return the entry of the new key, which waits in its file."""
    path = place.next(purpose)
    if not path.exists():  # Otherwise it is left from a rotation that crashed before its announcement.
        SigningKey.generate().save(path)
    key = SigningKey.load(path).public_key
    return TrustedKey(key, purpose, not_before=now, takes_over=log if purpose == "recorder" else None)


def _exchange(place: _Place, trust: TrustStore, new: TrustedKey, until: int) -> Rotated:
    """Return the announcement: the new key, and how long the old one still counts."""
    old = _entry(trust, SigningKey.load(place.current(new.purpose)).public_key, new.purpose)
    until = max(until, old.not_before or 0)
    return Rotated(replace(old, not_after=until if old.not_after is None else min(until, old.not_after)), new)


def _announced(trust: TrustStore, done: Sequence[Rotated]) -> TrustStore:
    changed = {(one.old.key, one.old.purpose): one.old for one in done}
    keys = [changed.get((entry.key, entry.purpose), entry) for entry in trust.keys]
    return trust.with_keys((*keys, *(one.new for one in done)))


def _resumed(place: _Place, trust: TrustStore, purpose: Purpose) -> Rotated:
    """Return the announcement of an earlier attempt: the new key, and the latest one before it."""
    new = _entry(trust, SigningKey.load(place.current(purpose)).public_key, purpose)
    older = [entry for entry in trust.keys if entry.purpose == purpose and entry != new]
    return Rotated(older[-1] if older else new, new)


def _entry(trust: TrustStore, key: PublicKey, purpose: EntryPurpose) -> TrustedKey:
    entry = trust.get(key.thumbprint, purpose)
    if entry is None:
        raise ConfigurationError(f"trust.json lacks the {purpose} key of the directory; restore the pair from a backup")
    return entry


def _log_so_far(directory: str | os.PathLike[str]) -> Takeover | None:
    """Return size and root of the log, or ``None`` without a log.

    Raises:
        ConfigurationError: A line of the log is no entry; a new key must not take over a broken log.
    """
    if not os.path.lexists(Layout.of(directory).log_entries):
        return None
    tree = CompactRange()
    for line in open_ledger(directory).log_entries():
        if line.problem == "torn":
            break  # The next sealing process removes it.
        if line.record is None:
            raise ConfigurationError(
                f"the log has a line that is {line.problem}, and a new recorder key cannot take it over; verify the "
                "directory, keep it as it is, and start a new one"
            )
        tree.append(leaf_hash(line.record))
    return Takeover(tree.size, tree.root())


def finish_rotation(root: Path, purpose: Purpose, keys: Path | None = None) -> None:
    """Complete an announced and interrupted rotation.

    Args:
        root: The directory.
        purpose: The key.
        keys: The folder of the keys; by default that in the directory.

    Raises:
        ConfigurationError: A file is unusable.
    """
    place = _Place.of(root, keys)
    if place.next(purpose).exists():
        with _alone(place):
            _complete(place, purpose)


def _complete(place: _Place, purpose: Purpose) -> bool:
    """Install an announced key; return whether there was one. The caller holds the lock."""
    path = place.next(purpose)
    if not path.exists() or not place.trust.exists():
        return False
    if TrustStore.load(place.trust).get(SigningKey.load(path).public_key.thumbprint, purpose) is None:
        return False
    put_in_place(path, place.current(purpose))
    return True


def revoke(
    path: str | os.PathLike[str],
    thumbprint: str,
    *,
    since: int,
    reason: str | None = None,
    root_key: Signer | None = None,
    keys: str | os.PathLike[str] | None = None,
) -> tuple[TrustedKey, ...]:
    """Revoke a key in a trust file from a time on; return its entries, one for each purpose.

    Args:
        path: A directory of an enforcer, or a trust file.
        thumbprint: The name of the key.
        since: Unix seconds. A known time is only replaced by an earlier one.
        reason: The reason, for people.
        root_key: A root of the trust file, which signs the next one.
        keys: The folder of the keys of the directory, if it is outside.

    Raises:
        ConfigurationError: The file is unusable, does not have the key, or knows an earlier time; or the key is no
            root of the file.
    """
    revoked: list[TrustedKey] = []

    def change(trust: TrustStore) -> TrustStore:
        entries = [entry for entry in trust.keys if entry.key.thumbprint == thumbprint]
        if not entries:
            raise ConfigurationError(
                "the trust file has no key with this thumbprint; 'agent-identity trust list' shows its keys"
            )
        if any(entry.revoked_since is not None and entry.revoked_since < since for entry in entries):
            raise ConfigurationError(
                "the key is revoked from an earlier time already; give an earlier one, since "
                "what was in doubt stays in doubt"
            )
        try:
            changed = {entry: replace(entry, revoked_since=since, reason=reason or entry.reason) for entry in entries}
        except ValueError as error:
            raise ConfigurationError(f"bad revocation: {error}") from None
        revoked.extend(changed.values())
        return trust.with_keys(tuple(changed.get(entry, entry) for entry in trust.keys))

    change_trust(path, change, root_key, keys=keys)
    return tuple(revoked)


def change_trust(
    path: str | os.PathLike[str],
    change: Callable[[TrustStore], TrustStore],
    root_key: Signer | None = None,
    *,
    keys: str | os.PathLike[str] | None = None,
) -> TrustStore:
    """Replace a trust file by what follows it, and return that; running processes of its directory are told.

    Args:
        path: A directory of an enforcer, or a trust file.
        change: Returns the next content.
        root_key: A root of the trust file, which signs the next one.
        keys: The folder of the keys, if it is outside of the directory.

    Raises:
        ConfigurationError: The file is unusable, or the key is no root of the next one; nothing changes.
    """
    place = _Place.of(path, keys)
    file = place.trust if place.root.is_dir() else place.root
    with _alone(place) if place.keys.is_dir() else contextlib.nullcontext():
        following = change(TrustStore.load(file))
        if root_key is not None:
            following = signed_trust(following, root_key)
        if _may_announce(place, following):
            _replace_trust(place, following)
        else:
            following.save(file)
        return following


def _may_announce(place: _Place, trust: TrustStore) -> bool:
    """Return whether a trust file can be announced: a key that it calls revoked signs nothing."""
    path = place.current("issuer")
    entry = trust.get(SigningKey.load(path).public_key.thumbprint, "issuer") if path.exists() else None
    return entry is not None and entry.sound


@contextlib.contextmanager
def _alone(place: _Place) -> Generator[None]:
    """Hold the lock for changes to the keys of a directory.

    Raises:
        ConfigurationError: Another process holds it for long, or it cannot be taken.
    """
    files = Files()
    with contextlib.ExitStack() as stack:
        try:
            fd = open_regular(files, str(place.keys / _LOCK), EDIT, 0o600)
            stack.callback(files.close, fd)
            stack.enter_context(locked(files, fd))
        except BlockingIOError:
            raise ConfigurationError("another process changes the keys of the directory; try again later") from None
        except OSError as error:
            raise ConfigurationError(
                f"cannot lock the keys of the directory: '{error.strerror or error}'; check owner and modes"
            ) from error
        yield
