"""Records, streams and logs that are not what they should be, sealed by an insider with all keys."""

import hashlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import clean_cases
from call_cases import drop
from case_form import USUAL, Case, Cases, World
from insider import (
    BEGIN,
    FILE,
    ISSUER,
    ISSUER_URI,
    ORIGIN,
    RECORDER,
    STRANGER,
    Ledger,
    Line,
    canonical,
    digest,
    noted,
)

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency._cosignatures import cosign
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import loss_entry
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity.identity import FileVersion, SigningKey, TrustedKey, TrustStore, Witnesses

Edit = Callable[[World], object]
WITNESS: Final = SigningKey.from_seed(b"\x26" * 32)


def lone() -> World:
    """Return a stream with one record of no task."""
    ledger = Ledger()
    stream = ledger.stream()
    change = {"kind": "agent", "name": "intern", "status": "revoked", "version": "1", "reason": "left"}
    record = ledger.add(stream, "revocation", revocation=change)
    close = ledger.close(stream)
    return SimpleNamespace(**locals())


def renamed(name: str) -> Edit:
    """Return an edit that revokes another name."""
    return lambda w: w.record.record["revocation"].update(name=name)


def spelled(old: bytes, new: bytes) -> Edit:
    """Return an edit that spells the bytes of the record in another way."""

    def edit(world: World) -> None:
        stream = world.stream
        place = {"id": stream.id, "seq": "2", "prev": None}
        first = next(stream.lines())[0]
        assert first is not None
        place["prev"] = b64url_encode(leaf_hash(first))
        data = canonical({**world.record.record, "stream": place, "v": "1"})
        assert old in data
        world.record.data = data.replace(old, new, 1)

    return edit


def said(**changes: Any) -> Edit:
    """Return an edit of members of the record."""
    return lambda w: w.record.record.update(changes)


def became(kind: str, **members: Any) -> Edit:
    """Return an edit that makes the record one of another kind."""

    def edit(world: World) -> None:
        record = world.record.record
        del record["revocation"]
        record.update(kind=kind, **members)

    return edit


