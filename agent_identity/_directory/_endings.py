"""Ends of processes that run no ``atexit``: workers of Celery, and servers that die of the signal that stopped them."""

import logging
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Final

from agent_identity._guard.common.failures import safe_message
from agent_identity.errors import EvidenceError

_LOG: Final = logging.getLogger("agent_identity")

GRACE: Final = 5.0
"""Seconds for the last spans of a process that ends; supervisors give it ten or more before they kill it."""


def at_worker_end(end: Callable[[], object]) -> None:
    """Have Celery call a function in each worker process that it ends; elsewhere this does nothing.

    Its processes leave by ``os._exit``, after this signal.

    Args:
        end: The same function each time.
    """
    signals = sys.modules.get("celery.signals")
    if signals is None:
        return

    def receive(**_: object) -> None:
        end()

    signals.worker_process_shutdown.connect(receive, weak=False, dispatch_uid="agent_identity")


def each_in_order(ends: Iterable[Callable[[], object]]) -> None:
    """Call functions that close something, each whatever the others do."""
    for end in ends:
        try:
            end()
        except EvidenceError as error:
            _LOG.warning("an enforcer was not closed in order, the next start seals: %s", safe_message(error))


def flush_spans(provider: object, seconds: float) -> None:
    """Have a tracer provider export the spans that ended, and wait at most so long.

    Telemetry fails open: what a provider raises is logged, and one that takes longer goes on alone.

    Args:
        provider: The provider; one that cannot flush has nothing to.
        seconds: At most.
    """
    flush = getattr(provider, "force_flush", None)
    if not callable(flush):
        return

    def run() -> None:
        try:
            flush()
        except Exception as error:  # noqa: BLE001 - See above.
            _LOG.warning("the last spans were not exported: %s; the ledger has all", type(error).__name__)

    thread = threading.Thread(target=run, name="agent-identity-flush", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        _LOG.warning("the last spans were not exported within %g s; the ledger has all", seconds)
