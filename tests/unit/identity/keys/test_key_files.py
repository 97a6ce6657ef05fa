"""Key files and trust files on disk: whole or absent, private where they must be."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from agent_identity._identity.common.private_files import (
    create_private_file,
    create_public_file,
    put_in_place,
    read_private_file,
    read_public_file,
    replace_public_file,
)
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey

ED25519 = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEM = ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
FOREIGN = {
    "empty": b"",
    "text": b"not a key",
    "binary": bytes(range(256)),
    "truncated": PEM[:60],
    "no footer": PEM[: PEM.index(b"-----END")],
    "header only": b"-----BEGIN PRIVATE KEY-----\n",
    "damaged": PEM.replace(b"MC4", b"AAA"),
    "text before": b"# my key\n" + PEM,
    "text after": PEM + b"# my key\n",
    "two keys": PEM + PEM,
    "raw seed": bytes(range(32)),
    "encrypted": ED25519.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    "openssh": ED25519.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
    "public": ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    "other curve": generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "other format": generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    ),
}
WRITERS: list[Callable[[Path, bytes], None]] = [create_private_file, create_public_file, replace_public_file]


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


def _private(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_saved_key_is_the_same_key(tmp_path: Path) -> None:
    """The file has mode 0600 whatever the umask says, is alone in its folder and loads as the same key."""
    key, path = SigningKey.generate(), tmp_path / "issuer.pem"
    before = os.umask(0o777)
    try:
        key.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["issuer.pem"]
    assert SigningKey.load(str(path)).public_key == key.public_key
    assert path.stat().st_nlink == 1


def test_a_key_of_another_program_loads(tmp_path: Path) -> None:
    """PKCS #8 PEM as OpenSSL writes it is read, also from a read-only file."""
    raw = SigningKey.load(_private(tmp_path / "key.pem", PEM, 0o400)).public_key.raw
    assert raw == ED25519.public_key().public_bytes_raw()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_nothing_is_ever_overwritten(tmp_path: Path, kind: str) -> None:
    """Whatever is at the path stays, nothing is written through a link, and no temporary file remains."""
    path, target = tmp_path / "key.pem", tmp_path / "target"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
        if kind == "link":
            target.write_bytes(b"old")
    before = sorted(entry.name for entry in tmp_path.iterdir())
    for create in (SigningKey.generate().save, lambda at: create_public_file(at, b"new")):
        with pytest.raises(ConfigurationError, match="never overwritten") as caught:
            create(path)
        assert caught.value.code == "already_exists"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    if kind in {"file", "link"}:
        assert path.read_bytes() == b"old"


def test_of_many_writers_one_wins(tmp_path: Path) -> None:
    """Threads that create one key file at once agree on one whole key."""
    path, refused, start = tmp_path / "key.pem", list[str](), threading.Barrier(8)

    def run() -> None:
        key = SigningKey.generate()
        start.wait()
        try:
            key.save(path)
        except ConfigurationError as error:
            refused.append(error.code)
        SigningKey.load(path)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == ["already_exists"] * 7
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Any bit for group or others is too much, and the message names the cure."""
    with pytest.raises(ConfigurationError, match=rf"has mode {mode:04o}"):
        SigningKey.load(_private(tmp_path / "key.pem", PEM, mode))


@pytest.mark.parametrize(("owner", "process", "accepted"), [(0, 1000, True), (1000, 1000, True), (1001, 1000, False)])
def test_a_key_file_belongs_to_the_process_or_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, process: int, *, accepted: bool
) -> None:
    """Who owns a file can change its mode and content, so another user's file is refused."""
    path, real = _private(tmp_path / "key.pem", PEM), os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        fields = list(real(descriptor))
        fields[4] = owner
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", fstat)
    monkeypatch.setattr(os, "geteuid", lambda: process)
    if accepted:
        SigningKey.load(path)
    else:
        with pytest.raises(ConfigurationError, match="chown it"):
            SigningKey.load(path)


def test_a_link_to_a_key_file_is_refused(tmp_path: Path) -> None:
    """A link could be pointed elsewhere after the check of what it points to."""
    link = tmp_path / "link.pem"
    link.symlink_to(_private(tmp_path / "key.pem", PEM))
    with pytest.raises(ConfigurationError, match="is a symbolic link"):
        SigningKey.load(link)


