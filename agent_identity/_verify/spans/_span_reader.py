"""Reads one span by itself: its signed record, and whether its copy, ids and grants agree with it."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._identity.common.ids import bytes_of_id, is_id128
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.schema import OF_TASKS, AnyRecord
from agent_identity._spans.displayed_values import is_hashed, likeness
from agent_identity._spans.envelope import Attestation
from agent_identity._spans.otlp_json import Document, Malformed, SpanData
from agent_identity._spans.otlp_reader import spans_of
from agent_identity._spans.pasted_spans import PastedSpan
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE, span_ids
from agent_identity._storage.decompress import InflatedError
from agent_identity._verify.ledger.certificates_check import is_certified
from agent_identity._verify.ledger.index import HALF, Proofs
from agent_identity._verify.ledger.record_check import CheckedRecord
from agent_identity._verify.report.findings import NOWHERE, Place
from agent_identity._verify.spans._coverage import ToolCall
from agent_identity._verify.spans._span_comparison import SpanComparison
from agent_identity._verify.spans._span_facts import SpanFacts
from agent_identity._verify.spans._span_grants import grants_on
from agent_identity._verify.spans.attestations import ATTESTATION, OURS, attestation_on, record_in, signed_body
from agent_identity.errors import VerificationError

READ, SIGNED, FORM, SPAN, COPY = range(1, 6)
"""The steps that need only one span."""

MOVED: Final = "the record belongs to another span; it was moved"
_RECORD_ID: Final = OURS + "record.id"
_PAYLOAD: Final = ATTESTATION + "payload"
_UNKNOWN: Final = frozenset({"unknown_key", "key_not_valid_then", "key_revoked"})
_STEP_OF: Final[Mapping[str, int]] = {"malformed_record": FORM, "unknown_record": FORM}
_UNREADABLE: Final = "the file of spans cannot be read to its end; copy it again"
_AT_ONCE: Final = 64
"""Number of spans in a batch. Each step runs over a whole batch, so that its code stays in the processor's cache."""

_Span: TypeAlias = SpanData | PastedSpan
_Item: TypeAlias = _Span | Malformed | SpanFacts
_SPANS: Final = (SpanData, PastedSpan)


@final
class Rewritten:
    """Stores the spans whose ids are hashes, until all spans of the store are read.

    Attributes:
        places: The records on them.
        untouched: Whether there is a span with its own ids.
    """

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.untouched = False
        self._hashes: dict[tuple[str, str], str] = {}
        self._signed: dict[tuple[str, str], str] = {}
        self._mixed = False

    @property
    def is_partial(self) -> bool:
        """True if only some ids are hashes, or one hash stands for two ids."""
        return self.untouched or self._mixed

    def take(self, signed: tuple[str, str], span: PastedSpan, place: Place) -> bool:
        """Store a span if its ids differ from the signed ones and are hashes; return whether they are.

        Args:
            signed: The signed ids of its trace and of itself.
            span: The span.
            place: The record on it.
        """
        if not all(shown and all(map(is_hashed, shown)) for shown in (span.trace_ids, span.span_ids)):
            self.untouched = True
            return False
        for what, known, shown in zip(("trace", "span"), signed, (span.trace_ids, span.span_ids), strict=True):
            for item in {str(value).strip().lower().replace("-", "") for value in shown}:
                same = self._hashes.setdefault((what, known), item) == item
                self._mixed |= not same or self._signed.setdefault((what, item), known) != known
        self.places.append(place)
        return True


class SpanBlock(NamedTuple):
    """Consecutive documents, and the malformed parts between them.

    Attributes:
        items: The documents, malformed parts, and facts that are known already.
        end: Number of bytes of the files up to its end.
    """

    items: Sequence[Document | Malformed | SpanFacts]
    end: int


def read_block(
    block: SpanBlock, *, trust: TrustStore | None, redacted: Collection[str], proofs: str | None, keep: bool = False
) -> Iterator[tuple[list[SpanFacts], int]]:
    """Yield the facts of the spans of a block, in batches, with the bytes read.

    Args:
        block: The block.
        trust: The trusted keys, or ``None``.
        redacted: Attributes that a collector is known to rewrite.
        proofs: The file with the records that a ledger proves.
        keep: Return the spans themselves as well.
    """
    reader = SpanReader(trust, redacted, keep=keep)
    with nullcontext() if proofs is None else closing(Proofs(proofs)) as reader.proofs:
        for facts in reader.read(_items(block)):
            yield facts, block.end


