"""One guarded call of a model: its prompt may be redacted, its answer is inspected before anybody reads it."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import cast

from langgraph.config import get_config

from agent_identity._enforcement.calls import Call, CallRequest, Shown
from agent_identity._enforcement.lifecycle import GuardedCall
from agent_identity.errors import AttenuationError, Denied
from agent_identity.integrations.langchain.held_answers import HeldAnswer
from agent_identity.integrations.langchain.model_io import (
    AnyModelRequest,
    AnyModelResponse,
    answering_model,
    model_of,
    request_json,
    response_json,
    revised_request,
    revised_response,
)

__all__ = ["ModelCall"]


class ModelCall:
    """One call of a model.

    Args:
        request: The request of the agent.
    """

    def __init__(self, request: AnyModelRequest) -> None:
        self._original = self._request = request
        self._call: Call | None = None
        self._is_told = False

    def is_refused_by(self, error: Denied | AttenuationError) -> bool:
        """Return whether an error is the refusal of this call, and not of something that ran in it or after it."""
        return not self._is_told and (self._call is None or self._call.denial is error)

    def through(self, guard: GuardedCall, handler: Callable[[AnyModelRequest], AnyModelResponse]) -> AnyModelResponse:
        """Call the model under guard, and return its answer as it is delivered.

        Args:
            guard: The guard.
            handler: Calls the model.

        Raises:
            Denied: The call is refused, or its answer withheld.
        """
        held = HeldAnswer(get_config()) if guard.holds else None

        def body(call: Call) -> Shown:
            self._call = call
            with nullcontext() if held is None else held.unread():
                return self._shown(call, handler(self._request))

        delivered = cast("AnyModelResponse", guard.run(self._asked(), body))
        if held is not None:
            self._is_told = True
            held.tell([*self._request.messages], delivered.result)
        return delivered

    async def through_async(
        self, guard: GuardedCall, handler: Callable[[AnyModelRequest], Awaitable[AnyModelResponse]]
    ) -> AnyModelResponse:
        """Do what :meth:`through` does without blocking the event loop."""
        held = HeldAnswer(get_config()) if guard.holds else None

        async def body(call: Call) -> Shown:
            self._call = call
            with nullcontext() if held is None else held.unread():
                return self._shown(call, await handler(self._request))

        delivered = cast("AnyModelResponse", await guard.run_async(self._asked(), body))
        if held is not None:
            self._is_told = True
            await held.tell_async([*self._request.messages], delivered.result)
        return delivered

    def _asked(self) -> CallRequest:
        request = self._original
        return CallRequest(request_json(request), can_route=False, model=model_of(request), revise=self._revise)

    def _revise(self, changed: Mapping[str, object]) -> None:
        self._request = revised_request(self._original, changed)

    @staticmethod
    def _shown(call: Call, response: AnyModelResponse) -> Shown:
        call.model = answering_model(response)
        rebuild = cast("Callable[[object], object]", partial(revised_response, response))
        return Shown(response, response_json(response), rebuild=rebuild)
