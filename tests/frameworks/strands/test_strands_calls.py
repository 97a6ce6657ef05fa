"""Tools of Strands agents under guard: what runs, what is refused, and what the agent hears of it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from strands import tool
from strands.hooks import AfterToolCallEvent
from strands.multiagent import GraphBuilder, Swarm
from strands.types.tools import AgentTool
from strands_doubles import BOB, CLERK, HELPER, WHO, made, outcomes, results, task, use, verified

from agent_identity import Effect, Rule, RuleSet, Scope
from agent_identity.constraints import OneOf, Range
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks, instrument
from agent_identity.options import Telemetry
from agent_identity.policy import Flow, Obligation
from agent_identity.testing import Rehearse

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool
def pay(invoice: str, amount: int = 10) -> str:
    """Pay an invoice."""
    ran.append((invoice, amount))
    return f"paid {invoice} {amount}"


@tool
async def read(invoice: str) -> str:
    """Read an invoice."""
    ran.append(invoice)
    return f"{invoice} is open"


@tool
def fail(why: str) -> str:
    """Fail."""
    raise RuntimeError(why)


def test_an_allowed_and_a_denied_call_and_the_run_goes_on(rehearse: Rehearse) -> None:
    """A call within the scope runs; one beyond it is answered with an error result, and the model continues."""
    world = rehearse()
    agent = made(
        AgentIdentityHooks(world.enforcer),
        [pay, read],
        use("read", "c1", invoice="INV-42"),
        use("pay", "c2", invoice="INV-42", amount=120),
        use("pay", "c3", invoice="INV-42", amount=9000),
        "all done",
    )
    scope = Scope({"read": {"invoice": "INV-42"}, "pay": {"invoice": "INV-42", "amount": Range(max=500)}})
    with task(world, scope=scope):
        answer = agent("go")
    assert str(answer).strip() == "all done"
    assert ran == ["INV-42", ("INV-42", 120)]
    (first, second, third) = results(agent)
    assert (first, second) == (("success", "INV-42 is open"), ("success", "paid INV-42 120"))
    assert third[0] == "error"
    assert third[1].startswith("refused: argument_out_of_scope (reference ")
    assert outcomes(world) == ["success", "success", "denied"]
    world.records.assert_attributed(principal="alice@example.com", agent=CLERK, count=2)
    verified(world)


def test_outside_any_task_no_tool_runs(rehearse: Rehearse) -> None:
    """Without a task a call is refused, on record."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", invoice="INV-42"))
    agent("go")
    assert not ran
    world.records.assert_denied(code="no_task", tool="read", count=1)


@pytest.mark.parametrize(
    ("effect", "outcome", "text"),
    [
        (Effect.WARN, "success", "INV-42 is open"),
        (Effect.BLOCK, "denied", "refused: policy_blocks (reference "),
        (Effect.ROUTE, "routed", "the desk has read"),
    ],
)
def test_the_policy_warns_blocks_and_routes(rehearse: Rehearse, effect: Effect, outcome: str, text: str) -> None:
    """A warning lets the call run, a block refuses it, and a route answers in the place of the tool."""
    rule = Rule(effect, tools="read", reason="why", id="r", **({"to": "desk"} if effect is Effect.ROUTE else {}))
    world = rehearse(policy=RuleSet(rule), routes={"desk": lambda call: f"the desk has {call.tool}"})
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", invoice="INV-42"))
    with task(world, "read"):
        agent("go")
    ((_, heard),) = results(agent)
    assert heard.startswith(text)
    assert ran == (["INV-42"] if effect is Effect.WARN else [])
    assert outcomes(world) == [outcome]
    verified(world)


