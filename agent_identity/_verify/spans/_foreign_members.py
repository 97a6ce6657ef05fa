"""Reads our attributes on the resource, scope, events and links of a span."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, final

from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.pasted_spans import PastedSpan
from agent_identity._spans.span_attributes import MIRRORED
from agent_identity._verify.spans.attestations import OURS

__all__ = ["Aside", "Claim"]


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
class Aside:
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
            return self._own(span.aside)
        # Most spans share both with the one before.
        if span.resource is not self._shared[0] or span.scope_attributes is not self._shared[1]:
            self._shared = span.resource, span.scope_attributes
            of_resource = self._claim("the resource", span.resource)
            self._claims = of_resource + self._claim("the scope", span.scope_attributes)
        return self._claims + self._own(span.aside) if span.aside else self._claims

    def _own(self, aside: Sequence[Mapping[str, object]]) -> tuple[Claim, ...]:
        return tuple(claim for attributes in aside for claim in self._claim("an event or link", attributes))

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
