"""A plugin for the SDK's own tests: every agent is instrumented, and a task is open around each test.

From the folder of the unpacked source distribution, in an environment with its development dependencies:

    python -m pytest -q tests/test_function_tool.py …
    PYTHONPATH=…/tests/frameworks/sameness python -m pytest -q -p openai_agents tests/test_function_tool.py …

Both give the same counts but for the differences that the report of the session names. The enforcer is in monitor
mode, because no scope grants names that only the tests know.
"""

import tempfile
from collections import Counter
from collections.abc import Generator

import pytest

import agent_identity as ai
from agent_identity.integrations.frameworks.openai_agents import instrument
from agent_identity.testing import Records

WHO = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}


GUARDED = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def guarding(pytestconfig: pytest.Config) -> Generator[ai.Enforcer]:
    """Instrument the process."""
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode="monitor") as enforcer:
            undo = instrument(enforcer)
            yield enforcer
            undo()
        pytestconfig.stash[GUARDED] = str(Counter(call.code for call in Records(folder).calls()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the number of guarded calls by the reason of the decision."""
    terminalreporter.line(f"guarded calls: {config.stash.get(GUARDED, None)}")


@pytest.fixture(autouse=True)
def within_a_task(guarding: ai.Enforcer) -> Generator[None]:
    """Open a task around each test."""
    with guarding.task("their test", scope=ai.Scope("anything"), **WHO):
        yield
