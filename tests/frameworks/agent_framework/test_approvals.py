"""A person decides between two runs: requests of the framework carry the request there and the ruling back."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_framework import FunctionTool, Message
from changing_policy import Changing

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Verifier
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.agent_framework import answer, approval_by_request, requests_of

BOB = Human("bob@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))


def made(mode: str = "never_require", *, is_async: bool = False) -> tuple[FunctionTool, list[Any]]:
    """Return a tool, and what its body got."""
    got: list[Any] = []

    def pay(amount: float, currency: str = "EUR") -> str:
        """Pay."""
        got.append((amount, currency))
        return "paid"

    async def pay_later(amount: float, currency: str = "EUR") -> str:
        """Pay."""
        return pay(amount, currency)

    function = pay_later if is_async else pay
    return FunctionTool(name="pay", func=function, approval_mode=mode), got  # type: ignore[arg-type]


@pytest.fixture
def desk(maf: Any) -> Any:
    """Makes agents whose payments a person approves."""
    maf.open(policy=POLICY, routes={"desk": approval_by_request()})
    return maf


async def asked(desk: Any, pay: FunctionTool, amount: float = 120, **options: Any) -> tuple[Any, Any, list[Any]]:
    """Run until the payment waits; return the agent, the session and the requests."""
    agent = desk.agent([[desk.call("pay", amount=amount)]], [pay])
    session = agent.create_session()
    with desk.task("pay"):
        response = await desk.respond(agent, session=session, **options)
    return agent, session, list(response.user_input_requests)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_ruling_lets_the_call_run_in_another_task(desk: Any, stream: bool, is_async: bool) -> None:
    """One request, a suspended call, then the approval, and the call with the arguments that the person saw."""
    pay, got = made(is_async=is_async)
    agent, session, waiting = await asked(desk, pay, stream=stream)
    (request,) = requests_of(waiting).values()
    assert (request.tool, request.arguments) == ("pay", {"amount": 120, "currency": "EUR"})
    assert not got
    message = answer(waiting, desk.world.enforcer, by=BOB)
    with desk.task("pay"):
        response = await desk.respond(agent, message, session=session, stream=stream)
    assert got == [(120, "EUR")]
    assert response.text == "done"
    assert [call[1] for call in desk.calls()] == ["suspended", "success"]


async def test_a_rejection_reaches_the_model_and_the_record(desk: Any) -> None:
    """The body does not run, the reason is told, and the run continues."""
    pay, got = made()
    agent, session, waiting = await asked(desk, pay)
    message = answer(waiting, desk.world.enforcer, by=BOB, reject=True, reason="a copy")
    with desk.task("pay"):
        response = await desk.respond(agent, message, session=session)
    assert not got
    answers = [content.result for m in agent.client.asked[-1] for content in m.contents if content.result]
    assert "approval_rejected" in str(answers)
    assert "a copy" in str(answers)
    assert response.text == "done"
    assert [call[1] for call in desk.calls()] == ["suspended", "denied"]


@pytest.mark.parametrize("properties", [{}, {"agent_identity_ruling": True}, {"agent_identity_ruling": "e30.e30.e30"}])
async def test_an_approval_without_a_ruling_is_refused(desk: Any, properties: dict[str, Any]) -> None:
    """Whoever can answer in the session, but cannot sign, approves nothing."""
    pay, got = made()
    agent, session, waiting = await asked(desk, pay)
    said = waiting[0].to_function_approval_response(approved=True)
    said.additional_properties = properties
    with desk.task("pay"):
        await desk.respond(agent, Message("user", [said]), session=session)
    assert not got
    assert desk.calls()[-1] == ("pay", "denied", "approval_forged")


async def test_a_ruling_counts_for_the_same_principal_and_agent_only(desk: Any) -> None:
    """Somebody else's task gets a refusal."""
    pay, got = made()
    agent, session, waiting = await asked(desk, pay)
    message = answer(waiting, desk.world.enforcer, by=BOB)
    with desk.task("pay", agent=Agent("other", owner="fin@example.com")):
        await desk.respond(agent, message, session=session)
    assert not got
    assert desk.calls()[-1] == ("pay", "denied", "approval_mismatch")


@pytest.mark.parametrize(
    ("how", "code"),
    [("foreign", "approval_mismatch"), ("expired", "approval_expired"), ("principal", "approval_mismatch")],
)
async def test_a_ruling_that_does_not_fit_permits_nothing(desk: Any, how: str, code: str) -> None:
    """A ruling about another call, one that comes too late, and one that somebody else brings."""
    pay, got = made()
    agent, session, waiting = await asked(desk, pay)
    message = answer(waiting, desk.world.enforcer, by=BOB)
    if how == "foreign":
        _, _, others = await asked(desk, pay, amount=7)
        said = waiting[0].to_function_approval_response(approved=True)
        (given,) = answer(others, desk.world.enforcer, by=BOB).contents
        said.additional_properties = given.additional_properties
        message = Message("user", [said])
    elif how == "expired":
        desk.world.clock.advance(8 * 24 * 3600)
    with desk.task("pay", **({"principal": Human("carol@example.com")} if how == "principal" else {})):
        await desk.respond(agent, message, session=session)
    assert not got
    assert desk.calls()[-1] == ("pay", "denied", code)


