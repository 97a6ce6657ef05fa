"""Grants and chains of grants: creation, and attenuation from parent to child.

A grant is a compact JWS in the profile of Attenuating Agent Tokens with additions that are signed at
every hop and equal along the chain: the task (``txn``), the principal (``principal``, ``sub``) and the limits
(``limits``). A child
is signed with the key that its parent names as the holder's (``cnf``), and names its parent's hash.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, final

from agent_identity._authority.grants.limits import Limit, check_limits, limits_claim, limits_from_claim
from agent_identity._authority.grants.scope import Scope
from agent_identity._identity.common.names import check_id
from agent_identity._identity.keys.jws import par_hash, sign_compact, token_hash
from agent_identity._identity.keys.keys import PublicKey, Signer
from agent_identity._identity.principals.principals import Agent, Principal, agent_from_claim, principal_from_claim
from agent_identity.canonical import JSON
from agent_identity.errors import AttenuationError, TokenError

GRANT_TYPE: Final = "aat+jwt"
"""The ``typ`` of a grant."""

MAX_DEPTH: Final = 32
"""The deepest delegation that any grant may permit; a root has depth 0."""

MAX_CHAIN: Final = 256 * 1024
"""Characters of all tokens of a chain together, at most."""

MAX_TTL: Final = 90 * 24 * 3600
"""Seconds that a grant may be made to live; verifiers set lower limits of their own."""

_ENTRY: Final = "attenuating_agent_token"
_MAX_TIME: Final = 2**53
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REQUIRED: Final = frozenset(
    {
        "act",
        "agent",
        "authorization_details",
        "cnf",
        "del_depth",
        "del_max_depth",
        "exp",
        "iat",
        "iss",
        "jti",
        "principal",
        "sub",
        "txn",
    }
)
_OPTIONAL: Final = frozenset({"aud", "limits", "par_hash"})

_T = TypeVar("_T")


@final
@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """One signed, task-bound, expiring delegation. It is useless without its holder's private key.

    Attributes:
        token: The grant as it is signed. It belongs into evidence, not into logs or messages.
        id: UUID in lower case.
        issuer: Issuer URI of a root; otherwise the thumbprint URI of the key that signed.
        task_id: The task that it is bound to.
        principal: On whose behalf the agent acts.
        agent: The agent that holds the grant.
        scope: The tools and arguments that it permits.
        issued_at: Unix seconds.
        expires_at: Unix seconds; from then on it permits nothing.
        depth: 0 for a root, one more at each hop.
        max_depth: The deepest grant that may be derived from it, directly or not.
        holder: Public key of the holder.
        audience: The enforcement point that it, and everything derived from it, is made for; None for any.
        parent_hash: Base64url SHA-256 of the parent's signing input; None for a root.
        hash: Hexadecimal SHA-256 of its own signing input.
        limits: The limits for everything under the root together; equal along the chain.
    """

    token: str
    id: str
    issuer: str
    task_id: str
    principal: Principal
    agent: Agent
    scope: Scope
    issued_at: int
    expires_at: int
    depth: int
    max_depth: int
    holder: PublicKey
    audience: str | None
    parent_hash: str | None
    hash: str
    limits: tuple[Limit, ...] = ()

    def __repr__(self) -> str:
        return f"Grant(id={self.id!r})"


@final
@dataclass(frozen=True, slots=True)
class Chain:
    """Grants from the root to the leaf, each linked to the one before it.

    The constructor checks links, not signatures; :func:`verify_chain` checks all.

    Raises:
        TokenError: With code ``empty_chain``, ``too_large``, ``not_a_root``, ``duplicate_id``, or a code
            of :func:`check_child`.
        AttenuationError: A grant permits more than the one before it.
    """

    grants: tuple[Grant, ...]

    def __post_init__(self) -> None:
        if not self.grants:
            raise TokenError("the chain has no grant", code="empty_chain")
        if sum(len(grant.token) for grant in self.grants) > MAX_CHAIN:
            raise TokenError(f"the chain has more than {MAX_CHAIN} characters", code="too_large")
        if self.root.depth != 0 or self.root.parent_hash is not None:
            raise TokenError("the chain begins with a child instead of a root grant", code="not_a_root")
        if len({grant.id for grant in self.grants}) != len(self.grants):
            raise TokenError("a grant is twice in the chain", code="duplicate_id")
        for parent, child in zip(self.grants, self.grants[1:], strict=False):
            check_child(parent, child)

    @property
    def root(self) -> Grant:
        """The root grant, signed by the issuer."""
        return self.grants[0]

    @property
    def leaf(self) -> Grant:
        """The last grant, whose holder acts."""
        return self.grants[-1]

    @property
    def audience(self) -> str | None:
        """The one enforcement point that may accept the chain; None for any."""
        return next((grant.audience for grant in self.grants if grant.audience is not None), None)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The signed grants, root first."""
        return tuple(grant.token for grant in self.grants)

    def extended(self, grant: Grant) -> "Chain":
        """Return the chain with one more grant at its end.

        Raises:
            TokenError: The grant is no child of the leaf.
            AttenuationError: It permits more than the leaf.
        """
        return Chain((*self.grants, grant))


