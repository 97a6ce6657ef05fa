"""Chains under the knife, and attenuation against a second opinion; both as often as one likes.

``AGENT_IDENTITY_TRIALS`` says how often (``nox -s thorough`` does it a million times).
"""

import math
import os
import random
from collections.abc import Callable, Sequence
from typing import Final, cast

from agent_identity import Agent, Grant, Human, Scope
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import GRANT_TYPE, Chain, derive, issue
from agent_identity._constraints.literals import Constraint
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._identity.keys.jws import parse_compact, sign_compact
from agent_identity.canonical import JSON, decode
from agent_identity.constraints import AllOf, AnyOf, Contains, Exact, NotOneOf, OneOf, Prefix, Range, Subset, Wildcard
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import PublicKey, SigningKey

TRIALS: Final = int(os.environ.get("AGENT_IDENTITY_TRIALS") or 4_000)
NOW: Final = 1_800_000_000
KEYS: Final = [SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 8)]
ISSUER: Final = KEYS[0]
STRANGER: Final = KEYS[6]
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=~ \n\0"


def uuid(number: int) -> str:
    """Return the number as a UUID."""
    return f"01957a3f-4e23-7b01-a9d1-{number:012x}"


def chain_of(length: int, *, task: str, person: str, start: int) -> Chain:
    """Return a chain that verifies; each grant narrows the one before it."""
    root = issue(
        ISSUER,
        issuer="urn:example:issuer",
        task_id=task,
        principal=Human(person),
        agent=Agent("agent-0", owner="team"),
        holder=KEYS[1].public_key,
        scope=Scope("pay", amount=Range(max=100)) | Scope("read"),
        now=NOW,
        ttl=600,
        max_depth=4,
        id=uuid(start),
    )
    chain = Chain((root,))
    for hop in range(1, length):
        grant = derive(
            chain,
            KEYS[hop],
            agent=Agent(f"agent-{hop}", owner="team"),
            holder=KEYS[hop + 1].public_key,
            scope=Scope("pay", amount=Range(max=100 - hop)),
            now=NOW,
            ttl=600 - hop,
            id=uuid(start + hop),
        )
        chain = chain.extended(grant)
    return chain


GOOD: Final = (
    chain_of(4, task="task-1", person="alice", start=1),
    chain_of(4, task="task-2", person="alice", start=11),
    chain_of(4, task="task-1", person="bob", start=21),
)
ACCEPTABLE: Final = {chain.tokens[:length] for chain in GOOD for length in range(1, 5)}
"""A chain cut at its end is the chain of an agent further up, whose key nobody gets by cutting."""


def anchors(kid: str) -> PublicKey:
    """Trust the one issuer key."""
    if kid != ISSUER.public_key.thumbprint:
        raise TokenError("expected a known key", code="unknown_key")
    return ISSUER.public_key


Tokens = list[str]
Knife = Callable[[random.Random, Tokens], Tokens]


def drop(source: random.Random, tokens: Tokens) -> Tokens:
    """Take a link out."""
    del tokens[source.randrange(len(tokens))]
    return tokens


def reorder(source: random.Random, tokens: Tokens) -> Tokens:
    """Shuffle the links."""
    source.shuffle(tokens)
    return tokens


def duplicate(source: random.Random, tokens: Tokens) -> Tokens:
    """Put a link in a second time."""
    tokens.insert(source.randrange(len(tokens) + 1), source.choice(tokens))
    return tokens


def splice(source: random.Random, tokens: Tokens) -> Tokens:
    """Go on with the links of another chain of the same holders."""
    other = source.choice(GOOD).tokens
    return [*tokens[: source.randrange(len(tokens) + 1)], *other[source.randrange(len(other)) :]]


def re_root(source: random.Random, tokens: Tokens) -> Tokens:
    """Put the first grant of a stranger, or of another chain, in front."""
    made = issue(
        STRANGER,
        issuer="urn:example:issuer",
        task_id="task-1",
        principal=Human("alice"),
        agent=Agent("agent-0", owner="team"),
        holder=KEYS[source.randrange(1, 7)].public_key,
        scope=Scope("pay") | Scope("read"),
        now=NOW,
        ttl=600,
        max_depth=4,
        id=uuid(99),
    )
    return [source.choice((made.token, GOOD[1].tokens[0], GOOD[2].tokens[0])), *tokens[1:]]


