"""The session of an agent of Strands, as the thread in which the mark of its calls goes on."""

from contextvars import ContextVar
from typing import Final

__all__ = ["SESSION", "session", "thread"]

SESSION: Final[ContextVar[str | None]] = ContextVar("agent_identity_strands_session", default=None)
"""The session of the agent that makes the call that is judged."""


def session() -> str | None:
    """Return the session of the current call, which is the conversation of the agent."""
    return SESSION.get()


def thread() -> str | None:
    """Return the name of the session of the current call, for the mark that goes on in it."""
    known = SESSION.get()
    return None if known is None else f"strands:{known}"
