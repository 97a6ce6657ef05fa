"""``agent-identity report inventory``: what there is, who owns it, and what is noteworthy about it."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._reports.answers.collecting import CodeHint, CodeStatus, ItemKind
from agent_identity._reports.answers.cyclonedx_document import cyclonedx
from agent_identity._reports.answers.inventory_report import KINDS, Inventory, Item, inventory
from agent_identity._reports.pages.words import DIFFERENCES, KIND_NAMES, name_in, span_of
from agent_identity._scan.forms import json_of
from agent_identity._scan.scanner import scan
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.answer.framing import TONES, Cell, answered, cut, emit, emit_document, table_lines
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.style import Style, clean, hanging
from agent_identity.errors import ConfigurationError

_KINDS: Final[Mapping[str, ItemKind]] = {
    "agent": "agent",
    "orchestrator": "agent",
    "agent_card": "agent",
    "tool": "tool",
    "model": "model",
    "mcp_client": "server",
    "mcp_server": "server",
}
_STATUSES: Final[tuple[CodeStatus, ...]] = ("configured", "declared", "installed")
_LONGEST: Final = 1_024
_LARGEST: Final = 64 * 1024 * 1024
_MAX_HINTS: Final = 100_000


_NAMED: Final = 12


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    since = None if chosen.since is None else moment_ns(chosen.since)
    hints, unnamed = hints_of(chosen.scan)
    found = answered(chosen, lambda evidence: inventory(evidence, since_ns=since, hints=hints, unnamed=unnamed))
    if chosen.cyclonedx:
        return emit_document(chosen, found.frame, lambda: json.dumps(cyclonedx(found), indent=2))
    return emit(chosen, found, text=lambda style, room: _text(found, style, room), rows=lambda: _rows(found))


def _text(found: Inventory, style: Style, room: int | None) -> Iterator[str]:
    yield from _differences(found, style, room)
    for kind in KINDS:
        items = [item for item in found.items if item.kind == kind]
        if items:
            yield ""
            yield style.paint(f"{KIND_NAMES[kind]} ({len(items):,})", "bold")
            rows = [_HEAD[kind in _OWNED], *(_row(item) for item in items)]
            yield from table_lines(rows, room)
    if not found.items:
        yield "nothing found"


def _differences(found: Inventory, style: Style, room: int | None) -> Iterator[str]:
    for code, (words, tone) in DIFFERENCES.items():
        named = [one for one in found.differences if one.code == code]
        names = [f"{one.kind} {name_in(one.service, one.name)}" for one in named]
        unknown = dict(_unknown(found, code))
        if named:
            line = hanging(f"{words} ({len(named):,}): {cut(names, _NAMED)}{_rest(unknown)}", 2, room)
            yield style.paint(words, TONES[tone], "bold") + line.removeprefix(words)
        elif code in _PARTS and len(unknown) == _PARTS[code]:
            yield f"{words}: not known, {' and '.join(unknown.values())}"
        elif code in _PARTS:
            yield f"{words}: none{_rest(unknown)}"


_PARTS: Final = {"traced_not_guarded": 1, "observed_not_registered": 2, "no_owner": 1}
"""What is said also where it is nothing, as the parts of question 2, and of how many kinds of things."""


def _unknown(found: Inventory, code: str) -> Iterator[tuple[str, str]]:
    """Yield of what the evidence cannot tell a difference, and why."""
    kinds = {sighting.kind for item in found.items for sighting in item.sightings}
    if code == "traced_not_guarded" and all(source.kind != "traces" for source in found.frame.sources):
        yield "other libraries", "no traces were given"
    if code == "observed_not_registered" and "registry" not in kinds:
        yield "agents", "there is no registry of agents"
    if code == "observed_not_registered" and "pins" not in kinds:
        yield "servers", "there is no inventory of servers"


def _rest(unknown: Mapping[str, str]) -> str:
    return "".join(f"; not known of {what}: {why}" for what, why in unknown.items())


_OWNED: Final = frozenset({"agent"})
_HEAD: Final[dict[bool, Sequence[str]]] = {
    False: ("NAME", "STATUS", "PROOF", "CALLS", "REFUSED", "SPANS", "SEEN", "MORE"),
    True: ("NAME", "OWNER", "STATUS", "PROOF", "CALLS", "REFUSED", "SPANS", "SEEN", "MORE"),
}


def _row(item: Item) -> Sequence[str]:
    owner = (cut(item.owners, 2) or "none",) if item.kind in _OWNED else ()
    numbers = (f"{item.calls:,}", f"{item.refused:,}", f"{item.spans:,}")
    seen = span_of(item.first_ns, item.last_ns) or "never"
    more = "; ".join(_more(item))
    return (clean(name_in(item.service, item.name)), *owner, ", ".join(item.statuses), item.proof, *numbers, seen, more)


def _more(item: Item) -> Iterator[str]:
    if item.versions:
        yield f"{counted(len(item.versions), 'version')}: {cut(item.versions)}"
    for name, values in item.details.items():
        yield f"{clean(name)}: {cut(values)}"


def _rows(found: Inventory) -> Iterable[Sequence[Cell]]:
    yield (
        "kind",
        "service",
        "name",
        "status",
        "proof",
        "owners",
        "versions",
        "first_ns",
        "last_ns",
        "calls",
        "refused",
        "spans",
        "differences",
        "details",
    )
    codes: dict[tuple[str, str | None, str], list[str]] = {}
    for one in found.differences:
        codes.setdefault((one.kind, one.service, one.name), []).append(one.code)
    for item in found.items:
        yield (
            item.kind,
            item.service or "",
            item.name,
            " ".join(item.statuses),
            item.proof,
            " ".join(item.owners),
            " ".join(item.versions),
            item.first_ns,
            item.last_ns,
            item.calls,
            item.refused,
            item.spans,
            " ".join(codes.get((item.kind, item.service, item.name), ())),
            "; ".join(f"{name}: {', '.join(values)}" for name, values in item.details.items()),
        )


def hints_of(paths: Sequence[str]) -> tuple[Sequence[CodeHint], int]:
    """Return what code and configurations name, and the number of declarations without a fixed name.

    Args:
        paths: Folders and files that are scanned, and files that ``scan --json`` has written.

    Raises:
        ConfigurationError: A path does not exist, or nothing of it can be read; a file of a scan is malformed; or there
            are too many declarations.
    """
    hints: list[CodeHint] = []
    unnamed = 0
    for path in paths:
        found = _written(path)
        for item in _items(_scanned(path) if found is None else found, path):
            name = item.get("name")
            kind = _KINDS.get(str(item.get("kind")))
            if kind is None:
                continue
            if not isinstance(name, str) or not name or item.get("named_by") == "dynamic":
                unnamed += 1
            elif len(hints) >= _MAX_HINTS:
                raise ConfigurationError(f"{path!r} has more than {_MAX_HINTS:,} declarations; scan a part of it")
            else:
                hints.append(_hint(kind, name, item, path))
    return hints, unnamed


def _scanned(path: str) -> Mapping[str, object]:
    found = scan([path])
    if not found.files_read:
        raise ConfigurationError(
            f"nothing in {path!r} can be read as code, a configuration or a scan; name another path"
        )
    return json_of(found)


def _written(path: str) -> Mapping[str, object] | None:
    """Return the content of a file that ``scan --json`` has written; ``None`` for anything else."""
    file = Path(path)
    if not path.endswith(".json") or not file.is_file() or file.stat().st_size > _LARGEST:
        return None
    try:
        content: object = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return None
    if is_mapping(content) and "files_read" in content and "items" in content:
        return cast("Mapping[str, object]", content)
    return None


def _items(found: Mapping[str, object], path: str) -> Sequence[Mapping[str, object]]:
    items = found["items"]
    if not is_array(items) or not all(is_mapping(item) for item in items):
        raise ConfigurationError(f"{path!r} is no scan; write it with agent-identity scan --json")
    return cast("Sequence[Mapping[str, object]]", items)


def _hint(kind: ItemKind, name: str, item: Mapping[str, object], path: str) -> CodeHint:
    status, guarded = item.get("status"), item.get("guarded")
    for known in _STATUSES:
        if status == known:
            place, via = f"{item.get('file')}:{item.get('line')}", str(item.get("source"))
            sure = guarded if isinstance(guarded, bool) else None
            return CodeHint(kind, name[:_LONGEST], known, place[:_LONGEST], via[:_LONGEST], sure)
    raise ConfigurationError(f"{path!r} is no scan; write it with agent-identity scan --json")
