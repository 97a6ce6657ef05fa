"""Reads one span by itself: its signed record, and whether its copy, ids and grants agree with it.

Name, times, parent and status are not signed, but :func:`appearance_of` derives them from the record.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias, final

from agent_identity._identity.common.ids import bytes_of_id, is_id128
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.schema import OF_TASKS, AnyRecord, Intent, Outcome, TaskEnd, TaskStart
from agent_identity._spans.displayed_values import is_hashed, is_internal, likeness, same_duration, same_time, status_of
from agent_identity._spans.envelope import ATTESTATION_ATTRIBUTES, Attestation
from agent_identity._spans.otlp_json import Document, Malformed, SpanData
from agent_identity._spans.otlp_reader import spans_of
from agent_identity._spans.pasted_spans import PastedSpan
from agent_identity._spans.span_attributes import APPROVER_ATTRIBUTE, MIRRORED, deviations, verdict_on
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE, SCOPE, Appearance, appearance_of, span_ids
from agent_identity._storage.decompress import InflatedError
from agent_identity._verify.ledger.certificates_check import is_certified
from agent_identity._verify.ledger.index import HALF, Proofs
from agent_identity._verify.ledger.record_check import CheckedRecord
from agent_identity._verify.report.findings import NOWHERE, Place
from agent_identity._verify.spans._coverage import ToolCall
from agent_identity._verify.spans._span_facts import SpanFacts, grants_on
from agent_identity._verify.spans.attestations import ATTESTATION, OURS, attestation_on, record_in, signed_body
from agent_identity.errors import VerificationError

Standing: TypeAlias = Literal["changed", "unclear", "unreadable", "retyped", "theirs", "recased", "hidden"]
"""Relation of a member to the record.

