"""Check that the rooms on which trust rests are covered completely, lines and branches.

Run as ``python tools/coverage_gate.py COVERAGE.JSON ROOM ...`` on what ``coverage json`` wrote. The total has its own
threshold in ``pyproject.toml``; an average must not hide a hole here.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path


def main(report: Path, rooms: Sequence[str]) -> int:
    """Print each line and branch of the rooms that no test reached; return the exit status."""
    files = json.loads(report.read_text(encoding="utf-8"))["files"]
    holes: list[str] = []
    for room in rooms:
        rows = {path: row for path, row in files.items() if f"agent_identity/{room}/" in Path(path).as_posix()}
        print(f"{room}: {len(rows)} files")
        holes += [] if rows else [f"{room}: no file was measured"]
        for path, row in sorted(rows.items()):
            holes += [f"{path}:{line}: not executed" for line in row["missing_lines"]]
            holes += [f"{path}:{start}: never goes on to {_line(end)}" for start, end in row["missing_branches"]]
    print("\n".join(holes) or "every line and branch of them is covered")
    return 1 if holes else 0


def _line(number: int) -> str:
    return f"line {number}" if number > 0 else "the end"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
