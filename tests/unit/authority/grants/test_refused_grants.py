"""What each refusal of tokens, grants, chains and proofs says, and where exactly each bound lies.

A user acts on codes and messages, so the code and one phrase of each message are asserted.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from agent_identity import Agent, Grant, Human, Scope
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import MAX_CHAIN, MAX_TTL, Chain, check_child, derive, grant_of, issue
from agent_identity._authority.grants.proof_of_possession import PROOF_TYPE, prove, verify_proof
from agent_identity._identity.common.encoding import b64url_encode, digest_of
from agent_identity._identity.keys.jws import MAX_TOKEN, parse_compact, sign_compact, token_hash, verify_compact
from agent_identity.canonical import JSON, decode
from agent_identity.constraints import Range
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import PublicKey, SigningKey

NOW = 1_764_000_000
KEYS = [SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 40)]
ISSUER = KEYS[0]
ALICE = Human("alice@example.com")
SCOPE = Scope("pay", amount=Range(max=100)) | Scope("list")
LATEST = 2**53

Refusal = tuple[Callable[[], object], type[Exception], str | None, str]


def check_refusal(make: Callable[[], object], kind: type[Exception], code: str | None, phrase: str) -> None:
    """Assert the class, the code and a phrase of the message of a refusal."""
    with pytest.raises(kind) as refused:
        make()
    got = refused.value
    assert (type(got), getattr(got, "code", None)) == (kind, code)
    assert phrase in str(got)


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
    "no text": (lambda: read(b"a.b.c"), TokenError, "malformed_token", "the token is bytes"),
    "too long": (
        lambda: read("a" * (MAX_TOKEN + 1)),
        TokenError,
        "too_large",
        "the token has 65537 characters, more than 65536",
    ),
    "two parts": (
        lambda: read("a.b"),
        TokenError,
        "malformed_token",
        "the token does not have the three parts of a compact token",
    ),
    "no base64url": (
        lambda: read(f"{TOKEN}="),
        TokenError,
        "malformed_token",
        "malformed token: the text has a character or a length that base64url without padding has not",
    ),
    "header no object": (
        lambda: read(signed(b"[]")),
        TokenError,
        "malformed_token",
        "the header of the token is not a JSON object",
    ),
    "payload no object": (
        lambda: read(signed(b'{"alg":"Ed25519","typ":"t"}', b"[]")),
        TokenError,
        "malformed_token",
        "the payload of the token is not a JSON object",
    ),
    "payload not canonical": (
        lambda: read(signed(b'{"alg":"Ed25519","typ":"t"}', b'{"a": 1}')),
        TokenError,
        "not_canonical",
        "bad payload of a token: the JSON is not canonical (RFC 8785)",
    ),
    "header not canonical": (
        lambda: read(signed(b'{"typ":"t","alg":"Ed25519"}')),
        TokenError,
        "not_canonical",
        "bad header of a token: the JSON is not canonical (RFC 8785)",
    ),
    "more in the header": (
        lambda: read(signed(b'{"alg":"Ed25519","crit":[],"typ":"t"}')),
        TokenError,
        "unknown_header",
        "the header has other members than alg, kid and typ",
    ),
    "another algorithm": (
        lambda: read(signed(b'{"alg":"none","typ":"t"}')),
        TokenError,
        "algorithm_not_allowed",
        "the algorithm of the token is not Ed25519",
    ),
    "no type": (
        lambda: read(signed(b'{"alg":"Ed25519"}')),
        TokenError,
        "wrong_type",
        "the typ in the header is missing or not text",
    ),
    "another type": (
        lambda: read(sign_compact({"typ": "u"}, {}, ISSUER)),
        TokenError,
        "wrong_type",
        "the token is not of type t",
    ),
    "empty kid": (
        lambda: read(sign_compact({"typ": "t", "kid": ""}, {}, ISSUER)),
        TokenError,
        "malformed_token",
        "the kid in the header does not have 1 to 256 characters",
    ),
    "long kid": (
        lambda: read(sign_compact({"typ": "t", "kid": "k" * 257}, {}, ISSUER)),
        TokenError,
        "malformed_token",
        "the kid in the header does not have 1 to 256 characters",
    ),
    "made too large": (
        lambda: sign_compact({"typ": "tt"}, {"a": "x" * 49_050}, ISSUER),
        ValueError,
        None,
        "the token has 65537 characters, more than 65536",
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
    largest = sign_compact({"typ": "tt"}, {"a": "x" * 49_049}, ISSUER)
    assert len(largest) == MAX_TOKEN
    assert verify_compact(largest, ISSUER.public_key, "tt") == {"a": "x" * 49_049}
    for kid in ("k", "k" * 256):
        assert parse_compact(sign_compact({"typ": "t", "kid": kid}, {}, ISSUER)).kid == kid


def test_any_text_has_a_hash() -> None:
    """What is no token has a hash as well, so that a refused one can be named in a record."""
    assert token_hash("\ud800.x") == digest_of(b"\xed\xa0\x80")


TERMS: dict[str, Refusal] = {
    "now no int": (lambda: root(now=1.5), TypeError, None, "now is float; give an int"),
    "now too early": (
        lambda: root(now=-1),
        ValueError,
        None,
        "now is -1; give 0 to 9007199254740992",
    ),
    "now too late": (
        lambda: root(now=LATEST + 1),
        ValueError,
        None,
        "now is 9007199254740993; give 0 to 9007199254740992",
    ),
    "end too late": (
        lambda: root(now=LATEST),
        TokenError,
        "bad_claim",
        "bad claim exp in a grant: it is not an integer from 0 to 2^53",
    ),
    "ttl no int": (lambda: root(ttl=True), TypeError, None, "ttl is bool; give an int"),
    "ttl too short": (lambda: root(ttl=0), ValueError, None, "ttl is 0; give 1 to 7776000"),
    "ttl too long": (
        lambda: root(ttl=MAX_TTL + 1),
        ValueError,
        None,
        "ttl is 7776001; give 1 to 7776000",
    ),
    "depth no int": (lambda: root(max_depth="3"), TypeError, None, "max_depth is str; give an int"),
    "depth too small": (lambda: root(max_depth=-1), ValueError, None, "max_depth is -1; give 0 to 32"),
    "depth too great": (lambda: root(max_depth=33), ValueError, None, "max_depth is 33; give 0 to 32"),
    "id": (lambda: root(id="1"), ValueError, None, "the id of the grant is not a UUID in lower case"),
    "issuer": (lambda: root(issuer=""), ValueError, None, "issuer has 0 characters"),
    "task": (lambda: root(task_id=""), ValueError, None, "task_id has 0 characters"),
    "audience": (lambda: root(audience=""), ValueError, None, "audience has 0 characters"),
    "not the holder": (
        lambda: child(CHAIN, signer=KEYS[9]),
        AttenuationError,
        "not_the_holder",
        "the key that signs the child is not that of the leaf's holder",
    ),
    "parent expired": (
        lambda: child(CHAIN, now=NOW + 600),
        AttenuationError,
        "parent_expired",
        "the parent has expired",
    ),
    "at the depth limit": (
        lambda: child(Chain((root(max_depth=0),))),
        AttenuationError,
        "too_deep",
        "the parent may not be delegated on, because it is at its limit",
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
        "the claim jti of the grant is missing",
    ),
    "unknown": (
        lambda: described(limit=1),
        TokenError,
        "unknown_claim",
        "the grant has an unknown claim",
    ),
    "principal no object": (
        lambda: described(principal="alice"),
        TokenError,
        "bad_claim",
        "bad claim principal in a grant: it is not an object",
    ),
    "another subject": (
        lambda: described(sub="bob"),
        TokenError,
        "bad_claim",
        "sub is not the id of the principal",
    ),
    "no time to live": (
        lambda: described(exp=NOW),
        TokenError,
        "bad_claim",
        "exp is not after iat in the grant",
    ),
    "float as a time": (
        lambda: described(iat=float(NOW)),
        TokenError,
        "bad_claim",
        "bad claim iat in a grant: it is not an integer from 0 to 2^53",
    ),
    "text as a time": (
        lambda: described(exp="soon"),
        TokenError,
        "bad_claim",
        "bad claim exp in a grant: it is not an integer from 0 to 2^53",
    ),
    "time too late": (
        lambda: described(exp=LATEST + 1),
        TokenError,
        "bad_claim",
        "bad claim exp in a grant: it is not an integer from 0 to 2^53",
    ),
    "negative depth": (
        lambda: described(del_depth=-1),
        TokenError,
        "bad_claim",
        "bad claim del_depth in a grant: it is not an integer from 0 to 2^53",
    ),
    "depth limit no number": (
        lambda: described(del_max_depth=None),
        TokenError,
        "bad_claim",
        "bad claim del_max_depth in a grant: it is not an integer from 0 to 2^53",
    ),
    "depth limit": (
        lambda: described(del_max_depth=33),
        TokenError,
        "too_deep",
        "del_depth is above del_max_depth, or this is above 32, in the grant",
    ),
    "beyond its own limit": (
        lambda: described(del_depth=4),
        TokenError,
        "too_deep",
        "del_depth is above del_max_depth, or this is above 32, in the grant",
    ),
    "id no text": (
        lambda: described(jti=3),
        TokenError,
        "bad_claim",
        "bad claim jti in a grant: it is not a UUID in lower case",
    ),
    "id in upper case": (
        lambda: described(jti=uuid(1).upper()),
        TokenError,
        "bad_claim",
        "bad claim jti in a grant: it is not a UUID in lower case",
    ),
    "issuer no text": (
        lambda: described(iss=1),
        TokenError,
        "bad_claim",
        "bad claim iss in a grant: it is int; give a str",
    ),
    "task empty": (
        lambda: described(txn=""),
        TokenError,
        "bad_claim",
        "bad claim txn in a grant: it has 0 characters",
    ),
    "audience no text": (
        lambda: described(aud=["urn:x"]),
        TokenError,
        "bad_claim",
        "bad claim aud in a grant: it is list; give a str",
    ),
    "parent hash no text": (
        lambda: described(par_hash=None),
        TokenError,
        "bad_claim",
        "bad claim par_hash in a grant: it is NoneType; give a str",
    ),
    "agent no object": (
        lambda: described(agent="agent-0"),
        TokenError,
        "bad_claim",
        "bad claim agent in a grant: it is not an object",
    ),
    "no key": (
        lambda: described(cnf={}),
        TokenError,
        "bad_claim",
        "bad claim cnf in a grant: it does not have exactly the member jwk",
    ),
    "key no object": (
        lambda: described(cnf={"jwk": "k"}),
        TokenError,
        "bad_claim",
        "bad claim cnf in a grant: it is not an object",
    ),
    "key of another kind": (
        lambda: described(cnf={"jwk": {"kty": "RSA"}}),
        TokenError,
        "bad_key",
        "the JWK is not of kty OKP and crv Ed25519",
    ),
    "two entries": (
        lambda: described(authorization_details=[DETAILS, DETAILS]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: it does not have exactly one entry",
    ),
    "no list of entries": (
        lambda: described(authorization_details={"0": DETAILS}),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: it does not have exactly one entry",
    ),
    "entry no object": (
        lambda: described(authorization_details=["pay"]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: it is not an object",
    ),
    "unknown entry": (
        lambda: described(authorization_details=[DETAILS | {"type": "x"}]),
        TokenError,
        "unknown_entry",
        "the entry of the grant is of an unknown type",
    ),
    "more in the entry": (
        lambda: described(authorization_details=[DETAILS | {"actions": []}]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: it does not have exactly the members tools and type",
    ),
    "tools no object": (
        lambda: described(authorization_details=[DETAILS | {"tools": []}]),
        TokenError,
        "bad_claim",
        "bad claim authorization_details in a grant: it is not an object",
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
    "empty": (lambda: Chain(()), TokenError, "empty_chain", "the chain has no grant"),
    "too large": (
        lambda: Chain((replace(ROOT, token="x" * (MAX_CHAIN + 1)),)),
        TokenError,
        "too_large",
        "the chain has more than 262144 characters",
    ),
    "root with a depth": (
        lambda: Chain((replace(ROOT, depth=1),)),
        TokenError,
        "not_a_root",
        "the chain begins with a child instead of a root grant",
    ),
    "root with a parent": (
        lambda: Chain((replace(ROOT, parent_hash="x"),)),
        TokenError,
        "not_a_root",
        "the chain begins with a child instead of a root grant",
    ),
    "twice": (
        lambda: linked(id=ROOT.id),
        TokenError,
        "duplicate_id",
        "a grant is twice in the chain",
    ),
    "two deeper": (
        lambda: linked(depth=2),
        TokenError,
        "wrong_depth",
        "the depth of the child is not one more than its parent's",
    ),
    "beyond the limit": (
        lambda: check_child(replace(ROOT, max_depth=0), CHILD),
        AttenuationError,
        "too_deep",
        "the depth of the child is beyond its parent's limit",
    ),
    "a higher limit": (
        lambda: linked(max_depth=4),
        AttenuationError,
        "depth_not_attenuated",
        "the depth limit of the child is higher than its parent's",
    ),
    "older than its parent": (
        lambda: linked(issued_at=NOW - 1),
        TokenError,
        "issued_before_parent",
        "the child was issued before its parent",
    ),
    "living longer": (
        lambda: linked(expires_at=NOW + 601),
        AttenuationError,
        "outlives_parent",
        "the child expires after its parent",
    ),
    "another task": (
        lambda: linked(task_id="task-2"),
        TokenError,
        "wrong_task",
        "the child is of another task",
    ),
    "another principal": (
        lambda: linked(principal=Human("bob@example.com")),
        AttenuationError,
        "principal_changed",
        "the child has another principal than its parent",
    ),
    "another audience": (
        lambda: check_child(replace(ROOT, audience="urn:x"), replace(CHILD, audience="urn:y")),
        AttenuationError,
        "audience_not_attenuated",
        "the child has another audience than its parent",
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
        "the child does not name its parent's hash",
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
    "empty": (verified, TokenError, "empty_chain", "the chain has no grant"),
    "too deep": (
        lambda: verified(*map(str, range(34))),
        TokenError,
        "too_deep",
        "the chain has 34 grants, more than 33",
    ),
    "one text": (
        lambda: verify_chain(ROOT.token[:33], anchors=anchors, issuer=None, now=NOW),
        TokenError,
        "malformed_token",
        "the grants are not a sequence of strings",
    ),
    "no texts": (
        lambda: verified(ROOT.token, None),
        TokenError,
        "malformed_token",
        "the grants are not a sequence of strings",
    ),
    "too large": (
        lambda: verified("a" * MAX_CHAIN, "b"),
        TokenError,
        "too_large",
        "the chain has more than 262144 characters",
    ),
    "as large as a chain may be, but no token": (
        lambda: verified("a" * MAX_CHAIN),
        TokenError,
        "too_large",
        "the token has 262144 characters, more than 65536",
    ),
    "one token twice": (
        lambda: verified(ROOT.token, ROOT.token),
        TokenError,
        "duplicate_id",
        "a grant is twice in the chain",
    ),
    "one id twice": (
        lambda: verified(ROOT.token, resigned(CHILD, KEYS[1], jti=ROOT.id)),
        TokenError,
        "duplicate_id",
        "a grant is twice in the chain",
    ),
    "root without a key": (
        lambda: verified(resigned(ROOT, ISSUER)),
        TokenError,
        "unknown_key",
        "the root grant does not name its key (kid)",
    ),
    "child with another key": (
        lambda: verified(ROOT.token, resigned(CHILD, KEYS[1], kid=KID)),
        TokenError,
        "wrong_key",
        "the kid does not name the parent's holder",
    ),
    "child of another issuer": (
        lambda: verified(ROOT.token, resigned(CHILD, KEYS[1], iss=ROOT.issuer)),
        TokenError,
        "wrong_issuer",
        "the issuer of the child is not the parent's holder",
    ),
    "child of another parent": (
        lambda: verified(ROOT.token, FOREIGN.token),
        TokenError,
        "wrong_parent",
        "the child does not name its parent's hash",
    ),
    "another history": (
        lambda: verified(resigned(ROOT, ISSUER, kid=KID, act={"sub": "agent-9"})),
        TokenError,
        "bad_history",
        "act does not list the agents of the chain",
    ),
    "root with a depth": (
        lambda: verified(resigned(ROOT, ISSUER, kid=KID, del_depth=1)),
        TokenError,
        "not_a_root",
        "the chain begins with a child instead of a root grant",
    ),
    "root with a parent": (
        lambda: verified(resigned(ROOT, ISSUER, kid=KID, par_hash="x")),
        TokenError,
        "not_a_root",
        "the chain begins with a child instead of a root grant",
    ),
    "another issuer": (
        lambda: verified(ROOT.token, issuer="https://other.example.com"),
        TokenError,
        "wrong_issuer",
        "the root grant is another issuer's",
    ),
    "another task": (
        lambda: verified(ROOT.token, task_id="task-2"),
        TokenError,
        "wrong_task",
        "the grant is for another task",
    ),
    "lives too long": (
        lambda: verified(root(ttl=3601).token),
        TokenError,
        "lives_too_long",
        "the grant lives longer than 3600 s",
    ),
    "from the future": (
        lambda: verified(ROOT.token, now=NOW - 31),
        TokenError,
        "not_yet_valid",
        "the grant was issued in the future",
    ),
    "beyond the skew": (
        lambda: verified(ROOT.token, now=NOW - 6, skew=5),
        TokenError,
        "not_yet_valid",
        "the grant was issued in the future",
    ),
    "expired": (
        lambda: verified(ROOT.token, now=NOW + 600),
        TokenError,
        "expired",
        "the grant has expired",
    ),
    "another audience": (
        lambda: verified(root(audience="urn:x").token, audience="urn:y"),
        TokenError,
        "wrong_audience",
        "the grant was made for another enforcement point",
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
        "the key that signs the proof is not that of the leaf's holder",
    ),
    "id": (lambda: proof(id="9"), ValueError, None, "the id of the proof is not a UUID in lower case"),
    "audience": (
        lambda: proof(audience=""),
        ValueError,
        None,
        "audience has 0 characters",
    ),
    "claim missing": (
        lambda: proved(forged(aat_id=...)),
        TokenError,
        "bad_proof",
        "the claims are not exactly those of a proof",
    ),
    "time no integer": (
        lambda: proved(forged(iat="now")),
        TokenError,
        "bad_proof",
        "the claims are not exactly those of a proof",
    ),
    "id no UUID": (
        lambda: proved(forged(jti="9")),
        TokenError,
        "bad_proof",
        "jti of the proof is not a UUID, or hta is not an object",
    ),
    "arguments no object": (
        lambda: proved(forged(hta=[])),
        TokenError,
        "bad_proof",
        "jti of the proof is not a UUID, or hta is not an object",
    ),
    "another grant": (
        lambda: proved(forged(aat_id=uuid(2))),
        TokenError,
        "wrong_grant",
        "the proof is for another call: wrong_grant",
    ),
    "another tool": (
        lambda: proved(proof(), tool="list"),
        TokenError,
        "wrong_tool",
        "the proof is for another call: wrong_tool",
    ),
    "another audience": (
        lambda: proved(proof(), audience="urn:y"),
        TokenError,
        "wrong_audience",
        "the proof is for another call: wrong_audience",
    ),
    "a grant for another audience": (
        lambda: proved(proof(Chain((root(audience="urn:z"),))), Chain((root(audience="urn:z"),))),
        TokenError,
        "wrong_audience",
        "the proof is for another call: wrong_audience",
    ),
    "too old": (
        lambda: proved(proof(), now=NOW + 31),
        TokenError,
        "proof_too_old",
        "the proof is older than 30 s",
    ),
    "from the future": (
        lambda: proved(proof(), now=NOW - 31),
        TokenError,
        "not_yet_valid",
        "the proof was made in the future",
    ),
    "other arguments": (
        lambda: proved(proof(), arguments={"amount": 2}),
        TokenError,
        "wrong_arguments",
        "the proof is for other arguments",
    ),
    "arguments no JSON": (
        lambda: proved(proof(), arguments={"amount": object()}),
        TokenError,
        "wrong_arguments",
        "the arguments are not values of JSON",
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
