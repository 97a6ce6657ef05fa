"""Tools of the OpenAI Agents SDK under guard: allowed, refused, failed, in parallel, with defaults, of MCP servers."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    FunctionTool,
    ModelBehaviorError,
    RunConfig,
    Runner,
    RunResult,
    ToolOutputText,
    UserError,
    WebSearchTool,
    function_tool,
    set_trace_processors,
    set_tracing_disabled,
)
from frameworks.openai_agents.scripts import (
    CLERK,
    RESEARCHER,
    SCOPE,
    WHO,
    Ran,
    agent_of,
    bare,
    call,
    facts,
    outputs,
    run,
    script,
)
from mark_changes import marks_among
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import agent_identity as ai
from agent_identity import Decision, Request, records
from agent_identity.errors import ConfigurationError
from agent_identity.integrations.frameworks.openai_agents import instrument, protect, provider_tools, unprotect
from agent_identity.options import Telemetry
from agent_identity.policy import All, Flow
from agent_identity.testing import Rehearsal, Rehearse


async def test_a_call_runs_within_scope_and_is_refused_beyond_it(world: Rehearsal) -> None:
    """The refusal is the answer of the tool, and the run goes on to its end."""
    ran = Ran()
    turns = [
        [call("pay_invoice", "call-1", invoice_id="INV-42", amount=120)],
        [call("pay_invoice", "call-2", invoice_id="INV-42", amount=9000)],
    ]
    result = await run(world, protect(agent_of(ran.tools(), *turns), world.enforcer))
    paid, refused = outputs(result)
    assert (ran, paid, result.final_output) == (["paid 120 EUR"], "paid 120 EUR", "done")
    assert refused.startswith("refused: argument_out_of_scope (reference ")
    assert facts(world) == [
        ("pay_invoice", "success", "within_scope"),
        ("pay_invoice", "denied", "argument_out_of_scope"),
    ]
    world.records.assert_attributed(principal="alice@example.com", agent=CLERK, count=1)


async def test_without_a_task_every_call_is_refused(world: Rehearsal) -> None:
    """A protected agent outside any task runs no tool."""
    ran = Ran()
    agent = protect(agent_of(ran.tools(), [call("read_invoice", invoice_id="INV-42")]), world.enforcer)
    result = await Runner.run(agent, "INV-42")
    assert (ran, outputs(result)[0][:16]) == ([], "refused: no_task")
    world.records.assert_denied(code="no_task", tool="read_invoice", count=1)


async def test_a_failing_tool_is_an_error_on_record_and_answers_as_ever(world: Rehearsal) -> None:
    """The model gets the SDK's text, or that of the tool's own handler, exactly as without guard."""
    ran = Ran()

    @function_tool(failure_error_function=lambda _ctx, error: f"sorry: {error}")
    def fails_kindly(why: str) -> str:
        raise ValueError(why)

    def calls() -> list[Any]:
        return [call("fails", "call-1", why="secret"), call("fails_kindly", "call-2", why="bad day")]

    plain = await Runner.run(agent_of([*ran.tools(), fails_kindly], calls()), "INV-42")
    agent = protect(agent_of([*ran.tools(), fails_kindly], calls()), world.enforcer)
    scope = SCOPE | ai.Scope("fails_kindly")
    assert outputs(await run(world, agent, scope=scope)) == outputs(plain)
    assert sorted(facts(world)) == [("fails", "error", "within_scope"), ("fails_kindly", "error", "within_scope")]


async def test_a_tool_without_failure_handler_still_ends_the_run(world: Rehearsal) -> None:
    """Its exception is that of the SDK, with the tool's own as its cause, and the record says error."""

    @function_tool(failure_error_function=None)
    def fails(why: str) -> str:
        raise ValueError(why)

    with pytest.raises(UserError) as ended:
        await run(world, protect(agent_of([fails], [call("fails", why="x")]), world.enforcer))
    assert isinstance(ended.value.__cause__, ValueError)
    assert facts(world) == [("fails", "error", "within_scope")]


