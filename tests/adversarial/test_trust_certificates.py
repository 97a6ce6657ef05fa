"""Roots that certify recorders: what a certificate gives, and what nobody gets by one."""

import json
import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from plain_records import append
from record_writing import streams_begin

from agent_identity import Agent, Enforcer, Human, Report, Scope, Service, Verifier, records
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import issue
from agent_identity._directory.open import open_directory, prepare
from agent_identity._directory.rotation import rotate
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.trust.certificates import trusted_certificate
from agent_identity._identity.trust.merge import check_successor
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.excerpt_starts import Excerpt
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.witness_client import cosigned_file
from agent_identity._record.parts import KeyTrust, Stream, Time
from agent_identity._storage.layout import Layout, segment_name
from agent_identity._storage.lines import stream_line
from agent_identity._verify.ledger.certificates_check import certificates_proved
from agent_identity._verify.ledger.log_check import check_log
from agent_identity._verify.proofs.bundle import Choice, collect
from agent_identity._verify.report.findings import Findings
from agent_identity.audit import prove, prove_growth
from agent_identity.cli import main
from agent_identity.delegation import Grants
from agent_identity.errors import ConfigurationError, Denied, TokenError
from agent_identity.identity import (
    Approver,
    Certificate,
    FileVersion,
    RandomIds,
    SigningKey,
    TrustedKey,
    TrustStore,
    Witnesses,
    certified,
    merged,
    signed_trust,
    trust_conflicts,
)
from agent_identity.options import Durability, Ledger, Sources, Telemetry
from agent_identity.records import Trust, encode
from agent_identity.testing import FixedClock, SequentialIds

ROOT, OTHER_ROOT, STRANGER, WITNESS = (SigningKey.from_seed(bytes([number]) * 32) for number in (91, 92, 93, 94))
ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
DAY = 24 * 3600
FILE = FileVersion("urn:example:fleet", 1)


def codes(report: Report) -> set[str]:
    """Return everything that was found."""
    return {problem.code for problem in report.findings}


def roots(*keys: TrustedKey, **more: Any) -> TrustStore:
    """Return a trust file that lists roots alone, by default one for every log of ours."""
    named = {"file": FILE, **more}
    return TrustStore(keys or (TrustedKey(ROOT.public_key, "root", origin="agent-identity/"),), **named)


@dataclass
class Pod:
    """A host with keys and a log of its own, which no trust file lists."""

    path: Path
    clock: FixedClock = field(default_factory=FixedClock)
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def __post_init__(self) -> None:
        prepare(self.path, self.clock, RandomIds())  # Each names its log.
        self.start = self.now
        self.own = TrustStore.load(self.path / "trust.json")

    @property
    def now(self) -> int:
        """The time in Unix seconds."""
        return self.clock.wall_ns() // 10**9

    @property
    def origin(self) -> str:
        """The name of its log."""
        return self.own.origin or ""

    def key(self, purpose: str) -> SigningKey:
        """Return one of its private keys."""
        return SigningKey.load(self.path / "keys" / f"{purpose}.pem")

    def work(self, principal: Human | Service = ALICE) -> None:
        """Have a process come, make a call and go."""
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        with (
            Enforcer.open(
                self.path, sources=Sources(clock=self.clock), telemetry=Telemetry(tracer_provider=provider)
            ) as enforcer,
            enforcer.task("a purpose", principal=principal, agent=CLERK, scope=Scope("tool")),
        ):
            enforcer.tool(name="tool")(lambda: None)()

    def begin(self, *tokens: str) -> None:
        """Have a process come with a certificate in its first record, and with others in records of trust."""
        first, *renewals = tokens or (None,)
        with streams_begin(certificate=first):
            self.work()
        self.trusted(*renewals)

    def trusted(self, *tokens: str, **changes: str) -> None:
        """Have a process come that trusts its key by a certificate."""
        signer, beginning = self.key("recorder"), Beginning()
        given = {"signer": signer, "clock": self.clock, "ids": RandomIds(), "beginning": beginning}
        for token in tokens:
            with Ledger.open(self.path, origin=self.origin, **given) as ledger:
                facts: Any = {"purpose": "recorder", "status": "renewed", "certificate": token, **changes}
                trust = KeyTrust(key=signer.public_key.thumbprint, **facts)
                ledger.append(partial(Trust, time=Time.at(self.clock.wall_ns()), trust=trust))

    def certificate(self, **changes: Any) -> Certificate:
        """Return what a root says of it, from its first second on, for 30 days and for all kinds of principals."""
        given = {
            "recorder": self.key("recorder").public_key,
            "origin": self.origin,
            "issuer_key": self.key("issuer").public_key,
            "issuer": self.own.issuer,
            "principals": ("human", "service"),
            "not_before": self.start,
            "expires_at": self.start + 30 * DAY,
        }
        return Certificate(**{**given, **changes})

    def cosigned(self, at: int) -> None:
        """Have the witness see its checkpoint at a time."""
        path = self.path / "log" / "checkpoint"
        note = path.read_bytes()
        text = note.decode().rpartition("\n\n")[0] + "\n"
        line = cosign(text, "witness.example", WITNESS, at=at)
        path.write_bytes(note + line.encode())


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """Return a host that made a call."""
    pod = Pod(tmp_path / "pod")
    pod.work()
    return pod


