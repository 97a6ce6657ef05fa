"""Output of commands for people: color on terminals only, aligned columns, nothing that steers a terminal."""

import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TextIO, final

from agent_identity._common.printing import escaped

LONGEST: Final = 2_048
"""Characters of an external text that are shown, which is the length of the longest accepted id."""

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}
_YEAR_9999: Final = 253_402_300_799
_NARROW: Final = 24  # Columns below which lines are not broken.
_BAR: Final = 40
_SOON: Final = 2.0  # Seconds before which the speed is not a useful estimate.


@final
class Style:
    """Paints text for one stream: on terminals, unless ``NO_COLOR`` is set; elsewhere only with ``FORCE_COLOR``.

    Args:
        stream: The stream.
        environ: The environment; by default the process's.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        forced = env.get("FORCE_COLOR", "0") not in {"", "0"}
        self.enabled = not env.get("NO_COLOR") and (forced or _is_terminal(stream, env))

    def paint(self, text: str, *styles: str) -> str:
        """Return the text in the named styles."""
        if not self.enabled:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def _is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether the stream is a terminal that understands escape sequences."""
    return stream.isatty() and environ.get("TERM") != "dumb"


def columns(stream: TextIO) -> int | None:
    """Return the width of the terminal in columns; ``None`` for other streams, whose lines have any length."""
    if not stream.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def clean(text: str) -> str:
    """Return external text with everything visible that could steer a terminal (threats AC-104), cut if very long."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    return escaped(text)


def width(text: str) -> int:
    """Return the number of columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in {"Mn", "Me"} else 1 + (unicodedata.east_asian_width(c) in {"W", "F"})
        for c in text
    )


