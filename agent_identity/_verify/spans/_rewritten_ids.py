"""Distinguishes spans of stores that rewrite ids from spans with moved records."""

from typing import final

from agent_identity._spans.displayed_values import is_hashed
from agent_identity._spans.pasted_spans import PastedSpan
from agent_identity._verify.report.findings import Place

__all__ = ["Rewritten"]


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