def checked(pod: Pod, trust: TrustStore, *certificates: Certificate, root: SigningKey = ROOT) -> Report:
    """Verify a host under roots and certificates, and nothing that it says itself."""
    return Verifier(certified(trust, [one.sign(root) for one in certificates])).ledger(pod.path)


# --------------------------------------------------------------------- what a certificate gives


def test_evidence_of_a_host_verifies_from_roots_alone(pod: Pod) -> None:
    """Without a certificate nobody knows its keys; with one everything verifies, and by whose clock is said."""
    assert (checked(pod, roots()).exit_code, codes(checked(pod, roots()))) == (2, {"unknown_key", "unknown_issuer"})
    report = checked(pod, roots(), pod.certificate())
    assert (report.exit_code, report.verdict, report.trust) == (0, "verified", "given")
    assert codes(report) == {"valid_by_own_clock"}
    assert report.counts["verified"] == report.counts["records"] > 0


def test_without_any_trust_its_own_file_says_self_asserted(pod: Pod) -> None:
    """As before: what lies beside the evidence proves nothing."""
    assert Verifier().ledger(pod.path).trust == "self-asserted"


def test_honest_hosts_verify_under_one_root_and_each_signs_for_itself(tmp_path: Path) -> None:
    """One file for all of them; a certificate is for the log that it names."""
    pods = [Pod(tmp_path / name) for name in ("a", "b", "c")]
    for pod in pods:
        pod.work()
    trust = certified(roots(), [pod.certificate().sign(ROOT) for pod in pods])
    assert [Verifier(trust).ledger(pod.path).exit_code for pod in pods] == [0, 0, 0]


def test_a_certified_recorder_that_signs_for_another_origin_is_contradicted(tmp_path: Path) -> None:
    """The key of one host under a log with the name of another, both of which one root certified."""
    a, b = Pod(tmp_path / "a"), Pod(tmp_path / "b")
    path = tmp_path / "forged"
    forged = Ledger.open(path, signer=a.key("recorder"), origin=b.origin, clock=a.clock, ids=SequentialIds())
    append(forged, "erasure", {"erasure": {"key": "x"}})
    forged.close()
    trust = certified(roots(), [pod.certificate().sign(ROOT) for pod in (a, b)])
    report = Verifier(trust).ledger(path)
    assert (report.exit_code, codes(report) & {"wrong_origin", "unknown_key"}) == (1, {"wrong_origin"})
    # Also if the other host is not certified at all.
    report = Verifier(certified(roots(), [a.certificate().sign(ROOT)])).ledger(path)
    assert (report.exit_code, "wrong_origin" in codes(report)) == (1, True)


def test_a_listed_recorder_is_bound_to_its_prefix(pod: Pod) -> None:
    """A prefix covers whole segments below it, for keys of the file as for certificates."""
    key, issuer = pod.key("recorder").public_key, TrustedKey(pod.key("issuer").public_key, "issuer")
    for origin, expected in (("agent-identity/", 0), (pod.origin, 0), ("agent-identity/0/", 1), ("agent/", 1)):
        trust = TrustStore((TrustedKey(key, "recorder", origin=origin), issuer), file=FILE)
        report = Verifier(trust).ledger(pod.path)
        assert (report.exit_code, "wrong_origin" in codes(report)) == (expected, bool(expected))


# --------------------------------------------------------------------- times and renewal


def test_a_checkpoint_outside_every_certificate_cannot_be_told(pod: Pod) -> None:
    """Late records need a renewal; so do records from before the first certificate."""
    pod.clock.advance(31 * DAY)
    pod.work()
    report = checked(pod, roots(), pod.certificate())
    assert report.exit_code == 2
    assert {"key_not_valid_then", "unknown_issuer"} <= codes(report)


