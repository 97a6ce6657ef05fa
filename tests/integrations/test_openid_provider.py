"""Humans who log in at a real OpenID provider, over its discovery, its key set and its code flow."""

import hashlib
import importlib.util
import json
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, Request, build_opener

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from agent_identity import Agent, Effect, Enforcer, Human, Rule, RuleSet, Scope, Verifier
from agent_identity._identity.common.encoding import b64url_decode, b64url_encode
from agent_identity._ledger.reader import open_ledger
from agent_identity.errors import PolicyBlocked, TokenError
from agent_identity.identity import JwksSource

PROGRAM = Path(__file__).with_name("openid_provider.py")
ROLES = ("realm_access", "roles")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("oauth2_provider") is None,
    reason="django-oauth-toolkit is not installed; it is in the dependency group test",
)


def _program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("openid_provider", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


provider = _program()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Provider:
    """The provider in a process of its own; it can be stopped and started again with another key."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, _free_port()
        self.issuer = f"http://127.0.0.1:{self.port}/o"
        self._keys = 0
        self._process: subprocess.Popen[str] | None = None

    def rotate(self) -> None:
        """Sign with a new key from the next start on; the old one stays published."""
        path = self.folder / "key.pem"
        if path.exists():
            path.rename(self.folder / f"old-{self._keys}.pem")
        self._keys += 1
        key = rsa.generate_private_key(65537, 2048)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def start(self) -> None:
        """Serve; returns when it does."""
        command = [sys.executable, "-W", "ignore", str(PROGRAM), str(self.folder), str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("http://"), line + self._process.stdout.read()

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    started = Provider(tmp_path_factory.mktemp("provider"))
    started.rotate()
    started.start()
    yield started
    started.stop()


class _StopAtClient(HTTPRedirectHandler):
    """Follows the provider's redirects but not the one back to the client, whose address it keeps."""

    back: str | None = None

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        if newurl.startswith(provider.RETURN):
            self.back = newurl
            there = urlsplit(req.full_url)._replace(path="/o/.well-known/jwks.json", query="")
            return Request(there.geturl())  # noqa: S310  Somewhere that answers, since nobody listens there.
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def log_in(issuer: str, *, nonce: str, client: str | None = None) -> dict[str, Any]:
    """Be browser and client: authorization request with PKCE, login form, code, tokens (OpenID Connect Core §3.1)."""
    stop = _StopAtClient()
    browser = build_opener(HTTPCookieProcessor(CookieJar()), stop)
    with browser.open(f"{issuer}/.well-known/openid-configuration") as response:
        metadata = json.load(response)
    verifier = secrets.token_urlsafe(48)
    asked = {
        "response_type": "code",
        "client_id": client or provider.CLIENT,
        "redirect_uri": provider.RETURN,
        "scope": "openid",
        "state": "s",
        "nonce": nonce,
        "code_challenge": b64url_encode(hashlib.sha256(verifier.encode()).digest()),
        "code_challenge_method": "S256",
    }
    with browser.open(f"{metadata['authorization_endpoint']}?{urlencode(asked)}") as response:
        form, address = response.read().decode(), response.url
    fields = dict(re.findall(r'name="(csrfmiddlewaretoken|next)" value="([^"]*)"', form))
    fields = {name: value.replace("&amp;", "&") for name, value in fields.items()}
    fields |= {"username": provider.USER, "password": provider.PASSWORD}
    browser.open(address, data=urlencode(fields).encode()).close()
    assert stop.back is not None
    answer = {name: values[0] for name, values in parse_qs(urlsplit(stop.back).query).items()}
    assert answer["state"] == "s"
    redeemed = {
        "grant_type": "authorization_code",
        "code": answer["code"],
        "redirect_uri": provider.RETURN,
        "client_id": asked["client_id"],
        "client_secret": provider.CLIENT_SECRET,
        "code_verifier": verifier,
    }
    with browser.open(metadata["token_endpoint"], data=urlencode(redeemed).encode()) as response:
        return dict(json.load(response))


def human(token: str, source: JwksSource, running: Provider, **expected: Any) -> Human:
    """Verify as the client would."""
    given = {"issuer": running.issuer, "audience": provider.CLIENT, "roles_claim": ROLES, **expected}
    return Human.from_id_token(token, jwks=source, **given)


def refused(make: Callable[[], object]) -> str:
    """Return the code with which nothing comes out."""
    with pytest.raises(TokenError) as caught:
        make()
    return caught.value.code


def test_a_login_is_a_verified_human_up_to_the_evidence(running: Provider, tmp_path: Path) -> None:
    """Who logged in stands in the records as verified by the provider, policy lets only such act, and all verifies."""
    source = JwksSource.discover(running.issuer)
    token = log_in(running.issuer, nonce="n-1")["id_token"]
    alice = human(token, source, running, nonce="n-1", max_age=60)
    assert (alice.id, alice.issuer, alice.roles, alice.provenance) == ("1", running.issuer, ("payer",), "verified")
    policy = RuleSet(Rule(Effect.BLOCK, when={"principal.provenance": "asserted"}, reason="log in first"))
    clerk = Agent("invoice-clerk", owner="finance@example.com")
    ran = []
    with Enforcer.open(tmp_path / "evidence", policy=policy) as enforcer:

        @enforcer.tool
        def pay(invoice_id: str) -> None:
            ran.append(invoice_id)

        with enforcer.task("pay", principal=alice, agent=clerk, scope=Scope("pay")):
            pay("INV-1")
        with (
            enforcer.task("pay", principal=Human(alice.id, issuer=alice.issuer), agent=clerk, scope=Scope("pay")),
            pytest.raises(PolicyBlocked),
        ):
            pay("INV-2")
    assert ran == ["INV-1"]
    reader = open_ledger(tmp_path / "evidence")
    lines = [line.record for stream in reader.streams() for line in reader.entries(stream)]
    outcomes = [record for line in lines if line and (record := json.loads(line))["kind"] == "outcome"]
    assert [(one["outcome"], one["principal"]["provenance"]) for one in outcomes] == [
        ("success", "verified"),
        ("denied", "asserted"),
    ]
    assert {one["principal"]["issuer"] for one in outcomes} == {running.issuer}
    assert Verifier(tmp_path / "evidence" / "trust.json").ledger(tmp_path / "evidence").verdict == "verified"


def test_what_the_provider_says_is_compared(running: Provider) -> None:
    """Nonce, audience, issuer, party and time of a real token count."""
    source = JwksSource.discover(running.issuer)
    token = log_in(running.issuer, nonce="n-2")["id_token"]
    human(token, source, running, nonce="n-2")
    now = int(time.time())
    for expected, code in (
        ({"nonce": "n-1"}, "wrong_nonce"),
        ({"audience": "other"}, "wrong_audience"),
        ({"issuer": running.issuer + "/"}, "wrong_issuer"),
        ({"authorized_party": "other"}, "wrong_party"),
        ({"now": now + 10 * 86_400}, "expired"),
        ({"now": now - 3600}, "not_yet_valid"),
        ({"now": now + 600, "max_age": 60}, "login_too_old"),
    ):
        assert refused(lambda expected=expected: human(token, source, running, **expected)) == code  # type: ignore[misc]
    head, payload, signature = token.split(".")
    assert refused(lambda: human(f"{head}.{payload}.{'A' * len(signature)}", source, running)) == "bad_signature"
    assert (
        refused(lambda: human(log_in(running.issuer, nonce="n")["access_token"], source, running)) == "malformed_token"
    )


def test_ac_13_a_token_under_a_shared_key_is_refused(running: Provider) -> None:
    """The provider signs for one client by HMAC; whoever knows that key could be anybody, so it proves nobody."""
    source = JwksSource.discover(running.issuer)
    token = log_in(running.issuer, nonce="n", client=provider.SHARED)["id_token"]
    assert refused(lambda: human(token, source, running, audience=provider.SHARED)) == "algorithm_not_allowed"


def test_the_provider_changes_its_key(running: Provider) -> None:
    """Tokens under the new key are accepted as soon as the source may ask again, and those under the old one still."""
    source = JwksSource.discover(running.issuer, retry_after=1)
    old = log_in(running.issuer, nonce="n")["id_token"]
    asked = time.monotonic()
    human(old, source, running)
    running.stop()
    running.rotate()
    running.start()
    new = log_in(running.issuer, nonce="n")["id_token"]
    kids = [json.loads(b64url_decode(token.split(".")[0]))["kid"] for token in (old, new)]
    assert kids[0] != kids[1]
    while time.monotonic() - asked < 1.1:  # Usually the provider needs longer than that to start.
        human(old, source, running)
    for token in (new, old):
        assert human(token, source, running).id == "1"
    running.stop()
    assert human(new, source, running).provenance == "verified"
    assert refused(lambda: human(new, JwksSource(source.url, timeout=1), running)) == "keys_unavailable"
    running.start()
