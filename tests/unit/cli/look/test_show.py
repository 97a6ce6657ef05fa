"""``agent-identity show``: who did what on whose behalf."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._reports.timelines.builder import Action, TaskTimeline
from agent_identity.cli.look.show import _of_task, _Told, lines
from agent_identity.cli.terminal.style import Style, width
from agent_identity.errors import ConfigurationError

Run = Callable[..., tuple[int, str, str]]

TASK = "AZq2l-gAcACAAAAAAAAABA"
TOLD = f"""\
pay the invoices of Acme  {TASK}
  on behalf of alice@example.com (human, asserted) → invoice-supervisor (owner finance-ops@example.com)
  2025-11-24 16:00:00 UTC to 2025-11-24 16:00:01 UTC
  delegated invoice-supervisor → invoice-clerk: read and pay invoices of Acme
  16:00:00.000  warn   find_vendor     invoice-supervisor                  success: policy_warns, rule vendor-data, \
vendor files may hold personal data
  16:00:00.250  allow  read_invoice    invoice-supervisor → invoice-clerk  success
  16:00:00.500  block  read_invoice    invoice-supervisor → invoice-clerk  denied: argument_out_of_scope, argument \
invoice_id
  16:00:00.500  allow  pay_invoice     invoice-supervisor → invoice-clerk  success
  16:00:00.750  route  pay_invoice     invoice-supervisor → invoice-clerk  routed: policy_routes, to approval-desk, \
rule four-eyes, payments over 1,000 need a second person
  16:00:00.750  block  delete_invoice  invoice-supervisor → invoice-clerk  denied: policy_blocks, rule keep-invoices, \
invoices are kept for ten years
  16:00:00.750  allow  read_invoice    invoice-supervisor → invoice-clerk  error FileNotFoundError
  2 of 7 calls refused
