"""The lifecycle of a guarded call, and its forms: functions, blocks, generators, deferred results."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._enforcement.lifecycle.bound_streams import bind_stream
    from agent_identity._enforcement.lifecycle.callables import (
        check_body,
        dressed,
        guard_of,
        guarded,
        hints_of,
        known_as_guarded,
    )
    from agent_identity._enforcement.lifecycle.deferred_results import Lazy, check_lazy, nature_of
    from agent_identity._enforcement.lifecycle.guarded_block import Action
    from agent_identity._enforcement.lifecycle.guarded_call import Body, GuardedCall
    from agent_identity._enforcement.lifecycle.steps import CallSteps
    from agent_identity._enforcement.lifecycle.tool_options import ToolOptions
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._enforcement.lifecycle.bound_streams": ("bind_stream",),
            "agent_identity._enforcement.lifecycle.callables": (
                "check_body",
                "dressed",
                "guard_of",
                "guarded",
                "hints_of",
                "known_as_guarded",
            ),
            "agent_identity._enforcement.lifecycle.deferred_results": ("Lazy", "check_lazy", "nature_of"),
            "agent_identity._enforcement.lifecycle.guarded_block": ("Action",),
            "agent_identity._enforcement.lifecycle.guarded_call": ("Body", "GuardedCall"),
            "agent_identity._enforcement.lifecycle.steps": ("CallSteps",),
            "agent_identity._enforcement.lifecycle.tool_options": ("ToolOptions",),
        },
    )

__all__ = [
    "Action",
    "Body",
    "CallSteps",
    "GuardedCall",
    "Lazy",
    "ToolOptions",
    "bind_stream",
    "check_body",
    "check_lazy",
    "dressed",
    "guard_of",
    "guarded",
    "hints_of",
    "known_as_guarded",
    "nature_of",
]
