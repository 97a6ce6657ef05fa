"""Questions 1 to 4 and ``report inventory``, about an organization whose truth is known."""

from typing import Any

import pytest
from company import expected, world
from company.asking import Asked
from company.days import THEFT, UPGRADE
from company.truth import DAY
from company.world import ALL

REGISTERED = {**dict.fromkeys(world.MAXIMA, "registered"), "scanner": "retired"}


def inventory(asked: Asked) -> expected.Inventory:
    """Return who and what exists."""
    return expected.Inventory(asked.truth, ALL, REGISTERED, traces=True)


def plain(items: Any) -> Any:
    """Return items without what other libraries said of them, and without the version of the SDK of MCP."""
    return [
        {
            **{name: value for name, value in item.items() if name not in ("sightings", "details")},
            "versions": [] if item["kind"] == "server" else item["versions"],
            "details": {name: said for name, said in item["details"].items() if not name.startswith("traced")},
        }
        for item in items
    ]


def codes(found: Any) -> dict[str, list[tuple[str, str | None, str]]]:
    """Return differences by code."""
    by: dict[str, list[tuple[str, str | None, str]]] = {}
    for one in found:
        by.setdefault(one["code"], []).append((one["kind"], one["service"], one["name"]))
    return by


def test_question_1_which_agents_servers_tools_and_models_exist(asked: Asked) -> None:
    """Each of them once, with its owners, versions, calls, and the times that records prove."""
    found, truth = plain(asked.ask(1, sources=asked.sources(traces=True))["items"]), inventory(asked).rows()
    assert [(one["kind"], one["service"], one["name"]) for one in found] == [
        (one["kind"], one["service"], one["name"]) for one in truth
    ]
    for mine, theirs in zip(found, truth, strict=True):
        assert mine == theirs


def test_question_2_which_are_not_guarded_not_registered_or_without_an_owner(asked: Asked) -> None:
    """The shadow agent and its tool; the agents of places without a registry; and no tool that is guarded."""
    found = codes(asked.ask(2, sources=asked.sources(traces=True))["differences"])
    truth = inventory(asked).differences()
    assert found == truth
    assert truth["traced_not_guarded"] == [("agent", "finance", "shadow"), ("tool", "finance", "browse")]


@pytest.mark.parametrize("day", [UPGRADE, THEFT, 13])
def test_question_3_what_is_new_since_a_date_and_what_is_gone(asked: Asked, day: int) -> None:
    """New is what was first seen from then on, and gone what was seen before and not any more."""
    since = world.START + day * DAY
    words = ["--since", expected.when(since).isoformat()]
    found = codes(asked.ask(3, *words, sources=asked.sources(traces=True))["differences"])
    truth = inventory(asked).differences(since)
    assert found == truth
    assert truth["new"] or truth["gone"]


def test_question_4_which_agents_are_idle(asked: Asked) -> None:
    """The archivist was registered and never worked; of all others the last time is known."""
    found, truth = asked.ask(4), expected.Inventory(asked.truth, ALL, REGISTERED)
    assert codes(found["differences"])["registered_idle"] == [("agent", None, "archivist")]
    assert {(one["service"], one["name"]): one["last_ns"] for one in found["items"] if one["kind"] == "agent"} == {
        (one["service"], one["name"]): one["last_ns"] for one in truth.rows() if one["kind"] == "agent"
    }
