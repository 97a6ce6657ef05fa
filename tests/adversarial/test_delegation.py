"""Hostile grants and chains (abuse cases AC-01 to AC-05, AC-07 to AC-15, AC-19 to AC-22 and AC-60)."""

import hashlib
import hmac
import itertools
import json
import math
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Grant, Human, Scope
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import GRANT_TYPE, MAX_DEPTH, Chain, derive, issue
from agent_identity._authority.grants.proof_of_possession import PROOF_TYPE, prove, verify_proof
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.keys.jws import par_hash, sign_compact, token_hash
from agent_identity.canonical import decode, encode
from agent_identity.constraints import (
    AllOf,
    AnyOf,
    Contains,
    Exact,
    NotOneOf,
    OneOf,
    PathWithin,
    Prefix,
    Range,
    Subset,
    UrlWithin,
)
from agent_identity.errors import AgentIdentityError, AttenuationError, TokenError
from agent_identity.identity import PublicKey, SigningKey

NOW = 1_764_000_000
ISSUER = SigningKey.from_seed(b"\x01" * 32)
STRANGER = SigningKey.from_seed(b"\xff" * 32)
HOLDERS = [SigningKey.from_seed(bytes([n]) * 32) for n in range(2, 250)]
ALICE = Human("alice@example.com")
PAY = Scope("pay", amount=Range(max=100), currency=OneOf("EUR", "CHF")) | Scope("list")

Claims = dict[str, Any]


def uuid(number: int) -> str:
    """Return the number as a UUID."""
    return f"01957a3f-4e23-7b01-a9d1-{number:012x}"


def root(
    scope: Scope = PAY, *, number: int = 1, holder: int = 0, principal: Human = ALICE, max_depth: int = 3
) -> Grant:
    """Return a root grant."""
    return issue(
        ISSUER,
        issuer="https://issuer.example.com",
        task_id="task-1",
        principal=principal,
        agent=Agent("agent-0", owner="team"),
        holder=HOLDERS[holder].public_key,
        scope=scope,
        now=NOW,
        ttl=600,
        max_depth=max_depth,
        id=uuid(number),
    )


def chain_of(length: int, scope: Scope = PAY) -> Chain:
    """Return an honest chain."""
    chain = Chain((root(scope),))
    for depth in range(1, length):
        grant = derive(
            chain,
            HOLDERS[depth - 1],
            agent=Agent(f"agent-{depth}", owner="team"),
            holder=HOLDERS[depth].public_key,
            scope=scope,
            now=NOW,
            ttl=300,
            id=uuid(depth + 1),
        )
        chain = chain.extended(grant)
    return chain


def anchors(kid: str) -> PublicKey:
    """Return the issuer's key; there is no other anchor."""
    if kid != ISSUER.public_key.thumbprint:
        raise TokenError("expected the kid of a trusted key, got another", code="unknown_key")
    return ISSUER.public_key


def verify(tokens: Sequence[str], *, now: int | None = NOW) -> Chain:
    """Verify tokens as an enforcement point would."""
    return verify_chain(tokens, anchors=anchors, issuer="https://issuer.example.com", now=now, task_id="task-1")


def refused(tokens: Sequence[str], *, now: int | None = NOW) -> str:
    """Return the code with which the tokens are refused."""
    with pytest.raises((TokenError, AttenuationError)) as error:
        verify(tokens, now=now)
    assert "\n" not in str(error.value)
    assert "eyJ" not in str(error.value)
    return error.value.code


def claims_of(token: str) -> Claims:
    """Return the claims of a token, unverified."""
    claims = decode(b64url_decode(token.split(".")[1]))
    assert isinstance(claims, dict)
    return claims


def forged(token: str, key: SigningKey, change: Callable[[Claims], object], header: Claims | None = None) -> str:
    """Return the token with changed claims, correctly signed by the attacker who holds the key."""
    claims = claims_of(token)
    change(claims)
    return sign_compact(header or {"typ": GRANT_TYPE}, claims, key)


def forged_root(change: Callable[[Claims], object]) -> str:
    """Return a root with changed claims, signed by the issuer: what a broken or newer issuer might send."""
    return forged(root().token, ISSUER, change, {"typ": GRANT_TYPE, "kid": ISSUER.public_key.thumbprint})


