"""Key files and trust files: created whole or not at all, and read with strict checks."""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from agent_identity.errors import ConfigurationError

PathLike: TypeAlias = str | os.PathLike[str]
"""A path in the file system."""

_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)  # A pipe must not hang us.


def check_path(path: PathLike) -> None:
    """Check that the system accepts a path at all.

    Raises:
        ConfigurationError: It holds a NUL, or characters that no file name can have.
        TypeError: It is no path.
    """
    try:
        usable = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # Lone surrogates.
        usable = False
    if not usable:
        raise ConfigurationError(f"the path {path!a} has characters that no file name can have; correct it")


def is_there(path: PathLike) -> bool:
    """Return whether a path exists, a dangling link included.

    Raises:
        OSError: This user may not look; nothing says that it is absent.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def hide_from_git(folder: PathLike, ignored: str = "*\n") -> None:
    """Write a ``.gitignore`` into a folder, unless one exists or the folder cannot be written.

    Args:
        folder: The folder.
        ignored: The pattern that git ignores; by default everything in the folder, this file as well.
    """
    with contextlib.suppress(OSError), Path(folder, ".gitignore").open("x", encoding="utf-8") as file:
        file.write(ignored)


def create_private_file(path: PathLike, data: bytes) -> None:
    """Create a file of mode 0600 that holds the data; the whole file appears at once or not at all.

    An existing file, or a symbolic link, is never replaced.

    Raises:
        ConfigurationError: With code ``already_exists`` if something is at the path; otherwise the
            folder cannot be written, or the platform cannot keep the file private.
    """
    _create(path, data, 0o600)


def create_public_file(path: PathLike, data: bytes) -> None:
    """Create a file of mode 0644 that holds the data; the whole file appears at once or not at all.

    Raises:
        ConfigurationError: As for :func:`create_private_file`.
    """
    _create(path, data, 0o644)


def replace_public_file(path: PathLike, data: bytes) -> None:
    """Write a file of mode 0644 in one step: readers see the old content or the new, never a part.

    Raises:
        ConfigurationError: The folder cannot be written, or the platform knows no file modes.
    """
    _replace(path, data, 0o644)


def replace_private_file(path: PathLike, data: bytes) -> None:
    """Write and sync a file of mode 0600 in one step, as :func:`replace_public_file` does.

    Raises:
        ConfigurationError: The folder cannot be written, or the platform knows no file modes.
    """
    _replace(path, data, 0o600)


def _replace(path: PathLike, data: bytes, mode: int) -> None:
    _require_modes()
    check_path(path)
    try:
        temporary = _write_beside(path, data, mode)
        try:
            os.replace(temporary, path)  # The os calls of one protocol stay together.
        except BaseException:
            os.unlink(temporary)
            raise
        _sync_folder(path)
    except OSError as error:
        _refuse(path, "write the file", error)


def put_in_place(path: PathLike, target: PathLike) -> None:
    """Rename a file over another one of the same folder: in one step, and durably.

    Raises:
        ConfigurationError: The file is not there, or the folder cannot be written.
    """
    try:
        os.replace(path, target)  # The os calls of one protocol stay together.
        _sync_folder(target)
    except OSError as error:
        _refuse(target, "replace the file", error)


def read_private_file(path: PathLike, *, limit: int) -> bytes:
    """Return the content of a file that only its owner can access.

    Args:
        path: The file itself; a symbolic link is refused.
        limit: Most bytes accepted.

    Raises:
        ConfigurationError: The file is missing, no regular file, open to group or others, owned by
            another user than this process or root, larger than ``limit``, or the platform knows no modes.
    """
    _require_modes()
    return _read(path, limit, private=True)


def read_public_file(path: PathLike, *, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes; symbolic links are followed.

    Raises:
        ConfigurationError: The file is missing, unreadable, no regular file, or larger than ``limit``.
    """
    return _read(path, limit, private=False)


def read_trusted_file(path: PathLike, *, limit: int) -> bytes:
    """Return the content of a file as :func:`read_public_file` does, unless everyone could have replaced it.

    Raises:
        ConfigurationError: Everyone may write it, or its folder without the sticky bit, and the mount is not
            read-only; otherwise as for :func:`read_public_file`.
    """
    data = _read(path, limit, private=False)
    if hasattr(os, "geteuid"):  # pragma: no branch  Elsewhere modes say nothing.
        _check_not_everybodys(path)
    return data


