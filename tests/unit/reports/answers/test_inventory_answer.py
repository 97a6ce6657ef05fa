"""The inventory: what is listed, how it is known, and what differs between registry, records and traces."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_company import DAY, START, span, traces, work

from agent_identity._reports.answers.collecting import CodeHint
from agent_identity._reports.answers.cyclonedx_document import cyclonedx
from agent_identity._reports.answers.hosts import Hosts
from agent_identity._reports.answers.inventory_report import Inventory, Item
from agent_identity.answers import Evidence, inventory, plain
from agent_identity.cli import main
from agent_identity.errors import ConfigurationError

BEDROCK = "bedrock-runtime.eu-west-1.amazonaws.com"
SCHEMA = Path(__file__).resolve().parents[3] / "schemas" / "cyclonedx-1.7.json"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that worked for a while."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2, days=10)
    return directory


def taken(*sources: Path, since_ns: int | None = None, **options: Any) -> Inventory:
    """Take the inventory of sources."""
    return inventory(Evidence(sources=sources, **options), since_ns=since_ns)


def item(found: Inventory, kind: str, name: str) -> Item:
    """Return the one item of a kind and name."""
    (one,) = (item for item in found.items if (item.kind, item.name) == (kind, name))
    return one


def codes(found: Inventory, code: str) -> list[tuple[str, str]]:
    """Return the items with a difference, by kind and name."""
    return [(one.kind, one.name) for one in found.differences if one.code == code]


def traced(tmp_path: Path, *spans: Mapping[str, object], service: str = "shop", **options: Any) -> Inventory:
    """Take the inventory of spans alone."""
    return taken(traces(tmp_path / "traces.json", spans, service=service), **options)


def test_a_ledger_says_who_there_is(company: Path) -> None:
    """Agents with owners, versions and roles; principals with their kind; tools with their calls; all proved."""
    found = taken(company)
    clerk, helper = item(found, "agent", "clerk"), item(found, "agent", "helper")
    assert (clerk.owners, clerk.versions) == (("finance@example.com",), ("2",))
    assert clerk.details["role"] == ("orchestrator", "root agent")
    assert clerk.details["delegates to"] == ("helper",)
    assert helper.details["role"] == ("sub-agent",)
    assert (helper.calls, helper.refused) == (4, 2)
    assert (item(found, "tool", "pay").calls, item(found, "tool", "pay").refused) == (4, 2)
    assert (item(found, "tool", "delete").calls, item(found, "tool", "delete").refused) == (1, 1)
    assert item(found, "principal", "nightly").details["kind"] == ("service",)
    assert {one.proof for one in found.items} == {"proved"}
    assert clerk.first_ns == START * 10**9


def test_a_registered_agent_of_two_services_is_neither_idle_nor_unregistered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registration is for a directory, and holds for each service that works there."""
    directory = tmp_path / "evidence"
    for number, service in enumerate(("shop", "desk")):
        monkeypatch.setenv("OTEL_SERVICE_NAME", service)
        work(directory, start=START + number * DAY)
    owned = ("--owner", "finance@example.com", "--purpose", "books", "--tool", "read")
    assert main(["agents", "add", str(directory), "clerk", *owned]) == 0
    found = taken(directory)
    assert {one.service for one in found.items if one.name == "clerk"} == {"shop", "desk", None}
    assert codes(found, "registered_idle") == []
    assert codes(found, "observed_not_registered") == [("agent", "helper"), ("agent", "helper")]


def test_unverified_evidence_proves_no_item(company: Path) -> None:
    """Without verification every item is recorded only, and the frame says so."""
    found = taken(company, unverified=True)
    assert {one.proof for one in found.items} == {"recorded"}
    assert found.frame.exit_code == 2


