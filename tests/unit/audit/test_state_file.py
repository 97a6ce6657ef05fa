"""A verification that goes on where it was stopped finds what one finds that was not."""

import contextlib
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import orjson
import pytest

from agent_identity.audit import check, parts, state_file
from agent_identity.audit.calls_check import CallsPart
from agent_identity.audit.parts import Found, Work
from agent_identity.audit.stream_check import StreamPart
from agent_identity.audit.use_store import Packed
from agent_identity.authority import Scope
from agent_identity.enforcement import Enforcer
from agent_identity.errors import ConfigurationError
from agent_identity.evidence.segments import Piece
from agent_identity.identity import Agent, Human

sys.path.insert(0, str(Path(__file__).parents[2] / "adversarial"))

import surgeries

from agent_identity.evidence.sealing import Sealing

ROWS = [(table, name) for table, rows in surgeries.TABLES.items() for name in rows]
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[surgeries.Patient]:
    """The ledger under the knife."""
    ensure = Sealing._ensure_thread
    yield surgeries.patient_in(tmp_path_factory.mktemp("surgery"))
    Sealing._ensure_thread = ensure  # type: ignore[method-assign]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[parts.Work]:
    """The parts that are read and not remembered."""
    found: list[parts.Work] = []
    read_work = parts.read_work

    def noted(work: parts.Work) -> tuple[parts.Work, parts.Found | None]:
        found.append(work)
        return read_work(work)

    monkeypatch.setattr(state_file, "read_work", noted)
    monkeypatch.setattr(parts, "_PIECE", 2_500)
    return found


def test_what_was_read_is_not_read_again(patient: surgeries.Patient, tmp_path: Path, reads: list[parts.Work]) -> None:
    """The second run only reads what there is to report about, and its report is the same."""
    plain = check(patient.directory, surgeries.clean.TRUST)
    assert check(patient.directory, surgeries.clean.TRUST, state=tmp_path / "state") == plain
    first = len(reads)
    assert check(patient.directory, surgeries.clean.TRUST, state=tmp_path / "state") == plain
    assert first > 5
    assert len(reads) - first < first / 2


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_a_state_from_before_any_surgery_hides_nothing(
    patient: surgeries.Patient,
    tmp_path: Path,
    reads: list[parts.Work],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    name: str,
) -> None:
    """A ledger that is changed after it was read gets the verdict of the table, and the report of a fresh run."""
    state = tmp_path / "state"
    check(patient.directory, surgeries.clean.TRUST, state=state)
    plain = surgeries.check

    def remembering(*words: object, **options: object) -> object:
        report = plain(*words, **options)
        if Path(str(words[0])).is_dir():
            assert plain(*words, **options, state=state) == report
        return report

    monkeypatch.setattr(surgeries, "check", remembering)
    places = surgeries.places(patient, table)
    assert surgeries.judge(patient, table, name, places[len(places) // 2]) in (None, "not here")


def test_a_ledger_that_grew_is_read_from_where_it_ended(tmp_path: Path, reads: list[parts.Work]) -> None:
    """Parts that were sealed then and are sealed now need not be read again."""
    directory, state = tmp_path / "e", tmp_path / "state"
    with Enforcer.open(directory) as enforcer:
        for _ in range(2):
            for _ in range(12):
                with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")):
                    pass
            enforcer._point.ledger.seal()
            before = len(reads)
            check(directory, state=state)
        assert before < len(reads) <= 2 * before + 3  # Else the parts of the first run were read again, too.


def entries(state: Path) -> dict[bytes, bytes]:
    """Return what is kept."""
    with contextlib.closing(sqlite3.connect(state)) as file, file:
        return dict(file.execute("SELECT key, found FROM parts"))


def put(state: Path, found: Mapping[bytes, bytes | str]) -> None:
    """Replace what is kept."""
    with contextlib.closing(sqlite3.connect(state)) as file, file:
        file.execute("DELETE FROM parts")
        file.executemany("INSERT INTO parts VALUES (?, ?)", found.items())


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"{}",
        lambda _: "a text",
        lambda found: found[:-1],
        lambda found: found[:32] + found[32:].replace(b'"calls"', b'"CALLS"'),
        lambda found: b"\0" * 32 + found[32:],
    ],
)
def test_a_damaged_state_is_read_anew(
    patient: surgeries.Patient,
    tmp_path: Path,
    reads: list[parts.Work],
    damage: Callable[[bytes], bytes | str],
) -> None:
    """What is not as it was written is no help, and no harm."""
    state = tmp_path / "state"
    plain = check(patient.directory, surgeries.clean.TRUST, state=state)
    before = len(reads)
    put(state, {key: damage(found) for key, found in entries(state).items()})
    assert check(patient.directory, surgeries.clean.TRUST, state=state) == plain
    assert len(reads) == 2 * before


