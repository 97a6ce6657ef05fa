"""Human approval before a call runs: the approval channel, the request, and the answer."""

import dataclasses
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias, cast, final

from agent_identity import canonical
from agent_identity._authority.registries.rulings import MAX_WAIT, RulingStatus, check_sources, folded, sources_of
from agent_identity._common.narrowing import int_of, is_object, optional_text_of, text_of
from agent_identity._common.typed_calls import typed_calls
from agent_identity._guard.tasks.task import Task
from agent_identity._guard.tasks.vault import has_handle
from agent_identity._identity.common.names import check_id
from agent_identity._identity.principals.principals import (
    Agent,
    Human,
    Principal,
    agent_from_claim,
    principal_from_claim,
)
from agent_identity._record.commitments import is_salted, part
from agent_identity._record.digests import DigestKeys
from agent_identity.canonical import JSON
from agent_identity.errors import Denied, TokenError

_FIFTEEN_MINUTES: Final = timedelta(minutes=15)
_CHANNEL: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_AT_ONCE: Final = timedelta(0)
_REQUIRED: Final = frozenset(
    {
        "agent",
        "arguments",
        "conditions",
        "expires_at",
        "id",
        "principal",
        "purpose",
        "requested_at",
        "route",
        "task",
        "tool",
    }
)
_OPTIONAL: Final = frozenset({"args", "digest", "rule", "sources", "why"})
_CONDITIONS: Final = frozenset({"agents", "approvers", "owners", "roles", "verified"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The people who may answer a request, as its channel says.

    Attributes:
        agents: The ids of the agents that ask.
        owners: The owners of these agents, if they may not answer.
        approvers: The only people who may; empty for everyone else.
        roles: Roles of which one is needed, if any is named.
        verified: Whether an identity provider must have verified the person.
    """

    agents: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    approvers: tuple[str | Human, ...] = ()
    roles: tuple[str, ...] = ()
    verified: bool = False

    def check(self, approver: Human, principal: Principal, tool: str) -> None:
        """Check that a person may answer, approve and reject alike.

        Raises:
            Denied: With the code ``approval_self``, ``approval_by_owner``, ``approver_not_permitted`` or
                ``approver_not_verified``.
        """
        _refuse_own(approver, principal, self.agents, tool)
        deciding = {folded(name) for name in (approver.id, *approver.via)}  # As in _refuse_own.
        if not deciding.isdisjoint(map(folded, self.owners)):
            raise Denied(
                f"{tool}: the approver, or an actor for the approver, owns an acting agent; ask someone else, or set "
                "owners_may_approve",
                code="approval_by_owner",
            )
        if (self.approvers and not self._names(approver)) or (self.roles and not set(self.roles) & set(approver.roles)):
            raise Denied(
                f"{tool}: the approval handler does not permit this approver; ask a permitted one",
                code="approver_not_permitted",
            )
        if self.verified and approver.provenance != "verified":
            raise Denied(
                f"{tool}: the approver is asserted, not verified by an identity provider; see Human.from_id_token",
                code="approver_not_verified",
            )

    def _names(self, approver: Human) -> bool:
        who = (approver.id, approver.issuer)
        return any(
            named == approver.id if isinstance(named, str) else (named.id, named.issuer) == who
            for named in self.approvers
        )

    def to_dict(self) -> dict[str, JSON]:
        """Return the conditions as JSON."""
        approvers: list[JSON] = [
            named if isinstance(named, str) else cast("JSON", named.to_claim()) for named in self.approvers
        ]
        return {
            "agents": list(self.agents),
            "approvers": approvers,
            "owners": list(self.owners),
            "roles": list(self.roles),
            "verified": self.verified,
        }

    @classmethod
    def from_dict(cls, claim: object) -> "Conditions":
        """Parse the result of :meth:`to_dict`.

        Raises:
            ValueError: The value is none.
        """
        if not is_object(claim) or frozenset(claim) != _CONDITIONS or type(claim["verified"]) is not bool:
            raise ValueError("the conditions of the approval request are malformed; pass the result of to_dict()")
        lists = {name: claim[name] for name in _CONDITIONS - {"verified"}}
        if not all(type(value) is list for value in lists.values()):
            raise ValueError("the conditions of the approval request are malformed; pass the result of to_dict()")
        named = [one if isinstance(one, str) else _human(one) for one in cast("list[object]", lists["approvers"])]
        texts = {name: tuple(map(str, cast("list[object]", lists[name]))) for name in ("agents", "owners", "roles")}
        return cls(**texts, approvers=tuple(named), verified=claim["verified"])


def _human(claim: object) -> Human:
    party = principal_from_claim(claim)
    if not isinstance(party, Human):
        raise TypeError("an approver in the request is no human; pass the result of to_dict()")
    return party


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """A person's decision on one request; made by :meth:`ApprovalRequest.approve` and :meth:`~ApprovalRequest.reject`.

    Attributes:
        request: The id of the request.
        status: ``"approved"`` or ``"rejected"``.
        approver: The person who decided.
        reason: The reason, for people.
        shown: The request as the person saw it; the enforcer compares it with its own.
    """

    request: str
    status: RulingStatus
    approver: Human
    reason: str | None = None
    shown: "ApprovalRequest | None" = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.approver) is not Human:
            raise TypeError(f"by is {type(self.approver).__name__}; give by=Human(...), since only people approve")
        if self.reason is not None:
            check_id(self.reason, "reason")


@typed_calls("approve", "reject", by="only people approve")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """One call that waits for a person.

    Attributes:
        id: The id of the request.
        tool: The tool.
        arguments: A copy of the arguments that the body will get, JSON only; without the arguments that a framework
            injects, and with handles in the place of kept values. Never shown in the representation.
        args: Their keyed digest, as in records; None for a call without arguments.
        task: The id of the task.
        purpose: The purpose of the task.
        principal: The principal.
        agent: The acting agent.
        route: The name of the channel.
        rule: The policy rule that asks for the approval, if it has a name.
        why: Its reason.
        requested_at: Unix seconds.
        expires_at: The end of the approval's validity, in Unix seconds.
        sources: Records of the inputs that lowered the mark of the task; an approval exempts these for this one call.
        conditions: The people who may answer.
        digest: Keyed digest of all members before it, by the requesting enforcer; it signs no altered request.
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
    sources: tuple[str, ...] = ()
    conditions: Conditions = Conditions()
    digest: str | None = None

    def __post_init__(self) -> None:
        check_sources(self.sources)

    @property
    def short_digest(self) -> str:
        """Four hex digits of a digest of the request: they tell it from other requests shown to a person."""
        return hashlib.sha256(request_bytes(self)).hexdigest()[:4]

    def approve(self, *, by: Human) -> Answer:
        """Return an approval: the call may run once, with these arguments.

        Args:
            by: The approver; not the requester.
        """
        return Answer(self.id, "approved", by, shown=self)

    def reject(self, *, by: Human, reason: str | None = None) -> Answer:
        """Return a rejection: the call may not run.

        Args:
            by: The approver.
            reason: The reason, shown to the agent. 1 to 256 visible characters.
        """
        return Answer(self.id, "rejected", by, reason, self)

    def to_dict(self) -> dict[str, JSON]:
        """Return the request as JSON, with the arguments in clear text: for people, not for logs."""
        claim: dict[str, JSON] = {
            field_.name: getattr(self, field_.name)
            for field_ in dataclasses.fields(self)
            if getattr(self, field_.name) is not None
        }
        claim["principal"] = self.principal.to_claim()
        claim["agent"] = self.agent.to_claim()
        claim["arguments"] = dict(self.arguments)
        claim["conditions"] = self.conditions.to_dict()
        claim.pop("sources")
        if self.sources:
            claim["sources"] = list(self.sources)
        return claim

    @classmethod
    def from_dict(cls, claim: object) -> "ApprovalRequest":
        """Parse the result of :meth:`to_dict`.

        Raises:
            ValueError: The value is no request.
        """
        if not is_object(claim):
            raise ValueError("the approval request is no object; pass the result of to_dict()")
        arguments = claim.get("arguments")
        if not _REQUIRED <= claim.keys() <= _REQUIRED | _OPTIONAL or not is_object(arguments):
            raise ValueError("the approval request has missing or unknown members; pass the result of to_dict()")
        try:
            return cls(
                id=text_of(claim, "id"),
                tool=text_of(claim, "tool"),
                arguments=cast("Mapping[str, JSON]", arguments),  # The keyed digest is checked before anything counts.
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
                sources=sources_of(cast("Mapping[str, JSON]", claim)),
                conditions=Conditions.from_dict(claim["conditions"]),
                digest=optional_text_of(claim, "digest"),
            )
        except (TokenError, TypeError) as error:
            raise ValueError(f"bad approval request: {error}") from None


Ask: TypeAlias = Callable[[ApprovalRequest], "Answer | str | Awaitable[Answer | str]"]
"""Asks a person; returns the answer, or a signed ruling that :meth:`Approvals.approve` returned elsewhere."""


def _check_named(what: str, names: tuple[str | Human, ...] | None, *, humans: bool = False) -> None:
    if names is None:
        return
    if type(names) is not tuple:
        raise TypeError(f"{what} must be in a tuple, not {type(names).__name__}; write (…,)")
    if not names:
        raise ValueError(f"{what} is empty, so that no one could approve; name some, or leave it out")
    for name in names:
        if not (humans and type(name) is Human):
            check_id(name, f"each of {what}")


@typed_calls("__init__", people="write (…,)", roles="write (…,)")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Approvers:
    """The people who may answer the requests of a channel, and the time that they have.

    By default everyone but the principal and the owners of the acting agents. The principal can never approve calls
    on their own behalf, and no agent can.

    Args:
        people: The only people who may approve. An id means everyone with that id; ``Human(id, issuer=…)`` means the
            one person whom this issuer calls so.
        roles: Roles of which an approver must have one, whatever its issuer.
        verified: Require approvers that an identity provider has ``verified``. Ids are unique at their issuer
            only (OpenID Connect Core §5.7), so ``people`` then need their issuer.
        owners_may_approve: Let owners of the acting agents approve. They answer for the agents, so by default they
            must not.
        ttl: Lifetime of a request and of its approval: from 1 second to 30 days. By default 15 minutes, or 7 days for
            a request that leaves with a suspended run of an agent framework.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: The time is out of range, an id or a role is malformed, a tuple is empty, or someone in ``people``
            has no issuer while ``verified=True``.
    """

    people: tuple[str | Human, ...] | None = None
    roles: tuple[str, ...] | None = None
    verified: bool = False
    owners_may_approve: bool = False
    ttl: timedelta | None = None

    def __post_init__(self) -> None:
        _check_named("people", self.people, humans=True)
        _check_named("roles", self.roles)
        if self.verified and any(isinstance(named, str) or named.issuer is None for named in self.people or ()):
            raise ValueError("people has a bare id; with verified=True write Human(id, issuer=…)")
        if self.ttl is not None and not timedelta(seconds=1) <= self.ttl <= timedelta(seconds=MAX_WAIT):
            raise ValueError("ttl is out of range; use 1 second to 30 days")

    def conditions(self, task: Task) -> Conditions:
        """Return the people who may answer for a call of the task."""
        agents = [grant.agent for grant in task.chain.grants]
        return Conditions(
            agents=tuple(agent.id for agent in agents),
            owners=() if self.owners_may_approve else tuple(agent.owner for agent in agents),
            approvers=self.people or (),
            roles=self.roles or (),
            verified=self.verified,
        )


@typed_calls("__init__", approvers="write Approvers(people=(…,)), of agent_identity.approvals")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An approval channel for ``routes``: a person decides about a call.

    A call that the policy routes there runs if an entitled person approves it: with exactly the shown arguments, in
    the same task, once, in time.

    Args:
        ask: Asks a person and returns the answer; a function or a coroutine function. Without ``ask`` the request waits
            in the directory of the enforcer until someone decides by :meth:`Enforcer.approvals` or
            ``agent-identity approvals``; until then the call is refused with ``approval_pending``, and has to be made
            again.
        approvers: Who may approve, and how long a request lives. It ends with the task at the latest.
        wait: How long a call waits for an answer in the directory before it is refused as pending.
        suspends: Exceptions with which ``ask`` suspends the call until there is an answer, as an interrupt of
            LangGraph does. An approval then counts for the same call in a later task of the same principal and
            agent as well, because the principal has opened that task.
        channel: The name of the channel in records: a short word of lower-case letters, digits, hyphens
            (``-``), dots and underscores. By default ``directory`` without ``ask``, ``interrupt`` with ``suspends``,
            else the attribute ``channel`` of ``ask`` (``terminal``), or ``function``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``wait`` is out of range, or ``channel`` is malformed.
    """

    ask: Ask | None = None
    approvers: Approvers = Approvers()
    wait: timedelta = _AT_ONCE
    suspends: tuple[type[BaseException], ...] = ()
    channel: str | None = None

    def __post_init__(self) -> None:
        if self.wait < _AT_ONCE or (self.wait and self.ask is not None):
            raise ValueError("wait is negative, or given with ask; use it without ask only, from 0")
        _check_channel(self.channel)

    @property
    def ttl(self) -> timedelta:
        """The lifetime of a request."""
        return self.approvers.ttl or _FIFTEEN_MINUTES

    @property
    def way(self) -> str:
        """The approval channel for records: ``channel``, or derived from ``ask``."""
        if self.channel is not None:
            return self.channel
        if self.ask is None:
            return "directory"
        if self.suspends:
            return "interrupt"
        said: object = getattr(self.ask, "channel", None)
        return said if isinstance(said, str) and _CHANNEL.fullmatch(said) else "function"


def _check_channel(channel: str | None) -> None:
    if channel is not None and not _CHANNEL.fullmatch(channel):
        raise ValueError("the channel is malformed; use 1 to 64 of a-z 0-9 _ . -, a letter first")


def request_bytes(request: ApprovalRequest) -> bytes:
    """Return the canonical JSON of a request, for comparison."""
    return canonical.encode(request.to_dict(), surrogates=True)


def with_digest(request: ApprovalRequest, digests: DigestKeys) -> ApprovalRequest:
    """Return the request with the keyed digest of its other members, under the key of its task."""
    members = {name: value for name, value in request.to_dict().items() if name != "digest"}
    # An array, because arguments are an object: no digest of arguments, as in records, equals one of a request.
    data = canonical.encode(["approval request", members])
    return dataclasses.replace(request, digest=digests.digest(request.task, data))


def is_unaltered(request: ApprovalRequest, digests: DigestKeys) -> bool:
    """Return whether an enforcer with these keys made the request, with these arguments and members."""
    args = None
    if has_handle(dict(request.arguments)):  # They stand for other arguments; the digest of the request covers both.
        args = request.args
    elif request.args is not None or request.arguments:
        args = _digest(request, digests)
    return args == request.args and request.digest == with_digest(request, digests).digest


def _digest(request: ApprovalRequest, digests: DigestKeys) -> str:
    """Return the digest of the shown arguments, of the kind that the request names."""
    arguments = dict(request.arguments)
    if request.args is not None and is_salted(request.args):
        return digests.commit(request.task, [part(name, arguments[name]) for name in sorted(arguments)])
    return digests.digest(request.task, canonical.encode(arguments))


def _refuse_own(approver: Human, principal: Principal, agents: tuple[str, ...], tool: str) -> None:
    """Refuse an approver who is a requester: the principal, an actor for the principal, or an agent.

    An actor for the principal (``via``, RFC 8693 §4.1) is a requester too, and an actor for the approver decides too.
    Comparison ignores case, compatibility forms and the issuer of ids: one person with two spellings, or at two
    issuers, is still one person. If two people share an id, a third has to decide, which costs less than a person who
    decides about their own calls.

    Raises:
        Denied: With the code ``approval_self``.
    """
    requesters = map(folded, (principal.id, *principal.via, *agents))
    if not {folded(name) for name in (approver.id, *approver.via)}.isdisjoint(requesters):
        raise Denied(
            f"{tool}: the approver is the principal, an actor for the principal, or an agent of the task; "
            "ask someone else",
            code="approval_self",
        )
