"""The frame of every report: the sources, the verdicts, the keys, the period, and what is not shown."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, cast, final

import msgspec

from agent_identity._common.narrowing import is_array, is_mapping
from agent_identity._verify.fleet.places import PlaceKind
from agent_identity._verify.report.report import EXIT_CODES, Report, TrustBasis
from agent_identity.version import VERSION

Proof: TypeAlias = Literal["proved", "recorded", "hint"]
"""The weight of a statement.

``proved``: a record says it, and the evidence that the record stands in verifies. ``recorded``: a record says it, and
its evidence was not verified, or does not verify. ``hint``: spans or other unsigned data say it.
"""

UNVERIFIED: Final = "unverified"
"""The verdict of a report that was made without verification."""

FOR_PAGES: Final[Mapping[str, bool]] = MappingProxyType({"for_pages": True})
"""The metadata of a member of a report that only pages draw, and no JSON has."""

_UNVERIFIED_NOTE: Final = "nothing was verified: every statement is what the sources say, and no proof"
_RANK: Final = ("contradicted", "cannot_tell", UNVERIFIED, "incomplete", "verified")


@final
@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One source, and how far it can be believed.

    Attributes:
        place: Its path, or the paths of its files.
        kind: What it is.
        report: The result of its verification; ``None`` if it was not verified.
        keys: The thumbprints of the keys that counted, by purpose.
        keys_from: The path of the trust file that they are from, or ``caller``.
        records: The number of its records that were read for the answer.
        hints: The number of spans of other libraries that were read.
        first_ns: The earliest beginning of a record, in nanoseconds since the Unix epoch; 0 without any.
        last_ns: The latest end of a record; 0 without any.
        not_shown: What of it is not in the answer, in words.
    """

    place: str
    kind: PlaceKind
    report: Report | None
    keys: Mapping[str, tuple[str, ...]]
    keys_from: str | None
    records: int
    hints: int
    first_ns: int
    last_ns: int
    not_shown: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The verdict of its verification; ``unverified`` without one."""
        return UNVERIFIED if self.report is None else self.report.verdict

    @property
    def weighs(self) -> str:
        """The verdict that it adds to that of several sources: what a newer copy of the same log has is not missing."""
        return UNVERIFIED if self.report is None else self.report.weighs

    @property
    def proved(self) -> bool:
        """True if its records are proved to be as they were recorded, even if some are missing."""
        return self.report is not None and self.report.integrity == "verified" and self.report.trust != "none"

    @property
    def trust(self) -> TrustBasis:
        """The source of the trusted keys."""
        return "none" if self.report is None else self.report.trust

    @property
    def only_hints(self) -> bool:
        """True if it holds spans of other libraries and no record, so that there is nothing to verify."""
        return self.kind == "traces" and not self.records and bool(self.hints) and not self._claims_records()

    def _claims_records(self) -> bool:
        return self.report is not None and self.report.counts.get("records", 0) > 0

    def to_json(self) -> dict[str, object]:
        """Return it in plain values."""
        report = self.report
        return {
            "place": self.place,
            "kind": self.kind,
            "verdict": self.verdict,
            "integrity": None if report is None else report.integrity,
            "completeness": None if report is None else report.completeness,
            "proved": self.proved,
            "trust": self.trust,
            "keys": {purpose: list(names) for purpose, names in self.keys.items()},
            "keys_from": self.keys_from,
            "records": self.records,
            "hints": self.hints,
            "first_ns": str(self.first_ns),
            "last_ns": str(self.last_ns),
            "problems": {} if report is None else dict(report.problems),
            "findings": [] if report is None else [found.code for found in report.findings[:_MAX_CODES]],
            "not_shown": list(self.not_shown),
        }


_MAX_CODES: Final = 20


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """The part that all reports share: question, sources, period.

    Attributes:
        question: The report, such as ``inventory``.
        sources: The sources, in the order in which they were read.
        from_ns: The first moment of the period that was asked for; ``None`` for all.
        until_ns: The first moment after it; ``None`` for all.
        not_shown: What the answer does not show, in words; never empty.
        command: The command that asked, if a command did.
        version: The version of the library that made it.
    """

    question: str
    sources: tuple[SourceFrame, ...]
    from_ns: int | None
    until_ns: int | None
    not_shown: tuple[str, ...]
    command: str | None = None
    version: str = VERSION

    @property
    def verified(self) -> bool:
        """True if the sources were verified in the same pass; :attr:`verdict` has the result."""
        return all(source.report is not None for source in self.sources)

    @property
    def verdict(self) -> str:
        """The worst verdict of a source with records: ``verified``, ``incomplete``, ``cannot_tell``, ``contradicted``.

        Without verification it is ``unverified``; with spans of other libraries alone, ``cannot_tell``.
        """
        verdicts = {source.weighs for source in self.sources if not source.only_hints}
        return next((verdict for verdict in _RANK if verdict in verdicts), "cannot_tell")

    @property
    def worst_first(self) -> Sequence[SourceFrame]:
        """The sources for people who may see only the first of many."""
        return sorted(
            self.sources, key=lambda source: _RANK.index(source.weighs) if not source.only_hints else len(_RANK)
        )

    @property
    def exit_code(self) -> int:
        """0 verified, 1 contradicted, 2 cannot tell or unverified, 3 verified but incomplete."""
        return EXIT_CODES.get(self.verdict, EXIT_CODES["cannot_tell"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that is not shown, that of single sources included."""
        own = () if self.verified else (_UNVERIFIED_NOTE,)
        several = len(self.sources) > 1
        of_sources = (
            f"{source.place}: {note}" if several else note for source in self.sources for note in source.not_shown
        )
        return (*own, *of_sources, *self.not_shown)

    def proof(self, sources: Collection[int]) -> Proof:
        """Return the weight of what records of these sources say together: it is proved if each of them proves it."""
        return "proved" if sources and all(self.sources[number].proved for number in sources) else "recorded"

    def to_json(self) -> dict[str, object]:
        """Return it in plain values, as the command line prints it."""
        return {
            "report": self.question,
            "version": self.version,
            "command": self.command,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "verified": self.verified,
            "from_ns": None if self.from_ns is None else str(self.from_ns),
            "until_ns": None if self.until_ns is None else str(self.until_ns),
            "sources": [source.to_json() for source in self.sources],
            "not_shown": list(self.notes),
        }


NO_KEYS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
"""The keys of a source that was read without any."""


def _shown(members: Iterable[Field[object]]) -> list[str]:
    return [member.name for member in members if FOR_PAGES.keys().isdisjoint(member.metadata)]


def plain(value: object, name: str = "") -> object:
    """Return a result in dicts, lists, texts, whole numbers, booleans and ``None``.

    Members that only pages draw, with the metadata :data:`FOR_PAGES`, are left out. Times in nanoseconds
    become decimal text, since many readers of JSON have no whole numbers of that size.

    Args:
        value: The result, or a part of it.
        name: The name of the member that it is.
    """
    if isinstance(value, Frame):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {one: plain(getattr(value, one), one) for one in _shown(fields(value))}
    if isinstance(value, msgspec.Struct):
        return plain(cast("object", msgspec.to_builtins(value)), name)
    if is_mapping(value):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if is_array(value):
        return [plain(item) for item in value]
    return str(value) if type(value) is int and name.endswith("_ns") else value
