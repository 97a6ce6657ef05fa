"""What type checkers see of the LangChain integration; checked, never run."""

from typing import assert_type

from langchain_core.tools import BaseTool, StructuredTool, Tool, tool

from agent_identity.enforcement import Enforcer
from agent_identity.integrations.langchain import protect, unprotect


class Search(BaseTool):
    """A tool class of a user."""

    name: str = "search"
    description: str = "Search."

    def _run(self, query: str) -> str:
        return query


@tool
def read(path: str) -> str:
    """Read."""
    return path


def check(enforcer: Enforcer, structured: StructuredTool, single: Tool) -> None:
    assert_type(protect(read, enforcer), BaseTool)
    assert_type(protect(structured, enforcer), StructuredTool)
    assert_type(protect(single, enforcer), Tool)
    assert_type(protect(Search(), enforcer), Search)
    assert_type(unprotect(Search()), Search)

    assert_type(protect([structured], enforcer), list[StructuredTool])
    assert_type(protect((structured, single), enforcer), tuple[StructuredTool, Tool])
    tools: list[BaseTool] = [structured, single, read]
    assert_type(protect(tools, enforcer), list[BaseTool])
    assert_type(unprotect(tools), list[BaseTool])

    # A function is guarded by enforcer.tool, and an enforcer is not optional.
    protect(check, enforcer)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    protect(read)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
