"""Pytest plugin: runs the tests of the Claude Agent SDK with all our hooks, in a permissive task.

Every options object gets the hooks, and they judge each call of an in-process server's tool first, as they do under the
command line. Unpack the source distribution of the installed version, and run its tests once with ``SAMENESS_LEARN``,
which guards nothing and records the names of tools, and once with ``SAMENESS_NAMES``; the counts must be the same::

    cd claude_agent_sdk-0.2.189
    export PYTHONPATH=…/tests/frameworks
    for mode in LEARN NAMES; do
        env SAMENESS_$mode=/tmp/names pytest -p sameness.claude_agent tests
    done

With ``SAMENESS_HOOKS=none`` the options get a hook that does nothing in place of ours, to tell what hooks alone change.
With ``SAMENESS_MODE=enforce`` the hooks must block a call when they fail. The SDK connects to no command line that does
not promise this. The command lines that its tests simulate do not promise it, so tests that connect to them fail.
"""

import dataclasses
import functools
import inspect
import itertools
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import agent_identity as ai
from agent_identity.integrations.method_patch import MethodPatch
from agent_identity.testing import Records

WHO: dict[str, Any] = {
    "principal": ai.Human("alice@example.com"),
    "agent": ai.Agent("clerk", owner="fin@example.com"),
}
NAMES: set[str] = set()
_LONGEST = 30  # Seconds for one test.
GUARDED = pytest.StashKey[str]()
_IDS = itertools.count()
_enforcers: list[ai.Enforcer] = []


def pytest_configure() -> None:
    """Take the place of what makes servers before tests import it, and not before they find their own sources."""
    import claude_agent_sdk

    make = claude_agent_sdk.create_sdk_mcp_server

    @functools.wraps(make)
    def create_sdk_mcp_server(name: str, version: str = "1.0.0", tools: Any = None) -> Any:
        NAMES.update(f"{name}/{tool.name}" for tool in tools or ())
        return make(name, version, tools and (_judged(name, tools) if _enforcers else tools))

    claude_agent_sdk.create_sdk_mcp_server = create_sdk_mcp_server


def pytest_unconfigure() -> None:
    """Write the names to a file."""
    if "SAMENESS_LEARN" in os.environ:
        Path(os.environ["SAMENESS_LEARN"]).write_text("\n".join(sorted(NAMES)), encoding="utf-8")


def _judged(server: str, tools: list[Any]) -> list[Any]:
    """Return guarded tools, which ask the hooks before each call as the command line does."""
    from agent_identity.integrations.frameworks.claude_agent import hooks

    ours = hooks(_enforcers[-1])
    pairs = zip(tools, ours.guard_tools(server, tools), strict=True)
    return [dataclasses.replace(tool, handler=_asking(ours, server, tool, guarded)) for tool, guarded in pairs]


def _asking(ours: Any, server: str, tool: Any, guarded: Any) -> Callable[..., Any]:
    async def tell(event_name: str, call_id: str, arguments: object, **more: object) -> None:
        event = {"hook_event_name": event_name, "tool_name": f"mcp__{server}__{tool.name}", "tool_input": arguments}
        server_of = {"mcp_server": {"name": server}, "session_id": "s", "tool_use_id": call_id}
        await ours[event_name][0].hooks[0]({**event, **server_of, **more}, call_id, {"signal": None})

    @functools.wraps(tool.handler)
    async def handler(arguments: Any) -> Any:
        call_id = f"call-{next(_IDS)}"
        await tell("PreToolUse", call_id, arguments)
        try:
            result = await guarded.handler(arguments)
        except BaseException as error:
            await tell("PostToolUseFailure", call_id, arguments, error=str(error))
            raise
        await tell("PostToolUse", call_id, arguments, tool_response=result)
        return result

    return handler


@pytest.fixture(scope="session", autouse=True)
def _guarded(pytestconfig: pytest.Config) -> Iterator[None]:
    """Guard every new options object."""
    from agent_identity.integrations.frameworks.claude_agent import instrument

    if "SAMENESS_NAMES" not in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        with ai.Enforcer.open(folder, mode=os.environ.get("SAMENESS_MODE", "monitor")) as enforcer:
            undo = _idle_hooks() if os.environ.get("SAMENESS_HOOKS") == "none" else instrument(enforcer)
            _enforcers.append(enforcer)
            yield
            undo()
        pytestconfig.stash[GUARDED] = str(Counter(call.code for call in Records(folder).calls()))


def _idle_hooks() -> Callable[[], None]:
    """Give every new options object a hook that does nothing, and return what undoes it."""
    from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

    async def idle(*_: object) -> Any:
        return {}

    def hooked(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(self, *args, **kwargs)
            self.hooks = {**(self.hooks or {}), "PostToolUse": [HookMatcher(hooks=[idle])]}

        return __init__

    patch = MethodPatch(ClaudeAgentOptions, {"__init__": hooked})
    patch.apply()
    return patch.undo


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Report the number of guarded calls by the reason of the decision."""
    terminalreporter.line(f"guarded calls: {config.stash.get(GUARDED, None)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Open a task inside each test, because coroutines run in the context of their runner."""
    for item in items:
        if isinstance(item, pytest.Function) and "SAMENESS_NAMES" in os.environ:
            item.obj = _within_a_task(item.obj)


def _within_a_task(test: Callable[..., Any]) -> Callable[..., Any]:
    known = Path(os.environ["SAMENESS_NAMES"]).read_text(encoding="utf-8").split("\n")
    names = [*(name for name in known if re.fullmatch(r"[A-Za-z0-9_.:/-]{1,128}", name)), "Bash", "Read", "Write"]
    scope = ai.Scope(dict.fromkeys(names))
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def later(*args: Any, **kwargs: Any) -> None:
            with _enforcers[-1].task("their test", scope=scope, **WHO):  # Not all tests run on asyncio.
                with anyio.fail_after(_LONGEST):  # One that waits for ever must not stop the rest.
                    await test(*args, **kwargs)

        return later

    @functools.wraps(test)
    def now(*args: Any, **kwargs: Any) -> None:
        with _enforcers[-1].task("their test", scope=scope, **WHO):
            test(*args, **kwargs)

    return now
