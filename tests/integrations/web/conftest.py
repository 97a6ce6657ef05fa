"""An application's enforcer, and callers with tokens."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from joserfc import jwt
from web_service import ISSUER, KEY, Service, Token

from agent_identity import Verifier


@pytest.fixture
def token() -> Token:
    """Return a maker of the headers of a request, with the claims of its token."""

    def headers(subject: str = "alice", **claims: object) -> dict[str, str]:
        now = int(time.time())
        facts = {"sub": subject, "iss": ISSUER, "aud": "api", "iat": now, "exp": now + 300, **claims}
        return {"Authorization": f"Bearer {jwt.encode({'alg': 'ES256', 'kid': 'k'}, facts, KEY)}"}

    return headers


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Return an application whose evidence verifies at the end, with all of its streams complete."""
    found = Service(tmp_path / "evidence")
    yield found
    found.enforcer.close()
    report = Verifier(found.folder / "trust.json").ledger(found.folder)
    assert (report.verdict, report.findings) == ("verified", ())
