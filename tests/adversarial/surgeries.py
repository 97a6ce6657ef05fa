"""Surgery on the files of a ledger: what is done, at which record, and what the verifier must say.

Every row of :data:`ROWS` is one kind of surgery. It is done at each record (or entry of the log) of a ledger that
holds every kind of record, with the ledger's own MAC key where a row says so, never with its recorder key.
``python tests/adversarial/surgeries.py`` does all of them everywhere.
"""

# ruff: noqa: T201  It is a program as well.

import argparse
import base64
import contextlib
import importlib.util
import os
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from agent_identity import Report, Verifier
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import bytes_of_id, id_of
from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity._ledger.transparency.log import Head
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_line, stream_line, stream_parts
from agent_identity._storage.mac import LedgerKey, load_ledger_key, log_message
from agent_identity._storage.os_files import Files
from agent_identity._verify.report.report import Problem
from agent_identity.identity import SigningKey

_spec = importlib.util.spec_from_file_location("clean_ledgers", Path(__file__).with_name("clean_ledgers.py"))
assert _spec is not None
assert _spec.loader is not None
clean = sys.modules.setdefault("clean_ledgers", importlib.util.module_from_spec(_spec))
_spec.loader.exec_module(clean)

STRANGER: Final = SigningKey.from_seed(b"s" * 32)
LOG: Final = "log/entries.jsonl"
NOTE: Final = "log/checkpoint"
FORGED_ID: Final = id_of(1_764_000_000_000_000_000, b"f00df00d")


class Special(NamedTuple):
    """What is no file of bytes: a link to a copy, a folder or a pipe."""

    kind: str
    data: bytes


Changed = dict[str, bytes | Special | None]
"""What a surgery leaves of the files that it touches; ``None``: nothing."""


def build(
    directory: Path,
    seed: int,
    *,
    signer: SigningKey = clean.RECORDER,
    origin: str = clean.ORIGIN,
) -> dict[str, bytes]:
    """Make a ledger with every kind of record in three streams, one killed; return an earlier state."""
    clean.without_threads()
    writer = clean.Writer(directory, random.Random(seed), signer=signer, origin=origin)  # noqa: S311
    first = writer.ledger
    for kind in clean.OTHERS[:3]:
        writer.other(kind)
    writer.task(2)
    for kind in ("examination", "trust"):
        writer.other(kind)
    writer.task(0, marked=True)
    first.seal()
    earlier = files_in(directory)
    writer.approval()
    writer.other("unattributed")
    first.seal()
    writer.start()
    writer.task(1)
    writer.ledger.seal()
    writer.other("policy")
    writer.kill(b'{"mac":"AA')
    writer.start()
    writer.other("erasure")
    writer.task(3)
    writer.ledger.seal()
    writer.call({"attribution": "none"}, [0, 0])
    writer.close()
    return earlier


@dataclass(frozen=True)
class Patient:
    """A ledger and its earlier and foreign relatives, in memory."""

    files: Mapping[str, bytes]
    earlier: Mapping[str, bytes]
    foreign: Mapping[str, bytes]
    directory: Path

    @property
    def streams(self) -> list[str]:
        """Its streams in the order of their start."""
        return sorted({name.split("/")[1] for name in self.files if name.startswith("ledger/")}, key=bytes_of_id)


@dataclass(frozen=True)
class Place:
    """Where the knife is: a record of a stream, counted from 0, or an entry of the log."""

    patient: Patient
    stream: str
    k: int
    rng: random.Random

    @property
    def path(self) -> str:
        """The file of the stream."""
        return f"ledger/{self.stream}/entries.jsonl"

    @property
    def lines(self) -> list[bytes]:
        """The lines of the stream, a torn one included."""
        return self.patient.files[self.path].splitlines(keepends=True)

    @property
    def whole(self) -> list[bytes]:
        """The whole lines of the stream."""
        return [line for line in self.lines if line.endswith(b"\n")]

    @property
    def log(self) -> list[bytes]:
        """The lines of the log."""
        return self.patient.files[LOG].splitlines(keepends=True)

    def other_stream(self) -> str:
        """Another stream of the ledger."""
        names = self.patient.streams
        return names[(names.index(self.stream) + 1) % len(names)]

    def lines_of(self, stream: str) -> list[bytes]:
        """The lines of another stream."""
        return self.patient.files[f"ledger/{stream}/entries.jsonl"].splitlines(keepends=True)

    def put(self, lines: list[bytes]) -> Changed:
        """Return the stream with other lines."""
        return {self.path: b"".join(lines)}

    def instead(self, line: bytes) -> Changed:
        """Return the stream with another line here."""
        return self.put([*self.lines[: self.k], line, *self.lines[self.k + 1 :]])

    def key(self) -> LedgerKey:
        """The MAC key of the ledger."""
        return load_ledger_key(Files(), Layout.of(self.patient.directory).ledger_key)


def record_of(line: bytes) -> dict:
    """Return the record of a line."""
    return orjson.loads(line)["record"]


def bytes_of(line: bytes) -> bytes:
    """Return the bytes of the record of a line."""
    parts = stream_parts(line.rstrip(b"\n"))
    assert parts is not None
    return parts[0]


