"""DPoP against a strict server on loopback: oidc-provider for Node, which demands nonces and refuses replays.

Skipped where it is not installed; ``npm install oidc-provider@9`` in any folder, and name the folder in
``AGENT_IDENTITY_OIDC_PROVIDER``.
"""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.errors import ExchangeError
from agent_identity.tokens import DownstreamToken, TokenExchange

PASSWORD = "correct horse: battery/staple"
NODE, FOLDER = shutil.which("node"), os.environ.get("AGENT_IDENTITY_OIDC_PROVIDER", "")
API = "https://api.example.com"
OPEN = Scope("token_exchange", audience=API)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Return the URL of the server."""
    if NODE is None or not (Path(FOLDER) / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("oidc-provider is not installed; see the first lines of this file")
    script = Path(__file__).with_name("oidc_provider.mjs")
    with subprocess.Popen(
        [NODE, str(script), FOLDER, PASSWORD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        while line and not line.startswith("http"):
            line = process.stdout.readline()
        yield line.strip()
        process.terminate()


@pytest.fixture
def open_with(server: str, tmp_path: Path) -> Iterator[Any]:
    """Opens an enforcer whose tokens come from the server, for a user who has logged in."""
    opened: list[Enforcer] = []
    with urllib.request.urlopen(f"{server}/login") as answer:  # noqa: S310  Loopback.
        inbound = answer.read().decode()

    def open_one(**options: Any) -> Enforcer:
        given = {"subject_token": lambda grant: inbound, "revocation_endpoint": f"{server}/token/revocation", **options}
        source = TokenExchange(f"{server}/token", "agents", client_secret=PASSWORD, **given)
        opened.append(Enforcer.open(tmp_path / str(len(opened)), tokens=source))
        return opened[-1]

    yield open_one
    for enforcer in opened:
        enforcer.close()


def task_of(enforcer: Enforcer) -> Any:
    """Return a task of the user and the clerk."""
    return enforcer.task(
        "pay INV-42",
        principal=Human("diana"),
        agent=Agent("invoice-clerk", owner="finance@example.com"),
        scope=OPEN,
    )


def call(url: str, headers: dict[str, str]) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body of a request to the API of the server."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:  # noqa: S310  Loopback.
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, None


def get(token: DownstreamToken, url: str) -> tuple[int, Any, dict[str, str]]:
    """Call the API as the documentation says: once more with the nonce, if one is wanted."""
    headers = token.headers("GET", url)
    status, answered, body = call(url, headers)
    if status == 401 and "use_dpop_nonce" in answered["www-authenticate"]:
        headers = token.headers("GET", url, nonce=answered["dpop-nonce"])
        status, _, body = call(url, headers)
    return status, body, headers


@pytest.mark.parametrize("dpop", [True, "ES256"])
def test_a_bound_token_works_with_its_proofs_only(server: str, open_with: Any, dpop: Any) -> None:
    """Exchanged with the nonce of the server, used with a proof each time; replayed, alone or misused it is refused."""
    url = f"{server}/me"
    with task_of(open_with(dpop=dpop)) as task:
        token = task.token(audience=API)
        assert token.token_type == "DPoP"
        status, body, headers = get(token, url)
        assert (status, body) == (200, {"sub": "diana"})
        assert get(token, f"{url}?query=1")[0] == 200
        assert call(url, headers)[0] == 401  # The same proof again.
        assert call(url, {"Authorization": headers["Authorization"]})[0] >= 400  # No proof.
        assert call(url, {"Authorization": headers["Authorization"].replace("DPoP", "Bearer")})[0] == 401
        other = token.headers("GET", f"{server}/other")
        assert call(url, other)[0] == 401  # A proof for another request.
        value = token.value
        kept = token.headers("GET", url)
    assert call(url, kept)[0] == 401
    assert call(url, {"Authorization": f"Bearer {value}"})[0] == 401


def test_a_proof_of_another_task_is_refused(server: str, open_with: Any) -> None:
    """A token is useless with the key of another task of the same agent."""
    enforcer, url = open_with(dpop=True), f"{server}/me"
    with task_of(enforcer) as task:
        first = task.token(audience=API)
        with task_of(enforcer) as other:
            second = other.token(audience=API)
            assert get(second, url)[0] == 200
            mixed = {**second.headers("GET", url), "Authorization": first.headers("GET", url)["Authorization"]}
            assert call(url, mixed)[0] == 401


def test_a_bearer_token_is_revoked_with_its_task(server: str, open_with: Any) -> None:
    """Without DPoP the token is anybody's until the task ends, and then nobody's."""
    url = f"{server}/me"
    with task_of(open_with()) as task:
        headers = task.token(audience=API).headers("GET", url)
        assert call(url, headers)[0] == 200
    assert call(url, headers)[0] == 401


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"subject_token": lambda grant: "none"}, "invalid_grant"), ({"requested_token_type": "x"}, "invalid_request")],
)
def test_a_refusal_is_told_by_its_code(open_with: Any, options: dict[str, Any], reason: str) -> None:
    """What the server refuses has its code of OAuth."""
    with task_of(open_with(**options)) as task, pytest.raises(ExchangeError) as caught:
        task.token(audience=API)
    assert (caught.value.code, caught.value.reason) == ("exchange_refused", reason)
