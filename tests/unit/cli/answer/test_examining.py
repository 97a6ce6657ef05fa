"""Examinations: with a flag, who asked what and the digest of the answer are recorded; without, nothing is written."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from small_company import work

from agent_identity._identity.common.encoding import digest_of
from agent_identity._ledger.reader import open_ledger

Run = Callable[..., Any]

REPORTS = (("inventory",), ("scope",), ("incident", "agent:clerk"), ("coverage",), ("data",))
FORMS = ((), ("--json",), ("--csv",), ("--html",))


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory)
    return directory


@pytest.fixture
def mine(run: Run, tmp_path: Path) -> Path:
    """Return the directory of an examiner."""
    assert run("init", tmp_path / "mine").code == 0
    return tmp_path / "mine"


def files(directory: Path) -> Mapping[Path, bytes]:
    """Return the files of a directory."""
    return {path: path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


def examinations(directory: Path) -> list[Mapping[str, Any]]:
    """Return the examinations that a ledger holds."""
    reader = open_ledger(directory)
    records = [orjson.loads(line.record or b"{}") for stream in reader.streams() for line in reader.entries(stream)]
    return [record["examination"] for record in records if record.get("kind") == "examination"]


@pytest.mark.parametrize("report", REPORTS, ids=lambda words: words[0])
@pytest.mark.parametrize("form", FORMS, ids=lambda words: "".join(words).strip("-") or "text")
def test_the_digest_of_the_answer_is_recorded(
    run: Run, company: Path, mine: Path, tmp_path: Path, report: tuple[str, ...], form: tuple[str, ...]
) -> None:
    """It is that of what was printed, or of the page; the evidence stays as it is, and the record verifies."""
    before = files(company)
    words = (*form, tmp_path / "page.html") if form == ("--html",) else form
    done = run("report", *report, company, *words, "--record-examination", mine, "--by", "auditor@example.com")
    assert (done.code, files(company)) == (0, before)
    (found,) = examinations(mine)
    answer = (tmp_path / "page.html").read_bytes() if form == ("--html",) else done.out.encode()
    assert found["digest"] == digest_of(answer)
    note = (company / "log" / "checkpoint").read_bytes()
    sources = digest_of(hashlib.sha256(note).digest())
    assert found["question"] == f"report {' '.join(report)} over {sources}"
    assert found["size"] == note.split(b"\n")[1].decode()
    assert found["by"] == "auditor@example.com"
    verified = run("verify", mine, "--json")
    assert verified.code == 0


def test_without_the_flag_nothing_is_written(run: Run, company: Path, mine: Path) -> None:
    """Neither into the evidence nor elsewhere."""
    before = files(company), files(mine)
    assert run("report", "incident", "agent:clerk", company).code == 0
    assert (files(company), files(mine)) == before


def test_a_question_can_be_recorded_and_a_second_one_after_it(run: Run, company: Path, mine: Path) -> None:
    """Each command writes one record; the default examiner is the login name."""
    for question in ("8", "19"):
        assert run("ask", question, company, "--record-examination", mine).code == 0
    assert sorted(one["question"].split()[1] for one in examinations(mine)) == ["coverage", "scope"]
    assert all(one["by"] for one in examinations(mine))
    assert run("verify", mine).code == 0


def test_a_contradicted_answer_is_recorded_as_well(run: Run, company: Path, mine: Path) -> None:
    """An examination without verification has the exit code of the report, and is no less on record."""
    done = run("report", "coverage", company, "--unverified", "--record-examination", mine)
    assert done.code == 2
    assert len(examinations(mine)) == 1


def test_an_examination_never_changes_what_is_examined(run: Run, company: Path, tmp_path: Path, mine: Path) -> None:
    """The evidence itself, a directory without keys, standard input and a lone --by are refused before any reading."""
    before = files(company)
    refused = (
        (company, "--record-examination", company),
        (mine.parent, "--record-examination", mine),
        (company, "--record-examination", tmp_path / "nothing"),
        ("-", "--record-examination", mine),
        (company, "--by", "auditor@example.com"),
    )
    for words in refused:
        done = run("report", "coverage", *words)
        assert (done.code, done.out) == (2, ""), words
    assert files(company) == before
    assert examinations(mine) == []
    assert not (tmp_path / "nothing").exists()


def test_files_of_spans_have_a_digest_too(run: Run, mine: Path, tmp_path: Path) -> None:
    """The digest of the sources is over the bytes of the file, and no log has entries."""
    (tmp_path / "spans.json").write_text("{}\n")
    run("report", "coverage", tmp_path / "spans.json", "--record-examination", mine)
    (found,) = examinations(mine)
    sources = digest_of(hashlib.sha256(b"{}\n").digest())
    assert (found["question"], found["size"]) == (f"report coverage over {sources}", "0")
