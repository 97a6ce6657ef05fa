"""Resolves the source arguments of a command: one evidence directory, or files of traces."""

import argparse
import errno
import fnmatch
import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, cast

from agent_identity._identity.trust.store import TrustStore
from agent_identity._verify.inputs.sources import is_bundle
from agent_identity.errors import ConfigurationError

STANDARD_INPUT: Final = "-"

_PARTS: Final = ("ledger", "log", "keys", "trust.json")
_MAX_LISTED: Final = 1_000_000
_MAX_NAME: Final = 4_096
_MAX_LISTING: Final = 256_000_000  # Bytes.


def gathered(sources: Sequence[str], files_from: str | None = None) -> list[str]:
    """Expand source arguments: patterns, folders of traces and listings.

    A word is a path if that path exists. Otherwise it may be a pattern (``*``, ``?``, ``[...]``, ``**``), unless it is
    from a listing. A directory without evidence expands to the trace files below it, in the order of their names;
    neither this nor ``**`` follows links.

    Args:
        sources: The words.
        files_from: A file that lists further paths, one a line or separated by NUL bytes; ``-`` for standard input.

    Raises:
        ConfigurationError: A pattern or a tree holds no file, or a listing or a folder cannot be read.
    """
    return trees(expanded(sources, files_from))


def trees(paths: Sequence[str]) -> list[str]:
    """Replace each folder without evidence by the files of traces below it.

    Args:
        paths: The paths.

    Raises:
        ConfigurationError: A folder cannot be read, or holds no files of traces.
    """
    return [name for path in paths for name in _tree(path)]


def expanded(sources: Sequence[str], files_from: str | None = None) -> list[str]:
    """Expand patterns and listings.

    Args:
        sources: The words.
        files_from: A file that lists further paths.

    Raises:
        ConfigurationError: A pattern matches no file, or a listing or a folder cannot be read.
    """
    listed = [] if files_from is None else _listed(files_from)
    # A listing has only paths: a missing file must not match others as a pattern.
    paths = [*(name for word in sources for name in _expanded(word)), *listed]
    if not paths:
        raise ConfigurationError("the list of sources is empty; name an evidence directory or files of traces")
    return paths


def several_hosts(paths: Sequence[str]) -> bool:
    """Return whether paths may name several hosts: a folder of evidence directories, or one among other sources.

    Args:
        paths: The paths.
    """
    return any(_holds_hosts(path, alone=len(paths) == 1) for path in paths if path != STANDARD_INPUT)


def _holds_hosts(path: str, *, alone: bool) -> bool:
    if not os.path.isdir(path):  # It raises nothing.
        return not alone and is_bundle(path)
    return not alone if _is_evidence(Path(path)) else _holds_evidence(path)


def _holds_evidence(path: str) -> bool:
    return any(_is_evidence(Path(folder, name)) for folder, names, _ in os.walk(path) for name in names)


def _listed(path: str) -> list[str]:
    try:
        with _standard_input() if path == STANDARD_INPUT else Path(path).open("rb") as file:
            data = file.read(_MAX_LISTING + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"the list of files {path!r} cannot be read ({reason}); check the path") from None
    end = b"\0" if b"\0" in data else b"\n"
    # Checked before the split, which needs many times the memory.
    if len(data) > _MAX_LISTING or data.count(end) > _MAX_LISTED or len(data) - data.rfind(end) > _MAX_NAME + 1:
        raise _too_long()
    names = [os.fsdecode(name) for name in data.split(end) if name]
    if len(names) > _MAX_LISTED or max(map(len, names), default=0) > _MAX_NAME:
        raise _too_long()
    return names


def _too_long() -> ConfigurationError:
    return ConfigurationError(
        f"the list has more than {_MAX_LISTED:,} paths or {_MAX_LISTING:,} bytes, or too long a path; use several lists"
    )


def _standard_input() -> BinaryIO:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  It may be closed.
        raise ConfigurationError("standard input is closed; pipe a list of files in")
    return sys.stdin.buffer


def _expanded(word: str) -> list[str]:
    if word == STANDARD_INPUT or os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    steps = list(filter(None, word.split(os.sep)))  # Without normalization.
    paths = sorted(set(_matching(os.sep if word.startswith(os.sep) else "", steps)))
    if not paths:
        raise ConfigurationError(f"no file matches {word!r}; check the pattern")
    return paths


