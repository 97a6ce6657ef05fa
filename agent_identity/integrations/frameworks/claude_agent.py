"""Hooks for the Claude Agent SDK: guard every tool call of an agent that runs in the command line of Claude Code.

Needs the distribution ``claude-agent-sdk``, from the extra ``claude-agent``.
"""

import dataclasses
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast, final

from agent_identity import Enforcer, Task
from agent_identity.adapters import Acting, Declared, ToolGuards, off_loop, refusal
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.integrations.frameworks.coding_agents.calls import (
    HookCalls,
    current_session,
    current_thread,
    denial,
)
from agent_identity.integrations.method_patch import MethodPatch

try:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, HookMatcher
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "claude_agent_sdk":
        raise
    raise ImportError("claude-agent-sdk is not installed; run pip install '.[claude-agent]' in the checkout") from error

if TYPE_CHECKING:
    from claude_agent_sdk import SdkMcpTool

__all__ = ["ClaudeHooks", "hooks", "instrument"]

_T = TypeVar("_T")
_LOG: Final = logging.getLogger("agent_identity")
_EVENTS: Final = ("PreToolUse", "PostToolUse", "PostToolUseFailure", "UserPromptSubmit", "Stop", "SubagentStop")


def hooks(
    enforcer: Enforcer,
    *,
    agents: Acting | None = None,
    prompts: str | None = None,
    tool_options: Declared | None = None,
    principal_messages: bool = False,
    timeout: float = 60.0,
) -> "ClaudeHooks":
    """Return hooks that guard every tool call, for ``ClaudeAgentOptions(hooks=…)``.

    Calls run under the task that is open here, whatever is open when the client connects or asks. A refused call is
    an error for the model, and the run goes on; so it is, whatever fails here. The command line refuses calls whose
    hook does not answer in time.

    Of several hooks that change an input, the command line takes the one that answers last. If another hook changes
    what was judged, the call is recorded as a failure and its result withheld; see :meth:`ClaudeHooks.guard_tools`.

    Args:
        enforcer: The enforcer.
        agents: The governed agent for each type of sub-agent, with a scope if it is to have less. Their calls run
            under authority delegated for each call; other types act as the agent of the task.
        prompts: The name of prompts in scopes and rules: each is then inspected, judged and recorded like a call, and
            a refused one does not reach the model. The scope must cover the name. ``None`` leaves prompts alone.
        tool_options: Declarations of tools by name, each a :class:`~agent_identity.options.ToolOptions`.
        principal_messages: Count prompts that the application passes on as the principal's own words: that of
            ``claude_agent_sdk.query``, and those that it gives to a client. With information flow and ``prompts``,
            others that nobody accounted for have unknown integrity: the agent also asks itself, with what its
            sub-agents in the background, its schedules and its servers say.
        timeout: Seconds in which a call must be judged; raise it where a person approves.

    Raises:
        ConfigurationError: No task is open, or ``principal_messages`` is given without ``prompts``.
        ValueError: ``prompts`` does not have 1 to 256 visible characters.
    """
    if enforcer.current_task is None and enforcer.mode == "enforce":
        raise ConfigurationError("no task is open; call hooks() inside 'with enforcer.task(...)'")
    guards = ToolGuards(
        enforcer,
        agents=agents,
        workflow=current_session,
        thread=current_thread,
        tool_options=tool_options,
        model=prompts,
        principal_messages=principal_messages,
    )
    if principal_messages:
        _note_prompts()
    return ClaudeHooks(guards, prompts, timeout)


@functools.cache
def _note_prompts() -> None:
    """Have clients tell their hooks what the application asks."""
    client = cast("Any", ClaudeSDKClient)
    client.connect, client.query = _noting(client.connect), _noting(client.query)


