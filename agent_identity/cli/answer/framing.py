"""Shared parts of the report commands: reading the evidence, the frame, and the forms."""

import argparse
import csv
import gc
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._common.printing import inert
from agent_identity._reports.answers.hosts import Hosts
from agent_identity._reports.answers.reading import Evidence
from agent_identity._reports.answers.report_frame import Frame, SourceFrame, plain
from agent_identity._reports.pages.words import span_of
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.saving import made_ns, refuse_existing, save_page
from agent_identity.cli.terminal.sources import kept_trust
from agent_identity.cli.terminal.style import Estimate, Progress, Style, clean, columns, hanging, moment, table, width
from agent_identity.cli.verify.verify import VERDICTS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from agent_identity._reports.pages.rendering import Answer
    from agent_identity.cli.answer.examining import Examiner

_SELDOM: Final = (100_000, 50, 100)
"""Thresholds of the cycle collector: a pass makes next to no cycles, and millions of small objects."""

_VERDICTS: Final = {**VERDICTS, "unverified": ("NOT VERIFIED: --unverified", "red")}
_TRUST: Final[Mapping[str, str]] = {
    "given": "given by you",
    "self-asserted": "self-asserted: the keys came from beside the evidence; give --trust with a copy kept elsewhere",
    "none": "none: give --trust",
}
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+!|~])")
TONES: Final = {"bad": "red", "warn": "yellow", "note": "dim"}
"""The color of each weight."""

_SHOWN: Final = 20
_KEY: Final = 12
_FEW: Final = 4
_OPTIONS: Final = (
    "trust",
    "root",
    "revision",
    "unverified",
    "start",
    "stop",
    "since",
    "after",
    "checkpoint",
    "hosts",
    "scan",
    "least",
    "resource",
    "framework",
    "rows",
    "records",
    "drawn_with",
    "markdown",
    "cyclonedx",
    "oscal",
    "timesketch",
    "ocsf",
    "json",
    "csv",
)
_NAMES: Final[Mapping[str, str]] = {"start": "from", "stop": "until", "drawn_with": "seed"}
_UNSAID: Final[Mapping[str, int]] = {"least": 1}
"""Numbers that are the default."""

_Answer = TypeVar("_Answer")


Cell: TypeAlias = str | int
"""A cell of a table."""


def evidence_of(chosen: argparse.Namespace, progress: Callable[[int, int], None]) -> Evidence:
    """Return what the words of a command ask about.

    Args:
        chosen: The words.
        progress: Is told how far the pass is.

    Raises:
        ConfigurationError: A time is none, a table of hosts cannot be read, or the trust file is not the pinned one.
    """
    hosts = getattr(chosen, "hosts", None)
    return Evidence(
        sources=chosen.evidence,
        trust=kept_trust(chosen),
        unverified=chosen.unverified,
        from_ns=None if chosen.start is None else moment_ns(chosen.start),
        until_ns=None if chosen.stop is None else moment_ns(chosen.stop),
        processes=chosen.processes,
        progress=progress,
        hosts=None if hosts is None else Hosts.load(hosts),
        command=command_of(chosen),
    )


def command_of(chosen: argparse.Namespace) -> str:
    """Return the command, with the options that decide about the answer."""
    seed = getattr(chosen, "seed", None)
    words = ["agent-identity", "report", chosen.action, *([] if seed is None else [seed]), *chosen.evidence]
    for name in _OPTIONS:
        value = getattr(chosen, name, None)
        option = f"--{_NAMES.get(name, name)}"
        if value is True:
            words.append(option)
        elif isinstance(value, str):
            words += [option, value]
        elif type(value) is int and value != _UNSAID.get(name):
            words += [option, str(value)]
        elif is_array(value):
            words += [word for one in value for word in (option, str(one))]
    return shlex.join(words)


def answered(chosen: argparse.Namespace, ask: Callable[[Evidence], _Answer]) -> _Answer:
    """Return the answer to a question, and show meanwhile how far the pass is.

    Args:
        chosen: The words of the command.
        ask: Puts the question.
    """
    form = getattr(chosen, "html", None)
    if form is not None:
        refuse_existing(form)
    chosen.examiner = _examiner(chosen)
    progress = Progress(sys.stderr, "reading" if chosen.unverified else "verifying")
    estimate = Estimate(time.monotonic)
    evidence = evidence_of(chosen, lambda done, total: progress.update(done, total, estimate.left(done, total)))
    gc.freeze()
    gc.set_threshold(*_SELDOM)
    try:
        return ask(evidence)
    finally:
        progress.clear()


