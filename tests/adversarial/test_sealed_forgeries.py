"""Ledgers that an insider with all keys sealed, or whose files someone changed: what a verifier must not be led to."""

import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from evidence_cases import CASES, content_of, write_files
from vectors.insider import (
    BEGIN,
    HOLDERS,
    ISSUER,
    ISSUER_URI,
    ORIGIN,
    RECORDER,
    STRANGER,
    Hop,
    Ledger,
    Line,
    Stream,
    canonical,
    digest,
    logged,
    noted,
)

from agent_identity import Report, Verifier
from agent_identity._authority.grants.signed_marks import SignedMark, sign_mark
from agent_identity._identity.trust.entries import Takeover
from agent_identity.identity import TrustedKey, TrustStore
from agent_identity.limits import Limit

Content = dict[str, bytes]
QUIET: Final[dict[str, Any]] = {"labels": []}
PAYS: Final[dict[str, Any]] = {"labels": ["payment"]}


def verified(content: Content, folder: Path) -> Report:
    """Return the report about the files of a ledger."""
    write_files(content, folder)
    return Verifier(folder / "trust.json", processes=1).ledger(folder)


def codes(content: Content, folder: Path) -> set[str]:
    """Return the codes of what is found in the files of a ledger."""
    return {problem.code for problem in verified(content, folder).findings}


def marked(flow: str | None = "flow-1", *tools: str) -> tuple[Ledger, Stream, Hop]:
    """Begin a task of a trusted request."""
    ledger = Ledger()
    stream = ledger.stream()
    ledger.policy(stream, flow)
    task = ledger.task(stream, *(tools or ("read", "pay")))
    task.grant()
    task.mark("request", "trusted")
    task.start(judged_at=task.at)
    return ledger, stream, task


# Information flow: what one stream, one answer and one approval can vouch for.


def test_no_state_of_a_stream_judges_another_one(tmp_path: Path) -> None:
    """Marks, numbers, rules and approvals of the first stream accuse and excuse nothing in the second."""
    ledger, stream, task = marked()
    read = task.intent("read", judged_at=task.at, action=QUIET)
    task.lowered(task.outcome(read, result=True), "untrusted")
    begun = {"hop": task.hash, "seq": "1"}
    task.stream = second = ledger.stream()  # A forked child: what it saw of the mark is the first.
    first_call = task.outcome(task.intent("pay", judged_at=begun, action=PAYS))
    first_call.record.update(label="trusted", mark_after={"label": "trusted", "seq": "1"})
    task.outcome(task.intent("pay"))  # Without a mark: no rule of this stream, and no change in it, asks for one.
    task.stream = stream
    ledger.close(second)
    task.end()
    ledger.close(stream)
    assert codes(ledger.content(), tmp_path) == {"flow_not_checked"}


def test_rules_of_a_stream_do_not_end_with_another_one(tmp_path: Path) -> None:
    """What ran against the mark in the second stream is found, whatever the rules of the first were."""
    ledger, stream, task = marked("flow-2")
    task.end()
    ledger.close(stream)
    second = ledger.stream()
    ledger.policy(second, "flow-1")
    other = ledger.task(second, "read", "pay")
    other.grant()
    other.mark("start", "unknown", joined="unknown")
    other.start(judged_at=other.at)
    pay = other.intent("pay", judged_at=other.at, action=PAYS)
    other.kept(other.outcome(pay, result=True), "unknown")
    other.end()
    ledger.close(second)
    assert codes(ledger.content(), tmp_path) == {"ran_against_mark"}


def answering(*, related: bool) -> Content:
    """Return a ledger with an answer: by a part of the task, or by the holder of the root grant of another."""
    ledger, stream, task = marked(None)
    part = task.delegate("read") if related else ledger.task(stream, "read")
    part.grant()
    beside = task.delegate("read") if related else task
    if related:
        beside.grant()
    said = SignedMark(part.hash, part.hash, beside.hash, "trusted", "1")
    token = sign_mark(HOLDERS[1 if related else 0], said)
    task.mark("answer", "trusted", origin=beside.hash, token=token)
    task.end()
    ledger.close(stream)
    return ledger.content()


@pytest.mark.parametrize("related", [True, False])
def test_the_holder_of_another_root_answers_for_no_task(*, related: bool, tmp_path: Path) -> None:
    """Two root grants have no parent, which is not the same as one parent."""
    assert codes(answering(related=related), tmp_path) == (set() if related else {"mark_mismatch"})


