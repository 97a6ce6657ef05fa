"""What is printed for people: colour, columns, cleanness, progress."""

import contextlib
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._common.printing import odd
from agent_identity.cli import main
from agent_identity.cli.terminal.style import LONGEST, Progress, Style, clean, columns, hanging, moment, table, width


class Stream:
    """A stream that is a terminal or not, and keeps what is written."""

    def __init__(self, *, terminal: bool) -> None:
        self.terminal = terminal
        self.text = ""

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self.terminal

    def write(self, text: str) -> int:
        """Keep the text."""
        self.text += text
        return len(text)

    def flush(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("terminal", "environ", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "0"}, False),
        (False, {"FORCE_COLOR": ""}, False),
        (True, {"FORCE_COLOR": "1", "TERM": "dumb"}, True),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
    ids=str,
)
def test_colour_is_for_terminals(*, terminal: bool, environ: dict[str, str], coloured: bool) -> None:
    """Colour is on on terminals; NO_COLOR turns it off, FORCE_COLOR on, and the first wins."""
    painted = Style(Stream(terminal=terminal), environ).paint("x", "red", "bold")  # type: ignore[arg-type]
    assert painted == ("\x1b[31;1mx\x1b[0m" if coloured else "x")


def test_only_terminals_have_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal has the columns that it says; lines in a file may have any length."""
    monkeypatch.setenv("COLUMNS", "66")
    assert columns(Stream(terminal=True)) == 66  # type: ignore[arg-type]
    assert columns(Stream(terminal=False)) is None  # type: ignore[arg-type]


@given(st.text())
def test_ac_104_clean_text_cannot_steer_a_terminal(text: str) -> None:
    """Whatever the text, nothing that is not printable is left: no escape, no line end, no bidi control."""
    assert clean(text).isprintable()
    if not odd(text):
        assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\rc\x00", "a\\nb\\rc\\x00"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("Zoë 東京 👩", "Zoë 東京 👩"),
    ],
    ids=ascii,
)
def test_what_could_steer_is_shown_escaped(text: str, shown: str) -> None:
    """Escapes, line ends, C1 and bidi controls and lone surrogates become visible; other scripts stay."""
    assert clean(text) == shown


def test_endless_text_is_cut() -> None:
    """A text of megabytes does not flood the terminal."""
    assert clean("x" * 10_000_000) == "x" * LONGEST + "…"


@pytest.mark.parametrize(
    ("text", "wide"),
    [("abc", 3), ("東京", 4), ("e\u0301", 1), ("👩", 2), ("ｱ", 1), ("\u2764\ufe0f", 1), ("", 0)],
    ids=ascii,
)
def test_width_counts_columns(text: str, wide: int) -> None:
    """East Asian wide characters take two columns, combining ones none."""
    assert width(text) == wide


rows = st.integers(1, 4).flatmap(
    lambda length: st.lists(st.lists(st.text("ab東\u0301 ", max_size=9), min_size=length, max_size=length), min_size=1)
)


@given(rows)
def test_columns_line_up(cells: list[list[str]]) -> None:
    """Each column starts at the same place in every row."""
    lines = table(cells, indent="  ")
    assert len(lines) == len(cells)
    widths = [max(width(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row, line in zip(cells, lines, strict=True):
        padded = "  " + "  ".join(cell + " " * (most - width(cell)) for cell, most in zip(row, widths, strict=True))
        assert line == padded.rstrip()


def test_a_long_last_cell_goes_on_below_itself() -> None:
    """On a terminal the last cell is broken at spaces, under its own start."""
    (line,) = table([("12:00", "one two three four five six seven")], room=36)
    assert line.splitlines() == ["  12:00  one two three four five six", "         seven"]


def test_a_long_last_cell_moves_below_a_long_row() -> None:
    """Where too little room is left, the last cell starts on a line of its own."""
    (line,) = table([("a" * 30, "one two three four five six")], room=40)
    assert line.splitlines() == ["  " + "a" * 30, "      one two three four five six"]


def test_a_wide_table_breaks_its_cells() -> None:
    """Where the words have room, the widest columns are broken at spaces, and no line is too long."""
    rows = [("NAME", "WHAT", "WHY"), ("clerk", "reads many invoices of the day", "because it was asked to do it")]
    _, row = table(rows, room=50)
    assert all(width(line) <= 50 for line in row.splitlines())
    assert sorted(row.split()) == sorted(" ".join(rows[1]).split())
    assert row.count("\n") == 1


@pytest.mark.parametrize("room", [80, 120])
def test_a_table_of_ids_takes_several_lines(room: int) -> None:
    """Where words are too long to be broken, a row takes several lines with aligned columns; ids stay whole."""
    rows = [
        tuple(f"COLUMN-{number}" for number in range(8)),
        *(tuple("x" * 22 + str(row) for _ in range(8)) for row in range(3)),
    ]
    lines = table(rows, room=room)
    assert all(width(line) <= room for entry in lines for line in entry.splitlines())
    assert lines[1].split() == ["x" * 22 + "0"] * 8
    starts = [[line.index(line.split()[0]) for line in entry.splitlines()] for entry in lines]
    assert starts == [starts[0]] * 4
    assert starts[0][0] < starts[0][1]


def test_no_rows_make_no_table() -> None:
    """An empty table is empty."""
    assert table([]) == []


@given(st.text("ab 東", min_size=1), st.integers(0, 40), st.integers(1, 90))
def test_broken_text_keeps_its_words(text: str, indent: int, room: int) -> None:
    """Breaking changes white space only, and a line is too long only for a single word or on a tiny terminal."""
    broken = hanging(text, indent, room)
    assert broken.split() == text.split()
    if room - indent >= 24:
        first, *more = broken.split("\n")
        assert all(line.startswith(" " * indent) for line in more)
        for line in [" " * indent + first, *more]:
            assert width(line) <= room or " " not in line.strip()


def test_long_words_stay_whole() -> None:
    """An id that is too long for the terminal is not broken, because people copy it."""
    assert hanging("see " + "x" * 50 + " now", 2, 40) == "see\n  " + "x" * 50 + "\n  now"


def test_times_are_utc() -> None:
    """Nanoseconds are shown as UTC to the second."""
    assert moment(1_764_000_000_999_999_999) == "2025-11-24 16:00:00 UTC"


# Progress.


def progress(environ: dict[str, str] | None = None, *, terminal: bool = True) -> tuple[Progress, Stream]:
    stream = Stream(terminal=terminal)
    return Progress(stream, "verifying", environ or {}), stream  # type: ignore[arg-type]


def test_progress_is_a_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal one line is drawn again and again, and cleared at the end."""
    monkeypatch.setenv("COLUMNS", "40")
    shown, stream = progress()
    shown.update(50, 100)
    shown.update(50, 100)
    shown.update(200, 100)
    shown.clear()
    assert stream.text == "\rverifying ███████████              50 %\rverifying ███████████████████████ 100 %\r\x1b[K"
    assert all(len(line) < 40 for line in stream.text.split("\r")[:-1])


