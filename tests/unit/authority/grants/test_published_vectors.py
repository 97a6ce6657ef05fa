"""The vectors that are published with the draft on Attenuating Agent Tokens, revision 02."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Human
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import MAX_TTL
from agent_identity._authority.grants.proof_of_possession import verify_proof
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.jws import par_hash, sign_compact
from agent_identity.canonical import JSON, encode
from agent_identity.errors import AgentIdentityError, TokenError
from agent_identity.identity import PublicKey, SigningKey

ALICE = Human("alice@example.com")
AGENTS = [Agent(f"agent-{depth}", owner="ops@example.com") for depth in range(4)]

CODES = {
    "2c": {"duplicate_id"},
    "3a": {"algorithm_not_allowed", "unknown_header", "wrong_type"},
    "3b": {"bad_signature", "unknown_header", "unknown_key"},
    "3c": {"bad_claim", "not_a_root"},
    "3d": {"not_a_root"},
    "3e": {"expired"},
    "3f": {"not_yet_valid"},
    "3h": {"lives_too_long"},
    "3k": {"wrong_issuer"},
    "3l": {"bad_key"},
    "3m": {"bad_claim", "bad_scope"},
    "3n/4o": {"bad_constraint", "bad_scope", "unknown_constraint"},
    "4b": {"bad_signature"},
    "4c": {"wrong_issuer"},
    "4d": {"wrong_depth"},
    "4e": {"too_deep"},
    "4g": {"depth_not_attenuated"},
    "4h": {"outlives_parent"},
    "4j": {"issued_before_parent"},
    "4p1": {"tool_not_attenuated"},
    "4p2": {"argument_not_attenuated"},
    "4p3": {"argument_not_attenuated"},
    "4p4": {"argument_not_attenuated", "bad_constraint"},
    "4q": {"wrong_parent"},
    "6b": {
        "argument_missing",
        "argument_not_granted",
        "argument_out_of_scope",
        "tool_not_granted",
        "wrong_arguments",
    },
    "6c": {"wrong_audience"},
    "7a": {"wrong_type"},
    "7b": {"bad_signature"},
    "7c": {"bad_proof", "wrong_grant"},
    "7d": {"bad_proof", "wrong_audience"},
    "7e": {"wrong_tool"},
    "7f": {"wrong_arguments"},
    "7g": {"proof_too_old"},
    "7h": {"bad_proof"},
}
"""Our codes for each step of the draft's algorithm."""

DIFFERENCES = {
    "J.6.3": "bad_proof",  # Every proof names its receiver.
    "J.6.5": None,  # There are no nonces: every proof names its receiver and counts once.
    "J.6.6": "bad_proof",
    "J.6.10": None,  # That a chain names its receiver is asked where it arrives, of every chain.
}
"""Vectors that end otherwise here, with our code."""


@pytest.fixture(scope="module")
def published(shared_vectors: Path) -> dict[str, Any]:
    """Return the published file."""
    file = shared_vectors / "aat" / "aat-jws-vectors.json"
    if not file.exists():
        pytest.skip("the published vectors are not here")
    vectors: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return vectors


@pytest.fixture(scope="module")
def keys(published: dict[str, Any]) -> dict[str, SigningKey]:
    """Return the published keys."""
    return {name: SigningKey.from_seed(bytes.fromhex(key["seed_hex"])) for name, key in published["keys"].items()}


def signed(header: Mapping[str, JSON], claims: Mapping[str, JSON], key: SigningKey) -> str:
    """Return a token with any header."""
    text = f"{b64url_encode(encode(header))}.{b64url_encode(encode(claims))}"
    return f"{text}.{b64url_encode(key.sign(text.encode()))}"


