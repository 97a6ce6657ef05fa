"""Exchanging keys: each step leaves a directory that works, and the next to come completes what was begun."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import agent_identity
from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._directory import rotation
from agent_identity._directory.open import prepare
from agent_identity._directory.rotation import finish_rotation, revoke, rotate
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.trust.entries import Purpose, Takeover
from agent_identity._ledger.transparency.merkle import CompactRange
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError
from agent_identity.identity import FileVersion, RandomIds, SigningKey, SystemClock, TrustStore
from agent_identity.options import Sources
from agent_identity.testing import FixedClock, SequentialIds

BOTH: tuple[Purpose, ...] = ("issuer", "recorder")
NOW = 1_764_000_000


def work(directory: Path, now: int = NOW) -> None:
    """Open the directory as a process does, and leave a record under a grant."""
    with Enforcer.open(directory, sources=Sources(clock=FixedClock(now * 10**9))) as enforcer:
        scope = Scope("read")
        with enforcer.task("t", principal=Human("alice"), agent=Agent("clerk", owner="ops"), scope=scope):
            pass


def keys(directory: Path) -> list[str]:
    """Return the names of the two private keys there."""
    return [SigningKey.load(directory / "keys" / f"{name}.pem").public_key.thumbprint for name in BOTH]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    work(tmp_path / "evidence")
    return tmp_path / "evidence"


def test_a_directory_names_its_trust_file_at_its_birth(tmp_path: Path) -> None:
    """One id, from the injected source, is in the names of file, issuer and log; each later start finds it there."""
    ids, fresh = SequentialIds(), SequentialIds().new(NOW * 10**9)
    for _ in range(2):
        trust = prepare(tmp_path, FixedClock(NOW * 10**9), ids)[2]
        assert trust.file == FileVersion(fresh, 1)
        assert (trust.issuer, trust.origin) == (f"urn:uuid:{uuid_of(fresh)}", f"agent-identity/{fresh}")


def test_a_rotation_announces_and_replaces(directory: Path) -> None:
    """The old key gets its end and keeps its place, the new one its beginning, and takes the old one's file."""
    before, old = TrustStore.load(directory / "trust.json"), keys(directory)
    done = rotate(directory, BOTH, now=NOW + 5, overlap=60)
    trust, new = TrustStore.load(directory / "trust.json"), keys(directory)
    assert [(key.key, key.purpose) for key in trust.keys[:2]] == [(key.key, key.purpose) for key in before.keys]
    assert [key.key.thumbprint for key in trust.keys] == [*old, *new]
    assert [(key.not_before, key.not_after) for key in trust.keys] == [(None, NOW + 65)] * 2 + [(NOW + 5, None)] * 2
    assert (trust.issuer, trust.origin) == (before.issuer, before.origin)
    assert (trust.file.id, trust.file.revision) == (before.file.id, 2)
    assert [one.old for one in done] == list(trust.keys[:2])
    assert [one.new for one in done] == list(trust.keys[2:])
    assert sorted(path.name for path in (directory / "keys").glob("*.pem")) == ["issuer.pem", "recorder.pem"]
    assert stat.S_IMODE((directory / "keys" / "recorder.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("purpose", BOTH)
def test_one_key_can_be_exchanged_alone(directory: Path, purpose: Purpose) -> None:
    """The other one is not touched."""
    before = dict(zip(BOTH, keys(directory), strict=True))
    rotate(directory, (purpose,), now=NOW, overlap=60)
    after = dict(zip(BOTH, keys(directory), strict=True))
    assert {name for name in BOTH if before[name] != after[name]} == {purpose}


def test_the_new_recorder_key_names_the_log_that_it_takes_over(directory: Path) -> None:
    """Size and root are those of the log, its torn end left out; the issuer key names none."""
    with (directory / "log" / "entries.jsonl").open("ab") as log:
        log.write(b'{"entry":')
    issuer, recorder = rotate(directory, BOTH, now=NOW, overlap=60)
    assert issuer.new.takes_over is None
    assert recorder.new.takes_over is not None
    assert recorder.new.takes_over.size == 1
    assert TrustStore.load(directory / "trust.json").keys[3] == recorder.new


def test_a_directory_without_a_log_gives_nothing_to_take_over(tmp_path: Path, directory: Path) -> None:
    """A signer's directory has no log; that of the evidence can be named."""
    prepare(tmp_path / "signer", SystemClock(), RandomIds())
    (one,) = rotate(tmp_path / "signer", ("recorder",), now=NOW, overlap=60)
    assert one.new.takes_over is None
    (one,) = rotate(tmp_path / "signer", ("recorder",), now=NOW, overlap=60, evidence=directory)
    assert one.new.takes_over is not None


def test_an_empty_log_is_taken_over_as_such(directory: Path) -> None:
    """An empty file of entries has the root of the empty tree."""
    (directory / "log" / "entries.jsonl").write_bytes(b"")
    (one,) = rotate(directory, ("recorder",), now=NOW, overlap=60)
    assert one.new.takes_over == Takeover(0, CompactRange().root())


def test_a_broken_log_is_not_taken_over(directory: Path) -> None:
    """A new key must not vouch for what follows garbage; nothing changed."""
    with (directory / "log" / "entries.jsonl").open("ab") as log:
        log.write(b"garbage\n")
    before = (directory / "trust.json").read_bytes(), keys(directory)
    with pytest.raises(ConfigurationError, match="a line that is malformed"):
        rotate(directory, BOTH, now=NOW, overlap=60)
    assert ((directory / "trust.json").read_bytes(), keys(directory)) == before


def test_a_known_end_is_never_put_off(directory: Path) -> None:
    """A key that ends earlier already, or begins later, keeps its own times."""
    trust = TrustStore.load(directory / "trust.json")
    issuer, recorder = trust.keys
    trust.with_keys((replace(issuer, not_after=NOW + 10), replace(recorder, not_before=NOW + 99))).save(
        directory / "trust.json"
    )
    done = rotate(directory, BOTH, now=NOW, overlap=60)
    assert [one.old.not_after for one in done] == [NOW + 10, NOW + 99]


def test_a_key_of_another_directory_is_refused(directory: Path) -> None:
    """A private key that trust.json does not know is not exchanged for one that it would know."""
    (directory / "keys" / "issuer.pem").unlink()
    SigningKey.generate().save(directory / "keys" / "issuer.pem")
    with pytest.raises(ConfigurationError, match="lacks the issuer key"):
        rotate(directory, ("issuer",), now=NOW, overlap=60)


@pytest.mark.parametrize("overlap", [-1, -600])
def test_an_overlap_is_not_negative(directory: Path, overlap: int) -> None:
    """An old key cannot end in the past."""
    with pytest.raises(ConfigurationError, match="overlap is negative"):
        rotate(directory, BOTH, now=NOW, overlap=overlap)


def test_a_directory_must_be_there(tmp_path: Path) -> None:
    """The message names the command that makes one."""
    with pytest.raises(ConfigurationError, match="agent-identity init DIR"):
        rotate(tmp_path, BOTH, now=NOW, overlap=60)


def test_changes_of_keys_wait_for_each_other(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once would lose one of two changes of trust.json; whoever cannot wait longer says so."""
    monkeypatch.setattr(Files, "pause", lambda _, __: None)
    with rotation._alone(rotation._Place.of(directory, None)):
        for change in (
            lambda: rotate(directory, BOTH, now=NOW, overlap=60),
            lambda: revoke(directory, keys(directory)[0], since=NOW),
        ):
            with pytest.raises(ConfigurationError, match="another process changes the keys"):
                change()


def test_a_lock_that_cannot_be_taken_is_told(directory: Path) -> None:
    """A folder in the place of the lock is no lock."""
    (directory / "keys" / "rotation.lock").mkdir()
    with pytest.raises(ConfigurationError, match="cannot lock the keys of the directory"):
        rotate(directory, BOTH, now=NOW, overlap=60)


# Half done


_CRASH = """
import os, shutil, sys
import agent_identity._identity.keys._key_files, agent_identity._identity.trust._file
from agent_identity._directory.rotation import rotate

CALLS = ("link", "replace", "unlink", "fsync")

def arm(deadly):
    left = [deadly]
    def killing(real):
        def call(*given, **named):
            left[0] -= 1
            if not left[0]:
                os._exit(9)
            return real(*given, **named)
        return call
    for name in CALLS:
        setattr(os, name, killing(getattr(os, name)))

source, target, purposes = sys.argv[1], sys.argv[2], sys.argv[3].split(",")
for deadly in range(1, 500):
    copy = f"{target}/{deadly}"
    shutil.copytree(source, copy)
    child = os.fork()
    if not child:
        arm(deadly)
        rotate(copy, purposes, now=NOW, overlap=60)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == 0:
        sys.exit(0)
    if status != 9:
        sys.exit(f"step {deadly}: {status}")
""".replace("NOW", str(NOW + 5))


@pytest.mark.sample(2)
@pytest.mark.parametrize("purposes", [("recorder",), ("issuer", "recorder")], ids=",".join)
def test_a_rotation_may_die_at_any_step(directory: Path, tmp_path: Path, purposes: tuple[Purpose, ...]) -> None:
    """Killed before any call to the system: opens at once, opens after the overlap, verifies, rotates again."""
    target = tmp_path / "killed"
    target.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(agent_identity.__file__).parents[1])}
    command = [sys.executable, "-c", _CRASH, str(directory), str(target), ",".join(purposes)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stderr) == (0, "")
    copies = sorted(target.iterdir(), key=lambda path: int(path.name))
    assert len(copies) > 4 + 5 * len(purposes)
    exchanged = set()
    for number, copy in enumerate(copies):
        if number % 2:
            work(copy, NOW + 6)
        exchanged.add(len(TrustStore.load(copy / "trust.json").keys) > 2)
        work(copy, NOW + 100)
        again = rotate(copy, purposes, now=NOW + 101, overlap=60)
        assert [one.new.purpose for one in again] == list(purposes)
        assert not list((copy / "keys").glob("*.next.pem"))
        assert Verifier(copy / "trust.json").ledger(copy).verdict == "verified"
    assert exchanged == {True, False}


def test_an_announced_rotation_is_completed_not_repeated(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever repeats the command gets the key that was announced, and no third one."""
    with monkeypatch.context() as patch:
        patch.setattr(rotation, "put_in_place", _dies)
        with pytest.raises(KeyboardInterrupt):
            rotate(directory, BOTH, now=NOW, overlap=60)
    trust = (directory / "trust.json").read_bytes()
    done = rotate(directory, BOTH, now=NOW + 9, overlap=60)
    assert (directory / "trust.json").read_bytes() == trust
    assert [one.new.key.thumbprint for one in done] == keys(directory)
    assert [one.old.not_after for one in done] == [NOW + 60] * 2
    assert len(TrustStore.load(trust).keys) == 4


def test_what_is_announced_is_completed_at_the_next_start(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even after the end of the old key, which nobody needs any more."""
    with monkeypatch.context() as patch:
        patch.setattr(rotation, "put_in_place", _dies)
        with pytest.raises(KeyboardInterrupt):
            rotate(directory, BOTH, now=NOW, overlap=60)
    work(directory, NOW + 1000)
    trust = TrustStore.load(directory / "trust.json")
    assert keys(directory) == [key.key.thumbprint for key in trust.keys[2:]]


def _dies(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_key_that_was_not_announced_waits(directory: Path) -> None:
    """A start does not use it, and the next rotation does."""
    waiting = SigningKey.generate()
    waiting.save(directory / "keys" / "issuer.next.pem")
    before = keys(directory)
    finish_rotation(directory, "issuer")
    work(directory)
    assert keys(directory) == before
    rotate(directory, ("issuer",), now=NOW, overlap=60)
    assert keys(directory)[0] == waiting.public_key.thumbprint


def test_without_a_trust_file_nothing_is_completed(tmp_path: Path) -> None:
    """A directory that is only begun keeps what is there."""
    (tmp_path / "keys").mkdir()
    SigningKey.generate().save(tmp_path / "keys" / "issuer.next.pem")
    finish_rotation(tmp_path, "issuer")
    assert (tmp_path / "keys" / "issuer.next.pem").exists()


def test_a_key_that_nobody_else_preceded_is_its_own_predecessor(directory: Path) -> None:
    """A trust file from which the old entry was taken does not stop the completion."""
    trust = TrustStore.load(directory / "trust.json")
    (directory / "keys" / "issuer.pem").rename(directory / "keys" / "issuer.next.pem")
    (one,) = rotate(directory, ("issuer",), now=NOW, overlap=60)
    assert one.old == one.new == trust.keys[0]


# Revoking


def test_a_revocation_is_written_with_its_reason(directory: Path) -> None:
    """Only the entry of that key changes; one key for both purposes is revoked for both."""
    trust = TrustStore.load(directory / "trust.json")
    shared = trust.with_key(trust.keys[0].key, "recorder")
    shared.save(directory / "trust.json")
    done = revoke(directory, shared.keys[0].key.thumbprint, since=NOW, reason="laptop lost")
    again = TrustStore.load(directory / "trust.json")
    assert [(key.revoked_since, key.reason) for key in again.keys] == [
        (NOW, "laptop lost"),
        (None, None),
        (NOW, "laptop lost"),
    ]
    assert done == (again.keys[0], again.keys[2])


def test_doubt_only_ever_grows(directory: Path) -> None:
    """An earlier time replaces a later one and keeps the reason; a later one is refused."""
    name = keys(directory)[0]
    revoke(directory, name, since=NOW, reason="lost")
    revoke(directory, name, since=NOW - 5)
    with pytest.raises(ConfigurationError, match="what was in doubt stays in doubt"):
        revoke(directory, name, since=NOW)
    entry = TrustStore.load(directory / "trust.json").keys[0]
    assert (entry.revoked_since, entry.reason) == (NOW - 5, "lost")


def test_a_trust_file_that_is_kept_elsewhere_can_be_changed(directory: Path, tmp_path: Path) -> None:
    """A verifier need not wait for the operator's copy."""
    kept = tmp_path / "kept.json"
    kept.write_bytes((directory / "trust.json").read_bytes())
    revoke(kept, keys(directory)[1], since=NOW)
    assert [key.revoked_since for key in TrustStore.load(kept).keys] == [None, NOW]
    assert [key.revoked_since for key in TrustStore.load(directory / "trust.json").keys] == [None, None]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path, _: revoke(path, "A" * 43, since=NOW), "has no key with this thumbprint"),
        (lambda path, name: revoke(path, name, since=-1), "bad revocation: revoked_since"),
        (lambda path, name: revoke(path, name, since=NOW, reason="\x1b"), "bad revocation"),
        (lambda path, name: revoke(path / "none.json", name, since=NOW), "none.json"),
    ],
)
def test_a_bad_revocation_changes_nothing(directory: Path, change: Callable[[Path, str], object], message: str) -> None:
    """Unknown keys, impossible times and reasons, missing files."""
    before = (directory / "trust.json").read_bytes()
    with pytest.raises(ConfigurationError, match=message):
        change(directory, keys(directory)[0])
    assert (directory / "trust.json").read_bytes() == before


def test_a_key_out_of_its_time_does_not_open(directory: Path) -> None:
    """A directory whose key has ended says so, instead of writing what nobody would accept."""
    trust = TrustStore.load(directory / "trust.json")
    trust.with_keys((trust.keys[0], replace(trust.keys[1], not_after=NOW))).save(directory / "trust.json")
    work(directory, NOW)
    with pytest.raises(ConfigurationError, match=r"not valid now; run .* --recorder") as refused:
        work(directory, NOW + 1)
    assert refused.value.code == "key_not_valid_then"
