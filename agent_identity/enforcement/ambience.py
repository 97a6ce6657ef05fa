"""Where the current task is found: in the OpenTelemetry context, never decided there.

The context *finds* the authority, the task registry *decides* whether it still lives. The task travels
in the OpenTelemetry context because threads and executors instrumented by others carry that one.
"""

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import Final, ParamSpec, TypeVar, cast, final

from opentelemetry import context as otel
from opentelemetry.context import Context

from agent_identity.enforcement.task import Task

__all__ = ["Ambience"]

P = ParamSpec("P")
R = TypeVar("R")

_PROBE: Final[ContextVar[None]] = ContextVar("agent_identity_probe", default=None)


@final
class Ambience:
    """The slot of one enforcer in the OpenTelemetry context."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = otel.create_key("agent_identity.task")

    def renew(self) -> None:
        """Lose sight of every task so far, as a forked child must: its parent's tasks are not its own."""
        self._key = otel.create_key("agent_identity.task")

    def current(self) -> Task | None:
        """Return the task of this enforcer in the current context, alive or not."""
        return cast("Task | None", otel.get_value(self._key))

    def sees(self, context: Context | None) -> bool:
        """Tell whether a context holds a task of this process, alive or not."""
        return otel.get_value(self._key, context) is not None

    def holding(self, task: Task, context: Context | None = None) -> Context:
        """Return a copy of a context (default: the current one) that holds the task."""
        return otel.set_value(self._key, task, context)

    def without_task(self) -> Context:
        """Return a copy of the current context in which no task of this enforcer is open."""
        return otel.set_value(self._key, None)

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function bound to the context of now, for threads, executors and callbacks."""
        captured = otel.get_current()
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_async(*args: P.args, **kwargs: P.kwargs) -> object:
                with attached(captured):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", bound_async)

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with attached(captured):
                return function(*args, **kwargs)

        return bound


@contextmanager
def attached(context: Context) -> Generator[None]:
    """Make a context current for the block; for use where entry and exit share a thread and a task."""
    token = otel.attach(context)
    try:
        yield
    finally:
        otel.detach(token)


@final
class Attachment:
    """An attached context whose detaching may happen elsewhere, as when a framework closes for us.

    OpenTelemetry's ``detach`` logs an error where the context is another one. Then there is nothing to
    detach: that other context is not ours to change, and the registry has ended the authority anyway.
    """

    __slots__ = ("_probe", "_token")

    def __init__(self, context: Context) -> None:
        self._probe: Token[None] | None = _PROBE.set(None)
        self._token = otel.attach(context)

    def release(self) -> None:
        """Detach if this is still the context in which the attachment was made; idempotent."""
        probe, self._probe = self._probe, None
        if probe is None:
            return
        try:
            _PROBE.reset(probe)
        except ValueError:
            return
        otel.detach(self._token)