def emit(
    chosen: argparse.Namespace,
    result: "Answer",
    *,
    text: Callable[[Style, int | None], Iterable[str]],
    rows: Callable[[], Iterable[Sequence[Cell]]],
    markdown: Callable[[], Iterable[str]] | None = None,
    events: Mapping[str, Callable[[int], Iterable[Mapping[str, object]]]] | None = None,
) -> int:
    """Print a result in the form that was asked for, and return the exit code.

    Args:
        chosen: The words of the command.
        result: The result.
        text: Returns its lines for people, without the frame.
        rows: Returns its rows for CSV, the first of them with the names of the columns.
        markdown: Returns its lines in Markdown, without the frame, for reports that have this form.
        events: By the option of a form, the function that returns its events, one JSON line each, made at a time.
    """

    def show() -> int:
        return _print(chosen, result, text=text, rows=rows, markdown=markdown, events=events)

    return _examined(chosen, result.frame, show)


def emit_document(chosen: argparse.Namespace, frame: Frame, text: Callable[[], str]) -> int:
    """Print a result as a document of another form, and return the exit code.

    Args:
        chosen: The words of the command.
        frame: The frame of the result.
        text: Returns the document.
    """

    def show() -> int:
        print(text())
        return frame.exit_code

    return _examined(chosen, frame, show)


def _examined(chosen: argparse.Namespace, frame: Frame, show: Callable[[], int]) -> int:
    """Show a result, and record that where it is wanted."""
    examiner: Examiner | None = chosen.examiner
    if examiner is None:
        return show()
    return examiner.shown(frame, getattr(chosen, "seed", ""), show, page=chosen.html)


def _examiner(chosen: argparse.Namespace) -> "Examiner | None":
    """Return what records the examination, where that is wanted."""
    if getattr(chosen, "record_examination", None) is None and getattr(chosen, "by", None) is None:
        return None
    from agent_identity.cli.answer.examining import examiner_of

    return examiner_of(chosen)


def _print(
    chosen: argparse.Namespace,
    result: "Answer",
    *,
    text: Callable[[Style, int | None], Iterable[str]],
    rows: Callable[[], Iterable[Sequence[Cell]]],
    markdown: Callable[[], Iterable[str]] | None,
    events: Mapping[str, Callable[[int], Iterable[Mapping[str, object]]]] | None,
) -> int:
    frame = result.frame
    form = next((name for name in events or {} if getattr(chosen, name)), None)
    if events is not None and form is not None:
        for event in events[form](made_ns()):
            print(json.dumps(event))
    elif chosen.html is not None:
        from agent_identity._reports.pages.rendering import render

        save_page(render(result, made_ns=made_ns()), chosen.html)
    elif chosen.json:
        print(json.dumps(plain(result)))
    elif markdown is not None and chosen.markdown:
        print("\n".join([*_markdown_frame(frame), *markdown()]))
    elif chosen.csv:
        print_csv(frame, rows())
    else:
        style, room = Style(sys.stdout), columns(sys.stdout)
        for line in (*heading(frame, style, room), "", *text(style, room), "", *not_shown(frame, style, room)):
            print(line)
    return frame.exit_code


def heading(frame: Frame, style: Style, room: int | None) -> Iterator[str]:
    """Yield the frame of a report for people: the verdict first."""
    words, color = _VERDICTS[frame.verdict]
    yield f"{style.paint(words, color, 'bold')}  report {frame.question}, agent-identity {frame.version}"
    many = len(frame.sources) > _SHOWN
    for source in frame.worst_first[:_SHOWN] if many else frame.sources:
        yield from _source(source, style, room)
    if many:
        yield f"  … and {len(frame.sources) - _SHOWN:,} more sources; --json lists all"
    if frame.from_ns is not None or frame.until_ns is not None:
        start = "the beginning" if frame.from_ns is None else moment(frame.from_ns)
        stop = "the end" if frame.until_ns is None else moment(frame.until_ns)
        yield f"  period   {start} until {stop}"
    if frame.command is not None:
        yield f"  command  {hanging(clean(frame.command), 11, room)}"


def _source(source: SourceFrame, style: Style, room: int | None) -> Iterator[str]:
    words, color = ("nothing to verify: hints", "dim") if source.only_hints else _VERDICTS[source.verdict]
    place, content = clean(source.place), f"({_content(source)})"
    begin = 15 + width(place) + width(words)
    if room is not None and begin + width(content) > room:
        yield f"  source   {place}  {style.paint(words, color)}"
        yield f"           {hanging(content, 11, room)}"
    else:
        yield f"  source   {place}  {style.paint(words, color)}  {content}"
    report = source.report
    if report is None or source.only_hints:
        return
    words = f"integrity {_spaced(report.integrity)}, completeness: {report.completeness_words}"
    yield f"           {hanging(words, 11, room)}"
    codes = list(dict.fromkeys(found.code for found in report.findings if found.severity != "notice"))
    if codes:
        yield f"           {hanging(clean(', '.join(codes[:_SHOWN])) + ': see agent-identity verify', 11, room)}"
    yield f"  keys     {hanging(clean(_key_words(source)), 11, room)}"


