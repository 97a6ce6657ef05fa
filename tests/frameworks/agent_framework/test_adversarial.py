"""Results of tools in the form of the framework: inspected like all others."""

from typing import Any

import pytest
from agent_framework import Content, FunctionTool, MCPStdioTool

from agent_identity import Effect, Rule, RuleSet
from agent_identity.constraints import Contains
from agent_identity.errors import ConfigurationError
from agent_identity.inspection import PersonalData
from agent_identity.integrations.frameworks.agent_framework import AgentIdentityMiddleware
from agent_identity.policy import Obligation
from agent_identity.testing import Rehearse

CRM = MCPStdioTool(name="crm", command="none")
MAIL = "mail bob@example.com now"
BLOCKING = RuleSet(
    Rule(Effect.BLOCK, when={"findings.stage": "result", "findings.categories": Contains("pii.email")}, id="no")
)
REDACTING = RuleSet(
    Rule(Effect.ALLOW, when={"findings.stage": "result"}, obligations=[Obligation("redact", "pii.email")], id="clean")
)


def one() -> Content:
    """Return one content."""
    return Content.from_text(MAIL)


async def several() -> list[Content]:
    """Return contents."""
    return [Content.from_text("first"), Content.from_text(MAIL)]


class Own(FunctionTool):
    """A tool that never comes to the guarded body."""

    async def invoke(self, **_: Any) -> Any:
        """Return contents."""
        return [Content.from_text(MAIL)]


@pytest.mark.parametrize("tool", [one, several, Own(name="own", description="Own.", func=one)])
@pytest.mark.parametrize(("policy", "begin"), [(BLOCKING, "refused: content_blocked"), (REDACTING, "")])
async def test_contents_are_inspected(maf: Any, tool: Any, policy: RuleSet, begin: str) -> None:
    """A finding in the content of a result blocks or redacts it; nothing of it reaches the model."""
    maf.open(policy=policy, inspectors=[PersonalData("email")])
    name = getattr(tool, "name", None) or tool.__name__
    agent = maf.agent([[maf.call(name)]], [tool])
    with maf.task(name):
        (answer,) = maf.answers(await maf.respond(agent))
    assert answer.startswith(begin)
    assert begin or "[redacted:pii.email]" in answer
    assert "bob@" not in repr([message.to_dict() for asked in agent.client.asked for message in asked])


async def test_objects_are_inspected_as_the_model_reads_them(maf: Any) -> None:
    """A finding in the text of an object blocks it, although the object itself cannot be read."""
    maf.open(policy=BLOCKING, inspectors=[PersonalData("email")])

    class Letter:
        def __str__(self) -> str:
            return MAIL

    def letter() -> Any:
        return Letter()

    agent = maf.agent([[maf.call("letter")]], [letter])
    with maf.task("letter"):
        (answer,) = maf.answers(await maf.respond(agent))
    assert answer.startswith("refused: content_blocked")


@pytest.mark.parametrize("place", ["agent", "run"])
@pytest.mark.parametrize(
    "second", ["same", "equal", {"model": "chat"}, {"servers": {"crm": CRM}}, "of another enforcer"]
)
async def test_an_agent_has_one_middleware(maf: Any, rehearse: Rehearse, place: str, second: Any) -> None:
    """A second one with other options would not count; equal ones are one."""
    world = maf.open()
    first = maf.middleware()
    other = first
    if second != "same":
        enforcer = rehearse().enforcer if second == "of another enforcer" else world.enforcer
        other = AgentIdentityMiddleware(enforcer, **(second if isinstance(second, dict) else {}))
    at = {"middleware": [other]} if place == "run" else {}
    agent = maf.agent([[maf.call("one")]], [one], first, *([] if at else [other]), bare=True)
    with maf.task("one"):
        if second in ("same", "equal"):
            await maf.respond(agent, **at)
        else:
            with pytest.raises(ConfigurationError, match="root has a second guard"):
                await maf.respond(agent, **at)
    assert len(world.records.calls()) == (second in ("same", "equal"))


async def test_in_monitor_mode_the_first_middleware_counts(
    maf: Any, rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    """The second one is logged, and nothing stops."""
    maf.open(mode="monitor")
    other = rehearse(mode="monitor")
    agent = maf.agent([[maf.call("one")]], [one], AgentIdentityMiddleware(other.enforcer))
    with maf.task("one"):
        await maf.respond(agent)
    assert (maf.calls(), other.records.calls()) == ([("one", "success", "within_scope")], ())
    assert "a second guard" in caplog.text
