"""One chain of grants, and what was done under it, judged by itself."""

import pickle
from typing import Any

import pytest

from agent_identity import Agent, Human, Scope
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._verify.grants.chain_check import Asked, judge_all
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.report.findings import Place
from agent_identity.identity import PublicKey, SigningKey, TrustedKey, TrustStore
from agent_identity.records import TaskStart

NOW = 1_764_000_000
NS = 10**9
ISSUER = SigningKey.from_seed(b"i" * 32)
HOLDER = SigningKey.from_seed(b"h" * 32)
TASK = "AZq2l-gAcACAAAAAAAAAAQ"
HERE = Place("first", "a", 2)
END = Place("end", "a", 9)


def grants(*, holder: PublicKey = HOLDER.public_key, issuer: str = "urn:example:issuer") -> Chain:
    """Return a chain of two grants, for pay and read and then for pay only, of 300 seconds."""
    root = issue(
        ISSUER,
        issuer=issuer,
        task_id=TASK,
        principal=Human("alice@example.com", roles=("clerk",)),
        agent=Agent("clerk", owner="finance@example.com"),
        holder=holder,
        scope=Scope("pay") | Scope("read"),
        now=NOW,
        ttl=300,
        id="019ab697-e800-7000-8000-000000000002",
    )
    leaf = derive(
        Chain((root,)),
        HOLDER,
        agent=Agent("helper", owner="finance@example.com"),
        holder=HOLDER.public_key,
        scope=Scope("pay"),
        now=NOW,
        ttl=300,
        id="019ab697-e800-7000-8000-000000000003",
    )
    return Chain((root, leaf))


CHAIN = grants()
TOKENS = [grant.token for grant in CHAIN.grants]


def trusting(**limits: Any) -> TrustStore:
    """Return a store that trusts the issuer within limits."""
    return TrustStore((TrustedKey(ISSUER.public_key, "issuer", **limits),), issuer="urn:example:issuer", origin="test")


def use_of(chain: Chain = CHAIN, /, **changes: Any) -> GrantUsage:
    """Return a use whose first record says what the grants say, but for changes."""
    said = {
        "v": "1",
        "id": TASK,
        "kind": "task_start",
        "stream": {"id": TASK, "seq": "2", "prev": "A" * 43},
        "task": {"id": TASK, "expires": str((NOW + 300) * NS)},
        "principal": chain.leaf.principal.to_claim() | {"roles": ["clerk"]},
        "agent": chain.leaf.agent.to_claim(),
        "chain": [{"id": grant.agent.id, "grant": grant.hash} for grant in chain.grants],
        "time": {"start": str(NOW * NS)},
    }
    record = decode(encode_record({**said, **changes}))
    assert isinstance(record, TaskStart)
    return GrantUsage(record, HERE)


def judged(
    use: GrantUsage,
    tokens: list[str] | None = TOKENS,
    trust: TrustStore | None = None,
    *,
    absent: str | None = None,
    proved: bool = True,
) -> tuple[bool | None, list[tuple[str, str, Place]]]:
    """Judge a use; return whether its chain holds, and what was found."""
    (found,) = judge_all([Asked(use, tokens, proved)], trust=trust or trusting(), absent=absent)
    assert (found.grant, found.leaf) == (use.grant, None)
    return found.holds, list(found.problems)


def codes(found: list[tuple[str, str, Place]]) -> list[tuple[str, Place]]:
    """Return what was found where."""
    return [(code, place) for code, _, place in found]


def test_a_chain_that_holds_is_found_to_hold() -> None:
    """What was done within it is nothing to report, and its leaf is there for those who look at arguments."""
    use = use_of()
    use.allow("pay", NOW * NS, HERE)
    assert judged(use) == (True, [])
    (found,) = judge_all([Asked(use, TOKENS, True, wanted=True)], trust=trusting(), absent=None)
    assert (found.holds, found.leaf, found.problems) == (True, CHAIN.leaf, [])


def test_without_all_grants_nothing_is_known() -> None:
    """That is a contradiction, unless it is known why one may be missing."""
    use = use_of()
    use.allow("delete", NOW * NS, HERE)
    missing = "a grant of the chain is not in the evidence"
    assert judged(use, None) == (None, [("unknown_grant", missing, HERE)])
    excused = "the chain was not checked: it was pruned"
    assert judged(use, None, absent="it was pruned") == (None, [("chain_not_checked", excused, HERE)])


