"""Tokens from a real authorization server on loopback: idpyoidc, with exchange, revocation, introspection and DPoP.

The server is used as it is, but for what its authors leave to whoever runs it: HTTP, who may exchange what (it
refuses actor tokens unless a policy function accepts them), and hooking its DPoP check into the token endpoint.
It checks signature, method and URL of a proof; nonces, and what is bound to a token, are tested elsewhere.
"""

import base64
import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

pytest.importorskip("idpyoidc", reason="the authorization server idpyoidc is not installed")

from idpyoidc.message.oauth2 import AuthorizationRequest, TokenExchangeRequest
from idpyoidc.server import Server
from idpyoidc.server.authn_event import create_authn_event
from idpyoidc.server.authz import AuthzHandling
from idpyoidc.server.client_authn import verify_client
from idpyoidc.server.configure import ASConfiguration
from idpyoidc.server.cookie_handler import CookieHandler
from idpyoidc.server.exception import ClientAuthenticationError, UnAuthorizedClient
from idpyoidc.server.oauth2.add_on.dpop import token_post_parse_request
from idpyoidc.server.oauth2.token_helper import validate_token_exchange_policy
from idpyoidc.server.user_authn.authn_context import INTERNETPROTOCOLPASSWORD
from idpyoidc.server.user_info import UserInfo
from joserfc import jwt
from joserfc.jwk import KeySet, OKPKey

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.errors import ExchangeError
from agent_identity.identity import SigningKey
from agent_identity.tokens import JwtKey, LocalTokens, TokenExchange

# joserfc warns of the name that RFC 9864 deprecates, and that most libraries still demand.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")

ALICE = Human("diana", issuer="https://login.example.com")
CLERK = Agent("invoice-clerk", owner="finance@example.com")
AUDITOR = Agent("auditor", owner="finance@example.com")
API = "https://api.example.com"
SCOPE = Scope("token_exchange", audience=API, scope=["profile"])
PASSWORD = "correct horse: battery/staple"
TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
METHODS = ["client_secret_basic", "private_key_jwt", "public"]
KEYS = [{"type": "RSA", "key": "", "use": ["sig"]}, {"type": "EC", "crv": "P-256", "use": ["sig"]}]
KINDS = ["authorization_code", "access_token", "refresh_token"]


