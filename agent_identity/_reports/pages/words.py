"""Words that reports use for people: verdicts, origins of keys, what is noteworthy, times and shares."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from agent_identity._reports.answers.incident_story import Weight

VERDICTS: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "verified": ("VERIFIED", "good", "The evidence verifies."),
        "contradicted": (
            "NOT VERIFIED: contradicted",
            "bad",
            "The evidence contradicts itself or its keys. Nothing in it is proved.",
        ),
        "cannot_tell": ("CANNOT TELL", "warn", "The evidence could not be judged. Take no statement as proved."),
        "incomplete": ("VERIFIED, BUT INCOMPLETE", "warn", "What is there verifies; something is missing."),
        "unverified": (
            "UNVERIFIED",
            "bad",
            "Nothing was verified. Statements are what sources say, and no proof.",
        ),
    }
)
"""By verdict: the words, the tone, and one sentence."""

DIFFERENCES: Final[Mapping[str, tuple[str, Weight]]] = MappingProxyType(
    {
        "traced_not_guarded": ("traced, and not guarded", "bad"),
        "configured_not_guarded": ("configured, and not guarded", "bad"),
        "declared_not_observed": ("declared, and never observed", "note"),
        "observed_not_registered": ("observed, and not registered", "warn"),
        "registered_idle": ("registered, and idle", "warn"),
        "no_owner": ("without an owner", "warn"),
        "new": ("new", "note"),
        "gone": ("gone", "note"),
    }
)
"""The noteworthy states of an inventory, each with its words and tone."""

GAPS: Final[Mapping[str, tuple[str, Weight]]] = MappingProxyType(
    {
        "beyond_maximum": ("granted beyond the registered maximum", "bad"),
        "never_granted": ("called, and never granted", "bad"),
        "never_used": ("granted, and never used", "warn"),
        "used_by_descendants_only": ("used by descendants only", "note"),
        "open_tool": ("granted with any arguments", "warn"),
    }
)
"""The noteworthy relations of an agent and a tool, each with its words and tone."""

KIND_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "agent": "agents",
        "principal": "principals",
        "tool": "tools",
        "server": "MCP servers",
        "model": "models",
        "host": "hosts",
        "data": "data",
    }
)
"""The kinds of items of an inventory."""


def by_state(
    states: Mapping[str, tuple[str, Weight]], named: Iterable[tuple[str, str]]
) -> Iterator[tuple[str, Weight, list[str]]]:
    """Yield the words and the tone of each state that something is in, and the names of that.

    Args:
        states: The states, as :data:`DIFFERENCES` and :data:`GAPS` have them.
        named: A state and a name, in any order.
    """
    names: dict[str, list[str]] = {}
    for state, name in named:
        names.setdefault(state, []).append(name)
    yield from ((*words, names[state]) for state, words in states.items() if state in names)


_SECOND: Final = 1_000_000_000
_LAST: Final = 253_402_300_799


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(min(max(0, ns // _SECOND), _LAST), UTC)


def moment(ns: int) -> str:
    """Return a time in UTC, to the second."""
    return _time(ns).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(ns: int, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Return a time in UTC, to the millisecond."""
    return f"{_time(ns).strftime(form)}.{ns // 1_000_000 % 1_000:03d}"


def span_of(first_ns: int, last_ns: int) -> str:
    """Return two times to the minute, or nothing if they are unknown."""
    if not first_ns:
        return ""
    first, last = moment(first_ns)[:16], moment(last_ns)[:16]
    return first if first == last else f"{first} to {last}"


def percent(part: int, whole: int) -> str:
    """Return a share in percent that never rounds to all or nothing."""
    if not whole:
        return "none"
    if part in (0, whole):
        return f"{100 * part // whole} %"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.1f} %"
