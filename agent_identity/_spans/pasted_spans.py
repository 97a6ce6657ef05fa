"""Finds spans in JSON of any shape, copied from the interface or the database of a back end.

No two back ends show a span alike. What they share is that our attributes are somewhere in it: as members with
dotted names, as objects in each other, or as a list of pairs of key and value; their values plain, wrapped with
their type, or as JSON in text. So this looks for the attributes and, around them, for the ids of the span.
Nothing here is believed: the verifier opens the signed record and holds it against what was found.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias, TypeVar, cast, final

from agent_identity._common.narrowing import is_dict, is_list, is_object
from agent_identity._spans.otlp_json import (
    MAX_NESTING,
    OURS,
    DoubledError,
    Malformed,
    MisfitError,
    any_value,
    parse_once,
)
from agent_identity._spans.span_attributes import MIRRORED
from agent_identity.canonical import JSON

MAX_PASTED: Final = 16 * 1024 * 1024
"""Bytes that a pasted text may have."""

_Members: TypeAlias = Mapping[str, object]
_Key = TypeVar("_Key", str, int)
_Parents: TypeAlias = "tuple[_Shown, ...]"
_NAME: Final = "agent_identity"
_PAYLOAD: Final = "agent_identity.attestation.payload"
_KNOWN: Final = frozenset(name for name in MIRRORED if name.startswith(OURS)) | {
    f"agent_identity.attestation.{part}" for part in ("payload", "payload_type", "signature", "keyid", "digest")
}
_COPIED: Final = MIRRORED.keys() | {"gen_ai.operation.name", "gen_ai.tool.type"}
_TEXTS: Final = MIRRORED.keys() - {"agent_identity.delegation.chain", "agent_identity.inspection.categories"}
"""The attributes that are texts, of which an object is no branch, but what a store made of one that was JSON."""

_PREFIX: Final = re.compile(r"((?:.*?\.)?)agent_identity(?:\.|\Z)", re.DOTALL)
_CONVENTIONAL: Final = re.compile(r"((?:.*?\.)?)(?:gen_ai|user|error)(?:\.|\Z)", re.DOTALL)
_INDEXED: Final = re.compile(r"(agent_identity\..*)\.([0-9]{1,4})", re.DOTALL)
_TYPED: Final = ({"type", "value"}, {"value"})
_CONTEXTS: Final = frozenset({"context", "spancontext", "trace", "span"})
_ASIDE: Final = frozenset({"events", "eventsattributes", "spanevents", "logs", "links", "linksattributes", "spanlinks"})
_SCOPES: Final = frozenset({"scope", "instrumentationscope", "instrumentationlibrary"})
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        name: field
        for field, names in (
            ("trace", ("traceid", "contexttraceid", "spancontexttraceid")),
            ("span", ("spanid", "contextspanid", "spancontextspanid")),
            ("parent", ("parentid", "parentspanid", "parentobservationid")),
            ("name", ("name", "spanname", "operationname")),
            ("start", ("starttime", "starttimeunixnano", "starttimestamp")),
            ("timestamp", ("timestamp",)),
            ("end", ("endtime", "endtimeunixnano", "endtimestamp")),
            ("duration", ("duration", "durationns", "durationnano")),
            ("kind", ("kind", "spankind")),
            ("status", ("status", "statuscode", "otelstatuscode")),
            ("message", ("statusmessage", "statusdescription", "otelstatusmessage", "otelstatusdescription")),
            ("resource", ("resource", "resourcename")),
            ("scope", ("scopename", "otelscopename", "instrumentationscopename", "instrumentationlibraryname")),
        )
        for name in names
    }
)
"""Fields by the name of a member, in lower case without marks."""
_MESSAGES: Final = frozenset({"message", "description", "statusmessage", "statusdescription"})
"""Members of a status that hold its message."""

_IDS: Final = ("trace", "span")
_SCALAR: Final = frozenset({*_IDS, "scope", "resource"})
"""Fields that an object with one of these names does not state."""

_MARKS: Final = str.maketrans("", "", "._- ")
_LONGEST: Final = 64  # Characters of a name that may be one of an id.
_LONGEST_ABOVE: Final = 256  # Characters of a name above others; none of ours is as long.
_MAX_IDS: Final = 16
_SHORTEST: Final = 11  # Characters of the shortest spelling of 64 bits, base64 without padding.


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PastedSpan:
    """One span found in pasted JSON.

    Attributes:
        attributes: Those of ours, and the conventional ones that copy the record.
        trace_ids: The shown ids of its trace, in their original spelling.
        span_ids: The shown ids of the span itself.
        line: The 1-based line where its document starts.
        parents: The shown ids of its parent.
        names: As its name.
        starts: As its start.
        ends: As its end.
        durations: As its duration.
        statuses: As its status.
        scopes: As the name of its scope.
        kinds: As its kind.
        messages: As the message of its status.
        resources: As what it is about, where a store has another name for what it does.
        nested: Of its events and links, the attributes in names of ours.
    """

    attributes: Mapping[str, object]
    trace_ids: tuple[object, ...]
    span_ids: tuple[object, ...]
    line: int
    parents: tuple[object, ...] = ()
    names: tuple[object, ...] = ()
    starts: tuple[object, ...] = ()
    ends: tuple[object, ...] = ()
    durations: tuple[object, ...] = ()
    statuses: tuple[object, ...] = ()
    scopes: tuple[object, ...] = ()
    kinds: tuple[object, ...] = ()
    messages: tuple[object, ...] = ()
    resources: tuple[object, ...] = ()
    nested: tuple[Mapping[str, object], ...] = ()


class _Shown(NamedTuple):
    """The facts of a span that an object shows."""

    trace: tuple[object, ...] = ()
    span: tuple[object, ...] = ()
    parent: tuple[object, ...] = ()
    name: tuple[object, ...] = ()
    start: tuple[object, ...] = ()
    end: tuple[object, ...] = ()
    duration: tuple[object, ...] = ()
    status: tuple[object, ...] = ()
    scope: tuple[object, ...] = ()
    kind: tuple[object, ...] = ()
    message: tuple[object, ...] = ()
    resource: tuple[object, ...] = ()

    def beside(self, other: "_Shown") -> "_Shown":
        """Return the facts of both."""
        return _Shown(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


def read_pasted(data: bytes) -> Iterator[PastedSpan | Malformed]:
    """Yield each span with attributes of ours in a JSON text, and an item for each malformed part.

    Args:
        data: One JSON document, or one on each line; at most :data:`MAX_PASTED` bytes.
    """
    if len(data) > MAX_PASTED:
        yield Malformed(1, f"the text is longer than {MAX_PASTED} bytes; copy one span, or verify an export")
        return
    for line, document in enumerate(_documents(data), 1):
        try:
            if document.strip():
                yield from _find(parse_once(document), (), line, 0)
        except ValueError:
            yield Malformed(
                line, "the text is neither JSON nor a JSON document on each line; copy it as the back end shows it"
            )
        except MisfitError as misfit:
            yield Malformed(line, str(misfit))


def _documents(data: bytes) -> Sequence[bytes]:
    try:
        parse_once(data)
    except ValueError:
        return data.splitlines()
    except MisfitError:
        pass
    return (data,)


def _find(
    value: object, parents: _Parents, line: int, depth: int, *, text: bool = False, nested: bool = False
) -> Iterator[PastedSpan]:
    """Yield the spans in a value; facts of enclosing objects apply, the nearest first.

    A row shows a span a second time in the ``text`` of one of its columns, and both have to be the signed one. What
    stands ``nested`` is no span, and may have other names of ours than a span has.
    """
    if depth > MAX_NESTING:
        raise MisfitError(f"a span is inside more than {MAX_NESTING} nested arrays, objects and texts")
    if is_object(value):
        shown = _shown(value)
        if not nested and shown.span and (names := _nested_names(value)):
            yield from _find_beside(value, names, parents, line, depth, text=text)
            return
        attributes, rest = _grouped(value, nested=nested)
        # The object around usually has the ids; in a flat row they are beside the attributes.
        if text and parents and shown.span:
            shown = shown.beside(parents[0])
        around = (*parents[:1], shown, *parents[1:])
        parents = (shown, *parents)
    elif is_list(value):
        pairs = _attributes((_pairs(value) or {}).items(), nested=nested)
        attributes, rest = ([pairs], ()) if pairs else ((), value)
        around = parents
    else:
        attributes, rest, around = (), _from_text(value), parents
    for facts in attributes:
        yield _made(facts, around, line)
    for item in rest:
        yield from _find(item, parents, line, depth + 1, text=isinstance(value, str), nested=nested)


def _find_beside(
    members: _Members, names: Sequence[str], parents: _Parents, line: int, depth: int, *, text: bool
) -> Iterator[PastedSpan]:
    """Yield the spans in an object with events or links; attributes of events and links are kept apart.

    If the span itself says nothing of ours, each is yielded as one, which nothing signs.
    """
    said = [span.attributes for name in names for span in _find(members[name], (), line, depth + 1, nested=True)]
    rest = {name: value for name, value in members.items() if name not in names}
    shown = _shown(rest)
    is_there = False
    for span in _find(rest, parents, line, depth, text=text):
        if shown.span[0] in span.span_ids:
            is_there = True
            yield replace(span, nested=(*span.nested, *said))
        else:
            yield span
    if not is_there:
        for attributes in said:
            yield PastedSpan(attributes=attributes, trace_ids=shown.trace, span_ids=shown.span, line=line)


def _nested_names(members: _Members) -> Sequence[str]:
    """Return the event and link members of a span; a list whose items have their own ids is a list of spans."""
    names = ((name, _bare(name)) for name in members)
    return [name for name, bare in names if bare in _ASIDE and ("link" in bare or not _are_spans(members[name]))]


def _are_spans(value: object) -> bool:
    items = value if is_list(value) else ()
    return any(is_object(item) and _shown(item).span for item in items)


def _grouped(members: _Members, *, nested: bool) -> tuple[Sequence[_Members], Sequence[object]]:
    """Return the attributes among the members of an object, for each prefix of their names, and the other values."""
    groups: dict[str, list[tuple[str, object]]] = {}
    rest: list[object] = []
    for name, value in members.items():
        if match := _PREFIX.match(name) or _CONVENTIONAL.match(name):
            groups.setdefault(match[1], []).append((name[len(match[1]) :], value))
        else:
            rest.append(value)
    attributes: list[_Members] = []
    for group in groups.values():
        if ours := _attributes(group, nested=nested):
            attributes.append(ours)
        else:
            rest.extend(value for _, value in group)
    return attributes, rest


def _from_text(text: object) -> Sequence[object]:
    """Parse a JSON text that may hold attributes of ours."""
    if not isinstance(text, str) or _NAME not in text or text[:1] not in ("{", "[", '"'):
        return ()
    try:
        return (parse_once(text.encode()),)
    except ValueError:
        return ()


def _pairs(items: Sequence[object]) -> _Members | None:
    """Return the content of a list of pairs, or ``None`` for another list."""
    pairs: dict[str, object] = {}
    for item in items:
        if not is_object(item):
            return None
        members = {name.lower(): held for name, held in item.items()}
        key = members.get("key")
        if not isinstance(key, str) or "value" not in members:
            return None
        _put(pairs, key, _plain(members["value"]))
    return pairs


def _put(attributes: dict[_Key, object], name: _Key, value: object) -> None:
    _check_depth(value)
    if name in attributes and repr(attributes[name]) != repr(value):
        raise DoubledError
    attributes[name] = value


def _check_depth(value: object) -> None:
    """Check that the nesting is within bounds, so that no recursion over the value exhausts the stack."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [held for item in level for held in _held(item)]
        if not level:
            return
    raise MisfitError(f"an attribute has more than {MAX_NESTING} nested arrays and objects")


