"""Evidence of several places is read together: copies of one log agree, and a second history is seen."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from plain_records import append

from agent_identity._ledger.archiving import prune
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity._ledger.transparency.log import Head, loss_entry
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity._reports.answers.report_frame import Frame
from agent_identity._storage.lines import log_line
from agent_identity.answers import Evidence, coverage
from agent_identity.cli import main
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "ledger.example/log"
SIGNER, NEXT = SigningKey.from_seed(b"r" * 32), SigningKey.from_seed(b"n" * 32)
ERASURE = {"erasure": {"key": "x" * 64}}
CODES = {"two_histories", "two_births"}


def trusted(*keys: SigningKey, **stated: object) -> TrustStore:
    """Return a trust file with recorder keys of the log."""
    return TrustStore(tuple(TrustedKey(key.public_key, "recorder", **stated) for key in keys), origin=ORIGIN)


@dataclass
class Places:
    """Evidence directories that share the keys and the origin of one log."""

    root: Path
    ids: SequentialIds = field(default_factory=SequentialIds)
    signer: SigningKey = SIGNER
    clock: FixedClock = field(default_factory=FixedClock)

    def live(self, name: str, records: int = 3) -> Path:
        """Let a process live in a directory; each record gets an entry of the log."""
        path = self.root / name
        with Ledger.open(path, signer=self.signer, origin=ORIGIN, clock=self.clock, ids=self.ids) as ledger:
            for _ in range(records):
                append(ledger, "erasure", ERASURE)
                ledger.seal()
        return path

    def copy(self, name: str, to: str) -> Path:
        """Copy a directory as a whole, with its private keys."""
        return Path(shutil.copytree(self.root / name, self.root / to))

    def sealed_anew(self, name: str, entries: Callable[[list[bytes]], list[bytes]]) -> Path:
        """Give a directory another log over the same streams, signed by the key of the log."""
        path = self.root / name
        reader = open_ledger(path)
        heads: list[bytes] = []
        for number, stream in enumerate(reader.streams()):
            leaves = [leaf_hash(line.record or b"") for line in reader.entries(stream)]
            heads.append(Head(stream, len(leaves), root_of(leaves), number).to_entry(ORIGIN))
        made = entries(heads)
        checkpoint = Checkpoint(ORIGIN, len(made), root_of(map(leaf_hash, made)))
        (path / "log" / "entries.jsonl").write_bytes(b"".join(log_line(bytes(32), entry) for entry in made))
        (path / "log" / "checkpoint").write_bytes(sign_note(checkpoint.to_text(), ORIGIN, SIGNER))
        return path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Return directories of one log."""
    return Places(tmp_path)


def told(*paths: Path, trust: TrustStore | None = None, **options: object) -> tuple[Frame, list[set[str]]]:
    """Read places together; return the frame, and of each source what it says about the other logs."""
    frame = coverage(Evidence(sources=paths, trust=trust or trusted(SIGNER), **options)).frame
    reports = [source.report for source in frame.sources]
    return frame, [{one.code for one in report.findings if one.code in CODES} for report in reports if report]


