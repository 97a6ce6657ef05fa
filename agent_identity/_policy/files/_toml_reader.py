"""TOML reader with source positions, as far as lines tell them: the standard parser keeps none."""

import re
import tomllib
from typing import Final

from agent_identity._policy.decision.places import MAX_DEPTH, Document, Malformed, Mark, Path

_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*"
_HEADER: Final = re.compile(rf"[ \t]*(\[\[?)[ \t]*({_DOTTED})[ \t]*\]")
_ENTRY: Final = re.compile(rf"[ \t]*({_DOTTED})[ \t]*=[ \t]*")
_PART: Final = re.compile(_NAME)
# A key begins only right after these, so the scan reads each part of a text once.
_DEEP: Final = re.compile(rf"(?:^|[\[{{,])[ \t]*(?:{_NAME}[ \t]*\.[ \t]*){{{MAX_DEPTH}}}", re.MULTILINE)
_PLACE: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


def read_toml(text: str) -> Document:
    """Return the value of a TOML text, with the positions of its tables and keys.

    A value inside an inline table or array has the position of the key before it.

    Raises:
        Malformed: The text is not TOML, or is nested too deeply.
    """
    document = Document()
    deep = _DEEP.search(text)
    if deep:  # The standard parser needs memory by the square of the length of a dotted key.
        before = text[: deep.start()]
        raise Malformed(
            "values are nested too deeply; flatten them", (before.count("\n") + 1, len(before) - before.rfind("\n"))
        )
    try:
        document.value = tomllib.loads(text)
    except RecursionError:
        raise Malformed("values are nested too deeply; flatten them", (1, 1)) from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        lines = text.split("\n")
        mark = (int(place[1]), int(place[2])) if place else (len(lines), len(lines[-1]) + 1)
        raise Malformed(f"not TOML: {_PLACE.sub('', message)}", mark) from None
    except ValueError:
        # The interpreter refuses integers of more than 4,300 digits.
        raise Malformed("an integer has too many digits; write a shorter one, or a string", (1, 1)) from None
    _place_lines(document, text)
    return document


def _place_lines(document: Document, text: str) -> None:
    table: Path = ()
    counts: dict[Path, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        header = _HEADER.match(line)
        if header:
            table = _table(_parts(header[2]), counts, array=header[1] == "[[")
            _note(document, table, (number, header.start(2) + 1), (number, header.start(1) + 1))
            continue
        entry = _ENTRY.match(line)
        if entry:
            path = (*table, *_parts(entry[1]))
            _note(document, path, (number, entry.start(1) + 1), (number, entry.end() + 1))


def _parts(dotted: str) -> list[str]:
    return [part.strip("\"'") for part in _PART.findall(dotted)]


def _table(parts: list[str], counts: dict[Path, int], *, array: bool) -> Path:
    """Return the path of a table; one in an array belongs to the newest item."""
    path: Path = ()
    for index, part in enumerate(parts):
        path = (*path, part)
        if array and index == len(parts) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _note(document: Document, path: Path, key: Mark, value: Mark) -> None:
    for length in range(1, len(path) + 1):
        document.keys.setdefault(path[:length], key)
        document.values.setdefault(path[:length], value)
