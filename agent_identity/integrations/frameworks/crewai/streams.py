"""Streams of crews that run under the task in which they were made."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Final, cast

from crewai import Crew
from crewai.types.streaming import CrewStreamingOutput, StreamChunk
from opentelemetry import context as otel

from agent_identity.adapters import bind_stream, resumed
from agent_identity.integrations.method_patch import MethodPatch

__all__ = ["bound_crews", "running_crew"]


_CREW: Final = otel.create_key("agent_identity_crewai_crew")


def running_crew() -> Crew | None:
    """Return the crew that runs here; ``None`` outside any."""
    return cast("Crew | None", otel.get_value(_CREW))


def bound_crews(begin: Callable[[], None]) -> MethodPatch:
    """Return what has the streams of all crews run under the task in which ``kickoff`` was called.

    CrewAI starts a streaming run when it is consumed, in the context of the consumer.

    Args:
        begin: Called before each run.
    """

    def bound(original: Callable[..., object]) -> Callable[..., object]:
        @wraps(original)
        def kickoff(crew: Crew, /, *args: object, **kwargs: object) -> object:
            if not patch.is_active:
                return original(crew, *args, **kwargs)
            begin()
            with resumed(otel.set_value(_CREW, crew)):
                return _kept(original(crew, *args, **kwargs))

        return kickoff

    def bound_async(original: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        @wraps(original)
        async def kickoff(crew: Crew, /, *args: object, **kwargs: object) -> object:
            if not patch.is_active:
                return await original(crew, *args, **kwargs)
            begin()
            with resumed(otel.set_value(_CREW, crew)):
                return _kept(await original(crew, *args, **kwargs))

        return kickoff

    patch = MethodPatch(Crew, {"kickoff": bound, "kickoff_async": bound_async, "akickoff": bound_async})
    return patch


def _kept(result: object) -> object:
    if type(result) is CrewStreamingOutput:
        result.__class__ = _BoundOutput
        cast("_BoundOutput", result).made_in = otel.get_current()
    return result


class _BoundOutput(CrewStreamingOutput):
    """The stream of a crew.

    Attributes:
        made_in: The context in which it was made.
    """

    made_in: otel.Context

    def __iter__(self) -> Iterator[StreamChunk]:
        with resumed(self.made_in):
            return bind_stream(super().__iter__())

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        with resumed(self.made_in):
            return bind_stream(super().__aiter__())
