"""Tools of crews under guard: what runs, what is refused, and what the agent hears of it."""

import asyncio
import threading
from typing import Any

import pytest
from crewai import Crew
from crewai.tools import BaseTool, tool
from crewai.tools.tool_failure import ToolFailure
from crewai_doubles import BOB, CLERK, HELPER, WHO, answers, crew_of, member, outcomes, scripted, task, verified

from agent_identity import Effect, Rule, RuleSet, Scope
from agent_identity.approvals import Approval
from agent_identity.constraints import OneOf, Range
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.crewai import instrument, protect
from agent_identity.integrations.frameworks.crewai import protection as crewai
from agent_identity.policy import Flow, Obligation
from agent_identity.testing import Rehearse

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def read_tool() -> Any:
    """Return a fresh tool of a function."""

    @tool("read")
    def read(invoice: str) -> str:
        """Read an invoice."""
        ran.append(invoice)
        return f"{invoice} is open"

    return read


class Pay(BaseTool):
    """A tool of a class, with a default."""

    name: str = "pay"
    description: str = "Pay an invoice."

    def _run(self, invoice: str, amount: int = 10) -> str:
        ran.append((invoice, amount))
        return f"paid {invoice} {amount}"


SCOPE = Scope({"read": {"invoice": "INV-42"}, "pay": {"invoice": "INV-42", "amount": Range(max=500)}})


@pytest.mark.parametrize("native", [True, False])
def test_an_allowed_and_a_denied_call_and_the_run_goes_on(rehearse: Rehearse, native: bool) -> None:
    """In native and in text mode each call is one record, and a refusal is an answer for the model."""
    world = rehearse()
    llm = scripted(
        [("read", {"invoice": "INV-42"})],
        [("pay", {"invoice": "INV-42", "amount": 120})],
        [("pay", {"invoice": "INV-42", "amount": 9000})],
        "all done",
        native=native,
    )
    crew = protect(crew_of(member(llm, [read_tool(), Pay()])), world.enforcer)
    with task(world, scope=SCOPE):
        assert str(crew.kickoff()) == "all done"
    assert ran == ["INV-42", ("INV-42", 120)]
    heard = answers(llm)
    assert "INV-42 is open" in heard[0]
    assert "refused: argument_out_of_scope (reference " in heard[-1]
    assert outcomes(world) == ["success", "success", "denied"]
    world.records.assert_attributed(principal="alice@example.com", agent=CLERK, count=2)
    verified(world)


