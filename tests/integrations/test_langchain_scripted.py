"""A model with a script drives real agents of LangChain, and the records say what became of its calls."""

from pathlib import Path

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from agent_identity import Agent, Human, Scope
from agent_identity.errors import Denied
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware
from agent_identity.integrations.langchain.protection import protect
from agent_identity.integrations.langchain.scripted import scripted_model
from agent_identity.testing import Rehearsal, ScriptedAgent

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance")
SCRIPT = (("pay", {"invoice": "INV-1"}), ("pay", {"invoice": "INV-2"}), ("invented", {}))
PARTIES = {"principal": ALICE, "agent": CLERK, "scope": Scope("pay", invoice="INV-1")}
ASKED = {"messages": [("user", "pay what is due")]}


@tool
def pay(invoice: str) -> str:
    """Pay an invoice."""
    return f"paid {invoice}"


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke"])
async def test_a_model_asks_for_what_its_script_says(tmp_path: Path, way: str) -> None:
    """Each call in a message of its own, refused ones and unknown tools included, then the answer."""
    with Rehearsal.open(tmp_path / "e") as rehearsal:
        ours = AgentIdentityMiddleware(rehearsal.enforcer)
        agent = create_agent(scripted_model(*SCRIPT, answer="all paid"), [pay], middleware=[ours])
        with rehearsal.enforcer.task("books", **PARTIES):
            if way == "stream":
                *_, last = agent.stream(ASKED, stream_mode="values")
            else:
                last = await agent.ainvoke(ASKED) if way == "ainvoke" else agent.invoke(ASKED)
        records = rehearsal.records
    said = [message.content.partition(" (reference")[0] for message in last["messages"][1:]]
    assert said[1] == "paid INV-1"
    assert said[3].startswith("refused: argument_out_of_scope")
    assert said[-1] == "all paid"
    records.assert_attributed(principal=ALICE, agent=CLERK, tool="pay", count=1)
    (refused,) = records.assert_denied(code="argument_out_of_scope", tool="pay", count=1)
    assert refused.record.action.call == "call_2"
    records.assert_denied(code="tool_not_granted", tool="invented", count=1)


def test_a_script_goes_on_where_the_conversation_is(tmp_path: Path) -> None:
    """The model keeps no place of its own: one model serves two threads, each from its beginning."""
    model = scripted_model(("pay", {"invoice": "INV-1"}))
    agent = create_agent(model, [pay], checkpointer=InMemorySaver())
    for thread in ("1", "2"):
        config = {"configurable": {"thread_id": thread}}
        messages = agent.invoke(ASKED, config)["messages"]
        assert [message.content for message in messages[1:]] == ["", "paid INV-1", "done"]
        again = agent.invoke({"messages": [("user", "and now?")]}, config)["messages"]
        assert [message.content for message in again[4:]] == ["and now?", "done"]
    assert model.invoke([HumanMessage("?")]).tool_calls[0]["id"] == "call_1"


async def test_a_scripted_agent_calls_tools_of_langchain(tmp_path: Path) -> None:
    """Without any framework around it, by ``invoke`` and by ``ainvoke``; a refusal is the exception itself."""
    agent = ScriptedAgent(("pay_bill", {"invoice": "INV-1"}), ("pay_bill", {"invoice": "INV-2"}))

    @tool
    def pay_bill(invoice: str) -> str:
        """Pay a bill."""
        return f"paid {invoice}"

    with Rehearsal.open(tmp_path / "e") as rehearsal:
        protect(pay_bill, rehearsal.enforcer)
        with rehearsal.enforcer.task("books", principal=ALICE, agent=CLERK, scope=Scope("pay_bill", invoice="INV-1")):
            for paid, refused in (agent.run([pay_bill]), await agent.run_async([pay_bill])):
                assert paid == "paid INV-1"
                assert isinstance(refused, Denied)
        rehearsal.records.assert_attributed(principal=ALICE, agent=CLERK, count=2)
