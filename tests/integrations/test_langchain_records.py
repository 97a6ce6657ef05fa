"""Records under LangChain: threads, models, and what tools touch."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import BaseTool, StructuredTool

from agent_identity import records
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect, unprotect
from agent_identity.policy import Touch

THREAD: Any = {"configurable": {"thread_id": "thread-7"}}
PLACE = Touch("postgres://db", "invoices/{number}", "read")


class Own(BaseTool):
    """A tool whose class runs it."""

    name: str = "find"
    description: str = "Find."

    def _run(self, number: int) -> int:
        return number


def find() -> BaseTool:
    """Return a tool of a function."""

    def body(number: int) -> int:
        return number

    return StructuredTool.from_function(body, name="find", description="Find.")


def read(desk: Any, kind: type) -> list[Any]:
    """Return the records of a kind."""
    return [one for one in records.read(desk.directory) if isinstance(one, kind)]


@pytest.mark.parametrize("make", [find, Own])
def test_a_protected_tool_says_what_it_touches_and_in_which_thread(open_desk: Any, make: Any) -> None:
    """Each call names its thread, if it has one, and the resource that its arguments fill."""
    desk = open_desk()
    found = protect(make(), desk.enforcer, touches=PLACE)
    with desk.task("find"):
        found.invoke({"number": 1}, THREAD)
        found.model_copy().invoke({"number": 1})
    with desk.task("other"), pytest.raises(Denied):
        found.invoke({"number": 1}, THREAD)
    first, second = read(desk, records.Intent)
    assert (first.workflow, second.workflow) == ("thread-7", None)
    assert first.resources == second.resources
    assert first.resources[0].digest is not None
    (detail,) = (detail for _, detail in records.read_lines(desk.directory) if detail is not None)
    assert (detail.workflow, detail.resources) == ("thread-7", first.resources)


@pytest.mark.parametrize("make", [find, Own])
def test_a_placeholder_is_an_argument_of_each_tool(open_desk: Any, make: Any) -> None:
    """One that is none is an error before any tool of the list changes."""
    desk, tools = open_desk(), [find(), make()]
    with pytest.raises(ConfigurationError, match="'amount'"):
        protect(tools, desk.enforcer, touches=[PLACE, Touch("file", "/{amount}", "write")])
    assert tools[0].invoke({"number": 5}) == 5


def test_a_tool_is_guarded_with_one_statement(open_desk: Any) -> None:
    """Other resources for a guarded tool are an error; the same ones, or none, change nothing."""
    desk = open_desk()
    found = protect(find(), desk.enforcer, touches=PLACE)
    protect(found, desk.enforcer)
    protect(found, desk.enforcer, touches=[PLACE])
    with pytest.raises(ConfigurationError, match="touches"):
        protect(found, desk.enforcer, touches=Touch("file", "/x", "read"))
    protect(unprotect(found), desk.enforcer, touches=Touch("file", "/x", "read"))


class Acme(GenericFakeChatModel):
    """A model as an integration has it."""

    model_name: str = "large"


Acme.__module__ = "langchain_acme.chat_models"


def test_a_model_call_names_who_was_asked_and_who_answered(open_desk: Any) -> None:
    """The intent has the model of the request, the outcome the one in the metadata of the answer."""
    desk = open_desk()
    answer = AIMessage("hi", response_metadata={"model_name": "large-2026", "model_provider": "acme"})
    made = create_agent(
        Acme(messages=iter([answer, AIMessage("hi")])),
        [],
        middleware=[AgentIdentityMiddleware(desk.enforcer, model="chat")],
    )
    with desk.task("chat"):
        made.invoke({"messages": [HumanMessage("q")]}, THREAD)
        made.invoke({"messages": [HumanMessage("q")]}, THREAD)
    first, second = read(desk, records.Intent)
    one, two = read(desk, records.Outcome)
    assert first.action.model == second.action.model == records.Model(name="large", provider="acme")
    assert (first.action.stage, first.action.kind, first.workflow) == ("prompt", "model", "thread-7")
    assert (one.action.stage, one.action.model) == ("completion", records.Model(name="large-2026", provider="acme"))
    assert two.action.model is None


async def test_a_refused_model_call_names_who_was_asked(open_desk: Any) -> None:
    """The refusal takes the place of the answer; no model that answered is named. Models without a name have none."""
    desk = open_desk()
    models = [Acme(messages=iter([])), GenericFakeChatModel(messages=iter([]))]
    for model in models:
        made = create_agent(model, [], middleware=[AgentIdentityMiddleware(desk.enforcer, model="chat")])
        async with desk.task("other"):
            result = await made.ainvoke({"messages": [HumanMessage("q")]})
        assert result["messages"][-1].content.startswith("refused: tool_not_granted")
    named, nameless = read(desk, records.Outcome)
    assert (named.action.stage, named.action.model.name) == ("prompt", "large")
    assert (nameless.action.stage, nameless.action.model) == ("prompt", None)
