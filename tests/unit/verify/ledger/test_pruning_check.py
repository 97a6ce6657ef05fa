"""Verifying what is left of a ledger: pruned, archived, in an excerpt, in a bundle."""

import gzip
import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity import Agent, Denied, Effect, Enforcer, Human, Report, Rule, RuleSet, Scope, Verifier, records
from agent_identity._directory.export._otlp_encoding import as_bytes, encode_request
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import bytes_of_id
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._ledger import segments as segments_module
from agent_identity._ledger.archiving import archive, prune
from agent_identity._ledger.excerpt_starts import Excerpt, Start
from agent_identity._ledger.prune_statement import Kept, PruneStatement, sign_pruned, unverified_pruned
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.transparency import checkpoint as checkpoint_module
from agent_identity._ledger.transparency.log import Head
from agent_identity._record.codec import decode
from agent_identity._spans.span_from_record import EXPORTED_KINDS, make_span
from agent_identity._storage.layout import segment_name
from agent_identity._verify._reconcile import Comparison
from agent_identity._verify.inputs.sources import is_bundle
from agent_identity._verify.ledger._pruning_check import find_excerpt, find_kept, find_leftovers, find_pruned
from agent_identity._verify.ledger.ledger_check import LEDGER_STEPS, Progress
from agent_identity._verify.ledger.log_check import Heads
from agent_identity._verify.proofs import bundle as bundle_module
from agent_identity._verify.proofs.bundle import Choice, collect, pack, report_json, unpacked
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.spans.spans_check import SPAN_STEPS
from agent_identity.approvals import Approval
from agent_identity.audit import export, story
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Durability, Ledger, Segments, Sources
from agent_identity.records import encode
from agent_identity.testing import FixedClock, SequentialIds

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
FUTURE = 1 << 62
EVERYTHING = Choice()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Room":
    """A directory whose streams have segments of some eight records."""
    monkeypatch.setattr(segments_module, "_MIN_BYTES", 1)
    return Room(tmp_path)


