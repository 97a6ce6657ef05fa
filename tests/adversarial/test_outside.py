"""Witnesses and anchors: what other parties prove against a person with the directory, or with the key.

The witnesses are real processes, the time-stamp authority is ``openssl ts`` over HTTP.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TypeVar

import pytest

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity._directory.rotation import revoke
from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity._ledger.transparency.witness import Witness, WitnessState, request_for
from agent_identity._storage.layout import Layout
from agent_identity.cli.trust.witness import WitnessServer
from agent_identity.identity import RandomIds, SigningKey, SystemClock, TrustStore
from agent_identity.options import Transparency

from ..integrations.timestamp_authority import TimestampAuthority  # noqa: TID252  Tests are no package.

PATH = os.pathsep.join(path for path in sys.path if path)
PARTIES = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
WAIT = 60.0


class Client:
    """What tests ask of a witness over HTTP."""

    url = ""
    vkey = ""

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def post(self, body: bytes) -> int:
        """Post a request and return the status."""
        return self.ask("POST", "/add-checkpoint", body)[0]

    def latest(self, origin: str) -> bytes:
        """Return the latest checkpoint that it cosigned."""
        status, note = self.ask("GET", f"/{sha256(origin.encode()).hexdigest()}/checkpoint")
        assert status == 200
        return note

    def ask(self, method: str, path: str, body: bytes | Iterator[bytes] | None = None) -> tuple[int, bytes]:
        """Send a request and return status and body of the answer."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=WAIT)) as connection:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def announce(self, method: str, path: str, header: tuple[str, str]) -> int:
        """Send a request without the body that it announces, and return the status: it was refused before."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=WAIT)) as connection:
            connection.putrequest(method, path)
            connection.putheader(*header)
            connection.endheaders()
            return connection.getresponse().status


class WitnessThread(Client):
    """The server of ``agent-identity witness`` in this process."""

    def __init__(self, folder: Path, name: str, trust: Path) -> None:
        folder.mkdir()
        store = TrustStore.load(trust)
        logs = {store.origin or "": [key.key for key in store.keys if key.purpose == "recorder"]}
        self._state = WitnessState(folder / "state", new=True)
        witness = Witness(name, SigningKey.generate(), logs, self._state, SystemClock())
        self._server = WitnessServer(("127.0.0.1", 0), witness)
        self.vkey = witness.cosigner.vkey
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        """End it; once more does nothing."""
        if not self._thread.is_alive():
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._state.close()


class WitnessProcess(Client):
    """``agent-identity witness`` in a process of its own."""

    def __init__(self, folder: Path, name: str, trust: Path) -> None:
        self.folder, self.trust, self.name = folder, trust, name
        folder.mkdir()
        SigningKey.generate().save(folder / "key.pem")
        self.start("--new")

    def start(self, *words: str, port: int = 0) -> None:
        """Start it on its state, and wait until it serves."""
        command = [sys.executable, "-m", "agent_identity", "witness", "--name", self.name, *words]
        command += ["--key", self.folder / "key.pem", "--state", self.folder / "state", "--trust", self.trust]
        command += ["--listen", f"127.0.0.1:{port}"]
        environment = {**os.environ, "PYTHONPATH": PATH, "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert self.process.stdout is not None
        self.vkey = self.process.stdout.readline().strip()
        self.url = self.process.stdout.readline().rpartition(" ")[2].strip()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, in whatever way."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate(timeout=WAIT)


Kind = TypeVar("Kind", WitnessThread, WitnessProcess)


@dataclass
class Room:
    """A directory, the copy of its trust file that an auditor has, and witnesses."""

    path: Path
    running: list[WitnessThread | WitnessProcess] = field(default_factory=list)

    @property
    def evidence(self) -> Path:
        """The directory."""
        return self.path / "evidence"

    @property
    def trust(self) -> Path:
        """The copy of the trust file."""
        return self.path / "trust.json"

    def witness(self) -> WitnessThread:
        """Start one more witness."""
        return self._add(WitnessThread)

    def process(self) -> WitnessProcess:
        """Start one more witness, in a process of its own."""
        return self._add(WitnessProcess)

    def _add(self, kind: type[Kind]) -> Kind:
        number = len(self.running)
        made = kind(self.path / f"w{number}", f"w{number}.example/1", self.trust)
        self.running.append(made)
        return made

    def work(self, directory: Path | None = None, *, witnessed: bool = True) -> dict[str, str]:
        """Have a process come, work and go; return what did not work."""
        witnesses = {one.url: one.vkey for one in self.running} if witnessed else {}
        enforcer = Enforcer.open(directory or self.evidence, transparency=Transparency(witnesses=witnesses))
        with enforcer, enforcer.task("t", **PARTIES), enforcer.action("read"):
            pass
        own = {"ledger", "state"}  # They are closed.
        return {name: why for name, why in enforcer.degraded.items() if name not in own}

    def check(self, directory: Path | None = None, require: int | None = None, **options: object) -> Report:
        """Verify as an auditor who trusts the witnesses."""
        verifier = Verifier(self.trust, witnesses=[one.vkey for one in self.running], require=require)
        return verifier.ledger(directory or self.evidence, **options)


def codes(report: Report) -> set[str]:
    """Return the codes of what does harm."""
    return {item.code for item in report.findings if item.severity != "notice"}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Return a room with a directory in which nothing was recorded."""
    made = Room(tmp_path)
    prepare(made.evidence, SystemClock(), RandomIds())
    shutil.copy(made.evidence / "trust.json", made.trust)
    yield made
    for one in made.running:
        one.stop()


