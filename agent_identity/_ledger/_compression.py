"""Background compression of closed segments: write and check the new file, then remove the old one."""

import contextlib
import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Final, final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._ledger.segments import (
    CODECS,
    MAX_INFLATED,
    Codec,
    Compression,
    closed_segments,
    compression_of,
    decompressed,
)
from agent_identity._ledger.settled import settled_size
from agent_identity._ledger.transparency.bootstrap import stream_names
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import EDIT, READ, REPLACE, Files, open_regular, sync_folder, why, write_whole

_CHUNK: Final = 256 * 1024
_JOIN_SECONDS: Final = 10.0
_LOCK_SECONDS: Final = 0.1
_logger: Final = logging.getLogger("agent_identity.evidence")


class Stopped(Exception):
    """Compression was interrupted because the process ends."""


@final
class Compressor:
    """Compresses segments one after the other, in a thread that lives as long as its queue has some.

    What it does not get to, since the process ends or the disk is full, stays as it is and is read all the same. It is
    tried again whenever a process of the directory closes a further segment.
    """

    def __init__(self, files: Files, layout: Layout, compression: Compression) -> None:
        self._files = files
        self._layout = layout
        self._compression: Compression = compression
        self._lock = threading.Lock()
        self._paths: deque[str] = deque()
        self._again: list[str] = []  # Those that failed.
        self._stopping = False
        self._fds: set[int] = set()
        self._thread: threading.Thread | None = None

    def add(self, path: str) -> None:
        """Compress a closed segment whose records are all sealed; called by one thread at a time."""
        if self._compression == "none" or self._stopping:
            return
        with self._lock:
            self._paths.extend((path, *self._again))
            self._again.clear()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="agent-identity-compression", daemon=True)
                with contextlib.suppress(RuntimeError):  # The interpreter shuts down, or there are no more threads.
                    thread.start()
                    self._thread = thread

    def stop(self) -> None:
        """Interrupt the compression under way."""
        self._stopping = True
        thread = self._thread
        if thread is not None:
            thread.join(_JOIN_SECONDS)

    def abandon(self) -> None:
        """Close the descriptors of the parent's thread, in a forked child."""
        self._stopping = True
        for fd in self._fds:
            with contextlib.suppress(OSError):
                self._files.close(fd)
        self._fds = set()

    def _run(self) -> None:
        self._compress_what_was_left()
        while (path := self._next()) is not None:
            with contextlib.suppress(Stopped):
                if not self._compress(path):
                    with self._lock:
                        self._again.append(path)

    def _compress_what_was_left(self) -> None:
        """Compress the closed segments of streams whose processes ended and needed no recovery."""
        names: Sequence[str] = ()
        with contextlib.suppress(OSError):  # What cannot be looked at now is tried the next time.
            names = stream_names(self._files, self._layout)
        for name in names:
            with contextlib.suppress(OSError, Stopped):
                self._compress_all_of(name)

    def _compress_all_of(self, name: str) -> None:
        paths = closed_segments(self._files, (self._layout.stream(name),)).values()
        plain = [path for path in paths if compression_of(path) == "none"]
        if not plain:
            return
        with self._open(self._layout.lock(name), READ) as lock_fd, self._open(self._layout.entries(name), READ) as fd:
            self._files.lock(lock_fd)
            if settled_size(self._files, lock_fd) == self._files.status(fd).st_size:
                for path in plain:
                    self._compress(path)

    def _next(self) -> str | None:
        with self._lock:
            if self._paths and not self._stopping:
                return self._paths.popleft()
            self._thread = None
            return None

    def _compress(self, path: str) -> bool:
        """Compress a segment; return whether it needs no further attempt."""
        try:
            with self._open(self._layout.segments_lock, EDIT) as lock_fd:
                self._wait_for(lock_fd)
                try:
                    compress(self._files, path, stopping=lambda: self._stopping, opened=self._open)
                finally:
                    self._files.unlock(lock_fd)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and error.filename == path:
                return True  # It was archived and removed meanwhile.
            _logger.warning("a segment stays as it is until the next one is closed: %s", why(error))
            return False
        return True

    def _wait_for(self, lock_fd: int) -> None:
        """Take the segments lock, which excludes other compression, archiving and pruning."""
        while not self._stopping:
            with contextlib.suppress(BlockingIOError):
                self._files.lock(lock_fd)
                return
            self._files.pause(_LOCK_SECONDS)
        raise Stopped

    @contextlib.contextmanager
    def _open(self, path: str, flags: int) -> Generator[int]:
        fd = open_regular(self._files, path, flags)
        self._fds.add(fd)
        try:
            yield fd
        finally:
            self._fds.discard(fd)
            self._files.close(fd)


_Opener = Callable[[str, int], contextlib.AbstractContextManager[int]]


def compress(files: Files, path: str, *, stopping: Callable[[], bool], opened: _Opener) -> None:
    """Replace a closed segment with a compressed file; a crash at any moment leaves one of the two whole.

    Args:
        files: The operating system.
        path: The segment.
        stopping: Tells, now and then, whether to give up.
        opened: Opens files for a block.

    Raises:
        Stopped: It was given up.
        OSError: It did not work; the segment is as it was.
    """
    target = path + CODECS["gzip"]
    with opened(path, READ) as fd:
        if files.status(fd).st_size > MAX_INFLATED:
            return
        copy_compressed(files, fd, target, stopping=stopping, opened=opened)
    files.unlink(path)


def copy_compressed(files: Files, fd: int, target: str, *, stopping: Callable[[], bool], opened: _Opener) -> str:
    """Write a compressed copy of an open file, read it back, then give it its name.

    Args:
        files: The operating system.
        fd: The file.
        target: The path of the copy.
        stopping: Tells, now and then, whether to give up.
        opened: Opens files for a block.

    Returns:
        The SHA-256 of the content.

    Raises:
        Stopped: It was given up.
        OSError: It did not work; there is no copy.
    """
    temporary = f"{target}.tmp"
    try:
        with opened(temporary, REPLACE) as out:
            digest = _compress(files, fd, out, stopping)
        with opened(temporary, READ) as back:
            _check_content(files, back, digest)
        files.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            files.unlink(temporary)
        raise
    sync_folder(files, target.rpartition("/")[0])
    return digest


def _compress(files: Files, fd: int, out: int, stopping: Callable[[], bool]) -> str:
    """Write a file compressed to another one, and return the SHA-256 of the content."""
    codec, source = Codec(), hashlib.sha256()
    files.seek(fd, 0)
    while chunk := files.read(fd, _CHUNK):
        if stopping():
            raise Stopped
        source.update(chunk)
        write_whole(files, out, codec.feed(chunk))
    write_whole(files, out, codec.finish())
    files.fsync(out)
    return b64url_encode(source.digest())


def _check_content(files: Files, fd: int, digest: str) -> None:
    if content_digest(files, fd, "gzip") != digest:
        raise OSError("the compressed file is not what was compressed")


def content_digest(files: Files, fd: int, compression: Compression) -> str:
    """Return the SHA-256 of the content of an open segment.

    Raises:
        OSError: It cannot be read, or is damaged.
    """
    files.seek(fd, 0)
    read, digest = decompressed(lambda size: files.read(fd, size), compression), hashlib.sha256()
    while chunk := read(_CHUNK):
        digest.update(chunk)
    return b64url_encode(digest.digest())
