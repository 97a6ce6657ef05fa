"""A pytest plugin: every agent of Microsoft Agent Framework is guarded, and each test runs inside a task.

The framework's own tests must give the counts that they give without it. Take the tests from its repository, at the tag
of the installed version, and run in the folder ``python/packages/core``, once without and once with the plugin:

    PYTHONPATH=$OURS:$OURS/tests/frameworks/sameness python -m pytest -p sameness_maf -o addopts= \
        tests/core/test_tools.py tests/core/test_middleware.py tests/core/test_middleware_context_result.py \
        tests/core/test_middleware_with_agent.py tests/core/test_middleware_with_chat.py \
        tests/core/test_function_invocation_logic.py tests/core/test_as_tool_kwargs_propagation.py \
        tests/core/test_mcp.py tests/core/test_agents.py

One test differs: ``test_prepare_call_kwargs_strips_undeclared_arguments`` expects that no span is current, and a task
has one, which the framework passes on to MCP servers.
"""

import tempfile
from collections.abc import Iterator

import pytest

import agent_identity as ai
from agent_identity.integrations.frameworks.agent_framework import instrument
from agent_identity.testing import Records

WHO = {"principal": ai.Human("tester@example.com"), "agent": ai.Agent("tester", owner="tests@example.com")}
GUARDED = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def _enforcer(pytestconfig: pytest.Config) -> Iterator[ai.Enforcer]:
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode="monitor") as enforcer:
            undo = instrument(enforcer)
            yield enforcer
            undo()
        pytestconfig.stash[GUARDED] = len(Records(folder).calls())


@pytest.fixture(autouse=True)
def _permissive(_enforcer: ai.Enforcer) -> Iterator[None]:
    with _enforcer.task("sameness", scope=ai.Scope("anything"), **WHO):
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell how many calls were guarded."""
    terminalreporter.line(f"guarded calls: {config.stash.get(GUARDED, 0)}")