def data_of(record: object) -> bytes:
    """Return canonical bytes."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def detail_in(line: bytes) -> bytes | None:
    """Return the bytes of the detail of a line, if it is whole and has one."""
    parts = stream_parts(line.rstrip(b"\n"))
    return parts[2] if parts else None


def record_at(line: bytes) -> int:
    """Return where the record of a line begins."""
    return len(line.rstrip(b"\n")) - 1 - len(bytes_of(line)) if line.endswith(b"}}\n") else 62


def framed(at: Place, data: bytes | None = None, *, mac: bytes = bytes(32)) -> bytes:
    """Return the line here with another record or MAC, without knowledge of the MAC key; its detail stays."""
    line = at.lines[at.k]
    return stream_line(mac, bytes_of(line) if data is None else data, detail_in(line))


def maced(at: Place, data: bytes, detail: bytes | None = None) -> bytes:
    """Return a line as whoever stole the MAC key writes it."""
    return stream_line(at.key().stream_mac(at.stream).of(data), data, detail)


def rehashed(at: Place, records: list[dict], *, keyed: bool) -> Changed:
    """Number and link records anew."""
    prev, out = None, []
    details = {record_of(line)["id"]: detail_in(line) for line in at.whole}
    for number, record in enumerate(records, 1):
        stream = {"id": at.stream, "seq": str(number), **({"prev": prev} if prev else {})}
        data = data_of({**record, "stream": stream})
        prev = b64url_encode(leaf_hash(data))
        detail = details.get(record["id"])
        out.append(maced(at, data, detail) if keyed else stream_line(bytes(32), data, detail))
    return at.put([*out, *at.lines[len(at.whole) :]])


def leaves(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path to each fact of a record."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def edited(at: Place, *, keep_place: bool = False) -> dict:
    """Return the record with one fact, by chance, of another value and the same form."""
    record = record_of(at.lines[at.k])
    paths = [path for path in leaves(record) if not (keep_place and path[0] in ("stream", "v", "kind"))]
    path = at.rng.choice(paths)
    holder = record
    for step in path[:-1]:
        holder = holder[step]
    value = holder[path[-1]]
    other = {"allow": "block", "block": "allow", "success": "error", "enforce": "monitor", "human": "service"}
    flipped = ("1" if value[0] != "1" else "2") + value[1:]
    holder[path[-1]] = other.get(value, flipped)
    return record


def rebuilt(at: Place, changed: Changed, signer: SigningKey, *, as_ours: bool = False) -> Changed:
    """Write the log anew over changed streams, and sign it with a key that is not the ledger's."""
    files = {**at.patient.files, **changed}
    entries = []
    for stream in at.patient.streams:
        lines = [
            line for line in files[f"ledger/{stream}/entries.jsonl"].splitlines(keepends=True) if line[-1:] == b"\n"
        ]
        leaf = [leaf_hash(bytes_of(line)) for line in lines]
        entries.append(Head(stream, len(leaf), root_of(leaf), 1).to_entry(clean.ORIGIN))
    text = Checkpoint(clean.ORIGIN, len(entries), root_of(map(leaf_hash, entries)))
    note = sign_note(text.to_text(), clean.ORIGIN, signer)
    if as_ours:  # Under the key id of the ledger's own key.
        ours = at.patient.files[NOTE].rsplit(b" ", 1)[1].strip()
        forged = bytearray(base64.b64decode(note.rsplit(b" ", 1)[1].strip()))
        forged[:4] = base64.b64decode(ours)[:4]
        note = note.rsplit(b" ", 1)[0] + b" " + base64.b64encode(bytes(forged)) + b"\n"
    return {**changed, LOG: b"".join(log_line(b"\0" * 32, entry) for entry in entries), NOTE: note}


# What may be found. A record that was changed is missed by the record behind it, or by the head over it.
CHANGED: Final = frozenset({"changed_record", "head_mismatch"})
FORM: Final = frozenset({"malformed_record"})
LINE: Final = frozenset({"malformed_line"})
ORDER: Final = frozenset({"missing_records", "out_of_order", "duplicate_record", "head_mismatch", "records_cut"})
ANY: Final = frozenset({*CHANGED, *FORM, *LINE, *ORDER, "wrong_stream", "after_end"})


class Row(NamedTuple):
    """One kind of surgery.

    Attributes:
        operate: Does it at a place; ``None`` where it would change nothing.
        code: The exit code of the verification.
        found: Problems of which one must be among the findings.
        near: How the findings must point: ``record`` at it, ``stream`` at its stream, ``any`` at the log or the whole.
    """

    operate: Callable[[Place], Changed | None]
    code: int
    found: frozenset[str]
    near: str = "record"


def text_of(at: Place, old: bytes, new: bytes) -> Changed | None:
    """Spell a part of the record in another way."""
    line = at.lines[at.k]
    at_record = line.index(b'"record":')
    changed = line[:at_record] + line[at_record:].replace(old, new, 1)
    return None if changed == line else at.instead(changed)


def flip(at: Place, start: int, stop: int) -> Changed:
    """Flip a bit of a byte between two places of the line."""
    line = bytearray(at.lines[at.k])
    place = at.rng.randrange(start, stop)
    line[place] ^= 1 << at.rng.randrange(7)
    if line[place] == 10:
        line[place] ^= 0x20
    return at.instead(bytes(line))


def with_member(at: Place, change: Callable[[dict], object]) -> Changed:
    """Change the record as an object."""
    record = record_of(at.lines[at.k])
    change(record)
    return at.instead(framed(at, data_of(record)))


def with_detail(at: Place, change: Callable[[dict], dict | None]) -> Changed | None:
    """Change the detail of the line as an object, with the MAC of the line; ``None`` where it has no detail."""
    line = at.lines[at.k]
    detail = detail_in(line)
    if detail is None:
        return None
    facts = change(orjson.loads(detail))
    return at.instead(maced(at, bytes_of(line), None if facts is None else data_of(facts)))