def with_tools(tools: Claims) -> Callable[[Claims], object]:
    """Return a change of the tools."""

    def change(claims: Claims) -> None:
        claims["authorization_details"][0]["tools"] = tools

    return change


def test_honest_chains_verify() -> None:
    """What the attacks start from is accepted; otherwise their refusal would prove nothing."""
    for length in (1, 2, 3, 4):
        assert verify(chain_of(length).tokens) == chain_of(length)
    chain = chain_of(3)
    assert verify((*chain.tokens[:2], forged(chain.tokens[2], HOLDERS[1], lambda _: None))) == chain
    assert verify((forged_root(lambda _: None),)).root.token == root().token


def test_ac_01_a_child_adds_no_tool() -> None:
    """A tool that the parent lacks is refused when made and when forged with the child's own key."""
    chain = chain_of(2)
    wider = Scope("pay", amount=Range(max=100), currency="EUR") | Scope("wipe")
    with pytest.raises(AttenuationError):
        derive(
            Chain(chain.grants[:1]),
            HOLDERS[0],
            agent=Agent("x", owner="y"),
            holder=HOLDERS[1].public_key,
            scope=wider,
            now=NOW,
            ttl=9,
            id=uuid(2),
        )
    token = forged(chain.tokens[1], HOLDERS[0], with_tools(dict(wider.to_claim())))
    assert refused((chain.tokens[0], token)) == "tool_not_attenuated"


TOOLS = st.sets(st.sampled_from("abcdef"), min_size=1)


@given(parent=TOOLS, child=TOOLS)
def test_ac_01_tools_of_a_child_are_a_subset(parent: set[str], child: set[str]) -> None:
    """For any sets of tools a forged child verifies exactly if it adds none."""
    first = root(Scope(dict.fromkeys(parent)))
    second = chain_of(2).tokens[1]

    def change(claims: Claims) -> None:
        with_tools({tool: {} for tool in child})(claims)
        claims["par_hash"] = par_hash(first.token)

    tokens = (first.token, forged(second, HOLDERS[0], change))
    if child <= parent:
        assert set(verify(tokens).leaf.scope.tools) == child
    else:
        assert refused(tokens) == "tool_not_attenuated"


WIDENED = [
    (PathWithin("/data"), {"constraint_type": "path_within", "root": "/"}),
    (PathWithin("/data"), {"constraint_type": "path_within", "root": "/database"}),
    (PathWithin("/data"), {"constraint_type": "path_within", "root": "/data/../etc"}),
    (PathWithin("/data"), {"constraint_type": "wildcard"}),
    (PathWithin("/data"), {"constraint_type": "exact", "value": "/data/../etc/passwd"}),
    (PathWithin("/data"), {"constraint_type": "prefix", "prefix": "/data"}),
    (Range(max=100), {"constraint_type": "range", "max": 1000}),
    (Range(max=100), {"constraint_type": "range", "min": 0}),
    (Range(max=100, max_inclusive=False), {"constraint_type": "range", "max": 100}),
    (Range(max=100), {"constraint_type": "range", "max": "1"}),
    (Range(max=100), {"constraint_type": "range", "max": 10**400}),
    (Range(max=1), {"constraint_type": "exact", "value": True}),
    (OneOf("a"), {"constraint_type": "one_of", "values": ["a", "b"]}),
    (Exact("a"), {"constraint_type": "wildcard"}),
    (Prefix("INV-"), {"constraint_type": "prefix", "prefix": "IN"}),
    (UrlWithin("https://a.example/v1"), {"constraint_type": "url_within", "prefix": "https://a.example"}),
]


@pytest.mark.parametrize(("constraint", "claim"), WIDENED)
def test_ac_02_a_child_widens_no_argument(constraint: object, claim: Claims) -> None:
    """No other root, bound, kind or malformed constraint in a forged child gets past its parent."""
    chain = chain_of(2, Scope("t", a=constraint))
    token = forged(chain.tokens[1], HOLDERS[0], with_tools({"t": {"a": claim}}))
    assert refused((chain.tokens[0], token)) in {"argument_not_attenuated", "bad_constraint"}


