"""Ways round the guard of the OpenAI Agents SDK, each with the secure outcome."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchTool,
    CustomTool,
    FunctionTool,
    Handoff,
    LocalShellTool,
    ModelBehaviorError,
    RunConfig,
    RunContextWrapper,
    RunHooks,
    Runner,
    RunState,
    ShellTool,
    ToolGuardrailFunctionOutput,
    function_tool,
    handoff,
    tool_input_guardrail,
)
from agents.editor import ApplyPatchOperation
from agents.realtime import RealtimeAgent
from agents.sandbox import ExecResult, SandboxAgent, SandboxRunConfig
from agents.sandbox.capabilities import Filesystem, Shell
from agents.testing import ScriptedModel, assistant_message, scripted_sandbox_session
from agents.tool import LocalShellCommandRequest, ShellActionRequest, ShellCallData, ShellCommandRequest
from agents.tool_context import ToolContext
from frameworks.openai_agents.scripts import (
    BOB,
    RESEARCHER,
    SCOPE,
    WHO,
    Ran,
    agent_of,
    call,
    facts,
    outputs,
    raw,
    run,
    script,
    verifies,
)
from openai.types.responses import ResponseCustomToolCall
from openai.types.responses.response_output_item import LocalShellCall, LocalShellCallAction
from pydantic import BaseModel

import agent_identity as ai
from agent_identity.adapters import ToolGuards
from agent_identity.constraints import Range
from agent_identity.errors import EvidenceError
from agent_identity.integrations.frameworks.openai_agents import instrument, protect, provider_tools, unprotect
from agent_identity.testing import Rehearsal, Rehearse

FORBIDDEN = call("read_invoice", "call-9", invoice_id="INV-1")


def behind_an_object(agent: Agent[Any]) -> Handoff[Any, Any]:
    """Return a handoff as the SDK makes it."""
    return handoff(agent, tool_name_override="go")


def behind_a_function(agent: Agent[Any]) -> Handoff[Any, Any]:
    """Return a handoff whose target nobody knows before it is invoked."""

    async def invoke(_ctx: Any, _text: str) -> Agent[Any]:
        return agent.clone()

    return Handoff("go", "Go.", {}, invoke, agent.name)


@pytest.mark.parametrize("made", [behind_an_object, behind_a_function])
async def test_agents_behind_handoffs_are_guarded(world: Rehearsal, made: Callable[..., Any]) -> None:
    """A target is protected before its first turn, whether it is reachable before or only when the work is handed."""
    ran = Ran()
    second = agent_of(ran.tools(), [FORBIDDEN], name="second")
    first = protect(agent_of([], [call("go")], handoffs=[made(second)]), world.enforcer)
    result = await run(world, first)
    assert (ran, result.last_agent.name, outputs(result)[-1][:9]) == ([], "second", "refused: ")
    await run(world, protect(agent_of([], [call("go")], handoffs=[made(first)]), world.enforcer))


async def test_handoffs_and_tools_that_are_added_during_a_run_are_guarded(world: Rehearsal) -> None:
    """What a tool adds to its agent is guarded in the next turn; so is a whole new list of tools."""
    ran = Ran()
    tools = ran.tools()

    @function_tool
    def look_up(question: str) -> str:
        agent.tools.append(tools[0])
        agent.handoffs.append(behind_a_function(agent_of(ran.tools(), [FORBIDDEN], name="second")))
        return question

    turns = [[call("look_up", "call-1", question="x")], [call("read_invoice", "call-2", invoice_id="INV-1")]]
    agent = protect(agent_of([look_up], *turns, [call("go", "call-3")]), world.enforcer)
    result = await run(world, agent)
    assert (ran, [text[:9] for text in outputs(result)[1:2]]) == ([], ["refused: "])
    agent.tools = ran.tools()
    agent.model = script([FORBIDDEN])
    await run(world, agent)
    assert ran == []
    assert len(facts(world)) == 4


class Order(BaseModel):
    """What a model writes for a handoff."""

    invoice: str
    amount: int = 10


HAND_ON = ai.Scope("hand_on", invoice="INV-42", amount=Range(max=500))


@pytest.mark.parametrize("zero_code", [False, True])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("given", "scope", "outcome"),
    [
        ({"invoice": "INV-42", "amount": 120}, HAND_ON, "success"),
        ({"invoice": "INV-42", "amount": 9_000}, HAND_ON, "denied"),
        ({"invoice": "INV-42", "amount": 120}, SCOPE, "denied"),
        ({"invoice": "INV-42", "amount": 120}, None, "denied"),
    ],
)
async def test_the_function_of_a_handoff_with_input_is_a_guarded_call(
    world: Rehearsal, given: Any, scope: Any, outcome: str, late: bool, zero_code: bool
) -> None:
    """It gets what a model wrote; a refused one does not run, and the run goes on with the agent that asked."""
    got: list[Any] = []
    target = handoff(
        agent_of([], name="second"),
        on_handoff=lambda _, order: got.append((order.invoice, order.amount)),
        input_type=Order,
        tool_name_override="hand_on",
    )
    first = agent_of([], [call("hand_on", **given)], handoffs=[] if late else [target])
    undo = instrument(world.enforcer) if zero_code else lambda: None
    try:
        agent = first if zero_code else protect(first, world.enforcer)
        if late:
            agent.handoffs.append(target)
        result = await (run(world, agent, scope=scope) if scope else Runner.run(agent, "INV-42"))
    finally:
        undo()
    allowed = outcome == "success"
    assert got == ([("INV-42", 120)] if allowed else [])
    assert (result.last_agent.name, result.final_output) == ("second" if allowed else "invoice-clerk", "done")
    (said,) = [one.raw_item["output"] for one in result.new_items if one.type == "handoff_output_item"]
    assert said.startswith('{"assistant": "second"}' if allowed else "refused: ")
    assert [one[:2] for one in facts(world)] == [("hand_on", outcome)]


async def test_a_handoff_without_input_gets_nothing_that_a_model_makes_up(world: Rehearsal) -> None:
    """It is no call, and needs no scope; its function has no arguments to go by."""
    got: list[Any] = []
    second = agent_of([], name="second")

    async def invoke(_ctx: Any, text: str) -> Agent[Any]:
        got.append(text)
        return second

    first = agent_of([], [raw("go", '{"amount": 9000}')], handoffs=[Handoff("go", "Go.", {}, invoke, "second")])
    result = await run(world, protect(first, world.enforcer))
    assert (got, result.last_agent.name, facts(world)) == (["{}"], "second", [])


async def test_a_handoff_is_guarded_once_and_by_the_protection_of_its_agent(world: Rehearsal) -> None:
    """The guard of the process gives way to ``protect``, and ``unprotect`` gives back what was there."""
    got: list[Any] = []
    second = agent_of([], name="second")
    target = handoff(
        second,
        on_handoff=lambda _, order: got.append(order.amount),
        input_type=Order,
        tool_name_override="hand_on",
    )
    original = target.on_invoke_handoff
    undo = instrument(world.enforcer)
    try:
        agent = agent_of([], [call("hand_on", invoice="INV-42", amount=1)], handoffs=[target])
        await run(world, agent, scope=HAND_ON)
        agent.model, second.model = script([call("hand_on", invoice="INV-42", amount=2)]), script()
        await run(world, protect(agent, world.enforcer), scope=HAND_ON)
    finally:
        undo()
    assert got == [1, 2]
    assert facts(world) == [("hand_on", "success", "within_scope")] * 2
    unprotect(agent)
    assert target.on_invoke_handoff is original
    assert "get_transfer_message" not in vars(target)
    verifies(world)


async def test_clones_and_copies_are_guarded(world: Rehearsal) -> None:
    """A clone, a copy, a deep copy of an agent, and a copy of a guarded tool in an agent that nobody protected."""
    ran = Ran()
    agent = protect(agent_of(ran.tools()), world.enforcer)
    others = [agent.clone(tools=Ran().tools()), copy.copy(agent), Agent("plain", tools=[copy.copy(agent.tools[0])])]
    for other in others:
        other.model = script([FORBIDDEN])
        await run(world, other)
    assert ran == []
    assert facts(world) == [("read_invoice", "denied", "argument_out_of_scope")] * 3


async def test_a_copy_of_a_guarded_tool_is_guarded_once(world: Rehearsal) -> None:
    """A protected agent with a copy of a guarded tool makes one record of a call."""
    ran = Ran()
    protect(agent_of(tools := ran.tools()), world.enforcer)
    again = agent_of([copy.copy(tool) for tool in tools], [call("read_invoice", invoice_id="INV-42")])
    await run(world, protect(again, world.enforcer))
    assert (len(ran), len(facts(world))) == (1, 1)


async def test_a_tool_that_is_called_directly_is_guarded(world: Rehearsal) -> None:
    """Calling what the SDK calls goes through the guard; the original function is not one attribute away."""
    ran = Ran()
    agent = protect(agent_of(ran.tools()), world.enforcer)
    tool = agent.tools[0]
    context = ToolContext(None, tool_name="read_invoice", tool_call_id="c", tool_arguments="{}")
    assert (await tool.on_invoke_tool(context, '{"invoice_id": "INV-42"}')).startswith("refused: no_task")
    assert (await tool.__wrapped__(context, '{"invoice_id": "INV-42"}')).startswith("refused: no_task")
    assert ran == []


TEXTS = [
    "{",
    "[]",
    '"x"',
    "null",
    "nonsense",
    '{"invoice_id": "INV-42", "invoice_id": "INV-1"}',
    '{"invoice_id": NaN}',
    '{"invoice_id": "INV-42"} {}',
    "[" * 400,
]


@pytest.mark.parametrize("text", TEXTS)
async def test_malformed_arguments_run_nothing_and_are_on_record(world: Rehearsal, text: str) -> None:
    """A text that is no JSON object, or that parsers read in two ways, is refused, and the run goes on."""
    ran = Ran()
    result = await run(world, protect(agent_of(ran.tools(), [raw("read_invoice", text)]), world.enforcer))
    assert (ran, outputs(result)[0][:22], result.final_output) == ([], "refused: bad_arguments", "done")
    world.records.assert_denied(code="bad_arguments", tool="read_invoice", count=1)


@pytest.mark.parametrize("text", ["{", '{"invoice_id": "INV-42", "invoice_id": "INV-1"}', '{"invoice_id": "INV-42"}'])
async def test_monitor_mode_changes_no_answer(rehearse: Rehearse, text: str) -> None:
    """In monitor mode the model gets what it gets without guard, whatever it wrote."""
    plain = await Runner.run(agent_of(Ran().tools(), [raw("read_invoice", text)]), "x")
    world = rehearse(mode="monitor")
    agent = protect(agent_of(Ran().tools(), [raw("read_invoice", text)]), world.enforcer)
    assert outputs(await Runner.run(agent, "x")) == outputs(plain)
    assert len(facts(world)) == 1


class Tampering(RunHooks[Any]):
    """Changes the arguments of a call after every check of the SDK."""

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """Ask for another invoice."""
        context.tool_call.arguments = '{"invoice_id": "INV-1"}'
        context.tool_arguments = '{"invoice_id": "INV-1"}'


async def test_what_a_hook_changes_is_what_is_judged(world: Rehearsal) -> None:
    """A hook that runs after the SDK's checks and before the body cannot get other arguments past the guard."""
    ran = Ran()
    agent = protect(agent_of(ran.tools(), [call("read_invoice", invoice_id="INV-42")]), world.enforcer)
    await run(world, agent, hooks=Tampering())
    assert ran in ([], ["read INV-42"])  # The SDK may have taken the arguments before.
    judged = {(outcome, code) for _, outcome, code in facts(world)}
    assert judged == ({("success", "within_scope")} if ran else {("denied", "argument_out_of_scope")})


