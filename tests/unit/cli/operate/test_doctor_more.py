"""``agent-identity doctor``: versions, keys over time, shared state, enforcers and the tools of an application."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity.approvals import Approval, Approvers
from agent_identity.cli.operate.doctor import diagnose, examine_enforcers, examine_store
from agent_identity.cli.operate.doctor_frameworks import Installed, examine_versions, installed
from agent_identity.errors import StateError
from agent_identity.identity import SigningKey, TrustedKey, TrustStore
from agent_identity.options import Transparency
from agent_identity.state import MemoryState

Run = Callable[..., tuple[int, str, str]]
DAY = 86_400


@pytest.fixture
def root(run: Run, tmp_path: Path) -> Path:
    """Return a directory as ``init`` prepares it."""
    assert run("init", tmp_path / "evidence")[0] == 0
    return tmp_path / "evidence"


def of(root: Path, name: str) -> Check:
    """Return the one finding of this name about a directory."""
    (found,) = [
        check for section, checks in diagnose(root) if section == "directory" for check in checks if check.name == name
    ]
    return found


# Versions.


def made(name: str, version: str, *requires: str) -> Installed:
    return Installed(name, version, requires)


SDK = made("opentelemetry-sdk", "1.45.2", "opentelemetry-api ==1.45.2")


@pytest.mark.parametrize(
    ("found", "status", "detail"),
    [
        (
            [SDK, made("opentelemetry-api", "1.45.2")],
            "ok",
            "2 distributions, all fit each other; opentelemetry-sdk 1.45.2",
        ),
        ([made("wrapt", "2.0")], "ok", "1 distribution, all fit each other"),
        (
            [SDK, made("opentelemetry-api", "1.44.0")],
            "warn",
            "opentelemetry-sdk 1.45.2 needs opentelemetry-api ==1.45.2, and 1.44.0 is installed",
        ),
        ([SDK], "ok", "1 distribution, all fit each other; opentelemetry-sdk 1.45.2"),
        (
            [made("langchain-mcp-adapters", "0.3.2", "mcp <2"), made("mcp", "2.3.0")],
            "warn",
            "langchain-mcp-adapters 0.3.2 needs mcp <2, and 2.3.0 is installed",
        ),
        (
            [
                made("agent-identity-otel", "0.1.0", "langchain_core <2,>=1.0 ; extra == 'langchain'"),
                made("langchain-core", "0.3.9"),
            ],
            "warn",
            "agent-identity-otel 0.1.0 supports langchain-core <2,>=1.0, and 0.3.9 is installed",
        ),
        (
            [made("agent-identity-otel", "0.1.0", "pydantic <3,>=2.11"), made("pydantic", "1.9")],
            "fail",
            "agent-identity-otel 0.1.0 needs pydantic <3,>=2.11, and 1.9 is installed",
        ),
        (
            [made("logfire", "5", "wrapt <2 ; extra == 'old'"), made("wrapt", "2.0")],
            "ok",
            "2 distributions, all fit each other",
        ),
        (
            [made("logfire", "5", "wrapt <2 ; python_version < '3'", "this is none"), made("wrapt", "2.0")],
            "ok",
            "2 distributions, all fit each other",
        ),
        ([made("logfire", "5", "wrapt >=1"), made("wrapt", "2.0b1")], "ok", "2 distributions, all fit each other"),
    ],
)
def test_versions_that_do_not_fit_are_found(found: list[Installed], status: str, detail: str) -> None:
    """What a distribution expects of another and does not get is named; extras count for ours alone."""
    pytest.importorskip("packaging")
    (check,) = examine_versions(found)
    assert (check.status, check.detail) == (status, detail)
    assert (check.cure == "") is (status == "ok")


def test_without_packaging_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where what reads versions is not installed, none is called a misfit."""
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (check,) = examine_versions([SDK, made("opentelemetry-api", "1.44.0")])
    assert check.status == "ok"


def test_what_is_installed_here_is_found() -> None:
    """The names are normalised, ours is among them, and what has nothing to do with us is not."""
    names = {each.name for each in installed()}
    assert {"agent-identity-otel", "opentelemetry-sdk", "wrapt", "cryptography"} <= names
    assert "pytest" not in names


# Keys over time.


def aged(root: Path, **changes: Any) -> None:
    """Change what the trust file says of the recorder key."""
    trust = TrustStore.load(root / "trust.json")
    keys = tuple(dataclasses.replace(key, **changes) if key.purpose == "recorder" else key for key in trust.keys)
    trust.with_keys(keys).save(root / "trust.json")


