"""Data: what was touched, by whom and for whom, and how much of all calls says so."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from small_company import ALICE, CLERK, DAY, INVOICES, START, span, traces, work

from agent_identity import Enforcer, Scope
from agent_identity._reports.answers import data_report
from agent_identity._reports.answers.data_report import DataReport, DataRow
from agent_identity.answers import Evidence, data
from agent_identity.cli import main
from agent_identity.errors import Denied
from agent_identity.options import Sources, Telemetry
from agent_identity.policy import Touch
from agent_identity.testing import FixedClock, SequentialIds

TEMPLATE = "shop.invoices/{number}"


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of a company that declares what its tools touch."""
    directory = tmp_path_factory.mktemp("company") / "evidence"
    work(directory, tasks=2, days=10)
    return directory


def asked(*sources: Path, resource: str | None = None, **options: Any) -> DataReport:
    """Ask about data."""
    return data(Evidence(sources=sources, **options), resource=resource)


def row(found: DataReport, agent: str, name: str) -> DataRow:
    """Return the one row of an agent and a name."""
    (one,) = (row for row in found.rows if (row.agent, row.name) == (agent, name))
    return one


def test_what_an_agent_touched_is_listed(company: Path) -> None:
    """Five reads of five invoices, with their label and for whom; the helper sent to the bank, and was refused."""
    found = asked(company)
    invoices, bank = row(found, "clerk", TEMPLATE), row(found, "helper", "payments")
    assert (invoices.system, invoices.access, invoices.basis) == (INVOICES, "read", "declared")
    assert (invoices.calls, invoices.resources, invoices.labels) == (5, 5, ("personal",))
    assert invoices.principals == ("alice@example.com", "nightly")
    assert (bank.access, bank.calls, bank.refused, bank.resources) == ("send", 2, 2, 0)
    assert invoices.first_ns == START * 10**9
    assert {one.proof for one in found.rows} == {"proved"}


def test_the_share_of_calls_that_declare_is_a_figure(company: Path) -> None:
    """All that ran declare here."""
    found = asked(company)
    assert (found.calls, found.declaring, found.silent) == (7, 7, ())


def test_what_touched_a_resource_is_a_question(company: Path) -> None:
    """By template, by system and template, and by the digest of the one resource."""
    for resource in (TEMPLATE, f"{INVOICES} {TEMPLATE}"):
        found = asked(company, resource=resource)
        assert [(one.agent, one.tool, one.outcome) for one in found.touched] == [("clerk", "read", "success")] * 5
    one = asked(company, resource=TEMPLATE).touched[0]
    assert one.digest
    only = asked(company, resource=one.digest)
    assert only.touched == (one,)
    assert asked(company, resource="other").touched == ()


def test_one_resource_is_one_in_all_tasks(tmp_path: Path) -> None:
    """Two tasks that read the same invoice touched one resource."""
    clock = FixedClock(START * 10**9)
    options: dict[str, Any] = {
        "sources": Sources(clock=clock, ids=SequentialIds()),
        "telemetry": Telemetry(sealing="inline"),
    }
    with Enforcer.open(tmp_path / "e", **options) as enforcer:

        @enforcer.tool(touches=Touch(INVOICES, TEMPLATE, "read"))
        def read(number: str) -> str:
            return number

        for _ in range(2):
            with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")):
                read("INV-1")
    found = row(asked(tmp_path / "e"), "clerk", TEMPLATE)
    assert (found.calls, found.resources) == (2, 1)


def test_after_an_erasure_templates_are_counted(company: Path, tmp_path: Path) -> None:
    """Once the key of the names is gone, one resource may have two digests: the number is not told, and why is."""
    work(tmp_path / "e")
    assert main(["erase", str(tmp_path / "e"), "--resources"]) == 0
    found = asked(tmp_path / "e")
    assert row(found, "clerk", TEMPLATE).resources == 0
    assert any("was erased" in note for note in found.frame.notes)


def test_resources_of_two_directories_are_not_added_up(company: Path, tmp_path: Path) -> None:
    """Each directory has a key of its own, under which one resource has another digest."""
    work(tmp_path / "e", start=START + 60 * DAY)
    alone, both = asked(company), asked(company, tmp_path / "e")
    assert row(alone, "clerk", TEMPLATE).resources
    assert row(both, "clerk", TEMPLATE).resources == 0
    assert any("several sources" in note for note in both.frame.notes)


def test_an_erasure_elsewhere_takes_no_number(company: Path, tmp_path: Path) -> None:
    """That another directory erased its key says nothing about this one."""
    with Enforcer.open(tmp_path / "other") as enforcer:
        tool = enforcer.tool(touches=Touch("s3://bucket", "{key}", "read"), name="peek")(lambda key: None)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("peek")):
            tool(key="a")
    assert main(["erase", str(tmp_path / "other"), "--resources"]) == 0
    found = asked(company, tmp_path / "other")
    assert row(found, "clerk", "{key}").resources == 0
    assert row(found, "clerk", TEMPLATE).resources == row(asked(company), "clerk", TEMPLATE).resources > 0


def test_a_refused_call_touched_nothing(tmp_path: Path) -> None:
    """Who was refused had no contact: there is no first contact, and no call."""
    sources = Sources(clock=FixedClock(START * 10**9), ids=SequentialIds())
    with Enforcer.open(tmp_path / "e", telemetry=Telemetry(sealing="inline"), sources=sources) as enforcer:
        tool = enforcer.tool(touches=Touch("s3://bucket", "secret", "read"), name="peek")(lambda: None)
        with enforcer.task("t", principal=ALICE, agent=CLERK, scope=Scope("read")), suppress(Denied):
            tool()
    found = asked(tmp_path / "e")
    secret = row(found, "clerk", "secret")
    assert (secret.calls, secret.refused, secret.first_ns, secret.record) == (0, 1, 0, "")
    assert found.calls == 0


def test_spans_of_others_are_hints(company: Path, tmp_path: Path) -> None:
    """A database span says that a service touched a table, and not for whom."""
    said = {"db.system.name": "postgresql", "db.namespace": "shop", "db.collection.name": "users", "db.query.text": "x"}
    found = asked(company, traces(tmp_path / "t.json", [span(said), span(said, number=2)]))
    (hint,) = found.hints
    assert (hint.name, hint.service, hint.spans) == ("postgresql/shop/users", "shop", 2)
    assert found.calls == asked(company).calls


def test_two_directories_are_the_sum_of_their_parts(company: Path, tmp_path: Path) -> None:
    """Calls add up, and the first contact is the earlier one."""
    work(tmp_path / "other", start=START + 86_400 * 50)
    one, two, both = asked(company), asked(tmp_path / "other"), asked(company, tmp_path / "other")
    for total in both.rows:
        parts = [row(part, total.agent, total.name) for part in (one, two)]
        assert (total.calls, total.refused) == (sum(x.calls for x in parts), sum(x.refused for x in parts))
        assert total.first_ns == min(x.first_ns for x in parts)


def test_a_long_list_is_cut_and_says_so(company: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two calls, the earliest are listed and the others are counted."""
    whole = asked(company, resource=TEMPLATE).touched
    monkeypatch.setattr(data_report, "_MAX_TOUCHES", 2)
    found = asked(company, resource=TEMPLATE)
    assert found.touched == whole[:2]
    assert found.omitted == 3
