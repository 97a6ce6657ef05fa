"""Plugin of pytest: runs the tests of Pydantic AI with every tool guarded, under a permissive task for each test.

Their distribution has no tests, so take those of the repository, of the tag that is installed, into a folder, and run
there, in an environment with their test dependencies::

    python -m pytest -p pydantic_ai_guarded tests/test_tools.py tests/test_toolsets.py …

with this folder in ``PYTHONPATH``. The first run needs ``SAMENESS_LEARN=names.txt``, and writes the names of the tools
that it sees, in monitor mode; the second one ``SAMENESS_NAMES=names.txt``, and enforces a scope of those names. Compare
both with a run without the plugin.
"""

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

import agent_identity as ai
from agent_identity.integrations.frameworks.pydantic_ai import instrument
from agent_identity.testing import Records

_LEARN, _NAMES = os.environ.get("SAMENESS_LEARN"), os.environ.get("SAMENESS_NAMES")
_PARTIES = {"principal": ai.Human("alice@example.com"), "agent": ai.Agent("tester", owner="alice@example.com")}


_state: list[tuple[ai.Enforcer, ai.Scope]] = []


@pytest.fixture(scope="session", autouse=True)
def _guarded() -> Iterator[None]:
    """Guard all agents for the session; at the end, keep or count what was seen."""
    names = Path(_NAMES).read_text(encoding="utf-8").split("\n") if _NAMES else ["none"]
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode="enforce" if _NAMES else "monitor") as enforcer:
            undo = instrument(enforcer)
            _state.append((enforcer, ai.Scope({name: {} for name in names if name})))
            yield
            undo()
        calls = Records(folder).calls()
        print(f"\n{len(calls)} calls, {sum(call.outcome == 'denied' for call in calls)} denied")  # noqa: T201 - To compare.
        if _LEARN:
            Path(_LEARN).write_text("\n".join(sorted({call.tool for call in calls})), encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Open a task around each test: within it, because coroutines run in a context of their runner."""
    for item in items:
        if isinstance(item, pytest.Function):
            item.obj = _within_a_task(item.obj)


def _within_a_task(test: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(test):

        @wraps(test)
        async def later(*args: Any, **kwargs: Any) -> None:
            enforcer, scope = _state[-1]
            async with enforcer.task("test", scope=scope, **_PARTIES):
                await test(*args, **kwargs)

        return later

    @wraps(test)
    def now(*args: Any, **kwargs: Any) -> None:
        enforcer, scope = _state[-1]
        with enforcer.task("test", scope=scope, **_PARTIES):
            test(*args, **kwargs)

    return now
