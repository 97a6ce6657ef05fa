"""The programs in ``examples`` do what they say."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SECONDS = 180


def run(folder: Path, *command: str) -> tuple[int, str, str]:
    """Run a program of Python in a folder; nothing that it started outlives a failure."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    for name in [*environment]:
        if name.startswith("OTEL_") or name == "PYTHONSAFEPATH":  # Examples import what stands beside them.
            del environment[name]
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=SECONDS)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, out, err


def test_the_quick_start_prints_what_it_promises(tmp_path: Path) -> None:
    """The first program of every user prints the invoice and the refusal, and its evidence verifies."""
    pytest.importorskip("langchain_core")
    code, out, err = run(tmp_path, str(EXAMPLES / "quickstart.py"))
    assert (code, out) == (0, "INV-42: EUR 120\nno_task\n"), err
    code, out, err = run(tmp_path, "-m", "agent_identity", "verify", "evidence")
    assert (code, err) == (0, "")
    assert out.startswith("VERIFIED  8 records, 1 denied\n")


def test_the_quick_start_runs_again_on_its_directory(tmp_path: Path) -> None:
    """A second run uses the same keys and adds a stream."""
    pytest.importorskip("langchain_core")
    for streams in (1, 2):
        assert run(tmp_path, str(EXAMPLES / "quickstart.py"))[:2] == (0, "INV-42: EUR 120\nno_task\n")
        assert len(list((tmp_path / "evidence" / "ledger").iterdir())) == streams
    assert run(tmp_path, "-m", "agent_identity", "verify", "evidence")[0] == 0


@pytest.mark.nightly
def test_the_invoice_agents_prove_what_they_did(tmp_path: Path) -> None:
    """Two agents, real tools and a real collector: the same actions in the ledger and behind the collector."""
    pytest.importorskip("rotel", reason="the example needs the collector rotel, which is not installed here")
    pytest.importorskip("langchain.agents", reason="the example needs langchain, which is not installed here")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="the example needs the OTLP exporter")
    code, out, err = run(tmp_path, str(EXAMPLES / "invoice_agents.py"))
    assert code == 0, out + err
    lines = out.splitlines()
    assert lines[-1] == "8 actions, the same record ids in the ledger and from the collector"
    assert "after the task: task_ended" in lines
    assert sum(line.startswith("VERIFIED  ") for line in lines) == 2
    told = [" ".join(line.split()) for line in lines]
    assert any(" delete_invoice " in line and "denied: policy_blocks, rule keep-invoices" in line for line in told)
    assert any(" pay_invoice " in line and "routed: policy_routes, to approval-desk" in line for line in told)
    assert any(" read_invoice " in line and "denied: argument_out_of_scope" in line for line in told)
    assert any(" find_vendor " in line and "success: policy_warns" in line for line in told)
    assert (tmp_path / "invoice-demo" / "invoices" / "INV-41.txt").exists()


@pytest.mark.nightly
def test_two_services_prove_who_acted_for_whom_and_through_whom(tmp_path: Path) -> None:
    """Real servers with trust, policy and evidence of their own: the chain goes on, theft and detours do not."""
    code, out, err = run(tmp_path, str(EXAMPLES / "two_services.py"))
    assert (code, err) == (0, "")
    chain = "through assistant → reporter → reporter"
    assert out.splitlines() == [
        "report on INV-42: 200 INV-42: EUR 120",
        "report on INV-41: 403 policy_blocks",
        "report on INV-43: 403 argument_out_of_scope",
        "the same request again: 401 replay",
        "the same authority at the invoice service: 403 wrong_audience",
        "client: verified, complete, 3 chains",
        "reports: verified, complete, 6 chains",
        "invoices: verified, complete, 6 chains",
        "at the invoice service:",
        f"  read_invoice for alice@example.com (human) {chain}: success, default",
        f"  read_invoice for alice@example.com (human) {chain}: denied, policy_blocks",
        f"  read_invoice for alice@example.com (human) {chain}: denied, argument_out_of_scope",
        f"  read_invoice for alice@example.com (human) {chain}: success, default",
        "  http.request for nobody through nobody: denied, wrong_audience",
    ]
