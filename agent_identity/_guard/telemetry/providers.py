"""The global tracer provider, set before us, after us, or never."""

import logging
from collections.abc import Callable
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import TracerProvider

from agent_identity._guard.common.failures import safe_message

_LOG: Final = logging.getLogger("agent_identity")
WAITING: Final[list[Callable[[TracerProvider], object]]] = []
"""Functions that wait for a provider; almost always empty, which hot paths check without a call."""


def when_provided(use: Callable[[TracerProvider], object]) -> None:
    """Call a function once with the global tracer provider: now, or once it is set, before our next span.

    OpenTelemetry does not announce a new provider. The functions are called in time, because each task and call
    checks here before it starts its span.

    Args:
        use: The function; its exceptions are logged, because telemetry fails open.
    """
    WAITING.append(use)
    look_for_provider()


def look_for_provider() -> None:
    """Call the waiting functions, if a provider is set now."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        return
    while True:
        try:
            use = WAITING.pop(0)  # Atomic: racing threads get different functions.
        except IndexError:
            return
        try:
            use(provider)
        except Exception as error:  # noqa: BLE001 - Telemetry fails open: what a provider rejects is only missing.
            _LOG.warning("a tracer provider could not be used: %s", safe_message(error))
