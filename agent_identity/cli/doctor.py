"""``agent-identity doctor``: what a platform engineer wants to know before trusting the set-up."""

import argparse
import contextlib
import gc
import importlib
import importlib.metadata
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, get_args

from agent_identity.audit.findings import counted
from agent_identity.authority import AgentRegistry
from agent_identity.cli.command import Commands
from agent_identity.cli.terminal import Style, clean, columns, hanging
from agent_identity.enforcement.agents_file import registry_path
from agent_identity.enforcement.diagnosis import Check, examine_telemetry
from agent_identity.enforcement.directory import refuse_clash
from agent_identity.enforcement.second_key import SecondSigner, second_key_files
from agent_identity.errors import ConfigurationError, TokenError, VerificationError
from agent_identity.evidence import Files, Layout, open_ledger
from agent_identity.evidence.checkpoint import MAX_NOTE
from agent_identity.evidence.cursors import destinations
from agent_identity.evidence.log import unverified_checkpoint
from agent_identity.evidence.witnessing import cosigned_file
from agent_identity.identity import Purpose, SigningKey, SystemClock, TrustStore, read_public_file

__all__ = ["register"]

LOW_DISK: Final = 100 * 1024 * 1024
"""Bytes of free space below which the ledger is likely to stop soon."""

_MARKS: Final = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
_EPOCH_2024: Final = 1_704_067_200
_SOON: Final = 14 * 86_400  # Seconds before an expiry in which somebody should know of it.


def register(commands: Commands) -> None:
    """Add the command."""
    command = commands.add_parser(
        "doctor",
        help="look for what would lose or weaken evidence",
        description="Look at keys, ledger, clock, telemetry and tools, and say what to do about each finding. "
        "With --import, a module of the application is imported first, so that its tracer provider and its "
        "LangChain tools are seen.",
    )
    command.add_argument("directory", metavar="DIR", nargs="?", help="the directory of the enforcer")
    command.add_argument("--import", dest="module", metavar="MODULE", help="a module of the application")
    command.add_argument("--json", action="store_true", help="print JSON for machines")
    command.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    if chosen.module:
        import_application(chosen.module)
    checks = [examine_package(), examine_clock(), *examine_application(chosen.module)]
    checks += [*examine_telemetry(), *examine_tools()]
    if chosen.directory:
        checks += examine_directory(Path(chosen.directory))
    if chosen.json:
        rows = [{"name": c.name, "status": c.status, "detail": c.detail, "cure": c.cure} for c in checks]
        print(json.dumps({"checks": rows}))
    else:
        print("\n".join(lines(checks, Style(sys.stdout), columns(sys.stdout))))
    return 1 if any(check.status == "fail" for check in checks) else 0