def detail_added(at: Place) -> Changed | None:
    """Give the line a detail, with the MAC of the line, where its record commits to none."""
    line = at.lines[at.k]
    if detail_in(line) is not None:
        return None
    return at.instead(maced(at, bytes_of(line), data_of({"_salt": "A" * 22, "policy": "open"})))


def inserted(at: Place, line: bytes) -> Changed:
    """Insert a line before the record."""
    return at.put([*at.lines[: at.k], line, *at.lines[at.k :]])


def forged(at: Place, kind: str, body: dict, *, truncate: bool = False) -> Changed | None:
    """Insert a forged record before this one, all behind it numbered and linked anew, with the MAC key."""
    if not at.k:
        return None
    records = [record_of(line) for line in at.whole]
    new = {"v": records[at.k]["v"], "id": FORGED_ID, "kind": kind, "time": records[at.k]["time"], **body}
    rest = [] if truncate else records[at.k :]
    return rehashed(at, [*records[: at.k], new, *rest], keyed=True)


def forged_grant(at: Place) -> Changed | None:
    """Insert a grant of another issuer, for a task of the ledger."""
    of_task = next((r for r in map(record_of, at.whole) if "chain" in r), None)
    if of_task is None:
        return None
    names = ("task", "principal", "agent", "chain")
    token = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJtYWxsb3J5In0.AAAA"
    return forged(at, "grant", {**{name: of_task[name] for name in names}, "grant": {"token": token}})


def swapped(at: Place) -> Changed | None:
    """Swap the record with the next one."""
    lines = at.lines
    if at.k + 1 >= len(at.whole):
        return None
    lines[at.k], lines[at.k + 1] = lines[at.k + 1], lines[at.k]
    return at.put(lines)


def mac_of(line: bytes) -> bytes:
    """Return the text of the MAC of a line."""
    return line[record_at(line) - 54 : record_at(line) - 11]


def with_mac(line: bytes, mac: bytes) -> bytes:
    """Return a line with the text of another MAC."""
    return line[: record_at(line) - 54] + mac + line[record_at(line) - 11 :]


def swapped_macs(at: Place) -> Changed | None:
    """Swap the MACs of two records."""
    lines = at.lines
    if at.k + 1 >= len(at.whole):
        return None
    one, two = lines[at.k], lines[at.k + 1]
    lines[at.k], lines[at.k + 1] = with_mac(one, mac_of(two)), with_mac(two, mac_of(one))
    return at.put(lines)


def moved_to_another_stream(at: Place) -> Changed:
    """Take the record out here and put it at the end of another stream."""
    line, other = at.lines[at.k], at.other_stream()
    gone = at.put([*at.lines[: at.k], *at.lines[at.k + 1 :]])
    return {**gone, f"ledger/{other}/entries.jsonl": b"".join([*at.lines_of(other), line])}


def dropped(at: Place) -> Changed:
    return at.put([*at.lines[: at.k], *at.lines[at.k + 1 :]])


def deleted_and_rehashed(at: Place, *, keyed: bool) -> Changed | None:
    records = [record_of(line) for line in at.whole]
    if not at.k:
        return None
    return rehashed(at, [*records[: at.k], *records[at.k + 1 :]], keyed=keyed)


def edited_and_rehashed(at: Place, *, keyed: bool) -> Changed:
    records = [record_of(line) for line in at.whole]
    records[at.k] = edited(at, keep_place=True)
    return rehashed(at, records, keyed=keyed)


def of_stranger(at: Place, *, as_ours: bool) -> Changed:
    """Date the record otherwise, with the MAC key, and sign it all with a key that is not the ledger's."""
    records = [record_of(line) for line in at.whole]
    time = records[at.k]["time"]
    time["start"] = str(int(time["start"]) + 1)
    return rebuilt(at, rehashed(at, records, keyed=True), STRANGER, as_ours=as_ours)


def foreign_line(at: Place) -> bytes:
    """Return a line of the other organisation."""
    name = next(name for name in at.patient.foreign if name.endswith("entries.jsonl") and name.startswith("ledger/"))
    lines = at.patient.foreign[name].splitlines(keepends=True)
    return lines[at.k % len(lines)]


