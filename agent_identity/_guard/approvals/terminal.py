"""Approval in the terminal of the program."""

import contextlib
import os
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Final, TextIO, final

from agent_identity import canonical
from agent_identity._common.printing import escaped
from agent_identity._common.typed_calls import typed
from agent_identity._guard.calls.approval_request import Answer, ApprovalRequest
from agent_identity._identity.principals.principals import Human
from agent_identity.canonical import JSON
from agent_identity.errors import ConfigurationError

_TERMINAL: Final = Path("/dev/tty")
_MAX_SHOWN: Final = 10_000


@final
class _Turn:
    """The turn to ask: one thread has it at a time; in a forked child it is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Release the turn: it belongs to a thread of the parent."""
        self._lock = threading.Lock()


_TURN: Final = _Turn()
if hasattr(os, "register_at_fork"):  # pragma: no branch  Absent on Windows, where nothing forks.
    os.register_at_fork(after_in_child=_TURN.renew)


@typed
def ask_in_the_terminal(
    by: Human, *, streams: tuple[TextIO, TextIO] | None = None
) -> Callable[[ApprovalRequest], Answer]:
    """Return an ``ask`` that shows tool and arguments in the terminal and takes a yes as approval.

    It uses the terminal of the process, not its standard input, which may be a pipe that an agent fills. All threads of
    a process ask one question at a time. Keys pressed before the question is shown do not count,
    and a yes repeats the short digest of the request, ``y 3fa9``, so that it answers no other question.

    Args:
        by: The person at the terminal; the program vouches for them.
        streams: Streams for answers and questions; by default the terminal of the process.
    """

    def ask(request: ApprovalRequest) -> Answer:
        with _terminal(streams) as (source, target):
            wanted = request.short_digest
            question = f"{shown(request)}\napprove request {wanted} as {by.id}? [y {wanted}/N] "
            _discard_typed(source)
            target.write(question)
            target.flush()
            answer = source.readline().split()
        if [word.lower() for word in answer] in (["y", wanted], ["yes", wanted]):
            return request.approve(by=by)
        return request.reject(by=by)

    setattr(ask, "channel", "terminal")  # noqa: B010  The name of the channel in records.
    return ask


@contextlib.contextmanager
def _terminal(streams: tuple[TextIO, TextIO] | None) -> Generator[tuple[TextIO, TextIO]]:
    """Hold the terminal for one question: no other thread of this process asks meanwhile."""
    if streams is not None:
        with _TURN:
            yield streams
        return
    try:
        with (
            _TURN,
            _TERMINAL.open(encoding="utf-8", errors="replace") as source,
            _TERMINAL.open("w", encoding="utf-8", errors="backslashreplace") as target,
        ):
            yield source, target
    except OSError:
        raise ConfigurationError("the process has no terminal to ask a person; use another approval channel") from None


def _discard_typed(source: TextIO) -> None:
    """Discard keys pressed before the question is shown: they answer another one."""
    import termios  # noqa: PLC0415  Absent on Windows, where the module must still be imported.

    try:
        if source.isatty():
            termios.tcflush(source, termios.TCIFLUSH)
    except (OSError, termios.error):  # No terminal descriptor: nothing was typed.
        return


def shown(request: ApprovalRequest) -> str:
    """Format a request for a person in a terminal: nothing in it can control the terminal.

    Raises:
        ConfigurationError: The arguments are too long to review.
    """
    tool, principal, agent = map(escaped, (request.tool, request.principal.id, request.agent.id))  # Each by itself.
    lines = [f"{tool} on behalf of {principal}, by {agent}: {request.purpose}"]
    lines += [f"  {_named(name)} = {_json(value)}" for name, value in sorted(request.arguments.items())]
    if request.why:
        lines.append(f"  because {request.why}")
    text = "\n".join(map(escaped, lines))
    if len(text) > _MAX_SHOWN:
        raise ConfigurationError(
            f"the arguments have more than {_MAX_SHOWN} characters, too many to review; "
            "decide with --json, or pass a reference instead"
        )
    return text


def _named(name: str) -> str:
    """Return the name of an argument, quoted if it is no plain identifier."""
    return name if name.isidentifier() else _json(name)


def _json(value: JSON) -> str:
    return canonical.encode(value, surrogates=True).decode("utf-8", "surrogatepass")
