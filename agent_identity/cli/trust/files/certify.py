"""``agent-identity trust certify``: a root certifies the keys of a host for its log."""

import argparse
import json
import time
from pathlib import Path
from typing import Final, cast

from agent_identity._identity.common.private_files import replace_public_file
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.certificates import Certificate, PrincipalKind, trusted_certificate
from agent_identity._identity.trust.entries import Purpose
from agent_identity._identity.trust.store import TrustStore
from agent_identity.cli.terminal.parsing import duration, moment_ns
from agent_identity.cli.terminal.roots import root_signer
from agent_identity.cli.terminal.signing import trust_at, trust_file
from agent_identity.cli.terminal.style import clean, time_shown
from agent_identity.errors import ConfigurationError, TokenError

_NS: Final = 1_000_000_000


def run(chosen: argparse.Namespace) -> int:
    """Certify the keys in the trust file of a host, and write the certificate where the host reads it."""
    trust, host = trust_at(trust_file(chosen.file)), trust_at(trust_file(chosen.host))
    if chosen.output is None and not Path(chosen.host).is_dir():
        raise ConfigurationError("the host is a trust file, which says not where its certificate belongs; give -o FILE")
    out = chosen.output or str(Path(chosen.host) / "keys" / "recorder.certificate")
    now = int(time.time())
    begins = now if chosen.start is None else moment_ns(chosen.start) // _NS
    origin, issuer = chosen.origin or host.origin, chosen.issuer or host.issuer
    if origin is None or issuer is None:
        raise ConfigurationError("the trust file of the host names no log or no issuer; give --origin and --issuer")
    try:
        certificate = Certificate(
            recorder=_newest(host, "recorder", now),
            origin=origin,
            issuer_key=_newest(host, "issuer", now),
            issuer=issuer,
            principals=cast("tuple[PrincipalKind, ...]", tuple(sorted(set(chosen.principals.split(","))))),
            not_before=begins,
            expires_at=begins + duration(chosen.life),
        )
    except ValueError as error:
        raise ConfigurationError(f"bad certificate: {error}") from None
    with root_signer(chosen.root) as root:
        token = certificate.sign(root)
    _check(token, trust, now)
    replace_public_file(out, f"{token}\n".encode("ascii"))
    if chosen.json:
        facts = {"recorder": certificate.recorder.thumbprint, "origin": origin, "issuer": issuer}
        times = {"not_before": begins, "expires_at": certificate.expires_at}
        print(json.dumps({"path": out, **facts, **times}))
        return 0
    print(f"{clean(out)}: {clean(origin)}, until {time_shown(certificate.expires_at)}")
    print(f"  recorder key  {certificate.recorder.thumbprint}\n  issuer key    {certificate.issuer_key.thumbprint}")
    return 0


def _newest(host: TrustStore, purpose: Purpose, now: int) -> PublicKey:
    """Return the key of a host that counts now, the latest of several.

    Raises:
        ConfigurationError: There is none.
    """
    some = [entry for entry in host.keys if entry.purpose == purpose and entry.counts(now)]
    if not some:
        raise ConfigurationError(
            f"no {purpose} key of the host counts now; rotate it there, and take its new trust.json"
        )
    return max(some, key=lambda entry: entry.not_before or 0).key


def _check(token: str, trust: TrustStore, now: int) -> None:
    """Check that verifiers will count a certificate.

    Raises:
        ConfigurationError: By the trust file, its root may not certify this now.
    """
    try:
        _, root = trusted_certificate(token, trust)
    except TokenError as error:
        raise ConfigurationError(
            f"by the trust file, the root may not certify this ({error}); 'agent-identity trust list' shows its bounds",
            code=error.code,
        ) from None
    if not root.counts(now):
        raise ConfigurationError(
            "the root is revoked or does not count now; certify with another one, and revoke what it certified"
        )
