"""Wrong types in every public call: our own error names the parameter."""

import collections.abc
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple

import pytest

from agent_identity import (
    Agent,
    Decision,
    Effect,
    Enforcer,
    Finding,
    Human,
    Rule,
    RuleSet,
    Scope,
    Service,
    Verifier,
    approvals,
    constraints,
    options,
    policy,
    state,
    testing,
    tokens,
)
from agent_identity import verify as verify_evidence
from agent_identity.delegation import Grants, Peer
from agent_identity.errors import AgentIdentityError
from agent_identity.identity import SigningKey, TrustStore
from agent_identity.limits import Limit

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
SCOPE = Scope("tool")
PUBLIC = ("", ".approvals", ".constraints", ".limits", ".options", ".policy", ".state", ".testing", ".tokens")
WRONG: tuple[object, ...] = (7, "text", b"bytes", object(), None, ["a", "list"], {"a": "mapping"})
"""What a caller may pass by mistake; which of it is wrong for a parameter, its annotation says."""


class Case(NamedTuple):
    """One public call, with arguments that are right."""

    call: Callable[..., Any]
    arguments: Mapping[str, object] = {}
    positional: tuple[str, ...] = ()


def cases(world: Any, folder: Path) -> dict[str, Case]:
    """Return every public call that takes arguments, by name."""
    enforcer: Enforcer = world.enforcer
    opening = {"principal": ALICE, "agent": CLERK, "scope": SCOPE}
    grant = {"purpose": "a purpose", **opening}
    rehearsal = testing.Rehearsal.open(folder / "rehearsal")
    rehearsal.close()
    svid = {"token": "a.b.c", "audience": "x"}
    oidc = {**svid, "jwks": {"keys": []}, "issuer": "https://i.example"}
    return {
        "Agent": Case(Agent, {"id": "clerk", "owner": "o"}),
        "Human": Case(Human, {"id": "alice"}),
        "Service": Case(Service, {"id": "billing"}),
        "Human.from_id_token": Case(Human.from_id_token, oidc),
        "Service.from_access_token": Case(Service.from_access_token, oidc),
        "Service.from_jwt_svid": Case(Service.from_jwt_svid, {**svid, "bundle": None}),
        "Service.from_x509_svid": Case(Service.from_x509_svid, {"chain_pem": "x", "bundle": None}),
        "Scope": Case(Scope, {"tools": "tool"}, ("tools",)),
        "Scope.check": Case(SCOPE.check, {"tool": "tool", "arguments": {}, "supplied": ()}),
        "Scope.check_attenuates": Case(SCOPE.check_attenuates, {"child": SCOPE}),
        "Scope.excess": Case(SCOPE.excess, {"other": SCOPE}),
        "Scope.__or__": Case(SCOPE.__or__, {"other": Scope("other")}),
        "Enforcer.open": Case(Enforcer.open, {"directory": folder / "opened"}),
        "Enforcer.task": Case(enforcer.task, grant),
        "Enforcer.job": Case(enforcer.job, {**grant, "to": SigningKey.generate().public_key}, ("purpose",)),
        "Enforcer.delegate": Case(enforcer.delegate, {"agent": CLERK, "scope": SCOPE}),
        "Enforcer.present": Case(enforcer.present, {"peer": Peer("there"), "tool": "tool", "arguments": {}}),
        "Task.export": Case(enforcer.current_task.export, {"audience": "there"}),
        "Enforcer.accept": Case(enforcer.accept, {"received": Grants(("a.b.c",))}),
        "Enforcer.guard": Case(enforcer.guard, {"name": "tool"}),
        "Enforcer.tool": Case(enforcer.tool, {"function": lambda: None}, ("function",)),
        "Enforcer.action": Case(enforcer.action, {"name": "tool"}, ("name",)),
        "Enforcer.revoke": Case(enforcer.revoke, {"what": "agent", "name": "x"}, ("what", "name")),
        "Enforcer.reinstate": Case(enforcer.reinstate, {"what": "agent", "name": "x"}, ("what", "name")),
        "Enforcer.bind": Case(enforcer.bind, {"function": lambda: None}),
        "Peer": Case(Peer, {"audience": "there"}),
        "Decision": Case(Decision, {"effect": Effect.ALLOW, "reason": "ok"}),
        "Touch": Case(policy.Touch, {"system": "file", "name": "x", "access": "read"}),
        "file_touches": Case(policy.file_touches, {"argument": "path", "access": "read"}, ("argument",)),
        "http_touches": Case(policy.http_touches, {"argument": "url"}, ("argument",)),
        "mcp_resource_touches": Case(policy.mcp_resource_touches, {"argument": "uri", "server": "files"}),
        "sql_touches": Case(policy.sql_touches, {"argument": "q", "system": "sqlite", "dialect": "sqlite"}),
        "vector_touches": Case(policy.vector_touches, {"argument": "name", "system": "qdrant"}),
        "mail_touches": Case(policy.mail_touches, {"arguments": "to"}, ("arguments",)),
        "Finding": Case(Finding, {"category": "a", "inspector": "b"}),
        "Flow": Case(policy.Flow, {}),
        "All": Case(policy.All, {}),
        "Obligation": Case(policy.Obligation, {"action": "redact"}, ("action",)),
        "Rule": Case(Rule, {"effect": Effect.BLOCK}),
        "RuleSet": Case(RuleSet),
        "RuleSet.load": Case(RuleSet.load, {"path": folder / "absent.yaml"}),
        "SigningKey.from_seed": Case(SigningKey.from_seed, {"seed": bytes(32)}),
        "SigningKey.load": Case(SigningKey.load, {"path": folder / "absent.pem"}),
        "TrustStore.load": Case(TrustStore.load, {"source": folder / "absent.json"}),
        "verify": Case(verify_evidence, {"source": world.directory}),
        "Verifier": Case(Verifier),
        "Verifier.ledger": Case(Verifier().ledger, {"path": world.directory}),
        "Verifier.traces": Case(Verifier().traces),
        "Verifier.pasted": Case(Verifier().pasted),
        "Verifier.proof": Case(Verifier().proof, {"proof": b"x"}),
        "Verifier.disclosure": Case(Verifier().disclosure, {"disclosure": b"x"}),
        "Durability": Case(options.Durability),
        "Segments": Case(options.Segments),
        "Privacy": Case(options.Privacy),
        "Sources": Case(options.Sources),
        "Telemetry": Case(options.Telemetry),
        "Transparency": Case(options.Transparency),
        "ToolOptions": Case(options.ToolOptions),
        "Limit.uses": Case(Limit.uses, {"tool": "tool", "most": 1}),
        "Limit.sum": Case(Limit.sum, {"tool": "tool", "argument": "x", "most": 1}),
        "Limit.rate": Case(Limit.rate, {"tool": "tool", "most": 1, "per": timedelta(minutes=1)}),
        "Approval": Case(approvals.Approval),
        "Approvers": Case(approvals.Approvers),
        "ask_in_the_terminal": Case(approvals.ask_in_the_terminal, {"by": ALICE}),
        "Approvals.approve": Case(enforcer.approvals.approve, {"request": "id", "by": ALICE}, ("request",)),
        "Approvals.reject": Case(enforcer.approvals.reject, {"request": "id", "by": ALICE}, ("request",)),
        "PathWithin": Case(constraints.PathWithin, {"root": "/data"}),
        "UrlWithin": Case(constraints.UrlWithin, {"prefix": "https://a.example/"}),
        "Prefix": Case(constraints.Prefix, {"text": "a"}),
        "Range": Case(constraints.Range, {"min": 1, "max": 2}),
        "MemoryState": Case(state.MemoryState),
        "SqliteState": Case(state.SqliteState, {"path": folder / "state.sqlite"}),
        "RedisState": Case(state.RedisState, {"url": "redis://localhost:1/0"}),
        "PostgresState": Case(state.PostgresState, {"conninfo": "host=localhost port=1"}),
        "FixedClock": Case(testing.FixedClock),
        "FixedClock.advance": Case(testing.FixedClock().advance, {"seconds": 1.0}),
        "FixedClock.set_wall": Case(testing.FixedClock().set_wall, {"wall_ns": 1}),
        "SequentialIds.new": Case(testing.SequentialIds().new, {"now_ns": 1}),
        "Records": Case(testing.Records, {"directory": world.directory}),
        "Records.calls": Case(testing.Records(world.directory).calls),
        "Records.assert_denied": Case(testing.Records(world.directory).assert_denied, {"code": "x"}),
        "Records.assert_attributed": Case(
            testing.Records(world.directory).assert_attributed, {"principal": ALICE, "agent": CLERK}
        ),
        "Rehearsal.open": Case(testing.Rehearsal.open, {"directory": folder / "r2"}),
        "JwtKey.generate": Case(tokens.JwtKey.generate),
        "JwtKey.load": Case(tokens.JwtKey.load, {"path": folder / "absent.pem"}),
        "IssuedToken": Case(tokens.IssuedToken, {"value": "abc", "expires_at": 1}),
        "LocalTokens": Case(tokens.LocalTokens, {"signer": SigningKey.generate(), "issuer": "https://i.example"}),
        "TokenExchange": Case(
            tokens.TokenExchange,
            {
                "endpoint": "https://i.example/token",
                "client_id": "x",
                "subject_token": lambda grant: "t",
                "client_secret": "s",
            },
        ),
        "HttpTransport": Case(tokens.HttpTransport),
    }


