"""The mark that the hops of a task in one process share, and what has to be known to record its changes."""

import os
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from agent_identity._flow.labels import TRUSTED, Label
from agent_identity._flow.mark import Mark
from agent_identity._flow.provenance import ProvenanceIndex
from agent_identity._guard.tasks.judged import text_digest
from agent_identity._guard.tasks.kept_marks import ExportedMark
from agent_identity.errors import EvidenceError

if TYPE_CHECKING:
    from agent_identity._guard.tasks.task_flow import TaskFlow

_KEY_BYTES: Final = 32
_MAX_KNOWN: Final = 10_000
_FORKED: Final = "the mark belongs to the process that this one was forked from; open a task of its own here"
_REENTRANT: Final = "re-entrant use of a task from a signal handler or finalizer; set a flag there and act later"


@final
class SharedMark:
    """State of the hops that share a mark; guarded by its lock.

    Args:
        hop: The grant under which the mark began.
        expires_at: When that hop ends, in Unix seconds.
        names: Under which the shared state keeps it, for a hop of another process; the first is the presented one.

    Attributes:
        hop: See above.
        names: See above.
        expires_at: See above.
        lock: Lock that keeps the mark from changing.
        index: The values that reached the hops.
        mark: The mark.
        last: The id of its record.
        unwritten: Labels that could not be recorded yet; they count all the same.
        exported: The hops that were handed to other processes, each with its mark when last seen.
        accounted: Digests of whole texts that reached the agent and count in the mark.
        parts: The isolated hops that were delegated from these; each has a mark of its own.
        owner: The isolated hop under which the mark began; ``None`` of a task, or of a hop of another process.
        is_certain: It is known whether the record of the last change is in the ledger.
        is_held: A record that names the mark is being written, so that the mark must not change.
        begun: The record by which the task began as unknown, if it did.
        threads: The keys of the threads of frameworks that go on at this mark.
        turns: The ids of the calls that models have asked for here.
        runs: The keys of the threads that frameworks run here, each with whether its first run here resumed an earlier
            one.
    """

    __slots__ = (
        *(
            "accounted",
            "begun",
            "expires_at",
            "exported",
            "hop",
            "index",
            "is_certain",
            "is_held",
            "last",
            "lock",
            "mark",
        ),
        *("names", "owner", "parts", "runs", "threads", "turns", "unwritten", "_process"),
    )

    def __init__(self, hop: str, expires_at: int, names: tuple[str, ...] = ()) -> None:
        self.hop = hop
        self.expires_at = expires_at
        self.names = names
        self.lock = threading.RLock()
        self.index = ProvenanceIndex(os.urandom(_KEY_BYTES))
        self.mark = Mark()
        self.last: str | None = None
        self.unwritten = TRUSTED
        self.exported: dict[str, ExportedMark] = {}
        self.accounted: set[bytes] = set()
        self.parts: list[TaskFlow] = []
        self.owner: TaskFlow | None = None
        self.is_certain = True
        self.is_held = False
        self.begun: str | None = None
        self.threads: set[str] = set()
        self.turns: set[str] = set()
        self.runs: dict[str | None, bool] = {}
        self._process = os.getpid()

    @property
    def is_here(self) -> bool:
        """True in the process that keeps the mark, and not in one that was forked from it."""
        return self._process == os.getpid()

    def begin_run(self, thread: str | None, *, goes_on: bool) -> None:
        """Note that a framework runs a thread here; its first run here counts.

        Args:
            thread: The key of the thread; ``None`` for all threads without an entry of their own.
            goes_on: The run resumes an earlier one instead of starting from an input.
        """
        if len(self.runs) < _MAX_KNOWN:
            self.runs.setdefault(thread, goes_on)
        elif goes_on:  # There is no room for its key, so any thread without one may be this one.
            self.runs[None] = True

    def goes_on(self, thread: str) -> bool:
        """Return whether a thread resumes an earlier run here, whose model turns this task has not seen."""
        above = None if self.owner is None else self.owner.parent
        return self.runs.get(thread, self.runs.get(None, False)) or (above is not None and above.shared.goes_on(thread))

    def saw(self, calls: Iterable[str]) -> None:
        """Know the ids of calls that a model has asked for here; beyond 10,000 further ones are not known."""
        if len(self.turns) < _MAX_KNOWN:
            self.turns.update(calls)

    def has_seen(self, call: str) -> bool:
        """Return whether a model asked for a call here, or in that which this is an isolated part of."""
        above = None if self.owner is None else self.owner.parent
        return call in self.turns or (above is not None and above.shared.has_seen(call))

    def account(self, text: str) -> None:
        """Know a text whose label counts in the mark; beyond 10,000 texts further ones are not known."""
        with self.lock:
            if len(self.accounted) < _MAX_KNOWN:
                self.accounted.add(text_digest(text))

    def is_accounted(self, text: str) -> bool:
        """Return whether the label of a text counts in the mark."""
        return text_digest(text) in self.accounted

    @property
    def beside(self) -> Label:
        """The meet of the marks of hops beside these, when last joined: open isolated delegates, other processes."""
        label = TRUSTED
        for part in tuple(self.parts):
            label = label.meet(part.label)
        for exported in tuple(self.exported.values()):
            label = label.meet(exported.known or TRUSTED)
        return label

    @property
    def is_busy(self) -> bool:
        """True if another thread holds the lock, which may wait for a disk, a store or a policy meanwhile."""
        if not self.lock.acquire(blocking=False):
            return True
        self.lock.release()
        return False

    @contextmanager
    def changing(self, label: Label) -> Generator[Label]:
        """Write the record of a change in the block; called while holding the lock.

        Args:
            label: What joins the mark; if the block fails it counts all the same.

        Yields:
            What joins the mark, with what could not be recorded before.

        Raises:
            EvidenceError: The block would be the second writer: the lock keeps out neither what interrupts its own
                thread, such as a signal handler or finalizer, nor a forked child.
        """
        before = self.unwritten  # What interrupts this thread from here on may add to it.
        joined = before.meet(label)
        if self.is_held or not self.is_here:
            self.unwritten = self.unwritten.meet(label)
            raise EvidenceError(_REENTRANT if self.is_held else _FORKED)
        self.is_held = True
        try:
            yield joined
            if self.unwritten is before:
                self.unwritten = TRUSTED
        except BaseException:
            self.unwritten = self.unwritten.meet(label)
            raise
        finally:
            self.is_held = False
