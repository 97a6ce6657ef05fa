"""The two entries: ``check`` reports, ``verify`` raises; one computation, two presentations."""

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from agent_identity._audit.inputs import (
    PathLike,
    Source,
    Trust,
    directory_of,
    is_bundle,
    opened,
    size_of_files,
    size_of_ledger,
    to_trust,
)
from agent_identity._audit.ledger import (
    LEDGER_STEPS,
    ExternalEvidence,
    LedgerCheck,
    Progress,
    Timestamps,
    Visit,
    with_certificates,
)
from agent_identity._audit.report import Findings, Report
from agent_identity._audit.store import Executor, SpillStore, executor, in_process
from agent_identity._common.typed_calls import typed
from agent_identity._evidence.ledger import open_ledger
from agent_identity._evidence.storage import ByteLines, Layout
from agent_identity._identity.common import read_public_file
from agent_identity._identity.keys import Cosigner
from agent_identity._identity.trust import TrustStore, Witnesses
from agent_identity.errors import ConfigurationError, VerificationError

if TYPE_CHECKING:
    from agent_identity._audit.spans import SpansCheck

__all__ = ["check", "check_shown", "verify"]

_MAX_NOTE = 65_537
_NEAR = 100_000  # Leaf hashes in memory.
_WORTH = 16 * 1024 * 1024  # Bytes of records for which a process is worth while.
_WORTH_OF_SPANS = 4 * 1024 * 1024  # The same of spans, each with its signature.


@typed
def check(  # budget: one line for each thing that a verifier may have
    source: Source,
    trust: Trust = None,
    *,
    ledger: PathLike | None = None,
    checkpoint: bytes | PathLike | None = None,
    witnesses: Sequence[str] = (),
    require: int | None = None,
    timestamps: Timestamps | None = None,
    archive: PathLike | None = None,
    redacted: Collection[str] = (),
    pasted: bool = False,
    progress: Progress | None = None,
    period: tuple[int, int] | None = None,
    disclosures: Sequence[bytes | PathLike] = (),
    processes: int | Executor = 1,
    drafts: bool = False,
) -> Report:
    """Verify evidence offline and report what was found.

    Args:
        source: An evidence directory, or a bundle of one (``.zip``); or one or several files of OTLP, in
            JSON or Protocol Buffers, ``"-"`` for standard input, or a file open in binary mode.
        trust: The trusted public keys, or the path of a trust file. Without it, a ledger is verified under
            the ``trust.json`` beside it, which proves nothing to whom does not trust the directory: the
            report says ``self-asserted``.
        ledger: For spans: the evidence directory that they are a copy of. Only with it the report can say
            whether spans are missing. It is verified first, and proves records without a look at the signatures on
            their spans; the report counts these as ``proved_by_ledger``.
        checkpoint: For a ledger: a checkpoint of it that was kept elsewhere, as note or path. Only with it a
            ledger that was put back to an earlier state as a whole is found out.
        archive: For a ledger: an archive of it, for the records that were pruned.
        witnesses: For a ledger: the verifier keys (C2SP signed-note) of parties that must have cosigned its log; by
            default those that the trust file names.
        require: So many of the witnesses are enough; by default what the trust file says, or all of them.
        timestamps: For a ledger: verifies the time-stamps beside it, such as
            :class:`agent_identity.integrations.rfc3161.Authority`.
        redacted: For spans: attributes of ours that a collector is known to rewrite.
        pasted: The sources are JSON of any shape that shows spans, at most 16 MiB each: copied out of an
            interface, an API or a database. Whether a record belongs to the span is judged by the ids that are shown.
            With a ledger, the report says which spans are missing among them.
        progress: Is told now and then how many of how many bytes are read.
        period: For a ledger: the first nanosecond of a period, since the Unix epoch, and the first one after it. The
            report then says how much was recorded in it, or whether it is shown that nothing was.
        disclosures: Files that show arguments of calls, as ``agent-identity disclose make`` writes them, as bytes or
            paths; these arguments are then compared with the records and the grants.
        processes: Have so many processes read, 0 for as many as it is worth, up to the number of processors; what is
            found is the same. A program that asks for several has to be importable
            (``if __name__ == "__main__":``). Also what has the work done elsewhere, such as
            :func:`agent_identity.integrations.spark.on_spark`; spans beside a ledger are then read by one process.
        drafts: Accept records of version 2, which is a draft: its shapes may still change. Otherwise nothing can be
            told of evidence with such a record.

    Raises:
        ConfigurationError: The trust file, the checkpoint or the source cannot be read, or not with what is
            installed, a witness is none, or the period has no length.
    """
    if period is not None and period[0] >= period[1]:
        raise ConfigurationError("expected a period that ends after it begins, got another; exchange the two times")
    keys = to_trust(trust)
    outside = ExternalEvidence(_note(checkpoint), _witnesses(witnesses, require, keys), timestamps)
    check_ledger = partial(
        _check_ledger,
        keys=keys,
        outside=outside,
        progress=progress,
        period=period,
        archive=archive,
        disclosures=disclosures,
        processes=processes,
        drafts=drafts,
    )
    if is_bundle(source):
        from agent_identity._audit.proofs import unpacked  # noqa: PLC0415  Few sources are one.

        with unpacked(source) as evidence:
            return check_ledger(evidence)
    directory = directory_of(source)
    if pasted and directory is not None:
        raise ConfigurationError("expected files of pasted spans, got an evidence directory; give it as the ledger")
    if directory is not None:
        return check_ledger(directory)
    if period is not None:
        raise ConfigurationError("expected a period with an evidence directory, got traces; leave it out")
    sources = cast("Sequence[PathLike | ByteLines]", source if isinstance(source, list | tuple) else [source])
    return _check_spans(
        sources,
        keys,
        ledger,
        redacted,
        progress,
        disclosures=disclosures,
        processes=processes,
        pasted=pasted,
        drafts=drafts,
    )


