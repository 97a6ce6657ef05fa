"""Surgery on the files of a ledger: each cut is found, called what it is, and named."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier, verify
from agent_identity._guard.sessions.opening import Opening
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.common.ids import id_of
from agent_identity._ledger.transparency.checkpoint import Checkpoint, sign_note
from agent_identity._ledger.transparency.merkle import leaf_hash, root_of
from agent_identity._storage.lines import stream_line
from agent_identity.errors import Denied, VerificationError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Ledger, Sources
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance-ops@example.com", version="2")
HELPER = Agent("reader", owner="finance-ops@example.com")
SCOPE = Scope("read_invoice", invoice_id="INV-42") | Scope("pay")


def build(directory: Path, *, start: int = 1_764_000_000_000_000_000) -> None:
    """Make a ledger of one process that has been sealed four times."""
    clock = FixedClock(start)
    with Enforcer.open(directory, sources=Sources(clock=clock, ids=SequentialIds())) as enforcer:
        seal = enforcer._enforcement.ledger.seal

        @enforcer.tool
        def read_invoice(invoice_id: str) -> str:
            return f"{invoice_id}: EUR 120"

        @enforcer.tool
        def pay(amount: int) -> None:
            raise LookupError

        with enforcer.task("pay INV-42", principal=ALICE, agent=CLERK, scope=SCOPE):
            read_invoice("INV-42")
            clock.advance(0.25)
            with suppress(LookupError):
                pay(120)
            seal()
            with suppress(Denied):
                read_invoice("INV-43")
            with enforcer.delegate(HELPER, scope=Scope("read_invoice", invoice_id="INV-42")):
                read_invoice("INV-42")
            seal()
        with suppress(Denied):
            read_invoice("INV-42")
        seal()


@dataclass(frozen=True)
class Room:
    """An evidence directory under the knife."""

    path: Path
    other: Path

    @property
    def stream(self) -> Path:
        """Its one stream."""
        (stream,) = (self.path / "ledger").iterdir()
        return stream

    @property
    def entries(self) -> Path:
        """The file of the stream."""
        return self.stream / "entries.jsonl"

    @property
    def log(self) -> Path:
        """The file of the log."""
        return self.path / "log" / "entries.jsonl"

    @property
    def note(self) -> Path:
        """The checkpoint."""
        return self.path / "log" / "checkpoint"

    def lines(self) -> list[bytes]:
        """Return the lines of the stream."""
        return self.entries.read_bytes().splitlines(keepends=True)

    def write(self, lines: list[bytes]) -> None:
        """Replace the lines of the stream."""
        self.entries.write_bytes(b"".join(lines))

    def foreign(self) -> Path:
        """Return the stream of the other organisation."""
        (stream,) = (self.other / "ledger").iterdir()
        return stream

    def check(self, trust: TrustStore | None = None) -> Report:
        """Verify under the trust file of this organisation, or another."""
        return Verifier(trust or TrustStore.load(self.path / "trust.json")).ledger(self.path)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two ledgers of two organisations."""
    root = tmp_path_factory.mktemp("originals")
    build(root / "ours")
    build(root / "theirs", start=1_764_100_000_000_000_000)
    return root / "ours", root / "theirs"


@pytest.fixture
def room(originals: tuple[Path, Path], tmp_path: Path) -> Room:
    """Fresh copies of both."""
    for original in originals:
        shutil.copytree(original, tmp_path / original.name)
    return Room(tmp_path / "ours", tmp_path / "theirs")


def record_of(line: bytes) -> dict[str, object]:
    record: dict[str, object] = orjson.loads(line)["record"]
    return record


def detail_in(line: bytes) -> bytes | None:
    detail = orjson.loads(line).get("detail")
    return None if detail is None else orjson.dumps(detail, option=orjson.OPT_SORT_KEYS)


def line_of(record: object, detail: bytes | None = None) -> bytes:
    """Write a record as an attacker does, who has no ledger key."""
    return stream_line(bytes(32), orjson.dumps(record, option=orjson.OPT_SORT_KEYS), detail)


def chained(lines: list[bytes]) -> list[bytes]:
    """Number and link records anew, as an attacker does who knows the format but has no key."""
    prev, out = None, []
    for number, line in enumerate(lines, 1):
        record = record_of(line)
        stream = record["stream"]
        assert isinstance(stream, dict)
        stream.pop("prev", None)
        stream["seq"] = str(number)
        if prev:
            stream["prev"] = prev
        data = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
        prev = b64url_encode(leaf_hash(data))
        out.append(line_of(record, detail_in(line)))
    return out