def test_renewals_follow_each_other(pod: Pod) -> None:
    """Two certificates of one key: each is good for its time, and a grant needs one that covers it."""
    first = pod.certificate()
    pod.clock.advance(25 * DAY)
    second = pod.certificate(not_before=pod.now, expires_at=pod.now + 30 * DAY)
    pod.clock.advance(10 * DAY)
    pod.work()
    assert checked(pod, roots(), first, second).exit_code == 0
    assert checked(pod, roots(), second, first).exit_code == 0
    assert checked(pod, roots(), first).exit_code == 2
    report = checked(pod, roots(), second)  # The grants of the first day are covered by the first one alone.
    assert (report.exit_code, codes(report)) == (2, {"key_not_valid_then", "unknown_issuer", "valid_by_own_clock"})


def test_a_gap_between_certificates_covers_nothing(pod: Pod) -> None:
    """What the host does between two certificates is under neither."""
    first = pod.certificate(expires_at=pod.start + DAY)
    pod.clock.advance(5 * DAY)
    pod.work()
    second = pod.certificate(not_before=pod.now + DAY, expires_at=pod.now + 2 * DAY)
    report = checked(pod, roots(), first, second)
    assert report.exit_code == 2
    assert "key_not_valid_then" in codes(report)


def test_a_witness_in_time_makes_it_count_fully(pod: Pod) -> None:
    """Seen by another party while it was valid: nothing is left to its own clock. Seen later, it is."""
    seen = TrustStore(roots().keys, file=FILE, witnesses=Witnesses((Cosigner("witness.example", WITNESS.public_key),)))
    before = pod.path.parent / "before"
    shutil.copytree(pod.path, before)
    pod.cosigned(pod.now + 60)
    report = checked(pod, seen, pod.certificate())
    assert (report.exit_code, codes(report)) == (0, set())
    shutil.rmtree(pod.path)
    shutil.copytree(before, pod.path)
    pod.cosigned(pod.start + 31 * DAY)
    report = checked(pod, seen, pod.certificate())
    assert (report.exit_code, codes(report)) == (0, {"valid_by_own_clock"})


def test_a_witness_counts_in_its_own_time_only(pod: Pod) -> None:
    """What a witness cosigned before or after its period is as if it were not there."""
    pod.cosigned(pod.now)
    one = (Cosigner("witness.example", WITNESS.public_key),)
    for period, code in (((None, pod.now), 0), ((pod.now + 1, None), 2), ((None, pod.now - 1), 2)):
        trust = roots(witnesses=Witnesses(one, None, (period,)))
        report = checked(pod, TrustStore.load(trust.to_json()), pod.certificate())
        assert (report.exit_code, "not_witnessed" in codes(report)) == (code, bool(code))


def test_a_proof_file_says_the_same(pod: Pod) -> None:
    """The proof of a record verifies under the root, by the clock of the host."""
    (stream,) = open_ledger(pod.path).streams()
    record = next(json.loads(line.record) for line in open_ledger(pod.path).entries(stream))
    proof = prove(pod.path, record["id"])
    trust = certified(roots(), [pod.certificate().sign(ROOT)])
    checked_proof = Verifier(trust).proof(proof)
    assert (checked_proof.exit_code, codes(checked_proof.report)) == (0, {"valid_by_own_clock"})
    assert Verifier(roots()).proof(proof).exit_code == 2
    stolen = Verifier(certified(revoked(pod.start + 1), [pod.certificate().sign(ROOT)])).proof(proof)
    assert (stolen.exit_code, "key_revoked" in codes(stolen.report)) == (2, True)
    kept = (pod.path / "log" / "checkpoint").read_bytes()
    pod.work()
    growth = prove_growth(pod.path, kept)
    grown = Verifier(trust).proof(growth, checkpoint=kept)
    assert (grown.exit_code, codes(grown.report)) == (0, {"valid_by_own_clock"})
    doubted = certified(revoked(pod.now + DAY), [pod.certificate().sign(ROOT)])
    assert Verifier(doubted).proof(growth, checkpoint=kept).exit_code == 2


def spans(pod: Pod) -> bytes:
    """Return its spans as OTLP."""

    def attribute(name: str, value: object) -> dict[str, object]:
        if isinstance(value, tuple):
            return {"key": name, "value": {"arrayValue": {"values": [{"stringValue": one} for one in value]}}}
        return {"key": name, "value": {"boolValue": value} if isinstance(value, bool) else {"stringValue": value}}

    found = [
        {
            "traceId": f"{span.context.trace_id:032x}",
            "spanId": f"{span.context.span_id:016x}",
            **({} if span.parent is None else {"parentSpanId": f"{span.parent.span_id:016x}"}),
            "name": span.name,
            "startTimeUnixNano": str(span.start_time),
            "endTimeUnixNano": str(span.end_time),
            "attributes": [attribute(name, value) for name, value in (span.attributes or {}).items()],
        }
        for span in pod.exporter.get_finished_spans()
    ]
    document = {"resourceSpans": [{"scopeSpans": [{"scope": {"name": "agent_identity"}, "spans": found}]}]}
    return json.dumps(document).encode()


