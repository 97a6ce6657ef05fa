"""Ways around a guard at a hook of CrewAI: each is judged at the body, or refused."""

from typing import Any

import pytest
from crewai.hooks import register_before_tool_call_hook, unregister_before_tool_call_hook
from crewai.hooks.tool_hooks import (
    clear_after_tool_call_hooks,
    clear_all_tool_call_hooks,
    clear_before_tool_call_hooks,
)
from crewai.tools import BaseTool, tool
from crewai.tools.base_tool import Tool
from crewai.tools.structured_tool import CrewStructuredTool
from crewai_doubles import answers, crew_of, member, outcomes, scripted, task, verified

from agent_identity import Scope
from agent_identity.adapters import ToolGuards
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.integrations.frameworks.crewai import instrument, protect
from agent_identity.integrations.frameworks.crewai import protection as crewai
from agent_identity.testing import Rehearse

ran: list[Any] = []
ONE = Scope("read", invoice="INV-42")


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


class Read(BaseTool):
    """A tool of a class."""

    name: str = "read"
    description: str = "Read an invoice."

    def _run(self, invoice: str) -> str:
        ran.append(invoice)
        return f"{invoice} is open"


def read_tool() -> Any:
    """Return a fresh tool of a function."""

    @tool("read")
    def read(invoice: str) -> str:
        """Read an invoice."""
        ran.append(invoice)
        return f"{invoice} is open"

    return read


BOTH = pytest.mark.parametrize("make", [Read, read_tool])
MODES = pytest.mark.parametrize("native", [True, False])


@BOTH
@MODES
def test_a_later_hook_that_edits_the_arguments_is_judged(rehearse: Rehearse, make: Any, native: bool) -> None:
    """What a hook writes into the call is what is judged, because the body is guarded."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "INV-42"})], "done", native=native)
    crew = protect(crew_of(member(llm, [make()])), world.enforcer)

    def edit(context: Any) -> None:
        context.tool_input["invoice"] = "EVIL"

    register_before_tool_call_hook(edit)
    try:
        with task(world, scope=ONE):
            crew.kickoff()
    finally:
        unregister_before_tool_call_hook(edit)
    assert not ran
    world.records.assert_denied(code="argument_out_of_scope", tool="read", count=1)
    verified(world)


@BOTH
@MODES
def test_a_second_call_is_not_answered_from_the_cache(rehearse: Rehearse, make: Any, native: bool) -> None:
    """Two equal calls are two records: CrewAI keeps no result of a guarded tool."""
    world = rehearse()
    again = [("read", {"invoice": "INV-42"})]
    other: Any = [("read", {"invoice": "INV-43"})]
    llm = scripted(again, other, again, "done", native=native)
    crew = protect(crew_of(member(llm, [make()]), cache=True), world.enforcer)
    with task(world, "read"):
        crew.kickoff()
    assert ran == ["INV-42", "INV-43", "INV-42"]
    assert outcomes(world) == ["success"] * 3
    verified(world)


@BOTH
@MODES
def test_hooks_that_are_gone_leave_the_tools_guarded(rehearse: Rehearse, make: Any, native: bool) -> None:
    """Whoever clears the hooks of CrewAI takes away names of agents, and no guard."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "EVIL"})], "done", native=native)
    crew = protect(crew_of(member(llm, [make()])), world.enforcer)
    clear_before_tool_call_hooks()
    with task(world, scope=ONE):
        crew.kickoff()
    assert not ran
    world.records.assert_denied(code="argument_out_of_scope", tool="read", count=1)


