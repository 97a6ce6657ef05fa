"""Whether the authority that records name was granted: chains of grants, and what was done under them.

Records come before, between and after the grants that they name, so what each chain was used for is kept
in compact form, and judged once, when all is read. What does not fit into memory is on the disk meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, cast, final

from agent_identity.audit.chain_judge import judge, judge_packed
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.overflow import Overflow
from agent_identity.audit.spent_limits import SpentLimits
from agent_identity.audit.spreading import Spread
from agent_identity.audit.use_store import Packed, UseStore
from agent_identity.audit.uses import Use
from agent_identity.authority import MAX_CHAIN, token_hash
from agent_identity.errors import TokenError
from agent_identity.identity import TrustStore

__all__ = ["Delegations", "Use"]

_LINKS: Final = 5
_MAX_TOKENS: Final = 4_096  # Grants in memory, of some 1 KiB each.
_BATCH: Final = 256  # Chains that another process judges at once,
_BATCH_BYTES: Final = 4 * 1024 * 1024  # or fewer large ones: several batches wait for each process, each copied twice.


@final
class Delegations:
    """The grants of a source, and what its records did under them.

    Args:
        findings: Takes what is found.
        step: The number of the step about grants.
        trust: The trusted keys, or ``None``.
        part: Whether only a part of the source is read, so that what is kept will be merged.
    """

    def __init__(self, findings: Findings, step: int, trust: TrustStore | None, *, part: bool = False) -> None:
        self._findings = findings
        self._step = step
        self._trust = trust
        self._tokens: dict[str, str] = {}
        self._far_tokens = Overflow()
        self._uses = UseStore(part=part)

    def narrow(self, trust: TrustStore) -> None:
        """Take the trusted keys as they are for the log at hand, now that it is known which one it is.

        Args:
            trust: The trusted keys.
        """
        self._trust = trust

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
        if len(self._tokens) > _MAX_TOKENS:
            self._far_tokens.put((name.encode(), 0, kept.encode()) for name, kept in self._tokens.items())
            self._tokens.clear()

    def _token(self, leaf: str) -> str | None:
        near = self._tokens.get(leaf)
        if near is not None:
            return near
        far = self._far_tokens.get(leaf.encode())
        return None if far is None else far[1].decode()

    def _knows(self, leaf: str) -> bool:
        return leaf in self._tokens or leaf.encode() in self._far_tokens

    def find(self, grant: bytes) -> Use | None:
        """Return the use of a leaf grant, by its hash as it stands in the bytes of a record.

        What was returned before may be on the disk afterwards, and is not to be changed any more.
        """
        return self._uses.find(grant)

    def see(self, record: Mapping[str, object], place: Place) -> Use:
        """Return the use that a record belongs to, having compared what it says with the earlier records.

        Args:
            record: A record of a task, of the right shape.
            place: Where it is.
        """
        leaf = cast("Sequence[Mapping[str, str]]", record["chain"])[-1]["grant"].encode()
        use = self.find(leaf)
        if use is None:
            use = self._uses.create(record, place)
        elif not use.says_the_same(record):
            self._findings.add(
                self._step,
                "claims_differ",
                "expected principal, agent, task and chain as in the other records under the grant, got others",
                place,
            )
        return use

    def shipped(self) -> tuple[list[Packed], list[tuple[str, str]]]:
        """Return what was kept of a part: its uses in their order, and its grants."""
        far = ((name.decode(), token.decode()) for name, token in self._far_tokens.rows())
        # Of two with the same hash, whose signatures differ, the later one counts, which is no longer far.
        return list(self._uses.packed()), [*far, *self._tokens.items()]

    def merge(self, uses: Sequence[Packed], tokens: Sequence[tuple[str, str]]) -> bool:
        """Take over what a later part did under grants, and the grants that it holds.

        Returns:
            Whether they say the same as those that are known; else nothing is changed.
        """
        again = {packed.leaf: Use.unpacked(packed.data) for packed in uses if self._uses.find(packed.leaf) is not None}
        for leaf, use in again.items():
            known = self._uses.find(leaf)
            if known is None or not known.agrees_with(use):
                return False
        for packed in uses:
            known = self._uses.find(packed.leaf) if packed.leaf in again else None
            if known is None:
                self._uses.adopt(packed)
            else:
                known.absorb(again[packed.leaf])
        for name, token in tokens:
            self._keep(name, token)
        return True

    def settle(
        self,
        *,
        absent: str | None,
        proved: Callable[[Place], bool] = lambda _: True,
        spread: Spread | None = None,
    ) -> None:
        """Judge every chain, now that all is read.

        Args:
            absent: Why a grant may be missing without a contradiction, or ``None`` if none may.
            proved: Returns whether the record at a place is proved to be what it says, its time included.
            spread: Has other processes do the work.
        """
        trust, judged, unjudged = self._trust, 0, 0
        if spread is None or trust is None or any(key.revoked_since is not None for key in trust.keys):
            for use in self._uses.uses():
                tokens = self._tokens_of([link["grant"] for link in use.chain])
                verdict = judge(use, tokens, trust, absent=absent, proved=proved, add=self._add)
                judged, unjudged = judged + (verdict is True), unjudged + (verdict is None)
        else:
            for found in spread(partial(judge_packed, trust=trust, absent=absent), self._batches()):
                judged, unjudged = judged + found.judged, unjudged + found.unjudged
                for code, message, place in found.problems:
                    self._add(code, message, place)
        self._count_limits()
        self._conclude(judged, unjudged, absent)

    def _count_limits(self) -> None:
        """Count what was done against the limits of each task, whose grants are delegated in many uses."""
        spent = SpentLimits(self._add)
        for use in self._uses.uses():
            leaf = self._token(use.chain[-1]["grant"]) if use.ended else None
            if leaf is not None:
                spent.take(use, leaf)
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
        """Return the grants of a chain, or ``None`` if one is not there.

        Behind more than a chain may have, an empty text stands for each: that the chain is too large is known then.
        """
        tokens: list[str] = []
        size = 0
        for grant in grants:
            token = self._token(grant) if size <= MAX_CHAIN else "" if self._knows(grant) else None
            if token is None:
                return None
            tokens.append(token)
            size += len(token)
        return tokens

    def _batches(self) -> Iterator[list[tuple[bytes, list[str] | None]]]:
        batch: list[tuple[bytes, list[str] | None]] = []
        size = 0
        for packed in self._uses.packed():
            tokens = self._tokens_of(packed.grants.decode().split(","))
            batch.append((packed.data, tokens))
            size += len(packed.data) + sum(map(len, tokens or ()))
            if len(batch) == _BATCH or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch
