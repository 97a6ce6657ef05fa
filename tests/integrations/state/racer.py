"""One process of a race: opens a store, waits for the start, and prints how often it won.

Run as ``python racer.py SPEC``; the specification is JSON.
"""

import json
import sys

from agent_identity.state import Debit, StateStore


def opened(kind: str, address: str) -> StateStore:
    """Return a store of its own on shared state."""
    if kind == "sqlite":
        from agent_identity.state import SqliteState

        return SqliteState(address, timeout=60)
    if kind == "directory":
        from agent_identity._authority.stores.directory import DirectoryState

        return DirectoryState(address)
    url, _, prefix = address.rpartition("#")
    if kind == "redis":
        from agent_identity.state import RedisState

        return RedisState(url, prefix=prefix, timeout=60)
    from agent_identity.state import PostgresState

    return PostgresState(url, prefix=prefix, timeout=60)


def wins(store: StateStore, job: str, rounds: int) -> int:
    """Return how many of the attempts succeed."""
    now, end = 1_000, 2_000
    if job == "insert":
        return sum(store.insert(f"proof:{at}", now=now, expires_at=end) for at in range(rounds))
    if job == "use":
        use = [Debit("limit:use", 1, 37, None, end)]
        return sum(store.debit(use, now=now) is None for _ in range(rounds))
    if job == "budget":
        pay = [Debit("limit:all", 1, 10_000, None, end), Debit("limit:pay", 7, 500, None, end)]
        return sum(store.debit(pay, now=now) is None for _ in range(rounds))
    if job == "rate":
        rate = [Debit("limit:rate", 1, 25, 60, end)]
        return sum(store.debit(rate, now=now + at) is None for at in range(rounds))
    if job == "resume":  # The suite has kept a share for each.
        asked = (store.resume(f"share:{at}", [Debit(f"limit:{at}", 7, 7, None, end)], now=now) for at in range(rounds))
        return sum(isinstance(answer, tuple) for answer in asked)
    return sum(store.put("list", at + 1, b"data") for at in range(rounds))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(spec: dict) -> None:
    """Take part in a race."""
    store = opened(spec["kind"], spec["address"])
    store.contains("warm", now=0)
    _say("ready")
    sys.stdin.readline()
    _say(str(wins(store, spec["job"], spec["rounds"])))
    store.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
