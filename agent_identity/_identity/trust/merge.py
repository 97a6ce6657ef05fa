"""Merging of trust files, checking of successors, and detection of conflicts inside a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final, TypeVar, final

from agent_identity._identity.common.periods import MAX_TIME
from agent_identity._identity.trust._origins import is_prefix, overlap
from agent_identity._identity.trust.approvers import Approver
from agent_identity._identity.trust.document import bad_signature, check_signature, document_of
from agent_identity._identity.trust.entries import FileVersion, TrustedKey, Witnesses
from agent_identity._identity.trust.store import TrustStore
from agent_identity.errors import ConfigurationError

Entry = TypeVar("Entry", TrustedKey, Approver)

_MAX_MERGED: Final = 1_024


@final
@dataclass(frozen=True, slots=True)
class TrustConflict:
    """Two roots of one trust file that may certify keys for the same log.

    Args:
        first: One root.
        second: The other.
    """

    first: TrustedKey
    second: TrustedKey

    def __str__(self) -> str:
        roots = " and ".join(f"{key.key.thumbprint} ({key.origin!a})" for key in (self.first, self.second))
        return f"the roots {roots} may certify keys for the same logs; give them origins that do not overlap"


def trust_conflicts(trust: TrustStore) -> tuple[TrustConflict, ...]:
    """Return the pairs of roots that may certify keys for the same log at the same time; revoked ones certify none."""
    roots = [key for key in trust.keys if key.purpose == "root" and key.sound]
    return tuple(
        TrustConflict(first, second)
        for first, second in combinations(roots, 2)
        if _at_one_time(first, second) and overlap(first.origin or "", second.origin or "")
    )


def _at_one_time(first: TrustedKey, second: TrustedKey) -> bool:
    ends = [MAX_TIME if key.not_after is None else key.not_after for key in (first, second)]
    return max(first.not_before or 0, second.not_before or 0) <= min(ends)


def merged(first: TrustStore, *others: TrustStore) -> TrustStore:
    """Return one store for the evidence of all: unsigned, with the id of the first file and the next revision.

    Names that stood for a whole file stand beside each of its keys afterwards, so that no key counts for more than
    before for the logs of its file. Of a key that one file calls revoked, the earliest time stays. It names the files
    that it was made of until a root signs it.

    Args:
        first: The store whose file goes on.
        others: The others.

    Raises:
        ConfigurationError: The revision of the first is the last one; or two files disagree about a key, a
            credential or witnesses, or what bounds the keys of a file would be lost (code
            ``trust_conflict``).
    """
    stores = (first, *others)
    keys: dict[object, TrustedKey] = {}
    approvers: dict[object, Approver] = {}
    for store in stores:
        for key in map(_with_names, store.keys, [store] * len(store.keys)):
            name = (key.key, key.purpose)
            keys[name] = _agreed(keys.get(name), key, f"the {key.purpose} key {key.key.thumbprint}")
        for approver in store.approvers:
            what = f"a credential of {approver.person!a}"
            approvers[approver.credential] = _agreed(approvers.get(approver.credential), approver, what)
    sources = tuple(dict.fromkeys(source for store in stores for source in _sources(store)))
    if len(sources) > _MAX_MERGED:
        raise ConfigurationError(f"there are {len(sources)} files to merge, more than {_MAX_MERGED}")
    origins = {store.origin for store in stores}
    return replace(
        first,
        keys=tuple(keys.values()),
        issuer=_issuer(stores),
        origin=origins.pop() if len(origins) == 1 else None,
        witnesses=_witnesses(stores),
        approvers=tuple(approvers.values()),
        file=FileVersion(first.file.id, first.file.following(), merged_from=sources),
    )


def check_successor(kept: TrustStore, given: TrustStore, *, at: int) -> None:
    """Check that a trust file may replace an earlier one.

    Args:
        kept: The file so far.
        given: The file that is to follow.
        at: The time now, in seconds since the Unix epoch.

    Raises:
        ConfigurationError: It has another id or an older revision, the same one with another content, or takes back
            that a key or credential is revoked (code ``trust_rolled_back``); or the kept file was signed, and no root
            of it that counts now signed the other (code ``bad_trust_signature``).
    """
    if given.file.id != kept.file.id:
        raise _rolled_back(f"the trust file is not {kept.file.id!a}")
    if given.file.revision < kept.file.revision:
        raise _rolled_back(f"the revision {given.file.revision} is older than {kept.file.revision}")
    if given.file.revision == kept.file.revision and document_of(given) != document_of(kept):
        raise _rolled_back("the content changed, but the revision is the same")
    doubts = _doubts(given)
    for name, since in _doubts(kept).items():
        if doubts.get(name, MAX_TIME + 1) > since:
            raise _rolled_back("a revoked key or credential is not listed any more, or revoked later than before")
    if kept.file.signature is not None:
        if given.file.signature is None:
            raise bad_signature("nobody signed the file, but a root signed the one before")
        # By a root that was known before: a file can list any root of its own.
        root = kept.get(check_signature(given.file.signature, document_of(given), kept), "root")
        if root is None or not root.in_time(at):
            raise bad_signature("the root that signed the file does not count now")


def _doubts(trust: TrustStore) -> dict[object, int]:
    """Return the revocation time of each revoked key and credential."""
    since: dict[object, int] = {}
    for key in trust.keys:
        if key.revoked_since is not None:
            since[key.key, key.purpose] = key.revoked_since
    for approver in trust.approvers:
        if approver.revoked_since is not None:
            since[approver.credential] = approver.revoked_since
    return since


def _rolled_back(message: str) -> ConfigurationError:
    return ConfigurationError(f"{message}; keep the one that you have", code="trust_rolled_back")


def _with_names(key: TrustedKey, store: TrustStore) -> TrustedKey:
    """Return a key with the names that its file gives to all of its keys."""
    if key.purpose == "issuer" and key.issuer is None:
        return replace(key, issuer=store.issuer)
    if key.purpose in ("recorder", "closer") and key.origin is None and store.origin is not None:
        if is_prefix(store.origin):
            raise _conflict("the log of a file ends in '/', which beside a key would be a prefix")
        return replace(key, origin=store.origin)
    return key


def _agreed(known: Entry | None, entry: Entry, what: str) -> Entry:
    """Return the single entry of two for the same key."""
    if known is None or known == entry:
        return entry
    earliest = min((one for one in (known, entry) if one.revoked_since is not None), key=_since, default=entry)
    pair = [replace(one, revoked_since=earliest.revoked_since, reason=earliest.reason) for one in (known, entry)]
    if pair[0] != pair[1]:
        raise _conflict(
            f"two files do not say the same of {what}, such as its period; remove it from the one that is not its own"
        )
    return pair[0]


def _since(entry: TrustedKey | Approver) -> tuple[int, str]:
    return (MAX_TIME if entry.revoked_since is None else entry.revoked_since, entry.reason or "")


def _sources(store: TrustStore) -> Iterator[str]:
    """Return the entries of a merged file for its source files."""
    if store.file.merged_from:
        yield from store.file.merged_from
    else:
        yield f"{store.file.id}#{store.file.revision}"


def _issuer(stores: Sequence[TrustStore]) -> str | None:
    """Return the issuer of the file, where all files name one.

    Where a file names one, only its keys sign rulings and lists of the organization, and no partner's.
    """
    issuers = {store.issuer for store in stores}
    if len(issuers) == 1:
        return issuers.pop()
    for store in stores:
        named = {key.issuer for key in store.keys if key.purpose == "issuer"} - {None, store.issuer}
        if named and store.issuer is not None:
            raise _conflict(
                "the files are of several issuers and have keys of other issuers beside their own, which "
                "would sign for the organization as well; verify under each file by itself"
            )
    return None


def _witnesses(stores: Sequence[TrustStore]) -> Witnesses:
    """Return the witnesses; a file without any requires none, and takes over the requirement of the others."""
    witnesses = {store.witnesses for store in stores if store.witnesses.keys}
    if len(witnesses) > 1:
        raise _conflict("the files have different witnesses; verify under each file by itself")
    return witnesses.pop() if witnesses else Witnesses(())


def _conflict(message: str) -> ConfigurationError:
    return ConfigurationError(message, code="trust_conflict")
