"""Assembly of an enforcer: checks its options and parts, and makes those that follow from others."""

import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from agent_identity._authority.registries.agents import AgentRegistry
from agent_identity._authority.stores.protocol import StateStore
from agent_identity._authority.tokens.source import TokenSource
from agent_identity._directory.agents_file import registry_path
from agent_identity._directory.open import check_keys
from agent_identity._directory.options import Telemetry, Transparency
from agent_identity._guard.calls.approval_request import Approval
from agent_identity._guard.common.followed_trust import FollowedTrust
from agent_identity._guard.common.recorded_decisions import Mode, policy_state
from agent_identity._guard.judging.context import EnforcementContext
from agent_identity._guard.judging.span_facts import SpanOptions, captures_content
from agent_identity._guard.judging.tool_flow import DeclaredFlow
from agent_identity._guard.sessions.admission import Admission
from agent_identity._guard.tasks.task import TokenSupply
from agent_identity._guard.tasks.task_flow import Flows
from agent_identity._guard.telemetry.spans import Spans
from agent_identity._identity.common.clock import Clock
from agent_identity._identity.common.ids import Ids
from agent_identity._identity.common.names import check_id
from agent_identity._identity.common.tool_names import is_of_server, tool_name
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.ledger import Ledger
from agent_identity._ledger.transparency.publisher import Publisher
from agent_identity._policy.composed import asks_about_flow
from agent_identity._policy.decision.decision import check_labels
from agent_identity._policy.decision.request import Claims, Policy, Tool
from agent_identity._policy.decision.resources import Touch
from agent_identity._policy.rule_set import RuleSet
from agent_identity._record import schema as records
from agent_identity._record.digests import DigestKeys
from agent_identity._record.parts import Time
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

if TYPE_CHECKING:
    from agent_identity._directory.export.ledger_exporter import LedgerExporter

CALLS: Final = (
    *("__init__", "open", "tool", "task", "job", "delegate", "accept", "present"),
    *("revoke", "reinstate", "bind"),
)
"""The methods of an enforcer that check the types of what they get.

Others are called for each guarded call, or take the presentation of another process, which is refused on entry.
"""

CURES: Final = {
    "state": "make one of agent_identity.state: RedisState(url), PostgresState(conninfo) or SqliteState(path)",
    "durability": "write Durability(sync='disk'), of agent_identity.options",
    "privacy": "write Privacy(pseudonyms=True), of agent_identity.options",
    "telemetry": "write Telemetry(tracer_provider=...), of agent_identity.options",
    "transparency": "write Transparency(witnesses=...), of agent_identity.options",
    "sources": "write Sources(clock=...), of agent_identity.options",
}
"""The cure for each parameter that got another type."""

GUARDED: Final = "__agent_identity_guard__"
"""The attribute that marks a guarded function; whatever functools.wraps puts round one has it as well."""


def check_mode(mode: str) -> None:
    """Check the name of a mode.

    Raises:
        ConfigurationError: It is another word.
    """
    if mode not in ("enforce", "monitor"):
        raise ConfigurationError("unknown mode; use mode='enforce' or mode='monitor'")


def check_routes(routes: Mapping[str, Callable[..., object] | Approval] | None) -> None:
    """Check the handlers of routed calls: none is found missing when the first call needs it.

    Raises:
        TypeError: A name is no text, or a handler can neither be called nor ask a person.
    """
    for name, handler in (routes or {}).items():
        if type(name) is not str or not (isinstance(handler, Approval) or callable(handler)):
            raise TypeError(f"routes[{name!r}] is {type(handler).__name__}; give a name, and a function or an Approval")


def check_agents(agents: str | None) -> None:
    """Check the choice of agents.

    Raises:
        ConfigurationError: It is none of the words.
    """
    if agents not in ("any", "registered", None):
        raise ConfigurationError("unknown agents; use agents='any', agents='registered' or agents=None")


