"""Contents of prompts, answers and results of Strands Agents, for information flow."""

import functools
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, cast

from agent_identity.adapters import Part
from agent_identity.integrations.narrowing import is_mapping

__all__ = ["contents_of", "note_spoken", "parts_of", "result_contents"]

_Block: TypeAlias = Mapping[str, Any]
"""A content block of Strands: a dictionary, whose keys tell its type."""

_SPOKEN: Final[ContextVar[frozenset[str] | None]] = ContextVar("agent_identity_strands_spoken", default=None)
"""The texts of the user that the application passed to what runs here; ``None`` where nothing runs."""


@functools.cache
def note_spoken(*kinds: type[object]) -> None:
    """Have runs note the texts of the user that the application passes to them, for :func:`parts_of`.

    What runs within another run gets its input from there, and so from a model, a swarm or a graph.

    Args:
        kinds: The classes of agents, swarms and graphs.
    """
    for kind in cast("tuple[Any, ...]", kinds):
        kind.stream_async = _noting(kind.stream_async)
        if (ask := getattr(kind, "structured_output_async", None)) is not None:  # Deprecated, and only of agents.
            kind.structured_output_async = _noting_once(ask)


def _noting(bare: Callable[..., AsyncGenerator[object]]) -> Callable[..., AsyncGenerator[object]]:
    @functools.wraps(bare)
    async def stream_async(runner: object, *args: object, **options: object) -> AsyncGenerator[object]:
        stream = bare(runner, *args, **options)
        spoken = _texts(args[0] if args else options.get("prompt", options.get("task")))
        try:
            while True:
                with _within(spoken):  # Between two steps the consumer runs.
                    try:
                        event = await anext(stream)
                    except StopAsyncIteration:
                        return
                yield event
        finally:
            await stream.aclose()

    return stream_async


def _noting_once(bare: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    @functools.wraps(bare)
    async def structured_output_async(runner: object, output_model: object, prompt: object = None) -> object:
        with _within(_texts(prompt)):
            return await bare(runner, output_model, prompt)

    return structured_output_async


@contextmanager
def _within(spoken: frozenset[str]) -> Generator[None]:
    """Run one step of a run that was called with texts; those of a run around it count."""
    if _SPOKEN.get() is not None:
        yield
        return
    token = _SPOKEN.set(spoken)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def _texts(given: object) -> frozenset[str]:
    """Return the texts of the user in the input of a run: a text, content blocks, or messages."""
    if isinstance(given, str):
        return frozenset({given})
    items = cast("list[_Block]", given) if isinstance(given, list) else []
    blocks = [block for one in items for block in (one["content"] if one.get("role") == "user" else [one])]
    return frozenset(block["text"] for block in blocks if isinstance(block.get("text"), str))


def parts_of(messages: object) -> Generator[Part]:
    """Yield the parts of a prompt.

    Swarms, graphs, memories and summaries write in the name of the user as well. So the words of a person are only
    what the application passed to the run.

    Args:
        messages: The messages of a request.
    """
    spoken = _SPOKEN.get() or frozenset()
    for message in cast("Sequence[_Block]", messages):
        for block in message["content"]:
            by = message["role"] == "user" and block.get("text") in spoken
            yield from (Part("person" if by else "other", one) for one in contents_of([block]))


def contents_of(blocks: Iterable[_Block]) -> Generator[object]:
    """Yield the contents of blocks, without the ids of calls.

    Args:
        blocks: The blocks of a message, or of the result of a tool.
    """
    for block in blocks:
        if "toolUse" in block:
            use = block["toolUse"]
            yield [use["name"], use["input"]]
            yield from (value for value in _values(use["input"]) if isinstance(value, str))
        elif "toolResult" in block:
            yield from contents_of(block["toolResult"]["content"])
        elif "cachePoint" not in block:
            yield block["text"] if block.keys() == {"text"} else block


def result_contents(result: object) -> Iterable[object]:
    """Return the contents that the model will read from the result of a tool.

    Args:
        result: The last event of a tool, or the return value of a route's handler.
    """
    event = cast("_Block", result) if isinstance(result, Mapping) else {}
    content = event.get("tool_result", event).get("content")
    if isinstance(content, list):
        return contents_of(cast("list[_Block]", content))
    return (str(result), json.dumps(result, ensure_ascii=False, default=str))


def _values(arguments: object) -> Iterable[object]:
    return arguments.values() if is_mapping(arguments) else ()