def test_a_failing_tool_is_an_error_on_record_and_answered_as_ever(rehearse: Rehearse) -> None:
    """Strands words the error of a tool as without the guard, and hooks get its exception."""
    errors: list[object] = []

    class Watch:
        def register_hooks(self, registry: Any, **_: Any) -> None:
            registry.add_callback(AfterToolCallEvent, lambda event: errors.append(event.exception))

    heard = []
    for world in (None, rehearse()):
        hooks = AgentIdentityHooks(world.enforcer) if world else None
        agent = made(hooks, [fail], use("fail", why="broken"), more=[Watch()])
        if world is None:
            agent("go")
        else:
            with task(world, "fail"):
                agent("go")
            assert outcomes(world) == ["error"]
            assert world.records.calls()[0].record.error == "RuntimeError"
            verified(world)
        heard.append(results(agent))
    assert heard[0] == heard[1]
    assert [type(error) for error in errors] == [RuntimeError] * 2


def test_defaults_are_judged_and_left_to_the_tool(rehearse: Rehearse) -> None:
    """A rule about an argument sees the default of the tool; the tool gets what the model gave."""
    world = rehearse(policy=RuleSet(Rule(Effect.BLOCK, when={"args.amount": 10}, reason="ten", id="ten")))
    agent = made(
        AgentIdentityHooks(world.enforcer),
        [pay],
        use("pay", "c1", invoice="A"),
        use("pay", "c2", invoice="A", amount=3),
    )
    with task(world, "pay"):
        agent("go")
    assert ran == [("A", 3)]
    assert outcomes(world) == ["denied", "success"]


def test_parallel_calls_are_calls_of_their_own(rehearse: Rehearse) -> None:
    """Several calls of one message run beside each other, each with one record; a refused one stops no other."""
    world = rehearse()
    calls = [use("read", f"c{number}", invoice=f"INV-{number % 4}") for number in range(8)]
    agent = made(AgentIdentityHooks(world.enforcer), [read], calls)
    with task(world, scope=Scope({"read": {"invoice": OneOf("INV-0", "INV-1", "INV-2")}})):
        agent("go")
    assert len(ran) == 6
    assert sorted(outcomes(world)) == ["denied"] * 2 + ["success"] * 6
    verified(world)


def test_each_attempt_is_a_call(rehearse: Rehearse) -> None:
    """A hook that has a tool called again gives one record for each attempt."""

    class Again:
        def __init__(self) -> None:
            self.left = 2

        def register_hooks(self, registry: Any, **_: Any) -> None:
            registry.add_callback(AfterToolCallEvent, self.after)

        def after(self, event: AfterToolCallEvent) -> None:
            self.left -= 1
            event.retry = self.left > 0

    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", invoice="A"), more=[Again()])
    with task(world, "read"):
        agent("go")
    assert ran == ["A", "A"]
    assert outcomes(world) == ["success", "success"]
    verified(world)


def test_made_up_names_are_on_record(rehearse: Rehearse) -> None:
    """A tool that the agent does not have is judged and recorded; Strands answers it if the scope names it."""
    name = "no_such_tool"
    for tools in (("read",), ("read", "no_such_tool")):
        world = rehearse()
        agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", "c0", invoice="A"))
        agent.model.script.insert(0, use(name, "c1", x=1))
        with task(world, *tools):
            agent("go")
        ((status, text), _) = results(agent)
        (first, second) = world.records.calls()
        assert status == "error"
        if name in tools:
            assert text == f"Unknown tool: {name}"
            assert first.outcome == "error"
        else:
            assert text.startswith("refused: tool_not_granted (reference ")
            assert first.outcome == "denied"
        assert second.outcome == "success"
        verified(world)


