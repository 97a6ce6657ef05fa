"""What somebody without keys does to files, and ledgers of which only a part is there."""

import gzip
import hmac
import io
import zipfile
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Final

import clean_cases
from case_form import USUAL, Case, Cases, World
from insider import (
    ALLOWED,
    BEGIN,
    FILE,
    ISSUER,
    ISSUER_URI,
    ORIGIN,
    RECORDER,
    STRANGER,
    Content,
    Ledger,
    Line,
    canonical,
    digest,
)

from agent_identity import Scope
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.keys.jws import sign_compact
from agent_identity._identity.trust.certificates import CERTIFICATE_TYPE
from agent_identity._ledger.closure import Closure
from agent_identity._ledger.prune_statement import Kept, PruneStatement, grants_file, sign_pruned
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash, root_of
from agent_identity.constraints import OneOf, Range
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.limits import Limit

Edit = Callable[[Content], object]
Lines = list[bytes]
LOG: Final = "log/entries.jsonl"
NOTE: Final = "log/checkpoint"


def stream_in(content: Content, number: int = 0) -> str:
    """Return the file of a stream."""
    return sorted(name for name in content if name.startswith("ledger/"))[number]


def lines(change: Callable[[Lines], Sequence[bytes]], name: str | None = None) -> Edit:
    """Return an edit of the lines of a file, by default of the first stream."""

    def edit(content: Content) -> None:
        at = name or stream_in(content)
        content[at] = b"".join(change(content[at].splitlines(keepends=True)))

    return edit


def swap(line: int, old: bytes, new: bytes, name: str | None = None) -> Edit:
    """Return an edit of one line, counted from 1."""

    def change(found: Lines) -> Lines:
        assert old in found[line - 1]
        return [*found[: line - 1], found[line - 1].replace(old, new, 1), *found[line:]]

    return lines(change, name)


def gone(name: str) -> Edit:
    """Return an edit that removes a file."""
    return lambda content: content.pop(name)


def put(name: str, data: bytes) -> Edit:
    """Return an edit that writes a file."""
    return lambda content: content.update({name: data})


def moved(content: Content, *, keep: bool) -> None:
    """Give a stream another name, or a copy of it."""
    name = stream_in(content)
    content[name.replace(name.split("/")[1], "AZq2l-gAcACAAAAAAAAAZw")] = content[name] if keep else content.pop(name)


WRONG: Final = "wrong_stream " * 7

