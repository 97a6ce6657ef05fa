"""The ledger: a record is in a file before the action that it describes begins."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Literal, Self, final

from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids
from agent_identity._identity.common.private_files import check_path
from agent_identity._identity.keys.cosigners import check_note_name as check_name
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger._compression import Compressor
from agent_identity._ledger._recovery import recover
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.sealer import After, Observers, OnRecord, Sealing
from agent_identity._ledger.segments import Segments
from agent_identity._ledger.transparency.bootstrap import check_origin, sign_empty_log
from agent_identity._ledger.transparency.log import DirectoryLog
from agent_identity._ledger.transparency.publisher import Publisher
from agent_identity._ledger.writer import Entry, Make, StreamWriter, Told, fault_of
from agent_identity._record import schema as records
from agent_identity._record.parts import End, RecoveredStream, Time
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import LedgerKey, load_ledger_key
from agent_identity._storage.os_files import READ, Files, make_folder, open_regular, recording, sync_folder
from agent_identity.errors import EvidenceError

_LOOK_NS: Final = 200_000_000
_ROOM: Final = 64 * 1024
_logger: Final = logging.getLogger("agent_identity.evidence")
_open_ledgers: Final["weakref.WeakSet[Ledger]"] = weakref.WeakSet()

_END_NS: Final = 10**19
"""Times of records have at most 19 digits."""


@final
class Ledger:
    """Appends records to this process's stream of an evidence directory, and starts their sealing.

    Safe to use from any thread. A forked child gets a stream of its own at its first record. What was
    appended survives the death of the process at any moment; :meth:`close` adds that nothing is missing.

    Attributes:
        clock: The clock for the records that the ledger makes itself.
        sealing: The background worker, with its backlog and its failures; in a forked child, another one.
        directory: The absolute path of the evidence directory.
        keys: The absolute path of the folder of its keys.
        append_failures: The number of records that could not be written.
        observers: The observers of records, with their failures.
        publishers: The publishers of checkpoints, each with its failure.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        signer: Signer,
        origin: str,
        clock: Clock,
        ids: Ids,
        files: Files,
        sync: Literal["process", "disk"],
        seal_interval: float,
        segments: Segments,
        beginning: Beginning,
        publishers: Sequence[Publisher],
    ) -> None:
        """Prepare a closed ledger; use :meth:`open` instead."""
        self.directory = layout.root
        self.keys = layout.keys
        self._layout = layout
        self._signer = signer
        self._origin = origin
        self.clock: Final = clock
        self._ids = ids
        self._files = files
        self._durable = sync == "disk"
        self._seal_interval = seal_interval
        self._segments = segments
        self._beginning = beginning
        self.publishers: Final = tuple(publishers)
        self.observers: Final = Observers()
        self.append_failures = 0
        self._ready = False  # Until earlier streams are recovered, which uses the log, nothing else may.
        self._at_exit = partial(_close_at_exit, weakref.ref(self))
        with recording("open the evidence directory"):
            self._key = self._found()
        self._begin()

    def _found(self) -> LedgerKey:
        """Create the missing files of the directory, and return the key of its MACs."""
        files, layout = self._files, self._layout
        make_folder(files, layout.root, 0o755)
        for folder, mode in ((layout.keys, 0o700), (layout.streams, 0o755), (layout.log, 0o755)):
            files.mkdir(folder, mode)
        # Before anything else, so that whatever is found without a checkpoint has lost it.
        sign_empty_log(files, layout, signer=self._signer, origin=self._origin)
        check_origin(files, layout, self._origin)
        key = load_ledger_key(files, layout.ledger_key)
        if self._durable:
            # Also what another process has made just now, and may not have waited for.
            for folder in (layout.root, layout.keys, layout.log):
                sync_folder(files, folder)
        return key

    def _begin(self, known: Mapping[str, tuple[int, int]] | None = None) -> None:
        """Reset the per-process state: at the start, and again in a forked child."""
        # Reentrant, because a signal handler may run tools in the thread that holds it.
        self._lock = threading.RLock()
        self._busy = False
        self._closed = False
        self._stream: StreamWriter | None = None
        self._next_stream: str | None = None
        self._fault: str | None = None
        self._look_at_ns = 0
        self._log = log = DirectoryLog(
            self._files,
            self._layout,
            self._key,
            signer=self._signer,
            origin=self._origin,
            durable=self._durable,
            published=self._offer,
            known=known or {},
        )
        self.sealing = Sealing(
            log,
            clock=self.clock,
            interval=self._seal_interval,
            durable=self._durable,
            compressor=Compressor(self._files, self._layout, self._segments.compression),
            segment_seconds=self._segments.max_seconds,
            observers=self.observers,
        )

    @classmethod
    def open(
        cls,
        directory: "str | os.PathLike[str]",
        *,
        signer: Signer,
        origin: str,
        clock: Clock,
        ids: Ids,
        keys: "str | os.PathLike[str] | None" = None,
        files: Files | None = None,
        sync: Literal["process", "disk"] = "process",
        seal_interval: float = 0.2,
        segments: Segments | None = None,
        beginning: Beginning | None = None,
        publishers: Sequence[Publisher] = (),
        observers: Sequence[OnRecord] = (),
    ) -> Self:
        """Open an evidence directory, created at first use, and begin a stream in it.

        Streams of processes that died are sealed as far as their MACs prove them, each with a
        ``recovered`` record in the new stream; their damage never stops the start.

        Args:
            directory: The directory; other processes may have it open as well.
            signer: The recorder key, which signs checkpoints.
            origin: The name of the log, the same at every start.
            clock: Tells the time of records.
            ids: Makes ids of records and streams.
            keys: The folder of the key of its MACs, if the keys are kept outside the directory.
            files: The operating system; tests inject faults here.
            sync: ``process``: records survive the death of the process; ``disk``: of the machine as well.
            seal_interval: Seconds from a record to the seal that covers it.
            segments: When the stream goes on in another file, and what becomes of the one before; by default
                after 64 MiB or a day, compressed by gzip.
            beginning: Facts of the first record of a stream about its process.
            publishers: Are offered each checkpoint; closed with the ledger.
            observers: Are shown each record, from the first of the stream on, as by :meth:`observe`.

        Raises:
            EvidenceError: The directory cannot be written.
            ConfigurationError: Its ledger key is unusable, its log has another origin, or the platform
                has no file locks.
            ValueError: The origin breaks the rules of log names.
        """
        check_name(origin)
        check_path(directory)
        ledger = cls(
            Layout.of(directory, keys),
            signer=signer,
            origin=origin,
            clock=clock,
            ids=ids,
            files=files or Files(),
            sync=sync,
            seal_interval=seal_interval,
            segments=segments or Segments(),
            beginning=beginning or Beginning(),
            publishers=publishers,
        )
        try:
            ledger._start(observers)
        except BaseException:
            ledger.sealing.abandon()
            ledger._discard()
            raise
        return ledger

    def _start(self, observers: Sequence[OnRecord]) -> None:
        self.observers.add(*observers)
        with self._lock:
            self._begun()
        with recording("list the streams of the ledger"):
            now = self.clock.wall_ns()
            fault = recover(self._files, self._layout, self._key, self._log, time_ns=now, report=self._report)
        if fault:
            _logger.warning("earlier streams stay unsealed: %s", fault)
        atexit.register(self._at_exit)
        _open_ledgers.add(self)
        self._ready = True
        self.sealing.start()

    def _discard(self) -> None:
        """Remove the empty stream folder after a failed start."""
        stream = self._stream.id if self._stream else self._next_stream
        if stream is None or (self._stream and self._stream.offset):
            return
        with contextlib.suppress(OSError):
            fd = open_regular(self._files, self._layout.entries(stream), READ)
            size = self._files.status(fd).st_size
            self._files.close(fd)
            if size:
                return  # A line in part: evidence of what happened.
            self._files.unlink(self._layout.entries(stream))
        for remove, path in ((self._files.unlink, self._layout.lock), (self._files.rmdir, self._layout.stream)):
            with contextlib.suppress(OSError):
                remove(path(stream))

    @property
    def stream(self) -> str:
        """The id of the current stream.

        Raises:
            EvidenceError: A new stream is needed and cannot be begun.
        """
        with self._lock:
            stream = self._stream
            if stream is None or not stream.usable or not stream.seq:
                if self._closed or self._busy:
                    raise self._refusal()
                self._busy = True
                try:
                    stream = self._begun()
                except BaseException as error:
                    self._interrupted(error)
                    raise
                finally:
                    self._busy = False
            return stream.id

    @property
    def at_once(self) -> bool:
        """True if :meth:`append` is now one write that waits neither for the disk nor for other threads."""
        stream = self._stream
        if self._busy or self._durable or stream is None or not stream.usable or not stream.seq:
            return False
        # With some room, because others may append until the caller does.
        return stream.offset + _ROOM < stream.rotate_at and self.sealing.has_room

    @property
    def degraded(self) -> str | None:
        """The problem that stops appends or seals, or ``None``: of the last ones, or one that the next would meet."""
        if self._closed:
            return str(self._refusal())
        return fault_of(self._check_in_place, self._lock) or self._fault or self.sealing.fault or self.sealing.stall

    @property
    def callback_failures(self) -> int:
        """The number of callbacks that raised."""
        return self.sealing.failures

    def observe(self, *observers: OnRecord) -> None:
        """Show every further signed record to observers, from the sealing thread.

        Args:
            observers: Called in the order of appends; they should be quick, because seals wait for them. What they
                raise is logged and counted in :attr:`observers`, and stops nothing.
        """
        self.observers.add(*observers)

    def _offer(self, note: bytes) -> None:
        for publisher in self.publishers:
            publisher.offer(note)

    def new_id(self) -> str:
        """Return a new id for a record.

        Raises:
            EvidenceError: The clock or the source of ids failed.
        """
        now = wall_of(self.clock)
        try:
            return self._ids.new(now)
        except Exception as error:
            raise _broken(error) from error

    def append(
        self,
        make: Make,
        *,
        detail: Told = None,
        record_id: str | None = None,
        after: After | None = None,
        check: Callable[[], object] | None = None,
    ) -> Entry:
        """Write one record and return it; once this returns, the record survives.

        Args:
            make: Makes the record from ``id``, ``stream`` and ``v``, which the ledger adds.
            detail: Makes the detail of the record of its salt. It stands in the line of the record, which gets its
                hash as ``detail``.
            record_id: The id of the record, from :meth:`new_id`, if something had to name it before.
            after: Called with the record later, by the sealing thread, in the order of appends.
            check: Called when no other record can come in between; if it raises, nothing is written. It must not wait.

        Raises:
            EvidenceError: It was not recorded: do not act. The next call tries again.
        """
        if len(self.sealing.queue) >= self.sealing.most_queued:
            self.sealing.wait_for_room()
        with self._lock:
            if self._closed or self._busy:
                raise self._refusal()
            if check is not None:
                check()
            self._busy = True
            try:
                if time.monotonic_ns() >= self._look_at_ns:
                    self._look()
                stream = self._stream
                if stream is None or not stream.usable or not stream.seq:
                    stream = self._begun()
                entry = stream.append(make, record_id or self.new_id(), detail)
                self.sealing.submit(stream, entry, after)
                self._fault = None
            except BaseException as error:
                self._interrupted(error)
                raise
            finally:
                self._busy = False
            end = stream.offset
        if self._durable:
            self._sync(stream, end, entry)
        return entry

    def drain(self, timeout: float | None = None) -> None:
        """Wait until the ``after`` callback of every record so far has run.

        Args:
            timeout: Seconds to wait at most; ``None`` waits on.

        Raises:
            EvidenceError: They have not run in time (``evidence_pending``).
            RuntimeError: A callback called this.
        """
        self.sealing.drain(timeout)

    def seal(self) -> None:
        """Commit every record so far to the log of the directory, under a new signed checkpoint.

        Raises:
            EvidenceError: It did not work; it will be tried again.
            RuntimeError: A callback called this.
        """
        self.sealing.seal()

    def close(self) -> None:
        """End the stream with a ``stream_end`` record, run pending callbacks, and seal. Further calls do nothing.

        Raises:
            EvidenceError: Something of it failed. The ledger is closed all the same, nothing appended is
                lost, and the next start seals it.
            RuntimeError: A callback called this.
        """
        self.sealing.refuse_callback("close")
        failure: EvidenceError | None = None
        with self._lock:
            if self._closed:
                return
            if self._stream is not None and self._stream.usable and self._stream.seq:
                try:
                    end = End(size=str(self._stream.seq + 1))
                    self.append(partial(records.StreamEnd, time=Time.at(wall_of(self.clock)), end=end))
                except EvidenceError as error:
                    failure = error
            self._closed = True
        atexit.unregister(self._at_exit)
        _open_ledgers.discard(self)
        try:
            self.sealing.stop()
        finally:
            for publisher in self.publishers:
                publisher.close()
        if failure:
            raise failure

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _begun(self) -> StreamWriter:
        """Begin a stream, or end the remains of the last attempt, and return it; called with the lock held."""
        stream = self._stream
        if stream is None or not stream.usable:
            stream = self._stream = self._create_stream()
        entry = stream.append(self._beginning.make(Time.at(wall_of(self.clock))), self.new_id())
        self.sealing.submit(stream, entry, None)
        if self._ready:
            self.sealing.start()
        return stream

    def _create_stream(self) -> StreamWriter:
        stream_id, self._next_stream = self._next_stream or self.new_id(), None
        try:
            with recording("begin a stream of the ledger"):
                create = partial(StreamWriter.create, self._files, self._layout, stream_id, self._key)
                stream = create(durable=self._durable, max_bytes=self._segments.max_bytes)
        except EvidenceError:
            # Kept, lest each attempt on a full disk leave another folder; after an interruption its lock may be held.
            self._next_stream = stream_id
            raise
        self.sealing.track(stream)
        if "multiprocessing.util" in sys.modules:
            from multiprocessing.util import Finalize  # Its children run these, and no atexit.

            Finalize(None, self._at_exit, exitpriority=0)
        return stream

    def _look(self) -> None:
        """Check that what is written is where others look for it; a few times a second, as a look costs some time."""
        self._check_in_place()
        stream = self._stream
        if stream is not None and stream.usable and stream.was_closed():
            _logger.warning("stream %s was closed by others, who took this process for dead; another begins", stream.id)
            stream.usable = False
        self._look_at_ns = time.monotonic_ns() + _LOOK_NS

    def _check_in_place(self) -> None:
        """Return if the files of the stream and of the log are in place.

        Raises:
            EvidenceError: They are not (``evidence_removed``).
        """
        self._log.check_in_place()
        if self._stream is not None and self._stream.usable:
            self._stream.check_in_place()

    def _sync(self, stream: StreamWriter, end: int, entry: Entry) -> None:
        try:
            stream.sync(end)
        except EvidenceError as error:
            error.uncertain, error.reference = True, entry.id
            self._note(error)
            raise

    def _interrupted(self, error: BaseException) -> None:
        if isinstance(error, EvidenceError):
            self._note(error)
        elif self._stream is not None:
            # By Ctrl-C for one: how much of the last line is in the file is not known, so nothing may follow it.
            self._stream.usable = False

    def _note(self, error: EvidenceError) -> None:
        if error.code == "bad_record":
            return  # The fault of one record, not of the ledger.
        if self._fault is None:
            _logger.error("the ledger cannot record: %s", error)
        self._fault = str(error)
        self.append_failures += 1

    def _refusal(self) -> EvidenceError:
        if self._closed:
            return EvidenceError("the ledger is closed, with its enforcer; open another enforcer", code="ledger_closed")
        return EvidenceError("re-entrant append from a signal handler or finalizer; set a flag there and append later")

    def _report(self, recovered: RecoveredStream) -> None:
        self.append(partial(records.Recovered, time=Time.at(wall_of(self.clock)), recovered=recovered))

    def after_fork_in_child(self) -> None:
        """Detach from the parent's files. Called by the interpreter in each forked child."""
        if not self._closed:
            self.sealing.abandon()
            for publisher in self.publishers:
                publisher.after_fork_in_child()
            self._begin(self._log.known)


def _close_at_exit(reference: "weakref.ref[Ledger]") -> None:
    ledger = reference()
    if ledger is not None:
        try:
            ledger.close()
        except EvidenceError as error:
            _logger.error("the ledger was not sealed at exit, the next start does: %s", error)  # noqa: TRY400


def _after_fork_in_child() -> None:
    for ledger in list(_open_ledgers):
        ledger.after_fork_in_child()


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)


def wall_of(clock: Clock) -> int:
    """Return the wall time of a clock, in nanoseconds since the epoch.

    Raises:
        EvidenceError: The clock failed, or its time does not fit into a record.
    """
    try:
        now = clock.wall_ns()
    except Exception as error:
        raise _broken(error) from error
    if not 0 <= now < _END_NS:
        raise EvidenceError(f"the clock says {now} ns, which no record can hold; set it to a time from 1970 to 2286")
    return now


def _broken(error: Exception) -> EvidenceError:
    """Return the error for a failed clock or source of ids; raised before anything is written."""
    return EvidenceError(f"the clock or the source of ids raised {type(error).__name__}; repair it")
