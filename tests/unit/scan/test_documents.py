"""Manifests, environment files, agent cards and server descriptions."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity._scan.results import Item
from agent_identity._scan.scanner import scan

Write = Callable[[str, str], tuple[Item, ...]]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes one file, and scans its folder."""

    def run(name: str, text: str) -> tuple[Item, ...]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return scan([str(tmp_path)]).items

    return run


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("requirements.txt", "# x\nOpenAI_Agents[voice] >=0.9 ; x\nflask\n", ("openai-agents", ">=0.9")),
        ("requirements-dev.txt", "crewai==1.2.3\n", ("crewai", "==1.2.3")),
        ("pyproject.toml", '[project]\ndependencies = ["strands-agents>=1"]\n', ("strands-agents", ">=1")),
        ("pyproject.toml", '[project.optional-dependencies]\na = ["mcp<3"]\n', ("mcp", "<3")),
        ("pyproject.toml", '[dependency-groups]\na = ["mcp<3", {include-group = "b"}]\n', ("mcp", "<3")),
        ("pyproject.toml", '[tool.poetry.group.a.dependencies]\nmcp = {version = "^2"}\n', ("mcp", "^2")),
        ("uv.lock", '[[package]]\nname = "langgraph"\nversion = "1.0.1"\n', ("langgraph", "1.0.1")),
        ("Pipfile", '[packages]\nfastmcp = "*"\n', ("fastmcp", "*")),
        ("Pipfile.lock", '{"default": {"fastmcp": {"version": "==4.0"}}}', ("fastmcp", "==4.0")),
        ("package.json", '{"dependencies": {"@openai/agents": "^0.9.0"}}', ("@openai/agents", "^0.9.0")),
        ("package.json", '{"devDependencies": {"ai": "5"}}', ("ai", "5")),
        ("package-lock.json", '{"packages": {"node_modules/ai": {"version": "5.1.0"}}}', ("ai", "5.1.0")),
        ("yarn.lock", '"@openai/agents@^0.9.0":\n  version "0.9.1"\n', ("@openai/agents", "^0.9.0")),
        ("pnpm-lock.yaml", "packages:\n\n  ai@5.1.0:\n    resolution: {}\n", ("ai", "5.1.0")),
    ],
)
def test_known_packages_are_found(write: Write, name: str, text: str, expected: tuple[str, str]) -> None:
    """A framework is found in each kind of manifest and lock file, with the version as written."""
    (item,) = write(name, text)
    assert (item.kind, item.status, item.name, item.place) == ("dependency", "installed", *expected)


def test_names_of_variables_are_found_and_other_lines_are_not_read(write: Write) -> None:
    """Known variables are named, once, with their line; unknown ones and all values are left out."""
    items = write(
        ".env.local", "A=1\nexport OPENAI_API_KEY='sk-x'\nDATABASE_URL=x\nOPENAI_API_KEY=y\n# GROQ_API_KEY=z\n"
    )
    assert [(item.name, item.line, item.status) for item in items] == [("OPENAI_API_KEY", 2, "configured")]


CARD: dict[str, object] = {
    "name": "Travel agent",
    "description": "",
    "version": "1",
    "supportedInterfaces": [{"url": "https://agents.example.com/a2a?key=x", "protocolBinding": "JSONRPC"}],
    "skills": [{"id": "book", "name": "Book", "description": "", "tags": []}],
}


@pytest.mark.parametrize(
    "card", [CARD, {**{key: CARD[key] for key in ("name", "skills")}, "url": "https://agents.example.com/a2a"}]
)
def test_agent_cards_of_both_versions_are_found(write: Write, card: dict[str, object]) -> None:
    """A card of A2A 1.0 and one of 0.3 give the agent and its address without the query."""
    (item,) = write(".well-known/agent-card.json", json.dumps(card))
    assert (item.kind, item.name, item.source) == ("agent_card", "Travel agent", "A2A")
    assert item.place.startswith("https://agents.example.com/a2a")
    assert "key=x" not in item.place


def test_a_file_of_the_same_name_is_no_card(write: Write) -> None:
    """What has no skills and no address is not an agent card."""
    assert write("agent.json", '{"name": "x", "url": 7, "skills": []}') == ()


@pytest.mark.parametrize(
    ("parts", "place", "transport"),
    [
        (
            {"remotes": [{"type": "streamable-http", "url": "https://m.example.com/mcp"}]},
            "https://m.example.com/mcp",
            "http",
        ),
        (
            {"packages": [{"registryType": "npm", "identifier": "@a/b", "transport": {"type": "stdio"}}]},
            "@a/b",
            "stdio",
        ),
    ],
)
def test_server_descriptions_are_found(write: Write, parts: dict[str, object], place: str, transport: str) -> None:
    """The description of the MCP registry gives the server, and where it is or what runs it."""
    (item,) = write("server.json", json.dumps({"name": "com.example/x", "description": "", "version": "1", **parts}))
    assert (item.kind, item.name, item.place, item.transport) == ("mcp_server", "com.example/x", place, transport)


def test_only_servers_of_compose_files_are_found(write: Write) -> None:
    """Images of MCP servers count, other services do not."""
    images = {"db": "postgres:18", "files": "mcp/filesystem", "gw": "docker/mcp-gateway"}
    text = "services:\n" + "".join(f"  {name}:\n    image: {image}\n" for name, image in images.items())
    assert sorted(item.name for item in write("compose.yaml", text)) == ["files", "gw"]


def test_scripts_of_typescript_are_counted_only(tmp_path: Path) -> None:
    """TypeScript is not analyzed, and the result says how many files that concerns."""
    (tmp_path / "a.ts").write_text("import { Agent } from '@openai/agents'; new Agent({ name: 'x' })")
    (tmp_path / "package.json").write_text('{"dependencies": {"@openai/agents": "1"}}')
    found = scan([str(tmp_path)])
    assert ([item.kind for item in found.items], found.typescript_files) == (["dependency"], 1)


def test_without_the_extra_yaml_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML a YAML file is left out with its reason, and the rest is read."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "agents.yaml").write_text("a:\n  role: r\n  goal: g\n")
    (tmp_path / "requirements.txt").write_text("crewai\n")
    found = scan([str(tmp_path)])
    assert ([item.kind for item in found.items], [one.reason for one in found.unread]) == (
        ["dependency"],
        ["needs_extra_yaml"],
    )
