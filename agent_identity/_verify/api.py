"""Entry points of verification: ``Verifier`` reports, ``verify`` raises."""

import io
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, cast, final

from agent_identity._common.typed_calls import typed, typed_calls
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.trust.entries import Witnesses
from agent_identity._identity.trust.store import TrustStore
from agent_identity._storage.byte_reader import ByteLines
from agent_identity._verify.fleet.hosts_check import Host, after, check_hosts, size_of_place
from agent_identity._verify.fleet.merging import fleet_report, named, unreadable
from agent_identity._verify.fleet.places import Place, find_places
from agent_identity._verify.inputs.sources import (
    STANDARD_INPUT,
    PathLike,
    Source,
    Trust,
    directory_of,
    is_bundle,
    kept_note,
    opened,
    size_of_files,
    to_trust,
)
from agent_identity._verify.ledger.certificates_check import with_certificates
from agent_identity._verify.ledger.directory_check import WORTH, check_directory, check_visited
from agent_identity._verify.ledger.external_evidence import ExternalEvidence, Timestamps
from agent_identity._verify.ledger.ledger_check import Progress
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.report import Report
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity._verify.store.workers import Executor, executor, in_process
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._verify.proofs.disclosure_check import Shown
    from agent_identity._verify.proofs.proof_check import Checked
    from agent_identity._verify.spans.spans_check import SpansCheck, SpanVisit

_LEDGER_OPTIONS: Final = ("witnesses", "require", "timestamps")
_LOG: Final = 2
_OF_JSON: Final = '{["'
_NEAR = 100_000  # Leaf hashes in memory.
_WORTH_OF_SPANS = 4 * 1024 * 1024  # The same of spans, each with its signature.


