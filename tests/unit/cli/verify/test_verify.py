"""``agent-identity verify``: verdicts as exit codes, words for people, JSON for machines."""

import io
import json
import os
import pty
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Report
from agent_identity._verify.report.report import Coverage, Problem, Step
from agent_identity.cli.terminal.style import Style, width
from agent_identity.cli.verify.verify import SHOWN, lines

Run = Callable[..., tuple[int, str, str]]


def stream_of(evidence: Path) -> Path:
    return min((evidence / "ledger").iterdir()) / "entries.jsonl"


def drop_last_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


# Verdicts.


THIS_COPY = "(this copy; no outside checkpoint given: an older copy would look the same)"


def test_a_whole_ledger_exits_with_0(run: Run, evidence: Path, trust: Path) -> None:
    """Verified evidence says so first, and where the keys came from."""
    code, out, err = run("verify", evidence, "--trust", trust)
    assert (code, err) == (0, "")
    assert out.splitlines()[:4] == [
        "VERIFIED  30 records, 3 denied",
        "  integrity     verified",
        f"  completeness  complete up to 2025-11-24 16:00 UTC {THIS_COPY}",
        "  trust         keys given by you",
    ]
    assert out.count("  ✓ ") == 7
    assert "  · 8. arguments within the grants  (not checked)  the ledger holds" in out


def test_keys_from_beside_the_ledger_are_called_self_asserted(run: Run, evidence: Path) -> None:
    """Without ``--trust`` the words say that the directory vouches for itself."""
    code, out, _ = run("verify", evidence)
    assert code == 0
    assert "self-asserted: the keys came from beside the ledger; give --trust" in out


def test_a_changed_ledger_exits_with_1(run: Run, evidence: Path) -> None:
    """Tampering is the first word, with the record and the reason."""
    path = stream_of(evidence)
    path.write_bytes(path.read_bytes().replace(b"alice@", b"mallo@"))
    code, out, _ = run("verify", evidence)
    assert code == 1
    assert out.startswith("NOT VERIFIED: contradicted  30 records")
    assert "  ✗ 3. the records re-derive the heads in the log" in out
    assert "  contradicted  changed_record: record " in out
    assert "seq " in out


def test_what_cannot_be_judged_exits_with_2(run: Run, evidence: Path, spans: Path) -> None:
    """Without keys, nothing is proved and nothing is disproved."""
    (evidence / "trust.json").unlink()
    code, out, _ = run("verify", evidence)
    assert (code, out.partition(" ")[0]) == (2, "CANNOT")
    code, out, _ = run("verify", spans)
    assert (code, out.partition(" ")[0]) == (2, "CANNOT")
    assert "  trust         no keys: give --trust" in out


def test_a_missing_stream_exits_with_3(run: Run, evidence: Path) -> None:
    """What is there holds, but the log knows of more."""
    shutil.rmtree(max((evidence / "ledger").iterdir()))
    code, out, _ = run("verify", evidence)
    assert code == 3
    assert out.startswith("VERIFIED, BUT INCOMPLETE  22 records")
    assert "  incomplete  stream_missing: " in out


def test_spans_verify_by_their_trust_file(run: Run, spans: Path, trust: Path) -> None:
    """Traces verify on their own, and the words say what share of the calls a human answers for."""
    code, out, _ = run("verify", spans, "--trust", trust)
    assert code == 0
    assert "  completeness  not checked" in out
    assert "  7 of 9 tool calls are attributable to a human by a valid signature" in out
    assert "    CALLS  ATTRIBUTED  TO A HUMAN  TRACED BY\n    9      8           7           agent_identity\n" in out


def test_ac_101_spans_are_compared_with_their_ledger(run: Run, spans: Path, trust: Path, evidence: Path) -> None:
    """A partial export is complete alone; beside the ledger each missing span is named."""
    assert run("verify", spans, "--trust", trust, "--ledger", evidence)[0] == 0
    drop_last_line(spans)
    assert run("verify", spans, "--trust", trust)[0] == 0
    code, out, _ = run("verify", spans, "--trust", trust, "--ledger", evidence)
    assert code == 3
    assert "  ✗ 8. everything is there  11 of 11 records are in the ledger as well" in out
    assert "  incomplete  span_missing: " in out