RECORDS: Final[dict[str, Row]] = {
    # The content of a record.
    "edit a fact": Row(lambda at: at.instead(framed(at, data_of(edited(at)))), 1, ANY),
    "edit a fact, with the MAC key": Row(
        lambda at: at.instead(maced(at, data_of(edited(at)), detail_in(at.lines[at.k]))), 1, ANY
    ),
    "edit a fact and hash the rest anew": Row(lambda at: edited_and_rehashed(at, keyed=False), 1, ANY, "seal"),
    "the same with the MAC key": Row(lambda at: edited_and_rehashed(at, keyed=True), 1, ANY, "seal"),
    "the same, signed by a stranger": Row(
        lambda at: of_stranger(at, as_ours=False), 2, frozenset({"unknown_key"}), "any"
    ),
    "the same, signed under our key id": Row(
        lambda at: of_stranger(at, as_ours=True), 1, frozenset({"bad_signature"}), "any"
    ),
    "take a member away": Row(lambda at: with_member(at, lambda r: r.pop(at.rng.choice(sorted(r)))), 1, FORM | CHANGED),
    "add a member": Row(lambda at: with_member(at, lambda r: r.update(note="x")), 1, FORM),
    "add a member to the time": Row(lambda at: with_member(at, lambda r: r["time"].update(zone="UTC")), 1, FORM),
    "change the kind": Row(
        lambda at: with_member(at, lambda r: r.update(kind="policy" if r["kind"] != "policy" else "grant")), 1, FORM
    ),
    "claim another version": Row(lambda at: with_member(at, lambda r: r.update(v="2")), 1, FORM),
    "claim another stream": Row(
        lambda at: with_member(at, lambda r: r["stream"].update(id=FORGED_ID)), 1, frozenset({"wrong_stream"})
    ),
    "claim a huge place": Row(
        lambda at: with_member(at, lambda r: r["stream"].update(seq="9" * 19)), 1, FORM | {"missing_records"}
    ),
    "claim a place beyond all numbers": Row(
        lambda at: with_member(at, lambda r: r["stream"].update(seq="9" * 400)), 1, FORM
    ),
    "put a number for its text": Row(lambda at: text_of(at, b'"v":"1"', b'"v":1'), 1, FORM),
    "put a number of 400 digits": Row(lambda at: text_of(at, b'"v":"1"', b'"v":' + b"9" * 400), 1, FORM),
    "put a number in exponents": Row(lambda at: text_of(at, b'"v":"1"', b'"v":1e0'), 1, FORM),
    "put NaN": Row(lambda at: text_of(at, b'"v":"1"', b'"v":NaN'), 1, FORM),
    "put null": Row(lambda at: text_of(at, b'"v":"1"', b'"v":null'), 1, FORM),
    "nest deeply": Row(lambda at: text_of(at, b'"v":"1"', b'"v":' + b"[" * 900 + b"]" * 900), 1, FORM),
    # The spelling of a record.
    "a space behind a colon": Row(lambda at: text_of(at, b'"kind":', b'"kind": '), 1, FORM),
    "a tab before the record": Row(lambda at: text_of(at, b'"record":{', b'"record":\t{'), 1, LINE),
    "a space at the end of the line": Row(lambda at: at.instead(at.lines[at.k][:-1] + b" \n"), 1, LINE),
    "a space at the start of the line": Row(lambda at: at.instead(b" " + at.lines[at.k]), 1, LINE),
    "a Windows line end": Row(lambda at: at.instead(at.lines[at.k][:-1] + b"\r\n"), 1, LINE),
    "a byte order mark": Row(lambda at: at.instead(b"\xef\xbb\xbf" + at.lines[at.k]), 1, LINE),
    "a NUL at the end": Row(lambda at: at.instead(at.lines[at.k][:-1] + b"\0\n"), 1, LINE),
    "a NUL in a text": Row(lambda at: text_of(at, b'"kind":"', b'"kind":"\0'), 1, FORM),
    "an escaped letter": Row(lambda at: text_of(at, b'"kind":', b'"\\u006bind":'), 1, FORM),
    "an escaped slash or dash": Row(lambda at: text_of(at, b'"id":"A', b'"id":"\\u0041'), 1, FORM),
    "a lone surrogate": Row(lambda at: text_of(at, b'"kind":"', b'"kind":"\\ud800'), 1, FORM),
    "bytes that are no UTF-8": Row(lambda at: text_of(at, b'"kind":"', b'"kind":"\xff\xfe'), 1, FORM),
    "a letter that looks the same": Row(lambda at: text_of(at, b'"kind":"', '"kind":"\u0430'.encode()), 1, FORM),
    "a member twice": Row(lambda at: text_of(at, b'"v":"1"', b'"v":"1","v":"1"'), 1, FORM),
    "a member twice, the first one false": Row(lambda at: text_of(at, b'"id":"', b'"id":"mallory","id":"'), 1, FORM),
    "members in another order": Row(
        lambda at: at.instead(framed(at, orjson.dumps(dict(reversed(record_of(at.lines[at.k]).items()))))), 1, FORM
    ),
    "two members in upper case": Row(lambda at: text_of(at, b'"id":"', b'"ID":"'), 1, FORM),
    # Bytes of the line.
    "flip a bit of the record": Row(
        lambda at: flip(at, record_at(at.lines[at.k]) + 1, len(at.lines[at.k]) - 3), 1, ANY
    ),
    "flip a bit of the frame": Row(
        lambda at: flip(at, record_at(at.lines[at.k]) - 11, record_at(at.lines[at.k])), 1, LINE
    ),
    "write the MAC in hex": Row(lambda at: at.instead(with_mac(at.lines[at.k], b"a" * 64)), 1, LINE),
    "put another MAC": Row(lambda at: at.instead(framed(at, mac=bytes(32))), 0, frozenset()),
    "swap two MACs": Row(swapped_macs, 0, frozenset()),
    "tear the line": Row(
        lambda at: at.instead(at.lines[at.k][: at.rng.randrange(1, len(at.lines[at.k]) - 1)]), 1, LINE | {"records_cut"}
    ),
    "join the line with the next": Row(lambda at: at.instead(at.lines[at.k][:-1]), 1, LINE | {"records_cut"}),
    "break the line in two": Row(lambda at: at.instead(at.lines[at.k][:65] + b"\n" + at.lines[at.k][65:]), 1, LINE),
    "an empty line before it": Row(lambda at: inserted(at, b"\n"), 1, LINE),
    "garbage before it": Row(lambda at: inserted(at, bytes(range(11, 250)) + b"\n"), 1, LINE),
    "a line of 5 MiB before it": Row(lambda at: inserted(at, b"x" * (5 << 20) + b"\n"), 1, LINE),
    # The detail of an outcome.
    "take the detail away": Row(lambda at: with_detail(at, lambda _: None), 1, frozenset({"detail_missing"})),
    "add a detail": Row(detail_added, 1, frozenset({"detail_uncommitted"})),
    "change the detail": Row(
        lambda at: with_detail(at, lambda facts: {**facts, "policy": "open"}), 1, frozenset({"detail_mismatch"})
    ),
    "change the salt of the detail": Row(
        lambda at: with_detail(at, lambda facts: {**facts, "_salt": "A" * 22}), 1, frozenset({"detail_mismatch"})
    ),
    "add a member to the detail": Row(
        lambda at: with_detail(at, lambda facts: {**facts, "note": "x"}), 1, frozenset({"detail_mismatch"})
    ),
    # Order and number.
    "delete": Row(dropped, 1, ORDER),
    "delete and hash the rest anew": Row(lambda at: deleted_and_rehashed(at, keyed=False), 1, ORDER, "seal"),
    "delete and hash anew, with the MAC key": Row(lambda at: deleted_and_rehashed(at, keyed=True), 1, ORDER, "seal"),
    "repeat in place": Row(lambda at: inserted(at, at.lines[at.k]), 1, frozenset({"duplicate_record"})),
    "repeat at the end": Row(
        lambda at: at.put([*at.whole, at.lines[at.k]]) if at.k + 1 < len(at.whole) else None,
        1,
        frozenset({"out_of_order"}),
    ),
    "swap with the next": Row(swapped, 1, ORDER),
    "move to the end": Row(
        lambda at: (
            at.put([*at.whole[: at.k], *at.whole[at.k + 1 :], at.lines[at.k]]) if at.k + 1 < len(at.whole) else None
        ),
        1,
        ORDER,
    ),
    "move to another stream": Row(moved_to_another_stream, 1, ORDER),
    "copy from another stream": Row(
        lambda at: inserted(at, at.lines_of(at.other_stream())[0]), 1, frozenset({"wrong_stream"}), "stream"
    ),
    "insert a record of another ledger": Row(
        lambda at: inserted(at, foreign_line(at)), 1, frozenset({"wrong_stream"}), "stream"
    ),
    "replace by a record of another ledger": Row(
        lambda at: at.instead(foreign_line(at)), 1, frozenset({"wrong_stream"}), "stream"
    ),
    "cut the tail from here": Row(lambda at: at.put(at.lines[: at.k]), 1, frozenset({"records_cut"}), "cut"),
    "cut the tail inside the line": Row(
        lambda at: at.put([*at.lines[: at.k], at.lines[at.k][:-9]]), 1, frozenset({"records_cut"}), "cut"
    ),
    "cut the head up to here": Row(lambda at: at.put(at.lines[at.k + 1 :]), 1, ORDER, "stream"),
    "turn the rest round": Row(
        lambda at: (
            at.put([*at.lines[: at.k], *at.lines[at.k :][::-1]]) if at.k + 2 < len(at.whole) == len(at.lines) else None
        ),
        1,
        ORDER,
        "stream",
    ),
    # Forged records, with the MAC key.
    "forge an end of the stream": Row(
        lambda at: forged(at, "stream_end", {"end": {"size": str(at.k + 1)}}, truncate=True), 1, ANY, "seal"
    ),
    "forge a recovered record": Row(
        lambda at: forged(
            at,
            "recovered",
            {
                "recovered": {
                    "stream": at.other_stream(),
                    "size": "1",
                    "sealed_before": "1",
                    "torn_bytes": "0",
                    "rejected_bytes": "0",
                    "open_count": "0",
                }
            },
        ),
        1,
        ANY,
        "seal",
    ),
    "forge a registration": Row(
        lambda at: forged(at, "registration", {"agent": {"id": "mallory", "owner": "m@example.com"}}), 1, ANY, "seal"
    ),
    "forge a revocation": Row(
        lambda at: forged(
            at,
            "revocation",
            {"revocation": {"kind": "everything", "name": "all", "status": "reinstated", "version": "9"}},
        ),
        1,
        ANY,
        "seal",
    ),
    "forge a grant": Row(forged_grant, 1, ANY, "seal"),
    "forge an erasure": Row(lambda at: forged(at, "erasure", {"erasure": {"key": "all"}}), 1, ANY, "seal"),
    "forge a policy": Row(
        lambda at: forged(at, "policy", {"policy": {"name": "open", "version": "1", "digest": "A" * 43}}),
        1,
        ANY,
        "seal",
    ),
}