@typed_calls("__init__", "ledger", "fleet", "traces", "pasted", "proof", "disclosure")
@final
@dataclass(frozen=True, slots=True)
class Verifier:
    """Verifies evidence offline, with public keys and files alone.

    What belongs to the verifier is given once; what belongs to one piece of evidence, to the method. An option that a
    method cannot honor is an error.

    Args:
        trust: Trusted public keys, or the path of a trust file. Without it, a ledger is verified under the
            ``trust.json`` beside it, which proves nothing to anyone who does not trust the directory: the report says
            ``self-asserted``.
        processes: Number of worker processes, with the same result; 0 chooses automatically. A program that asks for
            several has to be importable (``if __name__ == "__main__":``). Or an executor, such as
            :func:`agent_identity.integrations.spark.on_spark`; one process then reads spans beside a ledger.
        witnesses: For ledgers: verifier keys (C2SP signed-note) of the witnesses that must have cosigned the log; by
            default those of the trust file.
        require: For ledgers: how many of the witnesses suffice; by default the number in the trust file, or all.
        timestamps: For ledgers: verifies the time-stamps beside one, such as
            :class:`agent_identity.integrations.rfc3161.Authority`.
        progress: Called now and then with the bytes that are read and their total.

    Raises:
        TypeError: An argument has another type.
    """

    trust: Trust = None
    _: KW_ONLY
    processes: int | Executor = 1
    witnesses: Sequence[str] = ()
    require: int | None = None
    timestamps: Timestamps | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "witnesses", tuple(self.witnesses))

    def ledger(
        self,
        path: PathLike,
        *,
        checkpoint: bytes | PathLike | None = None,
        archive: PathLike | None = None,
        period: tuple[int, int] | None = None,
        disclosures: Sequence[bytes | PathLike] = (),
    ) -> Report:
        """Verify an evidence directory, or a bundle of one.

        Args:
            path: The directory, or a bundle (``.zip``).
            checkpoint: A checkpoint of the ledger that was kept elsewhere, as note or path. Only with it does a ledger
                show that was put back to an earlier state as a whole.
            archive: An archive of the ledger, for the records that were pruned.
            period: First nanosecond of a period since the Unix epoch, and the first one after it. The report then says
                how much was recorded in it, or whether it is shown that nothing was.
            disclosures: Files that show arguments of calls, as ``agent-identity disclose make`` writes them, as bytes
                or paths; the arguments are compared with the records and the grants.

        Raises:
            ConfigurationError: A file cannot be read, or not with what is installed; the path is no directory and no
                bundle; a witness is malformed; or the period has no length.
        """
        _check_period(period)
        keys = to_trust(self.trust)
        check_ledger = partial(
            check_directory,
            keys=keys,
            outside=ExternalEvidence(
                None if checkpoint is None else kept_note(checkpoint),
                _witnesses(self.witnesses, self.require, keys),
                self.timestamps,
            ),
            progress=self.progress,
            period=period,
            archive=archive,
            disclosures=disclosures,
            processes=self.processes,
        )
        if is_bundle(path):
            from agent_identity._verify.proofs.bundle import unpacked  # Few sources are one.

            with unpacked(path) as evidence:
                return check_ledger(evidence)
        directory = directory_of(path)
        if directory is None:
            found = f"no evidence directory and no bundle is at {os.fspath(path)!r}"
            raise ConfigurationError(f"{found}; use Verifier.traces for files of spans")
        return check_ledger(directory)

    def fleet(self, *paths: PathLike, period: tuple[int, int] | None = None, issued: Sequence[PathLike] = ()) -> Report:
        """Verify the evidence of several hosts in one verdict.

        The report has that of each host in ``hosts``. A host that cannot be read hides no other; the verdict on it is
        *cannot tell*. What a host misses and another one has, such as a grant or the task in which a task was opened,
        is taken from there. Two hosts that sign for one log contradict each other; of several copies of one host, the
        newest counts. The order of the hosts changes nothing.

        Args:
            paths: Evidence directories, folders with such directories and files of spans below them, bundles, or files
                of spans, which are verified by themselves.
            period: See :meth:`ledger`; each host has its own answer.
            issued: Logs of certifiers. They are verified like hosts, and name the hosts that they certified and of
                which there is no evidence.

        Raises:
            ConfigurationError: No path can be read, or the trust file cannot; the period has no length; or there is no
                trust file for ``issued``.
        """
        _check_period(period)
        keys = to_trust(self.trust)
        outside = ExternalEvidence(None, _witnesses(self.witnesses, self.require, keys), self.timestamps)
        places = find_places([*paths, *issued])
        missing = _missing(issued, places, keys)
        ledgers = (place for place in places if place.kind != "traces")
        hosts = [Host(place, keys, outside, period, missing.get(place.name, ())) for place in ledgers]
        traces = [place for place in places if place.kind == "traces"]
        beside = sum(map(size_of_place, traces))
        total = sum(size_of_place(host.place) for host in hosts) + beside
        reports = [check_hosts(hosts, processes=self.processes, progress=after(self.progress, 0, total))]
        for place in traces:
            progress = after(self.progress, total - beside, total)
            reports.append((_check_traces(place, keys, processes=self.processes, progress=progress),))
        return fleet_report(reports)

    def traces(
        self,
        *paths: PathLike | ByteLines,
        ledger: PathLike | Sequence[PathLike] | None = None,
        redacted: Collection[str] = (),
        disclosures: Sequence[bytes | PathLike] = (),
    ) -> Report:
        """Verify the records on spans, in files of OTLP.

        Args:
            paths: Files in JSON or Protocol Buffers, ``"-"`` for standard input, or files open in binary mode.
            ledger: The evidence directory that the spans are a copy of, or several of them, or a folder with several
                below it. Only with all of them can the report say whether spans are missing. They are verified first,
                and prove records without a look at the signatures on their spans; the report counts these as
                ``proved_by_ledger``.
            redacted: Attributes of ours that a collector is known to rewrite.
            disclosures: See :meth:`ledger`.

        Raises:
            ConfigurationError: A file cannot be read, a path is an evidence directory, or an option is for ledgers.
        """
        return self._spans(paths, ledger, redacted, disclosures, pasted=False)

    def pasted(
        self,
        *shown: str | bytes | os.PathLike[str] | ByteLines,
        ledger: PathLike | Sequence[PathLike] | None = None,
        redacted: Collection[str] = (),
        disclosures: Sequence[bytes | PathLike] = (),
    ) -> Report:
        """Verify spans that were copied out of an interface, an API or a database, as JSON of any shape.

        Whether a record belongs to its span is judged by the ids that are shown. With a ledger, the report says which
        spans are missing.

        Args:
            shown: The JSON itself as text or bytes, ``"-"`` for standard input, a :class:`~pathlib.Path` of a file, or
                a file open in binary mode; at most 16 MiB each.
            ledger: See :meth:`traces`.
            redacted: See :meth:`traces`.
            disclosures: See :meth:`ledger`.

        Raises:
            ConfigurationError: A file cannot be read, a text is no JSON but may be a path, or an option is for ledgers.
        """
        return self._spans(tuple(map(_file_of, shown)), ledger, redacted, disclosures, pasted=True)

    def proof(
        self, proof: bytes | PathLike, *, record: str | None = None, checkpoint: bytes | PathLike | None = None
    ) -> "Checked":
        """Check a proof file.

        A proof of a record shows that the record stands at its place of its stream in this log. Only :meth:`ledger` can
        say that the rest of the ledger holds together, and that the grants of the record verify.

        Args:
            proof: The file, as bytes or path.
            record: For the proof of a record: the id that it must have.
            checkpoint: For the proof of growth: the earlier checkpoint that was kept elsewhere, as note or path.

        Raises:
            ConfigurationError: A file cannot be read, an argument does not fit the kind of proof, or an option of the
                verifier does not apply to proofs.
        """
        from agent_identity._verify.proofs.proof_check import check_proof  # Few look at proofs.

        self._refuse("a proof", *_LEDGER_OPTIONS, "processes", "progress")
        return check_proof(proof, self.trust, record=record, checkpoint=checkpoint)

    def disclosure(
        self,
        disclosure: bytes | PathLike,
        *,
        ledger: PathLike | None = None,
        proof: bytes | PathLike | None = None,
        spans: PathLike | None = None,
    ) -> "Shown":
        """Check that the arguments in a disclosure are those of a call, or some of them.

        Exactly one of the three says where the record is. Only :meth:`ledger` with ``disclosures`` can say that the
        rest of the evidence holds, and that the arguments are within the grant.

        Args:
            disclosure: The file, as bytes or path.
            ledger: An evidence directory.
            proof: A proof of the record, as ``agent-identity proof make`` writes it.
            spans: A file of traces, or ``"-"`` for standard input.

        Raises:
            ConfigurationError: A file cannot be read, not exactly one of the three is given, or an option of the
                verifier does not apply to disclosures.
        """
        from agent_identity._verify.proofs.disclosure_check import check_disclosure  # Few look at disclosures.

        self._refuse("a disclosure", *_LEDGER_OPTIONS, "processes", "progress")
        return check_disclosure(disclosure, self.trust, ledger=ledger, proof=proof, spans=spans)

    def _spans(
        self,
        sources: Sequence[PathLike | ByteLines],
        ledger: PathLike | Sequence[PathLike] | None,
        redacted: Collection[str],
        disclosures: Sequence[bytes | PathLike],
        *,
        pasted: bool,
    ) -> Report:
        self._refuse("spans", *_LEDGER_OPTIONS)
        if not sources:
            raise ConfigurationError("nothing to verify; give one or several files of spans")
        for source in sources:
            if not isinstance(source, str | os.PathLike) and not hasattr(source, "readline"):
                raise TypeError(f"{type(source).__name__} is no file of spans; give a path, or a file in binary mode")
        if any(directory_of(source) is not None for source in sources):
            raise ConfigurationError("an evidence directory is no file of spans; use Verifier.ledger, or ledger=")
        if ledger is not None and self.trust is None:
            raise ConfigurationError("ledger= needs trusted keys; give Verifier(trust) a copy kept elsewhere")
        return _check_spans(
            sources,
            to_trust(self.trust),
            ledgers=[ledger] if isinstance(ledger, str | os.PathLike) else ledger or (),
            redacted=redacted,
            progress=self.progress,
            disclosures=disclosures,
            processes=self.processes,
            pasted=pasted,
        )

    def _refuse(self, what: str, *names: str) -> None:
        """Refuse options that say nothing about a kind of evidence.

        Raises:
            ConfigurationError: One is given.
        """
        bare = Verifier()
        for name in names:
            if getattr(self, name) != getattr(bare, name):
                raise ConfigurationError(f"{name}= does not apply to {what}; use a Verifier without it")


