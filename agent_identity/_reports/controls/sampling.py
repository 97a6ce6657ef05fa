"""Samples for auditors: records of a period, drawn at random in a way that anybody can repeat, each with a proof."""

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final, final

from agent_identity._common.typed_calls import typed
from agent_identity._reports.answers.facts import CallFact, Fact
from agent_identity._reports.answers.reading import Evidence, Reading, read
from agent_identity._reports.answers.report_frame import Frame, plain
from agent_identity._verify.fleet.places import Place, directory_at
from agent_identity._verify.inputs.sources import PathLike
from agent_identity._verify.proofs.proving import prove
from agent_identity._verify.report.report import TrustBasis
from agent_identity.errors import ConfigurationError

MAX_SAMPLE: Final = 1_000
"""Records of a sample, at most."""

_LONGEST: Final = 256


@final
@dataclass(frozen=True, slots=True)
class Drawn:
    """A record of a sample.

    Attributes:
        number: Its place in the draw, from 1.
        record: Its id.
        stream: Its stream.
        seq: Its place there, from 1.
        at_ns: When the call began.
        tool: The tool.
        outcome: How it ended.
        source: The number of its source in the frame, from 0.
    """

    number: int
    record: str
    stream: str
    seq: int
    at_ns: int
    tool: str
    outcome: str
    source: int


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """The answer.

    Attributes:
        frame: The source, its verdict and keys, the period, and what is not shown.
        seed: The seed of the draw.
        population: Tool calls of the period, from which was drawn.
        drawn: The records, in the order of the draw.
    """

    frame: Frame
    seed: str
    population: int
    drawn: tuple[Drawn, ...]


@final
class _Draw:
    """Keeps the records with the smallest digests of seed and id, so that the order of reading does not matter."""

    def __init__(self, seed: str, most: int) -> None:
        self._seed, self._most = seed, most
        self._kept: list[tuple[int, int, Drawn]] = []
        self.population = 0

    def take(self, fact: Fact) -> None:
        """Take a fact."""
        if not isinstance(fact, CallFact) or fact.opening:
            return
        self.population += 1
        where = fact.where
        rank = -int.from_bytes(sha256(f"{self._seed}\n{where.record}".encode()).digest())
        drawn = Drawn(0, where.record, where.stream, where.seq, fact.at_ns, fact.tool, fact.outcome, where.source)
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, (rank, self.population, drawn))
        elif rank > self._kept[0][0]:
            heapq.heapreplace(self._kept, (rank, self.population, drawn))

    def drawn(self) -> Iterator[Drawn]:
        """Yield the records in the order of the draw."""
        for number, (_, _, one) in enumerate(sorted(self._kept, reverse=True), 1):
            yield replace(one, number=number)


@typed
def draw(evidence: Evidence, *, seed: str, records: int) -> Sample:
    """Draw calls at random from evidence directories and bundles.

    The calls with the smallest SHA-256 of ``seed``, a line feed and the id of the record are drawn. The same evidence,
    period and seed draw the same calls, and so does anybody who has the ids.

    Args:
        evidence: What is read: evidence directories and bundles.
        seed: The seed; the auditor chooses it, after the evidence is sealed.
        records: How many are drawn; fewer if there are fewer.

    Raises:
        ConfigurationError: A source or the trust file cannot be read, a source is a file of spans, or
            ``records`` or ``seed`` is out of range.
    """
    if not 1 <= records <= MAX_SAMPLE:
        raise ConfigurationError(f"{records} records cannot be drawn; give 1 to {MAX_SAMPLE:,}")
    if not seed.strip() or len(seed) > _LONGEST or not seed.isprintable():
        raise ConfigurationError(f"the seed is empty or malformed; give up to {_LONGEST} printable characters")
    taken = _Draw(seed, records)
    reading = read(evidence, taken)
    _refuse_spans(reading)
    frame = reading.frame("sample", evidence, list(_not_shown()))
    return Sample(frame, seed, taken.population, tuple(taken.drawn()))


def _refuse_spans(reading: Reading) -> None:
    if any(place.kind == "traces" for place in reading.places):
        raise ConfigurationError("a sample is drawn from evidence directories and bundles; name no spans")


def _not_shown() -> Iterator[str]:
    yield "calls without a record: the population is what the ledger holds, and report coverage compares it with traces"
    yield "records after the last seal, which no checkpoint proves yet"


def write_sample(found: Sample, target: PathLike) -> int:
    """Write the proofs of a sample, a list of it, and a text that says how to check them; return the number of proofs.

    Args:
        found: The sample.
        target: The folder; it must not exist.

    Raises:
        VerificationError: A record cannot be proved.
        ConfigurationError: A directory cannot be read.
    """
    proofs: dict[str, bytes] = {}
    for number, source in enumerate(found.frame.sources):
        wanted = [one for one in found.drawn if one.source == number]
        if wanted:
            with directory_at(Place(source.kind, (source.place,))) as directory:
                proofs |= {_file(one): prove(directory, (one.stream, one.seq)) for one in wanted}
    folder = Path(target)
    folder.mkdir()
    listed = {"sample": plain(found), "files": {_file(one): one.record for one in found.drawn}}
    for name, data in {
        **proofs,
        "sample.json": json.dumps(listed, indent=1).encode() + b"\n",
        "README.txt": _text(found).encode(),
    }.items():
        with (folder / name).open("xb") as file:
            file.write(data)
    return len(proofs)


_KEYS: Final[Mapping[TrustBasis, str]] = {
    "given": "given by the person who drew the sample",
    "self-asserted": "self-asserted: they came from beside the evidence, so they prove nothing by themselves",
    "none": "none",
}


def _file(one: Drawn) -> str:
    return f"{one.number:04d}.tlog-proof"


def _text(found: Sample) -> str:
    lines = [
        "A sample of calls of agents, with a proof for each.",
        "",
        f"Drawn:      {len(found.drawn):,} of {found.population:,} recorded tool calls",
        f"Seed:       {found.seed}",
        f"Verdict:    {found.frame.verdict}",
        *(f"Keys:       {words}" for words in dict.fromkeys(_KEYS[one.trust] for one in found.frame.sources)),
        f"Version:    agent-identity {found.frame.version}",
        "",
        "How to check a proof",
        "",
        f"1. Install the package agent_identity, version {found.frame.version}, from a checkout, or from the wheel in",
        "   a bundle of the evidence after you compared its SHA-256. It is not on PyPI: install nothing from there.",
        "2. Take trust.json, the public keys, from another place than the evidence and this folder.",
        "3. For each line below:",
        "",
        *(
            f"   agent-identity proof check {_file(one)} --trust trust.json --record {one.record}"
            for one in found.drawn
        ),
        "",
        "Each must print VERIFIED and the facts of the record.",
        "",
        "How to check the draw",
        "",
        "The sample is the calls with the smallest SHA-256 over the seed, a line feed and the id of the record, in",
        "that order. Choose the seed yourself, and have the sample drawn again with it.",
        "",
        "What a sample does not show",
        "",
        *(f"- {note}" for note in found.frame.notes),
        "",
    ]
    return "\n".join(lines)