class Room:
    """An evidence directory, its archive and bundles of it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / "evidence"
        self.clock = FixedClock()
        self.ids = SequentialIds()
        self.borders: list[int] = []
        self.tasks: list[str] = []

    def record(self, tasks: int = 6, *, size: int = 8_000, **options: Any) -> str:
        """Record some tasks, one of which waits for its end until the last, and return the stream."""
        segments = Segments(max_bytes=size, compression="none")
        with Enforcer.open(
            self.path,
            sources=Sources(clock=self.clock, ids=self.ids),
            durability=Durability(segments=segments),
            **options,
        ) as enforcer:

            @enforcer.tool
            def pay(amount: int) -> int:
                """Pay."""
                return amount

            with enforcer.task("long", principal=ALICE, agent=CLERK, scope=Scope("pay")) as task:
                self.tasks.append(task.id)
                for number in range(tasks):
                    pay(amount=number)
                    self.clock.advance(1)
                    with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")) as short:
                        self.tasks.append(short.id)
                        pay(amount=number)
            return enforcer._enforcement.ledger.stream

    @property
    def key(self) -> SigningKey:
        """The recorder key."""
        return SigningKey.load(self.path / "keys" / "recorder.pem")

    def prune(self, before_ns: int = FUTURE) -> list[tuple[str, int, int]]:
        """Prune and return what went."""
        origin = TrustStore.load(self.path / "trust.json").origin or ""
        with Ledger.open(self.path, signer=self.key, origin=origin, clock=self.clock, ids=self.ids) as ledger:
            given = {"signer": self.key, "clock": self.clock, "before_ns": before_ns}
            return [(r.stream, r.first, r.last) for r in prune(str(self.path), ledger, **given)]

    def check(self, progress: Progress | None = None, **options: object) -> Report:
        """Verify with the keys of the directory."""
        return Verifier(self.path / "trust.json", progress=progress).ledger(self.path, **options)

    def statement(self, stream: str) -> Path:
        """Return the path of the statement."""
        return self.path / "ledger" / stream / "pruned"

    def bundle(self, name: str = "b.zip", choice: Choice = EVERYTHING, **others: bytes) -> Path:
        """Make a bundle."""
        folder = self.base / f"staged-{name}"
        folder.mkdir()
        collect(self.path, folder, choice)
        pack(self.base / name, folder, others)
        return self.base / name


def codes(report: Report) -> set[str]:
    """Return the codes of what was found."""
    return {problem.code for problem in report.findings}


def spans_of(room: Room) -> io.BytesIO:
    """Return the spans of all records that are there, as `replay` sends them."""
    reader = LedgerReader(str(room.path))
    copies = [
        make_span(record, line.record, room.key)
        for stream in reader.streams()
        for line in reader.entries(stream)
        if line.record is not None and (record := decode(line.record)).kind in EXPORTED_KINDS
    ]
    return io.BytesIO(as_bytes(encode_request(copies, {}), "json"))


def test_traces_that_are_older_than_what_is_left_of_their_ledger(room: Room) -> None:
    """They are verified by their signatures and said to be older; what is missing behind the border is found."""
    stream = room.record()
    traces, trust = spans_of(room), room.path / "trust.json"
    ((_, _, last),) = room.prune(1_764_000_003 * 10**9)
    left = spans_of(room)
    report = Verifier(trust).traces(traces, ledger=room.path)
    assert (report.exit_code, report.integrity, report.completeness) == (0, "verified", "pruned")
    (problem,) = [problem for problem in report.findings if problem.code == "pruned"]
    number = report.counts["records"]
    older = number - report.counts["proved_by_ledger"]
    assert (problem.stream, problem.seq, report.counts["pruned"]) == (stream, last + 1, last)
    assert older > 0
    words = f"{older} records on spans are older than the unpruned part of the stream in the ledger"
    assert problem.message == words
    assert f"{number - older} of {number} records are in the ledger" in report.steps[7].detail
    report = Verifier(trust).traces(left, ledger=room.path)
    assert (report.exit_code, report.completeness, codes(report)) == (0, "pruned", {"chain_not_checked"})


def test_a_record_that_is_removed_behind_the_border_is_not_taken_for_a_pruned_one(room: Room) -> None:
    """Only what the signed statement covers is said to be older."""
    stream = room.record()
    traces = spans_of(room)
    room.prune(1_764_000_003 * 10**9)
    file = room.path / "ledger" / stream / "entries.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-2]))
    report = Verifier(room.path / "trust.json").traces(traces, ledger=room.path)
    assert codes(report) >= {"not_in_ledger", "ledger_contradicted", "pruned"}


def test_the_last_record_that_was_pruned_is_older_and_the_next_one_is_not(room: Room) -> None:
    """The border itself belongs to what was pruned."""
    stream = room.record()
    ((_, _, last),) = room.prune(1_764_000_003 * 10**9)
    findings = Findings("traces", SPAN_STEPS)
    comparison = Comparison([room.path], TrustStore.load(room.path / "trust.json"), findings)

    class Index:
        def unmatched(self) -> Iterator[tuple[bytes, bytes, bytes, int]]:
            yield from ((bytes(15) + bytes([seq]), b"", bytes_of_id(stream), last + seq) for seq in (0, 1))

        def starts_behind(self, name: str) -> int:
            return last if name == stream else 0

    assert comparison._report_unmatched(Index()) == 2  # type: ignore[arg-type]
    assert {(found.code, found.record) for found in findings.report().findings} == {
        ("pruned", None),
        ("not_in_ledger", f"{'A' * 20}AQ"),
    }


def test_each_reason_alone_fails_the_comparison(room: Room) -> None:
    """A ledger that is not whole, and records of another one, are no pass, even without anything else."""
    room.record(1)
    trust = TrustStore.load(room.path / "trust.json")

    class Elsewhere:
        def unmatched(self) -> Iterator[tuple[bytes, bytes, bytes, int]]:
            yield bytes(16), b"", bytes(16), 1

        def starts_behind(self, name: str) -> int:
            return 0

    for code in ("other_ledger", "ledger_not_verified"):
        findings = Findings("traces", SPAN_STEPS)
        comparison = Comparison([room.path], trust, findings)
        if code == "other_ledger":
            assert comparison._report_unmatched(Elsewhere()) == 1  # type: ignore[arg-type]
        else:
            comparison._report_verdict()
        report = findings.report()
        assert ([found.code for found in report.findings], report.steps[7].status) == ([code], "failed")


def second_of(report: Report) -> int:
    """Return the number of records."""
    return report.counts["records"]


def test_what_is_left_of_a_pruned_stream_verifies(room: Room) -> None:
    """Behind the border every record is proved; what is gone is said to be gone, and never counts as verified."""
    stream = room.record()
    before = room.check()
    half = 1_764_000_003 * 10**9
    ((name, first, last),) = room.prune(half)
    assert (name, first) == (stream, 1)
    after = room.check()
    assert after.verdict == "verified"
    assert (after.integrity, after.completeness) == ("verified", "pruned")
    assert after.counts["pruned"] == last
    assert after.counts["verified"] == after.counts["records"] == before.counts["records"] - last + 3
    assert codes(after) == {"pruned"}
    (found,) = after.findings
    assert f"records 1 to {last} were pruned after the checkpoint" in found.message
    assert (found.stream, found.seq) == (stream, last + 1)


def test_every_border_keeps_what_is_needed(room: Room) -> None:
    """Wherever a stream with open calls and tasks is cut, the rest is verified without a contradiction."""
    stream = room.record(4, size=1)
    whole = room.base / "whole"
    shutil.copytree(room.path, whole)
    size = len(list((whole / "ledger" / stream).glob("entries*")))
    for border in range(1, size, 3):
        shutil.rmtree(room.path)
        shutil.copytree(whole, room.path)
        times = sorted((room.path / "ledger" / stream).glob("entries*"))
        newest = json.loads(times[border].read_bytes())["record"]["time"]
        room.prune(int(newest.get("end", newest["start"])) + 1)
        report = room.check()
        assert report.verdict == "verified", (border, report.findings)
        assert codes(report) <= {"pruned", "chain_not_checked"}
    assert report.counts["pruned"] > size // 2


def test_no_border_lets_a_call_look_as_if_nobody_had_approved_of_it(room: Room) -> None:
    """A cut between the question, the answer and the call makes the approval one that is not checked."""
    policy = RuleSet(Rule(Effect.ROUTE, tools="pay", to="desk", id="four-eyes"))
    desk = Approval(ask=lambda request: request.approve(by=Human("bob@example.com")))
    found = set[str]()
    for size in range(1_000, 9_000, 1_000):
        one = Room(room.base / str(size))
        one.record(3, size=size, policy=policy, routes={"desk": desk})
        one.prune(one.clock.wall_ns() - 1)
        report = one.check()
        assert report.verdict == "verified", (size, report.findings)
        found |= codes(report)
    assert "approval_not_checked" in found


def test_an_outcome_behind_the_border_needs_no_intent(room: Room) -> None:
    """An intent that was open where the stream was cut is named in the statement; another outcome has none."""
    with (
        Enforcer.open(
            room.path,
            sources=Sources(clock=room.clock, ids=room.ids),
            durability=Durability(segments=Segments(compression="none")),
        ) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
        enforcer.action("pay"),
    ):
        ledger = enforcer._enforcement.ledger
        stream = ledger.stream
        ledger._stream.rotate_at = 0
        append(ledger, "registration", {"agent": {"id": "clerk", "owner": "o"}})
        ledger.seal()
        ((name, _, _),) = room.prune()
        assert name == stream
    report = room.check()
    assert report.verdict == "verified"
    assert report.counts["intents_pruned"] == 1
    assert report.counts["chains_verified"] == 1
    path = room.statement(stream)
    claim = unverified_pruned(path.read_bytes()).to_claim()
    del claim["open"]
    path.write_bytes(sign_pruned(PruneStatement.from_claim(claim), room.key))
    assert "intent_missing" in codes(room.check())


def test_a_call_that_runs_on_after_its_task_expired_keeps_its_grant(room: Room) -> None:
    """A stream is cut behind it twice; the outcome, refusals since and the end are checked like all others."""
    with (
        Enforcer.open(
            room.path,
            sources=Sources(clock=room.clock, ids=room.ids),
            durability=Durability(segments=Segments(compression="none")),
        ) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay"), ttl=timedelta(seconds=60)),
        enforcer.action("pay"),
    ):
        ledger = enforcer._enforcement.ledger
        for seconds in (61, 86_400):
            room.clock.advance(seconds)
            ledger._stream.rotate_at = 0
            append(ledger, "registration", {"agent": {"id": "clerk", "owner": "o"}})
            ledger.seal()
            assert ledger.stream in [name for name, _, _ in room.prune()]
        with pytest.raises(Denied), enforcer.action("pay"):
            pass
    report = room.check()
    assert (report.verdict, codes(report)) == ("verified", {"pruned"})


def test_a_segment_may_end_between_a_grant_and_the_start_of_its_task(room: Room) -> None:
    """A cut there keeps the grant, and loses nothing wherever it comes in the life of a task."""
    kinds = set[str]()
    for number, size in enumerate(range(2_000, 8_000, 500)):
        room.path = room.base / f"evidence{number}"
        segments = Segments(max_bytes=size, compression="none")
        with Enforcer.open(
            room.path, sources=Sources(clock=room.clock, ids=room.ids), durability=Durability(segments=segments)
        ) as enforcer:
            for _ in range(4):
                with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")), enforcer.action("pay"):
                    pass
            ledger = enforcer._enforcement.ledger
            ledger.seal()
            last = max((room.path / "ledger" / ledger.stream).glob("entries-*")).read_bytes().splitlines()[-1]
            kinds.add(json.loads(last)["record"]["kind"])
            assert [name for name, _, _ in room.prune()] == [ledger.stream]
        assert codes(room.check()) == {"pruned"}
    assert "grant" in kinds


def between(room: Room) -> str:
    """Prune a stream between the beginning of a task and a call of it, and return the stream."""
    with (
        Enforcer.open(
            room.path,
            sources=Sources(clock=room.clock, ids=room.ids),
            durability=Durability(segments=Segments(compression="none")),
        ) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
    ):
        ledger = enforcer._enforcement.ledger
        ledger._stream.rotate_at = 0
        append(ledger, "registration", {"agent": {"id": "clerk", "owner": "o"}})
        ledger.seal()
        room.prune()
        with enforcer.action("pay"):
            pass
        return ledger.stream


def test_ac_101_grants_that_were_kept_do_not_go_unnoticed(room: Room) -> None:
    """One that is gone makes the report incomplete, one that nobody named contradicts it, and none is taken then."""
    stream = between(room)
    assert (room.check().verdict, room.check().counts["chains_verified"]) == ("verified", 1)
    (path,) = (room.path / "ledger" / stream).glob("grants*")
    content = path.read_bytes()
    for change, code, verdict in (
        (None, "kept_grants_missing", "incomplete"),
        (b"", "kept_grants_missing", "incomplete"),
        (content * 2, "kept_grants_changed", "contradicted"),
        (content + b"x" * 100_000, "kept_grants_changed", "contradicted"),
        (content.replace(b".", b".A"), "kept_grants_changed", "contradicted"),
    ):
        path.unlink() if change is None else path.write_bytes(change)
        report = room.check()
        assert report.verdict == verdict, code
        assert {code, "chain_not_checked"} <= codes(report)
        assert report.counts["chains_verified"] == 0
    path.write_bytes(content)
    path.with_name("grants.jsonl").write_bytes(content * 100)  # No statement names this file.
    assert room.check().verdict == "verified"
    for name, choice in (("w.zip", EVERYTHING), ("e.zip", Choice(from_ns=0))):
        report = Verifier(room.path / "trust.json").ledger(room.bundle(name, choice))
        assert (report.integrity, report.counts["chains_verified"]) == ("verified", 1)


def test_ac_101_grants_beside_a_statement_that_nobody_trusted_signed_are_not_read(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone may have put them there, as many as they like."""
    stream = between(room)
    read: list[str] = []
    kept_grants = LedgerReader.kept_grants

    def noted(self: LedgerReader, pruned: PruneStatement) -> object:
        read.append(pruned.stream)
        return kept_grants(self, pruned)

    monkeypatch.setattr(LedgerReader, "kept_grants", noted)
    assert room.check().verdict == "verified"
    assert read == [stream]
    del read[:]
    note = room.statement(stream).read_bytes()
    room.statement(stream).write_bytes(sign_pruned(unverified_pruned(note), SigningKey.from_seed(b"o" * 32)))
    assert "unknown_key" in codes(room.check())
    (room.path / "trust.json").unlink()
    room.statement(stream).write_bytes(note)
    assert Verifier().ledger(room.path).verdict == "cannot_tell"
    assert read == []


