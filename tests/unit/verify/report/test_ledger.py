"""Verifying ledgers: what records say about each other, whose authority they name, and what is not there."""

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity import Agent, Grant, Human, Report, Scope, Service, Verifier, verify
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._record.codec import decode
from agent_identity._storage.os_files import Files
from agent_identity._verify.grants.chain_check import Delegations
from agent_identity._verify.inputs.sources import directory_of
from agent_identity._verify.report.findings import CODES, MAX_KEPT, Findings, Place
from agent_identity._verify.report.periods import unknown_period
from agent_identity._verify.report.report import EXIT_CODES, Coverage, Problem, Signature, Step
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

NOW = 1_764_000_000
ALICE = Human("alice@example.com", roles=("clerk",))
CLERK = Agent("clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
DIGEST = "M" * 43
ALLOW = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
BLOCK = {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "no_task"}
TRACE = {"trace": "a" * 32, "span": "b" * 16}
LEFT_OUT = {"action": ("names",), "task": ("expires",), "principal": ("roles",)}
"""What outcomes leave to the intent."""


@dataclass
class Recorder:
    """A process with the recorder's key that writes what it likes; so it is not the library that is honest."""

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
        return Ledger.open(self.path, signer=self.key, origin="test", clock=self.clock, ids=self.ids)

    def new_id(self) -> str:
        """Return a fresh id."""
        return self.ids.new(self.clock.wall_ns())

    def grant(self, scope: Scope | None = None, *, ttl: int = 300) -> Chain:
        """Issue a root grant."""
        root = issue(
            self.issuer,
            issuer="urn:example:issuer",
            task_id=self.new_id(),
            principal=ALICE,
            agent=CLERK,
            holder=self.holder.public_key,
            scope=scope or Scope("pay"),
            now=NOW,
            ttl=ttl,
            id=uuid_of(self.new_id()),
        )
        return Chain((root,))

    def child(self, chain: Chain) -> Chain:
        """Delegate all of a grant on."""
        grant = derive(
            chain,
            self.holder,
            agent=HELPER,
            holder=self.holder.public_key,
            scope=chain.leaf.scope,
            now=NOW,
            ttl=300,
            id=uuid_of(self.new_id()),
        )
        return chain.extended(grant)

    def append(self, kind: str, body: Mapping[str, Any], chain: Chain | None = None, at: int = NOW) -> str:
        """Record anything, and return its id."""
        claims = {"time": {"start": str(at * 10**9)}, **(claims_of(chain) if chain else {})}
        facts = copy.deepcopy({**claims, **body})
        for part, names in LEFT_OUT.items() if kind == "outcome" else ():
            for name in names:
                facts.get(part, {}).pop(name, None)
        return append(self.ledger, kind, facts).id

    def open_task(self, chain: Chain) -> None:
        """Record the grant and the start of its task."""
        self.append("grant", {"grant": {"token": chain.leaf.token}}, chain)
        self.append("task_start", {}, chain)

    def intent(self, chain: Chain | None, tool: str = "pay", **body: Any) -> str:
        """Record an intent, and return its id."""
        action = {"tool": tool, "args": DIGEST, "names": ["amount:number"], "kind": "function"}
        return self.append("intent", {"action": action, "decision": ALLOW, **body}, chain)

    def outcome(self, chain: Chain | None, intent: str | None, tool: str = "pay", **body: Any) -> str:
        """Record an outcome, and return its id."""
        action = {"tool": tool, "args": DIGEST, "names": ["amount:number"], "kind": "function"}
        link = {"intent": intent} if intent else {}
        return self.append(
            "outcome", {"action": action, "decision": ALLOW, "outcome": "success", **link, **body}, chain
        )

    def report(self, trust: TrustStore | None = None) -> Report:
        """Close the ledger and verify it."""
        self.ledger.close()
        return Verifier(trust or self.path / "trust.json").ledger(self.path)


START = {
    "v": "1",
    "id": "AZq1rUgAcACAAAAAAAAAAQ",
    "kind": "task_start",
    "stream": {"id": "AZq1rUgAcACAAAAAAAAAAg", "seq": "2", "prev": "A" * 43},
    "time": {"start": "1"},
}


def claims_of(chain: Chain) -> dict[str, Any]:
    leaf = chain.leaf
    return {
        "task": {"id": leaf.task_id, "expires": str(leaf.expires_at * 10**9)},
        "principal": leaf.principal.to_claim(),
        "agent": leaf.agent.to_claim(),
        "chain": [{"id": grant.agent.id, "grant": grant.hash} for grant in chain.grants],
    }


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.findings}