async def test_a_guardrail_of_the_sdk_still_stops_a_call(world: Rehearsal) -> None:
    """A call that the SDK rejects reaches no guard and no body."""
    ran = Ran()

    @tool_input_guardrail
    def never(_data: Any) -> ToolGuardrailFunctionOutput:
        return ToolGuardrailFunctionOutput.reject_content("never")

    tools = ran.tools()
    tools[0].tool_input_guardrails = [never]
    result = await run(world, protect(agent_of(tools, [call("read_invoice", invoice_id="INV-42")]), world.enforcer))
    assert (ran, outputs(result), facts(world)) == ([], ["never"], [])


async def test_a_tool_that_was_disabled_meanwhile_stays_disabled(world: Rehearsal) -> None:
    """The SDK knows its tools by identity: guarded tools are the same objects."""
    ran = Ran()
    tools = ran.tools()
    asked = list[int]()

    def once(_ctx: Any, _agent: Any) -> bool:
        asked.append(1)
        return len(asked) == 1

    tools[0].is_enabled = once
    agent = agent_of(tools, [call("read_invoice", invoice_id="INV-42")])
    plain = copy.copy(tools)
    protect(agent, world.enforcer)
    assert all(one is other for one, other in zip(agent.tools, plain, strict=True))
    with pytest.raises(ModelBehaviorError, match="disabled"):
        await run(world, agent)
    assert (ran, facts(world)) == ([], [])


