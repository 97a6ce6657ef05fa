"""Facts about one span, from which the verification of all spans is computed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

from agent_identity._spans.otlp_json import SpanData
from agent_identity._verify.ledger.record_check import CheckedRecord
from agent_identity._verify.report.findings import NOWHERE, Place
from agent_identity._verify.spans._coverage import ToolCall
from agent_identity._verify.spans._span_grants import GrantState

_Problem: TypeAlias = tuple[int, str, str, Place]


@final
@dataclass(slots=True)
class SpanFacts:
    """Facts about one span, or about a malformed part of a file.

    Attributes:
        problems: The problems: step, code, message and place.
        counts: Counters by name.
        record: The record on it, if that is signed and belongs to it.
        place: The place of the record.
        belongs: Whether the ids show that the record belongs to the span; ``None`` if the ids do not decide it.
        contradicted: Whether the span contradicts the record.
        doubted: Whether the span differs from the record in a way that may be legitimate.
        grants: The state of the grants on it, and the grants that the record names, with their hashes.
        call: The tool call that the span describes, from any library.
        signed: Number of attributes that copy the record.
        hidden: Number of those attributes that are missing or blanked.
        unverified: The attributes that no record states, so that nothing is known of their values.
        span: The span itself, if the reader keeps spans.
    """

    problems: list[_Problem] = field(default_factory=list[_Problem])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    record: CheckedRecord | None = None
    place: Place = NOWHERE
    belongs: bool | None = None
    contradicted: bool = False
    doubted: bool = False
    grants: tuple[GrantState, Sequence[tuple[str, str]]] = ("absent", ())
    call: ToolCall | None = None
    signed: int = 0
    hidden: int = 0
    unverified: Sequence[str] = ()
    span: SpanData | None = None

    @property
    def agrees(self) -> bool | None:
        """True if the span agrees with the record; ``None`` if a difference may be legitimate."""
        return False if self.contradicted else None if self.doubted else True

    def add(self, step: int, code: str, message: str, place: Place | None = None) -> None:
        """Store a problem, at the place of the record or at another one."""
        self.problems.append((step, code, message, self.place if place is None else place))

    def count(self, name: str) -> None:
        """Increase a counter by one."""
        self.counts[name] = self.counts.get(name, 0) + 1
