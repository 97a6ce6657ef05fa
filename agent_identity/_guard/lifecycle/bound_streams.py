"""Streams that run under the task in which they were made.

The streams of most frameworks start running when consumed, in the context of the consumer.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import TypeVar, cast, overload

from opentelemetry import context as otel
from opentelemetry.context import Context
from opentelemetry.trace import get_current_span, set_span_in_context

from agent_identity._guard.tasks.task_context import Attachment, marked_as_here

T = TypeVar("T")


@overload
def bind_stream(stream: Iterator[T]) -> Generator[T]: ...


@overload
def bind_stream(stream: AsyncIterator[T]) -> AsyncGenerator[T]: ...


def bind_stream(stream: Iterator[T] | AsyncIterator[T]) -> Generator[T] | AsyncGenerator[T]:
    """Bind a stream to the current task, whatever the consumer's place and task.

    Each step runs in the current context, with the span, tasks and blocks that the stream has opened, and the consumer
    keeps its own between the steps. Once the task has ended, further tool calls are refused.

    Args:
        stream: The stream of an agent or graph: of ``stream``, ``astream``, ``stream_async``, ``run_async``, ….
    """
    context = otel.get_current()
    if isinstance(stream, AsyncIterator):
        return _bound_async(stream, context)
    return _bound(stream, context)


def _bound(stream: Iterator[T], context: Context) -> Generator[T]:
    inner: tuple[Attachment, ...] = ()
    try:
        while True:
            around = _resumed(context, inner)
            try:
                item = next(stream)
                after = _with_span(context)
            except StopIteration:
                return
            finally:
                inner = around.release()
            context = context if inner else after  # What was attached inside has a span of its own.
            yield item
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            around = _resumed(context, inner)
            try:
                close()
            finally:
                around.release()


async def _bound_async(stream: AsyncIterator[T], context: Context) -> AsyncGenerator[T]:
    inner: tuple[Attachment, ...] = ()
    try:
        while True:
            around = _resumed(context, inner)
            try:
                item = await anext(stream)
                after = _with_span(context)
            except StopAsyncIteration:
                return
            finally:
                inner = around.release()
            context = context if inner else after  # What was attached inside has a span of its own.
            yield item
    finally:
        aclose = getattr(cast("object", stream), "aclose", None)
        if aclose is not None:
            around = _resumed(context, inner)
            try:
                await aclose()
            finally:
                around.release()


def _resumed(context: Context, inner: tuple[Attachment, ...]) -> Attachment:
    """Attach a context, and on top of it what the last step of a stream left attached."""
    around = Attachment(marked_as_here(context)).attach()
    for attachment in inner:
        attachment.attach_again()
    return around


def _with_span(context: Context) -> Context:
    """Return a context with the current span, which the stream may have opened or closed."""
    span = get_current_span()
    return context if span is get_current_span(context) else set_span_in_context(span, context)
