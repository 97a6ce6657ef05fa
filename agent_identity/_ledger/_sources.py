"""The clock and the source of ids of a ledger: code of the user, which may fail."""

from typing import Final

from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids
from agent_identity.errors import EvidenceError

__all__ = ["id_of", "wall_of"]

_END_NS: Final = 10**19
"""Times of records have at most 19 digits."""


def wall_of(clock: Clock) -> int:
    """Return the wall time of a clock, in nanoseconds since the epoch.

    Raises:
        EvidenceError: The clock failed, or its time does not fit into a record.
    """
    try:
        now = clock.wall_ns()
    except Exception as error:
        raise _broken(error) from error
    if not 0 <= now < _END_NS:
        raise EvidenceError(f"the clock says {now} ns, which no record can hold; set it to a time from 1970 to 2286")
    return now


def id_of(ids: Ids, clock: Clock) -> str:
    """Return a new id of the current time.

    Raises:
        EvidenceError: The source of ids or the clock failed.
    """
    now = wall_of(clock)
    try:
        return ids.new(now)
    except Exception as error:
        raise _broken(error) from error


def _broken(error: Exception) -> EvidenceError:
    """Return the error for a failed clock or source of ids; raised before anything is written."""
    return EvidenceError(f"the clock or the source of ids raised {type(error).__name__}; repair it")
