"""The table has every record to the byte, says what it is, and is there as a whole or not at all."""

import json
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._identity.common.encoding import digest_of
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._ledger.reader import LedgerReader, open_ledger
from agent_identity._ledger.sealer import Sealing
from agent_identity._record.codec import decode
from agent_identity._reports.export import _parquet_files as parquet_files
from agent_identity._reports.export import tables
from agent_identity._reports.export._parquet_files import ParquetTable, Row, connected
from agent_identity._reports.export.tables import COLUMNS
from agent_identity._storage.lines import stream_line
from agent_identity.audit import export_tables
from agent_identity.errors import ConfigurationError, Denied

EVIDENCE = Path(__file__).resolve().parents[3] / "vectors" / "evidence"
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com", version="2")


def recorded(directory: Path) -> list[str]:
    """Return the records of a ledger."""
    reader = open_ledger(directory)
    lines = (line.record for stream in reader.streams() for line in reader.entries(stream))
    return [data.decode() for data in lines if data is not None]


def row_of(data: bytes) -> Row:
    """Return the columns of a record."""
    return tables._row(data, decode(data), None)


def opened(folder: Path, about: Mapping[str, str]) -> ParquetTable:
    """Return a table of records that is still empty."""
    return ParquetTable(connected(duckdb), str(folder), about, name="records", columns=COLUMNS)


def put(table: ParquetTable, row: Row) -> None:
    """Add a row."""
    table.add(row, len(str(row["record"])))


def finish(table: ParquetTable) -> None:
    """Write what is left, and end the engine."""
    table.finish()
    table._engine.close()


def ask(folder: Path, what: str, rest: str = "") -> list[tuple[object, ...]]:
    """Return what DuckDB answers about the table of records."""
    folder = folder / "records" if (folder / "records").is_dir() else folder
    files = [str(path) for path in sorted(folder.rglob("*.parquet"))]
    with duckdb.connect() as engine:  # That of the module would keep its threads.
        query = f"SELECT {what} FROM read_parquet(?, hive_partitioning = true) {rest}"  # noqa: S608
        return engine.execute(query, [files]).fetchall()


def about(folder: Path) -> dict[str, str]:
    """Return what all files of a table say about themselves."""
    files = [str(path) for path in folder.rglob("*.parquet")]
    with duckdb.connect() as engine:
        rows = engine.execute("SELECT DISTINCT key, value FROM parquet_kv_metadata(?)", [files]).fetchall()
    found = {key.decode(): value.decode() for key, value in rows}
    assert len(found) == len(rows)
    return {key: value for key, value in found.items() if key.startswith("agent_identity.")}


def test_every_record_is_there_to_the_byte(tmp_path: Path) -> None:
    """The records of the golden evidence, with the columns that they state and their hashes."""
    written = export_tables(EVIDENCE, tmp_path / "new" / "er" / "table")
    columns = "record, sha256, id, kind, seq, time_ns, epoch_us(time), CAST(day AS VARCHAR)"
    rows = ask(tmp_path / "new" / "er" / "table", columns)
    assert (written.records, written.left_out, written.report) == (30, 0, None)
    assert sorted(str(row[0]) for row in rows) == sorted(recorded(EVIDENCE))
    for text, digest, id_, kind, seq, start, moment, day in rows:
        record = decode_record(str(text).encode())
        assert digest == digest_of(str(text).encode())
        assert (id_, kind) == (record["id"], record["kind"])
        assert (str(seq), str(start)) == (record["stream"]["seq"], record["time"]["start"])  # type: ignore[index, call-overload]
        assert isinstance(start, int)
        assert moment == start // 1000
        assert day == "2025-11-24"


def test_columns_say_who_did_what_for_whom(tmp_path: Path) -> None:
    """Principal, agents of the chain, decision and outcome stand in columns of their types."""
    scope = Scope("pay")
    with Enforcer.open(tmp_path / "e") as enforcer, enforcer.task("t", principal=ALICE, agent=CLERK, scope=scope):
        with enforcer.action("pay"):
            pass
        with pytest.raises(Denied), enforcer.action("steal"):
            pass
    export_tables(tmp_path / "e", tmp_path / "table")
    columns = "principal, principal_kind, agent, agent_owner, agent_version, tool, outcome, effect, reason, len(grants)"
    who = ("alice@example.com", "human", "clerk", "finance@example.com", "2")
    assert ask(tmp_path / "table", columns, "WHERE kind = 'outcome' ORDER BY seq") == [
        (*who, "pay", "success", "allow", "within_scope", 1),
        (*who, "steal", "denied", "block", "tool_not_granted", 1),
    ]
    assert ask(tmp_path / "table", "DISTINCT chain", "WHERE kind = 'intent'") == [(["clerk"],)]
    assert ask(tmp_path / "table", "typeof(time), typeof(seq)", "LIMIT 1") == [("TIMESTAMP", "UBIGINT")]


