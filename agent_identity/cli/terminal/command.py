"""Declaration of a command: its arguments and options, and the name of its function."""

import argparse
import gc
from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple, TypeAlias, cast

Options: TypeAlias = Callable[[argparse.ArgumentParser], object]
"""Adds the arguments and options of a command to its parser."""


class Command(NamedTuple):
    """A command, or an action of one.

    Attributes:
        name: Its name.
        help: Its effect, in one line.
        example: A command line; empty for a command with actions.
        options: Adds its arguments and options.
        work: The module of the function ``run``, or module and function as ``module:function``; of an action also
            ``:function`` alone. By default it is what :func:`placed` says. It is imported when the command runs, so a
            declaration costs nothing.
        description: Its effect at length; by default the text of ``help``.
        actions: Its actions, if its first argument selects one.
    """

    name: str
    help: str
    example: str = ""
    options: Options = lambda parser: parser
    work: str = ""
    description: str = ""
    actions: "tuple[Command, ...]" = ()


def placed(folder: str, *commands: Command) -> tuple[Command, ...]:
    """Return commands with their functions: ``run`` in the module of that name, or ``run_NAME`` for an action there.

    Args:
        folder: The folder of the modules.
        commands: The commands.
    """
    return tuple(_placed(f"agent_identity.cli.{folder}.{command.name}", command) for command in commands)


def _placed(module: str, command: Command) -> Command:
    works = [action.work or f":run_{action.name}" for action in command.actions]
    works = [f"{module}{work}" if work.startswith(":") else work for work in works]
    actions = (action._replace(work=work) for action, work in zip(command.actions, works, strict=True))
    return command._replace(work="" if works else command.work or module, actions=tuple(actions))


def add_directory(parser: argparse.ArgumentParser, text: str = "the directory of the enforcer") -> None:
    """Add the directory argument."""
    parser.add_argument("directory", metavar="DIR", help=text)


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the keys which sign."""
    text = "the keys, if they are not in DIR: their folder, a directory with it, or unix:PATH of a signer"
    parser.add_argument("--keys", metavar="WHERE", help=text)
    text = "the PKCS #11 library of the token with the keys; its PIN is in AGENT_IDENTITY_PIN, or asked for"
    parser.add_argument("--pkcs11", metavar="LIBRARY", help=text)
    parser.add_argument("--token", metavar="LABEL", default="evidence", help="the label of the token (%(default)s)")
    text = "the labels of issuer and recorder key in the token (%(default)s)"
    parser.add_argument("--labels", metavar="LABELS", default="issuer,recorder", help=text)


def add_pin(parser: argparse.ArgumentParser) -> None:
    """Add the options that pin the trust file to a root."""
    text = (
        "the root that must have signed the trust file of --trust: its thumbprint, or a file with its public key (JWK)"
    )
    parser.add_argument("--root", metavar="KEY", help=text)
    text = "with --root: refuse an older revision of the trust file than this, which may lack a revocation"
    parser.add_argument("--revision", metavar="N", type=int, help=text)


def add_key_folder(parser: argparse.ArgumentParser, text: str = "the folder of the keys, if it is outside DIR") -> None:
    """Add the option that names the folder of the keys, for commands that need the files themselves."""
    parser.add_argument("--keys", metavar="FOLDER", help=text)


def add_state(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the store which several machines share."""
    text = "the store that several machines share: redis://…, rediss://…, postgresql://… or the path of a SQLite file"
    parser.add_argument("--state", metavar="URL", help=text)
    parser.add_argument("--prefix", metavar="NAME", help="the prefix= that the enforcers give to that store")


def add_json(parser: argparse.ArgumentParser, *, stream: str = "", page: str = "") -> None:
    """Add the options for machine-readable output: one JSON object everywhere, and JSON lines for long lists.

    Args:
        parser: The parser of the command.
        stream: The kind of object on each line with ``--jsonl``, for commands with long lists.
        page: The help of ``--html``, for commands that write a page.
    """
    if not stream:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        return
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"print one JSON object with every {stream}")
    form.add_argument("--jsonl", action="store_true", help=f"print one JSON object for each {stream}, one a line")
    if page:
        form.add_argument("--html", metavar="FILE", help=page)


def loaded(work: str) -> Callable[[argparse.Namespace], int]:
    """Import the function of a command, with the garbage collector off: loaded modules stay.

    Args:
        work: See :class:`Command`.
    """
    module, _, name = work.partition(":")
    searching = gc.isenabled()
    gc.disable()
    try:
        return cast("Callable[[argparse.Namespace], int]", getattr(import_module(module), name or "run"))
    finally:
        if searching:
            gc.enable()
