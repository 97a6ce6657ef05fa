"""``archive``, ``prune``, ``bundle`` and ``export`` as people run them."""

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._ledger import segments as segments_module
from agent_identity.cli.operate import archive as archive_command
from agent_identity.options import Durability, Segments, Sources
from agent_identity.testing import FixedClock


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a stream of several segments, recorded long ago."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    path = tmp_path / "evidence"
    segments = Segments(max_bytes=3_000, compression="none")
    with Enforcer.open(path, sources=Sources(clock=FixedClock()), durability=Durability(segments=segments)) as enforcer:
        for number in range(3):
            with (
                enforcer.task(
                    f"task {number}",
                    principal=Human("alice@example.com"),
                    agent=Agent("clerk", owner="ops"),
                    scope=Scope("pay"),
                ),
                enforcer.action("pay"),
            ):
                pass
    return path


def test_archive_and_prune_as_in_the_how_to(run: Callable, old: Path, tmp_path: Path) -> None:
    """Copied, then removed behind a statement; verify says what is gone, and has all with the archive."""
    done = run("archive", str(old), "--to", str(tmp_path / "out"), "--older-than", "1d")
    assert done.code == 0
    assert "copied records 1 to 17" in done.out
    assert "nothing to archive" in run("archive", str(old), "--to", str(tmp_path / "out")).out
    done = run("prune", str(old), "--older-than", "184d", "--archived", str(tmp_path / "out"))
    assert done.code == 0, done.err
    assert "pruned records 1 to 17" in done.out
    assert "nothing to prune" in run("prune", str(old), "--older-than", "9999w").out
    done = run("verify", str(old), "--trust", str(old / "trust.json"))
    assert done.code == 0
    assert "for what is kept; older records were pruned" in done.out
    assert "17 pruned" in done.out
    done = run("verify", str(old), "--archive", str(tmp_path / "out"), "--json")
    assert json.loads(done.out)["completeness"] == "complete"


def test_six_months_are_kept_unless_one_says_so(run: Callable, old: Path) -> None:
    """A younger age is refused with the reason; the option that allows it has an ugly name."""
    done = run("prune", str(old), "--older-than", "30d")
    assert done.code == 2
    assert "six months" in done.err
    assert "--destroy-even-what-is-younger-than-six-months" in done.err
    done = run("prune", str(old), "--older-than", "30d", "--destroy-even-what-is-younger-than-six-months")
    assert done.code == 0, done.err


