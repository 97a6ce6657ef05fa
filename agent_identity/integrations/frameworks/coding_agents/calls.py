"""Judges the calls of one session of a coding agent in the hook before each tool, and records them in the hook after.

The events and answers are those of Claude Code, in JSON. Its hooks let a tool run where a hook fails, so every
method here answers whatever happens: before a tool with a refusal, after it by withholding the result.
"""

import asyncio
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from contextvars import Context, ContextVar, copy_context
from typing import Final, NamedTuple, final

from agent_identity.adapters import (
    Call,
    CallRequest,
    GuardedCall,
    Part,
    Prompt,
    Shown,
    ToolCall,
    ToolGuards,
    refusal,
    safe_message,
    tool_name,
)
from agent_identity.errors import AgentIdentityError, ConfigurationError, Denied
from agent_identity.integrations.frameworks.coding_agents.command import AFTER
from agent_identity.integrations.narrowing import is_array, is_list, is_mapping

__all__ = [
    "Answer",
    "HookCalls",
    "Step",
    "answered",
    "current_session",
    "current_thread",
    "denial",
    "is_denial",
    "refused",
]

Answer = dict[str, object]
"""The answer of a hook, as JSON."""

Step = Callable[[Mapping[str, object]], Answer]
"""Answers one event."""

_SESSION: Final[ContextVar[str | None]] = ContextVar("agent_identity_hook_session", default=None)
_LOG: Final = logging.getLogger("agent_identity")
_MAX_OPEN: Final = 256
_MAX_AGENTS: Final = 4_096
_WITHHELD: Final = "withheld"
_AGENTS: Final = frozenset({"Agent", "Task"})
"""The tools that start sub-agents."""

_SHAPED: Final = frozenset({"Bash", "Edit", "Read", "Write"})
"""Built-in tools that take a result whose texts were all replaced; another one might keep its own."""

_DIALOGS: Final = frozenset({"AskUserQuestion", "ExitPlanMode"})
"""Tools whose input gets what the user answers, beside what was judged."""

_UNFIT: Final = re.compile(r"[^a-zA-Z0-9_-]")


class NoOutcomeError(Exception):
    """The session ended, or the tool did not run, before its outcome was reported."""


class InputChangedError(Exception):
    """The tool ran with another input than was judged."""


class NotJudgedError(Exception):
    """The tool ran before its call was judged."""


class ToolFailedError(Exception):
    """The tool reported an error."""


_Agent = tuple[object, object]


class _Running(NamedTuple):
    """An open call: judged, its intent recorded, its outcome not yet."""

    guard: GuardedCall
    call: Call
    context: Context
    stack: ExitStack
    asked: ToolCall
    tool: object
    agent: _Agent
    home: Context

    def end(self, error: BaseException) -> None:
        """Record an outcome without a result."""
        try:
            self.context.run(self.guard.fail, self.call, error)
        finally:
            self.context.run(self.stack.close)


