"""What the words of a command name: one evidence directory, or files of traces."""

import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent_identity.errors import ConfigurationError

__all__ = ["STANDARD_INPUT", "is_directory", "named"]

STANDARD_INPUT: Final = "-"

_PARTS: Final = ("ledger", "log", "keys", "trust.json")


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
    if path.absolute().name != "ledger" and not any((path / part).exists() for part in _PARTS):
        raise ConfigurationError(
            f"expected an evidence directory at {source!r}, got one without {', '.join(_PARTS)}; "
            "name the directory of the enforcer, or the files in a directory of traces"
        )
