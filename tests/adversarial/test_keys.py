"""Keys that are exchanged, and keys that are stolen: old evidence stays good, and a thief cannot add to it unseen."""

import json
import shutil
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from plain_records import append

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier
from agent_identity._authority.grants.grants import issue
from agent_identity._directory.rotation import revoke, rotate
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.trust.entries import Purpose
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.options import Ledger, Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
HELPER = Agent("helper", owner="finance@example.com")
BOTH: tuple[Purpose, ...] = ("issuer", "recorder")
DAY = 24 * 3600


@dataclass
class Office:
    """A directory over days: processes that come and go, a clock, and copies that are kept elsewhere."""

    path: Path
    clock: FixedClock = field(default_factory=FixedClock)
    ids: SequentialIds = field(default_factory=SequentialIds)

    @property
    def now(self) -> int:
        """The time in Unix seconds."""
        return self.clock.wall_ns() // 10**9

    @property
    def evidence(self) -> Path:
        """The directory."""
        return self.path / "evidence"

    def open(self, **options: object) -> Enforcer:
        """Open it as a process does."""
        telemetry, sources = Telemetry(tracer_provider=TracerProvider()), Sources(clock=self.clock, ids=self.ids)
        return Enforcer.open(self.evidence, **{"telemetry": telemetry, "sources": sources, **options})

    def work(self, calls: int = 1) -> None:
        """Have a process come, work and go."""
        with self.open() as enforcer:
            self.task(enforcer, calls)

    def task(self, enforcer: Enforcer, calls: int = 1) -> None:
        """Work under one task."""
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")):
            for _ in range(calls):
                with enforcer.action("read"):
                    pass

    def rotate(self, *purposes: Purpose, overlap: int = DAY) -> None:
        """Exchange keys."""
        rotate(self.evidence, purposes or BOTH, now=self.now, overlap=overlap)

    def key(self, purpose: Purpose = "recorder") -> SigningKey:
        """Return what a thief who reads the directory now has."""
        return SigningKey.load(self.evidence / "keys" / f"{purpose}.pem")

    def keep(self, name: str = "checkpoint") -> Path:
        """Keep the checkpoint of now elsewhere."""
        return Path(shutil.copy(self.evidence / "log" / "checkpoint", self.path / name))

    def revoke(self, key: SigningKey, since: int) -> None:
        """Revoke a key."""
        revoke(self.evidence, key.public_key.thumbprint, since=since)

    def forge(self, key: SigningKey, at: int, *, pay: bool = True) -> None:
        """Write into the log as a thief who has the recorder key and the key of the MACs, with any date."""
        ledger = Ledger.open(
            self.evidence, signer=key, origin=self.trust.origin or "", clock=FixedClock(at * 10**9), ids=self.ids
        )
        if pay:
            action = {"tool": "pay", "args": "A" * 43, "kind": "function"}
            decision = {"effect": "block", "enforced": "block", "mode": "enforce", "reason": "no_task"}
            body = {"action": action, "decision": decision, "attribution": "none", "outcome": "denied"}
            append(ledger, "outcome", {**body, "error": "no_task"})
        ledger.close()

    @property
    def trust(self) -> TrustStore:
        """What is trusted now."""
        return TrustStore.load(self.evidence / "trust.json")

    def check(self, checkpoint: Path | None = None) -> Report:
        """Verify the ledger with the trust file of now."""
        return Verifier(self.trust).ledger(self.evidence, checkpoint=checkpoint)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def codes(report: Report) -> set[str]:
    return {problem.code for problem in report.findings if problem.severity != "notice"}


# AC-16


def test_ac_16_evidence_verifies_across_many_rotations(office: Office) -> None:
    """Keys are exchanged every 50 calls; all records verify as one log, under checkpoints kept from every key."""
    kept = []
    for _ in range(4):
        office.work(50)
        kept.append(office.keep(f"checkpoint-{len(kept)}"))
        office.clock.advance(3600)
        office.rotate()
        office.clock.advance(3600)
    office.work(50)
    report = office.check()
    assert (report.verdict, report.exit_code, codes(report)) == ("verified", 0, set())
    assert report.counts["verified"] == report.counts["records"] == 5 * 105
    assert report.counts["chains_verified"] == 5
    assert [office.check(note).exit_code for note in kept] == [0] * 4
    keys = office.trust.keys
    assert len(keys) == 10
    assert len({key.key for key in keys}) == 10


def test_ac_16_a_running_process_works_on_through_the_overlap(office: Office) -> None:
    """What a process does with the old keys counts until the overlap ends, beside one that has the new keys."""
    old = office.open()
    office.task(old)
    office.clock.advance(60)
    office.rotate()
    new = office.open()
    for enforcer in (old, new, old):
        office.clock.advance(60)
        office.task(enforcer)
    new.close()
    old.close()
    report = office.check()
    assert (report.verdict, codes(report)) == ("verified", set())
    assert report.counts["chains_verified"] == 4


def test_ac_16_a_grant_outlives_the_key_that_signed_it(office: Office) -> None:
    """A task that was opened before the rotation goes on, delegates on, and verifies afterwards."""
    with office.open() as enforcer:
        scope = Scope("read")
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=scope, ttl=timedelta(hours=20)) as task:
            office.clock.advance(60)
            office.rotate()
            old = task.grant
            office.clock.advance(19 * 3600)
            with enforcer.delegate(HELPER, scope=scope), enforcer.action("read"):
                pass
    office.work()
    assert office.check().verdict == "verified"
    thumbprint = json.loads(_header(old.token))["kid"]
    assert office.trust.find(thumbprint, "issuer", at=old.expires_at)
    with pytest.raises(TokenError, match="was not valid"):
        office.trust.find(thumbprint, "issuer", at=old.expires_at + 5 * 3600)


def _header(token: str) -> bytes:
    return b64url_decode(token.partition(".")[0])


def test_ac_16_new_grants_are_signed_with_the_new_key(office: Office) -> None:
    """After the rotation the old private key is in no file of the directory, and the new one signs."""
    office.work()
    before = office.key("issuer").public_key
    old_pem = (office.evidence / "keys" / "issuer.pem").read_bytes()
    office.clock.advance(60)
    office.rotate("issuer")
    with office.open() as enforcer, enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")) as task:
        kid = json.loads(_header(task.grant.token))["kid"]
    assert kid == office.key("issuer").public_key.thumbprint != before.thumbprint
    assert all(old_pem not in path.read_bytes() for path in office.evidence.rglob("*") if path.is_file())
    assert office.check().verdict == "verified"


def test_ac_16_a_key_signs_nothing_after_its_overlap(office: Office) -> None:
    """A process that never opened the directory again leaves records that cannot be verified, and they are found."""
    old = office.open()
    office.clock.advance(60)
    office.rotate(overlap=600)
    office.clock.advance(601)
    office.task(old)
    old.close()
    report = office.check()
    assert (report.exit_code, codes(report)) == (2, {"key_not_valid_then", "unknown_issuer"})


# AC-17


def stolen(office: Office) -> tuple[SigningKey, int, Path]:
    """Work, keep a checkpoint, lose the key, work on; return the key, when it was stolen, and the checkpoint."""
    office.work(3)
    kept = office.keep()
    office.clock.advance(3600)
    key, since = office.key(), office.now
    office.clock.advance(3600)
    return key, since, kept


def test_ac_17_what_a_kept_checkpoint_covers_stays_verified(office: Office) -> None:
    """With a checkpoint from before that was kept elsewhere, nothing is in doubt."""
    key, since, kept = stolen(office)
    office.revoke(key, since)
    report = office.check(kept)
    assert (report.verdict, report.exit_code, codes(report)) == ("verified", 0, set())
    assert report.counts["verified"] == report.counts["records"] > 0
    assert report.steps[0].status == "passed"


def test_ac_17_without_it_nobody_can_tell(office: Office) -> None:
    """A signature of the stolen key is never enough, whatever date the records have."""
    key, since, _ = stolen(office)
    office.revoke(key, since)
    report = office.check()
    assert (report.verdict, report.exit_code, codes(report)) == ("cannot_tell", 2, {"key_revoked"})
    assert report.counts["verified"] == 0
    assert report.steps[0].status == "not_checked"


def test_ac_17_a_record_that_is_dated_back_is_flagged(office: Office) -> None:
    """The thief writes a record of yesterday behind the kept checkpoint: only that one is in doubt."""
    key, since, kept = stolen(office)
    office.forge(key, since - 7200)
    office.revoke(key, since)
    report = office.check(kept)
    assert (report.exit_code, codes(report)) == (2, {"key_revoked"})
    (problem,) = [problem for problem in report.findings if problem.code == "key_revoked"]
    assert (problem.stream, problem.seq) == (min(p.name for p in (office.evidence / "ledger").iterdir()), 1)
    assert report.counts["records"] - report.counts["verified"] == 3


def test_ac_17_a_record_from_after_the_theft_is_contradicted(office: Office) -> None:
    """What is dated after the revocation has never counted."""
    key, since, kept = stolen(office)
    office.forge(key, since)
    office.revoke(key, since)
    report = office.check(kept)
    assert (report.verdict, report.exit_code) == ("contradicted", 1)
    assert codes(report) == {"signed_after_revocation"}


def test_ac_17_a_rewritten_history_is_found(office: Office) -> None:
    """A whole new log of the same origin, all of it dated back, contradicts the kept checkpoint."""
    key, since, kept = stolen(office)
    office.revoke(key, since)
    for part in ("ledger", "log"):
        shutil.rmtree(office.evidence / part)
    office.forge(key, since - 7200)
    report = office.check(kept)
    assert (report.exit_code, "rolled_back" in codes(report)) == (1, True)
    assert codes(office.check()) == {"key_revoked", "log_lost"}


def test_ac_17_a_checkpoint_of_the_thief_shows_nothing(office: Office) -> None:
    """A checkpoint over records from after the theft is not from before, so it does not help those under it."""
    key, since, _ = stolen(office)
    office.forge(key, since + 1)
    office.revoke(key, since)
    report = office.check(office.keep("later"))
    assert report.exit_code == 1
    assert codes(report) == {"signed_after_revocation", "key_revoked"}
    assert report.counts["verified"] == 0


def test_ac_17_work_goes_on_under_a_new_key(office: Office) -> None:
    """After revocation and rotation, what the new key took over stays in doubt, and what follows is verified."""
    key, since, kept = stolen(office)
    office.work(2)
    office.revoke(key, since)
    office.rotate("recorder")
    office.clock.advance(60)
    office.work(5)
    report = office.check(kept)
    assert codes(report) == {"signed_after_revocation"}
    assert report.counts["records"] - report.counts["verified"] == 2 * 2 + 5
    again = office.keep("checkpoint-2")
    assert codes(office.check(again)) == {"signed_after_revocation", "key_revoked"}  # It is not from before.


def test_ac_17_nothing_is_in_doubt_if_nothing_was_signed_meanwhile(office: Office) -> None:
    """Checkpoint, theft, revocation, rotation, work: verified from the first record to the last."""
    key, since, kept = stolen(office)
    office.revoke(key, since)
    office.rotate("recorder")
    office.clock.advance(60)
    office.work()
    assert (office.check(kept).verdict, office.check(kept).exit_code) == ("verified", 0)
    assert codes(office.check()) == {"key_revoked"}


def test_ac_17_a_rotation_before_the_theft_is_a_checkpoint_as_well(office: Office) -> None:
    """The trust file names how far the log was when the stolen key took over: what is older is not in doubt."""
    office.work(3)
    office.clock.advance(60)
    office.rotate("recorder")
    office.clock.advance(60)
    office.work()
    key = office.key()
    office.clock.advance(60)
    office.revoke(key, office.now)
    report = office.check()
    assert codes(report) == {"key_revoked"}
    assert (report.counts["verified"], report.counts["records"]) == (11, 18)