def test_several_files_are_one_export(run: Run, spans: Path, trust: Path, evidence: Path) -> None:
    """Rotated files are verified together."""
    all_lines = spans.read_bytes().splitlines(keepends=True)
    parts = [spans.with_name("1.jsonl"), spans.with_name("2.jsonl")]
    parts[0].write_bytes(b"".join(all_lines[:5]))
    parts[1].write_bytes(b"".join(all_lines[5:]))
    assert run("verify", *parts, "--trust", trust, "--ledger", evidence)[0] == 0


def test_standard_input_is_a_source(program: Run, spans: Path, trust: Path) -> None:
    """``-`` reads what another program writes."""
    code, out, err = program("verify", "-", "--trust", trust, stdin=spans.read_bytes())
    assert (code, err) == (0, "")
    assert out.startswith("VERIFIED  12 records")


def test_a_kept_checkpoint_is_compared(run: Run, evidence: Path, tmp_path: Path) -> None:
    """``--checkpoint`` finds a directory that was put back to another state."""
    kept = tmp_path / "checkpoint"
    shutil.copy(evidence / "log" / "checkpoint", kept)
    assert run("verify", evidence, "--checkpoint", kept)[0] == 0
    kept.write_bytes(b"something else\n")
    assert run("verify", evidence, "--checkpoint", kept)[0] == 1


def test_known_redaction_is_no_contradiction(run: Run, spans: Path, trust: Path) -> None:
    """``--redacted`` names an attribute that the collector rewrites."""
    old, new = b'"key":"agent_identity.agent.id","value":{"stringValue":"invoice-clerk"}', b"hash-of-it"
    assert old in spans.read_bytes()
    spans.write_bytes(spans.read_bytes().replace(old, old.replace(b"invoice-clerk", new)))
    assert run("verify", spans, "--trust", trust)[0] == 1
    assert run("verify", spans, "--trust", trust, "--redacted", "agent_identity.agent.id")[0] == 0


# JSON.


def test_json_is_the_report(run: Run, evidence: Path, trust: Path) -> None:
    """``--json`` prints one object with the verdict, the exit code and everything that was found."""
    code, out, err = run("verify", evidence, "--trust", trust, "--json")
    report = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert list(report) == [
        *("source", "verdict", "exit_code", "integrity", "completeness", "trust"),
        *("counts", "kinds", "problems", "findings", "coverage", "steps", "complete_until", "outside", "signatures"),
    ]
    assert (report["source"], report["verdict"], report["exit_code"]) == ("ledger", "verified", 0)
    assert report["counts"]["records"] == 30
    assert report["steps"][0] == {
        "number": 1,
        "name": "trust and signature of the checkpoint",
        "status": "passed",
        "detail": "signed by a trusted recorder key for the origin agent-identity.example/vectors",
    }


def test_json_lists_the_findings(run: Run, evidence: Path) -> None:
    """A finding is an object with its code, severity and place."""
    drop_last_line(stream_of(evidence))
    code, out, _ = run("verify", evidence, "--json")
    found = json.loads(out)["findings"]
    assert code == 1
    assert set(found[0]) == {"code", "severity", "record", "stream", "seq", "line", "message"}
    assert found[0]["code"] == "records_cut"
    assert found[0]["stream"] == stream_of(evidence).parent.name


# Words that name nothing.


def test_a_missing_source_is_named(run: Run, spans: Path) -> None:
    """The one of several paths that is wrong is named, with what is wrong with it."""
    code, out, err = run("verify", spans, "nowhere.jsonl")
    assert (code, out) == (2, "")
    assert err == (
        "agent-identity: the source 'nowhere.jsonl' cannot be read (No such file or directory); "
        "name an evidence directory or a file of traces\n"
    )
    assert "embedded null" in run("verify", "a\0b")[2]