def _items(block: SpanBlock) -> Iterator[SpanData | Malformed | SpanFacts]:
    """Yield the spans of a block, its malformed parts, and facts, in order."""
    for item in block.items:
        if isinstance(item, Document):
            yield from spans_of(item)
        else:
            yield item


def cannot_be_read(error: OSError) -> SpanFacts:
    """Return the facts for a file that cannot be read to its end."""
    if isinstance(error, InflatedError):
        return SpanFacts([(READ, "inflates_too_far", str(error), NOWHERE)])
    return SpanFacts([(READ, "unreadable", _UNREADABLE, NOWHERE)])


@final
class SpanReader:
    """Reads spans, each by itself.

    Args:
        trust: The trusted keys; with ``None``, nothing is verified.
        redacted: Attributes that a collector is known to rewrite; a change of them is not a contradiction.
        keep: Return the spans themselves as well.

    Attributes:
        proofs: Looks up the records that a verified ledger proves; their signatures on spans are not checked.
        rewritten: The pasted spans whose ids are hashes.
    """

    def __init__(self, trust: TrustStore | None, redacted: Collection[str], *, keep: bool = False) -> None:
        self._keep = keep
        self.proofs: Proofs | None = None
        self.rewritten = Rewritten()
        self._trust = trust
        self._proved: Mapping[bytes, bytes] = {}
        self._comparison = SpanComparison(COPY, redacted)

    def read(self, items: Iterable[_Item]) -> Iterator[list[SpanFacts]]:
        """Yield the facts of spans in batches, since one document can have millions of spans.

        Raises:
            ConfigurationError: They are in Protocol Buffers, whose reader is not installed.
        """
        rest = iter(items)
        while some := tuple(islice(rest, _AT_ONCE)):
            if self.proofs is not None:
                self._proved = self.proofs.of(_record_ids(some))
            yield self._facts(some)

    def _facts(self, items: Sequence[_Item]) -> list[SpanFacts]:
        """Return the facts about the items of a batch."""
        begun = [self._begun(item) for item in items]
        spans = [(item, facts) for item, facts in zip(items, begun, strict=True) if isinstance(item, _SPANS)]
        spans = [(span, facts) for span, facts in spans if self._is_signed(span, facts)]
        if self._trust is not None:
            self._compare(self._checked(spans, self._trust))
        return begun

    def _begun(self, item: _Item) -> SpanFacts:
        """Return the initial facts about an item."""
        if isinstance(item, SpanData):
            return SpanFacts([], {"spans": 1}, call=ToolCall.of(item), span=item if self._keep else None)
        if isinstance(item, PastedSpan):
            return SpanFacts([], {"spans": 1})
        if isinstance(item, Malformed) and item.doubled:
            problem = (COPY, "field_doubled", f"{item.message}: one of the two was added", Place(line=item.line))
            return SpanFacts([problem], {"malformed": 1, "contradicted": 1})
        if isinstance(item, Malformed):
            problem = (READ, "malformed_document", item.message, Place(line=item.line))
            return SpanFacts([problem], {"malformed": 1})
        return item

    def _is_signed(self, span: _Span, facts: SpanFacts) -> bool:
        """Return whether a span has an attestation."""
        attributes = span.attributes
        if _PAYLOAD in attributes or any(name.startswith(ATTESTATION) for name in attributes):
            facts.count("records")
            return True
        if any(name.startswith(OURS) for name in attributes) or self._comparison.claims(span):
            message = f"the span has {OURS}* attributes but no signature; it was removed or forged"
            facts.add(SIGNED, "unsigned", message, _claimed_place(span))
            facts.count("records")
            facts.count("contradicted")
        return False

    def _checked(
        self, spans: Sequence[tuple[_Span, SpanFacts]], trust: TrustStore
    ) -> list[tuple[_Span, SpanFacts, AnyRecord]]:
        """Check the signatures and the records on spans; return the valid records with their spans."""
        attested: list[tuple[_Span, SpanFacts, Attestation]] = []
        for span, facts in spans:
            try:
                attested.append((span, facts, attestation_on(span.attributes)))
            except VerificationError as error:
                _refuse(span, facts, error)
        signed: list[tuple[_Span, SpanFacts, Attestation, bytes]] = []
        for span, facts, attestation in attested:
            try:
                body = signed_body(attestation, trust, self._proved_by(span, facts))
                signed.append((span, facts, attestation, body))
            except VerificationError as error:
                _refuse(span, facts, error)
        records: list[tuple[_Span, SpanFacts, AnyRecord]] = []
        for span, facts, attestation, body in signed:
            try:
                record = record_in(body, attestation, trust)
            except VerificationError as error:
                _refuse(span, facts, error)
                continue
            records.append((span, facts, record))
            facts.record, facts.place = CheckedRecord(body, leaf_hash(body), record), _place(record, span.line)
            if is_certified(attestation.keyid, trust):
                facts.count("certified")
        return records

    def _compare(self, records: Sequence[tuple[_Span, SpanFacts, AnyRecord]]) -> None:
        """Compare spans with their records."""
        records = [each for each in records if self._belongs(*each)]
        for span, facts, record in records:
            self._comparison.compare_copies(record, span, facts)
        for span, facts, record in records:
            self._comparison.compare_members(record, span, facts)
        for span, facts, record in records:
            self._comparison.compare_claims(record, span, facts)
            if GRANT_ATTRIBUTE in span.attributes:
                chain = record.chain if isinstance(record, OF_TASKS) else None
                facts.grants = grants_on(span.attributes, chain or ())

    def _proved_by(self, span: _Span, facts: SpanFacts) -> Callable[[bytes], bool] | None:
        """Return a check of whether the ledger proves the bytes of the record on a span; ``None`` if it cannot."""
        # The attribute is only a key for the lookup.
        half = self._proved.get(_bytes_of(span.attributes.get(_RECORD_ID))) if self._proved else None
        if half is None:
            return None

        def proved(body: bytes) -> bool:
            if half != leaf_hash(body)[:HALF]:
                return False
            facts.count("proved_by_ledger")
            return True

        return proved

    def _belongs(self, span: _Span, facts: SpanFacts, record: AnyRecord) -> bool:
        """Return whether a record may belong to the span that carries it; report a moved record."""
        facts.belongs = self._is_named(span, facts, record)
        if facts.belongs is False:
            facts.record = None
            facts.add(SPAN, "wrong_span", MOVED)
            facts.count("contradicted")
        return facts.belongs is not False

    def _is_named(self, span: _Span, facts: SpanFacts, record: AnyRecord) -> bool | None:
        """Return whether trace and span are those of the record; ``None`` if the span does not show its ids."""
        signed = span_ids(record)
        if isinstance(span, SpanData):
            return signed == (span.trace_id, span.span_id)
        trace, own = (
            {likeness(shown, expected) for shown in ids} - {"unknown"}
            for expected, ids in zip(signed, (span.trace_ids, span.span_ids), strict=True)
        )
        if "other" in trace | own:
            if not self.rewritten.take(signed, span, facts.place):
                return False
            return None
        self.rewritten.untouched |= bool(trace and own)
        for name, kinds in (("trace", trace), ("span", own)):
            if not kinds:
                message = f"the {name} id of the span is missing beside its attributes; copy the whole span"
                facts.add(SPAN, "span_not_named", message)
        if trace == {"tail"}:
            message = "the trace id has only its lower 64 bits, which are those that are signed"
            facts.add(SPAN, "trace_id_cut", message)
        return True if trace and own else None


