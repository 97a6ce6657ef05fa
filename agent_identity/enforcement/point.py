"""The parts of an enforcement point, put together once and shared by its guards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from agent_identity.authority import StateStore
from agent_identity.enforcement.ambience import Ambience
from agent_identity.enforcement.approval import Approval
from agent_identity.enforcement.approvals import Approvals
from agent_identity.enforcement.decisions import Mode
from agent_identity.enforcement.revoking import Revocations
from agent_identity.enforcement.task import Task
from agent_identity.enforcement.telemetry import Spans
from agent_identity.evidence import DigestKeys, Ledger
from agent_identity.identity import Clock
from agent_identity.policy import Inspector, Policy

__all__ = ["Point"]


@final
@dataclass(frozen=True, slots=True)
class Point:
    """Everything that a guard needs for a call; frozen, so that no guard can be talked into another mode."""

    ledger: Ledger
    digests: DigestKeys
    spans: Spans
    clock: Clock
    ambience: Ambience
    policy: Policy | None
    routes: Mapping[str, Callable[..., object] | Approval]
    inspectors: tuple[Inspector, ...]
    mode: Mode
    inline: bool
    state: StateStore
    revocations: Revocations
    approvals: Approvals

    def check(self, task: Task) -> None:
        """Return if the task lives and nothing of its chain is revoked; asked before every call and every resume.

        Raises:
            Denied: It does not.
        """
        task.lease.check(self.clock)
        self.revocations.check(task.chain)