SMALL: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    (
        "edit-principal",
        "An intent names another principal.",
        "changed_record head_mismatch claims_differ",
        swap(4, b"alice@", b"mallo@"),
    ),
    (
        "edit-last",
        "The last record is changed.",
        "head_mismatch missing_records",
        swap(7, b'"size":"7"', b'"size":"8"'),
    ),
    (
        "edit-outcome",
        "An outcome says error and not success.",
        "changed_record head_mismatch",
        swap(5, b'"outcome":"success"', b'"outcome":"error"'),
    ),
    (
        "edit-space",
        "A record has a space more.",
        "malformed_record head_mismatch unknown_outcome counts_disagree",
        swap(5, b'"kind":', b'"kind": '),
    ),
    (
        "edit-link",
        "A record names another one before it, of a form that is none.",
        "malformed_record head_mismatch unknown_outcome counts_disagree",
        swap(5, b'"prev":"', b'"prev":"0'),
    ),
    (
        "edit-mac",
        "A line has another MAC, which only a later start of the writer looks at.",
        "",
        lines(lambda x: [x[0].replace(x[0][8:12], b"AAAA", 1), *x[1:]]),
    ),
    (
        "edit-frame",
        "A line has no MAC.",
        "malformed_line unknown_outcome counts_disagree",
        lines(lambda x: [*x[:4], b'{"record":' + x[4].partition(b'"record":')[2], *x[5:]]),
    ),
    (
        "edit-frame-space",
        "A line has a space before its record.",
        "malformed_line unknown_outcome counts_disagree",
        swap(5, b'"record":', b'"record": '),
    ),
    (
        "line-removed",
        "A line is missing.",
        "missing_records records_cut unknown_outcome counts_disagree",
        lines(lambda x: [*x[:4], *x[5:]]),
    ),
    ("tail-cut", "The last line is missing.", "records_cut no_end", lines(lambda x: x[:-1])),
    (
        "tail-cut-inside",
        "The file ends inside its last line.",
        "records_cut no_end torn_tail",
        lines(lambda x: [*x[:-1], x[-1][:-9]]),
    ),
    (
        "tail-cut-newline",
        "The last line has no line feed.",
        "records_cut no_end torn_tail",
        lines(lambda x: [*x[:-1], x[-1][:-1]]),
    ),
    (
        "line-doubled",
        "A line stands there twice.",
        "duplicate_record head_mismatch tail_unsealed",
        lines(lambda x: [*x[:2], x[1], *x[2:]]),
    ),
    (
        "lines-swapped",
        "Two lines stand in each other's place.",
        "missing_records out_of_order head_mismatch unknown_grant",
        lines(lambda x: [x[0], x[2], x[1], *x[3:]]),
    ),
    (
        "line-inserted",
        "A line that is no record stands before the last one.",
        "malformed_line head_mismatch out_of_order no_end tail_unsealed",
        lines(lambda x: [*x[:6], b"garbage\n", x[6]]),
    ),
    (
        "line-appended",
        "A line that is no record stands behind the last one.",
        "malformed_tail tail_unsealed",
        lines(lambda x: [*x, b"garbage\n"]),
    ),
    (
        "record-appended",
        "A copy of an earlier line stands behind the last one.",
        "out_of_order tail_unsealed",
        lines(lambda x: [*x, x[1]]),
    ),
    ("half-a-line-appended", "Half a line stands behind the last one.", "torn_tail", lines(lambda x: [*x, x[3][:40]])),
    (
        "line-feeds",
        "Every line ends with a carriage return as well.",
        "malformed_line " * 7 + "no_end",
        lines(lambda x: [line[:-1] + b"\r\n" for line in x]),
    ),
    (
        "stream-renamed",
        "The folder of a stream has another name.",
        WRONG + "stream_missing stream_unknown no_end",
        lambda content: moved(content, keep=False),
    ),
    (
        "stream-copied",
        "The folder of a stream is there a second time, under another name.",
        WRONG + "stream_unknown no_end",
        lambda content: moved(content, keep=True),
    ),
    ("ledger-removed", "No stream is there.", "stream_missing nothing_to_verify", lambda c: c.pop(stream_in(c))),
    ("log-removed", "No log is there.", "log_missing stream_unknown", lambda c: (c.pop(LOG), c.pop(NOTE))),
    ("checkpoint-removed", "No checkpoint is there.", "log_missing log_unsealed stream_unknown", gone(NOTE)),
    (
        "checkpoint-garbage",
        "The checkpoint is a line of text.",
        "bad_checkpoint log_unsealed stream_unknown",
        put(NOTE, b"garbage\n"),
    ),
    (
        "checkpoint-size",
        "The checkpoint states another size.",
        "bad_signature log_cut",
        lines(lambda x: [x[0], b"2\n", *x[2:]], NOTE),
    ),
    (
        "checkpoint-root",
        "The checkpoint states another root.",
        "bad_signature log_changed",
        lines(lambda x: [*x[:2], b"A" * 43 + b"=\n", *x[3:]], NOTE),
    ),
    (
        "checkpoint-origin",
        "The checkpoint states another origin.",
        "unknown_key wrong_origin",
        lines(lambda x: [b"other.example/log\n", *x[1:]], NOTE),
    ),
    ("log-cut", "The entry of the log is missing.", "log_cut stream_unknown", lines(lambda x: [], LOG)),
    (
        "log-changed",
        "The entry of the log has another root.",
        "log_changed head_mismatch",
        lines(lambda x: [x[0].replace(x[0][60:70], b"AAAAAAAAAA")], LOG),
    ),
    (
        "log-malformed",
        "A line that is no entry stands before the entry of the log.",
        "log_malformed",
        lines(lambda x: [b"garbage\n", *x], LOG),
    ),
    (
        "log-rejected",
        "A line that is no entry stands behind the entry of the log.",
        "log_rejected",
        lines(lambda x: [*x, b"garbage\n"], LOG),
    ),
    (
        "log-rejected-aside",
        "A start has moved foreign lines out of the log.",
        "log_rejected",
        put("log/rejected.jsonl", b"garbage\n"),
    ),
    ("log-torn", "The log ends inside a line.", "log_unsealed", lines(lambda x: [*x, x[0][:40]], LOG)),
    (
        "log-repeated",
        "The entry of the log stands behind it again.",
        "log_unsealed",
        lines(lambda x: [x[0], x[0]], LOG),
    ),
    (
        "trust-of-another",
        "The trust file names other keys.",
        "unknown_key unknown_issuer",
        put(
            "trust.json",
            TrustStore(
                (TrustedKey(STRANGER.public_key, "issuer"), TrustedKey(STRANGER.public_key, "recorder")),
                issuer=ISSUER_URI,
                origin=ORIGIN,
                file=FILE,
            ).to_json(),
        ),
    ),
)
"""On a task with one call."""


