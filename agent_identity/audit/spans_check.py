"""Verifying spans, wherever they were copied from: each carries its record and the signature over it."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, final

from agent_identity.audit.certificates_check import conclude_clock_of_spans
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.coverage import CoverageTable
from agent_identity.audit.deduplicator import Deduplicator
from agent_identity.audit.details_check import conclude_unseen_details, contradicts_detail
from agent_identity.audit.disclosed import Disclosures
from agent_identity.audit.executor import Executor, in_process
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.ledger_index import Proofs, SpanRecord
from agent_identity.audit.sources import PathLike, opened
from agent_identity.audit.span_reader import (
    COPY,
    FORM,
    MOVED,
    READ,
    SIGNED,
    SPAN,
    SpanBlock,
    SpanFacts,
    SpanReader,
    cannot_be_read,
    read_block,
)
from agent_identity.audit.versions import refuse_draft
from agent_identity.evidence.byte_reader import ByteLines, ByteReader
from agent_identity.evidence.otlp import Document, Malformed
from agent_identity.evidence.pasted import MAX_PASTED, read_pasted
from agent_identity.evidence.records import AnyRecord, Intent, OfTask, Outcome, TaskEnd
from agent_identity.evidence.span_copy import GRANT_ATTRIBUTE
from agent_identity.evidence.traces import documents
from agent_identity.identity import TrustStore

__all__ = ["SPAN_STEPS", "SpansCheck"]

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
    "two_versions": "expected one record of this id, got two different ones",
    "two_at_one_place": "expected one record at this place of the stream, got two different ones",
    "broken_link": "expected the record to continue the one before it in the stream, got two that do not fit",
}
_BLOCK: Final = 2 * 1024 * 1024  # Bytes of documents, or one that is longer.
_BESIDE: Final = 128  # Bytes that a document takes beside its own; it may have none.


@final
class SpansCheck:
    """Verifies the spans of one or more files.

    1. The file is OTLP, or JSON as a back end shows it; parts of it that are not are named, and the rest is read.
    2. A span with attributes of ours carries a record, signed (DSSE v1) by a recorder key that is trusted
       and was valid at the time of the record.
    3. The record is canonical and of the closed shape of its kind.
    4. Trace and span in the record are those of the span that carries it; where what was pasted does not
       show them, this cannot be told.
    5. The plain attributes say the same. What was blanked by a scrubber or removed is no contradiction.
    6. Each chain whose grants are in the file verifies under the trusted issuer keys, names the parties
       that the records name, and covers the tools that were allowed, in its lifetime.
    7. A record that is there twice is the same twice; a place in a stream has one record, and that
       continues the record of the place before, if this is there.
    8. Spans are sampled and dropped, so that only a ledger can say whether all are there.
    9. Arguments are digests here: not checked, but for those that are disclosed.

    Args:
        trust: The trusted keys, or ``None``, with which nothing can be verified.
        findings: Takes what is found.
        redacted: Attributes that a collector is known to rewrite; a change of them is no contradiction.
        disclosures: Files that show arguments of calls.
        executor: Has single spans looked at, and chains of grants judged.

    Attributes:
        proofs: Tells which records a verified ledger proves; the signatures on spans with these are not looked at.
    """

    def __init__(
        self,
        trust: TrustStore | None,
        findings: Findings,
        *,
        redacted: Collection[str] = (),
        disclosures: Sequence[bytes | PathLike] = (),
        executor: Executor = in_process,
    ) -> None:
        self._trust = trust
        self._findings = findings
        self._redacted = frozenset(redacted)
        self._executor = executor
        self._delegations = Delegations(findings, _GRANTS, trust)
        self._disclosures = Disclosures(disclosures, findings, _ARGUMENTS, self._delegations) if disclosures else None
        self._coverage = CoverageTable()
        self._pasted = SpanReader(trust, redacted)
        self._seen = Deduplicator()
        self._signed = self._hidden = 0
        self.proofs: Proofs | None = None

    def read(self, sources: Sequence[PathLike | ByteLines], tell: Callable[[int], object]) -> None:
        """Verify the spans of files.

        Args:
            sources: The files.
            tell: Is told now and then how many bytes are read.

        Raises:
            ConfigurationError: A file cannot be opened, or not be read with what is installed.
        """
        proofs = None if self.proofs is None else self.proofs.path
        look = partial(read_block, trust=self._trust, redacted=self._redacted, proofs=proofs)
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
        """Say what can only be said once everything is read."""
        findings, counts = self._findings, self._findings.counts
        self._settle_rewritten()
        findings.coverage = self._coverage.rows()
        for name in ("spans", "records", "verified", "contradicted", "duplicates", "unattributed"):
            counts[name] += 0  # So that the report has them all.
        if self._trust is None:
            findings.add(SIGNED, "no_trust", "expected trusted keys, got none; pass the trust file of the recorder")
        elif not counts["records"]:
            message = f"expected spans with signed records, got none among {counted(counts['spans'], 'span')}"
            findings.add(SIGNED, "nothing_to_verify", message)
        else:
            records = counted(counts["records"], "record")
            proved = counts["proved_by_ledger"]
            unread = f"; the ledger proves {proved:,} of them, whose signatures on spans were not looked at"
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
        """Say of spans with other ids that were hashed whether a store did that to all, or somebody to some."""
        moved = self._pasted.rewritten.is_partial
        for place in self._pasted.rewritten.places:
            if moved:
                self._findings.add(SPAN, "wrong_span", MOVED, place)
                self._findings.counts["unnamed"] -= 1
                self._findings.counts["contradicted"] += 1
            else:
                message = (
                    "expected the signed ids of the span, got hashes of ids, into which its store rewrites them all: "
                    "the record is genuine, and nothing here tells whose span it is; verify an export of OTLP"
                )
                self._findings.add(SPAN, "ids_rewritten", message, place)

    def _copies(self) -> str:
        signed, hidden = self._signed, self._hidden
        return f"{signed - hidden:,} of {counted(signed, 'attribute')} compared, {hidden:,} missing or blanked"

    def _take(self, facts: SpanFacts) -> None:
        """Follow the next span."""
        findings = self._findings
        for problem in facts.problems:
            findings.add(*problem)
        for name, number in facts.counts.items():
            findings.counts[name] += number
        self._signed += facts.signed
        self._hidden += facts.hidden
        principal: str | None = None
        if facts.record is not None and (record := facts.record.record) is not None:
            once = self._keep(record, facts.record.leaf, facts.place)
            if once is None:
                return
            principal = self._judge(facts, record, once=once)
        if facts.call is not None:
            self._coverage.add(facts.call, principal)

    def _judge(self, facts: SpanFacts, record: AnyRecord, *, once: bool) -> str | None:
        """Count a record, and return the kind of its principal if it is verified."""
        if refuse_draft(self._findings, FORM, record, facts.place):
            return None
        good = "unnamed" if facts.belongs is None else "unclear" if facts.agrees is None else "verified"
        self._findings.counts[good if facts.agrees is not False and once else "contradicted"] += 1
        self._count(record, facts)
        principal = record.principal if isinstance(record, OfTask | Intent | Outcome) else None
        return principal.kind if principal is not None and facts.agrees and once else None

    def _count(self, record: AnyRecord, facts: SpanFacts) -> None:
        findings, place = self._findings, facts.place
        findings.kinds[record.kind] += 1
        if isinstance(record, Outcome | TaskEnd) and record.outcome is not None:
            findings.counts[record.outcome] += 1
        contradicts_detail(findings, FORM, record, place)
        use = self._delegations.see(record, place)
        if self._disclosures is not None and self._disclosures.want(record.id):
            self._disclosures.take(record, use, place)
        self._take_grants(facts)
        if use is None:
            findings.counts["unattributed"] += 1
            return
        if isinstance(record, Intent | Outcome) and record.decision.effect != "block":
            use.allow(record.action.tool, record.time.start_ns, place)

    def _take_grants(self, facts: SpanFacts) -> None:
        """Keep the grants on a span, which are no part of its record, unless they are not those that it names."""
        (state, grants), place = facts.grants, facts.place
        for token, name in grants:
            self._delegations.add_grant(token, name, place)
        if GRANT_ATTRIBUTE in self._redacted:
            return
        if state == "cut":
            message = f"{GRANT_ATTRIBUTE} ends inside a grant; exempt it from attribute length limits"
            self._findings.add(_GRANTS, "grant_cut", message, place)
        elif state == "bad":
            message = f"expected in {GRANT_ATTRIBUTE} the grants that the record names, got another text"
            self._findings.add(_GRANTS, "bad_grant", message, place)

    def _keep(self, record: AnyRecord, leaf: bytes, place: Place) -> bool | None:
        """Hold a record against those before it; return whether they fit, ``None`` if it is one of them."""
        found = self._seen.take(record, leaf)
        if found is None:
            self._findings.counts["duplicates"] += 1
            return None
        for code in found:
            self._findings.add(_ONCE, code, _ONCE_WORDS[code], place)
        return not found


def _blocks(sources: Sequence[PathLike | ByteLines]) -> Iterator[SpanBlock]:
    """Take files apart into blocks, which may be of several files."""
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
    """Return what is in files, or why one cannot be read to its end, and how many bytes are read with it."""
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
