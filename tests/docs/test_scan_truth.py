"""The comparison of a scan with what people wrote down, and the figures of it on the page of benchmarks."""

import json
import re
import runpy
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "benchmarks" / "scan_truth.py"))
TRUTH: dict[str, Any] = json.loads((ROOT / "benchmarks" / "scan_truth.json").read_text(encoding="utf-8"))
PAGE = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")


def part(kind: str, name: str | None, line: int, **more: object) -> dict[str, Any]:
    """Return an entry of the truth."""
    return {"kind": kind, "names": [name], "lines": [line, line + 2], **more}


def item(kind: str, name: str, line: int) -> dict[str, Any]:
    """Return a finding."""
    return {"kind": kind, "name": name, "line": line}


def compared(parts: list[dict[str, Any]], found: list[dict[str, Any]]) -> Any:
    """Compare the entries of one file with findings."""
    comparison = SCRIPT["Comparison"]()
    SCRIPT["compare"]({"repository": "o/n", "path": "a.py", "parts": parts}, found, comparison)
    return comparison


def test_each_finding_answers_for_one_declaration() -> None:
    """A second finding of the same declaration is a false alarm, and one of two of the same name is missed."""
    twice = compared([part("tool", "pay", 1)], [item("tool", "pay", 1), item("tool", "pay", 1)])
    assert twice.counts == {("tool", "declared"): 1, ("tool", "found"): 1, ("tool", "named"): 1, ("tool", "false"): 1}
    once = compared([part("agent", "a", 1), part("agent", "a", 9)], [item("agent", "a", 9)])
    assert once.missed == ["agent a o/n/a.py:1"]


def test_a_finding_fits_by_line_or_name_within_its_kind() -> None:
    """A wrong name on the right line is found, not named; the right name of another kind is missed and false."""
    by_line = compared([part("agent", "a", 1)], [item("agent", "b", 2)])
    assert (by_line.counts["agent", "found"], by_line.counts["agent", "named"]) == (1, 0)
    other = compared([part("agent", "a", 1)], [item("tool", "a", 1)])
    assert (other.missed, other.false) == (["agent a o/n/a.py:1"], ["tool a o/n/a.py:1"])
    assert not compared([part("agent", "a", 1, also=["orchestrator"])], [item("orchestrator", "a", 1)]).missed


def test_a_dynamic_name_fits_no_declaration_elsewhere() -> None:
    """A finding without a name is placed by its line alone."""
    assert compared([part("agent", None, 1)], [item("agent", "", 9)]).missed
    assert compared([part("agent", None, 1)], [item("agent", "", 3)]).counts["agent", "named"] == 1


def test_what_is_unsure_counts_neither_way() -> None:
    """An unsure entry takes a finding that no sure one needs, and is not missed."""
    parts = [part("tool", "kit", 1, unsure=True), part("tool", "kit", 1)]
    assert not compared(parts, [item("tool", "kit", 1), item("tool", "kit", 1)]).false
    alone = compared(parts, [item("tool", "kit", 1)])
    assert (alone.missed, alone.counts["tool", "found"]) == ([], 1)


def test_the_page_counts_what_the_truth_has() -> None:
    """Files, files without agents, and declarations of each kind are those of the published truth."""
    for draw, title in ((1, "5, first run"), (2, "6, the next draw, after corrections")):
        files = [one for one in TRUTH["files"] if one["draw"] == draw]
        sure = [[entry["kind"] for entry in one["parts"] if not entry.get("unsure")] for one in files]
        declared = Counter(kind for kinds in sure for kind in kinds)
        (row,) = re.findall(rf"^\| {title} \| (\d.*) \|$", PAGE, re.MULTILINE)
        numbers = [int(number) for number in re.findall(r"\d+", row)]
        assert numbers[:2] == [len(files), sum("agent" not in kinds for kinds in sure)]
        assert numbers[3::4] == [declared[kind] for kind in ("agent", "tool", "mcp")]


def test_every_file_is_pinned() -> None:
    """Each file has a repository and a full commit, and no file is drawn twice."""
    assert all(re.fullmatch(r"[0-9a-f]{40}", one["commit"]) for one in TRUTH["files"])
    places = [(one["repository"], one["path"]) for one in TRUTH["files"]]
    assert len(places) == len(set(places))
