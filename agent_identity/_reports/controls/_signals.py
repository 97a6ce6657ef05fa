"""Signals: what records say, counted under a name, with the records that say it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

IDS: Final = 3
"""Records that a signal names, at most: the first ones by time."""

SIGNALS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        # Calls.
        "recorded_calls": ("tool call with a record", "tool calls with a record"),
        "closed_calls": ("call with a recorded end or refusal", "calls with a recorded end or refusal"),
        "open_calls": ("call without an outcome", "calls without an outcome"),
        "traced_only_calls": ("call that only traces show", "calls that only traces show"),
        "linked_calls": ("call with the ids of its span", "calls with the ids of their spans"),
        "unlinked_calls": ("call without the ids of a span", "calls without the ids of a span"),
        "model_calls": ("call of a model", "calls of models"),
        "notable_calls": (
            "call that was refused, warned about, withheld or failed, or in which something was found",
            "calls that were refused, warned about, withheld or failed, or in which something was found",
        ),
        # Who.
        "attributed_calls": ("call with principal, agent and owner", "calls with principal, agent and owner"),
        "unattributed_calls": ("call that ran for nobody", "calls that ran for nobody"),
        "verified_calls": ("call for a verified human", "calls for verified humans"),
        "asserted_calls": ("call for a human whom nobody verified", "calls for humans whom nobody verified"),
        "service_calls": ("call for a service", "calls for services"),
        "delegated_calls": ("call of a sub-agent with its whole chain", "calls of sub-agents with their whole chains"),
        # Authority.
        "bounded_grants": ("grant with a task and an end", "grants with a task and an end"),
        "long_grants": ("grant that lives longer than a day", "grants that live longer than a day"),
        "open_grants": ("grant of a tool with any arguments", "grants of a tool with any arguments"),
        "delegations": ("delegation that narrows a grant", "delegations that narrow a grant"),
        "used_tools": ("granted tool that its agent used", "granted tools that their agents used"),
        "unused_tools": ("granted tool that was never used", "granted tools that were never used"),
        "ended_tasks": ("task that ended", "tasks that ended"),
        # Refusals.
        "refused_calls": ("refused call", "refused calls"),
        "argument_refusals": ("call refused for its arguments", "calls refused for their arguments"),
        "limit_refusals": ("call refused by a limit", "calls refused by limits"),
        "revoked_refusals": ("call refused after a revocation", "calls refused after revocations"),
        "monitored_calls": (
            "call that only monitor mode let go on",
            "calls that only monitor mode let go on",
        ),
        "ruled_calls": ("call that a policy with a digest decided", "calls that policies with digests decided"),
        "unruled_calls": ("call that no policy decided", "calls that no policy decided"),
        "finding_calls": ("call in which an inspector found something", "calls in which inspectors found something"),
        # People.
        "approved_calls": ("call that a verified person approved", "calls that verified people approved"),
        "asserted_approvals": (
            "call for whose approval only the process vouches",
            "calls for whose approval only the process vouches",
        ),
        "self_approved_calls": (
            "call approved by its own principal or agent",
            "calls approved by their own principals or agents",
        ),
        "owner_approved_calls": (
            "call approved by the owner of its agent",
            "calls approved by the owners of their agents",
        ),
        "rejections": ("request that a verified person rejected", "requests that verified people rejected"),
        "human_decisions": ("decision of a verified person on a call", "decisions of verified people on calls"),
        "asserted_decisions": (
            "decision on a call for which only the process vouches",
            "decisions on calls for which only the process vouches",
        ),
        "revocations": ("revocation or suspension", "revocations and suspensions"),
        "calls_after_revocation": (
            "call that began while a revocation should have stopped it",
            "calls that began while a revocation should have stopped them",
        ),
        "examinations": (
            "recorded examination of the evidence that an outside party dates",
            "recorded examinations of the evidence that an outside party dates",
        ),
        "undated_examinations": (
            "recorded examination that only its own ledger dates",
            "recorded examinations that only their own ledgers date",
        ),
        # What exists.
        "agents": ("agent in the records", "agents in the records"),
        "shared_agents": ("agent that acts in several services", "agents that act in several services"),
        "registered_agents": ("registered agent", "registered agents"),
        "unregistered_agents": ("agent in the records and not registered", "agents in the records and not registered"),
        "retired_agents": (
            "agent that the registry suspended, retired or orphaned",
            "agents that the registry suspended, retired or orphaned",
        ),
        "agents_after_their_end": (
            "agent that acted after the registry suspended, retired or orphaned it",
            "agents that acted after the registry suspended, retired or orphaned them",
        ),
        "pinned_servers": ("pinned MCP server", "pinned MCP servers"),
        "unpinned_tools": (
            "tool in use of an MCP server that is not pinned",
            "tools in use of MCP servers that are not pinned",
        ),
        "changes": (
            "change of a policy, an agent's version, a tool definition or an authority",
            "changes of policies, versions of agents, tool definitions or authorities",
        ),
        "resource_calls": ("call with its resources", "calls with their resources"),
        "undeclared_calls": ("call that ran and names no resource", "calls that ran and name no resource"),
        # The ledger.
        "placed_streams": ("stream with service and host", "streams with service and host"),
        "unplaced_streams": ("stream without service or host", "streams without service or host"),
        "witnessed_sources": (
            "ledger with a time-stamp or a witness of another party",
            "ledgers with time-stamps or witnesses of other parties",
        ),
        "unwitnessed_sources": (
            "ledger that only its own keys vouch for",
            "ledgers that only their own keys vouch for",
        ),
        "pruned_records": (
            "record that was pruned under a signed statement",
            "records that were pruned under signed statements",
        ),
    }
)
"""By name: the words for one, and for several."""


@final
@dataclass(frozen=True, slots=True)
class Signal:
    """A signal.

    Attributes:
        name: Its name.
        count: How often.
        records: The ids of up to three records that say so, the earliest first.
    """

    name: str
    count: int
    records: tuple[str, ...]

    @property
    def words(self) -> str:
        """The count in words."""
        one, several = SIGNALS[self.name]
        if not self.count:
            return f"no {several}"
        return f"{self.count:,} {one if self.count == 1 else several}"


@final
class Signals:
    """Counts signals."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(SIGNALS, 0)
        self._records: dict[str, list[tuple[int, str]]] = {}

    def add(self, name: str, at_ns: int = 0, record: str = "", *, count: int = 1) -> None:
        """Count a signal.

        Args:
            name: Its name.
            at_ns: When.
            record: The record, if it is one.
            count: How often.
        """
        self.add_all(name, count, [(at_ns, record)] if record else ())

    def add_all(self, name: str, count: int, records: Iterable[tuple[int, str]]) -> None:
        """Count a signal many times.

        Args:
            name: Its name.
            count: How often.
            records: When, and the record; at least the first ones of them.
        """
        self._counts[name] += count
        kept = self._records.setdefault(name, [])
        for record in records:
            if len(kept) < IDS or record < kept[-1]:
                kept.append(record)
                kept.sort()
                del kept[IDS:]

    def get(self, name: str) -> Signal:
        """Return a signal."""
        return Signal(name, self._counts[name], tuple(record for _, record in self._records.get(name, ())))
