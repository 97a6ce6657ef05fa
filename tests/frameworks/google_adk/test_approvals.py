"""A person decides between two runs: confirmations of the ADK carry the request there and the ruling back."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from changing_policy import Changing
from google.adk.tools import FunctionTool
from google.genai import types

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Verifier
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.google_adk import answer, approval_by_confirmation, requests_of

BOB = Human("bob@example.com")
POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))


class Payment(FunctionTool):
    """A tool that remembers what its body got."""

    def __init__(self, **options: Any) -> None:
        self.got: list[Any] = []

        def pay(amount: float, currency: str = "EUR") -> str:
            """Pay."""
            self.got.append((amount, currency))
            return "paid"

        super().__init__(pay, **options)


@pytest.fixture
def desk(adk: Any) -> Any:
    """Makes agents whose payments a person approves."""
    adk.open(policy=POLICY, routes={"desk": approval_by_confirmation()})
    return adk


def confirmations(events: list[Any]) -> list[Any]:
    """Return the confirmations that a run asks for."""
    return [one for event in events for one in event.get_function_calls() if one.name == "adk_request_confirmation"]


async def asked(desk: Any, pay: Payment, amount: float = 120) -> tuple[Any, list[Any]]:
    """Run until the payment waits; return the runner and the events."""
    runner = desk.runner(desk.agent([[desk.call("pay", amount=amount)]], [pay]))
    with desk.task("pay"):
        return runner, await desk.events(runner)


async def test_a_ruling_lets_the_call_run_in_another_task(desk: Any) -> None:
    """One request, a suspended call, then the approval, and the call with the arguments that the person saw."""
    pay = Payment()
    runner, events = await asked(desk, pay)
    (request,) = requests_of(events).values()
    assert (request.tool, request.arguments) == ("pay", {"amount": 120, "currency": "EUR"})
    assert not pay.got
    assert desk.texts(events) == []  # The model is not asked again meanwhile.
    message = answer(events, desk.world.enforcer, by=BOB)
    with desk.task("pay"):
        events = await desk.events(runner, message)
    assert pay.got == [(120, "EUR")]
    assert desk.answers(events) == [{"result": "paid"}]
    assert desk.texts(events) == ["done"]
    assert [call[1] for call in desk.calls()] == ["suspended", "success"]


async def test_a_rejection_reaches_the_model_with_its_reason(desk: Any) -> None:
    """The body does not run, and the run continues."""
    pay = Payment()
    runner, events = await asked(desk, pay)
    message = answer(events, desk.world.enforcer, by=BOB, reject=True, reason="a copy")
    with desk.task("pay"):
        events = await desk.events(runner, message)
    assert not pay.got
    assert "approval_rejected" in str(desk.answers(events))
    assert "a copy" in str(desk.answers(events))
    assert desk.texts(events) == ["done"]


def confirmed(events: list[Any], **response: Any) -> types.Content:
    """Return a confirmation as anybody can send it."""
    (one,) = confirmations(events)
    said = types.FunctionResponse(id=one.id, name=one.name, response=response)
    return types.Content(role="user", parts=[types.Part(function_response=said)])


@pytest.mark.parametrize("is_confirmed", [True, False])
@pytest.mark.parametrize(
    "payload",
    [None, "yes", {}, {"agent_identity_ruling": True}, {"agent_identity_ruling": "e30.e30.e30"}],
)
async def test_a_confirmation_without_a_ruling_is_refused(desk: Any, payload: object, is_confirmed: bool) -> None:
    """Whoever can write to the session, but cannot sign, approves nothing."""
    pay = Payment()
    runner, events = await asked(desk, pay)
    with desk.task("pay"):
        (refused,) = desk.answers(await desk.events(runner, confirmed(events, confirmed=is_confirmed, payload=payload)))
    assert refused["error"].startswith("refused: approval_forged")
    assert not pay.got


async def test_a_ruling_counts_for_the_same_principal_and_agent_only(desk: Any) -> None:
    """Somebody else's task gets a refusal."""
    pay = Payment()
    runner, events = await asked(desk, pay)
    message = answer(events, desk.world.enforcer, by=BOB)
    with desk.task("pay", agent=Agent("other", owner="fin@example.com")):
        (refused,) = desk.answers(await desk.events(runner, message))
    assert refused["error"].startswith("refused: approval_mismatch")
    assert not pay.got


