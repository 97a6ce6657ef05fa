"""Names of tools with wildcards: ``*`` for any characters, ``?`` for one."""

import re
from typing import Final

from agent_identity._common.narrowing import is_array
from agent_identity._policy.decision.places import Path, Problem

_PATTERN: Final = re.compile(r"[A-Za-z0-9_.:/*?-]{1,128}")


def check_patterns(value: object, path: Path) -> tuple[str, ...]:
    """Return the patterns of a rule.

    Raises:
        Problem: The value is neither a pattern nor a list of at least one.
    """
    if type(value) is str:
        return (_pattern(value, path),)
    items = value if is_array(value) else ()
    if not items:
        raise Problem("tools is no name and no list of names; write for instance pay_* or [pay, refund]", path)
    return tuple(_pattern(item, (*path, index)) for index, item in enumerate(items))


def _pattern(value: object, path: Path) -> str:
    if type(value) is not str or not _PATTERN.fullmatch(value):
        raise Problem(
            "a tool name is malformed; use 1 to 128 letters, digits and _ . : / -, with wildcards * and ?", path
        )
    return value


def has_wildcard(pattern: str) -> bool:
    """Return whether the pattern has a wildcard."""
    return "*" in pattern or "?" in pattern


def matches(pattern: str, name: str) -> bool:
    """Return whether the whole name fits the pattern; upper and lower case differ.

    The matcher retries only the last ``*``, so the time is at most the product of the two lengths, and patterns are
    short: no name can make a rule slow.
    """
    at = 0
    star, resume = -1, 0
    position = 0
    while position < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, resume = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[position]):
            at += 1
            position += 1
        elif star >= 0:
            resume += 1
            at, position = star + 1, resume
        else:
            return False
    return pattern[at:].strip("*") == ""
