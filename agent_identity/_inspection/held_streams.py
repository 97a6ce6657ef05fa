"""Streams of results: items are held back until nothing that follows can make a part of them a match."""

import codecs
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, takewhile
from typing import Final, NamedTuple, final

from agent_identity._common.narrowing import is_dict
from agent_identity._inspection._texts import tail_of
from agent_identity._inspection.document import MAX_DEPTH, members_of
from agent_identity._inspection.running import Inspection
from agent_identity._inspection.stream_windows import InspectorStream
from agent_identity._inspection.transform import (
    Edits,
    Piece,
    Tokenize,
    UnmetError,
    action_on,
    cut_pieces,
    edits_of,
    transformed,
)
from agent_identity._policy.decision.obligations import Obligation
from agent_identity._policy.decision.request import Finding

_CONTINUED: Final = frozenset(
    {
        *("answer", "args", "arguments", "chunk", "completion", "content", "delta", "generated_text", "input"),
        *("output", "outputText", "output_text", "partial_json", "reasoning", "reasoning_content", "refusal"),
        *("response", "text", "thinking", "token"),
    }
)
"""Names of members whose text goes on in the next item: those of message chunks, content blocks and stream events."""

_DECODER: Final = codecs.getincrementaldecoder("utf-8")

_IDLE: Final = 64
"""Items without a piece of a text after which it is delivered: a match that goes on later withholds the rest."""

_MAX_TEXTS: Final = 256
_MAX_PARTS: Final = 100_000
_OVERHEAD: Final = 8
"""Characters that an item counts beside its text."""

Inspect = Callable[[object], tuple[Finding, ...]]
"""Returns what is found in a whole value."""


def readable(item: object) -> object:
    """Return an item of a stream as it is inspected by itself: bytes may begin and end within a character.

    Args:
        item: The item.
    """
    if type(item) is not bytes and type(item) is not bytearray:
        return item
    begun = next((place for place, byte in enumerate(item[:3]) if byte & 0xC0 != 0x80), min(len(item), 3))
    try:
        _DECODER().decode(bytes(item[begun:]))
    except UnicodeDecodeError:
        return item
    return _read(item)


@final
class _Item:
    """An item that is held back."""

    __slots__ = ("findings", "number", "original", "pieces", "size", "value")

    def __init__(self, number: int, value: object, findings: Sequence[Finding]) -> None:
        self.number = number
        self.original: Final = value
        self.value = value
        self.findings: Sequence[Finding] = findings
        self.pieces: list[tuple[_Text, Piece]] = []
        self.size = _OVERHEAD


@final
class _Text:
    """A text that arrives in pieces.

    Attributes:
        length: Its characters so far.
        settled: The offset before which nothing more is found.
        released: The offset up to which it was delivered.
        context: The end of what was delivered, as it was delivered.
        findings: What was found and is not delivered.
        last: The number of the last item with a piece of it.
    """

    __slots__ = ("_base", "_streams", "_tail", "context", "findings", "last", "length", "pieces", "released", "settled")

    def __init__(self) -> None:
        self._streams: tuple[InspectorStream, ...] = ()
        self._base = 0
        self._tail = ""
        self.length = self.settled = self.released = self.last = 0
        self.context = ""
        self.findings: dict[Finding, None] = {}
        self.pieces: deque[Piece] = deque()

    def feed(self, text: str, opened: Callable[[], tuple[InspectorStream, ...]]) -> None:
        size = len(text)
        if not self._streams:  # Inspectors look once more at what a text that goes on may have begun before its pause.
            self._streams, self._base, text = opened(), self.length - len(self._tail), self._tail + text
        self.length += size
        settled = self.length
        for stream in self._streams:
            progress = stream.feed(text)
            self._take(progress.findings)
            settled = min(settled, self._base + progress.settled)
        self.settled = max(self.settled, settled)

    def pause(self, hold: int) -> None:
        """Settle all of the text, though it may go on.

        Args:
            hold: Characters to look at again if it does.
        """
        kept = self._tail + "".join(piece.text for piece in self.pieces)
        self.end()
        self._tail = kept[tail_of(kept, hold) :]

    def end(self) -> None:
        for stream in self._streams:
            self._take(stream.close())
        self._streams, self.settled = (), self.length

    def _take(self, findings: Sequence[Finding]) -> None:
        base = self._base
        for finding in findings:
            moved = finding
            if finding.span is not None and base:
                moved = _at(finding, (finding.span[0] + base, finding.span[1] + base))
            self.findings[moved] = None


