"""What a server asks of its client: model output (sampling), what a person types (elicitation), and folders (roots).

Such a request is a guarded call as well, with the server as the one who asks. It comes by itself, so that its task is
that of the call which the server is answering: the session keeps which calls are under way. Where the SDK 2.x has the
server ask in place of a result, the request is known by itself.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final, cast, final

from mcp import ClientSession, types
from opentelemetry.context import Context

from agent_identity.enforcement import Call, CallRequest, Enforcer, Shown
from agent_identity.enforcement.ambience import Attachment, marked_as_here
from agent_identity.errors import Denied, EvidenceError
from agent_identity.integrations.mcp.binding import ASKED, asked_by
from agent_identity.integrations.mcp.sdk import plain, refusal_data
from agent_identity.integrations.mcp.servers import McpServer

__all__ = ["Answers", "DeclinedError"]

_Callback = Callable[..., Awaitable[object]]

_CALLBACKS: Final = {
    "sampling/createMessage": "sampling",
    "elicitation/create": "elicitation",
    "roots/list": "list_roots",
}
_HANDLERS: Final = "_task_handlers"
_MOST: Final = 256
"""Requests in place of results that are remembered, at most; who asks for more is refused for want of a task."""


class DeclinedError(Exception):
    """What the client answered is an error, by its own word."""


@final
class Answers:
    """The way of every request of the server of one session, and of its answer.

    Args:
        enforcer: Whose tasks count.
        server: Who asks.
    """

    __slots__ = ("_enforcer", "_expected", "_server", "_under_way")

    def __init__(self, enforcer: Enforcer, server: McpServer) -> None:
        self._enforcer = enforcer
        self._server = server
        self._under_way: list[Call] = []
        self._expected: list[tuple[object, Context]] = []

    def protect(self, session: ClientSession) -> dict[str, object]:
        """Guard the callbacks of a session, and return what its class needs for that.

        Callbacks of the SDK itself, which answer that nothing of the kind is supported, stay as they are, so that the
        session does not tell the server otherwise.
        """
        dispatch = cast("_Callback | None", getattr(type(session), "dispatch_input_request", None))
        if dispatch is None:
            for method in ASKED:
                self._protect_callback(session, method)
            _without_background(session)
            return {}

        async def dispatch_input_request(found: ClientSession, context: object, request: object) -> object:
            asked = plain(request)
            method = str(asked.get("method"))
            if _callback(found, method) is None:
                return await dispatch(found, context, request)
            params = cast("dict[str, object]", asked.get("params") or {})
            return await self._answer(method, params, request, lambda: dispatch(found, context, request))

        return {"dispatch_input_request": dispatch_input_request}

    @contextmanager
    def under_way(self, call: Call) -> Generator[None]:
        """Let the server ask for the task of a call until it is answered."""
        self._under_way.append(call)
        try:
            yield
        finally:
            self._under_way.remove(call)

    def expect(self, result: object, around: Context) -> None:
        """Know the requests that stand in place of a result, for the task of whoever called."""
        for request in cast("Mapping[str, object]", getattr(result, "input_requests", None) or {}).values():
            self._expected.append((request, around))
        del self._expected[:-_MOST]

    def _protect_callback(self, session: ClientSession, method: str) -> None:
        before = _callback(session, method)
        if before is None:
            return

        async def callback(context: object, *params: object) -> object:
            asked = plain(params[0]) if params else {}
            return await self._answer(method, asked, None, lambda: before(context, *params))

        setattr(session, f"_{_CALLBACKS[method]}_callback", callback)

    async def _answer(
        self, method: str, params: Mapping[str, object], request: object, ask: Callable[[], Awaitable[object]]
    ) -> object:
        """Return what the client answers, or the refusal."""
        try:
            return await self._guarded(method, params, request, ask)
        except Denied as denied:
            refused = denied
        except EvidenceError as error:
            refused = Denied("the request could not be recorded", code=error.code)
        return refusal_data(refused)

    async def _guarded(
        self, method: str, params: Mapping[str, object], request: object, ask: Callable[[], Awaitable[object]]
    ) -> object:
        target = asked_by(self._server.name, method, params)
        guard = self._enforcer.guard(target.name, kind="mcp", server=self._server.name)
        context, refusal = self._found(target.name, request)

        async def answer(_: Call) -> Shown:
            result = await ask()
            return Shown(result, plain(result), DeclinedError() if isinstance(result, types.ErrorData) else None)

        around = Attachment(marked_as_here(context))
        try:
            if refusal is not None and guard.mode == "enforce":
                raise await guard.refuse_async(target.values, refusal)
            return await guard.run_async(CallRequest(target.values, can_route=False), answer)
        finally:
            around.release()

    def _found(self, name: str, request: object) -> tuple[Context, Denied | None]:
        """Return the context of the task that a request belongs to, and why there is none, if there are several."""
        for index, (expected, around) in enumerate(self._expected):
            if expected is request:
                del self._expected[index]
                return around, None
        tasks = {id(call.task): call.context for call in self._under_way}
        if len(tasks) > 1:
            text = f"{name}: expected calls of one task under way, got those of several; use a session for each task"
            return Context(), Denied(text, code="several_tasks")
        # Without a call there is no task: that in which the session was opened has not asked for anything.
        return next(iter(tasks.values()), None) or Context(), None


def _callback(session: ClientSession, method: str) -> _Callback | None:
    """Return the callback that an application gave; ``None`` for that of the SDK."""
    name = _CALLBACKS.get(method)
    if name is None:
        return None
    found = cast("_Callback | None", getattr(session, f"_{name}_callback", None))
    default = cast("object", getattr(import_module("mcp.client.session"), f"_default_{name}_callback", None))
    return None if found is default else found


def _without_background(session: ClientSession) -> None:
    """Have requests that go on in the background declined, as 1.x does by default: they outlive their task."""
    handlers = cast("object", getattr(session, _HANDLERS, None))
    if handlers is not None:
        usual = cast("Any", type(handlers)())
        names = ("augmented_sampling", "augmented_elicitation")
        changed = dataclasses.replace(cast("Any", handlers), **{name: getattr(usual, name) for name in names})
        setattr(session, _HANDLERS, changed)
