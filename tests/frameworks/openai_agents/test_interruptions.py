"""Approval by interruptions of the OpenAI Agents SDK: the saved run carries our signed ruling, in any process."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from agents import Runner, RunState, function_tool
from changing_policy import Changing
from frameworks.openai_agents.scripts import (
    ALICE,
    BOB,
    CLERK,
    SCOPE,
    WHO,
    Ran,
    agent_of,
    call,
    facts,
    outputs,
    run,
    verifies,
)

import agent_identity as ai
from agent_identity import Decision, Request
from agent_identity.adapters import GuardedCall
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.openai_agents import (
    answer,
    approval_by_interruption,
    instrument,
    load_run,
    protect,
    requests_of,
    save_run,
    unprotect,
)
from agent_identity.state import MemoryState
from agent_identity.testing import Rehearsal, Rehearse

ASKING = ai.RuleSet(
    ai.Rule(ai.Effect.ROUTE, tools="pay_invoice", to="people", reason="two people decide", id="four-eyes")
)
PAY = [call("pay_invoice", "call-1", invoice_id="INV-42", amount=120)]


@pytest.fixture
def asking(rehearse: Rehearse) -> Rehearsal:
    """An enforcer that has people decide about payments."""
    return rehearse(policy=ASKING, routes={"people": approval_by_interruption()})


async def resumed(world: Rehearsal, agent: Any, saved: str) -> Any:
    """Go on with a run in a task of alice."""
    with world.enforcer.task("invoices", scope=SCOPE, **WHO):
        return await Runner.run(agent, await load_run(agent, saved))


async def test_a_run_stops_and_goes_on_with_fresh_agents(asking: Rehearsal) -> None:
    """The request says what the body will get; the approval lets exactly this call run, once."""
    ran = Ran()
    calls = [*PAY, call("read_invoice", "call-2", invoice_id="INV-42")]
    stopped = await run(asking, protect(agent_of(ran.tools(), calls), asking.enforcer))
    assert (ran, [item.call_id for item in stopped.interruptions]) == (["read INV-42"], ["call-1"])
    (request,) = requests_of(stopped.interruptions).values()
    assert dict(request.arguments)["amount"] == 120
    assert (request.tool, request.principal.id, request.why) == (
        "pay_invoice",
        "alice@example.com",
        "two people decide",
    )
    decided = answer(save_run(stopped), asking.enforcer, by=BOB)
    fresh = protect(agent_of(ran.tools()), asking.enforcer)
    result = await resumed(asking, fresh, decided)
    assert (ran, result.final_output) == (["read INV-42", "paid 120 EUR"], "done")
    outcomes = [(one.tool, one.outcome) for one in asking.records.calls()]
    assert sorted(outcomes[:2]) == [("pay_invoice", "suspended"), ("read_invoice", "success")]
    assert outcomes[2:] == [("pay_invoice", "success")]
    states = [one.approval.status for one in asking.records if type(one).__name__ == "Approval"]
    assert states == ["pending", "approved"]
    verifies(asking)


async def test_a_rejection_is_on_record_and_told(asking: Rehearsal) -> None:
    """The body does not run, and the model learns the reason."""
    ran = Ran()
    agent = protect(agent_of(ran.tools(), PAY), asking.enforcer)
    saved = save_run(await run(asking, agent))
    result = await resumed(asking, agent, answer(saved, asking.enforcer, by=BOB, reject=True, reason="paid before"))
    assert (ran, "paid before" in outputs(result)[-1]) == ([], True)
    asking.records.assert_denied(code="approval_rejected", tool="pay_invoice", count=1)
    verifies(asking)


async def test_the_approval_of_the_sdk_alone_lets_nothing_run(asking: Rehearsal) -> None:
    """Its approval names nobody and is not signed: the guard refuses the call."""
    ran = Ran()
    agent = protect(agent_of(ran.tools(), PAY), asking.enforcer)
    stopped = await run(asking, agent)
    state = stopped.to_state()
    state.approve(stopped.interruptions[0], always_approve=True)
    with asking.enforcer.task("invoices", scope=SCOPE, **WHO):
        result = await Runner.run(agent, state)
    assert (ran, outputs(result)[-1][:24]) == ([], "refused: approval_forged")
    asking.records.assert_denied(code="approval_forged", tool="pay_invoice", count=1)


async def test_a_ruling_counts_once_and_for_its_call_only(asking: Rehearsal) -> None:
    """A saved run that is loaded twice pays once, and one with other arguments not at all."""
    ran = Ran()
    decided = answer(
        save_run(await run(asking, protect(agent_of(ran.tools(), PAY), asking.enforcer))), asking.enforcer, by=BOB
    )
    more = [call("pay_invoice", "call-1", invoice_id="INV-42", amount=121)]
    other = json.loads(save_run(await run(asking, protect(agent_of(ran.tools(), more), asking.enforcer))))
    other["agent_identity"]["rulings"] = json.loads(decided)["agent_identity"]["rulings"]
    await resumed(asking, protect(agent_of(ran.tools()), asking.enforcer), json.dumps(other))
    assert ran == []
    for _ in range(2):
        await resumed(asking, protect(agent_of(ran.tools()), asking.enforcer), decided)
    assert ran == ["paid 120 EUR"]
    codes = [code for _, outcome, code in facts(asking) if outcome == "denied"]
    assert codes == ["approval_mismatch", "approval_used"]


async def test_equal_calls_of_several_principals_are_told_apart(asking: Rehearsal) -> None:
    """With equal call ids each saved run has its own request, and each ruling reaches its own run."""
    ran = Ran()
    principals = [ALICE, ai.Human("carol@example.com")]

    def task_of(who: ai.Human) -> Any:
        return asking.enforcer.task("invoices", principal=who, agent=CLERK, scope=SCOPE)

    stopped = list[Any]()
    for who in principals:
        with task_of(who):
            stopped.append(await Runner.run(protect(agent_of(ran.tools(), PAY), asking.enforcer), "INV-42"))
    with pytest.raises(ConfigurationError, match="equal calls"):
        requests_of(stopped[0].interruptions)
    for who, result in zip(principals, stopped, strict=True):
        with task_of(who):
            assert requests_of(result.interruptions)["call-1"].principal == who
    saved = [save_run(one) for one in stopped]
    shown = [json.loads(text)["agent_identity"]["requests"]["call-1"]["principal"] for text in saved]
    assert shown == [who.to_claim() for who in principals]
    agents = [protect(agent_of(ran.tools()), asking.enforcer) for _ in saved]
    decided = [answer(text, asking.enforcer, by=BOB) for text in saved]
    states = [await load_run(agent, text) for agent, text in zip(agents, decided, strict=True)]
    for who, agent, state in zip(principals, agents, states, strict=True):
        with task_of(who):
            await Runner.run(agent, state)
    assert ran == ["paid 120 EUR"] * 2
    assert [outcome for _, outcome, _ in facts(asking)] == ["suspended", "suspended", "success", "success"]
    verifies(asking)


async def test_equal_calls_of_several_enforcers_are_told_apart(rehearse: Rehearse) -> None:
    """With equal call ids, principals and arguments each enforcer gets its own ruling, whichever runs first."""
    ran = Ran()
    worlds = [rehearse(policy=ASKING, routes={"people": approval_by_interruption()}) for _ in range(2)]
    stopped = [await run(world, protect(agent_of(ran.tools(), PAY), world.enforcer)) for world in worlds]
    decided = [answer(save_run(one), world.enforcer, by=BOB) for one, world in zip(stopped, worlds, strict=True)]
    agents = [protect(agent_of(ran.tools()), world.enforcer) for world in worlds]
    states = [await load_run(agent, text) for agent, text in zip(agents, decided, strict=True)]
    for world, agent, state in [*zip(worlds, agents, states, strict=True)][::-1]:
        with world.enforcer.task("invoices", scope=SCOPE, **WHO):
            await Runner.run(agent, state)
    assert ran == ["paid 120 EUR"] * 2
    for world in worlds:
        assert [outcome for _, outcome, _ in facts(world)] == ["suspended", "success"]
        verifies(world)


async def test_a_ruling_for_an_agent_that_the_process_guards_is_not_that_of_a_protected_one(rehearse: Rehearse) -> None:
    """An equal call of a protected agent waits for a ruling of its own enforcer, and uses up no other."""
    ran = Ran()
    one, two = (rehearse(policy=ASKING, routes={"people": approval_by_interruption()}) for _ in range(2))
    undo = instrument(two.enforcer)
    try:
        decided = answer(save_run(await run(two, agent_of(ran.tools(), PAY))), two.enforcer, by=BOB)
        agent = agent_of(ran.tools())
        state = await load_run(agent, decided)
        await run(one, protect(agent_of(ran.tools(), PAY), one.enforcer))
        with two.enforcer.task("invoices", scope=SCOPE, **WHO):
            await Runner.run(agent, state)
    finally:
        undo()
    assert ran == ["paid 120 EUR"]
    assert [outcome for _, outcome, _ in facts(one)] == ["suspended"]
    assert [outcome for _, outcome, _ in facts(two)] == ["suspended", "success"]
    verifies(one)
    verifies(two)


async def test_who_may_not_decide_decides_nothing(asking: Rehearsal, rehearse: Rehearse) -> None:
    """The principal, an agent in a task, another enforcer, and a saved run that was changed: each is refused."""
    agent = protect(agent_of(Ran().tools(), PAY), asking.enforcer)
    saved = save_run(await run(asking, agent))
    with pytest.raises(Denied) as own:
        answer(saved, asking.enforcer, by=WHO["principal"])
    assert own.value.code == "approval_self"
    with asking.enforcer.task("x", scope=SCOPE, **WHO), pytest.raises(Denied) as within:
        answer(saved, asking.enforcer, by=BOB)
    assert within.value.code == "approval_in_task"
    with pytest.raises(ConfigurationError):
        answer(saved, rehearse().enforcer, by=BOB)
    changed = json.loads(saved)
    changed["agent_identity"]["requests"]["call-1"]["arguments"]["amount"] = 1
    with pytest.raises(ConfigurationError):
        answer(json.dumps(changed), asking.enforcer, by=BOB)
    for wrong in ("", "[]", "{}", '{"agent_identity": {}}', '{"agent_identity": {"requests": {}, "rulings": {}}}'):
        with pytest.raises(ConfigurationError):
            answer(wrong, asking.enforcer, by=BOB)


async def test_an_agent_as_a_tool_waits_and_goes_on(asking: Rehearsal) -> None:
    """The inner call stops the outer run; the outer call is suspended, and both succeed after the approval."""
    ran = Ran()

    def agents(*turns: Any) -> Any:
        inner = agent_of(ran.tools(), *turns[1:], name="researcher")
        return agent_of([inner.as_tool("ask_researcher", "Ask.")], *turns[:1])

    outer = protect(agents([call("ask_researcher", "call-0", input="?")], PAY), asking.enforcer)
    stopped = await run(asking, outer)
    decided = answer(save_run(stopped), asking.enforcer, by=BOB)
    result = await resumed(asking, protect(agents(), asking.enforcer), decided)
    assert (ran, result.final_output) == (["paid 120 EUR"], "done")
    outcomes = [(one.tool, one.outcome) for one in asking.records.calls()]
    assert outcomes == [
        ("pay_invoice", "suspended"),
        ("ask_researcher", "suspended"),
        ("pay_invoice", "success"),
        ("ask_researcher", "success"),
    ]
    verifies(asking)


async def test_agents_of_their_own_are_approved_as_such(asking: Rehearsal) -> None:
    """The request names the agent that acts, and its approval counts for it."""
    ran = Ran()
    second = ai.Agent("second", owner="finance-ops@example.com")

    def agents(*turns: Any) -> Any:
        target = agent_of(ran.tools(), *turns[1:], name="second")
        return protect(
            agent_of([], *turns[:1], handoffs=[target]),
            asking.enforcer,
            agents={"second": second, "invoice-clerk": CLERK},
        )

    stopped = await run(asking, agents([call("transfer_to_second", "call-0")], PAY))
    (request,) = requests_of(stopped.interruptions).values()
    assert request.agent.id == "second"
    await resumed(asking, agents(), answer(save_run(stopped), asking.enforcer, by=BOB))
    assert ran == ["paid 120 EUR"]
    assert [one.agents for one in asking.records.calls()] == [("invoice-clerk", "second")] * 2
    verifies(asking)


async def test_tools_with_an_approval_of_their_own_keep_it(asking: Rehearsal) -> None:
    """The SDK's approval stays what it is: it stops the run, and the guard judges the call as any other."""
    ran = Ran()

    @function_tool(needs_approval=True)
    def read_invoice(invoice_id: str) -> str:
        ran.append(invoice_id)
        return invoice_id

    agent = protect(agent_of([read_invoice], [call("read_invoice", invoice_id="INV-42")]), asking.enforcer)
    stopped = await run(asking, agent)
    assert (len(stopped.interruptions), requests_of(stopped.interruptions)) == (1, {})
    state = await RunState.from_string(agent, stopped.to_state().to_string())
    state.approve(state.get_interruptions()[0])
    with asking.enforcer.task("invoices", scope=SCOPE, **WHO):
        await Runner.run(agent, state)
    assert (ran, facts(asking)) == (["INV-42"], [("read_invoice", "success", "default")])
    unprotect(agent)
    assert read_invoice.needs_approval is True


