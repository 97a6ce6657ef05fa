"""Whether a process above this one has an evidence directory open.

Linux tells it in ``/proc``; elsewhere ``ps`` and ``lsof`` do. Nobody can look at the files of processes of other users,
and process 1 is left out, since everything in a container is below it.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

_File: TypeAlias = tuple[int, int]
"""Device and inode."""

_PROC: Final = Path("/proc")
_MOST: Final = 256
_SECONDS: Final = 10


def holds(directory: Path) -> bool:
    """Return whether an ancestor of this process has a ledger of the directory open."""
    locks = set(_files([*directory.glob("ledger/*/lock"), directory / "log" / "lock"]))
    linux = (_PROC / "self" / "stat").exists()
    opened = _opened_by_proc if linux else _opened_by_lsof
    return bool(locks) and any(not locks.isdisjoint(opened(process)) for process in _ancestors(linux=linux))


def _files(paths: Iterable[Path]) -> Iterator[_File]:
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            yield status.st_dev, status.st_ino


def _ancestors(*, linux: bool) -> Iterator[int]:
    process = os.getppid()
    for _ in range(_MOST):
        if process <= 1:
            return
        yield process
        process = _parent_by_proc(process) if linux else _parent_by_ps(process)


def _parent_by_proc(process: int) -> int:
    try:
        text = (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[1])  # The name before it may hold anything.
    except (OSError, ValueError, IndexError):
        return 0


def _opened_by_proc(process: int) -> Iterator[_File]:
    try:
        names = list((_PROC / str(process) / "fd").iterdir())
    except OSError:
        names = []
    return _files(names)


def _parent_by_ps(process: int) -> int:
    text = _output("ps", "-o", "ppid=", "-p", str(process)).strip()
    return int(text) if text.isdigit() else 0


def _opened_by_lsof(process: int) -> Iterator[_File]:
    lines = _output("lsof", "-a", "-p", str(process), "-Fn").splitlines()
    return _files(Path(line[1:]) for line in lines if line.startswith("n/"))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  Fixed words and a number.
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
