"""Handoffs of the OpenAI Agents SDK under guard: their functions get what a model wrote, as tools do."""

import logging
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, cast, final

from agents import AgentBase, Handoff, RunContextWrapper

from agent_identity.adapters import Call, CallRequest, ToolCall, account, refusal
from agent_identity.errors import AgentIdentityError, Denied
from agent_identity.integrations.frameworks.openai_agents.arguments import parse, text_for
from agent_identity.integrations.frameworks.openai_agents.owners import Owner, owner_of
from agent_identity.integrations.frameworks.tool_schemas import with_defaults

__all__ = ["GuardedHandoff", "note_listing"]

_AnyAgent: TypeAlias = AgentBase[Any]
_AnyHandoff: TypeAlias = Handoff[Any, Any]
_Context: TypeAlias = RunContextWrapper[Any]
_LOG: Final = logging.getLogger("agent_identity")

_LISTING: ContextVar["weakref.ref[_AnyAgent] | None"] = ContextVar("agent_identity_openai_listing", default=None)
"""The agent whose tools and handoffs were listed last in this run; it makes the next handoff."""

_REFUSED: ContextVar[str | None] = ContextVar("agent_identity_openai_refused", default=None)
"""The answer for the handoff that was just refused."""


def note_listing(agent: _AnyAgent) -> None:
    """Know which agent makes the next handoff of this run.

    Args:
        agent: The agent.
    """
    _LISTING.set(weakref.ref(agent))


@final
class GuardedHandoff:
    """A handoff that passes the guard if it takes arguments, and whose target is then protected.

    Without arguments it is no call, and its function gets none that a model makes up.

    Args:
        handoff: The handoff.
        owner: The protection of the agent that has it.
        reach: Protects the target, which may be known only when the handoff runs.

    Attributes:
        original: What the handoff does.
        owner: See above.
    """

    def __init__(self, handoff: _AnyHandoff, owner: Owner, reach: Callable[[_AnyAgent], None]) -> None:
        self.original: Final[Callable[..., Awaitable[_AnyAgent]]] = handoff.on_invoke_handoff
        self.owner: Final = owner
        self._reach = reach
        self._name = handoff.tool_name
        self._message = handoff.get_transfer_message
        schema = cast("Mapping[str, object]", handoff.input_json_schema or {})
        self._schema = schema
        self._takes = bool(schema.get("properties") or schema.get("additionalProperties"))

    async def __call__(self, ctx: _Context, input_json: str | None = None) -> _AnyAgent:
        """Hand the run on, or back to the agent that asked if the call is refused; called by the SDK."""
        _REFUSED.set(None)
        if not self._takes:
            return self._reached(await self.original(ctx, input_json if input_json is None else "{}"))
        raised: list[BaseException] = []
        try:
            return self._reached(await self._judged(ctx, input_json, raised))
        except AgentIdentityError as error:
            if error in raised:
                raise
            denied = error if isinstance(error, Denied) else Denied("the call did not run", code=error.code)
        except Exception as error:
            if error in raised:
                raise
            _LOG.exception("the guard of %r failed, the call is refused", self._name)
            denied = Denied("the guard failed, and the call did not run", code="guard_failed")
        return self._refused(denied)

    def message(self, agent: _AnyAgent) -> str:
        """Return the text with which the SDK answers the handoff.

        Args:
            agent: The target.
        """
        return _REFUSED.get() or self._message(agent)

    async def _judged(self, ctx: _Context, text: str | None, raised: list[BaseException]) -> _AnyAgent:
        parsed, agent = parse(text), _listing()
        guards = (owner_of(agent) or self.owner).guards
        if parsed is None:
            unread = Denied(f"{self._name}: the arguments are no JSON object; write one", code="bad_arguments")
            request = CallRequest({"input": text}, can_route=False, refusal=unread)
        else:
            request = CallRequest(*with_defaults(parsed, self._schema), can_route=False)
        target: list[_AnyAgent] = []

        async def body(call: Call) -> str:
            is_kept = parsed is None or guards.enforcer.mode == "monitor"
            try:
                target.append(
                    await self.original(ctx, text if is_kept else text_for(call.arguments, text or "{}", parsed or {}))
                )
            except BaseException as error:
                raised.append(error)
                raise
            return self._message(target[0])

        acting = None if agent is None else agent.name
        await guards.run_async(ToolCall(self._name, request, acting, "handoff", schema=self._schema), body)
        return target[0]

    def _reached(self, target: _AnyAgent) -> _AnyAgent:
        self._reach(target)
        # The SDK answers the call with this text.
        account(self.owner.guards.enforcer.current_task, [self._message(target)])
        return target

    def _refused(self, denied: Denied) -> _AnyAgent:
        """Return the agent that asked, which reads the refusal.

        Raises:
            Denied: Nobody knows which agent asked; the run ends.
        """
        agent = _listing()
        if agent is None:
            raise denied
        _REFUSED.set(refusal(denied))
        account(self.owner.guards.enforcer.current_task, [refusal(denied)])
        return agent


def _listing() -> _AnyAgent | None:
    known = _LISTING.get()
    return None if known is None else known()
