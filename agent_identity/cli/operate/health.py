"""``agent-identity health``: is a directory able to record, and its state to answer? For probes, at little cost.

It reads, writes nothing, and verifies nothing. Modules that take long to load are loaded only where they are needed.
"""

import argparse
import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

from agent_identity._common.narrowing import is_list, is_object
from agent_identity._directory.conditions import FULL_DISK, STOPS, Period, ending_key, low_disk
from agent_identity._ledger.waiting import open_streams, unsealed_since, written_after
from agent_identity._storage.layout import Layout
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError, StateError

_Found: TypeAlias = Iterator[tuple[str, str]]

_NS: Final = 1_000_000_000
_LATE: Final = 15
"""Seconds that a record may wait for its seal: a little longer than the process itself allows."""

_LAGS: Final = 60
"""Seconds that a record may wait for a receiver."""

_SENT: Final = (b"outcome", b"task_end")
_TIMEOUT: Final = 1.0


def run(chosen: argparse.Namespace) -> int:
    """Run the command."""
    root = Path(chosen.directory)
    if not (root / "trust.json").exists():
        raise ConfigurationError(
            f"{chosen.directory!r} is not the directory of an enforcer; 'agent-identity init DIR' creates one"
        )
    found: dict[str, str] = {}
    for part in (_ledger(root), _disk(root), _state(root, chosen), _keys(root), _exports(root)):
        for name, why in part:
            found.setdefault(name, why)
    healthy = STOPS.isdisjoint(found)
    if chosen.json:
        print(json.dumps({"healthy": healthy, "degraded": found}))
    else:
        print("healthy" if not found else "healthy, with warnings" if healthy else "not healthy")
        for name, why in found.items():
            print(f"  {name}: {clean(why)}")
    return 0 if healthy else 1


def _ledger(root: Path) -> _Found:
    """Yield the problem of records that no seal covers."""
    try:
        since = unsealed_since(Layout.of(root))
    except OSError as error:
        yield "ledger", f"the ledger cannot be read ({error.strerror}); run this as the user of the enforcer"
        return
    waited = None if since is None else int(time.time() - since / _NS)
    if waited is not None and waited > _LATE:
        why = "see the log of its process, and restart it if it hangs; of one that died the next start seals"
        yield "ledger", f"a record has waited {waited} s for a seal; {why}"


def _disk(root: Path) -> _Found:
    low = low_disk(root)
    if low is not None:
        facts = os.statvfs(root)
        yield ("ledger" if facts.f_bavail * facts.f_frsize < FULL_DISK else "disk"), low


def _state(root: Path, chosen: argparse.Namespace) -> _Found:
    """Yield the problems of the states of directory and machines, and whether one of them suspends everything."""
    lists: list[bytes | None] = []
    for read in (partial(_list_in, root), partial(_list_at, chosen)):
        try:
            lists.append(read())
        except StateError as error:
            yield "state", str(error)
    if any(listed is not None and _suspends_everything(listed) for listed in lists):
        yield "revocations", "everything is suspended; 'agent-identity reinstate DIR everything' lifts that"


def _list_at(chosen: argparse.Namespace) -> bytes | None:
    from agent_identity.cli.terminal.stores import store_of

    store = store_of(chosen)
    if store is None:
        return None
    with contextlib.closing(store):
        kept = store.get("revocations")
    return None if kept is None else kept[1]


def _list_in(root: Path) -> bytes | None:
    """Return the list in the state of the directory.

    Raises:
        StateError: It cannot be read.
    """
    path = root / "state" / "state.sqlite"
    if not path.exists():
        return None
    import sqlite3

    # Without that file no process has it open, and SQLite would create it.
    mode = "mode=ro" if path.with_name("state.sqlite-shm").exists() else "mode=ro&immutable=1"
    uri = f"{path.absolute().as_uri()}?{mode}"
    try:
        with contextlib.closing(sqlite3.connect(uri, timeout=_TIMEOUT, uri=True)) as opened:
            row = opened.execute("SELECT data FROM versions WHERE name = 'revocations'").fetchone()
    except sqlite3.Error as error:
        raise StateError(f"the state of the directory cannot be read ({error}); check its mode and owner") from None
    return None if row is None else row[0]


def _suspends_everything(signed: bytes) -> bool:
    entries = _claims(signed.partition(b"\n")[0]).get("entries")
    kinds = [entry.get("kind") for entry in entries if is_object(entry)] if is_list(entries) else []
    return "everything" in kinds


def _claims(token: bytes) -> Mapping[str, Any]:
    """Return the unverified claims of a compact token; none of what is no token."""
    with contextlib.suppress(ValueError, IndexError):
        body = token.split(b".")[1]
        claims: object = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
        if is_object(claims):
            return claims
    return {}


def _keys(root: Path) -> _Found:
    """Yield the problem of keys that end soon: of each purpose the last one counts."""
    now, problems = int(time.time()), list[str]()
    periods: dict[str, list[Period]] = {"issuer": [], "recorder": []}
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):  # 'doctor' says what is wrong with it.
        for key in json.loads((root / "trust.json").read_bytes())["keys"]:
            if key.get("purpose") in periods and not {"issuer", "origin", "revoked_since"} & key.keys():
                periods[key["purpose"]].append((key.get("not_before"), key.get("not_after")))
    problems += [ending_key(f"{purpose} key", found, now) or "" for purpose, found in periods.items()]
    with contextlib.suppress(OSError):
        claims = _claims((root / "keys" / "recorder.certificate").read_bytes())
        if isinstance(claims.get("exp"), int) and isinstance(claims.get("nbf"), int):
            problems.append(ending_key("recorder certificate", [(claims["nbf"], claims["exp"])], now) or "")
    if any(problems):
        yield "keys", "; ".join(filter(None, problems))


def _exports(root: Path) -> _Found:
    """Yield the problem of receivers that lack a record for long; of streams that ended, 'doctor' tells."""
    layout, now = Layout.of(root), time.time()
    for folder in sorted(Path(layout.exports).glob("*/")):
        with contextlib.suppress(OSError):
            places = ((stream.path, _place_in(folder / stream.name)) for stream in open_streams(layout))
            times = (written_after(path, place, kinds=_SENT) for path, place in places)
            since = min((time_ns for time_ns in times if time_ns is not None), default=None)
            if since is not None and now - since / _NS > _LAGS:
                waited = int(now - since / _NS)
                yield "export", f"a receiver lacks a record of {waited} s ago; 'agent-identity doctor DIR' names it"
                return


def _place_in(cursor: Path) -> int:
    """Return the place up to which a receiver has a stream."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        return int(json.loads(cursor.read_bytes())["seq"])
    return 0
