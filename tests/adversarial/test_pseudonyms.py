"""Principals under pseudonyms: records, spans and grants name nobody, and everything holds together as before."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Decision, Effect, Enforcer, Human, Request, Scope, Service, Verifier
from agent_identity._identity.common.encoding import b64url_decode
from agent_identity._record.pseudonyms import Pseudonyms
from agent_identity.audit import story
from agent_identity.cli import main
from agent_identity.delegation import Peer
from agent_identity.errors import Denied, OutOfScope, PolicyBlocked
from agent_identity.options import Privacy

OPEN = Scope("tool")
ALICE = Human("alice@example.com", issuer="https://id.example.com", roles=("payer",))


class OnlyAlice:
    """A policy that knows real people."""

    name, version, digest = "only-one", "1", "A" * 43

    def decide(self, request: Request) -> Decision:
        """Return whether it is she."""
        fine = request.principal == ALICE
        return Decision(effect=Effect.ALLOW if fine else Effect.BLOCK, reason="fine" if fine else "another")


def written(directory: Path) -> str:
    """Return everything in a directory but its private keys, grants decoded."""
    files = [path for path in directory.rglob("*") if path.is_file() and path.parent.name != "keys"]
    texts = [path.read_bytes().decode("latin-1") for path in files]
    for line in "".join(texts).splitlines():
        if '"token":"' in line:
            texts += [
                b64url_decode(piece).decode("latin-1") for piece in line.split('"token":"')[1].split('"')[0].split(".")
            ]
    return "".join(texts)


def test_ac_103_no_principal_is_named(open_world: Any) -> None:
    """Ledger, spans and grants have the pseudonym; application and policy see the principal; all of it verifies."""
    world = open_world(privacy=Privacy(pseudonyms=True), policy=OnlyAlice())
    tool = world.tool()
    with world.task(OPEN, principal=ALICE) as task:
        tool(1)
        with world.enforcer.delegate(Agent("helper", owner="it"), scope=OPEN) as part:
            tool(2)
            assert part.principal == ALICE
        assert task.principal == ALICE
        shown = task.grant.principal
    with world.task(OPEN, principal=Human("bob@private.example")), pytest.raises(PolicyBlocked):
        tool(3)
    assert len(world.ran) == 2
    assert shown.id.startswith("pseudonym:")
    assert (shown.kind, shown.issuer, shown.roles) == ("human", ALICE.issuer, ALICE.roles)
    world.enforcer.close()
    spans = "".join(span.to_json() for span in world.exporter.get_finished_spans())
    for text in (written(world.directory), spans):
        assert "alice" not in text
        assert "private.example" not in text
        assert shown.id in text
    assert Verifier(world.directory / "trust.json").ledger(world.directory).verdict == "verified"
    assert next(iter(story(world.directory))).principal == shown.id
    assert Pseudonyms(world.directory / "keys" / "pseudonyms.jsonl").who(shown.id) == ("human", "alice@example.com")


def test_a_directory_with_pseudonyms_never_goes_back_to_names(open_world: Any) -> None:
    """Another process that does not ask for them records the same ones, and a carried task finds its principal."""
    world = open_world(privacy=Privacy(pseudonyms=True))
    with world.task(OPEN, principal=ALICE) as task:
        shown = task.grant.principal.id
    with (
        Enforcer.open(world.directory) as other,
        other.task("p", principal=ALICE, agent=Agent("a", owner="o"), scope=OPEN) as again,
    ):
        assert (again.grant.principal.id, again.principal) == (shown, ALICE)
        call: dict[str, Any] = {"tool": "tool", "arguments": {}}
        handed = other.present(Peer("here"), **call)
        with other.receive(handed, audience="here", **call) as received:
            assert received.principal == ALICE


def test_another_service_sees_the_pseudonym(open_world: Any) -> None:
    """What goes to others names nobody; who has no mapping works with the pseudonym, consistently."""
    world, there = open_world(privacy=Privacy(pseudonyms=True)), open_world(privacy=Privacy(pseudonyms=True))
    with world.task(OPEN, principal=ALICE) as task:
        handed = world.enforcer.present(Peer("there"), tool="tool", arguments={})
        text = "".join(b64url_decode(piece).decode("latin-1") for token in handed.tokens for piece in token.split("."))
        assert "alice" not in text
        assert task.grant.principal.id in text
    assert there.enforcer._enforcement.real(task.grant.principal) == task.grant.principal


def test_a_pseudonym_is_nobody_s_name(open_world: Any) -> None:
    """Whoever calls themselves by the pseudonym of another is refused, and not taken for that one."""
    world = open_world(privacy=Privacy(pseudonyms=True))
    with world.task(OPEN, principal=ALICE) as task:
        shown = task.grant.principal.id
    before = len(world.records())
    with pytest.raises(ValueError, match="use the real id"):
        world.task(OPEN, principal=Human(shown)).__enter__()
    assert len(world.records()) == before


@pytest.mark.parametrize("principal", [ALICE, Service("alice@example.com")], ids=["human", "service"])
def test_a_revoked_principal_is_stopped_under_its_pseudonym(open_world: Any, principal: Any) -> None:
    """Revoking by the real name, by an object or on the command line takes hold, before and after its first task."""
    world = open_world(privacy=Privacy(pseudonyms=True))
    world.enforcer.revoke(principal.kind, principal.id, suspend=True)
    with pytest.raises(Denied) as caught:
        world.task(OPEN, principal=principal).__enter__()
    assert caught.value.code == "suspended"
    world.enforcer.reinstate(principal)
    tool = world.tool()
    with world.task(OPEN, principal=principal):
        tool(1)
        assert main(["revoke", str(world.directory), principal.kind, principal.id, "--suspend"]) == 0
        world.clock.advance(timedelta(seconds=1).total_seconds())
        with pytest.raises(Denied):
            tool(2)
    assert len(world.ran) == 1
    world.enforcer.close()
    assert "alice" not in written(world.directory)


def test_an_erased_principal_is_nobody(open_world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """After the erasure nobody can tell who it was or what was done; the evidence verifies; again is nothing."""
    world = open_world(privacy=Privacy(pseudonyms=True))
    tool = world.tool()
    with world.task(OPEN, principal=ALICE) as task:
        tool(1)
        shown = task.grant.principal.id
    world.enforcer.close()
    directory = str(world.directory)
    assert main(["who", directory, shown]) == 0
    assert capsys.readouterr().out == "alice@example.com (human)\n"
    assert main(["who", directory, shown, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"kind": "human", "id": "alice@example.com"}
    assert main(["erase", directory, "--principal", ALICE.id, "--by", "dpo"]) == 0
    assert "1 key and the mapping of the pseudonym erased" in capsys.readouterr().out
    assert main(["who", directory, shown]) == 2
    assert "was erased" in capsys.readouterr().err
    everything = b"".join(path.read_bytes() for path in world.directory.rglob("*") if path.is_file())
    assert b"alice" not in everything
    (record,) = world.records("erasure")
    assert record["erasure"] == {"principal": shown, "keys": "1", "by": "dpo"}
    assert Verifier(world.directory / "trust.json").ledger(world.directory).verdict == "verified"
    assert next(iter(story(world.directory))).erased
    assert main(["erase", directory, "--principal", shown]) == 0
    assert "nothing left" in capsys.readouterr().out
    assert main(["erase", directory, "--principal", ALICE.id]) == 0
    assert "unknown here, or erased before" in capsys.readouterr().out
    assert len(world.records("erasure")) == 1


def test_a_mapping_alone_is_erased_by_its_pseudonym(open_world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A principal that never had a call has no keys, and its mapping goes all the same."""
    world = open_world(privacy=Privacy(pseudonyms=True))
    with pytest.raises(OutOfScope), world.task(OPEN, principal=Human("carol")) as task:
        world.tool("other")()
    shown = task.grant.principal.id
    world.enforcer.close()
    (world.directory / "keys" / "digests.jsonl").unlink()
    assert main(["erase", str(world.directory), "--principal", shown]) == 0
    assert "0 keys and the mapping" in capsys.readouterr().out
    assert b"carol" not in (world.directory / "keys" / "pseudonyms.jsonl").read_bytes()
    assert main(["who", str(world.directory / "ledger"), shown]) == 2
