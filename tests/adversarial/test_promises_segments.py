"""Old segments of large ledgers: each is compressed in the end, and pruning is bounded, visible and interruptible."""

import errno
import gzip
import io
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from datetime import timedelta
from pathlib import Path

import pytest
from plain_records import append

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._ledger import segments as segments_module
from agent_identity._ledger.archiving import prune
from agent_identity._ledger.prunable_prefix import _lines
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files
from agent_identity.cli import main
from agent_identity.delegation import DelegationBundle
from agent_identity.errors import Denied, GrantExpired
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Durability, Ledger, Segments, Sources
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "ledger.example/log"
SIGNER = SigningKey.from_seed(b"r" * 32)
TRUST = TrustStore((TrustedKey(SIGNER.public_key, "recorder"),), origin=ORIGIN)
SMALL = 64 * 1024
BODY = {"erasure": {"key": "x" * 64}}
PER_SEGMENT = 200  # Records, somewhat more than fit.
IDS = SequentialIds()
CLERK = Agent("clerk", owner="ops@example.com")


def opened(path: Path, **options: object) -> Ledger:
    """Start a process whose segments are small."""
    given = {"signer": SIGNER, "origin": ORIGIN, "clock": FixedClock(), "ids": IDS, **options}
    return Ledger.open(path, segments=Segments(max_bytes=SMALL), **given)


def fill(ledger: Ledger, segments: int) -> str:
    """Append so much that segments are closed, and seal it; return the stream."""
    for _ in range(segments * PER_SEGMENT):
        append(ledger, "erasure", BODY)
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
    assert Verifier(TRUST).ledger(tmp_path).exit_code == 0


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
    assert Verifier(TRUST).ledger(tmp_path).exit_code == 0


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
    assert Verifier(TRUST).ledger(tmp_path).exit_code == 0


def test_streams_that_a_start_has_to_recover_are_left_to_it(tmp_path: Path) -> None:
    """Neither they nor streams of one file, nor folders that cannot be looked at, stop what comes after them."""
    with opened(tmp_path, files=(files := Busy(tmp_path))) as ledger:
        files.full = 10**6
        left = fill(ledger, 1)
        settle()
    with opened(tmp_path) as ledger:
        append(ledger, "erasure", BODY)
    (tmp_path / "ledger" / left / "lock").write_bytes(b"")
    (tmp_path / "ledger" / ("A" * 22)).write_bytes(b"")
    later = Ledger.open(
        tmp_path, signer=SIGNER, origin=ORIGIN, clock=FixedClock(), ids=IDS, segments=Segments(max_bytes=SMALL)
    )
    (tmp_path / "ledger" / left / "lock").write_bytes(b"")
    own = fill(later, 1)
    settle()
    assert plain(tmp_path, left) != []
    assert plain(tmp_path, own) == []
    later.close()


# --------------------------------------------------------------------- pruning


PRUNE = ("--older-than", "0d", "--destroy-even-what-is-younger-than-six-months")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a directory with three streams of several segments each."""
    path = tmp_path / "evidence"
    for _ in range(3):
        segments = Segments(max_bytes=SMALL, compression="none")
        with Enforcer.open(
            path, sources=Sources(clock=FixedClock()), durability=Durability(segments=segments)
        ) as enforcer:
            tool = enforcer.tool(name="pay")(lambda amount: amount)
            with enforcer.task("p", principal=Human("alice@example.com"), agent=CLERK, scope=Scope("pay")):
                for number in range(120):
                    tool(number)
    assert len(list(path.glob("ledger/*/entries*.jsonl"))) >= 9
    return path


def test_an_age_of_nothing_is_an_age(old: Path, capsys: pytest.CaptureFixture) -> None:
    """All that is closed and sealed may leave, if one says twice that it may; what is no age is quoted."""
    assert main(["prune", str(old), *PRUNE[:2]]) == 2
    assert "--destroy-even-what-is-younger-than-six-months" in capsys.readouterr().err
    assert main(["archive", str(old), "--to", str(old.parent / "out"), "--older-than", "0h"]) == 0
    assert main(["prune", str(old), *PRUNE]) == 0
    assert capsys.readouterr().out.count("pruned records 1 to ") == 3
    assert Verifier().ledger(old).completeness == "pruned"
    for text in ("00d", "1.5d", "-1d", "0"):
        assert main(["prune", str(old), f"--older-than={text}"]) == 2
        assert repr(text) in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


@pytest.mark.parametrize("words", [("archive", "--to", "{out}"), ("prune", *PRUNE)], ids=["archive", "prune"])
def test_reading_old_segments_shows_how_far_it_is(
    old: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal, from the verification to the end."""
    monkeypatch.setenv("TERM", "xterm")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    command, *options = [word.format(out=old.parent / "out") for word in words]
    assert main([command, str(old), *options]) == 0
    assert "reading old segments" in shown.getvalue()
    assert "100 %" in shown.getvalue()


