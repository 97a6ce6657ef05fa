"""Stolen, replayed, cut and redirected authority between processes (AC-08 to AC-12, AC-27 to AC-31, AC-34 to AC-40).

Every refusal is looked at from the side of the receiver: the body did not run, and a record says so with its code.
"""

import io
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity import Agent, Enforcer, Human, Scope, Verifier
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import derive, issue
from agent_identity._authority.stores.protocol import GRACE
from agent_identity._directory.open import prepare
from agent_identity._identity.common.ids import uuid_of
from agent_identity._identity.common.record_bytes import decode_record
from agent_identity._ledger.reader import open_ledger
from agent_identity.audit import story
from agent_identity.delegation import Grants, Peer, Presentation
from agent_identity.errors import AgentIdentityError, Denied, TokenError
from agent_identity.identity import Clock, RandomIds, SigningKey, SystemClock, TrustStore
from agent_identity.integrations.http.binding import CHAIN, NEXT, PROOF, request_arguments
from agent_identity.integrations.http.client import delegation_headers
from agent_identity.integrations.http.server import Gate
from agent_identity.integrations.http.wsgi import DelegationMiddleware
from agent_identity.options import Sources
from agent_identity.state import MemoryState
from agent_identity.testing import FixedClock

ALICE = Human("alice@example.com")
CLERK = Agent("clerk", owner="finance@example.com")
DESK = Agent("desk", owner="payments@example.com")
KEY = SigningKey.from_seed(b"\x07" * 32)
STRANGER = SigningKey.from_seed(b"\xff" * 32)
BASE = "https://b.example.com"
PEERS = {"b.example.com": Peer("service-b"), "c.example.com": Peer("service-c")}
SCOPE = Scope("read", path="a")


class Services:
    """Service a that calls, and service b behind a gate; bodies of b that ran, and what b recorded."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder, self.ran = folder, list[str]()
        self.clock = clock or SystemClock()
        self.a = Enforcer.open(folder / "a", sources=Sources(clock=self.clock))
        trust = TrustStore.load(folder / "a" / "trust.json")
        (key,) = (trusted.key for trusted in trust.keys if trusted.purpose == "issuer")
        self.issuer_name = trust.issuer
        _, _, own = prepare(folder / "b", self.clock, RandomIds())
        own.with_key(key, "issuer", issuer=trust.issuer).save(folder / "b" / "trust.json")
        self.b = Enforcer.open(folder / "b", sources=Sources(clock=self.clock))

        @self.b.tool
        def read(path: str) -> str:
            self.ran.append(path)
            return path

        def app(environ: dict[str, object], start: Callable) -> list[bytes]:
            start("200 OK", [])
            return [read(path="a").encode()]

        self.read = read
        gate = Gate(audience="service-b", base_url=BASE, holder=KEY, agent=DESK)
        self.app = DelegationMiddleware(app, self.b, gate)

    def task(self, scope: Scope = SCOPE, **options: object) -> object:
        """Return a task of alice and the clerk at a."""
        return self.a.task("books", **{"principal": ALICE, "agent": CLERK, "scope": scope, **options})

    def headers(self, url: str = f"{BASE}/x", peers: dict[str, Peer] = PEERS) -> dict[str, str]:
        """Return the headers of one request of a."""
        return delegation_headers(self.a, "GET", url, b"", peers)

    def call(self, headers: dict[str, str], path: str = "/x") -> tuple[str, dict[str, str]]:
        """Send a request to b; return the status, and the answer if it was refused."""
        started: list[str] = []
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": io.BytesIO()}
        environ |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        body = b"".join(self.app(environ, lambda status, _: started.append(status)))
        return started[0][:3], json.loads(body) if started[0][0] != "2" else {}

    def records(self, kind: str = "outcome") -> list[dict]:
        """Return the records of b of one kind."""
        reader = open_ledger(self.folder / "b")
        lines = itertools.chain.from_iterable(map(reader.entries, reader.streams()))
        return [record for record in (decode_record(line.record) for line in lines) if record["kind"] == kind]

    def refused(self, headers: dict[str, str], *codes: str, path: str = "/x") -> str:
        """Prove that a request is refused: no body ran, and one signed record has the code of the answer."""
        ran, before = len(self.ran), len(self.records())
        status, told = self.call(headers, path)
        assert status in {"401", "403"}
        assert told["code"] in codes or not codes
        (record,) = self.records()[before:]
        assert (record["id"], record["error"]) == (told["reference"], told["code"])
        assert (record["outcome"], record["attribution"]) == ("denied", "none")
        assert record["decision"]["effect"] == record["decision"]["enforced"] == "block"
        assert len(self.ran) == ran
        return told["code"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """One pair of services for the properties, whose examples are many."""
    services = Services(tmp_path_factory.mktemp("shared"), FixedClock())  # However long it takes, it is now.
    yield services
    services.a.close()
    services.b.close()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    found = Services(tmp_path)
    yield found
    found.a.close()
    found.b.close()
    for name in ("a", "b"):
        report = Verifier(tmp_path / name / "trust.json").ledger(tmp_path / name)
        assert (report.verdict, report.findings) == ("verified", ())


def deep(services: Services) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the headers of a request four grants deep, and its tokens; a task of a has to be open."""
    with services.a.delegate(DESK, scope=SCOPE), services.a.delegate(CLERK, scope=SCOPE):
        headers = services.headers()
    return headers, tuple(headers[CHAIN].split("~"))


