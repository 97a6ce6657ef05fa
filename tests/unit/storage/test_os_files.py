"""The operating system as the evidence room sees it, the ledger key, the MACs and the forms of lines."""

import errno
import hmac
import io
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._storage import lines as lines_module
from agent_identity._storage import os_files as files_module
from agent_identity._storage.layout import Layout, is_stream_id
from agent_identity._storage.lines import Line, log_line, log_parts, read_lines, split_blocks, stream_line, stream_parts
from agent_identity._storage.mac import LedgerKey, Mac, load_ledger_key
from agent_identity._storage.os_files import (
    EDIT,
    EXTEND,
    READ,
    Files,
    acquire,
    locked,
    make_folder,
    open_regular,
    recording,
    write_whole,
)
from agent_identity.errors import ConfigurationError, EvidenceError


class Waiting(Files):
    """Counts the pauses, and can do something in one of them."""

    def __init__(self, during: Callable[[], None] = lambda: None) -> None:
        self.pauses = 0
        self.during = during

    def pause(self, seconds: float) -> None:
        """Count, and do what is to be done meanwhile."""
        self.pauses += 1
        self.during()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd" if Path("/proc/self/fd").exists() else "/dev/fd").iterdir()))


def test_lock_excludes_a_second_holder_until_it_is_given_back(tmp_path: Path) -> None:
    """Two descriptors of one file never hold its lock at once, also within one process."""
    files = Files()
    first, second = (files.open(str(tmp_path / "lock"), EDIT) for _ in range(2))
    files.lock(first)
    with pytest.raises(BlockingIOError):
        files.lock(second)
    files.unlock(first)
    files.lock(second)
    files.close(first)
    files.close(second)


def test_unlock_also_frees_what_a_forked_child_still_has_open(tmp_path: Path) -> None:
    """A copy of the descriptor, as a child inherits it, keeps no lock that its parent gave back."""
    files = Files()
    first, second = (files.open(str(tmp_path / "lock"), EDIT) for _ in range(2))
    copy = os.dup(first)
    files.lock(first)
    files.unlock(first)
    files.lock(second)
    for fd in (first, second, copy):
        files.close(fd)


def test_acquire_waits_for_the_holder(tmp_path: Path) -> None:
    """A lock that is held for a moment only delays."""
    holder = Files()
    fd = holder.open(str(tmp_path / "lock"), EDIT)
    holder.lock(fd)
    files = Waiting(lambda: holder.unlock(fd))
    mine = files.open(str(tmp_path / "lock"), EDIT)
    acquire(files, mine)
    assert files.pauses == 1
    holder.close(fd)
    files.close(mine)


def test_acquire_gives_up_on_a_holder_that_hangs(tmp_path: Path) -> None:
    """No lock is waited for without end."""
    files = Waiting()
    fd, mine = (files.open(str(tmp_path / "lock"), EDIT) for _ in range(2))
    files.lock(fd)
    with pytest.raises(BlockingIOError), locked(files, mine):
        pytest.fail("the lock is held")
    assert files.pauses == len(files_module._LOCK_PAUSES)
    assert 4 < sum(files_module._LOCK_PAUSES) < 6
    files.close(fd)
    files.close(mine)


def test_locked_gives_the_lock_back_after_an_error(tmp_path: Path) -> None:
    """Whatever happens in the block, the lock is free afterwards."""
    files = Files()
    fd, other = (files.open(str(tmp_path / "lock"), EDIT) for _ in range(2))
    with pytest.raises(KeyError), locked(files, fd):
        raise KeyError
    files.lock(other)
    files.close(fd)
    files.close(other)


def test_platform_without_locks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks cannot be had, the ledger says so instead of going without."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    words = "no POSIX file locks"
    with pytest.raises(ConfigurationError, match=words):
        Files().lock(0)


