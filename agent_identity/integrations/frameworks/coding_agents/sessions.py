"""The sessions of a coding agent: one task for each, from its first event to its last."""

import logging
import re
import threading
from collections.abc import Mapping, Sequence
from contextvars import Context, copy_context
from datetime import timedelta
from typing import Final, NamedTuple, final

from agent_identity import Agent, Enforcer, Scope
from agent_identity.adapters import Acting, Opening, ToolGuards, check_task, safe_message
from agent_identity.errors import Denied
from agent_identity.identity import Principal
from agent_identity.integrations.frameworks.coding_agents.calls import (
    Answer,
    HookCalls,
    answered,
    current_session,
    current_thread,
    refused,
)
from agent_identity.limits import Limit

__all__ = ["PROBE", "PROBE_ALLOWED", "PROBE_DENIED", "HookSessions"]

PROBE: Final = "agent-identity-probe-"
"""How the ids of the sessions begin in which ``agent-identity doctor`` tries the hooks."""

PROBE_ALLOWED: Final = "agent_identity.probe"
"""The tool in the scope of such a session; no agent has it."""

PROBE_DENIED: Final = "agent_identity.beyond"
"""A tool that is in no scope."""

_LOG: Final = logging.getLogger("agent_identity")
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MAX_SESSIONS: Final = 64
_MAX_ENDED: Final = 65_536  # One that is forgotten gets a second task.
_NS: Final = 1_000_000_000


class _Session(NamedTuple):
    """A session with its open task."""

    calls: HookCalls
    opening: Opening
    context: Context
    expires_at: int

    def end(self) -> None:
        """End the open calls, then the task."""
        self.calls.close()
        self.context.run(self.opening.__exit__, None, None, None)


@final
class HookSessions:
    """Answers the hooks of a coding agent. Thread-safe.

    A task begins with ``SessionStart``, or with the first event of a session that is not known, and ends with
    ``SessionEnd`` or :meth:`close`. A session that has ended gets no second task but by its own ``SessionStart``.

    Args:
        enforcer: The enforcer.
        principal: The human who works with the agent.
        agent: The coding agent.
        scope: The tools of each session, by the names in its hooks; those of MCP servers as ``server/tool``.
        purpose: The purpose of each task; the id of its session is added.
        ttl: The authority of a session ends after this time at the latest.
        limits: Limits of each session; see :meth:`Enforcer.task`.
        agents: The governed agent for each type of sub-agent, with a scope if it is to have less. Their calls run
            under delegated authority; other types act as the coding agent.
        prompts: The name of prompts in scopes and rules: each is then inspected, judged and recorded like a call, and
            a refused one does not reach the model. The scope must cover the name. ``None`` leaves prompts alone.

    Raises:
        TypeError: Something has another type.
        ValueError: The purpose is empty or too long, the ttl is out of range, or a limit cannot hold.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        principal: Principal,
        agent: Agent,
        scope: Scope,
        purpose: str = "work of a coding agent",
        ttl: timedelta = timedelta(hours=8),
        limits: Sequence[Limit] = (),
        agents: Acting | None = None,
        prompts: str | None = None,
    ) -> None:
        self._enforcer = enforcer
        self._principal, self._agent = principal, agent
        check_task(purpose, scope=scope, ttl=ttl, limits=limits)
        self._scope, self._limits, self._agents = scope, tuple(limits), agents
        self._prompts = prompts
        self._purpose, self._ttl = " ".join(purpose.split())[:512], ttl
        self._outside = ToolGuards(enforcer, agents=agents, thread=current_thread)  # It checks them.
        self._sessions: dict[str, _Session] = {}
        self._ended: dict[str, None] = {}
        self._lock = threading.RLock()
        self._closed = False

    def answer(self, event: Mapping[str, object]) -> Answer:
        """Answer one event of a hook; whatever cannot be judged is refused.

        Args:
            event: What the hook was called with.
        """
        return answered(self._answer, event, self._enforcer.mode)

    def close(self) -> None:
        """End all sessions, and answer no more."""
        with self._lock:
            self._closed = True
            sessions = list(self._sessions.values())
            self._sessions.clear()
        for session in sessions:
            _end(session)

    def _answer(self, event: Mapping[str, object]) -> Answer:
        name, session_id = (event.get(key) for key in ("hook_event_name", "session_id"))
        if not isinstance(session_id, str) or not _ID.fullmatch(session_id):
            raise Denied("the session has no usable id", code="bad_arguments")
        if name == "SessionEnd":
            self._leave(session_id)
            return {}
        try:
            calls = self._enter(session_id, starts=name == "SessionStart")
        except Denied as denied:
            raise refused(self._outside, event, denied) from None
        return {} if name == "SessionStart" else calls.answer(event)

    def _enter(self, session_id: str, *, starts: bool) -> HookCalls:
        """Return the calls of a session, whose task is opened where it has none.

        Raises:
            Denied: It has ended, or there are too many.
        """
        with self._lock:
            session = self._sessions.get(session_id)
            if session is not None and starts and session.expires_at <= self._now():
                self._leave(session_id)
            elif session is not None:
                return session.calls
            if self._closed or (session_id in self._ended and not starts):
                raise Denied("the session has ended; start the agent again", code="task_ended")
            if len(self._sessions) >= _MAX_SESSIONS:
                self._leave_expired()
            session = self._sessions[session_id] = self._open(session_id)
            self._ended.pop(session_id, None)
            return session.calls

    def _open(self, session_id: str) -> _Session:
        is_probe = session_id.startswith(PROBE)
        opening = self._enforcer.task(
            "probe of the hooks by agent-identity doctor" if is_probe else f"{self._purpose} (session {session_id})",
            scope=Scope(PROBE_ALLOWED) if is_probe else self._scope,
            limits=() if is_probe else self._limits,
            ttl=min(self._ttl, timedelta(minutes=1)) if is_probe else self._ttl,
            principal=self._principal,
            agent=self._agent,
        )
        guards = ToolGuards(self._enforcer, agents=self._agents, workflow=current_session, thread=current_thread)
        context = copy_context()
        task = context.run(opening.__enter__)
        return _Session(
            context.run(HookCalls, guards, None if is_probe else self._prompts), opening, context, task.expires_at
        )

    def _leave(self, session_id: str) -> None:
        with self._lock:
            session = self._sessions.pop(session_id, None)
            self._ended[session_id] = None
            if len(self._ended) > _MAX_ENDED:
                del self._ended[next(iter(self._ended))]
        if session is not None:
            _end(session)

    def _leave_expired(self) -> None:
        """End the sessions whose time is over, which nobody ended.

        Raises:
            Denied: None is over.
        """
        over = [name for name, session in self._sessions.items() if session.expires_at <= self._now()]
        if not over:
            raise Denied(f"{_MAX_SESSIONS} sessions are open; end one of them", code="limit_exceeded")
        for name in over:
            self._leave(name)

    def _now(self) -> int:
        return self._enforcer.clock.wall_ns() // _NS


def _end(session: _Session) -> None:
    try:
        session.end()
    except Exception as error:  # noqa: BLE001  The others still have to end.
        _LOG.error("the end of a session could not be recorded: %s", safe_message(error))
