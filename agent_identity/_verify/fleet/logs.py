"""Compares the logs of several hosts: copies of one log agree, and no two hosts sign for one log.

The id of a log is its first entry, which names the random id of the first stream. Copies of one log agree as far as the
shorter one goes.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias, final

from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.transparency.checkpoint import Checkpoint
from agent_identity._ledger.transparency.log import Head, unverified_checkpoint
from agent_identity._ledger.transparency.merkle import CompactRange, leaf_hash
from agent_identity._verify.fleet.places import Place, directory_at, own_trust
from agent_identity._verify.inputs.sources import size_of_ledger
from agent_identity._verify.ledger.certificates_check import certificates_of, sound_signers, with_certificates
from agent_identity._verify.ledger.log_check import open_checkpoint
from agent_identity._verify.report.findings import Findings
from agent_identity._verify.report.plurals import counted
from agent_identity.errors import ConfigurationError, VerificationError

_Problems: TypeAlias = Mapping[str, list[tuple[str, str]]]

_CHANGED: Final = "one of the two was rewritten, or went on from a restored copy"


class _Log(NamedTuple):
    """A log as its checkpoint states it.

    Attributes:
        place: The source.
        checkpoint: The checkpoint, signed by a trusted key.
        birth: The leaf hash of the first entry.
        streams: The streams beside the log.
        signers: The thumbprints of the keys under the checkpoint.
        known: The thumbprints of the recorder keys that may sign for this log.
        size: The bytes of its records.
    """

    place: Place
    checkpoint: Checkpoint
    birth: bytes
    streams: frozenset[str]
    signers: frozenset[str]
    known: frozenset[str]
    size: int


@final
@dataclass(frozen=True, slots=True)
class Compared:
    """What the logs of several places say about each other, by the names of the places.

    Attributes:
        known: Codes and messages of problems.
        copies: The name of the newest copy, for each other copy of a log that agrees with it.
    """

    known: _Problems = field(default_factory=lambda: defaultdict(list))
    copies: Mapping[str, str] = field(default_factory=dict[str, str])


def compare_logs(places: Iterable[Place], trust: TrustStore | None) -> Compared:
    """Return what the logs of several sources say about each other, whatever their order.

    Of one origin, logs with one first entry are copies of one log; of two of them, the longer one continues the
    shorter one. Logs with different first entries were begun by themselves, and share no stream; their keys know each
    other. A log that nothing proves, by a key that no thief may have, is not compared.

    Args:
        places: The sources.
        trust: The trusted keys; without any, those beside each log.
    """
    by_origin: dict[str, list[Place]] = defaultdict(list)
    for place in sorted(places, key=lambda place: place.name):
        origin = origin_at(place)
        if origin is not None:
            by_origin[origin].append(place)
    found, copies = defaultdict[str, list[tuple[str, str]]](list), dict[str, str]()
    for sources in by_origin.values():
        if len(sources) > 1:
            _compare([log for place in sources if (log := _log_at(place, trust)) is not None], found, copies)
    return Compared(found, copies)


def origin_at(place: Place) -> str | None:
    """Return the origin that a checkpoint states; ``None`` if there is none to be read."""
    if place.kind == "traces" or place.problem is not None:
        return None
    # What cannot be read, the verification of the place tells.
    with suppress(VerificationError, ConfigurationError, OSError), directory_at(place) as directory:
        return unverified_checkpoint(open_ledger(directory).checkpoint() or b"").origin
    return None


def _log_at(place: Place, trust: TrustStore | None) -> _Log | None:
    """Return the log of a source; ``None`` if nothing proves it, or its first entry is no head of a stream."""
    findings = Findings("ledger", ("trust",))
    with suppress(ConfigurationError, OSError), directory_at(place) as directory:
        reader = open_ledger(directory)
        keys = with_certificates(trust or own_trust(directory), certificates_of(reader), findings)
        checkpoint, signers = open_checkpoint(reader.checkpoint(), keys, findings, "the checkpoint")
        sound = [signer for signer in sound_signers(signers, findings) if signer.revoked_since is None]
        entry = next((line.record for line in reader.log_entries()), None) or b""
        if keys is None or checkpoint is None or findings.number("contradicted") or not sound:
            return None
        with suppress(ValueError):  # An entry that tells of a lost log is the same in all logs of the origin.
            Head.from_entry(entry)
            known = keys.recorders(checkpoint.origin)
            return _Log(
                place,
                checkpoint,
                leaf_hash(entry),
                frozenset(reader.streams()),
                frozenset(signer.key.thumbprint for signer in sound),
                frozenset(trusted.key.thumbprint for trusted in known),
                size_of_ledger(reader),
            )
    return None


def _compare(logs: Sequence[_Log], found: _Problems, copies: dict[str, str]) -> None:
    """Compare the logs of one origin."""
    by_birth: dict[bytes, list[_Log]] = defaultdict(list)
    for log in logs:
        by_birth[log.birth].append(log)
    for same in by_birth.values():
        _compare_copies(same, found, copies)
    _compare_streams(logs, found)
    for log in logs if len(by_birth) > 1 else ():
        others = [other for other in logs if other.birth != log.birth]
        stranger = next((other for other in others if _strangers(log, other)), None)
        if stranger is not None:
            message = (
                f"{stranger.place.name} signs for this log as well, with a key that does not count here: one of the "
                "two signs for the log of another host; verify with --trust, a file that names the key of each"
            )
            found[log.place.name].append(("wrong_origin", message))
        elif log.place.name not in found:
            message = (
                f"{others[0].place.name} has another log of this origin, with other streams: a directory that was "
                "begun anew with the same keys; a log that somebody with these keys made anew looks the same"
            )
            found[log.place.name].append(("two_births", message))


def _strangers(one: _Log, other: _Log) -> bool:
    """Return whether none of two hosts may sign for the log of the other, by the keys that count for each."""
    return one.known.isdisjoint(other.signers) and other.known.isdisjoint(one.signers)


def _compare_streams(logs: Sequence[_Log], found: _Problems) -> None:
    """Compare the streams of logs that begin with different entries; no two of them have one."""
    by_stream: dict[str, _Log] = {}
    for log in logs:
        others = [by_stream.setdefault(stream, log) for stream in sorted(log.streams)]
        other = next((other for other in others if other.birth != log.birth), None)
        if other is not None:
            _contradict(log, other, "begins with another entry, and has streams of this one", found)


def _compare_copies(logs: Sequence[_Log], found: _Problems, copies: dict[str, str]) -> None:
    """Compare the copies of one log with the newest of them, which has the most entries, and the most of their records.

    The records of the others count with it.
    """
    newest = max(logs, key=lambda log: (log.checkpoint.size, log.size))
    others = [log for log in logs if log is not newest]
    roots = _roots(newest.place, {log.checkpoint.size for log in others})
    for log in others:
        size = log.checkpoint.size
        if roots.get(size, log.checkpoint.root) != log.checkpoint.root:  # What cannot be read, its own source tells.
            _contradict(log, newest, f"differs in the first {counted(size, 'entry')}", found)
        elif size in roots:
            copies[log.place.name] = newest.place.name


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
        found[log.place.name].append(("two_histories", message))
