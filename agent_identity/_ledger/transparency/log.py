"""The one log of an evidence directory: heads of streams, under checkpoints signed by the recorder key.

Every process appends to it under its lock, after it has read what the others appended. An entry that this
directory's key does not authenticate at its place is never covered by a signature: after the checkpoint it is set
aside, before it it stops all sealing. A log that does not continue its checkpoint is never signed, and neither is
one whose checkpoint is older than one that was seen. A log without one has lost it (see
:mod:`foundation`), and goes on after an entry that says so for good.
"""

import contextlib
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self, final

from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.common.ids import DIGEST_FORM
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger.transparency.checkpoint import MAX_NOTE, Checkpoint, sign_note, unverified_text
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._storage.layout import Layout, is_stream_id
from agent_identity._storage.lines import Line, log_line, log_parts, read_lines
from agent_identity._storage.mac import LedgerKey, log_message
from agent_identity._storage.os_files import (
    EDIT,
    EXTEND,
    READ,
    Files,
    check_in_place,
    file_of,
    locked,
    open_regular,
    sync_folder,
    write_beside,
    write_whole,
)
from agent_identity.errors import EvidenceError, VerificationError

if TYPE_CHECKING:
    from logging import Logger

_SIZE: Final = re.compile(r"[1-9][0-9]{0,18}")
_ROOT: Final = re.compile(DIGEST_FORM)
_ATTEMPTS: Final = 8  # Someone may write into the log again while foreign lines are set aside.
_MEMBERS: Final = frozenset({"origin", "root", "size", "stream", "time"})
_NANOSECONDS: Final = re.compile(r"0|[1-9][0-9]{0,18}")


@final
@dataclass(frozen=True, slots=True)
class Head:
    """The signed state of a stream: its size and root.

    Attributes:
        stream: The id of the stream.
        size: The number of its records, at least 1.
        root: The root of the Merkle tree over them.
        time_ns: When this was said, in nanoseconds since the Unix epoch. A process that repeats its head gives a sign
            of life; the head of a dead process has the time of the one that recovered it.
    """

    stream: str
    size: int
    root: bytes
    time_ns: int = field(compare=False)

    def to_entry(self, origin: str) -> bytes:
        """Return the log entry, canonical JSON."""
        said = {"root": b64url_encode(self.root), "size": str(self.size), "stream": self.stream}
        return encode_record({"origin": origin, **said, "time": str(self.time_ns)})

    @classmethod
    def from_entry(cls, entry: bytes) -> tuple[Self, str]:
        """Return the head and the origin of a log entry.

        Raises:
            ValueError: The entry has another form.
        """
        fields = decode_record(entry)
        texts = {name: value for name, value in fields.items() if isinstance(value, str)}
        if fields.keys() != _MEMBERS or len(texts) != len(fields):
            raise ValueError("a log entry does not have exactly the strings origin, root, size, stream and time")
        if not _NANOSECONDS.fullmatch(texts["time"]):
            raise ValueError("the time of a log entry is not nanoseconds as a decimal number")
        if not (_SIZE.fullmatch(texts["size"]) and _ROOT.fullmatch(texts["root"]) and is_stream_id(texts["stream"])):
            raise ValueError(
                "a log entry has a size that is not decimal, a root that is no digest, or a stream that is no id"
            )
        root, time_ns = b64url_decode(texts["root"]), int(texts["time"])
        return cls(texts["stream"], int(texts["size"]), root, time_ns), texts["origin"]


def loss_entry(origin: str) -> bytes:
    """Return the log entry, canonical JSON, that records the loss of the checkpoint.

    Later entries hold the state of each stream as found then: records may be missing.
    """
    return encode_record({"lost": "checkpoint", "origin": origin})