def _matching(root: str, steps: Sequence[str]) -> Iterator[str]:
    """Return the paths below a folder that match the steps of a pattern; ``**`` follows no links."""
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
    """Return whether a name matches a step; hidden names need an explicit dot, as in a shell."""
    return fnmatch.fnmatchcase(name, step) and (step.startswith(".") or not name.startswith("."))


def _leads(path: str, rest: Sequence[str]) -> bool:
    """Return whether a path exists, and is a folder if steps remain."""
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
    """Walk a tree in the order of its names without following links; an unlistable folder is an error."""

    def fail(error: OSError) -> None:
        raise _unlisted(error) from None

    for folder, folders, names in os.walk(root or ".", onerror=fail, followlinks=False):
        folders.sort()
        names.sort()
        yield folder if root else folder.removeprefix(".").removeprefix("/"), folders, names


def _unlisted(error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{error.filename!r} cannot be accessed ({error.strerror}); check its permissions")


def _tree(word: str) -> list[str]:
    if word == STANDARD_INPUT or not os.path.isdir(word) or _is_evidence(Path(word)):  # It raises nothing.
        return [word]
    from agent_identity._spans.otlp_reader import TRACE_FILE  # Few sources are folders of traces.

    files: list[str] = []
    for folder, folders, names in _walked(word):
        if any(_is_evidence(Path(folder, name)) for name in folders):
            raise ConfigurationError(
                f"there is an evidence directory below {word!r}; name evidence directories one by one"
            )
        paths = (str(Path(folder, name)) for name in names if TRACE_FILE.search(name))
        files += [path for path in paths if (status := _status(path, follow=False)) and stat.S_ISREG(status.st_mode)]
    if not files:
        raise ConfigurationError(
            f"{word!r} is not an evidence directory (no {', '.join(_PARTS)}), and has no files of traces (.json, "
            ".jsonl, .ndjson, .pb, .bin, .otlp, also .gz or .zst) below it; name the enforcer's directory or the files"
        )
    return files


def _is_evidence(path: Path) -> bool:
    return path.absolute().name == "ledger" or any(_status(str(path / part), follow=True) for part in _PARTS)


def named(sources: Sequence[str]) -> str | Sequence[str]:
    """Check each source, and return the single one or the whole list; the error names the wrong one.

    Raises:
        ConfigurationError: A source is missing, or a directory is not an evidence directory or not alone.
    """
    for source in sources:
        if source != STANDARD_INPUT:
            _check(source, alone=len(sources) == 1)
        elif sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
            print("reading traces from the terminal; end them with Ctrl-D", file=sys.stderr)
    return sources[0] if len(sources) == 1 else sources


def is_directory(source: str) -> bool:
    """Return whether a checked source is an evidence directory."""
    return source != STANDARD_INPUT and Path(source).is_dir()


def directory_named(source: str) -> str:
    """Return a source that is an evidence directory.

    Raises:
        ConfigurationError: It is missing, or a file.
    """
    named([source])
    if not is_directory(source):
        raise ConfigurationError(f"{source!r} is a file; name an evidence directory")
    return source


def _check(source: str, *, alone: bool) -> None:
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"the source {source!r} cannot be read ({reason}); name an evidence directory or a file of traces"
        ) from None
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise ConfigurationError(
            f"{source!r} is a device, which may never end; name a file or a pipe, or - for standard input"
        )
    if not stat.S_ISDIR(mode):
        return
    if not alone:
        raise ConfigurationError(
            f"the evidence directory {source!r} is one of several sources, and only one is read at a time; run the "
            "command once for each directory, each with its own trust file, and once for all files of traces"
        )
    if not _is_evidence(path):
        raise ConfigurationError(
            f"{source!r} is not an evidence directory (no {', '.join(_PARTS)}); "
            "name the directory of the enforcer, or the files in a directory of traces"
        )


def kept_trust(chosen: argparse.Namespace) -> TrustStore | str | None:
    """Return the trusted keys of ``--trust``: loaded where ``--root`` or ``--revision`` pins them, else the path.

    Raises:
        ConfigurationError: The file is not the pinned one, or there is none.
    """
    if chosen.root is None and chosen.revision is None:
        return cast("str | None", chosen.trust)
    if chosen.trust is None or chosen.root is None:
        raise ConfigurationError(
            "--root and --revision are about the file of --trust, which that root signed; give --trust and --root"
        )
    from agent_identity.cli.terminal.roots import pin_at  # Few readers pin.

    return TrustStore.load(chosen.trust, root=pin_at(chosen.root), revision=chosen.revision or 1)
