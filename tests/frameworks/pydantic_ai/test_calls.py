"""Calls of tools of Pydantic AI under the capability: judged, answered and recorded, in every form of a run."""

import asyncio
import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from mark_changes import marks_among
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext, ToolReturn
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ToolFailed, UnexpectedModelBehavior
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.tools import DeferredToolRequests, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset

import agent_identity as ai
from agent_identity import Effect, Rule, RuleSet, Verifier, records
from agent_identity.constraints import Range
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.pydantic_ai import AgentIdentity, bind_stream, instrument
from agent_identity.options import Telemetry
from agent_identity.policy import All, Flow, Obligation

SERVER = """
from mcp.server.fastmcp import FastMCP

server = FastMCP("calls itself anything")

@server.tool()
def search(q: str) -> str:
    return f"found {q}"

server.run()
"""
SCOPE = ai.Scope("pay", amount=Range(max=500), invoice="INV-42") | ai.Scope("read", invoice="INV-42")


async def test_a_call_within_the_scope_runs_and_one_beyond_it_fails(
    open_office: Any, make_call: Any, answers_in: Any
) -> None:
    """The refused call is answered as failed, with its code and reference, and the run goes on."""
    office = open_office()
    agent = office.agent(
        [make_call("pay", invoice="INV-42", amount=120)], [make_call("pay", invoice="INV-42", amount=9_000)]
    )
    async with office.task(SCOPE):
        result = await agent.run("pay")
    paid, refused = answers_in(result.all_messages())
    assert (result.output, paid.content, refused.outcome) == ("done", "paid 120 EUR", "failed")
    assert refused.content.startswith("refused: argument_out_of_scope (reference ")
    assert office.world.records.calls()[-1].record.id in refused.content
    assert office.ran == [("pay", "INV-42", 120, "EUR")]
    assert office.calls() == [("pay", "success", "within_scope"), ("pay", "denied", "argument_out_of_scope")]
    office.world.records.assert_attributed(principal=office.alice, agent=office.clerk, tool="pay", count=1)


def test_a_blocking_run_is_guarded_alike(open_office: Any, make_call: Any) -> None:
    """``run_sync`` has the task of its caller."""
    office = open_office()
    with office.task(SCOPE):
        office.agent([make_call("read", invoice="INV-42")]).run_sync("read")
    assert office.calls() == [("read", "success", "within_scope")]


async def test_outside_any_task_nothing_runs(open_office: Any, make_call: Any) -> None:
    """Without a task every call is refused, on record."""
    office = open_office()
    assert (await office.agent([make_call("read", invoice="INV-42")]).run("read")).output == "done"
    assert (office.ran, office.calls()) == ([], [("read", "denied", "no_task")])


@pytest.mark.parametrize(
    ("effect", "runs", "code"), [(Effect.WARN, True, "policy_warns"), (Effect.BLOCK, False, "policy_blocks")]
)
async def test_rules_warn_and_block(
    open_office: Any, make_call: Any, answers_in: Any, effect: Effect, runs: bool, code: str
) -> None:
    """The reason of the rule is on record, and a blocked call fails with it."""
    office = open_office(policy=RuleSet(Rule(effect, tools="pay", reason="careful", id="rule")))
    async with office.task():
        result = await office.agent([make_call("pay", invoice="INV-1", amount=1)]).run("pay")
    assert bool(office.ran) is runs
    assert office.calls() == [("pay", "success" if runs else "denied", code)]
    (answer,) = answers_in(result.all_messages())
    assert ("careful" in answer.content) is not runs


async def test_a_route_runs_its_handler_in_place_of_the_tool(open_office: Any, make_call: Any, answers_in: Any) -> None:
    """The model gets what the handler returned."""
    policy = RuleSet(Rule(Effect.ROUTE, tools="pay", reason="dry", id="r", to="dry"))
    office = open_office(policy=policy, routes={"dry": lambda call: f"would pay {call.arguments['amount']}"})
    async with office.task():
        result = await office.agent([make_call("pay", invoice="INV-1", amount=7)]).run("pay")
    assert (answers_in(result.all_messages())[0].content, office.ran) == ("would pay 7", [])


