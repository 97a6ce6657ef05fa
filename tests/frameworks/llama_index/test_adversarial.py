"""Calls of LlamaIndex that could be taken for one another, or for those of the guard."""

from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import CodeActAgent
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import InputRequiredEvent

from agent_identity import Scope
from agent_identity.integrations.frameworks.llama_index import (
    answer,
    approval_by_event,
    instrument,
    protect,
    requests_of,
)
from agent_identity.policy import Effect, Rule, RuleSet

POLICY = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="two people decide", id="four-eyes", to="desk"))


@pytest.mark.parametrize("at_once", [True, False])
async def test_equal_calls_all_end(open_office: Callable[..., Any], at_once: bool) -> None:
    """No waiter has the name of another; equal calls at once are one request, whose ruling permits one of them."""
    office = open_office(policy=POLICY, routes={"desk": approval_by_event()})
    pay = ("pay", {"invoice": "A", "amount": 1})
    asked = list[str]()
    with office.task():
        running = office.agent(*([[pay, pay]] if at_once else [[pay], [pay]])).run("go")
        async for event in running.stream_events():
            if isinstance(event, InputRequiredEvent):
                asked += [request.id for request in requests_of(event)]
                with office.enforcer.no_task():
                    running.ctx.send_event(answer(event, office.enforcer, by=office.bob))
        await running
    permitted = len(set(asked))
    # A second call that begins after the first one was answered is a request of its own, also of calls at once.
    assert (len(asked), len(office.ran)) == (2, permitted)
    assert permitted == 2 or at_once
    assert sorted(office.calls()) == sorted(
        [
            *2 * [("pay", "suspended", "policy_routes")],
            *permitted * [("pay", "success", "policy_routes")],
            *(2 - permitted) * [("pay", "denied", "approval_used")],
        ]
    )


@pytest.mark.parametrize("name", ["tool", "calls"])
def test_a_parameter_may_have_any_name(open_office: Callable[..., Any], name: str) -> None:
    """The guard of a whole process takes no name of a parameter for itself."""
    office = open_office()

    def named(tool: str = "", calls: str = "") -> str:
        office.ran.append(tool + calls)
        return "done"

    made = FunctionTool.from_defaults(named)
    undo = instrument(office.enforcer)
    try:
        with office.task(Scope({"named": {}})):
            assert not made.call(**{name: "A"}).is_error
    finally:
        undo()
    assert (office.ran, office.calls()) == (["A"], [("named", "success", "within_scope")])


@pytest.mark.parametrize("way", ["enforcer.tool", "instrument"])
@pytest.mark.parametrize("scope", ["execute", "read"])
async def test_the_code_of_a_model_runs_under_guard(open_office: Callable[..., Any], way: str, scope: str) -> None:
    """LlamaIndex makes a tool of what runs it, which ``protect`` does not get."""
    office = open_office()

    async def run(code: str) -> str:
        office.ran.append(code)
        return "1"

    undo = instrument(office.enforcer) if way == "instrument" else lambda: None
    function: Any = run if way == "instrument" else office.enforcer.tool(name="execute")(run)
    model = office.model("<execute>print(1)</execute>")
    agent = CodeActAgent(tools=protect([], office.enforcer), llm=model, code_execute_fn=function)
    try:
        with office.task(Scope(scope)):
            await agent.run("go")
    finally:
        undo()
    assert office.ran == (["print(1)"] if scope == "execute" else [])
    assert [outcome for _, outcome, _ in office.calls("execute")] == ["success" if office.ran else "denied"]