def test_an_answer_under_a_grant_that_is_not_here_is_not_checked(tmp_path: Path) -> None:
    """Also if the other grant of the two is none that anyone could sign for."""
    ledger, stream, task = marked(None)
    part = task.delegate("read")
    part.grant()
    chain = [*task.facts["chain"], {"id": part.facts["agent"]["id"], "grant": digest("none")}]
    broken = {**part.said(), "chain": chain}
    ledger.add(stream, "grant", **broken, grant={"token": part.token})  # It names another hash.
    token = sign_mark(HOLDERS[1], SignedMark(digest("none"), digest("none"), part.hash, "trusted", "1"))
    task.mark("answer", "trusted", origin=part.hash, token=token)
    task.end()
    ledger.close(stream)
    assert codes(ledger.content(), tmp_path) == {"flow_not_checked", "bad_grant", "unknown_grant"}


@pytest.mark.parametrize(("inputs", "found"), [(64, set[str]()), (65, {"ran_against_mark"})])
def test_an_approval_exempts_no_more_inputs_than_it_can_name(inputs: int, found: set[str], tmp_path: Path) -> None:
    """A mark of 65 inputs fulfils no approval, which names 64 at most."""
    ledger, stream, task = marked()
    reads = list[Line]()
    for _ in range(inputs):
        reads.append(task.intent("read", judged_at=task.at, action=QUIET))
        task.lowered(task.outcome(reads[-1], result=True), "untrusted")
    ruled = task.ruling("pay", "120", sources=tuple(read.id for read in reads[:64]))
    ruled.ask()
    ruled.answer()
    pay = task.intent("pay", args="120", judged_at=task.at, action=PAYS, decision=ruled.decision)
    task.kept(task.outcome(pay, result=True), "untrusted")
    task.end()
    ledger.close(stream)
    assert codes(ledger.content(), tmp_path) == found


@pytest.mark.parametrize(("label", "found"), [("untrusted", set[str]()), ("trusted", {"label_mismatch"})])
def test_what_repeats_untrusted_input_is_not_trusted(label: str, found: set[str], tmp_path: Path) -> None:
    """A call whose argument came from untrusted input returns nothing better, though the mark is still trusted."""
    ledger, stream, task = marked(None)
    said = [{"argument": "text", "provenance": "untrusted"}]
    read = task.intent("read", judged_at=task.at, action=QUIET, provenance=said)
    task.lowered(task.outcome(read, result=True), label, "untrusted")
    task.end()
    ledger.close(stream)
    assert codes(ledger.content(), tmp_path) == found


def test_each_of_two_calls_that_go_on_is_judged(tmp_path: Path) -> None:
    """Two intents have one id: the second one goes on as it may, and does not hide the first."""
    ledger, stream, task = marked(None)
    read = task.intent("read", judged_at=task.at, action=QUIET)
    task.lowered(task.outcome(read, result=True), "untrusted")
    paused = task.outcome(task.intent("pay", judged_at=task.at), "suspended")
    task.end()
    again = ledger.task(stream, "pay")
    again.grant()
    again.mark("start", "unknown", joined="unknown")
    again.start(judged_at=again.at)
    intents = list[Line]()
    for number in range(2):
        if number:
            again.mark("join", "untrusted", joined="untrusted", origin=task.hash)
        intents.append(again.intent("pay", judged_at=again.at, resumes=paused.id))
        again.kept(again.outcome(intents[-1], result=True), again._newest[2])
    intents[1].record["id"] = stream[stream.index(intents[1]) + 1].record["intent"] = intents[0].id
    again.end()
    ledger.close(stream)
    found = verified(ledger.content(), tmp_path).findings
    assert [(problem.code, problem.seq) for problem in found] == [("mark_mismatch", stream.index(intents[0]) + 1)]


# Keys: what is proved to be older than their loss.


def ended(ledger: Ledger, content: Content, stream: Stream, place: int) -> Content:
    """Return the content with the record at a place changed, and all after it linked again, but not sealed again."""
    stream[place - 1].record["time"] = {"start": str(ledger.ns + 1)}
    lines = b"".join(line for _, line in stream.lines())
    return {**content, f"ledger/{stream.id}/entries.jsonl": lines}


@pytest.mark.parametrize(("heads", "found"), [([4, 8], set[str]()), ([2, 8], {"key_revoked"})])
def test_only_a_head_that_is_reached_proves_the_age_of_a_grant(
    heads: list[int], found: set[str], tmp_path: Path
) -> None:
    """Records after the last head to which a stream leads may be of any time, whatever the log has besides."""
    ledger = Ledger()
    lost = TrustedKey(ISSUER.public_key, "issuer", revoked_since=BEGIN + 86_400)
    ledger.trust = TrustStore((lost, *ledger.trust.keys[1:]), issuer=ISSUER_URI, origin=ORIGIN)
    stream = ledger.stream()
    ledger.policy(stream)
    task = ledger.task(stream, "read").open()  # The grant has the third place.
    task.call("read")
    task.end()
    ledger.close(stream)
    stream.sealed = heads
    content = ended(ledger, ledger.content(), stream, 6)
    assert codes(content, tmp_path) == {"head_mismatch", *found}