def verify(
    source: Source,
    trust: Trust = None,
    *,
    ledger: PathLike | None = None,
    checkpoint: bytes | PathLike | None = None,
    witnesses: Sequence[str] = (),
    require: int | None = None,
    timestamps: Timestamps | None = None,
    archive: PathLike | None = None,
    redacted: Collection[str] = (),
    pasted: bool = False,
    progress: Progress | None = None,
    period: tuple[int, int] | None = None,
    disclosures: Sequence[bytes | PathLike] = (),
    processes: int | Executor = 1,
    drafts: bool = False,
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
        source,
        trust,
        ledger=ledger,
        checkpoint=checkpoint,
        archive=archive,
        witnesses=witnesses,
        require=require,
        timestamps=timestamps,
        redacted=redacted,
        pasted=pasted,
        progress=progress,
        period=period,
        disclosures=disclosures,
        processes=processes,
        drafts=drafts,
    )
    if report.exit_code:
        first = report.findings[0]
        raise VerificationError(f"{report.verdict}: {first.message}", code=report.verdict, report=report)
    return report


def check_shown(directory: PathLike) -> tuple[Report, Callable[[bytes], bool]]:
    """Verify an evidence directory under its own trust file; tell by leaf hashes which records it saw.

    These are records that the log commits to, in either version, and as good as the report says.

    Args:
        directory: The evidence directory.
    """
    seen: SpillStore[bytes] = SpillStore(bytes, bytes, near=_NEAR)
    report = _check_ledger(
        directory_of(directory) or os.fspath(directory),
        keys=None,
        outside=ExternalEvidence(),
        progress=None,
        period=None,
        archive=None,
        disclosures=(),
        processes=1,
        drafts=True,
        visit=lambda _, leaf: seen.put(leaf, b""),
    )
    return report, seen.__contains__


def _note(checkpoint: bytes | PathLike | None) -> bytes | None:
    if checkpoint is None or isinstance(checkpoint, bytes):
        return checkpoint
    return read_public_file(checkpoint, limit=_MAX_NOTE)