def _held(value: object) -> Iterable[object]:
    if is_dict(value):
        return value.values()
    return value if is_list(value) else ()


def _plain(value: object) -> object:
    """Return a value without its type wrapper."""
    if not is_object(value):
        return value
    lower = {name.lower(): item for name, item in value.items()}
    if set(lower) in _TYPED:
        return lower["value"]
    return any_value(cast("JSON", value), 0) if any(name.endswith(("Value", "_value")) for name in value) else value


def _attributes(pairs: Iterable[tuple[str, object]], *, nested: bool) -> _Members:
    """Return our attributes by their dotted names; empty if none is a span attribute of ours.

    What stands ``nested`` in a span concerns us by the prefix of its name alone.
    """
    flat: dict[str, object] = {}
    for name, value in pairs:
        _flatten(flat, name, value, 0)
    attributes = {name: value for name, value in flat.items() if name.startswith(OURS) or name in _COPIED}
    if not any(name in _KNOWN or (nested and name.startswith(OURS)) for name in attributes):
        return {}
    payload = attributes.get(_PAYLOAD)
    if isinstance(payload, str) and payload.startswith('"'):
        attributes = {name: _unquoted(value) for name, value in attributes.items()}
    return _with_lists(attributes)


def _flatten(flat: dict[str, object], name: str, value: object, depth: int) -> None:
    plain = _plain(value)
    if name in _TEXTS:
        _put(flat, name, plain)
        return
    if not is_object(plain):
        _put(flat, name, plain)
    elif depth > MAX_NESTING:
        raise MisfitError(f"the attributes have more than {MAX_NESTING} nested objects")
    elif len(name) > _LONGEST_ABOVE:  # It would be written out for each that it is above.
        if name.startswith(OURS):
            raise MisfitError(f"a name above others has more than {_LONGEST_ABOVE} characters")
    else:
        for key, item in plain.items():
            _flatten(flat, f"{name}.{key}", item, depth + 1)


