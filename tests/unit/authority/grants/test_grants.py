"""Grants and chains: what a good one looks like, and that the maker refuses what the verifier would."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Grant, Human, Scope, Service
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import GRANT_TYPE, MAX_DEPTH, MAX_TTL, Chain, derive, grant_of, issue
from agent_identity._authority.grants.proof_of_possession import prove, verify_proof
from agent_identity._identity.keys.jws import par_hash, parse_compact, sign_compact, token_hash
from agent_identity.canonical import decode
from agent_identity.constraints import Range
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import Principal, PublicKey, SigningKey

NOW = 1_764_000_000
ISSUER = SigningKey.from_seed(b"\x01" * 32)
HOLDERS = [SigningKey.from_seed(bytes([n]) * 32) for n in range(2, 40)]
AGENTS = [Agent(f"agent-{n}", owner="team@example.com") for n in range(40)]
ALICE = Human("alice@example.com", issuer="https://idp.example.com", roles=("clerk",))
PAY = Scope("pay", amount=Range(max=100)) | Scope("list")


def uuid(number: int) -> str:
    """Return the number as a UUID."""
    return f"01957a3f-4e23-7b01-a9d1-{number:012x}"


def root(
    *,
    principal: Principal = ALICE,
    scope: Scope = PAY,
    ttl: int = 600,
    max_depth: int = 3,
    audience: str | None = None,
    id: str = uuid(1),
    now: int = NOW,
) -> Grant:
    """Return a root grant for the first holder."""
    return issue(
        ISSUER,
        issuer="https://issuer.example.com",
        task_id="task-1",
        principal=principal,
        agent=AGENTS[0],
        holder=HOLDERS[0].public_key,
        scope=scope,
        now=now,
        ttl=ttl,
        max_depth=max_depth,
        id=id,
        audience=audience,
    )


def child(
    chain: Chain,
    *,
    scope: Scope = PAY,
    ttl: int = 300,
    now: int = NOW + 10,
    signer: SigningKey | None = None,
    max_depth: int | None = None,
    audience: str | None = None,
    id: str | None = None,
) -> Grant:
    """Return a child of the chain's leaf for the next holder."""
    depth = len(chain.grants)
    return derive(
        chain,
        signer or HOLDERS[depth - 1],
        agent=AGENTS[depth],
        holder=HOLDERS[depth].public_key,
        scope=scope,
        now=now,
        ttl=ttl,
        id=id or uuid(depth + 1),
        max_depth=max_depth,
        audience=audience,
    )


def anchors(kid: str) -> PublicKey:
    """Return the issuer's key under its thumbprint."""
    if kid != ISSUER.public_key.thumbprint:
        raise TokenError("unknown key", code="unknown_key")
    return ISSUER.public_key


def verified(chain: Chain, **changes: object) -> Chain:
    """Verify the tokens of a chain."""
    terms: dict[str, object] = {"anchors": anchors, "issuer": "https://issuer.example.com", "now": NOW + 20}
    return verify_chain(chain.tokens, **(terms | changes))  # type: ignore[arg-type]


def test_a_root_says_what_was_granted() -> None:
    """Every attribute of a root is what was asked for, and the header names the issuer's key."""
    grant = root()
    assert (grant.id, grant.task_id, grant.principal, grant.agent) == (uuid(1), "task-1", ALICE, AGENTS[0])
    assert (grant.issued_at, grant.expires_at, grant.depth, grant.max_depth) == (NOW, NOW + 600, 0, 3)
    assert (grant.scope, grant.holder, grant.audience) == (PAY, HOLDERS[0].public_key, None)
    assert (grant.issuer, grant.parent_hash) == ("https://issuer.example.com", None)
    assert grant.hash == token_hash(grant.token)
    parts = parse_compact(grant.token)
    assert (parts.typ, parts.kid) == ("aat+jwt", ISSUER.public_key.thumbprint)