def test_ac_17_the_old_key_cannot_sign_for_the_new_one(office: Office) -> None:
    """A thief who goes on with the stolen key after the rotation makes a log that nobody sound has signed."""
    key, since, kept = stolen(office)
    office.rotate("recorder")
    office.revoke(key, since)
    office.work()
    office.clock.advance(60)
    office.forge(key, since - 100)
    report = office.check(kept)
    assert (report.exit_code, codes(report)) == (1, {"signed_after_revocation", "key_revoked"})


def test_ac_17_a_log_that_was_cut_before_the_rotation_is_found(office: Office) -> None:
    """Without any checkpoint kept, the trust file alone tells that the log was longer."""
    office.work()
    shutil.copytree(office.evidence, office.path / "before")
    office.work()
    office.rotate("recorder")
    for part in ("ledger", "log"):
        shutil.rmtree(office.evidence / part)
        shutil.copytree(office.path / "before" / part, office.evidence / part)
    report = office.check()
    assert (report.exit_code, codes(report)) == (1, {"rolled_back"})


def test_ac_17_no_process_starts_with_a_revoked_key(office: Office) -> None:
    """The way out is named, nothing is written, and after it the directory opens."""
    office.work()
    before = {path: path.read_bytes() for path in office.evidence.rglob("*") if path.is_file()}
    for purpose in BOTH:
        office.revoke(office.key(purpose), office.now)
        trust = (office.evidence / "trust.json").read_bytes()
        with pytest.raises(ConfigurationError, match=f"is revoked; run 'agent-identity keys rotate --{purpose}") as got:
            office.open()
        assert got.value.code == "key_revoked"
        before[office.evidence / "trust.json"] = trust
        announced = office.evidence / "trust.successors"
        before |= {announced: announced.read_bytes()} if announced.exists() else {}
        lock = office.evidence / "keys" / "rotation.lock"
        assert {p: p.read_bytes() for p in office.evidence.rglob("*") if p.is_file() and p != lock} == before
        office.clock.advance(60)
        office.rotate(purpose)
        office.work()
        before = {p: p.read_bytes() for p in office.evidence.rglob("*") if p.is_file() and p != lock}


def test_ac_17_grants_of_a_stolen_issuer_key(office: Office) -> None:
    """Grants that a sound recorder noted before the theft stand; those after it have never counted."""
    office.work()
    office.clock.advance(60)
    key, since = office.key("issuer"), office.now
    office.revoke(key, since)
    assert office.check().verdict == "verified"
    with pytest.raises(TokenError) as refused:
        office.trust.find(key.public_key.thumbprint, "issuer", at=since - 1000)
    assert refused.value.code == "key_revoked"


@pytest.mark.parametrize(("age", "code", "exit_code"), [(100, "key_revoked", 2), (0, "signed_after_revocation", 1)])
def test_ac_17_a_grant_that_is_dated_back_is_flagged(office: Office, age: int, code: str, exit_code: int) -> None:
    """A grant that first appears after the theft may be the thief's, whatever its date."""
    office.work()
    office.clock.advance(60)
    key, since = office.key("issuer"), office.now
    with office.open() as enforcer:
        grant = issue(
            key,
            issuer=office.trust.issuer or "",
            task_id=office.ids.new(0),
            principal=ALICE,
            agent=CLERK,
            holder=SigningKey.generate().public_key,
            scope=Scope("pay"),
            now=since - age,
            ttl=300,
            id=uuid_of(office.ids.new(0)),
        )
        body = {
            "task": {"id": grant.task_id, "expires": str(grant.expires_at * 10**9)},
            "principal": ALICE.to_claim(),
            "agent": CLERK.to_claim(),
            "chain": [{"id": CLERK.id, "grant": grant.hash}],
            "grant": {"token": grant.token},
        }
        append(enforcer._enforcement.ledger, "grant", body)
    office.revoke(key, since)
    report = office.check()
    assert (report.exit_code, codes(report)) == (exit_code, {code})
    assert report.counts["chains_verified"] == 1


