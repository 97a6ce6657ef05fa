"""Every call to the operating system that keeps evidence, in one small class.

Tests inject a fault at each of them. The conversion of a failure into
:class:`~agent_identity.errors.EvidenceError` lives here as well.
"""

import contextlib
import os
import stat
import time
from collections.abc import Generator
from typing import Final

from agent_identity.errors import ConfigurationError, EvidenceError

_SAFE: Final = (
    getattr(os, "O_NOFOLLOW", 0)  # A link must not lead the ledger elsewhere,
    | getattr(os, "O_NONBLOCK", 0)  # nor a pipe hang it,
    | getattr(os, "O_BINARY", 0)  # nor a platform rewrite its line ends.
)
READ: Final = os.O_RDONLY | _SAFE
"""Flags to read a file that exists."""
CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | _SAFE
"""Flags to make a file that must not exist yet, and append to it."""
EXTEND: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | _SAFE
"""Flags to read a file and append to it."""
EDIT: Final = os.O_RDWR | os.O_CREAT | _SAFE
"""Flags to read a file and write it in place."""
REPLACE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _SAFE
"""Flags to write a file anew."""

_LOCK_PAUSES: Final = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016) + (0.025,) * 200  # Seconds; five in all.


class Files:
    """The operating system as the evidence room uses it; each method is one call, and fails as it does."""

    __slots__ = ()

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Open a file and return its descriptor, which no child program inherits."""
        return os.open(path, flags, mode)

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        os.close(fd)

    def read(self, fd: int, size: int) -> bytes:
        """Read at most ``size`` bytes from the current position; nothing at the end."""
        return os.read(fd, size)

    def seek(self, fd: int, offset: int) -> None:
        """Move the position to ``offset`` bytes from the start."""
        os.lseek(fd, offset, os.SEEK_SET)

    def write(self, fd: int, data: bytes) -> int:
        """Write and return the number of bytes that were taken, which may be fewer."""
        return os.write(fd, data)

    def status(self, fd: int) -> os.stat_result:
        """Return the status of an open file."""
        return os.fstat(fd)

    def look(self, path: str) -> os.stat_result:
        """Return the status of the file at a path, of a link itself."""
        return os.lstat(path)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file to ``size`` bytes."""
        os.ftruncate(fd, size)

    def fsync(self, fd: int) -> None:
        """Wait until a file or folder is on the disk, with what is known of it."""
        os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        """Wait until the content of a file is on the disk."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(fd)
        else:
            os.fsync(fd)

    def lock(self, fd: int) -> None:
        """Take the exclusive lock of an open file.

        Raises:
            BlockingIOError: Another holder has it.
            ConfigurationError: The platform has no such locks.
        """
        try:
            import fcntl  # Absent on Windows, where reading a ledger must still work.
        except ImportError:
            raise ConfigurationError(
                "this platform has no POSIX file locks, which a ledger needs; use Linux or macOS"
            ) from None
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def unlock(self, fd: int) -> None:
        """Give the lock back, also on behalf of copies of the descriptor in forked children."""
        import fcntl

        fcntl.flock(fd, fcntl.LOCK_UN)

    def pause(self, seconds: float) -> None:
        """Let others run before the next attempt at a lock."""
        time.sleep(seconds)

    def replace(self, source: str, target: str) -> None:
        """Move a file over another in one step."""
        os.replace(source, target)  # Plain calls: one method, one call.

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must be free."""
        os.link(source, target)

    def unlink(self, path: str) -> None:
        """Remove a name of a file."""
        os.unlink(path)

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder, in no order."""
        return os.listdir(path)

    def mkdir(self, path: str, mode: int) -> bool:
        """Make a folder and return whether it is new; an existing one keeps its mode."""
        try:
            os.mkdir(path, mode)
        except FileExistsError:
            return False
        return True

    def random(self, size: int) -> bytes:
        """Return unpredictable bytes for a new key."""
        return os.urandom(size)


def open_regular(files: Files, path: str, flags: int, mode: int = 0o644) -> int:
    """Open a regular file; pipes, devices and links are refused.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """
    fd = files.open(path, flags, mode)
    with contextlib.ExitStack() as stack:
        stack.callback(files.close, fd)
        if not stat.S_ISREG(files.status(fd).st_mode):
            raise OSError(f"{path!r} is not a regular file; move it away")
        stack.pop_all()
    return fd


def make_folder(files: Files, path: str, mode: int) -> None:
    """Make a folder and its parents, and sync their names to disk; an existing one is left as it is.

    Raises:
        OSError: It cannot be made.
    """
    parent = os.path.dirname(path)
    try:
        made = files.mkdir(path, mode)
    except FileNotFoundError:
        make_folder(files, parent, 0o755)
        made = files.mkdir(path, mode)
    if made:
        with contextlib.suppress(PermissionError):  # A folder in which one may write and not look.
            sync_folder(files, parent)


def check_private(files: Files, fd: int, path: str) -> None:
    """Return if an open file is closed to group and others.

    Raises:
        ConfigurationError: It is not.
    """
    mode = files.status(fd).st_mode
    if mode & 0o077:
        raise ConfigurationError(
            f"{path!r} has mode {stat.S_IMODE(mode):04o}, which is open to group or others; run chmod 600 on it"
        )


def file_of(status: os.stat_result) -> tuple[int, int]:
    """Return the device and the number of a file, which no other file has while this one is open."""
    return (status.st_dev, status.st_ino)


def check_in_place(files: Files, path: str, file: tuple[int, int], size: int = 0) -> None:
    """Check that a path still leads to the file that was opened there.

    Args:
        files: The operating system.
        path: The path.
        file: The file, from :func:`file_of`.
        size: The least number of bytes that it must have.

    Raises:
        EvidenceError: With code ``evidence_removed``: it was removed, renamed, replaced, cut, or hidden by a mount.
    """
    try:
        status = files.look(path)
        reason = "another file is there" if file_of(status) != file else "it was cut" if status.st_size < size else None
    except OSError as error:
        reason = why(error)
    if reason is not None:
        raise EvidenceError(
            f"{path!r} is not in place any more ({reason}), so that nothing can be recorded; put the file back, "
            "or verify the directory and restart the process",
            code="evidence_removed",
        )


def sync_folder(files: Files, path: str) -> None:
    """Sync the names in a folder to disk.

    Raises:
        OSError: The folder cannot be synced.
    """
    fd = files.open(path, READ)
    try:
        files.fsync(fd)
    finally:
        files.close(fd)


def write_whole(files: Files, fd: int, data: bytes) -> None:
    """Write all of the data in one call.

    Raises:
        OSError: It could not be written, or only a part of it was.
    """
    if files.write(fd, data) != len(data):
        raise OSError("a write of a part of the data")


def write_beside(files: Files, path: str, data: bytes, temporary: str = "") -> None:
    """Replace a file atomically: after a crash or a power loss it is the old one, or this one.

    Args:
        files: The operating system.
        path: Where the file is to be. Its folder is not synced, so after a power loss it may be the one before.
        data: The content of the file.
        temporary: Where it is written first; where several may write at once, each needs a name of its own.

    Raises:
        OSError: It cannot be written; what is in place stays.
    """
    temporary = temporary or f"{path}.new"
    fd = open_regular(files, temporary, REPLACE)
    try:
        write_whole(files, fd, data)
        files.fsync(fd)  # Otherwise the name may survive a power loss without the content.
    finally:
        files.close(fd)
    files.replace(temporary, path)


def acquire(files: Files, fd: int) -> None:
    """Take the lock of an open file, waiting about five seconds.

    Raises:
        BlockingIOError: Another holder does not give it back.
        ConfigurationError: The platform has no such locks.
    """
    for pause in _LOCK_PAUSES:
        try:
            files.lock(fd)
            break
        except BlockingIOError:
            files.pause(pause)
    else:
        files.lock(fd)


@contextlib.contextmanager
def locked(files: Files, fd: int) -> Generator[None]:
    """Hold the lock of an open file for the block, waiting for it as :func:`acquire` does.

    Raises:
        BlockingIOError: Another holder does not give it back.
        ConfigurationError: The platform has no such locks.
    """
    acquire(files, fd)
    try:
        yield
    finally:
        files.unlock(fd)


@contextlib.contextmanager
def recording(purpose: str) -> Generator[None]:
    """Turn a failure of the operating system inside the block into :class:`EvidenceError`.

    Args:
        purpose: The purpose for the message, an infinitive without "to".
    """
    try:
        yield
    except OSError as error:
        raise EvidenceError(
            f"could not {purpose}: {why(error)}; check the folder and its disk, the next call tries again"
        ) from error


def why(error: OSError) -> str:
    """Return the system's words for a failure, without the path."""
    return os.strerror(error.errno) if error.errno else str(error)