def test_entries_that_changed_their_places_are_none(
    patient: surgeries.Patient, tmp_path: Path, reads: list[parts.Work]
) -> None:
    """What was found in one part is not taken for another one."""
    state = tmp_path / "state"
    plain = check(patient.directory, surgeries.clean.TRUST, state=state)
    before, kept = len(reads), entries(state)
    put(state, dict(zip(kept, [*list(kept.values())[1:], next(iter(kept.values()))], strict=True)))
    assert check(patient.directory, surgeries.clean.TRUST, state=state) == plain
    assert len(reads) == 2 * before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["found"], ["0", "1", 0]),
        (["found", 0], -1),
        (["found", 1], 0),
        (["found"], []),
        (["part", 0], "1"),
        (["part", 0], True),
        (["part", 1], 1),
        (["part", 1], "ab"),
        (["part", 2], "9"),
        (["part", 2], 10**6),
        (["part", 3], None),
        (["part", 3], "ab"),
        (["part", 4], 3),
        (["part", 6], ""),
        (["part", 6], "#"),
        (["part", 7], "AAAA"),
        (["part", 7], ""),
        (["part", 8], [1]),
        (["part", 8], {"intent": "x"}),
        (["part", 8], {"intent": -1}),
        (["calls", 0], [[1, 2]]),
        (["calls", 1], [[1, 2]]),
        (["calls", 2], [1]),
        (["calls", 3], [["a"]]),
        (["calls", 4], []),
        (["calls", 5], {"x": 1.5}),
        (["calls", 6], [[1, [2]]]),
        (["calls", 7], 1),
        (["calls"], [1]),
        (["part"], None),
    ],
)
def test_an_entry_of_another_form_is_none(
    patient: surgeries.Patient, tmp_path: Path, reads: list[parts.Work], path: list[str | int], value: object
) -> None:
    """Types and lengths are looked at, even if the hash of an entry is right."""
    state = tmp_path / "state"
    plain = check(patient.directory, surgeries.clean.TRUST, state=state)
    before, changed = len(reads), {}
    for key, found in entries(state).items():
        kept = orjson.loads(found[32:])
        at = kept
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = value
        data = orjson.dumps(kept)
        changed[key] = state_file._digest(key, data) + data
    put(state, changed)
    assert check(patient.directory, surgeries.clean.TRUST, state=state) == plain
    assert len(reads) == 2 * before


def test_a_run_to_the_end_leaves_what_it_used(tmp_path: Path, reads: list[parts.Work]) -> None:
    """A ledger that grows run after run has each of its parts in the state once."""
    directory, state = tmp_path / "e", tmp_path / "state"
    with Enforcer.open(directory) as enforcer:
        for _ in range(6):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")):
                pass
            enforcer._point.ledger.seal()
            check(directory, state=state)
    del reads[:]
    check(directory, state=tmp_path / "fresh")
    check(directory, state=state)
    assert entries(state).keys() == entries(tmp_path / "fresh").keys()
    assert check(patient_of(tmp_path), state=state).verdict == "cannot_tell"  # A run that uses none removes none.
    assert entries(state).keys() == entries(tmp_path / "fresh").keys()


def patient_of(tmp_path: Path) -> Path:
    """Return an evidence directory without records."""
    (tmp_path / "none" / "ledger").mkdir(parents=True)
    return tmp_path / "none"


def test_a_state_that_is_not_ones_own_is_refused(tmp_path: Path, patient: surgeries.Patient) -> None:
    """A file that others can open, a link, a folder and a file of something else are no state."""
    shared = tmp_path / "shared"
    shared.touch(mode=0o644)
    (tmp_path / "link").symlink_to(shared)
    (tmp_path / "other").write_text("no database" * 100)
    (tmp_path / "other").chmod(0o600)
    for name in ("shared", "link", "other", "missing/state", "."):
        with pytest.raises(ConfigurationError, match="expected a state file"):
            check(patient.directory, surgeries.clean.TRUST, state=tmp_path / name)


