"""Hints of code for ``report inventory``: from folders, or from what ``scan --json`` has written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._reports.answers.collecting import CodeHint, CodeStatus, ItemKind
from agent_identity._scan.json_form import json_of
from agent_identity._scan.scanner import scan
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
        content = cast("object", json.loads(file.read_bytes()))
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