def test_ac_101_records_that_are_gone_without_a_statement_are_missing(room: Room) -> None:
    """Who removes segments without the recorder key cannot make it look like pruning."""
    stream = room.record()
    room.prune(1_764_000_003 * 10**9)
    path, note = room.statement(stream), room.statement(stream).read_bytes()
    pruned = unverified_pruned(note)
    stranger = SigningKey.generate()
    other = PruneStatement.from_claim(pruned.to_claim() | {"stream": "AaIOQ0bYcV-ScJHDCbiHEA"})
    far = PruneStatement.from_claim(pruned.to_claim() | {"size": "255", "peaks": ("A" * 43,) * 8})
    foreign = PruneStatement.from_claim(pruned.to_claim() | {"origin": "elsewhere"})
    swapped = PruneStatement.from_claim(pruned.to_claim() | {"peaks": tuple("E" * 43 for _ in pruned.peaks)})
    for forged, expected, verdict in (
        (b"", {"bad_pruning", "missing_records"}, "contradicted"),
        (note.replace(b'"open"', b'"Open"').replace(b'"log"', b'"lug"'), {"bad_pruning"}, "contradicted"),
        (note.replace(b64url_encode(pruned.last).encode(), b"A" * 43), {"bad_pruning"}, "contradicted"),
        (sign_pruned(pruned, stranger), {"unknown_key"}, "cannot_tell"),
        (sign_pruned(other, room.key), {"bad_pruning"}, "contradicted"),
        (sign_pruned(far, room.key), {"bad_pruning"}, "contradicted"),
        (sign_pruned(foreign, room.key), {"bad_pruning"}, "contradicted"),
        (sign_pruned(swapped, room.key), {"head_mismatch"}, "contradicted"),
    ):
        path.write_bytes(forged)
        report = room.check()
        assert report.verdict == verdict, (expected, report.findings)
        assert expected <= codes(report)
    path.unlink()
    report = room.check()
    assert report.verdict == "contradicted"
    assert {"missing_records", "records_cut"} <= codes(report)


def test_a_statement_proves_no_more_than_what_was_pruned(room: Room) -> None:
    """Records that are removed behind the border are missed as before, up to the last one."""
    stream = room.record()
    room.prune(1_764_000_003 * 10**9)
    rest = sorted((room.path / "ledger" / stream).glob("entries*"))
    rest[0].unlink()
    assert room.check().verdict == "contradicted"
    for path in rest[1:]:
        path.unlink()
    report = room.check()
    assert report.verdict == "contradicted"
    assert "records_cut" in codes(report)


class Told:
    """A reader of a ledger of which only statements are there."""

    def __init__(self, notes: dict[str, bytes], *, first: int = 6, excerpt: bytes | None = None) -> None:
        self.pruned = notes.get
        self.first_place = lambda name: first
        self.excerpt = lambda: excerpt
        self.kept_grants = lambda pruned: ((pruned.stream,), "named")


STREAM = "AaIOQ0bYcV-ScJHDCbiHEA"
RECORDER, SECOND = SigningKey.from_seed(b"r" * 32), SigningKey.from_seed(b"s" * 32)
STATEMENT = PruneStatement(
    origin="o",
    stream=STREAM,
    size=5,
    last=b"l" * 32,
    peaks=(b"p" * 32, b"q" * 32),
    open=(),
    log_size=1,
    log_root=b"r" * 32,
    time_ns=1,
    kept=Kept.of([]),
)


def found_of(
    note: bytes, *, committed: int | None = 9, trust: TrustStore | None = None, first: int = 6
) -> tuple[dict[str, PruneStatement], list[tuple[str, str, str | None, int | None]], str, int]:
    """Return what is proved to be pruned, what was found, how the step ended, and what was counted."""
    findings = Findings("ledger", ("step",) * 8)
    heads = {}
    if committed is not None:
        heads[STREAM] = Heads()
        heads[STREAM].add(Head(STREAM, committed, b"h" * 32, 1))
    found = find_pruned(Told({STREAM: note}, first=first), [STREAM], heads, trust, findings)
    report = findings.report()
    told = [(problem.code, problem.message, problem.stream, problem.seq) for problem in report.findings]
    return found, told, report.steps[6].status, findings.counts["pruned"]


