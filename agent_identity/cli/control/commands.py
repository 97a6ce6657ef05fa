"""The commands that control agents: ``revoke``, ``reinstate``, ``revocations``, ``approvals``, ``agents``."""

from argparse import ArgumentParser
from typing import Final

from agent_identity.cli.terminal.command import Command, add_directory, add_json, add_keys, add_state, placed

KINDS: Final = ("task", "grant", "agent", "owner", "human", "service", "key", "everything")
"""Kinds of targets that can be revoked."""

_WHAT: Final = "the target: a task by id, a grant by hash, an issuer key by thumbprint, others by id"
_REVOKE: Final = "agent_identity.cli.control.revoke"


def _revoke(parser: ArgumentParser) -> None:
    _target(parser)
    parser.add_argument("--reason", metavar="TEXT", help="the reason, for refused callers and for the record")
    ends = "only until 'agent-identity reinstate'; without it, for good"
    parser.add_argument("--suspend", action="store_true", help=ends)


def _target(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    parser.add_argument("name", metavar="NAME", nargs="?", help=_WHAT)
    _add_shared(parser)


def _revocations(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("--export", metavar="FILE", help="write the signed list to a file")
    parser.add_argument("--adopt", metavar="FILE", help="adopt a signed list from elsewhere, if it is newer")
    text = "sign the list again, after the key that signed it was revoked; prints the list"
    parser.add_argument("--sign-again", action="store_true", help=text)
    _add_shared(parser)


def _add_shared(parser: ArgumentParser) -> None:
    add_state(parser)
    add_keys(parser)
    add_json(parser)


def _approvals(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)


def _decide(parser: ArgumentParser) -> None:
    add_directory(parser)
    parser.add_argument("request", metavar="REQUEST", help="the id of the request to decide")
    parser.add_argument("--by", metavar="ID", required=True, help="the person who decides")
    parser.add_argument("--role", metavar="ROLE", action="append", default=[], help="a role of that person")
    add_state(parser)
    add_keys(parser)
    add_json(parser)


def _reject(parser: ArgumentParser) -> None:
    _decide(parser)
    parser.add_argument("--reason", metavar="TEXT", help="the reason, for the agent and the record")


def _list(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("--history", action="store_true", help="every registration, oldest first")
    parser.add_argument("--agent", metavar="AGENT", help="only this agent")


def _add(parser: ArgumentParser) -> None:
    _one_agent(parser)
    parser.add_argument("--owner", required=True, help="the accountable owner: a person or a team")
    parser.add_argument("--purpose", required=True, help="its purpose")
    text = "a tool of its maximum, with any arguments"
    parser.add_argument("--tool", metavar="NAME", action="append", default=[], help=text)
    parser.add_argument("--maximum", metavar="FILE", help="JSON with further tools and constraints, as in grants")
    parser.add_argument("--version", help="the only version that may act; by default any")
    parser.add_argument("--model", help="the model that it uses")
    parser.add_argument("--expires", metavar="WHEN", default="365d", help="days (90d) or a date (2027-01-31, UTC)")
    parser.add_argument("--replace", action="store_true", help="change the registration of the agent")
    _add_writing(parser)


def _one_agent(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("agent", metavar="AGENT", help="the id of the agent")


def _change(parser: ArgumentParser) -> None:
    _one_agent(parser)
    _add_writing(parser)


def _orphan(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("owner", metavar="OWNER", help="the owner who left")
    _add_writing(parser)


def _add_writing(parser: ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", help="the reason, kept in the history")
    parser.add_argument("--key", metavar="FILE", help="the issuer key that signs; by default that of the directory")
    add_keys(parser)


def _check(parser: ArgumentParser) -> None:
    add_directory(parser)
    add_json(parser)
    parser.add_argument("--trust", metavar="FILE", help="trust.json kept elsewhere; by default that of the directory")
    parser.add_argument("--at-least", metavar="MARK", help="the mark of an earlier check, kept elsewhere")


CONTROL: Final = placed(
    "control",
    Command(
        "revoke",
        "stop a task, grant, agent, owner, principal, issuer key, or everything",
        "agent-identity revoke evidence agent clerk --reason 'credentials leaked' --suspend",
        _revoke,
        description=(
            "Stop everything that acts under the target. It takes effect at the next call of every process that has "
            "the directory open, and survives restarts. Use --state to reach machines that share a store."
        ),
    ),
    Command(
        "reinstate",
        "lift a suspension",
        "agent-identity reinstate evidence agent clerk",
        _target,
        f"{_REVOKE}:run_reinstate",
    ),
    Command(
        "revocations",
        "list, export or adopt revocations",
        "agent-identity revocations evidence --export revocations.jws",
        _revocations,
        f"{_REVOKE}:run_list",
        description=(
            "List what is revoked or suspended. Processes that do not share the directory can adopt the signed list."
        ),
    ),
    Command(
        "approvals",
        "show and decide the calls that wait for a person",
        actions=(
            Command(
                "list",
                "show the calls that wait for a person",
                "agent-identity approvals list evidence",
                _approvals,
            ),
            Command(
                "approve",
                "let a call run",
                "agent-identity approvals approve evidence AZq2l-gAcACAAAAAAAAACQ --by bob@example.com",
                _decide,
                ":run_decide",
                description=(
                    "Let a call run. The approver of --by is recorded as asserted: the command asks no identity "
                    "provider. A channel that demands verified approvers accepts no approval from here."
                ),
            ),
            Command(
                "reject",
                "refuse a call",
                "agent-identity approvals reject evidence AZq2l-gAcACAAAAAAAAACQ --by bob@example.com "
                "--reason 'wrong account'",
                _reject,
                ":run_decide",
                description=(
                    "Refuse a call. The approver of --by is recorded as asserted: the command asks no identity "
                    "provider."
                ),
            ),
        ),
    ),
    Command(
        "agents",
        "register agents, their owners and their maximum scope",
        description=(
            "Register agents in the signed file agents.jsonl of a directory: owner, purpose, expiry and the maximum "
            "scope of any grant. Enforcer.open(..., agents='registered') refuses all others."
        ),
        actions=(
            Command(
                "list",
                "list the agents, or with --history every registration",
                "agent-identity agents list evidence",
                _list,
            ),
            Command(
                "add",
                "register an agent; with --replace, change its registration",
                "agent-identity agents add evidence clerk --owner finance@example.com --purpose 'pay invoices' --tool "
                "pay_invoice",
                _add,
            ),
            Command(
                "suspend",
                "suspend an agent: it gets no grants until it is resumed",
                "agent-identity agents suspend evidence clerk --reason 'under review'",
                _change,
                ":run_change",
            ),
            Command(
                "resume",
                "resume an agent that was suspended",
                "agent-identity agents resume evidence clerk",
                _change,
                ":run_change",
            ),
            Command(
                "retire",
                "retire an agent for good; its id is never used again",
                "agent-identity agents retire evidence clerk",
                _change,
                ":run_change",
            ),
            Command(
                "orphan",
                "mark all agents of an owner as orphaned: no grants until --replace names another",
                "agent-identity agents orphan evidence finance@example.com --reason 'left the company'",
                _orphan,
            ),
            Command(
                "check",
                "verify signatures, order and history of the registry",
                "agent-identity agents check evidence --trust kept/trust.json",
                _check,
            ),
        ),
    ),
)
"""The commands of the group."""
