"""The public surface, as data: adding a name here is a decision."""

import copy
import importlib
import inspect
import logging
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import agent_identity
from agent_identity import Enforcer, Report, Task, Verifier, options, verify

ROOT_NAMES = (
    "Agent",
    "AgentIdentityError",
    "ConfigurationError",
    "Decision",
    "Denied",
    "Effect",
    "Enforcer",
    "EvidenceError",
    "Finding",
    "Grant",
    "Human",
    "Inspector",
    "Policy",
    "Report",
    "Request",
    "Rule",
    "RuleSet",
    "Scope",
    "Service",
    "Task",
    "Verifier",
    "instrument",
    "uninstrument",
    "verify",
)
PUBLIC = {
    "adapters": "Acting Binder Call CallRequest Declared DeclaredFlow Definition GuardedCall Observation Opening Part "
    "Prompt Shown ToolCall ToolGuards account bind_stream check_id check_task claims_from dressed "
    "error_type failure form_bytes guard_failed guard_of guarded is_accounted join_prompt nature_of off_loop "
    "read_public_file read_thread refusal renewed_in_children resume_run resumed run_began safe_message "
    "saw_calls shown task_in tool_name traceparent",
    "answers": "Evidence Seed controls coverage data incident inventory overview plain scope",
    "approvals": "Answer Approval ApprovalRequest Approvers ask_in_the_terminal",
    "audit": "Executor TimestampFolder disclose export export_tables named_queries prove prove_growth query_tables "
    "story",
    "canonical": "JSON MAX_DEPTH decode encode",
    "constraints": "AllOf AnyOf Contains EmailDomain Exact IfGiven NotOneOf OneOf PathWithin Prefix Range Subset "
    "UrlWithin Wildcard",
    "delegation": "DelegationBundle Grants Peer Presentation",
    "errors": "AgentIdentityError AttenuationError ConfigurationError ContentBlocked Denied EvidenceError "
    "ExchangeError GrantExpired LimitExceeded NoTask OutOfScope PolicyBlocked PolicyFormatError Routed "
    "StateError TokenError VerificationError",
    "identity": "AgentRegistry Approver Certificate Clock FileVersion JwksSource KeySet Principal PublicKey RandomIds "
    "Registration Signer SigningKey SocketSigner SpiffeBundle SystemClock TrustStore TrustedKey Witnesses "
    "appended certified merged read_inbound register_agents signed_trust trust_conflicts",
    "inspection": "Canaries Classifier HiddenText HttpModel InjectionHints Label Markers Match PersonalData "
    "Progress Secrets Selected TextInspector Urls Windows",
    "limits": "Limit",
    "options": "DigestKeys Durability Ledger Privacy Restores Returns Segments Sources Telemetry ToolOptions "
    "Touches Transparency",
    "policy": "All Claims Content Flow FlowFacts Obligation Tool Touch file_touches http_touches mail_touches "
    "mcp_resource_touches sql_touches vector_touches",
    "records": "AnyRecord Approval Erasure Examination Grant Intent Mark Model Outcome Policy Recovered Registration "
    "Revocation StreamEnd StreamStart TaskEnd TaskStart Trust as_dict decode encode json_schema read "
    "read_lines",
    "state": "Debit MemoryState PostgresState RedisState SqliteState StateStore",
    "telemetry": "AgentIdentitySpanProcessor measure stamp_spans",
    "testing": "FixedClock Records Rehearsal Rehearse ScriptedAgent SequentialIds",
    "tokens": "DownstreamToken HttpTransport IssuedToken JwtKey LocalTokens Reply TokenExchange TokenSource Transport",
}
"""The names of each public module."""

SIGNATURES = {
    Enforcer.open: "directory, *, policy=None, inspectors=(), routes=None, agents='any', mode='enforce', nested=(), "
    "state=None, keys=None, trust_root=None, durability=Durability(), privacy=Privacy(), telemetry=Telemetry(), "
    "transparency=Transparency(), tokens=None, sources=Sources()",
    Enforcer: "*, keys, trust, ledger, digests, policy=None, inspectors=(), routes=None, agents=None, "
    "unregistered='deny', mode='enforce', nested=(), state=None, privacy=Privacy(), telemetry=Telemetry(), "
    "tokens=None, sources=Sources()",
    Enforcer.task: "self, purpose, *, principal, agent, scope, ttl=0:05:00, max_depth=3, limits=(), request=None",
    Enforcer.job: "self, purpose, *, principal, agent, scope, to, audience=None, ttl=0:05:00, limits=(), request=None",
    Enforcer.delegate: "self, agent, *, scope, purpose=None, ttl=None, isolated=False",
    Enforcer.accept: "self, received, *, holder=None, audience=None, purpose=None, once=False",
    Enforcer.present: "self, peer, *, tool, arguments",
    Enforcer.receive: "self, presentation, *, tool, arguments, audience, holder=None, agent=None, purpose=None, "
    "traceparent=None",
    Enforcer.tool: "self, function=None, /, *, name=None, data=None, kind='function', labels=None, lazy=None, "
    "touches=None, returns=None, destination=None, endorses=False, restores=None, content_on_spans=None",
    Enforcer.guard: "self, name, *, kind='function', server=None, labels=None, data=None, claims=None, lazy=None, "
    "suspends=(), returns=(), place=None, touches=None, workflow=None, thread=None, flow=None, "
    "spans=None",
    Task.export: "self, *, to=None, audience=None, agent=None, scope=None, ttl=None",
    Task.token: "self, *, audience, resource=None, scope=None",
    Verifier: "trust=None, *, processes=1, witnesses=(), require=None, timestamps=None, progress=None",
    Verifier.ledger: "self, path, *, checkpoint=None, archive=None, period=None, disclosures=()",
    Verifier.traces: "self, *paths, ledger=None, redacted=(), disclosures=()",
    Verifier.pasted: "self, *shown, ledger=None, redacted=(), disclosures=()",
    Verifier.proof: "self, proof, *, record=None, checkpoint=None",
    Verifier.disclosure: "self, disclosure, *, ledger=None, proof=None, spans=None",
    Report.raise_for_status: "self",
    verify: "source, trust=None",
    options.Durability: "*, sync='process', segments=<factory>",
    options.Segments: "*, max_bytes=67108864, max_seconds=86400.0, compression='gzip'",
    options.Privacy: "*, disclosable=False, pseudonyms=False",
    options.Sources: "*, clock=None, ids=None, new_key=generate",
    options.Telemetry: "*, tracer_provider=None, spans='auto', sealing='background', otlp=None, on_record=()",
    options.Transparency: "*, witnesses=<factory>, checkpoints=(), certifier=None, workload_token=None, "
    "certifier_seconds=5.0, uncertified='allow'",
    options.ToolOptions: "*, labels=None, data=None, lazy=None, touches=None, returns=None, destination=None, "
    "endorses=False, restores=None, content_on_spans=None",
}
"""The parameters of the calls that programs are made of, with their defaults."""

