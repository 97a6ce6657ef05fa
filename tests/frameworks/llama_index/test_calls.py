"""Calls of tools of LlamaIndex under guard: judged, answered and recorded, in agents, workflows and direct calls."""

import asyncio
import copy
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentWorkflow, CodeActAgent, ReActAgent, ToolCallResult
from llama_index.core.tools import BaseTool, FunctionTool, ToolMetadata, ToolOutput
from llama_index.core.tools.calling import acall_tool, call_tool
from llama_index.core.workflow import Context
from mark_changes import marks_among
from pydantic import Field

import agent_identity as ai
from agent_identity import Effect, Rule, RuleSet, Verifier, records
from agent_identity.constraints import Range
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.llama_index import instrument, protect
from agent_identity.policy import All, Flow, Obligation

SCOPE = ai.Scope("pay", amount=Range(max=500), invoice="INV-42") | ai.Scope("read", invoice="INV-42")


async def outputs(run: Any) -> list[ToolOutput]:
    """Return what the tools of a run answered."""
    found = [event.tool_output async for event in run.stream_events() if isinstance(event, ToolCallResult)]
    await run
    return found


async def test_a_call_within_the_scope_runs_and_one_beyond_it_is_an_error(open_office: Any) -> None:
    """The refused call is an error output with its code and reference, and the run goes on."""
    office = open_office()
    agent = office.agent(
        [("pay", {"invoice": "INV-42", "amount": 120})], [("pay", {"invoice": "INV-42", "amount": 9_000})]
    )
    async with office.task(SCOPE):
        paid, refused = await outputs(agent.run("pay"))
    assert (paid.content, paid.is_error, refused.is_error) == ("paid 120 EUR", False, True)
    assert refused.content.startswith("refused: argument_out_of_scope (reference ")
    assert isinstance(refused.exception, Denied)
    assert office.world.records.calls()[-1].record.id in refused.content
    assert office.ran == [("pay", "INV-42", 120, "EUR")]
    assert office.calls() == [("pay", "success", "within_scope"), ("pay", "denied", "argument_out_of_scope")]
    office.world.records.assert_attributed(principal=office.alice, agent=office.clerk, tool="pay", count=1)


async def test_outside_any_task_nothing_runs(open_office: Any) -> None:
    """Without a task every call is refused, on record."""
    office = open_office()
    await outputs(office.agent([("read", {"invoice": "INV-42"})]).run("read"))
    assert (office.ran, office.calls()) == ([], [("read", "denied", "no_task")])


@pytest.mark.parametrize(("effect", "runs"), [(Effect.WARN, True), (Effect.BLOCK, False)])
async def test_rules_warn_and_block(open_office: Any, effect: Effect, runs: bool) -> None:
    """A warning runs, a block answers with its reason."""
    office = open_office(policy=RuleSet(Rule(effect, tools="pay", reason="careful", id="rule")))
    async with office.task():
        (answer,) = await outputs(office.agent([("pay", {"invoice": "INV-1", "amount": 1})]).run("pay"))
    assert (bool(office.ran), answer.is_error, "careful" in answer.content) == (runs, not runs, not runs)


async def test_a_route_runs_its_handler_in_place_of_the_tool(open_office: Any) -> None:
    """The model gets what the handler returned, as an output."""
    rule = Rule(Effect.ROUTE, tools="pay", reason="dry", id="r", to="dry")
    office = open_office(policy=RuleSet(rule), routes={"dry": lambda call: f"would pay {call.arguments['amount']}"})
    async with office.task():
        (answer,) = await outputs(office.agent([("pay", {"invoice": "INV-1", "amount": 7})]).run("pay"))
    assert (answer.content, office.ran) == ("would pay 7", [])


async def test_errors_of_tools_are_recorded(open_office: Any) -> None:
    """Raised ones reach LlamaIndex unchanged; returned ones are failures as well."""
    office = open_office()

    def fail() -> str:
        raise LookupError("lost")

    class Soft(BaseTool):
        metadata = ToolMetadata(name="soft", description="Fails.")

        def __call__(self, input: Any) -> ToolOutput:  # noqa: A002 - As in the base class.
            return ToolOutput(tool_name="soft", content="no", raw_input={}, raw_output="no", is_error=True)

    agent = office.agent([("fail", {}), ("soft", {"input": "x"})], tools=[fail, Soft()])
    async with office.task(ai.Scope({"fail": {}, "soft": {}})):
        answers = await outputs(agent.run("go"))
    assert sorted((answer.content, answer.is_error) for answer in answers) == [("lost", True), ("no", True)]
    assert sorted((call.tool, call.outcome, call.record.error) for call in office.world.records.calls()) == [
        ("fail", "error", "LookupError"),
        ("soft", "error", "FailedToolError"),
    ]


