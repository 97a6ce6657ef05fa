"""Write the tables of control rows and of queries into their pages, or check that they are still the same.

Run as ``python tools/control_pages.py [--check]``. The rows come from the tables beside the code; the text around them
is written by hand.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from agent_identity._reports.controls._signals import QUERIES
from agent_identity._reports.controls.control_rows import FRAMEWORKS, ControlRow, ControlTable, standard_tables

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference" / "controls"
_BEGIN, _END = "<!-- rows: begin -->", "<!-- rows: end -->"


def rows(framework: str) -> str:
    """Return the part of a page that holds the rows of a framework."""
    parts = [part for table in standard_tables() if table.framework == framework for part in _table(table)]
    return "\n".join([_BEGIN, *parts, _END])


def queries() -> str:
    """Return the part of a page that holds the queries, which every row names one of."""
    asked = {row.query for table in standard_tables() for row in table.rows}
    found = (f"- `{name}`: {query.asks}" for name, query in QUERIES.items() if name in asked)
    return "\n".join([_BEGIN, "", *found, "", _END])


def _table(table: ControlTable) -> Iterator[str]:
    yield f"\n## {table.title}\n"
    yield f"Edition: {table.version}. In force: {table.applies_from}. Rows of {table.dated}; [source]({table.source})."
    yield f"Read for them: {table.read}\n"
    groups: dict[str, list[str]] = {}
    for row in sorted(table.rows, key=lambda row: row.query is None):
        asked = "out of scope" if row.query is None else f"`{row.query}`"
        groups.setdefault(asked, []).append(_clause(row, table))
    yield from (f"- {asked}: {'; '.join(clauses)}" for asked, clauses in groups.items())
    yield ""


def _clause(row: ControlRow, table: ControlTable) -> str:
    said = [
        "" if row.version == table.version else row.version,
        "" if row.days is None else f"over {row.days} days",
        "" if row.at_most == "partly" or row.query is None else row.at_most,
        "" if row.applies_from == table.applies_from else f"in force: {row.applies_from}",
    ]
    more = "; ".join(filter(None, said))
    return f"**{row.clause}** {row.title}{more and f' ({more})'}"


def main(*, check: bool) -> int:
    """Compare or write the pages; return the exit status."""
    parts: dict[str, str] = {"queries": queries(), **{framework: rows(framework) for framework in FRAMEWORKS}}
    old: list[str] = []
    for name, part in parts.items():
        page = FOLDER / f"{name}.md"
        text = page.read_text(encoding="utf-8")
        before, _, rest = text.partition(_BEGIN)
        fresh = before + part + rest.partition(_END)[2]
        if fresh != text or _BEGIN not in text:
            old.append(page.name)
            if not check:
                page.write_text(fresh, encoding="utf-8")
    if check and old:
        print(f"{', '.join(old)} are out of date; run: python tools/control_pages.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
