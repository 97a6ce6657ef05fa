"""Forms of a scan for other programs: JSON, SARIF and CycloneDX."""

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Final
from urllib.parse import quote

from agent_identity._scan.hosts import Contacts
from agent_identity._scan.results import Edge, Item, Scan
from agent_identity.canonical import encode
from agent_identity.version import VERSION

_TYPES: Final[Mapping[str, str]] = {
    "agent": "application",
    "orchestrator": "application",
    "tool": "application",
    "agent_card": "application",
    "model": "machine-learning-model",
    "dependency": "library",
}
_SERVICES: Final = ("mcp_client", "mcp_server")
_EXACT: Final = re.compile(r"(?:==\s*)?(\d[\w.+-]*)")
_NPM: Final = ("package.json", "package-lock.json", "yarn.lock", "pnpm-lock.yaml")
_Group = tuple[str, str, str]


_RULES: Final[Mapping[str, str]] = {
    "agent": "Agent declared",
    "orchestrator": "Orchestrator of agents declared",
    "tool": "Tool declared",
    "mcp_client": "MCP server in use",
    "mcp_server": "MCP server offered",
    "agent_card": "Agent card published",
    "unguarded": "Tool declared without a guard in the scanned code",
}


def json_of(found: Scan, met: Contacts | None = None) -> dict[str, object]:
    """Return a scan as one JSON object; file names that are not text have lone surrogates, which JSON escapes.

    Args:
        found: The scan.
        met: The contacts in logs, if there are any.
    """
    return {
        "version": VERSION,
        "items": [asdict(item) for item in found.items],
        "edges": [asdict(edge) for edge in found.edges],
        "files_read": found.files_read,
        "files_other": found.files_other,
        "typescript_files": found.typescript_files,
        "unread": [asdict(one) for one in found.unread],
        "truncated": found.truncated,
        "instrumented": found.instrumented,
        **({} if met is None else {"logs": asdict(met)}),
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


def cyclonedx_of(found: Scan) -> dict[str, object]:
    """Return a scan as a bill of materials. The same scan gives the same bytes: it has no time and no random number."""
    groups: defaultdict[_Group, list[Item]] = defaultdict(list)
    for item in found.items:
        groups[item.kind, item.source, item.name or f"{item.file}:{item.line}"].append(item)
    components = [_component(key, items) for key, items in groups.items() if key[0] in _TYPES]
    services = [_service(key, items) for key, items in groups.items() if key[0] in _SERVICES]
    body: dict[str, object] = {
        "components": components,
        "services": services,
        "dependencies": _dependencies(groups, found.edges),
        "compositions": [
            {"aggregate": "incomplete", "assemblies": [_reference(key) for key in groups if key[0] in _TYPES]}
        ],
    }
    tool = {"type": "application", "name": "agent-identity scan", "version": VERSION}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.7",
        "serialNumber": uuid.UUID(bytes=hashlib.sha256(encode(body)).digest()[:16], version=4).urn,
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "pre-build"}], "tools": {"components": [tool]}},
        **body,
    }


def _reference(key: _Group) -> str:
    return ":".join(quote(_text(part), safe="") for part in key)


def _text(text: str) -> str:
    """Return text that is valid everywhere: no lone surrogates, no control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _component(key: _Group, items: Sequence[Item]) -> dict[str, object]:
    kind, _, name = key
    first = items[0]
    component: dict[str, object] = {
        "type": _TYPES[kind],
        "bom-ref": _reference(key),
        "name": _text(name),
        "properties": _properties(items),
        "evidence": _ledger(items),
    }
    version = _EXACT.fullmatch(first.place) if kind == "dependency" else None
    if kind == "dependency":
        ecosystem = "npm" if first.file.endswith(_NPM) else "pypi"
        package = quote(name, safe="/" if ecosystem == "npm" else "")
        component["purl"] = f"pkg:{ecosystem}/{package}" + (f"@{version.group(1)}" if version else "")
    if version is not None:
        component["version"] = version.group(1)
    return component


def _ledger(items: Sequence[Item]) -> dict[str, object]:
    """Return technique and places. The schema wants a number: 1 for a literal name, 0.5 for any other."""
    certain = 1 if all(item.named_by == "literal" for item in items) else 0.5
    techniques = sorted({item.technique for item in items})
    methods = [{"technique": technique, "confidence": certain} for technique in techniques]
    return {
        "identity": [{"field": "name", "confidence": certain, "methods": methods}],
        "occurrences": [{"location": _text(item.file), "line": item.line} for item in items],
    }


def _properties(items: Iterable[Item]) -> list[dict[str, str]]:
    """Return the facts that CycloneDX has no member for."""
    facts: set[tuple[str, str]] = set()
    for item in items:
        facts |= {("kind", item.kind), ("source", item.source), ("status", item.status), ("named_by", item.named_by)}
        facts |= set() if item.guarded is None else {("guarded", str(item.guarded).lower())}
        facts |= {("environment", name) for name in item.environment} | {("header", name) for name in item.headers}
    return [{"name": f"agent-identity:{name}", "value": value} for name, value in sorted(facts)]


def _service(key: _Group, items: Sequence[Item]) -> dict[str, object]:
    """Return an MCP end; services have no evidence in 1.7, so that places stand in properties."""
    places = [{"name": "agent-identity:occurrence", "value": _text(f"{item.file}:{item.line}")} for item in items]
    commands = {item.place for item in items if item.transport == "stdio"}
    service: dict[str, object] = {
        "bom-ref": _reference(key),
        "name": _text(key[2]),
        "properties": [
            *_properties(items),
            *({"name": "agent-identity:command", "value": _text(command)} for command in sorted(commands)),
            *places,
        ],
    }
    endpoints = sorted(
        {item.place.partition("?")[0] for item in items if item.transport in ("http", "sse") and item.place}
    )
    if endpoints:
        service["endpoints"] = [quote(_text(place), safe=":/@[]*%") for place in endpoints]
    return service


def _dependencies(groups: Mapping[_Group, Sequence[Item]], edges: Iterable[Edge]) -> list[dict[str, object]]:
    """Return which agents use which tools and agents, where both are declared."""
    named: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for key in groups:
        kind = "agent" if key[0] in ("agent", "orchestrator") else key[0]
        named[kind, key[2]].append(_reference(key))
    uses: defaultdict[str, set[str]] = defaultdict(set)
    for edge in edges:
        ends = named[("tool" if edge.kind == "uses" else "agent"), edge.end]
        for start in named["agent", edge.start]:
            uses[start].update(end for end in ends if end != start)
    return [{"ref": ref, "dependsOn": sorted(ends)} for ref, ends in sorted(uses.items()) if ends]
