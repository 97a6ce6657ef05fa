"""Verifying what lines and records say about each other: details, outer tasks, approvals, what outcomes leave out."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import ANY as ANYTHING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_writing import append_record

from agent_identity import Agent, Human, Report, Scope, Service, Verifier
from agent_identity._authority.grants.grants import Chain, issue
from agent_identity._directory.export._otlp_encoding import as_bytes, encode_request
from agent_identity._guard.judging.call_facts import RESOURCES
from agent_identity._identity.common.encoding import b64url_decode, digest_of
from agent_identity._identity.common.ids import uuid_of
from agent_identity._ledger.excerpt import excerpt_lines, excerpt_of
from agent_identity._ledger.excerpt_starts import Excerpt
from agent_identity._ledger.prunable_prefix import read_heads
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.writer import Entry
from agent_identity._record.codec import decode
from agent_identity._spans.envelope import signed_attributes
from agent_identity._spans.span_from_record import make_span
from agent_identity._storage.lines import stream_line, stream_parts
from agent_identity._verify.grants.grant_usage import GrantUsage
from agent_identity._verify.inputs.versions import malformed
from agent_identity._verify.ledger._calls_check import OuterTasks
from agent_identity._verify.proofs.bundle import Choice, collect
from agent_identity._verify.report.findings import CODES, Findings, Place
from agent_identity._verify.report.report import Problem
from agent_identity.audit import prove
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.records import AnyRecord, read_lines
from agent_identity.testing import FixedClock, SequentialIds

NOW = 1_764_000_000
ALICE = Human("alice@example.com", roles=("clerk",))
CLERK = Agent("clerk", owner="finance@example.com")
DIGEST = "M" * 43
OTHER = "Q" * 43
HASH = "c" * 43
ALLOW = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
BLOCK = {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "no_task"}
ACTION = {"tool": "pay", "args": DIGEST, "names": ["amount:number"], "kind": "function"}


@dataclass
class Recorder:
    """A process with the recorder's key that writes what it likes."""

    path: Path
    clock: FixedClock = field(default_factory=FixedClock)
    ids: SequentialIds = field(default_factory=SequentialIds)
    issuer: SigningKey = field(default_factory=SigningKey.generate)
    key: SigningKey = field(default_factory=SigningKey.generate)
    holder: SigningKey = field(default_factory=SigningKey.generate)

    def __post_init__(self) -> None:
        keys = (TrustedKey(self.issuer.public_key, "issuer"), TrustedKey(self.key.public_key, "recorder"))
        self.path.mkdir()
        TrustStore(keys, issuer="urn:example:issuer", origin="test").save(self.path / "trust.json")
        self.ledger = self.open()

    def open(self) -> Ledger:
        """Begin a stream."""
        given = {"signer": self.key, "origin": "test", "clock": self.clock, "ids": self.ids, "seal_interval": 3600.0}
        return Ledger.open(self.path, **given)

    def new_id(self) -> str:
        """Return a fresh id."""
        return self.ids.new(self.clock.wall_ns())

    def grant(self, principal: Human | Service = ALICE) -> Chain:
        """Issue a root grant."""
        names = {"issuer": "urn:example:issuer", "task_id": self.new_id(), "principal": principal, "agent": CLERK}
        times = {"now": NOW, "ttl": 300, "id": uuid_of(self.new_id())}
        return Chain((issue(self.issuer, **names, **times, holder=self.holder.public_key, scope=Scope("pay")),))

    def append(
        self,
        kind: str,
        body: Mapping[str, Any],
        chain: Chain | None = None,
        *,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Record anything, perhaps with a detail; an outcome leaves out what outcomes never carry."""
        facts = {"time": {"start": str(NOW * 10**9)}, **(claims_of(chain) if chain else {}), **body}
        return append_record(self.ledger, kind, facts, detail)

    def open_task(self, chain: Chain, **task: str) -> None:
        """Record the grant and the start of its task."""
        told = {"task": {**claims_of(chain)["task"], **task}}
        self.append("grant", {**told, "grant": {"token": chain.leaf.token}}, chain)
        self.append("task_start", told, chain)

    def intent(self, chain: Chain, **body: Any) -> str:
        """Record an intent, and return its id."""
        return self.append("intent", {"action": ACTION, "decision": ALLOW, **body}, chain).id

    def outcome(self, chain: Chain, intent: str | None, *, detail: Mapping[str, Any] | None = None, **body: Any) -> str:
        """Record an outcome, and return its id."""
        link = {"intent": intent, "outcome": "success"} if intent else {"outcome": "denied", "decision": BLOCK}
        return self.append("outcome", {"action": ACTION, "decision": ALLOW, **link, **body}, chain, detail=detail).id

    def rewrite(self, change: Callable[[bytes, bytes | None], tuple[bytes, bytes | None]]) -> None:
        """Close the ledger, and write each line again with what the change makes of its record and its detail."""
        self.ledger.close()
        (path,) = self.path.glob("ledger/*/entries.jsonl")
        lines = []
        for line in path.read_bytes().splitlines():
            parts = stream_parts(line)
            assert parts is not None
            lines.append(stream_line(b64url_decode(parts[1]), *change(parts[0], parts[2])))
        path.write_bytes(b"".join(lines))

    def kill(self, torn: bytes = b"") -> None:
        """End the process as SIGKILL does, perhaps inside the write of a line."""
        stream = self.ledger.stream
        self.ledger.sealing.abandon()
        self.ledger._closed = True
        with (self.path / "ledger" / stream / "entries.jsonl").open("ab") as file:
            file.write(torn)
        self.ledger = self.open()

    def report(self, **options: Any) -> Report:
        """Close the ledger and verify it."""
        self.ledger.close()
        return Verifier(self.path / "trust.json").ledger(self.path, **options)


def claims_of(chain: Chain) -> dict[str, Any]:
    """Return what records under a grant say of it."""
    leaf = chain.leaf
    return {
        "task": {"id": leaf.task_id, "expires": str(leaf.expires_at * 10**9)},
        "principal": leaf.principal.to_claim(),
        "agent": leaf.agent.to_claim(),
        "chain": [{"id": grant.agent.id, "grant": grant.hash} for grant in chain.grants],
    }


def codes(report: Report) -> set[str]:
    """Return the codes of everything that was found."""
    return {problem.code for problem in report.findings}


def only(report: Report) -> Problem:
    """Return the one thing that was found."""
    (problem,) = report.findings
    return problem


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "evidence")


@pytest.fixture
def chain(recorder: Recorder) -> Chain:
    """A task that was opened."""
    chain = recorder.grant()
    recorder.open_task(chain)
    return chain


def test_the_erasure_of_resources_is_not_worded_as_a_task(recorder: Recorder) -> None:
    """Their one key has no task."""
    recorder.append("erasure", {"erasure": {"key": RESOURCES}})
    found = only(recorder.report())
    assert (found.code, "task" in found.message, "resources" in found.message) == ("erased", False, True)


@pytest.mark.parametrize("version", ["3", "2"])
def test_a_version_that_cannot_be_read_cannot_be_told(recorder: Recorder, version: str) -> None:
    """What the log commits to and this release does not know is neither a pass nor an accusation."""
    recorder.append("policy", {"policy": {"name": "p", "version": "1", "digest": "A" * 43}})

    class Unknown(dict):  # type: ignore[type-arg]
        id = stream = None
        v = ANYTHING  # It is written as it is.

    def make(id: str, stream: Any, v: str) -> Any:
        place = {"id": stream.id, "seq": stream.seq, "prev": stream.prev}
        record = Unknown({"v": version, "id": id, "stream": place, "kind": "new", "time": {"start": "1"}})
        record.id, record.stream = id, stream
        return record

    recorder.ledger.append(make)
    report = recorder.report()
    assert (report.verdict, codes(report)) == ("cannot_tell", {"unknown_record"})


def test_what_an_unsealed_or_changed_record_claims_to_be(recorder: Recorder, chain: Chain) -> None:
    """Any byte can claim another version: where the log says otherwise, the record is no record."""
    recorder.ledger.close()
    (path,) = recorder.path.glob("ledger/*/entries.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"v":"1"', b'"v":"9"', 1))
    assert {"malformed_record", "head_mismatch"} <= codes(recorder.report())
    place = {"id": "x", "seq": "9"}
    tail = json.dumps({"id": "y", "kind": "z", "stream": place, "time": {}, "v": "9"}, separators=(",", ":")).encode()
    path.write_bytes(whole + stream_line(b"\0" * 32, tail))
    report = recorder.report()
    assert (report.verdict, "unknown_record" in codes(report)) == ("cannot_tell", True)


def test_bytes_that_claim_no_other_version_are_malformed() -> None:
    """Version 1 is closed, and what says nothing of its version is no record."""
    for data in (b"{", b"[]", b'{"v":"1"}', b'{"v":2}', b"{}", b'{"id":"x","v":"9","x":1', b"\xff"):
        assert malformed(data, "why") == ("malformed_record", "why")
    assert malformed(b'{"v":"2"}', "why")[0] == malformed(b'{"v":"7"}', "why")[0] == "unknown_record"


# ------------------------------------------------------------------- details


def test_details_in_the_lines_of_their_outcomes_verify(recorder: Recorder, chain: Chain) -> None:
    """Of calls that ran and of refused ones; they count neither as records nor as anything that a task did."""
    for _ in range(2):
        recorder.outcome(chain, recorder.intent(chain), detail={"workflow": "w"})
    recorder.outcome(chain, None, detail={"names": ["amount:number"]})
    recorder.append("task_end", {"counts": {"intents": "2", "outcomes": "3", "open": "0"}}, chain)
    report = recorder.report()
    assert (report.exit_code, report.findings, report.kinds["outcome"]) == (0, (), 3)
    assert report.counts["records"] == sum(report.kinds.values()) == 10
    assert (report.counts["success"], report.counts["denied"]) == (2, 1)


Rewritten: TypeAlias = Callable[[bytes, bytes | None], tuple[bytes, bytes | None]]
NO_FORM = b'{"x":"1"}'


def as_it_is(record: bytes, detail: bytes | None) -> tuple[bytes, bytes | None]:
    return record, detail


def removed(record: bytes, _: bytes | None) -> tuple[bytes, bytes | None]:
    return record, None


def changed(record: bytes, detail: bytes | None) -> tuple[bytes, bytes | None]:
    return record, detail and detail.replace(b'"w"', b'"x"')


def added_to(kind: bytes) -> Rewritten:
    return lambda record, detail: (record, NO_FORM if b'"kind":"%s"' % kind in record else detail)


def of_no_form(record: bytes, detail: bytes | None) -> tuple[bytes, bytes | None]:
    return record, NO_FORM if digest_of(NO_FORM).encode() in record else detail


LIES: dict[str, tuple[dict[str, str] | str | None, Rewritten, str]] = {
    "a detail that was removed": ({"workflow": "w"}, removed, "detail_missing"),
    "a detail that was never there": (HASH, as_it_is, "detail_missing"),
    "a detail that was changed": ({"workflow": "w"}, changed, "detail_mismatch"),
    "a detail to which its outcome does not commit": (None, added_to(b"outcome"), "detail_uncommitted"),
    "the detail of a record that has none": (None, added_to(b"intent"), "detail_uncommitted"),
    "a detail in no form of one": (digest_of(NO_FORM), of_no_form, "detail_malformed"),
}


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize("lie", sorted(LIES))
def test_details_that_do_not_belong_are_contradicted(
    recorder: Recorder, chain: Chain, lie: str, *, refused: bool
) -> None:
    """Each lie is found by its code, and the step about the form of records fails."""
    given, change, code = LIES[lie]
    commitment, detail = (given, None) if isinstance(given, str) else (None, given)
    recorder.intent(chain)
    told = {"decision": BLOCK, "outcome": "denied"}
    if not refused:
        told = {"decision": ALLOW, "outcome": "success", "intent": recorder.intent(chain)}
    committed = {} if commitment is None else {"detail": commitment}
    recorder.append("outcome", {"action": ACTION, **told, **committed}, chain, detail=detail)
    recorder.rewrite(change)
    report = recorder.report()
    assert (report.exit_code, codes(report)) == (1, {code, "unknown_outcome"})
    assert next(step.status for step in report.steps if step.number == 4) == "failed"
    assert CODES[code] == "contradicted"


@pytest.mark.parametrize("torn", [b"", b'{"mac":"00', b'{"detail":{"_salt":"', b'{"detail":{"_salt":"A"},"mac":"00'])
def test_an_outcome_that_was_lost_with_its_process_is_no_tampering(
    recorder: Recorder, chain: Chain, torn: bytes
) -> None:
    """A process died within the line of an outcome, in its detail or behind it."""
    intent = recorder.intent(chain)
    recorder.kill(torn)
    report = recorder.report()
    assert (report.exit_code, report.counts["unknown"]) == (0, 1)
    assert codes(report) == {"unknown_outcome", "recovered"}
    assert intent in {problem.record for problem in report.findings}


def excerpt(recorder: Recorder, target: Path, wanted: Callable[[AnyRecord], bool]) -> Report:
    """Return what is found in an excerpt of the records that are wanted."""
    recorder.ledger.close()
    reader = open_ledger(recorder.path)
    (target / "log").mkdir(parents=True)
    for name in ("checkpoint", "entries.jsonl"):
        (target / "log" / name).write_bytes((recorder.path / "log" / name).read_bytes())
    streams = excerpt_of(reader, read_heads(reader)[1], lambda data: wanted(decode(data)))
    for stream, start in streams.items():
        folder = target / "ledger" / stream
        folder.mkdir(parents=True)
        lines = excerpt_lines(reader, stream, start, lambda data: wanted(decode(data)))
        (folder / "entries.jsonl").write_bytes(b"".join(lines))
    (target / "excerpt.json").write_bytes(Excerpt(streams).to_bytes())
    return Verifier(recorder.path / "trust.json").ledger(target)


@pytest.mark.parametrize(("kind", "details", "counted"), [("outcome", 0, "unknown"), ("intent", 2, "intents_withheld")])
def test_what_an_excerpt_withholds_is_no_tampering(
    recorder: Recorder, chain: Chain, tmp_path: Path, kind: str, details: int, counted: str
) -> None:
    """An intent without its outcome, or the other way round; a detail is shown with its outcome, and only there."""
    recorder.outcome(chain, recorder.intent(chain), detail={"workflow": "w"})
    recorder.outcome(chain, None, detail={})
    report = excerpt(recorder, tmp_path / "excerpt", lambda record: record.kind != kind)
    assert (report.exit_code, codes(report) - {"unknown_outcome"}) == (3, {"excerpt"})
    assert report.counts[counted] == 1
    assert sum(detail is not None for _, detail in read_lines(tmp_path / "excerpt")) == details


def test_the_bundle_of_a_task_has_its_details(recorder: Recorder, chain: Chain, tmp_path: Path) -> None:
    """They stand in the lines of its outcomes; those of another task are not there."""
    recorder.outcome(chain, recorder.intent(chain), detail={"workflow": "w"})
    other = recorder.grant()
    recorder.open_task(other)
    recorder.outcome(other, None, detail={"workflow": "other"})
    recorder.ledger.close()
    (tmp_path / "all").mkdir()
    collect(recorder.path, tmp_path / "all", Choice(task=chain.leaf.task_id))
    report = Verifier(recorder.path / "trust.json").ledger(tmp_path / "all")
    assert (report.exit_code, codes(report)) == (3, {"excerpt"})
    found = [detail.workflow for _, detail in read_lines(tmp_path / "all") if detail is not None]
    assert found == ["w"]


def record_of(members: Mapping[str, Any]) -> AnyRecord:
    """Return a record with these members."""
    return msgspec.convert({"v": "1", "time": {"start": "1"}, **members}, AnyRecord)


# ------------------------------------------------------------------- what outcomes leave out


def usage_of(*records: Any) -> GrantUsage:
    """Return what is kept of records under one grant."""
    usage = GrantUsage(records[0], Place())
    for record in records[1:]:
        assert usage.says_the_same(record)
    return usage


def of_task(kind: str, **more: Any) -> Any:
    """Return a record of a task."""
    ids = SequentialIds()
    base: dict[str, Any] = {
        "kind": kind,
        "id": ids.new(1),
        "stream": {"id": ids.new(1), "seq": "5", "prev": HASH},
        "task": {"id": "t", "expires": "9"},
        "principal": ALICE.to_claim(),
        "agent": CLERK.to_claim(),
        "chain": [{"id": "clerk", "grant": HASH}],
    }
    if kind == "task_end":
        base["counts"] = {"intents": "0", "outcomes": "0", "open": "0"}
    if kind == "outcome":
        base |= {"task": {"id": "t"}, "principal": Human(ALICE.id).to_claim(), "outcome": "denied"}
        base |= {"action": {"tool": "pay", "kind": "function"}, "decision": BLOCK}
    return record_of({**base, **more})


@pytest.mark.parametrize(
    "order", [("outcome", "task_end"), ("task_end", "outcome"), ("outcome", "outcome", "task_end")]
)
def test_roles_and_expiry_are_compared_where_they_are_stated(order: Sequence[str]) -> None:
    """An outcome says neither; whichever record comes first, the others fill it in."""
    usage = usage_of(*map(of_task, order))
    for _ in range(2):
        assert not usage.short
        assert (usage.said.principal.roles, usage.said.task.expires) == (("clerk",), "9")
        assert not usage.says_the_same(of_task("task_end", principal=Human(ALICE.id).to_claim()))
        assert not usage.says_the_same(of_task("task_end", task={"id": "t", "expires": "8"}))
        assert not usage.says_the_same(of_task("outcome", principal=Human("mallory").to_claim()))
        assert not usage.says_the_same(of_task("outcome", task={"id": "u"}))
        assert usage.says_the_same(of_task("outcome"))
        usage = GrantUsage.unpacked(usage.packed())


def test_a_task_of_which_only_outcomes_are_seen_is_short() -> None:
    """Nothing is filled in by a record that says something else, and it stays short on the disk."""
    usage = GrantUsage.unpacked(usage_of(of_task("outcome"), of_task("outcome")).packed())
    assert (usage.short, usage.said.principal.roles, usage.said.task.expires) == (True, None, None)
    assert not usage.says_the_same(of_task("task_end", principal=Human("mallory").to_claim()))
    assert usage.short
    assert usage.says_the_same(of_task("task_end"))
    assert not usage.short


def test_roles_that_the_grant_does_not_give_are_contradicted(recorder: Recorder, chain: Chain) -> None:
    """Where an intent or the end of a task states them, as ever."""
    more = Human(ALICE.id, roles=("clerk", "admin")).to_claim()
    recorder.intent(chain, principal=more)
    assert codes(recorder.report()) == {"claims_differ", "unknown_outcome"}


# ------------------------------------------------------------------- tasks in others


def test_a_task_in_another_is_found_there(recorder: Recorder, chain: Chain) -> None:
    """The outer task is one of the ledger, and of the same principal."""
    inner = recorder.grant()
    recorder.open_task(inner, outer=chain.leaf.task_id)
    report = recorder.report()
    assert (report.exit_code, report.findings) == (0, ())


def test_openings_that_name_no_outer_task_say_nothing_against_one(recorder: Recorder, chain: Chain) -> None:
    """A grant is written again by the process that takes up a task of another."""
    inner = recorder.grant()
    recorder.open_task(inner)
    recorder.open_task(inner, outer=chain.leaf.task_id)
    recorder.open_task(inner)
    assert recorder.report().findings == ()


def test_two_outer_tasks_of_one_are_contradicted(recorder: Recorder, chain: Chain) -> None:
    """A grant and the start of its task name the same one."""
    inner, other = recorder.grant(), recorder.grant()
    recorder.open_task(other)
    told = claims_of(inner)["task"]
    token = {"grant": {"token": inner.leaf.token}}
    recorder.append("grant", {"task": {**told, "outer": chain.leaf.task_id}, **token}, inner)
    recorder.append("task_start", {"task": {**told, "outer": other.leaf.task_id}}, inner)
    report = recorder.report()
    assert (report.exit_code, only(report).code, only(report).seq) == (1, "outer_task_differs", 7)


def test_an_outer_task_that_is_not_there_leaves_a_hole(recorder: Recorder) -> None:
    """It is recorded elsewhere or lost: incomplete, and nobody is accused."""
    recorder.open_task(inner := recorder.grant(), outer="elsewhere")
    report = recorder.report()
    assert (report.exit_code, codes(report)) == (3, {"outer_task_missing"})
    findings = Findings("ledger", ["x"] * 8)
    tasks = OuterTasks(findings)
    tasks.take(of_task("task_start", task={"id": "t", "outer": "elsewhere"}), Place())
    tasks.finish(partial=True)  # Its opening may have been pruned, or be withheld.
    assert (findings.total, findings.counts["outer_tasks_not_shown"]) == (0, 1)
    assert inner.leaf.task_id


def test_an_opening_for_another_principal_is_a_notice(recorder: Recorder, chain: Chain) -> None:
    """No record of today permits it, and none forbids it; who looks for it finds it."""
    robot = recorder.grant(Service("nightly"))
    recorder.open_task(robot, outer=chain.leaf.task_id)
    report = recorder.report()
    assert (report.exit_code, only(report).code) == (0, "outer_principal_differs")


@given(outers=st.dictionaries(st.integers(0, 7), st.integers(0, 7), max_size=8))
def test_circles_of_tasks_are_found_once(outers: dict[int, int]) -> None:
    """Each circle, whatever leads into it; and no circle where there is none."""
    findings = Findings("ledger", ["x"] * 8)
    tasks = OuterTasks(findings)
    for task in range(8):
        outer = {"outer": str(outers[task])} if task in outers else {}
        tasks.take(of_task("task_start", task={"id": str(task), **outer}), Place(seq=task + 1))
    tasks.finish(partial=False)
    circles = set[frozenset[int]]()
    for task in outers:
        seen = [task]
        while seen[-1] in outers and outers[seen[-1]] not in seen:
            seen.append(outers[seen[-1]])
        if seen[-1] in outers:
            circles.add(frozenset(seen[seen.index(outers[seen[-1]]) :]))
    found = [problem.code for problem in findings.report().findings]
    assert found == ["outer_task_cycle"] * len(circles)


def test_tasks_in_tasks_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than anybody opens is reported as a circle is, and tasks beyond memory are on the disk."""
    monkeypatch.setattr("agent_identity._verify.ledger._calls_check._DEEPEST", 5)
    monkeypatch.setattr("agent_identity._verify.ledger._calls_check._NEAR_TASKS", 2)
    for depth, found in ((5, 0), (6, 1)):
        findings = Findings("ledger", ["x"] * 8)
        tasks = OuterTasks(findings)
        for task in range(depth):
            outer = {"outer": str(task + 1)} if task + 1 < depth else {}
            tasks.take(of_task("task_start", task={"id": str(task), **outer}), Place(seq=task + 1))
        tasks.finish(partial=False)
        assert findings.number("contradicted") == found


# ------------------------------------------------------------------- approvals


def approval(recorder: Recorder, chain: Chain, status: str, request: str | None, name: str) -> None:
    """Record a question to a person, or an answer."""
    told = {"id": name, "status": status, **({} if request is None else {"request": request})}
    recorder.append("approval", {"action": ACTION, "approval": told}, chain)


@pytest.mark.parametrize(
    ("asked", "answered", "found"),
    [(DIGEST, DIGEST, set()), (DIGEST, OTHER, {"approval_mismatch"}), (DIGEST, None, set()), (None, OTHER, set())],
)
def test_question_and_answer_are_of_one_request(
    recorder: Recorder, chain: Chain, asked: str | None, answered: str | None, found: set[str]
) -> None:
    """Where both are recorded in one task, they have one digest of the whole request."""
    name = recorder.new_id()
    approval(recorder, chain, "pending", asked, name)
    approval(recorder, chain, "expired", answered, name)
    assert codes(recorder.report()) == found


def test_requests_of_two_tasks_cannot_be_compared(recorder: Recorder, chain: Chain) -> None:
    """Each task has a key of its own for its digests."""
    name, other = recorder.new_id(), recorder.grant()
    recorder.open_task(other)
    approval(recorder, chain, "pending", DIGEST, name)
    approval(recorder, other, "expired", OTHER, name)
    assert recorder.report().findings == ()


# ------------------------------------------------------------------- proofs


def test_the_proof_of_an_outcome_with_a_detail(recorder: Recorder, chain: Chain) -> None:
    """Found by the id that people know; its detail is in the ledger and was not checked."""
    outcome = recorder.outcome(chain, None, detail={"policy": "invoices"})
    recorder.ledger.close()
    trust = recorder.path / "trust.json"
    proof = prove(recorder.path, outcome)
    shown = Verifier(trust).proof(proof, record=outcome)
    assert (shown.verdict, codes(shown.report), shown.report.counts["details_not_checked"]) == (
        *("verified", {"detail_not_checked"}),
        1,
    )
    plain = Verifier(trust).proof(prove(recorder.path, (open_ledger(recorder.path).streams()[0], 3)))
    assert (plain.verdict, codes(plain.report)) == ("verified", set())


# ------------------------------------------------------------------- spans


def spans_of(recorder: Recorder, *entries: Entry, grants: str | None = None, **changed: str) -> io.BytesIO:
    """Return the spans of records, perhaps with other attributes."""
    copies = [make_span(entry.record, entry.data, recorder.key, grants=grants) for entry in entries]
    made = [replace(copied, attributes={**copied.attributes, **changed}) for copied in copies]
    return io.BytesIO(as_bytes(encode_request(made, {}), "json"))


def spans_report(recorder: Recorder, *entries: Entry, **options: Any) -> Report:
    """Verify the spans of records."""
    return Verifier(recorder.path / "trust.json").traces(spans_of(recorder, *entries, **options))


def refusal(recorder: Recorder, chain: Chain, **more: Any) -> Entry:
    """Record a refused call."""
    return recorder.append("outcome", {"action": ACTION, "decision": BLOCK, "outcome": "denied", **more}, chain)


def test_what_a_span_cannot_show_is_not_verified(recorder: Recorder, chain: Chain) -> None:
    """The detail is in the ledger: it is said not to be checked, once."""
    plain = refusal(recorder, chain)
    detailed = recorder.append(
        "outcome", {"action": ACTION, "decision": BLOCK, "outcome": "denied"}, chain, detail={"policy": "p"}
    )
    assert "detail_not_checked" not in codes(spans_report(recorder, plain))
    report = spans_report(recorder, detailed, detailed)
    assert (report.exit_code, report.counts["details_not_checked"]) == (0, 1)
    assert [problem.code for problem in report.findings].count("detail_not_checked") == 1


def test_roles_are_not_missed_on_spans(recorder: Recorder, chain: Chain) -> None:
    """With the grant on the span of an outcome, the chain verifies; another principal is found as ever."""
    token = chain.leaf.token
    report = spans_report(recorder, refusal(recorder, chain), grants=token)
    assert (report.exit_code, report.counts["chains_verified"]) == (0, 1)
    end = recorder.append("task_end", {"counts": {"intents": "0", "outcomes": "1", "open": "0"}}, chain)
    assert spans_report(recorder, refusal(recorder, chain), end, grants=token).exit_code == 0
    for principal in (Human("mallory"), Human(ALICE.id, issuer="https://other.example")):
        forged = refusal(recorder, chain, principal=principal.to_claim())
        assert "claims_differ" in codes(spans_report(recorder, forged, grants=token))
    forged = recorder.append(
        "task_end",
        {"counts": {"intents": "0", "outcomes": "1", "open": "0"}, "principal": Human(ALICE.id).to_claim()},
        chain,
    )
    assert "claims_differ" in codes(spans_report(recorder, refusal(recorder, chain), forged, grants=token))


def test_a_signed_record_of_another_version_cannot_be_told(recorder: Recorder, chain: Chain) -> None:
    """The recorder signed it, and this release cannot read it; another shape of this version is no record."""
    entry = refusal(recorder, chain)
    for more, found, count, exit_code in (
        ({"v": "2"}, "unknown_record", "unclear", 2),
        ({"zone": "x"}, "malformed_record", "contradicted", 1),
    ):
        body = json.dumps({**json.loads(entry.data), **more}, sort_keys=True, separators=(",", ":")).encode()
        report = spans_report(recorder, entry, **signed_attributes(body, recorder.key))
        assert (codes(report), report.counts[count], report.exit_code) == ({found}, 1, exit_code)
