"""Facts about one span and its grants, from which the verification of all spans is computed."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final

from agent_identity._identity.keys.jws import token_hash
from agent_identity._record.parts import Hop
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.span_attributes import verdict_on
from agent_identity._spans.span_from_record import GRANT_ATTRIBUTE
from agent_identity._verify.ledger.record_check import CheckedRecord
from agent_identity._verify.report.findings import NOWHERE, Place
from agent_identity._verify.spans._coverage import ToolCall
from agent_identity._verify.spans.attestations import ATTESTATION

GrantState: TypeAlias = Literal["given", "absent", "cut", "bad"]
"""State of the grants on a span.

``absent``: the span never had them, or a scrubber removed them visibly; ``cut``: an attribute length limit may have
cut them; ``bad``: they differ from those that the record names.
"""

_JWS: Final = re.compile(r"[\w-]+\.[\w-]+\.[\w-]{86}", re.ASCII)
_CUT: Final = re.compile(r"[\w-]*(?:\.[\w-]*(?:\.[\w-]{0,85})?)?(?:(?:\.\.\.|\u2026)[^~]{0,64})?", re.ASCII)
"""The beginning of a grant, with the marks of some stores for a cut value."""


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


def grants_on(attributes: Mapping[str, object], chain: Sequence[Hop]) -> tuple[GrantState, Sequence[tuple[str, str]]]:
    """Return the state of the grants on a span, and the grants that the record names, each with its hash.

    Args:
        attributes: The attributes of the span.
        chain: The chain that the record names, or an empty one.
    """
    value = attributes.get(GRANT_ATTRIBUTE)
    # The grants are not signed, so a blanked value has nothing to be compared with.
    if verdict_on("", value) in ("missing", "redacted"):
        return "absent", ()
    if not isinstance(value, str):
        return "bad", ()
    whole = value.split("~")
    rest = None if _JWS.fullmatch(whole[-1]) else whole.pop()
    if not all(map(_JWS.fullmatch, whole)):
        return "bad", ()
    hashes, named = [token_hash(token) for token in whole], [hop.grant for hop in chain]
    if rest is None and hashes == named[-len(whole) :]:
        return "given", list(zip(whole, hashes, strict=True))
    # A task that was opened elsewhere has its whole chain, from the root on; others have one grant.
    begins = _CUT.fullmatch(rest or "") is not None and len(whole) < len(named) and hashes == named[: len(whole)]
    # A length limit cuts every longer value, except the signed record, which must be exempt from it.
    return ("cut" if begins and len(value) == _longest(attributes) and _is_limit(value) else "bad"), ()


def _longest(attributes: Mapping[str, object]) -> int:
    limited = (value for name, value in attributes.items() if not name.startswith(ATTESTATION))
    return max(len(value) for value in limited if isinstance(value, str))


def _is_limit(text: str) -> bool:
    """Return whether a text has a typical length limit, or a mark that it was cut."""
    size = len(text)
    return not text.isascii() or "..." in text or not size % 50 or not size & (size - 1) or not size & (size + 1)
