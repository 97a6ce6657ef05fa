"""A graph stops for a person, and goes on in another process, on another day, out of a checkpointer of others."""

import base64
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from agent_identity import Verifier
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._ledger.reader import open_ledger
from agent_identity.identity import SigningKey

PROGRAM = Path(__file__).with_name("graph_program.py")
SECRET = b"canary-of-the-body"
DAY_NS = 24 * 3600 * 10**9
START_NS = 1_764_000_000 * 10**9


def _step(step: str, kind: str, where: str, directory: Path, wall_ns: int) -> dict[str, Any]:
    words = [sys.executable, str(PROGRAM), step, kind, where, str(directory), str(wall_ns)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def _content(kind: str, where: str) -> bytes:
    """Return every value that the checkpointer keeps."""
    if kind == "sqlite":
        with closing(sqlite3.connect(where)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = [row for table in tables for row in database.execute(f"SELECT * FROM {table}")]
    else:
        import psycopg

        with psycopg.connect(where) as database:
            found = database.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
            tables = [name for (name,) in found.fetchall() if name.startswith("checkpoint")]
            rows = [row for table in tables for row in database.execute(f"SELECT * FROM {table}").fetchall()]
    return b"\n".join(v if isinstance(v, bytes) else repr(v).encode() for row in rows for v in row)


def _secrets(directory: Path) -> list[bytes]:
    """Return what must not be in a checkpoint: keys in several forms, grants, and what only the body knows."""
    found = [SECRET]
    for name in ("issuer", "recorder"):
        path = directory / "keys" / f"{name}.pem"
        SigningKey.load(path)
        body = "".join(line for line in path.read_text().splitlines() if "-----" not in line)
        seed = base64.b64decode(body)[-32:]
        found += [body[-40:].encode(), seed, seed.hex().encode(), base64.urlsafe_b64encode(seed).rstrip(b"=")]
    for line in (directory / "keys" / "digests.jsonl").read_text().splitlines():
        key = json.loads(line)["key"]
        found += [key.encode(), b64url_decode(key)]
    found.append((directory / "keys" / "ledger.key").read_bytes())
    for record in _records(directory):
        if record["kind"] == "grant":
            found.append(record["grant"]["token"].encode())
            found.append(record["grant"]["token"].rpartition(".")[2].encode())
    return found


def _records(directory: Path) -> list[dict[str, Any]]:
    reader = open_ledger(directory)
    return [orjson.loads(line.record) for stream in reader.streams() for line in reader.entries(stream)]


@pytest.mark.sample(2)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_call_is_approved_and_resumed_in_another_process_on_another_day(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The first grant has long expired: the principal opens a task anew. It is paid once."""
    if kind == "sqlite":
        where = str(tmp_path / "graph.sqlite")
    else:
        where = f"postgresql://postgres@127.0.0.1:{request.getfixturevalue('postgres_server').port}/postgres"
    directory = tmp_path / "evidence"
    asked = _step("ask", kind, where, directory, START_NS)
    assert asked == {"interrupts": 1, "answers": [], "paid": []}
    resumed = _step("resume", kind, where, directory, START_NS + DAY_NS)
    assert resumed == {"interrupts": 0, "answers": ["paid INV-1"], "paid": ["INV-1 5 18"]}
    records = _records(directory)
    tasks = {record["task"]["id"] for record in records if record["kind"] == "task_start"}
    assert len(tasks) == 2
    told = [
        (r["kind"], r.get("outcome") or r.get("approval", {}).get("status", ""))
        for r in records
        if r["kind"] in ("approval", "intent", "outcome")
    ]
    assert told == [
        ("approval", "pending"),
        ("outcome", "suspended"),
        ("approval", "approved"),
        ("intent", ""),
        ("outcome", "success"),
    ]
    assert Verifier().ledger(directory).verdict == "verified"
    content, secrets = _content(kind, where), _secrets(directory)
    assert b"INV-1" in content
    assert len(secrets) > 12
    assert SECRET in PROGRAM.read_bytes()
    assert [secret for secret in secrets if secret in content] == []
