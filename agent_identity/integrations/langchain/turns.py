"""Model turns and threads of LangChain that a task has seen; a call of another turn may come from anywhere."""

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from typing import Any, Final, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import ensure_config
from langchain_core.tracers.context import register_configure_hook

from agent_identity.adapters import read_thread, run_began, saw_calls

__all__ = ["thread_of", "watch_turns"]

_THREAD: Final = "thread_id"


def thread_of(settings: object) -> str | None:
    """Return the name of the LangGraph thread that a configuration or its metadata names, if any.

    Args:
        settings: The configurable settings, or the metadata.
    """
    known = cast("Mapping[str, object]", settings if isinstance(settings, Mapping) else {})
    return f"langgraph:{known[_THREAD]}" if _THREAD in known else None  # Checkpointers keep messages for None as well.


class _Watches(BaseCallbackHandler):
    """Ignores all events except those that a subclass enables; plain values where LangChain computes each time."""

    ignore_agent = ignore_chain = True  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    ignore_chat_model = ignore_llm = True  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    ignore_custom_event = True  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]
    ignore_retriever = ignore_retry = True  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]


class TurnsSeen(_Watches):
    """Tells the open tasks which calls a chat model has asked for, and which threads go on with an earlier run."""

    run_inline = True
    ignore_chain = ignore_llm = False  # pyright: ignore[reportIncompatibleMethodOverride]

    def on_llm_end(self, response: LLMResult, **_: object) -> None:
        """Take in one answer of a model; called by LangChain.

        Args:
            response: The answer.
        """
        saw_calls(call for one in response.generations for generation in one for call in _calls_of(generation))

    def on_chain_start(
        self,
        serialized: object,  # noqa: ARG002  Its place is LangChain's.
        inputs: object,
        *,
        metadata: Mapping[str, object] | None = None,
        **_: object,
    ) -> None:
        """Note the start of a graph or of a node; called by LangChain.

        Args:
            serialized: Not used.
            inputs: The input; ``None`` or a command if a run is resumed.
            metadata: The metadata of the run.
        """
        in_node = metadata is not None and "langgraph_node" in metadata
        run_began(thread_of(metadata), goes_on=inputs is None or _is_command(inputs), in_node=in_node)


class ThreadsRead(_Watches):
    """Joins the marks of the open tasks and of a thread before a model reads the thread.

    It asks the shared state, so LangChain runs it in a thread beside the event loop. If it fails, the model does not
    run.
    """

    raise_error = True
    ignore_chat_model = ignore_llm = False  # pyright: ignore[reportIncompatibleMethodOverride]

    def on_chat_model_start(self, *_: object, metadata: Mapping[str, object] | None = None, **__: object) -> None:
        """Enter the thread that a chat model is about to read; called by LangChain.

        Args:
            metadata: The metadata of the run.

        Raises:
            Denied: The shared state does not answer (``state_unavailable``).
            EvidenceError: The mark could not be recorded.
        """
        read_thread(thread_of(ensure_config().get("configurable")) or thread_of(metadata))

    on_llm_start = on_chat_model_start  # pyright: ignore[reportAssignmentType]


def _is_command(inputs: object) -> bool:
    """Return whether the input of a graph is a command; without LangGraph, none is."""
    types = sys.modules.get("langgraph.types")
    return types is not None and isinstance(inputs, types.Command)


def _calls_of(generation: object) -> list[str]:
    """Return the ids of the calls in one answer."""
    message = generation.message if isinstance(generation, ChatGeneration) else None
    return (
        [call["id"] for call in message.tool_calls if call["id"] is not None] if isinstance(message, AIMessage) else []
    )


_TURNS_SEEN: Final[Any] = TurnsSeen()
_THREADS_READ: Final[Any] = ThreadsRead()
_TURNS: Final = ContextVar[Any]("agent_identity_langchain_turns", default=_TURNS_SEEN)
_THREADS: Final = ContextVar[Any]("agent_identity_langchain_threads", default=_THREADS_READ)


@cache
def watch_turns() -> None:
    """Register the handlers for all chat models of this process, once."""
    for handler in (_TURNS, _THREADS):
        register_configure_hook(cast("ContextVar[Any | None]", handler), inheritable=True)
