"""``agent-identity who``: resolve a pseudonym to a principal."""

import argparse
import json

from agent_identity._directory.key_folders import key_folder
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    path = key_folder(chosen.directory, chosen.keys) / "pseudonyms.jsonl"
    if not path.exists():
        raise ConfigurationError(
            f"there is no {str(path)!r}; name the directory of an enforcer that is opened with "
            "Privacy(pseudonyms=True), and with --keys the folder of its keys if it is outside"
        )
    kind, name = Pseudonyms(path).who(chosen.pseudonym)
    print(json.dumps({"kind": kind, "id": name}) if chosen.json else f"{clean(name)} ({kind})")
    return 0
