"""A process whose children act under guard and end in many ways; run by ``test_leaving.py``.

It has everything loaded, and forks a child for each line ``WAY DIRECTORY``. The child ends as the way says, through the
interpreter's own end where there is one; the answer is its exit status.
"""

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from agent_identity import Agent, Enforcer, EvidenceError, Human, Scope
from agent_identity.options import Telemetry

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
KEEP: list[Any] = []
"""What lives until the interpreter takes its modules apart."""


class Child:
    """One child: an open enforcer, and a tool whose effect is a line in a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # A fork of a body is still that body: alice is listed, for whom one of them acts.
        self.enforcer = Enforcer.open(
            directory, telemetry=Telemetry(tracer_provider=TracerProvider()), agents=None, nested=[ALICE]
        )
        KEEP.append(self)

    def task(self) -> Any:
        """Return a task in which the tools may be called."""
        return self.enforcer.task("act", principal=ALICE, agent=CLERK, scope=Scope("tool"))

    def effect(self) -> None:
        """Have the effect of a tool."""
        with (self.directory.parent / "effects").open("a") as file:
            file.write("x\n")

    def tool(self, ending: Callable[[], object] = lambda: None) -> Callable[[], object]:
        """Return a guarded tool that has its effect and then does this."""

        @self.enforcer.tool(name="tool")
        def body() -> None:
            self.effect()
            ending()

        return body

    def act(self, ending: Callable[[], object] = lambda: None) -> None:
        """Call the tool once, in a task."""
        with self.task():
            self.tool(ending)()


def os_exit(child: Child) -> None:
    """Leave from within the body, past every handler."""
    child.act(lambda: os._exit(3))


def sigterm(child: Child) -> None:
    """Get SIGTERM in the body, which nobody handles."""
    child.act(lambda: os.kill(os.getpid(), signal.SIGTERM))


def sigterm_handled(child: Child) -> None:
    """Get SIGTERM in the body, which the application turns into an exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    child.act(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(30)))


def sigint(child: Child) -> None:
    """Get Ctrl-C in the body."""
    sys.excepthook = lambda *_: None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    child.act(lambda: (os.kill(os.getpid(), signal.SIGINT), time.sleep(30)))


def sys_exit(child: Child) -> None:
    """Leave from within the body, as programs do."""
    child.act(lambda: sys.exit(0))


def unclosed(child: Child) -> None:
    """End without closing anything."""
    child.act()


def daemon(child: Child) -> None:
    """End while a daemon thread is in the body."""
    inside = threading.Event()
    threading.Thread(target=lambda: child.act(lambda: (inside.set(), time.sleep(60))), daemon=True).start()
    inside.wait()


def busy_daemons(child: Child) -> None:
    """End while daemon threads call without pause."""

    def act() -> None:
        with contextlib.suppress(EvidenceError), child.task():  # Once the ledger is closed, nothing runs any more.
            tool = child.tool()
            while True:
                tool()
                more.release()

    more = threading.Semaphore(0)
    for _ in range(3):
        threading.Thread(target=act, daemon=True).start()
    for _ in range(30):
        more.acquire()


def threads(child: Child) -> None:
    """End while other threads still act; the interpreter waits for them."""
    main = threading.main_thread()

    def act() -> None:
        main.join(0.05)
        child.act()

    for _ in range(3):
        threading.Thread(target=act).start()


def pool(child: Child) -> None:
    """End with work in a pool of threads that is never shut down."""
    executor = concurrent.futures.ThreadPoolExecutor(2)
    KEEP.extend(executor.submit(child.act) for _ in range(6))


def loop(child: Child) -> None:
    """End with an event loop that is left in the middle of a guarded coroutine."""

    @child.enforcer.tool(name="tool")
    async def wait() -> None:
        child.effect()
        await asyncio.sleep(60)

    async def main() -> None:
        with child.task():
            KEEP.append(asyncio.ensure_future(wait()))
            await asyncio.sleep(0.01)
            KEEP[-1]._log_destroy_pending = False

    running = asyncio.new_event_loop()
    KEEP.append(running)
    running.run_until_complete(main())
    logging.disable()


