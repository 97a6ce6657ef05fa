"""Workloads from X.509-SVIDs (SPIFFE X.509-SVID). Loaded only when a certificate is read: X.509 is slow.

Paths are validated by ``cryptography`` under the rules of RFC 5280; what SPIFFE asks beyond them is checked here.
"""

from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from agent_identity._identity.foreign._x509_files import MALFORMED, bad_certificate, read_pem
from agent_identity._identity.foreign.claims import Subject, current_time
from agent_identity._identity.foreign.spiffe import SpiffeBundle, service_of_spiffe_id
from agent_identity.errors import ConfigurationError, TokenError

_MAX_CHAIN: Final = 64 * 1024
_MAX_CERTIFICATES: Final = 8


def service_of_x509_svid(chain_pem: str | bytes, bundle: SpiffeBundle, *, now: int | None) -> Subject:
    """Return the workload of an X.509-SVID; see :meth:`Service.from_x509_svid`."""
    at = datetime.fromtimestamp(current_time(now), UTC)
    leaf, *intermediates = _chain(chain_pem)
    try:
        extensions = leaf.extensions
    except MALFORMED:
        raise bad_certificate("its extensions are malformed") from None
    name = _spiffe_id(extensions)
    _check_leaf(extensions)
    _check_time(leaf, at)
    _check_path(leaf, intermediates, _anchors(bundle), at)
    return service_of_spiffe_id(name, bundle)


def _chain(chain_pem: str | bytes) -> list[x509.Certificate]:
    data = chain_pem.encode("utf-8", "replace") if isinstance(chain_pem, str) else chain_pem
    if type(data) is not bytes:
        raise TypeError(f"chain_pem is {type(data).__name__}; give PEM text or bytes")
    if len(data) > _MAX_CHAIN:
        raise TokenError(f"the chain has more than {_MAX_CHAIN} bytes", code="too_large")
    certificates = [_certificate(one) for one in read_pem(data)]
    if len(certificates) > _MAX_CERTIFICATES:
        raise TokenError(f"the chain has more than {_MAX_CERTIFICATES} certificates", code="too_large")
    return certificates


def _certificate(data: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(data)
    except MALFORMED:
        raise bad_certificate("it is malformed") from None


def _anchors(bundle: SpiffeBundle) -> list[x509.Certificate]:
    """Return the authorities of the bundle, each of which must be one: an anchor needs no path."""
    anchors = [_certificate(one) for one in bundle.certificates()]
    for anchor in anchors:
        try:
            constraints = anchor.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (*MALFORMED, x509.ExtensionNotFound):
            raise bad_certificate("one in the bundle is not an authority") from None
        if not constraints.ca:
            raise bad_certificate("one in the bundle may not certify")
    return anchors


def _spiffe_id(extensions: x509.Extensions) -> str:
    """Return the one URI of the leaf (X.509-SVID §2); other kinds of alternative names may stand beside it."""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise bad_certificate("it has no URI") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise bad_certificate("it does not have exactly one URI")
    return uris[0]


def _check_leaf(extensions: x509.Extensions) -> None:
    """Check that a certificate is one of a workload and not of an authority (X.509-SVID §4, §5.2)."""
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise bad_certificate("it is one of an authority, not of a workload")
    except x509.ExtensionNotFound:
        pass
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        raise bad_certificate("it has no key usage") from None
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise bad_certificate("its key is not for digital signatures, or is for certificates or revocation lists")


def _check_time(leaf: x509.Certificate, at: datetime) -> None:
    if at > leaf.not_valid_after_utc:
        raise TokenError("the certificate has expired; get a new one", code="expired")
    if at < leaf.not_valid_before_utc:
        raise TokenError("the certificate is not valid yet; compare the clocks", code="not_yet_valid")


def _check_path(
    leaf: x509.Certificate, intermediates: list[x509.Certificate], anchors: list[x509.Certificate], at: datetime
) -> None:
    try:
        from cryptography.x509.verification import (
            Criticality,
            ExtensionPolicy,
            PolicyBuilder,
            Store,
            VerificationError,
        )
    except ImportError:
        raise ConfigurationError(
            "this version of cryptography does not validate certificate paths; run pip install 'cryptography>=45'"
        ) from None
    # The profile of the Web wants two things that SPIFFE leaves open: an authority key identifier in every certificate,
    # and alternative names that are critical exactly where there is no subject.
    authorities = ExtensionPolicy.webpki_defaults_ca().may_be_present(
        x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None
    )
    workloads = (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.NON_CRITICAL, None)
        .require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    )
    try:
        builder = PolicyBuilder().store(Store(anchors)).time(at).max_chain_depth(_MAX_CERTIFICATES)
        policy = builder.extension_policies(ca_policy=authorities, ee_policy=workloads)
        policy.build_client_verifier().verify(leaf, intermediates)
    except (VerificationError, *MALFORMED):
        raise TokenError(
            "no chain of valid certificates leads from an authority of the bundle to the workload",
            code="bad_path",
        ) from None
