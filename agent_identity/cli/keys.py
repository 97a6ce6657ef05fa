"""``agent-identity keys``: make keys, and show the public part of them."""

import argparse
import json
import sys
from pathlib import Path
from typing import Final

from agent_identity.cli.command import Commands
from agent_identity.cli.terminal import clean, columns, moment, table
from agent_identity.errors import ConfigurationError
from agent_identity.identity import SigningKey, TrustStore

__all__ = ["register"]

_YEAR_9999: Final = 253_402_300_799


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser("keys", help="make and list keys", description="Make and list keys.")
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True)
    text = "make a private key file (mode 0600); never overwrites one"
    new = actions.add_parser("new", help=text, description=f"{text[0].upper()}{text[1:]}.")
    new.add_argument("path", metavar="FILE", help="the key file to make")
    new.set_defaults(run=run_new)
    text = "list the public keys of a trust file"
    listing = actions.add_parser("list", help=text, description=f"{text[0].upper()}{text[1:]}.")
    listing.add_argument("path", metavar="DIR_OR_FILE", help="the directory of the enforcer, or a trust file")
    listing.add_argument("--json", action="store_true", help="print JSON for machines")
    listing.set_defaults(run=run_list)
    text = "print the public key of a private key file as a JWK"
    public = actions.add_parser("public", help=text, description=f"{text[0].upper()}{text[1:]}.")
    public.add_argument("path", metavar="FILE", help="the private key file")
    public.set_defaults(run=run_public)


def run_new(chosen: argparse.Namespace) -> int:
    """Make a key file."""
    key = SigningKey.generate()
    key.save(chosen.path)
    print(f"{clean(chosen.path)}: {key.public_key.thumbprint}")
    return 0


def run_public(chosen: argparse.Namespace) -> int:
    """Print the public part of a key file."""
    public = SigningKey.load(chosen.path).public_key
    print(json.dumps({**public.to_jwk(), "alg": "EdDSA", "kid": public.thumbprint}, indent=2))
    return 0


def run_list(chosen: argparse.Namespace) -> int:
    """List the keys of a trust file."""
    path = Path(chosen.path)
    if path.is_dir():
        path /= "trust.json"
    if not path.exists():
        raise ConfigurationError(
            f"expected a trust file at {str(path)!r}, found none; 'agent-identity init DIR' creates one in DIR"
        )
    trust = TrustStore.load(path)
    if chosen.json:
        print(trust.to_json().decode(), end="")
        return 0
    print(f"issuer  {clean(trust.issuer or 'not named')}\nlog     {clean(trust.origin or 'not pinned')}\n")
    rows = [("PURPOSE", "KEY", "VALID FROM", "VALID UNTIL")]
    rows += [(key.purpose, key.key.thumbprint, _time(key.not_before), _time(key.not_after)) for key in trust.keys]
    print("\n".join(table(rows, indent="", room=columns(sys.stdout))))
    return 0


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "always"
    return moment(seconds * 1_000_000_000) if seconds <= _YEAR_9999 else f"{seconds} s"
