"""MCP servers in the configuration files of clients: every form is found, and no secret is shown."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import pytest

from agent_identity._scan.results import Item
from agent_identity._scan.scanner import scan

STDIO = {"command": "npx", "args": ["-y", "planted"], "env": {"PLANTED_KEY": "v4lue"}}
REMOTE = {"url": "https://mcp.example.com/mcp", "headers": {"Authorization": "Bearer v4lue"}}


SECRET_FLAGS = (
    *("--pw", "--pwd", "--pass", "--pin", "--user-pin", "--otp", "--session", "--session-id", "--sid"),
    *("--license", "--licence-file", "--dsn", "-k", "-P"),
)


def toml(name: str) -> str:
    """Return a configuration of Codex."""
    server = f'[mcp_servers.{name}]\ncommand = "npx"\nargs = ["-y", "planted"]\n'
    return f'{server}\n[mcp_servers.{name}.env]\nPLANTED_KEY = "v4lue"\n'


def continue_yaml(name: str) -> str:
    """Return a configuration of Continue."""
    server = f"  - name: {name}\n    command: npx\n    args: [-y, planted]\n    env:\n      PLANTED_KEY: v4lue\n"
    return f"name: x\nmcpServers:\n{server}"


def goose_yaml(name: str) -> str:
    """Return a configuration of Goose, with an extension that is no server."""
    return (
        "extensions:\n  developer:\n    type: builtin\n    enabled: true\n"
        f"  {name}:\n    type: stdio\n    cmd: npx\n    args: [-y, planted]\n    envs:\n      PLANTED_KEY: v4lue\n"
    )


def within(*keys: str, entry: Mapping[str, object] = STDIO) -> Callable[[str], str]:
    """Return a form that nests the server under keys."""

    def form(name: str) -> str:
        value: object = {name: entry}
        for key in reversed(keys):
            value = {key: value}
        return json.dumps(value)

    return form


def zed(name: str) -> str:
    """Return settings of Zed, in JSON with comments and trailing commas."""
    body = json.dumps({"command": {"path": "npx", "args": ["-y", "planted"], "env": {"PLANTED_KEY": "v4lue"}}})
    return f'// Zed settings "with quotes"\n{{\n  /* all */ "context_servers": {{\n    "{name}": {body},\n  }},\n}}\n'


FORMS: Mapping[str, tuple[str, str, Callable[[str], str]]] = {
    "one": ("Library/Application Support/Claude/claude_desktop_config.json", "Claude Desktop", within("mcpServers")),
    "two": (".claude.json", "Claude Code", within("projects", "/home/x", "mcpServers")),
    "three": (".mcp.json", "Claude Code", within("mcpServers", entry={"type": "http", **REMOTE})),
    "four": (".cursor/mcp.json", "Cursor", within("mcpServers", entry=REMOTE)),
    "five": (".vscode/mcp.json", "VS Code", within("servers")),
    "six": (".devcontainer/devcontainer.json", "VS Code", within("customizations", "vscode", "mcp", "servers")),
    "seven": (
        ".codeium/windsurf/mcp_config.json",
        "Windsurf",
        within("mcpServers", entry={"serverUrl": REMOTE["url"]}),
    ),
    "eight": (".zed/settings.json", "Zed", zed),
    "nine": (".gemini/settings.json", "Gemini CLI", within("mcpServers", entry={"httpUrl": REMOTE["url"]})),
    "ten": (".codex/config.toml", "Codex", toml),
    "eleven": ("globalStorage/saoudrizwan.claude-dev/settings/cline_mcp_settings.json", "Cline", within("mcpServers")),
    "twelve": (".continue/config.yaml", "Continue", continue_yaml),
    "thirteen": (".config/goose/config.yaml", "Goose", goose_yaml),
    "fourteen": (
        "opencode.json",
        "OpenCode",
        within(
            "mcp", entry={"type": "local", "command": ["npx", "-y", "planted"], "environment": {"PLANTED_KEY": "v4lue"}}
        ),
    ),
    "fifteen": (".docker/mcp/registry.yaml", "Docker MCP Toolkit", lambda name: f'registry:\n  {name}:\n    ref: ""\n'),
}
"""Fifteen servers, each in a form of its own."""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Return a folder with all forms."""
    for name, (path, _, form) in FORMS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(form(name), encoding="utf-8")
    return tmp_path