def only(report: Report) -> Problem:
    (problem,) = report.findings
    return problem


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "evidence")


def test_an_honest_recorder_verifies(recorder: Recorder) -> None:
    """The records of these tests are right as long as nothing is wrong on purpose."""
    chain = recorder.grant()
    child = recorder.child(chain)
    recorder.open_task(chain)
    recorder.open_task(child)
    for link in (chain, child):
        for _ in range(3):
            recorder.outcome(link, recorder.intent(link))
    counts = {"intents": "3", "outcomes": "3", "open": "0"}
    recorder.append("task_end", {"counts": counts}, child)
    recorder.append("task_end", {"counts": counts}, chain)
    report = recorder.report()
    assert (report.exit_code, report.findings, report.counts["chains_verified"]) == (0, (), 2)
    assert report.kinds["intent"] == report.counts["success"] == 6


# Steps 5 and 6: each lie, the code by which it is found, and the exit code.


def unknown_intent(r: Recorder, chain: Chain) -> str:
    return r.outcome(chain, r.new_id())


def answered_twice(r: Recorder, chain: Chain) -> str:
    intent = r.intent(chain)
    r.outcome(chain, intent)
    return r.outcome(chain, intent)


def another_tool(r: Recorder, chain: Chain) -> str:
    return r.outcome(chain, r.intent(chain), tool="read")


def other_arguments(r: Recorder, chain: Chain) -> str:
    action = {"tool": "pay", "args": "Q" * 43, "kind": "function"}
    return r.outcome(chain, r.intent(chain), action=action)


def another_task(r: Recorder, chain: Chain) -> str:
    other = r.grant()
    r.open_task(other)
    return r.outcome(other, r.intent(chain))


def no_intent(r: Recorder, chain: Chain) -> str:
    return r.outcome(chain, None)


def tool_outside(r: Recorder, chain: Chain) -> str:
    intent = r.intent(chain, tool="delete_all")
    r.outcome(chain, intent, tool="delete_all")
    return intent


def after_expiry(r: Recorder, chain: Chain) -> str:
    intent = r.intent(chain, time={"start": str((NOW + 300) * 10**9)})
    r.outcome(chain, intent)
    return intent


def before_issue(r: Recorder, chain: Chain) -> str:
    intent = r.intent(chain, time={"start": str((NOW - 31) * 10**9)})
    r.outcome(chain, intent)
    return intent


def another_principal(r: Recorder, chain: Chain) -> str:
    return r.intent(chain, principal=Service("robot").to_claim())


def another_agent(r: Recorder, chain: Chain) -> str:
    return r.intent(chain, agent=HELPER.to_claim())


def a_later_expiry(r: Recorder, chain: Chain) -> str:
    return r.intent(chain, task={**claims_of(chain)["task"], "expires": str((NOW + 9999) * 10**9)})


def no_grant(r: Recorder, chain: Chain) -> str:
    other = r.grant()
    intent = r.intent(other)
    r.outcome(other, intent)
    return intent


def another_grant(r: Recorder, chain: Chain) -> str:
    other = r.grant()
    return r.append("grant", {"grant": {"token": chain.leaf.token}}, other)


def a_grant_that_is_none(r: Recorder, chain: Chain) -> str:
    return r.append("grant", {"grant": {"token": "eyJ.eyJ.eyJ"}}, r.grant())


def a_grant_of_another_issuer(r: Recorder, chain: Chain) -> str:
    other = r.grant()
    (root,) = other.grants
    forged = Chain((forge(r, root),))
    return r.append("grant", {"grant": {"token": forged.leaf.token}}, forged)


def forge(r: Recorder, grant: Grant) -> Grant:
    stranger = SigningKey.generate()

    class Pretender:
        """Signs with its own key under the name of the trusted one."""

        public_key = r.issuer.public_key

        def sign(self, message: bytes) -> bytes:
            return stranger.sign(message)

    return issue(
        Pretender(),
        issuer="urn:example:issuer",
        task_id=grant.task_id,
        principal=ALICE,
        agent=CLERK,
        holder=r.holder.public_key,
        scope=Scope("pay"),
        now=NOW,
        ttl=300,
        id=grant.id,
    )


def claims_that_the_grant_has_not(r: Recorder, chain: Chain) -> str:
    other = r.grant()
    lie = {"principal": Human("mallory").to_claim()}
    return r.append("grant", {"grant": {"token": other.leaf.token}, **lie}, other)


def allowed_outside_any_task(r: Recorder, chain: Chain) -> str:
    return r.intent(None, attribution="none")


