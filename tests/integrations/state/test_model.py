"""Every store against a reference that is as simple as it can be, step by step in any order."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent_identity.state import Debit, StateStore

KINDS = ("memory", "sqlite", "directory", "redis", "postgres")
TIMES = st.integers(1_000, 1_060)  # Within the minute by which clocks may differ.
WINDOWS = st.sampled_from([None, 1, 7, 20, 60, 100])
DEBITS = st.builds(
    Debit,
    key=st.sampled_from(["limit:a", "limit:b", "limit:c"]),
    amount=st.integers(0, 4),
    limit=st.integers(0, 9),
    window=WINDOWS,
    expires_at=st.integers(1_000, 1_090),
)
SEVERAL = st.lists(DEBITS, max_size=3, unique_by=lambda debit: (debit.key, debit.window))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.sampled_from("abc"), TIMES, st.integers(1_000, 1_090)),
        st.tuples(st.just("contains"), st.sampled_from("abc"), TIMES),
        st.tuples(st.just("debit"), SEVERAL, TIMES),
        st.tuples(st.just("credit"), SEVERAL, TIMES),
        st.tuples(st.just("keep"), st.sampled_from("st"), SEVERAL, TIMES),
        st.tuples(st.just("resume"), st.sampled_from("st"), SEVERAL, TIMES),
        st.tuples(st.just("put"), st.sampled_from("xy"), st.integers(0, 4), st.binary(max_size=3)),
        st.tuples(st.just("get"), st.sampled_from("xy")),
    ),
    max_size=40,
)


class Reference:
    """The state as lists of what happened, without a thought of speed or size."""

    def __init__(self) -> None:
        self.keys: dict[str, int] = {}
        self.lives: dict[tuple[str, int | None], int] = {}
        self.log: dict[tuple[str, int | None], list[list[int]]] = {}
        self.shares: dict[tuple[str, str], tuple[int, int]] = {}
        self.versions: dict[str, tuple[int, bytes]] = {}
        self.stored = 0

    def insert(self, key: str, now: int, expires_at: int) -> bool:
        if expires_at <= now or self.keys.get(key, 0) > now:
            return False
        self.keys[key] = expires_at
        self.stored += 1
        return True

    def contains(self, key: str, now: int) -> bool:
        return self.keys.get(key, 0) > now

    def debit(self, debits: list[Debit], now: int) -> int | None:
        for index, debit in enumerate(debits):
            if debit.expires_at <= now:
                return index
        for index, debit in enumerate(debits):
            if self._used(debit, now) + debit.amount > debit.limit:
                return index
        for debit in debits:
            counter = (debit.key, debit.window)
            if self.lives.get(counter, 0) <= now:
                self.lives[counter], self.log[counter] = 0, []
            self.log[counter] = self._live(debit, now)
            self.log[counter].append([self._moment(debit, now), debit.amount])
            self.lives[counter] = max(self.lives[counter], debit.expires_at)
        return None

    def _part(self, debit: Debit) -> int:
        return -(-debit.window // 60)

    def _moment(self, debit: Debit, now: int) -> int:
        """The time by the counter: in the part of the latest amount, or later."""
        if debit.window is None:
            return 0
        latest = max((at for at, _ in self.log.get((debit.key, debit.window), [])), default=0)
        return max(now, latest // self._part(debit) * self._part(debit))

    def _live(self, debit: Debit, now: int) -> list[list[int]]:
        counter = (debit.key, debit.window)
        if self.lives.get(counter, 0) <= now:
            return []
        if debit.window is None:
            return self.log[counter]
        wide, moment = self._part(debit), self._moment(debit, now)
        return [entry for entry in self.log[counter] if entry[0] // wide * wide + wide > moment - debit.window]

    def _used(self, debit: Debit, now: int) -> int:
        return sum(amount for _, amount in self._live(debit, now))

    def credit(self, debits: list[Debit], now: int) -> None:
        for debit in debits:
            log = self.log.get((debit.key, debit.window), [])
            since = 0
            if debit.window is not None:
                wide = self._part(debit)
                since = now // wide * wide
                latest = max((at for at, _ in log), default=0) // wide * wide
                if since + wide <= latest - debit.window:
                    continue
            left = debit.amount
            for entry in sorted(log, key=lambda entry: entry[0]):
                if entry[0] >= since:
                    back = min(left, entry[1])
                    entry[1] -= back
                    left -= back

    def keep(self, share: str, debits: list[Debit], now: int) -> None:
        if any(debit.expires_at <= now for debit in debits):
            return
        for debit in debits:
            if debit.window is None and debit.amount:
                kept = self._kept(share, debit, now)
                end = self.shares[share, debit.key][1] if kept else 0
                self.shares[share, debit.key] = (max(kept, debit.amount), max(end, debit.expires_at))

    def _kept(self, share: str, debit: Debit, now: int) -> int:
        amount, expires_at = self.shares.get((share, debit.key), (0, 0))
        return amount if debit.window is None and expires_at > now else 0

    def resume(self, share: str, debits: list[Debit], now: int) -> tuple[int, ...] | int:
        kept = tuple(self._kept(share, debit, now) for debit in debits)
        beyond = [debit._replace(amount=max(0, debit.amount - had)) for debit, had in zip(debits, kept, strict=True)]
        index = self.debit(beyond, now)
        if index is not None:
            return index
        for debit, had in zip(debits, kept, strict=True):
            if had:
                del self.shares[share, debit.key]
        return kept

    def put(self, name: str, version: int, data: bytes) -> bool:
        if name in self.versions and self.versions[name][0] >= version:
            return False
        self.versions[name] = (version, data)
        self.stored += 1
        return True

    def get(self, name: str) -> tuple[int, bytes] | None:
        return self.versions.get(name)


def _moved(space: str, debits: list[Debit]) -> list[Debit]:
    return [debit._replace(key=space + debit.key) for debit in debits]


def _step(store: StateStore, space: str, step: tuple) -> object:
    """Do the step on a store, in a part of its keys that no other example uses."""
    match step:
        case ("insert", key, now, expires_at):
            return store.insert(space + key, now=now, expires_at=expires_at)
        case ("contains", key, now):
            return store.contains(space + key, now=now)
        case ("debit" | "credit" as name, debits, now):
            return getattr(store, name)(_moved(space, debits), now=now)
        case ("keep" | "resume" as name, share, debits, now):
            return getattr(store, name)(space + share, _moved(space, debits), now=now)
        case ("put", name, version, data):
            return store.put(space + name, version, data)
        case ("get", name):
            return store.get(space + name)
    raise AssertionError(step)


@pytest.mark.parametrize("kind", KINDS)
def test_every_store_does_what_the_reference_does(share: Callable[[str], object], kind: str) -> None:
    """Same steps, same answers, and the generation moves exactly when something is stored."""
    store, examples = share(kind).open(), iter(range(10**9))

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(STEPS)
    def compare(steps: list[tuple]) -> None:
        space, reference = f"example-{next(examples)}:", Reference()
        generation, stored = store.generation(), 0
        for step in steps:
            assert _step(store, space, step) == getattr(reference, step[0])(*step[1:]), step
            moved, generation = store.generation() != generation, store.generation()
            assert moved is (reference.stored != stored)
            stored = reference.stored

    compare()


@pytest.mark.parametrize("kind", KINDS)
def test_no_window_ever_holds_more_than_the_limit(share: Callable[[str], object], kind: str) -> None:
    """However amounts are spread over time, given back or not, what remains in any window is within the limit."""
    store, examples = share(kind).open(), iter(range(10**9))
    move = st.tuples(st.integers(0, 40), st.integers(0, 4), st.booleans())

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(move, max_size=40), st.sampled_from([1, 10, 60, 90, 200]), st.integers(1, 9))
    def fill(moves: list[tuple[int, int, bool]], window: int, limit: int) -> None:
        key, now, kept = f"window-{next(examples)}", 10_000, []
        for wait, amount, undo in moves:
            now += wait
            debit = Debit(key, amount, limit, window, 10**9)
            if store.debit([debit], now=now) is None:
                kept.append((now, amount))
            if undo and kept:
                at, back = kept.pop(amount % len(kept))
                store.credit([debit._replace(amount=back)], now=at)
            # The amounts of a second may have come at its end, and those of the second a window later at its begin.
            for start in {at for at, _ in kept}:
                assert sum(amount for at, amount in kept if start <= at <= start + window) <= limit

    fill()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sum_never_exceeds_its_limit(share: Callable[[str], object], kind: str) -> None:
    """Taking and giving back in any order: what is out is within the limit, and a refusal was due."""
    store, examples = share(kind).open(), iter(range(10**9))

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40), st.integers(0, 99))
    def spend(moves: list[tuple[int, bool]], limit: int) -> None:
        key, out = f"sum-{next(examples)}", []
        for amount, undo in moves:
            if undo and out:
                store.credit([Debit(key, out.pop(), limit, None, 2_000)], now=1_000)
            fits = sum(out) + amount <= limit
            assert (store.debit([Debit(key, amount, limit, None, 2_000)], now=1_000) is None) is fits
            if fits:
                out.append(amount)

    spend()
