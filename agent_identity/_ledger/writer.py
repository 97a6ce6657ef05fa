"""The stream of one process: append-only files, one after the other, under an exclusive lock."""

import contextlib
import errno
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Final, NamedTuple, NoReturn, Self, TypeAlias, final

from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._ledger.segments import DEFAULT_BYTES
from agent_identity._ledger.settled import note_settled
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._record.codec import encode, encode_detail
from agent_identity._record.parts import VERSION, Stream
from agent_identity._record.schema import AnyRecord, Detail
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import stream_line
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import (
    EDIT,
    EXTEND,
    Files,
    acquire,
    check_in_place,
    file_of,
    open_regular,
    recording,
    sync_folder,
    why,
)
from agent_identity.errors import EvidenceError

_logger: Final = logging.getLogger("agent_identity.evidence")

MAX_RECORD_BYTES: Final = 1024 * 1024
"""Largest record that is written."""

_SALT_BYTES: Final = 16

Make: TypeAlias = Callable[..., AnyRecord]
"""Makes a record of its facts, given the members that the ledger knows: ``id``, ``stream`` and ``v``.

Usually a :func:`functools.partial` of a kind of record with its facts, which type checkers check.
"""

Told: TypeAlias = partial[Detail] | None
"""Makes the detail of a record of its salt, if it has one."""


class Entry(NamedTuple):
    """A record in the ledger; a tuple, because one is made per record on the caller's path.

    Attributes:
        record: The record.
        data: Its canonical bytes.
        leaf: Its leaf hash, 32 bytes.
        detail: The bytes of its detail, if it has one.
    """

    record: AnyRecord
    data: bytes
    leaf: bytes
    detail: bytes | None = None

    @property
    def id(self) -> str:
        """The id of the record."""
        return self.record.id

    @property
    def seq(self) -> int:
        """Its place in the stream, from 1."""
        return self.record.stream.number


class Closed(NamedTuple):
    """A segment that gets no more records.

    Attributes:
        path: Its path.
        last: The place of its last record.
    """

    path: str
    last: int


