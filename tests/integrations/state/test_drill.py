"""The drill: 20 processes of four machines on one store, suspended by one command, and reinstated."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity import Verifier
from agent_identity.cli import main
from agent_identity.identity import TrustStore

MEMBER = Path(__file__).with_name("member.py")
MACHINES, PROCESSES = 4, 20
DEADLINE = 120.0


class Fleet:
    """The processes, and what they noted."""

    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder = folder
        self.directories = [folder / f"machine-{number}" for number in range(MACHINES)]
        self.store = ("--state", url, "--prefix", prefix)
        self._trust()
        self.notes = [folder / f"notes-{number}" for number in range(PROCESSES)]
        words = [(str(self.directories[number % MACHINES]), url, prefix) for number in range(PROCESSES)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self.processes = [
            subprocess.Popen([sys.executable, MEMBER, *word, note, folder / "stop"], env=environment)
            for word, note in zip(words, self.notes, strict=True)
        ]

    def _trust(self) -> None:
        """Give each machine a trust file with the issuer keys of all."""
        for directory in self.directories:
            assert main(["init", str(directory)]) == 0
        stores = [TrustStore.load(directory / "trust.json") for directory in self.directories]
        issuers = [key for store in stores for key in store.keys if key.purpose == "issuer"]
        for directory, store in zip(self.directories, stores, strict=True):
            recorders = [key for key in store.keys if key.purpose == "recorder"]
            uri, origin = "https://agents.example.com", store.origin
            shared = TrustStore(keys=(*issuers, *recorders), issuer=uri, origin=origin)
            shared.save(directory / "trust.json")

    def calls(self, number: int) -> list[tuple[int, str, int]]:
        """Return the calls of a process: when it asked, what became of it, and when."""
        if not self.notes[number].exists():
            return []
        rows = [line.split() for line in self.notes[number].read_text(encoding="ascii").splitlines(keepends=False)]
        return [(int(row[0]), row[1], int(row[2])) for row in rows if len(row) == 3]

    def until_all(self, what: str, after: int) -> None:
        """Wait until the last call of each process, asked after a time, had a result."""
        end = time.monotonic() + DEADLINE
        for number in range(PROCESSES):
            while not any(asked > after and result == what for asked, result, _ in self.calls(number)):
                assert time.monotonic() < end, f"process {number} did not become {what}"
                assert self.processes[number].poll() is None
                time.sleep(0.05)

    def run(self, *words: str) -> int:
        """Run a command of the operator on the first machine; return when it had ended."""
        assert main([words[0], str(self.directories[0]), *words[1:], *self.store]) == 0
        return time.monotonic_ns()


@pytest.fixture(params=["redis", "postgres"])
def fleet(request: pytest.FixtureRequest, share: Callable[[str], object], tmp_path: Path) -> Iterator[Fleet]:
    shared = share(request.param)
    url, _, prefix = shared.address.rpartition("#")
    made = Fleet(tmp_path, url, prefix)
    yield made
    (tmp_path / "stop").touch()
    for process in made.processes:
        process.wait(DEADLINE)


@pytest.mark.nightly
def test_one_command_stops_twenty_processes_of_four_machines(fleet: Fleet) -> None:
    """Once the command has ended no body begins, and the next call of each is refused within a second."""
    fleet.until_all("ran", 0)
    stopped = fleet.run("revoke", "agent", "clerk", "--suspend")
    fleet.until_all("suspended", stopped)
    time.sleep(2)
    again = time.monotonic_ns()
    fleet.run("reinstate", "agent", "clerk")
    fleet.until_all("ran", again)
    waits = []
    for number in range(PROCESSES):
        calls = fleet.calls(number)
        late = [begun for asked, result, begun in calls if result == "ran" and stopped < begun < again]
        assert late == []
        first = next((asked, result, done) for asked, result, done in calls if asked > stopped)
        assert first[1] == "suspended"
        waits.append((first[2] - stopped) / 1e9)
    assert max(waits) < 1, f"the last process was refused {max(waits):.2f} s after the command"
    (fleet.folder / "stop").touch()
    assert [process.wait(DEADLINE) for process in fleet.processes] == [0] * PROCESSES
    for directory in fleet.directories:
        assert Verifier(directory / "trust.json").ledger(directory).verdict == "verified"
