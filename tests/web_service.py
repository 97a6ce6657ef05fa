"""A provider whose tokens the applications accept, and an application's enforcer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from joserfc.jwk import ECKey

from agent_identity import Agent, Enforcer, Human, Scope
from agent_identity.integrations.http.bearer import BearerTasks
from agent_identity.records import Outcome, read

ISSUER = "https://login.example"
KEY = ECKey.generate_key("P-256", {"kid": "k", "use": "sig"})
Token = Callable[..., dict[str, str]]


class Service:
    """An application with one guarded tool, of which callers may read one path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.enforcer = Enforcer.open(folder)
        verify = partial(
            Human.from_id_token,
            jwks={"keys": [KEY.as_dict(private=False)]},
            issuer=ISSUER,
            audience="api",
        )
        self.tasks = BearerTasks(
            self.enforcer,
            verify=verify,
            agent=Agent("clerk", owner="finance@example.com"),
            scope=Scope("fetch", path="a"),
            purpose="serve a request",
        )

        @self.enforcer.tool
        def fetch(path: str) -> str:
            return f"{path} of {self.enforcer.current_task.principal.id}"

        self.fetch = fetch

    def refusals(self) -> list[tuple[str, str]]:
        """Return id and code of each recorded refusal."""
        return [(r.id, str(r.error)) for r in read(self.folder) if isinstance(r, Outcome) and r.outcome == "denied"]
