"""What others say, as far as a verifier hears it: witnesses of all kinds, and files that are not what they claim."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agent_identity import Report, Verifier
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency import checkpoint as checkpoint_module
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note, sign_note
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT
from agent_identity._storage.layout import Layout
from agent_identity._verify.ledger.external_evidence import Attestor, ExternalEvidence, conclude_vouchers
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.plurals import counted
from agent_identity._verify.report.report import Signature
from agent_identity.audit import prove, prove_growth
from agent_identity.errors import ConfigurationError, VerificationError
from agent_identity.identity import SigningKey, TrustStore, Witnesses
from agent_identity.options import Ledger
from agent_identity.testing import FixedClock, SequentialIds

ORIGIN = "x.example/log"
SIGNER = SigningKey.from_seed(bytes(32))
KEY = SigningKey.from_seed(bytes([1]) * 32)
OTHER = SigningKey.from_seed(bytes([2]) * 32)
WITNESS = Cosigner("w.example/1", KEY.public_key)
TRUST = TrustStore((), origin=ORIGIN).with_key(SIGNER.public_key, "recorder")
WITNESSED = replace(TRUST, witnesses=Witnesses((WITNESS,)))
AT = 1_800_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an evidence directory with two entries in its log."""
    clock, ids = FixedClock(), SequentialIds()
    for _ in range(2):
        Ledger.open(tmp_path, signer=SIGNER, origin=ORIGIN, clock=clock, ids=ids).close()
    return tmp_path


def checkpoint(root: Path) -> bytes:
    """Return the checkpoint of a directory."""
    return (root / "log" / "checkpoint").read_bytes()


def cosigned(note: bytes, key: SigningKey = KEY, *, at: int = AT) -> bytes:
    """Return a checkpoint with a cosignature."""
    text = open_note(note, {ORIGIN: SIGNER.public_key}).text
    return note + cosign(text, WITNESS.name, key, at=at).encode()


def put(root: Path, note: bytes, name: str = "0" * 16) -> None:
    """Put a note where clients keep what witnesses cosigned."""
    folder = Path(Layout.of(root).witnesses)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.checkpoint").write_bytes(note)


def codes(report: Report) -> set[str]:
    """Return what was found."""
    return {item.code for item in report.findings} - {"no_end"}


@pytest.mark.parametrize("place", ["witnesses", "checkpoint", "kept"])
def test_a_cosignature_counts_wherever_it_stands(root: Path, place: str) -> None:
    """Beside the ledger, on its checkpoint, or on one that was kept: what a witness signed, it signed."""
    note = cosigned(checkpoint(root))
    if place == "witnesses":
        put(root, note)
    elif place == "checkpoint":
        (root / "log" / "checkpoint").write_bytes(note)
    report = Verifier(WITNESSED).ledger(root, checkpoint=note if place == "kept" else None)
    assert codes(report) == set()
    assert "2 of 2 entries cosigned by 1 of 1 witness, last at 2027-01-15T08:00:00Z" in report.steps[0].detail
    assert Verifier(TRUST, witnesses=[WITNESS.vkey]).ledger(root).verdict == (
        "cannot_tell" if place == "kept" else "verified"
    )


def test_without_witnesses_their_files_say_nothing(root: Path) -> None:
    """Who trusts no witness is not told of any, whatever lies there."""
    put(root, b"junk")
    report = Verifier(TRUST).ledger(root)
    assert (report.verdict, [item.role for item in report.signatures]) == ("verified", ["recorder"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda note: b"junk", {"not_witnessed"}),
        (lambda note: bytes(100_000), {"not_witnessed"}),
        (lambda note: cosigned(note, OTHER), {"not_witnessed"}),
        (lambda note: cosigned(note, at=0), {"not_witnessed"}),
        (
            lambda note: cosigned(sign_note(Checkpoint("y.example", 1, bytes(32)).to_text(), ORIGIN, SIGNER)),
            {"not_witnessed"},
        ),
        (lambda note: cosigned(note)[:-1], {"not_witnessed"}),
        (lambda note: cosigned(note).replace(b"w.example/1 ", b"w.example/2 "), {"not_witnessed"}),
        (lambda note: _other_time(cosigned(note)), {"bad_signature", "not_witnessed"}),
        (lambda note: cosigned(sign_note(Checkpoint(ORIGIN, 9, bytes(32)).to_text(), ORIGIN, SIGNER)), {"rolled_back"}),
        (lambda note: cosigned(sign_note(Checkpoint(ORIGIN, 2, bytes(32)).to_text(), ORIGIN, SIGNER)), {"rolled_back"}),
        (
            lambda note: cosigned(sign_note(Checkpoint(ORIGIN, 1, bytes(32)).to_text(), ORIGIN, SIGNER)),
            {"rolled_back", "tail_unwitnessed"},
        ),
    ],
)
def test_what_is_no_cosignature_of_this_log_proves_nothing(
    root: Path, change: Callable[[bytes], bytes], expected: set[str]
) -> None:
    """A file beside the ledger counts as the statement of the witness that it is, or is none."""
    put(root, change(checkpoint(root)))
    report = Verifier(WITNESSED).ledger(root)
    assert codes(report) == expected
    assert report.exit_code != 0


