"""One pass over evidence: verifies each source, compares logs, and hands the facts to those who answer.

Logs that are read together have to agree: the id of a log is its first entry, which names the random id of the first
stream, and copies of one log agree as far as the shorter one goes.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol, final

from agent_identity._common.typed_calls import typed, typed_calls
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._record.codec import decode
from agent_identity._record.details import detail_of
from agent_identity._record.parts import Stream
from agent_identity._record.schema import AnyRecord, Detail, Intent, Outcome
from agent_identity._reports.answers._dialects import hints_of
from agent_identity._reports.answers.decoding import Decoder, Period, SplitCalls
from agent_identity._reports.answers.facts import CallSpanFact, Fact
from agent_identity._reports.answers.hosts import Hosts
from agent_identity._reports.answers.report_frame import NO_KEYS, Frame, SourceFrame
from agent_identity._spans.envelope import Attestation
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.otlp_reader import read_spans
from agent_identity._verify.api import check_visited_spans
from agent_identity._verify.fleet.hosts_check import Checked, Host, after, completed, in_turn, size_of_place
from agent_identity._verify.fleet.logs import compare_logs
from agent_identity._verify.fleet.merging import named, unreadable
from agent_identity._verify.fleet.places import Place, directory_at, find_places, own_trust
from agent_identity._verify.inputs.sources import (
    PathLike,
    Trust,
    opened,
    size_of_files,
    size_of_ledger,
    to_trust,
    whole,
)
from agent_identity._verify.ledger.directory_check import check_visited
from agent_identity._verify.ledger.ledger_check import Progress
from agent_identity._verify.report.elsewhere import Elsewhere
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Report
from agent_identity._verify.spans.attestations import ATTESTATION
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity.errors import ConfigurationError, VerificationError

_MAX_KEYS: Final = 100
_NEAR: Final = 50_000


class Consumer(Protocol):
    """Takes the facts of a pass, in any order."""

    def take(self, fact: Fact, /) -> None:
        """Take a fact."""
        ...


@final
class Distributor:
    """Hands each fact of a pass to several consumers.

    Args:
        takers: Their methods that take a fact.
    """

    def __init__(self, takers: Sequence[Callable[[Fact], None]]) -> None:
        self._takers = tuple(takers)

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        for take in self._takers:
            take(fact)


@typed_calls("__init__")
@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The sources of a report, and the options for reading them.

    Attributes:
        sources: Evidence directories, folders with such directories and files of spans below them, bundles, or files
            of OTLP; one or several.
        trust: The trusted keys, or the path of a trust file; by default of each directory those beside its ledger,
            which proves nothing to those who do not trust the directory.
        unverified: Skip the verification. Every report says so.
        from_ns: Only what happened from this moment on, in nanoseconds since the Unix epoch.
        until_ns: Only what happened before this moment.
        processes: Number of worker processes for each ledger; 0 chooses.
        progress: Is told now and then how many of how many bytes are read.
        hosts: The hosts of model providers; by default the table of this release.
        command: The command that asks, for the frame.
    """

    sources: PathLike | Sequence[PathLike]
    trust: Trust = None
    unverified: bool = False
    from_ns: int | None = None
    until_ns: int | None = None
    processes: int = 1
    progress: Progress | None = None
    hosts: Hosts | None = None
    command: str | None = None

    def __post_init__(self) -> None:
        if self.from_ns is not None and self.until_ns is not None and self.from_ns >= self.until_ns:
            raise ConfigurationError("the period ends before it begins; exchange the two times")


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """The end of a pass.

    Attributes:
        sources: The sources, and how far each can be believed.
        places: Their paths, in the same order; with the problem of each that could not be read.
        trusts: The keys that each was verified with.
    """

    sources: tuple[SourceFrame, ...]
    places: tuple[Place, ...]
    trusts: tuple[TrustStore | None, ...]

    def frame(self, question: str, evidence: Evidence, not_shown: Sequence[str]) -> Frame:
        """Return the frame of a report over it.

        Args:
            question: The report.
            evidence: What was read.
            not_shown: What the answer does not show.
        """
        return Frame(question, self.sources, evidence.from_ns, evidence.until_ns, tuple(not_shown), evidence.command)