async def test_parallel_calls_are_judged_one_by_one(world: Rehearsal) -> None:
    """A refused call cancels none of its siblings."""
    ran, gate = Ran(), asyncio.Event()

    @function_tool
    async def look_up(question: str) -> str:
        await gate.wait()
        ran.append(question)
        return question

    @function_tool
    async def fails(why: str) -> str:
        gate.set()
        return why

    calls = [call("look_up", f"call-{number}", question=str(number)) for number in range(4)]
    calls += [call("pay_invoice", "call-x", invoice_id="INV-1", amount=1), call("fails", "call-y", why="opens")]
    result = await run(world, protect(agent_of([look_up, fails, Ran().tools()[1]], calls), world.enforcer))
    assert sorted(ran) == ["0", "1", "2", "3"]
    assert [output.startswith("refused: ") for output in outputs(result)] == [*[False] * 4, True, False]
    assert sorted(outcome for _, outcome, _ in facts(world)) == ["denied", *["success"] * 5]


class Currency:
    """Blocks payments in euros: a policy about an argument that the model leaves out."""

    name, version, digest = "currency", "1", "A" * 43

    def decide(self, request: Request) -> Decision:
        """Block calls in euros."""
        effect = ai.Effect.BLOCK if request.arguments.get("currency") == "EUR" else ai.Effect.ALLOW
        return Decision(effect=effect, reason="currency")


async def test_rules_see_the_defaults_of_the_schema(rehearse: Rehearse) -> None:
    """An argument that the model leaves out is judged with the value that the body gets."""
    ran, world = Ran(), rehearse(policy=Currency())

    @function_tool(strict_mode=False)
    def pay_invoice(invoice_id: str, amount: int, currency: str = "EUR") -> str:
        ran.append(currency)
        return currency

    calls = [call("pay_invoice", "call-1", invoice_id="INV-42", amount=1)]
    others = [call("pay_invoice", "call-2", invoice_id="INV-42", amount=1, currency="USD")]
    scope = ai.Scope("pay_invoice")
    await run(world, protect(agent_of([pay_invoice], calls, others), world.enforcer), scope=scope)
    assert ran == ["USD"]
    assert [outcome for _, outcome, _ in facts(world)] == ["denied", "success"]


async def test_policy_warns_and_routes(rehearse: Rehearse) -> None:
    """A warning is on record; a routed call runs the handler in the place of the body."""
    rules = ai.RuleSet(
        ai.Rule(ai.Effect.ROUTE, tools="pay_invoice", to="queue", reason="later", id="later"),
        ai.Rule(ai.Effect.WARN, tools="read_invoice", reason="sensitive", id="sensitive"),
        ai.Rule(ai.Effect.BLOCK, tools="look_up", reason="not today", id="closed"),
    )
    ran = Ran()
    world = rehearse(policy=rules, routes={"queue": lambda call: f"queued {call.arguments['amount']}"})
    calls = [
        call("pay_invoice", "call-1", invoice_id="INV-42", amount=120),
        call("read_invoice", "call-2", invoice_id="INV-42"),
        call("look_up", "call-3", question="x"),
    ]
    result = await run(world, protect(agent_of(ran.tools(), calls), world.enforcer))
    assert (ran, outputs(result)[:2]) == (["read INV-42"], ["queued 120", "INV-42: EUR 120"])
    assert outputs(result)[2].startswith("refused: ")
    effects = {one.tool: (one.outcome, one.record.decision.effect) for one in world.records.calls()}
    assert effects == {
        "pay_invoice": ("routed", "route"),
        "read_invoice": ("success", "warn"),
        "look_up": ("denied", "block"),
    }


async def test_agents_act_by_delegations_of_their_own(world: Rehearsal) -> None:
    """After a handoff, and within an agent as a tool, the chain has the agent that acts."""
    ran = Ran()
    second = agent_of(ran.tools(), [call("look_up", "call-4", question="b")], name="researcher")
    inner = agent_of(ran.tools(), [call("look_up", question="a")], name="helper")
    first = agent_of(
        [*ran.tools(), inner.as_tool("ask_researcher", "Ask.")],
        [call("ask_researcher", "call-1", input="?"), call("read_invoice", "call-2", invoice_id="INV-42")],
        [call("transfer_to_researcher", "call-3")],
        handoffs=[second],
    )
    helper = ai.Agent("helper", owner="finance-ops@example.com")
    protect(first, world.enforcer, agents={"researcher": RESEARCHER, "helper": (helper, ai.Scope("look_up"))})
    result = await run(world, first)
    assert result.last_agent is second
    assert sorted(ran) == ["looked up a", "looked up b", "read INV-42"]
    assert sorted((one.tool, one.agents) for one in world.records.calls()) == [
        ("ask_researcher", ("invoice-clerk",)),
        ("look_up", ("invoice-clerk", "helper")),
        ("look_up", ("invoice-clerk", "researcher")),
        ("read_invoice", ("invoice-clerk",)),
    ]
    kinds = {one.tool: one.record.action.kind for one in world.records.calls()}
    assert (kinds["ask_researcher"], kinds["look_up"]) == ("agent", "function")