def with_our_claims(vector: Mapping[str, Any], keys: Mapping[str, SigningKey]) -> tuple[list[str], str]:
    """Return chain and proof of a vector with our claims added, signed again by the published keys."""
    tokens: list[str] = []
    hashes: dict[str, str] = {}
    act: dict[str, JSON] = {}
    for agent, token in zip(AGENTS, vector["chain"], strict=False):
        act = {"sub": agent.id, "act": act} if act else {"sub": agent.id}
        if token["signer"] is None:  # The token is broken beyond its claims.
            tokens.append(token["compact"])
            continue
        added = {"act": act, "agent": agent.to_claim(), "principal": ALICE.to_claim(), "sub": ALICE.id, "txn": "task-1"}
        claims = token["payload"] | added
        if "par_hash" in claims:
            claims["par_hash"] = hashes.get(claims["par_hash"], claims["par_hash"])
        named = {} if tokens else {"kid": keys["control_plane"].public_key.thumbprint}
        tokens.append(signed(token["header"] | named, claims, keys[token["signer"]]))
        hashes[par_hash(token["compact"])] = par_hash(tokens[-1])
    proof = vector["pop"]["payload"]
    if "aat_hash" in proof:
        proof = proof | {"aat_hash": hashes.get(proof["aat_hash"], proof["aat_hash"])}
    return tokens, signed(vector["pop"]["header"], proof, keys[vector["pop"]["signer"]])


def judged(
    published: Mapping[str, Any], vector: Mapping[str, Any], tokens: Sequence[str], proof: str, issuer: PublicKey
) -> str | None:
    """Return the code with which a call is refused, or ``None``."""

    def anchor(kid: str) -> PublicKey:
        if kid != issuer.thumbprint:
            raise TokenError("unknown", code="unknown_key")
        return issuer

    terms = {"audience": published["params"]["audience"], "now": vector["now"]}
    try:
        chain = verify_chain(
            tokens, anchors=anchor, issuer=published["trust_anchors"][0]["iss"], max_lifetime=MAX_TTL, **terms
        )
        chain.leaf.scope.check(vector["tool"], vector["args"], vector["args"])
        verify_proof(proof, chain, tool=vector["tool"], arguments=vector["args"], **terms)
    except AgentIdentityError as refused:
        return refused.code
    return None


def test_a_chain_without_our_claims_is_refused(published: dict[str, Any], keys: dict[str, SigningKey]) -> None:
    """Nobody acts here under a grant that names no task, principal and agent."""
    for vector in published["vectors"]:
        tokens = [token["compact"] for token in vector["chain"]]
        assert judged(published, vector, tokens, vector["pop"]["compact"], keys["control_plane"].public_key), vector


def test_with_our_claims_the_published_verdicts_hold(published: dict[str, Any], keys: dict[str, SigningKey]) -> None:
    """Each vector ends as published, at a check for the same step; the differences are listed and no more."""
    assert len(published["vectors"]) >= 67
    for vector in published["vectors"]:
        name, step = vector["id"], vector["expected"]["step"]
        tokens, proof = with_our_claims(vector, keys)
        code = judged(published, vector, tokens, proof, keys["control_plane"].public_key)
        if name in DIFFERENCES:
            assert code == DIFFERENCES[name], name
        elif step is None:
            assert code is None, name
        else:
            assert code in CODES[step], name


def test_published_tokens_are_made_byte_for_byte(published: dict[str, Any], keys: dict[str, SigningKey]) -> None:
    """Header, payload, signature and hash of the published chain of three and its proof come out the same."""
    (vector,) = (one for one in published["vectors"] if one["id"] == "J.3")
    for token in (*vector["chain"], vector["pop"]):
        header = {"typ": token["header"]["typ"]}
        assert sign_compact(header, token["payload"], keys[token["signer"]]) == token["compact"]
    tokens = [token["compact"] for token in vector["chain"]]
    named = [token["payload"]["par_hash"] for token in vector["chain"][1:]]
    assert [*named, vector["pop"]["payload"]["aat_hash"]] == [par_hash(token) for token in tokens]
