"""A process whose children act under guard until they are killed; run by ``test_kills.py``.

It has everything loaded, so that a child is at work at once. For each line ``SYNC KIND MICROSECONDS`` it forks a child
that lives for so long at most, and answers with how the child ended: ``-9`` if it was killed, as it should be.
"""

import asyncio
import functools
import itertools
import os
import random
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity._directory.rotation import rotate
from agent_identity.options import Durability

try:
    from langchain_core.tools import StructuredTool

    from agent_identity.integrations.langchain.protection import protect
except ImportError:  # The lowest versions are tested without it.
    StructuredTool = None  # type: ignore[assignment,misc]

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")


class Life:
    """What a child does until it is killed.

    Args:
        directory: The evidence directory.
        effects: A file; a body adds a line with the id of its task and its argument, and that is its effect.
        sync: What a record survives.
        first: The first argument; no other life has the same.
    """

    def __init__(self, directory: Path, effects: int, sync: str, first: int) -> None:
        self.directory = directory
        self.effects = effects
        self.sync = sync
        self.numbers = itertools.count(first)

    def opened(self) -> Enforcer:
        """Start as every process does."""
        return Enforcer.open(self.directory, durability=Durability(sync=self.sync), agents=None)

    def body(self, task: str, n: int) -> int:
        """Do what a tool does: something that stays in the world."""
        os.write(self.effects, f"{task} {n}\n".encode())
        return n

    def tasks(self, enforcer: Enforcer) -> Iterator[str]:
        """Open one task after the other; each is open while its id is used."""
        while True:
            with enforcer.task("act", principal=ALICE, agent=CLERK, scope=Scope("tool")) as task:
                yield task.id

    def function(self) -> None:
        """Call a guarded function again and again; close now and then, and start anew."""
        while True:
            with self.opened() as enforcer:
                for task in itertools.islice(self.tasks(enforcer), random.randrange(1, 20)):  # noqa: S311
                    self.many(functools.partial(enforcer.tool(name="tool")(self.body), task))

    def many(self, call: Callable[[int], object]) -> None:
        """Make some calls."""
        for n in itertools.islice(self.numbers, random.randrange(1, 200)):  # noqa: S311
            call(n)

    def threads(self) -> None:
        """Call from several threads in one task."""
        with self.opened() as enforcer:
            for task in self.tasks(enforcer):
                tool = enforcer.bind(enforcer.tool(name="tool")(self.body))
                call = functools.partial(tool, task)
                each = [threading.Thread(target=self.many, args=(call,)) for _ in range(4)]
                for thread in each:
                    thread.start()
                for thread in each:
                    thread.join()

    def coroutines(self) -> None:
        """Call guarded coroutines side by side."""

        async def act(n: int, task: str) -> int:
            await asyncio.sleep(0)
            return self.body(task, n)

        async def main() -> None:
            with self.opened() as enforcer:
                tool = enforcer.tool(name="tool")(act)
                for task in self.tasks(enforcer):
                    await asyncio.gather(*(tool(n, task) for n in itertools.islice(self.numbers, 20)))

        asyncio.run(main())

    def langchain(self) -> None:
        """Invoke a protected tool of LangChain."""
        with self.opened() as enforcer:

            def act(n: int, task: str) -> int:
                """Act."""
                return self.body(task, n)

            (tool,) = protect([StructuredTool.from_function(act, name="tool")], enforcer)
            for task in self.tasks(enforcer):
                self.many(lambda n, task=task: tool.invoke({"n": n, "task": task}))

    def rotation(self) -> None:
        """Act a little and exchange both keys, again and again."""
        while True:
            with self.opened() as enforcer:
                for task in itertools.islice(self.tasks(enforcer), 2):
                    self.many(functools.partial(enforcer.tool(name="tool")(self.body), task))
            rotate(self.directory, ("issuer", "recorder"), now=int(time.time()), overlap=3_600)


def lived(directory: Path, sync: str, kind: str, microseconds: int, number: int) -> int:
    """Fork a child and kill it; return its exit status, negative for a signal."""
    alive, held = os.pipe()
    effects = os.open(directory.parent / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    child = os.fork()
    if not child:
        os.close(alive)
        try:
            random.seed(number)
            getattr(Life(directory, effects, sync, number * 10_000_000), kind)()
        except BaseException:  # noqa: BLE001  Whatever it is, the parent reports it.
            traceback.print_exc()
        os._exit(70)
    os.close(held)
    os.close(effects)
    if not select.select([alive], [], [], microseconds / 1e6)[0]:  # It ends by itself only if it fails.
        os.kill(child, signal.SIGKILL)
    os.close(alive)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Fork a child for each line."""
    directory = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as warm:  # What is imported at first use, the children have as well.
        enforcer = Enforcer.open(warm)
        with enforcer.task("warm", principal=ALICE, agent=CLERK, scope=Scope("tool")):
            enforcer.tool(name="tool")(lambda: None)()
        enforcer.close()
    assert threading.active_count() == 1
    for number, line in enumerate(sys.stdin, int(sys.argv[2])):
        sync, kind, microseconds = line.split()
        print(lived(directory, sync, kind, int(microseconds), number), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
