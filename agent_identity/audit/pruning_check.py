"""Where streams begin that do not begin with their first record, and who says so; it comes before the records."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from agent_identity.audit.findings import Findings, Place, counted
from agent_identity.audit.log_check import Heads
from agent_identity.errors import VerificationError
from agent_identity.evidence.checkpoint import KnownKeys
from agent_identity.evidence.excerpt import Excerpt, Start
from agent_identity.evidence.lines import stream_parts
from agent_identity.evidence.merkle import leaf_hash
from agent_identity.evidence.pruned import Pruned, open_pruned, unverified_pruned
from agent_identity.evidence.record_codec import plain_members
from agent_identity.evidence.segments import Segment
from agent_identity.evidence.streams import LedgerReader
from agent_identity.identity import TrustedKey, TrustStore
from agent_identity.narrowing import is_object

__all__ = ["find_excerpt", "find_kept", "find_leftovers", "find_pruned"]

_ALL: Final = 7
_NS: Final = 1_000_000_000
_MAX_GRANTS: Final = 64 * 1024 * 1024  # Bytes of memory for grants that no statement names.
_KEPT: Final[Mapping[str, tuple[str, str]]] = {
    "missing": (
        "kept_grants_missing",
        "expected the grants that were kept of what was pruned, got fewer; chains with one of them are not checked",
    ),
    "changed": (
        "kept_grants_changed",
        "expected the grants that the statement of what was pruned names, got others; none of them was taken",
    ),
    "unstated": (
        "kept_grants_unstated",
        "the statement of what was pruned does not name the grants that were kept; whether one is missing is not shown",
    ),
}


def find_pruned(
    reader: LedgerReader,
    names: Iterable[str],
    heads: Mapping[str, Heads],
    trust: TrustStore | None,
    findings: Findings,
) -> dict[str, Pruned]:
    """Return what is proved to be pruned from streams whose first records are not there.

    1. The statement beside the stream is signed by a trusted recorder key that is not revoked (C2SP signed-note), a
       certified one in the time of its certificate.
    2. It is about this stream, under the trusted origin.
    3. The log commits to at least as many records of the stream.

    That its compact range is the one of the records that are gone is shown by the heads, with the records that are
    left. Where the first records are there, the statement is not needed and not looked at.

    Args:
        reader: The directory.
        names: Its streams.
        heads: What the log commits to.
        trust: The trusted keys, or ``None``.
        findings: Takes what is found.
    """
    found: dict[str, Pruned] = {}
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
            message = f"the statement of what was pruned does not hold: {error}"
            findings.add(_ALL, "bad_pruning", message, Place(stream=name))
            continue
        found[name] = pruned
        findings.counts["pruned"] += pruned.size
        left = f"what is left begins with record {pruned.size + 1:,}"
        message = (
            f"records 1 to {pruned.size:,} were pruned behind the checkpoint over "
            f"{counted(pruned.log_size, 'entry')}; {left if pruned.size < committed else 'nothing else is sealed'}"
        )
        findings.add(_ALL, "pruned", message, Place(stream=name, seq=pruned.size + 1))
    return found


def find_kept(
    reader: LedgerReader, statements: Iterable[Pruned], trust: TrustStore | None, findings: Findings
) -> Iterator[str]:
    """Return the grants that were kept of what was pruned: those that each statement names, all of them or none.

    There are none without a trusted key under it that counts: anyone may have written it, and the file of grants
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
                continue
        except VerificationError:  # It was reported when the statement was found.
            continue
        tokens, state = reader.kept_grants(pruned, most=_MAX_GRANTS)
        if state != "named":
            findings.add(_ALL, *_KEPT[state], Place(stream=pruned.stream))
        yield from tokens


def find_excerpt(reader: LedgerReader, names: Iterable[str], findings: Findings) -> Mapping[str, Start] | None:
    """Return what an excerpt gives of the streams, or ``None`` if the directory is none.

    Whoever makes an excerpt says what is in it, without a signature: what is given is proved by the heads, and nothing
    is said about all else. So an excerpt never counts as complete.

    Args:
        reader: The directory.
        names: The streams that are there.
        findings: Takes what is found.
    """
    data = reader.excerpt()
    if data is None:
        return None
    findings.add(_ALL, "excerpt", "this is an excerpt; nothing is said about the records that are not in it")
    try:
        given = Excerpt.from_bytes(data).streams
    except ValueError as error:
        findings.add(_ALL, "bad_excerpt", f"the file excerpt.json does not hold: {error}")
        return {}
    return {name: given[name] for name in names if name in given}


