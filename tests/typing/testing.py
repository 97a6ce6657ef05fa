"""What type checkers see of what users test with; checked, never run."""

from collections.abc import Generator
from pathlib import Path
from typing import assert_type

import pytest
from langchain_core.language_models import BaseChatModel

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Service
from agent_identity.integrations.langchain.scripted import scripted_model
from agent_identity.testing import FixedClock, Records, Rehearsal, Rehearse, ScriptedAgent
from agent_identity.testing.records import RecordedCall


@pytest.fixture
def enforcer(rehearse: Rehearse) -> Enforcer:
    """One enforcer for all fixtures of a user."""
    rehearsal = rehearse(policy=RuleSet(Rule(Effect.BLOCK, tools="delete_*")), mode="monitor", agents="any")
    assert_type(rehearsal, Rehearsal)
    assert_type(rehearsal.enforcer, Enforcer)
    assert_type(rehearsal.clock, FixedClock)
    assert_type(rehearsal.directory, Path)
    rehearse(policies="policy.yaml")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rehearse(mode="strict")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    return rehearsal.enforcer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Generator[Rehearsal]:
    """A rehearsal that several tests share."""
    with Rehearsal.open(tmp_path_factory.mktemp("evidence"), policy="policy.yaml") as rehearsal:
        assert_type(rehearsal, Rehearsal)
        yield rehearsal


def records(rehearsal: Rehearsal) -> None:
    """What may be asked of records."""
    assert_type(rehearsal.records, Records)
    assert_type(Records("evidence").calls("pay"), tuple[RecordedCall, ...])
    (denied,) = rehearsal.records.assert_denied(code="no_task", tool="pay", count=1)
    assert_type(denied, RecordedCall)
    assert_type(denied.argument, str | None)
    assert_type(denied.agents, tuple[str, ...])
    rehearsal.records.assert_attributed(principal="alice", agent="clerk")
    rehearsal.records.assert_attributed(principal=Service("billing"), agent=Agent("clerk", owner="ops"), tool="pay")
    rehearsal.records.assert_attributed(principal=Human("alice"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    rehearsal.records.assert_denied("no_task")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def read(path: str) -> str:
    """A tool."""
    return path


async def fetch(url: str) -> bytes:
    """A tool that is awaited."""
    return url.encode()


async def scripts() -> None:
    """Agents without a model."""
    agent = ScriptedAgent(("read", {"path": "a"}), ("fetch", {"url": "b"}))
    assert_type(agent.run([read]), tuple[object, ...])
    assert_type(await agent.run_async({"read": read, "fetch": fetch}), tuple[object, ...])
    assert_type(scripted_model(("read", {"path": "a"}), answer="done"), BaseChatModel)
    ScriptedAgent("read")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
