"""A person decides between two runs of a graph: approvals by interrupt, and calls that are made again."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import orjson
import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.langchain.interrupts import answer, approval_by_interrupt, requests_of
from agent_identity.integrations.langchain.protection import protect
from agent_identity.limits import Limit

ALICE, BOB = Human("alice@example.com"), Human("bob@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))
CONFIG: Any = {"configurable": {"thread_id": "1"}}
paid: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    paid.clear()


@pytest.fixture
def desk(open_desk: Callable[..., Any]) -> Any:
    return open_desk(policy=POLICY, routes={"desk": approval_by_interrupt()})


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


def make_pay() -> BaseTool:
    """Return a fresh tool with a default, which people must see as well."""

    @tool
    def pay(invoice: str, amount: int, currency: str = "EUR") -> str:
        """Pay."""
        paid.append((invoice, amount, currency))
        return f"paid {invoice}"

    return pay


def call(identifier: str = "c1", **args: Any) -> AIMessage:
    """Return the message of a model that pays."""
    return AIMessage("", tool_calls=[{"name": "pay", "args": args, "id": identifier}])


def agent(tools: list[BaseTool], *script: AIMessage, **options: Any) -> Any:
    """Return an agent with a scripted model, which keeps its state in memory."""
    model = ScriptedModel(script=[*script, AIMessage("done")])
    return create_agent(model, tools=tools, checkpointer=InMemorySaver(), **options)


def task(desk: Any, **options: Any) -> Any:
    """Open a task of alice for the clerk."""
    given: dict[str, Any] = {"principal": ALICE, "agent": CLERK, "scope": Scope("pay"), **options}
    return desk.enforcer.task("pay", **given)


def ask(desk: Any, graph: Any, **options: Any) -> Any:
    """Run the agent until it stops, and return the interrupts."""
    with task(desk, **options):
        return graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)["__interrupt__"]


def resume(desk: Any, graph: Any, command: Any, **options: Any) -> list[ToolMessage]:
    """Resume in a new task, and return what the tools answered."""
    with task(desk, **options):
        result = graph.invoke(command, CONFIG)
    assert "__interrupt__" not in result
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


def told(desk: Any) -> list[tuple[str, str]]:
    """Return kind, and outcome or status, of the records about calls and approvals."""
    reader = open_ledger(desk.directory)
    found = []
    for record in desk_records(reader):
        if record["kind"] == "approval":
            found.append(("approval", record["approval"]["status"]))
        elif record["kind"] in ("intent", "outcome"):
            found.append((record["kind"], record.get("outcome", "")))
    return found


def desk_records(reader: Any) -> list[dict[str, Any]]:
    """Return every record of a ledger."""
    return [orjson.loads(line.record) for stream in reader.streams() for line in reader.entries(stream)]


def refused(messages: list[ToolMessage], code: str) -> None:
    """Prove that the one call was refused with a code that the model can read, and that nothing was paid."""
    (message,) = messages
    assert message.status == "error"
    assert message.content.startswith(f"refused: {code} (reference ")
    assert not paid


@pytest.mark.parametrize("mode", ["sync", "async"])
async def test_an_interrupt_asks_and_the_resume_in_another_task_runs_what_was_approved(desk: Any, mode: str) -> None:
    """One request, one suspended outcome, then one approval, one intent and one outcome, and all of it verifies."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    go = {"messages": [HumanMessage("go")]}
    with task(desk):
        result = graph.invoke(go, CONFIG) if mode == "sync" else await graph.ainvoke(go, CONFIG)
    assert not paid
    (request,) = requests_of(result["__interrupt__"]).values()
    assert (request.tool, request.arguments) == ("pay", {"invoice": "INV-1", "amount": 5, "currency": "EUR"})
    assert (request.principal, request.agent, request.why) == (ALICE, CLERK, "two people decide")
    command = answer(result["__interrupt__"], desk.enforcer, by=BOB)
    with task(desk):
        result = graph.invoke(command, CONFIG) if mode == "sync" else await graph.ainvoke(command, CONFIG)
    assert result["messages"][-1].content == "done"
    assert paid == [("INV-1", 5, "EUR")]
    assert told(desk) == [
        ("approval", "pending"),
        ("outcome", "suspended"),
        ("approval", "approved"),
        ("intent", ""),
        ("outcome", "success"),
    ]
    desk.enforcer.close()
    assert Verifier().ledger(desk.directory).verdict == "verified"