def found(folder: Path) -> dict[str, Item]:
    """Return the MCP servers in use by name."""
    return {item.name: item for item in scan([str(folder)]).items if item.kind == "mcp_client"}


def test_all_fifteen_forms_are_found(planted: Path) -> None:
    """Each planted server is found once, for its client, and nothing else is."""
    items = [item for item in scan([str(planted)]).items if item.kind == "mcp_client"]
    assert sorted((item.name, item.source) for item in items) == sorted(
        (name, client) for name, (_, client, _) in FORMS.items()
    )
    assert {item.status for item in items} == {"configured"}


def test_places_and_names_are_shown_and_values_are_not(planted: Path) -> None:
    """Commands, addresses and names of variables and headers are shown; no value of them is."""
    items = found(planted)
    assert {items[name].place for name in ("one", "five", "ten", "twelve", "thirteen", "fourteen", "eight")} == {
        "npx -y planted"
    }
    assert {items[name].place for name in ("three", "four", "seven", "nine")} == {"https://mcp.example.com/mcp"}
    for name in ("one", "two", "five", "six", "ten", "eleven", "twelve", "thirteen", "fourteen"):
        assert items[name].environment == ("PLANTED_KEY",)
    assert items["three"].headers == ("Authorization",)
    assert "v4lue" not in repr([asdict(item) for item in items.values()])


