"""Suspended calls, to be repeated in any process: they keep the approval that they used.

The approval is left at a mark in the shared state, and exactly one later call takes it over. So an approval counts for
one call however often that is repeated. The store itself keeps their share of limits, see ``StateStore.keep``.
"""

import hashlib
import logging
from typing import Final

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._guard.common.failures import safe_message

_LOG: Final = logging.getLogger("agent_identity")
_MOST: Final = 64


def mark_of(*parts: str | None) -> str:
    """Return the mark of one call."""
    return hashlib.sha256("\0".join(part or "" for part in parts).encode()).hexdigest()


def leave(state: StateStore, mark: str, *, now: int, expires_at: int) -> None:
    """Leave the approval of a suspended call; if that fails, or happens too often, the call loses it.

    Args:
        state: The shared state.
        mark: The mark of the call.
        now: Unix seconds.
        expires_at: The latest time of takeover.
    """
    try:
        for number in range(_MOST):
            if state.insert(f"suspended:{mark}:{number}", now=now, expires_at=expires_at):
                return
    except Exception as error:  # noqa: BLE001 - The call is suspended in any case; it will need a new approval.
        _LOG.warning("a suspended call loses its approval: %s", safe_message(error))


def taken_over(state: StateStore, mark: str, *, now: int, expires_at: int) -> bool:
    """Return whether this call took over something left at the mark; of all callers one succeeds.

    Args:
        state: The shared state.
        mark: The mark of the call.
        now: Unix seconds.
        expires_at: The latest time of takeover.

    Raises:
        StateError: The state does not answer.
    """
    for number in range(_MOST):
        if not state.contains(f"suspended:{mark}:{number}", now=now):
            return False
        if state.insert(f"resumed:{mark}:{number}", now=now, expires_at=expires_at):
            return True
    return False
