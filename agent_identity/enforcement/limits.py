"""The limits of a task at run time: what a call takes before it runs, and gives back if it does not run."""

import logging
from collections.abc import Sequence
from typing import Final, final

from agent_identity.authority import Debit, StateStore, debits_for, exceeded
from agent_identity.enforcement.arguments import Arguments
from agent_identity.enforcement.failures import trouble
from agent_identity.enforcement.suspensions import leave, mark_of, taken_over
from agent_identity.enforcement.task import Task
from agent_identity.errors import Denied, StateError

__all__ = ["Reservation", "reserve"]

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000


@final
class Reservation:
    """What a call has taken.

    Args:
        state: Where it is counted.
        debits: What was taken.
        now: When, in Unix seconds.
        mark: Under which name it is left if the call is suspended.
        resumed: It was left by the call itself when that was suspended.
    """

    __slots__ = ("_debits", "_mark", "_now", "_resumed", "_state")

    def __init__(
        self, state: StateStore, debits: Sequence[Debit], now: int, *, mark: str | None = None, resumed: bool = False
    ) -> None:
        self._state = state
        self._debits = debits
        self._now = now
        self._mark = mark
        self._resumed = resumed

    def give_back(self) -> None:
        """Give back what was taken; if that fails it stays taken, and the task may do less than it could."""
        if self._resumed:
            self.suspend()
            return
        try:
            self._state.credit(self._debits, now=self._now)
        except Exception as error:  # noqa: BLE001 - Why the call did not run matters more than this.
            _LOG.warning("what a call that did not run had taken from its limits stays taken: %s", trouble(error))

    def suspend(self) -> None:
        """Leave what was taken to the same call, which will be made again."""
        if self._mark is not None:
            leave(self._state, self._mark, now=self._now, expires_at=max(debit.expires_at for debit in self._debits))


def reserve(
    state: StateStore, task: Task, tool: str, arguments: Arguments, wall_ns: int, *, call_id: str | None = None
) -> Reservation | None:
    """Take what a call needs from every limit that it falls under, from all or from none.

    Args:
        state: Where it is counted.
        task: The task, which has limits.
        tool: The tool that is about to run.
        arguments: Its arguments as the body gets them.
        wall_ns: Nanoseconds since the epoch.
        call_id: The id of a call that can be suspended and made again: it is counted once.

    Returns:
        What was taken, or None where no limit is about this call.

    Raises:
        LimitExceeded: A limit does not allow it.
        Denied: With code ``state_unavailable``: nobody can tell how much is left.
    """
    root = task.chain.root
    debits, limits = debits_for(task.limits, root.id, tool, arguments.counted, root.expires_at)
    if not debits:
        return None
    now, mark = wall_ns // _NS, None
    try:
        if call_id is not None:
            mark = mark_of(root.id, tool, call_id, arguments.canonical().decode("utf-8", "surrogatepass"))
            if taken_over(state, mark, now=now, expires_at=root.expires_at):
                return Reservation(state, debits, now, mark=mark, resumed=True)
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
    return Reservation(state, debits, now, mark=mark)
