"""Party members of records: made once for each task, and shared by its records."""

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypedDict

from agent_identity._authority.grants.grants import Grant
from agent_identity._identity.principals.principals import Agent as ActingAgent
from agent_identity._identity.principals.principals import Principal as Party
from agent_identity._record.parts import Agent, Hop, Principal, Resource, Task, replaced

_NS: Final = 1_000_000_000


class Parties(TypedDict):
    """The task members of a record."""

    task: Task
    principal: Principal
    agent: Agent
    chain: tuple[Hop, ...]


class NoParties(TypedDict):
    """What a record outside any task says in their place."""

    attribution: Literal["none"]


NO_TASK: Final[NoParties] = {"attribution": "none"}


class TaskFacts(NamedTuple):
    """The task members that all records under one grant share.

    Attributes:
        task: The task.
        principal: The principal.
        agent: The acting agent.
        chain: The agents from the root to the leaf, each with the hash of its grant.
        whole: All of them, for intents and for records about the task.
        short: The same for outcomes: roles and expiry are only in the intent.
    """

    task: Task
    principal: Principal
    agent: Agent
    chain: tuple[Hop, ...]
    whole: Parties
    short: Parties


class CallFacts(NamedTuple):
    """Members of a call known before its body: in the intent, or in the detail of a refusal.

    Attributes:
        resources: The resources that the tool touches, with the digests of their names.
        workflow: The framework run of the call.
    """

    resources: tuple[Resource, ...] | None = None
    workflow: str | None = None


def principal_fact(principal: Party) -> Principal:
    """Return the principal member of a record."""
    return Principal(
        id=principal.id,
        kind=principal.kind,
        provenance=principal.provenance,
        issuer=principal.issuer,
        roles=tuple(principal.roles) or None,
        via=tuple(principal.via) or None,
    )


def agent_fact(agent: ActingAgent) -> Agent:
    """Return the agent member of a record."""
    return Agent(id=agent.id, owner=agent.owner, version=agent.version)


def task_facts(grants: Sequence[Grant], outer: str | None = None) -> TaskFacts:
    """Return the task members of every record under the last of these grants.

    Args:
        grants: The chain.
        outer: The task whose body opened this one.
    """
    leaf = grants[-1]
    task = Task(id=leaf.task_id, expires=str(leaf.expires_at * _NS), outer=outer)
    principal, agent = principal_fact(leaf.principal), agent_fact(leaf.agent)
    chain = tuple(Hop(id=grant.agent.id, grant=grant.hash) for grant in grants)
    whole: Parties = {"task": task, "principal": principal, "agent": agent, "chain": chain}
    short: Parties = {**whole, "task": Task(id=leaf.task_id), "principal": replaced(principal, roles=None)}
    return TaskFacts(task, principal, agent, chain, whole, short)