def test_spans_of_a_host_verify_from_roots_alone(pod: Pod, tmp_path: Path) -> None:
    """With the certificate beside them; nothing dates a span but its host, which is said once."""
    path = tmp_path / "spans.json"
    path.write_bytes(spans(pod))
    assert "unknown_key" in codes(Verifier(roots()).traces(path))
    trust = certified(roots(), [pod.certificate().sign(ROOT)])
    report = Verifier(trust).traces(path)
    assert (report.exit_code, codes(report)) == (0, {"valid_by_own_clock"})
    assert report.counts["certified"] == report.counts["records"]
    assert len([problem for problem in report.findings if problem.code == "valid_by_own_clock"]) == 1
    early = pod.certificate(expires_at=pod.start + 1, not_before=pod.start - DAY)
    pod.clock.advance(DAY)
    pod.work()
    path.write_bytes(spans(pod))
    assert "key_not_valid_then" in codes(Verifier(certified(roots(), [early.sign(ROOT)])).traces(path))
    stolen = Verifier(certified(revoked(pod.start + 1), [pod.certificate().sign(ROOT)])).traces(path)
    assert "key_revoked" in codes(stolen)


# --------------------------------------------------------------------- whom a certified issuer may speak for


def test_an_issuer_speaks_for_the_kinds_of_its_certificate_only(pod: Pod) -> None:
    """A host for nightly jobs that issues a grant for a person is contradicted."""
    report = checked(pod, roots(), pod.certificate(principals=("service",)))
    assert report.exit_code == 1
    assert "bad_grant" in codes(report)


def test_an_issuer_speaks_in_the_name_of_its_certificate_only(pod: Pod) -> None:
    """Its grants name an issuer that no certificate gives it."""
    report = checked(pod, roots(), pod.certificate(issuer="https://issuer.example"))
    assert report.exit_code != 0
    assert codes(report) & {"bad_grant", "unknown_issuer"}
    bound = TrustedKey(ROOT.public_key, "root", origin="agent-identity/", issuer="https://issuer.example")
    with pytest.raises(TokenError) as caught:
        trusted_certificate(pod.certificate().sign(ROOT), roots(bound))
    assert caught.value.code == "wrong_issuer"


def test_a_receiver_takes_what_a_certified_issuer_may_say(pod: Pod, tmp_path: Path) -> None:
    """Online as offline: chains of another host, for the kinds of principals of its certificate and in its time."""

    def received(principal: Human | Service, **changes: Any) -> str | None:
        found = open_directory(tmp_path / "receiver", clock=clock, ids=RandomIds(), durability=Durability())
        trust = certified(
            replace(found.trust, keys=(*found.trust.keys, *roots().keys)), [pod.certificate(**changes).sign(ROOT)]
        )
        token = issue(
            pod.key("issuer"),
            issuer=pod.own.issuer or "",
            task_id="t",
            principal=principal,
            agent=CLERK,
            holder=WITNESS.public_key,
            scope=Scope("tool"),
            now=pod.start,
            ttl=600,
            id=uuid_of(RandomIds().new(clock.wall_ns())),
        ).token
        parts = {name: getattr(found, name) for name in ("keys", "ledger", "digests")}
        with Enforcer(**parts, trust=trust, sources=Sources(clock=clock)) as enforcer:
            try:
                with enforcer.accept(Grants((token,)), holder=WITNESS):
                    pass
            except Denied as denied:
                return denied.code
        return None

    clock = FixedClock(pod.start * 10**9)
    assert received(ALICE) is None
    assert received(Service("cron"), principals=("service",)) is None
    assert received(ALICE, principals=("service",)) == "wrong_principal"
    assert received(ALICE, issuer="https://issuer.example") == "wrong_issuer"
    assert received(ALICE, not_before=pod.start + 1) == "key_not_valid_then"
    assert received(ALICE, not_before=pod.start - DAY, expires_at=pod.start) == "key_not_valid_then"


def test_a_directory_may_have_a_file_with_a_root(pod: Pod) -> None:
    """It opens, its keys are exchanged, the revision rises, and the signature of before is gone."""
    path = pod.path / "trust.json"
    one = merged(roots(), pod.own)
    one = signed_trust(replace(one, issuer=pod.own.issuer, origin=pod.origin), ROOT)
    one.save(path)
    pod.work()
    assert Verifier().ledger(pod.path).exit_code == 0
    rotate(pod.path, ("issuer", "recorder"), now=pod.now, overlap=DAY)
    after = TrustStore.load(path)
    assert (after.file.id, after.file.revision > one.file.revision, after.file.signature) == (FILE.id, True, None)
    pod.work()
    assert Verifier().ledger(pod.path).exit_code == 0


