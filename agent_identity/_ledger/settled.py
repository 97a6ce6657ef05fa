"""The note in the lock file of an ended stream: how much of it needs no recovery, and where it was written.

A hint that saves time. Nothing relies on it: without it, the next start reads the stream once more.
"""

import contextlib
import logging
import re
from collections.abc import Generator
from typing import Final

from agent_identity._ledger.segments import closed_segments
from agent_identity._ledger.transparency.bootstrap import stream_names
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import READ, Files, open_regular, why

_logger: Final = logging.getLogger("agent_identity.evidence")

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
    with contextlib.suppress(OSError), _opened(files, path) as fd:
        note = _note(files, fd)
        return None if note is None else int(note[2]) == files.status(fd).st_ino
    return None


def is_held(files: Files, path: str) -> bool:
    """Return whether a process holds the lock of a stream, as far as can be told; it is tried for a moment."""
    with contextlib.suppress(OSError), _opened(files, path) as fd:
        files.lock(fd)
        files.unlock(fd)
        return False
    return True


def unsettled(files: Files, layout: Layout) -> tuple[str, ...]:
    """Return the streams that no one has settled: of dead processes, and of those that run.

    Raises:
        OSError: The folder of streams cannot be listed.
    """
    return tuple(name for name in stream_names(files, layout) if _needs_recovery(files, layout, name))


def _needs_recovery(files: Files, layout: Layout, name: str) -> bool:
    """Return whether the stream has bytes that are not recorded as settled."""
    try:
        size = size_of(files, layout.entries(name))
        if not size and not closed_segments(files, (layout.stream(name),)):
            return False  # A process that just starts, or died there, has written nothing.
        with _opened(files, layout.lock(name)) as fd:
            return settled_size(files, fd) != size
    except FileNotFoundError:
        return False
    except OSError as error:
        _logger.warning("cannot look at stream %s: %s", name, why(error))
        return False


def size_of(files: Files, path: str) -> int:
    """Return the size of a file; 0 if it is missing, as after a death between two segments.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        with _opened(files, path) as fd:
            return files.status(fd).st_size
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _opened(files: Files, path: str) -> Generator[int]:
    fd = open_regular(files, path, READ)
    try:
        yield fd
    finally:
        files.close(fd)


def _note(files: Files, lock_fd: int) -> re.Match[bytes] | None:
    files.seek(lock_fd, 0)
    return _NOTE.fullmatch(files.read(lock_fd, 64))
