"""Where the current task is found: in the OpenTelemetry context, never decided there.

The context *finds* the authority, the task registry *decides* whether it still lives. The task travels
in the OpenTelemetry context because threads and executors instrumented by others carry that one.
The guarded bodies that run around a piece of code are found there as well (ADR 0057).
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

from agent_identity.authority import Lease
from agent_identity.enforcement.task import Task
from agent_identity.errors import GrantExpired, NoTask
from agent_identity.identity import Clock

__all__ = [
    "Ambience",
    "Attachment",
    "Body",
    "Process",
    "attached",
    "bodies_around",
    "marked_as_here",
    "outer_task",
    "task_in",
]

P = ParamSpec("P")
R = TypeVar("R")

_TOP: Final[ContextVar["Attachment | None"]] = ContextVar("agent_identity_top", default=None)
_BODIES: Final = otel.create_key("agent_identity.bodies")
"""One key for all enforcers of the process; a forked child keeps it, for it may still be in such a body."""


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
class Body:
    """The marker of a guarded body in the context in which it runs.

    It counts while the body runs, and while the task lives whose authority the body has: what the body started in
    the background is still part of it.

    Attributes:
        task: The task under which the body runs.
        ambience: The slot of the enforcer that guards it.
        over: Whether the body has ended.
    """

    __slots__ = ("_home", "ambience", "over", "task")

    def __init__(self, task: Task, ambience: "Ambience") -> None:
        self.task = task
        self.ambience = ambience
        self.over = False
        self._home = Process.here

    @property
    def is_here(self) -> bool:
        """Whether it began in this process, and not in one that this one was forked from."""
        return self._home is Process.here

    @property
    def root(self) -> Lease:
        """The lease of the whole task, of which the body may have only a delegated part."""
        lease = self.task.lease
        while lease.parent is not None:
            lease = lease.parent
        return lease

    def counts(self) -> bool:
        """Return whether what is forbidden to the body is still forbidden."""
        if self.is_here and not self.over:
            return True
        try:
            self.root.check(self.ambience.clock)
        except (NoTask, GrantExpired):
            return False
        except Exception:  # noqa: BLE001 - Authority fails closed: a task that may live counts as one that does.
            return True
        return True


def bodies_around(context: Context | None = None) -> tuple[Body, ...]:
    """Return the guarded bodies that count in a context, the innermost last, whichever enforcers guard them.

    Args:
        context: The context; by default the current one.
    """
    return tuple(body for body in _marked(context) if body.counts())


@final
class _Bodies(tuple["Body", ...]):
    """The guarded bodies of a context, as they are kept there: a class of its own tells them from anything else."""

    __slots__ = ()


def _bodies_of(value: object) -> tuple[Body, ...]:
    return value if type(value) is _Bodies else ()


def outer_task(task_id: str) -> str | None:
    """Return the id of the task in whose guarded body this runs, if it is another one than the named one."""
    bodies = bodies_around()
    return bodies[-1].task.id if bodies and bodies[-1].task.id != task_id else None


def _marked(context: Context | None) -> tuple[Body, ...]:
    found = _bodies_of(otel.get_value(_BODIES, context))
    top = _TOP.get() if context is None else None
    if top is None or top.bodies is found:
        return found
    # Others may have put another context in the place of ours, as those do that extract one from a message.
    return (*(body for body in top.bodies if body not in found), *found)


def _beside(body: Body, around: tuple[Body, ...]) -> tuple[Body, ...]:
    """Return the markers round a body and its own, which also stands for bodies of its task that are over."""
    root = body.root
    return (*(b for b in around if not b.over or (b.root is not root and b.counts())), body)


def marked_as_here(captured: Context) -> Context:
    """Return a context that was captured elsewhere with the markers of the current one, which nothing takes off.

    Args:
        captured: The context, which may have markers of its own.
    """
    here, there = _marked(None), _marked(captured)
    missing = tuple(body for body in here if body not in there)
    return otel.set_value(_BODIES, _Bodies((*there, *missing)), captured) if missing else captured


@final
class Ambience:
    """The slot of one enforcer in the OpenTelemetry context.

    Args:
        clock: Source of time of the enforcer.
        enforced: Whether it enforces; in monitor mode it only records.
    """

    __slots__ = ("_key", "_of_body", "clock", "enforced")

    def __init__(self, clock: Clock, *, enforced: bool) -> None:
        self.clock = clock
        self.enforced = enforced
        self._key = otel.create_key("agent_identity.task")
        self._of_body = bool(bodies_around())

    def renew(self) -> None:
        """Lose sight of every task so far, as a forked child must: its parent's tasks are not its own."""
        self._key = otel.create_key("agent_identity.task")

    def current(self, context: Context | None = None) -> Task | None:
        """Return the task of this enforcer in a context (default: the current one), alive or not."""
        found = (otel.get_current() if context is None else context).get(self._key)
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

    def running(self, task: Task | None, context: Context) -> tuple[Context, Body | None]:
        """Return the context in which the body of a call runs, and its marker there; none outside any task."""
        if task is None:
            return context, None
        body = Body(task, self)
        around = _bodies_of(context.get(_BODIES))
        return otel.set_value(_BODIES, _Bodies(_beside(body, around) if around else (body,)), context), body

    @contextmanager
    def unmarked(self) -> Generator[None]:
        """Run code that the application gave to the enforcer, an inspector for one, as code of no body.

        So it is asked alike, whether a body makes the call or not. What a body gave to an enforcer that it opened
        itself stays code of that body.
        """
        if self._of_body or not _marked(None):
            yield
            return
        around = Attachment(otel.set_value(_BODIES, ()))
        try:
            yield
        finally:
            around.release()

    def without(self) -> Context:
        """Return a copy of the current context that holds no task; the markers of bodies stay."""
        return otel.set_value(Process.any_task, None, otel.set_value(self._key, None))

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Return the function bound to the context of now, for threads, executors and callbacks.

        The bodies in which it is called stay marked.
        """
        captured = otel.get_current()
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def bound_async(*args: P.args, **kwargs: P.kwargs) -> object:
                with attached(marked_as_here(captured)):
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", bound_async)

        @functools.wraps(function)
        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            with attached(marked_as_here(captured)):
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
        bodies: The guarded bodies of the attached context.
    """

    __slots__ = ("_probe", "_token", "below", "bodies")

    def __init__(self, context: Context) -> None:
        self.bodies = _bodies_of(context.get(_BODIES))
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
