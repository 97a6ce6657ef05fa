"""A token in the hands of the program: opaque, unchangeable, and dead with its task."""

import base64
import copy
import dataclasses
import json
import pickle

import orjson
import pytest
from pydantic_core import PydanticSerializationError, to_json

from agent_identity._authority.registries.tasks import Lease, TaskRegistry
from agent_identity._identity.keys.jwt_keys import JwtKey
from agent_identity.errors import GrantExpired, NoTask
from agent_identity.testing import FixedClock, SequentialIds
from agent_identity.tokens import DownstreamToken, IssuedToken

CANARY = "CANARY-4711-hunter2"


def make(*, expires_in: int = 60, key: JwtKey | None = None) -> tuple[DownstreamToken, Lease, FixedClock]:
    """Return a token, the lease of its task, which lives for 100 seconds, and the clock."""
    clock, ids = FixedClock(), SequentialIds()
    now = clock.wall_ns() // 10**9
    lease = TaskRegistry().open("task", clock.wall_ns() + 100 * 10**9, clock=clock)
    issued = IssuedToken(CANARY, expires_at=now + expires_in, key=key)
    token = DownstreamToken(
        issued,
        "https://a.example",
        latest=now + 100,
        check=lambda: lease.check(clock),
        now=lambda: clock.wall_ns() // 10**9,
        new_id=lambda: ids.new(clock.wall_ns()),
    )
    return token, lease, clock


def test_it_shows_nothing_of_its_value() -> None:
    """Text, format and every serialiser at hand give its type, or refuse."""
    token, _, _ = make()
    assert repr(token) == str(token) == f"{token}"
    assert repr(token) == f"DownstreamToken(Bearer, audience='https://a.example', expires_at={token.expires_at})"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, orjson.dumps, vars, dataclasses.asdict):
        with pytest.raises(TypeError) as caught:
            attempt(token)  # type: ignore[operator]
        assert CANARY not in repr(caught.value)
    assert CANARY not in json.dumps(token, default=str)
    with pytest.raises(PydanticSerializationError) as failure:
        to_json({"token": token})
    assert CANARY not in str(failure.value)
    assert CANARY not in to_json(token, serialize_unknown=True).decode()


def test_it_cannot_be_changed() -> None:
    """Nobody lengthens its life or swaps what it holds."""
    token, _, _ = make()
    for name in ("expires_at", "_issued", "new"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(token, name, 5)
    with pytest.raises(AttributeError, match="cannot be changed"):
        del token.expires_at


def test_it_ends_with_the_grant_at_the_latest() -> None:
    """What a server issues for longer is good until the task's deadline."""
    for expires_in, left in ((60, 60), (1000, 100)):
        token, _, clock = make(expires_in=expires_in)
        assert token.expires_at == clock.wall_ns() // 10**9 + left


def test_it_dies_with_its_task() -> None:
    """After the end, or the deadline, neither value nor headers come out any more."""
    token, lease, clock = make()
    assert token.value == CANARY
    clock.advance(100)
    with pytest.raises(GrantExpired):
        _ = token.value
    token, lease, clock = make(key=JwtKey.generate())
    lease.end()
    with pytest.raises(NoTask):
        _ = token.value
    with pytest.raises(NoTask):
        token.headers("GET", "https://a.example")


def test_a_bearer_token_goes_into_one_header() -> None:
    """The header is that of RFC 6750; a fragment of the URL is never sent and does no harm."""
    token, _, _ = make()
    assert token.headers("GET", "https://a.example/x#y") == {"Authorization": f"Bearer {CANARY}"}
    assert token.headers("GET", "http://127.0.0.1:8080/x") == {"Authorization": f"Bearer {CANARY}"}


@pytest.mark.parametrize("key", [None, JwtKey.generate()])
def test_it_goes_nowhere_in_clear(key: JwtKey | None) -> None:
    """A URL without TLS, or none at all, gets no headers."""
    token, _, _ = make(key=key)
    with pytest.raises(ValueError, match="https"):
        token.headers("GET", "http://a.example/x")
    with pytest.raises(TypeError, match="str"):
        token.headers("GET", b"https://a.example/x")  # type: ignore[arg-type]


def test_a_bound_token_brings_a_fresh_proof_each_time() -> None:
    """Each request has a proof of its own, over method, URL, token and the nonce of the service."""
    token, _, clock = make(key=JwtKey.generate("ES256"))
    first = token.headers("GET", "https://a.example/x?y")
    second = token.headers("GET", "https://a.example/x?y", nonce="n-1")
    assert first["Authorization"] == f"DPoP {CANARY}"
    claims = [json.loads(base64.urlsafe_b64decode(h["DPoP"].split(".")[1] + "==")) for h in (first, second)]
    assert claims[0]["jti"] != claims[1]["jti"]
    assert claims[0].keys() | {"nonce"} == claims[1].keys()
    assert (claims[1]["nonce"], claims[1]["iat"]) == ("n-1", clock.wall_ns() // 10**9)
    with pytest.raises(ValueError, match="nonce"):
        token.headers("GET", "https://a.example/x", nonce="bad nonce")