def trusted(*keys: SigningKey, origin: str | None = "o", **options: int) -> TrustStore:
    """Return a trust store with recorder keys, of which the first has options."""
    entries = [TrustedKey(key.public_key, "recorder", **(options if not at else {})) for at, key in enumerate(keys)]
    return TrustStore(tuple(entries), origin=origin)


GONE = "records 1 to 5 were pruned after the checkpoint over 1 entry; "
NOT_HELD = "the statement of the pruning does not hold: "
ABOUT_ANOTHER = f"{NOT_HELD}the statement is about another stream or log"
NO_KEY = "no trusted key signed the statement of the pruning; add the recorder key to the trust file"
REVOKED = "only a revoked key signed the statement of the pruning, and others may have it"


@pytest.mark.parametrize(
    ("committed", "words"), [(9, "the stream now begins with record 6"), (6, "the stream now begins with record 6")]
)
def test_a_statement_that_holds_says_what_went(committed: int, words: str) -> None:
    """It is a notice at the first place that is left, with or without the trusted origin, and counts what is gone."""
    note = sign_pruned(STATEMENT, RECORDER)
    for trust in (trusted(RECORDER), trusted(RECORDER, origin=None), None, trusted(RECORDER, SECOND)):
        assert found_of(note, committed=committed, trust=trust) == (
            {STREAM: STATEMENT},
            [("pruned", GONE + words, STREAM, 6)],
            "not_checked",
            5,
        )
    assert found_of(note, committed=5, trust=trusted(RECORDER))[1][0][1] == GONE + "nothing else is sealed"
    far = sign_pruned(replace(STATEMENT, size=4096, peaks=(b"p" * 32,), log_size=1234), RECORDER)
    assert found_of(far, committed=4097)[1][0][1] == (
        "records 1 to 4,096 were pruned after the checkpoint over 1,234 entries; the stream now "
        "begins with record 4,097"
    )


