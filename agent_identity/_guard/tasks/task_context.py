"""Finds the current task in the OpenTelemetry context; the context decides nothing.

The context *finds* the authority, the task registry *decides* whether it still lives. The task travels
in the OpenTelemetry context because instrumented threads and executors carry that context.
The markers of running guarded bodies are in the same context (decision 0008).
"""

import functools
import inspect
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import ClassVar, Final, NamedTuple, ParamSpec, TypeVar, cast, final

from msgspec import Struct
from opentelemetry import context as otel
from opentelemetry.context import Context

from agent_identity._authority.registries.tasks import Lease
from agent_identity._flow.labels import Label
from agent_identity._guard.tasks.task import Task
from agent_identity._identity.common.clock import Clock
from agent_identity.errors import GrantExpired, NoTask

P = ParamSpec("P")
R = TypeVar("R")

_ATTACHED: Final[ContextVar["tuple[Attachment, ...]"]] = ContextVar("agent_identity_attached", default=())
"""The attachments of a context, the innermost last."""
_BODIES: Final = otel.create_key("agent_identity.bodies")
"""One key for all enforcers of the process; a forked child keeps it, because it may still run inside such a body."""


@final
class Process:
    """Identity of this process, distinct in each forked child.

    Attributes:
        here: Equal to itself while the process lives; another object in each forked child.
        any_task: The context key of the innermost task, whichever enforcer opened it.
    """

    here: ClassVar[object] = object()
    any_task: ClassVar[str] = otel.create_key("agent_identity.any_task")


def _after_fork_in_child() -> None:
    Process.here = object()
    Process.any_task = otel.create_key("agent_identity.any_task")


if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Reading(NamedTuple):
    """What a running body may have read: the label of its results, its intent, and its tool."""

    label: Label
    intent: str | None
    tool: str


@final
class Body(Struct, eq=False):
    """Marker of a guarded body in the context in which it runs.

    It counts while the body runs, and while the task lives whose authority the body has: background work that the
    body started is still part of it.

    Attributes:
        task: The body's task.
        task_context: The slot of the enforcer that guards the body.
        home: The process in which the body began.
        over: True once the body has ended.
        reads: What the body may have read, where information flow is on.
    """

    task: Task
    task_context: "TaskContext"
    home: object
    over: bool = False
    reads: Reading | None = None

    @property
    def is_here(self) -> bool:
        """True if the body began in this process, not in one that this process was forked from."""
        return self.home is Process.here

    @property
    def root(self) -> Lease:
        """The lease of the whole task; the body may have only a delegated part."""
        lease = self.task.lease
        while lease.parent is not None:
            lease = lease.parent
        return lease

    def counts(self) -> bool:
        """Return whether the body's restrictions still apply."""
        if self.is_here and not self.over:
            return True
        try:
            self.root.check(self.task_context.clock)
        except (NoTask, GrantExpired):
            return False
        except Exception:  # noqa: BLE001 - Authority fails closed: a task that may live counts as one that does.
            return True
        return True


def bodies_around(context: Context | None = None) -> tuple[Body, ...]:
    """Return the guarded bodies that count in a context, the innermost last, of all enforcers.

    Args:
        context: The context; by default the current one.
    """
    marked = _marked(context)
    return tuple([body for body in marked if body.counts()]) if marked else ()


@final
class _Bodies(tuple["Body", ...]):
    """The guarded bodies in a context; a class of its own, to tell them from other values."""

    __slots__ = ()


def _bodies_of(value: object) -> tuple[Body, ...]:
    return value if type(value) is _Bodies else ()


def outer_task(task_id: str) -> str | None:
    """Return the id of the task whose guarded body this code runs in, if it is not the given task."""
    bodies = bodies_around()
    return bodies[-1].task.id if bodies and bodies[-1].task.id != task_id else None


def _marked(context: Context | None) -> tuple[Body, ...]:
    marked = _bodies_of(otel.get_value(_BODIES, context))
    all_attached = _ATTACHED.get() if context is None else ()
    if not all_attached or all_attached[-1].bodies is marked:
        return marked
    # Other code may have replaced our context, as when it extracts one from a message.
    return (*(body for body in all_attached[-1].bodies if body not in marked), *marked)


def _beside(body: Body, around: tuple[Body, ...]) -> tuple[Body, ...]:
    """Return the markers around a body and its own, which also stands for ended bodies of its task."""
    root = body.root
    return (*(b for b in around if not b.over or (b.root is not root and b.counts())), body)


def marked_as_here(captured: Context) -> Context:
    """Return a captured context with the markers of the current one added; nothing removes those.

    Args:
        captured: The context, which may have markers of its own.
    """
    here, there = _marked(None), _marked(captured)
    missing = tuple(body for body in here if body not in there)
    return otel.set_value(_BODIES, _Bodies((*there, *missing)), captured) if missing else captured


