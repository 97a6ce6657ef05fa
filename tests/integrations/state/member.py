"""A process of the drill: it calls a guarded tool again and again, and notes what became of each call."""

import sys
import time
from datetime import timedelta
from pathlib import Path

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.state import PostgresState, RedisState

directory, url, prefix, notes, stop = sys.argv[1:]
state = (RedisState if url.startswith("redis") else PostgresState)(url, prefix=prefix)
began: list[int] = []

with Enforcer.open(directory, state=state) as enforcer, Path(notes).open("w", encoding="ascii") as out:

    @enforcer.tool
    def work() -> None:
        """Note when the body begins; all processes of the machine have one such clock."""
        began.append(time.monotonic_ns())

    clerk = Agent("clerk", owner="finance@example.com")
    limits = {"principal": Human("alice"), "agent": clerk, "scope": Scope("work"), "ttl": timedelta(hours=1)}
    with enforcer.task("drill", **limits):
        while not Path(stop).exists():
            asked = time.monotonic_ns()
            try:
                work()
                out.write(f"{asked} ran {began[-1]}\n")
            except Denied as error:
                out.write(f"{asked} {error.code} {time.monotonic_ns()}\n")
            out.flush()
            time.sleep(0.1)
state.close()
