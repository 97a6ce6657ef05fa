"""Limits in a real agent whose tools interrupt themselves: what LangGraph makes again counts as the rule says."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from agent_identity import Agent, Human, Scope
from agent_identity.integrations.langchain.protection import protect
from agent_identity.limits import Limit

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
CONFIG: Any = {"configurable": {"thread_id": "1"}}
GO: Any = {"messages": [HumanMessage("go")]}


class ScriptedModel(BaseChatModel):
    """A chat model that answers from a script, by how often it has answered before."""

    script: list[AIMessage]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Know the tools by heart."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answered = sum(isinstance(message, AIMessage) for message in messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[answered])])


class Till:
    """A tool that notes what began and what was paid, and asks in between."""

    def __init__(self) -> None:
        self.began: list[Decimal] = []
        self.paid: list[Decimal] = []

    def tool(self) -> BaseTool:
        """Return the tool."""

        @tool
        def pay(invoice: str, amount: Decimal) -> str:
            """Pay."""
            self.began.append(amount)
            interrupt(f"{invoice}?")
            self.paid.append(amount)
            return f"paid {invoice}"

        return pay


@pytest.fixture
def till() -> Till:
    return Till()


def calls(*amounts: float, name: str = "c{}") -> AIMessage:
    """Return the message of a model that pays amounts, each with an id of its own unless the name says otherwise."""
    made = [
        {"name": "pay", "args": {"invoice": f"INV-{at}", "amount": amount}, "id": name.format(at), "type": "tool_call"}
        for at, amount in enumerate(amounts)
    ]
    return AIMessage("", tool_calls=made)


def agent(desk: Any, till: Till, *script: AIMessage) -> Any:
    """Return an agent with a scripted model."""
    model = ScriptedModel(script=[*script, AIMessage("done")])
    return create_agent(model, tools=[protect(till.tool(), desk.enforcer)], checkpointer=InMemorySaver())


def task(desk: Any, *limits: Limit) -> Any:
    """Open a task with limits."""
    hour = timedelta(hours=1)
    return desk.enforcer.task("pay", principal=ALICE, agent=CLERK, scope=Scope("pay"), limits=limits, ttl=hour)


def edited(graph: Any, amount: float) -> None:
    """Have a person edit the amount of the last call of the model, whose id stays."""
    last = graph.get_state(CONFIG).values["messages"][-1]
    changed = [{**call, "args": {**call["args"], "amount": amount}} for call in last.tool_calls]
    graph.update_state(CONFIG, {"messages": [AIMessage("", id=last.id, tool_calls=changed)]})


def answers(result: Any) -> list[str]:
    """Return how the tools answered."""
    return [message.status for message in result["messages"] if isinstance(message, ToolMessage)]


async def go_on(graph: Any, command: Any, mode: str) -> Any:
    """Run a graph until it stops."""
    return graph.invoke(command, CONFIG) if mode == "sync" else await graph.ainvoke(command, CONFIG)


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_a_suspended_call_with_an_amount_that_is_no_json_is_counted_once(
    desk: Any, till: Till, mode: str
) -> None:
    """The body began twice, and of a limit of 5 nothing is left and nothing overspent."""
    graph = agent(desk, till, calls(5), calls(0.01, name="later"))
    with task(desk, Limit.sum("pay", "amount", 5)):
        await go_on(graph, GO, mode)
        result = await go_on(graph, Command(resume="yes"), mode)
    assert answers(result) == ["success", "error"]
    assert (till.began, till.paid) == ([5, 5], [5])


@pytest.mark.parametrize("amount", [4, 6])
def test_a_call_that_was_edited_while_it_waited_is_another_call(desk: Any, till: Till, amount: int) -> None:
    """What had begun with 5 keeps its share, whatever the call is edited to: a limit of 8 has 3 left for it."""
    graph = agent(desk, till, calls(5))
    with task(desk, Limit.sum("pay", "amount", 8)):
        graph.invoke(GO, CONFIG)
        edited(graph, amount)
        assert answers(graph.invoke(None, CONFIG)) == ["error"]
    assert (till.began, till.paid) == ([5], [])


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_five_calls_of_a_turn_with_one_id_begin_one_body(desk: Any, till: Till, mode: str) -> None:
    """A model that repeats an id takes nothing over from its sibling: limit 5, begun 5, paid 5."""
    graph = agent(desk, till, calls(5, 5, 5, 5, 5, name="same"))
    with task(desk, Limit.sum("pay", "amount", 5)):
        result = await go_on(graph, GO, mode)
        assert till.began == [5]
        (asked,) = result["__interrupt__"]
        result = await go_on(graph, Command(resume={asked.id: "yes"}), mode)
    assert till.paid == [5]
    assert sorted(answers(result)) == ["error"] * 4 + ["success"]


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_of_ten_parallel_calls_that_suspend_as_many_begin_as_the_limit_says(
    desk: Any, till: Till, mode: str
) -> None:
    """Three begin, the same three begin again, and no others."""
    graph = agent(desk, till, calls(*[1] * 10))
    with task(desk, Limit.uses("pay", 3)):
        result = await go_on(graph, GO, mode)
        assert len(till.began) == len(result["__interrupt__"]) == 3
        resumed = {asked.id: "yes" for asked in result["__interrupt__"]}
        result = await go_on(graph, Command(resume=resumed), mode)
    assert (len(till.began), len(till.paid)) == (6, 3)
    assert sorted(answers(result)) == ["error"] * 7 + ["success"] * 3


def test_a_resume_is_debited_from_the_present_window_of_a_rate(desk: Any, till: Till) -> None:
    """Three graphs are suspended in three minutes and resumed in one: one body begins under one a minute."""
    graphs = [agent(desk, till, calls(1, name=f"g{number}")) for number in range(3)]
    with task(desk, Limit.rate("pay", 1, per=timedelta(minutes=1))):
        for graph in graphs:
            graph.invoke(GO, CONFIG)
            desk.clock.advance(63)
        found = [answers(graph.invoke(Command(resume="yes"), CONFIG)) for graph in graphs]
    assert found == [["success"], ["error"], ["error"]]
    assert (len(till.began), len(till.paid)) == (4, 1)