@final
class HookCalls:
    """The calls of one session. Thread-safe; made in the context whose task they run under.

    Args:
        guards: The guards of the tools.
        prompts: The name of prompts in scopes and rules; ``None`` leaves them alone.
    """

    def __init__(self, guards: ToolGuards, prompts: str | None = None) -> None:
        self._guards = guards
        self._prompts = prompts
        self._context = copy_context()
        self._open: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self._servers: dict[str, str] = {}
        self._homes: dict[str, Context] = {}
        self._spoken: deque[str] = deque(maxlen=_MAX_OPEN)
        self._begun_sessions: set[object] = set()
        self._is_told = False
        self._prompted_in: dict[object, Context] = {}
        self._closed = False

    def answer(self, event: Mapping[str, object]) -> Answer:
        """Answer one event: before and after a tool, a prompt, and the stop of an agent; others are denied.

        Args:
            event: What the hook was called with.
        """
        return answered(self._answer, event, self._guards.enforcer.mode)

    def _answer(self, event: Mapping[str, object]) -> Answer:
        steps: dict[object, Step] = {
            "PreToolUse": self._before,
            "PostToolUse": self._after,
            "PostToolUseFailure": self._failed,
            "UserPromptSubmit": self._prompted,
            "Stop": self._stopped,
            "SubagentStop": self._stopped,
        }
        step = steps.get(event.get("hook_event_name"))
        if step is None:
            raise Denied("the hook is for another event; install it by 'agent-identity hooks'", code="bad_arguments")
        return step(event)

    def bind(self) -> None:
        """Run calls from now on under the task that is open here, but those of sub-agents that were started before."""
        with self._lock:
            self._context = copy_context()

    def _home(self, event: Mapping[str, object]) -> Context:
        """Return the context of an event: a sub-agent works on under the task in which it was started."""
        agent = event.get("agent_id")
        with self._lock:
            return self._kept(agent, self._context) if isinstance(agent, str) else self._context

    def _kept(self, agent: str, context: Context) -> Context:
        if agent not in self._homes and len(self._homes) >= _MAX_AGENTS:
            del self._homes[next(iter(self._homes))]
        return self._homes.setdefault(agent, context)

    def _note_started(self, running: _Running, response: object) -> None:
        """Note under which task a sub-agent works that was started in the background."""
        agent = response.get("agentId") if running.asked.kind == "agent" and is_mapping(response) else None
        if isinstance(agent, str):
            with self._lock:
                self._kept(agent, running.home)

    def note_spoken(self, text: str | None) -> None:
        """Know a prompt that the application is about to pass on, or that it will tell each one; no other counts then.

        Args:
            text: The prompt; ``None`` for none yet.
        """
        with self._lock:
            self._is_told = True
            if text is not None:
                self._spoken.append(text)

    def _is_spoken(self, event: Mapping[str, object]) -> bool:
        """Return whether a prompt is one that the application passed on: one that was noted, or the first of a session.

        The agent asks itself in the same way, with what its sub-agents, schedules and servers say.
        """
        text = event.get("prompt")
        with self._lock:
            known, session = self._begun_sessions, event.get("session_id")
            is_first = not self._is_told and session not in known and len(known) < _MAX_AGENTS
            if len(known) < _MAX_AGENTS:
                known.add(session)
            if event.get("agent_id") is not None or not isinstance(text, str):
                return False
            if text in self._spoken:
                self._spoken.remove(text)
                return True
            return is_first and not text.lstrip().startswith("<")  # As notifications do.

    def name_server(self, server: str) -> str:
        """Return the name of a server in the names of its tools.

        Args:
            server: Its name in the configuration of the agent.

        Raises:
            ConfigurationError: Another server has the same there, so that nobody can tell their tools apart.
        """
        name = _UNFIT.sub("_", server)
        with self._lock:
            known = self._servers.setdefault(name, server)
        if known != server:
            raise ConfigurationError(f"tools of the servers {known!r} and {server!r} have equal names; rename a server")
        return name

    def claim(self, server: str, tool: str, arguments: Mapping[str, object]) -> Call:
        """Return the open call that a tool of this process is about to run, once.

        Args:
            server: The name of its MCP server.
            tool: Its name there.
            arguments: The arguments that it has got.

        Raises:
            Denied: No call was judged with these arguments, or its task has ended since; the refusal is in the ledger.
        """
        server = self.name_server(server)
        name = tool_name(server, tool)
        running = self._unclaimed(name, arguments)
        if running is not None:
            running.context.run(running.guard.check, running.call)
            return running.call
        denied = Denied(f"{name}: no call was judged with these arguments", code="input_changed")
        guard = self._guards.of(name, kind="mcp", server=server)
        raise self._context.copy().run(lambda: guard.refuse(arguments, denied, guard.current_task))

    def _unclaimed(self, name: str, arguments: Mapping[str, object]) -> _Running | None:
        with self._lock:
            for call_id, running in reversed(self._open.items()):  # An older one may never run, in another task.
                judged = dict(running.call.arguments)
                if call_id not in self._claimed and running.asked.name == name and _is_same(judged, arguments):
                    self._claimed.add(call_id)
                    return running
        return None

    def close(self) -> None:
        """Record every open call as ended without an outcome, and judge no more."""
        with self._lock:
            self._closed = True
            running = list(self._open.values())
            self._open.clear()
        for each in running:
            _end(each, NoOutcomeError())

    def _before(self, event: Mapping[str, object]) -> Answer:
        asked = self._told_apart(_asked(event), event)
        call_id = asked.request.call_id
        if call_id is None:
            raise Denied("the call has no id", code="bad_arguments")
        running = self._begun(asked, event)
        self._keep(call_id, running)
        if running.guard.mode != "enforce":
            return {}
        # Without a decision, so that the agent asks its user as it would have done anyway.
        judged = dict(running.call.arguments)
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", "updatedInput": judged}}

    def _told_apart(self, asked: ToolCall, event: Mapping[str, object]) -> ToolCall:
        """Return a call, as one to refuse if its server cannot be told from another one."""
        stated = _stated(event)
        try:
            if asked.server is not None and stated is not None:
                self.name_server(stated)
        except ConfigurationError as error:
            denied = Denied(str(error), code="bad_arguments")
            return asked._replace(request=asked.request._replace(refusal=denied))
        return asked

    def _begun(self, asked: ToolCall, event: Mapping[str, object]) -> _Running:
        """Return the open call of an event, in a context of its own."""
        home = self._home(event)
        context = home.copy()
        return context.run(self._begin, asked, context, event, home)

    def _begin(self, asked: ToolCall, context: Context, event: Mapping[str, object], home: Context) -> _Running:
        agent = _agent(event)
        _SESSION.set(agent[0] if isinstance(agent[0], str) else None)
        # What the agent does before its first prompt in this task, it goes on with.
        asked = asked._replace(is_seen=self._prompted_in.get(agent[0]) is home)
        with ExitStack() as stack:
            guard = stack.enter_context(self._guards.acting(asked))
            call = guard.begin(asked.request)
            call.detach()  # The body runs in another process.
            return _Running(guard, call, context, stack.pop_all(), asked, event.get("tool_name"), agent, home)

    def _keep(self, call_id: str, running: _Running) -> None:
        """Keep an open call; one of the same id, and the oldest where there are too many, end without an outcome."""
        with self._lock:
            closed = self._closed
            ended = [running] if closed else [one for one in (self._open.pop(call_id, None),) if one is not None]
            if not closed:
                self._claimed.intersection_update(self._open)
                if len(self._open) >= _MAX_OPEN:
                    ended.append(self._open.pop(next(iter(self._open))))
                self._open[call_id] = running
        for each in ended:
            _end(each, NoOutcomeError())
        if closed:
            raise Denied("the session has ended", code="task_ended")

    def _after(self, event: Mapping[str, object]) -> Answer:
        running, response = self._take(event), event.get("tool_response")
        changed = None if running is None else _change(running, event)
        if running is None:
            return self._unjudged(event)
        self._note_started(running, response)
        if changed is not None:
            return self._contradicted(running, event, changed)
        try:
            shown = Shown(response, response, rebuild=_same_value)
            delivered = running.context.run(running.guard.succeed, running.call, shown)
        except Denied as denied:
            return _withheld(event, refusal(denied))
        finally:
            running.context.run(running.stack.close)
        return {} if delivered is response else _replaced(delivered)

    def _failed(self, event: Mapping[str, object]) -> Answer:
        running = self._take(event)
        if running is None:
            return self._unjudged(event)
        error: BaseException | None = _change(running, event)
        if error is not None:
            self._log_change(event)
        elif event.get("is_interrupt") is True:
            error = asyncio.CancelledError()
        else:
            error = ToolFailedError(str(event.get("error", "")))
        try:
            running.end(error)
        except Denied as denied:  # The agent shows errors of tools to the model, whatever a hook answers.
            _LOG.warning("the error of a tool was to be withheld, and the agent has it already (%s)", denied.code)
        return {}

    def _prompted(self, event: Mapping[str, object]) -> Answer:
        """Judge a prompt before the model gets it, if that is wanted; a refused one never reaches it."""
        with self._lock:
            if len(self._prompted_in) < _MAX_AGENTS:
                self._prompted_in[event.get("session_id")] = self._context
        if self._prompts is None:
            return {}
        request = CallRequest({"prompt": event.get("prompt")}, can_route=False)
        part = Part("person" if self._is_spoken(event) else "other", event.get("prompt"))
        read = Prompt(lambda: [part], lambda _: ())
        asked = ToolCall(self._prompts, request, kind="prompt", prompt=read)
        running = self._begun(asked, event)
        context = running.context
        try:
            context.run(self._guards.join, asked)
        except BaseException as error:
            running.end(error)
            raise
        try:
            context.run(running.guard.succeed, running.call)
        finally:
            context.run(running.stack.close)
        return {}

    def _stopped(self, event: Mapping[str, object]) -> Answer:
        """End the open calls of an agent that has stopped: its user did not let them run."""
        with self._lock:
            over = [name for name, running in self._open.items() if running.agent == _agent(event)]
            ended = [self._open.pop(name) for name in over]
        for each in ended:
            _end(each, NoOutcomeError())
        return {}

    def _take(self, event: Mapping[str, object]) -> _Running | None:
        call_id = event.get("tool_use_id")
        if not isinstance(call_id, str):
            return None
        with self._lock:
            self._claimed.discard(call_id)
            return self._open.pop(call_id, None)

    def _unjudged(self, event: Mapping[str, object]) -> Answer:
        """Record a call that ran without having been judged, and withhold its result."""
        _LOG.error("%s ran without having been judged; see that no hook is missing", _text(event.get("tool_name")))
        self._begun(_asked(event), event).end(NotJudgedError())
        return self._kept_back(event, "refused: not_judged: the tool ran without having been judged")

    def _contradicted(self, running: _Running, event: Mapping[str, object], error: BaseException) -> Answer:
        self._log_change(event)
        running.end(error)
        return self._kept_back(event, "refused: input_changed: the tool ran with another input than was judged")

    def _kept_back(self, event: Mapping[str, object], text: str) -> Answer:
        monitors = self._guards.enforcer.mode != "enforce"
        return {} if monitors or event.get("hook_event_name") != "PostToolUse" else _withheld(event, text)

    @staticmethod
    def _log_change(event: Mapping[str, object]) -> None:
        _LOG.error(
            "%s ran with another input than was judged; remove the other hook that changes it",
            _text(event.get("tool_name")),
        )