def test_pruning_can_be_interrupted_at_any_moment(
    old: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Ctrl-C ends it with the usual code; what is left verifies, and the next run does the rest."""
    number, code = 0, 130
    while code == 130:
        path = old.with_name(f"evidence-{number}")
        shutil.copytree(old, path)
        with monkeypatch.context() as patch:
            interrupt(patch, number)
            code = main(["prune", str(path), *PRUNE])
        assert code in {0, 130}
        assert Verifier().ledger(path).integrity == "verified"
        if code == 130:
            assert main(["prune", str(path), *PRUNE]) == 0
            report = Verifier().ledger(path)
            assert (report.integrity, report.problems["incomplete"]) == ("verified", 0)
        lines = [line for stream in open_ledger(path).streams() for line in open_ledger(path).entries(stream)]
        assert len(lines) < 50
        shutil.rmtree(path)
        number += 1
    assert number > 10
    capsys.readouterr()


@pytest.mark.sample(4)
@pytest.mark.parametrize("seed", range(24))
def test_whatever_is_open_where_a_stream_is_cut_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Tasks, parts and calls begin, expire and end in any order, and each chain behind any border is checked."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    chance, clock, cuts = dice(seed), FixedClock(), 0
    segments = Segments(max_bytes=chance.randrange(1_500, 9_000), compression="none")

    def open_one() -> Enforcer:
        return Enforcer.open(
            tmp_path / "evidence", sources=Sources(clock=clock), durability=Durability(segments=segments)
        )

    with open_one() as enforcer, open_one() as other:
        workers = [(copy_context(), work(enforcer, other, dice(f"{seed}.{n}"))) for n in range(4)]
        while workers:
            context, worker = chance.choice(workers)
            if context.run(next, worker, None) is None:
                workers.remove((context, worker))
            if chance.random() < 0.3:
                clock.advance(chance.choice([1, 10, 40]))
            if chance.random() < 0.2:
                cuts += pruned(tmp_path / "evidence", clock, enforcer, other)
        cuts += pruned(tmp_path / "evidence", clock, enforcer, other)
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.integrity, report.completeness) == ("verified", "pruned")
    assert {problem.code for problem in report.findings} == {"pruned"}
    assert cuts > 1


@pytest.mark.parametrize("seed", range(3))
def test_threads_may_go_on_while_their_stream_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """The same with threads, whose records mix as they come."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    clock, segments = FixedClock(), Segments(max_bytes=3_000 + 500 * seed, compression="none")

    def open_one() -> Enforcer:
        return Enforcer.open(
            tmp_path / "evidence", sources=Sources(clock=clock), durability=Durability(segments=segments)
        )

    with open_one() as enforcer, open_one() as other:
        threads = [threading.Thread(target=list, args=(work(enforcer, other, dice(f"{seed}.{n}")),)) for n in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            clock.advance(1)
            pruned(tmp_path / "evidence", clock, enforcer, other)
        pruned(tmp_path / "evidence", clock, enforcer, other)
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.integrity, {problem.code for problem in report.findings}) == ("verified", {"pruned"})


def test_a_task_that_was_stopped_between_its_first_two_records_keeps_its_grant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grant expires while other threads fill a segment, and the stream is cut there; its start comes behind."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    clock, segments = FixedClock(), Segments(max_bytes=3_000, compression="none")
    with Enforcer.open(
        tmp_path / "evidence", sources=Sources(clock=clock), durability=Durability(segments=segments)
    ) as enforcer:
        ledger, who = enforcer._enforcement.ledger, {"principal": Human("alice@example.com"), "agent": CLERK}
        write, cuts, made = ledger.append, 0, iter(range(2))

        def append_late(*arguments: object, **options: object) -> object:
            nonlocal cuts
            if next(made, None) == 1:
                clock.advance(30)
                with enforcer.task("other", **who, scope=Scope("read")):
                    for _ in range(5):
                        with enforcer.action("read"):
                            pass
                cuts += pruned(tmp_path / "evidence", clock, enforcer)
            return write(*arguments, **options)

        monkeypatch.setattr(ledger, "append", append_late)
        ttl = timedelta(seconds=1)
        with suppress(GrantExpired), enforcer.task("t", **who, scope=Scope("read"), ttl=ttl), suppress(Denied):
            pass
    report = Verifier().ledger(tmp_path / "evidence")
    assert (report.integrity, {problem.code for problem in report.findings}) == ("verified", {"pruned"})
    assert cuts == 1


class Renaming(Files):
    """An operating system on which the last file of a stream has just got another name, once."""

    missed = False

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        if "/ledger/" in path and path.endswith("entries.jsonl") and not flags & 3 and not self.missed:
            self.missed = True
            raise FileNotFoundError(errno.ENOENT, "it was closed since it was listed", path)
        return super().open(path, flags, mode)


@pytest.mark.parametrize("active", [True, False])
def test_only_the_last_file_of_a_stream_may_get_another_name_while_it_is_read(tmp_path: Path, active: bool) -> None:
    """Pruning reads a segment that was closed since it was listed under its new name; a missing earlier one fails."""
    path = str(tmp_path / "evidence")
    with Enforcer.open(path, sources=Sources(clock=FixedClock())) as enforcer:
        for _ in work(enforcer, enforcer, dice("one")):
            pass
    reader = LedgerReader(path)
    stream = reader.streams()[0]
    segment = reader.segments(stream)[-1]._replace(active=active)
    there = list(reader.lines_of(segment))
    renamed = LedgerReader(path, files=Renaming())
    if active:
        assert list(_lines(renamed, stream, segment)) == there != []
    else:
        with pytest.raises(FileNotFoundError):
            list(_lines(renamed, stream, segment))


def dice(seed: object) -> random.Random:
    """Return what decides."""
    return random.Random(str(seed))  # noqa: S311


def work(enforcer: Enforcer, other: Enforcer, chance: random.Random) -> Iterator[bool]:
    """Do some tasks, step by step, some of them so slowly that they expire."""
    who = {"principal": Human("alice@example.com"), "agent": CLERK}
    for _ in range(chance.randrange(1, 5)):
        ttl = timedelta(seconds=chance.choice([1, 20, 3_600]))
        with suppress(GrantExpired), enforcer.task("t", **who, scope=Scope("read"), max_depth=3, ttl=ttl):
            yield True
            for _ in range(chance.randrange(3)):
                with suppress(Denied), enforcer.action("read"):
                    yield True
            if chance.random() < 0.5:
                with suppress(Denied), enforcer.delegate(CLERK, scope=Scope("read"), purpose="part"):
                    yield True
                    with suppress(Denied), enforcer.action("read"):
                        yield True
            with suppress(Denied):
                carried = enforcer.current_task.export() if chance.random() < 0.5 else None
                for _ in range(5 if carried is not None else 0):  # It comes back: the grants are written once.
                    yield True
                    Context().run(resumed, other, carried)


def resumed(other: Enforcer, carried: DelegationBundle) -> None:
    """Do a part of a task in another process."""
    with suppress(Denied), other.accept(carried), other.action("read"):
        pass


def pruned(path: Path, clock: FixedClock, *others: Enforcer) -> int:
    """Prune what is closed, and return of how many streams."""
    for one in others:
        one._enforcement.ledger.seal()
    with Enforcer.open(path, sources=Sources(clock=clock)) as own:
        ledger = own._enforcement.ledger
        return len(list(prune(str(path), ledger, signer=ledger._signer, clock=clock, before_ns=1 << 62)))


def interrupt(patch: pytest.MonkeyPatch, number: int) -> None:
    """Press Ctrl-C before the n-th change that the main thread makes to the names of the directory."""
    left = [number]

    def pressed(name: str) -> Callable[..., object]:
        original = getattr(Files, name)

        def call(self: Files, *arguments: object) -> object:
            if threading.current_thread() is threading.main_thread():
                left[0] -= 1
                if left[0] == -1:
                    raise KeyboardInterrupt
            return original(self, *arguments)

        return call

    for name in ("unlink", "replace"):
        patch.setattr(Files, name, pressed(name))