def test_many_keys_are_not_hashed_for_each_of_many_statements(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trust file of many keys beside many statements costs each key once, not once for each statement."""
    keys = [SigningKey.from_seed(bytes([number]) * 32) for number in range(1, 13)]
    names = [f"{STREAM[:-3]}{number:02}A" for number in range(20)]
    notes = {name: sign_pruned(replace(STATEMENT, stream=name), keys[number % 12]) for number, name in enumerate(names)}
    hashed: list[bytes] = []
    key_id = checkpoint_module.note_key_id

    def counted(name: str, kind: bytes, raw: bytes) -> bytes:
        hashed.append(raw)
        return key_id(name, kind, raw)

    monkeypatch.setattr(checkpoint_module, "note_key_id", counted)
    reader, findings, heads = Told(notes), Findings("ledger", ("step",) * 8), {name: Heads() for name in names}
    for name in names:
        heads[name].add(Head(name, 9, b"h" * 32, 1))
    trust = trusted(*keys, revoked_since=1)
    found = find_pruned(reader, names, heads, trust, findings)
    assert list(found) == names
    assert len(hashed) == len(keys)
    assert list(find_kept(reader, found.values(), trust, findings)) == [
        None if name in names[::12] else name for name in names
    ]
    assert len(hashed) == 2 * len(keys) - 1
    swapped = Told({names[1]: notes[names[2]]})
    assert list(find_kept(swapped, [found[names[1]]], trust, findings)) == [None]
    told = [problem.stream for problem in findings.report().findings if problem.code == "key_revoked"]
    assert told == names[::12]


def test_where_the_first_record_is_a_statement_is_not_looked_at() -> None:
    """Also one that does not hold: nothing hangs on it; and it says nothing of streams it is not beside."""
    assert found_of(b"garbage", first=1) == ({}, [], "not_checked", 0)
    findings = Findings("ledger", ("step",) * 8)
    other = f"{STREAM[:-1]}Q"
    reader = Told({other: sign_pruned(replace(STATEMENT, stream=other), RECORDER), f"{STREAM[:-1]}2": b"x"})
    heads = {other: Heads()}
    heads[other].add(Head(other, 5, b"h" * 32, 1))
    names = [STREAM, f"{STREAM[:-1]}2", other]
    assert set(find_pruned(reader, names, heads, trusted(RECORDER), findings)) == {other}
    again = Findings("ledger", ("step",) * 8)
    find_pruned(reader, [other, other], heads, trusted(RECORDER), again)
    assert (findings.counts["pruned"], again.counts["pruned"]) == (5, 10)
    assert [(problem.code, problem.stream) for problem in findings.report().findings] == [
        ("bad_pruning", f"{STREAM[:-1]}2"),
        ("pruned", other),
    ]


@pytest.mark.parametrize(
    ("statement", "committed", "message"),
    [
        (STATEMENT, 4, f"{NOT_HELD}the log commits to 4 records, fewer than were pruned"),
        (STATEMENT, None, f"{NOT_HELD}the log commits to 0 records, fewer than were pruned"),
        (replace(STATEMENT, stream=f"{STREAM[:-1]}Q"), 9, ABOUT_ANOTHER),
        (replace(STATEMENT, origin="p"), 9, ABOUT_ANOTHER),
    ],
)
def test_a_statement_that_does_not_fit_is_a_contradiction(
    statement: PruneStatement, committed: int | None, message: str
) -> None:
    """More than the log commits to, another stream, another log: the step fails, and nothing counts as pruned."""
    told = found_of(sign_pruned(statement, RECORDER), committed=committed, trust=trusted(RECORDER))
    assert told == ({}, [("bad_pruning", message, STREAM, None)], "failed", 0)


def test_a_statement_needs_one_sound_key() -> None:
    """A stranger's key leaves it open, a revoked one as well, and a sound one beside it settles it."""
    note = sign_pruned(STATEMENT, RECORDER)
    (gone,) = found_of(note, trust=trusted(RECORDER))[1]
    unknown = found_of(note, trust=trusted(SECOND))
    assert unknown == ({STREAM: STATEMENT}, [("unknown_key", NO_KEY, STREAM, None), gone], "not_checked", 5)
    issuer = TrustStore((TrustedKey(RECORDER.public_key, "issuer"),), origin="o")
    assert found_of(note, trust=issuer) == unknown
    revoked = ({STREAM: STATEMENT}, [("key_revoked", REVOKED, STREAM, None), gone], "not_checked", 5)
    assert found_of(note, trust=trusted(RECORDER, revoked_since=1)) == revoked
    assert found_of(note, trust=trusted(RECORDER, SECOND, revoked_since=1)) == revoked
    both = note + sign_pruned(STATEMENT, SECOND).splitlines(keepends=True)[-1]
    assert found_of(both, trust=trusted(RECORDER, SECOND, revoked_since=1))[1] == [gone]
    changed = note.replace(b64url_encode(STATEMENT.last).encode(), b64url_encode(b"m" * 32).encode())
    assert found_of(changed, trust=trusted(RECORDER))[1][0][0] == "bad_pruning"


def test_an_excerpt_says_what_it_is() -> None:
    """It fails the step, also where it holds, because it is never whole; of streams that are not there it says none."""
    start = Start(1, b"l" * 32, (b"p" * 32,), 3)
    data = Excerpt({STREAM: start, f"{STREAM[:-1]}Q": start}).to_bytes()
    words = "this is an excerpt; nothing is said about the records that are not in it"
    for given, names, expected, more in (
        (data, [STREAM, f"{STREAM[:-1]}2"], {STREAM: start}, []),
        (
            b"{}",
            [STREAM],
            {},
            ["the file excerpt.json does not hold: its members are not streams and v 1; make the excerpt again"],
        ),
        (None, [STREAM], None, None),
    ):
        findings = Findings("ledger", ("step",) * 8)
        assert find_excerpt(Told({}, excerpt=given), names, findings) == expected
        messages = [problem.message for problem in findings.report().findings]
        assert messages == ([] if more is None else [*more, words])
        assert findings.report().steps[6].status == ("not_checked" if more is None else "failed")


def test_a_statement_under_a_stolen_key_proves_nothing(room: Room) -> None:
    """Whoever has a revoked key may have removed the records and signed; the verifier cannot tell."""
    stream = room.record()
    room.prune(1_764_000_003 * 10**9)
    trust = json.loads((room.path / "trust.json").read_bytes())
    for key in trust["keys"]:
        if key["purpose"] == "recorder":
            key["revoked_since"] = 1_864_000_000
    stolen = room.base / "stolen.json"
    stolen.write_text(json.dumps(trust))
    report = Verifier(stolen).ledger(room.path)
    assert report.verdict == "cannot_tell"
    assert any("statement" in p.message for p in report.findings if p.code == "key_revoked")
    assert any(problem.stream == stream for problem in report.findings)


def test_without_trusted_keys_a_statement_is_read_and_proves_nothing(room: Room) -> None:
    """Without keys the verdict stays that nobody can tell."""
    room.record()
    room.prune(1_764_000_003 * 10**9)
    (room.path / "trust.json").unlink()
    report = Verifier().ledger(room.path)
    assert report.verdict == "cannot_tell"
    assert report.counts["pruned"]


def test_all_of_a_stream_can_go(room: Room) -> None:
    """A stream that was pruned to its last record is accounted for, and its folder keeps the proof."""
    stream = room.record()
    room.prune()
    report = room.check()
    assert report.verdict == "verified"
    assert report.counts["records"] == 3
    assert "nothing else is sealed" in report.findings[0].message
    room.statement(stream).unlink()
    assert room.check().verdict == "contradicted"


def test_an_archive_gives_back_what_was_pruned(room: Room) -> None:
    """With the archive alongside, or its segments back in place, the whole ledger verifies as before."""
    stream = room.record()
    out = room.base / "out"
    list(archive(str(room.path), str(out)))
    count = room.check().counts["records"]
    room.prune()
    report = room.check(archive=out)
    assert (report.verdict, report.completeness) == ("verified", "complete")
    assert report.counts["records"] == count + 3
    for path in (out / "ledger" / stream).iterdir():
        shutil.copy(path, room.path / "ledger" / stream)
    assert room.check().counts["verified"] == count + 3
    first = min((room.path / "ledger" / stream).glob("*.gz"))
    first.write_bytes(gzip.compress(gzip.decompress(first.read_bytes()).replace(b"alice", b"mally")))
    report = room.check()
    assert report.verdict == "contradicted"
    assert "head_mismatch" in codes(report)


def test_progress_counts_compressed_segments(room: Room) -> None:
    """A directory with compressed segments has a size to show progress by."""
    stream = room.record()
    for path in list((room.path / "ledger" / stream).glob("entries-*")):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    seen: list[tuple[int, int]] = []
    assert room.check(progress=lambda done, total: seen.append((done, total))).verdict == "verified"
    assert seen[-1][1] > 0


def test_a_bundle_verifies_like_its_directory(room: Room) -> None:
    """A bundle has ledger, log and public keys, gives the same report, and never a private key."""
    room.record()
    path = room.bundle(readme=b"hello")
    trust = room.path / "trust.json"
    assert is_bundle(path)
    assert Verifier(trust).ledger(path).to_json() == room.check().to_json()
    assert Verifier().ledger(path).trust == "self-asserted"
    assert [told.task for told in story(path)] == [told.task for told in story(room.path)]
    names = zipfile.ZipFile(path).namelist()
    assert not any("keys" in member or member.endswith(".pem") for member in names)
    assert "evidence/log/checkpoint" in names


@pytest.mark.parametrize("choice", [EVERYTHING, Choice(from_ns=1_764_000_004 * 10**9)], ids=["all", "a part"])
def test_a_bundle_of_a_pruned_ledger_has_what_was_kept(room: Room, choice: Choice) -> None:
    """The statement and the grants that the rest needs travel with it, so that it verifies as its directory does."""
    stream = room.record()
    room.prune(1_764_000_003 * 10**9)
    assert room.check().verdict == "verified"
    path = room.bundle(choice=choice)
    report = Verifier(room.path / "trust.json").ledger(path)
    beside = room.path / "ledger" / stream
    (grants,) = beside.glob("grants-*.jsonl")
    with zipfile.ZipFile(path) as packed:
        for file in (beside / "pruned", grants):
            assert packed.read(f"evidence/ledger/{stream}/{file.name}") == file.read_bytes()
    if choice is EVERYTHING:
        assert report.to_json() == room.check().to_json()
    assert (report.integrity, "bad_pruning" in codes(report)) == ("verified", False)
    assert report.counts["chains_verified"] >= 1


def test_a_bundle_tells_of_keys_that_were_erased(room: Room) -> None:
    """As its directory does: what those calls got and returned cannot be proved any more."""
    with Enforcer.open(room.path, sources=Sources(clock=room.clock, ids=room.ids)) as enforcer:
        for _ in range(2):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")) as task:
                pass
        append(enforcer._enforcement.ledger, "erasure", {"erasure": {"key": task.id}})
    told = [(item.task, item.erased) for item in story(room.path)]
    assert [erased for _, erased in told] == [False, True]
    assert [(item.task, item.erased) for item in story(room.bundle())] == told


def test_the_same_content_makes_the_same_bytes(room: Room) -> None:
    """Bundles have no time and no name of their maker in them."""
    room.record()
    assert room.bundle("one.zip").read_bytes() == room.bundle("two.zip").read_bytes()
    with pytest.raises(ConfigurationError, match=r"\.zip"):
        pack(room.base / "b.rar", room.path, {})


ID = "AZV6P04jewGp0QAAAAAAAQ"


@pytest.mark.parametrize(
    ("choice", "task", "start", "taken"),
    [
        (Choice(), None, 5, True),
        (Choice(task="t"), "t", 5, True),
        (Choice(task="t"), "u", 5, False),
        (Choice(task="t"), None, 5, False),
        (Choice(from_ns=5), None, 5, True),
        (Choice(from_ns=6), None, 5, False),
        (Choice(until_ns=5), None, 5, False),
        (Choice(until_ns=6), None, 5, True),
        (Choice(task="t", from_ns=5, until_ns=6), "t", 5, True),
        (Choice(task="t", from_ns=6, until_ns=7), "t", 5, False),
    ],
)
def test_a_choice_has_exact_borders(choice: Choice, task: str | None, start: int, taken: bool) -> None:
    """The first moment belongs to it, the last does not, and all that it names has to fit."""
    head = {"v": "1", "id": ID, "stream": {"id": ID, "seq": "2", "prev": "A" * 43}, "time": {"start": str(start)}}
    members: dict[str, object] = {"kind": "erasure", "erasure": {"key": "k"}}
    if task is not None:
        members = {
            "kind": "task_start",
            "task": {"id": task},
            "principal": {"id": "alice", "kind": "human", "provenance": "asserted"},
            "agent": {"id": "clerk", "owner": "o"},
            "chain": [{"id": "clerk", "grant": "A" * 43}],
        }
    record = decode(encode_record({**head, **members}))
    assert choice.takes(record) is taken
    assert choice.everything is (choice == EVERYTHING)


def test_what_is_packed_has_one_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in their order, no time but the first one, plain modes; what is compressed already is only stored."""
    evidence = tmp_path / "evidence"
    (evidence / "log").mkdir(parents=True)
    (evidence / "log" / "entries.jsonl").write_bytes(b"e" * 100)
    (evidence / "a.gz").write_bytes(b"g")
    (evidence / "b.gz").write_bytes(b"z")
    pack(tmp_path / "b.zip", evidence, {"readme.txt": b"r", "A": b""})
    names = ["A", "evidence/a.gz", "evidence/b.gz", "evidence/log/entries.jsonl", "readme.txt"]
    with zipfile.ZipFile(tmp_path / "b.zip") as packed:
        entries = packed.infolist()
        assert [entry.filename for entry in entries] == names
        assert {(e.date_time, e.create_system, e.external_attr) for e in entries} == {
            ((1980, 1, 1, 0, 0, 0), 3, 0o644 << 16)
        }
        methods = [zipfile.ZIP_DEFLATED, *[zipfile.ZIP_STORED] * 2, *[zipfile.ZIP_DEFLATED] * 2]
        assert [entry.compress_type for entry in entries] == methods
        assert packed.read("evidence/log/entries.jsonl") == b"e" * 100
    monkeypatch.setattr(bundle_module.shutil, "copyfileobj", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        pack(tmp_path / "c.zip", evidence, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "evidence"]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        (
            "b.zip",
            lambda: b"no archive",
            "the bundle cannot be unpacked (BadZipFile); ask for it again",
        ),
        (
            "b.zip",
            lambda: members(("README.txt", b"x")),
            "the file has no evidence folder; give a bundle made by 'agent-identity bundle'",
        ),
        (
            "b.zip",
            lambda: members(("evidence/log/entries.jsonl", b"\0" * 60_000_000)),
            "the bundle unpacks to more than 200 times its size; do not unpack it",
        ),
        (
            "b.zip",
            None,
            "the bundle {!r} cannot be read (No such file or directory); check the path, or ask for it again",
        ),
    ],
    ids=["other", "empty", "bomb", "none"],
)
def test_why_a_bundle_is_refused_is_told(
    tmp_path: Path, name: str, data: Callable[[], bytes] | None, words: str
) -> None:
    """With the way out."""
    if data is not None:
        (tmp_path / name).write_bytes(data())
    with pytest.raises(ConfigurationError) as caught, unpacked(tmp_path / name):
        pass
    assert str(caught.value) == words.format(str(tmp_path / name))


def test_a_bundle_may_become_as_large_as_its_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the byte: what is inflated counts, in a zip file only what is taken out of it."""
    monkeypatch.setattr(bundle_module, "_MAX_RATIO", 1)
    path, content = tmp_path / "b.zip", b"\0" * 1_000
    path.write_bytes(members(("evidence/log/checkpoint", content)))
    monkeypatch.setattr(bundle_module, "_FREE", len(content) - path.stat().st_size)
    with unpacked(path) as evidence:
        assert (Path(evidence) / "log" / "checkpoint").read_bytes() == content
    monkeypatch.setattr(bundle_module, "_FREE", len(content) - path.stat().st_size - 1)
    with pytest.raises(ConfigurationError, match="more than 1 times its size"), unpacked(path):
        pass
    monkeypatch.setattr(bundle_module, "_FREE", 10_000)
    monkeypatch.setattr(bundle_module, "_MAX_MEMBERS", 3)
    path.write_bytes(members(("x", content * 100), ("y", b""), ("evidence/log/checkpoint", b"c")))
    with unpacked(path) as evidence:
        assert [file.name for file in Path(evidence).rglob("*") if file.is_file()] == ["checkpoint"]
    assert not Path(evidence).exists()


def test_a_report_is_written_in_one_form(room: Room) -> None:
    """Indented, with its members in their order, and a newline at the end."""
    room.record(1)
    report = room.check()
    data = report_json(report)
    assert data == json.dumps(report.to_json(), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def test_an_excerpt_of_one_task_shows_nothing_else(room: Room) -> None:
    """Records of a task verify in their places; of the others only hashes are there, and it never counts as whole."""
    room.record()
    task = room.tasks[0]
    path = room.bundle("t.zip", Choice(task=task))
    report = Verifier(room.path / "trust.json").ledger(path)
    assert (report.verdict, report.exit_code) == ("incomplete", 3)
    assert report.integrity == "verified"
    assert codes(report) == {"excerpt"}
    assert report.counts["records"] == report.counts["verified"] == 15
    assert report.counts["withheld"] >= 25
    assert report.counts["chains_verified"] == 1
    data = zipfile.ZipFile(path)
    text = b"".join(data.read(name) for name in data.namelist() if "entries" in name and "ledger" in name)
    assert task.encode() in text
    assert not any(other.encode() in text for other in room.tasks if other != task)


def test_spans_are_not_compared_with_an_excerpt(room: Room, tmp_path: Path) -> None:
    """Records that it withholds would be called removed."""
    room.record()
    path = room.bundle("t.zip", Choice(task=room.tasks[0]))
    with zipfile.ZipFile(path) as packed:
        packed.extractall(tmp_path / "unpacked")
    (evidence,) = (found.parent for found in (tmp_path / "unpacked").rglob("excerpt.json"))
    with pytest.raises(ConfigurationError, match="the ledger is an excerpt"):
        Verifier(room.path / "trust.json").traces(io.BytesIO(), ledger=evidence)


def test_an_excerpt_of_a_time_has_the_grants_that_it_needs(room: Room) -> None:
    """Calls of a task that began earlier verify under its grant; a call that began before is not blamed for it."""
    room.record()
    begin = 1_764_000_002 * 10**9
    path = room.bundle("t.zip", Choice(from_ns=begin, until_ns=begin + 2 * 10**9))
    report = Verifier(room.path / "trust.json").ledger(path)
    assert (report.integrity, report.completeness) == ("verified", "incomplete")
    assert codes(report) == {"excerpt"}
    assert report.counts["chains_verified"] >= 2


def test_an_excerpt_may_begin_inside_a_call(room: Room) -> None:
    """Where the intent is not in the excerpt, nothing is said about it; a missing grant is said to be missing."""
    with (
        Enforcer.open(room.path, sources=Sources(clock=room.clock, ids=room.ids)) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
        enforcer.action("pay"),
    ):
        pass
    folder = room.base / "x"
    folder.mkdir()
    original = bundle_module._spans
    try:
        bundle_module._spans = lambda reader, choice: {}
        outcome_only = Choice()
        object.__setattr__(outcome_only, "task", "x")
        wanted = Choice.takes
        Choice.takes = lambda self, record: record.kind == "outcome"
        collect(room.path, folder, outcome_only)
    finally:
        Choice.takes = wanted
        bundle_module._spans = original
    report = Verifier(room.path / "trust.json").ledger(folder)
    assert report.integrity == "verified"
    assert report.counts["intents_withheld"] == 1
    assert codes(report) == {"excerpt", "chain_not_checked"}


def test_a_choice_without_records_is_refused(room: Room) -> None:
    """A bundle of a task that is not there is not made."""
    room.record(1)
    with pytest.raises(ConfigurationError) as caught:
        room.bundle("t.zip", Choice(task="nobody"))
    assert str(caught.value) == "the ledger has no records of this task or time; choose another task or period"


def test_ac_100_withheld_lines_do_not_hide_records_in_a_ledger(room: Room) -> None:
    """Outside an excerpt a leaf hash in place of a record is a malformed line; a forged one in an excerpt shows."""
    stream = room.record()
    path = max((room.path / "ledger" / stream).glob("entries-*"))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b'{"leaf":"' + b"A" * 43 + b'"}\n' + b"".join(lines[1:]))
    report = room.check()
    assert report.verdict == "contradicted"
    assert "malformed_line" in codes(report)
    (room.path / "excerpt.json").write_bytes(b"{}")
    report = room.check()
    assert report.verdict == "contradicted"
    assert "bad_excerpt" in codes(report)


def test_an_excerpt_file_makes_no_ledger_whole(room: Room) -> None:
    """Who removes a stream and adds the file of an excerpt gets no better verdict than incomplete."""
    first = room.record(1)
    room.record(1)
    shutil.rmtree(room.path / "ledger" / first)
    (room.path / "excerpt.json").write_bytes(b'{"streams":{},"v":"1"}')
    report = room.check()
    assert report.verdict == "incomplete"
    assert "excerpt" in codes(report)


def test_ac_97_an_excerpt_that_ends_at_no_head_proves_nothing(room: Room) -> None:
    """Whoever may say where an excerpt ends could have forged what stands before: each end must be one of a head."""
    whole = room.record(1, size=1 << 20)
    path = room.path / "ledger" / whole / "entries.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    for end in (len(lines) - 1, len(lines), len(lines) + 1):
        note = {"streams": {whole: {"end": str(end), "size": "0"}}, "v": "1"}
        (room.path / "excerpt.json").write_bytes(json.dumps(note, separators=(",", ":"), sort_keys=True).encode())
        report = room.check()
        assert report.integrity == "contradicted"
        assert codes(report) & {"bad_excerpt", "records_cut"}


@pytest.mark.parametrize("left", ["some", "none"])
def test_what_was_pruned_is_not_called_silence(room: Room, left: str) -> None:
    """Records were there in the period, and are gone: nothing is shown about it, whoever else was alive."""
    start_ns = room.clock.wall_ns()
    with Enforcer.open(room.path, sources=Sources(clock=room.clock, ids=room.ids)) as alive:
        stream = room.record()
        stop_ns = room.clock.wall_ns()
        room.clock.advance(10)
        alive._enforcement.ledger.seal()
    assert room.check(period=(start_ns, stop_ns)).period.state == "recorded"
    if left == "none":
        room.prune()
    else:
        room.prune(stop_ns - 2_000_000_000)
    assert any(p.stream == stream for p in room.check().findings if p.code == "pruned")
    told = room.check(period=(start_ns, start_ns + 1)).period
    assert (told.state, told.why) in {
        ("cannot_tell", "records of that time were pruned"),
        ("recorded", "records of that time were pruned"),
    }


def test_forged_hashes_in_an_excerpt_are_found(room: Room) -> None:
    """A record that is changed and a hash that is made up lead to another root."""
    room.record()
    path = room.bundle("t.zip", Choice(task=room.tasks[0]))
    for change in ((b'{"leaf":"', b'{"leaf":"0'), (b"alice", b"mally")):
        with unpacked(path) as evidence:
            (entries,) = Path(evidence).glob("ledger/*/entries.jsonl")
            data = entries.read_bytes()
            if change[0] in data and change[1].startswith(b"{"):
                at = data.index(change[0]) + 9
                data = data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]
            else:
                data = data.replace(*change)
            entries.write_bytes(data)
            assert Verifier(room.path / "trust.json").ledger(evidence).verdict == "contradicted"


