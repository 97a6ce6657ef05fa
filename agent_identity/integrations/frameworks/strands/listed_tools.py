"""Tools of Strands that are guarded in place while an agent makes a call, whatever hook or middleware runs them."""

import functools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Final, cast

from strands.tools.structured_output.structured_output_tool import StructuredOutputTool
from strands.types.tools import AgentTool

from agent_identity.adapters import safe_message

__all__ = ["CALLING", "Guarding", "guard_listed", "unguarded"]

Guarding = Callable[[AgentTool], AgentTool]
"""Returns a tool under the guard of the agent that makes a call."""

CALLING: Final[ContextVar[Guarding | None]] = ContextVar("agent_identity_strands_calling", default=None)
"""Guards tools for the call that an agent makes here, from its first hook to its last."""

_UNGUARDED: Final[ContextVar[object]] = ContextVar("agent_identity_strands_unguarded", default=None)
"""The tool whose guard runs it next."""

_LOG: Final = logging.getLogger("agent_identity")
_GUARDED: Final = "agent_identity_guarded"


def guard_listed(tools: Iterable[object]) -> None:
    """Guard tools in place, for those who run them without asking.

    Args:
        tools: The tools; the one by which Strands reads structured answers is none.
    """
    for tool in tools:
        kind = cast("Any", type(tool))
        if not issubclass(kind, AgentTool) or kind is StructuredOutputTool or _GUARDED in vars(kind):
            continue
        try:
            cast("Any", tool).__class__ = _guarded_kind(kind)
        except Exception as error:  # noqa: BLE001 - The call itself passes the guard nevertheless.
            name = cast("AgentTool", tool).tool_name
            _LOG.warning("%s is guarded only where Strands runs it itself: %s", name, safe_message(error))


def unguarded(tool: AgentTool, *args: object, **kwargs: object) -> AsyncIterator[object]:
    """Run a tool whose call was judged, in a context of its own.

    Args:
        tool: The tool.
        args: What its ``stream`` gets.
        kwargs: Likewise.
    """
    _UNGUARDED.set(tool)
    return cast("AsyncIterator[object]", tool.stream(*cast("Any", args), **kwargs))


@functools.lru_cache(maxsize=1_024)
def _guarded_kind(kind: type[AgentTool]) -> type[AgentTool]:
    """Return the subclass of a class of tools whose streams pass the guard of the agent that makes a call."""

    async def stream(self: AgentTool, *args: object, **kwargs: object) -> AsyncGenerator[object]:
        calling, is_judged = CALLING.get(), _UNGUARDED.get() is self
        if is_judged:
            _UNGUARDED.set(None)  # If it runs itself again, that is another call.
        bare = functools.partial(kind.stream, self)
        run = bare if is_judged or calling is None else calling(self).stream
        events = cast("Any", run)(*args, **kwargs)
        try:
            async for event in events:
                yield event
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    names = {name: getattr(kind, name) for name in ("__module__", "__qualname__", "__doc__")}
    return cast("type[AgentTool]", type(kind.__name__, (kind,), {**names, "stream": stream, _GUARDED: True}))