@pytest.mark.parametrize("suffix", ["-journal", "-wal", "-shm"])
def test_a_file_planted_beside_the_state_is_refused(tmp_path: Path, patient: surgeries.Patient, suffix: str) -> None:
    """SQLite would roll it back into the state, so it must be one's own like the state; a sound one is no harm."""
    state, beside = tmp_path / "state", tmp_path / f"state{suffix}"
    beside.touch(mode=0o666)
    beside.chmod(0o644)
    with pytest.raises(ConfigurationError, match=f"state{suffix}"):
        check(patient.directory, surgeries.clean.TRUST, state=state)
    assert not state.exists()
    beside.chmod(0o600)
    (tmp_path / "hard").hardlink_to(beside)
    with pytest.raises(ConfigurationError, match=f"state{suffix}"):
        check(patient.directory, surgeries.clean.TRUST, state=state)
    beside.unlink()
    beside.symlink_to(tmp_path / "hard")
    with pytest.raises(ConfigurationError, match=f"state{suffix}"):
        check(patient.directory, surgeries.clean.TRUST, state=state)
    beside.unlink()
    beside.touch(mode=0o600)
    assert check(patient.directory, surgeries.clean.TRUST, state=state).exit_code == 0


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720])
def test_a_folder_that_others_can_write_has_no_state(tmp_path: Path, patient: surgeries.Patient, mode: int) -> None:
    """Whoever can make files beside the state can change it; one further up counts without its sticky bit."""
    folder = tmp_path / "folder"
    (folder / "own").mkdir(parents=True)
    folder.chmod(mode)
    (tmp_path / "link").symlink_to(folder)
    for where in (folder, tmp_path / "link"):
        with pytest.raises(ConfigurationError, match="only you can write"):
            check(patient.directory, surgeries.clean.TRUST, state=where / "state")
    assert list(folder.iterdir()) == [folder / "own"]
    if mode & 0o1000:
        assert check(patient.directory, surgeries.clean.TRUST, state=folder / "own" / "state").exit_code == 0
    else:
        with pytest.raises(ConfigurationError, match="only you can write"):
            check(patient.directory, surgeries.clean.TRUST, state=folder / "own" / "state")