def kind_at(lines: list[bytes], kind: str) -> int:
    return next(i for i, line in enumerate(lines) if record_of(line)["kind"] == kind)


def denial_at(lines: list[bytes]) -> int:
    return next(i for i, line in enumerate(lines) if record_of(line).get("outcome") == "denied")


# Each surgery, by what is done; then the exit code and the code of the problem that must be among the findings.


def delete(*places: int) -> Callable[[Room], None]:
    def operate(room: Room) -> None:
        lines = room.lines()
        for place in sorted((p % len(lines) for p in places), reverse=True):
            del lines[place]
        room.write(lines)

    return operate


def rearrange(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Room], None]:
    def operate(room: Room) -> None:
        room.write(change(room.lines()))

    return operate


def swap(first: int, second: int) -> Callable[[Room], None]:
    def change(lines: list[bytes]) -> list[bytes]:
        lines[first], lines[second] = lines[second], lines[first]
        return lines

    return rearrange(change)


def insert_foreign(room: Room) -> None:
    lines = room.lines()
    lines.insert(5, (room.foreign() / "entries.jsonl").read_bytes().splitlines(keepends=True)[5])
    room.write(lines)


def insert_forged(room: Room) -> None:
    lines = room.lines()
    forged = record_of(lines[3])
    forged["id"] = id_of(FixedClock().wall_ns(), b"forged..")
    lines.insert(4, line_of(forged))
    room.write(lines)


def append_forged(room: Room) -> None:
    lines = room.lines()
    record = record_of(lines[3])
    record["stream"] = {**record_of(lines[-1])["stream"], "seq": str(len(lines) + 1)}  # type: ignore[dict-item]
    data = orjson.dumps(record_of(lines[-1]), option=orjson.OPT_SORT_KEYS)
    record["stream"]["prev"] = b64url_encode(leaf_hash(data))  # type: ignore[index]
    room.write([*lines, line_of(record)])


def append(data: bytes) -> Callable[[Room], None]:
    def operate(room: Room) -> None:
        room.entries.write_bytes(room.entries.read_bytes() + data)

    return operate


def spaced(room: Room) -> None:
    lines = room.lines()
    lines[4] = lines[4].replace(b'"kind":', b'"kind": ', 1)
    room.write(lines)


def escaped(room: Room) -> None:
    lines = room.lines()
    lines[4] = lines[4].replace(b'"kind":"intent"', b'"kind":"inten\\u0074"')
    lines[4] = lines[4].replace(b'"kind":"outcome"', b'"kind":"outcom\\u0065"')
    room.write(lines)


def duplicate_key(room: Room) -> None:
    lines = room.lines()
    lines[4] = lines[4].replace(b'"v":"', b'"v":"0","v":"')
    room.write(lines)


def drop_the_denial_and_rebuild(room: Room) -> None:
    lines = room.lines()
    del lines[denial_at(lines)]
    room.write(chained(lines))


def rewrite(name: str, data: bytes) -> Callable[[Room], None]:
    def operate(room: Room) -> None:
        (room.path / name).write_bytes(data)

    return operate


def edit_log(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Room], None]:
    def operate(room: Room) -> None:
        room.log.write_bytes(b"".join(change(room.log.read_bytes().splitlines(keepends=True))))

    return operate


def edit_head(lines: list[bytes]) -> list[bytes]:
    entry = orjson.loads(lines[0])
    entry["entry"]["root"] = "A" * 43
    return [orjson.dumps(entry, option=orjson.OPT_SORT_KEYS) + b"\n", *lines[1:]]


def edit_checkpoint(room: Room) -> None:
    origin, _, rest = room.note.read_text().split("\n", 2)
    room.note.write_text(f"{origin}\n3\n{rest}")


def sign_checkpoint_anew(room: Room) -> None:
    text = room.note.read_text().rpartition("\n\n")[0] + "\n"
    room.note.write_bytes(sign_note(text, text.split("\n")[0], SigningKey.generate()))


def move_stream_in(room: Room) -> None:
    shutil.copytree(room.foreign(), room.path / "ledger" / room.foreign().name)


def stream_of_theirs_under_our_name(room: Room) -> None:
    shutil.copy(room.foreign() / "entries.jsonl", room.entries)


