"""Judges a chain of grants, and whether the calls under it stay within it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from agent_identity._authority.grants.chain import SKEW, verify_chain
from agent_identity._authority.grants.grants import MAX_TTL, Chain, Grant
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.principals.principals import Agent, Principal
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record import schema as records
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.grants.revoked_keys import LATE, REVOKED
from agent_identity._verify.report.findings import Place
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import AttenuationError, TokenError

__all__ = ["Asked", "Judged", "judge_all"]

_NS: Final = 1_000_000_000
_UNTRUSTED: Final = frozenset({"unknown_key", "key_not_valid_then"})
_Add: TypeAlias = Callable[[str, str, Place], None]


class Asked(NamedTuple):
    """A chain of grants to judge, with its usage.

    Attributes:
        usage: Its usage.
        tokens: The grants, from the root on, or ``None`` if one is missing.
        proved: Whether the first record under it is proved to be what it says, its time included.
        wanted: Whether the leaf grant is to be returned.
        due: Whether its grants are here whatever else is not.
    """

    usage: GrantUsage
    tokens: Sequence[str] | None
    proved: bool
    wanted: bool = False
    due: bool = False


class Judged(NamedTuple):
    """The verdict on a chain.

    Attributes:
        grant: The hash of its leaf grant.
        holds: Whether it holds; ``None`` if one of its grants is missing.
        leaf: The leaf grant, if the chain holds and it is wanted.
        problems: The problems in their order: code, message and place.
    """

    grant: str
    holds: bool | None
    leaf: Grant | None
    problems: Sequence[tuple[str, str, Place]]


def judge_all(chains: Sequence[Asked], *, trust: TrustStore | None, absent: str | None) -> Iterator[Judged]:
    """Judge several chains, possibly in a worker process.

    Args:
        chains: The chains.
        trust: The trusted keys, or ``None``.
        absent: Why a grant may be missing without a contradiction, or ``None`` if none may.
    """
    for request in chains:
        problems: list[tuple[str, str, Place]] = []

        def add(code: str, message: str, place: Place, problems: list[tuple[str, str, Place]] = problems) -> None:
            problems.append((code, message, place))

        leaf = _judge(request, trust, absent, add)
        holds = None if request.tokens is None else leaf is not None
        yield Judged(request.usage.grant, holds, leaf if request.wanted else None, problems)


def _judge(request: Asked, trust: TrustStore | None, absent: str | None, add: _Add) -> Grant | None:
    """Return the leaf grant if the chain holds."""
    use, tokens = request.usage, request.tokens
    _compare_counts(use, add)
    if tokens is None:
        if absent is None or request.due:
            message = "a grant of the chain is not in the evidence"
            add("unknown_grant", message, use.place)
        else:
            add("chain_not_checked", f"the chain was not checked: {absent}", use.place)
        return None
    if trust is None:
        return None
    try:
        chain, issuer = _verify(tokens, trust)
        _refuse_revoked(chain, issuer, request)
        _conclude_clock(chain, issuer, trust, use, add)
    except (TokenError, AttenuationError) as error:
        code = error.code if error.code in REVOKED else "unknown_issuer" if error.code in _UNTRUSTED else "bad_grant"
        add(code, f"the chain does not verify ({error.code}): {error}", use.place)
        return None
    if not _names(chain, use):
        add("claims_differ", "principal, agents or task of the records differ from the grants", use.place)
        return None
    _judge_calls(chain.leaf, use, add)
    return chain.leaf


def _compare_counts(use: GrantUsage, add: _Add) -> None:
    """Compare the counts that the ends of a task state with those found; other threads may have added records."""
    if use.end is not None and (use.intents < use.stated_intents or use.outcomes < use.stated_outcomes):
        stated = f"{counted(use.stated_intents, 'intent')} and {counted(use.stated_outcomes, 'outcome')}"
        add(
            "counts_disagree",
            f"the end of the task states {stated}, and the evidence has {use.intents} and {use.outcomes}",
            use.end,
        )


def _judge_calls(leaf: Grant, use: GrantUsage, add: _Add) -> None:
    for tool, place in use.tools.items():
        if tool not in leaf.scope.tools:
            add("tool_outside_grant", "a call of a tool outside the grant was allowed", place)
    if use.last_ns >= leaf.expires_at * _NS:
        message = "a call was allowed after the grant expired"
        add("outside_grant_time", message, use.last.place())
    if 0 <= use.first_ns < (leaf.issued_at - SKEW) * _NS:
        # A record that names the hash of a grant is younger than it: only a clock that went back dates it earlier.
        message = "an allowed call is dated before its grant; the clock went back"
        add("dated_before_grant", message, use.first.place())


def _verify(tokens: Sequence[str], trust: TrustStore) -> tuple[Chain, TrustedKey]:
    """Verify a chain as of the time of its root; the enforcement point has already limited the lifetime."""
    used: list[TrustedKey] = []

    def anchor(thumbprint: str) -> PublicKey:
        trusted = trust.lookup(thumbprint, "issuer")
        if trusted is None:
            raise TokenError(
                "the issuer key of the grant is not trusted; take its issuer's trust file", code="unknown_key"
            )
        used.append(trusted)
        return trusted.key

    chain = verify_chain(tokens, anchors=anchor, issuer=None, now=None, max_lifetime=MAX_TTL)
    root = chain.root
    trust.check_speaker(used[0].key.thumbprint, root.issuer, {root.principal.kind}, at=root.issued_at)
    if not used[0].in_time(chain.root.issued_at):
        raise TokenError("the issuer key was not valid when it signed the grant", code="key_not_valid_then")
    return chain, used[0]


def _refuse_revoked(chain: Chain, issuer: TrustedKey, request: Asked) -> None:
    """Refuse a grant under a revoked key unless a proved record shows that it is older than the revocation.

    Raises:
        TokenError: Nothing shows that (``key_revoked``), or the grant itself is dated later.
    """
    since = issuer.revoked_since
    if since is None or (request.usage.seen_ns < since * _NS and chain.root.issued_at < since and request.proved):
        return
    if chain.root.issued_at >= since:
        raise TokenError("the grant is dated after the revocation of the issuer key", code=LATE)
    raise TokenError("nothing proves that the grant is older than the revocation of the issuer key", code="key_revoked")


def _conclude_clock(chain: Chain, issuer: TrustedKey, trust: TrustStore, use: GrantUsage, add: _Add) -> None:
    """Report a grant whose own date alone places it in the validity of its certificate."""
    if not issuer.certificates:
        return
    root = chain.root
    try:
        trust.check_speaker(issuer.key.thumbprint, root.issuer, {root.principal.kind}, at=use.seen_ns // _NS)
    except TokenError:
        message = "the certificate under the grant is valid by its own clock: the grant was first used after its end"
        add("valid_by_own_clock", message, use.place)


def _names(chain: Chain, use: GrantUsage) -> bool:
    """Return whether the records under a chain name the parties and the task of its grants."""
    leaf, said = chain.leaf, use.said
    return (
        _principal(said.principal, roles=not use.short) == _principal(leaf.principal, roles=not use.short)
        and _agent(said.agent) == _agent(leaf.agent)
        and [(hop.id, hop.grant) for hop in said.chain] == [(grant.agent.id, grant.hash) for grant in chain.grants]
        and said.task.id == leaf.task_id
        and int(said.task.expires or "0") <= leaf.expires_at * _NS
    )


def _principal(of: Principal | records.Principal, *, roles: bool) -> tuple[object, ...]:
    return of.id, of.kind, of.provenance, of.issuer, (of.roles or ()) if roles else None, of.via or ()


def _agent(of: Agent | records.Agent) -> tuple[object, ...]:
    return of.id, of.owner, of.version
