"""The command line: one parser, one function a command, exit codes that scripts can rely on."""

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Final, Never, cast

from agent_identity.cli.control import agents, approvals, revoke
from agent_identity.cli.look import inventory, show, tasks, who
from agent_identity.cli.operate import archive, doctor, erase, init, replay
from agent_identity.cli.terminal.style import clean
from agent_identity.cli.trust import anchor, keys, signer, witness
from agent_identity.cli.verify import bundle, disclose, export, proof, verify
from agent_identity.errors import AgentIdentityError
from agent_identity.version import VERSION

__all__ = ["main"]

NOT_DONE: Final = 2
"""The exit code of what could not be done; of a verification: cannot tell."""

INTERRUPTED: Final = 130
"""The exit code that shells give to what Ctrl-C ended."""

TERMINATED: Final = 143
"""The exit code that shells give to what SIGTERM ended."""

_EPILOG: Final = """\
exit codes of verify, check-proof, check-disclosure:
  0 verified · 1 contradicted or tampered · 2 cannot tell · 3 verified but incomplete
other commands: 0 done · 1 something needs attention · 2 could not be done
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints cannot steer a terminal."""

    def error(self, message: str) -> Never:
        super().error(clean(message))


def parser() -> argparse.ArgumentParser:
    """Return the parser with every command."""
    root = _Parser(
        prog="agent-identity",
        description="Who did what on whose behalf, and the proof of it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"agent-identity {VERSION}")
    commands = root.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (
        verify,
        proof,
        disclose,
        show,
        export,
        bundle,
        archive,
        tasks,
        replay,
        revoke,
        erase,
        who,
        approvals,
        witness,
        anchor,
        init,
        keys,
        signer,
        agents,
        inventory,
        doctor,
    ):
        command.register(commands)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        arguments: The words after the program's name; by default those of the process.

    Raises:
        SystemExit: The words make no command (2), or ask for help or the version (0).
    """
    _prepare_streams()
    chosen = parser().parse_args(arguments)
    command = cast("Callable[[argparse.Namespace], int]", chosen.run)
    with _orderly_end():
        code, complaint = _run(command, chosen)
    if complaint is not None:
        _flush_or_discard()
    if complaint:
        with contextlib.suppress(OSError):
            print(f"agent-identity: {clean(complaint)}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _orderly_end() -> Generator[None]:
    """Have SIGTERM end the block as an exception does, which removes the copies that it made.

    Where somebody else decided what SIGTERM does, that stays.
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
    sys.exit(TERMINATED)


def _run(command: Callable[[argparse.Namespace], int], chosen: argparse.Namespace) -> tuple[int, str | None]:
    """Return the exit code, and the complaint of a command that could not be done."""
    try:
        code = command(chosen)
        sys.stdout.flush()
    except AgentIdentityError as error:
        return NOT_DONE, str(error)
    except BrokenPipeError:
        return NOT_DONE, ""  # The reader (head, less) has seen enough.
    except OSError as error:
        where = f" at {error.filename!r}" if error.filename else ""
        return NOT_DONE, f"expected to read and write what was named, got '{error.strerror}'{where}"
    except KeyboardInterrupt:
        return INTERRUPTED, ""
    except Exception as error:  # noqa: BLE001 - Uncaught it would exit with 1, which says that evidence was tampered with.
        return NOT_DONE, f"a defect of agent-identity {VERSION}, please report it: {_place(error)}"
    return code, None


def _place(error: BaseException) -> str:
    """Return class and place of an error; its text may quote evidence."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"


def _prepare_streams() -> None:
    """Have streams that take every character; a closed one takes all and keeps nothing."""
    for name in ("stdout", "stderr"):
        stream = cast("object", getattr(sys, name))
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  As long as the process.
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _flush_or_discard() -> None:
    """Print what is still buffered; what cannot be printed goes nowhere, lest the interpreter complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError):
            out = sys.stdout.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, out)
            os.close(nowhere)