def members(*entries: tuple[str, bytes]) -> bytes:
    """Return a zip file of these members."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        warnings.simplefilter("ignore")  # Of names that come twice.
        for name, data in entries:
            made.writestr(name, data)
    return file.getvalue()


def squeezed() -> bytes:
    """Return a zip file with a member that a method without bounds has compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_BZIP2) as made:
        made.writestr("evidence/log/entries.jsonl", b"\0" * 1_000_000)
    return file.getvalue()


def torn() -> bytes:
    """Return a zip file whose deflated data are damaged."""
    whole = bytearray(members(("evidence/log/entries.jsonl", bytes(range(256)) * 99)))
    at = whole.index(b"entries.jsonl") + len(b"entries.jsonl")
    whole[at : at + 20] = b"\xff" * 20
    return bytes(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"no archive",
        members(("evidence/../../escaped", b"x"), ("/etc/escaped", b"x"), ("evidence/keys/recorder.pem", b"x")),
        members(("evidence/log/checkpoint", b"x"), ("evidence/log/checkpoint", b"y")),
        members(("evidence/log/entries.jsonl", b"\0" * 60_000_000)),
        members(("README.txt", b"x")),
        squeezed(),
        torn(),
    ],
    ids=["other", "escape", "twice", "bomb", "empty", "method", "torn"],
)
def test_a_hostile_bundle_is_refused(tmp_path: Path, data: bytes) -> None:
    """What leads elsewhere, comes twice, is no file or becomes huge is refused, and nothing is left of it."""
    path = tmp_path / "b.zip"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match="bundle"):
        Verifier().ledger(path)
    assert [p.name for p in tmp_path.iterdir()] == ["b.zip"]
    assert not (tmp_path.parent / "escaped").exists()
    with pytest.raises(ConfigurationError, match="bundle"):
        Verifier().ledger(tmp_path / "none.zip")


