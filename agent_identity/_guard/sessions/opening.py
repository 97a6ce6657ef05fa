"""The context manager of a task: opens and ends it, with its records and its span."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Final, final

from opentelemetry import trace
from opentelemetry.trace import Span

from agent_identity._authority.grants.grants import Grant
from agent_identity._guard.common.failures import error_type, failure
from agent_identity._guard.common.threads import off_loop
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.sessions.admission import record_refusal
from agent_identity._guard.tasks.exported_grants import RecordedGrants
from agent_identity._guard.tasks.facts import task_facts
from agent_identity._guard.tasks.task import REVOKE_SECONDS, Tally, Task
from agent_identity._guard.tasks.task_context import Attachment, Process, marked_as_here, outer_task
from agent_identity._guard.tasks.trace_context import remote_parent
from agent_identity._guard.telemetry.spans import Traced, traced
from agent_identity._ledger.writer import Entry
from agent_identity._record import schema as records
from agent_identity._record.parts import Counts, GrantToken, Time, replaced
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity.errors import (
    AgentIdentityError,
    Denied,
    EvidenceError,
)

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000

DRAIN_SECONDS: Final = 5.0
"""The end of a task waits at most this long for its evidence to reach the span processors."""


@final
class Opening:
    """A task being opened; a context manager for ``with`` and ``async with``, used once.

    Received from :meth:`Enforcer.task`, :meth:`Enforcer.delegate`, :meth:`Enforcer.accept` and
    :meth:`Enforcer.receive`. Entering it begins the authority; leaving it ends the authority, also when the block
    raises.
    """

    __slots__ = (
        "_attachment",
        "_enforcement",
        "_entered",
        "_finished",
        "_home",
        "_lock",
        "_make",
        "_once",
        "_purpose",
        "_recorded",
        "_request",
        "_span",
        "_start_ns",
        "_task",
        "_trace",
        "_traced",
    )

    def __init__(
        self,
        enforcement: EnforcementContext,
        purpose: str | None,
        make: Callable[[], Task],
        *,
        recorded: RecordedGrants | None = None,
        traceparent: str | None = None,
        request: str | None = None,
        once: bool = False,
    ) -> None:
        self._enforcement = enforcement
        self._request = request
        self._once = once
        self._purpose = purpose
        self._make = make
        self._recorded = recorded
        self._trace = traceparent
        self._task: Task | None = None
        self._lock = threading.Lock()
        self._entered = False
        self._attachment: Attachment | None = None
        self._finished = False
        self._home = Process.here
        self._span: Span = trace.INVALID_SPAN
        self._traced: Traced | None = None
        self._start_ns = 0

    def __enter__(self) -> Task:
        self._enter_once()
        return self._attach(self._open())

    def _open(self) -> Task:
        """Open the task and record its start, in any thread."""
        if sys.is_finalizing():  # Some interpreters crash where times are computed this late.
            raise EvidenceError("the interpreter is shutting down; open tasks before", code="ledger_closed")
        try:
            task = self._make()
        except BaseException:
            self._entered = False
            raise
        self._task = task
        try:
            self._begin(task)
        except BaseException as error:
            task.lease.end()
            self._enforcement.spans.end_unsigned(self._span)
            if isinstance(error, Exception) and not isinstance(error, AgentIdentityError):
                why = f"the task is not recorded, and therefore not open: {failure('its opening', error)}"
                raise EvidenceError(why, code="guard_failed") from None
            raise
        return task

    def _attach(self, task: Task) -> Task:
        """Make the task the current one, in the context in which its block runs."""
        try:
            holding = self._enforcement.task_context.holding(task, trace.set_span_in_context(self._span))
            self._attachment = Attachment(marked_as_here(holding)).attach()  # Other code may have replaced our context.
        except BaseException as error:
            self._finish(error)
            raise
        return task

    def _enter_once(self) -> None:
        """Refuse and record a second block, one of another thread too.

        Raises:
            Denied: With code ``already_entered``.
        """
        with self._lock:
            if not self._entered:
                self._entered = True
                return
        enforcement, current = self._enforcement, self._enforcement.task_context.current()
        denied = Denied(
            "this task was entered before; call enforcer.task(...), delegate(...), accept(...) or receive(...) again "
            "for the next block",
            code="already_entered",
        )
        entered = self._task or current
        if entered is not None:  # Otherwise another thread is opening it just now, and no one knows for whom.
            record_refusal(
                enforcement,
                denied,
                entered.agent,
                principal=entered.grant.principal,
                parent=current if current is not None and current.id == entered.id else None,
                start_ns=enforcement.clock.wall_ns(),
                always=True,
            )
        raise denied

    def _begin(self, task: Task) -> None:
        enforcement = self._enforcement
        enforcement.renewals.record(enforcement.ledger)
        self._home = Process.here
        self._start_ns = enforcement.clock.wall_ns()
        parent = remote_parent(self._trace)
        self._span = enforcement.spans.start(
            f"invoke_agent {task.agent.id}",
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": task.agent.id},
            self._start_ns,
            parent,
        )
        self._traced = traced(self._span, parent)
        time = Time.at(self._start_ns)
        # What comes from another process is no part of the body that takes it up.
        outer = outer_task(task.id) if self._recorded is None else None
        for grants in self._unrecorded(task):
            token = GrantToken(token=grants[-1].token)
            facts, trace = task_facts(grants, outer).whole, self._traced.ids
            enforcement.ledger.append(partial(records.Grant, **facts, time=time, trace=trace, grant=token))
        flow = task.flow
        if flow is not None:
            flow.begin(self._request)
        purposeful = replaced(task.facts.task, purpose=task.purpose, outer=outer)
        facts = {**task.facts.whole, "task": purposeful}
        mark = None if flow is None else flow.seen
        enforcement.ledger.append(
            partial(records.TaskStart, **facts, time=time, trace=self._traced.rooted, judged_at=mark)
        )

    def _unrecorded(self, task: Task) -> Iterator[tuple[Grant, ...]]:
        """Yield each chain whose last grant the stream lacks: a verifier needs all grants of a chain."""
        grants = task.chain.grants
        if self._recorded is None:
            yield grants
            return
        for number, grant in enumerate(grants, 1):
            if self._recorded.lacks(self._enforcement.ledger.stream, grant.hash):
                yield grants[:number]
                self._recorded.add(self._enforcement.ledger.stream, grant.hash)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._finish(error):
                self._drain()
        finally:  # A signal handler may have raised in between.
            self._let_go()

    def __del__(self) -> None:
        task: Task | None = getattr(self, "_task", None)
        if task is not None:  # A signal handler may have raised before the block ended the task.
            task.lease.end()

    def _let_go(self) -> None:
        """End the authority, and restore the previous current task; idempotent."""
        if self._task is not None:
            self._task.lease.end()
        if self._attachment is not None:
            self._attachment.release()

    async def __aenter__(self) -> Task:
        self._enter_once()
        return self._attach(await off_loop(self._open, undo=self._abandon))

    def _abandon(self, _: Task) -> None:
        """End a task whose opening was cancelled."""
        self._finish(asyncio.CancelledError())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._let_go()  # At once; the other steps of the end may have to wait.
        if not await off_loop(partial(self._finish, error)):
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # Another event loop than asyncio's: a short wait beats lost spans.
            self._drain()
        else:
            await loop.run_in_executor(None, self._drain)

    def _drain(self) -> None:
        """Wait until the task's spans are with their processors; spans fail open, the ledger has all."""
        try:
            self._enforcement.ledger.drain(DRAIN_SECONDS)
        except EvidenceError:
            _LOG.warning("the spans of a task are still being signed; they will follow")
        if self._task is not None:
            self._task.tokens.settle(REVOKE_SECONDS)

    def _finish(self, error: BaseException | None) -> bool:
        """End the authority first, then record the end; return whether there is evidence to wait for."""
        task = self._task
        if task is None:
            return False
        self._let_go()
        if self._once and error is None:
            task.handed.add(task.grant, self._enforcement.clock.wall_ns() // _NS)
        task.end()
        if self._finished or self._home is not Process.here:  # A forked child leaves the record to its parent.
            return False
        self._finished = True
        try:
            self._record_end(task, error)
        except Exception as failure:
            self._enforcement.spans.end_unsigned(self._span)
            if error is None:
                raise
            # The block's own error matters more; the missing record shows in the ledger. Only the class is
            # logged, because a trace would show the text of the block's error as well.
            _LOG.error("the end of a task could not be recorded: %s", type(failure).__name__)
            return False
        return True

    def _record_end(self, task: Task, error: BaseException | None) -> None:
        enforcement, span = self._enforcement, self._span
        end_ns = max(enforcement.clock.wall_ns(), self._start_ns)
        make = partial(
            records.TaskEnd,
            **task.facts.whole,
            time=Time.at(self._start_ns, end_ns),
            trace=None if self._traced is None else self._traced.ids,
            counts=_counts(task.tally),
            error=None if error is None else error_type(error),
        )
        # A verifier of spans alone needs the grants that no span of this process has.
        tokens = task.chain.tokens if self._recorded is not None else (task.grant.token,)
        delegation = {GRANT_ATTRIBUTE: "~".join(tokens)}

        def finish(entry: Entry) -> None:
            enforcement.spans.finish(span, entry, end_ns, delegation)

        enforcement.ledger.append(make, after=finish)


def _counts(tally: Tally) -> Counts:
    intents, outcomes = tally.intents, tally.outcomes
    open_calls = max(0, intents - tally.concluded)
    return Counts(intents=str(intents), outcomes=str(outcomes), open=str(open_calls))