@typed
def verify(source: Source, trust: Trust = None) -> Report:
    """Verify evidence offline; return the report only if everything that was checked holds.

    Completeness of spans without a ledger is not checked, which is no failure, and the report says so.
    :class:`Verifier` has all options.

    Args:
        source: An evidence directory, or a bundle of one (``.zip``), or several of them; or one or several files of
            OTLP, in JSON or Protocol Buffers, ``"-"`` for standard input, or a file open in binary mode.
        trust: See :class:`Verifier`.

    Raises:
        VerificationError: The evidence is contradicted, incomplete, or cannot be judged; ``code`` is the verdict, and
            ``report`` has everything.
        ConfigurationError: The trust file or the source cannot be read.
    """
    verifier = Verifier(trust)
    if is_bundle(source) or directory_of(source) is not None:
        return verifier.ledger(cast("PathLike", source)).raise_for_status()
    several = isinstance(source, list | tuple)
    sources = cast("Sequence[PathLike | ByteLines]", source if several else [source])
    if any(is_bundle(one) or directory_of(one) is not None for one in sources):
        return verifier.fleet(*cast("Sequence[PathLike]", sources)).raise_for_status()
    return verifier.traces(*sources).raise_for_status()


def _file_of(shown: str | bytes | os.PathLike[str] | ByteLines) -> PathLike | ByteLines:
    """Return a file with what is shown.

    Raises:
        ConfigurationError: A text holds no JSON.
    """
    if isinstance(shown, str) and shown != STANDARD_INPUT:
        if not any(mark in shown for mark in _OF_JSON):
            raise ConfigurationError("no JSON in the pasted text; give the text itself, or a Path of a file with it")
        shown = shown.encode("utf-8", "surrogatepass")
    return io.BytesIO(shown) if isinstance(shown, bytes) else shown