def test_a_rejection_reaches_the_model_and_the_run_goes_on(desk: Any) -> None:
    """With the reason; the body does not run."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    command = answer(ask(desk, graph), desk.enforcer, by=BOB, reject=True, reason="a copy")
    messages = resume(desk, graph, command)
    refused(messages, "approval_rejected")
    assert "a copy" in messages[0].content


@pytest.mark.parametrize("resumed", [True, {"approved": True}, "yes", {"decisions": [{"type": "approve"}]}])
def test_ac_64_a_resume_without_a_ruling_is_refused(desk: Any, resumed: object) -> None:
    """Whoever can resume the graph, but cannot sign, approves nothing."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    ask(desk, graph)
    refused(resume(desk, graph, Command(resume=resumed)), "approval_forged")


def test_ac_64_the_principal_cannot_resume_with_an_approval_of_their_own(desk: Any) -> None:
    """It is not signed, outside a task as inside one."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    found = ask(desk, graph)
    with pytest.raises(Denied) as caught:
        answer(found, desk.enforcer, by=ALICE)
    assert caught.value.code == "approval_self"
    with task(desk), pytest.raises(Denied) as caught:
        answer(found, desk.enforcer, by=BOB)
    assert caught.value.code == "approval_in_task"
    with pytest.raises(ConfigurationError, match="asks for an approval"):
        answer([], desk.enforcer, by=BOB)


@pytest.mark.parametrize("change", ["principal", "agent", "arguments", "too late"])
def test_ac_64_an_approval_counts_for_the_same_call_of_the_same_principal_only(desk: Any, change: str) -> None:
    """A task for somebody else, an edited call, or another day than it was good for: refused."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    command = answer(ask(desk, graph), desk.enforcer, by=BOB)
    options: dict[str, Any] = {}
    if change == "principal":
        options["principal"] = Human("carol@example.com")
    elif change == "agent":
        options["agent"] = Agent("other", owner="finance@example.com")
    elif change == "too late":
        desk.clock.advance(7 * 24 * 3600)
    else:
        other = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5000))
        found = ask(desk, other)
        (token,) = command.resume.values()
        refused(resume(desk, other, Command(resume={found[0].id: token})), "approval_mismatch")
        return
    code = "approval_expired" if change == "too late" else "approval_mismatch"
    refused(resume(desk, graph, command, **options), code)


def test_ac_64_a_ruling_in_a_checkpoint_is_good_once(desk: Any) -> None:
    """A graph that is rewound to the interrupt and resumed with the same ruling gets a refusal."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    found = ask(desk, graph)
    rewound = graph.get_state(CONFIG).config
    command = answer(found, desk.enforcer, by=BOB)
    resume(desk, graph, command)
    assert len(paid) == 1
    again = agent([make_pay()], call(invoice="INV-1", amount=5))
    again.checkpointer = graph.checkpointer
    with task(desk):
        result = graph.invoke(command, rewound)
    answers = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert [message.status for message in answers] == ["error"]
    assert "approval_used" in answers[0].content
    assert len(paid) == 1


def test_a_resume_outside_any_task_runs_nothing(desk: Any) -> None:
    """The authority of the first run has ended, and only the principal opens another."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    command = answer(ask(desk, graph), desk.enforcer, by=BOB)
    result = graph.invoke(command, CONFIG)
    refused([message for message in result["messages"] if isinstance(message, ToolMessage)], "no_task")


def test_two_calls_of_one_turn_are_two_requests(desk: Any) -> None:
    """Each is approved for itself, and a rejected one does not stop the other."""
    both = AIMessage(
        "",
        tool_calls=[
            {"name": "pay", "args": {"invoice": f"INV-{n}", "amount": n}, "id": f"c{n}", "type": "tool_call"}
            for n in (1, 2)
        ],
    )
    graph = agent(protect([make_pay()], desk.enforcer), both)
    found = requests_of(ask(desk, graph))
    assert len(found) == 2
    approvals = desk.enforcer.approvals
    decided = {
        name: approvals.approve(request, by=BOB)
        if request.arguments["amount"] == 1
        else approvals.reject(request, by=BOB)
        for name, request in found.items()
    }
    messages = resume(desk, graph, Command(resume=decided))
    assert sorted(message.status for message in messages) == ["error", "success"]
    assert paid == [("INV-1", 1, "EUR")]