def test_ac_99_two_histories_are_not_both_cosigned(room: Room) -> None:
    """Two auditors who trust the same two witnesses cannot both be shown a verified history of one log."""
    room.process()
    room.process()
    assert room.work() == {}
    other = room.path / "other"
    shutil.copytree(room.evidence, other)
    assert room.work() == {}
    refused = room.work(other)
    assert len(refused) == 2
    assert all("second history" in fault for fault in refused.values())
    first, second = room.check(), room.check(other)
    assert (first.verdict, codes(first)) == ("verified", set())
    witnessed = {item.name for item in first.signatures if item.role == "witness"}
    assert witnessed == {"w0.example/1", "w1.example/1"}
    assert (second.verdict, codes(second)) == ("incomplete", {"tail_unwitnessed"})
    assert (Verifier(room.trust).ledger(other).verdict, second.integrity) == ("verified", "verified")
    # With the cosignatures of the other history beside it, or with none, it is no better.
    shutil.rmtree(other / "log" / "witnesses")
    bare = room.check(other)
    assert (bare.verdict, codes(bare)) == ("cannot_tell", {"not_witnessed"})
    shutil.copytree(room.evidence / "log" / "witnesses", other / "log" / "witnesses")
    caught = room.check(other)
    assert (caught.verdict, codes(caught)) == ("contradicted", {"rolled_back"})


def test_ac_99_a_quorum_lets_one_witness_fail(room: Room) -> None:
    """With two of three required, one dead witness delays nothing, is seen, and costs no proof; two dead ones do."""
    three = [room.witness() for _ in range(3)]
    assert room.work() == {}
    three[0].stop()
    assert list(room.work()) == ["the witness w0.example/1"]
    assert room.check(require=2).verdict == "verified"
    assert codes(room.check()) == {"tail_unwitnessed"}
    three[1].stop()
    assert len(room.work()) == 2
    report = room.check(require=2)
    assert (report.verdict, codes(report)) == ("incomplete", {"tail_unwitnessed"})
    assert room.check(require=1).verdict == "verified"


