"""Run the tests of CrewAI with every tool that an agent calls guarded, in a permissive task (a pytest plugin).

Unpack the source distribution of the installed version, and run its tests once with ``SAMENESS_LEARN``, which changes
nothing but notes the names of tools, and once with ``SAMENESS_NAMES``; the counts must be the same::

    cd crewai-1.15.30
    export PYTHONPATH=…/tests/frameworks CREWAI_DISABLE_TELEMETRY=true
    for mode in LEARN NAMES; do
        env SAMENESS_$mode=/tmp/names pytest -p sameness.crewai tests/tools tests/hooks
    done

With ``SAMENESS_MODE=monitor`` nothing is refused.
"""

import functools
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from crewai.tools import BaseTool
from crewai.utilities.string_utils import sanitize_tool_name

import agent_identity as ai
from agent_identity.integrations.frameworks.crewai import instrument
from agent_identity.testing import Records

NAMES: set[str] = set()
GUARDED = pytest.StashKey[str]()


def _learn() -> None:
    original = BaseTool.model_post_init

    @functools.wraps(original)
    def learning(tool: BaseTool, context: Any) -> None:
        NAMES.add(sanitize_tool_name(tool.name))
        original(tool, context)

    BaseTool.model_post_init = learning  # type: ignore[method-assign]


def pytest_configure() -> None:
    """Learn names, or guard what agents call."""
    if "SAMENESS_LEARN" in os.environ:
        _learn()


def pytest_unconfigure() -> None:
    """Write the names to a file."""
    if "SAMENESS_LEARN" in os.environ:
        Path(os.environ["SAMENESS_LEARN"]).write_text("\n".join(sorted(NAMES)), encoding="utf-8")


@pytest.fixture(scope="session")
def _enforcer(pytestconfig: pytest.Config) -> Iterator[ai.Enforcer]:
    mode = "monitor" if os.environ.get("SAMENESS_MODE") == "monitor" else "enforce"
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode=mode) as enforcer:
            yield enforcer
        pytestconfig.stash[GUARDED] = str(Counter(call.code for call in Records(folder).calls()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the number of guarded calls by the reason of the decision."""
    terminalreporter.line(f"guarded calls: {config.stash.get(GUARDED, None)}")


@pytest.fixture(autouse=True)
def _task(request: pytest.FixtureRequest) -> Iterator[None]:
    if "SAMENESS_NAMES" not in os.environ:
        yield
        return
    known = Path(os.environ["SAMENESS_NAMES"]).read_text(encoding="utf-8").split("\n")
    names = [name for name in known if re.fullmatch(r"[A-Za-z0-9_.:/-]{1,128}", name)][:256]
    who: Any = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}
    enforcer: ai.Enforcer = request.getfixturevalue("_enforcer")
    undo = instrument(enforcer)  # For each test, because some of them clear all hooks.
    try:
        with enforcer.task("run the tests", scope=ai.Scope(dict.fromkeys(names)), **who):
            yield
    finally:
        undo()