@pytest.mark.parametrize(
    ("how", "code"),
    [("foreign", "approval_mismatch"), ("expired", "approval_expired"), ("principal", "approval_mismatch")],
)
async def test_a_ruling_that_does_not_fit_permits_nothing(desk: Any, how: str, code: str) -> None:
    """A ruling about another call, one that comes too late, and one that somebody else brings."""
    pay = Payment()
    runner, events = await asked(desk, pay)
    message = answer(events, desk.world.enforcer, by=BOB)
    if how == "foreign":
        _, others = await asked(desk, pay, amount=7)
        (part,) = answer(others, desk.world.enforcer, by=BOB).parts
        message = confirmed(events, **part.function_response.response)
    elif how == "expired":
        desk.world.clock.advance(8 * 24 * 3600)
    with desk.task("pay", **({"principal": Human("carol@example.com")} if how == "principal" else {})):
        (refused,) = desk.answers(await desk.events(runner, message))
    assert refused["error"].startswith(f"refused: {code}")
    assert not pay.got
    assert desk.calls()[-1] == ("pay", "denied", code)


async def test_the_principal_and_agents_approve_nothing(desk: Any) -> None:
    """Not in their own name, and not inside a task; and no event is no request."""
    _, events = await asked(desk, Payment())
    with pytest.raises(Denied) as caught:
        answer(events, desk.world.enforcer, by=desk.alice)
    assert caught.value.code == "approval_self"
    with desk.task("pay"), pytest.raises(Denied) as caught:
        answer(events, desk.world.enforcer, by=BOB)
    assert caught.value.code == "approval_in_task"
    with pytest.raises(ConfigurationError, match="asks for an approval"):
        answer([], desk.world.enforcer, by=BOB)


async def test_a_confirmation_of_the_app_itself_is_no_success(adk: Any) -> None:
    """A tool that asks by the means of the ADK is suspended, if it is called at all, and runs when confirmed."""
    adk.open()
    pay = Payment(require_confirmation=True)
    runner = adk.runner(adk.agent([[adk.call("pay", amount=1)]], [pay]))
    with adk.task("pay"):
        events = await adk.events(runner)
        assert {call[1] for call in adk.calls()} <= {"suspended"}
        await adk.events(runner, confirmed(events, confirmed=True))
    assert pay.got == [(1, "EUR")]
    assert adk.calls()[-1][:2] == ("pay", "success")


async def test_a_tool_that_asks_by_itself_is_suspended(adk: Any) -> None:
    """Its answer meanwhile is delivered, and no success is on record."""
    adk.open()

    def pay(amount: float, tool_context: Any) -> dict[str, str]:
        """Pay."""
        if tool_context.tool_confirmation is None:
            tool_context.request_confirmation(hint="really?")
            return {"status": "waiting"}
        return {"status": "paid"}

    runner = adk.runner(adk.agent([[adk.call("pay", amount=1)], "waiting"], [pay]))
    with adk.task("pay"):
        events = await adk.events(runner)
        assert {"status": "waiting"} in adk.answers(events)
        later = await adk.events(runner, confirmed(events, confirmed=True))
    assert {"status": "paid"} in adk.answers(later)
    assert [call[1] for call in adk.calls()] == ["suspended", "success"]


