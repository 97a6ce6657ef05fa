"""Rotation and the kill switch together: running processes follow signed successors of the trust file alone."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._authority.registries.revocations import Revocation, RevocationList
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.identity import FileVersion, SigningKey, TrustedKey, TrustStore, signed_trust
from agent_identity.options import Sources
from agent_identity.state import SqliteState
from agent_identity.testing import FixedClock

NOW = 1_764_000_000
ALICE, CLERK = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
SERVICE = """
import sys
from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.state import SqliteState

store = SqliteState(sys.argv[2]) if len(sys.argv) > 2 else None
enforcer = Enforcer.open(sys.argv[1], state=store)
read = enforcer.tool(name="read")(lambda: "read")
alice, clerk = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
print("open", flush=True)
for _ in sys.stdin:
    try:
        with enforcer.task("read", principal=alice, agent=clerk, scope=Scope("read")):
            print(read(), flush=True)
    except Denied as denied:
        print(denied.code, flush=True)
enforcer.close()
"""


class Running:
    """A service in a process of its own."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-c", SERVICE, *words]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.heard() == "open"

    def heard(self) -> str:
        """Return its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def call(self) -> str:
        """Return the result of a call in it, or the code of its refusal."""
        assert self.process.stdin is not None
        self.process.stdin.write("call\n")
        self.process.stdin.flush()
        return self.heard()


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Start services, and end them."""
    with ExitStack() as stack:

        def begin(*words: object) -> Running:
            running = Running(*map(str, words))
            stack.callback(running.process.communicate)
            return running

        yield begin


def rotate(directory: Path, *more: str) -> None:
    """Rotate all keys of a directory, from the command line."""
    assert main(["keys", "rotate", "--all", str(directory), *more]) == 0


def fleet(root: Path, names: tuple[str, ...]) -> list[Path]:
    """Return directories of one issuer, each with the issuer keys of all, as the how-to says."""
    places = [root / name for name in names]
    for place in places:
        assert main(["init", str(place)]) == 0
    stores = [TrustStore.load(place / "trust.json") for place in places]
    issuers = tuple(key for store in stores for key in store.keys if key.purpose == "issuer")
    for place, store in zip(places, stores, strict=True):
        own = tuple(key for key in store.keys if key.purpose == "recorder")
        TrustStore(issuers + own, issuer="https://fleet.example", origin=store.origin).save(place / "trust.json")
    return places


def test_ac_16_three_services_of_one_directory_go_on_after_rotations_and_revocations(
    tmp_path: Path, start: Callable[..., Running]
) -> None:
    """After two rotations, a list by the newest key stops and starts every process, one without calls meanwhile too."""
    place = tmp_path / "evidence"
    assert main(["init", str(place)]) == 0
    services = [start(place) for _ in range(3)]
    assert [service.call() for service in services[:2]] == ["read"] * 2  # The third makes no call until the end.
    for _ in range(2):
        rotate(place)
        assert main(["revoke", str(place), "agent", "clerk", "--suspend"]) == 0
        assert [service.call() for service in services[:2]] == ["suspended"] * 2
        assert main(["reinstate", str(place), "agent", "clerk"]) == 0
        assert [service.call() for service in services[:2]] == ["read"] * 2
    assert services[2].call() == "read"
    for service in (*services, start(place)):
        assert service.call() == "read"
        service.process.communicate()
    assert main(["verify", str(place), "--trust", str(place / "trust.json")]) == 0


def test_ac_16_three_services_on_one_store_go_on_after_each_of_them_rotated(
    tmp_path: Path, start: Callable[..., Running], capsys: pytest.CaptureFixture[str]
) -> None:
    """Machines of one issuer that share a store take the new keys of each other with the list, and after a restart."""
    places, state = fleet(tmp_path, ("a", "b", "c")), tmp_path / "shared.sqlite"
    services = [start(place, state) for place in places]
    assert [service.call() for service in services] == ["read"] * 3
    for place in places:
        rotate(place)
    words = ["agent", "clerk", "--state", str(state)]
    for suspending, lifting in ((0, 1), (1, 2), (2, 0)):
        assert main(["revoke", str(places[suspending]), *words, "--suspend"]) == 0
        assert [service.call() for service in services] == ["suspended"] * 3
        assert main(["reinstate", str(places[lifting]), *words]) == 0
        assert [service.call() for service in services] == ["read"] * 3
    assert [start(place, state).call() for place in places] == ["read"] * 3
    capsys.readouterr()
    assert main(["revocations", str(places[1]), "--state", str(state)]) == 0
    assert capsys.readouterr().out == "nothing is revoked\n"


