"""Answers under attack: examinations that would change evidence, odd examiners, forms that are easily forgotten."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import ALICE, CLERK, work

from agent_identity import Agent, Enforcer, Scope
from agent_identity._reports.answers import incident_collecting
from agent_identity.audit import export_tables, query_tables
from agent_identity.cli.answer import inventory
from agent_identity.constraints import Range
from agent_identity.options import Telemetry


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a small company."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory)
    return directory


@pytest.fixture
def mine(run: Callable[..., Any], tmp_path: Path) -> Path:
    """Return the directory of an examiner."""
    assert run("init", tmp_path / "mine").code == 0
    return tmp_path / "mine"


def _files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("part", ["", "ledger", "ledger/..", "link", "link/ledger"])
def test_an_examination_is_not_written_into_its_evidence_by_another_name(
    run: Callable[..., Any], company: Path, tmp_path: Path, part: str
) -> None:
    """A part of the evidence, and a link to it, name the same evidence."""
    source = company / part
    if part.startswith("link"):
        (tmp_path / "link").symlink_to(company)
        source = tmp_path / part
    before = _files(company)
    done = run("report", "coverage", source, "--record-examination", company)
    assert (done.code, done.out, _files(company)) == (2, "", before)


@pytest.mark.parametrize("by", ["", " ", "\x1b[31mred", "\u202eexe", "a\nb", "a" * 5_000, "\udcff"])
def test_an_examiner_that_no_record_can_name_is_refused_before_the_answer(
    run: Callable[..., Any], company: Path, mine: Path, by: str
) -> None:
    """The answer is not shown as if it were recorded, and there is no defect."""
    before = _files(mine)
    done = run("report", "coverage", company, "--record-examination", mine, f"--by={by}")
    assert (done.code, done.out, _files(mine)) == (2, "", before)
    assert "--by" in done.err


@pytest.mark.parametrize("words", [("controls", "--oscal"), ("inventory", "--cyclonedx")], ids=lambda words: words[0])
def test_every_form_of_an_answer_is_recorded(
    run: Callable[..., Any], company: Path, mine: Path, words: tuple[str, ...]
) -> None:
    """A document of another standard is an answer as well."""
    done = run("report", *words, company, "--record-examination", mine)
    assert done.code == 0
    assert b'"kind":"examination"' in b"".join(_files(mine / "ledger").values())
    assert "recorded" in done.err


def test_a_document_without_rows_is_refused(run: Callable[..., Any], company: Path) -> None:
    """OSCAL knows no results about nothing."""
    done = run("report", "controls", company, "--framework", "dora", "--oscal")
    assert (done.code, done.out) == (2, "")


def _scan(path: Path, number: int) -> Path:
    items = [
        {"kind": "tool", "name": f"t{place}", "status": "declared", "file": "f", "line": 1, "source": "s"}
        for place in range(number)
    ]
    path.write_text(json.dumps({"files_read": 1, "items": items}))
    return path


def test_declarations_without_room_are_not_dropped_in_silence(
    run: Callable[..., Any], company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inventory with a part of the declarations would look like one with all."""
    monkeypatch.setattr(inventory, "_MAX_HINTS", 2)
    assert run("report", "inventory", company, "--scan", _scan(tmp_path / "two.json", 2)).code == 0
    done = run("report", "inventory", company, "--scan", _scan(tmp_path / "three.json", 3))
    assert (done.code, done.out) == (2, "")


def test_a_scan_that_cannot_be_read_is_refused(run: Callable[..., Any], company: Path, tmp_path: Path) -> None:
    """A broken file is not taken for code that declares nothing."""
    path = _scan(tmp_path / "scan.json", 1)
    path.write_text(path.read_text()[:-1])
    done = run("report", "inventory", company, "--scan", path)
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",), ("--cyclonedx",), ("--html", "page.html")])
def test_hostile_names_of_a_scan_are_inert(
    run: Callable[..., Any], company: Path, tmp_path: Path, form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lone surrogates, control characters, reordered text, markup and formulas neither break nor steer an answer."""
    monkeypatch.chdir(tmp_path)
    path = _scan(tmp_path / "scan.json", 1)
    name = "\ud800\u202e\u0000\u001b[31m<script>alert(1)</script>"
    items = json.loads(path.read_text())["items"]
    named = [{**items[0], "name": name}, {**items[0], "name": "\uff1d1+1", "file": name, "source": {name: 1}}]
    path.write_text(json.dumps({"files_read": 1, "items": named}))
    done = run("report", "inventory", company, "--scan", path, *form)
    assert done.code == 0
    shown = (tmp_path / "page.html").read_text() if form[:1] == ("--html",) else done.out
    assert not {"\ud800", "\u202e", "\u0000", "\u001b"} & set(shown)
    assert form[:1] != ("--html",) or "<script>alert" not in shown
    assert form != ("--csv",) or ",\uff1d" not in shown


def test_limits_of_any_size_are_reported(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant may bound an amount beyond 64 bits; no report breaks on it, or changes it."""
    monkeypatch.setattr(incident_collecting, "_NEAR", 1)
    most, directory = 10**22, tmp_path / "evidence"
    with Enforcer.open(directory, telemetry=Telemetry(sealing="inline")) as enforcer:
        send = enforcer.tool(name="send")(lambda amount: amount)
        for _ in range(3):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("send", amount=Range(max=most))):
                send(amount=1)
    for report in (("scope",), ("incident", "everything"), ("controls",), ("inventory",)):
        done = run("report", *report, directory, "--json")
        assert done.code == 0, done.err
        assert report[0] not in ("scope", "incident") or str(most) in done.out
    assert run("report", "incident", "everything", directory).code == 0
    export_tables(directory, tmp_path / "tables")
    (row,) = query_tables(tmp_path / "tables", 'SELECT DISTINCT "constraint" AS said FROM grants')
    assert str(most) in str(row["said"])


def test_three_ceilings_stand_side_by_side(run: Callable[..., Any], tmp_path: Path) -> None:
    """The table has root grants and delegations apart, and says what the registration permits."""
    directory = tmp_path / "evidence"
    with Enforcer.open(directory, telemetry=Telemetry(sealing="inline")) as enforcer:
        for _ in range(2):
            with (
                enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("send")),
                enforcer.delegate(Agent("helper", owner="it@example.com"), scope=Scope("send")),
            ):
                pass
    done = run("report", "scope", directory)
    rows = [line.split()[:5] for line in done.out.splitlines()]
    assert ["AGENT", "TOOL", "MAXIMUM", "ROOT", "DELEGATED"] in rows
    assert [CLERK.id, "send", "-", "2", "0"] in rows
    assert ["helper", "send", "-", "0", "2"] in rows
