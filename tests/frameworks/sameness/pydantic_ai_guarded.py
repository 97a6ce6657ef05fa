"""Plugin of pytest: runs the tests of Pydantic AI with every tool guarded, under a permissive task for each test.

Their distribution has no tests, so take those of the repository, of the tag that is installed, into a folder, and run
there, in an environment with their test dependencies::

    python -m pytest -p pydantic_ai_guarded tests/test_tools.py tests/test_toolsets.py …

with this folder in ``PYTHONPATH``. The first run needs ``SAMENESS_LEARN=names.json``, and writes the names of the tools
that each test calls, in monitor mode; the second one ``SAMENESS_NAMES=names.json``, and enforces for each test a scope
of those names. Compare both with a run without the plugin.
"""

import inspect
import json
import os
import tempfile
from collections import Counter
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


_NOTHING = ["none"]
_names: dict[str, list[str]] = json.loads(Path(_NAMES).read_text(encoding="utf-8")) if _NAMES else {}
_tests: dict[str, str] = {}
_enforcers: list[ai.Enforcer] = []


@pytest.fixture(scope="session", autouse=True)
def _guarded() -> Iterator[None]:
    """Guard all agents for the session; at the end, keep or count what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode="enforce" if _NAMES else "monitor") as enforcer:
            undo = instrument(enforcer)
            _enforcers.append(enforcer)
            yield
            undo()
        calls = Records(folder).calls()
        print(f"\n{len(calls)} calls, {Counter(call.code for call in calls)}")  # noqa: T201 - To compare.
        if _LEARN:
            seen: dict[str, set[str]] = {}
            for call in calls:
                task = call.record.task
                if task is not None:
                    seen.setdefault(_tests[task.id], set()).add(call.tool)
            Path(_LEARN).write_text(json.dumps({test: sorted(names) for test, names in seen.items()}), encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Open a task inside each test, because coroutines run in the context of their runner."""
    for item in items:
        if isinstance(item, pytest.Function):
            item.obj = _within_a_task(item.obj, item.nodeid)


def _within_a_task(test: Callable[..., Any], name: str) -> Callable[..., Any]:
    scope = ai.Scope({tool: {} for tool in _names.get(name, _NOTHING)})
    if inspect.iscoroutinefunction(test):

        @wraps(test)
        async def later(*args: Any, **kwargs: Any) -> None:
            async with _enforcers[-1].task("test", scope=scope, **_PARTIES) as task:
                _tests[task.id] = name
                await test(*args, **kwargs)

        return later

    @wraps(test)
    def now(*args: Any, **kwargs: Any) -> None:
        with _enforcers[-1].task("test", scope=scope, **_PARTIES) as task:
            _tests[task.id] = name
            test(*args, **kwargs)

    return now
