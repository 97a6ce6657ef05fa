"""Checks of ``agent-identity doctor`` on an evidence directory: keys, trust, shared state, ledger, disk."""

import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, get_args

from agent_identity._authority.registries.agents import AgentRegistry
from agent_identity._authority.stores.snapshot import copied_state
from agent_identity._directory.agents_file import registry_path
from agent_identity._directory.conditions import low_room
from agent_identity._directory.export.export_cursors import destinations
from agent_identity._directory.inventory.pinned_servers import MAX_SERVERS, ServerInventory
from agent_identity._directory.inventory.server_inventory import InventoryFile, inventory_path
from agent_identity._directory.key_folders import SECRET_FILES, key_folder
from agent_identity._guard.telemetry.diagnosis import Check
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.periods import ends_soon
from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.keys.keys import SigningKey
from agent_identity._identity.trust.entries import Purpose, TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.settled import is_held, written_here
from agent_identity._ledger.transparency.checkpoint import MAX_NOTE
from agent_identity._ledger.transparency.log import unverified_checkpoint
from agent_identity._ledger.transparency.witness_client import cosigned_file
from agent_identity._storage.layout import Layout
from agent_identity._storage.lines import stream_parts
from agent_identity._storage.os_files import Files
from agent_identity._verify.report.plurals import counted, some
from agent_identity.errors import ConfigurationError, StateError, TokenError, VerificationError

_LONGEST: Final = 1_900  # Characters of a record on a span.
_TAIL: Final = 256 * 1024
_MANY_SERVERS: Final = MAX_SERVERS * 9 // 10
_DAY: Final = 86_400
_SOON: Final = 14 * _DAY  # Seconds before an expiry from which it is reported.
_OLD: Final = 365 * _DAY  # Seconds after which a key counts as old.


def examine_directory(root: Path, keys: str | os.PathLike[str] | None = None) -> list[Check]:
    """Check keys, trust file and ledger of a directory.

    Args:
        root: The directory.
        keys: The folder of its keys, if it is outside.
    """
    return list(_readable("directory", _examined(root, key_folder(root, keys))))


def _examined(root: Path, folder: Path) -> Iterator[Check]:
    if not root.exists():
        yield Check("directory", "fail", "the path does not exist", f"agent-identity init {root}")
        return
    if not root.is_dir():
        yield Check("directory", "fail", "a file is at the path", "name the directory of the enforcer")
        return
    trust = _trust(root)
    store = trust if isinstance(trust, TrustStore) else None
    yield trust if isinstance(trust, Check) else _named(trust)
    for name, checks in (
        ("keys", _keys(root, folder, store)),
        ("keys", _modes(folder)),
        ("keys", _travelled(root)),
        ("agents", _agents(root, store)),
        ("inventory", _inventory(root, store)),
        ("shared state", _state(root)),
        ("ledger", _ledger(root)),
        ("witnesses", _witnesses(root, store)),
    ):
        yield from _readable(name, checks)
    yield _disk(root)


