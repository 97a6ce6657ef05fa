"""Lists and reads files below given paths: no links, nothing special, all within limits."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from agent_identity._scan._documents import Unreadable
from agent_identity._scan.results import Unread
from agent_identity.errors import ConfigurationError

MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one file."""

_MAX_DEPTH: Final = 40
_LEFT_OUT: Final = frozenset(
    {
        *(".git", ".hg", ".svn", ".venv", "venv", "node_modules", "site-packages", "__pycache__"),
        *(".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
    }
)


def walked(path: str) -> Iterator[str | Unread]:
    """Yield the regular files below a path in order, and what is left out.

    Args:
        path: A file or folder as the caller named it; it may itself be a link.
    """
    if not Path(path).is_dir():
        yield path
        return
    waiting = [("" if path in (".", "./") else path.rstrip("/") or "/", 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            with os.scandir(folder or ".") as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            yield Unread(folder, "not_permitted")
            continue
        if depth and any(entry.name == "pyvenv.cfg" for entry in entries):
            yield Unread(folder, "left_out")
            continue
        inner: list[tuple[str, int]] = []
        for entry in entries:
            name = f"{folder.rstrip('/')}/{entry.name}" if folder else entry.name
            yield from _entry(entry, name, depth, inner)
        waiting += reversed(inner)


def _entry(entry: os.DirEntry[str], name: str, depth: int, inner: list[tuple[str, int]]) -> Iterator[str | Unread]:
    if entry.is_symlink():
        yield Unread(name, "link")
    elif entry.is_file(follow_symlinks=False):
        yield name
    elif not entry.is_dir(follow_symlinks=False):
        yield Unread(name, "special")
    elif entry.name in _LEFT_OUT:
        yield Unread(name, "left_out")
    elif depth >= _MAX_DEPTH:
        yield Unread(name, "too_deep")
    else:
        inner.append((name, depth + 1))


def read_bytes(path: str, *, named: bool = False) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file.
        named: The caller named it, so that it may be a link.

    Raises:
        Unreadable: It is too large, no regular file, or cannot be opened.
    """
    with _regular(path, named=named) as file:
        try:
            data = file.read(MAX_BYTES + 1)
        except OSError:
            raise Unreadable("not_permitted") from None
    if len(data) > MAX_BYTES:
        raise Unreadable("too_large")
    return data


def opened(path: str) -> BinaryIO:
    """Open a regular file of any size that the caller named.

    Raises:
        ConfigurationError: It cannot be opened, or is no regular file.
    """
    try:
        return _regular(path, named=True)
    except Unreadable:
        raise ConfigurationError(f"cannot read {path!r}; name a file that you may read") from None


def _regular(path: str, *, named: bool) -> BinaryIO:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if named else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError):
        raise Unreadable("not_permitted") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable("special")
    return os.fdopen(descriptor, "rb")
