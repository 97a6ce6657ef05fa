"""Streams of crews that run under the task in which they were made."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Final, cast

from crewai import Crew
from crewai.types.streaming import CrewStreamingOutput, StreamChunk
from opentelemetry import context as otel

from agent_identity._enforcement.lifecycle import bind_stream
from agent_identity._enforcement.tasks import attached
from agent_identity.integrations.method_patch import MethodPatch

__all__ = ["BOUND_CREWS"]


def _bound(original: Callable[..., object]) -> Callable[..., object]:
    @wraps(original)
    def kickoff(*args: object, **kwargs: object) -> object:
        return _kept(original(*args, **kwargs))

    return kickoff


def _bound_async(original: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    @wraps(original)
    async def kickoff(*args: object, **kwargs: object) -> object:
        return _kept(await original(*args, **kwargs))

    return kickoff


def _kept(result: object) -> object:
    if BOUND_CREWS.is_active and type(result) is CrewStreamingOutput:
        result.__class__ = _BoundOutput
        cast("_BoundOutput", result).made_in = otel.get_current()
    return result


BOUND_CREWS: Final = MethodPatch(Crew, {"kickoff": _bound, "kickoff_async": _bound_async, "akickoff": _bound_async})
"""Has the streams of all crews run under the task in which ``kickoff`` was called.

CrewAI starts a streaming run when it is consumed, in the context of the consumer."""


class _BoundOutput(CrewStreamingOutput):
    """The stream of a crew.

    Attributes:
        made_in: The context in which it was made.
    """

    made_in: otel.Context

    def __iter__(self) -> Iterator[StreamChunk]:
        with attached(self.made_in):
            return bind_stream(super().__iter__())

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        with attached(self.made_in):
            return bind_stream(super().__aiter__())
