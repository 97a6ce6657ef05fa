"""What an enforcer warns of before it refuses calls: little room, keys that end, nearly spent limits."""

from collections.abc import Iterator
from typing import Final, NamedTuple, final

from agent_identity._authority.stores.memory import MemoryState
from agent_identity._directory.conditions import Period, ending_key, low_disk
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.common.threads import has_loop
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._identity.keys.keys import PublicKey
from agent_identity._identity.trust.entries import Purpose

_NS: Final = 1_000_000_000


@final
class Warnings(NamedTuple):
    """Finds what may soon refuse calls.

    Attributes:
        enforcement: The parts that guards share.
        trust: The trusted keys.
        issuer: The issuer key in use.
        recorder: The recorder key in use.
    """

    enforcement: EnforcementContext
    trust: FollowedTrust
    issuer: PublicKey
    recorder: PublicKey

    def current(self, *, asks: bool) -> dict[str, str]:
        """Return the current warnings by component.

        Args:
            asks: Whether the shared state answers, so that it can be asked about limits.
        """
        now = self.enforcement.clock.wall_ns() // _NS
        found = {
            "disk": low_disk(self.enforcement.ledger.directory),
            "keys": "; ".join(self._keys(now)),
            "limits": self._limits(now) if asks else None,
        }
        return {name: why for name, why in found.items() if why}

    def _keys(self, now: int) -> Iterator[str]:
        named: tuple[tuple[Purpose, PublicKey], ...] = (("issuer", self.issuer), ("recorder", self.recorder))
        for purpose, key in named:
            entry = self.trust.now.get(key.thumbprint, purpose)
            periods: tuple[Period, ...] = () if entry is None else ((entry.not_before, entry.not_after),)
            if (problem := ending_key(f"{purpose} key", periods, now)) is not None:
                yield problem
        certified = self.enforcement.renewals.period()
        if certified is not None and (problem := ending_key("recorder certificate", (certified,), now)) is not None:
            yield problem

    def _limits(self, now: int) -> str | None:
        near = self.nearly_spent(now)
        if not near:
            return None
        which = "1 limit of an open task is" if near == 1 else f"{near} limits of open tasks are"
        return f"{which} spent by more than nine tenths; further calls may be refused"

    def nearly_spent(self, now: int | None = None) -> int | None:
        """Return how many limits of open tasks are spent by more than nine tenths; ``None`` if that cannot be told.

        On an event loop, a state that may block is not asked.
        """
        state = self.enforcement.state
        if has_loop() and not isinstance(state, MemoryState):
            return None
        at = self.enforcement.clock.wall_ns() // _NS if now is None else now
        try:
            return self.enforcement.spent.nearly(state, at)
        except Exception:  # noqa: BLE001 - Warnings fail open, whatever a store does; a fault of it is told as the state.
            return None
