"""Calls that left their body to be made again, in whatever process: the approval that they used is theirs again.

It is left at a mark in the shared state, and exactly one later call takes it over. So an approval counts for one call
however often that is made again. Their share of limits is kept by the store itself, see ``StateStore.keep``.
"""

import hashlib
import logging
from typing import Final

from agent_identity.authority import StateStore
from agent_identity.enforcement.failures import trouble

__all__ = ["leave", "mark_of", "taken_over"]

_LOG: Final = logging.getLogger("agent_identity")
_MOST: Final = 64


def mark_of(*parts: str | None) -> str:
    """Return the name of what belongs to one call."""
    return hashlib.sha256("\0".join(part or "" for part in parts).encode()).hexdigest()


def leave(state: StateStore, mark: str, *, now: int, expires_at: int) -> None:
    """Leave what a suspended call had; if that fails, or happens too often, it is lost to it.

    Args:
        state: The shared state.
        mark: Whose it is.
        now: Unix seconds.
        expires_at: Until when it can be taken over.
    """
    try:
        for number in range(_MOST):
            if state.insert(f"suspended:{mark}:{number}", now=now, expires_at=expires_at):
                return
    except Exception as error:  # noqa: BLE001 - The call is suspended in any case; it will have to take anew.
        _LOG.warning("what a suspended call had taken is lost to it: %s", trouble(error))


def taken_over(state: StateStore, mark: str, *, now: int, expires_at: int) -> bool:
    """Return whether something was left that this call has now taken over; one of all who ask gets it.

    Args:
        state: The shared state.
        mark: Whose it is.
        now: Unix seconds.
        expires_at: Until when it was left.

    Raises:
        StateError: The state cannot be asked.
    """
    for number in range(_MOST):
        if not state.contains(f"suspended:{mark}:{number}", now=now):
            return False
        if state.insert(f"resumed:{mark}:{number}", now=now, expires_at=expires_at):
            return True
    return False
