"""A process of the rotation drill: it serves calls and jobs of the next service until it is told to stop."""

import json
import signal
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from agent_identity import Agent, Denied, Enforcer, Human, Scope
from agent_identity.delegation import Grants
from agent_identity.identity import PublicKey, SigningKey
from agent_identity.state import RedisState

folder, name, onward, url, prefix, root, notes = sys.argv[1:]
home = Path(folder)
key, peer = SigningKey.load(home / f"{name}.key"), SigningKey.load(home / f"{onward}.key").public_key
inbox, outbox = home / f"jobs-{name}", home / f"jobs-{onward}"
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
state = RedisState(url, prefix=prefix)
who = {"principal": Human("alice"), "agent": Agent("clerk", owner="finance@example.com"), "scope": Scope("work")}
pinned = PublicKey.from_jwk(json.loads(Path(root).read_text()))

with Enforcer.open(home / name, state=state, trust_root=pinned) as enforcer, Path(notes).open("w") as out:

    @enforcer.tool
    def work() -> None:
        """Do nothing, under guard."""

    def note(what: str, began: int, result: str) -> None:
        out.write(f"{what} {began} {result} {time.monotonic_ns()}\n")
        out.flush()

    def serve() -> None:
        began = time.monotonic_ns()
        try:
            with enforcer.task("serve", **who):
                work()
            message = enforcer.job("later", to=peer, ttl=timedelta(minutes=10), **who).to_text()
            (outbox / f"{began}.tmp").write_text(message)
            (outbox / f"{began}.tmp").rename(outbox / f"{began}.job")
            note("call", began, "ran")
        except Denied as error:
            note("call", began, error.code)

    def take() -> None:
        for job in sorted(inbox.glob("*.job")):
            try:
                job.rename(mine := job.with_suffix(".mine"))
            except FileNotFoundError:  # The other process of this service has it.
                continue
            began = time.monotonic_ns()
            try:
                with enforcer.accept(Grants.from_text(mine.read_text()), holder=key, once=True):
                    work()
                note("job", began, "ran")
            except Denied as error:
                note("job", began, error.code)

    while not stop.is_set():
        serve()
        take()
        stop.wait(0.1)
state.close()
