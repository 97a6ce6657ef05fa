"""Whether the authority that records name was granted: chains of grants, and what was done under them.

Records come before, between and after the grants that they name, so what each chain was used for is kept
in compact form, and judged once, when all is read. What does not fit into memory is on the disk meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, cast, final

import orjson

from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.overflow import Overflow
from agent_identity.audit.patterns import Context, context_of
from agent_identity.audit.revocation import LATE, REVOKED
from agent_identity.authority import MAX_TTL, SKEW, Chain, Grant, token_hash, verify_chain
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import PublicKey, TrustedKey, TrustStore

__all__ = ["Delegations", "Use"]

_NS: Final = 1_000_000_000
_UNTRUSTED: Final = frozenset({"unknown_key", "key_not_valid_then"})
_MAX_TOOLS: Final = 1_024  # A scope names at most 256; whoever uses more is outside it.
_MAX_NEAR: Final = 8_192  # Uses and grants in memory, of some 4 and 1 KiB each.


class _Placed(Protocol):
    """What has a place."""

    def place(self) -> Place:
        """Return it."""
        ...


@final
class Use:
    """What records say and do under one grant.

    Attributes:
        grant: The hash of its leaf grant, in the bytes of the records.
        number: Its place in the order in which uses came.
        principal: The member ``principal`` of its records.
        agent: The member ``agent`` of its records.
        chain: The member ``chain`` of its records.
        task: The member ``task`` of its records, without the purpose.
        context: How these members are written in its calls.
        place: Its first record.
        seen_ns: When that was made, in nanoseconds since the Unix epoch.
        tools: What was let through, each tool with the first record that says so.
        intents: The number of intents under it.
        outcomes: The number of outcomes under it.
        stated_intents: The number of intents that the ends of the task state.
        stated_outcomes: The number of outcomes that the ends of the task state.
        end: Where the task ended.
        leaf: The grant, once its chain is found to hold.
        kept: It stays in memory, because something else refers to it.
    """

    __slots__ = (
        "_begun",
        "_stated",
        "_stream",
        "agent",
        "chain",
        "context",
        "end",
        "first",
        "first_ns",
        "grant",
        "intents",
        "kept",
        "last",
        "last_ns",
        "leaf",
        "number",
        "outcomes",
        "place",
        "principal",
        "seen_ns",
        "stated_intents",
        "stated_outcomes",
        "task",
        "tools",
    )

    def __init__(self, record: Mapping[str, object], place: Place, number: int = 0) -> None:
        self.number = number
        self.principal = record["principal"]
        self.agent = record["agent"]
        self.chain = cast("Sequence[Mapping[str, str]]", record["chain"])
        self.grant = self.chain[-1]["grant"].encode()
        self.task = _without_purpose(record)
        self.context = context_of(record, self.task)
        self.place = place
        times = cast("dict[str, str]", record["time"])
        self.seen_ns = int(times.get("end", times["start"]))
        self.tools: dict[str, Place] = {}
        self.first_ns = self.last_ns = -1
        self.first: _Placed = place
        self.last: _Placed = place
        self.intents = self.outcomes = self.stated_intents = self.stated_outcomes = 0
        self.end: Place | None = None
        self.leaf: Grant | None = None
        self.kept = False
        self._stream: str | None = None
        self._begun = 0
        self._stated = (0, 0)

    def packed(self) -> bytes:
        """Return the bytes from which :meth:`unpacked` makes it again."""
        said = (self.number, self.principal, self.agent, self.chain, self.task, self.seen_ns, tuple(self.place))
        tools = [(tool, *place) for tool, place in self.tools.items()]
        done = (tools, self.first_ns, tuple(self.first.place()), self.last_ns, tuple(self.last.place()))
        # Sums of what is stated may be larger than numbers in JSON can be.
        counts = (self.intents, self.outcomes, str(self.stated_intents), str(self.stated_outcomes))
        begun = (self._stream, self._begun, *map(str, self._stated))
        end = self.end and tuple(self.end)
        return orjson.dumps((said, done, counts, begun, end, [part.decode() for part in self.context]))

    @classmethod
    def unpacked(cls, data: bytes) -> "Use":
        """Return the use that :meth:`packed` kept."""
        said, done, counts, begun, end, context = orjson.loads(data)
        number, principal, agent, chain, task, seen_ns, place = said
        record = {"principal": principal, "agent": agent, "chain": chain, "task": task, "time": {"start": seen_ns}}
        use = cls(record, Place(*place), number)
        tools, use.first_ns, first, use.last_ns, last = done
        use.tools = {tool: Place(*where) for tool, *where in tools}
        use.first, use.last = Place(*first), Place(*last)
        use.intents, use.outcomes = counts[:2]
        use.stated_intents, use.stated_outcomes = map(int, counts[2:])
        use._stream, use._begun, *stated = begun
        use._stated = (int(stated[0]), int(stated[1]))
        use.end = None if end is None else Place(*end)
        use.context = Context(*(part.encode() for part in context))
        return use

    def recognise(self, record: Mapping[str, object], context: Context | None) -> None:
        """Keep how a call is written that says the same as the others; later ones can be recognised by it."""
        if context is not None and self.says_the_same(record):
            self.context = context

    def count(self, *, concluded: bool) -> None:
        """Count an outcome, or an intent."""
        if concluded:
            self.outcomes += 1
        else:
            self.intents += 1

    def allow(self, tool: str, at_ns: int, where: "_Placed") -> None:
        """Keep that a call of the tool was let through.

        Args:
            tool: The name of the tool.
            at_ns: When it began, in nanoseconds since the Unix epoch.
            where: The record that says so.
        """
        if tool not in self.tools and len(self.tools) < _MAX_TOOLS:
            self.tools[tool] = where.place()
        if at_ns > self.last_ns:
            self.last_ns, self.last = at_ns, where
        if at_ns < self.first_ns or self.first_ns < 0:
            self.first_ns, self.first = at_ns, where

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
        self._far_tokens = Overflow()
        self._far_uses = Overflow()
        self._number = 0

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
            self._keep(leaf, token)

    def add_kept(self, token: str) -> None:
        """Keep a grant that stands in no record any more; it is the one that records name, or nothing."""
        try:
            self._keep(token_hash(token), token)
        except TokenError:
            return

    def _keep(self, leaf: str, token: str) -> None:
        self._tokens[leaf] = token
        if len(self._tokens) > _MAX_NEAR:
            self._far_tokens.put((name.encode(), 0, kept.encode()) for name, kept in self._tokens.items())
            self._tokens.clear()

    def _token(self, leaf: str) -> str | None:
        near = self._tokens.get(leaf)
        if near is not None:
            return near
        far = self._far_tokens.get(leaf.encode())
        return None if far is None else far[1].decode()

    def find(self, grant: bytes) -> Use | None:
        """Return the use of a leaf grant, by its hash as it stands in the bytes of a record.

        What was returned before may be on the disk afterwards, and is not to be changed any more.
        """
        use = self._uses.get(grant)
        if use is not None:
            return use
        far = self._far_uses.get(grant)
        if far is None:
            return None
        self._make_room()
        use = self._uses[grant] = Use.unpacked(far[1])
        return use

    def _make_room(self) -> None:
        """Move the uses to the disk once there are too many, but for those that are referred to."""
        if len(self._uses) >= _MAX_NEAR:
            self._far_uses.put((grant, use.number, use.packed()) for grant, use in self._uses.items() if not use.kept)
            self._uses = {grant: use for grant, use in self._uses.items() if use.kept}

    def _all(self) -> Iterator[Use]:
        """Return the uses in the order in which they came."""
        if not self._far_uses:
            yield from sorted(self._uses.values(), key=lambda use: use.number)
            return
        kept = {grant: use for grant, use in self._uses.items() if use.kept}
        # Those that stay in memory have their place in the order all the same.
        self._far_uses.put((grant, use.number, use.packed()) for grant, use in self._uses.items())
        self._uses = kept
        for grant, data in self._far_uses.items():
            yield kept.get(grant) or Use.unpacked(data)

    def see(self, record: Mapping[str, object], place: Place) -> Use:
        """Return the use that a record belongs to, having compared what it says with the earlier records.

        Args:
            record: A record of a task, of the right shape.
            place: Where it is.
        """
        leaf = cast("Sequence[Mapping[str, str]]", record["chain"])[-1]["grant"].encode()
        use = self.find(leaf)
        if use is None:
            self._make_room()
            self._number += 1
            use = self._uses[leaf] = Use(record, place, self._number)
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
        for use in self._all():
            tokens = [self._token(link["grant"]) for link in use.chain]
            if None in tokens:
                unjudged += 1
                self._report_missing(use, absent)
            elif self._trust is not None:
                judged += self._judge(use, cast("list[str]", tokens), self._trust, proved)
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
        for use in self._all():
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

    def _judge(self, use: Use, tokens: Sequence[str], trust: TrustStore, proved: Callable[[Place], bool]) -> bool:
        """Verify the chain of a use and what was done under it; return whether the chain holds."""
        try:
            chain, issuer = _verify(tokens, trust)
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
            self._findings.add(self._step, "outside_grant_time", message, use.last.place())
        if 0 <= use.first_ns < (leaf.issued_at - SKEW) * _NS:
            # Whoever names the hash of a grant has seen it: only a clock that went back dates the call before it.
            message = "expected allowed calls to be dated after their grant, got one before it; the clock went back"
            self._findings.add(self._step, "dated_before_grant", message, use.first.place())


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