def segmented(content: Content, *, packed: bool = False) -> None:
    """Close a segment of the stream behind five lines."""
    name = stream_in(content)
    found = content[name].splitlines(keepends=True)
    first = b"".join(found[:5])
    place = name.replace("entries.jsonl", f"entries-{1:020}.jsonl")
    content[f"{place}.gz" if packed else place] = gzip.compress(first, mtime=0) if packed else first
    content[name] = b"".join(found[5:])


def part(content: Content, number: int) -> str:
    """Return a file of the stream that has segments: 0 the closed one, 1 the other."""
    return sorted(name for name in content if name.startswith("ledger/"))[number]


SEGMENTS: Final[tuple[tuple[str, str, str, Edit], ...]] = (
    ("segments", "A stream has a closed segment.", "", segmented),
    ("segments-packed", "A stream has a compressed segment.", "", lambda c: segmented(c, packed=True)),
    (
        "segments-both",
        "A segment is there twice, and the plain one counts.",
        "",
        lambda c: (segmented(c), c.update({part(c, 0) + ".gz": gzip.compress(b"garbage\n", mtime=0)})),
    ),
    (
        "segment-first-removed",
        "The closed segment is missing.",
        "missing_records records_cut intent_missing unknown_grant counts_disagree",
        lambda c: (segmented(c), c.pop(part(c, 0))),
    ),
    (
        "segment-last-removed",
        "The last file of the stream is missing.",
        "records_cut no_end unknown_outcome",
        lambda c: (segmented(c), c.pop(part(c, 1))),
    ),
    (
        "segment-cut",
        "A closed segment ends inside a line.",
        "malformed_line intent_missing counts_disagree",
        lambda c: (segmented(c), c.update({part(c, 0): c[part(c, 0)][:-20]})),
    ),
)
"""On a task with several calls."""


def pruned(signer: SigningKey = RECORDER, **changes: Any) -> World:
    """Return a stream whose first four records were pruned in the middle of a call."""
    world = clean_cases.small()
    return cut(world, 4, signer, **{"open": (world.read.id,), **changes})


def beside_pruned(*, call: bool) -> World:
    """Return a pruned stream beside another one, which has a record under a grant that is nowhere.

    Args:
        call: It is a call, and otherwise the end of one that began before a fork.
    """
    world = clean_cases.small()
    stream = world.ledger.stream()
    task = world.ledger.task(stream, "read", signer=STRANGER)
    if call:
        task.call("read")
        world.ledger.close(stream)
        return cut(world, 4, open=(world.read.id,))
    begun = Line({**task.said(), "id": world.ledger.id(), "action": {"tool": "read", "kind": "function"}})
    begun.record.update(decision=dict(ALLOWED), time={"start": str(world.ledger.ns)})
    task.outcome(begun)
    world.ledger.close(stream)
    return cut(world, 4, open=(world.read.id, begun.id))