async def test_a_policy_of_the_sdk_about_arguments_sees_what_it_saw(world: Rehearsal) -> None:
    """A callable needs_approval decides on guarded tools as on bare ones."""
    seen = list[dict[str, object]]()

    async def large(_ctx: Any, parameters: dict[str, Any], _call_id: str) -> bool:
        seen.append(parameters)
        return bool(parameters["amount"] > 100)

    def agent() -> Agent[Any]:
        @function_tool(needs_approval=large)
        def pay_invoice(invoice_id: str, amount: int, currency: str = "EUR") -> str:
            return f"paid {amount}"

        calls = [
            call("pay_invoice", "call-1", invoice_id="INV-42", amount=1, currency="EUR"),
            call("pay_invoice", "call-2", invoice_id="INV-42", amount=120, currency="EUR"),
            call("pay_invoice", "call-3", invoice_id="INV-42", amount=2),
        ]
        return agent_of([pay_invoice], calls)

    plain = await Runner.run(agent(), "x")
    scope = ai.Scope("pay_invoice")
    result = await run(world, protect(agent(), world.enforcer), scope=scope)
    assert [item.call_id for item in result.interruptions] == [item.call_id for item in plain.interruptions]
    assert outputs(result) == outputs(plain)


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyError("x"), EvidenceError("x", code="ledger_failed")])
async def test_a_defect_of_the_adapter_runs_no_tool_and_ends_no_run(
    world: Rehearsal, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whatever fails in the guard, the tool does not run, its siblings do not fall, and the run goes on."""

    async def fails(*_args: object) -> object:
        raise error

    ran = Ran()
    agent = protect(agent_of(ran.tools(), [call("read_invoice", invoice_id="INV-42")]), world.enforcer)
    with monkeypatch.context() as patched:
        patched.setattr(ToolGuards, "run_async", fails)
        result = await run(world, agent)
    assert (ran, outputs(result)[0][:9], result.final_output) == ([], "refused: ", "done")


class Frozen(FunctionTool):
    """A tool whose body cannot be replaced once it is ready."""

    ready = False

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse another body."""
        if self.ready and name == "on_invoke_tool":
            raise TypeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("mode", ["enforce", "monitor"])
async def test_a_tool_that_cannot_be_guarded_is_not_listed(rehearse: Rehearse, mode: Any) -> None:
    """No model can call it and no run ends by it; monitor mode leaves it as it is."""
    ran = list[str]()

    async def invoke(_ctx: Any, text: str) -> str:
        ran.append(text)
        return "ok"

    tool = Frozen("look_up", "Look.", {"type": "object", "properties": {}}, invoke, strict_json_schema=False)
    tool.ready = True
    world = rehearse(mode=mode)
    agent = protect(agent_of([tool], [call("look_up")]), world.enforcer)
    result = await run(world, agent, run_config=RunConfig(tool_not_found_behavior="return_error_to_model"))
    assert (bool(ran), result.final_output) == (mode == "monitor", "done")


async def test_an_agent_as_a_tool_that_cannot_be_reached_is_not_listed(world: Rehearsal) -> None:
    """An agent whose own tools would run unguarded is no tool of a protected agent."""
    ran = Ran()
    tool = agent_of(ran.tools(), [FORBIDDEN], name="second").as_tool("ask_researcher", "Ask.")
    tool.__dict__["_agent_instance"] = None
    agent = protect(agent_of([tool], [call("ask_researcher", input="?")]), world.enforcer)
    config = RunConfig(tool_not_found_behavior="return_error_to_model")
    for _ in range(2):
        result = await run(world, agent.clone(model=script([call("ask_researcher", input="?")])), run_config=config)
    assert (ran, facts(world), result.final_output) == ([], [], "done")


async def test_a_cancelled_run_stays_cancelled(world: Rehearsal) -> None:
    """Cancellation goes through the adapter, and the call ends on record."""
    started = asyncio.Event()

    @function_tool
    async def look_up(question: str) -> str:
        started.set()
        await asyncio.Event().wait()
        return question

    agent = protect(agent_of([look_up], [call("look_up", question="x")]), world.enforcer)
    running = asyncio.ensure_future(run(world, agent))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [outcome for _, outcome, _ in facts(world)] == ["cancelled"]


async def test_a_run_that_goes_on_behind_a_handoff_is_guarded(world: Rehearsal) -> None:
    """Loaded in fresh agents, a run whose current agent is behind a handoff object has guarded tools."""
    ran = Ran()

    def agents(*turns: Any) -> Agent[Any]:
        tools = ran.tools()
        tools[0].needs_approval = True
        second = agent_of(tools, *turns[1:], name="second")
        return protect(agent_of([], *turns[:1], handoffs=[handoff(second, tool_name_override="go")]), world.enforcer)

    stopped = await run(world, agents([call("go")], [FORBIDDEN]))
    fresh = agents()
    state = await RunState.from_string(fresh, stopped.to_state().to_string())
    state.approve(state.get_interruptions()[0])
    with world.enforcer.task("more", scope=SCOPE, **WHO):
        result = await Runner.run(fresh, state)
    assert (ran, outputs(result)[-1][:9]) == ([], "refused: ")


async def test_unprotect_reaches_agents_that_a_run_found(world: Rehearsal) -> None:
    """An agent that was protected when work was handed to it is released with the others."""
    ran = Ran()
    second = agent_of(ran.tools(), [call("read_invoice", "call-2", invoice_id="INV-7")], name="second")

    async def invoke(_ctx: Any, _text: str) -> Agent[Any]:
        return second

    first = protect(agent_of([], [call("go")], handoffs=[Handoff("go", "Go.", {}, invoke, "second")]), world.enforcer)
    await run(world, first)
    unprotect(first)
    assert (type(second), ran) == (Agent, [])
    second.model = script([call("read_invoice", invoice_id="INV-7")])
    await Runner.run(second, "x")
    assert ran == ["read INV-7"]


async def test_each_tenant_is_judged_under_its_own_task(world: Rehearsal) -> None:
    """Runs of one agent at the same time under two principals stay apart."""
    ran = Ran()
    agent = protect(agent_of(ran.tools()), world.enforcer)

    async def one(who: ai.Human, number: int) -> None:
        clone = agent.clone(model=script([call("look_up", f"call-{number}", question=who.id)]))
        with world.enforcer.task("x", principal=who, agent=WHO["agent"], scope=ai.Scope("look_up")):
            await Runner.run(clone, "x", run_config=RunConfig())

    await asyncio.gather(*(one(who, number) for number, who in enumerate([WHO["principal"], BOB] * 4)))
    assert sorted(str(one.principal) for one in world.records.calls()) == [
        *["alice@example.com"] * 4,
        *["bob@example.com"] * 4,
    ]


class Editor:
    """An editor that tells what it does."""

    def __init__(self, ran: Ran) -> None:
        self.ran = ran

    def create_file(self, operation: ApplyPatchOperation) -> str:
        """Create."""
        self.ran.append(f"create {operation.path}")
        return "created"

    update_file = delete_file = create_file


async def test_shells_editors_and_custom_tools_are_guarded(world: Rehearsal) -> None:
    """Tools that the SDK runs here without being function tools are judged by their arguments."""
    ran = Ran()

    async def shell(request: ShellCommandRequest) -> str:
        ran.append(f"shell {request.data.action.commands}")
        return "ok"

    def local(request: LocalShellCommandRequest) -> str:
        ran.append(f"local {request.data.action.command}")
        return "ok"

    async def custom(_ctx: Any, text: str) -> str:
        ran.append(f"custom {text}")
        return "ok"

    tools: list[Any] = [
        ShellTool(shell),
        LocalShellTool(local),
        ApplyPatchTool(Editor(ran)),
        CustomTool("sql", "Query.", custom),
    ]
    agent = protect(agent_of(tools), world.enforcer)
    assert provider_tools(agent) == ()
    scope = ai.Scope(
        {
            "shell": {"commands": ["ls"]},
            "local_shell": {"command": ["ls"], "env": {}},
            "apply_patch": {"type": "create_file", "path": "a.txt", "diff": "+a"},
            "sql": {"input": "select 1"},
        }
    )
    with world.enforcer.task("x", scope=scope, **WHO):
        answers = [await _each(tools, *words) for words in (("ls", "a.txt", "select 1"), ("rm", "b.txt", "drop"))]
    assert ran == ["shell ['ls']", "local ['ls']", "create a.txt", "custom select 1"]
    assert [str(one)[:9] for one in answers[0]] == ["ok", "ok", "created", "ok"]
    assert all("refused: " in str(one) for one in answers[1])
    assert sorted(outcome for _, outcome, _ in facts(world)) == ["denied"] * 4 + ["success"] * 4
    unprotect(agent)
    assert (tools[0].executor, tools[1].executor, type(tools[2].editor), tools[3].on_invoke_tool) == (
        shell,
        local,
        Editor,
        custom,
    )


async def _each(tools: list[Any], command: str, path: str, text: str) -> list[Any]:
    context: Any = ToolContext(None, tool_name="sql", tool_call_id="c", tool_arguments=text)
    shell = ShellCommandRequest(context, ShellCallData("c1", ShellActionRequest([command])))
    action = LocalShellCallAction(command=[command], env={}, type="exec")
    data = LocalShellCall(id="c2", action=action, call_id="c2", status="completed", type="local_shell_call")
    patch = ApplyPatchOperation("create_file", path, "+a", context)
    return [
        await tools[0].executor(shell),
        await tools[1].executor(LocalShellCommandRequest(context, data)),
        await tools[2].editor.create_file(patch),
        await tools[3].on_invoke_tool(context, text),
    ]


async def test_a_custom_tool_in_a_run_is_guarded(world: Rehearsal) -> None:
    """The SDK calls the guarded body, and the refusal is the output of the call."""
    ran = list[str]()

    async def custom(_ctx: Any, text: str) -> str:
        ran.append(text)
        return "ok"

    made = ResponseCustomToolCall(call_id="c", input="drop", name="sql", type="custom_tool_call")
    model = ScriptedModel([[made], [assistant_message("done")]])
    agent = protect(Agent(name="clerk", tools=[CustomTool("sql", "Query.", custom)], model=model), world.enforcer)
    result = await run(world, agent, scope=ai.Scope("sql", input="select 1"))
    assert (ran, outputs(result)[0][:9], result.final_output) == ([], "refused: ", "done")


async def test_instrument_is_undone_whatever_came_after(rehearse: Rehearse) -> None:
    """After undo nothing is recorded any more, also where somebody has patched the same method since."""
    from agents import AgentBase

    world, ran = rehearse(mode="monitor"), Ran()
    original = AgentBase.get_all_tools
    undo = instrument(world.enforcer)
    ours = AgentBase.get_all_tools

    async def theirs(self: Any, run_context: Any) -> Any:
        return await ours(self, run_context)

    AgentBase.get_all_tools = theirs  # type: ignore[method-assign]
    try:
        undo()
        await Runner.run(agent_of(ran.tools(), [call("read_invoice", invoice_id="INV-42")]), "x")
    finally:
        AgentBase.get_all_tools = original  # type: ignore[method-assign]
    assert (len(ran), facts(world)) == (1, [])


async def test_a_name_that_is_unfit_for_records_is_refused(world: Rehearsal) -> None:
    """A tool with a name that no record can hold cannot be in a scope, and runs never."""
    ran = Ran()
    tool = ran.tools()[0]
    tool.name = "read\x00invoice"
    agent = protect(agent_of([tool], [call(tool.name, invoice_id="INV-42")]), world.enforcer)
    result = await run(world, agent)
    assert (ran, outputs(result)[0][:9]) == ([], "refused: ")


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_function_that_is_guarded_already_makes_one_record(world: Rehearsal, is_async: bool) -> None:
    """A tool of a function under enforcer.tool is one call, refused in words, by the agent that acts."""
    ran = list[str]()

    def read_invoice(invoice_id: str) -> str:
        ran.append(invoice_id)
        return invoice_id

    async def later(invoice_id: str) -> str:
        return read_invoice(invoice_id)

    guarded = world.enforcer.tool(name="read_invoice")(later if is_async else read_invoice)
    calls = [call("read_invoice", "call-1", invoice_id="INV-42"), call("read_invoice", "call-2", invoice_id="INV-1")]
    tool = function_tool(guarded, name_override="read_invoice")
    agent = protect(agent_of([tool], calls), world.enforcer, agents={"invoice-clerk": (RESEARCHER, SCOPE)})
    result = await run(world, agent)
    assert (ran, sorted(text[:9] for text in outputs(result))) == (["INV-42"], ["INV-42", "refused: "])
    assert sorted((one.outcome, one.agents) for one in world.records.calls()) == [
        ("denied", ("invoice-clerk", "researcher")),
        ("success", ("invoice-clerk", "researcher")),
    ]


async def test_the_strictest_owner_judges_a_call_of_nobody(rehearse: Rehearse) -> None:
    """A tool under a monitor and under an enforcer, called without an agent, is refused by the enforcer."""
    ran, monitor, strict = Ran(), rehearse(mode="monitor"), rehearse()
    undo = instrument(monitor.enforcer)
    try:
        tools = ran.tools()
        await Runner.run(agent_of(tools, [call("read_invoice", invoice_id="INV-42")]), "x")
        protect(agent_of(tools), strict.enforcer)
        context = ToolContext(None, tool_name="read_invoice", tool_call_id="c", tool_arguments="{}")
        assert (await tools[0].on_invoke_tool(context, '{"invoice_id": "INV-42"}')).startswith("refused: no_task")
    finally:
        undo()
    assert (len(ran), len(facts(monitor)), len(facts(strict))) == (1, 1, 1)


async def test_tools_that_a_sandbox_brings_are_guarded(world: Rehearsal) -> None:
    """The SDK runs a sandboxed agent as a clone with tools of the sandbox; they are guarded like others."""
    session = scripted_sandbox_session(
        [{"method": "exec", "result": ExecResult(stdout=b"/workspace", stderr=b"", exit_code=0)}]
    )
    turns = [[call("exec_command", "call-1", cmd="pwd")], [call("exec_command", "call-2", cmd="rm -r /")]]
    agent = SandboxAgent(name="invoice-clerk", model=script(*turns), capabilities=[Shell()])
    scope = ai.Scope("exec_command", cmd="pwd")
    config = RunConfig(sandbox=SandboxRunConfig(session=session))
    result = await run(world, protect(agent, world.enforcer), scope=scope, run_config=config)
    assert (len(session.calls), outputs(result)[1][:9]) == (1, "refused: ")
    assert [(tool, outcome) for tool, outcome, _ in facts(world)] == [
        ("exec_command", "success"),
        ("exec_command", "denied"),
    ]


async def test_the_editor_that_a_sandbox_brings_is_guarded(world: Rehearsal) -> None:
    """It is a tool of a class that extends one of the SDK's own, and is offered to the model as ever."""
    session = scripted_sandbox_session([{"method": name, "result": None} for name in ("mkdir", "write")])
    patches = [f"*** Begin Patch\n*** Add File: {name}\n+hi\n*** End Patch" for name in ("a.txt", "b.txt")]
    turns = [
        [ResponseCustomToolCall(type="custom_tool_call", call_id=text, name="apply_patch", input=text)]
        for text in patches
    ]
    agent = SandboxAgent(name="invoice-clerk", model=script(*turns), capabilities=[Filesystem()])
    scope = ai.Scope("apply_patch", input=patches[0])
    config = RunConfig(sandbox=SandboxRunConfig(session=session))
    result = await run(world, protect(agent, world.enforcer), scope=scope, run_config=config)
    assert [one[:9] for one in outputs(result)] == ["Created a", "refused: "]
    assert [one.method for one in session.calls] == ["mkdir", "write"]
    assert [(tool, outcome) for tool, outcome, _ in facts(world)] == [
        ("apply_patch", "success"),
        ("apply_patch", "denied"),
    ]


async def test_agents_for_speech_list_guarded_tools(world: Rehearsal) -> None:
    """A realtime agent has no runner; its session calls the tools that it lists."""
    ran = Ran()
    agent = protect(RealtimeAgent(name="invoice-clerk", tools=ran.tools()), world.enforcer)
    tool = (await agent.get_all_tools(RunContextWrapper(None)))[0]
    context = ToolContext(None, tool_name="read_invoice", tool_call_id="c", tool_arguments="{}", agent=agent)
    assert isinstance(tool, FunctionTool)
    assert (await tool.on_invoke_tool(context, '{"invoice_id": "INV-42"}')).startswith("refused: no_task")
    with world.enforcer.task("x", scope=SCOPE, **WHO):
        assert await tool.on_invoke_tool(context, '{"invoice_id": "INV-42"}') == "INV-42: EUR 120"
    assert ran == ["read INV-42"]
