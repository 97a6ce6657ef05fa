"""Exports of an incident: what Timesketch requires, the classes of OCSF, and names that stay inert."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocsf_schema import ocsf_errors
from small_company import work

from agent_identity._common.printing import inert
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.incident_exports.incident_events import ocsf_incident, timesketch_events
from agent_identity.answers import Evidence, Seed, incident
from agent_identity.cli import main
from agent_identity.cli.company.month import write_month

SCHEMAS = Path(__file__).resolve().parents[3] / "schemas"
MADE = 1_800_000_000_123_456_789
HOSTILE = '=cmd|"/c calc"!A1\x1b[31m\u202e<script>'
PAGE = "task:AaE0tGUAcACAAAAAAAABlQ"
"""The task of the demo in which a page gives orders."""


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the demo."""
    directory = tmp_path_factory.mktemp("month") / "evidence"
    write_month(directory)
    return directory


def asked(seed: str, directory: Path, **options: Any) -> IncidentReport:
    """Ask about an incident."""
    return incident(Evidence(sources=directory, **options), Seed.parse(seed))


@pytest.mark.parametrize("seed", [PAGE, "everything", "agent:nobody"])
def test_each_line_has_what_timesketch_requires(month: Path, seed: str) -> None:
    """Message, a time of ISO 8601, and what the time is; microseconds say the same; one line says what is missing."""
    found = asked(seed, month)
    events = list(timesketch_events(found, made_ns=MADE))
    assert len(events) == len(found.timeline) + 1
    for event, at in zip(events, [*(entry.at_ns for entry in found.timeline), MADE], strict=True):
        assert event["message"]
        assert event["timestamp_desc"]
        assert event["timestamp"] == at // 1_000
        then = datetime.fromisoformat(str(event["datetime"]))
        assert round(then.timestamp() * 1_000_000) == at // 1_000
        assert event["verdict"] == "verified"
        assert all(type(value) in (str, int) for value in event.values())
    assert "self-asserted" in str(events[-1]["sources"])
    assert "not" in str(events[-1]["not_shown"]) or "content" in str(events[-1]["not_shown"])


def test_the_events_of_the_injected_page_are_told_in_order(month: Path) -> None:
    """The refused payment names agent, principal, reason and record."""
    refused = next(
        event for event in timesketch_events(asked(PAGE, month), made_ns=MADE) if event.get("what") == "pay_invoice"
    )
    assert refused == {
        "message": "call pay_invoice by researcher for carol@example.com: denied (tool_not_granted)",
        "datetime": "2026-10-13T10:00:04.500000+00:00",
        "timestamp": 1_791_885_604_500_000,
        "timestamp_desc": "Call Begun",
        "data_type": "agent_identity:incident:call",
        "seed": PAGE,
        "verdict": "verified",
        "proof": "proved",
        "record": "AaE0tHaUcACAAAAAAAABnw",
        "task": "AaE0tGUAcACAAAAAAAABlQ",
        "principal": "carol@example.com",
        "agent": "researcher",
        "chain": "researcher",
        "what": "pay_invoice",
        "outcome": "denied",
        "why": "tool_not_granted",
        "source": str(month),
        "stream": "AaEgGwOmcACAAAAAAAABQA",
    }


