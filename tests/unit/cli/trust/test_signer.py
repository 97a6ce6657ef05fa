"""``agent-identity signer``: a real process that holds the keys, and enforcers that have none."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory.open import prepare
from agent_identity.errors import Denied
from agent_identity.identity import RandomIds, SigningKey, SystemClock, TrustStore

Run = Callable[..., tuple[int, str, str]]
PATH = os.pathsep.join(path for path in sys.path if path)


class Signer:
    """The command in a process of its own."""

    def __init__(self, root: Path, path: str, *words: str) -> None:
        self.root, self.path = root, path
        command = [sys.executable, "-m", "agent_identity", "signer", str(root), "--socket", path, *words]
        environment = {**os.environ, "PYTHONPATH": PATH, "PYTHONSAFEPATH": "1"}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()

    def said(self) -> str:
        """Return the next line of standard error."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Stop it, and return its exit code and what it said since."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err

    def work(self, evidence: Path) -> None:
        """Do a task with its keys."""
        with Enforcer.open(evidence, keys=f"unix:{self.path}") as enforcer:
            given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
            with enforcer.task("t", **given), enforcer.action("read"):
                pass


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Signer]]:
    """Starts signers on a directory of their own, and ends them."""
    running: list[Signer] = []
    with tempfile.TemporaryDirectory(prefix="ai-") as folder:

        def start_one(*words: str) -> Signer:
            prepare(tmp_path / "signer", SystemClock(), RandomIds())
            running.append(Signer(tmp_path / "signer", f"{folder}/s", *words))
            return running[-1]

        yield start_one
        for one in running:
            if one.process.poll() is None:
                one.process.kill()
            one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signer_serves_and_ends(start: Callable[..., Signer], tmp_path: Path, number: int) -> None:
    """Evidence verifies with the signer's trust file; a signal ends the process, and takes the socket away."""
    signer = start()
    assert signer.ready == f"signing for 1 user and 0 groups at {signer.path}\n"
    signer.work(tmp_path / "evidence")
    assert signer.stop(number) == (0, "")
    assert not Path(signer.path).exists()
    assert Verifier(tmp_path / "signer" / "trust.json").ledger(tmp_path / "evidence").verdict == "verified"
    assert not list((tmp_path / "evidence").rglob("*.pem"))


def test_keys_of_digests_are_erased_with_the_keys_of_a_signer(
    start: Callable[..., Signer], run: Run, tmp_path: Path
) -> None:
    """The record of the erasure is signed there; without the signer, nothing is erased."""
    signer = start()
    evidence = tmp_path / "evidence"
    signer.work(evidence)
    before = (evidence / "keys" / "digests.jsonl").read_bytes()
    assert run("erase", evidence, "--principal", "alice")[0] == 2
    assert (evidence / "keys" / "digests.jsonl").read_bytes() == before
    code, out, _ = run("erase", evidence, "--principal", "alice", "--keys", f"unix:{signer.path}")
    assert (code, "1 key erased" in out) == (0, True)
    assert Verifier(tmp_path / "signer" / "trust.json").ledger(evidence).verdict == "verified"


def test_a_signer_that_was_killed_is_started_again(start: Callable[..., Signer], tmp_path: Path) -> None:
    """The relic of a socket is no obstacle, and the keys are those from before."""
    first = start()
    first.work(tmp_path / "evidence")
    assert first.stop(signal.SIGKILL)[0] == -signal.SIGKILL
    start().work(tmp_path / "evidence")
    assert Verifier(tmp_path / "signer" / "trust.json").ledger(tmp_path / "evidence").verdict == "verified"


def test_keys_are_rotated_while_the_signer_runs(start: Callable[..., Signer], run: Run, tmp_path: Path) -> None:
    """After the signal, those who come get the new keys, and those who are there keep the old ones."""
    signer = start()
    with Enforcer.open(tmp_path / "evidence", keys=f"unix:{signer.path}") as old:
        code, out, _ = run("keys", "rotate", "--all", signer.root, "--evidence", tmp_path / "evidence")
        assert (code, out.count("  new key  ")) == (0, 2)
        signer.process.send_signal(signal.SIGHUP)
        assert signer.said() == "the keys were read again\n"
        signer.work(tmp_path / "evidence")
        given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
        with old.task("t", **given), old.action("read"):
            pass
    (signer.root / "trust.json").rename(signer.root / "aside")
    signer.process.send_signal(signal.SIGHUP)
    assert signer.said().startswith("the keys stay as they were: ")
    (signer.root / "aside").rename(signer.root / "trust.json")
    trust = TrustStore.load(signer.root / "trust.json")
    assert len(trust.keys) == 4
    assert [key.takes_over is not None for key in trust.keys] == [False, False, False, True]
    report = Verifier(trust).ledger(tmp_path / "evidence")
    assert (report.verdict, report.counts["chains_verified"]) == ("verified", 2)


