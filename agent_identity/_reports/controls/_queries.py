"""The named queries: which signals each needs, which weaken it, and which contradict it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A named query.

    Attributes:
        asks: The question that it answers.
        needs: Signals without which nothing is shown; each has to be there.
        wants: Signals without which it is shown in part.
        lacks: Signals with which it is shown in part.
        against: Signals that contradict it.
    """

    asks: str
    needs: tuple[str, ...]
    wants: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    against: tuple[str, ...] = ()


QUERIES: Final[Mapping[str, Query]] = MappingProxyType(
    {
        "recorded_calls": Query(
            asks="Does every guarded call have a record of its start and of its end?",
            needs=("closed_calls",),
            lacks=("open_calls",),
        ),
        "record_content": Query(
            asks="Does every record say what, when, where, by whom, for whom and with which result?",
            needs=("closed_calls", "attributed_calls"),
            lacks=("open_calls", "unattributed_calls", "unplaced_streams"),
        ),
        "correlated_calls": Query(
            asks="Can every call be found in traces of the whole system?",
            needs=("linked_calls",),
            lacks=("unlinked_calls",),
        ),
        "tamper_evidence": Query(
            asks="Would a change, a deletion or an insertion of records show?",
            needs=("recorded_calls",),
        ),
        "outside_witness": Query(
            asks="Do other parties vouch for the state of the log?",
            needs=("witnessed_sources",),
            lacks=("unwitnessed_sources",),
        ),
        "logging_failures": Query(
            asks="Would a gap in the records, or a call without an end, show?",
            needs=("closed_calls",),
            lacks=("open_calls",),
        ),
        "retention": Query(
            asks="How far back did outside parties see records that still verify, and was none of them pruned?",
            needs=("recorded_calls",),
            lacks=("pruned_records",),
        ),
        "attribution": Query(
            asks="Does every call have a principal, an agent and an owner?",
            needs=("attributed_calls",),
            lacks=("unattributed_calls", "traced_only_calls"),
        ),
        "verified_people": Query(
            asks="Does a verified human answer for every call?",
            needs=("verified_calls",),
            lacks=("asserted_calls", "service_calls", "unattributed_calls", "traced_only_calls"),
        ),
        "delegation": Query(
            asks="Does every call of a sub-agent carry the whole chain, each hop narrower than the one before?",
            needs=("delegated_calls", "delegations"),
            lacks=("unattributed_calls", "monitored_calls"),
        ),
        "enforcement": Query(
            asks="Were calls refused that no grant or rule allows, and did none go on all the same?",
            needs=("refused_calls",),
            lacks=("monitored_calls", "unattributed_calls", "traced_only_calls"),
        ),
        "argument_checks": Query(
            asks="Were calls refused for their arguments?",
            needs=("argument_refusals",),
            lacks=("open_grants", "monitored_calls"),
        ),
        "limits": Query(
            asks="Were calls refused because a limit was reached?",
            needs=("limit_refusals",),
            lacks=("monitored_calls",),
        ),
        "policy_decisions": Query(
            asks="Did a policy with a digest decide every call?",
            needs=("ruled_calls",),
            lacks=("unruled_calls", "monitored_calls"),
        ),
        "least_privilege": Query(
            asks="Is what was granted bound to a task, an end and arguments, and was it used?",
            needs=("bounded_grants", "used_tools"),
            lacks=("open_grants", "unused_tools", "monitored_calls"),
        ),
        "short_authority": Query(
            asks="Does authority end with the task, and within a day?",
            needs=("bounded_grants", "ended_tasks"),
            lacks=("long_grants",),
            against=("calls_after_revocation",),
        ),
        "human_approval": Query(
            asks="Did verified people approve calls for which they were asked, and never their own?",
            needs=("approved_calls",),
            lacks=("asserted_approvals", "owner_approved_calls"),
            against=("self_approved_calls",),
        ),
        "human_decisions": Query(
            asks="Did verified people decide on calls, against them as well?",
            needs=("human_decisions",),
            wants=("rejections",),
            lacks=("asserted_decisions",),
        ),
        "stop": Query(
            asks="Was authority revoked or suspended, and did no call begin afterwards?",
            needs=("revocations",),
            wants=("revoked_refusals",),
            against=("calls_after_revocation",),
        ),
        "risk_events": Query(
            asks="Which calls were refused, warned about, withheld or failed?",
            needs=("notable_calls",),
        ),
        "risks_and_changes": Query(
            asks="Which calls were refused or failed, and what changed?",
            needs=("notable_calls",),
            wants=("changes",),
        ),
        "findings": Query(
            asks="Which calls did inspectors find something in?",
            needs=("finding_calls",),
        ),
        "changes": Query(
            asks="Which policies, versions of agents, tool definitions and authorities changed?",
            needs=("changes",),
        ),
        "inventory": Query(
            asks="Which agents and servers exist, and are all of them registered?",
            needs=("agents",),
            wants=("registered_agents",),
            lacks=("unregistered_agents", "unpinned_tools", "traced_only_calls"),
        ),
        "identity_register": Query(
            asks="Is every agent registered under an identity of its own, with an owner?",
            needs=("registered_agents",),
            lacks=("unregistered_agents", "unattributed_calls"),
        ),
        "separate_identities": Query(
            asks="Does every agent act in one service only, under registered identities?",
            needs=("registered_agents", "placed_streams"),
            lacks=("shared_agents", "unregistered_agents", "unplaced_streams"),
        ),
        "offboarding": Query(
            asks="Were agents taken out of service, and did none of them act afterwards?",
            needs=("registered_agents", "retired_agents"),
            lacks=("unregistered_agents",),
            against=("calls_after_revocation", "agents_after_their_end"),
        ),
        "tool_pins": Query(
            asks="Are the definitions of all tools of MCP servers pinned?",
            needs=("pinned_servers",),
            lacks=("unpinned_tools",),
        ),
        "data_flows": Query(
            asks="Which resources did calls touch?",
            needs=("resource_calls",),
            lacks=("undeclared_calls",),
        ),
        "examinations": Query(
            asks="Was the evidence examined, at times for which an outside party vouches?",
            needs=("examinations",),
            lacks=("undated_examinations",),
        ),
    }
)
"""The queries, by name."""