def test_ac_02_a_child_drops_no_constraint() -> None:
    """Leaving an argument out, or naming another, is widening."""
    chain = chain_of(2, Scope("t", a=1, b=2))
    exact = {"constraint_type": "exact", "value": 1}
    for arguments in ({}, {"a": exact}, {"a": exact, "c": exact}):
        token = forged(chain.tokens[1], HOLDERS[0], with_tools({"t": arguments}))
        assert refused((chain.tokens[0], token)) == "argument_not_attenuated"


def test_ac_02_bounds_are_finite() -> None:
    """NaN and infinities cannot even be signed, and a payload that holds them is no canonical JSON."""
    for bound in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="finite"):
            forged_root(with_tools({"t": {"a": {"constraint_type": "range", "max": bound}}}))
    head, payload, _ = root().token.split(".")
    text = f"{head}.{b64url_encode(b64url_decode(payload).replace(b'100', b'NaN'))}"
    token = f"{text}.{b64url_encode(ISSUER.sign(text.encode()))}"
    assert refused((token,)) == "not_canonical"


PAIRS = list(
    itertools.product(
        [
            Prefix("a*"),
            Prefix("a"),
            NotOneOf("a", "b"),
            NotOneOf("a"),
            Exact("ab"),
            OneOf("a", "ab"),
            Subset("a", "b"),
            Subset("a"),
            Contains("a", "b"),
            Contains("a"),
            PathWithin("/a"),
            PathWithin("/a/b"),
        ],
        repeat=2,
    )
)
HOSTILE = [
    "a",
    "b",
    "ab",
    "a*",
    "a*b",
    "a\0",
    "",
    "/a",
    "/a/b",
    "/a/b/c",
    "/ab",
    "a/b",
    [],
    ["a"],
    ["a", "b"],
    [["a"]],
    None,
    math.nan,
]


@pytest.mark.parametrize(("parent", "child"), PAIRS)
def test_ac_03_tricky_containment_is_sound(parent: Prefix, child: Prefix) -> None:
    """Whenever a chain with this pair verifies, the child permits no value that the parent refuses."""
    chain = chain_of(2, Scope("t", a=parent))
    tokens = (chain.tokens[0], forged(chain.tokens[1], HOLDERS[0], with_tools({"t": {"a": child.to_claim()}})))
    if parent.covers(child):
        assert verify(tokens).leaf.scope == Scope("t", a=child)
        assert [value for value in HOSTILE if child.permits(value) and not parent.permits(value)] == []
    else:
        assert refused(tokens) == "argument_not_attenuated"


def test_ac_04_a_child_does_not_outlive_its_parent() -> None:
    """A later expiry or an earlier issue is refused; the earliest expiry of the chain decides."""
    chain = chain_of(2)
    later = forged(chain.tokens[1], HOLDERS[0], lambda claims: claims.update(exp=NOW + 601))
    assert refused((chain.tokens[0], later)) == "outlives_parent"
    earlier = forged(chain.tokens[1], HOLDERS[0], lambda claims: claims.update(iat=NOW - 1))
    assert refused((chain.tokens[0], earlier)) == "issued_before_parent"
    assert refused(chain.tokens, now=NOW + 300) == "expired"
    assert verify(chain.tokens, now=NOW + 299)
    verify(chain.tokens, now=None)


@pytest.mark.parametrize("times", [(NOW, NOW), (NOW, NOW - 1), (-1, NOW), (NOW, 2**60), (True, NOW), (NOW, NOW + 0.5)])
def test_ac_04_times_are_plain_integers_in_order(times: tuple[int, int]) -> None:
    """Times of another type or order are refused, also offline."""
    assert refused((forged_root(lambda claims: claims.update(iat=times[0], exp=times[1])),), now=None) == "bad_claim"


