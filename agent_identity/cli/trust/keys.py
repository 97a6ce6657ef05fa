"""``agent-identity keys``: create, rotate and revoke keys, and show their public parts."""

import argparse
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from agent_identity._directory.key_folders import outer_folder
from agent_identity._directory.open import prepare
from agent_identity._directory.rotation import Rotated, record_rotation, revoke, rotate
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity._identity.keys.keys import SigningKey
from agent_identity._identity.trust.approvers import Approver
from agent_identity._identity.trust.entries import FileVersion, TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity.cli.terminal.signing import opened_ledger, trust_at
from agent_identity.cli.terminal.style import clean, columns, moment, table
from agent_identity.errors import ConfigurationError

_YEAR_9999: Final = 253_402_300_799
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def run_new(chosen: argparse.Namespace) -> int:
    """Create a key file."""
    key = SigningKey.generate()
    key.save(chosen.path)
    if chosen.json:
        print(json.dumps({"path": chosen.path, "key": key.public_key.thumbprint}))
    else:
        print(f"{clean(chosen.path)}: {key.public_key.thumbprint}")
    return 0


def run_public(chosen: argparse.Namespace) -> int:
    """Print the public part of a key file."""
    public = SigningKey.load(chosen.path).public_key
    print(json.dumps({**public.to_jwk(), "alg": "EdDSA", "kid": public.thumbprint}, indent=2))
    return 0


def run_list(chosen: argparse.Namespace) -> int:
    """List the keys of a trust file."""
    path = Path(chosen.path)
    if path.is_dir():
        path /= "trust.json"
    trust = trust_at(path)
    if chosen.json:
        print(trust.to_json().decode(), end="")
        return 0
    print(f"file    {clean(trust.file.id)}, revision {trust.file.revision}, {_state(trust.file)}")
    print(f"issuer  {clean(trust.issuer or 'not named')}\nlog     {clean(trust.origin or 'not pinned')}\n")
    print("\n".join(_tables(trust)))
    return 0


def _state(file: FileVersion) -> str:
    if file.merged_from:
        return f"merged from {len(file.merged_from)} and not signed"
    return "not signed" if file.signature is None else "signed by a root"