def test_ac_08_a_chain_without_one_of_its_links_is_refused(services: Services) -> None:
    """Root, middle or leaf taken away, in every combination: nothing runs."""
    with services.task():
        headers, tokens = deep(services)
        for count in range(1, len(tokens)):
            for kept in itertools.combinations(tokens, count):
                services.refused({**headers, CHAIN: "~".join(kept)})
        for value in ("", "~", "~".join(("", *tokens)), "~".join(tokens) + "~"):
            services.refused({**headers, CHAIN: value})
        assert services.call(headers)[0] == "200"


def test_ac_09_links_in_another_order_or_twice_are_refused(services: Services) -> None:
    """Of all orders of a chain one is right, and each link stands in it once."""
    with services.task():
        headers, tokens = deep(services)
        for order in itertools.permutations(tokens):
            if order != tokens:
                services.refused({**headers, CHAIN: "~".join(order)})
        for place in range(len(tokens)):
            twice = (*tokens[: place + 1], *tokens[place:])
            services.refused({**headers, CHAIN: "~".join(twice)}, "duplicate_id")


def test_ac_10_a_child_under_another_parent_of_the_same_holder_is_refused(services: Services) -> None:
    """A grant names its parent by hash; the same agents and scope in another task do not matter."""
    with services.task():
        first, tokens = deep(services)
    with services.task():
        _, others = deep(services)
    for place in range(1, len(tokens)):
        services.refused(
            {**first, CHAIN: "~".join((*others[:place], *tokens[place:]))}, "bad_signature", "wrong_parent"
        )


def test_ac_11_a_chain_without_signatures_is_refused(services: Services) -> None:
    """Nothing unsigned or half signed names a sponsor."""
    with services.task():
        headers, tokens = deep(services)
    for place, token in enumerate(tokens):
        start = token.rpartition(".")[0]
        for signature in ("", "AA", "A" * 86):
            cut = (*tokens[:place], f"{start}.{signature}", *tokens[place + 1 :])
            services.refused({**headers, CHAIN: "~".join(cut)}, "malformed_token", "bad_signature")