@typed
def read(evidence: Evidence, consumer: Consumer) -> Reading:
    """Read all sources once.

    Of a record that several sources hold, the first one counts: directories come before bundles, and these before
    spans. A source that is not proved hides no record of a later one. Facts come before the verdict; whoever takes them
    asks the frame at the end what is proved.

    Args:
        evidence: What is read.
        consumer: Takes the facts.

    Raises:
        ConfigurationError: A source or the trust file cannot be read.
    """
    trust = to_trust(evidence.trust)
    places = find_places(evidence.sources)
    total = _total(places) if evidence.progress is not None else 0
    several = len(places) > 1
    seen = _Seen(several=several)
    compared = compare_logs(places if several and not evidence.unverified else (), trust)
    hosts = [
        Host(place, trust, known=compared.known.get(place.name, ()), copy_of=compared.copies.get(place.name))
        for place in places
    ]
    split = SplitCalls() if several else None
    frames: list[SourceFrame] = []
    trusts: list[TrustStore | None] = []
    done = 0
    for number in range(len(places)):
        one = _Source(number, hosts, evidence, consumer, seen=seen, split=split)
        frame, keys, size = one.read(after(evidence.progress, done, total))
        places[number] = one.place
        hides = frame.proved or evidence.unverified
        if frame.records and not hides and number + 1 < len(places):
            frame = replace(frame, not_shown=(*frame.not_shown, _NOT_HIDDEN))
        frames.append(frame)
        trusts.append(keys)
        done += size
        seen.end(hides=hides)
    if split is not None:
        _finish(split, evidence, consumer, frames)
    return Reading(tuple(frames), tuple(places), tuple(trusts))


def _finish(split: SplitCalls, evidence: Evidence, consumer: Consumer, frames: list[SourceFrame]) -> None:
    """Give out the calls whose parts were in different sources, or nowhere."""
    period = Period(evidence.from_ns, evidence.until_ns)
    for call in split.calls():
        if period.takes(call):
            consumer.take(call)
    for number, dropped in split.dropped.items():
        note = f"{counted(dropped, 'record')} of calls that other sources tell"
        frames[number] = replace(frames[number], not_shown=(*frames[number].not_shown, note))


def _total(places: Sequence[Place]) -> int:
    """Return the bytes of all sources, or 0 if that is not known."""
    sizes = [size_of_place(place) for place in places]
    return sum(sizes) if all(sizes) else 0


_NOT_HIDDEN: Final = "its records count again where a later source has them, since they are not proved"


@final
class _Seen:
    """The records of earlier sources, as ranges of streams."""

    def __init__(self, *, several: bool) -> None:
        self._several = several
        self._before: dict[str, list[tuple[int, int]]] = {}
        self._now: dict[str, list[tuple[int, int]]] = {}
        self.again = 0

    def take(self, place: Stream) -> bool:
        """Return whether no earlier source has the record of a place."""
        if not self._several:
            return True
        stream, seq = place.id, place.number
        ranges = self._before.get(stream)
        if ranges is not None:
            at = bisect_right(ranges, (seq, _LARGEST)) - 1
            if at >= 0 and ranges[at][1] >= seq:
                self.again += 1
                return False
        mine = self._now.setdefault(stream, [])
        if mine and mine[-1][1] + 1 == seq:
            mine[-1] = (mine[-1][0], seq)
        else:
            mine.append((seq, seq))
        return True

    def end(self, *, hides: bool) -> None:
        """Go on with the next source.

        Args:
            hides: Whether the records of this one count, and not those of later ones.
        """
        for stream, ranges in self._now.items() if hides else ():
            self._before[stream] = sorted((*self._before.get(stream, ()), *ranges))
        self._now = {}
        self.again = 0