def test_ac_05_depth_is_limited_by_the_root() -> None:
    """A chain of 200 forged links, and one link beyond the root's limit, are refused."""
    tokens = list(chain_of(4).tokens)
    for depth in range(4, 200):

        def change(claims: Claims, depth: int = depth) -> None:
            claims.update(
                jti=uuid(depth + 1),
                del_depth=depth,
                del_max_depth=MAX_DEPTH,
                par_hash=par_hash(tokens[-1]),
                iss=HOLDERS[depth - 1].public_key.thumbprint_uri,
                cnf={"jwk": HOLDERS[depth].public_key.to_jwk()},
                agent={"id": f"agent-{depth}", "owner": "team"},
                act={"sub": f"agent-{depth}", "act": claims["act"]},
            )

        try:
            tokens.append(forged(tokens[-1], HOLDERS[depth - 1], change))
        except ValueError:  # The history alone is nested too deeply for a token.
            break
    assert len(tokens) > MAX_DEPTH + 1
    assert refused(tokens) == "too_deep"
    for length in range(5, MAX_DEPTH + 2):
        assert refused(tokens[:length]) == "too_deep"


def test_ac_05_the_limit_never_grows() -> None:
    """A child cannot raise the limit, skip a level, or stay on its parent's."""
    chain = chain_of(2)
    for change, code in [
        ({"del_max_depth": 4}, "depth_not_attenuated"),
        ({"del_max_depth": 0}, "too_deep"),
        ({"del_depth": 2}, "wrong_depth"),
        ({"del_depth": 0}, "wrong_depth"),
        ({"del_depth": -1}, "bad_claim"),
        ({"del_depth": "1"}, "bad_claim"),
        ({"del_max_depth": MAX_DEPTH + 1}, "too_deep"),
    ]:
        token = forged(chain.tokens[1], HOLDERS[0], lambda claims, change=change: claims.update(change))
        assert refused((chain.tokens[0], token)) == code
    limited = Chain((root(max_depth=0),))
    token = forged(chain.tokens[1], HOLDERS[0], lambda claims: claims.update(par_hash=par_hash(limited.root.token)))
    assert refused((limited.root.token, token)) == "too_deep"


def test_ac_07_what_a_newer_version_means_is_denied() -> None:
    """Unknown constraints, entries, members and claims deny, by name where a name helps."""
    unknown = {"t": {"a": {"constraint_type": "x-new"}}}
    nested = {"t": {"a": {"constraint_type": "all", "constraints": [{"constraint_type": "x-new"}]}}}
    for tools in (unknown, nested):
        token = forged_root(with_tools(tools))
        assert refused((token,)) == "unknown_constraint"
        with pytest.raises(TokenError, match="x-new"):
            verify((token,))

    def entry(**members: object) -> Callable[[Claims], object]:
        return lambda claims: claims["authorization_details"][0].update(members)

    for change, code in [
        (entry(type="x-new"), "unknown_entry"),
        (entry(limits={}), "bad_claim"),
        (entry(tools=[]), "bad_claim"),
        (lambda claims: claims.update(authorization_details=[]), "bad_claim"),
        (lambda claims: claims["authorization_details"].append(claims["authorization_details"][0]), "bad_claim"),
        (lambda claims: claims.update(authorization_details={}), "bad_claim"),
        (lambda claims: claims.update(nbf=NOW), "unknown_claim"),
        (with_tools({"t": {"a": {"constraint_type": "wildcard", "unless": 1}}}), "bad_constraint"),
        (with_tools({}), "bad_scope"),
    ]:
        assert refused((forged_root(change),)) == code


def test_ac_08_no_part_of_a_chain_can_be_left_out() -> None:
    """Chains without their root, a middle link, all but the leaf, or anything at all are refused."""
    tokens = chain_of(4).tokens
    assert refused(()) == "empty_chain"
    for kept in itertools.chain.from_iterable(itertools.combinations(range(4), size) for size in range(1, 4)):
        subset = [tokens[index] for index in kept]
        if kept == tuple(range(len(kept))):
            assert verify(subset).leaf.depth == len(kept) - 1
        else:
            refused(subset)
    promoted = forged(tokens[1], ISSUER, lambda _: None, {"typ": GRANT_TYPE, "kid": ISSUER.public_key.thumbprint})
    assert refused((promoted,)) == "not_a_root"