def _other_time(note: bytes) -> bytes:
    """Return a cosigned checkpoint whose cosignature names another time than it signed."""
    from agent_identity._identity.common.encoding import b64_decode, b64_encode

    head, _, encoded = note.decode().rstrip("\n").rpartition(" ")
    raw = b64_decode(encoded)
    return f"{head} {b64_encode(raw[:4] + (AT + 1).to_bytes(8) + raw[12:])}\n".encode()


def test_a_time_beyond_all_calendars_is_shown_as_a_number(root: Path) -> None:
    """A witness may sign any 63-bit time, and the report stays readable."""
    put(root, cosigned(checkpoint(root), at=2**63 - 1))
    assert f"last at {2**63 - 1} s" in Verifier(WITNESSED).ledger(root).steps[0].detail


def test_given_witnesses_stand_in_for_those_of_the_trust_file(root: Path) -> None:
    """What the verifier names decides; a number alone is about the witnesses of the trust file."""
    put(root, cosigned(checkpoint(root)))
    other = Cosigner("v.example", OTHER.public_key)
    both = replace(TRUST, witnesses=Witnesses((WITNESS, other)))
    assert codes(Verifier(both).ledger(root)) == {"not_witnessed"}
    assert Verifier(both, require=1).ledger(root).verdict == "verified"
    assert Verifier(both, witnesses=[WITNESS.vkey]).ledger(root).verdict == "verified"
    assert codes(Verifier(WITNESSED, witnesses=[other.vkey]).ledger(root)) == {"not_witnessed"}
    for given, require in (["w"], None), ([WITNESS.vkey] * 2, None), ([WITNESS.vkey], 2), ([], 1):
        with pytest.raises(ConfigurationError, match="bad witnesses"):
            Verifier(TRUST, witnesses=given, require=require).ledger(root)


def test_a_time_stamp_needs_a_checkpoint_and_a_token(root: Path) -> None:
    """Of the pairs beside the ledger only those count whose checkpoint the recorder signed and whose token verifies."""
    folder = Path(Layout.of(root).anchors)
    folder.mkdir()
    note = checkpoint(root)
    for number, (data, token) in enumerate([(note, b"good"), (note, b"bad"), (b"junk", b"good"), (None, b"good")]):
        name = f"{number:019d}-{number:016x}"
        (folder / f"{name}.tsr").write_bytes(token)
        if data is not None:
            (folder / f"{name}.checkpoint").write_bytes(data)
    (folder / "readme").write_text("no time-stamp")

    def verify(message: bytes, token: bytes) -> int:
        if token != b"good":
            raise VerificationError("the time-stamp does not count", code="bad_timestamp")
        assert message == note
        return AT

    report = Verifier(TRUST, timestamps=verify).ledger(root)
    assert (report.verdict, codes(report)) == ("verified", {"anchor_not_counted"})
    assert sum(item.code == "anchor_not_counted" for item in report.findings) == 3
    assert "2 entries time-stamped at 2027" in report.steps[0].detail


def test_time_stamps_that_were_asked_for_and_are_not_there(root: Path) -> None:
    """Who asks for time-stamps of a directory without any cannot tell."""
    report = Verifier(TRUST, timestamps=lambda _message, _token: AT).ledger(root)
    assert (report.verdict, codes(report)) == ("cannot_tell", {"not_anchored"})


