"""The length of a record of version 2 on a span: back ends cut attributes at 2,000 characters."""

from base64 import urlsafe_b64encode

import msgspec
import pytest

from agent_identity._evidence.record.codec import decode, encode
from agent_identity._evidence.record.parts import (
    DRAFT,
    VERSION,
    Action,
    Agent,
    Decision,
    Hop,
    Principal,
    Stream,
    Task,
    Time,
    Trace,
)
from agent_identity._evidence.record.schema import Outcome

LIMIT = 1_900
HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


def uuid(number: int) -> str:
    """Return a UUID of version 7."""
    return f"01a20e5a-b95d-7072-b761-{number:012x}"


FULL = Outcome(
    id=uuid(1),
    stream=Stream(id=uuid(2), seq="123456", prev=HASH),
    time=Time.at(1_795_537_156_444_488_368, 1_795_537_156_544_488_368),
    v=DRAFT,
    action=Action(
        tool="create_payment",
        kind="mcp",
        server="https://mcp.payments.example.com/mcp",
        call="call_Zv0VDKqKh0YqkUGZRCTcXRVB",
        args=f"hmac-sha256:{HASH}",
        result=f"hmac-sha256:{HASH}",
    ),
    decision=Decision(
        effect="route",
        enforced="allow",
        mode="enforce",
        reason="policy_rule",
        rule="payments-above-100",
        digest=f"sha256:{HASH}",
        approval=uuid(3),
    ),
    outcome="success",
    intent=uuid(4),
    detail=HASH,
    label="untrusted:internal",
    mark="untrusted:internal",
    task=Task(id=uuid(5)),
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
    return len(urlsafe_b64encode(data).rstrip(b"="))


def test_the_fullest_usual_outcome_fits_on_a_span() -> None:
    """With every member that the design names it stays below 1,900 characters, those of information flow included."""
    assert characters(encode(FULL)) <= LIMIT
    assert decode(encode(FULL)) == FULL


def test_the_first_version_did_not_fit() -> None:
    """The short spelling is what makes it fit."""
    first = msgspec.structs.replace(FULL, v=VERSION, detail=None, label=None, mark=None)
    assert characters(encode(first)) > LIMIT


@pytest.mark.parametrize("length", [256])
def test_a_longer_outcome_is_written_whole(length: int) -> None:
    """Ids may be long: nothing is cut, and the bytes come back."""
    long = msgspec.structs.replace(FULL, agent=Agent(id="a" * length, owner="o" * length))
    assert characters(encode(long)) > LIMIT
    assert decode(encode(long)) == long
