"""Calls of LlamaIndex that could be taken for one another, or for those of the guard."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.agent.workflow import CodeActAgent
from llama_index.core.tools import AsyncBaseTool, BaseTool, FunctionTool, ToolMetadata, ToolOutput
from llama_index.core.tools.types import adapt_to_async_tool
from llama_index.core.workflow import InputRequiredEvent
from pydantic import BaseModel

from agent_identity import Denied, Effect, Rule, RuleSet, Scope
from agent_identity.constraints import Range
from agent_identity.integrations.frameworks.llama_index import (
    answer,
    approval_by_event,
    instrument,
    protect,
    requests_of,
)

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


class Own(AsyncBaseTool):
    """A tool of a class of its own, whose asynchronous form calls the other one."""

    def __init__(self, ran: list[Any], name: str = "pay") -> None:
        self.ran = ran
        self.named = name

    @property
    def metadata(self) -> ToolMetadata:
        """Describe it."""
        return ToolMetadata(name=self.named, description="Pay.", fn_schema=Payment)

    def call(self, amount: int = 0) -> ToolOutput:  # type: ignore[override]
        """Pay."""
        self.ran.append(amount)
        return ToolOutput(tool_name="pay", content="paid", raw_input={}, raw_output="paid")

    async def acall(self, amount: int = 0) -> ToolOutput:  # type: ignore[override]
        """Pay."""
        return self.call(amount)


class Payment(BaseModel):
    """What a payment takes."""

    amount: int = 0


class Extended(FunctionTool):
    """A function tool with calls of its own, one of which is the inherited one."""

    ran: list[Any]

    def call(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Do more than the function."""
        self.ran.append("more")
        return super().call(*args, **kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> ToolOutput:
        """Do more than the function."""
        self.ran.append("more")
        return await super().acall(*args, **kwargs)


class Sync(BaseTool):
    """A tool without an asynchronous form, which LlamaIndex adapts."""

    def __init__(self, ran: list[Any]) -> None:
        self.ran = ran

    @property
    def metadata(self) -> ToolMetadata:
        """Describe it."""
        return ToolMetadata(name="pay", description="Pay.")

    def __call__(self, input: Any) -> ToolOutput:  # noqa: A002  As in the base class.
        """Pay."""
        self.ran.append(input)
        return ToolOutput(tool_name="pay", content="paid", raw_input={}, raw_output="paid")


def own_tool(kind: str, ran: list[Any]) -> Any:
    """Return a tool that runs in a way of its own."""
    if kind == "own":
        return Own(ran)
    if kind == "sync":
        return Sync(ran)
    if kind == "later":

        class Later(Own):
            """Made after the guard of the process."""

            async def acall(self, amount: int = 0) -> ToolOutput:  # type: ignore[override]
                self.ran.append("later")
                return await super().acall(amount)

        return Later(ran)

    def pay(amount: int) -> str:
        """Pay."""
        ran.append(amount)
        return "paid"

    made = Extended.from_defaults(pay)
    made.ran = ran
    return made


@pytest.mark.parametrize("kind", ["own", "extended", "later", "sync"])
@pytest.mark.parametrize("way", ["agent", "call", "acall", "()"])
@pytest.mark.parametrize("granted", [True, False])
async def test_instrument_guards_tools_with_calls_of_their_own(
    open_office: Callable[..., Any], kind: str, way: str, granted: bool
) -> None:
    """Classes below those of LlamaIndex, made before or after: each call is one record, and a refused one runs none."""
    office = open_office()
    ran = list[Any]()
    undo = instrument(office.enforcer)
    try:
        tool = own_tool(kind, ran)
        given: dict[str, Any] = {"input": "7"} if kind == "sync" else {"amount": 7}
        adapted = adapt_to_async_tool(tool)
        with office.task(Scope("pay" if granted else "read")):
            if way == "agent":
                await office.agent([("pay", given)], tools=[tool], guarded=False).run("go")
            elif way == "acall":
                await adapted.acall(**given)
            else:
                adapted.call(**given) if way == "call" else adapted(**given)
    finally:
        undo()
    assert bool(ran) is granted
    assert ran.count("more") == (1 if granted and kind == "extended" else 0)
    assert [outcome for _, outcome, _ in office.calls("pay")] == ["success" if granted else "denied"]
    adapted.call(**given)
    assert len(office.calls()) == 1


async def test_a_tool_that_calls_itself_again_makes_another_call(open_office: Callable[..., Any]) -> None:
    """A method that comes back to itself is judged again; one record would hide what it does."""
    office = open_office()

    class Again(Own):
        async def acall(self, amount: int = 0) -> ToolOutput:  # type: ignore[override]
            self.ran.append(amount)
            return await (super().acall(amount) if amount == 9_000 else self.acall(amount=9_000))

    ran = list[Any]()
    undo = instrument(office.enforcer)
    try:
        with office.task(Scope("pay", amount=Range(max=500))):
            await Again(ran).acall(amount=1)
    finally:
        undo()
    assert ran == [1]
    assert [outcome for _, outcome, _ in office.calls()] == ["denied", "error"]


@pytest.mark.parametrize("kind", ["own", "extended"])
async def test_a_protected_tool_keeps_its_guard_beside_that_of_the_process(
    open_office: Callable[..., Any], kind: str
) -> None:
    """One call is one record, by the guard of ``protect``."""
    office = open_office()
    ran = list[Any]()
    undo = instrument(office.enforcer)
    try:
        (tool,) = protect([own_tool(kind, ran)], office.enforcer)
        with office.task(Scope("pay")):
            await tool.acall(amount=7)
            tool.call(amount=7)
    finally:
        undo()
    assert 7 in ran
    assert [outcome for _, outcome, _ in office.calls()] == ["success", "success"]


@pytest.mark.parametrize("guard", ["protect", "instrument"])
@pytest.mark.parametrize("way", ["call", "acall"])
async def test_a_generator_that_a_tool_returned_stops_with_its_task(
    open_office: Callable[..., Any], guard: str, way: str
) -> None:
    """LlamaIndex hands it on as ``raw_output``: each step asks whether the task lives."""
    office = open_office()

    def pay(invoice: str) -> Iterator[str]:
        office.ran.append("first")
        yield invoice
        office.ran.append("second")
        yield invoice

    tool = FunctionTool.from_defaults(pay)
    undo = instrument(office.enforcer) if guard == "instrument" else lambda: None
    if guard == "protect":
        (tool,) = protect([tool], office.enforcer)  # type: ignore[assignment]
    try:
        with office.task():
            output = tool.call(invoice="A") if way == "call" else await tool.acall(invoice="A")
            assert next(output.raw_output) == "A"
        with pytest.raises(Denied):
            next(output.raw_output)
    finally:
        undo()
    assert office.ran == ["first"]