def test_the_age_of_a_key_is_shown(root: Path) -> None:
    """By the trust file if it says since when it counts, else by the file; a long life is worth a rotation."""
    assert of(root, "recorder key") == Check("recorder key", "ok", "private to its owner, made today")
    now = int(time.time())
    os.utime(root / "keys" / "recorder.pem", (now - 3 * DAY - 9, now - 3 * DAY - 9))
    assert of(root, "recorder key").detail == "private to its owner, 3 days old"
    aged(root, not_before=now - DAY - 9)
    assert of(root, "recorder key").detail == "private to its owner, 1 day old"
    aged(root, not_before=now - 400 * DAY - 9)
    found = of(root, "recorder key")
    assert (found.status, found.detail) == ("warn", "private to its owner, 400 days old")
    assert found.cure == f"agent-identity keys rotate --recorder {root}"


def test_a_key_that_soon_ends_is_found(root: Path) -> None:
    """Two weeks are left to rotate it."""
    aged(root, not_after=int(time.time()) + 5 * DAY + 60)
    found = of(root, "recorder key")
    assert (found.status, found.detail) == ("warn", "it is valid for 5 days")
    aged(root, not_after=int(time.time()) + 50 * DAY)
    assert of(root, "recorder key").status == "ok"


@pytest.mark.parametrize(("ends", "shown"), [(None, ""), (1_900_000_000, " until 2030-03-17")])
def test_the_overlap_of_a_rotation_is_shown(root: Path, ends: int | None, shown: str) -> None:
    """Which keys before it still count, and until when, so that nobody forgets one."""
    trust = TrustStore.load(root / "trust.json")
    older = TrustedKey(SigningKey.generate().public_key, "recorder", not_after=ends)
    gone = TrustedKey(SigningKey.generate().public_key, "recorder", not_after=1)
    trust.with_keys((*trust.keys, older, gone)).save(root / "trust.json")
    assert of(root, "recorder key").detail == f"private to its owner, made today; 1 key before it still valid{shown}"
    assert of(root, "issuer key").detail == "private to its owner, made today"


# Shared state.


def test_shared_state_is_asked(root: Path, run: Run) -> None:
    """Once something is kept there, the state of the directory is asked; a damaged one fails."""
    assert "shared state" not in [
        check.name for section, found in diagnose(root) if section == "directory" for check in found
    ]
    assert run("revoke", root, "agent", "clerk")[0] == 0
    found = of(root, "shared state")
    assert found.status == "ok"
    (root / "state" / "state.sqlite").write_bytes(b"no database" * 100)
    for each in (root / "state").glob("state.sqlite-*"):
        each.unlink()
    found = of(root, "shared state")
    assert (found.status, found.cure != "") == ("fail", True)


def test_a_store_that_does_not_answer_fails() -> None:
    """Without shared state calls are refused, which is a failure, with the way out that the store gives."""

    class Silent(MemoryState):  # type: ignore[misc]
        """A store that cannot be asked."""

        def contains(self, key: str, *, now: int) -> bool:
            """Raise."""
            raise StateError("expected an answer from Redis, got none; start it")

    assert examine_store("shared state", Silent()) == Check(
        "shared state", "fail", "Silent: expected an answer from Redis, got none", "start it"
    )


# The application, from within.


def within(name: str) -> list[Check]:
    """Return the findings of this name about this process."""
    return [check for section, checks in diagnose() if section != "directory" for check in checks if check.name == name]


def test_enforcers_are_shown(tmp_path: Path) -> None:
    """What is open here, whether it refuses, and what does not work of it; closed ones are gone."""
    watching = Enforcer.open(tmp_path / "a", mode="monitor")
    working = Enforcer.open(tmp_path / "b", transparency=Transparency(checkpoints=lambda note: 1 / 0))
    marks = {enforcer: f"stream …{enforcer._enforcement.ledger.stream[-6:]}" for enforcer in (watching, working)}
    with working.no_task():
        working._enforcement.ledger.seal()
    for publisher in working._enforcement.ledger.publishers:
        publisher.settle(10)
    found = within("enforcer")
    assert (
        Check(
            "enforcer",
            "warn",
            f"{marks[watching]}, monitor: refuses nothing",
            "once its records show what you want, open it with mode='enforce'",
        )
        in found
    )
    assert Check("enforcer", "ok", f"{marks[working]}, enforces") in found
    assert [check.status for check in found if check.detail.startswith(f"{marks[working]}: the function")] == ["warn"]
    assert {check.status for check in within("shared state")} == {"ok"}
    watching.close()
    working.close()
    assert not [check for check in within("enforcer") for mark in marks.values() if check.detail.startswith(mark)]