async def test_an_error_of_a_tool_ends_the_run_as_ever_and_is_recorded(open_office: Any, make_call: Any) -> None:
    """The application gets the exception of its tool unchanged."""
    office = open_office()

    def fail() -> str:
        raise LookupError("lost")

    agent = office.agent([make_call("fail")], tools=[fail])
    async with office.task(ai.Scope("fail")):
        with pytest.raises(LookupError, match="lost"):
            await agent.run("go")
    assert office.calls() == [("fail", "error", "within_scope")]
    assert office.world.records.calls()[-1].record.error == "LookupError"


async def test_each_attempt_is_a_call_of_its_own(open_office: Any, make_call: Any, answers_in: Any) -> None:
    """A tool that asks for a retry, and one that fails for good, get the answers of Pydantic AI."""
    office, attempts = open_office(), list[int]()

    def flaky(number: int) -> str:
        attempts.append(number)
        if number == 1:
            raise ModelRetry("another one")
        if number == 2:
            raise ToolFailed("never")
        return "yes"

    agent = office.agent(*([make_call("flaky", number=number)] for number in (1, 2, 3)), tools=[flaky])
    async with office.task(ai.Scope("flaky")):
        result = await agent.run("go")
    assert attempts == [1, 2, 3]
    assert [outcome for _, outcome, _ in office.calls()] == ["error", "error", "success"]
    assert answers_in(result.all_messages())[1].outcome == "failed"


async def test_arguments_are_judged_as_the_body_gets_them(open_office: Any, make_call: Any) -> None:
    """Converted, with defaults; a default needs no place in the scope, but a rule sees it."""
    rule = Rule(Effect.BLOCK, tools="pay", when={"args.currency": "EUR"}, reason="no_euro", id="r")
    office = open_office(policy=RuleSet(rule))
    narrow = ai.Scope("pay", invoice="INV-1", amount=Range(max=500))
    script = (
        [make_call("pay", invoice="INV-1", amount="7")],
        [make_call("pay", invoice="INV-1", amount="7", currency="USD")],
        [make_call("pay", invoice="INV-1", amount="700")],
    )
    async with office.task(narrow):
        await office.agent(*script).run("pay")
    assert [code for _, _, code in office.calls()] == ["policy_blocks", "argument_not_granted", "argument_out_of_scope"]
    assert office.ran == []


async def test_objects_reach_the_body_as_they_are(open_office: Any, make_call: Any) -> None:
    """Models, decimals and the run context keep their types; constraints see their fields."""
    office, got = open_office(), list[Any]()

    class Item(BaseModel):
        number: int
        price: Decimal

    def order(ctx: RunContext[None], item: Item, *, note: str = "") -> str:
        got.append((ctx.tool_name, item, note))
        return "ordered"

    agent = office.agent([make_call("order", item={"number": 5, "price": "1.50"})], tools=[order])
    async with office.task(ai.Scope("order")):
        await agent.run("go")
    assert got == [("order", Item(number=5, price=Decimal("1.50")), "")]
    assert office.calls() == [("order", "success", "within_scope")]


async def test_parallel_calls_do_not_disturb_each_other(open_office: Any, make_call: Any, answers_in: Any) -> None:
    """All run at once, and only the refused one fails."""
    office, gate = open_office(), asyncio.Barrier(4)

    async def meet(number: int) -> int:
        await gate.wait()
        return number

    calls = [make_call("meet", number=number) for number in range(5)]
    agent = office.agent(calls, tools=[meet])
    async with office.task(ai.Scope("meet", number=Range(max=3))):
        result = await agent.run("go")
    got = [answer.content for answer in answers_in(result.all_messages())]
    assert (got[:4], got[4].partition(" (")[0]) == ([0, 1, 2, 3], "refused: argument_out_of_scope")
    assert sorted(outcome for _, outcome, _ in office.calls()) == ["denied", *["success"] * 4]


