"""SARIF 2.1.0, which code hosts show beside the lines."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from agent_identity._scan.results import Item, Scan
from agent_identity.version import VERSION

_RULES: Final[Mapping[str, str]] = {
    "agent": "Agent declared",
    "orchestrator": "Orchestrator of agents declared",
    "tool": "Tool declared",
    "mcp_client": "MCP server in use",
    "mcp_server": "MCP server offered",
    "agent_card": "Agent card published",
    "unguarded": "Tool declared without a guard in the scanned code",
}


def sarif_of(found: Scan) -> dict[str, object]:
    """Return a scan in SARIF: a note for each declaration, a warning for each tool without a guard."""
    results = [_result(item) for item in found.items if item.kind in _RULES]
    rules = [
        {"id": f"agent-identity/{name}", "shortDescription": {"text": text}, "name": name}
        for name, text in _RULES.items()
    ]
    notes = [
        {"level": "note", "message": {"text": f"not read: {one.reason}"}, "locations": [_location(one.file, 1)]}
        for one in found.unread
        if one.reason not in ("left_out", "link")
    ]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "agent-identity scan", "version": VERSION, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "invocations": [{"executionSuccessful": True, "toolExecutionNotifications": notes}],
                "results": results,
            }
        ],
    }


def _result(item: Item) -> dict[str, object]:
    bare = item.kind == "tool" and item.guarded is False
    rule = "unguarded" if bare else item.kind
    name = _printable(item.name) or "(dynamic)"
    return {
        "ruleId": f"agent-identity/{rule}",
        "level": "warning" if bare else "note",
        "message": {"text": f"{_RULES[rule]}: {name} ({item.source})"},
        "locations": [_location(item.file, item.line)],
        "partialFingerprints": {"agentIdentity/v1": _printable(f"{item.kind}:{item.source}:{item.name}")},
    }


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _location(file: str, line: int) -> dict[str, object]:
    uri = quote(file.encode("utf-8", "surrogateescape"))
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}