async def test_calls_that_need_no_approval_are_judged_once(asking: Rehearsal) -> None:
    """Looking ahead leaves no record, also where the call is refused, and asks nobody about a default."""
    ran = Ran()

    @function_tool(strict_mode=False)
    def look_up(question: str, limit: int = 5) -> str:
        ran.append(f"{question} {limit}")
        return question

    calls = [call("look_up", "call-1", question="a"), call("read_invoice", "call-2", invoice_id="INV-1")]
    result = await run(asking, protect(agent_of([look_up, ran.tools()[0]], calls), asking.enforcer))
    assert (ran, result.final_output) == (["a 5"], "done")
    assert sorted(outcome for _, outcome, _ in facts(asking)) == ["denied", "success"]


async def test_in_monitor_mode_nothing_waits(rehearse: Rehearse) -> None:
    """Monitor mode runs the call, and records that it would have waited."""
    world, ran = rehearse(mode="monitor", policy=ASKING, routes={"people": approval_by_interruption()}), Ran()
    result = await run(world, protect(agent_of(ran.tools(), PAY), world.enforcer))
    assert (ran, result.final_output) == (["paid 120 EUR"], "done")
    assert [one.record.decision.effect for one in world.records.calls()] == ["route"]


async def test_a_run_that_nobody_decided_waits_on(asking: Rehearsal) -> None:
    """Loaded without an answer it stops again at the same call."""
    ran = Ran()
    saved = save_run(await run(asking, protect(agent_of(ran.tools(), PAY), asking.enforcer)))
    result = await resumed(asking, protect(agent_of(ran.tools()), asking.enforcer), saved)
    assert (ran, [item.call_id for item in result.interruptions]) == ([], ["call-1"])
    again = await resumed(
        asking, protect(agent_of(ran.tools()), asking.enforcer), answer(save_run(result), asking.enforcer, by=BOB)
    )
    assert (ran, again.final_output) == (["paid 120 EUR"], "done")