def import_application(module: str) -> None:
    """Import a module of the application from the current directory; what it prints goes to standard error.

    Raises:
        ConfigurationError: It cannot be imported, or fails while it is.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            importlib.import_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - The code is the user's, and may raise anything.
        absent = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        way_out = "check its name, and the directory that you are in" if absent else "see what it does when imported"
        raise ConfigurationError(
            f"expected to import {module!r}, got {type(error).__name__}: {error}; {way_out}"
        ) from None


def lines(checks: Sequence[Check], style: Style, room: int | None = None) -> Iterator[str]:
    """Yield what was found, each with what to do about it.

    Args:
        checks: What was looked at.
        style: Paints it.
        room: The columns of the terminal; ``None`` for no limit.
    """
    most = max(len(check.name) for check in checks)
    for check in checks:
        mark, colour = _MARKS[check.status]
        detail = hanging(clean(check.detail), most + 4, room)
        yield f"{style.paint(mark, colour, 'bold')} {check.name:<{most}}  {detail}"
        if check.cure:
            cure = hanging(f"→ {clean(check.cure)}", most + 4, room)
            yield f"{'':{most + 4}}{style.paint(cure, 'dim')}"


def examine_package(find: Callable[[str], object] = importlib.metadata.distribution) -> Check:
    """Look for another distribution that owns our import name (threats AC-71).

    Args:
        find: Looks up an installed distribution by name.
    """
    try:
        refuse_clash(find)
    except ConfigurationError as error:
        return _failed("package", error)
    return Check("package", "ok", "agent_identity belongs to agent-identity-otel")


def examine_clock(wall: Callable[[], float] = time.time) -> Check:
    """Look at the wall clock."""
    if wall() < _EPOCH_2024:
        return Check("clock", "fail", "the wall clock is before 2024", "set the clock; grants live in real time")
    return Check("clock", "ok", f"UTC {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(wall()))}")


def examine_application(module: str | None) -> list[Check]:
    """Say what the findings about telemetry and tools are about, where it is not the application."""
    if module:
        return []
    detail = "not imported: provider and tools are those of this process, not of your application"
    return [Check("process", "warn", detail, "agent-identity doctor --import MODULE")]


def examine_tools() -> list[Check]:
    """Count the LangChain tools in this process that no enforcer guards."""
    if "langchain_core.tools" not in sys.modules:
        return []
    langchain = importlib.import_module("agent_identity.integrations.langchain")
    base = sys.modules["langchain_core.tools"].BaseTool
    # By type, because isinstance() runs code of proxies and lazy objects.
    tools = [thing for thing in gc.get_objects() if issubclass(type(thing), base)]
    bare = sorted({tool.name for tool in tools if not langchain.is_protected(tool)})
    if not bare:
        return [Check("tools", "ok", f"{counted(len(tools), 'LangChain tool')}, none without a guard")]
    shown = ", ".join(bare[:10]) + (", …" if len(bare) > 10 else "")
    cure = "protect(tool, enforcer) each of them, or accept that their calls leave no evidence"
    detail = f"{counted(len(bare), 'LangChain tool')} without a guard: {shown}"
    return [Check("tools", "warn", detail, cure)]


def examine_directory(root: Path) -> list[Check]:
    """Look at keys, trust file and ledger of a directory."""
    if not root.exists():
        return [Check("directory", "fail", "there is none at the path", f"agent-identity init {root}")]
    if not root.is_dir():
        return [Check("directory", "fail", "a file is at the path", "name the directory of the enforcer")]
    trust = _trust(root)
    store = trust if isinstance(trust, TrustStore) else None
    first = trust if isinstance(trust, Check) else _named(trust)
    return [
        first,
        *_keys(root, store),
        *_modes(root),
        *_agents(root, store),
        *_second_key(root, store),
        *_ledger(root),
        *_witnesses(root, store),
        _disk(root),
    ]


def _failed(name: str, error: ConfigurationError | TokenError) -> Check:
    """Return the finding that an error is; its way out stands behind the semicolon."""
    detail, _, cure = str(error).partition("; ")
    return Check(name, "fail", detail, cure or "restore it from a copy, or start a new directory")


def _trust(root: Path) -> TrustStore | Check:
    if not (root / "trust.json").exists():
        cure = f"restore it from a copy; only if nothing was recorded here yet, agent-identity init {root}"
        return Check("trust file", "fail", "there is none", cure)
    try:
        return TrustStore.load(root / "trust.json")
    except ConfigurationError as error:
        return _failed("trust file", error)


def _named(trust: TrustStore) -> Check:
    return Check("trust file", "ok", f"{counted(len(trust.keys), 'public key')}, log {trust.origin or 'not pinned'}")


def _keys(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    if trust is not None and not any((root / "keys" / f"{name}.pem").exists() for name in get_args(Purpose)):
        cure = "all is well if an agent-identity signer holds them; otherwise restore them from a copy"
        yield Check("keys", "warn", "there are none in the directory", cure)
        return
    for name in get_args(Purpose):
        path = root / "keys" / f"{name}.pem"
        try:
            thumbprint = SigningKey.load(path).public_key.thumbprint
        except ConfigurationError as error:
            yield _failed(f"{name} key", error)
            continue
        entry = None if trust is None else trust.get(thumbprint, name)
        if trust is not None and entry is None:
            cure = "restore the pair from a copy, or start a new directory"
            yield Check(f"{name} key", "fail", "it is not the one in trust.json", cure)
        elif entry is not None and (entry.revoked_since is not None or not entry.in_time(int(time.time()))):
            state = "it is not valid now" if entry.revoked_since is None else "it is revoked"
            yield Check(f"{name} key", "fail", state, f"agent-identity keys rotate --{name} {root}")
        else:
            yield Check(f"{name} key", "ok", "private to its owner")


def _modes(root: Path) -> Iterator[Check]:
    """Look at what else must be closed to others."""
    folder = root / "keys"
    for name, path, mode in (
        ("key folder", folder, "700"),
        ("ledger key", folder / "ledger.key", "600"),
        ("digest keys", folder / "digests.jsonl", "600"),
        ("pseudonyms", folder / "pseudonyms.jsonl", "600"),
    ):
        if path.exists() and (found := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            cure = f"chmod {mode} {path}" + ("" if path is folder else ", and ask who has read it")
            yield Check(name, "warn" if path is folder else "fail", f"others can reach it (mode {found:04o})", cure)


def _agents(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    """Look at the registry of agents, if there is one and its keys are known."""
    path = registry_path(root)
    if trust is None or not path.exists():
        return
    try:
        registered = [row for row in AgentRegistry.load(path, trust).current() if row.status == "registered"]
    except (ConfigurationError, TokenError) as error:
        yield _failed("agents", error)
        return
    soon = sorted(row.agent.id for row in registered if row.expires_at < time.time() + _SOON)
    if soon:
        shown = ", ".join(soon[:10]) + (", …" if len(soon) > 10 else "")
        cure = f"agent-identity agents add {root} AGENT --replace …"
        yield Check("agents", "warn", f"expired, or soon: {shown}", cure)
    else:
        yield Check("agents", "ok", f"{counted(len(registered), 'agent')} registered")


def _second_key(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    """Look at the second key, if the directory has one."""
    if trust is None or not (trust.second_keys or second_key_files(root)[0].exists()):
        return
    try:
        SecondSigner(root, SystemClock())
    except ConfigurationError as error:
        yield _failed("second key", error)
    else:
        yield Check("second key", "ok", "signs checkpoints with ML-DSA-44")


def _witnesses(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    """Look at how far the witnesses that the trust file names have cosigned the log."""
    if trust is None:
        return
    size = _entries_under(open_ledger(root).checkpoint())
    for witness in trust.witnesses.keys:
        name = f"witness {witness.name}"
        seen = _entries_under(_content(Path(cosigned_file(Layout.of(root), witness))))
        if seen is None:
            cure = "open the enforcer with witnesses={'https://...': 'the verifier key'}"
            yield Check(name, "warn", "it has cosigned nothing of the log", cure)
        elif size is not None and seen < size:
            cure = "see what the enforcer logs about it, and whether it can be reached"
            yield Check(name, "warn", f"it has cosigned {seen:,} of {counted(size, 'entry')} of the log", cure)
        else:
            yield Check(name, "ok", f"it has cosigned all {counted(seen, 'entry')} of the log; 'verify' checks it")


def _content(path: Path) -> bytes | None:
    try:
        return read_public_file(path, limit=MAX_NOTE)
    except ConfigurationError:
        return None


def _entries_under(note: bytes | None) -> int | None:
    try:
        return None if note is None else unverified_checkpoint(note).size
    except VerificationError:
        return None


def _ledger(root: Path) -> Iterator[Check]:
    yield _streams(root)
    yield from _copies(root)


def _streams(root: Path) -> Check:
    folder = root / "ledger"
    if not folder.is_dir():
        return Check("ledger", "ok", "none yet; the first enforcer creates it")
    if not os.access(folder, os.W_OK):
        return Check("ledger", "fail", "this user cannot write to it", f"give this user write access to {folder}")
    streams = sum(1 for entry in folder.iterdir() if entry.is_dir())
    return Check("ledger", "ok", f"{counted(streams, 'stream')}; 'agent-identity verify {root}' checks them")


def _copies(root: Path) -> Iterator[Check]:
    """Say of each receiver of copies how far it is."""
    layout = Layout.of(root)
    for cursors in destinations(Files(), layout):
        name, aside = cursors.receiver, len({one.record for one in cursors.aside()})
        try:
            behind = cursors.behind()
        except OSError:
            continue
        detail = f"{name}: {counted(behind, 'record')} behind" if behind else f"{name}: has all"
        if aside:
            detail += f", {counted(aside, 'record')} set aside"
        again = " --again" if aside else ""
        cure = f"agent-identity replay {root} --otlp {name.partition(' ')[0]}{again}"
        yield Check("copies", "warn" if behind or aside else "ok", detail, cure if behind or aside else "")


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    if free < LOW_DISK:
        return Check("disk", "warn", f"{free >> 20} MiB free", "free some space: without evidence nothing runs")
    return Check("disk", "ok", f"{free >> 30} GiB free" if free >> 30 else f"{free >> 20} MiB free")
