"""Names of logs, and the patterns of names that bound keys in a trust file."""

from typing import Final

from agent_identity._identity.common.names import check_id

_NO_SEGMENTS: Final = frozenset({"", ".", ".."})


def check_origin(origin: str) -> str:
    """Return the name of a log after checking its form.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It breaks a rule of :func:`~agent_identity.identity.check_id`, or has a space or a ``+``.
    """
    if "+" in check_id(origin, "origin") or len(origin.split()) != 1:
        raise ValueError("the origin has a space or a plus sign; copy it from the trust.json of that log")
    return origin


def check_origin_pattern(pattern: str) -> str:
    """Return a pattern of names after checking it: one name, or a prefix ending in ``/`` that covers whole segments.

    Raises:
        TypeError: It is no ``str``.
        ValueError: It breaks a rule of :func:`check_origin`, or is a prefix with an empty segment, ``.`` or ``..``.
    """
    if type(pattern) is not str or not is_prefix(pattern):
        return check_origin(pattern)
    name = pattern[:-1]
    # A scheme may stand before the first segment.
    if not _NO_SEGMENTS.isdisjoint(name.split("://", 1)[-1].split("/")):
        raise ValueError("the prefix of origins has an empty name; write one such as 'example.org/agents/'")
    return f"{check_origin(name)}/"


def is_prefix(pattern: str) -> bool:
    """Return whether a pattern covers more than one name."""
    return pattern.endswith("/")


def covers(pattern: str, origin: str) -> bool:
    """Return whether a pattern covers the name of a log. Names are compared by code point; nothing is resolved."""
    if not is_prefix(pattern):
        return pattern == origin
    return origin.startswith(pattern) and _NO_SEGMENTS.isdisjoint(origin[len(pattern) :].split("/"))


def overlap(first: str, second: str) -> bool:
    """Return whether both patterns can cover the same name."""
    if is_prefix(first) and is_prefix(second):
        return first.startswith(second) or second.startswith(first)
    return covers(first, second) or covers(second, first)