async def test_arguments_are_judged_as_the_body_gets_them(open_office: Any) -> None:
    """With all defaults, those of fields and of partial parameters too; what is no number satisfies no range."""
    office, got = open_office(), list[Any]()

    def order(number: int, size: int = Field(default=7), note: str = "x", by: str = "") -> str:
        got.append((number, size, note, by))
        return "ordered"

    rule = Rule(Effect.BLOCK, tools="order", when={"args.size": 7}, reason="no_sevens", id="r")
    policy = RuleSet(rule)
    office = open_office(policy=policy)
    tool = FunctionTool.from_defaults(order, partial_params={"by": "us"})
    agent = office.agent(
        [("order", {"number": 1})],
        [("order", {"number": 1, "size": 8})],
        [("order", {"number": "1", "size": 8})],
        [("order", {"number": 1, "size": 8, "note": "y"})],
        tools=[tool],
    )
    scope = ai.Scope("order", number=Range(max=5), size=Range(max=9))
    async with office.task(scope):
        await outputs(agent.run("go"))
    assert got == [(1, 8, "x", "us")]
    assert [code for _, _, code in office.calls()] == [
        *("policy_blocks", "default", "argument_out_of_scope", "argument_not_granted"),
    ]


async def test_arguments_that_do_not_fit_are_recorded_as_an_error_of_the_tool(open_office: Any) -> None:
    """LlamaIndex validates nothing, so the tool's own refusal is the outcome."""
    office = open_office()
    async with office.task():
        (answer,) = await outputs(office.agent([("pay", {"amount": 1, "other": 2})]).run("go"))
    assert answer.is_error
    assert (office.ran, [outcome for _, outcome, _ in office.calls()]) == ([], ["error"])


async def test_the_context_is_plumbing(open_office: Any) -> None:
    """A tool with a context gets that of the run; no scope has to know it."""
    office = open_office()

    async def remember(ctx: Context, word: str) -> str:
        await ctx.store.set("word", word)
        return "kept"

    async def recall(word: str, ctx: Context) -> str:
        return str(await ctx.store.get("word"))

    agent = office.agent([("remember", {"word": "a"})], [("recall", {"word": "a"})], tools=[remember, recall])
    async with office.task(ai.Scope({"remember": {"word": "a"}, "recall": {"word": "a"}})):
        kept, recalled = await outputs(agent.run("go"))
    assert (kept.content, recalled.content) == ("kept", "a")
    assert [outcome for _, outcome, _ in office.calls()] == ["success", "success"]


async def test_parallel_calls_do_not_disturb_each_other(open_office: Any) -> None:
    """All run at once, and only the refused one fails."""
    office, gate = open_office(), asyncio.Barrier(3)

    async def meet(number: int) -> int:
        await gate.wait()
        return number

    agent = office.agent([("meet", {"number": number}) for number in range(4)], tools=[meet])
    async with office.task(ai.Scope("meet", number=Range(max=2))):
        answers = await outputs(agent.run("go"))
    assert sorted(answer.is_error for answer in answers) == [False, False, False, True]
    assert sorted(outcome for _, outcome, _ in office.calls()) == ["denied", *["success"] * 3]


async def test_a_run_keeps_the_task_in_which_it_began(open_office: Any) -> None:
    """Read under a task of bob, it still acts for alice; after her task has ended, it is refused."""
    office = open_office()
    async with office.task():
        run = office.agent([("read", {"invoice": "INV-1"})]).run("go")
        async with office.task(ai.Scope("nothing"), principal=office.bob, agent=office.researcher):
            await outputs(run)
        late = office.agent([("read", {"invoice": "INV-2"})]).run("go")
    async with office.task(principal=office.bob):
        await outputs(late)
    assert office.ran == [("read", "INV-1")]
    office.world.records.assert_attributed(principal=office.alice, agent=office.clerk, tool="read", count=1)
    assert [outcome for _, outcome, _ in office.calls()] == ["success", "denied"]


async def test_agents_of_a_workflow_act_by_their_names(open_office: Any) -> None:
    """After a handoff the chain has the other agent; the handoff itself is the framework's."""
    office = open_office()
    agents = {"helper": (office.researcher, ai.Scope("read"))}
    clerk = office.agent(
        [("pay", {"invoice": "INV-1", "amount": 1})],
        [("handoff", {"to_agent": "helper", "reason": "read"})],
        name="clerk",
        description="Pays.",
        agents=agents,
    )
    helper = office.agent(
        [("read", {"invoice": "INV-1"}), ("pay", {"invoice": "INV-1", "amount": 1})],
        name="helper",
        description="Reads.",
        agents=agents,
    )
    flow = AgentWorkflow(agents=[clerk, helper], root_agent="clerk")
    async with office.task():
        await outputs(flow.run("go"))
    assert sorted((call.tool, call.outcome, call.agents) for call in office.world.records.calls()) == [
        ("pay", "denied", ("invoice-clerk", "researcher")),
        ("pay", "success", ("invoice-clerk",)),
        ("read", "success", ("invoice-clerk", "researcher")),
    ]


