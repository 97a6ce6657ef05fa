"""The store of state that the options of a command name; each kind is loaded where it is named."""

import argparse
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from agent_identity._identity.common.private_files import is_there
from agent_identity.errors import ConfigurationError

if TYPE_CHECKING:
    from agent_identity._authority.stores.protocol import StateStore


def store_of(chosen: argparse.Namespace) -> "StateStore | None":
    """Return the state store of ``--state``; the caller closes it.

    Raises:
        ConfigurationError: The URL names no store, or the file does not exist.
    """
    url, prefix = chosen.state, chosen.prefix
    if url is None:
        return None
    scheme, colon, _ = url.partition("://")
    named = {} if prefix is None else {"prefix": prefix}
    try:
        if not colon:
            _check_there(url)
            from agent_identity._authority.stores.sqlite import SqliteState

            return SqliteState(url)
        if scheme in ("redis", "rediss", "unix"):
            from agent_identity._authority.stores.redis import RedisState

            return RedisState(url, **named)
        if scheme in ("postgres", "postgresql"):
            from agent_identity._authority.stores.postgres import PostgresState

            return PostgresState(url, **named)
    except ValueError as error:
        raise ConfigurationError(f"--state: {error}") from None
    raise ConfigurationError(
        f"--state: {scheme!r} is not a scheme of a store; use redis, rediss, postgresql, or a path"
    )


@contextlib.contextmanager
def open_store(chosen: argparse.Namespace) -> "Generator[StateStore | None]":
    """Yield the store of ``--state``, and close it after the block.

    Raises:
        ConfigurationError: As for :func:`store_of`.
    """
    store = store_of(chosen)
    with contextlib.nullcontext() if store is None else contextlib.closing(store):
        yield store


@contextlib.contextmanager
def reading_state(chosen: argparse.Namespace) -> "Generator[StateStore]":
    """Yield the store of ``--state``, or a private copy of the state of the directory, to read from.

    Raises:
        ConfigurationError: As for :func:`store_of`.
        StateError: The state of the directory cannot be read.
    """
    from agent_identity._authority.stores.snapshot import copied_state

    with open_store(chosen) as store:
        if store is not None:
            yield store
            return
    with copied_state(Path(chosen.directory) / "state") as copied:
        yield copied


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