_LARGEST: Final = 2**64


@final
class _Source:
    """Reads one source.

    Attributes:
        place: The source; with the problem if it could not be read.
    """

    def __init__(
        self,
        number: int,
        every: Sequence[Host],
        evidence: Evidence,
        consumer: Consumer,
        *,
        seen: _Seen,
        split: SplitCalls | None,
    ) -> None:
        self._host, self._every = every[number], every
        self._number, self.place, self._trust, self._ledger = number, self._host.place, self._host.keys, evidence
        self._consumer, self._seen = consumer, seen
        self._decoder = Decoder(number, consumer.take, Period(evidence.from_ns, evidence.until_ns), split)
        self._period = Period(evidence.from_ns, evidence.until_ns)
        self._hosts = evidence.hosts or Hosts.standard()
        self._hints = self._broken = self._malformed = 0

    def read(self, progress: Progress | None) -> tuple[SourceFrame, TrustStore | None, int]:
        """Return its frame, the keys that counted, and how many bytes it has; of several, one may be unreadable.

        Raises:
            ConfigurationError: It is the only one, and cannot be read.
        """
        try:
            report, keys = self._read(progress)
        except (ConfigurationError, OSError) as error:
            if len(self._every) == 1:
                raise
            self.place = replace(self.place, problem=str(error))
            report, keys = unreadable(self.place, str(error)), None
        frame = self._frame(report, keys)
        self._decoder.finish(proved=frame.proved or self._ledger.unverified)
        return frame, keys, size_of_place(self.place)

    def _read(self, progress: Progress | None) -> tuple[Report | None, TrustStore | None]:
        place = self.place
        if place.problem is not None:
            raise ConfigurationError(place.problem)
        if place.kind == "traces":
            return self._read_traces(progress), self._trust
        with directory_at(place) as directory:
            keys = self._trust if self._trust is not None else own_trust(directory)
            return self._read_ledger(directory, progress), keys

    def _read_ledger(self, directory: str, progress: Progress | None) -> Report | None:
        evidence = self._ledger
        if evidence.unverified:
            self._read_unverified(directory, progress)
            return None
        elsewhere = Elsewhere()
        report = check_visited(
            directory,
            self._trust,
            visit=self._visit,
            progress=progress,
            processes=evidence.processes,
            known=self._host.known,
            elsewhere=elsewhere,
        )
        if len(self._every) == 1:
            return report
        alone = Checked(named(report, self.place, self._host.copy_of), frozenset(elsewhere.asked))
        check = partial(in_turn, processes=evidence.processes, sizes={})
        return next(iter(completed([alone], self._every, check))).report

    def _visit(self, record: AnyRecord, _leaf: bytes = b"", detail: Detail | None = None) -> None:
        if self._seen.take(record.stream):
            self._decoder.visit(record, detail)

    def _read_unverified(self, directory: str, progress: Progress | None) -> None:
        reader = whole(open_ledger(directory), log=False)
        total, done = size_of_ledger(reader), 0
        for stream in reader.streams():
            for line in reader.entries(stream):
                record = None
                if line.record is not None:
                    with suppress(ValueError):
                        record = decode(line.record)
                    done += len(line.record)
                if record is None:
                    self._broken += 1
                else:
                    self._visit(record, detail=detail_of(record, line.detail)[0])
            if progress is not None:
                progress(min(done, total), total)

    def _read_traces(self, progress: Progress | None) -> Report | None:
        evidence, paths = self._ledger, self.place.paths
        if not evidence.unverified:
            return check_visited_spans(paths, self._trust, visit=self._visit_span, progress=progress)
        total, done = size_of_files(paths), 0
        again = SpillStore(bytes, bytes, near=_NEAR)
        for path in paths:
            with opened(path) as file:
                for item in read_spans(file):
                    if isinstance(item, SpanData):
                        self._visit_claimed(item, again)
                    else:
                        self._malformed += 1
            done += size_of_files([path])
            if progress is not None:
                progress(done, total)
        return None

    def _visit_claimed(self, span: SpanData, again: SpillStore[bytes]) -> None:
        """Take a span unverified; of a record that was exported again, the first span counts."""
        record = _claimed(span)
        if record is not None:
            key = record.id.encode()
            if key in again:
                return
            again.put(key, b"")
        self._visit_span(span, record)

    def _visit_span(self, span: SpanData, record: AnyRecord | None) -> None:
        if record is not None:
            self._visit(record)
            self._link(span, record)
            return
        self._hints += 1
        for hint in hints_of(span, self._number, self._hosts):
            if self._period.takes(hint):
                self._consumer.take(hint)

    def _link(self, span: SpanData, record: AnyRecord) -> None:
        """Say which span a call has, also of a record that an earlier source has."""
        if isinstance(record, Intent | Outcome):
            at, action = record.time.start_ns, record.action
            ids = span.trace_id, span.span_id, span.parent_id or ""
            fact = CallSpanFact(self._number, at, *ids, action.tool)
            if self._period.takes(fact):
                self._consumer.take(fact)

    def _frame(self, report: Report | None, keys: TrustStore | None) -> SourceFrame:
        decoder = self._decoder
        return SourceFrame(
            place=self.place.name,
            kind=self.place.kind,
            report=report,
            keys=NO_KEYS if report is None or keys is None else _keys(keys),
            keys_from=None if report is None or keys is None else self._keys_from(),
            records=decoder.records,
            hints=self._hints,
            first_ns=decoder.first_ns,
            last_ns=decoder.last_ns,
            not_shown=tuple(self._not_shown(report)),
        )

    def _keys_from(self) -> str:
        trust = self._ledger.trust
        if trust is None:
            return f"{self.place.paths[0]}/trust.json, beside the evidence (self-asserted)"
        return "the caller" if isinstance(trust, TrustStore) else str(trust)

    def _not_shown(self, report: Report | None) -> Iterator[str]:
        if self.place.problem is not None:
            yield f"all that it holds, since it cannot be read: {self.place.problem}"
        if report is not None:
            yield from _left_out(report)
        yield from self._not_read()

    def _not_read(self) -> Iterator[str]:
        """Yield what of it could not be read or taken."""
        if self._broken:
            yield f"{counted(self._broken, 'line')} that {'is no record' if self._broken == 1 else 'are no records'}"
        if self._malformed:
            yield f"{counted(self._malformed, 'part')} of files that cannot be read as spans"
        if self._decoder.undecoded:
            yield f"{counted(self._decoder.undecoded, 'grant')} that cannot be decoded"
        if self._seen.again:
            yield f"{counted(self._seen.again, 'record')} that an earlier source has as well"


def _left_out(report: Report) -> Iterator[str]:
    """Yield what a verified source has that is not shown."""
    for name, words in _NOT_SHOWN.items():
        if report.counts.get(name):
            yield f"{counted(report.counts[name], 'record')} {words}"
    if report.counts.get("unverified"):
        yield f"{counted(report.counts['unverified'], 'span')} with records that do not verify"


_NOT_SHOWN: Final[Mapping[str, str]] = MappingProxyType(
    {
        "unsealed": "after the last seal, which nothing proves",
        "withheld": "of which only hashes are given",
        "pruned": "that were pruned",
    }
)


def _keys(trust: TrustStore) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for key in trust.keys[:_MAX_KEYS]:
        found.setdefault(key.purpose, []).append(key.key.thumbprint)
    return MappingProxyType({purpose: tuple(sorted(names)) for purpose, names in sorted(found.items())})


def _claimed(span: SpanData) -> AnyRecord | None:
    """Return the record that a span carries, unverified."""
    if f"{ATTESTATION}payload" not in span.attributes:
        return None
    try:
        return decode(b64url_decode(Attestation.from_attributes(span.attributes).payload))
    except (VerificationError, ValueError):
        return None