@pytest.mark.parametrize("method", ["get", "check_issuer"])
def test_a_certified_issuer_signs_no_lists_of_the_organization(pod: Pod, method: str) -> None:
    """Registrations, revocations and inventories look for listed keys alone, and find none."""
    trust = certified(roots(), [pod.certificate().sign(ROOT)])
    name = pod.key("issuer").public_key.thumbprint
    assert trust.lookup(name, "issuer") is not None
    if method == "get":
        assert trust.get(name, "issuer") is None
        return
    with pytest.raises(TokenError) as caught:
        trust.check_issuer(name, pod.own.issuer or "")
    assert caught.value.code == "unknown_key"


# --------------------------------------------------------------------- what does not count


def refused(certificate: str, trust: TrustStore | None = None) -> str:
    """Return why a certificate does not count."""
    with pytest.raises(TokenError) as caught:
        certified(roots() if trust is None else trust, [certificate])
    return caught.value.code


def test_who_may_certify(pod: Pod) -> None:
    """A root of the file, for its logs, in its time; nobody else, and no other purpose."""
    certificate = pod.certificate()
    assert refused(certificate.sign(STRANGER)) == "unknown_key"
    assert refused(certificate.sign(ROOT), TrustStore((TrustedKey(ROOT.public_key, "recorder"),))) == "unknown_key"
    assert refused(certificate.sign(pod.key("recorder"))) == "unknown_key"
    for origin in ("agent-identity/0/", "agent-identit/", "other/", "agent-identity"):
        root = TrustedKey(ROOT.public_key, "root", origin=origin)
        assert refused(certificate.sign(ROOT), roots(root)) == "wrong_origin"
    ended = TrustedKey(ROOT.public_key, "root", origin="agent-identity/", not_after=pod.start - 1)
    assert refused(certificate.sign(ROOT), roots(ended)) == "key_not_valid_then"


def test_a_certificate_is_no_grant_and_a_grant_no_certificate(pod: Pod) -> None:
    """The types tell them apart, though the same key could sign both."""
    (stream,) = open_ledger(pod.path).streams()
    records = [json.loads(line.record) for line in open_ledger(pod.path).entries(stream)]
    (grant,) = [record["grant"]["token"] for record in records if record["kind"] == "grant"]
    root = TrustedKey(pod.key("issuer").public_key, "root", origin="agent-identity/")
    assert refused(grant, roots(root)) == "wrong_type"
    token = pod.certificate(issuer_key=STRANGER.public_key).sign(pod.key("issuer"))
    with pytest.raises(TokenError) as caught:
        verify_chain([token], anchors=lambda _: pod.key("issuer").public_key, issuer=None, now=None)
    assert caught.value.code == "wrong_type"


def test_a_listed_key_is_judged_by_its_entry(pod: Pod) -> None:
    """A recorder key that the file calls revoked stays revoked, whatever a root certified."""
    key = pod.key("recorder").public_key
    listed = TrustedKey(key, "recorder", origin=pod.origin, revoked_since=pod.now + 60)
    report = checked(pod, roots(*roots().keys, listed), pod.certificate())
    assert (report.exit_code, "key_revoked" in codes(report)) == (2, True)
    listed = replace(listed, revoked_since=1)
    assert checked(pod, roots(*roots().keys, listed), pod.certificate()).exit_code == 1


# --------------------------------------------------------------------- a root was stolen


def revoked(since: int, **more: Any) -> TrustStore:
    """Return a trust file whose root others may have since a time."""
    return roots(TrustedKey(ROOT.public_key, "root", origin="agent-identity/", revoked_since=since), **more)


def test_a_certificate_of_a_revoked_root_proves_nothing_by_itself(pod: Pod) -> None:
    """Whoever has the root dates its certificates: dated before, it cannot be told; later, it does not count."""
    report = checked(pod, revoked(pod.now + DAY), pod.certificate())
    assert (report.exit_code, report.counts["verified"]) == (2, 0)
    assert "key_revoked" in codes(report)
    assert refused(pod.certificate().sign(ROOT), revoked(pod.start)) == "signed_after_revocation"
    # Another root that is sound vouches for the same keys: nothing is in doubt.
    other = TrustedKey(OTHER_ROOT.public_key, "root", origin="agent-identity/")
    trust = roots(*revoked(pod.now + DAY).keys, other)
    both = [pod.certificate().sign(key) for key in (ROOT, OTHER_ROOT)]
    assert Verifier(certified(trust, both)).ledger(pod.path).exit_code == 0


