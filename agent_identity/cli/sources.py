"""What the words of a command name: one evidence directory, or files of traces."""

import glob
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_identity.errors import ConfigurationError

__all__ = ["STANDARD_INPUT", "gathered", "is_directory", "named"]

STANDARD_INPUT: Final = "-"

_PARTS: Final = ("ledger", "log", "keys", "trust.json")
_TRACES: Final = re.compile(r"\.(?:json|jsonl|ndjson|pb|bin|otlp)(?:\.(?:gz|zst))?\Z")
_MAX_LISTED: Final = 1_000_000
_MAX_NAME: Final = 4_096


def gathered(sources: Sequence[str], files_from: str | None = None) -> list[str]:
    """Return what the words of a command name, with patterns, trees of traces and listings in full.

    A word is a path as long as there is such a path. Else it may be a pattern (``*``, ``?``, ``[...]``, ``**``). A
    directory that is none of evidence stands for the files of traces below it, by their names and in their order;
    links are not followed.

    Args:
        sources: The words.
        files_from: A file that lists further ones, one a line, or each before a NUL byte; ``-`` for standard input.

    Raises:
        ConfigurationError: A pattern or a tree holds no file, or a listing cannot be read.
    """
    words = [*sources, *(() if files_from is None else _listed(files_from))]
    found = [name for word in words for name in _expanded(word)]
    if not found:
        raise ConfigurationError("expected an evidence directory or files of traces, got an empty list; name some")
    return [name for word in found for name in _tree(word)]


def _listed(path: str) -> list[str]:
    try:
        with sys.stdin.buffer if path == STANDARD_INPUT else Path(path).open("rb") as file:
            data = file.read(_MAX_LISTED * 256 + 1)
    except OSError as error:
        raise ConfigurationError(f"expected a list of files at {path!r}, got '{error.strerror}'") from None
    names = [os.fsdecode(name) for name in data.split(b"\0" if b"\0" in data else b"\n") if name]
    if len(names) > _MAX_LISTED or max(map(len, names), default=0) > _MAX_NAME:
        raise ConfigurationError(f"expected a list of at most {_MAX_LISTED:,} paths, got more or longer ones")
    return names


def _expanded(word: str) -> list[str]:
    if word == STANDARD_INPUT or os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  It takes absolute patterns, too.
    if not found:
        raise ConfigurationError(f"expected files that match {word!r}, got none; check the pattern")
    return found


def _tree(word: str) -> list[str]:
    if word == STANDARD_INPUT or not Path(word).is_dir() or _is_evidence(Path(word)):
        return [word]
    found: list[str] = []
    for folder, folders, names in os.walk(word):
        folders.sort()
        if any(_is_evidence(Path(folder, name)) for name in folders):
            raise ConfigurationError(
                f"expected files of traces below {word!r}, got an evidence directory; take those one by one"
            )
        paths = (Path(folder, name) for name in sorted(names) if _TRACES.search(name))
        found += [str(path) for path in paths if path.is_file() and not path.is_symlink()]
    if not found:
        raise ConfigurationError(
            f"expected an evidence directory at {word!r}, got one without {', '.join(_PARTS)}, and without files of "
            "traces (.json, .jsonl, .ndjson, .pb, .bin, .otlp, also .gz or .zst) below it; name the directory of the "
            "enforcer, or the files"
        )
    return found


def _is_evidence(path: Path) -> bool:
    return path.absolute().name == "ledger" or any((path / part).exists() for part in _PARTS)


def named(sources: Sequence[str]) -> str | Sequence[str]:
    """Return the one source, or all of them, after a look at each; the user learns which one is wrong.

    Raises:
        ConfigurationError: One is missing, or a directory is none of evidence or not alone.
    """
    for source in sources:
        if source != STANDARD_INPUT:
            _check(source, alone=len(sources) == 1)
        elif sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
            print("reading traces from the terminal; end them with Ctrl-D", file=sys.stderr)
    return sources[0] if len(sources) == 1 else sources


def is_directory(source: str) -> bool:
    """Return whether a source that was looked at is an evidence directory."""
    return source != STANDARD_INPUT and Path(source).is_dir()


def _check(source: str, *, alone: bool) -> None:
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"expected an evidence directory or a file of traces at {source!r}, got '{reason}'; check the path"
        ) from None
    if not stat.S_ISDIR(mode):
        return
    if not alone:
        raise ConfigurationError(
            f"expected one evidence directory, or files of traces, got the directory {source!r} among others; "
            "take directories one by one, and name the files in a directory of traces"
        )
    if not _is_evidence(path):
        raise ConfigurationError(
            f"expected an evidence directory at {source!r}, got one without {', '.join(_PARTS)}; "
            "name the directory of the enforcer, or the files in a directory of traces"
        )