FORMS: Final[tuple[tuple[str, str, Edit], ...]] = (
    ("form-unknown-member", "A record has a member that its kind does not have.", said(note="x")),
    ("form-unknown-kind", "A record has a kind that is none.", said(kind="note")),
    ("form-missing-member", "A record lacks a required member.", lambda w: w.record.record.pop("revocation")),
    (
        "form-inner-member",
        "An object in a record has a member that it does not have.",
        said(time={"start": "1", "zone": "UTC"}),
    ),
    (
        "form-enumeration",
        "A member has a value that is none of the listed ones.",
        lambda w: w.record.record["revocation"].update(status="forgotten"),
    ),
    ("form-leading-zero", "A count has a leading zero.", lambda w: w.record.record["revocation"].update(version="01")),
    ("form-position-zero", "A position is 0.", lambda w: w.record.record["revocation"].update(version="0")),
    ("form-twenty-digits", "A time has 20 digits.", said(time={"start": "1" * 20})),
    ("form-negative", "A time is negative.", said(time={"start": "-1"})),
    ("form-arabic-digits", "A time has digits that are not those of ASCII.", said(time={"start": "١٢"})),
    ("form-empty-text", "A text is empty.", renamed("")),
    ("form-long-identifier", "An identifier has 257 characters.", renamed("x" * 257)),
    ("form-zero-width", "An identifier has a zero-width space.", renamed("int\u200bern")),
    ("form-hangul-filler", "An identifier has a Hangul filler.", renamed("int\u3164ern")),
    ("form-halfwidth-filler", "An identifier has a halfwidth Hangul filler.", renamed("intern\uffa0")),
    ("form-joiner", "An identifier has a combining grapheme joiner.", renamed("int\u034fern")),
    ("form-variation", "An identifier has a variation selector.", renamed("intern\ufe0f")),
    ("form-variation-2", "An identifier has a variation selector of the supplement.", renamed("intern\U000e0100")),
    ("form-mongolian", "An identifier has a Mongolian variation selector.", renamed("intern\u180b")),
    ("form-braille", "An identifier has a Braille pattern without dots.", renamed("int\u2800ern")),
    ("form-bidi", "An identifier turns the direction of the text.", renamed("\u202eintern")),
    ("form-tag", "An identifier has an invisible letter of the tags.", renamed("intern\U000e0041")),
    ("form-soft-hyphen", "An identifier has a soft hyphen.", renamed("in\u00adtern")),
    ("form-line-feed", "An identifier has a line feed.", renamed("int\nern")),
    ("form-space-at-end", "An identifier ends with a space.", renamed("intern ")),
    ("form-space-at-start", "An identifier begins with an ideographic space.", renamed("\u3000intern")),
    ("form-spiffe", "A SPIFFE ID has an empty segment.", renamed("spiffe://example.com//job")),
    ("form-spiffe-case", "A SPIFFE ID has its scheme in capitals.", renamed("SPIFFE://example.com/job")),
    ("form-spiffe-dots", "A SPIFFE ID goes up.", renamed("spiffe://example.com/../job")),
    ("form-id-spare-bits", "An id has spare bits that are not zero.", said(id="AZq2l-gAcACAAAAAAAAAAR")),
    ("form-id-hex", "An id is a UUID in its text form.", said(id="019ab697-e800-7000-8000-000000000001")),
    (
        "form-digest-prefix",
        "A digest has the prefix of another format.",
        became("examination", examination={"question": "data", "digest": "sha256:" + digest("x"), "size": "1"}),
    ),
    (
        "form-digest-spare-bits",
        "A digest has spare bits that are not zero.",
        became("examination", examination={"question": "data", "digest": "A" * 42 + "B", "size": "1"}),
    ),
    (
        "form-two-erasures",
        "An erasure is one of a key and of a principal.",
        became("erasure", erasure={"key": "a", "principal": "b", "keys": "1"}),
    ),
    ("form-no-erasure", "An erasure is one of nothing.", became("erasure", erasure={"by": "dpo"})),
    (
        "form-registration",
        "A registration is one of an agent and of a server.",
        became(
            "registration",
            agent={"id": "a", "owner": "b"},
            server={"name": "s", "transport": "http", "status": "pinned"},
        ),
    ),
    ("form-registration-empty", "A registration is one of nothing.", became("registration")),
    (
        "form-empty-array",
        "An array is empty.",
        became("registration", server={"name": "s", "transport": "http", "status": "pinned"}, tools=[]),
    ),
    (
        "form-flow-word",
        "A word has a capital letter.",
        became("policy", policy={"name": "a", "version": "1", "digest": digest("x"), "flow": "Flow-1"}),
    ),
    (
        "form-reason-of-two-lines",
        "A line has a line separator.",
        became("erasure", erasure={"key": "a", "reason": "a\u2028b"}),
    ),
    ("form-second-start", "A stream begins a second time.", became("stream_start", sdk={"name": "a", "version": "1"})),
    ("form-seq-zero", "The place of a record is 0.", lambda w: w.record.place.update(seq="0")),
    (
        "form-prev-missing",
        "A record that is not the first has no link to the one before.",
        lambda w: w.record.place.update(prev=None),
    ),
    ("form-number", "A version is a number.", spelled(b'"v":"1"', b'"v":1')),
    ("form-null", "A member is null.", spelled(b'"v":"1"', b'"trace":null,"v":"1"')),
    ("form-false", "A member is false.", spelled(b'"v":"1"', b'"trace":false,"v":"1"')),
    ("form-nan", "A member is no JSON.", spelled(b'"v":"1"', b'"v":NaN')),
    ("form-space", "A record has a space between its members.", spelled(b'"kind":', b'"kind": ')),
    (
        "form-order",
        "The members of a record are not in their order.",
        spelled(b'"kind":"agent","name":"intern"', b'"name":"intern","kind":"agent"'),
    ),
    ("form-escape", "A letter is escaped that need not be.", spelled(b'"intern"', b'"inter\\u006e"')),
    ("form-solidus", "A solidus is escaped.", spelled(b'"left"', b'"le\\/ft"')),
    ("form-surrogate", "A text has half a surrogate pair.", spelled(b'"intern"', b'"inter\\ud800"')),
    ("form-not-utf-8", "A record is not UTF-8.", spelled(b'"intern"', b'"inter\xff"')),
    (
        "form-overlong",
        "A letter is encoded in two bytes where one is enough.",
        spelled(b'"intern"', b'"inter\xc1\xae"'),
    ),
    ("form-doubled-member", "A record has a member twice.", spelled(b'"v":"1"', b'"v":"1","v":"1"')),
    (
        "form-doubled-name",
        "An object in a record has a member twice, with different values.",
        spelled(b'"name":"intern"', b'"name":"admin","name":"intern"'),
    ),
    (
        "form-nested",
        "A record is nested 900 arrays deep.",
        spelled(b'"v":"1"', b'"trace":' + b"[" * 900 + b"]" * 900 + b',"v":"1"'),
    ),
)
"""On a lone record: each is ``malformed_record``."""

