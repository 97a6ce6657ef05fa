"""Proofs of possession: the published example, and proofs with malformed claims."""

import pytest

from agent_identity import Agent, Human, Scope
from agent_identity._authority.grants.grants import Chain, issue
from agent_identity._authority.grants.proof_of_possession import PROOF_TYPE, prove, verify_proof
from agent_identity._identity.keys.jws import par_hash, sign_compact
from agent_identity.canonical import JSON
from agent_identity.errors import TokenError
from agent_identity.identity import SigningKey

NOW = 1_764_000_020
HOLDER = SigningKey.from_seed(b"\x03" * 32)
LEAF = "01957a3f-4e23-7b01-a9d1-000000000002"
CHAIN = Chain(
    (
        issue(
            SigningKey.from_seed(b"\x01" * 32),
            issuer="https://issuer.example.com",
            task_id="task-7f2",
            principal=Human("user:alice"),
            agent=Agent("billing", owner="team:payments"),
            holder=HOLDER.public_key,
            scope=Scope("refund_payment"),
            now=NOW,
            ttl=60,
            id=LEAF,
        ),
    )
)
CLAIMS: dict[str, JSON] = {
    "aat_aud": "urn:x",
    "aat_hash": par_hash(CHAIN.leaf.token),
    "aat_id": LEAF,
    "aat_tool": "refund_payment",
    "hta": {},
    "iat": NOW,
    "jti": "01957a3f-4e23-7b01-a9d1-000000000003",
}


@pytest.mark.parametrize(
    "change",
    [
        {"iat": float(NOW) + 0.5},
        {"iat": True},
        {"iat": None},
        {"aat_hash": None},
        {"jti": None},
        {"jti": "3"},
        {"jti": 3},
        {"hta": []},
        {"hta": None},
        {"more": 1},
        {"aat_next": 1},
    ],
)
def test_a_malformed_proof_is_refused(change: dict[str, JSON]) -> None:
    """Claims of another form, missing or unknown are refused although the holder signed them."""
    claims = {name: value for name, value in (CLAIMS | change).items() if name == "hta" or value is not None}
    with pytest.raises(TokenError) as refused:
        verify_proof(
            sign_compact({"typ": PROOF_TYPE}, claims, HOLDER),
            CHAIN,
            tool="refund_payment",
            arguments={},
            audience="urn:x",
            now=NOW,
        )
    assert refused.value.code == "bad_proof"


@pytest.mark.parametrize(("signed", "came"), [("aa", "bb"), ("aa", None), (None, "aa")])
def test_a_proof_covers_the_grant_that_is_handed_over(signed: str | None, came: str | None) -> None:
    """A grant beside the chain can be neither exchanged, nor taken away, nor added."""
    terms = {"tool": "refund_payment", "arguments": {}, "audience": "urn:x", "now": NOW}
    proof_id = "01957a3f-4e23-7b01-a9d1-000000000003"
    proof = prove(CHAIN, HOLDER, **terms, id=proof_id, next_hash=signed)
    assert verify_proof(proof, CHAIN, **terms, next_hash=signed) == proof_id
    with pytest.raises(TokenError) as refused:
        verify_proof(proof, CHAIN, **terms, next_hash=came)
    assert refused.value.code == "wrong_next_grant"


def test_a_proof_holds_no_number_that_others_read_differently() -> None:
    """A whole number that a double rounds is neither proved nor accepted."""
    terms = {"tool": "refund_payment", "audience": "urn:x", "now": NOW}
    proof_id = "01957a3f-4e23-7b01-a9d1-000000000003"
    for number in (2**53 + 1, -(10**400)):
        arguments: dict[str, JSON] = {"ids": [{"id": number}]}
        with pytest.raises(ValueError, match="double"):
            prove(CHAIN, HOLDER, arguments=arguments, id=proof_id, **terms)
        token = sign_compact({"typ": PROOF_TYPE}, CLAIMS | {"hta": arguments}, HOLDER)
        with pytest.raises(TokenError) as refused:
            verify_proof(token, CHAIN, arguments=arguments, **terms)
        assert refused.value.code == "wrong_arguments"
    exact: dict[str, JSON] = {"id": 2**53 + 2}
    assert verify_proof(prove(CHAIN, HOLDER, arguments=exact, id=proof_id, **terms), CHAIN, arguments=exact, **terms)


def test_no_grant_and_a_null_are_not_two_spellings_of_one_proof() -> None:
    """A claim that says nothing is refused."""
    with pytest.raises(TokenError) as refused:
        verify_proof(
            sign_compact({"typ": PROOF_TYPE}, {**CLAIMS, "aat_next": None}, HOLDER),
            CHAIN,
            tool="refund_payment",
            arguments={},
            audience="urn:x",
            now=NOW,
        )
    assert refused.value.code == "bad_proof"
