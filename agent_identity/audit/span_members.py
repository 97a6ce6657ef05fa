"""Whether name, times, parent and status of a span are those that the span of its record has.

They are not signed, but they follow from the record, which :func:`~agent_identity.evidence.appearance_of` says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from agent_identity.evidence.mirror import verdict_on
from agent_identity.evidence.otlp import SpanData
from agent_identity.evidence.pasted import PastedSpan
from agent_identity.evidence.records import AnyRecord, Intent, Outcome, TaskEnd, TaskStart
from agent_identity.evidence.shown import is_hashed, is_internal, likeness, same_duration, same_time, status_of
from agent_identity.evidence.span_copy import SCOPE, Appearance, appearance_of

__all__ = ["Member", "is_our_scope", "members_of"]

Standing: TypeAlias = Literal["changed", "unclear", "unreadable", "retyped", "theirs", "recased", "hidden"]
"""How a member relates to the record.

``changed``: it contradicts the record; ``unclear``: it differs, and may be the word of another library or of the
application; ``theirs``: others may have set it, and it hides nothing; ``hidden``: it is missing or blanked;
``retyped``: a store read it as JSON; ``unreadable``: it is shown in a form that is not known; ``recased``: it differs
in upper and lower case, which some stores change.
"""

_INTERNAL: Final = 1
_OPERATIONS: Final = frozenset({f"{SCOPE}.internal", "opentelemetry.internal", "internal"})
"""What Datadog calls an internal span, whose name it shows as the resource."""

_NONE: Final = "0" * 16


class Member(NamedTuple):
    """A member of a span that is not as its record has it.

    Attributes:
        name: What it is.
        standing: How it relates to the record.
    """

    name: str
    standing: Standing


def members_of(record: AnyRecord, span: SpanData | PastedSpan) -> Iterator[Member]:
    """Yield the members of a span that are not as the span of its record has them.

    A call may have the span of another library, which has its own name, times and status; such a span is told by its
    scope, and not compared. Where no scope is shown, nobody can tell, and a difference is ``unclear``.

    Args:
        record: The record, whose signature has been verified, and which belongs to the span.
        span: The span.
    """
    if not isinstance(record, Intent | Outcome | TaskStart | TaskEnd):
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
    """Return whether the library made the span; ``None`` if the span does not show its scope."""
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
    yield from [member for shown in _names(span) for member in _pasted_name(seen, shown)]
    readings: tuple[tuple[str, int, Sequence[object], Callable[[object, int], bool | None]], ...] = (
        ("start", seen.start, span.starts, same_time),
        ("end", seen.end, span.ends, same_time),
        ("duration", seen.end - seen.start, span.durations, same_duration),
    )
    for name, signed, shown, same in readings:
        yield from _read(name, (same(item, signed) for item in shown))
    yield from _read("parent", (_is_parent(seen, item) for item in span.parents))
    yield from _read("kind", map(is_internal, span.kinds))
    yield from _pasted_status(seen, span)
    yield from _conventions(seen, span.attributes)


def _pasted_status(seen: Appearance, span: PastedSpan) -> Iterator[Member]:
    known = {status_of(item) for item in span.statuses}
    if None in known:
        yield Member("status", "unreadable")
    for status in known - {None}:
        yield from _status(seen, status)
    for message in span.messages:
        yield from _message(seen, known - {None}, message)


def _read(name: str, answers: Iterable[bool | None]) -> Iterator[Member]:
    """Yield a member that is shown otherwise than it is signed, or in a form that is not known."""
    found = set(answers)
    if False in found:
        yield Member(name, "changed")
    elif None in found:
        yield Member(name, "unreadable")


def _names(span: PastedSpan) -> Iterator[object]:
    """Yield what is shown as the name; some stores show it as the resource of an operation."""
    for name in span.names:
        is_operation = isinstance(name, str) and name.casefold() in _OPERATIONS
        yield from (span.resources if is_operation and span.resources else (name,))


def _pasted_name(seen: Appearance, shown: object) -> Iterator[Member]:
    for member in _pasted_text("name", seen.name, shown):
        recased = isinstance(shown, str) and shown.casefold() == seen.name.casefold()
        yield Member("name", "recased") if recased else member


def _pasted_text(name: str, signed: str, shown: object) -> Iterator[Member]:
    for member in _text(name, signed, shown):
        unreadable = member.standing == "changed" and isinstance(shown, list | dict)
        yield Member(name, "unreadable") if unreadable else member


def _message(seen: Appearance, statuses: set[str | None], shown: object) -> Iterator[Member]:
    """Yield the message of a status if it is not that of the record, and the application did not set it."""
    if seen.error is not None:
        yield from _pasted_text("status message", seen.error, shown)
    elif "error" not in statuses:
        yield Member("status message", "unclear" if seen.ran and not statuses else "changed")


def _is_parent(seen: Appearance, shown: object) -> bool | None:
    """Return whether an id may be that of the parent; ``None`` if it cannot be read."""
    if is_hashed(shown):
        return True
    like = likeness(shown, seen.parent or _NONE)
    if like == "unknown":
        return None
    return like != "other" or not (seen.begins or seen.parent)


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