def test_the_claims_are_those_of_the_profile() -> None:
    """A child has the claims of the profile and ours, and none besides."""
    chain = Chain((root(),))
    claims = decode(parse_compact(child(chain, audience="urn:x").token).payload)
    assert claims == {
        "act": {"act": {"sub": "agent-0"}, "sub": "agent-1"},
        "agent": {"id": "agent-1", "owner": "team@example.com"},
        "aud": "urn:x",
        "authorization_details": [{"tools": PAY.to_claim(), "type": "attenuating_agent_token"}],
        "cnf": {"jwk": HOLDERS[1].public_key.to_jwk()},
        "del_depth": 1,
        "del_max_depth": 3,
        "exp": NOW + 310,
        "iat": NOW + 10,
        "iss": HOLDERS[0].public_key.thumbprint_uri,
        "jti": uuid(2),
        "par_hash": par_hash(chain.root.token),
        "principal": {
            "id": "alice@example.com",
            "issuer": "https://idp.example.com",
            "kind": "human",
            "provenance": "asserted",
            "roles": ["clerk"],
        },
        "sub": "alice@example.com",
        "txn": "task-1",
    }


@given(
    principal=st.sampled_from([ALICE, Human("bob"), Service("cron", issuer="spiffe://example.org"), Service("x")]),
    depth=st.integers(0, 6),
    narrow=st.lists(st.integers(0, 100), min_size=7, max_size=7),
)
def test_what_is_derived_verifies(principal: Principal, depth: int, narrow: list[int]) -> None:
    """Chains of any length made by attenuation verify and read back equal."""
    limit = 100
    chain = Chain((root(principal=principal, max_depth=6),))
    for step in range(depth):
        limit = min(limit, narrow[step])
        chain = chain.extended(child(chain, scope=Scope("pay", amount=Range(max=limit))))
    assert verified(chain, task_id="task-1") == chain
    assert chain.leaf.principal == principal
    assert (chain.root.depth, chain.leaf.depth) == (0, depth)


def test_grants_and_chains_show_no_token() -> None:
    """What is printed names the grant only."""
    chain = Chain((root(),))
    assert repr(chain.root) == f"Grant(id='{uuid(1)}')"
    assert chain.root.token not in repr(chain)
    assert chain.tokens == (chain.root.token,)


def test_chains_can_be_pickled() -> None:
    """A chain crosses process boundaries as a value."""
    chain = Chain((root(),))
    assert pickle.loads(pickle.dumps(chain)) == chain  # noqa: S301


def test_a_child_is_clamped_to_its_parent() -> None:
    """Expiry, depth limit and audience of the parent go on when the child asks for no less."""
    chain = Chain((root(audience="urn:x"),))
    grant = child(chain, ttl=MAX_TTL)
    assert (grant.expires_at, grant.max_depth, grant.audience) == (chain.root.expires_at, 3, "urn:x")
    assert child(chain, max_depth=1).max_depth == 1


def test_a_clock_that_went_back_does_not_date_a_child_before_its_parent() -> None:
    """A child is never issued before its parent."""
    assert child(Chain((root(),)), now=NOW - 5).issued_at == NOW


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda chain: child(chain, scope=Scope("wipe")), "tool_not_attenuated"),
        (lambda chain: child(chain, scope=Scope("pay")), "argument_not_attenuated"),
        (lambda chain: child(chain, max_depth=4), "depth_not_attenuated"),
        (lambda chain: child(chain, signer=HOLDERS[5]), "not_the_holder"),
        (lambda chain: child(chain, now=NOW + 600), "parent_expired"),
        (lambda chain: child(chain, audience="urn:y"), "audience_not_attenuated"),
        (lambda _: child(Chain((root(max_depth=0),))), "too_deep"),
    ],
)
def test_the_maker_refuses_to_widen(make: Callable[[Chain], Grant], code: str) -> None:
    """Each way to ask for more than the parent has is refused before anything is signed."""
    with pytest.raises(AttenuationError) as refused:
        make(Chain((root(audience="urn:x"),)))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: root(ttl=0), ValueError),
        (lambda: root(ttl=MAX_TTL + 1), ValueError),
        (lambda: root(ttl=1.5), TypeError),  # type: ignore[arg-type]
        (lambda: root(ttl=True), TypeError),
        (lambda: root(now=-1), ValueError),
        (lambda: root(max_depth=MAX_DEPTH + 1), ValueError),
        (lambda: root(max_depth=-1), ValueError),
        (lambda: root(id="grant-1"), ValueError),
        (lambda: root(id=uuid(1).upper()), ValueError),
        (lambda: root(audience=""), ValueError),
        (lambda: child(Chain((root(),)), max_depth=0), ValueError),
    ],
)
def test_the_maker_refuses_what_is_out_of_range(make: Callable[[], Grant], kind: type[Exception]) -> None:
    """Terms that no verifier would accept are refused where they are written."""
    with pytest.raises(kind):
        make()


