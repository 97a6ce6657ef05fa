"""The limits of a task at run time: what a call takes before it runs, and gives back if it does not run."""

import logging
from collections.abc import Mapping, Sequence
from typing import Final, final

from agent_identity.authority import Debit, StateStore, debits_for, exceeded
from agent_identity.enforcement.failures import trouble
from agent_identity.enforcement.task import Task
from agent_identity.errors import Denied, StateError

__all__ = ["Reservation", "reserve"]

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000


@final
class Reservation:
    """What a call has taken."""

    __slots__ = ("_debits", "_now", "_state")

    def __init__(self, state: StateStore, debits: Sequence[Debit], now: int) -> None:
        self._state = state
        self._debits = debits
        self._now = now

    def give_back(self) -> None:
        """Give back what was taken; if that fails it stays taken, and the task may do less than it could."""
        try:
            self._state.credit(self._debits, now=self._now)
        except Exception as error:  # noqa: BLE001 - Why the call did not run matters more than this.
            _LOG.warning("what a call that did not run had taken from its limits stays taken: %s", trouble(error))


def reserve(
    state: StateStore, task: Task, tool: str, arguments: Mapping[str, object], wall_ns: int
) -> Reservation | None:
    """Take what a call needs from every limit that it falls under, from all or from none.

    Args:
        state: Where it is counted.
        task: The task, which has limits.
        tool: The tool that is about to run.
        arguments: Its arguments as the body gets them.
        wall_ns: Nanoseconds since the epoch.

    Returns:
        What was taken, or None where no limit is about this call.

    Raises:
        LimitExceeded: A limit does not allow it.
        Denied: With code ``state_unavailable``: nobody can tell how much is left.
    """
    root = task.chain.root
    debits, limits = debits_for(task.limits, root.id, tool, arguments, root.expires_at)
    if not debits:
        return None
    now = wall_ns // _NS
    try:
        index = state.debit(debits, now=now)
    except StateError as error:
        _LOG.error("the limits of a task could not be asked, the call is refused: %s", trouble(error))
        raise Denied(
            f"{tool}: expected to count the call against the limits of the task, got a store that does not answer; "
            "see the log, and try again when it does",
            code="state_unavailable",
        ) from None
    if index is not None:
        raise exceeded(tool, limits[index])
    return Reservation(state, debits, now)
