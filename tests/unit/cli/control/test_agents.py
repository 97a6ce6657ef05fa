"""``agent-identity agents``: what is registered is signed, shown, and cannot be changed unseen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.cli.control import agents as command
from agent_identity.constraints import Range
from agent_identity.errors import Denied
from agent_identity.identity import AgentRegistry, SigningKey, TrustStore

Run = Callable[..., tuple[int, str, str]]
NOW = 1_764_000_000
ADD = ("--owner", "finance@example.com", "--purpose", "pay invoices")


@pytest.fixture(autouse=True)
def fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the wall clock stand."""
    monkeypatch.setattr("time.time", lambda: float(NOW))
    monkeypatch.setattr("time.time_ns", lambda: NOW * 10**9)


@pytest.fixture
def home(tmp_path: Path, run: Run) -> Path:
    """A directory with one registered agent."""
    code, _, err = run("agents", "add", tmp_path / "home", "clerk", *ADD, "--tool", "pay")
    assert (code, err) == (0, "")
    return tmp_path / "home"


def registry(home: Path) -> AgentRegistry:
    return AgentRegistry.load(home / "agents.jsonl", TrustStore.load(home / "trust.json"))


def complaint(done: tuple[int, str, str]) -> str:
    code, out, err = done
    assert (code, out) == (2, "")
    assert err.startswith("agent-identity: ")
    assert err.count("\n") == 1
    return err


# ------------------------------------------------------------------------------------------------- add


def test_add_registers_an_agent(run: Run, tmp_path: Path) -> None:
    """The first one makes keys, trust file and registry; what was registered is printed."""
    code, out, err = run("agents", "add", tmp_path / "home", "clerk", *ADD, "--tool", "pay", "--tool", "list")
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["AGENT", "STATUS", "OWNER", "VERSION", "EXPIRES", "PURPOSE"],
        ["clerk", "registered", "finance@example.com", "any", "2026-11-24", "pay", "invoices"],
    ]
    found = registry(tmp_path / "home").get("clerk")
    assert found is not None
    assert (found.maximum, found.expires_at - NOW) == (Scope({"pay": None, "list": None}), 365 * 86_400)


def test_add_takes_every_term(run: Run, home: Path, tmp_path: Path) -> None:
    """Version, model, expiry, reason and constraints of arguments end up in the signed line."""
    maximum = tmp_path / "maximum.json"
    maximum.write_text(json.dumps(Scope("refund", amount=Range(max=100)).to_claim()))
    options = ("--tool", "pay", "--maximum", maximum, "--version", "2", "--model", "m-1")
    code, out, _ = run(
        *("agents", "add", home, "other", *ADD, *options, "--expires", "2026-01-31", "--reason", "new", "--json")
    )
    (facts,) = json.loads(out)["agents"]
    found = registry(home).get("other")
    assert code == 0
    assert found is not None
    assert facts == {
        "id": "other",
        "owner": "finance@example.com",
        "version": "2",
        "purpose": "pay invoices",
        "maximum": {**Scope("pay").to_claim(), **Scope("refund", amount=Range(max=100)).to_claim()},
        "status": "registered",
        "expired": False,
        "expires_at": 1_769_817_600,
        "model": "m-1",
        "reason": "new",
        "seq": 2,
        "issued_at": NOW,
        "hash": found.hash,
    }
    only = run("agents", "add", home, "third", *ADD, "--maximum", maximum, "--expires", "90d")
    assert only[0] == 0
    assert registry(home).history[-1].expires_at == NOW + 90 * 86_400