@pytest.fixture
def clock() -> FixedClock:
    """Return the clock of the processes."""
    return FixedClock(NOW * 10**9)


def outcome(enforcer: Enforcer) -> str:
    """Return the result of a call, or the code of its refusal."""
    try:
        with enforcer.task("read", principal=ALICE, agent=CLERK, scope=Scope("read")), enforcer.action("read"):
            return "read"
    except Denied as denied:
        return denied.code


def exchanged(directory: Path, *, overlap: int = 3_600, root_key: SigningKey | None = None, now: int = NOW) -> None:
    """Rotate both keys."""
    from agent_identity._directory.rotation import rotate as work

    work(directory, ("issuer", "recorder"), now=now, overlap=overlap, root_key=root_key)


def revoke_as(directory: Path, key: SigningKey, state: Any) -> None:
    """Put a list by a key into a store, as its holder can."""
    listed = RevocationList().adding(Revocation("agent", "clerk", "suspended", since=NOW), now=NOW)
    issuer = TrustStore.load(directory / "trust.json").issuer or ""
    assert state.put("revocations", listed.version, listed.sign(key, issuer=issuer))


def test_ac_17_a_key_that_only_the_file_announces_is_not_followed(tmp_path: Path, clock: FixedClock) -> None:
    """Who can write trust.json, and has no key, gives a running process no other keys."""
    place, stranger = tmp_path / "evidence", SigningKey.generate()
    with (
        closing(SqliteState(tmp_path / "shared.sqlite")) as state,
        Enforcer.open(place, sources=Sources(clock=clock), state=state) as enforcer,
    ):
        assert outcome(enforcer) == "read"
        trust = TrustStore.load(place / "trust.json")
        forged = replace(trust, file=replace(trust.file, revision=9)).with_key(stranger.public_key, "issuer")
        forged.save(place / "trust.json")
        (place / "trust.successors").write_text(signed(forged, stranger) + "\n")
        revoke_as(place, stranger, state)
        assert outcome(enforcer) == "revocations_unreadable"


def signed(trust: TrustStore, key: SigningKey) -> str:
    """Return a successor signed by a key."""
    from agent_identity._identity.trust.successors import signed_successor

    return signed_successor(trust, key)


def test_ac_17_an_ended_key_signs_no_list_that_stops_the_others(tmp_path: Path, clock: FixedClock) -> None:
    """A process whose key has ended is told to open the directory again; the list of the others stays as it was."""
    place = tmp_path / "evidence"
    with Enforcer.open(place, sources=Sources(clock=clock)) as old:
        assert outcome(old) == "read"
        exchanged(place, overlap=60)
        clock.advance(seconds=61)
        with Enforcer.open(place, sources=Sources(clock=clock)) as new:
            with pytest.raises(ConfigurationError) as caught:
                old.revoke(CLERK, suspend=True)
            assert caught.value.code == "key_not_valid_then"
            assert outcome(new) == "read"
            new.revoke(CLERK, suspend=True)
            assert outcome(new) == "suspended"


def test_ac_16_a_ruling_by_the_new_key_lets_a_running_process_go_on(tmp_path: Path, clock: FixedClock) -> None:
    """A ruling by the next issuer key counts in a process that runs since before."""
    from agent_identity import Effect, Rule, RuleSet
    from agent_identity.approvals import Approval

    rules = RuleSet(Rule(Effect.ROUTE, tools="read", to="people"))
    place = tmp_path / "evidence"
    with (
        Enforcer.open(place, sources=Sources(clock=clock), policy=rules, routes={"people": Approval()}) as old,
        old.task("read", principal=ALICE, agent=CLERK, scope=Scope("read")),
    ):
        with pytest.raises(Denied, match="pending"), old.action("read"):
            pass
        with old.no_task():
            exchanged(place)
            with Enforcer.open(place, sources=Sources(clock=clock)) as new:
                new.approvals.approve(new.approvals.pending()[0].id, by=Human("bob@example.com"))
        with old.action("read"):
            pass