def re_sign(source: random.Random, tokens: Tokens) -> Tokens:
    """Change a claim and sign again with a key that one may have: the holder's, a later one's, a stranger's."""
    index = source.randrange(1, len(tokens))
    claims = cast("dict[str, JSON]", decode(parse_compact(tokens[index]).payload))
    name = source.choice(sorted(claims))
    other = cast("dict[str, JSON]", decode(parse_compact(source.choice(source.choice(GOOD).tokens)).payload))
    wider: dict[str, JSON] = {
        "authorization_details": [{"tools": {"pay": {}, "wipe": {}}, "type": "attenuating_agent_token"}],
        "exp": NOW + 10_000,
        "del_max_depth": 32,
        "txn": "task-9",
        "sub": "mallory",
        "par_hash": "A" * 43,
    }
    claims[name] = wider.get(name, other.get(name, "x"))
    key = source.choice((KEYS[index], KEYS[index + 1], STRANGER))
    if key is KEYS[index] and name in ("agent", "act", "cnf", "iat", "jti"):
        key = STRANGER  # What a holder may say of its child in its own name is no attack.
    tokens[index] = sign_compact({"typ": GRANT_TYPE}, claims, key)
    return tokens


def truncate(source: random.Random, tokens: Tokens) -> Tokens:
    """Cut the text of one token, at its end or at its start."""
    index = source.randrange(len(tokens))
    cut = source.randrange(1, len(tokens[index]))
    tokens[index] = tokens[index][:-cut] if source.random() < 0.5 else tokens[index][cut:]
    return tokens


def respell(source: random.Random, tokens: Tokens) -> Tokens:
    """Write a token in other characters, or its bytes in others."""
    index = source.randrange(len(tokens))
    text = tokens[index]
    place = source.randrange(len(text))
    if source.random() < 0.5:
        tokens[index] = text[:place] + source.choice(LETTERS) + text[place + source.randrange(2) :]
        return tokens
    parts = text.split(".")
    part = source.randrange(3)
    data = bytearray(b64url_decode(parts[part]))
    if source.random() < 0.5:
        data[source.randrange(len(data))] ^= 1 << source.randrange(8)
    else:
        data.insert(source.randrange(len(data) + 1), source.choice(b' \n\t0"{},\0\xff'))
    parts[part] = b64url_encode(bytes(data))
    tokens[index] = ".".join(parts)
    return tokens


KNIVES: Final[Sequence[Knife]] = (drop, reorder, duplicate, splice, re_root, re_sign, truncate, respell)


def test_no_chain_survives_surgery() -> None:
    """Whatever is cut, moved, joined, signed again or respelled: only what was issued so verifies."""
    source = random.Random(8)  # noqa: S311
    tried, accepted = 0, []
    while tried < TRIALS:
        knife = source.choice(KNIVES)
        tokens = knife(source, list(source.choice(GOOD).tokens))
        if tuple(tokens) in ACCEPTABLE:
            continue
        tried += 1
        try:
            verify_chain(tokens, anchors=anchors, issuer="urn:example:issuer", now=NOW + 1)
        except (TokenError, AttenuationError):
            continue
        accepted.append(knife.__name__)
    assert accepted == []


def test_the_chains_themselves_verify() -> None:
    """The surgery would prove nothing on chains that were refused anyway."""
    for tokens in ACCEPTABLE:
        verify_chain(tokens, anchors=anchors, issuer="urn:example:issuer", now=NOW + 1)


def same(ours: object, theirs: object) -> bool:
    """Compare two values of JSON without a conversion but that of whole numbers."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return ours == theirs
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


Claim = dict[str, object]


def listed(claim: Claim, name: str) -> list[object]:
    """Return an array that stands in a claim."""
    return cast("list[object]", claim[name])


def among(value: object, values: Sequence[object]) -> bool:
    """Tell whether a value is one of several."""
    return any(same(value, one) for one in values)


def within(claim: Claim, value: object) -> bool:
    """Tell whether a value is a number between the bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    low, high = cast("float", claim.get("min", -math.inf)), cast("float", claim.get("max", math.inf))
    above = value >= low if claim.get("min_inclusive", True) else value > low
    return above and (value <= high if claim.get("max_inclusive", True) else value < high)


def clauses(claim: Claim) -> list[Claim]:
    """Return the constraints inside one."""
    return cast("list[Claim]", claim["constraints"])