def _check_not_everybodys(path: PathLike) -> None:
    # Groups are let through: many systems give each user one of their own, which may write what they make.
    target = os.path.realpath(path)
    folders = {_folder(path), os.path.dirname(target)}
    try:
        if os.stat(target).st_mode & stat.S_IWOTH and not _is_read_only(target):
            raise _replaceable(path, f"run chmod o-w on {_shown(path)}")
        for folder in sorted(folders):
            mode = os.stat(folder).st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX and not _is_read_only(folder):
                raise _replaceable(path, f"run chmod o-w on its folder {folder!r} or use a folder in it")
    except OSError as error:
        _refuse(path, "look at the modes of", error)


def _is_read_only(path: PathLike) -> bool:
    """Return whether a path is on a read-only mount, as those of Kubernetes with mode 0777 are."""
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _replaceable(path: PathLike, cure: str) -> ConfigurationError:
    return ConfigurationError(
        f"every user of the machine can replace the file at {_shown(path)}, which says whom to "
        f"trust; compare it with a copy that was kept elsewhere, then {cure}, or take the copy",
        code="writable_by_all",
    )


def _require_modes() -> None:
    if not hasattr(os, "geteuid"):
        raise ConfigurationError(
            "this platform has no POSIX file modes, which keep key files private; use Linux or "
            "macOS, or a signer whose key lives elsewhere"
        )


def _create(path: PathLike, data: bytes, mode: int) -> None:
    _require_modes()
    check_path(path)
    try:
        temporary = _write_beside(path, data, mode)
        try:
            os.link(temporary, path)  # Unlike a rename, a link fails where something is.
        finally:
            os.unlink(temporary)  # The os calls of one protocol stay together.
        _sync_folder(path)
    except FileExistsError:
        raise ConfigurationError(
            f"{_shown(path)} exists and is never overwritten; move it or name another path",
            code="already_exists",
        ) from None
    except OSError as error:
        _refuse(path, "create the file", error)


def _write_beside(path: PathLike, data: bytes, mode: int) -> str:
    """Write a synced temporary file in the folder of the path and return its name."""
    # mkstemp opens with O_EXCL, O_NOFOLLOW and mode 0600, under a name no one can guess.
    import tempfile

    descriptor, temporary = tempfile.mkstemp(prefix=".agent-identity-", suffix=".tmp", dir=_folder(path))
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)  # The umask may have taken more than it should.
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(temporary)
        raise
    return temporary


def _sync_folder(path: PathLike) -> None:
    descriptor = os.open(_folder(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _folder(path: PathLike) -> str:
    return os.path.dirname(os.path.abspath(os.fspath(path)))  # No links are resolved.


def _read(path: PathLike, limit: int, *, private: bool) -> bytes:
    check_path(path)
    try:
        descriptor = os.open(path, _READ | _NO_FOLLOW if private else _READ)
        try:
            status = os.fstat(descriptor)  # Of what was opened, so that no one can exchange it in between.
            _check_regular(path, status)
            if private:
                _check_private(path, status)
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        _refuse(path, "read the file", error)
    if len(data) > limit:
        raise ConfigurationError(f"{_shown(path)} has more than {limit} bytes; name the right file")
    return data


def _check_regular(path: PathLike, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{_shown(path)} is not a regular file; name the file itself")


def _check_private(path: PathLike, status: os.stat_result) -> None:
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigurationError(f"{_shown(path)} belongs to neither the user of this process nor root; chown it")
    if status.st_mode & 0o077:
        raise ConfigurationError(
            f"{_shown(path)} has mode {stat.S_IMODE(status.st_mode):04o}, which is open to group or "
            "others; run chmod 600 on it, and replace the key if others saw it"
        )


def _refuse(path: PathLike, purpose: str, error: OSError) -> NoReturn:
    if error.errno == errno.ELOOP:
        raise ConfigurationError(f"{_shown(path)} is a symbolic link; name the file itself") from None
    reason = error.strerror or "an unknown failure"
    raise ConfigurationError(
        f"could not {purpose} {_shown(path)}: {reason}; check the path, its folder and their modes"
    ) from error


def _shown(path: PathLike) -> str:
    return repr(os.fspath(path))