def test_a_chain_is_linked() -> None:
    """The constructor refuses what is no chain, whoever verified its parts."""
    chain = Chain((root(),))
    middle = child(chain)
    longer = chain.extended(middle)
    last = child(longer)
    for grants, code in [
        ((), "empty_chain"),
        ((middle,), "not_a_root"),
        ((chain.root, last), "wrong_depth"),
        ((chain.root, chain.root), "duplicate_id"),
        ((root(id=uuid(7)), middle), "wrong_parent"),
    ]:
        with pytest.raises(TokenError) as refused:
            Chain(grants)
        assert refused.value.code == code
    with pytest.raises(TokenError, match="twice"):
        chain.extended(child(chain, id=uuid(1)))


def test_the_size_of_a_chain_is_bounded() -> None:
    """Four large grants fit, five do not, for the maker as for the verifier."""
    scope = Scope("t", a=["x" * 8000] * 6)
    chain = Chain((root(scope=scope, max_depth=9),))
    for _ in range(3):
        chain = chain.extended(child(chain, scope=scope))
    with pytest.raises(TokenError) as refused:
        child(chain, scope=scope)
    assert refused.value.code == "too_large"
    with pytest.raises(TokenError) as refused:
        verify_chain(
            ("a" * 60_000, "b" * 60_000, "c" * 60_000, "d" * 60_000, "e" * 60_000),
            anchors=anchors,
            issuer=None,
            now=NOW,
        )
    assert refused.value.code == "too_large"


def test_time_is_checked_against_now_only_when_there_is_a_now() -> None:
    """Evidence is verified later without the present deciding; lifetimes still count."""
    chain = Chain((root(ttl=600),))
    assert verified(chain, now=NOW - 30) == chain
    for now, code in [(NOW - 31, "not_yet_valid"), (NOW + 600, "expired")]:
        with pytest.raises(TokenError) as refused:
            verified(chain, now=now)
        assert refused.value.code == code
    assert verified(chain, now=None) == chain
    with pytest.raises(TokenError) as refused:
        verified(chain, now=None, max_lifetime=599)
    assert refused.value.code == "lives_too_long"


def test_a_chain_belongs_to_its_issuer_task_and_audience() -> None:
    """What the verifier expects must be what is signed; offline nobody is the audience."""
    chain = Chain((root(audience="urn:x"),))
    assert verified(chain, audience="urn:x", issuer=None, task_id="task-1") == chain
    assert verified(chain, now=None) == chain
    assert verified(Chain((root(),)), audience="urn:x")
    for changes, code in [
        ({"audience": "urn:y"}, "wrong_audience"),
        ({}, "wrong_audience"),
        ({"audience": "urn:y", "now": None}, "wrong_audience"),
        ({"audience": "urn:x", "issuer": "https://other.example.com"}, "wrong_issuer"),
        ({"audience": "urn:x", "task_id": "task-2"}, "wrong_task"),
    ]:
        with pytest.raises(TokenError) as refused:
            verified(chain, **changes)
        assert refused.value.code == code


ARGUMENTS: dict[str, object] = {"amount": 42.5, "note": ["ä", None, True]}
CHAIN = Chain((root(),))
ELSEWHERE = Chain((root(audience="urn:z"),))
TWIN = Chain((root(ttl=599),))  # A sibling with the same id and holder.


def proof_for(chain: Chain) -> str:
    """Return a proof of the call under a chain."""
    return prove(chain, HOLDERS[0], tool="pay", arguments=ARGUMENTS, audience="urn:x", now=NOW, id=uuid(9))


PROOF = proof_for(CHAIN)


