"""Workloads out of X.509-SVIDs: a path to an authority of the trust domain, and a leaf that is no authority."""

import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID as Usages
from cryptography.x509.oid import NameOID

from agent_identity import Service
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import KeySet, SpiffeBundle

x509_verification = pytest.importorskip("cryptography.x509.verification")
if not hasattr(x509_verification, "ExtensionPolicy"):
    pytest.skip("this cryptography validates no paths under our policy; 45 does", allow_module_level=True)

NOW = 1_764_000_000
NAME = "spiffe://example.org/billing/api"
SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505
KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(5)]


@dataclass
class Certificate:
    """A certificate and the key that it is about."""

    made: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.made.public_bytes(Encoding.PEM)


def certificate(
    name: str | None,
    key: Any,
    by: Certificate | None = None,
    *,
    ca: bool | None = True,
    names: list[x509.GeneralName] | None = None,
    length: int | None = None,
    usage: tuple[bool, bool, bool] | None = (False, True, True),
    extended: list[x509.ObjectIdentifier] | None = None,
    identifiers: bool = True,
    critical: bool = False,
    start: int = NOW - 3600,
    end: int = NOW + 3600,
    extra: Callable[[x509.CertificateBuilder], x509.CertificateBuilder] | None = None,
) -> Certificate:
    """Return a certificate with anything that can be right or wrong about one."""
    subject = x509.Name([] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.made.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(start, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=length), critical=True)
    if usage is not None:
        sign, certify, revoke = usage
        flags = x509.KeyUsage(sign, False, False, False, False, certify, revoke, False, False)
        builder = builder.add_extension(flags, critical=True)
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical)
    if extended is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if identifiers:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        if by:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
            builder = builder.add_extension(identifier, critical=False)
    if extra is not None:
        builder = extra(builder)
    return Certificate(builder.sign((by.key if by else key), hashes.SHA256()), key)


def uri(*names: str) -> list[x509.GeneralName]:
    """Return alternative names that are URIs."""
    return [x509.UniformResourceIdentifier(name) for name in names]


def workload(by: Certificate, name: str = NAME, **options: Any) -> Certificate:
    """Return the certificate of a workload."""
    given = {"ca": False, "names": uri(name), "usage": (True, False, False)} | options
    return certificate("workload", KEYS[4], by, **given)


ROOT = certificate("root", KEYS[0], names=uri("spiffe://example.org"))
MIDDLE = certificate("middle", KEYS[1], ROOT, length=0)
BUNDLE = SpiffeBundle("example.org", KeySet((), (ROOT.made.public_bytes(Encoding.DER),)))


def _read(*chain: Certificate, bundle: SpiffeBundle = BUNDLE, now: int | None = NOW) -> Service:
    return Service.from_x509_svid(b"".join(one.pem for one in chain), bundle=bundle, now=now)


def _code(*chain: Certificate, bundle: SpiffeBundle = BUNDLE, now: int | None = NOW) -> str:
    with pytest.raises(TokenError) as caught:
        _read(*chain, bundle=bundle, now=now)
    return caught.value.code


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"identifiers": False},
        {"critical": True},
        {"ca": None},
        {"extended": [Usages.CLIENT_AUTH, Usages.SERVER_AUTH]},
        {"names": [*uri(NAME), x509.DNSName("api.example.org")]},
        {"usage": (True, False, False)},
    ],
    ids=str,
)
def test_a_good_svid_is_a_verified_service(options: dict[str, Any]) -> None:
    """Directly under the authority and under an intermediate, as text and as bytes."""
    for chain in ((workload(ROOT, **options),), (workload(MIDDLE, **options), MIDDLE)):
        service = _read(*chain)
        assert (service.id, service.issuer, service.provenance) == (NAME, "spiffe://example.org", "verified")
        text = "".join(one.pem.decode() for one in chain)
        assert Service.from_x509_svid(text, bundle=BUNDLE, now=NOW) == service


