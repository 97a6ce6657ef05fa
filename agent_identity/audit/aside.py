"""Reads names of ours on the resource, scope, events and links of a span."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, final

from agent_identity.audit.attestations import OURS
from agent_identity.evidence.mirror import MIRRORED
from agent_identity.evidence.otlp import SpanData
from agent_identity.evidence.pasted import PastedSpan

__all__ = ["Aside", "Claim"]


class Claim(NamedTuple):
    """Attributes of ours that are none of the span's own.

    Attributes:
        where: What they stand on.
        attributes: Those that a span of ours has as well.
        unsigned: Those of them that are no copy of the record, so that the span's own are what they have to be.
        stranger: One that no span of ours has; one is enough, or the work grew with the product of names and spans.
    """

    where: str
    attributes: Mapping[str, object]
    unsigned: Sequence[str]
    stranger: str | None


@final
class Aside:
    """Looks beside the attributes of spans; back ends show what stands there beside them.

    Args:
        known: The attributes that a span of ours has.
        redacted: Attributes that a collector is known to rewrite.
    """

    def __init__(self, known: Collection[str], redacted: Collection[str]) -> None:
        self._known, self._redacted = frozenset(known), frozenset(redacted)
        self._shared: tuple[Mapping[str, object], Mapping[str, object]] = ({}, {})
        self._claims: tuple[Claim, ...] = ()

    def claims(self, span: SpanData | PastedSpan) -> tuple[Claim, ...]:
        """Return what stands beside the attributes of a span; of one that was pasted, on its events and links."""
        if isinstance(span, PastedSpan):
            return tuple(self._own(span.aside))
        # Most spans share both with the one before.
        if span.resource is not self._shared[0] or span.scope_attributes is not self._shared[1]:
            self._shared = span.resource, span.scope_attributes
            found = (("the resource", span.resource), ("the scope", span.scope_attributes))
            self._claims = tuple(claim for where, attributes in found for claim in self._claim(where, attributes))
        if not span.aside:
            return self._claims
        return (*self._claims, *self._own(span.aside))

    def _own(self, aside: Sequence[Mapping[str, object]]) -> Iterator[Claim]:
        return (claim for attributes in aside for claim in self._claim("an event or link", attributes))

    def _claim(self, where: str, attributes: Mapping[str, object]) -> Iterator[Claim]:
        names = {name for name in attributes if name.startswith(OURS)} - self._redacted
        if names:
            shared = {name: attributes[name] for name in attributes if name in names & self._known}
            unsigned = [name for name in shared if name not in MIRRORED]
            yield Claim(where, shared, unsigned, min(names - self._known, default=None))
