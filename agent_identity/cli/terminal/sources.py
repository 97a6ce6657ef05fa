"""What the words of a command name: one evidence directory, or files of traces."""

import errno
import fnmatch
import glob
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from agent_identity.errors import ConfigurationError

__all__ = ["STANDARD_INPUT", "gathered", "is_directory", "named"]

STANDARD_INPUT: Final = "-"

_PARTS: Final = ("ledger", "log", "keys", "trust.json")
_TRACES: Final = re.compile(r"\.(?:json|jsonl|ndjson|pb|bin|otlp)(?:\.(?:gz|zst))?\Z")
_MAX_LISTED: Final = 1_000_000
_MAX_NAME: Final = 4_096
_MAX_LISTING: Final = 256_000_000  # Bytes.


def gathered(sources: Sequence[str], files_from: str | None = None) -> list[str]:
    """Return what the words of a command name, with patterns, trees of traces and listings in full.

    A word is a path as long as there is such a path. Else it may be a pattern (``*``, ``?``, ``[...]``, ``**``), unless
    it stands in a listing. A directory that is none of evidence stands for the files of traces below it, by their names
    and in their order; links are not followed, and neither are they by ``**``.

    Args:
        sources: The words.
        files_from: A file that lists further ones, one a line, or each before a NUL byte; ``-`` for standard input.

    Raises:
        ConfigurationError: A pattern or a tree holds no file, or a listing or a folder cannot be read.
    """
    listed = [] if files_from is None else _listed(files_from)
    # What a listing names is there or is missed: no other file stands in for it by a pattern.
    found = [*(name for word in sources for name in _expanded(word)), *listed]
    if not found:
        raise ConfigurationError("expected an evidence directory or files of traces, got an empty list; name some")
    return [name for word in found for name in _tree(word)]


def _listed(path: str) -> list[str]:
    try:
        with _standard_input() if path == STANDARD_INPUT else Path(path).open("rb") as file:
            data = file.read(_MAX_LISTING + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"expected a list of files at {path!r}, got '{reason}'") from None
    end = b"\0" if b"\0" in data else b"\n"
    # Before the list is taken apart, which needs many times its memory.
    if len(data) > _MAX_LISTING or data.count(end) > _MAX_LISTED or len(data) - data.rfind(end) > _MAX_NAME + 1:
        raise _too_long()
    names = [os.fsdecode(name) for name in data.split(end) if name]
    if len(names) > _MAX_LISTED or max(map(len, names), default=0) > _MAX_NAME:
        raise _too_long()
    return names


def _too_long() -> ConfigurationError:
    return ConfigurationError(
        f"expected a list of at most {_MAX_LISTED:,} paths and {_MAX_LISTING:,} bytes, got more or longer ones; "
        "take several lists"
    )


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  It may be closed.
        raise ConfigurationError("expected a list of files on standard input, got none; pipe one in")
    return sys.stdin.buffer


def _expanded(word: str) -> list[str]:
    if word == STANDARD_INPUT or os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    steps = list(filter(None, word.split(os.sep)))  # As they stand.
    found = sorted(set(_matching(os.sep if word.startswith(os.sep) else "", steps)))
    if not found:
        raise ConfigurationError(f"expected files that match {word!r}, got none; check the pattern")
    return found


def _matching(root: str, steps: Sequence[str]) -> Iterator[str]:
    """Return the paths below a folder that match the steps of a pattern; ``**`` goes into no link."""
    if not steps:
        yield root
        return
    step, rest = steps[0], steps[1:]
    if step == "**":
        for folder, folders, names in _walked(root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if rest:
                yield from _matching(folder, rest)
            else:
                yield from (os.path.join(folder, name) for name in names if not name.startswith("."))
        return
    for name in _names(root) if glob.has_magic(step) else [step]:
        path = os.path.join(root, name)
        if (name == step or _matches(name, step)) and _leads(path, rest):
            yield from _matching(path, rest)


def _matches(name: str, step: str) -> bool:
    """Return whether a name has the form of a step; hidden ones have to be asked for, as in a shell."""
    return fnmatch.fnmatchcase(name, step) and (step.startswith(".") or not name.startswith("."))


def _leads(path: str, rest: Sequence[str]) -> bool:
    """Return whether there is something at a path, and a folder if there are more steps to go."""
    status = _status(path, follow=bool(rest))
    return status is not None and (not rest or stat.S_ISDIR(status.st_mode))


def _status(path: str, *, follow: bool) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=follow)  # The folder may be the empty one.
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise _unlisted(error) from None


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))  # Names are what is matched.
    except OSError as error:
        raise _unlisted(error) from None


def _walked(root: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a tree in the order of its names, into no link; a folder that cannot be listed is not left out."""

    def fail(error: OSError) -> None:
        raise _unlisted(error) from None

    for folder, folders, names in os.walk(root or ".", onerror=fail, followlinks=False):
        folders.sort()
        names.sort()
        yield folder if root else folder.removeprefix(".").removeprefix("/"), folders, names


def _unlisted(error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"expected a folder that can be listed and looked into at {error.filename!r}, got '{error.strerror}'; "
        "check its permissions, as files may be in it"
    )


def _tree(word: str) -> list[str]:
    if word == STANDARD_INPUT or not os.path.isdir(word) or _is_evidence(Path(word)):  # It raises nothing.
        return [word]
    found: list[str] = []
    for folder, folders, names in _walked(word):
        if any(_is_evidence(Path(folder, name)) for name in folders):
            raise ConfigurationError(
                f"expected files of traces below {word!r}, got an evidence directory; take those one by one"
            )
        paths = (str(Path(folder, name)) for name in names if _TRACES.search(name))
        found += [path for path in paths if (status := _status(path, follow=False)) and stat.S_ISREG(status.st_mode)]
    if not found:
        raise ConfigurationError(
            f"expected an evidence directory at {word!r}, got one without {', '.join(_PARTS)}, and without files of "
            "traces (.json, .jsonl, .ndjson, .pb, .bin, .otlp, also .gz or .zst) below it; name the directory of the "
            "enforcer, or the files"
        )
    return found


def _is_evidence(path: Path) -> bool:
    return path.absolute().name == "ledger" or any(_status(str(path / part), follow=True) for part in _PARTS)


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
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise ConfigurationError(
            f"expected an evidence directory or a file of traces at {source!r}, got a device, which may never end; "
            "name a file or a pipe, or - for standard input"
        )
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
