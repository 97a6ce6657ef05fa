"""``agent-identity init``: prepare a directory before the first process uses it."""

import argparse
import json

from agent_identity._directory.open import Names, hides_from_git, prepare
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    names = Names(chosen.origin or Names().origin, chosen.issuer)
    issuer, recorder, trust = prepare(chosen.directory, SystemClock(), RandomIds(), chosen.keys, names)
    kept = chosen.origin is None or (trust.origin or "").startswith(chosen.origin)
    if not kept or chosen.issuer not in (None, trust.issuer):
        raise ConfigurationError(
            f"the directory exists and has other names ({trust.origin!a}, {trust.issuer!a}); choose another one, or "
            "leave --origin and --issuer out"
        )
    facts = {
        "directory": str(chosen.directory),
        "issuer": trust.issuer or "",
        "issuer_key": issuer.public_key.thumbprint,
        "recorder_key": recorder.public_key.thumbprint,
        "origin": trust.origin or "",
    }
    if chosen.json:
        print(json.dumps(facts))
        return 0
    name = clean(chosen.directory)
    print(f"{name} is ready")
    print(f"  issuer key    {facts['issuer_key']}  signs grants")
    print(f"  recorder key  {facts['recorder_key']}  signs records and checkpoints")
    print(f"  log           {clean(facts['origin'])}")
    print(f"\nKeep a copy of {name}/trust.json elsewhere: verifiers need it, and only it.")
    if hides_from_git(chosen.directory):
        print(f"{name}/.gitignore keeps private keys and evidence out of git.")
    else:
        print(
            f"{name}/.gitignore is not the one that init writes: add keys/, state/, approvals/, ledger/ and log/ to it."
        )
    return 0
