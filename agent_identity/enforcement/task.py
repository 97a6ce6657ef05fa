"""The task: one unit of work, done by one agent for one principal under one grant."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, final

from agent_identity.authority import Chain, Grant, Lease, Limit, Scope
from agent_identity.canonical import RecordValue
from agent_identity.enforcement.handed import Handed
from agent_identity.identity import Agent, Principal, Signer

__all__ = ["Tally", "Task"]

_NS: Final = 1_000_000_000


@final
class Tally:
    """Counts what happened under one task; the sums stand in its ``task_end`` record."""

    __slots__ = ("_lock", "concluded", "intents", "outcomes")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.intents = 0
        self.outcomes = 0
        self.concluded = 0

    def intent(self) -> None:
        """Count an intent."""
        with self._lock:
            self.intents += 1

    def outcome(self, *, of_intent: bool) -> None:
        """Count an outcome; one of an intent closes that intent, a refusal stands alone."""
        with self._lock:
            self.outcomes += 1
            self.concluded += of_intent


@final
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A live unit of work and the authority that ends with it.

    Received from :meth:`Enforcer.task` and :meth:`Enforcer.delegate`; never built by users. Holding the
    object gives no authority: each call asks the task registry whether the task still lives.

    Attributes:
        id: The task's id; equal for a task and everything delegated under it.
        purpose: Why the task exists, as declared.
        principal: On whose behalf.
        agent: Who acts.
        chain: The verified grants from the root to this task's own.
        expires_at: When the authority ends at the latest, in Unix seconds.
        limits: How often, how fast and how much; one account for the task and everything delegated under it.
    """

    id: str
    purpose: str
    principal: Principal
    agent: Agent
    chain: Chain
    expires_at: int
    lease: Lease = field(repr=False)
    holder: Signer | None = field(repr=False)
    tally: Tally = field(repr=False)
    handed: Handed = field(repr=False)
    claims: Mapping[str, RecordValue] = field(repr=False)
    close: Callable[["Task"], None] = field(repr=False)
    limits: tuple[Limit, ...] = ()

    @property
    def grant(self) -> Grant:
        """The task's own grant, the leaf of the chain."""
        return self.chain.leaf

    @property
    def scope(self) -> Scope:
        """What the grant covers."""
        return self.chain.leaf.scope

    def end(self) -> None:
        """End the task and everything delegated under it, at once and in every thread; idempotent."""
        self.close(self)


def task_claims(grants: Sequence[Grant]) -> dict[str, RecordValue]:
    """Return what every record under the last of these grants says about its task."""
    leaf = grants[-1]
    return {
        "task": {"id": leaf.task_id, "expires": str(leaf.expires_at * _NS)},
        "principal": leaf.principal.to_claim(),
        "agent": leaf.agent.to_claim(),
        "chain": [{"id": grant.agent.id, "grant": grant.hash} for grant in grants],
    }