def approved(*, before: bool) -> World:
    """Return a pruned stream with a call by an approval that is not there.

    Args:
        before: The task of the call began before the cut, and so may have been approved there.
    """
    ledger = Ledger()
    stream = ledger.stream()
    task = ledger.task(stream, "pay")
    grant, start = task.grant(), task.start()
    ruled = task.ruling("pay", "1800")
    if before:
        ruled.ask(), ruled.answer()
    else:
        task.end()
        task = ledger.task(stream, "pay")
        task.grant(), task.start()
        ruled = task.ruling("pay", "1800")
    paid = task.intent("pay", args="1800", decision=ruled.decision)
    out = task.outcome(paid)
    end, close = task.end(), ledger.close(stream)
    return cut(SimpleNamespace(**locals()), 5 if before else 4, open=())


CLOSER: Final = SigningKey.from_seed(b"\x33" * 32)
CLOSED_NS: Final = (BEGIN + 60) * 10**9


def left(
    sealed: int, *, signer: SigningKey = CLOSER, more: int = 0, entry: dict[str, Any] | None = None, **changes: Any
) -> World:
    """Return the stream of a process that was killed, and what a closer saw of it.

    Args:
        sealed: The number of records that its process sealed, of the six that it wrote.
        signer: Signs the closure.
        more: The number of records that the closer did not see.
        entry: Members of the entry of the closer.
        changes: Of what the closer says.
    """
    world = clean_cases.small()
    world.stream.remove(world.close)
    world.stream.sealed = [sealed] if sealed else []
    world.ledger.trust = world.ledger.trust.with_keys(
        (*world.ledger.trust.keys, TrustedKey(CLOSER.public_key, "closer", **(entry or {})))
    )
    leaves = [leaf_hash(data) for data, _ in world.stream.lines() if data is not None]
    size = len(leaves) - more
    facts = {"origin": ORIGIN, "stream": world.stream.id, "size": size, "root": root_of(leaves[:size]), "torn": 0}
    closure = Closure(**{**facts, "time_ns": CLOSED_NS, **changes})
    world.ledger.more[f"ledger/{world.stream.id}/closure"] = closure.signed(signer)
    return world


def _closures(cases: Cases, small: Case) -> None:
    what = "A closer saw the end of a stream whose process was killed"
    base = cases.clean("closed", f"{what}, with all records sealed.", left(6), "closed", base=small)
    for name, text, codes, world in (
        ("closed-tail", f"{what}, with two records after the last seal.", "closed_tail", left(4)),
        ("closed-unsealed", f"{what}, whose log commits to no record.", "closed_tail nothing_to_verify", left(0)),
        (
            "closed-before-more",
            "A record follows what a closer saw as the last.",
            "closed_tail after_closure",
            left(4, more=1),
        ),
        ("closed-before-seal", "The process sealed more than a closer saw.", "closed", left(6, more=2)),
        (
            "closure-other-records",
            "A closer names other records.",
            "bad_closure no_end tail_unsealed",
            left(4, root=bytes(32)),
        ),
        ("closure-too-long", "A closer names more records.", "bad_closure no_end tail_unsealed", left(4, size=7)),
        (
            "closure-other-stream",
            "The closure is about another stream.",
            "bad_closure no_end tail_unsealed",
            left(4, stream="AZq2l-gAcACAAAAAAAAAZw"),
        ),
        (
            "closure-other-log",
            "The closure is about another log.",
            "bad_closure no_end tail_unsealed",
            left(4, origin="agent-identity.example/other"),
        ),
        *(
            (f"closure-by-{who}", f"{text} signed the closure.", "closure_not_counted no_end tail_unsealed", world)
            for who, text, world in (
                ("stranger", "A stranger", left(4, signer=STRANGER)),
                ("recorder", "The recorder key, which is no closer,", left(4, signer=RECORDER)),
                ("revoked", "A closer whose key is revoked", left(4, entry={"revoked_since": BEGIN})),
                ("late", "A closer whose key is not valid any more", left(4, entry={"not_after": BEGIN})),
                ("other-closer", "A closer of another log", left(4, entry={"origin": "fleet.example/"})),
            )
        ),
    ):
        cases.clean(name, text, world, *codes.split(), base=base)
    cases.outside(
        base,
        "closure-changed",
        "The closure was changed.",
        "bad_closure no_end",
        lambda c: c.update({_closure(c): c[_closure(c)].replace(b'"torn":"0"', b'"torn":"9"')}),
    )
    cases.outside(
        base,
        "closure-malformed",
        "The closure is no note.",
        "bad_closure no_end",
        lambda c: c.update({_closure(c): b"closed\n"}),
    )
    cases.outside(base, "closure-removed", "The closure is missing.", "no_end", lambda c: c.pop(_closure(c)))


