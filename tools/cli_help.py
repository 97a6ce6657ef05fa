"""Write the help texts of the command line into the documentation, or check that they are still the same.

Run as ``python tools/cli_help.py [--check]``. White space and the two ways in which versions of Python write an
option with a value are not compared.
"""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path

from agent_identity import cli
from agent_identity.cli.program import GROUPS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
_BEGIN, _END = "<!-- help: begin -->", "<!-- help: end -->"
_OLD_STYLE = re.compile(r"(?<![\w-])(--?[\w-]+) (\S+), (--?[\w-]+) \2")


def _help(*command: str) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        cli.main([*command, "--help"])
    return printed.getvalue().rstrip()


def page() -> str:
    """Return the part of the page that holds the help of the command and of each subcommand."""
    return "\n\n".join([_BEGIN, *_parts(), _END])


def _parts() -> Iterator[str]:
    yield _part()
    for commands in GROUPS.values():
        for command in commands:
            yield _part(command.name)
            yield from (_part(command.name, action.name) for action in command.actions)


def _part(*command: str) -> str:
    return f"## {' '.join(('agent-identity', *command))}\n\n```text\n{_help(*command)}\n```"


def _plain(text: str) -> str:
    return " ".join(_OLD_STYLE.sub(r"\1, \3 \2", text).split())


def main(*, check: bool) -> int:
    """Compare or write the page; return the exit status."""
    fresh = page()
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"# Command line\n\n{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    stored, _, after = rest.partition(_END)
    if not check:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(before + fresh + after, encoding="utf-8")
        return 0
    if _plain(_BEGIN + stored + _END) == _plain(fresh):
        print("the help texts in docs/reference/cli.md are those of the command line")
        return 0
    print("docs/reference/cli.md is out of date; run: python tools/cli_help.py")
    return 1


if __name__ == "__main__":
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1"}
    sys.exit(main(check="--check" in sys.argv[1:]))
