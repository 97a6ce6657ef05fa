"""Tokens that carry a delegation: the subject is the principal, the actors are history."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Human, Service
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.principals.delegated_tokens import Inbound
from agent_identity.errors import TokenError
from agent_identity.identity import read_inbound

NOW = 1_764_000_000
ACCESS: dict[str, object] = {"client_id": "web-shop", "jti": "1"}
TRANSACTION: dict[str, object] = {"txn": "tx-1", "scope": "pay", "req_wl": "spiffe://example.org/gateway"}
KINDS = {
    "access_token": ("at+jwt", ACCESS),
    "transaction_token": ("txntoken+jwt", TRANSACTION),
    "id_jag": ("oauth-id-jag+jwt", ACCESS),
}


def _token(issuer: Any, kind: str = "access_token", **changes: object) -> str:
    typ, claims = KINDS[kind]
    return issuer.token(header={"typ": typ}, **(claims | changes))


def _read(issuer: Any, token: str, **options: Any) -> Inbound:
    return read_inbound(token, **({"subject": Human} | issuer.expects(**options)))


def _code(issuer: Any, token: Any, **options: Any) -> str:
    with pytest.raises(TokenError) as caught:
        _read(issuer, token, **options)
    return caught.value.code


def act(*actors: str) -> dict[str, object]:
    """Return the claim of these actors, the current one first (RFC 8693 §4.1)."""
    claim: dict[str, object] = {}
    for actor in reversed(actors):
        claim = {"sub": actor, **({"act": claim} if claim else {})}
    return claim


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_token_becomes_a_first_hop(issuer: Any, kind: str) -> None:
    """Principal, history, kind, hash and end come out of each of the three."""
    token = _token(issuer, kind, act=act("invoice-clerk", "spiffe://example.org/planner"), roles=["a"])
    inbound = _read(issuer, token, roles_claim="roles")
    assert (inbound.principal.id, inbound.principal.issuer) == ("alice@example.com", issuer.name)
    assert (inbound.principal.provenance, inbound.principal.roles) == ("verified", ("a",))
    assert inbound.actors == ("invoice-clerk", "spiffe://example.org/planner")
    assert (inbound.kind, inbound.expires_at) == (kind, NOW + 300)
    assert inbound.txn == ("tx-1" if kind == "transaction_token" else None)
    assert inbound.token_hash == digest_of(token.rpartition(".")[0].encode())
    assert token not in repr(inbound)


@pytest.mark.parametrize("typ", [..., "JWT"])
def test_an_access_token_without_a_type_of_its_own_is_read(issuer: Any, typ: object) -> None:
    """Token exchange (RFC 8693) does not prescribe one."""
    token = issuer.token(header={"typ": typ}, act=act("a"))
    assert _read(issuer, token).kind == "access_token"
    assert _read(issuer, issuer.token(azp="x"), authorized_party="x").actors == ()


@given(st.lists(st.text("abc", min_size=1, max_size=3), max_size=32))
def test_the_history_is_that_of_the_token(issuer: Any, actors: list[str]) -> None:
    """The current actor is first, whatever the length."""
    token = _token(issuer, act=act(*actors) or ...)
    assert _read(issuer, token).actors == tuple(actors)


@pytest.mark.parametrize(
    "claim",
    [
        None,
        "a",
        [],
        [{"sub": "a"}],
        {},
        {"sub": None},
        {"sub": ""},
        {"sub": "a\n"},
        {"sub": "spiffe://Example.org/a"},
        {"sub": "a", "act": None},
        {"sub": "a", "act": {"iss": "x"}},
        act(*["a"] * 33),
        act(*["a"] * 500),
    ],
    ids=lambda claim: str(claim)[:30],
)
def test_what_is_no_history_is_refused(issuer: Any, claim: object) -> None:
    """Every actor has a name that follows the rules of ids, and there are at most 32."""
    assert _code(issuer, _token(issuer, act=claim)) == "bad_history"


def test_the_history_gives_nobody_authority(issuer: Any) -> None:
    """Roles, scopes and identities inside act do not reach the principal."""
    claim = {"sub": "root", "roles": ["admin"], "scope": "all", "iss": "https://evil.example"}
    inbound = _read(issuer, _token(issuer, act=claim), roles_claim="roles")
    assert (inbound.principal.id, inbound.principal.roles, inbound.principal.issuer) == (
        "alice@example.com",
        (),
        issuer.name,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_has_what_its_kind_must_have(issuer: Any, kind: str) -> None:
    """Required claims of each specification, and the times, audiences and signatures of all."""
    required = {"sub", "aud", "exp", "iat", *KINDS[kind][1]} | ({"iss"} if kind != "transaction_token" else set())
    for name in required:
        assert _code(issuer, _token(issuer, kind, **{name: ...})) == "missing_claim"
        assert _code(issuer, _token(issuer, kind, **{name: [1]})) == "bad_claim"
    assert _code(issuer, _token(issuer, kind, iss="https://evil.example")) == "wrong_issuer"
    assert _code(issuer, _token(issuer, kind, aud="other")) == "wrong_audience"
    assert _code(issuer, _token(issuer, kind, exp=NOW - 30)) == "expired"
    assert _code(issuer, _token(issuer, kind, nbf=NOW + 31)) == "not_yet_valid"
    assert _code(issuer, _token(issuer, kind, txn=1)) == "bad_claim"
    assert _code(issuer, _token(issuer, kind) + "AAAA") == "bad_signature"


def test_a_transaction_token_may_leave_out_its_issuer(issuer: Any) -> None:
    """The keys of the trust domain tell; the configured issuer stands in the principal."""
    assert _read(issuer, _token(issuer, "transaction_token", iss=...)).principal.issuer == issuer.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_may_be_tied_to_a_party(issuer: Any, kind: str) -> None:
    """The client, or the workload that asked for the transaction, is compared if one is expected."""
    party = str(KINDS[kind][1].get("req_wl", "web-shop"))
    assert _read(issuer, _token(issuer, kind), authorized_party=party).kind == kind
    assert _code(issuer, _token(issuer, kind), authorized_party="other") == "wrong_party"


def test_several_audiences_demand_a_party(issuer: Any) -> None:
    """Who holds a token for many has to be named in it."""
    both = [issuer.audience, "other"]
    assert _code(issuer, issuer.token(aud=both)) == "missing_claim"
    assert _read(issuer, issuer.token(aud=both, azp="x")).kind == "access_token"
    assert _read(issuer, _token(issuer, aud=both)).kind == "access_token"


@pytest.mark.parametrize("typ", ["aat+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "wit+jwt", "x"])
def test_other_types_are_refused(issuer: Any, typ: str) -> None:
    """What the issuer signed for another purpose is no request."""
    assert _code(issuer, issuer.token(header={"typ": typ}, **ACCESS)) == "wrong_type"


@pytest.mark.parametrize("claim", ["nonce", "at_hash", "c_hash", "events"])
def test_an_id_token_is_no_request(issuer: Any, claim: str) -> None:
    """A login is for the client that asked for it, and a logout for nobody else."""
    assert _code(issuer, issuer.token(**{claim: "x"})) == "wrong_type"


def test_the_kind_of_the_subject_is_never_guessed(issuer: Any) -> None:
    """The entrance says whom it is for, and a token that says otherwise is refused."""
    own = _token(issuer, sub="web-shop")
    assert _read(issuer, own, subject=Service).principal.kind == "service"
    assert _code(issuer, own) == "not_a_human"
    assert _code(issuer, _token(issuer), subject=Service) == "not_a_service"
    assert _code(issuer, _token(issuer, "id_jag"), subject=Service) == "not_a_service"
    workload = _token(issuer, "transaction_token", sub="spiffe://example.org/job")
    assert _read(issuer, workload, subject=Service).principal == _read(issuer, workload, subject=Service).principal
    assert _code(issuer, workload) == "not_a_human"
    for subject in (None, "human", object, Inbound):
        with pytest.raises(TypeError, match="subject is neither"):
            _read(issuer, own, subject=subject)


def test_ac_40_nothing_is_verified_without_a_signature(issuer: Any, stranger: Any) -> None:
    """Whoever says that others checked the signature gets a principal that is only asserted; a bad one never counts."""
    forged = _token(stranger, sub="ceo")
    assert _code(issuer, forged) == "bad_signature"
    inbound = _read(issuer, forged, jwks=None)
    assert (inbound.principal.id, inbound.principal.provenance) == ("ceo", "asserted")
    assert _code(issuer, _token(stranger, iss="https://evil.example"), jwks=None) == "wrong_issuer"
    assert _code(issuer, issuer.signed({}, header={"alg": "none"}), jwks=None) == "algorithm_not_allowed"
    assert _code(issuer, issuer.signed(b"[]"), jwks=None) == "malformed_token"