def test_a_bundle_that_was_packed_anew_is_read(room: Room, tmp_path: Path) -> None:
    """Whoever packs it again, with files of their own, long names and dates, spoils nothing."""
    room.record(1)
    with zipfile.ZipFile(room.bundle()) as packed, zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        for number, name in enumerate(packed.namelist()):
            made.writestr(f"{'notes/' * 40}{number}", bytes(range(256)) * 1_200)
            made.writestr(zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 5)), packed.read(name))
    again = Verifier(room.path / "trust.json").ledger(tmp_path / "a.zip")
    assert again == Verifier(room.path / "trust.json").ledger(room.path)


def test_a_bundle_of_countless_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of members is bounded."""
    monkeypatch.setattr(bundle_module, "_MAX_MEMBERS", 2)
    path = tmp_path / "b.zip"
    path.write_bytes(members(*((f"{number}", b"") for number in range(3))))
    with pytest.raises(ConfigurationError, match="more than 2 files"):
        Verifier().ledger(path)


def test_a_bundle_with_damaged_records_is_still_made(room: Room) -> None:
    """Bundles show what is there, also what is broken: the auditor's verdict is the same."""
    stream = room.record()
    path = min((room.path / "ledger" / stream).glob("entries-*"))
    path.write_bytes(b"x\n" + path.read_bytes())
    (room.path / "trust.json").rename(room.base / "trust.json")
    assert Verifier(room.base / "trust.json").ledger(room.bundle()).verdict == "contradicted"
    (room.path / "log" / "entries.jsonl").unlink()
    with pytest.raises(VerificationError):
        room.bundle("t.zip", Choice(task=room.tasks[0]))


