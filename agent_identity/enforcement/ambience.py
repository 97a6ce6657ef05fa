"""Where the current task is found: in the OpenTelemetry context, never decided there.

The context *finds* the authority, the task registry *decides* whether it still lives. The task travels
in the OpenTelemetry context because threads and executors instrumented by others carry that one.
"""

import functools
import inspect
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import ClassVar, Final, ParamSpec, TypeVar, cast, final

from opentelemetry import context as otel
from opentelemetry.context import Context

from agent_identity.enforcement.task import Task

__all__ = ["Ambience", "Process", "task_in"]

P = ParamSpec("P")
R = TypeVar("R")

_TOP: Final[ContextVar["Attachment | None"]] = ContextVar("agent_identity_top", default=None)


@final
class Process:
    """This process, told from those that it was forked from.

    Attributes:
        here: Equal to itself for as long as the process lives, and another object in each forked child.
        any_task: The key in the context of the innermost task, whichever enforcer opened it.
    """

    here: ClassVar[object] = object()
    any_task: ClassVar[str] = otel.create_key("agent_identity.any_task")


def _after_fork_in_child() -> None:
    Process.here = object()
    Process.any_task = otel.create_key("agent_identity.any_task")


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)


@final
class Ambience:
    """The slot of one enforcer in the OpenTelemetry context."""

    __slots__ = ("_key",)

    def __init__(self) -> None:
        self._key = otel.create_key("agent_identity.task")

    def renew(self) -> None:
        """Lose sight of every task so far, as a forked child must: its parent's tasks are not its own."""
        self._key = otel.create_key("agent_identity.task")

    def current(self, context: Context | None = None) -> Task | None:
        """Return the task of this enforcer in a context (default: the current one), alive or not."""
        found = otel.get_value(self._key, context)
        return found if isinstance(found, Task) else None

    def missing(self) -> str:
        """Say what is here in place of a task of this enforcer, for the message of a refusal, and how to go on."""
        if any(isinstance(value, Task) for value in otel.get_current().values()):
            return (
                "got one of another enforcer, or from before a fork; open the directory once, use that enforcer for "
                "the tools and for the tasks, and in a forked child open a task of its own"
            )
        return "got none; open one by 'with enforcer.task(...)', and carry it into threads with enforcer.bind(...)"

    def sees(self, context: Context | None) -> bool:
        """Tell whether a context holds a task of this process, alive or not."""
        return otel.get_value(self._key, context) is not None

    def holding(self, task: Task, context: Context | None = None) -> Context:
        """Return a copy of a context (default: the current one) that holds the task."""
        return otel.set_value(Process.any_task, task, otel.set_value(self._key, task, context))

    def without(self) -> Context:
        """Return a copy of the current context that holds no task."""
        return otel.set_value(Process.any_task, None, otel.set_value(self._key, None))

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


def task_in(context: Context | None = None) -> Task | None:
    """Return the innermost task of a context, alive or not, whichever enforcer opened it; for telemetry only.

    Guards ask their own enforcer: a task of another one gives no authority (ADR 0010).

    Args:
        context: The context; by default the current one.
    """
    return cast("Task | None", otel.get_value(Process.any_task, context))


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
    Whoever is released takes with it what was attached on top of it; that is not there any more when it
    is released itself, and brings nothing back.

    Attributes:
        below: What was attached before in this context.
    """

    __slots__ = ("_probe", "_token", "below")

    def __init__(self, context: Context) -> None:
        self.below: Attachment | None = _TOP.get()
        self._probe: Token[Attachment | None] | None = _TOP.set(self)
        self._token = otel.attach(context)

    def release(self) -> None:
        """Detach if this is still attached, in the context in which it was made; idempotent."""
        probe, self._probe = self._probe, None
        if probe is None:
            return
        top = _TOP.get()
        while top is not self:
            if top is None:
                return
            top = top.below
        try:
            _TOP.reset(probe)
        except ValueError:
            return
        otel.detach(self._token)
