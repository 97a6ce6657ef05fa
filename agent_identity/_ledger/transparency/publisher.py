"""Background publishing of signed checkpoints, which never delays callers or the log."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias, final

Publish: TypeAlias = Callable[[bytes], object]
"""Takes a signed checkpoint elsewhere; what it raises is counted."""

_KEPT: Final = 1_024  # Checkpoints that wait; of more, the oldest give way, since a later one says all that they say.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # Seconds between attempts.
_CLOSE_SECONDS: Final = 5.0
_logger: Final = logging.getLogger("agent_identity.evidence")


@final
class Publisher:
    """A daemon thread that passes checkpoints to one function, in order.

    Args:
        name: Its name in the log.
        publish: The function.
        latest_only: It needs only the latest checkpoint, at most once a second, and is called again with it, after a
            longer pause, if it failed. Otherwise it is called once with each.

    Attributes:
        failures: The number of calls that raised.
        skipped: The number of checkpoints that gave way to later ones, because the function was too slow.
        fault: Why the last call failed, or ``None``.
    """

    def __init__(self, name: str, publish: Publish, *, latest_only: bool = False) -> None:
        self.name = name
        self._publish = publish
        self._latest_only = latest_only
        self._begin()

    def _begin(self) -> None:
        self.failures = 0
        self.skipped = 0
        self.fault: str | None = None
        self._waiting: deque[bytes] = deque(maxlen=1 if self._latest_only else _KEPT)
        self._busy = False
        self._called = False
        self._closing = False
        self._hurried = False
        self._attempts = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def offer(self, note: bytes) -> None:
        """Queue a checkpoint for publishing; returns at once."""
        with self._changed:
            if self._closing:
                return
            if not self._latest_only and len(self._waiting) == self._waiting.maxlen:
                self.skipped += 1
            self._waiting.append(note)
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(target=self._run, name="agent-identity-publishing", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # The interpreter is shutting down, or the system has no more threads.
                    self._note("no thread could be started")
                    return
                self._thread = thread
            self._changed.notify_all()

    def settle(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds for the queue; return whether every offered checkpoint is published."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._unsettled() or bool(self._attempts), timeout)
            self._hurried = False
            return not self._unsettled() and self.fault is None

    def close(self, timeout: float = _CLOSE_SECONDS) -> None:
        """Publish the queue within a few seconds, without retries, and end the thread."""
        self.settle(timeout)
        with self._changed:
            self._closing = True
            if self._unsettled():
                _logger.warning(
                    "%s does not have the last checkpoint: %s", self.name, self.fault or "no answer in time"
                )
            self._waiting.clear()
            self._changed.notify_all()

    def after_fork_in_child(self) -> None:
        """Reset in a forked child: the queue and the thread are the parent's."""
        self._begin()

    def _unsettled(self) -> bool:
        return bool(self._waiting) or self._busy

    def _run(self) -> None:
        while (note := self._next()) is not None:
            fault: str | None = None
            try:
                self._publish(note)
            except BaseException as error:  # noqa: BLE001  It may be the user's code; whatever it raises, sealing goes on.
                fault = str(error) if type(error).__module__.startswith("agent_identity.") else type(error).__name__
            self._settle_one(note, fault)

    def _next(self) -> bytes | None:
        with self._changed:
            if self._latest_only and self._called:
                # A later checkpoint does not shorten the pause, lest a dead witness is asked at every seal.
                pause = _PAUSES[min(self._attempts, len(_PAUSES) - 1)]
                self._changed.wait_for(lambda: self._closing or (self._hurried and not self._attempts), pause)
            self._changed.wait_for(lambda: self._closing or bool(self._waiting))
            if not self._waiting:
                return None
            self._busy = self._called = True
            return self._waiting.popleft()

    def _settle_one(self, note: bytes, fault: str | None) -> None:
        with self._changed:
            self._busy = False
            if fault is None:
                self._attempts = 0
                self.fault = None
            else:
                self._note(fault)
                if self._latest_only:
                    self._attempts += 1
                    if not self._waiting and not self._closing:
                        self._waiting.append(note)
            self._changed.notify_all()

    def _note(self, fault: str) -> None:
        self.failures += 1
        if self.fault is None:
            _logger.warning("a checkpoint could not be taken to %s: %s; it goes on trying", self.name, fault)
        self.fault = fault
