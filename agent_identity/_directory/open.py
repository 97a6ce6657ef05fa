"""The embedded default: one directory with keys, trust file and ledger, created at first use."""

import contextlib
import os
import stat
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final, get_args

from agent_identity._authority.stores.directory import DirectoryState
from agent_identity._directory._certification import Certification, Host
from agent_identity._directory.key_folders import Keys, key_folder, made_folder, outer_folder, socket_of
from agent_identity._directory.options import Durability, Transparency
from agent_identity._directory.rotation import finish_rotation
from agent_identity._guard.calls.process_facts import CertificateFile, resource_of
from agent_identity._guard.common.followed_trust import announce
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids, uuid_of
from agent_identity._identity.common.private_files import check_path, hide_from_git
from agent_identity._identity.keys.keys import PublicKey, Signer, SigningKey
from agent_identity._identity.trust.document import check_root
from agent_identity._identity.trust.entries import FileVersion, Purpose, TrustedKey
from agent_identity._identity.trust.socket_signer import SocketSigner
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.sealer import OnRecord
from agent_identity._ledger.transparency.publisher import Publisher
from agent_identity._record.digests import DigestKeys
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity.errors import ConfigurationError, TokenError

CLASHING: Final = "agent-identity"
"""An unrelated distribution on PyPI that installs a package of our name (threats AC-71)."""


_IGNORED: Final = """\
# Private keys and evidence do not belong into a repository; trust.json has public keys only.
*
!.gitignore
!trust.json
"""


@final
@dataclass(frozen=True, slots=True)
class Directory:
    """The opened parts of an evidence directory.

    Attributes:
        issuer: Signs root grants.
        recorder: Signs records and checkpoints.
        trust: The public keys, as written to ``trust.json``.
        ledger: This process's stream.
        digests: The keys for argument and result digests.
        state: The state shared by its processes.
        certificate: The certificate of the recorder key.
        certification: Keeps it up to date.
    """

    issuer: Signer
    recorder: Signer
    trust: TrustStore
    ledger: Ledger
    digests: DigestKeys
    state: DirectoryState
    certificate: CertificateFile
    certification: Certification

    @property
    def keys(self) -> tuple[Signer, Signer]:
        """Issuer and recorder."""
        return self.issuer, self.recorder

    @contextlib.contextmanager
    def closed_on_failure(self) -> Generator[None]:
        """Close the ledger and the state if the block raises."""
        try:
            yield
        except BaseException:
            self.state.close()
            self.ledger.close()
            raise


def refuse_clash(find: Callable[[str], object] | None = None) -> None:
    """Refuse to run beside the unrelated distribution with our import name.

    Args:
        find: Looks up an installed distribution by name; raises ``PackageNotFoundError`` if absent. By default that of
            the standard library.

    Raises:
        ConfigurationError: It is installed; which modules get imported is then undefined.
    """
    from importlib import metadata  # noqa: PLC0415  Loads much.

    try:
        (find or metadata.distribution)(CLASHING)
    except metadata.PackageNotFoundError:
        return
    raise ConfigurationError(
        f"the distribution {CLASHING} also installs the package agent_identity, as "
        f"agent-identity-otel does; run 'pip uninstall {CLASHING}' and reinstall this one from its checkout"
    )


@final
@dataclass(frozen=True, slots=True)
class Names:
    """Names of a new directory; an existing one keeps its own.

    Args:
        origin: The name of its log, or a prefix of names that ends in ``/`` and to which it adds its id; by default
            ``agent-identity/``.
        issuer: The issuer that its grants name; by default a URN of its own.
    """

    origin: str = "agent-identity/"
    issuer: str | None = None


def prepare(
    directory: str | os.PathLike[str],
    clock: Clock,
    ids: Ids,
    keys: str | os.PathLike[str] | None = None,
    names: Names = Names(),
) -> tuple[SigningKey, SigningKey, TrustStore]:
    """Load keys and trust file of a directory; create missing ones with safe modes.

    Several processes may do this at once; they agree on one set of keys.

    Args:
        directory: The directory.
        clock: Source of time.
        ids: Source of ids.
        keys: The folder of the keys, if it is outside.
        names: Names of a new directory.

    Raises:
        ConfigurationError: A file is unusable; the message has the cure.
    """
    check_path(directory)
    root, folder = Path(directory), key_folder(directory, keys)
    if (root / "trust.json").exists():  # Written after the keys, so checked before them.
        _refuse_missing_keys(folder)
    _folder_of_keys(root, folder)
    for purpose in get_args(Purpose):
        finish_rotation(root, purpose, folder)
    issuer, recorder = _key(folder / "issuer.pem"), _key(folder / "recorder.pem")
    return (
        issuer,
        recorder,
        _trust(root / "trust.json", issuer.public_key, recorder.public_key, ids.new(clock.wall_ns()), names),
    )


def _folder_of_keys(root: Path, folder: Path) -> Path:
    made = made_folder(root, folder)
    hide_from_git(root, _IGNORED)
    return made


