"""``agent-identity revoke``, ``reinstate`` and ``revocations``: the kill switch and its list."""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, get_args

from agent_identity._authority.registries.revocations import (
    EVERYTHING,
    MAX_LIST,
    Revocation,
    RevocationList,
    RevokedKind,
    successors_in,
)
from agent_identity._directory.open import pseudonyms_of
from agent_identity._guard.judging.revocations import LIST_NAME, read_list
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.keys.jws import parse_compact
from agent_identity._identity.trust.store import TrustStore
from agent_identity._identity.trust.successors import MAX_SUCCESSOR
from agent_identity._ledger.reader import RawLine, open_ledger
from agent_identity._record.codec import decode
from agent_identity.canonical import encode
from agent_identity.cli.control.opened import NS, opened, trust_file
from agent_identity.cli.terminal.signing import refuse_inside, secrets_of
from agent_identity.cli.terminal.stores import reading_state, store_of
from agent_identity.cli.terminal.style import Style, clean, columns, moment, table
from agent_identity.errors import ConfigurationError, TokenError

_KINDS: Final = get_args(RevokedKind)
_RECORDED: Final = frozenset({"task", "grant", "agent", "human", "service"})


def run(chosen: argparse.Namespace) -> int:
    """Revoke or suspend a target."""
    kind, name = _target(chosen)
    with opened(chosen, store_of(chosen)) as enforcer:
        try:
            enforcer.revoke(kind, name, reason=chosen.reason, suspend=chosen.suspend)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        listed = enforcer.revocations.current
        signed = enforcer.revocations.export()
    entry = listed.get(kind, name)
    _tell(chosen, kind, name, entry.status if entry else "suspended" if chosen.suspend else "revoked", listed.version)
    _tell_unread(chosen.directory, signed)
    if kind in _RECORDED and not _is_recorded(chosen, name):
        print(f"no record of this directory names the {kind} {clean(name)}; check the spelling", file=sys.stderr)
    return 0


def _tell_unread(directory: str, signed: bytes) -> None:
    """Tell which processes cannot read a list yet, because nothing leads them to the key that signed it."""
    kid = parse_compact(signed.partition(b"\n")[0].decode("ascii"), most=MAX_LIST).kid or ""
    entry = TrustStore.load(trust_file(directory)).get(kid, "issuer")
    if entry is None or entry.not_before is None or any(_names(token, kid) for token in successors_in(signed)):
        return
    streams = open_ledger(directory)
    running = sum(_runs_since_before(streams.entries(stream), entry.not_before) for stream in streams.streams())
    print(
        f"processes that opened the directory before {moment(entry.not_before * NS)} cannot read this list, because no "
        f"key of theirs announced the one that signed it; {running} of its streams began before and have no end. They "
        "refuse every call (revocations_unreadable) until they open the directory again",
        file=sys.stderr,
    )


def _names(token: str, kid: str) -> bool:
    """Return whether a successor names a key; False for a token that is no successor."""
    try:
        return kid.encode() in parse_compact(token, most=MAX_SUCCESSOR).payload
    except TokenError:
        return False


def _runs_since_before(lines: Iterable[RawLine], seconds: int) -> bool:
    """Return whether a stream began before a time and has no end; its process may also have been killed."""
    records = [line.record for line in lines if line.record is not None]
    if not records or b'"kind":"stream_end"' in records[-1]:
        return False
    return decode(records[0]).time.start_ns < seconds * NS


def _is_recorded(chosen: argparse.Namespace, name: str) -> bool:
    """Return whether a record other than a revocation names the target; ``True`` where names are pseudonyms."""
    if pseudonyms_of(secrets_of(chosen), wanted=False) is not None:
        return True
    reader, wanted = open_ledger(chosen.directory), encode(name)
    lines = (line.record for stream in reader.streams() for line in reader.entries(stream))
    return any(data is not None and wanted in data and b'"kind":"revocation"' not in data for data in lines)


def run_reinstate(chosen: argparse.Namespace) -> int:
    """Lift a suspension."""
    refuse_inside(chosen)
    kind, name = _target(chosen)
    with opened(chosen, store_of(chosen)) as enforcer:
        try:
            enforcer.reinstate(kind, name)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
        version = enforcer.revocations.current.version
        signed = enforcer.revocations.export()
    _tell(chosen, kind, name, "reinstated", version)
    _tell_unread(chosen.directory, signed)
    return 0


def run_list(chosen: argparse.Namespace) -> int:
    """List the revocations."""
    if chosen.sign_again or chosen.adopt:
        with opened(chosen, store_of(chosen)) as enforcer:
            if chosen.sign_again:
                enforcer.revocations.sign_again()
            if chosen.adopt:
                enforcer.revocations.adopt(Path(chosen.adopt).read_bytes())
    signed = _signed_list(chosen)
    if chosen.export:
        if signed is None:
            raise ConfigurationError("nothing has been revoked yet, so there is no list to export")
        Path(chosen.export).write_bytes(signed)
    directory = trust_file(chosen.directory).parent
    listed = RevocationList() if signed is None else read_list(directory, signed, SystemClock())
    _show(chosen, listed)
    return 0


def _show(chosen: argparse.Namespace, listed: RevocationList) -> None:
    if chosen.json:
        entries = [entry.to_claim() for entry in listed.entries]
        print(json.dumps({"version": listed.version, "issued_at": listed.issued_at, "entries": entries}))
        return
    if not listed.entries:
        print("nothing is revoked")
        return
    style = Style(sys.stdout)
    lines = table([_row(entry) for entry in listed.entries], room=columns(sys.stdout))
    for entry, line in zip(listed.entries, lines, strict=True):
        print(style.paint(line, "red" if entry.status == "revoked" else "yellow"))
    print(style.paint(f"\nversion {listed.version} of {moment(listed.issued_at * NS)}", "dim"))


def _signed_list(chosen: argparse.Namespace) -> bytes | None:
    """Return the newest signed list, read-only and without a private key."""
    with reading_state(chosen) as state:
        kept = state.get(LIST_NAME)
    return None if kept is None else kept[1]


def _row(entry: Revocation) -> tuple[str, ...]:
    name = "" if entry.name == EVERYTHING else clean(entry.name)
    return (entry.status, entry.kind, name, moment(entry.since * NS), clean(entry.reason or ""))


def _target(chosen: argparse.Namespace) -> tuple[RevokedKind, str]:
    kind = chosen.kind
    name = EVERYTHING if kind == "everything" and chosen.name is None else chosen.name
    if name is None:
        raise ConfigurationError(f"the name of the {kind} is missing; give it after the word {kind}")
    return kind, name


def _tell(chosen: argparse.Namespace, kind: str, name: str, status: str, version: int) -> None:
    if chosen.json:
        print(json.dumps({"kind": kind, "name": name, "status": status, "version": version}))
        return
    what = "everything" if kind == "everything" else f"{kind} {clean(name)}"
    print(f"{what}: {status}, in version {version} of the list")
    if chosen.state is None:
        print("it reaches the processes of this directory; use --state URL to reach machines that share a store")