def test_copies_of_one_log_agree(places: Places, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A directory, older copies of it and a bundle continue each other, in any order and from any of them."""
    live = places.live("live")
    first = places.copy("live", "first")
    places.live("live")
    second = places.copy("live", "second")
    places.live("live")
    (live / "trust.json").write_bytes(trusted(SIGNER).to_json())
    bundle = tmp_path / "all.zip"
    assert main(["bundle", str(live), "-o", str(bundle)]) == 0
    for order in ((first, second, live, bundle), (bundle, live, first), (second, second / "ledger", first)):
        frame, found = told(*order)
        assert frame.verdict == "verified"
        assert not set().union(*found)


def test_a_part_of_a_ledger_is_no_second_history(places: Places, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """An archive, an excerpt and a pruned directory have the log as far as it was, and accuse nobody."""
    live = places.live("live")
    (live / "trust.json").write_bytes(trusted(SIGNER).to_json())
    whole, kept, excerpt = places.copy("live", "whole"), tmp_path / "kept", tmp_path / "excerpt.zip"
    places.clock.advance(86_400)
    since = datetime.fromtimestamp(places.clock.wall_ns() / 1e9 - 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    places.live("live")
    assert main(["archive", str(live), "--to", str(kept)]) == 0
    assert main(["bundle", str(live), "--from", since, "-o", str(excerpt)]) == 3
    clock = places.clock
    with Ledger.open(live, signer=SIGNER, origin=ORIGIN, clock=clock, ids=places.ids) as ledger:
        assert list(prune(str(live), ledger, signer=SIGNER, clock=clock, before_ns=clock.wall_ns()))
    frame, found = told(live, whole, kept, excerpt)
    assert not set().union(*found)
    assert all(source.proved for source in frame.sources)


def test_a_rewritten_history_is_contradicted_by_an_earlier_copy(places: Places) -> None:
    """A person with all keys writes another history from some entry on: each verifies, and both together do not."""
    live = places.live("live")
    forged = places.copy("live", "forged")
    places.live("live")
    kept = places.copy("live", "kept")
    places.live("live")
    places.live("forged", records=20)
    for path in (live, forged, kept):
        assert told(path)[0].verdict == "verified"
    for pair in ((kept, forged), (forged, live), (live, forged, kept)):
        frame, found = told(*pair)
        assert (frame.verdict, frame.exit_code) == ("contradicted", 1)
        assert all(codes == {"two_histories"} for codes in found)
        assert not any(source.proved for source in frame.sources)


def test_a_rewritten_history_is_seen_among_many_copies(places: Places) -> None:
    """The longest history is compared with each other one, so one honest copy and one forged one suffice."""
    places.live("live")
    forged = places.copy("live", "forged")
    copies = []
    for number in range(3):
        places.live("live")
        copies.append(places.copy("live", f"copy-{number}"))
    places.live("forged", records=1)
    frame, found = told(*copies, forged)
    assert frame.verdict == "contradicted"
    assert found == [set(), set(), {"two_histories"}, {"two_histories"}]


def test_a_directory_that_is_begun_anew_is_told_and_not_accused(places: Places) -> None:
    """A pod starts on an empty volume with mounted keys: the origin is the same, and both histories verify."""
    before, after = places.live("before"), places.live("after", records=9)
    frame, found = told(before, after)
    assert (frame.verdict, frame.exit_code) == ("verified", 0)
    assert found == [{"two_births"}, {"two_births"}]
    assert all(source.proved for source in frame.sources)


def test_another_beginning_over_the_same_streams_is_no_birth(places: Places) -> None:
    """Somebody with the keys who changes the first entry as well is seen by the streams, whose ids are random."""
    live = places.live("live")
    places.live("live")
    forged = places.copy("live", "forged")
    places.sealed_anew("forged", lambda heads: heads)
    assert told(forged)[0].sources[0].proved
    frame, found = told(live, forged)
    assert frame.verdict == "contradicted"
    assert found == [{"two_histories"}, {"two_histories"}]


def test_a_log_that_begins_with_a_loss_names_no_history(places: Places) -> None:
    """Such an entry is the same in all logs of the origin; it contradicts its own log anyway."""
    live = places.live("live")
    lost = places.copy("live", "lost")
    places.sealed_anew("lost", lambda heads: [loss_entry(ORIGIN), *heads])
    frame, found = told(live, lost)
    assert [source.verdict for source in frame.sources] == ["verified", "contradicted"]
    assert not set().union(*found)


@pytest.mark.parametrize("damage", ["entries.jsonl", "checkpoint"])
def test_what_cannot_be_recomputed_accuses_nobody(places: Places, damage: str) -> None:
    """A log without its entries or its checkpoint is no history; its own source says what is missing."""
    live = places.live("live")
    broken = places.copy("live", "broken")
    places.live("live")
    places.live("broken")
    (broken / "log" / damage).write_bytes(b"")
    frame, found = told(live, broken)
    assert frame.sources[0].verdict == "verified"
    assert frame.sources[1].verdict != "verified"
    assert not set().union(*found)


def test_a_key_that_a_thief_may_have_accuses_nobody(places: Places) -> None:
    """A history under a revoked recorder key counts for nothing by itself, against its owner as well."""
    places.live("live")
    stolen = places.copy("live", "stolen")
    places.live("stolen")
    places.signer = NEXT
    live = places.live("live")
    keys = (*trusted(NEXT).keys, *trusted(SIGNER, revoked_since=1, reason="stolen").keys)
    _, found = told(live, stolen, trust=TrustStore(keys, origin=ORIGIN))
    assert not set().union(*found)


def test_a_stranger_accuses_nobody(places: Places) -> None:
    """A log by a key that is not trusted contradicts no other one."""
    places.live("live")
    foreign = places.copy("live", "foreign")
    live = places.live("live")
    places.signer = NEXT
    places.live("foreign")
    frame, found = told(live, foreign)
    assert frame.sources[0].verdict == "verified"
    assert not set().union(*found)


def test_without_verification_nothing_is_compared(places: Places) -> None:
    """A report that was asked not to verify says so, and accuses nobody."""
    live = places.live("live")
    forged = places.copy("live", "forged")
    places.live("live")
    places.live("forged")
    assert told(live, forged, unverified=True)[0].verdict == "unverified"