def test_ac_09_no_order_but_the_one_and_no_link_twice() -> None:
    """Every other order and every repetition is refused."""
    tokens = chain_of(3).tokens
    for order in itertools.permutations(tokens):
        if order != tokens:
            refused(order)
    for place in range(4):
        for token in tokens:
            assert refused((*tokens[:place], token, *tokens[place:])) == "duplicate_id"
    again = forged(chain_of(2).tokens[1], HOLDERS[0], lambda claims: claims.update(jti=uuid(1)))
    assert refused((tokens[0], again)) == "duplicate_id"


def test_ac_10_a_child_belongs_to_one_parent() -> None:
    """Under another parent with the same holder, task and scope a child is refused."""
    tokens = chain_of(2).tokens
    assert refused((root(number=9).token, tokens[1])) == "wrong_parent"
    bare = forged(tokens[1], HOLDERS[0], lambda claims: claims.pop("par_hash"))
    assert refused((tokens[0], bare)) == "wrong_parent"
    for value in ("", par_hash(tokens[0]) + "=", token_hash(tokens[1]), None, 1):
        token = forged(tokens[1], HOLDERS[0], lambda claims, value=value: claims.update(par_hash=value))
        assert refused((tokens[0], token)) in {"wrong_parent", "bad_claim"}


def test_ac_11_nothing_counts_without_its_signature() -> None:
    """Blank, zero, foreign, truncated and repeated signatures are refused for each link."""
    tokens = chain_of(3).tokens
    for index in range(3):
        head, payload, signature = tokens[index].split(".")
        foreign = tokens[(index + 1) % 3].split(".")[2]
        for other in ("", "AA", b64url_encode(bytes(64)), foreign, signature[:-2], signature * 2):
            changed = list(tokens)
            changed[index] = f"{head}.{payload}.{other}"
            assert refused(changed) in {"bad_signature", "malformed_token"}
        changed[index] = f"{head}.{payload}"
        assert refused(changed) == "malformed_token"


def test_ac_12_nobody_is_their_own_root() -> None:
    """A root that a stranger signs is refused under any key id; without anchors everything is."""
    token = root().token
    for kid in (STRANGER.public_key.thumbprint, ISSUER.public_key.thumbprint, "admin"):
        stranger = forged(token, STRANGER, lambda _: None, {"typ": GRANT_TYPE, "kid": kid})
        assert refused((stranger,)) in {"unknown_key", "bad_signature"}
    assert refused((forged(token, ISSUER, lambda _: None),)) == "unknown_key"

    def nothing(_: str) -> PublicKey:
        raise TokenError("expected the kid of a trusted key, got another", code="unknown_key")

    with pytest.raises(TokenError) as error:
        verify_chain((token,), anchors=nothing, issuer=None, now=NOW)
    assert error.value.code == "unknown_key"


def raw(header: Claims, token: str, sign: Callable[[bytes], bytes]) -> str:
    """Return the claims of a token under another header and signature."""
    text = f"{b64url_encode(encode(header))}.{token.split('.')[1]}"
    return f"{text}.{b64url_encode(sign(text.encode()))}"


@pytest.mark.parametrize(
    "algorithm",
    ["none", "None", "NONE", "", "HS256", "RS256", "ES256", "ES256K", "Ed448", "eddsa", "EDDSA", None, 1, ["EdDSA"]],
)
def test_ac_13_the_header_selects_no_algorithm(algorithm: object) -> None:
    """Any other algorithm is refused, whatever the signature; the public key is never a shared secret."""
    header = {"alg": algorithm, "kid": ISSUER.public_key.thumbprint, "typ": GRANT_TYPE}
    for sign in (
        ISSUER.sign,
        lambda _: b"",
        lambda message: hmac.digest(ISSUER.public_key.raw, message, "sha256"),
    ):
        assert refused((raw(header, root().token, sign),)) == "algorithm_not_allowed"


def test_ac_13_a_holder_key_of_another_kind_is_refused() -> None:
    """Holder keys of other types, degenerate points and private keys are refused."""
    for jwk in (
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "oct", "k": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": HOLDERS[0].public_key.to_jwk()["x"]},
        {"kty": "OKP", "crv": "Ed25519", "x": b64url_encode(bytes(32))},
        {**HOLDERS[0].public_key.to_jwk(), "d": b64url_encode(bytes(32))},
    ):
        assert refused((forged_root(lambda claims, jwk=jwk: claims.update(cnf={"jwk": jwk})),)) == "bad_key"
    for cnf in ({}, {"kid": "x"}, {"jwk": None}, {"jwk": HOLDERS[0].public_key.to_jwk(), "kid": "x"}, None):
        assert refused((forged_root(lambda claims, cnf=cnf: claims.update(cnf=cnf)),)) == "bad_claim"


@pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u", "x5t", "crit", "b64", "zip", "cty"])
def test_ac_14_no_key_or_rule_comes_from_a_header(member: str) -> None:
    """Headers that carry keys, addresses of keys or other rules are refused before anything else."""
    header = {
        "alg": "Ed25519",
        "kid": STRANGER.public_key.thumbprint,
        "typ": GRANT_TYPE,
        member: STRANGER.public_key.to_jwk(),
    }
    assert refused((raw(header, root().token, STRANGER.sign),)) == "unknown_header"


def test_ac_14_a_child_is_signed_by_its_parents_holder_only() -> None:
    """Neither the issuer, nor the child itself, nor a stranger can sign a child."""
    tokens = chain_of(3).tokens
    for key in (ISSUER, HOLDERS[0], HOLDERS[2], STRANGER):
        token = forged(tokens[2], key, lambda claims, key=key: claims.update(iss=key.public_key.thumbprint_uri))
        assert refused((*tokens[:2], token)) == "bad_signature"
    header = {"typ": GRANT_TYPE, "kid": STRANGER.public_key.thumbprint}
    assert refused((*tokens[:2], forged(tokens[2], HOLDERS[1], lambda _: None, header))) == "wrong_key"
    header = {"typ": GRANT_TYPE, "kid": HOLDERS[1].public_key.thumbprint}
    assert verify((*tokens[:2], forged(tokens[2], HOLDERS[1], lambda _: None, header)))
    other = forged(tokens[2], HOLDERS[1], lambda claims: claims.update(iss="https://issuer.example.com"))
    assert refused((*tokens[:2], other)) == "wrong_issuer"


def test_ac_15_unknown_keys_cost_one_look_up() -> None:
    """Ten thousand key ids are each asked for once, and nothing else is asked."""
    asked: list[str] = []

    def counting(kid: str) -> PublicKey:
        asked.append(kid)
        return anchors(kid)

    payload = root().token.split(".")[1]
    for number in range(10_000):
        header = b64url_encode(encode({"alg": "Ed25519", "kid": str(number), "typ": GRANT_TYPE}))
        with pytest.raises(TokenError, match="kid"):
            verify_chain((f"{header}.{payload}.{'A' * 86}",), anchors=counting, issuer=None, now=NOW)
    assert asked == [str(number) for number in range(10_000)]


