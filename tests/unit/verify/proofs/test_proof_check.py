"""Proofs are taken out of a ledger and hold without it; what would not hold is not handed out."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import orjson
import pytest
from plain_records import append

from agent_identity import Verifier
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.checkpoint import Checkpoint, LogProof, sign_note
from agent_identity._ledger.transparency.log import Head
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity._ledger.transparency.proof_files import GrowthProof, RecordProof
from agent_identity._verify.proofs.proof_check import Checked
from agent_identity.audit import prove, prove_growth
from agent_identity.errors import AgentIdentityError, ConfigurationError, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore, Witnesses
from agent_identity.options import Ledger
from agent_identity.records import as_dict
from agent_identity.testing import FixedClock, SequentialIds

SIGNER = SigningKey.from_seed(b"q" * 32)
OTHER = SigningKey.from_seed(b"o" * 32)
ORIGIN = "proofs.example"
KEY = TrustedKey(SIGNER.public_key, "recorder")
TRUST = TrustStore((KEY,), origin=ORIGIN)


def build(path: Path, *, keep: Path | None = None, signer: SigningKey = SIGNER, origin: str = ORIGIN) -> None:
    """Make a ledger of two processes; keep its checkpoint from in between."""
    clock, ids = FixedClock(), SequentialIds()
    for process in range(2):
        with Ledger.open(path, signer=signer, origin=origin, clock=clock, ids=ids, seal_interval=3600.0) as ledger:
            for number in range(5):
                append(ledger, "erasure", {"erasure": {"key": f"key-{process}-{number}-日本"}})
                if number % 2:
                    ledger.seal()
        if keep is not None and not keep.exists():
            shutil.copy(path / "log/checkpoint", keep)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger, with the checkpoint that was kept."""
    root = tmp_path_factory.mktemp("proofs")
    build(root / "evidence", keep=root / "kept")
    return root


@pytest.fixture
def room(original: Path, tmp_path: Path) -> Path:
    """A copy to work on."""
    return shutil.copytree(original, tmp_path / "room")


def records(directory: Path) -> Iterator[tuple[str, int, dict]]:
    """Yield stream, place and content of every record."""
    reader = open_ledger(directory)
    for stream in reader.streams():
        for seq, line in enumerate(reader.entries(stream), 1):
            yield stream, seq, orjson.loads(cast("bytes", line.record))


def codes(checked: Checked) -> set[str]:
    """Return what was found."""
    return {problem.code for problem in checked.report.findings}


def test_every_record_has_a_proof_that_holds_without_the_ledger(original: Path) -> None:
    """By its id and by its place, the same file, which shows this record and no other."""
    seen = 0
    for stream, seq, record in records(original / "evidence"):
        data = prove(original / "evidence", record["id"])
        assert prove(original / "evidence", (stream, seq)) == data
        checked = Verifier(TRUST).proof(data, record=record["id"])
        assert (checked.exit_code, checked.verdict, checked.kind) == (0, "verified", "record")
        assert checked.record is not None
        assert as_dict(checked.record) == checked.to_json()["record"] == record
        assert checked.origin == ORIGIN
        assert [step.status for step in checked.report.steps] == ["passed"] * 4
        assert checked.report.trust == "given"
        assert data.count(b"key-") == 0
        seen += 1
    assert seen == 14


def test_a_proof_is_checked_from_files(room: Path) -> None:
    """With the trust file of the auditor and the file that was sent."""
    TRUST.save(room / "trust.json")
    (room / "p").write_bytes(prove(room / "evidence", next(records(room / "evidence"))[2]["id"]))
    shutil.rmtree(room / "evidence")
    assert Verifier(room / "trust.json").proof(room / "p").exit_code == 0


def test_the_first_entry_that_covers_a_record_proves_it(original: Path) -> None:
    """So a proof grows with what was sealed with the record, not with all that came later."""
    stream = open_ledger(original / "evidence").streams()[0]
    proof = RecordProof.from_bytes(prove(original / "evidence", (stream, 3)))
    head, origin = Head.from_entry(proof.entry)
    assert (head.stream, head.size, origin, proof.log.index) == (stream, 3, ORIGIN, 0)
    assert RecordProof.from_bytes(prove(original / "evidence", (stream, 4))).log.index == 1


