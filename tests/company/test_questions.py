"""The twenty questions of ``agent-identity ask``, about an organization whose truth is known.

| question, report or table | test |
|---|---|
| 1, 2, 3, 4, ``report inventory`` | ``test_inventory.py`` |
| 5, 6, 7, 14 to 18, ``report incident`` | here |
| 8, 9, 10, 11, ``report scope`` | here |
| 12, 13, ``report data`` | here |
| 19, ``report coverage`` | here |
| 20, ``report controls``, a deleted stream | ``test_controls_report.py`` |
| the six tables, and the seven named queries | ``test_tables.py`` |
| a seed decides what happens | ``test_simulation.py`` |
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from company import expected, world
from company.asking import Asked, without
from company.truth import NS, Act, Event, Granted
from company.world import ALL

from agent_identity import records
from agent_identity.identity import TrustStore


def test_the_simulation_is_large_enough(asked: Asked) -> None:
    """At least 800 guarded calls in 35 days, over five directories and several processes."""
    calls = asked.truth.calls(ALL)
    assert len(calls) >= 800
    assert {(act.at - world.START) // expected.DAY for act in calls} == set(range(35))
    assert asked.company.processes == 4
    assert max(len(act.chain) for act in calls) == 4


# 8 to 11: scope.


def scopes(asked: Asked) -> expected.Scopes:
    return expected.Scopes(asked.truth, ALL)


def test_question_8_what_was_granted_and_never_used(asked: Asked) -> None:
    """Each gap of each agent and tool is there, with its number, and nothing else."""
    assert asked.ask(8)["gaps"] == scopes(asked).gaps()


def test_question_9_what_was_tried_outside_the_scope(asked: Asked) -> None:
    """Each row counts what was granted, used and refused, by reason, rule and argument."""
    assert asked.ask(9)["rows"] == scopes(asked).rows()


def test_question_10_the_smallest_scope(asked: Asked) -> None:
    """The suggested scopes keep what was used, and say what they would have refused."""
    assert asked.ask(10)["suggestions"] == scopes(asked).suggestions()


def test_question_11_what_a_version_does_that_the_one_before_did_not(asked: Asked) -> None:
    """The upgraded agent calls one tool more."""
    found = asked.ask(11)["versions"]
    assert found == scopes(asked).versions()
    assert [(one["agent"], one["version"], one["added"]) for one in found] == [("office", "5", ["read_invoice"])]


def test_report_scope_first_seen_and_rates(asked: Asked) -> None:
    """What was first seen together has its time and its number, and the one busy hour is named."""
    found, truth = asked.answer("report", "scope"), scopes(asked)
    assert [one for one in found["events"] if one["relation"] != "offers"] == truth.firsts()
    assert found["rates"] == truth.rates()
    assert [(one["agent"], one["tool"]) for one in found["rates"]] == [("clerk", "read_invoice")]


# 12 and 13: data.


def test_question_12_which_systems_and_data(asked: Asked) -> None:
    """Each resource that an agent touched, and which calls say nothing of any."""
    found, truth = asked.ask(12), expected.data(asked.truth, ALL)
    assert {name: found[name] for name in truth} == truth


@pytest.mark.parametrize("resource", ["payments", "shop.invoices/{number}", "smtp://mail.example.com outbox"])
def test_question_13_what_touched_a_resource(asked: Asked, resource: str) -> None:
    """Every call that touched it, refused ones included, by time."""
    found, truth = asked.ask(13, "--of", resource), expected.data(asked.truth, ALL, resource)
    assert without(found["touched"], "digest") == truth["touched"]
    assert truth["touched"]


# 19: coverage.


@pytest.mark.parametrize("traces", [False, True], ids=["records", "traces"])
def test_question_19_which_share_a_verified_human_answers_for(asked: Asked, traces: bool) -> None:
    """Each call counts once, whoever traced it besides; refused openings are no calls of tools."""
    found = asked.ask(19, sources=asked.sources(traces=traces))
    truth = expected.coverage(asked.truth, ALL, traces=traces)
    assert found["total"] == truth["total"]
    assert found["groups"] == truth["groups"]
    assert sorted(found["others"], key=str) == truth["others"]


# 5 to 7, 14 to 18: incidents.


def assert_incident(found: Any, truth: expected.Incident) -> None:
    """Hold every part of an incident against the truth."""
    assert {name: found[name] for name in ("calls", "first_ns", "last_ns")} == truth.numbers()
    timeline = without(found["timeline"], "record", "source", "stream")
    assert sorted(timeline, key=expected._entry_key) == truth.timeline()
    assert without(found["authority"], "proof") == truth.authority()
    assert found["tools"] == truth.tools()
    assert found["reached"] == truth.reached()
    assert found["open_calls"] == truth.open_calls()
    assert found["revocations"] == truth.revocations()
    assert found["omitted"] == 0


def of_agent(asked: Asked, name: str) -> expected.Incident:
    """Return what concerns an agent."""

    def chained(one: Act | Granted | Event) -> bool:
        return name in {hop.agent for hop in one.chain}

    def called(act: Act) -> bool:
        return chained(act) or (act.opened is not None and act.opened.agent == name and act.tool == "invoke_agent")

    return expected.Incident(asked.truth, ALL, called, chained, chained)


def of_person(asked: Asked, name: str) -> expected.Incident:
    """Return what concerns a person: what was done for them, or with their approval."""

    def own(one: Act | Granted | Event) -> bool:
        return one.principal is not None and one.principal.id == name

    return expected.Incident(
        asked.truth,
        ALL,
        lambda act: own(act) or act.approver == name,
        own,
        lambda event: own(event) or event.by == name,
    )


def of_task(asked: Asked, task: str) -> expected.Incident:
    """Return what concerns a task."""
    of: Callable[[Any], bool] = lambda one: one.task == task  # noqa: E731
    return expected.Incident(asked.truth, ALL, of, of, of)


@pytest.mark.parametrize("agent", ["payer", "notary", "tester", "stranger", "scanner", "mailer", "keeper"])
def test_question_5_who_delegated_what_to_whom(asked: Asked, agent: str) -> None:
    """Every hop of every chain with the agent, with what was lost and narrowed there."""
    assert_incident(asked.ask(5, "--of", f"agent:{agent}"), of_agent(asked, agent))


@pytest.mark.parametrize("person", ["alice@example.com", "bob@example.com", "erin@partner.example.net", "nightly"])
def test_question_6_what_was_done_on_behalf_of_a_person(asked: Asked, person: str) -> None:
    """What was done for them, and what they approved; nothing of anybody else."""
    assert_incident(asked.ask(6, "--of", person), of_person(asked, person))


def test_question_7_who_authorized_a_call(asked: Asked) -> None:
    """From the record of a call of the deepest agent to the human, with what each hop permits."""
    act = next(act for act in asked.truth.calls(ALL) if len(act.chain) == 4)
    (record,) = (name for name, at in asked.times.items() if at == act.at and name in intents(asked))
    assert_incident(asked.ask(7, "--of", record), of_task(asked, act.task or ""))


def intents(asked: Asked) -> set[str]:
    """Return the ids of the records of intents in finance."""
    found = records.read(asked.company.root / "finance")
    return {record.id for record in found if record.kind == "intent"}


def test_question_14_what_happened_in_order(asked: Asked) -> None:
    """The whole timeline, over all directories and processes."""
    assert_incident(asked.ask(14, "--of", "everything"), expected.Incident(asked.truth, ALL))


def test_question_15_what_could_be_done_under_a_grant_and_what_was(asked: Asked) -> None:
    """What a grant and those below it allowed, and what was done under them."""
    grant = next(one for one in asked.truth.grants if one.agent == "clerk")
    of: Callable[[Any], bool] = lambda one: grant.hash in {hop.grant for hop in one.chain}  # noqa: E731
    truth = expected.Incident(asked.truth, ALL, of, of, of)
    assert len(truth.acts) > 5
    assert_incident(asked.ask(15, "--of", f"{grant.hash}"), truth)


def test_question_16_what_happened_under_an_issuer_key_after_its_theft(asked: Asked) -> None:
    """Everything that the thief did, whatever dates are on the grants, and nothing from before."""
    theft = asked.truth.facts["theft"]
    stolen = {one.hash for one in asked.truth.grants if one.stolen and one.place == "batch"}
    assert len(stolen) == 3
    assert any(one.issued * NS < theft for one in asked.truth.grants if one.hash in stolen)
    of: Callable[[Any], bool] = lambda one: bool(stolen & {hop.grant for hop in one.chain})  # noqa: E731
    truth = expected.Incident(asked.truth, ALL, of, lambda one: one.hash in stolen, of)
    key = next(one.key for one in asked.truth.grants if one.hash in stolen)
    found = asked.ask(16, "--of", key or "", "--since", expected.when(theft).isoformat())
    assert {act.at for act in truth.acts} == {
        act.at for act in asked.truth.acts if act.stolen == "issuer" and act.tool != "resume"
    }
    assert_incident(found, truth)


def test_question_16_says_the_same_once_the_trust_file_calls_the_key_revoked(asked: Asked, tmp_path: Path) -> None:
    """The thief's grants do not verify any more, whatever their dates; what was done under them stays the same."""
    theft = asked.truth.facts["theft"]
    stolen = {one.hash: one.key or "" for one in asked.truth.grants if one.stolen and one.place == "batch"}
    store = TrustStore.load(asked.company.root / "batch" / "trust.json")
    key = set(stolen.values()).pop()
    keys = [
        replace(one, revoked_since=theft // NS) if one.key.thumbprint == key and one.purpose == "issuer" else one
        for one in store.keys
    ]
    replace(store, keys=tuple(keys)).save(tmp_path / "trust.json")
    words = ["report", "incident", f"key:{key}", "--after", expected.when(theft).isoformat()]
    found = asked.answer(*words, sources=asked.sources("batch"), trust=tmp_path / "trust.json", code=1)
    acts = [act for act in asked.truth.calls(["batch"]) if act.stolen == "issuer"]
    assert (found["calls"], found["proof"]) == (len(acts), "recorded")
    assert {one["grant"] for one in found["authority"]} == set(stolen)
    assert {one["proof"] for one in found["authority"]} == {"recorded"}
    codes = asked.answer(*words, sources=asked.sources("batch"), trust=tmp_path / "trust.json", code=1)["frame"]
    assert set(codes["sources"][0]["findings"]) >= {"key_revoked", "signed_after_revocation"}


def test_question_5_names_the_commands_that_stop_an_agent(asked: Asked) -> None:
    """One for each directory, since each has a list of its own."""
    found = asked.ask(5, "--of", "agent:payer")["commands"]
    assert found == [
        f"agent-identity revoke --reason 'incident agent:payer' -- {asked.company.root / name} agent payer"
        for name in sorted(ALL, key=lambda name: asked.sources().index(str(asked.company.root / name)))
    ]


def test_question_16_what_the_theft_of_a_recorder_key_leaves_in_doubt(asked: Asked) -> None:
    """All that was written after the kept checkpoint and before another key took over; forged dates do not help."""
    theft, rotated = asked.truth.facts["vault theft"], asked.truth.facts["vault rotated"]

    def doubted(one: Act | Granted | Event) -> bool:
        at = one.noted if isinstance(one, Granted) else one.at
        forged = bool(by_thief & {hop.grant for hop in one.chain})
        return one.place == "vault" and (forged or theft < at < rotated)

    by_thief = {grant.hash for grant in asked.truth.grants if grant.stolen}
    truth = expected.Incident(asked.truth, ALL, doubted, doubted, doubted)
    recorder = world.key_of("recorder of vault").public_key.thumbprint
    after = expected.when(theft).isoformat()
    words = ["report", "incident", f"key:{recorder}", "--after", after]
    found = asked.answer(*words, "--checkpoint", str(asked.company.checkpoint), sources=asked.sources())
    assert {act.at for act in truth.acts} >= {act.at for act in asked.truth.acts if act.stolen == "recorder"}
    assert_incident(found, truth)
    assert found["proof"] == "recorded"


def test_question_17_which_calls_never_ended_and_what_began_after_a_revocation(asked: Asked) -> None:
    """The calls of the two processes that died, each revocation with its effect, and the tasks that are open."""
    found, truth = asked.ask(17), expected.Incident(asked.truth, ALL)
    assert found["open_calls"] == truth.open_calls()
    assert len(truth.open_calls()) == 2
    assert found["revocations"] == truth.revocations()
    assert found["open_tasks"] == truth.open_tasks()


def test_question_18_which_definitions_changed(asked: Asked) -> None:
    """Both changes, who accepted them and why, and the calls in between."""
    truth = expected.Incident(asked.truth, ALL)
    assert asked.ask(18, "--of", "everything")["definitions"] == truth.definitions()
    of: Callable[[Any], bool] = lambda one: isinstance(one, Act) and one.server == "web"  # noqa: E731
    server = expected.Incident(asked.truth, ALL, of, lambda _: False, lambda _: False)
    found = asked.ask(18, "--of", "server:web")
    assert_incident(found, server)
    assert found["definitions"] == server.definitions()
    assert sum(one["refused"] for one in found["definitions"]) > 0


def test_question_18_which_calls_ran_under_a_poisoned_definition(asked: Asked) -> None:
    """The calls while the server offered the poisoned tool, accepted or not."""
    changed, back = asked.truth.of(ALL, "changed")

    def poisoned(one: Any) -> bool:
        return isinstance(one, Act) and one.tool == "web/fetch" and changed.at <= one.at < back.at

    truth = expected.Incident(asked.truth, ALL, poisoned, lambda _: False, lambda _: False)
    assert any(act.ran for act in truth.acts)
    assert any(act.refused for act in truth.acts)
    digest = asked.company.digests["poison"]
    assert_incident(asked.ask(18, "--of", f"definition:{digest}"), truth)
