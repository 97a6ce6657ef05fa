"""Finds the places of evidence: evidence directories, trees of them, bundles, and files of spans."""

import os
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, Literal, TypeAlias, final

from agent_identity._identity.trust.store import TrustStore
from agent_identity._storage.layout import Layout
from agent_identity._verify.inputs.sources import STANDARD_INPUT, PathLike, directory_of, is_bundle
from agent_identity.errors import ConfigurationError

PlaceKind: TypeAlias = Literal["ledger", "bundle", "traces"]
"""The form of a place: an evidence directory, a bundle of one, or files of spans."""

_PARTS: Final = ("ledger", "log", "keys", "trust.json")
_MAX_PLACES: Final = 100_000


@final
@dataclass(frozen=True, slots=True)
class Place:
    """A source by its paths.

    Attributes:
        kind: What it is.
        paths: The directory or the bundle; of traces, all files, which may share their traces.
        problem: Why nothing can be read there, in words.
    """

    kind: PlaceKind
    paths: tuple[str, ...]
    problem: str | None = None

    @property
    def name(self) -> str:
        """Its path, or that of its first file with the number of the others."""
        more = len(self.paths) - 1
        return self.paths[0] if not more else f"{self.paths[0]} and {more:,} more"


def find_places(sources: PathLike | Sequence[PathLike]) -> list[Place]:
    """Return the sources: directories first, then bundles, then all files of spans as one, then what cannot be read.

    A folder that is no evidence directory stands for the evidence directories and files of spans below it. Links are
    not followed. What cannot be read hides nothing else.

    Args:
        sources: One path or several.

    Raises:
        ConfigurationError: There is nothing at any path, or below it, or it cannot be read.
    """
    words = [os.fspath(source) for source in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    if not words:
        raise ConfigurationError("no source is named; name an evidence directory, a bundle or a file of spans")
    found = list(islice((place for word in words for place in _places(word)), _MAX_PLACES + 1))
    if len(found) > _MAX_PLACES:
        raise ConfigurationError(f"there are more than {_MAX_PLACES:,} sources; name a part of them")
    by_file: dict[str, Place] = {}
    for place in found:
        by_file.setdefault(_file(place), place)
    return _in_order(by_file.values())


def _in_order(found: Collection[Place]) -> list[Place]:
    problems = [place for place in found if place.problem is not None]
    if len(problems) == len(found):
        raise ConfigurationError(str(problems[0].problem))
    named = [place for place in found if place.problem is None]
    return [*_alone("ledger", named), *_alone("bundle", named), *_together(named), *problems]


def _file(place: Place) -> str:
    path = place.paths[0]
    return path if path == STANDARD_INPUT else os.path.realpath(path)


def _alone(wanted: PlaceKind, named: Iterable[Place]) -> Iterator[Place]:
    return (place for place in named if place.kind == wanted)


def _together(named: Iterable[Place]) -> Iterator[Place]:
    files = tuple(place.paths[0] for place in named if place.kind == "traces")
    if files:
        yield Place("traces", files)


def _places(word: str) -> Iterator[Place]:
    path = Path(word)
    if word == STANDARD_INPUT:
        yield Place("traces", (word,))
    elif not os.path.lexists(word):
        yield Place("ledger", (word,), f"no evidence at {word!r}; check the path")
    elif not path.is_dir():
        yield Place("bundle" if is_bundle(path) else "traces", (word,))
    elif _is_evidence(path):
        yield Place("ledger", (word,))
    else:
        below = list(_below(word))
        if not below:
            problem = f"no evidence directory and no file of spans in or below {word!r}"
            yield Place("ledger", (word,), f"{problem}; name the directory of the enforcer")
        yield from below


def _is_evidence(path: Path) -> bool:
    return path.absolute().name == "ledger" or any(os.path.lexists(path / part) for part in _PARTS)


def _below(root: str) -> Iterator[Place]:
    from agent_identity._spans.otlp_reader import TRACE_FILE  # Few sources are folders of hosts.

    closed: list[Place] = []

    def fail(error: OSError) -> None:
        why = f"cannot list {error.filename!r}: {error.strerror}; check its permissions, as evidence may be in it"
        closed.append(Place("ledger", (str(error.filename),), why))

    for folder, folders, names in os.walk(root, onerror=fail, followlinks=False):
        here = Path(folder)
        inner = [name for name in sorted(folders) if not (here / name).is_symlink()]
        evidence = [name for name in inner if _is_evidence(here / name)]
        folders[:] = [name for name in inner if name not in evidence]
        for name in evidence:
            yield Place("ledger", (str(here / name),))
        for name in sorted(names):
            path = here / name
            if TRACE_FILE.search(name) and not path.is_symlink() and path.is_file():
                yield Place("traces", (str(path),))
    yield from closed


@contextmanager
def directory_at(place: Place) -> Generator[str]:
    """Yield the evidence directory of a source, unpacked if it is a bundle."""
    if place.kind == "ledger":
        yield directory_of(place.paths[0]) or place.paths[0]
        return
    from agent_identity._verify.proofs.bundle import unpacked  # Few sources are one.

    with unpacked(place.paths[0]) as directory:
        yield directory_of(directory) or str(directory)


def own_trust(directory: str) -> TrustStore | None:
    """Return the keys beside a ledger, if they can be used; the verification says why not."""
    with suppress(ConfigurationError, OSError):
        return TrustStore.load(f"{Layout.of(directory).root}/trust.json")
    return None