LIES: dict[str, tuple[Callable[[Recorder, Chain], str], str, int]] = {
    "an outcome of an intent that never was": (unknown_intent, "intent_missing", 1),
    "two outcomes of one intent": (answered_twice, "intent_missing", 1),
    "an outcome with another tool": (another_tool, "intent_mismatch", 1),
    "an outcome with other arguments": (other_arguments, "intent_mismatch", 1),
    "an outcome under another task": (another_task, "intent_mismatch", 1),
    "an outcome of a call that had no intent": (no_intent, "outcome_without_intent", 1),
    "a tool outside the grant": (tool_outside, "tool_outside_grant", 1),
    "a call after the grant": (after_expiry, "outside_grant_time", 1),
    "another principal than before": (another_principal, "claims_differ", 1),
    "another agent than before": (another_agent, "claims_differ", 1),
    "a task that lives longer": (a_later_expiry, "claims_differ", 1),
    "another principal than in the grant": (claims_that_the_grant_has_not, "claims_differ", 1),
    "a grant that is nowhere": (no_grant, "unknown_grant", 1),
    "a grant that is another one": (another_grant, "bad_grant", 1),
    "a grant that is none": (a_grant_that_is_none, "bad_grant", 1),
    "a grant that the issuer did not sign": (a_grant_of_another_issuer, "bad_grant", 1),
    "an allowed call outside any task": (allowed_outside_any_task, "allowed_without_task", 1),
}


@pytest.mark.parametrize("name", LIES)
def test_each_lie_of_a_recorder_is_found(recorder: Recorder, name: str) -> None:
    """A sealed ledger whose records contradict each other or their grants does not verify."""
    tell, code, exit_code = LIES[name]
    chain = recorder.grant(Scope("pay") | Scope("read"))
    recorder.open_task(chain)
    for _ in range(3):
        recorder.outcome(chain, recorder.intent(chain))
    record = tell(recorder, chain)
    report = recorder.report()
    assert report.exit_code == exit_code
    assert (code, record) in {(p.code, p.record) for p in report.findings}


@pytest.mark.parametrize(
    ("name", "step"),
    [("an outcome with another tool", 5), ("a tool outside the grant", 6), ("a grant that is none", 6)],
)
def test_a_lie_fails_its_step(recorder: Recorder, name: str, step: int) -> None:
    """Which steps passed tells what is wrong, and no step passes in which something was found."""
    chain = recorder.grant(Scope("pay") | Scope("read"))
    recorder.open_task(chain)
    LIES[name][0](recorder, chain)
    failed = [item.number for item in recorder.report().steps if item.status == "failed"]
    assert failed == [step]


def test_a_call_dated_before_its_grant_tells_of_the_clock(recorder: Recorder) -> None:
    """Whoever names the hash of a grant has seen it, so that such a date is a notice about the clock."""
    chain = recorder.grant(Scope("pay") | Scope("read"))
    recorder.open_task(chain)
    record = before_issue(recorder, chain)
    report = recorder.report()
    assert report.exit_code == 0
    assert ("dated_before_grant", record) in {(p.code, p.record) for p in report.findings}


def test_a_call_whose_end_is_unknown_is_counted(recorder: Recorder) -> None:
    """An intent without outcome is no contradiction: nobody knows, and the report says so."""
    chain = recorder.grant()
    recorder.open_task(chain)
    intent = recorder.intent(chain)
    report = recorder.report()
    assert (report.exit_code, report.counts["unknown"]) == (0, 1)
    assert (only(report).code, only(report).record) == ("unknown_outcome", intent)


def test_a_monitored_call_without_intent_is_incomplete(recorder: Recorder) -> None:
    """Monitoring lets calls run whose intent could not be written; that is a gap, not a lie."""
    chain = recorder.grant()
    recorder.open_task(chain)
    recorder.outcome(chain, None, decision={**ALLOW, "mode": "monitor"})
    assert (recorder.report().exit_code, codes(recorder.report())) == (3, {"unrecorded_intent"})


def test_a_task_that_did_more_than_is_there_is_incomplete(recorder: Recorder) -> None:
    """The counts at the end of a task show records that never reached the ledger."""
    chain = recorder.grant()
    recorder.open_task(chain)
    end = recorder.append("task_end", {"counts": {"intents": "2", "outcomes": "0", "open": "0"}}, chain)
    assert (recorder.report().exit_code, only(recorder.report()).code) == (3, "counts_disagree")
    assert only(recorder.report()).record == end


