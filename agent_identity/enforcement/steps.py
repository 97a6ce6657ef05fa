"""The steps of a guarded call, each for callers that may wait and for event loops, which may not.

Nothing is decided here but where a step is taken: what is decided is the guard's, and the same on every thread.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

from agent_identity.authority import MemoryState
from agent_identity.enforcement.call import Call, CallRequest, Shown
from agent_identity.enforcement.decisions import Mode
from agent_identity.enforcement.draft_facts import RESOURCES
from agent_identity.enforcement.guard import Guard
from agent_identity.enforcement.inventory import Inventory
from agent_identity.enforcement.lazy import ATOMS, CODE, Lazy, drop, holds_lazy, lazy_result
from agent_identity.enforcement.neighbours import Borrowed
from agent_identity.enforcement.off_loop import Steps, at_once, off_loop
from agent_identity.enforcement.task import Task
from agent_identity.errors import Denied
from agent_identity.identity import Clock
from agent_identity.policy import Tool
from agent_identity.policy.touch import has_placeholders

__all__ = ["CallSteps", "Judge"]

Judge = Callable[[CallRequest], Call]
"""How a call is judged: :meth:`Guard.judge`, or what an integration puts before it."""


class CallSteps:
    """The steps of the calls of one tool.

    On an event loop itself runs what waits for nothing but the one ``write`` of a record: most calls. In a worker
    thread runs what asks inspectors, policies of others or a store, what begins or turns over a file, and what waits
    for the disk.

    Args:
        guard: The guard.
        lazy: See :meth:`Enforcer.tool`.
        judge: What judges a call in the place of :meth:`Guard.judge`, which it must call.

    Attributes:
        judge: Judges a call; its body must not run before :meth:`settle` has returned. See :meth:`Guard.judge`.
    """

    __slots__ = ("_guard", "_inspects", "_lazy", "_links", "_point", "_signs_at_once", "_store_waits", "judge")

    def __init__(self, guard: Guard, *, lazy: Lazy | None = None, judge: Judge | None = None) -> None:
        point = guard.point
        self._guard: Final = guard
        self.judge: Final = guard.judge if judge is None else judge
        self._lazy: Final = lazy
        self._point: Final = point
        self._inspects: Final = bool(point.inspectors)
        self._links: Final = point.ledger.drafts and any(map(has_placeholders, guard.tool.touches))
        self._signs_at_once: Final = point.spans.signs_at_once
        self._store_waits: Final = type(point.state) is not MemoryState

    @property
    def tool(self) -> Tool:
        """What policies and records know of the tool."""
        return self._guard.tool

    @property
    def mode(self) -> Mode:
        """Whether the enforcer refuses calls (``enforce``), or lets everything run and records it (``monitor``)."""
        return self._point.mode

    @property
    def clock(self) -> Clock:
        """The clock of the enforcer."""
        return self._point.clock

    @property
    def inventory(self) -> Inventory:
        """The servers of tools that the enforcer has seen, and what is pinned of them."""
        return self._point.inventory

    @property
    def current_task(self) -> Task | None:
        """The task of the enforcer in the current context, alive or not; ``None`` outside any."""
        return self._point.ambience.current()

    async def judge_async(self, request: CallRequest) -> Call:
        """Do what :meth:`judge` does without blocking the event loop."""
        if self._judges_at_once():
            return at_once(self.judge, request)
        call = await off_loop(partial(self.judge, request), undo=self._guard.withdraw)
        await self._look_again(call)
        return call

    def settle(self, call: Call) -> None:
        """Wait for the approval that the call needs, if it needs one, and record its intent.

        Raises:
            Denied: There is none; the refusal is in the ledger.
            EvidenceError: Something could not be recorded; the body must not run.
        """
        self._guard.settle(call)

    async def settle_async(self, call: Call) -> None:
        """Do what :meth:`settle` does without blocking the event loop."""
        desk = call.desk
        if desk is None:
            return
        steps = Steps()
        suspends: tuple[type[BaseException], ...] = (Exception, *desk.suspends)
        try:
            try:
                answer = await self._point.approvals.decide_async(call, desk, steps)
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
        """Refuse a call whose task has ended while the loop was busy with others, after a thread had judged it.

        Raises:
            Denied: It has; the refusal is recorded, and what the call had taken is given back.
        """
        task = call.task
        if task is None or call.desk is not None:
            return
        if not task.lease.watched:
            with suppress(Denied):  # The lease says so by itself from now on.
                task.lease.check(self._point.clock)
        if not task.lease.live:
            await off_loop(partial(self._lapse, call))

    def _lapse(self, call: Call) -> None:
        try:
            self._guard.check(call)
        except Denied:
            call.release()
            raise

    def withdraw(self, call: Call) -> None:
        """Record that whoever made the call gave up while it was judged: its body does not run."""
        self._guard.withdraw(call)

    def check(self, call: Call) -> None:
        """Check before a body goes on, with the next item of a stream for one, that the task still lives.

        Raises:
            Denied: It does not; the refusal is recorded and the call is over. Once it is, nothing more is recorded.
        """
        self._guard.check(call)

    async def check_async(self, call: Call) -> None:
        """Do what :meth:`check` does without blocking the event loop."""
        if self._is_known(call.task):
            at_once(self._guard.check, call)
        else:
            await off_loop(partial(self._guard.check, call))

    def check_here(self, call: Call) -> None:
        """Check between two steps of an awaitable, where nothing can be awaited, by what this process knows.

        Raises:
            Denied: The task does not live any more; the refusal is recorded and the call is over.
        """
        task = call.task
        if self._is_known(task):
            at_once(self._guard.check, call)
        elif task is not None:
            try:
                task.lease.look(self._point.clock)
            except Denied:
                self._guard.check(call)

    def emit(self, call: Call, item: object) -> None:
        """Have one item of a stream looked at before the consumer gets it.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in it; the call is over.
            Denied: The call had ended by a refusal before.
        """
        self._guard.emit(call, item)

    async def emit_async(self, call: Call, item: object) -> None:
        """Do what :meth:`emit` does without blocking the event loop."""
        if self._inspects:
            await off_loop(partial(self._guard.emit, call, item))
        else:
            call.look_back()

    def end(self, call: Call, result: object, lazy: Lazy | None) -> object:
        """Record that the body returned, and return what the caller gets.

        Args:
            call: The call.
            result: What the body returned.
            lazy: ``"resource"`` for what is not handed out by us, or may run on.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in the result.
            Denied: The call had ended by a refusal before.
            ConfigurationError: With code ``lazy_result``: it would run on out of reach, and is withheld.
        """
        if call.done:
            call.look_back()
        value, content, failure = result, result, None
        if type(result) is Shown:
            value, content, failure = result.value, result.content, result.failure
        if type(value) not in ATOMS and self._runs_on(value, lazy):
            self._withhold(call, value)
        if failure is None:
            self._guard.succeed(call, content)
        else:
            self._guard.emit(call, content)
            self._guard.fail(call, failure)
        return value

    async def end_async(self, call: Call, result: object, lazy: Lazy | None) -> object:
        """Do what :meth:`end` does without blocking the event loop."""
        if self._ends_at_once(call, result, lazy):
            return self.end(call, result, lazy)
        return await off_loop(partial(self.end, call, result, lazy))

    def _ends_at_once(self, call: Call, result: object, lazy: Lazy | None) -> bool:
        """Tell whether the end of a call can be recorded without waiting."""
        if self._inspects or not self._records_at_once(call):
            return False
        if type(result) in ATOMS:
            return True
        if type(result) is Shown:
            return not (self._leaves(call) or self._runs_on(result.value, lazy))
        return not self._runs_on(result, lazy)

    def check_ended(self, call: Call, item: object, lazy: Lazy | None) -> None:
        """Check that nothing of an item would run on out of reach, as what is to be handed over must not.

        Args:
            call: The call.
            item: What a body yielded.
            lazy: See :meth:`end`.

        Raises:
            ConfigurationError: With code ``lazy_result``: it would, and is withheld.
        """
        if self._runs_on(item, lazy):
            self._withhold(call, item)

    async def check_ended_async(self, call: Call, item: object, lazy: Lazy | None) -> None:
        """Do what :meth:`check_ended` does without blocking the event loop."""
        if self._runs_on(item, lazy):
            await off_loop(partial(self._withhold, call, item))

    @staticmethod
    def _runs_on(item: object, lazy: Lazy | None) -> bool:
        """Tell whether something is still going to run, and nobody has said that it may."""
        return lazy is None and type(item) not in ATOMS and holds_lazy(item)

    def _withhold(self, call: Call, result: object) -> None:
        """Refuse to hand over what would run on; monitor mode records that it would have been refused."""
        error = lazy_result(self._guard.tool.name)
        self._guard.fail(call, error, CODE)
        if self._point.mode == "enforce":
            drop(result)
            raise error

    def fail(self, call: Call, error: BaseException) -> None:
        """Record that the body raised; the caller raises it again. What suspends a call, suspends it.

        Args:
            call: The call.
            error: What the body raised.
        """
        call.detach()
        self._guard.fail(call, error)

    async def fail_async(self, call: Call, error: BaseException, *, closed: bool = False) -> None:
        """Do what :meth:`fail` does without blocking the event loop.

        Args:
            call: The call.
            error: What the body raised.
            closed: Somebody closes a generator and awaits that. A coroutine that is closed cannot wait any more.
        """
        call.detach()
        cut = isinstance(error, GeneratorExit) and not closed
        if cut or call.done or (self._records_at_once(call) and not self._leaves(call)):
            self._guard.fail(call, error)
        else:
            await off_loop(partial(self._guard.fail, call, error))

    def refuse(self, arguments: Mapping[str, object], denied: Denied, task: Task | None = None) -> Denied:
        """Record a refusal that was reached without the guard, and return it for raising.

        Args:
            arguments: What is known of the call, by name; the record holds a digest of it.
            denied: The refusal.
            task: The task that it is a part of; ``None`` for one outside any task.

        Raises:
            EvidenceError: It could not be recorded.
        """
        return self._guard.refuse(arguments, denied, task)

    async def refuse_async(self, arguments: Mapping[str, object], denied: Denied, task: Task | None = None) -> Denied:
        """Do what :meth:`refuse` does without blocking the event loop."""
        return await off_loop(partial(self._guard.refuse, arguments, denied, task))

    def _judges_at_once(self) -> bool:
        """Tell whether a call of now can be judged without waiting."""
        if self._guard.slow:
            return False
        try:
            task = self._point.ambience.current()
        except Exception:  # A defect of ours; the guard meets it as well, and refuses with a code.
            return False
        takes = task is not None and self._store_waits and bool(task.limits)
        return not takes and self._is_known(task)

    def _is_known(self, task: Task | None) -> bool:
        """Tell whether the task can be looked at, and what becomes of it recorded, without waiting."""
        if not self._writes_at_once(task):
            return False
        try:
            return task is None or not (task.lease.watched or not self._point.revocations.is_current())
        except Exception:  # As above: a store that was closed meanwhile, for one.
            return False

    def _writes_at_once(self, task: Task | None) -> bool:
        """Tell whether a record of the task is one write, and nothing has to be read for it."""
        point = self._point
        try:
            if not point.ledger.at_once or (self._links and not point.digests.knows(RESOURCES)):
                return False
            return point.digests.knows(point.ledger.stream if task is None else task.id)
        except Exception:  # As above: a stream that cannot begin.
            return False

    def _leaves(self, call: Call) -> bool:
        """Tell whether what a call leaves to itself, if it is suspended, goes to a store that waits."""
        return self._store_waits and (call.reserved is not None or call.approval is not None)

    def _records_at_once(self, call: Call) -> bool:
        inline = self._point.inline or type(call.span) is Borrowed
        return (not inline or self._signs_at_once) and self._writes_at_once(call.task)


def _raise(error: BaseException) -> NoReturn:
    raise error