def test_direct_calls_of_tools_are_guarded(rehearse: Rehearse) -> None:
    """``agent.tool.pay(…)`` is a call like those of the model."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [pay])
    with task(world, scope=Scope("pay", invoice="A", amount=Range(max=5))):
        assert agent.tool.pay(invoice="A", amount=5)["status"] == "success"
        refused = agent.tool.pay(invoice="A", amount=6)
    assert refused["content"][0]["text"].startswith("refused: argument_out_of_scope")
    assert ran == [("A", 5)]
    assert outcomes(world) == ["success", "denied"]


@tool
async def count(upto: int) -> AsyncGenerator[Any, None]:
    """Count aloud."""
    for number in range(upto):
        yield f"now {number}"
    yield f"counted {upto}"


async def test_progress_of_a_tool_passes_and_its_result_is_held(rehearse: Rehearse) -> None:
    """Events of a streaming tool reach the consumer while it runs; without inspectors nothing is dropped."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [count], use("count", upto=3))
    with task(world, "count"):
        events = [event async for event in agent.stream_async("go")]
    seen = [event["tool_stream_event"]["data"] for event in events if "tool_stream_event" in event]
    assert seen == ["now 0", "now 1", "now 2", "counted 3"]
    assert results(agent) == [("success", "counted 3")]
    assert outcomes(world) == ["success"]


async def test_where_inspectors_read_progress_is_withheld(rehearse: Rehearse) -> None:
    """With an inspector only the judged result leaves, as obligations changed it."""
    policy = RuleSet(Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="r"))

    @tool
    async def leak(n: int) -> AsyncGenerator[Any, None]:
        """Leak."""
        yield "mail bob@example.com"
        yield "the mail is bob@example.com"

    world = rehearse(policy=policy, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer), [leak], use("leak", n=1))
    with task(world, "leak"):
        events = [repr(event) async for event in agent.stream_async("go")]
    assert results(agent) == [("success", "the mail is [redacted:pii.email]")]
    assert not [event for event in events if "bob@example.com" in event]
    verified(world)


@pytest.mark.parametrize("zero_code", [False, True])
@pytest.mark.parametrize("how", ["end", "revoke", "revoke agent"])
async def test_a_generator_tool_stops_with_its_task(rehearse: Rehearse, how: str, zero_code: bool) -> None:
    """No step of it begins once the task has ended or is revoked, and nothing that it has made since is delivered."""
    world = rehearse()
    undo = instrument(world.enforcer) if zero_code else lambda: None
    steps: list[int] = []

    @tool
    async def work(upto: int) -> AsyncGenerator[Any, None]:
        """Work step by step."""
        try:
            for number in range(upto):
                steps.append(number)
                yield f"step {number}"
        finally:
            steps.append(-1)

    agent = made(None if zero_code else AgentIdentityHooks(world.enforcer), [work], use("work", upto=4))
    try:
        with task(world, "work") as open_task:
            async for event in agent.stream_async("go"):
                if "tool_stream_event" in event:
                    if how == "end":
                        open_task.end()
                    else:
                        world.enforcer.revoke(*(("task", open_task.id) if how == "revoke" else ("agent", "clerk")))
    finally:
        undo()
    assert steps == [0, -1]
    ((status, said),) = results(agent)
    assert (status, said.split(" (")[0]) == ("error", f"refused: {'task_ended' if how == 'end' else 'revoked'}")
    assert outcomes(world) == ["denied"]
    verified(world)


@pytest.mark.parametrize("action", ["redact", "drop"])
def test_what_a_tool_says_beside_its_content_is_inspected(rehearse: Rehearse, action: Any) -> None:
    """Structured content and metadata, as tools of MCP have them, are judged and changed like the content."""

    @tool
    def leak(n: int) -> Any:
        """Leak."""
        beside = {"structuredContent": {"mail": "bob@example.com"}, "metadata": ["x", "bob@example.com"]}
        return {"status": "success", "content": [{"text": "nothing"}], **beside}

    policy = RuleSet(Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation(action)], id="r"))
    world = rehearse(policy=policy, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer), [leak], use("leak", n=1))
    with task(world, "leak"):
        agent("go")
    assert results(agent) == [("success", "nothing")]
    assert "bob@example.com" not in repr(agent.messages)
    verified(world)


