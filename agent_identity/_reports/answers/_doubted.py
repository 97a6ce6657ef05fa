"""Finds the records of a ledger that are in doubt if somebody else had a recorder key from some moment on."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final, TypeAlias

from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._storage.layout import Layout
from agent_identity._verify.inputs.sources import PathLike, directory_of, is_bundle, size_of_ledger
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, LedgerCheck, Progress
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.store.workers import executor
from agent_identity.errors import ConfigurationError

Doubted: TypeAlias = Callable[[str, int], bool]
"""Returns whether the record of a stream at a place, from 1, is in doubt."""

_WORTH: Final = 16 * 1024 * 1024  # Bytes of records for which a process is worth while.


def find_doubted(
    path: PathLike,
    trust: TrustStore | None,
    thumbprint: str | None,
    since: int,
    *,
    checkpoint: bytes | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> Doubted | None:
    """Verify a ledger as if a recorder key were revoked since a moment, and return which records that leaves in doubt.

    The order of the log decides, and states of it that others saw: a checkpoint that was kept elsewhere, cosignatures
    of witnesses, and the states that the trust file names for keys that took over. Dates in records do not count. See
    decision 0003.

    Args:
        path: The evidence directory, or a bundle of one.
        trust: The trusted keys; ``None`` for those beside the ledger.
        thumbprint: The recorder key; ``None`` for all of them.
        since: The moment, in seconds since the Unix epoch.
        checkpoint: A checkpoint of the log that was kept elsewhere.
        processes: Number of worker processes; 0 chooses.
        progress: Is told now and then how many of how many bytes are read.

    Returns:
        ``None`` if the trusted keys do not list the key as that of a recorder.

    Raises:
        ConfigurationError: The ledger cannot be read.
    """
    if is_bundle(path):
        from agent_identity._verify.proofs.bundle import unpacked

        with unpacked(path) as directory:
            return _find(directory, trust, thumbprint, since, (checkpoint, processes, progress))
    found = directory_of(path)
    if found is None:
        return None
    return _find(found, trust, thumbprint, since, (checkpoint, processes, progress))


def _find(
    directory: str,
    trust: TrustStore | None,
    thumbprint: str | None,
    since: int,
    options: tuple[bytes | None, int, Progress | None],
) -> Doubted | None:
    checkpoint, processes, progress = options
    keys = _revoked(_own_trust(directory) if trust is None else trust, thumbprint, since)
    if keys is None:
        return None
    reader = open_ledger(directory)
    size = size_of_ledger(reader)
    with executor(processes, most=1 + size // _WORTH) as chosen:
        check = LedgerCheck(reader, keys, Findings("ledger", LEDGER_STEPS), executor=chosen)
        # The records are followed for their doubts alone.
        check.run(outside=ExternalEvidence(checkpoint), total=size, progress=progress)
    log = check.log
    if log is None:
        return lambda _stream, _seq: True
    doubts = log.doubts
    if doubts is None:
        return lambda _stream, _seq: False
    return lambda stream, seq: not doubts.proved(Place(stream=stream, seq=seq))


def _own_trust(directory: str) -> TrustStore | None:
    with suppress(ConfigurationError, OSError):
        return TrustStore.load(f"{Layout.of(directory).root}/trust.json")
    return None


def _revoked(trust: TrustStore | None, thumbprint: str | None, since: int) -> TrustStore | None:
    """Return the trusted keys with some of them revoked since then, or since earlier if they are already."""
    keys = () if trust is None else trust.keys
    stolen = [key for key in keys if key.purpose == "recorder" and thumbprint in (None, key.key.thumbprint)]
    if trust is None or not stolen:
        return None
    return trust.with_keys(tuple(_since(key, since) if key in stolen else key for key in keys))


def _since(key: TrustedKey, since: int) -> TrustedKey:
    return replace(key, revoked_since=since if key.revoked_since is None else min(since, key.revoked_since))