def generator(child: Child) -> None:
    """End with a guarded generator that is suspended."""

    @child.enforcer.tool(name="tool")
    def items() -> Generator[int]:
        child.effect()
        yield from range(3)

    opening = child.task()
    opening.__enter__()
    suspended = items()
    next(suspended)
    KEEP.extend((suspended, opening))


def handlers(child: Child) -> None:
    """Act in exit handlers: before the ledger is closed it works, afterwards nothing runs."""

    def late() -> None:
        try:
            child.act()
        except EvidenceError:
            return
        os._exit(9)

    atexit.register(child.act)  # Runs first, because it came last.
    atexit.unregister(child.enforcer._enforcement.ledger._at_exit)
    atexit.unregister(child.act)
    atexit.register(late)
    atexit.register(child.enforcer._enforcement.ledger._at_exit)
    atexit.register(child.act)


def finalizer(child: Child) -> None:
    """Act in a finalizer that runs while modules are taken apart: nothing runs, and nothing crashes."""

    class Last:
        def __del__(self) -> None:
            with contextlib.suppress(BaseException):  # Which one depends on what is left of the interpreter.
                child.act()

    child.act()
    KEEP.append(Last())


def forked(child: Child) -> None:
    """Fork in the body; the fork acts for itself and ends as programs do."""

    def fork() -> None:
        with warnings.catch_warnings(action="ignore"):  # That there are threads is the point.
            pid = os.fork()
        if not pid:
            child.act()
            sys.exit(0)
        os.waitpid(pid, 0)

    child.act(fork)


def _elsewhere(directory: Path) -> None:
    Child(directory).act()


def spawned(child: Child) -> None:
    """Let a spawned process act, while this one has the directory open."""
    _multiprocessing(child, "spawn")


def forkserver(child: Child) -> None:
    """Let a process of a fork server act, while this one has the directory open."""
    _multiprocessing(child, "forkserver")


def _multiprocessing(child: Child, method: str) -> None:
    with child.task():
        child.tool()()
        process = multiprocessing.get_context(method).Process(target=_elsewhere, args=(child.directory,))
        process.start()
        process.join()
        assert process.exitcode == 0


WAYS: dict[str, tuple[Callable[[Child], None], int, int, int]] = {
    # name: what it does, exit status, effects, streams whose end is missing
    "os._exit": (os_exit, 3, 1, 1),
    "SIGTERM": (sigterm, -signal.SIGTERM, 1, 1),
    "SIGTERM handled": (sigterm_handled, 0, 1, 0),
    "SIGINT": (sigint, -signal.SIGINT, 1, 0),
    "sys.exit": (sys_exit, 0, 1, 0),
    "unclosed": (unclosed, 0, 1, 0),
    "daemon": (daemon, 0, 1, 0),
    "busy daemons": (busy_daemons, 0, 30, 0),
    "threads": (threads, 0, 3, 0),
    "pool": (pool, 0, 6, 0),
    "loop": (loop, 0, 1, 0),
    "generator": (generator, 0, 1, 0),
    "handlers": (handlers, 0, 1, 0),
    "finalizer": (finalizer, 0, 1, 0),
    "forked": (forked, 0, 2, 0),
    "spawned": (spawned, 0, 2, 0),
    "forkserver": (forkserver, 0, 2, 0),
}

SAYS = {
    "generator": ("the outcome of tool could not be recorded: ",),
    "busy daemons": ("the outcome of tool could not be", "the end of a task could not be recorded: EvidenceError"),
}
"""How lines on standard error may begin; the others say nothing."""


def main() -> None:
    """Fork a child for each line."""
    with tempfile.TemporaryDirectory() as warm:  # What is imported at first use, the children have as well.
        child = Child(Path(warm) / "evidence")
        child.act()
        child.enforcer.close()
    KEEP.clear()
    for line in sys.stdin:
        way, _, directory = line.rstrip("\n").partition("|")
        pid = os.fork()
        if not pid:
            os.dup2(os.open(f"{directory}.errors", os.O_WRONLY | os.O_CREAT, 0o600), 2)
            WAYS[way][0](Child(Path(directory)))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