def test_registered_agents_are_compared_with_those_at_work(tmp_path: Path) -> None:
    """Of the registry, who never worked is idle; of those at work, who is not in it is named."""
    directory = tmp_path / "evidence"
    work(directory)
    for name in ("clerk", "ghost"):
        owned = ("--owner", "finance@example.com", "--purpose", "books", "--tool", "read")
        assert main(["agents", "add", str(directory), name, *owned]) == 0
    found = taken(directory)
    assert codes(found, "registered_idle") == [("agent", "ghost")]
    assert codes(found, "observed_not_registered") == [("agent", "helper")]
    assert item(found, "agent", "clerk").statuses == ("registered", "observed")
    assert item(found, "agent", "ghost").proof == "proved"


def test_a_registry_that_does_not_verify_registers_nobody(tmp_path: Path) -> None:
    """Whoever edits the registry gets a note that it cannot be used, and no registered agent."""
    directory = tmp_path / "evidence"
    work(directory)
    assert main(["agents", "add", str(directory), "ghost", "--owner", "x", "--purpose", "p", "--tool", "read"]) == 0
    registry = directory / "agents.jsonl"
    registry.write_bytes(registry.read_bytes().replace(b'"ey', b'"fy', 1))
    found = taken(directory)
    assert not [one for one in found.items if "registered" in one.statuses]
    assert any("agents.jsonl" in note for note in found.frame.notes)


def test_what_is_traced_and_not_guarded_is_named(company: Path, tmp_path: Path) -> None:
    """A tool that others trace and no record shows passed no guard; one that records show did."""
    path = traces(
        tmp_path / "t.json",
        [
            span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": name, "gen_ai.agent.name": agent})
            for name, agent in (("pay", "clerk"), ("shell", "rogue"))
        ],
    )
    found = taken(company, path)
    assert codes(found, "traced_not_guarded") == [("agent", "rogue"), ("tool", "shell")]
    assert codes(found, "no_owner") == [("agent", "rogue")]
    assert item(found, "tool", "pay").statuses == ("observed", "traced")
    assert item(found, "tool", "shell").proof == "hint"
    assert found.frame.verdict == "verified"


def test_a_hint_adds_nothing_to_what_is_proved(company: Path, tmp_path: Path) -> None:
    """Owner, service, version and details of a proved agent come from records; what spans say is told apart."""
    hostile = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "clerk", "gen_ai.agent.version": "99"}
    found = taken(company, traces(tmp_path / "t.json", [span(hostile)], service="evil"))
    clerk = item(found, "agent", "clerk")
    assert (clerk.service, clerk.versions, clerk.owners) == (None, ("2",), ("finance@example.com",))
    assert clerk.details["traced version"] == ("99",)
    assert clerk.details["traced service"] == ("evil",)


def test_new_and_gone_are_told_by_first_and_last_sight(company: Path) -> None:
    """The job is new since the last day, and the helper is gone by then."""
    found = taken(company, since_ns=(START + 15 * DAY) * 10**9)
    assert ("principal", "nightly") in codes(found, "new")
    assert ("agent", "helper") in codes(found, "gone")
    assert ("agent", "clerk") not in codes(found, "new") + codes(found, "gone")


