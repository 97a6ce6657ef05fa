"""Owners that exist: forged, edited and rolled back registrations, and grants beyond a maximum."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Scope
from agent_identity._authority.grants.grants import GRANT_TYPE
from agent_identity._authority.registries.agents import HEAD_TYPE, REGISTRATION_TYPE
from agent_identity._directory.agents_file import registry_path
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.keys.jws import sign_compact
from agent_identity.canonical import decode
from agent_identity.constraints import Range
from agent_identity.errors import Denied, OutOfScope, TokenError
from agent_identity.identity import AgentRegistry, Registration, SigningKey, TrustStore, appended, register_agents
from agent_identity.testing import FixedClock, SequentialIds

CLERK = Agent("invoice-clerk", owner="finance@example.com")
ROGUE = Agent("rogue", owner="mallory@example.com")
NOW = FixedClock().wall_ns() // 10**9
PAY = Scope("tool", x=Range(max=100))


def registration(agent: Agent = CLERK, **more: Any) -> Registration:
    return Registration(agent, **{"purpose": "pay invoices", "maximum": PAY, "expires_at": NOW + 3600, **more})


def registered(directory: Path, *rows: Registration) -> None:
    register_agents(directory, *rows, clock=FixedClock(), ids=SequentialIds())


@pytest.fixture
def guarded(open_world: Callable[..., Any], tmp_path: Path) -> Any:
    """A world in which only the clerk is registered, and must be."""
    registered(tmp_path / "evidence-0", registration())
    return open_world(agents="registered")


@contextmanager
def opening_refused(world: Any, code: str, kind: type[Denied] = Denied) -> Iterator[None]:
    """Prove that opening is refused: typed, coded, nothing ran, no grant, and one signed refusal that says so."""
    ran, before = len(world.ran), len(world.records())
    with pytest.raises(kind) as caught:
        yield
    assert (caught.value.code, len(world.ran)) == (code, ran)
    (record,) = world.records()[before:]
    assert (record["kind"], record["outcome"], record["error"]) == ("outcome", "denied", code)
    assert (record["id"], record["action"]["tool"]) == (caught.value.reference, "invoke_agent")


def claims_of(token: str) -> dict[str, Any]:
    claims = decode(b64url_decode(token.split(".")[1]))
    assert isinstance(claims, dict)
    return claims


def tokens_of(path: Path) -> list[str]:
    return [line.strip('"') for line in path.read_text().splitlines()]


def write(path: Path, tokens: list[str]) -> None:
    path.write_text("".join(f'"{token}"\n' for token in tokens))


def test_ac_12_a_self_signed_registration_registers_nobody(guarded: Any, tmp_path: Path) -> None:
    """A whole registry by a fresh key, correctly linked and headed, is refused, and so is every task under it."""
    tool = guarded.tool()
    key = SigningKey.generate()
    trust = TrustStore((), issuer=guarded.enforcer._tasks.issuer_name).with_key(key.public_key, "issuer")
    forged = appended(b"", [registration(ROGUE)], signer=key, trust=trust, now=NOW)
    registry_path(guarded.directory).write_bytes(forged)
    for agent in (ROGUE, CLERK):
        with opening_refused(guarded, "registry_unusable"), guarded.task(PAY, agent=agent):
            tool(x=1)
    other = tmp_path / "other"
    registered(other, registration(ROGUE))  # Another installation, with keys of its own.
    shutil.copy(registry_path(other), registry_path(guarded.directory))
    with opening_refused(guarded, "registry_unusable"), guarded.task(PAY, agent=ROGUE):
        tool(x=1)
    with pytest.raises(TokenError) as caught:
        Enforcer.open(guarded.directory, agents="registered")
    assert caught.value.code == "unknown_key"


def test_ac_12_the_recorder_key_registers_nobody(guarded: Any) -> None:
    """A key that may sign records, and may be stolen from where records are signed, signs no registration."""
    recorder = SigningKey.load(guarded.directory / "keys" / "recorder.pem")
    trust = TrustStore.load(guarded.directory / "trust.json").with_key(recorder.public_key, "issuer")
    path = registry_path(guarded.directory)
    path.write_bytes(appended(path.read_bytes(), [registration(ROGUE)], signer=recorder, trust=trust, now=NOW))
    with opening_refused(guarded, "registry_unusable"), guarded.task(PAY, agent=ROGUE):
        guarded.tool()(x=1)


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256"])
def test_ac_13_the_header_of_a_registration_selects_no_algorithm(guarded: Any, alg: str) -> None:
    """Neither no signature nor one by another algorithm passes."""
    path = registry_path(guarded.directory)
    first, head = tokens_of(path)
    header = b64url_encode(b'{"alg":"%s","typ":"%s"}' % (alg.encode(), REGISTRATION_TYPE.encode()))
    write(path, [".".join((header, *first.split(".")[1:])), head])
    with opening_refused(guarded, "registry_unusable"), guarded.task(PAY):
        guarded.tool()(x=1)


def test_ac_18_a_suspension_cannot_be_taken_back_by_an_older_file(guarded: Any, tmp_path: Path) -> None:
    """A running enforcer refuses the older file; a fresh start with the mark kept elsewhere does as well."""
    tool, path = guarded.tool(), registry_path(guarded.directory)
    with guarded.task(PAY):
        tool(x=1)
    yesterday = path.read_bytes()
    registered(guarded.directory, registration(status="suspended", reason="incident 12"))
    trust = TrustStore.load(guarded.directory / "trust.json")
    mark = AgentRegistry.load(path, trust).mark
    with opening_refused(guarded, "agent_suspended"), guarded.task(PAY):
        tool(x=1)
    path.write_bytes(yesterday)
    with opening_refused(guarded, "registry_unusable"), guarded.task(PAY):
        tool(x=1)
    with pytest.raises(TokenError) as caught:
        AgentRegistry.load(path, trust, at_least=mark)
    assert caught.value.code == "registry_rolled_back"


def test_ac_18_the_last_line_cannot_be_cut(guarded: Any) -> None:
    """Taking the suspension off the end, with or without the head, does not give the agent back."""
    path = registry_path(guarded.directory)
    registered(guarded.directory, registration(status="suspended"))
    first, suspended, head = tokens_of(path)
    for cut in ([first], [first, head], [head], [first, head, suspended], [suspended, head]):
        write(path, cut)
        with opening_refused(guarded, "registry_unusable"), guarded.task(PAY):
            guarded.tool()(x=1)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("agent", {"id": "rogue", "owner": "mallory@example.com"}),
        ("exp", NOW + 10**6),
        ("iat", NOW - 1),
        ("iss", "https://other.example.com"),
        ("maximum", {"tool": {}}),
        ("purpose", "everything"),
        ("seq", 2),
        ("status", "retired"),
        ("model", "other"),
        ("prev", "A" * 43),
        ("reason", "none"),
    ],
)
def test_ac_19_every_claim_of_a_registration_is_signed(guarded: Any, claim: str, value: object) -> None:
    """Changing any claim under the old signature breaks it, and with it the whole registry."""
    path = registry_path(guarded.directory)
    first, head = tokens_of(path)
    key = SigningKey.generate()
    changed = sign_compact({"typ": REGISTRATION_TYPE}, {**claims_of(first), claim: value}, key)
    write(path, [".".join((first.split(".")[0], changed.split(".")[1], first.split(".")[2])), head])
    with opening_refused(guarded, "registry_unusable"), guarded.task(PAY):
        guarded.tool()(x=1)
    trust = TrustStore.load(guarded.directory / "trust.json")
    with pytest.raises(TokenError) as caught:
        AgentRegistry.load(path, trust)
    assert (caught.value.code, caught.value.line) == ("bad_signature", 1)


def test_ac_19_nobody_changes_owner_by_saying_so(guarded: Any) -> None:
    """An agent that names itself the clerk under another owner is not the clerk."""
    impostor = Agent("invoice-clerk", owner="mallory@example.com")
    with opening_refused(guarded, "owner_mismatch"), guarded.task(PAY, agent=impostor):
        guarded.tool()(x=1)


def test_ac_21_a_registration_has_one_spelling(guarded: Any) -> None:
    """White space, other escapes and padding around a correctly signed line are refused."""
    path = registry_path(guarded.directory)
    first, head = tokens_of(path)
    for line in (f' "{first}"', f'"{first}" ', f'"{first}="', f'"\\u0065{first[1:]}"', f'["{first}"]', f'"{first}",'):
        path.write_text(f'{line}\n"{head}"\n')
        with opening_refused(guarded, "registry_unusable"), guarded.task(PAY):
            guarded.tool()(x=1)


def test_ac_22_a_grant_is_no_registration_and_a_registration_no_head(guarded: Any) -> None:
    """Other things that the issuer key signed do not pass for registrations."""
    path = registry_path(guarded.directory)
    issuer = SigningKey.load(guarded.directory / "keys" / "issuer.pem")
    first, head = tokens_of(path)
    kid = issuer.public_key.thumbprint
    with guarded.task(PAY) as task:
        pass
    as_grant = sign_compact({"kid": kid, "typ": GRANT_TYPE}, claims_of(first), issuer)
    as_head = sign_compact({"kid": kid, "typ": HEAD_TYPE}, claims_of(first), issuer)
    for tokens in ([task.grant.token, head], [as_grant, head], [as_head, head], [first, first], [head, head]):
        write(path, tokens)
        with opening_refused(guarded, "registry_unusable"), guarded.task(PAY):
            guarded.tool()(x=1)


def test_ac_01_no_grant_goes_beyond_the_maximum(guarded: Any) -> None:
    """Neither a task nor a delegation gets more than its agent is registered for, whoever asks for it."""
    tool = guarded.tool()
    for scope, code in (
        (Scope("tool"), "argument_outside_maximum"),
        (Scope("tool", x=Range(max=101)), "argument_outside_maximum"),
        (PAY | Scope("other"), "tool_outside_maximum"),
    ):
        with opening_refused(guarded, code, OutOfScope), guarded.task(scope):
            tool(x=1)
    helper = Agent("helper", owner="it@example.com")
    registered(guarded.directory, registration(helper, maximum=Scope("tool", x=Range(max=10))))
    with guarded.task(PAY):
        with opening_refused(guarded, "argument_outside_maximum", OutOfScope):
            guarded.enforcer.delegate(helper, scope=PAY).__enter__()
        with guarded.enforcer.delegate(helper, scope=Scope("tool", x=Range(max=10))):
            assert tool(x=10) == 10
    assert len(guarded.ran) == 1


def test_ac_04_a_grant_ends_with_its_registration(guarded: Any) -> None:
    """When the registration expires in the middle of a task, the next call is refused."""
    tool = guarded.tool()
    registered(guarded.directory, registration(expires_at=NOW + 10))
    with guarded.task(PAY):
        tool(x=1)
        guarded.clock.advance(10)
        with guarded.refused("grant_expired"):
            tool(x=1)
    with opening_refused(guarded, "agent_expired"), guarded.task(PAY):
        tool(x=1)


def test_ac_39_every_task_has_an_owner_that_exists(guarded: Any) -> None:
    """An agent nobody registered, and one whose owner is gone, do nothing."""
    tool = guarded.tool()
    with opening_refused(guarded, "agent_not_registered"), guarded.task(PAY, agent=ROGUE):
        tool(x=1)
    registered(guarded.directory, registration(status="orphaned"))
    with opening_refused(guarded, "agent_orphaned"), guarded.task(PAY):
        tool(x=1)
    registered(guarded.directory, registration(Agent("invoice-clerk", owner="audit@example.com")))
    with opening_refused(guarded, "owner_mismatch"), guarded.task(PAY):
        tool(x=1)
    with guarded.task(PAY, agent=Agent("invoice-clerk", owner="audit@example.com")):
        assert tool(x=1) == 1
