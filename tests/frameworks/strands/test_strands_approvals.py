"""Approvals by interrupts of Strands: the session carries the request and the ruling, and gives no authority."""

import asyncio
import importlib.util
import subprocess
import sys
from contextlib import ExitStack
from contextvars import Context, copy_context
from pathlib import Path
from typing import Any

import pytest
from changing_policy import Changing
from strands import Agent as StrandsAgent
from strands import tool
from strands.session import FileSessionManager
from strands_doubles import ALICE, BOB, made, outcomes, results, task, use

import agent_identity as ai
from agent_identity import Denied, Effect, Rule, RuleSet, Verifier
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.strands import (
    AgentIdentityHooks,
    answer,
    approval_by_interrupt,
    instrument,
    requests_of,
)
from agent_identity.testing import Rehearse

POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))
paid: list[Any] = []
BACKGROUND = importlib.util.find_spec("strands.background_tasks") is not None


@pytest.fixture(autouse=True)
def _forget() -> None:
    paid.clear()


@pytest.fixture
def world(rehearse: Rehearse) -> Any:
    return rehearse(policy=POLICY, routes={"desk": approval_by_interrupt()})


@tool
def pay(invoice: str, amount: int = 5) -> str:
    """Pay an invoice."""
    paid.append((invoice, amount))
    return f"paid {invoice}"


@tool
def read(invoice: str) -> str:
    """Read an invoice."""
    return f"{invoice} is open"


def test_an_interrupt_asks_and_the_resume_runs_what_was_approved(world: Any) -> None:
    """The agent stops with the request; resumed in another task with a signed ruling, it runs that one call."""
    hooks = AgentIdentityHooks(world.enforcer)
    agent = made(hooks, [pay, read], [use("pay", "c1", invoice="A"), use("read", "c2", invoice="A")], "done")
    with task(world, "pay", "read"):
        stopped = agent("go")
    assert (stopped.stop_reason, paid) == ("interrupt", [])
    (request,) = requests_of(stopped.interrupts).values()
    assert (request.tool, request.arguments, request.principal) == ("pay", {"invoice": "A", "amount": 5}, ALICE)
    decided = answer(stopped.interrupts, world.enforcer, by=BOB)
    with task(world, "pay", "read"):
        assert str(agent(decided)).strip() == "done"
    assert paid == [("A", 5)]
    assert sorted(results(agent)) == [("success", "A is open"), ("success", "paid A")]
    assert sorted(outcomes(world)) == ["success", "success", "suspended"]
    world.close()
    assert Verifier().ledger(Path(world.directory)).verdict == "verified"


def test_a_rejection_is_a_refusal(world: Any) -> None:
    """A rejected call is answered with an error result."""
    agent = made(AgentIdentityHooks(world.enforcer), [pay], use("pay", "c1", invoice="A"), "done")
    with task(world, "pay"):
        stopped = agent("go")
    decided = answer(stopped.interrupts, world.enforcer, by=BOB, reject=True, reason="too early")
    with task(world, "pay"):
        agent(decided)
    ((status, text),) = results(agent)
    assert (status, paid) == ("error", [])
    assert text.startswith("refused: approval_rejected (reference ")


@pytest.mark.parametrize("forged", ["yes", True, {"approved": True}])
def test_what_is_no_signed_ruling_approves_nothing(world: Any, forged: object) -> None:
    """A response that nobody signed is refused, whatever it says."""
    agent = made(AgentIdentityHooks(world.enforcer), [pay], use("pay", "c1", invoice="A"), "done")
    with task(world, "pay"):
        stopped = agent("go")
        agent([{"interruptResponse": {"interruptId": one.id, "response": forged}} for one in stopped.interrupts])
    assert not paid
    ((status, text),) = results(agent)
    assert status == "error"
    assert text.startswith("refused: approval_")


def test_a_ruling_is_for_its_call_alone(world: Any) -> None:
    """The ruling on one call approves no other one."""
    agents = [
        made(AgentIdentityHooks(world.enforcer), [pay], use("pay", "c1", invoice=invoice), "done") for invoice in "AB"
    ]
    with task(world, "pay"):
        first, second = (agent("go") for agent in agents)
    (ruling,) = answer(first.interrupts, world.enforcer, by=BOB)
    (other,) = second.interrupts
    with task(world, "pay"):
        agents[1]([{"interruptResponse": {**ruling["interruptResponse"], "interruptId": other.id}}])
    assert not paid


def test_the_requester_cannot_answer(world: Any) -> None:
    """Neither the principal nor anybody inside a task decides."""
    agent = made(AgentIdentityHooks(world.enforcer), [pay], use("pay", "c1", invoice="A"), "done")
    with task(world, "pay"):
        stopped = agent("go")
        with pytest.raises(Denied):
            answer(stopped.interrupts, world.enforcer, by=BOB)
    with pytest.raises(Denied):
        answer(stopped.interrupts, world.enforcer, by=ALICE)
    with pytest.raises(ConfigurationError):
        answer([], world.enforcer, by=BOB)


