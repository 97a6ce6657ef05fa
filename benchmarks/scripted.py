"""A chat model that follows a script, apart because it takes LangChain to define it."""

from typing import Self

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from world import SOME


class Scripted(BaseChatModel):
    """Calls the tool so many times, and then says that it is done."""

    calls: int

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, *_: object, **__: object) -> Self:
        """Need no tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: object, **__: object) -> ChatResult:
        done = sum(isinstance(message, AIMessage) for message in messages)
        call = {"name": "get_invoice", "args": {"customer_id": SOME}, "id": f"call_{done}", "type": "tool_call"}
        said = AIMessage("", tool_calls=[call]) if done < self.calls else AIMessage("done")
        return ChatResult(generations=[ChatGeneration(message=said)])

    async def _agenerate(self, messages: list[BaseMessage], *_: object, **__: object) -> ChatResult:
        return self._generate(messages)
