"""Verifying files of spans with several processes, with the same result as with one.

This process takes the files apart into documents, and others verify blocks of these, knowing nothing of the blocks
before. Either nothing but notices is to be reported of a block: then what matters of it to the rest is returned in
compact form, and merged unless that would have anything to report. Or there is anything else: then this process reads
the block in its order, by the same code. So blocks decide about speed and never about what is found.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache, partial
from itertools import chain, islice
from typing import Final, NamedTuple

from agent_identity.audit.findings import Findings
from agent_identity.audit.ledger_index import Proofs
from agent_identity.audit.shapes import RecordReader
from agent_identity.audit.sources import PathLike, opened
from agent_identity.audit.spans_check import SpansCheck, SpansPart
from agent_identity.audit.spreading import Spread
from agent_identity.evidence.byte_reader import ByteLines, ByteReader
from agent_identity.evidence.otlp import Document, Malformed
from agent_identity.evidence.traces import documents
from agent_identity.identity import TrustStore

__all__ = ["read_sources"]

_BLOCK: Final = 2 * 1024 * 1024  # Bytes of documents, or one that is longer.
_BESIDE: Final = 128  # Bytes that a document takes beside its own; it may have none.
_FEW: Final = 1  # Blocks that are read before another process has started.
_READER: Final = RecordReader()  # What was learned from one block holds for the next.


class _Block(NamedTuple):
    """Documents that follow each other, or what stands between two blocks.

    Attributes:
        documents: The documents.
        end: How many bytes of the files are read with it.
        problem: What is no document, or the error with which a file cannot be read to its end.
    """

    documents: Sequence[Document]
    end: int
    problem: Malformed | OSError | None = None


def read_sources(
    spans: SpansCheck,
    sources: Sequence[PathLike | ByteLines],
    tell: Callable[[int], object],
    *,
    spread: Spread | None,
    trust: TrustStore | None,
    redacted: Collection[str],
) -> None:
    """Verify the spans of files.

    Args:
        spans: Verifies what other processes cannot, and merges the rest.
        sources: The files.
        tell: Is told now and then how many bytes are read.
        spread: Has other processes do the work; nothing is disclosed then.
        trust: The trusted keys, or ``None``.
        redacted: Attributes that a collector is known to rewrite.

    Raises:
        ConfigurationError: A file cannot be opened, or not be read with what is installed.
    """
    if spread is not None and trust is not None:
        proofs = None if spans.proofs is None else spans.proofs.path
        _spread(spans, sources, tell, spread, partial(_read, trust=trust, redacted=redacted, proofs=proofs))
        return
    for block in _blocks(sources, 1):
        _take(spans, block)
        tell(block.end)


def _spread(
    spans: SpansCheck,
    sources: Sequence[PathLike | ByteLines],
    tell: Callable[[int], object],
    spread: Spread,
    read: Callable[[Sequence[Document]], SpansPart | None],
) -> None:
    blocks = _blocks(sources, _BLOCK)
    first = list(islice(blocks, _FEW + 1))
    rest = chain(first, blocks)
    if len(first) <= _FEW:
        for block in rest:
            _take(spans, block)
            tell(block.end)
        return
    ahead: deque[_Block] = deque()

    def works() -> Iterator[Sequence[Document]]:
        for block in rest:
            ahead.append(block)
            if block.documents:
                yield block.documents

    for found in spread(read, works()):
        while not ahead[0].documents:
            _take(spans, ahead.popleft())
        block = ahead.popleft()
        if found is None or not spans.merge(found):
            _take(spans, block)
        tell(block.end)
    for block in ahead:
        _take(spans, block)
        tell(block.end)


def _read(
    block: Sequence[Document], *, trust: TrustStore, redacted: Collection[str], proofs: str | None
) -> SpansPart | None:
    """Return what is in a block; nothing if it has to be read in its order, for whatever reason."""
    try:
        spans = SpansCheck(trust, Findings("traces", ()), redacted=redacted, part=True, reader=_READER)
        spans.proofs = _proofs(proofs)
        for document in block:
            spans.take(document)
        return spans.shipped()
    except Exception:  # noqa: BLE001  Reading it in its order tells what is wrong with it.
        return None


@lru_cache(maxsize=1)
def _proofs(path: str | None) -> Proofs | None:
    """Return what tells which records are proved; it stays open from one block to the next."""
    return None if path is None else Proofs(path)


def _take(spans: SpansCheck, block: _Block) -> None:
    for document in block.documents:
        spans.take(document)
    if isinstance(block.problem, OSError):
        spans.miss(block.problem)
    elif block.problem is not None:
        spans.take(block.problem)


def _blocks(sources: Sequence[PathLike | ByteLines], size: int) -> Iterator[_Block]:
    """Take files apart into blocks of so many bytes, which may be of several files."""
    waiting: list[Document] = []
    held = end = 0
    for item, end in _items(sources):
        if isinstance(item, Document):
            waiting.append(item)
            held += _BESIDE + len(item.data)
            if held < size:
                continue
        if waiting:
            yield _Block(waiting, end)
        waiting, held = [], 0
        if not isinstance(item, Document):
            yield _Block((), end, item)
    if waiting:
        yield _Block(waiting, end)


def _items(sources: Sequence[PathLike | ByteLines]) -> Iterator[tuple[Document | Malformed | OSError, int]]:
    """Return what is in files, or why one cannot be read to its end, and how many bytes are read with it."""
    done = 0

    def count(read: int) -> None:
        nonlocal done
        done += read

    for source in sources:
        with opened(source) as file:
            try:
                for item in documents(ByteReader.of(file, count)):
                    yield item, done
            except OSError as error:
                yield error, done