async def test_a_sub_agent_follows_with_the_name_that_its_tools_were_given(open_office: Any) -> None:
    """A tool that runs another agent; ``acting`` says whose tools they are where LlamaIndex does not."""
    office = open_office()
    inner = office.agent(
        [("read", {"invoice": "INV-42"})], agents={"researcher": office.researcher}, acting="researcher"
    )

    async def look_up(question: str) -> str:
        return str(await inner.run(question))

    agent = office.agent([("look_up", {"question": "?"})], tools=[look_up])
    async with office.task(ai.Scope({"look_up": {}, "read": {}})):
        await outputs(agent.run("go"))
    assert [(call.tool, call.agents) for call in office.world.records.calls()] == [
        ("read", ("invoice-clerk", "researcher")),
        ("look_up", ("invoice-clerk",)),
    ]


async def test_tools_of_an_mcp_server_are_recorded_with_it(open_office: Any) -> None:
    """They are functions here, so that the application names the server."""
    office = open_office()
    async with office.task():
        await outputs(office.agent([("read", {"invoice": "INV-1"})], server="archive").run("go"))
    (call,) = office.world.records.calls()
    assert (call.record.action.kind, call.tool) == ("mcp", "archive/read")


async def test_results_are_inspected_and_redacted(open_office: Any) -> None:
    """Neither the model nor the events of the run get what has to be redacted."""
    rule = Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="clean")
    office = open_office(policy=RuleSet(rule), inspectors=[PersonalData("email")])

    def who() -> str:
        return "ask eve@example.com"

    async with office.task(ai.Scope("who")):
        (answer,) = await outputs(office.agent([("who", {})], tools=[who]).run("go"))
    assert (answer.content, answer.raw_output) == ("ask [redacted:pii.email]", "ask [redacted:pii.email]")
    assert "eve@example.com" not in repr(office.said)


async def test_results_lower_the_mark_of_the_task(open_office: Any, tmp_path: Any) -> None:
    """Where a policy asks about information flow, a text that an undeclared tool returned moves no money."""
    office = open_office()
    labels = RuleSet(tools={"read": {"labels": [], "data": []}, "pay": {"labels": ["payment"], "data": []}})
    with ai.Enforcer.open(tmp_path / "flow", policy=All(Flow(), labels)) as enforcer:
        agent = office.agent(
            [("read", {"invoice": "INV-1"})],
            [("pay", {"invoice": "INV-1 is over 120 EUR", "amount": 1})],
            tools=protect([office.read, office.pay], enforcer),
            guarded=False,
        )
        parties = {"principal": office.alice, "agent": office.clerk}
        async with enforcer.task("pay", scope=ai.Scope({"read": {}, "pay": {}}), **parties):
            await outputs(agent.run("go"))
    assert office.ran == [("read", "INV-1")]
    marks = marks_among(records.read(tmp_path / "flow"))
    assert [cause for cause, _ in marks] == ["start", "result"]
    assert Verifier().ledger(tmp_path / "flow").verdict == "verified"


async def test_other_agents_of_the_framework_are_guarded(open_office: Any) -> None:
    """An agent that reasons in text calls the same tools."""
    from llama_index.core.llms.mock import MockFunctionCallingLLM  # noqa: F401

    office = open_office()
    text = 'Thought: I need it.\nAction: read\nAction Input: {"invoice": "INV-43"}'
    model = office.model(text, "Thought: I can answer without using any more tools.\nAnswer: no")
    agent = ReActAgent(tools=protect([office.read], office.enforcer), llm=model)
    async with office.task(SCOPE):
        await outputs(agent.run("go"))
    assert (office.ran, office.calls()) == ([], [("read", "denied", "argument_out_of_scope")])


