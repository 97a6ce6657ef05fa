"""``agent-identity approvals``: list and decide calls that wait for a person."""

import argparse
import json
import sys

from agent_identity._directory.enforcer import Enforcer
from agent_identity._guard.approvals.inbox import ApprovalInbox
from agent_identity._guard.approvals.terminal import shown
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.principals.principals import Human
from agent_identity.cli.control.opened import NS, opened, trust_file
from agent_identity.cli.terminal.signing import refuse_inside
from agent_identity.cli.terminal.stores import store_of
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.errors import ConfigurationError


def run_list(chosen: argparse.Namespace) -> int:
    """List the pending requests."""
    box = ApprovalInbox(trust_file(chosen.directory).parent / "approvals")
    waiting = box.undecided(SystemClock().wall_ns() // NS)
    if chosen.json:
        print(json.dumps({"requests": [request.to_dict() for request in waiting]}))
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
        except ConfigurationError as error:  # The other requests are still shown.
            print(f"  not shown: {error}")
    return 0


def run_decide(chosen: argparse.Namespace) -> int:
    """Approve or reject a request."""
    refuse_inside(chosen)
    with opened(chosen, store_of(chosen)) as enforcer:
        person = _decided(chosen, enforcer)
    status = "approved" if chosen.action == "approve" else "rejected"
    if chosen.json:
        print(json.dumps({"request": chosen.request, "status": status, "by": person.id}))
    else:
        print(f"{clean(chosen.request)}: {status} by {clean(person.id)} (asserted)")
    return 0


def _decided(chosen: argparse.Namespace, enforcer: Enforcer) -> Human:
    try:
        person = Human(chosen.by, roles=tuple(chosen.role))
        if chosen.action == "approve":
            enforcer.approvals.approve(chosen.request, by=person)
        else:
            enforcer.approvals.reject(chosen.request, by=person, reason=chosen.reason)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return person
