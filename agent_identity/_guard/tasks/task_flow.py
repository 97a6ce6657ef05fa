"""The low-water mark of a task at run time: kept in memory, recorded before what lowers it is delivered.

The hops of a task in one process share one mark. A hop that came from another process keeps its mark in the shared
state as well, where whoever handed it out joins it at every judgement.
"""

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final, final

from agent_identity._authority.grants.grants import Grant
from agent_identity._authority.grants.signed_marks import SignedMark, sign_mark
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._flow.choices import NO_WORDS, ToolWords
from agent_identity._flow.labels import TRUSTED, UNKNOWN, UNTRUSTED, Label
from agent_identity._flow.mark import Mark
from agent_identity._flow.provenance import ProvenanceIndex, origins_of_call
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.common.recorded_decisions import Mode
from agent_identity._guard.tasks.facts import TaskFacts
from agent_identity._guard.tasks.judged import Arrived, Carried, Conclude, Judged, text_digest
from agent_identity._guard.tasks.kept_marks import ExportedMark, HopMarks, MarkSigner, ThreadMarks
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.keys.keys import Signer
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.writer import Entry
from agent_identity._record.digests import DigestKeys
from agent_identity._record.parts import MarkAfter, MarkCause, MarkChange, MarkSeen, Time
from agent_identity._record.schema import Mark as MarkRecord
from agent_identity.errors import Denied, EvidenceError, TokenError

_LOG: Final = logging.getLogger("agent_identity")
_MAX_KEPT: Final = 4_096
_MAX_EXPORTED: Final = 256
_UNCERTAIN: Final = "the last mark of the task may or may not be on record; open a new task"


@final
class Flows:
    """Makes the marks of one enforcer, and records their changes.

    Args:
        ledger: Keeps the records.
        digests: Keys of digests.
        clock: Source of time.
        state: What processes share.
        mode: Whether the enforcer refuses, or only records.

    Attributes:
        hops: The marks of hops in the shared state.
        threads: The marks of threads there.
    """

    __slots__ = ("_arrived", "_clock", "_digests", "_ledger", "_lock", "_mode", "hops", "threads")

    def __init__(self, ledger: Ledger, digests: DigestKeys, clock: Clock, state: StateStore, mode: Mode) -> None:
        self._ledger = ledger
        self._digests = digests
        self._clock = clock
        self._mode = mode
        self.hops: Final = HopMarks(state, clock)
        self.threads: Final = ThreadMarks(state, clock)
        self._lock = threading.Lock()
        self._arrived: dict[str, _SharedMark] = {}

    def opened(self, grant: Grant, facts: TaskFacts) -> "TaskFlow":
        """Return the flow of a task that opens here."""
        return TaskFlow(self, _SharedMark(grant.hash, grant.expires_at), facts)

    def delegated(self, parent: "TaskFlow", grant: Grant, facts: TaskFacts, *, isolated: bool) -> "TaskFlow":
        """Return the flow of a hop of this process.

        It shares the mark of the task which it is a part of, or is isolated: then it has a mark of its own, which
        begins at that of the task, and knows the values that the task knows.
        """
        if not isolated:
            return TaskFlow(self, parent.shared, facts)
        with parent.lock:
            shared = _SharedMark(grant.hash, grant.expires_at)
            shared.index = parent.shared.index.forked()
            shared.accounted = set(parent.shared.accounted)
            shared.owner = flow = TaskFlow(self, shared, facts, parent)
            parent.shared.parts.append(flow)
        return flow

    def arrived(self, grant: Grant, presented: Grant, facts: TaskFacts, carried: Carried) -> "TaskFlow":
        """Return the flow of a hop that was handed over by another process.

        One that is taken up again here goes on at its mark: a mark never rises.

        Args:
            grant: The grant under which it goes on here.
            presented: The grant that came with the call; often the same.
            facts: The members of its records.
            carried: What came with the call.

        Raises:
            Denied: Too many are open (``flow_full``).
        """
        with self._lock:
            for hop in [hop for hop, shared in self._arrived.items() if self.hops.is_over(shared.expires_at)]:
                del self._arrived[hop]
            found = self._arrived.get(grant.hash)
            if found is None:
                if len(self._arrived) >= _MAX_KEPT:
                    raise Denied("too many tasks of other processes are open here; try again later", code="flow_full")
                found = _SharedMark(grant.hash, grant.expires_at, tuple(dict.fromkeys((presented.hash, grant.hash))))
                self._arrived[grant.hash] = found
        return TaskFlow(self, found, facts, carried=carried, presented=presented.hash)

    def after_fork_in_child(self) -> None:
        """Begin anew: the hops of the parent stand in its own stream, and their marks in the shared state."""
        self._lock, self._arrived = threading.Lock(), {}

    def record(self, facts: TaskFacts, change: MarkChange) -> str:
        """Record a change of a mark, and return the id of its record.

        Raises:
            EvidenceError: It could not be recorded.
        """
        make = partial(MarkRecord, **facts.whole, time=Time.at(self._clock.wall_ns()), mark=change)
        return self._ledger.append(make).id

    def digest(self, task: str, text: str) -> str:
        """Return the keyed digest of what was said to a task."""
        return self._digests.digest(task, text.encode("utf-8", "backslashreplace"))

    @property
    def enforces(self) -> bool:
        """True if content is withheld when its label cannot be recorded."""
        return self._mode == "enforce"


