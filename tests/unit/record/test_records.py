"""Records with all that their kinds may say: their bytes, what a kind leaves to another, and how they are written."""

import copy
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema_document import DETAILS, ONLY_THE_CODEC, RECORDS

from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.common.record_bytes import decode_record, encode_record
from agent_identity._ledger.beginning import Beginning
from agent_identity._ledger.reader import open_ledger
from agent_identity._ledger.writer import Entry
from agent_identity._record.codec import decode, decode_detail, encode_detail, plain_members
from agent_identity._record.details import detail_of
from agent_identity._record.parts import VERSION, Action, Decision, Stream, StreamResource, Time
from agent_identity._record.schema import KIND_TYPES, Detail, Record
from agent_identity._storage.os_files import Files
from agent_identity.errors import EvidenceError
from agent_identity.identity import SigningKey
from agent_identity.options import Ledger
from agent_identity.records import AnyRecord, Outcome, StreamStart, as_dict, encode
from agent_identity.testing import FixedClock, SequentialIds

HEX = "0123456789abcdef" * 4
HASH = "ASNFZ4mrze8BI0VniavN7wEjRWeJq83vASNFZ4mrze8"  # HEX in base64url.
OTHER = "_ty6mHZUMhD-3LqYdlQyEP7cuph2VDIQ_ty6mHZUMhA"
UUID = "01957a3f-4e23-7b01-a9d1-0000000000a1"
ID = "AZV6P04jewGp0QAAAAAAoQ"  # UUID in base64url.
TOKEN = "eyJh.eyJi.c2ln"
NS = "1764000900000000000"
AGENT = {"id": "billing", "owner": "team:payments", "version": "2"}
PRINCIPAL = {"id": "alice", "kind": "human", "provenance": "verified", "issuer": "https://idp.example", "via": ["bot"]}
FULL_PRINCIPAL = {**PRINCIPAL, "roles": ["finance"]}
CHAIN = [{"id": "orchestrator", "grant": HASH}, {"id": "billing", "grant": OTHER}]
TRACE = {"trace": HEX[:32], "span": HEX[:16], "parent": HEX[16:32]}
OF_TASK: dict[str, Any] = {
    "task": {"id": "task-1", "expires": NS},
    "principal": FULL_PRINCIPAL,
    "agent": AGENT,
    "chain": CHAIN,
    "trace": TRACE,
}
SHORT_TASK = {**OF_TASK, "task": {"id": "task-1"}, "principal": PRINCIPAL}
OPENED = {**OF_TASK, "task": {"id": "task-1", "expires": NS, "purpose": "pay", "outer": "task-0"}}
SHORT_ACTION = {
    "tool": "pay",
    "kind": "function",
    "call": "call_1",
    "args": HASH,
    "result": HASH,
    "route": "desk",
    "agent": AGENT,
    "principal": FULL_PRINCIPAL,
    "model": {"name": "m", "provider": "p"},
}
ACTION = {
    **SHORT_ACTION,
    "args": f"s{HASH}",
    "names": ["amount:number"],
    "labels": ["money"],
    "claims": ["destructive"],
    "stage": "open",
}
SHORT_DECISION = {
    "effect": "allow",
    "enforced": "allow",
    "mode": "enforce",
    "reason": "policy_allows",
    "rule": "r",
    "why": "w",
    "argument": "amount",
    "digest": HASH,
    "warnings": ["r"],
    "approval": ID,
}
DECISION = {**SHORT_DECISION, "mode": "monitor", "policy": "invoices", "version": "3"}
RESOURCE = {"system": "postgres://db", "name": "t/{id}", "access": "write", "data": ["pii"], "digest": HASH}
LABEL = "trusted, unknown or untrusted, and readers after a colon, sorted"
TOO_LONG = f"trusted:{'a' * 128},{'b' * 118}"  # 255 characters; met with untrusted, it would have 257.
FOUND = {"category": "pii/email", "inspector": "regex 1", "severity": "high", "field": "to"}
DETAIL: dict[str, Any] = {
    "_salt": ID,
    "names": ["amount:number"],
    "labels": [],
    "claims": ["destructive"],
    "claimed": "untrusted:finance",
    "policy": "invoices",
    "version": "3",
    "roles": ["finance"],
    "resources": [RESOURCE],
    "workflow": "thread-7",
    "findings": [FOUND],
    "transforms": [{"name": "redaction", "version": "1", "original": HASH, "delivered": OTHER}],
    "judged_at": {"hop": HASH, "seq": "3"},
    "provenance": [{"argument": "a", "provenance": "unknown"}],
}
"""A detail that says everything."""
PRUNED = {"stream": ID, "first": "1", "last": "9", "root": HASH, "checkpoint": "3"}
BODIES: dict[str, dict[str, Any]] = {
    "stream_start": {
        "sdk": {"name": "agent-identity-otel", "version": "1"},
        "resource": {
            "service": "s",
            "namespace": "n",
            "version": "v",
            "instance": "i",
            "environment": "e",
            "host": "h",
            "frameworks": ["langchain 1"],
        },
        "certificate": TOKEN,
    },
    "grant": {**OPENED, "grant": {"token": TOKEN}},
    "task_start": {**OPENED, "workflow": "thread-7", "judged_at": {"hop": HASH, "seq": "1"}},
    "intent": {
        **OF_TASK,
        "action": ACTION,
        "decision": DECISION,
        "findings": ["pii"],
        "resources": [RESOURCE],
        "clauses": ["amount:range"],
        "workflow": "thread-7",
        "judged_at": {"hop": HASH, "seq": "3"},
        "provenance": [{"argument": "a", "provenance": "untrusted", "source": ID, "destination": True}],
        "endorses": True,
    },
    "outcome": {
        **SHORT_TASK,
        "action": SHORT_ACTION,
        "decision": SHORT_DECISION,
        "findings": ["pii"],
        "outcome": "error",
        "intent": ID,
        "error": "ValueError",
        "detail": HASH,
        "label": "untrusted:finance",
        "mark_after": {"label": "untrusted", "seq": "3"},
    },
    "task_end": {**OF_TASK, "counts": {"intents": "1", "outcomes": "1", "open": "0"}, "error": "ValueError"},
    "registration": {
        "server": {
            "name": "files",
            "transport": "stdio",
            "status": "moved",
            "place": HASH,
            "title": "Files",
            "version": "1",
            "reason": "new",
        },
        "tools": [{"name": "read", "status": "changed", "pinned": HASH, "offered": HASH}],
    },
    "policy": {"policy": {"name": "invoices", "version": "3", "digest": HASH, "engine": "cedar-4.2", "flow": "flow-1"}},
    "approval": {
        **OF_TASK,
        "action": ACTION,
        "approval": {
            "id": ID,
            "status": "approved",
            "approver": FULL_PRINCIPAL,
            "expires": NS,
            "token": TOKEN,
            "reason": "ok",
            "request": HASH,
            "channel": "slack",
            "sources": [ID],
        },
    },
    "revocation": {"revocation": {"kind": "agent", "name": "a", "status": "revoked", "version": "1", "reason": "r"}},
    "erasure": {"erasure": {"pruned": PRUNED}},
    "recovered": {
        "recovered": {
            "stream": ID,
            "size": "2",
            "sealed_before": "1",
            "torn_bytes": "0",
            "rejected_bytes": "0",
            "open_count": "1",
            "open": [ID],
        }
    },
    "mark": {
        **OF_TASK,
        "mark": {
            "hop": HASH,
            "seq": "2",
            "label": "untrusted:finance,legal",
            "cause": "read",
            "prev": ID,
            "joined": "untrusted",
            "sources": [ID],
            "origin": HASH,
            "digest": HASH,
            "token": TOKEN,
        },
    },
    "examination": {"examination": {"question": "who", "digest": HASH, "size": "3", "by": "auditor"}},
    "trust": {"trust": {"key": "k", "purpose": "recorder", "status": "renewed", "certificate": TOKEN}},
    "stream_end": {"end": {"size": "2"}},
}
"""Each kind with all that it may say."""