def test_outside_any_task_no_tool_runs(rehearse: Rehearse) -> None:
    """Without a task a call is refused, on record."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "A"})], "done")
    protect(crew_of(member(llm, [read_tool()])), world.enforcer).kickoff()
    assert not ran
    world.records.assert_denied(code="no_task", tool="read", count=1)


@pytest.mark.parametrize(
    ("effect", "outcome", "text"),
    [
        (Effect.WARN, "success", "A is open"),
        (Effect.BLOCK, "denied", "refused: policy_blocks (reference "),
        (Effect.ROUTE, "routed", "the desk has read"),
    ],
)
def test_the_policy_warns_blocks_and_routes(rehearse: Rehearse, effect: Effect, outcome: str, text: str) -> None:
    """A warning lets the call run, a block refuses it, and a route answers in the place of the tool."""
    rule = Rule(effect, tools="read", reason="why", id="r", **({"to": "desk"} if effect is Effect.ROUTE else {}))
    world = rehearse(policy=RuleSet(rule), routes={"desk": lambda call: f"the desk has {call.tool}"})
    llm = scripted([("read", {"invoice": "A"})], "done")
    crew = protect(crew_of(member(llm, [read_tool()])), world.enforcer)
    with task(world, "read"):
        crew.kickoff()
    (heard,) = answers(llm)
    assert heard.startswith(text)
    assert ran == (["A"] if effect is Effect.WARN else [])
    assert outcomes(world) == [outcome]
    verified(world)


def test_an_approval_waits_in_the_directory(rehearse: Rehearse) -> None:
    """CrewAI suspends nothing: a call that needs a person is refused as pending, and runs once it is approved."""
    rule = Rule(Effect.ROUTE, tools="read", reason="four eyes", id="r", to="people")
    world = rehearse(policy=RuleSet(rule), routes={"people": Approval()})
    llm = scripted([("read", {"invoice": "A"})], "wait", [("read", {"invoice": "A"})], "done")
    crew = protect(crew_of(member(llm, [read_tool()])), world.enforcer)
    with task(world, "read"):
        crew.kickoff()
        assert answers(llm)[0].startswith("refused: approval_pending")
        assert not ran
        (request,) = world.enforcer.approvals.pending()
        decide = threading.Thread(target=world.enforcer.approvals.approve, args=(request.id,), kwargs={"by": BOB})
        decide.start()
        decide.join()
        crew.kickoff()
    assert ran == ["A"]
    assert outcomes(world) == ["denied", "success"]
    verified(world)


@pytest.mark.parametrize("native", [True, False])
def test_a_failing_tool_is_an_error_on_record_and_answered_as_ever(rehearse: Rehearse, native: bool) -> None:
    """CrewAI words the error of a tool as without the guard; each attempt of text mode is a record."""

    def failing() -> Any:
        @tool("fail")
        def fail(why: str) -> str:
            """Fail."""
            ran.append(why)
            raise RuntimeError(why)

        return fail

    heard = []
    for guarded in (False, True):
        llm = scripted([("fail", {"why": "broken"})], "done", native=native)
        crew = crew_of(member(llm, [failing()]))
        world = rehearse()
        if guarded:
            protect(crew, world.enforcer)
        ran.clear()
        with task(world, "fail"):
            crew.kickoff()
        heard.append(("broken" in answers(llm)[-1], len(ran)))
    assert heard == [(True, 1 if native else 6)] * 2
    assert outcomes(world) == ["error"] * len(ran)
    verified(world)


def test_defaults_are_judged_and_need_not_be_granted(rehearse: Rehearse) -> None:
    """CrewAI merges defaults before the body: rules see them, and the scope need not name them."""
    world = rehearse(policy=RuleSet(Rule(Effect.BLOCK, when={"args.amount": 10}, reason="ten", id="ten")))
    llm = scripted([("pay", {"invoice": "A"})], [("pay", {"invoice": "A", "amount": 3})], "done")
    crew = protect(crew_of(member(llm, [Pay()])), world.enforcer)
    with task(world, scope=Scope("pay", invoice="A")):
        crew.kickoff()
    assert not ran
    assert [call.code for call in world.records.calls()] == ["policy_blocks", "argument_not_granted"]


def test_parallel_calls_are_calls_of_their_own(rehearse: Rehearse) -> None:
    """Several native calls of one message run beside each other, each with one record."""
    world = rehearse()
    llm = scripted([("read", {"invoice": f"INV-{number % 4}"}) for number in range(8)], "done")
    crew = protect(crew_of(member(llm, [read_tool()])), world.enforcer)
    with task(world, scope=Scope({"read": {"invoice": OneOf("INV-0", "INV-1", "INV-2")}})):
        crew.kickoff()
    assert len(ran) == 6
    assert sorted(outcomes(world)) == ["denied"] * 2 + ["success"] * 6
    verified(world)


@pytest.mark.parametrize("native", [True, False])
async def test_coroutines_are_guarded_in_asynchronous_runs(rehearse: Rehearse, native: bool) -> None:
    """``akickoff`` runs tools of coroutine functions and others under guard."""

    @tool("look")
    async def look(invoice: str) -> str:
        """Look at an invoice."""
        ran.append(f"looked at {invoice}")
        return f"{invoice} is fine"

    world = rehearse()
    calls: list[Any] = [[("look", {"invoice": "A"})], [("look", {"invoice": "B"})], [("pay", {"invoice": "A"})], "done"]
    llm = scripted(*calls, native=native)
    crew = protect(crew_of(member(llm, [look, Pay()])), world.enforcer)
    with task(world, scope=Scope({"look": {"invoice": "A"}, "pay": {"invoice": "A"}})):
        await crew.akickoff()
    assert ran == ["looked at A", ("A", 10)]
    assert outcomes(world) == ["success", "denied", "success"]
    verified(world)


class Later(BaseTool):
    """A tool of a class whose body is a coroutine."""

    name: str = "later"
    description: str = "Works later."

    async def _run(self, invoice: str) -> str:  # type: ignore[override]
        ran.append(invoice)
        return f"later {invoice}"

    async def _arun(self, invoice: str) -> str:
        return await self._run(invoice)


async def test_tools_run_directly_are_guarded(rehearse: Rehearse) -> None:
    """``run`` and ``arun`` pass the guard once, with positional arguments as well, and return refusals."""
    world = rehearse()
    read, pay, later = protect([read_tool(), Pay(), Later()], world.enforcer)
    with task(world, scope=Scope({name: {"invoice": "A"} for name in ("read", "pay", "later")})):
        assert await asyncio.to_thread(read.run, invoice="A") == "A is open"
        assert await asyncio.to_thread(pay.run, "A") == "paid A 10"
        assert await asyncio.to_thread(later.run, invoice="A") == "later A"
        assert await later.arun(invoice="A") == "later A"
        refused = await asyncio.to_thread(pay.run, invoice="B")
    assert isinstance(refused, ToolFailure)
    assert refused.message.startswith("refused: argument_out_of_scope (reference ")
    assert outcomes(world)[:3] == ["success"] * 3
    assert outcomes(world)[-1] == "denied"
    assert outcomes(world, "pay") == ["success", "denied"]


def test_agents_act_under_the_names_of_their_roles(rehearse: Rehearse) -> None:
    """The role of the calling agent decides the chain, and a later call of nobody does not inherit it."""
    world = rehearse()
    read = read_tool()
    llm = scripted([("read", {"invoice": "A"})], "done")
    crew = protect(crew_of(member(llm, [read], role="helper")), world.enforcer, agents={"helper": HELPER})
    with task(world, "read"):
        crew.kickoff()
        read.run(invoice="B")
    assert [call.agents for call in world.records.calls()] == [("clerk", "helper"), ("clerk",)]
    verified(world)


def test_delegation_is_a_guarded_call(rehearse: Rehearse) -> None:
    """The tools that CrewAI makes for a run are guarded by the hook; the coworker's calls nest in theirs."""
    for tools in (("read",), ("read", "delegate_work_to_coworker")):
        ran.clear()
        world = rehearse()
        given = {"task": "look", "context": "none", "coworker": "helper"}
        boss = scripted([("delegate_work_to_coworker", given)], "done")
        aide = scripted([("read", {"invoice": "A"})], "found")
        crew = crew_of(member(boss, [], allow_delegation=True), member(aide, [read_tool()], role="helper"))
        protect(crew, world.enforcer, agents={"helper": HELPER})
        with task(world, *tools):
            crew.kickoff()
        (heard,) = answers(boss)
        if len(tools) == 1:
            assert heard.startswith("refused: tool_not_granted (reference ")
            assert not ran
        else:
            assert heard == "found"
            found = {call.tool: (call.outcome, call.agents, call.record.action.kind) for call in world.records.calls()}
            assert found == {
                "read": ("success", ("clerk", "helper"), "function"),
                "delegate_work_to_coworker": ("success", ("clerk",), "agent"),
            }
        verified(world)