AGENT = """
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.tools import tool
from agent_identity import Enforcer, Rule, RuleSet, Effect
from agent_identity.integrations.langchain.middleware import AgentIdentityMiddleware

@tool
def covered(x: int) -> int:
    '''Do it.'''
    return x

enforcer = Enforcer.open("evidence", policy=RuleSet(Rule(Effect.BLOCK, tools="delete_*", reason="no")))
tools = [covered, {"type": "web_search_20250305", "name": "web_search"}]
agent = create_agent(FakeListChatModel(responses=["a"]), tools, middleware=[AgentIdentityMiddleware(enforcer)])
"""


@pytest.mark.sample(2)
@pytest.mark.parametrize("bare", [False, True])
def test_tools_under_middleware_are_no_finding(program: Run, tmp_path: Path, bare: bool) -> None:
    """Middleware covers the tools of its agent; others, and what the provider of the model runs, are named."""
    pytest.importorskip("langchain.agents")
    more = "other = create_agent(FakeListChatModel(responses=['a']), [tool(lambda x: x, description='x')])\n"
    text = AGENT + (more.replace("tool(lambda", "tool('loose', lambda") if bare else "")
    (tmp_path / "shop.py").write_text(text, encoding="utf-8")
    code, out, _ = program("doctor", "--import", "shop:agent", "--json")
    assert code == 0
    report = json.loads(out)
    found = [(check["status"], check["detail"]) for check in report["checks"] if check["name"] == "tools"]
    first = (
        ("warn", "1 LangChain tool without a guard: loose")
        if bare
        else ("ok", "1 LangChain tool, none without a guard")
    )
    assert found == [first, ("warn", "the provider runs, and nobody can guard: web_search_20250305")]
    (enforcer,) = [check for check in report["checks"] if check["name"] == "enforcer"]
    assert enforcer["detail"].endswith(", enforces, with a policy")
    sections = {"installation", "application", "telemetry", "frameworks", "tools"}
    assert {check["section"] for check in report["checks"]} == sections
    assert report["counts"] == {
        status: sum(check["status"] == status for check in report["checks"]) for status in ("ok", "warn", "fail")
    }


LATER = """
from contextlib import asynccontextmanager
from langchain_core.tools import tool
from agent_identity import Enforcer
{imports}

@tool
def covered(x: int) -> int:
    '''Do it.'''
    return x

@asynccontextmanager
async def lifespan(app):
    enforcer = Enforcer.open("evidence")
    {guards}
    yield
"""


@pytest.mark.parametrize(
    ("imports", "guards", "status"),
    [
        (
            "from langchain.agents import create_agent; from agent_identity.integrations.langchain import middleware",
            "app.agent = create_agent(app.model, [covered], middleware=[middleware.AgentIdentityMiddleware(enforcer)])",
            "ok",
        ),
        ("from agent_identity.integrations.langchain.protection import protect", "protect(covered, enforcer)", "ok"),
        ("", "pass", "warn"),
    ],
)
def test_an_application_that_guards_its_tools_at_startup_is_not_accused(
    program: Run, tmp_path: Path, imports: str, guards: str, status: str
) -> None:
    """What a lifespan will guard is named as not seen; without a guard of ours in the module it is a finding."""
    pytest.importorskip("langchain.agents")
    (tmp_path / "shop.py").write_text(LATER.format(imports=imports, guards=guards), encoding="utf-8")
    code, out, _ = program("doctor", "--import", "shop", "--json")
    assert code == 0
    (found,) = [check for check in json.loads(out)["checks"] if check["name"] == "tools"]
    assert found["status"] == status
    assert found["detail"].endswith(": covered")


