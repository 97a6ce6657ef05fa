"""Whether the authority that records name was granted: chains of grants, and what was done under them.

Records come before, between and after the grants that they name, so what each chain was used for is kept
in compact form, and judged once, when all is read. Memory grows with the tasks, not with their calls.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast, final

import orjson

from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.revocation import LATE, REVOKED
from agent_identity.authority import MAX_TTL, SKEW, Chain, Grant, token_hash, verify_chain
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import PublicKey, TrustedKey, TrustStore

__all__ = ["Delegations", "Use"]

_NS: Final = 1_000_000_000
_UNTRUSTED: Final = frozenset({"unknown_key", "key_not_valid_then"})
_MAX_TOOLS: Final = 1_024  # A scope names at most 256; whoever uses more is outside it.


@final
class Use:
    """What records say and do under one grant.

    Attributes:
        principal: The member ``principal`` of its records.
        agent: The member ``agent`` of its records.
        chain: The member ``chain`` of its records.
        task: The member ``task`` of its records, without the purpose.
        parties: Principal, agent, and the agents of the chain.
        grants: The hashes of the chain, in the bytes of the records.
        task_facts: Expiry and id of the task, in the bytes of the records.
        place: Its first record.
        seen_ns: When that was made, in nanoseconds since the Unix epoch.
        intents: The number of intents under it.
        outcomes: The number of outcomes under it.
        stated_intents: The number of intents that the ends of the task state.
        stated_outcomes: The number of outcomes that the ends of the task state.
        end: Where the task ended.
        leaf: The grant, once its chain is found to hold.
    """

    __slots__ = (
        "_begun",
        "_stated",
        "_stream",
        "agent",
        "chain",
        "end",
        "first",
        "first_ns",
        "grants",
        "intents",
        "last",
        "last_ns",
        "leaf",
        "outcomes",
        "parties",
        "place",
        "principal",
        "seen_ns",
        "stated_intents",
        "stated_outcomes",
        "task",
        "task_facts",
        "tools",
    )

    def __init__(self, record: Mapping[str, object], place: Place) -> None:
        self.principal = record["principal"]
        self.agent = record["agent"]
        self.chain = cast("Sequence[Mapping[str, str]]", record["chain"])
        self.task = _without_purpose(record)
        self.parties = (self.principal, self.agent, tuple(link["id"] for link in self.chain))
        self.grants = tuple(link["grant"].encode() for link in self.chain)
        self.task_facts = (self.task.get("expires", "").encode(), self.task["id"].encode())
        self.place = place
        times = cast("dict[str, str]", record["time"])
        self.seen_ns = int(times.get("end", times["start"]))
        self.tools: dict[str, Place] = {}
        self.first_ns = self.last_ns = -1
        self.first: Callable[[], Place] = lambda: place
        self.last = self.first
        self.intents = self.outcomes = self.stated_intents = self.stated_outcomes = 0
        self.end: Place | None = None
        self.leaf: Grant | None = None
        self._stream: str | None = None
        self._begun = 0
        self._stated = (0, 0)

    def allow(self, tool: str, at_ns: int, place: Callable[[], Place]) -> None:
        """Keep that a call of the tool was let through.

        Args:
            tool: The name of the tool.
            at_ns: When it began, in nanoseconds since the Unix epoch.
            place: Returns where the record is that says so.
        """
        if tool not in self.tools and len(self.tools) < _MAX_TOOLS:
            self.tools[tool] = place()
        if at_ns > self.last_ns:
            self.last_ns, self.last = at_ns, place
        if at_ns < self.first_ns or self.first_ns < 0:
            self.first_ns, self.first = at_ns, place

    def begin(self, stream: str) -> None:
        """Keep that the task was opened in a stream; a grant can be resumed many times and in many processes."""
        if self._stream != stream:  # The streams are read one after the other.
            self._stream, self._begun = stream, 0
        self._begun += 1

    def finish(self, counts: Mapping[str, str], place: Place, *, partial: bool = False) -> None:
        """Keep what an end of the task states.

        Every opening counts for itself, so that their sums have to be there. A forked child states an end
        without an opening; its numbers contain those of its parent up to the fork.

        Args:
            counts: What it states.
            place: Where the end is.
            partial: Records were pruned, so that calls of openings that are not there may be missing as well.
        """
        if partial and not (self._stream == place.stream and self._begun):
            return  # In an excerpt a task is whole or its opening is missing.
        self.end = place
        intents, outcomes = int(counts["intents"]), int(counts["outcomes"])
        if self._stream == place.stream and self._begun:
            self._begun -= 1
            self._stated = (self._stated[0] + intents, self._stated[1] + outcomes)
            intents, outcomes = self._stated
        self.stated_intents = max(self.stated_intents, intents)
        self.stated_outcomes = max(self.stated_outcomes, outcomes)

    def says_the_same(self, record: Mapping[str, object]) -> bool:
        """Return whether the record names the same parties, task (but for its purpose) and chain."""
        return (
            record["chain"] == self.chain
            and record["principal"] == self.principal
            and record["agent"] == self.agent
            and _without_purpose(record) == self.task
        )


@final
class Delegations:
    """The grants of a source, and what its records did under them.

    Args:
        findings: Takes what is found.
        step: The number of the step about grants.
        trust: The trusted keys, or ``None``.
    """

    def __init__(self, findings: Findings, step: int, trust: TrustStore | None) -> None:
        self._findings = findings
        self._step = step
        self._trust = trust
        self._tokens: dict[str, str] = {}
        self._uses: dict[bytes, Use] = {}

    def add_grant(self, token: str, leaf: str, place: Place) -> None:
        """Keep a grant that stands in the evidence of its own task.

        Args:
            token: The grant.
            leaf: The hash by which the record beside it names the grant.
            place: That record.
        """
        if token_hash(token) != leaf:
            self._findings.add(self._step, "bad_grant", "expected the grant that the record names, got another", place)
        else:
            self._tokens[leaf] = token

    def add_kept(self, token: str) -> None:
        """Keep a grant that stands in no record any more; it is the one that records name, or nothing."""
        try:
            self._tokens.setdefault(token_hash(token), token)
        except TokenError:
            return

    def find(self, grant: bytes) -> Use | None:
        """Return the use of a leaf grant, by its hash as it stands in the bytes of a record."""
        return self._uses.get(grant)

    def see(self, record: Mapping[str, object], place: Place) -> Use:
        """Return the use that a record belongs to, having compared what it says with the earlier records.

        Args:
            record: A record of a task, of the right shape.
            place: Where it is.
        """
        leaf = cast("Sequence[Mapping[str, str]]", record["chain"])[-1]["grant"].encode()
        use = self._uses.get(leaf)
        if use is None:
            use = self._uses[leaf] = Use(record, place)
        elif not use.says_the_same(record):
            self._findings.add(
                self._step,
                "claims_differ",
                "expected principal, agent, task and chain as in the other records under the grant, got others",
                place,
            )
        return use

    def settle(self, *, absent: str | None, proved: Callable[[Place], bool] = lambda _: True) -> None:
        """Judge every chain, now that all is read.

        Args:
            absent: Why a grant may be missing without a contradiction, or ``None`` if none may.
            proved: Returns whether the record at a place is proved to be what it says, its time included.
        """
        judged = unjudged = 0
        for use in self._uses.values():
            missing = [link["grant"] for link in use.chain if link["grant"] not in self._tokens]
            if missing:
                unjudged += 1
                self._report_missing(use, absent)
            elif self._trust is not None:
                judged += self._judge(use, self._trust, proved)
        self._findings.counts["chains_verified"] = judged
        self._findings.counts["chains_not_checked"] = unjudged
        if self._trust is None:
            self._findings.skip(self._step, "no trusted keys")
        elif unjudged and absent:
            self._findings.skip(self._step, f"{counted(judged, 'chain')} verified, {unjudged:,} not checked: {absent}")
        else:
            self._findings.done(self._step, f"{counted(judged, 'chain')} verified")

    def check_counts(self, step: int) -> None:
        """Compare what the ends of tasks state with what is there; more may be there, from other threads."""
        for use in self._uses.values():
            if use.end is not None and (use.intents < use.stated_intents or use.outcomes < use.stated_outcomes):
                self._findings.add(
                    step,
                    "counts_disagree",
                    f"expected {counted(use.stated_intents, 'intent')} and "
                    f"{counted(use.stated_outcomes, 'outcome')} of the task, "
                    f"got {use.intents} and {use.outcomes}",
                    use.end,
                )

    def _report_missing(self, use: Use, absent: str | None) -> None:
        if absent is None:
            message = "expected every grant of the chain in the evidence, got a chain with one that is not there"
            self._findings.add(self._step, "unknown_grant", message, use.place)
        else:
            self._findings.add(self._step, "chain_not_checked", f"the chain was not checked: {absent}", use.place)

    def _judge(self, use: Use, trust: TrustStore, proved: Callable[[Place], bool]) -> bool:
        """Verify the chain of a use and what was done under it; return whether the chain holds."""
        try:
            chain, issuer = _verify([self._tokens[link["grant"]] for link in use.chain], trust)
            _refuse_revoked(chain, issuer, use, proved)
        except (TokenError, AttenuationError) as error:
            code = (
                error.code if error.code in REVOKED else "unknown_issuer" if error.code in _UNTRUSTED else "bad_grant"
            )
            self._findings.add(self._step, code, f"the chain does not verify ({error.code}): {error}", use.place)
            return False
        if not _names(chain, use):
            message = "expected principal, agents and task as the grants name them, got others"
            self._findings.add(self._step, "claims_differ", message, use.place)
            return False
        use.leaf = chain.leaf
        self._judge_calls(chain.leaf, use)
        return True

    def _judge_calls(self, leaf: Grant, use: Use) -> None:
        for tool, place in use.tools.items():
            if tool not in leaf.scope.tools:
                message = "expected only tools of the grant to be allowed, got another one"
                self._findings.add(self._step, "tool_outside_grant", message, place)
        if use.last_ns >= leaf.expires_at * _NS:
            message = "expected allowed calls within the life of the grant, got one after it"
            self._findings.add(self._step, "outside_grant_time", message, use.last())
        if 0 <= use.first_ns < (leaf.issued_at - SKEW) * _NS:
            # Whoever names the hash of a grant has seen it: only a clock that went back dates the call before it.
            message = "expected allowed calls to be dated after their grant, got one before it; the clock went back"
            self._findings.add(self._step, "dated_before_grant", message, use.first())


def _without_purpose(record: Mapping[str, object]) -> dict[str, str]:
    task = cast("dict[str, str]", record["task"])
    return {name: fact for name, fact in task.items() if name != "purpose"} if "purpose" in task else task


def _verify(tokens: Sequence[str], trust: TrustStore) -> tuple[Chain, TrustedKey]:
    """Verify a chain as of the time of its root; how long grants may live was for the enforcement point to say."""
    used: list[TrustedKey] = []

    def anchor(thumbprint: str) -> PublicKey:
        trusted = trust.get(thumbprint, "issuer")
        if trusted is None:
            raise TokenError("expected a trusted issuer key, got another; add it to the trust file", code="unknown_key")
        used.append(trusted)
        return trusted.key

    chain = verify_chain(tokens, anchors=anchor, issuer=None, now=None, max_lifetime=MAX_TTL)
    trust.check_issuer(used[0].key.thumbprint, chain.root.issuer)
    if not used[0].in_time(chain.root.issued_at):
        raise TokenError("expected a grant from the time in which the issuer key is valid", code="key_not_valid_then")
    return chain, used[0]


def _refuse_revoked(chain: Chain, issuer: TrustedKey, use: Use, proved: Callable[[Place], bool]) -> None:
    """Refuse a grant that whoever has a revoked key may have made; a record from before shows that it is older.

    Raises:
        TokenError: Nothing shows that (``key_revoked``), or the grant says itself that it is younger.
    """
    since = issuer.revoked_since
    if since is None or (use.seen_ns < since * _NS and chain.root.issued_at < since and proved(use.place)):
        return
    if chain.root.issued_at >= since:
        raise TokenError("expected a grant from before the issuer key was revoked, got a later one", code=LATE)
    raise TokenError(
        "expected proof that the grant is older than the revocation of the issuer key, got none", code="key_revoked"
    )


def _names(chain: Chain, use: Use) -> bool:
    """Return whether the records under a chain name what its grants name."""
    leaf = chain.leaf
    links = [{"id": grant.agent.id, "grant": grant.hash} for grant in chain.grants]
    # Tuples of claims become the arrays that records have.
    principal, agent = orjson.loads(orjson.dumps([leaf.principal.to_claim(), leaf.agent.to_claim()]))
    expires = int(use.task.get("expires", "0"))
    return (
        (use.principal, use.agent, use.chain) == (principal, agent, links)
        and use.task["id"] == leaf.task_id
        and expires <= leaf.expires_at * _NS
    )