def test_ac_12_a_root_of_a_strangers_making_is_refused(services: Services) -> None:
    """Whoever issues a root for himself, also in the name of a trusted issuer, has to be configured."""
    clock = SystemClock()
    now = clock.wall_ns() // 10**9
    stranger = Enforcer.open(services.folder / "stranger")
    with stranger.task("steal", principal=Human("ceo@example.com"), agent=CLERK, scope=SCOPE):
        headers = delegation_headers(stranger, "GET", f"{BASE}/x", b"", PEERS)
    stranger.close()
    services.refused(headers, "unknown_key")
    forged = issue(
        STRANGER,
        issuer=services.issuer_name,
        task_id="task",
        principal=ALICE,
        agent=CLERK,
        holder=KEY.public_key,
        scope=SCOPE,
        now=now,
        ttl=60,
        id=uuid_of(RandomIds().new(clock.wall_ns())),
        audience="service-b",
    )
    services.refused({**headers, CHAIN: forged.token}, "unknown_key")


def test_ac_12_a_trusted_issuer_speaks_for_itself_only(services: Services) -> None:
    """The key of issuer a is trusted at b, and cannot sign in the name of b."""
    name = TrustStore.load(services.folder / "b" / "trust.json").issuer
    key = SigningKey.load(services.folder / "a" / "keys" / "issuer.pem")
    clock = SystemClock()
    forged = issue(
        key,
        issuer=name,
        task_id="task",
        principal=ALICE,
        agent=CLERK,
        holder=KEY.public_key,
        scope=SCOPE,
        now=clock.wall_ns() // 10**9,
        ttl=60,
        id=uuid_of(RandomIds().new(clock.wall_ns())),
    )
    with pytest.raises(Denied) as refused:
        services.b.accept(Grants((forged.token,)), holder=KEY).__enter__()
    assert refused.value.code == "wrong_issuer"
    assert services.records()[-1]["error"] == "wrong_issuer"


def test_ac_27_a_grant_of_one_task_does_not_serve_another(services: Services) -> None:
    """For every ordered pair of tasks, the chain of one with the proof or the further grant of the other is refused."""
    peers = {"b.example.com": Peer("service-b", agent=DESK, key=KEY.public_key)}
    requests = []
    for _ in range(4):
        with services.task():
            requests.append(services.headers(peers=peers))
    for one, other in itertools.permutations(requests, 2):
        services.refused({**one, CHAIN: other[CHAIN]}, "bad_signature")
        services.refused({**one, PROOF: other[PROOF]}, "bad_signature")
        services.refused({**one, NEXT: other[NEXT]}, "wrong_next_grant")
    assert {services.call(request)[0] for request in requests} == {"200"}


def test_ac_27_a_further_grant_of_another_task_is_refused_even_if_it_is_proved(services: Services) -> None:
    """A caller that signs a proof over the grant of another of its tasks gains nothing."""
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    call = {"tool": "read", "arguments": {}}
    with services.task():
        other = services.a.present(peer, **call).onward
    with services.task() as task:
        services.a.present(peer, **call)
        addressed = task.handed.addressed(peer)
        addressed.onward = type("Other", (), {"hash": _hash_of(other), "token": other})()
        shown = services.a.present(peer, **call)
    with pytest.raises(Denied) as refused:
        services.b.receive(shown, audience="service-b", holder=KEY, **call).__enter__()
    assert refused.value.code in {"bad_signature", "wrong_parent"}


def _hash_of(token: str) -> str:
    from agent_identity._identity.keys.jws import token_hash

    return token_hash(token)


def test_ac_28_a_stolen_grant_is_useless_without_its_key(services: Services) -> None:
    """Chain and old proof from a log, a new proof by another key, or none: refused."""
    with services.task():
        used, stolen = services.headers(), services.headers()
        assert services.call(used)[0] == "200"
        services.refused({CHAIN: stolen[CHAIN], PROOF: used[PROOF]}, "replay")
        services.refused({CHAIN: stolen[CHAIN]}, "malformed_header")
        services.refused({}, "no_delegation")
        services.refused(stolen, "wrong_arguments", path="/other")
        thief = Enforcer.open(services.folder / "thief")
        with thief.task("steal", principal=ALICE, agent=CLERK, scope=SCOPE):
            forged = delegation_headers(thief, "GET", f"{BASE}/x", b"", PEERS)
        thief.close()
        services.refused({**stolen, PROOF: forged[PROOF]}, "bad_signature")
        for holder in (None, STRANGER):
            with pytest.raises(Denied) as refused:
                services.b.accept(
                    Grants(tuple(stolen[CHAIN].split("~"))), holder=holder, audience="service-b"
                ).__enter__()
            assert refused.value.code == "not_the_holder"


