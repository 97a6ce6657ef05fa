"""Erasures as the evidence tells them: which tasks they cover, and which records are of something else."""

import pytest

from agent_identity.audit.erasures import Erasures, erasure_words

RECORDS = [
    {"erasure": {"key": "task-1"}, "time": {"start": "1"}},
    {"erasure": {"principal": "alice", "keys": "2"}, "time": {"start": "100"}},
    {"erasure": {"principal": "alice", "keys": "1"}, "time": {"start": "50"}},
    {"erasure": {"pruned": {}}, "time": {"start": "900"}},
]


@pytest.mark.parametrize(
    ("task", "principal", "started_ns", "covered"),
    [
        ("task-1", "bob", 500, True),
        ("task-2", "alice", 100, True),
        ("task-2", "alice", 101, False),
        ("task-2", "bob", 1, False),
        (None, None, 1, False),
    ],
)
def test_a_task_is_covered_by_its_id_or_its_principal(
    task: str | None, principal: str | None, started_ns: int, covered: bool
) -> None:
    """A principal is covered up to the latest of its erasures, whatever their order."""
    assert Erasures(RECORDS).cover(task, principal, started_ns) is covered


def test_words_are_about_keys_only() -> None:
    """What was erased is told with who had it erased, on one line; erasures of other things have other words."""
    assert erasure_words({"principal": "a\nb", "by": "c"}) == (
        "the digests of the tasks of 'a\\nb' so far cannot be proved any more: their keys were erased, by 'c'"
    )
    assert erasure_words({"pruned": ""}) is None
    assert erasure_words({"key": "task\n1"}) == (
        "the digests of the task 'task\\n1' cannot be proved any more: their keys were erased"
    )
    assert erasure_words({"key": "ü", "principal": "a", "by": "ö"}) == (
        "the digests of the task '\\xfc' cannot be proved any more: their keys were erased, by '\\xf6'"
    )


def test_a_principal_is_covered_from_the_beginning_of_time() -> None:
    """The first moment there is belongs to what was erased, and to nobody else."""
    erasures = Erasures([{"erasure": {"principal": "alice", "keys": "1"}, "time": {"start": "0"}}])
    assert erasures.cover("t", "alice", 0)
    assert not erasures.cover("t", "bob", 0)
    assert not erasures.cover("t", "alice", 1)
