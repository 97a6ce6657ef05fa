"""Workloads out of JWT-SVIDs: only those of the trust domain whose bundle is given."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Service
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import SpiffeBundle

NOW = 1_764_000_000
NAME = "spiffe://example.org/billing/api"


@pytest.fixture(scope="session")
def bundle(issuer: Any) -> SpiffeBundle:
    return SpiffeBundle("example.org", issuer.jwks(use="jwt-svid"))


def _svid(issuer: Any, *, key: str = "ec", header: dict[str, object] | None = None, **changes: object) -> str:
    claims = {"sub": NAME, "aud": ["ledger"], "exp": NOW + 300} | changes
    return issuer.signed({name: value for name, value in claims.items() if value is not ...}, key=key, header=header)


def _code(token: Any, bundle: SpiffeBundle, audience: str = "ledger", **options: Any) -> str:
    with pytest.raises(TokenError) as caught:
        Service.from_jwt_svid(token, bundle=bundle, audience=audience, **({"now": NOW} | options))
    return caught.value.code


@pytest.mark.parametrize("key", ["ec", "ec384", "ec521", "rsa", "pss"])
@pytest.mark.parametrize("typ", ["JWT", "JOSE", ...])
def test_a_good_svid_is_a_verified_service(issuer: Any, bundle: SpiffeBundle, key: str, typ: object) -> None:
    """Its SPIFFE ID is the id, its trust domain the issuer."""
    token = _svid(issuer, key=key, header={"typ": typ})
    service = Service.from_jwt_svid(token, bundle=bundle, audience="ledger", now=NOW)
    assert (service.id, service.issuer) == (NAME, "spiffe://example.org")
    assert (service.provenance, service.kind, service.roles) == ("verified", "service", ())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sub": ...}, "missing_claim"),
        ({"sub": 1}, "bad_claim"),
        ({"aud": ...}, "missing_claim"),
        ({"aud": []}, "bad_claim"),
        ({"aud": "other"}, "wrong_audience"),
        ({"exp": ...}, "missing_claim"),
        ({"exp": NOW - 30}, "expired"),
        ({"iat": NOW + 31}, "not_yet_valid"),
        ({"nbf": NOW + 31}, "not_yet_valid"),
        ({"sub": "spiffe://example.com/billing/api"}, "wrong_trust_domain"),
        ({"sub": "spiffe://example.org.evil.com/a"}, "wrong_trust_domain"),
        ({"sub": "spiffe://evil-example.org/a"}, "wrong_trust_domain"),
        ({"sub": "spiffe://example.org"}, "bad_principal"),
        ({"sub": "spiffe://example.org/"}, "bad_principal"),
        ({"sub": "spiffe://example.org/a/"}, "bad_principal"),
        ({"sub": "spiffe://example.org/a/../b"}, "bad_principal"),
        ({"sub": "spiffe://example.org/a//b"}, "bad_principal"),
        ({"sub": "spiffe://example.org/a%2fb"}, "bad_principal"),
        ({"sub": "spiffe://example.org:443/a"}, "bad_principal"),
        ({"sub": "spiffe://user@example.org/a"}, "bad_principal"),
        ({"sub": "spiffe://example.org/a?b"}, "bad_principal"),
        ({"sub": "spiffe://Example.org/a"}, "bad_principal"),
        ({"sub": "SPIFFE://example.org/a"}, "bad_principal"),
        ({"sub": "https://example.org/a"}, "bad_principal"),
        ({"sub": "example.org/a"}, "bad_principal"),
        ({"sub": "spiffe://example.org/" + "a" * 2048}, "bad_principal"),
    ],
    ids=str,
)
def test_other_claims_are_refused(issuer: Any, bundle: SpiffeBundle, changes: dict[str, object], code: str) -> None:
    """Subject, audience and end are there and right; the subject is a workload of this trust domain."""
    assert _code(_svid(issuer, **changes), bundle) == code


@pytest.mark.parametrize(
    ("header", "key", "code"),
    [
        ({"x5t": "a"}, "ec", "unknown_header"),
        ({"cty": "JWT"}, "ec", "unknown_header"),
        ({"jwk": {}}, "ec", "unknown_header"),
        ({"typ": "at+jwt"}, "ec", "wrong_type"),
        ({"typ": "wit+jwt"}, "ec", "wrong_type"),
        ({}, "ed", "algorithm_not_allowed"),
        ({"alg": "HS256"}, "ec", "algorithm_not_allowed"),
        ({"alg": "none"}, "ec", "algorithm_not_allowed"),
        ({"kid": "nobody"}, "ec", "unknown_key"),
    ],
    ids=str,
)
def test_other_headers_are_refused(
    issuer: Any, bundle: SpiffeBundle, header: dict[str, object], key: str, code: str
) -> None:
    """alg, kid and typ only, and no EdDSA (JWT-SVID §2)."""
    assert _code(_svid(issuer, key=key, header=header), bundle) == code


def test_keys_count_for_jwt_svids_only_if_the_bundle_says_so(issuer: Any, stranger: Any, bundle: SpiffeBundle) -> None:
    """Keys with another use or none verify no SVID; a stranger's signature is none."""
    for use in ("sig", ..., "x"):
        assert _code(_svid(issuer), SpiffeBundle("example.org", issuer.jwks(use=use))) == "unknown_key"
    assert _code(_svid(stranger), bundle) == "bad_signature"


def test_clocks_may_differ_a_little(issuer: Any, bundle: SpiffeBundle) -> None:
    """The skew is at most half a minute; wrong expectations are mistakes of the programmer."""
    token = _svid(issuer, exp=NOW)
    Service.from_jwt_svid(token, bundle=bundle, audience="ledger", now=NOW + 29)
    assert _code(token, bundle, skew=0) == "expired"
    assert _code(token, bundle, now=None) == "expired"
    for options in ({"skew": 31}, {"audience": ""}, {"now": -1}):
        with pytest.raises(ValueError, match=r" (is|are|has|have|does) ") as caught:
            Service.from_jwt_svid(token, bundle=bundle, **({"audience": "ledger", "now": NOW} | options))
        assert not isinstance(caught.value, TokenError)


def test_a_bundle_has_the_name_of_a_trust_domain(issuer: Any, tmp_path: Path) -> None:
    """The name may be written as a SPIFFE ID; keys may be in a file."""
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(issuer.jwks(use="jwt-svid")), encoding="utf-8")
    bundle = SpiffeBundle("spiffe://example.org", path)
    assert (bundle.trust_domain, bundle.id) == ("example.org", "spiffe://example.org")
    assert Service.from_jwt_svid(_svid(issuer), bundle=bundle, audience="ledger", now=NOW).id == NAME
    for name in ("", "Example.org", "example.org/a", "https://example.org", "a" * 256, "example.org:1", "é.org"):
        with pytest.raises(ValueError, match="trust_domain is malformed"):
            SpiffeBundle(name, path)
    with pytest.raises(TypeError):
        SpiffeBundle(b"example.org", path)  # type: ignore[arg-type]
    with pytest.raises(TokenError) as caught:
        bundle.certificates()
    assert caught.value.code == "unknown_key"
    with pytest.raises(ConfigurationError):
        SpiffeBundle.from_pem("example.org", tmp_path / "absent")