STREAMS: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "link-changed",
        "A record names another one before it.",
        "changed_record",
        lambda w: w.read.place.update(prev=digest("another")),
    ),
    (
        "place-skipped",
        "A record claims a later place than it has.",
        "missing_records out_of_order out_of_order out_of_order unknown_outcome no_end",
        lambda w: w.read.place.update(seq="9"),
    ),
    (
        "record-removed",
        "An outcome is missing between records that say so.",
        "missing_records unknown_outcome counts_disagree",
        lambda w: setattr(w.stream, "after", lambda lines: [*lines[:4], *lines[5:]]),
    ),
    (
        "first-removed",
        "The first record is missing, and those behind it say so.",
        "missing_records",
        lambda w: setattr(w.stream, "after", lambda lines: lines[1:]),
    ),
    (
        "records-swapped",
        "Intent and outcome stand in each other's place.",
        "missing_records out_of_order intent_missing counts_disagree",
        lambda w: setattr(w.stream, "after", lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]]),
    ),
    ("record-doubled", "A record stands there twice.", "duplicate_record", lambda w: setattr(w.read, "copies", 2)),
    (
        "record-again",
        "A copy of a record stands behind later ones.",
        "out_of_order",
        lambda w: setattr(w.stream, "after", lambda lines: [*lines[:5], lines[1], *lines[5:]]),
    ),
    (
        "record-of-another-stream",
        "A record names another stream.",
        "wrong_stream missing_records intent_missing counts_disagree",
        lambda w: w.read.place.update(id=w.ledger.id()),
    ),
    (
        "record-after-end",
        "A record follows the end of the stream.",
        "after_end",
        lambda w: (w.stream.remove(w.close), w.stream.insert(5, w.close), w.close.record["end"].update(size="6")),
    ),
    (
        "end-too-large",
        "The end of a stream states more records than it has.",
        "missing_records",
        lambda w: w.close.record["end"].update(size="9"),
    ),
    ("no-end", "A stream has no end.", "no_end", lambda w: w.stream.remove(w.close)),
    (
        "no-start",
        "A stream does not begin with its start.",
        "malformed_record unknown_grant",
        lambda w: drop(w, w.stream[0]),
    ),
    (
        "garbage-sealed",
        "A line that is no record lies below a head.",
        "malformed_line records_cut",
        lambda w: (
            w.close.record["end"].update(size="8"),
            w.stream.insert(5, Line({}, raw=b"garbage\n")),
            setattr(w.ledger, "relog", lambda entries: [_entry(entries[0], size="9")]),
        ),
    ),
    (
        "tail-unsealed",
        "Records stand after the last head.",
        "tail_unsealed",
        lambda w: setattr(w.stream, "sealed", [5]),
    ),
    (
        "two-heads",
        "The log has two heads of the stream.",
        "",
        lambda w: setattr(w.stream, "sealed", [3, 7]),
    ),
    ("head-repeated", "The log repeats a head, as a sign of life.", "", lambda w: setattr(w.stream, "sealed", [7, 7])),
    ("torn-tail", "The stream ends inside a line.", "torn_tail", lambda w: setattr(w.stream, "torn", b'{"mac":"AA')),
    (
        "malformed-tail",
        "A line after the last head is no record.",
        "malformed_tail tail_unsealed",
        lambda w: setattr(w.stream, "torn", b"garbage\n"),
    ),
    (
        "stream-unknown",
        "The log does not know one of two streams.",
        "stream_unknown",
        lambda w: (setattr(later := w.ledger.stream(), "sealed", []), w.ledger.close(later)),
    ),
    (
        "nothing-sealed",
        "The log has no head at all.",
        "nothing_to_verify stream_unknown",
        lambda w: setattr(w.stream, "sealed", []),
    ),
    (
        "stream-empty",
        "A stream was begun and holds nothing.",
        "stream_empty",
        lambda w: w.ledger.more.update({f"ledger/{w.ledger.id()}/entries.jsonl": b""}),
    ),
)
"""On a task with one call."""


