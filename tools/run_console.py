"""Run a Markdown file's ``python`` and ``console`` blocks in order, and compare what the commands print.

Run as ``python tools/run_console.py [--update] FILE.md``. A line ``$ agent-identity …`` of a ``console`` block is run
in the folder in which the ``python`` blocks ran, and the lines after it must be what it prints. Ids, keys, hashes and
times differ from run to run and are not compared, nor is white space. A long line may be shown over several, broken
at a blank; a command, at a backslash. A line that is only ``…`` stands for any lines; ``$ echo $?`` stands for the
exit code of the command before it. Other commands are not run. ``--update`` writes what the commands print into the
page, except where it is shown in part.
"""

import argparse
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final, cast

# Loaded by its path, because the folder of a script is no place for imports where PYTHONSAFEPATH is set.
_EXAMPLES: Final = runpy.run_path(str(Path(__file__).with_name("run_examples.py")))
_blocks: Final = cast("Callable[[str], list[Any]]", _EXAMPLES["blocks"])

_ANY: Final = "…"
_WIDTH: Final = 100
"""The columns of a code block that the site shows at 1280 pixels without scrolling."""
_CHANGING: Final = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<hash>"),
    (re.compile(r"(?<![\w-])[\w-]{43}(?![\w-])"), "<key>"),
    (re.compile(r"(?<![\w-])A[\w-]{20}[AQgw](?![\w-])"), "<id>"),  # The first bits are of the time, in milliseconds.
    (re.compile(r"\d{4}-\d\d-\d\d(?:T|\s+)\d\d:\d\d(?::\d\d)?(?: UTC|Z)?"), "<moment>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:\.\d{3})?\b"), "<time>"),
    (re.compile(r"\b\d+ [GM]iB free"), "<space> free"),
    (re.compile(r"\b[\d,]+ bytes\b"), "<n> bytes"),
    # How often a ledger was sealed depends on how fast the machine is.
    (re.compile(r"\b\d+ entr(?:y|ies)\b"), "<n> entries"),
    (re.compile(r"\b\d+ unsealed\b|\b\d+ of them sealed\b"), "<n> sealed"),
)


def comparable(text: str) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def fits(shown: list[str], printed: list[str]) -> bool:
    """Tell whether the shown lines, wrapped or not, are the printed ones; ``…`` stands for any number of lines."""
    if not shown:
        return not printed
    if shown[0] == _ANY:
        return any(fits(shown[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    if not printed:
        return False
    lines = next((count for count in range(1, len(shown) + 1) if " ".join(shown[:count]) == printed[0]), 0)
    return lines > 0 and fits(shown[lines:], printed[1:])


def wrapped(line: str) -> str:
    """Return a line as the pages show it: broken where it is too wide, and indented from there on."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    lines = textwrap.TextWrapper(_WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return lines.fill(line.rstrip())


def commands(text: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the lines shown after it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        elif line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif found:
            found[-1][1].append(line)
    return [(command, "\n".join(shown)) for command, shown in found]


def run(path: Path, *, update: bool) -> int:
    """Run the blocks of one file; return how many commands ran.

    Raises:
        AssertionError: A command printed something else than the page shows.
    """
    page = path.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": "__main__"}
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    count, status = 0, 0
    for block in _blocks(page):
        if block.language == "python" and not block.title:
            with redirect_stdout(io.StringIO()):
                exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), namespace)  # noqa: S102
        for command, shown in commands(block.text) if block.language == "console" else ():
            words = shlex.split(command.replace("\\\n", ""), comments=True)
            if words == ["echo", "$?"]:
                printed = str(status)
            elif words[:1] == ["agent-identity"]:
                arguments = [sys.executable, "-m", "agent_identity", *words[1:]]
                # Only our own command is run, with the arguments that the documentation shows.
                done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
                printed, status = done.stdout + done.stderr, done.returncode
                count += 1
            else:
                continue
            if not shown.strip() or fits(comparable(shown), comparable(printed)):
                continue
            if update and _ANY not in comparable(shown):
                tidy = "\n".join(map(wrapped, printed.strip().splitlines()))
                page = page.replace(f"$ {command}\n{shown.strip(chr(10))}", f"$ {command}\n{tidy}", 1)
            else:
                raise AssertionError(f"{path}:{block.line}: $ {command}\nexpected\n{shown}\ngot\n{printed}")
    if update:
        path.write_text(page, encoding="utf-8")
    return count


def main() -> None:
    """Run the console blocks of one file in an empty folder."""
    parser = argparse.ArgumentParser(description="Run the python and console blocks of a Markdown file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--update", action="store_true", help="write what the commands print into the page")
    options = parser.parse_args()
    path = options.file.resolve()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        count = run(path, update=options.update)
        os.chdir(path.parent)
    print(f"{path.name}: {count} commands ran")


if __name__ == "__main__":
    main()
