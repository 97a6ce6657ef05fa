"""The state of an evidence directory, almost free to read while nothing changes."""

import contextlib
import mmap
import os
import secrets
import stat
import struct
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal, final

from agent_identity._authority.stores.forks import renewed_in_children
from agent_identity._authority.stores.protocol import Debit, check_key, check_number
from agent_identity._authority.stores.sqlite import SqliteState
from agent_identity._identity.common.private_files import hide_from_git
from agent_identity.errors import ConfigurationError, StateError

_BYTES: Final = 8
_read: Final[Callable[[mmap.mmap], tuple[int]]] = struct.Struct("<Q").unpack_from
_LOOK_NS: Final = 200_000_000
_LATE_NS: Final = 1_000_000_000


@final
class DirectoryState:
    """A SQLite file with a change counter in memory that all processes of the directory share.

    The file is made when something is kept for the first time. :meth:`generation` reads the counter alone, which
    takes no system call. The counter is odd while someone writes; a reader that finds it odd counts that as news,
    so that not even a writer that dies in between hides something.

    Args:
        folder: The folder of the state; made if it is missing.
        sync: See :class:`SqliteState`.

    Raises:
        ConfigurationError: The folder cannot be made or written.
    """

    def __init__(self, folder: str | os.PathLike[str], *, sync: Literal["process", "disk"] = "process") -> None:
        self._path = Path(folder) / "news"
        self._lock = threading.RLock()
        self._odd = 0
        self._looked = 0
        self._looking = False
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            hide_from_git(self._path.parent)
            self._fd = self._opened(os.O_CREAT)
            self._check_private()
            if os.fstat(self._fd).st_size < _BYTES:
                os.truncate(self._fd, _BYTES)  # Longer by zeros, even if others do the same now.
            self._news = mmap.mmap(self._fd, _BYTES)
        except OSError as error:
            raise ConfigurationError(
                f"the folder for shared state cannot be written ({error.strerror}); repair the folder "
                "'state' of the evidence directory"
            ) from None
        self._file = Path(folder) / "state.sqlite"
        self._kept = SqliteState(self._file, sync=sync)
        renewed_in_children(self)

    def insert(self, key: str, *, now: int, expires_at: int) -> bool:
        """See :meth:`StateStore.insert`."""
        return self._telling(lambda: self._kept.insert(key, now=now, expires_at=expires_at))

    def contains(self, key: str, *, now: int) -> bool:
        """See :meth:`StateStore.contains`."""
        check_key(key)
        check_number("now", now)
        return not self._is_empty() and self._kept.contains(key, now=now)

    def debit(self, debits: Sequence[Debit], *, now: int) -> int | None:
        """See :meth:`StateStore.debit`."""
        return self._kept.debit(debits, now=now)

    def credit(self, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.credit`."""
        self._kept.credit(debits, now=now)

    def keep(self, share: str, debits: Sequence[Debit], *, now: int) -> None:
        """See :meth:`StateStore.keep`."""
        self._kept.keep(share, debits, now=now)

    def resume(self, share: str, debits: Sequence[Debit], *, now: int) -> tuple[int, ...] | int:
        """See :meth:`StateStore.resume`."""
        return self._kept.resume(share, debits, now=now)

    def put(self, name: str, version: int, data: bytes) -> bool:
        """See :meth:`StateStore.put`."""
        return self._telling(lambda: self._kept.put(name, version, data))

    def get(self, name: str) -> tuple[int, bytes] | None:
        """See :meth:`StateStore.get`."""
        check_key(name)
        return None if self._is_empty() else self._kept.get(name)

    def generation(self) -> int:
        """See :meth:`StateStore.generation`."""
        now = time.monotonic_ns()
        if now - self._looked > _LOOK_NS:
            self._check_there()
            self._looked = now
        return self._number()

    def generation_at_once(self, start: Callable[[Callable[[], object]], object]) -> int | None:
        """Return the result of :meth:`generation`, if it is known without waiting.

        The directory is looked at five times a second while calls come. What was seen last counts for a second at
        most.

        Args:
            start: Looks at the directory: in the background on an event loop, or here.
        """
        age = time.monotonic_ns() - self._looked
        if age > _LATE_NS or self._news.closed:
            return None
        if age > _LOOK_NS and not self._looking:
            self._looking = True
            start(self._look)
        return self._number()

    def _look(self) -> None:
        """Check the directory, or leave it to the next caller, who gets the error."""
        looked = 0
        try:
            self._check_there()
            looked = time.monotonic_ns()
        finally:
            self._looked, self._looking = looked, False

    def _number(self) -> int:
        """Return the number in the counter, or a new one each time during a write."""
        try:  # As _count() does, without the call: every guarded call asks.
            count = _read(self._news)[0]
        except ValueError:
            count = self._count()
        if count % 2:
            self._odd -= 1  # Someone writes, or died while writing: another number each time.
            return self._odd
        return count

    def close(self) -> None:
        """See :meth:`StateStore.close`."""
        with self._lock:
            if not self._news.closed:
                self._news.close()
                if self._fd >= 0:
                    os.close(self._fd)
            self._kept.close()

    def after_fork_in_child(self) -> None:
        """Open the file anew, because all processes that inherited a descriptor share its lock.

        If it is gone, or another than the parent's, every call that asks for news is refused.
        """
        self._lock = threading.RLock()
        self._looked, self._looking = 0, False
        if not self._news.closed:
            inherited, self._fd = self._fd, -1
            with contextlib.suppress(OSError):
                opened = self._opened()
                if os.path.sameopenfile(opened, inherited):
                    self._fd = opened
                else:
                    os.close(opened)
            with contextlib.suppress(OSError):  # The child of a child that had none either.
                os.close(inherited)

    def _check_there(self) -> None:
        """Check from time to time that the counter still belongs to the directory: a removed one reports no changes.

        Raises:
            StateError: It is not.
        """
        self._count()
        try:
            there, mine = self._path.lstat(), os.fstat(self._fd)
        except (OSError, ValueError):  # A forked child that did not find it has no descriptor.
            raise StateError("the state of the directory was removed or replaced; open it again") from None
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise StateError("the state of the directory was replaced; open the directory again")

    def _check_private(self) -> None:
        for status, what in ((self._path.parent.stat(), "folder"), (os.fstat(self._fd), "file")):
            mode = stat.S_IMODE(status.st_mode)
            if status.st_uid not in (0, os.geteuid()) or mode & (0o022 if what == "folder" else 0o077):
                os.close(self._fd)
                raise ConfigurationError(
                    f"others can change the {what} for shared state, which has mode {mode:04o} or another "
                    "owner; run chmod 700 on the folder 'state' and chmod 600 on what is in it"
                )

    def _is_empty(self) -> bool:
        """Return whether nothing was ever stored, so that a check does not create the file."""
        return self._count() == 0 and not self._file.exists()

    def _opened(self, flags: int = 0) -> int:
        return os.open(self._path, os.O_RDWR | flags | getattr(os, "O_NOFOLLOW", 0), 0o600)

    def _count(self) -> int:
        try:
            return _read(self._news)[0]
        except ValueError:
            raise StateError("the store of state is closed; open the directory again") from None

    def _telling(self, step: Callable[[], bool]) -> bool:
        """Keep the counter odd during a step, and set a new even number if the step stored something."""
        import fcntl  # Absent on Windows, where reading evidence must still work.

        with self._lock:
            before = self._count()  # A closed store has no lock to wait for.
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            except (OSError, ValueError):
                raise StateError("the lock on the state of the directory is missing; open it again") from None
            stored = True
            try:
                before = self._count()
                # A number that no one has seen: neither before a writer died, nor before the folder was put back.
                self._tell(secrets.randbits(62) | 1)
                stored = step()
            finally:
                self._tell(self._count() + 1 if stored or before % 2 else before)
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            return stored

    def _tell(self, count: int) -> None:
        self._news[:_BYTES] = (count % 2**63).to_bytes(_BYTES, "little")
