"""Finds the starts of pruned streams and of excerpts, and verifies the statements about them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from agent_identity._common.narrowing import is_object
from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.trust.entries import TrustedKey
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.excerpt_starts import Excerpt, Start
from agent_identity._ledger.prune_statement import PruneStatement, open_pruned, unverified_pruned
from agent_identity._ledger.reader import LedgerReader
from agent_identity._ledger.segments import Segment
from agent_identity._ledger.transparency.checkpoint import KnownKeys
from agent_identity._ledger.transparency.merkle import leaf_hash
from agent_identity._record.codec import plain_members
from agent_identity._storage.lines import stream_parts
from agent_identity._verify.ledger.log_check import Heads
from agent_identity._verify.report.findings import Findings, Place
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import VerificationError

_ALL: Final = 7
_NS: Final = 1_000_000_000
_KEPT: Final[Mapping[str, tuple[str, str]]] = {
    "missing": (
        "kept_grants_missing",
        "grants that were kept at a pruning are missing; chains with one of them are not checked",
    ),
    "changed": (
        "kept_grants_changed",
        "the kept grants differ from those that the statement of the pruning names; none of them was taken",
    ),
}


def find_pruned(
    reader: LedgerReader,
    names: Iterable[str],
    heads: Mapping[str, Heads],
    trust: TrustStore | None,
    findings: Findings,
) -> dict[str, PruneStatement]:
    """Return the proved pruning statements of streams that do not begin with their first record.

    1. The statement beside the stream is signed by a trusted recorder key that is not revoked (C2SP signed-note), a
       certified one in the time of its certificate.
    2. It is about this stream, under the trusted origin.
    3. The log commits to at least as many records of the stream.

    The heads, with the remaining records, show that its compact range is that of the pruned records. Where the first
    records are present, the statement is not needed and not read.

    Args:
        reader: The directory.
        names: Its streams.
        heads: The heads of each stream in the log.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
    """
    statements: dict[str, PruneStatement] = {}
    known = _recorders(trust)
    for name in names:
        note = reader.pruned(name)
        if note is None or reader.first_place(name) == 1:
            continue
        try:
            committed = heads[name].last_size if name in heads else 0
            pruned = _stated(note, name, committed, trust)
            if trust is not None:
                _check_signers(note, pruned, trust, known, findings)
        except VerificationError as error:
            message = f"the statement of the pruning does not hold: {error}"
            findings.add(_ALL, "bad_pruning", message, Place(stream=name))
            continue
        statements[name] = pruned
        findings.counts["pruned"] += pruned.size
        left = f"the stream now begins with record {pruned.size + 1:,}"
        message = (
            f"records 1 to {pruned.size:,} were pruned after the checkpoint over "
            f"{counted(pruned.log_size, 'entry')}; {left if pruned.size < committed else 'nothing else is sealed'}"
        )
        findings.add(_ALL, "pruned", message, Place(stream=name, seq=pruned.size + 1))
    return statements


def find_kept(
    reader: LedgerReader, statements: Iterable[PruneStatement], trust: TrustStore | None, findings: Findings
) -> Iterator[str | None]:
    """Return the grants that were kept at each pruning: those that its statement names, or ``None`` for all of them.

    A statement without a trusted key that counts gives no grants: anyone may have written it, and the file of grants
    beside it.

    Args:
        reader: The directory.
        statements: The statements.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
    """
    sound = [] if trust is None else [key for key in trust.keys if key.purpose == "recorder" and key.sound]
    known = KnownKeys(key.key for key in sound)
    for pruned in statements:
        try:
            stated, signers = open_pruned(reader.pruned(pruned.stream) or b"", known)
            if stated != pruned or not any(key.key in signers and _counts(key, pruned) for key in sound):
                yield None
                continue
        except VerificationError:  # find_pruned reported it.
            yield None
            continue
        tokens, state = reader.kept_grants(pruned)
        if state != "named":
            findings.add(_ALL, *_KEPT[state], Place(stream=pruned.stream))
            yield None
        yield from tokens


def find_excerpt(reader: LedgerReader, names: Iterable[str], findings: Findings) -> Mapping[str, Start] | None:
    """Return the starts of the streams of an excerpt, or ``None`` if the directory is not an excerpt.

    No one signs the content of an excerpt: the heads prove the included records, and nothing is said about the
    others. So an excerpt never counts as complete.

    Args:
        reader: The directory.
        names: The streams in the directory.
        findings: Takes what is found.
    """
    data = reader.excerpt()
    if data is None:
        return None
    findings.add(_ALL, "excerpt", "this is an excerpt; nothing is said about the records that are not in it")
    try:
        starts = Excerpt.from_bytes(data).streams
    except ValueError as error:
        findings.add(_ALL, "bad_excerpt", f"the file excerpt.json does not hold: {error}")
        return {}
    return {name: starts[name] for name in names if name in starts}


def find_leftovers(reader: LedgerReader, starts: Mapping[str, PruneStatement | Start], findings: Findings) -> None:
    """Report files before the start of a stream, unless they hold the last pruned records.

    A killed pruning leaves those, and the next one removes them. The statement names the leaf hash of the last record,
    and each record that of the one before it. An excerpt has no such files, and no other check reads them.

    Args:
        reader: The directory.
        starts: The starts of the streams that do not begin with their first record.
        findings: Takes what is found.
    """
    for name, start in starts.items():
        left = _before(reader, name, start)
        if not left or (isinstance(start, PruneStatement) and _are_pruned(reader, left, start)):
            continue
        if _before(reader, name, start) == left:  # Otherwise a pruning is running.
            message = (
                f"a file before record {start.size + 1:,}, where the stream begins, does not hold the pruned records; "
                "it was put there"
            )
            findings.add(_ALL, "records_before_start", message, Place(stream=name, seq=left[0].first))


def _before(reader: LedgerReader, name: str, start: PruneStatement | Start) -> Sequence[Segment]:
    return [segment for segment in reader.segments(name) if segment.first <= start.size]


def _are_pruned(reader: LedgerReader, left: Sequence[Segment], pruned: PruneStatement) -> bool:
    """Return whether segments hold exactly the last pruned records, up to the start of the stream."""
    place, leaf = left[0].first - 1, ""
    try:
        for segment in left:
            if segment.first != place + 1:
                return False
            for line in reader.lines_of(segment):
                parts = None if line.data is None or line.torn else stream_parts(line.data)
                if parts is None or place >= pruned.size or leaf not in ("", _prev_of(parts[0])):
                    return False
                place, leaf = place + 1, b64url_encode(leaf_hash(parts[0]))
    except (OSError, ValueError):
        return False
    return place == pruned.size and leaf == b64url_encode(pruned.last)


def _prev_of(data: bytes) -> object:
    """Return the leaf hash that a record names for its predecessor."""
    stream = plain_members(data).get("stream")
    return stream.get("prev") if is_object(stream) else None


def _recorders(trust: TrustStore | None) -> KnownKeys:
    return KnownKeys(key.key for key in (() if trust is None else trust.keys) if key.purpose == "recorder")


def _counts(key: TrustedKey, pruned: PruneStatement) -> bool:
    """Return whether a statement by the key counts; a statement by a listed key counts at any time."""
    return key.counts(pruned.time_ns // _NS) if key.certificates else key.sound


def _stated(note: bytes, name: str, committed: int, trust: TrustStore | None) -> PruneStatement:
    pruned = unverified_pruned(note)
    if pruned.size > committed:
        raise VerificationError(f"the log commits to {committed:,} records, fewer than were pruned")
    if pruned.stream != name or (trust is not None and trust.origin not in (None, pruned.origin)):
        raise VerificationError("the statement is about another stream or log")
    return pruned


def _check_signers(
    note: bytes, pruned: PruneStatement, trust: TrustStore, known: KnownKeys, findings: Findings
) -> None:
    place = Place(stream=pruned.stream)
    try:
        signers = open_pruned(note, known)[1]
    except VerificationError as error:
        if error.code != "unknown_key":
            raise
        message = "no trusted key signed the statement of the pruning; add the recorder key to the trust file"
        findings.add(_ALL, "unknown_key", message, place)
        return
    trusted = [entry for key in signers if (entry := trust.lookup(key.thumbprint, "recorder")) is not None]
    counting = [entry for entry in trusted if _counts(entry, pruned)]
    if not any(entry.sound for entry in trusted):
        message = "only a revoked key signed the statement of the pruning, and others may have it"
        findings.add(_ALL, "key_revoked", message, place)
    elif not counting:
        message = "the statement of the pruning is from outside the validity of the certificate"
        findings.add(_ALL, "key_not_valid_then", message, place)
    elif all(entry.certificates for entry in counting):
        message = "the certificate under the statement of the pruning is valid by its own clock; nothing else dates it"
        findings.add(_ALL, "valid_by_own_clock", message, place)
