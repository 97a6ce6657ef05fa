"""Grants that are fetched and handed over to be judged: as many as are needed, and not all of them at once."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from agent_identity._authority.grants.grants import MAX_CHAIN
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._identity.keys.jws import token_hash
from agent_identity._record.codec import decode
from agent_identity._verify.grants import chain_check
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.workers import in_process
from agent_identity.identity import SigningKey, TrustedKey, TrustStore

KEY = SigningKey.from_seed(b"i" * 32).public_key
TRUST = TrustStore((TrustedKey(KEY, "issuer"),), issuer="urn:example:issuer", origin="test")
UUID = "AZq1rUgAcACAAAAAAAAAAQ"
SAID = {
    "v": "1",
    "id": UUID,
    "kind": "task_start",
    "stream": {"id": UUID, "seq": "2", "prev": "A" * 43},
    "time": {"start": "7"},
    "task": {"id": "t"},
    "principal": {"id": "p", "kind": "human", "provenance": "asserted"},
    "agent": {"id": "a", "owner": "o"},
}
LARGE = [f"e.{number}{'x' * 60_000}.AAAA" for number in range(32)]


def delegations(findings: Findings, *, uses: int, known: int = 32) -> Delegations:
    """Return uses of chains of the same large grants, of which so many are there, and each of its own small one."""
    kept = Delegations(findings, 0, TRUST)
    for token in LARGE[:known]:
        kept.add_kept(token)
    for number in range(uses):
        leaf = f"e.{number}.AAAA"
        kept.add_kept(leaf)
        chain = [{"id": "a", "grant": token_hash(token)} for token in (*LARGE, leaf)]
        kept.see(decode(encode_record({**SAID, "chain": chain})), Place(f"first {number}", "a", number))
    return kept


class Noted:
    """Does the work in this process, and notes how much is handed over at once."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self.chains: list[int] = []

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any], /) -> Iterator[Any]:
        """Return the results."""
        for item in items:
            self.chains.append(len(item))
            self.bytes.append(sum(sum(map(len, asked.tokens or ())) for asked in item))
            yield from function(item)


def found(findings: Findings) -> list[tuple[str, str, str]]:
    """Return what was found, in its order."""
    return [(problem.code, problem.message, problem.record or "") for problem in findings.report().findings]


@pytest.mark.parametrize("near", [1, 4_096])
def test_large_grants_are_handed_over_a_few_at_a_time(near: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chains of the same large grants take no more memory than a few, and are judged as in one process."""
    monkeypatch.setattr(chain_check, "_MAX_NEAR", near)
    noted, reports = Noted(), []
    for executor in (in_process, noted):
        findings = Findings("ledger", ["x"])
        delegations(findings, uses=40).settle(absent=None, executor=executor)
        reports.append(found(findings))
    assert reports[0] == reports[1]
    assert {(code, "too_large" in message) for code, message, _ in reports[0]} == {("bad_grant", True)}
    assert sum(noted.chains) == len(reports[0]) == 40
    assert len(noted.bytes) > 2
    assert max(noted.bytes) < 5 * 1024 * 1024


def test_small_chains_are_handed_over_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs little is judged by number, the last ones together as well."""
    monkeypatch.setattr(chain_check, "_BATCH", 3)
    noted, findings = Noted(), Findings("ledger", ["x"])
    delegations(findings, uses=7, known=0).settle(absent=None, executor=noted)
    assert noted.chains == [3, 3, 1]
    assert [code for code, _, _ in found(findings)] == ["unknown_grant"] * 7


@pytest.mark.parametrize("known", [31, 32])
def test_grants_of_a_chain_that_is_too_large_are_looked_up_and_not_read(
    known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than a chain may have stay on the disk, and one that is missing is missed all the same."""
    monkeypatch.setattr(chain_check, "_MAX_NEAR", 1)
    findings = Findings("ledger", ["x"])
    kept = delegations(findings, uses=1, known=known)
    noted = Noted()
    kept.settle(absent=None, executor=noted)
    assert noted.bytes == ([MAX_CHAIN // len(LARGE[0]) * len(LARGE[0]) + len(LARGE[0])] if known == 32 else [0])
    (problem,) = found(findings)
    assert (problem[0], "too_large" in problem[1]) == (("bad_grant", True) if known == 32 else ("unknown_grant", False))


def test_a_leaf_is_returned_where_it_is_wanted() -> None:
    """Of a chain that does not hold, or that nobody wants, none is."""
    kept = delegations(Findings("ledger", ["x"]), uses=1, known=1)
    assert kept.leaf("x") is None
    kept.want("x")
    kept.settle(absent=None)
    assert kept.leaf("x") is None