def answered(step: Step, event: Mapping[str, object], mode: str) -> Answer:
    """Return the answer of a step, and whatever it raises as a refusal; in monitor mode as no answer.

    Args:
        step: Answers the event.
        event: What the hook was called with.
        mode: The mode of the enforcer.
    """
    try:
        return step(event)
    except Denied as denied:
        text = refusal(denied)
    except BaseException as error:  # noqa: BLE001  The agent runs the tool where its hook raises.
        _LOG.error("a hook of a coding agent failed: %s", safe_message(error))
        code = error.code if isinstance(error, AgentIdentityError) else "guard_failed"
        text = f"refused: {code}: it could not be checked or recorded"
    return {} if mode != "enforce" else denial(event.get("hook_event_name"), text)


def refused(guards: ToolGuards, event: Mapping[str, object], denied: Denied) -> Denied:
    """Return the refusal of an event that has no session, recorded outside any task if it asks for a call.

    Args:
        guards: The guards of the tools.
        event: What the hook was called with.
        denied: The refusal.
    """
    if event.get("hook_event_name") != "PreToolUse":
        return denied
    asked = _asked(event)
    return guards.of(asked.name, kind=asked.kind, server=asked.server).refuse(asked.request.arguments, denied)


def denial(event_name: object, text: str) -> Answer:
    """Return the answer that refuses: before a tool it does not run, after it the session stops.

    Args:
        event_name: The name of the event.
        text: The reason, for the model.
    """
    if event_name == "PreToolUse":
        decision = {"permissionDecision": "deny", "permissionDecisionReason": text}
        return {"hookSpecificOutput": {"hookEventName": event_name, **decision}}
    if event_name in AFTER:
        return {"continue": False, "stopReason": text}
    return {"decision": "block", "reason": text}


