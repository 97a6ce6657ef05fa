"""The commands ``report controls`` and ``report sample``: forms, exit codes, and what is refused."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import work

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company, with its keys kept elsewhere."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2)
    shutil.copy(directory / "trust.json", directory.parent / "kept.json")
    return directory


@pytest.fixture
def given(company: Path) -> tuple[object, ...]:
    """Return the words for evidence with keys from elsewhere."""
    return (company, "--trust", company.parent / "kept.json")


def test_people_read_status_reasons_and_limits(run: Run, given: tuple[object, ...]) -> None:
    """Each clause has its status, why, records, and what records cannot show."""
    done = run("report", "controls", *given, "--framework", "nist")
    assert done.code == 0
    assert "VERIFIED" in done.out.splitlines()[0]
    assert "partly        AC-3  Access enforcement" in done.out
    assert "cannot show: paths without a guard" in done.out
    assert "EU AI Act" not in done.out
    assert "--framework nist" in done.out


def test_rows_come_as_csv_and_json(run: Run, given: tuple[object, ...]) -> None:
    """Both forms have every row with source, date and status."""
    done = run("report", "controls", *given, "--framework", "dora", "--framework", "owasp-nhi", "--csv")
    rows = [row for row in csv.DictReader(io.StringIO(done.out)) if row["row"] == "controls"]
    found = json.loads(
        run("report", "controls", *given, "--framework", "dora", "--framework", "owasp-nhi", "--json").out
    )
    assert [row["clause"] for row in rows] == [one["row"]["clause"] for one in found["rows"]]
    assert [row["status"] for row in rows] == [one["status"] for one in found["rows"]]
    assert {row["rows_dated"] for row in rows} == {table["dated"] for table in found["tables"]}
    assert {row["framework"] for row in rows} == {"dora", "owasp-nhi"}


def test_oscal_is_one_document(run: Run, given: tuple[object, ...]) -> None:
    """The form of OSCAL holds the rows of SP 800-53."""
    done = run("report", "controls", *given, "--oscal")
    assert done.code == 0
    assert json.loads(done.out)["assessment-results"]["results"][0]["observations"]


def test_without_verification_every_form_says_so(run: Run, company: Path) -> None:
    """The exit code is 2, and the word is in text, CSV and OSCAL."""
    for form in ((), ("--csv",), ("--oscal",), ("--json",)):
        done = run("report", "controls", company, "--unverified", *form)
        assert done.code == 2
        assert "unverified" in done.out


def test_an_unknown_framework_is_refused(run: Run, company: Path) -> None:
    """The message names the known ones."""
    done = run("report", "controls", company, "--framework", "iso")
    assert done.code == 2
    assert "owasp-agentic" in done.err


def test_rows_of_ones_own_replace_ours(run: Run, given: tuple[object, ...], tmp_path: Path) -> None:
    """A table of a file is asked in place of those of the release; the command states it."""
    own = tmp_path / "own.toml"
    own.write_text(
        'framework = "dora"\ntitle = "Ours"\nversion = "1"\napplies_from = "now"\nsource = "https://law.example"\n'
        'dated = 2026-11-29\nread = "all"\n[[rows]]\nclause = "7"\ntitle = "<b>Seven</b>"\nasks = "a"\n'
        'query = "enforcement"\nnot_shown = ["b"]\n'
    )
    done = run("report", "controls", *given, "--rows", own, "--json")
    found = json.loads(done.out)
    assert [(one["row"]["clause"], one["status"]) for one in found["rows"]] == [("7", "shown")]
    assert f"--rows {own}" in found["frame"]["command"]
    page = tmp_path / "page.html"
    assert run("report", "controls", *given, "--rows", own, "--html", page).code == 0
    assert "&lt;b&gt;Seven" in page.read_text()


def test_a_sample_is_written_with_proofs(run: Run, given: tuple[object, ...], tmp_path: Path) -> None:
    """The proofs are there, and proof check verifies them."""
    folder = tmp_path / "sample"
    done = run("report", "sample", *given, "--records", 2, "--seed", "2026", "--out", folder)
    assert done.code == 0
    assert "2 of 10 recorded calls" in done.out
    assert "--records 2 --seed 2026" in done.out
    files = json.loads((folder / "sample.json").read_text())["files"]
    for name, record in files.items():
        assert run("proof", "check", folder / name, "--trust", given[2], "--record", record).code == 0
    again = run("report", "sample", *given, "--seed", "2026", "--out", folder)
    assert (again.code, "never replaced" in again.err) == (2, True)
    printed = run("report", "sample", *given, "--seed", "2026", "--out", tmp_path / "other", "--json")
    assert len(json.loads(printed.out)["drawn"]) == 10


def test_a_sample_is_drawn_from_a_directory_below(run: Run, company: Path, tmp_path: Path) -> None:
    """A folder with one evidence directory below it is as good as the directory."""
    above = tmp_path / "above"
    shutil.copytree(company, above / "evidence")
    assert run("report", "sample", above, "--seed", "1", "--records", 1, "--out", tmp_path / "sample").code == 0
    assert (tmp_path / "sample" / "0001.tlog-proof").exists()


def test_no_sample_is_drawn_from_contradicted_evidence(run: Run, company: Path, tmp_path: Path) -> None:
    """Nothing is written, and the exit code is that of verify."""
    forged = Path(shutil.copytree(company, tmp_path / "forged"))
    (lines,) = forged.glob("ledger/*/entries.jsonl")
    lines.write_bytes(lines.read_bytes().replace(b'"pay"', b'"buy"'))
    done = run("report", "sample", forged, "--seed", "2026", "--out", tmp_path / "sample")
    assert done.code == 1
    assert "nothing was written" in done.out
    assert not (tmp_path / "sample").exists()


def test_a_part_of_the_evidence_shows_a_part(run: Run, company: Path, tmp_path: Path) -> None:
    """An excerpt verifies and is incomplete: the exit code is 3, and no row is shown as a whole."""
    part = tmp_path / "part.zip"
    assert run("bundle", company, "-o", part, "--from", "2025-01-01", "--until", "2999-01-01").code == 3
    done = run("report", "controls", part, "--trust", company.parent / "kept.json", "--json")
    statuses = {one["status"] for one in json.loads(done.out)["rows"]}
    assert done.code == 3
    assert "partly" in statuses
    assert "shown" not in statuses