SERVER = """
try:
    from mcp.server.fastmcp import FastMCP
except ModuleNotFoundError:  # Its name in mcp 2.
    from mcp.server.mcpserver import MCPServer as FastMCP
server = FastMCP("ledger")

@server.tool()
def look_up(question: str, limit: int = 5) -> str:
    return f"{question} {limit}"

server.run()
"""


@pytest.mark.filterwarnings("ignore")
async def test_tools_of_mcp_servers_have_their_server(world: Rehearsal, tmp_path: Path) -> None:
    """A tool of a server is guarded like others, and its record names the server."""
    import sys

    from agents.mcp import MCPServerStdio

    path = tmp_path / "server.py"
    path.write_text(SERVER)
    server = MCPServerStdio({"command": sys.executable, "args": [str(path)]}, name="ledger", cache_tools_list=True)
    calls = [call("look_up", "call-1", question="a"), call("look_up", "call-2", question="b", limit=9)]
    async with server:
        agent = Agent(name="invoice-clerk", mcp_servers=[server], model=script(calls))
        result = await run(world, protect(agent, world.enforcer), scope=ai.Scope("ledger/look_up"))
    assert ["a 5" in str(outputs(result)[0]), "b 9" in str(outputs(result)[1])] == [True, True]
    actions = [one.record.action for one in world.records.calls()]
    assert [(one.tool, one.kind) for one in actions] == [("ledger/look_up", "mcp")] * 2


async def test_unprotect_makes_everything_what_it_was(world: Rehearsal) -> None:
    """Class, tools and handoffs are the old ones, for all agents that were reached."""
    from agents import handoff

    ran = Ran()
    second = agent_of(ran.tools(), name="researcher")
    target = handoff(second)
    first = agent_of(ran.tools(), handoffs=[target])
    before = [bare(tool) for tool in [*first.tools, *second.tools]], target.on_invoke_handoff
    assert protect(first, world.enforcer) is first
    assert isinstance(first, Agent)
    assert (type(first).__name__, type(first) is Agent) == ("Agent", False)
    assert [bare(tool) for tool in first.tools] != before[0][: len(first.tools)]
    assert unprotect(first) is first
    assert ([bare(tool) for tool in [*first.tools, *second.tools]], target.on_invoke_handoff) == before
    assert (type(first), type(second)) == (Agent, Agent)
    unprotect(first)


async def test_a_protected_agent_is_protected_once(world: Rehearsal, rehearse: Rehearse) -> None:
    """Again by the same enforcer has no effect; by another one it is refused; what is no agent is told."""
    agent = protect(agent_of(Ran().tools()), world.enforcer)
    tools = [bare(tool) for tool in agent.tools]
    assert protect(agent, world.enforcer) is agent
    assert [bare(tool) for tool in agent.tools] == tools
    for other, options in ((rehearse().enforcer, {}), (world.enforcer, {"agents": {"a": CLERK}})):
        with pytest.raises(ConfigurationError, match="unprotect"):
            protect(agent, other, **options)
    with pytest.raises(TypeError, match="Agent"):
        protect("agent", world.enforcer)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="Enforcer"):
        protect(agent_of([]), "enforcer")  # type: ignore[arg-type]


async def test_agents_that_share_a_tool_have_their_own_guards(world: Rehearsal, rehearse: Rehearse) -> None:
    """A tool that two agents share is judged by the enforcer of the agent that calls, each once."""
    ran, other = Ran(), rehearse()
    tools = ran.tools()
    first = protect(agent_of(tools, [call("read_invoice", invoice_id="INV-42")]), world.enforcer)
    second = protect(agent_of(tools, [call("read_invoice", invoice_id="INV-42")]), other.enforcer)
    await run(world, first)
    await run(other, second)
    unprotect(first)
    assert len(facts(world)) == len(facts(other)) == 1
    with other.enforcer.task("more", scope=SCOPE, **WHO):
        await Runner.run(second.clone(model=script([call("read_invoice", invoice_id="INV-42")])), "again")
    assert (len(facts(world)), len(facts(other)), len(ran)) == (1, 2, 3)


