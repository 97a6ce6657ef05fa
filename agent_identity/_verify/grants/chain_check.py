"""Checks chains of grants, and the calls under them.

Records come before, between and after the grants that they name, so the usage of each chain is kept in compact
form, and judged once, when all is read. What does not fit into memory is spilled to disk.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, final

from agent_identity._authority.grants.grants import MAX_CHAIN, Grant
from agent_identity._identity.keys.jws import token_hash
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record.schema import OF_TASKS, AnyRecord
from agent_identity._verify.grants._chain_verdict import Asked, judge_all
from agent_identity._verify.grants._spent_limits import SpentLimits
from agent_identity._verify.grants.grant_usage import GrantUsage, Placed
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity._verify.store.workers import Executor, in_process
from agent_identity.errors import TokenError

__all__ = ["Delegations"]

_LINKS: Final = 5
_MAX_NEAR: Final = 4_096  # Grants in memory, of some 1 KiB each, and what was done under them, of 4 KiB.
_BATCH: Final = 256  # Chains that a worker judges at once,
_BATCH_BYTES: Final = 4 * 1024 * 1024  # or fewer large ones: several batches wait for each worker, each copied twice.


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

    def _tokens_of(self, grants: Sequence[str]) -> list[str] | None:
        """Return the grants of a chain, or ``None`` if one is missing.

        After the size limit of a chain, each further grant is an empty string: the chain is known to be too large.
        """
        tokens: list[str] = []
        size = 0
        for grant in grants:
            key = grant.encode()
            token = self._tokens.get(key) if size <= MAX_CHAIN else "" if key in self._tokens else None
            if token is None:
                return None
            tokens.append(token)
            size += len(token)
        return tokens

    def _batches(self, proved: Callable[[Place], bool], *, kept: bool) -> Iterator[list[Asked]]:
        batch: list[Asked] = []
        size = 0
        for usage in self._usages.values():
            tokens = self._tokens_of([hop.grant for hop in usage.said.chain])
            due = kept and usage.ran
            batch.append(Asked(usage, tokens, proved(usage.place), usage.grant in self._leaves, due))
            size += sum(map(len, tokens or ()))
            if len(batch) == _BATCH or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