def is_denial(answer: Mapping[str, object]) -> str | None:
    """Return the reason if an answer refuses a call before it runs, or blocks an event; otherwise ``None``."""
    inner = answer.get("hookSpecificOutput")
    if is_mapping(inner) and inner.get("permissionDecision") == "deny":
        return str(inner.get("permissionDecisionReason"))
    return str(answer.get("reason")) if answer.get("decision") == "block" else None


def _asked(event: Mapping[str, object]) -> ToolCall:
    """Return the call of an event.

    Raises:
        Denied: It is malformed.
    """
    name, values, call_id, acting = (event.get(k) for k in ("tool_name", "tool_input", "tool_use_id", "agent_type"))
    if not isinstance(name, str) or not is_mapping(values):
        raise Denied("the call has no name or no arguments", code="bad_arguments")
    arguments = dict(values)
    known = call_id if isinstance(call_id, str) else None
    request = CallRequest(arguments, supplied=tuple(arguments), call_id=known, can_route=False)
    if not isinstance(acting, str | None) or (acting is None and event.get("agent_id") is not None):
        raise Denied("the type of the sub-agent is not stated", code="bad_arguments")  # It must not act as another.
    server = _server(name, _stated(event))
    if server is not None:
        tool = name.removeprefix(f"mcp__{server}__")
        return ToolCall(tool_name(server, tool), request, acting, "mcp", server)
    kind = "mcp" if name.startswith("mcp__") else "agent" if name in _AGENTS else "function"
    return ToolCall(name, request, acting, kind)


