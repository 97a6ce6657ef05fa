"""Reads one span by itself: its signed record, and whether its copy, ids and grants agree with it."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._audit.ledger import HALF, CheckedRecord, Proofs, certified_record
from agent_identity._audit.report import NOWHERE, Place
from agent_identity._audit.spans.attestations import ATTESTATION, OURS, open_record
from agent_identity._audit.spans.coverage import ToolCall
from agent_identity._audit.spans.rewritten_ids import Rewritten
from agent_identity._audit.spans.span_comparison import SpanComparison
from agent_identity._audit.spans.span_grants import GrantState, grants_on
from agent_identity._evidence.record import OF_TASKS, AnyRecord
from agent_identity._evidence.spans import (
    GRANT_ATTRIBUTE,
    Document,
    Malformed,
    PastedSpan,
    SpanData,
    likeness,
    span_ids,
    spans_of,
)
from agent_identity._evidence.storage import InflatedError
from agent_identity._evidence.transparency import leaf_hash
from agent_identity._identity.trust import TrustStore
from agent_identity.errors import VerificationError

__all__ = [
    "COPY",
    "FORM",
    "MOVED",
    "READ",
    "SIGNED",
    "SPAN",
    "SpanBlock",
    "SpanFacts",
    "SpanReader",
    "cannot_be_read",
    "read_block",
]

READ, SIGNED, FORM, SPAN, COPY = range(1, 6)
"""The steps that need only one span."""

MOVED: Final = "the record belongs to another span; it was moved"
_RECORD_ID: Final = OURS + "record.id"
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAYLOAD: Final = ATTESTATION + "payload"
_UNKNOWN: Final = frozenset({"unknown_key", "key_not_valid_then", "key_revoked"})
_STEP_OF: Final[Mapping[str, int]] = {"malformed_record": FORM, "unknown_record": FORM}
_UNREADABLE: Final = "the file of spans cannot be read to its end; copy it again"
_AT_ONCE: Final = 1_024
"""Number of spans whose proofs are looked up together."""

_Span: TypeAlias = SpanData | PastedSpan
_Item: TypeAlias = _Span | Malformed
_Problem: TypeAlias = tuple[int, str, str, Place]


@final
@dataclass(slots=True)
class SpanFacts:
    """Facts about one span, or about a malformed part of a file.

    Attributes:
        problems: The problems: step, code, message and place.
        counts: Counters by name.
        record: Its record, if that is signed and belongs to it.
        place: The place of the record.
        belongs: Whether the ids show that the record belongs to the span; ``None`` if the ids do not decide it.
        agrees: Whether the span agrees with the record; ``None`` if a difference may be legitimate.
        grants: The state of the grants on it, and the grants that the record names, each with its hash.
        call: The tool call of the span, by any library.
        signed: Number of attributes that copy the record.
        hidden: Number of these that are missing or blanked.
        span: The span itself, if it was asked for.
    """

    problems: Sequence[_Problem] = ()
    counts: Mapping[str, int] = field(default_factory=dict[str, int])
    record: CheckedRecord | None = None
    place: Place = NOWHERE
    belongs: bool | None = None
    agrees: bool | None = None
    grants: tuple[GrantState, Sequence[tuple[str, str]]] = ("absent", ())
    call: ToolCall | None = None
    signed: int = 0
    hidden: int = 0
    span: SpanData | None = None


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
        for item in block.items:
            if isinstance(item, SpanFacts):
                yield [item], block.end
                continue
            for facts in reader.read((item,) if isinstance(item, Malformed) else spans_of(item)):
                yield facts, block.end


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
        self._problems: list[_Problem] = []
        self._counts: Counter[str] = Counter()
        self._comparison = SpanComparison(self._add, self._counts, COPY, redacted)

    def read(self, items: Iterable[_Item]) -> Iterator[list[SpanFacts]]:
        """Yield the facts of spans in batches, since one document can have millions of spans.

        Raises:
            ConfigurationError: They are in Protocol Buffers, whose reader is not installed.
        """
        rest = iter(items)
        while some := tuple(islice(rest, _AT_ONCE)):
            if self.proofs is not None:
                self._proved = self.proofs.of(_record_ids(some))
            yield [self._facts(item) for item in some]

    def _add(self, step: int, code: str, message: str, place: Place) -> None:
        self._problems.append((step, code, message, place))

    def _facts(self, item: _Item) -> SpanFacts:
        if isinstance(item, Malformed):
            problem = (READ, "malformed_document", item.message, Place(line=item.line))
            return SpanFacts([problem], {"malformed": 1})
        self._problems = []
        self._counts.clear()
        self._counts["spans"] = 1
        comparison = self._comparison
        comparison.signed = comparison.hidden = 0
        span = item if isinstance(item, SpanData) else None
        facts = SpanFacts(call=None if span is None else ToolCall.of(span), span=span if self._keep else None)
        self._open(item, facts)
        facts.problems, facts.counts = self._problems, dict(self._counts)
        facts.signed, facts.hidden = comparison.signed, comparison.hidden
        return facts

    def _open(self, span: _Span, facts: SpanFacts) -> None:
        """Open the record of a span."""
        attributes, counts = span.attributes, self._counts
        if _PAYLOAD not in attributes and not any(name.startswith(ATTESTATION) for name in attributes):
            self._refuse_unsigned(span)
            return
        counts["records"] += 1
        if self._trust is None:
            return
        proved = partial(self._is_proved, attributes) if self._proved else None
        try:
            record, body = open_record(attributes, self._trust, proved)
        except VerificationError as error:
            self._add(_STEP_OF.get(error.code, SIGNED), error.code, str(error), _claimed_place(span))
            unclear = "unclear" if error.code == "unknown_record" else "contradicted"
            counts["unknown_key" if error.code in _UNKNOWN else unclear] += 1
            return
        for counter in certified_record(attributes, self._trust):
            counts[counter] += 1
        self._judge(span, record, body, facts)

    def _refuse_unsigned(self, span: _Span) -> None:
        """Report a span with our attributes that carries no record."""
        if any(name.startswith(OURS) for name in span.attributes) or self._comparison.claims(span):
            message = f"the span has {OURS}* attributes but no signature; it was removed or forged"
            self._add(SIGNED, "unsigned", message, _claimed_place(span))
            self._counts["records"] += 1
            self._counts["contradicted"] += 1

    def _is_proved(self, attributes: Mapping[str, object], body: bytes) -> bool:
        """Return whether the ledger proves this very record."""
        # The attribute is only a key for the lookup.
        half = self._proved.get(_bytes_of(attributes.get(_RECORD_ID)))
        if half is None or half != leaf_hash(body)[:HALF]:
            return False
        self._counts["proved_by_ledger"] += 1
        return True

    def _judge(self, span: _Span, record: AnyRecord, body: bytes, facts: SpanFacts) -> None:
        """Compare a span with its record."""
        place = _place(record, span.line)
        belongs = self._belongs(record, span, place)
        if belongs is False:
            self._add(SPAN, "wrong_span", MOVED, place)
            self._counts["contradicted"] += 1
            return
        facts.agrees = self._comparison.agrees(record, span, place, bound=belongs is not None)
        facts.record, facts.place, facts.belongs = CheckedRecord(body, leaf_hash(body), record), place, belongs
        if GRANT_ATTRIBUTE in span.attributes:
            chain = record.chain if isinstance(record, OF_TASKS) else None
            facts.grants = grants_on(span.attributes, chain or ())

    def _belongs(self, record: AnyRecord, span: _Span, place: Place) -> bool | None:
        """Return whether trace and span are those of the record; ``None`` if the span does not show its ids."""
        signed = span_ids(record)
        if isinstance(span, SpanData):
            return signed == (span.trace_id, span.span_id)
        trace, own = (
            {likeness(shown, expected) for shown in ids} - {"unknown"}
            for expected, ids in zip(signed, (span.trace_ids, span.span_ids), strict=True)
        )
        if "other" in trace | own:
            if not self.rewritten.take(signed, span, place):
                return False
            return None
        self.rewritten.untouched |= bool(trace and own)
        for name, kinds in (("trace", trace), ("span", own)):
            if not kinds:
                message = f"the {name} id of the span is missing beside its attributes; copy the whole span"
                self._add(SPAN, "span_not_named", message, place)
        if trace == {"tail"}:
            message = "the trace id has only its lower 64 bits, which are those that are signed"
            self._add(SPAN, "trace_id_cut", message, place)
        return True if trace and own else None


def _place(record: AnyRecord, line: int) -> Place:
    return Place(record.id, record.stream.id, record.stream.number, line)


def _record_ids(items: Sequence[_Item]) -> set[bytes]:
    """Return the ids of records that spans name, 16 bytes each."""
    named = {_bytes_of(item.attributes.get(_RECORD_ID)) for item in items if not isinstance(item, Malformed)}
    return named - {b""}


def _bytes_of(identifier: object) -> bytes:
    """Return the bytes of an id, or empty bytes for a malformed one."""
    if not isinstance(identifier, str) or not _UUID.fullmatch(identifier):
        return b""
    return bytes.fromhex(identifier.replace("-", ""))


def _claimed_place(span: _Span) -> Place:
    """Return the place that a span claims for its record, for a message about a rejected record."""
    identifier, stream = (span.attributes.get(OURS + name) for name in ("record.id", "stream.id"))
    return Place(
        identifier[:64] if isinstance(identifier, str) else None,
        stream[:64] if isinstance(stream, str) else None,
        line=span.line,
    )