def test_the_exception_beside_a_redacted_error_does_not_say_it(rehearse: Rehearse) -> None:
    """Hooks of the application get no exception whose text had to be taken out of the result."""
    seen: list[Any] = []

    @tool
    def leak(n: int) -> str:
        """Fail."""
        raise ValueError("bob@example.com")

    policy = RuleSet(Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="r"))
    world = rehearse(policy=policy, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer), [leak], use("leak", n=1))
    agent.hooks.add_callback(AfterToolCallEvent, lambda event: seen.append((event.result, event.exception)))
    with task(world, "leak"):
        agent("go")
    assert len(seen) == 1
    assert "bob@example.com" not in repr(seen)


def test_a_withheld_result_is_a_refusal(rehearse: Rehearse) -> None:
    """A result that the policy blocks never reaches the model."""
    policy = RuleSet(Rule(Effect.BLOCK, when={"findings.stage": "result"}, reason="mail", id="m"))

    @tool
    def leak(n: int) -> str:
        """Leak."""
        ran.append(n)
        return "bob@example.com"

    world = rehearse(policy=policy, inspectors=[PersonalData("email")])
    agent = made(AgentIdentityHooks(world.enforcer), [leak], use("leak", n=1))
    with task(world, "leak"):
        agent("go")
    ((status, text),) = results(agent)
    assert (ran, status) == ([1], "error")
    assert text.startswith("refused: content_blocked (reference ")
    assert "bob@example.com" not in repr(agent.messages)
    verified(world)


def test_what_a_tool_returned_counts_for_the_next_call(rehearse: Rehearse) -> None:
    """Under a flow policy the same call needs a person once an undeclared tool has answered."""
    world = rehearse(policy=Flow())  # type: ignore[call-arg]
    again = use("pay", "c1", invoice="A", amount=1), use("pay", "c2", invoice="A", amount=1)
    agent = made(AgentIdentityHooks(world.enforcer), [pay], *again)
    with world.enforcer.task("books", scope=Scope("pay"), request="Pay A", **WHO):
        agent("go")
    assert outcomes(world) == ["success", "denied"]
    assert world.records.calls("pay")[-1].code == "policy_routes"


class RawTool(AgentTool):
    """A tool that yields plain values, the last of which is its result, as the framework permits."""

    def __init__(self, *events: Any) -> None:
        super().__init__()
        self.events = events
        self.got: list[Any] = []

    @property
    def tool_name(self) -> str:
        """The name."""
        return "raw"

    @property
    def tool_spec(self) -> Any:
        """The schema, with a default."""
        schema = {"type": "object", "properties": {"a": {"type": "integer", "default": 7}, "b": {"type": "string"}}}
        return {"name": "raw", "description": "raw", "inputSchema": {"json": schema}}

    @property
    def tool_type(self) -> str:
        """The type."""
        return "raw"

    async def stream(self, tool_use: Any, invocation_state: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Yield the events."""
        self.got.append(tool_use["input"])
        for event in self.events:
            if isinstance(event, BaseException):
                raise event
            yield event


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        (({"toolUseId": "id-raw", "status": "success", "content": [{"text": "fine"}]},), "success"),
        (("progress", {"toolUseId": "id-raw", "status": "success", "content": [{"text": "fine"}]}), "success"),
        (({"toolUseId": "id-raw", "status": "error", "content": [{"text": "bad"}]},), "error"),
        ((), "error"),
        ((ValueError("broken"),), "error"),
        (("progress", ValueError("broken")), "error"),
    ],
)
def test_tools_of_all_forms_answer_as_without_guard(rehearse: Rehearse, events: tuple[Any, ...], outcome: str) -> None:
    """Tools that yield plain values, nothing, or raise give the conversation that they give bare."""
    bare = made(None, [RawTool(*events)], use("raw", b="x"))
    bare("go")
    world = rehearse()
    raw = RawTool(*events)
    agent = made(AgentIdentityHooks(world.enforcer), [raw], use("raw", b="x"))
    with task(world, "raw"):
        agent("go")
    assert results(agent) == results(bare)
    assert raw.got == [{"b": "x"}]
    assert outcomes(world) == [outcome]
    verified(world)


async def test_a_cancelled_run_ends_the_call(rehearse: Rehearse) -> None:
    """Whoever stops consuming a stream stops the tool, and the record says so."""
    started, ended = asyncio.Event(), asyncio.Event()

    @tool
    async def wait(n: int) -> AsyncGenerator[Any, None]:
        """Wait for ever."""
        try:
            yield "started"
            started.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [wait], use("wait", n=1))

    async def consume() -> None:
        with task(world, "wait"):
            async for _ in agent.stream_async("go"):
                pass

    running = asyncio.create_task(consume())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.wait_for(ended.wait(), 5)
    assert outcomes(world) == ["cancelled"]
    verified(world)


def test_the_record_is_on_the_span_of_strands(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    """One span per call, also of a refused one: that of the framework, with our attributes."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr("strands.telemetry.tracer._tracer_instance", None)
    world = rehearse(telemetry=Telemetry(tracer_provider=provider))
    agent = made(
        AgentIdentityHooks(world.enforcer), [read, pay], use("read", "c1", invoice="A"), use("pay", "c2", invoice="B")
    )
    with task(world, "read"):
        agent("go")
    spans = [span for span in exporter.get_finished_spans() if span.name.startswith("execute_tool")]
    assert [span.name for span in spans] == ["execute_tool read", "execute_tool pay"]
    assert all(any(str(name).startswith("agent_identity.") for name in span.attributes or {}) for span in spans)
    assert {span.instrumentation_scope.name for span in spans if span.instrumentation_scope} == {
        "strands.telemetry.tracer"
    }


def test_unmapped_and_mapped_agents(rehearse: Rehearse) -> None:
    """Calls of an agent that is named run under a delegation of its own."""
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer, agents={"helper": HELPER})
    with task(world, "read"):
        made(hooks, [read], use("read", "c1", invoice="A"), name="helper")("go")
        made(hooks, [read], use("read", "c2", invoice="A"), name="clerk")("go")
    assert [call.agents for call in world.records.calls()] == [("clerk", "helper"), ("clerk",)]
    verified(world)


