"""The shipped policy about information flow."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast, final

from agent_identity import canonical
from agent_identity._flow.destinations import is_empty, values_at
from agent_identity._flow.provenance import is_short
from agent_identity._flow.rules import FLOW_RULES, MODEL_KINDS, consequences, is_gated, may_be
from agent_identity._identity.common.encoding import digest_of
from agent_identity._policy.decision.decision import Decision, Effect, check_name
from agent_identity._policy.decision.request import FlowFacts, Request

_PUBLIC: Final = ("public",)
_MAX_DEPTH: Final = 64


@final
@dataclass(frozen=True, slots=True)
class Flow:
    """A policy that asks a person before content of others has consequences.

    Once a task has read input that is not trusted, a call of a tool with the label ``payment``, ``destructive``,
    ``egress`` or ``persists``, or with none of these labels, is routed, unless every argument that the tool declares as
    a destination has the value of something that the principal said or that a trusted input had; for ``persists`` every
    argument. Only ``labels=[]`` says that a tool has no consequences. Content
    that only some may read goes by ``egress`` to these alone. Combine it with rules of your own:
    ``All(Flow(), "policy.yaml")``.

    It does not see what a model concludes from a text (implicit flows), covert channels, or memory that an agent keeps
    outside guarded tools; and a person who approves everything is no check.

    Args:
        to: The name of the handler that asks; without a handler of this name such a call is refused.

    Raises:
        ValueError: The route is no name.
    """

    to: str = "person"

    def __post_init__(self) -> None:
        check_name(self.to, "a route")

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
        return _digest(self.to)

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
        if is_gated(tool.labels, flow.integrity, flow.destinations, flow.args, claimed):
            return self._decision(Effect.ROUTE, "policy_routes", _why(request, flow, claimed))
        if flow.readers != _PUBLIC and may_be("egress", consequences(tool.labels, claimed)) and _leaks(request, flow):
            return self._decision(Effect.ROUTE, "policy_routes", "the destination is not among the readers")
        return self._decision(Effect.ALLOW, "default")

    def _decision(self, effect: Effect, reason: str, why: str | None = None) -> Decision:
        return _decision(self.to, self.digest, effect, reason, why)


@lru_cache(maxsize=64)
def _digest(route: str) -> str:
    return digest_of(canonical.encode({"route": route, "rules": FLOW_RULES}))


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


def _why(request: Request, flow: FlowFacts, claimed: Iterable[str]) -> str:
    """Return why a call is routed: names of arguments, never values."""
    read = f"the task has read {flow.integrity} input"
    if not flow.destinations:
        return f"{read}, and the tool declares no destination"
    stores = may_be("persists", consequences(request.tool.labels, claimed))
    origins = {**flow.args, **flow.destinations} if stores else flow.destinations
    weak = sorted(name for name, of in origins.items() if of not in ("principal", "trusted") and name.isprintable())
    values = {name: values_at(request.arguments, name) for name in weak}
    empty = [name for name in weak if name in flow.destinations and any(map(is_empty, values[name]))]
    short = [name for name in weak if origins[name] == "unknown" and any(map(is_short, values[name]))]
    why = f"{read}, and no one trusted gave {', '.join(weak)[:128]}"
    if empty:
        return f"{why}; empty: {', '.join(empty)[:48]}"
    return f"{why}; too short to recognize: {', '.join(short)[:40]}" if short else why


def _leaks(request: Request, flow: FlowFacts) -> bool:
    """Return whether a destination is no one who may read what the task has seen."""
    readers = frozenset(flow.readers)
    texts = [text for name in flow.destinations for text in _texts(values_at(request.arguments, name), _MAX_DEPTH)]
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
        yield ""  # No reader: no one can tell who it is.
