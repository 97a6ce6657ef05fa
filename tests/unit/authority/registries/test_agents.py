"""The registry of agents: complete or not at all, its history cannot be changed, and maxima are not exceeded."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Scope
from agent_identity._authority.registries.agents import HEAD_TYPE, MAX_REGISTRY, REGISTRATION_TYPE
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._identity.keys.jws import sign_compact
from agent_identity.canonical import decode
from agent_identity.constraints import IfGiven, OneOf, Range, Wildcard
from agent_identity.errors import ConfigurationError, Denied, OutOfScope, TokenError
from agent_identity.identity import AgentRegistry, Registration, SigningKey, TrustStore, appended

NOW = 1_764_000_000
ISSUER = SigningKey.from_seed(b"\x01" * 32)
URI = "https://issuer.example.com"
TRUST = TrustStore((), issuer=URI).with_key(ISSUER.public_key, "issuer")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
MAXIMUM = Scope("pay", amount=Range(max=100), currency=Wildcard()) | Scope("list")


def registration(agent: Agent = CLERK, **more: Any) -> Registration:
    given = {"purpose": "pay invoices", "maximum": MAXIMUM, "expires_at": NOW + 1000, **more}
    return Registration(agent, **given)


def content(*registrations: Registration, data: bytes = b"") -> bytes:
    return appended(data, registrations, signer=ISSUER, trust=TRUST, now=NOW)


def registry(*registrations: Registration) -> AgentRegistry:
    return AgentRegistry.from_bytes(content(*registrations), TRUST)


def agent(number: int) -> Agent:
    return Agent(f"agent-{number}", owner="it@example.com")


FULL = content(
    registration(),
    *(registration(agent(n)) for n in range(3)),
    registration(agent(0), status="suspended", reason="incident 12"),
)


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def claims_of(line: bytes) -> dict[str, Any]:
    claims = decode(b64url_decode(line.decode().strip('"\n').split(".")[1]))
    assert isinstance(claims, dict)
    return claims


def signed(claims: Mapping[str, Any], typ: str = REGISTRATION_TYPE, key: SigningKey = ISSUER) -> bytes:
    return f'"{sign_compact({"kid": key.public_key.thumbprint, "typ": typ}, claims, key)}"\n'.encode()


def code_of(data: bytes, trust: TrustStore = TRUST) -> tuple[str, int | None]:
    with pytest.raises(TokenError) as caught:
        AgentRegistry.from_bytes(data, trust)
    assert "\n" not in str(caught.value)
    assert "eyJ" not in str(caught.value)
    return caught.value.code, caught.value.line


# ---------------------------------------------------------------------------------------------- values


def test_a_registration_keeps_what_it_says() -> None:
    """Every fact comes back as it was registered, with place, time and hash."""
    given = registration(
        Agent("invoice-clerk", owner="finance@example.com", version="2"), model="some-model", reason="first"
    )
    found = registry(given).get("invoice-clerk")
    assert found is not None
    assert (found.seq, found.issued_at, len(found.hash)) == (1, NOW, 43)
    assert dataclasses.replace(found, seq=0, issued_at=0, hash="") == given


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"agent": "invoice-clerk"}, TypeError),
        ({"maximum": {"pay": {}}}, TypeError),
        ({"purpose": ""}, ValueError),
        ({"purpose": 7}, TypeError),
        ({"model": " gpt"}, ValueError),
        ({"reason": "x" * 257}, ValueError),
        ({"expires_at": -1}, ValueError),
        ({"expires_at": 2**53}, ValueError),
        ({"expires_at": 1.5}, ValueError),
        ({"seq": True}, ValueError),
        ({"issued_at": None}, ValueError),
        ({"status": "gone"}, ValueError),
    ],
)
def test_a_registration_refuses_what_no_registry_can_hold(more: dict[str, Any], error: type[Exception]) -> None:
    """Types and ranges are checked where the value is made."""
    with pytest.raises(error):
        dataclasses.replace(registration(), **more)


# ------------------------------------------------------------------------------------------------ find


def test_a_registered_agent_may_act_until_it_expires() -> None:
    """The last second before the expiry is the last one in which it may."""
    found = registry(registration())
    assert found.find(CLERK, now=NOW + 999).agent == CLERK
    with pytest.raises(Denied) as caught:
        found.find(CLERK, now=NOW + 1000)
    assert caught.value.code == "agent_expired"


@pytest.mark.parametrize(
    ("named", "registered", "code"),
    [
        (Agent("stranger", owner="finance@example.com"), {}, "agent_not_registered"),
        (Agent("invoice-clerk", owner="someone@example.com"), {}, "owner_mismatch"),
        (CLERK, {"agent": Agent("invoice-clerk", owner="finance@example.com", version="2")}, "version_mismatch"),
        (
            Agent("invoice-clerk", owner="finance@example.com", version="3"),
            {"agent": Agent("invoice-clerk", owner="finance@example.com", version="2")},
            "version_mismatch",
        ),
        (CLERK, {"status": "suspended"}, "agent_suspended"),
        (CLERK, {"status": "retired"}, "agent_retired"),
        (CLERK, {"status": "orphaned"}, "agent_orphaned"),
    ],
)
def test_find_says_why_an_agent_may_not_act(named: Agent, registered: dict[str, Any], code: str) -> None:
    """Each reason has its code, and the message names the agent and the way out."""
    found = registry(registration(), dataclasses.replace(registration(), **registered))
    with pytest.raises(Denied, match=rf"{named.id}.*;") as caught:
        found.find(named, now=NOW)
    assert caught.value.code == code


def test_a_version_is_bound_only_if_one_is_registered() -> None:
    """Without a registered version any may act; with one, exactly that."""
    second = Agent("invoice-clerk", owner="finance@example.com", version="2")
    registry(registration()).find(second, now=NOW)
    registry(registration(second)).find(second, now=NOW)


def test_the_latest_registration_counts() -> None:
    """Suspended and resumed, an agent acts again; the history has all of it, and the order of agents stays."""
    first = registration()
    found = registry(
        first, registration(agent(1)), dataclasses.replace(first, status="suspended", reason="incident 12"), first
    )
    found.find(CLERK, now=NOW)
    assert [r.status for r in found.history if r.agent == CLERK] == ["registered", "suspended", "registered"]
    assert [r.agent.id for r in found.current()] == ["invoice-clerk", "agent-1"]
    assert found.mark == (4, found.history[3].hash)


# --------------------------------------------------------------------------------------------- maximum


@pytest.mark.parametrize(
    ("scope", "code", "argument"),
    [
        (Scope("delete"), "tool_outside_maximum", None),
        (Scope("pay"), "argument_outside_maximum", "amount"),
        (Scope("pay", amount=5), "argument_outside_maximum", "currency"),
        (Scope("pay", amount=5, currency="EUR", memo="x"), "argument_outside_maximum", "memo"),
        (Scope("pay", amount=Range(max=101), currency="EUR"), "argument_outside_maximum", "amount"),
        (Scope("pay", amount=5, currency=IfGiven("EUR")), "argument_outside_maximum", "currency"),
        (Scope({"pay": {"amount": 5, "currency": "EUR", "a b": 1}}), "argument_outside_maximum", None),
        (Scope({"pay": {"amount": 5, "currency": "EUR", "é": 1}}), "argument_outside_maximum", None),
    ],
)
def test_a_scope_beyond_the_maximum_is_refused(scope: Scope, code: str, argument: str | None) -> None:
    """The refusal names tool and argument and what to do, and never narrows the scope by itself."""
    tool = next(iter(scope.tools))
    with pytest.raises(OutOfScope, match=f"'{tool}'.*registered maximum of agent 'invoice-clerk'") as caught:
        registration().check_scope(scope)
    assert (caught.value.code, caught.value.argument) == (code, argument)


def test_a_scope_within_the_maximum_is_fine() -> None:
    """Narrower, equal, and any arguments of a tool that is open in the maximum."""
    maximum = registration()
    for scope in (MAXIMUM, Scope("list", folder="x"), Scope("pay", amount=Range(max=50), currency=OneOf("EUR", "CHF"))):
        maximum.check_scope(scope)


# ---------------------------------------------------------------------------------------- whole or none


def test_a_registry_is_json_lines_with_a_head() -> None:
    """Each line is a JSON string; the last one, the head, names the registration before it."""
    lines = lines_of(FULL)
    assert len(lines) == 6
    found = AgentRegistry.from_bytes(FULL, TRUST)
    assert claims_of(lines[-1]) == {"hash": found.mark[1], "iat": NOW, "iss": URI, "seq": 5}
    assert [claims_of(line).get("prev") for line in lines[:-1]] == [None, *(r.hash for r in found.history[:-1])]


def test_lines_are_added_and_never_changed() -> None:
    """A longer registry begins with the registrations of the shorter one; a clock that went back changes no time."""
    longer = appended(FULL, [registration(agent(7))], signer=ISSUER, trust=TRUST, now=NOW - 50)
    assert lines_of(longer)[:5] == lines_of(FULL)[:5]
    assert AgentRegistry.from_bytes(longer, TRUST).history[-1].issued_at == NOW
    later = appended(FULL, [registration(agent(7))], signer=ISSUER, trust=TRUST, now=NOW + 50)
    assert AgentRegistry.from_bytes(later, TRUST).history[-1].issued_at == NOW + 50


@given(st.data())
def test_any_surgery_on_lines_is_refused(data: st.DataObject) -> None:
    """Dropping, repeating or moving lines, at the end as well, never loads."""
    lines = lines_of(FULL)
    order = data.draw(st.lists(st.integers(0, len(lines) - 1), min_size=1, max_size=8))
    if order != list(range(len(lines))):
        with pytest.raises(TokenError):
            AgentRegistry.from_bytes(b"".join(lines[n] for n in order), TRUST)


@given(st.integers(0, len(FULL) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(at: int, change: int) -> None:
    """No byte of the file is free, line ends and quotes included."""
    changed = bytearray(FULL)
    changed[at] ^= change
    with pytest.raises(TokenError):
        AgentRegistry.from_bytes(bytes(changed), TRUST)


@given(st.integers(0, len(FULL)), st.binary(max_size=40))
def test_any_inserted_or_cut_bytes_are_refused(at: int, more: bytes) -> None:
    """Cutting the file anywhere, or putting bytes anywhere, never loads."""
    if at < len(FULL) and (cut := FULL[:at]):
        with pytest.raises(TokenError):
            AgentRegistry.from_bytes(cut, TRUST)
    if more:
        with pytest.raises(TokenError):
            AgentRegistry.from_bytes(FULL[:at] + more + FULL[at:], TRUST)


def changed(number: int, change: Callable[[dict[str, Any]], object], typ: str = REGISTRATION_TYPE) -> bytes:
    """The full registry with one line of other claims, signed by the issuer as it should be."""
    lines = lines_of(FULL)
    claims = claims_of(lines[number])
    change(claims)
    lines[number] = signed(claims, typ)
    return b"".join(lines)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda c: c.pop("purpose"), "missing_claim"),
        (lambda c: c.pop("prev"), "registry_broken"),
        (lambda c: c.update(limit=5), "unknown_claim"),
        (lambda c: c.update(iss="https://other.example.com"), "wrong_issuer"),
        (lambda c: c.update(iss=7), "bad_claim"),
        (lambda c: c.update(iat="1"), "bad_claim"),
        (lambda c: c.update(iat=True), "bad_claim"),
        (lambda c: c.update(iat=NOW - 1), "registry_broken"),
        (lambda c: c.update(exp=-1), "bad_claim"),
        (lambda c: c.update(status="free"), "bad_claim"),
        (lambda c: c.update(status=["retired"]), "bad_claim"),
        (lambda c: c.update(model=""), "bad_claim"),
        (lambda c: c.update(model=None), "bad_claim"),
        (lambda c: c.update(reason=5), "bad_claim"),
        (lambda c: c.update(purpose=None), "bad_claim"),
        (lambda c: c.update(maximum={}), "bad_scope"),
        (lambda c: c.update(maximum=["pay"]), "bad_scope"),
        (lambda c: c.update(maximum={"pay": {"amount": {"constraint_type": "x-new"}}}), "unknown_constraint"),
        (lambda c: c.update(agent={"id": "a"}), "bad_agent"),
        (lambda c: c.update(seq=3), "registry_broken"),
        (lambda c: c.update(seq="2"), "bad_claim"),
        (lambda c: c.update(prev="0" * 64), "registry_broken"),
        (lambda c: c.update(prev=5), "registry_broken"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_line(change: Callable[[dict[str, Any]], object], code: str) -> None:
    """Also a line that the issuer signed has to be one that follows the one before it."""
    assert code_of(changed(1, change)) == (code, 2)


@pytest.mark.parametrize(
    ("change", "typ", "code"),
    [
        (lambda c: c.update(seq=4), HEAD_TYPE, "registry_cut"),
        (lambda c: c.update(hash="0" * 64), HEAD_TYPE, "registry_cut"),
        (lambda c: c.pop("hash"), HEAD_TYPE, "missing_claim"),
        (lambda c: c.update(more=1), HEAD_TYPE, "unknown_claim"),
        (lambda c: None, REGISTRATION_TYPE, "registry_cut"),
    ],
)
def test_a_wrong_head_is_refused(change: Callable[[dict[str, Any]], object], typ: str, code: str) -> None:
    """The last line is a head, of exactly the registrations before it."""
    assert code_of(changed(-1, change, typ)) == (code, 6)


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (FULL[:-1], "registry_cut", 6),
        (b"\n", "registry_malformed", 1),
        (b'""\n', "registry_malformed", 1),
        (FULL.replace(b"\n", b"\r\n"), "registry_malformed", 1),
        (b'"' + b"a" * 65_537 + b'"\n', "registry_malformed", 1),
        (FULL + b'"\xc3\xa9\xc3\xa9"\n', "registry_malformed", 7),
        (FULL + b"eyJhbGciOiJFZERTQSJ9.e30.AA\n", "registry_malformed", 7),
        (lines_of(FULL)[-1], "registry_cut", 1),
        (FULL + lines_of(FULL)[-1], "wrong_type", 6),
        (b"".join(lines_of(FULL)[:-1]), "registry_cut", 5),
        (b'"a.b"\n' + FULL, "malformed_token", 1),
    ],
)
def test_what_is_no_registry_is_refused_with_its_line(data: bytes, code: str, line: int) -> None:
    """The line and the reason are in the error, and nothing of the file is loaded."""
    assert code_of(data) == (code, line)


def test_the_history_of_an_agent_has_rules() -> None:
    """An agent is registered before anything else, and nothing follows its retirement."""
    for wrong, code, line in (
        ((registration(status="suspended"),), "registry_broken", 1),
        ((registration(), registration(status="retired"), registration()), "agent_retired", 3),
    ):
        with pytest.raises(TokenError) as caught:
            content(*wrong)
        assert (caught.value.code, caught.value.line) == (code, line)


# ----------------------------------------------------------------------------------------------- trust


def test_only_issuer_keys_count_and_only_in_their_time() -> None:
    """A recorder key, a key without a name, and a key outside its time sign no registration."""
    recorder = TrustStore((), issuer=URI).with_key(ISSUER.public_key, "recorder")
    assert code_of(FULL, recorder) == ("unknown_key", 1)
    later = TrustStore((), issuer=URI).with_key(ISSUER.public_key, "issuer", not_before=NOW + 1)
    assert code_of(FULL, later) == ("key_not_valid_then", 1)
    nameless = sign_compact({"typ": REGISTRATION_TYPE}, claims_of(lines_of(FULL)[0]), ISSUER)
    assert code_of(f'"{nameless}"\n'.encode() + lines_of(FULL)[-1]) == ("unknown_key", 1)


def test_lines_survive_the_rotation_of_the_key() -> None:
    """What an earlier issuer key signed in its time stays, and a later key goes on."""
    new = SigningKey.from_seed(b"\x02" * 32)
    rotated = (
        TrustStore((), issuer=URI)
        .with_key(ISSUER.public_key, "issuer", not_after=NOW + 10)
        .with_key(new.public_key, "issuer", not_before=NOW + 5)
    )
    data = appended(FULL, [registration(agent(9))], signer=new, trust=rotated, now=NOW + 20)
    assert AgentRegistry.from_bytes(data, rotated).get("agent-9") is not None
    with pytest.raises(TokenError) as caught:
        appended(FULL, [registration(agent(9))], signer=ISSUER, trust=rotated, now=NOW + 20)
    assert caught.value.code == "key_not_valid_then"


def test_a_trust_store_without_an_issuer_reads_and_does_not_write() -> None:
    """Like for grants, no name accepts any; but a line must name one."""
    unnamed = TrustStore(TRUST.keys)
    assert len(AgentRegistry.from_bytes(FULL, unnamed).history) == 5
    with pytest.raises(ValueError, match="issuer's name"):
        appended(b"", [registration()], signer=ISSUER, trust=unnamed, now=NOW)


def test_sizes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scope that fits no token, and a registry that nobody would read, are refused when they are written."""
    huge = Scope({f"tool-{n}": {"a": OneOf(*(f"{n}-{i}" * 40 for i in range(20)))} for n in range(250)})
    with pytest.raises(ValueError, match="smaller scope"):
        content(registration(maximum=huge))
    monkeypatch.setattr("agent_identity._authority.registries.agents.MAX_REGISTRY", len(FULL) + 10)
    with pytest.raises(ValueError, match="start a new one"):
        content(registration(agent(9)), data=FULL)


