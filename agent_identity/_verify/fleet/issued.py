"""Compares the logs of certifiers with the evidence at hand: hosts that were certified and are not here."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeAlias

from agent_identity._identity.trust.certificates import trusted_certificate
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._verify.fleet.logs import origin_at
from agent_identity._verify.fleet.places import Place, directory_at
from agent_identity._verify.ledger.certificates_check import certificates_of
from agent_identity.errors import ConfigurationError, TokenError

_Problems: TypeAlias = tuple[tuple[str, str], ...]


def missing_hosts(logs: Sequence[Place], places: Iterable[Place], trust: TrustStore | None) -> Mapping[str, _Problems]:
    """Return, by the name of each log of a certifier, code and message for each host that is missing.

    Whether the log of a certifier is whole, its own verification tells. A certificate that does not count by the trust
    file names no host.

    Args:
        logs: The logs of certifiers.
        places: All evidence.
        trust: The trusted keys, roots among them.

    Raises:
        ConfigurationError: There are no trusted keys.
    """
    if trust is None:
        raise ConfigurationError("issued is judged by the roots of a trust file; give trust as well")
    here = {origin_at(place) for place in places}
    return {log.name: tuple(_missing(log, here, trust)) for log in logs}


def _missing(log: Place, here: set[str | None], trust: TrustStore) -> Iterable[tuple[str, str]]:
    last: dict[str, tuple[int, str]] = {}
    with suppress(ConfigurationError, OSError), directory_at(log) as directory:
        for presented in certificates_of(open_ledger(directory)):
            with suppress(TokenError):
                one, _ = trusted_certificate(presented.token, trust)
                if one.origin not in here:
                    last[one.origin] = max(last.get(one.origin, (0, "")), (one.expires_at, one.recorder.thumbprint))
    for origin, (until, recorder) in sorted(last.items()):
        day = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC"
        message = f"the recorder {recorder} was certified for the log {origin!a} until {day}, and none of it is here"
        yield "certified_host_missing", message