def find_leftovers(reader: LedgerReader, starts: Mapping[str, Pruned | Start], findings: Findings) -> None:
    """Report files before the place where a stream begins, unless they hold the last of what was pruned.

    A pruning that is killed leaves those, and the next one removes them. The statement names the leaf hash of the last
    record, and each record that of the one before it. An excerpt has no such files. Nobody reads them otherwise.

    Args:
        reader: The directory.
        starts: Where streams begin that do not begin with their first record.
        findings: Takes what is found.
    """
    for name, start in starts.items():
        left = _before(reader, name, start)
        if not left or (isinstance(start, Pruned) and _are_pruned(reader, left, start)):
            continue
        if _before(reader, name, start) == left:  # Else a pruning is at work.
            message = (
                f"expected nothing before record {start.size + 1:,}, where the stream begins, got a file that holds "
                "something else than what was pruned; it was put there"
            )
            findings.add(_ALL, "records_before_start", message, Place(stream=name, seq=left[0].first))


def _before(reader: LedgerReader, name: str, start: Pruned | Start) -> Sequence[Segment]:
    return [segment for segment in reader.segments(name) if segment.first <= start.size]


def _are_pruned(reader: LedgerReader, left: Sequence[Segment], pruned: Pruned) -> bool:
    """Return whether segments hold the last records that were pruned, all of them to the border and nothing else."""
    place, leaf = left[0].first - 1, ""
    try:
        for segment in left:
            if segment.first != place + 1:
                return False
            for line in reader.lines_of(segment):
                parts = None if line.data is None or line.torn else stream_parts(line.data)
                if parts is None or place >= pruned.size or leaf not in ("", _prev_of(parts[0])):
                    return False
                place, leaf = place + 1, leaf_hash(parts[0]).hex()
    except (OSError, ValueError):
        return False
    return place == pruned.size and leaf == pruned.last.hex()


def _prev_of(data: bytes) -> object:
    """Return which leaf hash a record names as that of the record before it."""
    stream = plain_members(data).get("stream")
    return stream.get("prev") if is_object(stream) else None


def _recorders(trust: TrustStore | None) -> KnownKeys:
    return KnownKeys(key.key for key in (() if trust is None else trust.keys) if key.purpose == "recorder")


def _counts(key: TrustedKey, pruned: Pruned) -> bool:
    """Return whether a statement by the key counts; that of a listed one whatever its time."""
    return key.counts(pruned.time_ns // _NS) if key.certificates else key.sound


def _stated(note: bytes, name: str, committed: int, trust: TrustStore | None) -> Pruned:
    pruned = unverified_pruned(note)
    if pruned.size > committed:
        raise VerificationError(f"expected the log to commit to what was pruned, got {committed:,} records")
    if pruned.stream != name or (trust is not None and trust.origin not in (None, pruned.origin)):
        raise VerificationError("expected a statement about this stream of this log, got one about another")
    return pruned


def _check_signers(note: bytes, pruned: Pruned, trust: TrustStore, known: KnownKeys, findings: Findings) -> None:
    place = Place(stream=pruned.stream)
    try:
        signers = open_pruned(note, known)[1]
    except VerificationError as error:
        if error.code != "unknown_key":
            raise
        message = "expected a trusted key under the statement of what was pruned, got none"
        findings.add(_ALL, "unknown_key", message, place)
        return
    trusted = [entry for key in signers if (entry := trust.lookup(key.thumbprint, "recorder")) is not None]
    counting = [entry for entry in trusted if _counts(entry, pruned)]
    if not any(entry.sound for entry in trusted):
        message = "expected a sound key under the statement of what was pruned, got a revoked one; anyone may have it"
        findings.add(_ALL, "key_revoked", message, place)
    elif not counting:
        message = "expected a statement of what was pruned from the time of a certificate, got one from outside it"
        findings.add(_ALL, "key_not_valid_then", message, place)
    elif all(entry.certificates for entry in counting):
        message = "the certificate under the statement of what was pruned is valid by its own clock; nothing dates that"
        findings.add(_ALL, "valid_by_own_clock", message, place)