def members(kind: str, **more: Any) -> dict[str, Any]:
    """Return the members of a record of a kind."""
    stream = {"id": ID, "seq": "1"} if kind == "stream_start" else {"id": ID, "seq": "2", "prev": HASH}
    head = {"v": VERSION, "id": ID, "kind": kind, "stream": stream, "time": {"start": NS, "end": NS}}
    return copy.deepcopy({**head, **BODIES[kind], **more})


def typed(found: dict[str, Any]) -> AnyRecord:
    """Return members as a record."""
    return msgspec.convert(found, AnyRecord)


def refusal(data: bytes) -> str:
    """Return why bytes are no record; the published schema refuses them too, where they are canonical."""
    with pytest.raises(ValueError, match=r"^record[.\[:]") as caught:
        decode(data)
    why = str(caught.value)
    with suppress(ValueError):
        if encode_record(orjson.loads(data)) == data and not why.endswith(tuple(ONLY_THE_CODEC)):
            assert not RECORDS.is_valid(orjson.loads(data))
    return why


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each member and item."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from places(item, (*path, name))


def at(found: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands at a path."""
    for step in path:
        found = found[step]
    return found


# ------------------------------------------------------------------- bytes and back


@pytest.mark.parametrize("kind", sorted(KIND_TYPES))
def test_a_full_record_is_its_bytes(kind: str) -> None:
    """All that a kind may say survives the way into bytes and back, and is spelled in memory as in the bytes."""
    record = typed(members(kind))
    data = encode(record)
    assert decode(data) == record
    assert encode(decode(data)) == data
    assert plain_members(data) == as_dict(record) == members(kind)
    assert decode_record(data) == orjson.loads(data)  # In the canonical form of records.
    RECORDS.validate(orjson.loads(data))


@given(data=st.data())
def test_every_record_is_its_bytes(data: st.DataObject) -> None:
    """Whatever optional members a record leaves out, and whatever its ids and digests are."""
    found = members(data.draw(st.sampled_from(sorted(KIND_TYPES))))
    found["id"] = b64url_encode(data.draw(st.binary(min_size=16, max_size=16)))
    digest = b64url_encode(data.draw(st.binary(min_size=32, max_size=32)))
    for path in [path for path in places(found) if isinstance(at(found, path), str) and HASH in at(found, path)]:
        at(found, path[:-1])[path[-1]] = at(found, path).replace(HASH, digest)
    for path in data.draw(st.lists(st.sampled_from(sorted(places(found), key=str)), max_size=6)):
        without = copy.deepcopy(found)
        try:
            del at(without, path[:-1])[path[-1]]
            record = typed(without)
        except msgspec.ValidationError:
            assert not RECORDS.is_valid(without)
            continue
        except (KeyError, IndexError, TypeError):
            continue
        assert decode(encode(record)) == record
        found = without
    record = typed(found)
    assert decode(encode(record)) == record
    assert encode(decode(encode(record))) == encode(record)
    RECORDS.validate(found)


def test_kind_and_mode_are_always_written() -> None:
    """Of a function and of a call that is enforced as well; an action with a stage may have no kind."""
    written = orjson.loads(encode(typed(members("outcome"))))
    assert (written["action"]["kind"], written["decision"]["mode"]) == ("function", "enforce")
    staged = encode(typed(members("intent", action={"tool": "ask", "stage": "prompt"})))
    assert "kind" not in orjson.loads(staged)["action"]
    del written["decision"]["mode"]
    assert refusal(encode_record(written)) == "record.decision.mode: missing member"


@pytest.mark.parametrize(
    ("kind", "path", "value", "message"),
    [
        *[
            ("intent", ("id",), text, "record.id: not an id in 22 base64url characters")
            for text in (UUID, ID + "==", ID[:-1] + "R", "é" * 22, "A" * 21, 5)
        ],
        *[
            ("intent", ("stream", "prev"), text, "record.stream.prev: not a digest in 43 base64url characters")
            for text in (HEX, HASH + "=", HASH[:-1] + "B", "s" + HASH)
        ],
        ("intent", ("chain", 1, "grant"), HEX, "record.chain[1].grant: not a digest in 43 base64url characters"),
        ("outcome", ("detail",), HEX, "record.detail: not a digest in 43 base64url characters"),
        (
            *("outcome", ("action", "result"), f"hmac-sha256:{HASH}"),
            "record.action.result: not a digest in 43 base64url characters",
        ),
        *[
            (
                *("outcome", ("action", "args"), text),
                "record.action.args: not a digest in 43 base64url characters, with an s before it if it is salted",
            )
            for text in (f"hmac-sha256:{HASH}", f"salted-sha256:{HASH}", "x" + HASH)
        ],
        *[
            (
                *("recovered", ("recovered", "open", 0), text),
                "record.recovered.open[0]: not an id in 22 base64url characters",
            )
            for text in (UUID, 1)
        ],
        (
            *("intent", ("resources", 0, "digest"), HEX),
            "record.resources[0].digest: not a digest in 43 base64url characters",
        ),
        *[
            (kind, path, text, f"record.{'.'.join(path)}: not {LABEL}")
            for kind, path in (
                ("outcome", ("label",)),
                ("outcome", ("mark_after", "label")),
                ("mark", ("mark", "label")),
                ("mark", ("mark", "joined")),
            )
            for text in (
                "untrusted:b,a",
                "untrusted:a,a",
                "untrusted:public",
                "untrusted:a,",
                "trusted:" + "a" * 129,
                TOO_LONG,
            )
        ],
        ("intent", ("chain",), "x", "record.chain: not an array"),
        ("intent", ("chain", 0), "x", "record.chain[0]: not an object"),
        ("intent", ("stream",), ["x"], "record.stream: not an object"),
        ("intent", ("action",), "x", "record.action: not an object"),
    ],
)
def test_wrong_spellings_are_refused_with_their_place(
    kind: str, path: tuple[Any, ...], value: object, message: str
) -> None:
    """Each value has one spelling, and the refusal names the place and no value."""
    found = members(kind)
    at(found, path[:-1])[path[-1]] = value
    assert refusal(orjson.dumps(found, option=orjson.OPT_SORT_KEYS)) == message


@pytest.mark.parametrize(
    "data",
    [
        b'{"v":"1"',
        b'{"v":"1","a":\xff}',
        b'{"a":"\\ud800","v":"1"}',
        b'{"a":1e999,"v":"1"}',
        b'{"v":"1", "a":"b"}',
        b'{"v":"1","v":"1"}',
        b'[{"v":"1"}]',
        b'{"a":{"v":"1"}}',
    ],
)
def test_other_bytes_are_no_record(data: bytes) -> None:
    """What is no JSON, or not in its one form, or no record."""
    assert refusal(data)


def test_a_record_has_one_version() -> None:
    """Another one is refused, and so is any other spelling of it."""
    found = members("policy")
    for version in ("0", "2", "1 ", "01", ""):
        assert refusal(orjson.dumps({**found, "v": version}, option=orjson.OPT_SORT_KEYS))


def test_the_members_of_what_is_no_object() -> None:
    """Bytes of ours that were damaged have no members."""
    for data in (b"[]", b'"v"', b"{", b'["\\"v\\":\\"1\\""]', b'[{"v":"1"}]'):
        with pytest.raises(ValueError):  # noqa: PT011  As of any text that is no JSON.
            plain_members(data)


# ------------------------------------------------------------------- what only one kind may say


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("action", "names"), ["amount:number"]),
        (("action", "labels"), ["money"]),
        (("action", "labels"), []),
        (("action", "claims"), ["money"]),
        (("decision", "policy"), "invoices"),
        (("decision", "version"), "3"),
        (("task", "expires"), NS),
        (("task", "purpose"), "pay"),
        (("principal", "roles"), ["finance"]),
    ],
)
def test_outcomes_refuse_what_only_the_intent_may_say(path: tuple[str, str], value: object) -> None:
    """A span has to be short."""
    found = members("outcome")
    found[path[0]][path[1]] = value
    assert refusal(encode_record(found)) == f"record.{path[0]}: unknown member"


def test_only_openings_name_the_outer_task() -> None:
    """Other records of a task, and calls, do not say it again."""
    for kind in ("task_end", "approval", "intent", "outcome"):
        found = members(kind)
        found["task"]["outer"] = "task-0"
        assert refusal(encode_record(found)) == "record.task: unknown member"


def test_an_action_has_a_kind_or_a_stage() -> None:
    """There is no default, so that nobody has to know it."""
    for kind in ("intent", "outcome", "approval"):
        with pytest.raises(msgspec.ValidationError, match=r"record\.action\.kind: missing member"):
            typed(members(kind, action={"tool": "pay"}))
        assert not RECORDS.is_valid(members(kind, action={"tool": "pay"}))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("erasure", {"erasure": {"key": "task-1", "by": "admin", "reason": "asked"}}),
        ("erasure", {"erasure": {"principal": "alice", "keys": "3"}}),
        (
            "registration",
            {"agent": AGENT, "registration": {"hash": HASH, "purpose": "pay", "status": "registered"}},
        ),
    ],
)
def test_the_other_forms_of_a_kind(kind: str, body: dict[str, Any]) -> None:
    """A kind that has several forms has each of them whole, and a form that is mixed is refused."""
    found = {**members(kind), **body}
    for name in BODIES[kind].keys() - body.keys():
        del found[name]
    assert decode(encode_record(found)) == typed(found)
    mixed = copy.deepcopy(found)
    mixed.get("erasure", mixed)["pruned" if kind == "erasure" else "server"] = (
        PRUNED if kind == "erasure" else BODIES["registration"]["server"]
    )
    assert refusal(encode_record(mixed)).endswith("unknown member")


def test_a_call_outside_any_task_is_a_record() -> None:
    """There is no task, and nobody whom it names."""
    found = members("outcome", attribution="none")
    for name in ("task", "principal", "agent", "chain"):
        del found[name]
    assert decode(encode_record(found)) == typed(found)


# ------------------------------------------------------------------- written by the ledger


class Noting(Files):
    """Notes how much each write was to write, and writes only a part of it, or fails, if asked to."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.most: int | None = None

    def write(self, fd: int, data: bytes) -> int:
        """Write."""
        self.writes.append(data)
        return super().write(fd, data if self.most is None else data[: self.most])


@pytest.fixture
def files() -> Noting:
    return Noting()


@pytest.fixture
def ledger(tmp_path: Path, files: Noting) -> Iterator[Ledger]:
    """A ledger that notes what it writes."""
    beginning = Beginning(resource=StreamResource(service="billing"), certificate=TOKEN)
    ledger = Ledger.open(
        tmp_path,
        signer=SigningKey.from_seed(b"r" * 32),
        origin="ledger.example/log",
        clock=FixedClock(),
        ids=SequentialIds(),
        files=files,
        beginning=beginning,
    )
    yield ledger
    ledger.close()


def refused(**more: Any) -> Callable[..., Outcome]:
    """Return what makes the outcome of a refused call outside any task."""
    decision = Decision(effect="block", enforced="block", mode="enforce", reason="no_task")
    action = Action(tool="pay", kind="function")
    facts = {"action": action, "decision": decision, "outcome": "denied", "attribution": "none", **more}
    return partial(Outcome, time=Time.at(1), **facts)


def there(ledger: Ledger) -> list[Record]:
    """Return the records that are in the stream."""
    return [decode(line.record or b"") for line in open_ledger(ledger.directory).entries(ledger.stream)]


def details(ledger: Ledger) -> list[bytes | None]:
    """Return the bytes of the detail of each line of the stream."""
    return [line.detail for line in open_ledger(ledger.directory).entries(ledger.stream)]


def outcome(**more: Any) -> Outcome:
    """Return an outcome that no ledger wrote."""
    return refused(**more)(id=ID, stream=Stream(id=ID, seq="2", prev="A" * 43), v=VERSION)


def test_a_stream_says_first_who_writes_it(ledger: Ledger) -> None:
    """The first record has the process and the certificate."""
    (start,) = there(ledger)
    assert isinstance(start, StreamStart)
    assert (start.v, start.certificate, start.resource) == (VERSION, TOKEN, StreamResource(service="billing"))


def test_a_detail_is_written_with_its_outcome(ledger: Ledger, files: Noting) -> None:
    """Both in one line; the outcome has the hash of the detail, and each detail has a salt of its own."""
    number, seen, tell = len(files.writes), list[Entry](), partial(Detail, policy="invoices")
    entry = ledger.append(refused(), detail=tell, after=seen.append)
    (write,) = files.writes[number:]
    assert write.count(b"\n") == 1
    (_, written), (_, data) = there(ledger), details(ledger)
    assert isinstance(written, Outcome)
    assert data is not None
    assert (written, data, written.stream.seq, written.detail) == (entry.record, entry.detail, "2", digest_of(data))
    detail, code = detail_of(written, data)
    assert detail is not None
    assert (code, detail) == ("", Detail(salt=detail.salt, policy="invoices"))
    ledger.drain(10)
    assert seen == [entry]
    other = ledger.append(refused(), detail=tell)
    assert other.seq == 3
    assert other.detail is not None
    assert decode_detail(other.detail).salt != detail.salt


def test_a_detail_is_not_there_without_its_outcome(ledger: Ledger, files: Noting) -> None:
    """A record that has no bytes, or a write of a part, leaves neither."""
    detail = partial(Detail, policy="invoices")
    with pytest.raises(EvidenceError) as caught:
        ledger.append(refused(error="\ud800"), detail=detail)
    assert caught.value.code == "bad_record"
    files.most = 200
    with pytest.raises(EvidenceError):
        ledger.append(refused(), detail=detail)
    files.most = None
    assert [record.kind for record in there(ledger)] == ["stream_start"]
    assert ledger.append(refused(), detail=detail).seq == 2


def test_an_outcome_is_not_lost_with_its_detail(ledger: Ledger, caplog: pytest.LogCaptureFixture) -> None:
    """A detail that has no bytes, or too many, is left out, and the log says so."""
    ledger.append(refused(), detail=partial(Detail, policy="\ud800"))
    ledger.append(refused(), detail=partial(Detail, names=("a" * 200 + ":string",) * 6_000))
    ledger.append(refused(), detail=partial(Detail, unknown="x"))
    start, *outcomes = there(ledger)
    assert start.kind == "stream_start"
    assert [one.detail for one in outcomes if isinstance(one, Outcome)] == [None] * 3
    assert details(ledger) == [None] * 4
    assert len(caplog.messages) == 3


def test_no_record_of_another_place_or_version_is_encode_record(ledger: Ledger) -> None:
    """What makes a record has to take the id, the place and the version that the ledger gives."""
    for changed in ({"id": "AaIOQ0bYcV-ScJHDCbiHEA"}, {"v": "2"}):
        with pytest.raises(EvidenceError) as caught:
            ledger.append(lambda changed=changed, **members: refused()(**{**members, **changed}))
        assert caught.value.code == "bad_record"
    assert [record.kind for record in there(ledger)] == ["stream_start"]


def test_a_null_is_no_way_to_say_nothing() -> None:
    """A member that is not known is left out: there is one spelling of each record."""
    mine = "AaIOQ0bYcV-ScJHDCbiHEA"
    data = encode(refused()(id=mine, stream=Stream(id=mine, seq="2", prev="0" * 43), v=VERSION))
    assert decode(data)
    with pytest.raises(ValueError, match="spelling"):
        decode(orjson.dumps({**orjson.loads(data), "findings": None}, option=orjson.OPT_SORT_KEYS))


def test_a_detail_is_its_bytes() -> None:
    """A detail that says everything, and one that says nothing, have one spelling each, the salt before all else."""
    for members in (DETAIL, {"_salt": ID}):
        data = orjson.dumps(members, option=orjson.OPT_SORT_KEYS)
        assert data.startswith(b'{"_salt":"%s"' % ID.encode())
        assert encode_detail(decode_detail(data)) == data
        DETAILS.validate(members)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b'{"_salt":"\xff"}',
        b'{"_salt":"%s"}' % HASH.encode(),
        b'{"_salt": "%s"}' % ID.encode(),
        b'{"_salt":"%s","policy":null}' % ID.encode(),
        b'{"policy":"p","_salt":"%s"}' % ID.encode(),
        b'{"_salt":"%s","call":"%s"}' % (ID.encode(), ID.encode()),
        b'{"_salt":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)
def test_other_bytes_are_no_detail(data: bytes) -> None:
    """Another spelling, another member or no salt: an outcome that commits to such bytes has no detail."""
    with pytest.raises(ValueError, match=r"^the bytes are not"):
        decode_detail(data)
    with suppress(ValueError):
        assert encode_record(orjson.loads(data)) != data or not DETAILS.is_valid(orjson.loads(data))
    assert detail_of(outcome(detail=digest_of(data)), data) == (None, "detail_malformed")


def test_a_detail_with_half_a_character_has_no_bytes() -> None:
    """A lone surrogate is no text."""
    with pytest.raises(ValueError, match="lone surrogate"):
        encode_detail(Detail(salt=ID, policy="\ud800"))


def test_a_detail_counts_where_its_outcome_commits_to_it() -> None:
    """A missing, an added and an exchanged one are told apart, and no other record has one."""
    data, other = encode_detail(Detail(salt=ID)), encode_detail(Detail(salt=ID, policy="p"))
    bound, bare = outcome(detail=digest_of(data)), outcome()
    start = decode(encode_record(members("stream_start")))
    assert detail_of(bound, data) == (Detail(salt=ID), "")
    assert detail_of(bare, None) == detail_of(start, None) == (None, "")
    assert detail_of(bound, None) == (None, "detail_missing")
    assert detail_of(bound, other) == (None, "detail_mismatch")
    assert detail_of(bare, data) == detail_of(start, data) == (None, "detail_uncommitted")


@pytest.mark.parametrize(
    ("change", "why"),
    [({"seq": "1"}, "record.mark: unknown member"), ({"prev": None}, "record.mark.prev: missing member")],
)
def test_only_the_first_mark_of_a_hop_follows_no_other(change: dict[str, str | None], why: str) -> None:
    """The first names none before it, and every later one names it."""
    mark = {**members("mark")["mark"], **change}
    found = members("mark", mark={name: value for name, value in mark.items() if value is not None})
    assert refusal(encode_record(found)) == why


@pytest.mark.parametrize(
    "change", [{"endorses": False}, {"provenance": [{"argument": "to", "provenance": "trusted", "destination": False}]}]
)
def test_a_fact_that_is_not_so_is_left_out(change: dict[str, Any]) -> None:
    """Written out, it would be a second spelling of the same record."""
    with pytest.raises(msgspec.ValidationError, match=r"endorses|destination"):
        typed(members("intent", **change))
    assert not RECORDS.is_valid(members("intent", **change))