class AuthorizationServer:
    """The server, its loopback address, and what it saw."""

    def __init__(self, folder: Path) -> None:
        handler = self._handler()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.seen: list[dict[str, str]] = []
        self.actors: list[dict[str, Any]] = []
        self.trusted: dict[str, Any] = {"keys": []}
        self.server = Server(ASConfiguration(conf=self._configuration(), base_path=str(folder)), cwd=str(folder))
        self.context = self.server.context
        self.context.map_supported_to_preferred()
        for name in ("app", "agents"):
            self.context.cdb[name] = {
                "client_secret": PASSWORD,
                "redirect_uris": [("https://example.com/cb", None)],
                "client_salt": "salted",
                "grant_types_supported": ["authorization_code", EXCHANGE],
                "response_types": ["code"],
                "allowed_scopes": ["openid", "profile"],
            }
        self.endpoints = {
            name: self.server.get_endpoint(name) for name in ("token", "token_revocation", "introspection")
        }
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self.thread.start()

    def _configuration(self) -> dict[str, Any]:
        def judge(*args: Any, **options: Any) -> Any:  # The server copies its configuration, methods' objects too.
            return self.judge(*args, **options)

        lifetime = {"class": "idpyoidc.server.token.jwt_token.JWTToken", "kwargs": {"lifetime": 3600, "aud": [API]}}
        place = "idpyoidc.server.oauth2."
        minting = {"supports_minting": ["access_token", "refresh_token"], "expires_in": 600}
        return {
            "issuer": self.url,
            "httpc_params": {"verify": False, "timeout": 1},
            "cookie_handler": {
                "class": CookieHandler,
                "kwargs": {"keys": {"key_defs": [{"type": "oct", "kid": use, "use": [use]} for use in ("sig", "enc")]}},
            },
            "keys": {"uri_path": "jwks.json", "key_defs": KEYS},
            "endpoint": {
                "authorization": {
                    "path": "authorization",
                    "class": f"{place}authorization.Authorization",
                    "kwargs": {},
                },
                "token": {
                    "path": "token",
                    "class": "idpyoidc.server.oidc.token.Token",
                    "kwargs": {
                        "client_authn_method": METHODS,
                        "grant_types_helpers": {
                            EXCHANGE: {
                                "class": f"{place}token_helper.token_exchange.TokenExchangeHelper",
                                "kwargs": {
                                    "requested_token_types_supported": [TOKEN_TYPE],
                                    "policy": {"": {"function": judge}},
                                },
                            },
                        },
                    },
                },
                "token_revocation": {
                    "path": "revocation",
                    "class": f"{place}token_revocation.TokenRevocation",
                    "kwargs": {"client_authn_method": METHODS},
                },
                "introspection": {
                    "path": "introspection",
                    "class": f"{place}introspection.Introspection",
                    "kwargs": {"client_authn_method": METHODS, "enforce_audience_restriction": False},
                },
            },
            "authentication": {
                "anon": {
                    "acr": INTERNETPROTOCOLPASSWORD,
                    "class": "idpyoidc.server.user_authn.user.NoAuthn",
                    "kwargs": {"user": ALICE.id},
                }
            },
            "userinfo": {"class": UserInfo, "kwargs": {"db": {}}},
            "client_authn": verify_client,
            "template_dir": "template",
            "authz": {
                "class": AuthzHandling,
                "kwargs": {"grant_config": {"usage_rules": dict.fromkeys(KINDS, minting), "expires_in": 43200}},
            },
            "token_handler_args": {
                "jwks_def": {
                    "private_path": "token_jwks.json",
                    "key_defs": [
                        {"type": "oct", "bytes": 24, "use": ["enc"], "kid": kid} for kid in ("code", "refresh")
                    ],
                },
                "code": {"lifetime": 600},
                "token": lifetime,
                "refresh": lifetime,
            },
        }

    def judge(self, request: Any, context: Any, subject_token: Any, **options: Any) -> Any:
        """Accept actors whose tokens our issuer signed, and otherwise what the server accepts by default."""
        given = request.to_dict()
        actor = given.pop("actor_token", None)
        if actor is not None:
            assert given.pop("actor_token_type") == "urn:ietf:params:oauth:token-type:jwt"
            keys = KeySet.import_key_set(self.trusted)
            self.actors.append(jwt.decode(actor, keys, algorithms=["Ed25519", "EdDSA", "ES256"]).claims)
        return validate_token_exchange_policy(
            TokenExchangeRequest(**given), context, subject_token, audience=[API], **options
        )

    def login(self) -> str:
        """Return the access token that the application got when the user logged in."""
        request = AuthorizationRequest(
            client_id="app",
            redirect_uri="https://example.com/cb",
            scope=["openid", "profile"],
            state="state",
            response_type="code",
        )
        sessions = self.context.session_manager
        session = sessions.create_session(create_authn_event(ALICE.id), request, ALICE.id, client_id="app")
        grant = self.context.authz(session, request)
        token = grant.mint_token(
            session_id=session,
            context=self.context,
            token_class="access_token",
            token_handler=sessions.token_handler["access_token"],
            usage_rules=grant.usage_rules["access_token"],
        )
        token.expires_at = int(time.time()) + 600
        sessions.set(sessions.unpack_session_key(session), grant)
        return token.value

    def is_active(self, token: str) -> bool:
        """Ask the server whether a token is good."""
        basic = base64.b64encode(f"app:{PASSWORD}".encode()).decode()
        answer = self.answer("introspection", f"token={token}", {"authorization": f"Basic {basic}"}, "introspection")
        return json.loads(answer[1])["active"]

    def answer(self, name: str, body: str, headers: dict[str, str], path: str) -> tuple[int, str, list]:
        """Return status, body and headers of the server's answer."""
        if "basic" in headers.get("authorization", "").lower():
            headers = {**headers, "authorization": _plain_basic(headers["authorization"])}
        info = {"headers": headers, "url": f"{self.url}/{path}", "method": "POST"}
        endpoint = self.endpoints[name]
        try:
            request = endpoint.parse_request(body, http_info=info)
            result = request if "error" in request else endpoint.process_request(request)
        except (ClientAuthenticationError, UnAuthorizedClient):
            return 401, '{"error":"invalid_client"}', [("Content-Type", "application/json")]
        if "error" in result:
            return 400, result.to_json(), [("Content-Type", "application/json")]
        answer = endpoint.do_response(request=request, **result)
        return 200, answer["response"], answer["http_headers"]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                path = self.path.lstrip("/")
                headers = {name.lower(): value for name, value in self.headers.items()}
                form = {name: values[0] for name, values in parse_qs(body).items()}
                outer.seen.append({"path": path, **form, **{f"header:{name}": v for name, v in headers.items()}})
                name = {"revocation": "token_revocation"}.get(path, path)
                status, answer, sent = outer.answer(name, body, headers, path)
                self.send_response(status)
                for header, value in sent:
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(answer.encode())))
                self.end_headers()
                self.wfile.write(answer.encode())

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler

    def close(self) -> None:
        """Stop the server."""
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def _plain_basic(header: str) -> str:
    """Undo the form encoding inside HTTP Basic, which RFC 6749 §2.3.1 asks for and this server does not undo."""
    name, _, password = base64.b64decode(header.partition(" ")[2]).decode().partition(":")
    plain = ":".join(part for value in (name, password) for part in parse_qs(f"x={value}")["x"])
    return f"Basic {base64.b64encode(plain.encode()).decode()}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuthorizationServer]:
    server = AuthorizationServer(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def open_with(authority: AuthorizationServer, tmp_path: Path) -> Iterator[Any]:
    """Opens an enforcer whose tokens come from the server, for a user who has logged in."""
    opened: list[Enforcer] = []
    inbound = authority.login()

    def open_one(**options: Any) -> Enforcer:
        given = {"client_secret": PASSWORD, "subject_token": lambda grant: inbound, "actor": None, **options}
        if "private_key" in options:
            del given["client_secret"]
        exchange = TokenExchange(f"{authority.url}/token", "agents", **given)
        opened.append(Enforcer.open(tmp_path / str(len(opened)), tokens=exchange))
        return opened[-1]

    authority.seen.clear()
    authority.actors.clear()
    yield open_one
    for enforcer in opened:
        enforcer.close()


def task_of(enforcer: Enforcer, scope: Scope = SCOPE) -> Any:
    """Return a task of the user and the clerk."""
    return enforcer.task("pay INV-42", principal=ALICE, agent=CLERK, scope=scope)


def test_a_token_is_exchanged_and_revoked_with_its_task(authority: AuthorizationServer, open_with: Any) -> None:
    """The server issues a token for the audience, and knows it no more once the task has ended."""
    with task_of(open_with(revocation_endpoint=f"{authority.url}/revocation")) as task:
        token = task.token(audience=API, scope="profile")
        assert token is task.token(audience=API, scope=["profile"])
        assert (token.token_type, token.expires_at) == ("Bearer", task.expires_at)
        value = token.value
        assert authority.is_active(value)
    assert not authority.is_active(value)
    assert [request["path"] for request in authority.seen] == ["token", "revocation"]
    assert authority.seen[0]["audience"] == API


def test_without_a_revocation_endpoint_a_token_lives_on_at_the_server(
    authority: AuthorizationServer, open_with: Any
) -> None:
    """What the documentation warns of: only the server can end a token early."""
    with task_of(open_with()) as task:
        value = task.token(audience=API, scope="profile").value
    assert authority.is_active(value)


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
def test_a_signed_assertion_proves_the_client(authority: AuthorizationServer, open_with: Any, algorithm: Any) -> None:
    """The server accepts ``private_key_jwt`` of both kinds of keys."""
    key = JwtKey.generate(algorithm)
    jwks = {"keys": [{**key.to_jwk(), "kid": algorithm, "use": "sig"}]}
    authority.server.keyjar.import_jwks(jwks, "agents")
    enforcer = open_with(private_key=key, key_id=algorithm, assertion_audience=f"{authority.url}/token")
    with task_of(enforcer) as task:
        assert authority.is_active(task.token(audience=API, scope="profile").value)
    assert "header:authorization" not in authority.seen[0]


def test_the_actor_is_the_chain_of_agents(authority: AuthorizationServer, open_with: Any) -> None:
    """The server reads who acts, and who delegated, from a token that our issuer signed."""
    issuer = LocalTokens(SigningKey.generate(), "https://issuer.example.com")
    authority.trusted = issuer.jwks()
    enforcer = open_with(actor=issuer)
    with task_of(enforcer) as task, enforcer.delegate(AUDITOR, scope=SCOPE) as part:
        assert authority.is_active(part.token(audience=API, scope="profile").value)
    (actor,) = authority.actors
    assert (actor["sub"], actor["act"]) == ("auditor", {"sub": "invoice-clerk"})
    assert (actor["aud"], actor["txn"]) == (f"{authority.url}/token", task.id)
    assert authority.seen[0]["actor_token_type"] == "urn:ietf:params:oauth:token-type:jwt"


def test_the_grant_can_be_the_actor(authority: AuthorizationServer, open_with: Any, tmp_path: Path) -> None:
    """By default the task's own grant goes along, which JWT libraries that know Ed25519 read with the issuer's key."""
    enforcer = open_with(actor="grant")
    with task_of(enforcer) as task:
        key = SigningKey.load(tmp_path / "0" / "keys" / "issuer.pem").public_key
        issuer = OKPKey.import_key(key.to_jwk())
        authority.trusted = {"keys": [{**issuer.as_dict(), "kid": issuer.thumbprint()}]}
        task.token(audience=API, scope="profile")
        (actor,) = authority.actors
        assert (actor["act"], actor["jti"]) == ({"sub": "invoice-clerk"}, task.grant.id)


@pytest.fixture
def demanding(authority: AuthorizationServer) -> Iterator[None]:
    """The server demands DPoP."""
    authority.context.provider_info["dpop_signing_alg_values_supported"] = ["ES256", "EdDSA"]
    authority.endpoints["token"].post_parse_request.append(token_post_parse_request)
    yield
    authority.endpoints["token"].post_parse_request.remove(token_post_parse_request)
    del authority.context.provider_info["dpop_signing_alg_values_supported"]


@pytest.mark.parametrize("dpop", [True, "ES256"])
def test_dpop_proofs_are_accepted(authority: AuthorizationServer, open_with: Any, demanding: None, dpop: Any) -> None:
    """The server verifies the proof with the key of the task and issues a token of type DPoP."""
    with task_of(open_with(dpop=dpop)) as task:
        token = task.token(audience=API, scope="profile")
        assert token.token_type == "DPoP"
        headers = token.headers("GET", f"{API}/invoices?id=42")
    assert headers["Authorization"].startswith("DPoP ")
    assert headers["DPoP"] != authority.seen[0]["header:dpop"]


@pytest.mark.parametrize(
    ("options", "wanted", "reason"),
    [
        ({"client_secret": "wrong"}, {}, "invalid_client"),
        ({}, {"audience": "https://other.example.com"}, "invalid_target"),
        ({}, {"resource": "https://other.example.com"}, "invalid_target"),
        ({"subject_token": lambda grant: "no-token"}, {}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:saml2"}, {}, "invalid_request"),
        ({"dpop": True}, {}, None),
    ],
)
def test_a_refusal_of_the_server_is_told_by_its_code(
    open_with: Any, options: dict[str, Any], wanted: dict[str, str], reason: str | None
) -> None:
    """What the server refuses raises an error with the code of OAuth; one that binds no token does as well."""
    given = {"audience": API, "scope": "profile", **wanted}
    with task_of(open_with(**options), Scope("token_exchange")) as task, pytest.raises(ExchangeError) as caught:
        task.token(**given)
    assert caught.value.reason == reason
    assert caught.value.code == ("exchange_refused" if reason else "exchange_malformed")
    assert PASSWORD not in str(caught.value)