def _refuse(span: _Span, facts: SpanFacts, error: VerificationError) -> None:
    """Report a rejected record."""
    facts.add(_STEP_OF.get(error.code, SIGNED), error.code, str(error), _claimed_place(span))
    unclear = "unclear" if error.code == "unknown_record" else "contradicted"
    facts.count("unknown_key" if error.code in _UNKNOWN else unclear)


def _place(record: AnyRecord, line: int) -> Place:
    return Place(record.id, record.stream.id, record.stream.number, line)


def _record_ids(items: Sequence[_Item]) -> set[bytes]:
    """Return the ids of records that spans name, 16 bytes each."""
    named = {_bytes_of(item.attributes.get(_RECORD_ID)) for item in items if isinstance(item, _SPANS)}
    return named - {b""}


def _bytes_of(identifier: object) -> bytes:
    """Return the bytes of an id, or empty bytes for a malformed one."""
    return bytes_of_id(identifier) if isinstance(identifier, str) and is_id128(identifier) else b""


def _claimed_place(span: _Span) -> Place:
    """Return the place that a span claims for its record, for a message about a rejected record."""
    identifier, stream = (span.attributes.get(OURS + name) for name in ("record.id", "stream.id"))
    return Place(
        identifier[:64] if isinstance(identifier, str) else None,
        stream[:64] if isinstance(stream, str) else None,
        line=span.line,
    )
