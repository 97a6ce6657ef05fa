"""Write the list of commands into the documentation, or check that it is still that of the command line.

Run as ``python tools/cli_help.py [--check]``. Each command has the line that its ``--help`` begins with, and the names
of its actions, which its ``--help`` explains.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from agent_identity.cli.program import GROUPS
from agent_identity.cli.terminal.command import Command

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
_BEGIN, _END = "<!-- help: begin -->", "<!-- help: end -->"


def page() -> str:
    """Return the part of the page that holds the list."""
    return "\n".join([_BEGIN, *_rows(), "", _END])


def _rows() -> Iterator[str]:
    for group, commands in GROUPS.items():
        yield f"\n**{group}**\n"
        yield from (_row(command) for command in commands)


def _row(command: Command) -> str:
    actions = ", ".join(f"`{action.name}`" for action in command.actions)
    return f"- `{command.name}`: {command.help}{actions and f': {actions}'}"


def main(*, check: bool) -> int:
    """Compare or write the page; return the exit status."""
    fresh = page()
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else f"# Command line\n\n{_BEGIN}\n{_END}\n"
    before, _, rest = text.partition(_BEGIN)
    stored, _, after = rest.partition(_END)
    if not check:
        PAGE.write_text(before + fresh + after, encoding="utf-8")
        return 0
    if _BEGIN + stored + _END == fresh:
        print("the commands in docs/reference/cli.md are those of the command line")
        return 0
    print("docs/reference/cli.md is out of date; run: python tools/cli_help.py")
    return 1


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