``changed``: it contradicts the record; ``unclear``: it differs, and another library or the application may have set
it; ``theirs``: others may have set it, and it hides nothing; ``hidden``: it is missing or blanked; ``retyped``: a store
read it as JSON; ``unreadable``: it has an unknown form; ``recased``: it differs in upper and lower case, which some
stores change.
"""

_OF_SPANS: Final = (Outcome, Intent, TaskEnd, TaskStart)
_INTERNAL: Final = 1
_OPERATIONS: Final = frozenset({f"{SCOPE}.internal", "opentelemetry.internal", "internal"})
"""Operation names of Datadog for internal spans, whose names it shows as the resource."""

_NONE: Final = "0" * 16

_NAMED: Final = 5  # Attributes that a message names.
_LONGEST: Final = 128  # Characters of a foreign name in a message.
_OF_OURS: Final = frozenset({*MIRRORED, *ATTESTATION_ATTRIBUTES.values(), GRANT_ATTRIBUTE, APPROVER_ATTRIBUTE})
"""Every attribute of ours: copies of record members, the attestation, the grant, and the approver."""

_COMPARED: Final = (_OF_OURS | {"gen_ai.operation.name", "gen_ai.tool.type"}) - {APPROVER_ATTRIBUTE}
"""The attributes that are compared with the record, or are part of the evidence."""

_OTHERS_MAY_SET: Final = frozenset(
    {"user.id", "error.type", "gen_ai.agent.name", "gen_ai.agent.version", "gen_ai.tool.call.id"}
)
"""Conventional attributes that other libraries and collectors set and hash as well."""

_THEIRS: Final = _OTHERS_MAY_SET - {"user.id"}
"""Of these, the attributes that another library sets on its own spans. A changed user id stays worth a notice."""

_UNCLEAR: Final = (
    "of the span differs from its record, and may have been changed: this may be a span of another library that "
    "carries our record, or the application may have set it; copy it with its scope"
)
_DOUBTS: Final[Mapping[str, str]] = MappingProxyType(
    {"unclear": _UNCLEAR, "unreadable": "of the span has an unknown form; compare it with the record yourself"}
)
_NOTICES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "theirs": "differs from the record; the application may have set it",
        "recased": "differs from the record in upper and lower case, which some stores change",
    }
)


class Member(NamedTuple):
    """A member of a span that differs from its record.

    Attributes:
        name: The name of the member.
        standing: Its relation to the record.
    """

    name: str
    standing: Standing


class Claim(NamedTuple):
    """Our attributes on another part than the span itself.

    Attributes:
        where: The part that carries them.
        attributes: Those that our spans have as well.
        unsigned: Those of them that do not copy the record; they must equal the span's own.
        stranger: One name that our spans do not have; one is enough to report, and bounds the work.
    """

    where: str
    attributes: Mapping[str, object]
    unsigned: Sequence[str]
    stranger: str | None


@final
class NestedClaims:
    """Collects our attributes from the parts of spans that back ends show beside the span's own attributes.

    Args:
        known: The attributes that a span of ours has.
        redacted: Attributes that a collector is known to rewrite.
    """

    def __init__(self, known: Collection[str], redacted: Collection[str]) -> None:
        self._known, self._redacted = frozenset(known), frozenset(redacted)
        self._shared: tuple[Mapping[str, object], Mapping[str, object]] = ({}, {})
        self._claims: tuple[Claim, ...] = ()

    def claims(self, span: SpanData | PastedSpan) -> tuple[Claim, ...]:
        """Return our attributes beside those of the span; for a pasted span, those on its events and links."""
        if isinstance(span, PastedSpan):
            return self._own(span.nested)
        # Most spans share both with the one before.
        if span.resource is not self._shared[0] or span.scope_attributes is not self._shared[1]:
            self._shared = span.resource, span.scope_attributes
            of_resource = self._claim("the resource", span.resource)
            self._claims = of_resource + self._claim("the scope", span.scope_attributes)
        return self._claims + self._own(span.nested) if span.nested else self._claims

    def _own(self, nested: Sequence[Mapping[str, object]]) -> tuple[Claim, ...]:
        return tuple(claim for attributes in nested for claim in self._claim("an event or link", attributes))

    def _claim(self, where: str, attributes: Mapping[str, object]) -> tuple[Claim, ...]:
        """Return the claim of a part in a tuple of one, or an empty tuple."""
        if not attributes:
            return ()
        names = {name for name in attributes if name.startswith(OURS) and name not in self._redacted}
        if not names:
            return ()
        shared = {name: attributes[name] for name in attributes if name in names & self._known}
        unsigned = [name for name in shared if name not in MIRRORED]
        return (Claim(where, shared, unsigned, min(names - self._known, default=None)),)


@final
class SpanComparison:
    """Compares spans with the records that they carry.

    Args:
        step: The number of the step.
        redacted: Attributes that a collector is known to rewrite; a change of them is not a contradiction.
    """

    def __init__(self, step: int, redacted: Collection[str]) -> None:
        self._step = step
        self._redacted = _OTHERS_MAY_SET.union(redacted)
        self._nested = NestedClaims(_OF_OURS, self._redacted)

    def claims(self, span: SpanData | PastedSpan) -> tuple[Claim, ...]:
        """Return our attributes beside those of the span."""
        return self._nested.claims(span)

    def compare_copies(self, record: AnyRecord, span: SpanData | PastedSpan, facts: SpanFacts) -> None:
        """Compare the plain attributes of a span with its record.

        Args:
            record: The record.
            span: The span.
            facts: The facts about the span; findings are added to them.
        """
        hidden: list[str] = []
        facts.signed, fields = deviations(record, span.attributes)
        beside: list[str] = []
        for field in fields:
            if field.verdict == "unsigned":
                beside.append(field.attribute)
                continue
            if field.attribute in _THEIRS and field.verdict in ("changed", "retyped") and _is_foreign(span):
                continue
            if field.verdict in ("changed", "retyped") and field.attribute in self._redacted:
                message = f"the value of {field.attribute} differs from the signed one; it was changed"
                facts.add(self._step, "copy_changed", message)
            elif field.verdict == "changed":
                facts.contradicted = True
                message = f"the value of {field.attribute} differs from the signed one; it was changed"
                facts.add(self._step, "field_changed", message)
            elif field.verdict == "retyped":
                self._report_retyped(field.attribute, facts)
            else:
                hidden.append(field.attribute)
        added = () if _COMPARED.issuperset(span.attributes) else self._added(record, span.attributes)
        for name in added:
            facts.contradicted = True
            message = f"the attribute {name[:_LONGEST]!a} is not signed; it was added"
            facts.add(self._step, "field_added", message)
        facts.hidden = len(hidden)
        facts.unverified = [*beside, *(span.attributes.keys() - _COMPARED - set(added))]
        if hidden:
            self._report_hidden(hidden, facts)

    def compare_members(self, record: AnyRecord, span: SpanData | PastedSpan, facts: SpanFacts) -> None:
        """Compare name, times, parent and status of a span with those of its record.

        Args:
            record: The record.
            span: The span.
            facts: The facts about the span; findings are added to them. If ``belongs`` is ``None``, a
                difference is only a doubt, because a store that changes ids may change other members too.
        """
        hidden: list[str] = []
        for name, standing in members_of(record, span):
            if standing == "hidden":
                hidden.append(name)
            elif standing in _NOTICES:
                facts.add(self._step, "copy_changed", f"the {name} {_NOTICES[standing]}")
            elif standing == "retyped":
                self._report_retyped(name, facts)
            elif standing in _DOUBTS or facts.belongs is None:
                message = f"the {name} {_DOUBTS.get(standing, _UNCLEAR)}, or verify an OTLP export"
                facts.add(self._step, "span_unlike_record", message)
                facts.doubted = True
            else:
                facts.contradicted = True
                message = f"the {name} of the span differs from its record; it was changed"
                facts.add(self._step, "field_changed", message)
        if hidden:
            self._report_hidden(hidden, facts)

    def compare_claims(self, record: AnyRecord, span: SpanData | PastedSpan, facts: SpanFacts) -> None:
        """Compare our attributes on the resource, scope, events and links of a span with its record.

        Args:
            record: The record.
            span: The span.
            facts: The facts about the span; findings are added to them.
        """
        for claim in self._nested.claims(span):
            wrong = [name for name in claim.unsigned if claim.attributes[name] != span.attributes.get(name)]
            wrong += [
                field.attribute
                for field in deviations(record, claim.attributes)[1]
                if field.verdict == "changed" and field.attribute in claim.attributes
            ]
            if claim.stranger is not None:
                wrong.append(claim.stranger)
            for name in wrong:
                facts.contradicted = True
                message = f"the attribute {name[:_LONGEST]!a} on {claim.where} is not signed; it was added"
                facts.add(self._step, "field_added", message)

    def _added(self, record: AnyRecord, attributes: Mapping[str, object]) -> Sequence[str]:
        """Return the attributes with our prefix that the span of a record does not have."""
        ours = {name for name in attributes if name.startswith(OURS)} - self._redacted
        approved = isinstance(record, Outcome | Intent) and record.decision.approval is not None
        return sorted(ours - (_OF_OURS if approved else _OF_OURS - {APPROVER_ATTRIBUTE}))

    def _report_retyped(self, name: str, facts: SpanFacts) -> None:
        message = f"the store shows {name} as JSON of another type than the signed one; look at its raw text"
        facts.add(self._step, "type_rewritten", message)
        facts.doubted = True

    def _report_hidden(self, hidden: Sequence[str], facts: SpanFacts) -> None:
        facts.count("redacted")
        message = f"{len(hidden)} attributes are missing or blanked: {', '.join(hidden[:_NAMED])}"
        facts.add(self._step, "copy_redacted", message)


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


def members_of(record: AnyRecord, span: SpanData | PastedSpan) -> Iterator[Member]:
    """Yield the members of a span that differ from those that follow from its record.

    A call may have the span of another library, with its own name, times and status; its scope tells it apart, and it
    is not compared. Without a scope, a difference is ``unclear``.

    Args:
        record: The verified record of the span.
        span: The span.
    """
    if not isinstance(record, _OF_SPANS):
        return
    expected = appearance_of(record)
    ours = _is_ours(expected, span)
    if ours is not False:
        members = _of_otlp(expected, span) if isinstance(span, SpanData) else _of_pasted(expected, span)
        for member in members:
            if ours:
                yield member
            elif member.standing != "hidden":  # Another library has other members.
                yield Member(member.name, "unclear") if member.standing == "changed" else member


def is_our_scope(name: str) -> bool:
    """Return whether the name of a scope is ours, ignoring case and surrounding blanks."""
    return name == SCOPE or name.strip().casefold() == SCOPE


def _is_ours(expected: Appearance, span: SpanData | PastedSpan) -> bool | None:
    """Return whether this library made the span; ``None`` if the span does not show its scope."""
    if isinstance(span, SpanData):
        # No other library makes spans of tasks, and OTLP does not rename scopes.
        return True if is_our_scope(span.scope) or expected.opens else None if not span.scope.strip() else False
    scopes = [name for name in span.scopes if isinstance(name, str) and name.strip()]
    if not scopes:
        return None
    return True if any(map(is_our_scope, scopes)) else None if expected.opens else False


def _of_otlp(expected: Appearance, span: SpanData) -> Iterator[Member]:
    if span.name != expected.name:
        yield from _text("name", expected.name, span.name)
    for name, signed, shown in (("start", expected.start, span.start), ("end", expected.end, span.end)):
        if shown != signed:
            yield Member(name, "changed" if shown else "hidden")
    if span.parent_id != expected.parent and (expected.begins or expected.parent is not None):
        yield Member("parent", "changed")
    if span.kind not in (0, _INTERNAL):
        yield Member("kind", "changed")
    if (span.status == "error") is not (expected.error is not None):
        yield from _status(expected, span.status)
    if span.status == "error" and expected.error is not None:
        yield from _text("status message", expected.error, span.status_message)
    elif span.status != "error" and span.status_message:
        yield Member("status message", "changed")
    yield from _conventions(expected, span.attributes)


def _of_pasted(expected: Appearance, span: PastedSpan) -> Iterator[Member]:
    yield from [member for shown in _names(span) for member in _pasted_name(expected, shown)]
    readings: tuple[tuple[str, int, Sequence[object], Callable[[object, int], bool | None]], ...] = (
        ("start", expected.start, span.starts, same_time),
        ("end", expected.end, span.ends, same_time),
        ("duration", expected.end - expected.start, span.durations, same_duration),
    )
    for name, signed, shown, same in readings:
        yield from _read(name, (same(item, signed) for item in shown))
    yield from _read("parent", (_is_parent(expected, item) for item in span.parents))
    yield from _read("kind", map(is_internal, span.kinds))
    yield from _pasted_status(expected, span)
    yield from _conventions(expected, span.attributes)


def _pasted_status(expected: Appearance, span: PastedSpan) -> Iterator[Member]:
    known = {status_of(item) for item in span.statuses}
    if None in known:
        yield Member("status", "unreadable")
    for status in known - {None}:
        yield from _status(expected, status)
    for message in span.messages:
        yield from _message(expected, known - {None}, message)


def _read(name: str, answers: Iterable[bool | None]) -> Iterator[Member]:
    """Yield a member whose value differs from the signed one, or has an unknown form."""
    results = set(answers)
    if False in results:
        yield Member(name, "changed")
    elif None in results:
        yield Member(name, "unreadable")


def _names(span: PastedSpan) -> Iterator[object]:
    """Yield the names of a span; some stores show the name as the resource of an operation."""
    for name in span.names:
        is_operation = isinstance(name, str) and name.casefold() in _OPERATIONS
        yield from (span.resources if is_operation and span.resources else (name,))


def _pasted_name(expected: Appearance, shown: object) -> Iterator[Member]:
    for member in _pasted_text("name", expected.name, shown):
        recased = isinstance(shown, str) and shown.casefold() == expected.name.casefold()
        yield Member("name", "recased") if recased else member


def _pasted_text(name: str, signed: str, shown: object) -> Iterator[Member]:
    for member in _text(name, signed, shown):
        unreadable = member.standing == "changed" and isinstance(shown, list | dict)
        yield Member(name, "unreadable") if unreadable else member


def _message(expected: Appearance, statuses: set[str | None], shown: object) -> Iterator[Member]:
    """Yield the status message if it differs from the record and the application did not set it."""
    if expected.error is not None:
        yield from _pasted_text("status message", expected.error, shown)
    elif "error" not in statuses:
        yield Member("status message", "unclear" if expected.ran and not statuses else "changed")


def _is_parent(expected: Appearance, shown: object) -> bool | None:
    """Return whether an id may be that of the parent; ``None`` for an unknown form."""
    if is_hashed(shown):
        return True
    like = likeness(shown, expected.parent or _NONE)
    if like == "unknown":
        return None
    return like != "other" or not (expected.begins or expected.parent)


def _status(expected: Appearance, status: str | None) -> Iterator[Member]:
    """Yield the status if it differs from the record, and mark one that the application may have set."""
    if expected.error is None:
        if status == "error":
            yield Member("status", "theirs" if expected.ran else "changed")
    elif status != "error":
        # OpenTelemetry keeps the status ok once the application has set it.
        yield Member("status", "unclear" if expected.ran and status == "ok" else "changed")


def _conventions(expected: Appearance, attributes: Mapping[str, object]) -> Iterator[Member]:
    for name, signed in expected.conventions.items():
        if attributes.get(name) != signed:
            yield from _text(name, signed, attributes.get(name))
    if "gen_ai.tool.type" not in expected.conventions and attributes.get("gen_ai.tool.type") == "function":
        yield Member("gen_ai.tool.type", "theirs" if expected.ran else "changed")


def _text(name: str, signed: str, shown: object) -> Iterator[Member]:
    verdict = verdict_on(signed, shown)
    if verdict in ("changed", "retyped"):
        yield Member(name, verdict)
    elif verdict != "match":
        yield Member(name, "hidden")


def _is_foreign(span: SpanData | PastedSpan) -> bool:
    """Return whether the scope of a span names another library."""
    return isinstance(span, SpanData) and bool(span.scope.strip()) and not is_our_scope(span.scope)