def back_to_the_second_seal(room: Room) -> None:
    """Put the log back, and sign nothing: the attacker kept an old checkpoint."""
    lines = room.log.read_bytes().splitlines(keepends=True)[:2]
    room.log.write_bytes(b"".join(lines))
    room.note.write_bytes(old_checkpoint(room, 2))


def old_checkpoint(room: Room, size: int) -> bytes:
    """Return the checkpoint that the ledger had earlier; made again here with its own key."""
    lines = room.log.read_bytes().splitlines()[:size]
    leaves = [leaf_hash(orjson.dumps(orjson.loads(line)["entry"], option=orjson.OPT_SORT_KEYS)) for line in lines]
    origin = room.note.read_text().split("\n")[0]
    return sign_note(
        Checkpoint(origin, size, root_of(leaves)).to_text(), origin, SigningKey.load(room.path / "keys/recorder.pem")
    )


def back_to_the_second_seal_as_a_whole(room: Room) -> None:
    size = int(orjson.loads(room.log.read_bytes().splitlines()[1])["entry"]["size"])
    back_to_the_second_seal(room)
    room.write(room.lines()[:size])


SURGERIES: dict[str, tuple[Callable[[Room], None], int, str]] = {
    "delete the first record": (delete(0), 1, "missing_records"),
    "delete a record in the middle": (delete(6), 1, "missing_records"),
    "delete two records in the middle": (delete(6, 7), 1, "missing_records"),
    "delete the last record": (delete(-1), 1, "records_cut"),
    "delete the tail": (delete(-1, -2, -3, -4, -5), 1, "records_cut"),
    "delete the head": (delete(0, 1, 2, 3), 1, "missing_records"),
    "reorder neighbours": (swap(4, 5), 1, "out_of_order"),
    "reorder across a seal": (swap(3, 11), 1, "out_of_order"),
    "move the first record to the end": (rearrange(lambda r: [*r[1:], r[0]]), 1, "missing_records"),
    "reverse the stream": (rearrange(lambda r: r[::-1]), 1, "out_of_order"),
    "repeat a record in place": (rearrange(lambda r: [*r[:6], r[5], *r[6:]]), 1, "duplicate_record"),
    "repeat a record later": (rearrange(lambda r: [*r[:9], r[3], *r[9:]]), 1, "out_of_order"),
    "repeat a record at the end": (rearrange(lambda r: [*r, r[3]]), 1, "out_of_order"),
    "insert a record of another ledger": (insert_foreign, 1, "wrong_stream"),
    "insert a forged record": (insert_forged, 1, "out_of_order"),
    "append a forged record": (append_forged, 1, "after_end"),
    "append garbage": (append(b"garbage\n"), 3, "malformed_tail"),
    "append a torn line": (append(b'{"mac":"00'), 3, "torn_tail"),
    "replace a record by garbage": (rearrange(lambda r: [*r[:5], b"\0\xff\n", *r[6:]]), 1, "malformed_line"),
    "replace a record by another object": (
        rearrange(lambda r: [*r[:5], line_of({"hello": "world"}), *r[6:]]),
        1,
        "malformed_record",
    ),
    "replace a record by no JSON": (
        rearrange(lambda r: [*r[:5], stream_line(bytes(32), b"{nonsense}"), *r[6:]]),
        1,
        "malformed_record",
    ),
    "replace a record by deep nesting": (
        rearrange(
            lambda r: [
                *r[:5],
                stream_line(bytes(32), b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"),
                *r[6:],
            ]
        ),
        1,
        "malformed_record",
    ),
    "spell a record with a space": (spaced, 1, "malformed_record"),
    "spell a record with an escape": (escaped, 1, "malformed_record"),
    "give a key twice": (duplicate_key, 1, "malformed_record"),
    "delete the denial and rebuild the rest": (drop_the_denial_and_rebuild, 1, "head_mismatch"),
    "rebuild all without the key": (rearrange(lambda r: chained(r[:1] + r[2:])), 1, "head_mismatch"),
    "empty the stream": (rearrange(lambda _: []), 1, "records_cut"),
    "delete the file of the stream": (lambda room: room.entries.unlink(), 1, "records_cut"),
    "delete the stream": (lambda room: shutil.rmtree(room.stream), 2, "stream_missing"),
    "delete the folder of streams": (lambda room: shutil.rmtree(room.path / "ledger"), 2, "stream_missing"),
    "delete the log": (lambda room: shutil.rmtree(room.path / "log"), 1, "log_missing"),
    "delete the checkpoint": (lambda room: room.note.unlink(), 1, "log_missing"),
    "delete the entries of the log": (lambda room: room.log.unlink(), 1, "log_cut"),
    "empty the log": (edit_log(lambda _: []), 1, "log_cut"),
    "cut the log": (edit_log(lambda lines: lines[:-1]), 1, "log_cut"),
    "edit an entry of the log": (edit_log(edit_head), 1, "log_changed"),
    "reorder the log": (edit_log(lambda lines: [lines[1], lines[0], *lines[2:]]), 1, "log_changed"),
    "replace an entry of the log by garbage": (edit_log(lambda lines: [b"?\n", *lines[1:]]), 1, "log_malformed"),
    "append an entry to the log": (edit_log(lambda lines: [*lines, lines[-1]]), 0, "log_unsealed"),
    "roll back the log": (back_to_the_second_seal, 3, "tail_unsealed"),
    "roll back everything": (back_to_the_second_seal_as_a_whole, 3, "no_end"),
    "edit the checkpoint": (edit_checkpoint, 1, "bad_signature"),
    "sign the checkpoint with another key": (sign_checkpoint_anew, 2, "unknown_key"),
    "replace the checkpoint by garbage": (rewrite("log/checkpoint", b"\xff\0"), 1, "bad_checkpoint"),
    "replace the checkpoint by a huge file": (rewrite("log/checkpoint", b"x\n" * 70_000), 1, "bad_checkpoint"),
    "move a stream in from another ledger": (move_stream_in, 2, "stream_unknown"),
    "put another ledger's stream under our name": (stream_of_theirs_under_our_name, 1, "wrong_stream"),
}


@pytest.mark.parametrize("name", SURGERIES)
def test_ac_94_each_surgery_is_found_and_called_what_it_is(room: Room, name: str) -> None:
    """Whatever is done to the files of a ledger, the report says that and what."""
    operate, exit_code, code = SURGERIES[name]
    operate(room)
    report = room.check()
    assert (report.exit_code, [p.code for p in report.findings if p.code == code][:1]) == (exit_code, [code])
    if exit_code:
        with pytest.raises(VerificationError) as caught:
            verify(room.path, room.path / "trust.json")
        assert caught.value.report == report


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path to each fact of a record."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def changed(line: bytes, path: tuple[str | int, ...]) -> bytes:
    """Return a line with one fact of its record replaced by another of the same form; its detail stays."""
    record = record_of(line)
    holder: object = record
    for step in path[:-1]:
        holder = holder[step]  # type: ignore[index]
    value: str = holder[path[-1]]  # type: ignore[index]
    other = {"allow": "block", "intent": "outcome", "success": "error", "enforce": "monitor", "human": "service"}
    holder[path[-1]] = other.get(value, ("1" if value[0] != "1" else "2") + value[1:])  # type: ignore[index]
    return line_of(record, detail_in(line))


def test_ac_93_an_edit_of_any_fact_names_the_record(room: Room) -> None:
    """No fact of any record can be changed unnoticed, and the finding is at the record that was changed."""
    lines = room.lines()
    assert {record_of(line)["kind"] for line in lines} >= {"grant", "task_start", "intent", "outcome", "task_end"}
    seals = [0, *(int(orjson.loads(line)["entry"]["size"]) for line in room.log.read_bytes().splitlines())]
    for index, line in enumerate(lines):
        seal = max(size for size in seals if size <= index)
        for path in leaves(record_of(line)):
            room.write([*lines[:index], changed(line, path), *lines[index + 1 :]])
            report = room.check()
            named = {p.seq for p in report.findings if p.severity == "contradicted"}
            named |= {p.line for p in report.findings if p.severity == "contradicted"}
            # The last record of a seal is continued by no record before the next one, but by the head itself.
            assert report.exit_code == 1, path
            assert named & {index + 1, seal + 1}, (path, report.findings)
            assert index + 1 in named or index + 1 == len(lines), (path, report.findings)


def test_ac_93_removal_of_any_fact_is_found(room: Room) -> None:
    """No member of any record can be removed unnoticed."""
    lines = room.lines()
    for index, line in enumerate(lines):
        for name in record_of(line):
            rest = {key: value for key, value in record_of(line).items() if key != name}
            room.write([*lines[:index], line_of(rest, detail_in(line)), *lines[index + 1 :]])
            assert room.check().exit_code == 1, (index, name)


def small(directory: Path) -> None:
    """Make the smallest ledger: a stream that starts and ends."""
    keys = SigningKey.generate()
    trust = TrustStore((TrustedKey(keys.public_key, "recorder"),), origin="small")
    directory.mkdir()
    trust.save(directory / "trust.json")
    Ledger.open(directory, signer=keys, origin="small", clock=FixedClock(), ids=SequentialIds()).close()


def test_ac_95_a_stream_cut_at_any_byte_is_never_complete(
    tmp_path: Path, drawn: Callable[[range], Sequence[int]]
) -> None:
    """Every prefix of a sealed stream is found to be cut, and none breaks the verifier."""
    small(tmp_path / "small")
    room = Room(tmp_path / "small", tmp_path)
    whole = room.entries.read_bytes()
    assert room.check().exit_code == 0
    for size in drawn(range(len(whole))):
        room.entries.write_bytes(whole[:size])
        report = room.check()
        assert report.exit_code == 1, size
        assert "records_cut" in {p.code for p in report.findings}


@pytest.mark.parametrize("name", ["log/entries.jsonl", "log/checkpoint"])
def test_ac_96_a_log_cut_at_any_byte_is_never_verified(
    tmp_path: Path, name: str, drawn: Callable[[range], Sequence[int]]
) -> None:
    """No prefix of the log or of its checkpoint passes."""
    small(tmp_path / "small")
    room = Room(tmp_path / "small", tmp_path)
    file = room.path / name
    whole = file.read_bytes()
    for size in drawn(range(len(whole))):
        file.write_bytes(whole[:size])
        assert room.check().exit_code in {1, 2}, size


def test_ac_93_no_byte_of_a_record_can_be_flipped(tmp_path: Path, drawn: Callable[[range], Sequence[int]]) -> None:
    """Every byte of every record is covered by the signature."""
    small(tmp_path / "small")
    room = Room(tmp_path / "small", tmp_path)
    whole = room.entries.read_bytes()
    at = 0
    for line in whole.splitlines(keepends=True):
        for place in drawn(range(at + line.index(b'"record"'), at + len(line))):
            room.entries.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert room.check().exit_code == 1, place
        at += len(line)


def test_the_mac_beside_a_record_is_no_evidence(room: Room) -> None:
    """A changed MAC changes no verdict: it is for recovery by the process, and no auditor has its key."""
    room.write([line_of(record_of(line), detail_in(line)) for line in room.lines()])
    assert room.check().exit_code == 0


def test_ac_98_a_whole_ledger_put_back_is_found_with_a_checkpoint_kept_elsewhere(room: Room) -> None:
    """A rollback of everything is consistent in itself; an earlier auditor's checkpoint contradicts it."""
    kept = room.note.read_bytes()
    assert Verifier(room.path / "trust.json").ledger(room.path, checkpoint=kept).exit_code == 0
    assert Verifier(room.path / "trust.json").ledger(room.path, checkpoint=old_checkpoint(room, 2)).exit_code == 0
    back_to_the_second_seal_as_a_whole(room)
    report = Verifier(room.path / "trust.json").ledger(room.path, checkpoint=kept)
    assert report.exit_code == 1
    assert "rolled_back" in {p.code for p in report.findings}


def test_ac_99_a_fork_of_the_log_is_found_with_a_checkpoint_kept_elsewhere(room: Room) -> None:
    """Two histories of one size cannot both contain what an auditor has seen."""
    origin = room.note.read_text().split("\n")[0]
    key = SigningKey.load(room.path / "keys/recorder.pem")
    fork = sign_note(Checkpoint(origin, 2, b"f" * 32).to_text(), origin, key)
    (room.path / "fork").write_bytes(fork)
    report = Verifier(room.path / "trust.json").ledger(room.path, checkpoint=room.path / "fork")
    assert (report.exit_code, report.findings[0].code) == (1, "rolled_back")


def test_a_checkpoint_kept_elsewhere_proves_nothing_under_another_key(room: Room) -> None:
    """A kept checkpoint that no trusted key signed leaves the question open."""
    other = (room.other / "log/checkpoint").read_bytes()
    report = Verifier(room.path / "trust.json").ledger(room.path, checkpoint=other)
    assert (report.exit_code, report.findings[0].code) == (2, "unknown_key")


TRUSTS: dict[str, tuple[Callable[[TrustStore, TrustStore], TrustStore], int, str]] = {
    "another organisation's trust": (lambda _, theirs: theirs, 2, "unknown_key"),
    "no keys at all": (lambda ours, _: TrustStore((), origin=ours.origin), 2, "unknown_key"),
    "no recorder key": (lambda ours, _: TrustStore((ours.keys[0],), origin=ours.origin), 2, "unknown_key"),
    "no issuer key": (lambda ours, _: TrustStore((ours.keys[1],), issuer=ours.issuer), 2, "unknown_issuer"),
    "another origin": (lambda ours, _: TrustStore(ours.keys, origin="elsewhere"), 1, "wrong_origin"),
    "another issuer": (lambda ours, _: TrustStore(ours.keys, issuer="urn:example:other"), 1, "bad_grant"),
    "a recorder key that had expired": (
        lambda ours, _: TrustStore((ours.keys[0], TrustedKey(ours.keys[1].key, "recorder", not_after=1_700_000_000))),
        2,
        "key_not_valid_then",
    ),
    "an issuer key that was not yet valid": (
        lambda ours, _: TrustStore((TrustedKey(ours.keys[0].key, "issuer", not_before=1_900_000_000), ours.keys[1])),
        2,
        "unknown_issuer",
    ),
}


@pytest.mark.parametrize("name", TRUSTS)
def test_wrong_trust_never_verifies(room: Room, name: str) -> None:
    """Evidence verifies under the keys that made it, in their time, for their origin and issuer only."""
    choose, exit_code, code = TRUSTS[name]
    trust = choose(TrustStore.load(room.path / "trust.json"), TrustStore.load(room.other / "trust.json"))
    report = room.check(trust)
    assert report.exit_code == exit_code
    assert code in {p.code for p in report.findings}


def test_ac_97_a_ledger_rewritten_with_another_key_is_not_verified(room: Room) -> None:
    """Whoever rewrites the whole directory, trust file included, is found out by the trust kept elsewhere."""
    kept = TrustStore.load(room.path / "trust.json")
    shutil.rmtree(room.path)
    shutil.copytree(room.other, room.path)
    assert Verifier().ledger(room.path).trust == "self-asserted"
    assert Verifier().ledger(room.path).exit_code == 0
    assert room.check(kept).exit_code == 2


def test_ac_100_a_ledger_of_one_tenant_does_not_pass_for_that_of_another(room: Room) -> None:
    """With the same key for two logs, the origin under the signature still tells them apart."""
    trust = TrustStore.load(room.path / "trust.json")
    theirs = TrustStore.load(room.other / "trust.json")
    shared = TrustStore((*trust.keys, *theirs.keys), issuer=None, origin=trust.origin)
    report = Verifier(shared).ledger(room.other)
    assert "wrong_origin" in {p.code for p in report.findings}
    assert report.exit_code == 1


def test_ac_101_a_partial_copy_says_what_is_missing(room: Room) -> None:
    """A copy without one of two streams is not complete: it names the stream and the number of its records."""
    build(room.path, start=1_764_000_900_000_000_000)
    first, second = sorted((room.path / "ledger").iterdir())
    size = len((second / "entries.jsonl").read_bytes().splitlines())
    shutil.rmtree(second)
    report = room.check()
    (problem,) = [p for p in report.findings if p.code == "stream_missing"]
    assert (problem.stream, report.completeness, report.integrity) == (second.name, "incomplete", "verified")
    assert f"{size} records" in problem.message
    assert first.exists()


def test_ac_104_a_value_cannot_begin_a_record_of_its_own(tmp_path: Path) -> None:
    """Newlines and fake JSON in what a caller controls stay inside one record."""
    with Enforcer.open(tmp_path / "e") as enforcer:
        evil = '\n{"mac":"00","record":{}}\u2028\x1b[31m'
        with suppress(Denied), enforcer.action("pay", **{evil: evil}):
            pass
    report = Verifier().ledger(tmp_path / "e")
    (stream,) = (tmp_path / "e/ledger").iterdir()
    assert (report.exit_code, report.counts["records"]) == (0, 3)
    assert len((stream / "entries.jsonl").read_bytes().splitlines()) == 3


def test_ac_107_records_name_the_grants_by_their_whole_hashes(room: Room) -> None:
    """Each call names every grant of its chain by the full hash of a grant that is in the ledger."""
    records = [record_of(line) for line in room.lines()]
    tokens = [grant["token"] for record in records if isinstance(grant := record.get("grant"), dict)]
    hashes = {digest_of(token.rpartition(".")[0].encode()) for token in tokens}
    named = {link["grant"] for record in records for link in record.get("chain", [])}  # type: ignore[attr-defined]
    assert len(hashes) == 2
    assert named == hashes


class Process:
    """Programs that use one evidence directory one after the other, and do what they are told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock, self.ids = FixedClock(), SequentialIds()
        self.tasks: list[Opening] = []
        self.enforcer = self.start()

    def start(self) -> Enforcer:
        """Begin a program."""
        return Enforcer.open(self.directory, sources=Sources(clock=self.clock, ids=self.ids))

    def task(self) -> None:
        """Open a task."""
        self.enter(self.enforcer.task("t", principal=ALICE, agent=CLERK, scope=SCOPE))

    def delegate(self) -> None:
        """Delegate a part of the current task, if there is one."""
        self.enter(self.enforcer.delegate(HELPER, scope=Scope("pay")))

    def enter(self, opening: Opening) -> None:
        """Enter a task, if it can be had."""
        with suppress(Denied, ValueError):
            opening.__enter__()
            self.tasks.append(opening)

    def end(self) -> None:
        """End the innermost task."""
        if self.tasks:
            self.tasks.pop().__exit__(None, None, None)

    def call(self) -> None:
        """Call a tool that returns."""
        with suppress(Denied), self.enforcer.action("pay", amount=1):
            pass

    def fail(self) -> None:
        """Call a tool that raises."""
        with suppress(Denied, LookupError), self.enforcer.action("pay", amount=1):
            raise LookupError

    def refuse(self) -> None:
        """Call a tool that nobody was granted."""
        with suppress(Denied), self.enforcer.action("other"):
            pass

    def seal(self) -> None:
        """Seal the ledger in between."""
        self.enforcer._enforcement.ledger.seal()

    def reopen(self) -> None:
        """End the program properly, and begin another."""
        self.close()
        self.enforcer = self.start()

    def die(self) -> None:
        """Have the program killed, and begin another."""
        sealing = self.enforcer._enforcement.ledger.sealing
        with sealing._changed:
            sealing._stopping = True
            sealing._changed.notify_all()
        if sealing._thread is not None:  # A kill ends threads as well; this one would write beside the next program.
            sealing._thread.join()
        sealing.abandon()
        while self.tasks:
            self.tasks.pop()._attachment.release()  # type: ignore[union-attr]
        self.enforcer = self.start()

    def close(self) -> None:
        """End the program properly."""
        while self.tasks:
            self.end()
        self.enforcer.close()


OPERATIONS = ("task", "delegate", "end", "call", "fail", "refuse", "seal", "reopen", "die")


@given(st.lists(st.sampled_from(OPERATIONS), max_size=25))
def test_clean_ledgers_never_raise_an_alarm(tmp_path_factory: pytest.TempPathFactory, operations: list[str]) -> None:
    """Whatever programs do, and however they end, what the library wrote verifies."""
    process = Process(tmp_path_factory.mktemp("clean"))
    for operation in operations:
        process.clock.advance(0.5)
        getattr(process, operation)()
    process.close()
    report = Verifier().ledger(process.directory)
    assert (report.exit_code, report.integrity) == (0, "verified"), report.findings
    assert report.counts["verified"] == report.counts["records"]
    shutil.rmtree(process.directory)


def test_a_trust_file_of_another_log_is_named_as_such(room: Room, tmp_path: Path) -> None:
    """Whoever took the wrong file learns of which log it is, and of which the evidence is."""
    mine, theirs = TrustStore.load(room.path / "trust.json"), TrustStore.load(room.other / "trust.json")
    advice = f"this trust file is for the log {theirs.origin!r}, the evidence is of the log {mine.origin!r}; take the"
    (problem,) = [p for p in Verifier(theirs).ledger(room.path).findings if p.code == "unknown_key"]
    assert advice in problem.message
    both = TrustStore(mine.keys, issuer=mine.issuer, origin=theirs.origin)
    (problem,) = [p for p in Verifier(both).ledger(room.path).findings if p.code == "wrong_origin" and p.line is None]
    assert advice in problem.message