def test_a_directory_among_files_is_a_host_by_itself(run: Run, evidence: Path, spans: Path) -> None:
    """Files beside a directory are verified by themselves, and without keys nothing can be told of them."""
    code, out, _ = run("verify", spans, evidence)
    assert code == 2
    hosts = [line.split() for line in out.splitlines() if line.endswith((str(evidence), str(spans)))]
    assert [(words[0], words[-1]) for words in hosts] == [("cannot", str(spans)), ("verified", str(evidence))]


def test_a_directory_without_evidence_is_refused(run: Run, tmp_path: Path) -> None:
    """A folder with neither evidence nor traces is refused, and the way out is named."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    code, _, err = run("verify", tmp_path / "empty")
    assert code == 2
    assert "(no ledger, log, keys, trust.json), and has no files of traces" in err
    assert "name the enforcer's directory or the files" in err


def test_the_folder_of_the_ledger_stands_for_its_directory(run: Run, evidence: Path) -> None:
    """``evidence/ledger`` is understood."""
    assert run("verify", evidence / "ledger")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("{evidence}", "--ledger", "{evidence}"), "--ledger and --redacted go with traces"),
        (("{evidence}", "--redacted", "user.id"), "--ledger and --redacted go with traces"),
        (
            ("{spans}", "--checkpoint", "{spans}"),
            "--archive go with an evidence directory",
        ),
        (
            ("-", "--checkpoint", "{spans}"),
            "--archive go with an evidence directory",
        ),
        (("{spans}", "--ledger", "{evidence}"), "--ledger needs --trust"),
        (("{spans}", "--trust", "{trust}", "--ledger", "{spans}"), "the ledger is not an evidence directory"),
        (("{evidence}", "--trust", "nowhere"), "No such file or directory"),
        (("{evidence}", "--trust", "{evidence}"), "trust.json'\n"),
        (("{evidence}", "--trust", "{spans}"), "the trust file is not JSON"),
        (("{evidence}", "--checkpoint", "nowhere"), "No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_check_that_would_not_happen_is_refused(
    run: Run, evidence: Path, spans: Path, options: tuple[str, ...], message: str
) -> None:
    """An option that does not fit, or a file that is none, ends with 2: silence would look like a pass."""
    words = [option.format(evidence=evidence, spans=spans, trust=evidence / "trust.json") for option in options]
    code, out, err = run("verify", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_no_tampering(run: Run, spans: Path, trust: Path) -> None:
    """A lack of permission ends with 2."""
    spans.chmod(0)
    code, _, err = run("verify", spans, "--trust", trust)
    assert code == 2
    assert "Permission denied" in err


def test_binary_files_end_in_a_verdict(run: Run, tmp_path: Path, trust: Path) -> None:
    """A file of another kind is read to its end and judged: cannot tell."""
    path = tmp_path / "noise"
    path.write_bytes(bytes(range(256)) * 100)
    code, out, _ = run("verify", path, "--trust", trust)
    assert code == 2
    assert "malformed_document" in out


# Terminals.


def test_a_terminal_gets_colour_and_no_long_lines(on_terminal: Run, evidence: Path) -> None:
    """On 60 columns long details move to lines of their own; only ids may be longer."""
    code, out, _ = on_terminal("verify", evidence, columns=60)
    assert code == 0
    assert out.startswith("\x1b[32;1mVERIFIED\x1b[0m  30 records")
    assert [line for line in strip(out).splitlines() if width(line) > 60] == []
    assert "\n  trust         self-asserted: the keys came from beside the\n                ledger; give --trust" in out
    assert "  ✓ 1. trust and signature of the checkpoint\n       signed by " in strip(out)


def strip(text: str) -> str:
    """Return the text without the colours that we put there."""
    parts = text.split("\x1b[")
    return parts[0] + "".join(part.partition("m")[2] for part in parts[1:] if part[0] != "K")


@pytest.mark.parametrize("narrow", [1, 10, 24, 40])
def test_narrow_terminals_get_everything(on_terminal: Run, run: Run, evidence: Path, narrow: int) -> None:
    """However narrow, no word is lost."""
    (evidence / "log" / "checkpoint").unlink()
    _, out, _ = on_terminal("verify", evidence, columns=narrow)
    assert strip(out).split() == run("verify", evidence)[1].split()


def test_progress_goes_to_a_terminal_only(on_terminal: Run, run: Run, evidence: Path) -> None:
    """A terminal sees a line of progress on standard error, removed at the end; a pipe sees none."""
    _, out, err = on_terminal("verify", evidence)
    assert err.startswith("\rverifying ")
    assert err.endswith("\r\x1b[K")
    assert "verifying" not in out
    assert run("verify", evidence)[2] == ""


def test_waiting_for_a_person_is_told(run: Run, trust: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is asked to type the traces is told so."""
    monkeypatch.setattr(sys, "stdin", type("Keyboard", (), {"isatty": lambda self: True})())
    monkeypatch.setattr("agent_identity._verify.inputs.sources._standard_input", io.BytesIO)
    code, _, err = run("verify", "-", "--trust", trust)
    assert (code, err) == (2, "reading traces from the terminal; end them with Ctrl-D\n")


