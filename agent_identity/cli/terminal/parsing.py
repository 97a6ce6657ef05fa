"""Parses command lines: the parser of each level, its help, suggestions for misspelled words, and times."""

import argparse
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Never, cast

from agent_identity.cli.terminal.command import Command
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

_EPOCH = datetime.fromtimestamp(0, UTC)


_CHOICE: Final = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")
_Formatter: Final = argparse.RawDescriptionHelpFormatter
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_PROGRAM: Final = "agent-identity"
_EPILOG: Final = """\
exit codes of verify, report, ask, proof check, disclose check:
  0 verified · 1 contradicted or tampered · 2 cannot tell · 3 verified but incomplete
other commands: 0 done · 1 something needs attention · 2 could not be done
"""


class _Once(argparse.Action):
    """Stores the value of an argument, and refuses a second one, which would replace it."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002  Of the interface.
        namespace: argparse.Namespace,
        values: str | Sequence[object] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the value.

        Raises:
            ArgumentError: The option was given before.
        """
        given = cast("set[str]", vars(namespace).setdefault("given", set[str]()))
        if option_string is not None and self.dest in given:
            raise argparse.ArgumentError(
                None,
                f"{option_string} is given twice, and only one would count; give it once, and run the command again",
            )
        given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """A parser with one-line errors that suggest the nearest word and cannot steer a terminal."""

    def __init__(self, prog: str, text: str, *, usage: str | None = None, epilog: str = "") -> None:
        super().__init__(prog, usage, text, epilog, formatter_class=partial(_Formatter, width=80))
        self._words: Sequence[str] = ()
        self._last: argparse.Action | None = None  # The last argument without a name.
        for action in (None, "store"):
            self.register("action", action, _Once)

    def format_help(self) -> str:
        """Return the help, with the first paragraph of the description broken at the width of the terminal."""
        import shutil
        import textwrap

        width = max(11, shutil.get_terminal_size().columns - 2)
        self.formatter_class = partial(_Formatter, width=width)
        first, end, rest = (self.description or "").partition("\n\n")
        self.description = textwrap.fill(first, width) + end + rest
        return super().format_help()

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:  # noqa: ANN401  Of the interface.
        """Add an argument or option."""
        action = super().add_argument(*names, **options)
        if not action.option_strings:
            self._last = action
        return action

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words.

        Raises:
            SystemExit: The words are wrong (2), or ask for help (0).
        """
        self._words = words
        options, extras = self.parse_known_args(words)
        last = self._last
        if extras and last is not None and last.nargs in ("*", "+") and not any(one.startswith("-") for one in extras):
            setattr(options, last.dest, [*cast("list[str]", getattr(options, last.dest)), *extras])  # After an option.
        elif extras:
            self.error(f"unexpected argument {extras[0]!r}; leave it out")
        return options

    def error(self, message: str) -> Never:
        """Report a misspelled option first, since other mistakes may follow from it."""
        choice = _CHOICE.search(message)
        if choice is not None:
            word, known = choice.groups()
            message += _nearest(word, [one.strip(" '") for one in known.split(",")])
        unknown = _unknown_option(self._words, self._options())
        if unknown is not None:
            message = f"unknown option {unknown!r}{_nearest(unknown, self._options())}"
        self.refuse(message)

    def refuse(self, message: str) -> Never:
        """Print one line and exit with 2."""
        end = "" if message.endswith("?") else f"; see '{self.prog} --help'"  # A question already holds the cure.
        self.exit(2, f"{_PROGRAM}: {clean(message)}{end}\n")

    def _options(self) -> list[str]:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", self.format_help()).splitlines()
        heads = (line[2:].partition("  ")[0] for line in lines if line.startswith("  -"))
        return [option for head in heads for option in re.findall(r"(?<!\S)--?[a-zA-Z][\w-]*", head)]


def chosen(groups: Mapping[str, Sequence[Command]], words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments and options of the selected command, with its function in ``work``.

    Args:
        groups: All commands, under the headings of the help.
        words: The words after the program's name.

    Raises:
        SystemExit: The words make no command (2), or ask for help or the version (0).
    """
    text = f"Who did what on whose behalf, and the proof of it.\n\n{_listed(groups)}"
    root = _Parser(_PROGRAM, text, usage=f"{_PROGRAM} [-h] [--version] COMMAND ...", epilog=_EPILOG)
    root.add_argument("--version", action="version", version=f"{_PROGRAM} {VERSION}", help="show the version and exit")
    every = [command for commands in groups.values() for command in commands]
    return _below(root, _PROGRAM, "command", every, words)