def test_what_the_instrumentor_watches_is_no_finding(program: Run, tmp_path: Path) -> None:
    """Where the instrumentor is at work, bare tools are watched."""
    pytest.importorskip("langchain.agents")
    pytest.importorskip("opentelemetry.instrumentation", reason="not among the lowest requirements")
    more = """
from agent_identity.integrations.langchain_instrumentor import LangChainInstrumentor
LangChainInstrumentor().instrument(enforcer=enforcer)

@tool
def also(x: int) -> int:
    '''Do it.'''
    return x
"""
    (tmp_path / "shop.py").write_text(AGENT + more, encoding="utf-8")
    _, out, _ = program("doctor", "--import", "shop", "--json")
    found = [check["detail"] for check in json.loads(out)["checks"] if check["name"] == "tools"]
    assert found[0] == "2 LangChain tools, all watched by LangChainInstrumentor"


INSTRUMENTED = """
import agent_identity
agent_identity.instrument(agent_identity.Enforcer.open("evidence"))
from langchain_core.tools import tool

@tool
def also(x: int) -> int:
    '''Do it.'''
    return x
"""


def test_what_is_instrumented_is_no_finding(program: Run, tmp_path: Path) -> None:
    """The frameworks say so, and their tools as well."""
    (tmp_path / "shop.py").write_text(INSTRUMENTED, encoding="utf-8")
    _, out, _ = program("doctor", "--import", "shop", "--json")
    checks = json.loads(out)["checks"]
    assert [c["detail"] for c in checks if c["name"] == "tools"] == ["1 LangChain tool, all watched by instrument()"]
    langchain = next(c["detail"] for c in checks if c["detail"].startswith("langchain-core "))
    assert langchain.endswith("; instrumented")


STAND_IN = """
import sys
sys.path.insert(0, ".")
from strands.types.tools import AgentTool
tools = [AgentTool("pay"), AgentTool("read")]
"""


