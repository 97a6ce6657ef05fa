"""The commands about keys and those who vouch for a log: ``keys``, ``signer``, ``witness``, ``anchor``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.command import Command, add_directory, add_json

__all__ = ["PURPOSES", "TRUST"]

PURPOSES: Final = ("issuer", "recorder")
"""What the keys of a directory are for."""

_KEYS: Final = "agent_identity.cli.trust.keys"


def _new(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the key file to make")
    text = "what the key is for: everything (default), or the cosignatures of a witness"
    parser.add_argument("--algorithm", choices=("ed25519", "ml-dsa-44"), default="ed25519", help=text)
    add_json(parser)


def _list(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR_OR_FILE", help="the directory of the enforcer, or a trust file")
    add_json(parser)


def _public(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the private key file")


def _rotate(parser: ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    for purpose in PURPOSES:
        text = f"rotate the {purpose} key"
        which.add_argument(f"--{purpose}", dest="purposes", action="store_const", const=(purpose,), help=text)
    which.add_argument("--all", dest="purposes", action="store_const", const=PURPOSES, help="rotate both keys")
    text = "rotate the second key of checkpoints, at once and without overlap"
    which.add_argument("--second", dest="purposes", action="store_const", const=(), help=text)
    parser.add_argument("path", metavar="DIR", help="the directory of the enforcer")
    text = "how long the old keys count on, as 30m, 24h or 7d (default)"
    parser.add_argument("--overlap", metavar="TIME", default="7d", help=text)
    parser.add_argument("--evidence", metavar="DIR", help="the directory of the log, if the keys live in another one")
    text = "record the new keys in the ledger, in version 2 of the record, which is a draft"
    parser.add_argument("--draft-records", action="store_true", help=text)
    add_json(parser)


def _revoke(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR_OR_FILE", help="the directory of the enforcer, or a trust file")
    text = "the key, as 'keys list' shows it; after -- if it begins so"
    parser.add_argument("key", metavar="THUMBPRINT", help=text)
    text = "since when, as 2026-11-24T09:30:00Z or in Unix seconds"
    parser.add_argument("--since", metavar="TIME", required=True, help=text)
    parser.add_argument("--reason", metavar="TEXT", help="why, for people")
    add_json(parser)


def _signer(parser: ArgumentParser) -> None:
    add_directory(parser, "the directory with the keys, made by init; not that of the evidence")
    parser.add_argument("--socket", metavar="PATH", required=True, help="where to listen; a relic there is replaced")
    text = "serve this user as well (name or id)"
    parser.add_argument("--user", metavar="NAME", action="append", default=[], help=text)
    text = "serve all whose primary group this is"
    parser.add_argument("--group", metavar="NAME", action="append", default=[], help=text)


def _witness(parser: ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the name of this witness, such as witness.example.com/w1")
    parser.add_argument("--key", metavar="FILE", required=True, help="its private key, made by 'keys new'")
    text = "cosign the log of this trust.json; repeatable"
    parser.add_argument("--trust", metavar="FILE", action="append", default=[], help=text)
    text = "cosign the log of this verifier key; repeatable"
    parser.add_argument("--log", metavar="VKEY", action="append", default=[], help=text)
    parser.add_argument("--state", metavar="FILE", required=True, help="what it saw; must never be lost or put back")
    parser.add_argument("--new", action="store_true", help="make the state: only for a key that never cosigned")
    text = "where to listen (default: %(default)s)"
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:8765", help=text)


def _anchor(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    parser.add_argument("--tsa", metavar="URL", required=True, help="the address of the time-stamp authority")
    text = "certificates (PEM) under which the answer must verify"
    parser.add_argument("--tsa-certificate", metavar="FILE", help=text)
    add_json(parser)


TRUST: Final = (
    Command(
        "keys",
        "make, list, rotate and revoke keys",
        actions=(
            Command(
                "new",
                "make a private key file (mode 0600); never overwrites one",
                "agent-identity keys new witness.pem --algorithm ml-dsa-44",
                _new,
                f"{_KEYS}:run_new",
            ),
            Command(
                "list",
                "list the public keys of a trust file",
                "agent-identity keys list evidence",
                _list,
                f"{_KEYS}:run_list",
            ),
            Command(
                "public",
                "print the public key of a private key file as a JWK",
                "agent-identity keys public evidence/keys/issuer.pem",
                _public,
                f"{_KEYS}:run_public",
            ),
            Command(
                "rotate",
                "rotate the keys of a directory, with overlap",
                "agent-identity keys rotate --all evidence --overlap 24h",
                _rotate,
                f"{_KEYS}:run_rotate",
                description=(
                    "Make new keys, announce them in trust.json, and remove the old private keys. Processes that have "
                    "the directory open use the old keys until they open it again; that, and the grants they made, "
                    "must be over when the overlap ends. Then give the new trust.json to those who verify."
                ),
            ),
            Command(
                "revoke",
                "revoke a key from the time at which others may have had it",
                "agent-identity keys revoke evidence --since 2026-11-24T09:30:00Z -- THUMBPRINT",
                _revoke,
                f"{_KEYS}:run_revoke",
                description=(
                    "Say in a trust file since when others may have had a private key. From then on no signature of "
                    "the key proves anything by itself: verification needs a checkpoint from before, kept elsewhere. "
                    "The key of a directory in use has to be rotated as well. Give the new trust.json to those who "
                    "verify."
                ),
            ),
        ),
    ),
    Command(
        "signer",
        "hold the keys, and sign for other processes",
        "agent-identity signer /etc/agents --socket /run/agents/signer.sock --group agents",
        _signer,
        "agent_identity.cli.trust.signer",
        description=(
            "Serve the keys of a directory over a Unix socket, until it is told to stop. Only records, checkpoints and "
            "grants of the directory's own names are signed. Run it as a user of its own, and open the enforcers with "
            "signer='unix:PATH'. SIGHUP has it read the directory again, after 'keys rotate'."
        ),
    ),
    Command(
        "witness",
        "cosign the checkpoints of others",
        "agent-identity witness --name witness.example.com/w1 --key w1.pem --trust trust.json --state seen.json --new",
        _witness,
        "agent_identity.cli.trust.witness",
        description=(
            "Serve the C2SP witness protocol, until it is told to stop. A checkpoint is cosigned if it continues the "
            "latest one of its log that was cosigned before; so nobody gets two histories of one log cosigned. Run it "
            "on a machine that the operators of the logs do not have. It speaks plain HTTP: put a server with TLS in "
            "front of it for others to reach it."
        ),
    ),
    Command(
        "anchor",
        "have the latest checkpoint time-stamped (RFC 3161)",
        "agent-identity anchor evidence --tsa http://tsa.example.com --tsa-certificate tsa.pem",
        _anchor,
        "agent_identity.cli.trust.anchor",
        description=(
            "Send the hash of the latest checkpoint to a time-stamp authority, and keep its answer in log/anchors. It "
            "proves that everything under the checkpoint was there at that time: 'verify --tsa-certificate FILE'. "
            "Needs the extra 'anchors'."
        ),
    ),
)
"""The commands of the group."""