def issue(
    signer: Signer,
    *,
    issuer: str,
    task_id: str,
    principal: Principal,
    agent: Agent,
    holder: PublicKey,
    scope: Scope,
    now: int,
    ttl: int,
    max_depth: int = 3,
    id: str,  # What it is called in the grant.
    audience: str | None = None,
    limits: Sequence[Limit] = (),
) -> Grant:
    """Return a root grant.

    Args:
        signer: The issuer's key; its thumbprint becomes the ``kid``.
        issuer: URI of the issuer.
        task_id: The task that the grant is bound to.
        principal: On whose behalf.
        agent: The agent that receives the grant.
        holder: Public key that the agent acts with.
        scope: The scope of the agent.
        now: Unix seconds.
        ttl: Seconds until it expires, from 1 to 90 days.
        max_depth: The number of further delegations, from 0 to 32.
        id: UUID in lower case, best of version 7, used for nothing else.
        audience: The one enforcement point that it is for.
        limits: Limits of the task, at most 64, of tools that are in the scope or of all together.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or scope and limits are too large for a token.
    """
    _check_terms(now, ttl, max_depth)
    claims: dict[str, JSON] = {
        "act": _history((agent,)),
        "del_depth": 0,
        "exp": now + ttl,
        "iat": now,
        "iss": check_id(issuer, "issuer"),
        "principal": principal.to_claim(),
        "sub": principal.id,
        "txn": check_id(task_id, "task_id"),
    }
    claims.update(_claims_of_holder(id, agent, holder, scope, max_depth, audience=audience))
    claims.update(_claims_of_limits(check_limits(limits, scope.tools)))
    token = sign_compact({"kid": signer.public_key.thumbprint, "typ": GRANT_TYPE}, claims, signer)
    return grant_of(token, claims)


def derive(
    chain: Chain,
    signer: Signer,
    *,
    agent: Agent,
    holder: PublicKey,
    scope: Scope,
    now: int,
    ttl: int,
    id: str,  # What it is called in the grant.
    max_depth: int | None = None,
    audience: str | None = None,
) -> Grant:
    """Return a child of the chain's leaf, which permits no more than the leaf.

    It expires with its parent if ``ttl`` says later, and keeps its parent's depth limit and audience if
    none are given.

    Args:
        chain: The chain that the delegating agent holds.
        signer: The key of the leaf's holder.
        agent: The agent that receives the grant.
        holder: Public key that this agent acts with.
        scope: The scope of the child.
        now: Unix seconds.
        ttl: Seconds until it expires, from 1 to 90 days.
        id: UUID in lower case, best of version 7, used for nothing else.
        max_depth: The deepest grant of the chain from here on, at most the parent's.
        audience: The one enforcement point that it is for.

    Raises:
        AttenuationError: It would permit more than the leaf (see :func:`check_child`), the signer is not
            the leaf's holder (``not_the_holder``), or the leaf has expired (``parent_expired``).
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of range, or the scope is too large for a token.
    """
    parent = chain.leaf
    limit = parent.max_depth if max_depth is None else max_depth
    _check_terms(now, ttl, limit)
    _check_may_derive(parent, signer, now)
    # A clock that went back a little since the parent was made must not stop delegation.
    issued_at = max(now, parent.issued_at)
    claims: dict[str, JSON] = {
        "act": _history((*(grant.agent for grant in chain.grants), agent)),
        "del_depth": parent.depth + 1,
        "exp": min(issued_at + ttl, parent.expires_at),
        "iat": issued_at,
        "iss": parent.holder.thumbprint_uri,
        "par_hash": par_hash(parent.token),
        "principal": parent.principal.to_claim(),
        "sub": parent.principal.id,
        "txn": parent.task_id,
    }
    bound = chain.audience if audience is None else audience
    if chain.audience not in (None, bound):
        raise _other_audience()
    claims.update(_claims_of_holder(id, agent, holder, scope, limit, audience=bound))
    claims.update(_claims_of_limits(parent.limits))
    # Checked before it is signed, so that nothing wider than the parent is ever signed.
    check_child(parent, grant_of("", claims))
    child = grant_of(sign_compact({"typ": GRANT_TYPE}, claims, signer), claims)
    chain.extended(child)
    return child


