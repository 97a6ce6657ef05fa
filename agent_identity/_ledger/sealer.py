"""Background worker: runs the callbacks of records in order, then commits stream heads to the log."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias, final

from agent_identity._identity.common.clock import Clock
from agent_identity._ledger._compression import Compressor
from agent_identity._ledger.segments import DEFAULT_SECONDS
from agent_identity._ledger.transparency.log import DirectoryLog, Head
from agent_identity._ledger.writer import Entry, StreamWriter
from agent_identity._storage.os_files import recording
from agent_identity.errors import EvidenceError

MAX_QUEUED: Final = 16_384
"""Maximum queue length; further callers wait until some records are done."""

After: TypeAlias = Callable[[Entry], None]
"""A callback for a record once it is in the ledger."""

OnRecord: TypeAlias = Callable[[Entry], object]
"""A function that is shown each record once it is in the ledger."""

_NS: Final = 1_000_000_000
_HEARTBEAT_NS: Final = 3_600 * _NS
_BATCH: Final = 1_024
_LATE_NS: Final = 10 * _NS
"""Time that a seal may take beyond its interval before the worker is said to hang."""

_JOIN_SECONDS: Final = 30.0
_STRIDE: Final = 16  # Records; about a millisecond.
_BREATH: Final = 0.00005  # Seconds; long enough for the system to wake a thread that waits for the interpreter.
_logger: Final = logging.getLogger("agent_identity.evidence")


@final
class Observers:
    """Observers of records in the ledger, for metrics and tests.

    Attributes:
        functions: The functions.
        failures: The number of exceptions raised by observers.
        fault: The last exception, until an observer succeeds again.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.fault: str | None = None
        self.functions: tuple[OnRecord, ...] = ()

    def add(self, *observers: OnRecord) -> None:
        """Show every further record to these functions."""
        self.functions = (*self.functions, *observers)

    def show(self, entry: Entry) -> None:
        """Show a record; an exception of an observer never affects the record or the work."""
        fault: str | None = None
        for observer in self.functions:
            try:
                observer(entry)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  See above.
                self.failures += 1
                fault = f"an observer raised {type(error).__name__}; failures so far: {self.failures}"
                if self.failures == 1:
                    _logger.warning("%s; further ones are only counted", fault)
        self.fault = fault


