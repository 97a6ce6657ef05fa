"""One trust that a root signs: with a shell of the agent's user, no one adds a key to it where the root is pinned."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._authority.registries.revocations import Revocation, RevocationList
from agent_identity._identity.trust.successors import signed_successor
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.identity import PublicKey, SigningKey, TrustedKey, TrustStore, signed_trust
from agent_identity.state import SqliteState, StateStore

ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
ROOT, STRANGER, STRANGE_ROOT = (SigningKey.from_seed(bytes([number]) * 32) for number in (71, 72, 73))


@dataclass
class World:
    """A directory whose trust file a root signed twice, with all of its keys in the hands of the agent's user.

    Attributes:
        place: The directory.
        state: The shared state.
        first: The trust file before a stolen key was revoked.
        now: The trust file since.
        stolen: That key.
    """

    place: Path
    state: StateStore
    first: TrustStore
    now: TrustStore
    stolen: SigningKey

    def shell(self, text: str) -> None:
        """Run a line of the agent's user in the directory."""
        subprocess.run(["sh", "-c", text], cwd=self.place, check=True)

    def lay(self, name: str, store: TrustStore) -> None:
        """Write a file as the agent's user, which no check of ours holds back."""
        (self.place / name).write_bytes(store.to_json())

    def announce(self, store: TrustStore, key: SigningKey) -> None:
        """Announce a trust file, signed by a key that the user has."""
        (self.place / "trust.successors").write_text(f"{signed_successor(store, key)}\n")

    def issuer(self) -> SigningKey:
        """Return the issuer key of the directory, which the agent's user can read."""
        return SigningKey.load(self.place / "keys" / "issuer.pem")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Make the directory."""
    place, stolen = tmp_path / "evidence", SigningKey.generate()
    Enforcer.open(place).close()
    trust = TrustStore.load(place / "trust.json")
    keys = (
        *trust.keys,
        TrustedKey(ROOT.public_key, "root", origin=trust.origin),
        TrustedKey(stolen.public_key, "issuer"),
    )
    first = signed_trust(trust.with_keys(keys), ROOT)
    now = signed_trust(first.with_keys((*keys[:-1], replace(keys[-1], revoked_since=1_764_000_000))), ROOT)
    now.save(place / "trust.json")
    with closing(SqliteState(tmp_path / "shared.sqlite")) as state:
        yield World(place, state, first, now, stolen)


def poisoned(world: World) -> SigningKey:
    """Put a file with a new key in place, announced by the issuer key of the directory, without a root's signature."""
    store = world.now.with_key(STRANGER.public_key, "issuer")
    world.announce(store, world.issuer())
    world.lay("trust.json", store)
    return STRANGER


def rolled_back(world: World) -> SigningKey:
    """Put the earlier file back, which the root signed, so that a stolen key may count again."""
    world.announce(world.first, world.issuer())
    world.lay("earlier.json", world.first)
    world.shell("mv earlier.json trust.json")
    return world.stolen


def swapped(world: World) -> SigningKey:
    """Swap a link from the signed file to one of a root of their own, which lists the pinned root as well."""
    keys = (*world.now.keys, TrustedKey(STRANGE_ROOT.public_key, "root", origin="agent-identity/"))
    store = signed_trust(world.now.with_keys(keys).with_key(STRANGER.public_key, "issuer"), STRANGE_ROOT)
    world.lay("good.json", world.now)
    world.lay("bad.json", store)
    world.shell("ln -sf good.json trust.json && ln -sfn bad.json next && mv -f next trust.json")
    world.announce(store, world.issuer())
    return STRANGER


def misnamed(world: World) -> SigningKey:
    """Put a file in place whose signature names the root and is another key's; the revision is high."""
    raised = replace(world.now, file=replace(world.now.file, revision=90, signature=None))
    store = raised.with_key(STRANGER.public_key, "issuer")
    header = (world.now.file.signature or "").split(".")[0]
    theirs = signed_trust(
        store.with_keys((*store.keys, TrustedKey(STRANGE_ROOT.public_key, "root", origin="agent-identity/"))),
        STRANGE_ROOT,
    )
    signature = (theirs.file.signature or "").split(".")[2]
    document = {**json.loads(store.to_json()), "signature": f"{header}..{signature}"}
    (world.place / "trust.json").write_text(json.dumps(document))
    world.announce(theirs, world.issuer())
    return STRANGER


ATTACKS: tuple[Callable[[World], SigningKey], ...] = (poisoned, rolled_back, swapped, misnamed)


def outcome(enforcer: Enforcer) -> str:
    """Return the result of a call, or the code of its refusal."""
    try:
        with enforcer.task("read", principal=ALICE, agent=CLERK, scope=Scope("read")), enforcer.action("read"):
            return "read"
    except Denied as denied:
        return denied.code


