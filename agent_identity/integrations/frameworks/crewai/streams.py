"""Streams of crews that run under the task in which they were made."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, Final, cast

from crewai import Crew
from crewai.types.streaming import CrewStreamingOutput, StreamChunk
from opentelemetry import context as otel

from agent_identity._enforcement.lifecycle import bind_stream
from agent_identity._enforcement.tasks import attached

__all__ = ["bind_crews"]

_ORIGINAL: Final[dict[str, Callable[..., Any]]] = {}


def bind_crews(*, bind: bool) -> None:
    """Have the streams of all crews run under the task in which ``kickoff`` was called, or no longer.

    CrewAI starts a streaming run when it is consumed, in the context of the consumer.

    Args:
        bind: Whether they do.
    """
    if bind and not _ORIGINAL:
        for name in ("kickoff", "kickoff_async", "akickoff"):
            _ORIGINAL[name] = getattr(Crew, name)
            setattr(Crew, name, _bound(_ORIGINAL[name]) if name == "kickoff" else _bound_async(_ORIGINAL[name]))
    elif not bind:
        for name, original in _ORIGINAL.items():
            setattr(Crew, name, original)
        _ORIGINAL.clear()


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
        with attached(self.made_in):
            return bind_stream(super().__iter__())

    def __aiter__(self) -> AsyncIterator[StreamChunk]:
        with attached(self.made_in):
            return bind_stream(super().__aiter__())