"""


def test_a_ledger_is_told_task_by_task(run: Run, evidence: Path) -> None:
    """Purpose, principal, agent, owner, times, calls, refusals with their reasons, and what was outside any task."""
    code, out, err = run("show", evidence)
    assert (code, err) == (0, "")
    assert out.startswith(TOLD + "\nnightly check  AZq2l-")
    assert (
        "\noutside any task\n  16:00:01.000  block  read_invoice  no agent  denied: no_task\n  1 of 1 call refused"
        in out
    )
    assert out.endswith("\nThis is what the evidence says; run 'agent-identity verify' to check it.\n")


def test_traces_are_told_without_purposes(run: Run, spans: Path) -> None:
    """Spans do not say what a task was for; all else is the same."""
    code, out, _ = run("show", spans)
    assert code == 0
    assert out.startswith(f"task  {TASK}\n  on behalf of alice@example.com (human, asserted) → invoice-supervisor")
    assert out.count("invoice-clerk  success") == 3


def test_one_task_can_be_chosen(run: Run, evidence: Path) -> None:
    """``--task`` shows that task alone; an end of its id is enough, as long as no other ends so."""
    nightly = json.loads(run("show", evidence, "--json")[1])["tasks"][1]["task"]
    for name in (TASK, TASK[-6:]):
        code, out, _ = run("show", evidence, "--task", name)
        assert code == 0
        assert out.startswith(TOLD)
        assert "nightly" not in out
    assert TASK[:6] == nightly[:6]
    for other in (TASK[:-1], TASK[-5:]):
        code, out, err = run("show", evidence, "--task", other)
        assert (code, out) == (2, "")
        assert "no records of the task" in err


def test_a_whole_id_is_no_end_of_others() -> None:
    """A task whose id others end with is shown alone, and few of many others are named."""
    some = [_Told("d", story(task=name)) for name in ("1-nightly", "nightly", "2-nightly", "nightly")]
    assert list(_of_task(iter(some), "nightly")) == [some[1], some[3]]
    many = [_Told("d", story(task=f"{number}-nightly")) for number in range(9)]
    with pytest.raises(ConfigurationError, match=r"^9 tasks .*: 0-nightly, .*, 4-nightly, …; give"):
        _of_task(iter(many), "nightly")
    assert list(_of_task(iter(many), "8-nightly")) == [many[8]]
    assert list(_of_task(iter([_Told("d", story(task=None))]), "t")) == []


def test_what_was_not_enforced_or_not_handed_out_is_told() -> None:
    """Monitor mode shows on each call; a call whose result was withheld ran, and is no refused one."""
    common: dict[str, Any] = {"record": "r", "at_ns": 0, "agents": ("a",), "rule": None, "why": None}
    rest: dict[str, Any] = {"argument": None, "route": None}
    ran = Action(**common, **rest, tool="t", effect="block", outcome="success", reason="x", error=None, monitored=True)
    held = Action(
        **common, **rest, tool="t", effect="block", outcome="denied", reason="x", error="content_blocked", withheld=True
    )
    shown = told(actions=(ran, held), withheld=1)
    assert "success: x, monitor mode, nothing enforced" in shown
    assert "ran, result withheld: x" in shown
    assert shown.endswith("\n  the results of 1 of 2 calls withheld")
    assert "refused" not in shown


def test_a_task_that_is_not_there_is_an_error(run: Run, evidence: Path) -> None:
    """A mistyped id is not an empty answer."""
    code, out, err = run("show", evidence, "--task", "nope\x1b[2J")
    assert (code, out) == (2, "")
    assert "no records of the task 'nope\\x1b[2J'" in err
    nightly = json.loads(run("show", evidence, "--json")[1])["tasks"][1]["task"]
    code, _, err = run("show", evidence, "--task", nightly, "--refused")
    assert code == 2
    assert "no refused calls of the task" in err


def test_refusals_can_be_chosen(run: Run, evidence: Path) -> None:
    """``--refused`` leaves out tasks in which nothing was refused."""
    _, out, _ = run("show", evidence, "--refused")
    assert "pay the invoices" in out
    assert "outside any task" in out
    assert "nightly" not in out


def test_json_is_one_object_and_jsonl_a_line_for_each_task(run: Run, evidence: Path) -> None:
    """Both have the same tasks; times are decimal strings, which no reader rounds."""
    code, out, err = run("show", evidence, "--json")
    stories = json.loads(out)["tasks"]
    assert json.loads(out)["left_out"] == {"calls": 0, "tasks": 0}
    assert [json.loads(line) for line in run("show", evidence, "--jsonl")[1].splitlines()] == stories
    assert (code, err, [story["purpose"] for story in stories]) == (
        *(0, ""),
        ["pay the invoices of Acme", "nightly check", None],
    )
    assert list(stories[0]) == [
        *("source", "task", "purpose", "principal", "principal_kind", "provenance", "agent", "owner"),
        *("started_ns", "expires_ns", "ended_ns", "actions", "omitted", "refused", "withheld", "delegations"),
        *("registered_for", "registration", "via", "erased", "left_out"),
    ]
    assert (stories[0]["started_ns"], stories[0]["ended_ns"]) == ("1764000000000000000", "1764000001000000000")
    assert stories[2]["ended_ns"] is None
    assert stories[0]["actions"][2] == {
        "record": stories[0]["actions"][2]["record"],
        "at_ns": "1764000000500000000",
        "tool": "read_invoice",
        "agents": ["invoice-supervisor", "invoice-clerk"],
        "effect": "block",
        "outcome": "denied",
        "reason": "argument_out_of_scope",
        "rule": None,
        "why": None,
        "argument": "invoice_id",
        "route": None,
        "error": "argument_out_of_scope",
        "monitored": False,
        "withheld": False,
        "approver": None,
        "destinations": [],
        "uninspected": False,
        "changed": False,
    }
    assert stories[0]["delegations"] == [
        {"agents": ["invoice-supervisor", "invoice-clerk"], "purpose": "read and pay invoices of Acme"}
    ]


def test_nothing_to_show_is_said(run: Run, tmp_path: Path) -> None:
    """A fresh directory, or a file without records, tells nothing; JSON of it has no tasks."""
    assert run("init", tmp_path / "evidence")[0] == 0
    assert run("show", tmp_path / "evidence") == (0, "nothing to show\n", "")
    (tmp_path / "empty").touch()
    empty = '{"tasks": [], "left_out": {"calls": 0, "tasks": 0}}\n'
    assert run("show", tmp_path / "empty", "--json") == (0, empty, "")
    assert run("show", tmp_path / "empty", "--jsonl") == (0, "", "")


@pytest.mark.parametrize(
    ("words", "tools"),
    [
        (("--agent", "invoice-supervisor"), ["find_vendor"]),
        (("--agent", "invoice-supervisor", "--agent", "nobody"), ["find_vendor"]),
        (("--tool", "pay_invoice"), ["pay_invoice", "pay_invoice"]),
        (("--tool", "pay_invoice", "--effect", "route"), ["pay_invoice"]),
        (("--effect", "block", "--effect", "warn"), ["find_vendor", "read_invoice", "delete_invoice", "read_invoice"]),
        (("--principal", "alice@example.com", "--effect", "block"), ["read_invoice", "delete_invoice"]),
        (("--principal", "bob@example.com"), []),
        (("--from", "2025-11-24T16:00:01Z"), ["count_invoices", "read_invoice"]),
        (("--until", "2025-11-24T17:00:00.25+01:00"), ["find_vendor"]),
        (("--from", "2025-11-24T16:00:00.25", "--until", "2025-11-24T16:00:00.5"), ["read_invoice"]),
        (("--from", "2025-11-25"), []),
        (("--effect", "block", "--refused"), ["read_invoice", "delete_invoice", "read_invoice"]),
    ],
)
def test_calls_are_chosen_by_who_what_and_when(
    run: Run, evidence: Path, words: tuple[str, ...], tools: list[str]
) -> None:
    """Filters go together, times without a zone are UTC, and what is left out is counted in each form."""
    everything = json.loads(run("show", evidence, "--json")[1])["tasks"]
    calls = sum(len(task["actions"]) for task in everything)
    code, out, err = run("show", evidence, *words, "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert [action["tool"] for task in found["tasks"] for action in task["actions"]] == tools
    left = {"calls": calls - len(tools), "tasks": len(everything) - len(found["tasks"])}
    assert found["left_out"] == left
    assert all(task["refused"] <= len(task["actions"]) for task in found["tasks"])
    said = f"left out: {left['calls']} calls, {left['tasks']} task"
    assert said in run("show", evidence, *words)[1]
    assert run("show", evidence, *words, "--jsonl")[2].startswith(said)


@pytest.mark.parametrize("time", ["yesterday", "1969-12-31", "2025-11-24T16:00:00Zulu", ""])
def test_a_time_that_is_none_is_refused(run: Run, evidence: Path, time: str) -> None:
    """It is exit code 2 and one line that shows a time."""
    code, out, err = run("show", evidence, "--from", time)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "2026-11-24T12:00:00Z" in err


def test_a_task_without_calls_that_match_is_an_error(run: Run, evidence: Path) -> None:
    """Whoever names a task learns that nothing in it matches."""
    code, out, err = run("show", evidence, "--task", TASK, "--tool", "nothing")
    assert (code, out) == (2, "")
    assert "no calls that match of the task" in err


def test_several_sources_are_told_one_after_the_other(run: Run, evidence: Path, spans: Path, tmp_path: Path) -> None:
    """A directory, a bundle and files of traces each stand under their names; files share their tasks."""
    bundle = tmp_path / "b.zip"
    assert run("bundle", evidence, "-o", bundle)[0] == 0
    code, out, err = run("show", spans, evidence, bundle, "--tool", "find_vendor")
    assert (code, err, out.count("find_vendor")) == (0, "", 3)
    headings = [line for line in out.splitlines() if line.startswith("from ")]
    assert headings == [f"from {evidence}", f"from {bundle}", f"from {spans}"]
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    halves = spans.read_bytes().splitlines(keepends=True)
    first.write_bytes(b"".join(halves[:5]))
    second.write_bytes(b"".join(halves[5:]))
    found = json.loads(run("show", first, second, "--json")[1])["tasks"]
    assert [task["source"] for task in found] == [[str(first), str(second)]] * 3
    _, out, _ = run("show", first, second, evidence)
    assert f"from {first} and 1 other file\n" in out


def test_missing_sources_are_named(run: Run) -> None:
    """A path without a file ends with 2."""
    code, out, err = run("show", "nowhere")
    assert (code, out) == (2, "")
    assert "'nowhere'" in err


def test_a_terminal_gets_colour_and_room(on_terminal: Run, evidence: Path) -> None:
    """Refusals are red, warnings yellow, and reasons go on below themselves on 100 columns."""
    _, out, _ = on_terminal("show", evidence, columns=100)
    assert "\x1b[1mpay the invoices of Acme\x1b[0m" in out
    assert "\x1b[33m  16:00:00.000  warn " in out
    assert "\x1b[34m  16:00:00.750  route " in out
    assert out.count("\x1b[31m  16:00:00") == 3
    (routed,) = [block for block in out.split("\x1b[0m") if "four-eyes" in block]
    first, *more = routed.removeprefix("\n\x1b[34m").splitlines()
    assert len(more) >= 2
    assert {len(line) - len(line.lstrip()) for line in more} == {first.index("routed:")}
    assert max(map(width, [first, *more])) <= 100


def test_ac_104_hostile_records_cannot_steer_the_terminal(run: Run, on_terminal: Run, spans: Path) -> None:
    """Tools, routes, rules and errors of a file that nobody signed are shown escaped."""
    nasty = "\x1b]0;owned\x07\x1b[2J\u202e\n"
    documents = [json.loads(line) for line in spans.read_bytes().splitlines()]
    for document in documents:
        for item in document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]:
            if item["key"] == "agent_identity.attestation.payload":
                item["value"] = {"stringValue": _with(item["value"]["stringValue"], nasty)}
    spans.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    code, out, _ = run("show", spans)
    assert code == 0
    assert "\\x1b]0;owned\\x07\\x1b[2J\\u202e\\n" in out
    assert not [c for c in out.replace("\n", "") if not c.isprintable()]
    coloured = on_terminal("show", spans, columns=200)[1]
    assert "\x1b]" not in coloured
    assert "\x1b[2J" not in coloured
    assert not [c for c in run("show", spans, "--json")[1].replace("\n", "") if not c.isprintable()]


def _with(payload: str, nasty: str) -> str:
    """Return the payload of a record with something nasty wherever its shape takes any text."""
    record: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    if "action" in record:
        record["action"]["route"] = nasty
        record["decision"]["rule"] = nasty
        record["decision"]["argument"] = nasty
        record["outcome"], record["error"] = "error", nasty
        record["decision"]["effect"] = "warn"
    return base64.urlsafe_b64encode(encode_record(record)).rstrip(b"=").decode()


def story(**changes: Any) -> TaskTimeline:
    parties = ("principal", "principal_kind", "provenance", "agent", "owner")
    unknown: dict[str, Any] = dict.fromkeys(("purpose", *parties, "expires_ns", "ended_ns"))
    known: dict[str, Any] = {"task": "t", "started_ns": 0, "actions": (), "omitted": 0, "refused": 0}
    return TaskTimeline(**{**unknown, **known, **changes})


def told(**changes: Any) -> str:
    class File:
        def isatty(self) -> bool:
            return False

    return "\n".join(lines(story(**changes), Style(File(), {})))  # type: ignore[arg-type]


def test_unknown_parties_are_question_marks() -> None:
    """Where only a part of a task is there, what is missing is shown as missing."""
    assert told() == "task  t\n  on behalf of ? (?) → ?\n  1970-01-01 00:00:00 UTC to no end recorded"


def test_wide_names_keep_the_columns() -> None:
    """Tools with names in wide characters do not shift what stands behind them."""
    common = {"record": "r", "at_ns": 0, "agents": ("a",), "effect": "allow", "outcome": "success", "reason": "ok"}
    rest = dict.fromkeys(("rule", "why", "argument", "route", "error"))
    actions = tuple(Action(tool=tool, **common, **rest) for tool in ("請求書", "read"))  # type: ignore[arg-type]
    rows = told(actions=actions).splitlines()[3:]
    assert [width(row[: row.index("success")]) for row in rows] == [width("  00:00:00.000  allow  請求書  a  ")] * 2


def test_omitted_calls_are_counted() -> None:
    """A task with endless calls says how many are left out, and of how many calls were refused."""
    shown = told(omitted=12_345, refused=2)
    assert shown.endswith("  … and 12,345 more calls\n  2 of 12,345 calls refused")
