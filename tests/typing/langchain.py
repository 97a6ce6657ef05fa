"""What type checkers see of the LangChain integration; checked, never run."""

from collections.abc import Generator, Iterator
from typing import TypedDict, assert_type

from langchain.agents import create_agent  # pyright: ignore[reportUnknownVariableType]  LangChain leaves types open.
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool

from agent_identity import Agent, Enforcer, Scope
from agent_identity.integrations.langchain import bind_stream
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect, unprotect


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
    protect(check, enforcer)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    protect(read)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def agents(enforcer: Enforcer, model: BaseChatModel, agent: Agent, scope: Scope, stream: Iterator[str]) -> None:
    ours = AgentIdentityMiddleware(enforcer, agent=agent, scope=scope, model="chat")
    assert_type(ours.provider_tools, tuple[str, ...])
    create_agent(model, [read], middleware=[ours])
    create_agent(model, [read], middleware=[ours], context_schema=Context)
    assert_type(bind_stream(stream), Generator[str, None, None])

    AgentIdentityMiddleware()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AgentIdentityMiddleware(enforcer, agent="clerk")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Context(TypedDict):
    """The context of an agent."""

    user: str
