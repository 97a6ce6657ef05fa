"""Conditions of a directory that stop nothing yet, and may soon: each rule once, for processes, probes and doctor.

Probes ask every few seconds: this module loads nothing but the standard library.
"""

import os
from collections.abc import Iterable
from typing import Final, TypeAlias

from agent_identity._identity.common.periods import ends_soon

STOPS: Final = frozenset({"ledger", "state", "revocations", "tasks"})
"""The components without which calls are refused, or leave no sealed record; the others warn."""

LOW_DISK: Final = 100 * 1024 * 1024
"""Bytes of free space below which the ledger is likely to stop soon."""

FULL_DISK: Final = 1024 * 1024
"""Bytes of free space below which nothing more is recorded."""

Period: TypeAlias = tuple[int | None, int | None]
"""The first and the last second of a key or certificate; ``None`` for ever."""

_DAY: Final = 86_400
_HOUR: Final = 3_600
_LOW_FILES: Final = 1_000


def low_disk(directory: str | os.PathLike[str]) -> str | None:
    """Return the problem of a file system with little room, or ``None``; one that cannot be asked has none."""
    try:
        facts = os.statvfs(directory)
    except (OSError, AttributeError):  # Windows has no such call, and no enforcer.
        return None
    return low_room(facts.f_bavail * facts.f_frsize, facts.f_favail if facts.f_files else _LOW_FILES)


def low_room(free: int, files: int = _LOW_FILES) -> str | None:
    """Return the problem of little room, or ``None``.

    Args:
        free: Bytes.
        files: How many more files fit.
    """
    if free < LOW_DISK:
        return f"{free >> 20} MiB free; free some space: without evidence nothing runs"
    if files < _LOW_FILES:
        return f"only {files} more files fit; remove some: each process needs files of its own"
    return None


def ending_key(name: str, periods: Iterable[Period], now: int) -> str | None:
    """Return the problem of a key or certificate that ends soon, or ``None``.

    Args:
        name: What it is, for people.
        periods: Those in which it counts; the last one matters. Without any, nothing is said.
        now: Unix seconds.
    """
    last = max(periods, key=lambda period: float("inf") if period[1] is None else period[1], default=(None, None))
    if not ends_soon(now, *last):
        return None
    left = (last[1] or 0) - now
    cure = "have the root certify it again" if "certificate" in name else "rotate it, and open the directory again"
    if left <= 0:
        return f"the {name} has expired; {cure}"
    number, unit = (left // _DAY, "day") if left >= _DAY else (left // _HOUR, "hour")
    return f"the {name} expires in {number} {unit}{'' if number == 1 else 's'}; {cure}"