def _below(
    parser: _Parser, prog: str, what: str, commands: Sequence[Command], words: Sequence[str]
) -> argparse.Namespace:
    """Parse the words of one level, of which the first names a command."""
    parser.add_argument("name", nargs="?", help=argparse.SUPPRESS)
    at = next((number for number, word in enumerate(words) if not word.startswith("-")), len(words))
    name, rest = cast("str | None", parser.read(words[: at + 1]).name), words[at + 1 :]
    actions = f"; use {', '.join(command.name for command in commands)}" if what == "action" else ""
    if name is None:
        parser.refuse(f"the {what} is missing{actions}")
    command = next((command for command in commands if command.name == name), None)
    if command is None:
        known = [command.name for command in commands]
        near = f"; did you mean '--{name}'?" if name in ("help", "version") else _nearest(name.lower(), known)
        parser.refuse(f"unknown {what} {name!r}{near or actions}")
    prog = f"{prog} {name}"
    if command.actions:
        text = f"{_described(command)}\n\n{_listed({'actions': command.actions})}"
        branch = _Parser(prog, text, usage=f"{prog} [-h] ACTION ...")
        return _below(branch, prog, "action", command.actions, rest)
    leaf = _Parser(prog, _described(command), epilog=f"example:\n  {command.example}")
    command.options(leaf)
    leaf.set_defaults(work=command.work, misused=leaf.error, action=name)
    return leaf.read(rest)


def _described(command: Command) -> str:
    return command.description or f"{command.help[0].upper()}{command.help[1:]}."


def _listed(groups: Mapping[str, Sequence[Command]]) -> str:
    width = max(len(command.name) for commands in groups.values() for command in commands)
    parts = (
        "\n".join((f"{heading}:", *(f"    {command.name:<{width}}  {command.help}" for command in commands)))
        for heading, commands in groups.items()
    )
    return "\n\n".join(parts)


def _unknown_option(words: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the first option that is not known, nor an abbreviation of a known one."""
    for word in words:
        if word == "--":
            return None
        name = word.partition("=")[0]
        letters = name.lstrip("-").replace("-", "").replace("_", "")
        if not name.startswith("-") or not (letters.isascii() and letters.isalnum() and not letters[0].isdigit()):
            continue
        if not any(option.startswith(name) for option in known) and (name.startswith("--") or name[:2] not in known):
            return name
    return None


def _nearest(word: str, known: Sequence[str]) -> str:
    """Return a suggestion of the nearest known word, or an empty string."""
    import difflib

    nearest = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def moment_ns(text: str) -> int:
    """Return a time in nanoseconds since the Unix epoch; without a zone it is UTC, and a date is its start.

    Args:
        text: A date, or a time of RFC 3339.

    Raises:
        ConfigurationError: The text is neither, or the time is before 1970.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment is None or moment < _EPOCH:
        raise ConfigurationError(
            f"{text!r} is not a time from 1970 on; write one such as 2026-11-24 or 2026-11-24T12:00:00Z (UTC)"
        )
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def duration(text: str) -> int:
    """Return a length of time in seconds, from a text such as ``30m``, ``24h`` or ``7d``.

    Raises:
        ConfigurationError: The text is none.
    """
    match = _DURATION.fullmatch(text)
    if not match:
        raise ConfigurationError(f"{text!r} is not a duration; write one such as 30m, 24h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def address(text: str) -> tuple[str, int]:
    """Return host and port of a text such as ``127.0.0.1:8765``.

    Raises:
        ConfigurationError: The text is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{text!r} is not an address; write one such as 127.0.0.1:8765")
    return host, int(port)
