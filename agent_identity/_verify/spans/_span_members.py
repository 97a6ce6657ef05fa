"""Compares name, times, parent and status of a span with those that follow from its record.

They are not signed, but :func:`appearance_of` derives them from the record.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from agent_identity._record.schema import AnyRecord, Intent, Outcome, TaskEnd, TaskStart
from agent_identity._spans.displayed_values import is_hashed, is_internal, likeness, same_duration, same_time, status_of
from agent_identity._spans.otlp_json import SpanData
from agent_identity._spans.pasted_spans import PastedSpan
from agent_identity._spans.span_attributes import verdict_on
from agent_identity._spans.span_from_record import SCOPE, Appearance, appearance_of

__all__ = ["Member", "is_our_scope", "members_of"]

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


class Member(NamedTuple):
    """A member of a span that differs from its record.

    Attributes:
        name: The name of the member.
        standing: Its relation to the record.
    """

    name: str
    standing: Standing


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
