"""The shared parts of an enforcement point, assembled once for its guards."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias, final

from agent_identity._authority.registries.revocations import RevokedKind
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._guard.approvals.inbox import ApprovalInbox
from agent_identity._guard.approvals.service import Approvals
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.calls.call import Call
from agent_identity._guard.calls.limit_debits import SpentLimits
from agent_identity._guard.calls.process_facts import Renewals
from agent_identity._guard.calls.stopwatch import Stopwatch
from agent_identity._guard.common.failures import error_type
from agent_identity._guard.common.recorded_decisions import Mode
from agent_identity._guard.judging.known_tools import KnownTools
from agent_identity._guard.judging.revocations import Revocations
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.task_context import TaskContext
from agent_identity._guard.tasks.task_flow import Flows
from agent_identity._guard.telemetry.spans import Spans
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.principals.principals import Principal, principal_from_claim
from agent_identity._ledger.ledger import Ledger
from agent_identity._policy.decision.request import Inspector, Policy
from agent_identity._record.digests import DigestKeys
from agent_identity._record.parts import Ending
from agent_identity._record.pseudonyms import PSEUDONYM_PREFIX, Pseudonyms

OnTiming: TypeAlias = Callable[[Call, Ending, int], object]
"""A function that gets a call that is over, its ending, and the nanoseconds that the guard added to it."""

_LOG: Final = logging.getLogger("agent_identity")

_SHOWN_NS: Final = 60_000_000_000


@final
class Timings:
    """Observers of the time that the guard adds; while there are none, no call is measured.

    Attributes:
        observers: The functions. They run in the thread of the call, so they should only take note.
    """

    __slots__ = ("_complained", "observers")

    def __init__(self) -> None:
        self.observers: tuple[OnTiming, ...] = ()
        self._complained = False

    def observe(self, observer: OnTiming) -> None:
        """Report every further call to an observer."""
        self.observers = (*self.observers, observer)

    def report(self, call: Call, watch: Stopwatch, outcome: Ending) -> None:
        """Report a call that is over and was measured; an exception of an observer never affects the call."""
        watch.stop()
        total = watch.total_ns
        if total is None:
            return
        for observer in self.observers:
            try:
                observer(call, outcome, total)
            except Exception as error:  # noqa: BLE001 - See above.
                if not self._complained:
                    self._complained = True
                    _LOG.warning("an observer of timings raised %s; further ones are ignored", error_type(error))


@final
class Openings:
    """The openings of tasks in this process."""

    __slots__ = ("_failed",)

    def __init__(self) -> None:
        self._failed: tuple[str, int | None] | None = None

    def fail(self, problem: str, clock: Clock) -> None:
        """Note that a task could not be opened, unless it was refused to its caller.

        Args:
            problem: The reason.
            clock: Source of time.
        """
        self._failed = problem, _now(clock)

    def succeed(self) -> None:
        """Note that a task was opened."""
        self._failed = None

    def fault(self, clock: Clock) -> str | None:
        """Return the problem of the last opening for a minute: a process out of service would not open another one."""
        failed = self._failed  # Another thread may open a task meanwhile.
        if failed is None:
            return None
        (problem, at_ns), now = failed, _now(clock)
        return None if at_ns is not None and now is not None and now - at_ns >= _SHOWN_NS else problem


def _now(clock: Clock) -> int | None:
    """Return the wall time; ``None`` if the clock, which is code of the user, fails."""
    try:
        return clock.wall_ns()
    except Exception:  # noqa: BLE001 - The fault is told nevertheless.
        return None


@final
@dataclass(frozen=True, slots=True)
class EnforcementContext:
    """The parts that a guard needs for a call; frozen, so that no guard can change its mode."""

    ledger: Ledger
    digests: DigestKeys
    spans: Spans
    clock: Clock
    task_context: TaskContext
    policy: Policy | None
    routes: Mapping[str, Callable[..., object] | Approval]
    inspectors: tuple[Inspector, ...]
    mode: Mode
    inline: bool
    state: StateStore
    revocations: Revocations
    approvals: Approvals
    disclosable: bool = False
    pseudonyms: Pseudonyms | None = None
    openings: Openings = field(default_factory=Openings)
    renewals: Renewals = field(default_factory=Renewals)
    spent: SpentLimits = field(default_factory=SpentLimits)
    tools: KnownTools = field(default_factory=KnownTools)
    timings: Timings = field(default_factory=Timings)
    flows: Flows | None = None

    def use(self, directory: str | os.PathLike[str], state: StateStore, *, shared: bool) -> None:
        """Store approval requests in a directory, and heed its revocations.

        Args:
            directory: The directory of the enforcer.
            state: The state in it.
            shared: Another state is shared with other processes; the directory's revocations count too.
        """
        self.approvals.use(ApprovalInbox(Path(directory) / "approvals"))
        if shared:
            self.revocations.heed(state)

    def faults(self) -> Mapping[str, str]:
        """Return the current faults of the evidence, and what refuses every call, by component."""
        ledger = self.ledger
        faults = {publisher.name: publisher.fault for publisher in ledger.publishers}
        faults |= {"ledger": ledger.degraded, "tasks": self.openings.fault(self.clock)}
        faults |= {"on_record": ledger.observers.fault, "certificate": self.renewals.fault}
        faults |= dict(filter(None, (self.revocations.fault(),)))
        return {name: fault for name, fault in faults.items() if fault}

    def after_fork_in_child(self) -> None:
        """Leave the parent's parts to the parent."""
        self.task_context.renew()
        self.revocations.after_fork_in_child()
        self.approvals.after_fork_in_child()
        if self.flows is not None:
            self.flows.after_fork_in_child()

    def check(self, task: Task) -> None:
        """Check that the task lives and nothing of its chain is revoked; called before every call and resume.

        Raises:
            Denied: The task has ended, or something is revoked.
        """
        if task.lease.live:
            self.revocations.check(task.chain)
        task.lease.check(self.clock)  # Last, because the check for revocations may block.

    def look_again(self, call: Call) -> None:
        """Check the task of a call again, unless it is refused already: before its intent, or its approval.

        If nothing was read from the state since :meth:`check`, nothing is read again.

        Raises:
            Denied: The task has ended, expired or been revoked meanwhile.
        """
        if call.task is None or call.judgement.denial is not None:
            return
        if call.reserved is not None or (call.routing is not None and call.routing.approval is not None):
            self.check(call.task)
        else:
            call.task.lease.look(self.clock)

    def shown(self, principal: Principal) -> Principal:
        """Return a principal as named in grants and records.

        Raises:
            ValueError: Its id looks like a pseudonym, which may belong to someone else.
            EvidenceError: Its pseudonym cannot be stored.
        """
        if self.pseudonyms is None:
            return principal
        if principal.id.startswith(PSEUDONYM_PREFIX):
            raise ValueError(f"the principal id begins with {PSEUDONYM_PREFIX!r}, like a pseudonym; use the real id")
        return _renamed(principal, self.pseudonyms.of(principal.kind, principal.id))

    def real(self, principal: Principal) -> Principal:
        """Return the real principal of a grant, as the application and the policies see it, if it is known here."""
        if self.pseudonyms is None or not principal.id.startswith(PSEUDONYM_PREFIX):
            return principal
        known = self.pseudonyms.name_of(principal.id)
        return principal if known is None or known[0] != principal.kind else _renamed(principal, known[1])

    def revocable(self, kind: RevokedKind, name: str) -> tuple[RevokedKind, str]:
        """Return the kind and name to revoke, as in grants.

        Raises:
            EvidenceError: A pseudonym cannot be stored.
        """
        if self.pseudonyms is not None and kind in ("human", "service"):
            return kind, self.pseudonyms.of(kind, name)
        return kind, name


def _renamed(principal: Principal, name: str) -> Principal:
    return principal_from_claim({**principal.to_claim(), "id": name})