def test_ac_28_a_grant_for_one_audience_is_useless_at_another(services: Services) -> None:
    """What was sent to service c, c cannot pass on to service b."""
    with services.task():
        for_c = services.headers("https://c.example.com/x")
        services.refused(for_c, "wrong_audience")
        services.refused({**for_c, PROOF: services.headers()[PROOF]}, "wrong_audience")


def test_ac_29_a_proof_counts_once(services: Services) -> None:
    """The same bytes a second time are a replay, also within the window and after the task."""
    with services.task():
        headers = services.headers()
        assert services.call(headers)[0] == "200"
        services.refused(headers, "replay")
    services.refused(headers, "replay")
    assert services.ran == ["a"]


def test_ac_29_a_proof_counts_in_its_time_only(tmp_path: Path) -> None:
    """Neither a proof of the past nor one of the future is taken; remembered is longer than it could count."""
    clock = FixedClock()
    with Enforcer.open(tmp_path / "e", sources=Sources(clock=clock)) as enforcer:
        call = {"tool": "read", "arguments": {}}
        with enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
            early = enforcer.present(Peer("e"), **call)
            clock.advance(31)
            late = enforcer.present(Peer("e"), **call)
            for shown, at, code in ((early, 0, "proof_too_old"), (late, -31 * 10**9, "not_yet_valid")):
                now = clock.wall_ns()
                clock.set_wall(now + at)
                with pytest.raises(Denied) as refused:
                    enforcer.receive(shown, audience="e", **call).__enter__()
                assert refused.value.code == code
                clock.set_wall(now)
            with enforcer.receive(late, audience="e", **call):
                pass
            for _ in range(61):
                with pytest.raises(Denied) as refused:
                    enforcer.receive(late, audience="e", **call).__enter__()
                assert refused.value.code in {"replay", "proof_too_old"}
                clock.advance(1)