def _closure(content: Content) -> str:
    return next(name for name in content if name.endswith("/closure"))


def cut(world: World, gone: int, signer: SigningKey = RECORDER, **changes: Any) -> World:
    """Prune the first records of the stream of a world."""
    world.stream.sealed = [gone, len(world.stream)]
    content = world.ledger.content()
    name = stream_in(content)
    before = [leaf_hash(data) for data, _ in list(world.stream.lines())[:gone] if data is not None]
    tree = CompactRange()
    tree.extend(before)
    entry = world.ledger.head(world.stream.id, gone, root_of(before))
    tokens = (world.task.token,)
    facts: dict[str, Any] = {
        "origin": ORIGIN,
        "stream": world.stream.id,
        "size": gone,
        "last": before[-1],
        "peaks": tuple(tree.peaks),
        "log_size": 1,
        "log_root": leaf_hash(entry),
        "time_ns": world.ledger.ns,
        "kept": Kept.of(tokens),
    }
    statement = PruneStatement(**{**facts, **changes})
    folder = name.rpartition("/")[0]
    more = {
        name: b"".join(content[name].splitlines(keepends=True)[gone:]),
        f"{folder}/pruned": sign_pruned(statement, signer),
        f"{folder}/grants-{statement.kept.digest}.jsonl": grants_file(tokens),
    }
    world.ledger.more.update(more)
    world.folder, world.first = folder, content[name]
    return world


def grants_in(content: Content) -> str:
    """Return the file of the kept grants."""
    return next(name for name in content if "/grants-" in name)


def excerpted(start: dict[str, Any] | None = None, shown: Sequence[int] = (2, 3, 4, 5)) -> World:
    """Return an excerpt of a ledger: some records, and the leaf hashes of the others."""
    world = clean_cases.small()
    content = world.ledger.content()
    name = stream_in(content)
    out = []
    for number, (data, line) in enumerate(world.stream.lines(), 1):
        leaf = b64url_encode(leaf_hash(data or b"")).encode()
        out.append(line if number in shown else b'{"leaf":"%s"}\n' % leaf)
    part = {"size": "0", "end": "7", **(start or {})}
    parts = {world.stream.id: part}
    world.ledger.more.update(
        {name: b"".join(out[: int(part["end"])]), "excerpt.json": canonical({"streams": parts, "v": "1"})}
    )
    return world


def bundled() -> World:
    """Return a bundle."""
    world = clean_cases.small()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in world.ledger.content().items():
            bundle.writestr(zipfile.ZipInfo(f"evidence/{name}", (1980, 1, 1, 0, 0, 0)), content)
        bundle.writestr(zipfile.ZipInfo("README.txt", (1980, 1, 1, 0, 0, 0)), "A bundle.\n")
    content = {"trust.json": world.ledger.trust.to_json(), "bundle.zip": data.getvalue()}
    world.ledger.content = lambda: content
    return world


ROOT: Final = SigningKey.from_seed(b"\x21" * 32)


def certified(signer: SigningKey = ROOT, **changes: Any) -> World:
    """Return a ledger whose keys a root of the trust file has certified."""
    claims: dict[str, Any] = {
        "exp": BEGIN + 86_400,
        "issuer": {"key": ISSUER.public_key.to_jwk(), "uri": ISSUER_URI},
        "nbf": BEGIN,
        "origin": ORIGIN,
        "principals": ["human"],
        "recorder": RECORDER.public_key.to_jwk(),
        **changes,
    }
    ledger = Ledger()
    token = sign_compact({"kid": ROOT.public_key.thumbprint, "typ": CERTIFICATE_TYPE}, claims, signer)
    stream = ledger.stream(certificate=token)
    task = ledger.task(stream, "read").open()
    task.call("read")
    task.end()
    ledger.close(stream)
    ledger.trust = TrustStore((TrustedKey(ROOT.public_key, "root", origin="agent-identity.example/"),), file=FILE)
    return SimpleNamespace(ledger=ledger, stream=stream)


