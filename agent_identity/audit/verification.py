"""The two entries: ``check`` reports, ``verify`` raises; one computation, two presentations."""

import os
from collections.abc import Collection, Sequence
from typing import cast

from agent_identity.audit.bundle import is_bundle, unpacked
from agent_identity.audit.comparison import Comparison
from agent_identity.audit.findings import Findings
from agent_identity.audit.ledger_check import LEDGER_STEPS, LedgerCheck, Progress
from agent_identity.audit.report import Report
from agent_identity.audit.sources import (
    Counted,
    PathLike,
    Source,
    Trust,
    directory_of,
    opened,
    size_of_files,
    size_of_ledger,
    to_trust,
)
from agent_identity.audit.spans_check import SPAN_STEPS, SpansCheck
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.evidence.layout import Layout
from agent_identity.evidence.otlp import ByteLines
from agent_identity.evidence.streams import open_ledger
from agent_identity.identity import TrustStore, read_public_file

__all__ = ["check", "verify"]

_MAX_NOTE = 65_537


def check(
    source: Source,
    trust: Trust = None,
    *,
    ledger: PathLike | None = None,
    checkpoint: bytes | PathLike | None = None,
    archive: PathLike | None = None,
    redacted: Collection[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Verify evidence offline and report what was found.

    Args:
        source: An evidence directory, or a bundle of one (``.zip``, ``.tar.gz``); or one or several OTLP/JSON
            files, ``"-"`` for standard input, or a file open in binary mode.
        trust: The trusted public keys, or the path of a trust file. Without it, a ledger is verified under
            the ``trust.json`` beside it, which proves nothing to whom does not trust the directory: the
            report says ``self-asserted``.
        ledger: For spans: the evidence directory that they are a copy of. Only with it the report can say
            whether spans are missing.
        checkpoint: For a ledger: a checkpoint of it that was kept elsewhere, as note or path. Only with it a
            ledger that was put back to an earlier state as a whole is found out.
        archive: For a ledger: an archive of it, for the records that were pruned.
        redacted: For spans: attributes of ours that a collector is known to rewrite.
        progress: Is told now and then how many of how many bytes are read.

    Raises:
        ConfigurationError: The trust file, the checkpoint or the source cannot be read.
    """
    keys = to_trust(trust)
    if is_bundle(source):
        with unpacked(cast("PathLike", source)) as evidence:
            return _check_ledger(evidence, keys, _note(checkpoint), progress, archive)
    directory = directory_of(source)
    if directory is not None:
        return _check_ledger(directory, keys, _note(checkpoint), progress, archive)
    sources = cast("Sequence[PathLike | ByteLines]", source if isinstance(source, list | tuple) else [source])
    return _check_spans(sources, keys, ledger, redacted, progress)


def verify(
    source: Source,
    trust: Trust = None,
    *,
    ledger: PathLike | None = None,
    checkpoint: bytes | PathLike | None = None,
    archive: PathLike | None = None,
    redacted: Collection[str] = (),
    progress: Progress | None = None,
) -> Report:
    """Verify evidence offline; return the report only if everything that was checked holds.

    The arguments are those of :func:`check`. Completeness of spans without a ledger is not checked, which
    is no failure, and the report says so.

    Raises:
        VerificationError: The evidence is contradicted, incomplete, or cannot be judged; ``code`` says
            which, and ``report`` has everything.
        ConfigurationError: The trust file, the checkpoint or the source cannot be read.
    """
    report = check(
        source, trust, ledger=ledger, checkpoint=checkpoint, archive=archive, redacted=redacted, progress=progress
    )
    if report.exit_code:
        first = report.findings[0]
        raise VerificationError(f"{report.verdict}: {first.message}", code=report.verdict, report=report)
    return report


def _note(checkpoint: bytes | PathLike | None) -> bytes | None:
    if checkpoint is None or isinstance(checkpoint, bytes):
        return checkpoint
    return read_public_file(checkpoint, limit=_MAX_NOTE)


def _check_ledger(
    directory: str,
    keys: TrustStore | None,
    earlier: bytes | None,
    progress: Progress | None,
    archive: PathLike | None,
) -> Report:
    findings = Findings("ledger", LEDGER_STEPS)
    findings.trust = "given"
    if keys is None:
        keys = _own_trust(directory, findings)
    reader = open_ledger(directory, archive=archive)
    total = size_of_ledger(reader) if progress else 0
    LedgerCheck(reader, keys, findings).run(earlier=earlier, total=total, progress=progress)
    return findings.report()


def _own_trust(directory: str, findings: Findings) -> TrustStore | None:
    """Return what the directory says about itself."""
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


def _check_spans(
    sources: Sequence[PathLike | ByteLines],
    keys: TrustStore | None,
    ledger: PathLike | None,
    redacted: Collection[str],
    progress: Progress | None,
) -> Report:
    findings = Findings("traces", SPAN_STEPS)
    findings.trust = "none" if keys is None else "given"
    spans = SpansCheck(keys, findings, redacted=redacted)
    total = size_of_files(sources) if progress else 0
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size

    def tick() -> None:
        if progress is not None:
            progress(done, total)

    for source in sources:
        with opened(source) as file:
            try:
                spans.read(Counted(file, count), tick)
            except OSError:
                findings.add(1, "unreadable", "expected a file of spans, got one that cannot be read to its end")
        tick()
    if ledger is not None and keys is not None:
        Comparison(findings, spans, keys).run(ledger)
    spans.finish()
    return findings.report()
