"""What a command needs from the parser."""

import argparse
from typing import Protocol

__all__ = ["Commands"]


class Commands(Protocol):
    """The place where a command adds its parser."""

    def add_parser(self, name: str, *, help: str = ..., description: str = ...) -> argparse.ArgumentParser:
        """Return the parser of a new command."""
        ...