# ------------------------------------------------------------------------------------------------ files


def test_a_file_is_read_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged file costs a look at its status; a changed one gives a registry that continues the old one."""
    path = tmp_path / "agents.jsonl"
    path.write_bytes(FULL)
    found = AgentRegistry.load(path, TRUST)
    with monkeypatch.context() as patch:
        patch.setattr("agent_identity._authority.registries.agents.read_public_file", pytest.fail)
        assert found.renewed() is found
    longer = content(registration(agent(9)), data=FULL)
    replaced(path, longer)
    renewed = found.renewed()
    assert (len(found.history), len(renewed.history)) == (5, 6)
    assert renewed.renewed() is renewed
    assert renewed.history[:5] == found.history


def replaced(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    os.replace(beside, path)  # noqa: PTH105


def test_a_reread_verifies_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that were verified are compared, so a change costs what changed."""
    path = tmp_path / "agents.jsonl"
    path.write_bytes(FULL)
    found = AgentRegistry.load(path, TRUST)
    replaced(path, content(registration(agent(9)), data=FULL))
    parsed: list[str] = []
    from agent_identity._authority.registries import agents as registrations
    from agent_identity._identity.keys import jws as compact

    monkeypatch.setattr(registrations, "parse_compact", lambda t: parsed.append(t) or compact.parse_compact(t))
    found.renewed()
    assert len(parsed) == 2  # The new registration and the head.