def test_a_real_terminal(evidence: Path) -> None:
    """Behind a pseudo-terminal of 50 columns the command prints colour, progress and folded lines."""
    master, slave = pty.openpty()
    ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "NO_COLOR"}}
    environment |= {"TERM": "xterm", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_identity", "verify", str(evidence)], stdout=slave, stderr=slave, env=environment
    )
    os.close(slave)
    try:
        out = _read_all(master, seconds=60).decode()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "\rverifying " in out
    assert "\x1b[32;1mVERIFIED\x1b[0m" in out
    body = strip(out.rpartition("\x1b[K")[2].replace("\r\n", "\n"))
    assert max(map(width, body.splitlines())) <= 66


def _read_all(descriptor: int, *, seconds: float) -> bytes:
    """Read from a terminal until its other side is closed."""
    deadline, data = time.monotonic() + seconds, b""
    while time.monotonic() < deadline:
        if not select.select([descriptor], [], [], 1)[0]:
            continue
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:  # Linux ends a terminal this way.
            break
        if not chunk:
            break
        data += chunk
    return data


# What comes from a hostile file.

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\n"
TEXTS = [
    '"name":"agent_identity"',
    '"name":"execute_tool read_invoice"',
    '"stringValue":"read_invoice"',
    '"stringValue":"vectors"',
    '"stringValue":"invoice-clerk"',
    '"stringValue":"success"',
]


@pytest.mark.parametrize("text", TEXTS)
def test_ac_104_hostile_traces_cannot_steer_the_terminal(
    run: Run, on_terminal: Run, spans: Path, evidence: Path, text: str
) -> None:
    """Whatever a hostile file puts into names and values, no control character of it reaches the terminal."""
    nasty = json.dumps(NASTY)[1:-1]
    document = spans.read_text("utf-8")
    assert text in document
    spans.write_text(document.replace(text, text[:-1] + nasty + '"'), encoding="utf-8")
    words = ("verify", spans, "--trust", evidence / "trust.json", "--ledger", evidence)
    assert controls(strip(on_terminal(*words)[1])) == set()
    for more in ((), ("--json",)):
        assert controls(run(*words, *more)[1]) == set()


@pytest.mark.parametrize("name", ["record.id", "stream.id"])
def test_ac_104_claimed_ids_of_unsigned_spans_are_escaped(run: Run, spans: Path, trust: Path, name: str) -> None:
    """Ids that no signature covers are shown in findings, escaped and cut."""
    documents = [json.loads(line) for line in spans.read_bytes().splitlines()]
    for document in documents:
        attributes = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]
        attributes[:] = [item for item in attributes if "attestation" not in item["key"]]
        for item in attributes:
            if item["key"] == f"agent_identity.{name}":
                item["value"] = {"stringValue": NASTY + "x" * 1_000_000}
    spans.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    code, out, _ = run("verify", spans, "--trust", trust)
    assert code == 1
    assert controls(out) == set()
    assert "\\x1b]0;owned\\x07" in out
    assert len(out) < 10_000


