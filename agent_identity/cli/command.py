"""How a command is declared: its words and options, and by name the function that does its work."""

import argparse
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

__all__ = ["Command", "Options", "add_directory", "add_json"]

Options: TypeAlias = Callable[[argparse.ArgumentParser], object]
"""Adds the words and options of a command to its parser."""


class Command(NamedTuple):
    """A command, or an action of one.

    Attributes:
        name: The word that names it.
        help: What it does, in a line.
        example: A command line of it; of a command with actions, none.
        options: Adds its words and options.
        work: The module of the function ``run``, or module and function as ``module:function``. It is imported when
            the command runs, so that declaring a command costs nothing.
        description: What it does, at length; if empty, what ``help`` says.
        actions: What it can do, if its first word says which.
    """

    name: str
    help: str
    example: str = ""
    options: Options = lambda parser: parser
    work: str = ""
    description: str = ""
    actions: "tuple[Command, ...]" = ()


def add_directory(parser: argparse.ArgumentParser, text: str = "the directory of the enforcer") -> None:
    """Add the word that names a directory."""
    parser.add_argument("directory", metavar="DIR", help=text)


def add_json(parser: argparse.ArgumentParser, *, stream: str = "") -> None:
    """Add the option for machines; one object on standard output is its form everywhere.

    Args:
        parser: The parser of the command.
        stream: What there is one object of on each line with ``--jsonl``, where there may be many.
    """
    if not stream:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        return
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"print one JSON object with every {stream}")
    form.add_argument("--jsonl", action="store_true", help=f"print one JSON object for each {stream}, one a line")
