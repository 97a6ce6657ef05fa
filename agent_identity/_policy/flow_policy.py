"""The shipped policy about information flow."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast, final

from agent_identity import canonical
from agent_identity._flow import FLOW_RULES, MODEL_KINDS, is_gated
from agent_identity._policy.decision import Decision, Effect, FlowFacts, Request, check_name

__all__ = ["Flow"]

_PUBLIC: Final = ("public",)
_MAX_DEPTH: Final = 64


@final
@dataclass(frozen=True, slots=True)
class Flow:
    """A policy that asks a person before content of others has consequences.

    Once a task has read input that is not trusted, a call of a tool with the label ``payment``, ``destructive``,
    ``egress`` or ``persists``, or of a tool whose labels nobody states, is routed, unless every argument that the tool
    declares as a destination has the value of something that the principal said or that a trusted input had. Content
    that only some may read goes by ``egress`` to these alone. Combine it with rules of your own:
    ``All(Flow(), "policy.yaml")``.

    It does not see what a model concludes from a text (implicit flows), covert channels, or memory that an agent keeps
    outside guarded tools; and a person who approves everything is no check.

    Args:
        route: The name of the handler that asks; without a handler of this name such a call is refused.

    Raises:
        ValueError: The route is no name.
    """

    route: str = "person"

    def __post_init__(self) -> None:
        check_name(self.route, "a route")

    @property
    def name(self) -> str:
        """The name of the policy."""
        return "flow"

    @property
    def version(self) -> str:
        """The version of its rules."""
        return FLOW_RULES

    @property
    def digest(self) -> str:
        """The digest of its description."""
        return _digest(self.route)

    @property
    def flow(self) -> bool:
        """True if the policy asks about information flow, so that the enforcer keeps marks."""
        return True

    def decide(self, request: Request) -> Decision:
        """Return the answer to a request."""
        flow, tool = request.flow, request.tool
        if request.stage != "call" or tool.kind in MODEL_KINDS:
            return self._decision(Effect.ALLOW, "default")
        if flow is None:
            return self._decision(Effect.BLOCK, "rule_error", "flow.integrity is missing")
        claimed = () if tool.claims is None else tool.claims.labels
        labels = None if tool.labels is None else (*tool.labels, *claimed)
        if is_gated(labels, flow.integrity, flow.destinations):
            return self._decision(Effect.ROUTE, "policy_routes", _why(flow))
        if flow.readers != _PUBLIC and (labels is None or "egress" in labels) and _leaks(request, flow):
            return self._decision(Effect.ROUTE, "policy_routes", "the destination is not among the readers")
        return self._decision(Effect.ALLOW, "default")

    def _decision(self, effect: Effect, reason: str, why: str | None = None) -> Decision:
        return _decision(self.route, self.digest, effect, reason, why)


@lru_cache(maxsize=64)
def _digest(route: str) -> str:
    return f"sha256:{hashlib.sha256(canonical.encode({'route': route, 'rules': FLOW_RULES})).hexdigest()}"


@lru_cache(maxsize=256)  # One object for equal decisions, of which records are made once.
def _decision(route: str, digest: str, effect: Effect, reason: str, why: str | None) -> Decision:
    return Decision(
        effect=effect,
        reason=reason,
        rule=None if why is None else "flow",
        why=why,
        route=route if effect is Effect.ROUTE else None,
        policy="flow",
        version=FLOW_RULES,
        digest=digest,
    )


def _why(flow: FlowFacts) -> str:
    """Return why a call is routed: names of arguments, never values."""
    weak = sorted(name for name, of in flow.destinations.items() if of not in ("principal", "trusted"))
    if not weak:
        return f"the task has read {flow.integrity} input, and the tool declares no destination"
    named = ", ".join(name for name in weak if name.isprintable())[:128]
    return f"the task has read {flow.integrity} input, and nobody trusted gave {named}"


def _leaks(request: Request, flow: FlowFacts) -> bool:
    """Return whether a destination is nobody who may read what the task has seen."""
    readers = frozenset(flow.readers)
    texts = [text for name in flow.destinations for text in _texts(request.arguments.get(name), _MAX_DEPTH)]
    return not texts or not readers.issuperset(texts)


def _texts(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, Mapping):
        for item in cast("Mapping[object, object]", value).values():
            yield from _texts(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in cast("list[object]", value):
            yield from _texts(item, depth - 1)
    else:
        yield ""  # No reader: nobody can tell who it is.
