"""Logs that are read together: copies of one log agree as far as the shorter one goes.

The id of a log is its first entry, which names the random id of the first stream; nothing more is stored.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeAlias

from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import Head, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._reports.answers.places import Place, directory_at, own_trust
from agent_identity._verify.ledger.certificates_check import certificates_of, sound_signers, with_certificates
from agent_identity._verify.ledger.log_check import open_checkpoint
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import VerificationError

_Problems: TypeAlias = dict[int, list[tuple[str, str]]]

_CHANGED: Final = "one of the two was rewritten, or went on from a restored copy"


class _Log(NamedTuple):
    """A log as its checkpoint states it.

    Attributes:
        number: The number of its source.
        place: The source.
        checkpoint: The checkpoint, signed by a trusted key.
        birth: The leaf hash of the first entry.
        streams: The streams beside the log.
    """

    number: int
    place: Place
    checkpoint: Checkpoint
    birth: bytes
    streams: frozenset[str]


def compare_logs(places: Sequence[Place], trust: TrustStore | None) -> Mapping[int, Sequence[tuple[str, str]]]:
    """Return what the logs of several sources say about each other: codes and messages, by the number of the source.

    Of one origin, logs with one first entry are copies of one log; of two of them, the longer one continues the
    shorter one. Logs with different first entries were begun by themselves, and share no stream. A log that nothing
    proves, by a key that no thief may have, is not compared.

    Args:
        places: The sources.
        trust: The trusted keys; without any, those beside each log.
    """
    found: _Problems = defaultdict(list)
    by_origin: dict[str, list[tuple[int, Place]]] = defaultdict(list)
    for number, place in enumerate(places):
        if place.kind != "traces":
            with directory_at(place) as directory, suppress(VerificationError):
                checkpoint = unverified_checkpoint(open_ledger(directory).checkpoint() or b"")
                by_origin[checkpoint.origin].append((number, place))
    for sources in by_origin.values():
        if len(sources) > 1:
            logs = [log for number, place in sources if (log := _log_at(number, place, trust)) is not None]
            _compare(logs, found)
    return found


def _log_at(number: int, place: Place, trust: TrustStore | None) -> _Log | None:
    """Return the log of a source; ``None`` if nothing proves it, or its first entry is no head of a stream."""
    findings = Findings("ledger", ("trust",))
    with directory_at(place) as directory:
        reader = open_ledger(directory)
        keys = with_certificates(trust or own_trust(directory), certificates_of(reader), findings)
        checkpoint, signers = open_checkpoint(reader.checkpoint(), keys, findings, "the checkpoint")
        sound = [signer for signer in sound_signers(signers, findings) if signer.revoked_since is None]
        entry = next((line.record for line in reader.log_entries()), None) or b""
        if checkpoint is None or findings.number("contradicted") or not sound:
            return None
        with suppress(ValueError):  # An entry that tells of a lost log is the same in all logs of the origin.
            Head.from_entry(entry)
            return _Log(number, place, checkpoint, leaf_hash(entry), frozenset(reader.streams()))
    return None


def _compare(logs: Sequence[_Log], found: _Problems) -> None:
    """Compare the logs of one origin."""
    by_birth: dict[bytes, list[_Log]] = defaultdict(list)
    for log in logs:
        by_birth[log.birth].append(log)
    for copies in by_birth.values():
        _compare_copies(copies, found)
    _compare_streams(logs, found)
    for log in logs if len(by_birth) > 1 else ():
        other = next(other for other in logs if other.birth != log.birth)
        if log.number not in found:
            message = (
                f"{other.place.name} has another log of this origin, with other streams: a directory that was begun "
                "anew with the same keys; a log that somebody with these keys made anew looks the same"
            )
            found[log.number].append(("two_births", message))


def _compare_streams(logs: Sequence[_Log], found: _Problems) -> None:
    """Compare the streams of logs that begin with different entries; no two of them have one."""
    by_stream: dict[str, _Log] = {}
    for log in logs:
        others = [by_stream.setdefault(stream, log) for stream in sorted(log.streams)]
        other = next((other for other in others if other.birth != log.birth), None)
        if other is not None:
            _contradict(log, other, "begins with another entry, and has streams of this one", found)


def _compare_copies(logs: Sequence[_Log], found: _Problems) -> None:
    """Compare the copies of one log with the longest of them."""
    longest = max(logs, key=lambda log: log.checkpoint.size)
    others = [log for log in logs if log is not longest]
    roots = _roots(longest.place, {log.checkpoint.size for log in others})
    for log in others:
        size = log.checkpoint.size
        if roots.get(size, log.checkpoint.root) != log.checkpoint.root:  # What cannot be read, its own source tells.
            _contradict(log, longest, f"differs in the first {counted(size, 'entry')}", found)


def _roots(place: Place, sizes: Collection[int]) -> Mapping[int, bytes]:
    """Return the roots of a log at these sizes, as far as its entries can be read."""
    tree, roots = CompactRange(), dict[int, bytes]()
    with directory_at(place) as directory:
        for line in open_ledger(directory).log_entries() if sizes else ():
            if line.record is None:
                break
            tree.append(leaf_hash(line.record))
            if tree.size in sizes:
                roots[tree.size] = tree.root()
    return roots


def _contradict(one: _Log, other: _Log, how: str, found: _Problems) -> None:
    for log, against in ((one, other), (other, one)):
        message = f"the log in {against.place.name} is a second history of this one: it {how}; {_CHANGED}"
        found[log.number].append(("two_histories", message))