def test_ac_17_where_a_root_is_pinned_only_it_signs_a_successor(tmp_path: Path, clock: FixedClock) -> None:
    """A rotation without the root leaves running processes where they are, and no other starts; with it they follow."""
    place, root = tmp_path / "evidence", SigningKey.generate()
    Enforcer.open(place, sources=Sources(clock=clock)).close()
    with pytest.raises(ConfigurationError) as caught:
        Enforcer.open(place, sources=Sources(clock=clock), trust_root=root.public_key)
    assert caught.value.code == "bad_trust_signature"
    trust = TrustStore.load(place / "trust.json")
    listed = TrustedKey(root.public_key, "root", origin=trust.origin)
    rooted = replace(trust, keys=(*trust.keys, listed), file=FileVersion("file", 1))
    signed_trust(rooted, root).save(place / "trust.json")
    with Enforcer.open(place, sources=Sources(clock=clock), trust_root=root.public_key) as old:
        exchanged(place, root_key=root)
        with Enforcer.open(place, sources=Sources(clock=clock), trust_root=root.public_key) as new:
            new.revoke(CLERK, suspend=True)
            assert [outcome(one) for one in (old, new)] == ["suspended"] * 2
        exchanged(place)
        with pytest.raises(ConfigurationError):
            Enforcer.open(place, sources=Sources(clock=clock), trust_root=root.public_key)
        with Enforcer.open(place, sources=Sources(clock=clock)) as unpinned:
            unpinned.reinstate(CLERK)
            assert outcome(old) == "revocations_unreadable"


def test_ac_17_a_key_revoked_after_its_rotation_stops_counting_in_running_processes(
    tmp_path: Path, clock: FixedClock
) -> None:
    """A process that runs since before obeys the list of the new key, and none of the stolen one."""
    from agent_identity._directory.rotation import revoke

    place = tmp_path / "evidence"
    Enforcer.open(place, sources=Sources(clock=clock)).close()
    stolen = SigningKey.load(place / "keys" / "issuer.pem")
    exchanged(place)
    with (
        closing(SqliteState(tmp_path / "shared.sqlite")) as state,
        Enforcer.open(place, sources=Sources(clock=clock), state=state) as running,
    ):
        assert outcome(running) == "read"
        revoke(place, stolen.public_key.thumbprint, since=NOW)
        revoke_as(place, stolen, state)
        assert outcome(running) == "revocations_unreadable"
        running.revocations.sign_again()
        assert outcome(running) == "suspended"


def test_revoking_says_which_processes_cannot_read_the_list(
    tmp_path: Path, clock: FixedClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that no earlier key announced is told, with the streams that began before it; an announced one is not."""
    place = tmp_path / "evidence"
    with Enforcer.open(place, sources=Sources(clock=clock)) as running:
        assert outcome(running) == "read"
        exchanged(place, now=NOW + 9, overlap=10**9)
        assert main(["revoke", str(place), "agent", "clerk", "--suspend"]) == 0
        assert "revocations_unreadable" not in capsys.readouterr().err
        assert outcome(running) == "suspended"
        exchanged(place, now=NOW + 19, overlap=10**9)
        (place / "trust.successors").unlink()
        assert main(["reinstate", str(place), "agent", "clerk"]) == 0
        assert "1 of its streams" in capsys.readouterr().err
        assert outcome(running) == "revocations_unreadable"


def test_ac_17_a_revoked_key_leaves_the_trust_file_signed_by_its_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --root the next trust.json is signed, and running processes follow it; without, the command says so."""
    place, pem, root = tmp_path / "evidence", tmp_path / "root.pem", SigningKey.generate()
    root.save(pem)
    Enforcer.open(place).close()
    stolen = SigningKey.load(place / "keys" / "issuer.pem").public_key.thumbprint
    trust = TrustStore.load(place / "trust.json")
    listed = TrustedKey(root.public_key, "root", origin=trust.origin)
    rooted = replace(trust, keys=(*trust.keys, listed), file=FileVersion("file", 1))
    signed_trust(rooted, root).save(place / "trust.json")
    with Enforcer.open(place, trust_root=root.public_key) as running:
        rotate(place, "--root", str(pem))
        words = ["keys", "revoke", f"--since={NOW}"]
        assert main([*words, "--root", str(pem), "--", str(place), stolen]) == 0
        assert "No root signed" not in capsys.readouterr().out
        with Enforcer.open(place, trust_root=root.public_key) as other:
            other.revoke(CLERK, suspend=True)
            assert [outcome(one) for one in (running, other)] == ["suspended"] * 2
        assert main([*words[:2], f"--since={NOW - 1}", "--", str(place), stolen]) == 0
        assert "No root signed" in capsys.readouterr().out


def test_the_kill_switch_works_beside_successors_that_are_none(tmp_path: Path, clock: FixedClock) -> None:
    """A line that is no successor is passed over, by processes and by the command."""
    place = tmp_path / "evidence"
    with Enforcer.open(place, sources=Sources(clock=clock)) as running:
        assert outcome(running) == "read"
        (place / "trust.successors").write_text("a b.c d.e.f\n")
        exchanged(place)
        assert main(["revoke", str(place), "agent", "clerk", "--suspend"]) == 0
        assert outcome(running) == "suspended"