@final
class StreamWriter:
    """Appends records to one stream. The ledger's lock guards :meth:`append`.

    Attributes:
        began_ns: When the sealing side first saw the segment that is written, on its clock; it owns it.
        closed: The segments that were closed, oldest first; the sealing side takes them out.
        id: The id of the stream.
        offset: Bytes in the stream, up to the end of the last whole line.
        rotate_at: The next record goes to a fresh segment if the stream has so many bytes.
        usable: Whether another record may follow; once false it stays false.
        tree: The Merkle tree over the records that the sealing side has seen; the sealing side owns it.
        sealed: The number of records committed to the log; the sealing side owns it.
        seq: The number of records.
    """

    __slots__ = (
        "_base",
        "_durable",
        "_failed",
        "_fd",
        "_file",
        "_files",
        "_first",
        "_layout",
        "_lock_fd",
        "_mac",
        "_max_bytes",
        "_path",
        "_prev",
        "_sync_lock",
        "_synced",
        "_syncing",
        "began_ns",
        "closed",
        "id",
        "offset",
        "rotate_at",
        "sealed",
        "seq",
        "tree",
        "usable",
    )

    def __init__(  # Made by :meth:`create`.
        self,
        files: Files,
        layout: Layout,
        stream: str,
        key: LedgerKey,
        *,
        fd: int,
        lock_fd: int,
        durable: bool,
        max_bytes: int,
    ) -> None:
        self.began_ns: int | None = None
        self.closed: deque[Closed] = deque()
        self.id = stream
        self.offset = 0
        self.rotate_at = max_bytes
        self.sealed = 0
        self.seq = 0
        self.tree = CompactRange()
        self.usable = True
        self._base = 0  # Bytes in the segments before.
        self._durable = durable
        self._failed = False
        self._fd = fd
        self._file = file_of(files.status(fd))
        self._files = files
        self._first = 1  # The place of the first record of the segment that is written.
        self._layout = layout
        self._lock_fd = lock_fd
        self._mac = key.stream_mac(stream)
        self._max_bytes = max_bytes
        self._path = layout.entries(stream)
        self._prev: str | None = None
        # Reentrant, because a signal handler or finalizer may append while this thread is inside.
        self._sync_lock = threading.RLock()
        self._synced = 0
        self._syncing: int | None = None

    @classmethod
    def create(
        cls,
        files: Files,
        layout: Layout,
        stream: str,
        key: LedgerKey,
        *,
        durable: bool,
        max_bytes: int = DEFAULT_BYTES,
    ) -> Self:
        """Make the folder of a new stream and lock it; after a failure, retry with the same stream.

        Raises:
            OSError: The folder or a file in it cannot be made, or the stream holds something already.
        """
        files.mkdir(layout.stream(stream), 0o755)
        with contextlib.ExitStack() as stack:
            lock_fd = open_regular(files, layout.lock(stream), EDIT)
            stack.callback(files.close, lock_fd)
            acquire(files, lock_fd)  # A start elsewhere may look at it just now.
            fd = open_regular(files, layout.entries(stream), EXTEND)
            stack.callback(files.close, fd)
            if files.status(fd).st_size:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            if durable:
                sync_folder(files, layout.stream(stream))
                sync_folder(files, layout.streams)
            made = cls(
                files,
                layout,
                stream,
                key,
                fd=fd,
                lock_fd=lock_fd,
                durable=durable,
                max_bytes=max_bytes,
            )
            stack.pop_all()
        return made

    def append(self, make: Make, record_id: str, detail: Told = None) -> Entry:
        """Append one record; once this returns, it survives the death of the process.

        Args:
            make: Makes the record of its place.
            record_id: Its id.
            detail: Makes the detail of the record; see :meth:`Ledger.append`. One that no ledger can hold is left out.

        Raises:
            EvidenceError: It could not be written and is not in the ledger. If what was written in part
                cannot be taken back either, the stream is not usable any more.
        """
        if self.offset >= self.rotate_at:
            self._rotate()
        told = None if detail is None else self._detail(detail)
        entry = _entry(make, record_id, Stream(id=self.id, seq=str(self.seq + 1), prev=self._prev), told)
        line = stream_line(self._mac.of(entry.data), entry.data, entry.detail)
        try:
            written = self._files.write(self._fd, line)
        except OSError as error:
            self._take_back(why(error), error)
        if written != len(line):
            self._take_back("a write of a part of it", None)
        self._prev = b64url_encode(entry.leaf)
        self.seq += 1
        self.offset += written
        return entry

    def check_in_place(self) -> None:
        """Check that the file that is written is where a reader looks for it, and holds all that was written.

        Raises:
            EvidenceError: It is not (``evidence_removed``).
        """
        check_in_place(self._files, self._path, self._file, self.offset - self._base)

    def was_closed(self) -> bool:
        """Return whether a closer took the process for dead, as on a volume without locks; nothing may follow then."""
        try:
            self._files.look(self._layout.closure(self.id))
        except OSError:
            return False
        return True

    def _detail(self, tell: partial[Detail]) -> bytes | None:
        """Return the bytes of a detail, or nothing if no ledger can hold it: the outcome is not lost with it."""
        try:
            data = encode_detail(tell(salt=b64url_encode(self._files.random(_SALT_BYTES))))
        except (TypeError, ValueError) as error:
            _logger.error("the detail of a call is not recorded, its outcome is: %s", error)  # noqa: TRY400  A line.
            return None
        if len(data) > MAX_RECORD_BYTES:
            _logger.error("the detail of a call is not recorded, its outcome is: it has %d bytes", len(data))
            return None
        return data

    def _take_back(self, reason: str, cause: OSError | None) -> NoReturn:
        try:
            self._files.truncate(self._fd, self.offset - self._base)
        except OSError:
            self.usable = False  # The next record goes to a new stream; this one ends in a torn line.
        raise EvidenceError(
            f"could not append a record to the ledger: {reason}; free or repair the disk of the "
            "evidence directory, the next call tries again"
        ) from cause

    def _rotate(self) -> None:
        """Close the segment and continue in a new one; on failure, continue in the present one."""
        self.rotate_at = self.offset + self._max_bytes
        if self.seq < self._first:
            return
        closed = self._layout.segment(self.id, self._first)
        with self._syncs():
            try:
                fd, file = self._renew(closed)
            except OSError as error:
                _logger.warning("the stream goes on in the same segment: %s", why(error))
                return
            self._files.close(self._fd)
            self._fd, self._file = fd, file
        self._base = self.offset
        self._first = self.seq + 1
        self.began_ns = None
        self.closed.append(Closed(closed, self.seq))

    def _renew(self, closed: str) -> tuple[int, tuple[int, int]]:
        """Rename the segment to its closed name, and move a new one into its place; return what is open now."""
        files, active = self._files, self._layout.entries(self.id)
        with contextlib.ExitStack() as stack:
            fd = open_regular(files, self._layout.fresh(self.id), EXTEND)
            stack.callback(files.close, fd)
            status = files.status(fd)
            if status.st_size:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            if self._durable:
                self._flush()
            files.replace(active, closed)
            try:
                files.replace(self._layout.fresh(self.id), active)
                if self._durable:
                    sync_folder(files, self._layout.stream(self.id))
            except OSError:
                # Under whichever name it is, the segment takes this record. The next one begins a stream.
                self.usable = False
                raise
            stack.pop_all()
        return fd, file_of(status)

    def sync(self, end: int) -> None:
        """Sync the first ``end`` bytes to disk; concurrent callers share one sync.

        Raises:
            EvidenceError: It is not known whether they are. The stream is not usable any more, because
                the system may forget what it could not write.
        """
        with self._syncs():
            if self._synced >= end:
                return
            if self._failed:
                raise EvidenceError(
                    "an earlier sync to disk failed, so that the record may be lost; see the first error"
                )
            with recording("sync the ledger"):
                self._flush()

    @property
    def syncs_here(self) -> bool:
        """True if this thread holds the sync lock, as in a signal handler that interrupts a sync or a rotation."""
        return self._syncing == threading.get_ident()

    @contextlib.contextmanager
    def _syncs(self) -> Generator[None]:
        """Hold the sync lock, and know which thread does."""
        with self._sync_lock:
            before, self._syncing = self._syncing, threading.get_ident()
            try:
                yield
            finally:
                self._syncing = before

    def _flush(self) -> None:
        """Sync the segment to disk; called with the sync lock held."""
        reached = self.offset
        try:
            self._files.fdatasync(self._fd)
        except OSError:
            self._failed = True
            self.usable = False
            raise
        self._synced = reached

    def close(self, *, settled: bool) -> None:
        """Release the stream's lock and close its files.

        Args:
            settled: All of the file is committed to the log; later starts need not look at it again.
        """
        with self._sync_lock:
            if settled:
                note_settled(self._files, self._lock_fd, self.offset - self._base)
            self.drop()

    def drop(self) -> None:
        """Close the descriptors and nothing else; a forked child does this with its parent's."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    self._files.close(fd)
        self._fd = self._lock_fd = -1


def fault_of(check: Callable[[], object], lock: threading.RLock) -> str | None:
    """Return the problem that a check finds, or ``None``, looked for again without a rotation.

    Args:
        check: Raises :class:`EvidenceError`.
        lock: Is held while segments rotate, and perhaps by a write that does not return.
    """
    with contextlib.suppress(EvidenceError):
        check()
        return None
    try:
        with lock:
            check()
    except EvidenceError as error:
        return str(error)
    return None


def _entry(make: Make, record_id: str, place: Stream, detail: bytes | None = None) -> Entry:
    """Return a record with its bytes and its leaf hash.

    Raises:
        EvidenceError: With code ``bad_record``: it has no bytes, or too many.
    """
    try:
        if detail is None:
            record = make(id=record_id, stream=place, v=VERSION)
        else:
            record = make(id=record_id, stream=place, v=VERSION, detail=digest_of(detail))
        data = encode(record)
    except (TypeError, ValueError) as error:  # Lone surrogates included.
        raise EvidenceError(
            "the record has a value that is not a string, boolean, array or object; repair its source",
            code="bad_record",
        ) from error
    if record.id != record_id or record.stream != place or record.v != VERSION:
        raise EvidenceError(
            "the record does not have the id, place and version that the ledger gave; repair its source",
            code="bad_record",
        )
    if len(data) > MAX_RECORD_BYTES:
        raise EvidenceError(
            f"the record has {len(data)} bytes, more than {MAX_RECORD_BYTES}; shorten its fields",
            code="bad_record",
        )
    return Entry(record, data, leaf_hash(data), detail)
