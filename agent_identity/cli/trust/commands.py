"""The commands for keys, trust files and parties that vouch for a log, such as ``keys``, ``trust`` and ``witness``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import Command, add_directory, add_json, add_key_folder, add_pin, placed

_VIEWS: Final = "agent_identity.cli.trust.files.views"
_CHANGES: Final = "agent_identity.cli.trust.files.changes"
_KINDS: Final = ("issuer", "recorder", "closer", "root", "policy", "witness")
_ROOT: Final = (
    "the private key of the root that signs: a key file, or pkcs11:token=LABEL;object=KEY?module-path=LIBRARY"
)
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
    add_key_folder(parser)
    _add_root(parser)
    add_json(parser)


def _revoke(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="DIR_OR_FILE", help="the directory of the enforcer, or a trust file")
    text = "the key, as 'trust list' shows it; after -- if it begins with a dash"
    parser.add_argument("key", metavar="THUMBPRINT", help=text)
    text = "the time of the revocation, as 2026-11-24T09:30:00Z or in Unix seconds"
    parser.add_argument("--since", metavar="TIME", required=True, help=text)
    parser.add_argument("--reason", metavar="TEXT", help="the reason, for people")
    add_key_folder(parser)
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


def _certifier(parser: ArgumentParser) -> None:
    parser.add_argument("rules", metavar="RULES", help="the platforms and rules, in TOML")
    parser.add_argument("--trust", metavar="FILE", required=True, help="the trust file that lists its key as a root")
    add_pin(parser)
    text = "its private key: a key file, or pkcs11:token=LABEL;object=KEY?module-path=LIBRARY"
    parser.add_argument("--key", metavar="KEY", required=True, help=text)
    text = "its log, an evidence directory of its own; created if missing"
    parser.add_argument("--log", metavar="DIR", required=True, help=text)
    parser.add_argument("--socket", metavar="PATH", help="a Unix socket to listen on; a stale one is replaced")
    parser.add_argument("--listen", metavar="HOST:PORT", help="an address to listen on, with TLS")
    parser.add_argument("--tls-certificate", metavar="FILE", help="the certificates of TLS (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", help="the private key of TLS (PEM)")
    text = "certificates for one workload in a minute, at most (%(default)s)"
    parser.add_argument("--rate", metavar="N", type=int, default=60, help=text)


def _anchor(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    parser.add_argument("--tsa", metavar="URL", required=True, help="the address of the time-stamp authority")
    text = "certificates (PEM) that must verify the time-stamp"
    parser.add_argument("--tsa-certificate", metavar="FILE", help=text)
    add_json(parser)


def _add_file(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file, or the directory of an enforcer")


def _add_change(parser: ArgumentParser) -> None:
    parser.add_argument("--root", metavar="KEY", help=_ROOT)
    parser.add_argument("--require", metavar="N", type=int, help="so many of the witnesses suffice; by default all")
    text = "write to this new file, and leave FILE as it is"
    parser.add_argument("-o", "--output", metavar="DRAFT", help=text)
    add_json(parser)


def _trust_init(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file to create")
    parser.add_argument("--id", metavar="NAME", help="names the file through all its changes; by default random")
    parser.add_argument("--root", metavar="KEY", help=_ROOT)
    text = "the log that the root may certify, or a prefix of logs that ends in a slash"
    parser.add_argument("--origin", metavar="NAME", help=text)
    parser.add_argument("--issuer", metavar="URI", help="the issuer that its certificates must name; by default any")
    add_json(parser)


def _trust_add(parser: ArgumentParser) -> None:
    _add_file(parser)
    text = f"its purpose: {', '.join(_KINDS)}"
    parser.add_argument("purpose", metavar="PURPOSE", choices=_KINDS, help=text)
    text = "a file with the public key, as 'keys public' prints it; of a witness, its verifier key"
    parser.add_argument("key", metavar="KEY", help=text)
    text = "the log that a recorder or closer may sign for, or a root may certify; a prefix of logs ends in a slash"
    parser.add_argument("--origin", metavar="NAME", help=text)
    text = "issuer: the URI that its grants must name; root: the one that its certificates must name"
    parser.add_argument("--issuer", metavar="URI", help=text)
    text = "its signatures count from this time on, as 2026-11-24 or 2026-11-24T12:00:00Z"
    parser.add_argument("--from", dest="start", metavar="TIME", help=text)
    parser.add_argument("--until", dest="stop", metavar="TIME", help="and until this time")
    text = "root: it certifies recorders and signs no trust file, as that of a certifier"
    parser.add_argument("--recorders-only", action="store_true", help=text)
    _add_change(parser)


def _trust_list(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the trust file, or the directory of an enforcer")
    add_json(parser)


def _trust_merge(parser: ArgumentParser) -> None:
    text = "the trust file that goes on, then the others; a directory of an enforcer stands for its file"
    parser.add_argument("files", metavar="FILE", nargs="+", help=text)
    parser.add_argument("-o", "--output", metavar="DRAFT", required=True, help="the new file")
    add_json(parser)


def _trust_remove(parser: ArgumentParser) -> None:
    _add_file(parser)
    text = "the key, as 'trust list' shows it; after -- if it begins with a dash"
    parser.add_argument("key", metavar="KEY", help=text)
    _add_change(parser)


def _trust_certify(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file that lists the root")
    text = "the directory of the host's enforcer, or its trust.json: it names the keys, the log and the issuer"
    parser.add_argument("host", metavar="HOST", help=text)
    parser.add_argument("--root", metavar="KEY", required=True, help=_ROOT)
    text = "how long the certificate is valid, as 12h or 7d (default); at most 30d"
    parser.add_argument("--for", dest="life", metavar="TIME", default="7d", help=text)
    text = "from when on; by default now. A log must not have begun before"
    parser.add_argument("--from", dest="start", metavar="TIME", help=text)
    text = "the kinds of principals that grants of the host may name (%(default)s)"
    parser.add_argument("--principals", metavar="KINDS", default="human,service", help=text)
    parser.add_argument("--origin", metavar="NAME", help="the log, if the trust file of the host names none")
    parser.add_argument("--issuer", metavar="URI", help="the issuer, likewise")
    text = "the file for the certificate; by default keys/recorder.certificate in the directory HOST"
    parser.add_argument("-o", "--output", metavar="CERTIFICATE", help=text)
    add_json(parser)


def _trust_check(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="FILE", nargs="+", help="a trust file, or the directory of an enforcer")
    text = "the root that must have signed each of them: its thumbprint, or a file with its public key (JWK)"
    parser.add_argument("--root", metavar="KEY", help=text)
    add_json(parser)


def _trust_sign(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file to sign")
    parser.add_argument("--root", metavar="KEY", required=True, help=_ROOT)
    follows = parser.add_mutually_exclusive_group(required=True)
    text = "the trust file in force, which FILE must follow: same id, no older revision, no revocation taken back"
    follows.add_argument("--after", metavar="KEPT", help=text)
    follows.add_argument("--first", action="store_true", help="no root signed a file of this id before")
    parser.add_argument("-o", "--output", metavar="OUT", help="the file to write or replace; by default FILE")
    add_json(parser)


_TRUST_FILES: Final = Command(
    "trust",
    "make, change, check and sign trust files; certify hosts",
    description="A trust file names the keys whose signatures count. Have a root sign the one that matters.",
    actions=(
        Command(
            "init",
            "create a trust file; never overwrites one",
            "agent-identity trust init fleet.json --id urn:example:fleet --root root.pem --origin fleet.example/",
            _trust_init,
            f"{_CHANGES}:run_init",
            description=(
                "Create a trust file: empty, or with a root that signs it. Print the thumbprint of the root, by which "
                "verifiers and processes pin it."
            ),
        ),
        Command(
            "add",
            "add a key or a witness",
            "agent-identity trust add fleet.json issuer partner.jwk --issuer https://partner.example --root root.pem",
            _trust_add,
            f"{_CHANGES}:run_add",
            description=(
                "Add an entry, and raise the revision. With --root, the root signs the next file, if it signed the "
                "present one. Processes that have the directory open follow the next file."
            ),
        ),
        Command(
            "list",
            "list the entries of a trust file",
            "agent-identity trust list evidence",
            _trust_list,
            f"{_VIEWS}:run_list",
        ),
        Command(
            "merge",
            "merge trust files into one, unsigned until a root signs it",
            "agent-identity trust merge fleet.json host-a/trust.json host-b/trust.json -o draft.json",
            _trust_merge,
            f"{_CHANGES}:run_merge",
            description=(
                "Write one trust file for the evidence of all: with the id of the first, the next revision, and no "
                "signature. Names that stood for a whole file then stand beside each of its keys."
            ),
        ),
        Command(
            "remove",
            "remove a key or a witness",
            "agent-identity trust remove fleet.json --root root.pem -- THUMBPRINT",
            _trust_remove,
            f"{_CHANGES}:run_remove",
            description=(
                "Remove the entries of a key, and raise the revision. A stolen key is not removed but revoked ('keys "
                "revoke'), so that its signatures stay in doubt."
            ),
        ),
        Command(
            "certify",
            "certify the keys of a host for its log, for at most 30 days",
            "agent-identity trust certify fleet.json evidence --root root.pem --for 24h",
            _trust_certify,
            "agent_identity.cli.trust.files.certify:run",
            description=(
                "Have a root certify the newest recorder and issuer key of a host, so that its evidence verifies under "
                "a trust file that lists the root alone. A running host records the new certificate with its next task."
            ),
        ),
        Command(
            "check",
            "check trust files, each by itself and together",
            "agent-identity trust check fleet.json --root THUMBPRINT",
            _trust_check,
            f"{_VIEWS}:run_check",
            description=(
                "Name what is wrong: no signature of the pinned root, roots for the same logs, files that contradict "
                "each other, a merged file that no root signed, a file that everyone can write; and entries that "
                "ended. Exit codes: 0 sound, 1 something needs attention, 2 could not be done."
            ),
        ),
        Command(
            "sign",
            "sign a trust file with a root that it lists",
            "agent-identity trust sign draft.json --root root.pem --after fleet.json -o fleet.json",
            _trust_sign,
            f"{_CHANGES}:run_sign",
            description=(
                "Sign a trust file, and print what changed since the one that it follows. It refuses a lower revision, "
                "another id, a revocation that is taken back, and a root that the file in force does not list."
            ),
        ),
    ),
)

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
    _TRUST_FILES,
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
        "certifier",
        "certify the recorders of workloads by the tokens of their platform",
        "agent-identity certifier rules.toml --trust fleet.json --key certifier.pem --log issued --socket /run/c.sock",
        _certifier,
        description=(
            "Serve until it is stopped. A workload shows a token of its platform (a SPIFFE JWT-SVID, or a token of an "
            "OpenID provider) whose audience names its recorder key, and gets a certificate for that key and for its "
            "own log. Each certificate is in the log before it is handed out; tokens are kept nowhere."
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