def leaves(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all scalars in a value."""
    if isinstance(value, dict):
        return [found for name in value for found in leaves(value[name], (*path, name))]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in leaves(item, (*path, index))]
    return [path]


def test_ac_19_every_field_is_under_the_signature() -> None:
    """Changing any single field of any grant of a chain without its key breaks the chain."""
    chain = chain_of(3)
    count = 0
    for index, token in enumerate(chain.tokens):
        for path in leaves(claims_of(token)):
            claims = claims_of(token)
            at: Any = claims
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = at[path[-1]] + 1 if isinstance(at[path[-1]], int) else f"{at[path[-1]]}x"
            head, _, signature = token.split(".")
            changed = list(chain.tokens)
            changed[index] = f"{head}.{b64url_encode(encode(claims))}.{signature}"
            assert refused(changed) == "bad_signature"
            count += 1
    assert count > 60


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"principal": {"id": "bob", "kind": "human", "provenance": "asserted"}, "sub": "bob"}, "principal_changed"),
        ({"principal": {"id": "bob", "kind": "human", "provenance": "asserted"}}, "bad_claim"),
        ({"sub": "bob"}, "bad_claim"),
        ({"principal": {"id": ALICE.id, "kind": "service", "provenance": "asserted"}}, "principal_changed"),
        ({"principal": {"id": ALICE.id, "kind": "human", "provenance": "verified"}}, "principal_changed"),
        (
            {"principal": {"id": ALICE.id, "kind": "human", "provenance": "asserted", "roles": ["admin"]}},
            "principal_changed",
        ),
        (
            {"principal": {"id": ALICE.id, "kind": "human", "provenance": "asserted", "issuer": "x"}},
            "principal_changed",
        ),
        ({"principal": {"id": ALICE.id, "kind": "admin", "provenance": "asserted"}}, "bad_principal"),
        ({"principal": None}, "bad_claim"),
        ({"txn": "task-2"}, "wrong_task"),
        ({"txn": ""}, "bad_claim"),
        ({"agent": {"id": "agent-9", "owner": "team"}}, "bad_history"),
        ({"agent": {"id": "agent-1"}}, "bad_agent"),
        ({"act": {"sub": "agent-1"}}, "bad_history"),
        ({"act": {"sub": "agent-1", "act": {"sub": "agent-9"}}}, "bad_history"),
        ({"act": None}, "bad_history"),
        ({"jti": "1"}, "bad_claim"),
        ({"iss": 1}, "bad_claim"),
        ({"aud": ["urn:x"]}, "bad_claim"),
    ],
)
def test_ac_19_a_holder_cannot_change_what_is_equal_along_the_chain(change: Claims, code: str) -> None:
    """Even with a valid key a child cannot swap the principal, task, agents or history."""
    tokens = chain_of(2).tokens
    assert refused((tokens[0], forged(tokens[1], HOLDERS[0], lambda claims: claims.update(change)))) == code


@pytest.mark.parametrize("name", sorted(set(claims_of(root().token))))
def test_ac_19_every_claim_is_required(name: str) -> None:
    """A grant that leaves out any claim is refused, the principal and the agent included."""
    assert refused((forged_root(lambda claims: claims.pop(name)),)) == "missing_claim"


def test_ac_20_values_do_not_run_into_one_another() -> None:
    """Scopes, names and lists that look alike when joined are signed as different bytes."""
    scopes = [
        Scope("t", a=["x,y"]),
        Scope("t", a=["x", "y"]),
        Scope("t", a='["x","y"]'),
        Scope("t", a=OneOf("x", "y")),
        Scope("t", a=OneOf("x,y")),
        Scope("t", a="x", b="y"),
        Scope("t", a='x","b":"y'),
        Scope({"a": None, "write:x": None}),
        Scope({"a-write:x": None}),
        Scope("t", a=1),
        Scope("t", a="1"),
        Scope("t", a=True),
    ]
    tokens = [root(scope).token for scope in scopes]
    assert len({token.split(".")[1] for token in tokens}) == len(scopes)
    for scope, token in zip(scopes, tokens, strict=True):
        assert verify((token,)).leaf.scope == scope


def mutate(token: str, source: random.Random) -> str:
    """Return a token with one random change in its text or its decoded bytes."""
    kind = source.randrange(6)
    place = source.randrange(len(token))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0é"
    if kind == 0:
        return token[:place] + source.choice(alphabet) + token[place + 1 :]
    if kind == 1:
        return token[:place] + source.choice(alphabet) + token[place:]
    if kind == 2:
        return token[:place] + token[place + 1 :]
    if kind == 3:
        return token + "".join(source.choices(alphabet, k=source.randrange(1, 4)))
    parts = token.split(".")
    part = source.randrange(3)
    data = bytearray(b64url_decode(parts[part]))
    if kind == 4:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    else:
        data.insert(source.randrange(len(data) + 1), source.choice(b' \n\t0"{},'))
    parts[part] = b64url_encode(bytes(data))
    return ".".join(parts)


def test_ac_21_no_mutation_of_a_chain_is_accepted(drawn: Callable[[range], Sequence[int]]) -> None:
    """Of 20,000 seeded mutations of a chain not one verifies: a chain has one spelling."""
    tokens = chain_of(3).tokens
    seeds = drawn(range(20_000))
    refused = 0
    for seed in seeds:
        source = random.Random(seed)  # noqa: S311
        index = source.randrange(3)
        changed = list(tokens)
        while changed[index] == tokens[index]:
            changed[index] = mutate(tokens[index], source)
        with pytest.raises((TokenError, AttenuationError)):
            verify(changed)
        refused += 1
    assert refused == len(seeds) >= 2_000


def test_ac_21_other_spellings_of_a_signed_grant_are_refused() -> None:
    """White space, another order of members, escapes and padding, signed or not, are other tokens: refused."""
    head, payload, _ = root().token.split(".")
    claims = json.loads(b64url_decode(payload))
    spellings = [
        json.dumps(claims),
        json.dumps(dict(reversed(claims.items())), separators=(",", ":")),
        json.dumps(claims, separators=(",", ":"), sort_keys=True).replace("alice", "\\u0061lice"),
        json.dumps(claims, separators=(",", ":"), sort_keys=True).replace("100", "1e2"),
        json.dumps(claims, separators=(",", ":"), sort_keys=True).replace("100", "100.0"),
        json.dumps(claims, separators=(",", ":"), sort_keys=True) + "\n",
    ]
    for spelling in spellings:
        text = f"{head}.{b64url_encode(spelling.encode())}"
        assert refused((f"{text}.{b64url_encode(ISSUER.sign(text.encode()))}",)) == "not_canonical"


def test_ac_22_signatures_of_one_kind_are_none_of_another() -> None:
    """Grants, proofs, envelopes and checkpoints signed with one key are never taken for one another."""
    chain = chain_of(1)
    proof = prove(chain, HOLDERS[0], tool="pay", arguments={}, audience="urn:x", now=NOW, id=uuid(5))
    assert refused((chain.tokens[0], proof)) == "wrong_type"
    with pytest.raises(AgentIdentityError) as error:
        verify_proof(chain_of(2).tokens[1], chain, tool="pay", arguments={}, audience="urn:x", now=NOW)
    assert error.value.code == "wrong_type"
    payload = b64url_decode(chain.tokens[0].split(".")[1])
    kind = b"application/vnd.agent-identity.record.v1+json"
    envelope = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    checkpoint = b"example.com/log\n1\n" + hashlib.sha256(payload).digest() + b"\n"
    for message in (payload, envelope, checkpoint, b"\x00" + payload):
        changed = f"{chain.tokens[0].rpartition('.')[0]}.{b64url_encode(ISSUER.sign(message))}"
        assert refused((changed,)) == "bad_signature"
    # What is signed for a token begins as no envelope and no checkpoint does.
    for token in (chain.tokens[0], proof):
        assert token.startswith("eyJ")
        assert set(token.rpartition(".")[0]).isdisjoint(" \n\0")
    assert PROOF_TYPE != GRANT_TYPE


def _largest(make: Callable[[int, int], Any], outer: type, inner: type) -> Any:
    """Return the largest constraint of two levels that is allowed."""
    parts = [inner(*(make(i, j) for j in range(64))) for i in range(64)]
    for clauses in range(64, 0, -1):
        try:
            return outer(*parts[:clauses])
        except ValueError:
            continue
    raise AssertionError("no constraint is allowed")


@pytest.mark.sample(3)
@pytest.mark.parametrize("outer", [AnyOf, AllOf])
@pytest.mark.parametrize("inner", [AnyOf, AllOf])
@pytest.mark.parametrize("shift", [lambda i, j: 63 - j, lambda i, j: j, lambda i, j: 64 * i + j])
def test_ac_60_the_largest_constraints_are_compared_in_bounded_steps(
    outer: type, inner: type, shift: Callable[[int, int], int]
) -> None:
    """There are no loops and no joins: some steps for each pair of parts at most, whatever a holder writes."""
    parent = _largest(lambda i, j: Range(min=shift(i, j)), outer, inner)
    child = _largest(lambda i, j: Range(min=shift(i, j) - 1), outer, inner)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        covered = parent.covers(child)
    finally:
        sys.setprofile(before)
    assert covered is parent.covers(child)
    leaves = 64 * len(parent.clauses)
    assert leaves > 600
    assert 0 < calls <= 4 * leaves**2
    with pytest.raises(ValueError, match="more than"):
        AnyOf(parent, child)


def test_a_chain_is_a_sequence_of_strings() -> None:
    """Other types in place of tokens are refused with a code, not with a crash."""
    for tokens in ("eyJ", [None], [b"x"], [["a"]]):
        assert refused(tokens) == "malformed_token"  # type: ignore[arg-type]
