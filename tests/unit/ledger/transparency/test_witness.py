"""A witness and its client: what is cosigned, what is refused and with which status, and what is remembered."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.record_bytes import encode_record
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._ledger.transparency.checkpoint import Checkpoint, open_note, sign_note
from agent_identity._ledger.transparency.merkle import EMPTY_ROOT, consistency_proof, leaf_hash, root_of
from agent_identity._ledger.transparency.witness import MAX_REQUEST, Witness, WitnessState, parse_request, request_for
from agent_identity._ledger.transparency.witness_client import LogTree, WitnessClient, cosigned_file
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import log_line
from agent_identity._storage.os_files import Files
from agent_identity.errors import ConfigurationError, EvidenceError
from agent_identity.identity import SigningKey
from agent_identity.testing import FixedClock

ORIGIN = "example.com/log"
LOG = SigningKey.from_seed(bytes([1]) * 32)
KEY = SigningKey.from_seed(bytes([2]) * 32)
NAME = "witness.example/w1"
COSIGNER = Cosigner(NAME, KEY.public_key)
ENTRIES = [encode_record({"n": str(number)}) for number in range(1200)]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
FORK = [*LEAVES[:3], *(leaf_hash(b"fork %d" % number) for number in range(9))]


def note(size: int, leaves: list[bytes] = LEAVES, key: SigningKey = LOG, origin: str = ORIGIN) -> bytes:
    """Return the signed checkpoint over the first leaves."""
    return sign_note(Checkpoint(origin, size, root_of(leaves[:size])).to_text(), origin, key)


def asking(old: int, size: int, leaves: list[bytes] = LEAVES) -> bytes:
    """Return the request of an honest client."""
    return request_for(old, consistency_proof(leaves[:size], old) if old else (), note(size, leaves))


def witness_at(path: Path, *, new: bool = True) -> tuple[Witness, WitnessState]:
    """Return a witness with its state at a path."""
    state = WitnessState(path, new=new)
    return Witness(NAME, KEY, {ORIGIN: (LOG.public_key,)}, state, FixedClock()), state


@pytest.fixture
def witness(tmp_path: Path) -> Witness:
    """Return a witness that has seen nothing."""
    return witness_at(tmp_path / "state")[0]


def test_what_continues_is_cosigned(witness: Witness) -> None:
    """Each larger checkpoint with its proof gets a cosignature with a time, also the same one again."""
    for old, size in ((0, 3), (3, 3), (3, 8), (8, 1000)):
        answer = witness.add_checkpoint(asking(old, size))
        assert (answer.status, answer.kind) == (200, "text/plain; charset=utf-8")
        said = open_note(note(size) + answer.body, {}, [COSIGNER]).cosignatures
        assert [item.cosigner for item in said] == [COSIGNER]
        assert said[0].time > 0
    latest = witness.latest(hashlib.sha256(ORIGIN.encode()).hexdigest())
    assert latest is not None
    assert len(open_note(latest, {ORIGIN: LOG.public_key}, [COSIGNER]).cosignatures) == 1
    assert witness.latest("00" * 32) is None
    assert witness.logs() == (ORIGIN,)


def test_nothing_else_is_cosigned(witness: Witness) -> None:
    """Each way to ask for another history, an older state or a foreign log has the status of the protocol."""
    empty = f"{ORIGIN}\n0\n"
    wrong_empty = sign_note(f"{empty}{Checkpoint(ORIGIN, 1, LEAVES[0]).to_text().splitlines()[2]}\n", ORIGIN, LOG)
    assert witness.add_checkpoint(request_for(0, (), wrong_empty)).status == 422
    assert witness.add_checkpoint(request_for(0, (LEAVES[0],), note(3))).status == 422
    assert witness.latest(hashlib.sha256(ORIGIN.encode()).hexdigest()) is None
    assert witness.add_checkpoint(asking(0, 5)).status == 200
    other = SigningKey.from_seed(bytes([3]) * 32)
    proof = consistency_proof(LEAVES[:8], 5)
    flipped = bytearray(note(8))
    flipped[-4] ^= 1
    refused: dict[int, list[bytes]] = {
        400: [
            b"",
            b"old 05\n\n" + note(8),
            b"new 5\n\n" + note(8),
            b"old 5\nAAAA\n\n" + note(8),
            b"old 5\n!\n\n" + note(8),
            b"old \xff\n\n" + note(8),
            request_for(5, [LEAVES[0]] * 64, note(8)),
            request_for(9, proof, note(8)),
            request_for(5, proof, sign_note(f"{ORIGIN}\nmany\nroot\n", ORIGIN, LOG)),
            request_for(5, proof, note(8).replace(b"\n\n", b"\n\x01\n\n")),
            b"old 5\n\n" + bytes(MAX_REQUEST),
        ],
        403: [
            request_for(5, proof, note(8, key=other)),
            request_for(5, proof, note(8).replace("— ".encode(), "— ".encode(), 1)[:-30] + note(9)[-30:]),
        ],
        404: [b"old 5\n\n", request_for(0, (), note(8, origin="example.com/other"))],
        409: [asking(0, 8), asking(3, 8), asking(0, 3), request_for(8, (), note(8))],
        422: [
            request_for(5, (), note(8)),
            request_for(5, proof[::-1], note(8)),
            asking(5, 8, FORK),
            asking(5, 5, FORK),
            request_for(5, proof, note(5)),
        ],
    }
    for status, requests in refused.items():
        for request in requests:
            answer = witness.add_checkpoint(request)
            assert answer.status == status, request[:80]
            assert "—".encode() not in answer.body
            if status == 409:
                assert (answer.body, answer.kind) == (b"5\n", "text/x.tlog.size")
    assert witness.add_checkpoint(asking(5, 8)).status == 200


def test_each_refusal_says_what_was_expected(witness: Witness) -> None:
    """A line of plain text for the operator of the log, without anything of the request."""
    assert witness.add_checkpoint(asking(0, 5)).status == 200
    proof = consistency_proof(LEAVES[:8], 5)
    empty = sign_note(f"{ORIGIN}\n0\n{Checkpoint(ORIGIN, 1, LEAVES[0]).to_text().splitlines()[2]}\n", ORIGIN, LOG)
    malformed = (
        400,
        b"malformed; send an old size, a proof, an empty line and a checkpoint\n",
    )
    key = (403, b"no valid signature by a key of the log\n")
    changed = note(8)[:-4] + (b"A" if note(8)[-4:-3] != b"A" else b"B") + note(8)[-3:]
    for request, answer in (
        (b"", malformed),
        (request_for(5, proof, sign_note(f"{ORIGIN}\nmany\nroot\n", ORIGIN, LOG)), malformed),
        (request_for(5, proof, note(8).replace(b"\n\n", b"\n\x01\n\n")), malformed),
        (request_for(5, proof, note(8, key=KEY)), key),
        (request_for(5, proof, changed), key),
        (
            request_for(0, (), note(8, origin="example.com/other")),
            (404, b"unknown log; add its key to the witness\n"),
        ),
        (request_for(9, proof, note(8)), (400, b"the old size is greater than that of the checkpoint\n")),
        (request_for(5, (), empty), (422, b"size 0 has another root than the empty tree\n")),
        (
            request_for(5, (), note(8)),
            (422, b"the proof does not show that the checkpoint continues the latest one of its log\n"),
        ),
    ):
        assert witness.add_checkpoint(request) == (*answer, "text/plain; charset=utf-8")
    assert witness.add_checkpoint(asking(4, 8)) == (409, b"5\n", "text/x.tlog.size")


def test_requests_at_their_bounds_are_read() -> None:
    """63 hashes, 19 digits and the largest body are within them, and one more of each is not."""
    for lines, fits in ((63, True), (64, False)):
        hashes = [bytes([number]) * 32 for number in range(lines)]
        request = request_for(1, hashes, b"note")
        if fits:
            assert parse_request(request).proof == tuple(hashes)
        else:
            with pytest.raises(ValueError, match="the proof has more than 63 lines"):
                parse_request(request)
    assert parse_request(request_for(10**19 - 1, (), b"")).old_size == 10**19 - 1
    for first in (b"old 10000000000000000000", b"old 01", b"old ", b"old x", b"old +1", b"old \xc2\xb2", b"1"):
        with pytest.raises(ValueError, match=r"old <size>|ascii"):
            parse_request(first + b"\n\nnote")
    largest = request_for(1, (), b"")
    largest += b"x" * (MAX_REQUEST - len(largest))
    assert len(parse_request(largest).note) == MAX_REQUEST - 7
    for body in (largest + b"x", b"old 1\nnote"):
        with pytest.raises(ValueError, match=f"larger than {MAX_REQUEST} bytes"):
            parse_request(body)
    for size in (31, 33):
        with pytest.raises(ValueError, match="a hash is not 32 bytes long"):
            parse_request(request_for(1, [bytes(32), bytes(size)], b"note"))
    assert parse_request(b"old 1\n\nnote\n\n").note == b"note\n\n"


def test_the_cosignature_has_the_second_of_the_clock(tmp_path: Path) -> None:
    """Seconds since the Unix epoch, cut off and never rounded up."""
    state = WitnessState(tmp_path / "state", new=True)
    clock = FixedClock(7 * 10**9 + 999_999_999)
    witness = Witness(NAME, KEY, {"a": (), ORIGIN: (KEY.public_key, LOG.public_key)}, state, clock)
    answer = witness.add_checkpoint(asking(0, 3))
    assert [said.time for said in open_note(note(3) + answer.body, {}, [COSIGNER]).cosignatures] == [7]
    assert (tmp_path / "state").read_text() == (
        '{\n "version": "1",\n "logs": {\n  "example.com/log": '
        + json.dumps((note(3) + answer.body).decode(), ensure_ascii=False)
        + "\n }\n}\n"
    )
    assert witness.logs() == ("a", ORIGIN)
    assert witness.latest(hashlib.sha256(b"a").hexdigest()) is None
    assert witness.latest(hashlib.sha256(ORIGIN.encode()).hexdigest()) == note(3) + answer.body


def test_what_is_wrong_with_a_state_is_told(tmp_path: Path) -> None:
    """With the way out, and not with what is in the file."""
    path = tmp_path / "state"
    first = WitnessState(path, new=True)
    assert (tmp_path / "state.lock").stat().st_mode & 0o777 == 0o600

    def told(place: Path, *, new: bool) -> str:
        with pytest.raises(ConfigurationError) as caught:
            WitnessState(place, new=new)
        return str(caught.value)

    used = "another process uses the state of the witness; stop that one first"
    assert told(path, new=False) == told(path, new=True) == used
    first.close()
    path.write_bytes(b"{")
    assert told(path, new=False) == (
        "the state of the witness is damaged; restore it, or start a witness of another name"
    )
    absent = "the folder for the state of the witness cannot be used (No such file or directory); choose another path"
    assert told(tmp_path / "absent" / "state", new=True) == absent
    path.write_text(json.dumps({"version": "1", "logs": {"é": sign_note("é\n0\nAA\n", "é", LOG).decode()}}))
    assert "is damaged" in told(path, new=False)


def test_an_empty_log_can_be_cosigned_and_grow(witness: Witness) -> None:
    """The checkpoint over nothing is a state as any other; every tree continues it, without a proof."""
    text = Checkpoint(ORIGIN, 0, EMPTY_ROOT).to_text()
    assert witness.add_checkpoint(request_for(0, (), sign_note(text, ORIGIN, LOG))).status == 200
    assert witness.add_checkpoint(asking(0, 2)).status == 200


def test_a_witness_remembers_across_restarts(tmp_path: Path) -> None:
    """What was cosigned before a restart binds it afterwards; its file is private."""
    path = tmp_path / "state"
    witness, state = witness_at(path)
    assert witness.add_checkpoint(asking(0, 5)).status == 200
    state.close()
    again, _ = witness_at(path, new=False)
    assert again.add_checkpoint(asking(0, 5, FORK)).status == 409
    assert again.add_checkpoint(asking(5, 5, FORK)).status == 422
    assert again.add_checkpoint(asking(5, 9)).status == 200
    assert path.stat().st_mode & 0o777 == 0o600


def test_strangers_cannot_fill_the_state(tmp_path: Path) -> None:
    """Of the signatures of a submitted checkpoint only those that were verified are kept."""
    witness, _ = witness_at(tmp_path / "state")
    junk = b"".join("— junk.example AAAAAAAA\n".encode() for _ in range(2000))
    assert witness.add_checkpoint(request_for(0, (), note(5) + junk)).status == 200
    assert b"junk" not in (tmp_path / "state").read_bytes()


def test_a_state_is_used_by_one_witness_and_never_forgotten(tmp_path: Path) -> None:
    """A missing, damaged, used or existing state stops the start; nothing begins anew by itself."""
    path = tmp_path / "state"
    with pytest.raises(ConfigurationError, match="No such file"):
        WitnessState(path, new=False)
    first = WitnessState(path, new=True)
    with pytest.raises(ConfigurationError, match="another process"):
        WitnessState(path, new=False)
    first.close()
    with pytest.raises(ConfigurationError) as caught:
        WitnessState(path, new=True)
    assert caught.value.code == "already_exists"
    with pytest.raises(ConfigurationError, match="cannot be used"):
        WitnessState(tmp_path / "absent" / "state", new=True)
    logs = {ORIGIN: note(3).decode()}
    for content in (
        [],
        {},
        {"version": "2", "logs": {}},
        {"version": "1", "logs": []},
        {"version": "1", "logs": {}, "more": 1},
        {"version": "1", "logs": {ORIGIN: 1}},
        {"version": "1", "logs": {"other": note(3).decode()}},
        {"version": "1", "logs": {ORIGIN: "no checkpoint"}},
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ConfigurationError, match="state of the witness is damaged"):
            WitnessState(path, new=False)
    path.write_bytes(b"{")
    with pytest.raises(ConfigurationError, match="state of the witness is damaged"):
        WitnessState(path, new=False)
    path.write_text(json.dumps({"version": "1", "logs": logs}))
    assert WitnessState(path, new=False).get(ORIGIN) == note(3)


def test_a_state_that_cannot_be_written_cosigns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses, no cosignature leaves, and the state before still binds."""
    witness, _ = witness_at(tmp_path / "state")
    assert witness.add_checkpoint(asking(0, 3)).status == 200

    def fail(*_: object) -> None:
        raise ConfigurationError("disk")

    with monkeypatch.context() as patch:
        patch.setattr("agent_identity._ledger.transparency.witness.replace_private_file", fail)
        with pytest.raises(ConfigurationError):
            witness.add_checkpoint(asking(3, 8))
    assert witness.add_checkpoint(asking(8, 9)).body == b"3\n"


