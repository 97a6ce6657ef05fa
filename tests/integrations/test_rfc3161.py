"""Time-stamps of a real authority over real HTTP: what counts, and what each failure says."""

import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError, EvidenceError, VerificationError
from agent_identity.integrations.rfc3161 import Anchor, Authority
from agent_identity.options import Transparency
from agent_identity.testing import FixedClock

from .timestamp_authority import TimestampAuthority

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here, which is the authority")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimestampAuthority]:
    """Return an authority that runs."""
    with TimestampAuthority(tmp_path_factory.mktemp("tsa") / "one") as one:
        yield one


@pytest.fixture(autouse=True)
def honest(authority: TimestampAuthority) -> Iterator[None]:
    """Have the authority answer as it should again after each test."""
    yield
    authority.status, authority.change = 200, lambda answer: answer


def work(root: Path, **options: object) -> None:
    """Have a process come, work and go."""
    with Enforcer.open(root, **options) as enforcer:
        parties = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
        with enforcer.task("t", **parties), enforcer.action("read"):
            pass


def checkpoint(root: Path) -> bytes:
    """Return the latest checkpoint."""
    return (root / "log" / "checkpoint").read_bytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an evidence directory."""
    work(tmp_path / "evidence")
    return tmp_path / "evidence"


def test_a_time_stamp_is_kept_and_verifies_offline(root: Path, authority: TimestampAuthority) -> None:
    """A stamped checkpoint verifies here and with openssl, and the report says up to where and when."""
    trusted = Authority.load(authority.certificate)
    size, seconds = Anchor(root, authority.url, authority=trusted).stamp(checkpoint(root))
    work(root)
    token = next((root / "log" / "anchors").glob("*.tsr"))
    root_of_trust = authority.certificate
    done = subprocess.run(
        ["openssl", "ts", "-verify", "-data", token.with_suffix(".checkpoint"), "-in", token, "-CAfile", root_of_trust],
        check=False,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    report = Verifier(root / "trust.json", timestamps=trusted).ledger(root)
    assert report.verdict == "verified"
    assert [(item.role, item.size, item.time) for item in report.signatures][-1] == ("anchor", size, seconds)
    assert f"{size} entry time-stamped at 20" in report.steps[0].detail


def test_the_command_stamps_and_verifies(
    root: Path, authority: TimestampAuthority, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``anchor`` and ``verify --tsa-certificate`` do the same from the command line, and say what was not checked."""
    assert main(["anchor", str(root), "--tsa", authority.url]) == 0
    assert "its signature was not checked" in capsys.readouterr().out
    given = ["--tsa-certificate", str(authority.certificate)]
    assert main(["anchor", str(root), "--tsa", authority.url, *given, "--json"]) == 0
    assert '"verified": true' in capsys.readouterr().out
    assert main(["verify", str(root), "--trust", str(root / "trust.json"), *given]) == 0
    assert "time-stamped" in capsys.readouterr().out
    assert main(["anchor", str(tmp_path), "--tsa", authority.url]) == 2
    assert "no checkpoint at log/checkpoint" in capsys.readouterr().err


def test_an_unknown_or_expired_certificate_does_not_count(
    root: Path, authority: TimestampAuthority, tmp_path: Path
) -> None:
    """A token of another authority, or of a unit whose certificate was over, is neither kept as good nor counted."""
    with TimestampAuthority(tmp_path / "two", days=0) as expired:
        ours, theirs = Authority.load(authority.certificate), Authority.load(expired.certificate)
        for url, trusted in ((authority.url, theirs), (expired.url, theirs)):
            with pytest.raises(EvidenceError, match="not of this authority, or the certificate") as caught:
                Anchor(root, url, authority=trusted).stamp(checkpoint(root))
            assert caught.value.code == "anchor_refused"
        assert not (root / "log" / "anchors").exists()
        Anchor(root, expired.url).stamp(checkpoint(root))
        for trusted in (ours, theirs):
            report = Verifier(root / "trust.json", timestamps=trusted).ledger(root)
            assert report.verdict == "cannot_tell"
            assert {item.code for item in report.findings} == {"anchor_not_counted", "not_anchored"}