@MODES
@pytest.mark.parametrize("error", [RuntimeError("broken"), EvidenceError("the disk is full")])
def test_a_raise_in_the_adapter_runs_no_tool_and_ends_no_run(
    rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch, error: Exception, native: bool
) -> None:
    """CrewAI runs a tool after an exception of a hook; none leaves ours, and the tool does not run."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "A"})], "done", native=native)
    crew = crew_of(member(llm, [read_tool()]))
    protect(crew, world.enforcer)

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(ToolGuards, "of", broken)
    with task(world, "read"):
        assert str(crew.kickoff()) == "done"
    monkeypatch.undo()
    monkeypatch.setattr(crewai._Protection, "structured", broken)
    llm._script = [[("read", {"invoice": "A"})], "done"]
    with task(world, "read"):
        assert str(crew.kickoff()) == "done"
    assert not ran
    assert "refused: guard_failed" in answers(llm)[-1]


def test_errors_that_end_programs_are_passed_on(rehearse: Rehearse, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption from the keyboard leaves the hook, and the tool does not run."""
    world = rehearse()
    crew = protect(crew_of(member(scripted([("read", {"invoice": "A"})]), [read_tool()])), world.enforcer)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(crewai._Protection, "structured", stop)
    with task(world, "read"), pytest.raises(KeyboardInterrupt):
        crew.kickoff()
    assert not ran


class Sly(Read):
    """Runs in a way of its own."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run."""
        ran.append("sly")
        return "sly"


class SlyFunction(Tool[..., Any]):
    """Leaves its function aside in text mode."""

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        ran.append("sly")
        return "sly"


@pytest.mark.parametrize("make", [Sly, lambda: SlyFunction(**dict(read_tool()))])
def test_a_tool_that_runs_in_a_way_of_its_own_is_refused(rehearse: Rehearse, make: Any) -> None:
    """Its bodies would pass the guard by, so that nobody takes it for guarded; a hook refuses it as well."""
    world = rehearse()
    with pytest.raises(ConfigurationError, match="overrides"):
        protect([make()], world.enforcer)
    llm = scripted([("read", {"invoice": "A"})], "done")
    crew = protect(crew_of(member(llm, [])), world.enforcer)
    crew.tasks[0].tools = [make()]
    with task(world, "read"):
        crew.kickoff()
    assert not ran
    assert answers(llm)[0].startswith("refused: guard_failed")


@MODES
def test_tools_that_a_run_adds_are_guarded(rehearse: Rehearse, native: bool) -> None:
    """A tool that an agent got after ``protect`` is guarded when it is called."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "EVIL"})], "done", native=native)
    crew = protect(crew_of(member(llm, [])), world.enforcer)
    crew.agents[0].tools = [Read()]
    crew.tasks[0].tools = [Read()]
    with task(world, scope=ONE):
        crew.kickoff()
    assert not ran
    world.records.assert_denied(code="argument_out_of_scope", tool="read", count=1)


def test_a_refusal_is_never_the_final_answer(rehearse: Rehearse) -> None:
    """A refused tool with ``result_as_answer`` does not end the task with the refusal."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "EVIL"})], "done")
    crew = protect(crew_of(member(llm, [Read(result_as_answer=True)])), world.enforcer)
    with task(world, scope=ONE):
        assert str(crew.kickoff()) == "done"


def test_structured_tools_without_a_tool_behind_them_are_guarded(rehearse: Rehearse) -> None:
    """A hook that is told of a plain function guards that."""

    def read(invoice: str) -> str:
        """Read."""
        ran.append(invoice)
        return invoice

    world = rehearse()
    made = CrewStructuredTool.from_function(read)
    guard = crewai._Protection(ToolGuards(world.enforcer))
    guard.structured(made)
    guard.structured(made)
    with task(world, scope=ONE):
        assert made.invoke({"invoice": "INV-42"}) == "INV-42"
        made.invoke({"invoice": "EVIL"})
    assert ran == ["INV-42"]
    assert outcomes(world) == ["success", "denied"]


class Taker:
    """A hook that runs the tool which it is told of."""

    def __init__(self, way: str) -> None:
        self.way = way

    def __call__(self, context: Any) -> None:
        """Run it, by one of the ways that a tool has."""
        made = context.tool
        if self.way == "invoke":
            made.invoke({"invoice": "EVIL"})
        elif self.way == "func":
            made.func(invoice="EVIL")
        else:
            made.func.__self__.run(invoice="EVIL")


GUARDS = pytest.mark.parametrize("guard", ["protect", "instrument"])


