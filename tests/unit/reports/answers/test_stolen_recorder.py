"""A stolen recorder key as the seed of an incident: the log and what others saw of it decide, and no date."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_company import DAY, START, work

from agent_identity import Verifier
from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity.answers import Evidence, Seed, incident
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError
from agent_identity.identity import TrustStore

CALLS = 6
"""Calls of one run of the company: three of the clerk, two of the helper, and one outside any task."""
THEFT = START + 5 * DAY


def recorder(directory: Path) -> str:
    """Return the thumbprint of the recorder key."""
    (key,) = (one for one in TrustStore.load(directory / "trust.json").keys if one.purpose == "recorder")
    return key.key.thumbprint


def asked(directory: Path, checkpoint: Path | None = None, *, at: int = THEFT, **options: Any) -> IncidentReport:
    """Ask what the theft of the recorder key at a second leaves in doubt."""
    seed = Seed("key", recorder(directory), at * 10**9)
    return incident(Evidence(sources=directory, **options), seed, checkpoint=checkpoint)


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[int], tuple[Path, Path]]:
    """Returns what works twice, and keeps the checkpoint in between elsewhere."""

    def work_twice(second: int) -> tuple[Path, Path]:
        work(tmp_path / "e")
        (tmp_path / "kept").write_bytes((tmp_path / "e" / "log" / "checkpoint").read_bytes())
        work(tmp_path / "e", start=second)
        return tmp_path / "e", tmp_path / "kept"

    return work_twice


@pytest.mark.parametrize("second", [START + 10 * DAY, START - 10 * DAY, START + 4 * DAY])
def test_only_what_the_kept_checkpoint_does_not_cover_is_in_doubt(
    kept: Callable[[int], tuple[Path, Path]], second: int
) -> None:
    """Whatever date the holder of the key wrote: what stands later in the log is in doubt."""
    directory, checkpoint = kept(second)
    found = asked(directory, checkpoint)
    assert found.calls == CALLS
    assert {entry.at_ns // 10**9 // DAY for entry in found.timeline if entry.kind == "call"} == {second // DAY}
    assert found.proof == "recorded"
    assert {hop.proof for hop in found.authority} == {"recorded"}
    assert found.frame.verdict == "verified"


def test_without_a_kept_checkpoint_everything_is_in_doubt(kept: Callable[[int], tuple[Path, Path]]) -> None:
    """A date in a record shows nothing, so the calls from long before the theft are in doubt as well."""
    directory, _ = kept(START + 10 * DAY)
    assert asked(directory).calls == 2 * CALLS
    seed = Seed("key", recorder(directory))
    assert incident(Evidence(sources=directory), seed).calls == 2 * CALLS


def test_a_checkpoint_over_records_dated_after_the_theft_shows_nothing(
    kept: Callable[[int], tuple[Path, Path]],
) -> None:
    """What the checkpoint covers was written after the theft by its own dates, so it is no older one."""
    directory, checkpoint = kept(START + 10 * DAY)
    assert asked(directory, checkpoint, at=START).calls == 2 * CALLS


def test_what_is_in_doubt_is_what_verify_does_not_prove_once_the_key_is_revoked(
    kept: Callable[[int], tuple[Path, Path]],
) -> None:
    """The report before the revocation and the verification after it judge alike."""
    directory, checkpoint = kept(START + 10 * DAY)
    before = Verifier().ledger(directory, checkpoint=checkpoint)
    found = asked(directory, checkpoint)
    revoke = next(command for command in found.commands if " keys revoke " in command)
    assert main(shlex.split(revoke)[1:]) == 0
    after = Verifier().ledger(directory, checkpoint=checkpoint)
    assert (before.verdict, after.verdict) == ("verified", "contradicted")
    records = {entry.record for entry in found.timeline}
    assert before.counts["verified"] - after.counts["verified"] >= len(records) - 1
    assert asked(directory, checkpoint).calls == CALLS


def test_a_recorder_key_is_judged_by_the_log_or_not_at_all(kept: Callable[[int], tuple[Path, Path]]) -> None:
    """Without verification there is no answer, and another key is none of a recorder."""
    directory, _ = kept(START + 10 * DAY)
    with pytest.raises(ConfigurationError, match="verify"):
        asked(directory, unverified=True)
    assert incident(Evidence(sources=directory), Seed("key", "other")).calls == 0


def test_the_command_takes_the_kept_checkpoint(
    kept: Callable[[int], tuple[Path, Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is part of the command that the report states, and goes with a key alone."""
    directory, checkpoint = kept(START + 10 * DAY)
    words = ["--after", "2025-11-29T16:00:00Z", "--checkpoint", str(checkpoint), "--"]
    assert main(["report", "incident", *words, f"key:{recorder(directory)}", str(directory)]) == 0
    printed = capsys.readouterr().out
    assert f": {CALLS} calls" in printed
    assert f"--checkpoint {checkpoint}" in printed
    assert main(["report", "incident", "--checkpoint", str(checkpoint), "agent:clerk", str(directory)]) == 2


def test_a_bundle_is_judged_like_its_directory(kept: Callable[[int], tuple[Path, Path]], tmp_path: Path) -> None:
    """The log and the keys in it are those of the directory; a bundle is not revoked, so that there is no command."""
    directory, checkpoint = kept(START + 10 * DAY)
    assert main(["bundle", str(directory), "-o", str(tmp_path / "b.zip")]) == 0
    seed = Seed("key", recorder(directory), THEFT * 10**9)
    sources = Evidence(sources=tmp_path / "b.zip", trust=directory / "trust.json")
    found = incident(sources, seed, checkpoint=checkpoint)
    assert (found.calls, found.proof, found.commands) == (CALLS, "recorded", ())