def _check_may_derive(parent: Grant, signer: Signer, now: int) -> None:
    if signer.public_key != parent.holder:
        raise AttenuationError("the key that signs the child is not that of the leaf's holder", code="not_the_holder")
    if now >= parent.expires_at:
        raise AttenuationError("the parent has expired; open a new task", code="parent_expired")
    if parent.depth >= parent.max_depth:
        raise AttenuationError(
            "the parent may not be delegated on, because it is at its limit; raise max_depth at the root",
            code="too_deep",
        )


def _check_terms(now: int, ttl: int, max_depth: int) -> None:
    for name, value, low, high in (
        ("now", now, 0, _MAX_TIME),
        ("ttl", ttl, 1, MAX_TTL),
        ("max_depth", max_depth, 0, MAX_DEPTH),
    ):
        if type(value) is not int:
            raise TypeError(f"{name} is {type(value).__name__}; give an int")
        if not low <= value <= high:
            raise ValueError(f"{name} is {value}; give {low} to {high}")


def _claims_of_holder(
    id: str,  # What it is called in the grant.
    agent: Agent,
    holder: PublicKey,
    scope: Scope,
    max_depth: int,
    *,
    audience: str | None,
) -> dict[str, JSON]:
    if not _UUID.fullmatch(id):
        raise ValueError("the id of the grant is not a UUID in lower case")
    claims: dict[str, JSON] = {
        "agent": agent.to_claim(),
        "authorization_details": [{"tools": scope.to_claim(), "type": _ENTRY}],
        "cnf": {"jwk": holder.to_jwk()},
        "del_max_depth": max_depth,
        "jti": id,
    }
    if audience is not None:
        claims["aud"] = check_id(audience, "audience")
    return claims


def _claims_of_limits(limits: Sequence[Limit]) -> dict[str, JSON]:
    return {"limits": limits_claim(limits)} if limits else {}


def _history(agents: Iterable[Agent]) -> dict[str, JSON]:
    """Return the ``act`` claim: the current agent outermost, the first one deepest (RFC 8693 §4.1)."""
    act: dict[str, JSON] = {}
    for agent in agents:
        act = {"sub": agent.id, "act": act} if act else {"sub": agent.id}
    return act


def check_history(claims: Mapping[str, JSON], agents: Iterable[Agent]) -> None:
    """Check that ``act`` has the same history as the signed agents along the chain.

    Raises:
        TokenError: With code ``bad_history``.
    """
    if claims["act"] != _history(agents):
        raise TokenError("act does not list the agents of the chain", code="bad_history")


def grant_of(token: str, claims: Mapping[str, JSON]) -> Grant:
    """Return the grant of verified claims; each claim is checked by itself.

    Raises:
        TokenError: With code ``missing_claim``, ``unknown_claim``, ``bad_claim``, or that of the part
            that is malformed.
    """
    if missing := _REQUIRED - claims.keys():
        raise TokenError(f"the claim {min(missing)} of the grant is missing", code="missing_claim")
    if not claims.keys() <= _REQUIRED | _OPTIONAL:
        # A newer version may restrict by claims that this one cannot enforce.
        raise TokenError("the grant has an unknown claim", code="unknown_claim")
    principal = principal_from_claim(_read(claims, "principal", _mapping))
    if claims["sub"] != principal.id:
        raise TokenError("sub is not the id of the principal", code="bad_claim")
    issued_at, expires_at = _read(claims, "iat", _integer), _read(claims, "exp", _integer)
    if expires_at <= issued_at:
        raise TokenError("exp is not after iat in the grant", code="bad_claim")
    depth, max_depth = _read(claims, "del_depth", _integer), _read(claims, "del_max_depth", _integer)
    if not depth <= max_depth <= MAX_DEPTH:
        raise TokenError(
            f"del_depth is above del_max_depth, or this is above {MAX_DEPTH}, in the grant", code="too_deep"
        )
    return Grant(
        token=token,
        id=_read(claims, "jti", _uuid),
        issuer=_read(claims, "iss", _name),
        task_id=_read(claims, "txn", _name),
        principal=principal,
        agent=agent_from_claim(_read(claims, "agent", _mapping)),
        scope=_read(claims, "authorization_details", _scope),
        issued_at=issued_at,
        expires_at=expires_at,
        depth=depth,
        max_depth=max_depth,
        holder=_read(claims, "cnf", _holder),
        audience=_read(claims, "aud", _name) if "aud" in claims else None,
        parent_hash=_read(claims, "par_hash", _name) if "par_hash" in claims else None,
        hash=token_hash(token),
        limits=_read(claims, "limits", limits_from_claim) if "limits" in claims else (),
    )


