"""Removal of old segments: copied to an archive, or pruned with a signed statement that keeps the proof.

Nothing leaves that the log does not prove. Pruning says first what it will remove, in a record that is sealed and in
a signed statement beside the stream, and removes it then, the oldest file first: killed at any moment, what is there
verifies, and the next run goes on.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias, final

from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger._compression import content_digest, copy_compressed
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.prunable_prefix import Cut, read_heads, survey
from agent_identity._ledger.prune_statement import Kept, PruneStatement, grants_file, sign_pruned, unverified_pruned
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.segments import CODECS, Segment, closed_segments, compression_of
from agent_identity._ledger.settled import settled_size
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import read_checkpoint, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange
from agent_identity._record.parts import Erased, PrunedRange, Time
from agent_identity._record.schema import Erasure
from agent_identity._storage.layout import GRANTS_NAME, Layout, segment_name
from agent_identity._storage.os_files import (
    EDIT,
    READ,
    REPLACE,
    Files,
    locked,
    make_folder,
    open_regular,
    recording,
    sync_folder,
    write_beside,
    write_whole,
)
from agent_identity.errors import EvidenceError

Progress: TypeAlias = Callable[[int, int], None]
"""Is told how many of how many bytes are done."""

_CHUNK: Final = 256 * 1024
_BATCH: Final = 32  # Streams pruned under one seal; each costs a descriptor meanwhile.


@final
@dataclass(frozen=True, slots=True)
class Removed:
    """The archived or pruned part of one stream.

    Attributes:
        stream: The id of the stream.
        first: The place of the first record.
        last: The place of the last one.
        files: The number of files.
        bytes: Their size on the disk, before.
    """

    stream: str
    first: int
    last: int
    files: int
    bytes: int


def archive(
    directory: str,
    target: str,
    *,
    before_ns: int | None = None,
    files: Files | None = None,
    progress: Progress | None = None,
) -> Iterator[Removed]:
    """Copy closed and sealed segments to an archive, compressed; skip those that it has already.

    The last file of a stream counts as closed once its process has gone and all of it is sealed.

    Args:
        directory: The evidence directory.
        target: The archive; made if missing. It gets the log and its checkpoint as well.
        before_ns: Only segments whose records are all older, in nanoseconds since the Unix epoch.
        files: The operating system.
        progress: Is told how many of how many bytes were looked at.

    Yields:
        What was copied, stream by stream.

    Raises:
        VerificationError: The log, or a stream, is not what the checkpoint commits to.
        EvidenceError: A file cannot be read or written.
    """
    system, layout, out = files or Files(), Layout.of(directory), Layout.of(target)
    with recording("archive segments"), _exclusive(system, layout):
        make_folder(system, out.streams, 0o755)
        make_folder(system, out.log, 0o755)
        cutter = _Cutter(system, layout, before_ns, None, progress, removing=False)
        for stream in cutter.reader.streams():
            with contextlib.ExitStack() as held:
                cut = cutter.cut(stream, held)
                if cut is not None and (copied := _copy(system, cut, out.stream(stream))) is not None:
                    yield Removed(stream, *copied)
        for source, copy in ((layout.log_entries, out.log_entries), (layout.checkpoint, out.checkpoint)):
            _copy_plain(system, source, copy)


def prune(
    directory: str,
    ledger: Ledger,
    *,
    signer: Signer,
    clock: Clock,
    before_ns: int,
    archived: str | None = None,
    files: Files | None = None,
    progress: Progress | None = None,
) -> Iterator[Removed]:
    """Remove closed and sealed segments with only records older than a time, and keep the proof of the rest.

    Args:
        directory: The evidence directory.
        ledger: It, open: in its stream each removal is recorded before it happens.
        signer: The recorder key, which signs what was pruned.
        clock: Tells the time of the statement.
        before_ns: Nanoseconds since the Unix epoch.
        archived: Only what is in this archive, and the same there.
        files: The operating system.
        progress: Is told how many of how many bytes were looked at.

    Yields:
        What was removed, stream by stream.

    Raises:
        VerificationError: The log, or a stream, is not what the checkpoint commits to.
        EvidenceError: A file cannot be read or written. What was recorded as pruned may still be there in part.
    """
    system, layout = files or Files(), Layout.of(directory)
    pruner = _Pruner(system, layout, ledger, signer, clock)
    with recording("prune segments"), _exclusive(system, layout):
        keeper = None if archived is None else Layout.of(archived)
        cutter = _Cutter(system, layout, before_ns, keeper, progress, removing=True)
        streams = cutter.reader.streams()
        for start in range(0, len(streams), _BATCH):
            with contextlib.ExitStack() as held:
                cuts: list[tuple[str, Cut]] = []
                for stream in streams[start : start + _BATCH]:
                    pruner.finish(stream, cutter.reader)
                    cut = cutter.cut(stream, held)
                    if cut is not None:
                        cuts.append((stream, cut))
                yield from pruner.prune(cuts)


@final
class _Cutter:
    """Finds the places where streams can be cut."""

    def __init__(
        self,
        files: Files,
        layout: Layout,
        before_ns: int | None,
        keeper: Layout | None,
        progress: Progress | None,
        *,
        removing: bool,
    ) -> None:
        self.reader = LedgerReader(layout.root, files=files)
        self._progress = progress
        self._done = 0
        streams = self.reader.streams() if progress is not None else ()
        self._total = sum(segment.bytes for stream in streams for segment in self.reader.segments(stream))
        self._files = files
        self._layout = layout
        self._before_ns = before_ns
        self._keeper = keeper
        self._removing = removing
        self._heads = read_heads(self.reader)[1]

    def cut(self, stream: str, held: contextlib.ExitStack) -> Cut | None:
        """Return the removable part of a stream; if it has the last file, ``held`` keeps its lock."""
        # Listed once, not for each segment: what comes into the archive meanwhile may leave the next time.
        there: Mapping[int, str] = {} if self._keeper is None else _archived(self._files, self._keeper.stream(stream))

        def eligible(segment: Segment, newest_ns: int) -> bool:
            self._tell(segment.bytes)
            old = self._before_ns is None or newest_ns < self._before_ns
            kept = self._keeper is None or _is_in(self._files, segment, there.get(segment.first))
            return old and kept and (not segment.active or self._seize(stream, held))

        return survey(self.reader, stream, self._heads.get(stream, ()), eligible, removing=self._removing)

    def _tell(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, max(self._done, self._total))

    def _seize(self, stream: str, held: contextlib.ExitStack) -> bool:
        """Take the lock of a stream whose process has gone and that needs no recovery."""
        files = self._files
        with contextlib.ExitStack() as own:
            lock_fd = own.enter_context(_opened(files, self._layout.lock(stream), EDIT))
            try:
                files.lock(lock_fd)
            except BlockingIOError:
                return False
            with _opened(files, self._layout.entries(stream), READ) as fd:
                if settled_size(files, lock_fd) != files.status(fd).st_size:
                    return False  # The next start recovers it.
            held.push(own.pop_all())
        return True


@final
class _Pruner:
    """Removes segments, each after its statement is written."""

    def __init__(self, files: Files, layout: Layout, ledger: Ledger, signer: Signer, clock: Clock) -> None:
        self._files = files
        self._layout = layout
        self._ledger = ledger
        self._signer = signer
        self._clock = clock

    def finish(self, stream: str, reader: LedgerReader) -> None:
        """Remove the rest of what an earlier, killed run stated as pruned."""
        note, first = reader.pruned(stream), reader.first_place(stream)
        if note is None or first is None or first == 1:
            return
        size = unverified_pruned(note).size
        for segment in reader.segments(stream):
            if segment.first <= size:
                self._files.unlink(segment.path)

    def prune(self, cuts: Sequence[tuple[str, Cut]]) -> Iterator[Removed]:
        """Record the erasure, write the statement, and remove the segments."""
        if not cuts:
            return
        for stream, cut in cuts:
            pruned = Erased(pruned=self._pruned(stream, cut))
            self._ledger.append(partial(Erasure, time=Time.at(self._clock.wall_ns()), erasure=pruned))
        self._ledger.seal()
        for stream, cut in cuts:
            self._state(stream, cut)
            for segment in cut.segments:
                self._files.unlink(segment.path)
            sync_folder(self._files, self._layout.stream(stream))
            size = sum(segment.bytes for segment in cut.segments)
            yield Removed(stream, cut.first, cut.size, len(cut.segments), size)

    def _pruned(self, stream: str, cut: Cut) -> PrunedRange:
        return PrunedRange(
            stream=stream,
            first=str(cut.first),
            last=str(cut.size),
            root=b64url_encode(CompactRange.of_peaks(cut.size, cut.peaks).root()),
            checkpoint=str(self._checkpoint().size),
        )

    def _checkpoint(self) -> Checkpoint:
        return unverified_checkpoint(read_checkpoint(self._files, self._layout.checkpoint) or b"")

    def _state(self, stream: str, cut: Cut) -> None:
        checkpoint, kept = self._checkpoint(), Kept.of(cut.grants)
        pruned = PruneStatement(
            origin=checkpoint.origin,
            stream=stream,
            size=cut.size,
            last=cut.last,
            peaks=cut.peaks,
            open=cut.open,
            log_size=checkpoint.size,
            log_root=checkpoint.root,
            time_ns=self._clock.wall_ns(),
            kept=kept,
        )
        # The old statement and its grants count until the new statement, whose grants have another name, is there.
        own = self._layout.grants(stream, kept.digest)
        if cut.grants:
            write_beside(self._files, own, grants_file(cut.grants))
        write_beside(self._files, self._layout.pruned(stream), sign_pruned(pruned, self._signer))
        sync_folder(self._files, self._layout.stream(stream))
        for name in self._files.listdir(self._layout.stream(stream)):
            path = f"{self._layout.stream(stream)}/{name}"
            if GRANTS_NAME.fullmatch(name) and path != own:
                self._files.unlink(path)


@contextlib.contextmanager
def _exclusive(files: Files, layout: Layout) -> Generator[None]:
    """Exclude other compression, archiving and pruning."""
    fd = open_regular(files, layout.segments_lock, EDIT)
    try:
        with locked(files, fd):
            yield
    except BlockingIOError:
        raise EvidenceError(
            "another program is at work on the segments; wait until it is done, and run this again"
        ) from None
    finally:
        files.close(fd)


def _archived(files: Files, folder: str) -> Mapping[int, str]:
    """Return the paths of the segments in a folder of an archive by their first place."""
    try:
        return closed_segments(files, (folder,))
    except FileNotFoundError:
        return {}


def _is_in(files: Files, segment: Segment, path: str | None) -> bool:
    """Return whether an archive holds the segment, at the path, with the same content."""
    if path is None:
        return False
    try:
        with _opened(files, path, READ) as fd:
            there = content_digest(files, fd, compression_of(path))
    except FileNotFoundError:  # It left the archive since that was listed.
        return False
    with _opened(files, segment.path, READ) as fd:
        return there == content_digest(files, fd, segment.compression)


def _copy(files: Files, cut: Cut, folder: str) -> tuple[int, int, int, int] | None:
    """Copy the missing segments of a cut; return the first and last place, the count, and the bytes."""
    make_folder(files, folder, 0o755)
    have = {name.partition(".")[0] for name in files.listdir(folder) if not name.endswith(".tmp")}
    missing = [s for s in cut.segments if segment_name(s.first).partition(".")[0] not in have]
    if not missing:
        return None
    for segment in missing:
        suffix = CODECS[segment.compression]
        if segment.compression == "none":
            with _opened(files, segment.path, READ) as fd:
                target = f"{folder}/{segment_name(segment.first, CODECS['gzip'])}"
                copy_compressed(files, fd, target, stopping=lambda: False, opened=_opener(files))
        else:
            _copy_plain(files, segment.path, f"{folder}/{segment_name(segment.first, suffix)}")
    return missing[0].first, cut.size, len(missing), sum(segment.bytes for segment in missing)


def _copy_plain(files: Files, source: str, target: str) -> None:
    temporary = f"{target}.tmp"
    with _opened(files, source, READ) as fd, _opened(files, temporary, REPLACE) as out:
        while chunk := files.read(fd, _CHUNK):
            write_whole(files, out, chunk)
        files.fsync(out)
    files.replace(temporary, target)
    sync_folder(files, target.rpartition("/")[0])


@contextlib.contextmanager
def _opened(files: Files, path: str, flags: int) -> Generator[int]:
    fd = open_regular(files, path, flags)
    try:
        yield fd
    finally:
        files.close(fd)


def _opener(files: Files) -> Callable[[str, int], contextlib.AbstractContextManager[int]]:
    return lambda path, flags: _opened(files, path, flags)
