"""Statements of the host about the inputs of a task: what the principal said, and what others wrote."""

from collections.abc import Callable
from typing import Final, final

from agent_identity._flow.labels import INTEGRITIES, Label
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.sessions.admission import record_denied
from agent_identity._guard.tasks.task import Task
from agent_identity._record.parts import Action
from agent_identity.errors import Denied

_MAX_TEXT: Final = 1_048_576


def checked_text(text: object, what: str) -> str:
    """Return a text of the host; frameworks give texts of classes of their own, such as LangChain's ``message.text``.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It is empty or too long.
    """
    if not isinstance(text, str):
        raise TypeError(f"{what} is {type(text).__name__}; give a str")
    text = str.__str__(text)
    if not 0 < len(text) <= _MAX_TEXT:
        raise ValueError(f"{what} has {len(text):,} characters; give 1 to {_MAX_TEXT:,}")
    return text


@final
class Statements:
    """Takes in statements, from host code alone.

    Args:
        enforcement: The enforcement point.
        forbid: Refuses what a guarded body does.
    """

    __slots__ = ("_enforcement", "_forbid")

    def __init__(self, enforcement: EnforcementContext, forbid: Callable[[str, str, str], None]) -> None:
        self._enforcement = enforcement
        self._forbid = forbid

    def __call__(self, task: Task, text: str, integrity: str | None) -> None:
        """Take in a text; see :meth:`Task.said` and :meth:`Task.received`."""
        act = "task.said" if integrity is None else "task.received"
        checked_text(text, "text")
        if integrity is not None and integrity not in INTEGRITIES:
            raise ValueError("the integrity is no known word; use trusted, unknown or untrusted")
        if integrity in (None, "trusted"):
            self._forbid(act, "flow", "said_in_body")
            if not task.handed.opened_here:
                self._refuse(task, act)
        self._enforcement.check(task)
        if task.flow is None:
            return
        if integrity is None:
            task.flow.said(text)
        else:
            task.flow.received(text, Label(integrity))

    def _refuse(self, task: Task, act: str) -> None:
        denied = Denied(
            f"{act}: only the task that the host opened hears its principal, and this is a delegated or accepted one; "
            "say it where the task was opened",
            code="said_by_delegate",
        )
        enforcement, monitored = self._enforcement, self._enforcement.mode == "monitor"
        start_ns, action = enforcement.clock.wall_ns(), Action(tool=act, kind="flow")
        record_denied(enforcement, denied, action, parent=task, start_ns=start_ns, monitored=monitored)
        if not monitored:
            raise denied
