"""Validity periods of the entries of a trust file."""

from typing import Final

MAX_TIME: Final = (1 << 53) - 1
"""The last second; every reader of JSON keeps integers up to here."""

_SOON: Final = 14 * 86_400


def check_time(value: int | None, what: str) -> None:
    """Check a time in seconds since the Unix epoch; ``None`` means no bound.

    Raises:
        TypeError: It is no ``int``.
        ValueError: It is out of range.
    """
    if value is None:
        return
    if type(value) is not int:
        raise TypeError(f"{what} is {type(value).__name__}; give whole seconds (int)")
    if not 0 <= value <= MAX_TIME:
        raise ValueError(f"{what} is not from 0 to 2^53 - 1 seconds since 1970")


def check_period(not_before: int | None, not_after: int | None) -> None:
    """Check the first and the last second of a period, either of which may be open.

    Raises:
        TypeError: One is no ``int``.
        ValueError: One is out of range, or they are out of order.
    """
    check_time(not_before, "not_before")
    check_time(not_after, "not_after")
    if not_before is not None and not_after is not None and not_before > not_after:
        raise ValueError("not_before is after not_after; exchange them")


def within(at: int, not_before: int | None, not_after: int | None) -> bool:
    """Return whether a second is within a period."""
    return (not_before is None or at >= not_before) and (not_after is None or at <= not_after)


def ends_soon(at: int, not_before: int | None, not_after: int | None) -> bool:
    """Return whether a period has ended, or is about to: in two weeks, and of a shorter one in its last fourth.

    Args:
        at: Now, in seconds since the Unix epoch.
        not_before: The first second; ``None`` for ever.
        not_after: The last second; ``None`` for ever.
    """
    if not_after is None:
        return False
    return at >= not_after - (_SOON if not_before is None else min(_SOON, (not_after - not_before) // 4))