def test_the_policy_that_refused_a_call_is_in_its_row(tmp_path: Path) -> None:
    """The record leaves its name and version to the detail of the call."""
    stop = Rule(Effect.BLOCK, tools="pay", reason="never", id="stop")
    policy = RuleSet(stop, name="house", version="7", default=Effect.ALLOW)
    with (
        Enforcer.open(tmp_path / "e", policy=policy) as enforcer,
        enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("pay")),
        pytest.raises(Denied),
        enforcer.action("pay"),
    ):
        pass
    export_tables(tmp_path / "e", tmp_path / "table")
    assert ask(tmp_path / "table", "policy, policy_version, rule", "WHERE kind = 'outcome'") == [("house", "7", "stop")]


def test_a_table_says_a_verdict_only_if_there_was_one(tmp_path: Path) -> None:
    """Without a verification the files say that they are a copy, and no word of a verdict."""
    export_tables(EVIDENCE, tmp_path / "plain")
    assert sorted(about(tmp_path / "plain")) == ["agent_identity.note", "agent_identity.version"]
    assert "no proof" in about(tmp_path / "plain")["agent_identity.note"]
    written = export_tables(EVIDENCE, tmp_path / "sure", verify=True, trust=EVIDENCE / "trust.json")
    assert written.report == Verifier(EVIDENCE / "trust.json").ledger(EVIDENCE)
    said = json.loads(about(tmp_path / "sure")["agent_identity.verification"])
    assert (said["verdict"], said["trust"]) == ("verified", "given")
    assert said["counts"] == dict(written.report.counts)
    assert [said["log"]] == [one.size for one in written.report.signatures if one.role == "recorder"]
    with pytest.raises(ConfigurationError, match="without a verification; ask for one"):
        export_tables(EVIDENCE, tmp_path / "x", trust=EVIDENCE / "trust.json")


def test_a_table_of_a_log_that_no_trusted_key_signed_names_no_size(tmp_path: Path) -> None:
    """The size of the log is that which the recorder signed, and otherwise there is none."""
    Enforcer.open(tmp_path / "other").close()
    export_tables(EVIDENCE, tmp_path / "table", verify=True, trust=tmp_path / "other" / "trust.json")
    said = json.loads(about(tmp_path / "table")["agent_identity.verification"])
    assert (said["verdict"] == "verified", said["log"]) == (False, None)