@pytest.mark.parametrize("pin", [ROOT.public_key, None], ids=["pinned", "followed"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_ac_17_a_shell_of_the_agent_adds_no_key_to_a_running_process(
    world: World, attack: Callable[[World], SigningKey], pin: PublicKey | None
) -> None:
    """A list of revocations by the key is not read; a root that signed the file at the start is followed alone, too."""
    with Enforcer.open(world.place, state=world.state, trust_root=pin) as running:
        assert outcome(running) == "read"
        key = attack(world)
        listed = RevocationList().adding(Revocation("agent", "clerk", "suspended", since=1), now=1_764_000_000)
        assert world.state.put("revocations", listed.version, listed.sign(key, issuer=world.now.issuer or ""))
        assert outcome(running) == "revocations_unreadable"


@pytest.mark.parametrize("attack", ATTACKS)
def test_ac_17_a_shell_of_the_agent_adds_no_key_to_a_pinned_verifier(
    world: World, attack: Callable[[World], SigningKey], capsys: pytest.CaptureFixture[str]
) -> None:
    """Even if the verifier takes the trust file from the directory of the agents: it stops, and names the cure."""
    file, root = world.place / "trust.json", ROOT.public_key.thumbprint
    with Enforcer.open(world.place) as enforcer:
        assert outcome(enforcer) == "read"
    command = ["verify", str(world.place), "--trust", str(file), f"--root={root}", "--revision", "3"]
    assert main(command) == 0
    attack(world)
    capsys.readouterr()
    assert main(command) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("bad signature of the trust file" in captured.err) or ("older than 3; take the one" in captured.err)
    for pin in (ROOT.public_key, root):
        with pytest.raises(ConfigurationError) as caught:
            TrustStore.load(file, root=pin, revision=3)
        assert caught.value.code in {"bad_trust_signature", "trust_rolled_back"}


@pytest.mark.parametrize("attack", [poisoned, swapped, misnamed])
def test_ac_17_no_process_starts_on_a_trust_file_that_the_pinned_root_did_not_sign(
    world: World, attack: Callable[[World], SigningKey]
) -> None:
    """A restart, which the agent's user can bring about, does not help either."""
    attack(world)
    with pytest.raises(ConfigurationError) as caught:
        Enforcer.open(world.place, trust_root=ROOT.public_key)
    assert caught.value.code == "bad_trust_signature"


def test_ac_17_a_file_named_like_the_pin_takes_not_its_place(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thumbprint is never taken for a path, whatever the folder of the verifier holds."""
    swapped(world)
    monkeypatch.chdir(world.place)
    root = ROOT.public_key.thumbprint
    Path(root).write_text(json.dumps(STRANGE_ROOT.public_key.to_jwk()))
    assert main(["verify", ".", "--trust", "trust.json", f"--root={root}"]) == 2
    assert "bad signature of the trust file" in capsys.readouterr().err
    assert main(["verify", ".", "--trust", "trust.json", f"--root=./{root}"]) == 0


def test_ac_17_evidence_of_a_key_that_no_root_knows_is_not_verified(world: World, tmp_path: Path) -> None:
    """What the agent's user makes beside it, with keys and a trust file of their own, cannot tell under the pin."""
    kept = tmp_path / "kept.json"
    world.now.save(kept)
    with Enforcer.open(tmp_path / "forged") as enforcer:
        assert outcome(enforcer) == "read"
    trust = TrustStore.load(kept, root=ROOT.public_key.thumbprint)
    assert Verifier(trust).ledger(tmp_path / "forged").verdict != "verified"


@pytest.mark.parametrize("words", [["--root", "x" * 43], ["--revision", "2"], ["--trust", "T", "--revision", "2"]])
def test_a_pin_is_about_a_trust_file_that_is_given(
    world: World, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A pin that would do nothing is refused."""
    assert main(["verify", str(world.place), *words]) == 2
    assert "give --trust and --root" in capsys.readouterr().err


def test_ac_17_a_report_is_pinned_as_a_verification_is(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It stops on another trust file, and states the pin with its command."""
    file, root = world.place / "trust.json", ROOT.public_key.thumbprint
    with Enforcer.open(world.place) as enforcer:
        assert outcome(enforcer) == "read"
    command = ["report", "data", str(world.place), "--trust", str(file), f"--root={root}", "--revision", "3"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert f"--root {root} --revision 3" in json.dumps(told)
    rolled_back(world)
    assert main(command) == 2
    assert "older than 3; take the one in force" in capsys.readouterr().err
