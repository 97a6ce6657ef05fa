"""``agent-identity anchor``: time-stamp the latest checkpoint of a directory."""

import argparse
import json

from agent_identity._ledger.reader import open_ledger
from agent_identity._verify.report.plurals import counted
from agent_identity.cli.terminal.style import moment
from agent_identity.errors import ConfigurationError


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    from agent_identity.integrations.rfc3161 import Anchor, Authority  # An extra.

    note = open_ledger(chosen.directory).checkpoint()
    if note is None:
        raise ConfigurationError("there is no checkpoint at log/checkpoint; name the right directory")
    authority = Authority.load(chosen.tsa_certificate) if chosen.tsa_certificate else None
    size, seconds = Anchor(chosen.directory, chosen.tsa, authority=authority).stamp(note)
    if chosen.json:
        print(json.dumps({"entries": size, "time": seconds, "verified": authority is not None}))
        return 0
    print(f"{counted(size, 'entry')} of the log time-stamped at {moment(seconds * 1_000_000_000)}")
    if authority is None:
        print("its signature was not checked; give --tsa-certificate, here or for verify")
    return 0