def test_direct_calls_are_guarded(open_office: Any) -> None:
    """By position, by name, by the helpers of LlamaIndex, and by the function of the tool."""
    office = open_office()
    pay, read = protect([office.pay, office.read], office.enforcer)
    with office.task(SCOPE):
        assert pay.call("INV-42", 5).content == "paid 5 EUR"
        assert pay("INV-42", amount=501).is_error
        assert call_tool(read, {"invoice": "INV-42"}).content.startswith("INV-42")
        assert call_tool(read, {"invoice": "INV-43"}).is_error
        assert asyncio.run(acall_tool(pay, {"invoice": "INV-42", "amount": 501})).is_error
        assert isinstance(pay, FunctionTool)
        assert pay.fn("INV-42", 6) == "paid 6 EUR"
        for function in (pay.fn, pay.real_fn, pay.to_langchain_tool and pay.fn):
            with pytest.raises(Denied):
                function("INV-42", 501)
        assert isinstance(read, FunctionTool)
        with pytest.raises(Denied):
            asyncio.run(read.real_fn(invoice="INV-43"))
    assert len(office.ran) == 3


async def test_code_of_a_model_calls_guarded_functions(open_office: Any) -> None:
    """A ``CodeActAgent`` gets the functions of tools, which are guarded."""
    office = open_office()
    (pay,) = protect([office.pay], office.enforcer, use_context=False)
    agent = CodeActAgent(tools=[pay], llm=office.model(), code_execute_fn=lambda code: code)
    assert agent.tools
    async with office.task(SCOPE):
        with pytest.raises(Denied):
            pay.real_fn("INV-42", 501)  # type: ignore[attr-defined]
    assert office.ran == []


def test_protect_leaves_what_it_got_and_guards_once(open_office: Any) -> None:
    """Tools that were guarded come back as they are; another enforcer is refused."""
    office, other = open_office(), open_office()
    tool = FunctionTool.from_defaults(office.read, name="look")
    (guarded,) = protect([tool], office.enforcer)
    assert (type(tool), tool.requires_context, isinstance(guarded, FunctionTool)) == (FunctionTool, False, True)
    assert guarded.metadata is tool.metadata
    assert protect([guarded], office.enforcer) == [guarded]
    with pytest.raises(ConfigurationError):
        protect([guarded], other.enforcer)
    for given in ({"acting": "helper"}, {"server": "crm"}, {"agents": {"helper": office.clerk}}):
        with pytest.raises(ConfigurationError, match="a second guard"):
            protect([guarded], office.enforcer, **given)
    with office.task():
        assert copy.copy(guarded).call(invoice="x").is_error
    with pytest.raises(TypeError, match="Enforcer"):
        protect([tool], "enforcer")  # type: ignore[arg-type]


async def test_instrument_guards_every_tool_and_is_undone(open_office: Any) -> None:
    """Bare tools and the handoff are recorded once, guarded ones keep their guard; afterwards nothing is."""
    office = open_office(mode="monitor")

    async def again(depth: int) -> str:
        office.ran.append(("again", depth))
        return str(await tool.acall(depth=depth - 1)) if depth else "end"

    tool = FunctionTool.from_defaults(async_fn=again, name="again")
    undo = instrument(office.enforcer)
    try:
        async with office.task():
            await outputs(office.agent([("read", {"invoice": "a"})], guarded=False).run("go"))
            await outputs(office.agent([("read", {"invoice": "b"})]).run("go"))
            await tool.acall(depth=1)
            tool.call(depth=0)
    finally:
        undo()
    tool.call(depth=0)
    assert [name for name, _, _ in office.calls()] == ["read", "read", "again", "again", "again"]
    assert len(office.ran) == 6


async def test_a_guard_that_fails_lets_nothing_run(open_office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """LlamaIndex makes an error of it, and the run goes on."""
    from agent_identity.adapters import ToolGuards

    office = open_office()

    async def broken(*args: object) -> object:
        raise RuntimeError("a defect")

    monkeypatch.setattr(ToolGuards, "run_async", broken)
    async with office.task():
        (answer,) = await outputs(office.agent([("read", {"invoice": "INV-42"})]).run("go"))
    assert (answer.is_error, office.ran) == (True, [])


async def test_a_subclass_that_calls_tools_itself_passes_the_guard(open_office: Any) -> None:
    """An agent whose ``_call_tool`` changes arguments: the changed ones are judged, alone and in a workflow."""
    from llama_index.core.agent.workflow import FunctionAgent

    office = open_office()

    class Evil(FunctionAgent):
        async def _call_tool(self, ctx: Any, tool: Any, tool_input: Any) -> Any:
            return await super()._call_tool(ctx, tool, {**tool_input, "invoice": "EVIL"})

    def evil() -> Evil:
        tools = protect([office.read], office.enforcer)
        return Evil(tools=tools, llm=office.model([("read", {"invoice": "INV-42"})]), name="e", description="e")

    async with office.task(SCOPE):
        await outputs(evil().run("go"))
        await outputs(AgentWorkflow(agents=[evil()], root_agent="e").run("go"))
    assert office.calls() == [("read", "denied", "argument_out_of_scope"), ("read", "success", "within_scope")]
    assert office.ran == [("read", "INV-42")]
