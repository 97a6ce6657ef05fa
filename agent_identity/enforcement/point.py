"""The parts of an enforcement point, put together once and shared by its guards."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

from agent_identity.canonical import RecordValue
from agent_identity.enforcement.ambience import Ambience
from agent_identity.enforcement.revoking import Revocations
from agent_identity.enforcement.task import Task
from agent_identity.enforcement.telemetry import Spans
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import DigestKeys, Ledger
from agent_identity.identity import Clock
from agent_identity.policy import Decision, Effect, Inspector, Policy

__all__ = ["Mode", "Point"]

Mode: TypeAlias = Literal["enforce", "monitor"]

_EFFECTS: Final = frozenset(Effect)
_MAX_FACT: Final = 256
_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")
_MAX_WARNINGS: Final = 1_024

WITHIN_SCOPE = Decision(effect=Effect.ALLOW, reason="within_scope")


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
    routes: Mapping[str, Callable[..., object]]
    inspectors: tuple[Inspector, ...]
    mode: Mode
    inline: bool
    revocations: Revocations

    def check(self, task: Task) -> None:
        """Return if the task lives and nothing of its chain is revoked; asked before every call and every resume.

        Raises:
            Denied: It does not.
        """
        task.lease.check(self.clock)
        self.revocations.check(task.chain)


def decision_claim(decision: Decision, enforced: str, mode: Mode, argument: str | None) -> dict[str, RecordValue]:
    """Return what the record says about a decision; unknown facts are left out."""
    claim: dict[str, RecordValue] = {
        "effect": decision.effect.value,
        "enforced": enforced,
        "mode": mode,
        "reason": decision.reason,
    }
    facts = {
        "rule": decision.rule,
        "why": decision.why,
        "argument": argument,
        "policy": decision.policy,
        "version": decision.version,
        "digest": decision.digest,
    }
    claim.update({name: fact for name, fact in facts.items() if fact})
    if decision.warnings:
        claim["warnings"] = decision.warnings[:_MAX_WARNINGS]
    return claim


def policy_claim(policy: Policy) -> dict[str, RecordValue]:
    """Return what the record says about the policy in force.

    Raises:
        ConfigurationError: No record can hold what a policy written by users says about itself.
    """
    claim: dict[str, RecordValue] = {"name": policy.name, "version": policy.version, "digest": policy.digest}
    if not all(map(is_fact, claim.values())) or not _DIGEST.fullmatch(policy.digest):
        raise ConfigurationError(
            "expected a policy with name and version of 1 to 256 visible characters and a digest like "
            "'sha256:<64 lower-case hex digits>'; correct them"
        )
    return claim


def is_fact(value: object) -> bool:
    """Return whether a record can hold the value as a fact."""
    return type(value) is str and 0 < len(value) <= _MAX_FACT and value.isprintable()


def is_sound(decision: Decision) -> bool:
    """Return whether we know the effect and a record can hold the facts, which users' policies fill unchecked."""
    facts = (decision.rule, decision.policy, decision.version, *decision.warnings)
    digest = decision.digest
    return (
        decision.effect in _EFFECTS
        and all(fact is None or is_fact(fact) for fact in facts)
        and (digest is None or (is_fact(digest) and _DIGEST.fullmatch(digest) is not None))
    )