@pytest.mark.parametrize(
    ("version", "detail"),
    [
        ("1.62.0", "which its adapter was tested with"),
        ("1.60.1", "older than 1.62, the lowest that its adapter was tested with"),
        ("99.0", "newer than 1.62.0, the newest that its adapter was tested with"),
    ],
)
def test_a_framework_that_nothing_guards_is_found(program: Run, tmp_path: Path, version: str, detail: str) -> None:
    """With its version, the versions that were tested, and its tools by name."""
    pytest.importorskip("packaging")
    texts = {
        f"strands_agents-{version}.dist-info/METADATA": f"Name: strands-agents\nVersion: {version}\n",
        "strands/__init__.py": "",
        "strands/types/__init__.py": "",
        "strands/types/tools.py": "class AgentTool:\n    def __init__(self, name): self.tool_name = name\n",
        "shop.py": STAND_IN,
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    _, out, _ = program("doctor", "--import", "shop", "--json")
    checks = json.loads(out)["checks"]
    (found,) = [c for c in checks if c["detail"].startswith("strands-agents ")]
    assert (found["section"], found["status"]) == ("frameworks", "warn")
    assert found["detail"] == f"strands-agents {version}, {detail}; imported, and nothing guards it"
    tools = [c["detail"] for c in checks if c["section"] == "frameworks" and c["name"] == "tools"]
    assert tools == ["2 strands-agents tools, without a guard: pay, read"]


def test_a_name_that_is_not_there_is_told(program: Run, tmp_path: Path) -> None:
    """Who names what is to be in the module learns that it is not."""
    (tmp_path / "shop.py").write_text("agent = 1\n", encoding="utf-8")
    code, out, err = program("doctor", "--import", "shop:agents")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "cannot import 'shop:agents': AttributeError" in err
    assert program("doctor", "--import", "shop:agent.real")[0] == 0


@pytest.mark.parametrize(("name", "warned"), [(20, False), (800, True)])
def test_records_that_stores_would_cut_are_found(root: Path, name: int, warned: bool) -> None:
    """The last outcomes are measured as they stand on their spans."""
    with Enforcer.open(root) as enforcer:
        agents = [Agent(f"spiffe://example.org/{number}/" + "x" * name, owner="o") for number in range(2)]
        with (
            enforcer.task("t", principal=Human("alice"), agent=agents[0], scope=Scope("pay")),
            enforcer.delegate(agents[1], scope=Scope("pay")),
            enforcer.action("pay"),
        ):
            pass
    found = [check for _, checks in diagnose(root) for check in checks if check.name == "record length"]
    assert [check.status for check in found] == ["warn"] * warned


def test_a_stream_without_a_file_has_no_records_to_measure(root: Path) -> None:
    """A process that just starts has a folder, and nothing in it."""
    (root / "ledger" / "AZq2l-gAcACAAAAAAAAAAQ").mkdir(parents=True)
    assert [check for _, checks in diagnose(root) for check in checks if check.name == "record length"] == []


FLOW = """
from agent_identity import Enforcer, RuleSet
from agent_identity.policy import All, Flow
rules = RuleSet(tools={"read_inbox": {"returns": "trusted"}, "pay": {"destination": ["to"]}})
enforcer = Enforcer.open("evidence", policy=All(Flow(), rules))
@enforcer.tool(labels=[])
def fetch(url: str) -> str: return url
@enforcer.tool(labels=[], returns="trusted")
def read_inbox() -> str: return ""
@enforcer.tool(labels=["payment"], destination="iban", returns="trusted")
def pay(iban: str, to: str) -> str: return iban
@enforcer.tool(labels=["sales"])
def crm(name: str) -> str: return name
@enforcer.tool
def forgotten() -> None: ...
@enforcer.tool(labels=["egress"], destination="mail.to", returns="trusted")
def send_mail(mail: dict) -> None: ...
"""


def test_the_declarations_about_information_flow_are_one_table(program: Run, tmp_path: Path) -> None:
    """Each tool with its labels, results and destinations, who says so, and what is missing; guesses say so."""
    (tmp_path / "office.py").write_text(FLOW, encoding="utf-8")
    code, out, _ = program("doctor", "--import", "office", "--json")
    assert code == 0
    found = json.loads(out)
    rows = {row["tool"]: row for row in found["flow"]}
    assert [row["tool"] for row in found["flow"]] == ["crm", "fetch", "forgotten", "pay", "read_inbox", "send_mail"]
    pay = rows["pay"]
    assert (pay["labels"], pay["labels_by"]) == (["payment"], ["code"])
    assert (pay["destination"], pay["destination_by"]) == (["iban", "to"], ["code", "policy file"])
    assert (pay["returns"], pay["returns_by"], pay["doubts"]) == ("trusted", ["code"], [])
    assert (rows["forgotten"]["labels"], rows["forgotten"]["labels_by"]) == (None, [])
    assert (rows["fetch"]["returns"], rows["fetch"]["returns_by"]) == ("unknown", ["default"])
    guesses = {name: [doubt["guess"] for doubt in row["doubts"]] for name, row in rows.items()}
    assert guesses == {
        "crm": [False, False],  # Of its label Flow knows nothing, and it has no destination.
        "fetch": [True],  # It takes a URL.
        "forgotten": [False, False],
        "pay": [],
        "read_inbox": [False, True],  # Trusted in the file without effect, and mail of others.
        "send_mail": [True],  # What it returns may be mail.
    }
    (check,) = [check for check in found["checks"] if check["name"] == "flow"]
    assert check["status"] == "warn"
    _, out, _ = program("doctor", "--import", "office")
    assert "Information flow" in out
    assert out.count("guess: ") == 3


THREADS = """
from langchain_core.tools import tool
from agent_identity.integrations.langchain import protect
@tool
def look() -> str:
    "Look."
protect(look, enforcer)
"""


def test_tools_whose_guards_know_no_thread_are_found(program: Run, tmp_path: Path) -> None:
    """A conversation that goes on in a new task is told to a function by nobody, and to LangChain by its thread."""
    (tmp_path / "office.py").write_text(f"{FLOW}{THREADS}", encoding="utf-8")
    _, out, _ = program("doctor", "--import", "office", "--json")
    found = json.loads(out)
    assert {row["tool"] for row in found["flow"] if row["threads"]} == {"look"}
    (check,) = [check for check in found["checks"] if check["name"] == "threads"]
    assert (check["section"], check["status"]) == ("policy", "warn")
    (tmp_path / "office.py").write_text(FLOW.replace("All(Flow(), rules)", "rules"), encoding="utf-8")
    _, out, _ = program("doctor", "--import", "office", "--json")
    assert "threads" not in {check["name"] for check in json.loads(out)["checks"]}


def test_routes_without_a_handler_are_found(program: Run, tmp_path: Path) -> None:
    """A misspelled name in ``routes=`` shows before the first call is refused for it, for rules and for ``Flow``."""
    rule = 'Rule(Effect.ROUTE, tools="pay", to="approvals")'
    opened = f"All(Flow(to='staff'), RuleSet({rule})), routes={{'approval': print, 'staff': print}}"
    office = f"""
from agent_identity import Effect, Enforcer, Rule, RuleSet
from agent_identity.policy import All, Flow
enforcer = Enforcer.open("evidence", policy={opened})
"""
    for routes, absent in (("", "approvals"), ("approvals", None)):
        text = office.replace("'approval'", f"'{routes}'") if routes else office
        (tmp_path / "office.py").write_text(text, encoding="utf-8")
        _, out, _ = program("doctor", "--import", "office", "--json")
        found = [check for check in json.loads(out)["checks"] if check["name"] == "routes"]
        assert [check["status"] for check in found] == ["warn"] * bool(absent)
        assert not found or (absent in found[0]["detail"] and "staff" not in found[0]["detail"])


def test_a_tool_with_labels_is_not_told_to_be_without(program: Run, tmp_path: Path) -> None:
    """Labels of tools and of their data are counted one by one, whether stated in code or in the policy."""
    rules = 'RuleSet(tools={"read": {"labels": []}})'
    office = f"""
from agent_identity import Enforcer, RuleSet
enforcer = Enforcer.open("evidence", policy={rules})
@enforcer.tool(labels=["payment"])
def pay() -> None: ...
@enforcer.tool(data=["personal"])
def read() -> None: ...
@enforcer.tool
def bare() -> None: ...
"""
    (tmp_path / "office.py").write_text(office, encoding="utf-8")
    _, out, _ = program("doctor", "--import", "office", "--json")
    found = [check["detail"] for check in json.loads(out)["checks"] if check["name"] == "labels"]
    assert [detail.partition(" without ")[2].partition(",")[0] for detail in found] == ["tool.labels", "data.labels"]
    assert [sorted(detail.rpartition(": ")[2].split(", ")) for detail in found] == [["bare"], ["bare", "pay"]]


def test_without_information_flow_there_is_no_table(program: Run, tmp_path: Path) -> None:
    """An application whose policy does not ask about marks is spared the table."""
    (tmp_path / "office.py").write_text(FLOW.replace("All(Flow(), rules)", "rules"), encoding="utf-8")
    _, out, _ = program("doctor", "--import", "office", "--json")
    assert json.loads(out)["flow"] == []
    _, out, _ = program("doctor", "--import", "office")
    assert "Information flow" not in out


def test_rules_whose_labels_no_guarded_tool_states_together_are_found(program: Run, tmp_path: Path) -> None:
    """The doctor knows the labels in code as well."""
    policy = tmp_path / "policy.json"
    when = {"tool.labels": {"contains": ["egress"]}, "data.labels": {"contains": ["personal"]}}
    policy.write_text(json.dumps({"rules": [{"effect": "block", "id": "pii", "when": when}]}), encoding="utf-8")
    (tmp_path / "office.py").write_text(FLOW, encoding="utf-8")
    _, out, _ = program("doctor", "--import", "office", "--policy", "policy.json", "--json")
    assert any("'pii'" in check["detail"] for check in json.loads(out)["checks"] if check["name"] == "rules")


def test_each_mistake_of_a_policy_file_has_a_line_of_its_own(program: Run, tmp_path: Path) -> None:
    """The command prints line breaks between mistakes as such, and nothing in them that steers a terminal."""
    mistakes = {"rules": [{"effect": "blok\x1b[2J"}, {"effect": "stop"}]}
    (tmp_path / "policy.json").write_text(json.dumps(mistakes), encoding="utf-8")
    code, _, err = program("doctor", "--policy", "policy.json")
    assert code == 2
    assert [line.partition(": ")[0].rpartition("policy.json")[2] for line in err.splitlines()[1:]] == [":1:52"]
    assert len(err.splitlines()) == 2
    assert "\x1b" not in err
    assert "\\n" not in err


def test_a_shell_beside_an_asserted_approval_is_told_as_a_guess(tmp_path: Path) -> None:
    """A tool whose name says that it starts programs can approve by the command line; other names are let be."""
    routes = {"asserted": Approval(), "verified": Approval(approvers=Approvers(verified=True))}
    for name, route, found in (("run_shell", "asserted", 1), ("run_shell", "verified", 0), ("shelve", "asserted", 0)):
        with Enforcer.open(tmp_path / "evidence", routes={"people": routes[route]}) as enforcer:
            enforcer.tool(name=name)(lambda: None)
            checks = [check for check in examine_enforcers() if check.name == "approvals"]
            assert [(check.status, "guess" in check.detail) for check in checks] == [("warn", True)] * found
