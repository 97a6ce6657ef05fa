"""A pytest plugin: every tool is protected where it is made, and every test runs inside a task that covers them all.

A grant names its tools, so the names are learned first: a run with ``SAME_TOOL_LEARN`` set to a file protects nothing
and writes the name of each tool there; a run with ``SAME_TOOL_NAMES`` set to that file grants them all.
"""

import functools
import inspect
import os
import re
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool

from agent_identity import Agent, ConfigurationError, Enforcer, Human, Scope
from agent_identity.integrations.langchain.protection import protect

WHO = {"principal": Human("tester@example.com"), "agent": Agent("tests", owner="tester@example.com")}
_GRANTABLE = re.compile("[A-Za-z0-9_.:/-]{1,128}")
_PROTECTED = pytest.StashKey[list[int]]()


def _at_construction(then: Callable[[BaseTool], None]) -> None:
    original = BaseTool.__init__

    @functools.wraps(original)
    def construct(self: BaseTool, **kwargs: Any) -> None:
        original(self, **kwargs)
        then(self)

    BaseTool.__init__ = construct  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    """Learn the names, or protect."""
    config.stash[_PROTECTED] = [0, 0]
    if learned := os.environ.get("SAME_TOOL_LEARN"):
        names: set[str] = set()
        _at_construction(lambda tool: names.add(tool.name))
        config.add_cleanup(lambda: Path(learned).write_text("\n".join(sorted(names)), encoding="utf-8"))
        return
    # Test modules make tools while they are collected, so this comes before.
    directory = tempfile.mkdtemp(prefix="same-tool-")
    enforcer = Enforcer.open(directory)
    config.add_cleanup(enforcer.close)
    config.pluginmanager.register(_Granting(enforcer, Path(os.environ["SAME_TOOL_NAMES"])))
    counts = config.stash[_PROTECTED]

    def shield(tool: BaseTool) -> None:
        try:
            protect(tool, enforcer)
        except ConfigurationError:
            counts[1] += 1
        else:
            counts[0] += 1

    _at_construction(shield)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many tools were protected, so that a run that protects none is seen."""
    protected, left = config.stash[_PROTECTED]
    terminalreporter.write_line(f"same tool: {protected} protected, {left} that cannot be")


class _Granting:
    """Runs each test inside a task."""

    def __init__(self, enforcer: Enforcer, names: Path) -> None:
        self._enforcer = enforcer
        self._scope = Scope(dict.fromkeys(filter(_GRANTABLE.fullmatch, names.read_text(encoding="utf-8").split("\n"))))

    def _task(self) -> Any:
        return self._enforcer.task("run a test", scope=self._scope, **WHO)  # type: ignore[arg-type]

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Open the task in the test itself, because a loop runs it in a context of its own."""
        if not isinstance(item, pytest.Function):
            return
        body = item.obj

        if inspect.iscoroutinefunction(body):

            @functools.wraps(body)
            async def test_async(*args: Any, **kwargs: Any) -> None:
                async with self._task():
                    await body(*args, **kwargs)

            item.obj = test_async
        else:

            @functools.wraps(body)
            def test(*args: Any, **kwargs: Any) -> None:
                with self._task():
                    body(*args, **kwargs)

            item.obj = test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Fixtures that run tools do so inside a task as well."""
        with self._task():
            return (yield)