def log_put(at: Place, lines: list[bytes]) -> Changed:
    return {LOG: b"".join(lines)}


def log_edit(at: Place, **members: str) -> Changed:
    """Change members of the entry, with the MAC key."""
    entry = data_of({**orjson.loads(at.log[at.k])["entry"], **members})
    before = data_of(orjson.loads(at.log[at.k - 1])["entry"]) if at.k else None
    last = None if before is None else leaf_hash(before)
    mac = at.key().log_mac().of(log_message(at.k + 1, last, entry))
    return log_put(at, [*at.log[: at.k], log_line(mac, entry), *at.log[at.k + 1 :]])


def log_flip(at: Place) -> Changed:
    line = bytearray(at.log[at.k])
    line[at.rng.randrange(10, len(line) - 77)] ^= 1
    return log_put(at, [*at.log[: at.k], bytes(line), *at.log[at.k + 1 :]])


LOG_CHANGED: Final = frozenset({"log_changed", "log_cut", "log_malformed", "log_shrank"})
ENTRIES: Final[dict[str, Row]] = {
    "edit the root": Row(lambda at: log_edit(at, root="A" * 43), 1, frozenset({"log_changed"}), "any"),
    "edit the size": Row(lambda at: log_edit(at, size="1"), 1, LOG_CHANGED, "any"),
    "edit the stream": Row(lambda at: log_edit(at, stream=FORGED_ID), 1, frozenset({"log_changed"}), "any"),
    "edit the origin": Row(lambda at: log_edit(at, origin="mallory"), 1, frozenset({"wrong_origin"}), "any"),
    "add a member": Row(lambda at: log_edit(at, note="x"), 1, frozenset({"log_malformed"}), "any"),
    "a huge size": Row(lambda at: log_edit(at, size="9" * 19), 1, LOG_CHANGED, "any"),
    "a size beyond all numbers": Row(lambda at: log_edit(at, size="9" * 300), 1, LOG_CHANGED, "any"),
    "flip a bit": Row(log_flip, 1, LOG_CHANGED | {"wrong_origin"}, "any"),
    "delete": Row(lambda at: log_put(at, [*at.log[: at.k], *at.log[at.k + 1 :]]), 1, LOG_CHANGED, "any"),
    "repeat": Row(
        lambda at: log_put(at, [*at.log[: at.k], at.log[at.k], *at.log[at.k :]]) if at.k + 1 < len(at.log) else None,
        1,
        LOG_CHANGED,
        "any",
    ),
    "cut from here": Row(lambda at: log_put(at, at.log[: at.k]), 1, frozenset({"log_cut"}), "any"),
    "cut inside the line": Row(
        lambda at: log_put(at, [*at.log[: at.k], at.log[at.k][:-5]]), 1, frozenset({"log_cut"}), "any"
    ),
    "cut the head": Row(lambda at: log_put(at, at.log[at.k + 1 :]), 1, LOG_CHANGED, "any"),
    "turn the rest round": Row(
        lambda at: log_put(at, [*at.log[: at.k], *at.log[at.k :][::-1]]) if at.k + 1 < len(at.log) else None,
        1,
        LOG_CHANGED,
        "any",
    ),
    "a space in the entry": Row(
        lambda at: log_put(at, [*at.log[: at.k], at.log[at.k].replace(b'"size":', b'"size": '), *at.log[at.k + 1 :]]),
        1,
        LOG_CHANGED,
        "any",
    ),
    "a Windows line end": Row(
        lambda at: log_put(at, [*at.log[: at.k], at.log[at.k][:-1] + b"\r\n", *at.log[at.k + 1 :]]),
        1,
        LOG_CHANGED,
        "any",
    ),
    "an empty line": Row(
        lambda at: log_put(at, [*at.log[: at.k], b"\n", *at.log[at.k :]]), 1, frozenset({"log_malformed"}), "any"
    ),
    "another MAC": Row(
        lambda at: log_put(
            at,
            [
                *at.log[: at.k],
                log_line(b"\0" * 32, data_of(orjson.loads(at.log[at.k])["entry"])),
                *at.log[at.k + 1 :],
            ],
        ),
        0,
        frozenset(),
        "any",
    ),
    "behind the checkpoint, the entry again": Row(
        lambda at: log_put(at, [*at.log, at.log[at.k]]), 0, frozenset({"log_unsealed"}), "any"
    ),
}