PROGRAM = '''
import asyncio, sys
from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import Runner
from google.adk.sessions import DatabaseSessionService
from google.genai import types
import agent_identity as ai
from agent_identity.integrations.frameworks.google_adk import AgentIdentityPlugin, answer, approval_by_confirmation

class Model(BaseLlm):
    async def generate_content_async(self, request, stream=False):
        call = types.Part(function_call=types.FunctionCall(name="pay", args={"amount": 120}))
        said = types.Part(text="done") if any(c.role == "model" for c in request.contents) else call
        yield LlmResponse(content=types.Content(role="model", parts=[said]))

def pay(amount: float) -> str:
    """Pay."""
    print("paid", amount)
    return "paid"

async def main(stage):
    policy = ai.RuleSet(ai.Rule(ai.Effect.ROUTE, tools="pay", reason="two decide", to="desk"))
    sessions = DatabaseSessionService("sqlite+aiosqlite:///sessions.db")
    routes = {"desk": approval_by_confirmation()}
    with ai.Enforcer.open("evidence", policy=policy, routes=routes) as enforcer:
        root = LlmAgent(name="root", model=Model(model="m"), tools=[pay])
        app = App(name="app", root_agent=root, plugins=[AgentIdentityPlugin(enforcer)])
        runner = Runner(app=app, session_service=sessions)
        where = {"user_id": "u", "session_id": "s"}
        if stage == "ask":
            await sessions.create_session(app_name="app", **where)
            message = types.UserContent("go")
        else:
            session = await sessions.get_session(app_name="app", **where)
            message = answer(session.events, enforcer, by=ai.Human("bob@example.com"))
        clerk = ai.Agent("clerk", owner="fin@example.com")
        with enforcer.task("pay", principal=ai.Human("alice@example.com"), agent=clerk, scope=ai.Scope("pay")):
            async for _ in runner.run_async(new_message=message, **where):
                pass

asyncio.run(main(sys.argv[1]))
'''


def test_the_approved_call_runs_in_another_process(tmp_path: Path) -> None:
    """The session in a database is the transport; the evidence of both processes verifies."""
    printed = []
    for stage in ("ask", "resume"):
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, stage]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=240)
        printed.append(done.stdout)
    assert printed == ["", "paid 120\n"]
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.verdict, report.completeness) == ("verified", "complete")


@pytest.mark.parametrize("reject", [True, False])
async def test_a_policy_that_asks_nobody_any_more_frees_no_call(adk: Any, *, reject: bool) -> None:
    """What was suspended for a person runs by a ruling alone, although nobody would be asked any more."""
    policy, pay = Changing(), Payment()
    adk.open(policy=policy, routes={"desk": approval_by_confirmation()})
    runner, events = await asked(adk, pay)
    policy.asks = False
    message = answer(events, adk.world.enforcer, by=BOB, reject=reject)
    with adk.task("pay"):
        await adk.events(runner, message)
    assert len(pay.got) == (0 if reject else 1)
    assert [call[1] for call in adk.calls()] == ["suspended", "denied" if reject else "success"]


@pytest.mark.parametrize("ruled", ["approved", "rejected", "by the app alone"])
async def test_another_session_frees_no_call(adk: Any, ruled: str) -> None:
    """Who copies the events into another session needs the ruling nevertheless."""
    policy, pay = Changing(), Payment()
    adk.open(policy=policy, routes={"desk": approval_by_confirmation()})
    runner, events = await asked(adk, pay)
    policy.asks = False
    sessions = runner.session_service
    other = await sessions.create_session(app_name=runner.app_name, user_id="u", session_id="other")
    stored = await sessions.get_session(app_name=runner.app_name, user_id="u", session_id="s")
    for event in stored.events:
        await sessions.append_event(other, event)
    message = answer(events, adk.world.enforcer, by=BOB, reject=ruled == "rejected")
    if ruled == "by the app alone":
        message = confirmed(events, confirmed=True)
    with adk.task("pay"):
        await adk.events(runner, message, session="other")
    assert len(pay.got) == (1 if ruled == "approved" else 0)
