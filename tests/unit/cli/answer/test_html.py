"""Reports as pages on the command line: the file, its digest, the exit code, and the folder for an auditor."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import span, traces, work

Run = Callable[..., Any]

REPORTS = (("inventory",), ("scope",), ("incident", "agent:clerk"), ("coverage",), ("data",), ("controls",))
FILES = {"index.html", "inventory.html", "scope.html", "data.html", "incident.html", "coverage.html", "controls.html"}


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2, days=10)
    return directory


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("report", REPORTS, ids=lambda words: words[0])
def test_a_report_is_written_as_a_page(run: Run, company: Path, tmp_path: Path, report: tuple[str, ...]) -> None:
    """The page is there, its digest is printed, and the exit code is that of verify."""
    page = tmp_path / "page.html"
    done = run("report", *report, company, "--html", page)
    assert done.code == 0
    assert done.out == f"{digest(page)}  {page}\n"
    assert f"agent-identity report {' '.join(report)} {company}" in page.read_text()
    assert run("report", *report, company, "--unverified", "--html", tmp_path / "other.html").code == 2
    assert "UNVERIFIED" in (tmp_path / "other.html").read_text()


def test_tasks_are_written_as_a_page_that_is_not_verified(run: Run, company: Path, tmp_path: Path) -> None:
    """The page of show has the calls that the filters select, and says that nothing is verified."""
    page = tmp_path / "page.html"
    done = run("show", company, "--agent", "helper", "--html", page)
    assert (done.code, done.out) == (0, f"{digest(page)}  {page}\n")
    text = page.read_text()
    assert "UNVERIFIED" in text
    assert f"agent-identity show {company} --agent helper" in text
    assert "4 calls, 2 refused" in text
    assert "that the filters leave out" in text
    assert json.loads(run("show", company, "--agent", "helper", "--json").out)["left_out"]["calls"] == 6


@pytest.mark.parametrize("words", [("report", "inventory"), ("show",)], ids=lambda words: words[0])
def test_a_file_is_never_replaced(run: Run, company: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """What is there stays as it is."""
    page = tmp_path / "page.html"
    page.write_text("mine")
    done = run(*words, company, "--html", page)
    assert done.code == 2
    assert "never replaced" in done.err
    assert page.read_text() == "mine"


def test_all_reports_make_a_folder(run: Run, company: Path, tmp_path: Path) -> None:
    """Each page, an index that names their digests, and a list of all of them, which is printed."""
    folder = tmp_path / "reports"
    done = run("report", "all", company, "--trust", company / "trust.json", "--html", folder)
    assert done.code == 0
    assert {path.name for path in folder.iterdir()} == {*FILES, "SHA256SUMS"}
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    sums = {line[66:]: line[:64] for line in lines}
    assert sums == {name: digest(folder / name) for name in FILES}
    assert (folder / "SHA256SUMS").read_text() in done.out
    index = (folder / "index.html").read_text()
    assert all(name in index and sums[name] in index for name in FILES - {"index.html"})
    again = run("report", "all", company, "--html", folder)
    assert (again.code, "never replaced" in again.err) == (2, True)


def test_the_same_time_makes_the_same_folder(
    run: Run, company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SOURCE_DATE_EPOCH two runs write the same bytes; a wrong value is an error."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1764000000")
    for name in ("one", "two"):
        assert run("report", "all", company, "--html", tmp_path / name).code == 0
    assert (tmp_path / "one" / "SHA256SUMS").read_bytes() == (tmp_path / "two" / "SHA256SUMS").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    assert run("report", "coverage", company, "--html", tmp_path / "three").code == 2
    assert not (tmp_path / "three").exists()


def test_the_folder_has_the_worst_exit_code(run: Run, company: Path, tmp_path: Path) -> None:
    """Without verification the folder says so on every page, and the exit code is 2."""
    folder = tmp_path / "reports"
    assert run("report", "all", company, "--unverified", "--html", folder).code == 2
    assert all("UNVERIFIED" in (folder / name).read_text() for name in FILES)


def test_all_reports_share_one_pass_over_standard_input(program: Run, tmp_path: Path) -> None:
    """What can be read only once is enough for every report: traces on standard input."""
    file = traces(
        tmp_path / "traces.json", [span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"})]
    )
    folder = tmp_path / "reports"
    assert program("report", "all", "-", "--html", folder, stdin=file.read_bytes()).code == 2
    assert {path.name for path in folder.iterdir()} == {*FILES, "SHA256SUMS"}
    assert all("pay" in (folder / f"{name}.html").read_text() for name in ("inventory", "coverage"))


def test_each_page_states_the_command_that_makes_it_alone(run: Run, company: Path, tmp_path: Path) -> None:
    """A page of the folder names the command of its report, with the options that this report takes."""
    folder = tmp_path / "reports"
    assert run("report", "all", company, "--since", "2025-11-25", "--html", folder).code == 0
    for name, more in (("inventory", " --since 2025-11-25"), ("incident everything", ""), ("coverage", "")):
        page = (folder / f"{name.partition(' ')[0]}.html").read_text()
        assert f"agent-identity report {name} {company}{more}<" in page
