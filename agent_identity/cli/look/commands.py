"""The commands that show the evidence: ``show``, ``tasks``, ``who``, ``inventory``."""

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

_EFFECTS: Final = ("allow", "warn", "block", "route")


def _show(parser: ArgumentParser) -> None:
    text = "evidence directories, bundles, and trace files, also patterns and folders of them; - for stdin"
    parser.add_argument("source", metavar="SOURCE", nargs="+", help=text)
    parser.add_argument("--task", metavar="ID", help="only this task; the last 6 characters of its id are enough")
    parser.add_argument("--refused", action="store_true", help="only tasks with refused calls or withheld results")
    parser.add_argument(
        "--agent", metavar="ID", action="append", default=[], help="only calls of this agent; repeatable"
    )
    text = "only calls on behalf of this principal, as the records name it; repeatable"
    parser.add_argument("--principal", metavar="ID", action="append", default=[], help=text)
    parser.add_argument(
        "--tool", metavar="NAME", action="append", default=[], help="only calls of this tool; repeatable"
    )
    text = "only calls with this effect; repeatable"
    parser.add_argument("--effect", choices=_EFFECTS, action="append", default=[], help=text)
    text = "only calls from then on: 2026-11-24 (its first second in UTC) or 2026-11-24T09:00:00Z"
    parser.add_argument("--from", dest="start", metavar="TIME", help=text)
    parser.add_argument("--until", dest="stop", metavar="TIME", help="only calls before then")
    text = "write a page that needs no other file, and print its SHA-256; it says that nothing is verified"
    add_json(parser, stream="task", page=text)


def _tasks(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("--all", action="store_true", help="include tasks that ended or expired")
    add_state(parser)
    add_json(parser, stream="task")


def _who(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("pseudonym", metavar="PSEUDONYM", help="the pseudonym, as the records name the principal")
    add_key_folder(parser)
    add_json(parser)


def _list(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("--server", metavar="NAME", help="only this server")


def _diff(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("server", metavar="SERVER", help="the name of the server")
    parser.add_argument("tool", metavar="TOOL", help="the name of the tool")


def _accept(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("server", metavar="SERVER", help="the name of the server")
    parser.add_argument("tool", metavar="TOOL", nargs="*", help="the tools; by default all pending ones")
    parser.add_argument("--digest", metavar="SHA256", help="accept only this definition, as 'list' showed it")
    parser.add_argument("--reason", metavar="TEXT", help="the reason, kept in the record of the server")
    _add_key(parser)


def _forget(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("server", metavar="SERVER", help="the name of the server")
    _add_key(parser)


def _pin(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("file", metavar="FILE", help="the output of 'list --json'; '-' is standard input")
    _add_key(parser)


def _add_key(parser: ArgumentParser) -> None:
    parser.add_argument("--key", metavar="FILE", help="the issuer key that signs; by default that of the directory")
    add_keys(parser)


LOOK: Final = placed(
    "look",
    Command(
        "show",
        "tell who did what on whose behalf, and what was refused and why",
        "agent-identity show evidence --agent clerk --effect block --from 2026-11-24",
        _show,
        description=(
            "Show the calls of each task, as recorded. This proves nothing: run 'agent-identity verify' for that. "
            "Filters are combined; a repeated filter matches any of its values. Calls that they leave out are counted."
        ),
    ),
    Command(
        "tasks",
        "list the open tasks",
        "agent-identity tasks evidence --all",
        _tasks,
        description=(
            "List the tasks of a directory that are open by its records: started, not ended, not expired. The tasks of "
            "a process that died stay open until they expire."
        ),
    ),
    Command(
        "who",
        "resolve a pseudonym to a principal",
        "agent-identity who evidence principal-7f3a",
        _who,
        description="Resolve a pseudonym of this directory to its principal, unless the mapping was erased.",
    ),
    Command(
        "inventory",
        "list MCP servers and tools, and accept changes",
        description=(
            "The servers and tools in the signed file inventory.json of a directory. The definitions of a server's "
            "tools are pinned when it is first seen; a tool whose definition changed is refused until it is accepted."
        ),
        actions=(
            Command(
                "list",
                "list servers, tools, fingerprints and states; exit code 1 if a change is pending",
                "agent-identity inventory list evidence",
                _list,
            ),
            Command(
                "diff",
                "compare the pinned and the offered definition of a tool; exit code 1 if they differ",
                "agent-identity inventory diff evidence files read_file",
                _diff,
            ),
            Command(
                "accept",
                "accept pending changes: a tool's definition, or all of a server and its address",
                "agent-identity inventory accept evidence files read_file --reason 'reviewed in PR 12'",
                _accept,
            ),
            Command(
                "forget",
                "forget a server; its tools are pinned anew when it is next seen",
                "agent-identity inventory forget evidence files",
                _forget,
            ),
            Command(
                "pin",
                "pin the servers of another inventory, as 'list --json' printed it",
                "agent-identity inventory pin evidence reviewed.json",
                _pin,
            ),
        ),
    ),
)
"""The commands of the group."""
