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

__all__ = ["Ambience", "Process"]

P = ParamSpec("P")
R = TypeVar("R")

_TOP: Final[ContextVar["Attachment | None"]] = ContextVar("agent_identity_top", default=None)


@final
class Process:
    """This process, told from those that it was forked from.

    Attributes:
        here: Equal to itself for as long as the process lives, and another object in each forked child.
    """

    here: ClassVar[object] = object()


def _after_fork_in_child() -> None:
    Process.here = object()


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

    def current(self) -> Task | None:
        """Return the task of this enforcer in the current context, alive or not."""
        return cast("Task | None", otel.get_value(self._key))

    def sees(self, context: Context | None) -> bool:
        """Tell whether a context holds a task of this process, alive or not."""
        return otel.get_value(self._key, context) is not None

    def holding(self, task: Task, context: Context | None = None) -> Context:
        """Return a copy of a context (default: the current one) that holds the task."""
        return otel.set_value(self._key, task, context)

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

    Args:
        context: What to attach.
        waits: If it is released before one that was attached on top of it, it stays below that one and goes
            with it. Otherwise it goes at once, and what is on top of it with it.
    """

    __slots__ = ("_below", "_left", "_probe", "_token", "_waits")

    def __init__(self, context: Context, *, waits: bool = False) -> None:
        self._below = _TOP.get()
        self._left = False
        self._waits = waits
        self._probe: Token[Attachment | None] | None = _TOP.set(self)
        self._token = otel.attach(context)

    def release(self) -> None:
        """Detach if this is still the context in which the attachment was made; idempotent."""
        if self._probe is None:
            return
        if self._waits and self._is_covered():
            self._left = True
            return
        below = self._below
        if not self._undo():
            self._probe = None
            return
        while below is not None and below._left:
            next_below = below._below
            if not below._undo():
                return
            below = next_below

    def _is_covered(self) -> bool:
        """Return whether others were attached on top of this one, in this context, and are still there."""
        top = _TOP.get()
        above = top
        while above is not None and above is not self:
            above = above._below
        return above is self and top is not self

    def _undo(self) -> bool:
        """Return whether this was the context in which the attachment was made, and is not any more."""
        if self._probe is None:
            return False
        try:
            _TOP.reset(self._probe)
        except ValueError:
            return False
        self._probe = self._below = None
        otel.detach(self._token)
        return True
