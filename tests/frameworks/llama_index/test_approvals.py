"""Approvals by events of a workflow: the step waits, in a saved context if need be, for a signed ruling."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from changing_policy import Changing
from declared_tools import EVIL, OWN, PAYS, READ, READS, Bank, pay
from llama_index.core.agent.workflow import FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import ToolOutput
from llama_index.core.workflow import Context, HumanResponseEvent, InputRequiredEvent

import agent_identity as ai
from agent_identity import Effect, Rule, RuleSet
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.llama_index import answer, approval_by_event, protect, requests_of
from agent_identity.state import MemoryState

POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))
PAYING = [("pay", {"invoice": "INV-1", "amount": 7})]


@pytest.fixture
def office(open_office: Any) -> Any:
    return open_office(policy=POLICY, routes={"desk": approval_by_event()})


def scripted(*script: Any, named: bool | None = None) -> MockFunctionCallingLLM:
    """Return a model that follows a script; each of its calls has another id, the name of its tool, or none."""
    steps, ids = list(script), itertools.count()

    def answer(*_: Any, **__: Any) -> ChatMessage:
        step = steps.pop(0) if steps else "done"
        if isinstance(step, str):
            return ChatMessage(role=MessageRole.ASSISTANT, content=step)
        blocks: list[Any] = [
            ToolCallBlock(tool_call_id=call_id(name), tool_name=name, tool_kwargs=dict(given)) for name, given in step
        ]
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)

    def call_id(name: str) -> str:
        return f"{id(steps)}-{next(ids)}" if named is None else name if named else ""

    return MockFunctionCallingLLM(response_generator=answer)


async def asked(run: Any) -> InputRequiredEvent:
    """Return the event by which a run asks for input."""
    async with asyncio.timeout(20):
        async for event in run.stream_events():
            if isinstance(event, InputRequiredEvent):
                return event
    raise AssertionError("nothing was asked")


async def outputs(run: Any) -> list[ToolOutput]:
    """Return what the tools of a run answered from now on."""
    async with asyncio.timeout(20):
        found = [event.tool_output async for event in run.stream_events() if isinstance(event, ToolCallResult)]
        await run
    return found


async def test_an_approval_after_the_end_of_the_task_is_too_late(office: Any) -> None:
    """The run that waits has the task in which it began; one that is resumed has another one."""
    agent = office.agent(PAYING)
    async with office.task():
        run = agent.run("pay")
        event = await asked(run)
    assert (office.ran, office.calls()) == ([], [("pay", "suspended", "policy_routes")])
    (request,) = requests_of(event)
    assert (request.tool, request.arguments) == ("pay", {"invoice": "INV-1", "amount": 7, "currency": "EUR"})
    ruling = answer(event, office.enforcer, by=office.bob)
    run.ctx.send_event(ruling)
    await run
    assert office.ran == []  # The task in which the run began is over.
    assert [outcome for _, outcome, _ in office.calls()] == ["suspended", "denied"]


async def saved(office: Any) -> tuple[InputRequiredEvent, str]:
    """Run until a person is asked, and return what asks, and the context as JSON."""
    agent = office.agent(PAYING)
    async with office.task():
        run = agent.run("pay")
        event = await asked(run)
        state = json.dumps(run.ctx.to_dict())
        await run.cancel_run()
    return event, state


async def resumed(office: Any, state: str, event: HumanResponseEvent) -> list[ToolOutput]:
    """Resume with a new agent in a new task, as another process does."""
    agent = office.agent("done")
    async with office.task():
        context = Context.from_dict(agent, json.loads(state))
        await context.store.set("memory", ChatMemoryBuffer.from_defaults(llm=agent.llm))  # Is not saved.
        run = agent.run(ctx=context)
        run.ctx.send_event(event)
        return await outputs(run)


async def test_a_saved_run_is_resumed_with_the_ruling(office: Any) -> None:
    """Another process, another task of the same principal and agent: the call is made again, and runs."""
    event, state = await saved(office)
    (answered,) = await resumed(office, state, answer(event, office.enforcer, by=office.bob))
    assert answered.content == "paid 7 EUR"
    assert [outcome for _, outcome, _ in office.calls()].count("success") == 1
    assert office.ran == [("pay", "INV-1", 7, "EUR")]


async def test_a_rejected_call_is_an_error_with_the_reason(office: Any) -> None:
    """The rejection is on record."""
    event, state = await saved(office)
    ruling = answer(event, office.enforcer, by=office.bob, reject=True, reason="not due")
    (answered,) = await resumed(office, state, ruling)
    assert (answered.is_error, "not due" in answered.content, office.ran) == (True, True, [])
    assert ("pay", "denied", "approval_rejected") in office.calls()


async def test_an_answer_without_a_ruling_permits_nothing(office: Any) -> None:
    """Whoever sends the event without our signature is refused."""
    event, state = await saved(office)
    forged = answer(event, office.enforcer, by=office.bob).model_copy()
    forged.response = "yes"
    (answered,) = await resumed(office, state, forged)
    assert (answered.is_error, office.ran) == (True, [])
    assert "denied" in [outcome for _, outcome, _ in office.calls()]  # A resumed step runs once more beside.


async def test_who_may_not_approve_cannot(office: Any) -> None:
    """The principal, anybody inside a task, and other events."""
    event, _ = await saved(office)
    with pytest.raises(Denied):
        answer(event, office.enforcer, by=office.alice)
    with office.task(), pytest.raises(Denied):
        answer(event, office.enforcer, by=office.bob)
    with pytest.raises(ConfigurationError):
        answer(InputRequiredEvent(), office.enforcer, by=office.bob)
    with pytest.raises(ConfigurationError):
        requests_of(InputRequiredEvent(agent_identity_approval={"id": "x"}))


def test_a_direct_call_cannot_wait(office: Any) -> None:
    """Outside a workflow nobody could answer, so the call is refused."""
    (pay, _) = protect([office.pay, office.read], office.enforcer)
    with office.task():
        refused = pay.call("INV-1", 7)
    assert (refused.is_error, office.ran) == (True, [])
    assert office.calls() == [("pay", "denied", "approval_failed")]


async def test_a_tool_that_waits_itself_is_suspended(open_office: Any) -> None:
    """The framework runs its body again from the top: a call of its own."""
    office = open_office()

    async def confirm(ctx: Context, what: str) -> str:
        office.ran.append(what)
        event = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(), waiter_id=what)
        return f"{what}: {event.response}"

    agent = office.agent([("confirm", {"what": "pay"})], tools=[confirm])
    async with office.task(ai.Scope("confirm")):
        run = agent.run("go")
        await asked(run)
        run.ctx.send_event(HumanResponseEvent(response="yes"))
        await run
    assert office.ran == ["pay", "pay"]
    assert [outcome for _, outcome, _ in office.calls()] == ["suspended", "success"]


async def test_a_process_that_asks_nobody_frees_no_call(open_office: Any) -> None:
    """Without policy and routes it refuses a call that waits for a person, although the call has no id."""
    state = MemoryState()
    first = open_office(policy=POLICY, routes={"desk": approval_by_event()}, state=state)
    event, kept = await saved(first)
    second = open_office(state=state)
    answered = await resumed(second, kept, answer(event, first.enforcer, by=first.bob, reject=True))
    assert {given.is_error for given in answered} == {True}
    assert second.ran == []
    assert {(outcome, code) for _, outcome, code in second.calls()} == {("denied", "call_suspended")}


@pytest.mark.parametrize("reject", [True, False])
async def test_a_policy_that_asks_nobody_any_more_frees_no_call(open_office: Any, *, reject: bool) -> None:
    """What was suspended for a person runs by a ruling alone, although nobody would be asked any more."""
    policy = Changing()
    office = open_office(policy=policy, routes={"desk": approval_by_event()})
    event, state = await saved(office)
    policy.asks = False
    (answered,) = await resumed(office, state, answer(event, office.enforcer, by=office.bob, reject=reject))
    assert (answered.is_error, len(office.ran)) == ((True, 0) if reject else (False, 1))


async def test_a_call_of_a_saved_run_whose_turn_the_task_did_not_see_is_unknown(tmp_path: Path) -> None:
    """A run stopped before its tool ended; in a new task with a request its call asks a person, later ones do not."""
    bank = Bank(tmp_path / "bank")
    begun, never = asyncio.Event(), asyncio.Event()

    async def pay_invoice(iban: str) -> str:
        begun.set()
        if not bank.paid:
            bank.paid.append(iban)
            await never.wait()
        bank.paid.append(iban)
        return f"paid to {iban}"

    def agent(*script: Any) -> FunctionAgent:
        tools = protect([pay_invoice], bank.enforcer, tool_options={"pay_invoice": PAYS})
        return FunctionAgent(tools=tools, llm=scripted(*script))

    async with bank.task():
        run = agent([pay(EVIL)]).run("pay")
        await asyncio.wait_for(begun.wait(), 20)
        state = json.dumps(run.ctx.to_dict())
        await run.cancel_run()
    assert bank.paid == [EVIL]
    later = agent([pay(OWN)], "done")
    async with bank.task():
        context = Context.from_dict(later, json.loads(state))
        await context.store.set("memory", ChatMemoryBuffer.from_defaults(llm=later.llm))
        await later.run(ctx=context)
    assert bank.paid == [EVIL, OWN]
    assert [outcome for _, outcome in bank.ended()] == ["cancelled", "denied", "success"]
    assert bank.marks()[-1] == ("prompt", "unknown")
    bank.verify()


@pytest.mark.parametrize("named", [True, False])
async def test_a_call_of_a_saved_run_is_not_known_by_its_id_alone(tmp_path: Path, *, named: bool) -> None:
    """Models that give calls no ids, or their tools' names for ids: another run has not seen the same call."""
    bank = Bank(tmp_path / "bank")
    begun, never = asyncio.Event(), asyncio.Event()

    async def pay_invoice(iban: str) -> str:
        begun.set()
        if not bank.paid:
            bank.paid.append(iban)
            await never.wait()
        bank.paid.append(iban)
        return f"paid to {iban}"

    def agent(*script: Any) -> FunctionAgent:
        tools = protect([pay_invoice], bank.enforcer, tool_options={"pay_invoice": PAYS})
        return FunctionAgent(tools=tools, llm=scripted(*script, named=named))

    async with bank.task():
        run = agent([pay(EVIL)]).run("pay")
        await asyncio.wait_for(begun.wait(), 20)
        state = json.dumps(run.ctx.to_dict())
        await run.cancel_run()
    later = agent("done")
    async with bank.task():
        await agent([pay(OWN)], "done").run("pay")
        context = Context.from_dict(later, json.loads(state))
        await context.store.set("memory", ChatMemoryBuffer.from_defaults(llm=later.llm))
        await later.run(ctx=context)
    assert bank.paid == [EVIL, OWN]
    assert bank.marks()[-1] == ("prompt", "unknown")
    bank.verify()


async def test_a_run_of_this_task_keeps_its_mark(tmp_path: Path) -> None:
    """Each call of a model that the task has seen is judged at the mark of the task."""
    bank = Bank(tmp_path / "bank")
    tools = protect(bank.tools(), bank.enforcer, tool_options={"pay_invoice": PAYS, "read_invoice": READS})
    async with bank.task():
        await FunctionAgent(tools=tools, llm=scripted([READ, pay(EVIL)], [pay(EVIL)])).run("pay")
    assert bank.paid == [EVIL, EVIL]
    assert bank.marks() == [("request", "trusted")]
    bank.verify()
