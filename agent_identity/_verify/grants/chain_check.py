"""Checks chains of grants, and the calls under them.

Records come before, between and after the grants that they name, so the usage of each chain is kept in compact
form, and judged once, when all is read. What does not fit into memory is spilled to disk.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._authority.grants.chain import SKEW, verify_chain
from agent_identity._authority.grants.grants import MAX_CHAIN, MAX_TTL, Chain, Grant
from agent_identity._identity.keys.jws import token_hash
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.principals.principals import Agent, Principal
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record import parts
from agent_identity._record.schema import OF_TASKS, AnyRecord
from agent_identity._record.schema import Grant as GrantRecord
from agent_identity._verify.grants._spent_limits import SpentLimits
from agent_identity._verify.grants.grant_usage import GrantUsage, Placed
from agent_identity._verify.grants.revoked_keys import LATE, REVOKED
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity._verify.store.workers import Executor, in_process
from agent_identity.errors import AttenuationError, TokenError

_NS: Final = 1_000_000_000
_UNTRUSTED: Final = frozenset({"unknown_key", "key_not_valid_then"})
_Add: TypeAlias = Callable[[str, str, Place], None]

_LINKS: Final = 5
_MAX_NEAR: Final = 4_096  # Grants in memory, of some 1 KiB each, and what was done under them, of 4 KiB.
_BATCH: Final = 256  # Chains that a worker judges at once,
_BATCH_BYTES: Final = 4 * 1024 * 1024  # or fewer large ones: several batches wait for each worker, each copied twice.


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


def _principal(of: Principal | parts.Principal, *, roles: bool) -> tuple[object, ...]:
    return of.id, of.kind, of.provenance, of.issuer, (of.roles or ()) if roles else None, of.via or ()


def _agent(of: Agent | parts.Agent) -> tuple[object, ...]:
    return of.id, of.owner, of.version


@final
class Delegations:
    """The grants of a source, and their usage by its records.

    Args:
        findings: Takes what is found.
        step: The number of the step about grants.
        trust: The trusted keys, or ``None``.
    """

    def __init__(self, findings: Findings, step: int, trust: TrustStore | None) -> None:
        self._findings = findings
        self._step = step
        self._trust = trust
        self._tokens: SpillStore[str] = SpillStore(str.encode, bytes.decode, near=_MAX_NEAR)
        self._usages = SpillStore(GrantUsage.packed, GrantUsage.unpacked, near=_MAX_NEAR)
        self._leaves: dict[str, Grant | None] = {}

    def narrow(self, trust: TrustStore) -> None:
        """Restrict the trusted keys to the log at hand, once its origin is known.

        Args:
            trust: The trusted keys.
        """
        self._trust = trust

    def add_grant(self, token: str, leaf: str, place: Place) -> None:
        """Store a grant from a record of its own task.

        Args:
            token: The grant.
            leaf: The hash by which the record beside it names the grant.
            place: That record.
        """
        if token_hash(token) != leaf:
            self._findings.add(self._step, "bad_grant", "the grant does not have the hash that the record names", place)
        else:
            self._tokens.put(leaf.encode(), token)

    def add_kept(self, token: str) -> None:
        """Store a grant that was kept when its record was pruned; records name it by its hash."""
        try:
            self._tokens.put(token_hash(token).encode(), token)
        except TokenError:
            return

    def see(self, record: AnyRecord, place: Placed) -> GrantUsage | None:
        """Return the usage of the grant of a record; it may be changed until the next record is seen.

        The claims of the record about its task are compared with those of the earlier records.

        Args:
            record: A record; for one outside any task, ``None`` is returned.
            place: Where it is.
        """
        if not isinstance(record, OF_TASKS) or record.chain is None:
            return None
        leaf = record.chain[-1].grant.encode()
        usage = self._usages.hold(leaf)
        if usage is None:
            usage = GrantUsage(record, place.place())
            self._usages.put(leaf, usage)
        elif not usage.says_the_same(record):
            self._findings.add(
                self._step,
                "claims_differ",
                "principal, agent, task or chain differ from the other records under the grant",
                place.place(),
            )
        return usage

    def want(self, grant: str) -> None:
        """Request a grant for :meth:`leaf`, which returns it once all chains are judged."""
        self._leaves[grant] = None

    def leaf(self, grant: str) -> Grant | None:
        """Return a requested grant by its hash, if its chain holds."""
        return self._leaves.get(grant)

    def settle(
        self,
        *,
        absent: str | None,
        kept: bool = False,
        proved: Callable[[Place], bool] = lambda _: True,
        executor: Executor = in_process,
    ) -> None:
        """Judge every chain after the whole source was read.

        Args:
            absent: Why a grant may be missing without a contradiction, or ``None`` if none may.
            kept: Those under which a call was allowed may not: they were kept.
            proved: Returns whether the record at a place is proved to be what it says, its time included.
            executor: Runs the work.
        """
        judged = unjudged = 0
        for verdict in executor(partial(judge_all, trust=self._trust, absent=absent), self._batches(proved, kept=kept)):
            judged, unjudged = judged + (verdict.holds is True), unjudged + (verdict.holds is None)
            if verdict.leaf is not None:
                self._leaves[verdict.grant] = verdict.leaf
            for code, message, place in verdict.problems:
                self._add(code, message, place)
        self._count_limits()
        self._conclude(judged, unjudged, absent)

    def _count_limits(self) -> None:
        """Count usage against the limits of each task, over all grants delegated in it."""
        spent = SpentLimits(self._add)
        for leaf, usage in self._usages.items():
            token = self._tokens.get(leaf) if usage.ended else None
            if token is not None:
                spent.take(usage, token)
        spent.settle()
        if spent.not_counted:
            self._findings.counts["limits_not_counted"] = spent.not_counted

    def _add(self, code: str, message: str, place: Place) -> None:
        if code == "unknown_grant":
            self._findings.elsewhere.contradicted += 1
        self._findings.add(_LINKS if code == "counts_disagree" else self._step, code, message, place)

    def _conclude(self, judged: int, unjudged: int, absent: str | None) -> None:
        self._findings.counts["chains_verified"] = judged
        self._findings.counts["chains_not_checked"] = unjudged
        if self._trust is None:
            self._findings.skip(self._step, "no trusted keys")
        elif unjudged and absent:
            self._findings.skip(self._step, f"{counted(judged, 'chain')} verified, {unjudged:,} not checked: {absent}")
        else:
            self._findings.done(self._step, f"{counted(judged, 'chain')} verified")

    def _tokens_of(self, grants: Sequence[str], place: Place) -> list[str] | None:
        """Return the grants of a chain, or ``None`` if one is missing.

        After the size limit of a chain, each further grant is an empty string: the chain is known to be too large.
        """
        tokens: list[str] = []
        size, whole = 0, True
        for grant in grants:
            key = grant.encode()
            token = self._tokens.get(key) if size <= MAX_CHAIN else "" if key in self._tokens else None
            if token is None:
                record = self._findings.find(self._step, ("grant", grant), place)
                token = record.grant.token if isinstance(record, GrantRecord) else None
            if token is None:
                whole = False  # Each that is missing is asked for.
                continue
            tokens.append(token)
            size += len(token)
        return tokens if whole else None

    def _batches(self, proved: Callable[[Place], bool], *, kept: bool) -> Iterator[list[Asked]]:
        batch: list[Asked] = []
        size = 0
        for usage in self._usages.values():
            tokens = self._tokens_of([hop.grant for hop in usage.said.chain], usage.place)
            due = kept and usage.ran
            batch.append(Asked(usage, tokens, proved(usage.place), usage.grant in self._leaves, due))
            size += sum(map(len, tokens or ()))
            if len(batch) == _BATCH or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