def note_of(at: Place, change: Callable[[list[bytes]], list[bytes]]) -> Changed:
    """Change the lines of the checkpoint."""
    return {NOTE: b"\n".join(change(at.patient.files[NOTE].split(b"\n")))}


def renamed(at: Place) -> Changed:
    """Give the stream another name; what is in it stays."""
    return {at.path: None, f"ledger/{FORGED_ID}/entries.jsonl": at.patient.files[at.path]}


def copied(at: Place) -> Changed:
    """Copy the stream to another name."""
    return {f"ledger/{FORGED_ID}/entries.jsonl": at.patient.files[at.path]}


def exchanged(at: Place) -> Changed:
    """Exchange the files of two streams."""
    other = f"ledger/{at.other_stream()}/entries.jsonl"
    return {at.path: at.patient.files[other], other: at.patient.files[at.path]}


def foreign_streams(at: Place) -> Changed:
    return {name: data for name, data in at.patient.foreign.items() if name.startswith("ledger/")}


def all_of(files: Mapping[str, bytes], at: Place) -> Changed:
    """Put other files for all of the ledger's."""
    gone = {name: None for name in at.patient.files if name not in files}
    return {**gone, **files}


def spliced(at: Place) -> Changed:
    """Join the earlier log with what a stranger goes on with."""
    earlier = at.patient.earlier
    forged_entry = Head(at.stream, 9_999, b"f" * 32, 1).to_entry(clean.ORIGIN)
    entries = [data_of(orjson.loads(line)["entry"]) for line in earlier[LOG].splitlines()] + [forged_entry]
    checkpoint = Checkpoint(clean.ORIGIN, len(entries), root_of(map(leaf_hash, entries)))
    log = b"".join(log_line(b"\0" * 32, entry) for entry in entries)
    return {LOG: log, NOTE: sign_note(checkpoint.to_text(), clean.ORIGIN, STRANGER)}


def special(kind: str, path: str | None = None) -> Callable[[Place], Changed]:
    """Return the surgery that puts something for a file that is no file."""

    def operate(at: Place) -> Changed:
        named = path or at.path
        return {named: Special(kind, at.patient.files[named])}

    return operate


