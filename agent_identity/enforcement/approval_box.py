"""Where requests wait for a person: files of a folder that only its owner can read, gone when they are decided.

They hold arguments in clear, because whoever approves has to see what will run. No record holds them.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Generator, Iterator
from pathlib import Path
from typing import Final, final

from agent_identity import canonical
from agent_identity.enforcement.approval import ApprovalRequest
from agent_identity.enforcement.task import Task
from agent_identity.errors import ConfigurationError, Denied
from agent_identity.identity import Principal, create_private_file, hide_from_git, is_there, read_private_file

__all__ = ["MAX_OF_PRINCIPAL", "MAX_OF_TASK", "MAX_WAITING", "ApprovalBox", "name_of", "party_of"]

MAX_WAITING: Final = 4_000
"""Requests that can wait in one directory at a time."""

MAX_OF_PRINCIPAL: Final = 200
"""Requests of one principal that can wait at a time."""

MAX_OF_TASK: Final = 100
"""Requests of one task that can wait at a time, so that no task takes the places of others."""

_MAX_BYTES: Final = 64 * 1024 * 1024
_REQUEST: Final = ".request"
_RULING: Final = ".ruling"


def name_of(task: Task, tool: str, args: str | None) -> str:
    """Return the name of a call among those that wait: its task, its principal, and all that an approval is bound to.

    Not the grant: an agent to which each call is delegated by itself makes the same call again under another one.
    """
    agents = [[grant.agent.id, grant.agent.owner] for grant in task.chain.grants]
    bound = [task.id, agents, tool, args]
    return "-".join(
        hashlib.sha256(canonical.encode(part)).hexdigest()[:size]
        for part, size in (([task.id], 16), (list(party_of(task.principal)), 16), (bound, 64))
    )


def party_of(principal: Principal) -> tuple[str, str, str | None]:
    """Return the members that name a principal."""
    return principal.kind, principal.id, principal.issuer


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None]:
    """Say of what may not be read that it is there and closed, never that nothing waits."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"expected requests for approvals that can be read and written at {str(path)!r}, got '{error.strerror}'; "
            "check its mode and owner"
        ) from None


@final
class ApprovalBox:
    """The requests that wait in one directory, each under a name that says which call it is about.

    Args:
        folder: The folder; made with mode 0700 when the first request comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, request: ApprovalRequest, *, now: int) -> ApprovalRequest:
        """Keep a request, and return the one that waits under the name now: an equal one may have come first.

        Args:
            name: Which call it is about; see :func:`name_of`.
            request: The request.
            now: Unix seconds; expired requests make room.

        Raises:
            ConfigurationError: The folder cannot be written.
            Denied: Too many requests wait (``approval_quota``).
        """
        with _explained(self._folder), contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
            hide_from_git(self._folder)
        self._check_private()
        if self._is_full(name):
            self.sweep(now)
            if full := self._is_full(name):
                raise Denied(f"{request.tool}: {full} wait already; wait until some are decided", code="approval_quota")
        try:
            create_private_file(self._path(name, _REQUEST), canonical.encode(request.to_dict()))
        except ConfigurationError as error:
            if error.code != "already_exists":
                raise
            return self.find(name) or request
        return request

    def find(self, name: str) -> ApprovalRequest | None:
        """Return the request that waits under a name, if there is one.

        Raises:
            ConfigurationError: The file is open to others, or is no request.
        """
        data = self._read(name, _REQUEST)
        if data is None:
            return None
        try:
            return ApprovalRequest.from_dict(canonical.decode(data))
        except ValueError:
            raise ConfigurationError(
                f"expected a request for an approval in approvals/{name}{_REQUEST}, got something else; remove it"
            ) from None

    def waiting(self) -> Iterator[tuple[str, ApprovalRequest]]:
        """Yield each request with its name; those that are decided still wait for their call."""
        for name in self._names():
            request = self.find(name)
            if request is not None:
                yield name, request

    def undecided(self, now: int) -> tuple[ApprovalRequest, ...]:
        """Return the requests that wait for a person at a time, in Unix seconds, oldest first."""
        waiting = [one for name, one in self.waiting() if one.expires_at > now and self.ruling(name) is None]
        return tuple(sorted(waiting, key=lambda request: (request.requested_at, request.id)))

    def decide(self, name: str, token: str) -> None:
        """Put a signed ruling beside its request.

        Raises:
            ConfigurationError: There is one already, or it cannot be written.
        """
        create_private_file(self._path(name, _RULING), token.encode("ascii"))

    def ruling(self, name: str) -> str | None:
        """Return the signed ruling about a request, if there is one; nothing in it is verified."""
        data = self._read(name, _RULING)
        return None if data is None else data.decode("ascii", "replace")

    def sweep(self, now: int) -> None:
        """Remove the requests that have expired.

        Args:
            now: Unix seconds.

        Raises:
            ConfigurationError: As for :meth:`find`.
        """
        for name, request in self.waiting():
            if request.expires_at <= now:
                self.remove(name)

    def erase(self, tasks: Collection[str], principals: Collection[str]) -> int:
        """Remove the requests of tasks and of principals, and return how many there were.

        Raises:
            ConfigurationError: As for :meth:`find`; the others were removed.
        """
        removed, unread = 0, None
        for name in self._names():
            try:
                request = self.find(name)
            except ConfigurationError as error:
                unread = error
                continue
            if request is not None and (request.task in tasks or request.principal.id in principals):
                self.remove(name)
                removed += 1
        if unread is not None:
            raise unread
        return removed

    def remove(self, name: str) -> None:
        """Remove a request and what was said to it."""
        for suffix in (_REQUEST, _RULING):
            with contextlib.suppress(FileNotFoundError):
                self._path(name, suffix).unlink()

    def _names(self) -> list[str]:
        with _explained(self._folder):
            there = is_there(self._folder)
        if not there:
            return []
        self._check_private()
        return sorted(self._kept())

    def _kept(self) -> list[str]:
        with _explained(self._folder):
            names = os.listdir(self._folder)  # noqa: PTH208  Names are what is matched.
        return [name.removesuffix(_REQUEST) for name in names if name.endswith(_REQUEST)]

    def _is_full(self, name: str) -> str | None:
        """Say which quota a further request would exceed, if any; one that waits already takes no further place."""
        names = self._kept()
        if name in names:
            return None
        task, _, rest = name.partition("-")
        principal = f"-{rest.partition('-')[0]}-"
        if sum(other.startswith(f"{task}-") for other in names) >= MAX_OF_TASK:
            return f"{MAX_OF_TASK} requests for approval of this task"
        if sum(principal in other for other in names) >= MAX_OF_PRINCIPAL:
            return f"{MAX_OF_PRINCIPAL} requests for approval of this principal"
        return f"{MAX_WAITING} requests for approval" if len(names) >= MAX_WAITING else None

    def _read(self, name: str, suffix: str) -> bytes | None:
        path = self._path(name, suffix)
        with _explained(path):
            there = is_there(path)
        if not there:
            return None
        try:
            return read_private_file(path, limit=_MAX_BYTES)
        except ConfigurationError:
            if is_there(path):
                raise
            return None  # It was decided just now.

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{name}{suffix}"

    def _check_private(self) -> None:
        with _explained(self._folder):
            status = self._folder.stat()
        if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(
                "expected a folder for requests that only its owner can read, got one open to others or of another "
                "owner; run chmod 700 on the folder 'approvals' of the evidence directory"
            )
