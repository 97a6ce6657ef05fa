"""Old segments of large ledgers: each is compressed in the end, and pruning is bounded, visible and interruptible."""

import errno
import gzip
import threading
from pathlib import Path

from agent_identity.audit import check
from agent_identity.evidence import Files, Layout, Ledger, Segments
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
TRUST = TrustStore((TrustedKey(SIGNER.public_key, "recorder"),), origin=ORIGIN)
SMALL = 64 * 1024
BODY = {"erasure": {"key": "x" * 64}}
PER_SEGMENT = 200  # Records, somewhat more than fit.
IDS = SequentialIds()


def opened(path: Path, **options: object) -> Ledger:
    """Start a process whose segments are small."""
    given = {"signer": SIGNER, "origin": ORIGIN, "clock": FixedClock(), "ids": IDS, **options}
    return Ledger.open(path, segments=Segments(max_bytes=SMALL), **given)


def fill(ledger: Ledger, segments: int) -> str:
    """Append so much that segments are closed, and seal it; return the stream."""
    for _ in range(segments * PER_SEGMENT):
        ledger.append("erasure", BODY)
    ledger.seal()
    return ledger.stream


def settle() -> None:
    """Wait for the threads that compress."""
    for thread in threading.enumerate():
        if thread.name == "agent-identity-compression":
            thread.join(30)


def plain(path: Path, stream: str) -> list[str]:
    """Return the closed segments of a stream that are not compressed."""
    return sorted(p.name for p in (path / "ledger" / stream).glob("entries-*.jsonl"))


class Busy(Files):
    """A system on which the segments are locked by others for a long time, or full for a while."""

    def __init__(self, path: Path) -> None:
        self.lock_path = Layout.of(path).segments_lock
        self.held = 0
        self.full = 0
        self._fds: set[int] = set()

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Open, and fail to where the disk is full."""
        if self.full and path.endswith(".gz.tmp"):
            self.full -= 1
            raise OSError(errno.ENOSPC, "fault")
        fd = super().open(path, flags, mode)
        (self._fds.add if path == self.lock_path else self._fds.discard)(fd)
        return fd

    def lock(self, fd: int) -> None:
        """Lock, unless others have it."""
        if self.held and fd in self._fds:
            self.held -= 1
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        super().lock(fd)

    def pause(self, seconds: float) -> None:
        """Take no time."""


def test_a_segment_waits_for_the_others_however_long_they_take(tmp_path: Path) -> None:
    """With several writers the lock of the segments is taken for minutes; nobody gives up meanwhile."""
    files = Busy(tmp_path)
    files.held = 5_000
    with opened(tmp_path, files=files) as ledger:
        stream = fill(ledger, 2)
        settle()
        assert plain(tmp_path, stream) == []
    assert files.held == 0
    assert check(tmp_path, TRUST).exit_code == 0


def test_a_segment_that_failed_is_tried_again(tmp_path: Path) -> None:
    """Where the disk was full, the next segment that is closed brings the earlier ones along."""
    files = Busy(tmp_path)
    files.full = 1
    with opened(tmp_path, files=files) as ledger:
        stream = fill(ledger, 1)
        settle()
        assert len(plain(tmp_path, stream)) == 1
        fill(ledger, 1)
        settle()
        assert plain(tmp_path, stream) == []
    assert check(tmp_path, TRUST).exit_code == 0


def test_what_a_process_left_is_compressed_by_a_later_one(tmp_path: Path) -> None:
    """It ended before it got to it; the content is the same, and streams that still run are left alone."""
    with opened(tmp_path, files=(files := Busy(tmp_path))) as ledger:
        files.full = 10**6
        left = fill(ledger, 2)
        settle()
    assert len(plain(tmp_path, left)) >= 2
    running = opened(tmp_path, files=(still := Busy(tmp_path)))
    still.full = 10**6
    own = fill(running, 1)
    settle()
    before = {p.name: p.read_bytes() for p in (tmp_path / "ledger" / left).glob("entries-*")}
    with opened(tmp_path) as ledger:
        fill(ledger, 1)
        settle()
    assert plain(tmp_path, left) == []
    assert plain(tmp_path, own) != []
    for name, content in before.items():
        assert gzip.decompress((tmp_path / "ledger" / left / f"{name}.gz").read_bytes()) == content
    running.close()
    assert check(tmp_path, TRUST).exit_code == 0