def test_things_are_counted_in_english() -> None:
    """A number of things reads as people write it."""
    assert [counted(2, noun) for noun in ("entry", "witness", "key", "record")] == [
        "2 entries",
        "2 witnesses",
        "2 keys",
        "2 records",
    ]
    assert [counted(number, "entry") for number in (0, 1, 1_200)] == ["0 entries", "1 entry", "1,200 entries"]
    assert (counted(1, "witness"), counted(2, "day")) == ("1 witness", "2 days")


SECOND, THIRD = Cosigner("v.example", OTHER.public_key), Cosigner("u.example", SIGNER.public_key)
THREE = (WITNESS, SECOND, THIRD)


def said(witness: Cosigner | None, size: int, time: int = AT) -> Attestor:
    """Return that a party saw a state of the log."""
    return Attestor(Checkpoint(ORIGIN, size, bytes(32) if size else EMPTY_ROOT), time, witness, "what")


def concluded(
    found: list[Attestor], *, size: int = 1_000, required: int | None = None, stamped: bool = False
) -> tuple[str, list[tuple[str, str]], tuple[Signature, ...], str]:
    """Return the words for the step, what was found, the signatures that count, and how the step ended."""
    findings = Findings("ledger", ("step",))
    trust = TRUST if required is None else replace(TRUST, witnesses=Witnesses(THREE, required))
    outside = ExternalEvidence(timestamps=(lambda _message, _token: AT) if stamped else None)
    words = conclude_vouchers(found, size, trust, outside, findings)
    report = findings.report()
    told = [(problem.code, problem.message) for problem in report.findings]
    return words, told, report.signatures, report.steps[0].status


@pytest.mark.parametrize(
    ("sizes", "required", "words", "told"),
    [
        ((1_000, 1_000, 1_000), 3, "1,000 of 1,000 entries cosigned by 3 of 3 witnesses", []),
        ((1_000, 900, 2_000), 2, "1,000 of 1,000 entries cosigned by 2 of 3 witnesses", []),
        ((1_000, 0, 0), 1, "1,000 of 1,000 entries cosigned by 1 of 3 witnesses", []),
        (
            (1_000, 999, 0),
            2,
            "999 of 1,000 entries cosigned by 2 of 3 witnesses",
            [
                (
                    "tail_unwitnessed",
                    (
                        "2 of 3 witnesses vouch for 999 of the 1,000 entries of the log; another history may "
                        "follow those"
                    ),
                )
            ],
        ),
        (
            (1_000, 1_000, 0),
            3,
            "",
            [
                (
                    "not_witnessed",
                    ("2 of 3 witnesses vouch for the log, and 3 must; without them, a second history is possible"),
                )
            ],
        ),
    ],
)
def test_so_many_witnesses_as_are_required_vouch_for_so_much(
    sizes: tuple[int, ...], required: int, words: str, told: list[tuple[str, str]]
) -> None:
    """The furthest state of each counts, once; the log is vouched for as far as the last one that is needed."""
    found = [
        said(witness, size, AT + place) for place, (witness, size) in enumerate(zip(THREE, sizes, strict=True)) if size
    ]
    older = [said(witness, 1, AT - 5) for witness, size in zip(THREE, sizes, strict=True) if size]
    signed = tuple(
        Signature("witness", item.witness.name, "Ed25519", item.checkpoint.size, item.time) for item in found
    )
    last = f", last at 2027-01-15T08:00:0{len(found) - 1}Z"
    for vouchers in (found, found + older, found + found):
        got = concluded(vouchers, required=required)
        assert got[:2] == (f"; {words}{last}" if words else "", told)
        assert set(signed) <= set(got[2])
    assert concluded(found, required=required)[2] == signed
    assert (
        concluded(found, required=required)[3]
        == {
            "": "not_checked",
            "not_witnessed": "not_checked",
            "tail_unwitnessed": "failed",
        }[told[0][0] if told else ""]
    )


def test_a_witness_that_saw_an_empty_log_vouches_for_nothing_in_it() -> None:
    """It is a party that is there, and another history may follow what it saw, from the first entry on."""
    words, told, _, status = concluded([said(WITNESS, 0)], size=1, required=1)
    assert words == "; 0 of 1 entry cosigned by 1 of 3 witnesses, last at 2027-01-15T08:00:00Z"
    assert ([code for code, _ in told], status) == (["tail_unwitnessed"], "failed")
    assert concluded([said(WITNESS, 0)], size=0, required=1)[1] == []


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="this system has no time zone of a process")
def test_the_time_of_a_witness_is_told_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the verifier sits."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        words = concluded([said(WITNESS, 1)], size=1, required=1)[0]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert words.endswith("last at 2027-01-15T08:00:00Z")


