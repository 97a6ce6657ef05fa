"""The enforcement point: every guarded call passes it, under a verified identity, a grant, a policy and a record."""

from agent_identity.enforcement.action import Action
from agent_identity.enforcement.agents_file import register_agents
from agent_identity.enforcement.call import Call, CallRequest, Shown
from agent_identity.enforcement.carried import Carried
from agent_identity.enforcement.crossing import Peer, Presentation
from agent_identity.enforcement.enforcer import Enforcer
from agent_identity.enforcement.guarded_call import GuardedCall
from agent_identity.enforcement.opening import Opening
from agent_identity.enforcement.task import Task
from agent_identity.enforcement.wrap import guarded

__all__ = [
    "Action",
    "Call",
    "CallRequest",
    "Carried",
    "Enforcer",
    "GuardedCall",
    "Opening",
    "Peer",
    "Presentation",
    "Shown",
    "Task",
    "guarded",
    "register_agents",
]