@pytest.mark.parametrize("way", ["run_stream", "run_stream_events", "iter"])
async def test_calls_of_a_stream_run_under_the_task_in_which_it_began(
    open_office: Any, make_call: Any, way: str
) -> None:
    """A stream that was made for alice and is read under a task of bob is hers, not his."""
    office = open_office()
    agent = office.agent([make_call("pay", invoice="INV-1", amount=1)])
    bobs = {"principal": office.bob, "agent": office.researcher}
    async with office.task():
        stream = _stream(agent, way)
        assert await anext(stream) == "begun"
        async with office.task(ai.Scope("nothing"), **bobs):
            async for _ in stream:
                pass
    assert office.ran == [("pay", "INV-1", 1, "EUR")]
    office.world.records.assert_attributed(principal=office.alice, agent=office.clerk, tool="pay", count=1)


async def _stream(agent: Agent[Any, Any], way: str) -> Any:
    if way == "run_stream":
        async with agent.run_stream("go") as result:
            yield "begun"
            async for text in result.stream_text():
                yield text
    elif way == "iter":
        async with agent.iter("go") as run:
            yield "begun"
            async for node in run:
                yield node
    else:
        async with agent.run_stream_events("go") as events:
            bound = bind_stream(events)  # The run begins with the first event.
            yield "begun"
            async for event in bound:
                yield event


async def test_a_delegation_within_a_run_counts(open_office: Any, make_call: Any) -> None:
    """Authority that was narrowed since the run began is not widened again."""
    office = open_office()
    agent = office.agent([make_call("pay", invoice="INV-1", amount=1)])
    delegated = office.enforcer.delegate
    async with office.task(), agent.iter("go") as run, delegated(office.researcher, scope=ai.Scope("read")):
        async for _ in run:
            pass
    assert (office.ran, office.calls()) == ([], [("pay", "denied", "tool_not_granted")])


async def test_a_named_agent_acts_by_a_delegation_and_its_sub_agent_follows(open_office: Any, make_call: Any) -> None:
    """The chain of a call of the inner agent leads over the tool that runs it."""
    office = open_office()
    inner = Agent(
        office.agent([make_call("read", invoice="INV-42")]).model,
        name="researcher",
        tools=[office.read],
        capabilities=[AgentIdentity(office.enforcer, agents={"researcher": (office.researcher, ai.Scope("read"))})],
    )

    async def look_up(ctx: RunContext[None], question: str) -> str:
        return str((await inner.run(question, usage=ctx.usage)).output)

    agent = office.agent(
        [make_call("look_up", question="?")],
        [make_call("pay", invoice="INV-42", amount=1)],
        tools=[look_up, office.pay],
    )
    async with office.task(ai.Scope("look_up") | ai.Scope("read") | ai.Scope("pay")):
        await agent.run("go")
    assert [(call.tool, call.agents) for call in office.world.records.calls()] == [
        ("read", ("invoice-clerk", "researcher")),
        ("look_up", ("invoice-clerk",)),
        ("pay", ("invoice-clerk",)),
    ]


async def test_tools_of_every_source_are_guarded_once(open_office: Any, make_call: Any) -> None:
    """Toolsets, prefixed ones, functions that make toolsets, and those of capabilities and of runs."""
    office = open_office()

    def tool(name: str) -> FunctionToolset[Any]:
        toolset = FunctionToolset[Any]()
        toolset.add_function(lambda: office.ran.append(name), takes_ctx=False, name=name)
        return toolset

    class Extra(AbstractCapability[Any]):
        def get_toolset(self) -> FunctionToolset[Any]:
            return tool("of_capability")

    def made(ctx: RunContext[Any]) -> Any:
        return tool("dynamic").prefixed("x")

    agent = office.agent(
        [make_call("plain"), make_call("p_prefixed"), make_call("x_dynamic"), make_call("of_capability")],
        [make_call("x_dynamic"), make_call("of_run")],
        tools=[],
        toolsets=[tool("plain"), tool("prefixed").prefixed("p"), made],
        capabilities=[Extra(), AgentIdentity(office.enforcer)],
    )
    names = ("plain", "prefixed", "dynamic", "of_capability", "of_run")
    async with office.task(ai.Scope(dict.fromkeys(names))):
        await agent.run("go", toolsets=[tool("of_run")])
    assert sorted(office.ran) == sorted([*names, "dynamic"])
    assert sorted(name for name, outcome, _ in office.calls() if outcome == "success") == sorted([*names, "dynamic"])