def relogged(change: Callable[[World, list[bytes]], list[bytes]], **more: Any) -> Edit:
    """Return an edit of the entries of the log before the checkpoint is signed."""

    def edit(world: World) -> None:
        world.ledger.relog = lambda entries: change(world, entries)
        for name, value in more.items():
            setattr(world.ledger, name, value)

    return edit


def _entry(entry: bytes, **changes: Any) -> bytes:
    return canonical({**json.loads(entry), **changes})


LOGS: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "head-of-other-records",
        "The head of the stream has the root over other records.",
        "head_mismatch",
        relogged(lambda w, e: [_entry(e[0], root=digest("root"))]),
    ),
    (
        "head-beyond-the-end",
        "The head of the stream covers more records than there are.",
        "records_cut",
        relogged(lambda w, e: [*e, _entry(e[0], size="9", root=digest("root"))]),
    ),
    (
        "heads-shrink",
        "A later head of the stream covers fewer records.",
        "log_shrank",
        relogged(lambda w, e: [*e, _entry(e[0], size="5")]),
    ),
    (
        "heads-differ",
        "Two heads of one size have different roots.",
        "log_shrank",
        relogged(lambda w, e: [*e, _entry(e[0], root=digest("root"))]),
    ),
    (
        "head-of-another-log",
        "An entry of the log names another origin.",
        "wrong_origin",
        relogged(lambda w, e: [_entry(e[0], origin="other.example/log")]),
    ),
    (
        "entry-with-a-member",
        "An entry of the log has a member too many.",
        "log_malformed",
        relogged(lambda w, e: [*e, _entry(e[0], note="x")]),
    ),
    (
        "entry-without-time",
        "An entry of the log has no time.",
        "log_malformed",
        relogged(lambda w, e: [*e, canonical({k: v for k, v in json.loads(e[0]).items() if k != "time"})]),
    ),
    (
        "entry-with-size-zero",
        "An entry of the log is a head over nothing.",
        "log_malformed",
        relogged(lambda w, e: [*e, _entry(e[0], size="0")]),
    ),
    (
        "log-lost",
        "The log says that its checkpoint was lost.",
        "log_lost",
        relogged(lambda w, e: [loss_entry(ORIGIN), *e]),
    ),
    (
        "entries-unsealed",
        "The log repeats a head after its checkpoint.",
        "log_unsealed",
        relogged(lambda w, e: [*e, e[0]], covered=1),
    ),
    (
        "checkpoint-behind",
        "The checkpoint covers fewer records than the log names.",
        "log_ahead log_unsealed tail_unsealed",
        lambda w: (setattr(w.stream, "sealed", [3, 7]), setattr(w.ledger, "covered", 1)),
    ),
    (
        "stream-removed",
        "The log knows a stream that is not there.",
        "stream_missing",
        relogged(lambda w, e: [*e, _entry(e[0], stream="AZq2l-gAcACAAAAAAAAAZw")]),
    ),
    (
        "checkpoint-of-stranger",
        "A stranger signed the checkpoint.",
        "unknown_key",
        relogged(lambda w, e: e, signer=STRANGER),
    ),
    (
        "checkpoint-of-issuer",
        "A key that is trusted for grants signed the checkpoint.",
        "unknown_key",
        relogged(lambda w, e: e, signer=ISSUER),
    ),
    (
        "checkpoint-of-another-log",
        "Log and checkpoint name another origin than the trust file.",
        "wrong_origin",
        relogged(lambda w, e: e, origin="other.example/log"),
    ),
)
"""On a task with one call."""