def _noting(bare: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    @functools.wraps(bare)
    async def ask(client: ClaudeSDKClient, prompt: object = None, *args: object, **options: object) -> None:
        for matcher in (client.options.hooks or {}).get("UserPromptSubmit", ()):
            for hook in matcher.hooks:
                ours: object = getattr(hook, "__self__", None)
                if isinstance(ours, ClaudeHooks):
                    ours.note_prompt(prompt if isinstance(prompt, str) else None)
        await bare(client, prompt, *args, **options)

    return ask


def instrument(enforcer: Enforcer) -> Callable[[], None]:
    """Guard every tool call of clients and queries whose options are made from now on, and return what undoes it.

    Calls run under the task that is open where the options are made; a copy of options that is made in another task
    has its own hooks. Options whose hooks before a tool are those of :func:`hooks` keep them. Hooks that are assigned
    to options later replace these.

    Args:
        enforcer: The enforcer; usually in monitor mode.
    """

    def hooked(original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __init__(self: ClaudeAgentOptions, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, N807
            original(self, *args, **kwargs)
            given: dict[Any, list[HookMatcher]] = dict(self.hooks or {})
            task = enforcer.current_task
            if patch.is_active and task is not None:
                given = {event: _without_copied(matchers, task) for event, matchers in given.items()}
            asked = [hook for matcher in given.get("PreToolUse", ()) for hook in matcher.hooks]
            if patch.is_active and not any(isinstance(getattr(hook, "__self__", None), ClaudeHooks) for hook in asked):
                ours = ClaudeHooks(ToolGuards(enforcer, workflow=current_session, thread=current_thread), None, 60.0)
                ours.of_process = (task,)
                added = {event: [*given.get(event, ()), *matchers] for event, matchers in ours.items()}
                self.hooks = {**given, **added}

        return __init__

    patch = MethodPatch(ClaudeAgentOptions, {"__init__": hooked})
    patch.apply()
    return patch.undo


def _without_copied(matchers: list[HookMatcher], task: Task) -> list[HookMatcher]:
    """Return hooks without those that :func:`instrument` added where another task was open, or none."""

    def is_copied(hook: object) -> bool:
        ours: object = getattr(hook, "__self__", None)
        return isinstance(ours, ClaudeHooks) and ours.of_process not in (None, (task,))

    return [matcher for matcher in matchers if not any(map(is_copied, matcher.hooks))]


@final
class ClaudeHooks(dict[Any, list[HookMatcher]]):
    """Hooks by event, and a context manager that closes them. Received from :func:`hooks`.

    Attributes:
        of_process: The task of hooks that :func:`instrument` has added, in a tuple.
    """

    of_process: tuple[Task | None] | None = None

    def __init__(self, guards: ToolGuards, prompts: str | None, timeout: float) -> None:
        self._monitors = guards.enforcer.mode != "enforce"
        # The SDK does not connect to a command line that is too old for "block"; monitor mode must still connect.
        matchers = [HookMatcher(hooks=[self._answer], timeout=timeout, on_failure=None if self._monitors else "block")]
        super().__init__({event: list(matchers) for event in _EVENTS})
        self._calls = HookCalls(guards, prompts)

    def bind(self) -> None:
        """Run calls from now on under the task that is open here, for a client that works on several tasks."""
        self._calls.bind()

    def note_prompt(self, text: str | None) -> None:
        """Know a prompt that the application is about to pass on.

        ``query`` of a client calls this itself; an application that streams its prompts calls it for each.

        Args:
            text: The prompt; ``None`` says that only prompts count that are told so.
        """
        self._calls.note_spoken(text)

    def close(self) -> None:
        """Record the calls without an outcome as such, and refuse all further ones.

        Sub-agents may work on when the client has closed; nobody reports what becomes of their calls.
        """
        self._calls.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await off_loop(self.close)

    def guard_tools(self, server: str, tools: Iterable["SdkMcpTool[_T]"]) -> list["SdkMcpTool[_T]"]:
        """Return tools for ``create_sdk_mcp_server`` that run only with arguments that were judged.

        Another hook may change what was judged; in this process, such a call does not run.

        Args:
            server: The name of the server in ``mcp_servers``.
            tools: The tools.

        Raises:
            ConfigurationError: Another server has a name that Claude Code does not tell from this one; in monitor mode
                it is logged.
        """
        try:
            self._calls.name_server(server)
        except ConfigurationError as error:
            if not self._monitors:
                raise
            _LOG.error("monitor mode: %s", error)
        return [dataclasses.replace(tool, handler=partial(self._run, server, tool)) for tool in tools]

    async def _run(self, server: str, tool: "SdkMcpTool[Any]", arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        try:
            call = await off_loop(partial(self._calls.claim, server, tool.name, arguments))
        except (Denied, ConfigurationError) as error:
            if self._monitors:
                return await tool.handler(arguments)
            if not isinstance(error, Denied):
                raise
            return {"content": [{"type": "text", "text": refusal(error)}], "is_error": True}
        call.attach()
        try:
            return await tool.handler(dict(call.arguments))
        finally:
            call.detach()

    async def _answer(self, event: Any, tool_use_id: str | None, context: object) -> Any:  # noqa: ANN401, ARG002
        """Answer an event; the form of the SDK is that of the JSON."""
        try:
            return await off_loop(partial(self._calls.answer, cast("Mapping[str, object]", event)))
        except Exception:  # noqa: BLE001  The tool would run.
            if self._monitors:
                return {}
            return denial(event.get("hook_event_name"), "refused: guard_failed: it could not be checked")
