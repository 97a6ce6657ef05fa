"""Saves pages: where nothing is yet, with the time that they state, and their digest in the output."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._reports.pages.rendering import Page

_DIGITS: Final = 11


def made_ns() -> int:
    """Return the time that pages state: now, or that of ``SOURCE_DATE_EPOCH``, with which pages are reproducible.

    Raises:
        ConfigurationError: The variable is no whole number of seconds.
    """
    wanted = os.environ.get("SOURCE_DATE_EPOCH")
    if not wanted:
        return time.time_ns()
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) <= _DIGITS):
        raise ConfigurationError("SOURCE_DATE_EPOCH is no time; set it to whole seconds since 1970, or unset it")
    return int(wanted) * 1_000_000_000


def refuse_existing(path: str) -> None:
    """Refuse a place that is taken, before a long read.

    Raises:
        ConfigurationError: Something is there.
    """
    if os.path.lexists(path):
        raise ConfigurationError(f"{path!r} exists already and is never replaced; name another one")


def save_page(page: "Page", path: str) -> None:
    """Write a page, and print its digest as ``sha256sum`` does."""
    with Path(path).open("xb") as file:  # Never replaces a file.
        file.write(page.html)
    print(f"{page.sha256}  {clean(path)}")
