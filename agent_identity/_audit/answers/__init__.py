"""Answers: questions about evidence, each over one pass that verifies it as well, with typed results.

The question functions take an :class:`Evidence` and return a frozen result with a :class:`Frame`, which says how far
the answer can be believed and what it does not show.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._audit.answers.collecting import CodeHint, CodeStatus, ItemKind
    from agent_identity._audit.answers.coverage_report import (
        CoverageQuestion,
        CoverageReport,
        Dimension,
        Group,
        OtherCalls,
        Share,
        coverage,
    )
    from agent_identity._audit.answers.cyclonedx_document import cyclonedx
    from agent_identity._audit.answers.data_report import (
        DataHint,
        DataQuestion,
        DataReport,
        DataRow,
        SilentTool,
        TouchedBy,
        data,
    )
    from agent_identity._audit.answers.declared import declared_in
    from agent_identity._audit.answers.decoding import Decoder, Period
    from agent_identity._audit.answers.facts import (
        ApprovalFact,
        CallFact,
        Fact,
        GrantFact,
        PolicyFact,
        RegistrationFact,
        RevocationFact,
        ServerFact,
        SpanFact,
        StreamFact,
        TaskFact,
        Where,
    )
    from agent_identity._audit.answers.hosts import Hosts
    from agent_identity._audit.answers.incident_collecting import Entry
    from agent_identity._audit.answers.incident_report import (
        Authority,
        IncidentQuestion,
        IncidentReport,
        OpenCall,
        Reached,
        RevocationEffect,
        ToolReach,
        incident,
    )
    from agent_identity._audit.answers.incident_seed import Seed
    from agent_identity._audit.answers.inventory_report import KINDS, Inventory, InventoryQuestion, Item, inventory
    from agent_identity._audit.answers.places import find_places
    from agent_identity._audit.answers.reading import Distributor, Evidence, Reading, read
    from agent_identity._audit.answers.report_frame import NO_KEYS, Frame, SourceFrame, SourceKind, plain
    from agent_identity._audit.answers.scope_report import (
        Event,
        RateChange,
        Refusals,
        ScopeQuestion,
        ScopeReport,
        ScopeRow,
        SuggestedTool,
        Suggestion,
        VersionChange,
        scope,
    )
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._audit.answers.collecting": ("CodeHint", "CodeStatus", "ItemKind"),
            "agent_identity._audit.answers.coverage_report": (
                "CoverageQuestion",
                "CoverageReport",
                "Dimension",
                "Group",
                "OtherCalls",
                "Share",
                "coverage",
            ),
            "agent_identity._audit.answers.cyclonedx_document": ("cyclonedx",),
            "agent_identity._audit.answers.data_report": (
                "DataHint",
                "DataQuestion",
                "DataReport",
                "DataRow",
                "SilentTool",
                "TouchedBy",
                "data",
            ),
            "agent_identity._audit.answers.declared": ("declared_in",),
            "agent_identity._audit.answers.decoding": ("Decoder", "Period"),
            "agent_identity._audit.answers.facts": (
                "ApprovalFact",
                "CallFact",
                "Fact",
                "GrantFact",
                "PolicyFact",
                "RegistrationFact",
                "RevocationFact",
                "ServerFact",
                "SpanFact",
                "StreamFact",
                "TaskFact",
                "Where",
            ),
            "agent_identity._audit.answers.hosts": ("Hosts",),
            "agent_identity._audit.answers.incident_collecting": ("Entry",),
            "agent_identity._audit.answers.incident_report": (
                "Authority",
                "IncidentQuestion",
                "IncidentReport",
                "OpenCall",
                "Reached",
                "RevocationEffect",
                "ToolReach",
                "incident",
            ),
            "agent_identity._audit.answers.incident_seed": ("Seed",),
            "agent_identity._audit.answers.inventory_report": (
                "KINDS",
                "Inventory",
                "InventoryQuestion",
                "Item",
                "inventory",
            ),
            "agent_identity._audit.answers.places": ("find_places",),
            "agent_identity._audit.answers.reading": ("Distributor", "Evidence", "Reading", "read"),
            "agent_identity._audit.answers.report_frame": ("NO_KEYS", "Frame", "SourceFrame", "SourceKind", "plain"),
            "agent_identity._audit.answers.scope_report": (
                "Event",
                "RateChange",
                "Refusals",
                "ScopeQuestion",
                "ScopeReport",
                "ScopeRow",
                "SuggestedTool",
                "Suggestion",
                "VersionChange",
                "scope",
            ),
        },
    )

__all__ = [
    "KINDS",
    "NO_KEYS",
    "ApprovalFact",
    "Authority",
    "CallFact",
    "CodeHint",
    "CodeStatus",
    "CoverageQuestion",
    "CoverageReport",
    "DataHint",
    "DataQuestion",
    "DataReport",
    "DataRow",
    "Decoder",
    "Dimension",
    "Distributor",
    "Entry",
    "Event",
    "Evidence",
    "Fact",
    "Frame",
    "GrantFact",
    "Group",
    "Hosts",
    "IncidentQuestion",
    "IncidentReport",
    "Inventory",
    "InventoryQuestion",
    "Item",
    "ItemKind",
    "OpenCall",
    "OtherCalls",
    "Period",
    "PolicyFact",
    "RateChange",
    "Reached",
    "Reading",
    "Refusals",
    "RegistrationFact",
    "RevocationEffect",
    "RevocationFact",
    "ScopeQuestion",
    "ScopeReport",
    "ScopeRow",
    "Seed",
    "ServerFact",
    "Share",
    "SilentTool",
    "SourceFrame",
    "SourceKind",
    "SpanFact",
    "StreamFact",
    "SuggestedTool",
    "Suggestion",
    "TaskFact",
    "ToolReach",
    "TouchedBy",
    "VersionChange",
    "Where",
    "coverage",
    "cyclonedx",
    "data",
    "declared_in",
    "find_places",
    "incident",
    "inventory",
    "plain",
    "read",
    "scope",
]
