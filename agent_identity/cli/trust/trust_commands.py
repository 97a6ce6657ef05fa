"""The command ``trust``, with its actions."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import Command, add_json

_VIEWS: Final = "agent_identity.cli.trust.trust_views"
_KINDS: Final = ("issuer", "recorder", "root", "policy", "witness")
_ROOT: Final = (
    "the private key of the root that signs: a key file, or pkcs11:token=LABEL;object=KEY?module-path=LIBRARY"
)


def _add_file(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file, or the directory of an enforcer")


def _add_change(parser: ArgumentParser) -> None:
    parser.add_argument("--root", metavar="KEY", help=_ROOT)
    parser.add_argument("--require", metavar="N", type=int, help="so many of the witnesses suffice; by default all")
    text = "write to this new file, and leave FILE as it is"
    parser.add_argument("-o", "--output", metavar="DRAFT", help=text)
    add_json(parser)


def _init(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file to create")
    parser.add_argument("--id", metavar="NAME", help="names the file through all its changes; by default random")
    parser.add_argument("--root", metavar="KEY", help=_ROOT)
    text = "the log that the root may certify, or a prefix of logs that ends in a slash"
    parser.add_argument("--origin", metavar="NAME", help=text)
    parser.add_argument("--issuer", metavar="URI", help="the issuer that its certificates must name; by default any")
    add_json(parser)


def _add(parser: ArgumentParser) -> None:
    _add_file(parser)
    text = f"its purpose: {', '.join(_KINDS)}"
    parser.add_argument("purpose", metavar="PURPOSE", choices=_KINDS, help=text)
    text = "a file with the public key, as 'keys public' prints it; of a witness, its verifier key"
    parser.add_argument("key", metavar="KEY", help=text)
    text = "recorder: the log that it may sign for; root: the logs that it may certify; a prefix ends in a slash"
    parser.add_argument("--origin", metavar="NAME", help=text)
    text = "issuer: the URI that its grants must name; root: the one that its certificates must name"
    parser.add_argument("--issuer", metavar="URI", help=text)
    text = "its signatures count from this time on, as 2026-11-24 or 2026-11-24T12:00:00Z"
    parser.add_argument("--from", dest="start", metavar="TIME", help=text)
    parser.add_argument("--until", dest="stop", metavar="TIME", help="and until this time")
    _add_change(parser)


def _list(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="FILE", help="the trust file, or the directory of an enforcer")
    add_json(parser)


def _merge(parser: ArgumentParser) -> None:
    text = "the trust file that goes on, then the others; a directory of an enforcer stands for its file"
    parser.add_argument("files", metavar="FILE", nargs="+", help=text)
    parser.add_argument("-o", "--output", metavar="DRAFT", required=True, help="the new file")
    add_json(parser)


def _remove(parser: ArgumentParser) -> None:
    _add_file(parser)
    text = "the key, as 'trust list' shows it; after -- if it begins with a dash"
    parser.add_argument("key", metavar="KEY", help=text)
    _add_change(parser)


def _certify(parser: ArgumentParser) -> None:
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


def _check(parser: ArgumentParser) -> None:
    parser.add_argument("paths", metavar="FILE", nargs="+", help="a trust file, or the directory of an enforcer")
    text = "the root that must have signed each of them: its thumbprint, or a file with its public key (JWK)"
    parser.add_argument("--root", metavar="KEY", help=text)
    add_json(parser)


def _sign(parser: ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the trust file to sign")
    parser.add_argument("--root", metavar="KEY", required=True, help=_ROOT)
    follows = parser.add_mutually_exclusive_group(required=True)
    text = "the trust file in force, which FILE must follow: same id, no older revision, no revocation taken back"
    follows.add_argument("--after", metavar="KEPT", help=text)
    follows.add_argument("--first", action="store_true", help="no root signed a file of this id before")
    parser.add_argument("-o", "--output", metavar="OUT", help="the file to write or replace; by default FILE")
    add_json(parser)


TRUST_FILES: Final = Command(
    "trust",
    "make, change, check and sign trust files; certify hosts",
    description="A trust file names the keys whose signatures count. Have a root sign the one that matters.",
    actions=(
        Command(
            "init",
            "create a trust file; never overwrites one",
            "agent-identity trust init fleet.json --id urn:example:fleet --root root.pem --origin fleet.example/",
            _init,
            description=(
                "Create a trust file: empty, or with a root that signs it. Print the thumbprint of the root, by which "
                "verifiers and processes pin it."
            ),
        ),
        Command(
            "add",
            "add a key or a witness",
            "agent-identity trust add fleet.json issuer partner.jwk --issuer https://partner.example --root root.pem",
            _add,
            description=(
                "Add an entry, and raise the revision. With --root, the root signs the next file, if it signed the "
                "present one. Processes that have the directory open follow the next file."
            ),
        ),
        Command(
            "list",
            "list the entries of a trust file",
            "agent-identity trust list evidence",
            _list,
            f"{_VIEWS}:run_list",
        ),
        Command(
            "merge",
            "merge trust files into one, unsigned until a root signs it",
            "agent-identity trust merge fleet.json host-a/trust.json host-b/trust.json -o draft.json",
            _merge,
            description=(
                "Write one trust file for the evidence of all: with the id of the first, the next revision, and no "
                "signature. Names that stood for a whole file then stand beside each of its keys."
            ),
        ),
        Command(
            "remove",
            "remove a key or a witness",
            "agent-identity trust remove fleet.json --root root.pem -- THUMBPRINT",
            _remove,
            description=(
                "Remove the entries of a key, and raise the revision. A stolen key is not removed but revoked ('keys "
                "revoke'), so that its signatures stay in doubt."
            ),
        ),
        Command(
            "certify",
            "certify the keys of a host for its log, for at most 30 days",
            "agent-identity trust certify fleet.json evidence --root root.pem --for 24h",
            _certify,
            "agent_identity.cli.trust.certify:run",
            description=(
                "Have a root certify the newest recorder and issuer key of a host, so that its evidence verifies under "
                "a trust file that lists the root alone. A running host records the new certificate with its next task."
            ),
        ),
        Command(
            "check",
            "check trust files, each by itself and together",
            "agent-identity trust check fleet.json --root THUMBPRINT",
            _check,
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
            _sign,
            description=(
                "Sign a trust file, and print what changed since the one that it follows. It refuses a lower revision, "
                "another id, a revocation that is taken back, and a root that the file in force does not list."
            ),
        ),
    ),
)
"""The command for trust files."""
