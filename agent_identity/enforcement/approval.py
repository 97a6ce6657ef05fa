"""Asking a person before a call runs: the desk that is asked, the request, and the answer."""

import dataclasses
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias, cast, final

from agent_identity import canonical
from agent_identity.authority import MAX_WAIT, RulingStatus, folded
from agent_identity.canonical import JSON
from agent_identity.enforcement.task import Task
from agent_identity.errors import Denied, TokenError
from agent_identity.evidence import DigestKeys
from agent_identity.identity import Agent, Human, Principal, agent_from_claim, check_id, principal_from_claim
from agent_identity.narrowing import int_of, is_object, optional_text_of, text_of
from agent_identity.typed import typed_calls

__all__ = ["Answer", "Approval", "ApprovalRequest", "Ask"]

_FIFTEEN_MINUTES: Final = timedelta(minutes=15)
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_AT_ONCE: Final = timedelta(0)
_REQUIRED: Final = frozenset(
    {"agent", "arguments", "expires_at", "id", "principal", "purpose", "requested_at", "route", "task", "tool"}
)
_OPTIONAL: Final = frozenset({"args", "digest", "rule", "why"})


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said to one request; made by :meth:`ApprovalRequest.approve` and :meth:`~ApprovalRequest.reject`.

    Attributes:
        request: The id of the request.
        status: ``"approved"`` or ``"rejected"``.
        approver: Who decided.
        reason: Why, for people.
        shown: The request as the person saw it; the enforcer compares it with the one that it made.
    """

    request: str
    status: RulingStatus
    approver: Human
    reason: str | None = None
    shown: "ApprovalRequest | None" = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.approver) is not Human:
            raise TypeError(f"expected by=Human(...), got {type(self.approver).__name__}; only people approve")
        if self.reason is not None:
            check_id(self.reason, "reason")


@typed_calls("approve", "reject", by="only people approve")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """One call that waits for a person.

    Attributes:
        id: The request.
        tool: The tool.
        arguments: A copy of the arguments with which the body will run, JSON only; what a framework injects is not
            among them. Never shown in the representation.
        args: Their keyed digest, as records have it; None for a call without any.
        task: The id of the task.
        purpose: What the task is for.
        principal: On whose behalf.
        agent: Who is about to act.
        route: The name of the desk.
        rule: The rule of the policy that asks for it, if one is named.
        why: Its reason.
        requested_at: Unix seconds.
        expires_at: Until when an approval can be used, in Unix seconds.
        digest: Keyed digest of all members before, by the enforcer that asks; it signs no request that was altered.
    """

    id: str
    tool: str
    arguments: Mapping[str, JSON] = field(repr=False)
    args: str | None
    task: str
    purpose: str
    principal: Principal
    agent: Agent
    route: str
    rule: str | None = None
    why: str | None = None
    requested_at: int
    expires_at: int
    digest: str | None = None

    @property
    def short_digest(self) -> str:
        """Four hex digits of a digest of the request: they tell it apart from others that a person is asked about."""
        return hashlib.sha256(request_bytes(self)).hexdigest()[:4]

    def approve(self, *, by: Human) -> Answer:
        """Return the answer that the call may run, with these arguments and once.

        Args:
            by: Who decides; somebody else than who asks.
        """
        return Answer(self.id, "approved", by, shown=self)

    def reject(self, *, by: Human, reason: str | None = None) -> Answer:
        """Return the answer that the call may not run.

        Args:
            by: Who decides.
            reason: Why; the agent is told. 1 to 256 visible characters.
        """
        return Answer(self.id, "rejected", by, reason, self)

    def to_dict(self) -> dict[str, JSON]:
        """Return the request as JSON, with the arguments in clear: for people, not for logs."""
        claim: dict[str, JSON] = {
            field_.name: getattr(self, field_.name)
            for field_ in dataclasses.fields(self)
            if getattr(self, field_.name) is not None
        }
        claim["principal"] = self.principal.to_claim()
        claim["agent"] = self.agent.to_claim()
        claim["arguments"] = dict(self.arguments)
        return claim

    @classmethod
    def from_dict(cls, claim: object) -> "ApprovalRequest":
        """Return the request of what :meth:`to_dict` returned.

        Raises:
            ValueError: It is no such request.
        """
        if not is_object(claim):
            raise ValueError("expected a request for an approval as an object")
        arguments = claim.get("arguments")
        if not _REQUIRED <= claim.keys() <= _REQUIRED | _OPTIONAL or not is_object(arguments):
            raise ValueError("expected exactly the members of a request for an approval")
        try:
            return cls(
                id=text_of(claim, "id"),
                tool=text_of(claim, "tool"),
                arguments=cast("Mapping[str, JSON]", arguments),  # Their digest is checked before anything counts.
                args=optional_text_of(claim, "args"),
                task=text_of(claim, "task"),
                purpose=text_of(claim, "purpose"),
                principal=principal_from_claim(claim["principal"]),
                agent=agent_from_claim(claim["agent"]),
                route=text_of(claim, "route"),
                rule=optional_text_of(claim, "rule"),
                why=optional_text_of(claim, "why"),
                requested_at=int_of(claim, "requested_at"),
                expires_at=int_of(claim, "expires_at"),
                digest=optional_text_of(claim, "digest"),
            )
        except (TokenError, TypeError) as error:
            raise ValueError(f"expected a request for an approval: {error}") from None


Ask: TypeAlias = Callable[[ApprovalRequest], "Answer | str | Awaitable[Answer | str]"]
"""What asks a person: returns the answer, or the signed ruling that :meth:`Approvals.approve` returned elsewhere."""


@typed_calls("__init__", approvers="write (…,)", roles="write (…,)")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A desk where a person decides about a call, to be named in ``routes``.

    A call that the policy routes there runs if somebody entitled approves it: with exactly the arguments that were
    shown, in the same task, once, in time. The principal can never approve what is done on their own behalf, nor
    can an agent.

    Args:
        ask: Asks a person and returns the answer; a function or a coroutine function. Without one the request waits
            in the directory of the enforcer until somebody decides by :meth:`Enforcer.approvals` or
            ``agent-identity approvals``; the call is refused with ``approval_pending`` until then, and is to be made
            again.
        approvers: The only people who may approve; by default anybody else than the principal. An id names whoever
            has it; ``Human(id, issuer=…)`` names the one person whom this issuer calls so.
        roles: Roles of which an approver must have one, whoever gave it.
        verified: Whether the approver must be ``verified`` by an identity provider. Ids are unique at their issuer
            only (OpenID Connect Core §5.7), so ``approvers`` are named with theirs then.
        owners_may_approve: Whether owners of the agents that act may approve. They answer for the agents, so by
            default they do not.
        ttl: How long a request waits, and an approval can be used: from 1 second to 30 days. Both end with the task.
        wait: How long a call waits for an answer out of the directory before it is refused as pending.
        suspends: Exceptions by which ``ask`` leaves, to be asked again when there is an answer, as an interrupt of
            LangGraph does. An approval then counts for the same call in a later task of the same principal and
            agent as well, because the principal has opened that one.
        channel: The way in which people are asked, for version 2 of the record: a short word of lower-case letters,
            digits, hyphens, dots and underscores. By default ``directory`` without an ``ask``, ``interrupt`` for what
            suspends, else what the attribute ``channel`` of ``ask`` says (``terminal``), or ``function``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: A time is out of range, an id or a role is malformed, or an approver who must be verified is
            named without an issuer.
    """

    ask: Ask | None = None
    approvers: tuple[str | Human, ...] = ()
    roles: tuple[str, ...] = ()
    verified: bool = False
    owners_may_approve: bool = False
    ttl: timedelta = _FIFTEEN_MINUTES
    wait: timedelta = _AT_ONCE
    suspends: tuple[type[BaseException], ...] = ()
    channel: str | None = None

    def __post_init__(self) -> None:
        for names, what in ((self.approvers, "each approver"), (self.roles, "each role")):
            if type(names) is not tuple:
                raise TypeError(f"expected {what} in a tuple, got {type(names).__name__}; write (…,)")
            for name in names:
                if not (isinstance(name, Human) and names is self.approvers):
                    check_id(name, what)
        if self.verified and any(isinstance(named, str) or named.issuer is None for named in self.approvers):
            raise ValueError("expected approvers like Human(id, issuer=…) at a desk with verified=True, got a bare id")
        if not timedelta(seconds=1) <= self.ttl <= timedelta(seconds=MAX_WAIT):
            raise ValueError("expected a ttl from 1 second to 30 days")
        if self.wait < _AT_ONCE or (self.wait and self.ask is not None):
            raise ValueError("expected a wait only where nobody is asked directly; 'ask' takes the time it takes")
        _check_channel(self.channel)

    @property
    def way(self) -> str:
        """The way in which people are asked: ``channel``, or what follows from ``ask``."""
        if self.channel is not None:
            return self.channel
        if self.ask is None:
            return "directory"
        if self.suspends:
            return "interrupt"
        said = cast("object", getattr(self.ask, "channel", None))
        return said if isinstance(said, str) and _CHANNEL.fullmatch(said) else "function"

    def check(self, approver: Human, task: Task, tool: str) -> None:
        """Return if a person may approve a call of the task.

        Raises:
            Denied: With the code ``approval_self``, ``approval_by_owner``, ``approver_not_permitted`` or
                ``approver_not_verified``.
        """
        refuse_own(approver, task.principal, [grant.agent for grant in task.chain.grants], tool)
        owners = {folded(grant.agent.owner) for grant in task.chain.grants}
        if not self.owners_may_approve and folded(approver.id) in owners:
            raise Denied(
                f"{tool}: expected an approver who does not own an agent that acts, got its owner; "
                "ask somebody else, or set owners_may_approve",
                code="approval_by_owner",
            )
        if (self.approvers and not self._names(approver)) or (self.roles and not set(self.roles) & set(approver.roles)):
            raise Denied(
                f"{tool}: expected an approver whom the desk names, got another; ask one of them",
                code="approver_not_permitted",
            )
        if self.verified and approver.provenance != "verified":
            raise Denied(
                f"{tool}: expected an approver verified by an identity provider, got an asserted one; "
                "see Human.from_id_token",
                code="approver_not_verified",
            )

    def _names(self, approver: Human) -> bool:
        who = (approver.id, approver.issuer)
        return any(
            named == approver.id if isinstance(named, str) else (named.id, named.issuer) == who
            for named in self.approvers
        )


