"""The length of a record on a span: back ends cut attributes at 2,000 characters."""

import msgspec
import pytest

from agent_identity._identity.common.encoding import b64url_encode
from agent_identity._identity.common.ids import id_of
from agent_identity._record.codec import decode
from agent_identity._record.parts import (
    VERSION,
    Action,
    Agent,
    Decision,
    Hop,
    MarkAfter,
    Principal,
    Stream,
    Task,
    Time,
    Trace,
)
from agent_identity.records import Outcome, encode

LIMIT = 1_900
HASH = b64url_encode(bytes.fromhex("5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"))


def an_id(number: int) -> str:
    """Return an id."""
    return id_of(1_795_537_156_444_488_368, number.to_bytes(8))


FULL = Outcome(
    id=an_id(1),
    stream=Stream(id=an_id(2), seq="123456", prev=HASH),
    time=Time.at(1_795_537_156_444_488_368, 1_795_537_156_544_488_368),
    v=VERSION,
    action=Action(
        tool="https://mcp.payments.example.com/mcp/create_payment",
        kind="mcp",
        call="call_Zv0VDKqKh0YqkUGZRCTcXRVB",
        args=HASH,
        result=HASH,
    ),
    decision=Decision(
        effect="route",
        enforced="allow",
        mode="enforce",
        reason="policy_rule",
        rule="payments-above-100",
        digest=HASH,
        approval=an_id(3),
    ),
    outcome="success",
    intent=an_id(4),
    detail=HASH,
    label="untrusted:internal",
    mark_after=MarkAfter(label="untrusted:internal", seq="123456"),
    task=Task(id=an_id(5)),
    principal=Principal(
        id="alice@example.com", kind="human", provenance="verified", issuer="https://login.example.com/tenant"
    ),
    agent=Agent(id="payments-helper", owner="finance-ops@example.com", version="2026.11.3"),
    chain=(Hop(id="invoice-clerk", grant=HASH), Hop(id="payments-helper", grant=HASH)),
    trace=Trace(trace="0af7651916cd43dd8448eb211c80319c", span="b7ad6b7169203331"),
)
"""A verified human with an issuer, two agents with versions, and everything that an outcome can say of a call."""


def characters(data: bytes) -> int:
    """Return the length of the payload on a span."""
    return len(b64url_encode(data))


def test_the_fullest_usual_outcome_fits_on_a_span() -> None:
    """With every member that the design names it stays below 1,900 characters, those of information flow included."""
    assert characters(encode(FULL)) <= LIMIT
    assert decode(encode(FULL)) == FULL


@pytest.mark.parametrize("length", [256])
def test_a_longer_outcome_is_written_whole(length: int) -> None:
    """Ids may be long: nothing is cut, and the bytes come back."""
    long = msgspec.structs.replace(FULL, agent=Agent(id="a" * length, owner="o" * length))
    assert characters(encode(long)) > LIMIT
    assert decode(encode(long)) == long
