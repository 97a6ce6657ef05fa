"""The commands that maintain a directory: ``init``, ``doctor``, ``replay``, ``hooks``, …; and ``demo``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import (
    Command,
    add_directory,
    add_json,
    add_key_folder,
    add_keys,
    add_state,
    placed,
)

PROTOCOLS: Final = ("http/protobuf", "http/json", "grpc")
"""The OTLP protocols of ``replay``."""


def _init(parser: ArgumentParser) -> None:
    add_directory(parser)
    text = "the name of the log; with a slash at its end, a prefix to which the id of the directory is added"
    parser.add_argument("--origin", metavar="NAME", help=text)
    parser.add_argument("--issuer", metavar="URI", help="the issuer that grants name; by default a URN of its own")
    add_key_folder(parser, "create the keys in this folder outside DIR")
    add_json(parser)


def _doctor(parser: ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", nargs="?", help="the directory of the enforcer")
    text = "a module of the application, optionally with the name of an object in it"
    parser.add_argument("--import", dest="module", metavar="MODULE[:NAME]", help=text)
    text = "a policy file to compare with the tools before deploying it"
    parser.add_argument("--policy", metavar="FILE", help=text)
    text = "try the hooks of a coding agent, in its settings or in a file; what answers them records the tries"
    parser.add_argument("--hooks", metavar="FILE", nargs="?", const="", help=text)
    add_key_folder(parser)
    add_state(parser)
    add_json(parser)


def _health(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_state(parser)
    add_json(parser)


def _replay(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("--otlp", metavar="ENDPOINT", required=True, help="the endpoint, such as http://localhost:4318")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="by default http/protobuf")
    text = "only records from this time on: RFC 3339, or a date in UTC"
    parser.add_argument("--since", metavar="TIME", help=text)
    parser.add_argument("--until", metavar="TIME", help="only records before this time")
    parser.add_argument("--task", metavar="ID", help="only one task")
    parser.add_argument("--again", action="store_true", help="send all records, including acknowledged ones")
    parser.add_argument("--follow", action="store_true", help="keep sending new records until Ctrl-C")
    text = "set refused records aside, and continue with the others"
    parser.add_argument("--skip-refused", action="store_true", help=text)
    text = "give up after this time without an acknowledgement; by default %(default).0f"
    parser.add_argument("--patience", metavar="SECONDS", type=float, default=300.0, help=text)
    add_keys(parser)
    add_json(parser)


def _seal(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    text = "a key of the purpose 'closer', made by 'keys new', where the keys of the directory are not at hand"
    parser.add_argument("--closer", metavar="FILE", help=text)
    add_keys(parser)
    add_json(parser)


def _archive(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    parser.add_argument("--to", metavar="OUT", required=True, help="the archive; created if missing")
    parser.add_argument("--older-than", metavar="AGE", help="only records older than this, such as 12h, 30d or 8w")
    add_json(parser)


def _prune(parser: ArgumentParser) -> None:
    add_directory(parser, "the evidence directory")
    parser.add_argument("--older-than", metavar="AGE", required=True, help="such as 365d or 60w")
    parser.add_argument("--archived", metavar="OUT", help="prune only records that this archive holds unchanged")
    parser.add_argument("--trust", metavar="FILE", help="trust.json for the verification; by default the one in DIR")
    add_keys(parser)
    parser.add_argument(
        "--destroy-even-what-is-younger-than-six-months",
        dest="young",
        action="store_true",
        help="allow an age below 184 days, although the law may require more",
    )
    add_json(parser)


def _erase(parser: ArgumentParser) -> None:
    add_directory(parser)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--task", metavar="ID", help="a task; or a stream, for the calls outside any task")
    target.add_argument("--principal", metavar="ID", help="a principal, by its id or its pseudonym")
    text = "the names of the resources that tools touched, of all tasks together"
    target.add_argument("--resources", action="store_true", help=text)
    parser.add_argument("--reason", metavar="TEXT", help="the reason, kept in the ledger")
    parser.add_argument("--by", metavar="NAME", help="the person who ordered the erasure; by default the login name")
    add_keys(parser)
    add_json(parser)


def _demo(parser: ArgumentParser) -> None:
    text = "the folder for evidence, reports and trust file, made once and then reused (default: agent-identity-demo)"
    parser.add_argument("--keep", metavar="DIR", help=text)
    parser.add_argument("--evidence", metavar="DIR", help="only write the evidence, into this new directory")
    add_json(parser)


def _hooks_install(parser: ArgumentParser) -> None:
    add_directory(parser, "the directory of the enforcer behind the hooks")
    _add_settings(parser)
    parser.add_argument("--socket", metavar="PATH", help="the socket of 'hooks serve'; by default DIR/hooks.sock")
    text = "how long a hook waits for an answer, which a person may have to give; by default %(default).0f"
    parser.add_argument("--patience", metavar="SECONDS", type=float, default=50.0, help=text)
    text = "let tools run, without a record, while nothing answers; for trying out monitor mode only"
    parser.add_argument("--run-tools-even-without-an-answer", dest="opens", action="store_true", help=text)
    parser.add_argument("--dry-run", action="store_true", help="show the change, and write nothing")
    add_json(parser)


def _hooks_remove(parser: ArgumentParser) -> None:
    _add_settings(parser)
    parser.add_argument("--dry-run", action="store_true", help="show the change, and write nothing")
    add_json(parser)


def _hooks_status(parser: ArgumentParser) -> None:
    parser.add_argument("--file", metavar="FILE", help="a settings file elsewhere; by default those of Claude Code")
    add_json(parser)


def _add_settings(parser: ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    text = "settings of Claude Code: yours in this project (default), the project's, or yours everywhere"
    where.add_argument("--settings", choices=("local", "project", "user"), default="local", help=text)
    where.add_argument("--file", metavar="FILE", help="a settings file elsewhere, of the same form")


def _hooks_serve(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("--principal", metavar="ID", required=True, help="the human who works with the agent")
    parser.add_argument("--agent", metavar="ID", default="claude-code", help="the agent; by default %(default)s")
    parser.add_argument("--owner", metavar="ID", help="who is accountable for it; by default the principal")
    text = "a tool that sessions may use, with any arguments; repeatable. Tools of MCP servers are SERVER/TOOL"
    parser.add_argument("--tool", metavar="NAME", action="append", default=[], help=text)
    parser.add_argument("--scope", metavar="FILE", help="JSON with further tools and constraints, as in grants")
    parser.add_argument("--policy", metavar="FILE", help="a policy file")
    text = "a route of the policy on which a person decides by 'agent-identity approvals'; repeatable"
    parser.add_argument("--approval", metavar="ROUTE", action="append", default=[], help=text)
    text = "a type of sub-agents that acts under its own name, by delegation; repeatable"
    parser.add_argument("--sub-agent", metavar="TYPE", action="append", default=[], help=text)
    text = "end the authority of a session after this time; by default %(default).0f"
    parser.add_argument("--hours", metavar="HOURS", type=float, default=8.0, help=text)
    parser.add_argument("--monitor", action="store_true", help="refuse nothing, and record what would be refused")
    add_keys(parser)
    add_state(parser)
    parser.add_argument("--socket", metavar="PATH", help="the socket to listen on; by default DIR/hooks.sock")


OPERATE: Final = placed(
    "operate",
    Command(
        "init",
        "create keys and trust file of a directory",
        "agent-identity init evidence",
        _init,
        description=(
            "Create the keys and the trust file of a directory. Existing files are kept. Give trust.json, which "
            "holds public keys only, to the verifiers."
        ),
    ),
    Command(
        "doctor",
        "look for problems that would lose or weaken evidence",
        "agent-identity doctor evidence --import shop.agent",
        _doctor,
        description=(
            "Check packages, keys, shared state, ledger, telemetry and tools, and print a cure for each finding. "
            "With --import, a module of the application is imported first, so that its tracer provider, its enforcers "
            "and the tools of its agent frameworks are checked."
        ),
    ),
    Command(
        "health",
        "tell whether a directory can record and its state answers, for probes",
        "agent-identity health evidence --json",
        _health,
        description=(
            "Look at the ends of the ledger, the disk, the shared state, the ends of keys, and the receivers of "
            "copies. It verifies nothing and writes nothing. Exit codes: 0 healthy, perhaps with warnings; 1 calls "
            "are refused, or their records are not sealed; 2 that cannot be told."
        ),
    ),
    Command(
        "replay",
        "send traces again from the ledger, until a collector has acknowledged them all",
        "agent-identity replay evidence --otlp http://localhost:4318 --since 2026-11-24",
        _replay,
        description=(
            "Send an OTLP receiver the span of every call and task of the directory that it has not acknowledged, with "
            "the same ids, times, attributes and signatures. It continues where it stopped. Headers, time limits and "
            "certificates come from OTEL_EXPORTER_OTLP_* in the environment. Exit codes: 0 all acknowledged, 1 some "
            "records cannot be sent, 2 it stopped before the end."
        ),
    ),
    Command(
        "seal",
        "close the streams of processes that died, without an enforcer",
        "agent-identity seal evidence",
        _seal,
        description=(
            "Recover the streams of dead processes as the next start would: seal what they wrote, and record that. "
            "With --closer, without the keys of the directory, write beside each such stream which record was seen as "
            "its last one; 'verify' then tells its tail from what the recorder sealed. A stream that a process writes "
            "is left alone. Exit code 1 if a stream could not be sealed."
        ),
    ),
    Command(
        "archive",
        "copy closed segments of the ledger to an archive",
        "agent-identity archive evidence --to /mnt/archive --older-than 30d",
        _archive,
        description=(
            "Copy segments that are closed and sealed, compressed, to an archive that 'verify --archive' and 'prune "
            "--archived' read. Segments that it already has are skipped. Nothing is removed."
        ),
    ),
    Command(
        "prune",
        "remove old segments of the ledger, and keep the proof of the rest",
        "agent-identity prune evidence --older-than 365d --archived /mnt/archive",
        _prune,
        "agent_identity.cli.operate.archive:run_prune",
        description=(
            "Verify the directory, record and sign a statement of the removal, and remove closed and sealed segments "
            "whose records are all older. The rest verifies as before, and 'verify' reports the removed records. At "
            "least six months are kept unless you override that."
        ),
    ),
    Command(
        "erase",
        "make the digests of a task or principal unprovable, and record that",
        "agent-identity erase evidence --principal alice@example.com --reason 'request of 2026-11-24'",
        _erase,
        description=(
            "Overwrite the keys of the digests of a task, or of all tasks of a principal so far, and the mapping of "
            "its pseudonym, and remove pending approval requests. After that, nobody can prove the arguments and "
            "results of its calls; the ledger verifies as before, and has a record of the erasure. Erase copies of the "
            "folder keys elsewhere, such as backups, yourself."
        ),
    ),
    Command(
        "hooks",
        "guard the tools of a coding agent by its command hooks",
        description=(
            "Guard each tool call of Claude Code, or of an agent with hooks of the same form: 'serve' runs the "
            "enforcer, and 'install' writes hooks that ask it and refuse without an answer."
        ),
        actions=(
            Command(
                "install",
                "write the hooks into the settings of the agent",
                "agent-identity hooks install evidence --dry-run",
                _hooks_install,
                description=(
                    "Add the hooks to a settings file, and show the change. What others wrote there stays; a second "
                    "run changes nothing."
                ),
            ),
            Command(
                "remove",
                "remove the hooks from the settings of the agent",
                "agent-identity hooks remove --settings user",
                _hooks_remove,
            ),
            Command(
                "status",
                "show where the hooks are installed, and what weakens them",
                "agent-identity hooks status",
                _hooks_status,
                description=(
                    "Read the settings files and run nothing; 'doctor --hooks' tries the hooks. Exit code 1 if no hook "
                    "is installed, or something weakens one."
                ),
            ),
            Command(
                "serve",
                "answer the hooks until stopped",
                "agent-identity hooks serve evidence --principal alice@example.com --tool Read --tool Bash",
                _hooks_serve,
                description=(
                    "Open the enforcer, and answer the hooks of your own processes on a Unix socket. Each session of "
                    "the agent is one task: it begins with the session and ends with it, with this command, or when "
                    "its time is over."
                ),
            ),
        ),
    ),
    Command(
        "demo",
        "write a month of evidence of a small company, and show what can be asked of it",
        "agent-identity demo",
        _demo,
        description=(
            "Let five agents of a small company work for a month with the real enforcer and a clock of its own, verify "
            "their evidence, change one byte in a copy, which the verification finds, and write reports as text and "
            "as pages for a browser. The folder is made once; later runs look at it again. Ids, times "
            "and signing keys are the same in each demo: look at it, and do not work with it. Exit code 1 if anything "
            "is not as it should be."
        ),
    ),
)
"""The commands of the group."""
