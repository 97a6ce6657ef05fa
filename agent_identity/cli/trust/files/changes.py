"""``agent-identity trust``: make a trust file, change it, merge several, and have a root sign the result."""

import argparse
import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent_identity._directory.rotation import change_trust
from agent_identity._identity.keys.cosigners import Cosigner
from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.document import check_root, document_of, signed_trust
from agent_identity._identity.trust.entries import FileVersion, TrustedKey, Witnesses
from agent_identity._identity.trust.merge import check_successor, merged, trust_conflicts
from agent_identity._identity.trust.store import TrustStore
from agent_identity.canonical import JSON, encode
from agent_identity.cli.terminal.parsing import moment_ns
from agent_identity.cli.terminal.roots import optional_root, public_key_at, root_signer
from agent_identity.cli.terminal.signing import trust_at, trust_file
from agent_identity.cli.terminal.style import clean
from agent_identity.errors import ConfigurationError

_NS = 1_000_000_000


def run_init(chosen: argparse.Namespace) -> int:
    """Make a trust file, with a root that signs it if one is given."""
    if (chosen.root is None) != (chosen.origin is None):
        raise ConfigurationError("--root and --origin go together; name the logs that the root may certify")
    with _bad("trust file"):
        trust = TrustStore((), file=FileVersion(chosen.id) if chosen.id else FileVersion())
    with optional_root(chosen.root) as root:
        if root is not None:
            with _bad("root"):
                listed = TrustedKey(root.public_key, "root", origin=chosen.origin, issuer=chosen.issuer)
            trust = signed_trust(replace(trust, keys=(listed,)), root)
    trust.create(chosen.file)
    _tell(chosen, trust, chosen.file)
    if root is not None and not chosen.json:
        print(f"\nPin the root where agents cannot write: verify --root {root.public_key.thumbprint}")
    return 0


def run_add(chosen: argparse.Namespace) -> int:
    """Add a key or witness."""

    def add(trust: TrustStore) -> TrustStore:
        with _bad("entry"):
            if chosen.purpose == "witness":
                keys = (*trust.witnesses.keys, Cosigner.from_vkey(chosen.key))
                periods = (*_periods(trust), (_seconds(chosen.start), _seconds(chosen.stop)))
                return _with_witnesses(trust, Witnesses(keys, chosen.require or trust.witnesses.required, periods))
            return trust.with_key(
                public_key_at(chosen.key),
                chosen.purpose,
                not_before=_seconds(chosen.start),
                not_after=_seconds(chosen.stop),
                issuer=chosen.issuer,
                origin=chosen.origin,
                recorders_only=chosen.recorders_only,
            )

    return _change(chosen, add)


def run_remove(chosen: argparse.Namespace) -> int:
    """Remove the entries of a key or witness."""

    def remove(trust: TrustStore) -> TrustStore:
        gone = [entry for entry in trust.keys if entry.key.thumbprint == chosen.key]
        witnesses = [one for one in trust.witnesses.keys if chosen.key in (one.vkey, one.key.thumbprint)]
        if not gone and not witnesses:
            raise ConfigurationError(
                "the trust file lists no such key or witness; 'agent-identity trust list' shows its entries"
            )
        if any(entry.revoked_since is not None for entry in gone):
            raise ConfigurationError(
                "the key is revoked, and a file without it would make its signatures merely unknown; leave it listed"
            )
        following = trust.with_keys(tuple(entry for entry in trust.keys if entry not in gone))
        return replace(following, witnesses=_without(trust, witnesses, chosen.require)) if witnesses else following

    return _change(chosen, remove)


def _without(trust: TrustStore, gone: Sequence[Cosigner], require: int | None) -> Witnesses:
    pairs = [pair for pair in zip(trust.witnesses.keys, _periods(trust), strict=True) if pair[0] not in gone]
    required = require or trust.witnesses.required if pairs else None
    with _bad("witnesses"):
        return _plain(Witnesses(tuple(key for key, _ in pairs), required, tuple(period for _, period in pairs)))


def run_merge(chosen: argparse.Namespace) -> int:
    """Merge trust files into an unsigned one."""
    trust = merged(*(trust_at(trust_file(path)) for path in chosen.files))
    trust.create(chosen.output)
    _tell(chosen, trust, chosen.output)
    return 0