def _check_channel(channel: str | None) -> None:
    if channel is not None and not _CHANNEL.fullmatch(channel):
        raise ValueError("the channel is no short word; use 1 to 64 of a-z 0-9 _ . -, a letter first")


def request_bytes(request: ApprovalRequest) -> bytes:
    """Return the canonical JSON of a request, to compare it with another."""
    return canonical.encode(request.to_dict(), surrogates=True)


def with_digest(request: ApprovalRequest, digests: DigestKeys) -> ApprovalRequest:
    """Return the request with the keyed digest of all its other members, under the key of its task."""
    members = {name: value for name, value in request.to_dict().items() if name != "digest"}
    # An array, because arguments are an object: no digest of arguments, which records show, is one of a request.
    data = canonical.encode(["approval request", members])
    return dataclasses.replace(request, digest=digests.digest(request.task, data))


def is_unaltered(request: ApprovalRequest, digests: DigestKeys) -> bool:
    """Return whether an enforcer that has these keys made the request, with these arguments and no other member."""
    args = None
    if request.args is not None or request.arguments:
        args = digests.digest(request.task, canonical.encode(dict(request.arguments)))
    return args == request.args and request.digest == with_digest(request, digests).digest


def refuse_own(approver: Human, principal: Principal, agents: list[Agent], tool: str) -> None:
    """Refuse an approver who is a requester: the principal, who acted for the principal before, or an agent.

    Who acted for the principal (``via``, RFC 8693 §4.1) asks as well, and who acts for the approver decides as well.
    Ids are compared without regard to case and compatibility forms, and whoever issued them: the same person under
    two spellings, or at two issuers, is still the same person. Where two people share an id, somebody else is to be
    asked, which costs less than one person who decides about their own calls.

    Raises:
        Denied: With the code ``approval_self``.
    """
    requesters = map(folded, (principal.id, *principal.via, *(agent.id for agent in agents)))
    if not {folded(name) for name in (approver.id, *approver.via)}.isdisjoint(requesters):
        raise Denied(
            f"{tool}: the approver is the principal, an actor for the principal, or an agent of the task; "
            "ask somebody else",
            code="approval_self",
        )