LEFT_OPEN: Mapping[str, str] = {
    "Scope.check": "made for each guarded call, by the guard",
    "Decision.digest": "made for each guarded call; the guard takes an unsound one for a failure of the policy",
    "Decision.obligations": "as above",
    "Decision.policy": "as above",
    "Decision.rule": "as above",
    "Decision.version": "as above",
    "Decision.warnings": "as above",
    "Enforcer.guard.claims": "as above",
}
"""What is not checked where it enters, and why."""

NAMED: Mapping[str, str] = {
    "Decision.why": "reason",
    "Range.max": "bound",
    "Range.min": "bound",
    "Scope.__or__.other": "other",
}
"""Parameters that an error calls by another word than their name."""

NOT_CALLED = frozenset(
    {
        *("AgentIdentityError", "ConfigurationError", "Denied", "EvidenceError"),  # Raised by us.
        *("Effect", "Inspector", "Policy", "Constraint", "StateStore", "JwtSigner", "TokenSource", "Transport"),
        *("Rehearse", "Restores", "Returns", "Touches"),  # Words and protocols, which nobody calls.
        *(
            "Grant",
            "Report",
            "Task",
            "Request",
            "FlowFacts",
            "Content",
            "Tool",
            "Debit",
            "Answer",
            "ApprovalRequest",
            "Approvals",
        ),
        *("instrument", "uninstrument"),  # They patch the process: see test_instrumentation.py.
        *("DigestKeys", "Ledger"),  # Parts of an enforcer, which check what they get themselves.
        *("Claims", "DownstreamToken", "Reply", "RecordedCall", "TokenOrder"),  # Made by us, and handed to users.
        *(
            "AllOf",
            "AnyOf",
            "Contains",
            "EmailDomain",
            "NotOneOf",
            "OneOf",
            "Subset",
        ),  # Take values, in tests of theirs.
        *("Exact", "IfGiven", "Wildcard", "ScriptedAgent", "SequentialIds"),
    }
)


