"""A2A: messages to other agents are guarded calls, their cards are pinned, and tasks belong to their principal.

Authority travels by :mod:`agent_identity.integrations.http.httpx` and :mod:`agent_identity.integrations.http.asgi`.
Needs the extra ``a2a``.
"""

from collections.abc import AsyncIterator
from typing import Final, cast, final

from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.calls import Call, CallRequest, Shown
from agent_identity._enforcement.common import off_loop
from agent_identity._enforcement.inventory import INSTRUCTIONS, Definition, Observation
from agent_identity._identity.common import check_id
from agent_identity._identity.principals import Principal
from agent_identity.canonical import encode
from agent_identity.errors import Denied

try:
    from a2a.auth.user import UnauthenticatedUser, User
    from a2a.client import A2AClientError, ClientConfig, ClientFactory
    from a2a.helpers import get_message_text
    from a2a.server.routes import DefaultServerCallContextBuilder
    from a2a.types import AgentCard, SendMessageRequest, StreamResponse, TaskState
    from google.protobuf.json_format import MessageToDict
except ModuleNotFoundError as error:
    raise ImportError(f"the module {error.name} is missing; pip install 'agent-identity-otel[a2a]'") from error

__all__ = ["CallerContexts", "RemoteAgent"]

_MAX_EVENTS: Final = 10_000
_MAX_BYTES: Final = 16 << 20
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
            authority of the task along.

    Raises:
        TypeError: The name is no text.
        ValueError: The name, or the id of a skill, is unfit for records, or two skills have one id.
    """

    def __init__(self, enforcer: Enforcer, name: str, card: AgentCard, config: ClientConfig) -> None:
        self._guard = enforcer.guard(f"{name}/send_message", kind="agent", server=name)
        self._guard.declare()
        self._client = ClientFactory(config).create(card)
        self._inventory = enforcer.inventory
        skills = {check_id(f"skill/{skill.id}", "skill"): Definition.of(MessageToDict(skill)) for skill in card.skills}
        if len(skills) != len(card.skills):  # The inventory would see one of them alone.
            raise ValueError("the card has two skills of one id; use a card in which each has its own")
        place = _place(card)
        skills[INSTRUCTIONS] = Definition.of({"instructions": card.description})
        self._seen = Observation(name, "http", place, card.name[:256], card.version[:256], skills)

    async def send(self, request: SendMessageRequest) -> list[StreamResponse]:
        """Send a message, and return everything that is answered, once all of it has been inspected.

        Raises:
            A2AClientError: The message could not be sent, or the answer has more than 10,000 events or 16 MiB.
            Denied: The message may not be sent, or the answer is withheld.
            EvidenceError: The call could not be recorded, and nothing was sent.
        """
        sent = SendMessageRequest()
        sent.CopyFrom(request)

        async def body(_: Call) -> Shown:
            events = await _all_of(self._client.send_message(sent))
            states = [(event.task if event.HasField("task") else event.status_update).status.state for event in events]
            failed = next((state for state in states if state in _FAILED), None)
            failure = None if failed is None else A2AClientError(TaskState.Name(failed))
            return Shown(events, [MessageToDict(event) for event in events], failure)

        arguments = {"text": get_message_text(sent.message), "request": MessageToDict(sent)}
        refusal = await off_loop(self._moved)
        answered = await self._guard.run_async(CallRequest(arguments, can_route=False, refusal=refusal), body)
        return cast("list[StreamResponse]", answered)

    def _moved(self) -> Denied | None:
        try:
            self._inventory.sight(self._seen, pin=True)
            known = self._inventory.find(self._seen.name)
            if known is not None:
                known.check_place(self._seen.name, self._seen.transport, self._seen.place)
        except Denied as denied:
            return denied
        return None


def _place(card: AgentCard) -> str:
    """Return the address of an agent, or the digest of several; a tenant is part of an address."""
    pairs = sorted({(interface.url, interface.tenant) for interface in card.supported_interfaces})
    urls = [url for url, _ in pairs]
    if any(tenant for _, tenant in pairs):
        return Definition.of({"urls": urls, "tenants": [tenant for _, tenant in pairs]}).digest
    return urls[0] if len(urls) == 1 else Definition.of({"urls": urls}).digest


async def _all_of(answer: AsyncIterator[StreamResponse]) -> list[StreamResponse]:
    """Return an answer as a whole.

    Raises:
        A2AClientError: It is too long to keep.
    """
    events: list[StreamResponse] = []
    size = 0
    async for event in answer:
        events.append(event)
        size += event.ByteSize()
        if size > _MAX_BYTES or len(events) > _MAX_EVENTS:
            raise A2AClientError("the answer is too long; have it in several messages")
    return events


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
        return UnauthenticatedUser() if task is None else _Caller(task.principal)


@final
class _Caller(User):
    def __init__(self, principal: Principal) -> None:
        self._name = encode([principal.kind, principal.issuer, principal.id]).decode()

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def user_name(self) -> str:
        return self._name
