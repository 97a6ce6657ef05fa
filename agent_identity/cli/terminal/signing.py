"""The keys with which a command signs: in the directory, in another one, behind a socket, or in a token.

A process below one that has the directory open does not sign. Linux tells in ``/proc`` which files a process has open;
elsewhere ``ps`` and ``lsof`` do. No one can look at the files of processes of other users, and process 1 is left out,
since everything in a container is below it.
"""

import argparse
import contextlib
import getpass
import os
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from agent_identity._directory.key_folders import Keys, outer_folder, socket_of
from agent_identity._directory.open import check_keys, keys_for, take_trust
from agent_identity._guard.common.followed_trust import announce, announced
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity._identity.keys.keys import Signer, SigningKey
from agent_identity._identity.trust.socket_signer import SocketSigner
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.sealer import OnRecord
from agent_identity.errors import ConfigurationError

_File: TypeAlias = tuple[int, int]
"""Device and inode."""

_PROC: Final = Path("/proc")
_MOST: Final = 256
_SECONDS: Final = 10


if TYPE_CHECKING:
    from agent_identity.integrations.keys.pkcs11 import Pkcs11Token

_NS: Final = 1_000_000_000
_LEDGER_KEY: Final = "ledger.key"

PIN: Final = "AGENT_IDENTITY_PIN"
"""The environment variable with the PIN of a token; without it the terminal asks."""


def refuse_inside(chosen: argparse.Namespace) -> None:
    """Refuse to loosen anything from a process below an enforcer that has the directory open.

    This guards against accidents, such as a shell tool that approves its own call. A process that detaches itself
    is not recognized. Keys elsewhere are left to their signer.

    Raises:
        ConfigurationError: An ancestor of this process has the directory open (``inside_enforcer``).
    """
    if chosen.pkcs11 is not None or not _has_own_keys(chosen):
        return
    if holds(Path(chosen.directory)):
        raise ConfigurationError(
            "a process above this one has the directory open with an enforcer, and agents do not decide for people; "
            "run the command from a shell of your own, or name keys that are elsewhere with --keys or --pkcs11",
            code="inside_enforcer",
        )


def _has_own_keys(chosen: argparse.Namespace) -> bool:
    """Return whether the keys are those of the directory, in it or in a folder outside, and no one else's."""
    if chosen.keys is None:
        return True
    if socket_of(chosen.keys) is not None:
        return False
    folder = _folder(chosen)
    return folder is None or _is_whole(chosen, folder)


def _folder(chosen: argparse.Namespace) -> Path | None:
    """Return the folder of keys outside the directory that ``--keys`` names, itself or a directory with it.

    Raises:
        ConfigurationError: There is none.
    """
    inner = Path(chosen.keys) / "keys"
    folder = inner if inner.is_dir() else Path(chosen.keys)
    if not folder.is_dir():
        raise ConfigurationError(
            f"{chosen.keys!r} is no folder of keys; name the one with issuer.pem and recorder.pem, or unix:PATH of a "
            "signer"
        )
    return outer_folder(chosen.directory, folder)


def _is_whole(chosen: argparse.Namespace, folder: Path) -> bool:
    """Return whether a folder outside the directory has all secret files, and not only the two keys that sign.

    Processes that ask a signer keep the others in the directory.
    """
    own = Path(chosen.directory) / "keys"
    return not own.is_dir() or (os.path.lexists(folder / _LEDGER_KEY) and not os.path.lexists(own / _LEDGER_KEY))


def secrets_of(chosen: argparse.Namespace) -> Path:
    """Return the folder with the secret files of the directory: the key of its ledger, keys of digests, pseudonyms.

    Raises:
        ConfigurationError: ``--keys`` names nothing usable.
    """
    folder = None if chosen.keys is None or socket_of(chosen.keys) is not None else _folder(chosen)
    return Path(chosen.directory) / "keys" if folder is None or not _is_whole(chosen, folder) else folder


@contextlib.contextmanager
def keys_of(chosen: argparse.Namespace) -> Generator[Keys]:
    """Return the keys that the options name, as ``Enforcer.open`` takes them; ``None`` for those of the directory.

    Raises:
        ConfigurationError: The keys cannot be used, or two places are named.
    """
    if chosen.pkcs11 is not None:
        with contextlib.closing(_token(chosen)) as token:
            issuer, _, recorder = chosen.labels.partition(",")
            yield token.signer(issuer), token.signer(recorder or issuer)
    elif chosen.keys is None or socket_of(chosen.keys) is not None:
        yield chosen.keys
    else:
        folder = _folder(chosen)
        if folder is None or _is_whole(chosen, folder):
            yield folder
        else:
            yield _two_keys(Path(chosen.directory), folder)


@contextlib.contextmanager
def recorder_of(chosen: argparse.Namespace) -> Generator[Signer]:
    """Yield the recorder key alone that the options name; none is created, and the issuer key is not needed.

    Raises:
        ConfigurationError: The key cannot be used, or two places are named.
    """
    if chosen.pkcs11 is not None:
        with contextlib.closing(_token(chosen)) as token:
            issuer, _, recorder = chosen.labels.partition(",")
            yield token.signer(recorder or issuer)
    elif (socket := socket_of(chosen.keys)) is not None:
        yield SocketSigner(socket, "recorder")
    else:
        folder = None if chosen.keys is None else _folder(chosen)
        yield SigningKey.load((folder or Path(chosen.directory) / "keys") / "recorder.pem")