def test_ac_17_grants_when_both_keys_are_stolen(office: Office) -> None:
    """A record vouches for a grant only if something vouches for the record: the kept checkpoint, or the new key."""
    recorder, since, kept = stolen(office)
    for key in (office.key("issuer"), recorder):
        office.revoke(key, since)
    assert (office.check(kept).verdict, office.check(kept).counts["chains_verified"]) == ("verified", 1)
    alone = office.check()
    assert (alone.exit_code, codes(alone), alone.counts["chains_verified"]) == (2, {"key_revoked"}, 0)
    assert alone.steps[5].status == "not_checked"
    office.rotate()
    office.clock.advance(60)
    office.work()
    assert office.check(kept).counts["chains_verified"] == 2


def test_ac_17_grants_under_a_recorder_key_that_took_over(office: Office) -> None:
    """Under a sound recorder that took over, a grant of a stolen issuer key counts as of the time it was noted."""
    office.work()
    old = office.key()
    office.clock.advance(60)
    office.rotate("recorder")
    office.clock.advance(60)
    office.work()
    office.clock.advance(60)
    office.revoke(office.key("issuer"), office.now)
    office.revoke(old, office.now)
    report = office.check()
    assert (report.verdict, report.counts["chains_verified"]) == ("verified", 2)


def test_ac_17_a_grant_out_of_its_keys_time_is_unknown(office: Office) -> None:
    """The end of an issuer key holds for grants in the ledger as well."""
    office.work()
    trust = office.trust
    ended = trust.with_keys((replace(trust.keys[0], not_after=office.now - 1), trust.keys[1]))
    report = Verifier(ended).ledger(office.evidence)
    assert (report.exit_code, codes(report)) == (2, {"unknown_issuer"})


def test_ac_17_spans_are_compared_with_a_ledger_in_doubt(office: Office, tmp_path: Path) -> None:
    """Spans of a sound key beside a ledger whose older records are in doubt: it says so."""
    office.work()
    office.clock.advance(60)
    office.revoke(office.key(), office.now)
    office.rotate("recorder")
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with office.open(telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        office.task(enforcer)
    path = tmp_path / "spans.jsonl"
    path.write_text(_document(exporter), encoding="utf-8")
    report = Verifier(office.trust).traces(path, ledger=office.evidence)
    assert codes(report) == {"ledger_not_verified", "span_missing"}
    assert report.counts["verified"] == 2


@pytest.mark.parametrize("purpose", BOTH)
def test_ac_17_spans_alone_cannot_show_that_they_are_older(office: Office, purpose: Purpose, tmp_path: Path) -> None:
    """A span under a stolen recorder key is in doubt; under a stolen issuer key the recorder vouches for its time."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with office.open(telemetry=Telemetry(tracer_provider=provider)) as enforcer:
        office.task(enforcer)
    path = tmp_path / "spans.jsonl"
    path.write_text(_document(exporter), encoding="utf-8")
    start = office.now
    assert Verifier(office.trust).traces(path).exit_code == 0
    key = office.key(purpose)
    office.revoke(key, start + 1)
    before = Verifier(office.trust).traces(path)
    office.revoke(key, start)
    after = Verifier(office.trust).traces(path)
    if purpose == "recorder":
        assert (before.exit_code, codes(before)) == (2, {"key_revoked"})
        assert before.counts["unknown_key"] == 2
        assert before.steps[1].status == "not_checked"
    else:
        assert (before.exit_code, codes(before)) == (0, set())
    assert (after.exit_code, codes(after)) == (1, {"signed_after_revocation"})


def _document(exporter: InMemorySpanExporter) -> str:
    spans = []
    for span in exporter.get_finished_spans():
        attributes = [
            {"key": name, "value": {"arrayValue": {"values": [{"stringValue": one} for one in value]}}}
            if isinstance(value, tuple)
            else {"key": name, "value": {"boolValue": value} if isinstance(value, bool) else {"stringValue": value}}
            for name, value in (span.attributes or {}).items()
        ]
        spans.append(
            {
                "traceId": f"{span.context.trace_id:032x}",
                "spanId": f"{span.context.span_id:016x}",
                "name": span.name,
                "startTimeUnixNano": str(span.start_time),
                "endTimeUnixNano": str(span.end_time),
                "attributes": attributes,
            }
        )
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"scope": {"name": "agent_identity"}, "spans": spans}]}]})