@pytest.mark.parametrize("seed", [PAGE, "everything", "agent:nobody"])
def test_each_ocsf_event_fits_its_class(month: Path, seed: str) -> None:
    """A Detection Finding, then an API Activity for each entry, against the published classes."""
    found = asked(seed, month)
    finding, *activities = ocsf_incident(found, made_ns=MADE)
    schemas = {name: json.loads((SCHEMAS / f"ocsf-{name}.json").read_bytes()) for name in ("1.9-finding", "1.9")}
    for event, name in [(finding, "1.9-finding"), *((event, "1.9") for event in activities)]:
        metadata: Any = event["metadata"]
        schema = {**schemas[name], "profiles": metadata["profiles"]}
        assert ocsf_errors(event, schema, schema["class"]) == []
        assert metadata["version"] == "1.9.0"
        assert str(event["type_uid"]).startswith(str(event["class_uid"]))
    assert [event["time"] for event in activities] == [entry.at_ns // 1_000_000 for entry in found.timeline]
    assert [event["metadata"]["uid"] for event in activities] == [entry.record for entry in found.timeline]  # type: ignore[index, call-overload]


def test_the_check_of_the_finding_can_fail(month: Path) -> None:
    """A finding without its object, or with a member of no class, does not fit."""
    finding = next(ocsf_incident(asked(PAGE, month), made_ns=MADE))
    schema = {**json.loads((SCHEMAS / "ocsf-1.9-finding.json").read_bytes()), "profiles": ["incident"]}
    assert ocsf_errors({**finding, "finding_info": {}}, schema, schema["class"]) == ["$.finding_info.uid: required"]
    assert ocsf_errors({**finding, "more": 1}, schema, schema["class"])


def test_a_finding_has_the_same_name_whenever_it_is_made(month: Path) -> None:
    """The same question over the same records gives the same uid; another question gives another."""
    one, again = (next(ocsf_incident(asked(PAGE, month), made_ns=made)) for made in (MADE, MADE + 10**9))
    assert {**one, "time": 0} == {**again, "time": 0}
    other = next(ocsf_incident(asked("agent:clerk", month), made_ns=MADE))
    assert other["finding_info"] != one["finding_info"]


def test_without_verification_each_event_says_so(month: Path) -> None:
    """Nobody can take an export without verification for one with."""
    found = asked(PAGE, month, unverified=True)
    for event in timesketch_events(found, made_ns=MADE):
        assert (event["verdict"], event["proof"]) == ("unverified", "recorded")
    for event in ocsf_incident(found, made_ns=MADE):
        unmapped: Any = event["unmapped"]
        assert (unmapped["verdict"], unmapped["proof"]) == ("unverified", "recorded")


def hostile(found: IncidentReport) -> IncidentReport:
    """Return a report over evidence in which everything that has a name has a hostile one."""
    named = {"task": HOSTILE, "principal": HOSTILE, "what": HOSTILE, "outcome": "denied", "why": "@SUM(A1)"}
    entries = tuple(replace(entry, **named, agents=(HOSTILE, "-1")) for entry in found.timeline)
    frame = replace(found.frame, command=HOSTILE, not_shown=(HOSTILE,))
    return replace(found, frame=frame, seed=Seed("agent", HOSTILE), timeline=entries)


def ran(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Run a command, and return its exit code and its output."""
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("export", [timesketch_events, ocsf_incident], ids=["timesketch", "ocsf"])
def test_hostile_names_stay_inert(month: Path, export: Any) -> None:
    """No control character, no character that reorders text, and no text that begins a formula."""
    values = texts(list(export(hostile(asked(PAGE, month)), made_ns=MADE)))
    assert sum("calc" in value for value in values) > len(asked(PAGE, month).timeline)
    assert not [value for value in values if value.startswith(("=", "+", "-", "@")) or not value.isprintable()]


def texts(value: object) -> list[str]:
    """Return all texts in a value of JSON."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for item in inner for one in texts(item)]


@given(st.text())
def test_inert_text_is_printable_and_no_formula(text: str) -> None:
    """Whatever evidence says; printable text that is no formula stays as it is."""
    found = inert(text)
    assert found.isprintable()
    assert not found.startswith(("=", "+", "-", "@"))
    assert found == text or not text.isprintable() or text.startswith(("=", "+", "-", "@"))


def test_an_export_has_the_exit_code_of_verify(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """0 for evidence that verifies, 2 without verification."""
    work(tmp_path / "e")
    for form in ("--timesketch", "--ocsf"):
        words = ("report", "incident", "agent:clerk", tmp_path / "e", form)
        assert ran(capsys, *words)[0] == 0
        assert ran(capsys, *words, "--unverified")[0] == 2
