"""The marks of hops in the shared state, where whoever handed one to another process joins it at every judgement."""

from typing import Final, final

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._flow.labels import Label
from agent_identity._guard.tasks.exported_marks import MARK_WORDS, label_of_words, words_of
from agent_identity._identity.common.clock import Clock

_LATE: Final = 60
_NS: Final = 1_000_000_000


@final
class HopMarks:
    """The marks of hops in the shared state.

    Args:
        state: The shared state.
        clock: Source of time.
    """

    __slots__ = ("_clock", "_state")

    def __init__(self, state: StateStore, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def lower(self, hop: str, label: Label, expires_at: int) -> None:
        """Lower the mark of a hop.

        Raises:
            StateError: The state cannot be asked, or has no room.
        """
        for word in words_of(label):
            self._state.insert(f"flow:{hop}:{word}", now=self._now(), expires_at=expires_at + _LATE)

    def find(self, hop: str) -> Label | None:
        """Return the mark of a hop; ``None`` if no one keeps one.

        Raises:
            StateError: The state cannot be asked.
        """
        now = self._now()
        return label_of_words([word for word in MARK_WORDS if self._state.contains(f"flow:{hop}:{word}", now=now)])

    def is_over(self, expires_at: int) -> bool:
        """Return whether no one can act under a grant any more."""
        return expires_at + _LATE <= self._now()

    def _now(self) -> int:
        return self._clock.wall_ns() // _NS
