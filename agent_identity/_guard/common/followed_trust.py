"""The trusted keys of a running process, which follow the signed successors of its trust file."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar, final

from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.private_files import is_there, read_trusted_file, replace_public_file
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._identity.trust.successors import MAX_SUCCESSOR, followed
from agent_identity.errors import ConfigurationError, TokenError

T = TypeVar("T")

_NS: Final = 1_000_000_000
_MOST: Final = 16
"""Successors that a directory keeps, and that a process remembers of others."""

_MAX_FILE: Final = 4 * MAX_SUCCESSOR
_LATER: Final = frozenset({"unknown_key", "key_not_valid_then"})


def announced(directory: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the signed successors that a directory keeps, oldest first.

    Raises:
        ConfigurationError: The file is not readable, or everyone can write it.
    """
    path = Path(directory) / "trust.successors"
    try:
        there = is_there(path)
    except OSError:
        there = True  # Reading says why.
    if not there:
        return ()
    return tuple(read_trusted_file(path, limit=_MAX_FILE).decode("ascii", "ignore").split())


def announce(directory: str | os.PathLike[str], tokens: Iterable[str]) -> None:
    """Keep signed successors in a directory; the oldest give way.

    Raises:
        ConfigurationError: The file cannot be read or written.
    """
    before = announced(directory)
    known = dict.fromkeys((*before, *tokens))
    if len(known) == len(before):
        return
    content = "".join(f"{token}\n" for token in list(known)[-_MOST:])
    replace_public_file(Path(directory) / "trust.successors", content.encode("ascii"))


@final
class FollowedTrust:
    """The trust store of a running process. Thread-safe.

    Args:
        trust: The store at the start.
        clock: Source of time.
        directory: Where the successors are; ``None`` if none are read.
        root: The pinned root.
    """

    __slots__ = ("_clock", "_lock", "_others", "_own", "_root", "directory", "now")

    def __init__(
        self,
        trust: TrustStore,
        clock: Clock,
        *,
        directory: str | os.PathLike[str] | None = None,
        root: PublicKey | None = None,
    ) -> None:
        self._own = trust
        self._others: dict[str, None] = {}
        self._clock = clock
        self._root = root
        self._lock = threading.RLock()
        self.directory = directory
        self.now = _here(trust)

    def use(self, directory: str | os.PathLike[str], root: PublicKey | None) -> None:
        """Follow the successors in a directory from now on."""
        self.directory, self._root = directory, root

    def successors(self) -> tuple[str, ...]:
        """Return the signed successors to hand on with what the keys here sign; none if they cannot be read."""
        with contextlib.suppress(ConfigurationError):
            return () if self.directory is None else announced(self.directory)
        return ()

    def follow(self, others: Iterable[str] = ()) -> TrustStore:
        """Follow the successors in the directory, and others that came with a list; return the store.

        What does not follow from a key that counts here is passed over.

        Args:
            others: Signed successors of other files.
        """
        own = self.successors()
        with self._lock:
            self._own = self._walked(self._own, own)
            now = self._own
            for token in (*self._others, *others):
                then = self._walked(now, (token,))
                if then.keys != now.keys:
                    now = then
                    if len(self._others) < _MOST * _MOST:
                        self._others[token] = None
            self.now = _here(now)
            return self.now

    def trying(self, check: Callable[[TrustStore], T]) -> T:
        """Return the result of a check; if it fails for a key, follow the successors and check again.

        Raises:
            TokenError: The check failed.
        """
        try:
            return check(self.now)
        except TokenError as error:
            before = self.now
            if error.code not in _LATER or self.follow() == before:
                raise
        return check(self.now)

    def anchor(self, thumbprint: str) -> PublicKey:
        """Return the issuer key of a thumbprint, which counts now.

        Raises:
            TokenError: There is none.
        """
        return self.trying(lambda trust: trust.find(thumbprint, "issuer", at=self._clock.wall_ns() // _NS))

    def after_fork_in_child(self) -> None:
        """Replace the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    def _walked(self, trust: TrustStore, tokens: Iterable[str]) -> TrustStore:
        at = self._clock.wall_ns() // _NS
        for token in tokens:
            with contextlib.suppress(TokenError, ConfigurationError):
                trust = followed(trust, token, at=at, root=self._root)
        return trust


def _here(trust: TrustStore) -> TrustStore:
    """Return the store for the log of a file: certified issuers count as far as their root certifies for it."""
    return trust if trust.origin is None else trust.of_log(trust.origin)
