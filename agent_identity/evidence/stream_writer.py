"""The stream of one process: a file that only grows, under a lock that only it holds."""

import contextlib
import errno
import os
import threading
from binascii import hexlify
from collections.abc import Mapping
from typing import Final, NamedTuple, NoReturn, Self, final

import orjson

from agent_identity.canonical import RecordValue
from agent_identity.errors import EvidenceError
from agent_identity.evidence.files import EDIT, EXTEND, Files, acquire, open_regular, recording, sync_folder, why
from agent_identity.evidence.layout import Layout
from agent_identity.evidence.lines import stream_line
from agent_identity.evidence.mac import LedgerKey
from agent_identity.evidence.merkle import CompactRange, leaf_hash
from agent_identity.evidence.records import VERSION

__all__ = ["MAX_RECORD_BYTES", "Entry", "StreamWriter", "settle", "settled_size"]

MAX_RECORD_BYTES: Final = 1024 * 1024
"""Largest record that is written."""


class Entry(NamedTuple):
    """A record that is in the ledger; a tuple, because one is made per record on the caller's path.

    Attributes:
        id: The record id.
        seq: Its place in the stream, from 1.
        record: Its canonical bytes.
        leaf: Its leaf hash, 32 bytes.
    """

    id: str
    seq: int
    record: bytes
    leaf: bytes


@final
class StreamWriter:
    """Appends records to one stream. The ledger's lock guards :meth:`append`.

    Attributes:
        id: The id of the stream.
        offset: Bytes in the file, up to the end of the last whole line.
        usable: Whether another record may follow; once false it stays false.
        tree: The Merkle tree over the records that the sealing side has seen; the sealing side owns it.
        sealed: How many of them are committed to the log; the sealing side owns it.
        seq: The number of records.
    """

    __slots__ = (
        "_failed",
        "_fd",
        "_files",
        "_lock_fd",
        "_mac",
        "_prev",
        "_sync_lock",
        "_synced",
        "id",
        "offset",
        "sealed",
        "seq",
        "tree",
        "usable",
    )

    def __init__(self, files: Files, stream: str, key: LedgerKey, *, fd: int, lock_fd: int) -> None:
        self.id = stream
        self.offset = 0
        self.sealed = 0
        self.seq = 0
        self.tree = CompactRange()
        self.usable = True
        self._failed = False
        self._fd = fd
        self._files = files
        self._lock_fd = lock_fd
        self._mac = key.stream_mac(stream)
        self._prev: str | None = None
        self._sync_lock = threading.Lock()
        self._synced = 0

    @classmethod
    def create(cls, files: Files, layout: Layout, stream: str, key: LedgerKey, *, durable: bool) -> Self:
        """Make the folder of a new stream and lock it; after a failure, the same stream may be tried again.

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
            stack.pop_all()
        return cls(files, stream, key, fd=fd, lock_fd=lock_fd)

    def append(self, kind: str, record_id: str, body: Mapping[str, RecordValue]) -> Entry:
        """Write one record; it survives the death of the process once this returns.

        Raises:
            EvidenceError: It could not be written and is not in the ledger. If what was written in part
                cannot be taken back either, the stream is not usable any more.
        """
        seq = self.seq + 1
        place = {"id": self.id, "seq": str(seq)}
        if self._prev is not None:
            place["prev"] = self._prev
        try:
            data = orjson.dumps(
                {**body, "v": VERSION, "id": record_id, "kind": kind, "stream": place},
                option=orjson.OPT_SORT_KEYS,
            )
        except TypeError as error:  # Lone surrogates included.
            raise EvidenceError(
                "expected strings, booleans, arrays and objects in a record, got something else; repair its source",
                code="bad_record",
            ) from error
        if len(data) > MAX_RECORD_BYTES:
            raise EvidenceError(
                f"expected a record of at most {MAX_RECORD_BYTES} bytes, got {len(data)}; shorten its fields",
                code="bad_record",
            )
        # A copy, because orjson's bytes hold several times the memory that they need, and many records may wait.
        data = bytes(memoryview(data))
        leaf = leaf_hash(data)
        line = stream_line(self._mac.of(data), data)
        try:
            written = self._files.write(self._fd, line)
        except OSError as error:
            self._take_back(why(error), error)
        if written != len(line):
            self._take_back("a write of a part of it", None)
        self._prev = hexlify(leaf).decode()
        self.seq = seq
        self.offset += written
        return Entry(record_id, seq, data, leaf)

    def _take_back(self, reason: str, cause: OSError | None) -> NoReturn:
        try:
            self._files.truncate(self._fd, self.offset)
        except OSError:
            self.usable = False  # The next record goes to a new stream; this one ends in a torn line.
        raise EvidenceError(
            f"expected to append a record to the ledger, got '{reason}'; "
            "free or repair the disk of the evidence directory, the next call tries again"
        ) from cause

    def sync(self, end: int) -> None:
        """Wait until the first ``end`` bytes are on the disk; callers at the same time share one wait.

        Raises:
            EvidenceError: It is not known whether they are. The stream is not usable any more, because
                the system may forget what it could not write.
        """
        with self._sync_lock:
            if self._synced >= end:
                return
            if self._failed:
                raise EvidenceError(
                    "expected the record on the disk, got a failure of the disk before; see the first error"
                )
            reached = self.offset
            try:
                with recording("sync the ledger"):
                    self._files.fdatasync(self._fd)
            except EvidenceError:
                self._failed = True
                self.usable = False
                raise
            self._synced = reached

    def close(self, *, settled: bool) -> None:
        """Give the stream back to the system.

        Args:
            settled: All of the file is committed to the log; later starts need not look at it again.
        """
        with self._sync_lock:
            if settled:
                settle(self._files, self._lock_fd, self.offset)
            self.drop()

    def drop(self) -> None:
        """Close the descriptors and nothing else; what a forked child does with those of its parent."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                with contextlib.suppress(OSError):
                    self._files.close(fd)
        self._fd = self._lock_fd = -1


def settle(files: Files, lock_fd: int, size: int) -> None:
    """Note in the lock file of a stream that its first ``size`` bytes, all there are, need no recovery.

    This is a hint that saves time and nothing relies on it: if it cannot be written, the next start reads
    the stream once more.
    """
    with contextlib.suppress(OSError):
        files.truncate(lock_fd, 0)
        files.seek(lock_fd, 0)
        files.write(lock_fd, b"settled %d\n" % size)


def settled_size(files: Files, lock_fd: int) -> int | None:
    """Return the size that :func:`settle` noted, or ``None`` without a readable note.

    Raises:
        OSError: The lock file cannot be read.
    """
    files.seek(lock_fd, 0)
    word, _, size = files.read(lock_fd, 64).partition(b" ")
    digits = size.removesuffix(b"\n")
    return int(digits) if word == b"settled" and size.endswith(b"\n") and digits.isdigit() else None