def test_without_trust_no_chain_holds() -> None:
    """That is said of all chains once, not of each."""
    (found,) = judge_all([Asked(use_of(), TOKENS, True, wanted=True)], trust=None, absent=None)
    assert (found.holds, found.leaf, found.problems) == (False, None, [])


@pytest.mark.parametrize(
    ("intents", "outcomes", "fewer"), [(2, 3, False), (1, 3, True), (2, 2, True), (3, 4, False), (1, 1, True)]
)
def test_a_task_did_at_least_what_its_end_states(intents: int, outcomes: int, fewer: bool) -> None:
    """More is there if other threads did more."""
    use = use_of()
    use.end, use.stated_intents, use.stated_outcomes = END, 2, 3
    use.intents, use.outcomes = intents, outcomes
    message = f"the end of the task states 2 intents and 3 outcomes, and the evidence has {intents} and {outcomes}"
    assert judged(use) == (True, [("counts_disagree", message, END)] if fewer else [])
    use.end = None
    assert judged(use) == (True, [])


def test_only_tools_of_the_grant_may_be_used() -> None:
    """Those of the root are not enough, and each other one is reported where it was used first."""
    use = use_of()
    for seq, tool in enumerate(("read", "pay", "delete")):
        use.allow(tool, NOW * NS, Place("call", "a", seq))
    verdict, found = judged(use)
    assert verdict is True
    message = "a call of a tool outside the grant was allowed"
    assert found == [("tool_outside_grant", message, Place("call", "a", seq)) for seq in (0, 2)]


def test_calls_are_within_the_life_of_the_grant_to_the_nanosecond() -> None:
    """It ends with its last second; before its first one, clocks may differ by half a minute."""
    late = "a call was allowed after the grant expired"
    early = "an allowed call is dated before its grant; the clock went back"
    call = Place("call", "a", 3)
    for at, expected in (
        ((NOW + 300) * NS - 1, []),
        ((NOW + 300) * NS, [("outside_grant_time", late, call)]),
        ((NOW - 30) * NS, []),
        ((NOW - 30) * NS - 1, [("dated_before_grant", early, call)]),
        (0, [("dated_before_grant", early, call)]),
    ):
        use = use_of()
        use.allow("pay", at, call)
        assert judged(use) == (True, expected)


PRINCIPAL, AGENT = CHAIN.leaf.principal.to_claim(), CHAIN.leaf.agent.to_claim()
OTHERS: dict[str, dict[str, Any]] = {
    "kind": {"principal": {**PRINCIPAL, "kind": "service"}},
    "provenance": {"principal": {**PRINCIPAL, "provenance": "verified"}},
    "issuer": {"principal": {**PRINCIPAL, "issuer": "https://idp.example.com"}},
    "roles": {"principal": {**PRINCIPAL, "roles": ["clerk", "admin"]}},
    "no roles": {"principal": {name: fact for name, fact in PRINCIPAL.items() if name != "roles"}},
    "via": {"principal": {**PRINCIPAL, "via": ["portal"]}},
    "id": {"agent": {**AGENT, "id": "other"}},
    "version": {"agent": {**AGENT, "version": "2"}},
    "principal": {"principal": {**PRINCIPAL, "id": "mallory@example.com"}},
    "agent": {"agent": {"id": "helper", "owner": "finance@example.org"}},
    "root": {"chain": [{"id": "clerc", "grant": CHAIN.root.hash}, {"id": "helper", "grant": CHAIN.leaf.hash}]},
    "grant": {"chain": [{"id": "clerk", "grant": "A" * 43}, {"id": "helper", "grant": CHAIN.leaf.hash}]},
    "task": {"task": {"id": TASK[:-1] + "9"}},
    "expiry": {"task": {"id": TASK, "expires": str((NOW + 300) * NS + 1)}},
}


@pytest.mark.parametrize("name", OTHERS)
def test_records_name_what_the_grants_name(name: str) -> None:
    """Principal, agents, task, and an expiry that is none too late; else no call is judged by the grants."""
    use = use_of(**OTHERS[name])
    use.allow("delete", NOW * NS, HERE)
    message = "principal, agents or task of the records differ from the grants"
    assert judged(use) == (False, [("claims_differ", message, HERE)])


def test_an_expiry_may_be_earlier_or_not_said() -> None:
    """The grants say when the authority ends."""
    assert judged(use_of(task={"id": TASK})) == (True, [])
    assert judged(use_of(task={"id": TASK, "expires": "0"})) == (True, [])


