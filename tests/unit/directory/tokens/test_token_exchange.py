"""The request of a token exchange, how the client proves who it is, DPoP nonces and revocation."""

import base64
import copy
import json
import pickle
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from agent_identity import Agent, Grant, Human, Scope
from agent_identity._authority.grants.grants import Chain, derive, issue
from agent_identity._authority.tokens.exchange import ACCESS_TOKEN, JWT
from agent_identity._authority.tokens.source import TokenOrder
from agent_identity._identity.keys.jwt_keys import JwtAlgorithm, JwtKey
from agent_identity.errors import ConfigurationError, ExchangeError
from agent_identity.identity import SigningKey
from agent_identity.testing import FixedClock, SequentialIds
from agent_identity.tokens import LocalTokens, Reply, TokenExchange

# joserfc warns of the name that RFC 9864 deprecates, and that most libraries still demand.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

ENDPOINT = "https://login.example.com/token"
REVOKE = "https://login.example.com/revoke"
CLOCK = FixedClock()
NOW = CLOCK.wall_ns() // 10**9
ISSUER, HOLDER, SECOND = (SigningKey.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
GOOD = {"access_token": "downstream", "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer", "expires_in": 60}


def chain_of() -> Chain:
    """Return a chain of two agents for alice."""
    terms: dict[str, Any] = {"scope": Scope("token_exchange"), "now": NOW, "ttl": 100}
    root = issue(
        ISSUER,
        issuer="https://issuer.example.com",
        task_id="task-1",
        principal=Human("alice"),
        agent=Agent("clerk", owner="finance"),
        holder=HOLDER.public_key,
        id="01957a3f-4e23-7b01-a9d1-000000000001",
        **terms,
    )
    leaf = derive(
        Chain((root,)),
        HOLDER,
        agent=Agent("auditor", owner="finance"),
        holder=SECOND.public_key,
        id="01957a3f-4e23-7b01-a9d1-000000000002",
        **terms,
    )
    return Chain((root, leaf))


CHAIN = chain_of()


def order_of(**changes: Any) -> TokenOrder:
    """Return an order of a task."""
    ids, keys = SequentialIds(), {}

    def key(algorithm: JwtAlgorithm) -> JwtKey:
        return keys.setdefault(algorithm, JwtKey.generate(algorithm))

    given: dict[str, Any] = {"audience": "https://api.example.com", "resource": None, "scope": (), **changes}
    return TokenOrder(
        chain=CHAIN, now=NOW, clock=CLOCK, new_id=lambda: ids.new(CLOCK.wall_ns()), proof_key=key, **given
    )


class Script:
    """A transport that answers by a script and keeps what it was asked."""

    def __init__(self, *answers: Reply | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, Mapping[str, str], dict[str, str], float]] = []

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
        """Return the next answer."""
        form = parse_qs(body.decode("ascii"), strict_parsing=True)
        assert all(len(values) == 1 for values in form.values())
        self.asked.append((url, headers, {name: values[0] for name, values in form.items()}, timeout))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def reply(body: object = GOOD, status: int = 200, **headers: str) -> Reply:
    """Return an answer of JSON."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/json", **named}, json.dumps(body).encode())


def exchange(transport: Script, **options: Any) -> TokenExchange:
    """Return an exchange over the transport."""
    given: dict[str, Any] = {"subject_token": lambda grant: f"inbound of {grant.principal.id}", **options}
    return TokenExchange(ENDPOINT, "our client", transport=transport, **given)


def part(token: str, index: int) -> Any:
    """Return a part of a token as JSON."""
    text = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_the_smallest_request() -> None:
    """What RFC 8693 §2.1 wants, the principal's token as the subject and the grant as the actor; a public client."""
    transport = Script(reply())
    issued = exchange(transport).issue(order_of())
    assert (issued.value, issued.expires_at, issued.token_type, issued.revoke) == (
        "downstream",
        NOW + 60,
        "Bearer",
        None,
    )
    ((url, headers, form, timeout),) = transport.asked
    assert (url, timeout) == (ENDPOINT, 10.0)
    assert headers == {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    assert form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": "inbound of alice",
        "subject_token_type": ACCESS_TOKEN,
        "requested_token_type": ACCESS_TOKEN,
        "audience": "https://api.example.com",
        "actor_token": CHAIN.leaf.token,
        "actor_token_type": JWT,
        "client_id": "our client",
    }


def test_a_full_request() -> None:
    """Resource, scope and other types of tokens go along; without an actor there is no actor token."""
    transport = Script(reply({**GOOD, "issued_token_type": JWT}))
    source = exchange(transport, actor=None, subject_token_type=JWT, requested_token_type=JWT, timeout=3)
    source.issue(order_of(resource="https://api.example.com/v1", scope=("read", "write")))
    form = transport.asked[0][2]
    assert (form["resource"], form["scope"]) == ("https://api.example.com/v1", "read write")
    assert (form["subject_token_type"], form["requested_token_type"]) == (JWT, JWT)
    assert not {"actor_token", "actor_token_type"} & form.keys()
    assert transport.asked[0][3] == 3


