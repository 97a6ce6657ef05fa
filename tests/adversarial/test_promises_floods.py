"""Small files that would stall a verification or a start: what they cost is bounded, and no honest file is refused."""

import gzip
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard

from agent_identity import Enforcer, Scope, Verifier

TRUST = Path(__file__).resolve().parents[1] / "vectors/evidence/trust.json"
SPANS = TRUST.parents[1] / "spans.jsonl"
PACKED: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}


def steps(work: Callable[[], object]) -> int:
    """Return how many calls of Python and C functions a piece of work takes."""
    count = 0

    def see(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def codes(data: bytes) -> set[str]:
    return {finding.code for finding in Verifier(TRUST).traces(io.BytesIO(data)).findings}


@pytest.mark.parametrize("text", [b"\n", b"\r\n", b" \n"], ids=["newlines", "line ends of Windows", "spaces"])
def test_a_small_file_of_nothing_but_line_ends_costs_nearly_nothing(text: bytes) -> None:
    """Blank lines are passed over, plain or compressed, as far as a file of this size is read, and more is no pass."""
    spans = SPANS.read_bytes()
    flood = text * (12_000_000 // len(text))
    few = [steps(partial(codes, data)) for data in (spans, spans, gzip.compress(spans))]
    assert steps(lambda: Verifier(TRUST).traces(io.BytesIO(flood + spans))) < few[1] + 20_000
    assert Verifier(TRUST).traces(io.BytesIO(flood + spans)).counts["verified"] == 12
    packed = gzip.compress(flood)
    assert len(packed) < 24_000
    assert steps(lambda: Verifier(TRUST).traces(io.BytesIO(packed))) < few[2] + 20_000
    assert "inflates_too_far" in codes(packed)


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("line", [b"1\n", b"{}\n", b'{"resourceSpans":[]}\n'])
def test_a_small_file_of_many_documents_is_read_no_further_than_evidence_goes(how: str, line: bytes) -> None:
    """A document for each compressed byte is more than any exporter writes: the verdict is 'cannot tell', and why."""
    data = PACKED[how](line * (12_000_000 // len(line)))
    assert len(data) < 40_000
    report = Verifier(TRUST).traces(io.BytesIO(data))
    (problem,) = [finding for finding in report.findings if finding.code == "inflates_too_far"]
    assert (report.verdict, report.exit_code) == ("cannot_tell", 2)
    assert "decompress it and verify" in problem.message
    assert report.counts.get("malformed", 0) <= 5_000 + len(data)


@pytest.mark.parametrize("how", PACKED)
def test_a_small_file_that_becomes_huge_is_no_pass_for_what_stands_before_the_flood(how: str) -> None:
    """Genuine spans before a flood are verified, and the report does not say that the file is."""
    data = PACKED[how](SPANS.read_bytes() + b'{"x":"' + b" " * 60_000_000 + b'"}\n')
    report = Verifier(TRUST).traces(io.BytesIO(data))
    assert report.verdict == "cannot_tell"
    assert "inflates_too_far" in {finding.code for finding in report.findings}


def test_a_compressed_message_of_a_binary_file_is_bounded_by_itself() -> None:
    """The collector compresses each message; one that becomes far larger than evidence does is named, not inflated."""
    message = zstandard.compress(b"\x0a\x00" * 10_000_000)
    data = b"".join(len(message).to_bytes(4, "big") + message for _ in range(3))
    report = Verifier(TRUST).traces(io.BytesIO(data))
    assert report.exit_code != 0
    assert report.counts["malformed"] == 3


@pytest.mark.parametrize("how", PACKED)
def test_honest_traces_that_repeat_themselves_are_not_refused(how: str) -> None:
    """Long conversations that each span repeats compress a hundredfold, and are read to their end."""
    prompt = os.urandom(14_000).hex()
    line = (
        b'{"resourceSpans":[{"scopeSpans":[{"scope":{"name":"llm"},"spans":[{"traceId":"%s","spanId":"%s","name":"c",'
    )
    line += b'"attributes":[{"key":"gen_ai.input.messages","value":{"stringValue":"%s"}}]}]}]}]}\n'
    text = b"".join(
        line % (os.urandom(16).hex().encode(), os.urandom(8).hex().encode(), prompt.encode()) for _ in range(600)
    )
    data = PACKED[how](text)
    assert len(text) > 60 * len(data)
    report = Verifier(TRUST).traces(io.BytesIO(data + PACKED[how](SPANS.read_bytes())))
    assert (report.verdict, report.counts.get("malformed", 0)) == ("verified", 0)


def test_many_empty_members_cost_no_more_than_they_are_long() -> None:
    """Members without content, of which a megabyte has fifty thousand, are read past one by one."""
    few, many = (gzip.compress(b"") * number + gzip.compress(SPANS.read_bytes()) for number in (1, 20_000))
    cost = [steps(lambda data=data: Verifier(TRUST).traces(io.BytesIO(data))) for data in (few, few, many)]
    assert cost[2] - cost[1] < 20_000 * 12
    assert Verifier(TRUST).traces(io.BytesIO(many)).verdict == "verified"


@pytest.mark.parametrize(("where", "code"), [("ledger", "malformed_tail"), ("log", "log_rejected")])
def test_line_ends_behind_a_ledger_are_one_finding(world: Any, where: str, code: str) -> None:
    """A megabyte of line ends behind a stream, or the log, costs as much as one, and the verdict names it once."""
    with world.task(Scope("tool")):
        world.tool()()
    world.enforcer.close()
    (path,) = (path for path in (world.directory / where).rglob("entries.jsonl"))
    before = path.read_bytes()
    found, cost = [], []
    for number in (1, 1, 1_000_000):
        path.write_bytes(before + b"\n" * number)
        cost.append(steps(lambda: found.append(Verifier(world.directory / "trust.json").ledger(world.directory))))
    path.write_bytes(before)
    assert [finding.code for finding in found[2].findings] == [finding.code for finding in found[1].findings]
    assert [finding.code for finding in found[2].findings].count(code) == 1
    assert cost[2] < cost[1] + 20_000


def test_line_ends_behind_a_stream_do_not_slow_a_start(tmp_path: Path) -> None:
    """A start reads what a dead process left; a megabyte of line ends there is one line that it did not write."""
    with Enforcer.open(tmp_path):
        pass
    (stream,) = (tmp_path / "ledger").iterdir()
    cost = []
    for number in (1, 1, 1_000_000):
        with (stream / "entries.jsonl").open("ab") as file:
            file.write(b"\n" * number)
        cost.append(steps(lambda: Enforcer.open(tmp_path).close()))
    assert cost[2] < cost[1] + 20_000