def check_shown(directory: PathLike) -> tuple[Report, Callable[[bytes], bool]]:
    """Verify an evidence directory under its own trust file; return a predicate over the leaf hashes it saw.

    These are records that the log commits to, and as good as the report says.

    Args:
        directory: The evidence directory.
    """
    seen: SpillStore[bytes] = SpillStore(bytes, bytes, near=_NEAR)
    report = check_visited(directory, None, visit=lambda _, leaf, _detail: seen.put(leaf, b""))
    return report, seen.__contains__


def _missing(
    issued: Sequence[PathLike], places: Sequence[Place], keys: TrustStore | None
) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return what the logs of certifiers say about hosts that are missing."""
    if not issued:
        return {}
    from agent_identity._verify.fleet.issued import missing_hosts  # Few fleets have a certifier.

    return missing_hosts(find_places(issued), places, keys)


def _check_period(period: tuple[int, int] | None) -> None:
    if period is not None and period[0] >= period[1]:
        raise ConfigurationError("the period ends before it begins; exchange the two times")


def _check_traces(
    place: Place, keys: TrustStore | None, *, processes: int | Executor, progress: Progress | None
) -> Report:
    """Verify the files of spans of a fleet as one host."""
    try:
        return named(_check_spans(place.paths, keys, processes=processes, progress=progress), place)
    except (ConfigurationError, OSError) as error:
        return unreadable(place, str(error))


def check_visited_spans(
    sources: Sequence[PathLike],
    trust: TrustStore | None,
    *,
    visit: "SpanVisit",
    progress: Progress | None = None,
) -> Report:
    """Verify files of spans, and show in the same pass each span, with its record if that is verified.

    Args:
        sources: The files.
        trust: The trusted keys; without any, no record is shown.
        visit: Is shown the spans.
        progress: Is told now and then how many of how many bytes are read.
    """
    return _check_spans(sources, trust, progress=progress, visit=visit)


def _witnesses(given: Sequence[str], require: int | None, trust: TrustStore | None) -> Witnesses | None:
    """Return the witnesses that must vouch for the log; ``None`` leaves them to the trust file.

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


def _check_spans(
    sources: Sequence[PathLike | ByteLines],
    keys: TrustStore | None,
    *,
    ledgers: Sequence[PathLike] = (),
    redacted: Collection[str] = (),
    progress: Progress | None,
    disclosures: Sequence[bytes | PathLike] = (),
    processes: int | Executor = 1,
    pasted: bool = False,
    visit: "SpanVisit | None" = None,
) -> Report:
    # A ledger is verified without these.
    from agent_identity._verify._reconcile import Comparison
    from agent_identity._verify.ledger.index import ledger_index
    from agent_identity._verify.spans.spans_check import SPAN_STEPS, SpansCheck

    findings = Findings("traces", SPAN_STEPS)
    findings.trust = "none" if keys is None else "given"
    total = size_of_files(sources)
    comparison = Comparison(ledgers, keys, findings) if ledgers and keys is not None else None
    if comparison is not None:
        keys = with_certificates(keys, comparison.certificates(), findings)
    beside = 0 if comparison is None else comparison.size
    # One process takes pasted spans apart, and where there are no keys there is nothing to do.
    number = 1 if keys is None or (pasted and comparison is None) else processes
    most = 1 + beside // WORTH + total // _WORTH_OF_SPANS if total else None
    whole = total + beside if total else 0

    tell = _teller(progress, whole)
    with executor(number, most=most) as chosen:
        # What the ledger proves is in a file of this machine.
        near = chosen if comparison is None or isinstance(number, int) else in_process
        spans = SpansCheck(keys, findings, redacted=redacted, disclosures=disclosures, executor=near, visit=visit)
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
    """Return a callback that reports progress against a total of bytes."""

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
