"""Opening, delegating, exporting, accepting and resuming tasks."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.sessions.admission import Admission
    from agent_identity._enforcement.sessions.nesting import Listed, Nesting, permits_of
    from agent_identity._enforcement.sessions.opening import Opening
    from agent_identity._enforcement.sessions.propagation import Outbound, Peer, Presentation
    from agent_identity._enforcement.sessions.resume import Inbound
    from agent_identity._enforcement.sessions.statements import Statements, checked_text
    from agent_identity._enforcement.sessions.tasks import Tasks, current_or_refuse
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.sessions.admission": ("Admission",),
            "agent_identity._enforcement.sessions.nesting": ("Listed", "Nesting", "permits_of"),
            "agent_identity._enforcement.sessions.opening": ("Opening",),
            "agent_identity._enforcement.sessions.propagation": ("Outbound", "Peer", "Presentation"),
            "agent_identity._enforcement.sessions.resume": ("Inbound",),
            "agent_identity._enforcement.sessions.statements": ("Statements", "checked_text"),
            "agent_identity._enforcement.sessions.tasks": ("Tasks", "current_or_refuse"),
        },
    )

__all__ = [
    "Admission",
    "Inbound",
    "Listed",
    "Nesting",
    "Opening",
    "Outbound",
    "Peer",
    "Presentation",
    "Statements",
    "Tasks",
    "checked_text",
    "current_or_refuse",
    "permits_of",
]
