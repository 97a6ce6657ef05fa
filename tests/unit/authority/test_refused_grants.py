"""What each refusal of tokens, grants, chains and proofs says, and where exactly each bound lies.

Codes and messages are what a user acts on, so they are compared whole.
"""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent_identity.authority import (
    MAX_CHAIN,
    MAX_TOKEN,
    MAX_TTL,
    PROOF_TYPE,
    Chain,
    Grant,
    Scope,
    check_child,
    derive,
    issue,
    parse_compact,
    prove,
    sign_compact,
    token_hash,
    verify_chain,
    verify_compact,
    verify_proof,
)
from agent_identity.authority.grants import grant_of
from agent_identity.canonical import JSON, decode
from agent_identity.constraints import Range
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import Agent, Human, PublicKey, SigningKey, b64url_encode

NOW = 1_764_000_000
KEYS = [SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 40)]
ISSUER = KEYS[0]
ALICE = Human("alice@example.com")
SCOPE = Scope("pay", amount=Range(max=100)) | Scope("list")
LATEST = 2**53

Refusal = tuple[Callable[[], object], type[Exception], str | None, str]


def check_refusal(make: Callable[[], object], kind: type[Exception], code: str | None, message: str) -> None:
    """Assert the class, the code and the whole message of a refusal."""
    with pytest.raises(kind) as refused:
        make()
    got = refused.value
    assert (type(got), getattr(got, "code", None), str(got)) == (kind, code, message)


def rows(table: dict[str, Refusal]) -> list[object]:
    """Return the parameters of a table of refusals."""
    return [pytest.param(*row, id=name) for name, row in table.items()]


def uuid(number: int) -> str:
    """Return the number as a UUID."""
    return f"01957a3f-4e23-7b01-a9d1-{number:012x}"


def agent(number: int) -> Agent:
    """Return the agent at a depth."""
    return Agent(f"agent-{number}", owner="team@example.com")


def root(**changes: object) -> Grant:
    """Return a root grant for the first holder."""
    terms: dict[str, object] = {
        "issuer": "https://issuer.example.com",
        "task_id": "task-1",
        "principal": ALICE,
        "agent": agent(0),
        "holder": KEYS[1].public_key,
        "scope": SCOPE,
        "now": NOW,
        "ttl": 600,
        "id": uuid(1),
    }
    return issue(ISSUER, **(terms | changes))


def child(chain: Chain, **changes: object) -> Grant:
    """Return a child of the chain's leaf for the next holder."""
    depth = len(chain.grants)
    terms: dict[str, object] = {
        "signer": KEYS[depth],
        "agent": agent(depth),
        "holder": KEYS[depth + 1].public_key,
        "scope": SCOPE,
        "now": NOW,
        "ttl": 600,
        "id": uuid(depth + 1),
    }
    return derive(chain, **(terms | changes))


def grown(length: int) -> Chain:
    """Return a chain of so many grants that may be delegated on as far as any."""
    chain = Chain((root(max_depth=32),))
    while len(chain.grants) < length:
        chain = chain.extended(child(chain))
    return chain


def claims_of(grant: Grant, **changes: JSON) -> dict[str, JSON]:
    """Return the claims of a grant with changes; ``...`` leaves one out."""
    claims = decode(parse_compact(grant.token).payload) | changes
    return {name: value for name, value in claims.items() if value is not ...}


def resigned(grant: Grant, key: SigningKey, kid: str | None = None, **changes: JSON) -> str:
    """Return the token of a grant with other claims, signed again."""
    header = {"typ": "aat+jwt"} if kid is None else {"typ": "aat+jwt", "kid": kid}
    return sign_compact(header, claims_of(grant, **changes), key)


def anchors(kid: str) -> PublicKey:
    """Return the issuer's key under its thumbprint."""
    if kid != ISSUER.public_key.thumbprint:
        raise TokenError("unknown key", code="unknown_key")
    return ISSUER.public_key


def verified(*tokens: str, **changes: object) -> Chain:
    """Verify the tokens of a chain."""
    terms: dict[str, object] = {"anchors": anchors, "issuer": "https://issuer.example.com", "now": NOW}
    return verify_chain(tokens, **(terms | changes))


ROOT = root()
CHAIN = Chain((ROOT,))
CHILD = child(CHAIN)
KID = ISSUER.public_key.thumbprint
TOKEN = sign_compact({"typ": "t"}, {}, ISSUER)


