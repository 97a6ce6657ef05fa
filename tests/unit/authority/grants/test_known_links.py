"""A chain that was verified before is not verified again link by link, and nothing else changes."""

import pytest

from agent_identity import Agent, Grant, Human, Scope
from agent_identity._authority.grants.chain import verify_chain
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity.errors import AttenuationError, TokenError
from agent_identity.identity import PublicKey, SigningKey

NOW = 1_764_000_000
KEYS = [SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 6)]
SCOPE = Scope("pay")


def uuid(number: int) -> str:
    return f"01957a3f-4e23-7b01-a9d1-{number:012x}"


def root() -> Grant:
    return issue(
        KEYS[0],
        issuer="https://issuer.example.com",
        task_id="task-1",
        principal=Human("alice@example.com"),
        agent=Agent("agent-0", owner="team@example.com"),
        holder=KEYS[1].public_key,
        scope=SCOPE,
        now=NOW,
        ttl=600,
        id=uuid(1),
    )


def child(chain: Chain, number: int = 2) -> Grant:
    return derive(
        chain,
        KEYS[len(chain.grants)],
        agent=Agent(f"agent-{number}", owner="team@example.com"),
        holder=KEYS[len(chain.grants) + 1].public_key,
        scope=SCOPE,
        now=NOW,
        ttl=60,
        id=uuid(number),
    )


def anchor(_: str) -> PublicKey:
    return KEYS[0].public_key


def verified(*tokens: str, known: Chain | None = None, now: int = NOW) -> Chain:
    return verify_chain(tokens, anchors=anchor, issuer=None, now=now, verified=known)


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> list[PublicKey]:
    """Return a list that gets the key of each signature that is verified from now on."""
    used: list[PublicKey] = []
    verify = PublicKey.verify

    def counted(key: PublicKey, signature: bytes, message: bytes) -> None:
        used.append(key)
        verify(key, signature, message)

    monkeypatch.setattr(PublicKey, "verify", counted)
    return used


def test_only_new_links_are_verified(signatures: list[PublicKey]) -> None:
    """The result is that of a whole verification, for one signature."""
    first = root()
    known = verified(first.token)
    second = child(known)
    signatures.clear()
    longer = verified(first.token, second.token, known=known)
    assert signatures == [KEYS[1].public_key]
    assert longer == verified(first.token, second.token)


def test_a_chain_that_begins_otherwise_is_verified_as_a_whole(signatures: list[PublicKey]) -> None:
    """Knowing one chain says nothing about another one."""
    first = root()
    known = verified(first.token)
    longer = verified(first.token, child(known).token)
    other = child(known, 3)
    signatures.clear()
    assert verified(first.token, other.token, known=longer).leaf == other
    assert signatures == [KEYS[0].public_key, KEYS[1].public_key]


def test_a_known_chain_is_still_held_against_time_issuer_task_and_trust() -> None:
    """What may change after a chain was verified is looked at again."""
    first = root()
    known = verified(first.token)
    tokens = (first.token, child(known).token)

    def untrusted(_: str) -> PublicKey:
        raise TokenError("expected a trusted key, got another", code="unknown_key")

    for code, options in {
        "expired": {"now": NOW + 60},
        "not_yet_valid": {"now": NOW - 60},
        "lives_too_long": {"max_lifetime": 599},
        "wrong_issuer": {"issuer": "https://other.example.com"},
        "wrong_task": {"task_id": "task-2"},
        "unknown_key": {"anchors": untrusted},
    }.items():
        given = {"anchors": anchor, "issuer": None, "now": NOW, "verified": known, **options}
        with pytest.raises(TokenError) as caught:
            verify_chain(tokens, **given)
        assert caught.value.code == code


def test_a_known_chain_does_not_widen() -> None:
    """A new link is held against the known ones as against any other."""
    first = root()
    known = verified(first.token)
    wide = issue(
        KEYS[1],
        issuer=KEYS[1].public_key.thumbprint_uri,
        task_id="task-1",
        principal=Human("alice@example.com"),
        agent=Agent("agent-2", owner="team@example.com"),
        holder=KEYS[2].public_key,
        scope=Scope({"pay": None, "delete": None}),
        now=NOW,
        ttl=60,
        id=uuid(2),
    )
    with pytest.raises((TokenError, AttenuationError)):
        verified(first.token, wide.token, known=known)


def test_the_known_chain_alone_is_itself() -> None:
    """Nothing new to verify is no failure."""
    first = root()
    known = verified(first.token)
    assert verified(first.token, known=known) == known
