"""``agent-identity bundle``: its receiver installs the verifier from the bundle, and can tell whether it is ours."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent_identity.cli import main
from agent_identity.version import VERSION


def _made(evidence: Path, trust: Path, target: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["bundle", str(evidence), "-o", str(target), "--trust", str(trust), "--json"]) == 0
    told: dict[str, str] = json.loads(capsys.readouterr().out)["verifier"]
    return told


def test_the_verifier_in_a_bundle_has_the_digest_that_the_command_and_the_page_in_it_name(
    evidence: Path, trust: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wheel is there, its SHA-256 is what the maker printed, and a second bundle has the same bytes."""
    told = _made(evidence, trust, tmp_path / "one.zip", capsys)
    with zipfile.ZipFile(tmp_path / "one.zip") as bundle:
        wheel, page = bundle.read(f"verifier/{told['wheel']}"), bundle.read("README.txt").decode()
    assert told["wheel"] == f"agent_identity_otel-{VERSION}-py3-none-any.whl"
    assert hashlib.sha256(wheel).hexdigest() == told["sha256"]
    assert told["sha256"] in page
    assert told["wheel"] in page
    _made(evidence, trust, tmp_path / "two.zip", capsys)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_verifier_in_a_bundle_installs_and_verifies_it(
    evidence: Path, trust: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pip installs the wheel, and the installed command verifies the bundle that brought it."""
    told = _made(evidence, trust, tmp_path / "b.zip", capsys)
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        bundle.extract(f"verifier/{told['wheel']}", tmp_path)
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    wheel = tmp_path / "verifier" / told["wheel"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True, timeout=120)
    code = "import agent_identity, sys; from agent_identity.cli import main; print(agent_identity.__file__); main()"
    command = [sys.executable, "-c", code, "verify", str(tmp_path / "b.zip"), "--trust", str(trust)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert str(site / "agent_identity") in done.stdout
    assert "VERIFIED" in done.stdout