def test_a_changed_ledger_makes_a_table_that_says_so(tmp_path: Path) -> None:
    """The verdict in the files is the one that was found, however bad."""
    shutil.copytree(EVIDENCE, tmp_path / "e")
    path = max((tmp_path / "e" / "ledger").glob("*/entries*"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes().replace(b"policy_blocks", b"policy_blacks"))
    written = export_tables(tmp_path / "e", tmp_path / "table", verify=True)
    assert written.report is not None
    assert written.report.verdict == "contradicted"
    assert json.loads(about(tmp_path / "table")["agent_identity.verification"])["verdict"] == "contradicted"


class _Ordered:
    """A ledger whose streams come in a given order."""

    def __init__(self, reader: LedgerReader, streams: Sequence[str]) -> None:
        self.entries, self.streams = reader.entries, lambda: streams


def test_what_no_log_covers_is_not_in_a_verified_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records behind the last seal were not proved by it, and are left out; without a verification they are there."""
    monkeypatch.setattr(Sealing, "_ensure_thread", lambda self: False)
    for _ in range(2):
        task = {"principal": ALICE, "agent": CLERK, "scope": Scope("pay")}
        with Enforcer.open(tmp_path / "e") as enforcer, enforcer.task("t", **task):
            shutil.copytree(tmp_path / "e", tmp_path / "cut", dirs_exist_ok=True)
    sizes = open_ledger(tmp_path / "cut").sealed_sizes()
    sealed = sum(sizes.values())
    assert 0 < sealed < len(recorded(tmp_path / "cut"))
    # What stands behind the open stream is left out of it, and of no other.
    reader = open_ledger(tmp_path / "cut")
    streams = list(reader.streams())
    assert len(streams) > 1
    for order in (streams, streams[::-1]):
        rows = tables._rows(_Ordered(reader, order), sizes)  # type: ignore[arg-type]
        assert sum(1 for _ in rows) == sealed
    assert export_tables(tmp_path / "cut", tmp_path / "sure", verify=True).records == sealed
    assert export_tables(tmp_path / "cut", tmp_path / "all").records == len(recorded(tmp_path / "cut"))


def test_what_is_no_record_is_counted(tmp_path: Path) -> None:
    """Lines that are no records are left out, and the number of them is told; earlier records as well, if asked."""
    shutil.copytree(EVIDENCE, tmp_path / "e")
    path = max((tmp_path / "e" / "ledger").glob("*/entries*"))
    path.write_bytes(path.read_bytes() + b'no record\n{"v":"1"}\n' + stream_line(bytes(32), b'{"v":"1"}'))
    written = export_tables(tmp_path / "e", tmp_path / "table")
    assert (written.records, written.left_out) == (30, 3)
    assert export_tables(EVIDENCE, tmp_path / "late", since_ns=2**63).records == 0
    last = max(int(decode_record(text.encode())["time"]["start"]) for text in recorded(EVIDENCE))  # type: ignore[index, call-overload]
    assert export_tables(EVIDENCE, tmp_path / "last", since_ns=last).records >= 1
    assert export_tables(EVIDENCE, tmp_path / "none", since_ns=last + 1).records == 0


def test_many_files_have_what_one_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With bounds of a few rows the table has the same records, in more files; days have folders of their own."""
    monkeypatch.setattr(parquet_files, "_INSERTED", (2, 10**6))
    monkeypatch.setattr(parquet_files, "_WRITTEN", (4, 10**6))
    export_tables(EVIDENCE, tmp_path / "rows")
    assert len(list((tmp_path / "rows" / "records").glob("day=2025-11-24/*.parquet"))) == 8
    monkeypatch.setattr(parquet_files, "_INSERTED", (10**6, 1))
    monkeypatch.setattr(parquet_files, "_WRITTEN", (10**6, 1))
    export_tables(EVIDENCE, tmp_path / "bytes")
    assert len(list((tmp_path / "bytes" / "records").rglob("*.parquet"))) == 30
    for name in ("rows", "bytes"):
        assert sorted(str(row[0]) for row in ask(tmp_path / name, "record")) == sorted(recorded(EVIDENCE))


def test_many_days_do_not_need_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of many days, a few records on each, is written some days at a time, each in its folder."""
    monkeypatch.setattr(parquet_files, "_MEMORY", "500MB")  # All of these days at once would need more.
    row = row_of(recorded(EVIDENCE)[0].encode())
    table = opened(tmp_path, {"agent_identity.note": "days"})
    for number in range(1_000):
        put(table, {**row, "seq": number, "time_ns": number * 86_400 * 10**9})
    finish(table)
    assert len(list(tmp_path.glob("day=*/*.parquet"))) == 1_000
    assert ask(tmp_path, "count(DISTINCT seq), max(CAST(day AS VARCHAR))") == [(1_000, "1972-09-26")]


@pytest.mark.parametrize(
    ("inserted", "written", "sizes"),
    [
        ((3, 10**6), (6, 10**6), [6, 6, 2]),
        ((10**6, 30), (10**6, 60), [6, 6, 2]),
        ((10**6, 31), (10**6, 41), [8, 6]),
        ((10**6, 31), (10**6, 40), [4, 4, 4, 2]),
        ((10**6, 29), (10**6, 1), [3, 3, 3, 3, 2]),
    ],
)
def test_rows_and_bytes_bound_what_is_held(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inserted: tuple[int, int],
    written: tuple[int, int],
    sizes: list[int],
) -> None:
    """A bound that is reached is enough, rows and bytes are counted anew each time, and files have numbers."""
    monkeypatch.setattr(parquet_files, "_INSERTED", inserted)
    monkeypatch.setattr(parquet_files, "_WRITTEN", written)
    row = {**row_of(recorded(EVIDENCE)[0].encode()), "record": "x" * 10}
    table = opened(tmp_path, {"agent_identity.note": "bounds"})
    for number in range(14):
        put(table, {**row, "seq": number})
    finish(table)
    files = sorted(tmp_path.rglob("*.parquet"))
    assert [file.name for file in files] == [f"records-{number:06}-0.parquet" for number in range(1, len(sizes) + 1)]
    with duckdb.connect() as engine:
        held = [engine.execute("SELECT count(*) FROM read_parquet(?)", [str(file)]).fetchone() for file in files]
    assert held == [(size,) for size in sizes]


def test_so_many_days_are_held_and_no_more(tmp_path: Path) -> None:
    """Each file has the days that were held together, wherever the records of a day are."""
    row = row_of(recorded(EVIDENCE)[0].encode())
    table = opened(tmp_path, {"agent_identity.note": "days"})
    for number in range(2 * (2 * parquet_files._DAYS + 1)):
        put(table, {**row, "seq": number, "time_ns": (number // 2 * 24 + number % 2) * 3_600 * 10**9})
    finish(table)
    names = Counter(file.name.removesuffix("-0.parquet") for file in tmp_path.rglob("*.parquet"))
    assert names == {"records-000001": parquet_files._DAYS, "records-000002": parquet_files._DAYS, "records-000003": 1}


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(texts=st.lists(TEXTS, min_size=1, max_size=5), number=st.integers(0, 10**19 - 1))
def test_any_text_and_number_come_back(
    tmp_path_factory: pytest.TempPathFactory, texts: Sequence[str], number: int
) -> None:
    """Quotes, zero bytes, other scripts and the largest numbers that a record may state are the same afterwards."""
    folder = tmp_path_factory.mktemp("table")
    start = next(text for text in recorded(EVIDENCE) if '"kind":"task_start"' in text)
    record = decode_record(start.encode())
    sent = []
    table = opened(folder, {"agent_identity.note": "it's"})
    for text in texts:
        sent.append(encode_record({**record, "time": {"start": str(number)}, "task": {"id": "t", "purpose": text}}))
        put(table, row_of(sent[-1]))
    finish(table)
    rows = ask(folder, "record, purpose, time_ns")
    assert rows == [(data.decode(), text, number) for data, text in zip(sent, texts, strict=True)]


def test_the_folder_is_new_private_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with anything in it is refused, nobody else may read the new one, and a failure leaves nothing."""
    name = "it's [a] *{i}"
    export_tables(EVIDENCE, tmp_path / name)
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700
    with pytest.raises(ConfigurationError, match=r"\".*it's.* exists already"):
        export_tables(EVIDENCE, tmp_path / name)
    (tmp_path / "empty").mkdir()
    for target in ("nowhere", "empty"):
        (tmp_path / "link").symlink_to(tmp_path / target)
        with pytest.raises(ConfigurationError, match="exists already"):
            export_tables(EVIDENCE, tmp_path / "link")
        (tmp_path / "link").unlink()
    made: list[dict[str, object]] = []
    make = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **where: made.append(where) or make(**where))
    export_tables(EVIDENCE, tmp_path / "empty")
    assert made == [{"prefix": ".empty-", "dir": tmp_path}]  # A folder elsewhere could not be moved into place.
    with pytest.raises(ConfigurationError, match="cannot be written"):
        export_tables(EVIDENCE, EVIDENCE / "trust.json" / "table")
    monkeypatch.setattr(parquet_files, "_MEMORY", "1KB")
    with pytest.raises(ConfigurationError, match=r"cannot be written \(\w*(Exception|Error)\); see whether"):
        export_tables(EVIDENCE, tmp_path / "full")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", name]


def test_the_engine_keeps_to_its_bounds(tmp_path: Path) -> None:
    """It loads nothing, and has memory and disk as they were given to it."""
    engine = opened(tmp_path, {})._engine
    names = ("autoinstall_known_extensions", "autoload_known_extensions", "memory_limit", "temp_directory")
    asked = ", ".join(f"current_setting('{name}')" for name in names)
    assert engine.execute(f"SELECT {asked}").fetchall() == [(False, False, "953.6 MiB", "")]


def test_what_cannot_be_exported_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is no evidence directory, and without the extra the message names it."""
    with pytest.raises(ConfigurationError, match="not an evidence directory"):
        export_tables(EVIDENCE / "trust.json", tmp_path / "x")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigurationError, match="the extra tables for Parquet is not installed"):
        export_tables(EVIDENCE, tmp_path / "x")


def test_each_column_is_filled_from_a_record() -> None:
    """The columns are those that a row has, in any order."""
    assert set(row_of(recorded(EVIDENCE)[0].encode())) == set(COLUMNS)