@final
class DirectoryLog:
    """Appends heads and signs checkpoints. Use it from one thread at a time; other processes may use theirs.

    Attributes:
        known: The files that were opened, by their paths; a forked child expects those of its parent.
    """

    __slots__ = (
        "_committed",
        "_contradiction",
        "_durable",
        "_files",
        "_heads",
        "_last",
        "_layout",
        "_lock_fd",
        "_loss_noted",
        "_mac",
        "_offset",
        "_origin",
        "_published",
        "_signer",
        "_tree",
        "_wanted",
        "_written",
        "known",
    )

    def __init__(
        self,
        files: Files,
        layout: Layout,
        key: LedgerKey,
        *,
        signer: Signer,
        origin: str,
        durable: bool,
        published: Callable[[bytes], None] = lambda _: None,
        known: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> None:
        self._committed = 0  # Entries under the largest checkpoint that was seen.
        self._contradiction: str | None = None
        self._published = published  # Is shown each checkpoint that is in place; it keeps the log waiting, so is quick.
        self._durable = durable
        self._files = files
        self._heads: dict[str, Head] = {}
        self._last: bytes | None = None  # The leaf of the last entry.
        self._layout = layout
        self._lock_fd = -1
        self._loss_noted = False  # By an entry that no checkpoint covers yet.
        self._mac = key.log_mac()
        self._offset = 0
        self._origin = origin
        self._signer = signer
        self._tree = CompactRange()
        self.known = dict(known)
        self._wanted: Collection[str] = ()
        self._written: dict[str, Head] = {}

    def read_heads(self, streams: Collection[str]) -> Mapping[str, Head]:
        """Return the latest head of each stream that has one. Call this before anything else.

        Raises:
            EvidenceError: The log holds what this directory's key does not authenticate, or contradicts
                its checkpoint.
            OSError: The log cannot be read.
        """
        self._wanted = streams
        try:
            with self._open() as fd:
                self._catch_up(fd)
        finally:
            self._wanted = ()
        heads, self._heads = self._heads, {}
        return heads

    def commit(self, heads: Sequence[Head], *, repeat: bool = False) -> None:
        """Append heads and publish a checkpoint that covers them: one signature.

        Args:
            heads: The heads to commit; one that this object already appended is not appended again.
            repeat: Append it nevertheless, as a sign of life.

        Raises:
            EvidenceError: The log holds what this directory's key does not authenticate, contradicts its
                checkpoint, or the signer failed. Nothing was signed.
            OSError: The log cannot be written. Calling again completes what was begun.
        """
        with self._open() as fd:
            lost = not self._catch_up(fd)
            news = [head for head in heads if repeat or self._written.get(head.stream) != head]
            entries = [head.to_entry(self._origin) for head in news]
            if lost and not self._loss_noted:
                _logger().error("the checkpoint of the log was removed; the log goes on and says so for good")
                entries.insert(0, loss_entry(self._origin))
            self._append(fd, entries)
            self._written.update((head.stream, head) for head in news)
            self._loss_noted = lost
            self._publish()
            self._loss_noted = False

    def forget(self, stream: str) -> None:
        """Forget the state of a stream that gets no more heads."""
        self._written.pop(stream, None)

    def check_in_place(self) -> None:
        """Return if the log and its lock, once they were opened, are where other processes look for them.

        Raises:
            EvidenceError: They are not (``evidence_removed``).
        """
        for path, file in tuple(self.known.items()):
            check_in_place(self._files, path, file)

    def close(self) -> None:
        """Close the lock; a forked child does this with its parent's lock."""
        if self._lock_fd >= 0:
            with contextlib.suppress(OSError):
                self._files.close(self._lock_fd)
        self._lock_fd = -1

    @contextlib.contextmanager
    def _open(self) -> Generator[int]:
        if self._contradiction:
            raise EvidenceError(self._contradiction, code="log_contradicted")
        self.check_in_place()  # What was removed is not made anew, as if nothing had been in it.
        if self._lock_fd < 0:
            # Kept open, because a child forked meanwhile must find it here to close it.
            self._lock_fd = open_regular(self._files, self._layout.log_lock, EDIT)
            self.known[self._layout.log_lock] = file_of(self._files.status(self._lock_fd))
        with locked(self._files, self._lock_fd):
            fd = open_regular(self._files, self._layout.log_entries, EXTEND)
            try:
                self.known[self._layout.log_entries] = file_of(self._files.status(fd))
                yield fd
            finally:
                self._files.close(fd)

    def _catch_up(self, fd: int) -> bool:
        """Read the entries appended since the last time, and compare them with the checkpoint on disk.

        Returns:
            Whether there is a checkpoint.
        """
        if self._files.status(fd).st_size < self._offset:
            raise self._contradicted("a log that was cut")
        checkpoint = self._read_checkpoint()
        if checkpoint and checkpoint.size == self._tree.size:
            self._compare(checkpoint)
        for _ in range(_ATTEMPTS):
            if self._read_on(fd, checkpoint):
                break
        else:
            raise OSError("lines that another program keeps writing into the log")
        if checkpoint and checkpoint.size > self._tree.size:
            raise self._contradicted("fewer entries than its checkpoint covers")
        return checkpoint is not None

    def _read_on(self, fd: int, checkpoint: Checkpoint | None) -> bool:
        """Read to the end; return ``False`` if foreign lines were set aside and more may follow."""
        for line in read_lines(self._files, fd, self._offset):
            entry = None if line.torn else self._authentic(line)
            if entry is not None:
                self._take_in(entry, line.end)
                if checkpoint and checkpoint.size == self._tree.size:
                    self._compare(checkpoint)
            elif line.torn:
                self._remove_torn(fd, line)
                break
            else:
                self._set_aside(fd, line, checkpoint)
                return False
        return True

    def _read_checkpoint(self) -> Checkpoint | None:
        data = read_checkpoint(self._files, self._layout.checkpoint)
        if data is None:
            return None
        try:
            # Unverified: a checkpoint that contradicts the log is never overwritten.
            checkpoint = unverified_checkpoint(data)
        except VerificationError:
            raise self._contradicted("a file at log/checkpoint that is no checkpoint") from None
        if checkpoint.origin != self._origin:
            raise self._contradicted("a checkpoint of another origin")
        if checkpoint.size < self._committed:
            raise self._contradicted("an older checkpoint than there was before")
        self._committed = checkpoint.size
        return checkpoint

    def _compare(self, checkpoint: Checkpoint) -> None:
        if checkpoint.root != self._tree.root():
            raise self._contradicted("other entries than its checkpoint covers")

    def _contradicted(self, got: str) -> EvidenceError:
        self._contradiction = (
            f"the log does not continue its last checkpoint: found {got}; verify the evidence "
            "directory, keep it as it is, and start a new one"
        )
        return EvidenceError(self._contradiction, code="log_contradicted")

    def _authentic(self, line: Line) -> bytes | None:
        """Return the entry of a line that the library wrote at this place, or ``None``."""
        parts = log_parts(line.data) if line.data is not None else None
        if parts is None or not self._fits(self._tree.size + 1, self._last, *parts):
            return None
        return parts[0]

    def _fits(self, place: int, last: bytes | None, entry: bytes, mac: str) -> bool:
        return self._mac.fits(log_message(place, last, entry), mac)

    def _set_aside(self, fd: int, line: Line, checkpoint: Checkpoint | None) -> None:
        """Move lines that the library did not write out of the log, unless a checkpoint covers them."""
        if checkpoint is None or self._tree.size < checkpoint.size:
            raise EvidenceError(
                f"the bytes at offset {line.offset} of the log were not written with this directory's "
                "key; repair log/entries.jsonl, until then nothing is sealed",
                code="log_contradicted",
            )
        from agent_identity._ledger.transparency._rejects import LaterEntryError, set_aside

        last = (self._tree.size, self._last)
        try:
            size, name = set_aside(self._files, self._layout, fd, line.offset, fits=self._fits, last=last)
        except LaterEntryError:
            raise self._contradicted("an older checkpoint with entries of a longer log") from None
        _logger().error("%d bytes in the log are not of the library and were moved to log/%s", size, name)

    def _remove_torn(self, fd: int, line: Line) -> None:
        """Cut off the line that a crash tore; no checkpoint covers it, and its stream still has all."""
        _logger().warning("removed a torn line of %d bytes from the end of the log", line.end - line.offset)
        self._files.truncate(fd, line.offset)

    def _take_in(self, entry: bytes, end: int) -> None:
        if self._wanted:
            with contextlib.suppress(ValueError):  # Of a later version of the library: covered, not understood.
                head, _ = Head.from_entry(entry)
                if head.stream in self._wanted:
                    self._heads[head.stream] = head
        self._advance(leaf_hash(entry), end)

    def _advance(self, leaf: bytes, end: int) -> None:
        self._tree.append(leaf)
        self._last = leaf
        self._offset = end

    def _append(self, fd: int, entries: Sequence[bytes]) -> None:
        leaves = [leaf_hash(entry) for entry in entries]
        before = [self._last, *leaves]
        lines = [
            log_line(self._mac.of(log_message(place, last, entry)), entry)
            for place, (last, entry) in enumerate(zip(before, entries, strict=False), self._tree.size + 1)
        ]
        data = b"".join(lines)
        try:
            write_whole(self._files, fd, data)
            alone = self._files.status(fd).st_size == self._offset + len(data)
            # In both modes: a checkpoint that survives a power loss without its entries contradicts the log for good.
            self._files.fdatasync(fd)
        except OSError:
            # If this fails as well, the next to hold the lock removes the torn line.
            with contextlib.suppress(OSError):
                self._files.truncate(fd, self._offset)
            raise
        if not alone:  # The next attempt sets the other lines aside.
            raise OSError("a line that another program wrote into the log meanwhile")
        for leaf, line in zip(leaves, lines, strict=True):
            self._advance(leaf, self._offset + len(line))

    def _publish(self) -> None:
        checkpoint = Checkpoint(self._origin, self._tree.size, self._tree.root())
        note = signed_note(checkpoint, self._signer)
        publish(self._files, self._layout, note, durable=self._durable)
        self._committed = checkpoint.size
        self._published(note)


def signed_note(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """Return a checkpoint signed under its origin as the key name.

    Args:
        checkpoint: The checkpoint.
        signer: The recorder key.

    Raises:
        EvidenceError: The signer failed.
    """
    try:  # A signer is the user's code: whatever it raises, nothing is signed.
        return sign_note(checkpoint.to_text(), checkpoint.origin, signer)
    except Exception as error:
        raise EvidenceError(
            f"the recorder key raised {type(error).__name__} instead of signing a checkpoint; repair the signer"
        ) from error


def publish(files: Files, layout: Layout, note: bytes, *, durable: bool) -> None:
    """Replace the checkpoint file atomically; called with the lock of the log.

    Args:
        files: The operating system.
        layout: The evidence directory.
        note: The checkpoint.
        durable: Wait until the new one is in place also after a power loss; otherwise it may be the one before.

    Raises:
        OSError: It cannot be written.
    """
    write_beside(files, layout.checkpoint, note)
    if durable:
        sync_folder(files, layout.log)


def read_checkpoint(files: Files, path: str) -> bytes | None:
    """Return the checkpoint file, at most one byte more than a note may have, or ``None`` if it is missing.

    Raises:
        OSError: There is one and it cannot be read.
    """
    try:
        fd = open_regular(files, path, READ)
    except FileNotFoundError:
        return None
    try:
        return files.read(fd, MAX_NOTE + 1)
    finally:
        files.close(fd)


def unverified_checkpoint(note: bytes) -> Checkpoint:
    """Return the content of a signed checkpoint without verifying its signature.

    Raises:
        VerificationError: The bytes are no checkpoint.
    """
    return Checkpoint.from_text(unverified_text(note))


def _logger() -> "Logger":
    import logging  # Readers of a log write no messages.

    return logging.getLogger("agent_identity.evidence")