@pytest.mark.parametrize(
    ("attributes", "name", "expected"),
    [
        ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}, "invoke_agent a", {("agent", "a")}),
        ({"gen_ai.operation.name": "invoke_agent"}, "invoke_agent a", {("agent", "a")}),
        ({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}, "chat m", {("model", "m")}),
        ({"gen_ai.operation.name": "chat", "gen_ai.request.model": "unknown"}, "chat", set()),
        ({"openinference.span.kind": "TOOL", "tool.name": "t"}, "t", {("tool", "t")}),
        ({"openinference.span.kind": "TOOL"}, "t", {("tool", "t")}),
        ({"openinference.span.kind": "AGENT", "agent.name": "a"}, "x", {("agent", "a")}),
        ({"openinference.span.kind": "CHAIN"}, "looks-like-an-agent", set()),
        ({"openinference.span.kind": "LLM", "llm.model_name": "m"}, "x", {("model", "m")}),
        ({"traceloop.span.kind": "tool", "traceloop.entity.name": "t"}, "t.tool", {("tool", "t")}),
        ({"traceloop.span.kind": "agent", "traceloop.entity.name": "a"}, "a.agent", {("agent", "a")}),
        ({"langfuse.observation.type": "tool"}, "t", {("tool", "t")}),
        ({"langfuse.observation.type": "agent"}, "a", {("agent", "a")}),
        ({"langfuse.observation.model.name": "m"}, "x", {("model", "m")}),
        (
            {"agent_name": "a", "gen_ai.tool.name": "t", "gen_ai.tool.call.id": "1"},
            "running tool",
            {("agent", "a"), ("tool", "t")},
        ),
        ({"ai.model.id": "m"}, "ai.generateText", {("model", "m")}),
        ({"mcp.method.name": "tools/call", "gen_ai.tool.name": "t"}, "tools/call t", {("tool", "t")}),
        ({"mcp.resource.uri": "file:///a"}, "resources/read", {("data", "file:///a")}),
        ({"db.system.name": "postgresql", "db.namespace": "shop"}, "SELECT", {("data", "postgresql/shop")}),
        ({"enduser.id": "u"}, "x", {("principal", "u")}),
        ({"gen_ai.input.messages": "secret", "http.request.body": "x"}, "chat", set()),
    ],
)
def test_spans_of_many_libraries_are_understood(
    tmp_path: Path, attributes: dict[str, object], name: str, expected: set[tuple[str, str]]
) -> None:
    """Each dialect names its things by attributes of its own."""
    found = traced(tmp_path, span(attributes, name=name))
    assert {(one.kind, one.name) for one in found.items} == expected


def test_an_agent_counts_once_in_a_trace_and_by_its_name(tmp_path: Path) -> None:
    """Two spans of one run, each with an id of its own, are one agent that was seen once."""
    run = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"}
    spans = [span({**run, "gen_ai.agent.id": str(number)}, number=1) for number in range(2)]
    found = traced(tmp_path, *spans, span(run, number=2))
    assert item(found, "agent", "a").spans == 2


def test_agents_of_two_services_are_two(tmp_path: Path) -> None:
    """An agent is what a service calls so."""
    run = span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "a"})
    files = [traces(tmp_path / f"{name}.json", [run], service=name) for name in ("one", "two")]
    assert [(one.service, one.name) for one in taken(*files).items] == [("one", "a"), ("two", "a")]


def test_offered_tools_are_no_calls(tmp_path: Path) -> None:
    """What a model was offered is listed, and counts as no unguarded call."""
    definitions = json.dumps([{"type": "function", "name": "t"}, {"function": {"name": "u"}}, 7, {}])
    said = {"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "a", "gen_ai.tool.definitions": definitions}
    found = traced(tmp_path, span(said))
    assert [(item(found, "tool", name).spans) for name in ("t", "u")] == [0, 0]
    assert ("tool", "t") not in codes(found, "traced_not_guarded")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"server.address": "api.openai.com"}, {("host", "api.openai.com", "openai")}),
        ({"url.full": f"https://{BEDROCK}/m?k=SECRET"}, {("host", BEDROCK, "aws.bedrock")}),
        ({"net.peer.name": "localhost", "net.peer.port": 11434}, {("host", "localhost:11434", "ollama")}),
        ({"server.address": "shop.example.com"}, {("host", "shop.example.com", "")}),
        ({"http.url": "https://f.example.com/mcp"}, {("host", "f.example.com", ""), ("server", "f.example.com", "")}),
        ({"url.full": "http://[broken"}, set()),
    ],
)  # fmt: skip
def test_plain_http_spans_tell_of_providers_and_servers(
    tmp_path: Path, attributes: dict[str, object], expected: set[tuple[str, str, str]]
) -> None:
    """A client span names a host; the table says whose it is; nothing of a query is kept."""
    found = traced(tmp_path, span({"http.request.method": "POST", **attributes}, kind=3))
    assert {(one.kind, one.name, "".join(one.details.get("traced provider", ()))) for one in found.items} == expected
    assert "SECRET" not in json.dumps(plain(found))


