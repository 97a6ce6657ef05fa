"""The guard where an event loop runs: the same checks, taken off the loop where they may wait."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NoReturn, final

from agent_identity.authority import MemoryState
from agent_identity.enforcement.call import Call
from agent_identity.enforcement.guard import Guard
from agent_identity.enforcement.neighbours import Borrowed
from agent_identity.enforcement.off_loop import Steps, at_once, off_loop
from agent_identity.enforcement.task import Task
from agent_identity.errors import Denied

__all__ = ["OnLoop"]


@final
class OnLoop:
    """Awaits the guard of one tool. Nothing is decided here but where it decides.

    On the loop itself runs what waits for nothing but the one ``write`` of a record: most calls. In a worker thread
    runs what asks inspectors, policies of others or a store, what begins or turns over a file, and what waits for
    the disk.

    Args:
        guard: The guard.
    """

    __slots__ = ("_guard", "_point", "_store_waits")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._point = guard.point
        self._store_waits = type(guard.point.state) is not MemoryState

    @property
    def guard(self) -> Guard:
        """The guard."""
        return self._guard

    async def judge(self, judge: Callable[..., Call], *args: object) -> Call:
        """Judge a call; its body must not run before :meth:`settle` has returned.

        Args:
            judge: :meth:`Guard.judge`, or what calls it.
            args: Its arguments.

        Raises:
            Denied: As :meth:`Guard.judge`.
            EvidenceError: As :meth:`Guard.judge`.
        """
        if self._judges_at_once():
            return at_once(judge, *args)
        call = await off_loop(partial(judge, *args), undo=self._guard.withdraw)
        await self._look_again(call)
        return call

    async def settle(self, call: Call) -> None:
        """Wait for the approval that the call needs, if it needs one, and record its intent.

        Raises:
            Denied: As :meth:`Guard.settle`.
            EvidenceError: As :meth:`Guard.settle`.
        """
        desk = call.desk
        if desk is None:
            return
        steps = Steps()
        suspends: tuple[type[BaseException], ...] = (Exception, *desk.suspends)
        try:
            try:
                answer = await self._point.approvals.decide_async(call, desk, steps)
            except suspends as error:
                await steps.take(partial(self._guard.settle_with, call, partial(_raise, error)))
            else:
                await steps.take(partial(self._guard.settle_with, call, lambda: answer))
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

    async def check(self, call: Call) -> None:
        """Check before a resume that the task still lives; see :meth:`Guard.check`.

        Raises:
            Denied: It does not; the refusal is recorded and the call is over.
        """
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

    async def emit(self, call: Call, item: object) -> None:
        """Judge one item before the consumer gets it; see :meth:`Guard.emit`.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in it; the call is over.
        """
        if self._point.inspectors:
            await off_loop(partial(self._guard.emit, call, item))

    async def succeed(self, call: Call, result: object = None) -> None:
        """Record that the body returned; see :meth:`Guard.succeed`.

        Raises:
            ContentBlocked: The policy withholds what an inspector found in the result.
        """
        if not self._point.inspectors and self._records_at_once(call):
            self._guard.succeed(call, result)
        else:
            await off_loop(partial(self._guard.succeed, call, result))

    async def fail(self, call: Call, error: BaseException, *, closed: bool = False) -> None:
        """Record that the body raised; the caller raises it again.

        Args:
            call: The call.
            error: What the body raised.
            closed: Somebody closes a generator and awaits that. A coroutine that is closed cannot wait any more.
        """
        left = (call.reserved is not None or call.approval is not None) and self._store_waits
        cut = isinstance(error, GeneratorExit) and not closed
        if cut or (not left and self._records_at_once(call)):
            self._guard.fail(call, error)
        else:
            await off_loop(partial(self._guard.fail, call, error))

    async def refuse(self, values: Mapping[str, object], denied: Denied) -> Denied:
        """Record a refusal that was reached outside any task, and return it; see :meth:`Guard.refuse`."""
        return await off_loop(partial(self._guard.refuse, values, denied))

    def _judges_at_once(self) -> bool:
        """Tell whether a call of now can be judged without waiting."""
        try:
            task = self._point.ambience.current()
        except Exception:  # noqa: BLE001  A defect of ours; the guard meets it as well, and refuses with a code.
            return False
        takes = task is not None and self._store_waits and bool(task.limits)
        return not (takes or self._guard.slow) and self._is_known(task)

    def _is_known(self, task: Task | None) -> bool:
        """Tell whether the task can be looked at, and what becomes of it recorded, without waiting."""
        if not self._writes_at_once(task):
            return False
        try:
            return task is None or not (task.lease.watched or not self._point.revocations.is_current())
        except Exception:  # noqa: BLE001  As above: a store that was closed meanwhile, for one.
            return False

    def _writes_at_once(self, task: Task | None) -> bool:
        """Tell whether a record of the task is one write, and nothing has to be read for it."""
        point = self._point
        try:
            return point.ledger.at_once and point.digests.knows(point.ledger.stream if task is None else task.id)
        except Exception:  # noqa: BLE001  As above: a stream that cannot begin.
            return False

    def _records_at_once(self, call: Call) -> bool:
        point = self._point
        inline = point.inline or type(call.span) is Borrowed
        return (not inline or point.spans.signs_at_once) and self._writes_at_once(call.task)


def _raise(error: BaseException) -> NoReturn:
    raise error
