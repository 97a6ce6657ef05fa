"""What every store must do, whatever it is made of. The same tests run over each kind."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_identity._authority.stores.protocol import MAX_DATA, MAX_NUMBER
from agent_identity.errors import StateError
from agent_identity.state import Debit, StateStore

RACER = Path(__file__).with_name("racer.py")
NOW, END = 1_000, 2_000


def _use(limit: int, amount: int = 1, *, key: str = "limit:a", window: int | None = None, end: int = END) -> Debit:
    return Debit(key, amount, limit, window, end)


def test_a_key_is_new_exactly_once(store: StateStore) -> None:
    """The second time, and at any time before it expires, it is there; another key is not."""
    assert not store.contains("proof:a", now=NOW)
    assert store.insert("proof:a", now=NOW, expires_at=END) is True
    assert store.insert("proof:a", now=NOW, expires_at=END) is False
    assert store.insert("proof:a", now=END - 1, expires_at=END + 5) is False
    assert store.contains("proof:a", now=END - 1)
    assert not store.contains("proof:b", now=NOW)


def test_a_key_is_new_again_once_it_has_expired(store: StateStore) -> None:
    """From the second of its expiry on it is not there, and can be kept anew."""
    assert store.insert("proof:a", now=NOW, expires_at=END)
    assert not store.contains("proof:a", now=END)
    assert store.insert("proof:a", now=END, expires_at=END + 10) is True
    assert store.insert("proof:a", now=END, expires_at=END + 10) is False
    assert store.contains("proof:a", now=END + 9)


def test_a_key_whose_time_is_over_is_never_new(store: StateStore) -> None:
    """It could not be remembered, so nobody may act on it."""
    for _ in range(2):
        assert store.insert("proof:a", now=NOW, expires_at=NOW) is False
    assert store.insert("proof:a", now=NOW + 1, expires_at=NOW) is False
    assert not store.contains("proof:a", now=0)


def test_a_clock_that_goes_back_lets_nothing_through_twice(store: StateStore) -> None:
    """What may have been forgotten by the latest time is refused by any earlier one."""
    assert store.insert("proof:a", now=NOW, expires_at=NOW + 30)
    assert store.debit([_use(1, end=NOW + 30)], now=NOW) is None
    for at in range(9):
        assert store.insert(f"proof:{at}", now=END, expires_at=END + 30)
        assert store.debit([_use(1, key=f"limit:{at}", end=END + 30)], now=END) is None
    assert not store.insert("proof:a", now=NOW, expires_at=NOW + 30)
    assert store.debit([_use(1, end=NOW + 30)], now=NOW) == 0


def test_uses_are_taken_up_to_the_limit(store: StateStore) -> None:
    """Exactly as many as the limit says, and none after it has been refused once."""
    assert [store.debit([_use(3)], now=NOW) for _ in range(5)] == [None, None, None, 0, 0]


def test_amounts_are_taken_up_to_the_limit(store: StateStore) -> None:
    """What does not fit takes nothing, so a smaller amount may still fit; nothing is always taken."""
    assert store.debit([_use(10, 7)], now=NOW) is None
    assert store.debit([_use(10, 4)], now=NOW) == 0
    assert store.debit([_use(10, 3)], now=NOW) is None
    assert store.debit([_use(10, 0)], now=NOW) is None
    assert store.debit([_use(10, 1)], now=NOW) == 0


def test_the_largest_numbers_count_exactly(store: StateStore) -> None:
    """At 2^53 one more is still noticed, and the sum of two of them is not taken for less."""
    assert store.debit([_use(MAX_NUMBER, MAX_NUMBER - 1)], now=NOW) is None
    assert store.debit([_use(MAX_NUMBER, MAX_NUMBER)], now=NOW) == 0
    assert store.debit([_use(MAX_NUMBER, 2)], now=NOW) == 0
    assert store.debit([_use(MAX_NUMBER, 1)], now=NOW) is None
    assert store.debit([_use(MAX_NUMBER, 1)], now=NOW) == 0
    store.credit([_use(MAX_NUMBER, MAX_NUMBER)], now=NOW)
    assert store.debit([_use(MAX_NUMBER, MAX_NUMBER)], now=NOW) is None
    far = Debit("limit:far", 1, 1, None, MAX_NUMBER)
    assert [store.debit([far], now=NOW) for _ in range(2)] == [None, 0]
    assert store.insert("far", now=NOW, expires_at=MAX_NUMBER)
    assert store.contains("far", now=MAX_NUMBER - 1)


def test_debits_are_taken_together_or_not_at_all(store: StateStore) -> None:
    """The first that does not fit is named, and the others take nothing, also those before it."""
    both = [_use(5, key="limit:a"), _use(1, key="limit:b"), _use(0, key="limit:c")]
    assert store.debit(both, now=NOW) == 2
    assert store.debit(both[:2], now=NOW) is None
    assert store.debit(both, now=NOW) == 1
    assert [store.debit(both[:1], now=NOW) for _ in range(5)] == [None, None, None, None, 0]
    assert store.debit([], now=NOW) is None


def test_counters_with_other_windows_are_other_counters(store: StateStore) -> None:
    """A key may stand for a sum over a life and for one over a window, in one debit."""
    both = [_use(2), _use(1, window=60)]
    assert store.debit(both, now=NOW) is None
    assert store.debit(both, now=NOW) == 1
    assert store.debit(both, now=NOW + 61) is None
    assert store.debit(both, now=NOW + 122) == 0


def test_a_counter_begins_anew_when_it_has_expired(store: StateStore) -> None:
    """Its life is the longest that a debit gave it, and a debit after its own end does not fit."""
    assert store.debit([_use(1, end=END)], now=NOW) is None
    assert store.debit([_use(1, end=END + 10)], now=END - 1) == 0
    assert store.debit([_use(1, end=END + 10)], now=END) is None
    assert store.debit([_use(2, end=END + 5)], now=END) is None
    assert store.debit([_use(2, end=END + 99)], now=END + 9) == 0
    assert store.debit([_use(9, end=END)], now=END) == 0
    assert store.debit([_use(9, key="limit:b", end=END), _use(9, end=END)], now=END + 1) == 0


@pytest.mark.parametrize("window", [1, 5, 60, 61, 90, 3_600])
def test_a_window_lets_through_what_it_may_and_forgets_it_in_time(store: StateStore, window: int) -> None:
    """The limit holds until the window has passed, and the wait is a sixtieth of it and a second longer at most."""
    use = _use(2, window=window, end=MAX_NUMBER)
    assert [store.debit([use], now=NOW) for _ in range(3)] == [None, None, 0]
    assert store.debit([use], now=NOW + window) == 0
    assert store.debit([use], now=NOW + window + -(-window // 60) + 1) is None


def test_a_clock_that_goes_back_gives_nothing_back(store: StateStore) -> None:
    """What comes with an earlier time counts as late as anything before it."""
    use = _use(2, window=60)
    assert store.debit([use], now=NOW + 50) is None
    assert store.debit([use], now=NOW) is None
    assert store.debit([use], now=NOW + 100) == 0
    assert store.debit([use], now=NOW + 111) is None


def test_what_is_given_back_can_be_taken_again(store: StateStore) -> None:
    """Of each counter that was debited, and no more than was there."""
    both = [_use(3, 2), _use(5, 1, key="limit:b", window=60)]
    assert store.debit(both, now=NOW) is None
    assert store.debit(both, now=NOW) == 0
    store.credit(both, now=NOW)
    assert store.debit(both, now=NOW) is None
    for _ in range(3):
        store.credit(both, now=NOW)
    assert [store.debit([_use(3)], now=NOW) for _ in range(4)] == [None, None, None, 0]
    store.credit([_use(3, key="limit:unknown"), _use(3, key="limit:other", window=60)], now=NOW)
    assert [store.debit([_use(1, key="limit:unknown")], now=NOW) for _ in range(2)] == [None, 0]


def test_giving_back_never_frees_what_others_took_in_the_window(store: StateStore) -> None:
    """The oldest amount that it can have been is given back, and none once that has left the window."""
    use = _use(2, window=60)
    assert store.debit([use], now=NOW) is None
    assert store.debit([use], now=NOW + 50) is None
    store.credit([use], now=NOW)
    assert store.debit([use], now=NOW + 61) is None
    assert store.debit([use], now=NOW + 62) == 0
    store.credit([use], now=NOW)
    assert store.debit([use], now=NOW + 62) == 0
    store.credit([use], now=NOW + 61)
    assert store.debit([use], now=NOW + 62) is None
    assert store.debit([use], now=NOW + 62) == 0


def test_a_share_that_was_kept_is_taken_once(store: StateStore) -> None:
    """Nothing is kept at first; what is kept stays debited, and of two who resume the second debits in full."""
    assert store.resume("share:a", [_use(9, 5)], now=NOW) == (0,)
    store.keep("share:a", [_use(9, 5)], now=NOW)
    assert store.debit([_use(9, 5)], now=NOW) == 0
    assert store.resume("share:b", [_use(9, 5)], now=NOW) == 0
    assert store.resume("share:a", [_use(9, 5)], now=NOW) == (5,)
    assert store.resume("share:a", [_use(9, 5)], now=NOW) == 0
    assert store.resume("share:a", [_use(9, 4)], now=NOW) == (0,)
    assert store.debit([_use(9)], now=NOW) == 0


def test_only_what_is_asked_beyond_a_share_is_debited(store: StateStore) -> None:
    """Less than the share gives nothing back, and what does not fit leaves the share where it is."""
    assert store.debit([_use(9, 5)], now=NOW) is None
    store.keep("share:a", [_use(9, 5)], now=NOW)
    assert store.resume("share:a", [_use(9, 10)], now=NOW) == 0
    assert store.resume("share:a", [_use(9, 3)], now=NOW) == (5,)
    assert store.debit([_use(9, 5)], now=NOW) == 0
    store.keep("share:a", [_use(9, 5)], now=NOW)
    assert store.resume("share:a", [_use(9, 9)], now=NOW) == (5,)
    assert store.debit([_use(9)], now=NOW) == 0


def test_a_share_of_several_counters_is_taken_together_or_not_at_all(store: StateStore) -> None:
    """If one of the counters refuses, nothing of the others is taken or debited."""
    both = [_use(9, 4, key="limit:a"), _use(9, 2, key="limit:b")]
    assert store.debit(both, now=NOW) is None
    store.keep("share:a", both, now=NOW)
    more = [_use(9, 6, key="limit:a"), _use(9, 10, key="limit:b"), _use(1, key="limit:c")]
    assert store.resume("share:a", more, now=NOW) == 1
    more[1] = _use(9, 1, key="limit:b")
    assert store.resume("share:a", more, now=NOW) == (4, 2, 0)
    assert [store.debit([_use(9, amount, key="limit:a")], now=NOW) for amount in (4, 3)] == [0, None]
    assert [store.debit([_use(9, amount, key="limit:b")], now=NOW) for amount in (8, 7)] == [0, None]
    assert store.resume("share:a", [], now=NOW) == ()


def test_a_window_is_debited_anew_by_who_resumes(store: StateStore) -> None:
    """A rate is about the moment: no share of an earlier one is saved up, beside a sum that is kept."""
    both = [_use(9, 9), _use(1, key="limit:rate", window=60)]
    assert store.debit(both, now=NOW) is None
    store.keep("share:a", both, now=NOW)
    assert store.resume("share:a", both, now=NOW + 30) == 1
    assert store.resume("share:a", both, now=NOW + 62) == (9, 0)
    assert store.debit(both[1:], now=NOW + 62) == 0


def test_of_nothing_nothing_is_kept(store: StateStore) -> None:
    """An amount of zero, a window and no debits at all leave no share, and do no harm to one that is there."""
    for nothing in ([], [_use(9, 0)], [_use(9, 9, window=60)]):
        store.keep("share:a", nothing, now=NOW)
    assert store.resume("share:a", [_use(9, 0)], now=NOW) == (0,)
    store.keep("share:a", [_use(9, 4)], now=NOW)
    store.keep("share:a", [_use(9, 0)], now=NOW)
    assert store.resume("share:a", [_use(9, 0)], now=NOW) == (4,)


def test_of_two_shares_under_one_name_the_larger_counts(store: StateStore) -> None:
    """For each counter by itself; the smaller amount lapses, and stays debited."""
    store.keep("share:a", [_use(9, 2, key="limit:a"), _use(9, 3, key="limit:b")], now=NOW)
    store.keep("share:a", [_use(9, 4, key="limit:a"), _use(9, 1, key="limit:b")], now=NOW)
    assert store.resume("share:a", [_use(9, key="limit:a"), _use(9, key="limit:b")], now=NOW) == (4, 3)


def test_a_share_lives_as_long_as_its_counter(store: StateStore) -> None:
    """It expires with the debit that was kept, and one that comes after that end is not kept."""
    store.keep("share:a", [_use(9, 5, end=END)], now=NOW)
    assert store.resume("share:a", [_use(9, 5, end=END + 50)], now=END) == (0,)
    store.keep("share:a", [_use(9, 2, end=END + 50)], now=END)
    assert store.resume("share:a", [_use(9, 2, end=END + 50)], now=END + 1) == (2,)
    store.keep("share:late", [_use(9, 2, end=END)], now=END)
    assert store.resume("share:late", [_use(9, 2, end=END + 50)], now=END + 1) == (0,)
    assert store.resume("share:a", [_use(9, 1, end=END)], now=END) == 0


def test_the_largest_share_counts_exactly(store: StateStore) -> None:
    """At 2^53 one more than the share is still noticed."""
    most = [_use(MAX_NUMBER, MAX_NUMBER - 1)]
    assert store.resume("share:a", most, now=NOW) == (0,)
    store.keep("share:a", most, now=NOW)
    assert store.resume("share:a", [_use(MAX_NUMBER, MAX_NUMBER)], now=NOW) == (MAX_NUMBER - 1,)
    assert store.debit([_use(MAX_NUMBER, 1)], now=NOW) == 0


def test_a_share_is_no_counter_and_no_key(store: StateStore) -> None:
    """Names of shares, counters and keys have nothing to do with each other."""
    store.keep("a", [_use(5, 5, key="a")], now=NOW)
    assert store.debit([_use(5, 5, key="a")], now=NOW) is None
    assert not store.contains("a", now=NOW)
    assert store.get("a") is None
    assert store.resume("a", [_use(5, 5, key="a")], now=NOW) == (5,)


def test_only_a_newer_version_is_kept(store: StateStore) -> None:
    """An older one, and the same one with other data, change nothing: a list never goes back."""
    assert store.get("list") is None
    assert store.put("list", 2, b"two") is True
    assert store.put("list", 2, b"other") is False
    assert store.put("list", 1, b"one") is False
    assert store.get("list") == (2, b"two")
    assert store.put("list", MAX_NUMBER, b"\0\xff" * 10) is True
    assert store.get("list") == (MAX_NUMBER, b"\0\xff" * 10)
    assert store.put("list", MAX_NUMBER - 1, b"") is False
    assert store.put("empty", 0, b"") is True
    assert store.get("empty") == (0, b"")
    assert store.get("other") is None


def test_large_data_is_kept_whole(store: StateStore) -> None:
    """A list of a megabyte comes back as it was."""
    data = bytes(range(256)) * 4_096
    assert store.put("list", 1, data)
    assert store.get("list") == (1, data)


def test_the_generation_tells_that_something_was_stored(shared: object) -> None:
    """It changes with every new key and version, by whichever store, and stays while nothing is stored."""
    mine, theirs = shared.open(), shared.open()
    seen = [mine.generation()]
    for step in (
        lambda: mine.insert("ended:a", now=NOW, expires_at=END),
        lambda: theirs.insert("ended:b", now=NOW, expires_at=END),
        lambda: mine.put("list", 1, b"x"),
        lambda: theirs.put("list", 2, b"y"),
        lambda: theirs.put("other", 1, b"y"),
    ):
        assert step()
        seen.append(mine.generation())
        assert mine.generation() == seen[-1]
    assert len(set(seen)) == len(seen)
    assert not mine.insert("ended:a", now=NOW, expires_at=END)
    assert not theirs.put("list", 1, b"z")
    assert mine.get("list") == (2, b"y")
    assert mine.generation() == seen[-1]


def test_stores_on_the_same_state_know_the_same(shared: object) -> None:
    """What one has stored, debited and given back holds for the others at once."""
    mine, theirs = shared.open(), shared.open()
    assert mine.insert("proof:a", now=NOW, expires_at=END)
    assert theirs.contains("proof:a", now=NOW)
    assert not theirs.insert("proof:a", now=NOW, expires_at=END)
    assert mine.debit([_use(1)], now=NOW) is None
    assert theirs.debit([_use(1)], now=NOW) == 0
    theirs.credit([_use(1)], now=NOW)
    assert mine.debit([_use(1)], now=NOW) is None
    assert theirs.put("list", 1, b"x")
    assert mine.get("list") == (1, b"x")


def test_state_outlives_its_stores(shared: object) -> None:
    """Whoever opens it again finds what was there."""
    first = shared.open()
    assert first.insert("proof:a", now=NOW, expires_at=END)
    assert first.debit([_use(1)], now=NOW) is None
    assert first.put("list", 5, b"x")
    first.keep("share:a", [_use(1)], now=NOW)
    first.close()
    first.close()
    again = shared.open()
    assert again.resume("share:a", [_use(1)], now=NOW) == (1,)
    assert not again.insert("proof:a", now=NOW, expires_at=END)
    assert again.debit([_use(1)], now=NOW) == 0
    assert not again.put("list", 5, b"y")


def test_any_visible_text_is_a_key(store: StateStore) -> None:
    """Quotes, wildcards and other alphabets mean nothing to a store, and keys that look alike are different."""
    keys = ["a'b", 'a"b', "a%b", "a_b", "a\\b", "é", "e\u0301", "A", "a", "{a}", "a*", ":", "日" * 500]
    assert all(store.insert(key, now=NOW, expires_at=END) for key in keys)
    assert not any(store.insert(key, now=NOW, expires_at=END) for key in keys)
    assert all(store.debit([_use(1, key=key)], now=NOW) is None for key in keys)
    assert all(store.put(key, 1, key.encode()) for key in keys)
    assert all(store.get(key) == (1, key.encode()) for key in keys)


WRONG: list[tuple[type[Exception], Callable[[StateStore], object]]] = [
    (TypeError, lambda store: store.insert(b"a", now=NOW, expires_at=END)),
    (ValueError, lambda store: store.insert("", now=NOW, expires_at=END)),
    (ValueError, lambda store: store.insert("a" * 513, now=NOW, expires_at=END)),
    (ValueError, lambda store: store.insert("a\0b", now=NOW, expires_at=END)),
    (ValueError, lambda store: store.insert("\ud800", now=NOW, expires_at=END)),
    (TypeError, lambda store: store.insert("a", now=1.5, expires_at=END)),
    (TypeError, lambda store: store.insert("a", now=NOW, expires_at=True)),
    (ValueError, lambda store: store.insert("a", now=-1, expires_at=END)),
    (ValueError, lambda store: store.insert("a", now=NOW, expires_at=MAX_NUMBER + 1)),
    (ValueError, lambda store: store.contains("", now=NOW)),
    (TypeError, lambda store: store.contains("a", now=None)),
    (ValueError, lambda store: store.debit([_use(1, -1)], now=NOW)),
    (ValueError, lambda store: store.debit([_use(-1)], now=NOW)),
    (ValueError, lambda store: store.debit([_use(1, window=0)], now=NOW)),
    (ValueError, lambda store: store.debit([_use(1), _use(2)], now=NOW)),
    (ValueError, lambda store: store.debit([_use(1, key=f"k{at}") for at in range(65)], now=NOW)),
    (ValueError, lambda store: store.debit([_use(1, key="a b\n")], now=NOW)),
    (TypeError, lambda store: store.debit([_use(1.0)], now=NOW)),
    (TypeError, lambda store: store.debit([_use(1, end=1.0)], now=NOW)),
    (ValueError, lambda store: store.debit([], now=-1)),
    (ValueError, lambda store: store.credit([_use(1, -1)], now=NOW)),
    (ValueError, lambda store: store.keep("", [_use(1)], now=NOW)),
    (TypeError, lambda store: store.keep("a", [_use(1.0)], now=NOW)),
    (ValueError, lambda store: store.keep("a", [_use(1), _use(2)], now=NOW)),
    (TypeError, lambda store: store.resume(b"a", [_use(1)], now=NOW)),
    (ValueError, lambda store: store.resume("a\nb", [_use(1)], now=NOW)),
    (ValueError, lambda store: store.resume("a", [_use(1, -1)], now=NOW)),
    (ValueError, lambda store: store.resume("a", [_use(1)], now=-1)),
    (ValueError, lambda store: store.put("", 1, b"")),
    (ValueError, lambda store: store.put("a", -1, b"")),
    (TypeError, lambda store: store.put("a", "1", b"")),
    (TypeError, lambda store: store.put("a", 1, "text")),
    (ValueError, lambda store: store.put("a", 1, bytes(MAX_DATA + 1))),
    (ValueError, lambda store: store.get("")),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_use_is_refused_before_anything_happens(store: StateStore, number: int) -> None:
    """Every argument is checked by its exact type and range, in every store alike."""
    error, call = WRONG[number]
    with pytest.raises(error, match=r"give |is not |twice|more than|shorter"):
        call(store)
    assert store.get("a") is None
    assert not store.contains("a", now=NOW)
    assert [store.debit([_use(1)], now=NOW) for _ in range(2)] == [None, 0]


def test_a_closed_store_answers_nothing(shared: object) -> None:
    """After close there is no guess, only an error; memory has nothing to close."""
    store = shared.open()
    store.insert("proof:a", now=NOW, expires_at=END)
    store.close()
    if shared.kind == "memory":
        assert not store.insert("proof:a", now=NOW, expires_at=END)
        return
    for call in (
        lambda: store.insert("proof:b", now=NOW, expires_at=END),
        lambda: store.contains("proof:a", now=NOW),
        lambda: store.debit([_use(1)], now=NOW),
        lambda: store.credit([_use(1)], now=NOW),
        lambda: store.keep("share:a", [_use(1)], now=NOW),
        lambda: store.resume("share:a", [_use(1)], now=NOW),
        lambda: store.put("list", 1, b""),
        lambda: store.get("list"),
        store.generation,
    ):
        with pytest.raises(StateError, match="closed") as caught:
            call()
        assert caught.value.code == "state_unavailable"


JOBS = {"insert": (60, 60), "use": (30, 37), "budget": (60, 71), "rate": (30, 25), "resume": (20, 20)}


@pytest.mark.parametrize("job", JOBS)
def test_of_many_threads_exactly_the_permitted_number_wins(shared: object, job: str) -> None:
    """Threads that share one store race for the same keys, uses, budget, rate and shares."""
    rounds, permitted = JOBS[job]
    store, barrier = shared.open(), threading.Barrier(8)
    _prepare(store, job)
    won: list[int] = []
    wins = _wins()

    def race() -> None:
        barrier.wait()
        won.append(wins(store, job, rounds))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 8
    assert sum(won) == permitted


def _prepare(store: StateStore, job: str) -> None:
    """Keep the shares for which those who race are going to ask."""
    if job == "resume":
        for at in range(JOBS[job][0]):
            share = [_use(7, 7, key=f"limit:{at}")]
            assert store.debit(share, now=NOW) is None
            store.keep(f"share:{at}", share, now=NOW)


def _wins() -> Callable[[StateStore, str, int], int]:
    space: dict = {"__name__": "racer"}
    exec(compile(RACER.read_text(encoding="utf-8"), str(RACER), "exec"), space)  # noqa: S102  Tests are no package.
    return space["wins"]


@pytest.mark.sample(4)
@pytest.mark.parametrize("job", [*JOBS, "put"])
@pytest.mark.parametrize("kind", ["sqlite", "directory", "redis", "postgres"])
def test_of_many_processes_exactly_the_permitted_number_wins(
    share: Callable[[str], object], kind: str, job: str
) -> None:
    """Processes that share nothing but the state race for the same keys, uses, budget, rate, shares and versions."""
    shared = share(kind)
    rounds, permitted = JOBS.get(job, (20, 20))
    _prepare(shared.open(), job)
    spec = json.dumps({"kind": shared.kind, "address": shared.address, "job": job, "rounds": rounds})
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    racers = [subprocess.Popen([sys.executable, str(RACER), spec], **pipes) for _ in range(4)]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 4
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        won = [int(racer.communicate(timeout=120)[0]) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    if job == "put":
        assert 1 <= sum(won) <= permitted  # Each version once at most; a later one may have come before it.
        assert shared.open().get("list") == (permitted, b"data")
    else:
        assert sum(won) == permitted