async def test_a_tool_of_an_mcp_server_is_recorded_with_its_server(
    open_office: Any, make_call: Any, tmp_path: Path
) -> None:
    """The server has the name that the application gave to the toolset, and the tool the one that the server uses."""
    office, server = open_office(), tmp_path / "server.py"
    server.write_text(SERVER, encoding="utf-8")
    toolset = MCPToolset(str(server), id="archive")
    agent = office.agent([make_call("a_search", q="x")], tools=[], toolsets=[toolset.prefixed("a")])
    async with office.task(ai.Scope("archive/search")):
        await agent.run("go")
    (call,) = office.world.records.calls()
    assert (call.outcome, call.record.action.kind, call.tool) == ("success", "mcp", "archive/search")


async def test_a_made_up_name_is_refused_on_record(open_office: Any, make_call: Any) -> None:
    """Pydantic AI answers it as ever; names unfit for records have one in place of theirs."""
    office = open_office()
    agent = office.agent([make_call("drop_tables", table="x"), make_call("a\x00b")], retries=3)
    async with office.task():
        assert (await agent.run("go")).output == "done"
    assert office.calls() == [("drop_tables", "denied", "tool_unknown"), ("unnamed_tool", "denied", "tool_unknown")]


async def test_results_are_inspected_and_redacted(open_office: Any, make_call: Any, answers_in: Any) -> None:
    """Also what a tool says beside its result; what cannot be changed is withheld."""
    rule = Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="clean")
    office = open_office(policy=RuleSet(rule), inspectors=[PersonalData("email")])

    def plain() -> str:
        return "ask bob@example.com"

    def apart() -> ToolReturn:
        metadata = {"kept": True, "seen": ["eve@example.com"]}
        return ToolReturn("ask bob@example.com", content=["or eve@example.com"], metadata=metadata)

    agent = office.agent([make_call("plain"), make_call("apart")], tools=[plain, apart])
    async with office.task(ai.Scope({"plain": {}, "apart": {}})):
        result = await agent.run("go")
    sent = repr(office.seen[-1])
    assert "bob@example.com" not in sent
    assert "eve@example.com" not in sent
    assert "eve@example.com" not in repr(result.all_messages())
    assert answers_in(result.all_messages())[0].content == "ask [redacted:pii.email]"


async def test_results_lower_the_mark_of_the_task(open_office: Any, make_call: Any, tmp_path: Path) -> None:
    """Where a policy asks about information flow, a text that an undeclared tool returned moves no money."""
    office = open_office()
    labels = RuleSet(tools={"read": {"labels": [], "data": []}, "pay": {"labels": ["payment"], "data": []}})
    with ai.Enforcer.open(tmp_path / "flow", policy=All(Flow(), labels)) as enforcer:
        agent = office.agent(
            [make_call("read", invoice="INV-1")],
            [make_call("pay", invoice="INV-1 is over 120 EUR", amount=1)],
            capabilities=[AgentIdentity(enforcer)],
            guarded=False,
        )
        parties = {"principal": office.alice, "agent": office.clerk}
        async with enforcer.task("pay", scope=ai.Scope({"read": {}, "pay": {}}), **parties):
            await agent.run("go")
    assert office.ran == [("read", "INV-1")]
    marks = marks_among(records.read(tmp_path / "flow"))
    assert [cause for cause, _ in marks] == ["start", "result"]
    assert Verifier().ledger(tmp_path / "flow").verdict == "verified"


