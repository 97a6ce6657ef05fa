"""Task limits at run time: reserved before a call runs, and released if it does not."""

import contextlib
import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Final, final

from agent_identity._authority.grants.limits import debits_for, exceeded
from agent_identity._authority.registries.tasks import Lease
from agent_identity._authority.stores.protocol import Debit, StateStore
from agent_identity._guard.calls.arguments import Arguments
from agent_identity._guard.common.failures import safe_message
from agent_identity._guard.tasks.suspensions import mark_of
from agent_identity._guard.tasks.task import Task
from agent_identity._identity.common.clock import Clock
from agent_identity.errors import Denied, StateError

_LOG: Final = logging.getLogger("agent_identity")
_NS: Final = 1_000_000_000
_MOST_WATCHED: Final = 256
_AT_ONCE: Final = 64
_LARGE: Final = 10  # Of a smaller limit the last use is nothing to warn about.


@final
class SpentLimits:
    """The limits from which this process took last, to tell which are nearly spent; at most 256."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int | None], tuple[Debit, weakref.ref[Lease]]] = {}

    def note(self, debits: Sequence[Debit], lease: Lease) -> None:
        """Note the limits of a call that took from them."""
        seen = self._seen
        for debit in debits:
            if debit.limit >= _LARGE:
                seen[debit.key, debit.window] = debit, weakref.ref(lease)
        with contextlib.suppress(StopIteration, RuntimeError):  # Other threads note theirs.
            while len(seen) > _MOST_WATCHED:
                seen.pop(next(iter(seen)), None)

    def nearly(self, state: StateStore, now: int) -> int:
        """Return how many limits of open tasks are spent by more than nine tenths.

        It debits nothing, since it asks whether zero more would fit into nine tenths.

        Args:
            state: The store of the counters.
            now: Unix seconds.

        Raises:
            StateError: The store does not answer.
        """
        open_ones: list[Debit] = []
        for key, (debit, lease) in list(self._seen.items()):
            holder = lease()
            if holder is not None and holder.live and debit.expires_at > now:
                open_ones.append(debit._replace(amount=0, limit=debit.limit * 9 // 10))
            else:
                self._seen.pop(key, None)
        found = 0
        while open_ones:
            refused = state.debit(open_ones[:_AT_ONCE], now=now)
            if refused is None:
                del open_ones[:_AT_ONCE]
            else:
                del open_ones[refused]
                found += 1
        return found


@final
class Reservation:
    """The amounts that a call reserved from the limits of its task, and those taken over from its earlier run.

    Args:
        state: The store of the counters.
        debits: The amounts that the call needs.
        kept: The amounts left from an earlier run; only the rest was debited now.
        now: Unix seconds.
        share: The name under which the amounts are stored if the body suspends the call.
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
        """Release the debits of a body that did not begin; the share of an earlier run goes back to its call.

        If that fails they stay debited, and the task may do less than it could.
        """
        try:
            earlier = [debit._replace(amount=kept) for debit, kept in self._taken if kept]
            if self._share is not None and earlier:
                self._state.keep(self._share, earlier, now=self._now)
            self._state.credit(self._debited, now=self._now)
        except Exception as error:  # noqa: BLE001 - The reason that the call did not run matters more.
            _LOG.warning("the limits of a call that did not run stay debited: %s", safe_message(error))

    def suspend(self) -> None:
        """Keep the share of a suspended body for the repeated call; it never shrinks."""
        if self._share is None:
            return
        try:
            share = [debit._replace(amount=max(debit.amount, kept)) for debit, kept in self._taken]
            self._state.keep(self._share, share, now=self._now)
        except Exception as error:  # noqa: BLE001 - The call is suspended in any case; it will debit anew.
            _LOG.warning("a suspended call loses its debited share of the limits: %s", safe_message(error))


@final
class Limits:
    """Reserves the amounts that calls of one tool need from the limits of their tasks.

    Args:
        state: The store of the counters.
        clock: Source of time.
        tool: The name of the tool.
        resumable: Bodies can suspend calls, to be repeated.
        place: Returns the place of a call; a suspended call is repeated in the same place.
        spent: Is told of each call that took from limits.
    """

    __slots__ = ("_clock", "_place", "_resumable", "_spent", "_state", "_tool")

    def __init__(
        self,
        state: StateStore,
        clock: Clock,
        tool: str,
        *,
        resumable: bool,
        place: Callable[[], str] | None,
        spent: SpentLimits,
    ) -> None:
        self._state = state
        self._clock = clock
        self._tool = tool
        self._resumable = resumable
        self._place = place
        self._spent = spent

    def reserve(self, task: Task, arguments: Arguments, call_id: str | None) -> Reservation | None:
        """Reserve the needed amounts from all limits that apply to a call, or from none.

        The remainder of an earlier run of the same call is taken over: a sum or a number of uses is debited only for
        the excess. A rate is debited anew, because the call runs now. Arguments do not identify a call: the repeated
        call may have others.

        Args:
            task: The task, which has limits.
            arguments: The arguments for the body.
            call_id: The call id from the model.

        Returns:
            The reservation, or None if no limit applies to this call.

        Raises:
            LimitExceeded: A limit does not permit the call.
            Denied: With code ``state_unavailable``: the limits cannot be read.
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
            _LOG.error("the limits of a task could not be read, the call is refused: %s", safe_message(error))
            raise Denied(
                f"{self._tool}: the shared state with the limits of the task does not "
                "answer; see the log, and try again when it does",
                code="state_unavailable",
            ) from None
        if refused is not None:
            raise exceeded(self._tool, limits[refused])
        self._spent.note(debits, task.lease)
        return Reservation(self._state, debits, kept, now, share=share)
