"""``agent-identity trust list`` and ``trust check``: what a trust file says, and what is wrong with it."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal, final

from agent_identity._identity.common.private_files import read_public_file
from agent_identity._identity.trust.approvers import Approver
from agent_identity._identity.trust.document import check_pin
from agent_identity._identity.trust.entries import FileVersion, TrustedKey
from agent_identity._identity.trust.merge import merged, trust_conflicts
from agent_identity._identity.trust.store import TrustStore
from agent_identity.cli.terminal.roots import pin_at
from agent_identity.cli.terminal.signing import trust_at, trust_file
from agent_identity.cli.terminal.style import Style, clean, columns, hanging, table, time_shown
from agent_identity.errors import ConfigurationError

_MAX: Final = 1 << 20
_SOON: Final = 30 * 24 * 3600
_COLORS: Final = {"problem": "red", "notice": "yellow"}


def run_list(chosen: argparse.Namespace) -> int:
    """List the entries of a trust file."""
    trust = trust_at(trust_file(chosen.path))
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
        ("approver", clean(one.person), time_shown(one.not_before), time_shown(one.not_after), _doubt(one))
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
    return key.purpose, key.key.thumbprint, time_shown(key.not_before), time_shown(key.not_after), _doubt(key)


def _doubt(key: TrustedKey | Approver) -> str:
    if key.revoked_since is None:
        return ""
    return time_shown(key.revoked_since) + (f" ({clean(key.reason)})" if key.reason else "")


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a trust file that needs attention, or a look.

    Attributes:
        file: The path of the file.
        level: ``"problem"`` if it has to be repaired.
        code: Its kind.
        message: What is the case, and the cure.
    """

    file: str
    level: Literal["problem", "notice"]
    code: str
    message: str


def run_check(chosen: argparse.Namespace) -> int:
    """Check trust files, each by itself and together."""
    now = int(time.time())
    found: list[Finding] = []
    stores: list[tuple[str, TrustStore]] = []
    for path in chosen.paths:
        trust = _loaded(path, found)
        if trust is not None:
            stores.append((path, trust))
            found += [Finding(path, level, code, text) for level, code, text in _of_file(trust, chosen.root, now)]
    found += _between(stores)
    bad = any(one.level == "problem" for one in found)
    if chosen.json:
        print(json.dumps({"sound": not bad, "findings": [asdict(one) for one in found]}))
        return int(bad)
    style, room = Style(sys.stdout), columns(sys.stdout)
    for one in found:
        text = hanging(clean(f"{one.file}: {one.code}: {one.message}"), len(one.level) + 2, room)
        print(f"{style.paint(one.level, _COLORS[one.level])}  {text}")
    if not bad:
        print(f"sound: {', '.join(clean(path) for path, _ in stores)}")
    return int(bad)


def _loaded(path: str, found: list[Finding]) -> TrustStore | None:
    """Return a trust file even if others can write it, which is a finding; ``None`` if it cannot be read."""
    file = trust_file(path)
    try:
        return trust_at(file)
    except ConfigurationError as error:
        found.append(Finding(path, "problem", error.code, str(error)))
        if error.code != "writable_by_all":
            return None
    return TrustStore.load(read_public_file(file, limit=_MAX))


_Said = tuple[Literal["problem", "notice"], str, str]


def _of_file(trust: TrustStore, root: str | None, now: int) -> Iterator[_Said]:
    """Yield what one trust file shows."""
    yield from _of_signature(trust, root)
    for conflict in trust_conflicts(trust):
        yield "problem", "roots_overlap", str(conflict)
    for entry in trust.keys:
        name = f"the {entry.purpose} key {entry.key.thumbprint}"
        if entry.revoked_since is None:
            yield from _of_time(name, entry.not_after, now)
    for witness, (_, until) in zip(trust.witnesses.keys, trust.witnesses.periods, strict=False):
        yield from _of_time(f"the witness {witness.name!a}", until, now)
    for approver in trust.approvers:
        yield from _of_time(f"a credential of {approver.person!a}", approver.not_after, now)


def _of_signature(trust: TrustStore, root: str | None) -> Iterator[_Said]:
    file = trust.file
    if root is not None:
        try:
            check_pin(trust, pin_at(root), 1)
        except ConfigurationError as error:
            yield "problem", error.code, str(error)
    elif file.merged_from:
        cure = "run 'agent-identity trust sign FILE --root KEY --after KEPT'"
        yield "problem", "unsigned_merge", f"it is merged from {len(file.merged_from)} files and not signed; {cure}"
    elif file.signature is None:
        yield "notice", "self_asserted", "no root signed it, so it is worth as much as the place where it is kept"
    else:
        yield "notice", "not_pinned", "a root of its own signed it, which anyone can arrange; give --root KEY"


def _of_time(name: str, until: int | None, now: int) -> Iterator[_Said]:
    if until is not None and until < now + _SOON:
        word, code = ("ended", "expired") if until < now else ("ends", "expires_soon")
        yield "notice", code, f"{name} {word} at {time_shown(until)}"


def _between(stores: Sequence[tuple[str, TrustStore]]) -> Iterator[Finding]:
    """Yield the conflicts between files, each later one with those before it that fit together."""
    together = stores[0][1] if stores else TrustStore(())
    for path, trust in stores[1:]:
        try:
            both = merged(together, trust)
        except ConfigurationError as error:
            yield Finding(path, "problem", error.code, str(error))
            continue
        before = set(map(str, (*trust_conflicts(together), *trust_conflicts(trust))))
        for conflict in map(str, trust_conflicts(both)):
            if conflict not in before:
                yield Finding(path, "problem", "roots_overlap", conflict)
        together = both