def test_the_parts_of_progress_are_told(original: Path) -> None:
    """A search says how far it is; one place needs its stream only."""
    told: list[tuple[int, int]] = []
    stream = open_ledger(original / "evidence").streams()[1]
    prove(original / "evidence", list(records(original / "evidence"))[-1][2]["id"], progress=lambda *a: told.append(a))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) == 2
    assert {total for _, total in told} == {
        sum(p.stat().st_size for p in (original / "evidence/ledger").rglob("entries.jsonl"))
    }
    told.clear()
    prove(original / "evidence", (stream, 1), progress=lambda *a: told.append(a))
    assert told == [(0, (original / f"evidence/ledger/{stream}/entries.jsonl").stat().st_size)]


def first(room: Path) -> str:
    """Return the file of the first stream."""
    return f"ledger/{open_ledger(room / 'evidence').streams()[0]}/entries.jsonl"


def edit(room: Path, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Change the lines of a file."""
    path = room / "evidence" / name
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


HARMED: dict[str, tuple[Callable[[Path], object], type[AgentIdentityError], str]] = {
    "another record before it": (
        lambda room: edit(room, first(room), lambda r: [r[0], r[1].replace(b"key-0-0", b"key-9-9"), *r[2:]]),
        VerificationError,
        "head_mismatch",
    ),
    "the record itself": (
        lambda room: edit(room, first(room), lambda r: [*r[:3], r[3].replace(b"key-0-2", b"key-9-9"), *r[4:]]),
        VerificationError,
        "head_mismatch",
    ),
    "its spelling": (
        lambda room: edit(room, first(room), lambda r: [*r[:3], r[3].replace(b'"kind":', b'"kind": '), *r[4:]]),
        VerificationError,
        "head_mismatch",
    ),
    "a record less before the head": (
        lambda room: edit(room, first(room), lambda r: r[:4]),
        VerificationError,
        "records_cut",
    ),
    "a line of garbage": (
        lambda room: edit(room, first(room), lambda r: [b"x\n", *r[1:]]),
        VerificationError,
        "records_cut",
    ),
    "the log": (
        lambda room: edit(room, "log/entries.jsonl", lambda r: [*r[:-1], r[-1].replace(b'"size":"7"', b'"size":"8"')]),
        VerificationError,
        "log_changed",
    ),
    "a log that was cut": (lambda room: edit(room, "log/entries.jsonl", lambda r: r[:3]), VerificationError, "log_cut"),
    "an entry that is none": (
        lambda room: edit(room, "log/entries.jsonl", lambda r: [r[0].replace(b'"size":"3"', b'"size":"0"'), *r[1:]]),
        VerificationError,
        "log_changed",
    ),
    "the checkpoint": (lambda room: (room / "evidence/log/checkpoint").unlink(), VerificationError, "no_checkpoint"),
    "a checkpoint that is none": (
        lambda room: (room / "evidence/log/checkpoint").write_bytes(b"x"),
        VerificationError,
        "bad_checkpoint",
    ),
    "the stream": (
        lambda room: (room / "evidence" / first(room)).unlink(),
        ConfigurationError,
        ConfigurationError.default_code,
    ),
}


@pytest.mark.parametrize("name", HARMED)
def test_a_ledger_that_was_changed_hands_out_no_proof(room: Path, name: str) -> None:
    """Whatever of what the proof needs is not as the checkpoint commits to it, the error says so."""
    stream = open_ledger(room / "evidence").streams()[0]
    harm, kind, code = HARMED[name]
    harm(room)
    with pytest.raises(kind) as caught:
        prove(room / "evidence", (stream, 4))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "wanted", ["no-such-id", "\ud800", ("x", 1), ("AZq2l-gAcACAAAAAAAAAAQ", 0), "erasure", "key-0-1"]
)
def test_what_is_not_there_is_not_proved(original: Path, wanted: object) -> None:
    """Ids that occur elsewhere in a record, places that no stream has, and nonsense."""
    with pytest.raises(ConfigurationError, match="agent-identity show"):
        prove(original / "evidence", wanted)  # type: ignore[arg-type]


def test_a_place_behind_the_end_is_not_there(original: Path) -> None:
    """The error says that it is the place that is wrong."""
    stream = open_ledger(original / "evidence").streams()[0]
    with pytest.raises(ConfigurationError, match="no record at this place"):
        prove(original / "evidence", (stream, 99))


def test_a_record_that_is_not_sealed_yet_waits(room: Path) -> None:
    """Its process seals it within moments; until then the error says what is missing."""
    clock, ids = FixedClock(1_765_000_000_000_000_000), SequentialIds()
    options = {"signer": SIGNER, "origin": ORIGIN, "clock": clock, "ids": ids, "seal_interval": 3600.0}
    with Ledger.open(room / "evidence", **options) as ledger:
        entry = append(ledger, "erasure", {"erasure": {"key": "k"}})
        with pytest.raises(VerificationError, match="older than the record") as caught:
            prove(room / "evidence", entry.id)
        assert caught.value.code == "tail_unsealed"
        ledger.seal()
        assert Verifier(TRUST).proof(prove(room / "evidence", entry.id)).exit_code == 0


def test_only_directories_are_proved_from(room: Path) -> None:
    """A file of spans has its signatures already."""
    for call in (lambda: prove(room / "kept", "x"), lambda: prove_growth(room / "kept", room / "kept")):
        with pytest.raises(ConfigurationError, match="not an evidence directory"):
            call()


def changed(proof: RecordProof, **parts: object) -> bytes:
    """Return a proof with other parts."""
    log = proof.log
    log = LogProof(
        cast("int", parts.get("index", log.index)),
        cast("tuple[bytes, ...]", parts.get("log_hashes", log.hashes)),
        cast("bytes", parts.get("note", log.note)),
    )
    names = ("record", "hashes", "entry")
    return RecordProof.of(*(parts.get(name, getattr(proof, name)) for name in names), log).to_bytes()  # type: ignore[arg-type]


def test_no_part_of_a_proof_can_be_that_of_another(original: Path) -> None:
    """Record, hashes, entry, index and checkpoint belong together."""
    ids = [record["id"] for _, _, record in records(original / "evidence")]
    one, two = (RecordProof.from_bytes(prove(original / "evidence", ids[number])) for number in (2, 11))
    cases = {
        "record": (changed(one, record=two.record), {"bad_inclusion_proof", "wrong_stream"}),
        "hashes": (changed(one, hashes=two.hashes), {"bad_inclusion_proof"}),
        "no hashes": (changed(one, hashes=()), {"bad_inclusion_proof"}),
        "entry": (changed(one, entry=two.entry), {"bad_inclusion_proof", "wrong_stream"}),
        "index": (changed(one, index=one.log.index + 1), {"bad_inclusion_proof"}),
        "an index outside": (changed(one, index=99), {"bad_inclusion_proof"}),
        "log hashes": (changed(one, log_hashes=two.log.hashes), {"bad_inclusion_proof"}),
        "an older checkpoint": (changed(one, note=(original / "kept").read_bytes()), {"bad_inclusion_proof"}),
        "an entry that is none": (changed(one, entry=b'{"a":"b"}'), {"bad_inclusion_proof", "log_malformed"}),
        "a record that is none": (changed(one, record=b'{"a":"b"}'), {"malformed_record"}),
        "garbage for a note": (changed(one, note=b"x"), {"bad_checkpoint"}),
    }
    for name, (data, found) in cases.items():
        checked = Verifier(TRUST).proof(data)
        assert (checked.exit_code, codes(checked)) == (1, found), name


def test_a_place_that_the_record_does_not_claim_is_not_proved(original: Path) -> None:
    """The index within the stream comes from the record, so that no other place can be given to it."""
    proof = RecordProof.from_bytes(prove(original / "evidence", list(records(original / "evidence"))[2][2]["id"]))
    record = orjson.loads(proof.record)
    record["stream"]["seq"] = "2"
    data = changed(proof, record=orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
    checked = Verifier(TRUST).proof(data)
    assert (checked.exit_code, codes(checked)) == (1, {"bad_inclusion_proof"})


def test_a_proof_of_another_record_is_not_the_one_that_was_asked_for(original: Path) -> None:
    """The id can be given, so that a script cannot be shown the wrong record."""
    data = prove(original / "evidence", next(records(original / "evidence"))[2]["id"])
    checked = Verifier(TRUST).proof(data, record="another")
    assert (checked.exit_code, codes(checked)) == (1, {"other_record"})


WRONG_TRUST: dict[str, tuple[TrustStore | None, int, set[str]]] = {
    "none": (None, 2, {"no_trust"}),
    "another key": (TrustStore((TrustedKey(OTHER.public_key, "recorder"),)), 2, {"unknown_key"}),
    "another purpose": (TrustStore((TrustedKey(SIGNER.public_key, "issuer"),)), 2, {"unknown_key"}),
    "another origin": (TrustStore((KEY,), origin="elsewhere"), 1, {"wrong_origin"}),
    "a key that had expired": (
        TrustStore((TrustedKey(SIGNER.public_key, "recorder", not_after=1_700_000_000),)),
        2,
        {"key_not_valid_then"},
    ),
    "a revoked key": (
        TrustStore((TrustedKey(SIGNER.public_key, "recorder", revoked_since=1_900_000_000),)),
        2,
        {"key_revoked"},
    ),
    "a key that was revoked before": (
        TrustStore((TrustedKey(SIGNER.public_key, "recorder", revoked_since=1_700_000_000),)),
        1,
        {"signed_after_revocation"},
    ),
}


@pytest.mark.parametrize("name", WRONG_TRUST)
def test_a_proof_holds_under_the_key_that_counts_for_it(original: Path, name: str) -> None:
    """Of another key, origin or time, it proves nothing; without keys, nothing can be said."""
    trust, code, found = WRONG_TRUST[name]
    checked = Verifier(trust).proof(prove(original / "evidence", next(records(original / "evidence"))[2]["id"]))
    assert (checked.exit_code, codes(checked)) == (code, found)


def test_an_entry_of_another_log_is_not_one_of_this(original: Path) -> None:
    """One key may sign two logs; the origin in the entry keeps their entries apart."""
    proof = RecordProof.from_bytes(prove(original / "evidence", next(records(original / "evidence"))[2]["id"]))
    entry = Head.from_entry(proof.entry)[0].to_entry("elsewhere")
    note = sign_note(Checkpoint(ORIGIN, 1, root_of([leaf_hash(entry)])).to_text(), ORIGIN, SIGNER)
    checked = Verifier(TRUST).proof(changed(proof, entry=entry, index=0, log_hashes=(), note=note))
    assert (checked.exit_code, codes(checked)) == (1, {"wrong_origin"})
    assert checked.report.findings[0].message == "the entry names the origin of another log"
    assert [step.status for step in checked.report.steps] == ["passed", "failed", "passed", "passed"]


def test_a_log_is_shown_to_have_grown_only(original: Path) -> None:
    """From any checkpoint that was kept, the empty one included, up to the present one."""
    kept = (original / "kept").read_bytes()
    empty = sign_note(Checkpoint(ORIGIN, 0, root_of([])).to_text(), ORIGIN, SIGNER)
    now = (original / "evidence/log/checkpoint").read_bytes()
    for earlier in (kept, empty, now):
        data = prove_growth(original / "evidence", earlier)
        checked = Verifier(TRUST).proof(data, checkpoint=earlier)
        assert (checked.exit_code, checked.kind, checked.record) == (0, "growth", None)
        assert [step.status for step in checked.report.steps] == ["passed"] * 2
    assert prove_growth(original / "evidence", original / "kept") == prove_growth(original / "evidence", kept)
    assert Verifier(TRUST).proof(prove_growth(original / "evidence", kept), checkpoint=original / "kept").exit_code == 0


def test_growth_needs_the_checkpoint_that_was_kept(original: Path) -> None:
    """Without it nothing is shown; with another one, the proof does not fit."""
    data = prove_growth(original / "evidence", original / "kept")
    now = (original / "evidence/log/checkpoint").read_bytes()
    assert codes(Verifier(TRUST).proof(data)) == {"no_checkpoint"}
    assert Verifier(TRUST).proof(data).exit_code == 2
    assert codes(Verifier(TRUST).proof(data, checkpoint=now)) == {"bad_consistency_proof"}
    text = Checkpoint.from_text(now.decode().partition("\n\n")[0] + "\n")
    fork = sign_note(Checkpoint(ORIGIN, GrowthProof.from_bytes(data).old_size, b"f" * 32).to_text(), ORIGIN, SIGNER)
    checked = Verifier(TRUST).proof(data, checkpoint=fork)
    assert (checked.exit_code, codes(checked)) == (1, {"bad_consistency_proof"})
    other = sign_note(Checkpoint("elsewhere", 4, text.root).to_text(), "elsewhere", SIGNER)
    checked = Verifier(TrustStore((KEY,))).proof(data, checkpoint=other)
    assert (checked.exit_code, codes(checked)) == (1, {"wrong_origin"})
    stranger = sign_note(Checkpoint(ORIGIN, 4, text.root).to_text(), ORIGIN, OTHER)
    assert Verifier(TRUST).proof(data, checkpoint=stranger).exit_code == 1
    assert codes(Verifier(TRUST).proof(data, checkpoint=b"x")) == {"bad_checkpoint"}


def test_hashes_from_the_empty_log_on_are_refused(original: Path) -> None:
    """A proof has one spelling."""
    empty = sign_note(Checkpoint(ORIGIN, 0, root_of([])).to_text(), ORIGIN, SIGNER)
    now = (original / "evidence/log/checkpoint").read_bytes()
    checked = Verifier(TRUST).proof(GrowthProof(0, (b"h" * 32,), now).to_bytes(), checkpoint=empty)
    assert codes(checked) == {"bad_consistency_proof"}


def test_growth_under_a_revoked_key_is_an_open_question(original: Path) -> None:
    """Whoever has the key can make both checkpoints."""
    revoked = TrustStore((TrustedKey(SIGNER.public_key, "recorder", revoked_since=1_900_000_000),), origin=ORIGIN)
    data = prove_growth(original / "evidence", original / "kept")
    checked = Verifier(revoked).proof(data, checkpoint=original / "kept")
    assert (checked.exit_code, codes(checked)) == (2, {"key_revoked"})
    assert Verifier(None).proof(data, checkpoint=original / "kept").exit_code == 2


def test_a_ledger_that_did_not_grow_from_a_checkpoint_says_so(room: Path) -> None:
    """Put back, forked, changed, or of another origin."""

    def refused(code: str, earlier: bytes) -> None:
        with pytest.raises(VerificationError) as caught:
            prove_growth(room / "evidence", earlier)
        assert caught.value.code == code

    def note(size: int, origin: str = ORIGIN) -> bytes:
        return sign_note(Checkpoint(origin, size, b"f" * 32).to_text(), origin, SIGNER)

    refused("rolled_back", note(99))
    refused("rolled_back", note(2))
    refused("wrong_origin", note(2, "elsewhere"))
    refused("bad_checkpoint", b"x")
    edit(room, "log/entries.jsonl", lambda lines: [lines[1], lines[0], *lines[2:]])
    refused("log_changed", note(2))
    edit(room, "log/entries.jsonl", lambda lines: lines[:1])
    refused("log_cut", (room / "kept").read_bytes())


SIGNED = f"signed by a trusted recorder key for the origin {ORIGIN}"
FIRST = "AZq2l-gAcACAAAAAAAAAAQ"
RECORD = (
    ("passed", SIGNED),
    ("passed", "entry 1 of 6"),
    ("passed", "record 3 of 3"),
    ("passed", f"record 3 of {FIRST}"),
)
OPEN = ("not_checked", "")
KNOWN_KEY = "no known key signed the note; add the key of the log to the trust file"
NO_TRUST = "there are no trusted keys; pass the trust file of the recorder"
NO_NOTE = "malformed note: it is not text, a blank line and signature lines, each ended by a newline"
ANOTHER_ROOT = "the proof leads to another root; the entry, its place or the tree was changed"


def steps(checked: Checked) -> tuple[tuple[str, str], ...]:
    """Return how the steps ended and what they say."""
    return tuple((step.status, step.detail.replace("of stream ", "of ")) for step in checked.report.steps)


def told(checked: Checked) -> list[tuple[str, int | None]]:
    """Return what was found in words, with the places in the stream."""
    return [(problem.message, problem.seq) for problem in checked.report.findings]


@pytest.mark.parametrize("origin", ["proofs.example", None])
def test_a_proof_that_holds_says_what_was_shown(original: Path, origin: str | None) -> None:
    """Each step with its name and its numbers, whether or not the trust file names the log."""
    proof = prove(original / "evidence", (open_ledger(original / "evidence").streams()[0], 3))
    checked = Verifier(TrustStore((KEY,), origin=origin)).proof(proof)
    assert [step.name for step in checked.report.steps] == [
        "trust and signature of the checkpoint",
        "the entry is in the log of the checkpoint",
        "the record is in the stream of the entry",
        "the record is in form and in place",
    ]
    assert (steps(checked), told(checked), checked.size, checked.report.source) == (RECORD, [], 6, "proof")


BROKEN: dict[str, tuple[dict[str, object], list[tuple[str, int | None]], dict[int, tuple[str, str]]]] = {
    "hashes": ({"hashes": (b"h" * 32,)}, [(ANOTHER_ROOT, 3)], {3: ("failed", "record 3 of 3")}),
    "log hashes": (
        {"log_hashes": (b"h" * 32,)},
        [("the proof has 1 hashes instead of 3", None)],
        {2: ("failed", "entry 1 of 6")},
    ),
    "an entry that is none": (
        {"entry": b'{"a":"b"}'},
        [(ANOTHER_ROOT, None), ("the entry in the proof is not an entry of a log", None)],
        {2: ("failed", "entry 1 of 6"), 3: ("failed", "")},
    ),
    "a record that is none": (
        {"record": b'{"a":"b"}'},
        [("record.kind: unknown kind of record", None)],
        {3: ("not_checked", "the record does not say where it stands"), 4: ("failed", "")},
    ),
    "a note that is none": (
        {"note": b"x"},
        [(f"the checkpoint of the proof: {NO_NOTE}", None)],
        {1: ("failed", ""), 2: OPEN},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_fit_fails_its_step_only(original: Path, name: str) -> None:
    """The step says so in words and with the place; what needs it is left open, and the other steps are told."""
    parts, found, other = BROKEN[name]
    proof = prove(original / "evidence", (FIRST, 3))
    checked = Verifier(TRUST).proof(changed(RecordProof.from_bytes(proof), **parts))
    assert (told(checked), checked.exit_code) == (found, 1)
    assert steps(checked) == tuple(other.get(number, step) for number, step in enumerate(RECORD, 1))
    assert (checked.origin, checked.size) == ((None, 0) if name == "a note that is none" else (ORIGIN, 6))


def test_what_is_of_another_stream_is_told_with_its_place(original: Path) -> None:
    """The record says where it stands, the entry is about another stream."""
    one, two = (RecordProof.from_bytes(prove(original / "evidence", place)) for place in ((FIRST, 3), (FIRST, 4)))
    head, _ = Head.from_entry(one.entry)
    entry = Head(f"{FIRST[:-1]}g", head.size, head.root, 1).to_entry(ORIGIN)
    checked = Verifier(TRUST).proof(changed(one, entry=entry))
    assert told(checked) == [
        (ANOTHER_ROOT, None),
        ("the record is of another stream than the entry", 3),
    ]
    assert [step.status for step in checked.report.steps] == ["passed", "failed", "failed", "passed"]
    checked = Verifier(TRUST).proof(changed(one, record=two.record, hashes=()))
    assert told(checked) == [("the index 3 is outside the tree of size 3", 4)]


DOUBTED: dict[str, tuple[TrustStore | None, str, tuple[str, str]]] = {
    "none": (None, NO_TRUST, OPEN),
    "another key": (WRONG_TRUST["another key"][0], f"the checkpoint of the proof: {KNOWN_KEY}", OPEN),
    "a key that had expired": (
        WRONG_TRUST["a key that had expired"][0],
        "no key under the checkpoint was valid at the time of the record",
        ("not_checked", SIGNED),
    ),
    "a revoked key": (
        WRONG_TRUST["a revoked key"][0],
        "only a revoked key vouches for the record; verify the ledger itself",
        ("not_checked", SIGNED),
    ),
    "a key that was revoked before": (
        WRONG_TRUST["a key that was revoked before"][0],
        "only a revoked key vouches for the record; verify the ledger itself",
        ("failed", SIGNED),
    ),
}


@pytest.mark.parametrize("name", DOUBTED)
def test_a_key_that_does_not_count_leaves_the_first_step(original: Path, name: str) -> None:
    """What the hashes show is told all the same; the step about trust says what is missing."""
    trust, message, first = DOUBTED[name]
    checked = Verifier(trust).proof(prove(original / "evidence", (FIRST, 3)))
    assert (told(checked), steps(checked)) == ([(message, None)], (first, *RECORD[1:]))
    assert checked.report.trust == ("none" if trust is None else "given")


def test_a_record_counts_from_the_second_of_its_key_on(original: Path) -> None:
    """Validity includes its first and its last second; the end of a call is not before its key was revoked."""
    proof = prove(original / "evidence", (FIRST, 3))
    second = int(RecordProof.from_bytes(proof).record.partition(b'"start":"')[2][:19]) // 10**9

    def found(**options: int) -> set[str]:
        return codes(Verifier(TrustStore((TrustedKey(SIGNER.public_key, "recorder", **options),))).proof(proof))

    assert (found(not_before=second), found(not_before=second + 1)) == (set(), {"key_not_valid_then"})
    assert (found(not_after=second), found(not_after=second - 1)) == (set(), {"key_not_valid_then"})
    assert (found(revoked_since=second), found(revoked_since=second + 1)) == (
        {"signed_after_revocation"},
        {"key_revoked"},
    )
    parsed = RecordProof.from_bytes(proof)
    record = orjson.loads(parsed.record)
    record["time"]["end"] = str((second + 1) * 10**9)  # What begins before and ends after was signed after.
    proof = changed(parsed, record=orjson.dumps(record, option=orjson.OPT_SORT_KEYS))
    assert found(revoked_since=second + 1) == {"bad_inclusion_proof", "signed_after_revocation"}
    assert found(not_after=second) == {"bad_inclusion_proof"}


def test_one_key_in_time_is_enough_and_an_unknown_one_harms_nothing(original: Path) -> None:
    """A checkpoint that two keys signed, one of them before its time."""
    proof = RecordProof.from_bytes(prove(original / "evidence", (FIRST, 3)))
    note = (
        proof.log.note
        + sign_note(proof.log.note.decode().partition("\n\n")[0] + "\n", ORIGIN, OTHER).splitlines(keepends=True)[-1]
    )
    late = TrustedKey(OTHER.public_key, "recorder", not_before=1_900_000_000)
    for keys in ((KEY, late), (late, KEY), (KEY,)):
        assert Verifier(TrustStore(keys, origin=ORIGIN)).proof(changed(proof, note=note)).exit_code == 0
    assert codes(Verifier(TrustStore((late,), origin=ORIGIN)).proof(changed(proof, note=note))) == {
        "key_not_valid_then"
    }


def test_growth_is_told_step_by_step(original: Path) -> None:
    """From how many entries to how many, and what is missing or does not fit, in words."""
    kept, now = (original / "kept").read_bytes(), (original / "evidence/log/checkpoint").read_bytes()
    data = prove_growth(original / "evidence", kept)
    fork = sign_note(Checkpoint(ORIGIN, 3, b"f" * 32).to_text(), ORIGIN, SIGNER)
    other = sign_note(Checkpoint("elsewhere", 4, b"f" * 32).to_text(), "elsewhere", SIGNER)
    revoked = TrustStore((TrustedKey(SIGNER.public_key, "recorder", revoked_since=1_900_000_000),), origin=ORIGIN)
    both, grown = ("passed", SIGNED), ("passed", "from 3 to 6 entries")
    none = "there is no earlier checkpoint that was kept elsewhere; without it, nothing is shown"
    shorter = "the proof starts at 3 entries, and the checkpoint kept elsewhere covers 6"
    cases: list[tuple[TrustStore | None, bytes | None, list[str], tuple[tuple[str, str], tuple[str, str]]]] = [
        (TRUST, kept, [], (both, grown)),
        (TRUST, None, [none], (OPEN, OPEN)),
        (TRUST, now, [shorter], (both, ("failed", "from 6 to 6 entries"))),
        (
            TRUST,
            fork,
            ["the proof leads to other roots; the new tree does not continue the old one"],
            (both, ("failed", "from 3 to 6 entries")),
        ),
        (
            TrustStore((KEY,)),
            other,
            ["the two checkpoints are of different logs"],
            (both, ("failed", "")),
        ),
        (TRUST, b"x", [f"the checkpoint kept elsewhere: {NO_NOTE}"], (("failed", ""), OPEN)),
        (
            revoked,
            kept,
            ["a key under the checkpoints is revoked, and others may have it; verify the ledger itself"],
            (("not_checked", SIGNED), grown),
        ),
        (None, kept, [NO_TRUST], (OPEN, grown)),
    ]
    for trust, earlier, found, ends in cases:
        checked = Verifier(trust).proof(data, checkpoint=earlier)
        assert (told(checked), steps(checked)) == ([(message, None) for message in found], ends)
        assert (checked.kind, checked.record, checked.origin, checked.size) == ("growth", None, ORIGIN, 6)
    assert [step.name for step in checked.report.steps] == [
        "trust and signature of both checkpoints",
        "the later log continues the earlier one",
    ]
    checked = Verifier(TRUST).proof(GrowthProof(3, (b"h" * 32,), b"x").to_bytes(), checkpoint=kept)
    assert (told(checked), checked.origin, checked.size) == (
        [(f"the checkpoint of the proof: {NO_NOTE}", None)],
        None,
        0,
    )


def test_witnesses_that_the_trust_file_names_vouch_for_proofs(original: Path) -> None:
    """For the checkpoint of the proof, of a record as of growth; without them the question is open."""
    key = SigningKey.from_seed(b"w" * 32)
    trust = TrustStore((KEY,), origin=ORIGIN, witnesses=Witnesses((Cosigner("w.example", key.public_key),)))
    kept, now = (original / "kept").read_bytes(), (original / "evidence/log/checkpoint").read_bytes()
    text = now.decode().partition("\n\n")[0] + "\n"
    cosigned = now + cosign(text, "w.example", key, at=1_790_000_000).encode()
    growth, record = prove_growth(original / "evidence", kept), prove(original / "evidence", (FIRST, 3))
    words = f"{SIGNED}; 6 of 6 entries cosigned by 1 of 1 witness, last at 2026-09-21T14:13:20Z"
    for proof, earlier in ((growth, kept), (record, None)):
        assert codes(Verifier(trust).proof(proof, checkpoint=earlier)) == {"not_witnessed"}
        checked = Verifier(trust).proof(proof.replace(now, cosigned), checkpoint=earlier)
        assert (checked.exit_code, steps(checked)[0]) == (0, ("passed", words))


def test_of_the_checkpoints_of_growth_each_needs_a_key_that_counts(original: Path) -> None:
    """A revoked key under one of the two is enough to doubt both."""
    kept = (original / "kept").read_bytes()
    earlier = sign_note(kept.decode().partition("\n\n")[0] + "\n", ORIGIN, OTHER)
    data = prove_growth(original / "evidence", kept)
    for revoked, sound in ((SIGNER, OTHER), (OTHER, SIGNER)):
        keys = (
            TrustedKey(revoked.public_key, "recorder", revoked_since=1_900_000_000),
            TrustedKey(sound.public_key, "recorder"),
        )
        assert codes(Verifier(TrustStore(keys, origin=ORIGIN)).proof(data, checkpoint=earlier)) == {"key_revoked"}
    assert codes(Verifier(TRUST).proof(data, checkpoint=earlier)) == {"unknown_key"}


def test_arguments_fit_the_kind_of_proof(original: Path) -> None:
    """What would not be looked at is refused."""
    record = prove(original / "evidence", next(records(original / "evidence"))[2]["id"])
    growth = prove_growth(original / "evidence", original / "kept")
    with pytest.raises(ConfigurationError, match="earlier checkpoint goes with a proof of growth"):
        Verifier(TRUST).proof(record, checkpoint=original / "kept")
    with pytest.raises(ConfigurationError, match="record id goes with the proof of a record"):
        Verifier(TRUST).proof(growth, record="x")


def test_what_is_no_proof_is_called_that(room: Path) -> None:
    """Garbage and truncated files are contradicted, missing ones cannot be read, and results are plain values."""
    whole = prove(room / "evidence", next(records(room / "evidence"))[2]["id"])
    for size in range(0, len(whole), 7):
        assert Verifier(TRUST).proof(whole[:size]).exit_code == 1
    checked = Verifier(TRUST).proof(b"garbage")
    assert (checked.kind, checked.record, checked.origin, checked.size) == ("unknown", None, None, 0)
    assert codes(checked) == {"bad_proof"}
    assert told(checked) == [
        ("malformed proof file: it is not 'c2sp.org/tlog-proof@v1', lines, a blank line and a checkpoint", None)
    ]
    assert ([step.name for step in checked.report.steps], steps(checked)) == (
        ["the file is a proof"],
        (("failed", ""),),
    )
    plain = Verifier(TRUST).proof(whole).to_json()
    assert (plain["proof"], plain["origin"], plain["size"], plain["verdict"]) == ("record", ORIGIN, "6", "verified")
    assert orjson.loads(orjson.dumps(plain))["record"]["kind"] == "stream_start"
    with pytest.raises(ConfigurationError):
        Verifier(TRUST).proof(room / "nowhere")
