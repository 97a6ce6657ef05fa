"""The commands that answer questions: ``report``, ``ask`` and ``scan``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import Command, add_pin, placed


def _ledger(parser: ArgumentParser, number: str = "+") -> None:
    text = (
        "evidence directories, bundles, files of OTLP traces, and folders with such directories and files below them; "
        "- for traces on standard input"
    )
    parser.add_argument("evidence", metavar="EVIDENCE", nargs=number, help=text)
    text = "trust.json with the public keys, kept away from the evidence"
    parser.add_argument("--trust", metavar="FILE", help=text)
    add_pin(parser)
    text = "do not verify; the report then says so everywhere, and the exit code is 2"
    parser.add_argument("--unverified", action="store_true", help=text)
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help="only from then on: 2026-11-24 or RFC 3339, in UTC"
    )
    parser.add_argument("--until", dest="stop", metavar="TIME", help="only before then")
    text = "number of worker processes for each ledger (default: as fits)"
    parser.add_argument("--processes", metavar="N", type=int, default=0, help=text)


def _forms(parser: ArgumentParser, **more: str) -> None:
    """Add the options for the form, of which one can be given."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print comma-separated values")
    form.add_argument("--html", metavar="FILE", help="write a page that needs no other file, and print its SHA-256")
    for name, text in more.items():
        form.add_argument(f"--{name}", action="store_true", help=text)
    text = "record the question and the digest of the answer in a ledger of yours"
    parser.add_argument("--record-examination", metavar="DIR", help=text)
    parser.add_argument("--by", metavar="ID", help="the examiner in that record; by default the login name")


def _inventory(parser: ArgumentParser) -> None:
    _ledger(parser)
    text = "say what is first seen from then on, and what is not seen any more"
    parser.add_argument("--since", metavar="TIME", help=text)
    text = "further hosts of model providers and MCP servers, such as a gateway of yours"
    parser.add_argument("--hosts", metavar="FILE", help=text)
    text = "join what code and configurations name: folders to scan, or what scan --json has written; repeatable"
    parser.add_argument("--scan", metavar="PATH", action="append", default=[], help=text)
    _forms(parser, cyclonedx="print a CycloneDX 1.7 document")


def _scope(parser: ArgumentParser) -> None:
    _ledger(parser)
    parser.add_argument("--since", metavar="TIME", help="list what was first seen together from then on")
    text = "a suggestion keeps only tools that at least N grants used (default: 1)"
    parser.add_argument("--least", metavar="N", type=int, default=1, help=text)
    _forms(parser)


_CHECKPOINT: Final = "for a key: a checkpoint of the log that was kept elsewhere"


def _incident(parser: ArgumentParser) -> None:
    text = (
        "what is known: record:ID, span:ID, task:ID, principal:ID, agent:ID, owner:ID, grant:HASH, key:THUMBPRINT, "
        "tool:NAME, server:NAME, definition:DIGEST, resource:NAME, approval:ID, rule:ID, policy:DIGEST, or everything"
    )
    parser.add_argument("seed", metavar="SEED", help=text)
    _ledger(parser)
    text = "for a key: the time of the theft; for an issuer key, only root grants that records note from then on"
    parser.add_argument("--after", metavar="TIME", help=text)
    parser.add_argument("--checkpoint", metavar="FILE", help=_CHECKPOINT)
    _forms(
        parser,
        markdown="print Markdown, for a ticket",
        timesketch="print JSON lines that Timesketch imports; name the file .jsonl",
        ocsf="print OCSF 1.9 events as JSON lines: a finding, and an activity for each entry",
    )


def _coverage(parser: ArgumentParser) -> None:
    _ledger(parser)
    _forms(parser)


def _data(parser: ArgumentParser) -> None:
    _ledger(parser)
    text = "list what touched this resource: its name, template, system and name, or keyed digest"
    parser.add_argument("--resource", metavar="NAME", help=text)
    _forms(parser)


