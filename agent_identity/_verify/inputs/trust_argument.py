"""Trusted keys as a parameter: the keys themselves, or the path of their file."""

from typing import TypeAlias

from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.inputs.sources import PathLike

Trust: TypeAlias = TrustStore | PathLike | None
"""Trusted keys, or the path of a trust file."""


def to_trust(trust: Trust) -> TrustStore | None:
    """Return the trusted keys.

    Raises:
        ConfigurationError: The trust file is unusable.
    """
    if trust is None or isinstance(trust, TrustStore):
        return trust
    return TrustStore.load(trust)