def _unquoted(value: object) -> object:
    """Parse JSON inside a text, where a back end stores each value so."""
    try:
        return parse_once(value.encode()) if isinstance(value, str) else value
    except ValueError:
        return value


def _with_lists(attributes: _Members) -> _Members:
    """Rebuild arrays whose items were numbered by their names."""
    whole: dict[str, object] = {}
    items: dict[str, dict[int, object]] = {}
    for name, value in attributes.items():
        if match := _INDEXED.fullmatch(name):
            _put(items.setdefault(match[1], {}), int(match[2]), value)
        else:
            _put(whole, name, value)
    for name, numbered in items.items():
        _put(whole, name, [numbered[place] for place in sorted(numbered)])
    return whole


def _made(attributes: _Members, around: _Parents, line: int) -> PastedSpan:
    own = next((shown for shown in around if shown.span), _Shown())
    return PastedSpan(
        attributes=MappingProxyType(attributes),
        trace_ids=next((shown.trace for shown in around if shown.trace), ()),
        span_ids=own.span,
        line=line,
        parents=own.parent,
        names=own.name,
        starts=own.start,
        ends=own.end,
        durations=own.duration,
        statuses=own.status,
        scopes=next((shown.scope for shown in around if shown.scope), ()),
        kinds=own.kind,
        messages=own.message,
        resources=own.resource,
    )