def hides_from_git(directory: str | os.PathLike[str]) -> bool:
    """Return whether the ``.gitignore`` of a directory is the one written by this module."""
    path = Path(directory) / ".gitignore"
    with contextlib.suppress(OSError):  # Git follows no link of that name.
        return stat.S_ISREG(path.lstat().st_mode) and path.read_bytes() == _IGNORED.encode()
    return False


def connect(directory: str | os.PathLike[str], signer: str) -> tuple[Signer, Signer, TrustStore]:
    """Prepare a directory whose keys a signer process holds; its ``trust.json`` is a copy of the signer's.

    Raises:
        ConfigurationError: The signer is unreachable or belongs to another directory, private keys are beside
            it, or a file is unusable.
    """
    path = socket_of(signer)
    if path is None:
        raise ConfigurationError("the signer is malformed; write unix:PATH, the socket of 'agent-identity signer'")
    root = Path(directory)
    _refuse_private_keys(_folder_of_keys(root, root / "keys"))
    issuer, recorder = SocketSigner(path, "issuer"), SocketSigner(path, "recorder")
    trust = TrustStore.load(issuer.trust_file())
    announce(root, issuer.successors())  # Before the file, for processes that have the directory open.
    take_trust(root, trust)
    return issuer, recorder, trust


def take_trust(directory: Path, trust: TrustStore) -> None:
    """Put the trust file of those who hold the keys into a directory.

    Raises:
        ConfigurationError: It has other names than the one there, or lacks a key or revocation of it.
    """
    file = directory / "trust.json"
    kept = TrustStore.load(file) if file.exists() else None
    if kept is not None:
        _refuse_other_names(kept, trust)
    if kept != trust:
        trust.save(file)


def keys_for(
    directory: str | os.PathLike[str], keys: Keys, clock: Clock, ids: Ids
) -> tuple[Signer, Signer, TrustStore]:
    """Return issuer, recorder and trust store of a directory, wherever the keys are.

    Args:
        directory: The directory.
        keys: As for :meth:`Enforcer.open`.
        clock: Source of time.
        ids: Source of ids.

    Raises:
        ConfigurationError: Keys or trust file are unusable.
    """
    if not isinstance(keys, tuple):
        if isinstance(keys, str) and socket_of(keys) is not None:
            return connect(directory, keys)
        return prepare(directory, clock, ids, keys)
    issuer, recorder = signers_of(keys)
    check_path(directory)
    root = Path(directory)
    _refuse_private_keys(_folder_of_keys(root, root / "keys"))
    return (
        issuer,
        recorder,
        _trust(root / "trust.json", issuer.public_key, recorder.public_key, ids.new(clock.wall_ns())),
    )


def signers_of(keys: tuple[Signer, Signer]) -> tuple[Signer, Signer]:
    """Return issuer and recorder, two keys.

    Raises:
        TypeError: They are no two signers.
        ConfigurationError: They are one key.
    """
    if [hasattr(key, "public_key") and hasattr(key, "sign") for key in keys] != [True, True]:
        raise TypeError("keys= holds something else than two signers; give (issuer, recorder), 'unix:PATH' or a path")
    issuer, recorder = keys
    if issuer.public_key == recorder.public_key:
        raise ConfigurationError("issuer and recorder are one key; give two, so that neither signs for the other")
    return issuer, recorder


def _refuse_private_keys(folder: Path) -> None:
    for purpose in get_args(Purpose):
        if os.path.lexists(folder / f"{purpose}.pem"):
            raise ConfigurationError(
                f"keys/{purpose}.pem is beside a signer that holds the keys; "
                "move private keys to where the signer has them"
            )


def _refuse_other_names(kept: TrustStore, trust: TrustStore) -> None:
    if (kept.file.id, kept.issuer, kept.origin) != (trust.file.id, trust.issuer, trust.origin):
        raise ConfigurationError(
            "the signer has other names than the trust.json of this directory; "
            "name its socket, or start a new directory"
        )
    for entry in kept.keys:
        now = trust.get(entry.key.thumbprint, entry.purpose)
        if now is None or (entry.revoked_since is not None and now.revoked_since is None):
            raise ConfigurationError(
                "the signer lacks a key or revocation of the trust.json of this directory; "
                "revoke in the directory of the signer as well, or restore its trust.json"
            )


def _refuse_missing_keys(folder: Path) -> None:
    for path in (folder / f"{purpose}.pem" for purpose in get_args(Purpose)):
        if not os.path.lexists(path):
            raise ConfigurationError(
                f"the private key of trust.json is missing at {str(path)!r}; restore it, "
                "or name where it is: the folder, keys='PATH', or its signer, keys='unix:PATH'"
            )


def _key(path: Path) -> SigningKey:
    if not path.exists():
        try:
            SigningKey.generate().save(path)
        except ConfigurationError:
            if not path.exists():  # Otherwise another process was first, and its key is ours too.
                raise
    return SigningKey.load(path)


