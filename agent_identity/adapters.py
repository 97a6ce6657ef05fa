"""Public API for authors of adapters: guard the calls of any framework.

>>> import tempfile
>>> from agent_identity import Agent, Enforcer, Human, Scope
>>> from agent_identity.adapters import CallRequest
>>> who = {"principal": Human("alice@example.com"), "agent": Agent("clerk", owner="fin@example.com")}
>>> with tempfile.TemporaryDirectory() as folder, Enforcer.open(folder) as enforcer:
...     guarded = enforcer.guard("add")
...     with enforcer.task("sum up", scope=Scope("add"), **who):
...         guarded.run(CallRequest({"x": 1, "y": 2}), lambda call: sum(call.arguments.values()))
3
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_identity._authority.stores.forks import renewed_in_children
    from agent_identity._common.typed_calls import typed_calls
    from agent_identity._directory.adapting.prompts import Part, account, is_accounted, join_prompt, resume_run
    from agent_identity._directory.adapting.tool_guards import Acting, Declared, Prompt, ToolCall, ToolGuards, shown
    from agent_identity._directory.inventory.pinned_servers import Definition, Observation
    from agent_identity._guard.calls.arguments import Binder, form_bytes
    from agent_identity._guard.calls.call import Call, CallRequest, Shown
    from agent_identity._guard.common.failures import error_type, failure, guard_failed, refusal, safe_message
    from agent_identity._guard.common.threads import off_loop
    from agent_identity._guard.judging.known_tools import claims_from
    from agent_identity._guard.judging.tool_flow import DeclaredFlow
    from agent_identity._guard.lifecycle.bound_streams import bind_stream
    from agent_identity._guard.lifecycle.callables import dressed, guard_of, guarded
    from agent_identity._guard.lifecycle.deferred_results import nature_of
    from agent_identity._guard.lifecycle.guarded_call import GuardedCall
    from agent_identity._guard.sessions.opening import Opening
    from agent_identity._guard.sessions.tasks import check_task
    from agent_identity._guard.tasks.task_context import resumed, task_in
    from agent_identity._guard.tasks.trace_context import traceparent
    from agent_identity._guard.tasks.turns import read_thread, run_began, saw_calls
    from agent_identity._identity.common.names import check_id
    from agent_identity._identity.common.private_files import read_public_file
    from agent_identity._identity.common.tool_names import tool_name
else:
    from agent_identity._common.lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "agent_identity._authority.stores.forks": ("renewed_in_children",),
            "agent_identity._common.typed_calls": ("typed_calls",),
            "agent_identity._directory.adapting.prompts": (
                "Part",
                "account",
                "is_accounted",
                "join_prompt",
                "resume_run",
            ),
            "agent_identity._directory.adapting.tool_guards": (
                "Acting",
                "Declared",
                "Prompt",
                "ToolCall",
                "ToolGuards",
                "shown",
            ),
            "agent_identity._directory.inventory.pinned_servers": ("Definition", "Observation"),
            "agent_identity._guard.calls.arguments": ("Binder", "form_bytes"),
            "agent_identity._guard.calls.call": ("Call", "CallRequest", "Shown"),
            "agent_identity._guard.common.failures": (
                "error_type",
                "failure",
                "guard_failed",
                "refusal",
                "safe_message",
            ),
            "agent_identity._guard.common.threads": ("off_loop",),
            "agent_identity._guard.judging.known_tools": ("claims_from",),
            "agent_identity._guard.judging.tool_flow": ("DeclaredFlow",),
            "agent_identity._guard.lifecycle.bound_streams": ("bind_stream",),
            "agent_identity._guard.lifecycle.callables": ("dressed", "guard_of", "guarded"),
            "agent_identity._guard.lifecycle.deferred_results": ("nature_of",),
            "agent_identity._guard.lifecycle.guarded_call": ("GuardedCall",),
            "agent_identity._guard.sessions.opening": ("Opening",),
            "agent_identity._guard.sessions.tasks": ("check_task",),
            "agent_identity._guard.tasks.task_context": ("resumed", "task_in"),
            "agent_identity._guard.tasks.trace_context": ("traceparent",),
            "agent_identity._guard.tasks.turns": ("read_thread", "run_began", "saw_calls"),
            "agent_identity._identity.common.names": ("check_id",),
            "agent_identity._identity.common.private_files": ("read_public_file",),
            "agent_identity._identity.common.tool_names": ("tool_name",),
        },
    )

__all__ = [
    "Acting",
    "Binder",
    "Call",
    "CallRequest",
    "Declared",
    "DeclaredFlow",
    "Definition",
    "GuardedCall",
    "Observation",
    "Opening",
    "Part",
    "Prompt",
    "Shown",
    "ToolCall",
    "ToolGuards",
    "account",
    "bind_stream",
    "check_id",
    "check_task",
    "claims_from",
    "dressed",
    "error_type",
    "failure",
    "form_bytes",
    "guard_failed",
    "guard_of",
    "guarded",
    "is_accounted",
    "join_prompt",
    "nature_of",
    "off_loop",
    "read_public_file",
    "read_thread",
    "refusal",
    "renewed_in_children",
    "resume_run",
    "resumed",
    "run_began",
    "safe_message",
    "saw_calls",
    "shown",
    "task_in",
    "tool_name",
    "traceparent",
    "typed_calls",
]