def test_the_subject_is_asked_for_with_the_grant() -> None:
    """The application sees whose token is wanted, and for which task."""
    seen: list[Grant] = []
    exchange(Script(reply()), subject_token=lambda grant: seen.append(grant) or "inbound").issue(order_of())
    assert [(grant.principal.id, grant.task_id, grant.agent.id) for grant in seen] == [("alice", "task-1", "auditor")]


@pytest.mark.parametrize("subject", [None, "", b"bytes", "x" * (64 * 1024 + 1)])
def test_without_a_subject_nobody_is_asked(subject: object) -> None:
    """An application that has no token of the principal gets none of another."""
    transport = Script()
    with pytest.raises(ExchangeError, match="subject_token") as caught:
        exchange(transport, subject_token=lambda grant: subject).issue(order_of())
    assert (caught.value.code, transport.asked) == ("exchange_failed", [])


def test_a_local_issuer_signs_the_actor() -> None:
    """The actor token names the agents of the chain, for the endpoint, with the issuer's key."""
    transport, issuer = Script(reply()), LocalTokens(ISSUER, "https://issuer.example.com")
    exchange(transport, actor=issuer).issue(order_of())
    token = transport.asked[0][2]["actor_token"]
    claims = jwt.decode(token, KeySet.import_key_set(issuer.jwks()), algorithms=["EdDSA"]).claims
    assert (claims["sub"], claims["act"], claims["aud"]) == ("auditor", {"sub": "clerk"}, ENDPOINT)
    assert claims["exp"] == NOW + 60
    assert part(token, 0)["typ"] == "JWT"