def test_a_witness_of_the_log_says_nothing_about_a_certificate_that_was_handed_over(pod: Pod) -> None:
    """A log that others saw before the theft can have been certified after it."""
    pod.cosigned(pod.now + 60)
    seen = Witnesses((Cosigner("witness.example", WITNESS.public_key),))
    report = checked(pod, revoked(pod.now + DAY, witnesses=seen), pod.certificate())
    assert (report.exit_code, "key_revoked" in codes(report)) == (2, True)


# --------------------------------------------------------------------- certificates in records


@pytest.fixture
def fresh(tmp_path: Path) -> Pod:
    """Return a host that did nothing yet."""
    return Pod(tmp_path / "fresh")


def found_of(pod: Pod, trust: TrustStore | None) -> tuple[int, set[str]]:
    """Verify the records of a host; return the exit code and what was found."""
    report = Verifier(trust).ledger(pod.path)
    return report.exit_code, codes(report)


def test_certificates_in_records_count_from_where_they_stand(fresh: Pod, pod: Pod) -> None:
    """Those in the evidence are verified like what is handed over; what does not count is a notice."""
    fresh.begin(fresh.certificate().sign(ROOT))
    assert found_of(fresh, roots()) == (0, {"valid_by_own_clock"})
    # Beside a listed key, and without a root to check it by, it takes nothing away and is not looked at.
    assert found_of(fresh, fresh.own) == (0, set())
    other = Pod(fresh.path.with_name("other"))
    other.begin(other.certificate().sign(STRANGER))
    code, found = found_of(other, roots())
    assert (code, found >= {"certificate_not_counted", "unknown_key"}) == (2, True)
    report = Verifier(roots()).ledger(other.path)
    (notice,) = [problem for problem in report.findings if problem.code == "certificate_not_counted"]
    (stream,) = open_ledger(other.path).streams()
    assert (notice.severity, notice.stream, notice.seq) == ("notice", stream, 1)
    # A ledger whose first record has none.
    assert codes(Verifier(roots()).ledger(pod.path)) == {"unknown_key", "unknown_issuer"}


def test_spans_beside_their_ledger_verify_from_roots_alone(fresh: Pod, tmp_path: Path) -> None:
    """The certificate in the ledger counts for the spans; alone they do not verify."""
    fresh.begin(fresh.certificate().sign(ROOT))
    path = tmp_path / "spans.json"
    path.write_bytes(spans(fresh))
    assert Verifier(roots()).traces(path).exit_code == 2
    report = Verifier(roots()).traces(path, ledger=fresh.path)
    assert (report.exit_code, report.counts["verified"]) == (0, report.counts["records"])


def test_a_renewal_is_a_record_in_the_stream(fresh: Pod) -> None:
    """Of a recorder key that is trusted or renewed; what a record says of others, or of its end, is none."""
    fresh.begin(fresh.certificate(expires_at=fresh.start + DAY).sign(ROOT))
    fresh.clock.advance(5 * DAY)
    later = fresh.certificate(not_before=fresh.now, expires_at=fresh.now + DAY).sign(ROOT)
    for change in ({"purpose": "issuer"}, {"status": "distrusted"}):
        fresh.trusted(later, **change)
    assert "key_not_valid_then" in found_of(fresh, roots())[1]
    fresh.trusted(later)
    assert found_of(fresh, roots()) == (0, {"valid_by_own_clock"})
    fresh.trusted(later, status="trusted")
    assert found_of(fresh, roots())[0] == 0


def test_a_record_that_was_changed_certifies_nobody(fresh: Pod) -> None:
    """A certificate that was laid into a record is found by the hash over it, and no record gives none."""
    fresh.begin(fresh.certificate().sign(STRANGER))
    (path,) = fresh.path.glob("ledger/*/entries.jsonl")
    old, new = fresh.certificate().sign(STRANGER).encode(), fresh.certificate().sign(ROOT).encode()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(old, new))
    code, found = found_of(fresh, roots())
    assert (code, "head_mismatch" in found) == (1, True)
    path.write_bytes(whole.replace(b'"certificate":"', b'"certificate": "'))
    assert found_of(fresh, roots())[0] == 1


