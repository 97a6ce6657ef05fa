"""The marks of threads: what the tasks in a conversation have read, for the next task in it.

A thread is what a framework keeps between two runs, such as the messages of a checkpoint. Its mark only falls. The
shared state keeps it for 31 days after the last task in it.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, final

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._flow.labels import TRUSTED, UNTRUSTED, Label
from agent_identity._guard.tasks.remembered import Fact, Remembered
from agent_identity._identity.common.clock import Clock

_DAY: Final = 24 * 3600
_KEPT: Final = 31 * _DAY
_NS: Final = 1_000_000_000


class KeptMark(NamedTuple):
    """The mark of a thread. Frozen.

    Attributes:
        label: The mark.
        day: The day of the last task in it.
    """

    label: Label
    day: object


@final
class ThreadMarks:
    """The marks of threads in the shared state.

    Args:
        state: The shared state.
        clock: Source of time.
    """

    __slots__ = ("_clock", "_marks")

    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._marks = Remembered(state, clock, "thread")
        self._clock = clock

    def find(self, thread: str) -> KeptMark | None:
        """Return the mark of a thread; ``None`` for one that no one has been in.

        Raises:
            StateError: The state cannot be asked.
        """
        fact = self._marks.find(thread)
        return None if fact is None else KeptMark(_label_of(fact), fact.get("day"))

    def needs(self, kept: KeptMark | None, label: Label) -> bool:
        """Return whether a mark has to be lowered to the meet with a label, or kept for longer.

        Args:
            kept: The mark.
            label: The label.
        """
        return kept is None or kept.day != self._day() or not kept.label.is_within(label)

    def lower(self, thread: str, label: Label) -> None:
        """Lower the mark of a thread to the meet with a label.

        Raises:
            StateError: The state cannot be asked, or has no room.
        """

        def lowered(before: Fact | None) -> Fact | None:
            kept = None if before is None else KeptMark(_label_of(before), before.get("day"))
            if not self.needs(kept, label):
                return None
            return {"label": str(label.meet(TRUSTED if kept is None else kept.label)), "day": self._day()}

        self._marks.change(thread, lowered, seconds=_KEPT)

    def _day(self) -> int:
        return self._clock.wall_ns() // _NS // _DAY


def _label_of(fact: Mapping[str, object]) -> Label:
    """Return the label of a thread; what no one can read may be the most restricted one."""
    try:
        return Label.parse(str(fact.get("label")))
    except ValueError:
        return UNTRUSTED