async def test_the_principal_and_agents_approve_nothing(desk: Any) -> None:
    """Not in their own name, and not inside a task; and no content is no request."""
    _, _, waiting = await asked(desk, made()[0])
    with pytest.raises(Denied) as caught:
        answer(waiting, desk.world.enforcer, by=desk.alice)
    assert caught.value.code == "approval_self"
    with desk.task("pay"), pytest.raises(Denied) as caught:
        answer(waiting, desk.world.enforcer, by=BOB)
    assert caught.value.code == "approval_in_task"
    with pytest.raises(ConfigurationError, match="our approval"):
        answer([], desk.world.enforcer, by=BOB)


async def test_an_approval_of_the_framework_itself_stays_in_front_of_the_guard(maf: Any) -> None:
    """A tool that needs the framework's approval is judged when it is called, not when it is asked for."""
    maf.open()
    pay, got = made("always_require")
    agent = maf.agent([[maf.call("pay", amount=1)]], [pay])
    session = agent.create_session()
    with maf.task("pay"):
        response = await maf.respond(agent, session=session)
        assert maf.calls() == []
        (waiting,) = response.user_input_requests
        await maf.respond(
            agent, Message("user", [waiting.to_function_approval_response(approved=True)]), session=session
        )
    assert got == [(1, "EUR")]
    assert [call[:2] for call in maf.calls()] == [("pay", "success")]


PROGRAM = '''
import asyncio, json, sys
from agent_framework import (
    Agent, AgentSession, BaseChatClient, ChatMiddlewareLayer, ChatResponse, Content, FunctionInvocationLayer, Message,
)
import agent_identity as ai
from agent_identity.integrations.frameworks.agent_framework import (
    AgentIdentityMiddleware, answer, approval_by_request,
)

class Client(FunctionInvocationLayer, ChatMiddlewareLayer, BaseChatClient):
    def _inner_get_response(self, *, messages, options, stream=False, **_):
        async def response():
            call = Content.from_function_call("c1", "pay", arguments={"amount": 120})
            said = Content.from_text("done") if any(m.role == "assistant" for m in messages) else call
            return ChatResponse(messages=[Message("assistant", [said])])
        return response()

def pay(amount: float) -> str:
    """Pay."""
    print("paid", amount)
    return "paid"

async def main(stage):
    policy = ai.RuleSet(ai.Rule(ai.Effect.ROUTE, tools="pay", reason="two decide", to="desk"))
    with ai.Enforcer.open("evidence", policy=policy, routes={"desk": approval_by_request()}) as enforcer:
        agent = Agent(client=Client(), name="root", tools=[pay], middleware=[AgentIdentityMiddleware(enforcer)])
        if stage == "ask":
            session, message = agent.create_session(), "go"
        else:
            kept = json.load(open("session.json"))
            session = AgentSession.from_dict(kept["session"])
            waiting = [Content.from_dict(one) for one in kept["waiting"]]
            message = answer(waiting, enforcer, by=ai.Human("bob@example.com"))
        clerk = ai.Agent("clerk", owner="fin@example.com")
        with enforcer.task("pay", principal=ai.Human("alice@example.com"), agent=clerk, scope=ai.Scope("pay")):
            response = await agent.run(message, session=session)
        waiting = [one.to_dict() for one in response.user_input_requests]
        json.dump({"session": session.to_dict(), "waiting": waiting}, open("session.json", "w"))

asyncio.run(main(sys.argv[1]))
'''


def test_the_approved_call_runs_in_another_process(tmp_path: Path) -> None:
    """The session as JSON is the transport; the evidence of both processes verifies."""
    printed = []
    for stage in ("ask", "resume"):
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, stage]
        done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout)
    assert printed == ["", "paid 120.0\n"]
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.verdict, report.completeness) == ("verified", "complete")


@pytest.mark.parametrize("reject", [True, False])
async def test_a_policy_that_asks_nobody_any_more_frees_no_call(maf: Any, *, reject: bool) -> None:
    """What was suspended for a person runs by a ruling alone, although nobody would be asked any more."""
    policy, (pay, got) = Changing(), made()
    maf.open(policy=policy, routes={"desk": approval_by_request()})
    agent, session, waiting = await asked(maf, pay)
    policy.asks = False
    message = answer(waiting, maf.world.enforcer, by=BOB, reject=reject)
    with maf.task("pay"):
        await maf.respond(agent, message, session=session)
    assert len(got) == (0 if reject else 1)
    assert [call[1] for call in maf.calls()] == ["suspended", "denied" if reject else "success"]
