"""Verifying spans, wherever they were copied from: each carries its record and the signature over it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, TypeVar, cast, final

from agent_identity.audit.attestations import ATTESTATION, OURS, open_record
from agent_identity.audit.chain_check import Delegations
from agent_identity.audit.coverage import CoveragePart, CoverageTable, is_tool_call
from agent_identity.audit.disclosed import Disclosures
from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.ledger_index import HALF, Proofs, SpanRecord
from agent_identity.audit.report import Problem
from agent_identity.audit.rewritten import Rewritten
from agent_identity.audit.seen import Seen
from agent_identity.audit.shapes import RecordReader
from agent_identity.audit.sources import PathLike
from agent_identity.audit.span_comparison import SpanComparison
from agent_identity.audit.span_grants import grants_on
from agent_identity.audit.spreading import Spread
from agent_identity.audit.use_store import Packed
from agent_identity.audit.uses import Use
from agent_identity.errors import VerificationError
from agent_identity.evidence.byte_reader import ByteLines, ByteReader
from agent_identity.evidence.inflating import InflatedError
from agent_identity.evidence.merkle import leaf_hash
from agent_identity.evidence.otlp import Document, Malformed, SpanData
from agent_identity.evidence.pasted import MAX_PASTED, PastedSpan, read_pasted
from agent_identity.evidence.shown import likeness
from agent_identity.evidence.span_copy import GRANT_ATTRIBUTE, span_ids
from agent_identity.evidence.traces import spans_of
from agent_identity.identity import TrustStore

__all__ = ["SPAN_STEPS", "SpansCheck", "SpansPart"]

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
_READ, _SIGNED, _FORM, _SPAN, _COPY, _GRANTS, _ONCE, _ALL, _ARGUMENTS = range(1, 10)
_Span: TypeAlias = SpanData | PastedSpan
_Item: TypeAlias = SpanData | PastedSpan | Malformed
_RECORD_ID: Final = OURS + "record.id"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAYLOAD: Final = ATTESTATION + "payload"
_MOVED: Final = "expected the record of this span, got that of another; it was moved"
_UNKNOWN: Final = frozenset({"unknown_key", "key_not_valid_then", "key_revoked"})
_STEP_OF: Final[Mapping[str, int]] = {"malformed_record": _FORM}
_ONCE_WORDS: Final[Mapping[str, str]] = {
    "two_versions": "expected one record of this id, got two different ones",
    "two_at_one_place": "expected one record at this place of the stream, got two different ones",
    "broken_link": "expected the record to continue the one before it in the stream, got two that do not fit",
}
_AT_ONCE: Final = 1_024
"""Spans whose proofs are looked up together."""


class SpansPart(NamedTuple):
    """What was found in a part of the spans, of which nothing but notices is to be reported.

    Attributes:
        notices: The notices.
        noticed: How many there are.
        counts: How many of what.
        kinds: How many records of each kind.
        signed: How many attributes copy a record.
        hidden: How many of these are missing or blanked.
        seen: Its records.
        coverage: Its tool calls.
        uses: What was done under each grant, packed, in the order in which they came.
        tokens: The grants that it holds.
    """

    notices: list[Problem]
    noticed: int
    counts: Mapping[str, int]
    kinds: Mapping[str, int]
    signed: int
    hidden: int
    seen: bytes
    coverage: CoveragePart
    uses: list[Packed]
    tokens: list[tuple[str, str]]


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
        part: Only a part of the spans is read, and others will be merged.
        reader: One that knows the shapes of other records.

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
        part: bool = False,
        reader: RecordReader | None = None,
    ) -> None:
        self._trust = trust
        self._findings = findings
        self._redacted = frozenset(redacted)
        self._comparison = SpanComparison(findings, _COPY, redacted)
        self._reader = reader or RecordReader()
        self._delegations = Delegations(findings, _GRANTS, trust, part=part)
        self._disclosures = Disclosures(disclosures, findings, _ARGUMENTS) if disclosures else None
        self._coverage = CoverageTable()
        self._rewritten = Rewritten()
        self._seen = Seen(part=part)
        self.proofs: Proofs | None = None
        self._proved: Mapping[bytes, bytes] = {}

    def take(self, document: Document | Malformed) -> None:
        """Verify the spans of a document.

        Args:
            document: The document, or the part of a file that is none.

        Raises:
            ConfigurationError: It is in Protocol Buffers, or compressed, and what reads that is not installed.
        """
        items: Iterable[SpanData | Malformed]
        items = (document,) if isinstance(document, Malformed) else spans_of(document)
        for some in _some(items):
            self._look_up(some)
            for item in some:
                if self._counted(item):
                    self._take(cast("SpanData", item))

    def miss(self, error: OSError) -> None:
        """Say that a file cannot be read to its end.

        Args:
            error: Why.
        """
        if isinstance(error, InflatedError):
            self._findings.add(_READ, "inflates_too_far", str(error))
        else:
            self._findings.add(_READ, "unreadable", "expected a file of spans, got one that cannot be read to its end")

    def shipped(self) -> SpansPart | None:
        """Return what was found in a part of the spans, or ``None`` if anything but notices is to be reported."""
        notices, coverage = self._findings.notices(), self._coverage.shipped()
        if notices is None or coverage is None:
            return None
        return SpansPart(
            *notices,
            dict(self._findings.counts),
            dict(self._findings.kinds),
            self._comparison.signed,
            self._comparison.hidden,
            self._seen.shipped(),
            coverage,
            *self._delegations.shipped(),
        )

    def merge(self, part: SpansPart) -> bool:
        """Take over what was found in the next part of the spans; return whether that is possible.

        It is not if anything would have to be reported, or if a record is there again; then nothing is changed.

        Args:
            part: The part.
        """
        # What comes first changes something only if what comes last is possible as well.
        if not self._seen.fits(part.seen) or not self._delegations.merge(part.uses, part.tokens):
            return False
        self._seen.merge(part.seen)
        findings = self._findings
        findings.merge_notices(part.notices, part.noticed)
        findings.counts.update(part.counts)
        findings.kinds.update(part.kinds)
        self._comparison.signed += part.signed
        self._comparison.hidden += part.hidden
        self._coverage.merge(part.coverage)
        return True

    def records(self) -> Iterator[SpanRecord]:
        """Return the verified records by their ids."""
        return self._seen.records()

    def read_pasted(self, source: ByteLines) -> None:
        """Verify the spans in JSON as a back end shows it.

        Args:
            source: The text, open in binary mode.

        Raises:
            OSError: It cannot be read.
        """
        text = ByteReader.of(source).read(MAX_PASTED + 1)
        for some in _some(read_pasted(text)):
            self._look_up(some)
            for item in some:
                if self._counted(item):
                    self._open(cast("PastedSpan", item))

    def finish(self, spread: Spread | None = None) -> None:
        """Say what can only be said once everything is read.

        Args:
            spread: Has other processes judge the chains of grants.
        """
        findings, counts = self._findings, self._findings.counts
        self._settle_rewritten()
        findings.coverage = self._coverage.rows()
        for name in ("spans", "records", "verified", "contradicted", "duplicates", "unattributed"):
            counts[name] += 0  # So that the report has them all.
        if self._trust is None:
            findings.add(_SIGNED, "no_trust", "expected trusted keys, got none; pass the trust file of the recorder")
        elif not counts["records"]:
            message = f"expected spans with signed records, got none among {counted(counts['spans'], 'span')}"
            findings.add(_SIGNED, "nothing_to_verify", message)
        else:
            records = counted(counts["records"], "record")
            proved = counts["proved_by_ledger"]
            unread = f"; the ledger proves {proved:,} of them, whose signatures on spans were not looked at"
            findings.done(_SIGNED, records + (unread if proved else ""))
            for step in (_FORM, _SPAN):
                findings.done(step, records)
            findings.done(_COPY, f"{counted(counts['records'], 'record')}; {self._copies()}")
            findings.done(_ONCE, f"{counted(counts['records'], 'record')}, {counts['duplicates']:,} of them again")
            self._delegations.settle(absent="not all its grants are in the file", spread=spread)
        findings.done(_READ, counted(counts["spans"], "span"))
        findings.skip(_ALL, "spans are sampled and dropped; compare with a ledger")
        if self._disclosures is not None:
            self._disclosures.settle("spans hold digests")
        findings.skip(_ARGUMENTS, "spans hold keyed digests of them")

    def _settle_rewritten(self) -> None:
        """Say of spans with other ids that were hashed whether a store did that to all, or somebody to some."""
        moved = self._rewritten.is_partial
        for place in self._rewritten.places:
            if moved:
                self._findings.add(_SPAN, "wrong_span", _MOVED, place)
                self._findings.counts["unnamed"] -= 1
                self._findings.counts["contradicted"] += 1
            else:
                message = (
                    "expected the signed ids of the span, got hashes of ids, into which its store rewrites them all: "
                    "the record is genuine, and nothing here tells whose span it is; verify an export of OTLP"
                )
                self._findings.add(_SPAN, "ids_rewritten", message, place)

    def _copies(self) -> str:
        signed, hidden = self._comparison.signed, self._comparison.hidden
        return f"{signed - hidden:,} of {counted(signed, 'attribute')} compared, {hidden:,} missing or blanked"

    def _take(self, span: SpanData) -> None:
        duplicates = self._findings.counts["duplicates"]
        record = self._open(span)
        if is_tool_call(span.attributes) and self._findings.counts["duplicates"] == duplicates:
            principal = record.get("principal") if record else None
            kind = cast("dict[str, str]", principal)["kind"] if principal else None
            self._coverage.add(span, kind)

    def _open(self, span: _Span) -> dict[str, object] | None:
        """Return the record of a span if it is verified, belongs to it, and is not there again."""
        attributes = span.attributes
        signed = _PAYLOAD in attributes or any(name.startswith(ATTESTATION) for name in attributes)
        if not signed and not any(name.startswith(OURS) for name in attributes) and not self._comparison.claims(span):
            return None
        counts = self._findings.counts
        counts["records"] += 1
        if not signed:
            message = (
                f"expected a signature beside the {OURS}* attributes of the span or around it, got none; "
                "it was removed or forged"
            )
            self._findings.add(_SIGNED, "unsigned", message, _claimed_place(span))
            counts["contradicted"] += 1
            return None
        if self._trust is None:
            return None
        proved = partial(self._is_proved, attributes) if self._proved else None
        try:
            record, body = open_record(attributes, self._trust, self._reader, proved)
        except VerificationError as error:
            step = _STEP_OF.get(error.code, _SIGNED)
            code = error.code
            self._findings.add(step, code, str(error), _claimed_place(span))
            counts["unknown_key" if code in _UNKNOWN else "contradicted"] += 1
            return None
        return self._judge(span, record, leaf_hash(body))

    def _look_up(self, items: Sequence[_Item]) -> None:
        """Ask the ledger, if there is one, which of the records on some spans it proves."""
        if self.proofs is not None:
            self._proved = self.proofs.of(_record_ids(items))

    def _counted(self, item: _Item) -> bool:
        """Count a span, and return whether it is one."""
        if isinstance(item, Malformed):
            self._findings.counts["malformed"] += 1
            self._findings.add(_READ, "malformed_document", item.message, Place(line=item.line))
            return False
        self._findings.counts["spans"] += 1
        return True

    def _is_proved(self, attributes: Mapping[str, object], body: bytes) -> bool:
        """Return whether the ledger has this very record, under a head that its signed log proves."""
        # The attribute only says where to look.
        half = self._proved.get(_bytes_of(attributes.get(_RECORD_ID)))
        if half is None or half != leaf_hash(body)[:HALF]:
            return False
        self._findings.counts["proved_by_ledger"] += 1
        return True

    def _judge(self, span: _Span, record: dict[str, object], leaf: bytes) -> dict[str, object] | None:
        counts, place = self._findings.counts, _place(record, span.line)
        belongs = self._belongs(record, span, place)
        if belongs is False:
            self._findings.add(_SPAN, "wrong_span", _MOVED, place)
            counts["contradicted"] += 1
            return None
        agrees = self._comparison.agrees(record, span, place, bound=belongs is not None)
        once = self._keep(record, leaf, place)
        if once is None:
            return None
        good = "unnamed" if belongs is None else "unclear" if agrees is None else "verified"
        counts[good if agrees is not False and once else "contradicted"] += 1
        self._count(record, place, span.attributes)
        return record if agrees and once else None

    def _belongs(self, record: Mapping[str, object], span: _Span, place: Place) -> bool | None:
        """Return whether trace and span are those in the record; ``None`` if the span does not show its ids."""
        signed = span_ids(record)
        if isinstance(span, SpanData):
            return signed == (span.trace_id, span.span_id)
        trace, own = (
            {likeness(shown, expected) for shown in ids} - {"unknown"}
            for expected, ids in zip(signed, (span.trace_ids, span.span_ids), strict=True)
        )
        if "other" in trace | own:
            if not self._rewritten.take(signed, span, place):
                return False
            return None
        self._rewritten.untouched |= bool(trace and own)
        for name, found in (("trace", trace), ("span", own)):
            if not found:
                message = f"expected the {name} id of the span beside its attributes, got none; copy the whole span"
                self._findings.add(_SPAN, "span_not_named", message, place)
        if trace == {"tail"}:
            message = "expected a trace id of 128 bits, got its lower 64, which are those that are signed"
            self._findings.add(_SPAN, "trace_id_cut", message, place)
        return True if trace and own else None

    def _count(self, record: Mapping[str, object], place: Place, attributes: Mapping[str, object]) -> None:
        findings = self._findings
        findings.kinds[cast("str", record["kind"])] += 1
        if "outcome" in record:
            findings.counts[cast("str", record["outcome"])] += 1
        use = self._delegations.see(record, place) if "chain" in record else None
        if self._disclosures is not None and self._disclosures.want(cast("str", record["id"]).encode()):
            self._disclosures.take(record, use, place)
        self._take_grants(use, attributes, place)
        if use is None:
            findings.counts["unattributed"] += 1
            return
        decision = cast("dict[str, str] | None", record.get("decision"))
        if decision is not None and decision["effect"] != "block":
            start_ns = int(cast("dict[str, str]", record["time"])["start"])
            use.allow(cast("dict[str, str]", record["action"])["tool"], start_ns, place)

    def _take_grants(self, use: Use | None, attributes: Mapping[str, object], place: Place) -> None:
        """Keep the grants on a span, which are no part of its record, unless they are not those that it names."""
        if GRANT_ATTRIBUTE not in attributes:
            return
        state, grants = grants_on(attributes, () if use is None else use.chain)
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

    def _keep(self, record: Mapping[str, object], leaf: bytes, place: Place) -> bool | None:
        """Hold a record against those before it; return whether they fit, ``None`` if it is one of them."""
        found = self._seen.take(record, leaf)
        if found is None:
            self._findings.counts["duplicates"] += 1
            return None
        for code in found:
            self._findings.add(_ONCE, code, _ONCE_WORDS[code], place)
        return not found


def _place(record: Mapping[str, object], line: int) -> Place:
    stream = cast("dict[str, str]", record["stream"])
    return Place(cast("str", record["id"]), stream["id"], int(stream["seq"]), line)


_I = TypeVar("_I", bound=_Item)


def _some(items: Iterable[_I]) -> Iterator[tuple[_I, ...]]:
    """Return items some at a time, since one document can have millions of them."""
    rest = iter(items)
    while some := tuple(islice(rest, _AT_ONCE)):
        yield some


def _record_ids(items: Sequence[_Item]) -> set[bytes]:
    """Return the ids of records that spans name, 16 bytes each."""
    named = {_bytes_of(item.attributes.get(_RECORD_ID)) for item in items if not isinstance(item, Malformed)}
    return named - {b""}


def _bytes_of(identifier: object) -> bytes:
    """Return the bytes of an id, or none where it has not its form."""
    if not isinstance(identifier, str) or not _UUID.fullmatch(identifier):
        return b""
    return bytes.fromhex(identifier.replace("-", ""))


def _claimed_place(span: _Span) -> Place:
    """Return where a span says its record is, for a message about a record that cannot be believed."""
    identifier, stream = (span.attributes.get(OURS + name) for name in ("record.id", "stream.id"))
    return Place(
        identifier[:64] if isinstance(identifier, str) else None,
        stream[:64] if isinstance(stream, str) else None,
        line=span.line,
    )
