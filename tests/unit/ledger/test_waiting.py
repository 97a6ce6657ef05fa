"""Records that wait for a seal, seen from outside the process that writes them."""

import os
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._ledger import waiting
from agent_identity._ledger.waiting import open_streams, unsealed_since, written_after
from agent_identity._storage.layout import Layout

STREAM = "AaI790uVewWN6DO_duEoxQ"
OTHER = "AaI790uVewWN6DO_duEoxg"


def line(seq: int, kind: str = "intent", *, stream: str = STREAM, filler: int = 0) -> str:
    """Return a line of a stream that was written in the second of its place."""
    when = '"end":"%d","start":"0"' if kind == "outcome" else '"start":"%d"'
    before, task = (
        ("", "") if seq == 1 else (f'"prev":"{"p" * 43}",', '"task":{"id":"t","purpose":"a } \\\\"time\\\\":{"},')
    )
    return (
        f'{{"mac":"m","record":{{"id":"{"x" * filler}","kind":"{kind}","stream":{{"id":"{stream}",{before}"seq":"{seq}"'
        f'}},{task}"time":{{{when % (seq * 1_000)}}},"v":"1"}}}}\n'
    )


def head(size: int, stream: str = STREAM) -> str:
    """Return a line of the log."""
    return f'{{"entry":{{"origin":"o","root":"r","size":"{size}","stream":"{stream}","time":"1"}},"mac":"m"}}\n'


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A directory with one open stream and a log."""
    made = Layout.of(tmp_path)
    Path(made.stream(STREAM)).mkdir(parents=True)
    Path(made.log).mkdir()
    Path(made.lock(STREAM)).touch()
    Path(made.entries(STREAM)).touch()
    return made


def wrote(layout: Layout, *lines: str, log: str = "") -> None:
    """Write the stream and the log."""
    Path(layout.entries(STREAM)).write_text("".join(lines), encoding="utf-8")
    Path(layout.log_entries).write_text(log, encoding="utf-8")


def test_the_oldest_record_without_a_seal_is_found(layout: Layout) -> None:
    """After the last size that the log has; nothing once it has all."""
    wrote(layout, *map(line, range(1, 9)))
    assert unsealed_since(layout) == 1_000
    wrote(layout, *map(line, range(1, 9)), log=head(3) + head(9, OTHER) + head(5))
    assert unsealed_since(layout) == 6_000
    wrote(layout, *map(line, range(1, 9)), log=head(8))
    assert unsealed_since(layout) is None


def test_a_stream_that_was_ended_in_order_is_not_read(layout: Layout) -> None:
    """Its lock file says so; other names are no streams."""
    wrote(layout, line(1))
    (Path(layout.streams) / "notes").mkdir()
    (Path(layout.streams) / OTHER).mkdir()  # It is just begun: there is no lock yet.
    assert [stream.name for stream in open_streams(layout)] == [STREAM]
    Path(layout.lock(STREAM)).write_text("settled 1\n", encoding="ascii")
    assert unsealed_since(layout) is None


def test_a_directory_without_ledger_or_log_has_nothing_that_waits(tmp_path: Path, layout: Layout) -> None:
    """As after init, and in the first moment of a stream."""
    assert unsealed_since(Layout.of(tmp_path / "new")) is None
    assert unsealed_since(layout) is None
    Path(layout.entries(STREAM)).unlink()
    assert written_after(layout.entries(STREAM), 0) is None


def test_only_the_ends_of_files_are_read_as_far_as_needed(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long streams and log are, and wherever a chunk cuts a line."""
    lines = [line(seq, filler=seq % 7 * 10) for seq in range(1, 200)]
    for chunk in (64, 200, 331, 4_096):
        monkeypatch.setattr(waiting, "_CHUNK", chunk)
        for size in (0, 1, 150, 198):
            wrote(layout, *lines, log=head(size) + head(7, OTHER) * 20)
            assert unsealed_since(layout) == (size + 1) * 1_000
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda *words: read.append(words[1]) or real(*words))
    monkeypatch.setattr(waiting, "_CHUNK", 4_096)
    wrote(layout, *lines, log=head(7, OTHER) * 99 + head(198))
    assert unsealed_since(layout) == 199_000
    assert sum(read) < 10_000


def test_the_first_record_of_some_kinds_is_found(layout: Layout) -> None:
    """Those that travel to receivers; the time is that of their end."""
    path = layout.entries(STREAM)
    wrote(layout, line(1), line(2, "outcome"), line(3), line(4, "outcome"), line(5, "task_end"))
    assert written_after(path, 0, kinds=(b"outcome", b"task_end")) == 2_000
    assert written_after(path, 2, kinds=(b"outcome", b"task_end")) == 4_000
    assert written_after(path, 4, kinds=(b"outcome", b"task_end")) == 5_000
    assert written_after(path, 5) is None


def test_what_is_no_record_is_passed_over(layout: Layout) -> None:
    """A torn line, a foreign one, and an empty one."""
    wrote(layout, "garbage\n", "\n", line(2), line(3)[:40], log="garbage\n")
    assert unsealed_since(layout) == 2_000


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(layout: Layout) -> None:
    """A probe that hangs tells nothing."""
    Path(layout.entries(STREAM)).unlink()
    os.mkfifo(layout.entries(STREAM))
    with pytest.raises(OSError, match="seek"):
        written_after(layout.entries(STREAM), 0)


def test_real_records_are_read(tmp_path: Path) -> None:
    """The form of lines is that of the writer: a running process has nothing that waits once it has sealed."""
    with Enforcer.open(tmp_path / "evidence") as enforcer:
        clerk = Agent("clerk", owner="finance@example.com")
        with enforcer.task("pay", principal=Human("alice"), agent=clerk, scope=Scope("pay")):
            pass
        enforcer._enforcement.ledger.seal()
        layout = Layout.of(tmp_path / "evidence")
        (stream,) = open_streams(layout)
        assert unsealed_since(layout) is None
        assert written_after(stream.path, 0) is not None
        Path(layout.log_entries).rename(tmp_path / "away")
        assert unsealed_since(layout) == written_after(stream.path, 0)
        (tmp_path / "away").rename(layout.log_entries)
    assert list(open_streams(layout)) == []