def _controls(parser: ArgumentParser) -> None:
    _ledger(parser)
    text = "only this framework: eu-ai-act, dora, nist, owasp-agentic or owasp-nhi; repeatable"
    parser.add_argument("--framework", metavar="NAME", action="append", default=[], help=text)
    text = "a table of rows of your own, in the form of those of this release, in place of them; repeatable"
    parser.add_argument("--rows", metavar="FILE", action="append", default=[], help=text)
    _forms(parser, oscal="print OSCAL assessment results of NIST SP 800-53")


def _sample(parser: ArgumentParser) -> None:
    text = "evidence directories, bundles, and folders with directories below them"
    parser.add_argument("evidence", metavar="EVIDENCE", nargs="+", help=text)
    parser.add_argument("--records", metavar="N", type=int, default=25, help="number of records (25)")
    text = "the seed of the draw, chosen by the auditor"
    parser.add_argument("--seed", dest="drawn_with", metavar="TEXT", required=True, help=text)
    text = "the folder that the proofs are written into; it must not exist yet"
    parser.add_argument("--out", metavar="DIR", required=True, help=text)
    text = "trust.json with the public keys, kept away from the evidence"
    parser.add_argument("--trust", metavar="FILE", help=text)
    add_pin(parser)
    text = "draw only calls from then on: 2026-11-24 or RFC 3339, in UTC"
    parser.add_argument("--from", dest="start", metavar="TIME", help=text)
    parser.add_argument("--until", dest="stop", metavar="TIME", help="draw only calls before then")
    text = "number of worker processes (default: as fits)"
    parser.add_argument("--processes", metavar="N", type=int, default=0, help=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(unverified=False)


def _ask(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", nargs="?", help="the question; without one, all are listed")
    _ledger(parser, "*")
    parser.add_argument("--of", metavar="NAME", help="the agent, record, key or other thing that the question is about")
    parser.add_argument("--since", metavar="TIME", help="the time from which the question counts")
    parser.add_argument("--checkpoint", metavar="FILE", help=_CHECKPOINT)
    _forms(parser)


def _all(parser: ArgumentParser) -> None:
    _ledger(parser)
    text = "say what is first seen from then on, and what is not seen any more"
    parser.add_argument("--since", metavar="TIME", help=text)
    text = "further hosts of model providers and MCP servers, such as a gateway of yours"
    parser.add_argument("--hosts", metavar="FILE", help=text)
    text = "the folder that the pages are written into; it must not exist yet"
    parser.add_argument("--html", metavar="DIR", required=True, help=text)


_REPORT: Final = "agent_identity.cli.answer"


def _scan(parser: ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", nargs="*", help="files and folders of code and configurations")
    text = "a log of hosts, in CSV or JSON lines with time, source and host; repeatable"
    parser.add_argument("--log", metavar="FILE", action="append", default=[], help=text)
    text = "a host of your own in logs, such as a gateway to models; repeatable"
    parser.add_argument("--gateway", metavar="HOST", action="append", default=[], help=text)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code hosts")
    form.add_argument("--cyclonedx", action="store_true", help="print a CycloneDX 1.7 bill of materials")
    parser.add_argument("--max-files", metavar="N", type=int, default=100_000, help="list at most N files (100000)")


_SCAN: Final = Command(
    "scan",
    "list the agents, tools, models and MCP servers that code and configurations declare",
    "agent-identity scan . ~/.cursor --json",
    _scan,
    description=(
        "List what Python code, dependency files, configurations of MCP clients and agent cards declare, with file and "
        "line, and whether the code guards it. It only reads: it runs nothing, contacts nothing, follows no links, and "
        "prints no values of variables, headers or secret arguments. A scan gives hints; the ledger gives proof."
    ),
)
"""The command ``scan``."""

ANSWER: Final = placed(
    "answer",
    Command(
        "report",
        "answer a question about evidence, and verify it in the same pass",
        description=(
            "Each report says its sources and their verdicts, the keys and where they came from, the period, and what "
            "it does not show. Exit codes are those of verify."
        ),
        actions=(
            Command(
                "inventory",
                "list agents, principals, tools, servers, models, hosts and data, and what is noteworthy about them",
                "agent-identity report inventory evidence traces/ --trust trust.json --since 2026-11-01",
                _inventory,
                f"{_REPORT}.inventory",
                description=(
                    "List what the evidence shows: agents with owners and versions, principals, tools, MCP servers, "
                    "models, hosts and data. Records are proved by the ledger; spans of other libraries are hints. The "
                    "differences come first: traced and not guarded, observed and not registered, registered and "
                    "idle, without an owner, with --scan declared and never observed, and with --since new and gone."
                ),
            ),
            Command(
                "scope",
                "compare what agents were granted with what they used, and suggest smaller scopes",
                "agent-identity report scope evidence --trust trust.json --since 2026-11-01",
                _scope,
                f"{_REPORT}.scope",
                description=(
                    "Compare, for each agent and tool, what was granted with what was used by the agent and by its "
                    "descendants, refused, warned, and let through by monitor mode only. A suggestion of a smaller "
                    "scope is a diff with its evidence; nothing applies it, and nothing is derived from refusals."
                ),
            ),
            Command(
                "incident",
                "reconstruct an incident from what is known of it: timeline, authority, could and did",
                "agent-identity report incident agent:clerk evidence --trust trust.json --from 2026-11-24",
                _incident,
                f"{_REPORT}.incident",
                description=(
                    "Reconstruct an incident from a seed: the timeline over all sources, the effective authority at "
                    "each hop, what the grants allowed beside what was done, calls without an outcome, calls after a "
                    "revocation, and the commands that stop it. Seeds of records, spans, owners and keys read the "
                    "evidence twice."
                ),
            ),
            Command(
                "coverage",
                "say which share of all tool calls a human answers for, and name the others",
                "agent-identity report coverage evidence traces/ --trust trust.json",
                _coverage,
                f"{_REPORT}.coverage",
                description=(
                    "Count the tool calls in records and in traces of any library, each once, and say which share is "
                    "attributable to a human, and to a verified human. The calls that are not are named. By agent, "
                    "service and week."
                ),
            ),
            Command(
                "data",
                "say which systems and resources agents read, wrote, deleted and sent, and for whom",
                "agent-identity report data evidence --trust trust.json",
                _data,
                f"{_REPORT}.data",
                description=(
                    "List the systems and resources that agents touched, with access, labels and principals, by what "
                    "tools declare with touches= and by what was observed; and say which share of the calls declares "
                    "anything."
                ),
            ),
            Command(
                "controls",
                "say for clauses of laws and frameworks what the evidence shows, and what it does not",
                "agent-identity report controls evidence --trust trust.json --framework dora",
                _controls,
                f"{_REPORT}.controls",
                description=(
                    "Give each clause a status by a named query over the evidence: shown, partly, not shown, "
                    "contradicted or out of scope, with its reasons, records and what records cannot show. It is no "
                    "legal advice, and says nothing about duties that leave no record. Clauses of the EU AI Act, DORA, "
                    "NIST SP 800-53 and AI RMF, and of two lists of OWASP."
                ),
            ),
            Command(
                "sample",
                "draw calls at random for an auditor, and write a proof of each",
                "agent-identity report sample evidence --trust trust.json --records 25 --seed 2026-11 --out sample",
                _sample,
                f"{_REPORT}.sample",
                description=(
                    "Draw calls of a period at random, so that anybody who has the seed draws the same ones, and write "
                    "a proof of each, a list, and a text on how to check them without the evidence. Nothing is written "
                    "if the evidence does not verify."
                ),
            ),
            Command(
                "all",
                "write every report as a page, with an index, into a folder for an auditor",
                "agent-identity report all evidence traces/ --trust trust.json --html reports",
                _all,
                f"{_REPORT}.everything",
                description=(
                    "Write inventory, scope, data, incident, coverage and controls as self-contained pages, with an "
                    "index and a list of their SHA-256 digests, and print the list. One pass over the evidence reads "
                    "and verifies it for all of them."
                ),
            ),
        ),
    ),
    Command(
        "ask",
        "ask one of twenty questions about evidence; without an ID, list them",
        "agent-identity ask 8 evidence --trust trust.json",
        _ask,
        f"{_REPORT}.ask",
        description=(
            "Answer a common question with the report that it stands for; the list names the command of each. What no "
            "report answers yet is listed with what is missing. Exit codes are those of the report."
        ),
    ),
    _SCAN,
)
"""The commands of the group."""
