"""``agent-identity proof``: files that are written once, verdicts as exit codes, safe output."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

Run = Callable[..., Any]


@pytest.fixture
def outcome(evidence: Path) -> dict:
    """Return an outcome of the golden evidence."""
    lines = [
        line for file in sorted(evidence.glob("ledger/*/entries.jsonl")) for line in file.read_bytes().splitlines()
    ]
    return next(r for r in (orjson.loads(line)["record"] for line in lines) if r["kind"] == "outcome")


@pytest.fixture
def proof(run: Run, evidence: Path, outcome: dict, tmp_path: Path) -> Path:
    """Return the file that proves it."""
    done = run("proof", "make", evidence, outcome["id"], "--output", tmp_path / "p.tlog-proof")
    assert (done.code, done.out) == (0, "")
    assert "check it with: agent-identity proof check" in done.err
    return tmp_path / "p.tlog-proof"


def test_a_record_is_proved_to_people(run: Run, proof: Path, trust: Path, evidence: Path, outcome: dict) -> None:
    """The verdict first, then who did what on whose behalf, then what was checked; without the ledger."""
    shutil.rmtree(evidence)
    done = run("proof", "check", proof, "--trust", trust)
    assert done.code == 0
    first, *rest = done.out.splitlines()
    assert first == f"VERIFIED  record {outcome['id']}"
    told = "\n".join(rest)
    for text in (outcome["principal"]["id"], outcome["agent"]["id"], outcome["action"]["tool"], outcome["outcome"]):
        assert text in told
    assert told.count("✓") == 4


def test_a_proof_goes_to_standard_output(run: Run, evidence: Path, proof: Path, outcome: dict) -> None:
    """By id, or by stream and place: the same bytes."""
    place = f"{outcome['stream']['id']}/{outcome['stream']['seq']}"
    assert (
        run("proof", "make", evidence, outcome["id"]).out
        == run("proof", "make", evidence, place).out
        == proof.read_text()
    )


def test_machines_get_json(run: Run, proof: Path, trust: Path, outcome: dict) -> None:
    """With the whole record."""
    told = json.loads(run("proof", "check", proof, "--trust", trust, "--json").out)
    assert (told["verdict"], told["exit_code"], told["proof"]) == ("verified", 0, "record")
    assert told["record"] == outcome


def test_an_existing_file_is_not_replaced(run: Run, evidence: Path, outcome: dict, proof: Path) -> None:
    """A proof that somebody keeps stays."""
    before = proof.read_bytes()
    done = run("proof", "make", evidence, outcome["id"], "-o", proof)
    assert (done.code, proof.read_bytes()) == (2, before)
    assert f"a file at {str(proof)!r} exists already" in done.err


def test_a_changed_proof_shows_no_record(run: Run, proof: Path, trust: Path) -> None:
    """What is not proved is not told as if it were."""
    proof.write_bytes(proof.read_bytes().replace(b"index 0", b"index 1"))
    done = run("proof", "check", proof, "--trust", trust)
    assert done.code == 1
    assert done.out.startswith("NOT VERIFIED: contradicted  record ")
    assert "bad_inclusion_proof" in done.out
    assert "tool " not in done.out


def test_the_record_that_was_asked_for_is_compared(run: Run, proof: Path, trust: Path, outcome: dict) -> None:
    """Exit code 1 for another one."""
    assert run("proof", "check", proof, "--trust", trust, "--record", outcome["id"]).code == 0
    done = run("proof", "check", proof, "--trust", trust, "--record", "another")
    assert (done.code, "other_record" in done.out) == (1, True)


def test_growth_is_proved(run: Run, evidence: Path, trust: Path, tmp_path: Path) -> None:
    """From the checkpoint that was kept; without it, it cannot be told."""
    kept = shutil.copy(evidence / "log/checkpoint", tmp_path / "kept")
    assert run("proof", "make", evidence, "--since", kept, "-o", tmp_path / "g").code == 0
    done = run("proof", "check", tmp_path / "g", "--trust", trust, "--since", kept)
    assert (done.code, done.out.splitlines()[0]) == (0, "VERIFIED  the growth of a log")
    done = run("proof", "check", tmp_path / "g", "--trust", trust)
    assert (done.code, done.out.splitlines()[0]) == (2, "CANNOT TELL  the growth of a log")


def test_a_ledger_that_contradicts_itself_is_exit_code_1(run: Run, evidence: Path, outcome: dict) -> None:
    """As of verify; what cannot be told is 2."""
    log = evidence / "log/entries.jsonl"
    log.write_bytes(log.read_bytes()[:-2])
    done = run("proof", "make", evidence, outcome["id"])
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("agent-identity: log_cut: ")
    (evidence / "log/checkpoint").unlink()
    assert run("proof", "make", evidence, outcome["id"]).code == 2


@pytest.mark.parametrize("words", [(), ("id", "--since", "x"), ("stream/x",), ("stream/" + "9" * 30,), ("nobody",)])
def test_what_makes_no_sense_is_refused(run: Run, evidence: Path, words: tuple[str, ...]) -> None:
    """Neither or both of the two, a place that is none, a record that is not there."""
    done = run("proof", "make", evidence, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("agent-identity: ")


def test_garbage_is_called_that(run: Run, tmp_path: Path, trust: Path) -> None:
    """And shown nowhere."""
    (tmp_path / "x").write_bytes(b"\x1b[31m garbage")
    done = run("proof", "check", tmp_path / "x", "--trust", trust)
    assert (done.code, done.out.splitlines()[0]) == (1, "NOT VERIFIED: contradicted  a file that is not a proof")
    assert "\x1b" not in done.out


def test_a_record_without_principal_is_told_by_what_it_has(
    run: Run, evidence: Path, trust: Path, tmp_path: Path
) -> None:
    """The first record of a stream says only when it began."""
    stream = min(path.name for path in (evidence / "ledger").iterdir())
    run("proof", "make", evidence, f"{stream}/1", "-o", tmp_path / "p")
    done = run("proof", "check", tmp_path / "p", "--trust", trust)
    assert "kind    stream_start" in done.out
    assert "tool " not in done.out


def test_a_period_is_told(run: Run, evidence: Path, trust: Path) -> None:
    """How much was recorded, or why nothing can be said."""
    done = run(
        "verify", evidence, "--trust", trust, "--from", "2025-11-24T16:00:00Z", "--until", "2025-11-25T17:00:00+01:00"
    )
    assert done.code == 0
    assert "  period        recorded: " in done.out
    done = run(
        "verify",
        evidence,
        "--trust",
        trust,
        "--from",
        "2030-01-01T00:00:00Z",
        "--until",
        "2030-01-02T00:00:00Z",
        "--json",
    )
    assert json.loads(done.out)["period"]["state"] == "cannot_tell"


def test_a_period_takes_the_times_that_other_commands_take(run: Run, evidence: Path, trust: Path) -> None:
    """Dates, and times without a zone, are in UTC; what is no time is shown."""
    asked = ("verify", evidence, "--trust", trust, "--json", "--from")
    told = [
        json.loads(run(*asked, start, "--until", stop).out)["period"]
        for start, stop in [
            ("2025-11-24", "2025-11-26"),
            ("2025-11-24T00:00:00", "2025-11-26T00:00:00"),
            ("2025-11-24T01:00:00+01:00", "2025-11-26T00:00:00Z"),
        ]
    ]
    assert told[0]["state"] == "recorded"
    assert told[0] == told[1] == told[2]
    assert "'yesterday'" in run(*asked, "yesterday", "--until", "2025-11-26").err


@pytest.mark.parametrize(
    "words",
    [
        ("--from", "2025-11-24T16:00:00Z"),
        ("--until", "2025-11-24T16:00:00Z"),
        ("--from", "yesterday", "--until", "2025-11-24T16:00:00Z"),
        ("--from", "2025-11-24T16:00:00Z", "--until", "2025-11-24T16:00:00Z"),
    ],
)
def test_a_period_has_two_times(run: Run, evidence: Path, trust: Path, words: tuple[str, ...]) -> None:
    """One alone, what is no time, and an empty period are refused."""
    done = run("verify", evidence, "--trust", trust, *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("agent-identity: ")