def test_a_table_of_hosts_of_ones_own_comes_first(tmp_path: Path) -> None:
    """A gateway of the company is named by a file; a file of another form is refused."""
    own = tmp_path / "hosts.json"
    own.write_text('{"dated": "2026-11-29", "hosts": [{"host": "gw.*", "provider": "ours", "what": "gateway"}]}')
    call = span({"http.request.method": "POST", "server.address": "gw.example.com"}, kind=3)
    found = traced(tmp_path, call, hosts=Hosts.load(own))
    assert item(found, "host", "gw.example.com").details["traced provider"] == ("ours",)
    own.write_text('{"hosts": 1}')
    with pytest.raises(ConfigurationError):
        Hosts.load(own)


def test_the_inventory_of_two_directories_is_the_sum(company: Path, tmp_path: Path) -> None:
    """Counts add up, first and last sights reach over both, and statuses are united."""
    work(tmp_path / "other", start=START + 60 * DAY)
    one, two, both = taken(company), taken(tmp_path / "other"), taken(company, tmp_path / "other")
    for found in both.items:
        parts = [item(part, found.kind, found.name) for part in (one, two)]
        assert found.calls == sum(part.calls for part in parts)
        assert found.refused == sum(part.refused for part in parts)
        assert found.first_ns == min(part.first_ns for part in parts)
        assert found.last_ns == max(part.last_ns for part in parts)
    assert {(x.kind, x.name) for x in both.items} == {(x.kind, x.name) for part in (one, two) for x in part.items}


def test_a_cyclonedx_document_fits_the_schema(company: Path, tmp_path: Path) -> None:
    """The document is valid, has agents, tools and hosts, no person, and is the same each time."""
    path = traces(
        tmp_path / "t.json",
        [
            span({"gen_ai.request.model": "gpt", "gen_ai.provider.name": "openai"}),
            span({"http.request.method": "POST", "server.address": "api.openai.com"}, kind=3),
            span({"mcp.method.name": "tools/call", "gen_ai.tool.name": "t", "server.address": "mcp.example.com"}),
            span({"enduser.id": "private@example.com", "db.system": "redis"}),
        ],
    )
    document = cyclonedx(taken(company, path))
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(document)
    assert {part["name"] for part in _objects(document["components"])} == {
        *("clerk", "helper", "gpt", "redis", "https://bank.example.com payments"),
        "postgres://db.example.com:5432 shop.invoices/{number}",
    }
    assert {"pay", "api.openai.com", "mcp.example.com"} <= {part["name"] for part in _objects(document["services"])}
    assert "private@example.com" not in json.dumps(document)
    assert document == cyclonedx(taken(company, path))
    assert any(one["value"] == "verified" for one in _objects(document["metadata"]["properties"]))  # type: ignore[index, call-overload]


def _objects(value: object) -> Sequence[Mapping[str, Any]]:
    assert isinstance(value, list)
    return value


@given(
    st.dictionaries(
        st.sampled_from(
            ["gen_ai.agent.name", "gen_ai.tool.name", "gen_ai.tool.definitions", "url.full", "http.url", "tool.name"]
        ),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    )
)
def test_any_text_on_a_span_makes_a_valid_document(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, str]
) -> None:
    """Whatever strangers write on a span, the answer is typed, plain and of bounded length."""
    path = traces(
        tmp_path_factory.mktemp("any") / "t.json", [span({"openinference.span.kind": "TOOL", **said}, kind=3)]
    )
    found = taken(path)
    assert all(len(one.name) <= 256 + len(":65535") for one in found.items)
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(cyclonedx(found))


