"""The published cases of evidence (``tests/vectors/cases``), for every test that verifies them."""

import base64
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent / "vectors" / "cases"
GROUPS = ("approvals", "calls", "clean", "files", "flow", "ledgers", "spans")
CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for group in GROUPS for case in json.loads((HERE / f"{group}.json").read_text(encoding="utf-8"))
}


def content_of(case: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of a case, made as the README of the vectors says."""
    files = content_of(CASES[case["base"]]) if "base" in case else {}
    for name, lines in case["files"].items():
        before = files.pop(name, b"").splitlines(keepends=True)
        if lines is None:
            continue
        parts = list[bytes]()
        for line in lines:
            if isinstance(line, str):
                parts.append(line.encode())
            elif isinstance(line, list):
                parts += before[line[0] - 1 : line[1]]
            else:
                parts.append(base64.b64decode(line["base64"]))
        files[name] = b"".join(parts)
    return files


def write_case(case: dict[str, Any], folder: Path) -> None:
    """Write the files of a case into a folder."""
    write_files(content_of(case), folder)


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write files into a folder."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
