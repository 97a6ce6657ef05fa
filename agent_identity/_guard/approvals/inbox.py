"""Storage of pending approval requests: owner-only files in a folder, deleted once decided.

They hold arguments in clear text, because approvers must see what will run. No record holds them.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path
from typing import Final, final

from agent_identity import canonical
from agent_identity._guard.calls.approval_request import ApprovalRequest
from agent_identity._guard.tasks.task import Task
from agent_identity._identity.common.private_files import (
    create_private_file,
    hide_from_git,
    is_there,
    read_private_file,
)
from agent_identity._identity.principals.principals import Principal
from agent_identity.errors import ConfigurationError, Denied

MAX_WAITING: Final = 4_000
"""Maximum number of pending requests in one directory."""

MAX_OF_PRINCIPAL: Final = 200
"""Maximum number of pending requests of one principal."""

MAX_OF_TASK: Final = 100
"""Maximum number of pending requests of one task, so that no task takes the places of others."""

_MAX_BYTES: Final = 64 * 1024 * 1024
_REQUEST: Final = ".request"
_RULING: Final = ".ruling"


def name_of(task: Task, tool: str, args: str | None, *, call_id: str | None = None) -> str:
    """Return the storage name of a call: its task, its principal, and all that an approval is bound to.

    The grant is left out: an agent with a delegation per call repeats the call under another grant.

    Args:
        task: The task.
        tool: The name of the tool.
        args: The digest of the arguments.
        call_id: The id of a call that the framework repeats with it; it distinguishes two equal calls.
    """
    agents = [[grant.agent.id, grant.agent.owner] for grant in task.chain.grants]
    bound = [task.id, agents, tool, args, *([] if call_id is None else [call_id])]
    return "-".join(
        hashlib.sha256(canonical.encode(part)).hexdigest()[:size]
        for part, size in (([task.id], 16), (list(party_of(task.principal)), 16), (bound, 64))
    )


def party_of(principal: Principal) -> tuple[str, str, str | None]:
    """Return the members that identify a principal."""
    return principal.kind, principal.id, principal.issuer


@contextlib.contextmanager
def _explained(path: Path) -> Generator[None]:
    """Report an unreadable path as unreadable, never as empty."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"cannot read or write approval requests at {str(path)!r}: '{error.strerror}'; check its mode and owner"
        ) from None


@final
class ApprovalInbox:
    """The pending requests of one directory, each named by its call.

    Args:
        folder: The folder; created with mode 0700 for the first request.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, request: ApprovalRequest, *, now: int) -> ApprovalRequest:
        """Store a request, and return the pending one of that name: an equal one may have come first.

        Args:
            name: The name of the call; see :func:`name_of`.
            request: The request.
            now: Unix seconds; expired requests are removed.

        Raises:
            ConfigurationError: The folder cannot be written.
            Denied: Too many requests are pending (``approval_quota``).
        """
        with _explained(self._folder), contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o700)
            hide_from_git(self._folder)
        self._check_private()
        if self._is_full(name):
            self.sweep(now)
            if full := self._is_full(name):
                raise Denied(f"{request.tool}: {full} are pending; wait until some are decided", code="approval_quota")
        try:
            create_private_file(self._path(name, _REQUEST), canonical.encode(request.to_dict()))
        except ConfigurationError as error:
            if error.code != "already_exists":
                raise
            return self.find(name) or request
        return request

    def find(self, name: str) -> ApprovalRequest | None:
        """Return the pending request of that name, if any.

        Raises:
            ConfigurationError: The file is open to others, or holds no request.
        """
        data = self._read(name, _REQUEST)
        if data is None:
            return None
        try:
            return ApprovalRequest.from_dict(canonical.decode(data))
        except ValueError:
            raise ConfigurationError(f"approvals/{name}{_REQUEST} holds no approval request; remove it") from None

    def waiting(self) -> Iterator[tuple[str, ApprovalRequest]]:
        """Yield each stored request with its name, decided ones included: they wait for their call."""
        for name in self._names():
            request = self.find(name)
            if request is not None:
                yield name, request

    def undecided(self, now: int) -> tuple[ApprovalRequest, ...]:
        """Return the undecided requests at a time, in Unix seconds, oldest first."""
        waiting = [one for name, one in self.waiting() if one.expires_at > now and self.ruling(name) is None]
        return tuple(sorted(waiting, key=lambda request: (request.requested_at, request.id)))

    def decide(self, name: str, token: str) -> None:
        """Store a signed ruling beside its request.

        Raises:
            ConfigurationError: A ruling exists, or the file cannot be written.
        """
        create_private_file(self._path(name, _RULING), token.encode("ascii"))

    def ruling(self, name: str) -> str | None:
        """Return the signed ruling about a request, if any; it is not verified."""
        data = self._read(name, _RULING)
        return None if data is None else data.decode("ascii", "replace")

    def sweep(self, now: int) -> None:
        """Remove the expired requests.

        Args:
            now: Unix seconds.

        Raises:
            ConfigurationError: As for :meth:`find`.
        """
        for name, request in self.waiting():
            if request.expires_at <= now:
                self.remove(name)

    def erase(self, tasks: Collection[str], principals: Collection[str]) -> int:
        """Remove the requests of tasks and of principals, and return their number.

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
        """Remove a request and its ruling."""
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
            names = os.listdir(self._folder)  # noqa: PTH208  The names are matched.
        return [name.removesuffix(_REQUEST) for name in names if name.endswith(_REQUEST)]

    def _is_full(self, name: str) -> str | None:
        """Return the quota that a further request would exceed, if any; a pending request takes no further place."""
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
            return None  # It was decided meanwhile.

    def _path(self, name: str, suffix: str) -> Path:
        return self._folder / f"{name}{suffix}"

    def _check_private(self) -> None:
        with _explained(self._folder):
            status = self._folder.stat()
        if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(
                "the folder of approval requests is open to others or has another "
                "owner; run chmod 700 on the folder 'approvals' of the evidence directory"
            )


def requested(request: object, inbox: Callable[[], ApprovalInbox]) -> tuple[str | None, ApprovalRequest]:
    """Return a request and its name in the directory: by its id there, as it is, or as a dictionary.

    Raises:
        ConfigurationError: The directory has no such request, or the dictionary is none.
    """
    if isinstance(request, str):
        for name, waiting in inbox().waiting():
            if waiting.id == request:
                return name, waiting
        raise ConfigurationError("no pending request has this id; 'agent-identity approvals list DIR' lists them")
    if isinstance(request, ApprovalRequest):
        return None, request
    try:
        return None, ApprovalRequest.from_dict(request)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