def controls(text: str) -> set[str]:
    return {character for character in text.replace("\n", "") if not character.isprintable()}


# Long reports.


def report(**changes: Any) -> Report:
    given: dict[str, Any] = {
        "source": "traces",
        "integrity": "contradicted",
        "completeness": "incomplete",
        "trust": "given",
        "counts": {"records": 12_345, "denied": 2, "unknown": 1, "unsealed": 0},
        "kinds": {},
        "findings": (),
        "problems": {},
        "coverage": (),
        "steps": (Step(1, "a step", "failed", ""), Step(2, "another", "not_checked", "")),
        **changes,
    }
    return Report(**given)


def text_of(found: Report) -> str:
    return "\n".join(lines(found, Style(sys.stdout, {"NO_COLOR": "1"})))


def test_the_summary_counts_what_matters() -> None:
    """The first line counts records, refusals and unknown ends; what is zero is left out."""
    assert text_of(report()).splitlines()[0] == "NOT VERIFIED: contradicted  12,345 records, 2 denied, 1 unknown"


def test_a_step_without_detail_has_no_trailing_space() -> None:
    """Steps end where their text ends."""
    assert "  ✗ 1. a step\n  · 2. another  (not checked)" in text_of(report())


def test_many_findings_are_counted() -> None:
    """The first 20 lines are printed, the others counted, those that the report does not keep too."""
    problems = tuple(Problem(f"code-{n // 10}", "contradicted", None, None, None, 7, "m") for n in range(1000))
    shown = text_of(report(findings=problems, problems={"contradicted": 5_000, "notice": 3}))
    assert shown.count("  contradicted  code-") == SHOWN
    assert shown.endswith("  … and 4,983 more; --json lists up to 1,000")


def test_many_findings_of_one_kind_are_a_few_and_their_number() -> None:
    """Others are not pushed off the screen by a kind of which there are more than ten."""
    many = Problem("stream_missing", "incomplete", None, None, None, None, "m")
    one = Problem("no_end", "incomplete", None, None, None, None, "n")
    shown = text_of(report(findings=(*(many,) * 500, one), problems={"incomplete": 501}))
    assert shown.splitlines()[-5:] == [
        *["  incomplete  stream_missing: m"] * 3,
        "  incomplete  stream_missing: 497 more of these; --json lists them",
        "  incomplete  no_end: n",
    ]
    assert text_of(report(findings=(many,) * 10, problems={"incomplete": 10})).count("stream_missing: m") == 10


def test_a_finding_without_a_place_has_no_brackets() -> None:
    """A finding about the whole source names no place."""
    problem = Problem("no_trust", "cannot_tell", None, None, None, None, "m")
    assert text_of(report(findings=(problem,), problems={"cannot_tell": 1})).endswith("\n  cannot tell  no_trust: m")


def test_many_libraries_are_counted() -> None:
    """A file with endless scopes does not flood the terminal."""
    shown = text_of(report(coverage=tuple(Coverage(f"scope-{n:04}", 1, 1, 0) for n in range(1_000))))
    assert shown.count("scope-") == SHOWN
    assert shown.endswith("    … and 980 more; --json lists all")


def test_a_file_that_is_no_evidence_is_refused_once(run: Run, spans: Path, trust: Path, tmp_path: Path) -> None:
    """Source code or prose gets one sentence; damaged traces keep a finding for each damaged line."""
    other = tmp_path / "agent.py"
    other.write_text("import os\n" * 200, encoding="utf-8")
    code, out, err = run("verify", other, "--trust", trust)
    assert (code, out) == (2, "")
    assert "is no evidence" in err
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_bytes(b"import os\n" + spans.read_bytes())
    code, out, _ = run("verify", damaged, "--trust", trust)
    assert (code, out.count("malformed_document")) == (3, 1)
    damaged.write_bytes(spans.read_bytes()[:200])
    code, out, _ = run("verify", damaged, "--trust", trust)
    assert "malformed_document" in out
