"""A2A: messages to other agents are guarded calls, their cards are pinned, and tasks belong to their principal.

Authority travels by :mod:`agent_identity.integrations.http.httpx` and :mod:`agent_identity.integrations.http.asgi`.
Needs the extra ``a2a``.
"""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Final, NoReturn, cast, final

from agent_identity import Enforcer
from agent_identity.adapters import Call, CallRequest, Definition, Observation, Shown, check_id, off_loop, tool_name
from agent_identity.canonical import encode

try:
    import httpx
    from a2a.auth.user import UnauthenticatedUser, User
    from a2a.client import A2AClientError, ClientCallContext, ClientConfig, ClientFactory
    from a2a.helpers import get_message_text
    from a2a.server.routes.common import DefaultServerCallContextBuilder, StarletteUser
    from a2a.types import AgentCard, SendMessageRequest, StreamResponse, TaskState
    from google.protobuf.json_format import MessageToDict
    from starlette.authentication import SimpleUser
except ModuleNotFoundError as error:
    raise ImportError(f"the module {error.name} is missing; run pip install '.[a2a]' in the checkout") from error

__all__ = ["CallerContexts", "RemoteAgent"]

_MAX_EVENTS: Final = 10_000
_MAX_BYTES: Final = 16 << 20
_LOOK_SECONDS: Final = 0.5
_TOO_LONG: Final = "the answer is too long; have it in several messages"
_PLAIN: Final = {"Accept-Encoding": "identity"}
"""A few bytes of a compressed answer may be gigabytes, which httpx unpacks at once."""

_SENDS: Final[ContextVar[bool]] = ContextVar("agent_identity_a2a_sends", default=False)
"""True for the requests of a message to another agent."""

_FAILED: Final = (TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_REJECTED)


@final
class RemoteAgent:
    """Another agent. A message to it is a call of the tool ``name/send_message``, whose scope must cover it.

    Its card is pinned in the inventory when it is first seen: its addresses, and each skill with its description.

    Args:
        enforcer: The enforcer of the tasks.
        name: Its name in scopes, policies, records and the inventory.
        card: Its card.
        config: The configuration of the client; an ``httpx_client`` with an ``AsyncDelegationTransport`` sends the
            authority of the task along. The client gets an event hook, which bounds the answers to these messages.

    Raises:
        TypeError: The name is no text.
        ValueError: The name, or the id of a skill, is unfit for records, or two skills have one id.
    """

    def __init__(self, enforcer: Enforcer, name: str, card: AgentCard, config: ClientConfig) -> None:
        self._guard = enforcer.guard(f"{name}/send_message", kind="agent", server=name)
        self._guard.declare()
        self._http = config.httpx_client or httpx.AsyncClient()
        self._client = ClientFactory(replace(config, httpx_client=self._http)).create(card)
        self._inventory = enforcer.inventory
        skills = {f"skill/{skill.id}": Definition.of(MessageToDict(skill)) for skill in card.skills}
        for skill in skills:
            check_id(tool_name(name, skill), "skill")
        if len(skills) != len(card.skills):  # The inventory would see one of them alone.
            raise ValueError("the card has two skills of one id; use a card in which each has its own")
        addresses = sorted({(interface.url, interface.tenant) for interface in card.supported_interfaces})
        place = Observation.place_of(addresses[0][0] if len(addresses) == 1 and not addresses[0][1] else addresses)
        skills[Observation.INSTRUCTIONS] = Definition.of({"instructions": card.description})
        self._seen = Observation(name, "http", place, card.name[:256], card.version[:256], skills)

    async def send(self, request: SendMessageRequest) -> list[StreamResponse]:
        """Send a message, and return everything that is answered, once all of it has been inspected.

        Raises:
            A2AClientError: The message could not be sent, or the answer has more than 10,000 events or 16 MiB, or is
                compressed.
            Denied: The message may not be sent, the task ended before the answer did, or the answer is withheld.
            EvidenceError: The call could not be recorded, and nothing was sent.
        """
        sent = SendMessageRequest()
        sent.CopyFrom(request)

        async def body(call: Call) -> Shown:
            events = await self._answer(call, sent)
            states = [(event.task if event.HasField("task") else event.status_update).status.state for event in events]
            failure = next((A2AClientError(TaskState.Name(state)) for state in states if state in _FAILED), None)
            return Shown(events, [MessageToDict(event) for event in events], failure)

        arguments = {"text": get_message_text(sent.message), "request": MessageToDict(sent)}
        refusal = await off_loop(partial(self._inventory.refusal, self._seen))
        answered = await self._guard.run_async(CallRequest(arguments, can_route=False, refusal=refusal), body)
        return cast("list[StreamResponse]", answered)

    async def _events(self, message: SendMessageRequest) -> list[StreamResponse]:
        _SENDS.set(True)
        hooks = self._http.event_hooks["response"]
        if _bound not in hooks:  # The application may have set others since.
            hooks.insert(0, _bound)
        events, size = list[StreamResponse](), 0
        async for event in self._client.send_message(message, context=ClientCallContext(service_parameters=_PLAIN)):
            events.append(event)
            size += event.ByteSize()
            if size > _MAX_BYTES or len(events) > _MAX_EVENTS:
                raise A2AClientError(_TOO_LONG)
        return events

    async def _answer(self, call: Call, message: SendMessageRequest) -> list[StreamResponse]:
        """Send a message, and stop waiting for its answer once the task of the call has ended."""

        async def watch() -> NoReturn:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                await self._guard.check_async(call)

        reader, watcher = asyncio.create_task(self._events(message)), asyncio.create_task(watch())
        try:
            await asyncio.wait((reader, watcher), return_when=asyncio.FIRST_COMPLETED)
            if not watcher.done():
                await self._guard.check_async(call)
            return reader.result() if reader.done() else watcher.result()
        finally:
            reader.cancel()
            watcher.cancel()
            await asyncio.gather(reader, watcher, return_exceptions=True)


async def _bound(response: httpx.Response) -> None:
    """Bound the bytes of an answer while they are read; the client may send other requests as well."""
    if not _SENDS.get():
        return
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise A2AClientError("the answer is compressed, which nobody asked for; have the server send it plain")
    response.stream = _Bounded(cast("httpx.AsyncByteStream", response.stream))


class _Bounded(httpx.AsyncByteStream):
    """The bytes of an answer; too many are an error as soon as they come."""

    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._inner:
            size += len(part)
            if size > _MAX_BYTES:
                raise A2AClientError(_TOO_LONG)
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


@final
class CallerContexts(DefaultServerCallContextBuilder):
    """Makes the tasks of A2A belong to the principal of the request, so that nobody else reads or cancels them.

    Args:
        enforcer: The enforcer of the receiving agent.
    """

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer

    def build_user(self, request: object) -> User:  # noqa: ARG002  The task knows better than the request.
        """Return the principal of the current task."""
        task = self._enforcer.current_task
        if task is None:
            return UnauthenticatedUser()
        name = encode([task.principal.kind, task.principal.issuer, task.principal.id]).decode()
        return StarletteUser(SimpleUser(name))
