"""``agent-identity approvals``: what waits for a person, and what they decide."""

import argparse
import json
import sys
from typing import cast

from agent_identity.cli.command import Commands
from agent_identity.cli.control.opened import NS, opened, trust_file
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.enforcement import Enforcer
from agent_identity.enforcement.approval import ApprovalRequest
from agent_identity.enforcement.approval_box import ApprovalBox
from agent_identity.enforcement.terminal_desk import shown
from agent_identity.errors import ConfigurationError
from agent_identity.identity import Human, SystemClock

__all__ = ["register"]


def register(commands: Commands) -> None:
    """Add the command."""
    text = "show and decide the calls that wait for a person"
    command = commands.add_parser(
        "approvals",
        help=text,
        description="Show and decide the calls that wait for a person. Whoever decides is named by --by and stands in "
        "the record as asserted: the command asks no identity provider. A desk that demands verified approvers takes "
        "no approval from here.",
    )
    command.add_argument("action", choices=("list", "approve", "reject"), help="what to do")
    command.add_argument("directory", metavar="DIR", help="the directory of the enforcer")
    command.add_argument("request", metavar="REQUEST", nargs="?", help="the id of the request to decide")
    command.add_argument("--by", metavar="ID", help="who decides")
    command.add_argument("--role", metavar="ROLE", action="append", default=[], help="a role of who decides")
    command.add_argument("--reason", metavar="TEXT", help="why it is rejected, for the agent and the record")
    command.add_argument("--keys", metavar="DIR", help="the directory that has the keys, if a signer holds them")
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """List, approve or reject."""
    if chosen.action == "list":
        box = ApprovalBox(trust_file(chosen.directory).parent / "approvals")
        return _list(chosen, box.undecided(SystemClock().wall_ns() // NS))
    with opened(chosen.directory, chosen.keys) as enforcer:
        return _decide(chosen, enforcer)


def _list(chosen: argparse.Namespace, waiting: tuple[ApprovalRequest, ...]) -> int:
    if chosen.json:
        print(json.dumps([request.to_dict() for request in waiting]))
        return 0
    if not waiting:
        print("nothing waits for an approval")
        return 0
    style = Style(sys.stdout)
    for request in waiting:
        head = table([(request.id, f"until {moment(request.expires_at * NS)}")], indent="", room=columns(sys.stdout))
        print(style.paint(head[0], "bold"))
        try:
            print(shown(request))
        except ConfigurationError as error:  # The others are shown all the same.
            print(f"  not shown: {error}")
    return 0


def _decide(chosen: argparse.Namespace, enforcer: Enforcer) -> int:
    if chosen.request is None or chosen.by is None:
        raise ConfigurationError("expected which request and who decides; give its id, and --by")
    try:
        person = Human(cast("str", chosen.by), roles=tuple(chosen.role))
        if chosen.action == "approve":
            enforcer.approvals.approve(cast("str", chosen.request), by=person)
        else:
            enforcer.approvals.reject(cast("str", chosen.request), by=person, reason=chosen.reason)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    status = "approved" if chosen.action == "approve" else "rejected"
    if chosen.json:
        print(json.dumps({"request": chosen.request, "status": status, "by": person.id}))
    else:
        print(f"{clean(chosen.request)}: {status} by {clean(person.id)} (asserted)")
    return 0
