"""Public API for the constraints of a scope on the arguments of a tool.

>>> from agent_identity import Scope
>>> from agent_identity.constraints import PathWithin, Range
>>> scope = Scope("pay", amount=Range(min=0, max=100)) | Scope("read_file", path=PathWithin("/data"))
"""

from agent_identity._constraints.combinators import AllOf, AnyOf
from agent_identity._constraints.literals import Contains, Exact, NotOneOf, OneOf, Range, Subset, Wildcard
from agent_identity._constraints.locations import EmailDomain, PathWithin, Prefix, UrlWithin
from agent_identity._constraints.optional import IfGiven

__all__ = [
    "AllOf",
    "AnyOf",
    "Contains",
    "EmailDomain",
    "Exact",
    "IfGiven",
    "NotOneOf",
    "OneOf",
    "PathWithin",
    "Prefix",
    "Range",
    "Subset",
    "UrlWithin",
    "Wildcard",
]
