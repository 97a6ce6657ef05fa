"""Reading records by their shape: never another answer than that of the full checks."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_identity.audit.shapes import FORMS, RecordReader, Shapes, slots_of
from agent_identity.canonical import decode_record, encode_record
from agent_identity.evidence.records import VERSION, check_record

HEX = "0123456789abcdef" * 4
UUID = "01957a3f-4e23-7b01-a9d1-0000000000a1"
OTHER = "01957a3f-4e23-7b01-a9d1-0000000000a2"
TASK: dict[str, Any] = {
    "task": {"id": UUID, "expires": "1764000900000000000", "purpose": 'pay "all"\n'},
    "principal": {"id": "zoë", "kind": "human", "provenance": "asserted", "roles": ["clerk", "approver"]},
    "agent": {"id": "billing", "owner": "team:payments"},
    "chain": [{"id": "orchestrator", "grant": HEX}, {"id": "billing", "grant": HEX[::-1]}],
    "trace": {"trace": HEX[:32], "span": HEX[:16]},
}
CALL: dict[str, Any] = {
    **TASK,
    "action": {
        "tool": "pay_invoice",
        "call": "call_1",
        "args": f"hmac-sha256:{HEX}",
        "names": ["amount:number", "é\n:opaque"],
        "result": f"hmac-sha256:{HEX}",
    },
    "decision": {"effect": "allow", "enforced": "allow", "mode": "enforce", "reason": "within_scope"},
}
FIRST = {"stream": {"id": UUID, "seq": "1"}}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("stream_start", {"sdk": {"name": "agent-identity-otel", "version": "0.1.0"}, **FIRST}),
    ("grant", {**TASK, "grant": {"token": "eyJh.eyJi.c2ln"}}),
    ("task_start", TASK),
    ("intent", CALL),
    ("outcome", {**CALL, "outcome": "success", "intent": OTHER, "time": {"start": "0", "end": "12"}}),
    ("outcome", {**CALL, "task": {"id": "task-1"}, "outcome": "denied", "error": "tool_not_granted"}),
    ("outcome", {"attribution": "none", "action": {"tool": "x"}, "decision": CALL["decision"], "outcome": "denied"}),
    ("task_end", {**TASK, "counts": {"intents": "0", "outcomes": "20", "open": "0"}}),
    ("registration", {"agent": TASK["agent"]}),
    ("revocation", {"revocation": {"kind": "agent", "name": "clerk", "status": "revoked", "version": "1"}}),
    ("stream_end", {"end": {"size": "2"}}),
]


def record(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a record of a kind."""
    stream = {"id": UUID, "seq": "12", "prev": HEX}
    return {"v": VERSION, "id": UUID, "kind": kind, "stream": stream, "time": {"start": "1764000000000000000"}, **body}


RECORDS = [record(kind, body) for kind, body in BODIES]


def fully_checked(data: bytes) -> dict[str, Any] | None:
    """Return what the full checks make of the bytes; ``None`` if they refuse them."""
    try:
        found: dict[str, Any] = dict(decode_record(data))
        check_record(found)
    except ValueError:
        return None
    return found


def read(reader: RecordReader, data: bytes) -> dict[str, Any] | None:
    try:
        return reader.read(data)
    except ValueError:
        return None


def taught() -> RecordReader:
    """Return a reader that knows the shapes of all records above."""
    reader = RecordReader()
    for value in RECORDS:
        assert reader.read(encode_record(value)) == value
    return reader


@pytest.mark.parametrize("value", RECORDS, ids=lambda value: value["kind"])
def test_slots_stand_where_the_values_are(value: dict[str, Any]) -> None:
    """Each slot holds the value of its member in the canonical bytes, and they do not overlap."""
    data, end = encode_record(value), 0
    for slot in slots_of(value):
        found: Any = value[slot.path[0]]
        if slot.path[0] == "chain":
            assert data[slot.start : slot.end].decode() in {link["grant"] for link in found}
        else:
            assert data[slot.start : slot.end].decode() == (found[slot.path[1]] if len(slot.path) == 2 else found)
        assert data[slot.start - 1 : slot.start] == data[slot.end : slot.end + 1] == b'"'
        assert end < slot.start < slot.end
        end = slot.end


@given(st.data())
def test_any_change_of_bytes_is_judged_as_by_the_full_checks(data: st.DataObject) -> None:
    """Whatever shapes are known, bytes near them are read or refused exactly as without any shape."""
    reader = taught()
    body = bytearray(encode_record(data.draw(st.sampled_from(RECORDS))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.sampled_from(b'01789afgz"\\{}:,.[]\n~_ -\x00\xff'))
    assert read(reader, bytes(body)) == fully_checked(bytes(body))


@given(st.data())
def test_any_text_in_a_slot_is_judged_as_by_the_full_checks(data: st.DataObject) -> None:
    """No slot takes a text that the shape of the record does not take."""
    reader = taught()
    value = data.draw(st.sampled_from(RECORDS))
    body = encode_record(value)
    slot = data.draw(st.sampled_from(slots_of(value)))
    form = data.draw(st.sampled_from(sorted(FORMS.values())))
    size = slot.end - slot.start
    text = data.draw(
        st.from_regex(form, fullmatch=True).map(lambda text: text[:size].ljust(size, b"0"))
        | st.binary(min_size=size, max_size=size)
        | st.sampled_from([b"0", b"1", b"A", b"a", b"g", b"-", b"\n"]).map(lambda sign: sign * size)
    )
    changed = body[: slot.start] + text + body[slot.end :]
    assert read(reader, changed) == fully_checked(changed)


def test_known_shapes_are_not_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that differs in its slots only does not take the full checks, in whatever stream it is."""
    reader = taught()
    monkeypatch.setattr("agent_identity.audit.shapes.check_record", None)
    for value in RECORDS[1:]:
        other = {**value, "id": OTHER, "stream": {"id": OTHER, "seq": "99", "prev": HEX[::-1]}}
        assert reader.read(encode_record(other)) == other


def test_places_of_one_shape_do_not_stand_for_another() -> None:
    """Slots at the same places, but of other members, take only what these members may hold."""
    named = {"call": "c" * 76, "tool": "x"}
    digested = {"args": f"hmac-sha256:{HEX}", "tool": "x"}
    first, second = (record("intent", {**CALL, "action": action}) for action in (named, digested))
    assert [slot[:2] for slot in slots_of(first)] == [slot[:2] for slot in slots_of(second)]
    assert [slot.path for slot in slots_of(first)] != [slot.path for slot in slots_of(second)]
    reader = RecordReader()
    for value in (first, second):
        reader.read(encode_record(value))
    forged = {**second, "action": {**digested, "args": "c" * 76}}
    with pytest.raises(ValueError, match="args"):
        reader.read(encode_record(forged))


def test_long_records_are_not_kept() -> None:
    """Shapes of records of any size do not make memory grow."""
    names = [f"argument{number}:string" for number in range(2000)]
    value = record("intent", {**CALL, "action": {"tool": "x", "names": names}})
    data = encode_record(value)
    shapes: Shapes[bool] = Shapes()
    shapes.learn(slots_of(value), data, known=True)
    assert shapes.find(data) is None
    assert RecordReader().read(data) == value