def test_a_task_of_which_more_is_there_is_fine(recorder: Recorder) -> None:
    """Other threads may still write while a task ends, so that its counts are a lower bound."""
    chain = recorder.grant()
    recorder.open_task(chain)
    recorder.outcome(chain, recorder.intent(chain))
    recorder.append("task_end", {"counts": {"intents": "0", "outcomes": "0", "open": "0"}}, chain)
    assert recorder.report().exit_code == 0


def test_an_outcome_may_stand_in_the_stream_of_a_forked_child(recorder: Recorder) -> None:
    """Intents and outcomes are matched across streams."""
    chain = recorder.grant()
    recorder.open_task(chain)
    intent = recorder.intent(chain)
    recorder.ledger.close()
    recorder.ledger = recorder.open()
    recorder.outcome(chain, intent)
    assert (recorder.report().exit_code, recorder.report().counts["unknown"]) == (0, 0)


def test_outcomes_that_wait_for_another_stream_are_bounded(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many outcomes name intents that are not there, each is found, in bounded memory."""
    monkeypatch.setattr("agent_identity._verify.ledger._calls_check._NEAR_INTENTS", 2)
    chain = recorder.grant()
    recorder.open_task(chain)
    for _ in range(5):
        recorder.outcome(chain, recorder.new_id())
    assert recorder.report().problems["contradicted"] == 5


def test_a_tool_table_is_bounded(recorder: Recorder) -> None:
    """A recorder that uses ever new tools cannot make the verifier remember all of them."""
    findings = Findings("ledger", ["grants"])
    delegations = Delegations(findings, 1, None)
    use = delegations.see(decode(encode_record({**START, **claims_of(recorder.grant())})), Place("x"))
    assert use is not None
    for number in range(2000):
        use.allow(f"tool{number}", number, Place())
    assert len(use.tools) == 1024
    assert (use.first_ns, use.last_ns) == (0, 1999)


def test_a_chain_whose_stream_is_gone_is_not_checked(tmp_path: Path) -> None:
    """A grant that may stand in a missing stream makes the chain unchecked, not contradicted."""
    recorder = Recorder(tmp_path / "evidence")
    chain = recorder.grant()
    recorder.open_task(chain)
    gone = recorder.ledger.stream
    recorder.ledger.close()
    recorder.ledger = recorder.open()
    recorder.outcome(chain, recorder.intent(chain))
    recorder.ledger.close()
    shutil.rmtree(recorder.path / "ledger" / gone)
    report = recorder.report()
    assert (report.exit_code, codes(report)) == (3, {"stream_missing", "chain_not_checked"})
    assert report.steps[5].status == "not_checked"


# Steps 1 and 7: trust, and what is there.


def test_a_running_ledger_is_verified_and_not_complete(recorder: Recorder) -> None:
    """While its process lives, a ledger verifies as far as it is sealed, and says how far that is."""
    append(recorder.ledger, "erasure", {"erasure": {"key": "x"}})
    recorder.ledger.seal()
    append(recorder.ledger, "erasure", {"erasure": {"key": "y"}})
    report = Verifier().ledger(recorder.path)
    assert (report.exit_code, codes(report)) == (3, {"no_end", "tail_unsealed", "erased"})
    assert (report.counts["unsealed"], report.counts["verified"]) == (1, 2)
    recorder.ledger.close()


def test_a_crash_is_recovered_and_reported(recorder: Recorder) -> None:
    """A process that died leaves a torn line; the next start seals the rest, and the report says both."""
    chain = recorder.grant()
    recorder.open_task(chain)
    intent = recorder.intent(chain)
    stream = recorder.ledger.stream
    recorder.ledger.sealing.abandon()
    entries = recorder.path / "ledger" / stream / "entries.jsonl"
    entries.write_bytes(entries.read_bytes() + b'{"mac":"0')
    assert Verifier().ledger(recorder.path).exit_code == 2  # Nothing was sealed yet.
    recorder.ledger = recorder.open()
    report = recorder.report()
    assert (report.exit_code, codes(report)) == (0, {"recovered", "unknown_outcome"})
    assert (report.counts["recovered"], report.counts["verified"]) == (1, report.counts["records"])
    assert {p.record for p in report.findings} == {intent, None}


def test_what_another_wrote_into_a_dead_stream_is_reported(recorder: Recorder) -> None:
    """Lines that the process did not write are not sealed by recovery, and the report says so."""
    stream = recorder.ledger.stream
    recorder.ledger.sealing.abandon()
    entries = recorder.path / "ledger" / stream / "entries.jsonl"
    entries.write_bytes(entries.read_bytes() + b"hello\n")
    recorder.ledger = recorder.open()
    report = recorder.report()
    assert (report.exit_code, codes(report)) == (3, {"recovered", "rejected_tail", "malformed_tail", "tail_unsealed"})


def test_a_stream_that_says_another_size_is_found(recorder: Recorder) -> None:
    """The end of a stream states how many records it has."""
    append(recorder.ledger, "stream_end", {"end": {"size": "9"}})
    report = recorder.report()
    assert codes(report) == {"missing_records", "after_end"}


def test_an_empty_directory_is_nothing_to_verify(tmp_path: Path) -> None:
    """Nothing there: cannot tell, with no step passed but the trivial ones, and never verified."""
    report = Verifier().ledger(tmp_path)
    assert (report.exit_code, report.trust) == (2, "none")
    assert codes(report) == {"nothing_to_verify", "no_trust", "no_checkpoint"}
    assert [step.number for step in report.steps if step.status == "passed"] == []


def test_a_stream_that_never_began_is_a_notice(recorder: Recorder) -> None:
    """A process that died before its first record leaves an empty folder, which is no gap."""
    (recorder.path / "ledger" / recorder.new_id()).mkdir()
    empty = recorder.path / "ledger" / recorder.new_id()
    empty.mkdir()
    (empty / "entries.jsonl").touch()
    report = recorder.report()
    assert (report.exit_code, codes(report)) == (0, {"stream_empty"})


def test_trust_beside_the_ledger_is_self_asserted(recorder: Recorder) -> None:
    """The same ledger, with the trust file given and found: the report tells which."""
    assert recorder.report().trust == "given"
    assert verify(recorder.path).trust == "self-asserted"
    assert verify(recorder.path / "ledger") == verify(recorder.path)
    (recorder.path / "trust.json").write_text("{}")
    report = Verifier().ledger(recorder.path)
    assert (report.exit_code, report.trust, codes(report)) == (2, "none", {"bad_trust", "no_trust"})
    with pytest.raises(ConfigurationError):
        Verifier(recorder.path / "trust.json").ledger(recorder.path)


def test_without_trust_a_ledger_is_not_verified(recorder: Recorder) -> None:
    """A ledger without any trust file: everything fits, nothing is proved, and no chain is shown as verified."""
    chain = recorder.grant()
    recorder.open_task(chain)
    recorder.ledger.close()
    (recorder.path / "trust.json").unlink()
    report = Verifier().ledger(recorder.path)
    assert (report.exit_code, report.trust, codes(report)) == (2, "none", {"no_trust"})
    assert [step.number for step in report.steps if step.status != "passed"] == [1, 3, 6, 7, 8]
    assert report.counts["verified"] == 0
    assert report.completeness == "not_checked"


def test_a_sign_of_life_in_the_log_is_no_change(recorder: Recorder) -> None:
    """An idle process repeats its head every hour."""
    from agent_identity._ledger.transparency.log import Head

    recorder.ledger.seal()
    stream = recorder.ledger._stream
    assert stream is not None
    recorder.ledger._log.commit([Head(stream.id, 1, stream.tree.root(), 1)], repeat=True)
    assert len((recorder.path / "log" / "entries.jsonl").read_bytes().splitlines()) == 2
    assert recorder.report().exit_code == 0


def test_a_key_that_retired_later_still_counts(recorder: Recorder) -> None:
    """A recorder key counts up to its end: what it sealed before stays verified."""
    keys = TrustStore.load(recorder.path / "trust.json").keys
    until = TrustStore((keys[0], TrustedKey(keys[1].key, "recorder", not_after=NOW)))
    assert recorder.report(until).exit_code == 0
    before = TrustStore((keys[0], TrustedKey(keys[1].key, "recorder", not_after=NOW - 1)))
    assert codes(recorder.report(before)) == {"key_not_valid_then"}


def test_a_log_that_takes_records_back_is_found(recorder: Recorder) -> None:
    """Heads of a stream only grow; a recorder that signs a smaller or another one is found out."""
    from agent_identity._ledger.transparency.log import Head

    stream = recorder.ledger.stream
    append(recorder.ledger, "erasure", {"erasure": {"key": "x"}})
    recorder.ledger.seal()
    recorder.ledger._log.commit([Head(stream, 1, b"r" * 32, 1)])
    recorder.ledger._log.commit([Head(stream, 2, b"r" * 32, 1)])
    report = recorder.report()
    assert [p.code for p in report.findings] == ["log_shrank", "log_shrank", "erased"]
    assert [p.line for p in report.findings[:2]] == [2, 3]


def test_entries_of_the_log_that_are_none_or_of_another_log_are_found(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signed log that holds something else does not verify."""
    from agent_identity._ledger.transparency.log import Head

    stream = recorder.ledger.stream
    recorder.ledger.seal()
    whole = Head.to_entry
    monkeypatch.setattr(Head, "to_entry", lambda self, origin: whole(self, "other"))
    recorder.ledger._log.commit([Head(stream, 1, b"r" * 32, 1)])
    monkeypatch.setattr(Head, "to_entry", lambda self, origin: b'{"hello":"world"}')
    recorder.ledger._log.commit([Head(stream, 3, b"r" * 32, 1)])
    monkeypatch.undo()
    assert {"wrong_origin", "log_malformed"} <= codes(recorder.report())


def test_a_torn_or_unsealed_end_of_the_log_is_a_notice(recorder: Recorder) -> None:
    """What follows the checkpoint in the log proves nothing and contradicts nothing."""
    recorder.ledger.close()
    log = recorder.path / "log" / "entries.jsonl"
    log.write_bytes(log.read_bytes() + log.read_bytes() + b'{"entry":')
    report = Verifier().ledger(recorder.path)
    assert (report.exit_code, report.counts["log_unsealed"]) == (0, 1)
    assert [p.code for p in report.findings] == ["log_unsealed", "log_unsealed"]


class FailingFiles(Files):
    """An operating system whose disk breaks while one file is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reads = 0
        self.fd = -1

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        """Open a file, and watch the one that is to break."""
        fd = super().open(path, flags, mode)
        if path.endswith(self.name):
            self.fd, self.reads = fd, 0
        return fd

    def read(self, fd: int, size: int) -> bytes:
        """Read, until the watched file breaks."""
        if fd == self.fd:
            self.reads += 1
            if self.reads > 1:
                raise OSError
            return super().read(fd, 400)
        return super().read(fd, size)


@pytest.mark.parametrize("name", ["log/entries.jsonl", "entries.jsonl"])
def test_a_disk_that_breaks_leaves_the_question_open(
    recorder: Recorder, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be read to its end is reported as such, and never verifies."""
    from agent_identity._ledger.reader import LedgerReader

    append(recorder.ledger, "erasure", {"erasure": {"key": "x" * 64}})
    recorder.ledger.seal()
    append(recorder.ledger, "erasure", {"erasure": {"key": "x" * 64}})
    recorder.ledger.close()
    monkeypatch.setattr(
        "agent_identity._verify.ledger.directory_check.open_ledger",
        lambda directory, **_: LedgerReader(directory, files=FailingFiles(name)),
    )
    report = Verifier().ledger(recorder.path)
    assert "unreadable" in codes(report)
    assert report.exit_code in {1, 2}


def test_progress_grows_to_the_size_of_the_streams(recorder: Recorder) -> None:
    """Progress never goes back and ends near the end."""
    for _ in range(9000):
        append(recorder.ledger, "erasure", {"erasure": {"key": "x"}})
    recorder.ledger.close()
    (recorder.path / "ledger" / recorder.new_id()).mkdir()
    seen: list[tuple[int, int]] = []
    Verifier(progress=lambda done, total: seen.append((done, total))).ledger(recorder.path)
    assert 4 < len(seen) < 100
    assert seen == sorted(seen)
    assert seen[0][0] > 0
    assert seen[-1][0] <= seen[-1][1]


# The report itself.


def test_a_report_keeps_the_worst_and_counts_all() -> None:
    """A flood of notices cannot push a contradiction out of the report."""
    findings = Findings("ledger", ["one"])
    for _ in range(MAX_KEPT + 5):
        findings.add(1, "unknown_outcome", "x")
    findings.add(1, "bad_signature", "y")
    report = findings.report()
    assert len(report.findings) == MAX_KEPT
    assert report.findings[0].code == "bad_signature"
    assert report.problems == {"contradicted": 1, "cannot_tell": 0, "incomplete": 0, "notice": MAX_KEPT + 5}


@pytest.mark.parametrize(
    ("added", "verdict", "exit_code"),
    [
        ([], "verified", 0),
        (["unknown_outcome"], "verified", 0),
        (["no_end"], "incomplete", 3),
        (["no_end", "no_trust"], "cannot_tell", 2),
        (["no_end", "no_trust", "bad_grant"], "contradicted", 1),
    ],
)
def test_the_worst_problem_decides(added: list[str], verdict: str, exit_code: int) -> None:
    """Contradicted beats cannot tell, which beats incomplete; notices decide nothing."""
    findings = Findings("ledger", ["one", "two"])
    findings.completeness_checked = True
    for code in added:
        findings.add(1, code, "x")
    findings.done(1, "all")
    report = findings.report()
    assert (report.verdict, report.exit_code) == (verdict, exit_code)
    assert report.to_json()["exit_code"] == EXIT_CODES[verdict] == exit_code
    assert report.steps[1].status == "not_checked"


def test_a_failed_step_stays_failed() -> None:
    """No later word turns a failure, or a step that was not taken, into a pass."""
    findings = Findings("ledger", ["one", "two", "three"])
    findings.add(1, "bad_grant", "x")
    findings.skip(1, "later")
    findings.skip(2, "not there")
    findings.done(2, "done")
    findings.add(3, "no_trust", "x")
    findings.add(3, "bad_grant", "x")
    assert [step.status for step in findings.report().steps] == ["failed", "not_checked", "failed"]


def test_a_report_has_all_that_was_found() -> None:
    """Each problem with its place, each step with its first word, counts in the order of their names."""
    findings = Findings("proof", ["one", "two", "three"])
    findings.trust, findings.completeness_checked = "given", True
    findings.add(2, "bad_grant", "a lie", Place("r", "s", 3, 4))
    findings.add(1, "unknown_outcome", "a doubt")
    findings.done(1, "first")
    findings.done(1, "second")
    findings.skip(3, "not here")
    findings.skip(3, "nor there")
    findings.counts.update(b=2, a=1)
    findings.kinds.update(d=4, c=3)
    findings.coverage = (Coverage("x", 3, 2, 1),)
    findings.period = unknown_period(1, 2, "why")
    signature = Signature("witness", "w", "Ed25519", 9, 7)
    findings.sign(signature)
    findings.sign(signature)
    assert (findings.number("contradicted"), findings.number("notice")) == (1, 1)
    report = findings.report()
    assert report == Report(
        source="proof",
        integrity="contradicted",
        completeness="not_checked",
        trust="given",
        counts={"a": 1, "b": 2},
        kinds={"c": 3, "d": 4},
        findings=(
            Problem("bad_grant", "contradicted", "r", "s", 3, 4, "a lie"),
            Problem("unknown_outcome", "notice", None, None, None, None, "a doubt"),
        ),
        problems={"contradicted": 1, "cannot_tell": 0, "incomplete": 0, "notice": 1},
        coverage=(Coverage("x", 3, 2, 1),),
        steps=(
            Step(1, "one", "passed", "first"),
            Step(2, "two", "failed", ""),
            Step(3, "three", "not_checked", "not here"),
        ),
        period=unknown_period(1, 2, "why"),
        signatures=(signature,),
    )
    assert [list(counts) for counts in (report.counts, report.kinds)] == [["a", "b"], ["c", "d"]]
    place = {"record": None, "stream": None, "seq": None, "line": None}
    document = {
        "source": "proof",
        "verdict": "contradicted",
        "exit_code": 1,
        "integrity": "contradicted",
        "completeness": "not_checked",
        "trust": "given",
        "counts": {"a": 1, "b": 2},
        "kinds": {"c": 3, "d": 4},
        "problems": {"contradicted": 1, "cannot_tell": 0, "incomplete": 0, "notice": 1},
        "findings": [
            {"code": "bad_grant", "severity": "contradicted", **dict(zip(place, ("r", "s", 3, 4), strict=True))}
            | {"message": "a lie"},
            {"code": "unknown_outcome", "severity": "notice", **place, "message": "a doubt"},
        ],
        "coverage": [{"scope": "x", "calls": 3, "attributed": 2, "human": 1}],
        "steps": [
            {"number": 1, "name": "one", "status": "passed", "detail": "first"},
            {"number": 2, "name": "two", "status": "failed", "detail": ""},
            {"number": 3, "name": "three", "status": "not_checked", "detail": "not here"},
        ],
        "period": unknown_period(1, 2, "why").to_json(),
        "complete_until": None,
        "outside": None,
        "signatures": [{"role": "witness", "name": "w", "algorithm": "Ed25519", "size": 9, "time": 7}],
    }
    assert report.to_json() == document
    findings.period = None
    assert "period" not in findings.report().to_json()


def test_a_report_keeps_so_many_signatures() -> None:
    """As many as problems, each once."""
    findings = Findings("ledger", [])
    for size in range(MAX_KEPT + 5):
        findings.sign(Signature("witness", "w", "Ed25519", size))
    assert [signature.size for signature in findings.report().signatures] == list(range(MAX_KEPT))


def test_what_was_pruned_is_complete_as_far_as_it_is_said() -> None:
    """Only where it was checked, nothing is missing, and something was pruned."""
    findings = Findings("ledger", [])
    assert (findings.report().completeness, findings.report().trust) == ("not_checked", "none")
    findings.counts["pruned"] = 1
    assert findings.report().completeness == "not_checked"
    findings.completeness_checked = True
    assert findings.report().completeness == "pruned"
    findings.counts["pruned"] = 0
    assert findings.report().completeness == "complete"
    findings.complete_until, findings.outside = 1, "the checkpoint kept elsewhere, of 7 entries"
    assert findings.report().completeness_words == (
        "complete up to 1970-01-01 00:00 UTC (this copy, which is not older than the checkpoint kept elsewhere, of 7 "
        "entries)"
    )
    findings.outside = None
    findings.counts["pruned"] = 1
    assert findings.report().completeness_words == (
        "complete up to 1970-01-01 00:00 UTC for what is kept; older records were pruned (this copy; no outside "
        "checkpoint given: an older copy would look the same)"
    )
    findings.counts["pruned"] = 0
    findings.add(1, "no_end", "x")
    assert (findings.report().completeness, findings.report().completeness_words) == ("incomplete", "incomplete")
    assert findings.report().complete_until is None
    findings.completeness_checked = False
    assert (findings.report().completeness, findings.report().verdict) == ("incomplete", "incomplete")


def test_every_code_is_documented_and_free_of_scrubbed_words() -> None:
    """Codes are slugs that no scrubber removes."""
    for code in CODES:
        assert code.replace("_", "").isalpha()
        assert not any(word in code for word in ("auth", "session", "secret", "credential", "password", "cookie"))


def test_json_of_a_report_is_plain(recorder: Recorder) -> None:
    """The report in JSON has every finding and step, in types that JSON has."""
    import json

    (recorder.path / "ledger" / recorder.new_id()).mkdir()
    document = recorder.report().to_json()
    assert json.loads(json.dumps(document)) == document
    assert document["verdict"] == "verified"


def test_verify_names_the_first_problem(recorder: Recorder) -> None:
    """The error of verify() starts with the verdict and tells the worst problem."""
    recorder.ledger.close()
    (recorder.path / "log" / "checkpoint").write_bytes(b"")
    with pytest.raises(VerificationError, match=r"^contradicted: the checkpoint") as caught:
        verify(recorder.path)
    assert caught.value.code == "contradicted"


def test_what_names_an_evidence_directory(recorder: Recorder, tmp_path: Path) -> None:
    """The directory and its ledger folder do; files and other objects do not."""
    root = str(recorder.path)
    assert directory_of(recorder.path) == directory_of(recorder.path / "ledger") == root
    (tmp_path / "ledger").mkdir()
    assert directory_of(str(tmp_path / "ledger")) == str(tmp_path / "ledger")
    assert directory_of(recorder.path / "trust.json") is None
    assert directory_of(object()) is None
    recorder.ledger.close()


def _end(recorder: Recorder, chain: Chain, intents: int) -> None:
    recorder.append("task_end", {"counts": {"intents": str(intents), "outcomes": str(intents), "open": "0"}}, chain)


@pytest.mark.parametrize(("calls", "verdict"), [(3, "verified"), (2, "incomplete")])
def test_every_opening_of_a_resumed_task_counts(recorder: Recorder, calls: int, verdict: str) -> None:
    """A grant that was resumed twice, in two processes, needs the calls of both, not only of the one that did most."""
    chain = recorder.grant()
    recorder.open_task(chain)
    for _ in range(min(2, calls)):
        recorder.outcome(chain, recorder.intent(chain))
    _end(recorder, chain, 2)
    recorder.ledger.close()
    recorder.ledger = recorder.open()
    recorder.append("task_start", {}, chain)
    for _ in range(calls - 2):
        recorder.outcome(chain, recorder.intent(chain))
    _end(recorder, chain, 1)
    report = recorder.report()
    assert report.verdict == verdict
    assert codes(report) == ({"counts_disagree"} if calls == 2 else set())


def test_the_end_in_a_forked_child_repeats_what_its_parent_did(recorder: Recorder) -> None:
    """An end without an opening in its stream counts nothing twice."""
    chain = recorder.grant()
    recorder.open_task(chain)
    recorder.outcome(chain, recorder.intent(chain))
    _end(recorder, chain, 1)
    recorder.ledger.close()
    recorder.ledger = recorder.open()
    _end(recorder, chain, 1)
    assert recorder.report().verdict == "verified"
