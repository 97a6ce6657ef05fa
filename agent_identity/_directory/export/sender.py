"""Sends the copies of a ledger until the receiver has acknowledged them: at least once, in bounded memory."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

from agent_identity._directory.export.export_cursors import Aside, Cursor, Cursors
from agent_identity._directory.export.export_queue import Copied, StreamCopies
from agent_identity._directory.export.receivers import Answer, Receiver
from agent_identity._ledger.reader import LedgerReader
from agent_identity._spans.span_from_record import RecordSpan
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files
from agent_identity.errors import AgentIdentityError

_LOG: Final = logging.getLogger("agent_identity")
_BATCH: Final = 512
_BATCH_BYTES: Final = 1024 * 1024  # Of records and grants; spans are up to three times as large, receivers take 4 MiB.
_STRIDE: Final = 16  # Spans; about two milliseconds.
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_LATE: Final = 60.0
"""Seconds without an acknowledgement after which a receiver is said to lag."""

_COMPARED: Final = 4  # Other records that are tried before blaming the receiver.


class Stopped(Exception):
    """The sender has to stop; unacknowledged records stay in place."""


@final
class DeliveryError(AgentIdentityError):
    """The receiver takes nothing (``receiver_unavailable``), or rejects a record (``record_refused``)."""

    default_code = "receiver_unavailable"


@final
@dataclass(slots=True)
class Shipped:
    """The result so far.

    Attributes:
        sent: Acknowledged.
        refused: Set aside, since the receiver takes others but not these.
        unsigned: Set aside, since no signature of the current recorder key counts for their time.
        unproved: Ledger lines that the library did not write, and does not sign.
        size: Bytes of sent records, and of the grants on their spans.
    """

    sent: int = 0
    refused: int = 0
    unsigned: int = 0
    unproved: int = 0
    size: int = 0


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """The sender's patience.

    Attributes:
        wait: Waits some seconds and returns whether to stop; also called with 0 between batches.
        patience: Seconds without acknowledgement before the sender gives up; ``None``: never.
        strict: Stop at a rejected record, instead of setting it aside.
        breath: Seconds of rest after every few spans, if the sender shares an interpreter.
        jitter: Returns a number from 0 to 1, so that senders do not return all at once.
    """

    wait: Callable[[float], bool]
    patience: float | None
    strict: bool
    breath: float
    jitter: Callable[[], float]


@final
class Shipper:
    """Sends the spans of an evidence directory to one receiver.

    Args:
        layout: The evidence directory.
        files: The operating system.
        cursors: The positions acknowledged by the receiver; the caller holds its lock.
        receiver: The receiver.
        copies: Makes the spans of a stream, from a position in it.
        pace: How patient to be.
        progress: Called after each batch.

    Attributes:
        shipped: The result so far.
    """

    def __init__(
        self,
        layout: Layout,
        files: Files,
        cursors: Cursors,
        receiver: Receiver,
        *,
        copies: Callable[[str, int], StreamCopies],
        pace: Pace,
        progress: Callable[[Shipped], None] = lambda _: None,
    ) -> None:
        self.shipped = Shipped()
        self._reader = LedgerReader(layout.root, files=files)
        self._cursors = cursors
        self._receiver = receiver
        self._copies = copies
        self._pace = pace
        self._progress = progress
        self._streams: dict[str, StreamCopies] = {}
        self._quiet: set[str] = set()
        self._done: set[str] = set()
        self._good: RecordSpan | None = None
        self._failures = 0
        self._waited = 0.0
        self._reason = ""

    @property
    def fault(self) -> str | None:
        """Why the receiver has acknowledged nothing for a minute while records waited, or ``None``."""
        if self._waited < _LATE:
            return None
        return f"the receiver of copies has taken nothing for {self._waited:.0f} s: {self._reason}; the ledger has all"

    def run(self) -> bool:
        """Send the records that ended since the last run; return whether anything was new.

        Raises:
            Stopped: The sender is to end.
            DeliveryError: The receiver took nothing for too long, or cannot as configured, or rejected a record
                and the sender has to stop at one.
            EvidenceError: The acknowledged position cannot be stored.
        """
        news = False
        for name in self._reader.streams():
            if name not in self._done:
                news = self._run(name) or news
        return news

    def _run(self, name: str) -> bool:
        copies = self._streams.get(name)
        if copies is None:
            cursor = self._cursors.get(name)
            if cursor.done:
                self._done.add(name)
                return False
            copies = self._streams[name] = self._copies(name, cursor.seq)
        over = copies.ended or (name in self._quiet and copies.is_over())
        before, rejected = copies.seq, copies.rejected
        self._send_all(name, copies.read(), moving=True)
        self.shipped.unproved += max(0, copies.rejected - rejected)
        news = copies.seq != before
        if copies.ended or (over and not news and copies.seq):
            self._send_all(name, copies.left_open(), moving=False)
            self._cursors.set(name, Cursor(copies.seq, done=True))
            self._done.add(name)
            self._quiet.discard(name)
            del self._streams[name]
            return True
        (self._quiet.discard if news else self._quiet.add)(name)
        # A quiet stream is read once more, and then known to be over or not.
        return news

    def _send_all(self, name: str, items: Iterator[Copied], *, moving: bool) -> None:
        batch: list[Copied] = []
        size = last = 0
        for number, item in enumerate(items, 1):
            last = item.seq
            if item.span is None:
                self._put_aside(name, item, item.problem or "")
                self.shipped.unsigned += 1
            else:
                batch.append(item)
                size += item.size
            if self._pace.breath and not number % _STRIDE:
                time.sleep(self._pace.breath)
            if len(batch) >= _BATCH or size >= _BATCH_BYTES:
                self._send(name, batch)
                if moving:
                    self._cursors.set(name, Cursor(last))
                batch, size = [], 0
        if last:
            self._send(name, batch)
            if moving:
                self._cursors.set(name, Cursor(last))

    def _send(self, name: str, batch: list[Copied]) -> None:
        """Send a batch until each of its records is acknowledged or set aside."""
        parts = [batch] if batch else []
        while parts:
            part = parts.pop()
            if self._pace.wait(0):
                raise Stopped
            answer = self._receiver.send([item.span for item in part if item.span is not None])
            if answer.kind == "taken":
                self._taken(part)
            elif answer.kind in ("refused", "too_large") and len(part) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
            elif answer.kind in ("refused", "too_large") and (self._pace.strict or self._takes_all_but(part, parts)):
                self._refuse(name, part[0], answer)
            else:
                parts.append(part)
                self._wait(answer)

    def _taken(self, part: list[Copied]) -> None:
        if self._failures:
            _LOG.info("the receiver of copies takes them again")
        self._good = part[-1].span
        self._failures, self._waited = 0, 0.0
        self.shipped.sent += len(part)
        self.shipped.size += sum(item.size for item in part)
        self._progress(self.shipped)

    def _takes_all_but(self, part: list[Copied], parts: list[list[Copied]]) -> bool:
        """Return whether the receiver takes others and still not this one; it may have been repaired meanwhile."""
        spans = [item.span for item in part if item.span is not None]
        return self._takes_others(parts) and self._receiver.send(spans).kind in ("refused", "too_large")

    def _takes_others(self, parts: list[list[Copied]]) -> bool:
        """Return whether the receiver takes an earlier record again, or one of the next."""
        if self._good is not None:
            return self._receiver.send([self._good]).kind == "taken"
        others = [item.span for part in reversed(parts) for item in part if item.span is not None]
        return any(self._receiver.send([span]).kind == "taken" for span in others[:_COMPARED])

    def _refuse(self, name: str, item: Copied, answer: Answer) -> None:
        if self._pace.strict:
            raise DeliveryError(
                f"the receiver does not take record {item.id} (stream {name}, seq {item.seq}): {answer.reason}; "
                "see its log, or skip such records with --skip-refused",
                code="record_refused",
            )
        _LOG.warning("a receiver of copies does not take record %s: %s", item.id, answer.reason)
        self._put_aside(name, item, answer.reason)
        self.shipped.refused += 1

    def _put_aside(self, name: str, item: Copied, reason: str) -> None:
        self._cursors.set_aside(Aside(name, item.seq, item.id, reason))

    def _wait(self, answer: Answer) -> None:
        """Wait before the next attempt, longer each time, and as long as the receiver requests."""
        pace = self._pace
        if pace.patience is not None and (answer.kind == "unusable" or self._waited >= pace.patience):
            raise DeliveryError(
                f"the receiver took no batch: {answer.reason}; "
                "run the same command again, which continues after the last acknowledged batch"
            )
        if not self._failures:
            _LOG.warning("copies of the evidence wait for their receiver: %s; the ledger has all", answer.reason)
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(self._failures, 16))
        seconds = max(longest * (1 + pace.jitter()) / 2, answer.wait)
        self._reason = answer.reason
        self._failures += 1
        self._waited += seconds
        if pace.wait(seconds):
            raise Stopped