@BOTH
@MODES
@GUARDS
@pytest.mark.parametrize("way", ["invoke", "func", "run"])
def test_a_hook_that_runs_the_tool_is_judged(rehearse: Rehearse, make: Any, native: bool, guard: str, way: str) -> None:
    """A hook before ours gets a tool that is guarded already, because CrewAI has listed it for the agent."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "INV-42"})], "done", native=native)
    crew = crew_of(member(llm, [make()]))
    hook = Taker(way)
    register_before_tool_call_hook(hook)
    undo = instrument(world.enforcer) if guard == "instrument" else lambda: None
    try:
        if guard == "protect":
            protect(crew, world.enforcer)
        with task(world, scope=ONE):
            crew.kickoff()
    finally:
        undo()
        unregister_before_tool_call_hook(hook)
    assert ran == ["INV-42"]
    assert outcomes(world) == ["denied", "success"]
    verified(world)


CLEARS = [clear_before_tool_call_hooks, clear_after_tool_call_hooks, clear_all_tool_call_hooks]


@MODES
@GUARDS
@pytest.mark.parametrize("clear", CLEARS)
@pytest.mark.parametrize("during", [False, True])
def test_hooks_that_are_cleared_leave_every_tool_guarded(
    rehearse: Rehearse, native: bool, guard: str, clear: Any, during: bool
) -> None:
    """Also tools that a run adds, where a hook clears them in the middle of it."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "EVIL"})], [("late", {"invoice": "EVIL"})], "done", native=native)
    crew = crew_of(member(llm, []))
    hook = lambda _: clear()  # noqa: E731
    undo = lambda: None  # noqa: E731
    if during:
        register_before_tool_call_hook(hook)
    try:
        if guard == "protect":
            protect(crew, world.enforcer)
        else:
            undo = instrument(world.enforcer)
        late = Read(name="late")
        crew.agents[0].tools = [read_tool(), late]
        if not during:
            clear()
        with task(world, scope=Scope({"read": {"invoice": "INV-42"}, "late": {"invoice": "INV-42"}})):
            crew.kickoff()
    finally:
        undo()
        clear_all_tool_call_hooks()
    assert not ran
    assert outcomes(world) == ["denied", "denied"]
    verified(world)


@MODES
@GUARDS
@pytest.mark.parametrize("make", [Sly, lambda: SlyFunction(**dict(read_tool()))])
def test_without_hooks_a_tool_that_cannot_be_guarded_is_refused(
    rehearse: Rehearse, make: Any, native: bool, guard: str
) -> None:
    """It is refused where it is listed, and the run goes on."""
    world = rehearse()
    llm = scripted([("read", {"invoice": "A"})], "done", native=native)
    crew = crew_of(member(llm, []))
    undo = lambda: None  # noqa: E731
    hook = lambda _: clear_all_tool_call_hooks()  # noqa: E731
    register_before_tool_call_hook(hook)
    try:
        if guard == "protect":
            protect(crew, world.enforcer)
        else:
            undo = instrument(world.enforcer)
        crew.agents[0].tools = [make()]
        with task(world, "read"):
            assert str(crew.kickoff()) == "done"
    finally:
        undo()
        clear_all_tool_call_hooks()
    assert not ran
    assert "refused: guard_failed" in answers(llm)[0]


def test_a_tool_without_a_crew_is_guarded_where_it_runs(rehearse: Rehearse) -> None:
    """``instrument`` guards it at its first run, and leaves it alone after its end."""
    world = rehearse()
    undo = instrument(world.enforcer)
    one, other = Read(), read_tool()
    try:
        with task(world, scope=ONE):
            assert [str(each.run(invoice="INV-42")) for each in (one, other)] == ["INV-42 is open"] * 2
            assert all("refused" in each.run(invoice="EVIL").message for each in (one, other))
    finally:
        undo()
    assert ran == ["INV-42"] * 2
    assert one.run(invoice="EVIL") == other.run(invoice="EVIL") == "EVIL is open"
    assert outcomes(world) == ["success", "success", "denied", "denied"]
    verified(world)