MISSING: Final = frozenset({"stream_missing"})
WHOLE: Final[dict[str, Row]] = {
    "drop the stream": Row(
        lambda at: {at.path: None, f"ledger/{at.stream}/lock": None, f"ledger/{at.stream}": None}, 3, MISSING, "stream"
    ),
    "drop its file": Row(lambda at: {at.path: None}, 1, frozenset({"records_cut"}), "stream"),
    "empty its file": Row(lambda at: {at.path: b""}, 1, frozenset({"records_cut"}), "stream"),
    "put garbage for its file": Row(lambda at: {at.path: b"\0" * 999}, 1, frozenset({"records_cut"}), "stream"),
    "rename the stream": Row(renamed, 1, frozenset({"wrong_stream"}), "any"),
    "copy the stream": Row(copied, 1, frozenset({"wrong_stream"}), "any"),
    "exchange two streams": Row(exchanged, 1, frozenset({"wrong_stream"}), "stream"),
    "add the streams of another ledger": Row(foreign_streams, 3, frozenset({"stream_unknown"}), "any"),
    "put a stream of another ledger here": Row(
        lambda at: {at.path: next(iter(foreign_streams(at).values()))}, 1, frozenset({"wrong_stream"}), "stream"
    ),
    "a link for its file": Row(special("link"), 1, frozenset({"records_cut"}), "stream"),
    "a folder for its file": Row(special("folder"), 1, frozenset({"records_cut"}), "stream"),
    "a pipe for its file": Row(special("pipe"), 1, frozenset({"records_cut"}), "stream"),
    "a link for the log": Row(special("link", LOG), 1, frozenset({"log_cut"}), "any"),
    "a pipe for the log": Row(special("pipe", LOG), 1, frozenset({"log_cut"}), "any"),
    "a link for the checkpoint": Row(special("link", NOTE), 2, frozenset({"no_checkpoint"}), "any"),
    "a pipe for the checkpoint": Row(special("pipe", NOTE), 2, frozenset({"no_checkpoint"}), "any"),
    "drop the log": Row(lambda at: {LOG: None, NOTE: None}, 1, frozenset({"log_missing"}), "any"),
    "drop the entries of the log": Row(lambda at: {LOG: None}, 1, frozenset({"log_cut"}), "any"),
    "empty the log": Row(lambda at: {LOG: b""}, 1, frozenset({"log_cut"}), "any"),
    "drop the checkpoint": Row(lambda at: {NOTE: None}, 1, frozenset({"log_missing"}), "any"),
    "empty the checkpoint": Row(lambda at: {NOTE: b""}, 1, frozenset({"bad_checkpoint"}), "any"),
    "a huge checkpoint": Row(lambda at: {NOTE: b"x\n" * 70_000}, 1, frozenset({"bad_checkpoint"}), "any"),
    "another size in the checkpoint": Row(
        lambda at: note_of(at, lambda n: [n[0], b"1", *n[2:]]), 1, frozenset({"bad_signature"}), "any"
    ),
    "another root in the checkpoint": Row(
        lambda at: note_of(at, lambda n: [*n[:2], b"A" * 43 + b"=", *n[3:]]), 1, frozenset({"bad_signature"}), "any"
    ),
    "another origin in the checkpoint": Row(
        lambda at: note_of(at, lambda n: [b"mallory", *n[1:]]), 1, frozenset({"wrong_origin"}), "any"
    ),
    "a Windows checkpoint": Row(
        lambda at: {NOTE: at.patient.files[NOTE].replace(b"\n", b"\r\n")}, 1, frozenset({"bad_checkpoint"}), "any"
    ),
    "a byte order mark before the checkpoint": Row(
        lambda at: {NOTE: b"\xef\xbb\xbf" + at.patient.files[NOTE]}, 1, frozenset({"bad_checkpoint"}), "any"
    ),
    "the checkpoint of another ledger": Row(
        lambda at: {NOTE: at.patient.foreign[NOTE]}, 1, frozenset({"log_changed"}), "any"
    ),
    "the log of another ledger": Row(
        lambda at: {NOTE: at.patient.foreign[NOTE], LOG: at.patient.foreign[LOG]}, 2, frozenset({"unknown_key"}), "any"
    ),
    "an earlier checkpoint": Row(lambda at: {NOTE: at.patient.earlier[NOTE]}, 3, frozenset({"log_ahead"}), "any"),
    "a signature of a stranger beside ours": Row(
        lambda at: {
            NOTE: at.patient.files[NOTE] + sign_note("x\n", "stranger.example", STRANGER).rpartition(b"\n\n")[2]
        },
        0,
        frozenset(),
        "any",
    ),
    "an earlier log": Row(
        lambda at: {NOTE: at.patient.earlier[NOTE], LOG: at.patient.earlier[LOG]},
        3,
        frozenset({"stream_unknown"}),
        "any",
    ),
    "splice two histories": Row(spliced, 1, frozenset({"unknown_key"}), "any"),
    "another ledger in its place": Row(lambda at: all_of(at.patient.foreign, at), 2, frozenset({"unknown_key"}), "any"),
    "an earlier state of all": Row(lambda at: all_of(at.patient.earlier, at), 1, frozenset({"rolled_back"}), "any"),
}


def patient_in(room: Path) -> Patient:
    """Make the patient and its relatives below a folder."""
    ours, theirs = room / "ours", room / "theirs"
    earlier = build(ours, 1)
    build(theirs, 2, signer=STRANGER, origin="ledger.example/theirs")
    return Patient(files_in(ours), earlier, files_in(theirs), ours)


def files_in(directory: Path) -> dict[str, bytes]:
    """Return the files of a ledger but for its keys."""
    names = [p for p in directory.rglob("*") if p.is_file() and "keys" not in p.parts]
    return {str(p.relative_to(directory)): p.read_bytes() for p in names if p.name != "lock"}