CERTIFIED: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    ("certified", "A root certified the keys of the ledger.", "valid_by_own_clock", {}),
    (
        "certificate-ended",
        "The certificate had ended before the first record.",
        "key_not_valid_then key_not_valid_then unknown_issuer valid_by_own_clock",
        {"nbf": BEGIN - 86_400, "exp": BEGIN - 1},
    ),
    (
        "certificate-of-another-log",
        "The certificate is for another log.",
        "wrong_origin valid_by_own_clock",
        {"origin": "agent-identity.example/other"},
    ),
    (
        "certificate-for-services",
        "The certificate is for tasks of services only.",
        "bad_grant valid_by_own_clock",
        {"principals": ["service"]},
    ),
    (
        "certificate-by-stranger",
        "A stranger signed the certificate.",
        "certificate_not_counted unknown_key unknown_issuer",
        {"signer": STRANGER},
    ),
    (
        "certificate-too-long",
        "The certificate is valid for longer than 30 days.",
        "certificate_not_counted unknown_key unknown_issuer",
        {"exp": BEGIN + 31 * 86_400},
    ),
)


KEY: Final = bytes(range(100, 132))


def keyed(arguments: dict[str, Any]) -> str:
    """Return the digest of arguments under the key of their task."""
    return b64url_encode(hmac.digest(KEY, canonical(arguments), "sha256"))


def disclosed(arguments: dict[str, Any], *, shown: dict[str, Any] | None = None, **more: Any) -> World:
    """Return a task with a payment whose arguments are disclosed beside the ledger."""
    ledger = Ledger()
    stream = ledger.stream()
    scope = Scope("pay", invoice=OneOf("INV-41", "INV-42"), amount=Range(max=200))
    limits = (Limit.sum("pay", "amount", 150),)
    task = ledger.task(stream, scope=scope, limits=limits).open()
    args = {} if more.get("bare") else {"args": keyed(arguments)}
    pay = task.intent("pay", action={**args, "names": ["amount:number", "invoice:string"]})
    out = task.outcome(pay)
    task.end()
    close = ledger.close(stream)
    entries = [{"name": name, "value": value} for name, value in sorted((shown or arguments).items())]
    file = {"disclosure": {"arguments": entries, "record": more.get("record", out.id)}, "v": "1"}
    file["key"] = b64url_encode(KEY)
    ledger.more["disclosure.json"] = more.get("raw") or canonical(file) + b"\n"
    return SimpleNamespace(**locals())


GOOD: Final = {"amount": 120, "invoice": "INV-42"}
DISCLOSED: Final[tuple[tuple[str, str, str, Callable[[], World]], ...]] = (
    ("disclosed", "The disclosed arguments are those of the call, and within its grant.", "", lambda: disclosed(GOOD)),
    (
        "disclosed-others",
        "The disclosed arguments are not those of the call.",
        "other_arguments",
        lambda: disclosed(GOOD, shown={**GOOD, "amount": 12}),
    ),
    (
        "disclosed-outside",
        "A disclosed argument of a call that was allowed is outside the grant.",
        "argument_outside_grant",
        lambda: disclosed({**GOOD, "invoice": "INV-99"}),
    ),
    (
        "disclosed-sum",
        "The disclosed amount exceeds a limit on the sum of the task.",
        "limit_exceeded",
        lambda: disclosed({**GOOD, "amount": 180}),
    ),
    (
        "disclosed-without-digest",
        "The record that a disclosure names has no digest of arguments.",
        "no_arguments",
        lambda: disclosed(GOOD, bare=True),
    ),
    (
        "disclosed-nowhere",
        "The record that a disclosure names is not there.",
        "disclosed_record_missing",
        lambda: disclosed(GOOD, record="AZq2l-gAcACAAAAAAAAAZw"),
    ),
    (
        "disclosed-malformed",
        "The file of the disclosure is none.",
        "bad_disclosure",
        lambda: disclosed(GOOD, raw=b"{}\n"),
    ),
)