def current_session() -> str | None:
    """Return the id of the session whose call is judged, which is the conversation of the agent."""
    return _SESSION.get()


def current_thread() -> str | None:
    """Return the name of the session whose call is judged, for the mark that goes on in it."""
    session = _SESSION.get()
    return None if session is None else f"coding-agent:{session}"


def _agent(event: Mapping[str, object]) -> _Agent:
    """Return the id of the session and that of the sub-agent in it; the main agent has none."""
    return event.get("session_id"), event.get("agent_id")


def _stated(event: Mapping[str, object]) -> str | None:
    """Return the name of the server of a call, if the agent states it."""
    described = event.get("mcp_server")
    stated = described.get("name") if is_mapping(described) else None
    return stated if isinstance(stated, str) else None


def _server(name: str, stated: str | None) -> str | None:
    """Return the server in the name ``mcp__server__tool``; ``None`` if it has none, or could have several."""
    if not name.startswith("mcp__"):
        return None
    if stated is not None:
        server = _UNFIT.sub("_", stated)
        return server if server and name.startswith(f"mcp__{server}__") and len(name) > len(server) + 7 else None
    parts = name.split("__")
    return parts[1] if len(parts) == 3 and parts[1] and parts[2] else None


def _change(running: _Running, event: Mapping[str, object]) -> InputChangedError | None:
    """Return an error if the tool or the input that ran is not the one that was judged."""
    judged = running.call.arguments if running.guard.mode == "enforce" else running.asked.request.arguments
    ran = event.get("tool_input")
    if running.asked.name in _DIALOGS and is_mapping(ran):
        ran = {name: value for name, value in ran.items() if name in judged}
    try:
        same = running.tool == event.get("tool_name") and _is_same(dict(judged), ran)
    except RecursionError:  # In monitor mode arguments may be deeper than the guard takes.
        same = False
    return None if same else InputChangedError()


def _is_same(one: object, other: object) -> bool:
    """Return whether two values of JSON are the same, whatever wrote their numbers."""
    if is_mapping(one) and is_mapping(other):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _replaced(result: object) -> Answer:
    return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": result}}


def _withheld(event: Mapping[str, object], text: str) -> Answer:
    """Return the answer that withholds a result: without its texts, or by a stop where the agent would keep them."""
    name, response = event.get("tool_name"), event.get("tool_response")
    if isinstance(name, str) and name.startswith("mcp__"):
        blank: object = [{"type": "text", "text": text}]
    elif name in _SHAPED and not (name == "Read" and is_mapping(response) and response.get("type") != "text"):
        blank = _blank(response)
    else:
        return denial("PostToolUse", text)
    return {**_replaced(blank), "decision": "block", "reason": text}


def _blank(value: object, key: str = "") -> object:
    """Return a result of the same shape without its texts."""
    if isinstance(value, str):
        return value if key == "type" else _WITHHELD
    if is_list(value):
        return [_blank(item) for item in value]
    if is_mapping(value):
        return {name: _blank(item, str(name)) for name, item in value.items()}
    return value


def _same_value(value: object) -> object:
    return value


def _end(running: _Running, error: BaseException) -> None:
    try:
        running.end(error)
    except Exception as failure:  # noqa: BLE001  The others still have to end.
        _LOG.error("an open call could not be ended: %s", safe_message(failure))


def _text(value: object) -> str:
    return repr(value)[:64]