def _shown(members: _Members) -> _Shown:
    """Return the facts in the members of an object, including its span context and scope."""
    facts: dict[str, list[object]] = {}
    for name, value in members.items():
        bare = _bare(name)
        field = _FIELDS.get(bare)
        if (bare == "status" or field in _SCALAR or field is None) and is_object(value):
            _look_into(facts, bare, value)
        elif field and not _is_blank(plain := _plain(value)):
            facts.setdefault(field, []).append(plain)
    if len(facts.get("trace", ())) > _MAX_IDS or len(facts.get("span", ())) > _MAX_IDS:
        raise MisfitError(f"the span has more than {_MAX_IDS} ids")
    if "trace" in facts and "span" not in facts:
        facts["span"] = _only_id(members)
    moments = facts.pop("timestamp", [])  # Of the end, where a start stands beside it.
    if moments:
        facts.setdefault("start", moments)
    return _Shown(**{field: tuple(values[:_MAX_IDS]) for field, values in facts.items()})


def _look_into(facts: dict[str, list[object]], above: str, members: _Members) -> None:
    """Add the facts of an object in another one, if it is a span context, a scope or a status."""
    for name, value in members.items():
        bare = _bare(name)
        field = None
        if above in _CONTEXTS:
            field = next((known for part in (bare, above + bare) if (known := _FIELDS.get(part)) in _IDS), None)
        elif above in _SCOPES and bare == "name":
            field = "scope"
        elif above == "status":
            field = "message" if bare in _MESSAGES else "status"
        if field and not _is_blank(value):
            facts.setdefault(field, []).append(value)


def _is_blank(value: object) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, str) and not value.strip())


def _only_id(members: _Members) -> list[object]:
    """Return the own id of an object with a trace id, unless it is the number of a row."""
    value = members.get("id")
    return [value] if isinstance(value, str) and len(value) >= _SHORTEST else []


def _bare(name: str) -> str:
    return name.translate(_MARKS).lower() if len(name) <= _LONGEST else name
