"""SIGKILL at any moment: no effect without an intent, no start that is refused, no false verdict.

Children act under guard in one directory until they are killed: while they open, recover, act, seal, close or exchange
keys. What their tools did stands in a file of its own, and each line of it must have its intent. The short version
kills a few; ``nox -s crash`` kills a thousand, until there are half a million effects.
"""

import itertools
import os
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

import agent_identity
from agent_identity import Enforcer, Report, Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity.options import DigestKeys

LONG = "AGENT_IDENTITY_CRASH" in os.environ
KILLS = 100 if LONG else 6
"""Kills in one directory."""

EFFECTS = 500_000
LIFE = {"process": 0.25, "disk": 0.5}
"""Seconds that a child lives at most."""

EARLY = 0.03
"""Seconds; every third child is killed while it starts."""


@dataclass
class Toll:
    """What the kills of all directories came to."""

    kills: int = 0
    effects: int = 0
    intents: int = 0
    unknown: int = 0
    refused: list[str] = field(default_factory=list)


@contextmanager
def victims(directory: Path, first: int) -> Iterator["subprocess.Popen[str]"]:
    """Return the process that has children to kill."""
    command = [sys.executable, str(Path(__file__).with_name("victims.py")), str(directory), str(first)]
    environment = {**os.environ, "PYTHONPATH": str(Path(agent_identity.__file__).parents[1])}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)


def killed(directory: Path, sync: str, kinds: tuple[str, ...], kills: int, toll: Toll) -> None:
    """Let one child after the other live and die, and go on with longer lives until there is an effect.

    On a slow machine a life may be over before anything is done in it, be it only that the directory is made.
    """
    chance = random.Random(toll.kills)  # noqa: S311  The same lives each time.
    effects, times = directory.parent / "effects", 1
    with victims(directory, toll.kills) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in itertools.count():
            if number >= kills:
                if effects.stat().st_size:
                    break
                times *= 2
            seconds = times * chance.uniform(0, LIFE[sync] if number % 3 else EARLY)
            print(sync, kinds[number % len(kinds)], int(seconds * 1e6), file=process.stdin, flush=True)
            answer = process.stdout.readline().strip()
            toll.kills += 1
            if answer != "-9":
                toll.refused.append(f"{kinds[number % len(kinds)]}: {answer}")


def counted(directory: Path, toll: Toll) -> list[str]:
    """Return the effects that have no intent, each of which names its task and its argument."""
    intents: dict[str, set[str]] = defaultdict(set)
    reader = open_ledger(directory)
    for stream in reader.streams():
        for line in reader.entries(stream):
            if line.record is not None and b'"kind":"intent"' in line.record:
                record = orjson.loads(line.record)
                intents[record["task"]["id"]].add(record["action"]["args"])
    toll.intents += sum(map(len, intents.values()))
    keys, missing = DigestKeys(directory / "keys" / "digests.jsonl"), []
    for line in (directory.parent / "effects").read_text().splitlines():
        task, n = line.split()
        toll.effects += 1
        if keys.digest(task, b'{"n":%d,"task":"%b"}' % (int(n), task.encode())) not in intents[task]:
            missing.append(line)
    return missing


def ended(directory: Path) -> Report:
    """Start once more, close, and return what the auditor says."""
    Enforcer.open(directory).close()
    return Verifier().ledger(directory)


def held(directory: Path, toll: Toll) -> None:
    """Hold the promises against a directory after its kills."""
    live = Verifier().ledger(directory)
    # Children that are killed before their first seal leave records that nothing proves yet: that is not verified.
    sealed = live.counts.get("records", 0) - live.counts.get("unsealed", 0)
    assert live.integrity == ("verified" if sealed else "cannot_tell"), live.findings[:3]
    report = ended(directory)
    missing = counted(directory, toll)
    toll.unknown += report.counts["unknown"]
    assert not missing, f"{len(missing)} effects without an intent"
    assert report.integrity == "verified", report.findings[:3]
    assert report.counts["unsealed"] == 0
    assert report.counts["verified"] == report.counts["records"]


@pytest.mark.sample(2)
@pytest.mark.timeout(0 if LONG else 120)
@pytest.mark.parametrize("sync", ["process", "disk"])
def test_ac_73_no_effect_without_an_intent_whenever_it_is_killed(tmp_path: Path, sync: str) -> None:
    """Functions, threads, coroutines and LangChain tools, killed at any moment: every effect has its intent."""
    pytest.importorskip("langchain_core")
    kinds, toll, round_ = ("function", "threads", "coroutines", "langchain", "rotation"), Toll(), 0
    least = EFFECTS if LONG and sync == "process" else 0
    while toll.kills < (5 * KILLS if LONG else KILLS) or toll.effects < least:
        directory = tmp_path / str(round_) / "evidence"
        directory.parent.mkdir()
        killed(directory, sync, kinds, KILLS, toll)
        held(directory, toll)
        assert not toll.refused
        round_ += 1
    print(f"sync={sync}: {toll.kills} kills, {toll.effects:,} effects, 0 without an intent,", end=" ")  # noqa: T201
    print(f"{toll.intents:,} intents, {toll.unknown} of them with an outcome that nobody knows, 0 refused starts")  # noqa: T201
    assert toll.effects > 0
