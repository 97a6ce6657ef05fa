"""OSCAL assessment results: only what is shown is satisfied, and the document is valid for the models of others."""

import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from small_company import work

from agent_identity._reports.controls.controls_report import ControlsReport
from agent_identity._reports.controls.oscal_document import oscal
from agent_identity.answers import Evidence, controls

MODELS = importlib.util.find_spec("trestle") is not None or os.environ.get("AGENT_IDENTITY_OSCAL") == "1"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> ControlsReport:
    """Return the report on a small company."""
    folder = tmp_path_factory.mktemp("company")
    with pytest.MonkeyPatch.context() as patch:  # Service and host, which AU-3 needs.
        patch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,host.name=one")
        work(folder / "evidence", tasks=2)
    shutil.copy(folder / "evidence" / "trust.json", folder / "kept.json")
    kept = folder / "kept.json"
    return controls(Evidence(sources=folder / "evidence", trust=kept, command="agent-identity x\ny"))


def results(report: ControlsReport) -> dict[str, Any]:
    """Return the results of the document."""
    document: Any = oscal(report)
    (found,) = document["assessment-results"]["results"]
    return found


def test_only_what_is_shown_is_satisfied(report: ControlsReport) -> None:
    """A row that is shown is a finding; any other one is an observation without a finding."""
    found = results(report)
    shown = {target for one in report.rows if one.status == "shown" for target in one.row.targets}
    assert shown
    targets = {finding["target"]["target-id"]: finding["target"]["status"] for finding in found["findings"]}
    assert targets == {target: {"state": "satisfied", "reason": "pass"} for target in shown}
    rows = [one for one in report.rows if one.row.targets]
    assert len(found["observations"]) == len(rows)
    statuses = [prop["value"] for one in found["observations"] for prop in one["props"] if prop["name"] == "status"]
    assert statuses == [one.status for one in rows]


def test_a_failed_verification_satisfies_nothing(tmp_path: Path) -> None:
    """Every objective is not satisfied, for another reason than a failed test."""
    work(tmp_path / "evidence")
    (lines,) = (tmp_path / "evidence").glob("ledger/*/entries.jsonl")
    lines.write_bytes(lines.read_bytes().replace(b'"pay"', b'"buy"'))
    report = controls(Evidence(sources=tmp_path / "evidence"))
    states = [finding["target"]["status"] for finding in results(report)["findings"]]
    assert states
    assert all(state == {"state": "not-satisfied", "reason": "other"} for state in states)


def test_observations_name_records(report: ControlsReport) -> None:
    """An observation names the records that it rests on; findings refer to observations that are there."""
    found = results(report)
    named = {
        prop["value"]
        for one in found["observations"]
        for relevant in one.get("relevant-evidence", ())
        for prop in relevant["props"]
        if prop["name"] == "record"
    }
    assert named == {
        record
        for one in report.rows
        if one.row.targets
        for part in one.evidence
        if part.count
        for record in part.records
    }
    uuids = {one["uuid"] for one in found["observations"]}
    assert {
        one["observation-uuid"] for finding in found["findings"] for one in finding["related-observations"]
    } <= uuids


def test_the_same_report_makes_the_same_document(report: ControlsReport) -> None:
    """Ids follow from the content."""
    assert oscal(report) == oscal(report)


@pytest.mark.skipif(not MODELS, reason="compliance-trestle is not installed: the session oscal has it")
def test_the_document_is_valid(report: ControlsReport) -> None:
    """The models of compliance-trestle read it back, also where nothing was verified."""
    models = importlib.import_module("trestle.oscal.assessment_results")
    unverified = controls(Evidence(sources=report.frame.sources[0].place, unverified=True))
    for one in (report, unverified):
        (found,) = models.Model(**oscal(one)).assessment_results.results
        assert len(found.observations) == sum(bool(row.row.targets) for row in one.rows)
