"""Rates: how often something happens in an hour, against the same hour of earlier weeks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.rates.hourly_rates import BUSY, MIN_WEEKS, HourlyRates, hour_of_week
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.rates.hourly_rates": ("BUSY", "MIN_WEEKS", "HourlyRates", "hour_of_week"),
        },
    )

__all__ = [
    "BUSY",
    "MIN_WEEKS",
    "HourlyRates",
    "hour_of_week",
]
