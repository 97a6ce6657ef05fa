"""The commands for keys, trust files and parties that vouch for a log, such as ``keys``, ``trust`` and ``witness``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import Command, add_directory, add_json, placed
from agent_identity.cli.trust.trust_commands import TRUST_FILES

PURPOSES: Final = ("issuer", "recorder")
"""Purposes of the keys of a directory."""


def _new(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the key file to create")
    add_json(parser)


def _public(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the private key file")


def _rotate(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    for purpose in PURPOSES:
        text = f"rotate the {purpose} key"
        which.add_argument(f"--{purpose}", dest="purposes", action="store_const", const=(purpose,), help=text)
    which.add_argument("--all", dest="purposes", action="store_const", const=PURPOSES, help="rotate both keys")
    parser.add_argument("path", metavar="DIR", help="the directory of the enforcer")
    text = "validity of the old keys from now on, as 30m, 24h or 7d (default)"
    parser.add_argument("--overlap", metavar="TIME", default="7d", help=text)
    parser.add_argument("--evidence", metavar="DIR", help="the directory of the log, if the keys are in another one")
    _add_root(parser)
    add_json(parser)


def _revoke(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR_OR_FILE", help="the directory of the enforcer, or a trust file")
    text = "the key, as 'trust list' shows it; after -- if it begins with a dash"
    parser.add_argument("key", metavar="THUMBPRINT", help=text)
    text = "the time of the revocation, as 2026-11-24T09:30:00Z or in Unix seconds"
    parser.add_argument("--since", metavar="TIME", required=True, help=text)
    parser.add_argument("--reason", metavar="TEXT", help="the reason, for people")
    _add_root(parser)
    add_json(parser)


def _add_root(parser: ArgumentParser) -> None:
    text = "the private key of a root of trust.json, which signs the next one: a key file, or the URI of a token's key"
    parser.add_argument("--root", metavar="KEY", help=text)


def _signer(parser: ArgumentParser) -> None:
    add_directory(parser, "the directory with the keys, created by init; not that of the evidence")
    parser.add_argument(
        "--socket", metavar="PATH", required=True, help="the socket to listen on; a stale one is replaced"
    )
    text = "serve this user as well (name or id)"
    parser.add_argument("--user", metavar="NAME", action="append", default=[], help=text)
    text = "serve all users with this primary group"
    parser.add_argument("--group", metavar="NAME", action="append", default=[], help=text)
    text = "sign lists of revocations, rulings and registrations for this user as well; never the user of the agents"
    parser.add_argument("--operator", metavar="NAME", action="append", default=[], help=text)
    text = "the same for all users with this primary group"
    parser.add_argument("--operator-group", metavar="NAME", action="append", default=[], help=text)


def _witness(parser: ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the name of this witness, such as witness.example.com/w1")
    parser.add_argument("--key", metavar="FILE", required=True, help="its private key, created by 'keys new'")
    text = "cosign the log of this trust.json; repeatable"
    parser.add_argument("--trust", metavar="FILE", action="append", default=[], help=text)
    text = "cosign the log of this verifier key; repeatable"
    parser.add_argument("--log", metavar="VKEY", action="append", default=[], help=text)
    parser.add_argument(
        "--state", metavar="FILE", required=True, help="its state file; must never be lost or rolled back"
    )
    parser.add_argument("--new", action="store_true", help="create the state: only for a key that never cosigned")
    text = "the address to listen on (default: %(default)s)"
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8765", help=text)


def _anchor(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    parser.add_argument("--tsa", metavar="URL", required=True, help="the address of the time-stamp authority")
    text = "certificates (PEM) that must verify the time-stamp"
    parser.add_argument("--tsa-certificate", metavar="FILE", help=text)
    add_json(parser)


TRUST: Final = placed(
    "trust",
    Command(
        "keys",
        "create, rotate and revoke keys",
        actions=(
            Command(
                "new",
                "create a private key file (mode 0600); never overwrites one",
                "agent-identity keys new witness.pem",
                _new,
            ),
            Command(
                "public",
                "print the public key of a private key file as a JWK",
                "agent-identity keys public evidence/keys/issuer.pem",
                _public,
            ),
            Command(
                "rotate",
                "rotate the keys of a directory, with overlap",
                "agent-identity keys rotate --all evidence --overlap 24h",
                _rotate,
                description=(
                    "Create new keys, announce them in trust.json, signed by the old issuer key, and remove the old "
                    "private keys. Processes that have the directory open accept the new keys at once, and use the "
                    "old ones until they open it again; they must do so, and their grants must expire, before the "
                    "overlap ends. Then give the new trust.json to the verifiers."
                ),
            ),
            Command(
                "revoke",
                "revoke a key from the time of its possible theft",
                "agent-identity keys revoke evidence --since 2026-11-24T09:30:00Z -- THUMBPRINT",
                _revoke,
                description=(
                    "Mark a private key in a trust file as possibly stolen since a time. From then on, its signatures "
                    "alone prove nothing: verification needs an earlier checkpoint, kept elsewhere. Rotate the key "
                    "of a directory in use as well. Give the new trust.json to the verifiers."
                ),
            ),
        ),
    ),
    TRUST_FILES,
    Command(
        "signer",
        "hold the keys, and sign for other processes",
        "agent-identity signer /etc/agents --socket /run/agents/signer.sock --group agents",
        _signer,
        description=(
            "Serve the keys of a directory over a Unix socket until it is stopped. It signs only records, checkpoints "
            "and grants of the directory's own names. Run it as a separate user, and open the enforcers with "
            "keys='unix:PATH'. SIGHUP reloads the directory, after 'keys rotate'."
        ),
    ),
    Command(
        "witness",
        "cosign the checkpoints of others",
        "agent-identity witness --name witness.example.com/w1 --key w1.pem --trust trust.json --state seen.json --new",
        _witness,
        description=(
            "Serve the C2SP witness protocol until it is stopped. It cosigns a checkpoint if it continues the last one "
            "of its log that it cosigned, so two histories of one log never get a cosignature. Run it on a machine "
            "that the operators of the logs do not control. It speaks plain HTTP: put a TLS proxy in front of it for "
            "remote clients."
        ),
    ),
    Command(
        "anchor",
        "time-stamp the latest checkpoint (RFC 3161)",
        "agent-identity anchor evidence --tsa http://tsa.example.com --tsa-certificate tsa.pem",
        _anchor,
        description=(
            "Send the hash of the latest checkpoint to a time-stamp authority, and keep its answer in log/anchors. It "
            "proves that everything under the checkpoint existed at that time: 'verify --tsa-certificate FILE'. "
            "Needs the extra 'anchors'."
        ),
    ),
)
"""The commands of the group."""