def test_what_does_not_verify_is_not_pruned(run: Callable, old: Path) -> None:
    """Traces of tampering never go with what was tampered with."""
    path = next(old.glob("ledger/*/entries-*"))
    path.write_bytes(path.read_bytes().replace(b"alice", b"mally"))
    done = run("prune", str(old), "--older-than", "184d")
    assert done.code == 2
    assert "keep it all" in done.err
    assert not list(old.glob("ledger/*/pruned"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("archive", "DIR", "--to", "DIR"), "name another folder"),
        (("archive", "FILE", "--to", "x"), "evidence directory"),
        (("archive", "DIR", "--to", "x", "--older-than", "3y"), "hours, days or weeks"),
        (("prune", "DIR", "--older-than", "999d", "--keys", "tcp:x"), "issuer.pem"),
        (("export", "FILE", "--as", "ocsf"), "evidence directory"),
        (("export", "DIR", "--as", "ocsf", "--since", "yesterday"), "is not a time"),
        (("export", "DIR", "--as", "ocsf", "--sign"), "--as otel-audit only"),
        (("export", "DIR", "--as", "otel-audit", "--sign", "--keys", "tcp:x"), "unix:PATH"),
        (("export", "DIR", "--as", "ocsf", "--verify"), "with --parquet only"),
        (("export", "DIR", "--parquet", "x", "--sign"), "with --as only"),
        (("export", "DIR", "--parquet", "x", "--trust", "FILE"), "ask for one"),
        (("export", "DIR", "--parquet", "DIR"), "exists already"),
        (("bundle", "FILE", "-o", "x.zip"), "evidence directory"),
        (("bundle", "DIR", "-o", "x.rar"), "does not end in .zip"),
        (("bundle", "DIR", "-o", "x.zip", "--task", "nobody"), "no records of this task"),
        (("bundle", "DIR", "-o", "x.zip", "--policy", "FILE", "--policy", "FILE"), "the same name"),
        (("bundle", "DIR", "-o", "x.zip", "--policy", "BIG"), "larger than"),
        (("verify", "FILE", "--archive", "x"), "go with an evidence directory"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Callable, old: Path, tmp_path: Path, words: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each slip is one line with the way out, and exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policy.yaml").write_text("{}")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(5_000_000)
    places = {"DIR": str(old), "FILE": str(tmp_path / "policy.yaml"), "BIG": str(tmp_path / "big")}
    done = run(*(places.get(word, word) for word in words))
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "x.zip").exists()


@pytest.mark.parametrize("form", ["ocsf", "cloudevents", "otel-audit"])
def test_export_writes_lines_of_json(run: Callable, old: Path, tmp_path: Path, form: str) -> None:
    """One line for each record, to a file as well, signed where the form has signatures."""
    out = tmp_path / "out.jsonl"
    words = ["--sign"] if form == "otel-audit" else []
    assert run("export", str(old), "--as", form, "-o", str(out), "--since", "2020-01-01", *words).code == 0
    lines = [json.loads(line) for line in out.read_bytes().splitlines()]
    assert len(lines) == 17
    if words:
        assert b"audit.integrity.value" in out.read_bytes()
    path = next(old.glob("ledger/*/entries-*"))
    path.write_bytes(path.read_bytes().replace(b"alice", b"mally"))
    assert run("export", str(old), "--as", "otel-audit", "--sign").code == 2


def test_export_writes_a_table(run: Callable, old: Path, tmp_path: Path) -> None:
    """The command says how many records, whether they were verified, and ends as verify does."""
    done = run("export", str(old), "--parquet", str(tmp_path / "plain"))
    assert (done.code, done.out) == (0, "17 records\nnot verified; a copy for questions, and no proof\n")
    path = next(old.glob("ledger/*/entries-*"))
    path.write_bytes(path.read_bytes().replace(b'"alice', b'"mally') + b"no record\n")
    done = run("export", str(old), "--parquet", str(tmp_path / "changed"), "--verify")
    assert done.code == 1
    assert "records, 1 malformed lines left out\ncontradicted before it was made (keys: self-" in done.out


def test_a_bundle_is_verified_where_only_the_package_is(run: Callable, old: Path, tmp_path: Path) -> None:
    """What bundle packs, verify reads, in another process too; the readme says how, and the reports are there."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: '1'")
    path = tmp_path / "b.zip"
    done = run("bundle", str(old), "-o", str(path), "--policy", str(policy))
    assert done.code == 0
    assert "verified, 17 records" in done.out
    with zipfile.ZipFile(path) as packed:
        names = packed.namelist()
        assert {"README.txt", "report.txt", "report.json", "policy/policy.yaml", "evidence/trust.json"} <= set(names)
        assert b"agent-identity verify BUNDLE" in packed.read("README.txt")
        assert json.loads(packed.read("report.json"))["verdict"] == "verified"
        assert packed.read("report.txt").startswith(b"VERIFIED")
    done = run("verify", str(path), "--trust", str(old / "trust.json"))
    assert (done.code, "keys given by you" in done.out) == (0, True)
    assert "task 1" in run("show", str(path)).out
    shutil.copy(old / "trust.json", tmp_path / "trust.json")
    found = subprocess.run(
        [sys.executable, "-m", "agent_identity", "verify", str(path), "--trust", str(tmp_path / "trust.json")],
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0


def test_an_excerpt_says_that_it_is_one(run: Callable, old: Path, tmp_path: Path) -> None:
    """A bundle of a part exits like its verification, with 3, and its readme explains that."""
    path = tmp_path / "b.zip"
    done = run("bundle", str(old), "-o", str(path), "--from", "2020-01-01T00:00:00Z", "--until", "2200-01-01")
    assert done.code == 3
    assert "incomplete" in done.out
    assert archive_command._age("8w") == 8 * 604_800
