"""The task, its place in the context, exported grants and delegation bundles."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.tasks.delegation_bundle import DelegationBundle, Grants
    from agent_identity._enforcement.tasks.exported_grants import AudienceGrant, ExportedGrants, RecordedGrants
    from agent_identity._enforcement.tasks.exported_marks import MarkSigner
    from agent_identity._enforcement.tasks.facts import CallFacts, agent_fact, parties, principal_fact, task_facts
    from agent_identity._enforcement.tasks.judged import Arrived, Carried, Judged
    from agent_identity._enforcement.tasks.remembered import Fact, Remembered, key_of
    from agent_identity._enforcement.tasks.suspensions import leave, mark_of, taken_over
    from agent_identity._enforcement.tasks.task import (
        REVOKE_SECONDS,
        Exports,
        NoTokens,
        Speak,
        Tally,
        Task,
        TokenSupply,
    )
    from agent_identity._enforcement.tasks.task_context import (
        Attachment,
        Body,
        Process,
        Reading,
        TaskContext,
        attached,
        bodies_around,
        marked_as_here,
        outer_task,
        task_in,
        tasks_in,
    )
    from agent_identity._enforcement.tasks.task_flow import Flows, TaskFlow
    from agent_identity._enforcement.tasks.trace_context import TRACEPARENT, remote_parent, traceparent
    from agent_identity._enforcement.tasks.vault import QUARANTINE, Kept, Vault, has_handle
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.tasks.delegation_bundle": ("DelegationBundle", "Grants"),
            "agent_identity._enforcement.tasks.exported_grants": ("AudienceGrant", "ExportedGrants", "RecordedGrants"),
            "agent_identity._enforcement.tasks.exported_marks": ("MarkSigner",),
            "agent_identity._enforcement.tasks.facts": (
                "CallFacts",
                "agent_fact",
                "parties",
                "principal_fact",
                "task_facts",
            ),
            "agent_identity._enforcement.tasks.judged": ("Arrived", "Carried", "Judged"),
            "agent_identity._enforcement.tasks.remembered": ("Fact", "Remembered", "key_of"),
            "agent_identity._enforcement.tasks.suspensions": ("leave", "mark_of", "taken_over"),
            "agent_identity._enforcement.tasks.task": (
                "REVOKE_SECONDS",
                "Exports",
                "NoTokens",
                "Speak",
                "Tally",
                "Task",
                "TokenSupply",
            ),
            "agent_identity._enforcement.tasks.task_context": (
                "Attachment",
                "Body",
                "Process",
                "Reading",
                "TaskContext",
                "attached",
                "bodies_around",
                "marked_as_here",
                "outer_task",
                "task_in",
                "tasks_in",
            ),
            "agent_identity._enforcement.tasks.task_flow": ("Flows", "TaskFlow"),
            "agent_identity._enforcement.tasks.trace_context": ("TRACEPARENT", "remote_parent", "traceparent"),
            "agent_identity._enforcement.tasks.vault": ("QUARANTINE", "Kept", "Vault", "has_handle"),
        },
    )

__all__ = [
    "QUARANTINE",
    "REVOKE_SECONDS",
    "TRACEPARENT",
    "Arrived",
    "Attachment",
    "AudienceGrant",
    "Body",
    "CallFacts",
    "Carried",
    "DelegationBundle",
    "ExportedGrants",
    "Exports",
    "Fact",
    "Flows",
    "Grants",
    "Judged",
    "Kept",
    "MarkSigner",
    "NoTokens",
    "Process",
    "Reading",
    "RecordedGrants",
    "Remembered",
    "Speak",
    "Tally",
    "Task",
    "TaskContext",
    "TaskFlow",
    "TokenSupply",
    "Vault",
    "agent_fact",
    "attached",
    "bodies_around",
    "has_handle",
    "key_of",
    "leave",
    "mark_of",
    "marked_as_here",
    "outer_task",
    "parties",
    "principal_fact",
    "remote_parent",
    "taken_over",
    "task_facts",
    "task_in",
    "tasks_in",
    "traceparent",
]