def test_progress_without_a_size_counts_megabytes() -> None:
    """Where the size is not known, the megabytes so far are shown."""
    shown, stream = progress()
    shown.update(5 << 20, 0)
    assert stream.text == "\rverifying 5 MiB"


@pytest.mark.parametrize("wide", ["1", "12", "20"])
def test_progress_fits_narrow_terminals(wide: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal without room for a bar the number is left."""
    monkeypatch.setenv("COLUMNS", wide)
    shown, stream = progress()
    shown.update(100, 100)
    assert stream.text.split() in (["verifying", "100", "%"], ["verifying", "███", "100", "%"])


def quiet(make: Callable[[], tuple[Progress, Stream]]) -> str:
    shown, stream = make()
    shown.update(1, 2)
    shown.clear()
    return stream.text


def test_progress_is_for_terminals() -> None:
    """In a file or on a dumb terminal nothing is shown, and nothing is cleared before something was shown."""
    assert quiet(lambda: progress(terminal=False)) == ""
    assert quiet(lambda: progress({"TERM": "dumb"})) == ""
    shown, stream = progress()
    shown.clear()
    assert stream.text == ""


def test_marks_are_one_column_wide() -> None:
    """The marks of the reports do not shift the columns behind them."""
    assert [width(mark) for mark in "✓✗·!→…"] == [1] * 6
    assert {unicodedata.category(mark)[0] for mark in "✓✗·→"} <= {"S", "P"}


@pytest.mark.parametrize("second", [("--trust", "b.json"), ("--trust=b.json",), ("--tru", "b.json")])
def test_an_option_that_is_given_twice_is_refused(second: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """The first value is not replaced without a word; what may be repeated still may."""
    with pytest.raises(SystemExit) as caught:
        main(["verify", "evidence", "--trust", "a.json", *second])
    assert caught.value.code == 2
    assert "is given twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("ask", "2", "--json", "b"), 2, "no evidence at 'b'"),
        (("report", "inventory", "a", "--json", "b"), 2, "no evidence at 'b'"),
        (("verify", "a", "b", "--json"), 2, "the source 'b'"),
        (("ask", "2", "--json", "a", "--frm", "b"), 2, "unknown option"),
    ],
)
def test_options_may_stand_among_the_sources(
    words: tuple[str, ...], code: int, complaint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A source after an option is a source; a misspelled option is still named."""
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.chdir(tmp_path)
        (tmp_path / "a").write_text("")  # The source before the option is there.
        assert main(list(words)) == code
    err = capsys.readouterr()
    assert complaint in err.err + err.out
    assert "unexpected argument" not in err.err
    assert "evidence is missing" not in err.err
