"""Recovery at start: seals the streams of dead processes, and records each recovery."""

import contextlib
import itertools
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Final, cast, final

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._ledger.prune_statement import PruneStatement, unverified_pruned
from agent_identity._ledger.segments import first_place, read_stream
from agent_identity._ledger.settled import note_settled, settled_size, size_of, unsettled
from agent_identity._ledger.transparency.log import DirectoryLog, Head, read_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._record.codec import decode, plain_members
from agent_identity._record.parts import RecoveredStream
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import Line, stream_parts
from agent_identity._storage.mac import LedgerKey, Mac
from agent_identity._storage.os_files import EDIT, Files, open_regular, recording, why
from agent_identity.errors import ConfigurationError, EvidenceError, VerificationError

_logger: Final = logging.getLogger("agent_identity.evidence")
_BATCH: Final = 32  # Streams recovered under one signature; each costs a descriptor meanwhile.
_MAX_OPEN: Final = 64  # Intents named in the record; the count has no bound.


def recover(
    files: Files,
    layout: Layout,
    key: LedgerKey,
    log: DirectoryLog,
    *,
    time_ns: int,
    report: Callable[[RecoveredStream], None],
) -> str | None:
    """Seal the streams whose lock is free, and record each; damaged ones never stop the others.

    Args:
        files: The operating system.
        layout: The evidence directory.
        key: Tells what its processes wrote.
        log: A log that was not used yet.
        time_ns: The time now, in nanoseconds since the Unix epoch.
        report: Called for each stream once it is sealed and before anything notes that it was.

    Returns:
        Why the streams could not be sealed, or ``None`` if they were; the next start tries again.

    Raises:
        EvidenceError: ``report`` failed.
        OSError: The folder of streams cannot be listed.
    """
    waiting = unsettled(files, layout)
    if not waiting:
        return None
    try:
        with recording("read the log of the ledger"):
            heads = log.read_heads(frozenset(waiting))
    except EvidenceError as error:
        return str(error)
    for start in range(0, len(waiting), _BATCH):
        with contextlib.ExitStack() as stack:
            held = [
                stream
                for name in waiting[start : start + _BATCH]
                if (stream := DeadStream.seize(files, layout, key, name, sealed=heads.get(name), stack=stack))
                is not None
            ]
            fault = _commit(log, held, time_ns)
            if fault:
                return fault
            for stream in held:
                if not stream.clean():
                    report(stream.summary())
                note_settled(files, stream.lock_fd, stream.bytes)
    return None


def _what_was_pruned(files: Files, layout: Layout, name: str) -> PruneStatement | None:
    """Return the unverified pruning statement if the first records are gone."""
    note = read_checkpoint(files, layout.pruned(name))
    if note is None or first_place(files, (layout.stream(name),), layout.entries(name)) == 1:
        return None
    with contextlib.suppress(VerificationError):
        return unverified_pruned(note)
    return None


@contextlib.contextmanager
def _opened(files: Files, path: str, flags: int) -> Generator[int]:
    fd = open_regular(files, path, flags)
    try:
        yield fd
    finally:
        files.close(fd)


def _commit(log: DirectoryLog, streams: "Sequence[DeadStream]", time_ns: int) -> str | None:
    heads = [stream.head(time_ns) for stream in streams if stream.grew()]
    try:
        if heads:
            with recording("seal what was recovered"):
                log.commit(heads)
    except EvidenceError as error:
        return str(error)
    for head in heads:
        log.forget(head.stream)
    return None


def is_record(data: bytes) -> bool:
    """Return whether bytes have the form of a record."""
    try:
        decode(data)
    except ValueError:
        return False
    return True


