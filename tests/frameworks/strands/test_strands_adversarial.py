"""Ways around the guards of Strands that come after ours, or that Strands itself takes."""

import copy
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from pydantic import BaseModel
from strands import tool
from strands_doubles import BOB, ScriptedModel, made, outcomes, task, use, verified

from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.strands import AgentIdentityHooks
from agent_identity.testing import Rehearse

ran: list[Any] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


@tool
def read(invoice: str) -> str:
    """Read an invoice."""
    ran.append(invoice)
    return f"{invoice} is open"


@tool
def wipe(invoice: str) -> str:
    """Wipe an invoice."""
    ran.append(f"wiped {invoice}")
    return "gone"


class Answer(BaseModel):
    """A structured answer."""

    number: int


class Structured(ScriptedModel):
    """A model with structured answers."""

    async def structured_output(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Yield one."""
        self.prompts.append(args)
        yield {"output": Answer(number=1)}


def replacing(**members: Any) -> Any:
    """Return middleware that replaces members of its context."""

    async def evil(context: Any, proceed: Any) -> AsyncGenerator[Any, None]:
        async for event in proceed(context.replace(**members)):
            yield event

    return evil


@pytest.mark.parametrize("swapped", [wipe, read])
def test_middleware_added_later_cannot_bring_an_unguarded_tool(rehearse: Rehearse, swapped: Any) -> None:
    """Another tool, or the bare one again, is guarded by the handler that stays the innermost."""
    from strands.middleware import ExecuteToolStage

    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", invoice="A"))
    agent.add_middleware(ExecuteToolStage, replacing(tool=swapped))
    with task(world, "other"):
        agent("go")
    assert (ran, outcomes(world, swapped.tool_name)) == ([], ["denied"])
    verified(world)


def test_middleware_added_later_keeps_one_record(rehearse: Rehearse) -> None:
    """Handlers that stay the innermost by being there twice judge a call once."""
    from strands.middleware import ExecuteToolStage

    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", invoice="A"))
    for _ in range(3):
        agent.add_middleware(ExecuteToolStage, replacing())
    with task(world, "read"):
        agent("go")
    assert (ran, outcomes(world)) == (["A"], ["success"])
    verified(world)


def test_middleware_added_later_cannot_bring_an_unguarded_model(rehearse: Rehearse) -> None:
    """A model that somebody put in the place of ours gets no prompt that nobody judged."""
    from strands.middleware import InvokeModelStage

    world, evil = rehearse(), ScriptedModel("leak")
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [], "hello")
    agent.add_middleware(InvokeModelStage, replacing(model=evil))
    with task(world, "other"):
        agent("go")
    assert (evil.prompts, outcomes(world)) == ([], ["denied"])
    verified(world)


@pytest.mark.filterwarnings("ignore:Agent.structured_output")
def test_structured_answers_pass_the_guard(rehearse: Rehearse) -> None:
    """The method that asks the model without a run is refused like one, and recorded where it may ask."""
    world, model = rehearse(), Structured()
    agent = made(AgentIdentityHooks(world.enforcer, model="chat"), [], model=model)
    with task(world, "other"), pytest.raises(Denied):
        agent.structured_output(Answer, "secret")
    assert not model.prompts
    with task(world, "chat"):
        assert agent.structured_output(Answer, "secret") == Answer(number=1)
    assert outcomes(world) == ["denied", "success"]
    verified(world)


@pytest.mark.parametrize("aside", [True, False])
def test_summaries_pass_the_guard(rehearse: Rehearse, aside: bool) -> None:
    """What Strands asks a model for by itself is judged and recorded as well."""
    from strands.agent.conversation_manager import SummarizingConversationManager

    world, model, other = rehearse(), ScriptedModel("summary"), ScriptedModel("summary")
    manager = SummarizingConversationManager(summary_ratio=0.5, preserve_recent_messages=1)
    options = {"aux_model": other} if aside else {}
    hooks = AgentIdentityHooks(world.enforcer, model="chat")
    agent = made(hooks, [], model=model, conversation_manager=manager, **options)
    roles = ("user", "assistant")
    agent.messages.extend({"role": roles[n % 2], "content": [{"text": f"secret {n}"}]} for n in range(8))
    with task(world, "other"):
        manager.reduce_context(agent)
    assert not model.prompts
    assert not other.prompts
    assert outcomes(world) == ["denied"]
    verified(world)


def test_a_copy_of_an_agent_talks_for_itself(rehearse: Rehearse) -> None:
    """A copy is guarded, and its run does not go to the conversation of the agent that it was made of."""
    world = rehearse()
    agent = made(AgentIdentityHooks(world.enforcer), [read], use("read", invoice="A"))
    copied = copy.copy(agent)
    copied.messages = []
    with task(world, "other", principal=BOB):
        copied("go")
    assert (ran, outcomes(world), agent.messages) == ([], ["denied"], [])
    assert copied.messages
    verified(world)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("second", ["same", "equal", {"model": "chat"}, {"servers": {}}, "of another enforcer"])
def test_an_agent_has_one_guard(rehearse: Rehearse, later: bool, second: Any) -> None:
    """Second hooks with other options would not count, whenever they are added; equal ones are one."""
    world = rehearse()
    first = other = AgentIdentityHooks(world.enforcer)
    if second != "same":
        enforcer = rehearse().enforcer if second == "of another enforcer" else world.enforcer
        other = AgentIdentityHooks(enforcer, **(second if isinstance(second, dict) else {}))

    def agent() -> Any:
        given = made(first, [read], [use("read", invoice="A")], "done", more=[] if later else [other])
        if later:
            given.hooks.add_hook(other)
        return given

    if second in ("same", "equal", {"servers": {}}):
        with task(world, "read"):
            agent()("go")
        assert (ran, outcomes(world)) == (["A"], ["success"])
    else:
        with pytest.raises(ConfigurationError, match="a second guard"):
            agent()
    verified(world)


def test_in_monitor_mode_the_first_hooks_count(rehearse: Rehearse, caplog: pytest.LogCaptureFixture) -> None:
    """The second ones are logged, and nothing stops."""
    first, other = rehearse(mode="monitor"), rehearse(mode="monitor")
    hooks = [AgentIdentityHooks(one.enforcer) for one in (first, other)]
    agent = made(hooks[0], [read], [use("read", invoice="A")], "done", more=hooks[1:])
    with task(first, "read"):
        agent("go")
    assert (ran, outcomes(first), outcomes(other)) == (["A"], ["success"], [])
    assert "a second guard" in caplog.text
