"""Entry point of the command line: one parser, one function for each command, stable exit codes."""

import contextlib
import io
import os
import signal
import sys
import threading
from argparse import Namespace
from collections.abc import Generator, Mapping, Sequence
from typing import Final, Never

from agent_identity.cli.answer.commands import ANSWER
from agent_identity.cli.control.commands import CONTROL
from agent_identity.cli.look.commands import LOOK
from agent_identity.cli.operate.commands import OPERATE
from agent_identity.cli.terminal.command import Command, loaded
from agent_identity.cli.terminal.parsing import chosen
from agent_identity.cli.terminal.style import clean
from agent_identity.cli.trust.commands import TRUST
from agent_identity.cli.verify.commands import VERIFY
from agent_identity.errors import AgentIdentityError, PolicyFormatError
from agent_identity.version import VERSION

GROUPS: Final[Mapping[str, Sequence[Command]]] = {
    "Look": LOOK,
    "Answer": ANSWER,
    "Verify": VERIFY,
    "Control": CONTROL,
    "Operate": OPERATE,
    "Trust": TRUST,
}
"""All commands, under the headings of ``--help``."""

_NOT_DONE: Final = 2
"""Exit code of a command that could not be done; of a verification: cannot tell."""

_INTERRUPTED: Final = 130
"""Exit code that shells use for Ctrl-C."""

_TERMINATED: Final = 143
"""Exit code that shells use for SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The words after the program's name; by default those of the process.

    Raises:
        SystemExit: The words make no command (2), or ask for help or the version (0).
    """
    _prepare_streams()
    options = chosen(GROUPS, sys.argv[1:] if arguments is None else arguments)
    with _orderly_end():
        code, complaint = _run(options)
    if complaint is not None:
        _flush_or_discard()
    if complaint:
        with contextlib.suppress(OSError):
            print(f"agent-identity: {complaint}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _orderly_end() -> Generator[None]:
    """Let SIGTERM end the block as an exception does, which removes its temporary copies.

    A handler that is already set stays.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end(_number: int, _frame: object) -> Never:
    sys.exit(_TERMINATED)


def _run(options: Namespace) -> tuple[int, str | None]:
    """Import and run the command; return its exit code, and the error message if it failed."""
    try:
        code = loaded(options.work)(options)
        sys.stdout.flush()
    except AgentIdentityError as error:
        return _NOT_DONE, _described(error)
    except BrokenPipeError:
        return _NOT_DONE, ""  # The reader (head, less) has closed the pipe.
    except OSError as error:
        return _NOT_DONE, clean(_refused(error))
    except KeyboardInterrupt:
        return _INTERRUPTED, ""
    except Exception as error:  # noqa: BLE001 - Uncaught it would exit with 1, which says that evidence was tampered with.
        return _NOT_DONE, f"a defect of agent-identity {VERSION}, please report it: {clean(_place(error))}"
    return code, None


def _described(error: AgentIdentityError) -> str:
    """Return the message of an error for a terminal: each mistake of a policy file on a line of its own."""
    lines = str(error).split("\n") if isinstance(error, PolicyFormatError) else [str(error)]
    return "\n".join(map(clean, lines))


def _refused(error: OSError) -> str:
    """Return the message for an error of the operating system, with the cure where it is known."""
    where = f" at {error.filename!r}" if error.filename else ""
    if isinstance(error, FileExistsError):
        return f"a file{where} exists already and is never replaced; name another one"
    if isinstance(error, FileNotFoundError):
        return f"there is no file{where}; check the path"
    return f"the operating system refused access{where} ({error.strerror}); check path and permissions"


def _place(error: BaseException) -> str:
    """Return class and place of an error, without its text, which may quote evidence."""
    import traceback
    from pathlib import Path

    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _prepare_streams() -> None:
    """Let the standard streams take every character; replace a closed one by the null device."""
    for name in ("stdout", "stderr"):
        stream: object = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  As long as the process.
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush_or_discard() -> None:
    """Flush the buffered output, or discard it where that fails, lest the interpreter report it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            out = sys.stdout.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, out)
            os.close(nowhere)