# --------------------------------------------------------------------- files before the place where a stream begins


def told(path: Path) -> list[bytes]:
    """Return the records that readers tell, all alike."""
    found = [encode(record) for record in records.read(path)]
    assert [encode_record(json.loads(line)["data"]) for line in export(path, "cloudevents")] == found
    reader = LedgerReader(path)
    assert [line.record for stream in reader.streams() for line in reader.entries(stream)] == found
    return found


@dataclass
class Left:
    """A stream that was pruned, and the files that a kill may have left of it, in a folder beside it."""

    stream: str
    files: list[Path]
    folder: Path
    border: int


@pytest.fixture
def left(room: Room) -> Left:
    """Return a stream of which more than three files were pruned."""
    stream = room.record(size=2_000)
    folder, whole = room.path / "ledger" / stream, room.base / "whole"
    shutil.copytree(folder, whole)
    ((_, _, border),) = room.prune(1_764_000_003 * 10**9)
    files = sorted(path for path in whole.glob("entries-*") if int(path.name[8:28]) <= border)
    assert len(files) > 3
    return Left(stream, files, folder, border)


def test_what_a_killed_pruning_left_verifies_and_is_not_told(room: Room, left: Left) -> None:
    """The last files before the border hang together with the statement; nobody reads them as evidence."""
    before, clean = told(room.path), codes(room.check())
    for number in (1, 2, 3):
        for path in left.files[-number:]:
            shutil.copy(path, left.folder)
        report = room.check()
        assert (report.exit_code, codes(report), told(room.path)) == (0, clean, before)
    names = zipfile.ZipFile(room.bundle()).namelist()
    assert not any(path.name in name for path in left.files for name in names)
    (left.folder / left.files[-1].name).write_bytes(b"")
    assert "records_before_start" in codes(room.check())


def forged(left: Left) -> bytes:
    """Return a line with a record that nobody proves."""
    return left.files[-1].read_bytes().splitlines(keepends=True)[-1].replace(b"alice@", b"eve@")


@pytest.mark.parametrize(
    "make",
    [
        lambda left: {2: forged(left)},
        lambda left: {2: b"x\n"},
        lambda left: {left.border: b'{"mac":"'},
        lambda left: {left.border: b'{"mac":"' + b"A" * 43 + b'","record":[1]}\n'},
        lambda left: {left.border: b'{"mac":"' + b"A" * 43 + b'","record":{}}\n'},
        lambda left: {first(left.files[-1]): left.files[-1].read_bytes() + forged(left)},
        lambda left: {first(left.files[-1]): left.files[-1].read_bytes().replace(b"alice@", b"eve@")},
        lambda left: {first(path): path.read_bytes() for path in (left.files[-3], left.files[-1])},
        lambda left: {first(left.files[-2]): left.files[-2].read_bytes()},
        lambda left: {first(p): p.read_bytes().replace(b'"v":"1"', b'"v":"3"') for p in left.files[-2:]},
    ],
)
def test_other_files_before_the_border_are_contradicted_and_not_told(
    room: Room, left: Left, make: Callable[[Left], dict[int, bytes]]
) -> None:
    """What was not pruned there was put there; no reader takes it for evidence, whatever its MAC says."""
    before = told(room.path)
    for place, data in make(left).items():
        (left.folder / segment_name(place)).write_bytes(data)
    report = room.check()
    (found,) = [problem for problem in report.findings if problem.code == "records_before_start"]
    assert (report.exit_code, found.severity, found.stream) == (1, "contradicted", left.stream)
    assert told(room.path) == before
    assert all(b"eve@" not in record for record in before)


def first(path: Path) -> int:
    """Return the place of the first record of a file."""
    return int(path.name[8:28])


def test_a_file_that_leaves_meanwhile_accuses_nobody(left: Left, room: Room) -> None:
    """A pruning may be at work while its directory is verified."""
    path = left.folder / left.files[-1].name
    path.write_bytes(forged(left))

    class Reader:
        def __init__(self) -> None:
            self._own = LedgerReader(room.path)

        def segments(self, stream: str) -> object:
            return self._own.segments(stream)

        def lines_of(self, segment: object) -> object:
            path.unlink()
            return self._own.lines_of(segment)  # type: ignore[arg-type]

    statement = unverified_pruned(room.statement(left.stream).read_bytes())
    findings = Findings("ledger", LEDGER_STEPS)
    find_leftovers(Reader(), {left.stream: statement}, findings)  # type: ignore[arg-type]
    assert findings.report().findings == ()


def test_nothing_stands_before_the_start_of_an_excerpt(room: Room) -> None:
    """Who makes an excerpt signs nothing, so that no file before its start counts, and none is told."""
    room.record()
    folder = room.base / "excerpt"
    folder.mkdir()
    collect(room.path, folder, Choice(task=room.tasks[-1]))
    ((stream, start),) = Excerpt.from_bytes((folder / "excerpt.json").read_bytes()).streams.items()
    assert start.size > 8
    before = [line.record for line in LedgerReader(folder).entries(stream)]
    (oldest, *_) = sorted((room.path / "ledger" / stream).glob("entries-*"))
    for place in (1, 2):
        put = folder / "ledger" / stream / segment_name(place)
        shutil.copy(oldest, put)
        report = Verifier(room.path / "trust.json").ledger(folder)
        assert (report.exit_code, codes(report)) == (1, {"excerpt", "records_before_start"})
        assert [line.record for line in LedgerReader(folder).entries(stream)] == before
        put.unlink()
    (folder / "excerpt.json").write_bytes(b"{}")  # It says nothing any more.
    assert LedgerReader(folder).begins_behind(stream) is None
    room.statement(stream).write_bytes(b"x")
    next((room.path / "ledger" / stream).glob("entries-*1.jsonl")).unlink()
    assert LedgerReader(room.path).begins_behind(stream) is None