def test_a_workload_needs_no_subject() -> None:
    """The SPIFFE ID is the name; the distinguished name may be empty."""
    leaf = certificate(None, KEYS[4], ROOT, ca=False, names=uri(NAME), usage=(True, False, False), critical=True)
    assert _read(leaf).id == NAME


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"names": None}, "bad_certificate"),
        ({"names": [x509.DNSName("api.example.org")]}, "bad_certificate"),
        ({"names": uri(NAME, "spiffe://example.org/other")}, "bad_certificate"),
        ({"names": uri(NAME, "https://example.org")}, "bad_certificate"),
        ({"ca": True, "usage": (True, True, False)}, "bad_certificate"),
        ({"ca": True}, "bad_certificate"),
        ({"usage": None}, "bad_certificate"),
        ({"usage": (False, False, False)}, "bad_certificate"),
        ({"usage": (True, True, False)}, "bad_certificate"),
        ({"usage": (True, False, True)}, "bad_certificate"),
        ({"end": NOW - 1}, "expired"),
        ({"start": NOW + 1}, "not_yet_valid"),
        ({"extended": [Usages.SERVER_AUTH]}, "bad_path"),
        ({"extended": [Usages.CODE_SIGNING]}, "bad_path"),
        ({"names": uri("spiffe://example.com/api")}, "wrong_trust_domain"),
        ({"names": uri("spiffe://example.org.evil.com/api")}, "wrong_trust_domain"),
        ({"names": uri("spiffe://example.org")}, "bad_principal"),
        ({"names": uri("spiffe://example.org/")}, "bad_principal"),
        ({"names": uri("spiffe://example.org/a/../b")}, "bad_principal"),
        ({"names": uri("https://example.org/api")}, "bad_principal"),
    ],
    ids=str,
)
def test_other_leaves_are_refused(options: dict[str, Any], code: str) -> None:
    """One URI, no authority, a key for signatures, valid now, and a workload of this trust domain."""
    assert _code(workload(ROOT, **options)) == code


def test_an_unknown_critical_extension_is_refused() -> None:
    """What a verifier must understand and does not makes the path worthless (RFC 5280 §4.2)."""
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert _code(workload(ROOT, extra=lambda b: b.add_extension(unknown, critical=True))) == "bad_path"


def _other_root() -> Certificate:
    return certificate("root", KEYS[3])


@pytest.mark.parametrize(
    "make",
    [
        lambda: (workload(_other_root()),),
        lambda: (workload(_other_root()), _other_root()),
        lambda: (workload(MIDDLE),),
        lambda: (workload(MIDDLE), ROOT),
        lambda: (workload(Certificate(ROOT.made, KEYS[2])),),
        lambda: (workload(certificate("m", KEYS[1], ROOT, ca=False)), certificate("m", KEYS[1], ROOT, ca=False)),
        lambda: (workload(certificate("m", KEYS[1], ROOT, ca=None)), certificate("m", KEYS[1], ROOT, ca=None)),
        lambda: (
            workload(low := certificate("low", KEYS[2], MIDDLE)),
            low,
            MIDDLE,
        ),
        lambda: (workload(old := certificate("old", KEYS[1], ROOT, end=NOW - 1)), old),
        lambda: (workload(use := certificate("use", KEYS[1], ROOT, usage=(True, False, True))), use),
        lambda: (
            workload(
                inner := certificate(
                    "w", KEYS[2], workload(ROOT), ca=False, names=uri(NAME), usage=(True, False, False)
                )
            ),
            inner,
            workload(ROOT),
        ),
        lambda: (workload(weak := certificate("weak", SMALL, ROOT)), weak),
    ],
    ids=[
        "stranger",
        "stranger with its root",
        "no intermediate",
        "root in place of the intermediate",
        "wrong signature",
        "intermediate is no authority",
        "intermediate has no constraints",
        "path too long",
        "intermediate expired",
        "intermediate may not certify",
        "a workload as an authority",
        "weak key",
    ],
)
def test_no_path_to_an_authority_is_no_svid(make: Callable[[], tuple[Certificate, ...]]) -> None:
    """Signatures, constraints, lengths and times along the path have to hold."""
    assert _code(*make()) == "bad_path"


def test_an_authority_whose_time_is_over_counts_no_more() -> None:
    """The anchor is judged like everything else, at the given time and by default now."""
    assert _code(workload(ROOT, end=NOW + 9000), now=NOW + 3601) == "bad_path"
    assert _code(workload(ROOT), now=None) == "expired"