def _trust(path: Path, issuer: PublicKey, recorder: PublicKey, name: str, names: Names = Names()) -> TrustStore:
    if not path.exists():
        if (path.parent / "log" / "checkpoint").exists():
            raise ConfigurationError(
                "trust.json is missing beside the log; restore the copy that verifiers have, or start a new directory"
            )
        fresh = _fresh(issuer, recorder, name, names)
        try:
            fresh.create(path)
        except ConfigurationError:
            if not path.exists():  # Otherwise another process was first, and its names are ours too.
                raise
    trust = TrustStore.load(path)
    needed: tuple[tuple[PublicKey, Purpose], ...] = ((issuer, "issuer"), (recorder, "recorder"))
    for key, purpose in needed:
        if trust.get(key.thumbprint, purpose) is None:
            raise ConfigurationError(
                f"trust.json lacks the {purpose} key of the directory; "
                "restore the pair from a backup, or start a new directory"
            )
    if trust.issuer is None or trust.origin is None:
        raise ConfigurationError("trust.json lacks 'issuer' or 'origin'; restore them or start a new directory")
    if all(key.key != recorder for key in trust.recorders(trust.origin)):
        raise ConfigurationError(
            "the recorder key is for another log, by its origin in "
            "trust.json; restore the file that belongs to the directory"
        )
    return trust


def _fresh(issuer: PublicKey, recorder: PublicKey, name: str, names: Names) -> TrustStore:
    try:
        return TrustStore(
            keys=(
                TrustedKey(key=issuer, purpose="issuer"),
                TrustedKey(key=recorder, purpose="recorder"),
            ),
            issuer=names.issuer or f"urn:uuid:{uuid_of(name)}",
            origin=f"{names.origin}{name}" if names.origin.endswith("/") else names.origin,
            file=FileVersion(name),
        )
    except ValueError as error:
        raise ConfigurationError(f"bad name of the directory: {error}") from None


def pseudonyms_of(folder: str | os.PathLike[str], *, wanted: bool) -> Pseudonyms | None:
    """Return the pseudonyms in a folder of keys; ``None`` if it has none and its directory needs none.

    A directory with pseudonyms keeps them: no process may record real names by mistake.
    """
    path = Path(folder) / "pseudonyms.jsonl"
    return Pseudonyms(path) if wanted or path.exists() else None


def check_keys(
    issuer: PublicKey, recorder: PublicKey, trust: TrustStore, now: int, *, root: PublicKey | None = None
) -> None:
    """Check that signatures of the keys will count from now on, and that the pinned root signed the trust file.

    Raises:
        ConfigurationError: A key is revoked, or outside its validity; or the root did not sign.
    """
    if root is not None:
        check_root(trust, root, at=now)
    pairs: tuple[tuple[PublicKey, Purpose], ...] = ((issuer, "issuer"), (recorder, "recorder"))
    for key, purpose in pairs:
        try:
            trust.find(key.thumbprint, purpose, at=now)
        except TokenError as error:
            state = "revoked" if error.code == "key_revoked" else "not valid now"
            raise ConfigurationError(
                f"the {purpose} key is {state}; run 'agent-identity keys rotate --{purpose} DIR' first",
                code=error.code,
            ) from None


def open_directory(
    directory: str | os.PathLike[str],
    *,
    clock: Clock,
    ids: Ids,
    durability: Durability,
    keys: Keys = None,
    root: PublicKey | None = None,
    publishers: Sequence[Publisher] = (),
    pseudonyms: bool = False,
    observers: Sequence[OnRecord] = (),
    transparency: Transparency = Transparency(),
) -> Directory:
    """Open a directory for an enforcer of this process.

    Args:
        directory: The directory; created if missing, with its parents.
        clock: Source of time.
        ids: Source of ids.
        durability: The durability of an appended record, and the files of the stream.
        keys: As for :meth:`Enforcer.open`; by default the directory holds them.
        root: The root that must have signed the trust file.
        publishers: Publish the checkpoints elsewhere.
        pseudonyms: Use pseudonyms for principals and the host.
        observers: Called with each record, from the first of the stream on.
        transparency: Names the certifier.

    Raises:
        ConfigurationError: Keys, trust file or platform are unusable, a key is revoked, or a required certificate is
            not there.
        EvidenceError: The ledger cannot be written.
    """
    refuse_clash()
    issuer, recorder, trust = keys_for(directory, keys, clock, ids)
    check_keys(issuer.public_key, recorder.public_key, trust, clock.wall_ns() // 1_000_000_000, root=root)
    place, folder, sync = Path(directory), key_folder(directory, keys), durability.sync
    certification = Certification(Host.of(folder, issuer, recorder, trust), transparency, clock)
    certificate = certification.begin()
    resource = resource_of(pseudonyms_of(folder, wanted=pseudonyms))
    state = DirectoryState(place / "state", sync=sync)
    try:
        ledger = Ledger.open(
            place,
            signer=recorder,
            origin=trust.origin or "",
            clock=clock,
            ids=ids,
            keys=outer_folder(directory, keys),
            sync=sync,
            publishers=publishers,
            segments=durability.segments,
            beginning=Beginning(resource=resource, certificate=certificate.first),
            observers=observers,
        )
    except BaseException:
        state.close()
        raise
    digests = DigestKeys(folder / "digests.jsonl", sync=sync)
    return Directory(issuer, recorder, trust, ledger, digests, state, certificate, certification)
