"""Steps 1 and 2 of a verification by themselves: whose checkpoint it is, and what the log must have been."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import pytest

from agent_identity import Report
from agent_identity._identity.trust.entries import Takeover
from agent_identity._ledger.reader import RawLine
from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity._ledger.transparency.log import Head, loss_entry
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT, leaf_hash, root_of
from agent_identity._verify.ledger.external_evidence import ExternalEvidence
from agent_identity._verify.ledger.log_check import Heads, SignedLog, check_log
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.report import Signature
from agent_identity.identity import SigningKey, TrustedKey, TrustStore

ORIGIN = "x.example/log"
KEY, OTHER, NEXT = (SigningKey.from_seed(bytes([seed]) * 32) for seed in (1, 2, 3))
TRUST = TrustStore((TrustedKey(KEY.public_key, "recorder"),), origin=ORIGIN)
ONE, TWO, THREE = (f"AaIOQ0bYcV-ScJHDCbiHE{letter}" for letter in "AQg")
SIGNED = f"signed by a trusted recorder key for the origin {ORIGIN}"


def entry(stream: str, size: int, fill: int = 0, origin: str = ORIGIN, at: int = 1) -> bytes:
    """Return an entry of the log."""
    return Head(stream, size, bytes([fill or size]) * 32, at).to_entry(origin)


ENTRIES = (entry(ONE, 1), entry(TWO, 2), entry(ONE, 3))


def state(entries: Sequence[bytes], origin: str = ORIGIN) -> Checkpoint:
    """Return the checkpoint over entries."""
    return Checkpoint(origin, len(entries), root_of([leaf_hash(data) for data in entries]))


def note(checkpoint: Checkpoint, key: SigningKey = KEY) -> bytes:
    """Return it signed."""
    return sign_note(checkpoint.to_text(), checkpoint.origin, key)


@dataclass
class Reader:
    """As much of an evidence directory as these steps look at."""

    entries: Sequence[bytes | RawLine] = ENTRIES
    note: bytes | None = note(state(ENTRIES))
    removed: bool = False
    rejected: int = 0

    def log_was_removed(self) -> bool:
        """Return what is given."""
        return self.removed

    def checkpoint(self) -> bytes | None:
        """Return what is given."""
        return self.note

    def rejected_bytes(self) -> int:
        """Return what is given."""
        return self.rejected

    def anchored(self) -> Iterator[tuple[bytes, bytes]]:
        """Return its checkpoint over two entries, with a time-stamp."""
        yield note(state(ENTRIES[:2])), b"990"

    def log_entries(self) -> Iterator[RawLine]:
        """Return what is given."""
        for data in self.entries:
            yield data if isinstance(data, RawLine) else RawLine(0, data, "", None)


@dataclass
class Found:
    """What the steps found."""

    log: SignedLog
    findings: Findings
    report: Report
    problems: list[tuple[object, ...]] = field(default_factory=list)

    @property
    def sizes(self) -> dict[str, int]:
        """How many records the log commits to."""
        return {stream: heads.last_size for stream, heads in self.log.heads.items()}

    @property
    def steps(self) -> list[tuple[str, str]]:
        """How both steps ended."""
        return [(step.status, step.detail) for step in self.report.steps]


def found(reader: Reader, trust: TrustStore | None = TRUST, *, basis: str = "given", **outside: object) -> Found:
    """Take the steps."""
    findings = Findings("ledger", ["trust", "log"])
    findings.trust = basis
    log = check_log(reader, trust, findings, outside=ExternalEvidence(**outside))
    report = findings.report()
    assert {problem.record for problem in report.findings} <= {None}
    problems = [(p.code, p.message, p.line, p.stream) for p in report.findings]
    return Found(log, findings, report, problems)


def test_a_sound_log_is_proved() -> None:
    """Its heads are those of its entries, in their order, and its step says how many there are."""
    told = found(Reader())
    assert (told.problems, told.log.proved, told.log.signers, told.log.doubts) == ([], True, TRUST.keys, None)
    assert {stream: list(heads) for stream, heads in told.log.heads.items()} == {
        ONE: [(1, b"\1" * 32), (3, b"\3" * 32)],
        TWO: [(2, b"\2" * 32)],
    }
    assert told.steps == [("passed", SIGNED), ("passed", "3 entries")]
    assert told.report.signatures == (Signature("recorder", ORIGIN, "Ed25519", 3),)
    assert dict(told.report.counts) == {}


def test_keys_beside_the_ledger_are_called_that() -> None:
    """Whoever could rewrite the one could rewrite the other, and the step says so."""
    words = f"signed by the recorder key beside the ledger for the origin {ORIGIN}"
    assert found(Reader(), basis="self-asserted").steps[0] == ("passed", words)


def test_without_trust_the_log_is_compared_and_not_proved() -> None:
    """The entries may fit a checkpoint of anybody."""
    told = found(Reader(), None)
    assert (told.problems, told.log.proved, told.log.signers) == ([], False, ())
    assert told.sizes == {ONE: 3, TWO: 2}
    assert told.steps == [("not_checked", ""), ("passed", "3 entries")]


UNSEALED = "the log has 3 entries after its checkpoint; nothing proves them yet"


def test_a_log_without_its_checkpoint_commits_to_nothing() -> None:
    """Where one has to be, its absence is a contradiction; else nobody can tell."""
    told = found(Reader(note=None))
    message = "the checkpoint of the ledger is missing at log/checkpoint; nothing proves the records"
    unsealed = ("log_unsealed", UNSEALED, None, None)
    assert told.problems == [("no_checkpoint", message, None, None), unsealed]
    assert (told.sizes, told.log.proved, dict(told.report.counts)) == ({}, False, {"log_unsealed": 3})
    assert told.steps == [("not_checked", ""), ("not_checked", "there is no checkpoint to compare with")]
    told.findings.done(1, "")
    assert told.findings.report().steps[0].status == "not_checked"
    told = found(Reader(note=None, removed=True))
    message = "log/checkpoint is missing, which is older than all other files; the log was removed"
    assert told.problems == [("log_missing", message, None, None), unsealed]
    assert [status for status, _ in told.steps] == ["failed", "not_checked"]
    assert found(Reader(removed=True)).problems == []


def test_a_checkpoint_that_is_none_is_a_contradiction() -> None:
    """It says what is wrong with which checkpoint, and nothing is compared with it."""
    told = found(Reader(note=b"junk"))
    form = "malformed note: it is not text, a blank line and signature lines, each ended by a newline"
    assert told.problems[0][:2] == ("bad_checkpoint", f"the checkpoint of the ledger: {form}")
    assert (told.log.proved, [status for status, _ in told.steps]) == (False, ["failed", "not_checked"])
    assert found(Reader(), checkpoint=b"").problems[0][:2] == (
        "bad_checkpoint",
        f"the checkpoint kept elsewhere: {form}",
    )


def test_a_checkpoint_of_another_key_proves_nothing() -> None:
    """The log is compared with it all the same."""
    told = found(Reader(note=note(state(ENTRIES), OTHER)))
    words = "no known key signed the note; add the key of the log to the trust file"
    assert told.problems == [("unknown_key", f"the checkpoint of the ledger: {words}", None, None)]
    assert (told.log.proved, told.log.signers, told.report.signatures) == (False, (), ())
    assert told.steps == [("not_checked", ""), ("passed", "3 entries")]
    signed = note(state(ENTRIES))
    forged = signed.replace(signed[-20:-10], b"A" * 10)
    told = found(Reader(note=forged))
    words = "the checkpoint of the ledger: the signature of a known key does not fit the note; the note was changed"
    assert told.problems == [("bad_signature", words, None, None)]
    assert (told.log.proved, told.steps[0]) == (False, ("failed", ""))
    told = found(Reader(note=signed.rstrip(b"\n")))
    form = "malformed note: it is not text, a blank line and signature lines, each ended by a newline"
    unsealed = ("log_unsealed", UNSEALED, None, None)
    assert told.problems == [("bad_checkpoint", f"the checkpoint of the ledger: {form}", None, None), unsealed]
    assert (told.log.proved, told.steps[0]) == (False, ("failed", ""))


def test_a_trust_file_of_another_log_is_named() -> None:
    """Both logs are named, whether the key is known or not, and nothing is said where none is expected."""
    advice = (
        "the checkpoint of the ledger: this trust file is for the log 'y.example', the evidence is of the log "
        "'x.example/log'; take the trust file that was kept of that log"
    )
    told = found(Reader(), replace(TRUST, origin="y.example"))
    assert told.problems == [("wrong_origin", advice, None, None)]
    assert (told.log.proved, told.steps[0][0]) == (True, "failed")
    stranger = TrustStore((TrustedKey(OTHER.public_key, "recorder"),), origin="y.example")
    assert found(Reader(), stranger).problems == [("unknown_key", advice, None, None)]
    assert found(Reader(), replace(TRUST, origin=None)).problems == []
    issuer = TrustStore((TrustedKey(KEY.public_key, "issuer"),), origin=ORIGIN)
    assert [problem[0] for problem in found(Reader(), issuer).problems] == ["unknown_key"]


CHANGED = "the first 3 entries of the log differ from those under the checkpoint"


def test_a_log_that_is_not_the_one_of_its_checkpoint_is_not_proved() -> None:
    """Changed, moved, cut: each is said once, and nothing of it counts."""
    for entries in ((ENTRIES[1], ENTRIES[0], ENTRIES[2]), (*ENTRIES[:2], entry(ONE, 4))):
        told = found(Reader(entries))
        assert told.problems == [("log_changed", CHANGED, None, None)]
        assert (told.log.proved, told.steps) == (False, [("passed", SIGNED), ("failed", "3 entries")])
    told = found(Reader(ENTRIES[:2]))
    message = "the log has 2 of at least 3 entries; the checkpoint proves that there were more"
    assert told.problems == [("log_cut", message, None, None)]
    assert (told.log.proved, told.steps[1]) == (False, ("failed", "3 entries"))
    assert found(Reader((), note(Checkpoint(ORIGIN, 0, EMPTY_ROOT)))).log.proved


def test_what_follows_the_checkpoint_is_not_sealed() -> None:
    """It is counted; where it names more records than the entries before it, the checkpoint is an older one."""
    unsealed = "the log has {} after its checkpoint; nothing proves them yet"
    older = "the checkpoint is older than the log; it was put back or left behind"
    for more, ahead in (
        ((entry(ONE, 3, at=5),), False),
        ((entry(TWO, 1),), False),
        ((b"{}", entry(TWO, 2)), False),
        ((entry(ONE, 4), entry(ONE, 3)), True),
        ((entry(THREE, 1),), True),
    ):
        told = found(Reader((*ENTRIES, *more)))
        words = unsealed.format("1 entry" if len(more) == 1 else "2 entries")
        expected = [("log_ahead", older, None, None)] * ahead + [("log_unsealed", words, None, None)]
        assert (told.problems, dict(told.report.counts)) == (expected, {"log_unsealed": len(more)})
        assert (told.log.proved, told.sizes) == (True, {ONE: 3, TWO: 2})
        assert told.steps[1] == ("failed" if ahead else "passed", "3 entries")


def test_a_line_that_is_no_entry_is_named() -> None:
    """With its number; a torn one is a notice, and a file that cannot be read leaves the question open."""
    for problem in ("malformed", "too_long", "withheld"):
        told = found(Reader((*ENTRIES[:2], RawLine(9, None, None, problem), ENTRIES[2])))
        assert told.problems == [("log_malformed", "this line of the log is not an entry", 3, None)]
        assert (told.log.proved, told.steps[1][0]) == (False, "failed")
        told = found(Reader((RawLine(9, None, None, problem),), None))
        assert [code for code, *_ in told.problems] == ["log_malformed", "no_checkpoint"]
    told = found(Reader((*ENTRIES, RawLine(9, None, None, "torn"))))
    assert told.problems == [("log_unsealed", "the last line of the log is torn", 4, None)]
    assert (told.log.proved, told.steps[1]) == (True, ("passed", "3 entries"))
    told = found(Reader((*ENTRIES, RawLine(9, None, None, "unreadable"))))
    assert told.problems == [("unreadable", "the log cannot be read to its end", 4, None)]
    assert (told.log.proved, told.steps[1]) == (True, ("not_checked", "3 entries"))
    assert found(Reader((*ENTRIES, RawLine(0, None, None, "unreadable")))).problems == []


def test_lines_of_others_behind_the_checkpoint_are_named() -> None:
    """As long as they stand there by their numbers, and then by how much was set aside; what it covers is proved."""
    for problem in ("malformed", "too_long", "withheld"):
        told = found(Reader((*ENTRIES, RawLine(9, None, None, problem), RawLine(9, None, None, problem))))
        words = "after its checkpoint, the log has a line that is not an entry; the next seal moves it"
        assert told.problems == [("log_rejected", words, 4, None), ("log_rejected", words, 5, None)]
        assert (told.log.proved, told.report.integrity, told.steps[1]) == (True, "verified", ("failed", "3 entries"))
    told = found(Reader(rejected=1_234))
    words = (
        "another process wrote 1,234 bytes into the log, which are in log/rejected.jsonl now; "
        "look at them, then move that file away"
    )
    assert told.problems == [("log_rejected", words, None, None)]
    assert (told.log.proved, told.steps[1][0]) == (True, "failed")


def sealed(*entries: bytes) -> Found:
    """Take the steps over entries that a checkpoint covers."""
    return found(Reader(entries, note(state(entries))))


def test_entries_that_cannot_be_are_named() -> None:
    """With their line and, where one is named, their stream; the rest of the log still counts."""
    told = sealed(ENTRIES[0], b"{}", entry(ONE, 2))
    words = (
        "an entry of the log is malformed: "
        "a log entry does not have exactly the strings origin, root, size, stream and time"
    )
    assert told.problems == [("log_malformed", words, 2, None)]
    assert (told.sizes, told.log.proved, told.steps[1][0]) == ({ONE: 2}, True, "failed")
    told = sealed(ENTRIES[0], entry(TWO, 2, origin="y"))
    words = "the entry names the origin of another log"
    assert told.problems == [("wrong_origin", words, 2, TWO)]
    assert (told.sizes, told.steps[0][0], told.steps[1][0]) == ({ONE: 1, TWO: 2}, "passed", "failed")
    words = "a head of the log takes back records of the stream"
    for last in (entry(ONE, 2), entry(ONE, 3, fill=9)):
        told = sealed(*ENTRIES, last)
        assert (told.problems, told.steps[1][0]) == ([("log_shrank", words, 4, ONE)], "failed")
        assert told.sizes == {ONE: 3, TWO: 2}
    told = sealed(ENTRIES[0], loss_entry(ORIGIN), ENTRIES[1])
    words = "the log lost its checkpoint here; the lost part is not known, and records may be missing"
    assert told.problems == [("log_lost", words, 2, None)]
    assert (told.sizes, told.log.proved, told.steps[1][0]) == ({ONE: 1, TWO: 2}, True, "failed")
    assert sealed(loss_entry("y")).problems[0][0] == "log_malformed"


def test_heads_are_kept_where_a_stream_grew() -> None:
    """A repeated one is a sign of life of its time, and no second head."""
    heads = Heads()
    assert (heads.last_size, heads.last_root, heads.signs_ns, list(heads)) == (0, b"", [], [])
    one, two = Head(ONE, 1, b"a" * 32, 1), Head(ONE, 2, b"b" * 32, 7)
    for head in (one, one, two, Head(ONE, 2, b"b" * 32, 9)):
        heads.add(head)
    for wrong in (Head(ONE, 1, b"a" * 32, 11), Head(ONE, 2, b"a" * 32, 11)):
        with pytest.raises(ValueError, match="takes back records"):
            heads.add(wrong)
    assert (heads.last_size, heads.last_root, heads.signs_ns) == (2, b"b" * 32, [1, 9])
    assert list(heads) == [(1, b"a" * 32), (2, b"b" * 32)]


def test_the_log_went_through_every_state_that_is_kept_elsewhere() -> None:
    """An earlier one is on its way, a later one or another history is not; without its own checkpoint as well."""
    kept = "the checkpoint kept elsewhere"
    for own in (note(state(ENTRIES)), None):
        unsealed = [] if own else ["no_checkpoint", "log_unsealed"]
        for size in range(4):
            told = found(Reader(note=own), checkpoint=note(state(ENTRIES[:size])))
            assert ([problem[0] for problem in told.problems], told.log.proved) == (unsealed, own is not None)
        for other, words in (
            (Checkpoint(ORIGIN, 2, b"x" * 32), f"the first 2 entries of the log differ from those of {kept}"),
            (
                Checkpoint(ORIGIN, 4, b"x" * 32),
                f"the log has 3 of at least 4 entries; {kept} proves that there were",
            ),
        ):
            told = found(Reader(note=own), checkpoint=note(other))
            assert told.problems[0] == ("rolled_back", words, None, None)
            assert ([problem[0] for problem in told.problems[1:]], told.steps[0][0]) == (unsealed, "failed")
            assert told.log.proved is (own is not None)
    told = found(Reader(), checkpoint=note(Checkpoint(ORIGIN, 3, b"x" * 32)))
    assert [problem[:2] for problem in told.problems] == [
        ("rolled_back", f"the first 3 entries of the log differ from those of {kept}")
    ]
    told = found(Reader(), checkpoint=note(Checkpoint(ORIGIN, 9, b"x" * 32), OTHER))
    assert [problem[0] for problem in told.problems] == ["unknown_key"]
    assert told.problems[0][1].startswith(f"{kept}: no known key")


def test_the_states_that_the_trust_file_names_are_kept_elsewhere_as_well() -> None:
    """Those of keys that took over; of nothing that is named for another log."""

    def taking_over(size: int, root: bytes, origin: str | None = ORIGIN) -> TrustStore:
        key = TrustedKey(NEXT.public_key, "recorder", takes_over=Takeover(size, root))
        return TrustStore((*TRUST.keys, key), origin=origin)

    assert found(Reader(), taking_over(2, state(ENTRIES[:2]).root)).problems == []
    told = found(Reader(), taking_over(2, b"x" * 32))
    words = "the first 2 entries of the log differ from those of the checkpoint kept elsewhere"
    assert told.problems == [("rolled_back", words, None, None)]
    told = found(Reader(), taking_over(2, b"x" * 32, "y"))
    assert [problem[0] for problem in told.problems] == ["wrong_origin"]


REVOKED = 1_000
STOLEN = TrustedKey(KEY.public_key, "recorder", revoked_since=REVOKED)
ASKED = [(ONE, 1), (ONE, 2), (ONE, 3), (TWO, 2), (TWO, 3), (THREE, 1)]


def proved(told: Found) -> list[bool]:
    """Return which records are beyond doubt."""
    doubts = told.log.doubts
    assert doubts is not None
    return [doubts.proved(Place(stream=stream, seq=seq)) for stream, seq in ASKED]


def test_what_a_revoked_key_signed_is_in_doubt_but_for_what_is_shown_to_be_older() -> None:
    """What a checkpoint covers that was kept or time-stamped before is not; nothing else is said for it."""
    trust = TrustStore((STOLEN,), origin=ORIGIN)
    told = found(Reader(), trust, checkpoint=note(state(ENTRIES[:2])))
    assert (told.problems, told.log.proved, told.log.signers) == ([], True, (STOLEN,))
    assert told.steps[0] == ("not_checked", "")
    assert proved(told) == [True, False, False, True, False, False]
    assert proved(found(Reader(), trust)) == [False] * 6
    assert proved(found(Reader(), trust, checkpoint=note(state(ENTRIES[:2]), OTHER))) == [False] * 6
    for offset, shown in ((9, True), (10, False)):
        told = found(Reader(), trust, timestamps=lambda _, token, offset=offset: int(token) + offset)
        assert proved(told) == [shown, False, False, shown, False, False]


def test_what_a_sound_key_took_over_is_beyond_doubt() -> None:
    """From the entry on at which it did; one at which the log never was takes over nothing."""
    taken = Takeover(2, state(ENTRIES[:2]).root)
    sound = TrustedKey(NEXT.public_key, "recorder", not_before=REVOKED, takes_over=taken)
    told = found(Reader(note=note(state(ENTRIES), NEXT)), TrustStore((STOLEN, sound), origin=ORIGIN))
    assert (told.problems, told.log.signers) == ([], (sound,))
    assert proved(told) == [False, True, True, False, True, True]
    late = replace(sound, takes_over=Takeover(9, b"x" * 32))
    told = found(Reader(note=note(state(ENTRIES), NEXT)), TrustStore((STOLEN, late), origin=ORIGIN))
    assert [problem[0] for problem in told.problems] == ["rolled_back"]
    assert proved(told) == [True] * 6
