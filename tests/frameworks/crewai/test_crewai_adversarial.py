"""Guards of CrewAI that are stale, of others, or missing: each call is judged by the right one, or refused."""

from typing import Any

import pytest
from crewai import Task
from crewai.tools import BaseTool, tool
from crewai_doubles import CLERK, HELPER, crew_of, member, outcomes, scripted, task, verified

from agent_identity import Effect, Rule, RuleSet, Scope
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.crewai import instrument, protect
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


class OwnRun(Read):
    """A tool that no guard can reach by ``run``."""

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run in a way of its own."""
        return self._run(*args, **kwargs)


def read_tool() -> Any:
    """Return a fresh tool of a function."""

    @tool("read")
    def read(invoice: str) -> str:
        """Read an invoice."""
        ran.append(invoice)
        return f"{invoice} is open"

    return read


BOTH = pytest.mark.parametrize("make", [Read, read_tool])
EVIL = [("read", {"invoice": "EVIL"})]


@BOTH
@pytest.mark.parametrize("undone", [True, False])
def test_a_tool_that_the_process_guarded_gets_the_guard_of_its_crew(
    rehearse: Rehearse, make: Any, undone: bool
) -> None:
    """``protect`` after ``instrument`` judges by its own enforcer, whether the instrumentation was undone or not."""
    watched, world = rehearse(mode="monitor"), rehearse()
    shared = make()
    undo = instrument(watched.enforcer)
    try:
        with task(watched, "read"):
            crew_of(member(scripted([("read", {"invoice": "A"})]), [shared])).kickoff()
        if undone:
            undo()
        with task(world, scope=ONE):
            protect(crew_of(member(scripted(EVIL), [shared])), world.enforcer).kickoff()
    finally:
        undo()
    assert (ran, outcomes(watched)) == (["A"], ["success"])
    world.records.assert_denied(code="argument_out_of_scope", tool="read", count=1)
    verified(world)


@BOTH
def test_a_tool_of_another_enforcer_is_refused_at_once(rehearse: Rehearse, make: Any) -> None:
    """A tool is not silently judged by an enforcer that nobody named."""
    shared = make()
    protect([shared], rehearse().enforcer)
    with pytest.raises(ConfigurationError, match="another enforcer"):
        protect([shared], rehearse().enforcer)


def test_a_model_of_another_enforcer_is_refused_at_once(rehearse: Rehearse) -> None:
    """A model is not silently judged by an enforcer that nobody named."""
    llm = scripted()
    protect(crew_of(member(llm, [])), rehearse(mode="monitor").enforcer, model="chat")
    with pytest.raises(ConfigurationError, match="another enforcer"):
        protect(crew_of(member(llm, [])), rehearse().enforcer, model="chat")


@pytest.mark.parametrize(
    "other",
    [{"model": "talk"}, {"model": "chat", "principal_messages": True}, {"model": "chat", "agents": {"helper": HELPER}}],
)
def test_crews_that_share_a_model_say_the_same_of_it(rehearse: Rehearse, other: dict[str, Any]) -> None:
    """Of two crews with one model, the second would get the name and the trust that the first one states."""
    world, llm = rehearse(), scripted("done")
    for _ in range(2):
        protect(crew_of(member(llm, [])), world.enforcer, model="chat")
    with pytest.raises(ConfigurationError, match="principal_messages"):
        protect(crew_of(member(llm, [])), world.enforcer, **other)


@BOTH
def test_a_tool_that_crews_share_runs_as_the_agent_of_the_crew_that_calls(rehearse: Rehearse, make: Any) -> None:
    """The names of one crew's agents are not those of another's, although they share a tool."""
    world, shared = rehearse(), make()
    protect(crew_of(member(scripted(), [shared])), world.enforcer, agents={"helper": CLERK})
    crew = protect(
        crew_of(member(scripted([("read", {"invoice": "A"})]), [shared], role="helper")),
        world.enforcer,
        agents={"helper": HELPER},
    )
    with task(world, "read"):
        crew.kickoff()
    assert [call.agents for call in world.records.calls()] == [("clerk", "helper")]
    verified(world)


def test_agents_that_are_added_or_changed_later_are_guarded(rehearse: Rehearse) -> None:
    """A protected crew stays protected when its agents change."""
    world = rehearse()
    first = member(scripted(EVIL), [])
    crew = protect(crew_of(first), world.enforcer)
    later = member(scripted(EVIL), [read_tool()], role="later")
    first.goal, first.tools = "another goal", [read_tool()]
    crew.agents.append(later)
    crew.tasks.append(Task(description="more", expected_output="a word", agent=later))
    with task(world, scope=ONE):
        crew.kickoff()
    assert not ran
    world.records.assert_denied(code="argument_out_of_scope", tool="read", count=2)
    verified(world)


@pytest.mark.parametrize("native", [True, False])
def test_monitor_mode_runs_what_it_cannot_guard(rehearse: Rehearse, native: bool) -> None:
    """A tool that cannot be guarded runs in monitor mode, because nothing is refused there."""
    world = rehearse(mode="monitor")
    undo = instrument(world.enforcer)
    try:
        with task(world, "read"):
            crew_of(member(scripted([("read", {"invoice": "A"})], native=native), [OwnRun()])).kickoff()
    finally:
        undo()
    assert ran == ["A"]


def test_a_parameter_may_have_any_name(rehearse: Rehearse) -> None:
    """The guard takes no name of a parameter for itself."""

    class Named(Read):
        def _run(self, tool: str) -> str:
            return super()._run(tool)

    world = rehearse()
    crew = protect(crew_of(member(scripted([("read", {"tool": "A"})]), [Named()])), world.enforcer)
    with task(world, "read"):
        crew.kickoff()
    assert (ran, outcomes(world)) == (["A"], ["success"])
    verified(world)


def test_objects_are_inspected_as_the_agent_reads_them(rehearse: Rehearse) -> None:
    """A finding in the text of an object blocks it, although the object itself cannot be read."""
    rule = Rule(Effect.BLOCK, when={"findings.categories": Contains("pii.email")}, reason="no_mail", id="no")
    world = rehearse(policy=RuleSet(rule), inspectors=[PersonalData("email")])

    class Letter:
        def __str__(self) -> str:
            return "write to eve@example.com"

    @tool("letter")
    def letter() -> Any:
        """Return a letter."""
        return Letter()

    llm = scripted([("letter", {})], "done")
    with task(world, "letter"):
        protect(crew_of(member(llm, [letter])), world.enforcer).kickoff()
    assert "eve@" not in repr(llm.prompts)
    assert outcomes(world) == ["denied"]
    verified(world)


@pytest.mark.parametrize(
    "other", [{}, {"agents": {"helper": CLERK}}, {"agents": {"helper": HELPER}, "principal_messages": True}]
)
def test_a_crew_is_protected_once(rehearse: Rehearse, other: dict[str, Any]) -> None:
    """Of other options for the same crew, those of one call would not count; equal and further ones do."""
    world = rehearse()
    crew = crew_of(member(scripted(), [read_tool()]))
    protect(crew, world.enforcer)
    for _ in range(2):
        protect(crew, world.enforcer, agents={"helper": HELPER}, model="chat")
    with pytest.raises(ConfigurationError, match=r"a second guard|principal_messages"):
        protect(crew, world.enforcer, model="chat", **other)
    with pytest.raises(ConfigurationError, match="a second guard"):
        protect(crew, rehearse(mode="monitor").enforcer, agents={"helper": HELPER}, model="chat")


@pytest.mark.parametrize("first", [True, False])
def test_an_agent_of_two_crews_acts_for_the_one_that_runs(rehearse: Rehearse, first: bool) -> None:
    """Protecting another crew takes neither its name nor its narrower scope from an agent of both."""
    world = rehearse()
    shared = member(scripted([("read", {"invoice": "A"})], "done"), [read_tool()])
    crews = [crew_of(shared), crew_of(shared)]
    protect(crews[0], world.enforcer, agents={"clerk": (HELPER, Scope("read", invoice="B"))})
    protect(crews[1], world.enforcer)
    with task(world, "read"):
        crews[0 if first else 1].kickoff()
    assert ran == ([] if first else ["A"])
    assert outcomes(world) == ["denied" if first else "success"]
    verified(world)


def test_in_monitor_mode_the_first_protection_of_a_crew_counts(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    """The second one is logged, and nothing stops."""
    first, other = rehearse(mode="monitor"), rehearse(mode="monitor")
    crew = crew_of(member(scripted([("read", {"invoice": "A"})]), [read_tool()]))
    protect(protect(crew, first.enforcer), other.enforcer, model="chat")
    with task(first, "read"):
        crew.kickoff()
    assert (ran, outcomes(first), outcomes(other)) == (["A"], ["success"], [])
    assert "a second guard" in caplog.text