def test_agents_as_tools_nest(rehearse: Rehearse) -> None:
    """The call of a sub-agent is a call of its caller; the calls that the sub-agent makes are its own."""
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer, agents={"helper": HELPER})
    helper = made(hooks, [read], use("read", "c1", invoice="A"), "found A", name="helper")
    agent = made(hooks, [helper.as_tool(name="ask_helper")], use("ask_helper", "c0", input="look up A"))
    with task(world, "read", "ask_helper"):
        agent("go")
    assert results(agent) == [("success", "found A \n")]
    found = {call.tool: (call.outcome, call.agents, call.record.action.kind) for call in world.records.calls()}
    assert found == {
        "read": ("success", ("clerk", "helper"), "function"),
        "ask_helper": ("success", ("clerk",), "agent"),
    }
    verified(world)


def test_swarms_hand_off(rehearse: Rehearse) -> None:
    """A handoff is a call that the scope must cover, and calls afterwards are those of the other agent."""
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer, agents={"helper": HELPER})
    first = made(hooks, [], use("handoff_to_agent", "h1", agent_name="helper", message="please"), name="clerk")
    second = made(hooks, [read], use("read", "c1", invoice="A"), name="helper")
    swarm = Swarm([first, second], hooks=[hooks])
    with task(world, "read", "handoff_to_agent"):
        swarm("look up A")
    assert [(call.tool, call.agents) for call in world.records.calls()] == [
        ("handoff_to_agent", ("clerk",)),
        ("read", ("clerk", "helper")),
    ]
    verified(world)


async def test_a_stream_runs_under_the_task_in_which_it_was_made(rehearse: Rehearse) -> None:
    """A stream made under Alice and consumed under Bob runs as Alice; once her task has ended it is refused."""
    world = rehearse()
    hooks = AgentIdentityHooks(world.enforcer)
    for ended in (False, True):
        agent = made(hooks, [read], use("read", invoice="A"))
        alice = task(world, "read")
        alice.__enter__()
        stream = agent.stream_async("go")
        if ended:
            alice.__exit__(None, None, None)
        with task(world, "read", principal=BOB):
            async for _ in stream:
                pass
        if not ended:
            alice.__exit__(None, None, None)
    assert [(call.outcome, call.principal) for call in world.records.calls()] == [
        ("success", "alice@example.com"),
        ("denied", "alice@example.com"),
    ]


