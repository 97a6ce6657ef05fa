"""The second key of a directory: it signs from one entry on, is exchanged at once, and never goes quietly."""

from dataclasses import replace
from pathlib import Path

import pytest
from checking import check

from agent_identity._authority.grants.scope import Scope
from agent_identity._enforcement.directory import rotation
from agent_identity._enforcement.directory.open import prepare
from agent_identity._enforcement.directory.second_key import SecondSigner, exchange_second_key, second_key_files
from agent_identity._enforcement.enforcer import Enforcer
from agent_identity._evidence.transparency.checkpoint import Checkpoint, open_note
from agent_identity._evidence.transparency.merkle import EMPTY_ROOT
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import (
    Agent,
    Cosigner,
    Human,
    MlDsaPublicKey,
    MlDsaSigningKey,
    SecondKey,
    Takeover,
    TrustStore,
)
from agent_identity.testing import FixedClock, SequentialIds

pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.mldsa", reason="the installed cryptography has no ML-DSA"
)

PARTIES = {"principal": Human("alice"), "agent": Agent("clerk", owner="ops"), "scope": Scope("read")}


def work(enforcer: Enforcer) -> None:
    """Do a task."""
    with enforcer.task("t", **PARTIES), enforcer.action("read"):
        pass


def trust_of(root: Path) -> TrustStore:
    """Return what the directory says about itself."""
    return TrustStore.load(root / "trust.json")


