"""One guarded call of a model: its prompt may be redacted, its answer is inspected before anybody reads it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import cast

from langchain_core.messages import BaseMessage
from langgraph.config import get_config

from agent_identity.adapters import Call, CallRequest, GuardedCall, Shown
from agent_identity.errors import AttenuationError, Denied
from agent_identity.integrations.langchain.held_answers import HeldAnswer
from agent_identity.integrations.langchain.model_io import (
    Prompt,
    answering_model,
    model_of,
    request_json,
    response_json,
    revised_answer,
    revised_messages,
)

__all__ = ["ModelCall"]


class ModelCall:
    """One call of a model.

    Args:
        prompt: What the model is asked.
    """

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._messages = prompt.messages
        self._call: Call | None = None
        self._is_told = False

    def is_refused_by(self, error: Denied | AttenuationError) -> bool:
        """Return whether an error is the refusal of this call, and not of something that ran in it or after it."""
        return not self._is_told and (self._call is None or self._call.denial is error)

    def through(self, guard: GuardedCall, send: Callable[[list[BaseMessage]], object]) -> object:
        """Call the model under guard, and return its answer as it is delivered.

        Args:
            guard: The guard.
            send: Calls the model with messages.

        Raises:
            Denied: The call is refused, or its answer withheld.
        """
        held = HeldAnswer(get_config()) if guard.holds else None

        def body(call: Call) -> Shown:
            self._call = call
            with nullcontext() if held is None else held.unread():
                return self._shown(call, send(self._messages))

        delivered = guard.run(self._asked(), body)
        if held is not None:
            self._is_told = True
            held.tell(self._messages, [cast("BaseMessage", delivered)])
        return delivered

    async def through_async(self, guard: GuardedCall, send: Callable[[list[BaseMessage]], Awaitable[object]]) -> object:
        """Do what :meth:`through` does without blocking the event loop."""
        held = HeldAnswer(get_config()) if guard.holds else None

        async def body(call: Call) -> Shown:
            self._call = call
            with nullcontext() if held is None else held.unread():
                return self._shown(call, await send(self._messages))

        delivered = await guard.run_async(self._asked(), body)
        if held is not None:
            self._is_told = True
            await held.tell_async(self._messages, [cast("BaseMessage", delivered)])
        return delivered

    def _asked(self) -> CallRequest:
        prompt = self._prompt
        return CallRequest(request_json(prompt), can_route=False, model=model_of(prompt), revise=self._revise)

    def _revise(self, changed: Mapping[str, object]) -> None:
        self._messages = revised_messages(self._prompt, changed)

    @staticmethod
    def _shown(call: Call, answer: object) -> Shown:
        call.model = answering_model(answer)
        return Shown(answer, response_json(answer), rebuild=partial(revised_answer, answer))