@pytest.mark.parametrize("kind", ["agent", "swarm", "graph"])
@pytest.mark.parametrize("ended", [False, True])
async def test_zero_code_binds_streams_to_the_task_in_which_they_were_made(
    rehearse: Rehearse, ended: bool, kind: str
) -> None:
    """Bob reads the stream that Alice made: its calls are hers, and none once her task has ended."""
    world = rehearse()
    undo = instrument(world.enforcer)
    try:
        runner: Any = made(None, [read], use("read", invoice="A"))
        if kind == "swarm":
            runner = Swarm([runner])
        elif kind == "graph":
            builder = GraphBuilder()
            builder.add_node(runner, "reader")
            runner = builder.build()
        alice = task(world, "read")
        alice.__enter__()
        stream = runner.stream_async("go")
        if ended:
            alice.__exit__(None, None, None)
        with task(world, "read", principal=BOB):
            async for _ in stream:
                assert world.enforcer.current_task.principal == BOB
        if not ended:
            alice.__exit__(None, None, None)
    finally:
        undo()
    who = [(call.outcome, call.principal) for call in world.records.calls()]
    assert who == [("denied" if ended else "success", "alice@example.com")]
    verified(world)


async def test_a_run_that_was_awaited_leaves_later_streams_bound(rehearse: Rehearse) -> None:
    """Only the stream that the run itself consumes is not bound to its task, even if the run never begins."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", "c1", invoice="A"))
    with task(world, "read"):
        await agent.invoke_async("go")
        with pytest.raises(TypeError):
            await agent.invoke_async("go", *range(9))  # type: ignore[arg-type]
        agent.model = made(None, [], use("read", "c2", invoice="B")).model
        agent.messages.clear()
        stream = agent.stream_async("go")
        with task(world, "read", principal=BOB):
            async for _ in stream:
                pass
    assert [(call.outcome, call.principal) for call in world.records.calls()] == [("success", "alice@example.com")] * 2
    verified(world)


def test_instrument_guards_every_agent_once(rehearse: Rehearse) -> None:
    """An application that changed nothing is guarded until it is undone; hooks of the application stay one record."""
    world, other = rehearse(), rehearse()
    early = made(None, [read], use("read", "c1", invoice="A"))
    undo = instrument(world.enforcer)
    try:
        with task(world, "read"):
            early("go")
            made(None, [read], use("read", "c2", invoice="B"))("go")
            made(AgentIdentityHooks(world.enforcer), [read], use("read", "c3", invoice="C"))("go")
        refused = made(None, [read], use("read", "c4", invoice="D"))
        refused("go")
    finally:
        undo()
    made(None, [read], use("read", "c5", invoice="E"))("go")
    assert ran == ["A", "B", "C", "E"]
    assert outcomes(world) == ["success"] * 3 + ["denied"]
    assert outcomes(other) == []


def test_what_is_no_enforcer_is_refused() -> None:
    """A wrong type is told where the hooks are made."""
    with pytest.raises(TypeError, match="enforcer"):
        AgentIdentityHooks("enforcer")  # type: ignore[arg-type]


def test_monitor_mode_records_and_refuses_nothing(rehearse: Rehearse) -> None:
    """An application without a task and without a changed line is only watched."""
    world = rehearse(mode="monitor")
    undo = instrument(world.enforcer)
    try:
        agent = made(None, [pay], use("pay", "c1", invoice="A"), use("nothing", "c2"))
        agent("go")
    finally:
        undo()
    assert ran == [("A", 10)]
    assert results(agent) == [("success", "paid A 10"), ("error", "Unknown tool: nothing")]
    assert outcomes(world) == ["success", "error"]
