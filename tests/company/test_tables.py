"""The six Parquet tables and the named queries over them, about an organization whose truth is known."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from company import expected, world
from company.asking import Asked
from company.truth import NS, Act, Event, Granted
from company.world import ALL, PLACES

from agent_identity.audit import export_tables, named_queries, query_tables

pytest.importorskip("duckdb", reason="the extra tables is not installed")

each_place = pytest.mark.parametrize("place", ALL)


@pytest.fixture(scope="module")
def tables(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of the tables of each directory."""
    folder, found = tmp_path_factory.mktemp("tables"), {}
    for name in ALL:
        root, found[name] = asked.company.root / name, folder / name
        export_tables(root, found[name], verify=True, trust=root / "trust.json")
    return found


def rows(folder: Path, query: str, *names: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query as tuples, in an order of their own."""
    found = query_tables(folder, query)
    return sorted((tuple(_plain(row[name]) for name in names) for row in found), key=str)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def parties(one: Act | Granted | Event) -> tuple[Any, ...]:
    """Return the columns that name a task and its parties."""
    party, leaf = one.principal, one.chain[-1] if one.chain else None
    of_party = (None,) * 4 if party is None else (party.id, party.kind, party.provenance, party.issuer)
    of_leaf = (None,) * 3 if leaf is None else (leaf.agent, leaf.owner, leaf.version)
    chain = tuple(hop.agent for hop in one.chain), tuple(hop.grant for hop in one.chain)
    return one.task, *of_party, (), *of_leaf, *chain


PARTIES = (
    *("task", "principal", "principal_kind", "principal_provenance", "principal_issuer", "via"),
    *("agent", "agent_owner", "agent_version", "chain", "grants"),
)


@each_place
def test_the_table_of_calls(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """Each call and each refused opening is a row, with all that is known of it."""
    names = (
        *("time_ns", "tool", "service", *PARTIES, "tool_kind", "opened", "effect", "mode", "reason", "rule"),
        *("argument", "approver", "outcome", "error", "findings", "opening", "of_model", "ran", "refused"),
        *("would_be_refused", "begun"),
    )
    truth = [
        (
            *(act.at, act.tool, act.service, *parties(act), act.kind, opened(act), act.effect),
            *("monitor" if act.monitored else "enforce", act.reason, act.rule, act.argument, act.approver),
            *(act.outcome, act.error, tuple(act.findings), act.opening, False, act.ran, act.refused, act.drifted),
            act.ran,
        )
        for act in asked.truth.judged([place])
    ]
    assert rows(tables[place], "SELECT * FROM calls", *names) == sorted(truth, key=str)


def opened(act: Act) -> str | None:
    """Return the agent that a refused opening names; that of a grant from elsewhere names none."""
    return act.opened.agent if act.opened is not None and act.tool == "invoke_agent" else None


@each_place
def test_the_resources_and_arguments_of_calls(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """Each call names what it touches, and the names of its arguments."""
    found = query_tables(tables[place], "SELECT time_ns, arguments, resources, observed FROM calls")
    mine = [
        (
            row["time_ns"],
            sorted(row["arguments"]),  # type: ignore[call-overload]
            [
                (one["system"], one["name"], one["access"], one.get("data") or [])
                for one in json.loads(str(row["resources"] or "[]"))
            ],
            row["observed"],
        )
        for row in found
    ]
    truth = [
        (act.at, act.arguments, [(one.system, one.name, one.access, one.labels) for one in act.touches], None)
        for act in asked.truth.judged([place])
    ]
    assert sorted(mine, key=str) == sorted(truth, key=str)


@each_place
def test_the_table_of_grants(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """Each argument that a grant bounds is a row, and each tool without any."""
    names = ("hash", "parent", "root", "depth", "issuer_kid", "time_ns", "expires_ns", *PARTIES, "tool", "argument")
    truth = [
        (
            *(one.hash, one.parent, one.chain[0].grant, one.depth, one.key, one.issued * NS, one.expires * NS),
            *(*parties(one), tool, argument),
        )
        for one in asked.truth.granted([place])
        for tool, arguments in one.tools.items()
        for argument in arguments or [None]
    ]
    assert rows(tables[place], "SELECT * FROM grants", *names) == sorted(truth, key=str)
    said = rows(tables[place], 'SELECT hash, tool, argument, "constraint" AS said FROM grants', "hash", "said")
    bounds = [
        (one.hash, json.dumps(constraint, separators=(",", ":"), sort_keys=True))
        for one in asked.truth.granted([place])
        for arguments in one.tools.values()
        for constraint in arguments.values()
    ]
    assert [row for row in said if row[1] is not None] == sorted(bounds, key=str)


@each_place
def test_the_table_of_approvals(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """Each question and each answer is a row; people answer through the directory, programs as functions."""
    names = ("time_ns", "status", "approver", "channel", *PARTIES, "tool")
    truth = [
        (one.at, one.what, one.by, "directory" if one.by_person else "function", *parties(one), one.name)
        for one in asked.truth.of([place], "pending", "approved", "rejected")
    ]
    assert rows(tables[place], "SELECT * FROM approvals", *names) == sorted(truth, key=str)


@each_place
def test_the_table_of_revocations(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """Each change of the list is a row."""
    names = ("time_ns", "kind", "name", "status", "reason")
    truth = [
        (one.at, one.kind, one.name, one.what, one.reason)
        for one in asked.truth.of([place], "revoked", "suspended", "reinstated")
    ]
    assert rows(tables[place], "SELECT * FROM revocations", *names) == sorted(truth, key=str)


def test_the_table_of_servers(asked: Asked, tables: dict[str, Path]) -> None:
    """The states of the tool that changed follow each other as they did, and those of others never changed."""
    found = query_tables(tables["finance"], "SELECT * FROM servers ORDER BY time_ns, record")
    states: dict[tuple[Any, Any], list[tuple[Any, ...]]] = {}
    for row in found:
        state = (row["tool_status"], row["pinned"], row["offered"] if row["tool_status"] != "pinned" else None)
        seen = states.setdefault((row["server"], row["tool"]), [])
        if not seen or seen[-1] != state:
            seen.append(state)
    fetch, poison = asked.company.digests["fetch"], asked.company.digests["poison"]
    changes: list[tuple[str, str, str | None]] = [("pinned", fetch, None), ("changed", fetch, poison)]
    changes += [("pinned", poison, None), ("changed", poison, fetch), ("pinned", fetch, None)]
    assert states.pop(("web", "web/fetch")) == changes
    assert {key: [state[0] for state in seen] for key, seen in states.items()} == {
        ("web", "web/search"): ["pinned"],
        ("crm", "crm/find"): ["pinned"],
    }
    for place in set(ALL) - {"finance"}:
        assert query_tables(tables[place], "SELECT * FROM servers") == []


def test_calls_join_the_definitions_of_their_tools(asked: Asked, tables: dict[str, Path]) -> None:
    """SQL finds the calls of a tool while its server offered the poisoned definition."""
    query = """
        SELECT calls.time_ns, calls.ran FROM calls
        ASOF JOIN (SELECT * FROM servers WHERE tool = 'web/fetch') AS said
            ON calls.tool = said.tool AND calls.time_ns >= said.time_ns
        WHERE coalesce(said.offered, said.pinned) = '{}'
    """
    changed, back = asked.truth.of(["finance"], "changed")
    truth = [
        (act.at, act.ran)
        for act in asked.truth.calls(["finance"])
        if act.tool == "web/fetch" and changed.at <= act.at < back.at
    ]
    found = rows(tables["finance"], query.format(asked.company.digests["poison"]), "time_ns", "ran")
    assert found == sorted(truth, key=str)
    assert truth


@each_place
def test_the_table_of_records(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """Each call has the records that it should have, and so has each grant, task, question and revocation."""
    truth, acts = asked.truth, asked.truth.judged([place])
    counts = Counter(
        {
            "intent": sum(act.ran for act in acts),
            "outcome": sum(act.outcome != "unknown" for act in acts),
            "grant": len(truth.granted([place])),
            "task_start": len(truth.of([place], "begun")),
            "task_end": len(truth.of([place], "ended")),
            "approval": len(truth.of([place], "pending", "approved", "rejected")),
            "revocation": len(truth.of([place], "revoked", "suspended", "reinstated")),
            "policy": len(truth.of([place], "policy")),
        }
    )
    found = dict(rows(tables[place], "SELECT kind, count(*) AS n FROM records GROUP BY kind", "kind", "n"))
    assert {kind: found.get(kind, 0) for kind in counts} == dict(counts)
    names = ("time_ns", "tool", "principal", "agent", "outcome", "reason", "rule")
    mine = rows(tables[place], "SELECT * FROM records WHERE kind = 'outcome'", *names)
    named = [
        (act.at, act.tool, act.principal and act.principal.id, act.agent or None, act.outcome, act.reason, act.rule)
        for act in acts
        if act.outcome != "unknown"
    ]
    assert mine == sorted(named, key=str)


SCOPE = (
    *("agent", "tool", "root_grants", "delegations", "grants_used", "grants_used_by_descendants", "open_grants"),
    *("calls", "succeeded", "calls_by_descendants", "calls_of_open_tool", "warned", "would_be_refused", "refused"),
    *("first_granted_ns", "last_granted_ns", "first_used_ns", "last_used_ns", "principals"),
)


def numbers(found: Any, *names: str) -> list[tuple[Any, ...]]:
    """Return rows of the truth as the queries have them: times are numbers."""
    return sorted(
        (tuple(int(row[name]) if name.endswith("_ns") else row[name] for name in names) for row in found), key=str
    )


@each_place
def test_the_named_queries_of_scopes(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """``scope``, ``refusals`` and ``events`` give the rows of the truth."""
    truth, table = expected.Scopes(asked.truth, [place]), tables[place]
    assert rows(table, "scope", *SCOPE) == numbers(truth.rows(), *SCOPE)
    refusals = ("agent", "tool", "reason", "rule", "argument", "count")
    refused = [{**row, **one} for row in truth.rows() for one in row["refusals"]]
    assert rows(table, "refusals", *refusals) == numbers(refused, *refusals)
    firsts = ("relation", "agent", "other", "since_ns", "count")
    found = [row for row in rows(table, "events", *firsts) if row[0] != "offers"]
    assert found == numbers(truth.firsts(), *firsts)


@each_place
def test_the_other_named_queries(asked: Asked, tables: dict[str, Path], place: str) -> None:
    """``coverage``, ``data``, ``inventory`` and ``open_calls`` give the rows of the truth."""
    assert set(named_queries()) == {"coverage", "data", "events", "inventory", "open_calls", "refusals", "scope"}
    truth, table = expected.coverage(asked.truth, [place], traces=False), tables[place]
    shares = ("dimension", "name", "calls", "attributed", "human", "verified_human", "refused")
    every = [{"dimension": "total", "name": "", "share": truth["total"]}, *truth["groups"]]
    assert rows(table, "coverage", *shares) == numbers([{**one, **one["share"]} for one in every], *shares)
    touched = ("agent", "system", "name", "access", "basis", "calls", "refused", "first_ns", "last_ns")
    assert rows(table, "data", *touched) == numbers(expected.data(asked.truth, [place])["rows"], *touched)
    opened_ = ("at_ns", "task", "agent", "tool")
    open_calls = expected.Incident(asked.truth, [place]).open_calls()
    assert rows(table, "open_calls", *opened_) == numbers(open_calls, *opened_)
    items = ("kind", "service", "name", "calls", "refused")
    busy = [row for row in expected.Inventory(asked.truth, [place]).rows() if row["calls"] or row["refused"]]
    assert rows(table, "inventory", *items) == numbers(busy, *items)


def test_every_place_is_in_the_tables(asked: Asked) -> None:
    """No directory is left out of these tests."""
    assert set(PLACES) == set(ALL) == {path.parent.name for path in asked.company.root.glob("*/trust.json")}
    assert world.DAYS == 35
