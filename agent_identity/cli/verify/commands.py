"""The commands that verify and share evidence: ``verify``, ``proof``, ``disclose``, ``bundle``, ``export``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import (
    Command,
    add_directory,
    add_json,
    add_key_folder,
    add_keys,
    add_pin,
    placed,
)

FORMS: Final = ("ocsf", "cloudevents", "otel-audit")
"""The formats of ``export --as``."""


def _verify(parser: ArgumentParser) -> None:
    text = (
        "evidence directories, folders of them and bundles, judged together; or trace files, also compressed by gzip "
        "or zstd, patterns and folders of them; - for stdin"
    )
    parser.add_argument("source", metavar="SOURCE", nargs="*", help=text)
    parser.add_argument("--files-from", metavar="LIST", help="a file that lists trace files, one a line; - for stdin")
    text = "number of worker processes for a ledger or traces (default: as fits)"
    parser.add_argument("--processes", metavar="N", type=int, default=0, help=text)
    parser.add_argument("--trust", metavar="FILE", help="trust.json with the public keys, kept away from the evidence")
    add_pin(parser)
    text = (
        "the log of a certifier: verify it too, and name the hosts that it certified and that are missing; repeatable"
    )
    parser.add_argument("--issued", metavar="LOG", action="append", default=[], help=text)
    text = (
        "for traces and spans: compare with this ledger, or those below this folder, which prove their records, and "
        "find what is missing; repeatable"
    )
    parser.add_argument("--ledger", metavar="DIR", action="append", help=text)
    _add_outside(parser)
    text = "an attribute that a collector rewrites; repeatable"
    parser.add_argument("--redacted", metavar="ATTRIBUTE", action="append", default=[], help=text)
    text = "a file from 'agent-identity disclose make', to compare with records and grants"
    parser.add_argument("--disclosures", metavar="FILE", action="append", default=[], help=text)
    parser.add_argument("--from", dest="start", metavar="TIME", help="for a ledger: judge the period from this time on")
    parser.add_argument(
        "--until", dest="stop", metavar="TIME", help="and before this time; both as 2026-11-24 or 2026-11-24T12:00:00Z"
    )
    text = "the source is JSON of one or more spans, copied from any interface, API or database"
    parser.add_argument("--span", action="store_true", help=text)
    add_json(parser)


def _add_outside(parser: ArgumentParser) -> None:
    """Add the options for evidence outside of the ledger."""
    parser.add_argument("--checkpoint", metavar="FILE", help="for a ledger: an earlier checkpoint, kept elsewhere")
    parser.add_argument("--archive", metavar="OUT", help="for a ledger: an archive with its pruned segments")
    text = "for a ledger: the verifier key of a required witness, instead of those in the trust file"
    parser.add_argument("--witness", metavar="VKEY", action="append", default=[], help=text)
    parser.add_argument("--require", metavar="N", type=int, help="N of the witnesses suffice (default: all)")
    text = "for a ledger: verify the time-stamps in log/anchors under these certificates (PEM)"
    parser.add_argument("--tsa-certificate", metavar="FILE", help=text)


def _make_proof(parser: ArgumentParser) -> None:
    add_directory(parser, "an evidence directory")
    text = "the id of a record; or its stream and place: ID/SEQ"
    parser.add_argument("record", metavar="RECORD", nargs="?", help=text)
    parser.add_argument("--since", metavar="FILE", help="instead of a record: an earlier checkpoint, kept elsewhere")
    parser.add_argument("--output", "-o", metavar="FILE", help="a new file for the proof; by default it is printed")


def _check_proof(parser: ArgumentParser) -> None:
    parser.add_argument("proof", metavar="PROOF", help="the file")
    _add_kept_trust(parser)
    parser.add_argument("--record", metavar="ID", help="the id that the record must have")
    parser.add_argument("--since", metavar="FILE", help="for the growth of a log: the earlier checkpoint")
    add_json(parser)


def _add_kept_trust(parser: ArgumentParser) -> None:
    parser.add_argument("--trust", metavar="FILE", required=True, help="trust.json, kept elsewhere")
    add_pin(parser)


def _make_disclosure(parser: ArgumentParser) -> None:
    add_directory(parser, "the directory of the enforcer, with its keys")
    text = "the id of an intent or outcome; or stream and place: ID/SEQ"
    parser.add_argument("record", metavar="RECORD", help=text)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--argument", metavar="NAME", action="append", help="an argument to show; may be repeated")
    which.add_argument("--all", action="store_true", help="show all arguments")
    values = parser.add_mutually_exclusive_group(required=True)
    text = "all arguments of the call, a JSON object; - for stdin"
    values.add_argument("--from", dest="values", metavar="FILE", help=text)
    values.add_argument("--value", metavar="JSON", help="the value, if the call has this one argument only")
    text = (
        "for records with one digest of all arguments: put the key of the task into the file, which opens all "
        "digests of the task to guessing"
    )
    parser.add_argument("--with-task-key", action="store_true", help=text)
    add_key_folder(parser)
    parser.add_argument("--output", "-o", metavar="FILE", help="a new file; by default it is printed")


def _check_disclosure(parser: ArgumentParser) -> None:
    parser.add_argument("disclosure", metavar="FILE", help="the file")
    _add_kept_trust(parser)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--record", metavar="PROOF", help="the record, as 'agent-identity proof make' wrote it")
    where.add_argument("--ledger", metavar="DIR", help="the evidence directory with the record")
    where.add_argument("--span", metavar="FILE", help="traces with the span of the call; - for stdin")
    add_json(parser)


def _bundle(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="ending in .zip")
    parser.add_argument("--task", metavar="ID", help="only records of this task")
    parser.add_argument(
        "--from", dest="begin", metavar="TIME", help="only records from this time on, such as 2026-11-24"
    )
    parser.add_argument("--until", metavar="TIME", help="only records before this time")
    parser.add_argument("--policy", metavar="FILE", action="append", default=[], help="a policy file to add")
    parser.add_argument("--archive", metavar="OUT", help="an archive with the pruned segments")
    parser.add_argument("--trust", metavar="FILE", help="trust.json for the report; by default the one in DIR")
    add_json(parser)


def _export(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument("--as", dest="form", choices=FORMS, help="the format")
    text = "a new folder for tables of records, grants, calls, approvals, servers and revocations (extra tables)"
    form.add_argument("--parquet", metavar="OUT", help=text)
    text = "only records from this time on: 2026-11-24 or 2026-11-24T12:00:00Z"
    parser.add_argument("--since", metavar="TIME", help=text)
    parser.add_argument("-o", "--output", metavar="FILE", help="the output file; by default standard output")
    text = "otel-audit: sign each with the recorder key, after a verification"
    parser.add_argument("--sign", action="store_true", help=text)
    add_keys(parser)
    text = "--parquet: verify first, write only records under the log, and print the verdict; exit codes as for verify"
    parser.add_argument("--verify", action="store_true", help=text)
    parser.add_argument("--trust", metavar="FILE", help="trust.json with the public keys, for --verify")
    parser.add_argument("--json", action="store_true", help="--parquet: print one JSON object about the table")


_PROOF: Final = Command(
    "proof",
    "make a proof from a ledger, or check one without the ledger",
    description="A proof shows with the trust file alone that one record is in a ledger, or that its log only grew.",
    actions=(
        Command(
            "make",
            "make a proof of one record, or of the growth of the log",
            "agent-identity proof make evidence AZq2l-gAcACAAAAAAAAABw -o record.proof",
            _make_proof,
            description=(
                "Write a file that proves, to anyone with the trust file and without the ledger, that one record is in "
                "the ledger (C2SP tlog-proof), or that its log continues an earlier checkpoint. Exit codes: 0 written, "
                "1 the ledger contradicts itself or the earlier checkpoint, 2 could not be done."
            ),
        ),
        Command(
            "check",
            "check a proof, offline and without the ledger",
            "agent-identity proof check record.proof --trust kept/trust.json",
            _check_proof,
            description=(
                "Check a proof from 'agent-identity proof make', with only the trust file. Exit codes: 0 verified, 1 "
                "contradicted, 2 cannot tell."
            ),
        ),
    ),
)

_DISCLOSE: Final = Command(
    "disclose",
    "show an auditor one argument of one call, or check a disclosure",
    description="A disclosure proves the value of one argument of a call, without the other arguments.",
    actions=(
        Command(
            "make",
            "show an auditor one argument of one call, or all of them",
            "agent-identity disclose make evidence AZq2l-gAcACAAAAAAAAABw --argument amount --from "
            "call.json -o amount.json",
            _make_disclosure,
            description=(
                "Write a file that proves an argument of the call to anyone who has the record, without the other "
                "arguments. The ledger does not hold the arguments: give those of the call. Exit codes: 0 written, 1 "
                "the arguments differ from the recorded ones, 2 cannot be shown (erased, for example)."
            ),
        ),
        Command(
            "check",
            "check a disclosure, offline and with public keys only",
            "agent-identity disclose check amount.json --trust kept/trust.json --record record.proof",
            _check_disclosure,
            description=(
                "Check the arguments in a file from 'agent-identity disclose make' against the record of the call. "
                "Exit codes: 0 verified, 1 contradicted, 2 cannot tell."
            ),
        ),
    ),
)

VERIFY: Final = placed(
    "verify",
    Command(
        "verify",
        "verify a ledger, or traces from a collector or exporter",
        "agent-identity verify evidence --trust kept/trust.json",
        _verify,
        description=(
            "Verify evidence directories, or OTLP traces in JSON or Protocol Buffers, offline and with public keys "
            "only. Of several hosts the worst verdict counts, and one that cannot be read hides no other. Exit codes: "
            "0 verified, 1 contradicted or tampered, 2 cannot tell, 3 verified but incomplete."
        ),
    ),
    _PROOF,
    _DISCLOSE,
    Command(
        "bundle",
        "pack evidence, public keys and a report for an auditor",
        "agent-identity bundle evidence --from 2026-11-01 --until 2026-12-01 -o november.zip",
        _bundle,
        description=(
            "Pack the ledger, or a verifiable excerpt of it, with the public keys, the report of the verifier and a "
            "readme into one file for 'agent-identity verify FILE'. It never holds private keys. Exit codes as for "
            "verify."
        ),
    ),
    Command(
        "export",
        "write the records as OCSF, CloudEvents, OpenTelemetry audit logs, or a table",
        "agent-identity export evidence --as ocsf --since 2026-11-24 -o events.jsonl",
        _export,
        description=(
            "Write the records of an evidence directory in another format, one line of JSON each, or as a Parquet "
            "table. The export proves nothing; --sign signs only records that it has just verified."
        ),
    ),
)
"""The commands of the group."""
