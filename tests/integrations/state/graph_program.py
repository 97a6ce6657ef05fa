"""One step of a graph that stops for a person, in a process of its own: ``ask``, ``decide`` or ``resume``."""

import json
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope
from agent_identity.integrations.langchain.interrupts import answer, approval_by_interrupt
from agent_identity.integrations.langchain.protection import protect
from agent_identity.options import Sources
from agent_identity.testing import FixedClock

POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))
CONFIG: Any = {"configurable": {"thread_id": "1"}}
SECRET = "canary-of-the-body"


class Model(BaseChatModel):
    """A model that pays once, and is done."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> "Model":
        """Know the tools by heart."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        call = AIMessage("", tool_calls=[{"name": "pay", "args": {"invoice": "INV-1", "amount": 5}, "id": "c1"}])
        message = AIMessage("done") if any(isinstance(m, AIMessage) for m in messages) else call
        return ChatResult(generations=[ChatGeneration(message=message)])


@contextmanager
def saver(kind: str, where: str) -> Generator[Any]:
    """Open the checkpointer."""
    if kind == "sqlite":
        from langgraph.checkpoint.sqlite import SqliteSaver

        with SqliteSaver.from_conn_string(where) as opened:
            yield opened
    else:
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(where) as opened:
            opened.setup()
            yield opened


def main(step: str, kind: str, where: str, directory: str, wall_ns: str) -> dict[str, Any]:
    """Take one step, and return what came out of it."""
    paid: list[str] = []

    @tool
    def pay(invoice: str, amount: int) -> str:
        """Pay."""
        account = SECRET
        paid.append(f"{invoice} {amount} {len(account)}")
        return f"paid {invoice}"

    routes = {"desk": approval_by_interrupt()}
    clock = FixedClock(int(wall_ns))
    with (
        saver(kind, where) as kept,
        Enforcer.open(directory, policy=POLICY, routes=routes, sources=Sources(clock=clock)) as enforcer,
    ):
        graph = create_agent(Model(), tools=[protect(pay, enforcer)], checkpointer=kept)
        if step == "resume":
            command: Any = answer(graph.get_state(CONFIG).interrupts, enforcer, by=Human("bob@example.com"))
        else:
            command = {"messages": [HumanMessage("go")]}
        alice, clerk = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
        with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("pay")):
            result = graph.invoke(command, CONFIG)
    answers = [message.content for message in result["messages"] if isinstance(message, ToolMessage)]
    return {"interrupts": len(result.get("__interrupt__", ())), "answers": answers, "paid": paid}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