@pytest.mark.parametrize(("origin", "found"), [(ORIGIN, {"rolled_back"}), (None, {"key_revoked"})])
def test_what_a_key_took_over_is_compared_or_does_not_count(
    origin: str | None, found: set[str], tmp_path: Path
) -> None:
    """A thief writes a log of his own; the trust file says how far the true one was, and perhaps of which log."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read").open()
    task.call("read")
    task.end()
    ledger.close(stream)
    stolen = TrustedKey(RECORDER.public_key, "recorder", revoked_since=BEGIN + 86_400)
    heir = TrustedKey(STRANGER.public_key, "recorder", takes_over=Takeover(1, b"\1" * 32))
    ledger.trust = TrustStore((ledger.trust.keys[0], stolen, heir), issuer=ISSUER_URI, origin=origin)
    assert codes(ledger.content(), tmp_path) >= found
    assert verified(ledger.content(), tmp_path).exit_code != 0


# Files: excerpts, prunings, checkpoints and segments.


def test_heads_after_the_end_of_an_excerpt_are_not_missed(tmp_path: Path) -> None:
    """The ledger went on; its later heads stand in the log of the excerpt, whose records end before them."""
    content = content_of(CASES["excerpt"])
    entries = [canonical(json.loads(line)["entry"]) for line in content["log/entries.jsonl"].splitlines()]
    later = {**json.loads(entries[-1]), "size": "12", "root": digest("later")}
    entries.append(canonical(later))
    content["log/entries.jsonl"], content["log/checkpoint"] = logged(entries), noted(entries)
    assert codes(content, tmp_path) == {"excerpt"}
    stated = json.loads(content["excerpt.json"])
    next(iter(stated["streams"].values()))["end"] = "6"  # No head is that large.
    content["excerpt.json"] = canonical(stated)
    assert codes(content, tmp_path) >= {"excerpt", "bad_excerpt"}


@pytest.mark.parametrize(
    "line",
    ["— a.example !!!!", "— a.example", f"- {ORIGIN} AAAA", f"— {ORIGIN} AAAAAA==", "signed", f"—  {ORIGIN} AA=="],
)
def test_a_line_that_is_no_signature_spoils_a_checkpoint(line: str, tmp_path: Path) -> None:
    """Beside a good signature as well: who reads more leniently would take another note for signed."""
    content = content_of(CASES["small"])
    content["log/checkpoint"] += f"{line}\n".encode()
    found = verified(content, tmp_path)
    assert found.exit_code == 1
    assert {problem.code for problem in found.findings} >= {"bad_checkpoint"}


def pruned_in_segments(change: Callable[[Content, str], None]) -> Content:
    """Return a stream that was pruned and goes on in a closed segment and a fresh file."""
    content = content_of(CASES["pruned"])
    name = next(file for file in content if file.endswith("/entries.jsonl"))
    lines = content[name].splitlines(keepends=True)
    folder = name.rpartition("/")[0]
    content[f"{folder}/entries-{5:020}.jsonl.gz"] = gzip.compress(b"".join(lines[:1]), mtime=0)
    content[name] = b"".join(lines[1:])
    change(content, folder)
    return content


def _nothing(content: Content, folder: str) -> None:
    """Change nothing."""


def _plain_beside(content: Content, folder: str) -> None:
    packed = f"{folder}/entries-{5:020}.jsonl.gz"
    content[packed.removesuffix(".gz")] = gzip.decompress(content[packed])
    content[packed] = b"spoiled"


def _empty_first(content: Content, folder: str) -> None:
    content[f"{folder}/entries-{1:020}.jsonl"] = b""


def _damaged_first(content: Content, folder: str) -> None:
    content[f"{folder}/entries-{1:020}.jsonl.gz"] = b"spoiled"


def _damaged(content: Content, folder: str) -> None:
    content[f"{folder}/entries-{5:020}.jsonl.gz"] += b"more"


@pytest.mark.parametrize(
    ("change", "there", "absent"),
    [
        (_nothing, {"pruned"}, {"unreadable", "records_cut"}),
        (_plain_beside, {"pruned"}, {"unreadable", "records_cut"}),
        (_empty_first, {"records_cut"}, {"pruned"}),
        (_damaged_first, {"records_cut", "unreadable"}, {"pruned"}),
        (_damaged, {"pruned", "records_cut", "unreadable"}, {"bad_pruning"}),
    ],
)
def test_the_first_segment_says_where_a_pruned_stream_begins(
    change: Callable[[Content, str], None], there: set[str], absent: set[str], tmp_path: Path
) -> None:
    """By its name, be it empty or damaged: a statement excuses no record that a file claims to have."""
    found = codes(pruned_in_segments(change), tmp_path)
    assert found >= there
    assert not found & absent


def _spoiled(packed: bytes, at: int) -> bytes:
    return packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]


def _readable(packed: bytes) -> bytes:
    """Return what a compressed file gives byte by byte, up to the first byte that gives an error."""
    unpacker, data = zlib.decompressobj(31), b""
    for at in range(len(packed)):
        try:
            data += unpacker.decompress(packed[at : at + 1])
        except zlib.error:
            break
    return data


@pytest.mark.nightly
def test_a_damaged_segment_has_the_lines_before_the_damage(tmp_path: Path) -> None:
    """However large the pieces are in which it is read: as many lines as its bytes give one by one."""
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "read").open()
    for _ in range(400):
        task.call("read")
    task.end()
    ledger.close(stream)
    content = ledger.content()
    name = f"ledger/{stream.id}/entries"
    whole = content.pop(f"{name}.jsonl")
    packed = gzip.compress(whole, mtime=0)
    content[f"{name}.jsonl"] = b""
    size = len(stream)
    for number, at in enumerate(range(20, len(packed), len(packed) // 23)):
        for damaged in (_spoiled(packed, at), packed[:at], packed[:at] + b"\n" + packed[at:]):
            content[f"{name}-{1:020}.jsonl.gz"] = damaged
            given = _readable(damaged).count(b"\n")
            found = verified(content, tmp_path / str(number))
            said = {problem.code: problem.message for problem in found.findings}
            assert "unreadable" in said or given == 0
            cut = said.get("records_cut", "")
            assert given >= size or f"has {given:,} of {size:,} records" in cut or (cut and not given), (at, said)


def test_no_record_of_a_second_member_is_read(tmp_path: Path) -> None:
    """A segment has one compressed member: what stands behind it are no records, though gzip would go on."""
    content = content_of(CASES["segments-packed"])
    name = next(file for file in content if file.endswith(".gz"))
    data = gzip.decompress(content[name])
    half = data.index(b"\n") + 1
    content[name] = gzip.compress(data[:half], mtime=0) + gzip.compress(data[half:], mtime=0)
    assert codes(content, tmp_path) >= {"unreadable", "records_cut"}


@pytest.mark.parametrize("first", [1, 3])
def test_the_least_limit_of_a_task_counts(first: int, tmp_path: Path) -> None:
    """A part with other limits than its task is refused; which of the two was read first does not raise the limit."""
    ledger = Ledger()
    stream = ledger.stream()
    tasks = list[Hop]()
    for most in (first, 4 - first):
        task = ledger.task(stream, "read", task="one", limits=(Limit("uses", "*", most),))
        tasks.append(task)
    tasks[1].facts["chain"] = [tasks[0].facts["chain"][0], *tasks[1].facts["chain"]]  # As if a part of the first.
    for task in tasks:
        task.open().call("read")
    for task in reversed(tasks):
        task.end()
    ledger.close(stream)
    assert codes(ledger.content(), tmp_path) == {"bad_grant", "limit_exceeded"}


def test_two_excerpts_glued_together_are_no_excerpt_of_one_ledger(tmp_path: Path) -> None:
    """Streams of another ledger of the same keys are in no head of this one, whichever of the two logs is kept."""
    ledgers = [small_ledger(number) for number in range(2)]
    parts = dict[str, Any]()
    glued = dict(ledgers[0])
    for content in ledgers:
        name = next(name for name in content if name.endswith("/entries.jsonl") and name.startswith("ledger/"))
        glued[name] = content[name]
        parts[name.split("/")[1]] = {"size": "0", "end": str(content[name].count(b"\n"))}
    glued["excerpt.json"] = canonical({"streams": parts, "v": "1"})
    assert len(parts) == 2
    assert codes(glued, tmp_path / "one log") == {"excerpt", "bad_excerpt", "stream_unknown"}
    entries = [
        canonical(json.loads(line)["entry"]) for one in ledgers for line in one["log/entries.jsonl"].splitlines()
    ]
    glued["log/entries.jsonl"] = logged(entries)  # The checkpoint is still that of the first.
    found = codes(glued, tmp_path / "two logs")
    assert found >= {"excerpt", "log_ahead"}
    glued["log/checkpoint"] = ledgers[1]["log/checkpoint"]
    assert codes(glued, tmp_path / "other checkpoint") >= {"log_changed"}


def small_ledger(number: int) -> Content:
    """Return a small ledger of the same keys; ids differ by its number."""
    ledger = Ledger()
    for _ in range(1_000 * number):
        ledger.id()
    stream = ledger.stream()
    task = ledger.task(stream, "read").open()
    task.call("read")
    task.end()
    ledger.close(stream)
    return ledger.content()