@final
class TaskContext:
    """The slot of one enforcer in the OpenTelemetry context.

    Args:
        clock: Source of time of the enforcer.
        enforced: True in enforce mode; monitor mode only records.
    """

    __slots__ = ("_key", "_of_body", "clock", "enforced")

    def __init__(self, clock: Clock, *, enforced: bool) -> None:
        self.clock = clock
        self.enforced = enforced
        self._key = otel.create_key("agent_identity.task")
        self._of_body = bool(bodies_around())

    def renew(self) -> None:
        """Forget all tasks, as a forked child must: its parent's tasks are not its own."""
        self._key = otel.create_key("agent_identity.task")

    def current(self, context: Context | None = None) -> Task | None:
        """Return the task of this enforcer in a context (default: the current one), alive or not."""
        task = (otel.get_current() if context is None else context).get(self._key)
        return task if isinstance(task, Task) else None

    def missing(self) -> str:
        """Describe the missing task for the message of a refusal, with the cure."""
        if any(isinstance(value, Task) for value in otel.get_current().values()):
            return (
                "the open task is of another enforcer, or from before a fork; open the directory once, use that "
                "enforcer for the tools and for the tasks, and in a forked child open a task of its own"
            )
        return (
            "no task is open; open one by 'with enforcer.task(...)', and carry it into threads with enforcer.bind(...)"
        )

    def sees(self, context: Context | None) -> bool:
        """Return whether a context holds a task of this process, alive or not."""
        return otel.get_value(self._key, context) is not None

    def holding(self, task: Task, context: Context | None = None) -> Context:
        """Return a copy of a context (default: the current one) that holds the task."""
        return otel.set_value(Process.any_task, task, otel.set_value(self._key, task, context))

    def running(self, task: Task | None, context: Context) -> tuple[Context, Body | None]:
        """Return the context for the body of a call, with the body's marker; no marker outside any task."""
        if task is None:
            return context, None
        body, around = Body(task, self, Process.here), context.get(_BODIES)
        bodies = _beside(body, around) if type(around) is _Bodies and around else (body,)
        return Context({**context, _BODIES: _Bodies(bodies)}), body

    @contextmanager
    def unmarked(self) -> Generator[None]:
        """Run code that the application gave the enforcer, such as an inspector, outside any body.

        It then behaves alike whether a body makes the call or not. Code that a body gave to an enforcer which it opened
        itself stays code of that body.
        """
        if self._of_body or not _marked(None):
            yield
            return
        around = Attachment(otel.set_value(_BODIES, ())).attach()
        try:
            yield
        finally:
            around.release()

    @contextmanager
    def hidden(self) -> Generator[None]:
        """Hide the current task; the markers of bodies stay."""
        around = Attachment(marked_as_here(self.without())).attach()
        try:
            yield
        finally:
            around.release()

    def without(self) -> Context:
        """Return a copy of the current context that holds no task; the markers of bodies stay."""
        return otel.set_value(Process.any_task, None, otel.set_value(self._key, None))

    def bind(self, function: Callable[P, R]) -> Callable[P, R]:
        """Bind the function to the current context, for threads, executors and callbacks.

        Bodies around the later call stay marked.
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


@contextmanager
def resumed(captured: Context) -> Generator[None]:
    """Run a block in a context that was captured elsewhere, as when a framework calls back.

    The guarded bodies around the block stay marked. The block may be left in another context than it was entered in.

    Args:
        captured: The context, as ``opentelemetry.context.get_current`` returned it.
    """
    around = Attachment(marked_as_here(captured)).attach()
    try:
        yield
    finally:
        around.release()


def task_in(context: Context | None = None) -> Task | None:
    """Return the innermost task of a context, alive or not, of any enforcer; for telemetry only.

    Guards ask their own enforcer: another enforcer's task gives no authority (decision 0006).

    Args:
        context: The context; by default the current one.
    """
    return cast("Task | None", otel.get_value(Process.any_task, context))


def tasks_in() -> tuple[Task, ...]:
    """Return the tasks of the current context, alive or not, of all enforcers."""
    return tuple(dict.fromkeys(value for value in otel.get_current().values() if isinstance(value, Task)))


@contextmanager
def attached(context: Context) -> Generator[None]:
    """Make a context current for the block; entry and exit must share a thread and a task."""
    token = otel.attach(context)
    try:
        yield
    finally:
        otel.detach(token)


@final
class Attachment(Struct, eq=False):
    """An attached context that may be detached elsewhere, as when a framework closes for us.

    OpenTelemetry's ``detach`` logs an error in another context. Then nothing needs detaching: that context is not
    ours to change, and the registry has ended the authority anyway. Releasing an attachment also releases those
    attached on top of it; releasing one of them later does nothing. What steps a body attaches these again.

    Attributes:
        context: The context.
        bodies: The guarded bodies in it, once it is attached.
    """

    context: Context
    bodies: tuple[Body, ...] = ()
    _probe: "Token[tuple[Attachment, ...]] | None" = None
    _token: Token[Context] | None = None

    def attach(self, again: Context | None = None) -> "Attachment":
        """Attach the context, or what it has become, and return this."""
        context = self.context if again is None else again
        bodies = context.get(_BODIES)
        self.bodies = bodies if type(bodies) is _Bodies else ()
        self._probe = _ATTACHED.set((*_ATTACHED.get(), self))
        self._token = otel.attach(context)
        return self

    def attach_again(self) -> None:
        """Attach what was released with an attachment below it, unless it was released by itself since.

        The markers around it count as well: another body may step what was attached.
        """
        if self._probe is not None:
            self.attach(marked_as_here(self.context))

    def release(self) -> "tuple[Attachment, ...]":
        """Detach if still attached, in the context where it was attached; idempotent.

        Returns:
            The attachments that were on top of it, the lowest first.
        """
        probe, self._probe = self._probe, None
        all_attached = _ATTACHED.get()
        if probe is None or self._token is None or self not in all_attached:
            return ()
        try:
            _ATTACHED.reset(probe)
        except ValueError:
            return ()
        otel.detach(self._token)
        return all_attached[all_attached.index(self) + 1 :]
