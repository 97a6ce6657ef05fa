"""Guarded blocks of code: an API call, a query, a file operation."""

import threading
from types import TracebackType
from typing import final

from agent_identity._guard.calls.call import Call, CallRequest, Shown
from agent_identity._guard.lifecycle.steps import CallSteps
from agent_identity._guard.tasks.task import Task
from agent_identity.errors import Denied


@final
class Action:
    """A guarded block; a single-use context manager for ``with`` and ``async with``.

    Received from :meth:`Enforcer.action` and :meth:`GuardedCall.block`.
    """

    __slots__ = ("_call", "_entered", "_request", "_steps")

    def __init__(self, steps: CallSteps, request: CallRequest) -> None:
        self._steps = steps
        self._request = request._replace(can_route=False)
        self._call: Call | None = None
        self._entered = threading.Lock()  # The first to enter takes it; no one waits for it.

    def __enter__(self) -> Call:
        steps = self._steps
        if not self._entered.acquire(blocking=False):
            raise steps.refuse(self._request.arguments, *self._again())
        try:
            call = steps.judge(self._request)
            steps.settle(call)
        except BaseException:
            self._entered.release()
            raise
        return self._begin(call)

    async def __aenter__(self) -> Call:
        steps = self._steps
        if not self._entered.acquire(blocking=False):
            raise await steps.refuse_async(self._request.arguments, *self._again())
        try:
            call = await steps.judge_async(self._request)
            await steps.settle_async(call)
        except BaseException:
            self._entered.release()
            raise
        return self._begin(call)

    def _again(self) -> tuple[Denied, Task | None]:
        text = f"{self._steps.tool.name}: an action guards one block; call enforcer.action(...) again for the next"
        return Denied(text, code="already_entered"), self._steps.current_task

    def _begin(self, call: Call) -> Call:
        self._call = call
        if call.flow is not None:
            call.flow.hidden = True  # The block need not report what it reads.
        call.attach()
        return call

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call = self._call
        if call is None:
            return
        call.detach()
        if error is None:
            self._steps.end(call, _held(call), "resource")
        else:
            self._steps.fail(call, error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call = self._call
        if call is None:
            return
        call.detach()
        if error is None:
            await self._steps.end_async(call, _held(call), "resource")
        else:
            await self._steps.fail_async(call, error)


def _held(call: Call) -> Shown:
    """Return the result of a block as one that cannot be changed: the block has it already."""
    # The guard hands nothing out, so a result that is going to run stays with the block.
    result = call.result
    if type(result) is not Shown:
        return Shown(result, result)
    return Shown(result.value, result.content, result.failure, label=result.label)