def test_add_changes_only_what_it_is_told_to_replace(run: Run, home: Path) -> None:
    """A registered agent is not changed by accident, and a retired one not at all."""
    assert "add --replace" in complaint(run("agents", "add", home, "clerk", *ADD, "--tool", "delete"))
    assert run("agents", "add", home, "clerk", *ADD, "--tool", "delete", "--replace")[0] == 0
    assert registry(home).history[-1].maximum == Scope("delete")
    assert run("agents", "retire", home, "clerk")[0] == 0
    assert "another id" in complaint(run("agents", "add", home, "clerk", *ADD, "--tool", "pay", "--replace"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "the maximum has no tool"),
        (("--tool", "pay it"), "tool name"),
        (("--tool", "pay", "--expires", "soon"), "90d"),
        (("--tool", "pay", "--expires", "0d"), "90d"),
        (("--tool", "pay", "--expires", "2020-01-31"), "in the past"),
        (("--tool", "pay", "--version", " 2"), "spaces"),
        (("--tool", "pay", "--reason", "x" * 300), "reason"),
        (("--maximum", "{}"), "0 tools"),
        (("--maximum", '{"pay": {}, "pay": {}}'), "a JSON object"),
        (("--maximum", "[]"), "a JSON object"),
        (("--maximum", "{"), "a JSON object"),
        (("--maximum", '{"pay": {"amount": {"constraint_type": "x-new"}}}'), "constraint"),
        (("--tool", "pay", "--maximum", '{"pay": {}}'), "both sides"),
    ],
)
def test_add_refuses_what_cannot_be_registered(
    run: Run, home: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    """The complaint is one line that says what to write, and nothing changes."""
    before = (home / "agents.jsonl").read_bytes()
    if "--maximum" in options:
        path = tmp_path / "maximum.json"
        path.write_text(options[-1])
        options = (*options[:-1], str(path))
    assert words in complaint(run("agents", "add", home, "other", *ADD, *options))
    assert (home / "agents.jsonl").read_bytes() == before


def test_add_signs_with_the_key_that_is_named(run: Run, home: Path, tmp_path: Path) -> None:
    """An issuer key kept elsewhere signs if the trust file has it, and no other does."""
    key = SigningKey.generate()
    key.save(tmp_path / "key.pem")
    words = ("agents", "add", home, "other", *ADD, "--tool", "pay", "--key", tmp_path / "key.pem")
    code, _, err = run(*words)
    assert (code, "trusted as issuer" in err) == (2, True)
    trust = TrustStore.load(home / "trust.json").with_key(key.public_key, "issuer")
    trust.save(home / "trust.json")
    assert run(*words)[0] == 0


# --------------------------------------------------------------------------------------------- changes


def test_an_agent_is_suspended_resumed_and_retired(run: Run, home: Path) -> None:
    """Each is a line of the history, with its reason; terms stay as they were."""
    terms = registry(home).history[0].maximum
    for action, status in (("suspend", "suspended"), ("resume", "registered"), ("retire", "retired")):
        code, out, err = run("agents", action, home, "clerk", "--reason", f"because of {action}")
        assert (code, err, out.splitlines()[1].split()[:2]) == (0, "", ["clerk", status])
    assert [(r.status, r.reason) for r in registry(home).history] == [
        ("registered", None),
        ("suspended", "because of suspend"),
        ("registered", "because of resume"),
        ("retired", "because of retire"),
    ]
    assert registry(home).history[-1].maximum == terms


def test_changes_that_make_no_sense_are_refused(run: Run, home: Path) -> None:
    """Unknown agents, and agents that do not stand as the change needs."""
    assert "'nobody'" in complaint(run("agents", "suspend", home, "nobody"))
    assert "not suspended" in complaint(run("agents", "resume", home, "clerk"))
    assert "reason" in complaint(run("agents", "suspend", home, "clerk", "--reason", ""))
    assert run("agents", "suspend", home, "clerk")[0] == 0
    assert "not registered" in complaint(run("agents", "suspend", home, "clerk"))
    assert run("agents", "retire", home, "clerk")[0] == 0
    assert "is retired" in complaint(run("agents", "retire", home, "clerk"))
    assert registry(home).mark[0] == 3


def test_an_owner_who_goes_leaves_orphans(run: Run, home: Path) -> None:
    """All has the owner that are not retired, and no others; resuming does not bring the owner back."""
    run("agents", "add", home, "second", *ADD, "--tool", "pay")
    run("agents", "add", home, "third", *ADD, "--tool", "pay")
    run("agents", "retire", home, "third")
    run("agents", "add", home, "fourth", "--owner", "it@example.com", "--purpose", "help", "--tool", "help")
    code, out, _ = run("agents", "orphan", home, "finance@example.com", "--reason", "left", "--json")
    assert (code, [a["id"] for a in json.loads(out)["agents"]]) == (0, ["clerk", "second"])
    assert [r.status for r in registry(home).current()] == ["orphaned", "orphaned", "retired", "registered"]
    assert "not suspended" in complaint(run("agents", "resume", home, "clerk"))
    assert "has the owner" in complaint(run("agents", "orphan", home, "nobody@example.com"))
    again = ("--owner", "audit@example.com", "--purpose", "pay invoices", "--tool", "pay", "--replace")
    assert run("agents", "add", home, "clerk", *again)[0] == 0
    assert registry(home).current()[0].status == "registered"


# ------------------------------------------------------------------------------------------------ list


def test_list_shows_how_each_agent_stands(
    run: Run, on_terminal: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line an agent, or with ``--history`` one a registration; an expired one is shown so."""
    run("agents", "add", home, "short", *ADD, "--tool", "pay", "--expires", "1d")
    run("agents", "suspend", home, "clerk", "--reason", "incident 12")
    monkeypatch.setattr(command.time, "time", lambda: float(NOW + 86_400))
    _, out, _ = run("agents", "list", home)
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [["clerk", "suspended"], ["short", "expired"]]
    _, out, _ = run("agents", "list", home, "--history")
    assert [line.split()[0] for line in out.splitlines()] == ["SEQ", "1", "2", "3"]
    assert out.splitlines()[3].endswith("incident 12")
    _, out, _ = run("agents", "list", home, "--history", "--agent", "clerk", "--json")
    assert [(a["seq"], a["status"]) for a in json.loads(out)["agents"]] == [(1, "registered"), (3, "suspended")]
    assert "'nobody'" in complaint(run("agents", "list", home, "--agent", "nobody"))
    code, out, _ = on_terminal("agents", "list", home, columns=120)
    assert (code, "\x1b[33m" in out) == (0, True)


def test_ac_104_registered_facts_cannot_steer_the_terminal(run: Run, home: Path) -> None:
    """Ids are visible characters; what a far expiry says fits a calendar."""
    registered = AgentRegistry.load(home / "agents.jsonl", TrustStore.load(home / "trust.json"))
    assert command._moment(2**53).startswith("9999")
    assert registered.get("clerk") is not None
    assert "visible" in complaint(run("agents", "add", home, "a\x1b[31mb", *ADD, "--tool", "pay"))


def test_what_is_missing_is_named(run: Run, tmp_path: Path) -> None:
    """Without trust file or registry, the way to start one is in the complaint."""
    assert "agent-identity init" in complaint(run("agents", "list", tmp_path))
    run("init", tmp_path)
    for action in ("list", "check"):
        assert "agents add" in complaint(run("agents", action, tmp_path))


# ----------------------------------------------------------------------------------------------- check


def test_check_verifies_signatures_and_history(run: Run, home: Path, tmp_path: Path) -> None:
    """It prints the mark to keep elsewhere; with it, an older registry is found."""
    code, out, err = run("agents", "check", home)
    size, last = registry(home).mark
    assert (code, err, size) == (0, "", 1)
    assert out.splitlines()[:2] == ["VERIFIED  1 registration of 1 agent", f"  mark  1:{last}"]
    yesterday = (home / "agents.jsonl").read_bytes()
    run("agents", "suspend", home, "clerk")
    _, out, _ = run("agents", "check", home, "--json", "--at-least", f"1:{last}")
    facts: dict[str, Any] = json.loads(out)
    assert facts == {"verified": True, "registrations": 2, "agents": 1, "mark": "2:" + registry(home).mark[1]}
    (home / "agents.jsonl").write_bytes(yesterday)
    assert run("agents", "check", home)[0] == 0
    code, out, _ = run("agents", "check", home, "--at-least", facts["mark"])
    assert (code, out.split()[:3]) == (1, ["NOT", "VERIFIED", "registry_rolled_back:"])
    assert "--at-least" in complaint(run("agents", "check", home, "--at-least", "2"))


def test_check_says_which_line_is_wrong(run: Run, home: Path, tmp_path: Path) -> None:
    """Exit code 1, with code and line; keys kept elsewhere decide whose signatures count."""
    kept = tmp_path / "kept.json"
    kept.write_bytes((home / "trust.json").read_bytes())
    assert run("agents", "check", home, "--trust", kept)[0] == 0
    run("agents", "suspend", home, "clerk")
    lines = (home / "agents.jsonl").read_text().splitlines(keepends=True)
    (home / "agents.jsonl").write_text("".join([lines[0], *lines[2:]]))
    code, out, err = run("agents", "check", home, "--json")
    facts = json.loads(out)
    assert (code, err) == (1, "")
    assert (facts["verified"], facts["code"], facts["line"]) == (False, "registry_cut", 2)
    run("init", tmp_path / "other")
    code, out, _ = run("agents", "check", home, "--trust", tmp_path / "other" / "trust.json")
    assert (code, "unknown_key" in out) == (1, True)


# ------------------------------------------------------------------------------------------------ show


def test_show_tells_the_registration_and_what_was_refused(run: Run, home: Path) -> None:
    """The purpose of the registration stands with the task; a refused opening names the agent and the code."""
    parties = {"principal": Human("alice@example.com"), "scope": Scope("pay")}
    clerk = Agent("clerk", owner="finance@example.com")
    with Enforcer.open(home, agents="registered") as enforcer:
        with enforcer.task("pay INV-42", agent=clerk, **parties):
            pass
        with pytest.raises(Denied), enforcer.task("more", agent=Agent("rogue", owner="x"), **parties):
            pass
    _, out, _ = run("show", home)
    assert "  clerk is registered for: pay invoices" in out.splitlines()
    (line,) = [line.split() for line in out.splitlines() if "invoke_agent" in line]
    assert line[1:] == ["block", "invoke_agent", "rogue", "no", "agent", "denied:", "agent_not_registered"]


# ---------------------------------------------------------------------------------------------- doctor


def test_doctor_looks_at_the_registry(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts agents, warns of those that expire soon, and says what is wrong with a damaged registry."""

    def found() -> tuple[str, str]:
        checks = json.loads(run("doctor", home, "--json")[1])["checks"]
        (row,) = [row for row in checks if row["name"] == "agents"]
        return row["status"], row["detail"]

    assert found() == ("ok", "1 agent registered")
    monkeypatch.setattr("time.time", lambda: float(NOW + 360 * 86_400))
    assert found() == ("warn", "expired, or soon: clerk")
    (home / "agents.jsonl").write_bytes(b"{}\n")
    status, detail = found()
    assert (status, "line 1" in detail) == ("fail", True)
    (home / "trust.json").unlink()
    assert not any(row["name"] == "agents" for row in json.loads(run("doctor", home, "--json")[1])["checks"])