def signed(header: bytes, payload: bytes = b"{}") -> str:
    """Return a correctly signed token over arbitrary bytes."""
    text = f"{b64url_encode(header)}.{b64url_encode(payload)}"
    return f"{text}.{b64url_encode(ISSUER.sign(text.encode()))}"


def read(token: str) -> dict[str, JSON]:
    """Verify a token of type ``t``."""
    return verify_compact(token, ISSUER.public_key, "t")


TOKENS: dict[str, Refusal] = {
    "no text": (lambda: read(b"a.b.c"), TokenError, "malformed_token", "expected a token as a str, got bytes"),
    "too long": (
        lambda: read("a" * (MAX_TOKEN + 1)),
        TokenError,
        "too_large",
        "expected a token of at most 65536 characters, got 65537",
    ),
    "two parts": (
        lambda: read("a.b"),
        TokenError,
        "malformed_token",
        "expected a compact token of three parts, got another form",
    ),
    "no base64url": (
        lambda: read(f"{TOKEN}="),
        TokenError,
        "malformed_token",
        "malformed token: expected base64url without padding, got another character or length",
    ),
    "header no object": (
        lambda: read(signed(b"[]")),
        TokenError,
        "malformed_token",
        "expected a JSON object as the header of a token",
    ),
    "payload no object": (
        lambda: read(signed(b'{"alg":"EdDSA","typ":"t"}', b"[]")),
        TokenError,
        "malformed_token",
        "expected a JSON object as the payload of a token",
    ),
    "payload not canonical": (
        lambda: read(signed(b'{"alg":"EdDSA","typ":"t"}', b'{"a": 1}')),
        TokenError,
        "not_canonical",
        "bad payload of a token: the JSON is not canonical (RFC 8785)",
    ),
    "header not canonical": (
        lambda: read(signed(b'{"typ":"t","alg":"EdDSA"}')),
        TokenError,
        "not_canonical",
        "bad header of a token: the JSON is not canonical (RFC 8785)",
    ),
    "more in the header": (
        lambda: read(signed(b'{"alg":"EdDSA","crit":[],"typ":"t"}')),
        TokenError,
        "unknown_header",
        "expected a header of alg, kid and typ only, got another member",
    ),
    "another algorithm": (
        lambda: read(signed(b'{"alg":"none","typ":"t"}')),
        TokenError,
        "algorithm_not_allowed",
        "expected the algorithm EdDSA, got another or none",
    ),
    "no type": (
        lambda: read(signed(b'{"alg":"EdDSA"}')),
        TokenError,
        "wrong_type",
        "expected a typ in the header",
    ),
    "another type": (
        lambda: read(sign_compact({"typ": "u"}, {}, ISSUER)),
        TokenError,
        "wrong_type",
        "expected a token of type t, got another",
    ),
    "empty kid": (
        lambda: read(sign_compact({"typ": "t", "kid": ""}, {}, ISSUER)),
        TokenError,
        "malformed_token",
        "expected a kid of 1 to 256 characters in the header",
    ),
    "long kid": (
        lambda: read(sign_compact({"typ": "t", "kid": "k" * 257}, {}, ISSUER)),
        TokenError,
        "malformed_token",
        "expected a kid of 1 to 256 characters in the header",
    ),
    "made too large": (
        lambda: sign_compact({"typ": "t"}, {"a": "x" * 49_053}, ISSUER),
        ValueError,
        None,
        "expected a token of at most 65536 characters, got 65537; use a smaller scope",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(TOKENS))
def test_what_a_refused_token_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each malformed token is refused with its code and message."""
    check_refusal(make, kind, code, message)


def test_tokens_at_their_bounds() -> None:
    """A token of 64 KiB is made and read, and so are the shortest and the longest kid."""
    largest = sign_compact({"typ": "t"}, {"a": "x" * 49_052}, ISSUER)
    assert len(largest) == MAX_TOKEN
    assert read(largest) == {"a": "x" * 49_052}
    for kid in ("k", "k" * 256):
        assert parse_compact(sign_compact({"typ": "t", "kid": kid}, {}, ISSUER)).kid == kid


def test_any_text_has_a_hash() -> None:
    """What is no token has a hash as well, so that a refused one can be named in a record."""
    assert token_hash("\ud800.x") == hashlib.sha256(b"\xed\xa0\x80").hexdigest()


TERMS: dict[str, Refusal] = {
    "now no int": (lambda: root(now=1.5), TypeError, None, "expected now as an int, got float"),
    "now too early": (
        lambda: root(now=-1),
        ValueError,
        None,
        "expected now from 0 to 9007199254740992, got -1",
    ),
    "now too late": (
        lambda: root(now=LATEST + 1),
        ValueError,
        None,
        "expected now from 0 to 9007199254740992, got 9007199254740993",
    ),
    "end too late": (
        lambda: root(now=LATEST),
        TokenError,
        "bad_claim",
        "bad claim exp in a grant: expected an integer from 0 to 2^53",
    ),
    "ttl no int": (lambda: root(ttl=True), TypeError, None, "expected ttl as an int, got bool"),
    "ttl too short": (lambda: root(ttl=0), ValueError, None, "expected ttl from 1 to 7776000, got 0"),
    "ttl too long": (
        lambda: root(ttl=MAX_TTL + 1),
        ValueError,
        None,
        "expected ttl from 1 to 7776000, got 7776001",
    ),
    "depth no int": (lambda: root(max_depth="3"), TypeError, None, "expected max_depth as an int, got str"),
    "depth too small": (lambda: root(max_depth=-1), ValueError, None, "expected max_depth from 0 to 32, got -1"),
    "depth too great": (lambda: root(max_depth=33), ValueError, None, "expected max_depth from 0 to 32, got 33"),
    "id": (lambda: root(id="1"), ValueError, None, "expected the id of a grant to be a UUID in lower case"),
    "issuer": (lambda: root(issuer=""), ValueError, None, "expected issuer to have 1 to 256 characters, got 0"),
    "task": (lambda: root(task_id=""), ValueError, None, "expected task_id to have 1 to 256 characters, got 0"),
    "audience": (lambda: root(audience=""), ValueError, None, "expected audience to have 1 to 256 characters, got 0"),
    "not the holder": (
        lambda: child(CHAIN, signer=KEYS[9]),
        AttenuationError,
        "not_the_holder",
        "expected the key of the leaf's holder to sign the child",
    ),
    "parent expired": (
        lambda: child(CHAIN, now=NOW + 600),
        AttenuationError,
        "parent_expired",
        "expected a live parent, got an expired one; open a new task",
    ),
    "at the depth limit": (
        lambda: child(Chain((root(max_depth=0),))),
        AttenuationError,
        "too_deep",
        "expected a parent that may be delegated on, got one at its limit; raise max_depth at the root",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(TERMS))
def test_what_refused_terms_say(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each argument that no grant can be made with is refused with its name and range."""
    check_refusal(make, kind, code, message)


def test_terms_at_their_bounds() -> None:
    """The first and last of everything that may be asked for is granted; three hops are the default."""
    assert root(now=0).issued_at == 0
    assert root(now=LATEST - 1, ttl=1).expires_at == LATEST
    assert root(ttl=MAX_TTL).expires_at == NOW + MAX_TTL
    assert root(ttl=1).expires_at == NOW + 1
    assert [root(max_depth=depth).max_depth for depth in (0, 32)] == [0, 32]
    assert root().max_depth == 3
    assert child(CHAIN, now=NOW + 599).expires_at == NOW + 600


def described(**changes: JSON) -> Grant:
    """Return the grant that changed claims describe."""
    return grant_of("", claims_of(ROOT, **changes))


DETAILS = claims_of(ROOT)["authorization_details"][0]
CLAIMS: dict[str, Refusal] = {
    "missing": (
        lambda: described(jti=..., txn=...),
        TokenError,
        "missing_claim",
        "expected the claim jti in a grant, got none",
    ),
    "unknown": (
        lambda: described(limit=1),
        TokenError,
        "unknown_claim",
        "expected only known claims in a grant, got another one",
    ),
    "principal no object": (
        lambda: described(principal="alice"),
        TokenError,
        "bad_claim",
        "bad claim principal in a grant: expected an object",
    ),
    "another subject": (
        lambda: described(sub="bob"),
        TokenError,
        "bad_claim",
        "expected sub to be the id of the principal, got another",
    ),
    "no time to live": (
        lambda: described(exp=NOW),
        TokenError,
        "bad_claim",
        "expected exp after iat in a grant",
    ),
    "float as a time": (
        lambda: described(iat=float(NOW)),
        TokenError,
        "bad_claim",
        "bad claim iat in a grant: expected an integer from 0 to 2^53",
    ),
    "text as a time": (
        lambda: described(exp="soon"),
        TokenError,
        "bad_claim",
        "bad claim exp in a grant: expected an integer from 0 to 2^53",
    ),
    "time too late": (
        lambda: described(exp=LATEST + 1),
        TokenError,
        "bad_claim",
        "bad claim exp in a grant: expected an integer from 0 to 2^53",
    ),
    "negative depth": (
        lambda: described(del_depth=-1),
        TokenError,
        "bad_claim",
        "bad claim del_depth in a grant: expected an integer from 0 to 2^53",
    ),
    "depth limit no number": (
        lambda: described(del_max_depth=None),
        TokenError,
        "bad_claim",
        "bad claim del_max_depth in a grant: expected an integer from 0 to 2^53",
    ),
    "depth limit": (
        lambda: described(del_max_depth=33),
        TokenError,
        "too_deep",
        "expected del_depth up to del_max_depth up to 32 in a grant",
    ),
    "beyond its own limit": (
        lambda: described(del_depth=4),
        TokenError,
        "too_deep",
        "expected del_depth up to del_max_depth up to 32 in a grant",
    ),
    "id no text": (
        lambda: described(jti=3),
        TokenError,
        "bad_claim",
        "bad claim jti in a grant: expected a UUID in lower case",
    ),
    "id in upper case": (
        lambda: described(jti=uuid(1).upper()),
        TokenError,
        "bad_claim",
        "bad claim jti in a grant: expected a UUID in lower case",
    ),
    "issuer no text": (
        lambda: described(iss=1),
        TokenError,
        "bad_claim",
        "bad claim iss in a grant: expected it to be a str, got int",
    ),
    "task empty": (
        lambda: described(txn=""),
        TokenError,
        "bad_claim",
        "bad claim txn in a grant: expected it to have 1 to 256 characters, got 0",
    ),
    "audience no text": (
        lambda: described(aud=["urn:x"]),
        TokenError,
        "bad_claim",
        "bad claim aud in a grant: expected it to be a str, got list",
    ),
    "parent hash no text": (
        lambda: described(par_hash=None),
        TokenError,
        "bad_claim",
        "bad claim par_hash in a grant: expected it to be a str, got NoneType",
    ),
    "agent no object": (
        lambda: described(agent="agent-0"),
        TokenError,
        "bad_claim",
        "bad claim agent in a grant: expected an object",
    ),
    "no key": (
        lambda: described(cnf={}),
        TokenError,
        "bad_claim",
        "bad claim cnf in a grant: expected the member jwk and no other",
    ),
    "key no object": (
        lambda: described(cnf={"jwk": "k"}),
        TokenError,
        "bad_claim",
        "bad claim cnf in a grant: expected an object",
    ),
    "key of another kind": (
        lambda: described(cnf={"jwk": {"kty": "RSA"}}),
        TokenError,
        "bad_key",
        "expected a JWK of kty OKP and crv Ed25519, got another",
    ),
    "two entries": (
        lambda: described(authorization_details=[DETAILS, DETAILS]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: expected exactly one entry",
    ),
    "no list of entries": (
        lambda: described(authorization_details={"0": DETAILS}),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: expected exactly one entry",
    ),
    "entry no object": (
        lambda: described(authorization_details=["pay"]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: expected an object",
    ),
    "unknown entry": (
        lambda: described(authorization_details=[DETAILS | {"type": "x"}]),
        TokenError,
        "unknown_entry",
        "expected an entry of a known type in a grant, got another",
    ),
    "more in the entry": (
        lambda: described(authorization_details=[DETAILS | {"actions": []}]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: expected the members tools and type and no other",
    ),
    "tools no object": (
        lambda: described(authorization_details=[DETAILS | {"tools": []}]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: expected an object",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(CLAIMS))
def test_what_refused_claims_say(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each malformed claim is refused with its name and what it should be."""
    check_refusal(make, kind, code, message)


def test_claims_at_their_bounds() -> None:
    """The deepest grant and the latest time are read, and a depth may equal its limit."""
    assert described(del_max_depth=32, exp=LATEST).max_depth == 32
    assert described(del_depth=3).depth == 3
    assert described(iat=0, exp=1).issued_at == 0


def linked(**changes: object) -> None:
    """Check a changed child against its parent, as the constructor of a chain does."""
    Chain((ROOT, replace(CHILD, **changes)))


LINKS: dict[str, Refusal] = {
    "empty": (lambda: Chain(()), TokenError, "empty_chain", "expected at least one grant in a chain, got none"),
    "too large": (
        lambda: Chain((replace(ROOT, token="x" * (MAX_CHAIN + 1)),)),
        TokenError,
        "too_large",
        "expected a chain of at most 262144 characters",
    ),
    "root with a depth": (
        lambda: Chain((replace(ROOT, depth=1),)),
        TokenError,
        "not_a_root",
        "expected a root grant at the start of the chain, got a child",
    ),
    "root with a parent": (
        lambda: Chain((replace(ROOT, parent_hash="x"),)),
        TokenError,
        "not_a_root",
        "expected a root grant at the start of the chain, got a child",
    ),
    "twice": (
        lambda: linked(id=ROOT.id),
        TokenError,
        "duplicate_id",
        "expected each grant once in a chain, got one twice",
    ),
    "two deeper": (
        lambda: linked(depth=2),
        TokenError,
        "wrong_depth",
        "expected a depth of one more than the parent's",
    ),
    "beyond the limit": (
        lambda: check_child(replace(ROOT, max_depth=0), CHILD),
        AttenuationError,
        "too_deep",
        "expected a depth within the parent's limit",
    ),
    "a higher limit": (
        lambda: linked(max_depth=4),
        AttenuationError,
        "depth_not_attenuated",
        "expected a depth limit no higher than the parent's",
    ),
    "older than its parent": (
        lambda: linked(issued_at=NOW - 1),
        TokenError,
        "issued_before_parent",
        "expected a child issued no earlier than its parent",
    ),
    "living longer": (
        lambda: linked(expires_at=NOW + 601),
        AttenuationError,
        "outlives_parent",
        "expected a child that expires no later than its parent",
    ),
    "another task": (
        lambda: linked(task_id="task-2"),
        TokenError,
        "wrong_task",
        "expected a child of the same task, got one of another task",
    ),
    "another principal": (
        lambda: linked(principal=Human("bob@example.com")),
        AttenuationError,
        "principal_changed",
        "expected the parent's principal in the child, got another",
    ),
    "another audience": (
        lambda: check_child(replace(ROOT, audience="urn:x"), CHILD),
        AttenuationError,
        "audience_not_attenuated",
        "expected the parent's audience in the child",
    ),
    "a wider scope": (
        lambda: linked(scope=Scope("wipe")),
        AttenuationError,
        "tool_not_attenuated",
        "tool 'wipe' is not in the parent's scope; leave it out or grant it to the parent first",
    ),
    "another parent": (
        lambda: linked(parent_hash=None),
        TokenError,
        "wrong_parent",
        "expected a child that names its parent's hash, got another",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(LINKS))
def test_what_a_refused_link_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each way not to be the parent's child is refused with its code and message."""
    check_refusal(make, kind, code, message)


def test_links_at_their_bounds() -> None:
    """The largest chain is one, and so is a child that has all of its parent's time and the last depth."""
    assert Chain((replace(ROOT, token="x" * MAX_CHAIN),)).root.id == ROOT.id
    parent = root(max_depth=1)
    last = child(Chain((parent,)))
    assert (last.issued_at, last.expires_at) == (parent.issued_at, parent.expires_at)
    assert (last.depth, last.max_depth) == (1, 1)


FOREIGN = child(Chain((root(id=uuid(7)),)))
CHAINS: dict[str, Refusal] = {
    "empty": (verified, TokenError, "empty_chain", "expected at least one grant in a chain, got none"),
    "too deep": (
        lambda: verified(*map(str, range(34))),
        TokenError,
        "too_deep",
        "expected at most 33 grants in a chain, got 34",
    ),
    "one text": (
        lambda: verify_chain(ROOT.token[:33], anchors=anchors, issuer=None, now=NOW),
        TokenError,
        "malformed_token",
        "expected the grants as a sequence of strings",
    ),
    "no texts": (
        lambda: verified(ROOT.token, None),
        TokenError,
        "malformed_token",
        "expected the grants as a sequence of strings",
    ),
    "too large": (
        lambda: verified("a" * MAX_CHAIN, "b"),
        TokenError,
        "too_large",
        "expected a chain of at most 262144 characters",
    ),
    "as large as a chain may be, but no token": (
        lambda: verified("a" * MAX_CHAIN),
        TokenError,
        "too_large",
        "expected a token of at most 65536 characters, got 262144",
    ),
    "one token twice": (
        lambda: verified(ROOT.token, ROOT.token),
        TokenError,
        "duplicate_id",
        "expected each grant once in a chain, got one twice",
    ),
    "one id twice": (
        lambda: verified(ROOT.token, resigned(CHILD, KEYS[1], jti=ROOT.id)),
        TokenError,
        "duplicate_id",
        "expected each grant once in a chain, got one twice",
    ),
    "root without a key": (
        lambda: verified(resigned(ROOT, ISSUER)),
        TokenError,
        "unknown_key",
        "expected a root grant that names its key (kid), got none",
    ),
    "child with another key": (
        lambda: verified(ROOT.token, resigned(CHILD, KEYS[1], kid=KID)),
        TokenError,
        "wrong_key",
        "expected a kid that names the parent's holder, got another",
    ),
    "child of another issuer": (
        lambda: verified(ROOT.token, resigned(CHILD, KEYS[1], iss=ROOT.issuer)),
        TokenError,
        "wrong_issuer",
        "expected the parent's holder as the issuer of a child",
    ),
    "child of another parent": (
        lambda: verified(ROOT.token, FOREIGN.token),
        TokenError,
        "wrong_parent",
        "expected a child that names its parent's hash, got another",
    ),
    "another history": (
        lambda: verified(resigned(ROOT, ISSUER, kid=KID, act={"sub": "agent-9"})),
        TokenError,
        "bad_history",
        "expected act to list the agents of the chain, got another history",
    ),
    "root with a depth": (
        lambda: verified(resigned(ROOT, ISSUER, kid=KID, del_depth=1)),
        TokenError,
        "not_a_root",
        "expected a root grant at the start of the chain, got a child",
    ),
    "root with a parent": (
        lambda: verified(resigned(ROOT, ISSUER, kid=KID, par_hash="x")),
        TokenError,
        "not_a_root",
        "expected a root grant at the start of the chain, got a child",
    ),
    "another issuer": (
        lambda: verified(ROOT.token, issuer="https://other.example.com"),
        TokenError,
        "wrong_issuer",
        "expected a root grant of the trusted issuer, got another issuer",
    ),
    "another task": (
        lambda: verified(ROOT.token, task_id="task-2"),
        TokenError,
        "wrong_task",
        "expected a grant for this task, got one for another task",
    ),
    "lives too long": (
        lambda: verified(root(ttl=3601).token),
        TokenError,
        "lives_too_long",
        "expected a grant that lives at most 3600 s",
    ),
    "from the future": (
        lambda: verified(ROOT.token, now=NOW - 31),
        TokenError,
        "not_yet_valid",
        "expected a grant issued before now, got one from the future",
    ),
    "beyond the skew": (
        lambda: verified(ROOT.token, now=NOW - 6, skew=5),
        TokenError,
        "not_yet_valid",
        "expected a grant issued before now, got one from the future",
    ),
    "expired": (
        lambda: verified(ROOT.token, now=NOW + 600),
        TokenError,
        "expired",
        "expected a grant that is still valid, got an expired one",
    ),
    "another audience": (
        lambda: verified(root(audience="urn:x").token, audience="urn:y"),
        TokenError,
        "wrong_audience",
        "expected a grant made for this enforcement point, got one for another",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(CHAINS))
def test_what_a_refused_chain_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each step of verification refuses with its code and message."""
    check_refusal(make, kind, code, message)


def test_chains_at_their_bounds() -> None:
    """The deepest chain verifies, and so do the longest life, the last second and the largest skew."""
    deepest = grown(33)
    assert verified(*deepest.tokens) == deepest
    longest = root(ttl=3600)
    assert verified(longest.token).root == longest
    assert verified(ROOT.token, now=NOW + 599) == verified(ROOT.token, now=NOW - 30) == CHAIN
    assert verified(ROOT.token, now=NOW - 5, skew=5) == CHAIN


def test_a_child_may_name_the_key_of_its_parents_holder() -> None:
    """A kid in the header of a child is redundant, but right."""
    named = resigned(CHILD, KEYS[1], kid=KEYS[1].public_key.thumbprint)
    assert verified(ROOT.token, named).leaf.id == CHILD.id


def test_the_key_of_a_known_root_is_still_asked_for() -> None:
    """A chain that was verified before is trusted as long as its root's key is, under its own kid."""
    asked: list[str] = []

    def remember(kid: str) -> PublicKey:
        asked.append(kid)
        return anchors(kid)

    assert verified(ROOT.token, anchors=remember, verified=CHAIN) == CHAIN
    assert asked == [KID]


PROOF = {"tool": "pay", "arguments": {"amount": 1}, "audience": "urn:x", "now": NOW}


def proof(chain: Chain = CHAIN, **changes: object) -> str:
    """Return a proof for the call."""
    return prove(chain, **({"signer": KEYS[1], "id": uuid(9)} | PROOF | changes))


def proved(token: str, chain: Chain = CHAIN, **changes: object) -> str:
    """Verify a proof for the call."""
    return verify_proof(token, chain, **(PROOF | changes))


def forged(**changes: JSON) -> str:
    """Return a proof with other claims; ``...`` leaves one out."""
    claims = decode(parse_compact(proof()).payload) | changes
    return sign_compact({"typ": PROOF_TYPE}, {k: v for k, v in claims.items() if v is not ...}, KEYS[1])


PROOFS: dict[str, Refusal] = {
    "another signer": (
        lambda: proof(signer=KEYS[2]),
        AttenuationError,
        "not_the_holder",
        "expected the key of the leaf's holder to sign the proof",
    ),
    "id": (lambda: proof(id="9"), ValueError, None, "expected the id of a proof to be a UUID in lower case"),
    "audience": (
        lambda: proof(audience=""),
        ValueError,
        None,
        "expected audience to have 1 to 256 characters, got 0",
    ),
    "claim missing": (
        lambda: proved(forged(aat_id=...)),
        TokenError,
        "bad_proof",
        "expected the claims of a proof and no others",
    ),
    "time no integer": (
        lambda: proved(forged(iat="now")),
        TokenError,
        "bad_proof",
        "expected the claims of a proof and no others",
    ),
    "id no UUID": (
        lambda: proved(forged(jti="9")),
        TokenError,
        "bad_proof",
        "expected a UUID as jti and an object as hta in a proof",
    ),
    "arguments no object": (
        lambda: proved(forged(hta=[])),
        TokenError,
        "bad_proof",
        "expected a UUID as jti and an object as hta in a proof",
    ),
    "another grant": (
        lambda: proved(forged(aat_id=uuid(2))),
        TokenError,
        "wrong_grant",
        "expected a proof for this call, got one for another: wrong_grant",
    ),
    "another tool": (
        lambda: proved(proof(), tool="list"),
        TokenError,
        "wrong_tool",
        "expected a proof for this call, got one for another: wrong_tool",
    ),
    "another audience": (
        lambda: proved(proof(), audience="urn:y"),
        TokenError,
        "wrong_audience",
        "expected a proof for this call, got one for another: wrong_audience",
    ),
    "a grant for another audience": (
        lambda: proved(proof(), Chain((root(audience="urn:z"),))),
        TokenError,
        "wrong_audience",
        "expected a proof for this call, got one for another: wrong_audience",
    ),
    "too old": (
        lambda: proved(proof(), now=NOW + 31),
        TokenError,
        "proof_too_old",
        "expected a proof of the last 30 s, got an older one",
    ),
    "from the future": (
        lambda: proved(proof(), now=NOW - 31),
        TokenError,
        "not_yet_valid",
        "expected a proof made before now, got one from the future",
    ),
    "other arguments": (
        lambda: proved(proof(), arguments={"amount": 2}),
        TokenError,
        "wrong_arguments",
        "expected a proof for these arguments, got one for others",
    ),
    "arguments no JSON": (
        lambda: proved(proof(), arguments={"amount": object()}),
        TokenError,
        "wrong_arguments",
        "expected arguments that are values of JSON, got others",
    ),
}


@pytest.mark.parametrize(("make", "kind", "code", "message"), rows(PROOFS))
def test_what_a_refused_proof_says(
    make: Callable[[], object], kind: type[Exception], code: str | None, message: str
) -> None:
    """Each proof that does not fit its call is refused with its code and message."""
    check_refusal(make, kind, code, message)


def test_proofs_at_their_bounds() -> None:
    """The first and last second count, and a grant may be made for the audience that gets the proof."""
    assert proved(proof(), now=NOW + 30) == proved(proof(), now=NOW - 30) == uuid(9)
    bound = Chain((root(audience="urn:x"),))
    assert proved(proof(bound), bound) == uuid(9)
