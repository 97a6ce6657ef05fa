"""``agent-identity anchor``: have the latest checkpoint of a directory time-stamped."""

import argparse
import json

from agent_identity.audit.findings import counted
from agent_identity.cli.command import Commands
from agent_identity.cli.terminal.style import moment
from agent_identity.errors import ConfigurationError
from agent_identity.evidence import open_ledger

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "anchor",
        help="have the latest checkpoint time-stamped (RFC 3161)",
        description="Send the hash of the latest checkpoint to a time-stamp authority, and keep its answer in "
        "log/anchors. It proves that everything under the checkpoint was there at that time: 'verify "
        "--tsa-certificate FILE'. Needs the extra 'anchors'.",
    )
    command.add_argument("directory", metavar="DIR", help="the evidence directory")
    command.add_argument("--tsa", metavar="URL", required=True, help="the address of the time-stamp authority")
    command.add_argument(
        "--tsa-certificate",
        metavar="FILE",
        help="certificates (PEM) under which the answer must verify",
    )
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    from agent_identity.integrations.rfc3161 import Anchor, Authority  # noqa: PLC0415  An extra.

    note = open_ledger(chosen.directory).checkpoint()
    if note is None:
        raise ConfigurationError("expected a checkpoint at log/checkpoint, got none; name the right directory")
    authority = Authority.load(chosen.tsa_certificate) if chosen.tsa_certificate else None
    size, seconds = Anchor(chosen.directory, chosen.tsa, authority=authority).stamp(note)
    if chosen.json:
        print(json.dumps({"entries": size, "time": seconds, "verified": authority is not None}))
        return 0
    print(f"{counted(size, 'entry')} of the log time-stamped at {moment(seconds * 1_000_000_000)}")
    if authority is None:
        print("its signature was not checked; give --tsa-certificate, here or when you verify")
    return 0