def _witnesses(given: Sequence[str], require: int | None, trust: TrustStore | None) -> Witnesses | None:
    """Return who must vouch for the log; ``None`` for what the trust file says.

    Raises:
        ConfigurationError: A text is no verifier key, or more are required than there are.
    """
    if not given and require is None:
        return None
    try:
        keys = tuple(map(Cosigner.from_vkey, given)) or (Witnesses(()) if trust is None else trust.witnesses).keys
        return Witnesses(keys, require)
    except ValueError as error:
        raise ConfigurationError(f"bad witnesses: {error}") from None


def _check_ledger(
    directory: str,
    *,
    keys: TrustStore | None,
    outside: ExternalEvidence,
    progress: Progress | None,
    period: tuple[int, int] | None,
    archive: PathLike | None,
    disclosures: Sequence[bytes | PathLike],
    processes: int | Executor,
    drafts: bool,
    visit: Visit | None = None,
) -> Report:
    findings = Findings("ledger", LEDGER_STEPS, drafts=drafts)
    findings.trust = "given"
    if keys is None:
        keys = _own_trust(directory, findings)
    reader = open_ledger(directory, archive=archive)
    size = size_of_ledger(reader)
    # Small ledgers are read before other processes have started.
    with executor(processes, most=1 + size // _WORTH) as chosen:
        check_ = LedgerCheck(reader, keys, findings, disclosures, executor=chosen)
        check_.run(outside=outside, total=size, progress=progress, period=period, visit=visit)
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
    *,
    disclosures: Sequence[bytes | PathLike],
    processes: int | Executor,
    pasted: bool,
    drafts: bool,
) -> Report:
    # A ledger is verified without these.
    from agent_identity._audit.ledger import ledger_index  # noqa: PLC0415
    from agent_identity._audit.spans import SPAN_STEPS, SpansCheck  # noqa: PLC0415
    from agent_identity._audit.verify.reconcile import Comparison  # noqa: PLC0415

    findings = Findings("traces", SPAN_STEPS, drafts=drafts)
    findings.trust = "none" if keys is None else "given"
    total = size_of_files(sources)
    comparison = None if ledger is None or keys is None else Comparison(ledger, keys, findings)
    if comparison is not None:
        keys = with_certificates(keys, comparison.certificates(), findings)
    beside = 0 if comparison is None else comparison.size
    # One process takes pasted spans apart, and where there are no keys there is nothing to do.
    number = 1 if keys is None or (pasted and comparison is None) else processes
    most = 1 + beside // _WORTH + total // _WORTH_OF_SPANS if total else None
    whole = total + beside if total else 0

    tell = _teller(progress, whole)
    with executor(number, most=most) as chosen:
        # What the ledger proves is in a file of this machine.
        near = chosen if comparison is None or isinstance(number, int) else in_process
        spans = SpansCheck(keys, findings, redacted=redacted, disclosures=disclosures, executor=near)
        if comparison is None:
            _read(spans, sources, tell, pasted=pasted)
        else:
            with ledger_index() as index:
                with comparison.read(index, chosen, tell) as proofs:
                    spans.proofs = proofs
                    _read(spans, sources, lambda done: tell(beside + done), pasted=pasted)
                comparison.conclude(index, spans)
        spans.finish()
    return findings.report()


def _teller(progress: Progress | None, whole: int) -> Callable[[int], None]:
    """Return what tells how far the verification of so many bytes has come."""

    def tell(done: int) -> None:
        if progress is not None:
            progress(done, whole)

    return tell


def _read(
    spans: "SpansCheck", sources: Sequence[PathLike | ByteLines], tell: Callable[[int], object], *, pasted: bool
) -> None:
    if not pasted:
        spans.read(sources, tell)
        return
    for source in sources:
        with opened(source) as file:
            spans.read_pasted(file)
    tell(size_of_files(sources))