def test_interrupts_of_tools_suspend_the_call(rehearse: Rehearse) -> None:
    """A tool that asks people itself is suspended on record, and succeeds when it is called again."""

    @tool(context=True)
    def ask(question: str, tool_context: Any) -> str:
        """Ask."""
        return str(tool_context.interrupt("ask", reason=question))

    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [ask], use("ask", "c1", question="why"), "done")
    with task(world, "ask"):
        (one,) = agent("go").interrupts
        agent([{"interruptResponse": {"interruptId": one.id, "response": "because"}}])
    assert results(agent) == [("success", "because")]
    assert outcomes(world) == ["suspended", "success"]


RESUME = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[3]]
from strands.session import FileSessionManager
from strands_doubles import BOB, WHO, made
from test_strands_approvals import POLICY, pay, paid
from agent_identity import Enforcer, Scope
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks, answer, approval_by_interrupt
directory, sessions = sys.argv[1:3]
with Enforcer.open(directory, policy=POLICY, routes={"desk": approval_by_interrupt()}) as enforcer:
    keeper = FileSessionManager(session_id="s1", storage_dir=sessions)
    agent = made(AgentIdentityHooks(enforcer), [pay], "done", agent_id="a1", session_manager=keeper)
    with enforcer.task("again", scope=Scope("pay"), **WHO):
        agent([{"interruptResponse": {"interruptId": sys.argv[4], "response": sys.argv[5]}}])
