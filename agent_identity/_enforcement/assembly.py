"""Whether what an enforcer is put together from fits together, and the parts that follow from others."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from opentelemetry.trace import TracerProvider

from agent_identity._authority.registries import AgentRegistry
from agent_identity._authority.stores import StateStore
from agent_identity._enforcement.calls import Approval, policy_state
from agent_identity._enforcement.directory import Directory, check_keys, registry_path
from agent_identity._enforcement.guard import EnforcementContext
from agent_identity._enforcement.sessions import Admission
from agent_identity._enforcement.telemetry import SpanMode, Spans
from agent_identity._evidence.ledger import Ledger, OnRecord
from agent_identity._evidence.record import Pseudonyms, Time
from agent_identity._evidence.record import schema as records
from agent_identity._identity.common import Clock, check_id
from agent_identity._identity.keys import PublicKey, Signer
from agent_identity._identity.trust import TrustStore
from agent_identity._policy import RuleSet
from agent_identity._policy.decision import Claims, Policy, Tool, Touches, check_labels, check_touches
from agent_identity.errors import ConfigurationError
from agent_identity.version import VERSION

if TYPE_CHECKING:
    from agent_identity._enforcement.export import LedgerExporter

__all__ = [
    "CALLS",
    "STORES",
    "admission_of",
    "check_bare",
    "check_choices",
    "check_labels",
    "check_parts",
    "check_privacy",
    "check_state",
    "exporter_of",
    "judge_of",
    "marked",
    "name_of",
    "observers_of",
    "record_policy",
    "registry_of",
    "spans_of",
    "tool_of",
    "trusted_here",
]


CALLS: Final = (*("open", "tool", "task", "delegate", "present", "carry", "revoke", "reinstate", "bind"),)
"""The methods of an enforcer that check the types of what they get.

