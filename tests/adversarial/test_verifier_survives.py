"""Lines that somebody without a key appends to a ledger, or edits: each is a finding, none ends the verification."""

import copy
import importlib.util
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_identity import Report, Verifier
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._ledger.sealer import Sealing
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._storage.lines import stream_line, stream_parts
from agent_identity.cli import main

_spec = importlib.util.spec_from_file_location("surgeries", Path(__file__).with_name("surgeries.py"))
assert _spec is not None
assert _spec.loader is not None
surgeries = sys.modules.setdefault("surgeries", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(surgeries)

DIGEST = "A" * 43
ID = surgeries.FORGED_ID
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, "", "x", "0", "1", "9" * 19, "\u3164", "a\u0000b", "\n", "é" * 5_000),
    *([], [None], [[]], [{}], ["x"], ["x", "x"], {}, {"a": 1}, {"id": "x"}),
)
OTHERS: dict[str, dict[str, Any]] = {
    "mark": {
        "mark": {
            "hop": DIGEST,
            "seq": "2",
            "label": "untrusted",
            "cause": "chunk",
            "prev": ID,
            "joined": "untrusted",
            "sources": [ID],
            "origin": DIGEST,
            "digest": DIGEST,
            "token": "eyJh.eyJi.c2ln",
        },
    },
    "examination": {"examination": {"question": "q", "digest": DIGEST, "size": "1"}},
    "trust": {"trust": {"key": "k", "purpose": "recorder", "status": "trusted"}},
}
"""Kinds of which the ledger under the knife has none."""


class Ledger:
    """A sealed ledger, into which anybody writes."""

    def __init__(self, directory: Path) -> None:
        surgeries.build(directory, 1)
        self.directory = directory
        paths = [
            path / "entries.jsonl"
            for path in sorted((directory / "ledger").iterdir(), key=lambda each: bytes_of_id(each.name))
        ]
        self.path, self.log = paths[-1], directory / "log" / "entries.jsonl"
        self.bytes, self.log_bytes = self.path.read_bytes(), self.log.read_bytes()
        self.records: list[dict[str, Any]] = [
            orjson.loads(line)["record"]
            for path in paths
            for line in path.read_bytes().splitlines()
            if line.endswith(b"}}")
        ]
        of_task = next(record for record in self.records if record["kind"] == "task_start")
        for kind, body in OTHERS.items():
            more = of_task if kind == "mark" else {name: of_task[name] for name in ("id", "stream", "time", "v")}
            self.records.append({**more, **copy.deepcopy(body), "kind": kind})

    def append(self, *records: Any, members: str = "") -> None:
        """Append lines in the places that follow, without a key; ``members`` stand in each once more."""
        lines = self.bytes.splitlines()
        prev = b64url_encode(leaf_hash(_record_of(lines[-1])))
        written = [self.bytes]
        for seq, record in enumerate(records, len(lines) + 1):
            value = copy.deepcopy(record)
            if isinstance(value.get("stream"), dict) and "id" in value["stream"]:
                value["stream"] = {"id": self.path.parent.name, "seq": str(seq), "prev": prev}
            data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
            data = data[:-1] + members.encode() + b"}"
            prev = b64url_encode(leaf_hash(data))
            written.append(stream_line(bytes(32), data))
        self.path.write_bytes(b"".join(written))

    def verify(self) -> Report:
        """Verify, and make every form of the report."""
        report = Verifier(surgeries.clean.TRUST).ledger(self.directory)
        report.to_json()
        return report


def _record_of(line: bytes) -> bytes:
    parts = stream_parts(line)
    assert parts is not None
    return parts[0]


@pytest.fixture(scope="module", autouse=True)
def threads_again() -> Iterator[None]:
    """Give ledgers their thread back, which those of these tests do without."""
    ensure = Sealing._ensure_thread
    yield
    Sealing._ensure_thread = ensure  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return Ledger(tmp_path_factory.mktemp("survives") / "evidence")


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each member and item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from places(item, (*path, name))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands at a path."""
    for step in path:
        value = value[step]
    return value


def changed(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a record with each member removed, of another type or value, doubled in an array, and one too many."""
    for path in places(record):
        for value in VALUES:
            found = copy.deepcopy(record)
            at(found, path[:-1])[path[-1]] = value
            yield found
        found = copy.deepcopy(record)
        del at(found, path[:-1])[path[-1]]
        yield found
        inner = at(record, path)
        found = copy.deepcopy(record)
        if isinstance(inner, list):
            at(found, path).extend(inner)
        elif isinstance(inner, dict):
            at(found, path)["added"] = "x"
        yield found


def test_a_mark_without_prev_is_a_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One appended line leaves a tampered ledger contradicted, on the command line as well."""
    ledger = Ledger(tmp_path / "evidence")
    trust = tmp_path / "trust.json"
    surgeries.clean.TRUST.save(trust)
    ledger.bytes = ledger.bytes.replace(b'"allow"', b'"warn"', 1)
    mark = next(record for record in ledger.records if "prev" in record.get("mark", {}))
    del mark["mark"]["prev"]
    ledger.append(mark)
    assert {"malformed_record", "head_mismatch"} & {problem.code for problem in ledger.verify().findings}
    assert main(["verify", str(ledger.directory), "--trust", str(trust)]) == 1
    assert "contradicted" in capsys.readouterr().out


def test_no_appended_line_ends_the_verification(ledger: Ledger) -> None:
    """Each record with any member removed, of another type or doubled is read on, and nothing counts as complete."""
    rng = random.Random(30)  # noqa: S311  Nothing here is a secret.
    for record in {(record["kind"], *sorted(record)): record for record in ledger.records}.values():
        mutants = list(changed(record))
        rng.shuffle(mutants)
        for start in range(0, len(mutants), 200):
            ledger.append(record, *mutants[start : start + 200])
            assert ledger.verify().exit_code in (1, 3)
    ledger.append(*ledger.records, members=',"v":"1"')
    assert ledger.verify().exit_code in (1, 3)


def test_no_edited_line_ends_the_verification(ledger: Ledger) -> None:
    """A sealed line whose record was changed in any member contradicts the log."""
    rng = random.Random(30)  # noqa: S311  Nothing here is a secret.
    lines = ledger.bytes.splitlines(keepends=True)
    for number, line in enumerate(lines):
        for record in rng.sample(list(changed(orjson.loads(_record_of(line[:-1])))), 12):
            data = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
            if data == _record_of(line[:-1]):
                continue
            edited = stream_line(bytes(32), data, surgeries.detail_in(line))
            ledger.path.write_bytes(b"".join([*lines[:number], edited, *lines[number + 1 :]]))
            assert ledger.verify().exit_code == 1


def test_no_line_of_the_log_ends_the_verification(ledger: Ledger) -> None:
    """An entry of the log that was appended or edited in any member is read on."""
    ledger.path.write_bytes(ledger.bytes)
    lines = ledger.log_bytes.splitlines(keepends=True)
    entry = orjson.loads(lines[-1])["entry"]
    for value in changed(entry):
        forged = orjson.dumps({"entry": value, "mac": "A" * 43}, option=orjson.OPT_SORT_KEYS) + b"\n"
        ledger.log.write_bytes(ledger.log_bytes + forged)
        assert ledger.verify().exit_code in (0, 1, 3)  # What no checkpoint covers proves nothing.
        if value != entry:
            ledger.log.write_bytes(b"".join([*lines[:-1], forged]))
            assert ledger.verify().exit_code == 1
    ledger.log.write_bytes(ledger.log_bytes)
