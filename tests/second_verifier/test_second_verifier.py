"""A verifier that was written from the pages alone says the same as ours about every case and every surgery.

It is JavaScript for Node, without dependencies, by an author who saw the pages of the format and no Python. Where the
two differ, the page or one of them is wrong.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from evidence_cases import CASES, write_case, write_files
from second_verifier.random_surgeries import Surgeon, whole_cases

from agent_identity import ConfigurationError, Verifier

pytestmark = pytest.mark.nightly

HERE = Path(__file__).resolve().parent
NODE = shutil.which("node")
BASES = ("small", "marked", "approving", "delegating", "pruned", "excerpt")
LEDGERS = {name: case for name, case in CASES.items() if case.get("verify") == [".", "--trust", "trust.json"]}
SURGERIES = int(os.environ.get("AGENT_IDENTITY_SURGERIES") or 400)
WHOLE = whole_cases()
if NODE is None:
    pytest.skip("node is not installed", allow_module_level=True)


def said(folders: Iterable[Path]) -> dict[str, tuple[int, list[str]]]:
    """Return what the second verifier says of folders with evidence and a trust file: exit code and codes."""
    names = "".join(f"{folder}\n" for folder in folders)
    done = subprocess.run(
        [NODE or "", str(HERE / "many.mjs")], input=names, capture_output=True, text=True, check=True, timeout=1_800
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {Path(row["folder"]).name: (row["exit"], sorted(set(row["codes"]))) for row in rows}


def ours(folder: Path) -> tuple[int, list[str]]:
    """Return what our verifier says; of a trust file of no use, passed by its path, that."""
    try:
        report = Verifier(folder / "trust.json").ledger(folder)
    except ConfigurationError:
        return 4, ["bad_trust"]
    return report.exit_code, sorted({problem.code for problem in report.findings})


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The published cases, each in a folder of its own."""
    root = tmp_path_factory.mktemp("cases")
    for name, case in LEDGERS.items():
        write_case(case, root / name)
    return {name: root / name for name in LEDGERS}


def expected(case: dict[str, Any]) -> tuple[int, list[str]]:
    """Return exit code and codes that a case demands."""
    return case["exit"], sorted({found[0] for found in case["findings"]})


def test_the_two_agree_on_every_case(cases: dict[str, Path]) -> None:
    """Exit code and codes of findings are those of the case."""
    wanted = {name: expected(case) for name, case in LEDGERS.items()}
    assert len(wanted) > 400
    assert said(cases.values()) == wanted


@pytest.mark.parametrize("base", BASES)
def test_the_two_agree_on_surgeries_of_the_second_author(base: str, cases: dict[str, Path], tmp_path: Path) -> None:
    """Changes that its author thought of, also by an insider who seals again."""
    made = [NODE or "", str(HERE / "surgeries.mjs"), str(cases[base]), str(tmp_path)]
    subprocess.run(made, check=True, timeout=600, capture_output=True)
    folders = {row["name"]: tmp_path / row["name"] for row in json.loads((tmp_path / "list.json").read_text())}
    assert len(folders) >= 50
    mine = {name: ours(folder) for name, folder in folders.items()}
    assert said(folders.values()) == mine


@pytest.mark.parametrize("first", range(0, SURGERIES, 200))
def test_the_two_agree_on_random_surgeries(first: int, tmp_path: Path) -> None:
    """Whatever is cut, moved, changed or granted, and sealed again; `AGENT_IDENTITY_SURGERIES` says how often."""
    done = dict[str, list[str]]()
    for seed in range(first, min(first + 200, SURGERIES)):
        surgeon = Surgeon(seed, WHOLE)
        write_files(surgeon.operate(), tmp_path / str(seed))
        done[str(seed)] = surgeon.done
    mine, theirs = {seed: ours(tmp_path / seed) for seed in done}, said(tmp_path / seed for seed in done)
    assert {seed: (done[seed], mine[seed], theirs.get(seed)) for seed in done if mine[seed] != theirs.get(seed)} == {}
    shutil.rmtree(tmp_path)  # They are many, and temporary files are in memory.


def test_random_surgeries_are_of_many_cases_and_of_many_verdicts(tmp_path: Path) -> None:
    """Few find nothing, and together they lead to most of the codes that a forger can cause."""
    assert len(WHOLE) > 50
    codes, clean = set[str](), 0
    for seed in range(200):
        write_files(Surgeon(seed, WHOLE).operate(), tmp_path / str(seed))
        exit_code, found = ours(tmp_path / str(seed))
        codes.update(found)
        clean += exit_code == 0
    assert len(codes) > 40, sorted(codes)
    assert clean < 80


def test_it_is_no_longer_than_a_reader_can_hold() -> None:
    """Its nine parts, without the surgeries and the program of this test, have less than 1,650 lines."""
    parts = {path.name: path for path in HERE.glob("*.mjs")}
    del parts["surgeries.mjs"], parts["many.mjs"]
    assert len(parts) == 9
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in parts.values()) < 1_650
