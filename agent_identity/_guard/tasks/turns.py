"""What adapters tell the open tasks of models and threads: where no one tells, content has unknown integrity.

Hooks of frameworks often know no enforcer, so that these functions are about the tasks of the current context, of
whichever enforcer. Without information flow they do nothing.
"""

from collections.abc import Generator, Iterable
from functools import partial
from typing import Final

from agent_identity._guard.tasks.remembered import key_of
from agent_identity._guard.tasks.task_context import tasks_in
from agent_identity._guard.tasks.task_flow import TaskFlow
from agent_identity.errors import AgentIdentityError, Denied

_AWAY: Final = "the shared state with the marks of threads does not answer; see the log, and try again when it does"


def saw_calls(calls: Iterable[str]) -> None:
    """Have the open tasks know what a model has just asked for; calls of other turns have unknown integrity.

    Args:
        calls: The ids of the calls, or other texts that tell a turn; read only where information flow is on.
    """
    flows = [task.flow for task in tasks_in() if task.flow is not None]
    seen = set(calls) if flows else ()
    for flow in flows:
        flow.shared.saw(seen)


def run_began(thread: str | None, *, goes_on: bool, in_node: bool) -> None:
    """Have the live open tasks know that a run of a graph began, or a node in it.

    A run without an input resumes an earlier one, unless a node of the thread has started here before.

    Args:
        thread: The name of the thread, with the name of the framework first; ``None`` does nothing.
        goes_on: The run has no input of its own.
        in_node: It is a part of another run, and may have a thread of its own, which nobody names.
    """
    if goes_on or in_node:
        for flow, key in _threads(thread):
            flow.shared.begin_run(None if goes_on and in_node else key, goes_on=goes_on)


def read_thread(thread: str | None) -> None:
    """Join the marks of the live open tasks and of a thread, before a model reads it; this may block.

    Args:
        thread: The name of the thread, with the name of the framework first; ``None`` does nothing.

    Raises:
        Denied: The shared state does not answer (``state_unavailable``).
        EvidenceError: The mark could not be recorded.
    """
    for flow, key in _threads(thread):
        failed = flow.guarded(partial(flow.enter, key, joins=True))
        if failed is not None:
            raise failed if isinstance(failed, AgentIdentityError) else Denied(_AWAY, code="state_unavailable")


def _threads(name: str | None) -> Generator[tuple[TaskFlow, str]]:
    """Yield the flows of the live open tasks, each with the key of the thread."""
    if name is None:
        return
    for task in tasks_in():
        if task.flow is not None and task.lease.live:
            yield task.flow, key_of(name)
