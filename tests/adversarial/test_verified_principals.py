"""Who stands behind a task is known by signature or only said, and both remain visible (AC-13 to AC-19, AC-40)."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry import context as otel

from agent_identity import Agent, Effect, Human, Rule, RuleSet, Scope, Service, Verifier
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.principals.principals import principal_from_claim
from agent_identity.audit import story
from agent_identity.errors import NoTask, PolicyBlocked, TokenError
from agent_identity.identity import Principal, SigningKey, TrustStore, read_inbound

NOW = 1_764_000_000  # When the clock of these worlds stands still.
ISSUER, AUDIENCE = "https://login.example", "invoice-desk"
KEY, STRANGER = SigningKey.from_seed(b"\x01" * 32), SigningKey.from_seed(b"\x02" * 32)
JWKS = {"keys": [{**KEY.public_key.to_jwk(), "kid": "k", "use": "sig"}]}
CLERK = Agent("invoice-clerk", owner="finance@example.com")
PLANNER = Agent("planner", owner="finance@example.com")
SCOPE = Scope("tool")
ONLY_VERIFIED = RuleSet(
    Rule(
        Effect.BLOCK,
        when={"not": {"all": [{"principal.provenance": "verified"}, {"principal.kind": "human"}]}},
        reason="a verified human has to stand behind this",
        id="verified-humans",
    ),
    name="humans",
)


def _token(*, signer: SigningKey = KEY, header: dict[str, object] | None = None, **changes: object) -> str:
    head = {"alg": "EdDSA", "kid": "k", **(header or {})}
    claims = {"iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": NOW, "exp": NOW + 300, **changes}
    text = ".".join(b64url_encode(json.dumps(part).encode()) for part in (head, claims))
    return f"{text}.{b64url_encode(signer.sign(text.encode()))}"


def _human(token: str) -> Human:
    return Human.from_id_token(token, jwks=JWKS, issuer=ISSUER, audience=AUDIENCE, now=NOW, roles_claim="roles")


def test_policy_can_demand_verified_humans(open_world: Callable[..., Any]) -> None:
    """An asserted human, and a verified service, are blocked under a signed record; a verified human is not."""
    world = open_world(policy=ONLY_VERIFIED)
    tool = world.tool()
    service = read_inbound(
        _token(sub="job", client_id="job", jti="1", header={"typ": "at+jwt"}),
        jwks=JWKS, issuer=ISSUER, audience=AUDIENCE, subject=Service, now=NOW,
    ).principal  # fmt: skip
    for principal in (Human("alice", issuer=ISSUER), service):
        with (
            world.task(SCOPE, principal=principal),
            world.refused("policy_blocks", PolicyBlocked, principal=principal.id),
        ):
            tool(1)
    assert service.provenance == "verified"
    assert world.ran == []
    with world.task(SCOPE, principal=_human(_token())):
        tool(2)
        with world.enforcer.delegate(PLANNER, scope=SCOPE):
            tool(3)
    assert [x for _, x, _ in world.ran] == [2, 3]


def test_the_evidence_says_how_the_human_is_known(open_world: Callable[..., Any]) -> None:
    """Provenance and issuer stand in every record and in every grant of the chain, and all of it verifies."""
    world = open_world()
    tool = world.tool()
    grants = []
    with world.task(SCOPE, principal=_human(_token(roles=["payer"]))) as task:
        tool(1)
        with world.enforcer.delegate(PLANNER, scope=SCOPE) as inner:
            tool(2)
            grants += inner.chain.grants
    with world.task(SCOPE, principal=Human("alice", issuer=ISSUER)):
        tool(3)
    known = {"id": "alice", "kind": "human", "issuer": ISSUER, "provenance": "verified"}
    verified = {**known, "roles": ["payer"]}
    asserted = {"id": "alice", "kind": "human", "issuer": ISSUER, "provenance": "asserted"}
    assert [record["principal"] for record in world.records("intent")] == [verified, verified, asserted]
    assert [record["principal"] for record in world.records("outcome")] == [known, known, asserted]
    for grant in grants:
        claims = json.loads(b64url_decode(grant.token.split(".")[1]))
        assert (claims["principal"], claims["sub"]) == (verified, "alice")
        assert grant.principal == task.principal
    world.enforcer.close()
    report = Verifier(world.directory / "trust.json").ledger(world.directory)
    assert (report.verdict, report.findings) == ("verified", ())
    spans = [span.attributes for span in world.exporter.get_finished_spans() if span.name.startswith("execute_tool")]
    assert [span["agent_identity.principal.issuer"] for span in spans] == [ISSUER] * 3


def test_ac_19_a_record_that_promotes_its_human_is_found(open_world: Callable[..., Any]) -> None:
    """Changed from asserted to verified in the ledger, the record contradicts what was signed."""
    world = open_world()
    tool = world.tool()
    with world.task(SCOPE, principal=Human("alice", issuer=ISSUER)):
        tool(1)
    world.enforcer.close()
    assert Verifier(world.directory / "trust.json").ledger(world.directory).verdict == "verified"
    changed = 0
    for path in world.directory.glob("ledger/*/entries.jsonl"):
        text = path.read_text(encoding="utf-8")
        changed += text.count('"provenance":"asserted"')
        path.write_text(text.replace('"provenance":"asserted"', '"provenance":"verified"'), encoding="utf-8")
    assert changed > 0
    assert Verifier(world.directory / "trust.json").ledger(world.directory).verdict == "contradicted"


def test_ac_19_a_principal_cannot_be_promoted_in_place() -> None:
    """No way of the public interface makes an asserted principal a verified one, or takes its mark along."""
    alice = _human(_token())
    with pytest.raises(TypeError):
        Human("alice", provenance="verified")  # type: ignore[call-arg]
    with pytest.raises((TypeError, ValueError), match="provenance"):
        replace(Human("alice"), provenance="verified")
    with pytest.raises(FrozenInstanceError):
        Human("alice").provenance = "verified"  # type: ignore[misc]
    assert replace(alice, id="ceo").provenance == "asserted"


FORGED = {
    "ac_13_none": {"header": {"alg": "none"}},
    "ac_13_hmac": {"header": {"alg": "HS256"}},
    "ac_13_another_algorithm": {"header": {"alg": "ES256"}},
    "ac_14_jwk": {"signer": STRANGER, "header": {"jwk": STRANGER.public_key.to_jwk()}},
    "ac_14_jku": {"signer": STRANGER, "header": {"jku": "http://127.0.0.1:9/keys"}},
    "ac_14_x5c": {"signer": STRANGER, "header": {"x5c": ["MII="]}},
    "ac_14_x5u": {"signer": STRANGER, "header": {"x5u": "http://127.0.0.1:9/cert"}},
    "ac_15_unknown_key": {"signer": STRANGER, "header": {"kid": "invented"}},
    "ac_19_another_signer": {"signer": STRANGER},
    "another_issuer": {"iss": "https://evil.example"},
    "another_audience": {"aud": "other"},
    "over": {"exp": NOW - 30},
    "a_client": {"sub": "job", "azp": AUDIENCE, "client_id": "job"},
    "a_grant": {"header": {"typ": "aat+jwt"}},
}


@pytest.mark.parametrize("name", FORGED)
def test_ac_13_14_15_19_nobody_acts_under_a_forged_login(open_world: Callable[..., Any], name: str) -> None:
    """An entrance that opens tasks for verified humans opens none, and the tool is refused under a signed record."""
    world = open_world()
    tool = world.tool()

    def entrance(token: str) -> None:
        with world.task(SCOPE, principal=_human(token)):
            tool(1)

    with pytest.raises(TokenError):
        entrance(_token(**FORGED[name]))
    assert world.ran == []
    assert world.records("task_start") == []
    with world.refused("no_task", NoTask, chain=None):
        tool(1)
    entrance(_token())
    assert len(world.ran) == 1


def test_ac_40_what_a_caller_merely_says_changes_nobody(open_world: Callable[..., Any]) -> None:
    """Baggage that names another principal is ignored, and claims without a checked signature stay asserted."""
    world = open_world(policy=ONLY_VERIFIED)
    tool = world.tool()
    claimed = baggage.set_baggage("principal", "ceo")
    claimed = baggage.set_baggage("agent_identity.principal.provenance", "verified", claimed)
    said = read_inbound(
        _token(signer=STRANGER, sub="ceo", act={"sub": "planner"}),
        jwks=None, issuer=ISSUER, audience=AUDIENCE, subject=Human, now=NOW,
    )  # fmt: skip
    assert (said.principal.provenance, said.actors) == ("asserted", ("planner",))
    held = otel.attach(claimed)
    try:
        for principal in (said.principal, Human("alice")):
            with (
                world.task(SCOPE, principal=principal),
                world.refused("policy_blocks", PolicyBlocked, principal=principal.id),
            ):
                tool(1)
        with world.task(SCOPE, principal=_human(_token())):
            tool(2)
    finally:
        otel.detach(held)
    assert [x for _, x, _ in world.ran] == [2]
    assert world.records("outcome")[-1]["principal"]["id"] == "alice"


def test_the_history_of_a_token_is_not_the_chain_of_a_task(open_world: Callable[..., Any]) -> None:
    """Actors that a token names get no part of the authority: the chain begins with the agent of this task."""
    world = open_world()
    tool = world.tool()
    inbound = read_inbound(
        _token(act={"sub": "invoice-clerk", "act": {"sub": "root"}}),
        jwks=JWKS, issuer=ISSUER, audience=AUDIENCE, subject=Human, now=NOW,
    )  # fmt: skip
    principal: Principal = inbound.principal
    with world.task(SCOPE, principal=principal):
        tool(1)
    record = world.records("outcome")[0]
    assert [link["id"] for link in record["chain"]] == ["invoice-clerk"]
    assert record["principal"]["provenance"] == "verified"


def test_ac_39_who_passed_the_request_on_is_named_in_every_grant_and_record(world: Any) -> None:
    """The actors of an inbound token are signed at every hop, verify offline, and give nobody authority."""
    inbound = read_inbound(
        _token(
            client_id="web", jti="1", act={"sub": "planner", "act": {"sub": "web"}}, header={"typ": "at+jwt"}
        ),
        jwks=JWKS, issuer=ISSUER, audience=AUDIENCE, subject=Human, now=NOW,
    )  # fmt: skip
    assert inbound.principal.via == inbound.actors == ("planner", "web")
    tool = world.tool()
    with world.task(SCOPE, principal=inbound.principal), world.enforcer.delegate(PLANNER, scope=SCOPE) as child:
        tool(1)
        assert [grant.principal.via for grant in child.chain.grants] == [("planner", "web")] * 2
    for record in world.records("grant", "intent", "outcome", "task_end"):
        assert record["principal"]["via"] == ["planner", "web"]
        assert record["chain"][0]["id"] == "invoice-clerk"
    world.enforcer.close()
    assert Verifier(TrustStore.load(world.directory / "trust.json")).ledger(str(world.directory)).exit_code == 0
    (told,) = story(str(world.directory))
    assert told.via == ("planner", "web")


@pytest.mark.parametrize("via", [[], "planner", ["planner"] * 33, [" "], [1]])
def test_a_history_has_one_form(via: object) -> None:
    """What a claim says of the actors is an array of 1 to 32 identifiers, or is left out."""
    claim = {"id": "alice", "kind": "human", "provenance": "verified", "via": via}
    with pytest.raises(TokenError) as refused:
        principal_from_claim(claim)
    assert refused.value.code == "bad_principal"
