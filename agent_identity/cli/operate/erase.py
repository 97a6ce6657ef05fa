"""``agent-identity erase``: make the digests of a task or principal unprovable."""

import argparse
import getpass
import json
import os
from pathlib import Path

from agent_identity._directory.erasure import Erased, ErasedKind, erase
from agent_identity._guard.judging.record_builder import RESOURCES
from agent_identity._identity.common.clock import SystemClock
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.signing import opened_ledger, secrets_of, signing
from agent_identity.cli.terminal.sources import is_directory, named
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    directory = chosen.directory
    named([directory])
    if not is_directory(directory) or not (Path(directory) / "trust.json").exists():
        raise ConfigurationError(f"{directory!r} is not the directory of an enforcer; name the one with trust.json")
    kind, name = _chosen(chosen)
    with (
        signing(chosen) as (_, recorder, trust),
        opened_ledger(directory, recorder, trust, secrets_of(chosen)) as ledger,
    ):
        by = chosen.by or _login()
        try:
            erased = erase(directory, kind, name, ledger=ledger, clock=SystemClock(), by=by, reason=chosen.reason)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    _tell(chosen, kind, name, erased)
    return 0


def _chosen(chosen: argparse.Namespace) -> tuple[ErasedKind, str]:
    if chosen.resources:
        return "resources", RESOURCES
    return ("task", chosen.task) if chosen.task is not None else ("principal", chosen.principal)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container often has a user without a name.
        return f"uid:{os.getuid()}"


def _tell(chosen: argparse.Namespace, kind: str, name: str, erased: Erased) -> None:
    what = kind if chosen.resources else f"{kind} {clean(name)}"
    if chosen.json:
        facts = {"kind": kind, "name": name, "tasks": erased.tasks, "keys": erased.keys, "record": erased.record}
        print(json.dumps({**facts, "mapping": erased.mapping, "requests": erased.requests}))
        return
    if erased.record is None and not erased.requests:
        nothing = "nothing left to erase" if erased.tasks else "nothing to erase: unknown here, or erased before"
        print(f"{what}: {nothing}")
    if erased.requests:
        print(f"{what}: {counted(erased.requests, 'request')} for approval removed")
    if erased.record is not None:
        mapping = " and the mapping of the pseudonym" if erased.mapping else ""
        print(f"{what}: {counted(erased.keys, 'key')}{mapping} erased, record {erased.record}")
        who = "have used it" if chosen.resources else "have such a task open"
        print(f"processes that {who} keep its key in memory until they end; backups keep theirs")
