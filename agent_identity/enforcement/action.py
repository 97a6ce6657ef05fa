"""The guard round any block of code: an API call, a query, a file operation."""

from collections.abc import Mapping
from types import TracebackType
from typing import final

from agent_identity.enforcement.call import Call
from agent_identity.enforcement.guard import Guard
from agent_identity.enforcement.on_loop import OnLoop
from agent_identity.errors import Denied

__all__ = ["Action"]


@final
class Action:
    """A guarded block; a context manager for ``with`` and ``async with``, used once.

    Received from :meth:`Enforcer.action`.
    """

    __slots__ = ("_call", "_guard", "_values")

    def __init__(self, guard: Guard, values: Mapping[str, object]) -> None:
        guard.point.tools.learn(guard.tool)
        self._guard = guard
        self._values = values
        self._call: Call | None = None

    def __enter__(self) -> Call:
        call = self._judge()
        self._guard.settle(call)
        return self._begin(call)

    def _judge(self) -> Call:
        if self._call is not None:
            message = (
                f"{self._guard.tool.name}: an action guards one block; call enforcer.action(...) again for the next"
            )
            current = self._guard.point.ambience.current()
            raise self._guard.refuse(self._values, Denied(message, code="already_entered"), current)
        return self._guard.judge(self._values, tuple(self._values), can_route=False)

    def _begin(self, call: Call) -> Call:
        self._call = call
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
            self._guard.succeed(call, call.result)
        else:
            self._guard.fail(call, error)

    async def __aenter__(self) -> Call:
        guard = OnLoop(self._guard)
        call = await guard.judge(self._judge)
        await guard.settle(call)
        return self._begin(call)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call, guard = self._call, OnLoop(self._guard)
        if call is None:
            return
        call.detach()
        if error is None:
            await guard.succeed(call, call.result)
        else:
            await guard.fail(call, error)
