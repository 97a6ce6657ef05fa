"""A scripted chat model for tests; it makes the tool calls of its script, without any network."""

from collections.abc import Mapping, Sequence

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

__all__ = ["scripted_model"]


def scripted_model(*script: tuple[str, Mapping[str, object]], answer: str = "done") -> BaseChatModel:
    """Return a chat model that makes these calls, one per message, and then answers.

    It finds its position from its own messages in the conversation. So one model serves any number of runs, and a
    graph that repeats a node gets the same message again.

    Args:
        script: The calls: the name of a tool, and its arguments by name.
        answer: Its message at the end of the script.
    """
    return _ScriptedModel(script=[(name, dict(arguments)) for name, arguments in script], answer=answer)


class _ScriptedModel(BaseChatModel):
    script: list[tuple[str, dict[str, object]]]
    answer: str

    @property
    def _llm_type(self) -> str:
        return "agent-identity-scripted"

    # The parameters are those of the base class.
    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: object = None,
        **kwargs: object,
    ) -> ChatResult:
        step = sum(isinstance(message, AIMessage) for message in messages)
        if step < len(self.script):
            name, arguments = self.script[step]
            call = {"name": name, "args": arguments, "id": f"call_{step + 1}", "type": "tool_call"}
            message = AIMessage("", tool_calls=[call])
        else:
            message = AIMessage(self.answer)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def bind_tools(
        self,
        tools: Sequence[object],
        *,
        tool_choice: str | None = None,
        **kwargs: object,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return the model itself: it follows its script, whatever tools it gets."""
        return self