def test_made_up_names_are_on_record(rehearse: Rehearse) -> None:
    """A native call of a tool that the agent does not have is judged, and answered by CrewAI if it is granted."""
    for tools in (("read",), ("read", "no_such_tool")):
        world = rehearse()
        llm = scripted([("no_such_tool", {"x": 1})], "done")
        crew = protect(crew_of(member(llm, [read_tool()])), world.enforcer)
        with task(world, *tools):
            crew.kickoff()
        (heard,) = answers(llm)
        assert outcomes(world) == (["error"] if len(tools) == 2 else ["denied"])
        assert heard == "Tool not found" if len(tools) == 2 else heard.startswith("refused: tool_not_granted")
        verified(world)


def test_results_are_inspected_before_the_model_reads_them(rehearse: Rehearse) -> None:
    """A result is redacted, or withheld, before anything of CrewAI gets it."""
    policy = RuleSet(Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact")], id="r"))

    @tool("leak")
    def leak(n: int) -> str:
        """Leak."""
        return "the mail is bob@example.com"

    world = rehearse(policy=policy, inspectors=[PersonalData("email")])
    llm = scripted([("leak", {"n": 1})], "done")
    crew = protect(crew_of(member(llm, [leak])), world.enforcer)
    with task(world, "leak"):
        crew.kickoff()
    assert answers(llm) == ["the mail is [redacted:pii.email]"]
    verified(world)


def test_what_a_tool_returned_counts_for_the_next_call(rehearse: Rehearse) -> None:
    """Under a flow policy the same call needs a person once an undeclared tool has answered."""
    world = rehearse(policy=Flow())  # type: ignore[call-arg]
    llm = scripted([("pay", {"invoice": "A", "amount": 1})], [("pay", {"invoice": "A", "amount": 1})], "done")
    crew = protect(crew_of(member(llm, [Pay()])), world.enforcer)
    with world.enforcer.task("books", scope=Scope("pay"), request="Pay A", **WHO):
        crew.kickoff()
    assert [call.code for call in world.records.calls()][1:] == ["policy_routes"]


def test_copies_of_tools_and_crews_stay_guarded(rehearse: Rehearse) -> None:
    """``model_copy`` and ``crew.copy`` keep the guard."""
    world = rehearse()
    llm = scripted([("pay", {"invoice": "B"})], "done")
    pay, read = Pay(), read_tool()
    crew = protect(crew_of(member(llm, [pay, read])), world.enforcer)
    with task(world, scope=Scope({"pay": {"invoice": "A"}, "read": {"invoice": "A"}})):
        assert isinstance(pay.model_copy().run(invoice="B"), ToolFailure)
        assert isinstance(read.model_copy().run(invoice="B"), ToolFailure)
        crew.copy().kickoff()
    assert not ran
    assert outcomes(world) == ["denied"] * 3
    assert pay.tool_type == f"{__name__}.Pay"


def test_instrument_guards_what_agents_call_until_it_is_undone(rehearse: Rehearse) -> None:
    """An application that changed nothing is guarded; tools that ``protect`` guards keep their guard."""
    world, other = rehearse(), rehearse()
    undo = instrument(world.enforcer)
    read, own = read_tool(), protect([read_tool()], other.enforcer)[0]
    try:
        with task(world, "read"), task(other, "read"):
            crew_of(member(scripted([("read", {"invoice": "A"})], "done"), [read])).kickoff()
            crew_of(member(scripted([("read", {"invoice": "B"})], "done"), [own])).kickoff()
        crew_of(member(scripted([("read", {"invoice": "C"})], "done"), [read_tool()])).kickoff()
    finally:
        undo()
    crew_of(member(scripted([("read", {"invoice": "D"})], "done"), [read])).kickoff()
    assert ran == ["A", "B", "D"]
    assert (outcomes(world), outcomes(other)) == (["success", "denied"], ["success"])


def test_the_patch_of_somebody_else_outlives_instrument(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another library has made of crews meanwhile is not thrown away with ours."""
    undo = instrument(rehearse().enforcer)
    ours = vars(Crew)["kickoff"]

    def theirs(crew: Crew, *args: Any, **kwargs: Any) -> Any:
        return ours(crew, *args, **kwargs)

    monkeypatch.setattr(Crew, "kickoff", theirs)
    undo()
    assert vars(Crew)["kickoff"] is theirs


def test_wrong_types_are_refused_at_once(rehearse: Rehearse) -> None:
    """Types are checked where something is protected."""
    world = rehearse()
    with pytest.raises(TypeError, match="enforcer"):
        protect([], "enforcer")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str"):
        protect("crew", world.enforcer)
    with pytest.raises(TypeError, match="model"):
        protect([], world.enforcer, model="chat")


async def test_a_stream_runs_under_the_task_in_which_it_was_made(rehearse: Rehearse) -> None:
    """A streaming crew that Alice starts and Bob consumes runs as Alice; once her task has ended it is refused."""
    world = rehearse()
    for form in ("sync", "async", "late"):
        llm = scripted([("read", {"invoice": form})], "done")
        crew = protect(crew_of(member(llm, [read_tool()]), stream=True), world.enforcer)
        alice = task(world, "read")
        alice.__enter__()
        stream = await crew.kickoff_async() if form == "async" else crew.kickoff()
        if form == "late":
            alice.__exit__(None, None, None)
        with task(world, "read", principal=BOB):
            if form == "async":
                chunks = [chunk async for chunk in stream]
            else:
                chunks = await asyncio.to_thread(list, stream)
        if form != "late":
            alice.__exit__(None, None, None)
        assert str(stream.result) == "done"
        assert isinstance(chunks, list)
    assert ran == ["sync", "async"]
    assert [(call.outcome, call.principal) for call in world.records.calls()] == [
        ("success", "alice@example.com"),
        ("success", "alice@example.com"),
        ("denied", "alice@example.com"),
    ]


def test_monitor_mode_records_and_refuses_nothing(rehearse: Rehearse) -> None:
    """An application without a task and without a changed line is only watched, and left as it was."""
    before = Crew.kickoff
    world = rehearse(mode="monitor")
    undo = instrument(world.enforcer)
    try:
        llm = scripted([("read", {"invoice": "A"})], [("no_such_tool", {})], "done")
        assert str(crew_of(member(llm, [read_tool()])).kickoff()) == "done"
    finally:
        undo()
    assert ran == ["A"]
    assert answers(llm) == ["A is open", "Tool not found"]
    assert outcomes(world) == ["success", "error"]
    if not crewai._HOOKS.by_agent:
        assert Crew.kickoff is before


class Odd(BaseTool):
    """A tool with arguments named like those of adapters."""

    name: str = "odd"
    description: str = "Takes odd names."

    def _run(self, tool: str, args: str = "a", call: int = 1) -> str:
        return f"{tool} {args} {call}"


def test_names_of_arguments_do_not_matter(rehearse: Rehearse) -> None:
    """A tool may have arguments of any names."""
    world = rehearse()
    (odd,) = protect([Odd()], world.enforcer)
    with task(world, "odd"):
        assert odd.run(tool="x", call=2) == "x a 2"
