"""Disks that are full, read-only or over quota, and clocks that jump: refused loudly, recovered at once, still true."""

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._storage.os_files import Files
from agent_identity.errors import AgentIdentityError, Denied, EvidenceError
from agent_identity.options import Durability, Sources
from agent_identity.testing import FixedClock

GIVEN: dict[str, Any] = {
    "principal": Human("alice@example.com"),
    "agent": Agent("invoice-clerk", owner="finance@example.com"),
    "scope": Scope("tool"),
}
DAY = 86_400 * 10**9


def counted(enforcer: Enforcer) -> tuple[Callable[..., object], list[object]]:
    """Return a guarded tool, and what its body was called with."""
    ran: list[object] = []
    return enforcer.tool(name="tool")(ran.append), ran


def whole(directory: Path, intents: int) -> None:
    """Assert that the directory verifies to its last record, and has so many intents."""
    report = Verifier().ledger(directory)
    assert report.integrity == "verified", report.findings[:3]
    assert report.counts["verified"] == report.counts["records"]
    assert report.kinds["intent"] == report.kinds["outcome"] == intents


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Returns a file system of 256 KiB of its own; only root can have one."""
    place = tmp_path / "mounted"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("a file system of its own needs root and mount(8)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("sync", ["process", "disk"])
def test_ac_79_a_small_file_system_fills_up_and_recovers(mounted: Path, sync: str) -> None:
    """A real disk without space: what runs has its record, the rest is refused; with space the next call runs."""
    directory = mounted / "evidence"
    with Enforcer.open(directory, durability=Durability(sync=sync)) as enforcer:
        tool, ran = counted(enforcer)
        with enforcer.task("act", **GIVEN):
            filler = mounted / "filler"
            filler.write_bytes(bytes(32 * 1024))
            with pytest.raises(EvidenceError):  # noqa: PT012  At which call is the disk's to say.
                for number in range(1_000):
                    tool(number)
            assert 0 < len(ran) < 1_000
            refused = len(ran)
            with pytest.raises(EvidenceError):
                tool(-1)
            assert len(ran) == refused
            filler.unlink()
            tool(-2)
            assert ran[-1] == -2
    report = Verifier().ledger(directory)
    assert report.integrity == "verified", report.findings[:3]
    assert report.counts["verified"] == report.counts["records"]
    assert report.kinds["intent"] == len(ran)


def test_ac_79_a_file_system_that_turns_read_only_refuses_and_recovers(mounted: Path) -> None:
    """Running and starting are refused in our words while nothing can be written, and go on as soon as it can."""
    directory = mounted / "evidence"

    def remount(how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(mounted)], check=True)

    with Enforcer.open(directory) as enforcer, enforcer.task("act", **GIVEN):
        counted(enforcer)[0](0)
    remount("ro")
    with pytest.raises(AgentIdentityError):
        Enforcer.open(directory)
    remount("rw")
    with Enforcer.open(directory) as enforcer, enforcer.task("act", **GIVEN):
        counted(enforcer)[0](1)
    whole(directory, 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG])
@pytest.mark.parametrize("call", ["write", "fdatasync"])
def test_ac_79_whatever_the_disk_says_nothing_runs_until_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    """Out of space, over quota, read-only, broken, too large: one refusal, and no start is needed afterwards."""
    with Enforcer.open(tmp_path, durability=Durability(sync="disk")) as enforcer, enforcer.task("act", **GIVEN):
        tool, ran = counted(enforcer)
        with monkeypatch.context() as patch:

            def fail(*_: object) -> int:
                raise OSError(code, os.strerror(code))

            patch.setattr(Files, call, fail)
            for _ in range(2):
                with pytest.raises(EvidenceError, match=os.strerror(code)):
                    tool(1)
            assert ran == []
        tool(2)
        assert ran == [2]
    Enforcer.open(tmp_path).close()  # Seals what could not be signed because nobody knew whether the disk had it.
    report = Verifier().ledger(tmp_path)
    assert report.integrity == "verified", report.findings[:3]
    assert report.counts["verified"] == report.counts["records"]


def test_clocks_that_jump_end_authority_early_and_harm_no_evidence(tmp_path: Path) -> None:
    """Set a day back, two days on, years back: tasks end by time all the same, records verify and stay in order."""
    clock = FixedClock()
    with Enforcer.open(tmp_path, sources=Sources(clock=clock)) as enforcer:
        tool, ran = counted(enforcer)
        for jump in (-DAY, 2 * DAY, -3_650 * DAY, 3_650 * DAY, 1, -1):
            with enforcer.task("act", **GIVEN):
                tool(jump)
                clock.set_wall(clock.wall_ns() + jump)
                if jump > DAY:
                    with pytest.raises(Denied):
                        tool("after the end")
                clock.advance(3_601)  # Longer than the task lives, and than a sign of life takes.
                with pytest.raises(Denied):
                    tool("after the end")
            enforcer._enforcement.ledger.seal()
        assert ran == [-DAY, 2 * DAY, -3_650 * DAY, 3_650 * DAY, 1, -1]
    report = Verifier().ledger(tmp_path)
    assert report.integrity == "verified", report.findings[:3]
    assert report.counts["verified"] == report.counts["records"]
    assert report.kinds["intent"] == 6


@pytest.mark.parametrize("wall", [-1, 10**19])
def test_a_clock_that_no_record_can_hold_refuses(tmp_path: Path, wall: int) -> None:
    """Before 1970 and beyond 19 digits nothing runs, so that no record of ours is malformed, until the clock is set."""
    clock = FixedClock()
    right = clock.wall_ns()
    with Enforcer.open(tmp_path, sources=Sources(clock=clock)) as enforcer:
        tool, ran = counted(enforcer)
        with enforcer.task("act", **GIVEN):
            clock.set_wall(wall)
            with pytest.raises((Denied, EvidenceError)):
                tool("refused")
            clock.set_wall(right)
        with enforcer.task("act", **GIVEN):
            tool("runs")
        assert (ran, enforcer.degraded) == (["runs"], {})
    report = Verifier().ledger(tmp_path)
    assert (report.verdict, report.findings) == ("verified", ())
