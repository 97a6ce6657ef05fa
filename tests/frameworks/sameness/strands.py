"""Run the tests of Strands with every agent of them guarded, in a permissive task (a pytest plugin).

Unpack the source distribution of the installed version, and run its tests once with ``SAMENESS_LEARN``, which changes
nothing but notes the names of tools, and once with ``SAMENESS_NAMES``; the counts must be the same::

    cd strands_agents-1.62.0
    export PYTHONPATH=…/tests/frameworks
    for mode in LEARN NAMES; do
        env SAMENESS_$mode=/tmp/names pytest -p sameness.strands tests/strands/{tools,hooks,middleware,interventions}
    done
"""

import functools
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strands.hooks import BeforeToolCallEvent, HookRegistry

import agent_identity as ai
from agent_identity.integrations.frameworks.strands import instrument

NAMES: set[str] = set()


def _learn() -> None:
    original = HookRegistry.invoke_callbacks_async

    @functools.wraps(original)
    async def learning(registry: HookRegistry, event: Any) -> Any:
        if isinstance(event, BeforeToolCallEvent):
            NAMES.add(str(event.tool_use["name"]))
            NAMES.update(filter(None, [getattr(event.selected_tool, "tool_name", None)]))
        return await original(registry, event)

    HookRegistry.invoke_callbacks_async = learning  # type: ignore[method-assign,assignment]


def pytest_configure() -> None:
    """Learn names, or guard every agent."""
    if "SAMENESS_LEARN" in os.environ:
        _learn()


def pytest_unconfigure() -> None:
    """Write the names to a file."""
    if "SAMENESS_LEARN" in os.environ:
        Path(os.environ["SAMENESS_LEARN"]).write_text("\n".join(sorted(NAMES)), encoding="utf-8")


@pytest.fixture(scope="session")
def _enforcer() -> Iterator[ai.Enforcer]:
    with tempfile.TemporaryDirectory() as folder, ai.Enforcer.open(folder) as enforcer:
        undo = instrument(enforcer)
        yield enforcer
        undo()


@pytest.fixture(autouse=True)
def _task(request: pytest.FixtureRequest) -> Iterator[None]:
    if "SAMENESS_NAMES" not in os.environ:
        yield
        return
    known = Path(os.environ["SAMENESS_NAMES"]).read_text(encoding="utf-8").split("\n")
    names = [name for name in known if re.fullmatch(r"[A-Za-z0-9_.:/-]{1,128}", name)]
    who: Any = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
    enforcer: ai.Enforcer = request.getfixturevalue("_enforcer")
    with enforcer.task("run the tests", scope=ai.Scope(dict.fromkeys(names)), **who):
        yield
