"""Sessions and conversations of OpenAI Agents SDK runs, as threads whose marks go on in later tasks.

The SDK does not pass the session of a run to its tools, so patched methods of ``Runner`` note it. The patch applies on
import of this module, because ``Runner.run(protect(agent, enforcer))`` looks up its method before it protects.
"""

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Final, cast

from agents import Runner

from agent_identity.integrations.method_patch import MethodPatch

__all__ = ["thread"]

_FRAMEWORK: Final = "openai-agents"

_RUN: ContextVar[tuple[object, str | None] | None] = ContextVar("agent_identity_openai_agents_run", default=None)
"""The session of the innermost run that has one, or the id of its conversation at the provider."""


def thread() -> str | None:
    """Return the name of the session or conversation of the current run, for the mark that goes on in it."""
    run = _RUN.get()
    if run is None:
        return None
    session, conversation = run
    known: object = conversation if session is None else getattr(session, "session_id", None)
    if not isinstance(known, str):
        raise TypeError("the session of the run has no session_id; give it one")
    return f"{_FRAMEWORK}:{known}"


def _noting_async(current: object) -> object:
    """Wrap an asynchronous method that runs agents, to note the session of the run."""
    original = cast("Any", current)
    method = original.__get__(None, Runner)
    signature = inspect.signature(method)

    @wraps(method)
    async def run(cls: type[Runner], /, *args: object, **kwargs: object) -> object:
        with _noted(signature, args, kwargs):
            return cast("object", await original.__get__(None, cls)(*args, **kwargs))

    return classmethod(run)


def _noting(current: object) -> object:
    """Wrap a plain method that runs agents, to note the session of the run."""
    original = cast("Any", current)
    method = original.__get__(None, Runner)
    signature = inspect.signature(method)

    @wraps(method)
    def run(cls: type[Runner], /, *args: object, **kwargs: object) -> object:
        with _noted(signature, args, kwargs):
            return cast("object", original.__get__(None, cls)(*args, **kwargs))

    return classmethod(run)


@contextmanager
def _noted(signature: inspect.Signature, args: tuple[object, ...], kwargs: dict[str, object]) -> Generator[None]:
    """Note the session of a run in this block; a run without one belongs to the run around it."""
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:  # The method itself says what is wrong.
        given = {}
    session, conversation = given.get("session"), given.get("conversation_id")
    token = None if session is None and conversation is None else _RUN.set((session, conversation))
    try:
        yield
    finally:
        if token is not None:
            _RUN.reset(token)


_RUNS: Final = MethodPatch(Runner, {"run": _noting_async, "run_sync": _noting, "run_streamed": _noting})
_RUNS.apply()