@final
@dataclass(slots=True)
class DeadStream:
    """A stream under recovery."""

    name: str
    lock_fd: int
    sealed: Head | None
    bytes: int  # Of the segment that was written last.
    tree: CompactRange = field(default_factory=CompactRange)
    torn_bytes: int = 0
    rejected_bytes: int = 0
    intents: dict[str, None] = field(default_factory=dict[str, None])
    prev: str | None = None
    ended: bool = False

    @classmethod
    def seize(
        cls,
        files: Files,
        layout: Layout,
        key: LedgerKey | None,
        name: str,
        *,
        sealed: Head | None,
        stack: contextlib.ExitStack,
    ) -> "DeadStream | None":
        """Lock the stream for the lifetime of the stack, and read it; ``None`` if it needs no recovery here.

        Without the key of the MACs, records count by their place alone, whoever wrote them.
        """
        with contextlib.ExitStack() as own:
            try:
                lock_fd = own.enter_context(_opened(files, layout.lock(name), EDIT))
                files.lock(lock_fd)
                dead = cls(name, lock_fd, sealed, bytes=size_of(files, layout.entries(name)))
                if settled_size(files, lock_fd) == dead.bytes:
                    return None  # Another process was faster.
                pruned = _what_was_pruned(files, layout, name)
                if pruned is not None:
                    dead._begin(pruned)
                dead._read(files, layout, key)
            except BlockingIOError:
                return None  # Its process lives, or another one recovers it.
            except (OSError, ConfigurationError) as error:
                _logger.warning(
                    "cannot recover stream %s: %s", name, why(error) if isinstance(error, OSError) else error
                )
                return None
            stack.push(own.pop_all())
            return dead

    def grew(self) -> bool:
        """Return whether the stream has unsealed records."""
        return self.tree.size > self._sealed_size()

    def clean(self) -> bool:
        """Return whether its process ended and sealed it, so that only the settled note is missing."""
        whole = not self.torn_bytes and not self.rejected_bytes
        return whole and self.ended and self.tree.size == self._sealed_size()

    def head(self, time_ns: int) -> Head:
        """Return the head over all records that its process wrote."""
        return Head(self.name, self.tree.size, self.tree.root(), time_ns)

    def summary(self) -> RecoveredStream:
        """Return the report of the recovery."""
        listed = tuple(itertools.islice(self.intents, _MAX_OPEN))
        return RecoveredStream(
            stream=self.name,
            size=str(self.tree.size),
            sealed_before=str(self._sealed_size()),
            torn_bytes=str(self.torn_bytes),
            rejected_bytes=str(self.rejected_bytes),
            open_count=str(len(self.intents)),
            open=listed or None,
        )

    def _sealed_size(self) -> int:
        return self.sealed.size if self.sealed else 0

    def _begin(self, pruned: PruneStatement) -> None:
        """Begin after the pruned part; the heads prove that no one invented it."""
        if pruned.stream == self.name and pruned.size <= self._sealed_size():
            self.tree = pruned.tree()
            self.prev = b64url_encode(pruned.last)
            self.intents = dict.fromkeys(pruned.open)

    def _read(self, files: Files, layout: Layout, key: LedgerKey | None) -> None:
        mac, end = None if key is None else key.stream_mac(self.name), 0
        rejected = 0 if self._contradicted() else None
        for line in read_stream(
            files, (layout.stream(self.name),), layout.entries(self.name), start=self.tree.size + 1
        ):
            end = line.end
            if rejected is not None:
                continue  # How much there is, is counted.
            if line.torn:
                self.torn_bytes = end - line.offset
            elif not self._take(line, mac):
                rejected = line.offset
            elif self._contradicted():
                # Lines of this stream, and yet not those that were sealed: nothing here continues the seal.
                rejected = 0
        if rejected == 0:
            self.tree = CompactRange()
            self.intents.clear()
        if rejected is not None:
            self.rejected_bytes = end - rejected

    def _contradicted(self) -> bool:
        return bool(self.sealed and self.sealed.size == self.tree.size and self.sealed.root != self.tree.root())

    def _take(self, line: Line, mac: Mac | None) -> bool:
        """Add a line that the process wrote at this place; return whether it did."""
        parts = stream_parts(line.data) if line.data is not None else None
        if parts is None or not (is_record(parts[0]) if mac is None else mac.fits(parts[0], parts[1])):
            return False
        data = parts[0]
        place = {"id": self.name, "seq": str(self.tree.size + 1)}
        if self.prev is not None:
            place["prev"] = self.prev
        record = plain_members(data)  # The MAC says that we wrote it, or it has the form of a record.
        if record.get("stream") != place:
            return False
        leaf = leaf_hash(data)
        self.tree.append(leaf)
        self.prev = b64url_encode(leaf)
        self.ended = record["kind"] == "stream_end"
        if record["kind"] == "intent":
            self.intents[cast("str", record["id"])] = None
        elif record["kind"] == "outcome":
            self.intents.pop(cast("str", record.get("intent")), None)
        return True