def test_ac_99_a_killed_witness_remembers(room: Room) -> None:
    """Killed with SIGKILL at any moment under load, a witness never cosigns a second history afterwards."""
    one = room.process()
    key = SigningKey.load(room.evidence / "keys" / "recorder.pem")
    origin = TrustStore.load(room.trust).origin or ""

    def note(history: int) -> bytes:
        text = Checkpoint(origin, 1, sha256(b"%d" % history).digest()).to_text()
        return sign_note(text, origin, key)

    def ask(answers: list[tuple[int, int]], history: int) -> None:
        with suppress(OSError, HTTPException):
            answers.append((history, one.post(request_for(0, (), note(history)))))

    accepted: set[int] = set()
    turns = int(os.environ.get("AGENT_IDENTITY_WITNESS_KILLS", "2"))
    for turn in range(turns):
        answers: list[tuple[int, int]] = []
        threads = [threading.Thread(target=ask, args=(answers, 8 * turn + number)) for number in range(8)]
        for thread in threads:
            thread.start()
        if turn % 2:
            threads[0].join()
        one.stop(signal.SIGKILL)
        for thread in threads:
            thread.join()
        accepted |= {history for history, status in answers if status == 200}
        assert all(status in {200, 409, 422} for _, status in answers)
        one.start(port=one.port)
    ask(answers := [], 0)  # Where each kill came before any was remembered, this is the one.
    accepted |= {history for history, status in answers if status == 200}
    # The one that is remembered is cosigned again, and no other, whether or not its answer came before the kill.
    again = {history for history in range(8 * turns) if one.post(request_for(1, (), note(history))) == 200}
    assert len(again) == 1
    assert accepted <= again


def test_ac_95_a_cut_tail_is_found_by_what_the_witness_cosigned(room: Room) -> None:
    """Records that are cut off together with the log and its checkpoint are missed by whoever knows the witness."""
    one = room.witness()
    room.work()
    before = {path: path.read_bytes() for path in (room.evidence / "log").iterdir() if path.is_file()}
    streams = {path.name for path in (room.evidence / "ledger").iterdir()}
    room.work()
    for path in (room.evidence / "ledger").iterdir():
        if path.name not in streams:
            shutil.rmtree(path)
    for path, data in before.items():
        path.write_bytes(data)
    assert Verifier(room.trust).ledger(room.evidence).verdict == "verified"
    report = room.check()
    assert (report.verdict, codes(report)) == ("contradicted", {"rolled_back"})
    shutil.rmtree(room.evidence / "log" / "witnesses")
    assert codes(room.check()) == {"not_witnessed"}
    kept = one.latest(TrustStore.load(room.trust).origin or "")
    assert "rolled_back" in codes(room.check(checkpoint=kept))


def test_ac_96_an_emptied_log_is_found(room: Room) -> None:
    """A directory that was emptied and begun anew under the same keys is not verified for whoever knows the witness."""
    one = room.witness()
    room.work()
    kept = one.latest(TrustStore.load(room.trust).origin or "")
    for part in ("log", "ledger"):
        shutil.rmtree(room.evidence / part)
    (room.evidence / "keys" / "ledger.key").unlink()
    assert Verifier(room.trust).ledger(room.evidence, checkpoint=kept).exit_code != 0
    faults = room.work()
    assert list(faults) == ["the witness w0.example/1"]
    assert Verifier(room.trust).ledger(room.evidence).verdict == "verified"
    report = room.check()
    assert (report.verdict, codes(report)) == ("cannot_tell", {"not_witnessed"})
    assert room.check(checkpoint=kept).verdict == "contradicted"


def test_ac_98_a_ledger_that_was_put_back_is_found(room: Room) -> None:
    """Yesterday's directory, cosignatures and all, does not pass for today's: the witness says what it saw last."""
    one = room.witness()
    room.work()
    yesterday = room.path / "yesterday"
    shutil.copytree(room.evidence, yesterday)
    room.work()
    room.work()
    shutil.rmtree(room.evidence)
    shutil.copytree(yesterday, room.evidence)
    kept = one.latest(TrustStore.load(room.trust).origin or "")
    report = room.check(checkpoint=kept)
    assert (report.verdict, codes(report)) == ("contradicted", {"rolled_back"})
    # And the process that goes on with it is told so at once.
    assert "put back" in room.work()["the witness w0.example/1"]
    assert codes(room.check()) == {"tail_unwitnessed"}