def _at(finding: Finding, span: tuple[int, int]) -> Finding:
    return Finding(
        category=finding.category,
        inspector=finding.inspector,
        field=finding.field,
        severity=finding.severity,
        path=finding.path,
        span=span,
        confidence=finding.confidence,
    )


@final
class HeldStream:
    """The items of one stream that are held back.

    Text that goes on from item to item is inspected as one: strings and bytes as items, and the strings under the names
    that message chunks, content blocks and events of streams have for it, by their path.

    Args:
        inspection: The inspectors.
        tool: The name of the tool.
    """

    __slots__ = ("_inspection", "_items", "_next", "_size", "_texts", "_tool")

    def __init__(self, inspection: Inspection, tool: str) -> None:
        self._inspection: Final = inspection
        self._tool: Final = tool
        self._items: deque[_Item] = deque()
        self._texts: dict[str, _Text] = {}
        self._next = 0
        self._size = 0

    def add(self, value: object, findings: Sequence[Finding]) -> None:
        """Hold back the next item.

        Args:
            value: The item.
            findings: What was found in it by itself.

        Raises:
            UnmetError: More is held back than may be.
        """
        item = _Item(self._next, value, findings)
        self._next += 1
        self._items.append(item)
        strings, size = _strings(value)
        item.size += size
        self._size += item.size
        if self._size > self._inspection.limit:
            raise UnmetError("more of a stream would have to be held back than is allowed", "stream_too_long")
        for name, path, text in strings:
            held = self._texts.get(name)
            if held is None:
                held = self._texts[name] = self._opened()
            piece = Piece(item.number, path, held.length, text)
            held.pieces.append(piece)
            item.pieces.append((held, piece))
            held.last = item.number
            held.feed(text, lambda: self._inspection.open(self._tool))

    def _opened(self) -> _Text:
        if len(self._texts) >= _MAX_TEXTS:
            self._texts = {name: text for name, text in self._texts.items() if text.pieces}
        if len(self._texts) >= _MAX_TEXTS:
            raise UnmetError("more texts are interleaved in a stream than can be told apart")
        return _Text()

    def ready(self, *, last: bool) -> "ReadyItems":
        """Return the items that nothing can make a match any more.

        Args:
            last: The stream has ended.
        """
        if last:
            for text in self._texts.values():
                text.end()
        return ReadyItems([*takewhile(self._is_settled, self._items)], self._inspection.hold)

    def _is_settled(self, item: _Item) -> bool:
        for text, piece in item.pieces:
            if piece.end <= text.settled:
                continue
            if self._inspection.hold is None or self._next - text.last <= _IDLE:
                return False
            text.pause(self._inspection.hold)
        return True

    def release(self, ready: "ReadyItems") -> None:
        """Forget items that are delivered.

        Args:
            ready: The items.
        """
        for item in ready.items:
            self._items.popleft()
            self._size -= item.size
        ready.pass_on()


class _Hit(NamedTuple):
    """Something found in a text of which a part is in items that are ready."""

    finding: Finding
    is_late: bool