def test_fdatasync_falls_back_to_fsync(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where there is no fdatasync, the stronger call is used."""
    synced: list[int] = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", synced.append)
    Files().fdatasync(7)
    assert synced == [7]
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(-fd), raising=False)
    Files().fdatasync(7)
    assert synced == [7, -7]


def test_pause_returns() -> None:
    """A pause of no length is no error."""
    Files().pause(0)


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    """Pipes cannot hang the ledger, links cannot lead it elsewhere; nothing stays open after a refusal."""
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        (tmp_path / "target").touch()
        path.symlink_to(tmp_path / "target")
    before = open_descriptors()
    with pytest.raises(OSError):  # noqa: PT011  The system's words differ.
        open_regular(Files(), str(path), READ)
    assert open_descriptors() == before


def test_a_folder_keeps_its_mode_and_its_name_is_on_the_disk(tmp_path: Path, faulty: type) -> None:
    """A folder is made with its mode, those above it too, each name synced; one that exists is left as it is."""
    path, files = tmp_path / "a" / "b", faulty()
    make_folder(files, str(path), 0o700)
    assert [path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777] == [0o700, 0o755]
    assert files.calls == ["mkdir", "mkdir", "open", "fsync", "close", "mkdir", "open", "fsync", "close"]
    path.chmod(0o750)
    files.calls.clear()
    make_folder(files, str(path), 0o700)
    assert path.stat().st_mode & 0o777 == 0o750
    assert files.calls == ["mkdir"]


def test_a_folder_is_made_where_one_may_write_and_not_look(tmp_path: Path, faulty: type) -> None:
    """A folder above that cannot be opened for reading is no reason to refuse; a failing disk is."""
    files = faulty.failing("open", code=errno.EACCES)
    make_folder(files, str(tmp_path / "a"), 0o700)
    assert (tmp_path / "a").is_dir()
    with pytest.raises(OSError, match="fault"):
        make_folder(faulty.failing("fsync", code=errno.EIO), str(tmp_path / "b"), 0o700)


def test_recording_names_purpose_reason_and_way_out() -> None:
    """A failure of the system becomes the error that stops actions, with the system's words and no path."""
    words = f"could not keep it: {os.strerror(errno.ENOSPC)}; check"
    with pytest.raises(EvidenceError, match=words) as caught, recording("keep it"):
        raise OSError(errno.ENOSPC, "text", "/private/path")
    assert "/private" not in str(caught.value)
    with pytest.raises(EvidenceError, match="in our words"), recording("keep it"):
        raise OSError("in our words")


def test_write_in_part_is_a_failure(tmp_path: Path) -> None:
    """A write that took fewer bytes than given never passes for done."""

    class Short(Files):
        def write(self, fd: int, data: bytes) -> int:
            return super().write(fd, data[:-1])

    fd = Files().open(str(tmp_path / "file"), EXTEND)
    with pytest.raises(OSError, match="a part"):
        write_whole(Short(), fd, b"data")
    write_whole(Files(), fd, b"data")
    os.close(fd)


def test_layout_is_absolute_and_stays_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative directory keeps its meaning when the process changes its own."""
    monkeypatch.chdir(tmp_path)
    layout = Layout.of("evidence")
    assert layout.root == str(tmp_path / "evidence")
    assert layout.lock("s") == f"{layout.root}/ledger/s/lock"
    assert layout.grants("s", "d") == f"{layout.root}/ledger/s/grants-d.jsonl"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../../etc",
        "A" * 36,
        "A" * 21 + "B",
        "01a20e43-46d8-715f-9270-91c309b88710",
        "AaIOQ0bYcV-ScJHDCbiHEA\n",
        "x",
    ],
)
def test_only_ids_name_streams(name: str) -> None:
    """Nothing that could lead out of the folder passes for a stream."""
    assert not is_stream_id(name)
    assert is_stream_id("AaIOQ0bYcV-ScJHDCbiHEA")


@given(key=st.binary(min_size=32, max_size=32), tag=st.binary(max_size=200), data=st.binary(max_size=300))
def test_mac_is_hmac_sha256(key: bytes, tag: bytes, data: bytes) -> None:
    """The MAC written out here is that of the standard library, for every key, tag and message."""
    expected = hmac.new(key, tag + data, "sha256")
    mac = Mac(key, tag)
    assert mac.of(data) == expected.digest()
    assert mac.fits(data, b64url_encode(expected.digest()))
    assert not mac.fits(data + b"x", b64url_encode(expected.digest()))


def test_ledger_key_shows_nothing_and_has_one_length() -> None:
    """A key in a log line or a traceback is not a leak, and a short one is refused."""
    assert repr(LedgerKey(b"k" * 32)) == "LedgerKey()"
    with pytest.raises(ValueError, match="3 bytes instead of 32"):
        LedgerKey(b"abc")


def test_ledger_key_is_made_once_and_closed_to_others(tmp_path: Path, faulty: type) -> None:
    """The second call reads what the first made, content and name synced; only the owner can; nothing else is left."""
    path = tmp_path / "ledger.key"
    files = faulty()
    first = load_ledger_key(files, str(path))
    assert files.calls.index("fsync") < files.calls.index("link")
    named = files.calls.index("unlink")
    assert files.calls[named : named + 4] == ["unlink", "open", "fsync", "close"]
    files = faulty()
    second = load_ledger_key(files, str(path))
    assert "fsync" not in files.calls
    assert first.log_mac().of(b"x") == second.log_mac().of(b"x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "ledger.key"]


def test_racing_makers_get_one_ledger_key(tmp_path: Path) -> None:
    """Whoever links second drops its own key and takes the first."""
    path = str(tmp_path / "ledger.key")

    class Late(Files):
        def link(self, source: str, target: str) -> None:
            load_ledger_key(Files(), path)
            super().link(source, target)

    late = load_ledger_key(Late(), path)
    assert late.log_mac().of(b"x") == load_ledger_key(Files(), path).log_mac().of(b"x")
    assert list(tmp_path.iterdir()) == [tmp_path / "ledger.key"]


def test_many_threads_get_one_ledger_key(tmp_path: Path) -> None:
    """Real racing gives the same answer as the staged one."""
    path = str(tmp_path / "ledger.key")
    seen: list[bytes] = []
    barrier = threading.Barrier(8)

    def load() -> None:
        barrier.wait()
        seen.append(load_ledger_key(Files(), path).log_mac().of(b"x"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


def test_open_ledger_key_is_refused(tmp_path: Path) -> None:
    """A key that others may have read proves nothing."""
    path = tmp_path / "ledger.key"
    load_ledger_key(Files(), str(path))
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        load_ledger_key(Files(), str(path))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_ledger_key_of_another_length_is_refused(tmp_path: Path, size: int) -> None:
    """A damaged key is named, not replaced."""
    path = tmp_path / "ledger.key"
    path.touch(0o600)
    path.write_bytes(b"k" * size)
    with pytest.raises(ConfigurationError, match="32 bytes"):
        load_ledger_key(Files(), str(path))
    assert path.stat().st_size == size


def test_ac_22_macs_of_streams_and_log_never_stand_for_each_other() -> None:
    """The same bytes have different MACs as a record, as a record of another stream and as a log entry."""
    key = LedgerKey(b"k" * 32)
    data = b'{"a":"b"}'
    assert len({key.stream_mac("one").of(data), key.stream_mac("two").of(data), key.log_mac().of(data)}) == 3


def test_lines_come_apart_as_they_were_put_together() -> None:
    """All forms give back exactly their parts, and none is read as another."""
    mac, told = bytes(range(32)), b'{"_salt":"x"}'
    stream, log = stream_line(mac, b'{"a":"b"}'), log_line(mac, b'{"a":"b"}')
    assert stream_parts(stream[:-1]) == (b'{"a":"b"}', b64url_encode(mac), None)
    assert stream_parts(stream_line(mac, b'{"a":"b"}', told)[:-1]) == (b'{"a":"b"}', b64url_encode(mac), told)
    assert log_parts(log[:-1]) == (b'{"a":"b"}', b64url_encode(mac))
    assert stream_parts(log[:-1]) is None
    assert stream_parts(b'{"detail":{"_salt":"x"},"record":{}}') is None
    assert log_parts(stream[:-1]) is None


@given(st.data())
def test_only_lines_of_the_form_come_apart(data: st.DataObject) -> None:
    """The places of the parts are as good as a grammar: no other bytes pass for a line."""
    record = data.draw(st.sampled_from([b"{}", b'{"a":"b"}', b'{"}}":{}}']))
    detail = data.draw(st.sampled_from([None, b"{}", b'{"_salt":"x"}']))
    line = bytearray(stream_line(bytes(range(32)), record, detail)[:-1])
    for _ in range(data.draw(st.integers(0, 2))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.sampled_from(b'0aBE-+={}":,\r\x00\xff'))
    cut = bytes(line[: data.draw(st.sampled_from([len(line), len(line) - 1, 63, 62, 51, 8, 0]))])
    match = re.fullmatch(
        rb'\{(?:"detail":(\{.*?\}),)?"mac":"([A-Za-z0-9_-]{42}[AEIMQUYcgkosw048])","record":(\{.*\})\}', cut, re.DOTALL
    )
    assert stream_parts(cut) == ((match[3], match[2].decode(), match[1]) if match else None)


@given(
    parts=st.lists(st.binary(max_size=12).filter(lambda part: b"\n" not in part), max_size=8),
    tail=st.binary(max_size=12).filter(lambda part: b"\n" not in part),
    chunk=st.integers(1, 9),
    limit=st.integers(4, 9),
)
def test_lines_are_read_whole_whatever_the_chunks(parts: list[bytes], tail: bytes, chunk: int, limit: int) -> None:
    """Offsets, ends and content do not depend on where a read ends; too long ones are counted, not held."""
    data = b"".join(part + b"\n" for part in parts) + tail

    class Memory(Files):
        place = 0

        def seek(self, fd: int, offset: int) -> None:
            self.place = offset

        def read(self, fd: int, size: int) -> bytes:
            piece = data[self.place : self.place + size]
            self.place += size
            return piece

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines_module, "_CHUNK", chunk)
        patch.setattr(lines_module, "MAX_LINE_BYTES", limit)
        found = list(read_lines(Memory(), 0))
    expected, offset = [], 0
    for part in parts:
        end = offset + len(part) + 1
        if not part and expected and expected[-1][2] == b"":  # Blank lines that follow each other are one.
            offset = expected.pop()[0]
        expected.append((offset, end, part if len(part) <= limit else None, False))
        offset = end
    if tail:
        expected.append((offset, offset + len(tail), tail if len(tail) <= limit else None, True))
    assert [tuple(line) for line in found] == expected


def test_a_line_of_exactly_the_longest_is_read_beside_one_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is the longest line that is held, in a chunk of several lines and in one line over several chunks."""
    monkeypatch.setattr(lines_module, "MAX_LINE_BYTES", 4)
    for chunk in (100, 3):
        monkeypatch.setattr(lines_module, "_CHUNK", chunk)
        source = io.BytesIO(b"1234\n12345\n1234\n\n1234")
        found = [line for block in split_blocks(source.read, 7) for line in block.each()]
        assert found == [
            Line(7, 12, b"1234", torn=False),
            Line(12, 18, None, torn=False),
            Line(18, 23, b"1234", torn=False),
            Line(23, 24, b"", torn=False),
            Line(24, 28, b"1234", torn=True),
        ]
