"""A plugin for the SDK's own tests: every agent is instrumented, and a task is open around each test.

From the folder of the unpacked source distribution, in an environment with its development dependencies:

    python -m pytest -q tests/test_function_tool.py …
    PYTHONPATH=…/tests/frameworks/sameness python -m pytest -q -p openai_agents tests/test_function_tool.py …

Both give the same counts but for the differences that the report of the session names. The enforcer is in monitor
mode, because no scope grants names that only the tests know.
"""

import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

import agent_identity as ai
from agent_identity.integrations.frameworks.openai_agents import instrument
from agent_identity.testing import Records

WHO = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("clerk", owner="fin@example.com")}


@pytest.fixture(scope="session")
def guarding() -> Generator[ai.Enforcer]:
    """Instrument the process."""
    with tempfile.TemporaryDirectory() as folder:
        evidence = Path(folder) / "evidence"
        with ai.Enforcer.open(evidence, mode="monitor") as enforcer:
            undo = instrument(enforcer)
            yield enforcer
            undo()
        sys.stderr.write(f"\n{len(Records(evidence).calls())} calls were guarded\n")


@pytest.fixture(autouse=True)
def within_a_task(guarding: ai.Enforcer) -> Generator[None]:
    """Open a task around each test."""
    with guarding.task("their test", scope=ai.Scope("anything"), **WHO):
        yield