def _salted() -> World:
    world = disclosed(GOOD)
    for line in (world.pay, world.out):
        line.record["action"]["args"] = "s" + digest("arguments")
    return world


def build(bases: dict[str, Case]) -> Cases:
    """Return the cases."""
    cases = Cases()
    for of, rows in (("small", SMALL), ("paying", SEGMENTS)):
        for name, what, codes, edit in rows:
            cases.outside(bases[of], name, what, codes, edit)
    small = bases["small"]
    cases.outside(
        small,
        "stream-of-another",
        "The stream of another ledger of the same keys stands in the place of this one.",
        "records_cut",
        lambda c: c.update({stream_in(c): bases["lone"].content[stream_in(c)]}),
    )
    suspended = bases["suspended"]
    cases.outside(
        suspended,
        "second-stream-removed",
        "The second stream is missing.",
        "stream_missing",
        lambda c: c.pop(stream_in(c, 1)),
    )
    cases.outside(
        suspended,
        "first-stream-removed",
        "The first stream is missing, with the question that was answered in the second.",
        "stream_missing approval_not_checked flow_not_checked",
        lambda c: c.pop(stream_in(c)),
    )
    nothing = lambda c: (c.pop(LOG), c.pop(NOTE), c.pop(stream_in(c)), c.update({"log/lock": b""}))  # noqa: E731
    cases.outside(small, "nothing", "Neither a stream nor a log is there.", "no_checkpoint nothing_to_verify", nothing)
    alone = (".",)
    cases.outside(
        small, "trust-beside", "The trust file lies beside the evidence, and nobody gave one.", "", dict, alone
    )
    cases.outside(small, "trust-none", "No trust file is there.", "no_trust", gone("trust.json"), alone)
    cases.outside(
        small,
        "trust-garbage",
        "The trust file beside the evidence is none.",
        "bad_trust no_trust",
        put("trust.json", b"{}"),
        alone,
    )
    _partial(cases, small)
    _closures(cases, small)
    for name, what, codes, changes in CERTIFIED:
        cases.clean(name, what, certified(**changes), *codes.split(), base=small)
    options = (*USUAL, "--disclosures", "disclosure.json")
    for name, what, codes, make in DISCLOSED:
        cases.clean(name, what, make(), *codes.split(), base=small, verify=options)
    cases.clean(
        "disclosed-otherwise",
        "The disclosure is of the form for one digest, and the record commits to each argument.",
        _salted(),
        "not_disclosable",
        base=small,
        verify=options,
    )
    return cases


