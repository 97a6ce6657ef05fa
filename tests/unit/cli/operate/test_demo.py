"""The demo: a month of evidence by the real enforcer, which verifies, and a changed byte that is found."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from schema_document import LINES

from agent_identity import Verifier
from agent_identity._ledger.reader import open_ledger
from agent_identity.cli.company.month import STOLEN, write_month
from agent_identity.records import Approval, Outcome, Registration, Revocation
from agent_identity.testing import Records

Run = Callable[..., Any]

EXTRAS = {"langchain_core", "langgraph", "mcp", "yaml", "google", "grpc", "httpx", "joserfc", "pytest", "pyarrow"}


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the month."""
    directory = tmp_path_factory.mktemp("month") / "evidence"
    write_month(directory)
    return directory


def test_the_program_shows_a_month_that_verifies_and_an_edit_that_is_found(
    run: Run, program: Run, tmp_path: Path
) -> None:
    """In a process of its own, with no file but those that it writes; the shown commands give the shown verdicts."""
    done = program("demo")
    assert (done.code, done.err) == (0, "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["agent-identity-demo"]
    folder = tmp_path / "agent-identity-demo"
    trust = folder / "trust.json"
    shown = [line.split()[3:] for line in done.out.splitlines() if line.startswith("$ agent-identity verify ")]
    codes = []
    for words in shown:
        verified = program("verify", *words)
        codes.append(verified.code)
        assert verified.out.splitlines()[0] in done.out
    assert codes == [0, 1]
    assert Verifier(trust).ledger(folder / "evidence").verdict == "verified"
    found = Verifier(trust).ledger(folder / "edited")
    assert found.verdict == "contradicted"
    assert {"changed_record", "head_mismatch"} <= {problem.code for problem in found.findings}
    assert all(f"  contradicted  {code}:" in done.out for code in ("changed_record", "head_mismatch"))
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (folder / "reports").glob("*.txt")}
    assert texts.keys() == {"inventory", "scope", "page", "stolen-key", "coverage"}
    assert all("VERIFIED  report" in text for name, text in texts.items() if name != "page")
    lines = done.out.partition("Open in a browser\n")[2].splitlines()
    opened = [line.split()[0] for line in lines]
    assert opened == [f"agent-identity-demo/reports/{name}" for name in ("incident.html", "pages/index.html")]
    first, index = ((tmp_path / path).read_text(encoding="utf-8") for path in opened)
    assert "researcher tried pay_invoice and send_mail for carol@example.com: refused, suspended 2 s later" in first
    assert index.index("What stands out") < index.index("incident.html")


def test_the_folder_is_made_once_and_reused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run asks the same evidence again and writes no page anew; --keep names another folder."""
    monkeypatch.chdir(tmp_path)
    first = run("demo", "--keep", "mine", "--json")
    page = tmp_path / "mine" / "reports" / "incident.html"
    before = (page.stat().st_mtime_ns, sorted(path.name for path in (tmp_path / "mine" / "evidence").rglob("*")))
    again = run("demo", "--keep", "mine", "--json")
    assert (first.code, again.code) == (0, 0)
    made, reused = json.loads(first.out), json.loads(again.out)
    assert made.pop("seconds") > 0
    assert reused.pop("seconds") is None
    assert made == reused
    after = (page.stat().st_mtime_ns, sorted(path.name for path in (tmp_path / "mine" / "evidence").rglob("*")))
    assert before == after
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_each_line_has_the_published_schema(month: Path) -> None:
    """All that a month of work writes has the members and forms that the schema states."""
    ledger = open_ledger(month)
    written = [line for stream in ledger.streams() for line in ledger.entries(stream)]
    assert len(written) > 500
    assert any(line.detail for line in written)
    for line in written:
        detail = {"detail": json.loads(line.detail)} if line.detail else {}
        LINES.validate({"mac": line.mac, "record": json.loads(line.record or b""), **detail})


def test_one_byte_is_changed_in_a_copy_without_private_keys(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All other files of the copy are those of the evidence, and none of them is a key."""
    monkeypatch.chdir(tmp_path)
    done = run("demo", "--keep", "here", "--json")
    facts = json.loads(done.out)
    assert (done.code, facts["verdict"], facts["edited"]["verdict"]) == (0, "verified", "contradicted")
    assert facts["reports"]["scope"]["code"] == 0
    edited, evidence = tmp_path / "here" / "edited", tmp_path / "here" / "evidence"
    changed = [
        sum(one != other for one, other in zip(copy.read_bytes(), original.read_bytes(), strict=True))
        for copy, original in files(edited, evidence)
    ]
    assert Counter(changed) == {0: len(changed) - 1, 1: 1}
    assert not list(edited.rglob("*.pem")) + list(edited.rglob("*.key"))


