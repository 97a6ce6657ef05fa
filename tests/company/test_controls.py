"""Question 20 and ``report controls``, about an organization whose truth is known."""

import shutil
from pathlib import Path
from typing import Any

from company import expected, world
from company.asking import Asked
from company.truth import DAY, NS, Truth
from company.world import ALL

from agent_identity import records


def evidence(found: Any) -> dict[str, set[int]]:
    """Return the numbers that a report gives for each signal."""
    numbers: dict[str, set[int]] = {}
    for row in found["rows"]:
        for one in row["evidence"]:
            numbers.setdefault(one["signal"], set()).add(one["count"])
    return numbers


def test_question_20_every_number_behind_a_status_is_true(asked: Asked) -> None:
    """What clauses are judged by is what happened; a program that approves is no person."""
    found = asked.ask(20, sources=asked.sources(traces=True))
    truth = expected.signals(asked.truth, ALL, traces=True)
    numbers = evidence(found)
    assert {name: numbers[name] for name in truth if name in numbers} == {
        name: {truth[name]} for name in truth if name in numbers
    }
    assert numbers.keys() - truth.keys() <= {"changes", "ruled_calls", "unruled_calls"}


def test_question_20_every_status_follows_from_the_numbers(asked: Asked) -> None:
    """As the guide says: nothing needed is missing, what weakens makes it partly, and what is against contradicts."""
    found = asked.ask(20, sources=asked.sources(traces=True))
    truth = expected.signals(asked.truth, ALL, traces=True)
    times = [act.at for act in asked.truth.judged(ALL)]
    days = (max(times) - min(times)) // expected.DAY
    for row in found["rows"]:
        counts = {
            role: [truth.get(one["signal"], one["count"]) for one in row["evidence"] if one["role"] == role]
            for role in ("needs", "wants", "lacks", "against")
        }
        weak = row["row"]["at_most"] == "partly" or any(counts["lacks"]) or not all(counts["wants"])
        weak = weak or (row["row"]["days"] or 0) > days
        if row["row"]["query"] is None:
            status = {"out of scope"}
        elif any(counts["against"]):
            status = {"contradicted"}
        elif not all(counts["needs"]):
            status = {"not shown"}
        else:  # Nobody outside dates anything here, so a row that asks for days is partly shown at best.
            status = {"partly"} if weak or row["row"]["days"] else {"shown"}
        assert row["status"] in status, (row["row"]["framework"], row["row"]["clause"])
    statuses = [row["status"] for row in found["rows"]]
    assert {"shown", "partly", "not shown", "out of scope"} >= set(statuses)


def test_question_20_a_period_has_the_numbers_of_the_period(asked: Asked) -> None:
    """The third week alone: its calls, refusals and approvals."""
    first, last = world.START + 14 * expected.DAY, world.START + 21 * expected.DAY
    words = ["--from", expected.when(first).isoformat(), "--until", expected.when(last).isoformat()]
    found = evidence(asked.ask(20, *words))
    calls = [act for act in asked.truth.calls(ALL) if first <= act.at < last]
    assert found["recorded_calls"] == {len(calls)}
    assert found["refused_calls"] == {sum(act.refused for act in calls)}
    usable = [one for one in asked.truth.grants if one.issued * NS < last and one.expires * NS > first]
    assert found["bounded_grants"] == {len(usable)}
    answers = [one for one in asked.truth.of(ALL, "approved", "rejected") if first <= one.at < last]
    by_people = [one for one in answers if one.by == "bob@example.com"]
    assert found["human_decisions"] == {len(by_people)}
    assert found["rejections"] == {sum(one.what == "rejected" for one in by_people)}


def test_a_deleted_stream_leaves_no_row_shown(asked: Asked, tmp_path: Path) -> None:
    """Without the stream of one process the evidence is incomplete; what is left is counted, and no more."""
    gone = next(act for act in asked.truth.calls(["support"]) if act.agent == "worker" and act.outcome != "unknown")
    record = next(name for name, at in asked.times.items() if at == gone.at)
    copy = tmp_path / "support"
    shutil.copytree(asked.company.root / "support", copy)
    stream = next(one.stream.id for one in records.read(copy) if one.id == record)
    shutil.rmtree(copy / "ledger" / stream)
    sources = [str(copy)]
    found = asked.answer("report", "controls", sources=sources, code=3)
    assert found["frame"]["verdict"] == "incomplete"
    assert {row["status"] for row in found["rows"]} <= {"partly", "not shown", "out of scope"}
    assert {one["confidence"] for one in asked.answer("report", "scope", sources=sources, code=3)["suggestions"]} == {
        "medium",
        "low",
    }
    left = Truth(acts=[act for act in asked.truth.acts if act.at // DAY != gone.at // DAY or act.agent != "worker"])
    share = asked.answer("report", "coverage", sources=sources, code=3)
    assert share["total"] == expected.coverage(left, ["support"], traces=False)["total"]
