"""The global tracer provider, which applications set before us, after us, or never."""

import logging
from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from agent_identity.enforcement.failures import trouble

__all__ = ["WAITING", "look_for_provider", "when_provided"]

_LOG: Final = logging.getLogger("agent_identity")
WAITING: Final[list[Callable[[TracerProvider], object]]] = []
"""What waits for a provider; empty nearly always, which whoever is in a hurry sees without a call."""


def when_provided(use: Callable[[TracerProvider], object]) -> None:
    """Call a function once with the global tracer provider: now, or after it was set, before our next span.

    OpenTelemetry tells nobody that a provider was set. Whoever has to do with our tasks hears of it in time,
    because each task and call asks here before it starts its span.

    Args:
        use: The function; what it raises is logged, because telemetry fails open.
    """
    WAITING.append(use)
    look_for_provider()


def look_for_provider() -> None:
    """Call what waits, if there is a provider now."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return
    while True:
        try:
            use = WAITING.pop(0)  # Atomic: of threads that race here, each function has one.
        except IndexError:
            return
        try:
            use(provider)
        except Exception as error:  # noqa: BLE001 - Telemetry fails open: what a provider does not take is only missed.
            _LOG.warning("a tracer provider could not be used: %s", trouble(error))
