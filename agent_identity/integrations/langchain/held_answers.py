"""Answers of models that nobody reads before they were inspected.

LangChain streams a model if a handler of the run takes its stream. Such handlers are left out of the call, and get the
inspected answer as a stream of one chunk afterwards.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config

__all__ = ["HeldAnswer", "taps"]

_IGNORES_STREAMS: Final = (
    None,
    *(getattr(kind, "on_stream_event", None) for kind in (BaseCallbackHandler, AsyncCallbackHandler)),
)
"""The ``on_stream_event`` of a handler that takes no stream events."""


def taps(config: RunnableConfig) -> list[object]:
    """Return the handlers of a run that read what a model writes while it does.

    Args:
        config: The configuration of the run.
    """
    return [handler for handler in _handlers(config) if _taps(handler)]


def _handlers(config: RunnableConfig) -> list[object]:
    callbacks = cast("object", config.get("callbacks"))
    return cast("list[object]", getattr(callbacks, "handlers", callbacks) or [])


def _taps(handler: object) -> bool:
    takes = getattr(type(handler), "on_stream_event", None)
    return hasattr(handler, "tap_output_iter") or takes not in _IGNORES_STREAMS


class HeldAnswer:
    """The answer to one request, which readers of its stream get once it was inspected.

    Args:
        config: The configuration of the run.
    """

    def __init__(self, config: RunnableConfig) -> None:
        self._config = config
        self._readers = taps(config)

    @contextmanager
    def unread(self) -> Generator[None]:
        """Leave the readers out of what runs in this block."""
        if not self._readers:
            yield
            return
        token = var_child_runnable_config.set(self._with(readers=False))
        try:
            yield
        finally:
            var_child_runnable_config.reset(token)

    def tell(self, messages: list[BaseMessage], answered: list[BaseMessage]) -> None:
        """Hand the inspected answer to the readers.

        Args:
            messages: The prompt, as it was sent.
            answered: The messages of the answer, as they are delivered.
        """
        for message in self._said(answered):
            _Said(message=message).invoke(messages, self._with(readers=True))

    async def tell_async(self, messages: list[BaseMessage], answered: list[BaseMessage]) -> None:
        """Do what :meth:`tell` does without blocking the event loop."""
        for message in self._said(answered):
            await _Said(message=message).ainvoke(messages, self._with(readers=True))

    def _said(self, answered: list[BaseMessage]) -> list[AIMessage]:
        return [message for message in answered if isinstance(message, AIMessage)] if self._readers else []

    def _with(self, *, readers: bool) -> RunnableConfig:
        callbacks = cast("object", self._config.get("callbacks"))
        if not isinstance(callbacks, BaseCallbackManager):
            kept = [handler for handler in _handlers(self._config) if _taps(handler) is readers]
            return {**self._config, "callbacks": cast("Any", kept)}
        manager = callbacks.copy()
        for handler in [*manager.handlers, *manager.inheritable_handlers]:
            if _taps(handler) is not readers:
                _remove(manager, handler)
        return {**self._config, "callbacks": manager}


def _remove(manager: BaseCallbackManager, handler: BaseCallbackHandler) -> None:
    for handlers in (manager.handlers, manager.inheritable_handlers):
        if handler in handlers:
            handlers.remove(handler)


class _Said(BaseChatModel):
    """Says one message again."""

    message: AIMessage

    @property
    def _llm_type(self) -> str:
        return "agent-identity-inspected"

    # The parameters are those of the base class.
    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: object = None, **kwargs: object
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.message)])

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: object = None, **kwargs: object
    ) -> Iterator[ChatGenerationChunk]:
        said = self.message
        chunk = AIMessageChunk(
            content=said.content,
            additional_kwargs=said.additional_kwargs,
            response_metadata=said.response_metadata,
            tool_calls=said.tool_calls,
            invalid_tool_calls=said.invalid_tool_calls,
            usage_metadata=said.usage_metadata,
            id=said.id,
            name=said.name,
        )
        yield ChatGenerationChunk(message=chunk)
