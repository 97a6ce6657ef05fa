"""Plugin of pytest: runs the tests of Pydantic AI with every tool guarded, under a permissive task for each test.

Their distribution has no tests, so take those of the repository, of the tag that is installed, into a folder, and run
there, in an environment with their test dependencies::

    python -m pytest -p pydantic_ai_guarded tests/test_tools.py tests/test_toolsets.py …

with this folder in ``PYTHONPATH``. The first run needs ``SAMENESS_LEARN=names.txt``, and writes the names of the tools
that it sees, in monitor mode; the second one ``SAMENESS_NAMES=names.txt``, and enforces a scope of those names. Compare
both with a run without the plugin.
"""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import agent_identity as ai
from agent_identity.integrations.frameworks.pydantic_ai import instrument
from agent_identity.testing import Records

_LEARN, _NAMES = os.environ.get("SAMENESS_LEARN"), os.environ.get("SAMENESS_NAMES")
_PARTIES = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("tester", owner="alice@example.com")}


@pytest.fixture(scope="session", autouse=True)
def _guarded() -> Iterator[tuple[ai.Enforcer, ai.Scope]]:
    """Guard all agents for the session; at the end, keep or count what was seen."""
    names = Path(_NAMES).read_text(encoding="utf-8").split("\n") if _NAMES else ["none"]
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode="enforce" if _NAMES else "monitor") as enforcer:
            undo = instrument(enforcer)
            yield enforcer, ai.Scope({name: {} for name in names if name})
            undo()
        calls = Records(folder).calls()
        print(f"\n{len(calls)} calls, {sum(call.outcome == 'denied' for call in calls)} denied")  # noqa: T201 - For whoever compares.
        if _LEARN:
            Path(_LEARN).write_text("\n".join(sorted({call.tool for call in calls})), encoding="utf-8")


@pytest.fixture(autouse=True)
def _permissive(_guarded: tuple[ai.Enforcer, ai.Scope]) -> Iterator[None]:
    """Open a task around each test."""
    enforcer, scope = _guarded
    with enforcer.task("test", scope=scope, **_PARTIES):
        yield