async def test_hosted_tools_are_named_as_unguarded(world: Rehearsal, caplog: pytest.LogCaptureFixture) -> None:
    """What runs at the provider is listed, and logged once for each agent."""
    agent = agent_of([*Ran().tools(), WebSearchTool()], [call("read_invoice", invoice_id="INV-42")])
    name = WebSearchTool().name
    with caplog.at_level(logging.WARNING, "agent_identity"):
        await run(world, protect(agent, world.enforcer))
    assert provider_tools(agent) == (name,)
    assert [record.args for record in caplog.records] == [(name, "invoice-clerk")]


async def test_results_that_are_no_text_arrive_as_they_are(world: Rehearsal) -> None:
    """Structured outputs and objects reach the SDK unchanged."""

    @function_tool
    def look_up(question: str) -> ToolOutputText:
        return ToolOutputText(text=question)

    @function_tool
    def read_invoice(invoice_id: str) -> Any:
        return {"id": invoice_id, "at": Path("x")}

    @function_tool
    def fails(why: str) -> Any:
        return [ToolOutputText(text=why), ToolOutputText(text="b")] if why == "list" else Path(why)

    calls = [call("look_up", "call-1", question="q"), call("read_invoice", "call-2", invoice_id="INV-42")]
    calls += [call("fails", "call-3", why="list"), call("fails", "call-4", why="path")]
    tools = [look_up, read_invoice, fails]
    plain = await Runner.run(agent_of(tools, calls), "x")
    result = await run(world, protect(agent_of(tools, calls), world.enforcer))
    assert outputs(result) == outputs(plain)
    assert outputs(result)[0] == ToolOutputText(text="q")


async def test_an_instrumented_process_guards_agents_that_nobody_changed(rehearse: Rehearse) -> None:
    """In monitor mode every call runs and is on record, once; a protected agent keeps its own guards."""
    monitor, strict, ran = rehearse(mode="monitor"), rehearse(), Ran()
    undo = instrument(monitor.enforcer)
    try:
        tools = ran.tools()
        inner = agent_of(tools, [call("look_up", question="a")], name="helper")
        pay = call("pay_invoice", "call-1", invoice_id="INV-42", amount=9000)
        agent = agent_of([*tools, inner.as_tool("ask", "Ask.")], [pay, call("ask", "call-2", input="?")])
        await Runner.run(agent, "INV-42")
        kept = protect(agent_of(tools, [call("read_invoice", invoice_id="INV-42")]), strict.enforcer)
        await run(strict, kept)
    finally:
        undo()
    assert sorted(ran) == ["looked up a", "paid 9000 EUR", "read INV-42"]
    assert sorted(facts(monitor)) == [
        ("ask", "success", "no_task"),
        ("look_up", "success", "no_task"),
        ("pay_invoice", "success", "no_task"),
    ]
    assert facts(strict) == [("read_invoice", "success", "within_scope")]
    unprotect(kept)
    assert type(bare(tools[0])).__module__ == "agents.tool"
    await Runner.run(agent_of(tools, [call("look_up", question="after")]), "x")
    assert len(facts(monitor)) == 3


async def test_made_up_names_are_answered_by_the_sdk(world: Rehearsal) -> None:
    """No seam shows a name that no tool has: the SDK ends the run, or answers, and no body runs."""
    ran = Ran()
    with pytest.raises(ModelBehaviorError):
        await run(world, protect(agent_of(ran.tools(), [call("delete_all")]), world.enforcer))
    agent = protect(agent_of(ran.tools(), [call("delete_all")]), world.enforcer)
    config = RunConfig(tool_not_found_behavior="return_error_to_model")
    result: RunResult = await run(world, agent, run_config=config)
    assert (ran, facts(world), result.final_output) == ([], [], "done")