def _fits(value: object, hint: object) -> bool:  # noqa: PLR0911  A table of annotations.
    """Tell whether a value is right for an annotation; where that says too little, so is everything."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, UnionType):
        return any(_fits(value, arm) for arm in typing.get_args(hint))
    if origin is Literal:
        return type(value) in {type(word) for word in typing.get_args(hint)}
    kind = origin or hint
    if hint is None or kind is type(None):
        return value is None
    if kind is collections.abc.Callable:
        return callable(value)
    if not isinstance(kind, type) or kind is object or kind.__module__ == "typing":
        return True
    if kind in (int, float):
        return isinstance(value, kind | int) and not isinstance(value, bool)
    try:
        return isinstance(value, kind)
    except TypeError:
        return False


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    function = call.__init__ if inspect.isclass(call) else call  # type: ignore[misc]
    function = inspect.unwrap(getattr(function, "__func__", function))
    try:
        return typing.get_type_hints(function)
    except NameError:  # Some are imported for type checkers only.
        return {}


def wrong(call: Callable[..., Any]) -> Iterator[tuple[str, object]]:
    """Yield each parameter of a call with each value that is wrong for it."""
    hints = _hints(call)
    for name, parameter in inspect.signature(call).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        for value in WRONG:
            hint = hints.get(name, object)
            many = typing.get_origin(hint) in (
                collections.abc.Sequence,
                collections.abc.Iterable,
                collections.abc.Collection,
            )
            if (many and isinstance(value, str | bytes)) or not _fits(value, hint):
                yield name, value


@pytest.fixture
def table(world: Any, tmp_path: Path) -> Iterator[dict[str, Case]]:
    with world.task(SCOPE):
        yield cases(world, tmp_path)


def test_a_wrong_type_is_refused_by_name_in_every_public_call(table: dict[str, Case]) -> None:
    """Each parameter of each public call refuses each wrong type by an error of ours that names it."""
    slips: list[str] = []
    tried = 0
    for name, case in table.items():
        for parameter, value in wrong(case.call):
            place = f"{name}.{parameter}"
            if name in LEFT_OPEN or place in LEFT_OPEN:
                continue
            tried += 1
            arguments = {**case.arguments, parameter: value}
            positional = [arguments.pop(key) for key in case.positional if key in arguments]
            try:
                case.call(*positional, **arguments)
            except (TypeError, ValueError, AgentIdentityError) as error:
                if NAMED.get(place, parameter).lower() not in str(error).lower():
                    slips.append(f"{place}={value!r}: {error}")
            except Exception as error:  # noqa: BLE001  It is what must not come.
                slips.append(f"{place}={value!r}: {error!r}")
            else:
                slips.append(f"{place}={value!r}: no error")
    assert slips == [], "\n".join(slips)
    assert tried > 600


def test_the_table_has_every_public_call(table: dict[str, Case]) -> None:
    """A public name that is new needs a row, or a reason why nobody calls it."""
    names = {name for module in PUBLIC for name in importlib.import_module(f"agent_identity{module}").__all__}
    called = {name.partition(".")[0] for name in table}
    assert names - called - NOT_CALLED == set()
    methods = {f"Enforcer.{name}" for name in vars(Enforcer) if not name.startswith("_")}
    bare = {
        "close",
        "no_task",
        "current_task",
        "mode",
        "clock",
        "inventory",
        "revocations",
        "approvals",
        "degraded",
        "probe",
    }
    bare |= {"after_fork_in_child"}
    bare |= {"receive"}  # What it takes comes from another process: see test_crossing.py.
    assert methods - table.keys() == {f"Enforcer.{name}" for name in bare}


def test_a_lifetime_says_what_is_expected(world: Any) -> None:
    """The error of a number of seconds says what to write."""
    with world.task(SCOPE) as task:
        pass
    for call in (
        lambda: world.task(SCOPE, ttl=60),
        lambda: world.enforcer.delegate(CLERK, scope=SCOPE, ttl=60),
        lambda: task.export(ttl=60),
        lambda: approvals.Approvers(ttl=60),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value).startswith("ttl is 60; give a datetime.timedelta, for example timedelta(seconds=60)")


def test_no_error_of_a_wrong_type_shows_a_text(world: Any) -> None:
    """A text in the wrong place may be a secret, so the error names its class alone."""
    with pytest.raises(TypeError) as caught:
        Enforcer.open(world.directory, state="redis://user:canary@host")  # type: ignore[arg-type]
    assert "canary" not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        world.task("canary")
    assert "canary" not in str(caught.value)


def test_what_a_list_holds_is_checked_as_well(world: Any) -> None:
    """The error says which element is wrong."""
    with pytest.raises(TypeError, match=r"limits\[1\] is 7; give Limit"):
        world.task(SCOPE, limits=[Limit.uses("tool", 1), 7])
    with pytest.raises(TypeError, match=r"roles\[0\] is 7"):
        approvals.Approvers(roles=(7,))  # type: ignore[arg-type]
