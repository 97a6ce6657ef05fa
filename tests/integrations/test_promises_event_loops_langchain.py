"""LangChain, LangGraph and their agents on an event loop that is watched, as ``langgraph dev`` watches it."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope
from agent_identity.errors import Denied
from agent_identity.integrations.langchain.interrupts import answer, approval_by_interrupt
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect
from agent_identity.limits import Limit
from agent_identity.policy import Content

sys.path.insert(0, str(Path(__file__).parents[1]))

from watching import WATCHES, Watch, run

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
ROUTED = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))
QUESTION: Any = {"messages": [HumanMessage("go")]}


class Blocking:
    """An inspector that blocks, which the watch refuses on a loop."""

    def inspect(self, content: Content) -> list[Any]:
        """Look at content as this inspector does."""
        assert content.tool
        time.sleep(0)
        return []


class ScriptedModel(BaseChatModel):
    """A chat model that answers from a script, by how often it has answered before."""

    script: list[AIMessage]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """Know the tools by heart."""
        return self

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        answered = sum(isinstance(message, AIMessage) for message in messages)
        return ChatResult(generations=[ChatGeneration(message=self.script[answered])])


def make_pay(paid: list[int]) -> BaseTool:
    """Return a fresh tool that is a coroutine."""

    async def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return f"paid {amount}"

    return StructuredTool.from_function(coroutine=pay, name="pay")


class Own(BaseTool):
    """A tool of a class of its own, one body of which calls the other."""

    name: str = "own"
    description: str = "Own."

    def _run(self, x: int) -> int:
        return x

    async def _arun(self, x: int) -> int:
        await asyncio.sleep(0)
        return x


def call(*named: tuple[str, dict[str, Any]]) -> AIMessage:
    """Return the message of a model that calls tools; their ids are c0, c1 and so on."""
    return AIMessage("", tool_calls=[{"name": n, "args": a, "id": f"c{i}"} for i, (n, a) in enumerate(named)])


def answers(result: Any) -> list[str]:
    """Return what tools answered."""
    return [message.content for message in result["messages"] if isinstance(message, ToolMessage)]


def task(desk: Any, *tools: str, **options: Any) -> Any:
    """Open a task of alice for the clerk."""
    scope = Scope(dict.fromkeys(tools))
    return desk.enforcer.task("pay", principal=ALICE, agent=CLERK, scope=scope, **options)


@WATCHES
def test_tools_run_by_ainvoke_and_in_a_tool_node(open_desk: Callable[..., Any], watch: Watch) -> None:
    """Limited and inspected tools are invoked, batched and run by a ToolNode; one beyond the limit is refused."""
    desk = open_desk(inspectors=[Blocking()])
    paid: list[int] = []
    pay, own = protect([make_pay(paid), Own()], desk.enforcer)
    graph = StateGraph(MessagesState).add_node("tools", ToolNode([pay, own])).add_edge(START, "tools").compile()

    async def main() -> None:
        async with task(desk, "pay", "own", limits=[Limit.uses("pay", 4)]):
            assert await pay.ainvoke({"amount": 1}) == "paid 1"
            assert await own.ainvoke({"x": 1}) == 1
            assert await pay.abatch([{"amount": 2}, {"amount": 3}]) == ["paid 2", "paid 3"]
            asked = {"messages": [call(("pay", {"amount": 4}), ("own", {"x": 5}))]}
            assert answers(await graph.ainvoke(asked)) == ["paid 4", "5"]
            with pytest.raises(Denied, match="limit"):
                await pay.ainvoke({"amount": 5})

    run(watch, main)
    assert sorted(paid) == [1, 2, 3, 4]


@WATCHES
def test_an_agent_runs_behind_the_middleware(open_desk: Callable[..., Any], watch: Watch) -> None:
    """Bare tools, a tool that does not exist, delegation and calls of the model are guarded under the watch."""
    desk = open_desk(inspectors=[Blocking()])
    paid: list[int] = []
    helper = Agent("helper", owner="finance@example.com")
    ours = AgentIdentityMiddleware(desk.enforcer, agent=helper, model="model")
    script = [call(("pay", {"amount": 1}), ("nothing", {"x": 1})), AIMessage("done")]
    agent = create_agent(ScriptedModel(script=script), tools=[make_pay(paid)], middleware=[ours])

    async def main() -> None:
        async with task(desk, "pay", "model", limits=[Limit.uses("pay", 1)]):
            said = answers(await agent.ainvoke(QUESTION))
            assert said[0] == "paid 1"
            assert "tool_not_granted" in said[1]

    run(watch, main)
    assert paid == [1]
    assert desk.outcomes().count("denied") == 1


@WATCHES
def test_an_approval_by_interrupt_is_asked_for_and_used(open_desk: Callable[..., Any], watch: Watch) -> None:
    """The graph stops with the request, a person decides, and the resumed run pays once, in a limited task."""
    desk = open_desk(policy=ROUTED, routes={"desk": approval_by_interrupt()})
    paid: list[int] = []
    pay = protect(make_pay(paid), desk.enforcer)
    script = [call(("pay", {"amount": 1})), AIMessage("done")]
    agent = create_agent(ScriptedModel(script=script), tools=[pay], checkpointer=InMemorySaver())
    config: RunnableConfig = {"configurable": {"thread_id": "1"}}

    async def main() -> None:
        async with task(desk, "pay", limits=[Limit.uses("pay", 1)]):
            interrupts = (await agent.ainvoke(QUESTION, config))["__interrupt__"]
        command = await asyncio.to_thread(answer, interrupts, desk.enforcer, by=BOB)
        async with task(desk, "pay", limits=[Limit.uses("pay", 1)]):
            assert answers(await agent.ainvoke(command, config)) == ["paid 1"]

    run(watch, main)
    assert paid == [1]


@WATCHES
def test_a_model_reads_no_place_and_no_cure(open_desk: Callable[..., Any], watch: Watch) -> None:
    """What fails in our own code is told to the model by its code alone; the exception has place and cure."""

    class Broken:
        def inspect(self, content: Content) -> list[Any]:
            raise OSError(content.tool)

    desk = open_desk(inspectors=[Broken()])
    pay = protect(make_pay([]), desk.enforcer)

    async def main() -> None:
        async with task(desk, "pay"):
            asked = {"name": "pay", "args": {"amount": 1}, "id": "c1", "type": "tool_call"}
            told = (await pay.ainvoke(asked)).content
            assert told.startswith("refused: guard_failed (reference ")
            assert "agent_identity" not in told
            with pytest.raises(Denied, match=r"agent_identity\._inspection"):
                await pay.ainvoke({"amount": 1})

    run(watch, main)
