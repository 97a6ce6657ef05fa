"""The files for containers: closed off, with options that exist; the commands of image and init container run here."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from agent_identity.identity import SigningKey

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "containers"
MANIFESTS = {one["kind"]: one for one in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8"))}
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
DOCKERFILE = (FOLDER / "Dockerfile").read_text("utf-8")
REDIS = shutil.which("redis-server")
DEADLINE = 60.0


SERVICE = MANIFESTS["StatefulSet"]["spec"]["template"]["spec"]
VERIFICATION = MANIFESTS["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def containers(pod: Any) -> list[Any]:
    """Return all containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


@pytest.mark.parametrize("pod", [SERVICE, VERIFICATION], ids=["service", "verification"])
def test_the_pods_are_restricted(pod: Any) -> None:
    """As the profile "restricted" of the Pod Security Standards wants it, and they write to their volumes only."""
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_private_keys_are_where_they_are_needed() -> None:
    """The issuer key of the Secret is with the init container, the keys with the service; the verifier has none."""
    assert [c["name"] for c in containers(SERVICE) if "issuer" in {m["name"] for m in c["volumeMounts"]}] == ["init"]
    assert {m["name"]: m.get("readOnly", False) for m in VERIFICATION["containers"][0]["volumeMounts"]} == {
        "evidence": True,
        "trust": True,
        "tmp": False,
    }


def test_the_service_of_compose_is_closed_off() -> None:
    """It is not root, has no capability, and writes to its volumes only."""
    service = COMPOSE["services"]["agents"]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)


def test_the_commands_exist() -> None:
    """Each command has its options, in scripts as well."""
    lines = [
        word for pod in (SERVICE, VERIFICATION) for container in containers(pod) for word in container.get("args", [])
    ]
    lines.append(" ".join(COMPOSE["services"]["agents"]["healthcheck"]["test"]))
    commands = [found for line in lines for found in re.findall(r"agent-identity (\S+)(.*)", line)]
    assert [name for name, _ in commands] == ["init", "verify", "health"]
    for name, options in commands:
        shown = subprocess.run(
            [sys.executable, "-m", "agent_identity", name, "--help"], capture_output=True, text=True, check=True
        )
        assert [word for word in options.split() if word.startswith("--") and word not in shown.stdout] == []


def free_port() -> int:
    """Return a port that is free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(ready: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < end:
        try:
            if ready():
                return
        except (OSError, httpx.HTTPError):
            pass
        time.sleep(0.05)  # The socket of a starting server announces nothing.
    raise AssertionError(process.args)


class Replica:
    """A replica of the StatefulSet, with folders for its claims."""

    def __init__(self, folder: Path, issuer: Path) -> None:
        self.data, self.keys, self.issuer, self.port = folder / "data", folder / "keys", issuer, free_port()
        for claim in (self.data, self.keys):
            claim.mkdir(parents=True)
            claim.chmod(0o2777)

    def start_in(self, command: list[str]) -> list[str]:
        """Replace the paths of the image by those here."""
        places = {"/data": self.data, "/keys": self.keys, "/issuer": self.issuer, "8000": self.port}
        return [re.sub(r"/(?:data|keys|issuer)(?=/)|\b8000\b", lambda m: str(places[m[0]]), word) for word in command]

    def init(self, bin_folder: Path) -> None:
        """Run the init container."""
        container = SERVICE["initContainers"][0]
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        command = self.start_in([*container["command"], *container["args"]])
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": path})

    @contextmanager
    def served(self, state: str) -> Iterator[subprocess.Popen]:
        """Run the command of the image until it is told to stop."""
        (command,) = re.findall(r"^CMD \[(.*)\]$", DOCKERFILE, re.MULTILINE)
        words = self.start_in([sys.executable, *re.findall(r'"([^"]*)"', command)[1:]])
        own = {"EVIDENCE": f"{self.data}/evidence", "KEYS": f"{self.keys}/own", "STATE": state}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **own}
        with subprocess.Popen(words, cwd=FOLDER, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                wait_for(lambda: self.get(probe("livenessProbe")) == 200, process)
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(DEADLINE)

    def get(self, path: str) -> int:
        """Return the status of an answer."""
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=DEADLINE).status_code

    def operate(self, *words: str) -> int:
        """Run a command on the evidence, and return its exit code."""
        command = [sys.executable, "-m", "agent_identity", words[0], f"{self.data}/evidence", *words[1:]]
        return subprocess.run(command, check=False, capture_output=True).returncode


def probe(name: str) -> str:
    """Return the path of a probe."""
    return SERVICE["containers"][0][name]["httpGet"]["path"]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[str]:
    """Return the address of a Redis."""
    if REDIS is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    with subprocess.Popen([REDIS, "--port", str(port), "--dir", tmp_path], stdout=subprocess.DEVNULL) as server:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None, server)
        yield f"redis://127.0.0.1:{port}/0"
        server.terminate()


@pytest.mark.nightly
def test_replicas_serve_share_revocations_stop_and_come_back(tmp_path: Path, state: str) -> None:
    """With the files of the page, apart from the paths; each ends its streams at SIGTERM."""
    secret = tmp_path / "secret"  # As a Secret is mounted: a link to a file that the group may read.
    (secret / "..data").mkdir(parents=True)
    SigningKey.generate().save(secret / "..data" / "issuer.pem")
    (secret / "..data" / "issuer.pem").chmod(0o440)
    (secret / "issuer.pem").symlink_to("..data/issuer.pem")
    bins = tmp_path / "bin"
    bins.mkdir()
    (bins / "agent-identity").write_text(f'#!/bin/sh\nexec {sys.executable} -m agent_identity "$@"\n')
    (bins / "agent-identity").chmod(0o755)
    replicas = [Replica(tmp_path / f"agents-{number}", secret) for number in range(2)]
    for _ in range(2):  # The second time, the pods come back.
        with ExitStack() as running:
            for replica in replicas:
                replica.init(bins)
                running.enter_context(replica.served(state))
            first, second = replicas
            assert [r.get(probe("readinessProbe")) for r in replicas] == [200, 200]
            assert [r.get("/invoices/INV-42") for r in replicas] == [200, 200]
            stop = ("agent", "invoice-clerk", "--suspend", "--keys", f"{first.keys}/own", "--state", state)
            assert first.operate("revoke", *stop) == 0
            assert [r.get("/invoices/INV-42") for r in replicas] == [403, 403]
            start = ("agent", "invoice-clerk", "--keys", f"{second.keys}/own", "--state", state)
            assert second.operate("reinstate", *start) == 0
            assert [r.get("/invoices/INV-42") for r in replicas] == [200, 200]
        assert [r.operate("verify") for r in replicas] == [0, 0]
