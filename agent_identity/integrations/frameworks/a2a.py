"""A2A: messages to other agents are guarded calls, their cards are pinned, and tasks belong to their principal.

Authority travels by :mod:`agent_identity.integrations.http.httpx` and :mod:`agent_identity.integrations.http.asgi`.
Needs the extra ``a2a``.
"""

from functools import partial
from typing import Final, cast, final

from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.calls import Call, CallRequest, Shown
from agent_identity._enforcement.common import off_loop
from agent_identity._enforcement.inventory import INSTRUCTIONS, Definition, Observation, place_of
from agent_identity._identity.common import check_id
from agent_identity.canonical import encode

try:
    from a2a.auth.user import UnauthenticatedUser, User
    from a2a.client import A2AClientError, ClientConfig, ClientFactory
    from a2a.helpers import get_message_text
    from a2a.server.routes.common import DefaultServerCallContextBuilder, StarletteUser
    from a2a.types import AgentCard, SendMessageRequest, StreamResponse, TaskState
    from google.protobuf.json_format import MessageToDict
    from starlette.authentication import SimpleUser
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
        addresses = sorted({(interface.url, interface.tenant) for interface in card.supported_interfaces})
        place = place_of(addresses[0][0] if len(addresses) == 1 and not addresses[0][1] else addresses)
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
            events, size = list[StreamResponse](), 0
            async for event in self._client.send_message(sent):
                events.append(event)
                size += event.ByteSize()
                if size > _MAX_BYTES or len(events) > _MAX_EVENTS:
                    raise A2AClientError("the answer is too long; have it in several messages")
            states = [(event.task if event.HasField("task") else event.status_update).status.state for event in events]
            failure = next((A2AClientError(TaskState.Name(state)) for state in states if state in _FAILED), None)
            return Shown(events, [MessageToDict(event) for event in events], failure)

        arguments = {"text": get_message_text(sent.message), "request": MessageToDict(sent)}
        refusal = await off_loop(partial(self._inventory.refusal, self._seen))
        answered = await self._guard.run_async(CallRequest(arguments, can_route=False, refusal=refusal), body)
        return cast("list[StreamResponse]", answered)


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