def test_a_chain_that_does_not_verify_is_a_bad_grant() -> None:
    """A signature of somebody else, or a grant that is not the next one."""
    signature = TOKENS[1].rpartition(".")[2]
    forged = TOKENS[1].removesuffix(signature) + signature[::-1]
    for tokens in ([TOKENS[0], forged], [TOKENS[0], TOKENS[0]]):
        use = use_of()
        verdict, found = judged(use, tokens)
        assert verdict is False
        assert codes(found) == [("bad_grant", HERE)]
        assert found[0][1].startswith("the chain does not verify (")


def test_an_issuer_that_is_not_trusted_is_unknown() -> None:
    """No key, a key for something else, or none at the time of the root grant."""
    stranger = SigningKey.from_seed(b"s" * 32).public_key
    recorder = TrustedKey(ISSUER.public_key, "recorder")
    unknown = (
        "the chain does not verify (unknown_key): the issuer key of the grant is not trusted; "
        "take its issuer's trust file"
    )
    for key in (TrustedKey(stranger, "issuer"), recorder):
        trust = TrustStore((key,), issuer="urn:example:issuer", origin="test")
        assert judged(use_of(), trust=trust) == (False, [("unknown_issuer", unknown, HERE)])
    invalid = "the chain does not verify (key_not_valid_then): the issuer key was not valid when it signed the grant"
    for limits in ({"not_before": NOW + 1}, {"not_after": NOW - 1}):
        verdict, found = judged(use_of(), trust=trusting(**limits))
        assert (verdict, codes(found)) == (False, [("unknown_issuer", HERE)])
        assert found[0][1] == invalid
    assert judged(use_of(), trust=trusting(not_before=NOW, not_after=NOW)) == (True, [])


def test_an_issuer_speaks_in_its_own_name_only() -> None:
    """A root grant that names another issuer than its key has is none."""
    chain = grants(issuer="urn:example:other")
    verdict, found = judged(use_of(chain), [grant.token for grant in chain.grants])
    assert (verdict, codes(found)) == (False, [("bad_grant", HERE)])


@pytest.mark.parametrize(
    ("since", "seen", "proved", "code"),
    [
        (NOW + 9, NOW * NS, True, None),
        (NOW + 9, (NOW + 9) * NS - 1, True, None),
        (NOW + 9, (NOW + 9) * NS, True, "key_revoked"),
        (NOW + 9, NOW * NS, False, "key_revoked"),
        (NOW + 1, NOW * NS, True, None),
        (NOW, (NOW - 9) * NS, True, "signed_after_revocation"),
        (NOW - 1, (NOW - 9) * NS, True, "signed_after_revocation"),
    ],
)
def test_a_grant_of_a_revoked_key_has_to_be_older(since: int, seen: int, proved: bool, code: str | None) -> None:
    """A record that is proved shows it, if both it and the grant are from before the revocation."""
    messages = {
        "key_revoked": "nothing proves that the grant is older than the revocation of the issuer key",
        "signed_after_revocation": "the grant is dated after the revocation of the issuer key",
    }
    use = use_of(time={"start": str(seen)})
    problem = code and (code, f"the chain does not verify ({code}): {messages[code]}", HERE)
    trust = trusting(revoked_since=since)
    assert judged(use, trust=trust, proved=proved) == (code is None, [problem] if problem else [])


def test_many_chains_are_judged_in_their_order() -> None:
    """Each with its own problems, also after they went to another process."""
    outside, without, other = use_of(), use_of(), use_of(**OTHERS["agent"])
    outside.allow("read", NOW * NS, HERE)
    tokens = [TOKENS, None, TOKENS, TOKENS]
    batch = [Asked(*row, True) for row in zip((outside, without, other, use_of()), tokens, strict=True)]
    for asked in (batch, pickle.loads(pickle.dumps(batch))):  # noqa: S301
        found = list(judge_all(asked, trust=trusting(), absent="x"))
        assert [one.holds for one in found] == [True, None, False, True]
        codes = [[code for code, _, _ in one.problems] for one in found]
        assert codes == [["tool_outside_grant"], ["chain_not_checked"], ["claims_differ"], []]
    assert list(judge_all(batch, trust=trusting(), absent=None))[1].problems[0][0] == "unknown_grant"