OPINIONS: Final[dict[str, Callable[[Claim, object], bool]]] = {
    "exact": lambda claim, value: same(value, claim["value"]),
    "one_of": lambda claim, value: among(value, listed(claim, "values")),
    "not_one_of": lambda claim, value: not among(value, listed(claim, "excluded")),
    "range": within,
    "contains": lambda claim, value: (
        isinstance(value, list) and all(among(one, value) for one in listed(claim, "required"))
    ),
    "subset": lambda claim, value: (
        isinstance(value, list) and all(among(one, listed(claim, "allowed")) for one in value)
    ),
    "prefix": lambda claim, value: isinstance(value, str) and value.startswith(cast("str", claim["prefix"])),
    "all": lambda claim, value: all(permitted(part, value) for part in clauses(claim)),
    "any": lambda claim, value: any(permitted(part, value) for part in clauses(claim)),
    "wildcard": lambda _claim, _value: True,
}


def permitted(claim: Claim, value: object) -> bool:
    """Judge by the words of the profile alone, from what stands in the grant and without our classes."""
    return OPINIONS[cast("str", claim["constraint_type"])](claim, value)


POOL: Final = (0, 1, 2, 1.0, 1.5, -1, 7, "a", "ab", "abc", "b", "", True, False, None, [1], [1, 2], ["a"], [], [True])
NUMBERS: Final = (-1, 0, 1, 1.5, 2, 7)


def some(source: random.Random, depth: int = 2) -> Constraint:
    """Return a constraint of any kind over a few values, so that pairs often meet."""
    kind = source.randrange(10 if depth else 8)
    few = source.sample(POOL, source.randrange(1, 4))
    if kind < 5:
        return cast("Constraint", (Exact(few[0]), OneOf(*few), NotOneOf(*few), Contains(*few), Subset(*few))[kind])
    if kind == 5:
        low, high = sorted(source.sample(NUMBERS, 2))
        return Range(low, high, min_inclusive=source.random() < 0.5, max_inclusive=source.random() < 0.5)
    if kind == 6:
        return Wildcard()
    if kind == 7:
        return Prefix(source.choice(("a", "ab", "abc", "b")))
    parts = [some(source, depth - 1) for _ in range(source.randrange(1, 4))]
    return AllOf(*parts) if kind == 8 else AnyOf(*parts)


def narrowed(source: random.Random, parent: Constraint) -> Constraint:
    """Return a constraint that is often within the parent, so that the rule is tried where it says yes."""
    if isinstance(parent, AllOf):
        return AllOf(*(narrowed(source, part) for part in parent.clauses), *([some(source, 1)] * source.randrange(2)))
    if isinstance(parent, AnyOf):
        return AnyOf(*(narrowed(source, part) for part in parent.clauses[: source.randrange(1, 4)]))
    return next((child for _ in range(8) if parent.covers(child := some(source, 1))), parent)


def test_what_a_child_permits_its_parent_permits_by_a_second_opinion() -> None:
    """Where ``covers`` says yes, no value passes the child alone; and ``permits`` says what the profile says."""
    source = random.Random(3)  # noqa: S311
    covered = 0
    for _ in range(TRIALS // 4):
        parent = some(source)
        child = narrowed(source, parent) if source.random() < 0.7 else some(source)
        ours, theirs = (cast("dict[str, object]", one.to_claim()) for one in (parent, child))
        holds = parent.covers(child)
        covered += holds
        for value in source.sample(POOL, 4):
            below, above = permitted(theirs, value), permitted(ours, value)
            assert child.permits(value) is below, (theirs, value)
            assert parent.permits(value) is above, (ours, value)
            assert not (holds and below and not above), (ours, theirs, value)
    assert covered > TRIALS // 20


def test_scopes_attenuate_by_a_second_opinion() -> None:
    """A child grant that verifies permits no call that its parent refuses."""
    source = random.Random(5)  # noqa: S311
    made: list[Grant] = []
    root = GOOD[0].root
    for _ in range(max(50, TRIALS // 100)):
        parent, child = some(source), some(source)
        if source.random() < 0.7:
            child = narrowed(source, parent)
        wide, narrow = Scope("pay", amount=parent), Scope("pay", amount=child)
        top = issue(
            ISSUER,
            issuer="urn:example:issuer",
            task_id="task-1",
            principal=root.principal,
            agent=root.agent,
            holder=KEYS[1].public_key,
            scope=wide,
            now=NOW,
            ttl=60,
            id=uuid(50),
        )
        try:
            grant = derive(
                Chain((top,)),
                KEYS[1],
                agent=root.agent,
                holder=KEYS[2].public_key,
                scope=narrow,
                now=NOW,
                ttl=60,
                id=uuid(51),
            )
        except AttenuationError:
            continue
        made.append(grant)
        for value in POOL:
            if child.permits(value):
                assert parent.permits(value), (wide.to_claim(), narrow.to_claim(), value)
    assert made
