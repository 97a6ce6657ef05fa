"""Run every ``python`` block of a Markdown file, so that no example in the documentation can rot.

Run as ``python tools/run_examples.py [--first] FILE.md``. The blocks of one file are one program: they run in
order, in one namespace, in an empty folder. Lines keep their numbers, so a traceback points into the Markdown.
A block fenced as ``output`` right after a ``python`` block must be what that block printed. Ids (UUIDs) are not
compared, ``…`` stands for anything else that differs each time, and a line that begins with blanks may as well go on
in the line before it, so that long ones can be shown over several.
A block with a title, as in ``python title="test_clerk.py"``, is a file of that name, and one whose name begins with
``test_`` is run by pytest.
``--first`` runs only the first block.
"""

import argparse
import atexit
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,})(?P<info>[^`\n]*)$")
_TITLE = re.compile(r'title="([\w-]+\.py)"')
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![\w-])A[\w-]{20}[AQgw](?![\w-])")
_WRAP = re.compile(r"\n +")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, the line its text starts on (1-based), the text, and the file that it is."""

    language: str
    line: int
    text: str
    follows: bool
    """Only blank lines lie between this block and the one before."""
    title: str | None = None


def blocks(markdown: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text in order."""
    found: list[Block] = []
    lines = markdown.splitlines()
    number, blank = 0, False
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if not opening:
            blank = blank and not lines[number].strip()
            number += 1
            continue
        start = number + 1
        closing = re.compile(rf"^ *{opening['ticks']}`* *$")
        number = next((n for n in range(start, len(lines)) if closing.match(lines[n])), len(lines))
        text = textwrap.dedent("\n".join(lines[start:number])) + "\n"
        language = (opening["info"].split() or [""])[0]
        title = _TITLE.search(opening["info"])
        found.append(Block(language, start + 1, text, follows=blank, title=title[1] if title else None))
        number, blank = number + 1, True
    return found


def run(path: Path, *, first: bool) -> int:
    """Run the blocks of one file; return how many ran.

    Raises:
        AssertionError: A block printed something else than the ``output`` block after it says.
    """
    every = blocks(path.read_text(encoding="utf-8"))
    chosen = [index for index, block in enumerate(every) if block.language == "python"][: 1 if first else None]
    namespace: dict[str, object] = {"__name__": "__main__"}
    for index in chosen:
        block = every[index]
        if block.title:
            _keep(block.title, block.text)
            continue
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile("\n" * (block.line - 1) + block.text, str(path), "exec"), namespace)  # noqa: S102
        sys.stdout.write(printed.getvalue())
        after = every[index + 1] if index + 1 < len(every) else None
        if after and after.follows and after.language == "output" and not _same(after.text, printed.getvalue()):
            raise AssertionError(f"{path}:{after.line}: expected\n{after.text}\ngot\n{printed.getvalue()}")
    return len(chosen)


def _keep(title: str, text: str) -> None:
    """Write a block to its file, and run the tests in it.

    Raises:
        CalledProcessError: One of them fails.
    """
    Path(title).write_text(text, encoding="utf-8")
    if title.startswith("test_"):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", title]
        environment = {**os.environ, "PYTEST_ADDOPTS": "-p agent_identity", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        # Only what the documentation shows is run.
        subprocess.run(command, check=True, env={**environment, "PYTHONPATH": os.getcwd()})  # noqa: S603, PTH109


def _same(expected: str, printed: str) -> bool:
    expected, printed = (_WRAP.sub(" ", _ID.sub("<id>", text.strip())) for text in (expected, printed))
    return re.fullmatch(".*".join(map(re.escape, expected.split("…"))), printed) is not None


def main() -> None:
    """Run the examples of one file in an empty folder."""
    parser = argparse.ArgumentParser(description="Run every python block of a Markdown file.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--first", action="store_true", help="run only the first block")
    options = parser.parse_args()
    path = options.file.resolve()
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)  # Registered first, so it runs after the examples' own.
    os.chdir(folder)
    count = run(path, first=options.first)
    print(f"{path.name}: {count} examples ran")


if __name__ == "__main__":
    main()