def test_a_call_that_its_body_suspends_counts_once(open_desk: Callable[..., Any]) -> None:
    """A limit of one use holds a call whose body asks twice, and no second call beside or after it."""
    desk = open_desk()

    @tool
    def pay(invoice: str) -> str:
        """Pay."""
        said = [interrupt("really?"), interrupt("really, really?")]
        paid.append(invoice)
        return f"paid {invoice} {said}"

    both = AIMessage("", tool_calls=[{"name": "pay", "args": {"invoice": "INV-1"}, "id": f"c{n}"} for n in (1, 2)])
    graph = agent(protect([pay], desk.enforcer), both, call("c3", invoice="INV-1"))
    limits = (Limit.uses("pay", 1),)
    with task(desk, limits=limits):
        result = graph.invoke({"messages": [HumanMessage("go")]}, CONFIG)
        assert len(result["__interrupt__"]) == 1
        result = graph.invoke(Command(resume="yes"), CONFIG)
        assert not paid
        result = graph.invoke(Command(resume="yes"), CONFIG)
    answers = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    assert sorted(message.status for message in answers) == ["error", "error", "success"]
    assert paid == ["INV-1"]
    assert desk.outcomes().count("suspended") == 2
    assert desk.outcomes().count("success") == 1


def test_an_approved_call_that_its_body_suspends_is_still_the_approved_call(desk: Any) -> None:
    """The approval is used by it once, however often it is made again; the verifier agrees."""

    @tool
    def pay(invoice: str) -> str:
        """Pay."""
        paid.append((invoice, interrupt("which account?")))
        return "paid"

    graph = agent(protect([pay], desk.enforcer), call(invoice="INV-1"), call("c2", invoice="INV-1"))
    command = answer(ask(desk, graph), desk.enforcer, by=BOB)
    with task(desk):
        (asked,) = graph.invoke(command, CONFIG)["__interrupt__"]
        assert asked.value == "which account?"
        result = graph.invoke(Command(resume={asked.id: "main"}), CONFIG)
    assert paid == [("INV-1", "main")]
    assert len(requests_of(result["__interrupt__"])) == 1  # The next call, although it is the same, asks anew.
    desk.enforcer.close()
    assert Verifier().ledger(desk.directory).verdict == "verified"


@pytest.mark.parametrize("decision", ["approve", "edit", "reject"])
def test_beside_the_middleware_of_langchain_the_edited_call_is_what_is_approved(desk: Any, decision: str) -> None:
    """Its review comes first, without an approver; what comes out of it needs an approval as it is then."""
    middleware = [HumanInTheLoopMiddleware(interrupt_on={"pay": True})]
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5), middleware=middleware)
    found = ask(desk, graph)
    assert requests_of(found) == {}
    edited = {"type": "edit", "edited_action": {"name": "pay", "args": {"invoice": "INV-1", "amount": 7}}}
    with task(desk):
        choice = edited if decision == "edit" else {"type": decision}
        result = graph.invoke(Command(resume={"decisions": [choice]}), CONFIG)
    assert not paid
    if decision == "reject":
        assert "__interrupt__" not in result
        return
    (request,) = requests_of(result["__interrupt__"]).values()
    assert request.arguments["amount"] == (7 if decision == "edit" else 5)
    resume(desk, graph, answer(result["__interrupt__"], desk.enforcer, by=BOB))
    assert [amount for _, amount, _ in paid] == [request.arguments["amount"]]


def test_other_interrupts_and_altered_requests_are_told_apart(desk: Any) -> None:
    """A request that is none, or that somebody changed in the checkpoint, is not signed."""
    graph = agent(protect([make_pay()], desk.enforcer), call(invoice="INV-1", amount=5))
    (found,) = ask(desk, graph)
    broken = type(found)(value={"agent_identity_approval": {}}, id="x")
    with pytest.raises(ConfigurationError, match="members"):
        requests_of([broken])
    changed = {**found.value["agent_identity_approval"]}
    changed["arguments"] = {**changed["arguments"], "amount": 1}
    with pytest.raises(ConfigurationError, match="differs"):
        answer([type(found)(value={"agent_identity_approval": changed}, id="x")], desk.enforcer, by=BOB)
    with pytest.raises(TypeError, match="approvers is timedelta; give Approvers; write"):
        approval_by_interrupt(timedelta(days=31))  # type: ignore[arg-type]
