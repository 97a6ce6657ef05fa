"""Party members of records: made once for each task, and shared by its records."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypedDict

from agent_identity._authority.grants.grants import Grant
from agent_identity._identity.principals.principals import Agent as ActingAgent
from agent_identity._identity.principals.principals import Principal as Party
from agent_identity._record.parts import Agent, Hop, Principal, Resource, Task, replaced

_NS: Final = 1_000_000_000


class TaskFacts(NamedTuple):
    """The task members that all records under one grant share.

    Attributes:
        task: The task.
        principal: The principal.
        agent: The acting agent.
        chain: The agents from the root to the leaf, each with the hash of its grant.
    """

    task: Task
    principal: Principal
    agent: Agent
    chain: tuple[Hop, ...]


class CallFacts(NamedTuple):
    """Members of a call known before its body: in the intent, or in the detail of a refusal.

    Attributes:
        resources: The resources that the tool touches, with the digests of their names.
        workflow: The framework run of the call.
    """

    resources: tuple[Resource, ...] | None = None
    workflow: str | None = None


class Parties(TypedDict, total=False):
    """The task members of a record; outside any task ``attribution`` alone."""

    attribution: Literal["none"]
    task: Task
    principal: Principal
    agent: Agent
    chain: tuple[Hop, ...]


def parties(facts: TaskFacts | None, *, short: bool = False) -> Parties:
    """Return the task members of a record about a call or a refusal.

    Args:
        facts: The facts of the task; ``None`` outside any task.
        short: For an outcome.
    """
    if facts is None:
        return {"attribution": "none"}
    task, principal, agent, chain = _shortened(facts) if short else facts
    return {"task": task, "principal": principal, "agent": agent, "chain": chain}


@lru_cache(maxsize=256)  # One entry for each active hop, not for each call.
def _shortened(facts: TaskFacts) -> TaskFacts:
    """Return the facts for outcomes; roles and expiry are only in the intent."""
    principal = replaced(facts.principal, roles=None)
    return TaskFacts(Task(id=facts.task.id), principal, facts.agent, facts.chain)


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
    return TaskFacts(
        task=Task(id=leaf.task_id, expires=str(leaf.expires_at * _NS), outer=outer),
        principal=principal_fact(leaf.principal),
        agent=agent_fact(leaf.agent),
        chain=tuple(Hop(id=grant.agent.id, grant=grant.hash) for grant in grants),
    )
