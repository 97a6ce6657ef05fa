"""Rulings: signed once, read strictly, and bound to what they say."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Human, Service
from agent_identity._authority.registries.rulings import APPROVAL_TYPE, MAX_WAIT, Ruling, folded, trusted_ruling
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity.canonical import decode
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore

NOW = 1_764_000_000
ISSUER = "https://issuer.example"
KEY = SigningKey.from_seed(b"i" * 32)
TRUST = TrustStore((TrustedKey(KEY.public_key, "issuer"),), issuer=ISSUER)
GOOD: dict[str, Any] = {
    "id": "AYkKXayWd0u8zrMCCZqAVw",
    "status": "approved",
    "task": "AYkKXayWd0u8zrMCCZqAWA",
    "tool": "pay_invoice",
    "args": "A" * 43,
    "principal": Human("alice@example.com"),
    "agent": Agent("clerk", owner="finance@example.com"),
    "approver": Human("bob@example.com", roles=("finance",)),
    "decided_at": NOW,
    "expires_at": NOW + 900,
}


def _signed(**changes: object) -> str:
    """A token with other claims than a ruling would have; None takes a claim out."""
    claims = decode(parse_compact(Ruling(**GOOD).sign(KEY, issuer=ISSUER)).payload)
    claims.update(changes)
    left = {name: claim for name, claim in claims.items() if claim is not None}
    return sign_compact({"kid": KEY.public_key.thumbprint, "typ": APPROVAL_TYPE}, left, KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"args": None},
        {"args": "s" + "A" * 43},
        {"status": "rejected", "reason": "a copy"},
        {"principal": Service("svc"), "expires_at": NOW + MAX_WAIT},
    ],
)
def test_a_ruling_comes_back_as_it_was_signed(changes: dict[str, object]) -> None:
    """Everything is signed, and nothing else comes back; the key is named."""
    ruling = Ruling(**{**GOOD, **changes})
    read = trusted_ruling(ruling.sign(KEY, issuer=ISSUER), TRUST)
    assert read == ruling
    assert read.kid == KEY.public_key.thumbprint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "1"),
        ("id", 1),
        ("id", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("id", "AYkKXayWd0u8zrMCCZqAVx"),
        ("status", "pending"),
        ("task", ""),
        ("tool", "\n"),
        ("args", "sha256:" + "A" * 43),
        ("args", "a" * 64),
        ("args", "A" * 42 + "B"),
        ("args", "t" + "A" * 43),
        ("args", 1),
        ("approver", Service("svc")),
        ("decided_at", -1),
        ("decided_at", 1.0),
        ("expires_at", 2**53 + 1),
        ("expires_at", NOW),
        ("expires_at", NOW + MAX_WAIT + 1),
        ("reason", ""),
    ],
)
def test_a_ruling_that_breaks_a_rule_is_not_made(name: str, value: object) -> None:
    """Ids, digests, times and parties are checked when a ruling is made."""
    with pytest.raises((ValueError, TypeError)):
        replace(Ruling(**GOOD), **{name: value})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"jti": None}, "bad_approval"),
        ({"extra": "x"}, "bad_approval"),
        ({"jti": "1"}, "bad_approval"),
        ({"status": "yes"}, "bad_approval"),
        ({"approver": {"id": "clerk", "owner": "x"}}, "bad_approval"),
        ({"approver": {"id": "svc", "kind": "service", "provenance": "asserted"}}, "bad_approval"),
        ({"principal": "alice"}, "bad_approval"),
        ({"agent": {}}, "bad_approval"),
        ({"exp": NOW}, "bad_approval"),
        ({"iat": "x"}, "bad_approval"),
        ({"iss": "https://other.example"}, "wrong_issuer"),
        ({"iss": 1}, "wrong_issuer"),
    ],
)
def test_a_signed_token_that_is_no_ruling_is_refused(changes: dict[str, object], code: str) -> None:
    """A good signature does not make up for a claim that is missing, unknown or malformed."""
    with pytest.raises(TokenError) as caught:
        trusted_ruling(_signed(**changes), TRUST)
    assert caught.value.code == code


def test_a_claim_that_is_null_is_refused() -> None:
    """An absent claim has one spelling."""
    claims = decode(parse_compact(_signed()).payload)
    header = {"kid": KEY.public_key.thumbprint, "typ": APPROVAL_TYPE}
    with pytest.raises(TokenError) as caught:
        trusted_ruling(sign_compact(header, {**claims, "reason": None}, KEY), TRUST)
    assert caught.value.code == "bad_approval"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"typ": APPROVAL_TYPE}, "unknown_key"),
        ({"kid": "someone", "typ": APPROVAL_TYPE}, "unknown_key"),
        ({"kid": KEY.public_key.thumbprint, "typ": "agent-revocations+jwt"}, "wrong_type"),
    ],
)
def test_a_token_of_another_key_or_kind_is_refused(header: dict[str, str], code: str) -> None:
    """Who signed is looked up before anything is read, and a list of revocations is no ruling."""
    claims = decode(parse_compact(_signed()).payload)
    with pytest.raises(TokenError) as caught:
        trusted_ruling(sign_compact(header, claims, KEY), TRUST)
    assert caught.value.code == code


def test_a_changed_signature_is_refused() -> None:
    """One other byte is enough."""
    token = _signed()
    with pytest.raises(TokenError) as caught:
        trusted_ruling(token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBA"), TRUST)
    assert caught.value.code == "bad_signature"


def test_keys_out_of_time_and_revoked_keys_sign_no_rulings() -> None:
    """Unless somebody asks for those of revoked keys, to see whether they are older."""
    token = Ruling(**GOOD).sign(KEY, issuer=ISSUER)
    late = TrustStore((TrustedKey(KEY.public_key, "issuer", not_before=NOW + 1),), issuer=ISSUER)
    with pytest.raises(TokenError) as caught:
        trusted_ruling(token, late)
    assert caught.value.code == "key_not_valid_then"
    revoked = TrustStore((TrustedKey(KEY.public_key, "issuer", revoked_since=NOW + 1),), issuer=ISSUER)
    with pytest.raises(TokenError) as caught:
        trusted_ruling(token, revoked)
    assert caught.value.code == "key_revoked"
    assert trusted_ruling(token, revoked, even_revoked=True) == Ruling(**GOOD)


def test_a_store_without_an_issuer_takes_the_issuer_of_the_key() -> None:
    """A verifier that trusts a key for whatever it signs can read its rulings."""
    try:
        trust = TrustStore((TrustedKey(KEY.public_key, "issuer"),))
    except ConfigurationError:  # pragma: no cover  Stores must name their issuer.
        pytest.skip("stores name their issuer")
    assert trusted_ruling(Ruling(**GOOD).sign(KEY, issuer=ISSUER), trust) == Ruling(**GOOD)


@given(st.text(min_size=1, max_size=20))
def test_spellings_of_one_name_are_one_party(name: str) -> None:
    """Whatever the case, a name is folded to the same, and folding again changes nothing."""
    assert folded(folded(name)) == folded(name)
    assert folded(name.casefold()) == folded(name)


ONE = "AYkKXayWd0u8zrMCCZqAYA"


def test_a_ruling_names_the_inputs_that_it_exempts() -> None:
    """Sources come back as they were signed; a ruling without any exempts none."""
    ruling = Ruling(**GOOD, sources=(ONE,))
    assert trusted_ruling(ruling.sign(KEY, issuer=ISSUER), TRUST).sources == (ONE,)
    assert trusted_ruling(Ruling(**GOOD).sign(KEY, issuer=ISSUER), TRUST).sources == ()


@pytest.mark.parametrize(
    "sources", [(ONE, ONE), ("x",), [ONE], tuple(b64url_encode(n.to_bytes(16)) for n in range(65))]
)
def test_sources_that_are_no_list_of_records_are_refused(sources: Any) -> None:
    """Twice, no id, no tuple, or more than 64."""
    with pytest.raises(ValueError, match="64"):
        Ruling(**GOOD, sources=sources)


@pytest.mark.parametrize("claim", [[], "x", [1], {}, [ONE, 1]])
def test_a_signed_ruling_with_malformed_sources_is_refused(claim: object) -> None:
    """A signature does not make them ids."""
    with pytest.raises(TokenError) as caught:
        trusted_ruling(_signed(sources=claim), TRUST)
    assert caught.value.code == "bad_approval"