def test_a_certificate_in_the_log_is_older_than_what_others_saw_of_it(fresh: Pod) -> None:
    """A witness saw the log with the certificate in it before the root was stolen: the host stays trusted."""
    token = fresh.certificate().sign(ROOT)
    fresh.begin(token)
    fresh.cosigned(fresh.now + 60)
    seen = Witnesses((Cosigner("witness.example", WITNESS.public_key),))

    def signed_by(pod: Pod, since: int) -> set[str]:
        report = Verifier(revoked(since, witnesses=seen)).ledger(pod.path)
        return {problem.code for problem in report.findings if problem.stream is None and problem.record is None}

    assert signed_by(fresh, fresh.now + DAY) == set()
    assert signed_by(fresh, fresh.now + 30) == {"key_revoked"}  # The witness saw it after the theft.
    assert signed_by(fresh, fresh.start) == {"unknown_key"}  # A certificate from after the theft does not count.
    # Its issuer is as far beyond doubt as its recorder.
    assert found_of(fresh, revoked(fresh.now + DAY, witnesses=seen)) == (0, set())
    # A record of trust, once it stands behind what a witness saw, and once before that.
    late = Pod(fresh.path.with_name("late"))
    with streams_begin():
        late.work()
    kept = Path(cosigned_file(Layout.of(late.path), seen.keys[0]))
    kept.parent.mkdir(exist_ok=True)
    for expected in ({"key_revoked"}, set()):
        late.cosigned(late.now + 60)
        kept.write_bytes((late.path / "log" / "checkpoint").read_bytes())
        if expected:
            late.trusted(late.certificate().sign(ROOT))
        assert signed_by(late, late.now + DAY) & {"key_revoked"} == expected


# --------------------------------------------------------------------- files


def test_a_view_is_no_file(pod: Pod) -> None:
    """What certificates add is not written down as if somebody had listed it."""
    with pytest.raises(ValueError, match="certificates"):
        certified(roots(), [pod.certificate().sign(ROOT)]).to_json()


def test_a_signed_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    """Any member: the file loads as it was signed, or not at all."""
    content = json.loads(signed_trust(roots(), ROOT).to_json())
    assert TrustStore.load(content).file.signature is not None
    for name, value in (("revision", 2), ("id", "other"), ("issuer", "x"), ("quorum", None), ("keys", [])):
        with pytest.raises(ConfigurationError) as caught:
            TrustStore.load({**content, name: value})
        assert caught.value.code == "bad_trust_signature"


