"""Opens the directory of an enforcer for commands."""

import argparse
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Final, cast

from agent_identity._authority.stores import DirectoryState, PostgresState, RedisState, SqliteState, StateStore
from agent_identity._enforcement import Enforcer
from agent_identity._enforcement.approvals import ApprovalInbox
from agent_identity._enforcement.directory import pseudonyms_of
from agent_identity._evidence.ledger import Ledger
from agent_identity._evidence.record import DigestKeys
from agent_identity._identity.common import RandomIds, SystemClock, is_there
from agent_identity._identity.keys import SigningKey
from agent_identity._identity.trust import TrustStore
from agent_identity.errors import ConfigurationError

__all__ = ["NS", "opened", "store_of", "trust_file"]

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""


def store_of(chosen: argparse.Namespace) -> StateStore | None:
    """Return the state store of ``--state``; the caller closes it.

    Raises:
        ConfigurationError: The URL names no store, or the file does not exist.
    """
    url, prefix = cast("str | None", chosen.state), cast("str | None", chosen.prefix)
    if url is None:
        return None
    scheme, colon, _ = url.partition("://")
    try:
        if not colon:
            _check_there(url)
            return SqliteState(url)
        if scheme in ("redis", "rediss", "unix"):
            return RedisState(url) if prefix is None else RedisState(url, prefix=prefix)
        if scheme in ("postgres", "postgresql"):
            return PostgresState(url) if prefix is None else PostgresState(url, prefix=prefix)
    except ValueError as error:
        raise ConfigurationError(f"--state: {error}") from None
    raise ConfigurationError(
        f"--state: {scheme!r} is not a scheme of a store; use redis, rediss, postgresql, or a path"
    )


def _check_there(path: str) -> None:
    """Check that the file exists: a mistyped path must not create one, in which nothing is revoked."""
    try:
        there = is_there(path)
    except OSError as error:
        raise ConfigurationError(f"--state: {path!r} cannot be accessed ({error.strerror}); check its owner") from None
    if not there:
        raise ConfigurationError(
            f"--state: there is no SQLite file at {path!r}; check the path, or have one of the enforcers guard a first "
            "call, which creates the file"
        )


def trust_file(directory: str) -> Path:
    """Return the trust file of a directory.

    Raises:
        ConfigurationError: The path is not the directory of an enforcer.
    """
    path = Path(directory) / "trust.json"
    if not path.exists():
        raise ConfigurationError(
            f"{directory!r} is not the directory of an enforcer; 'agent-identity init DIR' creates one"
        )
    return path


@contextlib.contextmanager
def opened(directory: str, keys: str | None, store: StateStore | None = None) -> Generator[Enforcer]:
    """Open the directory; with ``keys``, take its keys from another directory.

    Args:
        directory: The directory of the enforcer.
        keys: The directory with the keys, if a signer holds them.
        store: The store that several machines share; by default the state of the directory. It is closed here.
    """
    with contextlib.ExitStack() as stack:
        if store is not None:
            stack.enter_context(contextlib.closing(store))
        yield stack.enter_context(_opened(directory, keys, store))


@contextlib.contextmanager
def _opened(directory: str, keys: str | None, store: StateStore | None) -> Generator[Enforcer]:
    trust_file(directory)
    if keys is None:
        with Enforcer.open(directory, state=store) as enforcer:
            yield enforcer
        return
    own = DirectoryState(Path(directory) / "state")
    with contextlib.closing(own), _with_keys(Path(directory), Path(keys) / "keys", store or own) as enforcer:
        yield enforcer


def _with_keys(directory: Path, keys: Path, state: StateStore) -> Enforcer:
    """Return an enforcer on a directory without keys, with the keys from another directory."""
    issuer, recorder = SigningKey.load(keys / "issuer.pem"), SigningKey.load(keys / "recorder.pem")
    trust = TrustStore.load(directory / "trust.json")
    ledger = Ledger.open(directory, signer=recorder, origin=trust.origin or "", clock=SystemClock(), ids=RandomIds())
    enforcer = Enforcer(
        issuer=issuer,
        recorder=recorder,
        trust=trust,
        ledger=ledger,
        digests=DigestKeys(directory / "keys" / "digests.jsonl"),
        state=state,
        pseudonyms=pseudonyms_of(directory, wanted=False),
    )
    enforcer.approvals.use(ApprovalInbox(directory / "approvals"))
    return enforcer
