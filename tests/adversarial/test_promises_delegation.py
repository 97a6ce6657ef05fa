"""Refused openings: whose they are, what they say, and that nothing is entered twice."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from agent_identity import Agent, Denied, Scope, Verifier
from agent_identity.constraints import Range
from agent_identity.delegation import Peer
from agent_identity.errors import AgentIdentityError, AttenuationError

HELPER = Agent("helper", owner="it@example.com")
NARROW = Scope("pay", amount=Range(max=100))


def attributed(world: Any) -> None:
    """Assert that every call of the ledger belongs to a task, and that its evidence verifies."""
    world.enforcer.close()
    assert {record.get("attribution") for record in world.records("intent", "outcome")} == {None}
    report = Verifier().ledger(world.directory)
    assert [problem.code for problem in report.findings if problem.severity != "notice"] == []


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize(
    ("scope", "code", "argument", "named"),
    [
        (Scope("wipe"), "tool_not_attenuated", None, "'wipe'"),
        (Scope("pay", amount=Range(max=101)), "argument_not_attenuated", "amount", "'amount' of tool 'pay'"),
        (Scope("pay", amount=Range(max=1), to="x"), "argument_not_attenuated", "to", "'to' of tool 'pay'"),
    ],
)
def test_ac_02_a_delegation_that_does_not_fit_is_a_refusal_of_the_open_task(
    open_world: Callable[..., Any], mode: str, scope: Scope, code: str, argument: str | None, named: str
) -> None:
    """It is recorded under the task and the principal that are open, with the tool or argument that does not fit."""
    world = open_world(mode=mode)
    with world.task(NARROW) as task:
        with pytest.raises(AttenuationError) as caught, world.enforcer.delegate(HELPER, scope=scope):
            pytest.fail("the block ran")
        (record,) = world.records("outcome")
    assert (caught.value.code, caught.value.argument, caught.value.reference) == (code, argument, record["id"])
    assert named in str(caught.value)
    assert (record["outcome"], record["error"], record["decision"]["enforced"]) == ("denied", code, "block")
    assert record["decision"].get("argument") == argument
    assert (record["task"]["id"], record["principal"]["id"]) == (task.id, "alice@example.com")
    assert record["action"] == {"tool": "invoke_agent", "kind": "task", "stage": "delegate", "agent": HELPER.to_claim()}
    (end,) = world.records("task_end")
    assert end["counts"] == {"intents": "0", "outcomes": "1", "open": "0"}
    attributed(world)


def test_ac_02_authority_that_may_not_leave_is_a_refusal_of_the_open_task(world: Any) -> None:
    """The same where authority would leave for a child process or another service."""
    steps = (
        lambda: world.enforcer.current_task.export(agent=HELPER, scope=Scope("wipe")),
        lambda: world.enforcer.present(Peer("there", tools=["wipe"]), tool="wipe", arguments={}),
    )
    with world.task(NARROW) as task:
        for step in steps:
            with pytest.raises(AttenuationError) as caught:
                step()
            assert caught.value.reference == world.records("outcome")[-1]["id"]
    assert [(r["error"], r["task"]["id"]) for r in world.records("outcome")] == [("tool_not_attenuated", task.id)] * 2
    attributed(world)


@pytest.mark.parametrize("what", ["task", "delegate", "accept", "action"])
@pytest.mark.parametrize("mode", ["enforce", "monitor"])
@pytest.mark.parametrize("nested", [False, True])
def test_ac_25_nothing_is_entered_twice(open_world: Callable[..., Any], what: str, mode: str, *, nested: bool) -> None:
    """A second block under one opening is refused with a code, a record and a hint that names the right call."""
    world = open_world(mode=mode)
    with world.task(NARROW) as task:
        made = {
            "task": lambda: world.task(NARROW),
            "delegate": lambda: world.enforcer.delegate(HELPER, scope=NARROW),
            "accept": lambda: world.enforcer.accept(world.enforcer.current_task.export()),
            "action": lambda: world.enforcer.action("pay", amount=1),
        }[what]()
        if nested:
            with made, pytest.raises(Denied) as caught, made:
                pytest.fail("the block ran")
        else:
            with made:
                pass
            with pytest.raises(Denied) as caught, made:
                pytest.fail("the block ran")
    record = next(r for r in world.records("outcome") if r.get("error") == "already_entered")
    assert (caught.value.code, caught.value.reference) == ("already_entered", record["id"])
    assert what in str(caught.value)
    assert (record["outcome"], record["decision"]["enforced"]) == ("denied", "block")
    if what != "task":
        assert record["task"]["id"] == task.id
    elif not nested:
        assert record["attribution"] == "none"
    assert len(world.records("task_start")) == (2 if what != "action" else 1)
    assert len(world.records("task_end")) == len(world.records("task_start"))


def test_ac_25_two_threads_enter_one_opening_once(world: Any) -> None:
    """Of two threads that enter one opening at a time, one gets the task; the other is refused and recorded."""
    opening, both = world.task(NARROW), threading.Barrier(2)
    got: list[object] = []

    def enter() -> None:
        both.wait()
        try:
            with opening:
                got.append("entered")
                both.wait()
        except AgentIdentityError as error:
            got.append(error.code)
            both.wait()

    threads = [threading.Thread(target=enter) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, got)) == ["already_entered", "entered"]
    assert len(world.records("task_start")) == len(world.records("task_end")) == 1


def test_ac_02_a_sub_agent_that_does_not_fit_leaves_coverage_whole(world: Any) -> None:
    """In a real agent the refusal is that of the open task; the run goes on and every call stays attributable."""
    pytest.importorskip("langchain.agents")
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, ToolMessage
    from langchain_core.tools import tool as as_tool

    from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware

    @as_tool
    def pay(amount: int) -> str:
        """Pay."""
        world.ran.append(amount)
        return "paid"

    class Model(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            """Offer nothing."""
            return self

    asked = AIMessage("", tool_calls=[{"name": "pay", "args": {"amount": 1}, "id": "call-1"}])
    guards = AgentIdentityMiddleware(world.enforcer, agent=HELPER, scope=Scope("pay"))
    made = create_agent(Model(messages=iter([asked, AIMessage("done")])), [pay], middleware=[guards])
    with world.task(NARROW) as task:
        result = made.invoke({"messages": [("user", "pay")]})
    (answer,) = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert (answer.status, world.ran) == ("error", [])
    assert answer.content.startswith("refused: argument_not_attenuated")
    opening, call = world.records("outcome")
    for record in (opening, call):
        assert (record["error"], record["task"]["id"]) == ("argument_not_attenuated", task.id)
    assert (opening["action"]["agent"]["id"], call["action"]["tool"]) == ("helper", "pay")
    assert call["id"] in answer.content
    attributed(world)
    spans = [span for span in world.exporter.get_finished_spans() if span.name == "execute_tool pay"]
    assert [span.attributes["agent_identity.principal.id"] for span in spans] == ["alice@example.com"]