def check_parts(mode: str, issuer: Signer, recorder: Signer, trust: TrustStore, *, now: int) -> str:
    """Check that issuer, recorder and trust store fit together, and return the issuer's URI.

    Raises:
        ConfigurationError: They do not.
    """
    check_mode(mode)
    if trust.issuer is None or trust.get(issuer.public_key.thumbprint, "issuer") is None:
        raise ConfigurationError("the trust store lacks the issuer's URI or key; add them")
    if trust.get(recorder.public_key.thumbprint, "recorder") is None:
        raise ConfigurationError("the trust store lacks the recorder's key; add it")
    check_keys(issuer.public_key, recorder.public_key, trust, now)
    return trust.issuer


def registry_of(directory: str | os.PathLike[str], agents: str | None, trust: TrustStore) -> AgentRegistry | None:
    """Return the registry of agents of a directory, or ``None`` if it is not read.

    Raises:
        ConfigurationError: A required registry is not there.
        TokenError: The registry does not verify.
    """
    if agents is None:
        return None
    return AgentRegistry.load(registry_path(directory), trust, absent="refuse" if agents == "registered" else "empty")


def exporter_of(ledger: Ledger, otlp: str | None, recorder: Signer, trust: TrustStore) -> "LedgerExporter | None":
    """Return the exporter of a ledger to a receiver, if there is one.

    Raises:
        ConfigurationError: The address is unusable, or a library is missing.
    """
    if otlp is None:
        return None
    from agent_identity._directory.export.ledger_exporter import LedgerExport, LedgerExporter  # noqa: PLC0415  Loads HTTP and TLS.

    return LedgerExporter(LedgerExport(ledger.directory, otlp, signer=recorder, trust=trust, keys=ledger.keys))


def admission_of(
    enforcement: EnforcementContext, agents: AgentRegistry | None, unregistered: str, trust: FollowedTrust
) -> Admission | None:
    """Return the admission of agents by a registry, if there is one.

    Raises:
        ConfigurationError: The choice is none of the words.
    """
    if unregistered not in ("deny", "allow"):
        raise ConfigurationError("unknown unregistered; use unregistered='deny' or unregistered='allow'")
    return None if agents is None else Admission(enforcement, agents, required=unregistered == "deny", trust=trust)


def judge_of(policy: Policy | str | os.PathLike[str] | None) -> Policy | None:
    """Return a policy, loaded if it is a file, after a check that records can name it.

    Raises:
        ConfigurationError: They cannot.
        PolicyFormatError: The file is malformed.
    """
    judge = RuleSet.load(policy) if isinstance(policy, str | os.PathLike) else policy
    if judge is not None:
        policy_state(judge)
    return judge


def flows_of(
    policy: Policy | None, ledger: Ledger, digests: DigestKeys, clock: Clock, *, state: StateStore, mode: Mode
) -> Flows | None:
    """Return the marks of tasks, if the policy asks about information flow."""
    if not asks_about_flow(policy):
        return None
    return Flows(ledger, digests, clock, state, mode)


def check_declared(flow: object, spans: object) -> None:
    """Check the declared information flow of a tool, and its options for spans.

    Raises:
        TypeError: One of them is something else.
    """
    for name, value, kind in (("flow", flow, DeclaredFlow), ("spans", spans, SpanOptions)):
        if value is not None and type(value) is not kind:
            raise TypeError(f"{name} is {type(value).__name__}; give an agent_identity.adapters.{kind.__name__}")


def spans_of(recorder: Signer, telemetry: Telemetry) -> Spans:
    """Return the maker of spans, or only of their ids where an exporter sends them from the ledger."""
    provider = telemetry.tracer_provider
    ids_only = telemetry.otlp is not None and provider is None
    captures = captures_content()
    return Spans(recorder, provider, VERSION, ids_only=ids_only, mode=telemetry.spans, captures=captures)


def record_policy(ledger: Ledger, policy: Policy | None, clock: Clock) -> None:
    """Record the policy in force.

    Raises:
        EvidenceError: It could not be recorded.
    """
    if policy is None:
        return
    state = policy_state(policy)
    ledger.append(partial(records.Policy, time=Time.at(clock.wall_ns()), policy=state))


