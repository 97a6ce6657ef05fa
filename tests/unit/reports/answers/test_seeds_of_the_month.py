"""Every kind of seed, on the month of the demo: what is known of an incident there, and what it leads to."""

from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest

from agent_identity._reports.answers.incident_report import IncidentReport
from agent_identity._reports.answers.incident_seed import SeedKind
from agent_identity._reports.pages.rendering import render
from agent_identity.answers import Evidence, Seed, incident, scope
from agent_identity.cli.company.month import STOLEN, key_of, write_month

PAGE = "AaE0tGUAcACAAAAAAAABlQ"
"""The task in which a page gives orders, on the 13th."""
REFUSED = "AaE0tHaUcACAAAAAAAABnw"
"""The payment that the page wants."""
THEFT = "JBT2JXo5WdQjYEz8hrRp1j1lR_LiXZkTkOvOb2aZm-Y"
"""The grant that the thief of the key made, on the 21st."""
OLD = "GoajI3LeVTmsal-NEsu9z2Flc8qyfd0kOSzxfv2LV5Q"
NEW = "iz08qlHLJyWLZKkI9GoImOddCroywISM5MHrkUTmxlo"
"""The definition of search_web until the 15th, and from then on."""
REJECTED = "AaFYbqN6cACAAAAAAAACfQ"
DAY = 86_400 * 10**9
FIRST = 1_790_812_800 * 10**9


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the evidence of the demo."""
    directory = tmp_path_factory.mktemp("month") / "evidence"
    write_month(directory)
    return directory


def asked(directory: Path, seed: str, **options: Any) -> IncidentReport:
    """Ask about an incident."""
    return incident(Evidence(sources=directory, **options), Seed.parse(seed))


def outcomes(found: IncidentReport) -> Counter[str]:
    """Return the calls of a timeline by outcome; the refused opening of a grant from elsewhere is none."""
    return Counter(entry.outcome for entry in found.timeline if entry.kind == "call" and entry.what != "resume")


SEEDS: dict[str, dict[str, int]] = {
    f"record:{REFUSED}": {"success": 4, "denied": 3},
    f"task:{PAGE}": {"success": 4, "denied": 3},
    "principal:carol@example.com": {"success": 67, "denied": 3},
    "principal:bob@example.com": {"success": 4},
    "agent:payer": {"success": 26, "denied": 5, "unknown": 1},
    "owner:finance@example.com": {},
    f"grant:{THEFT}": {"success": 6, "denied": 1},
    f"key:{STOLEN.public_key.thumbprint}": {},
    "tool:send_mail": {"denied": 1},
    "server:web": {},
    f"definition:{OLD}": {},
    f"definition:{NEW}": {"success": 12},
    f"approval:{REJECTED}": {"denied": 1},
    "rule:mail-stays-inside": {"denied": 1},
    "policy:house": {},
    "everything": {},
}
"""Seeds, with the calls by outcome of those that lead to few."""
TESTED_ELSEWHERE = {"span", "resource"}


def test_every_kind_of_seed_is_tried() -> None:
    """The table and the two tests below it have each kind."""
    assert {seed.partition(":")[0] for seed in SEEDS} | TESTED_ELSEWHERE == set(get_args(SeedKind))


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed[:24])
def test_a_seed_leads_to_its_calls_of_the_month(month: Path, seed: str) -> None:
    """Something is found, it is proved under the keys beside the evidence, and few calls are counted one by one."""
    found = asked(month, seed)
    assert found.calls > 0
    assert found.proof == "proved"
    assert found.calls == sum(outcomes(found).values())
    if SEEDS[seed]:
        assert outcomes(found) == SEEDS[seed]


def test_a_resource_is_a_seed(month: Path) -> None:
    """What touched the payments, in records that say so."""
    found = asked(month, "resource:payments")
    assert {entry.what for entry in found.timeline if entry.kind == "call"} == {"pay_invoice"}
    assert found.calls >= 30


def test_a_span_is_a_seed(month: Path) -> None:
    """The records of the demo have no trace, so that a span leads to nothing and the answer says what it asked."""
    found = asked(month, f"span:{'a' * 16}")
    assert (found.calls, str(found.seed)) == (0, f"span:{'a' * 16}")


def test_a_period_bounds_every_seed(month: Path) -> None:
    """One day of everything is that day."""
    found = asked(month, "everything", from_ns=FIRST + 12 * DAY, until_ns=FIRST + 13 * DAY)
    days = {(entry.at_ns - FIRST) // DAY for entry in found.timeline if entry.kind == "call"}
    assert days == {12}


def test_key_and_time_are_a_seed(month: Path) -> None:
    """The grants of the stolen key from the theft on; those of the nights before are not its."""
    key, day = STOLEN.public_key.thumbprint, FIRST + 20 * DAY
    whole = incident(Evidence(sources=month), Seed("key", key))
    late = incident(Evidence(sources=month), Seed("key", key, day + 3 * 3_600 * 10**9))
    assert late.calls == 7
    assert whole.calls > late.calls


def test_the_recorder_key_of_the_month_is_a_seed(month: Path) -> None:
    """Nobody outside saw the log of the demo, so that everything is in doubt if that key was stolen."""
    found = incident(Evidence(sources=month), Seed("key", key_of("recorder").public_key.thumbprint, FIRST + 20 * DAY))
    assert found.calls == asked(month, "everything").calls
    assert found.proof == "recorded"


def test_the_changed_definition_of_the_month_is_told(month: Path) -> None:
    """It was accepted at once, with what was stated, and nothing ran in between; other seeds do not mention it."""
    (change,) = asked(month, "server:web").definitions
    assert (change.tool, change.before, change.after) == ("web/search_web", OLD, NEW)
    assert (change.status, change.reason) == ("accepted", "reviewed by it@example.com")
    assert (change.calls, change.refused) == (0, 0)
    assert asked(month, f"definition:{NEW}").definitions == (change,)
    assert asked(month, "agent:payer").definitions == ()
    page = render(asked(month, "server:web")).html.decode()
    assert "Changed definitions of tools" in page
    assert "reviewed by it@example.com" in page


def test_a_definition_is_first_seen_when_a_server_offers_it(month: Path) -> None:
    """Each digest of a tool is seen once, the changed one on the day of the change."""
    events = scope(Evidence(sources=month)).events
    offered = {one.other: one.since_ns for one in events if one.relation == "offers" and one.agent == "web"}
    assert offered.keys() >= {f"web/search_web {OLD}", f"web/search_web {NEW}"}
    assert (offered[f"web/search_web {NEW}"] - FIRST) // DAY == 14
    assert offered[f"web/search_web {OLD}"] < offered[f"web/search_web {NEW}"]
