"""Hostile code in the agent's own interpreter (abuse case AC-70): not stopped, so the keys are to be elsewhere."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

AGENT = """
import sys
from agent_identity import Agent, Enforcer, Human, Scope
where = {} if len(sys.argv) == 2 else {"keys": "unix:" + sys.argv[2]}
with Enforcer.open(sys.argv[1], **where) as enforcer:
    given = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
    with enforcer.task("t", **given), enforcer.action("read"):
        print("acting", flush=True)
        sys.stdin.readline()
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux shows it")


def seeds(root: Path) -> list[bytes]:
    """Return the private keys of issuer and recorder, 32 bytes each."""
    found = []
    for name in ("issuer", "recorder"):
        key = load_pem_private_key((root / "keys" / f"{name}.pem").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        found.append(key.private_bytes_raw())
    return found


def memory(process: int) -> Iterator[bytes]:
    """Yield what a process has in memory that it may write."""
    shown = Path("/proc", str(process))
    with (shown / "mem").open("rb", buffering=0) as memory_:
        for line in (shown / "maps").read_text().splitlines():
            place, rights, *_ = line.split()
            if rights.startswith("rw"):
                start, end = (int(bound, 16) for bound in place.split("-"))
                memory_.seek(start)
                try:
                    yield memory_.read(end - start)
                except OSError:  # A page that is the kernel's.
                    continue


def in_memory(found: list[bytes], *words: str) -> list[bool]:
    """Return which of the keys an agent has in memory in the middle of an action."""
    with subprocess.Popen(
        [sys.executable, "-c", AGENT, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        assert agent.stdout.readline() == "acting\n"
        try:
            parts = list(memory(agent.pid))
        except PermissionError:
            pytest.skip("this machine lets nobody read the memory of another process")
        finally:
            agent.stdin.write("\n")
            agent.stdin.close()
    assert agent.returncode == 0
    return [any(seed in part for part in parts) for seed in found]


def command(*words: str) -> list[str]:
    """Return our command as this interpreter runs it."""
    return [sys.executable, "-m", "agent_identity", *words]


def test_ac_70_with_a_signer_outside_there_are_no_keys_to_steal(tmp_path: Path) -> None:
    """Hostile code reads the whole memory of its process: a plain enforcer has the keys there, a signer's has none."""
    plain, root, evidence = tmp_path / "plain", tmp_path / "signer", tmp_path / "evidence"
    for directory in (plain, root):
        subprocess.run(command("init", str(directory)), check=True, capture_output=True, env=ENVIRONMENT)
    assert in_memory(seeds(plain), str(plain)) == [True, True]
    with tempfile.TemporaryDirectory(prefix="ai-") as folder:
        socket = str(Path(folder, "s"))
        words = command("signer", str(root), "--socket", socket)
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as signer:
            assert signer.stdout is not None
            signer.stdout.readline()
            try:
                assert in_memory(seeds(root), str(evidence), socket) == [False, False]
            finally:
                signer.terminate()
    assert not list(evidence.rglob("*.pem"))