@pytest.mark.parametrize(
    ("path", "client", "keys"),
    [
        ("AppData/Roaming/Claude/claude_desktop_config.json", "Claude Desktop", ("mcpServers",)),
        ("etc/claude-code/managed-mcp.json", "Claude Code", ("mcpServers",)),
        (".claude/plugins/cache/a/b/.mcp.json", "Claude Code", ("mcpServers",)),
        (".config/Code/User/mcp.json", "VS Code", ("servers",)),
        (".config/Code/User/profiles/p1/mcp.json", "VS Code", ("servers",)),
        (".config/Code/User/settings.json", "VS Code", ("mcp", "servers")),
        (".vscode/settings.json", "VS Code", ("mcp.servers",)),
        (".copilot/mcp-config.json", "Copilot CLI", ("mcpServers",)),
        (".config/zed/settings.json", "Zed", ("context_servers",)),
        (".gemini/antigravity/mcp_config.json", "Antigravity", ("mcpServers",)),
        (".roo/mcp.json", "Roo", ("mcpServers",)),
        (".continue/mcpServers/a.json", "Continue", ("mcpServers",)),
        ("JetBrains/PyCharm2026.1/mcp.json", "JetBrains AI", ("mcpServers",)),
        (".junie/mcp/mcp.json", "Junie", ("mcpServers",)),
        (".config/opencode/opencode.jsonc", "OpenCode", ("mcp",)),
        (".kiro/settings/mcp.json", "Kiro", ("mcpServers",)),
        (".kiro/agents/a.json", "Kiro", ("mcpServers",)),
        (".aws/amazonq/agents/a.json", "Amazon Q", ("mcpServers",)),
        (".trae/mcp.json", "Trae", ("mcpServers",)),
        ("somewhere/mcp.json", "unknown client", ("mcpServers",)),
    ],
)
def test_every_place_belongs_to_its_client(tmp_path: Path, path: str, client: str, keys: tuple[str, ...]) -> None:
    """Each known path is read for its client, with the keys of that client."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(within(*keys)("x"))
    assert found(tmp_path)["x"].source == client


def test_a_server_that_is_switched_off_says_so(tmp_path: Path) -> None:
    """Servers with ``disabled`` or without ``enabled`` are reported as off."""
    servers = {"a": {**STDIO, "disabled": True}, "b": {**STDIO, "enabled": False}, "c": STDIO}
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))
    assert {name: item.enabled for name, item in found(tmp_path).items()} == {"a": False, "b": False, "c": True}


@pytest.mark.parametrize(
    ("arguments", "secret"),
    [
        (["--api-key", "hunter2hunter2"], "hunter2"),
        (["--token=hunter2"], "hunter2"),
        *((["x", flag, "hunter2"], "hunter2") for flag in SECRET_FLAGS),
        *(([f"{flag}=hunter2"], "hunter2") for flag in SECRET_FLAGS if flag.startswith("--")),
        (["-e", "PASSWORD=hunter2"], "hunter2"),
        (["-e", "PLAIN=hunter2"], "hunter2"),
        (["--header", "X-Thing: hunter2"], "hunter2"),
        (["Authorization: Bearer hunter2"], "hunter2"),
        (["postgres://user:hunter2@db.example.com/x"], "hunter2"),
        (["https://example.com/mcp?key=hunter2"], "hunter2"),
        (["ghp_0123456789abcdefghijABCDEFGHIJ012345"], "0123456789"),
        (["sk-proj-abcdefgh12345678"], "abcdefgh12345678"),
        (["4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c"], "4f9a8b7c"),
        (["Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA=="], "Zm9vYmFy"),
        (["-c", "export API_KEY=hunter2 && node server.js"], "hunter2"),
        (["-H", "Authorization:", "Bearer", "hunter2"], "hunter2"),
        (["--header", "Authorization: Bearer hunter2"], "hunter2"),
        (['--config={"a":"b","apiKey":"hunter2"}'], "hunter2"),
        (['{"a":"b","apiKey":"hunter2"}'], "hunter2"),
        (["--env=NAME=hunter2"], "hunter2"),
        (["3b241101-e2bb-4255-8caf-4136c566a962"], "4136c566"),
    ],
)
def test_secret_arguments_are_masked(tmp_path: Path, arguments: list[str], secret: str) -> None:
    """What may be a credential in a command is masked; the package stays."""
    (tmp_path / ".mcp.json").write_text(
        json.dumps({"mcpServers": {"x": {"command": "npx", "args": ["@modelcontextprotocol/server-x", *arguments]}}})
    )
    (item,) = found(tmp_path).values()
    assert secret not in repr(asdict(item))
    assert item.place.startswith("npx @modelcontextprotocol/server-x")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.com/mcp",
        "https://example.com/mcp?token=hunter2",
        "https://example.com/mcp#hunter2",
        "https://example.com/s/sk-hunter2hunter2/mcp",
    ],
)
def test_addresses_keep_no_credentials(tmp_path: Path, url: str) -> None:
    """Userinfo, query, fragment and segments that look like tokens are left out of an address."""
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"x": {"url": url}}}))
    (item,) = found(tmp_path).values()
    assert "hunter2" not in repr(asdict(item))
    assert item.place.startswith("https://example.com/")


def test_lists_of_addresses_are_no_servers(tmp_path: Path) -> None:
    """The servers of an OpenAPI document in a file with such a name are not MCP servers."""
    (tmp_path / "mcp-api.json").write_text(
        json.dumps({"openapi": "3.1.0", "servers": [{"url": "https://api.example.com"}]})
    )
    assert found(tmp_path) == {}


def test_overlapping_paths_count_once(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder and a folder inside it, in any spelling, give each server once."""
    monkeypatch.chdir(planted)
    assert scan([".", "./.cursor", ".cursor/"]).items == scan(["."]).items


def test_plain_flags_keep_their_values(tmp_path: Path) -> None:
    """Words that only contain one of those names are no secrets."""
    words = ["--ping", "10", "--spindle", "up", "--compass", "north", "--aside", "left"]
    (tmp_path / ".mcp.json").write_text(json.dumps({"mcpServers": {"x": {"command": "npx", "args": words}}}))
    (item,) = found(tmp_path).values()
    assert item.place == f"npx {' '.join(words)}"


def test_servers_of_projects_stand_beside_those_of_the_user(tmp_path: Path) -> None:
    """One file of a client has servers of the user and of projects, and two projects may use one name."""
    projects = {f"/home/{name}": {"mcpServers": {"files": {"command": f"{name}-mcp"}}} for name in ("one", "two")}
    document = {"mcpServers": {"mail": {"command": "mail-mcp"}}, "projects": projects}
    (tmp_path / ".claude.json").write_text(json.dumps(document))
    items = [(item.name, item.place) for item in scan([str(tmp_path)]).items if item.kind == "mcp_client"]
    assert sorted(items) == [("files", "one-mcp"), ("files", "two-mcp"), ("mail", "mail-mcp")]
