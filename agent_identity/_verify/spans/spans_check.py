"""Verifies spans from any source: each carries its record and the signature over it, and no two contradict."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from struct import Struct
from typing import Final, TypeAlias, final

from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._identity.trust.store import TrustStore
from agent_identity._record.schema import OF_TASKS, AnyRecord, Intent, Outcome, TaskEnd
from agent_identity._spans.otlp_json import Document, Malformed, SpanData
from agent_identity._spans.otlp_reader import documents
from agent_identity._spans.pasted_spans import MAX_PASTED, read_pasted
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity._storage.byte_reader import ByteLines, ByteReader
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.grants.disclosed_arguments import Disclosures
from agent_identity._verify.inputs.sources import PathLike, opened
from agent_identity._verify.ledger.certificates_check import conclude_clock_of_spans
from agent_identity._verify.ledger.index import HALF, Proofs, SpanRecord
from agent_identity._verify.ledger.record_check import conclude_unseen_details, count_unseen_detail
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.spans._coverage import CoverageTable
from agent_identity._verify.spans._span_facts import SpanFacts
from agent_identity._verify.spans._span_reader import (
    COPY,
    FORM,
    MOVED,
    READ,
    SIGNED,
    SPAN,
    SpanBlock,
    SpanReader,
    cannot_be_read,
    read_block,
)
from agent_identity._verify.store.spill_store import SpillStore
from agent_identity._verify.store.workers import Executor, in_process

_PLACE: Final = Struct(">16sQ")
_NEAR: Final = 20_000  # Entries in memory, of some 250 bytes each.

SpanVisit: TypeAlias = Callable[[SpanData, AnyRecord | None], None]
"""Is shown each span once, with its record if that is verified."""

SPAN_STEPS: Final = (
    "the file can be read",
    "each record is signed by a trusted recorder key",
    "each record is in form",
    "each record belongs to the span that carries it",
    "the plain attributes say what the record says",
    "grants and chains, and tools within them",
    "no record twice with different content",
    "everything is there",
    "arguments within the grants",
)
_GRANTS, _ONCE, _ALL, _ARGUMENTS = range(6, 10)
_ONCE_WORDS: Final[Mapping[str, str]] = {
    "two_versions": "two different records have this id",
    "two_at_one_place": "two different records have this place in the stream",
    "broken_link": "the record does not fit its neighbor in the stream",
}
_CALLS: Final = (Outcome, Intent)
_ENDS: Final = (Outcome, TaskEnd)
_NAMED: Final = 8  # Attributes that the report names,
_MAX_NAMES: Final = 1_024  # and those that are counted one by one.
_LONGEST: Final = 128
_BLOCK: Final = 2 * 1024 * 1024  # Bytes of documents, or one longer document.
_BESIDE: Final = 128  # Bytes that a document takes beside its own; it may have none.


@final
class Deduplicator:
    """The verified records so far: the id, place, and half of the leaf hash and of the one before it of each."""

    def __init__(self) -> None:
        self._ids = SpillStore(bytes, bytes, near=_NEAR)
        self._places = SpillStore(bytes, bytes, near=_NEAR)

    def take(self, record: AnyRecord, leaf: bytes) -> tuple[str, ...] | None:
        """Compare a record with the earlier ones.

        Args:
            record: A record.
            leaf: Its leaf hash.

        Returns:
            The contradictions, as codes of findings; ``None`` for a record that was seen before.
        """
        identifier, half = bytes_of_id(record.id), leaf[:HALF]
        known = self._ids.get(identifier)
        if known is not None and known[:HALF] == half:
            return None
        stream, seq = bytes_of_id(record.stream.id), record.stream.number
        prev = b64url_decode(record.stream.prev or "")[:HALF]
        codes: list[str] = []
        place = _PLACE.pack(stream, seq)
        occupant = self._places.get(place)
        if known is not None:
            codes.append("two_versions")
        if occupant is not None and occupant[:HALF] != half:
            codes.append("two_at_one_place")
        if not self._links(stream, seq, half, prev):
            codes.append("broken_link")
        if known is None:
            self._ids.put(identifier, half + place)
        if occupant is None:
            self._places.put(place, half + prev)
        return tuple(codes)

    def _links(self, stream: bytes, seq: int, half: bytes, prev: bytes) -> bool:
        """Return whether a record continues the one before it, and the one after it continues this one, where known."""
        before = self._places.get(_PLACE.pack(stream, seq - 1)) if prev else None
        after = self._places.get(_PLACE.pack(stream, seq + 1))
        return (before is None or before[:HALF] == prev) and (not after or after[HALF:] in (b"", half))

    def records(self) -> Iterator[SpanRecord]:
        """Yield the records, in the order in which they came."""
        for identifier, packed in self._ids.items():
            yield SpanRecord(identifier, packed[:HALF], *_PLACE.unpack(packed[HALF:]))


@final
class SpansCheck:
    """Verifies the spans of one or more files.

    1. The file is OTLP, or JSON as a back end shows it; malformed parts are reported, and the rest is read.
    2. A span with our attributes carries a record, signed (DSSE v1) by a recorder key that is trusted
       and was valid at the time of the record.
    3. The record is canonical and of the closed shape of its kind.
    4. Trace and span in the record are those of the span that carries it; a pasted span without its ids leaves
       this open.
    5. The plain attributes agree with the record. Attributes that a scrubber blanked or removed do not contradict it.
    6. Each chain whose grants are in the file verifies under the trusted issuer keys, names the parties
       that the records name, and covers the tools that were allowed, in its lifetime.
    7. A record that occurs twice is the same twice; a place in a stream has one record, which continues the record
       of the place before, if the file has it.
    8. Spans are sampled and dropped, so only a comparison with a ledger shows whether all are present.
    9. Arguments are digests on spans: only disclosed arguments are checked.

    Args:
        trust: The trusted keys; with ``None``, nothing is verified.
        findings: Takes what is found.
        redacted: Attributes that a collector is known to rewrite; a change of them is not a contradiction.
        disclosures: Files that show arguments of calls.
        executor: Runs the checks of single spans and of chains.
        visit: Receives each span.

    Attributes:
        proofs: Looks up the records that a verified ledger proves; their signatures on spans are not checked.
    """

    def __init__(
        self,
        trust: TrustStore | None,
        findings: Findings,
        *,
        redacted: Collection[str] = (),
        disclosures: Sequence[bytes | PathLike] = (),
        executor: Executor = in_process,
        visit: SpanVisit | None = None,
    ) -> None:
        self._trust = trust
        self._visit = visit
        self._findings = findings
        self._redacted = frozenset(redacted)
        self._executor = executor
        self._delegations = Delegations(findings, _GRANTS, trust)
        self._disclosures = Disclosures(disclosures, findings, _ARGUMENTS, self._delegations) if disclosures else None
        self._coverage = CoverageTable()
        self._pasted = SpanReader(trust, redacted)
        self._seen = Deduplicator()
        self._signed = self._hidden = 0
        self._unverified: Counter[str] = Counter()
        self.proofs: Proofs | None = None

    def read(self, sources: Sequence[PathLike | ByteLines], tell: Callable[[int], object]) -> None:
        """Verify the spans of files.

        Args:
            sources: The files.
            tell: Receives the number of bytes read, now and then.

        Raises:
            ConfigurationError: A file cannot be opened, or its reader is not installed.
        """
        proofs = None if self.proofs is None else self.proofs.path
        look = partial(
            read_block, trust=self._trust, redacted=self._redacted, proofs=proofs, keep=self._visit is not None
        )
        for some, end in self._executor(look, _blocks(sources)):
            for facts in some:
                self._take(facts)
            tell(end)

    def records(self) -> Iterator[SpanRecord]:
        """Return the verified records by their ids."""
        return self._seen.records()

    def read_pasted(self, source: ByteLines) -> None:
        """Verify the spans in JSON as a back end shows it.

        Args:
            source: The text, open in binary mode.
        """
        try:
            text = ByteReader.of(source).read(MAX_PASTED + 1)
        except OSError as error:
            self._take(cannot_be_read(error))
            return
        self._pasted.proofs = self.proofs
        for some in self._pasted.read(read_pasted(text)):
            for facts in some:
                self._take(facts)

    def finish(self) -> None:
        """Report the findings that need all spans."""
        findings, counts = self._findings, self._findings.counts
        self._settle_rewritten()
        findings.coverage = self._coverage.rows()
        for name in ("spans", "records", "verified", "contradicted", "duplicates", "unattributed"):
            counts[name] += 0  # The report shows each also at 0.
        if self._trust is None:
            findings.add(SIGNED, "no_trust", "there are no trusted keys; pass the trust file of the recorder")
        elif not counts["records"]:
            message = f"none of {counted(counts['spans'], 'span')} carries a signed record"
            findings.add(SIGNED, "nothing_to_verify", message)
        else:
            records = counted(counts["records"], "record")
            proved = counts["proved_by_ledger"]
            unread = f"; the ledger proves {proved:,} of them, whose signatures on spans were not checked"
            findings.done(SIGNED, records + (unread if proved else ""))
            conclude_clock_of_spans(findings)
            if self.proofs is None:  # A ledger that verifies has them, and they were checked there.
                conclude_unseen_details(findings, FORM)
            for step in (FORM, SPAN):
                findings.done(step, records)
            findings.done(COPY, f"{counted(counts['records'], 'record')}; {self._copies()}")
            findings.done(_ONCE, f"{counted(counts['records'], 'record')}, {counts['duplicates']:,} of them again")
            self._delegations.settle(absent="not all its grants are in the file", executor=self._executor)
        findings.done(READ, counted(counts["spans"], "span"))
        findings.skip(_ALL, "spans are sampled and dropped; compare with a ledger")
        if self._disclosures is not None:
            self._disclosures.settle("spans hold digests")
        findings.skip(_ARGUMENTS, "spans hold keyed digests of them")

    def _settle_rewritten(self) -> None:
        """Decide for spans with hashed ids: rewritten by their store if all are, otherwise moved records."""
        moved = self._pasted.rewritten.is_partial
        for place in self._pasted.rewritten.places:
            if moved:
                self._findings.add(SPAN, "wrong_span", MOVED, place)
                self._findings.counts["unnamed"] -= 1
                self._findings.counts["contradicted"] += 1
            else:
                message = (
                    "the store of the span rewrites all ids into hashes: the record is genuine, but nothing shows that "
                    "it belongs to this span; verify an OTLP export"
                )
                self._findings.add(SPAN, "ids_rewritten", message, place)

    def _copies(self) -> str:
        signed, hidden = self._signed, self._hidden
        compared = f"{signed - hidden:,} of {counted(signed, 'attribute')} compared, {hidden:,} missing or blanked"
        if not self._unverified:
            return compared
        names = [f"{name[:_LONGEST]!a}"[1:-1] for name, _ in self._unverified.most_common(_NAMED)]
        more = len(self._unverified) - len(names)
        beside = f"{', '.join(names)}{f' and {more:,} more' if more > 0 else ''}"
        return f"{compared}; not verified, because no record states them: {beside}"

    def _take(self, facts: SpanFacts) -> None:
        """Check the next span."""
        findings = self._findings
        for problem in facts.problems:
            findings.add(*problem)
        for name, number in facts.counts.items():
            findings.counts[name] += number
        self._signed += facts.signed
        self._hidden += facts.hidden
        self._note(facts.unverified)
        verified: AnyRecord | None = None
        if facts.record is not None and (record := facts.record.record) is not None:
            once = self._keep(record, facts.record.leaf, facts.place)
            if once is None:
                return
            verified = self._judge(facts, record, once=once)
        if facts.call is not None:
            principal = verified.principal if isinstance(verified, OF_TASKS) else None
            self._coverage.add(facts.call, None if principal is None else principal.kind)
        if self._visit is not None and facts.span is not None:
            self._visit(facts.span, verified)

    def _note(self, names: Sequence[str]) -> None:
        """Note the attributes that are not verified, by name; of very many names, the first."""
        known = self._unverified
        for name in names:
            if name in known or len(known) < _MAX_NAMES:
                known[name] += 1
        if names:
            self._findings.counts["unverified_attributes"] += len(names)

    def _judge(self, facts: SpanFacts, record: AnyRecord, *, once: bool) -> AnyRecord | None:
        """Count a record, and return it if it is verified."""
        agrees = facts.agrees
        good = "unnamed" if facts.belongs is None else "unclear" if agrees is None else "verified"
        self._findings.counts[good if agrees is not False and once else "contradicted"] += 1
        self._count(record, facts)
        return record if agrees and once else None

    def _count(self, record: AnyRecord, facts: SpanFacts) -> None:
        findings, place = self._findings, facts.place
        findings.kinds[record.kind] += 1
        if isinstance(record, _ENDS) and record.outcome is not None:
            findings.counts[record.outcome] += 1
        count_unseen_detail(findings, record)
        use = self._delegations.see(record, place)
        if self._disclosures is not None and self._disclosures.want(record.id):
            self._disclosures.take(record, use, place)
        if facts.grants[0] != "absent":
            self._take_grants(facts)
        if use is None:
            findings.counts["unattributed"] += 1
            return
        if isinstance(record, _CALLS) and record.decision.effect != "block":
            use.allow(record.action.tool, record.time.start_ns, place)

    def _take_grants(self, facts: SpanFacts) -> None:
        """Store the grants on a span, which its record does not sign, unless they differ from those that it names."""
        (state, grants), place = facts.grants, facts.place
        for token, name in grants:
            self._delegations.add_grant(token, name, place)
        if GRANT_ATTRIBUTE in self._redacted:
            return
        if state == "cut":
            message = f"{GRANT_ATTRIBUTE} ends inside a grant; exempt it from attribute length limits"
            self._findings.add(_GRANTS, "grant_cut", message, place)
        elif state == "bad":
            message = f"{GRANT_ATTRIBUTE} does not hold the grants that the record names"
            self._findings.add(_GRANTS, "bad_grant", message, place)

    def _keep(self, record: AnyRecord, leaf: bytes, place: Place) -> bool | None:
        """Compare a record with the earlier ones; return whether it fits, ``None`` for a record seen before."""
        codes = self._seen.take(record, leaf)
        if codes is None:
            self._findings.counts["duplicates"] += 1
            return None
        for code in codes:
            self._findings.add(_ONCE, code, _ONCE_WORDS[code], place)
        return not codes


def _blocks(sources: Sequence[PathLike | ByteLines]) -> Iterator[SpanBlock]:
    """Split files into blocks, which may span several files."""
    waiting: list[Document | Malformed | SpanFacts] = []
    held = end = 0
    for item, end in _items(sources):
        waiting.append(item)
        held += _BESIDE + (len(item.data) if isinstance(item, Document) else 0)
        if held >= _BLOCK:
            yield SpanBlock(waiting, end)
            waiting, held = [], 0
    if waiting:
        yield SpanBlock(waiting, end)


def _items(sources: Sequence[PathLike | ByteLines]) -> Iterator[tuple[Document | Malformed | SpanFacts, int]]:
    """Yield the documents of files, or the reason why one cannot be read to its end, with the bytes read."""
    done = 0

    def count(read: int) -> None:
        nonlocal done
        done += read

    for source in sources:
        with opened(source) as file:
            try:
                for item in documents(ByteReader.of(file, count)):
                    yield item, done
            except OSError as error:
                yield cannot_be_read(error), done
