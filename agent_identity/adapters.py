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

from agent_identity._common.typed_calls import typed_calls
from agent_identity._guard.calls.call import Call, CallRequest, Shown
from agent_identity._guard.judging.span_facts import SpanOptions
from agent_identity._guard.judging.tool_flow import DeclaredFlow
from agent_identity._guard.lifecycle.guarded_call import GuardedCall

__all__ = ["Call", "CallRequest", "DeclaredFlow", "GuardedCall", "Shown", "SpanOptions", "typed_calls"]
