"""Periods of keys, and when their end is near."""

import pytest

from agent_identity._identity.common.periods import ends_soon

DAY = 86_400


@pytest.mark.parametrize(
    ("not_before", "not_after", "soon"),
    [
        (None, None, None),
        (0, None, None),
        (None, 100 * DAY, 86 * DAY),
        (0, 100 * DAY, 86 * DAY),
        (0, 8 * DAY, 6 * DAY),
        (99 * DAY, 100 * DAY, 100 * DAY - DAY // 4),
        (5, 5, 5),
    ],
)
def test_an_end_is_near_in_two_weeks_or_in_the_last_fourth(
    not_before: int | None, not_after: int | None, soon: int | None
) -> None:
    """So a certificate of a day is not always about to end; what has no end never is."""
    if soon is None:
        assert not ends_soon(10**12, not_before, not_after)
    else:
        assert not ends_soon(soon - 1, not_before, not_after)
        assert ends_soon(soon, not_before, not_after)
        assert ends_soon((not_after or 0) + 1, not_before, not_after)