def test_a_client_with_a_password_uses_http_basic() -> None:
    """Name and password are form encoded before base64, so that a colon in them means nothing (RFC 6749 §2.3.1)."""
    transport = Script(reply())
    exchange(transport, client_secret="pass:wörd +%").issue(order_of())
    scheme, _, text = transport.asked[0][1]["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(text)) == ("Basic", b"our+client:pass%3Aw%C3%B6rd+%2B%25")
    assert "client_id" not in transport.asked[0][2]


@pytest.mark.parametrize("options", [{}, {"key_id": "name", "assertion_audience": "https://login.example.com"}])
def test_a_client_with_a_key_signs_an_assertion(options: dict[str, str]) -> None:
    """The assertion is for the endpoint or the audience given, lives a minute and is never used twice."""
    key, transport = JwtKey.generate("ES256"), Script(reply(), reply())
    source = exchange(transport, private_key=key, **options)
    order = order_of()
    source.issue(order)
    source.issue(order)
    forms = [asked[2] for asked in transport.asked]
    assert {form["client_assertion_type"] for form in forms} == {
        "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    }
    public = ECKey.import_key(key.to_jwk())
    first, second = (jwt.decode(form["client_assertion"], public, algorithms=["ES256"]) for form in forms)
    assert first.header["kid"] == options.get("key_id", public.thumbprint())
    assert first.claims.pop("jti") != second.claims.pop("jti")
    audience = options.get("assertion_audience", ENDPOINT)
    assert first.claims == {"iss": "our client", "sub": "our client", "aud": audience, "iat": NOW, "exp": NOW + 60}


def test_a_signer_of_grants_proves_the_client_as_well() -> None:
    """Whatever signs with Ed25519, a KMS too, is a key of the client."""
    transport = Script(reply())
    exchange(transport, private_key=HOLDER).issue(order_of())
    header = part(transport.asked[0][2]["client_assertion"], 0)
    assert header == {"alg": "EdDSA", "kid": HOLDER.public_key.thumbprint, "typ": "JWT"}


@pytest.mark.parametrize(("dpop", "algorithm"), [(True, "EdDSA"), ("EdDSA", "EdDSA"), ("ES256", "ES256")])
def test_dpop_binds_the_token_to_the_key_of_the_task(dpop: Any, algorithm: str) -> None:
    """The proof is for the endpoint, by the key that the token then needs."""
    transport, order = Script(reply({**GOOD, "token_type": "DPoP"})), order_of()
    issued = exchange(transport, dpop=dpop).issue(order)
    proof = transport.asked[0][1]["DPoP"]
    assert issued.key is order.proof_key(algorithm)  # type: ignore[arg-type]
    assert part(proof, 0) == {"alg": algorithm, "jwk": issued.key.to_jwk(), "typ": "dpop+jwt"}
    claims = part(proof, 1)
    assert (claims["htm"], claims["htu"], claims["iat"]) == ("POST", ENDPOINT, NOW)
    assert not {"ath", "nonce"} & claims.keys()


WANTS_NONCE = {"error": "use_dpop_nonce"}


def test_a_nonce_that_is_wanted_is_sent_once_more() -> None:
    """The second proof holds the nonce; later ones the latest that the server gave (RFC 9449 §8)."""
    bound = {**GOOD, "token_type": "DPoP"}
    transport = Script(reply(WANTS_NONCE, 400, dpop_nonce="n-1"), reply(bound, dpop_nonce="n-2"), reply(bound))
    source = exchange(transport, dpop=True)
    source.issue(order_of())
    source.issue(order_of())
    claims = [part(asked[1]["DPoP"], 1) for asked in transport.asked]
    assert [claim.get("nonce") for claim in claims] == [None, "n-1", "n-2"]
    assert len({claim["jti"] for claim in claims[:2]}) == 2


@pytest.mark.parametrize(
    "answers",
    [
        [reply(WANTS_NONCE, 400, dpop_nonce="n-1"), reply(WANTS_NONCE, 400, dpop_nonce="n-2")],
        [reply(WANTS_NONCE, 400)],
        [reply({"error": "invalid_dpop_proof"}, 400, dpop_nonce="n-1")],
    ],
)
def test_nobody_is_asked_again_and_again(answers: list[Reply]) -> None:
    """A server that is never content, gives no nonce or refuses for another reason is asked no third time."""
    transport = Script(*answers)
    with pytest.raises(ExchangeError) as caught:
        exchange(transport, dpop=True).issue(order_of())
    assert (caught.value.code, transport.answers) == ("exchange_refused", [])


def test_a_malformed_nonce_is_not_kept() -> None:
    """A nonce that no proof can hold is as good as none."""
    bound = {**GOOD, "token_type": "DPoP"}
    transport = Script(reply(bound, dpop_nonce="a b"), reply(bound))
    source = exchange(transport, dpop=True)
    source.issue(order_of())
    source.issue(order_of())
    assert "nonce" not in part(transport.asked[1][1]["DPoP"], 1)


def test_without_dpop_no_nonce_is_heeded() -> None:
    """A server that wants a proof from a client that makes none is told on."""
    with pytest.raises(ExchangeError) as caught:
        exchange(Script(reply(WANTS_NONCE, 400, dpop_nonce="n-1"))).issue(order_of())
    assert caught.value.reason == "use_dpop_nonce"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused(status: int) -> None:
    """Credentials follow nobody's directions."""
    transport = Script(reply({}, status, location="https://evil.example/token"))
    with pytest.raises(ExchangeError, match="redirect") as caught:
        exchange(transport).issue(order_of())
    assert (caught.value.code, len(transport.asked)) == ("exchange_malformed", 1)
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(("status", "reason"), [(400, "invalid_target"), (401, "invalid_client"), (503, None)])
def test_a_refusal_is_told_by_its_code(status: int, reason: str | None) -> None:
    """What the endpoint said is in ``reason``, if it is a code of OAuth."""
    with pytest.raises(ExchangeError, match=f"status {status}") as caught:
        exchange(Script(reply({"error": reason}, status))).issue(order_of())
    assert (caught.value.code, caught.value.reason) == ("exchange_refused", reason)


def test_the_longest_lifetime_is_configured() -> None:
    """A token that lives longer than is acceptable is refused."""
    assert exchange(Script(reply()), longest=timedelta(seconds=60)).issue(order_of())
    with pytest.raises(ExchangeError, match="expires_in"):
        exchange(Script(reply()), longest=timedelta(seconds=59)).issue(order_of())


def test_a_token_is_revoked_at_its_endpoint() -> None:
    """RFC 7009 §2.1, with the proof of the client, within the time that is left and the time of one request."""
    transport = Script(reply(), Reply(200, {}, b""), Reply(200, {}, b""))
    issued = exchange(transport, revocation_endpoint=REVOKE, client_secret="word", dpop=False).issue(order_of())
    assert issued.revoke is not None
    issued.revoke(2.5)
    issued.revoke(60.0)
    url, headers, form, _ = transport.asked[1]
    assert (url, form) == (REVOKE, {"token": "downstream", "token_type_hint": "access_token"})
    assert headers["Authorization"].startswith("Basic ")
    assert [asked[3] for asked in transport.asked] == [10.0, 2.5, 10.0]
    assert "downstream" not in repr(issued.revoke)


def test_a_revocation_that_fails_says_so() -> None:
    """Whoever revokes can tell that it did not happen."""
    issued = exchange(Script(reply(), reply({"error": "unsupported_token_type"}, 400)), revocation_endpoint=REVOKE)
    revoke = issued.issue(order_of()).revoke
    assert revoke is not None
    with pytest.raises(ExchangeError) as caught:
        revoke(5)
    assert caught.value.reason == "unsupported_token_type"


def test_it_is_safe_between_threads() -> None:
    """Many tasks exchange at once over one source; each gets a proof of its own."""

    class Echo:
        def __init__(self) -> None:
            self.proofs: list[str] = []

        def post(self, url: str, *, headers: Mapping[str, str], body: bytes, timeout: float) -> Reply:
            self.proofs.append(headers["DPoP"])
            return reply({**GOOD, "token_type": "DPoP"}, dpop_nonce=f"n{len(self.proofs)}")

    transport, order = Echo(), order_of()
    source = exchange(transport, dpop=True)  # type: ignore[arg-type]
    threads = [threading.Thread(target=source.issue, args=(order,)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({part(proof, 1)["jti"] for proof in transport.proofs}) == 16


def test_it_shows_and_gives_away_nothing() -> None:
    """Neither repr nor pickle nor copy lets credentials out."""
    source = exchange(Script(), client_secret="word")
    assert repr(source) == f"TokenExchange({ENDPOINT!r}, client_id='our client')"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            attempt(source)


@pytest.mark.parametrize(
    ("options", "kind", "problem"),
    [
        ({"client_secret": "word", "private_key": HOLDER}, ConfigurationError, "both set"),
        ({"subject_token": "a token"}, TypeError, "subject_token"),
        ({"actor": "jwt"}, TypeError, "LocalTokens"),
        ({"actor": HOLDER}, TypeError, "LocalTokens"),
        ({"dpop": "RS256"}, ValueError, "dpop"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": 61}, ValueError, "timeout"),
        ({"longest": timedelta(0)}, ValueError, "longest"),
        ({"longest": timedelta(days=2)}, ValueError, "longest"),
        ({"revocation_endpoint": "http://login.example.com/revoke"}, ValueError, "revocation endpoint"),
        ({"subject_token_type": ""}, ValueError, "subject_token_type"),
        ({"requested_token_type": 5}, TypeError, "requested_token_type"),
    ],
)
def test_parts_that_do_not_fit_are_refused(options: dict[str, Any], kind: type[Exception], problem: str) -> None:
    """What is wrong in the configuration shows when the program starts."""
    with pytest.raises(kind, match=problem):
        exchange(Script(), **options)


@pytest.mark.parametrize("make", [lambda: TokenExchange("http://login.example.com", "c", subject_token=str)])
def test_an_endpoint_in_clear_is_refused(make: Callable[[], object]) -> None:
    """Credentials go over TLS, or stay on this machine."""
    with pytest.raises(ValueError, match="token endpoint"):
        make()


def test_a_local_token_is_what_the_standard_says() -> None:
    """Type, key id, claims and lifetime of RFC 9068; the key of the task where DPoP is wanted."""
    issuer, order = LocalTokens(ISSUER, "https://issuer.example.com", dpop="ES256"), order_of(scope=("read",))
    issued = issuer.issue(order)
    token = jwt.decode(issued.value, KeySet.import_key_set(issuer.jwks()), algorithms=["EdDSA"])
    assert token.header == {"alg": "EdDSA", "kid": ISSUER.public_key.thumbprint, "typ": "at+jwt"}
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti"} <= token.claims.keys()
    assert (token.claims["sub"], token.claims["client_id"], token.claims["scope"]) == ("alice", "auditor", "read")
    assert token.claims["cnf"] == {"jkt": ECKey.import_key(order.proof_key("ES256").to_jwk()).thumbprint()}
    assert issued.expires_at == token.claims["exp"] == CHAIN.leaf.expires_at
    assert issued.revoke is None
    assert repr(issuer) == (f"LocalTokens(issuer='https://issuer.example.com', kid={ISSUER.public_key.thumbprint!r})")


def test_a_short_local_token() -> None:
    """A lifetime below the grant's is kept; without DPoP it is a bearer token."""
    key = JwtKey.generate("ES256")
    issued = LocalTokens(key, "https://issuer.example.com", ttl=timedelta(seconds=5)).issue(order_of())
    claims = jwt.decode(issued.value, ECKey.import_key(key.to_jwk()), algorithms=["ES256"]).claims
    assert (issued.expires_at, claims["exp"], issued.token_type) == (NOW + 5, NOW + 5, "Bearer")
    assert not {"cnf", "scope"} & claims.keys()


@pytest.mark.parametrize(
    "options", [{"ttl": timedelta(0)}, {"ttl": timedelta(days=2)}, {"dpop": "none"}, {"issuer": ""}]
)
def test_a_local_issuer_is_configured_in_bounds(options: dict[str, Any]) -> None:
    """Lifetime, algorithm and name are checked when the program starts."""
    with pytest.raises(ValueError, match=r"expected| (is|has|does) "):
        LocalTokens(ISSUER, **{"issuer": "https://issuer.example.com", **options})
