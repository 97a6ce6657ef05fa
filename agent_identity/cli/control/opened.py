"""Opens the directory of an enforcer for commands."""

import argparse
import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Final

from agent_identity._authority.stores.protocol import StateStore
from agent_identity._directory.enforcer import Enforcer
from agent_identity.cli.terminal.signing import keys_of
from agent_identity.errors import ConfigurationError

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""


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
