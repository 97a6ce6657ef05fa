"""The tables of frameworks: one file each, with a date and a source, and a row for each clause that somebody read."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pkgutil import get_data
from typing import Final, Literal, TypeAlias, cast, final, get_args

from agent_identity._identity.common.private_files import read_public_file
from agent_identity._reports.controls._signals import QUERIES
from agent_identity._verify.inputs.sources import PathLike
from agent_identity.errors import ConfigurationError

FrameworkName: TypeAlias = Literal["eu-ai-act", "dora", "nist", "owasp-agentic", "owasp-nhi"]
"""Name of a framework; ``nist`` has two tables."""

FRAMEWORKS: Final[tuple[FrameworkName, ...]] = get_args(FrameworkName)
"""The frameworks, in the order in which they are reported."""

_FILES: Final = (
    "eu_ai_act.toml",
    "dora.toml",
    "nist_sp_800_53.toml",
    "nist_ai_rmf.toml",
    "owasp_agentic.toml",
    "owasp_nhi.toml",
)
_MAX_TABLE: Final = 1 << 20
_MAX_DOTS: Final = 128  # Of one line: the work for a dotted key grows with the square of its parts.
_MAX_ROWS: Final = 1_000
_LONGEST: Final = 4_096
_ALWAYS: Final = frozenset({"clause", "title", "asks", "not_shown"})
_DEFAULTED: Final = frozenset({"version", "applies_from", "source"})
_OPTIONAL: Final = frozenset({"query", "at_most", "days", "targets"})
_HEAD: Final = frozenset({"framework", "title", "dated", "read", *_DEFAULTED, "rows"})


@final
@dataclass(frozen=True, slots=True)
class ControlRow:
    """One clause, and how it is looked for.

    Attributes:
        framework: The framework.
        version: The edition of the text.
        clause: The number of the clause.
        title: Its name, in few words.
        applies_from: From when it is in force, in words.
        source: The address of the text.
        asks: What it asks, in our own words.
        query: The named query that decides its status; ``None`` if records cannot answer it.
        at_most: The best status that the query can give it: ``partly`` if the clause asks more than the query answers.
        days: Days that the evidence has to cover.
        targets: The ids of its objectives in the catalog of the framework, for OSCAL.
        not_shown: What the records cannot show.
    """

    framework: FrameworkName
    version: str
    clause: str
    title: str
    applies_from: str
    source: str
    asks: str
    query: str | None
    at_most: Literal["shown", "partly"]
    days: int | None
    targets: tuple[str, ...]
    not_shown: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class ControlTable:
    """The rows of one framework.

    Attributes:
        framework: The framework.
        title: Its name for people.
        version: The edition.
        applies_from: From when it is in force, in words.
        source: The address of the text.
        dated: The day on which somebody last compared all rows with it, as in 2026-11-29.
        read: How the text was read.
        rows: The rows.
    """

    framework: FrameworkName
    title: str
    version: str
    applies_from: str
    source: str
    dated: str
    read: str
    rows: tuple[ControlRow, ...]

    @classmethod
    def load(cls, path: PathLike) -> "ControlTable":
        """Return a table from a file in the form of those of this release.

        Args:
            path: The file.

        Raises:
            ConfigurationError: The file cannot be read, or has another form; the message names the row.
        """
        return _read(read_public_file(path, limit=_MAX_TABLE), str(path))


def standard_tables(frameworks: Sequence[FrameworkName] = FRAMEWORKS) -> tuple[ControlTable, ...]:
    """Return the tables of this release.

    Args:
        frameworks: Only these.
    """
    found = (_read(get_data(__name__, file) or b"", file) for file in _FILES)
    return tuple(table for table in found if table.framework in frameworks)


def _read(data: bytes, name: str) -> ControlTable:
    if any(line.count(b".") > _MAX_DOTS for line in data.splitlines()):
        raise ConfigurationError(f"{name}: a line has more than {_MAX_DOTS} dots; break the line")
    try:
        table = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is not TOML: {error}") from None
    try:
        return _table(table)
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {error.args[0]}") from None


def _table(table: Mapping[str, object]) -> ControlTable:
    unknown = set(table).symmetric_difference(_HEAD)
    if unknown:
        raise ValueError(f"members {sorted(unknown)} are missing or unknown; give {', '.join(sorted(_HEAD))}")
    framework = _text(table, "framework")
    if framework not in FRAMEWORKS:
        raise ValueError(f"unknown framework {framework!r}; use one of {', '.join(FRAMEWORKS)}")
    dated = table["dated"]
    if type(dated) is not date:
        raise TypeError("dated is no date; write 2026-11-29")
    rows = table["rows"]
    if not isinstance(rows, list) or not 0 < len(cast("list[object]", rows)) <= _MAX_ROWS:
        raise TypeError(f"rows is no list of 1 to {_MAX_ROWS:,} tables; write [[rows]] before each")
    found = tuple(_row(cast("Mapping[str, object]", row), table, framework) for row in cast("list[object]", rows))
    if len({row.clause for row in found}) != len(found):
        raise ValueError("a clause has two rows; give each one row")
    return ControlTable(
        framework=framework,
        title=_text(table, "title"),
        version=_text(table, "version"),
        applies_from=_text(table, "applies_from"),
        source=_text(table, "source"),
        dated=dated.isoformat(),
        read=_text(table, "read"),
        rows=found,
    )


def _row(row: Mapping[str, object], table: Mapping[str, object], framework: FrameworkName) -> ControlRow:
    clause = _text(row, "clause")
    try:
        return _checked_row(clause, row, {**{name: table[name] for name in _DEFAULTED}, **row}, framework)
    except (LookupError, TypeError, ValueError) as error:
        raise ValueError(f"row {clause}: {error.args[0]}") from None


def _checked_row(
    clause: str, row: Mapping[str, object], given: Mapping[str, object], framework: FrameworkName
) -> ControlRow:
    unknown = set(row) - _ALWAYS - _DEFAULTED - _OPTIONAL
    if unknown:
        raise ValueError(f"unknown members {sorted(unknown)}; remove them")
    query = None if "query" not in row else _text(row, "query")
    if query is not None and query not in QUERIES:
        raise ValueError(f"unknown query {query!r}; use one of {', '.join(sorted(QUERIES))}")
    return ControlRow(
        framework=framework,
        version=_text(given, "version"),
        clause=clause,
        title=_text(row, "title"),
        applies_from=_text(given, "applies_from"),
        source=_text(given, "source"),
        asks=_text(row, "asks"),
        query=query,
        at_most=_at_most(row.get("at_most", "shown")),
        days=_days(row.get("days")),
        targets=_texts(row.get("targets", []), "targets"),
        not_shown=_texts(row.get("not_shown"), "not_shown"),
    )


def _text(members: Mapping[str, object], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST:
        raise TypeError(f'{name} is missing or no text of up to {_LONGEST:,} characters; write {name} = "…"')
    return " ".join(value.split())


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{name} is no list of texts")
    items = cast("list[object]", value)
    return tuple(_text({name: item}, name) for item in items)


def _at_most(value: object) -> Literal["shown", "partly"]:
    if value == "shown":
        return "shown"
    if value == "partly":
        return "partly"
    raise ValueError('at_most is another word; write "shown" or "partly"')


def _days(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 1:
        raise TypeError("days is no whole number from 1")
    return value
