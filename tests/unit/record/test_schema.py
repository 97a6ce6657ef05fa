"""The shape of records: what each kind states, and that nothing else passes."""

import copy
import enum
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import plain_records
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema_document import ONLY_THE_CODEC, RECORDS

from agent_identity import Human
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._record.codec import decode
from agent_identity._record.parts import EFFECTS, OUTCOMES, VERSION, Sdk
from agent_identity._record.schema import KINDS
from agent_identity.records import StreamStart, as_dict, encode

HEX = "0123456789abcdef" * 2
HASH = "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8"
ID = "AZV6P04jewGp0QAAAAAAoQ"
TASK: dict[str, Any] = {
    "task": {"id": "task-1"},
    "principal": {"id": "alice", "kind": "human", "provenance": "asserted"},
    "agent": {"id": "billing", "owner": "team:payments"},
    "chain": [{"id": "orchestrator", "grant": HASH}, {"id": "billing", "grant": HASH}],
}
ACTION: dict[str, Any] = {"tool": "pay_invoice", "kind": "function"}
DECISION: dict[str, Any] = {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"}
POLICY = {"name": "invoices", "version": "3", "digest": HASH}
RECOVERED = {
    "stream": ID,
    "size": "12",
    "sealed_before": "10",
    "torn_bytes": "0",
    "rejected_bytes": "0",
    "open_count": "1",
}
BODIES: dict[str, dict[str, Any]] = {
    "stream_start": {"sdk": {"name": "agent-identity-otel", "version": "0.1.0"}},
    "grant": {**TASK, "grant": {"token": "eyJh.eyJi.c2ln"}},
    "task_start": TASK,
    "intent": {**TASK, "action": ACTION, "decision": DECISION},
    "outcome": {**TASK, "action": ACTION, "decision": DECISION, "outcome": "success"},
    "task_end": {**TASK, "counts": {"intents": "0", "outcomes": "2", "open": "0"}},
    "registration": {"agent": TASK["agent"]},
    "policy": {"policy": POLICY},
    "approval": {**TASK, "action": ACTION, "approval": {"id": ID, "status": "approved"}},
    "revocation": {"revocation": {"kind": "agent", "name": "clerk", "status": "revoked", "version": "1"}},
    "erasure": {"erasure": {"key": "task-1"}},
    "recovered": {"recovered": RECOVERED},
    "mark": {**TASK, "mark": {"hop": HASH, "seq": "2", "label": "untrusted", "cause": "read", "prev": ID}},
    "examination": {"examination": {"question": "who", "digest": HASH, "size": "3"}},
    "trust": {"trust": {"key": "k", "purpose": "recorder", "status": "renewed"}},
    "stream_end": {"end": {"size": "2"}},
}
TRACE = {"trace": {"trace": HEX, "span": HEX[:16]}}
OPTIONAL: dict[str, dict[str, Any]] = {
    "grant": TRACE,
    "task_start": TRACE,
    "intent": {**TRACE, "findings": ["api_key"]},
    "outcome": {**TRACE, "findings": ["api_key", "pii/email"], "intent": ID, "error": "ValueError"},
    "task_end": {**TRACE, "outcome": "error", "error": "ValueError"},
    "registration": {"registration": {"hash": HASH, "purpose": "pay what is due", "status": "registered"}},
    "approval": TRACE,
    "mark": TRACE,
}
"""What each kind permits in addition at the top."""


def record(kind: str, **more: Any) -> dict[str, Any]:
    """A record of a kind with everything that it requires."""
    stream = {"id": ID, "seq": "1"} if kind == "stream_start" else {"id": ID, "seq": "2", "prev": HASH}
    head = {"v": VERSION, "id": ID, "kind": kind, "stream": stream, "time": {"start": "1764000000000000000"}}
    return copy.deepcopy({**head, **BODIES[kind], **more})


def full(kind: str) -> dict[str, Any]:
    """A record of a kind with everything that it permits."""
    value = record(kind, **OPTIONAL.get(kind, {}))
    value["time"]["end"] = "1764000000000000001"
    for name, more in {
        "task": {"expires": "1764000900000000000", "purpose": "pay what is due"},
        "principal": {"issuer": "https://idp.example.com", "roles": ["finance", "approver"]},
        "agent": {"version": "1.2"},
        "action": {
            "kind": "mcp",
            "call": "call_1",
            "args": HASH,
            "names": ["amount:number", "a:b:string", "é\n:opaque"],
            "result": HASH,
            "route": "approval-desk",
            "agent": TASK["agent"],
            "principal": TASK["principal"],
        },
        "decision": {
            "rule": "limit",
            "why": "payments over 100 need a human",
            "argument": "amount",
            "policy": "invoices",
            "version": "3",
            "digest": HASH,
            "warnings": ["personal-data"],
            "approval": ID,
        },
        "approval": {
            "approver": TASK["principal"],
            "expires": "1764000900000000000",
            "token": "eyJh.eyJi.c2ln",
            "reason": "the invoice is a copy",
        },
        "revocation": {"reason": "stolen"},
        "recovered": {"open": [ID]},
    }.items():
        if name in value:
            value[name].update(copy.deepcopy(more))
    for path in OF_INTENT if kind == "outcome" else ():
        _, part, name = path.split(".")
        value[part].pop(name)
    return value


OF_INTENT = {
    f"record.{part}.{name}"
    for part, names in {
        "task": ("expires", "purpose"),
        "principal": ("roles",),
        "action": ("names",),
        "decision": ("policy", "version"),
    }.items()
    for name in names
}
"""What an outcome leaves to its intent."""


def walk(value: object, path: str = "record") -> Iterator[tuple[str, Any, Any]]:
    """Every container of a record with a key of it, and the path to what stands there."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"{path}.{key}", value, key
            yield from walk(item, f"{path}.{key}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{path}[{index}]", value, index
            yield from walk(item, f"{path}[{index}]")


def check_record(value: dict[str, Any]) -> None:
    """Check that members are a record, and that the published schema says the same."""
    try:
        plain_records.check_record(value)
    except ValueError as error:
        if not str(error).endswith(tuple(ONLY_THE_CODEC)) and RECORDS.is_valid(value):
            pytest.fail(f"the schema permits what the codec refuses: {error}")
        raise
    RECORDS.validate(decode_record(encode_record(value)))


def refusal(value: dict[str, Any]) -> str:
    """The message of the refusal of a record."""
    with pytest.raises(ValueError, match=r"^record[.\[:]") as caught:
        check_record(value)
    return str(caught.value)


SERVER = {"name": "files", "transport": "stdio", "status": "pinned"}
TOOL = {"name": "read", "status": "changed", "pinned": HASH, "offered": HASH}


def test_a_server_is_registered_in_place_of_an_agent() -> None:
    """A registration says of a server where it is and which definitions of its tools count; never half of both."""
    head = {key: value for key, value in record("registration").items() if key != "agent"}
    more = {"place": HASH, "title": "Files", "version": "1.0", "reason": "looked at"}
    for server, tools in ((SERVER, {}), ({**SERVER, **more}, {"tools": [TOOL, {"name": "new", "status": "new"}]})):
        check_record({**head, "server": server, **tools})
    for bad, where in (
        ({"server": SERVER, "agent": TASK["agent"]}, "record"),
        ({"server": {**SERVER, "transport": "pigeon"}}, "record.server.transport"),
        ({"server": {**SERVER, "status": "new"}}, "record.server.status"),
        ({"server": SERVER, "tools": []}, "record.tools"),
        ({"server": SERVER, "tools": [{**TOOL, "pinned": f"sha256:{HASH}"}]}, "record.tools[0].pinned"),
        ({"server": SERVER, "tools": [{"name": "read"}]}, "record.tools[0].status"),
        ({}, "record.agent"),
    ):
        assert refusal({**head, **bad}).startswith(f"{where}:")


def outcome_of(value: dict[str, Any]) -> str:
    """The message of the refusal of a record, if it is refused."""
    try:
        check_record(value)
    except ValueError as error:
        return str(error)
    return "accepted"


kinds = st.sampled_from(sorted(KINDS))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_each_kind_has_a_shape(kind: str) -> None:
    """With only what it requires, and with all that it permits, a record passes, also after storage."""
    for value in (record(kind), full(kind)):
        check_record(value)
        check_record(decode_record(encode_record(value)))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_typed_record_is_its_bytes(kind: str) -> None:
    """What is decoded names its kind, encodes to the same bytes, and has the same members as a dict."""
    for value in (record(kind), full(kind)):
        data = encode_record(value)
        found = decode(data)
        assert (found.kind, found.id, found.stream.number) == (kind, ID, 1 if kind == "stream_start" else 2)
        assert encode(found) == data
        assert as_dict(found) == value


def test_a_record_with_half_a_character_has_no_bytes() -> None:
    """A lone surrogate is no text, and is refused before anything is written."""
    found = decode(encode_record(record("stream_start")))
    assert isinstance(found, StreamStart)
    with pytest.raises(ValueError, match="lone surrogate"):
        encode(msgspec.structs.replace(found, sdk=Sdk(name="a\ud800", version="1")))


@given(kinds, st.data())
def test_only_the_canonical_bytes_are_a_record(kind: str, data: st.DataObject) -> None:
    """Any other spelling of the same record is refused, and so is a null in place of a member that is left out."""
    value = encode_record(full(kind))
    ways: list[Callable[[bytes], bytes]] = [
        lambda text: text + b" ",
        lambda text: b"\n" + text,
        lambda text: text.replace(b'":"', b'": "', 1),
        lambda text: text.replace(b'"v":"1"', b'"v":"\\u0031"'),
        lambda text: text.replace(b'"v":"1"', b'"v":"1","v":"1"'),
        lambda text: b'{"v":"1",' + text[1:].replace(b',"v":"1"', b""),
        lambda text: b'{"trace":null,' + text[1:],
        lambda text: text[:-1],
        lambda text: text.replace(b"1764", b"\xff764", 1),
        lambda text: b"\xef\xbb\xbf" + text,
    ]
    with pytest.raises(ValueError, match=r"^record[.\[:]"):
        decode(data.draw(st.sampled_from(ways))(value))


@pytest.mark.parametrize(
    "data",
    [
        b'{"kind":"intent","action":{"tool":5},"kind":[]}',
        b'{"action":{"call":5},"kind":"intent","action":{}}',
        b'{"chain":[5],"kind":"intent","chain":{}}',
        b'{"kind":"outcome","outcome":5,"x":"\\ud800"}',
        b'{"id":5,"kind":"outcome","x":1e999}',
        b'{"id":5,"kind":"outcome","x":' + b"[" * 2000 + b"]" * 2000 + b"}",
    ],
)
def test_what_two_readers_read_differently_is_refused_in_the_same_way(data: bytes) -> None:
    """Members that are there twice, and what only one parser takes, give a ValueError that shows nothing of them."""
    with pytest.raises(ValueError, match=r"^record[.\[:]") as caught:
        decode(data)
    assert type(caught.value) is ValueError


class Text(str):
    """A string by another name."""

    __slots__ = ()


@pytest.mark.parametrize("value", [Text("x"), uuid.UUID(int=1), enum.Enum("E", {"A": "x"}).A])
def test_values_that_only_look_like_text_are_refused(value: object) -> None:
    """What some encoder writes as text is no text in a record that is checked before it is written."""
    assert refusal({**record("outcome"), "error": value}).endswith("is not a JSON value")


def test_a_refusal_quotes_nothing_from_the_name_of_a_member() -> None:
    """A member whose name imitates a path is told as an unknown one."""
    name = "x` - at `$.decision.effect"
    assert refusal({**record("intent"), name: "y"}) == f"record.decision.effect: {UNKNOWN}"
    assert "\u2603" not in refusal({**record("intent"), "\u2603` - at `$.\u2603": "y"})


def test_the_closed_lists() -> None:
    """The lists are those that verifiers elsewhere know."""
    assert frozenset(BODIES) == KINDS
    assert {"allow", "warn", "block", "route"} == EFFECTS
    assert {"success", "error", "denied", "routed", "cancelled", "suspended", "unknown"} == OUTCOMES


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_all_that_is_required_is_required(kind: str) -> None:
    """Take any single member away that the smallest record has: it is named as missing."""
    for path, container, key in list(walk(record(kind))):
        if isinstance(container, dict):
            smaller = record(kind)
            smaller_container = next(c for p, c, _ in walk(smaller) if p == path)
            del smaller_container[key]
            assert refusal(smaller).startswith((f"{path}: missing", f"{path}: unknown kind"))


@given(kinds, st.data())
def test_nothing_unknown_is_permitted_at_any_level(kind: str, data: st.DataObject) -> None:
    """An unknown member is refused in every object of every record, with the path to that object."""
    value = full(kind)
    objects = [("record", value)] + [(path, c[k]) for path, c, k in walk(value) if isinstance(c[k], dict)]
    path, target = data.draw(st.sampled_from(objects))
    name = data.draw(st.text().filter(lambda text: text not in target))
    target[name] = data.draw(st.sampled_from(["x", True, [], {}]))
    assert refusal(value) == f"{path}: unknown member"


@given(
    kinds,
    st.data(),
    st.sampled_from([True, False, None, 1, 1.5, b"x", [], {}, "", ["\n"], {"x": "y"}, "\u2028" * 5000]),
)
def test_no_value_of_another_form_is_permitted(kind: str, data: st.DataObject, other: object) -> None:
    """Put a value of another type, or an empty one, anywhere: it is refused, and the path names the place."""
    value = full(kind)
    path, container, key = data.draw(st.sampled_from(list(walk(value))))
    container[key] = other
    places = (path, "record: ") if other is None or other == b"x" else path  # Neither stands in any record.
    assert refusal(value).startswith(places)


@given(kinds, st.data(), st.text())
def test_refusals_show_no_values(kind: str, data: st.DataObject, text: str) -> None:
    """The message of a refusal names the place and the form, and never quotes the record."""
    marker = f"\u2603{text}"
    value = full(kind)
    _, container, key = data.draw(st.sampled_from(list(walk(value))))
    container[key] = marker if data.draw(st.booleans()) else [marker]
    assert "\u2603" not in outcome_of(value)


@pytest.mark.parametrize("kind", sorted(KINDS - {"intent", "outcome"}))
def test_only_calls_can_be_unattributed(kind: str) -> None:
    """Nothing else can say that it belongs to nobody."""
    assert refusal(record(kind, attribution="none")) == "record: unknown member"


@pytest.mark.parametrize("kind", ["intent", "outcome"])
def test_a_call_outside_any_task_names_nobody(kind: str) -> None:
    """Attribution "none" and any fact about a task exclude each other."""
    bare = {name: value for name, value in record(kind).items() if name not in TASK}
    check_record({**bare, "attribution": "none"})
    for name, value in TASK.items():
        assert refusal({**bare, "attribution": "none", name: value}).startswith("record: unknown member")
    assert refusal({**bare, "attribution": "some"}).startswith("record.attribution: not one of none")
    assert refusal(bare).startswith("record.task: missing member")


def test_an_intent_has_no_outcome() -> None:
    """What is written before the body runs cannot know how it ended."""
    for name, value in {"outcome": "success", "error": "ValueError", "intent": ID}.items():
        assert refusal(record("intent", **{name: value})).startswith("record: unknown member")


def test_first_and_further_records_of_a_stream() -> None:
    """Only the first record starts a stream, and only it has no predecessor."""
    first = record("stream_start")
    assert refusal({**first, "stream": {"id": ID, "seq": "1", "prev": HASH}}).startswith("record.stream.prev")
    assert refusal({**first, "stream": {"id": ID, "seq": "2"}}).startswith("record.stream.prev")
    assert refusal({**first, "stream": {"id": ID, "seq": "2", "prev": HASH}}).startswith("record.kind")
    assert refusal({**record("policy"), "stream": {"id": ID, "seq": "1"}}).startswith("record.kind")


@pytest.mark.parametrize("kind", ["session", "", None, 1, ["intent"], {"intent": 1}])
def test_unknown_kinds(kind: object) -> None:
    """A kind outside the closed list is refused, whatever its type."""
    assert refusal({**record("intent"), "kind": kind}) == "record.kind: unknown kind of record"
    assert refusal({}) == "record.kind: unknown kind of record"


def _set(*path: Any) -> Callable[[dict[str, Any], object], None]:
    def put(value: dict[str, Any], item: object) -> None:
        target: Any = value
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = item

    return put


@pytest.mark.parametrize(
    ("put", "path", "values"),
    [
        (_set("v"), "record.v", ["agent-identity/record/v2", "AGENT-IDENTITY/RECORD/V1"]),
        (
            _set("id"),
            "record.id",
            [ID[:-1], ID + "A", ID + "\n", ID + "==", ID[:-1] + "R", "é" * 22, "01957a3f-4e23-7b01-a9d1-0000000000a1"],
        ),
        (_set("stream", "seq"), "record.stream.seq", ["0", "02", "+2", "2 ", "-2", "2.0", "٢", "9" * 20]),
        (
            _set("stream", "prev"),
            "record.stream.prev",
            [HASH[:-1], HASH + "A", HASH + "\n", HASH + "=", HASH[:-1] + "B", f"sha256:{HASH}", "0" * 64],
        ),
        (_set("time", "start"), "record.time.start", ["01", "-1", "1e9", "1.5", "9" * 20]),
        (_set("time", "end"), "record.time.end", ["00"]),
        (_set("trace", "trace"), "record.trace.trace", ["0" * 32, HEX[:31], HEX.upper()]),
        (_set("trace", "span"), "record.trace.span", ["0" * 16, HEX[:17]]),
        (_set("task", "id"), "record.task.id", [" a", "a\u202eb", "x" * 257, "spiffe:bad", "x" * 3000]),
        (_set("task", "expires"), "record.task.expires", ["2026-01-01T00:00:00Z"]),
        (_set("task", "purpose"), "record.task.purpose", ["x" * 1025]),
        (_set("principal", "kind"), "record.principal.kind", ["agent", "Human"]),
        (_set("principal", "provenance"), "record.principal.provenance", ["trusted"]),
        (_set("principal", "roles"), "record.principal.roles", [["x"] * 65]),
        (_set("principal", "roles", 1), "record.principal.roles[1]", ["\n"]),
        (_set("chain"), "record.chain", [[{"id": "a", "grant": HASH}] * 34]),
        (_set("chain", 1, "grant"), "record.chain[1].grant", [HASH[1:], f"sha256:{HASH}", "0" * 64]),
        (_set("action", "tool"), "record.action.tool", ["x" * 257]),
        (
            _set("action", "args"),
            "record.action.args",
            ["0" * 64, f"hmac-sha256:{HASH}", f"x{HASH}", f"s{HASH[:-1]}", f"ss{HASH}"],
        ),
        (
            _set("action", "names", 0),
            "record.action.names[0]",
            ["amount", "amount:float", ":string", f"{'x' * 257}:string"],
        ),
        (_set("decision", "effect"), "record.decision.effect", ["deny", "ALLOW"]),
        (_set("decision", "enforced"), "record.decision.enforced", ["deny"]),
        (_set("decision", "mode"), "record.decision.mode", ["off"]),
        (_set("decision", "reason"), "record.decision.reason", ["Because it is so", "x" * 65, "1x"]),
        (_set("decision", "why"), "record.decision.why", ["two\nlines", "x" * 257]),
        (_set("decision", "digest"), "record.decision.digest", [f"sha256:{HASH}", f"s{HASH}", "0" * 64]),
        (_set("outcome"), "record.outcome", ["failed"]),
        (_set("intent"), "record.intent", ["1"]),
        (_set("findings", 1), "record.findings[1]", ["two words", "x" * 129]),
    ],
)
def test_forms_of_values(put: Callable[[dict[str, Any], object], None], path: str, values: list[object]) -> None:
    """Each value has one form; near misses are refused with the path to them."""
    for value in values:
        bad = full("intent" if path.partition("[")[0] in OF_INTENT else "outcome")
        put(bad, value)
        assert refusal(bad).startswith(f"{path}: ")


@pytest.mark.parametrize("token", ["a.b", "a.b.c.d", "a.b.c=", "a.b.c\n", "..", f"a.b.{'c' * 65_536}"])
def test_grants_are_compact_tokens(token: str) -> None:
    """The grant of a grant record has the form of a compact JWS, and a bound."""
    assert refusal(record("grant", grant={"token": token})).startswith("record.grant.token")


@given(st.text(min_size=1, max_size=300))
def test_ids_are_those_that_identities_accept(text: str) -> None:
    """A record names exactly those parties that the identity room lets exist."""
    try:
        Human(text)
        accepted = True
    except ValueError:
        accepted = False
    value = record("intent")
    value["principal"]["id"] = text
    if accepted:
        check_record(value)
    else:
        assert refusal(value).startswith("record.principal.id")


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.integers(),
        lambda item: st.lists(item) | st.dictionaries(st.text(max_size=5), item),
    )
)
def test_garbage_is_refused_in_one_way(garbage: object) -> None:
    """Whatever stands in a record, the answer is a ValueError with a path."""
    for name in record("outcome"):
        if name != "error":
            value: dict[str, Any] = {**record("outcome"), name: garbage}
            assert re.match(r"accepted|record[.\[:]", outcome_of(value))


@pytest.mark.parametrize("data", [b"[]", b'"record"', b"1", b"null"])
def test_what_is_no_object_is_no_record(data: bytes) -> None:
    """Other values of JSON are refused as records with a path."""
    with pytest.raises(ValueError, match=r"^record: not "):
        decode(data)


def test_deep_records_do_not_exhaust_the_stack() -> None:
    """Nesting is refused where it is not expected, however deep it goes."""
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert refusal({**record("intent"), "action": deep}).startswith("record")
    text = encode_record(record("intent")).replace(
        b'{"kind":"function","tool":"pay_invoice"}', b"[" * 100_000 + b"]" * 100_000
    )
    with pytest.raises(ValueError, match=r"^record: the bytes are not JSON"):
        decode(text)


UNKNOWN = "unknown member"
ABSENT = "missing member"
IDENTIFIER = "not an identifier: 1 to 256 visible characters, or a SPIFFE ID"
NAME = "not text of 1 to 256 characters"
COUNT = "not a decimal number without leading zeros"
IDS = "not an id in 22 base64url characters"
NANOSECONDS = "not nanoseconds since 1970 as a decimal number"
DIGEST = "not a digest in 43 base64url characters"
WHY = "not one printable line of at most 256 characters"
PARTY = {"id": "alice", "kind": "human", "provenance": "asserted"}


@pytest.mark.parametrize(
    ("kind", "place", "value", "message"),
    [
        ("outcome", ("more",), "x", f": {UNKNOWN}"),
        ("outcome", ("action", "more"), "x", f".action: {UNKNOWN}"),
        ("outcome", ("chain", 1, "more"), "x", f".chain[1]: {UNKNOWN}"),
        ("outcome", ("task",), {}, f".task.id: {ABSENT}"),
        ("outcome", ("task",), "x", ".task: not an object"),
        ("outcome", ("chain",), "x", ".chain: not an array"),
        ("outcome", ("chain",), [], ".chain: 0 items instead of 1 to 33"),
        ("outcome", ("chain",), [{"id": "a", "grant": HASH}] * 34, ".chain: 34 items instead of 1 to 33"),
        ("outcome", ("chain", 1), [], ".chain[1]: not an object"),
        ("outcome", ("chain", 0, "grant"), "x", f".chain[0].grant: {DIGEST}"),
        ("outcome", ("chain", 0, "id"), "x" * 257, f".chain[0].id: {IDENTIFIER}"),
        ("outcome", ("v",), "2", ".v: not one of 1"),
        ("outcome", ("id",), "x", f".id: {IDS}"),
        ("outcome", ("stream", "id"), "x", f".stream.id: {IDS}"),
        ("outcome", ("stream", "seq"), "0", ".stream.seq: not a decimal number from 1"),
        ("outcome", ("stream", "prev"), "x", f".stream.prev: {DIGEST}"),
        ("outcome", ("time", "start"), 1, f".time.start: {NANOSECONDS}"),
        ("outcome", ("time", "end"), "01", f".time.end: {NANOSECONDS}"),
        ("outcome", ("trace", "trace"), "x", ".trace.trace: not 32 lower-case hex digits, not all zero"),
        ("outcome", ("trace", "span"), "x", ".trace.span: not 16 lower-case hex digits, not all zero"),
        ("intent", ("task", "expires"), "x", f".task.expires: {NANOSECONDS}"),
        ("intent", ("task", "purpose"), "x" * 1025, ".task.purpose: not text of 1 to 1024 characters"),
        ("outcome", ("principal", "kind"), "agent", ".principal.kind: not one of human, service"),
        ("outcome", ("principal", "provenance"), "x", ".principal.provenance: not one of asserted, verified"),
        ("outcome", ("principal", "issuer"), "", f".principal.issuer: {IDENTIFIER}"),
        ("intent", ("principal", "roles"), ["x"] * 65, ".principal.roles: 65 items instead of 1 to 64"),
        ("outcome", ("agent", "owner"), " x", f".agent.owner: {IDENTIFIER}"),
        ("outcome", ("agent", "version"), "x\n", f".agent.version: {IDENTIFIER}"),
        ("outcome", ("action", "tool"), "", f".action.tool: {IDENTIFIER}"),
        ("outcome", ("action", "tool"), "pay\u3164", f".action.tool: {IDENTIFIER}"),
        ("outcome", ("action", "kind"), "x" * 257, f".action.kind: {NAME}"),
        ("outcome", ("action", "server"), "web", f".action: {UNKNOWN}"),
        ("outcome", ("action", "call"), "", f".action.call: {NAME}"),
        ("outcome", ("action", "route"), [], f".action.route: {NAME}"),
        (
            "outcome",
            ("action", "args"),
            "0" * 64,
            f".action.args: {DIGEST}, with an s before it if it is salted",
        ),
        ("outcome", ("action", "result"), "0" * 64, f".action.result: {DIGEST}"),
        ("intent", ("action", "names"), ["x:null"] * 100_001, ".action.names: 100001 items instead of 1 to 100000"),
        (
            "intent",
            ("action", "names", 0),
            "x:int",
            ".action.names[0]: not <argument name>:<kind> with a name of 1 to 256 characters",
        ),
        ("outcome", ("decision", "effect"), "x", ".decision.effect: not one of allow, block, route, warn"),
        (
            "outcome",
            ("decision", "enforced"),
            "x",
            ".decision.enforced: not one of allow, audit, block, escalate, modify",
        ),
        ("outcome", ("decision", "mode"), "x", ".decision.mode: not one of enforce, monitor"),
        (
            "outcome",
            ("decision", "reason"),
            "x y",
            ".decision.reason: not a code of lower-case letters, digits and underscores",
        ),
        ("outcome", ("decision", "rule"), "", f".decision.rule: {NAME}"),
        ("outcome", ("decision", "why"), "", f".decision.why: {WHY}"),
        ("outcome", ("decision", "why"), "x" * 257, f".decision.why: {WHY}"),
        ("outcome", ("decision", "argument"), "", f".decision.argument: {NAME}"),
        ("intent", ("decision", "policy"), "", f".decision.policy: {NAME}"),
        ("intent", ("decision", "version"), "", f".decision.version: {NAME}"),
        ("outcome", ("decision", "digest"), f"sha256:{HASH}", f".decision.digest: {DIGEST}"),
        ("outcome", ("decision", "warnings"), ["x"] * 1025, ".decision.warnings: 1025 items instead of 1 to 1024"),
        ("outcome", ("findings",), ["x"] * 1025, ".findings: 1025 items instead of 1 to 1024"),
        ("outcome", ("findings", 1), "x y", ".findings[1]: not the name of a category"),
        (
            "outcome",
            ("outcome",),
            "x",
            ".outcome: not one of cancelled, denied, error, routed, success, suspended",
        ),
        ("outcome", ("intent",), "x", f".intent: {IDS}"),
        ("outcome", ("error",), "", f".error: {NAME}"),
        ("grant", ("grant", "token"), "x", ".grant.token: not a compact JWS of at most 65536 characters"),
        ("task_end", ("counts", "intents"), "01", f".counts.intents: {COUNT}"),
        ("task_end", ("counts", "outcomes"), 1, f".counts.outcomes: {COUNT}"),
        ("task_end", ("counts", "open"), "-1", f".counts.open: {COUNT}"),
        ("recovered", ("recovered", "size"), "x", f".recovered.size: {COUNT}"),
        ("recovered", ("recovered", "open"), [ID] * 65, ".recovered.open: 65 items instead of 1 to 64"),
        ("recovered", ("recovered", "open"), ["x"], f".recovered.open[0]: {IDS}"),
        (
            "approval",
            ("approval", "status"),
            "x",
            ".approval.status: not one of approved, expired, pending, rejected",
        ),
        ("approval", ("approval", "approver"), "alice", ".approval.approver: not an object"),
        ("approval", ("approval", "approver"), {**PARTY, "roles": "x"}, ".approval.approver.roles: not an array"),
        ("stream_start", ("sdk",), {"name": "x"}, f".sdk.version: {ABSENT}"),
        ("stream_end", ("end", "size"), "0", ".end.size: not a decimal number from 1"),
        ("erasure", ("erasure", "key"), "", f".erasure.key: {IDENTIFIER}"),
        ("revocation", ("revocation", "version"), "", ".revocation.version: not a decimal number from 1"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_a_refused_record_says(kind: str, place: tuple[Any, ...], value: object, message: str) -> None:
    """Each misfit is named with its path and the form that it should have."""
    bad = full(kind)
    _set(*place)(bad, value)
    assert refusal(bad) == f"record{message}"


def test_what_a_record_in_the_wrong_place_says() -> None:
    """What contradicts the place in the stream is named, too."""
    prev = "record.stream.prev: missing after the first record, or present in it"
    first = "record.kind: stream_start is not the first record, or the first record is of another kind"
    assert refusal({**record("policy"), "stream": {"id": ID, "seq": "2"}}) == prev
    assert refusal({**record("stream_start"), "stream": {"id": ID, "seq": "1", "prev": HASH}}) == prev
    assert refusal({**record("policy"), "stream": {"id": ID, "seq": "1"}}) == first
    assert refusal({**record("stream_start"), "stream": {"id": ID, "seq": "2", "prev": HASH}}) == first


@pytest.mark.parametrize(
    ("kind", "place", "last"),
    [
        ("outcome", ("stream", "seq"), "9" * 19),
        ("outcome", ("time", "start"), "0"),
        ("outcome", ("time", "end"), "9" * 19),
        ("outcome", ("task", "id"), "x" * 256),
        ("outcome", ("task", "id"), "spiffe://example.org/" + "x" * 2027),
        ("intent", ("task", "purpose"), "x" * 1024),
        ("intent", ("principal", "roles"), ["x"] * 64),
        ("outcome", ("chain",), ({"id": "a", "grant": HASH},) * 33),
        ("outcome", ("action", "tool"), "x" * 256),
        ("intent", ("action", "names"), ["x:null"] * 100_000),
        ("intent", ("action", "names", 0), "x" * 256 + ":object"),
        ("outcome", ("decision", "reason"), "x" * 64),
        ("outcome", ("decision", "why"), "x" * 256),
        ("outcome", ("decision", "warnings"), ["x"] * 1024),
        ("outcome", ("findings",), ["x"] * 1024),
        ("outcome", ("findings", 1), "x" * 128),
        ("grant", ("grant", "token"), "a.b." + "c" * 65_532),
        ("recovered", ("recovered", "open"), [ID] * 64),
        ("task_end", ("counts", "open"), "9" * 19),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_records_at_their_bounds(kind: str, place: tuple[Any, ...], last: object) -> None:
    """The largest value of each form passes."""
    whole = full(kind)
    _set(*place)(whole, last)
    check_record(whole)
