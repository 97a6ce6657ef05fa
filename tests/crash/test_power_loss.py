"""Power loss: every state that a disk may be in afterwards starts, and nothing that was acknowledged is gone unseen.

A machine is recorded call by call, the keys and the trust file included, and then cut off after each call and inside
each write. What was not synced may be there or not, file by file and name by name. The short version takes samples;
``nox -s crash`` takes all states.
"""

import itertools
import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Report, Scope, Verifier
from agent_identity._directory.rotation import rotate
from agent_identity._identity.common.ids import Ids
from agent_identity._ledger.reader import open_ledger
from agent_identity.identity import RandomIds
from agent_identity.options import Durability, Ledger, Sources
from agent_identity.testing import FixedClock, SequentialIds

ALICE = Human("alice@example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
ALL = "AGENT_IDENTITY_CRASH" in os.environ
SAMPLES = 40
NAMES = ("make", "move", "link", "unlink")
"""Calls that change a folder; the others change a file."""

TOLD = ("ack", "seal")


@dataclass(frozen=True)
class Step:
    """One call that reached the disk, or a record that was acknowledged.

    Attributes:
        kind: ``make``, ``move``, ``link``, ``unlink``: in the folder ``node``. ``write``, ``truncate``: of the file
            ``node``. ``sync``: of either. ``ack``: a record was kept, ``seal``: all before were sealed.
        node: The number of the file or folder.
        what: The rest.
    """

    kind: str
    node: int
    what: tuple[Any, ...] = ()


@dataclass
class Tree:
    """What is on a disk: files and folders by number, names by folder."""

    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    modes: dict[int, int] = field(default_factory=dict)

    def apply(self, step: Step) -> None:
        """Do what the call did, as far as what it needs is there."""
        match step.kind, step.what:
            case "make", (name, node, mode, is_folder):
                self.names.setdefault(step.node, {})[name] = node
                self.modes[node] = mode
                if is_folder:
                    self.names.setdefault(node, {})
                else:
                    self.files.setdefault(node, bytearray())
            case "move", (source, target) if source in self.names.get(step.node, {}):
                self.names[step.node][target] = self.names[step.node].pop(source)
            case "link", (source, target) if source in self.names.get(step.node, {}):
                self.names[step.node][target] = self.names[step.node][source]
            case "unlink", (name,):
                self.names.get(step.node, {}).pop(name, None)
            case "write", (offset, data):
                content = self.files.setdefault(step.node, bytearray())
                content.extend(bytes(max(0, offset - len(content))))
                content[offset : offset + len(data)] = data
            case "truncate", (size,):
                content = self.files.setdefault(step.node, bytearray())
                content[:] = content[:size].ljust(size, b"\0")

    def find(self, parts: tuple[str, ...]) -> int | None:
        """Return the number of what is at a path."""
        node: int | None = 0
        for part in parts:
            node = self.names.get(-1 if node is None else node, {}).get(part)
        return node

    def content(self, folder: int = 0, path: str = "") -> Iterator[tuple[str, int, bytes | None]]:
        """Yield path, mode and content of everything that has a name; a folder has no content."""
        for name, node in sorted(self.names.get(folder, {}).items()):
            if node in self.names:
                yield f"{path}{name}", self.modes[node], None
                yield from self.content(node, f"{path}{name}/")
            else:
                yield f"{path}{name}", self.modes[node], bytes(self.files.get(node, b""))


class Recorder:
    """Notes what is done to a folder through ``os``, in the order in which it is done."""

    def __init__(self, root: Path) -> None:
        self.steps: list[Step] = []
        self.tree = Tree()
        self.root = root
        self._fds: dict[int, tuple[int, bool]] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._real: dict[str, Callable[..., Any]] = {}

    def told(self, kind: str, *what: str) -> None:
        """Note what the caller was told: that the record is kept (``ack``), or all so far are sealed (``seal``)."""
        with self._lock:
            self.steps.append(Step(kind, 0, what))

    def _note(self, step: Step) -> None:
        self.steps.append(step)
        self.tree.apply(step)

    def _parts(self, path: Any) -> tuple[str, ...] | None:
        if isinstance(path, int):
            return None
        place = Path(os.fspath(path)).absolute()
        parts = place.parts[len(self.root.parts) :]
        if not place.is_relative_to(self.root) or "state" in parts:  # What is shared is SQLite's to keep.
            return None
        return parts

    def _open(self, path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        with self._lock:
            parts = self._parts(path)
            fd: int = self._real["open"](path, flags, mode, **rest)
            self._fds.pop(fd, None)
            if parts is None:
                return fd
            node = self.tree.find(parts)
            if node is None:
                node, folder = next(self._numbers), self.tree.find(parts[:-1])
                assert folder is not None, path
                self._note(Step("make", folder, (parts[-1], node, mode & 0o755, False)))
            elif flags & os.O_TRUNC:
                self._note(Step("truncate", node, (0,)))
            self._fds[fd] = (node, bool(flags & os.O_APPEND))
            return fd

    def _mkdir(self, path: Any, mode: int = 0o777, **rest: Any) -> None:
        with self._lock:
            self._real["mkdir"](path, mode, **rest)
            if parts := self._parts(path):
                folder = self.tree.find(parts[:-1])
                assert folder is not None, path
                self._note(Step("make", folder, (parts[-1], next(self._numbers), mode & 0o755, True)))

    def _write(self, fd: int, data: bytes) -> int:
        with self._lock:
            place = os.lseek(fd, 0, os.SEEK_CUR) if fd in self._fds and not self._fds[fd][1] else -1
            written: int = self._real["write"](fd, data)
            if fd in self._fds:
                node = self._fds[fd][0]
                self._note(Step("write", node, (len(self.tree.files[node]) if place < 0 else place, data[:written])))
            return written

    def _ftruncate(self, fd: int, size: int) -> None:
        with self._lock:
            self._real["ftruncate"](fd, size)
            if fd in self._fds:
                self._note(Step("truncate", self._fds[fd][0], (size,)))

    def _fsync(self, fd: int) -> None:
        with self._lock:
            self._real["fsync"](fd)
            if fd not in self._fds:
                return
            node = self._fds[fd][0]
            if node in self.tree.files:  # What was written through a file object came past this recorder.
                content = Path(f"/proc/self/fd/{fd}").read_bytes()
                if content != self.tree.files[node]:
                    self._note(Step("write", node, (0, content)))
            self._note(Step("sync", node))

    def _two(self, kind: str, name: str) -> Callable[..., None]:
        def call(source: Any, target: Any, **rest: Any) -> None:
            with self._lock:
                self._real[name](source, target, **rest)
                first, second = self._parts(source), self._parts(target)
                if first and second:
                    assert first[:-1] == second[:-1], "a rename across folders is not modelled"
                    folder = self.tree.find(first[:-1])
                    assert folder is not None
                    self._note(Step(kind, folder, (first[-1], second[-1])))

        return call

    def _remove(self, name: str) -> Callable[..., None]:
        def call(path: Any, **rest: Any) -> None:
            with self._lock:
                self._real[name](path, **rest)
                if parts := self._parts(path):
                    folder = self.tree.find(parts[:-1])
                    assert folder is not None
                    self._note(Step("unlink", folder, (parts[-1],)))

        return call

    @contextmanager
    def recording(self) -> Iterator["Recorder"]:
        """Record for the block."""
        mine = {
            "open": self._open,
            "mkdir": self._mkdir,
            "write": self._write,
            "ftruncate": self._ftruncate,
            "fsync": self._fsync,
            "fdatasync": self._fsync,
            "replace": self._two("move", "replace"),
            "link": self._two("link", "link"),
            "unlink": self._remove("unlink"),
            "rmdir": self._remove("rmdir"),
        }
        append, seal, close = Ledger.append, Ledger.seal, Ledger.close

        def appending(ledger: Ledger, *given: Any, **named: Any) -> Any:
            entry = append(ledger, *given, **named)
            self.told("ack", entry.id)
            return entry

        def sealing(ledger: Ledger) -> None:
            seal(ledger)
            self.told("seal")

        def closing(ledger: Ledger) -> None:
            close(ledger)
            self.told("seal")

        with pytest.MonkeyPatch.context() as patch:
            for name, call in mine.items():
                self._real[name] = getattr(os, name)
                patch.setattr(os, name, call)
            for name, call in {"append": appending, "seal": sealing, "close": closing}.items():
                patch.setattr(Ledger, name, call)
            yield self


# ----------------------------------------------------------------------------------- what a disk may hold


def volatile(steps: list[Step]) -> set[int]:
    """Return the places of the steps that nothing has synced."""
    pending: set[int] = set()
    by_node: dict[int, set[int]] = {}
    for place, step in enumerate(steps):
        if step.kind == "sync":
            pending -= by_node.pop(step.node, set())
        elif step.kind not in TOLD:
            pending.add(place)
            by_node.setdefault(step.node, set()).add(place)
    return pending


def orders(steps: list[Step], chance: random.Random) -> Iterator[tuple[str, list[Step]]]:
    """Yield what may be on the disk after these steps: all, and less in each way that a file system may lose it."""
    lost = volatile(steps)
    names = {place for place in lost if steps[place].kind in NAMES}
    data = lost - names

    def without(gone: set[int]) -> list[Step]:
        return [step for place, step in enumerate(steps) if place not in gone]

    yield "everything", steps
    if not lost:
        return
    yield "only what was synced", without(lost)
    yield "no data", without(data)
    yield "no names", without(names)
    for place in sorted(names):
        yield f"without name {place}", without({place})
    for node in sorted({steps[place].node for place in data}):
        mine = {place for place in data if steps[place].node == node}
        yield f"without data of {node}", without(mine)
        yield f"only data of {node}", without(data - mine)
        zeros = [
            Step("write", step.node, (step.what[0], bytes(len(step.what[1]))))
            if place in mine and step.kind == "write"
            else step
            for place, step in enumerate(steps)
        ]
        yield f"zeros in {node}", zeros
    yield "a part", without({place for place in lost if chance.random() < 0.5})


def states(steps: list[Step], *, torn: int | None) -> Iterator[tuple[str, int, Tree]]:
    """Yield each state of the disk once, with the number of steps that were begun.

    Args:
        steps: All steps.
        torn: Tear each write at so many places; ``None`` tears it at each byte.
    """
    seen: set[int] = set()
    chance = random.Random(79)  # noqa: S311  The same samples each time.
    for count in range(len(steps) + 1):
        done, last = steps[:count], steps[count - 1] if count else None
        variants = [(name, order) for name, order in orders(done, chance)]
        if last is not None and last.kind == "write":
            size = len(last.what[1])
            cuts = range(1, size) if torn is None else sorted(chance.sample(range(1, size), min(torn, size - 1)))
            for cut in cuts:
                half = Step("write", last.node, (last.what[0], last.what[1][:cut]))
                variants.append((f"torn at {cut}", [*done[:-1], half]))
        for name, order in variants:
            tree = Tree()
            for step in order:
                tree.apply(step)
            mark = hash((tuple(tree.content()), sum(step.kind in TOLD for step in done)))
            if mark not in seen:
                seen.add(mark)
                yield f"after {count} steps, {name}", count, tree


def put(tree: Tree, folder: Path) -> None:
    """Make a folder with this content."""
    for path, mode, content in tree.content():
        place = folder / path
        if content is None:
            place.mkdir(parents=True)
        else:
            place.write_bytes(content)
        place.chmod(mode)


# --------------------------------------------------------------------------------------------- the machines


def opened(directory: Path, ids: Ids, **options: Any) -> Enforcer:
    return Enforcer.open(directory, sources=Sources(clock=FixedClock(), ids=ids), **options)


def act(enforcer: Enforcer, calls: int = 2) -> list[int]:
    """Make guarded calls, some of them by a delegate; return what their bodies noted."""
    ran: list[int] = []
    tool = enforcer.tool(name="tool")(ran.append)
    with enforcer.task("a purpose", principal=ALICE, agent=CLERK, scope=Scope("tool")):
        for number in range(calls):
            tool(number)
        enforcer._enforcement.ledger.seal()
        with enforcer.delegate(Agent("helper", owner="finance@example.com"), scope=Scope("tool")):
            tool(calls)
    return ran


def first_days(directory: Path, sync: str) -> None:
    """Open a new directory, act and close; open it again, act, seal, and lose power in the middle of a call."""
    ids = SequentialIds()
    with opened(directory, ids, durability=Durability(sync=sync)) as enforcer:
        act(enforcer)
    enforcer = opened(directory, ids, durability=Durability(sync=sync))
    act(enforcer)


def rotation(directory: Path, sync: str) -> None:
    """Exchange both keys of a directory in which a process lives, and go on with the new ones."""
    ids = SequentialIds()
    enforcer = opened(directory, ids, durability=Durability(sync=sync))
    act(enforcer, 1)
    rotate(directory, ("issuer", "recorder"), now=FixedClock().wall_ns() // 10**9, overlap=3_600)
    act(enforcer, 1)
    enforcer.close()
    with opened(directory, ids, durability=Durability(sync=sync)) as enforcer:
        act(enforcer, 1)


MACHINES = {"first days": first_days, "rotation": rotation}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[Step]]:
    """Returns the steps of a machine, recorded once."""
    known: dict[tuple[str, str], list[Step]] = {}

    def trace(machine: str, sync: str) -> list[Step]:
        if (machine, sync) not in known:
            root = tmp_path_factory.mktemp("machine")
            with Recorder(root).recording() as recorder:
                MACHINES[machine](root / "srv" / "evidence", sync)
            known[machine, sync] = recorder.steps
        return known[machine, sync]

    return trace


def ids_in(directory: Path) -> set[str]:
    """Return the ids of all records that are there whole."""
    import orjson

    reader = open_ledger(directory)
    lines = [line for stream in reader.streams() for line in reader.entries(stream)]
    return {orjson.loads(line.record)["id"] for line in lines if line.record is not None}


def started(directory: Path, sync: str) -> Report:
    """Start once more, act, seal and close; return what the auditor says afterwards."""
    with opened(directory, RandomIds(), durability=Durability(sync=sync)) as enforcer:
        assert act(enforcer, 1) == [0, 1]
        enforcer._enforcement.ledger.seal()
        assert enforcer._enforcement.ledger.degraded is None
    return Verifier().ledger(directory)


def judge(tree: Tree, folder: Path, done: list[Step], sync: str) -> None:
    """Start on a disk of this content and hold the promises against it."""
    put(tree, folder)
    acknowledged = {step.what[0] for step in done if step.kind == "ack"}
    last = max((place for place, step in enumerate(done) if step.kind == "seal"), default=0)
    sealed = {step.what[0] for step in done[:last] if step.kind == "ack"}
    directory = folder / "srv" / "evidence"
    before = Verifier().ledger(directory) if directory.is_dir() else None
    survived = ids_in(directory) if directory.is_dir() else set()
    lost = acknowledged - survived
    if before is not None and before.counts.get("records"):
        assert before.counts["verified"] <= len(survived)
    after = started(directory, sync)
    kept = ids_in(directory)
    assert after.counts["unsealed"] == 0 or after.verdict != "verified"
    assert survived <= kept
    if sync == "disk":
        assert not lost
        assert after.integrity == "verified", after.findings
    assert after.verdict != "verified" or sealed <= kept, "a loss was called complete"


def chosen(steps: list[Step], chance: int) -> list[tuple[str, int, Tree]]:
    """Return the states to look at: all of them, or a sample that is the same each time."""
    every = states(steps, torn=None if ALL else 2)
    found = list(every)
    few = random.Random(chance).sample(found, min(SAMPLES, len(found)))  # noqa: S311
    return found if ALL else few


@pytest.mark.sample(2)
@pytest.mark.timeout(0 if ALL else 300)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("sync", ["process", "disk"])
def test_ac_73_power_loss_at_any_moment_loses_nothing_unseen(
    traces: Callable[[str, str], list[Step]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, sync: str
) -> None:
    """Whatever a disk lost: the start works, no loss is called complete, and sync=disk loses nothing acknowledged."""
    steps = traces(machine, sync)
    failures: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # The starts afterwards need no disk, and there are many.
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)
    found = chosen(steps, len(machine) + len(sync))
    for number, (name, count, tree) in enumerate(found):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            judge(tree, folder, steps[:count], sync)
        except Exception as error:  # noqa: BLE001  All of them are of interest at once.
            failures.append(f"{name}: {type(error).__name__}: {error}")
        shutil.rmtree(folder)
    print(f"{machine}, sync={sync}: {len(steps)} steps, {len(found)} states, {len(failures)} failures")  # noqa: T201
    assert not failures, "\n".join(failures[:20])
