"""Sessions of the OpenAI Agents SDK: the mark of what one task has read goes on in the next one."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import Agent, OpenAIConversationsSession, Runner, RunResult, SQLiteSession, function_tool
from changing_policy import Changing
from declared_tools import EVIL, PAYS, READ, Bank, Call, pay
from frameworks.openai_agents.scripts import BOB, SCOPE, WHO, Ran, agent_of, call
from frameworks.openai_agents.test_declared_tools import as_tools, model_of

import agent_identity as ai
from agent_identity.integrations.frameworks.openai_agents import (
    answer,
    approval_by_interruption,
    instrument,
    load_run,
    protect,
    protect_model,
    save_run,
)
from agent_identity.testing import Rehearse

OPTIONS: Any = {"pay_invoice": PAYS}


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    """Opens a bank; at the end its evidence must verify."""
    bank = Bank(tmp_path / "bank")
    yield bank
    bank.verify()


def clerk(bank: Bank, *script: Call) -> Agent[Any]:
    """Return a guarded agent whose model makes these calls."""
    agent = Agent(name="clerk", tools=[*as_tools(bank.tools())], model=model_of(script))
    return protect(agent, bank.enforcer, tool_options=OPTIONS)


async def by_run(agent: Agent[Any], **options: Any) -> None:
    await Runner.run(agent, "go", **options)


async def by_stream(agent: Agent[Any], **options: Any) -> None:
    async for _ in Runner.run_streamed(agent, "go", **options).stream_events():
        pass


async def by_subclass(agent: Agent[Any], **options: Any) -> None:
    await type("Own", (Runner,), {}).run(agent, "go", **options)


WAYS = pytest.mark.parametrize("way", [by_run, by_stream, by_subclass])


@WAYS
@pytest.mark.parametrize(("second", "paid"), [("one", []), ("two", [EVIL]), (None, [EVIL])])
async def test_a_second_turn_goes_on_at_the_mark_of_its_session(
    bank: Bank, way: Callable[..., Any], second: str | None, paid: list[str]
) -> None:
    """What one task has read in a session, the next one has read as well; another session begins anew."""
    with bank.task():
        await way(clerk(bank, READ), session=SQLiteSession("one"))
    with bank.task():
        await way(clerk(bank, pay(EVIL)), session=None if second is None else SQLiteSession(second))
    assert bank.paid == paid


def test_a_second_turn_without_an_event_loop_goes_on_at_the_mark_of_its_session(bank: Bank) -> None:
    """``run_sync`` tells the session as the other methods do, also in a line that protects the agent."""
    with closing(asyncio.new_event_loop()) as loop:  # The SDK leaves its own open.
        asyncio.set_event_loop(loop)
        for script in (READ, pay(EVIL)):
            with bank.task():
                Runner.run_sync(clerk(bank, script), "go", session=SQLiteSession("one"))
        asyncio.set_event_loop(None)
    assert bank.paid == []


async def test_a_session_and_the_conversation_that_it_stands_for_are_one_thread(bank: Bank) -> None:
    """A conversation at the provider goes on at its mark, by its id and by a session of the SDK."""
    with bank.task():
        await Runner.run(clerk(bank, READ), "go", conversation_id="conv-1")
    for session in (None, Kept("conv-1")):
        again: Any = {"conversation_id": "conv-1"} if session is None else {"session": session}
        with bank.task():
            await Runner.run(clerk(bank, pay(EVIL)), "go", **again)
    assert bank.paid == []


class Kept(OpenAIConversationsSession):
    """A session whose conversation the provider keeps, without the provider."""

    def __init__(self, conversation: str) -> None:
        super().__init__(conversation_id=conversation, openai_client=object())  # type: ignore[arg-type]

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return []

    async def add_items(self, items: list[Any]) -> None:
        """Keep nothing."""


async def test_the_mark_of_a_session_is_that_of_everybody_in_it(bank: Bank) -> None:
    """Another principal in a session reads what the first one has read, and is asked."""
    with bank.task():
        await Runner.run(clerk(bank, READ), "go", session=SQLiteSession("one"))
    carol = {"principal": ai.Human("carol@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
    with bank.enforcer.task("books", scope=ai.Scope({"pay_invoice": {}}), request="pay", **carol):
        await Runner.run(clerk(bank, pay(EVIL)), "go", session=SQLiteSession("one"))
    assert bank.paid == []


async def test_what_an_agent_as_a_tool_reads_counts_in_the_session_of_the_run(bank: Bank) -> None:
    """A run without a session of its own is a part of the one that it is made in; afterwards the outer one goes on."""

    def boss(*script: Call) -> Agent[Any]:
        inner = Agent(name="clerk", tools=[*as_tools(bank.tools())], model=model_of(script))
        asks = [("ask_clerk", {"input": "go"})] if script else []
        return Agent(name="boss", tools=[inner.as_tool("ask_clerk", "Ask.")], model=model_of(asks))

    scope = ai.Scope({"read_invoice": {}, "pay_invoice": {}, "ask_clerk": {}})
    trusted: Any = {**OPTIONS, "ask_clerk": ai.options.ToolOptions(labels=[])}
    for script in (READ, pay(EVIL)):
        with bank.task(scope):
            agent = protect(boss(script), bank.enforcer, tool_options=trusted)
            await Runner.run(agent, "go", session=SQLiteSession("one"))
    assert bank.paid == []


async def test_sessions_of_runs_within_runs_are_told_apart(bank: Bank) -> None:
    """A run that a tool makes has its own session, and what it reads counts in that of the outer run as well."""
    inner = clerk(bank, READ)

    @function_tool
    async def look() -> str:
        await Runner.run(inner, "go", session=SQLiteSession("inner"))
        return "looked"

    outer = protect(Agent(name="outer", tools=[look], model=model_of([("look", {})])), bank.enforcer)
    with bank.task(ai.Scope({"look": {}, "read_invoice": {}})):
        await Runner.run(outer, "go", session=SQLiteSession("outer"))
    for session in ("inner", "outer"):
        with bank.task():
            await Runner.run(clerk(bank, pay(EVIL)), "go", session=SQLiteSession(session))
    assert bank.paid == []
    with bank.task():
        await Runner.run(clerk(bank, pay(EVIL)), "go")
    assert bank.paid == [EVIL]


async def test_zero_code_and_a_guarded_model_know_the_session(bank: Bank) -> None:
    """A model alone under guard, and the hooks of the process, go on at the mark of the session."""
    model = protect_model(model_of([]), bank.enforcer)
    with bank.task() as task:
        task.received("text of others", integrity="untrusted")
        await Runner.run(Agent(name="talker", model=model), "go", session=SQLiteSession("one"))
    undo = instrument(bank.enforcer)
    try:
        agent: Any = Agent(name="clerk", tools=[*as_tools(bank.tools())], model=model_of([pay(EVIL)]))
        with bank.task():
            await Runner.run(agent, "go", session=SQLiteSession("one"))
    finally:
        undo()
    assert bank.paid == []


class Nameless:
    """A session that does not tell its name."""

    session_settings = None

    async def get_items(self, limit: int | None = None) -> list[Any]:
        return []

    async def add_items(self, items: list[Any]) -> None:
        """Keep nothing."""

    async def pop_item(self) -> None:
        """Return nothing."""

    async def clear_session(self) -> None:
        """Have nothing to clear."""


async def test_a_session_without_a_name_is_refused(bank: Bank) -> None:
    """Nobody knows what was read in it."""
    with bank.task():
        await Runner.run(clerk(bank, pay(EVIL)), "go", session=Nameless())  # type: ignore[arg-type]
    assert bank.paid == []


@pytest.mark.parametrize("at_first", [None, "one"])
@pytest.mark.parametrize("later", [None, "one", "two"])
@pytest.mark.parametrize("reject", [True, False])
async def test_a_call_waits_for_its_ruling_in_whatever_session_the_run_goes_on(
    rehearse: Rehearse, at_first: str | None, later: str | None, *, reject: bool
) -> None:
    """A run that goes on with another session, or without one, makes the same call, although nobody asks any more."""
    policy, ran = Changing("pay_invoice", "people"), Ran()
    world = rehearse(policy=policy, routes={"people": approval_by_interruption()})
    asked = [call("pay_invoice", "call-1", invoice_id="INV-42", amount=120)]

    async def run(agent: Agent[Any], given: Any, session: str | None) -> RunResult:
        with world.enforcer.task("invoices", scope=SCOPE, **WHO):
            kept = None if session is None else SQLiteSession(session)
            return await Runner.run(agent, given, session=kept)

    agent = protect(agent_of(ran.tools(), asked), world.enforcer)
    saved = save_run(await run(agent, "INV-42", at_first))
    policy.asks = False
    state = await load_run(agent, answer(saved, world.enforcer, by=BOB, reject=reject))
    await run(agent, state, later)
    assert ran == ([] if reject else ["paid 120 EUR"])