def test_a_witness_refuses_what_is_no_request(room: Room) -> None:
    """Whatever a stranger sends, a witness answers with an error of its own and goes on."""
    one = room.witness()
    origin = TrustStore.load(room.trust).origin or ""
    for method, path, body, status in (
        ("POST", "/add-checkpoint", b"", 400),
        ("POST", "/add-checkpoint", b"old 0\n\nelse.example\n", 404),
        ("POST", "/elsewhere", b"x", 404),
        ("GET", f"/{sha256(origin.encode()).hexdigest()}/checkpoint", None, 404),
        ("GET", "/", None, 404),
    ):
        assert one.ask(method, path, body)[0] == status, path
    for method, header, status in (
        ("POST", ("Content-Length", "200000"), 413),
        ("POST", ("Transfer-Encoding", "chunked"), 411),
        ("PUT", ("Content-Length", "1"), 501),
    ):
        assert one.announce(method, "/add-checkpoint", header) == status
    assert room.work() == {}


# AC-17 with other parties


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[TimestampAuthority]:
    """Return a time-stamp authority that runs."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here, which is the authority")
    pytest.importorskip("rfc3161_client", reason="the extra 'anchors' is not installed")
    with TimestampAuthority(tmp_path / "tsa") as one:
        yield one


def stolen(room: Room) -> Path:
    """Say in the auditor's trust file that the recorder key was stolen some seconds after all that was done."""
    key = SigningKey.load(room.evidence / "keys" / "recorder.pem").public_key
    revoke(room.trust, key.thumbprint, since=int(time.time()) + 4)
    return room.trust


def test_ac_17_what_was_time_stamped_before_the_theft_stays_verified(room: Room, authority: TimestampAuthority) -> None:
    """A time-stamp from before a theft keeps its records verified; of later ones, and without it, nobody can tell."""
    from agent_identity.integrations.rfc3161 import Anchor, Authority

    timestamps = Authority.load(authority.certificate)
    room.work()
    Anchor(room.evidence, authority.url).stamp((room.evidence / "log" / "checkpoint").read_bytes())
    stolen(room)
    assert codes(Verifier(room.trust).ledger(room.evidence)) == {"key_revoked"}
    assert Verifier(room.trust, timestamps=timestamps).ledger(room.evidence).verdict == "verified"
    room.work()
    report = Verifier(room.trust, timestamps=timestamps).ledger(room.evidence)
    assert (report.verdict, codes(report)) == ("cannot_tell", {"key_revoked"})
    assert report.counts["verified"] == report.counts["records"] / 2


def test_ac_17_a_time_stamp_after_the_theft_shows_nothing(room: Room, authority: TimestampAuthority) -> None:
    """What the thief has time-stamped after the theft does not make it older."""
    from agent_identity.integrations.rfc3161 import Anchor, Authority

    room.work()
    key = SigningKey.load(room.evidence / "keys" / "recorder.pem").public_key
    since = int(time.time()) + 1
    Anchor(room.evidence, authority.url).stamp((room.evidence / "log" / "checkpoint").read_bytes())
    revoke(room.trust, key.thumbprint, since=since)
    report = Verifier(room.trust, timestamps=Authority.load(authority.certificate)).ledger(room.evidence)
    assert report.verdict == "cannot_tell"
    assert "key_revoked" in codes(report)


def test_ac_17_a_rewritten_history_is_not_the_one_that_was_time_stamped(
    room: Room, authority: TimestampAuthority
) -> None:
    """A thief who writes another history beside the old time-stamps is contradicted by them."""
    from agent_identity.integrations.rfc3161 import Anchor, Authority

    other = room.path / "other"
    shutil.copytree(room.evidence, other)
    room.work()
    Anchor(room.evidence, authority.url).stamp((room.evidence / "log" / "checkpoint").read_bytes())
    room.work(other)
    shutil.copytree(Layout.of(room.evidence).anchors, Layout.of(other).anchors)
    report = Verifier(room.trust, timestamps=Authority.load(authority.certificate)).ledger(other)
    assert (report.verdict, codes(report)) == ("contradicted", {"rolled_back"})


def test_ac_17_what_a_witness_cosigned_before_the_theft_stays_verified(room: Room) -> None:
    """A cosignature has a time as well, which is not the thief's to choose."""
    room.witness()
    assert room.work() == {}
    stolen(room)
    assert codes(Verifier(room.trust).ledger(room.evidence)) == {"key_revoked"}
    assert room.check().verdict == "verified"
