"""The certifier: which workload gets a certificate for which log, and what no token gets."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from workload_issuer import WorkloadIssuer, workload_issuer

from agent_identity._identity.foreign.jwks_source import JwksSource
from agent_identity._identity.foreign.spiffe import SpiffeBundle
from agent_identity._identity.trust.certificates import AUDIENCE, Certificate, request_for, trusted_certificate
from agent_identity._identity.trust.certifier import MAX_REQUEST, Certifier, OidcPlatform, Rule, SpiffePlatform
from agent_identity.errors import ConfigurationError, EvidenceError, TokenError
from agent_identity.identity import PublicKey, SigningKey, SystemClock, TrustedKey, TrustStore
from agent_identity.testing import FixedClock

ROOT, RECORDER, ISSUER, OTHER = (SigningKey.from_seed(bytes([number]) * 32) for number in (11, 12, 13, 14))
SPIFFE = "spiffe://example.org"
URI = "https://fleet.example"


def trust(**more: Any) -> TrustStore:
    """Return a trust file with the root of the certifier."""
    given = {"origin": "fleet.example/", "recorders_only": True, **more}
    return TrustStore((TrustedKey(ROOT.public_key, "root", **given),))


@pytest.fixture(scope="module")
def issuer() -> Iterator[WorkloadIssuer]:
    """Serve the platform."""
    with workload_issuer() as served:
        yield served


def rules(issuer: WorkloadIssuer) -> tuple[Rule, ...]:
    """Return a rule for all workloads of the trust domain, and one for a service account."""
    return (
        Rule(platform=SPIFFE, subject=f"{SPIFFE}/agents/", origin="fleet.example/a/{subject}/", issuer=f"{URI}/a"),
        Rule(
            platform=issuer.url,
            subject="system:serviceaccount:pay:clerk",
            origin="fleet.example/clerk",
            issuer=f"{URI}/clerk",
            principals=("service",),
            life=600,
        ),
    )


class Service:
    """A certifier, and what it recorded."""

    def __init__(self, issuer: WorkloadIssuer, clock: Any = None, **more: Any) -> None:
        self.issuer = issuer
        self.recorded: list[tuple[Certificate, str]] = []
        platforms = (
            SpiffePlatform(SpiffeBundle("example.org", JwksSource(f"{issuer.url}/bundle"))),
            OidcPlatform(issuer.url, JwksSource.discover(issuer.url)),
        )
        given: dict[str, Any] = {"trust": trust(), "root": ROOT, "rules": rules(issuer), **more}
        keep = {"issued": lambda *one: self.recorded.append(one), **given.pop("keep", {})}
        self.certifier = Certifier(
            given.pop("trust"),
            given.pop("root"),
            platforms,
            given.pop("rules"),
            clock=clock or SystemClock(),
            **keep,
            **given,
        )

    def svid(self, name: str = "agents/clerk", key: PublicKey = RECORDER.public_key) -> str:
        """Return the token of a workload for a recorder key."""
        return self.issuer.svid(name, f"{AUDIENCE}{key.thumbprint}")

    def ask(self, token: str, origin: str = "fleet.example/a/clerk/1", uri: str = f"{URI}/a") -> str:
        """Ask for a certificate."""
        wanted = request_for(RECORDER.public_key, ISSUER.public_key, origin=origin, issuer=uri)
        return self.certifier.certify(token, json.dumps(wanted).encode())

    def refusal(self, token: str, origin: str = "fleet.example/a/clerk/1", uri: str = f"{URI}/a") -> str:
        """Return the code with which a request is refused."""
        with pytest.raises(TokenError) as caught:
            self.ask(token, origin, uri)
        return caught.value.code


def test_a_workload_gets_a_certificate_for_its_own_log(issuer: WorkloadIssuer) -> None:
    """By a JWT-SVID or a token of an OpenID provider; each certificate is recorded before it is handed out."""
    service = Service(issuer)
    token = service.ask(service.svid())
    certificate, root = trusted_certificate(token, trust())
    assert (certificate.recorder, certificate.issuer_key) == (RECORDER.public_key, ISSUER.public_key)
    assert (certificate.origin, certificate.issuer) == ("fleet.example/a/clerk/1", f"{URI}/a")
    assert (certificate.principals, certificate.expires_at - certificate.not_before) == (("human", "service"), 3_630)
    assert root.key == ROOT.public_key
    account = issuer.account("pay:clerk", f"{AUDIENCE}{RECORDER.public_key.thumbprint}")
    second = service.ask(account, "fleet.example/clerk", f"{URI}/clerk")
    assert trusted_certificate(second, trust())[0].principals == ("service",)
    assert [signed for _, signed in service.recorded] == [token, second]


@pytest.mark.parametrize(
    ("origin", "uri", "code"),
    [
        ("fleet.example/a/payer/1", f"{URI}/a", "wrong_origin"),
        ("fleet.example/a/clerk", f"{URI}/a", "wrong_origin"),
        ("fleet.example/a/clerk/../payer/1", f"{URI}/a", "wrong_origin"),
        ("fleet.example/clerk", f"{URI}/clerk", "wrong_origin"),
        ("elsewhere.example/x", f"{URI}/a", "wrong_origin"),
        ("fleet.example/a/clerk/1", f"{URI}/payer", "wrong_issuer"),
        ("fleet.example/a/clerk/", f"{URI}/a", "wrong_origin"),
    ],
)
def test_ac_17_a_certifier_that_is_asked_for_the_origin_of_another_refuses(
    issuer: WorkloadIssuer, origin: str, uri: str, code: str
) -> None:
    """A workload names a log below its own name and its own issuer, and no other; nothing is recorded."""
    service = Service(issuer)
    assert service.refusal(service.svid(), origin, uri) == code
    assert service.recorded == []


def test_ac_17_a_token_for_one_key_certifies_no_other(issuer: WorkloadIssuer) -> None:
    """Nor does one for another audience, an expired one, one of another issuer, or none."""
    service = Service(issuer)
    audience = f"{AUDIENCE}{RECORDER.public_key.thumbprint}"
    assert service.refusal(service.svid(key=OTHER.public_key)) == "wrong_audience"
    assert service.refusal(issuer.svid("agents/clerk", "another service")) == "wrong_audience"
    assert service.refusal(issuer.svid("agents/clerk", audience, exp=1)) == "expired"
    assert service.refusal("a.b.c") == "malformed_token"
    forged = WorkloadIssuer()
    forged.url = issuer.url
    assert service.refusal(forged.svid("agents/clerk", audience)) == "bad_signature"
    assert service.refusal(forged.account("pay:clerk", audience)) == "bad_signature"


@pytest.mark.parametrize("name", ["elsewhere/clerk", "agents/a/b", "agents/a.b/c"])
def test_a_workload_without_a_rule_gets_nothing(issuer: WorkloadIssuer, name: str) -> None:
    """A prefix is for names of one more segment."""
    service = Service(issuer)
    assert service.refusal(service.svid(name)) == "unknown_workload"


def test_a_workload_asks_a_bounded_number_of_times(issuer: WorkloadIssuer) -> None:
    """In each minute, each workload by itself."""
    clock = FixedClock(SystemClock().wall_ns() // 60_000_000_000 * 60_000_000_000)
    service = Service(issuer, clock, a_minute=2)
    for _ in range(2):
        service.ask(service.svid())
    assert service.refusal(service.svid()) == "too_many_requests"
    service.ask(service.svid("agents/payer"), "fleet.example/a/payer/1")
    clock.advance(60)
    service.ask(service.svid())
    assert len(service.recorded) == 4


def test_a_certificate_that_is_not_recorded_is_not_handed_out(issuer: WorkloadIssuer) -> None:
    """The log is the inventory of the fleet."""

    def full(*_: object) -> None:
        raise EvidenceError("the disk is full")

    service = Service(issuer, keep={"issued": full})
    with pytest.raises(EvidenceError, match="the disk is full"):
        service.ask(service.svid())


@pytest.mark.parametrize(
    "change",
    [
        lambda wanted: b"x" * (MAX_REQUEST + 1),
        lambda wanted: b"no json",
        lambda wanted: b"[]",
        lambda wanted: {**wanted, "more": 1},
        lambda wanted: {**wanted, "issuer": "x"},
        lambda wanted: {**wanted, "issuer": {"uri": "x"}},
        lambda wanted: {**wanted, "origin": 1},
        lambda wanted: {**wanted, "recorder": {"kty": "RSA"}},
        lambda wanted: {**wanted, "recorder": wanted["issuer"]["key"]},
    ],
)
def test_a_malformed_request_is_refused(issuer: WorkloadIssuer, change: Any) -> None:
    """Before and after the token was looked at."""
    service = Service(issuer)
    wanted: Any = request_for(
        RECORDER.public_key, ISSUER.public_key, origin="fleet.example/a/clerk/1", issuer=f"{URI}/a"
    )
    changed = change(wanted)
    body = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    with pytest.raises(TokenError) as caught:
        service.certifier.certify(service.svid(key=ISSUER.public_key), body)
    assert caught.value.code == "bad_recorder_certificate"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"trust": TrustStore(())}, "not that of a root for recorders only"),
        ({"trust": trust(recorders_only=False)}, "not that of a root for recorders only"),
        ({"trust": trust(not_after=5)}, "not that of a root for recorders only"),
        ({"trust": trust(revoked_since=5)}, "not that of a root for recorders only"),
        ({"root": OTHER}, "not that of a root for recorders only"),
        ({"trust": trust(origin="fleet.example/b/")}, "names logs outside the origin of the root"),
        ({"trust": trust(origin="fleet.example/clerk")}, "names logs outside the origin of the root"),
        (
            {"rules": [Rule(platform=SPIFFE, subject=f"{SPIFFE}/a", origin="fleet.example/a/", issuer="i")] * 2},
            "reach the same logs",
        ),
        (
            {"rules": [Rule(platform="https://x", subject="a", origin="fleet.example/a", issuer="i")]},
            "names a platform that is not configured",
        ),
    ],
)
def test_a_certifier_that_could_go_wrong_does_not_begin(
    issuer: WorkloadIssuer, more: dict[str, Any], message: str
) -> None:
    """Its root certifies recorders only, and no two rules reach one log."""
    with pytest.raises(ConfigurationError, match=message):
        Service(issuer, **more)


def test_a_root_for_one_log_certifies_that_log(issuer: WorkloadIssuer) -> None:
    """A rule may name the very origin of the root."""
    service = Service(issuer, trust=trust(origin="fleet.example/clerk"), rules=rules(issuer)[1:])
    account = issuer.account("pay:clerk", f"{AUDIENCE}{RECORDER.public_key.thumbprint}")
    assert service.ask(account, "fleet.example/clerk", f"{URI}/clerk")


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": "s/"},
        {"origin": "a/{subject}/"},
        {"subject": "s/", "origin": "{subject}/"},
        {"subject": "s/", "origin": "a/x{subject}/"},
        {"issuer": "i/{subject}"},
        {"life": 59},
        {"life": 30 * 24 * 3600},
        {"origin": "a//"},
        {"issuer": ""},
        {"subject": ""},
    ],
)
def test_a_rule_that_would_let_workloads_take_the_place_of_others_is_refused(changes: dict[str, Any]) -> None:
    """A prefix of names needs its own segment in each origin."""
    given: dict[str, Any] = {"platform": "p", "subject": "s", "origin": "a/", "issuer": "i", **changes}
    with pytest.raises(ValueError, match=r"; |has 0 characters|is not from"):
        Rule(**given)


def test_without_platforms_no_token_counts() -> None:
    """A certifier without any refuses as for a workload without a rule."""
    empty = Certifier(trust(), ROOT, (), (), clock=SystemClock(), issued=print)
    wanted = request_for(RECORDER.public_key, ISSUER.public_key, origin="a", issuer="i")
    with pytest.raises(TokenError) as caught:
        empty.certify("a.b.c", json.dumps(wanted).encode())
    assert caught.value.code == "unknown_workload"


def test_a_rule_puts_the_last_segment_in_its_place() -> None:
    """Into origin and issuer; other names, and dots, are not its business."""
    rule = Rule(platform="p", subject="ns:", origin="a/{subject}", issuer="i/{subject}")
    assert rule.bounds("ns:x_1.y") == ("a/x_1.y", "i/x_1.y")
    assert [rule.bounds(name) for name in ("ns:", "ns:..", "ns:.", "other:x", "ns:a:b", "ns:a b", "ns:é")] == [None] * 7
