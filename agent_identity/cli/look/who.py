"""``agent-identity who``: resolve a pseudonym to a principal."""

import argparse
import json
from pathlib import Path

from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    path = Path(chosen.directory) / "keys" / "pseudonyms.jsonl"
    if not path.exists():
        raise ConfigurationError(
            f"{chosen.directory!r} has no keys/pseudonyms.jsonl; name the directory of an enforcer that is opened with "
            "Privacy(pseudonyms=True)"
        )
    kind, name = Pseudonyms(path).who(chosen.pseudonym)
    print(json.dumps({"kind": kind, "id": name}) if chosen.json else f"{clean(name)} ({kind})")
    return 0