@pytest.mark.parametrize("words", [("--user", "no such user"), ("--group", "no such group")])
def test_unknown_names_are_told(run: Run, tmp_path: Path, words: tuple[str, str]) -> None:
    """A list with a slip in it would serve others than was meant."""
    code, _, err = run("signer", tmp_path, "--socket", tmp_path / "s", *words)
    assert (code, f"'{words[1]}'" in err) == (2, True)


def test_names_and_ids_are_served(start: Callable[..., Signer], tmp_path: Path) -> None:
    """Users and groups by name or number, and the own user always."""
    signer = start("--user", "root", "--user", "12345", "--group", "root", "--group", "12345")
    users = len({0, 12345, os.geteuid()})
    assert signer.ready.startswith(f"signing for {users} user{'s' * (users > 1)} and 2 groups")
    signer.work(tmp_path / "evidence")
    SigningKey.load(signer.root / "keys" / "issuer.pem")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_ac_17_another_user_can_sign_and_not_read(start: Callable[..., Signer], tmp_path: Path) -> None:
    """The agent under a user of its own gets signatures; the keys are closed to it, and others get nothing."""
    signer = start("--user", "12345")
    program = (
        "import os, sys\n"
        "from agent_identity.identity import SigningKey, SocketSigner\n"
        "key = SigningKey.generate()\n"  # Loads what the other user may not read any more: the interpreter is root's.
        "key.public_key.verify(key.sign(b''), b'')\n"
        "os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))\n"
        "try:\n    open(sys.argv[1])\nexcept PermissionError:\n    print('closed')\n"
        "print(SocketSigner(sys.argv[2], 'recorder').public_key.thumbprint)\n"
    )
    Path(signer.path).parent.chmod(0o755)

    def as_user(number: int) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program, str(signer.root / "keys" / "recorder.pem"), signer.path, str(number)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "PYTHONPATH": PATH}
        )

    served, refused = as_user(12345), as_user(12346)
    key = SigningKey.load(signer.root / "keys" / "recorder.pem").public_key
    assert served.stdout.splitlines() == ["closed", key.thumbprint]
    assert "not_allowed" in refused.stderr
    assert refused.stdout == "closed\n"


def test_an_operator_stops_and_starts_with_the_keys_of_a_signer(
    start: Callable[..., Signer], run: Run, tmp_path: Path
) -> None:
    """The kill switch, its lifting, rulings and registrations are signed for operators, before and after a rotation."""
    signer = start("--operator", str(os.geteuid()))
    evidence, keys = tmp_path / "evidence", ("--keys", f"unix:{signer.path}")
    with Enforcer.open(evidence, keys=f"unix:{signer.path}") as enforcer:
        given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}

        def outcome() -> str:
            try:
                with enforcer.task("t", **given), enforcer.action("read"):
                    return "read"
            except Denied as denied:
                return denied.code

        for _ in range(2):
            assert run("revoke", evidence, "agent", "clerk", "--suspend", *keys)[0] == 0
            assert outcome() == "suspended"
            assert run("reinstate", evidence, "agent", "clerk", *keys)[0] == 0
            assert outcome() == "read"
            assert run("keys", "rotate", "--all", signer.root, "--evidence", evidence)[0] == 0
            signer.process.send_signal(signal.SIGHUP)
            assert signer.said() == "the keys were read again\n"
        words = ("--owner", "ops", "--purpose", "x", "--tool", "read", *keys)
        assert run("agents", "add", evidence, "clerk", *words)[0] == 0
        assert run("inventory", "forget", evidence, "mail", *keys)[0] == 2
    assert Verifier(signer.root / "trust.json").ledger(evidence).verdict == "verified"


def test_without_operators_a_signer_signs_none_of_their_statements(
    start: Callable[..., Signer], run: Run, tmp_path: Path
) -> None:
    """Code in the process of the agents can neither lift a suspension nor register an agent."""
    signer = start()
    evidence, keys = tmp_path / "evidence", ("--keys", f"unix:{signer.path}")
    signer.work(evidence)
    for words in (
        ("revoke", evidence, "agent", "clerk"),
        ("agents", "add", evidence, "clerk", "--owner", "ops", "--purpose", "x", "--tool", "read"),
    ):
        assert run(*words, *keys)[0] == 2
        assert "not_recognised" in signer.said()