print(paid)
"""


def test_another_process_resumes_from_the_session(tmp_path: Path) -> None:
    """A session manager carries the interrupt to another process, where the signed ruling lets the call run."""
    from strands_doubles import WHO

    from agent_identity import Enforcer, Scope

    directory, sessions = tmp_path / "evidence", tmp_path / "sessions"
    with Enforcer.open(directory, policy=POLICY, routes={"desk": approval_by_interrupt()}) as enforcer:
        keeper = FileSessionManager(session_id="s1", storage_dir=str(sessions))
        script = use("pay", "c1", invoice="A")
        agent = made(AgentIdentityHooks(enforcer), [pay], script, agent_id="a1", session_manager=keeper)
        with enforcer.task("pay", scope=Scope("pay"), **WHO):
            stopped = agent("go")
        (one,) = answer(stopped.interrupts, enforcer, by=BOB)
    given = one["interruptResponse"]
    program = [sys.executable, "-c", RESUME, str(directory), str(sessions), str(Path(__file__).parent)]
    done = subprocess.run(
        [*program, given["interruptId"], given["response"]],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "PATH": ""},
    )
    assert done.stdout == "[('A', 5)]\n", done.stderr
    assert Verifier().ledger(directory).verdict == "verified"


@pytest.mark.skipif(not BACKGROUND, reason="no tool runs in the background in this version of Strands")
@pytest.mark.parametrize("other", [False, True])
def test_a_call_in_the_background_is_approved_for_who_asked(world: Any, other: bool) -> None:
    """Resumed in a later task of the same person, it runs under that one; in that of another person it does not run."""
    hooks = AgentIdentityHooks(world.enforcer)
    agent = made(hooks, [pay], use("pay", "c1", invoice="A"), "waiting", "done", background_tasks={"always": ["pay"]})
    with task(world, "pay"):
        stopped = agent("go")
    assert (stopped.stop_reason, paid) == ("interrupt", [])
    decided = answer(stopped.interrupts, world.enforcer, by=ai.Human("carol@example.com"))
    with task(world, "pay", **({"principal": BOB} if other else {})):
        agent(decided)
    assert paid == ([] if other else [("A", 5)])
    assert outcomes(world) == ["suspended", "denied" if other else "success"]
    world.close()
    assert Verifier().ledger(Path(world.directory)).verdict == "verified"


@pytest.mark.skipif(not BACKGROUND, reason="no tool runs in the background in this version of Strands")
def test_a_tool_in_the_background_may_ask_a_person_itself(world: Any) -> None:
    """Its call goes on under the task in which the person answers."""

    @tool(context=True)
    def ask(tool_context: Any) -> str:
        """Ask."""
        answered = str(tool_context.interrupt("which", reason="which one?"))
        paid.append(answered)
        return answered

    agent = made(
        AgentIdentityHooks(world.enforcer),
        [ask],
        use("ask", "c1"),
        "waiting",
        "done",
        background_tasks={"always": ["ask"]},
    )
    with task(world, "ask"):
        stopped = agent("go")
    (asked,) = stopped.interrupts
    with task(world, "ask"):
        agent([{"interruptResponse": {"interruptId": asked.id, "response": "this"}}])
    assert paid == ["this"]
    assert outcomes(world) == ["suspended", "success"]


@pytest.mark.skipif(not BACKGROUND, reason="no tool runs in the background in this version of Strands")
@pytest.mark.parametrize("way", ["hooks", "instrument"])
async def test_a_call_that_was_answered_waits_for_who_answered(rehearse: Rehearse, way: str) -> None:
    """Strands begins it in the context of another call where that ends; it runs for the person who resumed it."""
    world, whose, asking = rehearse(), list[tuple[str, str]](), asyncio.Event()
    begun, ends = ({name: asyncio.Event() for name in ("first", "second", "asked")} for _ in range(2))

    async def noted(name: str) -> str:
        current = world.enforcer.current_task
        whose.append((name, current.id))
        begun[name].set()
        await ends[name].wait()
        return name

    @tool
    async def slow(name: str) -> str:
        """Take long."""
        return await noted(name)

    @tool(context=True)
    async def ask(tool_context: Any) -> str:
        """Ask."""
        asking.set()
        tool_context.interrupt("which", reason="which one?")
        return await noted("asked")

    calls = [use("slow", "c1", name="first"), use("ask", "c2"), use("slow", "c3", name="second")]
    modes: dict[str, Any] = {"always": ["slow", "ask"], "max_concurrency": 1, "wait_for_completion": False}
    hooks = AgentIdentityHooks(world.enforcer) if way == "hooks" else None
    undo = instrument(world.enforcer) if hooks is None else lambda: None
    script = [step for call in calls for step in (call, "started")]
    agent = made(hooks, [slow, ask], *script, background_tasks=modes)

    async def said(context: Context, prompt: Any) -> Any:
        return await asyncio.create_task(agent.invoke_async(prompt), context=context)

    try:
        async with asyncio.timeout(60):
            with ExitStack() as opened:
                bob, alice, later = copy_context(), copy_context(), copy_context()
                bob.run(opened.enter_context, task(world, "slow", principal=BOB))
                first = alice.run(opened.enter_context, task(world, "ask"))
                await said(bob, "go")
                await begun["first"].wait()
                await said(alice, "ask")
                await said(bob, "go on")
                ends["first"].set()
                await begun["second"].wait()
                (asked,) = (await said(alice, "and?")).interrupts
                second = later.run(opened.enter_context, task(world, "ask"))
                answered = [{"interruptResponse": {"interruptId": asked.id, "response": "this"}}]
                with pytest.raises(ValueError, match="interrupt"):  # It waits for no answer.
                    await bob.run(asyncio.create_task, made(hooks, [ask]).invoke_async(answered))
                await said(later, answered)
                ends["second"].set()
                await begun["asked"].wait()
                ends["asked"].set()
    finally:
        undo()
    assert whose[2] == ("asked", second.id)
    assert second.id != first.id


@pytest.mark.parametrize("reject", [True, False])
def test_a_policy_that_asks_nobody_any_more_frees_no_call(rehearse: Rehearse, *, reject: bool) -> None:
    """What was suspended for a person runs by a ruling alone, although nobody would be asked any more."""
    policy = Changing()
    world = rehearse(policy=policy, routes={"desk": approval_by_interrupt()})
    agent = made(AgentIdentityHooks(world.enforcer), [pay], use("pay", "c1", invoice="A"), "done")
    with task(world, "pay"):
        stopped = agent("go")
    policy.asks = False
    decided = answer(stopped.interrupts, world.enforcer, by=BOB, reject=reject)
    with task(world, "pay"):
        agent(decided)
    assert len(paid) == (0 if reject else 1)
    assert outcomes(world)[-1] == ("denied" if reject else "success")


@pytest.mark.skipif(not hasattr(StrandsAgent, "take_snapshot"), reason="snapshots came later")
@pytest.mark.parametrize("ruled", ["approved", "rejected", "forged"])
def test_a_snapshot_in_another_agent_frees_no_call(rehearse: Rehearse, ruled: str) -> None:
    """An agent that goes on from the snapshot of another one has another session, and needs the ruling nevertheless."""
    policy = Changing()
    world = rehearse(policy=policy, routes={"desk": approval_by_interrupt()})
    first = made(AgentIdentityHooks(world.enforcer), [pay], use("pay", "c1", invoice="A"))
    with task(world, "pay"):
        stopped = first("go")
    policy.asks = False
    second = made(AgentIdentityHooks(world.enforcer), [pay], "done")
    second.load_snapshot(first.take_snapshot(preset="session"))
    decided = answer(stopped.interrupts, world.enforcer, by=BOB, reject=ruled == "rejected")
    if ruled == "forged":
        decided = [{"interruptResponse": {"interruptId": one.id, "response": "yes"}} for one in stopped.interrupts]
    with task(world, "pay"):
        second(decided)
    assert len(paid) == (1 if ruled == "approved" else 0)