async def test_retries_are_calls_of_their_own(world: Rehearsal) -> None:
    """A model that calls a failed tool again makes a second call, with a second record."""
    ran = Ran()
    turns = [[call("fails", "call-1", why="a")], [call("fails", "call-2", why="a")]]
    await run(world, protect(agent_of(ran.tools(), *turns), world.enforcer))
    assert (ran, facts(world)) == (["failed"] * 2, [("fails", "error", "within_scope")] * 2)


async def test_a_tool_with_a_time_limit_is_cancelled_on_record(world: Rehearsal) -> None:
    """The SDK's time limit works as ever, and the call does not stay open."""

    @function_tool(timeout=0.05)
    async def look_up(question: str) -> str:
        await asyncio.Event().wait()
        return question

    result = await run(world, protect(agent_of([look_up], [call("look_up", question="x")]), world.enforcer))
    assert "timed out" in outputs(result)[0]
    assert [(tool, outcome) for tool, outcome, _ in facts(world)] == [("look_up", "cancelled")]


async def test_a_tool_that_is_no_function_gets_the_judged_arguments(world: Rehearsal) -> None:
    """A hand-written tool gets the text of the model, or the judged arguments where defaults were added."""
    seen: list[str] = []

    async def invoke(_ctx: Any, text: str) -> str:
        seen.append(text)
        return text

    schema = {"type": "object", "properties": {"question": {"type": "string"}, "limit": {"default": 5}}}
    tool = FunctionTool("look_up", "Look up.", schema, invoke, strict_json_schema=False)
    calls = [call("look_up", "call-1", question="a", limit=1), call("look_up", "call-2", question="b")]
    await run(world, protect(agent_of([tool], calls), world.enforcer))
    judged = sorted((json.loads(text) for text in seen), key=lambda given: str(given["question"]))  # They run together.
    assert judged == [{"question": "a", "limit": 1}, {"limit": 5, "question": "b"}]


async def test_results_carry_flow_labels(tmp_path: Path) -> None:
    """What an untrusted tool returned is no destination of a payment; what is declared trusted is one."""
    tools = {
        "read_invoice": {"labels": [], "returns": "untrusted"},
        "pay_invoice": {"labels": ["payment"], "destination": ["iban"], "returns": "trusted"},
    }
    policy = All(Flow(), ai.RuleSet(tools=tools))
    paid = list[str]()

    @function_tool
    def read_invoice(invoice_id: str) -> str:
        return "DE89 3704 0044 0532 0130 00"

    @function_tool
    def pay_invoice(iban: str) -> str:
        paid.append(iban)
        return "paid"

    turns = [
        [call("pay_invoice", "call-1", iban="GB82 WEST 1234 5698 7654 32")],
        [call("read_invoice", "call-2", invoice_id="INV-42")],
        [call("pay_invoice", "call-3", iban="DE89 3704 0044 0532 0130 00")],
    ]
    scope = ai.Scope({"read_invoice": None, "pay_invoice": None})
    request = "Pay INV-42 to GB82 WEST 1234 5698 7654 32"
    with ai.Enforcer.open(tmp_path / "evidence", policy=policy) as enforcer:
        agent = protect(agent_of([read_invoice, pay_invoice], *turns), enforcer)
        with enforcer.task("pay", scope=scope, request=request, **WHO):
            result = await Runner.run(agent, request)
    assert paid == ["GB82 WEST 1234 5698 7654 32"]
    assert outputs(result)[2].startswith("refused: ")
    marks = marks_among(records.read(tmp_path / "evidence"))
    assert any("untrusted" in label for _, label in marks)


async def test_one_call_has_one_span(rehearse: Rehearse) -> None:
    """The record is on one span of its own: the SDK makes none with OpenTelemetry."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    world = rehearse(telemetry=Telemetry(tracer_provider=provider))
    set_tracing_disabled(False)
    set_trace_processors([])
    try:
        calls = [call("read_invoice", "call-1", invoice_id="INV-42"), call("fails", "call-2", why="x")]
        await run(world, protect(agent_of(Ran().tools(), calls), world.enforcer))
    finally:
        set_tracing_disabled(True)
    world.close()
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("execute_tool")]
    assert sorted(span.name for span in spans) == ["execute_tool fails", "execute_tool read_invoice"]
    assert {(span.attributes or {})["gen_ai.tool.call.id"] for span in spans} == {"call-1", "call-2"}
