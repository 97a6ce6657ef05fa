"""The forms of a scan: JSON, SARIF and CycloneDX say the same as the result."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest

from agent_identity._scan.forms import cyclonedx_of, json_of, sarif_of
from agent_identity._scan.results import Scan
from agent_identity._scan.scanner import scan

SARIF: Final = Path(__file__).resolve().parents[2] / "schemas" / "sarif-2.1.0.json"
CODE = """\
from agents import Agent, function_tool
from agents.mcp import MCPServerStreamableHttp

@function_tool
def pay(x: int): ...

clerk = Agent(name="clerk", model="gpt-x", tools=[pay])
boss = Agent(name="boss", handoffs=[clerk])
docs = MCPServerStreamableHttp(name="docs", params={"url": "https://m.example.com/mcp"})
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scan:
    """Return a scan of one program and its requirements."""
    (tmp_path / "my app.py").write_text(CODE)
    (tmp_path / "requirements.txt").write_text("openai-agents==0.9.1\n")
    monkeypatch.chdir(tmp_path)
    return scan(["."])


def test_json_has_every_item(found: Scan) -> None:
    """Each item is an object with the fields of the type, and survives a round trip."""
    form = json.loads(json.dumps(json_of(found)))
    assert [(item["kind"], item["name"], item["file"], item["line"]) for item in form["items"]] == [
        (item.kind, item.name, item.file, item.line) for item in found.items
    ]
    assert {item["file"] for item in form["items"]} == {"my app.py", "requirements.txt"}
    assert (form["files_read"], form["truncated"]) == (2, False)


def test_sarif_names_lines_and_warns_of_unguarded_tools(found: Scan) -> None:
    """Agents and MCP ends are notes, a tool without a guard is a warning; places are relative, encoded URIs."""
    (run,) = json.loads(json.dumps(sarif_of(found)))["runs"]
    results: list[dict[str, Any]] = run["results"]
    assert {(one["ruleId"].partition("/")[2], one["level"]) for one in results} == {
        ("agent", "note"),
        ("mcp_client", "note"),
        ("unguarded", "warning"),
    }
    assert {one["ruleId"] for one in results} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    place = next(one for one in results if one["level"] == "warning")["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("my%20app.py", 5)


def test_sarif_is_valid_for_its_schema(found: Scan, tmp_path: Path) -> None:
    """The published schema accepts a scan of a program, one of hostile and unreadable files, and an empty one."""
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a\n<b>.py").write_text('from agents import Agent\nAgent(name="\\x1b[31m<script>")\n')
    (tmp_path / "bad" / "torn.py").write_text("def (")
    (tmp_path / "bad" / "latin.py").write_bytes(b"x = '\xe4'")
    (tmp_path / "empty").mkdir()
    bad = scan(["bad"])
    assert bad.unread
    assert bad.items
    validator = jsonschema.Draft7Validator(json.loads(SARIF.read_text("utf-8")))
    for one in (found, bad, scan(["empty"])):
        validator.validate(json.loads(json.dumps(sarif_of(one))))


def test_cyclonedx_has_components_services_and_dependencies(found: Scan) -> None:
    """Parts have types, evidence with places and techniques, and the edges between them."""
    bom = json.loads(json.dumps(cyclonedx_of(found)))
    parts = {part["name"]: part for part in bom["components"]}
    assert {name: part["type"] for name, part in parts.items()} == {
        "clerk": "application",
        "boss": "application",
        "pay": "application",
        "gpt-x": "machine-learning-model",
        "openai-agents": "library",
    }
    assert parts["clerk"]["evidence"]["occurrences"] == [{"location": "my app.py", "line": 7}]
    assert parts["clerk"]["evidence"]["identity"][0]["methods"][0]["technique"] == "source-code-analysis"
    assert parts["openai-agents"]["purl"] == "pkg:pypi/openai-agents@0.9.1"
    (service,) = bom["services"]
    assert service["endpoints"] == ["https://m.example.com/mcp"]
    edges = {one["ref"]: one["dependsOn"] for one in bom["dependencies"]}
    references = {name: part["bom-ref"] for name, part in parts.items()}
    assert edges == {references["clerk"]: [references["pay"]], references["boss"]: [references["clerk"]]}
    assert bom["compositions"][0]["aggregate"] == "incomplete"


def test_the_same_scan_gives_the_same_bytes(found: Scan) -> None:
    """The bill of materials has no time and no random number; another scan has another serial number."""
    assert cyclonedx_of(found) == cyclonedx_of(scan(["."]))
    assert cyclonedx_of(found)["serialNumber"] != cyclonedx_of(scan(["requirements.txt"]))["serialNumber"]


def test_references_are_unique(tmp_path: Path) -> None:
    """Agents of one name are one component with several places; unnamed ones stay apart."""
    (tmp_path / "app.py").write_text(
        "from agents import Agent\nx = [Agent(name='a'), Agent(name='a')]\nf(Agent(name=g()))\nf(Agent(name=g()))\n"
    )
    bom: Any = cyclonedx_of(scan([str(tmp_path)]))
    references = [part["bom-ref"] for part in bom["components"]]
    assert len(references) == len(set(references)) == 3
