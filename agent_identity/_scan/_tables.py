"""Reads the tables beside this module: constructs, clients, packages and hosts, which are data with a date."""

import json
from pathlib import Path


def read_table(name: str) -> object:
    """Return the content of a table.

    Args:
        name: Name of its file.
    """
    return json.loads(Path(__file__).with_name(name).read_text("utf-8"))
