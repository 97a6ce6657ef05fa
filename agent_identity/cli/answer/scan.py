"""``agent-identity scan``: what agents, tools, models and MCP ends code and configurations declare."""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from agent_identity._scan.forms import cyclonedx_of, json_of, sarif_of
from agent_identity._scan.hosts import Contact, Contacts, contacts
from agent_identity._scan.results import KINDS, Edge, Item, Scan
from agent_identity._scan.scanner import scan
from agent_identity.cli.terminal.style import Style, clean, columns, table
from agent_identity.errors import ConfigurationError

_PLURALS: Final = {
    "agent": "agents",
    "orchestrator": "orchestrators",
    "tool": "tools",
    "model": "models",
    "mcp_client": "MCP servers in use",
    "mcp_server": "MCP servers offered",
    "agent_card": "agent cards",
    "dependency": "dependencies",
    "environment": "environment variables",
}
_GUARDS: Final = {True: "guarded", False: "not guarded", None: ""}
_REASONS: Final = {
    "bad_encoding": "not in UTF-8",
    "left_out": "folders of installed packages and caches",
    "link": "links, not followed",
    "malformed": "malformed",
    "needs_extra_yaml": "YAML, which needs the extra 'yaml'",
    "not_permitted": "not permitted",
    "not_python": "not Python that this interpreter reads",
    "special": "special files",
    "too_deep": "too deeply nested",
    "too_large": "too large",
}


def run(chosen: argparse.Namespace) -> int:
    """Run the command; exit code 2 if nothing could be read."""
    if chosen.max_files < 1:
        raise ConfigurationError("--max-files must be at least 1")
    if not chosen.path and not chosen.log:
        raise ConfigurationError("nothing to scan; name files or folders, or a log with --log")
    if chosen.log and (chosen.sarif or chosen.cyclonedx):
        raise ConfigurationError("logs have no place in SARIF or CycloneDX; use --json")
    met = contacts(chosen.log, gateways=dict.fromkeys(chosen.gateway, "gateway")) if chosen.log else None
    found = scan(chosen.path, max_files=chosen.max_files)
    if chosen.json:
        print(json.dumps(json_of(found, met)))
    elif chosen.sarif:
        print(json.dumps(sarif_of(found)))
    elif chosen.cyclonedx:
        print(json.dumps(cyclonedx_of(found)))
    else:
        _print(found, met)
    if not found.files_read and not (met and met.lines_read):
        print("agent-identity: nothing could be read; name folders with Python code or configurations", file=sys.stderr)
        return 2
    return 0


def _print(found: Scan, met: Contacts | None) -> None:
    for kind in KINDS:
        items = [item for item in found.items if item.kind == kind]
        _section(_PLURALS[kind], [_row(item) for item in items])
    handed = [edge for edge in found.edges if edge.kind == "hand-off"]
    _section("hand-offs", [_handed(edge) for edge in handed])
    _section("hosts contacted", [_met(one) for one in met.contacts] if met else [])
    notes = [*_notes(found)]
    notes += [] if met is None else _log_notes(met)
    for note in notes:
        print(Style(sys.stdout).paint(note, "dim"))


def _section(title: str, rows: Sequence[Sequence[str]]) -> None:
    if rows:
        print(Style(sys.stdout).paint(f"{title} ({len(rows):,})", "bold"))
        print("\n".join(table(rows, room=columns(sys.stdout))))


def _handed(edge: Edge) -> tuple[str, str]:
    return f"{clean(edge.start or '?')} → {clean(edge.end or '?')}", f"{clean(edge.file)}:{edge.line}"


def _met(one: Contact) -> tuple[str, ...]:
    seen = f"{one.first_seen} to {one.last_seen}" if one.first_seen else ""
    return one.provider, clean(one.host), clean(one.source), f"{one.count:,}", seen


def _log_notes(met: Contacts) -> Iterator[str]:
    yield f"{met.lines_read:,} lines of logs read, {met.lines_malformed:,} not understood"
    if met.truncated:
        yield "a limit ended the reading of logs early: there is more than this"


def _row(item: Item) -> tuple[str, ...]:
    name = clean(item.name) or "?"
    if item.named_by == "dynamic":
        name += " (dynamic)"
    names = [f"sets {', '.join(item.environment)}"] if item.environment else []
    names += [f"headers {', '.join(item.headers)}"] if item.headers else []
    names += [] if item.enabled else ["off"]
    detail = " · ".join(part for part in (clean(item.place), *map(clean, names)) if part)
    return name, item.source, _GUARDS[item.guarded], f"{clean(item.file)}:{item.line}", detail


def _notes(found: Scan) -> Iterator[str]:
    """Yield the limits of the scan: what was read, and what was not."""
    yield f"{found.files_read:,} files read, {found.files_other:,} of other types not opened"
    for reason, count in sorted(Counter(one.reason for one in found.unread).items()):
        yield f"{count:,} left out: {_REASONS.get(reason, reason)}"
    if found.typescript_files:
        yield f"{found.typescript_files:,} JavaScript and TypeScript sources not analyzed, only package.json is"
    if found.truncated:
        yield "a limit ended the scan early: there is more than this"
    if found.instrumented:
        yield "the code guards a framework as a whole: only a run shows which of its tools are guarded"