async def test_a_call_has_one_span(open_office: Any, make_call: Any) -> None:
    """The record is on the span that Pydantic AI makes for the call, refused ones included."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    office = open_office(telemetry=Telemetry(tracer_provider=provider))
    from pydantic_ai.models.instrumented import InstrumentationSettings

    settings = InstrumentationSettings(tracer_provider=provider)
    agent = office.agent([make_call("read", invoice="INV-42")], [make_call("pay", invoice="INV-42", amount=9_000)])
    agent.instrument = settings
    async with office.task(SCOPE):
        await agent.run("go")
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("execute_tool")]
    assert sorted(span.name for span in spans) == ["execute_tool pay", "execute_tool read"]
    assert all(any(key.startswith("agent_identity.") for key in span.attributes or ()) for span in spans)


async def test_tools_that_run_elsewhere_are_named_once(
    open_office: Any, make_call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """External tools never pass the guard; they are listed, and logged once."""
    office = open_office()
    ours = AgentIdentity(office.enforcer)
    far = ExternalToolset([ToolDefinition(name="far", parameters_json_schema={"type": "object", "properties": {}})])
    agent = Agent(
        office.agent([make_call("read", invoice="INV-1")], [make_call("far")], guarded=False).model,
        tools=[office.read],
        toolsets=[far],
        output_type=[str, DeferredToolRequests],
        capabilities=[ours],
    )
    with caplog.at_level(logging.WARNING, logger="agent_identity"):
        async with office.task():
            assert isinstance((await agent.run("go")).output, DeferredToolRequests)
    assert ours.provider_tools == ("far",)
    assert sum("'far'" in record.getMessage() for record in caplog.records) == 1
    assert office.calls() == [("read", "success", "within_scope")]


async def test_instrument_guards_every_agent_and_is_undone(open_office: Any, make_call: Any) -> None:
    """Agents that nobody touched are recorded; those under the capability have one record; afterwards, none."""
    office = open_office(mode="monitor")
    bare = office.agent([make_call("read", invoice="INV-1")], guarded=False)
    ours = office.agent([make_call("read", invoice="INV-2")])
    undo = instrument(office.enforcer)
    try:
        async with office.task(ai.Scope("other")):
            await bare.run("go")
            await ours.run("go")
        await bare.run("go")
    finally:
        undo()
    await bare.run("go")
    assert len(office.ran) == 4
    assert [outcome for _, outcome, _ in office.calls()] == ["success"] * 3
    assert all(call.record.decision.enforced == "audit" for call in office.world.records.calls())


async def test_a_run_that_is_out_of_retries_ends_as_ever(open_office: Any, make_call: Any) -> None:
    """Refusals use up no retries, and arguments that do not validate never reach the guard."""
    office = open_office()
    refused = [[make_call("pay", invoice="INV-1", amount=1)]] * 4
    async with office.task(ai.Scope("read")):
        assert (await office.agent(*refused).run("go")).output == "done"
        with pytest.raises(UnexpectedModelBehavior):
            await office.agent(*[[make_call("read", invoice=[])]] * 4).run("go")
    assert [code for _, _, code in office.calls()] == ["tool_not_granted"] * 4


async def test_output_functions_are_named(open_office: Any, make_call: Any) -> None:
    """They pass no toolset, so they are listed as unguarded; output types without code are not."""
    office = open_office()
    ours = AgentIdentity(office.enforcer)

    def send(text: str) -> str:
        return f"sent {text}"

    agent = office.agent([make_call("final_result", text="x")], output_type=send, guarded=False, capabilities=[ours])
    async with office.task():
        assert (await agent.run("go")).output == "sent x"
    assert ours.provider_tools == ("send",)
    plain = AgentIdentity(office.enforcer)
    structured = office.agent(
        [make_call("final_result", response=5)], output_type=int, guarded=False, capabilities=[plain]
    )
    async with office.task():
        assert (await structured.run("go")).output == 5
    assert plain.provider_tools == ()
