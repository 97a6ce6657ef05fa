"""Requests of a server to its client: model output (sampling), user input (elicitation), and folders (roots).

Such a request is a guarded call as well, with the server as the requester. It arrives by itself, so its task is
that of the call that the server is answering: the session tracks the running calls. If the SDK 2.x puts the
server's request in place of a result, the request itself identifies the call.

A session of 2.x sends every such request through ``dispatch_input_request``, which is guarded. In 1.x nothing public
precedes the callbacks, so they are guarded before a session is made with them; a session that would declare
others is refused before it is guarded.
"""

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Final, cast, final

from mcp import ClientSession, types
from opentelemetry.context import Context

from agent_identity import Enforcer
from agent_identity.adapters import Call, CallRequest, Shown, resumed
from agent_identity.errors import ConfigurationError, Denied, EvidenceError
from agent_identity.integrations.mcp.binding import ASKED, asked_by, members
from agent_identity.integrations.mcp.sdk import plain, refusal_data
from agent_identity.integrations.mcp.servers import McpServer

__all__ = ["Answers", "DeclinedError"]

_Callback = Callable[..., Awaitable[object]]

_CALLBACKS: Final = {
    "sampling_callback": "sampling/createMessage",
    "elicitation_callback": "elicitation/create",
    "list_roots_callback": "roots/list",
}
"""The callback options of a session, with the methods that they answer."""
_MOST: Final = 256
"""Maximum number of remembered requests in place of results; further ones are refused without a task."""


class DeclinedError(Exception):
    """The client itself answered with an error."""


@final
class Answers:
    """Guards the requests of the server of one session, and their answers.

    Args:
        enforcer: The enforcer of the tasks.
        server: The requesting server.
    """

    __slots__ = ("_enforcer", "_expected", "_server", "_under_way", "_unsupported", "_wrapped")

    def __init__(self, enforcer: Enforcer, server: McpServer) -> None:
        self._enforcer = enforcer
        self._server = server
        self._under_way: list[Call] = []
        self._expected: list[tuple[object, Context]] = []
        self._wrapped: set[str] = set()
        self._unsupported: frozenset[str] = frozenset()  # As the session declared at its connection, if we saw that.

    def options(self, options: Mapping[str, object]) -> dict[str, object]:
        """Return the session options, with guarded callbacks if the session itself cannot be guarded."""
        changed = dict(options)
        for name, method in _CALLBACKS.items():
            callback = cast("_Callback | None", options.get(name))
            if callback is not None and _dispatch_of(ClientSession) is None:
                changed[name] = self._callback(method, callback)
        return changed

    def overrides(self, kind: type[ClientSession]) -> dict[str, object]:
        """Return the additional members of the class of a guarded session."""
        dispatch = _dispatch_of(kind)
        if dispatch is None:
            return {}

        async def dispatch_input_request(session: ClientSession, context: object, request: object) -> object:
            facts = plain(request)
            method, ask = str(facts.get("method")), partial(dispatch, session, context, request)
            if method not in ASKED or method in self._unsupported:
                return await ask()
            return await self._answer(method, members(facts.get("params")), request, ask)

        return {"dispatch_input_request": dispatch_input_request}

    def check(self, session: ClientSession) -> None:
        """Refuse a session of 1.x that was made with unguarded callbacks.

        Raises:
            ConfigurationError: It was, or its callbacks are unknown.
        """
        if _dispatch_of(ClientSession) is None:
            self.connect(_declared(session))

    def connect(self, capabilities: Mapping[str, object]) -> None:
        """Check the declared capabilities of a session, before they are sent.

        Raises:
            ConfigurationError: It would answer unguarded.
        """
        supported = {method for method, name in ASKED.items() if capabilities.get(name) is not None}
        if _dispatch_of(ClientSession) is not None:
            self._unsupported = frozenset(ASKED.keys() - supported)
            return
        if supported - self._wrapped:
            raise ConfigurationError(
                "the session has unguarded callbacks for sampling, elicitation or roots; make it with "
                "protected_session(...)"
            )
        if members(capabilities.get("tasks")).get("requests") is not None:
            raise ConfigurationError(
                "the session answers in the background; make it without task handlers for sampling and elicitation"
            )

    @contextmanager
    def under_way(self, call: Call) -> Generator[None]:
        """Let the server request input for the task of a call until it is answered."""
        self._under_way.append(call)
        try:
            yield
        finally:
            self._under_way.remove(call)

    def expect(self, result: object, around: Context) -> None:
        """Register the requests in place of a result, for the task of the caller."""
        for request in cast("Mapping[str, object]", getattr(result, "input_requests", None) or {}).values():
            self._expected.append((request, around))
        del self._expected[:-_MOST]

    def _callback(self, method: str, before: _Callback) -> _Callback:
        self._wrapped.add(method)

        async def callback(context: object, *params: object) -> object:
            facts = plain(params[0]) if params else {}
            return await self._answer(method, facts, None, partial(before, context, *params))

        return callback

    async def _answer(
        self, method: str, params: Mapping[str, object], request: object, ask: Callable[[], Awaitable[object]]
    ) -> object:
        """Return the client's answer, or the refusal."""
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

        with resumed(context):
            if refusal is not None and guard.mode == "enforce":
                raise await guard.refuse_async(target.values, refusal)
            return await guard.run_async(CallRequest(target.values, can_route=False), answer)

    def _found(self, name: str, request: object) -> tuple[Context, Denied | None]:
        """Return the context of the task of a request, with a refusal if several are possible."""
        for index, (expected, around) in enumerate(self._expected):
            if expected is request:
                del self._expected[index]
                return around, None
        tasks = {id(call.task): call.execution.context for call in self._under_way}
        if len(tasks) > 1:
            text = f"{name}: calls of several tasks are under way; use a session for each task"
            return Context(), Denied(text, code="several_tasks")
        # Without a running call there is no task: the task that opened the session has requested nothing.
        return next(iter(tasks.values()), None) or Context(), None


class _UnsentError(Exception):
    """Raised instead of an answer, where nothing is sent."""


def _declared(session: ClientSession) -> Mapping[str, object]:
    """Return the capabilities that a session of 1.x would declare, by its callbacks; nothing is sent.

    Raises:
        ConfigurationError: It does not declare them at once.
    """
    sent: list[Mapping[str, object]] = []

    class Unsent:
        """The session, without sending."""

        def __getattr__(self, name: str) -> object:
            return getattr(session, name)

        async def send_request(self, request: object, *_: object, **__: object) -> None:
            sent.append(plain(request))
            raise _UnsentError

    # As the SDK does, because a subclass may declare less than its options.
    connecting = ClientSession.initialize(cast("ClientSession", Unsent()))
    with suppress(Exception):  # Any error: only the request that it would have sent counts.
        connecting.send(None)
    connecting.close()
    if not sent:
        raise ConfigurationError(
            "the session does not say which callbacks it has; make it with protected_session(...), of a supported "
            "version of the SDK"
        )
    return members(members(sent[0].get("params")).get("capabilities"))


def _dispatch_of(kind: type[ClientSession]) -> _Callback | None:
    """Return the method of 2.x through which every request of a server passes."""
    return cast("_Callback | None", getattr(kind, "dispatch_input_request", None))
