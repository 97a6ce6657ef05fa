"""Rates against the same hour of earlier weeks, and hours in which an agent was never active before."""

from contextlib import suppress
from pathlib import Path

import pytest
from small_company import ALICE, CLERK, DAY, START

from agent_identity import Denied, Enforcer, Scope
from agent_identity._reports.answers.scope_report import ScopeReport
from agent_identity.answers import Evidence, scope
from agent_identity.options import Sources, Telemetry
from agent_identity.testing import FixedClock, SequentialIds


def weeks_of(directory: Path, reads: list[int], *, refused: int = 0) -> ScopeReport:
    """Return the report of a clerk that reads so often in the same hour of consecutive weeks."""
    clock = FixedClock(START * 10**9)
    inline = Telemetry(sealing="inline")
    with Enforcer.open(directory, sources=Sources(clock=clock, ids=SequentialIds()), telemetry=inline) as enforcer:
        read, delete = (enforcer.tool(name=name)(lambda: None) for name in ("read", "delete"))
        for week, number in enumerate(reads):
            with enforcer.task("invoices", principal=ALICE, agent=CLERK, scope=Scope("read")):
                for _ in range(number):
                    read()
                for _ in range(refused if week == len(reads) - 1 else 0):
                    with suppress(Denied):
                        delete()
            clock.advance(7 * DAY)
    return scope(Evidence(sources=directory))


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        ([2, 2, 2, 2, 13], [(13, 2, 4)]),
        ([2, 2, 2, 2, 12], []),  # Not more than 10 above the median.
        ([6, 6, 6, 6, 18], []),  # Not more than three times the median.
        ([6, 6, 6, 6, 19], [(19, 6, 4)]),
        ([2, 2, 2, 40], []),  # Three weeks are no baseline.
        ([1, 0, 0, 0, 11], [(11, 0, 4)]),
        ([90, 1, 1, 1, 1, 1, 1, 1, 1, 12], [(12, 1, 8)]),  # Eight weeks are looked at, and no more.
    ],
)
def test_an_hour_is_compared_with_the_same_hour_of_earlier_weeks(
    tmp_path: Path, reads: list[int], expected: list[tuple[int, int, int]]
) -> None:
    """Both parts of the threshold must be passed, from four weeks of evidence on."""
    found = weeks_of(tmp_path / "e", reads)
    assert [(one.count, one.median, one.weeks) for one in found.rates] == expected
    assert {(one.agent, one.tool, one.what, one.proof) for one in found.rates} <= {("clerk", "read", "calls", "proved")}
    assert all(one.at_ns == (START + (len(reads) - 1) * 7 * DAY) // 3600 * 3600 * 10**9 for one in found.rates)


def test_refusals_have_rates_of_their_own(tmp_path: Path) -> None:
    """A burst of refused calls is one of refusals, and none of calls; the thresholds are stated."""
    found = weeks_of(tmp_path / "e", [1, 1, 1, 1, 1], refused=11)
    assert [(one.tool, one.what, one.count, one.median) for one in found.rates] == [("delete", "refusals", 11, 0)]
    assert any("three times the median" in note and "10 above" in note for note in found.frame.notes)


def test_an_hour_of_the_week_is_seen_for_the_first_time_once(tmp_path: Path) -> None:
    """An agent that is active in one hour of each week has one event for it, with the number of calls."""
    found = weeks_of(tmp_path / "e", [1, 2, 3])
    (hour,) = (event for event in found.events if event.relation == "active at")
    assert (hour.other, hour.count, hour.since_ns) == ("Monday 16:00 UTC", 6, START * 10**9)