def signed_by(root: Path) -> list[MlDsaPublicKey]:
    """Return the second keys that signed the latest checkpoint."""
    trust = trust_of(root)
    known = {trust.origin or "": [key.key for key in trust.keys if key.purpose == "recorder"]}
    others = [Cosigner(trust.origin or "", second.key) for second in trust.second_keys]
    note = open_note((root / "log" / "checkpoint").read_bytes(), known, others)
    return [said.cosigner.key for said in note.cosignatures if isinstance(said.cosigner.key, MlDsaPublicKey)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a directory with keys in which nothing was recorded."""
    prepare(tmp_path / "evidence", FixedClock(), SequentialIds())
    return tmp_path / "evidence"


def test_a_new_directory_has_both_signatures_from_the_start(root: Path) -> None:
    """A second key that is there before the first process signs every checkpoint, and the report says so."""
    second = exchange_second_key(root)
    assert second.takes_over == Takeover(0, EMPTY_ROOT)
    with Enforcer.open(root) as enforcer:
        assert signed_by(root) == [second.key]
        work(enforcer)
    assert signed_by(root) == [second.key]
    report = check(root, trust_of(root))
    assert report.verdict == "verified"
    assert [(item.role, item.algorithm) for item in report.signatures] == [
        ("recorder", "Ed25519"),
        ("second", "ML-DSA-44"),
    ]
    assert "and by the second key" in report.steps[0].detail


def test_a_running_process_takes_a_new_key_at_its_next_seal(root: Path) -> None:
    """A key that comes, and each that follows it, signs the very next checkpoint of a process that is open."""
    with Enforcer.open(root) as enforcer:
        work(enforcer)
        enforcer._point.ledger.seal()
        older = (root / "log" / "checkpoint").read_bytes()
        assert signed_by(root) == []
        for number in range(3):
            second = exchange_second_key(root)
            work(enforcer)
            enforcer._point.ledger.seal()
            assert signed_by(root) == [second.key]
            assert len(trust_of(root).second_keys) == number + 1
    kept = trust_of(root)
    assert check(root, kept).verdict == "verified"
    assert check(root, kept, checkpoint=older).verdict == "verified"
    assert second_key_files(root)[0].stat().st_mode & 0o777 == 0o600


def test_an_interrupted_exchange_is_completed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before or after its announcement, an exchange leaves a directory that works, and is completed."""
    first = exchange_second_key(root)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    for target, announced in (
        ("agent_identity.identity.TrustStore.save", 1),
        ("agent_identity._enforcement.directory.second_key.put_in_place", 2),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(target, die)
            with pytest.raises(Killed):
                exchange_second_key(root)
        assert len(trust_of(root).second_keys) == announced
        with Enforcer.open(root) as enforcer:
            work(enforcer)
        assert signed_by(root) == [trust_of(root).second_keys[-1].key]
        assert check(root, trust_of(root)).verdict == "verified"
    second = exchange_second_key(root)
    assert second.key != first.key
    assert [item.key for item in trust_of(root).second_keys] == [first.key, second.key]
    assert not second_key_files(root)[1].exists()


def test_a_key_that_is_missing_stops_the_start(root: Path) -> None:
    """A process does not go on with one signature where the trust file demands two."""
    exchange_second_key(root)
    path = second_key_files(root)[0]
    path.rename(root / "elsewhere")
    with pytest.raises(ConfigurationError, match="restore it"):
        Enforcer.open(root)
    MlDsaSigningKey.generate().save(path)
    with pytest.raises(ConfigurationError, match="restore it"):
        Enforcer.open(root)


def test_a_trust_file_that_names_none_any_more_stops_the_start(root: Path) -> None:
    """Whoever takes the second key out of trust.json beside the evidence is found at the next start."""
    exchange_second_key(root)
    replace(trust_of(root), second_keys=()).save(root / "trust.json")
    with pytest.raises(ConfigurationError, match="does not name the second key"):
        Enforcer.open(root)


def test_a_running_process_never_drops_its_key(root: Path) -> None:
    """Whatever becomes of trust.json beside the evidence, what was signed twice goes on to be."""
    exchange_second_key(root)
    kept = trust_of(root)
    with Enforcer.open(root) as enforcer:
        replace(kept, second_keys=()).save(root / "trust.json")
        work(enforcer)
        enforcer._point.ledger.seal()
        assert check(root, kept).integrity == "verified"
        (root / "trust.json").unlink()
        work(enforcer)
    assert check(root, kept).verdict == "verified"


def test_an_unreadable_trust_file_seals_nothing(root: Path) -> None:
    """Where it cannot be told which key is demanded, nothing is signed, and it is seen; then it goes on."""
    exchange_second_key(root)
    kept = trust_of(root)
    with Enforcer.open(root) as enforcer:
        (root / "trust.json").write_text("{")
        work(enforcer)
        with pytest.raises(EvidenceError, match="ConfigurationError"):
            enforcer._point.ledger.seal()
        assert "ledger" in enforcer.degraded
        kept.save(root / "trust.json")
        enforcer._point.ledger.seal()
        assert enforcer.degraded == {}
    assert check(root, kept).verdict == "verified"


def test_exchanges_wait_for_the_log_and_for_each_other(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody exchanges a key while another does, or while the log is held; the directory stays as it was."""
    with Enforcer.open(root) as enforcer:
        work(enforcer)
    monkeypatch.setattr("agent_identity._evidence.storage.os_files._LOCK_PAUSES", ())
    with rotation.alone(root), pytest.raises(ConfigurationError, match="another process"):
        exchange_second_key(root)
    lock = root / "log" / "lock"
    import fcntl

    with lock.open("r+b") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match="lock the log"):
            exchange_second_key(root)
    lock.rename(root / "lock.kept")
    lock.mkdir()
    with pytest.raises(ConfigurationError, match="lock the log"):
        exchange_second_key(root)
    assert trust_of(root).second_keys == ()


def test_a_signer_elsewhere_has_no_second_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signer whose trust file demands two signatures is refused, since only one would be made."""
    exchange_second_key(root)

    class Elsewhere:
        def __init__(self, _path: str, _purpose: str) -> None:
            pass

        def trust_file(self) -> bytes:
            return trust_of(root).to_json()

    monkeypatch.setattr("agent_identity._enforcement.directory.open.SocketSigner", Elsewhere)
    with pytest.raises(ConfigurationError, match="the signer has a second key"):
        Enforcer.open(root.parent / "other", keys="unix:x")


def test_before_there_is_a_trust_file_nothing_is_added(tmp_path: Path) -> None:
    """Without trust.json there is no second key, and no line."""
    assert SecondSigner(tmp_path, FixedClock())(Checkpoint("x.example", 0, EMPTY_ROOT)) == ""


def test_each_size_has_its_keys(root: Path) -> None:
    """Below the first takeover no second signature is needed; at a later one, that of either key will do."""
    keys = [MlDsaPublicKey(bytes([number]) * 1312) for number in range(3)]
    seconds = tuple(SecondKey(key, Takeover(size, bytes(32))) for key, size in zip(keys, (5, 9, 9), strict=True))
    trust = replace(trust_of(root), second_keys=seconds)
    found = {size: [cosigner.key for cosigner in trust.second_keys_for(size)] for size in (0, 5, 6, 8, 9, 10)}
    assert found == {0: [], 5: [], 6: keys[:1], 8: keys[:1], 9: keys, 10: keys[2:]}
    assert TrustStore.load(trust.to_json()) == trust