@final
class TaskFlow:
    """The mark of a task, as one of its hops has it. Safe to use from any thread.

    Args:
        flows: The enforcer's part.
        shared: What the hops that share the mark have in common.
        facts: The members of records about this hop.
        parent: The flow that an isolated hop begins at, and that joins it.
        carried: What came with a hop of another process.
        presented: The hash of the grant that came with it.

    Attributes:
        shared: See above.
        lock: Lock that keeps the mark from changing.
        parent: See above.
        joined: The mark of an isolated hop that the parent has joined last.
    """

    __slots__ = ("_carried", "_facts", "_flows", "_presented", "joined", "lock", "parent", "shared")

    def __init__(
        self,
        flows: Flows,
        shared: "_SharedMark",
        facts: TaskFacts,
        parent: "TaskFlow | None" = None,
        *,
        carried: Carried | None = None,
        presented: str = "",
    ) -> None:
        self._carried = carried
        self._presented = presented
        self._flows = flows
        self._facts = facts
        self.parent = parent
        self.joined: Mark | None = None
        self.lock = shared.lock
        self.shared = shared

    @property
    def label(self) -> Label:
        """The mark now."""
        return self.mark.label

    @property
    def waits(self) -> bool:
        """True if a judgement or delivery asks the shared state, and may have to wait for that."""
        own = self.shared.exported or self.shared.names or self.shared.threads
        return bool(own) or any(part.waits for part in tuple(self.shared.parts))

    @property
    def mark(self) -> Mark:
        """The mark now, with its sources."""
        mark, unwritten = self.shared.mark, self.shared.unwritten
        return mark if unwritten is TRUSTED else replace(mark, label=mark.label.meet(unwritten), complete=False)

    @property
    def seen(self) -> MarkSeen:
        """The place of the mark in the records."""
        return MarkSeen(hop=self.shared.hop, seq=str(self.shared.mark.seq))

    def begin(self, request: str | None) -> None:
        """Record the mark that the hop begins at; one that shares a mark has nothing to record.

        Args:
            request: What the principal asks for, by the host's word; without it no one accounts for the inputs.

        Raises:
            EvidenceError: It could not be recorded.
            StateError: The shared state cannot be asked.
        """
        shared = self.shared
        with self.lock:
            if self.parent is not None:
                self._isolate(self.parent)
            elif shared.names:
                self._accept()
            elif shared.mark.seq:
                return
            elif request is None:
                shared.begun = self._write("start", UNKNOWN)
            else:
                source = self._write("request", TRUSTED, digest=self._flows.digest(self._facts.task.id, request))
                shared.index.say(request, source)
                self.shared.account(request)

    def _accept(self) -> None:
        """Go on from the mark of whoever handed the hop over; without one no one accounts for the inputs."""
        shared, carried = self.shared, None if self._carried is None else self._carried.mark
        label = self._flows.hops.find(f"{shared.names[0]}:from") or carried or UNKNOWN
        for name in shared.names:  # Another process may have taken it up as well: a hop has one mark.
            label = label.meet(self._flows.hops.find(name) or TRUSTED)
        if not shared.mark.seq or not self.label.is_within(label):
            self._write("accept", label, origin=shared.names[0])

    def _isolate(self, parent: "TaskFlow") -> None:
        """Begin at the mark of the hop that this one was delegated from, with its sources."""
        shared = self.shared
        if shared.mark.seq:
            return
        with parent.lock:
            before = parent.mark
            self._write("isolated", before.label, origin=parent.shared.hop)
        self.joined = shared.mark = shared.mark.with_sources(before)

    @property
    def begun(self) -> str | None:
        """The record by which the task began as unknown; ``None`` if it did not begin so here."""
        return self.shared.begun or (None if self.parent is None else self.parent.begun)

    def take_up(self, hop: str, label: Label, sources: Mapping[str, str]) -> None:
        """Go on at the mark at which a call was suspended, if another hop suspended it.

        Args:
            hop: The hop whose mark it was.
            label: The mark.
            sources: The records that lowered it, each with its name.

        Raises:
            EvidenceError: It could not be recorded; the call must not go on.
            StateError: The shared state cannot be asked; likewise.
        """
        with self.lock:
            known = self.label.is_within(label) and sources.keys() <= self.shared.mark.sources.keys()
            if hop != self.shared.hop and label != TRUSTED and not known:
                self._write("join", label, origin=hop, brought=sources if self.shared.unwritten is TRUSTED else None)

    def enter(self, thread: str, *, joins: bool) -> None:
        """Go on in a thread, whose mark goes on with this one from now on.

        Args:
            thread: The key of the thread.
            joins: Join its mark, too: what is judged next comes from it.

        Raises:
            EvidenceError: It could not be recorded; nothing from the thread may be acted on.
            StateError: The shared state cannot be asked; likewise.
        """
        threads = self._flows.threads
        kept = threads.find(thread)
        with self.lock:
            self.shared.threads.add(thread)
            if joins and kept is not None and not self.label.is_within(kept.label):
                self._write("prompt", kept.label, name="thread")
            if threads.needs(kept, self.label):
                threads.lower(thread, self.label)

    def said(self, text: str) -> None:
        """Take in what the principal said.

        Raises:
            EvidenceError: It could not be recorded, and counts for nothing.
        """
        with self.lock:
            source = self._write("said", TRUSTED, digest=self._flows.digest(self._facts.task.id, text))
            self.shared.index.say(text, source)
            self.shared.account(text)

    def received(self, text: str, label: Label) -> None:
        """Take in text of others that the host hands to the agent.

        Raises:
            EvidenceError: It could not be recorded; the agent must not get it.
            StateError: The shared state cannot be asked; likewise.
        """
        with self.lock:
            source = self._write("received", label, digest=self._flows.digest(self._facts.task.id, text))
            self.shared.index.take([(text, label)], source)
            self.shared.account(text)

    def learned(self, value: object, label: Label, source: str | None) -> None:
        """Know a value that another hop of the task has read; one that is known here keeps its origin.

        Args:
            value: The value.
            label: Its label.
            source: The intent of the call that returned it.
        """
        with self.lock:
            self.shared.index.take([(value, label)], source or self.shared.last or "")

    def join(
        self,
        label: Label,
        *,
        intent: str | None,
        name: str,
        cause: MarkCause,
        is_source: bool = True,
    ) -> None:
        """Lower the mark to the meet with a label, before content with it is delivered.

        Args:
            label: The label of the content.
            intent: The call that it comes from.
            name: The name of its tool.
            cause: How it reaches the agent.
            is_source: The call brings in something of its own, and does not only repeat what the mark stands for.

        Raises:
            EvidenceError: It could not be recorded; the content must not be delivered.
            StateError: The shared state cannot be asked; likewise.
        """
        with self.lock:
            if self.lowers(label, (intent or self.shared.last) if is_source else None):
                self._write(cause, label, intent=intent, name=name)
        self.hand_up()

    def lowers(self, label: Label, source: str | None) -> bool:
        """Return whether content with a label, from a source, has to lower the mark on record."""
        return self.shared.mark.changes(label, source) or self.shared.unwritten is not TRUSTED

    def conclude(self, intent: str, arrived: Arrived, *, name: str, write: Conclude) -> Entry:
        """Write the outcome of a call, which is the change of the mark if its result changes it.

        Only a change is written under the lock: a mark that covers the result already covers it for good.

        Args:
            intent: The call.
            arrived: What it returned, or its error.
            name: The name of its tool.
            write: Writes the outcome.

        Raises:
            EvidenceError: The outcome could not be written, or the mark lowered.
            StateError: The shared state cannot be asked.
        """
        source = intent if arrived.is_source else None
        with self.lock:
            arrived.learn()
            if self.lowers(arrived.label, source):
                return self._conclude(arrived.label, intent, name, write)
        return write(self.after)

    @property
    def enforces(self) -> bool:
        """True if content is withheld when its label cannot be recorded."""
        return self._flows.enforces

    @property
    def after(self) -> MarkAfter | None:
        """The mark on record; ``None`` if none is."""
        return _mark_after(self.shared.mark)

    def _conclude(self, label: Label, intent: str, name: str, write: Conclude) -> Entry:
        """Write an outcome that changes the mark."""
        entries = list[Entry]()

        def outcome(_: Label, after: Mark) -> str:
            entries.append(write(_mark_after(after)))
            return entries[0].id

        self._change(label, intent, name, outcome)
        return entries[0]

    def hand_up(self) -> None:
        """Have the hop above join what a body reads that outlives its isolated delegation.

        Raises:
            EvidenceError: It could not be recorded; the content must not be delivered.
            StateError: The shared state cannot be asked; likewise.
        """
        owner = self.shared.owner
        above = None if owner is None else owner.parent
        if owner is not None and above is not None and owner not in above.shared.parts:
            above.take_part(owner)
            above.hand_up()

    def opened(self, label: Label, source: str | None, name: str) -> None:
        """Record that a tool gets a quarantined result, which lowers the mark like any that is delivered.

        Raises:
            EvidenceError: It could not be recorded; the result must not be opened.
            StateError: The shared state cannot be asked; likewise.
        """
        with self.lock:
            self._write("opened", label, intent=source, name=name)

    def gather(self) -> None:
        """Join the marks of all isolated hops, before a result is delivered: it may hold what they have read.

        Raises:
            EvidenceError: A change could not be recorded.
            StateError: The shared state cannot be asked.
        """
        for part in tuple(self.shared.parts):
            part.refresh()  # What it handed out may have left what is delivered here, as in a file.
            part.gather()
            self.take_part(part)

    def take_part(self, part: "TaskFlow") -> None:
        """Join the mark of an isolated hop, with its sources and the values that it knows.

        Raises:
            EvidenceError: The change could not be recorded.
        """
        with self.lock:
            mark = part.mark
            if mark == part.joined:
                return
            mine = self.shared.mark
            known = mine.label.is_within(mark.label) and mark.sources.keys() <= mine.sources.keys()
            if mark.label != TRUSTED and not known:
                self._write("join", mark.label, origin=part.shared.hop)
                self.shared.mark = self.shared.mark.with_sources(mark)
            self.shared.index.absorb(part.shared.index)
            self.shared.accounted |= part.shared.accounted
            part.joined = mark

    def _leave(self, parent: "TaskFlow") -> None:
        """Have the parent join what an isolated hop has read; once."""
        if self not in parent.shared.parts:
            return
        self.refresh()
        parent.take_part(self)
        with parent.lock:
            parent.shared.index.absorb(self.shared.index)
            parent.shared.exported |= self.shared.exported  # What was handed out may still be at work.
            if self in parent.shared.parts:
                parent.shared.parts.remove(self)

    def refresh(self) -> None:
        """Join the marks of all hops that were handed to other processes.

        A hop whose mark no one keeps in the shared state counts as untrusted.

        Raises:
            EvidenceError: The change could not be recorded.
            StateError: The shared state cannot be asked.
        """
        if not self.shared.exported:
            return
        with self.lock:
            for hop, exported in list(self.shared.exported.items()):
                now = self._flows.hops.find(hop) or exported.answered or UNTRUSTED
                if now not in (exported.known, TRUSTED):
                    self._write("join", now, origin=hop)
                exported.known = now
                if self._flows.hops.is_over(exported.expires_at):
                    del self.shared.exported[hop]

    def export(self, hop: str, expires_at: int, *, call: str, by: MarkSigner | None, signer: Signer) -> str:
        """Know that a hop leaves the process, and keep the mark of now for whoever takes it up.

        Args:
            hop: The hash of its grant.
            expires_at: Its end, in Unix seconds.
            call: The call that it leaves for; the hash of its grant if it is not for one call.
            by: The holder that may sign its mark.
            signer: The key of the task.

        Returns:
            The mark of now, signed, for a receiver without the same shared state.

        Raises:
            Denied: Too many have left (``flow_full``).
            StateError: The shared state cannot be asked; the hop must not leave.
        """
        with self.lock:
            exported = self.shared.exported
            if hop not in exported and len(exported) >= _MAX_EXPORTED:
                raise Denied("too many parts of the task were handed to other processes", code="flow_full")
            self._flows.hops.lower(f"{hop}:from", self.label, expires_at)
            exported.setdefault(hop, ExportedMark(hop, expires_at, by)).ask(call)
            return self._signed(signer, hop, call)

    def _signed(self, signer: Signer, hop: str, call: str) -> str:
        own = self._facts.chain[-1].grant
        return sign_mark(signer, SignedMark(own, call, hop, str(self.label), str(self.shared.mark.seq)))

    def answer(self, signer: Signer) -> str | None:
        """Return the mark of now, signed, for whoever handed the hop over; ``None`` if no one did.

        Raises:
            EvidenceError: A mark of another hop could not be recorded.
            StateError: The shared state cannot be asked.
        """
        if self._carried is None:
            return None
        self.refresh()
        self.gather()
        with self.lock:
            return self._signed(signer, self._presented, self._carried.call)

    def answered(self, hop: str, call: str, token: str | None) -> bool:
        """Count the mark that came back from a hop; return whether it does count.

        Args:
            hop: The hash of the grant that was handed out.
            call: See :meth:`export`.
            token: The mark; ``None`` if none came back.

        Raises:
            EvidenceError: It could not be recorded; what came back must not be delivered.
        """
        with self.lock:
            exported = self.shared.exported.get(hop)
            if exported is None:
                return False
            try:
                label = exported.check(call, token)
            except TokenError as error:
                exported.miss(call)
                _LOG.warning("an answer of another process counts as untrusted: %s", error.code)
                return False
            self._write("answer", label, origin=hop, token=token)
            exported.take(call, label, token or "")
            return True

    def end(self) -> None:
        """Take a last look at what was handed out, and forget the values; called when the hop ends that began here.

        Raises:
            EvidenceError: A mark could not be recorded.
            StateError: The shared state cannot be asked.
        """
        if not self.shared.is_here:  # The mark is that of the parent, a thread of which may have held the lock.
            self.shared.index.erase()
            return
        for part in tuple(self.shared.parts):
            if part.parent is self:  # One that ends late is a part of what ends here.
                part.end()
        if self._facts.chain[-1].grant != self.shared.hop:
            return
        if self.parent is not None:
            self._leave(self.parent)
        with self.lock:
            self.shared.index.erase()
            if self.shared.names:  # Whoever handed it over joins this mark.
                self.refresh()

    def judged(
        self,
        values: Mapping[str, object],
        supplied: Iterable[str],
        destinations: Mapping[str, bool],
        words: ToolWords = NO_WORDS,
    ) -> Judged:
        """Return the mark of now, and where the values of arguments come from.

        Args:
            values: The arguments, as policies see them.
            supplied: The names that the caller gave; others are the tool's own.
            destinations: The names of those that decide where the call leads, each with whether a call without a value
                of it leads nowhere: that is the tool's own word, and as good as a trusted value. An empty value of any
                other may mean everyone, so no one trusted gave it.
            words: The names that the tool gives to arguments, and the values that it lists; see
                :func:`origins_of_call`.

        Raises:
            Denied: With code ``mark_uncertain``: the last mark may or may not be on record.
        """
        with self.lock:
            if not self.shared.is_certain and self._flows.enforces:
                raise Denied(_UNCERTAIN, code="mark_uncertain")
            mark, seen = self.mark, self.seen
            args, leads = origins_of_call(self.shared.index, values, frozenset(supplied), destinations, words)
        return Judged(seen, mark, args, leads)

    def is_at(self, judged: Judged) -> bool:
        """Return whether the mark is the one at which a call was judged; asked while holding the lock."""
        now, then = self.mark, judged.mark
        return now is then or (now.seq == then.seq and now.label == then.label)

    def write_at(self, judged: Judged, write: Callable[[], object]) -> bool:
        """Write a record that names the mark, if it is still the one at which a call was judged; return whether it is.

        Asked while holding the lock, which does not keep out what interrupts its own thread, such as a signal handler
        or finalizer: until the record is written, no such code changes the mark.
        """
        shared = self.shared
        was_held, shared.is_held = shared.is_held, True
        try:
            still = self.is_at(judged)
            if still:
                write()
            return still
        finally:
            shared.is_held = was_held

    def guarded(self, deliver: Callable[[], None]) -> Exception | None:
        """Run what has to be recorded before a delivery; return why it could not be, if the delivery is off."""
        try:
            deliver()
        except Exception as error:  # noqa: BLE001 - What cannot be accounted for is withheld.
            _LOG.error("the mark of a task could not be recorded: %s", safe_message(error))
            return error if self._flows.enforces else None
        return None

    def _write(
        self,
        cause: MarkCause,
        label: Label,
        *,
        intent: str | None = None,
        name: str | None = None,
        origin: str | None = None,
        digest: str | None = None,
        token: str | None = None,
        brought: Mapping[str, str] | None = None,
    ) -> str:
        """Record a change of the mark, and return the id of the record."""
        shared = self.shared

        def record(joined: Label, after: Mark) -> str:
            change = MarkChange(
                hop=shared.hop,
                seq=str(after.seq),
                label=str(after.label),
                cause=cause,
                prev=shared.last,
                joined=None if joined == TRUSTED else str(joined),
                sources=tuple(brought or ()) or (None if intent is None else (intent,)),
                origin=origin,
                digest=digest,
                token=token,
            )
            return self._flows.record(self._facts, change)

        return self._change(label, intent, name or cause, record, brought)

    def _change(
        self,
        label: Label,
        intent: str | None,
        name: str,
        write: Callable[[Label, Mark], str],
        brought: Mapping[str, str] | None = None,
    ) -> str:
        """Lower the mark: plan, keep it in the shared state, write the record, commit; called while holding the lock.

        Args:
            label: What joins the mark.
            intent: The call that it comes from; otherwise it comes from the record.
            name: The name of its tool, or another cause.
            write: Writes the record of what joins the mark and of the mark after it, and returns its id.
            brought: Sources that are known from elsewhere, in place of the call.
        """
        shared = self.shared
        with shared.changing(label) as joined:
            is_source = joined != TRUSTED and not brought
            after = shared.mark.lowered(joined, intent if is_source else None, name)
            self._keep(after.label)
            record_id = self._append(partial(write, joined, after))
            if is_source and intent is None:
                after = shared.mark.lowered(joined, record_id, name)
            shared.mark = after if not brought else after.with_sources(Mark.of(brought))
            shared.last, shared.is_certain = record_id, True
        return record_id

    def _keep(self, label: Label) -> None:
        """Lower the marks in the shared state, of a hop of another process and of threads; monitor mode may fail."""
        flows, shared = self._flows, self.shared
        lower = [partial(flows.hops.lower, name, label, shared.expires_at) for name in shared.names]
        lower += [partial(flows.threads.lower, thread, label) for thread in tuple(shared.threads)]
        for kept in lower:
            try:
                kept()
            except Exception as error:
                if self._flows.enforces:
                    raise
                _LOG.warning("monitor mode: the shared state lacks the mark of a task: %s", safe_message(error))

    def _append(self, write: Callable[[], str]) -> str:
        """Write the record of a change, unless its place may be taken: two marks of one place would be contradicted."""
        shared = self.shared
        if not shared.is_certain:
            raise EvidenceError(_UNCERTAIN)
        shared.is_certain = False
        try:
            return write()
        except EvidenceError as error:
            shared.is_certain = not error.uncertain
            raise


def _mark_after(mark: Mark) -> MarkAfter | None:
    """Return the member of an outcome; ``None`` if no mark is on record."""
    return MarkAfter(label=str(mark.label), seq=str(mark.seq)) if mark.seq else None


_KEY_BYTES: Final = 32
_MAX_KNOWN: Final = 10_000
_FORKED: Final = "the mark belongs to the process that this one was forked from; open a task of its own here"
_REENTRANT: Final = "re-entrant use of a task from a signal handler or finalizer; set a flag there and act later"


@final
class _SharedMark:
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
