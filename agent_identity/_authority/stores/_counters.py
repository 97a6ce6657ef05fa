"""Counters of limits: one sum, or the sums of the parts of a window, the same in every store.

A window is cut into at most sixty parts, and a counter keeps one sum for each. An amount counts until the
whole of its part is older than the window, so the limit holds in every window of that length, wherever it
begins; the price is that an amount may count a sixtieth of the window, and a second, longer than it must.
A counter's time never goes back: an amount that comes with an earlier time is counted in the latest part.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from agent_identity._authority.stores.protocol import Debit, Horizon, check_debits, check_key
from agent_identity.errors import StateError

Parts: TypeAlias = Mapping[int, int]
"""Sums by the number of their part of the window; the one sum of a counter without a window has number 0."""

_PARTS: Final = 60


class Spending:
    """A store that debits and resumes in one step of its own."""

    _horizon: Horizon

    def debit(self, debits: Sequence[Debit], *, now: int) -> int | None:
        """See :meth:`StateStore.debit`."""
        answer = self._spend(None, debits, now)
        return answer if isinstance(answer, int) else None

    def resume(self, share: str, debits: Sequence[Debit], *, now: int) -> tuple[int, ...] | int:
        """See :meth:`StateStore.resume`."""
        return self._spend(check_key(share), debits, now)

    def _spend(self, share: str | None, debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        late = check_debits(debits, now, self._horizon)
        return self._spent(share, debits, now) if late is None else late

    def _spent(self, share: str | None, debits: Sequence[Debit], now: int) -> tuple[int, ...] | int:
        """Take what debits ask for, less what a share holds; return that, or the number of the one that fails."""
        raise NotImplementedError


def width(window: int | None) -> int:
    """Return the length of one part of a window in seconds; without a window, one part holds everything."""
    return 0 if window is None else -(-window // _PARTS)


def taken(parts: Parts, debit: Debit, now: int) -> Parts | None:
    """Return the sums after a debit, or ``None`` if it exceeds the limit."""
    wide = width(debit.window)
    if debit.window is None:
        live, part = dict(parts), 0
    else:
        moment = max(now, max(parts, default=0) * wide)
        live, part = {at: sum_ for at, sum_ in parts.items() if (at + 1) * wide > moment - debit.window}, moment // wide
    if debit.amount > debit.limit - sum(live.values()):
        return None
    live[part] = live.get(part, 0) + debit.amount
    return live


def given_back(parts: Parts, debit: Debit, now: int) -> Parts:
    """Return the sums after undoing a debit taken at ``now``.

    It is taken out of the oldest part in which it can be, so that what remains counts rather too long than too
    short. A part that becomes empty stays, because it says how late it is.
    """
    wide = width(debit.window)
    first = 0
    if debit.window is not None:
        first = now // wide
        if (first + 1) * wide <= max(parts, default=0) * wide - debit.window:
            return parts  # It may have left the window already, and must not free what others took.
    left, after = debit.amount, dict(parts)
    for at in sorted(parts):
        if at >= first:
            part = min(left, after[at])
            after[at] -= part
            left -= part
    return after


def kept_in(parts: Parts) -> int:
    """Return the amount in the counter of a share."""
    return parts.get(0, 0)


def kept_with(parts: Parts, amount: int) -> Parts:
    """Return the sums of the counter of a share after keeping an amount: the larger one counts."""
    return {0: max(kept_in(parts), amount)}


def write_parts(parts: Parts) -> str:
    """Return the sums as text."""
    return " ".join(f"{at}:{sum_}" for at, sum_ in parts.items())


def read_parts(text: str) -> Parts:
    """Return the sums in a text of :func:`write_parts`.

    Raises:
        StateError: It is no such text.
    """
    try:
        return {int(at): int(sum_) for at, sum_ in (pair.split(":") for pair in text.split())}
    except ValueError:
        raise _damaged("the sums of a counter") from None


def read_counter(expires_at: object, parts: object) -> tuple[int, Parts]:
    """Return the expiry of a counter, and its sums, from a database row.

    Raises:
        StateError: It has something else.
    """
    if type(expires_at) is not int or type(parts) is not str:
        raise _damaged("the end of a counter and its sums")
    return expires_at, read_parts(parts)


def read_version(row: tuple[object, ...] | None) -> tuple[int, bytes] | None:
    """Return the version and the data of a database row, if the row exists.

    Raises:
        StateError: The row has something else.
    """
    match row:
        case None:
            return None
        case (int(version), bytes(data)):
            return version, data
        case _:
            raise _damaged("a version and its data")


def read_count(row: tuple[object, ...] | None) -> int:
    """Return the single number of a database row.

    Raises:
        StateError: There is no such row.
    """
    match row:
        case (int(count),):
            return count
        case _:
            raise _damaged("a number")


def _damaged(what: str) -> StateError:
    return StateError(f"the state is damaged: cannot read {what}; restore it from a copy")