def _tables(trust: TrustStore) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("PURPOSE", "KEY", "VALID FROM", "VALID UNTIL", "REVOKED SINCE")]
    rows += [_row(key) for key in trust.keys]
    rows += [
        ("approver", clean(one.person), _time(one.not_before), _time(one.not_after), _doubt(one))
        for one in trust.approvers
    ]
    if not any(row[-1] for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    yield from table(_with_logs(rows, trust), indent="", room=columns(sys.stdout))
    if trust.witnesses.keys:
        yield f"\nwitnesses, of which {trust.witnesses.quorum} must vouch for the log"
        yield from (f"  {clean(witness.vkey)}" for witness in trust.witnesses.keys)


def _with_logs(rows: list[tuple[str, ...]], trust: TrustStore) -> list[tuple[str, ...]]:
    """Return the rows with the log of each key, if any key names one."""
    if all(key.origin is None for key in trust.keys):
        return rows
    logs = (
        "LOG",
        *(clean(key.origin or "") for key in trust.keys),
        *("" for _ in trust.approvers),
    )
    return [(*row, log) for row, log in zip(rows, logs, strict=True)]


def _row(key: TrustedKey) -> tuple[str, ...]:
    return key.purpose, key.key.thumbprint, _time(key.not_before), _time(key.not_after), _doubt(key)


def run_rotate(chosen: argparse.Namespace) -> int:
    """Rotate keys of a directory."""
    if chosen.evidence is not None and not Path(chosen.evidence).is_dir():
        raise ConfigurationError("the path of --evidence is not a directory; name the one with the log")
    now, overlap = int(time.time()), _duration(chosen.overlap)
    root = None if chosen.root is None else SigningKey.load(chosen.root)
    done = rotate(
        chosen.path,
        chosen.purposes,
        now=now,
        overlap=overlap,
        evidence=chosen.evidence,
        root_key=root,
        keys=chosen.keys,
    )
    _record(chosen, done)
    if chosen.json:
        print(json.dumps({"keys": [{"new": _facts(one.new), "old": _facts(one.old)} for one in done]}))
        return 0
    _tell_rotation(chosen, done)
    return 0


def _tell_rotation(chosen: argparse.Namespace, done: Sequence[Rotated]) -> None:
    for one in done:
        print(one.new.purpose)
        print(f"  new key  {one.new.key.thumbprint}  from {_time(one.new.not_before)}")
        print(f"  old key  {one.old.key.thumbprint}  until {_time(one.old.not_after)}")
    print("\nRunning processes accept the new keys; open the directory again before the old keys end.")
    _tell_unsigned(chosen)
    print(f"Give {clean(chosen.path)}/trust.json to the verifiers.")


def _tell_unsigned(chosen: argparse.Namespace) -> None:
    path = Path(chosen.path)
    trust = TrustStore.load(path / "trust.json" if path.is_dir() else path)
    if chosen.root is None and any(entry.purpose == "root" for entry in trust.keys):
        print("No root signed the new trust.json: processes that follow a root do not accept it; use --root FILE.")


def _record(chosen: argparse.Namespace, done: Sequence[Rotated]) -> None:
    """Record a rotation under the new keys."""
    _, recorder, trust = prepare(chosen.path, SystemClock(), RandomIds(), chosen.keys)
    own = chosen.evidence is None
    directory = chosen.path if own else chosen.evidence
    with opened_ledger(directory, recorder, trust, outer_folder(directory, chosen.keys) if own else None) as ledger:
        record_rotation(ledger, done)


def run_revoke(chosen: argparse.Namespace) -> int:
    """Revoke a key of a trust file."""
    since = _moment(chosen.since)
    if since > time.time():
        raise ConfigurationError("the time is in the future; give the earliest that you suspect")
    root = None if chosen.root is None else SigningKey.load(chosen.root)
    revoked = revoke(chosen.path, chosen.key, since=since, reason=chosen.reason, root_key=root, keys=chosen.keys)
    if chosen.json:
        print(json.dumps({"keys": [_facts(entry) for entry in revoked]}))
        return 0
    for entry in revoked:
        print(f"{entry.purpose} key {entry.key.thumbprint} is revoked since {_time(entry.revoked_since)}")
    print()
    _tell_unsigned(chosen)
    print("Its signatures count only as far as an earlier checkpoint covers them: 'verify --checkpoint FILE'.")
    print("Rotate it where it is in use ('keys rotate'), and give the trust file to the verifiers.")
    return 0


def _facts(key: TrustedKey) -> dict[str, object]:
    times = {"not_before": key.not_before, "not_after": key.not_after, "revoked_since": key.revoked_since}
    return {"purpose": key.purpose, "key": key.key.thumbprint, **times}


def _duration(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if not match:
        raise ConfigurationError(f"{text!r} is not a duration; write one such as 30m, 24h or 7d")
    return int(match[1]) * _SECONDS[match[2]]


def _moment(text: str) -> int:
    """Return a time in Unix seconds, rounded down, so that no doubtful signature counts."""
    if text.isascii() and text.isdigit() and len(text) <= 12:
        return int(text)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise ConfigurationError(
            f"{text!r} is not a time with its zone; write one such as 2026-11-24T09:30:00Z, or Unix seconds"
        )
    return int(read.timestamp() // 1)


def _doubt(key: TrustedKey | Approver) -> str:
    if key.revoked_since is None:
        return ""
    return _time(key.revoked_since) + (f" ({clean(key.reason)})" if key.reason else "")


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "always"
    return moment(seconds * 1_000_000_000) if seconds <= _YEAR_9999 else f"{seconds} s"