Others are called for each guarded call, or take what comes from another process, which is refused on entry.
"""

STORES: Final = "make one of agent_identity.state: RedisState(url), PostgresState(conninfo) or SqliteState(path)"

GUARDED: Final = "__agent_identity_guard__"
"""The attribute that marks a guarded function; whatever functools.wraps puts round one has it as well."""


def trusted_here(trust: TrustStore, clock: Clock) -> tuple[TrustStore, Callable[[str], PublicKey]]:
    """Return the trust store as it is for the log here, and what finds the issuer key of a thumbprint that counts now.

    Certified issuers count as far as a root certified them that may certify for this log.
    """
    own = trust if trust.origin is None else trust.of_log(trust.origin)
    return own, lambda thumbprint: own.find(thumbprint, "issuer", at=clock.wall_ns() // 1_000_000_000)


def check_parts(mode: str, sealing: str, issuer: Signer, recorder: Signer, trust: TrustStore, *, now: int) -> str:
    """Check that the parts fit together and return the issuer's URI.

    Raises:
        ConfigurationError: They do not.
    """
    check_choices(mode, sealing)
    if trust.issuer is None or trust.get(issuer.public_key.thumbprint, "issuer") is None:
        raise ConfigurationError("expected the issuer's URI and key in the trust store; add them to it")
    if trust.get(recorder.public_key.thumbprint, "recorder") is None:
        raise ConfigurationError("expected the recorder's key in the trust store; add it to it")
    check_keys(issuer.public_key, recorder.public_key, trust, now)
    return trust.issuer


def check_choices(mode: str, sealing: str, spans: str = "auto") -> None:
    """Check the choices that are words.

    Raises:
        ConfigurationError: One is none of the words.
    """
    if mode not in ("enforce", "monitor"):
        raise ConfigurationError("expected mode='enforce' or mode='monitor'")
    if sealing not in ("background", "inline"):
        raise ConfigurationError("expected sealing='background' or sealing='inline'")
    if spans not in ("auto", "own", "enrich"):
        raise ConfigurationError("expected spans='auto', spans='own' or spans='enrich'")


def check_privacy(routes: Mapping[str, object], *, disclosable: bool, pseudonyms: Pseudonyms | None) -> None:
    """Check that no approval is asked for under digests or names that its ruling does not have.

    Raises:
        ConfigurationError: A route asks a person, and arguments are disclosable or principals have pseudonyms.
    """
    if (disclosable or pseudonyms is not None) and any(isinstance(route, Approval) for route in routes.values()):
        raise ConfigurationError(
            "expected approvals without disclosable arguments and without pseudonyms, got both; rulings name the "
            "principal and the whole arguments, so leave one of the two out"
        )


def check_state(state: object) -> None:
    """Check that what is to hold shared state can be asked; the message does not show an address, which holds secrets.

    Raises:
        TypeError: It cannot.
    """
    steps = [name for name in vars(StateStore) if not name.startswith("_")]
    missing = [name for name in steps if isinstance(state, type) or not callable(getattr(state, name, None))]
    if state is not None and missing:
        raise TypeError(
            f"expected state to be a StateStore, got {type(state).__name__} without {', '.join(missing)}; {STORES}"
        )


def registry_of(directory: str | os.PathLike[str], agents: str | None, trust: TrustStore) -> AgentRegistry | None:
    """Return the registry of agents of a directory, if it is to be read.

    Raises:
        ConfigurationError: The choice is none of the words, or a required registry is not there.
        TokenError: The registry does not verify.
    """
    if agents not in ("required", "optional", None):
        raise ConfigurationError("expected agents='required', agents='optional' or agents=None")
    if agents is None:
        return None
    return AgentRegistry.load(registry_path(directory), trust, absent="refuse" if agents == "required" else "empty")


def exporter_of(directory: str | os.PathLike[str], otlp: str, found: Directory) -> "LedgerExporter":
    """Return what sends copies from the ledger of a directory to a receiver."""
    from agent_identity._enforcement.export import LedgerExport, LedgerExporter  # noqa: PLC0415  Loads HTTP and TLS.

    return LedgerExporter(LedgerExport(directory, otlp, signer=found.recorder, trust=found.trust))


def admission_of(point: EnforcementContext, agents: AgentRegistry | None, unregistered: str) -> Admission | None:
    """Return what admits agents, if a registry says which.

    Raises:
        ConfigurationError: The choice is none of the words.
    """
    if unregistered not in ("deny", "allow"):
        raise ConfigurationError("expected unregistered='deny' or unregistered='allow'")
    return None if agents is None else Admission(point, agents, required=unregistered == "deny")


def judge_of(policy: Policy | str | os.PathLike[str] | None) -> Policy | None:
    """Return the policy, or that of a file, once it is known that records can name it.

    Raises:
        ConfigurationError: They cannot.
        PolicyFormatError: The file is malformed.
    """
    judge = RuleSet.load(policy) if isinstance(policy, str | os.PathLike) else policy
    if judge is not None:
        policy_state(judge)
    return judge


def spans_of(
    recorder: Signer, provider: TracerProvider | None, exporter: "LedgerExporter | None", mode: SpanMode
) -> Spans:
    """Return what makes spans, or only their ids where an exporter sends them from the ledger.

    Raises:
        ConfigurationError: The mode is none of the words.
    """
    check_choices("enforce", "inline", mode)
    return Spans(recorder, provider, VERSION, ids_only=exporter is not None and provider is None, mode=mode)


def observers_of(on_record: OnRecord | Sequence[OnRecord]) -> Sequence[OnRecord]:
    """Return the functions that are called with each record.

    Raises:
        TypeError: One is no function, or a coroutine function.
    """
    found = (on_record,) if callable(on_record) else tuple(on_record)
    if not all(map(callable, found)):
        raise TypeError("expected on_record as a function of a record, or several in a list")
    if any(_is_async(function) or _is_async(type(function).__call__) for function in found):
        raise TypeError(
            "expected on_record as a plain function, got a coroutine function; the sealing thread awaits nothing: "
            "pass a function that hands the record to your event loop"
        )
    return found


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def record_policy(ledger: Ledger, policy: Policy | None, clock: Clock) -> None:
    """Record which policy is in force.

    Raises:
        EvidenceError: It could not be recorded.
    """
    if policy is None:
        return
    state = policy_state(policy, drafts=ledger.drafts)
    ledger.append(partial(records.Policy, time=Time.at(clock.wall_ns()), policy=state))


def tool_of(
    name: str,
    kind: str,
    server: str | None,
    labels: Sequence[str] | None,
    claims: Claims | None = None,
    *,
    touches: Touches | None = None,
) -> Tool:
    """Return a tool as policies and records know it.

    Raises:
        TypeError: The name, kind or server is no ``str``, the labels are no list of texts, or what it touches is no
            :class:`~agent_identity.policy.Touch`.
        ValueError: It has not 1 to 256 visible characters, so that no record could hold it.
    """
    check_id(name, "the name of a tool")
    check_id(kind, "its kind")
    if server is not None:
        check_id(server, "its server")
    return Tool(name, kind, server, check_labels(labels, "labels"), claims, check_touches(touches))


def check_bare(function: object) -> Callable[..., object]:
    """Return what is to be guarded, if it is a function and is not guarded yet.

    Raises:
        ConfigurationError: It is a method that is not bound to anything, or guarded.
        TypeError: It cannot be called.
    """
    if isinstance(function, staticmethod | classmethod | property):
        raise ConfigurationError("expected a function; put enforcer.tool below @staticmethod and the like")
    if not callable(function):
        raise TypeError(f"expected a function to guard, got {type(function).__name__}")
    if hasattr(function, GUARDED):
        raise ConfigurationError("expected an unguarded function, got a guarded one; guard it once")
    return function


def marked(function: Callable[..., object]) -> Callable[..., object]:
    """Return a function that is guarded now, with the mark of that."""
    setattr(function, GUARDED, True)
    return function


def name_of(function: object) -> str:
    """Return the name of a function.

    Raises:
        ConfigurationError: It has none.
    """
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise ConfigurationError("expected a function with a name; give one with enforcer.tool(name=...)")
    return name
