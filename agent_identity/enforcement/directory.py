"""The embedded default: one directory with keys, trust file and ledger, created on first use."""

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final, get_args

from agent_identity.enforcement.rotation import finish_rotation
from agent_identity.errors import ConfigurationError, TokenError
from agent_identity.evidence import DigestKeys, Ledger
from agent_identity.identity import Clock, Ids, PublicKey, Purpose, SigningKey, TrustedKey, TrustStore

__all__ = ["Directory", "open_directory"]

CLASHING: Final = "agent-identity"
"""Another distribution on PyPI that installs a package of our name (threats AC-71)."""


@final
@dataclass(frozen=True, slots=True)
class Directory:
    """What :func:`open_directory` found or made.

    Attributes:
        issuer: Signs root grants.
        recorder: Signs records and checkpoints.
        trust: The public keys, as written to ``trust.json``.
        ledger: This process's stream.
        digests: The keys of argument and result digests.
    """

    issuer: SigningKey
    recorder: SigningKey
    trust: TrustStore
    ledger: Ledger
    digests: DigestKeys


def refuse_clash(find: Callable[[str], object] = importlib.metadata.distribution) -> None:
    """Refuse to run beside the unrelated distribution that owns our import name.

    Args:
        find: Looks up an installed distribution by name; raises ``PackageNotFoundError`` if absent.

    Raises:
        ConfigurationError: It is installed; whose modules are imported is then a matter of luck.
    """
    try:
        find(CLASHING)
    except importlib.metadata.PackageNotFoundError:
        return
    raise ConfigurationError(
        f"expected only the distribution agent-identity-otel to own the package agent_identity, got {CLASHING} as "
        f"well; run 'pip uninstall {CLASHING}' and reinstall agent-identity-otel"
    )


def prepare(directory: str | os.PathLike[str], clock: Clock, ids: Ids) -> tuple[SigningKey, SigningKey, TrustStore]:
    """Load keys and trust file of a directory, creating what is missing with safe modes.

    Several processes may do this at once; they agree on one set of keys.

    Raises:
        ConfigurationError: Something there is unusable; the message says what and how to go on.
    """
    root = Path(directory)
    keys = root / "keys"
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"expected a directory for evidence that can be written, got {error.strerror}; choose another one"
        ) from None
    for purpose in get_args(Purpose):
        finish_rotation(root, purpose)
    issuer = _key(keys / "issuer.pem")
    recorder = _key(keys / "recorder.pem")
    return (
        issuer,
        recorder,
        _trust(root / "trust.json", issuer.public_key, recorder.public_key, ids.new(clock.wall_ns())),
    )


def _key(path: Path) -> SigningKey:
    if not path.exists():
        try:
            SigningKey.generate().save(path)
        except ConfigurationError:
            if not path.exists():  # Otherwise another process was first, and its key is ours too.
                raise
    return SigningKey.load(path)


def _trust(path: Path, issuer: PublicKey, recorder: PublicKey, name: str) -> TrustStore:
    if not path.exists():
        if (path.parent / "log" / "checkpoint").exists():
            raise ConfigurationError(
                "expected trust.json beside the log that is there, found none; put back the copy that verifiers have, "
                "or start a new directory"
            )
        fresh = TrustStore(
            keys=(
                TrustedKey(key=issuer, purpose="issuer"),
                TrustedKey(key=recorder, purpose="recorder"),
            ),
            issuer=f"urn:uuid:{name}",
            origin=f"agent-identity/{name}",
        )
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
                f"expected the {purpose} key of the directory in its trust.json, got others; "
                "restore the pair from a backup, or start a new directory"
            )
    if trust.issuer is None or trust.origin is None:
        raise ConfigurationError("expected 'issuer' and 'origin' in trust.json; restore them or start a new directory")
    return trust


def check_keys(issuer: PublicKey, recorder: PublicKey, trust: TrustStore, now: int) -> None:
    """Return if what the keys sign from now on will count.

    Raises:
        ConfigurationError: A key is revoked, or not in its time.
    """
    pairs: tuple[tuple[PublicKey, Purpose], ...] = ((issuer, "issuer"), (recorder, "recorder"))
    for key, purpose in pairs:
        try:
            trust.find(key.thumbprint, purpose, at=now)
        except TokenError as error:
            state = "a revoked one" if error.code == "key_revoked" else "one that is not valid now"
            raise ConfigurationError(
                f"expected a valid {purpose} key, got {state}; run 'agent-identity keys rotate --{purpose} DIR' first",
                code=error.code,
            ) from None


def open_directory(
    directory: str | os.PathLike[str], *, clock: Clock, ids: Ids, sync: Literal["process", "disk"]
) -> Directory:
    """Open a directory for an enforcer of this process.

    Args:
        directory: The directory; created if missing, with its parents.
        clock: Source of time.
        ids: Source of ids.
        sync: What an appended record survives: the death of the process, or power loss as well.

    Raises:
        ConfigurationError: Keys, trust file or platform are unusable, or a key is revoked.
        EvidenceError: The ledger cannot be written.
    """
    refuse_clash()
    issuer, recorder, trust = prepare(directory, clock, ids)
    check_keys(issuer.public_key, recorder.public_key, trust, clock.wall_ns() // 1_000_000_000)
    root = Path(directory)
    ledger = Ledger.open(root, signer=recorder, origin=trust.origin or "", clock=clock, ids=ids, sync=sync)
    return Directory(issuer, recorder, trust, ledger, DigestKeys(root / "keys" / "digests.jsonl", sync=sync))