def test_a_folder_of_another_user_has_no_state(
    tmp_path: Path, patient: surgeries.Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder belongs to the verifier or to root."""
    other = tmp_path.stat().st_uid + 1
    monkeypatch.setattr("os.geteuid", lambda: other)
    if other != 1:
        with pytest.raises(ConfigurationError, match="only you can write"):
            check(patient.directory, surgeries.clean.TRUST, state=tmp_path / "state")
    else:  # The tests run as root, whose folders are trusted; not so its files.
        (tmp_path / "state").touch(mode=0o600)
        with pytest.raises(ConfigurationError, match="expected a state file of your own"):
            check(patient.directory, surgeries.clean.TRUST, state=tmp_path / "state")


def test_what_is_no_path_of_a_state_is_refused(patient: surgeries.Patient) -> None:
    """Other types and characters that no name can have are told by words."""
    for path in (b"bytes", 3):
        with pytest.raises(TypeError, match=r"state=.*expected str or PathLike"):
            check(patient.directory, surgeries.clean.TRUST, state=path)  # type: ignore[arg-type]
    for name in ("a\0b", "x" * 5_000, "\ud800"):
        with pytest.raises(ConfigurationError, match="expected a"):
            check(patient.directory, surgeries.clean.TRUST, state=name)


def test_a_state_is_not_in_the_evidence(patient: surgeries.Patient) -> None:
    """An empty file of a ledger is not made a state."""
    path = Path(patient.directory) / "ledger" / "state"
    with pytest.raises(ConfigurationError, match="outside of the evidence directory"):
        check(patient.directory, surgeries.clean.TRUST, state=path)
    assert not path.exists()


def test_traces_have_no_state(tmp_path: Path) -> None:
    """A state is of a ledger, and is not made for anything else."""
    (tmp_path / "spans.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="got traces"):
        check(tmp_path / "spans.json", surgeries.clean.TRUST, state=tmp_path / "state")
    with pytest.raises(ConfigurationError, match="got traces"):
        check(tmp_path / "spans.json", pasted=True, state=tmp_path / "state")
    assert not (tmp_path / "state").exists()


CALLS = CallsPart(
    uses=[Packed(b"grants", b"use"), Packed(b"", b"another")],
    tokens=[("leaf", "token")],
    open=[b"open", b"waiting"],
    deferred=[(b"intent", b"outcome")],
    outcomes={"ok": 3, "error": 0},
    counts={"approved": 4},
    later=[({"kind": "revocation"}, ("a", 7))],
    lowest=b"019a",
    highest=b"019b",
)
PART = StreamPart(
    first=4,
    prev=b"a" * 64,
    last=6,
    last_hash=b"b" * 64,
    last_id=b"019c",
    ended=True,
    leaves=bytes(range(96)),
    times=bytes(range(24)),
    kinds={"intent": 1, "outcome": 2},
    calls=CALLS,
)


def work_on(path: Path, start: int = 0, stop: int | None = None, *, committed: int = 9) -> Work:
    """Return a part of a file."""
    return Work("a", Piece(str(path), path.stat().st_size, start, stop), committed, pruned=False)


@pytest.mark.parametrize(
    "part",
    [
        PART,
        PART._replace(ended=False),
        PART._replace(last_id=None),
        PART._replace(first=1, prev=b"", last=3),
        PART._replace(last=4, leaves=bytes(32), times=bytes(8), calls=CallsPart([], [], [], [], {}, {}, [], b"", b"")),
    ],
)
def test_what_is_kept_of_a_part_comes_back_as_it_was(tmp_path: Path, part: StreamPart) -> None:
    """Each of its members, in its own place and type, and with the key under which it is kept."""
    path, state = tmp_path / "lines", state_file.check_state(tmp_path / "state")
    path.write_bytes(b"line\n")
    work, results = work_on(path), [Found(0, 5, part), None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_file, "read_work", lambda work: (work, results.pop(0)))
        assert state_file.read_or_remember(work, state=state) == (work, Found(0, 5, part, state_file._key(work)))
        assert state_file.read_or_remember(work, state=state) == (work, Found(0, 5, part, state_file._key(work)))
        assert results == [None]
        assert entries(Path(state)).keys() == {state_file._key(work)}


def test_what_has_to_be_read_in_its_order_is_not_kept(tmp_path: Path) -> None:
    """Neither a part with anything to report, nor one in which no line begins."""
    path, state = tmp_path / "lines", state_file.check_state(tmp_path / "state")
    path.write_bytes(b"line\n")
    work = work_on(path)
    for found in (None, Found(0, 0, None)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(state_file, "read_work", lambda work, found=found: (work, found))
            assert state_file.read_or_remember(work, state=state) == (work, found)
        assert entries(Path(state)) == {}


def test_bytes_that_change_while_they_are_read_are_not_kept(tmp_path: Path) -> None:
    """What was found in them may be that of other bytes than the key names."""
    path, state = tmp_path / "lines", state_file.check_state(tmp_path / "state")
    path.write_bytes(b"line\n")

    def changing(work: Work) -> tuple[Work, Found | None]:
        path.write_bytes(b"LINE\n")
        return work, Found(0, 5, PART)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_file, "read_work", changing)
        assert state_file.read_or_remember(work_on(path), state=state) == (work_on(path), Found(0, 5, PART))
    assert entries(Path(state)) == {}


@pytest.mark.parametrize(
    ("then", "now", "known"),
    [(9, 9, True), (6, 9, True), (9, 6, True), (5, 9, False), (9, 5, False), (3, 3, True), (0, 6, False)],
)
def test_what_the_log_committed_to_meanwhile_counts(then: int, now: int, known: bool) -> None:
    """A part is used if the log covered all of it then and does now, or covers as much of it as then."""
    found = Found(2, 5, PART)
    assert state_file._unpacked(state_file._packed(found, then), now) == (found if known else None)


@pytest.mark.parametrize(
    "changed",
    [
        PART._replace(first=5),
        PART._replace(last=7),
        PART._replace(first=7),
        PART._replace(leaves=bytes(64)),
        PART._replace(leaves=bytes(97)),
        PART._replace(times=bytes(16)),
        PART._replace(times=bytes(25)),
        PART._replace(first=7, leaves=b"", times=b""),
        PART._replace(prev=b"a" * 63),
        PART._replace(prev=b"a" * 65),
        PART._replace(last_hash=b""),
        PART._replace(last_hash=b"b" * 65),
    ],
)
def test_an_entry_of_other_lengths_is_none(changed: StreamPart) -> None:
    """The tree does not grow by other records than the place of a part says."""
    assert state_file._unpacked(state_file._packed(Found(0, 5, changed), 9), 9) is None


@pytest.mark.parametrize("member", [6, 7])
def test_an_entry_with_more_than_hashes_and_times_is_none(member: int) -> None:
    """Signs that are none of Base64 are not passed over."""
    kept = orjson.loads(state_file._packed(Found(0, 5, PART), 9))
    assert state_file._unpacked(orjson.dumps(kept), 9) == Found(0, 5, PART)
    kept["part"][member] = "#" + kept["part"][member]
    with pytest.raises(ValueError, match="base64"):
        state_file._unpacked(orjson.dumps(kept), 9)


@pytest.mark.parametrize(("start", "end", "known"), [(0, 1, True), (4, 5, True), (5, 5, False), (6, 5, False)])
def test_an_entry_has_at_least_one_byte_of_the_file(start: int, end: int, known: bool) -> None:
    """Where a part begins is before its end."""
    found = Found(start, end, PART)
    assert state_file._unpacked(state_file._packed(found, 9), 9) == (found if known else None)


@pytest.mark.parametrize("chunk", [1, 2, 3, 1024])
@pytest.mark.parametrize(
    ("start", "stop", "counted"),
    [
        (0, 3, range(6)),
        (0, 6, range(12)),
        (3, 8, range(2, 12)),
        (1, 2, range(2)),  # No line begins here, and one that goes on without end is read but once.
        (6, 7, range(5, 12)),
        (7, 15, range(6, 18)),
        (0, None, range(20)),
        (7, None, range(6, 20)),
    ],
)
def test_a_key_is_of_all_bytes_of_a_part_and_of_no_others(
    tmp_path: Path, start: int, stop: int | None, counted: range, chunk: int
) -> None:
    """With the byte before it, and the rest of its last line; however they are read."""
    path, data = tmp_path / "lines", b"01234\n67890\n23456\n89"
    path.write_bytes(data)
    key = state_file._key(work_on(path, start, stop))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_file, "_CHUNK", chunk)
        assert state_file._key(work_on(path, start, stop)) == key
        noticed = []
        for place in range(len(data)):
            path.write_bytes(data[:place] + b"x" + data[place + 1 :])
            if state_file._key(work_on(path, start, stop)) != key:
                noticed.append(place)
    assert noticed == list(counted)


def test_a_key_is_of_a_version_a_stream_a_place_and_whether_records_were_pruned(tmp_path: Path) -> None:
    """What the log commits to is no part of it: a ledger that grew would find nothing."""
    path = tmp_path / "lines"
    path.write_bytes(b"\n" * 9)
    work = work_on(path, 2, 5)
    others = [
        work._replace(stream="b"),
        work._replace(pruned=True),
        work_on(path, 3, 5),
        work_on(path, 2, 6),
        work_on(path, 2),
    ]
    keys = {state_file._key(one) for one in (work, *others)}
    assert len(keys) == 6
    assert state_file._key(work_on(path, 2, 5, committed=1)) == state_file._key(work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_file, "VERSION", "another")
        assert state_file._key(work) not in keys
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        state_file._key(work_on(tmp_path / "link"))


def test_entries_that_a_run_used_stay(tmp_path: Path) -> None:
    """All others go; of parts that were not kept nothing is noted, and a run that used none removes none."""
    state = state_file.check_state(tmp_path / "state")
    path = tmp_path / "lines"
    path.touch()
    work, kept = work_on(path), dict.fromkeys((b"1", b"2", b"3"), b"found")
    put(Path(state), kept)

    def handed(_: object, items: object) -> Iterator[object]:
        yield from items  # type: ignore[misc]

    for results, left in (
        ([], kept.keys()),
        ([(work, Found(0, 1, PART)), (work, None), "else"], kept.keys()),
        ([(work, Found(0, 1, PART, b"1")), (work, None), (work, Found(0, 1, PART, b"3"))], {b"1", b"3"}),
    ):
        used = state_file.Used(state, handed)  # type: ignore[arg-type]
        assert list(used(str, results)) == results
        used.keep()
        assert entries(Path(state)).keys() == left
    (tmp_path / "state").write_text("no database" * 100)
    used.keep()


def test_a_state_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Its path is absolute, links of folders are followed, and its name is told if it cannot be made."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        old = os.umask(0)
        try:
            made = state_file.check_state("link/state")
        finally:
            os.umask(old)
    assert made == str(tmp_path / "real" / "state")
    assert Path(made).stat().st_mode & 0o777 == 0o600
    assert entries(Path(made)) == {}
    assert state_file.check_state(Path(made), apart_from=str(tmp_path / "other")) == made
    with pytest.raises(ConfigurationError, match="outside of the evidence"):
        state_file.check_state(made, apart_from=str(tmp_path / "link"))
    with pytest.raises(
        ConfigurationError, match=r"at '.*absent/state', got 'No such file or directory'; check the path"
    ):
        state_file.check_state(tmp_path / "absent" / "state")
