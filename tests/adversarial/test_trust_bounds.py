"""What a certificate, a proof, a merged or a followed file must not be stretched to."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from plain_records import append

from agent_identity import Enforcer, Human, Scope, Verifier
from agent_identity._authority.grants.grants import issue
from agent_identity._authority.registries.rulings import Ruling, trusted_ruling
from agent_identity._directory.open import open_directory
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.jws import sign_compact
from agent_identity._identity.trust.certificates import Presented
from agent_identity._identity.trust.entries import Takeover
from agent_identity._identity.trust.merge import check_successor
from agent_identity._ledger.prune_statement import Kept, PruneStatement, sign_pruned
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.log import unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity.audit import prove
from agent_identity.cli import main
from agent_identity.delegation import Grants
from agent_identity.errors import ConfigurationError, Denied, TokenError
from agent_identity.identity import (
    Approver,
    FileVersion,
    RandomIds,
    SigningKey,
    TrustedKey,
    TrustStore,
    Witnesses,
    certified,
    merged,
    signed_trust,
)
from agent_identity.options import Durability, Ledger, Sources
from agent_identity.testing import FixedClock, SequentialIds

from .test_trust_certificates import (
    ALICE,
    CLERK,
    DAY,
    FILE,
    OTHER_ROOT,
    ROOT,
    STRANGER,
    WITNESS,
    Pod,
    checked,
    codes,
    revoked,
    roots,
)

SEEN = Witnesses((Cosigner("witness.example", WITNESS.public_key),))
OURS = "https://ours.example"


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    """Return a host that made a call."""
    pod = Pod(tmp_path / "pod")
    pod.work()
    return pod


def first_record(pod: Pod) -> str:
    """Return the id of its first record."""
    stream = min(open_ledger(pod.path).streams())
    return next(json.loads(line.record) for line in open_ledger(pod.path).entries(stream))["id"]


def listed(key: SigningKey, purpose: Any, **more: Any) -> TrustedKey:
    """Return the entry of a key."""
    return TrustedKey(key.public_key, purpose, **more)


def conflict(*stores: TrustStore) -> str:
    """Return why stores are not merged."""
    with pytest.raises(ConfigurationError) as caught:
        merged(*stores)
    return caught.value.code


# --------------------------------------------------------------------- one log, one time


def test_the_key_of_another_host_that_was_stolen_contradicts_no_proof(tmp_path: Path) -> None:
    """Of two hosts in one file, what others may have signed with the key of one says nothing about the other."""
    pods = [Pod(tmp_path / name) for name in ("a", "b")]
    for pod in pods:
        pod.work()
    trust, stolen = merged(roots(), *(pod.own for pod in pods)), pods[1].key("recorder").public_key
    trust = trust.with_keys(
        tuple(replace(key, revoked_since=pods[1].start) if key.key == stolen else key for key in trust.keys)
    )
    found = [Verifier(trust).proof(prove(pod.path, first_record(pod))).exit_code for pod in pods]
    assert found == [0, 1]


def test_a_certificate_of_an_hour_verifies_no_records_of_a_year(pod: Pod) -> None:
    """Not even under a witness: it saw them late. With the certificates of that time they verify."""
    pod.clock.advance(400 * DAY)
    pod.work()
    pod.cosigned(pod.now + 10)
    late = pod.certificate(not_before=pod.now - 60, expires_at=pod.now + 3600)
    trust = roots(*roots().keys, listed(pod.key("issuer"), "issuer"), witnesses=SEEN)
    report = checked(pod, trust, late)
    assert (report.exit_code, codes(report)) == (2, {"key_not_valid_then"})
    assert checked(pod, trust, late, pod.certificate()).exit_code == 0
    doubted = replace(
        trust, keys=(*trust.keys, listed(OTHER_ROOT, "root", origin="agent-identity/", revoked_since=pod.now))
    )
    view = certified(doubted, [late.sign(ROOT), pod.certificate().sign(OTHER_ROOT)])
    assert Verifier(view).ledger(pod.path).exit_code == 2  # The certificate of that time may be the thief's.


def prune(pod: Pod, at: int) -> None:
    """Have the key of a host say at a time that all of its first stream was pruned, and remove it."""
    ledger = open_ledger(pod.path)
    stream = min(ledger.streams())
    records = [line.record for line in ledger.entries(stream)]
    tree = CompactRange()
    for record in records:
        tree.append(leaf_hash(record))
    seen = unverified_checkpoint((pod.path / "log" / "checkpoint").read_bytes())
    stated = PruneStatement(
        origin=pod.origin,
        stream=stream,
        size=len(records),
        last=leaf_hash(records[-1]),
        peaks=tuple(tree.peaks),
        open=(),
        log_size=seen.size,
        log_root=seen.root,
        time_ns=at * 10**9,
        kept=Kept.of([]),
    )
    folder = pod.path / "ledger" / stream
    for path in folder.iterdir():
        path.unlink()
    (folder / "pruned").write_bytes(sign_pruned(stated, pod.key("recorder")))


@pytest.mark.parametrize(("days", "expected"), [(400, 2), (0, 0)])
def test_a_key_whose_certificate_has_ended_hides_no_records(pod: Pod, days: int, expected: int) -> None:
    """A statement of what was pruned counts in the time of a certificate, and by its own clock."""
    pod.clock.advance(60)
    pod.work()
    pod.cosigned(pod.now + 1)
    trust = roots(witnesses=SEEN)
    certificate = pod.certificate(expires_at=pod.start + 3600)
    assert codes(checked(pod, trust, certificate)) == set()
    prune(pod, pod.now + days * DAY)
    report = checked(pod, trust, certificate)
    assert report.exit_code == expected
    assert ("key_not_valid_then" in codes(report), "valid_by_own_clock" in codes(report)) == (bool(days), not days)


def test_a_grant_that_is_first_used_after_its_certificate_says_so(pod: Pod, tmp_path: Path) -> None:
    """Nothing but its own date tells that it was made in time; a renewal that covers the first use does."""
    other = Pod(tmp_path / "other", FixedClock(pod.now * 10**9))
    first = pod.certificate(expires_at=pod.start + 3600)
    renewed = pod.certificate(not_before=pod.start + 1800, expires_at=pod.start + DAY)
    other.clock.advance(7200)
    token = issue(
        pod.key("issuer"),
        issuer=pod.own.issuer or "",
        task_id="t",
        principal=ALICE,
        agent=CLERK,
        holder=WITNESS.public_key,
        scope=Scope("tool"),
        now=pod.start + 3599,
        ttl=DAY,
        id=uuid_of(RandomIds().new(pod.start * 10**9)),
    ).token
    found = open_directory(other.path, clock=other.clock, ids=RandomIds(), durability=Durability())
    parts = {name: getattr(found, name) for name in ("keys", "ledger", "digests")}
    trust = certified(replace(found.trust, keys=(*found.trust.keys, *roots().keys)), [renewed.sign(ROOT)])
    with (
        Enforcer(**parts, trust=trust, sources=Sources(clock=other.clock)) as enforcer,
        enforcer.accept(Grants((token,)), holder=WITNESS),
    ):
        pass
    trust = TrustStore((*other.own.keys, *roots().keys), file=FILE)
    report = Verifier(certified(trust, [first.sign(ROOT)])).ledger(other.path)
    assert (report.exit_code, codes(report)) == (0, {"valid_by_own_clock"})
    assert Verifier(certified(trust, [one.sign(ROOT) for one in (first, renewed)])).ledger(other.path).findings == ()


# --------------------------------------------------------------------- whose bound it is


def test_a_root_frees_no_issuer_outside_its_logs(pod: Pod, tmp_path: Path) -> None:
    """Another root bounded the issuer of this log to services; offline and online that stays."""
    other = listed(OTHER_ROOT, "root", origin="team-a/")
    tokens = [
        pod.certificate(principals=("service",)).sign(ROOT),
        pod.certificate(recorder=STRANGER.public_key, origin="team-a/x").sign(OTHER_ROOT),
    ]
    for some in (tokens[:1], tokens):
        report = Verifier(certified(roots(*roots().keys, other), some)).ledger(pod.path)
        assert (report.exit_code, "bad_grant" in codes(report)) == (1, True)
    found = open_directory(tmp_path / "receiver", clock=pod.clock, ids=RandomIds(), durability=Durability())
    trust = certified(replace(found.trust, keys=(*found.trust.keys, *roots().keys, other)), tokens)
    token = issue(
        pod.key("issuer"),
        issuer=pod.own.issuer or "",
        task_id="t",
        principal=ALICE,
        agent=CLERK,
        holder=WITNESS.public_key,
        scope=Scope("tool"),
        now=pod.now,
        ttl=600,
        id=uuid_of(RandomIds().new(pod.clock.wall_ns())),
    ).token
    parts = {name: getattr(found, name) for name in ("keys", "ledger", "digests")}
    with (
        Enforcer(**parts, trust=trust, sources=Sources(clock=pod.clock)) as enforcer,
        pytest.raises(Denied) as caught,
        enforcer.accept(Grants((token,)), holder=WITNESS),
    ):
        pass
    assert caught.value.code == "wrong_principal"


def ruling(key: SigningKey, issuer: str, now: int) -> str:
    """Return what somebody decided, signed."""
    return Ruling(
        id=RandomIds().new(now * 10**9),
        status="approved",
        task="t",
        tool="tool",
        args=None,
        principal=ALICE,
        agent=CLERK,
        approver=Human("bob@example.com"),
        decided_at=now,
        expires_at=now + 60,
    ).sign(key, issuer=issuer)


def test_a_file_with_an_issuer_takes_rulings_of_certified_issuers(pod: Pod) -> None:
    """Their certificate says whom they speak for; the key of a partner still rules nothing here."""
    partner = listed(STRANGER, "issuer", issuer="https://partner.example")
    trust = certified(roots(*roots().keys, partner, issuer=OURS), [pod.certificate().sign(ROOT)])
    token = ruling(pod.key("issuer"), pod.own.issuer or "", pod.now)
    assert trusted_ruling(token, trust).approver.id == "bob@example.com"
    for key, issuer in ((STRANGER, "https://partner.example"), (pod.key("issuer"), OURS)):
        with pytest.raises(TokenError) as caught:
            trusted_ruling(ruling(key, issuer, pod.now), trust)
        assert caught.value.code == "wrong_issuer"


def test_keys_that_the_file_lists_otherwise_are_not_certified(pod: Pod) -> None:
    """What is called revoked, a root or a witness gets no other purpose by a certificate."""
    issuer, recorder = pod.key("issuer"), pod.key("recorder")
    stolen = listed(issuer, "recorder", origin="x", revoked_since=1)
    assert "unknown_issuer" in codes(checked(pod, roots(*roots().keys, stolen), pod.certificate()))
    root = listed(recorder, "root", origin="x/")
    assert "unknown_key" in codes(checked(pod, roots(*roots().keys, root), pod.certificate()))
    own = roots(witnesses=Witnesses((Cosigner("w.example", recorder.public_key),)))
    assert "unknown_key" in codes(checked(pod, own, pod.certificate()))


def test_nobody_is_a_witness_of_the_log_that_he_signs(pod: Pod) -> None:
    """A recorder key that a file lists as witness as well."""
    path = pod.path / "log" / "checkpoint"
    note = path.read_bytes()
    text = note.decode().rpartition("\n\n")[0] + "\n"
    line = cosign(text, "w.example", pod.key("recorder"), at=pod.now + 5)
    path.write_bytes(note + line.encode())
    own = Witnesses((Cosigner("w.example", pod.key("recorder").public_key),))
    report = Verifier(replace(pod.own, witnesses=own)).ledger(pod.path)
    assert (report.exit_code, "not_witnessed" in codes(report)) == (2, True)


def test_a_prefix_is_no_name_of_a_log(pod: Pod, tmp_path: Path) -> None:
    """A log that is named like the prefix of a key is none of those below it."""
    prefix, key = "fleet.example/a/", pod.key("recorder")
    path = tmp_path / "slash"
    ledger = Ledger.open(path, signer=key, origin=prefix, clock=pod.clock, ids=SequentialIds())
    append(ledger, "erasure", {"erasure": {"key": "x"}})
    ledger.close()
    report = Verifier(TrustStore((listed(key, "recorder", origin=prefix),), file=FILE)).ledger(path)
    assert (report.exit_code, "wrong_origin" in codes(report)) == (1, True)


# --------------------------------------------------------------------- a root was stolen


def test_what_is_laid_beside_evidence_turns_no_verdict(tmp_path: Path) -> None:
    """Late certificates of a stolen root, and certificates of another one, in the records of a host."""

    def made(name: str, *roots_and_times: tuple[SigningKey, int, int]) -> Pod:
        pod = Pod(tmp_path / name)
        times = [(root, {"not_before": pod.start + a, "expires_at": pod.start + b}) for root, a, b in roots_and_times]
        pod.begin(*(pod.certificate(**given).sign(root) for root, given in times))
        pod.cosigned(pod.now + 60)
        return pod

    def found(pod: Pod, trust: TrustStore) -> tuple[int, set[str]]:
        report = Verifier(trust).ledger(pod.path)
        return report.exit_code, codes(report)

    sound, late, dated = (ROOT, 0, 30 * DAY), (ROOT, 2 * DAY, 3 * DAY), (OTHER_ROOT, -5, DAY)
    start = Pod(tmp_path / "start").start
    trust = revoked(start + DAY, witnesses=SEEN)
    unknown = {"unknown_key", "unknown_issuer"}
    assert found(made("none"), trust) == (2, unknown)
    assert found(made("late", late), trust) == (2, {*unknown, "certificate_not_counted"})
    assert found(made("sound", sound), trust) == (0, set())
    assert found(made("both", sound, sound, late), trust) == (0, {"certificate_not_counted"})
    earlier = listed(OTHER_ROOT, "root", origin="agent-identity/", revoked_since=start)
    trust = replace(trust, keys=(*trust.keys, earlier))
    assert found(made("dated", dated, sound), trust) == (0, set())
    assert found(made("dated alone", dated), trust) == (2, {"key_revoked"})
    for place in (0, -1):
        with pytest.raises(ValueError, match="place"):
            Presented("a.b.c", "0" * 32, place)


# --------------------------------------------------------------------- files


def test_merging_loses_no_bound(pod: Pod) -> None:
    """The keys of a partner do not come to sign for the organization."""
    keys = (listed(ROOT, "issuer"), listed(STRANGER, "issuer", issuer="https://partner.example"))
    ours, third = TrustStore(keys, issuer=OURS, file=FILE), TrustStore((listed(OTHER_ROOT, "issuer"),), issuer="x")
    for stores in ((ours, third), (ours, replace(third, issuer=None)), (replace(third, file=FILE), ours)):
        assert conflict(*stores) == "trust_conflict"
    again = merged(ours, ours)
    with pytest.raises(TokenError) as caught:
        trusted_ruling(ruling(STRANGER, "https://partner.example", pod.now), again)
    assert caught.value.code == "wrong_issuer"


def test_what_a_key_took_over_is_about_one_log(pod: Pod) -> None:
    """Beside a prefix it is refused; of a key for any log, it binds no log of another key."""
    pin = Takeover(1, b"x" * 32)
    with pytest.raises(ValueError, match="prefix"):
        listed(STRANGER, "recorder", origin="agent-identity/", takes_over=pin)
    own = (listed(pod.key("recorder"), "recorder"), listed(pod.key("issuer"), "issuer"))
    keys = (listed(STRANGER, "recorder", takes_over=pin), *own)
    for some in (keys, (*keys, *roots().keys)):
        assert Verifier(TrustStore(some, file=FILE)).ledger(pod.path).exit_code == 0


def test_a_successor_takes_nothing_back() -> None:
    """Neither by a root that has ended, nor what is said about stolen keys."""
    two = FileVersion(FILE.id, 2)
    ended = (*roots().keys, listed(OTHER_ROOT, "root", origin="other/", not_after=10))
    kept, given = signed_trust(roots(*ended), OTHER_ROOT), signed_trust(roots(*ended, file=two), OTHER_ROOT)
    check_successor(kept, given, at=10)
    with pytest.raises(ConfigurationError) as caught:
        check_successor(kept, given, at=11)
    assert caught.value.code == "bad_trust_signature"
    stolen = listed(STRANGER, "recorder", origin="x", revoked_since=5)
    kept = signed_trust(roots(*roots().keys, stolen), ROOT)
    for entries, taken in (
        ((stolen,), True),
        ((replace(stolen, revoked_since=4),), True),
        ((replace(stolen, revoked_since=6),), False),
        ((replace(stolen, revoked_since=None),), False),
        ((), False),
    ):
        following = signed_trust(roots(*roots().keys, *entries, file=two), ROOT)
        if taken:
            check_successor(kept, following, at=0)
            continue
        with pytest.raises(ConfigurationError) as caught:
            check_successor(kept, following, at=0)
        assert caught.value.code == "trust_rolled_back"


def test_a_successor_keeps_a_credential_revoked() -> None:
    """What is said about the credential of a person cannot be taken back either."""
    bob = {
        "person": "bob@example.com",
        "credential": b"c" * 16,
        "rp_id": "example.com",
        "origin": "https://example.com",
    }
    approver = Approver(**bob, algorithm="EdDSA", key=STRANGER.public_key.raw)
    two = FileVersion(FILE.id, 2)
    kept = signed_trust(replace(roots(), approvers=(replace(approver, revoked_since=5),)), ROOT)
    same = signed_trust(replace(roots(file=two), approvers=(replace(approver, revoked_since=5),)), ROOT)
    check_successor(kept, same, at=0)
    with pytest.raises(ConfigurationError) as caught:
        check_successor(kept, signed_trust(replace(roots(file=two), approvers=(approver,)), ROOT), at=0)
    assert caught.value.code == "trust_rolled_back"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["keys"].reverse(),
        lambda content: content.update(issuer=None),
        lambda content: content.update(merged_from=None),
    ],
)
def test_a_signed_file_has_one_form(change: Callable[[dict[str, Any]], object]) -> None:
    """What would be written in another way is refused at once, and not when it is to follow or to be saved."""
    content = json.loads(roots(witnesses=SEEN).to_json())

    def loaded() -> TrustStore:
        header = {"kid": ROOT.public_key.thumbprint, "typ": "agent-trust+jwt"}
        head, _, signature = sign_compact(header, content, ROOT).split(".")
        return TrustStore.load({**content, "signature": f"{head}..{signature}"})

    check_successor(loaded(), TrustStore.load(loaded().to_json()), at=0)
    change(content)
    assert TrustStore.load(content).file == FILE  # Of a file that nobody signed, nothing depends on that.
    with pytest.raises(ConfigurationError) as caught:
        loaded()
    assert caught.value.code == "bad_trust_signature"


def test_no_file_is_written_that_cannot_be_read(tmp_path: Path) -> None:
    """One that is too large; and the last revision has no next one."""
    many = (listed(SigningKey.from_seed(number.to_bytes(32)), "recorder", origin="x" * 200) for number in range(4_000))
    path = tmp_path / "trust.json"
    for write in (
        TrustStore(tuple(many), file=FILE).save,
        roots(file=FileVersion("x", 1, merged_from=("y" * 600,))).create,
    ):
        with pytest.raises(ConfigurationError):
            write(path)
        assert not path.exists()
    last = roots(file=FileVersion("x", 2**53 - 1))
    for act in (lambda: last.with_keys(()), lambda: merged(last)):
        with pytest.raises(ConfigurationError):
            act()


def test_the_command_line_says_which_file_it_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Its id, its revision, and whether it is signed or merged."""
    path = tmp_path / "trust.json"
    for trust, words in (
        (roots(), {"urn:example:fleet,", "1,", "not"}),
        (signed_trust(roots(), ROOT), {"urn:example:fleet,", "1,", "root"}),
        (merged(roots(), TrustStore()), {"urn:example:fleet,", "2,", "merged"}),
    ):
        trust.save(path)
        assert main(["trust", "list", str(path)]) == 0
        assert set(capsys.readouterr().out.splitlines()[0].split()) >= words