def _readable(name: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Yield the checks; the first part that this user may not read becomes one more check."""
    try:
        yield from checks
    except PermissionError as error:
        yield _denied(name, str(error.filename), error.strerror or "not allowed")


def _denied(name: str, path: str, why: str) -> Check:
    return Check(name, "fail", f"cannot read {path}: {why}", "run this as the user of the enforcer, or change its mode")


def failed(name: str, error: ConfigurationError | StateError | TokenError) -> Check:
    """Return an error as a check; its cure follows the semicolon."""
    detail, _, cure = str(error).partition("; ")
    return Check(name, "fail", detail, cure or "restore it from a copy, or start a new directory")


def _trust(root: Path) -> TrustStore | Check:
    if not (root / "trust.json").exists():
        cure = f"restore it from a copy; only if nothing was recorded here yet, agent-identity init {root}"
        return Check("trust file", "fail", "trust.json is missing", cure)
    try:
        return TrustStore.load(root / "trust.json")
    except ConfigurationError as error:
        return failed("trust file", error)


def _named(trust: TrustStore) -> Check:
    return Check("trust file", "ok", f"{counted(len(trust.keys), 'public key')}, log {trust.origin or 'not pinned'}")


def _keys(root: Path, folder: Path, trust: TrustStore | None) -> Iterator[Check]:
    if trust is not None and not any((folder / f"{name}.pem").exists() for name in get_args(Purpose)):
        cure = (
            "all is well if an agent-identity signer holds them, or a folder that --keys names; otherwise restore them "
            "from a copy"
        )
        yield Check("keys", "warn", "the directory has no keys", cure)
        return
    for name in get_args(Purpose):
        path = folder / f"{name}.pem"
        try:
            thumbprint = SigningKey.load(path).public_key.thumbprint
        except ConfigurationError as error:
            yield failed(f"{name} key", error)
            continue
        entry = None if trust is None else trust.get(thumbprint, name)
        if trust is not None and entry is None:
            cure = "restore the pair from a copy, or start a new directory"
            yield Check(f"{name} key", "fail", "it is not the one in trust.json", cure)
        else:
            yield _key(path, name, entry, trust, f"agent-identity keys rotate --{name} {root}")


def _key(path: Path, name: Purpose, entry: TrustedKey | None, trust: TrustStore | None, rotate: str) -> Check:
    """Check age, validity and overlap of a key."""
    now = int(time.time())
    if entry is not None and (entry.revoked_since is not None or not entry.in_time(now)):
        state = "it is not valid now" if entry.revoked_since is None else "it is revoked"
        return Check(f"{name} key", "fail", state, rotate)
    made = path.stat().st_mtime if entry is None or entry.not_before is None else entry.not_before
    age = max(0, now - int(made))
    old = f"{counted(age // _DAY, 'day')} old" if age >= _DAY else "made today"
    detail = f"private to its owner, {old}{_overlap(name, entry, trust, now)}"
    if entry is not None and entry.not_after is not None and ends_soon(now, entry.not_before, entry.not_after):
        return Check(
            f"{name} key", "warn", f"it is valid for {counted((entry.not_after - now) // _DAY, 'day')}", rotate
        )
    return Check(f"{name} key", "warn", detail, rotate) if age > _OLD else Check(f"{name} key", "ok", detail)


def _overlap(name: Purpose, entry: TrustedKey | None, trust: TrustStore | None, now: int) -> str:
    """Describe the other keys of the same purpose that are still valid, as after a rotation."""
    if trust is None or entry is None:
        return ""
    mine = (key for key in trust.keys if key.purpose == name and key.issuer == entry.issuer and key is not entry)
    others = [key for key in mine if key.revoked_since is None and key.in_time(now)]
    if not others:
        return ""
    ends = [key.not_after for key in others if key.not_after is not None]
    until = f" until {time.strftime('%Y-%m-%d', time.gmtime(max(ends)))}" if len(ends) == len(others) else ""
    return f"; {counted(len(others), 'key')} before it still valid{until}"


def _modes(folder: Path) -> Iterator[Check]:
    """Check the modes of the other secret files."""
    for name, path, mode in (
        ("key folder", folder, "700"),
        ("ledger key", folder / "ledger.key", "600"),
        ("digest keys", folder / "digests.jsonl", "600"),
        ("pseudonyms", folder / "pseudonyms.jsonl", "600"),
    ):
        if path.exists() and (granted := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            cure = f"chmod {mode} {path}" + ("" if path is folder else ", and ask who has read it")
            yield Check(name, "warn" if path is folder else "fail", f"others can reach it (mode {granted:04o})", cure)


def _travelled(root: Path) -> Iterator[Check]:
    """Check that no private key lies in a copy of evidence."""
    found = [name for name in SECRET_FILES if (root / "keys" / name).exists()]
    what = _copy_kind(root) if found else None
    if what is not None:
        detail = f"{what} has private keys: {some(found)}; who holds it can sign as the original"
        cure = f"rm -r {root / 'keys'}, and rotate the keys of the original if others could read this"
        yield Check("keys", "fail", detail, cure)


def _copy_kind(root: Path) -> str | None:
    """Return which copy of evidence a directory is, or ``None`` for one that processes write."""
    if (root / "excerpt.json").exists():
        return "an excerpt"
    streams = [root / "ledger" / name for name in open_ledger(root).streams()]
    if not streams:
        return None
    if not any((stream / "lock").exists() for stream in streams):
        return "an archive, or what a bundle held,"
    if not os.access(root / "ledger", os.W_OK):
        return "evidence that this user cannot write"
    return "a copy, in which no process has written since it was made," if _only_copied(streams) else None


def _only_copied(streams: Sequence[Path]) -> bool:
    """Return whether streams ended, all of them elsewhere."""
    locks = [str(stream / "lock") for stream in streams]
    places = {lock: written_here(Files(), lock) for lock in locks}
    if True in places.values() or False not in places.values():
        return False
    # Locks are tried last and seldom: a start that meets one passes over its stream.
    return not any(is_held(Files(), lock) for lock, here in places.items() if here is None)


def _agents(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    """Check the registry of agents, if it exists and its keys are known."""
    path = registry_path(root)
    if trust is None or not path.exists():
        return
    try:
        registered = [row for row in AgentRegistry.load(path, trust).current() if row.status == "registered"]
    except (ConfigurationError, TokenError) as error:
        yield failed("agents", error)
        return
    soon = sorted(row.agent.id for row in registered if row.expires_at < time.time() + _SOON)
    if soon:
        cure = f"agent-identity agents add {root} AGENT --replace …"
        yield Check("agents", "warn", f"expired, or soon: {some(soon)}", cure)
    else:
        yield Check("agents", "ok", f"{counted(len(registered), 'agent')} registered")


def _inventory(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    """Check the pinned servers, if any."""
    if trust is None or not Path(inventory_path(root)).exists():
        return
    try:
        book = InventoryFile(inventory_path(root), trust).load()
    except (ConfigurationError, TokenError) as error:
        yield failed("inventory", error)
        return
    checks = list(_servers(root, book))
    tools = sum(len(offer.tools) for offer in book.values())
    fine = Check("inventory", "ok", f"{counted(len(book), 'server')}, {counted(tools, 'tool')} pinned")
    yield from checks or [fine]


def _servers(root: Path, book: ServerInventory) -> Iterator[Check]:
    waiting = sorted(name for name, offer in book.items() if offer.waits)
    cut = sorted(name for name, offer in book.items() if any(tool.is_cut for tool in offer.tools.values()))
    if waiting:
        cure = f"agent-identity inventory list {root}, then diff, and accept or leave it"
        yield Check("inventory", "warn", f"changes are pending: {some(waiting)}", cure)
    cure = f"agent-identity inventory forget {root} SERVER for those that you do not use"
    if cut:
        yield Check("inventory", "warn", f"too much text to keep, so that changes cannot be shown: {some(cut)}", cure)
    if len(book) > _MANY_SERVERS:
        yield Check("inventory", "warn", f"{len(book)} servers, of at most {MAX_SERVERS}", cure)


def _state(root: Path) -> Iterator[Check]:
    """Query the state that the processes of the directory share, if it exists."""
    path = root / "state" / "state.sqlite"
    try:
        with copied_state(path.parent) as state:
            state.contains("doctor:asks", now=int(time.time()))
        if not path.exists():
            return
    except StateError as error:
        yield failed("shared state", error)
    else:
        yield Check("shared state", "ok", "it can be read")


def _witnesses(root: Path, trust: TrustStore | None) -> Iterator[Check]:
    """Check how far the witnesses of the trust file have cosigned the log."""
    if trust is None:
        return
    size = _entries_under(open_ledger(root).checkpoint())
    for witness in trust.witnesses.keys:
        name = f"witness {witness.name}"
        cosigned = _entries_under(_content(Path(cosigned_file(Layout.of(root), witness))))
        if cosigned is None:
            cure = "open the enforcer with Transparency(witnesses={'https://...': 'the verifier key'})"
            yield Check(name, "warn", "it has cosigned nothing of the log", cure)
        elif size is not None and cosigned < size:
            cure = "see what the enforcer logs about it, and whether it can be reached"
            yield Check(name, "warn", f"it has cosigned {cosigned:,} of {counted(size, 'entry')} of the log", cure)
        else:
            yield Check(name, "ok", f"it has cosigned all {counted(cosigned, 'entry')} of the log; 'verify' checks it")


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
    reader = open_ledger(root)
    denied = next(iter(reader.denied()), None)
    if denied is not None:
        yield _denied("ledger", denied.path, denied.why)
    yield _streams(root)
    rejected = reader.rejected_bytes()
    if rejected:
        detail = f"another process wrote {counted(rejected, 'byte')} into it, which are in log/rejected.jsonl now"
        yield Check("log", "warn", detail, "look at them, find who can write there, then move that file away")
    yield from _lengths(root)
    yield from _copies(root)


def _streams(root: Path) -> Check:
    folder = root / "ledger"
    if not folder.is_dir():
        return Check("ledger", "ok", "none yet; the first enforcer creates it")
    if not os.access(folder, os.W_OK):
        return Check("ledger", "fail", "this user cannot write to it", f"give this user write access to {folder}")
    streams = sum(1 for entry in folder.iterdir() if entry.is_dir())
    return Check("ledger", "ok", f"{counted(streams, 'stream')}; 'agent-identity verify {root}' checks them")


def _lengths(root: Path) -> Iterator[Check]:
    """Check the length of the last outcomes: back ends cut attributes of spans at 2,000 characters."""
    longest = 0
    for stream in open_ledger(root).streams()[-1:]:
        path = Path(Layout.of(root).entries(stream))
        with suppress(FileNotFoundError), path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            records = (parts[0] for line in file if (parts := stream_parts(line.removesuffix(b"\n"))) is not None)
            longest = max((len(b64url_encode(data)) for data in records if b'"kind":"outcome"' in data), default=0)
    if longest > _LONGEST:
        detail = f"the last outcomes have up to {longest:,} characters on their spans, which stores cut at 2,000"
        cure = (
            "shorten the names in them, or exempt agent_identity.attestation.* from the limits of collector and store"
        )
        yield Check("record length", "warn", detail, cure)


def _copies(root: Path) -> Iterator[Check]:
    """Report the progress of each receiver of copies."""
    layout = Layout.of(root)
    for cursors in destinations(Files(), layout):
        name, aside = cursors.receiver, len({one.record for one in cursors.aside()})
        try:
            behind = cursors.behind()
        except OSError:
            continue
        detail = f"{name}: {counted(behind, 'span')} to send" if behind else f"{name}: has all"
        if aside:
            detail += f", {counted(aside, 'record')} set aside"
        again = " --again" if aside else ""
        cure = f"agent-identity replay {root} --otlp {name.partition(' ')[0]}{again}"
        yield Check("copies", "warn" if behind or aside else "ok", detail, cure if behind or aside else "")


def _disk(root: Path) -> Check:
    free = shutil.disk_usage(root).free
    if (low := low_room(free)) is not None:
        detail, _, cure = low.partition("; ")
        return Check("disk", "warn", detail, cure)
    return Check("disk", "ok", f"{free >> 30} GiB free" if free >> 30 else f"{free >> 20} MiB free")