@contextlib.contextmanager
def signing(chosen: argparse.Namespace) -> Generator[tuple[Signer, Signer, TrustStore]]:
    """Return issuer, recorder and trust store for a command that signs without an enforcer."""
    with keys_of(chosen) as keys:
        clock = SystemClock()
        issuer, recorder, trust = keys_for(chosen.directory, keys, clock, RandomIds())
        check_keys(issuer.public_key, recorder.public_key, trust, clock.wall_ns() // _NS)
        yield issuer, recorder, trust


def trust_file(path: str) -> Path:
    """Return the trust file of a directory, or the path itself."""
    return Path(path) / "trust.json" if Path(path).is_dir() else Path(path)


def trust_at(path: Path) -> TrustStore:
    """Return the store of a trust file.

    Raises:
        ConfigurationError: There is none, or it cannot be used.
    """
    if not path.exists():
        raise ConfigurationError(
            f"there is no trust file at {str(path)!r}; 'agent-identity init DIR' creates one in DIR"
        )
    return TrustStore.load(path)


def opened_ledger(
    directory: str,
    recorder: Signer,
    trust: TrustStore,
    keys: Path | None = None,
    observers: Sequence[OnRecord] = (),
) -> Ledger:
    """Return the ledger of a directory, opened to write into.

    Args:
        directory: The directory.
        recorder: The recorder key.
        trust: Its trust file.
        keys: The folder of its secret files; by default in it.
        observers: Are shown each record, from the first on.
    """
    return Ledger.open(
        directory,
        signer=recorder,
        origin=trust.origin or "",
        clock=SystemClock(),
        ids=RandomIds(),
        keys=keys,
        observers=observers,
    )


def _two_keys(directory: Path, folder: Path) -> tuple[Signer, Signer]:
    """Return issuer and recorder of another directory, such as that of a signer, and take over its trust file."""
    issuer, recorder = (SigningKey.load(folder / f"{name}.pem") for name in ("issuer", "recorder"))
    root = folder.parent
    if folder.name == "keys" and (root / "trust.json").exists():
        known = TrustStore.load(directory / "trust.json")
        if (
            known.get(issuer.public_key.thumbprint, "issuer") is None
            or known.get(recorder.public_key.thumbprint, "recorder") is None
        ):  # They were rotated since.
            announce(directory, announced(root))
            take_trust(directory, TrustStore.load(root / "trust.json"))
    return issuer, recorder


def _token(chosen: argparse.Namespace) -> "Pkcs11Token":
    from agent_identity.integrations.keys.pkcs11 import Pkcs11Token  # An extra.

    if chosen.keys is not None:
        raise ConfigurationError("--keys and --pkcs11 name two places for the keys; leave one of them out")
    return Pkcs11Token(chosen.pkcs11, label=chosen.token, pin=pin_of(chosen.token))


def pin_of(token: str) -> str:
    """Return the PIN of a token, from the environment or the terminal.

    Args:
        token: The label of the token.

    Raises:
        ConfigurationError: Neither has it.
    """
    pin = os.environ.get(PIN)
    if pin is None:
        if not sys.stdin.isatty():
            raise ConfigurationError(f"the PIN of the token is missing; set {PIN}, or run the command in a terminal")
        pin = getpass.getpass(f"PIN of the token {token!a}: ")
    return pin


def holds(directory: Path) -> bool:
    """Return whether an ancestor of this process has a ledger of the directory open."""
    locks = set(_files([*directory.glob("ledger/*/lock"), directory / "log" / "lock"]))
    linux = (_PROC / "self" / "stat").exists()
    opened = _opened_by_proc if linux else _opened_by_lsof
    return bool(locks) and any(not locks.isdisjoint(opened(process)) for process in _ancestors(linux=linux))


def _files(paths: Iterable[Path]) -> Iterator[_File]:
    for path in paths:
        with contextlib.suppress(OSError):
            status = path.stat()
            yield status.st_dev, status.st_ino


def _ancestors(*, linux: bool) -> Iterator[int]:
    process = os.getppid()
    for _ in range(_MOST):
        if process <= 1:
            return
        yield process
        process = _parent_by_proc(process) if linux else _parent_by_ps(process)


def _parent_by_proc(process: int) -> int:
    try:
        text = (_PROC / str(process) / "stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[1])  # The name before it may hold anything.
    except (OSError, ValueError, IndexError):
        return 0


def _opened_by_proc(process: int) -> Iterator[_File]:
    try:
        names = list((_PROC / str(process) / "fd").iterdir())
    except OSError:
        names = []
    return _files(names)


def _parent_by_ps(process: int) -> int:
    text = _output("ps", "-o", "ppid=", "-p", str(process)).strip()
    return int(text) if text.isdigit() else 0


def _opened_by_lsof(process: int) -> Iterator[_File]:
    lines = _output("lsof", "-a", "-p", str(process), "-Fn").splitlines()
    return _files(Path(line[1:]) for line in lines if line.startswith("n/"))


def _output(*command: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603  Fixed words and a number.
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
