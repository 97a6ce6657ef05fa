"""Verifies one evidence directory by its path: finds its keys and its reader, and hands its blocks to workers."""

import os
from collections.abc import Sequence
from typing import Final

from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._storage.layout import Layout
from agent_identity._verify.inputs.sources import PathLike, directory_of, size_of_ledger
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, LedgerCheck, Progress
from agent_identity._verify.ledger.stream_check import Visit
from agent_identity._verify.report.elsewhere import Elsewhere
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.report import Report
from agent_identity._verify.store.workers import Executor, executor
from agent_identity.errors import ConfigurationError

_LOG: Final = 2

WORTH: Final = 16 * 1024 * 1024
"""Bytes of records for which a process is worth while."""


def check_directory(
    directory: str,
    *,
    keys: TrustStore | None,
    outside: ExternalEvidence,
    progress: Progress | None,
    period: tuple[int, int] | None = None,
    archive: PathLike | None = None,
    disclosures: Sequence[bytes | PathLike] = (),
    processes: int | Executor,
    visit: Visit | None = None,
    known: Sequence[tuple[str, str]] = (),
    elsewhere: Elsewhere | None = None,
) -> Report:
    """Verify an evidence directory.

    Args:
        directory: Its path.
        keys: The trusted keys; without any, those beside the ledger, which are self-asserted.
        outside: Evidence and requirements of the verifier beside the trusted keys.
        progress: Is told now and then how many of how many bytes are read.
        period: A period to judge.
        archive: An archive of the ledger, for the records that were pruned.
        disclosures: Files that show arguments of calls.
        processes: Number of worker processes, 0 for as many as fit, or an executor.
        visit: Is shown each record that stands where it belongs and that the log commits to.
        known: Codes and messages of what other sources say about its log.
        elsewhere: Answers what it misses, and notes it.
    """
    findings = Findings("ledger", LEDGER_STEPS)
    findings.trust = "given"
    if elsewhere is not None:
        findings.elsewhere = elsewhere
    for code, message in known:
        findings.add(_LOG, code, message)
    if keys is None:
        keys = _own_trust(directory, findings)
    reader = open_ledger(directory, archive=archive)
    size = size_of_ledger(reader)
    # Small ledgers are read before other processes have started.
    with executor(processes, most=1 + size // WORTH) as chosen:
        check_ = LedgerCheck(reader, keys, findings, disclosures, executor=chosen)
        check_.run(outside=outside, total=size, progress=progress, period=period, visit=visit)
    return findings.report()


def check_visited(
    directory: PathLike,
    trust: TrustStore | None,
    *,
    visit: Visit,
    progress: Progress | None = None,
    processes: int | Executor = 1,
    known: Sequence[tuple[str, str]] = (),
    elsewhere: Elsewhere | None = None,
) -> Report:
    """Verify an evidence directory, and show in the same pass each record that stands where it belongs.

    Shown are records that the log commits to. Whether they are proved is known when the report is there, and not
    before.

    Args:
        directory: The evidence directory.
        trust: The trusted keys; without any, those beside the ledger.
        visit: Is shown the records.
        progress: Is told now and then how many of how many bytes are read.
        processes: As for :func:`check_directory`.
        known: Codes and messages of what other sources say about its log.
        elsewhere: Answers what it misses, and notes it.
    """
    return check_directory(
        directory_of(directory) or os.fspath(directory),
        keys=trust,
        outside=ExternalEvidence(),
        progress=progress,
        processes=processes,
        visit=visit,
        known=known,
        elsewhere=elsewhere,
    )


def _own_trust(directory: str, findings: Findings) -> TrustStore | None:
    """Return the trust file beside the ledger, which is self-asserted."""
    findings.trust = "none"
    path = f"{Layout.of(directory).root}/trust.json"
    if not os.path.lexists(path):
        return None
    try:
        keys = TrustStore.load(path)
    except ConfigurationError as error:
        findings.add(1, "bad_trust", str(error))
        return None
    findings.trust = "self-asserted"
    return keys