def files(copy: Path, original: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of a copy, each with its original."""
    for path in copy.rglob("*"):
        if path.is_file():
            yield path, original / path.relative_to(copy)


def test_the_month_is_what_the_tour_says(month: Path) -> None:
    """Five registered agents of which one is idle, approvals, refusals by scope and policy, revocations, a crash."""
    records = list(Records(month))
    outcomes = [record for record in records if isinstance(record, Outcome)]
    refused = Counter(one.decision.reason for one in outcomes if one.outcome == "denied")
    assert refused == {
        "argument_out_of_scope": 4,
        "policy_blocks": 2,
        "approval_rejected": 1,
        "no_task": 1,
        "revoked": 1,
        "suspended": 1,
        "tool_not_granted": 1,
    }
    assert {one.agent.id for one in outcomes if one.agent} == {"office", "clerk", "payer", "researcher"}
    assert {one.action.tool.partition("/")[0] for one in outcomes if "/" in one.action.tool} == {"web", "files"}
    (page,) = [one for one in outcomes if one.findings]
    assert (page.action.tool, page.outcome) == ("web/fetch_page", "success")
    asked = Counter(one.approval.status for one in records if isinstance(one, Approval))
    assert asked == {"pending": 5, "approved": 4, "rejected": 1}
    revoked = [one.revocation for one in records if isinstance(one, Revocation)]
    assert [(one.kind, one.status) for one in revoked] == [
        ("agent", "suspended"),
        ("agent", "reinstated"),
        ("key", "revoked"),
    ]
    assert revoked[-1].name == STOLEN.public_key.thumbprint
    assert any(isinstance(one, Registration) for one in records)
    report = Verifier(month / "trust.json").ledger(month)
    assert (report.verdict, report.counts["unknown"]) == ("verified", 1)


def test_each_demo_has_the_same_ids_times_and_signing_keys(month: Path, tmp_path: Path) -> None:
    """What the documentation names stays true."""
    write_month(tmp_path / "again")
    one, other = (
        [(record.kind, record.id, record.time) for record in Records(path)] for path in (month, tmp_path / "again")
    )
    assert one == other
    for name in ("trust.json", "agents.jsonl"):
        assert (month / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_nothing_is_written_over(run: Run, month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that exists, or a directory with something in it, is left as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "agent-identity-demo").mkdir()
    before = sorted(month.rglob("*"))
    for words in (("demo",), ("demo", "--evidence", month), ("demo", "--keep", "here", "--evidence", "there")):
        assert run(*words).code == 2
    assert sorted(month.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["agent-identity-demo"]


def test_its_records_say_what_was_touched(run: Run, tmp_path: Path) -> None:
    """Calls of tools that declare their resources are answered for."""
    directory = tmp_path / "month"
    assert run("demo", "--evidence", directory).code == 0
    assert json.loads(run("ask", "12", directory, "--json").out)["declaring"] == 198
    assert run("verify", directory).code == 0


def test_the_core_is_enough(tmp_path: Path) -> None:
    """The demo works where no extra can be imported."""
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(EXTRAS)}))\n"
        "from agent_identity.cli import main\n"
        "sys.exit(main(['demo']))"
    )
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path, env=given)
    assert done.returncode == 0, done.stderr