def _partial(cases: Cases, small: Case) -> None:
    base = cases.clean("pruned", "The first records of a stream were pruned.", pruned(), "pruned", base=small)
    for name, what, codes, world in (
        (
            "pruned-approval",
            "The approval of a call was pruned with the beginning of its task.",
            "pruned approval_not_checked",
            approved(before=True),
        ),
        (
            "pruned-no-approval",
            "A call of a task that began after the pruned records names an approval that is not there.",
            "pruned approval_missing",
            approved(before=False),
        ),
        (
            "pruned-beside-invented-grant",
            "Beside a pruned stream, a call ran under a grant that is nowhere, and that a pruning would have kept.",
            "pruned unknown_grant",
            beside_pruned(call=True),
        ),
        (
            "pruned-beside-fork",
            "Beside a pruned stream, a forked child ended a call whose intent and grant were pruned.",
            "pruned chain_not_checked",
            beside_pruned(call=False),
        ),
        (
            "pruned-by-stranger",
            "A stranger signed the statement about pruned records.",
            "pruned unknown_key chain_not_checked",
            pruned(STRANGER),
        ),
        (
            "pruned-other-stream",
            "The statement about pruned records is about another stream.",
            "bad_pruning missing_records records_cut intent_missing unknown_grant counts_disagree",
            pruned(stream="AZq2l-gAcACAAAAAAAAAZw"),
        ),
        (
            "pruned-too-many",
            "The statement covers more records than the log commits to.",
            "bad_pruning missing_records records_cut intent_missing unknown_grant counts_disagree",
            pruned(size=8, peaks=(bytes(32),)),
        ),
        (
            "pruned-other-records",
            "The statement has the tree of other records.",
            "pruned head_mismatch",
            pruned(peaks=(bytes(32),)),
        ),
        (
            "pruned-other-last",
            "The statement names another last record.",
            "pruned changed_record",
            pruned(last=bytes(32)),
        ),
        (
            "pruned-intent-not-open",
            "The statement does not name the intent whose outcome remained.",
            "pruned intent_missing",
            pruned(open=()),
        ),
    ):
        cases.clean(name, what, world, *codes.split(), base=base)
    cases.outside(
        base,
        "kept-grants-missing",
        "The grants that pruning kept are missing.",
        "pruned kept_grants_missing chain_not_checked",
        lambda c: c.pop(grants_in(c)),
    )
    cases.outside(
        base,
        "kept-grants-changed",
        "The grants that pruning kept are others.",
        "pruned kept_grants_changed chain_not_checked",
        lambda c: c.update({grants_in(c): c[grants_in(c)].replace(b"ey", b"eY", 1)}),
    )
    cases.outside(
        base,
        "pruned-statement-changed",
        "The statement about pruned records was changed.",
        "bad_pruning missing_records records_cut intent_missing unknown_grant counts_disagree",
        lambda c: c.update({_statement(c): c[_statement(c)].replace(b'"count":"1"', b'"count":"2"', 1)}),
    )
    cases.outside(
        base,
        "pruned-statement-removed",
        "The statement about pruned records is missing.",
        "missing_records records_cut intent_missing unknown_grant counts_disagree",
        lambda c: c.pop(_statement(c)),
    )
    cases.outside(
        base,
        "records-before-start",
        "A file lies before the beginning of a pruned stream, with other records.",
        "pruned records_before_start",
        lambda c: c.update({_first_segment(c, 3): b"".join(reversed(_firsts(small)[2:]))}),
    )
    cases.outside(
        base,
        "pruned-records-left",
        "A killed pruning left the last pruned records.",
        "pruned",
        lambda c: c.update({_first_segment(c, 3): b"".join(_firsts(small)[2:])}),
    )
    one = cases.clean(
        "excerpt", "An excerpt shows some records, and the hashes of the others.", excerpted(), "excerpt", base=small
    )
    cases.clean(
        "excerpt-without-grant",
        "An excerpt does not show the grant of its records.",
        excerpted(shown=(4, 5)),
        "excerpt",
        "chain_not_checked",
        base=one,
    )
    cases.clean(
        "excerpt-end",
        "An excerpt ends where the log has no head.",
        excerpted({"end": "6"}, (2, 3, 4, 5)),
        "excerpt",
        "bad_excerpt",
        "stream_unknown",
        "nothing_to_verify",
        base=one,
    )
    cases.outside(
        one,
        "excerpt-garbage",
        "The file of an excerpt is none.",
        "excerpt bad_excerpt malformed_line malformed_line malformed_line no_end",
        put("excerpt.json", b"{}"),
    )
    cases.outside(
        one,
        "excerpt-changed",
        "An excerpt shows a changed record.",
        "excerpt changed_record head_mismatch bad_excerpt claims_differ",
        swap(4, b"alice@", b"mallo@"),
    )
    cases.outside(
        one,
        "excerpt-other-hash",
        "An excerpt has the hash of another record for one that it does not show.",
        "excerpt head_mismatch bad_excerpt",
        lines(lambda x: [*x[:6], b'{"leaf":"%s"}\n' % digest_of(b"x").encode()]),
    )
    verify = ("bundle.zip", "--trust", "trust.json")
    cases.clean("bundle", "A bundle holds the evidence.", bundled(), verify=verify)


def _statement(content: Content) -> str:
    return next(name for name in content if name.endswith("/pruned"))


def _first_segment(content: Content, first: int = 1) -> str:
    return _statement(content).replace("/pruned", f"/entries-{first:020}.jsonl")


def _firsts(small: Case) -> Lines:
    return small.content[stream_in(small.content)].splitlines(keepends=True)[:4]