@final
class ReadyItems:
    """Items that may be delivered, once a policy has judged what was found in them.

    Args:
        items: The items.
        hold: Characters of a text to look at again before a delivery.
    """

    __slots__ = ("_changed", "_found", "_hold", "_texts", "items")

    def __init__(self, items: list[_Item], hold: int | None) -> None:
        self._hold = hold or 0
        self._changed: set[int] = set()
        while True:
            self.items = items
            self._texts = _texts_of(items)
            self._found = {text: self._hits(text) for text in self._texts}
            first = self._first_torn()
            if first is None:
                break
            items = [item for item in items if item.number < first]

    def _first_torn(self) -> int | None:
        """Return the number of the first item of a match that goes on in items that are not ready."""
        numbers: list[int] = []
        for text, hits in self._found.items():
            end = self._texts[text][-1].end
            for finding, _ in hits:
                if finding.span is not None and finding.span[1] > end:
                    numbers += (piece.item for piece in self._texts[text] if piece.end > finding.span[0])
        return min(numbers, default=None)

    def _hits(self, text: _Text) -> list[_Hit]:
        end = self._texts[text][-1].end
        hits: list[_Hit] = []
        for finding in text.findings:
            span = finding.span
            if span is None or (span[0] < end and span[1] > text.released):
                hits.append(_Hit(finding, span is not None and span[0] < text.released))
        return hits

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Everything that was found in the items, in the order of the items."""
        own = chain.from_iterable(item.findings for item in self.items)
        texts = (hit.finding for hits in self._found.values() for hit in hits)
        return tuple(dict.fromkeys((*own, *texts)))

    @property
    def changes(self) -> list[tuple[object, object]]:
        """The items that were changed, as they were and as they are."""
        return [(item.original, item.value) for item in self.items if item.number in self._changed]

    @property
    def pairs(self) -> list[tuple[object, object]]:
        """All items, as they were and as they are."""
        return [(item.original, item.value) for item in self.items]

    def edits(self, obligations: Sequence[Obligation]) -> Mapping[int, Edits] | None:
        """Return what is to be done, by item; ``None`` for nothing.

        Args:
            obligations: What the policy asks for.

        Raises:
            UnmetError: The items are to be withheld, or a match began in what was delivered.
        """
        edits: dict[int, Edits] = {}
        for item in self.items:
            own = edits_of(item.findings, obligations)
            if own is not None:
                edits[item.number] = own
        for text, hits in self._found.items():
            for hit in hits:
                if hit.is_late and action_on(hit.finding, obligations) is not None:
                    raise UnmetError("a match began in a part of the stream that was delivered")
            cut_pieces(edits, self._texts[text], (hit.finding for hit in hits), obligations)
        return edits or None

    def change(
        self, edits: Mapping[int, Edits], tokenize: Tokenize, inspect: Inspect, *, keep: Tokenize | None = None
    ) -> None:
        """Change items, and look at them again as the consumer will see them.

        Args:
            edits: What is to be done, by item.
            tokenize: Returns the token of a text.
            keep: Keeps a text, and returns the handle in its place.
            inspect: Returns what is found in a value.

        Raises:
            UnmetError: An edit cannot be made.
        """
        for item in self.items:
            todo = edits.get(item.number)
            if todo is None:
                continue
            item.value = transformed(item.value, todo, tokenize, keep)
            self._changed.add(item.number)
            item.findings = inspect(readable(item.value))
            strings = {path: text for _, path, text in _strings(item.value)[0]}
            item.pieces = [(text, piece._replace(text=strings.get(piece.path, ""))) for text, piece in item.pieces]
        for text, before in self._texts.items():
            if any(piece.item in edits for piece in before):
                self._found[text] = self._looked_at(text, inspect)

    def _looked_at(self, text: _Text, inspect: Inspect) -> list[_Hit]:
        """Look at the changed part of a text between what was delivered before and what is held back after it."""
        number, start, pieces = self.items[-1].number, text.released, list[Piece]()
        for held, piece in (pair for item in self.items for pair in item.pieces):
            if held is text:
                pieces.append(piece._replace(start=start))
                start += len(piece.text)
        self._texts[text] = pieces
        begin = text.released - len(text.context)
        rest = "".join(piece.text for piece in text.pieces if piece.item > number)
        whole = "".join((text.context, *(piece.text for piece in pieces), rest))
        hits: list[_Hit] = []
        for finding in inspect(whole):
            if finding.span is None:
                hits.append(_Hit(finding, is_late=False))
                continue
            first, last = finding.span[0] + begin, finding.span[1] + begin
            if first < start and last > text.released:
                hits.append(_Hit(_at(finding, (first, last)), first < text.released or last > start))
        return hits

    def pass_on(self) -> None:
        """Take down how the texts went on, as the items are delivered."""
        for text in self._texts:
            delivered = [text.context]
            for item in self.items:
                delivered += (piece.text for held, piece in item.pieces if held is text)
            kept = "".join(delivered)
            text.context = kept[max(len(kept) - self._hold, 0) :]
            number = self.items[-1].number
            while text.pieces and text.pieces[0].item <= number:
                text.released = text.pieces.popleft().end
            later = (one for one in text.findings if one.span is not None and one.span[1] > text.released)
            text.findings = dict.fromkeys(later)


def _texts_of(items: Sequence[_Item]) -> dict[_Text, list[Piece]]:
    texts: dict[_Text, list[Piece]] = {}
    for item in items:
        for text, piece in item.pieces:
            texts.setdefault(text, []).append(piece)
    return texts


def _strings(value: object) -> tuple[list[tuple[str, str, str]], int]:
    """Return the strings of an item that go on in others: name of the text, path, string; and the item's size."""
    if isinstance(value, str | bytes | bytearray):
        text = _read(value)
        return ([("", "", text)] if text else []), len(text)
    strings: list[tuple[str, str, str]] = []
    waiting: list[tuple[object, str, str, str, int]] = [(value, "", "", "", 0)]
    visited: set[int] = set()
    size = seen = 0
    while waiting:
        seen += 1
        if seen > _MAX_PARTS:
            raise UnmetError("an item of a stream has too many parts")
        part, name, path, member, depth = waiting.pop()
        if isinstance(part, str | bytes | bytearray):
            text = _read(part) if member in _CONTINUED else ""
            size += len(part)
            if text:
                strings.append((name, path, text))
        elif depth < MAX_DEPTH and id(part) not in visited:
            visited.add(id(part))
            waiting += reversed(_members(part, name, path, member, depth))
    return strings, size