async def test_a_policy_of_the_sdk_and_ours_both_stop_a_run(asking: Rehearsal) -> None:
    """A callable needs_approval is asked too; the person decides once, and the guard has the ruling."""
    ran, seen = Ran(), list[object]()

    def own(_ctx: Any, parameters: dict[str, Any], _call_id: str) -> bool:
        seen.append(parameters["amount"])
        return False

    @function_tool(needs_approval=own)  # type: ignore[arg-type]
    def pay_invoice(invoice_id: str, amount: int) -> str:
        ran.append(f"paid {amount}")
        return "paid"

    agent = protect(agent_of([pay_invoice], PAY), asking.enforcer)
    stopped = await run(asking, agent)
    assert (len(stopped.interruptions), seen[:1]) == (1, [120])
    await resumed(asking, agent, answer(save_run(stopped), asking.enforcer, by=BOB))
    assert ran == ["paid 120"]


class Fickle:
    """Routes the first time that it is asked, and allows afterwards."""

    name, version, digest = "fickle", "1", "A" * 43

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, request: Request) -> Decision:
        """Decide by the number of the question."""
        self.asked += 1
        if self.asked == 1:
            return Decision(effect=ai.Effect.ROUTE, reason="first", route="people")
        return Decision(effect=ai.Effect.ALLOW, reason="then")