def _read(claims: Mapping[str, JSON], name: str, reader: Callable[[JSON], _T]) -> _T:
    try:
        return reader(claims[name])
    except TokenError:
        raise
    except (TypeError, ValueError) as error:
        raise TokenError(f"bad claim {name} in a grant: {error}", code="bad_claim") from None


def _integer(value: JSON) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_TIME:
        raise ValueError("it is not an integer from 0 to 2^53")
    return value


def _name(value: JSON) -> str:
    return check_id(value, "it")


def _uuid(value: JSON) -> str:
    if type(value) is not str or not _UUID.fullmatch(value):
        raise ValueError("it is not a UUID in lower case")
    return value


def _mapping(value: JSON) -> Mapping[str, JSON]:
    if not isinstance(value, Mapping):
        raise TypeError("it is not an object")
    return value


def _holder(value: JSON) -> PublicKey:
    confirmation = _mapping(value)
    if set(confirmation) != {"jwk"}:
        raise ValueError("it does not have exactly the member jwk")
    return PublicKey.from_jwk(_mapping(confirmation["jwk"]))


def _scope(value: JSON) -> Scope:
    if not isinstance(value, list) or len(value) != 1:
        raise ValueError("it does not have exactly one entry")
    entry = _mapping(value[0])
    if entry.get("type") != _ENTRY:
        raise TokenError("the entry of the grant is of an unknown type", code="unknown_entry")
    if set(entry) != {"tools", "type"}:
        raise ValueError("it does not have exactly the members tools and type")
    return Scope.from_claim(_mapping(entry["tools"]))


def check_child(parent: Grant, child: Grant) -> None:
    """Check that the child belongs to the parent and permits no more.

    1. Depth: one more than the parent's (``wrong_depth``), not beyond the parent's limit (``too_deep``),
       and the limit does not grow (``depth_not_attenuated``).
    2. Time: not issued before the parent (``issued_before_parent``), not living longer
       (``outlives_parent``).
    3. The same task (``wrong_task``) and principal (``principal_changed``), no other audience if the parent has one
       (``audience_not_attenuated``; without one of its own, the parent's binds it), and the same limits
       (``limits_changed``): there is one account for all, so a child can neither raise nor lower them.
    4. Scope: within the parent's (``tool_not_attenuated``, ``argument_not_attenuated``).
    5. Link: it names the parent's hash (``wrong_parent``).

    Raises:
        TokenError: With code ``wrong_depth``, ``issued_before_parent``, ``wrong_task`` or ``wrong_parent``.
        AttenuationError: With another of the codes above.
    """
    _check_depth(parent, child)
    if child.issued_at < parent.issued_at:
        raise TokenError("the child was issued before its parent", code="issued_before_parent")
    if child.expires_at > parent.expires_at:
        raise AttenuationError("the child expires after its parent", code="outlives_parent")
    if child.task_id != parent.task_id:
        raise TokenError("the child is of another task", code="wrong_task")
    if child.principal != parent.principal:
        raise AttenuationError("the child has another principal than its parent", code="principal_changed")
    if parent.audience is not None and child.audience not in (None, parent.audience):
        raise _other_audience()
    if child.limits != parent.limits:
        raise AttenuationError("the child has other limits than its parent", code="limits_changed")
    parent.scope.check_attenuates(child.scope)
    if child.parent_hash != par_hash(parent.token):
        raise TokenError("the child does not name its parent's hash", code="wrong_parent")


def _other_audience() -> AttenuationError:
    return AttenuationError("the child has another audience than its parent", code="audience_not_attenuated")


def _check_depth(parent: Grant, child: Grant) -> None:
    if child.depth != parent.depth + 1:
        raise TokenError("the depth of the child is not one more than its parent's", code="wrong_depth")
    if child.depth > parent.max_depth:
        raise AttenuationError("the depth of the child is beyond its parent's limit", code="too_deep")
    if child.max_depth > parent.max_depth:
        raise AttenuationError("the depth limit of the child is higher than its parent's", code="depth_not_attenuated")