def trusting(recorder: dict[str, Any] | None = None, issuer: dict[str, Any] | None = None, **more: Any) -> Edit:
    """Return an edit of the trust file."""

    def edit(world: World) -> None:
        keys = (
            TrustedKey(ISSUER.public_key, "issuer", **(issuer or {})),
            TrustedKey(RECORDER.public_key, "recorder", **(recorder or {})),
        )
        world.ledger.trust = TrustStore(keys, **{"issuer": ISSUER_URI, "origin": ORIGIN, "file": FILE, **more})

    return edit


TRUSTS: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "recorder-ended",
        "The recorder key was not valid any more at the last record.",
        "key_not_valid_then",
        trusting({"not_after": BEGIN - 1}),
    ),
    (
        "recorder-in-time",
        "The recorder key was valid to the second of the last record.",
        "",
        trusting({"not_before": BEGIN, "not_after": BEGIN}),
    ),
    (
        "issuer-ended",
        "The issuer key was not valid any more at the grant.",
        "unknown_issuer",
        trusting(issuer={"not_after": BEGIN - 1}),
    ),
    (
        "recorder-revoked",
        "The recorder key is revoked since a later time, and nothing outside shows the age of the ledger.",
        "key_revoked",
        trusting({"revoked_since": BEGIN + 86_400, "reason": "stolen"}, file=FileVersion("urn:example:trust", 2)),
    ),
    (
        "issuer-revoked-later",
        "The issuer key is revoked since a time after the ledger, which its sealed records show.",
        "",
        trusting(issuer={"revoked_since": BEGIN + 86_400, "reason": "stolen"}),
    ),
    (
        "issuer-revoked-before",
        "The issuer key is revoked since a time before the grant.",
        "signed_after_revocation",
        trusting(issuer={"revoked_since": BEGIN - 86_400, "reason": "stolen"}),
    ),
    (
        "not-witnessed",
        "The trust file requires a witness, and none cosigned.",
        "not_witnessed",
        trusting(witnesses=Witnesses((Cosigner("witness.example", WITNESS.public_key),), 1, ((BEGIN, None),))),
    ),
)


