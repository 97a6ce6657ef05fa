"""Reads the tables beside this module: constructs, clients, packages and hosts, which are data with a date."""

from pathlib import Path
from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def read_table(name: str, kind: type[_T]) -> _T:
    """Return the content of a table.

    Args:
        name: Name of its file.
        kind: Its form.
    """
    return msgspec.json.decode(Path(__file__).with_name(name).read_bytes(), type=kind)