def test_ac_30_of_sixteen_that_race_with_one_proof_one_is_let_in(services: Services) -> None:
    """The proof is taken in one atomic step, round after round."""
    for _ in range(10):
        with services.task():
            headers = services.headers()
        barrier = threading.Barrier(16)

        def attempt(_: int, headers: dict[str, str] = headers, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            return status_of(services, headers)

        with ThreadPoolExecutor(16) as pool:
            assert sorted(pool.map(attempt, range(16))) == ["200"] + ["401"] * 15
    assert services.ran == ["a"] * 10


def status_of(services: Services, headers: dict[str, str]) -> str:
    """Return the status of a request."""
    return services.call(headers)[0]


def test_ac_31_a_full_memory_of_proofs_denies(tmp_path: Path) -> None:
    """Filling it neither slows it down nor makes it forget: it is bounded, and a full one lets nobody in."""
    clock = FixedClock()
    memory = MemoryState(capacity=100_000)
    now = clock.wall_ns() // 10**9
    for number in range(100_000):
        assert memory.insert(f"proof:{number}", now=now, expires_at=now + 61)
    for number in (0, 99_999):
        assert not memory.insert(f"proof:{number}", now=now, expires_at=now + 61)
    ran: list[str] = []
    with Enforcer.open(tmp_path / "e", sources=Sources(clock=clock), state=memory) as enforcer:
        call = {"tool": "read", "arguments": {}}
        with enforcer.task("books", principal=ALICE, agent=CLERK, scope=SCOPE):
            shown = enforcer.present(Peer("e"), **call)
            with pytest.raises(Denied) as refused, enforcer.receive(shown, audience="e", **call):
                ran.append("ran")
            assert (refused.value.code, ran) == ("state_full", [])
            clock.advance(61 + 3 * GRACE)  # What expired is forgotten a little later, by the minute.
            fresh = enforcer.present(Peer("e"), **call)
            with enforcer.receive(fresh, audience="e", **call):
                ran.append("ran")
    assert ran == ["ran"]


def test_ac_31_only_whom_we_trust_takes_room_in_the_memory_of_proofs(services: Services) -> None:
    """Refused requests leave nothing in it."""
    before = services.b._enforcement.state.generation()
    with services.task():
        headers = services.headers()
        for _ in range(5):
            services.refused({**headers, CHAIN: headers[CHAIN][:-4] + "AAAA"})
            services.refused(headers, "wrong_arguments", path="/y")
    assert services.b._enforcement.state.generation() == before


FAMILY = """
import json, multiprocessing, os, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.delegation import DelegationBundle

enforcer = Enforcer.open("evidence")

@enforcer.tool
def work(number: int) -> str:
    return f"{number} for {enforcer.current_task.principal.id}"

def attempt(number):
    try:
        return work(number=number)
    except Denied as denied:
        return denied.code

def child(carried, number):
    before = attempt(number)
    with enforcer.accept(carried):
        return [before, attempt(number), attempt(99)]

def into(queue, carried, number):
    queue.put(child(carried, number))
    enforcer.close()

def waits(pipe, carried):
    with enforcer.accept(carried):
        pipe.send(attempt(1))
        pipe.recv()
        pipe.send(attempt(1))
    enforcer.close()

def main():
    alice, clerk = Human("alice@example.com"), Agent("clerk", owner="finance@example.com")
    found = {}
    with enforcer.task("family", principal=alice, agent=clerk, scope=Scope("work", number=1)):
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            queue = context.Queue()
            process = context.Process(target=into, args=(queue, enforcer.current_task.export(), 1))
            process.start(); found[method] = queue.get(timeout=60); process.join()
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                found[method + "_pool"] = list(pool.map(child, [enforcer.current_task.export()] * 3, [1] * 3))
        carried = enforcer.current_task.export()
        done = subprocess.run([sys.executable, __file__, "environment"], env=os.environ | carried.to_environment(),
                              capture_output=True, text=True)
        found["environment"] = json.loads(done.stdout or repr(done.stderr).join('""'))
        done = subprocess.run([sys.executable, __file__, "input"], input=enforcer.current_task.export().to_text(),
                              capture_output=True, text=True)
        found["input"] = json.loads(done.stdout)
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=waits, args=(theirs, enforcer.current_task.export()))
        process.start(); found["waits"] = [mine.recv()]
        late = enforcer.current_task.export()
    mine.send("go"); found["waits"].append(mine.recv()); process.join()
    try:
        with enforcer.accept(late):
            found["late"] = "ran"
    except Denied as denied:
        found["late"] = denied.code
    print(json.dumps(found))

if __name__ == "__main__":
    if sys.argv[1:] == ["environment"]:
        carried = DelegationBundle.from_environment()
        print(json.dumps([child(carried, 1), "AGENT_IDENTITY_BUNDLE" in os.environ]))
    elif sys.argv[1:] == ["input"]:
        print(json.dumps(child(DelegationBundle.from_text(sys.stdin.read()), 1)))
    else:
        main()
    enforcer.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is tested as well")
def test_ac_34_and_ac_39_children_act_for_the_same_human_in_the_scope_they_were_given(tmp_path: Path) -> None:
    """Forked, spawned, pooled or started, they do what was carried, with the hop in the chain, while the task lives."""
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    environment = {name: value for name, value in environment.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    worked = ["no_task", "1 for alice@example.com", "argument_out_of_scope"]
    assert found["fork"] == found["spawn"] == found["input"] == worked
    assert found["fork_pool"] == found["spawn_pool"] == [worked] * 3
    assert found["environment"] == [worked, False]
    assert found["waits"] == ["1 for alice@example.com", "task_ended"]
    assert found["late"] == "task_ended"
    report = Verifier().ledger(tmp_path / "evidence")
    assert report.integrity == "verified"
    assert {"counts_disagree", "unknown_grant"}.isdisjoint(problem.code for problem in report.findings)
    (told, *_) = (each for each in story(tmp_path / "evidence") if each.task)
    assert (told.principal, told.agent, told.purpose) == ("alice@example.com", "clerk", "family")
    assert {action.agents for action in told.actions} == {("clerk", "clerk")}


def test_ac_35_a_pool_of_threads_does_not_inherit_the_task_of_a_request(services: Services) -> None:
    """What the application starts in other threads needs bind(), as everywhere."""
    with services.task(), ThreadPoolExecutor(1) as pool:
        shown = services.a.present(Peer("service-b"), tool="read", arguments={})
        with services.b.receive(shown, tool="read", arguments={}, audience="service-b"):
            with pytest.raises(Denied) as refused:
                pool.submit(services.read, path="a").result()
            assert refused.value.code == "no_task"
            assert services.ran == []
            assert pool.submit(services.b.bind(services.read), path="a").result() == "a"
    assert [record.get("error") for record in services.records()] == ["no_task", None]


def test_ac_39_three_processes_and_services_later_the_human_is_still_named(services: Services) -> None:
    """Every record at the end of a long way names who is behind it."""
    peer = Peer("service-b", agent=DESK, key=KEY.public_key)
    with services.task(), services.a.delegate(CLERK, scope=SCOPE), services.a.accept(services.a.current_task.export()):
        headers = services.headers(peers={"b.example.com": peer})
    assert services.call(headers)[0] == "200"
    for record in services.records("intent") + services.records("outcome"):
        assert record["principal"]["id"] == "alice@example.com"
        assert [link["id"] for link in record["chain"]] == ["clerk", "clerk", "clerk", "desk"]


def test_ac_40_what_headers_and_baggage_say_about_a_principal_is_ignored(services: Services) -> None:
    """Only a chain that verifies names anybody; the rest is noise."""
    noise = {"baggage": "principal=ceo", "X-Principal": "ceo", "From": "ceo@example.com", "traceparent": "00-1-1-01"}
    services.refused(noise, "no_delegation")
    with services.task():
        assert services.call({**services.headers(), **noise})[0] == "200"
    (outcome,) = (record for record in services.records() if record["outcome"] == "success")
    assert outcome["principal"] == ALICE.to_claim()


# --- Surgery: whatever is done to the headers of an honest request, nothing runs.


def _mutants(tokens: list[str], others: list[str]) -> st.SearchStrategy[list[str]]:
    """Chains made of the links of two honest ones, and of damaged links."""
    damaged = st.sampled_from(tokens).flatmap(
        lambda token: st.builds(
            lambda place, letter: token[:place] + letter + token[place + 1 :],
            st.integers(0, len(token) - 1),
            st.sampled_from("AZaz09-_.~"),
        )
    )
    truncated = st.sampled_from(tokens).flatmap(lambda token: st.integers(0, len(token) - 1).map(lambda n: token[:n]))
    link = st.sampled_from(tokens) | st.sampled_from(others) | damaged | truncated | st.text(max_size=20)
    return st.lists(link, max_size=6)


@pytest.fixture(scope="module")
def honest(shared: Services) -> tuple[dict[str, str], list[str], list[str]]:
    """The headers of an honest request, its tokens, and those of another task."""
    with shared.task():
        _, others = deep(shared)
    with shared.task():
        headers, tokens = deep(shared)
    return headers, list(tokens), list(others)


def arrive(services: Services, shown: Presentation) -> object:
    """Open what an honest request would open."""
    arguments = request_arguments("GET", f"{BASE}/x", b"")
    return services.b._inbound.receive(
        shown, "http.request", arguments, audience="service-b", holder=None, agent=None, purpose="p"
    )


def test_what_the_surgery_begins_with_is_accepted(shared: Services) -> None:
    """Unharmed, the request of the next tests is let in: what refuses the others is what was done to them."""
    with shared.task():
        headers, tokens = deep(shared)
    arrive(shared, Presentation(tokens, headers[PROOF], None))


@given(data=st.data())
def test_no_chain_surgery_is_accepted(
    shared: Services, honest: tuple[dict[str, str], list[str], list[str]], data: st.DataObject
) -> None:
    """Drop, reorder, duplicate, splice, truncate, damage, replace: none of the mutants verifies."""
    headers, tokens, others = honest
    mutant = data.draw(_mutants(tokens, others))
    if mutant == tokens:
        return
    with pytest.raises(AgentIdentityError) as refused:
        arrive(shared, Presentation(tuple(mutant), headers[PROOF], None))
    # It is the chain that is refused, not a proof for something else or one that was used before.
    assert refused.value.code not in {"wrong_arguments", "replay", "proof_too_old"}
    assert shared.ran == []


@given(
    value=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200),
    name=st.sampled_from([CHAIN, PROOF, NEXT]),
)
def test_no_garbage_in_a_header_is_accepted(
    shared: Services, honest: tuple[dict[str, str], list[str], list[str]], value: str, name: str
) -> None:
    """Whatever stands in a header in place of what was signed, the request is refused with a record."""
    headers, _, _ = honest
    shared.refused({**headers, name: value})


@given(place=st.integers(0, 3), scope=st.sampled_from([Scope("read"), Scope("read", path="b"), Scope("pay")]))
def test_a_link_that_permits_more_is_refused_whoever_signed_it(shared: Services, place: int, scope: Scope) -> None:
    """A holder who signs a wider child by hand is found out by the next verifier."""
    from agent_identity._authority.grants.grants import GRANT_TYPE
    from agent_identity._identity.keys.jws import parse_compact, sign_compact
    from agent_identity.canonical import decode

    keys = [SigningKey.from_seed(bytes([number + 10]) * 32) for number in range(6)]
    issuer = SigningKey.load(shared.folder / "a" / "keys" / "issuer.pem")
    clock, ids = shared.clock, RandomIds()
    now = clock.wall_ns() // 10**9
    root = issue(
        issuer, issuer=shared.issuer_name, task_id="t", principal=ALICE, agent=CLERK, holder=keys[0].public_key,
        scope=SCOPE, now=now, ttl=60, max_depth=8, id=uuid_of(ids.new(clock.wall_ns())),
    )  # fmt: skip
    anchors = lambda _: issuer.public_key  # noqa: E731
    chain = verify_chain((root.token,), anchors=anchors, issuer=None, now=now)
    for depth in range(place):
        child = derive(
            chain, keys[depth], agent=CLERK, holder=keys[depth + 1].public_key, scope=SCOPE, now=now, ttl=60,
            id=uuid_of(ids.new(clock.wall_ns())),
        )  # fmt: skip
        chain = chain.extended(child)
    honest = derive(
        chain, keys[place], agent=CLERK, holder=keys[place + 1].public_key, scope=SCOPE, now=now, ttl=60,
        id=uuid_of(ids.new(clock.wall_ns())),
    )  # fmt: skip
    claims = decode(parse_compact(honest.token).payload)
    claims["authorization_details"][0]["tools"] = scope.to_claim()
    wider = sign_compact({"typ": GRANT_TYPE}, claims, keys[place])
    with pytest.raises(Denied) as refused:
        shared.b.accept(Grants((*chain.tokens, wider)), holder=keys[place + 1]).__enter__()
    assert refused.value.code in {"tool_not_attenuated", "argument_not_attenuated"}
    with shared.b.accept(Grants((*chain.tokens, honest.token)), holder=keys[place + 1]) as task:
        assert task.grant.depth == place + 1


def test_a_header_that_is_too_long_is_refused_before_it_is_read(services: Services) -> None:
    """Size is bounded before anything is parsed, on both sides."""
    services.refused({CHAIN: "a" * 9_000, PROOF: "b"}, "too_large")
    wide = Scope({f"tool-{number:03}": {"path": "x" * 50} for number in range(100)})
    with services.task(wide), pytest.raises(TokenError) as refused:
        services.headers()
    assert refused.value.code == "too_large"