@final
class Sealing:
    """A daemon thread that sleeps while idle; where none can be started, callers do its work.

    Callbacks run at most ``interval`` seconds after their record, or at once for :meth:`drain`. A seal
    follows ``interval`` seconds after the first record that it covers, or at once for :meth:`seal`, and
    an hour after the last one if there is no news.

    Attributes:
        failures: The number of callbacks that raised.
        fault: Why the last seal failed, or ``None``.
        most_queued: How many may be in the queue before callers wait.
        queue: The records whose callbacks have not run.
        seal_failures: The number of seals that failed.
    """

    def __init__(  # What it works on, and how fast.
        self,
        log: DirectoryLog,
        *,
        clock: Clock,
        interval: float,
        durable: bool,
        compressor: Compressor,
        segment_seconds: float = DEFAULT_SECONDS,
        observers: Observers | None = None,
    ) -> None:
        self.failures = 0
        self.seal_failures = 0
        self.most_queued = MAX_QUEUED
        self.fault: str | None = None
        self._log = log
        self._clock = clock
        self._compressor = compressor
        self._observers = Observers() if observers is None else observers
        self._durable = durable
        self._segment_ns = int(segment_seconds * _NS)
        self._interval_ns = int(interval * _NS)
        self.queue: deque[tuple[StreamWriter, bytes, After | None, Entry | None, int]] = deque()
        self._streams: list[StreamWriter] = []
        self._submitted = self._done = 0
        self._seals_wanted = 0
        self._seals_done = 0
        self._last_seal_ns = self._now()
        self._due_ns: int | None = None  # When the news must be sealed; none while there is no news.
        self._waits_since_ns: int | None = None  # On the system's clock: when the oldest unsealed record was written.
        self._oldest: Entry | None = None  # Of the records in the trees that no seal covers; only while observed.
        self._idle = False
        self._urgent = False
        self._hurried = 0  # Threads that wait for the work to be done.
        self._stopping = False
        self._renew_lock()
        self._turn = threading.Lock()  # Held by the working thread, so that callbacks keep their order.
        self._worker: int | None = None
        self._thread: threading.Thread | None = None
        self._running = False

    def _renew_lock(self) -> None:
        # Entered by itself: an exception of a signal handler on the way into a condition leaves that locked for good.
        self._held = threading.RLock()
        self._changed = threading.Condition(self._held)

    def track(self, stream: StreamWriter) -> None:
        """Seal this stream from now on."""
        self._streams.append(stream)

    def submit(self, stream: StreamWriter, entry: Entry, after: After | None) -> None:
        """Queue a written record; called under the ledger's lock, in order."""
        # A record without a callback or observer needs only its leaf.
        kept = None if after is None and not self._observers.functions else entry
        self.queue.append((stream, entry.leaf, after, kept, stream.offset))
        self._submitted += 1
        if self._waits_since_ns is None:
            self._waits_since_ns = time.monotonic_ns()
        if self._idle:
            self.start()

    def start(self) -> None:
        """Wake the thread, or start it."""
        with self._held:
            self._ensure_thread()
            self._idle = False
            self._changed.notify_all()

    @property
    def has_room(self) -> bool:
        """True if records can be queued now, with room for some of other threads."""
        return len(self.queue) < self.most_queued - _BATCH

    @property
    def unsealed(self) -> int:
        """The number of written records that no seal covers yet."""
        return len(self.queue) + sum(stream.tree.size - stream.sealed for stream in list(self._streams))

    @property
    def stall(self) -> str | None:
        """The problem of a worker that seals nothing and reports no fault, or ``None``."""
        since, late_ns = self._waits_since_ns, self._interval_ns + _LATE_NS
        if since is None or time.monotonic_ns() - since <= late_ns:
            return None
        return (
            f"the sealing worker has sealed nothing for {late_ns // _NS} s, so that records wait; a callback or a "
            "signer may hang: repair it, or restart the process"
        )

    @property
    def oldest_unsealed_ns(self) -> int | None:
        """The wall time of the oldest record that no seal covers yet, of those written while someone observes."""
        oldest = self._oldest
        if oldest is None:
            # Another thread may append to the queue or take from it meanwhile, which no iteration survives.
            oldest = next((entry for *_, entry, _ in self.queue.copy() if entry is not None), None)
        return None if oldest is None else oldest.record.time.last_ns

    def wait_for_room(self) -> None:
        """Apply backpressure: block the caller, who found too many records in the queue, until fewer wait."""
        if not self._working_here():
            self._hurry(lambda: len(self.queue) < self.most_queued, None)

    def drain(self, timeout: float | None) -> None:
        """Wait until the callbacks of all records so far have run.

        Raises:
            EvidenceError: They have not within ``timeout`` seconds (``evidence_pending``).
            RuntimeError: A callback called this.
        """
        self.refuse_callback("drain")
        target = self._submitted
        if self._done < target and not self._hurry(lambda: self._done >= target, timeout):
            raise EvidenceError(
                f"the callbacks did not end within {timeout} s; they stay queued, so wait again",
                code="evidence_pending",
            )

    def seal(self) -> None:
        """Commit every record so far to the log, now.

        Raises:
            EvidenceError: The seal failed; it will be tried again.
            RuntimeError: A callback called this.
        """
        self.refuse_callback("seal")
        with self._held:
            self._seals_wanted += 1
            target = self._seals_wanted
        if not self._hurry(lambda: self._seals_done >= target, None):
            raise EvidenceError(
                "a signal handler that interrupted a sync cannot wait for a seal; set a flag there and act later",
                code="evidence_pending",
            )
        if self.fault:
            raise EvidenceError(self.fault)

    def stop(self) -> None:
        """End the thread, finish its work in the caller's, and release the streams.

        Raises:
            EvidenceError: The seal failed, a callback does not return, or this interrupted a sync. The records stay
                in their streams, and the next start seals them.
        """
        with self._held:
            self._stopping = True
            self._changed.notify_all()
        if self._is_held_up():
            raise EvidenceError(
                "the ledger was closed by a signal handler that interrupted a sync; the next start seals"
            )
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
            if self._thread.is_alive():
                raise EvidenceError("a callback does not end; the next start seals")
        with self._held:
            self._seals_wanted += 1
        try:
            self._work()
        finally:
            self._compressor.stop()
            for stream in self._streams:
                stream.close(settled=stream.usable and stream.sealed == stream.seq)
            self._streams.clear()
            self._log.close()
        if self.fault:
            raise EvidenceError(self.fault)

    def abandon(self) -> None:
        """Reset in a forked child: close the parent's files without touching them."""
        for stream in self._streams:
            stream.drop()
        self._compressor.abandon()
        self._log.close()
        self._stopping = True
        self._streams = []
        self.queue = deque()
        self._oldest = None
        self._renew_lock()

    def refuse_callback(self, name: str) -> None:
        """Refuse a call from the callback of a record, which would wait for itself.

        Raises:
            RuntimeError: It is.
        """
        if self._working_here():
            raise RuntimeError(f"{name}() was called from the callback of a record; call it from another thread")

    def _working_here(self) -> bool:
        return self._worker == threading.get_ident()

    def _is_held_up(self) -> bool:
        """Return whether the worker may have to wait for this thread, which interrupted itself."""
        return any(stream.syncs_here for stream in self._streams)

    def _ensure_thread(self) -> bool:
        """Start the thread if it does not run; return whether it runs. Called with the condition held."""
        if self._running and self._thread is not None and self._thread.is_alive():
            return True
        if self._stopping:
            return False
        thread = threading.Thread(target=self._run, name="agent-identity-sealing", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # The interpreter is shutting down, or the system has no more threads.
            return False
        self._thread = thread
        self._running = True
        return True

    def _hurry(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Wake the worker and wait, unless it may wait for this thread; return whether ``reached`` holds."""
        if self._is_held_up():
            return reached()
        with self._held:
            if self._ensure_thread():
                self._urgent = True
                self._idle = False
                self._changed.notify_all()
                self._hurried += 1
                try:
                    self._changed.wait_for(lambda: reached() or not self._running, timeout)
                finally:
                    self._hurried -= 1
                if reached() or self._running:
                    return reached()
        self._work()
        return reached()

    def _run(self) -> None:
        try:
            while self._wait():
                self._work()
        except EvidenceError as error:  # Of the clock. A waiting caller does the work, and gets this error as well.
            _logger.error("the thread that seals ends, the next record starts another: %s", error)  # noqa: TRY400
        finally:
            with self._held:
                self._running = False
                self._idle = True
                self._changed.notify_all()

    def _wait(self) -> bool:
        """Sleep until work arrives; return whether to go on."""
        with self._held:
            if not self._news():
                self._idle = True
                # A caller that queued a record before the line above saw a busy thread and did not wake it.
                self._changed.wait_for(
                    lambda: not self._idle or self._news(), self._until(self._last_seal_ns + _HEARTBEAT_NS)
                )
                self._idle = False
            if self._due_ns is None:
                self._due_ns = self._now() + self._interval_ns
            self._changed.wait_for(lambda: self._urgent or self._stopping, self._until(self._due_ns))
            self._urgent = False
            return not self._stopping

    def _news(self) -> bool:
        return (
            bool(self.queue)
            or self._urgent
            or self._stopping
            or any(stream.tree.size > stream.sealed for stream in self._streams)
        )

    def _until(self, moment_ns: int) -> float:
        return max(0, moment_ns - self._now()) / _NS

    def _now(self) -> int:
        try:  # A clock is the user's code: whatever it raises, the thread must not take those who wait along.
            return self._clock.monotonic_ns()
        except Exception as error:
            raise EvidenceError(f"the clock raised {type(error).__name__}; repair it") from error

    def _work(self) -> None:
        with self._turn:
            self._worker = threading.get_ident()
            wanted = self._seals_wanted
            try:
                self._run_callbacks()
                self._seal(wanted=wanted > self._seals_done)
                self._seals_done = wanted
            finally:
                self._worker = None
                self._tell()

    def _tell(self) -> None:
        with self._held:
            self._changed.notify_all()

    def _run_callbacks(self) -> None:
        left = len(self.queue)  # What comes in meanwhile waits for the next turn, so that seals are not late.
        while left and self.queue:
            stream, leaf, after, entry, end = self.queue.popleft()
            try:
                self._finish(stream, leaf, after, entry, end)
            finally:
                self._done += 1
            left -= 1
            if not left % _BATCH:
                self._tell()
            if not left % _STRIDE and not self._hurried and not self._stopping:
                # A caller that comes back from a system call waits for the interpreter until this thread lets go
                # of it, which without this it does every 5 ms. To let go more often costs callers more time than
                # it saves them.
                time.sleep(_BREATH)

    def _finish(self, stream: StreamWriter, leaf: bytes, after: After | None, entry: Entry | None, end: int) -> None:
        if self._durable:
            try:
                stream.sync(end)
            except EvidenceError:
                return  # Its appender got the same error; what may not be on the disk is not signed.
        stream.tree.append(leaf)
        if entry is None:
            return
        if self._oldest is None:
            self._oldest = entry
        if after is not None:
            self._call(after, entry)
        if self._observers.functions:
            self._observers.show(entry)

    def _call(self, after: After, entry: Entry) -> None:
        try:
            after(entry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  Whatever the callback raises, later records go on.
            self.failures += 1
            if self.failures == 1:
                _logger.warning(
                    "the callback of a record raised %s; further ones are only counted", type(error).__name__
                )

    def _seal(self, *, wanted: bool) -> None:
        now = self._now()
        repeat = now - self._last_seal_ns >= _HEARTBEAT_NS
        if not (wanted or repeat or (self._due_ns is not None and now >= self._due_ns)):
            return
        self._due_ns = None
        time_ns = self._clock.wall_ns()
        heads = [
            (stream, Head(stream.id, stream.tree.size, stream.tree.root(), time_ns))
            for stream in self._unsealed(repeat=repeat)
        ]
        if not (heads or self.fault):
            return
        try:
            with recording("seal the ledger"):
                self._log.commit([head for _, head in heads], repeat=repeat)
        except EvidenceError as error:
            if self.fault is None:
                _logger.error("records stay unsealed for now: %s", error)  # noqa: TRY400  A line, no trace.
            self.fault = str(error)
            self.seal_failures += 1
            return
        self._waits_since_ns = time.monotonic_ns() if self.queue else None
        self.fault = self._oldest = None  # Only this thread appends to the trees, so that nothing came after the heads.
        self._last_seal_ns = now
        for stream, head in heads:
            stream.sealed = head.size
            self._tend(stream, now)
        self._release()

    def _tend(self, stream: StreamWriter, now: int) -> None:
        """Compress closed segments that are fully sealed, and close old ones."""
        while stream.closed and stream.closed[0].last <= stream.sealed:
            self._compressor.add(stream.closed.popleft().path)
        if stream.began_ns is None:
            stream.began_ns = now
        elif now - stream.began_ns >= self._segment_ns:
            stream.rotate_at = 0

    def _unsealed(self, *, repeat: bool) -> list[StreamWriter]:
        return [s for s in self._streams if s.tree.size > s.sealed or (repeat and s.usable and s.tree.size)]

    def _release(self) -> None:
        """Release the streams abandoned after a failure once their last record is sealed."""
        for stream in [s for s in self._streams if not s.usable and s.sealed == s.seq]:
            self._streams.remove(stream)
            self._log.forget(stream.id)
            stream.close(settled=False)
