"""Changed definitions of tools: from the first record that shows one until somebody settles it, with the calls."""

from itertools import permutations

import pytest

from agent_identity._record.parts import Offered, Server
from agent_identity._reports.definitions import definition_history
from agent_identity._reports.definitions.definition_history import DefinitionHistory

OLD, NEW, OTHER = (letter * 43 for letter in "AEI")
PINNED = Offered(name="web/search", status="pinned", pinned=OLD)
CHANGED = Offered(name="web/search", status="changed", pinned=OLD, offered=NEW)
ACCEPTED = Offered(name="web/search", status="pinned", pinned=NEW)


def server(reason: str | None = None) -> Server:
    """Return a server as the inventory has it."""
    return Server(name="web", transport="http", status="pinned", reason=reason)


def history(*states: tuple[int, Offered], reason: str | None = None) -> DefinitionHistory:
    """Return what took some states, each at its time."""
    found = DefinitionHistory()
    for at, state in states:
        accepted = reason if state.pinned != OLD and state.status == "pinned" else None
        found.take_state(at, f"r{at}", server(accepted), [state])
    return found


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_a_change_lasts_until_somebody_accepts_it(order: tuple[int, ...]) -> None:
    """Whichever stream is read first; a repeated statement is no change of its own."""
    states = [(1, PINNED), (5, CHANGED), (7, CHANGED), (9, ACCEPTED)]
    found = history(*(states[number] for number in order), reason="reviewed by it@example.com")
    for at in (4, 5, 8, 9):
        found.take_call(at, f"c{at}", "web/search", ran=at != 8, refused=at == 8)
    found.take_call(6, "c6", "files/search", ran=True, refused=False)
    found.take_call(6, "c6", "search", ran=True, refused=False)
    (change,) = found.changes()
    assert (change.tool, change.before, change.after) == ("web/search", OLD, NEW)
    assert (change.at_ns, change.record, change.status) == (5, "r5", "accepted")
    assert (change.settled_ns, change.settled_by, change.reason) == (9, "r9", "reviewed by it@example.com")
    assert (change.calls, change.refused, change.records) == (1, 1, ("c5", "c8"))


def test_the_first_calls_under_a_change_are_kept() -> None:
    """Ten of them, by their times and not by their ids."""
    found = history((1, PINNED), (5, CHANGED))
    for at in reversed(range(10, 22)):
        found.take_call(at, f"c{99 - at}", "web/search", ran=True, refused=False)
    (change,) = found.changes()
    assert change.records == tuple(f"c{99 - at}" for at in range(10, 20))


def test_a_change_can_be_withdrawn_or_wait() -> None:
    """The server offers the accepted definition again, or nobody has decided at the end."""
    back = history((5, CHANGED), (9, PINNED)).changes()
    assert [(one.status, one.settled_ns, one.reason) for one in back] == [("withdrawn", 9, None)]
    open_ = history((1, PINNED), (5, CHANGED)).changes()
    assert [(one.status, one.settled_ns) for one in open_] == [("waiting", None)]


def test_one_change_after_another_is_two() -> None:
    """A second definition replaces one that waits; a new tool has no definition before."""
    second = Offered(name="web/search", status="changed", pinned=OLD, offered=OTHER)
    found = history((1, CHANGED), (2, second), (3, Offered(name="web/search", status="pinned", pinned=OTHER))).changes()
    assert [(one.after, one.status) for one in found] == [(NEW, "withdrawn"), (OTHER, "accepted")]
    (new,) = history((1, Offered(name="web/search", status="new", offered=NEW))).changes()
    assert (new.before, new.after, new.status) == (None, NEW, "waiting")


@pytest.mark.parametrize("later_first", [False, True])
def test_states_of_one_moment_follow_each_other_by_the_bytes_of_their_ids(*, later_first: bool) -> None:
    """In the text of an id a digit comes before a letter, in its bytes after it."""
    found = DefinitionHistory()
    states = [("A" * 22, CHANGED), ("0" * 21 + "A", ACCEPTED)]
    for record, state in reversed(states) if later_first else states:
        found.take_state(5, record, server(), [state])
    found.take_call(5, "0", "web/search", ran=True, refused=False)
    (change,) = found.changes()
    assert (change.status, change.record, change.settled_by) == ("accepted", states[0][0], states[1][0])


def test_a_definition_is_in_force_while_the_server_offers_it() -> None:
    """From the record that first shows it until the next one."""
    found = history((3, PINNED), (5, CHANGED), (9, ACCEPTED))
    times = range(2, 11)
    assert [at for at in times if found.in_force(OLD, "web/search", at)] == [3, 4]
    assert [at for at in times if found.in_force(NEW, "web/search", at)] == [5, 6, 7, 8, 9, 10]
    assert not found.in_force(OLD, "search", 4)
    assert not found.in_force(OLD, "web/other", 4)


def test_states_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is counted."""
    monkeypatch.setattr(definition_history, "_MAX_STATES", 1)
    found = history((1, PINNED), (5, CHANGED))
    assert (found.changes(), found.omitted) == ([], 1)