@pytest.mark.parametrize("read", [read_private_file, read_public_file])
def test_what_is_no_file_is_refused(tmp_path: Path, read: Callable[..., bytes]) -> None:
    """A folder, a device and a pipe that nobody writes to are refused at once, without hanging or leaking."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    before = _open_files()
    for path in (tmp_path, pipe, Path("/dev/null")):
        with pytest.raises(ConfigurationError, match="not a regular file"):
            read(path, limit=10)
    assert _open_files() == before


@pytest.mark.parametrize("read", [read_private_file, read_public_file])
def test_a_missing_file_is_named(tmp_path: Path, read: Callable[..., bytes]) -> None:
    """The message says which file is missing, quoted so that no path can break the line."""
    with pytest.raises(ConfigurationError, match=r"a\\nb.*No such file") as caught:
        read(tmp_path / "a\nb", limit=10)
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("read", [read_private_file, read_public_file])
def test_files_are_read_up_to_the_limit(tmp_path: Path, read: Callable[..., bytes]) -> None:
    """A file of exactly the limit is read; one byte more is refused."""
    assert read(_private(tmp_path / "fits", b"x" * 10), limit=10) == b"x" * 10
    with pytest.raises(ConfigurationError, match="more than 10 bytes"):
        read(_private(tmp_path / "large", b"x" * 11), limit=10)


def test_a_huge_key_file_is_refused(tmp_path: Path) -> None:
    """A sparse file of a terabyte costs no memory."""
    path = _private(tmp_path / "key.pem", PEM)
    os.truncate(path, 1 << 40)
    with pytest.raises(ConfigurationError, match="more than 4096 bytes"):
        SigningKey.load(path)


@pytest.mark.parametrize("data", [*FOREIGN.values()], ids=[*FOREIGN])
def test_other_contents_are_refused(tmp_path: Path, data: bytes) -> None:
    """Whatever is no whole, plain Ed25519 key in PKCS #8 is refused, and the message repeats nothing of it."""
    with pytest.raises(ConfigurationError, match=r"key\.pem") as caught:
        SigningKey.load(_private(tmp_path / "key.pem", data))
    assert "MC4C" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_every_prefix_of_a_key_file_is_refused(tmp_path: Path) -> None:
    """A torn write never yields a key."""
    whole = PEM.rstrip()
    for size in range(len(whole)):
        path = _private(tmp_path / "key.pem", whole[:size])
        with pytest.raises(ConfigurationError):
            SigningKey.load(path)


@pytest.mark.parametrize("write", WRITERS)
def test_a_missing_folder_is_reported(tmp_path: Path, write: Callable[[Path, bytes], None]) -> None:
    """Folders are not made up; the message says what to check."""
    with pytest.raises(ConfigurationError, match=r"No such file.*check the path"):
        write(tmp_path / "missing" / "file", b"x")


@pytest.mark.parametrize(
    ("write", "call"),
    [
        *((write, call) for write in WRITERS for call in ("fsync", "fchmod")),
        (create_private_file, "link"),
        (create_public_file, "link"),
        (replace_public_file, "replace"),
    ],
)
def test_a_failing_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, bytes], None], call: str
) -> None:
    """Whichever step fails, there is no file and no temporary one, and the cause is kept."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(ConfigurationError, match="No space left") as caught:
        write(tmp_path / "file", b"x")
    assert isinstance(caught.value.__cause__, OSError)
    assert list(tmp_path.iterdir()) == []


def test_an_error_without_a_text_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every OSError says what happened; the message stays a sentence."""

    def fail(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(ConfigurationError, match="an unknown failure"):
        read_public_file(tmp_path / "file", limit=1)


def test_public_files_are_replaced_in_one_step(tmp_path: Path) -> None:
    """The new content has mode 0644 and takes the place of a link, not of what it points to."""
    target, path = tmp_path / "target", tmp_path / "trust.json"
    target.write_bytes(b"target")
    path.symlink_to(target)
    before = os.umask(0o077)
    try:
        replace_public_file(path, b"new")
        create_public_file(tmp_path / "other", b"other")
    finally:
        os.umask(before)
    assert read_public_file(path, limit=10) == b"new"
    assert target.read_bytes() == b"target"
    assert {stat.S_IMODE((tmp_path / name).lstat().st_mode) for name in ("trust.json", "other")} == {0o644}


def test_public_files_may_be_links(tmp_path: Path) -> None:
    """Trust files come as links from configuration stores."""
    link = tmp_path / "link"
    link.symlink_to(_private(tmp_path / "file", b"x", 0o644))
    assert read_public_file(link, limit=10) == b"x"


def test_a_relative_path_means_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without a folder is created where the process stands."""
    monkeypatch.chdir(tmp_path)
    SigningKey.generate().save("key.pem")
    assert (tmp_path / "key.pem").is_file()


def test_without_file_modes_nothing_private_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that cannot keep a file private is told so, instead of a weaker file being written or read."""
    key, path = SigningKey.generate(), _private(tmp_path / "key.pem", PEM)
    monkeypatch.delattr(os, "geteuid")
    for call in (
        lambda: key.save(tmp_path / "new.pem"),
        lambda: SigningKey.load(path),
        lambda: replace_public_file(tmp_path / "new", b""),
    ):
        with pytest.raises(ConfigurationError, match="POSIX file modes"):
            call()
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]
    assert read_public_file(path, limit=1000) == PEM


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    """Afterwards the one is where the other was; a missing one, or a folder in the way, is told."""
    new, old = tmp_path / "new", tmp_path / "old"
    create_private_file(new, b"new")
    create_private_file(old, b"old")
    put_in_place(new, old)
    assert (old.read_bytes(), new.exists(), stat.S_IMODE(old.stat().st_mode)) == (b"new", False, 0o600)
    for source, target in ((new, old), (old, tmp_path)):
        with pytest.raises(ConfigurationError, match="could not replace the file"):
            put_in_place(source, target)
    assert old.read_bytes() == b"new"