def run_sign(chosen: argparse.Namespace) -> int:
    """Sign a trust file that follows the one in force."""
    given, now = trust_at(Path(chosen.file)), int(time.time())
    kept = None if chosen.after is None else trust_at(Path(chosen.after))
    if kept is not None:  # Before the key signs anything.
        check_successor(replace(kept, file=replace(kept.file, signature=None)), given, at=now)
    with root_signer(chosen.root) as root:
        listed = given.get(root.public_key.thumbprint, "root")
        if listed is not None and not listed.in_time(now):
            raise ConfigurationError("the root does not count now, by its own entry; sign with a root that does")
        signed = signed_trust(given, root)
    if kept is not None:
        check_successor(kept, signed, at=now)
    out = chosen.output or chosen.file
    signed.save(out)
    _tell(chosen, signed, out)
    if not chosen.json:
        print("\n".join(_differences(kept or TrustStore(()), signed)))
    return 0


def _change(chosen: argparse.Namespace, change: Callable[[TrustStore], TrustStore]) -> int:
    """Write what follows a trust file: over it, or as a draft somewhere else."""
    with optional_root(chosen.root) as root:

        def checked(trust: TrustStore) -> TrustStore:
            _check_line(trust, root, chosen)
            return change(trust)

        if chosen.output is None:
            following = change_trust(chosen.file, checked, root)
        else:
            following = checked(trust_at(trust_file(chosen.file)))
            following = following if root is None else signed_trust(following, root)
            following.create(chosen.output)
    _tell(chosen, following, chosen.output or trust_file(chosen.file))
    return 0


def _check_line(trust: TrustStore, root: Signer | None, chosen: argparse.Namespace) -> None:
    """Check that a signed file stays one: the root signs only what follows from a file that it signed itself.

    Raises:
        ConfigurationError: It did not sign this file, or no root is given for a signed file.
    """
    if root is None:
        if trust.file.signature is not None and chosen.output is None:
            raise ConfigurationError(
                "a root signed this trust file, and the change would leave it unsigned; give --root to sign the next "
                "one, or -o DRAFT to write a draft that 'agent-identity trust sign' signs"
            )
        return
    try:
        check_root(trust, root.public_key, at=int(time.time()))
    except ConfigurationError:
        raise ConfigurationError(
            "this root did not sign the trust file as it stands, so others may have written it; look at it with "
            "'agent-identity trust list', then sign it with 'agent-identity trust sign', which asks what it follows",
            code="bad_trust_signature",
        ) from None


@contextlib.contextmanager
def _bad(what: str) -> Generator[None]:
    """Turn a broken rule of an entry into an error of the command."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"bad {what}: {error}") from None


def _seconds(text: str | None) -> int | None:
    return None if text is None else moment_ns(text) // _NS


def _periods(trust: TrustStore) -> tuple[tuple[int | None, int | None], ...]:
    return trust.witnesses.periods or ((None, None),) * len(trust.witnesses.keys)


def _plain(witnesses: Witnesses) -> Witnesses:
    """Return witnesses without periods where none has one, which is how files are read."""
    bounded = any(period != (None, None) for period in witnesses.periods)
    return witnesses if bounded else replace(witnesses, periods=())


def _with_witnesses(trust: TrustStore, witnesses: Witnesses) -> TrustStore:
    return replace(trust.with_keys(trust.keys), witnesses=_plain(witnesses))


def _tell(chosen: argparse.Namespace, trust: TrustStore, path: object) -> None:
    file = trust.file
    if chosen.json:
        print(json.dumps({"path": str(path), "id": file.id, "revision": file.revision, "signed": bool(file.signature)}))
        return
    state = "not signed" if file.signature is None else "signed by a root"
    print(f"{clean(str(path))}: {clean(file.id)}, revision {file.revision}, {state}")
    for conflict in trust_conflicts(trust):
        print(f"  {clean(str(conflict))}")


def _differences(kept: TrustStore, given: TrustStore) -> Iterator[str]:
    """Yield what is new in a trust file and what is gone, one entry a line, for the person who signs it."""
    before, after = _entries(kept), _entries(given)
    yield from (f"  + {text}" for data, text in after.items() if data not in before)
    yield from (f"  - {text}" for data, text in before.items() if data not in after)


def _entries(trust: TrustStore) -> dict[bytes, str]:
    document = document_of(trust)
    keys = document.pop("keys")
    entries = {encode(one): _entry(one) for one in keys if isinstance(one, dict)} if isinstance(keys, list) else {}
    names = {name: document[name] for name in ("issuer", "origin", "quorum") if name in document}
    return entries | {encode([name, value]): clean(f"{name} {value}") for name, value in names.items()}


def _entry(entry: dict[str, JSON]) -> str:
    name = entry.get("kid") or entry.get("vkey") or entry.get("person")
    facts = ("origin", "issuer", "not_before", "not_after", "revoked_since", "recorders_only")
    known = (f"{fact}={entry[fact]}" for fact in facts if fact in entry)
    return clean(" ".join([f"{entry['purpose']} {name}", *known]))