def _content(source: SourceFrame) -> str:
    parts = [counted(source.records, "record")] if source.records or source.kind != "traces" else []
    parts += [f"{counted(source.hints, 'span')} without a verified record"] if source.hints else []
    seen = span_of(source.first_ns, source.last_ns)
    return ", ".join([*parts, seen] if seen else parts) or "nothing in it"


def _key_words(source: SourceFrame) -> str:
    names = [f"{purpose} {key[:_KEY]}…" for purpose, keys in source.keys.items() for key in keys]
    more = ", …" if len(names) > _FEW else ""
    shown = f" ({', '.join(names[:_FEW])}{more})" if names else ""
    origin = f", from {source.keys_from}" if source.keys_from and source.trust == "given" else ""
    return _TRUST[source.trust] + origin + shown


def _spaced(text: str) -> str:
    return text.replace("_", " ")


def not_shown(frame: Frame, style: Style, room: int | None) -> Iterator[str]:
    """Yield what a report does not show, for people."""
    yield style.paint("not shown:", "bold")
    for note in frame.notes:
        yield f"  · {hanging(clean(note), 4, room)}"


def cut(values: Sequence[str], most: int = 4) -> str:
    """Return some of the values for people, clean, and how many more there are."""
    more = f" +{len(values) - most:,}" if len(values) > most else ""
    return clean(", ".join(values[:most])) + more


def table_lines(rows: Sequence[Sequence[str]], room: int | None, *, most: int = 200) -> Iterator[str]:
    """Yield rows in aligned columns, the first of which names them; at most so many, and how many more there are."""
    yield from table(rows[: most + 1], room=room)
    if len(rows) > most + 1:
        yield f"  … and {len(rows) - most - 1:,} more; --json and --csv have all"


def print_csv(frame: Frame, rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows as comma-separated values, with the verdict in each, and the frame in rows of their own at the end.

    A cell that a spreadsheet would take for a formula begins with an apostrophe; control characters are shown escaped.

    Args:
        frame: The frame.
        rows: The rows, the first of them with the names of the columns.
    """
    out = csv.writer(sys.stdout, lineterminator="\n")
    wide = 0
    for number, row in enumerate(rows):
        wide = wide or len(row)
        lead: tuple[Cell, ...] = ("verdict", "row") if not number else (frame.verdict, frame.question)
        out.writerow([_cell(cell) for cell in (*lead, *row)])
    for kind, text in _frame_rows(frame):
        out.writerow([_cell(cell) for cell in (frame.verdict, kind, text, *[""] * (wide - 1))])


def _markdown_frame(frame: Frame) -> Iterator[str]:
    words, _ = _VERDICTS[frame.verdict]
    yield f"# {words}: report {frame.question}"
    yield ""
    for kind, text in _frame_rows(frame):
        yield f"- {kind}: {plain_markdown(text)}"
    yield ""


def plain_markdown(text: str) -> str:
    """Return text from evidence so that it is no markup in Markdown, nor in the HTML that is made of it."""
    escaped = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", escaped)


def rows_of(
    kind: type["DataclassInstance"], items: Sequence[object], *, nested: Callable[[object], str] = str
) -> Iterator[Sequence[Cell]]:
    """Yield typed results as rows, the names of their fields first.

    Args:
        kind: The type of the results.
        items: The results.
        nested: Returns a result inside of them as text.
    """
    names = [field.name for field in fields(kind)]
    yield names
    for item in items:
        yield [_flat(getattr(item, name), nested) for name in names]


def _flat(value: object, nested: Callable[[object], str]) -> Cell:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int):
        return value
    if is_array(value):
        words = [str(_flat(one, nested)) for one in value]
        return " ".join(words) if all(isinstance(one, str) for one in value) else "; ".join(words)
    if is_mapping(value):
        return "; ".join(f"{name}: {_flat(one, nested)}" for name, one in value.items())
    return nested(value)


def _frame_rows(frame: Frame) -> Iterator[tuple[str, str]]:
    for source in frame.sources:
        keys = f"{source.trust}, from {source.keys_from}" if source.keys_from else source.trust
        yield "source", f"{source.place}: {source.kind}, {source.verdict}, keys {keys}"
    if frame.command is not None:
        yield "command", frame.command
    yield "version", frame.version
    for note in frame.notes:
        yield "not shown", note


def _cell(value: Cell) -> str:
    text = str(value)
    if isinstance(value, int):
        return text
    return clean(inert(text))