def test_every_wrong_answer_is_refused(root: Path, authority: TimestampAuthority) -> None:
    """Another hash, another nonce, a cut, grown, empty or huge answer, an error status: nothing is kept."""
    note = checkpoint(root)
    old: list[bytes] = []
    anchor = Anchor(root, authority.url, authority=Authority.load(authority.certificate))

    def remember(answer: bytes) -> bytes:
        old.append(answer)
        return answer

    authority.change = remember
    anchor.stamp(note)
    shutil.rmtree(root / "log" / "anchors")
    changes = {
        "nonce": lambda _: old[0],
        "no response of RFC 3161": lambda answer: answer[:-1],
        "is no response": lambda answer: answer + b"x",
        "no response": lambda _: b"",
        "grants nothing": lambda _: bytes.fromhex("30053003020102"),
        "too large": lambda _: bytes(65_537),
    }
    for words, change in changes.items():
        authority.change = change
        with pytest.raises(EvidenceError, match=words) as caught:
            anchor.stamp(note)
        assert caught.value.code == "anchor_refused"
    work(root)
    authority.change = lambda _: old[0]
    with pytest.raises(EvidenceError, match="over another message"):
        anchor.stamp(checkpoint(root))
    authority.status = 503
    with pytest.raises(EvidenceError, match="status 503") as caught:
        anchor.stamp(note)
    assert caught.value.code == "anchor_unavailable"
    assert not (root / "log" / "anchors").exists()


def test_no_byte_of_a_token_can_change(root: Path, authority: TimestampAuthority) -> None:
    """Whatever byte of a token is changed, no other time comes out of it, and no error but the one."""
    trusted = Authority.load(authority.certificate)
    note = checkpoint(root)
    _, seconds = Anchor(root, authority.url).stamp(note)
    token = next((root / "log" / "anchors").glob("*.tsr")).read_bytes()
    counted = 0
    for place in range(0, len(token), 11):
        changed = bytearray(token)
        changed[place] ^= 0x41
        try:
            assert trusted(note, bytes(changed)) == seconds
        except VerificationError:
            counted += 1
    assert counted > len(token) / 11 * 0.8


def test_an_authority_that_is_down_stops_nothing(root: Path, tmp_path: Path) -> None:
    """With a dead authority the enforcer works on, says so, and the evidence is whole."""
    anchor = Anchor(root, "http://127.0.0.1:9/")
    with pytest.raises(EvidenceError, match="no answer from") as caught:
        anchor.stamp(checkpoint(root))
    assert caught.value.code == "anchor_unavailable"
    with Enforcer.open(root, transparency=Transparency(checkpoints=anchor)) as enforcer:
        parties = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}
        with enforcer.task("t", **parties), enforcer.action("read"):
            pass
        enforcer._enforcement.ledger.seal()
        assert not enforcer._enforcement.ledger.publishers[0].settle(20)
    assert set(enforcer.degraded) - {"ledger", "state"} == {"the function of checkpoints="}  # They are closed.
    assert Verifier(root / "trust.json").ledger(root).verdict == "verified"


def test_one_checkpoint_of_each_period_is_stamped(root: Path, authority: TimestampAuthority) -> None:
    """Called with every checkpoint, it stamps the first, and the next one when the period is over."""
    clock = FixedClock()
    anchor = Anchor(root, authority.url, every=timedelta(hours=1), clock=clock)
    note = checkpoint(root)
    kept = []
    for seconds in (0, 1, 3598, 1):
        clock.advance(seconds)
        anchor(note)
        kept.append(len(list((root / "log" / "anchors").glob("*.tsr"))))
    assert kept == [1, 1, 1, 2]
    authority.status = 500
    clock.advance(3600)
    for _ in range(2):
        with pytest.raises(EvidenceError, match="status 500"):
            anchor(note)
    authority.status = 200
    clock.advance(60)
    anchor(note)
    assert len(list((root / "log" / "anchors").glob("*.tsr"))) == 3


def test_what_is_no_certificate_and_what_cannot_be_kept(
    root: Path, authority: TimestampAuthority, tmp_path: Path
) -> None:
    """Bad certificates are an error of configuration; a folder in the way is one of evidence."""
    with pytest.raises(ConfigurationError, match="certificates in PEM"):
        Authority(b"hello")
    (root / "log" / "anchors").write_text("in the way")
    with pytest.raises(EvidenceError, match="cannot store the time-stamp"):
        Anchor(root, authority.url).stamp(checkpoint(root))
