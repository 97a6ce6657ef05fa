"""Spans rebuilt from a stream in the order of its records: one for each call and task, ended or not."""

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, final

from agent_identity._identity.keys.keys import Signer
from agent_identity._identity.trust.store import TrustStore
from agent_identity._ledger.follow import Proved, StreamTail
from agent_identity._ledger.reader import LedgerReader
from agent_identity._record.codec import decode
from agent_identity._record.schema import AnyRecord, Grant, Intent, Outcome, StreamEnd, TaskEnd, TaskStart
from agent_identity._spans.span_from_record import RecordSpan, make_span, stated_parent, stated_span
from agent_identity._storage.layout import Layout
from agent_identity._storage.mac import LedgerKey
from agent_identity._storage.os_files import Files
from agent_identity.errors import TokenError

Wanted = Callable[[AnyRecord], bool]
"""Says of a record whether its span is to be made."""

_NS: Final = 1_000_000_000
_GRANTS: Final = 8_192  # Of tasks that are open or come again; of others, the stream is searched once more.


class Copied(NamedTuple):
    """A record to be sent on a span.

    Attributes:
        seq: Its place in the stream, from 1.
        id: The id of the record.
        size: The number of its bytes, and of those of the grants on its span.
        span: The span, or ``None`` if there can be none.
        problem: Why: the code of what a verifier would say of the signature.
    """

    seq: int
    id: str
    size: int
    span: RecordSpan | None
    problem: str | None


@final
class StreamCopies:
    """Makes the spans of one stream from its records.

    Args:
        files: The operating system.
        layout: The evidence directory.
        stream: The id of the stream.
        key: Tells which records the library wrote itself; no others are signed.
        signer: The recorder key.
        trust: Says for which times signatures of that key count; ``None`` signs without asking.
        after: Records up to this place in the stream make no span again.
        wanted: Records that make spans; by default all that travel.

    Attributes:
        ended: The stream has its last record; nothing follows.
    """

    def __init__(
        self,
        files: Files,
        layout: Layout,
        stream: str,
        key: LedgerKey,
        *,
        signer: Signer,
        trust: TrustStore | None,
        after: int = 0,
        wanted: Wanted = lambda _: True,
    ) -> None:
        self.ended = False
        self._source = (files, layout, stream, key)
        self._tail = StreamTail(*self._source)
        self._signer = signer
        self._trust = trust
        self._after = after
        self._wanted = wanted
        self._open: dict[str, tuple[int, str | None]] = {}
        self._grants: OrderedDict[str, str] = OrderedDict()
        self._opened: OrderedDict[str, None] = OrderedDict()

    @property
    def seq(self) -> int:
        """The place in the stream of the last record that was read; 0 before the first."""
        return self._tail.seq

    @property
    def rejected(self) -> int:
        """Number of lines that the library did not write; they produce no spans."""
        return self._tail.rejected

    def is_over(self) -> bool:
        """Return whether no process writes to the stream any more; see :meth:`StreamTail.is_over`."""
        return self._tail.is_over()

    def read(self) -> Iterator[Copied]:
        """Yield the spans of calls and tasks that ended since the last read."""
        for proved in self._tail.read():
            parent = self._note(proved.record)
            record = proved.record
            if isinstance(record, Intent | TaskStart):
                self._open[_name(record)] = (proved.seq, stated_parent(record))
            elif isinstance(record, Outcome | TaskEnd) and proved.seq > self._after and self._wanted(record):
                yield self._copied(proved, parent)

    def left_open(self) -> Iterator[Copied]:
        """Yield the spans of calls and tasks that began and will not end, once the stream is over."""
        wanted = {seq for seq, _ in self._open.values()}
        for proved in StreamTail(*self._source).read() if wanted else ():
            if proved.seq in wanted and self._wanted(proved.record):
                yield self._copied(proved, None)

    def _note(self, record: AnyRecord) -> str | None:
        """Store the facts of a record that later spans need; return the parent that its beginning stated."""
        self.ended = isinstance(record, StreamEnd)
        if isinstance(record, Grant):
            self._keep(record.chain[-1].grant, record.grant.token)
        elif isinstance(record, TaskStart):
            self._opened[record.chain[-1].grant] = None
            if len(self._opened) > _GRANTS:
                self._opened.popitem(last=False)
        return self._open.pop(_name(record), (0, None))[1] if isinstance(record, Outcome | TaskEnd) else None

    def _keep(self, name: str, token: str) -> None:
        self._grants[name] = token
        self._grants.move_to_end(name)
        if len(self._grants) > _GRANTS:
            self._grants.popitem(last=False)

    def _copied(self, proved: Proved, parent: str | None) -> Copied:
        record = proved.record
        end, size = record.time.end_ns, len(proved.body)
        span, problem = None, self._problem((record.time.start_ns if end is None else end) // _NS)
        if problem is None:
            hops = record.chain if isinstance(record, TaskStart | TaskEnd) else None
            grants = None if hops is None else self._grants_of([hop.grant for hop in hops])
            span = make_span(record, proved.body, self._signer, parent=parent, grants=grants)
            size += len(grants or "")
        return Copied(proved.seq, record.id, size, span, problem)

    def _problem(self, at: int) -> str | None:
        """Return the reason why a signature over a record of this time would not count, or ``None``."""
        try:
            if self._trust is not None:
                self._trust.find(self._signer.public_key.thumbprint, "recorder", at=at)
        except TokenError as error:
            return error.code
        return None

    def _grants_of(self, chain: Sequence[str]) -> str | None:
        """Return the grants for the span of a task: those that no other span of this stream carries."""
        first = len(chain) - 1
        while first and chain[first - 1] not in self._opened:
            first -= 1
        tokens = [token for name in chain[first:] if (token := self._grant(name)) is not None]
        return "~".join(tokens) or None

    def _grant(self, name: str) -> str | None:
        token = self._grants.get(name)
        if token is None:
            for proved in StreamTail(*self._source).read():
                if isinstance(proved.record, Grant) and proved.record.chain[-1].grant == name:
                    token = proved.record.grant.token
                    break
            else:
                return None
        self._keep(name, token)
        return token


def count_spans(files: Files, layout: Layout, stream: str, *, after: int, over: bool) -> int:
    """Return the number of spans of a stream that a receiver still lacks.

    Args:
        files: The operating system.
        layout: The evidence directory.
        stream: The id of the stream.
        after: The place up to which the receiver has acknowledged.
        over: Whether no process writes to the stream any more: what began and has not ended makes a span then.
    """
    ended, waiting = 0, set[str]()
    for line in LedgerReader(layout.root, files=files).entries(stream):
        with contextlib.suppress(ValueError):  # No one has verified it.
            record = decode(line.record or b"")
            if isinstance(record, Intent | TaskStart):
                waiting.add(_name(record))
            elif isinstance(record, Outcome | TaskEnd):
                waiting.discard(_name(record))
                ended += record.stream.number > after
    return ended + len(waiting) if over else ended


def _name(record: Intent | Outcome | TaskStart | TaskEnd) -> str:
    """Return the key shared by the beginning and the end of a call or task."""
    if isinstance(record, Intent):
        return record.id
    if isinstance(record, Outcome):
        return record.intent or ""
    return stated_span(record) or f"{record.chain[-1].grant} {record.time.start}"