def _witnessed(world: World, size: int, log: list[int]) -> None:
    """Have the witness cosign the log at a size."""
    trusting(witnesses=Witnesses((Cosigner("witness.example", WITNESS.public_key),), 1, ((BEGIN, None),)))(world)
    world.stream.sealed = log
    entries = world.ledger._write({})
    body = noted(entries[:size], ORIGIN, RECORDER)
    text = Checkpoint(ORIGIN, size, root_of([leaf_hash(entry) for entry in entries[:size]])).to_text()
    line = cosign(text, "witness.example", WITNESS, at=world.ledger.ns // 10**9)
    name = Cosigner("witness.example", WITNESS.public_key)
    world.ledger.more["log/checkpoint"] = noted(entries, ORIGIN, RECORDER) + (
        line.encode() if size == len(entries) else b""
    )
    if size != len(entries):
        world.ledger.more[f"log/witnesses/{_name_of(name)}.checkpoint"] = body + line.encode()


def _name_of(name: Cosigner) -> str:
    return hashlib.sha256(name.vkey.encode()).hexdigest()[:16]


KILLED: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "recovered-rejected",
        "A later start found bytes that the dead process did not write.",
        "recovered unknown_outcome rejected_tail",
        lambda w: w.recovered.record["recovered"].update(rejected_bytes="10", torn_bytes="0"),
    ),
    (
        "recovered-torn-otherwise",
        "The stream of a dead process ends inside another line than its successor found.",
        "recovered unknown_outcome torn_tail",
        lambda w: setattr(w.stream, "torn", w.stream.torn + b"A"),
    ),
    (
        "recovered-torn-since",
        "The successor found no torn line, and there is one.",
        "recovered unknown_outcome torn_tail",
        lambda w: w.recovered.record["recovered"].update(torn_bytes="0"),
    ),
    (
        "recovered-tail-added",
        "Records were added to the stream of a dead process after its recovery.",
        "recovered unknown_outcome unknown_outcome tail_unsealed",
        lambda w: (w.task.intent("read"), setattr(w.stream, "torn", b"")),
    ),
)


def build(bases: dict[str, Case]) -> Cases:
    """Return the cases."""
    cases = Cases()
    base = cases.clean("lone", "One record outside any task.", lone())
    for name, what, edit in FORMS:
        cases.inside((base, lone), name, what, "malformed_record", edit)
    cases.inside((base, lone), "form-other-version", "A record has another version.", "unknown_record", said(v="2"))
    cases.inside(
        (base, lone),
        "form-other-version-unsealed",
        "A record has another version, and the log commits to other bytes.",
        "malformed_record head_mismatch",
        lambda w: (said(v="2")(w), relogged(lambda w, e: [_entry(e[0], root=digest("root"))])(w)),
    )
    for of, rows in (("small", (*STREAMS, *LOGS, *TRUSTS)), ("killed", KILLED)):
        make = getattr(clean_cases, of)
        for name, what, codes, edit in rows:
            cases.inside((bases[of], make), name, what, codes, edit)
    small = (bases["small"], clean_cases.small)
    cases.inside(small, "witnessed", "A witness cosigned the log.", "", lambda w: _witnessed(w, 1, [7]))
    cases.inside(
        small,
        "witnessed-in-part",
        "A witness cosigned the beginning of the log.",
        "tail_unwitnessed",
        lambda w: _witnessed(w, 1, [3, 7]),
    )
    kept = bases["small"].content["log/checkpoint"]
    other = lone().ledger.content()["log/checkpoint"]
    more = (*USUAL, "--checkpoint", "kept")
    for name, what, codes, note in (
        ("checkpoint-kept", "A checkpoint that was kept elsewhere fits.", "", kept),
        ("checkpoint-kept-of-another", "The kept checkpoint is over another history.", "rolled_back", other),
        ("checkpoint-kept-garbage", "The kept checkpoint is none.", "bad_checkpoint", b"garbage\n"),
    ):
        cases.inside(small, name, what, codes, lambda w, note=note: w.ledger.more.update(kept=note), verify=more)
    cases.inside(
        small,
        "rolled-back",
        "The whole directory was put back to an earlier state, and a later checkpoint was kept.",
        "rolled_back no_end",
        lambda w: (
            w.ledger.more.update(kept=_two_heads()),
            drop(w, w.read, w.out, w.end, w.close),
        ),
        verify=more,
    )
    return cases


def _two_heads() -> bytes:
    world = clean_cases.small()
    world.stream.sealed = [3, 7]
    return world.ledger.content()["log/checkpoint"]