def tool_of(
    name: str,
    kind: str,
    server: str | None,
    labels: Sequence[str] | None,
    claims: Claims | None = None,
    *,
    touches: tuple[Touch, ...] = (),
) -> Tool:
    """Return a tool as policies and records know it.

    Raises:
        TypeError: The name, kind or server is no ``str``, or the labels are no list of texts.
        ValueError: It has not 1 to 256 visible characters, so that no record could hold it.
        ConfigurationError: The name does not begin with that of the server, or has a slash after it.
    """
    check_id(name, "the name of a tool")
    check_id(kind, "its kind")
    if server is not None:
        check_id(server, "its server")
        if not is_of_server(name, server):
            full = tool_name(server, name)
            raise ConfigurationError(f"the tool {name!r} of a server is named without it; name it {full!r}")
        if name[len(server)] == "/" and "/" in name[len(server) + 1 :]:
            raise ConfigurationError(
                f"the tool {name!r} has a slash in the name that its server {server!r} gives it, and could pass for a "
                "tool of another server; have the server name it with a dot or a hyphen"
            )
    return Tool(name, kind, server, check_labels(labels, "labels"), claims, touches)


def check_bare(function: object) -> Callable[..., object]:
    """Return a function that is not guarded yet.

    Raises:
        ConfigurationError: It is a method that is not bound to anything, or guarded.
        TypeError: It cannot be called.
    """
    if isinstance(function, staticmethod | classmethod | property):
        raise ConfigurationError("this is no function; put enforcer.tool below @staticmethod and the like")
    if not callable(function):
        raise TypeError(f"{type(function).__name__} cannot be called; guard a function")
    if hasattr(function, GUARDED):
        raise ConfigurationError("the function is guarded already; guard it once")
    return function


def parameters_of(function: Callable[..., object]) -> Collection[str] | None:
    """Return the names of a function's parameters; ``None`` if it takes any, or the signature is unknown."""
    names = parameter_names(function)
    return None if names is None or any(one.kind is one.VAR_KEYWORD for one in _parameters(function)) else names


def parameter_names(function: Callable[..., object]) -> list[str] | None:
    """Return the names that the signature of a function gives to arguments; ``None`` if it is unknown."""
    try:
        return [one.name for one in _parameters(function) if one.kind is not one.VAR_KEYWORD]
    except (TypeError, ValueError):
        return None


def _parameters(function: Callable[..., object]) -> Collection[inspect.Parameter]:
    return inspect.signature(function).parameters.values()


def marked(function: Callable[..., object]) -> Callable[..., object]:
    """Mark a function as guarded, and return it."""
    setattr(function, GUARDED, True)
    return function


def description_of(function: object) -> str | None:
    """Return the first paragraph of the documentation of a function; ``None`` if it has none."""
    text = inspect.getdoc(function)
    return None if text is None else text.partition("\n\n")[0]


def name_of(function: object) -> str:
    """Return the name of a function.

    Raises:
        ConfigurationError: It has none.
    """
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ConfigurationError("the function has no name; give one with enforcer.tool(name=...)")
    return name


def tokens_of(
    enforcement: EnforcementContext, source: TokenSource | None, ids: Ids
) -> Callable[[], TokenSupply] | None:
    """Return what makes the supply of tokens for other services, if there is a source."""
    if source is None:
        return None

    def supply() -> TokenSupply:
        from agent_identity._directory.tokens.task_tokens import TokenService  # noqa: PLC0415  Few tasks need tokens.

        return TokenService(enforcement, source, ids)

    return supply


def publishers_for(directory: str | os.PathLike[str], transparency: Transparency) -> tuple[Publisher, ...]:
    """Return the publishers for the checkpoints of a directory.

    Args:
        directory: The directory.
        transparency: The witnesses, and the functions that get each checkpoint.

    Raises:
        ConfigurationError: An address or a verifier key of a witness is malformed.
    """
    publishers = tuple(Publisher("the function of checkpoints=", function) for function in transparency.publish)
    witnesses = transparency.witnesses
    if not witnesses:
        return publishers
    from agent_identity._directory._witnesses import witnesses_for  # noqa: PLC0415  Few directories have witnesses.

    return (*publishers, *witnesses_for(directory, witnesses))
