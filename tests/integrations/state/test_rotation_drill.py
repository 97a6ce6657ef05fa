"""The rotation drill: three services on one store get new keys and a new root, and nothing stands still."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_identity import Verifier
from agent_identity.cli import main
from agent_identity.identity import PublicKey, SigningKey, TrustStore

MEMBER = Path(__file__).with_name("rotating_member.py")
SERVICES = ("orders", "billing", "mail")
DEADLINE = 60.0


class Services:
    """Three services, two processes each; each hands jobs to the next."""

    def __init__(self, folder: Path, url: str, prefix: str) -> None:
        self.folder, self.url, self.prefix = folder, url, prefix
        self.running: dict[str, list[tuple[subprocess.Popen, Path]]] = {name: [] for name in SERVICES}
        self.notes: list[Path] = []
        self.root = self.new_root("first")
        for name in SERVICES:
            SigningKey.generate().save(folder / f"{name}.key")
            (folder / f"jobs-{name}").mkdir()
            self.run("init", name, "--issuer", "https://agents.example.com", "--origin", "fleet.example/")
        for name in SERVICES:
            self.run("trust", "add", name, "root", "first.pem", "--origin", "fleet.example/")
            for other in set(SERVICES) - {name}:
                self.run("trust", "add", name, "issuer", f"{other}/keys/issuer.pem")
            self.run("trust", "sign", f"{name}/trust.json", "--root", "first.pem", "--first")

    def run(self, *words: str) -> int:
        """Run a command of the operator, and return when it had ended."""
        places = {*SERVICES, *(f"{name}/trust.json" for name in SERVICES), *(f"{n}/keys/issuer.pem" for n in SERVICES)}
        given = [
            str(self.folder / word) if word in places or word.endswith((".pem", ".json")) else word for word in words
        ]
        assert main(given) == 0, words
        return time.monotonic_ns()

    def new_root(self, name: str) -> Path:
        """Make a root, and return the file with its public key."""
        key = SigningKey.generate()
        key.save(self.folder / f"{name}.pem")
        public = self.folder / f"{name}.jwk"
        public.write_text(json.dumps(key.public_key.to_jwk()))
        return public

    def issuer(self, name: str) -> str:
        """Return the thumbprint of the issuer key with which a service signs now."""
        return SigningKey.load(self.folder / name / "keys" / "issuer.pem").public_key.thumbprint

    def since(self, name: str) -> str:
        """Return since when that key counts."""
        entry = TrustStore.load(self.folder / name / "trust.json").get(self.issuer(name), "issuer")
        assert entry is not None
        assert entry.not_before is not None
        return datetime.fromtimestamp(entry.not_before, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def start(self, name: str) -> None:
        """Start one more process of a service, and wait until it serves."""
        notes = self.folder / f"notes-{len(self.notes)}"
        self.notes.append(notes)
        onward = SERVICES[(SERVICES.index(name) + 1) % len(SERVICES)]
        words = [self.folder, name, onward, self.url, self.prefix, self.root, notes]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen([sys.executable, MEMBER, *map(str, words)], env=environment)
        self.running[name].append((process, notes))
        self.until("call", "ran", 0, [(process, notes)])

    def restart(self, name: str) -> None:
        """Replace each process of a service, a new one first."""
        for process, _ in tuple(self.running[name]):
            self.start(name)
            self.end(process)
            self.running[name].pop(0)

    def end(self, process: subprocess.Popen) -> None:
        """End a process in order."""
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0

    def until(
        self, what: str, result: str, after: int, members: list[tuple[subprocess.Popen, Path]] | None = None
    ) -> None:
        """Wait until each process had a result that began after a time."""
        end = time.monotonic() + DEADLINE
        for process, notes in members or [member for group in self.running.values() for member in group]:
            while not any(row[0] == what and row[1] > after and row[2] == result for row in rows(notes)):
                assert process.poll() is None
                assert time.monotonic() < end, f"{notes} has no {what} with {result}: {rows(notes)[-3:]}"
                time.sleep(0.05)  # Another process writes the notes.

    def until_jobs(self, after: int) -> None:
        """Wait until each service has done a job that came after a time."""
        end = time.monotonic() + DEADLINE
        for group in self.running.values():
            while not any(r[0] == "job" and r[1] > after and r[2] == "ran" for _, notes in group for r in rows(notes)):
                assert time.monotonic() < end
                time.sleep(0.05)  # As above.


def rows(notes: Path) -> list[tuple[str, int, str, int]]:
    """Return what a process noted: what, when it began, its result, when it ended."""
    lines = notes.read_text("ascii").splitlines(keepends=True) if notes.exists() else []
    parts = [line.split() for line in lines if line.endswith("\n")]
    return [(what, int(began), result, int(ended)) for what, began, result, ended in parts]


def thumbprint(public: Path) -> str:
    """Return how commands name a key."""
    return PublicKey.from_jwk(json.loads(public.read_text())).thumbprint


@pytest.fixture
def services(share: Callable[[str], object], tmp_path: Path) -> Iterator[Services]:
    url, _, prefix = share("redis").address.rpartition("#")
    made = Services(tmp_path, url, prefix)
    yield made
    for group in made.running.values():
        for process, _ in group:
            process.kill()
            process.wait(DEADLINE)


@pytest.mark.nightly
def test_new_keys_and_a_new_root_under_traffic(services: Services) -> None:
    """No call and no job is refused but for the suspension, and the new trust verifies all that was recorded."""
    for name in SERVICES:
        services.start(name)
        services.start(name)
    services.until_jobs(0)

    before = {name: services.issuer(name) for name in SERVICES}
    for name in SERVICES:  # New keys, and each other service learns the issuer's.
        services.run("keys", "rotate", "--all", name, "--overlap", "1h", "--root", "first.pem")
        for other in set(SERVICES) - {name}:
            words = (f"{name}/keys/issuer.pem", "--from", services.since(name), "--root", "first.pem")
            services.run("trust", "add", other, "issuer", *words)
        services.restart(name)
    services.until_jobs(time.monotonic_ns())

    second = services.new_root("second")
    for name in SERVICES:
        services.run("trust", "add", name, "root", "second.pem", "--origin", "fleet.example/", "--root", "first.pem")
        services.run("trust", "remove", name, "-o", f"{name}.json", "--", thumbprint(services.root))
        services.run(
            "trust",
            "sign",
            f"{name}.json",
            "--root",
            "second.pem",
            "--after",
            f"{name}/trust.json",
            "-o",
            f"{name}/trust.json",
        )
    services.root = second
    for name in SERVICES:
        services.restart(name)
    services.until_jobs(time.monotonic_ns())

    store = ("--state", services.url, "--prefix", services.prefix)
    asked = time.monotonic_ns()
    stopped = services.run("revoke", "orders", "agent", "clerk", "--suspend", *store)
    services.until("call", "suspended", stopped)
    services.run("reinstate", "mail", "agent", "clerk", *store)
    again = time.monotonic_ns()
    services.until("call", "ran", again)
    services.until_jobs(again)

    keys = TrustStore.load(services.folder / "orders" / "trust.json").keys
    stolen = next(key for key in keys if key.purpose == "recorder" and key.not_after is not None)
    since = str(int(time.time()))
    services.run("keys", "revoke", "orders", "--since", since, "--root", "second.pem", "--", stolen.key.thumbprint)
    services.until_jobs(time.monotonic_ns())
    for group in services.running.values():
        for process, _ in group:
            services.end(process)

    found = [row for notes in services.notes for row in rows(notes)]
    refused = [row for row in found if row[2] != "ran"]
    assert {row[2] for row in refused} == {"suspended"}
    assert [row for row in refused if row[3] < asked or row[1] > again] == []
    assert Counter(row[0] for row in found)["job"] > 50
    for name in SERVICES:  # Nothing waits under the old issuers any more, whose ends only their own files state.
        for other in set(SERVICES) - {name}:
            services.run("trust", "remove", name, "--root", "second.pem", "--", before[other])
    services.run(
        "trust", "init", "fleet.json", "--id", "urn:example:fleet", "--root", "second.pem", "--origin", "fleet.example/"
    )
    services.run("trust", "merge", "fleet.json", *SERVICES, "-o", "draft.json")
    services.run("trust", "sign", "draft.json", "--root", "second.pem", "--after", "fleet.json", "-o", "fleet.json")
    report = Verifier(services.folder / "fleet.json").fleet(*(services.folder / name for name in SERVICES))
    assert report.verdict == "verified", report