def hanging(text: str, indent: int, room: int | None) -> str:
    """Return the text broken at spaces into lines with a hanging indent.

    A word that is too long stays whole, because people copy ids.

    Args:
        text: The text, clean and without color.
        indent: The indent; the first line is already there.
        room: Columns of the terminal; with too few left, or with ``None``, the text is not broken.
    """
    if room is None or room - indent < _NARROW or indent + width(text) <= room:
        return text
    lines: list[str] = []
    for word in text.split():
        if lines and indent + width(lines[-1]) + 1 + width(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return ("\n" + " " * indent).join(lines)


def table(rows: Sequence[Sequence[str]], indent: str = "  ", room: int | None = None) -> list[str]:
    """Return rows of equal length in aligned columns; the text must be clean and without color.

    Args:
        rows: The rows.
        indent: The prefix of each line.
        room: Columns of the terminal. Where the table is wider, cells are broken at spaces as far as no word is; where
            that is not enough, each row takes several lines, with the columns of each line aligned.
    """
    widths = [max(map(width, cells)) for cells in zip(*rows, strict=True)]
    if room is None or not widths or _taken(widths[:-1], indent) + min(widths[-1], _NARROW) <= room:
        return [_line(row, widths, indent, room) for row in rows]
    least = _least(rows, widths)
    if _taken(least, indent) - _GAP <= room:
        shrunk = _shrunk(widths, least, room - len(indent) - _GAP * (len(widths) - 1))
        return [_broken(row, shrunk, indent) for row in rows]
    groups = list(_groups(widths, indent, room))
    return ["\n".join(_folded(row, groups, widths, indent, room)) for row in rows]


_GAP: Final = 2
_COLUMN: Final = 16  # Columns to which a cell is broken at least.


def _least(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[int]:
    """Return the columns that each cell of a column takes at least, so that no word is broken."""
    words = [max(width(word) for cell in cells for word in cell.split() or [""]) for cells in zip(*rows, strict=True)]
    return [max(one, min(most, _COLUMN)) for one, most in zip(words, widths, strict=True)]


def _taken(widths: Sequence[int], indent: str) -> int:
    """Return the columns that cells take, the gap after each included."""
    return len(indent) + sum(widths) + _GAP * len(widths)


def _line(row: Sequence[str], widths: Sequence[int], indent: str, room: int | None) -> str:
    cells = zip(row[:-1], widths, strict=False)
    head = indent + "".join(cell + " " * (most - width(cell) + _GAP) for cell, most in cells)
    return (head + hanging(row[-1], width(head), room)).rstrip()


def _shrunk(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return the widths of columns that fit, the widest of which lost the most."""
    shrunk = list(widths)
    while sum(shrunk) > room:
        widest = max((most, number) for number, most in enumerate(shrunk) if most > least[number])[1]
        shrunk[widest] -= 1
    return shrunk


def _broken(row: Sequence[str], widths: Sequence[int], indent: str) -> str:
    """Return a row whose cells are broken at spaces to the widths of their columns."""
    cells = [_words_in(cell, most) for cell, most in zip(row, widths, strict=True)]
    lines: list[str] = []
    for number in range(max(map(len, cells))):
        parts = [(cell[number] if number < len(cell) else "", most) for cell, most in zip(cells, widths, strict=True)]
        lines.append((indent + "".join(part + " " * (most - width(part) + _GAP) for part, most in parts)).rstrip())
    return "\n".join(lines)


def _words_in(cell: str, most: int) -> list[str]:
    if width(cell) <= most:
        return [cell]
    lines: list[str] = []
    for word in cell.split():
        if lines and width(lines[-1]) + 1 + width(word) <= most:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _groups(widths: Sequence[int], indent: str, room: int) -> Iterator[slice]:
    """Yield the columns that stand in one line."""
    begin = 0
    for end in range(1, len(widths) + 1):
        margin = indent if not begin else f"{indent}    "
        last = end == len(widths)
        if last or _taken(widths[begin:end], margin) + min(widths[end], _NARROW) > room:
            yield slice(begin, end)
            begin = end


def _folded(
    row: Sequence[str], groups: Sequence[slice], widths: Sequence[int], indent: str, room: int
) -> Iterator[str]:
    """Yield the lines of a row; those after the first are further in, and empty ones are left out."""
    for number, columns_of_line in enumerate(groups):
        margin = indent if not number else f"{indent}    "
        line = _line(row[columns_of_line], widths[columns_of_line], margin, room)
        if not number or line:
            yield line


def moment(ns: int) -> str:
    """Return a time for people, in UTC.

    Args:
        ns: Nanoseconds since the Unix epoch, up to the year 9999.
    """
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def time_shown(seconds: int | None) -> str:
    """Return a bound of a validity for people: a time in UTC, seconds beyond the calendar, or ``always``.

    Args:
        seconds: Seconds since the Unix epoch; ``None`` for no bound.
    """
    if seconds is None:
        return "always"
    return moment(seconds * 1_000_000_000) if seconds <= _YEAR_9999 else f"{seconds} s"


@final
class Estimate:
    """Estimate of the time left for a read, at the speed so far.

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()

    def left(self, done: int, total: int) -> float | None:
        """Return the seconds left, or ``None`` while there is no estimate.

        Args:
            done: Bytes so far.
            total: All bytes; 0 if unknown.
        """
        passed = self._clock() - self._begun
        if passed < _SOON or not 0 < done <= total:
            return None
        return passed * (total - done) / done


@final
class Progress:
    """A progress line for a long read; on terminals only.

    Args:
        stream: The stream to write to.
        what: The name of the work.
        environ: The environment; by default the process's.
    """

    def __init__(self, stream: TextIO, what: str, environ: Mapping[str, str] | None = None) -> None:
        self._stream = stream
        self._what = what
        self._enabled = _is_terminal(stream, os.environ if environ is None else environ)
        self._shown = -1

    def update(self, done: int, total: int, left: float | None = None) -> None:
        """Show that ``done`` of ``total`` bytes are read.

        Args:
            done: Bytes so far.
            total: All bytes; 0 if unknown.
            left: Seconds that the rest will take, if there is an estimate.
        """
        if not self._enabled:
            return
        reached = min(100, done * 100 // total) if total else done >> 20
        if reached == self._shown:
            return
        self._shown = reached
        if total:
            rest = "" if left is None else f", {_duration(left)} left\x1b[K"
            import shutil

            room = max(0, min(_BAR, shutil.get_terminal_size().columns - len(self._what) - len(rest) - 8))
            bar = "█" * (room * reached // 100)
            self._stream.write(f"\r{self._what} {bar:<{room}} {reached:3d} %{rest}")
        else:
            self._stream.write(f"\r{self._what} {reached} MiB")
        self._stream.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _duration(seconds: float) -> str:
    """Return a length of time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
