"""Flow labels: integrity and readers, with their meet."""

import re
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast, final

Integrity: TypeAlias = Literal["trusted", "unknown", "untrusted"]
"""Integrity of content by its possible authors, from the most to the least trustworthy."""

INTEGRITIES: Final[tuple[Integrity, ...]] = ("untrusted", "unknown", "trusted")
"""All integrities, the lowest first."""

_RANKS: Final = {integrity: rank for rank, integrity in enumerate(INTEGRITIES)}
_READER: Final = re.compile(r"[A-Za-z0-9_.@/-]{1,128}")
_MAX_READERS: Final = 246
"""Characters of all readers with their commas: a label has 256, and a meet may have the longest integrity."""


@final
@dataclass(frozen=True, slots=True)
class Label:
    """The flow label of content. Labels form a lattice; :meth:`meet` only restricts.

    Args:
        integrity: ``"trusted"``, ``"unknown"`` or ``"untrusted"``.
        readers: The ids of those who may read the content; ``None`` for everyone.

    Raises:
        ValueError: The integrity is another word, a reader is malformed, or the label is longer than a record holds.
    """

    integrity: Integrity = "trusted"
    readers: AbstractSet[str] | None = None

    def __post_init__(self) -> None:
        if self.integrity not in INTEGRITIES:
            raise ValueError("the integrity is no known word; use trusted, unknown or untrusted")
        if self.readers is not None:
            if isinstance(self.readers, str):
                raise ValueError("readers is one text; give a set of ids, such as {'finance@example.com'}")
            object.__setattr__(self, "readers", frozenset(self.readers))
            if not all(type(reader) is str and _READER.fullmatch(reader) for reader in self.readers):
                raise ValueError("malformed reader; use ids of 1 to 128 letters, digits and _ . @ / -")
            if "public" in self.readers:  # It would be taken for everyone where it is left alone by a meet.
                raise ValueError("public is no reader; leave readers out for everybody")
            if len(",".join(self.readers)) > _MAX_READERS:
                raise ValueError(f"the readers of a label exceed {_MAX_READERS} characters; name fewer, or a group")

    def __str__(self) -> str:
        """Spell the label for a record: ``untrusted``, or ``untrusted:finance,legal`` with readers."""
        return self.integrity if self.readers is None else f"{self.integrity}:{','.join(sorted(self.readers))}"

    @staticmethod
    @lru_cache(maxsize=4_096)  # A ledger has few labels, each in many records.
    def parse(text: str) -> "Label":
        """Return the label of its one spelling.

        Raises:
            ValueError: The text is no label, or another spelling of one.
        """
        integrity, separator, names = text.partition(":")
        readers = (frozenset(names.split(",")) if names else frozenset[str]()) if separator else None
        label = Label(cast("Integrity", integrity), readers)
        if str(label) != text:
            raise ValueError("the label is not in canonical spelling; write the integrity, then the readers in order")
        return label

    def meet(self, other: "Label") -> "Label":
        """Return the greatest label that is no less restricted than either."""
        lower, higher = self, other
        if _RANKS[self.integrity] > _RANKS[other.integrity]:
            lower, higher = other, self
        # Usually one set contains the other, and no new label is needed.
        if higher.readers is None or lower.readers == higher.readers:
            return lower
        readers = higher.readers if lower.readers is None else lower.readers & higher.readers
        if readers == lower.readers:
            return lower
        if readers == higher.readers and lower.integrity == higher.integrity:
            return higher
        return Label(lower.integrity, readers)

    def is_within(self, other: "Label") -> bool:
        """Return whether this label is at least as restricted as another."""
        if self is other:
            return True
        if _RANKS[self.integrity] > _RANKS[other.integrity]:
            return False
        return other.readers is None or (self.readers is not None and self.readers <= other.readers)


TRUSTED: Final = Label("trusted")
UNKNOWN: Final = Label("unknown")
UNTRUSTED: Final = Label("untrusted")
