"""Decision members of records, and checks that a record can hold a decision."""

from typing import Final, Literal, TypeAlias

from agent_identity._flow.rules import FLOW_RULES
from agent_identity._identity.common.ids import is_digest
from agent_identity._policy.composed import has_flow_rules, is_built_in
from agent_identity._policy.decision.decision import Decision, Effect
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._policy.decision.request import Policy
from agent_identity._record import parts
from agent_identity._record.parts import Enforced, PolicyState
from agent_identity.errors import ConfigurationError

Mode: TypeAlias = Literal["enforce", "monitor"]

_EFFECTS: Final = frozenset(Effect)
_MAX_FACT: Final = 256
_MAX_WARNINGS: Final = 1_024

WITHIN_SCOPE = Decision(effect=Effect.ALLOW, reason="within_scope")


def decision_fact(
    decision: Decision, enforced: Enforced, mode: Mode, argument: str | None, approval: str | None = None
) -> parts.Decision:
    """Return the decision member of a record; unknown facts are left out."""
    return parts.Decision(
        effect=decision.effect.value,
        enforced=enforced,
        mode=mode,
        reason=decision.reason,
        rule=decision.rule or None,
        why=decision.why or None,
        argument=argument or None,
        policy=decision.policy or None,
        version=decision.version or None,
        digest=decision.digest or None,
        warnings=decision.warnings[:_MAX_WARNINGS] or None,
        approval=approval,
    )


def policy_state(policy: Policy) -> PolicyState:
    """Return the policy member of a record.

    Args:
        policy: The policy.

    Raises:
        ConfigurationError: A custom policy's name, version or digest does not fit into records.
    """
    facts = (policy.name, policy.version, policy.digest)
    if not all(map(is_fact, facts)) or not is_digest(policy.digest):
        raise ConfigurationError(
            "the policy's name, version or digest is malformed; use 1 to 256 visible characters, and a digest like "
            "a SHA-256 in 43 base64url characters"
        )
    return PolicyState(
        name=policy.name,
        version=policy.version,
        digest=policy.digest,
        engine="rules" if is_built_in(policy) else "custom",
        flow=FLOW_RULES if has_flow_rules(policy) else None,
    )


def blocked_by(decision: Decision, tool: str) -> str:
    """Return the caller's message about a call that a policy blocked."""
    rule = f" by rule {decision.rule!r}" if decision.rule else ""
    why = f": {decision.why}" if decision.why else ""
    return f"{tool}: blocked{rule}{why}"


def is_fact(value: object) -> bool:
    """Return whether a record can hold the value as a fact."""
    return type(value) is str and 0 < len(value) <= _MAX_FACT and value.isprintable()


def is_sound(decision: Decision) -> bool:
    """Return whether the effect is known and a record can hold the facts; custom policies fill them unchecked."""
    owed = decision.obligations
    if type(owed) is not tuple or not all(type(each) is Obligation for each in owed):
        return False
    facts = (decision.rule, decision.policy, decision.version, *decision.warnings)
    digest = decision.digest
    return (
        decision.effect in _EFFECTS
        and all(fact is None or is_fact(fact) for fact in facts)
        and (digest is None or is_digest(digest))
    )
