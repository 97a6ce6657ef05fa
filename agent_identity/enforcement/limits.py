"""The limits of a task at run time: what a call takes before it runs, and gives back if it does not run."""

import logging
from collections.abc import Callable, Sequence
from typing import Final, final

from agent_identity.authority import Debit, StateStore, debits_for, exceeded
from agent_identity.enforcement.arguments import Arguments
from agent_identity.enforcement.failures import trouble
from agent_identity.enforcement.suspensions import mark_of
from agent_identity.enforcement.task import Task
from agent_identity.errors import Denied, StateError
from agent_identity.identity import Clock

__all__ = ["Limits", "Reservation"]

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000


@final
class Reservation:
    """What a call has debited from the limits of its task, and what it took over from an earlier run of itself.

    Args:
        state: The store of the counters.
        debits: What the call asked for.
        kept: What an earlier run had left of each; only the rest was debited now.
        now: When, in Unix seconds.
        share: The name under which the amounts are kept if the body suspends the call.
    """

    __slots__ = ("_debited", "_now", "_share", "_state", "_taken")

    def __init__(
        self, state: StateStore, debits: Sequence[Debit], kept: Sequence[int], now: int, *, share: str | None = None
    ) -> None:
        self._state = state
        self._taken = tuple(zip(debits, kept, strict=True))
        self._debited = [debit.beyond(amount) for debit, amount in self._taken]
        self._now = now
        self._share = share

    def give_back(self) -> None:
        """Give back what was debited for a body that did not begin, and the share of an earlier one to its call.

        If that fails it stays debited, and the task may do less than it could.
        """
        try:
            earlier = [debit._replace(amount=kept) for debit, kept in self._taken if kept]
            if self._share is not None and earlier:
                self._state.keep(self._share, earlier, now=self._now)
            self._state.credit(self._debited, now=self._now)
        except Exception as error:  # noqa: BLE001 - Why the call did not run matters more than this.
            _LOG.warning("what a call that did not run had taken from its limits stays taken: %s", trouble(error))

    def suspend(self) -> None:
        """Keep the share of a body that began for the call that is made again; it never becomes smaller."""
        if self._share is None:
            return
        try:
            share = [debit._replace(amount=max(debit.amount, kept)) for debit, kept in self._taken]
            self._state.keep(self._share, share, now=self._now)
        except Exception as error:  # noqa: BLE001 - The call is suspended in any case; it will have to debit anew.
            _LOG.warning("what a suspended call had taken from its limits is lost to it: %s", trouble(error))


@final
class Limits:
    """Reserves what the calls of one tool need from the limits of their tasks.

    Args:
        state: The store of the counters.
        clock: Source of time.
        tool: The name of the tool.
        resumable: Calls can be suspended by their bodies and made again.
        place: Names the place in which a call is made; one that was suspended is made again in the same place.
    """

    __slots__ = ("_clock", "_place", "_resumable", "_state", "_tool")

    def __init__(
        self, state: StateStore, clock: Clock, tool: str, *, resumable: bool, place: Callable[[], str] | None
    ) -> None:
        self._state = state
        self._clock = clock
        self._tool = tool
        self._resumable = resumable
        self._place = place

    def reserve(self, task: Task, arguments: Arguments, call_id: str | None) -> Reservation | None:
        """Take what a call needs from every limit that it falls under, from all or from none.

        What an earlier run of the same call has left is taken over: a sum or a number of uses is debited as far as
        the call asks for more. A rate is debited anew, because the call runs now. Arguments do not name a call, for
        one that is made again may come with others.

        Args:
            task: The task, which has limits.
            arguments: The arguments as the body gets them.
            call_id: The id that the model gave to the call.

        Returns:
            What was taken, or None where no limit is about this call.

        Raises:
            LimitExceeded: A limit does not allow it.
            Denied: With code ``state_unavailable``: nobody can tell how much is left.
        """
        root, now, share = task.chain.root, self._clock.wall_ns() // _NS, None
        debits, limits = debits_for(task.limits, root.id, self._tool, arguments.counted, root.expires_at)
        if not debits:
            return None
        if self._resumable and call_id is not None and any(debit.window is None for debit in debits):
            place = None if self._place is None else self._place()
            share = f"share:{mark_of(root.id, self._tool, call_id, place)}"
        try:
            if share is None:
                refused, kept = self._state.debit(debits, now=now), (0,) * len(debits)
            else:
                answer = self._state.resume(share, debits, now=now)
                refused, kept = (answer, ()) if isinstance(answer, int) else (None, answer)
        except StateError as error:
            _LOG.error("the limits of a task could not be asked, the call is refused: %s", trouble(error))
            raise Denied(
                f"{self._tool}: expected to count the call against the limits of the task, got a store that does not "
                "answer; see the log, and try again when it does",
                code="state_unavailable",
            ) from None
        if refused is not None:
            raise exceeded(self._tool, limits[refused])
        return Reservation(self._state, debits, kept, now, share=share)