def test_hints_of_code_are_joined(tmp_path: Path) -> None:
    """What code names and no record shows is declared only; what records show keeps its weight and its owner."""
    work(tmp_path / "e")
    hints = [
        CodeHint("agent", "clerk", "declared", "app.py:3", "openai-agents", guarded=True),
        CodeHint("agent", "stranger", "declared", "app.py:9", "crewai", guarded=False),
        CodeHint("server", "docs", "configured", "mcp.json:1", "cursor"),
        CodeHint("tool", "pay", "declared", "app.py:1", "openai-agents", guarded=True),
    ]
    found = inventory(Evidence(sources=tmp_path / "e"), hints=hints, unnamed=2)
    items = {(item.kind, item.name): item for item in found.items}
    clerk, stranger = items["agent", "clerk"], items["agent", "stranger"]
    assert (clerk.statuses, clerk.proof, clerk.owners) == (("observed", "declared"), "proved", ("finance@example.com",))
    assert clerk.details["scanned in"] == ("app.py:3",)
    assert (stranger.statuses, stranger.proof, stranger.calls) == (("declared",), "hint", 0)
    assert stranger.details["scanned guard"] == ("not guarded",)
    assert items["server", "docs"].statuses == ("configured",)
    codes = {(one.code, one.kind, one.name) for one in found.differences}
    assert ("declared_not_observed", "agent", "stranger") in codes
    assert ("configured_not_guarded", "server", "docs") in codes
    assert not {code for code, _, name in codes if name in ("clerk", "pay") and "not_" in code}
    assert ("no_owner", "agent", "stranger") not in codes
    assert any("2 declarations" in note for note in found.frame.notes)
    jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(cyclonedx(found))


def test_a_traced_agent_is_not_only_declared(tmp_path: Path) -> None:
    """An agent that code names and spans show is at work, and not guarded."""
    spans = [span({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "stranger"}, number=3)]
    hints = [CodeHint("agent", "stranger", "declared", "app.py:9", "crewai")]
    found = inventory(Evidence(sources=traces(tmp_path / "t.jsonl", spans)), hints=hints)
    codes = {one.code for one in found.differences if one.name == "stranger"}
    assert "traced_not_guarded" in codes
    assert "declared_not_observed" not in codes


@pytest.mark.parametrize("days", [-400, 400])
def test_an_unsigned_span_dates_no_row_that_records_show(company: Path, tmp_path: Path, days: int) -> None:
    """It makes a tool neither older nor younger, and takes it neither from what is gone nor from what is new."""
    said = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "pay"}
    foreign = traces(tmp_path / "t.jsonl", [span(said, start=START + days * DAY)])
    alone, both = taken(company), taken(company, foreign)
    for since in (START, START + 300 * DAY):
        dated = [
            [(one.kind, one.name) for one in taken(*sources, since_ns=since * 10**9).differences if one.code in _DATED]
            for sources in ((company,), (company, foreign))
        ]
        assert dated[0] == dated[1]
    before, after = item(alone, "tool", "pay"), item(both, "tool", "pay")
    assert after.statuses == ("observed", "traced")
    assert (after.proof, after.first_ns, after.last_ns) == ("proved", before.first_ns, before.last_ns)
    (hint,) = (one for one in after.sightings if one.kind == "traces")
    assert hint.first_ns == (START + days * DAY) * 10**9


_DATED = ("new", "gone")


def test_a_workflow_of_older_conventions_is_an_agent() -> None:
    """``gen_ai.workflow.name`` is read as the older name of ``gen_ai.agent.name``."""
    from agent_identity._reports.answers._dialects import _AGENTS, _WORKFLOW, _agents

    said = {"gen_ai.operation.name": "invoke_workflow", _WORKFLOW: "month-end"}
    (hint,) = _agents(SimpleNamespace(attributes=said, name="invoke_workflow month-end"))
    assert (hint.kind, hint.name, hint.details) == ("agent", "month-end", {})
    both = {**said, _AGENTS[0]: "clerk"}
    assert [one.name for one in _agents(SimpleNamespace(attributes=both, name="x"))] == ["clerk", "month-end"]
