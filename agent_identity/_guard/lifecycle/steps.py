"""The steps of a guarded call, in a blocking and an event-loop version.

The guard decides, the same on every thread; this module only decides where each step runs.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, NoReturn

from agent_identity._authority.stores.memory import MemoryState
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.call import Call, CallRequest, Shown
from agent_identity._guard.common.leaving import says_something
from agent_identity._guard.common.recorded_decisions import Mode
from agent_identity._guard.common.threads import Steps, at_once, off_loop
from agent_identity._guard.judging.guard import Guard
from agent_identity._guard.judging.record_builder import RESOURCES
from agent_identity._guard.lifecycle.deferred_results import ATOMS, CODE, Lazy, drop, holds_lazy, lazy_result
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.telemetry.foreign_spans import AdoptedSpan
from agent_identity._identity.common.clock import Clock
from agent_identity._policy.decision.request import Tool
from agent_identity._policy.decision.resources import has_placeholders
from agent_identity.errors import ContentBlocked, Denied

Judge = Callable[[CallRequest], Call]
"""Judges a call: :meth:`Guard.judge`, or an integration's hook around it."""


class CallSteps:
    """The steps of the calls of one tool.

    On the event loop run steps that do nothing blocking but one ``write`` of a record: most calls. In a worker thread
    run steps that call inspectors, custom policies or a store, that create or rotate a file, and that wait for the
    disk.

    Args:
        guard: The guard.
        lazy: See :meth:`Enforcer.tool`.
        judge: Judges a call in place of :meth:`Guard.judge`, which it must call.

    Attributes:
        lazy: The declared kind of the tool's results; see :meth:`Enforcer.tool`.
        follows_flow: True if the policy of the enforcer uses information flow.
        judge: Judges a call; its body must not run before :meth:`settle` has returned. See :meth:`Guard.judge`.
    """

    __slots__ = ("_enforcement", "_guard", "_links", "_signs_at_once", "_store_waits", "follows_flow", "judge", "lazy")

    def __init__(self, guard: Guard, *, lazy: Lazy | None = None, judge: Judge | None = None) -> None:
        enforcement = guard.enforcement
        self._guard: Final = guard
        self.judge: Final = guard.judge if judge is None else judge
        self.lazy: Final = lazy
        self._enforcement: Final = enforcement
        self.follows_flow: Final = enforcement.flows is not None
        self._links: Final = guard.declares_by_call or any(map(has_placeholders, guard.tool.touches))
        self._signs_at_once: Final = enforcement.spans.signs_at_once
        self._store_waits: Final = type(enforcement.state) is not MemoryState

    @property
    def tool(self) -> Tool:
        """The tool, as policies and records see it."""
        return self._guard.tool

    @property
    def mode(self) -> Mode:
        """The mode of the enforcer: ``enforce`` refuses calls, ``monitor`` runs and records everything."""
        return self._enforcement.mode

    @property
    def clock(self) -> Clock:
        """The clock of the enforcer."""
        return self._enforcement.clock

    @property
    def current_task(self) -> Task | None:
        """The enforcer's task in the current context, alive or not; ``None`` outside any task."""
        return self._enforcement.task_context.current()

    @property
    def can_suspend(self) -> bool:
        """True if a route of the enforcer leads to an approval channel that suspends calls, and calls are refused."""
        channels = (route for route in self._enforcement.routes.values() if isinstance(route, Approval))
        return self.mode == "enforce" and any(channel.suspends for channel in channels)

    async def waits_async(self, request: CallRequest) -> bool:
        """Return whether a call would be routed to an approval channel that suspends it; nothing is recorded.

        Args:
            request: What would be asked.
        """
        if not self.can_suspend:
            return False
        channel = await off_loop(partial(self._guard.channel_of, request))
        return channel is not None and bool(channel.suspends)

    async def judge_async(self, request: CallRequest) -> Call:
        """Do what :meth:`judge` does without blocking the event loop."""
        if self._judges_at_once(request):
            return at_once(self.judge, request)
        call = await off_loop(partial(self.judge, request), undo=self._guard.withdraw)
        await self._look_again(call)
        return call

    def settle(self, call: Call) -> None:
        """Wait for a required approval of the call, and record its intent.

        Raises:
            Denied: There is no approval; the refusal is in the ledger.
            EvidenceError: Something could not be recorded; the body must not run.
        """
        self._guard.settle(call)

    async def settle_async(self, call: Call) -> None:
        """Do what :meth:`settle` does without blocking the event loop."""
        channel = call.channel
        if channel is None:
            return
        steps = Steps()
        suspends: tuple[type[BaseException], ...] = (Exception, *channel.suspends)
        try:
            try:
                answer = await self._enforcement.approvals.decide_async(call, channel, steps)
            except suspends as error:
                await steps.take(partial(self._guard.settle, call, partial(_raise, error)))
            else:
                await steps.take(partial(self._guard.settle, call, lambda: answer))
                await self._look_again(call)
        except Exception:
            raise
        except BaseException:
            if steps.over and call.reserved is None and self._records_at_once(call):
                self._guard.withdraw(call)
            else:
                steps.undo(partial(self._guard.withdraw, call))
            raise

    async def _look_again(self, call: Call) -> None:
        """Refuse a call whose task ended while the loop was busy, after a thread had judged it.

        Raises:
            Denied: It ended; the refusal is recorded, and the reservations of the call are released.
        """
        task = call.task
        if task is None or call.channel is not None:
            return
        if not task.lease.watched:
            with suppress(Denied):  # From now on the lease itself refuses.
                task.lease.check(self._enforcement.clock)
        if not task.lease.live:
            await off_loop(partial(self._lapse, call))

    def _lapse(self, call: Call) -> None:
        try:
            self._guard.check(call)
        except Denied:
            call.release()
            raise

    def withdraw(self, call: Call) -> None:
        """Record that the caller gave up while the call was judged: its body does not run."""
        self._guard.withdraw(call)

    def check(self, call: Call) -> None:
        """Check before a body continues, for example with the next item of a stream, that the task still lives.

        Raises:
            Denied: The task has ended; the refusal is recorded and the call is over. Later steps record nothing.
        """
        self._guard.check(call)

    def check_sent(self, call: Call, sent: object) -> None:
        """Refuse a value that a consumer sends into a body, where information flow is on.

        Raises:
            Denied: With code ``sent_value``; the refusal is recorded and the call is over.
        """
        self._guard.check_sent(call, sent)

    async def check_sent_async(self, call: Call, sent: object) -> None:
        """Do what :meth:`check_sent` does without blocking the event loop."""
        if sent is not None and self.follows_flow:
            await off_loop(partial(self._guard.check_sent, call, sent))

    async def check_async(self, call: Call) -> None:
        """Do what :meth:`check` does without blocking the event loop."""
        if self._is_known(call.task):
            at_once(self._guard.check, call)
        else:
            await off_loop(partial(self._guard.check, call))

    def check_here(self, call: Call) -> None:
        """Check between two steps of an awaitable, without awaiting, from the knowledge of this process.

        Raises:
            Denied: The task has ended; the refusal is recorded and the call is over.
        """
        task = call.task
        if self._is_known(task):
            at_once(self._guard.check, call)
        elif task is not None:
            try:
                task.lease.look(self._enforcement.clock)
            except Denied:
                self._guard.check(call)

    def emit(self, call: Call, item: object) -> object:
        """Judge one item of a stream, and return the item for the consumer.

        Raises:
            ContentBlocked: The policy withholds the item because of an inspector's finding; the call is over.
            Denied: The call had ended by a refusal before.
        """
        return self._guard.emit(call, item)

    async def emit_async(self, call: Call, item: object) -> object:
        """Do what :meth:`emit` does without blocking the event loop."""
        if not self._guard.inspects and not self.follows_flow:
            call.look_back()
            return item
        if self._guard.inspects_slowly or self._marks_wait(call.task) or not self._records_at_once(call):
            return await off_loop(partial(self._guard.emit, call, item))
        return at_once(self._guard.emit, call, item)

    @property
    def holds(self) -> bool:
        """True if items of streams are held back until inspectors have seen what follows them."""
        return self._guard.inspects

    def offer(self, call: Call, *items: object, last: bool = False) -> list[object]:
        """Judge the next items of a stream, and return those for the consumer, which may be earlier ones.

        Args:
            call: The call.
            items: What the body yielded.
            last: It yields nothing more.

        Raises:
            ContentBlocked: The policy withholds them because of an inspector's finding; the call is over.
            Denied: The call had ended by a refusal before.
        """
        return self._guard.offer(call, items, last=last)

    async def offer_async(self, call: Call, *items: object, last: bool = False) -> list[object]:
        """Do what :meth:`offer` does without blocking the event loop."""
        offer = partial(self._guard.offer, call, items, last=last)
        if not self._guard.inspects and not self.follows_flow:
            return offer()
        if self._guard.inspects_slowly or self._marks_wait(call.task) or not self._records_at_once(call):
            return await off_loop(offer)
        return at_once(offer)

    def end(self, call: Call, result: object, lazy: Lazy | None) -> object:
        """Record that the body returned, and return the result for the caller.

        Args:
            call: The call.
            result: What the body returned.
            lazy: ``"resource"`` for results that are not handed out by us, or may run on.

        Raises:
            ContentBlocked: The policy withholds the result because of an inspector's finding.
            Denied: The call had ended by a refusal before.
            ConfigurationError: With code ``lazy_result``: it would run on unguarded, and is withheld.
        """
        if call.done:
            call.look_back()
        value, content, failure = result, result, None
        if type(result) is Shown:
            value, content, failure = result.value, result.content, result.failure
            if call.flow is not None:
                call.flow.limit = result.label
                call.flow.hidden = call.flow.hidden or (value is not None and content is None)
        if type(value) not in ATOMS and self._runs_on(value, lazy):
            self._withhold(call, value)
        shown = result if type(result) is Shown else None
        rebuild = None if shown is None else shown.rebuild
        fixed = shown is not None and rebuild is None
        if failure is None:
            delivered = self._guard.succeed(call, content, fixed=fixed, rebuild=rebuild)
        else:
            delivered = self._guard.emit(call, content, fixed=fixed, rebuild=rebuild)
            self._guard.fail(call, failure, judged=True)
        return delivered if shown is None else shown.delivered(delivered)

    async def end_async(self, call: Call, result: object, lazy: Lazy | None) -> object:
        """Do what :meth:`end` does without blocking the event loop."""
        if self._ends_at_once(call, result, lazy):
            return self.end(call, result, lazy)
        return await off_loop(partial(self.end, call, result, lazy))

    def _ends_at_once(self, call: Call, result: object, lazy: Lazy | None) -> bool:
        """Return whether the end of a call can be recorded without blocking."""
        if self.follows_flow or self._guard.inspects_slowly or not self._records_at_once(call):
            return False
        if type(result) in ATOMS:
            return True
        if type(result) is Shown:
            return not (self._leaves(call) or self._runs_on(result.value, lazy))
        return not self._runs_on(result, lazy)

    def check_ended(self, call: Call, item: object, lazy: Lazy | None) -> None:
        """Check that nothing in an item would run on unguarded.

        Args:
            call: The call.
            item: An item from the body.
            lazy: See :meth:`end`.

        Raises:
            ConfigurationError: With code ``lazy_result``: something would, and is withheld.
        """
        if self._runs_on(item, lazy):
            self._withhold(call, item)

    async def check_ended_async(self, call: Call, item: object, lazy: Lazy | None) -> None:
        """Do what :meth:`check_ended` does without blocking the event loop."""
        if self._runs_on(item, lazy):
            await off_loop(partial(self._withhold, call, item))

    @staticmethod
    def _runs_on(item: object, lazy: Lazy | None) -> bool:
        """Return whether something is unfinished and not declared as a resource."""
        return lazy is None and type(item) not in ATOMS and holds_lazy(item)

    def _withhold(self, call: Call, result: object) -> None:
        """Withhold an unfinished result; monitor mode records that it would have been refused."""
        error = lazy_result(self._guard.tool.name)
        self._guard.fail(call, error, CODE)
        if self._enforcement.mode == "enforce":
            drop(result)
            raise error

    def fail(self, call: Call, error: BaseException) -> None:
        """Record that the body raised; the caller raises it again. A suspending exception suspends the call.

        Args:
            call: The call.
            error: What the body raised.
        """
        call.detach()
        with _unchained():
            self._guard.fail(call, error)

    async def fail_async(self, call: Call, error: BaseException, *, closed: bool = False) -> None:
        """Do what :meth:`fail` does without blocking the event loop.

        Args:
            call: The call.
            error: What the body raised.
            closed: A generator is closed and awaited. A closed coroutine cannot wait any more.
        """
        call.detach()
        cut = isinstance(error, GeneratorExit) and not closed
        marks = self.follows_flow and says_something(error)
        waits = marks or self._guard.inspects_slowly or self._leaves(call)
        with _unchained():
            if cut or call.done or (self._records_at_once(call) and not waits):
                self._guard.fail(call, error)
            else:
                await off_loop(partial(self._guard.fail, call, error))

    def refuse(self, arguments: Mapping[str, object], denied: Denied, task: Task | None = None) -> Denied:
        """Record a refusal from outside the guard, and return it for raising.

        Args:
            arguments: The known arguments, by name; the record holds their digest.
            denied: The refusal.
            task: The task of the call; ``None`` outside any task.

        Raises:
            EvidenceError: The refusal could not be recorded.
        """
        return self._guard.refuse(arguments, denied, task)

    async def refuse_async(self, arguments: Mapping[str, object], denied: Denied, task: Task | None = None) -> Denied:
        """Do what :meth:`refuse` does without blocking the event loop."""
        return await off_loop(partial(self._guard.refuse, arguments, denied, task))

    def _judges_at_once(self, request: CallRequest) -> bool:
        """Return whether a call can be judged now without blocking."""
        if self._guard.slow or (self._store_waits and self._guard.asks_state(request)):
            return False
        try:
            task = self._enforcement.task_context.current()
        except Exception:  # Our own defect; the guard meets it as well, and refuses with a code.
            return False
        takes = task is not None and self._store_waits and bool(task.limits)
        return not takes and not self._marks_wait(task) and self._is_known(task)

    def _marks_wait(self, task: Task | None) -> bool:
        """Return whether the mark of a task may have to be waited for: for the shared state, or another thread."""
        flow = None if task is None else task.flow
        return flow is not None and ((self._store_waits and flow.waits) or flow.shared.is_busy)

    def _is_known(self, task: Task | None) -> bool:
        """Return whether the task can be checked and recorded without blocking."""
        if not self._writes_at_once(task):
            return False
        try:
            return task is None or not (task.lease.watched or not self._enforcement.revocations.is_current())
        except Exception:  # As above: for example a closed store.
            return False

    def _writes_at_once(self, task: Task | None) -> bool:
        """Return whether a record of the task is one write without any read."""
        enforcement = self._enforcement
        try:
            if not enforcement.ledger.at_once or (self._links and not enforcement.digests.knows(RESOURCES)):
                return False
            return enforcement.digests.knows(enforcement.ledger.stream if task is None else task.id)
        except Exception:  # As above: a stream that cannot begin.
            return False

    def _leaves(self, call: Call) -> bool:
        """Return whether a suspended call's leftovers go to a blocking store."""
        return self._store_waits and (call.reserved is not None or call.approval is not None)

    def _records_at_once(self, call: Call) -> bool:
        inline = self._enforcement.inline or type(call.execution.span) is AdoptedSpan
        return (not inline or self._signs_at_once) and self._writes_at_once(call.task)


@contextmanager
def _unchained() -> Generator[None]:
    """Cut a refusal off from the error that it withholds: tools that report errors show what is chained to one."""
    try:
        yield
    except ContentBlocked as blocked:
        blocked.__cause__ = blocked.__context__ = None
        raise


def _raise(error: BaseException) -> NoReturn:
    raise error