FRAMEWORKS = ("agent_identity.integrations.",)  # Importing one needs its framework; their own tests do.


def _modules() -> Iterator[str]:
    yield "agent_identity"
    for module in pkgutil.walk_packages(agent_identity.__path__, "agent_identity."):
        if not module.name.startswith(FRAMEWORKS) and not module.name.endswith("__main__"):
            yield module.name


MODULES = sorted(_modules())


def test_the_root_exports_exactly_the_agreed_names() -> None:
    """No name comes to the root or leaves it by accident."""
    assert tuple(agent_identity.__all__) == ROOT_NAMES


def test_the_root_stays_small() -> None:
    """At most 24 names."""
    assert len(ROOT_NAMES) <= 24


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_exports_exactly_the_agreed_names(module: str) -> None:
    """No name comes to a public module or leaves it by accident."""
    exported = importlib.import_module(f"agent_identity.{module}").__all__
    assert list(exported) == PUBLIC[module].split()


@pytest.mark.parametrize("call", SIGNATURES, ids=lambda call: call.__qualname__)
def test_a_public_call_has_exactly_the_agreed_parameters(call: Callable[..., object]) -> None:
    """No parameter, kind or default changes by accident."""
    assert _parameters(call) == SIGNATURES[call]


def _parameters(call: Callable[..., object]) -> str:
    """Return the parameters as they are written, with defaults of option objects by their class."""
    parameters = [
        parameter.replace(annotation=parameter.empty, default=_Shown(parameter.default))
        for parameter in inspect.signature(call).parameters.values()
    ]
    return str(inspect.Signature(parameters))[1:-1]


class _Shown:
    """A default, shown as a reader would write it."""

    def __new__(cls, value: object) -> Any:
        """Return the mark of no default as it is."""
        return value if value is inspect.Parameter.empty else super().__new__(cls)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        value = self.value
        if type(value).__module__.startswith("agent_identity"):
            assert value == type(value)()
            return f"{type(value).__name__}()"
        if isinstance(value, timedelta):
            return str(value)
        return getattr(value, "__name__", repr(value))


def test_the_root_lists_what_it_offers() -> None:
    """Completion in an interpreter finds the lazy names, and another name fails as it does in any module."""
    assert set(ROOT_NAMES) <= set(dir(agent_identity))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = agent_identity.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("module", MODULES)
def test_what_a_module_exports_exists(module: str) -> None:
    """Every name in ``__all__`` is there, and is named once."""
    loaded = importlib.import_module(module)
    names = list(getattr(loaded, "__all__", ()))
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_and_function_says_what_it_is(module: str) -> None:
    """Whatever a module exports and defines itself has a docstring."""
    loaded = importlib.import_module(module)
    named = {name: getattr(loaded, name) for name in getattr(loaded, "__all__", ())} | vars(loaded)
    exported = [thing for name, thing in named.items() if not name.startswith("_")]
    ours = [thing for thing in exported if str(getattr(thing, "__module__", "")).startswith("agent_identity")]
    assert [thing for thing in ours if callable(thing) and not thing.__doc__] == []


OPTIONS = (
    options.Durability(sync="disk", segments=options.Segments(max_seconds=60)),
    options.Privacy(disclosable=True),
    options.Telemetry(spans="own", on_record=len),
    options.ToolOptions(labels=["payment"], destination="to", returns={"": "trusted", "/note": "untrusted"}),
    options.Transparency(witnesses={"https://witness.example.com/": "key"}, checkpoints=[len]),
    Verifier("trust.json", witnesses=["key"], require=1),
)


@pytest.mark.parametrize("value", OPTIONS, ids=lambda value: type(value).__name__)
def test_options_are_values(value: object) -> None:
    """Equal ones are equal after a copy and after a way to another process, and have one hash."""
    for again in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):  # noqa: S301  We wrote it.
        assert again == value
        assert hash(again) == hash(value)


def test_loggers_are_named_like_the_package() -> None:
    """Names of loggers are what operators configure, and say nothing about inner modules."""
    importlib.import_module("agent_identity._ledger.ledger")
    names = {name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "agent_identity"}
    assert "agent_identity.evidence" in names
    assert not [name for name in names if "._" in name]
