"""Opening the directory of an enforcer for those who command it from outside."""

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Final

from agent_identity.authority import DirectoryState
from agent_identity.enforcement import Enforcer
from agent_identity.enforcement.approval_box import ApprovalBox
from agent_identity.enforcement.directory import pseudonyms_of
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import DigestKeys, Ledger
from agent_identity.identity import RandomIds, SigningKey, SystemClock, TrustStore

__all__ = ["NS", "opened"]

NS: Final = 1_000_000_000
"""Nanoseconds of a second."""


@contextlib.contextmanager
def opened(directory: str, keys: str | None) -> Generator[Enforcer]:
    """Open the directory; with ``keys``, one whose keys are elsewhere.

    Args:
        directory: The directory of the enforcer.
        keys: The directory that has the keys, if a signer holds them.
    """
    if not (Path(directory) / "trust.json").exists():
        raise ConfigurationError(
            f"expected the directory of an enforcer at {directory!r}, found none; 'agent-identity init DIR' makes one"
        )
    if keys is None:
        with Enforcer.open(directory) as enforcer:
            yield enforcer
        return
    state = DirectoryState(Path(directory) / "state")
    with contextlib.closing(state), _with_keys(Path(directory), Path(keys) / "keys", state) as enforcer:
        yield enforcer


def _with_keys(directory: Path, keys: Path, state: DirectoryState) -> Enforcer:
    """Return an enforcer on a directory whose agents have no keys, for whoever has them."""
    issuer, recorder = SigningKey.load(keys / "issuer.pem"), SigningKey.load(keys / "recorder.pem")
    trust = TrustStore.load(directory / "trust.json")
    ledger = Ledger.open(directory, signer=recorder, origin=trust.origin or "", clock=SystemClock(), ids=RandomIds())
    enforcer = Enforcer(
        issuer=issuer,
        recorder=recorder,
        trust=trust,
        ledger=ledger,
        digests=DigestKeys(directory / "keys" / "digests.jsonl"),
        state=state,
        pseudonyms=pseudonyms_of(directory, wanted=False),
    )
    enforcer.approvals.use(ApprovalBox(directory / "approvals"))
    return enforcer
