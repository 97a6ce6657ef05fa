"""``agent-identity keys``: create, rotate and revoke keys, and show their public parts."""

import argparse
import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from agent_identity._directory.key_folders import outer_folder
from agent_identity._directory.open import prepare
from agent_identity._directory.rotation import Rotated, record_rotation, revoke, rotate
from agent_identity._identity.common.clock import SystemClock
from agent_identity._identity.common.ids import RandomIds
from agent_identity._identity.keys.keys import SigningKey
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity.cli.terminal.parsing import duration
from agent_identity.cli.terminal.roots import optional_root
from agent_identity.cli.terminal.signing import opened_ledger
from agent_identity.cli.terminal.style import clean, time_shown
from agent_identity.errors import ConfigurationError


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


def run_rotate(chosen: argparse.Namespace) -> int:
    """Rotate keys of a directory."""
    if chosen.evidence is not None and not Path(chosen.evidence).is_dir():
        raise ConfigurationError("the path of --evidence is not a directory; name the one with the log")
    now, overlap = int(time.time()), duration(chosen.overlap)
    with optional_root(chosen.root) as root:
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
        print(f"  new key  {one.new.key.thumbprint}  from {time_shown(one.new.not_before)}")
        print(f"  old key  {one.old.key.thumbprint}  until {time_shown(one.old.not_after)}")
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
    with optional_root(chosen.root) as root:
        revoked = revoke(chosen.path, chosen.key, since=since, reason=chosen.reason, root_key=root, keys=chosen.keys)
    if chosen.json:
        print(json.dumps({"keys": [_facts(entry) for entry in revoked]}))
        return 0
    for entry in revoked:
        print(f"{entry.purpose} key {entry.key.thumbprint} is revoked since {time_shown(entry.revoked_since)}")
    print()
    _tell_unsigned(chosen)
    print("Its signatures count only as far as an earlier checkpoint covers them: 'verify --checkpoint FILE'.")
    print("Rotate it where it is in use ('keys rotate'), and give the trust file to the verifiers.")
    return 0


def _facts(key: TrustedKey) -> dict[str, object]:
    times = {"not_before": key.not_before, "not_after": key.not_after, "revoked_since": key.revoked_since}
    return {"purpose": key.purpose, "key": key.key.thumbprint, **times}


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