@pytest.mark.parametrize("size", [1, 4])
def test_a_registry_never_goes_back(tmp_path: Path, size: int) -> None:
    """An older whole state, and another registry of the same issuer, are refused by whoever saw the newer one."""
    path = tmp_path / "agents.jsonl"
    path.write_bytes(FULL)
    found = AgentRegistry.load(path, TRUST)
    others = [content(registration(), *(registration(agent(n)) for n in range(size - 1)))]
    others.append(content(*(registration(agent(n)) for n in range(9))))
    for older in others:
        replaced(path, older)
        with pytest.raises(TokenError) as caught:
            found.renewed()
        assert caught.value.code == "registry_rolled_back"
        with pytest.raises(TokenError) as caught:
            AgentRegistry.load(path, TRUST, at_least=found.mark)
        assert caught.value.code == "registry_rolled_back"
    replaced(path, content(registration(agent(9)), data=FULL))
    assert AgentRegistry.load(path, TRUST, at_least=found.mark).renewed().mark[0] == 6
    assert AgentRegistry.load(path, TRUST, at_least=(0, "")).mark[0] == 6


def test_a_missing_file_is_an_error_or_no_agents(tmp_path: Path) -> None:
    """By default it is refused; where it may be absent, the file is found when it comes, and missed when it goes."""
    path = tmp_path / "agents.jsonl"
    with pytest.raises(ConfigurationError):
        AgentRegistry.load(path, TRUST)
    found = AgentRegistry.load(path, TRUST, absent="empty")
    assert (found.mark, found.current(), found.renewed()) == ((0, ""), (), found)
    path.write_bytes(FULL)
    found = found.renewed()
    assert found.mark[0] == 5
    path.unlink()
    with pytest.raises(ConfigurationError):
        found.renewed()