def proved(token: str = PROOF, chain: Chain = CHAIN, **changes: object) -> str:
    """Verify a proof."""
    terms: dict[str, object] = {"tool": "pay", "arguments": ARGUMENTS, "audience": "urn:x", "now": NOW}
    return verify_proof(token, chain, **(terms | changes))  # type: ignore[arg-type]


def test_a_proof_fits_its_call() -> None:
    """A proof verifies for the same call, whatever the order and spelling of its arguments."""
    assert proved() == uuid(9)
    assert proved(now=NOW + 30) == proved(now=NOW - 30) == uuid(9)
    assert proved(arguments={"note": ("ä", None, True), "amount": 42.5}) == uuid(9)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"tool": "list"}, "wrong_tool"),
        ({"audience": "urn:y"}, "wrong_audience"),
        ({"arguments": {**ARGUMENTS, "amount": 43}}, "wrong_arguments"),
        ({"arguments": {"amount": 42.5}}, "wrong_arguments"),
        ({"arguments": {"amount": object()}}, "wrong_arguments"),
        ({"now": NOW + 31}, "proof_too_old"),
        ({"now": NOW - 31}, "not_yet_valid"),
        ({"chain": Chain((root(id=uuid(2)),))}, "wrong_grant"),
        ({"chain": ELSEWHERE, "token": proof_for(ELSEWHERE)}, "wrong_audience"),
        ({"chain": CHAIN, "token": proof_for(TWIN)}, "wrong_grant"),
        ({"chain": CHAIN.extended(child(CHAIN))}, "bad_signature"),
        ({"token": PROOF[:-4] + "AAAA"}, "bad_signature"),
        ({"token": CHAIN.root.token}, "wrong_type"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_proof_fits_no_other_call(changes: dict[str, object], code: str) -> None:
    """Another tool, audience, argument, time, grant or key is refused with its code."""
    with pytest.raises(TokenError) as refused:
        proved(**changes)  # type: ignore[arg-type]
    assert refused.value.code == code


def test_only_the_holder_proves() -> None:
    """Without the leaf's key there is no proof, and its id is a UUID."""
    with pytest.raises(AttenuationError) as refused:
        prove(CHAIN, HOLDERS[1], tool="pay", arguments={}, audience="urn:x", now=NOW, id=uuid(9))
    assert refused.value.code == "not_the_holder"
    with pytest.raises(ValueError, match="UUID"):
        prove(CHAIN, HOLDERS[0], tool="pay", arguments={}, audience="urn:x", now=NOW, id="9")
    with pytest.raises(ValueError, match="JSON"):
        prove(CHAIN, HOLDERS[0], tool="pay", arguments={"a": object()}, audience="urn:x", now=NOW, id=uuid(9))


def test_an_audience_binds_everything_below_it() -> None:
    """A child that names no audience keeps that of the chain, and no other can be added or accepted."""
    bound = Chain((root(audience="urn:x"),))
    assert child(bound).audience == bound.audience == "urn:x"
    assert CHAIN.audience is None
    claims = decode(parse_compact(child(bound).token).payload)
    assert isinstance(claims, dict)
    silent_claims = {name: value for name, value in claims.items() if name != "aud"}
    token = sign_compact({"typ": GRANT_TYPE}, silent_claims, HOLDERS[0])
    silent = bound.extended(grant_of(token, silent_claims))
    assert (silent.leaf.audience, silent.audience) == (None, "urn:x")
    assert child(silent).audience == "urn:x"
    with pytest.raises(AttenuationError) as wider:
        child(silent, audience="urn:y")
    assert wider.value.code == "audience_not_attenuated"
    other = sign_compact({"typ": GRANT_TYPE}, silent_claims | {"aud": "urn:y"}, HOLDERS[0])
    terms: dict[str, Any] = {"anchors": lambda _: ISSUER.public_key, "issuer": None, "now": NOW + 20}
    assert verify_chain(silent.tokens, audience="urn:x", **terms) == silent
    for tokens, audience, code in (
        (silent.tokens, "urn:y", "wrong_audience"),
        (silent.tokens, None, "wrong_audience"),
        ((bound.root.token, other), "urn:y", "audience_not_attenuated"),
    ):
        with pytest.raises((TokenError, AttenuationError)) as refused:
            verify_chain(tokens, audience=audience, **terms)
        assert refused.value.code == code