def places(patient: Patient, rows: str) -> list[tuple[str, int]]:
    """Return where the rows of a table can be applied."""
    if rows == "entries":
        return [(patient.streams[0], k) for k in range(patient.files[LOG].count(b"\n"))]
    if rows == "whole":
        return [(stream, 0) for stream in patient.streams]
    return [
        (stream, k)
        for stream in patient.streams
        for k in range(patient.files[f"ledger/{stream}/entries.jsonl"].count(b"\n"))
    ]


def kinds_of(patient: Patient) -> set[str]:
    """Return the kinds of record that the ledger holds."""
    files = [patient.files[f"ledger/{stream}/entries.jsonl"] for stream in patient.streams]
    return {record_of(line)["kind"] for data in files for line in data.splitlines() if line.endswith(b"}}")}


TABLES: Final = {"records": RECORDS, "entries": ENTRIES, "whole": WHOLE}


@contextlib.contextmanager
def operated(
    patient: Patient, table: str, name: str, where: tuple[str, int], seed: int = 0
) -> Generator[Place | None, None, None]:
    """Do one surgery for the block and put everything back; yield where, or ``None`` if it cannot be done there."""
    stream, k = where
    at = Place(patient, stream, k, random.Random(f"{seed} {name} {where}"))  # noqa: S311
    changed = TABLES[table][name].operate(at)
    if changed is None:
        yield None
        return
    try:
        for path, data in changed.items():
            replace(patient.directory / path, data)
        yield at
    finally:
        for path in changed:
            replace(patient.directory / path, patient.files.get(path))
        for path, data in patient.files.items():
            if not (patient.directory / path).exists():
                replace(patient.directory / path, data)
        for folder in (patient.directory / "ledger").iterdir():
            if not any(folder.iterdir()):
                folder.rmdir()  # Lest the next surgery finds a stream that this one brought.


def verified(directory: Path, checkpoint: bytes | None) -> Report:
    """Verify a ledger after a surgery."""
    return Verifier(clean.TRUST).ledger(directory, checkpoint=checkpoint)


def judge(patient: Patient, table: str, name: str, where: tuple[str, int], seed: int = 0) -> str | None:
    """Do one surgery, verify, put everything back; return what is wrong with the verdict, if anything."""
    row = TABLES[table][name]
    with operated(patient, table, name, where, seed) as at:
        if at is None:
            return "not here"
        kept = patient.files[NOTE] if "rolled_back" in row.found else None
        report = verified(patient.directory, kept)
    found = {problem.code for problem in report.findings}
    if report.exit_code != row.code or (row.found and not row.found & found):
        return f"{table}: {name} at {where}: exit {report.exit_code}, {sorted(found)}"
    if row.code and not any(points(problem, row.near, at) for problem in report.findings):
        return f"{table}: {name} at {where}: not named, {[p[:6] for p in map(_brief, report.findings)]}"
    return None


def _brief(problem: Problem) -> tuple:
    return problem.code, problem.record, problem.stream, problem.seq, problem.line


def replace(path: Path, data: bytes | Special | None) -> None:
    """Write a file, or take it away with the folder that is empty then."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.is_symlink() or path.is_fifo() or (not isinstance(data, bytes) and path.exists()):
        path.unlink()
    if isinstance(data, Special):
        if data.kind == "link":
            path.with_name("elsewhere").write_bytes(data.data)
            path.symlink_to("elsewhere")
        elif data.kind == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
    elif data is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    elif path.parent.name == FORGED_ID and path.parent.exists():
        path.parent.rmdir()


def points(problem: Problem, near: str, at: Place) -> bool:
    """Return whether a finding points where a surgery was."""
    if near == "any":
        return problem.severity != "notice"
    if problem.severity == "notice" or problem.stream != at.stream:
        return False
    if near == "stream":
        return True
    seq = at.k + 1
    here = problem.seq in (seq, seq + 1) or problem.line in (seq, seq + 1) or problem.record == _id(at)
    if near == "record" and seq < len(at.whole):
        return here
    # Nothing behind it misses the last record of a stream, or one whose followers were hashed anew: the head does.
    heads = [0, *(int(e["size"]) for e in map(_entry, at.log) if e["stream"] == at.stream)]
    seal = max(size for size in heads if size < seq)
    return here or (problem.seq is not None and seal < problem.seq <= seq + 1)


def _entry(line: bytes) -> dict[str, str]:
    return orjson.loads(line)["entry"]


def _id(at: Place) -> str:
    found = re.search(rb'"id":"([A-Za-z0-9_-]{22})","(?:kind|intent)', at.lines[at.k])
    return found[1].decode() if found else ""


def main() -> int:
    """Do every surgery everywhere; return 1 if one verdict is wrong."""
    parser = argparse.ArgumentParser(description="Every surgery at every place of a ledger.")
    parser.add_argument("--rounds", type=int, default=1, help="how often, each time with other facts and bits")
    options = parser.parse_args()
    done: Counter[str] = Counter()
    wrong: list[str] = []
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: PTH112, S108
    with tempfile.TemporaryDirectory(dir=memory) as room:
        patient = patient_in(Path(room))
        for table, rows in TABLES.items():
            for name in rows:
                for where in places(patient, table):
                    for seed in range(options.rounds):
                        answer = judge(patient, table, name, where, seed)
                        if answer == "not here":
                            continue
                        done[table] += 1
                        if answer:
                            wrong.append(answer)
        records, kinds = places(patient, "records"), kinds_of(patient)
        print(f"{sum(map(len, TABLES.values()))} kinds of surgery, {len(records)} records of {len(kinds)} kinds")
    print(f"{dict(done)}: {len(wrong)} wrong verdicts")
    print(*wrong[:40], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
