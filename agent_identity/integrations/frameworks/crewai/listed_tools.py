"""Tools of CrewAI that are guarded when an agent lists them or something runs them, whatever becomes of its hooks."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from crewai.agents.tools_handler import ToolsHandler
from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool
from crewai.tools.structured_tool import CrewStructuredTool

from agent_identity.integrations.method_patch import MethodPatch

__all__ = ["forget_results", "listed_tools"]


def forget_results(agent: object) -> None:
    """Turn off the cache of an agent: a cached answer would bypass the tool and its guard.

    Args:
        agent: The agent.
    """
    handler = getattr(agent, "tools_handler", None)
    if isinstance(handler, ToolsHandler):
        handler.cache = None


def listed_tools(guard: Callable[[BaseTool | CrewStructuredTool], None]) -> tuple[MethodPatch, ...]:
    """Return what guards each tool before CrewAI lists it for an agent or runs it.

    Args:
        guard: Guards a tool in place; it raises nothing.
    """

    def guarded_first(original: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(original):

            @wraps(original)
            async def run_async(tool: BaseTool, /, *args: object, **named: object) -> object:
                guard(tool)
                return cast("object", await original(tool, *args, **named))

            return run_async

        @wraps(original)
        def run(tool: BaseTool, /, *args: object, **named: object) -> object:
            guard(tool)
            return cast("object", original(tool, *args, **named))

        return run

    return tuple(
        MethodPatch(kind, dict.fromkeys(names, guarded_first))
        for kind, names in (
            (BaseTool, ("run", "arun", "to_structured_tool")),
            (Tool, ("run", "arun")),
            (CrewStructuredTool, ("invoke", "ainvoke")),
        )
    )