def test_the_largest_state_that_was_time_stamped_is_told() -> None:
    """Beside what witnesses say, which does not stand in for it, nor it for them."""
    missing = "no time-stamp of a trusted authority over a checkpoint counts"
    assert concluded([said(WITNESS, 1_000)], stamped=True)[:2] == ("", [("not_anchored", missing)])
    stamps = [said(None, 3, AT + 1), said(None, 900), said(None, 1, AT + 2)]
    words, told, signatures, _ = concluded(stamps, stamped=True)
    assert (words, told) == ("; 900 entries time-stamped at 2027-01-15T08:00:00Z", [])
    assert signatures == (Signature("anchor", "", "RFC 3161", 900, AT),)
    assert concluded(stamps) == ("", [], (), "not_checked")
    words, told, signatures, _ = concluded([*stamps, said(WITNESS, 1_000)], required=1, stamped=True)
    assert words == (
        "; 1,000 of 1,000 entries cosigned by 1 of 3 witnesses, last at 2027-01-15T08:00:00Z"
        "; 900 entries time-stamped at 2027-01-15T08:00:00Z"
    )
    assert [item.role for item in signatures] == ["witness", "anchor"]
    assert [code for code, _ in concluded(stamps, required=1, stamped=True)[1]] == ["not_witnessed"]


def test_what_is_wrong_with_the_word_of_others_is_told(root: Path) -> None:
    """At the step about trust, in words, with the name of the witness and no more of the file."""
    put(root, _other_time(cosigned(checkpoint(root))))
    put(root, cosigned(checkpoint(root)), "1" * 16)
    folder = Path(Layout.of(root).anchors)
    folder.mkdir()
    for number in (1, 2):
        (folder / f"{number:019d}-{number:016x}.tsr").write_bytes(b"token")
        (folder / f"{number:019d}-{number:016x}.checkpoint").write_bytes(checkpoint(root))

    def refuse(message: bytes, token: bytes) -> int:
        if token == b"token" and message == checkpoint(root):
            raise VerificationError("it does not count", code="bad_timestamp")
        return AT

    report = Verifier(WITNESSED, timestamps=refuse).ledger(root)
    assert [problem.message for problem in report.findings if problem.code not in ("no_end", "not_anchored")] == [
        "a signature does not fit a checkpoint that a witness is said to have cosigned",
        *["a time-stamp in log/anchors does not count: it does not count"] * 2,
    ]
    assert report.steps[0].status == "failed"


@pytest.mark.parametrize("how", ["record", "growth"])
def test_a_proof_counts_only_with_the_witnesses_that_the_trust_file_names(root: Path, how: str) -> None:
    """Two histories that the recorder signed would both have proofs; witnesses stand in the file, or it cannot tell."""
    stream = min(path.name for path in (root / "ledger").iterdir())
    earlier = checkpoint(root)

    def told() -> Report:
        if how == "record":
            return Verifier(WITNESSED).proof(prove(root, (stream, 1))).report
        return Verifier(WITNESSED).proof(prove_growth(root, earlier), checkpoint=earlier).report

    assert (told().integrity, codes(told())) == ("cannot_tell", {"not_witnessed"})
    put(root, cosigned(checkpoint(root), OTHER))
    assert told().integrity != "verified"
    put(root, cosigned(checkpoint(root)))
    assert (told().integrity, codes(told())) == ("verified", set())
    assert "cosigned by 1 of 1 witness" in told().steps[0].detail + told().steps[1].detail


def test_keys_of_the_log_are_not_hashed_for_each_of_many_notes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many checkpoints came back from witnesses, each key of the trust file is hashed as often."""
    hashed: list[bytes] = []
    key_id = checkpoint_module.note_key_id

    def counted(name: str, kind: bytes, raw: bytes) -> bytes:
        hashed.append(raw)
        return key_id(name, kind, raw)

    note = cosigned(checkpoint(root))
    monkeypatch.setattr(checkpoint_module, "note_key_id", counted)
    seen = []
    for count in (1, 20):
        for number in range(count):
            put(root, note, f"{number:016x}")
        hashed.clear()
        assert Verifier(WITNESSED).ledger(root).verdict == "verified"
        seen.append(len(hashed))
    assert seen[0] == seen[1]