def test_a_file_that_cannot_be_a_registry_is_refused(tmp_path: Path) -> None:
    """An empty or too large file, a folder, and a path through a file are errors, whatever may be absent."""
    path = tmp_path / "agents.jsonl"
    path.touch()
    with pytest.raises(TokenError) as caught:
        AgentRegistry.load(path, TRUST, absent="empty")
    assert caught.value.code == "registry_cut"
    with path.open("wb") as file:
        file.truncate(MAX_REGISTRY + 1)
    for wrong in (path, tmp_path, path / "below"):
        with pytest.raises(ConfigurationError):
            AgentRegistry.load(wrong, TRUST, absent="empty")


def test_a_registry_of_bytes_stays_as_it_is() -> None:
    """Without a file there is nothing to look at again."""
    found = AgentRegistry.from_bytes(FULL, TRUST)
    assert found.renewed() is found
    assert AgentRegistry.from_bytes(b"", TRUST).mark == (0, "")


# ---------------------------------------------------------------------------- grants and their maximum

VALUES = st.integers(-3, 8)
CONSTRAINTS = st.one_of(
    VALUES,
    st.builds(lambda low, high: Range(min=min(low, high), max=max(low, high)), VALUES, VALUES),
    st.lists(VALUES, min_size=1, max_size=4, unique=True).map(lambda values: OneOf(*values)),
    st.just(Wildcard()),
)
SCOPES = st.dictionaries(
    st.sampled_from(["pay", "list", "read"]), st.dictionaries(st.sampled_from(["a", "b"]), CONSTRAINTS), min_size=1
).map(Scope)


def permits(scope: Scope, tool: str, arguments: dict[str, int]) -> bool:
    """The reference: a call is permitted if every word of the definition of a scope says so."""
    if tool not in scope.tools:
        return False
    constraints = scope.tools[tool]
    return not constraints or (
        constraints.keys() == arguments.keys() and all(constraints[n].permits(v) for n, v in arguments.items())
    )


@given(SCOPES, SCOPES, st.sampled_from(["pay", "list", "read"]), st.dictionaries(st.sampled_from(["a", "b"]), VALUES))
def test_no_grant_permits_what_the_maximum_does_not(
    maximum: Scope, scope: Scope, tool: str, arguments: dict[str, int]
) -> None:
    """Whatever a scope that passes permits, the registered maximum permits, by a reference evaluator."""
    try:
        registration(maximum=maximum).check_scope(scope)
    except OutOfScope:
        return
    assert permits(maximum, tool, arguments) or not permits(scope, tool, arguments)