def test_a_file_gives_way_to_its_successor_alone() -> None:
    """Never to an older revision, another file, or one that a root signed which nobody knew before."""
    kept = signed_trust(roots(), ROOT)
    newer = replace(FILE, revision=2)
    check_successor(kept, kept, at=0)
    check_successor(kept, signed_trust(roots(file=newer, issuer="x"), ROOT), at=0)
    thief = TrustedKey(STRANGER.public_key, "root", origin="agent-identity/")
    for given, code in (
        (roots(file=newer), "bad_trust_signature"),
        (signed_trust(roots(*roots().keys, thief, file=newer), STRANGER), "bad_trust_signature"),
        (signed_trust(roots(file=replace(newer, id="other")), ROOT), "trust_rolled_back"),
        (signed_trust(roots(issuer="x"), ROOT), "trust_rolled_back"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            check_successor(kept, given, at=0)
        assert caught.value.code == code
    with pytest.raises(ConfigurationError) as caught:
        check_successor(signed_trust(roots(file=newer), ROOT), kept, at=0)
    assert caught.value.code == "trust_rolled_back"


def test_a_merged_file_is_unsigned_and_says_so(tmp_path: Path) -> None:
    """Evidence of all verifies under it, each key for its own log, until a root signs it again."""
    pods = [Pod(tmp_path / name) for name in ("a", "b")]
    for pod in pods:
        pod.work()
    one = merged(signed_trust(roots(), ROOT), *(pod.own for pod in pods))
    assert (one.file.signature, one.file.revision, len(one.file.merged_from)) == (None, 2, 3)
    one = TrustStore.load(one.to_json())
    assert [Verifier(one).ledger(pod.path).exit_code for pod in pods] == [0, 0]
    again = TrustStore.load(signed_trust(one, ROOT).to_json())
    assert (again.file.signature is not None, again.file.merged_from) == (True, ())


def test_the_command_line_shows_what_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Roots with their logs, and persons; a witness is told that a prefix names no log."""
    path = tmp_path / "trust.json"
    bob = {
        "person": "bob@example.com",
        "credential": b"c" * 16,
        "rp_id": "example.com",
        "origin": "https://example.com",
    }
    approver = Approver(**bob, algorithm="EdDSA", key=STRANGER.public_key.raw, revoked_since=7)
    listed = TrustedKey(WITNESS.public_key, "recorder", origin="agent-identity/")
    roots(*roots().keys, listed, approvers=(approver,)).save(path)
    assert main(["trust", "list", str(path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["root", ROOT.public_key.thumbprint, "always", "always", "agent-identity/"] in lines
    (shown,) = [line for line in lines if line[:2] == ["approver", "bob@example.com"]]
    assert "1970-01-01" in shown[-1] or "1970-01-01" in " ".join(shown)
    key = tmp_path / "witness.pem"
    WITNESS.save(key)
    state = str(tmp_path / "state")
    assert (
        main(["witness", "--trust", str(path), "--name", "w.example", "--key", str(key), "--state", state, "--new"])
        == 2
    )
    assert "prefix" in capsys.readouterr().err


def test_two_roots_for_one_log_are_a_conflict() -> None:
    """A report of the check, for each pair; one after the other, or revoked, they are none."""
    first = TrustedKey(ROOT.public_key, "root", origin="a/b/")

    def second(**more: Any) -> TrustedKey:
        return TrustedKey(OTHER_ROOT.public_key, "root", **{"origin": "a/", **more})

    assert len(trust_conflicts(roots(first, second()))) == 1
    assert len(trust_conflicts(roots(first, second(origin="a/b/c")))) == 1
    assert trust_conflicts(roots(first, second(origin="a/bc/"))) == ()
    assert trust_conflicts(roots(first, second(revoked_since=5))) == ()
    assert trust_conflicts(roots(replace(first, not_after=9), second(not_before=10))) == ()
    assert len(trust_conflicts(roots(replace(first, not_after=10), second(not_before=10)))) == 1


def test_a_certificate_beside_the_records_of_an_excerpt_is_not_older_than_the_theft(fresh: Pod, tmp_path: Path) -> None:
    """Nobody signs where an excerpt begins: a file before it counts for nothing, nor a place that no head proves."""
    given = {"principal": ALICE, "agent": CLERK, "scope": Scope("tool")}
    with streams_begin(), Enforcer.open(fresh.path, sources=Sources(clock=fresh.clock)) as enforcer:
        for _ in range(2):
            with enforcer.task("a purpose", **given) as task:
                enforcer.tool(name="tool")(lambda: None)()
    fresh.cosigned(fresh.now + 60)
    seen = Witnesses((Cosigner("witness.example", WITNESS.public_key),))
    trust = revoked(fresh.now + DAY, witnesses=seen)
    part = tmp_path / "part"
    part.mkdir()
    collect(fresh.path, part, Choice(task=task.id))
    ((stream, start),) = Excerpt.from_bytes((part / "excerpt.json").read_bytes()).streams.items()
    assert start.size > 2
    forged = fresh.certificate().sign(ROOT)
    assert "key_revoked" in codes(Verifier(certified(trust, [forged])).ledger(part))
    said = KeyTrust(key="k", purpose="recorder", status="trusted", certificate=forged)
    place = Stream(id=stream, seq="2", prev="A" * 43)
    record = Trust(id=RandomIds().new(1), stream=place, time=Time.at(1), v="1", trust=said)
    line = stream_line(bytes(32), encode(record))
    put = part / "ledger" / stream / segment_name(2)
    put.write_bytes(line)
    report = Verifier(trust).ledger(part)
    assert (report.exit_code, report.counts["verified"]) == (1, 0)
    assert codes(report) >= {"records_before_start", "unknown_key"}
    put.unlink()
    # Behind the records, and in place of one: it says of itself that it is the second.
    path = part / "ledger" / stream / "entries.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for changed in ([*lines, line], [lines[0], line, *lines[2:]], [line, *lines[1:]], [b"x\n", line, *lines[2:]]):
        path.write_bytes(b"".join(changed))
        report = Verifier(trust).ledger(part)
        assert report.counts["verified"] == 0
        assert codes(report) & {"key_revoked", "unknown_key"}
        places = certificates_proved(open_ledger(part), check_log(open_ledger(part), None, Findings("l", ())).heads)
        assert forged not in places


def test_an_excerpt_of_a_certified_host_verifies_by_its_root(fresh: Pod, tmp_path: Path) -> None:
    """The certificates of the chosen streams and the newest one come along, and no other record for that."""
    token = fresh.certificate().sign(ROOT)
    for _ in range(3):
        fresh.begin(token)
        fresh.clock.advance(1)
    chosen = [r.task.id for r in records.read(fresh.path) if isinstance(r, records.TaskStart)]
    for number, task in enumerate(chosen):
        part = tmp_path / str(number)
        part.mkdir()
        collect(fresh.path, part, Choice(task=task))
        report = Verifier(roots()).ledger(part)
        assert (report.exit_code, report.integrity) == (3, "verified")
        assert codes(report) == {"excerpt", "valid_by_own_clock"}
        last = number == len(chosen) - 1
        assert (report.counts["streams"], report.kinds["stream_start"]) == ((1, 1) if last else (2, 2))
        assert report.kinds["task_start"] == 1
    with pytest.raises(ConfigurationError):
        collect(fresh.path, tmp_path / "none", Choice(task="nobody"))
