"""Reports of the time that the guard added to each call, for metrics."""

import logging
from collections.abc import Callable
from typing import Final, TypeAlias, final

from agent_identity._guard.calls.call import Call
from agent_identity._guard.common.failures import error_type
from agent_identity._record.parts import Ending

__all__ = ["OnTiming", "Timings"]

OnTiming: TypeAlias = Callable[[Call, Ending, int], object]
"""A function that gets a call that is over, its ending, and the nanoseconds that the guard added to it."""

_LOG: Final = logging.getLogger("agent_identity")


@final
class Timings:
    """Observers of the time that the guard adds; while there are none, no call is measured.

    Attributes:
        observers: The functions. They run in the thread of the call, so they should only take note.
    """

    __slots__ = ("_complained", "observers")

    def __init__(self) -> None:
        self.observers: tuple[OnTiming, ...] = ()
        self._complained = False

    def observe(self, observer: OnTiming) -> None:
        """Report every further call to an observer."""
        self.observers = (*self.observers, observer)

    def report(self, call: Call, outcome: Ending) -> None:
        """Report a call that is over and was measured; an exception of an observer never affects the call."""
        call.watch.stop()
        total = call.watch.total_ns
        if total is None:
            return
        for observer in self.observers:
            try:
                observer(call, outcome, total)
            except Exception as error:  # noqa: BLE001 - See above.
                if not self._complained:
                    self._complained = True
                    _LOG.warning("an observer of timings raised %s; further ones are ignored", error_type(error))
