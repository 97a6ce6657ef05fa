"""Closers do no more than they may: their word is told apart, binds what they saw, and signs nothing else."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plain_records import append

from agent_identity import Report, Verifier
from agent_identity._directory.open import prepare
from agent_identity._ledger.closing import close_dead
from agent_identity._ledger.closure import Closure, unverified_closure
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.log import read_checkpoint, signed_note, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._storage.layout import Layout
from agent_identity._storage.os_files import Files
from agent_identity.errors import VerificationError
from agent_identity.identity import FileVersion, RandomIds, SigningKey, SystemClock, TrustedKey, TrustStore, merged
from agent_identity.options import Ledger

CLOSER = SigningKey.from_seed(b"\x51" * 32)
CHANGE = {"revocation": {"kind": "agent", "name": "intern", "status": "revoked", "version": "1"}}


class Dead:
    """A copy of a directory whose process wrote three records after its last seal, as a kill leaves it."""

    def __init__(self, path: Path, ledger: Ledger) -> None:
        self.path = Path(shutil.copytree(ledger.directory, path))
        self.stream = ledger.stream
        self.layout = Layout.of(self.path)
        self.lines = (self.path / "ledger" / self.stream / "entries.jsonl").read_bytes().splitlines(keepends=True)

    def records(self) -> Iterator[bytes]:
        """Yield its records."""
        return (line.record or b"" for line in open_ledger(self.path).entries(self.stream))

    def write(self, *lines: bytes) -> None:
        """Have these lines be its stream."""
        Path(self.layout.entries(self.stream)).write_bytes(b"".join(lines))

    def close(self, closer: SigningKey = CLOSER) -> list[tuple[int, str | None]]:
        """Close what is dead; return the sizes, and the problems."""
        done = close_dead(Files(), str(self.path), closer, time_ns=SystemClock().wall_ns())
        return [(one.size, one.problem) for one in done]

    def verify(self, trust: TrustStore | None = None) -> Report:
        """Verify it."""
        return Verifier(self.path / "trust.json" if trust is None else trust).ledger(self.path)

    def codes(self, trust: TrustStore | None = None) -> Counter[str]:
        """Return how often a verifier says what."""
        return Counter(one.code for one in self.verify(trust).findings)


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[Callable[..., Dead]]:
    """Makes dead copies of one directory."""
    clock, ids = SystemClock(), RandomIds()
    _, recorder, trust = prepare(tmp_path / "evidence", clock, ids)
    trust.with_key(CLOSER.public_key, "closer").save(tmp_path / "evidence" / "trust.json")
    ledger = Ledger.open(
        tmp_path / "evidence",
        signer=recorder,
        origin=trust.origin or "",
        clock=clock,
        ids=ids,
        seal_interval=3_600,
    )
    append(ledger, "revocation", CHANGE)
    ledger.seal()
    for _ in range(3):
        append(ledger, "revocation", CHANGE)
    yield lambda name="dead": Dead(tmp_path / name, ledger)
    ledger.close()


def test_a_closer_is_no_recorder(dead: Callable[..., Dead]) -> None:
    """A checkpoint under its key proves nothing, and neither does a closure where a checkpoint is expected."""
    one = dead()
    path = Path(one.layout.checkpoint)
    checkpoint = unverified_checkpoint(path.read_bytes())
    path.write_bytes(signed_note(checkpoint, CLOSER))
    assert one.codes()["unknown_key"] == 1
    assert one.verify().verdict == "cannot_tell"
    two = dead("other")
    two.close()
    shutil.copy(two.layout.closure(two.stream), two.layout.checkpoint)
    assert two.codes()["bad_checkpoint"] == 1


@pytest.mark.parametrize("signer", ["recorder", "issuer"])
def test_no_other_key_closes_a_stream(dead: Callable[..., Dead], signer: str) -> None:
    """Who has the keys of the directory recovers, and leaves no word of a closer."""
    one = dead()
    one.close(SigningKey.load(one.path / "keys" / f"{signer}.pem"))
    assert one.codes() == {"closure_not_counted": 1, "tail_unsealed": 1, "no_end": 1}


def test_a_closure_that_hides_records_is_named_by_them(dead: Callable[..., Dead]) -> None:
    """At a record before the last one: those after it are there. Where they were removed, nothing shows that."""
    one = dead()
    one.write(*one.lines[:4])
    one.close()
    one.write(*one.lines)
    assert one.codes() == {"closed_tail": 1, "after_closure": 1}
    assert one.verify().completeness == "incomplete"


def test_a_closure_before_a_seal_hides_nothing(dead: Callable[..., Dead]) -> None:
    """The word of the recorder goes farther than that of the closer, and counts."""
    one = dead()
    closure = Closure(
        origin=unverified_checkpoint(read_checkpoint(Files(), one.layout.checkpoint) or b"").origin,
        stream=one.stream,
        size=1,
        root=leaf_hash(next(one.records())),
        torn=0,
        time_ns=1,
    )
    Path(one.layout.closure(one.stream)).write_bytes(closure.signed(CLOSER))
    assert one.codes() == {"closed": 1, "after_closure": 1}
    assert one.verify().counts["verified"] == 2


@pytest.mark.parametrize("left", [0, 1])
def test_a_sealer_closes_no_more_than_it_has(dead: Callable[..., Dead], left: int) -> None:
    """Where records are missing that the log commits to, it says so, and writes nothing."""
    one = dead()
    one.write(*one.lines[:left], b"")
    done = one.close()
    assert all(problem and "run the verification" in problem for _, problem in done)
    assert not Path(one.layout.closure(one.stream)).exists()


def test_a_sealer_closes_nothing_under_a_log_that_was_changed(dead: Callable[..., Dead]) -> None:
    """What its checkpoint does not cover is no measure of what was sealed."""
    one = dead()
    path = Path(one.layout.log_entries)
    path.write_bytes(path.read_bytes().replace(b'"size":"2"', b'"size":"1"'))
    with pytest.raises(VerificationError, match="not the one that its checkpoint commits to"):
        one.close()
    Path(one.layout.checkpoint).unlink()
    with pytest.raises(VerificationError, match="log/checkpoint is missing"):
        one.close()


def test_a_sealer_stops_at_the_first_line_that_is_no_next_record(dead: Callable[..., Dead]) -> None:
    """A repeated line, or one that is no record, is none that it saw; a verifier names it all the same."""
    one, two = dead(), dead("other")
    one.write(*one.lines, one.lines[-1])
    assert one.close() == [(5, None)]
    assert one.codes() == {"closed_tail": 1, "after_closure": 1, "duplicate_record": 1}
    two.write(*two.lines[:3], b"{}\n", *two.lines[3:])
    assert two.close() == [(3, None)]
    assert two.codes().keys() >= {"closed_tail", "after_closure", "malformed_tail"}


def test_what_a_closer_saw_cannot_be_changed_afterwards(dead: Callable[..., Dead]) -> None:
    """Nor cut: the root in the closure is that of the records, whoever wrote them."""
    one = dead()
    assert one.close() == [(5, None)]
    assert one.close() == []
    one.write(*one.lines[:-1])
    assert one.codes()["bad_closure"] == 1
    assert one.verify().verdict == "contradicted"
    one.write(*one.lines[:-1], one.lines[-1].replace(b"intern", b"chiefs"))
    assert one.codes()["bad_closure"] == 1


def test_a_closure_of_another_stream_does_not_fit(dead: Callable[..., Dead]) -> None:
    """It names its stream and its log."""
    one = dead()
    one.close()
    closure = unverified_closure(Path(one.layout.closure(one.stream)).read_bytes())
    other = Closure(
        origin=closure.origin,
        stream="AZq2l-gAcACAAAAAAAAAZw",
        size=closure.size,
        root=closure.root,
        torn=0,
        time_ns=closure.time_ns,
    )
    Path(one.layout.closure(one.stream)).write_bytes(other.signed(CLOSER))
    assert one.codes() == {"bad_closure": 1, "tail_unsealed": 1, "no_end": 1}


def test_a_closer_closes_only_its_own_logs(dead: Callable[..., Dead]) -> None:
    """By its origin, also after a merge of trust files; revoked, it closes none."""
    one = dead()
    one.close()
    trust = TrustStore.load(one.path / "trust.json")
    own = trust.keys[:-1]
    for entry, counts in (
        (TrustedKey(CLOSER.public_key, "closer", origin=trust.origin), True),
        (TrustedKey(CLOSER.public_key, "closer", origin="fleet.example/"), False),
        (TrustedKey(CLOSER.public_key, "closer", revoked_since=1), False),
        (TrustedKey(CLOSER.public_key, "closer", not_after=1), False),
    ):
        found = one.codes(trust.with_keys((*own, entry)))
        assert (found["closed_tail"], found["closure_not_counted"]) == ((1, 0) if counts else (0, 1))
    other = TrustStore((), origin="other.example/log", file=FileVersion("urn:example:other"))
    together = merged(trust, other.with_key(SigningKey.generate().public_key, "closer"))
    assert {key.origin for key in together.keys if key.purpose == "closer"} == {trust.origin, "other.example/log"}
    assert one.codes(together)["closed_tail"] == 1


def test_a_recovery_with_the_keys_counts_more_than_a_closure(dead: Callable[..., Dead]) -> None:
    """What another program appended is in what the closer saw, and not in what the recorder accepts."""
    one = dead()
    forged = one.lines[-1].replace(b"intern", b"chiefs")
    one.write(*one.lines[:-1], forged)
    assert one.close() == [(5, None)]
    clock, ids = SystemClock(), RandomIds()
    _, recorder, trust = prepare(one.path, clock, ids)
    Ledger.open(one.path, signer=recorder, origin=trust.origin or "", clock=clock, ids=ids).close()
    found = one.codes()
    assert (found["rejected_tail"], found["closed_tail"]) == (1, 1)
    assert one.close() == []