def test_of_two_histories_at_once_one_is_cosigned(witness: Witness) -> None:
    """Threads that race with two continuations of one state get exactly one of them cosigned."""
    assert witness.add_checkpoint(asking(0, 3)).status == 200
    start = threading.Barrier(8)
    found: list[int] = []

    def race(leaves: list[bytes]) -> None:
        start.wait()
        found.append(witness.add_checkpoint(asking(3, 8, leaves)).status)

    threads = [threading.Thread(target=race, args=(leaves,)) for leaves in (LEAVES, FORK) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [200] + [409] * 7


@given(st.integers(0, 2**63 - 1), st.lists(st.binary(min_size=32, max_size=32), max_size=63), st.binary(max_size=50))
def test_a_request_is_read_back(old: int, proof: list[bytes], body: bytes) -> None:
    """A request holds size, proof and checkpoint, byte for byte."""
    asked = parse_request(request_for(old, proof, body))
    assert asked == (old, tuple(proof), body)


@given(st.binary(max_size=300))
def test_no_garbage_is_a_request(data: bytes) -> None:
    """Bytes either are refused or are exactly what their request writes."""
    try:
        asked = parse_request(data)
    except ValueError:
        return
    assert request_for(*asked) == data


# The client


def test_a_log_that_was_put_back_is_noticed(tmp_path: Path, witness: Witness) -> None:
    """A client whose log has fewer entries than the witness saw says so, instead of waiting for it to grow."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    client_of(layout, net)(note(8))
    written(tmp_path, ENTRIES[:5])
    Path(cosigned_file(layout, COSIGNER)).unlink()
    with pytest.raises(EvidenceError, match="was put back"):
        client_of(layout, net)(note(5))


def written(folder: Path, entries: list[bytes]) -> Layout:
    """Return the layout of a directory whose log has these entries."""
    layout = Layout.of(folder)
    Path(layout.log).mkdir(parents=True, exist_ok=True)
    Path(layout.log_entries).write_bytes(b"".join(log_line(bytes(32), entry) for entry in entries))
    return layout


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 1000, 1200])
def test_a_log_is_proved_from_its_file(tmp_path: Path, size: int) -> None:
    """Roots and proofs over the file are those over all leaves, for sizes around the blocks, and as it grows."""
    layout = written(tmp_path, ENTRIES[: size // 2])
    tree = LogTree(Files(), layout)
    tree.read_on()
    assert (tree.size, tree.root(tree.size)) == (size // 2, root_of(LEAVES[: size // 2]))
    written(tmp_path, ENTRIES[:size])
    tree.read_on()
    for old in {1, 2, 200, 255, 256, 257, 300, 512, 513, 900, size // 2, size - 1, size} & set(range(1, size + 1)):
        assert tree.root(old) == root_of(LEAVES[:old])
        assert tree.consistency(old, size) == consistency_proof(LEAVES[:size], old)


@pytest.mark.parametrize(
    "end",
    [b'{"entry":{"n"', log_line(bytes(32), ENTRIES[3])[:-1], b"x" * (4 * 1024 * 1024 + 1) + b"\n", b"garbage\n"],
    ids=["cut", "without its newline", "too long", "none"],
)
def test_a_torn_line_ends_the_log(tmp_path: Path, end: bytes) -> None:
    """What a process is just writing is not read before it is whole, and nothing behind what is no line."""
    layout = written(tmp_path, ENTRIES[:3])
    with Path(layout.log_entries).open("ab") as file:
        file.write(end)
    tree = LogTree(Files(), layout)
    assert tree.root(0) == EMPTY_ROOT
    for _ in range(2):
        tree.read_on()
        assert (tree.size, tree.root(3), tree.root(0)) == (3, root_of(LEAVES[:3]), EMPTY_ROOT)


class Net:
    """Carries requests of clients to a witness, and what a test wants instead."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.statuses: list[int] = []
        self.instead: Callable[[bytes], tuple[int, bytes]] | None = None

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Deliver a request."""
        answer = self.witness.add_checkpoint(body)
        status, text = (answer.status, answer.body) if self.instead is None else self.instead(body)
        self.statuses.append(status)
        return status, text


def client_of(layout: Layout, net: Net) -> WitnessClient:
    """Return a client of a directory."""
    return WitnessClient(Files(), layout, COSIGNER, net.post)


def test_a_client_keeps_the_latest_cosigned_checkpoint(tmp_path: Path, witness: Witness) -> None:
    """Checkpoint after checkpoint is cosigned at the first attempt, and the last one is kept."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    client = client_of(layout, net)
    for size in (3, 8, 8, 1000):
        client(note(size))
        kept = Path(cosigned_file(layout, COSIGNER)).read_bytes()
        opened = open_note(kept, {ORIGIN: LOG.public_key}, [COSIGNER])
        assert Checkpoint.from_text(opened.text).size == size
        assert len(opened.cosignatures) == 1
    assert net.statuses == [200] * 4
    client_of(layout, net)(note(1200))
    assert net.statuses == [200] * 5


def test_a_client_that_lost_its_file_asks_again(tmp_path: Path, witness: Witness) -> None:
    """After a 409 the size that the witness named is used; a damaged file counts as none."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    client_of(layout, net)(note(8))
    Path(cosigned_file(layout, COSIGNER)).write_bytes(b"damaged")
    client_of(layout, net)(note(9))
    assert net.statuses == [200, 409, 200]
    Path(cosigned_file(layout, COSIGNER)).unlink()
    client_of(layout, net)(note(9))  # The very state that the witness knows.
    assert net.statuses == [200, 409, 200, 409, 200]
    assert Path(cosigned_file(layout, COSIGNER)).read_bytes().startswith(note(9))


def test_a_client_gives_way_to_a_later_checkpoint(tmp_path: Path, witness: Witness) -> None:
    """What another process got cosigned meanwhile is not taken back, neither at the witness nor in the file."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    slow, fast = client_of(layout, net), client_of(layout, net)
    slow(note(3))
    fast(note(8))
    before = Path(cosigned_file(layout, COSIGNER)).read_bytes()
    slow(note(5))
    assert Path(cosigned_file(layout, COSIGNER)).read_bytes() == before
    late = client_of(layout, net)
    net.instead = lambda _: (200, witness_line(5))
    late._known = 3
    late(note(5))
    assert Path(cosigned_file(layout, COSIGNER)).read_bytes() == before


def witness_line(size: int, key: SigningKey = KEY) -> bytes:
    """Return what a witness answers."""
    from agent_identity._ledger.transparency._cosignatures import cosign

    checkpoint = Checkpoint(ORIGIN, size, root_of(LEAVES[:size]))
    return cosign(checkpoint.to_text(), NAME, key, at=7).encode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((422, b""), "second history"),
        ((403, b""), "recorder key"),
        ((404, b""), "does not know the log"),
        ((400, b""), "does not understand"),
        ((500, b""), "status 500"),
        ((409, b"x\n"), "status 409"),
        ((409, b"2\n"), "each time"),
        ((200, b""), "its cosignature"),
        ((200, b"hello\n"), "its cosignature"),
        ((200, witness_line(8)), "its cosignature"),
        ((200, witness_line(5, LOG)), "its cosignature"),
        ((200, bytes(70_000)), "its cosignature"),
    ],
)
def test_a_refusal_is_an_error_and_keeps_nothing(
    tmp_path: Path, witness: Witness, answer: tuple[int, bytes], words: str
) -> None:
    """Whatever a witness answers but its cosignature of this checkpoint raises, with a reason; no file is made."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    net.instead = lambda _: answer
    with pytest.raises(EvidenceError, match=words) as caught:
        client_of(layout, net)(note(5))
    assert caught.value.code == "witness_refused"
    assert not Path(cosigned_file(layout, COSIGNER)).exists()
    assert len(net.statuses) == (3 if answer == (409, b"2\n") else 1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((422, b""), "422: the log does not continue what it saw before, so somebody has a second history"),
        ((403, b""), "403: it does not know the recorder key"),
        ((404, b""), "404: it does not know the log"),
        ((400, b""), "400: it does not understand the request"),
        ((500, b""), "500: see what its operator says"),
        ((422, b"2\n"), "422: the log does not continue what it saw before, so somebody has a second history"),
        ((409, b"02\n"), "409: it has another checkpoint each time it is asked"),
        ((409, b"2"), "409: it has another checkpoint each time it is asked"),
        ((409, b"10000000000000000000\n"), "409: it has another checkpoint each time it is asked"),
        ((409, b"0\n"), "409: it has another checkpoint each time it is asked"),
    ],
)
def test_each_status_has_its_words(tmp_path: Path, witness: Witness, answer: tuple[int, bytes], words: str) -> None:
    """The operator of the log is told what the witness means."""
    net, layout = Net(witness), written(tmp_path, ENTRIES[:9])
    net.instead = lambda _: answer
    with pytest.raises(EvidenceError) as caught:
        client_of(layout, net)(note(5))
    assert (caught.value.code, str(caught.value)) == (
        "witness_refused",
        f"the witness refused with status {words}",
    )


def test_a_client_asks_from_what_was_cosigned_last(tmp_path: Path, witness: Witness) -> None:
    """From its own last one, after a start from the file, and after a 409 from what the witness said."""
    layout, asked = written(tmp_path, ENTRIES), list[int]()

    def noted(body: bytes) -> tuple[int, bytes]:
        asked.append(parse_request(body).old_size)
        answer = witness.add_checkpoint(body)
        return answer.status, answer.body

    client = WitnessClient(Files(), layout, COSIGNER, noted)
    for size in (3, 8):
        client(note(size))
    WitnessClient(Files(), layout, COSIGNER, noted)(note(300))
    client(note(301))
    assert asked == [0, 3, 8, 8, 300]
    path = Path(cosigned_file(layout, COSIGNER))
    assert path.parent == tmp_path / "log" / "witnesses"
    assert path.name == hashlib.sha256(COSIGNER.vkey.encode()).hexdigest()[:16] + ".checkpoint"
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name, "lock"]
    assert path.read_bytes().startswith(note(301))
    asked.clear()
    client(note(8))  # The witness knows a later one: nothing to do, and nothing is forgotten.
    client(note(302))
    assert asked == [8, 301]


def test_the_latest_cosignature_of_one_state_is_kept(tmp_path: Path) -> None:
    """It says that nothing larger was known at a later time; readers may see it."""
    clock = FixedClock(7 * 10**9)
    witness = Witness(NAME, KEY, {ORIGIN: (LOG.public_key,)}, WitnessState(tmp_path / "state", new=True), clock)
    layout = written(tmp_path, ENTRIES)
    client = client_of(layout, Net(witness))
    path = Path(cosigned_file(layout, COSIGNER))
    for second in (7, 8):
        client(note(8))
        assert [said.time for said in open_note(path.read_bytes(), {}, [COSIGNER]).cosignatures] == [second]
        clock.advance(1)
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_what_does_not_fit_is_told_with_its_numbers(tmp_path: Path, witness: Witness) -> None:
    """Which log is there, which one the witness saw, and whose cosignature was expected."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    client_of(layout, net)(note(1100))
    written(tmp_path, ENTRIES[:1050])
    Path(cosigned_file(layout, COSIGNER)).unlink()
    told: list[tuple[str, str]] = []
    for size, answer in ((1050, None), (1060, None), (5, (200, b""))):
        net.instead = None if answer is None else lambda _, answer=answer: answer
        with pytest.raises(EvidenceError) as caught:
            client_of(layout, net)(note(size))
        told.append((caught.value.code, str(caught.value)))
    assert told == [
        (
            "witness_refused",
            ("the log has 1,050 entries, but the witness saw 1,100; the log was put back, verify the directory"),
        ),
        (EvidenceError.default_code, "the log is not the one of the checkpoint; verify the directory"),
        (
            "witness_refused",
            "the witness did not return its cosignature over the checkpoint; compare its verifier key",
        ),
    ]


def test_a_log_that_is_not_that_of_the_checkpoint_is_not_shown(tmp_path: Path, witness: Witness) -> None:
    """A client never asks for a checkpoint that the log on disk does not have; one that was mended is read again."""
    net, layout = Net(witness), written(tmp_path, ENTRIES[:4])
    client = client_of(layout, net)
    with pytest.raises(EvidenceError, match="verify the directory"):
        client(note(5))
    written(tmp_path, [ENTRIES[0], b'{"n":"x"}', *ENTRIES[2:9]])
    stale = LogTree(Files(), layout)
    stale.read_on()
    client = client_of(layout, net)
    with pytest.raises(EvidenceError, match="verify the directory"):
        client(note(5))
    written(tmp_path, ENTRIES[:9])
    client._tree = stale
    client(note(5))
    assert net.statuses == [200]


def test_a_directory_that_cannot_be_written_is_an_error(tmp_path: Path, witness: Witness) -> None:
    """Where the cosignature cannot be kept, the caller learns of it."""
    net, layout = Net(witness), written(tmp_path, ENTRIES)
    Path(layout.witnesses).write_text("in the way")
    with pytest.raises(EvidenceError, match="could not have a checkpoint cosigned"):
        client_of(layout, net)(note(5))
