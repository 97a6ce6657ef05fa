"""Whether name, times, parent and status of a span are those that the span of its record has.

They are not signed, but they follow from the record, which :func:`~agent_identity.evidence.appearance_of` says.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from agent_identity.evidence.mirror import verdict_on
from agent_identity.evidence.otlp import SpanData
from agent_identity.evidence.otlp_writing import SCOPE
from agent_identity.evidence.pasted import PastedSpan
from agent_identity.evidence.shown import is_hashed, likeness, same_duration, same_time, status_of
from agent_identity.evidence.span_copy import Appearance, appearance_of

__all__ = ["Member", "is_our_scope", "members_of"]

Standing: TypeAlias = Literal["changed", "unclear", "theirs", "hidden", "retyped"]
"""How a member relates to the record.

``changed``: it contradicts the record; ``unclear``: it differs, and may be the word of another library or of the
application; ``theirs``: others may have set it, and it hides nothing; ``hidden``: it is missing or blanked;
``retyped``: a store read it as JSON.
"""

_INTERNAL: Final = 1
_SPANNED: Final = frozenset({"outcome", "intent", "task_end", "task_start"})
_NONE: Final = "0" * 16


class Member(NamedTuple):
    """A member of a span that is not as its record has it.

    Attributes:
        name: What it is.
        standing: How it relates to the record.
    """

    name: str
    standing: Standing


def members_of(record: Mapping[str, object], span: SpanData | PastedSpan) -> Iterator[Member]:
    """Yield the members of a span that are not as the span of its record has them.

    A call may have the span of another library, which has its own name, times and status; such a span is told by its
    scope, and not compared. Where no scope is shown, nobody can tell, and a difference is ``unclear``.

    Args:
        record: The record, whose signature has been verified, and which belongs to the span.
        span: The span.
    """
    if record["kind"] not in _SPANNED:
        return
    seen = appearance_of(record)
    ours = _is_ours(seen, span)
    if ours is not False:
        found = _of_otlp(seen, span) if isinstance(span, SpanData) else _of_pasted(seen, span)
        for member in found:
            if ours:
                yield member
            elif member.standing != "hidden":  # Another library has other members.
                yield Member(member.name, "unclear") if member.standing == "changed" else member


def is_our_scope(name: str) -> bool:
    """Return whether the name of a scope reads as ours: in whichever case, with blanks around it or without."""
    return name == SCOPE or name.strip().casefold() == SCOPE


def _is_ours(seen: Appearance, span: SpanData | PastedSpan) -> bool | None:
    """Return whether the library made the span; ``None`` if nothing tells."""
    if isinstance(span, SpanData):
        # Nobody else makes spans of tasks, and OTLP is no store that would rename them.
        return True if seen.opens or is_our_scope(span.scope) else None if not span.scope.strip() else False
    scopes = [name for name in span.scopes if isinstance(name, str) and name.strip()]
    if not scopes:
        return None
    return True if any(map(is_our_scope, scopes)) else None if seen.opens else False


def _of_otlp(seen: Appearance, span: SpanData) -> Iterator[Member]:
    yield from _text("name", seen.name, span.name)
    for name, signed, shown in (("start", seen.start, span.start), ("end", seen.end, span.end)):
        if shown != signed:
            yield Member(name, "changed" if shown else "hidden")
    if span.parent_id != seen.parent and (seen.begins or seen.parent is not None):
        yield Member("parent", "changed")
    if span.kind not in (0, _INTERNAL):
        yield Member("kind", "changed")
    yield from _status(seen, span.status)
    if span.status == "error" and seen.error is not None:
        yield from _text("status message", seen.error, span.status_message)
    elif span.status != "error" and span.status_message:
        yield Member("status message", "changed")
    yield from _conventions(seen, span.attributes)


def _of_pasted(seen: Appearance, span: PastedSpan) -> Iterator[Member]:
    yield from [member for shown in span.names for member in _text("name", seen.name, shown)][:1]
    readings: tuple[tuple[str, int, Sequence[object], Callable[[object, int], bool | None]], ...] = (
        ("start", seen.start, span.starts, same_time),
        ("end", seen.end, span.ends, same_time),
        ("duration", seen.end - seen.start, span.durations, same_duration),
    )
    for name, signed, shown, same in readings:
        if any(same(item, signed) is False for item in shown):
            yield Member(name, "changed")
    if any(_is_other_parent(seen, item) for item in span.parents):
        yield Member("parent", "changed")
    for status in {status_of(item) for item in span.statuses} - {None}:
        yield from _status(seen, status)
    yield from _conventions(seen, span.attributes)


def _is_other_parent(seen: Appearance, shown: object) -> bool:
    if is_hashed(shown) or not (seen.begins or seen.parent):
        return False
    return likeness(shown, seen.parent or _NONE) == "other"


def _status(seen: Appearance, status: str | None) -> Iterator[Member]:
    """Yield the status if it is not that of the record; what the application may have set counts as such."""
    if seen.error is None:
        if status == "error":
            yield Member("status", "theirs" if seen.ran else "changed")
    elif status != "error":
        # Once the application has said that all is well, OpenTelemetry keeps to that.
        yield Member("status", "unclear" if seen.ran and status == "ok" else "changed")


def _conventions(seen: Appearance, attributes: Mapping[str, object]) -> Iterator[Member]:
    for name, signed in seen.conventions.items():
        yield from _text(name, signed, attributes.get(name))
    if "gen_ai.tool.type" not in seen.conventions and attributes.get("gen_ai.tool.type") == "function":
        yield Member("gen_ai.tool.type", "theirs" if seen.ran else "changed")


def _text(name: str, signed: str, shown: object) -> Iterator[Member]:
    verdict = verdict_on(signed, shown)
    if verdict in ("changed", "retyped"):
        yield Member(name, verdict)
    elif verdict != "match":
        yield Member(name, "hidden")
