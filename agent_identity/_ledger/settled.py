"""The note in the lock file of an ended stream: how much of it needs no recovery, and where it was written.

A hint that saves time. Nothing relies on it: without it, the next start reads the stream once more.
"""

import contextlib
import re
from typing import Final

from agent_identity._storage.os_files import READ, Files, open_regular

_NOTE: Final = re.compile(rb"settled (0|[1-9][0-9]{0,19}) in ([0-9]{1,20})\n")


def note_settled(files: Files, lock_fd: int, size: int) -> None:
    """Write into the lock file that the first ``size`` bytes, all of the stream, need no recovery.

    If it cannot be written, nothing is lost.
    """
    with contextlib.suppress(OSError):
        note = b"settled %d in %d\n" % (size, files.status(lock_fd).st_ino)
        files.truncate(lock_fd, 0)
        files.seek(lock_fd, 0)
        files.write(lock_fd, note)


def settled_size(files: Files, lock_fd: int) -> int | None:
    """Return the size written by :func:`note_settled`, or ``None`` without a readable note.

    Raises:
        OSError: The lock file cannot be read.
    """
    note = _note(files, lock_fd)
    return None if note is None else int(note[1])


def written_here(files: Files, path: str) -> bool | None:
    """Return whether the lock file of a stream is the one into which its process wrote the note, not a copy of it.

    Args:
        files: The operating system.
        path: The lock file.

    Returns:
        ``None`` if nothing tells: without a note, or without a lock file.
    """
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        fd = open_regular(files, path, READ)
        stack.callback(files.close, fd)
        note = _note(files, fd)
        return None if note is None else int(note[2]) == files.status(fd).st_ino
    return None


def is_held(files: Files, path: str) -> bool:
    """Return whether a process holds the lock of a stream, as far as can be told; it is tried for a moment."""
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        fd = open_regular(files, path, READ)
        stack.callback(files.close, fd)
        files.lock(fd)
        files.unlock(fd)
        return False
    return True


def _note(files: Files, lock_fd: int) -> re.Match[bytes] | None:
    files.seek(lock_fd, 0)
    return _NOTE.fullmatch(files.read(lock_fd, 64))