def _members(part: object, name: str, path: str, member: str, depth: int) -> list[tuple[object, str, str, str, int]]:
    try:
        members = members_of(part) or []
    except Exception:  # noqa: BLE001 - Code of others; what cannot be read is reported by whoever inspects the item.
        return []
    own = {key: item for key, item in members if type(key) is str}
    message = own.get("id")
    if "content" in own and type(message) is str:
        name = f"{name}#{message}"  # Chunks of several messages may be interleaved.
    below: list[tuple[object, str, str, str, int]] = []
    for key, item in members:
        if type(item) in {int, float, bool, type(None)}:
            continue
        segment = str(key).replace("~", "~0").replace("/", "~1")
        if type(key) is str:
            below.append((item, f"{name}/{segment}", f"{path}/{segment}", key, depth + 1))
        else:  # Chunks of several blocks are told apart by the index of the block, wherever it stands.
            place = item.get("index", key) if is_dict(item) else key
            below.append((item, f"{name}/{place}", f"{path}/{segment}", member, depth + 1))
    return below


def _read(value: str | bytes | bytearray) -> str:
    """Return bytes as text, character by character, where they may end within one."""
    if isinstance(value, str):
        return str.__str__(value)
    return "".join(
        "\ufffd" if "\ud800" <= letter <= "\udfff" else letter
        for letter in bytes(value).decode(errors="surrogateescape")
    )
