"""One guarded call of Pydantic AI: of a tool, or of a model."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from typing import Final, NamedTuple, cast

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import ModelResponse

from agent_identity.adapters import Call, ToolCall, ToolGuards, safe_message
from agent_identity.errors import AgentIdentityError, Denied

__all__ = [
    "SUSPENDS",
    "Asked",
    "agent_name",
    "conversation",
    "guarded",
    "is_of_run",
    "is_spliced",
    "outermost",
    "running",
    "thread",
]

SUSPENDS: Final = (ApprovalRequired, CallDeferred)
"""The exceptions by which a tool is deferred."""


class Asked(NamedTuple):
    """A run, with what the application passed to it. Frozen.

    Attributes:
        run_id: Its id.
        spoken: The texts of the user in its prompt and in its history.
    """

    run_id: str | None
    spoken: frozenset[str]


running: Final = ContextVar[RunContext[object] | None]("agent_identity_pydantic_ai_run", default=None)
"""The run context of the current call of a tool, or of the model."""

outermost: Final = ContextVar["Asked | None"]("agent_identity_pydantic_ai_outermost", default=None)
"""The outermost run here: what runs within it is asked by a model, a hook or a validator."""

_LOG: Final = logging.getLogger("agent_identity")


async def guarded(guards: ToolGuards, asked: ToolCall, body: Callable[[Call], Awaitable[object]]) -> object:
    """Run a body under guard; a guard that fails refuses.

    Args:
        guards: The guards.
        asked: The call.
        body: Runs if the call may. What it raises is raised unchanged.

    Raises:
        Denied: The call is refused, or its result withheld.
    """
    raised = list[BaseException]()

    async def noted(call: Call) -> object:
        try:
            return await body(call)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        return await guards.run_async(asked, noted)
    except Denied:
        raise
    except Exception as error:
        if any(error is each for each in raised) or isinstance(error, SUSPENDS):
            raise
        _LOG.error("the guard of %s failed, the call is refused: %s", asked.name, safe_message(error))
        code = error.code if isinstance(error, AgentIdentityError) else "guard_failed"
        raise Denied(f"{asked.name}: not guarded, and therefore refused; see the log", code=code) from None


def agent_name(ctx: RunContext[object] | None) -> str | None:
    """Return the name of the agent of a run, if it has one.

    Args:
        ctx: The context of the run.
    """
    return None if ctx is None or ctx.agent is None else ctx.agent.name


def is_of_run(ctx: RunContext[object]) -> bool:
    """Return whether the model asked for the current call in this run, and not in one that this run goes on from.

    Args:
        ctx: The context of the run, with the call.
    """
    responses = [one for one in ctx.messages if isinstance(one, ModelResponse)]
    own = [one for one in responses if ctx.run_id is not None and getattr(one, "run_id", None) == ctx.run_id]
    return any(call.tool_call_id == ctx.tool_call_id for one in own for call in one.tool_calls)


def thread() -> str | None:
    """Return the name of the conversation in which the messages began, for the mark that goes on in it.

    A conversation with a new id may go on with the messages of an earlier one.
    """
    ctx = running.get()
    known = None if ctx is None else next(_conversations(ctx), getattr(ctx, "conversation_id", None))
    return None if known is None else f"pydantic-ai:{known}"


def is_spliced(ctx: RunContext[object]) -> bool:
    """Return whether messages belong to conversations other than the current one and the one in which they began.

    Args:
        ctx: The context of the run.
    """
    first, own = next(_conversations(ctx), None), getattr(ctx, "conversation_id", None)
    return any(one not in (first, own) for one in _conversations(ctx))


def _conversations(ctx: RunContext[object]) -> Iterator[str]:
    known = (cast("str | None", getattr(message, "conversation_id", None)) for message in ctx.messages)
    return (one for one in known if one is not None)


def conversation() -> str | None:
    """Return the conversation of the current call."""
    ctx = running.get()
    return None if ctx is None else ctx.conversation_id or ctx.run_id
