"""Model turns of LangChain that a task has seen: a call that comes from another turn may come from anywhere."""

from contextvars import ContextVar
from functools import cache
from typing import Any, Final, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers.context import register_configure_hook

from agent_identity._enforcement.tasks import tasks_in

__all__ = ["watch_turns"]


_IGNORED: Final = property(lambda _: True)


class TurnsSeen(BaseCallbackHandler):
    """Tells the open tasks which calls a chat model has asked for."""

    run_inline = True
    ignore_agent = ignore_chain = ignore_chat_model = _IGNORED  # pyright: ignore[reportIncompatibleMethodOverride]
    ignore_custom_event = ignore_retriever = _IGNORED  # pyright: ignore[reportIncompatibleMethodOverride]
    ignore_retry = _IGNORED  # pyright: ignore[reportIncompatibleMethodOverride]

    def on_llm_end(self, response: LLMResult, **_: object) -> None:
        """Take in one answer of a model; called by LangChain.

        Args:
            response: The answer.
        """
        flows = [task.flow for task in tasks_in() if task.flow is not None]
        if not flows:
            return
        calls = {call for one in response.generations for generation in one for call in _calls_of(generation)}
        for flow in flows:
            flow.saw(calls)


def _calls_of(generation: object) -> list[str]:
    """Return the ids of the calls in one answer."""
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return (
        [call["id"] for call in message.tool_calls if call["id"] is not None] if isinstance(message, AIMessage) else []
    )


_HANDLER: Final[Any] = TurnsSeen()
_SEEN: Final = ContextVar[Any]("agent_identity_langchain_turns", default=_HANDLER)


@cache
def watch_turns() -> None:
    """Have LangChain tell the answers of all chat models of this process, once."""
    register_configure_hook(cast("ContextVar[Any | None]", _SEEN), inheritable=True)
