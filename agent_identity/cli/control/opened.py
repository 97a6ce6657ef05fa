"""Opens the directory of an enforcer for commands."""

import argparse
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Final

from agent_identity._authority.stores.postgres import PostgresState
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._authority.stores.redis import RedisState
from agent_identity._authority.stores.sqlite import SqliteState
from agent_identity._directory.enforcer import Enforcer
from agent_identity._identity.common.private_files import is_there
from agent_identity.cli.terminal.signing import keys_of
from agent_identity.errors import ConfigurationError

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""


def store_of(chosen: argparse.Namespace) -> StateStore | None:
    """Return the state store of ``--state``; the caller closes it.

    Raises:
        ConfigurationError: The URL names no store, or the file does not exist.
    """
    url, prefix = chosen.state, chosen.prefix
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
def opened(chosen: argparse.Namespace, store: StateStore | None = None) -> Generator[Enforcer]:
    """Open the directory with the keys that the options name.

    Args:
        chosen: The options of the command.
        store: The store that several machines share; by default the state of the directory. It is closed here.
    """
    with contextlib.ExitStack() as stack:
        if store is not None:
            stack.enter_context(contextlib.closing(store))
        trust_file(chosen.directory)
        keys = stack.enter_context(keys_of(chosen))
        yield stack.enter_context(Enforcer.open(chosen.directory, keys=keys, state=store))
