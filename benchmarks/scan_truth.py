"""Recall and precision of ``agent-identity scan`` against declarations that people wrote down.

``python benchmarks/scan_truth.py FOLDER`` scans each file of scan_truth.json alone, at ``FOLDER/OWNER/NAME/PATH``, and
compares. Nothing is fetched: put clones there, each at the commit that the truth names. ``--lists`` adds every miss and
false alarm. README.md says what an entry of the truth means.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRUTH = Path(__file__).with_name("scan_truth.json")
KINDS = {"agent": "agent", "orchestrator": "orchestrator", "tool": "tool"}
SHOWN = ("agent", "tool", "mcp", "orchestrator")

Entry = Mapping[str, Any]


@dataclass
class Comparison:
    """Counts by kind, and the entries and findings without a partner."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)


def main() -> None:
    """Scan the files and print recall and precision."""
    parser = argparse.ArgumentParser(description="Recall and precision of the scan")
    parser.add_argument("folder", type=Path, help="clones, as FOLDER/OWNER/NAME")
    parser.add_argument("--truth", type=Path, default=TRUTH, help="another truth")
    parser.add_argument("--draw", type=int, help="only the files of one draw")
    parser.add_argument("--lists", action="store_true", help="print misses and false alarms")
    options = parser.parse_args()
    truth = json.loads(options.truth.read_bytes())
    comparison = Comparison()
    for file in truth["files"]:
        if options.draw not in (None, file["draw"]):
            continue
        path = options.folder / file["repository"] / file["path"]
        compare(file, findings(path), comparison)
    report(comparison, lists=options.lists)


def findings(path: Path) -> list[Entry]:
    """Scan one file in a process of its own."""
    command = [sys.executable, "-m", "agent_identity", "scan", str(path), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        sys.exit(f"{path} cannot be scanned; clone its repository at the commit of the truth")
    items = json.loads(done.stdout)["items"]
    return [{**item, "kind": kind} for item in items if (kind := kind_of(item["kind"]))]


def kind_of(kind: str) -> str | None:
    """Return the kind of the truth for that of a finding."""
    return "mcp" if kind.startswith("mcp") else KINDS.get(kind)


def compare(file: Entry, found: Sequence[Entry], comparison: Comparison) -> None:
    """Pair entries with findings, one to one, the closest pairs first, and count."""
    entries = file["parts"]
    pairs = sorted(
        (
            (-closeness(entry, item), left, right)
            for left, entry in enumerate(entries)
            for right, item in enumerate(found)
            if closeness(entry, item)
        ),
    )
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for _, left, right in pairs:
        if left not in partner and right not in taken:
            partner[left] = right
            taken.add(right)
    where = f"{file['repository']}/{file['path']}"
    count(entries, found, partner, where, comparison)
    for right, item in enumerate(found):
        if right not in taken:
            comparison.counts[item["kind"], "false"] += 1
            comparison.false.append(f"{item['kind']} {item['name'] or '(dynamic)'} {where}:{item['line']}")


def count(
    entries: Sequence[Entry], found: Sequence[Entry], partner: Mapping[int, int], where: str, comparison: Comparison
) -> None:
    """Count the entries of one file, found and missed."""
    for left, entry in enumerate(entries):
        if entry.get("unsure"):
            continue
        kind = entry["kind"]
        comparison.counts[kind, "declared"] += 1
        if left in partner:
            comparison.counts[kind, "found"] += 1
            comparison.counts[kind, "named"] += named(entry, found[partner[left]])
        else:
            comparison.missed.append(f"{kind} {entry['names'][0] or '(dynamic)'} {where}:{entry['lines'][0]}")


def closeness(entry: Entry, item: Entry) -> int:
    """Return how well a finding fits an entry: 0 not at all, then by name, by line, by both; sure entries first."""
    if item["kind"] not in (entry["kind"], *entry.get("also", ())):
        return 0
    first, last = entry["lines"]
    within = first <= item["line"] <= last
    fit = 2 * within + named(entry, item) * (within or bool(item["name"]))
    return 2 * fit - bool(entry.get("unsure")) if fit else 0


def named(entry: Entry, item: Entry) -> bool:
    """Return whether a finding has one of the names of an entry; a dynamic name is written as null."""
    return (item["name"] or None) in entry["names"]


def report(comparison: Comparison, *, lists: bool) -> None:
    """Print the figures and, on request, what has no partner."""
    counts = comparison.counts
    for kind in SHOWN:
        found, declared, false = (counts[kind, part] for part in ("found", "declared", "false"))
        print(
            f"{kind:13} recall {found}/{declared} = {share(found, declared)}  "
            f"precision {found}/{found + false} = {share(found, found + false)}  "
            f"names {counts[kind, 'named']}/{found}"
        )
    if lists:
        show("missed", comparison.missed)
        show("false alarms", comparison.false)


def share(part: int, whole: int) -> str:
    """Return a share with two digits."""
    return f"{part / whole:.2f}" if whole else "-"


def show(title: str, lines: Iterable[str]) -> None:
    """Print a list under its title."""
    print(f"\n{title}", *lines, sep="\n  ")


if __name__ == "__main__":
    main()
