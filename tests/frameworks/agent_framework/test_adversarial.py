"""Results of tools in the form of the framework: inspected like all others."""

from typing import Any

import pytest
from agent_framework import Content, FunctionTool

from agent_identity import Effect, Rule, RuleSet
from agent_identity.constraints import Contains
from agent_identity.inspection import PersonalData
from agent_identity.policy import Obligation

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