async def test_a_policy_that_changes_its_mind_leaves_no_call_open(rehearse: Rehearse) -> None:
    """If the call needs no approval any more when it is begun, it is made again, and runs once."""
    world, ran = rehearse(policy=Fickle(), routes={"people": approval_by_interruption()}), Ran()
    await run(world, protect(agent_of(ran.tools(), PAY), world.enforcer))
    assert ran == ["paid 120 EUR"]
    assert [(tool, outcome) for tool, outcome, _ in facts(world)] == [
        ("pay_invoice", "suspended"),
        ("pay_invoice", "success"),
    ]
    verifies(world)


async def test_who_may_not_act_is_not_asked_about(asking: Rehearsal) -> None:
    """An agent whose scope is too wide is refused, and nobody is asked to approve its call."""
    ran = Ran()
    agents = {"invoice-clerk": (ai.Agent("other", owner="fin@example.com"), ai.Scope("delete_all"))}
    result = await run(asking, protect(agent_of(ran.tools(), PAY), asking.enforcer, agents=agents))
    assert (ran, result.interruptions, outputs(result)[0][:9]) == ([], [], "refused: ")


async def test_a_defect_while_looking_ahead_leaves_the_guard_to_decide(
    asking: Rehearsal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not stop, and without a ruling the call is refused."""

    async def fails(*_args: object) -> bool:
        raise RuntimeError

    ran = Ran()
    agent = protect(agent_of(ran.tools(), PAY), asking.enforcer)
    with monkeypatch.context() as patched:
        patched.setattr(GuardedCall, "waits_async", fails)
        result = await run(asking, agent)
    assert (ran, outputs(result)[0][:24], result.final_output) == ([], "refused: approval_forged", "done")


APP = """
import asyncio, sys
from pathlib import Path
from agents import Runner, set_tracing_disabled
from frameworks.openai_agents.scripts import BOB, SCOPE, WHO, Ran, agent_of, call
from agent_identity import Effect, Enforcer, Rule, RuleSet
from agent_identity.integrations.frameworks.openai_agents import *

set_tracing_disabled(True)
step, folder, file = sys.argv[1], sys.argv[2], Path(sys.argv[3])
rule = Rule(Effect.ROUTE, tools="pay_invoice", to="people", reason="two people decide", id="four-eyes")
ran = Ran()

async def main(enforcer):
    pay = [[call("pay_invoice", invoice_id="INV-42", amount=120)]] if step == "ask" else []
    agent = protect(agent_of(ran.tools(), *pay), enforcer)
    with enforcer.task("invoices", scope=SCOPE, **WHO):
        if step == "ask":
            file.write_text(save_run(await Runner.run(agent, "INV-42")))
        else:
            await Runner.run(agent, await load_run(agent, file.read_text()))

with Enforcer.open(folder, policy=RuleSet(rule), routes={"people": approval_by_interruption()}) as enforcer:
    if step == "decide":
        file.write_text(answer(file.read_text(), enforcer, by=BOB))
    else:
        asyncio.run(main(enforcer))
print(ran)
"""


def test_three_processes_ask_decide_and_go_on(tmp_path: Path) -> None:
    """Each step in a process of its own, with nothing but the directory and the saved run between them."""
    said = []
    for step in ("ask", "decide", "go on", "go on"):
        args = [
            sys.executable,
            "-c",
            textwrap.dedent(APP),
            step,
            str(tmp_path / "evidence"),
            str(tmp_path / "run.json"),
        ]
        done = subprocess.run(args, capture_output=True, text=True, check=False, timeout=120, env=_env())
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    assert said == ["[]", "[]", "['paid 120 EUR']", "[]"]


def _env() -> dict[str, str]:
    import os

    tests = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])}


@pytest.mark.parametrize("reject", [True, False])
async def test_a_policy_that_asks_nobody_any_more_frees_no_call(rehearse: Rehearse, *, reject: bool) -> None:
    """What was suspended for a person runs by a ruling alone, although nobody would be asked any more."""
    policy, ran = Changing("pay_invoice", "people"), Ran()
    world = rehearse(policy=policy, routes={"people": approval_by_interruption()})
    agent = protect(agent_of(ran.tools(), PAY), world.enforcer)
    saved = save_run(await run(world, agent))
    policy.asks = False
    await resumed(world, agent, answer(saved, world.enforcer, by=BOB, reject=reject))
    assert ran == ([] if reject else ["paid 120 EUR"])
    verifies(world)


async def test_a_process_that_asks_nobody_frees_no_call(rehearse: Rehearse) -> None:
    """Without policy and routes it refuses a call that waits for a person, whom the approval of the SDK is not."""
    state, ran = MemoryState(), Ran()
    first = rehearse(policy=ASKING, routes={"people": approval_by_interruption()}, state=state)
    saved = save_run(await run(first, protect(agent_of(ran.tools(), PAY), first.enforcer)))
    second = rehearse(state=state)
    agent = protect(agent_of(ran.tools()), second.enforcer)
    waiting = await load_run(agent, saved)
    waiting.approve(waiting.get_interruptions()[0], always_approve=True)
    with second.enforcer.task("invoices", scope=SCOPE, **WHO):
        await Runner.run(agent, waiting)
    assert ran == []
    second.records.assert_denied(code="call_suspended", tool="pay_invoice", count=1)