def test_a_self_made_certificate_is_its_own_authority_only() -> None:
    """A leaf that signed itself leads nowhere, and a leaf in the bundle is no authority."""
    alone = certificate("workload", KEYS[4], ca=False, names=uri(NAME), usage=(True, False, False))
    assert _code(alone) == "bad_path"
    itself = SpiffeBundle("example.org", KeySet((), (alone.made.public_bytes(Encoding.DER),)))
    assert _code(alone, bundle=itself) == "bad_certificate"
    bare = certificate("root", KEYS[0], ca=None)
    assert (
        _code(workload(bare), bundle=SpiffeBundle("example.org", KeySet((), (bare.made.public_bytes(Encoding.DER),))))
        == "bad_certificate"
    )


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_ac_19_every_byte_of_a_certificate_counts(drawn: Callable[[range], Sequence[int]]) -> None:
    """With any byte of the certificate changed, nothing comes out of it."""
    good = workload(ROOT).made.public_bytes(Encoding.DER)
    for position in drawn(range(len(good))):
        changed = bytearray(good)
        changed[position] ^= 1 << position % 8
        pem = b"-----BEGIN CERTIFICATE-----\n" + b64encode(bytes(changed)) + b"\n-----END CERTIFICATE-----\n"
        with pytest.raises(TokenError):
            Service.from_x509_svid(pem, bundle=BUNDLE, now=NOW)


@pytest.mark.parametrize(
    ("chain", "code"),
    [
        (b"", "bad_certificate"),
        ("", "bad_certificate"),
        ("no certificate", "bad_certificate"),
        ("\ud800", "bad_certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "bad_certificate"),
        (b" " * 65_537, "too_large"),
        (workload(ROOT).pem * 9, "too_large"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_chain_is_refused(chain: Any, code: str) -> None:
    """Other text, damaged PEM, and too much of it."""
    with pytest.raises(TokenError) as caught:
        Service.from_x509_svid(chain, bundle=BUNDLE, now=NOW)
    assert caught.value.code == code


def test_a_chain_is_text_or_bytes() -> None:
    """Anything else is a mistake of the programmer."""
    with pytest.raises(TypeError):
        Service.from_x509_svid(None, bundle=BUNDLE, now=NOW)  # type: ignore[arg-type]


def test_a_bundle_may_be_pem_or_a_spiffe_bundle(tmp_path: Path) -> None:
    """Authorities come from a PEM file or from the x5c members of a bundle; damaged ones are found."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(_other_root().pem + ROOT.pem)
    assert _read(workload(ROOT), bundle=SpiffeBundle.from_pem("example.org", path)).id == NAME
    entry = {"use": "x509-svid", "kty": "EC", "x5c": [b64encode(ROOT.made.public_bytes(Encoding.DER)).decode()]}
    assert _read(workload(ROOT), bundle=SpiffeBundle("example.org", {"keys": [entry]})).id == NAME
    damaged = SpiffeBundle("example.org", {"keys": [entry | {"x5c": ["AAAA"]}]})
    assert _code(workload(ROOT), bundle=damaged) == "bad_certificate"
    assert _code(workload(ROOT), bundle=SpiffeBundle("example.org", {"keys": []})) == "unknown_key"
    path.write_bytes(b"nothing")
    with pytest.raises(TokenError):
        SpiffeBundle.from_pem("example.org", path)


def test_an_older_cryptography_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where paths cannot be validated under our policy, nothing is accepted and the message says what to do."""
    monkeypatch.delattr(sys.modules["cryptography.x509.verification"], "ExtensionPolicy")
    with pytest.raises(ConfigurationError, match="cryptography>=45"):
        _read(workload(ROOT))


def test_the_middle_may_last_longer_than_now() -> None:
    """Sanity of the helper: the intermediate is good for one level, for the whole hour."""
    assert datetime.fromtimestamp(NOW, UTC) + timedelta(minutes=59) < MIDDLE.made.not_valid_after_utc
    assert _read(workload(MIDDLE), MIDDLE, now=NOW + 3599).id == NAME
